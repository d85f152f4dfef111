//! Reading a `.tq`: untrusted, so everything is checked before it is believed, and allocated after it is checked.

use std::{cell::RefCell, io::Read, rc::Rc, sync::Arc};

use flate2::read::DeflateDecoder;

use super::{
    Entry, Fold, Kind, Layout, MAGIC, Meta, Part, Place, VERSION, fold,
    frames::{self, Section, read_section},
    layer, unpooled,
};
use crate::{
    error::{Error, FETCH_AGAIN, Result, bad},
    io::{
        Format, LayerShape, Role, Source, TensorInfo, TensorReader,
        skeleton::{Member, Piece, Skeleton},
        tensor,
    },
    limits,
};

/// An opened `.tq`: its table and skeleton; sections are read and checked one at a time.
pub struct TqFile {
    /// Name of the original file.
    pub original_name: String,
    /// Format of the original file.
    pub format: Format,
    /// Bytes of the original file.
    pub original_bytes: u64,
    /// The original's tensors.
    pub tensors: Vec<TensorInfo>,
    /// The original without its tensors.
    pub skeleton: Skeleton,
    source: Rc<dyn Source>,
    places: Vec<Place>,
    folds: Vec<Option<Fold>>,
    /// For each tensor: its section, or offset and length within the pool; nothing where a damaged file has no such section.
    ranges: Vec<Option<Section>>,
    pool: RefCell<Option<Rc<Vec<u8>>>>,
    pool_range: (u64, u64),
}

/// A body that was read and checked, ready to be decoded on any thread.
pub enum Body {
    /// A quantized layer.
    Layer(Vec<u8>),
    /// A quantized layer with the batch norm after it folded in, and the factor of each output channel.
    Folded(Vec<u8>, Arc<[f32]>),
    /// The tensor's bytes.
    Exact(Vec<u8>),
}

impl TqFile {
    /// Reads the table and the skeleton. Bodies of layers are not read.
    pub fn open(source: Rc<dyn Source>) -> Result<TqFile> {
        let sections = frames::scan(checked(&*source)?)?;
        TqFile::with(source, sections.into_iter().map(Some).collect())
    }

    /// The same of a damaged file, as long as its table and skeleton are whole: a tensor whose section is damaged or missing is an error only when
    /// it is read. All of the file is read, to find its sections.
    pub fn recover(source: Rc<dyn Source>) -> Result<TqFile> {
        let sections = frames::recover(checked(&*source)?)?;
        TqFile::with(source, sections)
    }

