//! Whole networks of full size: ONNX files of two exporters against onnxruntime, networks known by their weights against torch. Weights
//! are generated ([`generated`]), results come from `tests/networks/make.py`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

mod generated;

use std::rc::Rc;

use generated::{Entry, Golden, Manifest, cifar, data, error, tensor, uniform};
use waterfill::{
    graph::Runnable,
    io::{Model, Source, open, source::PathSource},
    nn::{NoHooks, Tensor},
};

/// The networks' errors are bounded by this, relative to the range of the output.
const BOUND: f32 = 1e-4;

/// Runs a model on its first output.
fn run(model: &Model, x: Tensor) -> Tensor {
    let runnable = Runnable::new(model).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    let network = runnable.network(x.shape[0], &x.shape[1..]).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    network.forward(vec![x], &mut NoHooks).remove(0)
}

fn compare(case: &str, model: &Model, x: Tensor, expected: &Tensor) {
    let start = std::time::Instant::now();
    let y = run(model, x);
    assert_eq!(y.shape, expected.shape, "{case}");
    let error = error(&y.data, &expected.data);
    println!("{case}: {error:.1e} of the range, {:.1?}", start.elapsed());
    assert!(error < BOUND, "{case} errs {error} of the range");
}

/// All cases of an architecture: ONNX files, and the weights alone.
fn architecture(name: &str) {
    let golden = Golden::open("networks.npz");
    let of_this = |case: &String| case.rsplit_once('-').is_some_and(|(n, _)| n == name);
    let mut cases = 0;
    for case in golden.cases().iter().filter(|c| of_this(c)) {
        let manifest: Manifest<(Vec<usize>, f32, f32)> = golden.json(&format!("{case}/manifest"));
        let model = golden.model(case, vec![Rc::new(manifest.external_data())]);
        compare(case, &model, manifest.image(), &golden.tensor(&format!("{case}/output")));
        cases += 1;
    }
    let golden = Golden::open("templates.npz");
    for case in golden.cases().iter().filter(|c| *c == name || c.trim_end_matches(['a', 'b']) == name) {
        let manifest: Manifest<Entry> = golden.json(&format!("{case}/manifest"));
        let model = open(vec![Rc::new(manifest.safetensors(&format!("{case}.safetensors")))]).unwrap_or_else(|e| panic!("{case}: {e}"));
        compare(&format!("{case}, weights alone"), &model, manifest.image(), &golden.tensor(&format!("{case}/output")));
        cases += 1;
    }
    assert!(cases > 0, "no case is called {name}");
}

/// A test for each architecture, and one that none is left out.
macro_rules! architectures {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            architecture($name);
        })*

        #[test]
        fn every_case_has_a_test() {
            let onnx: Vec<String> = Golden::open("networks.npz").cases().iter().map(|c| c.rsplit_once('-').unwrap().0.into()).collect();
            let names = Golden::open("templates.npz").cases();
            let templates = names.iter().map(|c| if c.starts_with("cifar") { c.trim_end_matches(['a', 'b']) } else { c });
            for case in onnx.iter().map(|c| &**c).chain(templates) {
                assert!([$($name),*].contains(&case), "{case}");
            }
        }
    };
}

architectures! {
    alexnet: "alexnet",
    vgg11: "vgg11",
    vgg11_bn: "vgg11_bn",
    resnet18: "resnet18",
    resnet34: "resnet34",
    resnet50: "resnet50",
    resnet101: "resnet101",
    densenet121: "densenet121",
    densenet161: "densenet161",
    mobilenet_v2: "mobilenet_v2",
    squeezenet1_0: "squeezenet1_0",
    squeezenet1_1: "squeezenet1_1",
    edsr: "edsr",
    unet: "unet",
    cifar_resnet20: "cifar-resnet20",
    cifar_resnet32: "cifar-resnet32",
    cifar_resnet44: "cifar-resnet44",
    cifar_resnet56: "cifar-resnet56",
    cifar_resnet110: "cifar-resnet110",
}

