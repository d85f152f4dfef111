//! Third pass: tensors into the table, and the rest of the file into the skeleton.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::wire::{FieldValue, varint};

use super::walk::{DOUBLE_DATA, FLOAT_DATA, Found, INT32_DATA, RAW_DATA, Tensor, Walk};
use crate::error::{Error, FETCH_AGAIN, Result, bad};
use crate::io::skeleton::{Piece, Skeleton};
use crate::io::source::{inside, read_vec};
use crate::io::table::{Place, Table, checked};
use crate::io::{Dtype, Role, Source};
use crate::limits;

/// Constants and buried tensors up to this size stay in the skeleton: an entry of the table costs as much.
const STAYS: u64 = 4096;

/// A replacement of a range of the file, inside of `message`.
struct Edit {
    message: usize,
    range: Range<u64>,
    pieces: Vec<Piece>,
    /// Bytes of the pieces.
    inserted: u64,
}

/// Builds table and skeleton; the second result tells where in the table each tensor of the walk is. `used` is set for those of
/// `others` that hold external data.
pub(super) fn skeleton(
    source: &Rc<dyn Source>,
    walk: &Walk,
    roles: &[Role],
    others: &[Rc<dyn Source>],
    used: &mut [bool],
    table: &mut Table,
) -> Result<(Skeleton, Vec<Option<usize>>)> {
    let mut edits = Vec::new();
    let mut placed = Vec::with_capacity(walk.tensors.len());
    let mut initializers = HashSet::new();
    for (tensor, role) in walk.tensors.iter().zip(roles) {
        if tensor.found == Found::Initializer && !initializers.insert(&*tensor.name) {
            return Err(bad(source.name(), "two tensors have this name", "export the model again with unique names").tensor(&tensor.name));
        }
        let before = table.infos.len();
        place(source, walk, tensor, *role, others, used, table, &mut edits).map_err(|e| e.tensor(&tensor.name))?;
        placed.push((table.infos.len() > before).then_some(before));
    }
    lengths(walk, &mut edits);
    edits.sort_by_key(|edit| edit.range.start);
    Ok((cut(source, edits)?, placed))
}

/// Bits per element of an ONNX data type, and the float type it is. `None` for strings and types not known.
fn element(data_type: i64) -> Option<(u64, Option<Dtype>)> {
    Some(match data_type {
        1 => (32, Some(Dtype::F32)),
        10 => (16, Some(Dtype::F16)),
        11 => (64, Some(Dtype::F64)),
        16 => (16, Some(Dtype::Bf16)),
        2 | 3 | 9 | 17..=20 | 24 => (8, None),
        4 | 5 => (16, None),
        6 | 12 => (32, None),
        7 | 13 | 14 => (64, None),
        15 => (128, None),
        21..=23 => (4, None),
        25 | 26 => (2, None),
        _ => return None,
    })
}

