//! Derivatives of whole networks: against finite differences on smooth random networks, against torch's autograd on small networks
//! that together have every operator, and on a trained one; and what hooks are promised.
//!
//! Finite differences are taken along random directions, in networks without kinks. Parameters and steps are short binary
//! fractions, so that what is added to a parameter is what was meant. A polynomial through many steps ([`slope`]) averages the rounding of the
//! outputs, and says how much of it is left.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

mod generated;

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use generated::{Golden, Manifest, cifar, data, distance, error, tensor, uniform};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use waterfill::{
    graph::{
        Runnable,
        lower::{Lowering, Weight},
    },
    io::{Dtype, Model, open, source::PathSource, tensor::to_f32},
    nn::{
        Builder, Hooks, Network, NoHooks, Operator, Tensor,
        arrange::{Concat, DepthToSpace, Expand, Fill, Gather, Pad, Reshape, Slice, SpaceToDepth, Split, Transpose},
        binary::Binary,
        conv::{Conv, ConvTranspose},
        dense::{Gemm, MatMul},
        network::ValueId,
        norm::{BatchNorm, InstanceNorm, LayerNorm, Lrn},
        pool::AveragePool,
        reduce::{Reduce, Reduction},
        resize::{Coordinates, Interpolation, Nearest, Resize},
        softmax::Softmax,
        unary::Unary,
        window::Window,
    },
};

/// Gradients' errors are bounded by this, relative to the gradient.
const BOUND: f64 = 1e-4;

/// Collects gradients by layer; a layer may come once.
#[derive(Default)]
struct Collect {
    gradients: BTreeMap<usize, Tensor>,
}

impl Hooks for Collect {
    fn gradient(&mut self, layer: usize, gradient: Tensor) {
        assert!(self.gradients.insert(layer, gradient).is_none(), "the gradient by layer {layer} came twice");
    }
}

/// Gradients by all layers and by all inputs of `Σ ⟨seed, output⟩`, and the outputs.
fn gradients(network: &Network, inputs: Vec<Tensor>, seeds: &[Tensor]) -> (BTreeMap<usize, Tensor>, Vec<Tensor>, Vec<Tensor>) {
    let mut hooks = Collect::default();
    let wanted = vec![true; inputs.len()];
    let (outputs, by_inputs) = network.gradient(inputs, &wanted, &mut |_| seeds.to_vec(), &mut hooks);
    (hooks.gradients, by_inputs.into_iter().map(|g| g.expect("a derivative that was asked for")).collect(), outputs)
}

// Against torch.

fn lowered(model: &Model) -> (Network, Vec<String>) {
    let graph = model.graph.as_ref().expect("an ONNX file has a graph");
    let layers = model.layers();
    let weight = |(i, info): (usize, &waterfill::io::TensorInfo)| {
        let data = to_f32(&model.reader.read(i).unwrap(), info.dtype);
        let tensor = Arc::new(Tensor::new(info.shape.clone(), data));
        (info.name.clone(), Weight { tensor, layer: layers.iter().position(|&l| l == i) })
    };
    let weights: HashMap<String, Weight> = model.tensors.iter().enumerate().filter(|(_, t)| t.dtype == Dtype::F32).map(weight).collect();
    let shapes: Vec<Vec<usize>> = graph.inputs.iter().map(|i| i.dims.iter().map(|d| d.unwrap()).collect()).collect();
    let lowering = Lowering { file: &model.name, graph, weights: &weights, feeds: &HashMap::new() };
    let network = lowering.lower(&shapes).unwrap_or_else(|e| panic!("{e}"));
    (network, layers.iter().map(|&i| model.tensors[i].name.clone()).collect())
}

