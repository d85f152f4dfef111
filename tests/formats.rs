//! Real model files, and small made ones, through `io::open` and back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use waterfill::io::source::{BytesSource, PathSource};
use waterfill::io::{Format, LayerShape, Model, Order, Role, Source, open, skeleton};

/// The folder of test data, if `WATERFILL_DATA` names one. It must then be there.
fn data() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("WATERFILL_DATA") else {
        eprintln!("left out: WATERFILL_DATA is not set");
        return None;
    };
    let folder = PathBuf::from(folder);
    assert!(folder.is_dir(), "WATERFILL_DATA is not a folder: {}", folder.display());
    Some(folder)
}

fn open_path(path: PathBuf) -> Model {
    let source: Rc<dyn Source> = Rc::new(PathSource::open(&path).unwrap());
    open(vec![source]).unwrap_or_else(|e| panic!("{e}"))
}

/// The file again, with its own tensors.
fn rebuilt(model: &Model) -> Vec<u8> {
    let mut out = Vec::new();
    skeleton::write(&model.skeleton, &*model.reader, &mut out).unwrap();
    out
}

fn open_bytes(name: &str, bytes: Vec<u8>) -> Model {
    open(vec![Rc::new(BytesSource::new(name, bytes))]).unwrap_or_else(|e| panic!("{e}"))
}

fn layers(model: &Model) -> BTreeMap<String, Vec<f32>> {
    model.layers().into_iter().map(|i| (model.tensors[i].name.clone(), model.read_layer(i).unwrap())).collect()
}

/// Two models have the same tensors, names, roles and bytes.
fn assert_same(a: &Model, b: &Model) {
    assert_eq!(a.tensors, b.tensors);
    for i in 0..a.tensors.len() {
        assert_eq!(a.reader.read(i).unwrap(), b.reader.read(i).unwrap(), "{}", a.tensors[i].name);
    }
}

const WEIGHTS: u64 = 268_336;

#[test]
fn resnet20_in_every_format() {
    let Some(folder) = data() else { return };
    let files = [
        ("resnet20.safetensors", Format::Safetensors),
        ("resnet20.onnx", Format::Onnx),
        ("resnet20-legacy-bn.onnx", Format::Onnx),
        ("resnet20-legacy-folded.onnx", Format::Onnx),
    ];
    for (file, format) in files {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).unwrap();
        let model = open_path(path);
        assert_eq!(model.format, format, "{file}");
        let summary = model.summary();
        assert_eq!(summary.layers.len(), 20, "{file}");
        assert_eq!(summary.layer_weights, WEIGHTS, "{file}");
        assert_eq!(summary.layer_bytes, 4 * WEIGHTS, "{file}");
        assert_eq!(summary.bytes, bytes.len() as u64);
        let again = rebuilt(&model);
        if matches!(format, Format::Safetensors | Format::Onnx) {
            assert!(again == bytes, "{file} is not rebuilt byte for byte");
            assert_eq!(skeleton::byte_len(&model.skeleton, &model.tensors), Some(bytes.len() as u64));
        }
        assert_same(&model, &open_bytes(file, again));
    }
}

#[test]
fn resnet20_onnx_roles() {
    let Some(folder) = data() else { return };
    let model = open_path(folder.join("resnet20.onnx"));
    let role = |name: &str| model.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("{name}")).role;
    let conv = LayerShape { groups: 1, outputs: 16, inputs: 3, taps: 9, order: Order::OutIn };
    assert_eq!(role("conv1.weight"), Role::Layer(conv));
    let linear = LayerShape { groups: 1, outputs: 10, inputs: 64, taps: 1, order: Order::OutIn };
    assert_eq!(role("linear.weight"), Role::Layer(linear));
    assert_eq!(role("linear.bias"), Role::Small);
    assert_eq!(role("conv1.weight_bias"), Role::Small);
    assert_eq!(role("val_288"), Role::Exact);
}

#[test]
fn unfolded_onnx_has_the_weights_of_the_state_dict() {
    let Some(folder) = data() else { return };
    let onnx = layers(&open_path(folder.join("resnet20-legacy-bn.onnx")));
    assert_eq!(onnx, layers(&open_path(folder.join("resnet20.safetensors"))));
    // Folding scales each output channel by its batch normalisation.
    assert_ne!(onnx, layers(&open_path(folder.join("resnet20.onnx"))));
}
