//! Labels in a file of their own.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    rc::Rc,
};

use super::{Dataset, Entry, Kind, arrays, file_name, recognise};
use crate::{
    error::{Result, bad},
    io::{Source, source::read_vec},
};

/// Longest text with labels, in bytes.
const TEXT: u64 = 64 << 20;

/// The dataset with the labels of another file: an `.npy` or `.npz`, or text with one label per line or `file,label` (also
/// `file label`). Labels that are no numbers are names of classes, which count in the order of their names.
///
/// # Errors
/// Not as many as images; an image that is not named; damage.
pub fn with_labels(mut data: Dataset, labels: Rc<dyn Source>) -> Result<Dataset> {
    let file = labels.name().to_string();
    let mut entry = Entry { path: file.clone(), source: labels };
    let wrong = |reason: String, advice: &str| Err(bad(&file, reason, advice));
    let (labels, classes) = match recognise(&mut entry)? {
        Some(kind @ (Kind::Npy | Kind::Npz)) => match arrays::labels(&arrays::arrays(&entry, kind)?) {
            Some(array) => (array.labels()?, Vec::new()),
            None => return wrong("none of its arrays is called `labels`".into(), "save it with numpy.savez(file, labels=…)"),
        },
        Some(_) => return wrong("it holds images, no labels".into(), "name a .npy, .npz, .csv or .txt file with labels"),
        None => text(&data, &entry)?,
    };
    let images = data.images.len();
    if labels.len() != images {
        return wrong(format!("it has {} labels for {images} images", labels.len()), "give one label per image");
    }
    data.label(labels, classes);
    Ok(data)
}

fn text(data: &Dataset, entry: &Entry) -> Result<(Vec<u32>, Vec<String>)> {
    let file = entry.source.name();
    let wrong = |reason: String, advice: &str| Err(bad(file, reason, advice));
    if entry.source.len() > TEXT {
        return wrong("it is too long for a list of labels".into(), "give one label per line");
    }
    let bytes = read_vec(&*entry.source, 0, entry.source.len())?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return wrong("it is no text in UTF-8".into(), "name a .npy, .npz, .csv or .txt file with labels");
    };
    let mut rows: Vec<(Option<String>, String)> = Vec::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    for record in reader.records() {
        let record = record.map_err(|e| bad(file, format!("it cannot be read as CSV ({e})"), "give one `file,label` per line"))?;
        match (record.get(0), record.get(1)) {
            (None | Some(""), None) => {}
            (Some(one), None) => rows.push(match one.rsplit_once(char::is_whitespace) {
                Some((path, label)) => (Some(path.trim().into()), label.into()),
                None => (None, one.into()),
            }),
            (Some(path), Some(label)) => rows.push((Some(path.into()), label.into())),
            (None, Some(_)) => {}
        }
    }
    let number = |row: &(_, String)| row.1.parse::<u32>().ok();
    // A heading: the only line that is no number, or one line more than there are images.
    if rows.len() > 1 && number(&rows[0]).is_none() {
        let rest_are_numbers = rows[1..].iter().all(|row| number(row).is_some());
        let heading = ["label", "class", "target", "y"].contains(&rows[0].1.to_lowercase().as_str());
        if rest_are_numbers || heading {
            rows.remove(0);
        }
    }
    let mut classes = Vec::new();
    let values: Vec<u32> = match rows.iter().map(number).collect::<Option<Vec<u32>>>() {
        Some(numbers) => numbers,
        None => {
            classes = rows.iter().map(|row| row.1.clone()).collect();
            classes.sort();
            classes.dedup();
            let place: HashMap<&str, u32> = classes.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
            rows.iter().map(|row| place[row.1.as_str()]).collect()
        }
    };
    if rows.iter().all(|row| row.0.is_none()) {
        return Ok((values, classes));
    }
    if !data.images.named() {
        return wrong(format!("it names files, but the images of {} are numbered", data.summary.name), "give one label per line");
    }
    // By path, and by the file's name alone where that tells files apart.
    let mut by_path: HashMap<&str, u32> = HashMap::new();
    let mut by_name: HashMap<&str, Option<u32>> = HashMap::new();
    for ((path, _), &label) in rows.iter().zip(&values) {
        let Some(path) = path else { continue };
        by_path.insert(path, label);
        match by_name.entry(file_name(path)) {
            Slot::Vacant(slot) => {
                slot.insert(Some(label));
            }
            Slot::Occupied(mut slot) => {
                slot.insert(None);
            }
        }
    }
    let mut labels = Vec::with_capacity(data.images.len());
    for i in 0..data.images.len() {
        let name = data.images.name(i);
        match by_path.get(name.as_str()).copied().or_else(|| by_name.get(file_name(&name)).copied().flatten()) {
            Some(label) => labels.push(label),
            None => return wrong(format!("it has no label for {name}"), "add a line `file,label` for every image"),
        }
    }
    Ok((labels, classes))
}