#[allow(clippy::too_many_arguments)]
fn place(
    source: &Rc<dyn Source>,
    walk: &Walk,
    tensor: &Tensor,
    role: Role,
    others: &[Rc<dyn Source>],
    used: &mut [bool],
    table: &mut Table,
    edits: &mut Vec<Edit>,
) -> Result<()> {
    let file = source.name();
    let Some((bits, float)) = element(tensor.data_type) else {
        return match tensor.is_external {
            true => Err(bad(file, format!("its data type {} in an external file is not known", tensor.data_type), "export it as float")),
            // Strings, and types of the future, stay in the skeleton.
            false => Ok(()),
        };
    };
    let name = match tensor.found {
        Found::Buried => table.unique(&tensor.name),
        _ => tensor.name.clone(),
    };
    let mut info = match float {
        Some(dtype) => checked(file, &name, dtype, bits / 8, &tensor.dims)?,
        None if bits >= 8 => checked(file, &name, Dtype::Other(1), bits / 8, &tensor.dims)?,
        None => {
            let elements = tensor.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n <= limits::WEIGHTS);
            let elements = elements.ok_or_else(|| bad(file, "its shape overflows", FETCH_AGAIN))?;
            checked(file, &name, Dtype::Other(1), 1, &[(elements * bits).div_ceil(8)])?
        }
    };
    if float.is_some() {
        info.role = role;
    }
    let bytes = info.bytes() as u64;
    let wrong_size = |has: u64| bad(file, format!("it has {has} bytes of data, but its shape and type need {bytes}"), FETCH_AGAIN);
    let stays = tensor.found != Found::Initializer && info.role == Role::Exact && bytes <= STAYS;

    if tensor.is_external {
        if tensor.raw.is_some() || !tensor.typed.is_empty() {
            return Err(bad(file, "it has data both in this file and in another", "export the model again"));
        }
        let (other, offset) = external(file, tensor, bytes, others, used)?;
        let index = table.push(info, Place::Range { source: other, offset }, None)?;
        replace(tensor, &tensor.pointers, index, bytes, edits);
        return Ok(());
    }
    if let Some(raw) = &tensor.raw {
        if !tensor.typed.is_empty() {
            return Err(bad(file, "it has its data twice", "export the model again"));
        }
        if raw.end - raw.start != bytes {
            return Err(wrong_size(raw.end - raw.start));
        }
        if !stays && bytes > 0 {
            let index = table.push(info, Place::Range { source: source.clone(), offset: raw.start }, None)?;
            edits.push(Edit { message: tensor.message, range: raw.clone(), pieces: vec![Piece::Tensor(index)], inserted: bytes });
        }
        return Ok(());
    }
    // Integers in typed fields stay in the skeleton: they are few, and stored as varints.
    let Some(dtype) = float else { return Ok(()) };
    let number = match dtype {
        Dtype::F32 => FLOAT_DATA,
        Dtype::F64 => DOUBLE_DATA,
        _ => INT32_DATA,
    };
    let runs: Vec<_> = tensor.typed.iter().filter(|run| run.number == number).collect();
    let held: u64 = runs.iter().map(|run| run.whole.end - run.whole.start).sum();
    if bytes == 0 && held == 0 || stays {
        return Ok(());
    }
    // Every number takes at least a byte in the file: a claim beyond that is one.
    if (info.elements() as u64) > held {
        return Err(wrong_size(held));
    }
    match (&*runs, dtype) {
        // Packed floats are what `raw_data` would hold: they stay in their field.
        ([only], Dtype::F32 | Dtype::F64) if matches!(only.value, FieldValue::Len(len) if len == bytes) => {
            let index = table.push(info, Place::Range { source: source.clone(), offset: only.content.start }, None)?;
            edits.push(Edit { message: tensor.message, range: only.content.clone(), pieces: vec![Piece::Tensor(index)], inserted: bytes });
        }
        _ => {
            let message = walk.messages[tensor.message].content.clone();
            let ranges: Vec<Range<u64>> = runs.iter().map(|run| run.whole.clone()).collect();
            let index = table.push(info, Place::Typed { source: source.clone(), message }, None)?;
            replace(tensor, &ranges, index, bytes, edits);
        }
    }
    Ok(())
}

/// Removes fields of a tensor and puts `raw_data` in the place of the first.
fn replace(tensor: &Tensor, fields: &[Range<u64>], index: usize, bytes: u64, edits: &mut Vec<Edit>) {
    for (i, range) in fields.iter().enumerate() {
        let mut edit = Edit { message: tensor.message, range: range.clone(), pieces: Vec::new(), inserted: 0 };
        if i == 0 {
            // Tag: field 9, wire type 2 (a length follows).
            let mut head = vec![(RAW_DATA << 3 | 2) as u8];
            head.extend(encode(bytes));
            edit.inserted = head.len() as u64 + bytes;
            edit.pieces = vec![Piece::Bytes(head), Piece::Tensor(index)];
        }
        edits.push(edit);
    }
}

