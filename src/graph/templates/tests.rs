use std::collections::{HashMap, HashSet};

use super::*;
use crate::{
    graph::Attribute,
    io::{Dtype, Role},
    limits,
};

/// Fixture, name, convolutions and dense layers, batch norms, all nodes.
const NETWORKS: [(&str, &str, usize, usize, usize); 29] = [
    ("alexnet", "AlexNet (torchvision)", 8, 0, 19),
    ("vgg11", "VGG-11 (torchvision)", 11, 0, 27),
    ("vgg11_bn", "VGG-11 with batch norm (torchvision)", 11, 8, 35),
    ("vgg13", "VGG-13 (torchvision)", 13, 0, 31),
    ("vgg13_bn", "VGG-13 with batch norm (torchvision)", 13, 10, 41),
    ("vgg16", "VGG-16 (torchvision)", 16, 0, 37),
    ("vgg16_bn", "VGG-16 with batch norm (torchvision)", 16, 13, 50),
    ("vgg19", "VGG-19 (torchvision)", 19, 0, 43),
    ("vgg19_bn", "VGG-19 with batch norm (torchvision)", 19, 16, 59),
    ("resnet18", "ResNet-18 (torchvision)", 21, 20, 69),
    ("resnet34", "ResNet-34 (torchvision)", 37, 36, 125),
    ("resnet50", "ResNet-50 (torchvision)", 54, 53, 175),
    ("resnet101", "ResNet-101 (torchvision)", 105, 104, 345),
    ("resnet152", "ResNet-152 (torchvision)", 156, 155, 515),
    ("wide_resnet50_2", "Wide ResNet-50-2 (torchvision)", 54, 53, 175),
    ("resnext50_32x4d", "ResNeXt-50 32×4d (torchvision)", 54, 53, 175),
    ("densenet121", "DenseNet-121 (torchvision)", 121, 121, 427),
    ("densenet161", "DenseNet-161 (torchvision)", 161, 161, 567),
    ("densenet169", "DenseNet-169 (torchvision)", 169, 169, 595),
    ("densenet201", "DenseNet-201 (torchvision)", 201, 201, 707),
    ("mobilenet_v2", "MobileNet-v2 (torchvision)", 53, 52, 152),
    ("squeezenet1_0", "SqueezeNet 1.0 (torchvision)", 26, 0, 65),
    ("squeezenet1_1", "SqueezeNet 1.1 (torchvision)", 26, 0, 65),
    ("cifar_resnet20a", "ResNet-20 for CIFAR, shortcuts A", 20, 19, 73),
    ("cifar_resnet20b", "ResNet-20 for CIFAR, shortcuts B", 22, 21, 73),
    ("cifar_resnet32a", "ResNet-32 for CIFAR, shortcuts A", 32, 31, 115),
    ("cifar_resnet44a", "ResNet-44 for CIFAR, shortcuts A", 44, 43, 157),
    ("cifar_resnet56b", "ResNet-56 for CIFAR, shortcuts B", 58, 57, 199),
    ("cifar_resnet110a", "ResNet-110 for CIFAR, shortcuts A", 110, 109, 388),
];

/// The tensors of a fixture (tests/fixtures/state_dicts/make.py says how it is written).
fn fixture(name: &str) -> Vec<TensorInfo> {
    let path: std::path::PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "state_dicts", &format!("{name}.txt")].iter().collect();
    let mut tensors = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let text = line.trim_start();
        parts.truncate(line.len() - text.len());
        let mut words = text.split(' ');
        parts.push(words.next().unwrap().into());
        let (name, words) = (parts.join("."), words.collect::<Vec<_>>());
        match &words[..] {
            [] => {}
            ["batch", "norm", n] => {
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    tensors.push(tensor(format!("{name}.{part}"), vec![n.parse().unwrap()]));
                }
                tensors.push(TensorInfo { dtype: Dtype::Other(8), ..tensor(format!("{name}.num_batches_tracked"), Vec::new()) });
            }
            shape => tensors.push(tensor(name, shape.iter().map(|n| n.parse().unwrap()).collect())),
        }
    }
    tensors
}

fn tensor(name: String, shape: Vec<usize>) -> TensorInfo {
    TensorInfo { name, dtype: Dtype::F32, shape, role: Role::Exact }
}

fn weights(tensors: &[TensorInfo]) -> Vec<TensorInfo> {
    tensors.iter().filter(|t| t.dtype.is_float()).cloned().collect()
}

