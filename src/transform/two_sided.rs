//! The two-sided transform `T = UᵗΘV` (Young et al. 2021, Section 7.1): the KLT across output channels and the KLT across input channels of
//! one layer. `X` is that of the column transforms, `n × m·K`; `T` has `rank(U)` rows of `rank(V)·K` coefficients.

use super::{Basis, Coefficients, Geometry, elt, klt::Klts, linalg, reconstruct};
use crate::{
    io::{LayerShape, tensor::swap_channels},
    report::TransformKind,
    statistics::Moment,
};

/// Most weights of a dense layer for which it is computed. There it is the singular value decomposition: two bases for a diagonal `T`, which
/// takes more numbers than the layer, and of large layers much time.
const MOST_DENSE_WEIGHTS: usize = 1 << 20;

/// The transform of weights in canonical order from both KLTs of the layer. Nothing where it does not exist.
pub fn two_sided(shape: &LayerShape, weights: &[f32], klts: &Klts) -> Option<(Basis, Coefficients)> {
    let geometry = Geometry::new(shape, TransformKind::TwoSided)?;
    if shape.taps == 1 && shape.weights() > MOST_DENSE_WEIGHTS {
        return None;
    }
    let (Some((v, _)), Some((u, _))) = (&klts.row, &klts.col) else { return None };
    let basis = Basis { geometry, rows: u.rows.clone(), second: Some(Box::new(v.clone())) };
    let coefficients = basis.forward(weights);
    Some((basis, coefficients))
}

/// `Y·V` for rows of `Y` that are `dim×K` each: to rows of `rank×K`.
pub fn forward(v: &Basis, y: &[f32], taps: usize) -> Vec<f32> {
    let Geometry { dim, rank, .. } = v.geometry;
    y.chunks((dim * taps).max(1)).flat_map(|y| linalg::product(&v.rows, y, rank, dim, taps)).collect()
}

/// `T·Vᵗ`, the decoder's half of `X = U·T·Vᵗ` that comes first: every row of `rank×K` coefficients becomes one of `dim×K`, in the arithmetic
/// of [`reconstruct`]. `v` is `rank×dim`.
pub fn backward(v: &[f32], geometry: Geometry, t: &[f32], taps: usize) -> Vec<f32> {
    let Geometry { dim, rank, .. } = geometry;
    let used = vec![true; rank];
    t.chunks((rank * taps).max(1)).flat_map(|t| reconstruct(v, t, &used, dim, taps)).collect()
}

/// The best coefficients of rows of `Y`, `count` rows of `dim×K`, for a second basis as the decoder has it ([`elt::closed_loop`]), in the
/// measure of the gradients' moment across inputs, where there is one. `v` is `rank×dim`.
pub fn closed_loop(v: &[f32], geometry: Geometry, moment: Option<&Moment>, y: &[f32], taps: usize) -> Vec<f32> {
    let Geometry { dim, rank, .. } = geometry;
    let count = y.len() / (dim * taps).max(1);
    let across = swap_channels(y, count, dim, taps);
    let damped = moment.and_then(elt::damped);
    let t = elt::closed_loop(v, damped.as_ref().map(|(c, _)| c), &across, dim, count * taps);
    // As for a first basis: of vectors that depend on each other there is no best, but there are projections.
    let t = t.unwrap_or_else(|| linalg::product(v, &across, rank, dim, count * taps));
    swap_channels(&t, rank, count, taps)
}
