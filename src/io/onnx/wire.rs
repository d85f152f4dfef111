//! Protocol Buffers on the wire: walks the fields of one message without reading what they hold.
//!
//! The parsing is rten-onnx's. Its readers believe the lengths a file claims (they allocate first, and add them to positions
//! unchecked), so every length is compared with the enclosing message here, before the crate sees it.

use std::cell::Cell;
use std::io;
use std::ops::Range;

use rten_onnx::protobuf::{ErrorKind, Fields, OwnedValues, ProtobufError, ReadValue};
// The only file that names rten-onnx, which breaks often: what the others need of it they take from here.
pub(super) use rten_onnx::protobuf::{FieldValue, varint};

use crate::error::{FETCH_AGAIN, Result, bad};
use crate::io::Source;
use crate::io::source::{from_io, read_vec};
use crate::limits;

/// A field of a message.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// Its number in the schema.
    pub number: u64,
    /// All of it in the file: tag, length, content.
    pub whole: Range<u64>,
    /// Where its length stands, when it has one: between the tag and the content.
    pub length_at: u64,
    /// Its content in the file; empty unless `value` is a length.
    pub content: Range<u64>,
    /// Its value, or the length of its content.
    pub value: FieldValue,
}

impl Field {
    /// Whether this is field `number` and has content: a string, bytes, a message or packed numbers.
    pub fn is(&self, number: u64) -> bool {
        self.number == number && matches!(self.value, FieldValue::Len(_))
    }
    /// The integer of a varint field.
    pub fn integer(&self) -> Option<i64> {
        if let FieldValue::Varint(v) = self.value { Some(v as i64) } else { None }
    }
}

/// Calls `visit` for each field of the message that fills `message`.
pub(super) fn fields(source: &dyn Source, message: Range<u64>, visit: &mut dyn FnMut(Field) -> Result<()>) -> Result<()> {
    let at = Cell::new(message.start);
    let marks = Cell::new((message.start, message.start));
    let mut window = Window { source, message, at: &at, marks: &marks, next: Next::Tag };
    let mut fields = Fields::new(&mut window, None);
    let fail = |e: ProtobufError| match e.kind() {
        // The kind is borrowed; the words of an I/O error carry ours.
        ErrorKind::IoError(e) => match e.get_ref().and_then(|e| e.downcast_ref::<crate::error::Error>()) {
            Some(ours) => ours.clone(),
            None => from_io(source.name(), "its ONNX structure is damaged", io::Error::new(e.kind(), e.to_string())),
        },
        kind => bad(source.name(), format!("its ONNX structure is damaged at byte {} ({kind})", at.get()), FETCH_AGAIN),
    };
    while let Some(mut field) = fields.next().map_err(fail)? {
        let (tag_at, length_at) = marks.get();
        let value = field.value();
        let content = match value {
            FieldValue::Len(len) => at.get()..at.get() + len,
            _ => at.get()..at.get(),
        };
        let number = field.number();
        field.skip().map_err(fail)?;
        drop(field);
        visit(Field { number, whole: tag_at..content.end, length_at, content, value })?;
    }
    Ok(())
}

/// The UTF-8 content of a field, at most [`limits::NAME`] bytes.
pub(super) fn text(source: &dyn Source, content: &Range<u64>) -> Result<String> {
    if content.end - content.start > limits::NAME as u64 {
        return Err(bad(
            source.name(),
            format!("a name in it has {} bytes", content.end - content.start),
            "export the model with shorter names",
        ));
    }
    let bytes = read_vec(source, content.start, content.end - content.start)?;
    String::from_utf8(bytes).map_err(|_| bad(source.name(), format!("the name at byte {} is not UTF-8", content.start), FETCH_AGAIN))
}

/// Takes an integer from packed ones. The crate's reader never returns where ten bytes all say that one more follows, and one does.
pub(super) fn packed(rest: &mut &[u8]) -> Option<u64> {
    let mut one = &rest[..rest.len().min(varint::MAX_VARINT_LEN)];
    let before = one.len();
    let value = varint::read_varint(&mut one).ok()?;
    *rest = &rest[before - one.len()..];
    Some(value)
}

/// The integers of a repeated integer field, packed or not. At most `most` of them.
pub(super) fn integers(source: &dyn Source, field: &Field, most: usize, into: &mut Vec<i64>) -> Result<()> {
    match field.value {
        FieldValue::Varint(v) => into.push(v as i64),
        FieldValue::Len(len) if len <= (most * varint::MAX_VARINT_LEN) as u64 => {
            let bytes = read_vec(source, field.content.start, len)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let value = packed(&mut rest)
                    .ok_or_else(|| bad(source.name(), format!("an integer near byte {} is damaged", field.content.start), FETCH_AGAIN))?;
                into.push(value as i64);
            }
        }
        _ => {}
    }
    if into.len() > most {
        return Err(bad(source.name(), format!("a list near byte {} has more than {most} integers", field.content.start), FETCH_AGAIN));
    }
    Ok(())
}

