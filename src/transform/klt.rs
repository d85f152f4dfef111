//! The Karhunen–Loève transform: eigenvectors of the weights' own covariance (Young et al. 2021, Section 4.2).

use super::{Basis, Coefficients, Geometry, linalg, to_matrix};
use crate::{
    io::{LayerShape, tensor::transpose},
    report::TransformKind,
};

/// Both cross-channel KLTs of a layer.
#[derive(Debug, Default)]
pub struct Klts {
    /// Across input channels, `T = ΘU`.
    pub row: Option<(Basis, Coefficients)>,
    /// Across output channels, `T = UᵗΘ`.
    pub col: Option<(Basis, Coefficients)>,
}

/// Computes both KLTs of a layer given in canonical order, with its coefficients. A dense layer's row and column KLT are the
/// two halves of one singular value decomposition: they share one eigenproblem.
pub fn klts(shape: &LayerShape, weights: &[f32]) -> Klts {
    let row = Geometry::new(shape, TransformKind::KltRow);
    let col = Geometry::new(shape, TransformKind::KltCol);
    if let (1, 1, Some(row), Some(col)) = (shape.taps, shape.groups, row, col) {
        return dense(shape, weights, row, col);
    }
    let one = |kind, geometry: Option<Geometry>| geometry.map(|geometry| klt(&to_matrix(shape, kind, weights), geometry));
    Klts { row: one(TransformKind::KltRow, row), col: one(TransformKind::KltCol, col) }
}

/// The KLT of stacked matrices `X`, basis vectors by falling variance. The eigenproblem is on the smaller side of each matrix.
pub fn klt(x: &[f32], geometry: Geometry) -> (Basis, Coefficients) {
    let Geometry { groups, dim, width, rank } = geometry;
    let mut basis = Basis { geometry, rows: Vec::with_capacity(groups * rank * dim), second: None };
    for x in x.chunks(dim * width) {
        if dim <= width {
            basis.rows.append(&mut linalg::eigenvectors(&linalg::precise_gram(x, dim, width)));
        } else {
            // X = U Σ Vᵗ: V from the small XᵗX, then U from the columns of X·V, which are orthogonal up to rounding.
            let xt = transpose(x, dim, width);
            let v = linalg::eigenvectors(&linalg::precise_gram(&xt, width, dim));
            let scaled_u = linalg::product(&v, &xt, rank, width, dim);
            basis.rows.append(&mut linalg::orthonormal_rows(&scaled_u, rank, dim));
        }
    }
    let mut coefficients = basis.forward(x);
    fix_signs(&mut basis, &mut coefficients);
    (basis, coefficients)
}

/// A dense layer, `X = UΣVᵗ`: the column KLT is `S = U, T = ΣVᵗ`, the row KLT `S = V, T = ΣUᵗ`.
fn dense(shape: &LayerShape, weights: &[f32], row: Geometry, col: Geometry) -> Klts {
    let (small, large, small_x) =
        if col.dim <= row.dim { (col, row, weights.to_vec()) } else { (row, col, to_matrix(shape, TransformKind::KltRow, weights)) };
    let (small_basis, small_coefficients) = klt(&small_x, small);
    // The rows of T = ΣVᵗ are orthogonal; normalised they are the other side's basis.
    let rows = linalg::orthonormal_rows(&small_coefficients.rows, small.rank, small.width);
    let mut large_basis = Basis { geometry: large, rows, second: None };
    // T' = Vᵗ·Xᵗ = (X·V)ᵗ, without forming Xᵗ.
    let mut large_coefficients =
        Coefficients { geometry: large, rows: linalg::product_transposed(&large_basis.rows, &small_x, large.rank, large.dim, large.width) };
    fix_signs(&mut large_basis, &mut large_coefficients);
    let (small_side, large_side) = (Some((small_basis, small_coefficients)), Some((large_basis, large_coefficients)));
    if col.dim <= row.dim { Klts { col: small_side, row: large_side } } else { Klts { row: small_side, col: large_side } }
}