fn against_torch(case: &str) {
    let golden = Golden::open("gradients.npz");
    let model = golden.model(case, vec![]);
    let (network, layers) = lowered(&model);
    let graph = model.graph.as_ref().unwrap();
    let array = |kind: &str, name: &str| golden.tensor(&format!("{case}/{kind}/{name}"));
    let inputs: Vec<Tensor> = graph.inputs.iter().map(|i| array("input", &i.name)).collect();
    let seeds: Vec<Tensor> = graph.outputs.iter().map(|o| array("seed", o)).collect();
    let (by_layers, by_inputs, outputs) = gradients(&network, inputs, &seeds);
    for (name, y) in graph.outputs.iter().zip(&outputs) {
        let expected = array("output", name);
        assert_eq!(y.shape, expected.shape, "{case}, output {name}");
        let error = error(&y.data, &expected.data);
        println!("{case}: output {name}: {error:.1e}");
        assert!(error < 1e-5, "{case}, output {name} errs {error}");
    }
    let start = format!("{case}/gradient/");
    for name in golden.under(&start) {
        let found = match graph.inputs.iter().position(|i| i.name == name) {
            Some(input) => &by_inputs[input],
            None => {
                let layer = layers.iter().position(|l| l == name).unwrap_or_else(|| panic!("{case}: {name} is no layer"));
                by_layers.get(&layer).unwrap_or_else(|| panic!("{case}: no gradient by {name} came"))
            }
        };
        let expected = array("gradient", name);
        assert_eq!(found.shape, expected.shape, "{case}, gradient by {name}");
        let error = distance(&found.data, &expected.data);
        println!("{case}: gradient by {name}: {error:.1e}");
        assert!(error < BOUND, "{case}, gradient by {name} errs {error}");
    }
}

/// A test for each network of `gradients.npz`, and one that none is left out.
macro_rules! against_torch {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            against_torch(stringify!($name));
        })*

        #[test]
        fn every_case_has_a_test() {
            let mut names = [$(stringify!($name)),*];
            names.sort_unstable();
            assert_eq!(Golden::open("gradients.npz").cases(), names);
        }
    };
}

against_torch! { conv conv1d norms unary binary pools arrange resize dense shared opset9 }

/// A trained network with kinks: a few of its numbers, by torch in f64 from another of its files.
#[test]
fn resnet20() {
    let Some(folder) = data() else { return };
    let golden: serde_json::Value = serde_json::from_str(include_str!("networks/resnet20.json")).unwrap();
    let model = open(vec![Rc::new(PathSource::open(folder.join("resnet20.onnx")).unwrap())]).unwrap();
    let network = Runnable::new(&model).unwrap().network(8, &[3, 32, 32]).unwrap();
    let seed = tensor(golden["seed"].as_u64().unwrap(), &[8, 10], 0.0, 1.0);
    let mut hooks = Collect::default();
    network.gradient(vec![cifar(&folder, 8)], &[], &mut |_| vec![seed.clone()], &mut hooks);
    let names: Vec<&str> = model.layers().into_iter().map(|i| &*model.tensors[i].name).collect();
    assert_eq!(hooks.gradients.len(), 20);
    for layer in golden["layers"].as_array().unwrap() {
        let name = layer["name"].as_str().unwrap();
        let gradient = &hooks.gradients[&names.iter().position(|n| *n == name).unwrap()];
        let expected = layer["norm"].as_f64().unwrap();
        let norm = gradient.data.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!((norm / expected - 1.0).abs() < 1e-3, "{name}: norm {norm} instead of {expected}");
        let size = expected / (gradient.len() as f64).sqrt();
        for (at, value) in layer["at"].as_array().unwrap().iter().zip(layer["values"].as_array().unwrap()) {
            let (found, expected) = (f64::from(gradient.data[at.as_u64().unwrap() as usize]), value.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-3 * expected.abs().max(size), "{name}: {found} instead of {expected}");
        }
    }
}

// Against finite differences.

/// What is moved: every parameter, one, or none.
#[derive(Debug, Clone, Copy)]
enum Moved {
    All,
    One(usize),
    None,
}

/// A network under construction. Its input is parameter 0; every other parameter is a constant with a layer number one less.
struct Net {
    builder: Builder,
    seed: u64,
    moved: Moved,
    /// How far, in directions that [`Net::direction`] tells.
    step: f64,
    /// Number of elements and amplitude of each parameter.
    parameters: Vec<(usize, f64)>,
    input: Tensor,
}

impl Net {
    fn start(seed: u64, moved: Moved, step: f64, shape: &[usize]) -> (Net, ValueId) {
        let mut net = Net { builder: Builder::default(), seed, moved, step, parameters: vec![], input: Tensor::default() };
        net.input = net.draw(shape, 0.0, 1.0);
        let x = net.builder.input(shape.to_vec());
        (net, x)
    }

