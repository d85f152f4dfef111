//! From a `Graph` to a `Network`: for given shapes of inputs, nodes of any opset become operators.
//!
//! One table from names to functions, in files grouped like those of [`crate::nn`]: `arrange`, `conv` with pooling,
//! `dense`, `elementwise`, `norm` with softmax, `reduce`, `resize`, and `known` for what has no operator because
//! it is computed here. `node` reads a node's attributes and inputs.
//!
//! All shapes are known, so what a file computes from shapes is computed here: integers exactly, as `Integers`; floats by the
//! `Builder`, which computes operators on known values at once. What moves elements and computes nothing moves integers by
//! moving their positions, so that one implementation serves both.

mod arrange;
mod conv;
mod dense;
mod elementwise;
mod known;
mod node;
mod norm;
mod reduce;
mod resize;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    rc::Rc,
    sync::Arc,
};

use super::{Array, Graph, Values};
use crate::{
    error::{Result, bad},
    limits,
    nn::{Builder, Network, Operator, Tensor, network::ValueId},
};
use node::Call;

/// A weight or other float tensor of the model.
#[derive(Debug, Clone)]
pub struct Weight {
    /// Its elements, in the order of the file.
    pub tensor: Arc<Tensor>,
    /// Number of the layer ([`crate::io::Model::layers`]), if it is the weight of one.
    pub layer: Option<usize>,
}

/// What lowering starts from.
pub struct Lowering<'a> {
    /// Name of the file, for messages.
    pub file: &'a str,
    /// The graph.
    pub graph: &'a Graph,
    /// Float tensors of the model's table, by name.
    pub weights: &'a HashMap<String, Weight>,
    /// Inputs of the graph that are known: they become constants.
    pub feeds: &'a HashMap<String, Array>,
}

/// Oldest opset that can be run: before it, broadcasting was an attribute.
pub const OLDEST: i64 = 7;

/// What the user can do about a network that cannot be run.
const ADVICE: &str = "the model can still be compressed without running it";

/// Turns one node into operators: its outputs, fewer where not all can be had.
type Rule = fn(&mut Context, &Call) -> Clause<Vec<Operand>>;

/// A result whose error is a clause about a node.
type Clause<T> = std::result::Result<T, String>;

/// All operators that can be run.
const RULES: [&[(&str, Rule)]; 8] =
    [arrange::RULES, conv::RULES, dense::RULES, elementwise::RULES, known::RULES, norm::RULES, reduce::RULES, resize::RULES];

