//! Which format a file has, by its content; and for what is no model we read, a sentence that says what it is.

use std::rc::Rc;

use super::source::read_vec;
use super::zip::Archive;
use super::{Format, Model, Source, TQ_MAGIC, npy, npz, onnx, pth, safetensors};
use crate::error::{Error, FETCH_AGAIN, Result, bad};

/// Reads the structure of a model: one file, or an ONNX model with the files of its external data, in any order.
/// No tensor data are read.
///
/// Errors: no file, no model among them or more than one, a format that is not supported, damage, external data that is
/// missing. A file that nothing refers to is a note of the model.
pub fn open(sources: Vec<Rc<dyn Source>>) -> Result<Model> {
    let mut models = Vec::new();
    let mut others: Vec<Rc<dyn Source>> = Vec::new();
    let mut refused = Vec::new();
    for source in sources {
        match recognise(&source) {
            Ok(format) => models.push((source, format)),
            Err(e) => {
                others.push(source);
                refused.push(e);
            }
        }
    }
    // External data can be a file of any format: beside an ONNX model, all else is that.
    if models.len() > 1 && models.iter().filter(|(_, format)| *format == Format::Onnx).count() == 1 {
        let at = models.iter().position(|(_, format)| *format == Format::Onnx).unwrap_or(0);
        let model = models.swap_remove(at);
        others.extend(models.drain(..).map(|(source, _)| source));
        models.push(model);
    }
    if models.len() > 1 {
        let names: Vec<&str> = models.iter().map(|(source, _)| source.name()).collect();
        return Err(bad(names.join(", "), "these are several models", "open one at a time"));
    }
    let Some((source, format)) = models.pop() else {
        return Err(refused.into_iter().next().unwrap_or_else(|| bad("no file", "nothing was chosen", "choose a model file")));
    };
    let mut used = vec![false; others.len()];
    let mut model = match format {
        Format::Safetensors => safetensors::open(source),
        Format::Npy => npy::open(source),
        Format::Npz => npz::open(source),
        Format::Pth => pth::open(source),
        Format::Onnx => onnx::open(source, &others).map(|(model, files)| {
            used = files;
            model
        }),
    }?;
    for (other, _) in others.iter().zip(used).filter(|(_, used)| !used) {
        model.notes.push(format!("{} is not used: {} does not refer to it.", other.name(), model.name));
    }
    Ok(model)
}

/// Advice for what is no model file.
const FORMATS: &str = "choose an ONNX, safetensors, NumPy (.npz, .npy) or PyTorch (.pth, .pt) file";

fn recognise(source: &Rc<dyn Source>) -> Result<Format> {
    let name = source.name();
    let head = read_vec(&**source, 0, source.len().min(512))?;
    if head.is_empty() {
        return Err(bad(name, "it is empty", FETCH_AGAIN));
    }
    if head.starts_with(b"\x93NUMPY") {
        return Ok(Format::Npy);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return zipped(source);
    }
    if let Some(e) = foreign(name, &head) {
        return Err(e);
    }
    if safetensors::recognise(&head) {
        return Ok(Format::Safetensors);
    }
    if onnx::recognise(source) {
        return Ok(Format::Onnx);
    }
    Err(bad(name, "it is not a model file of a known format", FORMATS))
}

fn zipped(source: &Rc<dyn Source>) -> Result<Format> {
    let archive = Archive::open(source.clone())?;
    let has = |test: &dyn Fn(&str) -> bool| archive.entries.iter().any(|entry| test(&entry.name));
    if has(&|name| name == "data.pkl" || name.ends_with("/data.pkl")) {
        return Ok(Format::Pth);
    }
    if has(&|name| name.ends_with(".npy")) {
        return Ok(Format::Npz);
    }
    let (reason, advice) = if archive.entries.is_empty() {
        ("it is an empty zip archive", "save the arrays again")
    } else if has(&|name| name.ends_with(".weights.h5")) {
        ("it is a Keras model", "export it to ONNX, or save its weights with numpy.savez")
    } else if has(&|name| [".onnx", ".safetensors", ".pth", ".pt", ".npz", ".h5"].iter().any(|end| name.ends_with(end))) {
        ("it is a zip archive with a model inside", "unpack it first")
    } else {
        ("it is a zip archive without arrays or a PyTorch checkpoint", FORMATS)
    };
    Err(bad(source.name(), reason, advice))
}

/// Files that people have, and that are not what they were meant to be.
fn foreign(name: &str, head: &[u8]) -> Option<Error> {
    let say = |reason: &str, advice: &str| Some(bad(name, reason, advice));
    let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
    match head {
        h if h.starts_with(&TQ_MAGIC) => say("it is a compressed model", "decompress it"),
        h if h.starts_with(b"\x89HDF\r\n\x1a\n") => {
            say("it is an HDF5 file (Keras)", "export the model to ONNX, or save its weights with numpy.savez")
        }
        h if h.starts_with(b"GGUF") => say("it is a GGUF file, quantized for language models", "choose the original safetensors file"),
        h if h.get(4..8) == Some(b"TFL3") => say("it is a TensorFlow Lite model", "export the original model to ONNX"),
        h if h.starts_with(b"\x1f\x8b") => say("it is compressed with gzip", "unpack it first"),
        h if h.starts_with(b"BZh") || h.starts_with(b"\xfd7zXZ") || h.starts_with(b"\x28\xb5\x2f\xfd") || h.starts_with(b"7z\xbc\xaf") => {
            say("it is a compressed archive", "unpack it first")
        }
        h if h.get(257..262) == Some(b"ustar") => say("it is a tar archive", "unpack it first"),
        [0x80, 2..=5, ..] => say(
            "it is a Python pickle, such as PyTorch before version 1.6 wrote",
            "load it in PyTorch and save model.state_dict() again with torch.save",
        ),
        _ if text.starts_with("version https://git-lfs") => {
            say("it is a Git LFS pointer, not the file it stands for", "fetch the file itself with git lfs pull")
        }
        _ if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") => {
            say("it is a web page, not a model", "download the file itself: look for a raw or download link")
        }
        _ if text.starts_with('{') => say("it is a JSON file, not a model", FORMATS),
        _ => None,
    }
}