/// Images are independent of the batch that they are in.
#[test]
fn batches_are_images_one_by_one() {
    let golden = Golden::open("networks.npz");
    for case in ["resnet18-kept", "mobilenet_v2-dynamo", "unet-dynamo"] {
        let manifest: Manifest<(Vec<usize>, f32, f32)> = golden.json(&format!("{case}/manifest"));
        let model = golden.model(case, vec![Rc::new(manifest.external_data())]);
        let runnable = Runnable::new(&model).unwrap();
        let image = &manifest.input[1..];
        let shape = |n: usize| [&[n], image].concat();
        let batch = tensor(5, &shape(3), 0.0, generated::IMAGE);
        let together = runnable.network(3, image).unwrap().forward(vec![batch.clone()], &mut NoHooks).remove(0);
        for (x, y) in batch.data.chunks(batch.len() / 3).zip(together.data.chunks(together.len() / 3)) {
            let alone = runnable.network(1, image).unwrap().forward(vec![Tensor::new(shape(1), x.to_vec())], &mut NoHooks).remove(0);
            assert!(error(&alone.data, y) < 1e-5, "{case}");
        }
    }
}

/// Halting at layers changes nothing, bit for bit.
#[test]
fn walks_give_what_forward_gives() {
    let golden = Golden::open("networks.npz");
    for case in ["resnet18-kept", "mobilenet_v2-dynamo", "densenet121-kept", "unet-dynamo"] {
        let manifest: Manifest<(Vec<usize>, f32, f32)> = golden.json(&format!("{case}/manifest"));
        let runnable = Runnable::new(&golden.model(case, vec![Rc::new(manifest.external_data())])).unwrap();
        let x = manifest.image();
        let network = runnable.network(x.shape[0], &x.shape[1..]).unwrap();
        let (halts, mut seen) = (network.halts(), Vec::new());
        let mut walk = network.begin(vec![x.clone()]);
        let mut most = 0;
        while let Some((layer, _)) = walk.next_layer() {
            seen.push(layer);
            most = most.max(walk.bytes());
        }
        assert!(seen.iter().eq(halts.iter().map(|(layer, _)| layer)) && seen.len() >= network.layers().len(), "{case}");
        assert!(most <= network.peak_bytes(false), "{case}");
        assert_eq!(walk.finish(), network.forward(vec![x], &mut NoHooks), "{case}");
    }
}

/// One trained network in six files gives the logits that torch gives in f64.
#[test]
fn resnet20_in_every_format() {
    let Some(folder) = data() else { return };
    let text = include_str!("networks/resnet20.json");
    let golden: serde_json::Value = serde_json::from_str(text).unwrap();
    let rows = golden["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    let expected: Vec<f32> = rows.map(|v| v.as_f64().unwrap() as f32).collect();
    for file in
        ["resnet20.onnx", "resnet20-legacy-bn.onnx", "resnet20-legacy-folded.onnx", "resnet20.safetensors", "resnet20.pth", "resnet20.npz"]
    {
        let model = open(vec![Rc::new(PathSource::open(folder.join(file)).unwrap())]).unwrap();
        compare(file, &model, cifar(&folder, 8), &Tensor::new([8, 10], expected.clone()));
    }
}

/// What NumPy gives for the same seeds.
#[test]
fn generated_values_are_those_of_the_script() {
    let first = [(0, 0), (0, 1), (1, 0), (12_345, 99), (0x7fff_ffff, 123_456_789)].map(|(s, i)| uniform(s, i));
    assert_eq!(first, [-1.0, 0.766_621_6, 0.491_558_9, 0.867_476_1, -0.644_673_1]);
}

/// A file read in pieces of any size is the file.
#[test]
fn generated_files_are_read_anywhere() {
    let manifest = Manifest { seed: 7, input: vec![], tensors: vec![(vec![3], 0.0, 1.0), (vec![], 2.0, 0.5), (vec![2, 5], 0.0, 3.0)] };
    let source = manifest.external_data();
    let mut whole = vec![0; 56];
    source.read_at(0, &mut whole).unwrap();
    let floats: Vec<f32> = whole.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(floats[..3], tensor(8, &[3], 0.0, 1.0).data);
    assert_eq!(floats[4..], tensor(10, &[2, 5], 0.0, 3.0).data);
    for from in 0..56 {
        for to in from..=56 {
            let mut part = vec![0; to - from];
            source.read_at(from as u64, &mut part).unwrap();
            assert_eq!(part, whole[from..to], "{from}..{to}");
        }
    }
    assert!(source.read_at(50, &mut [0; 7]).is_err());
}
