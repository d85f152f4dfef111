//! Convolutions as matrix products: the matrix of columns has a column for each output pixel, with all that the pixel sees; the
//! weights times it are the output. It is never whole: a tile of output pixels at a time, and a part of its rows.

use std::{cell::RefCell, ops::Range};

use super::Geometry;
use crate::nn::kernel::{Matrix, copy, product};

/// Elements of a tile of columns, 1 MB: enough columns to pay for packing the weights, and no more than a second cache holds.
const TILE: usize = 1 << 18;
/// Most columns of a tile.
const WIDTH: usize = 4096;
/// Rows of a tile, the depth of the kernel's panels, or a multiple of it where there are few columns.
const ROWS: usize = 256;
/// A 1×1 convolution multiplies the images themselves, one by one, when they have at least so many pixels.
const LARGE_IMAGE: usize = 128;

/// Scratch memory of a thread; it stays as large as it was needed, about [`TILE`] each.
#[derive(Default)]
struct Scratch {
    /// A tile of columns.
    columns: Vec<f32>,
    /// Output pixels of several images side by side.
    pixels: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The first elements of a scratch vector, whatever they hold.
fn take(scratch: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if scratch.len() < length {
        scratch.resize(length, 0.0);
    }
    &mut scratch[..length]
}

/// Pixels of one image, or all pixels of several.
struct Tile {
    images: Range<usize>,
    pixels: Range<usize>,
}

impl Tile {
    fn width(&self) -> usize {
        self.images.len() * self.pixels.len()
    }
}

/// Whether the matrix of columns of an image is the image.
fn is_identity(g: &Geometry) -> bool {
    g.window.kernel == [1, 1] && g.window.stride == [1, 1] && g.window.pads == [0; 4] && g.input == g.output
}

/// The tiles, and the rows of columns to do at a time.
fn tiles(g: &Geometry) -> (Vec<Tile>, usize) {
    let pixels = g.pixels();
    if pixels == 0 || g.groups * g.filters * g.seen() == 0 {
        return (Vec::new(), 1);
    }
    if is_identity(g) && pixels >= LARGE_IMAGE {
        return ((0..g.images).map(|image| Tile { images: image..image + 1, pixels: 0..pixels }).collect(), g.seen());
    }
    let width = (TILE / g.seen().min(ROWS)).min(WIDTH);
    let each = pixels.div_ceil(pixels.div_ceil(width)).next_multiple_of(8);
    let together = if each < pixels { 1 } else { (width.min(TILE / g.filters) / pixels).max(1) };
    let mut tiles = Vec::new();
    for first in (0..g.images).step_by(together) {
        let images = first..(first + together).min(g.images);
        tiles.extend((0..pixels).step_by(each).map(|start| Tile { images: images.clone(), pixels: start..(start + each).min(pixels) }));
    }
    let rows = TILE / tiles.iter().map(Tile::width).max().unwrap_or(1);
    (tiles, if rows > ROWS { rows - rows % ROWS } else { rows })
}

/// Goes over the rows of the columns of a tile, in pieces that lie in one row of output pixels. `each` is given where in the columns
/// the piece starts, how long it is, which part of it lies inside the image, and where in `x` that part starts.
fn pieces(g: &Geometry, group: usize, tile: &Tile, rows: Range<usize>, mut each: impl FnMut(usize, usize, Range<usize>, usize)) {
    let window = &g.window;
    let (taps, width) = (g.taps(), g.output[1]);
    let mut to = 0;
    for row in rows {
        let (channel, tap) = (row / taps, row % taps);
        let (down, right) = (tap / window.kernel[1], tap % window.kernel[1]);
        let inside_y = window.inside(0, down, g.output[0], g.input[0]);
        let inside_x = window.inside(1, right, g.output[1], g.input[1]);
        for image in tile.images.clone() {
            let plane = ((image * g.groups + group) * g.channels + channel) * g.plane();
            let (mut y, mut x, mut left) = (tile.pixels.start / width, tile.pixels.start % width, tile.pixels.len());
            while left > 0 {
                let length = left.min(width - x);
                let inside = inside_x.start.clamp(x, x + length)..inside_x.end.clamp(x, x + length);
                if inside.is_empty() || !inside_y.contains(&y) {
                    each(to, length, 0..0, 0);
                } else {
                    let from_y = y * window.stride[0] + down * window.dilation[0] - window.pads[0];
                    let from_x = inside.start * window.stride[1] + right * window.dilation[1] - window.pads[1];
                    each(to, length, inside.start - x..inside.end - x, plane + from_y * g.input[1] + from_x);
                }
                to += length;
                left -= length;
                (y, x) = (y + 1, 0);
            }
        }
    }
}

/// Makes some rows of the columns of a tile.
fn gather(g: &Geometry, group: usize, tile: &Tile, rows: Range<usize>, x: &[f32], columns: &mut [f32]) {
    let stride = g.window.stride[1];
    pieces(g, group, tile, rows, |to, length, inside, from| {
        let piece = &mut columns[to..to + length];
        piece[..inside.start].fill(0.0);
        piece[inside.end..].fill(0.0);
        let piece = &mut piece[inside];
        if stride == 1 {
            copy(&x[from..from + piece.len()], piece);
        } else {
            piece.iter_mut().zip(x[from..].iter().step_by(stride)).for_each(|(to, from)| *to = *from);
        }
    });
}

/// The columns of some pixels of a convolution of one group; pixels count through all images.
pub(super) fn seen(g: &Geometry, x: &[f32], pixels: &[usize]) -> Vec<f32> {
    let (window, count) = (&g.window, pixels.len());
    let mut columns = vec![0f32; g.seen() * count];
    for (row, columns) in columns.chunks_mut(count.max(1)).enumerate() {
        let (channel, tap) = (row / g.taps(), row % g.taps());
        let taps = [tap / window.kernel[1], tap % window.kernel[1]];
        let inside = [0, 1].map(|i| window.inside(i, taps[i], g.output[i], g.input[i]));
        for (to, pixel) in columns.iter_mut().zip(pixels) {
            let (image, at) = (pixel / g.pixels(), pixel % g.pixels());
            let at = [at / g.output[1], at % g.output[1]];
            if inside[0].contains(&at[0]) && inside[1].contains(&at[1]) {
                let [y, x_] = [0, 1].map(|i| at[i] * window.stride[i] + taps[i] * window.dilation[i] - window.pads[i]);
                *to = x[(image * g.channels + channel) * g.plane() + y * g.input[1] + x_];
            }
        }
    }
    columns
}

/// The adjoint of [`gather`]: adds columns to the elements they came from.
fn scatter(g: &Geometry, group: usize, tile: &Tile, rows: Range<usize>, columns: &[f32], x: &mut [f32]) {
    let stride = g.window.stride[1];
    pieces(g, group, tile, rows, |to, _, inside, from| {
        let piece = &columns[to + inside.start..to + inside.end];
        if stride == 1 {
            x[from..from + piece.len()].iter_mut().zip(piece).for_each(|(x, column)| *x += column);
        } else {
            x[from..].iter_mut().step_by(stride).zip(piece).for_each(|(x, column)| *x += column);
        }
    });
}

/// Where the channels of a group begin in `y`, for a tile.
fn start(g: &Geometry, group: usize, tile: &Tile) -> usize {
    (tile.images.start * g.groups + group) * g.filters * g.pixels() + tile.pixels.start
}

/// The output pixels of a tile as a matrix with a row for each channel: a part of `y` itself if the tile is of one image.
fn output<'a>(g: &Geometry, group: usize, tile: &Tile, y: &'a [f32], pixels: &'a mut Vec<f32>) -> Matrix<'a> {
    let count = g.pixels();
    if tile.images.len() == 1 {
        return Matrix::rows(&y[start(g, group, tile)..], count);
    }
    let pixels = take(pixels, g.filters * tile.width());
    let mut to = pixels.chunks_exact_mut(count);
    for filter in 0..g.filters {
        for image in tile.images.clone() {
            let from = ((image * g.groups + group) * g.filters + filter) * count;
            to.next().expect("a row for each").copy_from_slice(&y[from..from + count]);
        }
    }
    Matrix::rows(pixels, tile.width())
}

/// Parts of the rows of columns, each with its rows of a group's weights as a matrix `filters×rows`.
fn parts(seen: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..seen).step_by(rows).map(move |start| start..(start + rows).min(seen))
}

