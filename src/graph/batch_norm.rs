//! Batch norms right after a layer: for compression they are folded into its weights, `W' = W·s` with `s = γ/√(σ² + ε)` per output
//! channel, and `b' = (b − μ)·s + β`. The file keeps its unfolded form: `W = W'/s`.
//!
//! [`folds`] finds them. For running, [`rewrite`] takes them out of the graph and [`fold`] changes the tensors accordingly; for
//! compression, [`crate::container`] scales the rows of a layer with [`scale`] and back again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Attribute, Graph, Node, Values, lower::Weight};
use crate::{
    io::{LayerShape, Order},
    limits,
    nn::Tensor,
};

/// A batch norm that follows a layer and nothing else reads the layer's output.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// Index of the layer's node in [`Graph::nodes`].
    pub layer_node: usize,
    /// Index of the batch norm's node.
    pub norm_node: usize,
    /// Name of the weight tensor.
    pub weight: String,
    /// Name of the layer's own bias, if it has one.
    pub bias: Option<String>,
    /// Factor of that bias (`beta` of Gemm).
    pub bias_factor: f32,
    /// Names of scale `γ`, bias `β`, mean `μ`, variance `σ²`.
    pub parameters: [String; 4],
    /// Added to the variance.
    pub epsilon: f32,
}

/// Finds the batch norms that can be folded: Conv, ConvTranspose, Gemm or MatMul with a weight from the model's table that nothing else
/// uses, whose output only a BatchNormalization reads, with parameters from the table. They come in the order of the layers.
///
/// Identity nodes between a tensor and its use are seen through. A MatMul counts if its input is known to be a matrix: of anything
/// else a batch norm would scale another axis.
pub fn folds(graph: &Graph, is_tensor: &dyn Fn(&str) -> bool) -> Vec<Fold> {
    let values = Links::new(graph);
    let tensor = |name: &str| {
        let name = values.source(name);
        (!name.is_empty() && is_tensor(name)).then(|| name.to_string())
    };
    let mut folds = Vec::new();
    for (norm_node, norm) in graph.nodes.iter().enumerate() {
        // Other outputs, or the mode itself, say that statistics are those of the batch.
        let training = int(norm, "training_mode", 0) != 0 || norm.outputs.iter().skip(1).any(|o| !o.is_empty());
        if norm.op != "BatchNormalization" || !norm.domain.is_empty() || training {
            continue;
        }
        let [x, gamma, beta, mean, variance] = &norm.inputs[..] else { continue };
        let Some(&layer_node) = values.producer.get(x.as_str()) else { continue };
        let layer = &graph.nodes[layer_node];
        if values.readers(x) != 1 || !foldable(&values, layer) {
            continue;
        }
        let Some(weight) = layer.inputs.get(1).and_then(|w| tensor(w)) else { continue };
        let bias = match layer.inputs.get(2).map(String::as_str) {
            None | Some("") => None,
            Some(name) => match tensor(name) {
                Some(name) => Some(name),
                None => continue,
            },
        };
        let parameters = [gamma, beta, mean, variance].map(|name| tensor(name));
        let [Some(gamma), Some(beta), Some(mean), Some(variance)] = parameters else { continue };
        let epsilon = float(norm, "epsilon", 1e-5);
        let bias_factor = if layer.op == "Gemm" { float(layer, "beta", 1.0) } else { 1.0 };
        let parameters = [gamma, beta, mean, variance];
        let fold = Fold { layer_node, norm_node, weight, bias, bias_factor, parameters, epsilon };
        let alone = values.tensor_uses(&fold.weight) == 1 && !fold.parameters.contains(&fold.weight);
        if alone && epsilon.is_finite() && epsilon >= 0.0 && !is_tensor(&fold.bias_name()) {
            folds.push(fold);
        }
    }
    folds.sort_by_key(|fold| fold.layer_node);
    folds
}

