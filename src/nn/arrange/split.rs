//! A tensor in parts along an axis.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    around, bounded,
    concat::cut,
    only, take, within,
};

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
