//! A network: operators in the order they run, on values of known shapes. Built by [`Builder`], run by [`Network::forward`] and
//! [`Network::gradient`], or from layer to layer by a [`Walk`].
//!
//! Memory follows a plan of last readers: a value is freed, or overwritten in place, by the last operator that reads it. A reverse
//! pass keeps only what [`Operator::needs`] names, and drops that as it goes. Nothing here runs in parallel: whoever has several
//! batches runs them on several threads, each with its own activations, on the same weights.

mod builder;

use std::{borrow::Cow, sync::Arc};

pub use builder::Builder;

use super::{Needs, Operator, Tape, Tensor, Value};

/// A value of a network: an input, a constant, or what an operator gives.
pub type ValueId = usize;

/// Sees layers while a network runs. A layer is a weight tensor of the model (its number is that of
/// [`crate::io::Model::layers`]); what it is given is dropped when the call returns.
pub trait Hooks {
    /// The input of the operator that uses the layer's weights.
    fn input(&mut self, _layer: usize, _x: &Tensor) {}
    /// Its output, before bias additions and activations that are operators of their own.
    fn output(&mut self, _layer: usize, _y: &Tensor) {}
    /// Whether the derivative by this layer's weights is wanted.
    fn wants_gradient(&self, _layer: usize) -> bool {
        true
    }
    /// The derivative of `Σ ⟨seed, output⟩` by the layer's weights, in the order of the tensor in the file; once per layer, also when
    /// several operators share the weights.
    fn gradient(&mut self, _layer: usize, _gradient: Tensor) {}
}

/// Sees nothing and wants no gradient by weights.
pub struct NoHooks;

impl Hooks for NoHooks {
    fn wants_gradient(&self, _layer: usize) -> bool {
        false
    }
}

/// Where a value comes from.
#[derive(Debug, Clone)]
enum Origin {
    /// Input of the network with this position.
    Input(usize),
    /// A constant; the weight of this layer, if of one.
    Constant(Arc<Tensor>, Option<usize>),
    /// An operator.
    Step,
}

/// A value: its shape and origin. `weights` is the layer when the value depends on its weights and constants only.
#[derive(Debug, Clone)]
struct Info {
    shape: Vec<usize>,
    origin: Origin,
    weights: Option<usize>,
}

impl Info {
    fn bytes(&self) -> u64 {
        4 * self.shape.iter().map(|&d| d as u64).product::<u64>()
    }
    fn constant(&self) -> Option<&Tensor> {
        if let Origin::Constant(tensor, _) = &self.origin { Some(tensor) } else { None }
    }
}

/// An operator and the values it works on.
#[derive(Debug, Clone)]
struct Step {
    operator: Arc<dyn Operator>,
    node: String,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// The layer whose weights meet data here, and the position of the data among the inputs.
    layer: Option<(usize, usize)>,
}

/// A network of fixed shapes. Cheap to clone; may be run from any number of threads at once.
#[derive(Debug, Clone)]
pub struct Network {
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    values: Vec<Info>,
    steps: Vec<Step>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// First and last step that reads a value; `(MAX, 0)` when none does. Outputs of the network are read last by `MAX`.
    readers: Vec<(usize, usize)>,
}

/// What a reverse pass needs of the forward pass.
struct Reverse {
    /// Per step, which inputs have to be differentiated by.
    wanted: Vec<Vec<bool>>,
    /// Per value, the first step that needs it; `MAX` when none does.
    first_need: Vec<usize>,
}

impl Plan {
    /// The layer of a step, and the value that it gives, if anything reads that.
    fn halt(&self, step: &Step) -> Option<(usize, ValueId)> {
        let (layer, _) = step.layer?;
        // A value without a reader has none after step 0, and step 0 cannot read what a step gives.
        step.outputs.first().filter(|&&v| self.readers[v].1 > 0).map(|&v| (layer, v))
    }

    fn multiplications(&self, step: &Step) -> u64 {
        let shape = |&v: &ValueId| self.values[v].shape.as_slice();
        let inputs: Vec<&[usize]> = step.inputs.iter().map(shape).collect();
        let outputs: Vec<&[usize]> = step.outputs.iter().map(shape).collect();
        step.operator.multiplications(&inputs, &outputs)
    }

