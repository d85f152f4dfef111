//! Reports as CSV and as text for a terminal.

use super::{AllocationReport, LayerRow, RdCurves, Report};

/// Decibels of a relative error; empty where it is not known.
fn decibels(error: f64) -> String {
    if error.is_nan() { String::new() } else { format!("{:.2}", 10.0 * error.max(1e-20).log10()) }
}

fn shape(row: &LayerRow) -> String {
    row.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

fn transform(row: &LayerRow) -> &'static str {
    row.transform.map_or("exact", super::TransformKind::name)
}

/// The allocation as CSV, a line a layer.
pub fn allocation_csv(allocation: &AllocationReport) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    let header =
        ["layer", "shape", "weights", "transform", "bits_per_weight", "bytes", "basis_bytes", "error_db", "locked", "excluded", "depths"];
    let mut write = |record: &[String]| out.write_record(record).expect("writing to memory does not fail");
    write(&header.map(String::from));
    for row in &allocation.layers {
        let depths = row.depths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        write(&[
            row.name.clone(),
            shape(row),
            row.weights.to_string(),
            transform(row).into(),
            format!("{:.4}", row.bits),
            row.bytes.to_string(),
            row.basis_bytes.to_string(),
            decibels(row.error),
            row.locked.map(|l| l.to_string()).unwrap_or_default(),
            row.excluded.to_string(),
            depths,
        ]);
    }
    String::from_utf8(out.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is a string")
}

/// The curves as CSV, a line a point.
pub fn curves_csv(curves: &RdCurves) -> String {
    let mut out = String::from("line,bits_per_weight,bytes,distortion_db\n");
    for line in &curves.lines {
        for p in &line.points {
            out += &format!("{},{:.4},{},{:.3}\n", line.label, p.rate, p.bytes, p.db);
        }
    }
    out
}

/// A report as CSV: its layers.
pub fn report_csv(report: &Report) -> String {
    allocation_csv(&report.allocation)
}

/// An allocation for a terminal.
pub fn allocation_text(allocation: &AllocationReport) -> String {
    let name_width = allocation.layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).clamp(5, 60);
    let shape_width = allocation.layers.iter().map(|l| shape(l).chars().count()).max().unwrap_or(0).max(5);
    let mut out = format!(
        "{:<name_width$}  {:<shape_width$}  {:>10}  {:<9}  {:>6}  {:>10}  {:>8}\n",
        "layer", "shape", "weights", "transform", "bits", "bytes", "error dB"
    );
    for row in &allocation.layers {
        out += &format!(
            "{:<name_width$}  {:<shape_width$}  {:>10}  {:<9}  {:>6.3}  {:>10}  {:>8}\n",
            row.name,
            shape(row),
            row.weights,
            transform(row),
            row.bits,
            row.bytes,
            if row.excluded { "exact".into() } else { decibels(row.error) }
        );
    }
    out
}
