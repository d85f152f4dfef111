//! Images of one size, one after the other: NumPy arrays, CIFAR-10 batches, MNIST's IDX files.

use std::{io::Read, rc::Rc};

use flate2::read::MultiGzDecoder;

use super::{Dataset, Encoded, Entry, Image, Images, Pixels, dataset, for_tests};
use crate::{
    error::{FETCH_AGAIN, Result, bad},
    io::{
        Dtype, Source,
        npy::Kind,
        source::{Cached, Cursor, read_vec},
        tensor,
    },
    limits,
};

/// Type of the values of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub kind: Kind,
    pub bytes: usize,
}

impl Element {
    pub const U8: Element = Element { kind: Kind::Uint, bytes: 1 };

    /// Whether these are numbers that can be read.
    pub fn is_number(self) -> bool {
        match self.kind {
            Kind::Float => matches!(self.bytes, 2 | 4 | 8),
            Kind::Int | Kind::Uint => matches!(self.bytes, 1 | 2 | 4 | 8),
            Kind::Other => false,
        }
    }

    /// The numbers, in `f64`.
    pub fn numbers(self, bytes: &[u8]) -> Vec<f64> {
        let signed = self.kind == Kind::Int;
        match (self.kind, self.bytes) {
            // An f64 must not be rounded to f32: a label may be large.
            (Kind::Float, 8) => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            (Kind::Float, n) => {
                let dtype = if n == 2 { Dtype::F16 } else { Dtype::F32 };
                tensor::to_f32(bytes, dtype).into_iter().map(f64::from).collect()
            }
            (_, n) => {
                let number = |b: &[u8]| {
                    let mut wide = [if signed && b[n - 1] >= 0x80 { 0xff } else { 0 }; 8];
                    wide[..n].copy_from_slice(b);
                    if signed { i64::from_le_bytes(wide) as f64 } else { u64::from_le_bytes(wide) as f64 }
                };
                bytes.chunks_exact(n).map(number).collect()
            }
        }
    }

    fn pixels(self, bytes: Vec<u8>) -> Pixels {
        match (self.kind, self.bytes) {
            (Kind::Uint, 1) => Pixels::U8(bytes),
            (Kind::Float, 4) => Pixels::F32(tensor::to_f32(&bytes, Dtype::F32)),
            _ => Pixels::F32(self.numbers(&bytes).into_iter().map(|v| v as f32).collect()),
        }
    }
}

/// Images of one size, `stride` bytes apart.
pub(super) struct Records {
    /// Files, each with the offset of its first image and their number.
    pub parts: Vec<(Rc<dyn Source>, u64, usize)>,
    /// Bytes from one image to the next.
    pub stride: u64,
    /// Height, width, channels.
    pub size: [usize; 3],
    /// Whether channels are planes, one after the other.
    pub planar: bool,
    pub element: Element,
}

impl Images for Records {
    fn len(&self) -> usize {
        self.parts.iter().map(|p| p.2).sum()
    }

    fn read(&self, index: usize) -> Result<Encoded> {
        let mut at = index;
        let [height, width, channels] = self.size;
        let bytes = height * width * channels * self.element.bytes;
        for (source, offset, count) in &self.parts {
            if at < *count {
                let bytes = read_vec(&**source, offset + at as u64 * self.stride, bytes as u64)?;
                let bytes = if self.planar { interleave(&bytes, channels, self.element.bytes) } else { bytes };
                let image = Image { height, width, channels, pixels: self.element.pixels(bytes) };
                return Ok(Encoded::Image { name: self.name(index), image });
            }
            at -= count;
        }
        Err(bad("the dataset", format!("it has no image {}", index + 1), FETCH_AGAIN))
    }

    fn name(&self, index: usize) -> String {
        format!("image {}", index + 1)
    }
}

impl Records {
    pub fn dataset(self, name: &str, format: &str) -> Dataset {
        let size = self.size;
        dataset(name, format, Rc::new(self), size)
    }
}

/// From planes to channels fastest; elements of `size` bytes.
fn interleave(planes: &[u8], channels: usize, size: usize) -> Vec<u8> {
    let plane = planes.len() / channels.max(1);
    let mut out = Vec::with_capacity(planes.len());
    for at in (0..plane).step_by(size.max(1)) {
        (0..channels).for_each(|c| out.extend_from_slice(&planes[c * plane + at..c * plane + at + size]));
    }
    out
}