    /// Direction of a parameter: multiples of 2⁻⁸.
    fn direction(seed: u64, parameter: usize, n: usize, amplitude: f64) -> Vec<f64> {
        let u = |i| f64::from(uniform(seed * 1000 + 500 + parameter as u64, i));
        (0..n as u64).map(|i| (u(i) * amplitude * 256.0).round() / 256.0).collect()
    }

    /// Values of the next parameter: multiples of 2⁻¹², plus the step.
    fn draw(&mut self, shape: &[usize], centre: f64, amplitude: f64) -> Tensor {
        let (k, n) = (self.parameters.len(), shape.iter().product());
        self.parameters.push((n, amplitude));
        let step = match self.moved {
            Moved::All => self.step,
            Moved::One(one) if one == k => self.step,
            _ => 0.0,
        };
        let direction = Net::direction(self.seed, k, n, amplitude);
        let base = |i| ((centre + amplitude * f64::from(uniform(self.seed * 1000 + k as u64, i))) * 4096.0).round() / 4096.0;
        Tensor::new(shape, (0..n as u64).zip(direction).map(|(i, d)| (base(i) + step * d) as f32).collect())
    }

    fn parameter(&mut self, shape: &[usize], centre: f64, amplitude: f64) -> ValueId {
        let layer = self.parameters.len() - 1;
        let tensor = Arc::new(self.draw(shape, centre, amplitude));
        self.builder.constant(tensor, Some(layer))
    }

    fn constant(&mut self, shape: &[usize], centre: f32, amplitude: f32) -> ValueId {
        let tensor = tensor(self.seed, shape, centre, amplitude);
        self.builder.constant(Arc::new(tensor), None)
    }

    fn shape(&self, x: ValueId) -> Vec<usize> {
        self.builder.shape(x).to_vec()
    }

