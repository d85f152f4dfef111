//! What remains of a model file when its tensors are taken out, and putting tensors back.
//!
//! A flat file (safetensors, ONNX, npy) is a list of pieces; a zip (npz, PyTorch) is a list of members, each a list of
//! pieces. The format's own bytes are kept, so the rebuilt file has the same graph, names, metadata and order.

use serde::{Deserialize, Serialize};

/// A run of bytes of the output file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Piece {
    /// Bytes as they stood in the original.
    Bytes(Vec<u8>),
    /// The data of this tensor of the table: C order, little-endian, in its own element type.
    Tensor(usize),
}

/// A member of a zip archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its path in the archive.
    pub name: String,
    /// Whether it was (and will be) deflated.
    pub deflated: bool,
    /// Its content.
    pub pieces: Vec<Piece>,
}

/// A model file without its tensor data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Skeleton {
    /// One run of pieces.
    Flat(Vec<Piece>),
    /// A zip archive.
    Zip(Vec<Member>),
}
