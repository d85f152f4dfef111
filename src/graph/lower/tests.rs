use proptest::prelude::*;

use super::*;
use crate::{
    graph::{Attribute, Input, Node},
    nn::NoHooks,
    testing::noise,
};

/// A node from words: `node("Concat", "a b", "y", &[("axis", Int(0))])`; `_` is an input left out.
fn node(op: &str, inputs: &str, outputs: &str, attributes: &[(&str, Attribute)]) -> Node {
    let words = |text: &str| text.split_whitespace().map(|w| if w == "_" { String::new() } else { w.to_string() }).collect();
    Node {
        name: String::new(),
        op: op.into(),
        domain: String::new(),
        inputs: words(inputs),
        outputs: words(outputs),
        attributes: attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
    }
}

fn ints(values: &[i64]) -> Array {
    Array { shape: vec![values.len()], values: Values::Int(values.to_vec()) }
}

fn int(value: i64) -> Array {
    Array { shape: vec![], values: Values::Int(vec![value]) }
}

fn floats(values: &[f32]) -> Array {
    Array { shape: vec![values.len()], values: Values::Float(values.to_vec()) }
}

/// A graph from `x` to `y`.
fn graph(opset: i64, constants: &[(&str, Array)], nodes: Vec<Node>) -> Graph {
    Graph {
        opset,
        inputs: vec![Input { name: "x".into(), dims: Vec::new() }],
        outputs: vec!["y".into()],
        nodes,
        constants: constants.iter().map(|(name, array)| (name.to_string(), array.clone())).collect(),
        metadata: HashMap::new(),
    }
}

fn lower(graph: &Graph, shapes: &[&[usize]]) -> Result<Network> {
    let shapes: Vec<Vec<usize>> = shapes.iter().map(|s| s.to_vec()).collect();
    Lowering { file: "net.onnx", graph, weights: &HashMap::new(), feeds: &HashMap::new() }.lower(&shapes)
}

/// Runs a graph on 0, 1, 2 … in this shape.
fn run(graph: &Graph, shape: &[usize]) -> Tensor {
    let x = Tensor::new(shape, (0..shape.iter().product()).map(|i| i as f32).collect());
    lower(graph, &[shape]).unwrap().forward(vec![x], &mut NoHooks).remove(0)
}

fn refusal(graph: &Graph, shape: &[usize]) -> String {
    lower(graph, &[shape]).unwrap_err().to_string()
}

use Attribute::{Int, Ints, Text};

/// `x.view(x.size(0), -1)` as TorchScript exports it.
#[test]
fn a_flatten_chain_is_computed() {
    let g = graph(
        11,
        &[("zero", int(0)), ("minus", ints(&[-1]))],
        vec![
            node("Shape", "x", "shape", &[]),
            node("Gather", "shape zero", "n", &[("axis", Int(0))]),
            node("Unsqueeze", "n", "n1", &[("axes", Ints(vec![0]))]),
            node("Concat", "n1 minus", "to", &[("axis", Int(0))]),
            node("Reshape", "x to", "y", &[]),
        ],
    );
    for n in [1, 5] {
        let y = run(&g, &[n, 3, 2, 2]);
        assert_eq!((&*y.shape, y.data[n * 12 - 1]), (&[n, 12][..], (n * 12 - 1) as f32));
    }
}

/// A node, the constants it reads, and what it gives.
type IntegerCase<'a> = (Node, Vec<(&'a str, Array)>, Vec<i64>);

