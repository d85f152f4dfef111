//! Second pass: from the nodes of the graph, what each of its tensors is for.

use std::collections::HashMap;

use super::walk::{Found, Node, Tensor, Walk};
use crate::error::{Result, bad};
use crate::io::{LayerShape, Order, Role};
use crate::limits;

/// How a node uses a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    /// Weight of a convolution with this many groups; transposed convolutions keep their inputs first.
    Convolution { groups: i64, order: Order },
    /// Matrix of a dense layer.
    Dense { order: Order },
    /// Bias, slope, or normalisation parameter.
    Small,
}

/// The role of each tensor of the walk, in its order. Tensors of other than float types are [`Role::Exact`] whatever uses them;
/// that is for the caller, who knows the types.
///
/// Identity nodes, and transpositions of a matrix, between a tensor and its layer are seen through. A tensor used in several
/// ways is a layer if it is the weight of one, and takes the layout of the first.
pub(super) fn assign(file: &str, walk: &Walk) -> Result<Vec<Role>> {
    let uses = uses(&walk.nodes);
    walk.tensors
        .iter()
        .map(|tensor| match (tensor.found, uses.get(&*tensor.name)) {
            (Found::Initializer | Found::Constant, Some(uses)) => role(file, tensor, uses),
            _ => Ok(Role::Exact),
        })
        .collect()
}

fn uses(nodes: &[Node]) -> HashMap<&str, Vec<Use>> {
    // What a name stands for: another name, transposed or not.
    let mut same: HashMap<&str, (&str, bool)> = HashMap::new();
    for node in nodes {
        match (&*node.op, node.inputs.first()) {
            ("Identity", Some(input)) => {
                same.insert(&node.output, (input, false));
            }
            ("Transpose", Some(input)) if node.permutation.as_deref() == Some(&[1, 0]) => {
                same.insert(&node.output, (input, true));
            }
            _ => {}
        }
    }
    let mut uses: HashMap<&str, Vec<Use>> = HashMap::new();
    for node in nodes {
        for (position, input) in node.inputs.iter().enumerate() {
            let (mut name, mut transposed) = (&**input, false);
            // Bounded: the names of a damaged graph may form a circle.
            for _ in 0..limits::DEPTH {
                let Some(&(earlier, turned)) = same.get(name) else { break };
                (name, transposed) = (earlier, transposed != turned);
            }
            if let Some(usage) = usage(node, position, transposed) {
                let list = uses.entry(name).or_default();
                if !list.contains(&usage) {
                    list.push(usage);
                }
            }
        }
    }
    uses
}

fn usage(node: &Node, position: usize, transposed: bool) -> Option<Use> {
    let dense = |out_in: bool| Some(Use::Dense { order: if out_in != transposed { Order::OutIn } else { Order::InOut } });
    let groups = node.group.unwrap_or(1);
    match (&*node.op, position) {
        ("Conv", 1) if !transposed => Some(Use::Convolution { groups, order: Order::OutIn }),
        ("ConvTranspose", 1) if !transposed => Some(Use::Convolution { groups, order: Order::InOut }),
        // A·B: a constant on the left holds one output per row, on the right one per column.
        ("Gemm", 0) => dense(!node.trans_a),
        ("Gemm", 1) => dense(node.trans_b),
        ("MatMul", 0) => dense(true),
        ("MatMul", 1) => dense(false),
        ("Conv" | "ConvTranspose" | "Gemm", 2)
        | ("BatchNormalization", 1..=4)
        | ("InstanceNormalization" | "LayerNormalization" | "GroupNormalization" | "RMSNormalization", 1..=2)
        | ("PRelu", 1)
        | ("Add" | "Sub" | "Mul" | "Div", 0 | 1) => Some(Use::Small),
        _ => None,
    }
}

fn role(file: &str, tensor: &Tensor, uses: &[Use]) -> Result<Role> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let Some(dims) = dims else { return Ok(Role::Exact) };
    match limits::element_count(&dims) {
        Some(n) if n > 0 => {}
        // Too many elements: an error once the tensor enters the table.
        _ => return Ok(Role::Exact),
    }
    for usage in uses {
        match (*usage, &*dims) {
            (Use::Convolution { groups, order }, &[first, second, ref kernel @ ..]) if !kernel.is_empty() => {
                let groups = usize::try_from(groups).unwrap_or(0);
                if groups == 0 || first % groups != 0 {
                    let reason = format!("its {first} channels are no multiple of the {groups} groups of its convolution");
                    return Err(bad(file, reason, "export the model again").tensor(&tensor.name));
                }
                let (outputs, inputs) = if order == Order::OutIn { (first / groups, second) } else { (second, first / groups) };
                let layer = LayerShape { groups, outputs, inputs, taps: kernel.iter().product(), columns: 0, order }.with_kernel(&dims);
                return Ok(Role::Layer(layer));
            }
            (Use::Dense { order }, &[first, second]) => {
                let (outputs, inputs) = if order == Order::OutIn { (first, second) } else { (second, first) };
                return Ok(Role::Layer(LayerShape { groups: 1, outputs, inputs, taps: 1, columns: 1, order }));
            }
            _ => {}
        }
    }
    // One channel axis, perhaps with axes of 1 around it for broadcasting.
    let vector = !dims.is_empty() && dims.iter().filter(|&&d| d > 1).count() == 1;
    Ok(if uses.contains(&Use::Small) && vector { Role::Small } else { Role::Exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], output: &str) -> Node {
        Node { op: op.into(), inputs: inputs.iter().map(|s| s.to_string()).collect(), output: output.into(), ..Node::default() }
    }

    #[test]
    fn chains_are_seen_through_and_circles_end() {
        let mut turn = node("Transpose", &["w2"], "w3");
        turn.permutation = Some(vec![1, 0]);
        let nodes = [
            node("Identity", &["w"], "w2"),
            turn,
            node("MatMul", &["x", "w3"], "y"),
            node("Identity", &["b"], "a"),
            node("Identity", &["a"], "b"),
            node("Add", &["a", "y"], "z"),
        ];
        let uses = uses(&nodes);
        assert_eq!(uses["w"], [Use::Dense { order: Order::OutIn }]);
    }

    #[test]
    fn gemm_layouts() {
        let mut gemm = node("Gemm", &["a", "b", "c"], "y");
        for (trans, left, right) in [(false, Order::OutIn, Order::InOut), (true, Order::InOut, Order::OutIn)] {
            (gemm.trans_a, gemm.trans_b) = (trans, trans);
            assert_eq!(usage(&gemm, 0, false), Some(Use::Dense { order: left }));
            assert_eq!(usage(&gemm, 1, false), Some(Use::Dense { order: right }));
        }
        assert_eq!(usage(&gemm, 2, false), Some(Use::Small));
    }
}