    fn reverse(&self, wants_value: impl Fn(ValueId) -> bool) -> Reverse {
        let mut depends: Vec<bool> = (0..self.values.len()).map(wants_value).collect();
        let mut first_need = vec![usize::MAX; self.values.len()];
        let wanted = self.steps.iter().enumerate().map(|(i, step)| {
            let wanted: Vec<bool> = step.inputs.iter().map(|&v| depends[v]).collect();
            if wanted.contains(&true) {
                step.outputs.iter().for_each(|&v| depends[v] = true);
                let Needs { inputs, outputs } = step.operator.needs(&wanted);
                let needed = |flags: Vec<bool>, values: &[ValueId]| -> Vec<ValueId> {
                    flags.into_iter().zip(values).filter(|(flag, _)| *flag).map(|(_, &v)| v).collect()
                };
                for v in needed(inputs, &step.inputs).into_iter().chain(needed(outputs, &step.outputs)) {
                    first_need[v] = first_need[v].min(i);
                }
            }
            wanted
        });
        let wanted = wanted.collect();
        Reverse { wanted, first_need }
    }
}

/// Values while a network runs, by [`ValueId`]; constants are not here, unless they were replaced.
#[derive(Clone)]
struct Store<'a> {
    plan: &'a Plan,
    slots: Vec<Option<Tensor>>,
    /// Weights of this layer, instead of its own.
    replaced: Option<(usize, &'a Tensor)>,
}

impl Store<'_> {
    fn get(&self, v: ValueId) -> Option<&Tensor> {
        match (&self.plan.values[v].origin, self.replaced) {
            (Origin::Constant(_, Some(layer)), Some((other, tensor))) if *layer == other => Some(tensor),
            (Origin::Constant(tensor, _), _) => Some(tensor),
            _ => self.slots[v].as_ref(),
        }
    }
}

/// A run of a network that halts after every operator that uses a layer's weights. It owns its activations, those that are still to be
/// read: any number of walks may be under way, on any threads.
#[derive(Debug, Clone)]
pub struct Walk {
    network: Network,
    slots: Vec<Option<Tensor>>,
    /// The next step.
    at: usize,
    /// Where it halted: the layer, and the value that its operator gave.
    layer: Option<(usize, ValueId)>,
}

/// What a [`Walk`] has when it stands just before an operator that uses a layer's weights.
#[derive(Debug)]
pub struct Before<'a> {
    /// The operator.
    pub operator: &'a dyn Operator,
    /// Shapes of its inputs.
    pub shapes: Vec<&'a [usize]>,
    /// Its data.
    pub input: &'a Tensor,
    /// Shape of its output.
    pub output: &'a [usize],
    /// What will be added to its output, constants apart, where that is of the same shape and there already: what a residual branch goes round.
    pub beside: Option<&'a Tensor>,
}

