use std::rc::Rc;

use proptest::prelude::*;

use super::{layer, *};
use crate::{
    io::{
        Dtype, LayerShape, Model, Order, Role, Source, TensorReader,
        skeleton::{Member, Piece, Skeleton},
        source::BytesSource,
    },
    pipeline::{self, Session, job::run, relative_error},
    rate::{
        cost::Cost,
        curve::{self, layer_curves},
    },
    report::{AllocationSettings, Budget, Coding, CurveSettings, TransformChoice, TransformKind},
    testing,
};

struct Tensors(Vec<Vec<u8>>);
impl TensorReader for Tensors {
    fn read(&self, index: usize) -> crate::error::Result<Vec<u8>> {
        Ok(self.0[index].clone())
    }
}

fn noise(n: usize, seed: u64) -> Vec<f32> {
    testing::noise(n, seed).iter().map(|v| v * 0.1).collect()
}

fn bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A model of layers of these shapes, a bias, running statistics that no 16-bit float holds, and integers small and large.
fn model(shapes: &[LayerShape], seed: u64) -> Model {
    let mut tensors = Vec::new();
    let mut data = Vec::new();
    let mut add = |name: String, dtype, shape: Vec<usize>, role, bytes| {
        tensors.push(crate::io::TensorInfo { name, dtype, shape, role });
        data.push(bytes);
    };
    for (i, s) in shapes.iter().enumerate() {
        let shape = match s.order {
            Order::OutIn => vec![s.groups * s.outputs, s.inputs, s.taps],
            Order::InOut => vec![s.groups * s.inputs, s.outputs, s.taps],
        };
        add(format!("layer{i}.weight"), Dtype::F32, shape, Role::Layer(*s), bytes(&noise(s.weights(), seed + i as u64)));
    }
    add("bias".into(), Dtype::F32, vec![10], Role::Small, bytes(&noise(10, 3)));
    add("var".into(), Dtype::F32, vec![2], Role::Small, bytes(&[1e9, 1.0]));
    add("steps".into(), Dtype::Other(8), vec![], Role::Exact, 12345u64.to_le_bytes().to_vec());
    add("table".into(), Dtype::Other(1), vec![100_000], Role::Exact, (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect());
    let pieces = (0..tensors.len()).flat_map(|i| [Piece::Bytes(vec![i as u8; i]), Piece::Tensor(i)]).collect();
    let skeleton = Skeleton::Zip(vec![Member { name: "a/b".into(), deflated: true, pieces }]);
    let file_bytes = data.iter().map(|d| d.len() as u64).sum();
    Model {
        name: "test.npz".into(),
        format: crate::io::Format::Npz,
        file_bytes,
        tensors,
        skeleton,
        reader: Rc::new(Tensors(data)),
        notes: Vec::new(),
        graph: None,
    }
}

fn shapes() -> Vec<LayerShape> {
    let s = |groups, outputs, inputs, taps, order| LayerShape { groups, outputs, inputs, taps, columns: taps, order };
    vec![
        s(1, 8, 3, 9, Order::OutIn),
        s(8, 1, 1, 9, Order::OutIn),
        s(1, 12, 8, 9, Order::InOut),
        s(2, 6, 4, 3, Order::OutIn),
        s(1, 10, 40, 1, Order::InOut),
        s(1, 1, 1, 1, Order::OutIn),
        s(1, 300, 2, 1, Order::OutIn),
    ]
}

fn compress(model: Model, settings: &AllocationSettings, blocks: usize) -> (Session, Vec<u8>, Vec<f64>) {
    coded(model, settings, CurveSettings { blocks, ..Default::default() })
}

fn coded(model: Model, settings: &AllocationSettings, curve_settings: CurveSettings) -> (Session, Vec<u8>, Vec<f64>) {
    let mut session = Session::new(model).unwrap();
    let curves = run(session.curves_job(curve_settings), &mut |_| Ok(())).unwrap();
    session.set_curves(curve_settings, curves);
    let (allocation, mut report) = session.allocate(settings).unwrap();
    let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
    if curve_settings.coding != Coding::Fixed {
        report.bytes = session.encoded_report(&allocation, settings, &layers).bytes;
    }
    let mut file = Vec::new();
    let written = session.write(&layers, &mut file).unwrap();
    assert_eq!((written, file.len() as u64), (report.bytes, report.bytes), "the size shown is the size of the file");
    for (row, layer) in report.layers.iter().zip(&layers) {
        // Errors of a basis are foreseen on average: those of a few numbers scatter.
        let scatter = 0.12 + 0.5 / (row.weights.max(1) as f64).sqrt();
        assert!(
            (layer.error - row.error).abs() <= scatter * row.error + 1e-3,
            "{}: predicted {} measured {}",
            row.name,
            row.error,
            layer.error
        );
    }
    (session, file, layers.iter().map(|l| l.error).collect())
}

fn open(file: &[u8]) -> crate::error::Result<TqFile> {
    TqFile::open(Rc::new(BytesSource::new("test.tq", file.to_vec())))
}

#[test]
fn everything_comes_back() {
    let all: Vec<_> = TransformChoice::ALL.into_iter().filter(|t| !t.needs_calibration()).collect();
    for (transform, rate) in all.iter().flat_map(|t| [1.0, 3.0, 7.0].map(|r| (*t, r))) {
        let settings = AllocationSettings { budget: Budget::Bits(rate), transform, excludes: vec![2], ..Default::default() };
        let (session, file, errors) = compress(model(&shapes(), 1), &settings, 8);
        let tq = open(&file).unwrap();
        assert_eq!(
            (&tq.tensors, &tq.skeleton, tq.original_bytes),
            (&session.model.tensors, &session.model.skeleton, session.model.file_bytes)
        );
        for (i, info) in tq.tensors.iter().enumerate() {
            let (back, original) = (tq.read(i).unwrap(), session.model.reader.read(i).unwrap());
            let floats = |b: &[u8]| crate::io::tensor::to_f32(b, Dtype::F32);
            match info.role {
                Role::Layer(_) => {
                    let error = relative_error(&floats(&original), &floats(&back));
                    assert!((error - errors[i]).abs() < 1e-6, "{}: {error} where {} was reported", info.name, errors[i]);
                    assert!(i != 2 || back == original, "an excluded layer is kept bit for bit");
                }
                Role::Small if info.name == "bias" => assert!(relative_error(&floats(&original), &floats(&back)) < 1e-6),
                _ => assert_eq!(back, original, "{}", info.name),
            }
        }
        let decoded = run(pipeline::decode_job(&tq), &mut |_| Ok(())).unwrap();
        assert!((0..decoded.len()).all(|i| decoded[i] == tq.read(i).unwrap()));
        let (summary, allocation) = pipeline::describe(&tq).unwrap();
        assert_eq!(summary.layers.len(), shapes().len());
        let allocated = session.allocate(&settings).unwrap().1;
        assert_eq!((allocation.rate, allocation.bytes), (allocated.rate, allocated.bytes), "the file says what was allocated");
    }
}

/// Adaptively coded, a layer decodes to the bits that it decodes to in fixed lengths, for every transform and every kind of shape. (Of uniform
/// noise all indices are nearly as likely: there is nothing to save, and little to lose.)
#[test]
fn small_tensors_may_have_other_values() {
    let (session, file, _) = compress(model(&shapes(), 1), &AllocationSettings::default(), 8);
    let (allocation, report) = session.allocate(&AllocationSettings::default()).unwrap();
    let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
    let (bias, var, steps) = (shapes().len(), shapes().len() + 1, shapes().len() + 2);
    let written = |session: &Session| {
        let mut file = Vec::new();
        session.write(&layers, &mut file).unwrap();
        file
    };
    let read = |file: &[u8], index: usize| tensor::to_f32(&open(file).unwrap().read(index).unwrap(), Dtype::F32);
    let (new, exact) = (noise(10, 99), [3e9, 0.25]);
    let changed = session.with_small(&[(var, exact.to_vec()), (bias, new.clone())]).unwrap();
    let other = written(&changed);
    assert_eq!(other.len(), file.len());
    // 16-bit floats, and those that were none.
    assert_eq!(read(&other, bias), Head::new(&session.model, &[]).unwrap().kept(&session.model.tensors[bias], bias, &new));
    assert!(read(&other, bias).iter().zip(&new).all(|(a, b)| a != b && (a - b).abs() < 1e-4));
    assert_eq!(read(&other, var), exact);
    assert_eq!(read(&other, 0), read(&file, 0));
    // Values that have no room in 16 bits: four bytes each, and the size that is told is that of the file.
    let large: Vec<f32> = new.iter().map(|v| v * 1e9).collect();
    let longer = changed.with_small(&[(bias, large.clone())]).unwrap();
    let grown = written(&longer);
    assert_eq!((read(&grown, bias), read(&grown, var)), (large, vec![1e9, 1.0]));
    assert_eq!(longer.encoded_report(&allocation, &AllocationSettings::default(), &layers).bytes, grown.len() as u64);
    assert!(grown.len() as u64 > report.bytes);
    // Values that would fit 16 bits, where the model's did not.
    assert_eq!(written(&session.with_small(&[(var, vec![1.0, 2.0])]).unwrap()).len(), file.len());

    let refusal = |index: usize, values: usize| session.with_small(&[(index, vec![0.0; values])]).err().unwrap().to_string();
    assert_eq!(refusal(bias, 9), format!("Tensor {bias} `bias` does not take 9 other values."));
    assert_eq!(refusal(steps, 1), format!("Tensor {steps} `steps` does not take 1 other values."));
    assert_eq!(refusal(0, 216), "Tensor 0 `layer0.weight` does not take 216 other values.");
    assert_eq!(refusal(100, 1), "Tensor 100 `` does not take 1 other values.");
}

#[test]
fn both_codings_hold_the_same_weights() {
    for transform in TransformChoice::ALL.into_iter().filter(|t| !t.needs_calibration()) {
        let settings = AllocationSettings { budget: Budget::Bits(4.0), transform, ..Default::default() };
        let files = [Coding::Fixed, Coding::Depths]
            .map(|coding| coded(model(&shapes(), 1), &settings, CurveSettings { coding, ..Default::default() }).1);
        let [fixed, adaptive] = files.map(|file| open(&file).unwrap());
        let [short, long] = [&adaptive, &fixed].map(|f| f.file_bytes() as f64);
        assert!(short < 1.02 * long, "{transform:?}: {short} bytes, {long} in fixed lengths");
        for i in 0..fixed.tensors.len() {
            assert_eq!(fixed.read(i).unwrap(), adaptive.read(i).unwrap(), "{transform:?} {}", fixed.tensors[i].name);
        }
        let [shown, described] = [&fixed, &adaptive].map(|tq| pipeline::describe(tq).unwrap().1);
        assert_eq!(described.bytes, adaptive.file_bytes());
        for (a, b) in shown.layers.iter().zip(&described.layers) {
            assert_eq!((a.transform, a.excluded), (b.transform, b.excluded));
            assert!(b.depths.is_empty() && b.basis_bytes <= b.bytes);
        }
    }
}

#[test]
fn damage_is_named_and_never_panics() {
    Coding::ALL.into_iter().for_each(damage_is_named);
}

fn damage_is_named(coding: Coding) {
    let (_, file, _) = coded(model(&shapes()[..5], 1), &AllocationSettings::default(), CurveSettings { coding, ..Default::default() });
    let read_all = |file: &[u8]| -> crate::error::Result<()> {
        let tq = open(file)?;
        (0..tq.tensors.len()).try_for_each(|i| tq.read(i).map(drop))
    };
    read_all(&file).unwrap();
    for cut in (0..file.len()).step_by(7) {
        let error = read_all(&file[..cut]).expect_err("a cut file is an error").to_string();
        assert!(error.starts_with("test.tq"), "{error}");
    }
    for at in (0..file.len()).step_by(3) {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let result = read_all(&damaged);
        // Every byte but those of the magic's version is under a checksum or a check of its own.
        assert!(result.is_err(), "byte {at} is not protected");
    }
    let mut newer = file.clone();
    newer[7] = 9;
    assert!(read_all(&newer).unwrap_err().to_string().contains("version 9"));
}

/// Of a damaged file every tensor comes back whole but those that the damage is in, whatever is damaged behind table, skeleton and pool: bodies,
/// frames, the end; one layer, or two that are neighbours; and a file that is cut, or that lost some bytes.
#[test]
fn what_is_whole_of_a_damaged_file_is_recovered() {
    let (_, file, _) = compress(model(&shapes()[..6], 1), &AllocationSettings::default(), 8);
    let whole = open(&file).unwrap();
    let tensors: Vec<Vec<u8>> = (0..whole.tensors.len()).map(|i| whole.read(i).unwrap()).collect();
    let sections: Vec<(usize, usize)> = frames::scan(&BytesSource::new("test.tq", file.clone()))
        .unwrap()
        .iter()
        .map(|(_, at, len)| (*at as usize - 5, (at + len + 4) as usize))
        .collect();
    // Position of a tensor's own section, if it has one; the first three hold other things.
    let mut next = 3..;
    let of_tensor: Vec<Option<usize>> =
        whole.tensors.iter().map(|t| if matches!(t.role, Role::Layer(_)) || t.name == "table" { next.next() } else { None }).collect();
    assert_eq!(next.start, sections.len());
    let recovered = |damaged: Vec<u8>, lost: &[usize], what: &str| {
        let tq = TqFile::recover(Rc::new(BytesSource::new("test.tq", damaged))).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (i, tensor) in tensors.iter().enumerate() {
            match of_tensor[i].is_some_and(|section| lost.contains(&section)) {
                true => {
                    let error = tq.read(i).expect_err(what).to_string();
                    assert!(error.contains(&format!("`{}`", whole.tensors[i].name)), "{what}: {error}");
                }
                false => assert!(tq.read(i).is_ok_and(|bytes| bytes == *tensor), "{what}: {} is lost too", whole.tensors[i].name),
            }
        }
    };
    recovered(file.clone(), &[], "nothing");
    for (section, &(from, to)) in sections.iter().enumerate().skip(3) {
        for at in [from, from + 1, from + 3, from + 4, from + 5, (from + to) / 2, to - 1] {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            recovered(damaged, &[section], &format!("byte {at} of section {section}"));
        }
        recovered([&file[..from + 7], &file[from + 9..]].concat(), &[section], &format!("two bytes less in section {section}"));
        recovered(file[..to - 1].to_vec(), &(section..sections.len()).collect::<Vec<_>>(), &format!("cut in section {section}"));
        if section + 1 < sections.len() {
            let mut damaged = file.clone();
            damaged[to - 10..to + 10].fill(0xaa);
            recovered(damaged, &[section, section + 1], &format!("sections {section} and the next"));
        }
    }
    let mut end = file.clone();
    *end.last_mut().unwrap() ^= 1;
    recovered(end, &[], "the end");
    // Far apart: two gaps of one section each.
    let mut damaged = file.clone();
    damaged[sections[3].0] ^= 1;
    damaged[sections[6].0 + 1] ^= 0x40;
    recovered(damaged, &[3, 6], "two frames");
    // Without a table there is nothing.
    let mut damaged = file;
    damaged[sections[0].0 + 20] ^= 1;
    assert!(TqFile::recover(Rc::new(BytesSource::new("test.tq", damaged))).is_err());
}

/// Counts the bytes that are read.
struct Counting(BytesSource, std::cell::Cell<u64>);

impl Source for Counting {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> crate::error::Result<()> {
        self.1.set(self.1.get() + into.len() as u64);
        self.0.read_at(offset, into)
    }
}

/// Looking for sections reads a file some times over, whatever is in it.
#[test]
fn recovery_ends() {
    let (_, file, _) = compress(model(&shapes()[..1], 1), &AllocationSettings::default(), 8);
    let frame = |kind: Kind| {
        let (start, crc) = frame(kind, &[]);
        [&start[..], &crc].concat()
    };
    // Frames that claim much of what follows, everywhere; whole sections of nothing with a byte between them.
    let claims = [b'L', 0, 0, 1, 0].repeat(60_000);
    let gaps = [frame(Kind::Exact), vec![0]].concat().repeat(30_000);
    for file in [[&file[..], &claims].concat(), [&file[..file.len() - 20], &claims].concat(), [&file[..8], &gaps].concat()] {
        let source = Counting(BytesSource::new("test.tq", file), Default::default());
        frames::recover(&source).unwrap();
        assert!(source.1.get() < 128 * source.len(), "{} bytes read of {}", source.1.get(), source.len());
    }
}

/// A file may not be told to repeat a tensor without end.
#[test]
fn a_tensor_stands_once_in_the_skeleton() {
    let mut model = model(&shapes()[..1], 1);
    model.skeleton = Skeleton::Flat(vec![Piece::Tensor(0), Piece::Tensor(0)]);
    let (_, file, _) = compress(model, &AllocationSettings::default(), 8);
    assert!(open(&file).err().is_some_and(|e| e.to_string().contains("its skeleton does not fit its layout")));
}

/// Side information is of channels and taps: a file may not claim more of those than of weights, though a layer without weights has room for any number.
#[test]
fn channels_without_weights_are_limited() {
    use std::io::Write;
    let claim = |[outputs, inputs, taps]: [usize; 3], body: &[u8]| {
        let shape = LayerShape { groups: 1, outputs, inputs, taps, columns: 0, order: Order::OutIn };
        let info = crate::io::TensorInfo { name: "w".into(), dtype: Dtype::F32, shape: vec![0], role: Role::Layer(shape) };
        let tensors = vec![Entry { info, place: Place::Section, fold: None }];
        let (name, format) = ("a.npz".into(), Format::Npz);
        let meta = Meta { name, format, original_bytes: 0, tensors, skeleton: Layout::Flat(vec![Part::Tensor(0)]) };
        let deflated = |bytes: &[u8]| {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            [&(bytes.len() as u64).to_le_bytes()[..], &encoder.finish().unwrap()].concat()
        };
        let sections = [
            (Kind::Meta, deflated(&serde_json::to_vec(&meta).unwrap())),
            (Kind::Skeleton, deflated(&[])),
            (Kind::Pool, vec![]),
            (Kind::Layer, body.to_vec()),
            (Kind::End, 4u32.to_le_bytes().to_vec()),
        ];
        let mut file = [&MAGIC[..], &[VERSION]].concat();
        for (kind, body) in sections {
            let (start, crc) = frame(kind, &body);
            file.extend([&start[..], &body, &crc].concat());
        }
        open(&file).and_then(|tq| tq.read(0))
    };
    // Adaptively coded, scales of columns and gains: all zeros.
    let body = [0xc0, 1, 0];
    for sides in [[0, 3, 2], [3, 0, 2], [3, 2, 0]] {
        // The first number of those that are read may be none of a scale; how many there are is believed.
        assert!(claim(sides, &body).is_ok_and(|w| w.is_empty()) || claim(sides, &body).unwrap_err().to_string().contains("out of range"));
    }
    for sides in [[1 << 40, 0, 1], [0, 1 << 40, 1], [0, 1, 1 << 40], [1 << 40, 1, 0], [0, 1 << 27, 1]] {
        let error = claim(sides, &body).unwrap_err().to_string();
        assert!(error.contains("too large") || error.contains("it claims"), "{error}");
    }
}

/// With a right checksum but a wrong body the errors come from the layer decoder.
#[test]
fn forged_layer_bodies_are_refused() {
    let shape = shapes()[0];
    let (_, file, _) = compress(model(&[shape], 1), &AllocationSettings::default(), 8);
    let tq = open(&file).unwrap();
    let Body::Layer(body) = tq.body(0).unwrap() else { panic!("layer 0 is quantized") };
    layer::decode(&body, &shape).unwrap();
    for at in 0..body.len().min(40) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut forged = body.clone();
            forged[at] = value;
            // A step or scale may be any byte; whatever it is, decoding ends with the right number of weights.
            if let Ok(weights) = layer::decode(&forged, &shape) {
                assert_eq!(weights.len(), shape.weights());
            }
        }
    }
    assert!(layer::decode(&body[..body.len() - 1], &shape).is_err());
    assert!(layer::decode(&[&body[..], &[0]].concat(), &shape).is_err());
    assert!(layer::decode(&[], &shape).is_err());
}