/// Whether a batch norm after this node scales output channels of its weight.
fn foldable(values: &Links<'_>, layer: &Node) -> bool {
    let one_output = layer.outputs.iter().filter(|o| !o.is_empty()).count() == 1;
    layer.domain.is_empty()
        && one_output
        && match &*layer.op {
            "Conv" | "ConvTranspose" | "Gemm" => true,
            "MatMul" => layer.inputs.first().is_some_and(|x| values.is_matrix(x)),
            _ => false,
        }
}

/// Who makes and who reads which value of a graph.
pub(super) struct Links<'a> {
    graph: &'a Graph,
    producer: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, usize>,
    /// Uses of what Identity nodes are seen through to.
    uses: HashMap<&'a str, usize>,
}

impl<'a> Links<'a> {
    pub(super) fn new(graph: &'a Graph) -> Links<'a> {
        let mut values = Links { graph, producer: HashMap::new(), readers: HashMap::new(), uses: HashMap::new() };
        for (index, node) in graph.nodes.iter().enumerate() {
            for output in node.outputs.iter().filter(|o| !o.is_empty()) {
                values.producer.insert(output, index);
            }
        }
        let identity = |node: &Node| node.op == "Identity" && node.domain.is_empty();
        for node in &graph.nodes {
            for input in node.inputs.iter().filter(|i| !i.is_empty()) {
                *values.readers.entry(input).or_default() += 1;
                if !identity(node) {
                    let source = values.source(input);
                    *values.uses.entry(source).or_default() += 1;
                }
            }
        }
        // An output of the graph is read by whoever runs it.
        for output in &graph.outputs {
            *values.readers.entry(output).or_default() += 1;
            let source = values.source(output);
            *values.uses.entry(source).or_default() += 1;
        }
        values
    }

    /// The node that gives a value; nothing for inputs and constants.
    pub(super) fn node(&self, name: &str) -> Option<&'a Node> {
        self.producer.get(name).map(|&i| &self.graph.nodes[i])
    }

