//! NumPy's `.npy`: a magic number, a Python dictionary with type, shape and order, then the elements.
//!
//! An array in Fortran order is a tensor like any other: its bytes are brought into C order when it is read, and back when the
//! file is rebuilt ([`Piece::Permuted`]).

use std::rc::Rc;

use npyz::{DType, Endianness, NpyHeader, TypeChar};

use super::skeleton::{Piece, Skeleton};
use super::source::{from_io, read_vec};
use super::table::{Place, Table, checked, role_without_graph};
use super::{Dtype, Format, Model, Source, TensorInfo};
use crate::error::{FETCH_AGAIN, Result, bad};

/// Longest text of a header: NumPy itself refuses more than 10,000 bytes unless asked to trust the file.
const HEADER: usize = 1 << 20;

/// An array's header.
pub(crate) struct Array {
    /// Name, type and shape, its role set.
    pub info: TensorInfo,
    /// The header's bytes.
    pub header: Vec<u8>,
    /// Whether the elements are in Fortran order.
    pub fortran: bool,
}

impl Array {
    /// Axes from slowest to fastest, unless that is C order.
    pub(crate) fn axes(&self) -> Option<Vec<u8>> {
        self.fortran.then(|| (0..self.info.shape.len() as u8).rev().collect())
    }

    /// The array as it stands in the file.
    pub(crate) fn pieces(self, index: usize) -> Vec<Piece> {
        let axes = self.axes();
        let data = match axes {
            Some(axes) => Piece::Permuted { tensor: index, element: self.info.dtype.size() as u8, shape: self.info.shape, axes },
            None => Piece::Tensor(index),
        };
        vec![Piece::Bytes(self.header), data]
    }
}

/// What the elements of an array are, each of [`Raw::element`] bytes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IEEE float.
    Float,
    /// Signed integer.
    Int,
    /// Unsigned integer, or a truth value.
    Uint,
    /// Text, complex numbers, times, records.
    Other,
}

/// A header as it stands, its shape not checked against anything.
pub(crate) struct Raw {
    /// Type of the elements.
    pub kind: Kind,
    /// Bytes per element.
    pub element: u64,
    /// Shape.
    pub shape: Vec<u64>,
    /// Whether the elements are in Fortran order.
    pub fortran: bool,
    /// The header's bytes.
    pub header: Vec<u8>,
}

/// Parses a header of an array of `size` bytes in all, through `read(offset, length)`.
pub(crate) fn parse(file: &str, name: &str, size: u64, read: &dyn Fn(u64, usize) -> Result<Vec<u8>>) -> Result<Raw> {
    let fail = |reason: String, advice: &str| Err(bad(file, reason, advice).tensor(name));
    if size < 12 {
        return fail(format!("it has only {size} bytes"), FETCH_AGAIN);
    }
    let start = read(0, 12)?;
    if !start.starts_with(b"\x93NUMPY") {
        return fail("it is not a NumPy array".into(), "save it again with numpy.save");
    }
    let (before, length) = match start[6] {
        1 => (10, u16::from_le_bytes([start[8], start[9]]) as usize),
        2 | 3 => (12, u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize),
        version => return fail(format!("it has version {version} of the npy format"), "save it again with numpy.save"),
    };
    if length > HEADER || (before + length) as u64 > size {
        return fail(format!("its header claims {length} bytes, more than it can have"), FETCH_AGAIN);
    }
    let bytes = read(0, before + length)?;
    harmless(&bytes[before..]).map_err(|reason| bad(file, reason, FETCH_AGAIN).tensor(name))?;
    let header = NpyHeader::from_reader(&bytes[..]).map_err(|e| from_io(file, "its NumPy header is damaged", e).tensor(name))?;
    let (kind, element) = match header.dtype() {
        dtype if dtype.uses_pickled_array() => {
            return fail("it holds Python objects, which are never loaded".into(), "save numbers only, with allow_pickle=False");
        }
        DType::Plain(plain) => {
            let element = plain.num_bytes().unwrap_or(0) as u64;
            if plain.endianness() == Endianness::Big && element > 1 {
                return fail("it is big-endian".into(), "convert it to little-endian: a.astype(a.dtype.newbyteorder('<'))");
            }
            let kind = match plain.type_char() {
                TypeChar::Float => Kind::Float,
                TypeChar::Int => Kind::Int,
                TypeChar::Uint | TypeChar::Bool => Kind::Uint,
                _ => Kind::Other,
            };
            (kind, element)
        }
        other => (Kind::Other, other.num_bytes().unwrap_or(0) as u64),
    };
    let (shape, fortran) = (header.shape().to_vec(), header.order() == npyz::Order::Fortran);
    Ok(Raw { kind, element, shape, fortran, header: bytes })
}

