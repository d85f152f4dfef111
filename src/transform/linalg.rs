//! The dense linear algebra of the transforms: products, Gram matrices, symmetric eigenvectors, thin QR.
//!
//! Matrices are row-major `f32` slices outside. nalgebra solves small eigenproblems in `f64`, faer those from [`FAER_FROM`] on in
//! `f32`, where that is several times faster (docs/benchmarks.md). A basis need not be the exact eigenvectors, only orthonormal:
//! then nothing but a little coding gain depends on their last digits.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::{
        matmul as faer_matmul,
        triangular::{BlockStructure, matmul as triangular_matmul},
    },
};
use nalgebra::{DMatrix, SymmetricEigen};

/// Order of a symmetric matrix from which faer's eigensolver is used instead of nalgebra's.
pub const FAER_FROM: usize = 200;

/// Columns of a panel whose `f32` Gram matrix is summed in `f64`.
const PANEL: usize = 1024;

/// `A·B`, with `A` `m×k` and `B` `k×n`, row-major.
pub fn product(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    assert_eq!((a.len(), b.len()), (m * k, k * n));
    let mut c = vec![0.0; m * n];
    faer_matmul(
        MatMut::from_row_major_slice_mut(&mut c, m, n),
        Accum::Replace,
        MatRef::from_row_major_slice(a, m, k),
        MatRef::from_row_major_slice(b, k, n),
        1.0,
        Par::Seq,
    );
    c
}

/// `A·Bᵗ`, with `A` `m×k` and `B` `n×k`, row-major.
pub fn product_transposed(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    assert_eq!((a.len(), b.len()), (m * k, n * k));
    let mut c = vec![0.0; m * n];
    faer_matmul(
        MatMut::from_row_major_slice_mut(&mut c, m, n),
        Accum::Replace,
        MatRef::from_row_major_slice(a, m, k),
        MatRef::from_row_major_slice(b, n, k).transpose(),
        1.0,
        Par::Seq,
    );
    c
}

/// The Gram matrix `X·Xᵗ` of a `rows×width` matrix. Panels are multiplied in `f32` and summed in `f64`.
pub fn gram(x: &[f32], rows: usize, width: usize) -> DMatrix<f64> {
    assert_eq!(x.len(), rows * width);
    let mut sum = DMatrix::<f64>::zeros(rows, rows);
    let mut part = vec![0f32; rows * rows];
    let x = MatRef::from_row_major_slice(x, rows, width);
    for start in (0..width).step_by(PANEL) {
        let panel = x.subcols(start, PANEL.min(width - start));
        triangular_matmul(
            MatMut::from_row_major_slice_mut(&mut part, rows, rows),
            BlockStructure::TriangularLower,
            Accum::Replace,
            panel,
            BlockStructure::Rectangular,
            panel.transpose(),
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
        for i in 0..rows {
            for j in 0..=i {
                sum[(i, j)] += f64::from(part[i * rows + j]);
            }
        }
    }
    for i in 0..rows {
        for j in 0..i {
            sum[(j, i)] = sum[(i, j)];
        }
    }
    sum
}

/// Unit eigenvectors of a symmetric positive semidefinite matrix, by falling eigenvalue: row `k` of the result (`n×n`,
/// row-major) is the `k`-th eigenvector.
pub fn eigenvectors(c: DMatrix<f64>) -> Vec<f32> {
    let n = c.nrows();
    if n < FAER_FROM {
        // nalgebra can fail to converge (its issue 1025): bounded, and faer is tried next.
        if let Some(eigen) = SymmetricEigen::try_new(c.clone(), f64::EPSILON, 300 * n.max(10)) {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
            return order.iter().flat_map(|&k| eigen.eigenvectors.column(k).iter().map(|&v| v as f32).collect::<Vec<_>>()).collect();
        }
    }
    // In units of the mean eigenvalue, so that nothing leaves the range of f32.
    let unit = c.trace() / n as f64;
    let unit = if unit > 0.0 { unit } else { 1.0 };
    let single: Vec<f32> = c.iter().map(|v| (v / unit) as f32).collect();
    let view = MatRef::from_column_major_slice(&single, n, n);
    match view.self_adjoint_eigen(faer::Side::Lower) {
        Ok(eigen) => {
            let u = eigen.U();
            (0..n).rev().flat_map(|k| (0..n).map(move |i| u[(i, k)])).collect()
        }
        // No solver converged (never seen): the identity is a valid orthonormal basis, only without gain.
        Err(_) => (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect(),
    }
}

/// Orthonormalises the rows of a `rows×width` matrix with `rows ≤ width`, in order; rows that depend on earlier ones are
/// replaced by unit vectors orthogonal to all others.
pub fn orthonormal_rows(x: &[f32], rows: usize, width: usize) -> Vec<f32> {
    assert!(rows <= width && x.len() == rows * width);
    let q = MatRef::from_row_major_slice(x, rows, width).transpose().qr().compute_thin_Q();
    (0..rows).flat_map(|k| (0..width).map(move |i| (i, k))).map(|(i, k)| q[(i, k)]).collect()
}

/// The transpose of a `rows×cols` row-major matrix.
pub fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    assert_eq!(x.len(), rows * cols);
    const TILE: usize = 32;
    let mut t = vec![0.0; x.len()];
    for i0 in (0..rows).step_by(TILE) {
        for j0 in (0..cols).step_by(TILE) {
            for i in i0..(i0 + TILE).min(rows) {
                for j in j0..(j0 + TILE).min(cols) {
                    t[j * rows + i] = x[i * cols + j];
                }
            }
        }
    }
    t
}
