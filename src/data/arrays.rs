//! NumPy arrays of images: an `.npz` with `images` and `labels`, or `.npy` files.

use std::{cell::OnceCell, rc::Rc};

use super::{
    Dataset, Entry, Kind as FileKind,
    binary::{Element, Records, checked_count},
    for_tests,
};
use crate::{
    error::{FETCH_AGAIN, Result, bad},
    io::{
        Source, npy,
        source::{BytesSource, Cached, inside, read_vec},
        tensor::{Direction, permute},
        zip::Archive,
    },
    limits,
};

/// An array in a file, not read.
pub(super) struct Array {
    /// Name of the file.
    file: String,
    /// Name of the array.
    pub name: String,
    pub shape: Vec<u64>,
    pub element: Element,
    fortran: bool,
    source: Rc<dyn Source>,
    /// Where the elements begin.
    offset: u64,
}

/// A member of an archive that is inflated as a whole, when it is first read.
struct Member {
    archive: Rc<Archive>,
    index: usize,
    file: String,
    inflated: OnceCell<BytesSource>,
}

impl Source for Member {
    fn name(&self) -> &str {
        &self.file
    }
    fn len(&self) -> u64 {
        self.archive.entries[self.index].size
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if self.inflated.get().is_none() {
            // A header is read without the rest.
            if offset + buf.len() as u64 <= 1 << 16 && offset == 0 {
                let bytes = self.archive.read(self.index, offset, buf.len())?;
                buf.copy_from_slice(&bytes);
                return Ok(());
            }
            if self.len() > limits::INFLATED {
                let reason = format!("it is deflated, and inflates to {} bytes", self.len());
                let name = &self.archive.entries[self.index].name;
                return Err(bad(&self.file, reason, "save it with numpy.savez instead of savez_compressed").tensor(name));
            }
            let bytes = self.archive.read(self.index, 0, self.len() as usize)?;
            let _ = self.inflated.set(BytesSource::new(&*self.file, bytes));
        }
        match self.inflated.get() {
            Some(bytes) => bytes.read_at(offset, buf),
            None => Err(bad(&self.file, "it could not be inflated", FETCH_AGAIN)),
        }
    }
}

/// A stored member: a range of the file.
struct Range {
    source: Rc<dyn Source>,
    offset: u64,
    len: u64,
}

impl Source for Range {
    fn name(&self) -> &str {
        self.source.name()
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        inside(self.name(), self.len, offset, buf.len() as u64)?;
        self.source.read_at(self.offset + offset, buf)
    }
}

impl Array {
    fn new(file: &str, name: &str, source: Rc<dyn Source>) -> Result<Array> {
        let raw = npy::parse(file, name, source.len(), &|offset, len| read_vec(&*source, offset, len as u64))?;
        let (has, offset) = (source.len() - raw.header.len() as u64, raw.header.len() as u64);
        let needs = raw.shape.iter().try_fold(raw.element, |n, &d| n.checked_mul(d));
        if raw.shape.len() > limits::DIMENSIONS || needs != Some(has) {
            let reason = match needs {
                Some(needs) => format!("it has {has} bytes of data, but its shape and type need {needs}"),
                None => "its shape is too large".into(),
            };
            return Err(bad(file, reason, FETCH_AGAIN).tensor(name));
        }
        let element = Element { kind: raw.kind, bytes: raw.element as usize };
        let fortran = raw.fortran && raw.shape.len() > 1;
        Ok(Array { file: file.into(), name: name.into(), shape: raw.shape, element, fortran, source, offset })
    }

    /// The shape without a last axis of one: labels are often saved in a column.
    fn is_list(&self) -> bool {
        matches!(self.shape[..], [_] | [_, 1])
    }

    fn fail(&self, reason: impl Into<String>, advice: &str) -> crate::error::Error {
        bad(&self.file, reason, advice).tensor(&self.name)
    }

    /// The elements, in C order, from a source that holds nothing else before them.
    fn in_c_order(&self) -> Result<(Rc<dyn Source>, u64)> {
        if !self.fortran {
            return Ok((self.source.clone(), self.offset));
        }
        let len = self.source.len() - self.offset;
        if len > limits::INFLATED {
            return Err(self.fail("it is too large to be brought from Fortran into C order", "save it with numpy.ascontiguousarray"));
        }
        let bytes = read_vec(&*self.source, self.offset, len)?;
        let shape: Vec<usize> = self.shape.iter().map(|&d| d as usize).collect();
        let axes: Vec<u8> = (0..shape.len() as u8).rev().collect();
        let sorted = permute(&bytes, &shape, self.element.bytes, &axes, Direction::ToC);
        Ok((Rc::new(BytesSource::new(&*self.file, sorted)), 0))
    }

    /// Its elements as labels.
    pub fn labels(&self) -> Result<Vec<u32>> {
        let count = self.shape.first().copied().unwrap_or(0);
        if !self.is_list() || !self.element.is_number() || count > limits::IMAGES as u64 {
            let shape = &self.shape;
            let reason = format!("labels of shape {shape:?} are not one whole number per image");
            return Err(self.fail(reason, "save one class number per image, such as argmax of one-hot labels"));
        }
        let bytes = read_vec(&*self.source, self.offset, self.source.len() - self.offset)?;
        let numbers = self.element.numbers(&bytes);
        match numbers.iter().find(|&&v| v.fract() != 0.0 || !(0.0..4294967296.0).contains(&v)) {
            Some(v) => Err(self.fail(format!("a label is {v}"), "labels must be whole numbers from 0")),
            None => Ok(numbers.into_iter().map(|v| v as u32).collect()),
        }
    }

