use proptest::prelude::*;

use super::*;
use crate::{
    data::{Encoded, Image, Images, Pixels},
    graph::{Graph, Input, Node},
    io::{Dtype, Format, LayerShape, TensorInfo, TensorReader, skeleton::Skeleton},
    nn::{Hooks, NoHooks, Tensor},
    pipeline::job::{Waiting, wait},
    report::DataSummary,
    testing::noise,
};

struct Tensors(Vec<Vec<f32>>);

impl TensorReader for Tensors {
    fn read(&self, index: usize) -> Result<Vec<u8>> {
        Ok(self.0[index].iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

/// Images of 4×4 pixels and three channels.
struct Pictures(usize);

impl Images for Pictures {
    fn len(&self) -> usize {
        self.0
    }
    fn read(&self, index: usize) -> Result<Encoded> {
        let pixels = Pixels::F32(noise(48, 1000 + index as u64));
        Ok(Encoded::Image { name: self.name(index), image: Image { height: 4, width: 4, channels: 3, pixels } })
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
}

fn pictures(n: usize) -> Dataset {
    let summary = DataSummary {
        name: "pictures".into(),
        several: false,
        format: "images".into(),
        images: n,
        size: [4, 4, 3],
        labelled: false,
        classes: Vec::new(),
        notes: Vec::new(),
    };
    Dataset { summary, images: Rc::new(Pictures(n)), labels: None }
}

fn preprocessing() -> Preprocessing {
    Preprocessing {
        resize: None,
        crop: None,
        channels: Default::default(),
        scale: 1.0,
        mean: vec![0.0],
        std: vec![1.0],
        channels_last: false,
        origin: String::new(),
    }
}

const W1: usize = 0;
const B1: usize = 1;
const W2: usize = 2;
const BETA: usize = 4;
const W3: usize = 7;
const B3: usize = 8;

/// A convolution with a bias, one with a batch norm, a convolution without anything, and a dense layer with an Add.
fn model() -> Model {
    let node = |op: &str, inputs: &[&str], output: &str| Node {
        op: op.into(),
        inputs: inputs.iter().map(|s| s.to_string()).collect(),
        outputs: vec![output.into()],
        ..Default::default()
    };
    let nodes = vec![
        node("Conv", &["x", "w1", "b1"], "1"),
        node("Relu", &["1"], "2"),
        node("Conv", &["2", "w2"], "3"),
        node("BatchNormalization", &["3", "gamma", "beta", "mean", "variance"], "4"),
        node("Relu", &["4"], "5"),
        node("Conv", &["5", "w4"], "6"),
        node("GlobalAveragePool", &["6"], "7"),
        node("Flatten", &["7"], "8"),
        node("MatMul", &["8", "w3"], "9"),
        node("Add", &["b3", "9"], "y"),
    ];
    let graph = Graph {
        opset: 13,
        inputs: vec![Input { name: "x".into(), dims: vec![None, Some(3), Some(4), Some(4)] }],
        outputs: vec!["y".into()],
        nodes,
        ..Default::default()
    };
    let conv = |outputs, inputs| Role::Layer(LayerShape { groups: 1, outputs, inputs, taps: 1, columns: 1, order: Order::OutIn });
    let dense = Role::Layer(LayerShape { groups: 1, outputs: 2, inputs: 5, taps: 1, columns: 1, order: Order::InOut });
    let scaled = |n, seed, by: f32, to: f32| noise(n, seed).iter().map(|v| v * by + to).collect::<Vec<f32>>();
    let table: Vec<(&str, Vec<usize>, Role, Vec<f32>)> = vec![
        ("w1", vec![6, 3, 1, 1], conv(6, 3), scaled(18, 1, 2.0, 0.0)),
        ("b1", vec![6], Role::Small, scaled(6, 2, 1.0, 0.3)),
        ("w2", vec![4, 6, 1, 1], conv(4, 6), scaled(24, 3, 2.0, 0.0)),
        ("gamma", vec![4], Role::Small, scaled(4, 4, 0.5, 1.0)),
        ("beta", vec![4], Role::Small, scaled(4, 5, 1.0, 0.2)),
        ("mean", vec![4], Role::Small, scaled(4, 6, 1.0, 0.0)),
        ("variance", vec![4], Role::Small, scaled(4, 7, 0.2, 0.5)),
        ("w3", vec![5, 2], dense, scaled(10, 8, 2.0, 0.0)),
        ("b3", vec![2], Role::Small, scaled(2, 9, 1.0, 0.0)),
        ("w4", vec![5, 4, 1, 1], conv(5, 4), scaled(20, 10, 2.0, 0.0)),
    ];
    let info = |(name, shape, role, _): &(&str, Vec<usize>, Role, Vec<f32>)| TensorInfo {
        name: name.to_string(),
        dtype: Dtype::F32,
        shape: shape.clone(),
        role: *role,
    };
    Model {
        name: "small.onnx".into(),
        format: Format::Onnx,
        file_bytes: 1000,
        tensors: table.iter().map(info).collect(),
        skeleton: Skeleton::Flat(Vec::new()),
        reader: Rc::new(Tensors(table.into_iter().map(|t| t.3).collect())),
        notes: Vec::new(),
        graph: Some(Rc::new(graph)),
    }
}

/// The tensors of the model, changed.
fn decoded(model: &Model, change: impl Fn(usize, &mut Vec<f32>)) -> Decoded {
    let mut decoded = crate::pipeline::evaluate::decoded_model(model).unwrap();
    decoded.tensors.iter_mut().for_each(|(index, values)| change(*index, values));
    decoded
}

/// Memory for items of `micro` images.
fn options(session: &Session, images: usize, micro: u64) -> Options {
    let peak = session.runnable().unwrap().network(1, &[3, 4, 4]).unwrap().peak_bytes(false);
    Options { images, memory: 32 * micro * peak }
}

fn matched(session: &Session, decoded: &Decoded, images: usize, micro: u64) -> Matched {
    let matcher = session.matcher(decoded, &pictures(images), preprocessing(), options(session, images, micro)).unwrap();
    assert_eq!((matcher.images(), matcher.micro as u64), (images, micro));
    wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap()
}

fn outputs(runnable: &Runnable) -> Vec<f32> {
    let network = runnable.network(3, &[3, 4, 4]).unwrap();
    network.forward(vec![Tensor::new([3, 3, 4, 4], noise(144, 77))], &mut NoHooks).remove(0).data
}

fn near(a: &[f32], b: &[f32], bound: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound)
}

/// Weights of shrunken channels, and biases that are off, are found again exactly: no noise is in between.
#[test]
fn scaled_channels_and_shifted_biases_are_undone() {
    let session = Session::new(model()).unwrap();
    let runnable = session.runnable().unwrap();
    let scales: [(usize, &[f32]); 3] = [(W1, &[0.8, 0.5, 1.6, 1.0, 0.9, 1.25]), (W2, &[2.0, 0.8, 0.4, 1.0]), (W3, &[0.8, 1.25])];
    let change = |index: usize, values: &mut Vec<f32>| {
        if let Some((_, scales)) = scales.iter().find(|s| s.0 == index) {
            let Role::Layer(shape) = session.model.tensors[index].role else { panic!("a layer") };
            batch_norm::multiply(values, &shape, scales);
        }
        let shift = match index {
            B1 => 0.3,
            BETA => -0.2,
            B3 => 1.0,
            _ => 0.0,
        };
        values.iter_mut().for_each(|v| *v += shift);
    };
    let mut decoded = decoded(&session.model, change);
    let before = outputs(&runnable.with_tensors(&decoded.tensors).unwrap());
    let found = matched(&session, &decoded, 30, 16);
    // Layers in the order of the table.
    for (correction, scales) in found.corrections.iter().zip(scales.iter().map(|s| s.1).chain([&[1.0f32; 5][..]])) {
        let inverse: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
        assert!(near(&correction.gains, &inverse, 5e-3), "{:?} {inverse:?}", correction.gains);
    }
    assert_eq!(found.corrections[3].offsets, [0.0; 5], "nothing takes them");
    assert_eq!(found.tensors.iter().map(|t| t.0).collect::<Vec<_>>(), [B1, BETA, B3]);
    for (index, values) in &found.tensors {
        let info = &session.model.tensors[*index];
        let own = crate::io::tensor::to_f32(&session.model.reader.read(*index).unwrap(), info.dtype);
        assert!(near(values, &own, 5e-3), "{}: {values:?} {own:?}", info.name);
        // 16-bit floats.
        assert_eq!(session.head.kept(info, *index, values), *values);
    }
    found.apply(&session.model, &mut decoded);
    let (wanted, after) = (outputs(&runnable), outputs(&runnable.with_tensors(&decoded.tensors).unwrap()));
    assert!(!near(&before, &wanted, 0.5) && near(&after, &wanted, 0.02), "{wanted:?} {after:?}");
}

#[test]
fn a_channel_without_weights_keeps_its_mean_and_gains_are_clipped() {
    let session = Session::new(model()).unwrap();
    // Of the first layer: channel 0 is empty, 1 is too small to be made good, 2 too large, 3 of the wrong sign.
    let factors = [0.0, 0.01, 100.0, -1.0, 1.0, 1.0];
    let change = |index: usize, values: &mut Vec<f32>| {
        if index == W1 {
            values.chunks_mut(3).zip(factors).for_each(|(row, f)| row.iter_mut().for_each(|v| *v *= f));
        }
    };
    let decoded = decoded(&session.model, change);
    let found = matched(&session, &decoded, 30, 16);
    // The deviation of the fourth is what it should be.
    assert!(near(&found.corrections[0].gains, &[1.0, 4.0, 0.5, 1.0, 1.0, 1.0], 1e-3), "{:?}", found.corrections[0]);
    // The mean of its products with the images, which are around 0.
    let weights = &session.model.read_layer(W1).unwrap()[..3];
    let mut mean = [0.0; 3];
    (0..30).flat_map(|i| noise(48, 1000 + i)).enumerate().for_each(|(i, v)| mean[i % 3] += v / 480.0);
    let expected: f32 = weights.iter().zip(mean).map(|(w, m)| w * m).sum();
    assert!((found.corrections[0].offsets[0] - expected).abs() < 2e-3, "{:?} {expected}", found.corrections[0]);
}

struct Outputs(Vec<(usize, Tensor)>);

impl Hooks for Outputs {
    fn output(&mut self, layer: usize, y: &Tensor) {
        self.0.push((layer, y.clone()));
    }
}

/// The pass against what its definition says, computed with networks made anew for each layer.
#[test]
fn a_pass_is_what_layers_corrected_one_after_the_other_give() {
    let session = Session::new(model()).unwrap();
    let runnable = session.runnable().unwrap();
    let change = |index: usize, values: &mut Vec<f32>| {
        if let Role::Layer(_) = session.model.tensors[index].role {
            values.iter_mut().zip(noise(64, 50 + index as u64)).for_each(|(v, n)| *v = 0.8 * *v + 0.6 * n);
        }
    };
    let (count, decoded) = (10, decoded(&session.model, change));
    // Three batches, of 4, 4, and 2 and two that fill it up.
    let found = matched(&session, &decoded, count, 4);
    assert_eq!(found, matched(&session, &decoded, count, 4));

    let images: Vec<f32> = (0..count as u64).flat_map(|i| crate::io::tensor::transpose(&noise(48, 1000 + i), 16, 3)).collect();
    let run = |runnable: &Runnable| {
        let mut seen = Outputs(Vec::new());
        let network = runnable.network(count, &[3, 4, 4]).unwrap();
        network.forward(vec![Tensor::new([count, 3, 4, 4], images.clone())], &mut seen);
        seen.0
    };
    let reference = run(&runnable);
    let order: Vec<usize> = reference.iter().map(|r| r.0).collect();
    assert_eq!(order, [0, 1, 3, 2]);
    let mut corrected = decoded.clone();
    for (at, layer) in order.iter().enumerate() {
        let outputs = run(&runnable.with_tensors(&corrected.tensors).unwrap());
        let (f, o) = (&reference[at].1, &outputs[at].1);
        let (channels, dense) = (f.shape[1], *layer == 2);
        for channel in 0..channels {
            let of = |t: &Tensor| -> Vec<f64> {
                let positions = t.len() / count / channels;
                let rows = t.data.chunks(positions).skip(channel).step_by(channels);
                rows.flatten().map(|&v| f64::from(v)).collect()
            };
            let (f, o) = (of(f), of(o));
            let n = f.len() as f64;
            let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n - mean(a) * mean(b);
            let clip = |v: f64| v.clamp(0.5, 4.0);
            let regression = clip(product(&f, &o) / product(&o, &o));
            let ratio = clip((product(&f, &f) / product(&o, &o)).sqrt());
            let a = if dense { regression } else { ratio };
            let c = if *layer == 3 { 0.0 } else { mean(&f) - a * mean(&o) };
            let correction = &found.corrections[*layer];
            let (gain, offset) = (f64::from(correction.gains[channel]), f64::from(correction.offsets[channel]));
            assert!((gain - a).abs() < 2e-3 && (offset - c).abs() < 2e-3, "layer {layer}: {gain} {a}, {offset} {c}");
        }
        // The corrections so far, and none of those to come.
        let part = Matched {
            corrections: (0..4)
                .map(|l| match order[..=at].contains(&l) {
                    true => found.corrections[l].clone(),
                    false => Correction::none(found.corrections[l].gains.len()),
                })
                .collect(),
            tensors: found
                .tensors
                .iter()
                .filter(|t| order[..=at].iter().any(|l| [B1, BETA, B3][(*l).min(2)] == t.0 && *l != 3))
                .cloned()
                .collect(),
            images: count,
        };
        corrected = decoded.clone();
        part.apply(&session.model, &mut corrected);
    }
}

#[test]
fn offsets_are_matched_to_gains_as_they_are_kept() {
    let session = Session::new(model()).unwrap();
    let decoded = decoded(&session.model, |index, values| {
        if index == W1 {
            values.iter_mut().for_each(|v| *v *= 0.8);
        }
    });
    let matcher = session.matcher(&decoded, &pictures(20), preprocessing(), Options::default()).unwrap();
    let matcher = matcher.keeping_gains(|_, gains| vec![1.5; gains.len()]);
    let found = wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap();
    assert!(found.corrections.iter().flat_map(|c| &c.gains).all(|&g| g == 1.5));
    let exact = matched(&session, &decoded, 20, 16);
    assert_ne!(found.tensors, exact.tensors);
}

#[test]
fn few_images_where_memory_is_short_and_another_network_is_refused() {
    let session = Session::new(model()).unwrap();
    let decoded = decoded(&session.model, |_, _| {});
    let peak = session.runnable().unwrap().network(1, &[3, 4, 4]).unwrap().peak_bytes(false);
    let options = Options { images: 50, memory: 2 * 7 * peak };
    let matcher = session.matcher(&decoded, &pictures(50), preprocessing(), options).unwrap();
    assert_eq!((matcher.images(), matcher.micro), (7, 1));
    assert!(matcher.cost() > 0.0);
    let found = wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap();
    // The same network on both sides: nothing but what 16 bits lose.
    assert!(found.corrections.iter().all(|c| near(&c.gains, &vec![1.0; c.gains.len()], 1e-2)));

    let mut other = model();
    let graph = Rc::make_mut(other.graph.as_mut().unwrap());
    graph.nodes.truncate(7);
    graph.outputs = vec!["7".into()];
    let other = Runnable::new(&other).unwrap();
    let refused = Matcher::new(&session, &other, &pictures(5), preprocessing(), Options::default()).err().unwrap();
    assert_eq!(refused.to_string(), "small.onnx and small.onnx are not the same network.");
}

#[test]
fn channels_are_the_second_axis_or_of_dense_layers_the_last() {
    let of = |shape: &[usize], channels, dense| Channels::of(shape, 2, channels, dense).map(|c| (c.positions, c.last));
    assert_eq!(of(&[2, 5, 3, 3], 5, false), Some((9, false)));
    assert_eq!(of(&[2, 5], 5, true), Some((1, false)));
    // Positions that are as many as channels.
    assert_eq!((of(&[2, 5, 5], 5, false), of(&[2, 5, 5], 5, true)), (Some((5, false)), Some((5, true))));
    assert_eq!((of(&[2, 7, 5], 5, false), of(&[2, 5, 7], 5, true)), (Some((7, true)), None));
    assert_eq!((of(&[3, 5, 7], 5, false), of(&[2], 5, false), of(&[2, 4, 6], 5, false)), (None, None, None));
    assert_eq!(Channels { channels: 5, positions: 7, last: true }.of_image(1, 2), (37, 5));
    assert_eq!(Channels { channels: 5, positions: 7, last: false }.of_image(1, 2), (49, 1));
}

proptest! {
    /// Sums of parts are sums of the whole, also far from 0; a constant has no variance at all.
    #[test]
    fn moments_add(n in 1usize..200, cut in 0usize..200, seed in 0u64..1000, far in -1e4f64..1e4) {
        let (f, o) = (noise(n, seed), noise(n, seed + 1));
        let pairs: Vec<(f64, f64)> = f.iter().zip(&o).map(|(&f, &o)| (f64::from(f) + far, 2.0 * f64::from(o) + f64::from(f))).collect();
        let (first, second) = pairs.split_at(cut.min(n));
        let mut sum = Moments::of(first.iter().copied());
        sum.add(Moments::of(second.iter().copied()));
        let whole = Moments::of(pairs.iter().copied());
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + far.abs());
        prop_assert!(close(sum.f, whole.f) && close(sum.o, whole.o) && close(sum.ff, whole.ff) && close(sum.oo, whole.oo) && close(sum.fo, whole.fo));
        for dense in [false, true] {
            let gain = sum.gain(dense);
            prop_assert!((0.5..=4.0).contains(&gain));
            prop_assert!((gain * sum.o + sum.offset(gain) - sum.f).abs() <= 1e-9 * (1.0 + far.abs()));
        }
        let mut constant = Moments::of(first.iter().map(|p| (p.0, far)));
        constant.add(Moments::of(second.iter().map(|p| (p.0, far))));
        prop_assert_eq!((constant.oo, constant.gain(false)), (0.0, 1.0));
    }
}