    fn all(&mut self, operator: impl Operator + 'static, inputs: &[ValueId]) -> Vec<ValueId> {
        let name = operator.name();
        self.builder.push(Arc::new(operator), name, inputs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn put(&mut self, operator: impl Operator + 'static, inputs: &[ValueId]) -> ValueId {
        self.all(operator, inputs)[0]
    }

    /// A convolution with a weight that keeps the scale.
    fn conv(&mut self, x: ValueId, outputs: usize, window: Window, groups: usize, bias: bool) -> ValueId {
        let inputs = self.shape(x)[1] / groups;
        let [a, b] = window.kernel;
        let mut all = vec![x, self.parameter(&[outputs, inputs, a, b], 0.0, (3.0 / (inputs * a * b) as f64).sqrt())];
        if bias {
            all.push(self.parameter(&[outputs], 0.0, 0.3));
        }
        self.put(Conv { window, groups }, &all)
    }
}

/// Numbers of smooth steps that [`step`] knows.
const STEPS: usize = 42;

/// Applies one of many smooth operators to a value `N×C×H×W`, and gives another such. Where a shape does not suit the operator: Tanh.
fn step(net: &mut Net, x: ValueId, choice: usize) -> ValueId {
    let s = net.shape(x);
    let (c, h, w) = (s[1], s[2], s[3]);
    let window = Window::new;
    let unary = |net: &mut Net, f: Unary, x| net.put(f, &[x]);
    match choice {
        0 => net.conv(x, 3, Window { pads: [1, 0, 2, 1], ..window([3, 2]) }, 1, true),
        1 if h > 2 && w > 2 => net.conv(x, 4, Window { stride: [2, 1], dilation: [1, 2], ..window([2, 2]) }, 1, true),
        2 if c % 2 == 0 => net.conv(x, 4, Window { pads: [1; 4], ..window([3, 3]) }, 2, false),
        3 => net.conv(x, c, Window { stride: [1, 2], pads: [1; 4], ..window([3, 3]) }, c, true),
        4 => net.conv(x, 4, window([1, 1]), 1, false),
        5 => {
            let (groups, outputs) = if c % 2 == 0 { (2, 4) } else { (1, 3) };
            let kernel = net.parameter(&[c, outputs / groups, 3, 2], 0.0, (1.5 / (c / groups) as f64).sqrt());
            let bias = net.parameter(&[outputs], 0.0, 0.3);
            let window = Window { kernel: [3, 2], stride: [2, 2], dilation: [1, 2], pads: [1, 0, 0, 1] };
            net.put(ConvTranspose { window, groups, output_padding: [1, 0] }, &[x, kernel, bias])
        }
        6 => unary(net, Unary::Sigmoid, x),
        7 => unary(net, Unary::Gelu { tanh: false }, x),
        8 => unary(net, Unary::Gelu { tanh: true }, x),
        9 => unary(net, Unary::Softplus, x),
        10 => unary(net, Unary::Erf, x),
        11 => net.put(AveragePool { window: Window { pads: [1; 4], ..window([3, 3]) }, ceil: false, count_pads: true }, &[x]),
        12 if h > 2 && w > 2 => {
            let window = Window { stride: [2, 2], pads: [1, 0, 0, 1], ..window([2, 3]) };
            net.put(AveragePool { window, ceil: true, count_pads: false }, &[x])
        }
        13 => {
            let (scale, bias) = (net.parameter(&[c], 1.0, 0.5), net.parameter(&[c], 0.0, 0.5));
            let (mean, variance) = (net.constant(&[c], 0.0, 0.5), net.constant(&[c], 1.0, 0.5));
            net.put(BatchNorm { epsilon: 1e-3 }, &[x, scale, bias, mean, variance])
        }
        14 => {
            let (scale, bias) = (net.parameter(&s[1..], 1.0, 0.5), net.parameter(&[w], 0.0, 0.5));
            net.put(LayerNorm { axis: 1, epsilon: 1e-2 }, &[x, scale, bias])
        }
        15 if h * w > 3 => {
            let (scale, bias) = (net.parameter(&[c], 1.0, 0.5), net.parameter(&[c], 0.0, 0.5));
            net.put(InstanceNorm { epsilon: 0.1 }, &[x, scale, bias])
        }
        16 => net.put(Lrn { size: 3, alpha: 0.8, beta: 0.75, bias: 1.5 }, &[x]),
        17 if c > 1 => {
            let y = net.put(Softmax { axes: 1..2, log: false }, &[x]);
            let gain = net.parameter(&[c, 1, 1], 2.0, 1.0);
            net.put(Binary::Mul, &[gain, y])
        }
        18 => net.put(Softmax { axes: 3..4, log: true }, &[x]),
        19 => {
            let y = unary(net, Unary::Tanh, x);
            net.put(Concat { axis: 2 }, &[y, x, y])
        }
        20 if c > 1 => {
            let halves = net.all(Split { axis: 1, sizes: vec![c / 2, c - c / 2] }, &[x]);
            let mean = net.put(Reduce { reduction: Reduction::Mean, axes: vec![1], keep: true }, &[halves[0]]);
            net.put(Binary::Mul, &[mean, halves[1]])
        }
        21 if h > 1 => net.put(Slice { ranges: vec![(0, 1, s[0]), (0, 1, c), (h - 1, -2, h.div_ceil(2)), (0, 1, w)] }, &[x]),
        22 if h > 2 => net.put(Pad { pads: vec![(0, 0), (0, 0), (2, 1), (0, 0)], fill: Fill::Reflect }, &[x]),
        23 => net.put(Pad { pads: vec![(0, 0), (1, 0), (0, 0), (0, 2)], fill: Fill::Edge }, &[x]),
        24 if h > 1 => net.put(Pad { pads: vec![(0, 0), (0, 1), (-1, 0), (2, 0)], fill: Fill::Constant(0.5) }, &[x]),
        25 => {
            let shape = vec![s[0], c, 2 * h, w + 1];
            let scales = vec![1.0, 1.0, 2.0, (w + 1) as f32 / w as f32];
            net.put(Resize { shape, scales, interpolation: Interpolation::Linear, coordinates: Coordinates::HalfPixel }, &[x])
        }
        26 => {
            let shape = vec![s[0], c, 2 * h, w];
            let nearest = Interpolation::Nearest(Nearest::Floor);
            net.put(Resize { shape, scales: vec![1.0, 1.0, 2.0, 1.0], interpolation: nearest, coordinates: Coordinates::Asymmetric }, &[x])
        }
        27 if c % 4 == 0 => net.put(DepthToSpace { block: 2, crd: c % 8 == 0 }, &[x]),
        28 if h % 2 == 0 && w % 2 == 0 => net.put(SpaceToDepth { block: 2 }, &[x]),
        29 => {
            let weight = net.parameter(&[w, 4], 0.0, (3.0 / w as f64).sqrt());
            net.put(MatMul, &[x, weight])
        }
        30 => {
            let turned = net.put(Transpose { axes: vec![0, 1, 3, 2] }, &[x]);
            let product = net.put(MatMul, &[x, turned]);
            let scale = net.constant(&[], 1.0 / (w as f32).sqrt(), 0.0);
            net.put(Binary::Mul, &[product, scale])
        }
        31 => {
            let gain = net.parameter(&[s[0], 1, h, 1], 1.0, 0.5);
            let shift = net.parameter(&[w], 0.0, 0.5);
            let y = net.put(Binary::Mul, &[x, gain]);
            net.put(Binary::Sub, &[shift, y])
        }
        32 => {
            let p = net.parameter(&[c, 1, 1], 0.0, 0.5);
            let e = unary(net, Unary::Exp, p);
            net.put(Binary::Div, &[x, e])
        }
        33 => {
            let t = unary(net, Unary::Tanh, x);
            let e = unary(net, Unary::Exp, t);
            let p = net.parameter(&[1, c, 1, 1], 1.0, 0.5);
            net.put(Binary::Pow, &[e, p])
        }
        34 => {
            let mean = net.put(Reduce { reduction: Reduction::Mean, axes: vec![1, 3], keep: true }, &[x]);
            net.put(Binary::Add, &[mean, x])
        }
        35 => {
            let t = unary(net, Unary::Tanh, x);
            let sum = net.put(Reduce { reduction: Reduction::Sum, axes: vec![3], keep: false }, &[t]);
            let column = net.put(Reshape { shape: vec![s[0], c, h, 1] }, &[sum]);
            net.put(Expand { shape: vec![s[0], c, h, 3] }, &[column])
        }
        36 => net.put(Gather { axis: 3, indices: vec![w - 1, 0, w / 2, 0], indices_shape: vec![4] }, &[x]),
        37 => net.put(Transpose { axes: vec![0, 3, 1, 2] }, &[x]),
        38 => {
            let y = unary(net, Unary::Softplus, x);
            let root = unary(net, Unary::Sqrt, y);
            let log = unary(net, Unary::Log, y);
            net.put(Binary::Add, &[root, log])
        }
        39 => {
            let y = unary(net, Unary::Softplus, x);
            let one = net.constant(&[1], 1.0, 0.0);
            let y = net.put(Binary::Add, &[one, y]);
            let y = unary(net, Unary::Reciprocal, y);
            unary(net, Unary::Neg, y)
        }
        40 => {
            let flat = net.put(Reshape { shape: vec![s[0], c * h * w] }, &[x]);
            let weight = net.parameter(&[12, c * h * w], 0.0, (3.0 / (c * h * w) as f64).sqrt());
            let bias = net.parameter(&[12], 0.0, 0.3);
            let y = net.put(Gemm { alpha: 0.8, beta: 1.5, trans_a: false, trans_b: true }, &[flat, weight, bias]);
            net.put(Reshape { shape: vec![s[0], 2, 2, 3] }, &[y])
        }
        41 => {
            // The same weight twice.
            let weight = net.parameter(&[c, c, 1, 1], 0.0, (3.0 / c as f64).sqrt());
            let conv = Conv { window: window([1, 1]), groups: 1 };
            let y = net.put(conv.clone(), &[x, weight]);
            let y = unary(net, Unary::Tanh, y);
            net.put(conv, &[y, weight])
        }
        _ => unary(net, Unary::Tanh, x),
    }
}

fn build(seed: u64, chain: &[usize], moved: Moved, by: f64) -> (Network, Tensor, Vec<(usize, f64)>) {
    let (mut net, mut x) = Net::start(seed, moved, by, &[2, 4, 5, 6]);
    for &choice in chain {
        x = step(&mut net, x, choice);
    }
    // One more parameter, so that there is always a gradient by a layer behind the chain.
    let width = net.shape(x)[3];
    let last = net.parameter(&[width, 3], 0.0, (3.0 / width as f64).sqrt());
    let y = net.put(MatMul, &[x, last]);
    (net.builder.finish(&[y]), net.input, net.parameters)
}

/// Derivative at 0 of a smooth function, and its standard deviation: an odd polynomial of degree 7 through the odd part of many values, which
/// averages their rounding.
fn slope(f: impl Fn(f64) -> f64) -> (f64, f64) {
    const POINTS: usize = 16;
    const REACH: f64 = 0.125;
    let at = |j: usize| (j + 1) as f64 / POINTS as f64;
    let odd = DVector::from_fn(POINTS, |j, _| (f(REACH * at(j)) - f(-REACH * at(j))) / 2.0);
    let powers = DMatrix::from_fn(POINTS, 4, |j, k| at(j).powi(2 * k as i32 + 1));
    let inverse = (powers.transpose() * &powers).try_inverse().unwrap();
    let fit = &inverse * powers.transpose() * &odd;
    let rest = (&powers * &fit - odd).norm_squared() / (POINTS - 4) as f64;
    (fit[0] / REACH, (rest * inverse[(0, 0)]).sqrt() / REACH)
}

#[test]
fn slopes_are_derivatives() {
    let (derivative, deviation) = slope(|t| (3.0 * t).sin() + t * t);
    assert!((derivative - 3.0).abs() < 1e-7 && deviation < 1e-7, "{derivative} ± {deviation}");
    let (derivative, deviation) = slope(|t| f64::from((2.0 * t + 1.0).tanh() as f32));
    let error = (derivative - 2.0 / 1f64.cosh().powi(2)).abs();
    assert!(error < 4.0 * deviation && deviation < 1e-6, "{error}, {deviation}");
}

/// Compares gradients with finite differences along a direction in each parameter, and in all together. Gives the worst error.
fn differences(seed: u64, chain: &[usize]) -> f64 {
    let (network, input, parameters) = build(seed, chain, Moved::None, 0.0);
    let v = tensor(seed * 1000 + 999, &network.output_shapes()[0], 0.0, 1.0);
    let (by_layers, by_inputs, _) = gradients(&network, vec![input], std::slice::from_ref(&v));
    // Per parameter, `⟨gradient, direction⟩` and the sum of the squares of its terms.
    let parts: Vec<(f64, f64)> = (0..)
        .zip(&parameters)
        .map(|(k, &(n, amplitude))| {
            let gradient = if k == 0 { &by_inputs[0] } else { &by_layers[&(k - 1)] };
            let direction = Net::direction(seed, k, n, amplitude);
            let products: Vec<f64> = gradient.data.iter().zip(direction).map(|(&g, d)| f64::from(g) * d).collect();
            (products.iter().sum(), products.iter().map(|p| p * p).sum())
        })
        .collect();
    let value = |moved, by| {
        let (network, input, _) = build(seed, chain, moved, by);
        let y = network.forward(vec![input], &mut NoHooks).remove(0);
        y.data.iter().zip(&v.data).map(|(&y, &v)| f64::from(y) * f64::from(v)).sum::<f64>()
    };
    let total: f64 = parts.iter().map(|p| p.1).sum::<f64>().sqrt();
    let mut worst = 0f64;
    let mut check = |moved, derivative: f64, squares: f64, floor: f64| {
        let (difference, deviation) = slope(|by| value(moved, by));
        // A sum may cancel: its terms with random signs would have this size.
        let size = difference.abs().max(squares.sqrt()).max(floor);
        let error = (difference - derivative).abs();
        let said = format!("seed {seed}, chain {chain:?}, {moved:?}: {derivative} instead of {difference} ± {deviation}, of size {size}");
        assert!(deviation < size * BOUND, "{said}: differences are too coarse");
        assert!(error < size * BOUND + 4.0 * deviation, "{said}");
        worst = worst.max(error / size);
    };
    check(Moved::All, parts.iter().map(|p| p.0).sum(), parts.iter().map(|p| p.1).sum(), 0.0);
    for (k, &(derivative, squares)) in parts.iter().enumerate() {
        // Some parameters have next to no effect (a bias before a norm).
        check(Moved::One(k), derivative, squares, 0.1 * total);
    }
    worst
}

/// Every operator on its own, in front of another and behind it.
#[test]
fn every_step_agrees_with_finite_differences() {
    for choice in 0..STEPS {
        let alone = differences(1, &[choice]);
        let between = differences(2, &[6, choice, 4]);
        println!("step {choice}: {alone:.1e}, {between:.1e}");
    }
}

/// Deeper networks of the usual kinds.
#[test]
fn smooth_networks_agree_with_finite_differences() {
    // A convolutional classifier, a residual-like one, an autoencoder-like one, an attention-like one, all norms.
    let networks: [&[usize]; 5] = [
        &[0, 13, 7, 11, 1, 13, 9, 40, 18],
        &[2, 34, 10, 3, 20, 41, 36],
        &[3, 7, 28, 4, 26, 5, 6],
        &[29, 30, 18, 29, 8],
        &[13, 16, 0, 15, 14, 6],
    ];
    for (seed, chain) in (10..).zip(networks) {
        println!("{chain:?}: {:.1e}", differences(seed, chain));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn random_chains_agree_with_finite_differences(seed in 100u64..1_000_000, chain in prop::collection::vec(0..STEPS, 1..5)) {
        differences(seed, &chain);
    }
}

// What hooks are promised.

/// Keeps all that it sees.
#[derive(Default)]
struct See {
    inputs: Vec<(usize, Tensor)>,
    outputs: Vec<(usize, Tensor)>,
    gradients: Vec<usize>,
    only: Option<usize>,
}

impl Hooks for See {
    fn input(&mut self, layer: usize, x: &Tensor) {
        self.inputs.push((layer, x.clone()));
    }
    fn output(&mut self, layer: usize, y: &Tensor) {
        self.outputs.push((layer, y.clone()));
    }
    fn wants_gradient(&self, layer: usize) -> bool {
        self.only.is_none_or(|only| only == layer)
    }
    fn gradient(&mut self, layer: usize, _: Tensor) {
        self.gradients.push(layer);
    }
}

/// Layers are shown what their operators read and wrote, though later operators overwrite it, and a shared weight's gradient comes once.
#[test]
fn hooks_see_inputs_and_outputs() {
    let kernel = Arc::new(tensor(1, &[3, 3, 3, 3], 0.0, 0.4));
    let dense = Arc::new(tensor(2, &[3, 5], 0.0, 0.5));
    let conv = Conv { window: Window { pads: [1; 4], ..Window::new([3, 3]) }, groups: 1 };
    let mut builder = Builder::default();
    let x = builder.input(vec![2, 3, 4, 5]);
    let w = builder.constant(kernel.clone(), Some(4));
    let d = builder.constant(dense.clone(), Some(0));
    let mut push = |operator: Arc<dyn Operator>, inputs: &[ValueId]| builder.push(operator, "", inputs).unwrap()[0];
    let a = push(Arc::new(conv.clone()), &[x, w]);
    let b = push(Arc::new(Unary::Relu), &[a]);
    let c = push(Arc::new(conv.clone()), &[b, w]);
    let e = push(Arc::new(Unary::Tanh), &[c]);
    let f = push(Arc::new(Transpose { axes: vec![0, 2, 3, 1] }), &[e]);
    let y = push(Arc::new(MatMul), &[f, d]);
    let network = builder.finish(&[y]);
    assert_eq!(network.layers(), [0, 4]);

    let input = tensor(3, &[2, 3, 4, 5], 0.0, 1.0);
    let apply = |operator: &dyn Operator, inputs: &[&Tensor]| {
        operator.forward(inputs.iter().map(|t| std::borrow::Cow::Borrowed(*t)).collect(), None).remove(0)
    };
    let va = apply(&conv, &[&input, &kernel]);
    let vb = apply(&Unary::Relu, &[&va]);
    let vc = apply(&conv, &[&vb, &kernel]);
    let vf = apply(&Transpose { axes: vec![0, 2, 3, 1] }, &[&apply(&Unary::Tanh, &[&vc])]);
    let vy = apply(&MatMul, &[&vf, &dense]);
    let inputs = vec![(4, input.clone()), (4, vb), (0, vf)];
    let outputs = vec![(4, va), (4, vc), (0, vy.clone())];

    let mut forward = See::default();
    assert_eq!(network.forward(vec![input.clone()], &mut forward), std::slice::from_ref(&vy));
    assert_eq!((&forward.inputs, &forward.outputs, forward.gradients), (&inputs, &outputs, vec![]));
    let mut both = See::default();
    let seed = tensor(9, &vy.shape, 0.0, 1.0);
    let (found, by_input) = network.gradient(vec![input.clone()], &[false], &mut |_| vec![seed.clone()], &mut both);
    assert_eq!((found, by_input), (vec![vy], vec![None]));
    assert_eq!((&both.inputs, &both.outputs), (&inputs, &outputs));
    assert_eq!(both.gradients, [0, 4], "a layer's gradient comes once, as soon as it is there");
    let mut one = See { only: Some(0), ..See::default() };
    network.gradient(vec![input], &[], &mut |_| vec![seed.clone()], &mut one);
    assert_eq!(one.gradients, [0]);
}

/// A U-Net-like network from `networks.npz`, and its layers' gradients for a batch.
fn unet() -> (Runnable, Vec<usize>) {
    let golden = Golden::open("networks.npz");
    let manifest: Manifest<(Vec<usize>, f32, f32)> = golden.json("unet-dynamo/manifest");
    let model = golden.model("unet-dynamo", vec![Rc::new(manifest.external_data())]);
    (Runnable::new(&model).unwrap(), manifest.input[1..].to_vec())
}

fn of_batch(runnable: &Runnable, image: &[usize], x: &[f32], v: &[f32]) -> BTreeMap<usize, Tensor> {
    let batch = x.len() / image.iter().product::<usize>();
    let network = runnable.network(batch, image).unwrap();
    let mut hooks = Collect::default();
    let x = Tensor::new([&[batch], image].concat(), x.to_vec());
    network.gradient(vec![x], &[], &mut |y| vec![Tensor::new(y[0].shape.clone(), v.to_vec())], &mut hooks);
    hooks.gradients
}

/// The gradient of a batch is the sum of those of its images.
#[test]
fn gradients_add_up_over_batches() {
    let (runnable, image) = unet();
    let x = tensor(1, &[4, 3, 24, 32], 0.0, 1.0).data;
    let v = tensor(2, &[4, 2, 24, 32], 0.0, 1.0).data;
    let whole = of_batch(&runnable, &image, &x, &v);
    for parts in [2, 4] {
        let mut sum: BTreeMap<usize, Tensor> = BTreeMap::new();
        for (x, v) in x.chunks(x.len() / parts).zip(v.chunks(v.len() / parts)) {
            for (layer, gradient) in of_batch(&runnable, &image, x, v) {
                sum.entry(layer).and_modify(|s| s.add(&gradient)).or_insert(gradient);
            }
        }
        assert!(sum.keys().eq(whole.keys()));
        for (layer, gradient) in &whole {
            let error = distance(&sum[layer].data, &gradient.data);
            assert!(error < 1e-5, "layer {layer} in {parts} parts errs {error}");
        }
    }
}

/// The same bits whenever and on however many threads it runs.
#[test]
fn gradients_are_the_same_on_any_number_of_threads() {
    let (runnable, image) = unet();
    let network = runnable.network(2, &image).unwrap();
    let run = || {
        let mut hooks = Collect::default();
        let x = tensor(1, &[2, 3, 24, 32], 0.0, 1.0);
        let (y, _) = network.gradient(vec![x], &[], &mut |y| vec![tensor(2, &y[0].shape, 0.0, 1.0)], &mut hooks);
        (y, hooks.gradients)
    };
    let alone = run();
    assert_eq!(run(), alone);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (a, b) = pool.install(|| rayon::join(run, run));
        assert!(a == alone && b == alone, "{threads} threads");
    }
}
