//! The matrix product everything rests on ([`packed`]). One thread; sums run in an order that depends on sizes only, and are the same bits on every processor and
//! in Wasm: gradients and bases are too, and what follows from them on the page is what the command line comes to.
//!
//! Where processors can, libraries fuse products with the sums that they are added to, which is twice as fast. What is only looked at, as accuracy is, may be
//! computed so ([`fastest`]); in Wasm there is no such instruction, and no difference.

mod lanes;
pub mod packed;
pub mod tile;

#[cfg(not(target_arch = "wasm32"))]
use std::cell::Cell;

use lanes::Four;

/// A matrix in a slice: element `(i, j)` at `i·rows + j·columns`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance of rows.
    pub rows: usize,
    /// Distance of columns.
    pub columns: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other, `stride` apart.
    pub fn rows(data: &'a [f32], stride: usize) -> Matrix<'a> {
        Matrix { data, rows: stride, columns: 1 }
    }

    /// Its transpose.
    pub fn t(self) -> Matrix<'a> {
        Matrix { data: self.data, rows: self.columns, columns: self.rows }
    }

    /// Whether `m×n` elements lie inside the slice.
    fn holds(&self, m: usize, n: usize) -> bool {
        m == 0 || n == 0 || (m - 1) * self.rows + (n - 1) * self.columns < self.data.len()
    }
}

/// `C ← A·B` or `C ← C + A·B` with `A` `m×k`, `B` `k×n`, and `C` `m×n` in rows `stride` apart.
///
/// # Panics
/// When a matrix is larger than its slice, or rows of `C` overlap.
#[allow(clippy::too_many_arguments)]
pub fn product(m: usize, k: usize, n: usize, a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], stride: usize, add: bool) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "a factor of {m}×{k}×{n} is larger than its slice");
    assert!(stride >= n || m == 1, "rows of {n}, {stride} apart");
    assert!((m - 1) * stride + n <= c.len(), "the product {m}×{n} is larger than its slice");
    if k == 0 {
        if !add {
            (0..m).for_each(|i| c[i * stride..][..n].fill(0.0));
        }
        return;
    }
    #[cfg(not(target_arch = "wasm32"))]
    if FASTEST.get() {
        // SAFETY: the asserts above bound every element that the strides reach, and rows of C are apart.
        unsafe {
            let (a_rows, a_columns) = (a.rows as isize, a.columns as isize);
            let (b_rows, b_columns) = (b.rows as isize, b.columns as isize);
            let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), c.as_mut_ptr());
            let one = gemm::Parallelism::None;
            gemm::gemm(m, n, k, c, 1, stride as isize, add, a, a_columns, a_rows, b, b_columns, b_rows, 1.0, 1.0, false, false, false, one);
        }
        return;
    }
    packed::product(m, k, n, a, b, c, stride, add);
}