/// Finds the data of a tensor in the files that came along.
fn external(file: &str, tensor: &Tensor, bytes: u64, others: &[Rc<dyn Source>], used: &mut [bool]) -> Result<(Rc<dyn Source>, u64)> {
    let entry = |key: &str| tensor.external.iter().find(|(k, _)| k == key).map(|(_, v)| &**v);
    let Some(location) = entry("location") else {
        return Err(bad(file, "its data are in another file, which is not named", "export the model again"));
    };
    // Only the name counts: folders of the machine that exported the model mean nothing here.
    let base = location.rsplit(['/', '\\']).next().unwrap_or(location);
    let Some(position) = others.iter().position(|other| other.name() == base) else {
        return Err(Error::Missing { file: file.into(), needs: base.into() });
    };
    let number = |key: &str| match entry(key).map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(bad(file, format!("its external {key} `{text}` is not a number"), "export the model again")),
        },
    };
    let offset = number("offset")?.unwrap_or(0);
    if let Some(length) = number("length")?.filter(|&n| n != bytes) {
        return Err(bad(file, format!("it has {length} bytes in {base}, but its shape and type need {bytes}"), "export the model again"));
    }
    let other = &others[position];
    inside(other.name(), other.len(), offset, bytes)?;
    used[position] = true;
    Ok((other.clone(), offset))
}

/// Adds the edits of the lengths of all messages that change theirs.
fn lengths(walk: &Walk, edits: &mut Vec<Edit>) {
    let mut growth = vec![0i64; walk.messages.len()];
    for edit in &*edits {
        growth[edit.message] += edit.inserted as i64 - (edit.range.end - edit.range.start) as i64;
    }
    // Inner messages come after outer ones.
    for (index, message) in walk.messages.iter().enumerate().rev() {
        let (Some(parent), true) = (message.parent, growth[index] != 0) else { continue };
        let length = (message.content.end - message.content.start).wrapping_add_signed(growth[index]);
        let head = encode(length);
        let range = message.length_at..message.content.start;
        growth[parent] += growth[index] + head.len() as i64 - (range.end - range.start) as i64;
        edits.push(Edit { message: parent, range, inserted: head.len() as u64, pieces: vec![Piece::Bytes(head)] });
    }
}

fn encode(value: u64) -> Vec<u8> {
    varint::encode_varint(value, &mut [0; varint::MAX_VARINT_LEN]).to_vec()
}

/// The file with the edits applied, as pieces.
fn cut(source: &Rc<dyn Source>, edits: Vec<Edit>) -> Result<Skeleton> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut kept = 0;
    let mut push = |piece: Piece| match (pieces.last_mut(), piece) {
        (Some(Piece::Bytes(last)), Piece::Bytes(more)) => last.extend(more),
        (_, piece) => pieces.push(piece),
    };
    let mut at = 0;
    for edit in edits {
        kept += keep(source, at, edit.range.start, kept, &mut push)?;
        edit.pieces.into_iter().for_each(&mut push);
        at = edit.range.end;
    }
    keep(source, at, source.len(), kept, &mut push)?;
    Ok(Skeleton::Flat(pieces))
}

/// Copies a range of the file into the skeleton, whose size is limited.
fn keep(source: &Rc<dyn Source>, from: u64, to: u64, kept: u64, push: &mut dyn FnMut(Piece)) -> Result<u64> {
    let bytes = to.saturating_sub(from);
    if bytes + kept > limits::HEADER {
        let reason = format!("it has more than {} bytes that are neither weights nor known tensors", limits::HEADER);
        return Err(bad(source.name(), reason, "export the model again"));
    }
    if bytes > 0 {
        push(Piece::Bytes(read_vec(&**source, from, bytes)?));
    }
    Ok(bytes)
}
