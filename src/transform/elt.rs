//! The End-to-end Learned Transform: a basis that diagonalises the weights' covariance and the inverse of the gradients' second moment
//! together (Young et al. 2021, Theorem 3): `UᵗC_θθU = Λ`, `UᵗC_γγ^{−1}U = I`.
//!
//! With `C_γγ = L Lᵗ` and the eigenvectors `V` of `LᵗC_θθL`, `U = L V`, and the decoder's basis is `S = U^{−t} = L^{−t}V`. Its columns are
//! scaled to unit norm here, and the rows of `T` accordingly, so that one step suits all numbers of the basis.

use nalgebra::{Cholesky, DMatrix, Dyn};

use super::{Basis, Coefficients, Geometry, klt, linalg};
use crate::statistics::Moment;

/// What is added to the diagonal of `C_γγ`, in parts of its mean eigenvalue: dead channels have none of their own.
pub const DAMPING: f64 = 1e-3;

/// Most channels of an ELT: its eigenproblem and triangular systems grow with their third power.
pub const MOST_CHANNELS: usize = crate::statistics::MOST_CHANNELS;

/// `C_γγ` with its diagonal raised, and its Cholesky factor; nothing when it is zero, incomplete, or too large.
pub fn damped(moment: &Moment) -> Option<(DMatrix<f64>, Cholesky<f64, Dyn>)> {
    let c = moment.full()?;
    let n = c.nrows();
    let mean = c.trace() / n.max(1) as f64;
    if !(mean > 0.0 && mean.is_finite()) || n > MOST_CHANNELS {
        return None;
    }
    let mut c = c / mean;
    (0..n).for_each(|i| c[(i, i)] += DAMPING);
    let cholesky = Cholesky::new(c.clone())?;
    Some((c, cholesky))
}

/// The ELT of stacked matrices `X` for the second moments `C_γγ` of their groups, basis vectors by falling weight variance in the
/// transform's own measure. Nothing where a moment is of no use.
pub fn elt(x: &[f32], geometry: Geometry, moments: &[Moment]) -> Option<(Basis, Coefficients)> {
    let Geometry { groups, dim, width, rank } = geometry;
    let mut basis = Vec::with_capacity(groups * rank * dim);
    let mut rows = Vec::with_capacity(groups * rank * width);
    for (x, moment) in x.chunks(dim * width).zip(moments) {
        let (_, cholesky) = damped(moment)?;
        let l = cholesky.l();
        // LᵗX, whose principal directions are V.
        let xm = DMatrix::from_row_iterator(dim, width, x.iter().map(|&v| f64::from(v)));
        let y = l.tr_mul(&xm);
        let y: Vec<f32> = (0..dim).flat_map(|i| y.row(i).iter().map(|&v| v as f32).collect::<Vec<_>>()).collect();
        let (v, t) = klt::klt(&y, Geometry { groups: 1, ..geometry });
        // T = VᵗLᵗX = UᵗX; S = L^{−t}V.
        let v = DMatrix::from_row_iterator(rank, dim, v.rows.iter().map(|&v| f64::from(v))).transpose();
        let s = l.tr_solve_lower_triangular(&v)?;
        for (k, t) in t.rows.chunks(width.max(1)).enumerate() {
            let norm = s.column(k).norm();
            basis.extend(s.column(k).iter().map(|&v| (v / norm) as f32));
            rows.extend(t.iter().map(|&t| t * norm as f32));
        }
    }
    Some((Basis { geometry, rows: basis }, Coefficients { geometry, rows }))
}

/// `T = (SᵗCS)⁻¹SᵗC X` for one group: the best coefficients for a basis as the decoder has it, in the measure of `C` (of the plain
/// squared error without one). `basis` is `count×dim`, `x` `dim×width`; nothing when the basis is degenerate.
pub fn closed_loop(basis: &[f32], c: Option<&DMatrix<f64>>, x: &[f32], dim: usize, width: usize) -> Option<Vec<f32>> {
    let count = basis.len() / dim.max(1);
    if count == 0 {
        return Some(Vec::new());
    }
    let s = DMatrix::from_row_iterator(count, dim, basis.iter().map(|&v| f64::from(v)));
    let sc = c.map_or_else(|| s.clone(), |c| &s * c);
    let gram = &sc * s.transpose();
    // With the right side of the equations small enough to invert: (SᵗCS)⁻¹SᵗC is count×dim.
    let analysis = Cholesky::new(gram)?.solve(&sc);
    let analysis: Vec<f32> = (0..count).flat_map(|k| analysis.row(k).iter().map(|&v| v as f32).collect::<Vec<_>>()).collect();
    analysis.iter().all(|v| v.is_finite()).then(|| linalg::product(&analysis, x, count, dim, width))
}
