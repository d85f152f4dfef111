//! Images to calibrate and to test with: one file per format, recognised by content. Images stay in their files and are read one at a
//! time; only what is deflated as a whole is inflated once, in bounds ([`limits::INFLATED`]).

mod arrays;
mod binary;
mod files;
mod labels;
pub mod preprocess;

use std::rc::Rc;

pub use files::decode;
pub use labels::with_labels;

use crate::{
    error::{Error, FETCH_AGAIN, Result, bad},
    io::{
        Source,
        source::{BytesSource, read_vec},
        zip::Archive,
    },
    limits,
    report::DataSummary,
};

/// An image as it is stored: height × width × channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue), or what an array holds.
    pub channels: usize,
    /// The values, channels fastest.
    pub pixels: Pixels,
}

/// Values of an [`Image`].
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 0 to 255.
    U8(Vec<u8>),
    /// As they are.
    F32(Vec<f32>),
}

/// Reads images one at a time.
pub trait Images {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What [`decode`] needs of image `index`: cheap, on the thread that owns the file.
    fn read(&self, index: usize) -> Result<Encoded>;
    /// Name of image `index`, for messages and for labels by file: its path, or its number.
    fn name(&self, index: usize) -> String;
    /// Whether [`Images::name`] is a path.
    fn named(&self) -> bool {
        false
    }
}

