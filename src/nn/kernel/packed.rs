//! A matrix product in tiles, whose sums stay in registers, on factors copied to panels that are read from front to back (Goto and van de Geijn 2008).
//!
//! However large a tile is, every element is the same sum in the same order, of products that are rounded before they are added: what comes out are the same
//! bits on every processor and in Wasm.

use std::cell::RefCell;

use super::{
    Matrix,
    tile::{Narrow, Tile},
};

/// Terms summed at a time: a panel of `B` takes 8 KB, and stays in the first cache.
const DEPTH: usize = 256;
/// Columns of `B` packed at a time: 512 KB with [`DEPTH`] terms, for the second cache.
const WIDTH: usize = 512;
/// Rows of `A` packed at a time: 256 KB.
const HEIGHT: usize = 256;

thread_local! {
    /// Panels of both factors; at most 768 KB.
    static PANELS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// [`super::product`] of matrices that are not empty and known to lie in their slices.
#[allow(clippy::too_many_arguments)]
pub fn product(m: usize, k: usize, n: usize, a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], stride: usize, add: bool) {
    #[cfg(target_arch = "x86_64")]
    {
        use super::tile::{Wide, Wider};
        if let Some(tile) = Wider::new() {
            return panels(tile, [m, k, n], a, b, c, stride, add);
        }
        if let Some(tile) = Wide::new() {
            return panels(tile, [m, k, n], a, b, c, stride, add);
        }
    }
    panels(Narrow, [m, k, n], a, b, c, stride, add);
}

/// The product in tiles of one kind.
fn panels<const R: usize, const C: usize>(
    tile: impl Tile<R, C>,
    [m, k, n]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    stride: usize,
    add: bool,
) {
    PANELS.with_borrow_mut(|(a_panels, b_panels)| {
        for k0 in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - k0);
            for n0 in (0..n).step_by(WIDTH) {
                let width = WIDTH.min(n - n0);
                let part = Matrix { data: &b.data[k0 * b.rows + n0 * b.columns..], ..b };
                pack::<C>(part.t(), width, depth, b_panels);
                for m0 in (0..m).step_by(HEIGHT) {
                    let height = HEIGHT.min(m - m0);
                    let part = Matrix { data: &a.data[m0 * a.rows + k0 * a.columns..], ..a };
                    pack::<R>(part, height, depth, a_panels);
                    let c = &mut c[m0 * stride + n0..];
                    tiles(tile, a_panels, b_panels, [height, depth, width], c, stride, add || k0 > 0);
                }
            }
        }
    });
}

/// Copies `rows×depth` elements to panels of `W` rows, the elements of a column side by side; the last panel is filled up with zeros.
fn pack<const W: usize>(from: Matrix<'_>, rows: usize, depth: usize, panels: &mut Vec<f32>) {
    let count = rows.div_ceil(W);
    if panels.len() < count * W * depth {
        panels.resize(count * W * depth, 0.0);
    }
    for (i, panel) in panels.chunks_exact_mut(W * depth).take(count).enumerate() {
        let rows = W.min(rows - i * W);
        let from = Matrix { data: &from.data[i * W * from.rows..], ..from };
        if rows == W && from.rows == 1 {
            for (k, to) in panel.chunks_exact_mut(W).enumerate() {
                to.copy_from_slice(&from.data[k * from.columns..][..W]);
            }
            continue;
        }
        if rows == W && from.columns == 1 && depth >= 4 {
            for i in (0..W).step_by(4) {
                let to = &mut panel[i..];
                let rows = [0, 1, 2, 3].map(|row| &from.data[(i + row) * from.rows..][..depth]);
                for k in (0..depth).step_by(4) {
                    let k = k.min(depth - 4);
                    let columns = transposed(rows.map(|row| row[k..].first_chunk().expect("four are left")));
                    columns.iter().enumerate().for_each(|(j, column)| to[(k + j) * W..][..4].copy_from_slice(column));
                }
            }
            continue;
        }
        if rows < W {
            panel.fill(0.0);
        }
        for row in 0..rows {
            for (k, to) in panel.chunks_exact_mut(W).enumerate() {
                to[row] = from.data[row * from.rows + k * from.columns];
            }
        }
    }
}

/// Columns of four rows of four.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn transposed(rows: [&[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use core::arch::wasm32::{i32x4_shuffle, v128_load, v128_store};
    // SAFETY: a row is one vector, and v128_load asks for no alignment.
    let [a, b, c, d] = rows.map(|row| unsafe { v128_load(row.as_ptr().cast()) });
    let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
    let (ab_high, cd_high) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    let columns = [
        i32x4_shuffle::<0, 1, 4, 5>(ab, cd),
        i32x4_shuffle::<2, 3, 6, 7>(ab, cd),
        i32x4_shuffle::<0, 1, 4, 5>(ab_high, cd_high),
        i32x4_shuffle::<2, 3, 6, 7>(ab_high, cd_high),
    ];
    columns.map(|column| {
        let mut to = [0.0; 4];
        // SAFETY: four floats are one vector.
        unsafe { v128_store(to.as_mut_ptr().cast(), column) };
        to
    })
}

/// Columns of four rows of four.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
fn transposed(rows: [&[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|j| rows.map(|row| row[j]))
}

/// Products of all panels of `A` with all of `B`.
fn tiles<const R: usize, const C: usize>(
    tile: impl Tile<R, C>,
    a: &[f32],
    b: &[f32],
    [m, k, n]: [usize; 3],
    c: &mut [f32],
    stride: usize,
    add: bool,
) {
    for (j, b) in b.chunks_exact(C * k).take(n.div_ceil(C)).enumerate() {
        let columns = C.min(n - j * C);
        for (i, a) in a.chunks_exact(R * k).take(m.div_ceil(R)).enumerate() {
            let sums = tile.product(a, b);
            for (row, sums) in sums.iter().enumerate().take(m - i * R) {
                let c = &mut c[(i * R + row) * stride + j * C..][..columns];
                match <&mut [f32; C]>::try_from(&mut *c) {
                    Ok(c) if add => c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum),
                    Ok(c) => *c = *sums,
                    Err(_) if add => c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum),
                    Err(_) => c.copy_from_slice(&sums[..columns]),
                }
            }
        }
    }
}
