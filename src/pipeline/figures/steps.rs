//! Distortion against the step at every depth (Young et al. 2021, Fig. 8): small steps clip, large ones round coarsely, and one in between is best.

use super::{
    super::{Session, curve_cost, job::Item},
    Given, Making, Piece, decibels,
    histogram::depth_words,
    part::{MOST, Part},
};
use crate::{
    error::Result,
    io::LayerShape,
    quantize::{self, Step, UNCLIPPED},
    rate::{
        cost::Cost,
        hull::Block,
        steps::{Rows, distortions},
    },
    report::{
        AllocationSettings, Measure,
        figure::{Axis, Chart, Content, Figure, Mark, Panel, Series, Shape, Which},
    },
};

/// Depths that are drawn.
const DEPTHS: [u8; 7] = [1, 2, 3, 4, 5, 6, 8];
/// Eighths of an octave that are drawn beyond the steps that clip nothing at one bit, and beyond the best of the greatest depth.
const BEYOND: u8 = 10;

/// `log₂` of a step, in units of a weight.
fn log2(step: Step, exponent: i16) -> f64 {
    f64::from(step.size()).log2() + f64::from(exponent)
}

fn axes(exponent_free: &str, y: Axis) -> Chart {
    Chart { x: Axis::new(exponent_free, "log2 of units of a weight"), y, ..Chart::default() }
}

/// The step that the allocation took, as a standing line.
fn allocated(given: &Given, block: usize, exponent: i16) -> Option<Mark> {
    let (depth, step) = given.quantizer_code(block)?;
    Some(Mark { name: format!("allocated: {}", depth_words(depth)), standing: true, at: log2(step, exponent) })
}

/// Curves of fixed depths.
fn fixed(
    given: &Given,
    block: usize,
    shape: &LayerShape,
    normalized: Vec<f32>,
    cost: &Cost,
    exponent: i16,
    unit: &str,
) -> (Vec<Panel>, f64) {
    let of = &given.candidate.blocks[block];
    let part = Part::columns(shape, normalized, &given.candidate, MOST);
    let coefficients = part.coefficients(cost);
    let depths: Vec<u8> = DEPTHS.into_iter().filter(|&d| usize::from(d) < of.coefficients.len()).collect();
    let chosen: Vec<Step> = depths.iter().map(|&d| of.coefficients[usize::from(d)].step).collect();
    let finest = chosen.iter().min().map_or(0, |s| s.0).saturating_sub(BEYOND);
    let coarsest = chosen.iter().max().map_or(u8::MAX, |s| s.0).saturating_add(3 * BEYOND);
    let steps: Vec<Step> = (finest..=coarsest).map(Step).collect();
    let quantizers: Vec<(u8, Step)> = depths.iter().flat_map(|&d| steps.iter().map(move |&s| (d, s))).collect();
    let rows = Rows { candidate: &part.candidate, block, coefficients: &coefficients, share: part.share };
    let found = distortions(rows, cost, &quantizers);
    let mut chart = axes("step", Axis::new("distortion of the block", unit));
    let mut dots = Vec::new();
    for ((depth, found), step) in depths.iter().zip(found.chunks(steps.len().max(1))).zip(&chosen) {
        let points: Vec<[f64; 2]> = steps.iter().zip(found).map(|(s, d)| [log2(*s, exponent), decibels(*d)]).collect();
        dots.extend(steps.iter().position(|s| s == step).map(|i| points[i]));
        chart.series.push(Series::line(&depth_words(*depth), points));
    }
    chart.series.push(Series::line("step that the search took", dots).drawn(Shape::Dots));
    chart.marks.extend(allocated(given, block, exponent));
    (vec![Panel::chart(chart)], part.share)
}

/// What a ladder of unclipped quantizers takes and errs.
fn unclipped(given: &Given, block: &Block, index: usize, exponent: i16, unit: &str) -> Vec<Panel> {
    let rungs: Vec<_> = block.coefficients.iter().filter(|c| c.depth == UNCLIPPED).collect();
    let taken = given.quantizer_code(index).and_then(|(_, step)| rungs.iter().find(|c| c.step == step));
    let panel = |name: &str, y: Axis, value: &dyn Fn(&quantize::search::Choice) -> f64| {
        let mut chart = axes("step", y);
        chart.series.push(Series::line("all steps", rungs.iter().map(|c| [log2(c.step, exponent), value(c)]).collect()));
        if let Some(c) = taken {
            chart.series.push(Series::line("allocated", vec![[log2(c.step, exponent), value(c)]]).drawn(Shape::Dots));
        }
        Panel { name: name.into(), content: Content::Chart(chart) }
    };
    let count = block.count.max(1) as f64;
    vec![
        panel("distortion", Axis::new("distortion of the block", unit), &|c| decibels(c.distortion)),
        panel("rate", Axis::new("rate of the block", "bits per coefficient"), &|c| c.bits as f64 / count),
    ]
}

impl Session {
    pub(super) fn steps(&self, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        let (given, excluded) = match self.given(layer, settings)? {
            Some(given) => (given, false),
            None => (self.untransformed(layer), true),
        };
        let measure = if self.statistics.is_some() { Measure::Output } else { Measure::Weights };
        let unit = match measure {
            Measure::Output => "dB of the output's power",
            Measure::Weights => "dB of the layer's energy",
        };
        let (tensor, shape) = self.layers[layer];
        let name = self.layer_name(layer);
        let item = Item { name: name.clone(), cost: curve_cost(&shape, 0) };
        Ok(Making::of_layer(item, move || {
            let (mut weights, given, name) = (self.read(tensor)?, given.clone(), name.clone());
            let cost = self.cost(layer, self.curve_settings);
            Ok(Box::new(move || {
                let exponent = quantize::normalize(&mut weights);
                let block = given.strongest().map_or(0, |(block, _)| block);
                let of = &given.candidate.blocks[block];
                let ladder = of.coefficients.iter().any(|c| c.depth == UNCLIPPED);
                let (panels, share) = if ladder {
                    (unclipped(&given, of, block, exponent, unit), 1.0)
                } else {
                    fixed(&given, block, &shape, weights, &cost.normalized(exponent), exponent, unit)
                };
                let seen = if ladder {
                    "A quantizer that does not clip: every octave of a finer step costs about one bit more and errs 6 dB less, where steps are small. At large steps \
                     nearly all is zero."
                } else {
                    "Steps too small clip large coefficients (left of each valley), steps too large round all of them coarsely (right of it); every bit more makes the valley \
                     deeper and moves it left. Dots are the steps that the search took."
                };
                let words = if excluded {
                    " The layer is kept bit for bit; these are the curves that it would have without a transform."
                } else {
                    ""
                };
                let part = if share < 1.0 { " Of this large layer some columns are looked at, evenly spaced." } else { "" };
                let kind = given.candidate.kind.name();
                let rows = match given.candidate.blocks.len() {
                    1 => "all rows".to_string(),
                    _ => "the strongest block of rows".to_string(),
                };
                let under = if given.candidate.basis.is_some() { format!("under {kind}") } else { "without a transform".into() };
                Ok(Piece::Figure(Box::new(Figure {
                    which: Which::Steps,
                    title: format!("Steps of {name}: {rows}, {under}"),
                    caption: format!("{seen}{words}{part}"),
                    source: "Young et al. 2021, Fig. 8".into(),
                    layer: Some(layer),
                    panels,
                })))
            }))
        }))
    }
}