    /// With the file's sections; `None` where some number of them are lost.
    fn with(source: Rc<dyn Source>, sections: Vec<Option<Section>>) -> Result<TqFile> {
        let name = source.name().to_string();
        let wrong = |reason: &str| bad(&name, reason, FETCH_AGAIN);
        let [
            Some((Kind::Meta, meta_at, meta_len)),
            Some((Kind::Skeleton, skeleton_at, skeleton_len)),
            Some((Kind::Pool, pool_at, pool_len)),
            rest @ ..,
        ] = &sections[..]
        else {
            return Err(wrong("its meta, skeleton and pool sections are not where they belong"));
        };
        let meta = inflate(&*source, "meta", read_section(&*source, Kind::Meta, *meta_at, *meta_len)?)?;
        let mut meta: Meta =
            serde_json::from_slice(&meta).map_err(|e| wrong(&format!("its meta section cannot be read ({e})")).tensor("meta"))?;
        check_table(&*source, &meta)?;
        for Entry { info, .. } in &mut meta.tensors {
            if let Role::Layer(layer) = &mut info.role {
                *layer = layer.with_kernel(&info.shape);
            }
        }
        let expected = meta.tensors.iter().filter(|e| e.place == Place::Section).count();
        let rest = filled(rest, expected).ok_or_else(|| wrong("its sections do not fit its table of tensors"))?;
        let damaged = rest.contains(&None);
        let mut rest = rest.into_iter();
        let mut pooled = 0u64;
        let mut ranges = Vec::with_capacity(meta.tensors.len());
        for Entry { info, place, .. } in &meta.tensors {
            let elements = info.elements() as u64;
            let range = match place {
                Place::Section => rest.next().flatten(),
                Place::Half => Some((Kind::Pool, pooled, 2 * elements)),
                Place::Pool => Some((Kind::Pool, pooled, info.bytes() as u64)),
            };
            ranges.push(match range {
                Some((Kind::Pool, _, len)) => {
                    pooled += len;
                    range
                }
                Some((Kind::Layer, ..)) if matches!(info.role, Role::Layer(_)) && info.dtype.is_float() => range,
                Some((Kind::Exact, _, len)) if len == info.bytes() as u64 => range,
                _ if damaged => None,
                _ => return Err(wrong("its section does not fit its shape").tensor(&info.name)),
            });
        }
        if pooled != *pool_len {
            return Err(wrong("its sections do not fit its table of tensors"));
        }
        let bytes = inflate(&*source, "skeleton", read_section(&*source, Kind::Skeleton, *skeleton_at, *skeleton_len)?)?;
        let skeleton = skeleton(&meta.skeleton, &bytes, meta.tensors.len()).ok_or_else(|| wrong("its skeleton does not fit its layout"))?;
        let places = meta.tensors.iter().map(|e| e.place).collect();
        let folds = meta.tensors.iter().map(|e| e.fold).collect();
        Ok(TqFile {
            original_name: meta.name,
            format: meta.format,
            original_bytes: meta.original_bytes,
            tensors: meta.tensors.into_iter().map(|e| e.info).collect(),
            skeleton,
            places,
            folds,
            ranges,
            pool: RefCell::new(None),
            pool_range: (*pool_at, *pool_len),
            source,
        })
    }

    /// Reads a tensor's body and checks its checksum. Decoding it needs no file: see [`decode`].
    pub fn body(&self, index: usize) -> Result<Body> {
        let name = &self.tensors[index].name;
        let (kind, at, len) = self.range(index)?;
        let section = |kind| read_section(&*self.source, kind, at, len).map_err(|e| e.tensor(name));
        match kind {
            Kind::Layer => {
                let body = section(Kind::Layer)?;
                Ok(match self.factors(index)? {
                    Some(factors) => Body::Folded(body, factors),
                    None => Body::Layer(body),
                })
            }
            Kind::Exact => section(Kind::Exact).map(Body::Exact),
            _ => Ok(Body::Exact(self.small(index).map_err(|e| e.tensor(name))?)),
        }
    }

    fn range(&self, index: usize) -> Result<Section> {
        self.ranges[index].ok_or_else(|| self.damaged(index, "its section is damaged or missing".into()))
    }

    /// A tensor of the pool, in its own element type.
    fn small(&self, index: usize) -> Result<Vec<u8>> {
        let (_, at, len) = self.range(index)?;
        let pool = self.pool()?;
        Ok(unpooled(self.places[index], &pool[at as usize..(at + len) as usize], self.tensors[index].dtype))
    }

    /// The factor of each output channel of a folded layer. Its tensors were checked when the table was read.
    fn factors(&self, index: usize) -> Result<Option<Arc<[f32]>>> {
        let Some(Fold { scale, variance, epsilon }) = self.folds[index] else { return Ok(None) };
        let values = |i: usize| Ok(tensor::to_f32(&self.small(i)?, self.tensors[i].dtype));
        let factors = fold::factors(&values(scale)?, &values(variance)?, epsilon);
        let reason =
            || self.damaged(index, format!("the batch norm `{}` that it is folded with cannot be taken out", self.tensors[scale].name));
        factors.map(|f| Some(f.into())).ok_or_else(reason)
    }

    /// Whether the batch norm after a layer is folded into it.
    pub fn is_folded(&self, index: usize) -> bool {
        self.folds[index].is_some() && self.is_coded(index)
    }

