//! Writing: the parts of a `.tq` that no allocation changes, and the whole file.

use std::{collections::HashMap, io::Write, ops::Range, sync::Arc};

use flate2::{Compression, write::DeflateEncoder};
use half::f16;

use super::{Entry, Fold, Kind, Layout, MAGIC, MemberLayout, Meta, Part, Place, VERSION, fold, frame, section_bytes, unpooled};
use crate::{
    error::{Error, Result},
    io::{
        Model, Role, TensorInfo,
        skeleton::{Piece, Skeleton},
        tensor,
    },
};

/// Larger tensors that are kept bit for bit get a section of their own, to be streamed.
const POOLED: usize = 1 << 16;

/// Everything of a `.tq` but the layers and large exact tensors, encoded.
#[derive(Debug)]
pub struct Head {
    meta: Vec<u8>,
    skeleton: Vec<u8>,
    pool: Vec<u8>,
    /// Tensors with a section of their own, in table order.
    sections: Vec<usize>,
    /// Bytes of the file that are not layer sections.
    other_bytes: u64,
    /// Tensors kept as 16-bit floats.
    half_tensors: usize,
    /// Factors of the output channels of folded layers, by tensor.
    factors: HashMap<usize, Arc<[f32]>>,
    /// Where tensors are, in table order.
    places: Vec<Place>,
    /// The batch norms that [`Head::new`] was given.
    folds: Vec<(usize, Fold)>,
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    let mut encoder = DeflateEncoder::new(&mut out, Compression::best());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes).and_then(|()| encoder.try_finish());
    drop(encoder);
    out
}

/// Whether a tensor is a small one of floats, which is kept in the pool.
fn is_small(info: &TensorInfo) -> bool {
    info.role == Role::Small && info.dtype.is_float()
}

/// The values as 16-bit floats, if these are as good as needed: all finite, and off by no more than 2⁻¹¹ of the greatest.
fn to_half(info: &TensorInfo, bytes: &[u8]) -> Option<Vec<u8>> {
    if !is_small(info) || info.dtype.size() < 4 {
        return None;
    }
    let values = tensor::to_f32(bytes, info.dtype);
    let max = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let mut out = Vec::with_capacity(2 * values.len());
    for v in values {
        let h = f16::from_f32(v);
        // Also false for NaN.
        if !((h.to_f32() - v).abs() <= max / 2048.0 && h.is_finite()) {
            return None;
        }
        out.extend_from_slice(&h.to_le_bytes());
    }
    Some(out)
}

impl Head {
    /// Reads the small tensors of a model and encodes all that is not a layer. `folds` are the batch norms after layers, by the index
    /// of the layer's tensor; those that cannot be divided by again are left out ([`Head::factors`]).
    pub fn new(model: &Model, folds: &[(usize, Fold)]) -> Result<Head> {
        Head::build(model, folds, &[], &|_| true)
    }

    /// The same with other values for some small tensors, by index in the table; those that were replaced before are the model's again. What
    /// was no 16-bit float stays none, so the size stays what it is, unless new values have no room in 16 bits.
    ///
    /// # Errors
    /// An index that is no small tensor of floats, or is a scale or variance that layers are folded with; another number of values;
    /// those of reading.
    pub fn with_small(&self, model: &Model, small: &[(usize, Vec<f32>)]) -> Result<Head> {
        for (index, values) in small {
            let name = model.tensors.get(*index).map_or("", |info| &info.name);
            let fits = model.tensors.get(*index).is_some_and(|info| info.elements() == values.len() && is_small(info));
            if !fits {
                return Err(Error::Setting(format!("Tensor {index} `{name}` does not take {} other values.", values.len())));
            }
            if self.folds.iter().any(|(_, fold)| [fold.scale, fold.variance].contains(index)) {
                return Err(Error::Setting(format!("`{name}` cannot have other values: layers are coded with it folded in.")));
            }
        }
        Head::build(model, &self.folds, small, &|index| self.places[index] == Place::Half)
    }

    /// What a file keeps of other values for a small tensor ([`Head::with_small`]).
    pub fn kept(&self, info: &TensorInfo, index: usize, values: &[f32]) -> Vec<f32> {
        let bytes = tensor::from_f32(values, info.dtype);
        let half = if self.places.get(index) == Some(&Place::Half) { to_half(info, &bytes) } else { None };
        match half {
            Some(half) => tensor::to_f32(&unpooled(Place::Half, &half, info.dtype), info.dtype),
            None => tensor::to_f32(&bytes, info.dtype),
        }
    }