/// Inflates a gzip file that is an IDX file, no further than that says.
pub(super) fn gunzip(source: &dyn Source) -> Result<Vec<u8>> {
    let name = source.name();
    let no_idx = || bad(name, "it is a gzip file, but not one of MNIST's", "unpack it first");
    let damaged = |e| bad(name, format!("it cannot be inflated ({e})"), FETCH_AGAIN);
    let mut head = Vec::new();
    let start = read_vec(source, 0, source.len().min(1 << 12))?;
    // Cut short, this ends in an error; what came before counts.
    let _ = MultiGzDecoder::new(&start[..]).take(20).read_to_end(&mut head);
    let size = idx_bytes(&head).ok_or_else(no_idx)?;
    if size > limits::INFLATED || size / limits::INFLATION > source.len() {
        return Err(bad(name, format!("it claims to inflate to {size} bytes"), FETCH_AGAIN));
    }
    let bytes = read_vec(source, 0, source.len().min(size + (size >> 3) + 4096))?;
    let mut out = Vec::new();
    MultiGzDecoder::new(&bytes[..]).take(size + 1).read_to_end(&mut out).map_err(damaged)?;
    if out.len() as u64 != size {
        let reason = format!("it inflates to {} bytes, but claims {size}", out.len());
        return Err(bad(name, reason, FETCH_AGAIN));
    }
    Ok(out)
}

/// Whether this is the start of an IDX file of `len` bytes: two zeros, type, dimensions, and just as many bytes as they need.
pub(super) fn is_idx(head: &[u8], len: u64) -> bool {
    idx_bytes(head) == Some(len)
}

/// Bytes of the IDX file that starts like this.
fn idx_bytes(head: &[u8]) -> Option<u64> {
    let (kind, shape) = shape(head)?;
    let size = match kind {
        8 | 9 => 1u64,
        0x0b => 2,
        0x0c | 0x0d => 4,
        _ => 8,
    };
    let bytes = shape.iter().try_fold(size, |n, &d| n.checked_mul(d))?;
    bytes.checked_add(4 + 4 * shape.len() as u64)
}

/// Type and dimensions of an IDX file.
fn shape(head: &[u8]) -> Option<(u8, Vec<u64>)> {
    let [0, 0, kind @ (8 | 9 | 0x0b..=0x0e), dims @ 1..=4, rest @ ..] = head else { return None };
    let dims = rest.get(..4 * usize::from(*dims))?;
    Some((*kind, dims.as_chunks().0.iter().map(|&d| u64::from(u32::from_be_bytes(d))).collect()))
}

/// MNIST's files: images (three dimensions) with their labels (one dimension).
pub(super) fn idx(name: &str, entries: Vec<Entry>) -> Result<Dataset> {
    struct File {
        entry: Entry,
        kind: u8,
        shape: Vec<u64>,
    }
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for entry in entries {
        let head = read_vec(&*entry.source, 0, entry.source.len().min(20))?;
        let Some((kind, shape)) = shape(&head) else { continue };
        let list = if shape.len() == 1 { &mut labels } else { &mut images };
        list.push(File { entry, kind, shape });
    }
    let mut notes = Vec::new();
    if images.len() > 1 && images.iter().filter(|f| for_tests(&f.entry.path)).count() == 1 {
        notes.extend(
            images.extract_if(.., |f| !for_tests(&f.entry.path)).map(|f| format!("{} is not used: it is not for tests.", f.entry.path)),
        );
    }
    let file = match &images[..] {
        [file] => file,
        [] => return Err(bad(name, "these are labels without images", "open the file with the images (idx3) too")),
        [a, b, ..] => {
            let reason = format!("{} and {} both hold images", a.entry.path, b.entry.path);
            return Err(bad(name, reason, "open one of them, with its labels"));
        }
    };
    let source = file.entry.source.clone();
    let unsupported = |file: &File| {
        let reason = format!("its numbers are of type {:#04x}, not bytes", file.kind);
        Err(bad(file.entry.source.name(), reason, "save the data as an .npz"))
    };
    if file.kind != 8 {
        return unsupported(file);
    }
    let [count, height, width, ref channels @ ..] = file.shape[..] else {
        return Err(bad(source.name(), format!("its dimensions are {:?}", file.shape), "open the file with the images (idx3)"));
    };
    let channels = channels.first().copied().unwrap_or(1);
    let size = [height, width, channels].map(|d| d as usize);
    let count = checked_count(source.name(), count, size)?;
    let start = 4 + 4 * file.shape.len() as u64;
    let records = Records {
        parts: vec![(Rc::new(Cached::new(source)), start, count)],
        stride: height * width * channels,
        size,
        planar: false,
        element: Element::U8,
    };
    let mut dataset = records.dataset(name, "idx");
    let own = stem(&file.entry.path);
    let found = match &labels[..] {
        [one] => Some(one),
        several => several.iter().find(|f| stem(&f.entry.path) == own),
    };
    if let Some(found) = found {
        let source = &found.entry.source;
        if found.shape[0] != count as u64 {
            let reason = format!("it has {} labels for {count} images", found.shape[0]);
            return Err(bad(source.name(), reason, "open the labels that belong to the images"));
        }
        if found.kind != 8 {
            return unsupported(found);
        }
        let bytes = read_vec(&**source, 8, count as u64)?;
        dataset.label(bytes.into_iter().map(u32::from).collect(), Vec::new());
    }
    dataset.summary.notes = notes;
    Ok(dataset)
}