    /// What a name stands for, seen through Identity nodes.
    pub(super) fn source(&self, name: &'a str) -> &'a str
    where
        Self: 'a,
    {
        let mut name = name;
        // Bounded: the names of a damaged graph may form a circle.
        for _ in 0..limits::DEPTH {
            match self.producer.get(name).map(|&i| &self.graph.nodes[i]) {
                Some(node) if node.op == "Identity" && node.domain.is_empty() => match node.inputs.first() {
                    Some(input) => name = input,
                    None => break,
                },
                _ => break,
            }
        }
        name
    }

    /// How often a value is read, by nodes and as an output.
    pub(super) fn readers(&self, name: &str) -> usize {
        self.readers.get(name).copied().unwrap_or(0)
    }

    /// How often a tensor is used, seen through Identity nodes.
    pub(super) fn tensor_uses(&self, name: &str) -> usize {
        self.uses.get(name).copied().unwrap_or(0)
    }

    /// Whether a value surely has two axes.
    fn is_matrix(&self, name: &str) -> bool {
        let mut name = name;
        for _ in 0..limits::DEPTH {
            let Some(node) = self.producer.get(name).map(|&i| &self.graph.nodes[i]) else {
                return self.graph.inputs.iter().any(|input| input.name == name && input.dims.len() == 2);
            };
            match (&*node.op, node.inputs.first()) {
                ("Flatten" | "Gemm", _) => return true,
                ("Reshape", _) => {
                    let shape = node.inputs.get(1).and_then(|s| self.graph.constants.get(s));
                    return shape.is_some_and(|s| matches!(&s.values, Values::Int(v) if v.len() == 2));
                }
                ("MatMul" | "Identity" | "Dropout" | "BatchNormalization", Some(x))
                | ("Relu" | "LeakyRelu" | "Elu" | "Clip" | "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish", Some(x)) => name = x,
                _ => return false,
            }
        }
        false
    }
}

pub(super) fn int(node: &Node, key: &str, default: i64) -> i64 {
    if let Some(Attribute::Int(v)) = node.attributes.get(key) { *v } else { default }
}

pub(super) fn float(node: &Node, key: &str, default: f32) -> f32 {
    if let Some(Attribute::Float(v)) = node.attributes.get(key) { *v } else { default }
}

/// The graph with batch norms folded: their nodes are gone, their layers have the bias [`Fold::bias_name`] and give what the norms gave.
/// A MatMul becomes a Gemm. The folds are those of this very graph.
pub fn rewrite(graph: &Graph, folds: &[Fold]) -> Graph {
    let mut graph = graph.clone();
    for fold in folds {
        let outputs = graph.nodes[fold.norm_node].outputs[..1].to_vec();
        let layer = &mut graph.nodes[fold.layer_node];
        layer.outputs = outputs;
        layer.inputs.resize(3, String::new());
        layer.inputs[2] = fold.bias_name();
        match &*layer.op {
            "Gemm" => drop(layer.attributes.insert("beta".into(), Attribute::Float(1.0))),
            "MatMul" => layer.op = "Gemm".into(),
            _ => {}
        }
    }
    let gone: HashSet<usize> = folds.iter().map(|fold| fold.norm_node).collect();
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
    graph
}

/// Folds tensors for the rewritten graph: weights are multiplied by their scale, and the folded biases are put beside them. `graph` is
/// the one before [`rewrite`].
///
/// # Errors
/// The name of a tensor and a clause that says why its shape does not fit.
pub fn fold(folds: &[Fold], graph: &Graph, weights: &mut HashMap<String, Weight>) -> Result<(), (String, String)> {
    for fold in folds {
        let (scale, bias) = fold.folded(graph, weights)?;
        fold.multiply(graph, weights, &scale)?;
        let layer = None;
        weights.insert(fold.bias_name(), Weight { tensor: Arc::new(Tensor::new(vec![bias.len()], bias)), layer });
    }
    Ok(())
}

/// Folds again after tensors called `replaced` got other values. `before` are all tensors as [`fold`] left them; in `weights` those
/// that were replaced are not folded, all others still are. Weights that were not replaced stay what they were before folding.
///
/// # Errors
/// As [`fold`].
pub fn refold(
    folds: &[Fold],
    graph: &Graph,
    before: &HashMap<String, Weight>,
    weights: &mut HashMap<String, Weight>,
    replaced: &[String],
) -> Result<(), (String, String)> {
    for fold in folds {
        let given = |name: &String| replaced.contains(name);
        if !given(&fold.weight) {
            if !fold.parameters.iter().chain(&fold.bias).any(given) {
                continue;
            }
            // Where the scale was zero nothing is left of the weights; they stay zero.
            let (scale, _) = fold.folded(graph, before)?;
            let inverse: Vec<f32> = scale.iter().map(|&s| if s == 0.0 { 0.0 } else { 1.0 / s }).collect();
            fold.multiply(graph, weights, &inverse)?;
        }
        self::fold(std::slice::from_ref(fold), graph, weights)?;
    }
    Ok(())
}

/// `γ/√(σ² + ε)` in `f32`: sum, root and quotient each rounded to nearest, so that every decoder gets the same bits.
pub fn scale(gamma: &[f32], variance: &[f32], epsilon: f32) -> Vec<f32> {
    gamma.iter().zip(variance).map(|(&g, &v)| g / (v + epsilon).sqrt()).collect()
}

/// The weights of a node as groups of channels, by its operator and the shape of its second input. Nothing where these do not fit.
pub(super) fn layer_shape(node: &Node, dims: &[usize]) -> Option<LayerShape> {
    let (order, groups) = match &*node.op {
        "Conv" => (Order::OutIn, int(node, "group", 1)),
        "ConvTranspose" => (Order::InOut, int(node, "group", 1)),
        "Gemm" if int(node, "transB", 0) != 0 => (Order::OutIn, 1),
        "Gemm" | "MatMul" => (Order::InOut, 1),
        _ => return None,
    };
    let (&[first, second, ref kernel @ ..], groups) = (dims, usize::try_from(groups).ok()?) else { return None };
    if groups == 0 || first % groups != 0 || kernel.is_empty() != matches!(&*node.op, "Gemm" | "MatMul") {
        return None;
    }
    let (outputs, inputs) = if order == Order::OutIn { (first / groups, second) } else { (second, first / groups) };
    Some(LayerShape { groups, outputs, inputs, taps: kernel.iter().product(), columns: 0, order }.with_kernel(dims))
}

impl Fold {
    /// Name of the folded bias `b'` in the rewritten graph; no tensor of the file has it.
    pub fn bias_name(&self) -> String {
        format!("{} (bias, folded)", self.weight)
    }

