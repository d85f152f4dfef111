//! Weights that nobody has to store: element `i` of the tensor with seed `s` is `centre + amplitude·u(s, i)`, a hash. The same function as
//! `tests/networks/generator.py`, bit for bit. And the arrays of the golden files.
#![allow(dead_code)] // Each test uses its part.

use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

use serde::Deserialize;
use waterfill::{
    error::{Result, bad},
    io::{Dtype, Model, Source, open, source::BytesSource, source::PathSource, tensor::to_f32},
    nn::Tensor,
};

/// Amplitude of generated images, whose variance is then 1.
pub const IMAGE: f32 = 1.73;

/// Uniform in [−1, 1): the upper bits of SplitMix64's output at counter `seed·2³² + i`.
pub fn uniform(seed: u64, i: u64) -> f32 {
    let mut z = ((seed << 32) + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A generated tensor.
pub fn tensor(seed: u64, shape: &[usize], centre: f32, amplitude: f32) -> Tensor {
    let n = shape.iter().product::<usize>() as u64;
    Tensor::new(shape, (0..n).map(|i| centre + amplitude * uniform(seed, i)).collect())
}

/// A stretch of a [`Generated`] file.
#[derive(Debug, Clone)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Generated floats.
    Floats { seed: u64, count: u64, centre: f32, amplitude: f32 },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Floats { count, .. } => 4 * count,
        }
    }

    /// Its bytes from `at` on.
    fn read(&self, at: u64, buf: &mut [u8]) {
        let (seed, centre, amplitude) = match *self {
            Piece::Bytes(ref bytes) => return buf.copy_from_slice(&bytes[at as usize..][..buf.len()]),
            Piece::Floats { seed, centre, amplitude, .. } => (seed, centre, amplitude),
        };
        let value = |i: u64| (centre + amplitude * uniform(seed, i)).to_le_bytes();
        let head = ((4 - at % 4) % 4).min(buf.len() as u64) as usize;
        let (first, rest) = buf.split_at_mut(head);
        first.copy_from_slice(&value(at / 4)[(at % 4) as usize..][..head]);
        let mut next = (at + head as u64) / 4;
        let mut whole = rest.chunks_exact_mut(4);
        for chunk in &mut whole {
            chunk.copy_from_slice(&value(next));
            next += 1;
        }
        let tail = whole.into_remainder();
        tail.copy_from_slice(&value(next)[..tail.len()]);
    }
}

/// A file that is computed where it is read.
#[derive(Debug)]
pub struct Generated {
    name: String,
    /// Offset and content of each piece, rising.
    pieces: Vec<(u64, Piece)>,
    len: u64,
}

impl Generated {
    pub fn new(name: &str, pieces: Vec<Piece>) -> Generated {
        let mut len = 0;
        let place = |piece: Piece| {
            let at = len;
            len += piece.len();
            (at, piece)
        };
        let pieces = pieces.into_iter().map(place).collect();
        Generated { name: name.into(), pieces, len }
    }
}

impl Source for Generated {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(bad(&self.name, "it is read beyond its end", ""));
        }
        let mut done = 0;
        let mut piece = self.pieces.partition_point(|(start, piece)| start + piece.len() <= offset);
        while done < buf.len() {
            let (start, content) = &self.pieces[piece];
            let at = offset + done as u64 - start;
            let n = ((content.len() - at) as usize).min(buf.len() - done);
            content.read(at, &mut buf[done..done + n]);
            done += n;
            piece += 1;
        }
        Ok(())
    }
}

/// A tensor of a state dict: name, shape, and centre and amplitude; those without are integers.
pub type Entry = (String, Vec<usize>, Option<f32>, Option<f32>);

/// How a file is generated.
#[derive(Debug, Deserialize)]
pub struct Manifest<T> {
    /// Seed of the input; tensors have the following ones.
    pub seed: u64,
    /// Shape of the input.
    pub input: Vec<usize>,
    /// Tensors, in the order of the file.
    pub tensors: Vec<T>,
}

impl<T> Manifest<T> {
    /// The input.
    pub fn image(&self) -> Tensor {
        tensor(self.seed, &self.input, 0.0, IMAGE)
    }
}

impl Manifest<(Vec<usize>, f32, f32)> {
    /// The external data of an ONNX file.
    pub fn external_data(&self) -> Generated {
        let piece = |(k, (shape, centre, amplitude)): (usize, &(Vec<usize>, f32, f32))| Piece::Floats {
            seed: self.seed + 1 + k as u64,
            count: shape.iter().product::<usize>() as u64,
            centre: *centre,
            amplitude: *amplitude,
        };
        Generated::new("weights.bin", self.tensors.iter().enumerate().map(piece).collect())
    }
}