/// Integers go through every kind of arithmetic; the result is the shape of `y`.
#[test]
fn integers_are_exact() {
    let cases: Vec<IntegerCase> = vec![
        (node("Div", "a b", "s", &[]), vec![("a", ints(&[7, 9])), ("b", int(2))], vec![3, 4]),
        (node("Mod", "a b", "s", &[]), vec![("a", ints(&[-7, 7])), ("b", int(4))], vec![1, 3]),
        (node("Mul", "a b", "s", &[]), vec![("a", ints(&[2, 3])), ("b", ints(&[5]))], vec![10, 15]),
        (node("Max", "a b c", "s", &[]), vec![("a", ints(&[2, 3])), ("b", ints(&[3, 1])), ("c", int(2))], vec![3, 3]),
        (node("Where", "a b c", "s", &[]), vec![("a", ints(&[0, 1])), ("b", ints(&[7, 8])), ("c", int(2))], vec![2, 8]),
        (node("Range", "a b c", "s", &[]), vec![("a", int(9)), ("b", int(1)), ("c", int(-3))], vec![9, 6, 3]),
        (node("ReduceProd", "a", "s", &[("keepdims", Int(1))]), vec![("a", ints(&[2, 3, 4]))], vec![24]),
        (
            node("Slice", "a b c _ d", "s", &[]),
            vec![("a", ints(&[1, 2, 3, 4])), ("b", ints(&[-1])), ("c", ints(&[-99])), ("d", ints(&[-2]))],
            vec![4, 2],
        ),
        (node("Tile", "a b", "s", &[]), vec![("a", ints(&[1, 2])), ("b", ints(&[2]))], vec![1, 2, 1, 2]),
        (node("Pad", "a b c", "s", &[]), vec![("a", ints(&[1, 2])), ("b", ints(&[1, 0])), ("c", int(3))], vec![3, 1, 2]),
        (node("Cast", "a", "s", &[("to", Int(6))]), vec![("a", floats(&[2.9, 1.0]))], vec![2, 1]),
        (node("NonZero", "a", "t", &[]), vec![("a", ints(&[0, 5, 5]))], vec![1, 2]),
        (node("ConstantOfShape", "a", "s", &[("value", Attribute::Array(ints(&[3])))]), vec![("a", ints(&[2]))], vec![3, 3]),
    ];
    for (first, constants, wanted) in cases {
        let mut nodes = vec![first];
        if nodes[0].outputs[0] == "t" {
            nodes.push(node("Squeeze", "t", "s", &[]));
        }
        let op = nodes[0].op.clone();
        nodes.push(node("Reshape", "x s", "y", &[]));
        let elements = wanted.iter().product::<i64>() as usize;
        let shape: Vec<i64> = run(&graph(13, &constants, nodes), &[elements]).shape.iter().map(|&n| n as i64).collect();
        assert_eq!(shape, wanted, "{op}");
    }
}

/// A known float scales a size: `Resize` to the double, as old exporters wrote it.
#[test]
fn sizes_computed_through_floats() {
    let g = graph(
        11,
        &[
            ("two", int(2)),
            ("four", int(4)),
            ("axes", ints(&[0])),
            ("scale", floats(&[2.0])),
            ("nc", ints(&[1, 1])),
            ("starts", ints(&[2])),
            ("ends", ints(&[i64::MAX])),
        ],
        vec![
            node("Shape", "x", "shape", &[]),
            node("Slice", "shape starts ends axes", "hw", &[]),
            node("Cast", "hw", "f", &[("to", Int(1))]),
            node("Mul", "f scale", "g", &[]),
            node("Floor", "g", "h", &[]),
            node("Cast", "h", "i", &[("to", Int(7))]),
            node("Concat", "nc i", "sizes", &[("axis", Int(0))]),
            node(
                "Resize",
                "x _ _ sizes",
                "y",
                &[
                    ("mode", Text("nearest".into())),
                    ("coordinate_transformation_mode", Text("asymmetric".into())),
                    ("nearest_mode", Text("floor".into())),
                ],
            ),
        ],
    );
    let y = run(&g, &[1, 1, 2, 2]);
    assert_eq!((&*y.shape, &*y.data), (&[1, 1, 4, 4][..], &[0., 0., 1., 1., 0., 0., 1., 1., 2., 2., 3., 3., 2., 2., 3., 3.][..]));
}