/// What comes next on the wire.
#[derive(PartialEq)]
enum Next {
    Tag,
    Value,
    Length,
}

/// A message as the crate's reader sees it. Positions are relative to its start: the crate adds lengths to them unchecked.
struct Window<'a> {
    source: &'a dyn Source,
    message: Range<u64>,
    /// Position in the file.
    at: &'a Cell<u64>,
    /// Where the last tag and what follows it stood.
    marks: &'a Cell<(u64, u64)>,
    next: Next,
}

impl Window<'_> {
    fn left(&self) -> u64 {
        self.message.end.saturating_sub(self.at.get())
    }
    fn take(&mut self, buf: &mut [u8]) -> std::result::Result<(), ProtobufError> {
        if self.left() < buf.len() as u64 {
            return Err(ProtobufError::new(ErrorKind::LengthMismatch));
        }
        self.source.read_at(self.at.get(), buf).map_err(io::Error::other)?;
        self.at.set(self.at.get() + buf.len() as u64);
        Ok(())
    }
}

impl ReadValue for Window<'_> {
    type Types = OwnedValues;

    fn read_i32(&mut self) -> std::result::Result<i32, ProtobufError> {
        let mut buf = [0; 4];
        self.take(&mut buf)?;
        self.next = Next::Tag;
        Ok(i32::from_le_bytes(buf))
    }

    fn read_i64(&mut self) -> std::result::Result<i64, ProtobufError> {
        let mut buf = [0; 8];
        self.take(&mut buf)?;
        self.next = Next::Tag;
        Ok(i64::from_le_bytes(buf))
    }

    fn read_varint(&mut self) -> std::result::Result<u64, ProtobufError> {
        let left = self.left();
        if left == 0 && self.next == Next::Tag {
            // The one place where a message may end.
            return Err(ProtobufError::new(ErrorKind::Eof));
        }
        let mut buf = [0; varint::MAX_VARINT_LEN];
        let buf = &mut buf[..left.min(varint::MAX_VARINT_LEN as u64) as usize];
        let begin = self.at.get();
        self.source.read_at(begin, buf).map_err(io::Error::other)?;
        let mut rest = &*buf;
        let value = varint::read_varint(&mut rest).map_err(|_| ProtobufError::new(ErrorKind::InvalidVarint))?;
        self.at.set(begin + (buf.len() - rest.len()) as u64);
        self.next = match self.next {
            Next::Tag => {
                self.marks.set((begin, self.at.get()));
                match (value >> 3, value & 7) {
                    // Field 0 does not exist, groups do not occur in ONNX: damage.
                    (0, _) | (_, 3 | 4) => return Err(ProtobufError::new(ErrorKind::InvalidWireType)),
                    (_, 0) => Next::Value,
                    (_, 2) => Next::Length,
                    _ => Next::Tag,
                }
            }
            // The crate keeps lengths in a `usize`, which has 32 bits in Wasm; the format allows 31.
            Next::Length if value > self.left().min(u32::MAX.into()) => return Err(ProtobufError::new(ErrorKind::LengthMismatch)),
            _ => Next::Tag,
        };
        Ok(value)
    }

    fn read_bytes(&mut self, len: usize) -> std::result::Result<Vec<u8>, ProtobufError> {
        if self.left() < len as u64 {
            return Err(ProtobufError::new(ErrorKind::LengthMismatch));
        }
        let mut buf = vec![0; len];
        self.take(&mut buf)?;
        Ok(buf)
    }

    fn read_string(&mut self, len: usize) -> std::result::Result<String, ProtobufError> {
        String::from_utf8(self.read_bytes(len)?).map_err(|_| ProtobufError::new(ErrorKind::InvalidUtf8))
    }

    fn skip(&mut self, len: usize) -> std::result::Result<(), ProtobufError> {
        if self.left() < len as u64 {
            return Err(ProtobufError::new(ErrorKind::LengthMismatch));
        }
        self.at.set(self.at.get() + len as u64);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.at.get() - self.message.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_integers_end() {
        let bytes = [0x05, 0x96, 0x01, 0x80];
        let mut rest = &bytes[..];
        assert_eq!((packed(&mut rest), packed(&mut rest), rest.len()), (Some(5), Some(150), 1));
        assert_eq!(packed(&mut rest), None);
        let most = [[0xff; 9].as_slice(), &[1, 7]].concat();
        let mut rest = &most[..];
        assert_eq!((packed(&mut rest), packed(&mut rest)), (Some(u64::MAX), Some(7)));
        for length in [9, 10, 11, 12, 40] {
            assert_eq!(packed(&mut &vec![0x80; length][..]), None, "{length}");
        }
    }
}
