//! The dense linear algebra of the transforms: products, Gram matrices, symmetric eigenvectors, thin QR.
//!
//! Matrices are row-major `f32` slices outside. Products are those of the networks. Eigenvectors are computed in `f64`, by nalgebra where they are few, from
//! [`FAER_FROM`] on by faer, which is faster by more and more (docs/benchmarks.md). A basis need not be the exact eigenvectors, only orthonormal; but those
//! libraries fuse products with sums where a processor can, and add in another order in Wasm: in `f32` eigenvectors would differ, and with them steps, bits and figures.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::triangular::{BlockStructure, matmul as triangular_matmul},
};
use nalgebra::{DMatrix, SymmetricEigen};

use crate::nn::kernel::{self, Matrix};

/// Order of a symmetric matrix from which faer's eigensolver is used instead of nalgebra's.
pub const FAER_FROM: usize = 200;

/// Columns of a panel whose `f32` Gram matrix is summed in `f64`.
const PANEL: usize = 1024;

/// `A·B`, with `A` `m×k` and `B` `k×n`, row-major.
pub fn product(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    assert_eq!((a.len(), b.len()), (m * k, k * n));
    let mut c = vec![0.0; m * n];
    kernel::product(m, k, n, Matrix::rows(a, k), Matrix::rows(b, n), &mut c, n, false);
    c
}

/// `A·Bᵗ`, with `A` `m×k` and `B` `n×k`, row-major.
pub fn product_transposed(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    assert_eq!((a.len(), b.len()), (m * k, n * k));
    let mut c = vec![0.0; m * n];
    kernel::product(m, k, n, Matrix::rows(a, k), Matrix::rows(b, k).t(), &mut c, n, false);
    c
}

/// The Gram matrix `X·Xᵗ` of a `rows×width` matrix. Panels are multiplied in `f32` and summed in `f64`.
pub fn gram(x: &[f32], rows: usize, width: usize) -> DMatrix<f64> {
    /// Rows of the lower triangle that are multiplied at once, with all before them.
    const BAND: usize = 64;
    assert_eq!(x.len(), rows * width);
    let mut sum = DMatrix::<f64>::zeros(rows, rows);
    let mut part = vec![0f32; BAND.min(rows) * rows];
    for start in (0..width).step_by(PANEL) {
        let columns = PANEL.min(width - start);
        for top in (0..rows).step_by(BAND) {
            let end = (top + BAND).min(rows);
            let (band, before) = (Matrix::rows(&x[top * width + start..], width), Matrix::rows(&x[start..], width));
            kernel::product(end - top, columns, end, band, before.t(), &mut part, rows, false);
            for (i, part) in (top..end).zip(part.chunks(rows)) {
                for (j, part) in part.iter().enumerate().take(i + 1) {
                    sum[(i, j)] += f64::from(*part);
                }
            }
        }
    }
    sum.fill_upper_triangle_with_lower_triangle();
    sum
}

/// The same in `f64` throughout, for what is told of eigenvectors: those of eigenvalues that nearly coincide hang on digits that `f32` does not have, and which
/// processors and Wasm would each make up.
pub fn precise_gram(x: &[f32], rows: usize, width: usize) -> DMatrix<f64> {
    assert_eq!(x.len(), rows * width);
    let mut sum = DMatrix::<f64>::zeros(rows, rows);
    let mut panel = Vec::with_capacity(rows * PANEL.min(width));
    for start in (0..width).step_by(PANEL) {
        let columns = PANEL.min(width - start);
        panel.clear();
        panel.extend(x.chunks(width).flat_map(|row| row[start..start + columns].iter().map(|&v| f64::from(v))));
        let panel = MatRef::from_row_major_slice(&panel, rows, columns);
        let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        // Column-major, so that what is filled is the lower triangle of both.
        let sum = MatMut::from_column_major_slice_mut(sum.as_mut_slice(), rows, rows);
        triangular_matmul(sum, lower, Accum::Add, panel, whole, panel.transpose(), whole, 1.0, Par::Seq);
    }
    sum.fill_upper_triangle_with_lower_triangle();
    sum
}

/// Unit eigenvectors of a symmetric positive semidefinite matrix, by falling eigenvalue, as columns.
pub fn precise_eigenvectors(c: &DMatrix<f64>) -> DMatrix<f64> {
    let n = c.nrows();
    // nalgebra can fail to converge (its issue 1025): bounded, and faer is tried next.
    if n < FAER_FROM
        && let Some(eigen) = SymmetricEigen::try_new(c.clone(), f64::EPSILON, 300 * n.max(10))
    {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
        return eigen.eigenvectors.select_columns(&order);
    }
    match MatRef::from_column_major_slice(c.as_slice(), n, n).self_adjoint_eigen(faer::Side::Lower) {
        Ok(eigen) => DMatrix::from_fn(n, n, |i, k| eigen.U()[(i, n - 1 - k)]),
        // No solver converged (never seen): the identity is a valid orthonormal basis, only without gain.
        Err(_) => DMatrix::identity(n, n),
    }
}