    /// What a layer's section holds, and its bytes, if it is a quantized one.
    pub fn layer(&self, index: usize) -> Result<Option<(layer::Read, u64)>> {
        let (Role::Layer(shape), (Kind::Layer, _, len)) = (self.tensors[index].role, self.range(index)?) else { return Ok(None) };
        let (Body::Layer(body) | Body::Folded(body, _)) = self.body(index)? else { return Ok(None) };
        let read = layer::read(&body, &shape).map_err(|reason| self.damaged(index, reason))?;
        Ok(Some((read, super::section_bytes(len))))
    }

    /// Whether a tensor is a quantized layer.
    pub fn is_coded(&self, index: usize) -> bool {
        self.ranges[index].is_some_and(|range| range.0 == Kind::Layer)
    }

    fn damaged(&self, index: usize, reason: String) -> Error {
        bad(self.source.name(), reason, FETCH_AGAIN).tensor(&self.tensors[index].name)
    }

    /// Name of the `.tq` file.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Bytes of the `.tq` file.
    pub fn file_bytes(&self) -> u64 {
        self.source.len()
    }

    fn pool(&self) -> Result<Rc<Vec<u8>>> {
        if let Some(pool) = &*self.pool.borrow() {
            return Ok(pool.clone());
        }
        let pool = Rc::new(read_section(&*self.source, Kind::Pool, self.pool_range.0, self.pool_range.1)?);
        *self.pool.borrow_mut() = Some(pool.clone());
        Ok(pool)
    }
}

/// A source that begins as a `.tq` does, of a version that is known.
fn checked(source: &dyn Source) -> Result<&dyn Source> {
    let name = source.name();
    let mut magic = [0; 8];
    if source.len() < 8 {
        return Err(bad(name, "it is too short for a .tq file", FETCH_AGAIN));
    }
    source.read_at(0, &mut magic)?;
    if magic[..7] != MAGIC {
        return Err(bad(name, "it is not a .tq file", "choose a file that Waterfill wrote"));
    }
    if magic[7] > VERSION {
        return Err(bad(name, format!("it has format version {}, this program reads up to {VERSION}", magic[7]), "use a newer Waterfill"));
    }
    Ok(source)
}

/// Where the section of each of `expected` tensors is: a gap is filled as far as there is one way to do it. None if there is not.
fn filled(found: &[Option<Section>], expected: usize) -> Option<Vec<Option<Section>>> {
    let gaps = found.iter().filter(|s| s.is_none()).count();
    let missing = (expected + gaps).checked_sub(found.len())?;
    let per_gap = match gaps {
        0 if missing == 0 => 0,
        1 => missing,
        _ if gaps > 0 && gaps == missing => 1,
        _ => return None,
    };
    Some(found.iter().flat_map(|section| std::iter::repeat_n(*section, if section.is_none() { per_gap } else { 1 })).collect())
}

/// Decodes a body to the tensor's bytes in its own element type. The error is a clause that says what is wrong.
pub fn decode(body: Body, info: &TensorInfo) -> std::result::Result<Vec<u8>, String> {
    let (body, factors) = match body {
        Body::Layer(body) => (body, None),
        Body::Folded(body, factors) => (body, Some(factors)),
        Body::Exact(bytes) => return Ok(bytes),
    };
    let Role::Layer(shape) = info.role else { return Err("it is not a layer but coded as one".into()) };
    if layer::is_folded(&body) != factors.is_some() {
        return Err("its section and the table disagree about its batch norm".into());
    }
    let mut canonical = layer::decode(&body, &shape)?;
    if let Some(factors) = factors {
        fold::unfold(&mut canonical, &factors);
    }
    Ok(tensor::from_f32(&tensor::stored(&shape, &canonical), info.dtype))
}

impl TensorReader for TqFile {
    fn read(&self, index: usize) -> Result<Vec<u8>> {
        decode(self.body(index)?, &self.tensors[index]).map_err(|reason| self.damaged(index, reason))
    }
}

