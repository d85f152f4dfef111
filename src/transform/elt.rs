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
        // Columns of L one after the other are the rows of Lᵗ.
        let lt: Vec<f32> = l.as_slice().iter().map(|&v| v as f32).collect();
        let y = linalg::product(&lt, x, dim, dim, width);
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
    Some((Basis { geometry, rows: basis, second: None }, Coefficients { geometry, rows }))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        io::{LayerShape, Order, tensor::transpose},
        report::TransformKind,
        testing::noise,
        transform::reconstruct,
    };

    fn matrix(x: &[f32], rows: usize, columns: usize) -> DMatrix<f64> {
        DMatrix::from_row_iterator(rows, columns, x.iter().map(|&v| f64::from(v)))
    }

    /// `C_γγ` from `count` random gradients: singular when these are fewer than channels.
    fn moment(n: usize, count: usize, seed: u64) -> Moment {
        let mut moment = Moment::zeros(n);
        moment.add(&noise(n * count, seed), count);
        moment
    }

    /// The joint diagonalisation, and exact reconstruction, of one group.
    fn check(x: &[f32], dim: usize, width: usize, moment: &Moment) {
        let geometry = Geometry { groups: 1, dim, width, rank: dim.min(width) };
        let (basis, t) = elt(x, geometry, std::slice::from_ref(moment)).expect("the moment is of use");
        let (c, _) = damped(moment).unwrap();
        let rank = geometry.rank;
        let (s, t_rows) = (matrix(&basis.rows, rank, dim), matrix(&t.rows, rank, width));
        // Unit columns of S; SᵗC_γγS diagonal, which is UᵗC_γγ⁻¹U = I with U = S^{−t} and lengths left free.
        let g = &s * &c * s.transpose();
        // Rows beyond the rank of X have no energy, and their directions do not matter.
        let total: f64 = t.rows.iter().map(|&v| f64::from(v).powi(2)).sum();
        let energy = |k: usize| t_rows.row(k).norm_squared();
        let strong = |k: usize| energy(k) > 1e-7 * total;
        for i in 0..rank {
            prop_assert_close(s.row(i).norm(), 1.0, 1e-4);
            for j in 0..i {
                let mixed = g[(i, j)] / (g[(i, i)] * g[(j, j)]).sqrt();
                assert!(mixed.abs() < 2e-3 || !strong(i), "{dim}×{width}: SᵗCS[{i},{j}] is {mixed} of its diagonal");
                let product = t_rows.row(i).dot(&t_rows.row(j)) / (energy(i) * energy(j)).sqrt().max(1e-300);
                assert!(product.abs() < 2e-3 || !strong(i) || !strong(j), "{dim}×{width}: coefficients {i} and {j} correlate by {product}");
            }
        }
        let back = reconstruct(&basis.rows, &t.rows, &vec![true; rank], dim, width);
        let scale = (total / x.len() as f64).sqrt().max(1e-12);
        for (a, b) in back.iter().zip(x) {
            assert!(f64::from((a - b).abs()) < 1e-3 * scale * (1.0 + dim as f64).sqrt(), "{dim}×{width}: {a} for {b}");
        }
    }

    fn prop_assert_close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() < within, "{a} for {b}");
    }

    #[test]
    fn square_wide_tall_and_near_singular() {
        for (dim, width) in [(1, 1), (2, 2), (8, 8), (5, 40), (40, 5), (64, 144)] {
            let x = noise(dim * width, 7);
            check(&x, dim, width, &moment(dim, 3 * dim, 1));
            // Fewer samples than channels; dead channels.
            check(&x, dim, width, &moment(dim, dim.div_ceil(3), 2));
            let mut dead = moment(dim, 2 * dim, 3);
            if let (Moment::Full(m), true) = (&mut dead, dim > 1) {
                m.row_mut(0).fill(0.0);
                m.column_mut(0).fill(0.0);
            }
            check(&x, dim, width, &dead);
            // Rank one.
            let outer: Vec<f32> = (0..dim * width).map(|i| ((i / width) as f32 - 1.5) * ((i % width) as f32 + 0.5) * 0.01).collect();
            check(&outer, dim, width, &moment(dim, 3 * dim, 4));
        }
    }

    /// With an isotropic `C_γγ` the ELT is the KLT.
    #[test]
    fn known_answer() {
        let (dim, width) = (6, 30);
        let x = noise(dim * width, 5);
        let geometry = Geometry { groups: 1, dim, width, rank: dim };
        let (basis, t) = elt(&x, geometry, &[Moment::Full(DMatrix::identity(dim, dim) * 3.0)]).unwrap();
        let (klt_basis, klt_t) = klt::klt(&x, geometry);
        assert!(basis.rows.iter().zip(&klt_basis.rows).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(t.rows.iter().zip(&klt_t.rows).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    #[test]
    fn useless_moments_give_no_transform() {
        let geometry = Geometry { groups: 1, dim: 2, width: 2, rank: 2 };
        for moment in [Moment::zeros(2), Moment::Full(DMatrix::from_element(2, 2, f64::NAN)), Moment::Diagonal(vec![1.0; 2])] {
            assert!(elt(&[1.0; 4], geometry, &[moment]).is_none());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_shape(n in 1usize..20, m in 1usize..20, k in 1usize..6, seed in any::<u64>()) {
            let shape = LayerShape { groups: 1, outputs: n, inputs: m, taps: k, columns: 0, order: Order::OutIn };
            let w = noise(shape.weights(), seed);
            check(&w, n, m * k, &moment(n, n + 3, seed ^ 1));
            check(&super::super::to_matrix(&shape, TransformKind::EltRow, &w), m, n * k, &moment(m, m + 3, seed ^ 2));
        }

        /// No other coefficients of the same basis give less error in the measure of `C`: its gradient vanishes.
        #[test]
        fn closed_loop_is_the_least_squares_solution(dim in 1usize..10, width in 1usize..10, part in 1usize..10, seed in any::<u64>()) {
            let count = part.min(dim);
            let (basis, x) = (noise(count * dim, seed), noise(dim * width, seed ^ 1));
            let (c, _) = damped(&moment(dim, 2 * dim + 1, seed ^ 2)).unwrap();
            // A random basis may happen to be nearly dependent; then there is nothing to check.
            if let Some(t) = closed_loop(&basis, Some(&c), &x, dim, width) {
                let (s, t) = (matrix(&basis, count, dim), matrix(&t, count, width));
                let gram = &s * &c * s.transpose();
                let condition = gram.clone().symmetric_eigenvalues();
                if condition.min() > 1e-3 * condition.max() {
                    let residual = matrix(&x, dim, width) - s.transpose() * t;
                    prop_assert!((&s * &c * residual).amax() < 1e-3 * gram.amax().max(1e-3));
                }
            }
            let plain = closed_loop(&transpose(&basis, dim, count), None, &x, dim, width);
            prop_assert!(plain.is_none_or(|t| t.len() == count * width));
            prop_assert_eq!(closed_loop(&[], None, &x, dim, width), Some(Vec::new()));
        }
    }
}
