//! The discrete cosine transforms within kernels (Young et al. 2021, Section 7.2): bases that are not stored, because the decoder knows them.
//!
//! Both are orthonormal. Of type I that is the form with its first and last row and column divided by `√2`, which the plain matrix of cosines
//! is not; its basis vectors then are their own transposes, and the first one is not constant. For kernels of `a×b` the transform is
//! separable: row `k·b + l` of the basis is the product of row `k` of the `a`-point and row `l` of the `b`-point transform.
//!
//! A number of a one-dimensional transform is the `f32` nearest to the true one, and a number of a basis the rounded product of two of these.
//! Cosines are computed by sums and products in `f64` alone, which are the same on every machine; a test sees to it that no true number lies
//! so near the middle between two `f32` that their error, or that of another way to compute them, could change the rounding.

use crate::{io::LayerShape, report::TransformKind};

/// Greatest side of a kernel that has cosine transforms.
pub const MOST_SIDE: usize = 11;

/// `cos(π·p/q)`, to about 2^−50.
fn cosine(p: usize, q: usize) -> f64 {
    let p = p % (2 * q);
    let p = p.min(2 * q - p);
    let (p, sign) = if 2 * p > q { (q - p, -1.0) } else { (p, 1.0) };
    if 2 * p == q {
        return 0.0;
    }
    let square = (std::f64::consts::PI * p as f64 / q as f64).powi(2);
    // The angle is at most π/2: fourteen terms of the series leave less than 2^−60.
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..14u32 {
        term *= -square / f64::from((2 * k - 1) * 2 * k);
        sum += term;
    }
    sign * sum
}

/// Element `i` of basis vector `k` of the `n`-point transform. `kind` is one of the two.
fn element(kind: TransformKind, n: usize, k: usize, i: usize) -> f64 {
    if n == 1 {
        return 1.0;
    }
    let (weight, points, cosine) = if kind == TransformKind::IntraDct1 {
        let end = |j: usize| if j == 0 || j == n - 1 { 0.5 } else { 1.0 };
        (2.0 * end(k) * end(i), n - 1, cosine(k * i, n - 1))
    } else {
        (if k == 0 { 1.0 } else { 2.0 }, n, cosine(k * (2 * i + 1), 2 * n))
    };
    (weight / points as f64).sqrt() * cosine
}

/// The basis of a layer, `taps×taps`, row after row; `None` for other transforms, and where the kernel is not known or too large.
pub fn basis(shape: &LayerShape, kind: TransformKind) -> Option<Vec<f32>> {
    if !exists(shape, kind) {
        return None;
    }
    let [rows, columns] = shape.kernel()?;
    let line = |n: usize| -> Vec<f32> { (0..n * n).map(|e| element(kind, n, e / n, e % n) as f32).collect() };
    let (down, across) = (line(rows), line(columns));
    let taps = rows * columns;
    let at = |e: usize| {
        let ((k, l), (i, j)) = ((e / taps / columns, e / taps % columns), (e % taps / columns, e % taps % columns));
        down[k * rows + i] * across[l * columns + j]
    };
    Some((0..taps * taps).map(at).collect())
}

/// Whether `kind` is a cosine transform and a layer's kernels have it.
pub fn exists(shape: &LayerShape, kind: TransformKind) -> bool {
    matches!(kind, TransformKind::IntraDct1 | TransformKind::IntraDct2)
        && shape.kernel().is_some_and(|sides| sides.iter().all(|side| *side <= MOST_SIDE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Order;

    const BOTH: [TransformKind; 2] = [TransformKind::IntraDct1, TransformKind::IntraDct2];

    #[test]
    fn no_number_is_near_the_middle_between_two_others() {
        for kind in BOTH {
            for n in 1..=MOST_SIDE {
                for e in 0..n * n {
                    let exact = element(kind, n, e / n, e % n);
                    // A zero is one exactly.
                    if exact == 0.0 {
                        continue;
                    }
                    let nearest = exact as f32;
                    let neighbour = if exact > f64::from(nearest) { nearest.next_up() } else { nearest.next_down() };
                    let middle = 0.5 * (f64::from(nearest) + f64::from(neighbour));
                    assert!((exact - middle).abs() > 1e-12, "{kind:?} {n}: {exact} could be rounded either way");
                }
            }
        }
    }

    #[test]
    fn cosines_are_those_of_the_library() {
        for q in 1..=2 * MOST_SIDE {
            for p in 0..5 * q {
                let library = (std::f64::consts::PI * p as f64 / q as f64).cos();
                assert!((cosine(p, q) - library).abs() < 1e-14, "cos(π·{p}/{q}): {} for {library}", cosine(p, q));
            }
        }
    }

    #[test]
    fn bases_are_orthonormal() {
        for kind in BOTH {
            for (rows, columns) in [(1, 2), (2, 1), (2, 2), (3, 3), (1, 7), (5, 3), (7, 7), (11, 11)] {
                let taps = rows * columns;
                let shape = LayerShape { groups: 1, outputs: 1, inputs: 1, taps, columns, order: Order::OutIn };
                let basis = basis(&shape, kind).unwrap();
                for (k, l) in (0..taps).flat_map(|k| (0..=k).map(move |l| (k, l))) {
                    let dot: f64 = (0..taps).map(|i| f64::from(basis[k * taps + i]) * f64::from(basis[l * taps + i])).sum();
                    assert!((dot - if k == l { 1.0 } else { 0.0 }).abs() < 1e-6, "{kind:?} {rows}×{columns}: {k}·{l} is {dot}");
                }
            }
        }
    }

    #[test]
    fn known_answers() {
        let shape = LayerShape { groups: 1, outputs: 1, inputs: 1, taps: 3, columns: 3, order: Order::OutIn };
        let r = std::f32::consts::FRAC_1_SQRT_2;
        // Type I: [½ 1/√2 ½; 1/√2 0 −1/√2; ½ −1/√2 ½].
        assert_eq!(basis(&shape, BOTH[0]).unwrap(), [0.5, r, 0.5, r, 0.0, -r, 0.5, -r, 0.5]);
        let third = (1f64 / 3.0).sqrt() as f32;
        let sixth = (1f64 / 6.0).sqrt() as f32;
        let twice = -((2f64 / 3.0).sqrt() as f32);
        assert_eq!(basis(&shape, BOTH[1]).unwrap(), [third, third, third, r, 0.0, -r, sixth, twice, sixth]);
        // The first vector of a 3×3 kernel's type II is constant.
        let square = LayerShape { taps: 9, ..shape };
        assert!(basis(&square, BOTH[1]).unwrap()[..9].iter().all(|v| (v - 1.0 / 3.0).abs() < 1e-7));
    }

    #[test]
    fn unknown_and_large_kernels_have_none() {
        let shape = LayerShape { groups: 1, outputs: 1, inputs: 1, taps: 24, columns: 0, order: Order::OutIn };
        assert!(basis(&shape, BOTH[0]).is_none());
        assert!(basis(&LayerShape { taps: 12, columns: 12, ..shape }, BOTH[1]).is_none());
        assert!(basis(&LayerShape { taps: 9, columns: 3, ..shape }, TransformKind::IntraKlt).is_none());
    }
}
