//! Transforms across the positions of a kernel (Young et al. 2021, Section 7.2): `X` is `taps × (groups·n·m)`, with one basis for the layer; or each kernel
//! where it is, its coefficients in place of its weights, as columns of a layer whose errors are fed back.

use super::{Basis, Coefficients, Geometry, dct, elt, klt, to_matrix};
use crate::{io::LayerShape, report::TransformKind, statistics::Moment};

/// One of the four transforms within kernels, of weights in canonical order. `moment` is the gradients' `C_γγ` across taps, which only the
/// ELT looks at. Nothing where the transform does not exist for the layer, or the moment is of no use.
pub fn intra(shape: &LayerShape, kind: TransformKind, weights: &[f32], moment: Option<&[Moment]>) -> Option<(Basis, Coefficients)> {
    if !kind.within_kernels() {
        return None;
    }
    let geometry = Geometry::new(shape, kind)?;
    let x = || to_matrix(shape, kind, weights);
    match kind {
        TransformKind::IntraKlt => Some(klt::klt(&x(), geometry)),
        TransformKind::IntraElt => elt::elt(&x(), geometry, moment?),
        _ => {
            let basis = Basis { geometry, rows: dct::basis(shape, kind)?, second: None };
            let coefficients = basis.forward(&x());
            Some((basis, coefficients))
        }
    }
}

/// Kernels' coefficients in place of their weights, `t[k] = Σ_i s[k][i]·x[i]`, for a basis of orthonormal rows, `taps×taps`. Kernels follow each other.
pub fn forward(basis: &[f32], taps: usize, values: &mut [f32]) {
    let mut kernel = vec![0f32; taps];
    for values in values.chunks_exact_mut(taps.max(1)) {
        kernel.copy_from_slice(values);
        let dot = |row: &[f32]| row.iter().zip(&kernel).fold(0f32, |sum, (s, x)| sum + s * x);
        values.iter_mut().zip(basis.chunks(taps)).for_each(|(t, row)| *t = dot(row));
    }
}

/// Kernels' weights in place of their coefficients, `x[i] = Σ_k s[k][i]·t[k]`: a sum that starts at 0 and adds the rounded products by rising `k`, as a
/// decoder's does.
pub fn backward(basis: &[f32], taps: usize, values: &mut [f32]) {
    let mut kernel = vec![0f32; taps];
    for values in values.chunks_exact_mut(taps.max(1)) {
        kernel.copy_from_slice(values);
        values.fill(0.0);
        for (row, t) in basis.chunks(taps).zip(&kernel) {
            values.iter_mut().zip(row).for_each(|(x, s)| *x += s * t);
        }
    }
}

/// A symmetric matrix over `n` columns, the second moment of what kernels' weights multiply, becomes that of their coefficients: `S·B·Sᵗ` for each block `B` of two
/// kernels. The upper half is read, and both are written.
pub fn second_moment(basis: &[f32], taps: usize, h: &mut [f32], n: usize) {
    let dot = |row: &[f32], x: &[f32]| row.iter().zip(x).fold(0f32, |sum, (s, x)| sum + s * x);
    let (mut half, mut block) = (vec![0f32; taps * taps], vec![0f32; taps * taps]);
    for j in (0..n).step_by(taps.max(1)) {
        for i in (j..n).step_by(taps.max(1)) {
            for (b, x) in (j..j + taps).map(|row| &h[row * n + i..row * n + i + taps]).enumerate() {
                basis.chunks(taps).enumerate().for_each(|(k, row)| half[k * taps + b] = dot(row, x));
            }
            for (half, block) in half.chunks(taps).zip(block.chunks_mut(taps)) {
                block.iter_mut().zip(basis.chunks(taps)).for_each(|(v, row)| *v = dot(row, half));
            }
            for (k, l) in (0..taps).flat_map(|k| (0..taps).map(move |l| (k, l))) {
                // Of a kernel with itself rounding makes the halves differ: one is kept.
                let v = if i == j { block[k.max(l) * taps + k.min(l)] } else { block[k * taps + l] };
                (h[(i + k) * n + j + l], h[(j + l) * n + i + k]) = (v, v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::Order, testing::noise};

    /// In place, kernel by kernel, coefficients are those that the matrix of all kernels has; and they go back to the weights.
    #[test]
    fn kernels_are_transformed_where_they_are() {
        for (groups, outputs, inputs, rows, columns) in [(1, 3, 4, 3, 3), (2, 2, 3, 1, 5), (5, 1, 1, 7, 7), (1, 2, 2, 1, 2)] {
            let shape = LayerShape { groups, outputs, inputs, taps: rows * columns, columns, order: Order::OutIn };
            let weights = noise(shape.weights(), 3);
            for kind in [TransformKind::IntraDct1, TransformKind::IntraDct2] {
                let basis = dct::basis(&shape, kind).unwrap();
                let mut values = weights.clone();
                forward(&basis, shape.taps, &mut values);
                let (_, all) = intra(&shape, kind, &weights, None).unwrap();
                let expected = crate::transform::from_matrix(&shape, kind, all.rows);
                assert!(values.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{kind:?} {shape:?}");
                backward(&basis, shape.taps, &mut values);
                assert!(values.iter().zip(&weights).all(|(a, b)| (a - b).abs() < 1e-5), "{kind:?} {shape:?}");
            }
        }
        forward(&[], 0, &mut []);
        backward(&[1.0], 1, &mut []);
        second_moment(&[], 0, &mut [], 0);
    }

    /// A second moment of coefficients is that of the coefficients themselves: `S·(Σ xᵗx)·Sᵗ`, symmetric to the bit.
    #[test]
    fn second_moments_are_those_of_coefficients() {
        for (kernels, rows, columns) in [(1, 1, 1), (1, 3, 3), (5, 1, 2), (4, 3, 3), (2, 5, 3)] {
            let (taps, n) = (rows * columns, kernels * rows * columns);
            let shape = LayerShape { groups: 1, outputs: 1, inputs: kernels, taps, columns, order: Order::OutIn };
            let basis = dct::basis(&shape, TransformKind::IntraDct2).unwrap();
            let mut x = noise(6 * n, 9);
            let moment = |x: &[f32]| -> Vec<f32> {
                let at = |i: usize, j: usize| x.chunks(n).map(|x| x[i] * x[j]).sum::<f32>();
                (0..n * n).map(|e| at(e / n, e % n)).collect()
            };
            let mut found = moment(&x);
            second_moment(&basis, taps, &mut found, n);
            forward(&basis, taps, &mut x);
            let expected = moment(&x);
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{kernels} kernels of {rows}×{columns}");
            assert!((0..n * n).all(|e| found[e] == found[e % n * n + e / n]), "{kernels} kernels of {rows}×{columns}");
        }
    }
}