/// What the names of images and of their labels have in common: `t10k` of `t10k-images-idx3-ubyte.gz`.
fn stem(path: &str) -> String {
    let mut name = super::file_name(path).to_lowercase();
    for word in ["images", "image", "labels", "label", "idx3", "idx1", "ubyte", "gz", "-", "_", "."] {
        name = name.replace(word, "");
    }
    name
}

/// A number of images that a file of their size may have.
pub(super) fn checked_count(file: &str, count: u64, size: [usize; 3]) -> Result<usize> {
    let per_image = limits::element_count(&size).filter(|&n| n > 0);
    match (per_image, usize::try_from(count)) {
        (Some(_), Ok(n)) if n <= limits::IMAGES => Ok(n),
        (None, _) => Err(bad(file, format!("its images would be {}×{}×{}", size[0], size[1], size[2]), FETCH_AGAIN)),
        _ => Err(bad(file, format!("it has {count} images, more than {}", limits::IMAGES), "split it")),
    }
}

/// Bytes of the pixels of a CIFAR image, red, green and blue plane.
const CIFAR: u64 = 3 * 32 * 32;

/// Bytes of labels in front of each image: one in CIFAR-10, two (coarse, fine) in CIFAR-100. Nothing for other files.
fn cifar_labels(source: &dyn Source) -> Result<Option<u64>> {
    let len = source.len();
    let mut buffer = Vec::new();
    for labels in [1, 2] {
        let record = CIFAR + labels;
        if len == 0 || !len.is_multiple_of(record) {
            continue;
        }
        // The first few records tell; labels are checked once more when they are read.
        let mut plausible = true;
        for i in 0..(len / record).min(8) {
            buffer.resize(labels as usize, 0);
            source.read_at(i * record, &mut buffer)?;
            plausible &= if labels == 1 { buffer[0] < 10 } else { buffer[0] < 20 && buffer[1] < 100 };
        }
        if plausible {
            return Ok(Some(labels));
        }
    }
    Ok(None)
}

/// Whether these are batches of CIFAR-10 or CIFAR-100, in their binary version.
pub(super) fn is_cifar(source: &dyn Source) -> Result<bool> {
    Ok(cifar_labels(source)?.is_some())
}