impl Manifest<Entry> {
    /// A safetensors file.
    pub fn safetensors(&self, name: &str) -> Generated {
        let mut header = serde_json::Map::new();
        let mut pieces = Vec::new();
        let mut offset = 0;
        for (k, (name, shape, centre, amplitude)) in self.tensors.iter().enumerate() {
            let count = shape.iter().product::<usize>() as u64;
            let (dtype, piece) = match (centre, amplitude) {
                (Some(centre), Some(amplitude)) => {
                    ("F32", Piece::Floats { seed: self.seed + 1 + k as u64, count, centre: *centre, amplitude: *amplitude })
                }
                _ => ("I64", Piece::Bytes(vec![0; 8 * count as usize])),
            };
            let end = offset + piece.len();
            header.insert(name.clone(), serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }));
            offset = end;
            pieces.push(piece);
        }
        let mut text = serde_json::to_vec(&header).unwrap();
        text.resize(text.len().next_multiple_of(8), b' ');
        let head = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
        pieces.insert(0, Piece::Bytes(head));
        Generated::new(name, pieces)
    }
}

/// The arrays of an `.npz` of `tests/networks`.
pub struct Golden {
    model: Model,
    index: BTreeMap<String, usize>,
}

impl Golden {
    pub fn open(name: &str) -> Golden {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "networks", name].iter().collect();
        let model = open(vec![Rc::new(PathSource::open(path).unwrap())]).unwrap();
        let index = model.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Golden { model, index }
    }

    /// Names of the cases: what stands before the first slash.
    pub fn cases(&self) -> Vec<String> {
        let mut cases: Vec<String> = self.index.keys().filter_map(|k| Some(k.split_once('/')?.0.to_owned())).collect();
        cases.dedup();
        cases
    }

    /// Arrays whose names start so, without the start.
    pub fn under<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.index.keys().filter_map(move |k| k.strip_prefix(start))
    }

    pub fn bytes(&self, key: &str) -> Vec<u8> {
        self.model.reader.read(*self.index.get(key).unwrap_or_else(|| panic!("{key} is not there"))).unwrap()
    }

    pub fn tensor(&self, key: &str) -> Tensor {
        let bytes = self.bytes(key);
        let info = &self.model.tensors[self.index[key]];
        assert_eq!(info.dtype, Dtype::F32, "{key}");
        Tensor::new(info.shape.clone(), to_f32(&bytes, Dtype::F32))
    }

    pub fn json<T: for<'a> Deserialize<'a>>(&self, key: &str) -> T {
        serde_json::from_slice(&self.bytes(key)).unwrap()
    }

    /// The ONNX file of a case, with other files that belong to it.
    pub fn model(&self, case: &str, others: Vec<Rc<dyn Source>>) -> Model {
        let mut sources: Vec<Rc<dyn Source>> =
            vec![Rc::new(BytesSource::new(format!("{case}.onnx"), self.bytes(&format!("{case}/graph"))))];
        sources.extend(others);
        open(sources).unwrap_or_else(|e| panic!("{case}: {e}"))
    }
}

/// The folder of test data, if `WATERFILL_DATA` names one.
pub fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("WATERFILL_DATA").map(PathBuf::from);
    match &folder {
        None => eprintln!("left out: WATERFILL_DATA is not set"),
        Some(folder) => assert!(folder.join("resnet20.onnx").is_file(), "WATERFILL_DATA is set, but {folder:?} has no resnet20.onnx"),
    }
    folder
}

/// The first images for calibration, prepared as `resnet20` wants them.
pub fn cifar(folder: &std::path::Path, n: usize) -> Tensor {
    let source = PathSource::open(folder.join("cifar10-calib1000.npz")).unwrap();
    let model = open(vec![Rc::new(source)]).unwrap();
    let index = model.tensors.iter().position(|t| t.name == "images").unwrap();
    let bytes = model.reader.read(index).unwrap();
    let mut x = Tensor::zeros([n, 3, 32, 32]);
    let scale = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];
    for (i, value) in x.data.iter_mut().enumerate() {
        let (image, channel, place) = (i / 3072, i / 1024 % 3, i % 1024);
        let (mean, std) = scale[channel];
        *value = ((f64::from(bytes[image * 3072 + place * 3 + channel]) / 255.0 - mean) / std) as f32;
    }
    x
}

/// `max |a − b|` over the range of `b`.
pub fn error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (least, most) = b.iter().fold((f32::MAX, f32::MIN), |(l, m), &v| (l.min(v), m.max(v)));
    // A value that is no number must not be passed over, as `max` does.
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |w: f32, e| if e.is_nan() { e } else { w.max(e) });
    worst / (most - least)
}

/// `‖a − b‖ / ‖b‖`.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b))) / norm(&mut b.iter().map(|&b| f64::from(b)))
}