/// The same rounded: row `k` of the result (`n×n`, row-major) is the `k`-th eigenvector.
pub fn eigenvectors(c: &DMatrix<f64>) -> Vec<f32> {
    precise_eigenvectors(c).iter().map(|&v| v as f32).collect()
}

/// Orthonormalises the rows of a `rows×width` matrix with `rows ≤ width`, in order; rows that depend on earlier ones are
/// replaced by unit vectors orthogonal to all others.
///
/// The rows that come here are orthogonal up to rounding, unless some vanish: a few steps of `X ← X − L·X`, with `L` the lower
/// triangle of `XXᵗ − I` and half its diagonal, then do as matrix products, at a fraction of the cost, what else a QR decomposition
/// does. The error is squared by each step. The triangle keeps the order: a row that is nothing but rounding, and leans on an earlier
/// one by chance, moves that one as little as Gram and Schmidt would (the symmetric half of Newton and Schulz moves both).
pub fn orthonormal_rows(x: &[f32], rows: usize, width: usize) -> Vec<f32> {
    assert!(rows <= width && x.len() == rows * width);
    const STEPS: usize = 4;
    /// Within this the iteration converges quadratically.
    const NEAR: f64 = 0.3;
    /// Rounding of `f32` products.
    const DONE: f64 = 2e-6;
    let mut unit = x.to_vec();
    for row in unit.chunks_mut(width.max(1)) {
        let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let factor = if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
        row.iter_mut().for_each(|v| *v *= factor);
    }
    for _ in 0..STEPS {
        let mut error = gram(&unit, rows, width);
        (0..rows).for_each(|i| error[(i, i)] -= 1.0);
        let (greatest, norm) = (error.amax(), error.norm());
        if greatest <= DONE {
            return unit;
        }
        // Also when a norm is not a number.
        if norm.is_nan() || norm > NEAR {
            break;
        }
        let mut lower = vec![0f32; rows * rows];
        for i in 0..rows {
            (0..i).for_each(|j| lower[i * rows + j] = error[(i, j)] as f32);
            lower[i * rows + i] = (0.5 * error[(i, i)]) as f32;
        }
        let correction = product(&lower, &unit, rows, rows, width);
        unit.iter_mut().zip(correction).for_each(|(v, c)| *v -= c);
        if greatest <= DONE.sqrt() {
            return unit;
        }
    }
    let precise: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let q = MatRef::from_row_major_slice(&precise, rows, width).transpose().qr().compute_thin_Q();
    (0..rows).flat_map(|k| (0..width).map(move |i| (i, k))).map(|(i, k)| q[(i, k)] as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// Rows that are orthogonal, nearly orthogonal, far from it, dependent, and zero.
    #[test]
    fn rows_become_orthonormal() {
        let (rows, width) = (12, 40);
        let random = noise(rows * width, 1);
        let orthogonal = orthonormal_rows(&random, rows, width);
        let nearly: Vec<f32> = orthogonal.iter().zip(&random).map(|(a, b)| 3.0 * a + 0.02 * b).collect();
        let mut dependent = random.clone();
        dependent.copy_within(0..width, 5 * width);
        let mut vanishing = nearly.clone();
        vanishing[7 * width..9 * width].fill(0.0);
        for (what, x) in
            [("random", &random), ("orthogonal", &orthogonal), ("nearly", &nearly), ("dependent", &dependent), ("zero", &vanishing)]
        {
            let q = orthonormal_rows(x, rows, width);
            let g = gram(&q, rows, width);
            for i in 0..rows {
                for j in 0..rows {
                    assert!((g[(i, j)] - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5, "{what}: {i} {j} {}", g[(i, j)]);
                }
            }
        }
        // The iteration stays next to where it began.
        let kept = orthonormal_rows(&nearly, rows, width);
        assert!(kept.iter().zip(&orthogonal).all(|(a, b)| (a - b).abs() < 0.02));
    }

    /// Both sum what a plain sum does, whatever does not fill the last band of rows and the last panel of columns.
    #[test]
    fn gram_matrices_are_those_of_plain_sums() {
        for (rows, width) in [(0, 5), (1, 1), (3, 0), (63, 5), (64, 1023), (65, 1025), (130, 2100)] {
            let x = noise(rows * width, 7);
            let (fast, precise) = (gram(&x, rows, width), precise_gram(&x, rows, width));
            let row = |i: usize| &x[i * width..(i + 1) * width];
            let plain = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let scale = (0..rows).map(|i| plain(i, i)).fold(f64::MIN_POSITIVE, f64::max);
            for i in 0..rows {
                for j in 0..rows {
                    let exact = plain(i, j);
                    assert!((precise[(i, j)] - exact).abs() <= 1e-13 * scale, "{rows}x{width}: {i} {j}");
                    assert!((fast[(i, j)] - exact).abs() <= 1e-5 * scale, "{rows}x{width}: {i} {j}");
                    assert_eq!((fast[(i, j)], precise[(i, j)]), (fast[(j, i)], precise[(j, i)]), "symmetric");
                }
            }
            assert_eq!((fast.nrows(), precise.nrows()), (rows, rows));
        }
    }
}
