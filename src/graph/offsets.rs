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
                d.len() > after
                    && d[d.len() - 1 - after] == channels
                    && d.iter().product::<usize>() == channels
                    && links.tensor_uses(name) == 1
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::graph::batch_norm::folds;

    fn node(op: &str, inputs: &str, output: &str, attributes: &[(&str, Attribute)]) -> Node {
        Node {
            op: op.into(),
            inputs: inputs.split(' ').map(|name| name.into()).collect(),
            outputs: vec![output.into()],
            attributes: attributes.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            ..Default::default()
        }
    }

    /// The weights of a graph, whether they are dense, and what is added; of a table of `name: dims`.
    fn found(nodes: Vec<Node>, table: &[(&str, &[usize])]) -> Vec<(String, bool, Added)> {
        let graph = Graph { nodes, outputs: vec!["y".into()], ..Default::default() };
        let table: HashMap<&str, &[usize]> = table.iter().copied().collect();
        let folds = folds(&graph, &|name| table.contains_key(name));
        let sites = sites(&graph, &folds, &|name| table.get(name).copied());
        sites.into_iter().map(|site| (site.weight, site.dense, site.added)).collect()
    }

    fn one(nodes: Vec<Node>, table: &[(&str, &[usize])]) -> Added {
        let mut found = found(nodes, table);
        assert_eq!(found.len(), 1);
        found.remove(0).2
    }

    fn own(tensor: &str, factor: f32) -> Added {
        Added::Own { tensor: tensor.into(), factor }
    }

    #[test]
    fn biases_of_operators() {
        let conv = [("w", &[4, 3, 3, 3][..]), ("b", &[4])];
        assert_eq!(one(vec![node("Conv", "x w b", "y", &[])], &conv), own("b", 1.0));
        // Through an Identity, and used twice.
        assert_eq!(one(vec![node("Identity", "b", "c", &[]), node("Conv", "x w c", "y", &[])], &conv), own("b", 1.0));
        assert_eq!(one(vec![node("Conv", "x w b", "1", &[]), node("Add", "1 b", "y", &[])], &conv), Added::Fixed);
        // No tensor of the table.
        assert_eq!(one(vec![node("Conv", "x w c", "y", &[])], &conv), Added::Fixed);
        let groups = [("group", Attribute::Int(2))];
        assert_eq!(one(vec![node("ConvTranspose", "x w b", "y", &groups)], &[("w", &[6, 2, 2, 2]), ("b", &[4])]), own("b", 1.0));
        let beta = |beta| [("beta", Attribute::Float(beta)), ("transB", Attribute::Int(1))];
        let gemm = |b: &[usize], factor| one(vec![node("Gemm", "x w b", "y", &beta(factor))], &[("w", &[4, 3]), ("b", b)]);
        assert_eq!((gemm(&[4], 0.5), gemm(&[1, 4], 1.0)), (own("b", 0.5), own("b", 1.0)));
        assert_eq!((gemm(&[4, 1], 1.0), gemm(&[1], 1.0), gemm(&[4], 0.0)), (Added::Fixed, Added::Fixed, Added::Fixed));
    }

    #[test]
    fn biases_that_are_added_after_the_operator() {
        let add =
            |op: &str, w: &[usize], b: &[usize]| one(vec![node(op, "x w", "1", &[]), node("Add", "b 1", "y", &[])], &[("w", w), ("b", b)]);
        let after = Added::After { tensor: "b".into() };
        assert_eq!(add("MatMul", &[3, 4], &[4]), after);
        assert_eq!(add("MatMul", &[3, 4], &[1, 1, 4]), after);
        assert_eq!(add("Conv", &[4, 3, 3, 3], &[1, 4, 1, 1]), after);
        assert_eq!(add("Conv", &[4, 3, 3], &[4, 1]), after);
        // Along another axis, or not per channel.
        for (op, w, b) in [("Conv", &[4, 3, 3, 3][..], &[4][..]), ("MatMul", &[3, 4], &[4, 1]), ("MatMul", &[3, 4], &[1])] {
            assert_eq!(add(op, w, b), Added::Nothing, "{op} {b:?}");
        }
        // Another reader of the output; something else that is done to it; a sum of two computed values.
        let table = [("w", &[3, 4][..]), ("b", &[4])];
        let start = || node("MatMul", "x w", "1", &[]);
        let one = |nodes| one(nodes, &table);
        assert_eq!(one(vec![start(), node("Add", "1 b", "2", &[]), node("Mul", "1 2", "y", &[])]), Added::Nothing);
        assert_eq!(one(vec![start(), node("Mul", "1 b", "y", &[])]), Added::Nothing);
        assert_eq!(one(vec![start(), node("Add", "1 x", "y", &[])]), Added::Nothing);
        assert_eq!(one(vec![start(), node("Add", "1 1", "y", &[])]), Added::Nothing);
    }

    #[test]
    fn folded_batch_norms_take_offsets() {
        let table: [(&str, &[usize]); 7] =
            [("w", &[4, 3, 1, 1]), ("b", &[4]), ("g", &[4]), ("beta", &[4]), ("m", &[4]), ("v", &[4]), ("c", &[4])];
        let folded = Added::Folded { beta: "beta".into(), bias: "w (bias, folded)".into() };
        for conv in ["x w", "x w b"] {
            let nodes = vec![node("Conv", conv, "1", &[]), node("BatchNormalization", "1 g beta m v", "y", &[])];
            assert_eq!(one(nodes, &table), folded, "{conv}");
        }
        // Two norms share a bias.
        let mut nodes = vec![node("Conv", "x w", "1", &[]), node("BatchNormalization", "1 g beta m v", "2", &[])];
        nodes.push(node("BatchNormalization", "2 c beta c c", "y", &[]));
        assert_eq!(one(nodes, &table), Added::Fixed);
    }

    #[test]
    fn weights_are_second_inputs_with_one_use() {
        let perm = |axes: &[i64]| [("perm", Attribute::Ints(axes.to_vec()))];
        let table: [(&str, &[usize]); 2] = [("w", &[4, 3]), ("b", &[4])];
        let turned =
            |axes: &[i64]| vec![node("Transpose", "w", "t", &perm(axes)), node("MatMul", "x t", "1", &[]), node("Add", "1 b", "y", &[])];
        assert_eq!(found(turned(&[1, 0]), &table), [("w".into(), true, Added::After { tensor: "b".into() })]);
        assert_eq!(found(turned(&[0, 1]), &table), []);
        assert_eq!(found(vec![node("MatMul", "w x", "y", &[])], &table), []);
        assert_eq!(found(vec![node("MatMul", "x w", "1", &[]), node("MatMul", "1 w", "y", &[])], &table), []);
        let graph = Graph { nodes: turned(&[1, 0]), ..Default::default() };
        let sites = sites(&graph, &[], &|name| table.iter().find(|t| t.0 == name).map(|t| t.1));
        let LayerShape { outputs, inputs, order, .. } = sites[0].shape;
        assert_eq!((outputs, inputs, order), (4, 3, Order::OutIn));
    }
}
