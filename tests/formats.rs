//! Real model files, and small made ones, through `io::open` and back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use proptest::prelude::*;
use waterfill::io::source::{BytesSource, PathSource};
use waterfill::io::{Dtype, Format, LayerShape, Model, Order, Role, Source, TensorInfo, TensorReader, open, skeleton};

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
        ("resnet20.npz", Format::Npz),
        ("resnet20.pth", Format::Pth),
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
    let conv = LayerShape { groups: 1, outputs: 16, inputs: 3, taps: 9, columns: 3, order: Order::OutIn };
    assert_eq!(role("conv1.weight"), Role::Layer(conv));
    let linear = LayerShape { groups: 1, outputs: 10, inputs: 64, taps: 1, columns: 1, order: Order::OutIn };
    assert_eq!(role("linear.weight"), Role::Layer(linear));
    assert_eq!(role("linear.bias"), Role::Small);
    assert_eq!(role("conv1.weight_bias"), Role::Small);
    assert_eq!(role("val_288"), Role::Exact);
}

#[test]
fn all_formats_hold_the_same_weights() {
    let Some(folder) = data() else { return };
    let expected = layers(&open_path(folder.join("resnet20.safetensors")));
    for file in ["resnet20.pth", "resnet20.npz", "resnet20-legacy-bn.onnx"] {
        assert_eq!(layers(&open_path(folder.join(file))), expected, "{file}");
    }
    // Folding scales each output channel by its batch normalisation.
    let folded = layers(&open_path(folder.join("resnet20.onnx")));
    assert!(folded.keys().eq(expected.keys()));
    assert_ne!(folded, expected);
}

// Small files made by tests/fixtures/make.py.

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name].iter().collect()
}

fn sources(names: &[&str]) -> Vec<Rc<dyn Source>> {
    names.iter().map(|name| Rc::new(PathSource::open(fixture(name)).unwrap()) as Rc<dyn Source>).collect()
}

fn refusal(names: &[&str]) -> String {
    match open(sources(names)) {
        Ok(_) => panic!("{names:?} was opened"),
        Err(e) => e.to_string(),
    }
}

fn find<'a>(model: &'a Model, name: &str) -> (usize, &'a TensorInfo) {
    let found = model.tensors.iter().enumerate().find(|(_, t)| t.name == name);
    found.unwrap_or_else(|| panic!("{name} is not among {:?}", model.tensors.iter().map(|t| &t.name).collect::<Vec<_>>()))
}

fn layer(model: &Model, name: &str) -> (LayerShape, Vec<f32>) {
    let (index, info) = find(model, name);
    match info.role {
        Role::Layer(shape) => (shape, model.read_layer(index).unwrap()),
        other => panic!("{name} is {other:?}"),
    }
}

fn shape(groups: usize, outputs: usize, inputs: usize, taps: usize, order: Order) -> LayerShape {
    // Kernels here are square.
    LayerShape { groups, outputs, inputs, taps, columns: taps.isqrt(), order }
}

#[test]
fn onnx_layers_are_found_however_they_are_stored() {
    use Order::{InOut, OutIn};
    let model = open(sources(&["typed.onnx"])).unwrap();
    for (name, expected) in [
        ("conv.weight", shape(1, 8, 3, 9, OutIn)),
        ("group.weight", shape(2, 4, 4, 9, OutIn)),
        ("transposed.weight", shape(2, 2, 4, 4, InOut)),
        ("constant.weight", shape(1, 4, 4, 1, OutIn)),
        ("half.weight", shape(1, 6, 4, 1, OutIn)),
        ("double.weight", shape(1, 6, 4, 1, OutIn)),
        ("matmul.weight", shape(1, 5, 4, 1, InOut)),
        ("turned.weight", shape(1, 7, 5, 1, OutIn)),
        ("gemm.weight", shape(1, 3, 7, 1, InOut)),
    ] {
        let (found, values) = layer(&model, name);
        assert_eq!(found, expected, "{name}");
        assert_eq!(values.len(), found.weights());
        assert!(values.iter().all(|v| v.abs() < 6.0 && *v != 0.0), "{name}");
    }
    assert_eq!(find(&model, "half.weight").1.dtype, Dtype::F16);
    assert_eq!(find(&model, "conv.bias").1.role, Role::Small);
    assert_eq!(find(&model, "gemm.bias").1.role, Role::Small);
    // Scalars, what a Gather picks from, and the branches of an If are kept.
    for name in ["scale", "embedding", "then.value", "else.value"] {
        assert_eq!(find(&model, name).1.role, Role::Exact, "{name}");
    }
    assert_eq!(model.notes.len(), 0, "{:?}", model.notes);
    assert_eq!(model.summary().layers.len(), 9);
}

