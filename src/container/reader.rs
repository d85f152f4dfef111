//! Reading a `.tq`: untrusted, so everything is checked before it is believed, and allocated after it is checked.

use std::{cell::RefCell, io::Read, rc::Rc, sync::Arc};

use flate2::read::DeflateDecoder;

use super::{Entry, Fold, Kind, Layout, MAGIC, Meta, Part, Place, VERSION, fold, layer, unpooled};
use crate::{
    error::{Error, FETCH_AGAIN, Result, bad},
    io::{
        Format, Role, Source, TensorInfo, TensorReader,
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
    /// For each tensor: its section (kind, offset and length of the body), or offset and length within the pool.
    ranges: Vec<(Kind, u64, u64)>,
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
        let name = source.name().to_string();
        let wrong = |reason: &str| bad(&name, reason, FETCH_AGAIN);
        let mut magic = [0; 8];
        if source.len() < 8 {
            return Err(wrong("it is too short for a .tq file"));
        }
        source.read_at(0, &mut magic)?;
        if magic[..7] != MAGIC {
            return Err(bad(&name, "it is not a .tq file", "choose a file that Waterfill wrote"));
        }
        if magic[7] > VERSION {
            return Err(bad(
                &name,
                format!("it has format version {}, this program reads up to {VERSION}", magic[7]),
                "use a newer Waterfill",
            ));
        }
        let sections = scan(&*source)?;
        let [(Kind::Meta, meta_at, meta_len), (Kind::Skeleton, skeleton_at, skeleton_len), (Kind::Pool, pool_at, pool_len), rest @ ..] =
            &sections[..]
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
        let mut rest = rest.iter();
        let mut pooled = 0u64;
        let mut ranges = Vec::with_capacity(meta.tensors.len());
        for Entry { info, place, .. } in &meta.tensors {
            let elements = info.elements() as u64;
            let range = match place {
                Place::Section => *rest.next().ok_or_else(|| wrong("its section is missing").tensor(&info.name))?,
                Place::Half => (Kind::Pool, pooled, 2 * elements),
                Place::Pool => (Kind::Pool, pooled, info.bytes() as u64),
            };
            match range {
                (Kind::Pool, _, len) => pooled += len,
                (Kind::Layer, ..) if matches!(info.role, Role::Layer(_)) && info.dtype.is_float() => {}
                (Kind::Exact, _, len) if len == info.bytes() as u64 => {}
                _ => return Err(wrong("its section does not fit its shape").tensor(&info.name)),
            }
            ranges.push(range);
        }
        if pooled != *pool_len || rest.next().is_some() {
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
        let (kind, at, len) = self.ranges[index];
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
            _ => Ok(Body::Exact(self.small(index)?)),
        }
    }

    /// A tensor of the pool, in its own element type.
    fn small(&self, index: usize) -> Result<Vec<u8>> {
        let (_, at, len) = self.ranges[index];
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
        let (Role::Layer(shape), (Kind::Layer, _, len)) = (self.tensors[index].role, self.ranges[index]) else { return Ok(None) };
        let (Body::Layer(body) | Body::Folded(body, _)) = self.body(index)? else { return Ok(None) };
        let read = layer::read(&body, &shape).map_err(|reason| self.damaged(index, reason))?;
        Ok(Some((read, super::section_bytes(len))))
    }

    /// Whether a tensor is a quantized layer.
    pub fn is_coded(&self, index: usize) -> bool {
        self.ranges[index].0 == Kind::Layer
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

/// Walks over the frames: kind, offset and length of every body. The last one is the end section, which is not in the list.
fn scan(source: &dyn Source) -> Result<Vec<(Kind, u64, u64)>> {
    let wrong = |reason: String| bad(source.name(), reason, FETCH_AGAIN);
    let mut sections = Vec::new();
    let mut at = 8;
    loop {
        if sections.len() > limits::TENSORS + 3 {
            return Err(wrong(format!("it has more than {} sections", limits::TENSORS)));
        }
        let mut start = [0; 5];
        if source.len() - at < super::FRAME {
            return Err(wrong(format!("it ends at byte {} within a section", source.len())));
        }
        source.read_at(at, &mut start)?;
        let kind = match start[0] {
            b'M' => Kind::Meta,
            b'S' => Kind::Skeleton,
            b'P' => Kind::Pool,
            b'L' => Kind::Layer,
            b'X' => Kind::Exact,
            b'E' => Kind::End,
            other => return Err(wrong(format!("its section at byte {at} has the unknown kind {other}"))),
        };
        let len = u64::from(u32::from_le_bytes([start[1], start[2], start[3], start[4]]));
        if len > source.len() - at - super::FRAME {
            return Err(wrong(format!("its section at byte {at} claims {len} bytes, past the end of the file")));
        }
        if kind == Kind::End {
            let count = read_section(source, kind, at + 5, len)?;
            if count != (sections.len() as u32).to_le_bytes() || at + len + super::FRAME != source.len() {
                return Err(wrong("it does not end where its end section says".into()));
            }
            return Ok(sections);
        }
        sections.push((kind, at + 5, len));
        at += len + super::FRAME;
    }
}

/// Reads a body of a frame that [`scan`] found, and checks its checksum.
fn read_section(source: &dyn Source, kind: Kind, at: u64, len: u64) -> Result<Vec<u8>> {
    let mut body = vec![0; len as usize + 4];
    source.read_at(at, &mut body)?;
    let crc = body.split_off(len as usize);
    if super::frame(kind, &body).1 != crc[..] {
        return Err(bad(source.name(), format!("the section at byte {} is damaged (its checksum differs)", at - 5), FETCH_AGAIN));
    }
    Ok(body)
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
        total += elements as u64;
        if let Role::Layer(shape) = info.role {
            let factors = [shape.groups, shape.outputs, shape.inputs, shape.taps];
            if limits::element_count(&factors) != Some(elements) || *place != Place::Section {
                return Err(wrong("its layer does not fit its shape", name));
            }
        }
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
