//! Slopes of all layers' curves (Young et al. 2021, Fig. 2 and eq. 8): what one more bit buys in each layer, and the one multiplier where all of them stop; and
//! a layer's own curve, with the tangent of that slope where its bits end.

use super::{super::Session, decibels};
use crate::{
    error::Result,
    rate::{Plan, curve::LayerCurves, hull::Vertex},
    report::{
        AllocationSettings,
        figure::{Axis, Chart, Content, Figure, Mark, Panel, Series, Shape, Which},
    },
};

/// Slopes so many decibels above or below the multiplier are not shown.
const RANGE: f64 = 40.0;
/// The layer's own curve is shown where its slopes are so near to the multiplier, in decibels: about two bits per weight to both sides.
const NEAR: f64 = 15.0;
/// The multiplier is rounded to so many decibels for that: which points are shown must not hang on its last digits.
const ROUNDED: f64 = 10.0;

/// Rates at which a curve is looked at, per bit.
///
/// Not at its vertices: two of them that nearly coincide have a slope that hangs on the last digits of their distortions, which need not be the same on another
/// processor, nor say anything.
const PER_BIT: f64 = 8.0;

/// A stretch of a curve, between two of the rates that it is looked at.
struct Step {
    /// Bits per weight before it, and after it.
    rate: [f64; 2],
    /// Distortion before it, and after it.
    distortion: [f64; 2],
    /// Distortion that a bit of it takes away.
    slope: f64,
}

/// A candidate's curve from vertex to vertex of its blocks, steepest first: bits of the layer and distortion. `besides`: bits that are none of its.
fn curve(curves: &LayerCurves, candidate: usize, besides: f64) -> Vec<[f64; 2]> {
    let coded = curves.coded(candidate);
    let of = &curves.candidates[candidate];
    let upgrade = |w: &[Vertex]| (w[1].slope, coded * w[1].bits.saturating_sub(w[0].bits) as f64, w[0].distortion - w[1].distortion);
    let mut upgrades: Vec<_> = of.blocks.iter().flat_map(|b| b.hull.windows(2).map(upgrade)).collect();
    upgrades.sort_by(|a, b| b.0.total_cmp(&a.0));
    let nothing: f64 = of.blocks.iter().filter_map(|b| b.hull.first()).map(|v| v.distortion).sum();
    let mut at = [coded * of.side_bits as f64 + besides, nothing];
    let mut points = vec![at];
    for (_, more, less) in upgrades {
        at = [at[0] + more, at[1] - less];
        points.push(at);
    }
    points
}

/// A candidate's curve between multiples of a part of a bit, its ends among those rates: the last step is up to two parts long, and none is shorter than one
/// but the first.
fn steps(curves: &LayerCurves, candidate: usize, besides: f64) -> Vec<Step> {
    let points = curve(curves, candidate, besides);
    let weights = curves.weights.max(1) as f64;
    let [first, last] = [points[0][0] / weights, points[points.len() - 1][0] / weights];
    let inside = ((first * PER_BIT).floor() as u64 + 1..).map(|k| k as f64 / PER_BIT).take_while(|r| *r <= last - 1.0 / PER_BIT);
    let rates: Vec<f64> = [first].into_iter().chain(inside).chain([last]).collect();
    let mut next = 0;
    let mut distortion = |rate: f64| {
        let bits = rate * weights;
        while next + 2 < points.len() && points[next + 1][0] < bits {
            next += 1;
        }
        let [a, b] = [points[next], points[(next + 1).min(points.len() - 1)]];
        let part = if b[0] > a[0] { ((bits - a[0]) / (b[0] - a[0])).clamp(0.0, 1.0) } else { 0.0 };
        a[1] + part * (b[1] - a[1])
    };
    let at: Vec<[f64; 2]> = rates.into_iter().map(|rate| [rate, distortion(rate)]).collect();
    let step = |w: &[[f64; 2]]| Step {
        rate: [w[0][0], w[1][0]],
        distortion: [w[0][1], w[1][1]],
        slope: (w[0][1] - w[1][1]) / (weights * (w[1][0] - w[0][0])),
    };
    at.windows(2).filter(|w| w[1][0] > w[0][0]).map(step).collect()
}

/// Whether a slope is so many decibels from the multiplier, as far as that has one.
fn within(range: f64, slope: f64, lambda: f64) -> bool {
    let centre = (decibels(lambda) / ROUNDED).round() * ROUNDED;
    lambda <= 0.0 || (decibels(slope) - centre).abs() < range
}

