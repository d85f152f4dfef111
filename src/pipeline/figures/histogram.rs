//! Histograms of a layer's coefficients and of its weights, with the cells of the quantizer (Young et al. 2021, eq. 5).

use super::{
    super::{Session, curve_cost, job::Item},
    Given, Making, Piece,
    part::{MOST, Part, spaced},
};
use crate::{
    error::Result,
    io::LayerShape,
    quantize::{self, ROUNDING, UNCLIPPED, least_index},
    rate::cost::Cost,
    report::{
        AllocationSettings,
        figure::{Axis, Chart, Content, Figure, Mark, Panel, Series, Shape, Which},
    },
};

/// Bins; odd, so that one is around zero.
const BINS: usize = 81;
/// Levels that are shown on each side of zero.
const LEVELS: i32 = 12;
/// Where the outermost bins begin, in standard deviations: they hold all that lies beyond.
const DEVIATIONS: f64 = 4.0;

/// The levels of a quantizer nearest to zero, and the thresholds between them: the least values, on the positive side, that become the level above.
pub(super) fn cells(step: f64, depth: u8) -> (Vec<f64>, Vec<f64>) {
    let (least, greatest) = match depth {
        0 => (0, 0),
        UNCLIPPED => (-LEVELS, LEVELS),
        _ => (least_index(depth).max(-LEVELS), (-least_index(depth) - 1).min(LEVELS)),
    };
    let levels = (least..=greatest).map(|k| f64::from(k) * step).collect();
    let threshold = |k: i32| match depth {
        // Away from zero by what rounding leaves of a half.
        UNCLIPPED if k < 0 => (f64::from(k) + f64::from(ROUNDING)) * step,
        UNCLIPPED => (f64::from(k) + 1.0 - f64::from(ROUNDING)) * step,
        _ => (f64::from(k) + 0.5) * step,
    };
    (levels, (least..greatest).map(threshold).collect())
}

/// Share of values in each bin, in per cent, over the bin's middle.
fn shares(values: impl Iterator<Item = f64>, range: f64) -> Vec<[f64; 2]> {
    let width = 2.0 * range / BINS as f64;
    let (mut counts, mut all) = ([0u64; BINS], 0u64);
    for v in values {
        counts[(((v + range) / width).max(0.0) as usize).min(BINS - 1)] += 1;
        all += 1;
    }
    let share = |(i, n): (usize, &u64)| [(i as f64 + 0.5) * width - range, 100.0 * *n as f64 / all.max(1) as f64];
    counts.iter().enumerate().map(share).collect()
}