impl Walk {
    /// Runs on until the next operator that uses a layer's weights would come. [`Walk::next_layer`] then runs that one.
    pub fn approach(&mut self) -> Option<Before<'_>> {
        let plan = self.network.plan.clone();
        let mut steps = plan.steps.iter().enumerate().skip(self.at);
        let at = steps.find_map(|(i, step)| plan.halt(step).map(|_| i))?;
        self.run(at);
        let plan = &*self.network.plan;
        let step = &plan.steps[at];
        let (_, data) = step.layer?;
        Some(Before {
            operator: &*step.operator,
            shapes: step.inputs.iter().map(|&v| &plan.values[v].shape[..]).collect(),
            input: self.slots[step.inputs[data]].as_ref()?,
            output: &plan.values[step.outputs[0]].shape,
            beside: self.beside(at),
        })
    }

    /// The other term of the addition that reads what a step gives, and nothing else does.
    fn beside(&self, at: usize) -> Option<&Tensor> {
        let plan = &*self.network.plan;
        let mut value = plan.steps[at].outputs[0];
        let shape = &plan.values[value].shape;
        for (i, step) in plan.steps.iter().enumerate().skip(at + 1) {
            let Some(position) = step.inputs.iter().position(|&v| v == value) else { continue };
            let ([a, b], "Add", (first, last)) = (&step.inputs[..], step.operator.name(), plan.readers[value]) else { return None };
            let other = if position == 0 { *b } else { *a };
            if first != i || last != i || plan.values[step.outputs[0]].shape != *shape {
                return None;
            }
            if plan.values[other].constant().is_none() {
                return self.slots[other].as_ref().filter(|tensor| tensor.shape == *shape);
            }
            value = step.outputs[0];
        }
        None
    }

    /// As [`Walk::next_layer`], the layer with other weights, in the order of the tensor in the file.
    pub fn next_layer_with(&mut self, weights: &Tensor) -> Option<(usize, &mut Tensor)> {
        let plan = self.network.plan.clone();
        let mut steps = plan.steps.iter().enumerate().skip(self.at);
        let (at, halt) = steps.find_map(|(i, step)| Some((i, plan.halt(step)?)))?;
        self.layer = Some(halt);
        self.run_with(at + 1, Some((halt.0, weights)));
        self.layer()
    }

    /// Runs on to the next operator that uses a layer's weights, that one included. Gives the layer and the operator's output, before bias
    /// additions and activations that are operators of their own: what follows sees it as it is left. A layer whose weights several
    /// operators use comes several times. Nothing when no layer follows.
    pub fn next_layer(&mut self) -> Option<(usize, &mut Tensor)> {
        let mut steps = self.network.plan.steps.iter().enumerate().skip(self.at);
        let next = steps.find_map(|(i, step)| Some((i, self.network.plan.halt(step)?)));
        self.layer = next.map(|(_, halt)| halt);
        self.run(next?.0 + 1);
        self.layer()
    }

    /// Where it stands: what [`Walk::next_layer`] gave. Nothing before the first and after the last.
    pub fn layer(&mut self) -> Option<(usize, &mut Tensor)> {
        let (layer, value) = self.layer?;
        self.slots[value].as_mut().map(|output| (layer, output))
    }

    /// Runs to the end: the outputs.
    pub fn finish(mut self) -> Vec<Tensor> {
        self.run(self.network.plan.steps.len());
        let mut store = Store { plan: &self.network.plan, slots: std::mem::take(&mut self.slots), replaced: None };
        self.network.take_outputs(&mut store)
    }

    /// Bytes of the activations that it holds.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().flatten().map(|tensor| 4 * tensor.len() as u64).sum()
    }

    /// Runs the steps before `end`.
    fn run(&mut self, end: usize) {
        self.run_with(end, None);
    }

    fn run_with(&mut self, end: usize, replaced: Option<(usize, &Tensor)>) {
        let mut store = Store { plan: &self.network.plan, slots: std::mem::take(&mut self.slots), replaced };
        self.network.run(&mut store, self.at..end, None, &mut NoHooks);
        self.slots = store.slots;
        self.at = end;
    }
}

impl Network {
    /// Shapes of the inputs.
    pub fn input_shapes(&self) -> Vec<Vec<usize>> {
        self.plan.inputs.iter().map(|&v| self.plan.values[v].shape.clone()).collect()
    }

    /// Shapes of the outputs.
    pub fn output_shapes(&self) -> Vec<Vec<usize>> {
        self.plan.outputs.iter().map(|&v| self.plan.values[v].shape.clone()).collect()
    }

    /// The layers whose weights take part, rising.
    pub fn layers(&self) -> Vec<usize> {
        let mut layers: Vec<usize> = self.plan.steps.iter().filter_map(|s| s.layer.map(|l| l.0)).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// Every operator that a layer's weights meet data in: the layer, its multiplications, and the shape of the data.
    pub fn layer_steps(&self) -> impl Iterator<Item = (usize, u64, &[usize])> {
        let steps = self.plan.steps.iter().filter_map(|s| Some((s, s.layer?)));
        steps.map(|(s, (layer, data))| (layer, self.plan.multiplications(s), &self.plan.values[s.inputs[data]].shape[..]))
    }

    /// Names of the nodes, in the order they run.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &dyn Operator)> {
        self.plan.steps.iter().map(|s| (s.node.as_str(), &*s.operator))
    }

    /// Runs the network.
    ///
    /// # Panics
    /// When the inputs do not have the shapes of [`Network::input_shapes`].
    pub fn forward(&self, inputs: Vec<Tensor>, hooks: &mut dyn Hooks) -> Vec<Tensor> {
        let mut store = self.store(inputs);
        self.run(&mut store, 0..self.plan.steps.len(), None, hooks);
        self.take_outputs(&mut store)
    }

    /// Starts a run that halts at layers: [`Walk::next_layer`].
    ///
    /// # Panics
    /// When the inputs do not have the shapes of [`Network::input_shapes`].
    pub fn begin(&self, inputs: Vec<Tensor>) -> Walk {
        let slots = self.store(inputs).slots;
        Walk { network: self.clone(), slots, at: 0, layer: None }
    }