fn inflate(source: &dyn Source, what: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    let wrong = |reason: String| bad(source.name(), reason, FETCH_AGAIN).tensor(what);
    let Some((size, deflated)) = body.split_first_chunk::<8>() else { return Err(wrong("it is too short".into())) };
    let size = u64::from_le_bytes(*size);
    if size > limits::HEADER || size > limits::INFLATION * (deflated.len() as u64 + 1) {
        return Err(wrong(format!("it claims to inflate to {size} bytes")));
    }
    let mut out = Vec::with_capacity(size as usize);
    DeflateDecoder::new(deflated).take(size + 1).read_to_end(&mut out).map_err(|e| wrong(format!("it cannot be inflated ({e})")))?;
    if out.len() as u64 != size {
        return Err(wrong(format!("it inflates to {} bytes where {size} were announced", out.len())));
    }
    Ok(out)
}

/// Shapes, roles and names must be consistent, and the whole must not be absurdly larger than the file.
fn check_table(source: &dyn Source, meta: &Meta) -> Result<()> {
    let wrong = |reason: &str, name: &str| bad(source.name(), reason, FETCH_AGAIN).tensor(name);
    if meta.tensors.len() > limits::TENSORS {
        return Err(wrong("it lists too many tensors", "meta"));
    }
    let mut total = 0u64;
    for entry @ Entry { info, place, fold } in &meta.tensors {
        let name = &info.name;
        let elements = limits::element_count(&info.shape).ok_or_else(|| wrong("its shape is too large", name))?;
        let mut size = elements;
        if let Role::Layer(LayerShape { groups, outputs, inputs, taps, .. }) = info.role {
            if limits::element_count(&[groups, outputs, inputs, taps]) != Some(elements) || *place != Place::Section {
                return Err(wrong("its layer does not fit its shape", name));
            }
            // Side information is of channels and taps, whether they have weights or not.
            for side in [&[groups, outputs][..], &[groups, inputs], &[taps]] {
                size = size.max(limits::element_count(side).ok_or_else(|| wrong("its shape is too large", name))?);
            }
        }
        total += size as u64;
        if fold.as_ref().is_some_and(|fold| !entry.fold_fits(fold, &meta.tensors)) {
            return Err(wrong("its batch norm does not fit it", name));
        }
        if *place == Place::Half && !info.dtype.is_float() {
            return Err(wrong("it is kept as a float but is none", name));
        }
    }
    if total > limits::EXPANSION * source.len() {
        return Err(bad(source.name(), format!("it claims {total} weights in {} bytes", source.len()), FETCH_AGAIN));
    }
    Ok(())
}

/// The skeleton of a layout. Every tensor stands in it at most once: a small file must not ask for an endless one.
fn skeleton(layout: &Layout, bytes: &[u8], tensors: usize) -> Option<Skeleton> {
    let mut at = 0usize;
    let mut used = vec![false; tensors];
    let mut once = |tensor: usize| used.get_mut(tensor).is_some_and(|used| !std::mem::replace(used, true));
    let mut pieces = |parts: &[Part]| -> Option<Vec<Piece>> {
        parts
            .iter()
            .map(|part| match part {
                Part::Bytes(n) => {
                    let piece = bytes.get(at..at.checked_add(usize::try_from(*n).ok()?)?)?;
                    at += piece.len();
                    Some(Piece::Bytes(piece.to_vec()))
                }
                Part::Tensor(index) => once(*index).then_some(Piece::Tensor(*index)),
                Part::Permuted { tensor, shape, element, axes } => {
                    once(*tensor).then(|| Piece::Permuted { tensor: *tensor, shape: shape.clone(), element: *element, axes: axes.clone() })
                }
            })
            .collect()
    };
    let skeleton = match layout {
        Layout::Flat(parts) => Skeleton::Flat(pieces(parts)?),
        Layout::Zip(members) => Skeleton::Zip(
            members
                .iter()
                .map(|m| Some(Member { name: m.name.clone(), deflated: m.deflated, pieces: pieces(&m.parts)? }))
                .collect::<Option<_>>()?,
        ),
    };
    (at == bytes.len()).then_some(skeleton)
}
