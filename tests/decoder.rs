//! docs/tq.py, a decoder written with numpy from docs/format.md, gives the bits that this crate gives. `cargo xtask test` installs numpy for it
//! and names the folder in `WATERFILL_NUMPY`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{fs, path::Path, process::Command, rc::Rc};

use waterfill::{
    container::{
        TqFile,
        layer::{self, ColumnScales},
    },
    error::Result,
    io::{
        self, Dtype, Format, LayerShape, Model, Order, Role, TensorInfo, TensorReader,
        skeleton::{Piece, Skeleton},
        source::BytesSource,
        source::PathSource,
        tensor::{from_f32, to_f32},
    },
    pipeline::{Session, job::run},
    quantize::{Gains, Scale, trellis::Trellis},
    report::{AllocationSettings, Budget, Coding, CurveSettings, TransformChoice, TransformKind},
    transform::dct,
};

/// Runs the decoder on files; prints nothing but their checksums.
fn decoded(files: &[&Path]) -> Option<Vec<String>> {
    let Some(numpy) = std::env::var_os("WATERFILL_NUMPY") else {
        eprintln!("left out: WATERFILL_NUMPY is not set");
        return None;
    };
    let output = Command::new("python3").arg("docs/tq.py").args(files).env("PYTHONPATH", numpy).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect())
}

/// The CRC-32 over the bytes of all tensors in table order.
fn checksum(tq: &TqFile) -> String {
    let mut crc = crc32fast::Hasher::new();
    (0..tq.tensors.len()).for_each(|index| crc.update(&tq.read(index).unwrap()));
    format!("{:#010x}", crc.finalize())
}

/// Tensors that are computed.
struct Tensors(Vec<Vec<u8>>);

impl TensorReader for Tensors {
    fn read(&self, index: usize) -> Result<Vec<u8>> {
        Ok(self.0[index].clone())
    }
}

/// Layers of these shapes, with weights that are no noise and no constant, up to 3.36 times `most`.
fn model(shapes: &[LayerShape], dtype: Dtype, most: f32) -> Model {
    let tensors: Vec<TensorInfo> = shapes
        .iter()
        .enumerate()
        .map(|(i, layer)| {
            let [outer, inner] = match layer.order {
                Order::OutIn => [layer.outputs, layer.inputs],
                Order::InOut => [layer.inputs, layer.outputs],
            };
            let shape = vec![layer.groups * outer, inner, layer.taps];
            TensorInfo { name: format!("layer{i}"), dtype, shape, role: Role::Layer(*layer) }
        })
        .collect();
    let weight = |i: usize| ((i * i % 97) as f32 - 48.0) * 0.01 * (1.0 + (i % 7) as f32) * most;
    let data: Vec<Vec<u8>> = shapes.iter().map(|s| from_f32(&(0..s.weights()).map(weight).collect::<Vec<_>>(), dtype)).collect();
    Model {
        name: "made-up.safetensors".into(),
        format: Format::Safetensors,
        file_bytes: data.iter().map(|d| d.len() as u64).sum(),
        skeleton: Skeleton::Flat((0..tensors.len()).map(Piece::Tensor).collect()),
        tensors,
        reader: Rc::new(Tensors(data)),
        notes: Vec::new(),
        graph: None,
    }
}

/// Files whose layers have gains, and where they can be scales of columns: grouped, depthwise and dense layers, a single weight, of all codings and trellises. The
/// indices are those of the weights without; what they mean is only the decoders' business.
fn with_columns_and_gains() -> Vec<Vec<u8>> {
    let shape = |groups, outputs, inputs, taps, order| LayerShape { groups, outputs, inputs, taps, columns: taps, order };
    let shapes = [
        shape(1, 8, 5, 9, Order::OutIn),
        shape(2, 6, 4, 3, Order::OutIn),
        shape(2, 3, 4, 9, Order::InOut),
        shape(16, 1, 1, 9, Order::OutIn),
        shape(1, 10, 40, 1, Order::InOut),
        shape(1, 1, 1, 1, Order::OutIn),
        shape(1, 1, 30, 1, Order::OutIn),
    ];
    let mut session = Session::new(model(&shapes, Dtype::F32, 1.0)).unwrap();
    let mut files = Vec::new();
    let cases = [
        (Coding::Fixed, TransformChoice::None, Trellis::None),
        (Coding::Fixed, TransformChoice::KltRow, Trellis::None),
        (Coding::Depths, TransformChoice::IntraKlt, Trellis::None),
        (Coding::Depths, TransformChoice::None, Trellis::None),
        (Coding::Entropy, TransformChoice::None, Trellis::Four),
        (Coding::Entropy, TransformChoice::None, Trellis::Eight),
    ];
    for (case, (coding, transform, trellis)) in cases.into_iter().enumerate() {
        let curves = CurveSettings { coding, blocks: 3, ..Default::default() };
        let found = run(session.curves_job(curves), &mut |_| Ok(())).unwrap();
        session.set_curves(curves, found);
        let settings = AllocationSettings { budget: Budget::Bits(3.0), transform, ..Default::default() };
        let (allocation, _) = session.allocate(&settings).unwrap();
        let mut layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
        for (at, (layer, shape)) in layers.iter_mut().zip(&shapes).enumerate() {
            let body = layer.body.as_mut().unwrap();
            let layer::Read { mut code, coding, indices, .. } = layer::read(body, shape).unwrap();
            let coarseness = ((case + at) % 8) as u8;
            // In fixed lengths eight bits each.
            let most = if coding == layer::Coding::Fixed { (2048 >> coarseness).min(127) } else { 2048 >> coarseness };
            let codes = (0..shape.groups * shape.outputs).map(|c| ((c * c * 37 + at) as i32 % (2 * most + 1) - most) as i16).collect();
            code.gains = Some(Gains { coarseness, codes });
            if coding == layer::Coding::Adaptive && transform == TransformChoice::None {
                let scales = |n: usize, by: usize| (0..n).map(|i| Scale(((i * i + at) * by % 64) as u8)).collect();
                let (channels, taps) = (scales(shape.groups * shape.inputs, 5), scales(shape.taps, 3));
                let kernels = if trellis == Trellis::Four { TransformKind::IntraDct2 } else { TransformKind::IntraDct1 };
                let kernels = if at % 4 < 3 && dct::exists(shape, kernels) { kernels } else { TransformKind::None };
                code.columns = Some(ColumnScales { channels, taps, sorted: trellis != Trellis::Four, kernels });
                code.trellis = trellis;
            }
            *body = layer::encode(&code, coding, &indices);
        }
        let mut file = Vec::new();
        session.write(&layers, &mut file).unwrap();
        files.push(file);
    }
    files
}