    /// Its elements as images.
    fn images(&self, name: &str, format: &str) -> Result<Dataset> {
        if !self.element.is_number() {
            return Err(self.fail("its elements are no numbers", "save the images as uint8 or float32"));
        }
        let mut note = None;
        let small = |n: u64| matches!(n, 1 | 3 | 4);
        let (size, planar) = match self.shape[..] {
            [_, h, w] => ([h, w, 1], false),
            [_, 3072] => ([32, 32, 3], true),
            [_, 784] => ([28, 28, 1], false),
            [_, a, b, c] => {
                let (first, last) = (small(a), small(c));
                let planar = if first == last { a < c } else { first };
                if first == last && (a, c) != (1, 1) {
                    let order = if planar { "channels × height × width" } else { "height × width × channels" };
                    note = Some(format!("`{}` has shape {:?}; it was taken for images × {order}.", self.name, self.shape));
                }
                if planar { ([b, c, a], true) } else { ([a, b, c], false) }
            }
            _ => {
                let reason = format!("an array of shape {:?} holds no images", self.shape);
                return Err(self.fail(reason, "save images × height × width × channels"));
            }
        };
        let size = size.map(|d| usize::try_from(d).unwrap_or(usize::MAX));
        let count = checked_count(&self.file, self.shape[0], size).map_err(|e| e.tensor(&self.name))?;
        let (source, offset) = self.in_c_order()?;
        let stride = (size.iter().product::<usize>() * self.element.bytes) as u64;
        let records = Records { parts: vec![(source, offset, count)], stride, size, planar, element: self.element };
        let mut dataset = records.dataset(name, format);
        dataset.summary.notes.extend(note);
        Ok(dataset)
    }
}

/// The arrays of an `.npz`.
fn members(source: Rc<dyn Source>) -> Result<Vec<Array>> {
    let file = source.name().to_string();
    let archive = Rc::new(Archive::open(source.clone())?);
    let mut out = Vec::new();
    for (index, entry) in archive.entries.iter().enumerate() {
        let Some(name) = entry.name.strip_suffix(".npy") else { continue };
        let source: Rc<dyn Source> = if entry.deflated {
            Rc::new(Member { archive: archive.clone(), index, file: file.clone(), inflated: OnceCell::new() })
        } else {
            // Once as the archive reads it, which checks where the data are.
            Rc::new(Cached::new(Rc::new(Range { source: source.clone(), offset: entry.offset, len: entry.size })))
        };
        out.push(Array::new(&file, name, source)?);
    }
    Ok(out)
}

/// The arrays of an `.npy` or `.npz`.
pub(super) fn arrays(entry: &Entry, kind: FileKind) -> Result<Vec<Array>> {
    if kind == FileKind::Npz {
        return members(entry.source.clone());
    }
    let file = entry.source.name().to_string();
    let name = file.strip_suffix(".npy").unwrap_or(&file).to_string();
    Ok(vec![Array::new(&file, &name, Rc::new(Cached::new(entry.source.clone())))?])
}

/// Picks the array that is meant: by name, then by being the only one; of several with these names, the one for tests.
fn pick<'a>(arrays: &[&'a Array], names: &[&str]) -> Option<&'a Array> {
    let named = |array: &&&Array| {
        let lower = array.name.to_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        names.iter().any(|name| words.contains(name))
    };
    let found: Vec<&&Array> = arrays.iter().filter(named).collect();
    match &found[..] {
        [] if arrays.len() == 1 => Some(arrays[0]),
        [] => None,
        [one] => Some(one),
        several => several.iter().find(|a| for_tests(&a.name)).or(several.first()).map(|a| **a),
    }
}

/// The array with labels, of those that could be some.
pub(super) fn labels(all: &[Array]) -> Option<&Array> {
    let lists: Vec<&Array> = all.iter().filter(|a| a.is_list()).collect();
    pick(&lists, &["labels", "label", "y", "targets", "target"])
}

/// Opens arrays: images, and labels where there are some.
pub(super) fn open(name: &str, files: Vec<(FileKind, Entry)>) -> Result<Dataset> {
    let format = if files.iter().any(|f| f.0 == FileKind::Npz) { "npz" } else { "npy" };
    let mut all = Vec::new();
    for (kind, entry) in &files {
        all.extend(arrays(entry, *kind)?);
    }
    let pictures: Vec<&Array> = all.iter().filter(|a| !a.is_list() && a.shape.len() > 1).collect();
    let Some(images) = pick(&pictures, &["images", "image", "x", "data"]) else {
        let names: Vec<String> = all.iter().take(4).map(|a| format!("`{}` {:?}", a.name, a.shape)).collect();
        let reason = match names.len() {
            0 => "it has no arrays".into(),
            _ => format!("none of its arrays is called `images` ({})", names.join(", ")),
        };
        return Err(bad(name, reason, "save it with numpy.savez(file, images=…, labels=…)"));
    };
    let mut dataset = images.images(name, format)?;
    if let Some(list) = labels(&all) {
        let labels = list.labels()?;
        if labels.len() != dataset.images.len() {
            let reason = format!("it has {} labels for {} images", labels.len(), dataset.images.len());
            return Err(list.fail(reason, "save one label per image"));
        }
        dataset.label(labels, Vec::new());
    }
    let unused: Vec<&str> = pictures.iter().filter(|a| !std::ptr::eq::<Array>(**a, images)).map(|a| a.name.as_str()).take(3).collect();
    if !unused.is_empty() {
        dataset.summary.notes.push(format!("The images are `{}`; {} is not used.", images.name, unused.join(", ")));
    }
    Ok(dataset)
}