#[test]
fn onnx_with_external_data_becomes_one_file() {
    let alone = open(sources(&["typed.onnx"])).unwrap();
    for order in [["external.onnx", "external.data"], ["external.data", "external.onnx"]] {
        let model = open(sources(&order)).unwrap();
        assert_eq!(model.name, "external.onnx");
        assert_eq!(model.file_bytes, 3336 + 10688);
        assert_same(&model, &alone);
        let again = rebuilt(&model);
        assert_eq!(skeleton::byte_len(&model.skeleton, &model.tensors), Some(again.len() as u64));
        assert_same(&open_bytes("again.onnx", again), &alone);
    }
    let missing = refusal(&["external.onnx"]);
    assert!(missing.contains("external.data") && missing.contains("together"), "{missing}");
    let unused = open(sources(&["typed.onnx", "external.data"])).unwrap();
    assert_eq!(unused.notes, ["external.data is not used: typed.onnx does not refer to it."]);
    let several = refusal(&["typed.onnx", "unpacked.onnx"]);
    assert!(several.contains("several models"), "{several}");
}

#[test]
fn onnx_with_a_field_per_float() {
    let model = open(sources(&["unpacked.onnx"])).unwrap();
    let (found, values) = layer(&model, "w");
    assert_eq!(found, shape(1, 6, 4, 1, Order::InOut));
    // Stored [in, out] = 0, 1, 2 …; canonical order has outputs first.
    let expected: Vec<f32> = (0..6).flat_map(|o| (0..4).map(move |i| (i * 6 + o) as f32)).collect();
    assert_eq!(values, expected);
    assert_same(&open_bytes("again.onnx", rebuilt(&model)), &model);
}

