//! Convolutions with one input channel and few output channels in a group, plane by plane.

use super::Geometry;
use crate::nn::kernel::{copy, dots};

/// Most output channels of a group for which planes are faster than a matrix product.
const FILTERS: usize = 4;

/// How a padded plane is laid out so that what a kernel position sees of all windows is one slice: it is split by the remainders of row
/// and column modulo the strides. In a part, neighbouring elements are seen by neighbouring windows; its rows are a little longer than
/// the output's, which leaves some sums between the rows that mean nothing.
pub(super) struct Planes<'a> {
    g: &'a Geometry,
    /// Length of a part's rows.
    width: usize,
    /// Elements of a part.
    part: usize,
    /// Where the slice of each kernel position starts.
    slices: Vec<usize>,
}

impl Planes<'_> {
    /// None if matrix products are better: more than one channel, or pads, strides or dilations that make more of the padded plane
    /// than there is in input and output.
    pub(super) fn new(g: &Geometry) -> Option<Planes<'_>> {
        if g.channels != 1 || g.filters > FILTERS || g.filters == 0 || g.pixels() == 0 {
            return None;
        }
        let (kernel, stride, dilation) = (g.window.kernel, g.window.stride, g.window.dilation);
        let reach = |i: usize| Some((kernel[i] - 1).checked_mul(dilation[i])? / stride[i]);
        let width = g.output[1].checked_add(reach(1)?)?;
        let part = g.output[0].checked_add(reach(0)?)?.checked_add(1)?.checked_mul(width)?;
        if part.checked_mul(stride[0])?.checked_mul(stride[1])? > 4096 + 4 * (g.plane() + g.pixels()) {
            return None;
        }
        let slice = |down: usize, right: usize| {
            let (y, x) = (down * dilation[0], right * dilation[1]);
            (y % stride[0] * stride[1] + x % stride[1]) * part + y / stride[0] * width + x / stride[1]
        };
        let slices = (0..kernel[0]).flat_map(|down| (0..kernel[1]).map(move |right| slice(down, right))).collect();
        Some(Planes { g, width, part, slices })
    }

    /// Length of the slices.
    fn length(&self) -> usize {
        self.g.output[0] * self.width
    }

    fn zeros(&self) -> Vec<f32> {
        vec![0.0; self.part * self.g.window.stride[0] * self.g.window.stride[1]]
    }

    /// Goes over the plane in pieces of every `stride`-th element of a row: where one starts in the plane, where in the parts, and
    /// its length.
    fn pieces(&self, mut each: impl FnMut(usize, usize, usize)) {
        let ([stride_y, stride_x], pads, [height, width]) = (self.g.window.stride, self.g.window.pads, self.g.input);
        for y in 0..height {
            let (remainder_y, row) = ((y + pads[0]) % stride_y, (y + pads[0]) / stride_y);
            if (row + 1) * self.width > self.part {
                break;
            }
            for x in 0..stride_x.min(width) {
                let (remainder_x, column) = ((x + pads[1]) % stride_x, (x + pads[1]) / stride_x);
                let length = (width - x).div_ceil(stride_x).min(self.width.saturating_sub(column));
                if length > 0 {
                    let to = (remainder_y * stride_x + remainder_x) * self.part + row * self.width + column;
                    each(y * width + x, to, length);
                }
            }
        }
    }

    /// Lays a plane out. What lies outside it is not written, and has to be zero.
    fn split(&self, plane: &[f32], parts: &mut [f32]) {
        let stride = self.g.window.stride[1];
        self.pieces(|from, to, length| {
            let to = &mut parts[to..to + length];
            if stride == 1 {
                copy(&plane[from..from + length], to);
            } else {
                to.iter_mut().zip(plane[from..].iter().step_by(stride)).for_each(|(to, from)| *to = *from);
            }
        });
    }

    /// The adjoint of [`Planes::split`], added.
    fn merge(&self, parts: &[f32], plane: &mut [f32]) {
        let stride = self.g.window.stride[1];
        self.pieces(|to, from, length| {
            let from = &parts[from..from + length];
            if stride == 1 {
                plane[to..to + length].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            } else {
                plane[to..].iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += from);
            }
        });
    }

    /// Lays an output plane out in rows of [`Planes::width`]. What is between them is not written, and has to be zero.
    fn widen(&self, y: &[f32], rows: &mut [f32]) {
        for (row, y) in rows.chunks_exact_mut(self.width).zip(y.chunks_exact(self.g.output[1])) {
            copy(y, &mut row[..y.len()]);
        }
    }

    /// See [`Geometry::convolve`].
    pub(super) fn convolve(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (g, taps) = (self.g, self.g.taps());
        let (mut parts, mut sums) = (self.zeros(), vec![0.0; self.length()]);
        for (i, y) in y.chunks_exact_mut(g.pixels()).enumerate() {
            let (plane, output) = (i / g.filters, i % (g.groups * g.filters));
            if i % g.filters == 0 {
                self.split(&x[plane * g.plane()..][..g.plane()], &mut parts);
            }
            let terms: Vec<(usize, f32)> = self.slices.iter().copied().zip(w[output * taps..].iter().copied()).collect();
            weighted(&parts, &terms, bias.map_or(0.0, |bias| bias[output]), &mut sums);
            for (y, row) in y.chunks_exact_mut(g.output[1]).zip(sums.chunks_exact(self.width)) {
                copy(&row[..g.output[1]], y);
            }
        }
    }

    /// See [`Geometry::adjoint`]. An element of a part is seen by the windows that lie before it by the offsets of its kernel
    /// positions: sums of slices too, of `dy` after some zeros.
    pub(super) fn adjoint(&self, w: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (g, taps) = (self.g, self.g.taps());
        let offset = |slice: &usize| slice % self.part;
        let zeros = self.slices.iter().map(offset).max().unwrap_or(0);
        let (mut parts, mut sums, mut rows) = (self.zeros(), vec![0.0; self.part], vec![0.0; zeros + self.part]);
        if g.plane() == 0 {
            return;
        }
        for (i, dx) in dx.chunks_exact_mut(g.plane()).enumerate() {
            for filter in 0..g.filters {
                let output = i * g.filters + filter;
                self.widen(&dy[output * g.pixels()..][..g.pixels()], &mut rows[zeros..zeros + self.length()]);
                let w = &w[output % (g.groups * g.filters) * taps..][..taps];
                for (number, part) in parts.chunks_exact_mut(self.part).enumerate() {
                    let own = self.slices.iter().zip(w).filter(|(slice, _)| *slice / self.part == number);
                    let terms: Vec<(usize, f32)> = own.map(|(slice, w)| (zeros - offset(slice), *w)).collect();
                    if filter == 0 {
                        weighted(&rows, &terms, 0.0, part);
                    } else {
                        weighted(&rows, &terms, 0.0, &mut sums);
                        part.iter_mut().zip(&sums).for_each(|(x, sum)| *x += sum);
                    }
                }
            }
            self.merge(&parts, dx);
        }
    }

    /// See [`Geometry::by_weights`].
    pub(super) fn by_weights(&self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let (g, taps) = (self.g, self.g.taps());
        let (mut parts, mut rows) = (self.zeros(), vec![0.0; self.length()]);
        for (i, dy) in dy.chunks_exact(g.pixels()).enumerate() {
            let (plane, output) = (i / g.filters, i % (g.groups * g.filters));
            if i % g.filters == 0 {
                self.split(&x[plane * g.plane()..][..g.plane()], &mut parts);
            }
            self.widen(dy, &mut rows);
            for start in (0..rows.len()).step_by(BLOCK) {
                let rows = &rows[start..(start + BLOCK).min(rows.len())];
                let dw = &mut dw[output * taps..][..taps];
                for (slices, dw) in self.slices.chunks(3).zip(dw.chunks_mut(3)) {
                    let part = |slice: usize| &parts[slice + start..][..rows.len()];
                    if let [a, b, c] = *slices {
                        let dots = dots(rows, [part(a), part(b), part(c)]);
                        dw.iter_mut().zip(dots).for_each(|(dw, dot)| *dw += dot);
                    } else {
                        slices.iter().zip(dw).for_each(|(slice, dw)| *dw += dots(rows, [part(*slice)])[0]);
                    }
                }
            }
        }
    }
}

/// Elements to take through all kernel positions at a time: they stay in the first cache.
const BLOCK: usize = 1024;

/// `to[i] ← bias + Σ w·from[start + i]` over terms `(start, w)`.
fn weighted(from: &[f32], terms: &[(usize, f32)], bias: f32, to: &mut [f32]) {
    for (block, to) in to.chunks_mut(BLOCK).enumerate() {
        to.fill(bias);
        let length = to.len();
        for group in terms.chunks(3) {
            let slice = |(start, _): (usize, f32)| &from[start + block * BLOCK..][..length];
            if let [a, b, c] = *group {
                let (x, y, z) = (slice(a), slice(b), slice(c));
                for (((to, x), y), z) in to.iter_mut().zip(x).zip(y).zip(z) {
                    *to += a.1 * x + b.1 * y + c.1 * z;
                }
            } else {
                for term in group {
                    let x = slice(*term);
                    to.iter_mut().zip(x).for_each(|(to, x)| *to += term.1 * x);
                }
            }
        }
    }
}