/// A layer of noise under one transform, all rows at 6 bits; nothing where it does not exist.
fn body_under(kind: TransformKind, shape: &LayerShape, coding: layer::Coding) -> Option<Vec<u8>> {
    let mut weights = testing::noise(shape.weights(), 7);
    let curves = layer_curves(shape, weights.clone(), CurveSettings { blocks: 3, ..Default::default() }, &Cost::Weights);
    let candidate = curves.candidates.iter().find(|c| c.kind == kind)?;
    let exponent = crate::quantize::normalize(&mut weights);
    let blocks: Vec<_> = candidate.blocks.iter().map(|b| b.at_locked(0.0, 6)).collect();
    let code = pipeline::layer_code(candidate, shape, &blocks, exponent, false);
    let coefficients = curve::coefficients(candidate, &code, &Cost::Weights, shape, &weights);
    let basis = candidate.basis.as_ref();
    let second = basis.and_then(|b| b.second.as_ref());
    let indices = code.indices(&coefficients, basis.map_or(&[][..], |b| &b.rows), second.map_or(&[][..], |v| &v.rows));
    let body = layer::encode(&code, coding, &indices);
    let read = layer::read(&body, shape).unwrap();
    assert_eq!((read.coding, &read.indices), (coding, &indices), "{kind:?}");
    if coding == layer::Coding::Adaptive {
        // One path for counting and writing: the same bits, to within those that fill the last byte.
        let (counted, written) = (layer::count(&code, &indices), 8.0 * body.len() as f64);
        assert!((written - counted).abs() < 0.005 * counted + 16.0, "{kind:?}: {counted} counted, {written} written");
    }
    Some(body)
}