#[test]
fn every_fixture_is_rebuilt() {
    for name in [
        "typed.onnx",
        "unpacked.onnx",
        "fortran.npy",
        "deflated.npz",
        "stored.npz",
        "mixed.safetensors",
        "nested.pth",
        "overlap.pth",
        "evil.pth",
    ] {
        let model = open(sources(&[name])).unwrap();
        let again = rebuilt(&model);
        assert_same(&model, &open_bytes(name, again.clone()));
        if matches!(model.format, Format::Safetensors | Format::Npy) {
            assert!(again == std::fs::read(fixture(name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn changed_tensors_are_found_where_they_were_put() {
    /// All zeros, whatever was there.
    struct Zeros<'a>(&'a Model);
    impl TensorReader for Zeros<'_> {
        fn read(&self, index: usize) -> waterfill::error::Result<Vec<u8>> {
            Ok(vec![0; self.0.tensors[index].bytes()])
        }
    }
    for name in ["typed.onnx", "unpacked.onnx", "fortran.npy", "deflated.npz", "mixed.safetensors", "nested.pth", "overlap.pth"] {
        let model = open(sources(&[name])).unwrap();
        let mut out = Vec::new();
        skeleton::write(&model.skeleton, &Zeros(&model), &mut out).unwrap();
        let again = open_bytes(name, out);
        assert_eq!(again.tensors, model.tensors);
        for i in 0..again.tensors.len() {
            assert!(again.reader.read(i).unwrap().iter().all(|&b| b == 0), "{name} {}", again.tensors[i].name);
        }
    }
}

#[test]
fn numpy_arrays_in_both_orders() {
    let stored = open(sources(&["stored.npz"])).unwrap();
    let deflated = open(sources(&["deflated.npz"])).unwrap();
    assert_same(&stored, &deflated);
    assert_eq!(layer(&stored, "fortran").0, shape(1, 3, 4, 1, Order::OutIn));
    assert_eq!(layer(&stored, "kernel").0, shape(1, 4, 3, 4, Order::OutIn));
    assert_eq!(find(&stored, "double").1.dtype, Dtype::F64);
    assert_eq!(find(&stored, "bias").1.role, Role::Small);
    for name in ["labels", "scalar", "text", "zero"] {
        assert_eq!(find(&stored, name).1.role, Role::Exact, "{name}");
    }
    // The same array, in C order as read.
    let lone = open(sources(&["fortran.npy"])).unwrap();
    assert_eq!(lone.tensors[0].name, "fortran");
    assert_eq!(lone.read_layer(0).unwrap(), layer(&stored, "kernel").1);
    let raw = std::fs::read(fixture("fortran.npy")).unwrap();
    let last: Vec<f32> = raw[raw.len() - 192..].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    // Element [1, 2, 0, 1] of [4, 3, 2, 2]: C position 1·12 + 2·4 + 0·2 + 1, Fortran position 1 + 2·4 + 0·12 + 1·24.
    assert_eq!(lone.read_layer(0).unwrap()[21], last[33]);
}

#[test]
fn numpy_arrays_that_are_refused() {
    assert!(refusal(&["big.npy"]).contains("big-endian"));
    assert!(refusal(&["object.npy"]).contains("Python objects"));
}

#[test]
fn safetensors_of_every_type() {
    let model = open(sources(&["mixed.safetensors"])).unwrap();
    for (name, dtype) in [("a.weight", Dtype::F16), ("b.weight", Dtype::Bf16), ("c.weight", Dtype::F64)] {
        assert_eq!(find(&model, name).1.dtype, dtype);
        assert_eq!(layer(&model, name).0, shape(1, 4, 3, 1, Order::OutIn));
    }
    assert_eq!(find(&model, "d.bias").1.role, Role::Small);
    for (name, dtype) in
        [("ids", Dtype::Other(8)), ("mask", Dtype::Other(1)), ("scalar", Dtype::F32), ("empty", Dtype::F32), ("q", Dtype::Other(1))]
    {
        assert_eq!((find(&model, name).1.role, find(&model, name).1.dtype), (Role::Exact, dtype), "{name}");
    }
}

#[test]
fn pytorch_views_become_tensors() {
    let model = open(sources(&["nested.pth"])).unwrap();
    assert_eq!(layer(&model, "encoder.weight").0, shape(1, 6, 4, 1, Order::OutIn));
    // Tied: once.
    assert!(!model.tensors.iter().any(|t| t.name == "decoder.weight"));
    assert_eq!(layer(&model, "turned.weight").0, shape(1, 3, 5, 1, Order::OutIn));
    assert_eq!(layer(&model, "last.weight").0, shape(1, 4, 3, 4, Order::OutIn));
    assert_eq!(layer(&model, "slice.weight").0, shape(1, 3, 4, 1, Order::OutIn));
    assert_eq!(layer(&model, "depthwise.weight").0, shape(6, 1, 1, 9, Order::OutIn));
    assert_eq!(layer(&model, "half.weight").0, shape(1, 2, 3, 1, Order::OutIn));
    assert_eq!(find(&model, "slice.bias").1.role, Role::Small);
    for name in ["count", "best", "optimizer.state.0.exp_avg"] {
        assert_eq!(find(&model, name).1.role, Role::Exact, "{name}");
    }
    assert_eq!(model.summary().layers.len(), 6);
    assert_eq!(model.notes.len(), 1, "{:?}", model.notes);
    // Parts of a storage that no tensor covers come along.
    let flat: usize =
        model.tensors.iter().filter(|t| t.name.starts_with("slice.") || t.name.starts_with("storage ")).map(|t| t.bytes()).sum();
    assert_eq!(flat, 40 * 4);

    let odd = open(sources(&["overlap.pth"])).unwrap();
    assert!(odd.tensors.iter().all(|t| t.role == Role::Exact));
    assert_eq!(odd.tensors.iter().map(|t| t.bytes()).sum::<usize>(), 40 + 64);
    assert_eq!(odd.notes.len(), 2);
}

#[test]
fn pytorch_objects_are_never_loaded() {
    let evil = open(sources(&["evil.pth"])).unwrap();
    assert_eq!(evil.layers().len(), 1);
    assert!(!std::path::Path::new("/tmp/waterfill-was-here").exists());
    let object = refusal(&["object.pth"]);
    assert!(object.contains("torch.nn.modules.container.Sequential") && object.contains("model.state_dict()"), "{object}");
}

#[test]
fn a_layer_with_nan_is_refused_by_name() {
    let bytes = std::fs::read(fixture("mixed.safetensors")).unwrap();
    let model = open_bytes("a.safetensors", bytes.clone());
    for (name, width, pattern) in [("d.weight", 4, f32::NAN.to_le_bytes().to_vec()), ("c.weight", 8, 1e200f64.to_le_bytes().to_vec())] {
        let (index, _) = find(&model, name);
        let data = model.reader.read(index).unwrap();
        let at = bytes.windows(data.len()).position(|w| w == data).unwrap();
        let mut wrong = bytes.clone();
        wrong[at + width..at + 2 * width].copy_from_slice(&pattern);
        let e = open_bytes("a.safetensors", wrong).read_layer(index).unwrap_err().to_string();
        assert!(e.contains(name) && e.contains("1 of its 12 weights"), "{e}");
    }
}

#[test]
fn files_that_are_no_models_are_named() {
    let mut tar = vec![0u8; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(&[u8], &str); 16] = [
        (b"", "empty"),
        (b"\x89TQ\r\n\x1a\n...", "decompress"),
        (b"\x89HDF\r\n\x1a\n....", "HDF5"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x1c\0\0\0TFL3....", "TensorFlow Lite"),
        (b"\x1f\x8b\x08\0....", "gzip"),
        (b"\x28\xb5\x2f\xfd....", "unpack"),
        (&tar, "tar"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"<html><head>", "web page"),
        (b"{\"architectures\": []}", "JSON"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "empty zip"),
        (b"hello world", "not a model file"),
        (&[0; 100], "not a model file"),
    ];
    for (bytes, expected) in cases {
        match open(vec![Rc::new(BytesSource::new("some.file", bytes.to_vec()))]) {
            Ok(_) => panic!("{expected}"),
            Err(e) => {
                let e = e.to_string();
                assert!(e.starts_with("some.file: ") && e.contains(expected) && e.ends_with('.'), "{e}");
            }
        }
    }
    assert!(open(Vec::new()).is_err());
    assert!(PathSource::open("/nowhere/a.onnx").is_err());
    assert!(PathSource::open(env!("CARGO_MANIFEST_DIR")).is_err());
}

#[test]
fn opening_reads_little_of_the_weights() {
    /// Counts the bytes that are read.
    struct Counted(PathSource, std::cell::Cell<u64>);
    impl Source for Counted {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> waterfill::error::Result<()> {
            self.1.set(self.1.get() + buf.len() as u64);
            self.0.read_at(offset, buf)
        }
    }
    let Some(folder) = data() else { return };
    // PyTorch's and NumPy's archives have a header in front of each of many small tensors: a page for each.
    for (file, share) in [("resnet20.safetensors", 20), ("resnet20.onnx", 3), ("resnet20.pth", 2), ("resnet20.npz", 2)] {
        let source = Rc::new(Counted(PathSource::open(folder.join(file)).unwrap(), Default::default()));
        let model = open(vec![source.clone()]).unwrap();
        let read = source.1.get();
        assert!(read < model.file_bytes / share, "{file}: {read} of {} bytes", model.file_bytes);
    }
}

proptest! {
    #[test]
    fn safetensors_roundtrip(shapes in prop::collection::vec((prop::collection::vec(0usize..5, 0..4), 0usize..5), 0..6), note in "[a-z]{0,9}") {
        use safetensors::tensor::{Dtype as Stored, TensorView};
        let types = [(Stored::F16, 2), (Stored::BF16, 2), (Stored::F32, 4), (Stored::F64, 8), (Stored::I64, 8)];
        let data: Vec<Vec<u8>> = shapes.iter().map(|(s, t)| (0..s.iter().product::<usize>() * types[*t].1).map(|i| i as u8).collect()).collect();
        let views = shapes.iter().zip(&data).enumerate().map(|(i, ((s, t), d))| (format!("t{i}"), TensorView::new(types[*t].0, s.clone(), d).unwrap()));
        let bytes = safetensors::serialize(views, Some([("note".to_string(), note)].into())).unwrap();
        let model = open_bytes("a.safetensors", bytes.clone());
        prop_assert_eq!(model.tensors.len(), shapes.len());
        for (i, info) in model.tensors.iter().enumerate() {
            let at: usize = info.name[1..].parse().unwrap();
            prop_assert_eq!(&info.shape, &shapes[at].0);
            prop_assert_eq!(&model.reader.read(i).unwrap(), &data[at]);
        }
        prop_assert_eq!(rebuilt(&model), bytes);
    }

    #[test]
    fn npy_roundtrip(shape in prop::collection::vec(0usize..5, 0..5), fortran in any::<bool>()) {
        let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
        let order = if fortran { "True" } else { "False" };
        let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({dims}), }}\n").replace("(1, )", "(1,)");
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        let elements: usize = shape.iter().product();
        bytes.extend((0..elements).flat_map(|i| (i as f32).to_le_bytes()));
        let model = open_bytes("a.npy", bytes.clone());
        prop_assert_eq!(&model.tensors[0].shape, &shape);
        prop_assert_eq!(rebuilt(&model), bytes);
        // The element at an index, by the definition of the two orders.
        let read = model.reader.read(0).unwrap();
        let values: Vec<f32> = read.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        for (c, value) in values.iter().enumerate() {
            let (mut rest, mut index) = (c, vec![0; shape.len()]);
            for d in (0..shape.len()).rev() {
                index[d] = rest % shape[d];
                rest /= shape[d];
            }
            let first_fastest = (0..shape.len()).rev().fold(0, |at, d| at * shape[d] + index[d]);
            prop_assert_eq!(*value, if fortran { first_fastest } else { c } as f32);
        }
    }
}