/// Nodes run in their order, values have one producer, and every tensor is read by one node. Returns the shape of the output for a
/// batch of one.
fn check(tensors: &[TensorInfo], graph: &Graph) -> Vec<usize> {
    let tensors: HashMap<&str, &[usize]> =
        tensors.iter().filter(|t| t.dtype.is_float()).map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let mut used = HashSet::new();
    let mut shapes: HashMap<&str, Vec<usize>> = HashMap::new();
    let dims = graph.inputs[0].dims.iter().map(|d| d.unwrap_or(1)).collect();
    shapes.insert(&graph.inputs[0].name, dims);
    let mut names = HashSet::new();
    for node in &graph.nodes {
        assert!(names.insert(&node.name), "two nodes are called {}", node.name);
        for input in &node.inputs[1..] {
            match tensors.get(&**input) {
                Some(_) => assert!(used.insert(&**input), "{input} is used twice"),
                None => assert!(shapes.contains_key(&**input) || graph.constants.contains_key(input), "{input} is not known"),
            }
        }
        let x = &shapes[&*node.inputs[0]];
        let ints = |key: &str| match &node.attributes[key] {
            Attribute::Ints(v) => v.iter().map(|&v| v as usize).collect::<Vec<_>>(),
            other => panic!("{key} is {other:?}"),
        };
        let pooled = |ceil: bool| {
            let (k, s) = (ints("kernel_shape")[0], ints("strides")[0]);
            let pad = if node.attributes.contains_key("pads") { ints("pads")[0] } else { 0 };
            let size = |n: usize| if ceil { (n + 2 * pad - k).div_ceil(s) + 1 } else { (n + 2 * pad - k) / s + 1 };
            [size(x[2]), size(x[3])]
        };
        let y = match &*node.op {
            "Conv" => {
                let w = tensors[&*node.inputs[1]];
                let Attribute::Int(groups) = node.attributes["group"] else { panic!() };
                assert_eq!((w[1] * groups as usize, w[0] % groups as usize), (x[1], 0), "{}", node.name);
                [&[x[0], w[0]], &pooled(false)[..]].concat()
            }
            "MaxPool" => [&x[..2], &pooled(node.attributes["ceil_mode"] == Attribute::Int(1))].concat(),
            "AveragePool" => [&x[..2], &pooled(false)].concat(),
            "GlobalAveragePool" => vec![x[0], x[1], 1, 1],
            "Flatten" => vec![x[0], x[1..].iter().product()],
            "Gemm" => {
                let w = tensors[&*node.inputs[1]];
                assert_eq!(w[1], x[1], "{}: the size that a pooling would have made", node.name);
                vec![x[0], w[0]]
            }
            "Add" => {
                assert_eq!(*x, shapes[&*node.inputs[1]], "{}", node.name);
                x.clone()
            }
            "Concat" => vec![x[0], x[1] + shapes[&*node.inputs[1]][1], x[2], x[3]],
            "Slice" => vec![x[0], x[1], x[2].div_ceil(2), x[3].div_ceil(2)],
            "Pad" => match &graph.constants[&node.inputs[1]].values {
                crate::graph::Values::Int(v) => (0..4).map(|i| x[i] + (v[i] + v[i + 4]) as usize).collect(),
                other => panic!("{other:?}"),
            },
            "BatchNormalization" | "Relu" | "Clip" => x.clone(),
            op => panic!("{op} is unexpected"),
        };
        assert!(limits::element_count(&y).is_some_and(|n| n > 0));
        shapes.insert(&node.outputs[0], y);
    }
    assert_eq!(used.len(), tensors.len(), "every tensor is used");
    shapes[&*graph.outputs[0]].clone()
}

#[test]
fn every_network_is_drawn_whole() {
    for (fixture_name, name, layers, norms, nodes) in NETWORKS {
        let tensors = fixture(fixture_name);
        let found = recognise(&tensors).unwrap_or_else(|| panic!("{fixture_name} is not recognised"));
        assert_eq!(found.name, name);
        let count = |ops: &[&str]| found.graph.nodes.iter().filter(|n| ops.contains(&&*n.op)).count();
        assert_eq!((count(&["Conv", "Gemm"]), count(&["BatchNormalization"])), (layers, norms), "{name}");
        assert_eq!(found.graph.nodes.len(), nodes, "{name}");
        let cifar = fixture_name.starts_with("cifar");
        assert_eq!(check(&tensors, &found.graph), [1, if cifar { 10 } else { 1000 }], "{name}");
        assert_eq!(found.graph.inputs[0].dims, [None, Some(3), Some(if cifar { 32 } else { 224 }), Some(if cifar { 32 } else { 224 })]);
        assert_eq!(found.preprocessing.resize.is_none(), cifar);
    }
}