impl Lowering<'_> {
    /// The network for inputs of these shapes (one for each of [`Graph::inputs`] that is not fed). Nodes that no output depends on are
    /// left out.
    ///
    /// # Errors
    /// An operator that is not supported: its name, its node, its opset. Shapes that do not fit: the node and why.
    pub fn lower(&self, input_shapes: &[Vec<usize>]) -> Result<Network> {
        let graph = self.graph;
        let fail = |reason: String| bad(self.file, reason, ADVICE);
        if graph.opset < OLDEST {
            return Err(fail(format!("it uses opset {}, and {OLDEST} is the oldest that can be run", graph.opset)));
        }
        if graph.outputs.is_empty() {
            return Err(fail("its graph has no output".into()));
        }
        let producers = self.producers()?;
        let order = self.order(&producers)?;

        let mut context = Context::default();
        let mut values: HashMap<&str, Operand> = HashMap::new();
        let free: Vec<&str> = graph.inputs.iter().map(|i| &*i.name).filter(|name| !self.feeds.contains_key(*name)).collect();
        if free.len() != input_shapes.len() {
            return Err(fail(format!("it takes {} inputs, and {} were given", free.len(), input_shapes.len())));
        }
        for (name, shape) in free.into_iter().zip(input_shapes) {
            if limits::element_count(shape).is_none() {
                return Err(fail(format!("an input of shape {shape:?} is too large")));
            }
            let id = context.builder.input(shape.clone());
            values.insert(name, Operand::Value(id));
        }
        for index in order {
            let node = &graph.nodes[index];
            // Names where a node is to blame, else how it can be told apart: its operator, and what it gives.
            let called = match (&*node.name, node.outputs.first()) {
                ("", Some(output)) => output,
                (name, _) => name,
            };
            let at_node = |clause: String| fail(format!("its node `{called}` ({}, opset {}): {clause}", node.op, graph.opset));
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for name in &node.inputs {
                inputs.push(match &**name {
                    "" => None,
                    name => Some(self.operand(name, &mut context, &mut values, &producers).map_err(at_node)?),
                });
            }
            let rule = match &*node.domain {
                "" => RULES.iter().flat_map(|rules| rules.iter()).find(|(op, _)| *op == node.op),
                _ => None,
            };
            let Some((_, rule)) = rule else {
                let of = if node.domain.is_empty() { String::new() } else { format!(" of {}", node.domain) };
                return Err(at_node(format!("this operator{of} cannot be run")));
            };
            let outputs = rule(&mut context, &Call { node, opset: graph.opset, called, inputs }).map_err(at_node)?;
            values.extend(node.outputs.iter().map(|name| &**name).zip(outputs));
        }
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for name in &graph.outputs {
            let operand =
                self.operand(name, &mut context, &mut values, &producers).map_err(|clause| fail(format!("its output: {clause}")))?;
            outputs.push(context.value(&operand));
        }
        Ok(context.builder.finish(&outputs))
    }

    /// Which node gives a value.
    fn producers(&self) -> Result<HashMap<&str, usize>> {
        let twice = |name: &str| bad(self.file, format!("its graph defines the value `{name}` twice"), ADVICE);
        let mut producers = HashMap::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                if producers.insert(&**name, index).is_some() || self.graph.constants.contains_key(name) {
                    return Err(twice(name));
                }
            }
        }
        let mut inputs = HashMap::new();
        for input in &self.graph.inputs {
            if producers.contains_key(&*input.name) || inputs.insert(&*input.name, ()).is_some() {
                return Err(twice(&input.name));
            }
        }
        Ok(producers)
    }

    /// The nodes that outputs depend on, in an order in which they can run: that of the file, if it is one.
    fn order(&self, producers: &HashMap<&str, usize>) -> Result<Vec<usize>> {
        let nodes = &self.graph.nodes;
        let before = |index: usize| nodes[index].inputs.iter().filter_map(|name| producers.get(&**name).copied());
        let mut needed = vec![false; nodes.len()];
        let mut stack: Vec<usize> = self.graph.outputs.iter().filter_map(|name| producers.get(&**name).copied()).collect();
        while let Some(index) = stack.pop() {
            if !std::mem::replace(&mut needed[index], true) {
                stack.extend(before(index));
            }
        }
        let mut waits = vec![0usize; nodes.len()];
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for index in (0..nodes.len()).filter(|&i| needed[i]) {
            for earlier in before(index) {
                waits[index] += 1;
                after[earlier].push(index);
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|&i| needed[i] && waits[i] == 0).map(Reverse).collect();
        let mut order = Vec::new();
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for &later in &after[index] {
                waits[later] -= 1;
                if waits[later] == 0 {
                    ready.push(Reverse(later));
                }
            }
        }
        match order.len() == needed.iter().filter(|&&n| n).count() {
            true => Ok(order),
            false => Err(bad(self.file, "the nodes of its graph form a circle", ADVICE)),
        }
    }

    /// A value by its name; constants enter the network when they are first used.
    fn operand<'a>(
        &'a self,
        name: &'a str,
        context: &mut Context,
        values: &mut HashMap<&'a str, Operand>,
        producers: &HashMap<&str, usize>,
    ) -> Clause<Operand> {
        if let Some(known) = values.get(name) {
            return Ok(known.clone());
        }
        let operand = if let Some(&producer) = producers.get(name) {
            let node = &self.graph.nodes[producer];
            let position = node.outputs.iter().position(|output| output == name).unwrap_or_default();
            return Err(format!("it needs `{name}`, output {} of {}, which cannot be had", position + 1, node.op));
        } else if let Some(array) = self.feeds.get(name).or_else(|| self.graph.constants.get(name)) {
            context.array(array)?
        } else if let Some(weight) = self.weights.get(name) {
            Operand::Value(context.builder.constant(weight.tensor.clone(), weight.layer))
        } else {
            return Err(format!("it needs `{name}`, which is neither computed nor a constant that can be read"));
        };
        values.insert(name, operand.clone());
        Ok(operand)
    }
}

/// A value of the graph while it is lowered.
#[derive(Debug, Clone)]
enum Operand {
    /// Floats: a value of the network, known or not.
    Value(ValueId),
    /// Known integers.
    Known(Rc<Integers>),
}

/// Known integers (or booleans, 0 and 1) in C order.
#[derive(Debug, Clone, PartialEq)]
struct Integers {
    shape: Vec<usize>,
    values: Vec<i64>,
}

/// What is built while nodes are lowered.
#[derive(Default)]
struct Context {
    builder: Builder,
    /// Integers that were computed so far: a damaged file could ask for any number.
    integers: usize,
}

/// Most integers that lowering computes.
const MOST_INTEGERS: usize = 1 << 24;

impl Context {
    /// Adds an operator to the network.
    fn push(&mut self, call: &Call, operator: impl Operator + 'static, inputs: &[ValueId]) -> Clause<Vec<Operand>> {
        Ok(self.builder.push(Arc::new(operator), call.called, inputs)?.into_iter().map(Operand::Value).collect())
    }

    /// The same for one output.
    fn one(&mut self, call: &Call, operator: impl Operator + 'static, inputs: &[ValueId]) -> Clause<ValueId> {
        self.builder.push(Arc::new(operator), call.called, inputs)?.first().copied().ok_or_else(|| "it gives nothing".into())
    }