/// CIFAR's batches. Where there are test batches among others, those are meant. Class names come from a text file next to them.
pub(super) fn cifar(name: &str, mut entries: Vec<Entry>, others: &mut Vec<Entry>) -> Result<Dataset> {
    let mut notes = Vec::new();
    if entries.iter().any(|e| for_tests(&e.path)) && !entries.iter().all(|e| for_tests(&e.path)) {
        let left = entries.extract_if(.., |e| !for_tests(&e.path)).count();
        notes.push(format!("{left} of the batches are not used: they are not for tests."));
    }
    let mut parts = Vec::new();
    let mut all = Vec::new();
    let mut labels_each = None;
    for Entry { source, .. } in entries {
        let Some(n) = cifar_labels(&*source)? else { continue };
        if labels_each.is_some_and(|each| each != n) {
            return Err(bad(name, "some of its batches are of CIFAR-10, others of CIFAR-100", "open one dataset at a time"));
        }
        labels_each = Some(n);
        let record = CIFAR + n;
        let count = checked_count(source.name(), source.len() / record, [32, 32, 3])?;
        let classes = if n == 1 { 10 } else { 100 };
        let cached: Rc<dyn Source> = Rc::new(Cached::new(source.clone()));
        // Labels lie between the images: a pass over the file, a megabyte at a time.
        let per_read = (1u64 << 20) / record;
        let mut at = 0;
        while at < count as u64 {
            let n_read = per_read.min(count as u64 - at);
            let bytes = read_vec(&*source, at * record, n_read * record)?;
            all.extend(bytes.chunks_exact(record as usize).map(|r| u32::from(r[n as usize - 1])));
            at += n_read;
        }
        if let Some(at) = all.iter().position(|&l| l >= classes) {
            let reason = format!("image {} has label {}, but there are {classes} classes", at + 1, all[at]);
            return Err(bad(source.name(), reason, FETCH_AGAIN));
        }
        parts.push((cached, n, count));
    }
    let each = labels_each.unwrap_or(1);
    let format = if each == 1 { "cifar-10" } else { "cifar-100" };
    let records = Records { parts, stride: CIFAR + each, size: [32, 32, 3], planar: true, element: Element::U8 };
    checked_count(name, records.len() as u64, [32, 32, 3])?;
    let mut dataset = records.dataset(name, format);
    dataset.label(all, class_names(others, if each == 1 { 10 } else { 100 })?);
    dataset.summary.notes = notes;
    Ok(dataset)
}

/// The names in `batches.meta.txt` or `fine_label_names.txt`, which is taken out of the list.
fn class_names(others: &mut Vec<Entry>, classes: usize) -> Result<Vec<String>> {
    let is_list = |e: &Entry| e.path.ends_with("batches.meta.txt") || e.path.ends_with("fine_label_names.txt");
    let Some(at) = others.iter().position(|e| is_list(e) && e.source.len() < 1 << 16) else { return Ok(Vec::new()) };
    let mut text = String::new();
    if Cursor::new(others[at].source.clone()).read_to_string(&mut text).is_err() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() != classes {
        return Ok(Vec::new());
    }
    others.remove(at);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_type() {
        let of = |kind, bytes, data: &[u8]| Element { kind, bytes }.numbers(data);
        assert_eq!(of(Kind::Uint, 1, &[0, 255]), [0.0, 255.0]);
        assert_eq!(of(Kind::Int, 1, &[0, 255]), [0.0, -1.0]);
        assert_eq!(of(Kind::Int, 2, &(-300i16).to_le_bytes()), [-300.0]);
        assert_eq!(of(Kind::Uint, 4, &u32::MAX.to_le_bytes()), [4294967295.0]);
        assert_eq!(of(Kind::Int, 8, &(-5i64).to_le_bytes()), [-5.0]);
        assert_eq!(of(Kind::Float, 2, &[0, 0x3c]), [1.0]);
        assert_eq!(of(Kind::Float, 8, &16777217f64.to_le_bytes()), [16777217.0]);
    }

    #[test]
    fn planes_interleave() {
        assert_eq!(interleave(&[1, 2, 3, 4, 5, 6], 3, 1), [1, 3, 5, 2, 4, 6]);
        assert_eq!(interleave(&[1, 2, 3, 4, 5, 6, 7, 8], 2, 2), [1, 2, 5, 6, 3, 4, 7, 8]);
        assert_eq!(interleave(&[1, 2, 3], 1, 1), [1, 2, 3]);
    }

    #[test]
    fn names_of_pairs() {
        assert_eq!(stem("a/t10k-images-idx3-ubyte.gz"), stem("b/t10k-labels.idx1-ubyte"));
        assert_ne!(stem("train-images-idx3-ubyte"), stem("t10k-labels-idx1-ubyte"));
    }

    #[test]
    fn idx_headers_do_not_lie() {
        let head = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        assert!(is_idx(&head, 16 + 24) && !is_idx(&head, 16 + 23) && !is_idx(&head[..12], 40));
        assert!(!is_idx(&[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], 40));
    }
}
