//! safetensors: 8 bytes header length, a JSON header, then the tensors' bytes without gaps.
//!
//! The header is kept verbatim, so metadata and order survive; tensors stand in the table in the order of their data.

use std::collections::BTreeMap;
use std::rc::Rc;

use safetensors::Dtype as Stored;
use safetensors::tensor::{Metadata, TensorView};

use super::skeleton::{Piece, Skeleton};
use super::source::read_vec;
use super::table::{Place, Table, checked, role_without_graph};
use super::{Dtype, Format, Model, Source, TensorInfo};
use crate::error::{FETCH_AGAIN, Result, bad};
use crate::limits;

/// Whether this may be safetensors: a JSON object follows the length of the header.
pub(crate) fn recognise(head: &[u8]) -> bool {
    head.len() >= 9
        && head[8] == b'{'
        && u64::from_le_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]) < 1 << 40
}

/// Reads the header.
pub(crate) fn open(source: Rc<dyn Source>) -> Result<Model> {
    let name = source.name().to_string();
    let length = u64::from_le_bytes(read_vec(&*source, 0, 8)?.try_into().unwrap_or_default());
    let end = length.checked_add(8).filter(|&end| end <= source.len());
    let Some(end) = end else {
        return Err(bad(name, format!("its header claims {length} bytes, but the file has {}", source.len()), FETCH_AGAIN));
    };
    if length > limits::HEADER.min(100_000_000) {
        return Err(bad(name, format!("its header has {length} bytes, more than the format allows"), FETCH_AGAIN));
    }
    let header = read_vec(&*source, 0, end)?;
    no_name_twice(&name, &header[8..])?;
    let metadata: Metadata =
        serde_json::from_slice(&header[8..]).map_err(|e| bad(&name, format!("its safetensors header is not valid ({e})"), FETCH_AGAIN))?;

    let mut table = Table::new(&name);
    let mut pieces = vec![Piece::Bytes(header)];
    for tensor in metadata.offset_keys() {
        let Some(info) = metadata.info(&tensor) else { continue };
        let shape: Vec<u64> = info.shape.iter().map(|&d| d as u64).collect();
        let bytes = (info.data_offsets.1 - info.data_offsets.0) as u64;
        let mut entry = match info.dtype {
            Stored::F16 => checked(&name, &tensor, Dtype::F16, 2, &shape)?,
            Stored::BF16 => checked(&name, &tensor, Dtype::Bf16, 2, &shape)?,
            Stored::F32 => checked(&name, &tensor, Dtype::F32, 4, &shape)?,
            Stored::F64 => checked(&name, &tensor, Dtype::F64, 8, &shape)?,
            other if other.bitsize() % 8 == 0 => checked(&name, &tensor, Dtype::Other(1), other.bitsize() as u64 / 8, &shape)?,
            // Elements that share bytes: passed through as bytes.
            _ => checked(&name, &tensor, Dtype::Other(1), 1, &[bytes])?,
        };
        entry.role = role_without_graph(&entry);
        let place = Place::Range { source: source.clone(), offset: end + info.data_offsets.0 as u64 };
        pieces.push(Piece::Tensor(table.push(entry, place, None)?));
    }
    let data = metadata.data_len() as u64;
    match source.len() - end {
        rest if rest < data => {
            return Err(bad(name, format!("its tensors need {data} bytes, but only {rest} follow the header"), FETCH_AGAIN));
        }
        rest if rest > data => return Err(bad(name, format!("{} unknown bytes follow its last tensor", rest - data), FETCH_AGAIN)),
        _ => {}
    }
    Ok(Model {
        name,
        format: Format::Safetensors,
        file_bytes: source.len(),
        tensors: table.infos.clone(),
        skeleton: Skeleton::Flat(pieces),
        reader: Rc::new(table),
        notes: Vec::new(),
        graph: None,
    })
}

/// A safetensors file of these tensors, each with its bytes in its own element type. Elements that are passed through without a meaning are bytes,
/// their size being one more axis.
///
/// # Errors
/// Bytes that do not fit a tensor's shape.
pub fn file<'a>(tensors: impl Iterator<Item = (&'a TensorInfo, &'a Vec<u8>)>) -> Result<Vec<u8>> {
    let fits = |name: &str, e: safetensors::SafeTensorError| bad(name, format!("it cannot be written ({e})"), "report this as a bug");
    let view = |(info, bytes): (&'a TensorInfo, &'a Vec<u8>)| {
        let (dtype, size) = match info.dtype {
            Dtype::F16 => (Stored::F16, None),
            Dtype::Bf16 => (Stored::BF16, None),
            Dtype::F32 => (Stored::F32, None),
            Dtype::F64 => (Stored::F64, None),
            Dtype::Other(size) => (Stored::U8, Some(usize::from(size))),
        };
        let shape = info.shape.iter().copied().chain(size).collect();
        Ok((info.name.as_str(), TensorView::new(dtype, shape, bytes).map_err(|e| fits(&info.name, e))?))
    };
    let views = tensors.map(view).collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(|e| fits("the file", e))
}

/// The crate reads the header into a map, where the second of two equal names would silently win.
fn no_name_twice(file: &str, header: &[u8]) -> Result<()> {
    struct Names<'a>(&'a str);
    impl<'de> serde::de::Visitor<'de> for Names<'_> {
        type Value = Option<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            write!(f, "the header of {}", self.0)
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<Option<String>, A::Error> {
            let mut seen = BTreeMap::new();
            while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                if seen.insert(name.clone(), ()).is_some() {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(header);
    match serde::Deserializer::deserialize_map(&mut reader, Names(file)) {
        Ok(Some(name)) => Err(bad(file, "two tensors have this name", "export the model again with unique names").tensor(name)),
        Ok(None) => Ok(()),
        Err(e) => Err(bad(file, format!("its safetensors header is not valid JSON ({e})"), FETCH_AGAIN)),
    }
}
