//! What errors of a layer's coefficients cost (method.md, section 5): relative weight error without calibration; with it the squared error
//! of the network's output over the output's power, to second order.
//!
//! * Diagonal form: an error `dT_k` of row `k` of `T` costs `g_k‖dT_k‖²` with `g_k = s_kᵗ C_γγ s_k / width`, an error of its basis vector
//!   `c̄ ‖dS_k‖²‖t_k‖²` with the mean `c̄` of the diagonal of `C_γγ / width`. True of errors that are not correlated with the weights.
//! * Full form: an error `E` of all weights costs `mean_s ⟨G_s, E⟩²` over sampled gradients. Clipping at low depths makes errors that
//!   follow the weights, and these cost many times what the diagonal form says.

use std::sync::Arc;

use crate::{
    nn::kernel::{Matrix, product},
    report::TransformKind,
    statistics::{LayerStatistics, Moment},
    transform::{self, Basis, Geometry, linalg},
};

/// What an error costs.
#[derive(Debug, Clone)]
pub enum Cost {
    /// Relative weight error.
    Weights,
    /// Output error over output power.
    Output {
        /// Of the layer.
        statistics: Arc<LayerStatistics>,
        /// One over the output's power, times the square of the power of two that weights are multiplied by when they are normalised.
        unit: f64,
        /// Whether the full form is used, where samples were kept.
        full: bool,
    },
}

/// Costs under one transform.
#[derive(Debug, Clone)]
pub struct RowCosts {
    /// Of a squared error of each row of coefficients.
    pub rows: Vec<f64>,
    /// Of a squared error of a number of each row of the basis, over the energy of the row's coefficients.
    pub basis: Vec<f64>,
}

/// Sampled gradients under a transform: `SᵗG_s`.
#[derive(Debug, Clone)]
pub struct Projections {
    /// Sample after sample, each with all rows of coefficients.
    values: Vec<f32>,
    samples: usize,
    width: usize,
    unit: f64,
}

impl Cost {
    /// The second moments of gradients across the channels that a transform acts across, by group; of a transform within kernels the one
    /// across taps, of a two-sided transform those across outputs.
    pub fn moments(&self, kind: TransformKind) -> Option<&[Moment]> {
        let Cost::Output { statistics, .. } = self else { return None };
        Some(match kind {
            _ if kind.across_inputs() => &statistics.inputs,
            _ if kind.within_kernels() => std::slice::from_ref(&statistics.taps),
            _ => &statistics.outputs,
        })
    }

    /// Costs of rows. `energy` is that of all coefficients.
    pub fn rows(&self, kind: TransformKind, geometry: Geometry, basis: Option<&Basis>, energy: f64) -> RowCosts {
        let Geometry { dim, width, rank, .. } = geometry;
        let (Some(moments), Cost::Output { unit, .. }) = (self.moments(kind), self) else {
            let relative = if energy > 0.0 { 1.0 / energy } else { 0.0 };
            return RowCosts { rows: vec![relative; geometry.rows()], basis: vec![relative; geometry.rows()] };
        };
        let per_width = unit / width.max(1) as f64;
        let (mut rows, mut by_basis) = (Vec::with_capacity(geometry.rows()), Vec::with_capacity(geometry.rows()));
        for (group, moment) in moments.iter().enumerate() {
            match basis {
                None => rows.extend((0..rank).map(|k| moment.at(k) * per_width)),
                Some(basis) => {
                    let s = &basis.rows[group * rank * dim..(group + 1) * rank * dim];
                    rows.extend(quadratic_forms(s, moment, dim).into_iter().map(|g| g * per_width));
                }
            }
            by_basis.extend(std::iter::repeat_n(moment.trace() / dim.max(1) as f64 * per_width, rank));
        }
        RowCosts { rows, basis: by_basis }
    }

    /// The sampled gradients under a transform; nothing where the full form is not used.
    pub fn projections(&self, kind: TransformKind, geometry: Geometry, basis: Option<&Basis>) -> Option<Projections> {
        let Cost::Output { statistics, unit, full: true } = self else { return None };
        let samples = statistics.kept();
        if samples == 0 {
            return None;
        }
        let width = geometry.width;
        let mut values = Vec::with_capacity(samples * geometry.rows() * width);
        for sample in 0..samples {
            let g = transform::to_matrix(&statistics.shape, kind, &statistics.gradient(sample));
            match basis {
                None => values.extend(g),
                Some(basis) => values.append(&mut basis.forward(&g).rows),
            }
        }
        Some(Projections { values, samples, width, unit: *unit })
    }
}

/// `s_kᵗ C s_k` of all rows of a basis; with the diagonal of `C` alone where there is no more.
fn quadratic_forms(s: &[f32], moment: &Moment, dim: usize) -> Vec<f64> {
    let squares = |s: &[f32]| -> f64 { s.iter().enumerate().map(|(i, &v)| f64::from(v).powi(2) * moment.at(i)).sum() };
    match moment.full() {
        None => s.chunks(dim.max(1)).map(squares).collect(),
        Some(c) => {
            let rank = s.len() / dim.max(1);
            let c: Vec<f32> = c.iter().map(|&v| v as f32).collect();
            let sc = linalg::product(s, &c, rank, dim, dim);
            let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>().max(0.0);
            sc.chunks(dim.max(1)).zip(s.chunks(dim.max(1))).map(dot).collect()
        }
    }
}

impl Projections {
    /// Costs of several errors at once. `errors(row, out)` writes the errors of one row, one after the other; all of `rows` count.
    pub fn costs(&self, count: usize, rows: &[usize], mut errors: impl FnMut(usize, &mut [f32])) -> Vec<f64> {
        let (samples, width) = (self.samples, self.width);
        let all = self.values.len() / samples;
        let mut out = vec![0f32; count * width];
        let mut products = vec![0f32; count * samples];
        for &row in rows {
            errors(row, &mut out);
            let gradients = Matrix { data: &self.values[row * width..], rows: 1, columns: all };
            product(count, width, samples, Matrix::rows(&out, width), gradients, &mut products, samples, true);
        }
        let mean = |p: &[f32]| self.unit / samples as f64 * p.iter().map(|&p| f64::from(p).powi(2)).sum::<f64>();
        products.chunks(samples).map(mean).collect()
    }
}