#[test]
fn what_was_an_attribute_became_an_input() {
    let four = |op: Node, constants: &[(&str, Array)], opset| run(&graph(opset, constants, vec![op]), &[1, 4]).data;
    let pads = Attribute::Ints(vec![0, 1, 0, 0]);
    assert_eq!(four(node("Pad", "x", "y", &[("pads", pads), ("value", Attribute::Float(9.0))]), &[], 7), [9.0, 0.0, 1.0, 2.0, 3.0]);
    let new = node("Pad", "x p v a", "y", &[]);
    assert_eq!(four(new, &[("p", ints(&[1, 0])), ("v", floats(&[9.0])), ("a", ints(&[-1]))], 18), [9.0, 0.0, 1.0, 2.0, 3.0]);
    let old = node("Slice", "x", "y", &[("starts", Ints(vec![1])), ("ends", Ints(vec![3])), ("axes", Ints(vec![1]))]);
    assert_eq!(four(old, &[], 7), [1.0, 2.0]);
    assert_eq!(four(node("Clip", "x", "y", &[("max", Attribute::Float(2.0))]), &[], 7), [0.0, 1.0, 2.0, 2.0]);
    assert_eq!(four(node("Clip", "x _ m", "y", &[]), &[("m", floats(&[2.0]))], 11), [0.0, 1.0, 2.0, 2.0]);
    assert_eq!(run(&graph(7, &[], vec![node("Squeeze", "x", "y", &[("axes", Ints(vec![0]))])]), &[1, 4]).shape, [4]);
    assert_eq!(run(&graph(13, &[("a", ints(&[-2]))], vec![node("Squeeze", "x a", "y", &[])]), &[1, 4]).shape, [4]);
}

/// Before opset 13 the axes from 1 on share one sum, since then the last has its own.
#[test]
fn softmax_changed_its_axes() {
    let sums = |opset| {
        let y = run(&graph(opset, &[], vec![node("Softmax", "x", "y", &[])]), &[2, 3, 4]);
        y.data.iter().sum::<f32>()
    };
    assert!((sums(12) - 2.0).abs() < 1e-5 && (sums(13) - 6.0).abs() < 1e-5);
}

#[test]
fn sentences() {
    let unknown = graph(17, &[], vec![node("Einsum", "x", "y", &[])]);
    assert_eq!(
        refusal(&unknown, &[1]),
        "net.onnx: its node `y` (Einsum, opset 17): this operator cannot be run; the model can still be compressed without running it."
    );
    let mut named = node("FusedConv", "x", "y", &[]);
    (named.name, named.domain) = ("block/1".into(), "com.microsoft".into());
    assert!(refusal(&graph(17, &[], vec![named]), &[1]).contains("`block/1` (FusedConv, opset 17): this operator of com.microsoft cannot"));
    assert!(refusal(&graph(6, &[], vec![]), &[1]).contains("opset 6, and 7 is the oldest"));
    let data = graph(13, &[], vec![node("Reshape", "x x", "y", &[])]);
    assert!(refusal(&data, &[1]).contains("its shape (input 2, `x`) is computed from the data, and would have to be known"));
    let indices = graph(13, &[], vec![node("MaxPool", "x", "m i", &[("kernel_shape", Ints(vec![1, 1]))]), node("Identity", "i", "y", &[])]);
    assert!(refusal(&indices, &[1, 1, 2, 2]).contains("it needs `i`, output 2 of MaxPool, which cannot be had"));
    let missing = graph(13, &[], vec![node("Identity", "z", "y", &[])]);
    assert!(refusal(&missing, &[1]).contains("`z`, which is neither computed nor a constant"));
    let volume = graph(13, &[], vec![node("MaxPool", "x", "y", &[("kernel_shape", Ints(vec![1; 3]))])]);
    assert!(refusal(&volume, &[1; 5]).contains("3 spatial axes; one and two can be run"));
    let typed = graph(13, &[], vec![node("Flatten", "x", "y", &[("axis", Text("one".into()))])]);
    assert!(refusal(&typed, &[1, 1]).contains("its attribute `axis` is not an integer"));
}

