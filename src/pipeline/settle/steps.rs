//! Steps of all blocks chosen together, for fixed-length quantizers ([`joint`]).

use std::sync::Arc;

use crate::{
    container::layer,
    pipeline::{
        Session, curve_cost,
        job::{Item, Job},
        layer_code,
    },
    quantize,
    rate::{
        Allocation, Plan, curve,
        joint::{self, LayerErrors},
    },
    transform::{self, Basis},
};

impl Session {
    /// The job that finds what the steps of every block do to the output: for [`Session::with_steps`].
    pub fn steps_job<'a>(&'a self, allocation: &'a Allocation) -> Job<'a, Option<LayerErrors>> {
        let samples = self.statistics.as_ref().and_then(|s| s.layers.first()).map_or(0, |l| l.kept());
        let cost = |shape: &crate::io::LayerShape| curve_cost(shape, samples);
        let items = self.layers.iter().map(|&(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: cost(&shape) });
        Job {
            stage: "steps",
            items: items.collect(),
            prepare: Box::new(move |i| {
                let (tensor, shape) = self.layers[i];
                let (curves, cost) = (self.curves[i].clone(), self.cost(i, self.curve_settings));
                let Plan::Quantized { candidate, blocks } = allocation.plans[i].clone() else { return Ok(Box::new(|| Ok(None))) };
                let mut weights = self.read(tensor)?;
                Ok(Box::new(move || {
                    let candidate = &curves.candidates[candidate];
                    let exponent = quantize::normalize(&mut weights);
                    let cost = cost.normalized(exponent);
                    let code = layer_code(candidate, &shape, &blocks, exponent, false);
                    let coefficients = curve::coefficients(candidate, &code, &cost, &shape, &weights);
                    let basis = candidate.basis.as_ref();
                    let second = basis.and_then(|b| b.second.as_ref());
                    let rows = basis.map_or(&[][..], |b| &b.rows);
                    let indices = code.indices(&coefficients, rows, second.map_or(&[][..], |v| &v.rows));
                    let decoded = layer::reconstruct(&code, &indices, &shape);
                    let to_normal = quantize::power_of_two(-i32::from(exponent));
                    let error: Vec<f32> = decoded.iter().zip(&weights).map(|(d, w)| d * to_normal - w).collect();
                    let error = transform::to_matrix(&shape, candidate.kind, &error);
                    let dim = candidate.geometry.dim;
                    let basis = basis.map(|b| {
                        let row = |(row, values): (usize, &[f32])| match code.is_used(row) {
                            true => code.decoded_basis(row, values),
                            false => vec![0.0; dim],
                        };
                        let second = second.zip(code.second).map(|(v, c)| Box::new(Basis { rows: c.decoded(&v.rows), ..(**v).clone() }));
                        Basis { geometry: b.geometry, rows: b.rows.chunks(dim.max(1)).enumerate().flat_map(row).collect(), second }
                    });
                    Ok(joint::layer_errors(candidate, &code, &cost, basis.as_ref(), &coefficients, &error))
                }))
            }),
        }
    }

    /// The session with the steps of an allocation's blocks chosen together, to encode it with. `found` is what [`Session::steps_job`] gave.
    pub fn with_steps(&self, allocation: &Allocation, mut found: Vec<Option<LayerErrors>>) -> Session {
        let (steps, _) = joint::choose(&mut found);
        let mut session = self.clone();
        for (i, steps) in steps.into_iter().enumerate().filter(|(_, steps)| !steps.is_empty()) {
            let Plan::Quantized { candidate, blocks } = &allocation.plans[i] else { continue };
            let curves = Arc::make_mut(&mut session.curves[i]);
            for (block, step) in steps {
                curves.candidates[*candidate].blocks[block].coefficients[usize::from(blocks[block].taken.coefficient)].step = step;
            }
        }
        session
    }
}
