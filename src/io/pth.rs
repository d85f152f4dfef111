//! PyTorch zip checkpoints: `data.pkl` says what there is, `data/N` hold the storages.
//!
//! A tensor is a strided view of a storage. Views of one storage that coincide or contain each other (tied weights) are one
//! tensor of the table; a storage whose views overlap in another way is kept as it is. The pickle itself stays verbatim.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use super::pickle::{Element, Id, Pickle, Value, interpret};
use super::skeleton::{Member, Piece, Skeleton};
use super::table::{Place, Table, checked, role_without_graph};
use super::zip::{Archive, Entry};
use super::{Dtype, Format, Model, Role, Source};
use crate::error::{FETCH_AGAIN, Result, bad};
use crate::limits;

/// Largest pickle: some hundred bytes for each of [`limits::TENSORS`].
const PICKLE: u64 = 64 << 20;

/// Where checkpoints keep the state_dict, the likeliest first.
const KEYS: [&str; 8] = ["state_dict", "model_state_dict", "model", "net", "module", "network", "params", "weights"];

/// Advice for a file that holds objects instead of tensors.
const SAVE_STATE: &str = "load it in PyTorch and save model.state_dict() with torch.save";

/// A tensor of the pickle.
struct View {
    name: String,
    /// Whether it belongs to the state_dict.
    weights: bool,
    element: Element,
    shape: Vec<u64>,
    /// Axes from slowest to fastest unless C order; `None` when it is not dense.
    axes: Option<Option<Vec<u8>>>,
    /// Bytes of the storage.
    range: Range<u64>,
}

/// Reads the pickle and finds the state_dict.
pub(crate) fn open(source: Rc<dyn Source>) -> Result<Model> {
    let file = source.name().to_string();
    let file_bytes = source.len();
    let archive = Rc::new(Archive::open(source.clone())?);
    let pickles = archive.entries.iter().enumerate().filter(|(_, e)| e.name == "data.pkl" || e.name.ends_with("/data.pkl"));
    let Some((at, entry)) = pickles.min_by_key(|(_, entry)| entry.name.len()) else {
        return Err(bad(file, "it has no data.pkl", FETCH_AGAIN));
    };
    let folder = entry.name.trim_end_matches("data.pkl").to_string();
    if entry.size > PICKLE {
        return Err(bad(file, format!("its pickle has {} bytes, more than {PICKLE}", entry.size), SAVE_STATE));
    }
    let order = archive.entries.iter().position(|e| e.name == format!("{folder}byteorder"));
    if let Some(order) = order.filter(|&order| archive.entries[order].size <= 16)
        && archive.read(order, 0, archive.entries[order].size as usize)? == b"big"
    {
        return Err(bad(file, "its tensors are big-endian", "save it again on a little-endian machine"));
    }
    let pickle = interpret(&file, archive.read(at, 0, entry.size as usize)?)?;
    let views = views(&file, &pickle, &archive, &folder)?;

    let mut table = Table::new(&file);
    let (mut members, mut notes, mut kept) = (Vec::with_capacity(archive.entries.len()), Vec::new(), 0);
    for (index, entry) in archive.entries.iter().enumerate() {
        let key = entry.name.strip_prefix(&folder).and_then(|name| name.strip_prefix("data/"));
        let pieces = match key {
            Some(key) if entry.size > 0 => {
                let views = views.get(key).map_or(&[][..], |views| views);
                Storage { file: &file, key, source: &source, archive: &archive, index, entry }.pieces(views, &mut table, &mut notes)?
            }
            _ => vec![Piece::Bytes(archive.keep(index, &mut kept)?)],
        };
        members.push(Member { name: entry.name.clone(), deflated: entry.deflated, pieces });
    }
    let outside: u64 = views.values().flatten().filter(|v| !v.weights).map(|v| v.range.end - v.range.start).sum();
    if outside > 0 {
        notes.push(format!("{outside} bytes of tensors outside of the state_dict (an optimizer's, perhaps) are kept as they are."));
    }
    Ok(Model {
        name: file,
        format: Format::Pth,
        file_bytes,
        tensors: table.infos.clone(),
        skeleton: Skeleton::Zip(members),
        reader: Rc::new(table),
        notes,
        graph: None,
    })
}