#[test]
fn damaged_graphs() {
    let circle = graph(13, &[], vec![node("Add", "x z", "y", &[]), node("Identity", "y", "z", &[])]);
    assert!(refusal(&circle, &[1]).contains("form a circle"));
    let twice = graph(13, &[], vec![node("Identity", "x", "y", &[]), node("Identity", "x", "y", &[])]);
    assert!(refusal(&twice, &[1]).contains("the value `y` twice"));
    let shadow = graph(13, &[("y", int(1))], vec![node("Identity", "x", "y", &[])]);
    assert!(refusal(&shadow, &[1]).contains("the value `y` twice"));
    let nothing = Graph { outputs: Vec::new(), ..graph(13, &[], vec![]) };
    assert!(refusal(&nothing, &[1]).contains("has no output"));
    assert!(lower(&graph(13, &[], vec![node("Identity", "x", "y", &[])]), &[]).is_err(), "an input is missing");
    let wrong = Array { shape: vec![3], values: Values::Int(vec![1]) };
    assert!(refusal(&graph(13, &[("a", wrong)], vec![node("Reshape", "x a", "y", &[])]), &[1]).contains("has 1 elements"));
    // Any order will do, and what no output needs may be anything.
    let turned = graph(13, &[], vec![node("Nonsense", "y", "w", &[]), node("Identity", "z", "y", &[]), node("Identity", "x", "z", &[])]);
    assert_eq!(run(&turned, &[2]).data, [0.0, 1.0]);
}

/// Numbers that a small file can ask for.
#[test]
fn claims_are_bounded() {
    let huge = |op: Node, constants: &[(&str, Array)]| refusal(&graph(13, constants, vec![op, node("Reshape", "x s", "y", &[])]), &[1]);
    let value = [("value", Attribute::Array(ints(&[1])))];
    assert!(huge(node("ConstantOfShape", "a", "s", &value), &[("a", ints(&[1 << 40]))]).contains("makes no sense"));
    assert!(huge(node("ConstantOfShape", "a", "s", &value), &[("a", ints(&[1 << 27]))]).contains("too many"));
    assert!(huge(node("Range", "a b c", "s", &[]), &[("a", int(i64::MIN)), ("b", int(i64::MAX)), ("c", int(1))]).contains("too many"));
    assert!(huge(node("Tile", "a b", "s", &[]), &[("a", ints(&[1, 2])), ("b", ints(&[1 << 27]))]).contains("too"));
    assert!(huge(node("Div", "a b", "s", &[]), &[("a", int(1)), ("b", int(0))]).contains("divided by 0"));
    assert!(huge(node("Div", "a b", "s", &[]), &[("a", int(i64::MIN)), ("b", int(-1))]).contains("overflow"));
    assert!(huge(node("Mul", "a a", "s", &[]), &[("a", int(i64::MAX))]).contains("overflow"));
    let doubling: Vec<Node> = (0..40).map(|i| node("Concat", &format!("a{i} a{i}"), &format!("a{}", i + 1), &[("axis", Int(0))])).collect();
    let mut doubled = graph(13, &[("a0", ints(&[1, 2]))], doubling);
    doubled.nodes.push(node("Reshape", "x a40", "y", &[]));
    assert!(refusal(&doubled, &[1]).contains("too many"));
}

/// Weights of layers stay operators' inputs, through a Transpose too; other floats are computed at once.
#[test]
fn layers_are_not_folded_away() {
    let weight = |layer| Weight { tensor: Arc::new(Tensor::new([2, 3], noise(6, 1))), layer };
    let g = graph(13, &[], vec![node("Transpose", "w", "t", &[]), node("MatMul", "x t", "y", &[])]);
    let count = |layer| {
        let weights = HashMap::from([("w".to_string(), weight(layer))]);
        let network = Lowering { file: "f", graph: &g, weights: &weights, feeds: &HashMap::new() }.lower(&[vec![4, 3]]).unwrap();
        network.layers()
    };
    assert_eq!((count(Some(5)), count(None)), (vec![5], vec![]));
}

#[test]
fn ranges_are_numpys() {
    let positions = |start, end, step, n| {
        let (first, step, count) = arrange::range(start, end, step, n);
        (0..count as isize).map(|i| first as isize + i * step).collect::<Vec<_>>()
    };
    assert_eq!(positions(1, 3, 1, 5), [1, 2]);
    assert_eq!(positions(-2, i64::MAX, 1, 5), [3, 4]);
    assert_eq!(positions(-1, i64::MIN, -1, 3), [2, 1, 0]);
    assert_eq!(positions(i64::MAX, i64::MIN, i64::MIN, 3), [2]);
    assert_eq!(positions(0, 5, i64::MAX, 5), [0]);
    assert!(positions(3, 1, 1, 5).is_empty());
    assert!(positions(0, 0, 1, 0).is_empty());
    assert!(positions(-1, -9, -2, 0).is_empty());
}