    /// Moves elements: floats in the network, known integers by their positions. `fill` stands where the operator put −1.
    fn rearrange(&mut self, call: &Call, operator: impl Operator + 'static, inputs: &[Operand], fill: i64) -> Clause<Vec<Operand>> {
        let known: Option<Vec<&Integers>> = inputs.iter().map(Operand::integers).collect();
        let Some(known) = known else {
            let inputs: Vec<ValueId> = inputs.iter().map(|input| self.value(input)).collect();
            return self.push(call, operator, &inputs);
        };
        let shapes: Vec<&[usize]> = known.iter().map(|k| &*k.shape).collect();
        for shape in operator.shapes(&shapes)? {
            self.room(&shape)?;
        }
        let all: Vec<i64> = known.iter().flat_map(|k| k.values.iter().copied()).collect();
        self.room(&[all.len()])?;
        let mut start = 0;
        let positions = known.iter().map(|k| {
            // Exact: there are at most 2²⁴.
            let data = (start..start + k.values.len()).map(|i| i as f32).collect();
            start += k.values.len();
            Cow::Owned(Tensor::new(k.shape.clone(), data))
        });
        let moved = operator.forward(positions.collect(), None);
        let integers = |t: Tensor| Integers {
            values: t.data.iter().map(|&p| if p < 0.0 { fill } else { all.get(p as usize).copied().unwrap_or(fill) }).collect(),
            shape: t.shape,
        };
        Ok(moved.into_iter().map(integers).map(Operand::from).collect())
    }

    /// Room for so many more integers, or an error.
    fn room(&mut self, shape: &[usize]) -> Clause<usize> {
        let count = limits::element_count(shape).filter(|n| self.integers + n <= MOST_INTEGERS);
        let count = count.ok_or_else(|| format!("it computes {shape:?} integers, which are too many"))?;
        self.integers += count;
        Ok(count)
    }

    /// Integers of this shape, computed element by element.
    fn integers(&mut self, shape: Vec<usize>, values: impl FnOnce(usize) -> Clause<Vec<i64>>) -> Clause<Operand> {
        let values = values(self.room(&shape)?)?;
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        Ok(Integers { shape, values }.into())
    }

    /// Floats that are known.
    fn floats(&mut self, shape: Vec<usize>, values: Vec<f32>) -> Operand {
        Operand::Value(self.builder.constant(Arc::new(Tensor::new(shape, values)), None))
    }

    /// A constant array, whose shape a file (or a test) has given.
    fn array(&mut self, array: &Array) -> Clause<Operand> {
        let held = match &array.values {
            Values::Float(v) => v.len(),
            Values::Int(v) => v.len(),
        };
        if limits::element_count(&array.shape) != Some(held) {
            return Err(format!("a constant of shape {:?} has {held} elements", array.shape));
        }
        match &array.values {
            Values::Float(values) => Ok(self.floats(array.shape.clone(), values.clone())),
            Values::Int(values) => self.integers(array.shape.clone(), |_| Ok(values.clone())),
        }
    }

    /// A value of the network; integers become floats.
    fn value(&mut self, operand: &Operand) -> ValueId {
        match operand {
            Operand::Value(id) => *id,
            Operand::Known(integers) => {
                let data = integers.values.iter().map(|&i| i as f32).collect();
                self.builder.constant(Arc::new(Tensor::new(integers.shape.clone(), data)), None)
            }
        }
    }

    fn shape(&self, operand: &Operand) -> Vec<usize> {
        match operand {
            Operand::Value(id) => self.builder.shape(*id).to_vec(),
            Operand::Known(integers) => integers.shape.clone(),
        }
    }

    /// What is known of a value without running anything.
    fn known(&self, operand: &Operand) -> Option<Array> {
        match operand {
            Operand::Value(id) => {
                let tensor = self.builder.known(*id)?;
                Some(Array { shape: tensor.shape.clone(), values: Values::Float(tensor.data.clone()) })
            }
            Operand::Known(integers) => Some(Array { shape: integers.shape.clone(), values: Values::Int(integers.values.clone()) }),
        }
    }
}

impl Operand {
    fn integers(&self) -> Option<&Integers> {
        match self {
            Operand::Known(integers) => Some(integers),
            Operand::Value(_) => None,
        }
    }
}

impl From<Integers> for Operand {
    fn from(integers: Integers) -> Operand {
        Operand::Known(Rc::new(integers))
    }
}

/// Position of an axis that may be counted from the end.
fn axis(axis: i64, rank: usize) -> Clause<usize> {
    let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let counted = counted.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
    counted.ok_or_else(|| format!("axis {axis} does not exist in {rank} dimensions"))
}

/// Positions of different axes.
fn axes(list: &[i64], rank: usize) -> Clause<Vec<usize>> {
    let axes: Vec<usize> = list.iter().map(|&a| axis(a, rank)).collect::<Clause<_>>()?;
    match (1..axes.len()).find(|&i| axes[..i].contains(&axes[i])) {
        Some(i) => Err(format!("it names axis {} twice", axes[i])),
        None => Ok(axes),
    }
}
