//! Tensors joined along an axis, and parts cut from one.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    around, bounded, cotangent, take, within,
};

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
pub(super) fn cut(x: &Tensor, axis: usize, start: usize, len: usize) -> Tensor {
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