/// Slopes of steps, each from where it begins.
fn slopes(steps: &[Step]) -> Vec<[f64; 2]> {
    steps.iter().map(|s| [s.rate[0], s.slope]).chain(steps.last().map(|s| [s.rate[1], s.slope])).collect()
}

/// A layer's own curve on linear axes, where it stands, and the tangent there, whose slope is the multiplier's. Distortion is in percent of what losing
/// the layer would cost.
fn own_curve(name: &str, index: usize, steps: &[Step], at: [f64; 2], lambda: f64, weights: u64) -> Panel {
    let whole = steps.first().map_or(1.0, |s| s.distortion[0]).max(f64::MIN_POSITIVE);
    let percent = |d: f64| 100.0 * d / whole;
    let near: Vec<&Step> = steps.iter().filter(|s| within(NEAR, s.slope, lambda)).collect();
    let first = near.first().map(|s| [s.rate[0], percent(s.distortion[0])]);
    let curve: Vec<[f64; 2]> = first.into_iter().chain(near.iter().map(|s| [s.rate[1], percent(s.distortion[1])])).collect();
    let [rate, distortion] = [at[0], percent(at[1])];
    let mut series = vec![Series::line(&format!("curve of {name}"), curve.clone()).of(vec![index])];
    let slope = percent(lambda) * weights as f64;
    if let Some(begin) = curve.first().filter(|_| slope > 0.0) {
        // From where the curve begins, or what of the tangent is as high, to where nothing is left.
        let left = begin[0].max(rate - (begin[1] - distortion).max(0.0) / slope).min(rate);
        let line = vec![[left, distortion + slope * (rate - left)], [rate + distortion / slope, 0.0]];
        series.push(Series::line("tangent of slope λ", line).of(vec![index]));
    }
    series.push(Series::line("its bits", vec![[rate, distortion]]).drawn(Shape::Dots).of(vec![index]));
    let chart = Chart {
        x: Axis::new("rate of the layer", "bits per weight"),
        y: Axis::new("distortion of the layer", "% of losing it"),
        series,
        ..Chart::default()
    };
    Panel { name: "the layer's own curve".into(), content: Content::Chart(chart) }
}

impl Session {
    pub(super) fn slopes(&self, layer: usize, settings: &AllocationSettings) -> Result<Figure> {
        let (allocation, report) = self.allocate(settings)?;
        let lambda = allocation.lambda;
        let (mut series, mut points, mut layers, mut own) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (i, (curves, plan)) in self.curves.iter().zip(&allocation.plans).enumerate() {
            let Plan::Quantized { candidate, .. } = plan else { continue };
            // The frame of its section, and what rounding to bytes adds: so that the curve is of the rate that the table has.
            let besides = 8.0 * report.layers[i].bytes as f64 - curves.coded(*candidate) * plan.predicted_bits(curves) as f64;
            let steps = steps(curves, *candidate, besides);
            let line =
                slopes(&steps).into_iter().filter(|p| within(RANGE, p[1], lambda)).map(|[bits, slope]| [bits, decibels(slope)]).collect();
            let line = Series::line(&report.layers[i].name, line).drawn(Shape::Steps).of(vec![i]);
            if i == layer {
                let row = &report.layers[i];
                own = Some(own_curve(&row.name, i, &steps, [row.bits, plan.distortion()], lambda, curves.weights));
                series.push(line)
            } else {
                series.push(line.faint())
            }
            points.push([report.layers[i].bits, decibels(lambda)]);
            layers.push(i);
        }
        let count = points.len();
        series.push(Series::line("bits of each layer", points).drawn(Shape::Dots).of(layers));
        let marks = (lambda > 0.0).then(|| Mark { name: "λ".into(), standing: false, at: decibels(lambda) });
        let chart = Chart {
            x: Axis { at_least: Some([0.0, 1.0]), ..Axis::new("rate of the layer", "bits per weight") },
            y: Axis::new("distortion that a bit buys", "dB"),
            series,
            marks: marks.into_iter().collect(),
            ..Chart::default()
        };
        Ok(Figure {
            which: Which::Slopes,
            title: format!("Slopes of {count} layers, and the multiplier λ"),
            caption: "Every layer's curve gets flatter: the first bits buy most. Each layer is given bits until one more buys less than λ, the same for all: \
                      no bit would do more good in another layer. On the layer's own curve that is the point whose tangent has the slope λ."
                .into(),
            source: "Young et al. 2021, Fig. 2 and eq. 8".into(),
            layer: Some(layer),
            panels: match own {
                Some(own) => vec![Panel { name: "slopes of all layers".into(), content: Content::Chart(chart) }, own],
                None => vec![Panel::chart(chart)],
            },
        })
    }
}