/// All tensors of the pickle with elements, by storage.
fn views(file: &str, pickle: &Pickle, archive: &Archive, folder: &str) -> Result<BTreeMap<String, Vec<View>>> {
    let mut finder = Finder { pickle, seen: HashSet::new(), found: Vec::new() };
    let state = state_dict(pickle, pickle.root, 0);
    finder.collect(state, String::new(), 0);
    let weights = finder.found.len();
    finder.collect(pickle.root, String::new(), 0);
    let found = finder.found;
    if found.is_empty() {
        let script = archive
            .entries
            .iter()
            .any(|e| e.name.strip_prefix(folder).is_some_and(|name| name == "constants.pkl" || name.starts_with("code/")));
        return Err(match &pickle.refused {
            _ if script => bad(file, "it is a TorchScript archive, which holds a program", SAVE_STATE),
            Some(class) => {
                bad(file, format!("it holds a Python object ({class}) instead of a state_dict, and objects are never loaded"), SAVE_STATE)
            }
            None => bad(file, "it holds no tensors", SAVE_STATE),
        });
    }
    // Data-parallel training wraps the network in a module of this name.
    let wrapped = found[..weights].iter().all(|(name, _)| name.len() > 7 && name.starts_with("module."));

    let members: BTreeMap<&str, &Entry> =
        archive.entries.iter().filter_map(|e| Some((e.name.strip_prefix(folder)?.strip_prefix("data/")?, e))).collect();
    let mut views: BTreeMap<String, Vec<View>> = BTreeMap::new();
    for (position, (name, id)) in found.into_iter().enumerate() {
        let Value::Tensor { storage, element, offset, shape, strides } = pickle.get(id) else { continue };
        let Value::Storage { key, .. } = pickle.get(*storage) else { continue };
        let key = pickle.text(key);
        let name = if wrapped && position < weights { name[7..].to_string() } else { name };
        let info = checked(file, &name, element.dtype, element.size, shape)?;
        if info.elements() == 0 {
            continue;
        }
        let Some(member) = members.get(&*key) else {
            return Err(bad(file, format!("its data, {folder}data/{key}, are missing"), FETCH_AGAIN).tensor(name));
        };
        let extent = shape.iter().zip(strides).try_fold(1u64, |n, (&d, &s)| (d - 1).checked_mul(s)?.checked_add(n));
        let range = extent.and_then(|n| {
            let begin = offset.checked_mul(element.size)?;
            Some(begin..begin.checked_add(n.checked_mul(element.size)?)?)
        });
        let Some(range) = range.filter(|range| range.end <= member.size) else {
            return Err(bad(file, format!("it reaches beyond the {} bytes of its storage {key}", member.size), FETCH_AGAIN).tensor(name));
        };
        let axes = dense(shape, strides);
        views.entry(key).or_default().push(View {
            name,
            weights: position < weights,
            element: *element,
            shape: shape.clone(),
            axes,
            range,
        });
    }
    Ok(views)
}

/// The order of the axes in memory if the view has no gaps and no element twice: `Some(None)` for C order.
fn dense(shape: &[u64], strides: &[u64]) -> Option<Option<Vec<u8>>> {
    // Axes of one element have no stride worth the name.
    let mut axes: Vec<u8> = (0..shape.len() as u8).filter(|&a| shape[a as usize] > 1).collect();
    axes.sort_by_key(|&a| std::cmp::Reverse(strides[a as usize]));
    let mut expected = 1;
    for &a in axes.iter().rev() {
        if strides[a as usize] != expected {
            return None;
        }
        expected *= shape[a as usize];
    }
    if axes.is_sorted() {
        return Some(None);
    }
    let ones = (0..shape.len() as u8).filter(|&a| shape[a as usize] == 1);
    Some(Some(ones.chain(axes.iter().copied()).collect()))
}

/// The value that holds the weights: below one of the usual keys, or the whole.
fn state_dict(pickle: &Pickle, id: Id, depth: usize) -> Id {
    let Value::Dict(entries) = pickle.get(id) else { return id };
    if depth < 4 {
        for key in KEYS {
            let inner = pickle.find(entries, key).filter(|&inner| has_tensors(pickle, inner));
            if let Some(inner) = inner {
                return state_dict(pickle, inner, depth + 1);
            }
        }
    }
    if depth > 0 || entries.iter().any(|(_, value)| matches!(pickle.get(*value), Value::Tensor { .. })) {
        return id;
    }
    // No tensors here and no usual key: the one dict with tensors, if there is just one.
    let mut inner = entries.iter().map(|(_, value)| *value).filter(|&value| has_tensors(pickle, value));
    match (inner.next(), inner.next()) {
        (Some(only), None) => state_dict(pickle, only, depth + 1),
        _ => id,
    }
}

/// Whether this is a dict with tensors, directly or in a dict of it.
fn has_tensors(pickle: &Pickle, id: Id) -> bool {
    let Value::Dict(entries) = pickle.get(id) else { return false };
    entries.iter().any(|(_, value)| match pickle.get(*value) {
        Value::Tensor { .. } => true,
        Value::Dict(inner) => inner.iter().any(|(_, value)| matches!(pickle.get(*value), Value::Tensor { .. })),
        _ => false,
    })
}

/// Walks containers, each once, and notes the tensors with their paths.
struct Finder<'a> {
    pickle: &'a Pickle,
    seen: HashSet<Id>,
    found: Vec<(String, Id)>,
}

