//! What the callables mean that PyTorch's checkpoints name: containers, tensors, storages.

use super::{Element, Id, Machine, OPCODES, Value};
use crate::error::Result;
use crate::io::Dtype;
use crate::limits;

impl Machine<'_> {
    /// Pushes what a call makes, for the callables that make containers and tensors.
    pub(super) fn call(&mut self, callable: Id, arguments: Id) -> Result<()> {
        let (name, arguments) = match (self.values.get(callable as usize), self.values.get(arguments as usize)) {
            (Some(Value::Global(name)), Some(Value::List(arguments))) => (&**name, &**arguments),
            _ => ("", &[][..]),
        };
        let made = match name {
            "collections OrderedDict" | "builtins dict" | "__builtin__ dict" => Some(Value::Dict(self.pairs(arguments.first()))),
            "collections defaultdict" => Some(Value::Dict(Vec::new())),
            "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2" | "torch._utils _rebuild_tensor_v3" => {
                self.tensor(arguments)
            }
            // (function, type, its arguments, state): a tensor with attributes, or of a subclass.
            "torch._tensor _rebuild_from_type_v2" => match (self.value(arguments.first()), self.value(arguments.get(2))) {
                (Some(Value::Global(inner)), Some(Value::List(list))) if inner.starts_with("torch._utils _rebuild_tensor") => {
                    self.tensor(list)
                }
                _ => None,
            },
            // Wrappers of their first argument: the value itself, not a copy.
            "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state" | "torch Size" => {
                if let Some(&inner) = arguments.first() {
                    self.stack.push(inner);
                    return Ok(());
                }
                None
            }
            // Known and harmless, and of no interest.
            "torch device" | "torch.serialization _get_layout" | "_codecs encode" | "builtins set" | "__builtin__ set" => {
                Some(Value::Opaque)
            }
            _ => None,
        };
        if let Some(Value::Dict(entries)) = &made {
            // The one copy there is: a short pickle must not copy a long list again and again.
            self.copied += entries.len();
            if self.copied > OPCODES {
                return self.damaged("it copies lists again and again");
            }
        }
        let value = made.unwrap_or_else(|| self.refuse(callable));
        self.push(value);
        Ok(())
    }

    fn value(&self, id: Option<&Id>) -> Option<&Value> {
        self.values.get(*id? as usize)
    }

    /// The items of `OrderedDict([(key, value), …])`.
    fn pairs(&self, list: Option<&Id>) -> Vec<(Id, Id)> {
        let Some(Value::List(items)) = self.value(list) else { return Vec::new() };
        let pair = |id: &Id| match self.values.get(*id as usize) {
            Some(Value::List(pair)) if pair.len() == 2 => Some((pair[0], pair[1])),
            _ => None,
        };
        items.iter().filter_map(pair).collect()
    }

    fn integers(&self, list: Option<&Id>) -> Option<Vec<u64>> {
        let Some(Value::List(items)) = self.value(list) else { return None };
        // More dimensions than allowed are an error later, with the tensor's name: one too many is enough to say so.
        let integer = |id: &Id| match self.values.get(*id as usize) {
            Some(Value::Int(i)) => u64::try_from(*i).ok(),
            _ => None,
        };
        items.iter().take(limits::DIMENSIONS + 1).map(integer).collect()
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, …)`; version 3 has the element type as seventh argument.
    fn tensor(&self, arguments: &[Id]) -> Option<Value> {
        let &storage = arguments.first()?;
        let Some(Value::Storage { element, .. }) = self.value(Some(&storage)) else { return None };
        let Some(Value::Int(offset)) = self.value(arguments.get(1)) else { return None };
        let element = match self.value(arguments.get(6)) {
            Some(Value::Global(name)) => dtype_element(name)?,
            _ => *element,
        };
        let (shape, strides) = (self.integers(arguments.get(2))?, self.integers(arguments.get(3))?);
        (shape.len() == strides.len()).then_some(())?;
        Some(Value::Tensor { storage, element, offset: u64::try_from(*offset).ok()?, shape, strides })
    }

    /// A persistent id, `("storage", type, key, location, number of elements)`.
    pub(super) fn storage(&self, id: Id) -> Value {
        let Some(Value::List(items)) = self.values.get(id as usize) else { return Value::Opaque };
        let value = |i: usize| items.get(i).and_then(|&id| self.values.get(id as usize));
        match (value(1), value(2), value(4)) {
            (Some(Value::Global(class)), Some(Value::Text(key)), Some(Value::Int(count))) => {
                match (storage_element(class), u64::try_from(*count)) {
                    (Some(element), Ok(count)) => Value::Storage { key: key.clone(), element, count },
                    _ => Value::Opaque,
                }
            }
            _ => Value::Opaque,
        }
    }
}

fn float(dtype: Dtype) -> Option<Element> {
    Some(Element { dtype, size: dtype.size() as u64 })
}

fn other(size: u64) -> Option<Element> {
    Some(Element { dtype: Dtype::Other(1), size })
}

fn storage_element(class: &str) -> Option<Element> {
    match class.rsplit_once(' ').filter(|(module, _)| module.starts_with("torch"))?.1 {
        "HalfStorage" => float(Dtype::F16),
        "BFloat16Storage" => float(Dtype::Bf16),
        "FloatStorage" => float(Dtype::F32),
        "DoubleStorage" => float(Dtype::F64),
        "BoolStorage" | "ByteStorage" | "CharStorage" | "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" => other(1),
        "ShortStorage" => other(2),
        "IntStorage" | "QInt32Storage" => other(4),
        "LongStorage" | "ComplexFloatStorage" => other(8),
        "ComplexDoubleStorage" => other(16),
        _ => None,
    }
}

fn dtype_element(global: &str) -> Option<Element> {
    match global.strip_prefix("torch ")? {
        "float16" | "half" => float(Dtype::F16),
        "bfloat16" => float(Dtype::Bf16),
        "float32" | "float" => float(Dtype::F32),
        "float64" | "double" => float(Dtype::F64),
        "bool" | "uint8" | "int8" => other(1),
        name if name.starts_with("float8_") => other(1),
        "int16" | "uint16" => other(2),
        "int32" | "uint32" => other(4),
        "int64" | "uint64" | "complex64" => other(8),
        "complex128" => other(16),
        _ => None,
    }
}