/// Reads a header of an array of `size` bytes in all, through `read(offset, length)`.
pub(crate) fn header(file: &str, name: &str, size: u64, read: &dyn Fn(u64, usize) -> Result<Vec<u8>>) -> Result<Array> {
    let Raw { kind, element, shape, fortran, header: bytes } = parse(file, name, size, read)?;
    let dtype = match (kind, element) {
        (Kind::Float, 2) => Dtype::F16,
        (Kind::Float, 4) => Dtype::F32,
        (Kind::Float, 8) => Dtype::F64,
        _ => Dtype::Other(1),
    };
    let mut info = checked(file, name, dtype, element, &shape)?;
    info.role = role_without_graph(&info);
    let (has, needs) = (size - bytes.len() as u64, info.bytes() as u64);
    if has != needs {
        let reason = format!("it has {has} bytes of data, but its shape and type need {needs}");
        return Err(bad(file, reason, FETCH_AGAIN).tensor(name));
    }
    // An array of records became a run of bytes: its order does not matter, it is never looked into.
    let fortran = fortran && info.shape.len() > 1 && info.shape.len() == shape.len();
    Ok(Array { info, header: bytes, fortran })
}

/// Brackets within brackets of a header: records of records of arrays have six. The crate's parser takes several times as long with each.
const NESTED: usize = 6;

/// Whether the crate can parse a header without harm: its parser recurses per bracket, and multiplies shapes unchecked.
fn harmless(text: &[u8]) -> std::result::Result<(), &'static str> {
    let (mut depth, mut product, mut quote) = (0usize, 1u64, None);
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        at += 1;
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => {
                depth += 1;
                if depth > NESTED {
                    return Err("the brackets in its header are nested too deep");
                }
            }
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, b'0'..=b'9') => {
                let begin = at - 1;
                while at < text.len() && (text[at].is_ascii_alphanumeric() || text[at] == b'_' || text[at] == b'.') {
                    at += 1;
                }
                let number = std::str::from_utf8(&text[begin..at]).ok().and_then(|digits| digits.parse::<u64>().ok());
                let next = number.and_then(|n| product.checked_mul(n.max(1)));
                product = next.ok_or("the numbers in its header are too large")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the header of an `.npy` file.
pub(crate) fn open(source: Rc<dyn Source>) -> Result<Model> {
    let file = source.name().to_string();
    // A lone array has no name but its file's.
    let name = file.strip_suffix(".npy").unwrap_or(&file).to_string();
    let array = header(&file, &name, source.len(), &|offset, len| read_vec(&*source, offset, len as u64))?;
    let mut table = Table::new(&file);
    let place = Place::Range { source: source.clone(), offset: array.header.len() as u64 };
    let index = table.push(array.info.clone(), place, array.axes())?;
    Ok(Model {
        name: file,
        format: Format::Npy,
        file_bytes: source.len(),
        tensors: table.infos.clone(),
        skeleton: Skeleton::Flat(array.pieces(index)),
        reader: Rc::new(table),
        notes: Vec::new(),
        graph: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_harm_the_parser() {
        assert!(harmless(b"{'descr': '<f4', 'fortran_order': False, 'shape': (64, 3, 3, 3), }").is_ok());
        assert!(harmless(b"{'descr': '<f4', 'shape': (4294967296, 4294967296, 0)}").is_err());
        assert!(harmless(b"{'descr': '|V99999999999999999999', 'shape': ()}").is_ok());
        assert!(harmless(b"{'shape': (0xffffffff,)}").is_err());
        assert!(harmless(&[b'('; 1000]).is_err());
        assert!(harmless(b"{'a\\'(((((((((((((((((((((((((': 1}").is_ok());
    }
}
