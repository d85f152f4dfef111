//! Slopes of all layers' curves (Young et al. 2021, Fig. 2 and eq. 8): what one more bit buys in each layer, and the one multiplier where all of them stop.

use super::{super::Session, decibels};
use crate::{
    error::Result,
    rate::{Plan, curve::LayerCurves},
    report::{
        AllocationSettings,
        figure::{Axis, Chart, Figure, Mark, Panel, Series, Shape, Which},
    },
};

/// Slopes this many times steeper or flatter than the multiplier are not shown.
const RANGE: f64 = 1e4;

/// The slopes of a candidate's curve, steepest first: bits per weight before each step, and what a bit of the step buys. `besides`: bits that are none of its.
fn slopes(curves: &LayerCurves, candidate: usize, besides: f64) -> Vec<[f64; 2]> {
    let coded = curves.coded(candidate);
    let of = &curves.candidates[candidate];
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for block in &of.blocks {
        steps.extend(block.hull.windows(2).map(|w| (w[1].slope / coded, coded * w[1].bits.saturating_sub(w[0].bits) as f64)));
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut bits = coded * of.side_bits as f64 + besides;
    let weights = curves.weights.max(1) as f64;
    let mut points = Vec::with_capacity(steps.len() + 1);
    for (slope, more) in steps {
        points.push([bits / weights, slope]);
        bits += more;
    }
    points.extend(points.last().map(|last| [bits / weights, last[1]]));
    points
}

impl Session {
    pub(super) fn slopes(&self, layer: usize, settings: &AllocationSettings) -> Result<Figure> {
        let (allocation, report) = self.allocate(settings)?;
        let lambda = allocation.lambda;
        let (mut series, mut points, mut layers) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (curves, plan)) in self.curves.iter().zip(&allocation.plans).enumerate() {
            let Plan::Quantized { candidate, .. } = plan else { continue };
            // The frame of its section, and what rounding to bytes adds: so that the curve is of the rate that the table has.
            let besides = 8.0 * report.layers[i].bytes as f64 - curves.coded(*candidate) * plan.predicted_bits(curves) as f64;
            let shown = |slope: f64| lambda <= 0.0 || (slope < RANGE * lambda && slope > lambda / RANGE);
            let line = slopes(curves, *candidate, besides)
                .into_iter()
                .filter(|p| shown(p[1]))
                .map(|[bits, slope]| [bits, decibels(slope)])
                .collect();
            let line = Series::line(&report.layers[i].name, line).drawn(Shape::Steps).of(vec![i]);
            if i == layer {
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
                      no bit would do more good in another layer. A higher budget lowers λ."
                .into(),
            source: "Young et al. 2021, Fig. 2 and eq. 8".into(),
            layer: Some(layer),
            panels: vec![Panel::chart(chart)],
        })
    }
}
