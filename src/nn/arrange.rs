//! Operators that move elements and compute nothing. All attributes are resolved: axes counted from the start, sizes known.
//!
//! Most of them are a `View`: the element at an index of the result stands in the input at a number that is affine in the index, so
//! a start and one stride per axis say it all, and the reverse pass adds along the same strides. Axes that lie end to end are merged
//! first, so that the innermost loop is long, and mostly a copy of a slice.

use super::{Tensor, Value};
use crate::limits;

mod blocks;
mod concat;
mod expand;
mod gather;
mod pad;
mod reshape;
mod slice;
mod split;
#[cfg(test)]
pub(super) mod tests;
mod transpose;
mod view;

pub use blocks::{DepthToSpace, SpaceToDepth};
pub use concat::Concat;
pub use expand::Expand;
pub use gather::Gather;
pub use pad::{Fill, Pad};
pub use reshape::Reshape;
pub use slice::Slice;
pub use split::Split;
pub use transpose::Transpose;

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

/// `a += b`.
pub(super) fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
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
