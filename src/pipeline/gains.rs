//! Coding gains of an open model's layers, as they are compressed: with the batch norms after them folded in.

use super::{
    Session,
    job::{Item, Job},
};
use crate::{
    report::{GainsReport, LayerGains, TransformKind},
    transform::{Geometry, gain},
};

/// Multiplications, roughly: Gram matrices and eigenproblems on all three sides.
fn cost(shape: &crate::io::LayerShape) -> f64 {
    let side = |kind| {
        Geometry::new(shape, kind).map_or(0.0, |g| {
            let dim = g.dim.min(gain::MOST_CHANNELS) as f64;
            g.groups as f64 * (dim * dim * g.width as f64 + 60.0 * dim.powi(3))
        })
    };
    shape.weights() as f64 + [TransformKind::KltRow, TransformKind::KltCol, TransformKind::IntraKlt].map(side).iter().sum::<f64>()
}

impl Session {
    /// The job that computes the coding gains of all layers ([`gain::layer_gains`]), with what calibration found, if there was one. `rows`:
    /// the layer whose variances of rows are wanted, too.
    pub fn gains_job(&self, rows: Option<usize>) -> Job<'_, LayerGains> {
        let items = self.layers.iter().map(|&(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: cost(&shape) });
        Job {
            stage: "gains",
            items: items.collect(),
            prepare: Box::new(move |index| {
                let (tensor, shape) = self.layers[index];
                let weights = self.read(tensor)?;
                let statistics = self.statistics.as_ref().map(|s| s.layers[index].clone());
                let info = &self.model.tensors[tensor];
                let (name, stored) = (info.name.clone(), info.shape.clone());
                Ok(Box::new(move || {
                    let transforms = gain::layer_gains(&shape, &weights, statistics.as_deref(), rows == Some(index));
                    Ok(LayerGains { index, name, shape: stored, weights: weights.len() as u64, transforms })
                }))
            }),
        }
    }

    /// The report on the results of [`Session::gains_job`].
    pub fn gains_report(&self, layers: Vec<LayerGains>) -> GainsReport {
        GainsReport {
            program: format!("waterfill {}", env!("CARGO_PKG_VERSION")),
            model: self.model.name.clone(),
            calibration: self.statistics.as_ref().map(|s| s.summary.clone()),
            layers,
        }
    }
}