/// An image as bytes; decoding is work for any thread.
#[derive(Debug, Clone)]
pub enum Encoded {
    /// Decoded already.
    Image {
        /// Its name, for messages.
        name: String,
        /// The image.
        image: Image,
    },
    /// A PNG, JPEG or WebP file.
    File {
        /// Its name, for messages.
        name: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl Encoded {
    /// The image's name, for messages.
    pub fn name(&self) -> &str {
        let (Encoded::Image { name, .. } | Encoded::File { name, .. }) = self;
        name
    }
}

/// Images, and what is known about them.
#[derive(Clone)]
pub struct Dataset {
    /// What is shown.
    pub summary: DataSummary,
    /// The images.
    pub images: Rc<dyn Images>,
    /// Class of each image.
    pub labels: Option<Vec<u32>>,
}

/// A file of a dataset: its path inside the folder that was chosen (`cats/1.png`; the folder names the class), and its content.
#[derive(Clone)]
pub struct Entry {
    /// The path, with `/`.
    pub path: String,
    /// The file.
    pub source: Rc<dyn Source>,
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Npy,
    Npz,
    Idx,
    Cifar,
    Zip,
    Image,
}

/// Advice for what is no dataset.
const FORMATS: &str =
    "choose an .npz with images and labels, CIFAR-10 batches, MNIST files, or PNG, JPEG or WebP images in a folder per class or a zip";

/// Recognises and opens a dataset: one `.npz`, CIFAR-10 batches, MNIST IDX files (also `.gz`), a zip of images, or images.
///
/// # Errors
/// No images among the files; several datasets; damage.
pub fn open(mut files: Vec<Entry>) -> Result<Dataset> {
    if files.len() > limits::IMAGES {
        return Err(bad("the dataset", format!("it has {} files, more than {}", files.len(), limits::IMAGES), "choose fewer"));
    }
    // The operating system's own files.
    files.retain(|f| !f.path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX" || part == "Thumbs.db"));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let (name, several) = name(&files);
    let mut known: Vec<(Kind, Entry)> = Vec::new();
    let mut others: Vec<Entry> = Vec::new();
    let mut refused: Option<Error> = None;
    for mut entry in files {
        match recognise(&mut entry) {
            Ok(Some(kind)) => known.push((kind, entry)),
            Ok(None) => others.push(entry),
            Err(e) => {
                refused.get_or_insert(e);
                others.push(entry);
            }
        }
    }
    let Some(&(kind, _)) = known.first() else {
        return Err(refused.unwrap_or_else(|| match others.first() {
            Some(other) => bad(other.source.name(), "it has no images of a known format", FORMATS),
            None => bad("the dataset", "it has no files", FORMATS),
        }));
    };
    let family = |kind| if kind == Kind::Npz { Kind::Npy } else { kind };
    if let Some((_, other)) = known.iter().find(|(k, _)| family(*k) != family(kind)) {
        let reason = format!("{} and {} are datasets of different formats", known[0].1.path, other.path);
        return Err(bad(name, reason, "open one at a time"));
    }
    let entries: Vec<Entry> = known.iter().map(|(_, entry)| entry.clone()).collect();
    let mut dataset = match kind {
        Kind::Npy | Kind::Npz => arrays::open(&name, known)?,
        Kind::Idx => binary::idx(&name, entries)?,
        Kind::Cifar => binary::cifar(&name, entries, &mut others)?,
        Kind::Zip => files::zip(&name, entries)?,
        Kind::Image => files::open(&name, entries)?,
    };
    dataset.summary.several = several;
    if dataset.images.is_empty() {
        return Err(bad(name, "it has no images", FORMATS));
    }
    let notes = &mut dataset.summary.notes;
    match &others[..] {
        [] => {}
        [one] => notes.push(format!("{} is not used: it is no image.", one.path)),
        [one, ..] => notes.push(format!("{} files such as {} are not used: they are no images.", others.len(), one.path)),
    }
    Ok(dataset)
}

/// Name of the whole: of its file, or of the folder, or of the first file; and whether it is none of a file or folder.
fn name(files: &[Entry]) -> (String, bool) {
    let top = |entry: &Entry| entry.path.split_once('/').map(|(top, _)| top.to_string());
    match files {
        [] => ("the dataset".into(), true),
        [one] => (one.source.name().into(), false),
        [one, rest @ ..] => match top(one).filter(|t| rest.iter().all(|f| top(f).as_ref() == Some(t))) {
            Some(folder) => (folder, false),
            None => (format!("{} and {} more", one.path, rest.len()), true),
        },
    }
}

/// Last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What is most likely meant for testing, where there is more than that.
fn for_tests(name: &str) -> bool {
    let name = file_name(name).to_lowercase();
    ["test", "t10k", "val"].iter().any(|word| name.contains(word))
}

/// What a file is; nothing for one that is no dataset. A gzip file is replaced by its content.
fn recognise(entry: &mut Entry) -> Result<Option<Kind>> {
    // A folder of many thousand images is not opened file by file; what only claims to be an image says so when it is decoded.
    let lower = entry.path.to_lowercase();
    if files::EXTENSIONS.iter().any(|e| lower.ends_with(e)) && !entry.source.is_empty() {
        return Ok(Some(Kind::Image));
    }
    let name = entry.source.name().to_string();
    let head = read_vec(&*entry.source, 0, entry.source.len().min(512))?;
    Ok(match &head[..] {
        [] => return Err(bad(name, "it is empty", FETCH_AGAIN)),
        h if h.starts_with(b"\x93NUMPY") => Some(Kind::Npy),
        h if h.starts_with(b"PK\x03\x04") || h.starts_with(b"PK\x05\x06") => {
            let archive = Archive::open(entry.source.clone())?;
            let has = |ends: &[&str]| archive.entries.iter().any(|e| ends.iter().any(|end| e.name.to_lowercase().ends_with(end)));
            if has(&["data.pkl"]) {
                return Err(bad(name, "it is a PyTorch checkpoint", FORMATS));
            }
            if has(&[".npy"]) {
                Some(Kind::Npz)
            } else if has(&files::EXTENSIONS) {
                Some(Kind::Zip)
            } else {
                return Err(bad(name, "it is a zip archive without arrays or images", FORMATS));
            }
        }
        h if files::is_image(h) => Some(Kind::Image),
        h if h.starts_with(b"\x1f\x8b") => {
            entry.source = Rc::new(BytesSource::new(name, binary::gunzip(&*entry.source)?));
            Some(Kind::Idx)
        }
        h if binary::is_idx(h, entry.source.len()) => Some(Kind::Idx),
        _ if binary::is_cifar(&*entry.source)? => Some(Kind::Cifar),
        _ => None,
    })
}

/// A dataset without labels, its size taken from the first image.
fn dataset(name: &str, format: &str, images: Rc<dyn Images>, size: [usize; 3]) -> Dataset {
    let summary = DataSummary {
        name: name.into(),
        several: false,
        format: format.into(),
        images: images.len(),
        size,
        labelled: false,
        classes: Vec::new(),
        notes: Vec::new(),
    };
    Dataset { summary, images, labels: None }
}

impl Dataset {
    /// Sets the labels: as many as images.
    fn label(&mut self, labels: Vec<u32>, classes: Vec<String>) {
        self.summary.labelled = true;
        self.summary.classes = classes;
        self.labels = Some(labels);
    }
}