#[test]
fn order_prefix_and_counters_do_not_matter() {
    for (fixture_name, ..) in NETWORKS {
        let tensors = fixture(fixture_name);
        let found = recognise(&tensors).unwrap();
        let mut turned: Vec<TensorInfo> = tensors.iter().rev().cloned().collect();
        let middle = turned.len() / 3;
        turned.rotate_left(middle);
        assert_eq!(recognise(&turned).as_ref(), Some(&found), "{fixture_name} in another order");
        assert_eq!(recognise(&weights(&tensors)).as_ref(), Some(&found), "{fixture_name} without counters");
        let named =
            |prefix: &str| tensors.iter().map(|t| TensorInfo { name: format!("{prefix}{}", t.name), ..t.clone() }).collect::<Vec<_>>();
        for prefix in ["module.", "state_dict.model.", "größe.backbone."] {
            let tensors = named(prefix);
            let prefixed = recognise(&tensors).unwrap_or_else(|| panic!("{fixture_name} with {prefix}"));
            assert_eq!(prefixed.name, found.name);
            check(&tensors, &prefixed.graph);
        }
        // A checkpoint with an optimizer's tensors beside the network's.
        let mut checkpoint = named("model.");
        let model = checkpoint.clone();
        checkpoint.push(tensor("optimizer.state.0.momentum_buffer".into(), vec![64, 3, 7, 7]));
        check(&model, &recognise(&checkpoint).unwrap().graph);
    }
}

#[test]
fn one_tensor_more_less_or_of_another_shape_is_another_network() {
    for (fixture_name, ..) in NETWORKS {
        let tensors = weights(&fixture(fixture_name));
        // Every tensor of a small network, some of a large one.
        let step = 1 + tensors.len() / 60;
        for at in (0..tensors.len()).step_by(step) {
            let mut less = tensors.clone();
            let gone = less.remove(at);
            assert_eq!(recognise(&less), None, "{fixture_name} without {}", gone.name);
            for axis in 0..gone.shape.len() {
                let mut other = tensors.clone();
                other[at].shape[axis] += 1;
                assert_eq!(recognise(&other), None, "{fixture_name}: {} {:?}", gone.name, other[at].shape);
            }
            let mut typed = tensors.clone();
            typed[at].dtype = Dtype::Other(4);
            assert_eq!(recognise(&typed), None, "{fixture_name}: {} of integers", gone.name);
        }
        let mut more = tensors.clone();
        more.push(tensor("extra.weight".into(), vec![3]));
        assert_eq!(recognise(&more), None, "{fixture_name} and one more");
        let mut twice = tensors.clone();
        twice.push(tensors[0].clone());
        assert_eq!(recognise(&twice), None, "{fixture_name} with a name twice");
    }
}

#[test]
fn classes_are_free_and_old_names_are_known() {
    let mut tensors = fixture("densenet121");
    for t in &mut tensors {
        if let Some((layer, rest)) = t.name.split_once(".denselayer") {
            let rest = rest.replace(".norm", ".norm.").replace(".conv", ".conv.");
            t.name = format!("{layer}.denselayer{rest}");
        }
        if t.name.starts_with("classifier") {
            t.shape[0] = 7;
        }
    }
    assert!(tensors.iter().any(|t| t.name == "features.denseblock1.denselayer1.norm.1.running_var"));
    let found = recognise(&tensors).unwrap();
    assert_eq!((found.name.as_str(), check(&tensors, &found.graph)), ("DenseNet-121 (torchvision)", vec![1, 7]));
    let mut tensors = fixture("squeezenet1_1");
    tensors.iter_mut().filter(|t| t.name.starts_with("classifier")).for_each(|t| t.shape[0] = 2);
    assert_eq!(check(&tensors, &recognise(&tensors).unwrap().graph), [1, 2]);
}

#[test]
fn what_is_no_network_is_none() {
    assert_eq!(recognise(&[]), None);
    assert_eq!(recognise(&[tensor("arr_0".into(), vec![3, 3])]), None);
    assert_eq!(recognise(&[tensor("".into(), vec![]), tensor(".".into(), vec![0])]), None);
    let zeros: Vec<TensorInfo> =
        fixture("resnext50_32x4d").into_iter().map(|t| TensorInfo { shape: vec![0; t.shape.len()], ..t }).collect();
    assert_eq!(recognise(&zeros), None);
}
