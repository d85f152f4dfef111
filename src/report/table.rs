//! Reports as CSV and as text for a terminal.

use super::{
    AllocationReport, Channels, Evaluation, EvaluationReport, LayerRow, MeasuredCurves, MeasuredPoint, Preprocessing, RdCurves, Report,
    pictures::psnr_words,
};

/// Decibels of a relative error; empty where it is not known.
fn decibels(error: f64) -> String {
    if error.is_nan() { String::new() } else { format!("{:.2}", 10.0 * error.max(1e-20).log10()) }
}

fn shape(row: &LayerRow) -> String {
    row.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

fn transform(row: &LayerRow) -> &'static str {
    row.coded_by().unwrap_or("exact")
}

/// The allocation as CSV, a line a layer.
pub fn allocation_csv(allocation: &AllocationReport) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    let header = [
        "layer",
        "shape",
        "weights",
        "transform",
        "bits_per_weight",
        "bytes",
        "basis_bytes",
        "error_db",
        "gap_bits",
        "locked",
        "excluded",
        "depths",
    ];
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
            row.gap.map(|gap| format!("{gap:.4}")).unwrap_or_default(),
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
    let gaps = allocation.gap.is_some();
    let gap = |cell: String| if gaps { format!("  {cell:>8}") } else { String::new() };
    let mut out = format!(
        "{:<name_width$}  {:<shape_width$}  {:>10}  {:<10}  {:>6}  {:>10}  {:>8}{}\n",
        "layer",
        "shape",
        "weights",
        "transform",
        "bits",
        "bytes",
        "error dB",
        gap("gap bits".into())
    );
    for row in &allocation.layers {
        out += &format!(
            "{:<name_width$}  {:<shape_width$}  {:>10}  {:<10}  {:>6.3}  {:>10}  {:>8}{}\n",
            row.name,
            shape(row),
            row.weights,
            transform(row),
            row.bits,
            row.bytes,
            if row.excluded { "exact".into() } else { decibels(row.error) },
            gap(row.gap.map(|gap| format!("{gap:.3}")).unwrap_or_default())
        );
    }
    out
}

/// What was predicted of the output's error and what was measured on the calibration images; nothing without calibration.
pub fn check_text(report: &Report) -> Option<String> {
    let (found, check) = (report.calibration.as_ref()?, report.check.as_ref()?.compressed.as_ref()?);
    let measured = check.sqnr_db.map_or("exact".into(), |sqnr| format!("{:.2} dB", -sqnr));
    Some(format!(
        "output error on {} calibration images: predicted {:.2} dB, measured {measured}; {} samples, sensitivities known to {:.0} %",
        check.images,
        report.allocation.db,
        found.samples,
        100.0 * found.sampling_error
    ))
}

/// A preprocessing in words: `resize 256, crop 224×224, RGB, × 0.003922, mean 0.5, deviation 0.5`.
pub fn preprocessing_text(p: &Preprocessing) -> String {
    let list = |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut words: Vec<String> = Vec::new();
    words.extend(p.resize.map(|side| format!("resize {side}")));
    words.extend(p.crop.map(|[h, w]| format!("crop {h}×{w}")));
    words.push(match p.channels {
        Channels::Rgb => "RGB".into(),
        Channels::Bgr => "BGR".into(),
        Channels::Grey => "grey".into(),
    });
    if p.channels_last {
        words.push("channels last".into());
    }
    words.push(if (p.scale * 255.0 - 1.0).abs() < 1e-5 { "× 1/255".into() } else { format!("× {}", p.scale) });
    words.push(format!("mean {}, deviation {}", list(&p.mean), list(&p.std)));
    words.join(", ")
}

