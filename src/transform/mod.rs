//! Transforms (Young et al. 2021, Section 4.2; method.md, section 3).
//!
//! A layer is `groups` stacked matrices `X` of `dim` rows (the channels a transform acts across) and `width` columns. The
//! decoder of a group computes `X ≈ Ŝ·T̂`; the columns of `S` have unit norm, and are orthogonal in a KLT (then `T = SᵗX`). Coefficients and basis are
//! kept row by row: row `k` of `T` belongs to row `k` of `Sᵗ`, and both are zero-cost when the row is not needed.

pub mod elt;
pub mod klt;
pub mod linalg;

use crate::{
    io::{LayerShape, tensor::swap_channels},
    report::TransformKind,
};

/// Most weights of a layer for which a basis is computed (AlexNet's largest layer has 38 million). Above, only `none`.
pub const KLT_WEIGHTS: usize = 1 << 26;

/// The sizes of a layer under a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Stacked matrices, each with a basis of its own.
    pub groups: usize,
    /// Rows of `X` per group: the channels the transform acts across.
    pub dim: usize,
    /// Columns of `X`, and of `T`.
    pub width: usize,
    /// Rows of `T` per group: `dim` without a transform, else `min(dim, width)`, which no rank exceeds.
    pub rank: usize,
}

impl Geometry {
    /// The geometry of a layer under a transform; `None` when that transform does not exist for it (method.md, sections 1
    /// and 3): a depthwise layer has no cross-channel transform, a single channel has nothing to decorrelate.
    pub fn new(shape: &LayerShape, kind: TransformKind) -> Option<Geometry> {
        let LayerShape { groups, outputs, inputs, taps, .. } = *shape;
        let (dim, width) = match kind {
            TransformKind::None => {
                return Some(Geometry { groups, dim: outputs, width: inputs * taps, rank: outputs });
            }
            TransformKind::KltCol | TransformKind::EltCol => (outputs, inputs * taps),
            TransformKind::KltRow | TransformKind::EltRow => (inputs, outputs * taps),
        };
        let exists = dim >= 2 && width >= 1 && groups >= 1 && shape.weights() <= KLT_WEIGHTS;
        exists.then_some(Geometry { groups, dim, width, rank: dim.min(width) })
    }

    /// Rows of `T` over all groups.
    pub fn rows(&self) -> usize {
        self.groups * self.rank
    }

    /// Numbers in a row of the basis: `dim` with a transform, 0 without.
    pub fn basis_width(&self, kind: TransformKind) -> usize {
        if kind == TransformKind::None { 0 } else { self.dim }
    }
}

/// Brings a layer from canonical order (`groups×outputs×inputs×taps`) to the stacked matrices `X` of a transform.
pub fn to_matrix(shape: &LayerShape, kind: TransformKind, weights: &[f32]) -> Vec<f32> {
    if kind.across_inputs() { swap_channels(weights, shape.outputs, shape.inputs, shape.taps) } else { weights.to_vec() }
}

/// The inverse of [`to_matrix`].
pub fn from_matrix(shape: &LayerShape, kind: TransformKind, matrix: Vec<f32>) -> Vec<f32> {
    if kind.across_inputs() { swap_channels(&matrix, shape.inputs, shape.outputs, shape.taps) } else { matrix }
}

/// A basis: `groups × rank` rows of `dim` numbers, row `k` of a group being column `k` of its `S`.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    /// Sizes.
    pub geometry: Geometry,
    /// The rows.
    pub rows: Vec<f32>,
}

/// The coefficients `T`: `groups × rank` rows of `width` numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficients {
    /// Sizes.
    pub geometry: Geometry,
    /// The rows.
    pub rows: Vec<f32>,
}

impl Basis {
    /// `SᵗX` for stacked matrices `X` in this basis' geometry: the coefficients of an orthonormal basis.
    pub fn forward(&self, x: &[f32]) -> Coefficients {
        let Geometry { groups, dim, width, rank } = self.geometry;
        let mut rows = Vec::with_capacity(groups * rank * width);
        for (s, x) in self.rows.chunks(rank * dim).zip(x.chunks(dim * width)) {
            rows.append(&mut linalg::product(s, x, rank, dim, width));
        }
        Coefficients { geometry: self.geometry, rows }
    }
}

/// `X = S·T` of one group, added up row by row of `T` in rising order, in plain `f32` (never fused): the decoder's arithmetic,
/// the same bits on every machine. Rows of `T` for which `used` is false are skipped. `basis` is `rank×dim`, `coefficients`
/// `rank×width`; the result is `dim×width`.
pub fn reconstruct(basis: &[f32], coefficients: &[f32], used: &[bool], dim: usize, width: usize) -> Vec<f32> {
    // Columns are cut so that a strip of T stays in the cache over all rows of X.
    const STRIP: usize = 256;
    let mut x = vec![0f32; dim * width];
    for start in (0..width).step_by(STRIP) {
        let end = (start + STRIP).min(width);
        for i in 0..dim {
            let out = &mut x[i * width + start..i * width + end];
            for (k, _) in used.iter().enumerate().filter(|(_, used)| **used) {
                let s = basis[k * dim + i];
                for (o, t) in out.iter_mut().zip(&coefficients[k * width + start..k * width + end]) {
                    *o += s * *t;
                }
            }
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Order;

    #[test]
    fn row_matrix_and_back() {
        let shape = LayerShape { groups: 2, outputs: 3, inputs: 4, taps: 5, order: Order::OutIn };
        let w: Vec<f32> = (0..shape.weights()).map(|i| i as f32).collect();
        let x = to_matrix(&shape, TransformKind::KltRow, &w);
        // group 1, input 2, output 1, tap 3
        assert_eq!(x[((4 + 2) * 3 + 1) * 5 + 3], w[((3 + 1) * 4 + 2) * 5 + 3]);
        assert_eq!(from_matrix(&shape, TransformKind::KltRow, x), w);
    }
}
