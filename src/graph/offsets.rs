//! Layers whose output channels can be scaled by their weights, and the tensors that are added to their output: a gain of a channel goes
//! into the weights, an offset into such a tensor ([`crate::pipeline::matching`]).

use super::{
    Attribute, Graph, Node,
    batch_norm::{Fold, Links, float, layer_shape},
};
use crate::io::{LayerShape, Order};

/// A layer whose weights one operator uses, as its second input.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name of the weight tensor.
    pub weight: String,
    /// Its groups of channels, by the operator.
    pub shape: LayerShape,
    /// Whether it is a Gemm or MatMul: channels are the last axis of its output, and the second of others.
    pub dense: bool,
    /// What is added to its output.
    pub added: Added,
}

/// What is added to the output of a layer's operator, per channel. "Output" is that of the network that runs: batch norms are folded.
#[derive(Debug, Clone, PartialEq)]
pub enum Added {
    /// Nothing that could take an offset.
    Nothing,
    /// By the operator itself, something that cannot be changed for this layer alone.
    Fixed,
    /// By the operator itself, this tensor times a factor (`beta` of Gemm): part of the output.
    Own {
        /// Name of the tensor.
        tensor: String,
        /// The factor.
        factor: f32,
    },
    /// By the batch norm that is folded into it: part of the output.
    Folded {
        /// Name of the norm's bias `β`.
        beta: String,
        /// Name of the folded bias ([`Fold::bias_name`]).
        bias: String,
    },
    /// By an Add after it, this tensor: not part of the output.
    After {
        /// Name of the tensor.
        tensor: String,
    },
}

/// Finds the sites of a graph, in the order of its nodes. `folds` are those of the graph; `dims` tells the shape of tensors of the model's
/// table, for names that are of such.
///
/// Tensors that are added are named only if they have one value per output channel, along the axis of the channels, and no other use.
/// Identity nodes are seen through, and for dense layers a transposition of the weights.
pub fn sites<'a>(graph: &'a Graph, folds: &[Fold], dims: &dyn Fn(&str) -> Option<&'a [usize]>) -> Vec<Site> {
    let links = Links::new(graph);
    let mut sites = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let dense = matches!(&*node.op, "Gemm" | "MatMul");
        let Some((weight, turned)) = node.inputs.get(1).and_then(|w| weight(&links, w, dense)) else { continue };
        let Some(of) = dims(weight).filter(|_| node.domain.is_empty() && links.tensor_uses(weight) == 1) else { continue };
        let axes: Vec<usize> = if turned { of.iter().rev().copied().collect() } else { of.to_vec() };
        let Some(mut shape) = layer_shape(node, &axes) else { continue };
        if turned {
            shape.order = if shape.order == Order::OutIn { Order::InOut } else { Order::OutIn };
        }
        let channels = shape.groups * shape.outputs;
        // Axes after that of the channels.
        let after = of.len().saturating_sub(2);
        let own = |name: &'a str, after: usize| {
            let name = links.source(name);
            let fits = |d: &[usize]| {
                d.len() > after && d[d.len() - 1 - after] == channels && d.iter().product::<usize>() == channels && links.tensor_uses(name) == 1
            };
            dims(name).filter(|d| fits(d)).map(|_| name.to_string())
        };
        let added = if let Some(fold) = folds.iter().find(|fold| fold.layer_node == index) {
            let beta = graph.nodes[fold.norm_node].inputs.get(2).and_then(|name| own(name, 0));
            beta.map_or(Added::Fixed, |beta| Added::Folded { beta, bias: fold.bias_name() })
        } else if let Some(bias) = node.inputs.get(2).filter(|name| !name.is_empty()) {
            let factor = if node.op == "Gemm" { float(node, "beta", 1.0) } else { 1.0 };
            let tensor = own(bias, 0).filter(|_| factor.is_normal());
            tensor.map_or(Added::Fixed, |tensor| Added::Own { tensor, factor })
        } else {
            let added = addend(graph, &links, node).and_then(|name| own(name, after));
            added.map_or(Added::Nothing, |tensor| Added::After { tensor })
        };
        sites.push(Site { weight: weight.to_string(), shape, dense, added });
    }
    sites
}

/// The tensor that an operator's second input is, and whether it is transposed on its way there.
fn weight<'a>(links: &Links<'a>, name: &'a str, dense: bool) -> Option<(&'a str, bool)> {
    let name = links.source(name);
    let Some(node) = links.node(name) else { return Some((name, false)) };
    let swaps = matches!(node.attributes.get("perm"), Some(Attribute::Ints(axes)) if *axes == [1, 0]);
    if !dense || node.op != "Transpose" || !node.domain.is_empty() || !swaps || links.tensor_uses(name) != 1 {
        return None;
    }
    let name = links.source(node.inputs.first()?);
    links.node(name).is_none().then_some((name, true))
}

/// What an Add adds to the output of a node, if nothing else reads that.
fn addend<'a>(graph: &'a Graph, links: &Links<'a>, node: &'a Node) -> Option<&'a str> {
    let output = node.outputs.first().filter(|output| links.readers(output) == 1)?;
    let add = graph.nodes.iter().find(|n| n.inputs.contains(output))?;
    let [a, b] = &add.inputs[..] else { return None };
    let is_add = add.op == "Add" && add.domain.is_empty();
    is_add.then_some(if a == output { b } else { a })
}