/// See [`Geometry::convolve`].
pub(super) fn convolve(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let (count, seen, filters) = (g.pixels(), g.seen(), g.filters);
    if seen == 0 && count > 0 {
        for (plane, bias) in y.chunks_exact_mut(count).zip(bias.unwrap_or(&[0.0]).iter().cycle()) {
            plane.fill(*bias);
        }
    }
    let (tiles, rows) = tiles(g);
    SCRATCH.with_borrow_mut(|scratch| {
        for tile in &tiles {
            let (one, width) = (tile.images.len() == 1, tile.width());
            for group in 0..g.groups {
                let bias = bias.map(|bias| &bias[group * filters..(group + 1) * filters]);
                let (out, stride) =
                    if one { (&mut y[start(g, group, tile)..], count) } else { (take(&mut scratch.pixels, filters * width), width) };
                for (row, bias) in bias.iter().flat_map(|bias| bias.iter()).enumerate() {
                    out[row * stride..][..width].fill(*bias);
                }
                for part in parts(seen, rows) {
                    let (k, add) = (part.len(), bias.is_some() || part.start > 0);
                    let w = Matrix::rows(&w[group * filters * seen + part.start..], seen);
                    let columns = if one && is_identity(g) {
                        &x[((tile.images.start * g.groups + group) * seen + part.start) * count + tile.pixels.start..]
                    } else {
                        let columns = take(&mut scratch.columns, k * width);
                        gather(g, group, tile, part, x, columns);
                        columns
                    };
                    let distance = if one && is_identity(g) { count } else { width };
                    product(filters, k, width, w, Matrix::rows(columns, distance), out, stride, add);
                }
                if !one {
                    let mut from = scratch.pixels.chunks_exact(count);
                    for filter in 0..filters {
                        for image in tile.images.clone() {
                            let to = ((image * g.groups + group) * filters + filter) * count;
                            y[to..to + count].copy_from_slice(from.next().expect("a row for each"));
                        }
                    }
                }
            }
        }
    });
}