impl Finder<'_> {
    fn collect(&mut self, id: Id, path: String, depth: usize) {
        if depth > limits::DEPTH || path.len() > limits::NAME {
            return;
        }
        let below = |key: String| if path.is_empty() { key } else { format!("{path}.{key}") };
        match self.pickle.get(id) {
            Value::Tensor { .. } if self.seen.insert(id) => self.found.push((if path.is_empty() { "tensor".into() } else { path }, id)),
            Value::List(items) if self.seen.insert(id) => {
                for (position, item) in items.iter().enumerate() {
                    self.descend(*item, &|| below(position.to_string()), depth);
                }
            }
            Value::Dict(entries) if self.seen.insert(id) => {
                for (key, value) in entries {
                    let key = match self.pickle.get(*key) {
                        Value::Text(text) if text.len() <= limits::NAME => self.pickle.text(text),
                        Value::Int(i) => i.to_string(),
                        _ => "?".into(),
                    };
                    self.descend(*value, &|| below(key.clone()), depth);
                }
            }
            _ => {}
        }
    }

    /// Paths are made only for what is walked: a list of millions of integers costs nothing.
    fn descend(&mut self, id: Id, path: &dyn Fn() -> String, depth: usize) {
        if matches!(self.pickle.get(id), Value::Tensor { .. } | Value::List(_) | Value::Dict(_)) && !self.seen.contains(&id) {
            self.collect(id, path(), depth + 1);
        }
    }
}

/// A storage of the archive, about to become tensors.
struct Storage<'a> {
    file: &'a str,
    key: &'a str,
    source: &'a Rc<dyn Source>,
    archive: &'a Rc<Archive>,
    index: usize,
    entry: &'a Entry,
}

impl Storage<'_> {
    /// A stored member is read in place: PyTorch can be told to leave its checksums out, which zip readers then take for damage.
    fn place(&self, offset: u64) -> Place {
        match self.entry.deflated {
            true => Place::Member { archive: self.archive.clone(), index: self.index, offset },
            false => Place::Range { source: self.source.clone(), offset: self.entry.offset + offset },
        }
    }

    /// Bytes that no tensor of the table covers.
    fn rest(&self, range: Range<u64>, name: &str, table: &mut Table) -> Result<Piece> {
        let info = checked(self.file, &table.unique(name), Dtype::Other(1), 1, &[range.end - range.start])?;
        Ok(Piece::Tensor(table.push(info, self.place(range.start), None)?))
    }

    fn pieces(&self, views: &[View], table: &mut Table, notes: &mut Vec<String>) -> Result<Vec<Piece>> {
        let Some(chosen) = choose(views) else {
            notes.push(format!(
                "`{}` is no block of memory of its own (it has gaps or overlaps with another tensor) and is kept as it is.",
                views[0].name
            ));
            return Ok(vec![self.rest(0..self.entry.size, &views[0].name, table)?]);
        };
        let mut pieces = Vec::new();
        let mut at = 0;
        for view in chosen {
            if at < view.range.start {
                pieces.push(self.rest(at..view.range.start, &format!("storage {} from {at}", self.key), table)?);
            }
            let name = if view.weights { view.name.clone() } else { table.unique(&view.name) };
            let mut info = checked(self.file, &name, view.element.dtype, view.element.size, &view.shape)?;
            info.role = if view.weights { role_without_graph(&info) } else { Role::Exact };
            let axes = view.axes.clone().flatten().filter(|_| info.shape.len() == view.shape.len());
            let index = table.push(info.clone(), self.place(view.range.start), axes.clone())?;
            pieces.push(match axes {
                Some(axes) => Piece::Permuted { tensor: index, element: info.dtype.size() as u8, shape: info.shape, axes },
                None => Piece::Tensor(index),
            });
            at = view.range.end;
        }
        if at < self.entry.size {
            pieces.push(self.rest(at..self.entry.size, &format!("storage {} from {at}", self.key), table)?);
        }
        Ok(pieces)
    }
}

/// The views that become tensors: dense ones without overlap, by position. All others must lie within one of them, or contain
/// some of them, with elements of the same type. `None` if that cannot be.
fn choose(views: &[View]) -> Option<Vec<&View>> {
    let mut order: Vec<&View> = views.iter().collect();
    // The state_dict's first; of those that contain each other the longest; of equals the first in the file.
    order.sort_by_key(|v| (!v.weights, v.range.start, std::cmp::Reverse(v.range.end)));
    let mut chosen: BTreeMap<u64, &View> = BTreeMap::new();
    for view in order {
        let mut overlapping =
            chosen.range(..view.range.end).rev().map(|(_, v)| *v).take_while(|v| v.range.end > view.range.start).peekable();
        if overlapping.peek().is_none() {
            view.axes.as_ref()?;
            chosen.insert(view.range.start, view);
        } else if !overlapping.all(|other| {
            let within = other.range.start <= view.range.start && view.range.end <= other.range.end;
            let around = view.range.start <= other.range.start && other.range.end <= view.range.end;
            (within || around) && other.element == view.element
        }) {
            return None;
        }
    }
    Some(chosen.into_values().collect())
}
