//! Every so many-th element of axes.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    bounded, cotangent, only, take,
    view::{View, strides},
};

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
