//! Elements of an axis by their numbers.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    add, around, bounded, cotangent, only, take, within,
};
use crate::limits;

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