/// An eigenvector's sign is free. It is chosen so that the longer tail of its coefficients is negative, where the quantizer
/// of eq. 5 has one level more (at `R = 1` its levels are `−Δ` and `0`).
fn fix_signs(basis: &mut Basis, coefficients: &mut Coefficients) {
    let Geometry { dim, width, .. } = basis.geometry;
    for (s, t) in basis.rows.chunks_mut(dim).zip(coefficients.rows.chunks_mut(width)) {
        let skew: f64 = t.iter().map(|&v| f64::from(v).powi(3)).sum();
        if skew > 0.0 {
            s.iter_mut().chain(t).for_each(|v| *v = -*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{io::Order, testing::noise, transform::reconstruct};

    fn layer(groups: usize, outputs: usize, inputs: usize, taps: usize) -> LayerShape {
        LayerShape { groups, outputs, inputs, taps, columns: 0, order: Order::OutIn }
    }

    /// Orthonormal basis, exact reconstruction, decorrelated coefficients of falling variance, energy kept.
    fn check(shape: LayerShape, w: &[f32]) {
        let energy: f64 = w.iter().map(|&v| f64::from(v).powi(2)).sum();
        let both = klts(&shape, w);
        for (kind, klt) in [(TransformKind::KltRow, both.row), (TransformKind::KltCol, both.col)] {
            assert_eq!(klt.is_some(), Geometry::new(&shape, kind).is_some());
            let Some((basis, t)) = klt else { continue };
            let Geometry { dim, width, rank, .. } = basis.geometry;
            let x = to_matrix(&shape, kind, w);
            for ((s, t), x) in basis.rows.chunks(rank * dim).zip(t.rows.chunks(rank * width)).zip(x.chunks(dim * width)) {
                let unit = linalg::product_transposed(s, s, rank, dim, rank);
                for (i, v) in unit.iter().enumerate() {
                    let want = if i / rank == i % rank { 1.0 } else { 0.0 };
                    assert!((v - want).abs() < 2e-5, "{kind:?} {shape:?}: SᵗS has {v} for {want}");
                }
                let scale = (energy / w.len().max(1) as f64).sqrt() as f32 + 1e-30;
                let back = reconstruct(s, t, &vec![true; rank], dim, width);
                for (a, b) in back.iter().zip(x) {
                    assert!((a - b).abs() < 2e-4 * scale * (dim as f32).sqrt(), "{kind:?} {shape:?}: {a} for {b}");
                }
                let cov = linalg::gram(t, rank, width);
                for i in 0..rank {
                    for j in 0..i {
                        assert!(cov[(i, j)].abs() < 1e-4 * (energy + 1e-30), "{kind:?} {shape:?}: coefficients correlate");
                    }
                    assert!(i == 0 || cov[(i, i)] <= cov[(i - 1, i - 1)] + 1e-5 * energy, "{kind:?} {shape:?}: variances rise");
                }
            }
        }
    }

    #[test]
    fn square_wide_tall_and_degenerate_layers() {
        for (g, n, m, k) in [
            (1, 1, 1, 1),
            (1, 1, 9, 1),
            (1, 9, 1, 9),
            (1, 16, 16, 9),
            (1, 200, 3, 4),
            (1, 3, 200, 1),
            (1, 150, 120, 1),
            (4, 6, 5, 9),
            (8, 1, 1, 9),
        ] {
            let shape = layer(g, n, m, k);
            check(shape, &noise(shape.weights(), 7));
            check(shape, &vec![0.0; shape.weights()]);
            check(shape, &vec![0.25; shape.weights()]);
            // rank 1
            let w: Vec<f32> = (0..shape.weights()).map(|i| ((i / (m * k)) as f32 - 1.5) * ((i % (m * k)) as f32 + 0.5) * 0.01).collect();
            check(shape, &w);
        }
    }

    #[test]
    fn known_answer() {
        // Two channels, the second a copy of the first: one basis vector (1,1)/√2 carries everything.
        let (basis, t) = klt(&[1.0, -2.0, 4.0, 1.0, -2.0, 4.0], Geometry { groups: 1, dim: 2, width: 3, rank: 2 });
        let r = std::f32::consts::FRAC_1_SQRT_2;
        assert!((basis.rows[0].abs() - r).abs() < 1e-6 && (basis.rows[0] - basis.rows[1]).abs() < 1e-6);
        assert!(t.rows[3..].iter().all(|v| v.abs() < 1e-6));
    }

    #[test]
    fn both_eigensolvers_agree() {
        for n in [linalg::FAER_FROM - 1, linalg::FAER_FROM + 1] {
            let x = noise(n * (n + 40), 3);
            let c = linalg::gram(&x, n, n + 40);
            let u = linalg::eigenvectors(&c);
            for k in 0..n {
                let v = nalgebra::DVector::from_iterator(n, u[k * n..(k + 1) * n].iter().map(|&v| f64::from(v)));
                let cv = &c * &v;
                let lambda = v.dot(&cv);
                assert!((cv - &v * lambda).norm() < 1e-4 * c.norm(), "{k} of {n} is not an eigenvector");
            }
        }
    }

    /// Libraries add in another order on another processor, as the sums here are when columns change places: what a basis is must not hang on that, nor what is quantized,
    /// or drawn. Variances of noise nearly coincide, which is the worst case.
    #[test]
    fn a_basis_does_not_hang_on_the_order_of_sums() {
        for dim in [64, linalg::FAER_FROM + 8] {
            let width = 3 * dim;
            let geometry = Geometry { groups: 1, dim, width, rank: dim };
            let x = noise(dim * width, 5);
            let turned: Vec<f32> = x.chunks(width).flat_map(|row| row.iter().rev().copied().collect::<Vec<_>>()).collect();
            let (one, other) = (klt(&x, geometry).0, klt(&turned, geometry).0);
            let apart = one.rows.iter().zip(&other.rows).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(apart < 1e-7, "{dim}: {apart}");
        }
    }

    /// A vanishing second direction is rounding, which may lean on the first by chance: the first must stay where it is.
    #[test]
    fn tall_layers_of_rank_one() {
        for seed in 0..400 {
            let shape = layer(1 + seed as usize % 3, 9, 1, 2);
            let (a, b) = (noise(shape.groups * shape.outputs, seed), noise(shape.taps, seed + 1000));
            check(shape, &linalg::product(&a, &b, a.len(), 1, shape.taps));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_shape(g in 1usize..4, n in 1usize..24, m in 1usize..24, k in 1usize..10, rank in 1usize..6, seed in any::<u64>()) {
            let shape = layer(g, n, m, k);
            check(shape, &noise(shape.weights(), seed));
            // low rank: outer products
            let (a, b) = (noise(g * n * rank, seed ^ 1), noise(rank * m * k, seed ^ 2));
            check(shape, &linalg::product(&a, &b, g * n, rank, m * k));
        }
    }
}