/// A number of an evaluation: its name, and how it is written.
type Number = (&'static str, fn(&Evaluation) -> Option<String>);

fn percent(part: Option<f64>) -> Option<String> {
    part.map(|p| format!("{:.2} %", 100.0 * p))
}

const NUMBERS: [Number; 7] = [
    ("top-1", |e| percent(e.top1)),
    ("top-5", |e| percent(e.top5)),
    ("agreement", |e| percent(e.agreement)),
    ("output error", |e| e.distortion.map(|d| format!("{d:.4}"))),
    ("SQNR", |e| e.sqnr_db.map(|db| format!("{db:.2} dB"))),
    ("PSNR", |e| e.psnr().map(|db| psnr_words(db, 2))),
    ("time", |e| Some(format!("{:.1} s", e.seconds))),
];

/// An evaluation for a terminal. Layers are listed by falling damage.
pub fn evaluation_text(report: &EvaluationReport) -> String {
    let data = &report.data;
    let [h, w, c] = data.size;
    let networks: Vec<&Evaluation> = report.reference.iter().chain(&report.compressed).collect();
    let images = networks.first().map_or(0, |e| e.images);
    let labelled = if data.labelled { "with labels" } else { "without labels" };
    let mut out = format!("data: {images} of {} images, {h}×{w}×{c}, {labelled} ({}, {})\n", data.images, data.name, data.format);
    out += &format!("inputs: {} ({})\n", preprocessing_text(&report.preprocessing), report.preprocessing.origin);
    let widths: Vec<usize> = networks.iter().map(|e| e.what.chars().count().max(10)).collect();
    let mut line = |name: &str, cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        out += &format!("{name:<12}  {}\n", cells.join("  "));
    };
    line("", networks.iter().map(|e| e.what.clone()).collect());
    for (name, of) in NUMBERS {
        let cells: Vec<Option<String>> = networks.iter().map(|e| of(e)).collect();
        if cells.iter().any(Option::is_some) {
            line(name, cells.into_iter().map(Option::unwrap_or_default).collect());
        }
    }
    if !report.damage.is_empty() {
        let mut layers: Vec<&super::LayerDamage> = report.damage.iter().collect();
        layers.sort_by(|a, b| b.distortion.total_cmp(&a.distortion));
        let width = layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).clamp(5, 60);
        // What does not choose among classes has no answers.
        let decides = layers.iter().any(|l| l.changed.is_some());
        let title = if decides { format!("  {:>15}", "changed answers") } else { String::new() };
        out += &format!("{:<width$}  {:>12}  {:>8}{title}\n", "layer alone", "output error", "share");
        for l in layers {
            let changed = if decides { format!("  {:>15}", percent(l.changed).unwrap_or_default()) } else { String::new() };
            out += &format!("{:<width$}  {:>12.4}  {:>6.2} %{changed}\n", l.name, l.distortion, 100.0 * l.share);
        }
    }
    out
}

/// An evaluation as CSV: a line a network, then a line a layer that was quantized alone. Parts are from 0 to 1; the PSNR of pictures that
/// are identical is `inf`.
pub fn evaluation_csv(report: &EvaluationReport) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut write = |record: &[String]| out.write_record(record).expect("writing to memory does not fail");
    let header = ["what", "name", "images", "top1", "top5", "agreement", "distortion", "sqnr_db", "psnr_db", "share", "seconds"];
    write(&header.map(String::from));
    let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
    let networks = report.reference.iter().map(|e| ("reference", e)).chain(report.compressed.iter().map(|e| ("compressed", e)));
    for (what, e) in networks {
        let numbers = [e.top1, e.top5, e.agreement, e.distortion, e.sqnr_db, e.psnr(), None, Some(e.seconds)];
        let mut record = vec![what.into(), e.what.clone(), e.images.to_string()];
        record.extend(numbers.map(number));
        write(&record);
    }
    let images = report.reference.as_ref().map(|e| e.images.to_string()).unwrap_or_default();
    for l in &report.damage {
        let numbers = [None, None, l.changed.map(|c| 1.0 - c), Some(l.distortion), None, None, Some(l.share), None];
        let mut record = vec!["layer".into(), l.name.clone(), images.clone()];
        record.extend(numbers.map(number));
        write(&record);
    }
    String::from_utf8(out.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is a string")
}

