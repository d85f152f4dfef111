//! An interpreter of Python pickles that builds data and nothing else.
//!
//! Pickle is a stack machine whose `REDUCE`, `BUILD`, `NEWOBJ` … call what a file names. Here nothing is ever called: the few
//! callables that PyTorch uses for tensors and containers have a meaning of their own, all others leave an opaque value.
//! Values live in an arena and refer to each other by number, so that sharing and cycles cost nothing and nothing recurses.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::{FETCH_AGAIN, Result, bad};
use crate::io::Dtype;
use crate::limits;

mod torch;

/// Most opcodes of a pickle: a tensor takes about 45. Each adds at most one value, so this bounds memory too.
const OPCODES: usize = 64 * limits::TENSORS;

/// Position of a value in [`Pickle::values`].
pub(crate) type Id = u32;

/// Elements of a storage or a view of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Element {
    /// Their type.
    pub dtype: Dtype,
    /// Bytes of each.
    pub size: u64,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// `None`, floats, bytes, sets, and all that is not of interest.
    Opaque,
    /// `True` and `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A string: a range of the pickle.
    Text(Range<usize>),
    /// The name of a class or function, `module name`.
    Global(String),
    /// A tuple or list.
    List(Vec<Id>),
    /// A dict or OrderedDict.
    Dict(Vec<(Id, Id)>),
    /// A storage: a member of the archive.
    Storage {
        /// The member's name below `data/`.
        key: Range<usize>,
        /// Its element type.
        element: Element,
        /// Number of elements.
        count: u64,
    },
    /// A strided view of a storage.
    Tensor {
        /// The storage.
        storage: Id,
        /// Element type, which may differ from that of the storage.
        element: Element,
        /// First element.
        offset: u64,
        /// Shape.
        shape: Vec<u64>,
        /// Elements from one index to the next, per dimension.
        strides: Vec<u64>,
    },
}

/// The result: a graph of values.
pub(crate) struct Pickle {
    bytes: Vec<u8>,
    values: Vec<Value>,
    /// The value that was pickled.
    pub root: Id,
    /// The first class or function that was named and not called.
    pub refused: Option<String>,
}

impl Pickle {
    /// A value.
    pub(crate) fn get(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }
    /// The characters of a [`Value::Text`].
    pub(crate) fn text(&self, range: &Range<usize>) -> String {
        String::from_utf8_lossy(&self.bytes[range.clone()]).into_owned()
    }
    /// A dict's value for a key.
    pub(crate) fn find(&self, entries: &[(Id, Id)], key: &str) -> Option<Id> {
        entries.iter().rev().find(|(k, _)| matches!(self.get(*k), Value::Text(r) if self.bytes[r.clone()] == *key.as_bytes())).map(|e| e.1)
    }
}

/// Interprets a pickle of protocol 2 to 5.
pub(crate) fn interpret(file: &str, bytes: Vec<u8>) -> Result<Pickle> {
    let mut machine = Machine {
        file,
        bytes: &bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        refused: None,
        copied: 0,
    };
    let root = machine.run()?;
    let (values, refused) = (machine.values, machine.refused);
    Ok(Pickle { values, root, refused, bytes })
}

struct Machine<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    refused: Option<String>,
    /// Entries copied from one container to another.
    copied: usize,
}