    /// With the values of `small` instead of the model's. `may_be_half` says which tensors may be 16-bit floats.
    fn build(model: &Model, folds: &[(usize, Fold)], small: &[(usize, Vec<f32>)], may_be_half: &dyn Fn(usize) -> bool) -> Result<Head> {
        let mut pool = Vec::new();
        let mut sections = Vec::new();
        let mut entries = Vec::new();
        // Where tensors are in the pool.
        let mut pooled: Vec<Range<usize>> = Vec::new();
        let mut exact_bytes = 0;
        let mut half_tensors = 0;
        for (index, info) in model.tensors.iter().enumerate() {
            let is_layer = matches!(info.role, Role::Layer(_));
            let start = pool.len();
            let place = if is_layer || info.bytes() > POOLED && info.role == Role::Exact {
                sections.push(index);
                if !is_layer {
                    exact_bytes += section_bytes(info.bytes() as u64);
                }
                Place::Section
            } else {
                let bytes = match small.iter().find(|s| s.0 == index) {
                    Some((_, values)) => tensor::from_f32(values, info.dtype),
                    None => model.reader.read(index)?,
                };
                match to_half(info, &bytes).filter(|_| may_be_half(index)) {
                    Some(mut half) => {
                        pool.append(&mut half);
                        half_tensors += 1;
                        Place::Half
                    }
                    None => {
                        pool.extend_from_slice(&bytes);
                        Place::Pool
                    }
                }
            };
            pooled.push(start..pool.len());
            entries.push(Entry { info: info.clone(), place, fold: None });
        }
        let mut factors = HashMap::new();
        for &(index, fold) in folds {
            if !entries.get(index).is_some_and(|entry| entry.fold_fits(&fold, &entries)) {
                continue;
            }
            // As a decoder will have them.
            let [gamma, variance] = [fold.scale, fold.variance].map(|i| {
                let Entry { info, place, .. } = &entries[i];
                tensor::to_f32(&unpooled(*place, &pool[pooled[i].clone()], info.dtype), info.dtype)
            });
            if let Some(s) = fold::factors(&gamma, &variance, fold.epsilon) {
                entries[index].fold = Some(fold);
                factors.insert(index, s.into());
            }
        }
        let places = entries.iter().map(|entry| entry.place).collect();
        let mut bytes = Vec::new();
        let mut parts = |pieces: &[Piece]| -> Vec<Part> {
            pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Bytes(b) => {
                        bytes.extend_from_slice(b);
                        Part::Bytes(b.len() as u64)
                    }
                    Piece::Tensor(index) => Part::Tensor(*index),
                    Piece::Permuted { tensor, shape, element, axes } => {
                        Part::Permuted { tensor: *tensor, shape: shape.clone(), element: *element, axes: axes.clone() }
                    }
                })
                .collect()
        };
        let layout = match &model.skeleton {
            Skeleton::Flat(pieces) => Layout::Flat(parts(pieces)),
            Skeleton::Zip(members) => Layout::Zip(
                members.iter().map(|m| MemberLayout { name: m.name.clone(), deflated: m.deflated, parts: parts(&m.pieces) }).collect(),
            ),
        };
        let meta =
            Meta { name: model.name.clone(), format: model.format, original_bytes: model.file_bytes, tensors: entries, skeleton: layout };
        let meta = deflate(&serde_json::to_vec(&meta).expect("the table of tensors is plain data"));
        let skeleton = deflate(&bytes);
        let framed = [meta.len(), skeleton.len(), pool.len(), 4].iter().map(|&n| section_bytes(n as u64)).sum::<u64>();
        let other_bytes = MAGIC.len() as u64 + 1 + framed + exact_bytes;
        Ok(Head { meta, skeleton, pool, sections, other_bytes, half_tensors, factors, places, folds: folds.to_vec() })
    }

    /// Bytes of the file that are not layer sections.
    pub fn other_bytes(&self) -> u64 {
        self.other_bytes
    }

    /// How many small tensors are kept as 16-bit floats.
    pub fn half_tensors(&self) -> usize {
        self.half_tensors
    }

    /// The factor of each output channel of a layer that is folded, by its tensor: what is coded is [`fold::fold`] of the weights.
    pub fn factors(&self, tensor: usize) -> Option<&Arc<[f32]>> {
        self.factors.get(&tensor)
    }

    /// Writes the file. `layer` gives the encoded body of a layer by its tensor's index, or nothing for one that is kept bit
    /// for bit. Returns the number of bytes.
    pub fn write<'a>(&self, model: &Model, layer: &dyn Fn(usize) -> Option<&'a [u8]>, out: &mut dyn Write) -> Result<u64> {
        let failed = |e: std::io::Error| Error::Setting(format!("The file could not be written: {e}."));
        let mut bytes = MAGIC.len() as u64 + 1;
        out.write_all(&MAGIC).and_then(|()| out.write_all(&[VERSION])).map_err(failed)?;
        let mut put = |kind: Kind, body: &[u8]| -> Result<()> {
            let (start, end) = frame(kind, body);
            for part in [&start[..], body, &end[..]] {
                out.write_all(part).map_err(failed)?;
                bytes += part.len() as u64;
            }
            Ok(())
        };
        put(Kind::Meta, &self.meta)?;
        put(Kind::Skeleton, &self.skeleton)?;
        put(Kind::Pool, &self.pool)?;
        for &index in &self.sections {
            match layer(index) {
                Some(body) => put(Kind::Layer, body)?,
                None => put(Kind::Exact, &model.reader.read(index)?)?,
            }
        }
        put(Kind::End, &(3 + self.sections.len() as u32).to_le_bytes())?;
        Ok(bytes)
    }
}
