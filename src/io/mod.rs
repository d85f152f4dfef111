//! Files in, files out: one file per format, recognised by content, never by file name alone.
//!
//! [`open`] turns sources into a [`Model`]: a table of tensors, what each of them is for, and a [`Skeleton`]: everything of
//! the file that is not tensor data. Tensor data stays in the source and is read one tensor at a time ([`TensorReader::read`],
//! [`Model::read_layer`]); [`skeleton::write`] puts tensors back into the skeleton, which gives a file of the same format.

pub(crate) mod npy;
mod npz;
mod onnx;
mod pickle;
mod pth;
mod recognise;
pub mod safetensors;
pub mod skeleton;
pub mod source;
mod table;
pub mod tensor;
pub(crate) mod zip;

pub use recognise::open;

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use skeleton::Skeleton;

/// Random access to a file: a path natively, a `File` handle in the browser's worker, bytes in tests.
pub trait Source {
    /// The file's name, without its path.
    fn name(&self) -> &str;
    /// Its length in bytes.
    fn len(&self) -> u64;
    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` from `offset`. An error when the range is not inside the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
}

/// The first bytes of every `.tq`, followed by a version byte. Not text, and damaged by transfers that treat it as text.
pub const TQ_MAGIC: [u8; 7] = *b"\x89TQ\r\n\x1a\n";

/// The container format of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// ONNX.
    Onnx,
    /// One NumPy array.
    Npy,
    /// A zip of NumPy arrays.
    Npz,
    /// A PyTorch zip checkpoint.
    Pth,
}

impl Format {
    /// The name in reports: `onnx`, `safetensors`, `npz`, `npy` or `pth`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Onnx => "onnx",
            Format::Npy => "npy",
            Format::Npz => "npz",
            Format::Pth => "pth",
        }
    }
}

/// Element type of a stored tensor, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 16-bit IEEE float.
    F16,
    /// bfloat16.
    Bf16,
    /// 32-bit IEEE float.
    F32,
    /// 64-bit IEEE float.
    F64,
    /// Anything else of this many bytes per element: never decoded, passed through untouched.
    Other(u8),
}

/// How the two channel axes of a layer's tensor are laid out. Kernel axes always come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// `[out, in, kernel…]`: convolutions, PyTorch's dense layers, Gemm with `transB`.
    OutIn,
    /// `[in, out, kernel…]`: transposed convolutions, MatMul, Gemm without `transB`.
    InOut,
}

/// A layer's weights as the method sees them (method.md, section 1): `groups` stacked `n×m×K` arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerShape {
    /// Independent groups stacked along the first axis of the tensor (`group` of a convolution); 1 otherwise.
    pub groups: usize,
    /// Output channels per group, `n`.
    pub outputs: usize,
    /// Input channels per group, `m`.
    pub inputs: usize,
    /// Kernel positions `K = a·b`; 1 for a dense layer.
    pub taps: usize,
    /// Columns `b` of its `a×b` kernels; 0 where that is not known, or kernels have more than two axes. Follows from the tensor's shape
    /// ([`LayerShape::with_kernel`]) and is not stored.
    #[serde(skip)]
    pub columns: usize,
    /// Layout of the tensor.
    pub order: Order,
}

impl LayerShape {
    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.groups * self.outputs * self.inputs * self.taps
    }

    /// The same with the kernel that a tensor of this shape has: its axes from the third on, if these are one or two and have
    /// [`LayerShape::taps`] positions. One axis is a kernel of one row; without any it is `1×1`.
    pub fn with_kernel(self, tensor: &[usize]) -> LayerShape {
        let columns = match *tensor {
            [_, _, columns] if columns == self.taps => columns,
            [_, _, rows, columns] if rows.checked_mul(columns) == Some(self.taps) => columns,
            _ => usize::from(self.taps == 1),
        };
        LayerShape { columns, ..self }
    }

    /// Rows and columns of its kernels, where they are known.
    pub fn kernel(&self) -> Option<[usize; 2]> {
        let known = self.columns > 0 && self.taps.is_multiple_of(self.columns);
        known.then(|| [self.taps / self.columns, self.columns])
    }
}

/// What a tensor is for, hence how it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Weights of a layer: transformed and quantized.
    Layer(LayerShape),
    /// A bias or normalisation parameter: kept as a 16-bit float where that is accurate.
    Small,
    /// Kept bit for bit: integers, scalars, constants of a graph.
    Exact,
}

/// A tensor of a model, without its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape as stored.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl TensorInfo {
    /// Number of elements. The shape was checked by [`crate::limits::element_count`] when it was read.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
    /// Bytes of the tensor in its element type.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

impl Dtype {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::Other(n) => n as usize,
        }
    }
    /// Whether this is a float type whose values can be quantized.
    pub fn is_float(self) -> bool {
        !matches!(self, Dtype::Other(_))
    }
}

/// Reads one tensor's bytes: C order, little-endian, in its own element type, exactly [`TensorInfo::bytes`] long.
pub trait TensorReader {
    /// Reads tensor `index` of the table.
    fn read(&self, index: usize) -> Result<Vec<u8>>;
}

/// A model file, opened: everything but the tensor data, which is read on demand.
pub struct Model {
    /// Name of the main file, without its path.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// Bytes of all files that belong to it.
    pub file_bytes: u64,
    /// All tensors, in file order. Aliases (tied weights) appear once.
    pub tensors: Vec<TensorInfo>,
    /// All that is not tensor data.
    pub skeleton: Skeleton,
    /// Where the data is.
    pub reader: Rc<dyn TensorReader>,
    /// What the user should know about this file, one sentence each.
    pub notes: Vec<String>,
    /// The network, where the file holds one.
    pub graph: Option<Rc<crate::graph::Graph>>,
}