impl Machine<'_> {
    fn damaged<T>(&self, what: &str) -> Result<T> {
        Err(bad(self.file, format!("its pickle is damaged at byte {}: {what}", self.at), FETCH_AGAIN))
    }

    fn take(&mut self, len: u64) -> Result<Range<usize>> {
        match usize::try_from(len).ok().and_then(|n| self.at.checked_add(n)).filter(|&end| end <= self.bytes.len()) {
            Some(end) => {
                let range = self.at..end;
                self.at = end;
                Ok(range)
            }
            None => self.damaged(&format!("{len} bytes are claimed, {} are left", self.bytes.len() - self.at)),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let range = self.take(N as u64)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[range]);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.number::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn line(&mut self) -> Result<Range<usize>> {
        let rest = &self.bytes[self.at..];
        match rest.iter().position(|&b| b == b'\n') {
            Some(len) => {
                let range = self.at..self.at + len;
                self.at += len + 1;
                Ok(range)
            }
            None => self.damaged("a line does not end"),
        }
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push((self.values.len() - 1) as Id);
    }

    fn pop(&mut self) -> Result<Id> {
        // What lies below a mark is out of reach until the mark is gone.
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return self.damaged("its stack is empty");
        }
        match self.stack.pop() {
            Some(id) => Ok(id),
            None => self.damaged("its stack is empty"),
        }
    }

    fn top(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => self.damaged("a mark is missing"),
        }
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::List(items));
        Ok(())
    }

    fn integer(&mut self, len: u64) -> Result<()> {
        let range = self.take(len)?;
        let digits = &self.bytes[range];
        let value = match digits.len() {
            0 => Value::Int(0),
            1..=8 => {
                let mut wide = if digits[digits.len() - 1] & 0x80 == 0 { [0; 8] } else { [0xff; 8] };
                wide[..digits.len()].copy_from_slice(digits);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => Value::Opaque,
        };
        self.push(value);
        Ok(())
    }

    /// An integer as text, `L` allowed at the end; `00` and `01` are booleans.
    fn decimal(&mut self) -> Result<()> {
        let line = self.line()?;
        let text = String::from_utf8_lossy(&self.bytes[line]).into_owned();
        let value = match &*text {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            text => text.trim_end_matches('L').parse().map_or(Value::Opaque, Value::Int),
        };
        self.push(value);
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => self.damaged(&format!("memo entry {key} is missing")),
        }
    }

    fn key_of_line(&mut self) -> Result<u32> {
        let line = self.line()?;
        match std::str::from_utf8(&self.bytes[line]).ok().and_then(|text| text.trim().parse().ok()) {
            Some(key) => Ok(key),
            None => self.damaged("a memo key is no number"),
        }
    }

    fn append(&mut self, target: Id, items: Vec<Id>) {
        if let Some(Value::List(list)) = self.values.get_mut(target as usize) {
            list.extend(items);
        }
    }

    fn set_items(&mut self, target: Id, items: &[Id]) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return self.damaged("a key has no value");
        }
        if let Some(Value::Dict(entries)) = self.values.get_mut(target as usize) {
            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn global(&mut self, module: Range<usize>, name: Range<usize>) -> Result<()> {
        if module.len() + name.len() > limits::NAME {
            return self.damaged("a class has a very long name");
        }
        let text = format!("{} {}", String::from_utf8_lossy(&self.bytes[module]), String::from_utf8_lossy(&self.bytes[name]));
        self.push(Value::Global(text));
        Ok(())
    }

    fn refuse(&mut self, callable: Id) -> Value {
        if let (None, Some(Value::Global(name))) = (&self.refused, self.values.get(callable as usize)) {
            self.refused = Some(name.replace(' ', "."));
        }
        Value::Opaque
    }

    fn run(&mut self) -> Result<Id> {
        for _ in 0..OPCODES {
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                // Framing and protocol say nothing about values.
                0x80 => _ = self.byte()?,
                0x95 => _ = self.number::<8>()?,
                b'(' => self.marks.push(self.stack.len()),
                b'0' if self.marks.last() == Some(&self.stack.len()) => _ = self.marks.pop(),
                b'0' => _ = self.pop()?,
                b'1' => _ = self.pop_mark()?,
                b'2' => {
                    let id = self.top()?;
                    self.stack.push(id);
                }
                b'N' => self.push(Value::Opaque),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'J' => {
                    let value = i32::from_le_bytes(self.number()?);
                    self.push(Value::Int(value.into()));
                }
                b'K' => {
                    let value = self.byte()?;
                    self.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.number()?);
                    self.push(Value::Int(value.into()));
                }
                0x8a => {
                    let len = self.byte()?;
                    self.integer(len.into())?;
                }
                0x8b => {
                    let len = self.u32()?;
                    self.integer(len.into())?;
                }
                b'I' | b'L' => self.decimal()?,
                b'F' | b'S' => {
                    self.line()?;
                    self.push(Value::Opaque);
                }
                b'G' => {
                    self.number::<8>()?;
                    self.push(Value::Opaque);
                }
                b'V' => {
                    let text = self.line()?;
                    self.push(Value::Text(text));
                }
                // Strings, also those of Python 2.
                b'X' | b'T' | 0x8c | b'U' | 0x8d => {
                    let len = match opcode {
                        b'X' | b'T' => self.u32()?.into(),
                        0x8d => u64::from_le_bytes(self.number()?),
                        _ => self.byte()?.into(),
                    };
                    let text = self.take(len)?;
                    self.push(Value::Text(text));
                }
                // Bytes.
                b'B' | b'C' | 0x8e | 0x96 => {
                    let len = match opcode {
                        b'B' => self.u32()?.into(),
                        b'C' => self.byte()?.into(),
                        _ => u64::from_le_bytes(self.number()?),
                    };
                    self.take(len)?;
                    self.push(Value::Opaque);
                }
                b')' | b']' => self.push(Value::List(Vec::new())),
                0x85..=0x87 => self.tuple((opcode - 0x84).into())?,
                b't' | b'l' => {
                    let items = self.pop_mark()?;
                    self.push(Value::List(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    let target = self.top()?;
                    self.append(target, vec![item]);
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    let target = self.top()?;
                    self.append(target, items);
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(Vec::new()));
                    let target = self.top()?;
                    self.set_items(target, &items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    let target = self.top()?;
                    self.set_items(target, &[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    let target = self.top()?;
                    self.set_items(target, &items)?;
                }
                0x8f => self.push(Value::Opaque),
                // Sets are not looked into.
                0x90 => {
                    self.pop_mark()?;
                    self.top()?;
                }
                0x91 => {
                    self.pop_mark()?;
                    self.push(Value::Opaque);
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (self.values.get(module as usize), self.values.get(name as usize)) {
                        (Some(Value::Text(module)), Some(Value::Text(name))) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.global(module, name)?;
                        }
                        _ => return self.damaged("a class has no name"),
                    }
                }
                b'R' | 0x81 => {
                    let (arguments, callable) = (self.pop()?, self.pop()?);
                    self.call(callable, arguments)?;
                }
                0x92 => {
                    let (_, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                    self.call(class, arguments)?;
                }
                // The state of an object is not looked into: only its dict's own items are.
                b'b' => {
                    self.pop()?;
                    self.top()?;
                }
                b'i' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.pop_mark()?;
                    self.global(module, name)?;
                    let class = self.pop()?;
                    let value = self.refuse(class);
                    self.push(value);
                }
                b'o' => {
                    let items = self.pop_mark()?;
                    let value = items.first().map_or(Value::Opaque, |&class| self.refuse(class));
                    self.push(value);
                }
                // Registered extensions: numbers that mean classes.
                0x82..=0x84 => {
                    self.take([1, 2, 4][usize::from(opcode - 0x82)])?;
                    self.push(Value::Opaque);
                }
                b'P' => {
                    self.line()?;
                    self.push(Value::Opaque);
                }
                b'Q' => {
                    let id = self.pop()?;
                    let value = self.storage(id);
                    self.push(value);
                }
                b'g' => {
                    let key = self.key_of_line()?;
                    self.recall(key)?;
                }
                b'h' => {
                    let key = self.byte()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = self.u32()?;
                    self.recall(key)?;
                }
                b'p' => {
                    let key = self.key_of_line()?;
                    self.remember(key)?;
                }
                b'q' => {
                    let key = self.byte()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = self.u32()?;
                    self.remember(key)?;
                }
                0x94 => {
                    let key = self.memo.len() as u32;
                    self.remember(key)?;
                }
                other => return self.damaged(&format!("opcode {other:#04x} is not known")),
            }
        }
        self.damaged(&format!("it has more than {OPCODES} instructions"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> Result<Pickle> {
        interpret("a.pth", bytes.to_vec())
    }

    #[test]
    fn nothing_is_called() {
        // os.system("echo")
        let pickle = run(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00echo\x85R.").unwrap();
        assert_eq!(pickle.get(pickle.root), &Value::Opaque);
        assert_eq!(pickle.refused.as_deref(), Some("os.system"));
    }

    #[test]
    fn containers_and_integers() {
        // {"a": (1, -2, 300), "a": [True]}: the later value counts.
        let pickle = run(b"\x80\x04}(\x8c\x01aK\x01J\xfe\xff\xff\xffM\x2c\x01\x87\x8c\x01a]\x88au.").unwrap();
        let Value::Dict(entries) = pickle.get(pickle.root) else { panic!() };
        let Value::List(list) = pickle.get(pickle.find(entries, "a").unwrap()) else { panic!() };
        assert_eq!(list.iter().map(|&id| pickle.get(id)).collect::<Vec<_>>(), [&Value::Bool(true)]);
        let Value::List(tuple) = pickle.get(entries[0].1) else { panic!() };
        assert_eq!(tuple.iter().map(|&id| pickle.get(id).clone()).collect::<Vec<_>>(), [Value::Int(1), Value::Int(-2), Value::Int(300)]);
        let long = run(b"\x80\x02\x8a\x02\x00\x80.").unwrap();
        assert_eq!(long.get(long.root), &Value::Int(-32768));
    }

    #[test]
    fn a_list_that_contains_itself_ends() {
        let pickle = run(b"\x80\x02]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.get(pickle.root), &Value::List(vec![pickle.root]));
    }

    #[test]
    fn damage_is_said() {
        for bytes in [
            &b""[..],
            b"\x80",
            b"\x80\x02",
            b".",
            b"\x80\x02K",
            b"(.",
            b"h\x07.",
            b"(0.",
            b"(K\x01u.",
            b"X\xff\xff\xff\xffa.",
            b"\x97.",
            b"R.",
        ] {
            assert!(run(bytes).is_err(), "{bytes:?}");
        }
    }
}