/// Bodies under every transform that needs no calibration: what is wrong in one is said or decodes to the right number of weights, and never
/// panics. A body of a KLT within kernels says the same as one of an ELT.
#[test]
fn forged_bodies_of_all_transforms_are_refused() {
    let shapes = [
        LayerShape { groups: 1, outputs: 6, inputs: 4, taps: 9, columns: 9, order: Order::OutIn },
        LayerShape { groups: 1, outputs: 2, inputs: 9, taps: 3, columns: 3, order: Order::InOut },
    ];
    let uncalibrated = |k: &TransformKind| !matches!(k, TransformKind::EltRow | TransformKind::EltCol | TransformKind::IntraElt);
    let kinds: Vec<TransformKind> = TransformKind::ALL.into_iter().filter(uncalibrated).collect();
    let codings = [layer::Coding::Fixed, layer::Coding::Adaptive];
    for (shape, &kind, coding) in shapes.iter().flat_map(|s| kinds.iter().flat_map(move |k| codings.map(|c| (s, k, c)))) {
        // The allocation takes a transform only where it pays: here every one has to be seen.
        let Some(body) = body_under(kind, shape, coding) else {
            assert!(crate::transform::Geometry::new(shape, kind).is_none());
            continue;
        };
        let layer::Read { code, .. } = layer::read(&body, shape).unwrap();
        assert_eq!(code.kind, kind);
        let weights = layer::decode(&body, shape).unwrap();
        for (at, value) in (0..body.len().min(40)).flat_map(|at| [0, 1, 5, 9, 0x7f, 0x80, 0xff].map(|v| (at, v))) {
            let mut forged = body.clone();
            forged[at] = value;
            assert!(layer::decode(&forged, shape).is_ok_and(|w| w.len() == shape.weights()) || layer::decode(&forged, shape).is_err());
        }
        for first in 0..=0xffu8 {
            let mut forged = body.clone();
            forged[0] = first;
            let decoded = layer::decode(&forged, shape);
            assert!(decoded.is_err() || decoded.unwrap().len() == shape.weights());
        }
        if code.kind == TransformKind::IntraKlt {
            let mut elt = body.clone();
            elt[0] += 1;
            assert_eq!(layer::read(&elt, shape).unwrap().code.kind, TransformKind::IntraElt);
            assert_eq!(layer::decode(&elt, shape).unwrap(), weights);
        }
        // Shapes that the transform does not exist for.
        let one = LayerShape { groups: shape.weights(), outputs: 1, inputs: 1, taps: 1, columns: 1, order: Order::OutIn };
        assert!(code.kind == TransformKind::None || layer::decode(&body, &one).unwrap_err().contains("does not exist for its shape"));
        let unknown = LayerShape { columns: 0, ..*shape };
        let cosine = code.kind != TransformKind::None && !code.kind.stores_basis();
        assert_eq!(layer::decode(&body, &unknown).is_err(), cosine, "{:?}", code.kind);
        if let (Some(second), layer::Coding::Fixed) = (code.second, coding) {
            // Its depth comes after the block table.
            let at = 5 + 4 * code.blocks.len();
            assert_eq!(body[at..at + 2], [second.depth, second.step.0]);
            let mut forged = body.clone();
            forged[at] = 15;
            assert!(layer::decode(&forged, shape).unwrap_err().contains("second basis"));
        }
    }
}

