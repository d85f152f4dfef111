//! The table of tensors while a file is read: every claim is checked here, once, for all formats.

use std::collections::HashSet;
use std::rc::Rc;

use super::source::{inside, read_vec};
use super::tensor::{Direction, permute};
use super::zip::Archive;
use super::{Dtype, LayerShape, Order, Role, Source, TensorInfo, TensorReader, onnx};
use crate::error::{FETCH_AGAIN, Result, bad};
use crate::limits;

/// Most bytes of one tensor: that of [`limits::WEIGHTS`] f64, and what a 32-bit `usize` can still address.
const TENSOR_BYTES: u64 = limits::WEIGHTS * 8;

/// Where a tensor's bytes are.
pub(crate) enum Place {
    /// A range of a file.
    Range { source: Rc<dyn Source>, offset: u64 },
    /// From `offset` of a member of a zip archive, once inflated.
    Member { archive: Rc<Archive>, index: usize, offset: u64 },
    /// The typed fields of the ONNX `TensorProto` that fills this range of a file.
    Typed { source: Rc<dyn Source>, message: std::ops::Range<u64> },
}

/// A tensor's bytes, and the order they are stored in when that is not C order: axes from slowest to fastest.
struct Entry {
    place: Place,
    axes: Option<Vec<u8>>,
}

/// Collects tensors; then reads them.
pub(crate) struct Table {
    file: String,
    pub(crate) infos: Vec<TensorInfo>,
    entries: Vec<Entry>,
    names: HashSet<String>,
}

impl Table {
    /// An empty table of this file.
    pub(crate) fn new(file: &str) -> Table {
        Table { file: file.into(), infos: Vec::new(), entries: Vec::new(), names: HashSet::new() }
    }

    /// Adds a tensor. The caller has made `info` with [`checked`]; ranges are checked here.
    pub(crate) fn push(&mut self, info: TensorInfo, place: Place, axes: Option<Vec<u8>>) -> Result<usize> {
        if self.infos.len() >= limits::TENSORS {
            return Err(bad(&self.file, format!("it has more than {} tensors", limits::TENSORS), "split it"));
        }
        if let Place::Range { source, offset } = &place {
            inside(source.name(), source.len(), *offset, info.bytes() as u64).map_err(|e| e.tensor(&info.name))?;
        }
        if !self.names.insert(info.name.clone()) {
            return Err(bad(&self.file, "two tensors have this name", "export the model again with unique names").tensor(&info.name));
        }
        self.infos.push(info);
        self.entries.push(Entry { place, axes });
        Ok(self.infos.len() - 1)
    }

    /// A name that no tensor has yet: `name`, or `name#2`, `name#3` …
    pub(crate) fn unique(&self, name: &str) -> String {
        let mut fresh = name.to_string();
        let mut n = 2;
        while self.names.contains(&fresh) {
            fresh = format!("{name}#{n}");
            n += 1;
        }
        fresh
    }
}

impl TensorReader for Table {
    fn read(&self, index: usize) -> Result<Vec<u8>> {
        let (Some(info), Some(entry)) = (self.infos.get(index), self.entries.get(index)) else {
            return Err(bad(&self.file, format!("it has no tensor {index}"), FETCH_AGAIN));
        };
        let bytes = match &entry.place {
            Place::Range { source, offset } => read_vec(&**source, *offset, info.bytes() as u64),
            Place::Member { archive, index, offset } => archive.read(*index, *offset, info.bytes()),
            Place::Typed { source, message } => onnx::read_typed(&**source, message.clone(), info),
        }
        .map_err(|e| e.tensor(&info.name))?;
        Ok(match &entry.axes {
            Some(axes) => permute(&bytes, &info.shape, info.dtype.size(), axes, Direction::ToC),
            None => bytes,
        })
    }
}