/// Values that a damaged or hostile file may hold.
fn any_attribute() -> impl Strategy<Value = Attribute> {
    let number = prop_oneof![-3i64..6, any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just(0)];
    prop_oneof![
        number.clone().prop_map(Int),
        any::<f32>().prop_map(Attribute::Float),
        prop::sample::select(vec!["SAME_UPPER", "linear", "edge", "CRD", "", "?"]).prop_map(|s| Text(s.into())),
        prop::collection::vec(number.clone(), 0..6).prop_map(Ints),
        prop::collection::vec(any::<f32>(), 0..5).prop_map(Attribute::Floats),
        prop::collection::vec(number, 0..5).prop_map(|v| Attribute::Array(ints(&v))),
        Just(Attribute::Other),
    ]
}

/// One node of every kind on an image, for [`lowering_never_panics`].
fn victims() -> Vec<Node> {
    let mut nodes = Vec::new();
    for (op, _) in RULES.iter().flat_map(|rules| rules.iter()) {
        nodes.push(node(op, "x a b c", "y z", &[]));
        nodes.push(node(op, "x", "y", &[]));
        nodes.push(node(op, "a b c", "y", &[]));
        nodes.push(node(op, "x w v v v", "y", &[]));
    }
    nodes
}

const NAMES: [&str; 42] = [
    "axis",
    "axes",
    "perm",
    "pads",
    "kernel_shape",
    "strides",
    "dilations",
    "group",
    "auto_pad",
    "output_shape",
    "output_padding",
    "ceil_mode",
    "count_include_pad",
    "to",
    "starts",
    "ends",
    "split",
    "num_outputs",
    "mode",
    "value",
    "scales",
    "blocksize",
    "keepdims",
    "shape",
    "allowzero",
    "num_groups",
    "size",
    "nearest_mode",
    "coordinate_transformation_mode",
    "keep_aspect_ratio_policy",
    "start",
    "end",
    "alpha",
    "beta",
    "transA",
    "transB",
    "noop_with_empty_axes",
    "fmod",
    "epsilon",
    "min",
    "max",
    "antialias",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn lowering_never_panics(
        which in any::<prop::sample::Index>(),
        opset in prop::sample::select(vec![7i64, 9, 10, 11, 13, 18, 21, 26]),
        attributes in prop::collection::vec((prop::sample::select(NAMES.to_vec()), any_attribute()), 0..4),
        lists in prop::collection::vec(prop::collection::vec(prop_oneof![-2i64..4, any::<i64>()], 0..5), 3),
        shape in prop::collection::vec(0usize..5, 0..6),
        weight in prop::collection::vec(0usize..4, 0..5),
        flat in any::<bool>(),
    ) {
        let victims = victims();
        let mut victim = which.get(&victims).clone();
        victim.attributes.extend(attributes.into_iter().map(|(name, value)| (name.to_string(), value)));
        let array = |v: &Vec<i64>| if flat && v.len() == 1 { int(v[0]) } else { ints(v) };
        let constants = [("a", array(&lists[0])), ("b", array(&lists[1])), ("c", array(&lists[2]))];
        let g = graph(opset, &constants, vec![victim]);
        let tensor = |shape: Vec<usize>| Weight { tensor: Arc::new(Tensor::zeros(shape)), layer: Some(0) };
        let channels = shape.get(1).copied().unwrap_or(1);
        let weights = HashMap::from([("w".to_string(), tensor(weight)), ("v".to_string(), Weight { layer: None, ..tensor(vec![channels]) })]);
        let lowered = Lowering { file: "f", graph: &g, weights: &weights, feeds: &HashMap::new() }.lower(std::slice::from_ref(&shape));
        match lowered {
            // What is promised holds: what was lowered runs.
            Ok(network) if network.output_shapes().iter().flatten().product::<usize>() < 1 << 20 => {
                let inputs = network.input_shapes().into_iter().map(Tensor::zeros).collect();
                let outputs = network.forward(inputs, &mut NoHooks);
                prop_assert_eq!(outputs.iter().map(|y| y.shape.clone()).collect::<Vec<_>>(), network.output_shapes());
            }
            Ok(_) => {}
            Err(e) => prop_assert!(e.to_string().ends_with('.')),
        }
    }
}
