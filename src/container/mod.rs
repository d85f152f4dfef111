//! The `.tq` file (docs/format.md): a model as sections with checksums, each layer a section of its own.
//!
//! ```text
//! magic and version · M meta · S skeleton · P pool of small tensors · L layer or X exact tensor, in table order … · E end
//! ```
//!
//! [`Head`] is everything that does not depend on the allocation; its size is known before any layer is coded, so that the
//! size shown for a budget is the size of the file, byte for byte. [`TqFile`] reads: it is a [`TensorReader`](crate::io::TensorReader), so a
//! model is rebuilt from it as it would be from the original.

pub mod bits;
pub mod fold;
mod frames;
mod head;
pub mod layer;
mod reader;

pub use fold::Fold;
pub use head::Head;
pub use reader::{Body, TqFile, decode};

use serde::{Deserialize, Serialize};

use crate::io::{Dtype, Format, Role, TensorInfo, tensor};

pub use crate::io::TQ_MAGIC as MAGIC;

/// Version of the format that this crate writes.
pub const VERSION: u8 = 2;

/// Kind of a section, its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The table of tensors and the layout of the skeleton: deflated JSON (docs/format.md).
    Meta = b'M',
    /// The skeleton's bytes, deflated.
    Skeleton = b'S',
    /// Small tensors, one after the other.
    Pool = b'P',
    /// A quantized layer ([`layer`]).
    Layer = b'L',
    /// A tensor bit for bit.
    Exact = b'X',
    /// The end: the number of sections before it.
    End = b'E',
}

impl Kind {
    /// The kind of a section that begins with this byte.
    pub fn of(byte: u8) -> Option<Kind> {
        [Kind::Meta, Kind::Skeleton, Kind::Pool, Kind::Layer, Kind::Exact, Kind::End].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Bytes of a section around its body: kind, 32-bit length, CRC-32.
const FRAME: u64 = 9;

/// Bytes of a section with a body of `body` bytes.
pub fn section_bytes(body: u64) -> u64 {
    body + FRAME
}

/// Bytes of the frame before the body, and the CRC-32 after it, which covers both.
fn frame(kind: Kind, body: &[u8]) -> ([u8; 5], [u8; 4]) {
    let mut start = [0; 5];
    start[0] = kind as u8;
    start[1..].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&start);
    crc.update(body);
    (start, crc.finalize().to_le_bytes())
}

/// Where a tensor's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// In the pool, as 16-bit floats.
    Half,
    /// In the pool, bit for bit.
    Pool,
    /// In a section of its own.
    Section,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    info: TensorInfo,
    place: Place,
    /// The batch norm that is folded into the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fold: Option<Fold>,
}

impl Entry {
    /// Whether both tensors of its fold are there: in the pool, with one value per output channel of the layer.
    fn fold_fits(&self, fold: &Fold, table: &[Entry]) -> bool {
        let Role::Layer(shape) = self.info.role else { return false };
        let fits = |index: usize| {
            table.get(index).is_some_and(|Entry { info, place, .. }| {
                *place != Place::Section && info.dtype.is_float() && info.elements() == shape.groups * shape.outputs
            })
        };
        fits(fold.scale) && fits(fold.variance) && fold.epsilon.is_finite() && fold.epsilon >= 0.0
    }
}

/// A tensor's bytes in its own element type, from its bytes in the pool.
fn unpooled(place: Place, bytes: &[u8], dtype: Dtype) -> Vec<u8> {
    match place {
        Place::Half => tensor::from_f32(&tensor::to_f32(bytes, Dtype::F16), dtype),
        _ => bytes.to_vec(),
    }
}

/// A piece of the skeleton ([`crate::io::skeleton::Piece`]): so many of its bytes, or a tensor of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Bytes(u64),
    Tensor(usize),
    Permuted { tensor: usize, shape: Vec<usize>, element: u8, axes: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MemberLayout {
    name: String,
    deflated: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    Flat(Vec<Part>),
    Zip(Vec<MemberLayout>),
}

/// The body of the meta section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Meta {
    name: String,
    format: Format,
    original_bytes: u64,
    tensors: Vec<Entry>,
    skeleton: Layout,
}

#[cfg(test)]
mod tests;
