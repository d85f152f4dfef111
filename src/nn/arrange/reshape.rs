//! A tensor of another shape.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    bounded, cotangent, only, take,
};
use crate::limits;

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
