//! Which element of an input stands at each index of a result.

use super::{
    super::{Tensor, Value},
    add,
};

/// How far apart neighbours on each axis are. No overflow when there are elements.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// An axis of a [`View`]: its length, and how far apart neighbours are in the input and in the result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) len: usize,
    pub(super) from: isize,
    pub(super) to: usize,
}

/// Which element of an input stands at each index of a result, which is in C order. There is at least one element.
#[derive(Debug)]
pub(super) struct View {
    pub(super) start: usize,
    pub(super) axes: Vec<Axis>,
    pub(super) len: usize,
}

impl View {
    /// From lengths of the result's axes and strides in the input.
    pub(super) fn new(start: usize, axes: impl IntoIterator<Item = (usize, isize)>) -> View {
        let mut merged: Vec<Axis> = Vec::new();
        for (len, from) in axes.into_iter().filter(|&(len, _)| len != 1) {
            match merged.last_mut() {
                Some(outer) if outer.from == from * len as isize => *outer = Axis { len: outer.len * len, from, to: 1 },
                _ => merged.push(Axis { len, from, to: 1 }),
            }
        }
        let mut len = 1;
        for axis in merged.iter_mut().rev() {
            axis.to = len;
            len *= axis.len;
        }
        View { start, axes: merged, len }
    }

    /// The axes of a tensor in another order.
    pub(super) fn permuted(shape: &[usize], axes: &[usize]) -> View {
        let strides = strides(shape);
        View::new(0, axes.iter().map(|&a| (shape[a], strides[a] as isize)))
    }

    /// Whether the result is the input, of `len` elements.
    pub(super) fn is_identity(&self, len: usize) -> bool {
        self.start == 0 && self.len == len && matches!(self.axes[..], [] | [Axis { from: 1, .. }])
    }

    /// The result.
    pub(super) fn gather(&self, from: &[f32]) -> Vec<f32> {
        let mut to = vec![0.0; self.len];
        let Some((&last, outer)) = self.axes.split_last() else {
            to[0] = from[self.start];
            return to;
        };
        let start = (self.start as isize, 0);
        match last.from {
            1 => walk(outer, start, &mut |f, t| to[t..t + last.len].copy_from_slice(&from[f..f + last.len])),
            0 => walk(outer, start, &mut |f, t| to[t..t + last.len].fill(from[f])),
            _ => match outer.iter().position(|axis| axis.from == 1) {
                Some(i) => {
                    let mut rest = outer.to_vec();
                    let rows = rest.remove(i);
                    walk(&rest, start, &mut |f, t| transpose(from, f, rows, last, &mut to[t..]));
                }
                None => walk(outer, start, &mut |f, t| {
                    let mut at = f as isize;
                    for y in &mut to[t..t + last.len] {
                        *y = from[at as usize];
                        at += last.from;
                    }
                }),
            },
        }
        to
    }

    /// The adjoint of [`View::gather`]: adds every element of a result to the element of the input it came from.
    pub(super) fn scatter(&self, result: &[f32], input: &mut [f32]) {
        let Some((&last, outer)) = self.axes.split_last() else {
            input[self.start] += result[0];
            return;
        };
        let start = (self.start as isize, 0);
        match last.from {
            1 => walk(outer, start, &mut |f, t| add(&mut input[f..f + last.len], &result[t..t + last.len])),
            0 => walk(outer, start, &mut |f, t| input[f] += sum(&result[t..t + last.len])),
            _ => walk(outer, start, &mut |f, t| {
                let mut at = f as isize;
                for g in &result[t..t + last.len] {
                    input[at as usize] += g;
                    at += last.from;
                }
            }),
        }
    }
}

/// Visits every index of some axes, in order, with the positions in input and result.
pub(super) fn walk(axes: &[Axis], at: (isize, usize), f: &mut impl FnMut(usize, usize)) {
    match axes {
        [] => f(at.0 as usize, at.1),
        [axis, rest @ ..] => {
            let (mut from, mut to) = at;
            for _ in 0..axis.len {
                walk(rest, (from, to), f);
                from += axis.from;
                to += axis.to;
            }
        }
    }
}

/// Transposes a matrix whose `rows` are neighbours in the input and whose `columns` are neighbours in the result. In tiles: of each, a
/// few cache lines are read and a few are written, and all that was fetched is used.
pub(super) fn transpose(from: &[f32], start: usize, rows: Axis, columns: Axis, to: &mut [f32]) {
    const TILE: usize = 16;
    for column in (0..columns.len).step_by(TILE) {
        let width = TILE.min(columns.len - column);
        let from_column = start as isize + column as isize * columns.from;
        for row in (0..rows.len).step_by(TILE) {
            for row in row..rows.len.min(row + TILE) {
                let mut at = from_column + row as isize;
                for y in &mut to[row * rows.to + column..][..width] {
                    *y = from[at as usize];
                    at += columns.from;
                }
            }
        }
    }
}

/// A sum, in eight strands.
pub(super) fn sum(x: &[f32]) -> f32 {
    let mut strands = [0.0; 8];
    let chunks = x.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    chunks.for_each(|chunk| strands.iter_mut().zip(chunk).for_each(|(s, x)| *s += x));
    strands.iter().sum::<f32>() + rest
}

/// A tensor with its axes in another order, read as of shape `shape`, which it then gets for good: `result`.
pub(super) fn permute(x: Value<'_>, shape: &[usize], axes: &[usize], result: Vec<usize>) -> Tensor {
    if x.is_empty() {
        return Tensor::new(result, Vec::new());
    }
    let view = View::permuted(shape, axes);
    if view.is_identity(x.len()) { x.into_owned().reshaped(result) } else { Tensor::new(result, view.gather(&x.data)) }
}

/// The permutation that undoes another.
pub(super) fn inverse(axes: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    inverse
}
