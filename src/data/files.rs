//! Image files, in folders or in a zip: the folder right above a file names its class.

use std::{io::Cursor, rc::Rc};

use image::{ImageFormat, ImageReader};

use super::{Dataset, Encoded, Entry, Image, Images, Pixels, dataset};
use crate::{
    error::{FETCH_AGAIN, Result, bad},
    io::{Source, source::read_vec, zip::Archive},
    limits,
};

/// What images are called.
pub(super) const EXTENSIONS: [&str; 4] = [".png", ".jpg", ".jpeg", ".webp"];

/// Largest image file, in bytes.
const FILE: u64 = 256 << 20;

fn format_of(head: &[u8]) -> Option<ImageFormat> {
    match head {
        h if h.starts_with(b"\x89PNG\r\n\x1a\n") => Some(ImageFormat::Png),
        h if h.starts_with(b"\xff\xd8\xff") => Some(ImageFormat::Jpeg),
        h if h.starts_with(b"RIFF") && h.get(8..12) == Some(b"WEBP") => Some(ImageFormat::WebP),
        _ => None,
    }
}

/// Whether a file that starts like this is an image that can be decoded.
pub(super) fn is_image(head: &[u8]) -> bool {
    format_of(head).is_some()
}

/// Decodes an image, to bytes, grey or red, green, blue. Transparency is dropped and colours stay as they are below it, as in most
/// training code (Pillow's `convert("RGB")`); 16 bits are rounded to 8; turns noted by a camera (EXIF) are not made.
///
/// # Errors
/// It is no PNG, JPEG or WebP, is damaged, or is larger than [`limits::SIDE`] or [`limits::DECODED`].
pub fn decode(encoded: Encoded) -> Result<Image> {
    let (name, bytes) = match encoded {
        Encoded::Image { image, .. } => return Ok(image),
        Encoded::File { name, bytes } => (name, bytes),
    };
    let Some(format) = format_of(&bytes) else {
        return Err(bad(name, "it is not a PNG, JPEG or WebP image", "remove it or convert it"));
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = image::Limits::default();
    (bounds.max_image_width, bounds.max_image_height) = (Some(limits::SIDE), Some(limits::SIDE));
    bounds.max_alloc = Some(limits::DECODED);
    reader.limits(bounds);
    let decoded = reader.decode().map_err(|e| bad(name, format!("it cannot be decoded ({e})"), FETCH_AGAIN))?;
    let (height, width) = (decoded.height() as usize, decoded.width() as usize);
    let (channels, pixels) =
        if decoded.color().has_color() { (3, decoded.into_rgb8().into_raw()) } else { (1, decoded.into_luma8().into_raw()) };
    Ok(Image { height, width, channels, pixels: Pixels::U8(pixels) })
}

/// Where the bytes of images are.
enum Place {
    Files(Vec<Rc<dyn Source>>),
    Members(Rc<Archive>, Vec<usize>),
}

struct Files {
    paths: Vec<String>,
    place: Place,
}

impl Images for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn read(&self, index: usize) -> Result<Encoded> {
        let name = self.name(index);
        let size = match &self.place {
            Place::Files(sources) => sources[index].len(),
            Place::Members(archive, members) => archive.entries[members[index]].size,
        };
        if size > FILE {
            return Err(bad(name, format!("it has {size} bytes, more than {FILE}"), "make it smaller or remove it"));
        }
        let bytes = match &self.place {
            Place::Files(sources) => read_vec(&*sources[index], 0, size)?,
            Place::Members(archive, members) => archive.read(members[index], 0, size as usize)?,
        };
        Ok(Encoded::File { name, bytes })
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].clone()
    }

    fn named(&self) -> bool {
        true
    }
}

/// Image files, by path.
pub(super) fn open(name: &str, entries: Vec<Entry>) -> Result<Dataset> {
    let (paths, sources) = entries.into_iter().map(|e| (e.path, e.source)).unzip();
    finish(name, "images", Files { paths, place: Place::Files(sources) })
}

