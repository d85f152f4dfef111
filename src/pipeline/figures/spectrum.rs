//! Variances of a layer's rows, and the water level (Cover, Thomas, Elements of Information Theory, Section 10.3.3; Young et al. 2021, Sections 4.2 and 4.3).
//!
//! A coefficient of variance `v` (in units of what it costs to lose it) is worth `½ log₂(v/θ)` bits where it stands out of the water, and none below. At high rates distortion falls
//! by `2 ln 2 · θ` per bit: the multiplier `λ` puts the level at `θ = λ / (2 ln 2)`.

use super::{
    super::{Session, curve_cost, job::Item},
    Making, Piece, decibels,
    row_gains::{SIDES, across_channels},
};
use crate::{
    error::Result,
    report::{
        AllocationSettings, TransformKind,
        figure::{Axis, Chart, Content, Figure, Mark, Panel, Series, Shape, Which},
    },
    transform::gain,
};

/// The water level where a bit buys `lambda`.
fn level(lambda: f64) -> f64 {
    lambda / (2.0 * std::f64::consts::LN_2)
}

impl Session {
    pub(super) fn spectrum(&self, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        let lambda = self.allocate(settings)?.0.lambda;
        let name = self.layer_name(layer);
        let (tensor, shape) = self.layers[layer];
        across_channels(&name, &shape)?;
        let item = Item { name: name.clone(), cost: curve_cost(&shape, 0) };
        let none = self.curves[layer].candidates.iter().find(|c| c.kind == TransformKind::None && c.feedback.is_none());
        // What the layer's loss costs, by the model of the curves.
        let lost: f64 = none.map_or(0.0, |c| c.blocks.iter().filter_map(|b| b.coefficients.first()).map(|c| c.distortion).sum());
        Ok(Making::of_layer(item, move || {
            let (weights, name) = (self.read(tensor)?, name.clone());
            let statistics = self.statistics.as_ref().map(|s| s.layers[layer].clone());
            Ok(Box::new(move || {
                let gains = gain::layer_gains(&shape, &weights, statistics.as_deref(), true);
                let mut panels = Vec::new();
                let best = gains.iter().filter(|g| g.rows.is_some() && !g.transform.within_kernels());
                let best = best.max_by(|a, b| a.total_db.total_cmp(&b.total_db)).map(|g| g.transform);
                let mut below = String::new();
                for (side, kinds) in SIDES {
                    let rows = |kind: TransformKind| gains.iter().find(|g| g.transform == kind).and_then(|g| g.rows.as_ref());
                    let Some(before) = rows(kinds[0]).map(|r| &r.before.product_db) else { continue };
                    // The variances are relative; together they are what is lost with the layer.
                    let sum: f64 = before.iter().map(|db| 10f64.powf(db / 10.0)).sum();
                    let unit = lost * before.len() as f64 / (sum * weights.len().max(1) as f64);
                    let line = |name: &str, rows: &[f64]| {
                        let points = rows.iter().enumerate().map(|(i, db)| [i as f64 + 1.0, db + decibels(unit)]);
                        Series::line(name, points.collect()).drawn(if rows.len() > 1 { Shape::Line } else { Shape::Dots })
                    };
                    let after = kinds.into_iter().filter_map(|kind| Some(line(kind.name(), &rows(kind)?.after.product_db)));
                    let series: Vec<Series> = std::iter::once(line(TransformKind::None.name(), before)).chain(after).collect();
                    let at = decibels(level(lambda));
                    if let Some(line) = series.iter().find(|s| best.is_some_and(|b| b.name() == s.name) && lambda > 0.0) {
                        let under = line.points.iter().filter(|p| p[1].is_nan() || p[1] < at).count();
                        below = format!(" Under {}, the best here, {under} of {} rows lie below it.", line.name, line.points.len());
                    }
                    let marks = if lambda > 0.0 { vec![Mark { name: "water level".into(), standing: false, at }] } else { Vec::new() };
                    let (x, y) = (Axis::counted("row, by falling variance"), Axis::new("variance of a coefficient", "dB of distortion"));
                    panels.push(Panel { name: side.into(), content: Content::Chart(Chart { x, y, series, marks, ..Chart::default() }) });
                }
                let figure = Figure {
                    which: Which::Spectrum,
                    title: format!("Spectrum of {name}, and the water level"),
                    caption: format!(
                        "What it costs to lose a coefficient of each row, without a transform and after one. A transform makes few rows strong and many weak. Rows above the \
                              water level take half a bit for every 3 dB; those below it take none, and are left out.{below}"
                    ),
                    source: "Young et al. 2021, Sections 4.2 and 4.3".into(),
                    layer: Some(layer),
                    panels,
                };
                Ok(Piece::Figure(Box::new(figure)))
            }))
        }))
    }
}