#[cfg(not(target_arch = "wasm32"))]
thread_local! {
    /// Whether products of this thread may be a library's.
    static FASTEST: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function whose products, on this thread, may be computed as is fastest here: their last digits are the processor's own.
pub fn fastest<T>(call: impl FnOnce() -> T) -> T {
    #[cfg(not(target_arch = "wasm32"))]
    let before = FASTEST.replace(true);
    let result = call();
    #[cfg(not(target_arch = "wasm32"))]
    FASTEST.set(before);
    result
}

/// Inner products of one vector with several of its length, in eight sums each; `N` up to 3 leaves registers for what is loaded.
pub fn dots<const N: usize>(a: &[f32], with: [&[f32]; N]) -> [f32; N] {
    let (eights, rest) = a.as_chunks::<8>();
    let with = with.map(|b| b[..a.len()].as_chunks::<8>());
    let mut sums = [[Four::ZERO; 2]; N];
    for (i, a) in eights.iter().enumerate() {
        let a = Four::pair(a);
        for (sums, (b, _)) in sums.iter_mut().zip(&with) {
            let b = Four::pair(&b[i]);
            *sums = [sums[0].plus(a[0].times(b[0])), sums[1].plus(a[1].times(b[1]))];
        }
    }
    std::array::from_fn(|n| {
        let rest: f32 = rest.iter().zip(with[n].1).map(|(a, b)| a * b).sum();
        sums[n][0].plus(sums[n][1]).floats().iter().sum::<f32>() + rest
    })
}

/// Copies a slice. In Wasm the usual copy is a call out of the compiled code, and takes as long for a few numbers as all that is done with
/// them: short slices are copied four numbers at a time, the last four perhaps twice.
#[inline(always)]
pub fn copy(from: &[f32], to: &mut [f32]) {
    if cfg!(not(target_arch = "wasm32")) || to.len() < 4 || to.len() > 512 {
        return to.copy_from_slice(from);
    }
    let last = to.len() - 4;
    for i in (0..to.len()).step_by(4) {
        let i = i.min(last);
        let four: [f32; 4] = *from[i..].first_chunk().expect("four are left");
        to[i..i + 4].copy_from_slice(&four);
    }
}

/// `Σ aᵢ`, in 16 sums.
pub fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let a = a.chunks_exact(16);
    let rest: f32 = a.remainder().iter().sum();
    for a in a {
        for (sum, a) in sums.iter_mut().zip(a) {
            *sum += a;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    type Product = fn(usize, usize, usize, Matrix<'_>, Matrix<'_>, &mut [f32], usize, bool);

    /// However they are cut into tiles, elements are sums of 256 terms at a time, one after the other, of rounded products.
    #[test]
    fn products_are_the_same_bits_everywhere() {
        for [m, k, n] in [[1, 1, 1], [9, 255, 33], [37, 600, 41], [300, 257, 530]] {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let mut c = vec![0.0; m * n];
            product(m, k, n, Matrix::rows(&a, k), Matrix::rows(&b, n), &mut c, n, false);
            for (i, row) in c.chunks(n).enumerate() {
                for (j, found) in row.iter().enumerate() {
                    let part = |part: std::ops::Range<usize>| part.fold(0f32, |sum, p| sum + a[i * k + p] * b[p * n + j]);
                    let sum = (0..k).step_by(256).map(|p| part(p..(p + 256).min(k))).reduce(|sum, part| sum + part);
                    assert_eq!(Some(found.to_bits()), sum.map(f32::to_bits), "{m}×{k}×{n} at {i} {j}");
                }
            }
        }
    }

    /// Compares with a product in `f64`; `C` lies in a slice with guard values that must stay.
    fn check(product: Product, [m, k, n]: [usize; 3], transposed: [bool; 2], gap: usize, add: bool) {
        let (a, b) = (noise((m + gap) * (k + gap), 1), noise((k + gap) * (n + gap), 2));
        let matrix = |data, rows: usize, columns: usize, transposed| {
            if transposed { Matrix::rows(data, rows + gap).t() } else { Matrix::rows(data, columns + gap) }
        };
        let (a, b) = (matrix(&a, m, k, transposed[0]), matrix(&b, k, n, transposed[1]));
        let before = noise(m * (n + gap), 3);
        let mut c = before.clone();
        product(m, k, n, a, b, &mut c, n + gap, add);
        for i in 0..m {
            for j in 0..n + gap {
                let at = i * (n + gap) + j;
                if j >= n {
                    assert_eq!(c[at], before[at], "guard {i} {j}");
                    continue;
                }
                let term = |p| f64::from(a.data[i * a.rows + p * a.columns]) * f64::from(b.data[p * b.rows + j * b.columns]);
                let exact = (0..k).map(term).sum::<f64>() + if add { f64::from(before[at]) } else { 0.0 };
                assert!((f64::from(c[at]) - exact).abs() < 1e-6 * (k as f64 + 1.0), "{m}×{k}×{n} at {i} {j}: {} {exact}", c[at]);
            }
        }
    }

    #[test]
    fn products_of_all_sizes_and_layouts() {
        let sizes = [
            [0, 3, 2],
            [3, 0, 2],
            [3, 2, 0],
            [1, 1, 1],
            [1, 300, 1],
            [4, 8, 8],
            [5, 7, 9],
            [3, 513, 530],
            [70, 2, 17],
            [13, 260, 8],
            [1, 9, 33],
            [33, 9, 1],
        ];
        for size in sizes {
            for code in 0..16 {
                let bit = |i| code >> i & 1 == 1;
                let gap = if bit(2) { 3 } else { 0 };
                check(product, size, [bit(0), bit(1)], gap, bit(3));
                fastest(|| check(product, size, [bit(0), bit(1)], gap, bit(3)));
            }
        }
    }

    #[test]
    #[should_panic(expected = "larger than its slice")]
    fn a_short_slice_is_not_read() {
        product(2, 2, 2, Matrix::rows(&[1.0; 3], 2), Matrix::rows(&[1.0; 4], 2), &mut [0.0; 4], 2, false);
    }

    #[test]
    fn several_inner_products_at_once() {
        for n in (0..40).chain([1000]) {
            let (a, b) = (noise(n, 1), noise(n + 20, 2));
            let with = [&b[..], &b[7..], &b[20..]];
            let exact = with.map(|b| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>());
            let found = dots(&a, with);
            assert!(found.iter().zip(exact).all(|(f, e)| (f64::from(*f) - e).abs() < 1e-6 * (n as f64 + 1.0)), "{n}: {found:?} {exact:?}");
            assert_eq!(dots(&a, [with[1]]), [found[1]]);
        }
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_short_factor_is_not_read() {
        dots(&[1.0; 9], [&[1.0; 8]]);
    }

    #[test]
    fn copies_of_every_length() {
        for n in (0..20).chain([512, 513, 600]) {
            let mut to = vec![0.0; n];
            copy(&noise(n, n as u64), &mut to);
            assert_eq!(to, noise(n, n as u64));
        }
    }

    #[test]
    fn sums_in_sixteen_parts() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!((sum(&a), sum(&[])), (666.0, 0.0));
    }
}