/// The images of a zip.
pub(super) fn zip(name: &str, entries: Vec<Entry>) -> Result<Dataset> {
    let [entry] = &entries[..] else {
        return Err(bad(name, "these are several archives of images", "open one at a time"));
    };
    let archive = Rc::new(Archive::open(entry.source.clone())?);
    let is_image = |path: &str| {
        let lower = path.to_lowercase();
        EXTENSIONS.iter().any(|e| lower.ends_with(e)) && !path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
    };
    let mut members: Vec<usize> = (0..archive.entries.len()).filter(|&i| is_image(&archive.entries[i].name)).collect();
    members.sort_by(|&a, &b| archive.entries[a].name.cmp(&archive.entries[b].name));
    let paths = members.iter().map(|&i| archive.entries[i].name.clone()).collect();
    finish(name, "zip of images", Files { paths, place: Place::Members(archive, members) })
}

fn finish(name: &str, format: &str, files: Files) -> Result<Dataset> {
    if files.is_empty() {
        return Err(bad(name, "it has no images", super::FORMATS));
    }
    let first = decode(files.read(0)?)?;
    let (labels, note) = labels(&files.paths);
    let mut dataset = dataset(name, format, Rc::new(files), [first.height, first.width, first.channels]);
    if let Some((labels, classes)) = labels {
        dataset.label(labels, classes);
    }
    dataset.summary.notes.extend(note);
    Ok(dataset)
}

/// Labels and names of classes.
type Classes = (Vec<u32>, Vec<String>);

/// Labels by the folder right above each file: folders count in the order of their names, by value when all are numbers. No labels
/// when a file has no folder, or all have the same. And what the user should know of this.
fn labels(paths: &[String]) -> (Option<Classes>, Option<String>) {
    let folder = |path: &'_ String| path.rsplit_once('/').map(|(above, _)| above.rsplit('/').next().unwrap_or(above).to_string());
    let folders: Vec<Option<String>> = paths.iter().map(folder).collect();
    let mut classes: Vec<String> = folders.iter().flatten().cloned().collect();
    classes.sort();
    classes.dedup();
    if classes.len() < 2 {
        return (None, None);
    }
    if let Some(at) = folders.iter().position(Option::is_none) {
        return (None, Some(format!("There are no labels: {} is in no folder, others are.", paths[at])));
    }
    let numbers: Option<Vec<u64>> = classes.iter().map(|c| c.parse().ok()).collect();
    let mut note = None;
    if let Some(numbers) = numbers {
        let mut order: Vec<usize> = (0..classes.len()).collect();
        order.sort_by_key(|&i| (numbers[i], i));
        if !order.iter().enumerate().all(|(i, &o)| numbers[o] == i as u64) {
            note = Some("Folders are numbered, but not from 0 without gaps; labels are their places in order.".into());
        }
        classes = order.into_iter().map(|i| classes[i].clone()).collect();
    }
    let place: std::collections::HashMap<&str, u32> = classes.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
    let labels = folders.iter().flatten().map(|f| place[f.as_str()]).collect();
    (Some((labels, classes)), note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> (Option<Classes>, Option<String>) {
        labels(&paths.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn folders_are_classes() {
        let (labels, _) = of(&["val/dog/1.png", "val/cat/1.png", "val/dog/2.png"]);
        assert_eq!(labels, Some((vec![1, 0, 1], vec!["cat".into(), "dog".into()])));
        let (labels, note) = of(&["10/a.png", "2/a.png", "0/a.png"]);
        assert_eq!(labels.unwrap(), (vec![2, 1, 0], vec!["0".into(), "2".into(), "10".into()]));
        assert!(note.is_some());
        assert_eq!(of(&["0/a.png", "1/a.png"]).1, None);
        assert_eq!(of(&["a.png", "b.png"]), (None, None));
        assert_eq!(of(&["photos/a.png", "photos/b.png"]), (None, None));
        assert!(matches!(of(&["a/a.png", "b/b.png", "c.png"]), (None, Some(_))));
    }
}
