//! Weights of two channels, against each other: what a transform has to do with (Young et al. 2021, Section 4.2).

use super::{
    super::{Session, curve_cost, job::Item},
    Making, Piece,
};
use crate::{
    error::{Error, Result},
    report::{
        figure::{Axis, Chart, Content, Figure, Panel, Series, Shape, Which},
        plane::{Basis, Moment},
    },
    transform::pairs::most_correlated,
};

/// Most pairs that are drawn, and points of an ellipse.
const MOST: usize = 400;
const AROUND: usize = 72;

impl Session {
    pub(super) fn pairs(&self, layer: usize) -> Result<Making<'_>> {
        let name = self.layer_name(layer);
        let (tensor, shape) = self.layers[layer];
        let item = Item { name: name.clone(), cost: curve_cost(&shape, 0) };
        Ok(Making::of_layer(item, move || {
            let (weights, name) = (self.read(tensor)?, name.clone());
            Ok(Box::new(move || {
                let Some(pair) = most_correlated(&shape, &weights, MOST) else {
                    return Err(Error::Setting(format!(
                        "{name} has no two channels with enough weights to compare; choose another layer."
                    )));
                };
                let points: Vec<(f64, f64)> = pair.points.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).collect();
                let moment = Moment::of(&points);
                let closed = |points: Vec<(f64, f64)>| points.into_iter().map(|(x, y)| [x, y]).collect::<Vec<_>>();
                let axis = |k: usize| {
                    let [x, y] = Basis::klt(&moment).u[k];
                    let reach = 2.0 * moment.along([x, y]).max(0.0).sqrt();
                    vec![[-reach * x, -reach * y], [reach * x, reach * y]]
                };
                let series = vec![
                    Series::line("pairs of weights", closed(points)).drawn(Shape::Dots),
                    Series::line("ellipse (2 deviations)", closed(moment.ellipse(2.0, AROUND))).drawn(Shape::Outline),
                    Series::line("first axis of the KLT", axis(0)),
                    Series::line("second axis of the KLT", axis(1)),
                ];
                let (a, b) = (pair.channels.0 + 1, pair.channels.1 + 1);
                let gain = Basis::klt(&moment).gain_db(&moment, &Moment::WHITE);
                let side = if pair.inputs { "input" } else { "output" };
                let axis = |channel: usize| Axis::new(&format!("weight of {side} channel {channel}"), "");
                let (x, y) = (axis(a), axis(b));
                let chart = Chart { x, y, equal: true, series, ..Chart::default() };
                let figure = Figure {
                    which: Which::Pairs,
                    title: format!("{} channels {a} and {b} of {name}", if pair.inputs { "Input" } else { "Output" }),
                    caption: format!(
                        "Each point is a pair of weights, at the same place of both channels. Of all {side} channels that were compared these two are \
                         correlated most: {:.2}. Turned to the axes of the ellipse the pair has a coding gain of {gain:.1} dB.",
                        pair.correlation
                    )
                    .replace(": -", ": \u{2212}"),
                    source: "Young et al. 2021, Section 4.2".into(),
                    layer: Some(layer),
                    panels: vec![Panel { name: String::new(), content: Content::Chart(chart) }],
                };
                Ok(Piece::Figure(Box::new(figure)))
            }))
        }))
    }
}
