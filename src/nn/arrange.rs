//! Operators that move elements and compute nothing. All attributes are resolved: axes counted from the start, sizes known.
//!
//! Most of them are a `View`: the element at an index of the result stands in the input at a number that is affine in the index, so
//! a start and one stride per axis say it all, and the reverse pass adds along the same strides. Axes that lie end to end are merged
//! first, so that the innermost loop is long, and mostly a copy of a slice.

use super::{Needs, Operator, Tape, Tensor, Value};
use crate::limits;

/// The shape of the only input.
pub(super) fn only<'a>(inputs: &[&'a [usize]]) -> Result<&'a [usize], String> {
    match inputs {
        [shape] => Ok(shape),
        _ => Err(format!("it has {} inputs, not 1", inputs.len())),
    }
}

/// The shape of a result, if a tensor of it may exist.
pub(super) fn bounded(shape: Vec<usize>) -> Result<Vec<usize>, String> {
    match limits::element_count(&shape) {
        Some(_) => Ok(shape),
        None if shape.len() > limits::DIMENSIONS => Err(format!("its result has {} axes, more than {}", shape.len(), limits::DIMENSIONS)),
        None => Err(format!("its result, of shape {shape:?}, has more than {} elements", limits::WEIGHTS)),
    }
}

/// The value of the only input.
pub(super) fn take(inputs: Vec<Value<'_>>) -> Value<'_> {
    inputs.into_iter().next().expect("one input, says shapes")
}

/// The cotangent of the only output, when the derivative by the only input is wanted.
pub(super) fn cotangent(cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Option<Tensor> {
    cotangents.into_iter().next().flatten().filter(|_| wanted.contains(&true))
}

/// How far apart neighbours on each axis are. No overflow when there are elements.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// An axis of a [`View`]: its length, and how far apart neighbours are in the input and in the result.
#[derive(Debug, Clone, Copy)]
struct Axis {
    len: usize,
    from: isize,
    to: usize,
}

/// Which element of an input stands at each index of a result, which is in C order. There is at least one element.
#[derive(Debug)]
struct View {
    start: usize,
    axes: Vec<Axis>,
    len: usize,
}

impl View {
    /// From lengths of the result's axes and strides in the input.
    fn new(start: usize, axes: impl IntoIterator<Item = (usize, isize)>) -> View {
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
    fn permuted(shape: &[usize], axes: &[usize]) -> View {
        let strides = strides(shape);
        View::new(0, axes.iter().map(|&a| (shape[a], strides[a] as isize)))
    }

    /// Whether the result is the input, of `len` elements.
    fn is_identity(&self, len: usize) -> bool {
        self.start == 0 && self.len == len && matches!(self.axes[..], [] | [Axis { from: 1, .. }])
    }

    /// The result.
    fn gather(&self, from: &[f32]) -> Vec<f32> {
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
    fn scatter(&self, result: &[f32], input: &mut [f32]) {
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
fn walk(axes: &[Axis], at: (isize, usize), f: &mut impl FnMut(usize, usize)) {
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
fn transpose(from: &[f32], start: usize, rows: Axis, columns: Axis, to: &mut [f32]) {
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

/// `a += b`.
pub(super) fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

/// A sum, in eight strands.
fn sum(x: &[f32]) -> f32 {
    let mut strands = [0.0; 8];
    let chunks = x.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    chunks.for_each(|chunk| strands.iter_mut().zip(chunk).for_each(|(s, x)| *s += x));
    strands.iter().sum::<f32>() + rest
}

/// A tensor with its axes in another order, read as of shape `shape`, which it then gets for good: `result`.
fn permute(x: Value<'_>, shape: &[usize], axes: &[usize], result: Vec<usize>) -> Tensor {
    if x.is_empty() {
        return Tensor::new(result, Vec::new());
    }
    let view = View::permuted(shape, axes);
    if view.is_identity(x.len()) { x.into_owned().reshaped(result) } else { Tensor::new(result, view.gather(&x.data)) }
}

/// The permutation that undoes another.
fn inverse(axes: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    inverse
}

/// Number of elements before an axis, its length, and the number of elements from one to the next on it. `None` without elements.
pub(super) fn around(shape: &[usize], axis: usize) -> Option<(usize, usize, usize)> {
    let product = |lengths: &[usize]| lengths.iter().product();
    (!shape.contains(&0)).then(|| (product(&shape[..axis]), shape[axis], product(&shape[axis + 1..])))
}

/// An axis that is there.
fn within(axis: usize, shape: &[usize]) -> Result<usize, String> {
    if axis < shape.len() { Ok(axis) } else { Err(format!("its axis {axis} is not among the {} of its input", shape.len())) }
}

/// Reshape, Flatten, Squeeze, Unsqueeze: the same elements in another shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshape {
    /// The new shape.
    pub shape: Vec<usize>,
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        let result = bounded(self.shape.clone())?;
        match (limits::element_count(shape), limits::element_count(&result)) {
            (Some(a), Some(b)) if a == b => Ok(vec![result]),
            _ => Err(format!("its input, of shape {shape:?}, cannot be reshaped to {result:?}")),
        }
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        vec![take(inputs).into_owned().reshaped(self.shape.clone())]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        vec![cotangent(cotangents, wanted).map(|g| g.reshaped(tape.input_shapes[0]))]
    }
}

/// Transpose: axis `i` of the output is axis `axes[i]` of the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Transpose {
    /// The axes.
    pub axes: Vec<usize>,
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..shape.len()) {
            return Err(format!("its axes {:?} are no permutation of the {} of its input", self.axes, shape.len()));
        }
        Ok(vec![bounded(self.axes.iter().map(|&a| shape[a]).collect())?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let shape = x.shape.clone();
        let result = self.axes.iter().map(|&a| shape[a]).collect();
        vec![permute(x, &shape, &self.axes, result)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |g| permute(Value::Owned(g), tape.output_shapes[0], &inverse(&self.axes), tape.input_shapes[0].to_vec());
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

/// Concat of any number of inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Concat {
    /// The axis they are joined on.
    pub axis: usize,
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let Some((first, others)) = inputs.split_first() else { return Err("it has no inputs".into()) };
        let axis = within(self.axis, first)?;
        let mut result = first.to_vec();
        for shape in others {
            if shape.len() != first.len() || (0..first.len()).any(|i| i != axis && shape[i] != first[i]) {
                return Err(format!("its inputs, of shapes {first:?} and {shape:?}, differ in more than axis {axis}"));
            }
            result[axis] = result[axis].checked_add(shape[axis]).ok_or("its inputs are too long together")?;
        }
        Ok(vec![bounded(result)?])
    }
    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        if inputs.len() == 1 {
            return vec![take(inputs).into_owned()];
        }
        let mut shape = inputs[0].shape.clone();
        shape[self.axis] = inputs.iter().map(|x| x.shape[self.axis]).sum();
        let (outer, len, inner) = around(&shape, self.axis).unwrap_or_default();
        let mut data = Vec::with_capacity(outer * len * inner);
        inputs.retain(|x| !x.is_empty());
        for i in 0..outer {
            for x in &inputs {
                let chunk = x.shape[self.axis] * inner;
                data.extend_from_slice(&x.data[i * chunk..][..chunk]);
            }
        }
        vec![Tensor::new(shape, data)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangent(cotangents, wanted) else { return vec![None; wanted.len()] };
        if wanted.len() == 1 {
            return vec![Some(g)];
        }
        let mut at = 0;
        let parts = tape.input_shapes.iter().zip(wanted).map(|(shape, &wanted)| {
            at += shape[self.axis];
            wanted.then(|| cut(&g, self.axis, at - shape[self.axis], shape[self.axis]))
        });
        parts.collect()
    }
}

/// `len` elements of an axis, from `start`.
fn cut(x: &Tensor, axis: usize, start: usize, len: usize) -> Tensor {
    let mut shape = x.shape.clone();
    shape[axis] = len;
    let mut data = Vec::new();
    if let Some((outer, whole, inner)) = around(&x.shape, axis) {
        data.reserve_exact(outer * len * inner);
        for i in 0..outer {
            data.extend_from_slice(&x.data[(i * whole + start) * inner..][..len * inner]);
        }
    }
    Tensor::new(shape, data)
}

/// Split into several outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The axis that is cut.
    pub axis: usize,
    /// Lengths of the outputs on it.
    pub sizes: Vec<usize>,
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        let axis = within(self.axis, shape)?;
        let total = self.sizes.iter().try_fold(0usize, |total, &size| total.checked_add(size));
        if total != Some(shape[axis]) || self.sizes.is_empty() {
            return Err(format!("the lengths of its outputs do not add up to the {} elements of axis {axis}", shape[axis]));
        }
        let part = |&size: &usize| {
            let mut shape = shape.to_vec();
            shape[axis] = size;
            bounded(shape)
        };
        self.sizes.iter().map(part).collect()
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        if self.sizes.len() == 1 {
            return vec![x.into_owned()];
        }
        let mut at = 0;
        let parts = self.sizes.iter().map(|&size| {
            at += size;
            cut(&x, self.axis, at - size, size)
        });
        parts.collect()
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        if !wanted.contains(&true) {
            return vec![None];
        }
        if self.sizes.len() == 1 {
            return vec![cotangents.remove(0)];
        }
        let shape = tape.input_shapes[0];
        let mut data = Vec::new();
        if let Some((outer, len, inner)) = around(shape, self.axis) {
            data.reserve_exact(outer * len * inner);
            for i in 0..outer {
                for (g, size) in cotangents.iter().zip(&self.sizes) {
                    let chunk = size * inner;
                    match g {
                        Some(g) => data.extend_from_slice(&g.data[i * chunk..][..chunk]),
                        None => data.resize(data.len() + chunk, 0.0),
                    }
                }
            }
        }
        vec![Some(Tensor::new(shape, data))]
    }
}

/// Slice: on each axis `count` elements from `start`, `step` apart (negative: backwards).
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// `(start, step, count)` of every axis.
    pub ranges: Vec<(usize, isize, usize)>,
}

impl Slice {
    /// What is taken of an input of some elements; at least one.
    fn view(&self, shape: &[usize]) -> View {
        let mut start = 0;
        let mut axes = Vec::with_capacity(shape.len());
        for (&(first, step, count), stride) in self.ranges.iter().zip(strides(shape)) {
            start += first * stride;
            // A step that is never taken may be of any size.
            axes.push((count, if count > 1 { step * stride as isize } else { 0 }));
        }
        View::new(start, axes)
    }
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        if self.ranges.len() != shape.len() {
            return Err(format!("it slices {} axes, but its input has {}", self.ranges.len(), shape.len()));
        }
        for (axis, (&(start, step, count), &len)) in self.ranges.iter().zip(shape).enumerate() {
            let last = start as i128 + step as i128 * (count as i128 - 1);
            if count > 0 && (step == 0 || start >= len || !(0..len as i128).contains(&last)) {
                return Err(format!("its {count} elements from {start} in steps of {step} are not all among the {len} of axis {axis}"));
            }
        }
        Ok(vec![bounded(self.ranges.iter().map(|r| r.2).collect())?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let shape: Vec<usize> = self.ranges.iter().map(|r| r.2).collect();
        if shape.contains(&0) {
            return vec![Tensor::new(shape, Vec::new())];
        }
        let view = self.view(&x.shape);
        vec![if view.is_identity(x.len()) { x.into_owned() } else { Tensor::new(shape, view.gather(&x.data)) }]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |g: Tensor| {
            let mut dx = Tensor::zeros(tape.input_shapes[0]);
            if !g.is_empty() {
                self.view(&dx.shape).scatter(&g.data, &mut dx.data);
            }
            dx
        };
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

/// What Pad fills with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// A value.
    Constant(f32),
    /// The elements mirrored at the edge, which is not repeated.
    Reflect,
    /// The element at the edge.
    Edge,
}

/// Pad; negative numbers cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Elements added before and after, on every axis.
    pub pads: Vec<(isize, isize)>,
    /// What they are.
    pub fill: Fill,
}

/// What becomes of one axis: `skip` elements are dropped, `keep` kept, and `before` and `after` added around those.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Margin {
    skip: usize,
    keep: usize,
    before: usize,
    after: usize,
}

impl Margin {
    /// Of an axis of length `len`; `None` when more is cut than there is.
    fn new(len: usize, (before, after): (isize, isize)) -> Option<Margin> {
        let cut = |pad: isize| pad.min(0).unsigned_abs();
        let keep = len.checked_sub(cut(before))?.checked_sub(cut(after))?;
        Some(Margin { skip: cut(before), keep, before: before.max(0) as usize, after: after.max(0) as usize })
    }

    fn len(&self) -> usize {
        self.before + self.keep + self.after
    }

    /// Which element of the input stands at `i` of the result.
    fn source(&self, i: usize, fill: Fill) -> Option<usize> {
        let last = self.keep.wrapping_sub(1);
        let kept = match (i.checked_sub(self.before), fill) {
            (Some(i), _) if i < self.keep => Some(i),
            (_, Fill::Constant(_)) => None,
            (None, Fill::Edge) => Some(0),
            (None, Fill::Reflect) => Some(self.before - i),
            (Some(_), Fill::Edge) => Some(last),
            (Some(i), Fill::Reflect) => Some(2 * last - i),
        };
        kept.map(|i| i + self.skip)
    }
}

impl Pad {
    /// Margins of all axes, with strides in the input; the last axes that stay as they are count as one.
    fn margins(&self, shape: &[usize]) -> Vec<(Margin, usize)> {
        let margin = |(&len, &pads): (&usize, &(isize, isize))| Margin::new(len, pads).expect("checked by shapes");
        let mut margins: Vec<(Margin, usize)> = shape.iter().zip(&self.pads).map(margin).zip(strides(shape)).collect();
        while let [.., (a, stride_a), (b, stride_b)] = &mut margins[..] {
            if [a.skip, a.before, a.after, b.skip, b.before, b.after] != [0; 6] || *stride_a != b.keep * *stride_b {
                break;
            }
            a.keep *= b.keep;
            *stride_a = *stride_b;
            margins.pop();
        }
        margins
    }

    /// Visits the rows of the result (its last axis) in order, with where in the input each begins, if there.
    fn rows(&self, margins: &[(Margin, usize)], at: Option<usize>, f: &mut impl FnMut(Option<usize>)) {
        match margins {
            [] | [_] => f(at),
            [(margin, stride), rest @ ..] => {
                for i in 0..margin.len() {
                    let at = at.zip(margin.source(i, self.fill)).map(|(at, i)| at + i * stride);
                    self.rows(rest, at, f);
                }
            }
        }
    }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        if self.pads.len() != shape.len() {
            return Err(format!("it pads {} axes, but its input has {}", self.pads.len(), shape.len()));
        }
        let mut result = Vec::with_capacity(shape.len());
        for (axis, (&len, &pads)) in shape.iter().zip(&self.pads).enumerate() {
            let margin = Margin::new(len, pads).ok_or_else(|| format!("it cuts more than the {len} elements of axis {axis}"))?;
            let (keep, most) = (margin.keep, margin.before.max(margin.after));
            match self.fill {
                Fill::Reflect if most > 0 && most >= keep => {
                    return Err(format!(
                        "it adds {most} mirrored elements to the {keep} of axis {axis}; at most {} can be",
                        keep.max(1) - 1
                    ));
                }
                Fill::Edge if most > 0 && keep == 0 => return Err(format!("axis {axis} has no edge to repeat, as it is empty")),
                _ => {}
            }
            let sum = margin.before.checked_add(keep).and_then(|sum| sum.checked_add(margin.after));
            result.push(sum.ok_or_else(|| format!("it makes axis {axis} too long"))?);
        }
        Ok(vec![bounded(result)?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        if self.pads.iter().all(|&pads| pads == (0, 0)) {
            return vec![x.into_owned()];
        }
        let grown = |(&len, &(before, after)): (&usize, &(isize, isize))| len.wrapping_add_signed(before).wrapping_add_signed(after);
        let shape: Vec<usize> = x.shape.iter().zip(&self.pads).map(grown).collect();
        let len = if shape.contains(&0) { 0 } else { shape.iter().product() };
        let value = if let Fill::Constant(value) = self.fill { value } else { 0.0 };
        if len == 0 || x.is_empty() {
            return vec![Tensor::new(shape, vec![value; len])];
        }
        let margins = self.margins(&x.shape);
        let row = margins[margins.len() - 1].0;
        let mut out = Vec::with_capacity(len);
        self.rows(&margins, Some(0), &mut |at| {
            let Some(at) = at else { return out.resize(out.len() + row.len(), value) };
            let kept = &x.data[at + row.skip..][..row.keep];
            match self.fill {
                Fill::Constant(_) => out.resize(out.len() + row.before, value),
                Fill::Edge if row.before > 0 => out.resize(out.len() + row.before, kept[0]),
                Fill::Reflect if row.before > 0 => out.extend(kept[1..=row.before].iter().rev()),
                _ => {}
            }
            out.extend_from_slice(kept);
            match self.fill {
                Fill::Constant(_) => out.resize(out.len() + row.after, value),
                Fill::Edge if row.after > 0 => out.resize(out.len() + row.after, kept[row.keep - 1]),
                Fill::Reflect if row.after > 0 => out.extend(kept[row.keep - 1 - row.after..row.keep - 1].iter().rev()),
                _ => {}
            }
        });
        vec![Tensor::new(shape, out)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangent(cotangents, wanted) else { return vec![None] };
        if self.pads.iter().all(|&pads| pads == (0, 0)) {
            return vec![Some(g)];
        }
        let mut dx = Tensor::zeros(tape.input_shapes[0]);
        if g.is_empty() || dx.is_empty() {
            return vec![Some(dx)];
        }
        let margins = self.margins(&dx.shape);
        let row = margins[margins.len() - 1].0;
        let mut rows = g.data.chunks_exact(row.len());
        self.rows(&margins, Some(0), &mut |at| {
            let (Some(g), Some(at)) = (rows.next(), at) else { return };
            let kept = &mut dx.data[at + row.skip..][..row.keep];
            let (before, rest) = g.split_at(row.before);
            let (middle, after) = rest.split_at(row.keep);
            add(kept, middle);
            match self.fill {
                Fill::Edge if row.keep > 0 => {
                    kept[0] += sum(before);
                    kept[row.keep - 1] += sum(after);
                }
                Fill::Reflect if row.keep > 0 => {
                    kept[1..].iter_mut().zip(before.iter().rev()).for_each(|(k, g)| *k += g);
                    kept[..row.keep - 1].iter_mut().rev().zip(after).for_each(|(k, g)| *k += g);
                }
                _ => {}
            }
        });
        vec![Some(dx)]
    }
}

/// Expand: broadcast to a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Expand {
    /// The shape of the result.
    pub shape: Vec<usize>,
}

impl Expand {
    fn view(&self, shape: &[usize]) -> View {
        let new = self.shape.len() - shape.len();
        let stretched = |(i, stride): (usize, usize)| if shape[i] == 1 { 0 } else { stride as isize };
        let strides = std::iter::repeat_n(0, new).chain(strides(shape).into_iter().enumerate().map(stretched));
        View::new(0, self.shape.iter().copied().zip(strides))
    }
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        let fits = self.shape.len() >= shape.len() && {
            let last = &self.shape[self.shape.len() - shape.len()..];
            shape.iter().zip(last).all(|(&from, &to)| from == to || from == 1)
        };
        if !fits {
            return Err(format!("its input, of shape {shape:?}, cannot be expanded to {:?}", self.shape));
        }
        Ok(vec![bounded(self.shape.clone())?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        if self.shape.contains(&0) {
            return vec![Tensor::new(self.shape.clone(), Vec::new())];
        }
        let view = self.view(&x.shape);
        if view.is_identity(x.len()) {
            return vec![x.into_owned().reshaped(self.shape.clone())];
        }
        vec![Tensor::new(self.shape.clone(), view.gather(&x.data))]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |g: Tensor| {
            let shape = tape.input_shapes[0];
            if g.is_empty() {
                return Tensor::zeros(shape);
            }
            let view = self.view(shape);
            if view.is_identity(g.len()) {
                return g.reshaped(shape);
            }
            let mut dx = Tensor::zeros(shape);
            view.scatter(&g.data, &mut dx.data);
            dx
        };
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

/// Gather with constant indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// The axis that is looked up.
    pub axis: usize,
    /// The indices, not negative.
    pub indices: Vec<usize>,
    /// Their shape, which takes the place of the axis.
    pub indices_shape: Vec<usize>,
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        let axis = within(self.axis, shape)?;
        if limits::element_count(&self.indices_shape) != Some(self.indices.len()) {
            return Err(format!("its {} indices do not have the shape {:?}", self.indices.len(), self.indices_shape));
        }
        if let Some(index) = self.indices.iter().find(|&&index| index >= shape[axis]) {
            return Err(format!("its index {index} is not among the {} of axis {axis}", shape[axis]));
        }
        Ok(vec![bounded([&shape[..axis], &self.indices_shape, &shape[axis + 1..]].concat())?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let shape = [&x.shape[..self.axis], &self.indices_shape, &x.shape[self.axis + 1..]].concat();
        let mut data = Vec::new();
        if let Some((outer, len, inner)) = around(&x.shape, self.axis) {
            data.reserve_exact(outer * self.indices.len() * inner);
            for x in x.data.chunks_exact(len * inner).take(outer) {
                if inner == 1 {
                    data.extend(self.indices.iter().map(|&i| x[i]));
                } else {
                    self.indices.iter().for_each(|&i| data.extend_from_slice(&x[i * inner..][..inner]));
                }
            }
        }
        vec![Tensor::new(shape, data)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let back = |g: Tensor| {
            let mut dx = Tensor::zeros(tape.input_shapes[0]);
            if let (Some((_, len, inner)), false) = (around(tape.input_shapes[0], self.axis), g.is_empty()) {
                for (dx, g) in dx.data.chunks_exact_mut(len * inner).zip(g.data.chunks_exact(self.indices.len() * inner)) {
                    self.indices.iter().zip(g.chunks_exact(inner)).for_each(|(&i, g)| add(&mut dx[i * inner..][..inner], g));
                }
            }
            dx
        };
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

/// Axes of a batch of images, or why it is none.
fn images(shape: &[usize], block: usize) -> Result<[usize; 4], String> {
    match *shape {
        _ if block == 0 => Err("its blocks have size 0".into()),
        [n, c, h, w] => Ok([n, c, h, w]),
        _ => Err(format!("its input has {} axes, not 4", shape.len())),
    }
}

/// DepthToSpace.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthToSpace {
    /// Side of the blocks.
    pub block: usize,
    /// Mode CRD (channels outermost), not DCR.
    pub crd: bool,
}

impl DepthToSpace {
    /// The input's shape, channels taken apart, the order of those axes in the result, and the result's shape.
    fn plan(&self, shape: &[usize]) -> ([usize; 6], [usize; 6], Vec<usize>) {
        let (b, [n, c, h, w]) = (self.block, [shape[0], shape[1], shape[2], shape[3]]);
        let depth = c / (b * b);
        let result = vec![n, depth, h * b, w * b];
        if self.crd { ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3], result) } else { ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2], result) }
    }
}

impl Operator for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let [n, c, h, w] = images(only(inputs)?, self.block)?;
        let b = self.block;
        let Some(area) = b.checked_mul(b).filter(|area| c.is_multiple_of(*area)) else {
            return Err(format!("its {c} channels are no multiple of blocks of {b}×{b}"));
        };
        let (h, w) = h.checked_mul(b).zip(w.checked_mul(b)).ok_or("its result is too large")?;
        Ok(vec![bounded(vec![n, c / area, h, w])?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let (apart, axes, result) = self.plan(&x.shape);
        vec![permute(x, &apart, &axes, result)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let (apart, axes, _) = self.plan(tape.input_shapes[0]);
        let permuted = axes.map(|a| apart[a]);
        let back = |g| permute(Value::Owned(g), &permuted, &inverse(&axes), tape.input_shapes[0].to_vec());
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

/// SpaceToDepth.
#[derive(Debug, Clone, PartialEq)]
pub struct SpaceToDepth {
    /// Side of the blocks.
    pub block: usize,
}

impl SpaceToDepth {
    /// The input's shape, height and width taken apart, the order of those axes in the result, and the result's shape.
    fn plan(&self, shape: &[usize]) -> ([usize; 6], [usize; 6], Vec<usize>) {
        let (b, [n, c, h, w]) = (self.block, [shape[0], shape[1], shape[2] / self.block, shape[3] / self.block]);
        ([n, c, h, b, w, b], [0, 3, 5, 1, 2, 4], vec![n, c * b * b, h, w])
    }
}

impl Operator for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let [n, c, h, w] = images(only(inputs)?, self.block)?;
        let b = self.block;
        if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
            return Err(format!("its {h}×{w} elements are no multiple of blocks of {b}×{b}"));
        }
        let c = b.checked_mul(b).and_then(|area| area.checked_mul(c)).ok_or("its result is too large")?;
        Ok(vec![bounded(vec![n, c, h / b, w / b])?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let (apart, axes, result) = self.plan(&x.shape);
        vec![permute(x, &apart, &axes, result)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let (apart, axes, _) = self.plan(tape.input_shapes[0]);
        let permuted = axes.map(|a| apart[a]);
        let back = |g| permute(Value::Owned(g), &permuted, &inverse(&axes), tape.input_shapes[0].to_vec());
        vec![cotangent(cotangents, wanted).map(back)]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{nn::check, testing::noise};

    /// Small integers: sums and products of them are exact.
    pub fn integers(shape: &[usize], seed: u64) -> Tensor {
        let n = shape.iter().product();
        Tensor::new(shape, noise(n, seed).iter().map(|x| (x * 16.0).round()).collect())
    }

    pub fn run(op: &dyn Operator, inputs: &[Tensor]) -> Vec<Tensor> {
        let shapes = op.shapes(&inputs.iter().map(|t| &t.shape[..]).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{op:?}: {e}"));
        let outputs = op.forward(inputs.iter().map(Value::Borrowed).collect(), None);
        assert_eq!(outputs.iter().map(|t| t.shape.clone()).collect::<Vec<_>>(), shapes, "{op:?}");
        outputs
    }

    /// ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for a linear operator, to a part of the products' sizes; 0: exactly.
    pub fn adjoint(op: &dyn Operator, inputs: &[Tensor], tolerance: f64) {
        let outputs = run(op, inputs);
        let y: Vec<Tensor> = outputs.iter().enumerate().map(|(i, t)| integers(&t.shape, 77 + i as u64)).collect();
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| &t.shape[..]).collect();
        let output_shapes: Vec<&[usize]> = outputs.iter().map(|t| &t.shape[..]).collect();
        let tape = Tape {
            inputs: &vec![None; inputs.len()],
            outputs: &vec![None; outputs.len()],
            input_shapes: &shapes,
            output_shapes: &output_shapes,
            aux: &[],
        };
        let back = op.vjp(&tape, y.iter().cloned().map(Some).collect(), &vec![true; inputs.len()]);
        let dot = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len(), "{op:?}");
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).fold((0.0, 0.0), |(s, e), p| (s + p, e + p.abs()))
        };
        let sum = |a: &[Tensor], b: &[&Tensor]| {
            a.iter().zip(b).map(|(a, b)| dot(&a.data, &b.data)).fold((0.0, 0.0), |(s, e), p| (s + p.0, e + p.1))
        };
        let (left, size) = sum(&outputs, &y.iter().collect::<Vec<_>>());
        let (right, _) = sum(inputs, &back.iter().map(|t| t.as_ref().expect("wanted")).collect::<Vec<_>>());
        assert!((left - right).abs() <= tolerance * size, "{op:?} of {shapes:?}: {left} and {right}");
    }

    /// Every index of a shape, in order.
    pub fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
        let n: usize = shape.iter().product();
        let index = |mut i: usize| {
            let mut index: Vec<usize> = shape.iter().rev().map(|&len| (i % len, i /= len).0).collect();
            index.reverse();
            index
        };
        (0..n).map(index).collect()
    }

    /// The element at an index.
    pub fn at(x: &Tensor, index: &[usize]) -> f32 {
        x.data[index.iter().zip(&x.shape).fold(0, |i, (&k, &len)| i * len + k)]
    }

    /// Compares with a tensor told index by index.
    fn is(op: &dyn Operator, result: &Tensor, shape: &[usize], element: impl Fn(&[usize]) -> f32) {
        assert_eq!(result.shape, shape, "{op:?}");
        let expected: Vec<f32> = indices(shape).iter().map(|i| element(i)).collect();
        assert_eq!(result.data, expected, "{op:?}");
    }

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::new(shape, (0..shape.iter().product()).map(|i| i as f32).collect())
    }

    fn refused(op: &dyn Operator, shapes: &[&[usize]]) -> String {
        op.shapes(shapes).expect_err(&format!("{op:?} of {shapes:?}"))
    }

    #[test]
    fn examples_of_the_standard() {
        let x = Tensor::new([3, 2], vec![1.0, 1.2, 2.3, 3.4, 4.5, 5.7]);
        let gather = Gather { axis: 0, indices: vec![0, 1, 1, 2], indices_shape: vec![2, 2] };
        assert_eq!(run(&gather, std::slice::from_ref(&x))[0], Tensor::new([2, 2, 2], vec![1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7]));
        let pad = |fill| Pad { pads: vec![(0, 0), (2, 0)], fill };
        assert_eq!(run(&pad(Fill::Constant(0.0)), std::slice::from_ref(&x))[0].data[..8], [0.0, 0.0, 1.0, 1.2, 0.0, 0.0, 2.3, 3.4]);
        assert_eq!(run(&pad(Fill::Edge), &[x])[0].data[..8], [1.0, 1.0, 1.0, 1.2, 2.3, 2.3, 2.3, 3.4]);
        let reflect = Pad { pads: vec![(2, 1)], fill: Fill::Reflect };
        assert_eq!(run(&reflect, &[iota(&[3])])[0].data, [2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
        // Cut first, then mirrored.
        let cut = Pad { pads: vec![(-1, 2)], fill: Fill::Reflect };
        assert_eq!(run(&cut, &[iota(&[4])])[0].data, [1.0, 2.0, 3.0, 2.0, 1.0]);

        let x = Tensor::new([2, 4], (1..9).map(|i| i as f32).collect());
        assert_eq!(run(&Slice { ranges: vec![(1, 1, 1), (0, 2, 2)] }, &[x])[0], Tensor::new([1, 2], vec![5.0, 7.0]));
        let back = Slice { ranges: vec![(3, -2, 2)] };
        assert_eq!(run(&back, &[iota(&[4])])[0].data, [3.0, 1.0]);

        let x = Tensor::new([1, 8, 2, 3], (0..8).flat_map(|c| (0..6).map(move |i| (9 * c + i) as f32)).collect());
        let rows = |crd| run(&DepthToSpace { block: 2, crd }, std::slice::from_ref(&x))[0].data[..12].to_vec();
        assert_eq!(rows(false), [0.0, 18.0, 1.0, 19.0, 2.0, 20.0, 36.0, 54.0, 37.0, 55.0, 38.0, 56.0]);
        assert_eq!(rows(true), [0.0, 9.0, 1.0, 10.0, 2.0, 11.0, 18.0, 27.0, 19.0, 28.0, 20.0, 29.0]);
        assert_eq!(run(&SpaceToDepth { block: 2 }, &[iota(&[1, 1, 2, 4])])[0].data, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn derivatives() {
        let x = check::any(&[2, 3, 4], 1);
        check::gradients(&Reshape { shape: vec![4, 6] }, std::slice::from_ref(&x));
        for axes in [vec![0, 1, 2], vec![2, 0, 1], vec![1, 0, 2], vec![2, 1, 0]] {
            check::gradients(&Transpose { axes }, std::slice::from_ref(&x));
        }
        check::gradients(&Concat { axis: 1 }, &[x.clone(), check::any(&[2, 0, 4], 2), check::any(&[2, 1, 4], 3)]);
        check::gradients(&Concat { axis: 0 }, std::slice::from_ref(&x));
        check::gradients(&Split { axis: 1, sizes: vec![1, 0, 2] }, std::slice::from_ref(&x));
        check::gradients(&Split { axis: 2, sizes: vec![4] }, std::slice::from_ref(&x));
        check::gradients(&Slice { ranges: vec![(0, 1, 2), (2, -2, 2), (1, 1, 3)] }, std::slice::from_ref(&x));
        check::gradients(&Slice { ranges: vec![(1, 1, 1), (2, -1, 3), (3, -2, 2)] }, std::slice::from_ref(&x));
        for fill in [Fill::Constant(2.5), Fill::Reflect, Fill::Edge] {
            check::gradients(&Pad { pads: vec![(1, 0), (-1, 1), (2, 1)], fill }, std::slice::from_ref(&x));
            check::gradients(&Pad { pads: vec![(0, 1), (0, 0), (0, 0)], fill }, std::slice::from_ref(&x));
            check::gradients(&Pad { pads: vec![(0, 0); 3], fill }, std::slice::from_ref(&x));
        }
        check::gradients(&Expand { shape: vec![2, 2, 3, 2] }, &[check::any(&[2, 1, 2], 4)]);
        check::gradients(&Expand { shape: vec![3, 19] }, &[check::any(&[1, 1], 5)]);
        check::gradients(&Gather { axis: 1, indices: vec![2, 0, 2, 2], indices_shape: vec![2, 2] }, std::slice::from_ref(&x));
        check::gradients(&Gather { axis: 2, indices: vec![3], indices_shape: vec![] }, &[x]);
        for crd in [false, true] {
            check::gradients(&DepthToSpace { block: 2, crd }, &[check::any(&[1, 8, 1, 2], 6)]);
        }
        check::gradients(&SpaceToDepth { block: 2 }, &[check::any(&[2, 1, 2, 4], 7)]);
    }

    #[test]
    fn large_transposes_are_tiled_right() {
        for shape in [[1, 37, 53, 1], [2, 33, 5, 16], [3, 16, 16, 2], [1, 1, 100, 17]] {
            let x = iota(&shape);
            for axes in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
                let op = Transpose { axes: axes.to_vec() };
                let y = run(&op, std::slice::from_ref(&x)).remove(0);
                is(&op, &y, &axes.map(|a| shape[a]), |index| {
                    let mut of = [0; 4];
                    axes.iter().zip(index).for_each(|(&a, &i)| of[a] = i);
                    at(&x, &of)
                });
                assert_eq!(run(&Transpose { axes: inverse(&axes) }, &[y])[0], x);
            }
        }
    }

    #[test]
    fn what_need_not_move_is_not_copied() {
        let x = iota(&[2, 1, 3, 4]);
        let place = x.data.as_ptr();
        let ops: [&dyn Operator; 5] = [
            &Reshape { shape: vec![6, 4] },
            &Transpose { axes: vec![1, 0, 2] },
            &Slice { ranges: vec![(0, 1, 6), (0, 1, 4)] },
            &Expand { shape: vec![1, 6, 4] },
            &Pad { pads: vec![(0, 0); 3], fill: Fill::Edge },
        ];
        let mut x = x.reshaped([1, 6, 4]);
        for op in ops {
            x = match op.name() {
                "Transpose" | "Pad" => x.reshaped([1, 6, 4]),
                _ => x.reshaped([6, 4]),
            };
            op.shapes(&[&x.shape]).unwrap();
            x = op.forward(vec![Value::Owned(x)], None).remove(0);
            assert_eq!(x.data.as_ptr(), place, "{op:?}");
        }
    }

    #[test]
    fn impossible_attributes_are_refused() {
        const MANY: usize = usize::MAX;
        let x: &[usize] = &[2, 3, 4];
        let some: &[usize] = &[0, MANY, MANY];
        assert_eq!(refused(&Reshape { shape: vec![5, 5] }, &[x]), "its input, of shape [2, 3, 4], cannot be reshaped to [5, 5]");
        refused(&Reshape { shape: vec![24] }, &[x, x]);
        refused(&Reshape { shape: vec![MANY, MANY] }, &[x]);
        refused(&Transpose { axes: vec![0, 1] }, &[x]);
        refused(&Transpose { axes: vec![0, 1, 1] }, &[x]);
        refused(&Transpose { axes: vec![2, 1, 0] }, &[some]);
        refused(&Concat { axis: 0 }, &[]);
        refused(&Concat { axis: 3 }, &[x]);
        refused(&Concat { axis: 0 }, &[x, &[2, 3]]);
        refused(&Concat { axis: 0 }, &[x, &[2, 3, 5]]);
        refused(&Concat { axis: 0 }, &[&[MANY], &[1]]);
        refused(&Concat { axis: 0 }, &[&[1 << 28], &[1]]);
        for sizes in [vec![], vec![1, 1], vec![2, 2], vec![MANY, 4]] {
            refused(&Split { axis: 1, sizes }, &[x]);
        }
        refused(&Split { axis: 4, sizes: vec![1] }, &[x]);
        for range in [(3, 1, 1), (0, 1, 4), (0, 0, 1), (1, -1, 3), (0, isize::MAX, 2), (2, isize::MIN, 2), (0, 1, MANY)] {
            refused(&Slice { ranges: vec![(0, 1, 2), range, (0, 1, 4)] }, &[x]);
        }
        refused(&Slice { ranges: vec![(0, 1, 2)] }, &[x]);
        for (pads, fill) in [
            ((-2, -2), Fill::Constant(0.0)),
            ((isize::MIN, 5), Fill::Constant(0.0)),
            ((isize::MAX, isize::MAX), Fill::Constant(0.0)),
            ((1 << 28, 0), Fill::Edge),
            ((3, 0), Fill::Reflect),
            ((-2, 1), Fill::Reflect),
            ((-3, 1), Fill::Edge),
        ] {
            refused(&Pad { pads: vec![(0, 0), pads, (0, 0)], fill }, &[x]);
        }
        refused(&Pad { pads: vec![(0, 0)], fill: Fill::Edge }, &[x]);
        for shape in [vec![3, 4], vec![1, 3, 4], vec![2, 3, 5], vec![1 << 28, 2, 3, 4], vec![1; 17]] {
            refused(&Expand { shape }, &[x]);
        }
        refused(&Gather { axis: 1, indices: vec![3], indices_shape: vec![1] }, &[x]);
        refused(&Gather { axis: 1, indices: vec![2], indices_shape: vec![2] }, &[x]);
        refused(&Gather { axis: 3, indices: vec![], indices_shape: vec![0] }, &[x]);
        refused(&Gather { axis: 1, indices: vec![], indices_shape: vec![MANY, MANY, 0] }, &[x]);
        refused(&Gather { axis: 1, indices: vec![0; 2], indices_shape: vec![2] }, &[&[1 << 28, 1]]);
        for (block, shape) in
            [(0, vec![1, 4, 2, 2]), (2, vec![1, 6, 2, 2]), (2, vec![4, 2, 2]), (MANY, vec![1, 4, 2, 2]), (2, vec![0, 4, MANY, 2])]
        {
            refused(&DepthToSpace { block, crd: false }, &[&shape]);
        }
        for (block, shape) in
            [(0, vec![1, 4, 2, 2]), (2, vec![1, 6, 3, 2]), (2, vec![4, 2, 2]), (MANY, vec![1, 4, 0, 0]), (2, vec![0, MANY, 2, 2])]
        {
            refused(&SpaceToDepth { block }, &[&shape]);
        }
    }

    #[test]
    fn empty_tensors_of_absurd_lengths_do_nothing() {
        const MANY: usize = usize::MAX;
        let shape = [0, MANY, MANY];
        let x = Tensor::new(shape, Vec::new());
        let ops: [&dyn Operator; 7] = [
            &Reshape { shape: vec![0] },
            &Transpose { axes: vec![0, 2, 1] },
            &Split { axis: 1, sizes: vec![1, MANY - 1] },
            &Slice { ranges: vec![(0, 1, 0), (MANY - 1, -1, 2), (0, 1, MANY)] },
            &Pad { pads: vec![(1, 1), (-isize::MAX, 1 - isize::MAX), (-isize::MAX, -isize::MAX)], fill: Fill::Constant(1.0) },
            &Expand { shape: vec![0, MANY, MANY] },
            &Gather { axis: 2, indices: vec![7], indices_shape: vec![] },
        ];
        for op in ops {
            if op.name() == "Pad" {
                assert_eq!(run(op, std::slice::from_ref(&x))[0], Tensor::new([2, 2, 1], vec![1.0; 4]));
            }
            adjoint_of_empty(op, &x);
        }
        run(&Concat { axis: 0 }, &[x.clone(), x]);
    }

    fn adjoint_of_empty(op: &dyn Operator, x: &Tensor) {
        let y = run(op, std::slice::from_ref(x));
        let output_shapes: Vec<&[usize]> = y.iter().map(|t| &t.shape[..]).collect();
        let tape =
            Tape { inputs: &[None], outputs: &vec![None; y.len()], input_shapes: &[&x.shape], output_shapes: &output_shapes, aux: &[] };
        assert_eq!(op.vjp(&tape, y.iter().cloned().map(Some).collect(), &[true]), [Some(x.clone())]);
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod any_shape {
        use proptest::prelude::*;

        use super::*;

        fn below(seed: &mut u64, n: usize) -> usize {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (*seed >> 33) as usize % n.max(1)
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(300))]
            #[test]
            fn same_as_index_by_index(shape in prop::collection::vec(0usize..5, 1..6), seed in any::<u64>()) {
                let mut seed = seed;
                let mut random = |n: usize| below(&mut seed, n);
                let rank = shape.len();
                let x = integers(&shape, 5);
                let one = std::slice::from_ref(&x);

                let mut axes: Vec<usize> = (0..rank).collect();
                (1..rank).for_each(|i| axes.swap(i, random(i + 1)));
                let op = Transpose { axes: axes.clone() };
                let y = run(&op, one).remove(0);
                is(&op, &y, &axes.iter().map(|&a| shape[a]).collect::<Vec<_>>(), |i| at(&x, &inverse(&axes).iter().map(|&k| i[k]).collect::<Vec<_>>()));
                adjoint(&op, one, 0.0);
                prop_assert_eq!(&run(&Transpose { axes: inverse(&axes) }, &[y])[0], &x);

                let range = |len: usize, random: &mut dyn FnMut(usize) -> usize| {
                    if len == 0 {
                        return (0, 1, 0);
                    }
                    let (start, step) = (random(len), [1, 1, -1, 2, -2, -3][random(6)]);
                    let most = if step > 0 { (len - 1 - start) / step as usize } else { start / -step as usize } + 1;
                    (start, step, if random(8) == 0 { random(most + 1) } else { most })
                };
                let ranges: Vec<(usize, isize, usize)> = shape.iter().map(|&len| range(len, &mut random)).collect();
                let op = Slice { ranges: ranges.clone() };
                let result: Vec<usize> = ranges.iter().map(|r| r.2).collect();
                is(&op, &run(&op, one)[0], &result, |i| {
                    at(&x, &i.iter().zip(&ranges).map(|(&i, r)| (r.0 as isize + i as isize * r.1) as usize).collect::<Vec<_>>())
                });
                adjoint(&op, one, 0.0);

                for fill in [Fill::Constant(3.0), Fill::Constant(0.0), Fill::Reflect, Fill::Edge] {
                    let mut pad = |&len: &usize| {
                        let cut = if len > 1 { -(random(2) as isize) } else { 0 };
                        let most = match fill {
                            Fill::Constant(_) => 3,
                            Fill::Edge => if len == 0 { 0 } else { 3 },
                            Fill::Reflect => (len as isize + cut - 1).clamp(0, 3),
                        };
                        let pads = (cut, random(most as usize + 1) as isize);
                        match random(4) { 0 => (pads.1, pads.0), 1 => pads, _ => (0, 0) }
                    };
                    let pads: Vec<(isize, isize)> = shape.iter().map(&mut pad).collect();
                    let op = Pad { pads: pads.clone(), fill };
                    let result: Vec<usize> = shape.iter().zip(&pads).map(|(&len, p)| (len as isize + p.0 + p.1) as usize).collect();
                    is(&op, &run(&op, one)[0], &result, |i| {
                        let mut index = Vec::new();
                        for ((&i, p), &len) in i.iter().zip(&pads).zip(&shape) {
                            let (first, last) = (-p.0.min(0), len as isize - 1 + p.1.min(0));
                            let at = i as isize - p.0;
                            index.push(match fill {
                                Fill::Constant(value) if at < first || at > last => return value,
                                Fill::Reflect if at < first => 2 * first - at,
                                Fill::Reflect if at > last => 2 * last - at,
                                _ => at.clamp(first, last),
                            } as usize);
                        }
                        at(&x, &index)
                    });
                    if fill != Fill::Constant(3.0) {
                        adjoint(&op, one, 0.0);
                    }
                }

                let mut small = shape.clone();
                small.iter_mut().for_each(|len| *len = if random(2) == 0 { 1 } else { *len });
                small.drain(..random(rank));
                let from = integers(&small, 6);
                let op = Expand { shape: shape.clone() };
                is(&op, &run(&op, std::slice::from_ref(&from))[0], &shape, |i| {
                    at(&from, &i[rank - small.len()..].iter().zip(&small).map(|(&i, &len)| i.min(len.max(1) - 1)).collect::<Vec<_>>())
                });
                adjoint(&op, std::slice::from_ref(&from), 0.0);

                let axis = random(rank);
                let indices_shape: Vec<usize> = (0..random(3)).map(|_| random(4)).collect();
                let count = if shape[axis] == 0 { 0 } else { indices_shape.iter().product() };
                let indices_shape = if shape[axis] == 0 { vec![0] } else { indices_shape };
                let op = Gather { axis, indices: (0..count).map(|_| random(shape[axis])).collect(), indices_shape: indices_shape.clone() };
                is(&op, &run(&op, one)[0], &[&shape[..axis], &indices_shape, &shape[axis + 1..]].concat(), |i| {
                    let (before, rest) = i.split_at(axis);
                    let (which, after) = rest.split_at(indices_shape.len());
                    let which = which.iter().zip(&indices_shape).fold(0, |k, (&i, &len)| k * len + i);
                    at(&x, &[before, &[op.indices[which]], after].concat())
                });
                adjoint(&op, one, 0.0);

                let mut sizes = Vec::new();
                let mut left = shape[axis];
                while left > 0 || sizes.is_empty() {
                    sizes.push(random(left + 1));
                    left -= sizes[sizes.len() - 1];
                }
                let split = Split { axis, sizes: sizes.clone() };
                let parts = run(&split, one);
                for (k, part) in parts.iter().enumerate() {
                    let start: usize = sizes[..k].iter().sum();
                    let mut result = shape.clone();
                    result[axis] = sizes[k];
                    is(&split, part, &result, |i| {
                        let mut i = i.to_vec();
                        i[axis] += start;
                        at(&x, &i)
                    });
                }
                adjoint(&split, one, 0.0);
                adjoint(&Concat { axis }, &parts, 0.0);
                prop_assert_eq!(&run(&Concat { axis }, &parts)[0], &x);
            }

            #[test]
            fn depth_and_space(n in 0usize..3, c in 0usize..4, h in 0usize..4, w in 0usize..4, block in 1usize..4) {
                let x = integers(&[n, c * block * block, h, w], 3);
                for crd in [false, true] {
                    let op = DepthToSpace { block, crd };
                    let y = run(&op, std::slice::from_ref(&x)).remove(0);
                    is(&op, &y, &[n, c, h * block, w * block], |i| {
                        let inside = (i[2] % block) * block + i[3] % block;
                        let channel = if crd { i[1] * block * block + inside } else { inside * c + i[1] };
                        at(&x, &[i[0], channel, i[2] / block, i[3] / block])
                    });
                    adjoint(&op, std::slice::from_ref(&x), 0.0);
                    if !crd {
                        let back = SpaceToDepth { block };
                        adjoint(&back, std::slice::from_ref(&y), 0.0);
                        prop_assert_eq!(&run(&back, &[y])[0], &x);
                    }
                }
            }
        }
    }
}