    /// Where a [`Walk`] halts, in order: the layer, and the multiplications since the halt before.
    pub fn halts(&self) -> Vec<(usize, u64)> {
        let mut halts = Vec::new();
        let mut work = 0;
        for step in &self.plan.steps {
            work += self.plan.multiplications(step);
            if let Some((layer, _)) = self.plan.halt(step) {
                halts.push((layer, std::mem::take(&mut work)));
            }
        }
        halts
    }

    /// Runs it again and again with other weights of one layer: what comes before the layer once, what follows each time (the reuse that
    /// makes Algorithm 2 of Young et al. 2021 affordable). `weights` is given the layer's own, in the order of the tensor in the file, and
    /// gives others until it gives none; `outputs` gets what each of them led to. A layer that takes no part changes nothing and is not run.
    ///
    /// # Panics
    /// When the inputs do not have the shapes of [`Network::input_shapes`], or weights not that of the layer.
    pub fn forward_with(
        &self,
        inputs: Vec<Tensor>,
        layer: usize,
        weights: &mut dyn FnMut(&Tensor) -> Option<Tensor>,
        outputs: &mut dyn FnMut(Vec<Tensor>),
    ) {
        let Some((first, own)) = self.first_reader(layer) else { return };
        let mut before = self.store(inputs);
        self.run(&mut before, 0..first, None, &mut NoHooks);
        while let Some(other) = weights(own) {
            assert_eq!(other.shape, own.shape, "shape of a layer");
            let mut store = Store { replaced: Some((layer, &other)), ..before.clone() };
            self.run(&mut store, first..self.plan.steps.len(), None, &mut NoHooks);
            outputs(self.take_outputs(&mut store));
        }
    }

    /// The first step that reads a layer's weights, and these; nothing for a layer that takes no part.
    fn first_reader(&self, layer: usize) -> Option<(usize, &Tensor)> {
        let readers = self.plan.values.iter().zip(&self.plan.readers).filter_map(|(value, readers)| match &value.origin {
            Origin::Constant(tensor, Some(l)) if *l == layer && readers.0 < self.plan.steps.len() => Some((readers.0, &**tensor)),
            _ => None,
        });
        readers.min_by_key(|r| r.0)
    }

    /// Multiplications of [`Network::forward_with`] for each of the other weights: of the first step that reads the layer and all after it.
    pub fn multiplications_from(&self, layer: usize) -> u64 {
        self.first_reader(layer).map_or(0, |(first, _)| self.plan.steps[first..].iter().map(|s| self.plan.multiplications(s)).sum())
    }

    /// Runs it and goes back: `seed` turns the outputs into the vectors `v` that are multiplied with the Jacobian. Returns the outputs
    /// and, for each input for which it is asked, the derivative of `Σ ⟨v, output⟩` by it.
    ///
    /// # Panics
    /// When inputs or seeds do not have the shapes of the network's inputs or outputs.
    pub fn gradient(
        &self,
        inputs: Vec<Tensor>,
        wanted_inputs: &[bool],
        seed: &mut dyn FnMut(&[Tensor]) -> Vec<Tensor>,
        hooks: &mut dyn Hooks,
    ) -> (Vec<Tensor>, Vec<Option<Tensor>>) {
        let plan = &*self.plan;
        let reverse = plan.reverse(|v| match plan.values[v].origin {
            Origin::Input(i) => wanted_inputs.get(i).copied().unwrap_or(false),
            Origin::Constant(_, layer) => layer.is_some_and(|l| hooks.wants_gradient(l)),
            Origin::Step => false,
        });
        let mut store = self.store(inputs);
        let mut aux = vec![Vec::new(); plan.steps.len()];
        self.run(&mut store, 0..plan.steps.len(), Some((&reverse, &mut aux)), hooks);
        let outputs: Vec<Tensor> = plan.outputs.iter().map(|&v| store.get(v).expect("an output has no later reader").clone()).collect();
        let seeds = seed(&outputs);
        assert_eq!(seeds.len(), outputs.len(), "seeds");
        let mut cotangents: Vec<Option<Tensor>> = vec![None; plan.values.len()];
        for ((&v, seed), output) in plan.outputs.iter().zip(seeds).zip(&outputs) {
            assert_eq!(seed.shape, output.shape, "shape of a seed");
            accumulate(&mut cotangents[v], seed);
            if reverse.first_need[v] == usize::MAX {
                store.slots[v] = None;
            }
        }
        for i in (0..plan.steps.len()).rev() {
            self.step_back(i, &reverse, &mut store, std::mem::take(&mut aux[i]), &mut cotangents, hooks);
        }
        let by_input = plan.inputs.iter().enumerate().map(|(i, &v)| {
            let wanted = wanted_inputs.get(i).copied().unwrap_or(false);
            wanted.then(|| cotangents[v].take().unwrap_or_else(|| Tensor::zeros(plan.values[v].shape.clone())))
        });
        let by_input = by_input.collect();
        (outputs, by_input)
    }