/// A known answer: the decoder's arithmetic must not change, or files change their meaning.
#[test]
fn decoder_golden() {
    let shape = LayerShape { groups: 1, outputs: 3, inputs: 2, taps: 1, columns: 1, order: Order::OutIn };
    let code = layer::LayerCode {
        kind: crate::report::TransformKind::KltCol,
        geometry: crate::transform::Geometry::new(&shape, crate::report::TransformKind::KltCol).unwrap(),
        period: 1,
        exponent: -1,
        block_of_row: vec![0, 1],
        scales: Some(vec![crate::quantize::Scale(0), crate::quantize::Scale(5)]),
        columns: None,
        gains: None,
        blocks: vec![
            layer::BlockCode { depth: 4, step: crate::quantize::Step(170), basis_depth: 5, basis_step: crate::quantize::Step(161) },
            layer::BlockCode { depth: 3, step: crate::quantize::Step(175), basis_depth: 4, basis_step: crate::quantize::Step(166) },
        ],
        second: None,
        folded: false,
        trellis: crate::quantize::trellis::Trellis::None,
    };
    let indices = code.indices(&[0.9, -0.6, 0.2, 0.1], &[0.8, 0.6, 0.0, -0.6, 0.8, 0.1], &[]);
    let known: [(layer::Coding, &[u8]); 2] = [
        (layer::Coding::Fixed, &[18, 0, 255, 255, 1, 4, 170, 5, 161, 3, 175, 4, 166, 64, 193, 51, 116, 146, 79, 23]),
        (layer::Coding::Adaptive, &[18, 1, 110, 43, 25, 146, 161, 150, 128, 203, 180, 0, 97, 18, 80, 5, 1, 255, 255]),
    ];
    // Written by an encoder that left one low bit more raw in each row: what decodes once decodes for ever.
    let earlier = [18, 1, 110, 43, 25, 147, 107, 209, 108, 152, 8, 133, 102, 4, 85, 5, 1, 255, 255];
    assert_eq!(layer::read(&earlier, &shape).unwrap().indices, indices);
    for (coding, bytes) in known {
        let body = layer::encode(&code, coding, &indices);
        assert_eq!(body, bytes, "what is written changed");
        let bits: Vec<u32> = layer::decode(&body, &shape).unwrap().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [1050386153, 3196849925, 1051745988, 3189141234, 1009123031, 1000734423], "decoded bits changed");
    }
    assert_eq!(layer::read(&layer::encode(&code, layer::Coding::Fixed, &indices), &shape).unwrap().code, code);
}

