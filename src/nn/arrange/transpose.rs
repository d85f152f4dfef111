//! Axes in another order.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    bounded, cotangent, only, take,
    view::{inverse, permute},
};

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
