//! What remains of a model file when its tensors are taken out, and putting tensors back.
//!
//! A flat file (safetensors, ONNX, npy) is a list of pieces; a zip (npz, PyTorch) is a list of members, each a list of
//! pieces. The format's own bytes are kept, so the rebuilt file has the same graph, names, metadata and order.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::tensor::{Direction, permute};
use super::{TensorInfo, TensorReader};
use crate::error::{Error, Result, bad};

/// A run of bytes of the output file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Piece {
    /// Bytes as they stood in the original.
    Bytes(Vec<u8>),
    /// The data of this tensor of the table: C order, little-endian, in its own element type.
    Tensor(usize),
    /// The data of a tensor that the file does not hold in C order (NumPy's Fortran order, PyTorch's strides).
    Permuted {
        /// Position in the table.
        tensor: usize,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes per element.
        element: u8,
        /// Its axes in the order of the file, from slowest to fastest.
        axes: Vec<u8>,
    },
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

/// PyTorch aligns the data of its members to this many bytes, so that they can be mapped into memory. NumPy's are not aligned.
const ALIGNMENT: u16 = 64;

/// Writes the file: the skeleton with the data of `tensors` put back. One tensor is in memory at a time.
///
/// Errors: those of `tensors`; a tensor of another size than its piece; a failed write.
pub fn write(skeleton: &Skeleton, tensors: &dyn TensorReader, out: &mut dyn Write) -> Result<()> {
    match skeleton {
        Skeleton::Flat(pieces) => write_pieces(pieces, tensors, out)?,
        Skeleton::Zip(members) => {
            let mut archive = zip::ZipWriter::new_stream(out);
            for member in members {
                let method = if member.deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
                let mut options = zip::write::SimpleFileOptions::default().compression_method(method);
                if !member.deflated && !member.name.ends_with(".npy") {
                    options = options.with_alignment(ALIGNMENT);
                }
                archive.start_file(&*member.name, options).map_err(zip_failed)?;
                write_pieces(&member.pieces, tensors, &mut archive)?;
            }
            archive.finish().map_err(zip_failed)?;
        }
    }
    Ok(())
}

/// Bytes of the file that [`write()`] makes of a flat skeleton; `None` for a zip, whose members may be deflated.
/// An index outside of the table counts as nothing.
pub fn byte_len(skeleton: &Skeleton, tensors: &[TensorInfo]) -> Option<u64> {
    let Skeleton::Flat(pieces) = skeleton else { return None };
    let size = |index: usize| tensors.get(index).map_or(0, |info| info.bytes() as u64);
    Some(
        pieces
            .iter()
            .map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.len() as u64,
                Piece::Tensor(index) | Piece::Permuted { tensor: index, .. } => size(*index),
            })
            .sum(),
    )
}

fn write_pieces(pieces: &[Piece], tensors: &dyn TensorReader, out: &mut dyn Write) -> Result<()> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => out.write_all(bytes),
            Piece::Tensor(index) => out.write_all(&tensors.read(*index)?),
            Piece::Permuted { tensor, shape, element, axes } => {
                let data = tensors.read(*tensor)?;
                let size = shape.iter().try_fold(*element as usize, |n, &d| n.checked_mul(d));
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                // A skeleton out of a `.tq` file is as little to be trusted as any other input.
                if size != Some(data.len()) || !sorted.iter().map(|&a| a as usize).eq(0..shape.len()) {
                    return Err(bad("the rebuilt file", format!("tensor {tensor} does not fit its place"), "compress the model again"));
                }
                out.write_all(&permute(&data, shape, *element as usize, axes, Direction::FromC))
            }
        }
        .map_err(write_failed)?;
    }
    Ok(())
}

fn write_failed(e: std::io::Error) -> Error {
    bad("the rebuilt file", format!("it cannot be written ({e})"), "make room or choose another place")
}

fn zip_failed(e: zip::result::ZipError) -> Error {
    bad("the rebuilt file", format!("it cannot be written as a zip archive ({e})"), "make room or choose another place")
}