/// See [`Geometry::adjoint`].
pub(super) fn adjoint(g: &Geometry, w: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (count, seen, filters) = (g.pixels(), g.seen(), g.filters);
    let (tiles, rows) = tiles(g);
    SCRATCH.with_borrow_mut(|scratch| {
        for tile in &tiles {
            let (one, width) = (tile.images.len() == 1, tile.width());
            for group in 0..g.groups {
                let dy = output(g, group, tile, dy, &mut scratch.pixels);
                for part in parts(seen, rows) {
                    let k = part.len();
                    let w = Matrix::rows(&w[group * filters * seen + part.start..], seen).t();
                    if one && is_identity(g) {
                        let to = ((tile.images.start * g.groups + group) * seen + part.start) * count + tile.pixels.start;
                        product(k, filters, width, w, dy, &mut dx[to..], count, true);
                    } else {
                        let columns = take(&mut scratch.columns, k * width);
                        product(k, filters, width, w, dy, columns, width, false);
                        scatter(g, group, tile, part, columns, dx);
                    }
                }
            }
        }
    });
}

/// See [`Geometry::by_weights`].
pub(super) fn by_weights(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (count, seen, filters) = (g.pixels(), g.seen(), g.filters);
    let (tiles, rows) = tiles(g);
    SCRATCH.with_borrow_mut(|scratch| {
        for tile in &tiles {
            let (one, width) = (tile.images.len() == 1, tile.width());
            for group in 0..g.groups {
                let dy = output(g, group, tile, dy, &mut scratch.pixels);
                for part in parts(seen, rows) {
                    let k = part.len();
                    let dw = &mut dw[group * filters * seen + part.start..];
                    let columns = if one && is_identity(g) {
                        Matrix::rows(&x[((tile.images.start * g.groups + group) * seen + part.start) * count + tile.pixels.start..], count)
                    } else {
                        let columns = take(&mut scratch.columns, k * width);
                        gather(g, group, tile, part, x, columns);
                        Matrix::rows(columns, width)
                    };
                    product(filters, width, k, dy, columns.t(), dw, seen, true);
                }
            }
        }
    });
}
