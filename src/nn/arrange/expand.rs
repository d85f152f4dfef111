//! Elements repeated along axes of length one.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    bounded, cotangent, only, take,
    view::{View, strides},
};

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