    /// `s = γ/√(σ² + ε)`, in `f32` arithmetic that every decoder repeats.
    pub fn scale(&self, gamma: &[f32], variance: &[f32]) -> Vec<f32> {
        scale(gamma, variance, self.epsilon)
    }

    /// `b' = (b − μ)·s + β`; `own` is the layer's own bias.
    pub fn folded_bias(&self, own: Option<&[f32]>, scale: &[f32], beta: &[f32], mean: &[f32]) -> Vec<f32> {
        let own = |i: usize| own.map_or(0.0, |b| self.bias_factor * b[i]);
        (0..scale.len()).map(|i| (own(i) - mean[i]) * scale[i] + beta[i]).collect()
    }

    /// The layer's weights as groups of channels, by its operator and the shape of its weight. Nothing where these do not fit.
    pub fn layer_shape(&self, graph: &Graph, dims: &[usize]) -> Option<LayerShape> {
        layer_shape(graph.nodes.get(self.layer_node)?, dims)
    }

    /// Scale and folded bias from tensors of the table.
    fn folded(&self, graph: &Graph, weights: &HashMap<String, Weight>) -> Result<(Vec<f32>, Vec<f32>), (String, String)> {
        let channels = self.channels(graph, weights)?;
        let get = |name: &String| {
            let data = weights.get(name).map_or(&[][..], |w| &w.tensor.data);
            if data.len() == channels {
                Ok(data)
            } else {
                Err((name.clone(), format!("it has {} values for {channels} channels", data.len())))
            }
        };
        let [gamma, beta, mean, variance] = &self.parameters;
        let scale = self.scale(get(gamma)?, get(variance)?);
        let own = self.bias.as_ref().map(get).transpose()?;
        let bias = self.folded_bias(own, &scale, get(beta)?, get(mean)?);
        Ok((scale, bias))
    }

    fn channels(&self, graph: &Graph, weights: &HashMap<String, Weight>) -> Result<usize, (String, String)> {
        let shape = weights.get(&self.weight).and_then(|w| self.layer_shape(graph, &w.tensor.shape));
        shape.map(|s| s.groups * s.outputs).ok_or_else(|| (self.weight.clone(), "its shape does not fit its operator".into()))
    }

    /// Multiplies the weights of each output channel.
    fn multiply(&self, graph: &Graph, weights: &mut HashMap<String, Weight>, scale: &[f32]) -> Result<(), (String, String)> {
        let wrong = || (self.weight.clone(), "its shape does not fit its operator".to_string());
        let weight = weights.get_mut(&self.weight).ok_or_else(wrong)?;
        let shape = self.layer_shape(graph, &weight.tensor.shape).ok_or_else(wrong)?;
        multiply(&mut Arc::make_mut(&mut weight.tensor).data, &shape, scale);
        Ok(())
    }
}

/// Multiplies the weights of each output channel, in the order of the file.
pub fn multiply(weights: &mut [f32], shape: &LayerShape, scale: &[f32]) {
    let &LayerShape { outputs, inputs, taps, .. } = shape;
    let times = |part: &mut [f32], s: f32| part.iter_mut().for_each(|w| *w *= s);
    match shape.order {
        Order::OutIn => weights.chunks_exact_mut((inputs * taps).max(1)).zip(scale).for_each(|(row, &s)| times(row, s)),
        Order::InOut => {
            let groups = weights.chunks_exact_mut((inputs * outputs * taps).max(1)).zip(scale.chunks_exact(outputs.max(1)));
            for (group, scale) in groups {
                for row in group.chunks_exact_mut((outputs * taps).max(1)) {
                    row.chunks_exact_mut(taps.max(1)).zip(scale).for_each(|(part, &s)| times(part, s));
                }
            }
        }
    }
}