/// Columns of measured curves for a terminal: name, width, and what stands there; those of numbers that no point has are left out.
type Column = (&'static str, usize, fn(&MeasuredPoint) -> String);

fn measured_columns(curves: &MeasuredCurves) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![
        ("transform", 9, |p| p.transform.name().into()),
        ("asked", 6, |p| p.rate_asked.to_string()),
        ("bits", 7, |p| format!("{:.4}", p.rate)),
        ("bytes", 10, |p| p.bytes.to_string()),
        ("error dB", 9, |p| p.db.map_or("exact".into(), |db| format!("{db:.2}"))),
    ];
    if curves.calibration.is_some() {
        columns.push(("predicted", 9, |p| p.predicted_db.map_or(String::new(), |db| format!("{db:.2}"))));
    }
    // Whether there are classes, and labels, is known of the full-precision network.
    if curves.reference.top1.is_some() {
        columns.push(("top-1", 9, |p| percent(p.top1).unwrap_or_default()));
    }
    if curves.reference.top5.is_some() {
        columns.push(("top-5", 9, |p| percent(p.top5).unwrap_or_default()));
    }
    if curves.pictures {
        columns.push(("PSNR", 9, |p| psnr_words(p.psnr_db.unwrap_or(f64::INFINITY), 2)));
    } else {
        columns.push(("agreement", 9, |p| percent(p.agreement).unwrap_or_default()));
    }
    columns
}

/// What measured curves are of, and the head of their table, for a terminal.
pub fn measured_head(curves: &MeasuredCurves) -> String {
    let (data, full) = (&curves.data, &curves.reference);
    let mut out = format!("data: {} of {} images ({}, {})\n", full.images, data.images, data.name, data.format);
    if let Some(top1) = percent(full.top1) {
        out += &format!("full precision: top-1 {top1}\n");
    }
    let head = measured_columns(curves).into_iter().map(|(name, width, _)| format!("{name:>width$}"));
    out + &head.collect::<Vec<_>>().join("  ") + "\n"
}

/// A line of that table.
pub fn measured_row(curves: &MeasuredCurves, point: &MeasuredPoint) -> String {
    let cells = measured_columns(curves).into_iter().map(|(_, width, of)| format!("{:>width$}", of(point)));
    cells.collect::<Vec<_>>().join("  ") + "\n"
}

/// Measured curves as CSV, a line a point, by transform and rate. Parts are from 0 to 1.
pub fn measured_csv(curves: &MeasuredCurves) -> String {
    let mut out =
        String::from("transform,bits_asked,bits_per_weight,bytes,output_distortion_db,predicted_db,top1,top5,agreement,psnr_db\n");
    let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
    let mut points: Vec<&MeasuredPoint> = curves.points.iter().collect();
    let line = |p: &MeasuredPoint| curves.settings.transforms.iter().position(|t| *t == p.transform);
    points.sort_by(|a, b| line(a).cmp(&line(b)).then(a.rate_asked.total_cmp(&b.rate_asked)));
    for p in points {
        let numbers = [p.db, p.predicted_db, p.top1, p.top5, p.agreement, p.psnr_db].map(number).join(",");
        out += &format!("{},{},{:.4},{},{numbers}\n", p.transform.name(), p.rate_asked, p.rate, p.bytes);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{TransformChoice, sweep::tests::measured};

    #[test]
    fn measured_curves_as_text_and_csv() {
        let mut curves = measured(&[TransformChoice::None, TransformChoice::Auto]);
        let csv = measured_csv(&curves);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 17);
        assert_eq!(lines[1], "none,1,0.9900,10000,-5,-5.5,0.49,0.9,0.5,17");
        assert!(lines[8].starts_with("none,6,") && lines[9].starts_with("auto,1,"), "{csv}");
        let (head, row) = (measured_head(&curves), measured_row(&curves, &curves.points[0]));
        assert!(head.starts_with("data: 600 of 600 images (digits.npz, npz)\nfull precision: top-1 99.00 %\n"), "{head}");
        assert!(head.contains("predicted") && row.contains("-33.00") && row.contains("98.77 %"), "{head}{row}");
        assert_eq!(head.lines().last().map(str::len), Some(row.trim_end_matches('\n').len()));
        curves.calibration = None;
        (curves.reference.top1, curves.reference.top5, curves.points[0].db) = (None, None, None);
        let (head, row) = (measured_head(&curves), measured_row(&curves, &curves.points[0]));
        assert!(!head.contains("predicted") && !head.contains("top-") && row.contains("exact"), "{head}{row}");
        (curves.pictures, curves.points[0].psnr_db) = (true, None);
        let rows = [0, 1].map(|point| measured_row(&curves, &curves.points[point]));
        assert!(
            measured_head(&curves).ends_with("     PSNR\n") && rows[0].ends_with("identical\n") && rows[1].ends_with(" 42.00 dB\n"),
            "{rows:?}"
        );
    }
}