/// With a trellis a layer decodes to what its levels are without one; a kind of trellis that there is not is said.
#[test]
fn trellises_decode_to_levels() {
    use crate::quantize::trellis::{Trellis, Walk};
    let shape = LayerShape { groups: 1, outputs: 6, inputs: 5, taps: 9, columns: 3, order: Order::OutIn };
    let body = body_under(TransformKind::None, &shape, layer::Coding::Adaptive).unwrap();
    let layer::Read { code, indices, .. } = layer::read(&body, &shape).unwrap();
    for trellis in [Trellis::Four, Trellis::Eight] {
        let coded = layer::LayerCode { trellis, ..code.clone() };
        let body = layer::encode(&coded, layer::Coding::Adaptive, &indices);
        let read = layer::read(&body, &shape).unwrap();
        assert_eq!((read.code.trellis, &read.indices), (trellis, &indices));
        let mut walk = Walk::new(trellis);
        // All rows are used, in order.
        let levels = indices.coefficients.iter().map(|&index| walk.pass(index)).collect();
        let levels = layer::Indices { coefficients: levels, ..indices.clone() };
        assert_ne!(levels, indices);
        assert_eq!(layer::decode(&body, &shape).unwrap(), layer::reconstruct(&code, &levels, &shape));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_layer(groups in 1usize..4, n in 1usize..20, m in 1usize..20, k in 1usize..10, out_in in any::<bool>(), blocks in 1usize..300, rate in 0.1f64..11.0, seed in 0u64..1000) {
        let order = if out_in { Order::OutIn } else { Order::InOut };
        let s = LayerShape { groups, outputs: n, inputs: m, taps: k, columns: k, order };
        let (_, file, _) = compress(model(&[s], seed), &AllocationSettings { budget: Budget::Bits(rate), ..Default::default() }, blocks);
        let tq = open(&file).unwrap();
        prop_assert_eq!(tq.read(0).unwrap().len(), 4 * s.weights());
    }
}
