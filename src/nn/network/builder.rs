//! Building a network, node by node: shapes are checked, and what depends on constants alone is computed, as operators are added.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{Info, Network, Origin, Plan, Step, ValueId};
use crate::{
    limits,
    nn::{Operator, Tensor},
};

/// Builds a [`Network`], node by node.
#[derive(Debug, Default)]
pub struct Builder {
    values: Vec<Info>,
    steps: Vec<Step>,
    inputs: Vec<ValueId>,
    layers: HashMap<usize, ValueId>,
    /// Bytes of constants that operators made.
    computed: u64,
}

impl Builder {
    fn value(&mut self, shape: Vec<usize>, origin: Origin, weights: Option<usize>) -> ValueId {
        self.values.push(Info { shape, origin, weights });
        self.values.len() - 1
    }

    /// An input.
    pub fn input(&mut self, shape: Vec<usize>) -> ValueId {
        let v = self.value(shape, Origin::Input(self.inputs.len()), None);
        self.inputs.push(v);
        v
    }

    /// A constant; `layer` when it is the weight of a layer of the model. The same layer is the same value.
    pub fn constant(&mut self, tensor: Arc<Tensor>, layer: Option<usize>) -> ValueId {
        if let Some(&v) = layer.and_then(|l| self.layers.get(&l)) {
            return v;
        }
        let v = self.value(tensor.shape.clone(), Origin::Constant(tensor, layer), layer);
        if let Some(layer) = layer {
            self.layers.insert(layer, v);
        }
        v
    }

    /// Shape of a value.
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.values[value].shape
    }

    /// The tensor of a value that is known without running: a constant that is no layer's weight, or what operators make of such.
    pub fn known(&self, value: ValueId) -> Option<&Arc<Tensor>> {
        match &self.values[value].origin {
            Origin::Constant(tensor, None) => Some(tensor),
            _ => None,
        }
    }

    /// Adds an operator, called `node` in messages. Its outputs are computed at once (and are [`Builder::known`]) when all its inputs
    /// are known.
    ///
    /// # Errors
    /// What [`Operator::shapes`] says, or that an output is too large.
    pub fn push(&mut self, operator: Arc<dyn Operator>, node: &str, inputs: &[ValueId]) -> Result<Vec<ValueId>, String> {
        let input_shapes: Vec<&[usize]> = inputs.iter().map(|&v| self.shape(v)).collect();
        let shapes = operator.shapes(&input_shapes)?;
        for shape in &shapes {
            if limits::element_count(shape).is_none() {
                return Err(format!("its output of shape {shape:?} is too large"));
            }
        }
        let known: Option<Vec<Arc<Tensor>>> = inputs.iter().map(|&v| self.known(v).cloned()).collect();
        if let Some(known) = known {
            self.computed += shapes.iter().map(|s| 4 * s.iter().product::<usize>() as u64).sum::<u64>();
            if self.computed > limits::COMPUTED {
                return Err(format!("the constants computed before it have more than {} bytes", limits::COMPUTED));
            }
            let outputs = operator.forward(known.iter().map(|t| Cow::Borrowed(&**t)).collect(), None);
            return Ok(outputs.into_iter().map(|t| self.constant(Arc::new(t), None)).collect());
        }
        // Constants and the weights of one layer, nothing else: still the weights of that layer, in another form.
        let is_static = |v: &ValueId| self.values[*v].weights.is_some() || self.known(*v).is_some();
        let layer = inputs.iter().find_map(|&v| self.values[v].weights);
        let all_static = inputs.iter().all(is_static);
        let data = inputs.iter().position(|v| !is_static(v));
        let outputs = shapes.into_iter().map(|s| self.value(s, Origin::Step, if all_static { layer } else { None })).collect::<Vec<_>>();
        self.steps.push(Step { operator, node: node.into(), inputs: inputs.to_vec(), outputs: outputs.clone(), layer: layer.zip(data) });
        Ok(outputs)
    }

    /// The network with these outputs; operators that none of them depends on are left out.
    pub fn finish(self, outputs: &[ValueId]) -> Network {
        let Builder { values, mut steps, inputs, .. } = self;
        let mut used = vec![false; values.len()];
        outputs.iter().for_each(|&v| used[v] = true);
        let mut kept = vec![false; steps.len()];
        for (i, step) in steps.iter().enumerate().rev() {
            if step.outputs.iter().any(|&v| used[v]) {
                kept[i] = true;
                step.inputs.iter().for_each(|&v| used[v] = true);
            }
        }
        let mut kept = kept.into_iter();
        steps.retain(|_| kept.next().unwrap_or(false));
        let mut readers = vec![(usize::MAX, 0); values.len()];
        for (i, step) in steps.iter().enumerate() {
            for &v in &step.inputs {
                readers[v] = (readers[v].0.min(i), i);
            }
        }
        outputs.iter().for_each(|&v| readers[v].1 = usize::MAX);
        Network { plan: Arc::new(Plan { values, steps, inputs, outputs: outputs.to_vec(), readers }) }
    }
}