/// Where the bins of values end, and whether values lie beyond.
fn range(values: &[f64]) -> (f64, bool) {
    let greatest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
    let deviation = (values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt();
    let range = greatest.min(DEVIATIONS * deviation);
    if range > 0.0 && range.is_finite() { (range, greatest > range * 1.000_001) } else { (1.0, false) }
}

fn axes(what: &str) -> Chart {
    Chart { x: Axis::new(what, "units of a weight"), y: Axis { at_least: Some([0.0, 1.0]), ..Axis::new("share", "%") }, ..Chart::default() }
}

/// What a layer's quantizer is: `4 bits`.
pub(super) fn depth_words(depth: u8) -> String {
    match depth {
        UNCLIPPED => "entropy-coded".into(),
        1 => "1 bit".into(),
        bits => format!("{bits} bits"),
    }
}

/// The panel of coefficients, and what the caption says of it.
fn coefficients(given: &Given, shape: &LayerShape, normalized: Vec<f32>, cost: &Cost, unit: f64) -> (Panel, String) {
    let part = Part::columns(shape, normalized, &given.candidate, MOST);
    let (raw, scales) = (part.coefficients(cost), part.scales());
    // What is quantized by one step is the coefficient over its scale.
    let scaled: Vec<f32> = raw.iter().zip(&scales).map(|(v, s)| v / s).collect();
    let width = part.candidate.geometry.width.max(1);
    let quantizer = |row: usize| given.quantizer(usize::from(part.candidate.block_of_row[row]));
    let zeros: usize = scaled
        .chunks(width)
        .enumerate()
        .map(|(row, values)| match quantizer(row) {
            Some((depth, step)) => values.iter().filter(|v| quantize::index(**v, 1.0 / step, depth) == 0).count(),
            None => values.len(),
        })
        .sum();
    let values: Vec<f64> = scaled.iter().map(|v| f64::from(*v) * unit).collect();
    let (range, beyond) = range(&values);
    let kind = given.candidate.kind;
    let transformed = given.candidate.basis.is_some();
    let what = if transformed { format!("coefficients under {}", kind.name()) } else { "weights, as they are quantized".into() };
    let scaled = match (part.columns.is_some(), part.is_scaled()) {
        (true, _) => ", over the scales of their rows and columns",
        (_, true) => ", over the scales of their rows",
        _ => "",
    };
    let mut chart = axes(if transformed { "coefficient" } else { "weight" });
    let all = if transformed { "all coefficients" } else { "all weights" };
    chart.series.push(Series::line(all, shares(values.iter().copied(), range)).drawn(Shape::Bars));
    let lost = format!("{:.1} % of the {} are quantized to zero", 100.0 * zeros as f64 / values.len().max(1) as f64, &all[4..]);
    let words = match given.strongest() {
        None => format!("At this budget nothing of the layer is stored: {lost}, and there are no cells."),
        Some((block, (depth, step))) => {
            let of_block = values.chunks(width).enumerate().filter(|(row, _)| usize::from(part.candidate.block_of_row[*row]) == block);
            if given.candidate.blocks.len() > 1 {
                let of_block = of_block.flat_map(|(_, v)| v.iter().copied());
                chart.series.push(Series::line("strongest block", shares(of_block, range)));
            }
            let step = f64::from(step) * unit;
            let (levels, thresholds) = cells(step, depth);
            let inside = |v: &f64| v.abs() <= range;
            let dots = levels.into_iter().filter(inside).map(|l| [l, 0.0]).collect();
            chart.series.push(Series::line("levels", dots).drawn(Shape::Dots));
            let name = |t: f64| if t.abs() < step { "dead zone" } else { "threshold" };
            let marks = thresholds.into_iter().filter(inside).map(|at| Mark { name: name(at).into(), standing: true, at });
            chart.marks = marks.collect();
            let cells = if given.candidate.blocks.len() > 1 { "of the strongest block" } else { "of the quantizer" };
            let coded = match (depth, part.columns.is_some()) {
                (UNCLIPPED, true) => {
                    " Errors are fed back and a trellis chooses among finer levels, so that indices differ a little from these."
                }
                (UNCLIPPED, false) => " A trellis chooses among finer levels, so that indices differ a little from these.",
                _ => "",
            };
            let words = depth_words(depth);
            format!(
                "{lost}. Dots are the levels {cells} ({words}, step {step:.3e}), dashed lines the thresholds between them; what lies in the dead zone becomes zero.{coded}"
            )
        }
    };
    let seen = if part.share < 1.0 { format!(" Of this large layer {} coefficients are looked at.", values.len()) } else { String::new() };
    let beyond = if beyond { " The outermost bars hold all that lies beyond." } else { "" };
    (Panel { name: format!("{what}{scaled}"), content: Content::Chart(chart) }, format!("{words}{beyond}{seen}"))
}

impl Session {
    pub(super) fn histogram(&self, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        let given = self.given(layer, settings)?;
        let (tensor, shape) = self.layers[layer];
        let name = self.layer_name(layer);
        let item = Item { name: name.clone(), cost: curve_cost(&shape, 0) };
        Ok(Making::of_layer(item, move || {
            let (mut weights, given, name) = (self.read(tensor)?, given.clone(), name.clone());
            let cost = self.cost(layer, self.curve_settings);
            Ok(Box::new(move || {
                let kept = spaced(weights.len(), MOST);
                let values: Vec<f64> = kept.iter().map(|&i| f64::from(weights[i])).collect();
                let range = range(&values).0;
                let mut chart = axes("weight");
                chart.series.push(Series::line("all weights", shares(values.into_iter(), range)).drawn(Shape::Bars));
                let plain = Panel { name: "weights without a transform".into(), content: Content::Chart(chart) };
                let exponent = quantize::normalize(&mut weights);
                let unit = f64::from(quantize::power_of_two(exponent.into()));
                let (mut panels, caption) = match &given {
                    Some(given) => {
                        let (panel, words) = coefficients(given, &shape, weights, &cost.normalized(exponent), unit);
                        (vec![panel], words)
                    }
                    None => (Vec::new(), "The layer is kept bit for bit: its weights pass no quantizer, and there are no cells.".into()),
                };
                panels.push(plain);
                Ok(Piece::Figure(Box::new(Figure {
                    which: Which::Histogram,
                    title: format!("Histogram of {name}"),
                    caption,
                    source: "Young et al. 2021, eq. 5".into(),
                    layer: Some(layer),
                    panels,
                })))
            }))
        }))
    }
}