    fn store(&self, inputs: Vec<Tensor>) -> Store<'_> {
        assert_eq!(inputs.len(), self.plan.inputs.len(), "inputs of the network");
        let mut slots: Vec<Option<Tensor>> = vec![None; self.plan.values.len()];
        for (&v, input) in self.plan.inputs.iter().zip(inputs) {
            assert_eq!(input.shape, self.plan.values[v].shape, "shape of an input");
            slots[v] = Some(input);
        }
        Store { plan: &self.plan, slots, replaced: None }
    }

    fn take_outputs(&self, store: &mut Store<'_>) -> Vec<Tensor> {
        let plan = &*self.plan;
        let mut outputs = Vec::with_capacity(plan.outputs.len());
        for (i, &v) in plan.outputs.iter().enumerate() {
            let again = plan.outputs[i + 1..].contains(&v);
            let moved = if again { None } else { store.slots[v].take() };
            outputs.push(moved.unwrap_or_else(|| store.get(v).expect("an output has no later reader").clone()));
        }
        outputs
    }

    /// Some steps of the forward pass. With `record` it keeps what the reverse pass needs.
    fn run(
        &self,
        store: &mut Store<'_>,
        steps: std::ops::Range<usize>,
        record: Option<(&Reverse, &mut [Vec<u32>])>,
        hooks: &mut dyn Hooks,
    ) {
        let plan = &*self.plan;
        let (reverse, mut aux) = record.unzip();
        for (i, step) in plan.steps.iter().enumerate().take(steps.end).skip(steps.start) {
            let kept = |v: ValueId| reverse.is_some_and(|r| r.first_need[v] != usize::MAX);
            let dies = |v: ValueId| plan.readers[v].1 == i && !kept(v);
            if let Some((layer, data)) = step.layer {
                hooks.input(layer, store.get(step.inputs[data]).expect("a value lives until its last reader"));
            }
            let once = |v: ValueId| step.inputs.iter().filter(|&&other| other == v).count() == 1;
            let mut owned: Vec<Option<Tensor>> = Vec::with_capacity(step.inputs.len());
            for &v in &step.inputs {
                owned.push(if dies(v) && once(v) { store.slots[v].take() } else { None });
            }
            let values: Vec<Value<'_>> = step
                .inputs
                .iter()
                .zip(owned)
                .map(|(&v, own)| match own {
                    Some(tensor) => Cow::Owned(tensor),
                    None => Cow::Borrowed(store.get(v).expect("a value lives until its last reader")),
                })
                .collect();
            let active = reverse.is_some_and(|r| r.wanted[i].contains(&true));
            let aside = aux.as_mut().filter(|_| active).map(|aux| &mut aux[i]);
            let outputs = step.operator.forward(values, aside);
            for &v in &step.inputs {
                if dies(v) {
                    store.slots[v] = None;
                }
            }
            if let (Some((layer, _)), Some(output)) = (step.layer, outputs.first()) {
                hooks.output(layer, output);
            }
            for (&v, output) in step.outputs.iter().zip(outputs) {
                debug_assert_eq!(output.shape, plan.values[v].shape, "{}: shape of an output", step.node);
                // An output nobody reads and nobody asked for is dropped.
                let read = plan.readers[v].1 > i || kept(v);
                store.slots[v] = read.then_some(output);
            }
        }
    }

    /// Reverses one step: from the cotangents of its outputs to those of its inputs.
    fn step_back(
        &self,
        i: usize,
        reverse: &Reverse,
        store: &mut Store<'_>,
        aux: Vec<u32>,
        cotangents: &mut [Option<Tensor>],
        hooks: &mut dyn Hooks,
    ) {
        let plan = &*self.plan;
        let step = &plan.steps[i];
        let wanted = &reverse.wanted[i];
        let given: Vec<Option<Tensor>> = step.outputs.iter().map(|&v| cotangents[v].take()).collect();
        if wanted.contains(&true) && given.iter().any(Option::is_some) {
            let shape = |&v: &ValueId| plan.values[v].shape.as_slice();
            let (inputs, outputs): (Vec<_>, Vec<_>) =
                (step.inputs.iter().map(|&v| store.get(v)).collect(), step.outputs.iter().map(|&v| store.get(v)).collect());
            let (input_shapes, output_shapes): (Vec<_>, Vec<_>) =
                (step.inputs.iter().map(shape).collect(), step.outputs.iter().map(shape).collect());
            let tape = Tape { inputs: &inputs, outputs: &outputs, input_shapes: &input_shapes, output_shapes: &output_shapes, aux: &aux };
            let derivatives = step.operator.vjp(&tape, given, wanted);
            for ((&v, wanted), derivative) in step.inputs.iter().zip(wanted).zip(derivatives) {
                if let (true, Some(derivative)) = (wanted, derivative) {
                    debug_assert_eq!(derivative.shape, plan.values[v].shape, "{}: shape of a derivative", step.node);
                    accumulate(&mut cotangents[v], derivative);
                }
            }
        }
        for &v in step.inputs.iter().chain(&step.outputs) {
            if reverse.first_need[v] >= i {
                store.slots[v] = None;
            }
        }
        for (&v, wanted) in step.inputs.iter().zip(wanted) {
            if let (true, true, Origin::Constant(tensor, Some(layer))) = (*wanted, plan.readers[v].0 == i, &plan.values[v].origin)
                && let Some(gradient) = cotangents[v].take().or_else(|| Some(Tensor::zeros(tensor.shape.clone())))
            {
                hooks.gradient(*layer, gradient);
            }
        }
    }

    /// Most bytes of activations alive at once (and of cotangents, for a gradient by all layers), by the plan: without
    /// weights, their gradients, and the operators' scratch memory, and as if nothing ran in place.
    pub fn peak_bytes(&self, gradient: bool) -> u64 {
        let plan = &*self.plan;
        let reverse = plan.reverse(|v| gradient && matches!(plan.values[v].origin, Origin::Constant(_, Some(_))));
        let size = |v: ValueId| if plan.values[v].constant().is_some() { 0 } else { plan.values[v].bytes() };
        let mut live: u64 = plan.inputs.iter().map(|&v| size(v)).sum();
        let mut peak = live;
        let mut held = vec![false; plan.values.len()];
        plan.inputs.iter().for_each(|&v| held[v] = true);
        for (i, step) in plan.steps.iter().enumerate() {
            for &v in &step.outputs {
                live += size(v);
                held[v] = true;
            }
            peak = peak.max(live);
            for &v in step.inputs.iter().chain(&step.outputs) {
                if held[v] && plan.readers[v].1 <= i && reverse.first_need[v] == usize::MAX {
                    live -= size(v);
                    held[v] = false;
                }
            }
        }
        if gradient {
            // Cotangents are as large as values; one exists from the last reader's turn, which comes first, to the producer's.
            let mut has = vec![false; plan.values.len()];
            for &v in &plan.outputs {
                live += size(v);
                has[v] = true;
            }
            for (i, step) in plan.steps.iter().enumerate().rev() {
                for (&v, _) in step.inputs.iter().zip(&reverse.wanted[i]).filter(|(_, wanted)| **wanted) {
                    if !std::mem::replace(&mut has[v], true) {
                        live += size(v);
                    }
                }
                peak = peak.max(live);
                for &v in &step.outputs {
                    if std::mem::take(&mut has[v]) {
                        live -= size(v);
                    }
                }
                for &v in step.inputs.iter().chain(&step.outputs) {
                    if held[v] && reverse.first_need[v] >= i {
                        live -= size(v);
                        held[v] = false;
                    }
                }
            }
        }
        peak
    }

    /// Multiplications of one forward pass in convolutions and matrix products.
    pub fn multiplications(&self) -> u64 {
        self.plan.steps.iter().map(|s| self.plan.multiplications(s)).sum()
    }
}

fn accumulate(sum: &mut Option<Tensor>, term: Tensor) {
    match sum {
        Some(sum) => sum.add(&term),
        None => *sum = Some(term),
    }
}

#[cfg(test)]
mod tests;