/// Files of every type of floats, with weights that come to lie beyond the range of the small one.
fn of_all_types() -> Vec<Vec<u8>> {
    let shape = LayerShape { groups: 1, outputs: 9, inputs: 7, taps: 9, columns: 3, order: Order::OutIn };
    let types = [(Dtype::F16, 65504.0 / 3.36), (Dtype::Bf16, 1.0), (Dtype::F32, 1.0), (Dtype::F64, 1.0)];
    let files = types.map(|(dtype, most)| {
        let mut session = Session::new(model(&[shape], dtype, most)).unwrap();
        let found = run(session.curves_job(CurveSettings::default()), &mut |_| Ok(())).unwrap();
        session.set_curves(CurveSettings::default(), found);
        let settings = AllocationSettings { budget: Budget::Bits(3.0), transform: TransformChoice::KltRow, ..Default::default() };
        let (allocation, _) = session.allocate(&settings).unwrap();
        let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
        let mut file = Vec::new();
        session.write(&layers, &mut file).unwrap();
        let read = TqFile::open(Rc::new(BytesSource::new("made-up.tq", file.clone()))).unwrap().read(0).unwrap();
        assert!(dtype != Dtype::F16 || to_f32(&read, dtype).iter().any(|v| v.abs() == 65504.0), "a weight comes to lie beyond");
        file
    });
    files.into()
}

#[test]
fn numpy_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut paths, mut expected) = (Vec::new(), Vec::new());
    // Both codings; without a transform, with a basis, within kernels, on both sides; dense layers and convolutions.
    let cases = [
        ("resnet-digits", TransformChoice::None, Coding::Depths),
        ("resnet-digits", TransformChoice::KltRow, Coding::Depths),
        ("resnet-digits", TransformChoice::IntraDct2, Coding::Depths),
        ("densenet-digits", TransformChoice::TwoSided, Coding::Depths),
        ("densenet-digits", TransformChoice::KltCol, Coding::Fixed),
        ("alexnet-digits", TransformChoice::IntraKlt, Coding::Depths),
        ("alexnet-digits", TransformChoice::KltRow, Coding::Entropy),
    ];
    for (name, transform, coding) in cases {
        let source = PathSource::open(Path::new(&format!("www/samples/{name}.onnx"))).unwrap();
        let mut session = Session::new(io::open(vec![Rc::new(source)]).unwrap()).unwrap();
        let curves = CurveSettings { coding, ..Default::default() };
        let found = run(session.curves_job(curves), &mut |_| Ok(())).unwrap();
        session.set_curves(curves, found);
        let settings = AllocationSettings { budget: Budget::Bits(3.0), transform, ..Default::default() };
        let (allocation, _) = session.allocate(&settings).unwrap();
        let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
        let mut file = Vec::new();
        session.write(&layers, &mut file).unwrap();
        let path = folder.path().join(format!("{}.tq", paths.len()));
        fs::write(&path, &file).unwrap();
        expected.push(checksum(&TqFile::open(Rc::new(BytesSource::new("written.tq", file))).unwrap()));
        paths.push(path);
    }
    for file in with_columns_and_gains().into_iter().chain(of_all_types()) {
        let path = folder.path().join(format!("{}.tq", paths.len()));
        fs::write(&path, &file).unwrap();
        expected.push(checksum(&TqFile::open(Rc::new(BytesSource::new("made-up.tq", file))).unwrap()));
        paths.push(path);
    }
    // Files of earlier builds.
    for entry in fs::read_dir("tests/golden_file").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "tq") {
            expected.push(checksum(&TqFile::open(Rc::new(PathSource::open(&path).unwrap())).unwrap()));
            paths.push(path);
        }
    }
    let Some(found) = decoded(&paths.iter().map(|p| &**p).collect::<Vec<_>>()) else { return };
    assert_eq!(found, expected);
}