/// A tensor's entry with role [`Role::Exact`], its name, shape and size checked against the limits.
/// Elements of more than 255 bytes (records, strings) become bytes.
pub(crate) fn checked(file: &str, name: &str, dtype: Dtype, element_bytes: u64, shape: &[u64]) -> Result<TensorInfo> {
    if name.len() > limits::NAME {
        return Err(bad(file, format!("the name of a tensor has {} bytes", name.len()), "export the model with shorter names"));
    }
    let fail = |reason: String| Err(bad(file, reason, "split the tensor, or export the model again if this is wrong").tensor(name));
    if shape.len() > limits::DIMENSIONS {
        return fail(format!("it has {} dimensions, more than {}", shape.len(), limits::DIMENSIONS));
    }
    let dims: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let elements = dims.as_deref().and_then(limits::element_count);
    let (Some(shape), Some(elements)) = (dims, elements) else {
        return fail(format!("its shape {} has more than {} elements", shape_text(shape), limits::WEIGHTS));
    };
    let bytes = match (elements as u64).checked_mul(element_bytes) {
        Some(bytes) if bytes <= TENSOR_BYTES => bytes as usize,
        _ => return fail(format!("it has more than {TENSOR_BYTES} bytes")),
    };
    let name = name.to_string();
    Ok(match (dtype, u8::try_from(element_bytes)) {
        (Dtype::Other(_), Ok(size)) if size > 0 => TensorInfo { name, dtype: Dtype::Other(size), shape, role: Role::Exact },
        (Dtype::Other(_), _) => TensorInfo { name, dtype: Dtype::Other(1), shape: vec![bytes], role: Role::Exact },
        _ => TensorInfo { name, dtype, shape, role: Role::Exact },
    })
}

/// `[2, 3]`, of at most 8 dimensions.
pub(crate) fn shape_text(shape: &[u64]) -> String {
    let mut dims: Vec<String> = shape.iter().take(8).map(u64::to_string).collect();
    if shape.len() > 8 {
        dims.push("…".into());
    }
    format!("[{}]", dims.join(", "))
}

/// The role of a tensor in a format without a graph: floats of two or more dimensions are a layer `[out, in, kernel…]`,
/// one-dimensional ones a bias or normalisation parameter; scalars, integers and empty tensors are kept exactly.
///
/// `[C, 1, a, b]` with `C > 1` is taken for a depthwise convolution: nothing but its shape says so, and then no transform
/// across channels exists. A first convolution over a grey image has the same shape, and the same absence of one.
pub(crate) fn role_without_graph(info: &TensorInfo) -> Role {
    if !info.dtype.is_float() || info.elements() == 0 {
        return Role::Exact;
    }
    let layer = |groups, outputs, inputs, kernel: &[usize]| {
        let shape = LayerShape { groups, outputs, inputs, taps: kernel.iter().product(), columns: 0, order: Order::OutIn };
        Role::Layer(shape.with_kernel(&info.shape))
    };
    match *info.shape {
        [] => Role::Exact,
        [_] => Role::Small,
        [groups, 1, a, b] if groups > 1 => layer(groups, 1, 1, &[a, b]),
        [outputs, inputs, ref kernel @ ..] => layer(1, outputs, inputs, kernel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_shape() {
        let role = |dtype, shape: &[u64]| role_without_graph(&checked("f", "t", dtype, dtype.size() as u64, shape).unwrap());
        let layer = |groups, outputs, inputs, taps, columns| {
            Role::Layer(LayerShape { groups, outputs, inputs, taps, columns, order: Order::OutIn })
        };
        assert_eq!(role(Dtype::F32, &[]), Role::Exact);
        assert_eq!(role(Dtype::F16, &[7]), Role::Small);
        assert_eq!(role(Dtype::Other(8), &[7, 7]), Role::Exact);
        assert_eq!(role(Dtype::F32, &[0, 7]), Role::Exact);
        assert_eq!(role(Dtype::F32, &[10, 64]), layer(1, 10, 64, 1, 1));
        assert_eq!(role(Dtype::Bf16, &[8, 4, 3, 5]), layer(1, 8, 4, 15, 5));
        assert_eq!(role(Dtype::F64, &[8, 1, 3, 3]), layer(8, 1, 1, 9, 3));
        assert_eq!(role(Dtype::F32, &[1, 1, 3, 3]), layer(1, 1, 1, 9, 3));
        assert_eq!(role(Dtype::F32, &[6, 5, 7]), layer(1, 6, 5, 7, 7));
        assert_eq!(role(Dtype::F32, &[6, 5, 2, 3, 4]), layer(1, 6, 5, 24, 0));
    }

    #[test]
    fn claims_are_checked() {
        let make = |element, shape: &[u64]| checked("f", "t", Dtype::Other(1), element, shape);
        assert!(make(1, &[u64::MAX, u64::MAX]).is_err());
        assert!(make(1, &[1 << 28, 2]).is_err());
        assert!(make(u64::MAX, &[2]).is_err());
        assert!(make(1, &[1; 17]).is_err());
        assert_eq!(make(300, &[2]).unwrap().shape, [600]);
        assert!(checked("f", &"x".repeat(5000), Dtype::F32, 4, &[1]).is_err());
    }
}
