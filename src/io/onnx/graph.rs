//! The graph of the model, for running it: nodes with their attributes, inputs, outputs, and the constants that are not in the table.
//!
//! Reading it is apart from reading the tensors: a model whose graph is damaged or odd can still be compressed.

use std::collections::HashSet;
use std::ops::Range;

use half::{bf16, f16};

use super::walk::{DOUBLE_DATA, FLOAT_DATA, Found, GRAPH, INT32_DATA, RAW_DATA, Tensor, Walk};
use super::wire::{Field, FieldValue, fields, integers, text, varint};
use crate::error::{FETCH_AGAIN, Result, bad};
use crate::graph::{Array, Attribute, Graph, Input, Node, Values};
use crate::io::source::read_vec;
use crate::io::table::Table;
use crate::io::{Source, TensorReader};
use crate::limits;

// Field numbers are those of onnx.proto.
const MODEL_OPSET: u64 = 8;
const MODEL_METADATA: u64 = 14;
const GRAPH_NODE: u64 = 1;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_NAME: u64 = 3;
const NODE_OP: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const NODE_DOMAIN: u64 = 7;
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_F: u64 = 2;
const ATTRIBUTE_I: u64 = 3;
const ATTRIBUTE_S: u64 = 4;
const ATTRIBUTE_T: u64 = 5;
const ATTRIBUTE_FLOATS: u64 = 7;
const ATTRIBUTE_INTS: u64 = 8;
const ATTRIBUTE_TYPE: u64 = 20;
const TENSOR_DIMS: u64 = 1;
const TENSOR_TYPE: u64 = 2;
const TENSOR_INT64: u64 = 7;
const TENSOR_UINT64: u64 = 11;
const TENSOR_LOCATION: u64 = 14;

/// Most elements of a constant that is read. Shapes, axes and tables of indices have fewer; quantized weights, which no operator
/// that can be run takes, often have more.
const MOST: usize = 1 << 20;

/// Reads the graph. `placed` tells which tensors of the walk are in the table, and where.
pub(super) fn read(source: &dyn Source, walk: &Walk, placed: &[Option<usize>], table: &Table) -> Result<Graph> {
    let mut reader = Reader { source, kept: 0, graph: Graph { opset: 1, ..Graph::default() } };
    let mut elsewhere: HashSet<&str> = HashSet::new();
    let mut initializers: HashSet<&str> = HashSet::new();
    for (tensor, place) in walk.tensors.iter().zip(placed) {
        match tensor.found {
            Found::Buried => continue,
            Found::Initializer => {
                initializers.insert(&tensor.name);
            }
            Found::Constant => {}
        }
        match place {
            Some(index) if table.infos[*index].dtype.is_float() => {
                elsewhere.insert(&tensor.name);
            }
            _ => reader.constant(walk, tensor, *place, table).map_err(|e| e.tensor(&tensor.name))?,
        }
    }
    fields(source, 0..source.len(), &mut |field| match field.number {
        MODEL_OPSET if field.is(MODEL_OPSET) => reader.opset(&field),
        MODEL_METADATA if field.is(MODEL_METADATA) => reader.metadata(&field),
        GRAPH if field.is(GRAPH) => fields(source, field.content.clone(), &mut |inner| match inner.number {
            GRAPH_NODE if inner.is(GRAPH_NODE) => reader.node(&inner, &elsewhere),
            GRAPH_INPUT if inner.is(GRAPH_INPUT) => {
                let input = reader.input(&inner)?;
                if !initializers.contains(&*input.name) {
                    reader.graph.inputs.push(input);
                }
                Ok(())
            }
            GRAPH_OUTPUT if inner.is(GRAPH_OUTPUT) => {
                let output = reader.input(&inner)?.name;
                reader.graph.outputs.push(output);
                Ok(())
            }
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(reader.graph)
}

struct Reader<'a> {
    source: &'a dyn Source,
    /// Bytes of the graph in memory.
    kept: u64,
    graph: Graph,
}

impl Reader<'_> {
    fn keep(&mut self, bytes: usize) -> Result<()> {
        self.kept += bytes as u64 + 64;
        match self.kept > limits::HEADER {
            true => Err(bad(self.source.name(), format!("its graph has more than {} bytes", limits::HEADER), "split the model")),
            false => Ok(()),
        }
    }

    fn text(&mut self, field: &Field) -> Result<String> {
        let text = text(self.source, &field.content)?;
        self.keep(text.len())?;
        Ok(text)
    }

    fn constant(&mut self, walk: &Walk, tensor: &Tensor, place: Option<usize>, table: &Table) -> Result<()> {
        let array = match place {
            // Integers, here or in another file: the table knows where.
            Some(index) => {
                let Some(elements) = element_count(&tensor.dims) else { return Ok(()) };
                let bytes = match element_bytes(tensor.data_type) {
                    Some(size) if table.infos[index].bytes() == elements * size => table.read(index)?,
                    _ => return Ok(()),
                };
                self.keep(8 * elements)?;
                decode(&bytes, tensor.data_type).map(|values| Array { shape: shape(&tensor.dims), values })
            }
            None => self.array(walk.messages[tensor.message].content.clone())?,
        };
        if let Some(array) = array {
            self.keep(tensor.name.len() + size_of::<Array>())?;
            self.graph.constants.insert(tensor.name.clone(), array);
        }
        Ok(())
    }

    fn opset(&mut self, field: &Field) -> Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        fields(self.source, field.content.clone(), &mut |inner| {
            match inner.number {
                1 if inner.is(1) => domain = text(self.source, &inner.content)?,
                2 => version = inner.integer().unwrap_or_default(),
                _ => {}
            }
            Ok(())
        })?;
        if domain.is_empty() || domain == "ai.onnx" {
            self.graph.opset = version;
        }
        Ok(())
    }

    fn metadata(&mut self, field: &Field) -> Result<()> {
        // Programs put whole configurations there; what is longer is not for us.
        const LONGEST: u64 = 1 << 20;
        let mut entry = [const { String::new() }; 2];
        fields(self.source, field.content.clone(), &mut |inner| {
            let length = inner.content.end - inner.content.start;
            if let (1 | 2, true) = (inner.number, length <= LONGEST) {
                self.keep(length as usize)?;
                let bytes = read_vec(self.source, inner.content.start, length)?;
                entry[inner.number as usize - 1] = String::from_utf8_lossy(&bytes).into_owned();
            }
            Ok(())
        })?;
        let [key, value] = entry;
        self.graph.metadata.insert(key, value);
        Ok(())
    }

    /// A `ValueInfoProto`: name, and dimensions where it is a tensor whose shape is given.
    fn input(&mut self, field: &Field) -> Result<Input> {
        let mut name = String::new();
        let mut dims = Vec::new();
        let source = self.source;
        fields(source, field.content.clone(), &mut |inner| match inner.number {
            1 if inner.is(1) => {
                name = self.text(&inner)?;
                Ok(())
            }
            // TypeProto.tensor_type.shape.dim
            2 if inner.is(2) => nested(source, inner.content, &[1, 2, 1], &mut |dim| {
                if dims.len() >= limits::DIMENSIONS {
                    return Err(bad(source.name(), format!("an input has more than {} dimensions", limits::DIMENSIONS), FETCH_AGAIN));
                }
                let mut length = None;
                fields(source, dim.content, &mut |part| {
                    if let (1, Some(n)) = (part.number, part.integer()) {
                        length = usize::try_from(n).ok();
                    }
                    Ok(())
                })?;
                dims.push(length);
                Ok(())
            }),
            _ => Ok(()),
        })?;
        self.keep(size_of::<Input>() + 16 * dims.len())?;
        Ok(Input { name, dims })
    }

    fn node(&mut self, field: &Field, elsewhere: &HashSet<&str>) -> Result<()> {
        let mut node = Node::default();
        fields(self.source, field.content.clone(), &mut |inner| {
            match inner.number {
                NODE_INPUT if inner.is(NODE_INPUT) => node.inputs.push(self.text(&inner)?),
                NODE_OUTPUT if inner.is(NODE_OUTPUT) => node.outputs.push(self.text(&inner)?),
                NODE_NAME if inner.is(NODE_NAME) => node.name = self.text(&inner)?,
                NODE_OP if inner.is(NODE_OP) => node.op = self.text(&inner)?,
                NODE_DOMAIN if inner.is(NODE_DOMAIN) => node.domain = self.text(&inner)?,
                NODE_ATTRIBUTE if inner.is(NODE_ATTRIBUTE) => {
                    let (name, attribute) = self.attribute(&inner)?;
                    node.attributes.insert(name, attribute);
                }
                _ => {}
            }
            Ok(())
        })?;
        if node.domain == "ai.onnx" {
            node.domain.clear();
        }
        if let ("Constant", "", [output]) = (&*node.op, &*node.domain, &*node.outputs) {
            // Its tensor was read with the initializers.
            if node.attributes.contains_key("value") && (elsewhere.contains(&**output) || self.graph.constants.contains_key(output)) {
                return Ok(());
            }
            if let Some(array) = crate::graph::array::constant(&node.attributes)
                && !self.graph.constants.contains_key(output)
            {
                self.graph.constants.insert(output.clone(), array);
                return Ok(());
            }
        }
        self.keep(size_of::<Node>())?;
        self.graph.nodes.push(node);
        Ok(())
    }

    fn attribute(&mut self, field: &Field) -> Result<(String, Attribute)> {
        let mut name = String::new();
        let mut kind = 0;
        let (mut float, mut integer, mut bytes, mut tensor) = (None, None, None, None);
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        let source = self.source;
        fields(source, field.content.clone(), &mut |inner| {
            match (inner.number, inner.value) {
                (ATTRIBUTE_NAME, FieldValue::Len(_)) => name = self.text(&inner)?,
                (ATTRIBUTE_F, FieldValue::I32(v)) => float = Some(f32::from_le_bytes(v.to_le_bytes())),
                (ATTRIBUTE_I, _) => integer = inner.integer(),
                (ATTRIBUTE_S, FieldValue::Len(len)) if len <= limits::NAME as u64 => {
                    bytes = Some(read_vec(source, inner.content.start, len)?);
                    self.keep(len as usize)?;
                }
                (ATTRIBUTE_T, FieldValue::Len(_)) => tensor = self.array(inner.content)?,
                (ATTRIBUTE_FLOATS, FieldValue::I32(v)) => {
                    self.keep(4)?;
                    floats.push(f32::from_le_bytes(v.to_le_bytes()));
                }
                (ATTRIBUTE_FLOATS, FieldValue::Len(len)) if len <= 4 * MOST as u64 => {
                    self.keep(len as usize)?;
                    let bytes = read_vec(source, inner.content.start, len)?;
                    floats.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)));
                }
                (ATTRIBUTE_INTS, _) => {
                    // An integer takes a byte of the file at least, and eight here.
                    self.keep(8 * (inner.content.end - inner.content.start) as usize)?;
                    integers(source, &inner, MOST, &mut ints)?;
                }
                (ATTRIBUTE_TYPE, _) => kind = inner.integer().unwrap_or_default(),
                _ => {}
            }
            Ok(())
        })?;
        self.keep(size_of::<(String, Attribute)>())?;
        let word = |bytes: Vec<u8>| String::from_utf8(bytes).map_or(Attribute::Other, Attribute::Text);
        // Writers may leave zeros and empty lists out, so that only the type tells what there is; old ones leave the type out.
        let attribute = match kind {
            1 => Attribute::Float(float.unwrap_or_default()),
            2 => Attribute::Int(integer.unwrap_or_default()),
            3 => bytes.map_or(Attribute::Other, word),
            4 => tensor.map_or(Attribute::Other, Attribute::Array),
            6 => Attribute::Floats(floats),
            7 => Attribute::Ints(ints),
            0 => match (float, integer, bytes, tensor) {
                (Some(f), None, None, None) => Attribute::Float(f),
                (None, Some(i), None, None) => Attribute::Int(i),
                (None, None, Some(s), None) => word(s),
                (None, None, None, Some(t)) => Attribute::Array(t),
                _ if !ints.is_empty() => Attribute::Ints(ints),
                _ if !floats.is_empty() => Attribute::Floats(floats),
                _ => Attribute::Other,
            },
            _ => Attribute::Other,
        };
        Ok((name, attribute))
    }

    /// The `TensorProto` that fills `message`, if it is one that operators can be given: not large, not of strings, not elsewhere.
    fn array(&mut self, message: Range<u64>) -> Result<Option<Array>> {
        let source = self.source;
        let mut dims = Vec::new();
        let mut kind = 0;
        let mut raw = None;
        let mut data = Vec::new();
        let mut elsewhere = false;
        fields(source, message, &mut |field| {
            match field.number {
                TENSOR_DIMS => integers(source, &field, limits::DIMENSIONS, &mut dims)?,
                TENSOR_TYPE => kind = field.integer().unwrap_or_default(),
                TENSOR_LOCATION => elsewhere = field.integer() == Some(1),
                RAW_DATA if field.is(RAW_DATA) => raw = Some(field.content),
                FLOAT_DATA | INT32_DATA | TENSOR_INT64 | DOUBLE_DATA | TENSOR_UINT64 if data.len() <= MOST => data.push(field),
                _ => {}
            }
            Ok(())
        })?;
        let dims: Option<Vec<u64>> = dims.into_iter().map(|d| u64::try_from(d).ok()).collect();
        let Some(dims) = dims.filter(|_| !elsewhere) else { return Ok(None) };
        let (Some(elements), Some(size)) = (element_count(&dims), element_bytes(kind)) else { return Ok(None) };
        let wrong = |n: usize| bad(source.name(), format!("it holds {n} values instead of {elements}"), FETCH_AGAIN);
        // What the file claims is believed once there are as many bytes.
        let values = match raw {
            Some(range) if range.end - range.start == (elements * size) as u64 => {
                decode(&read_vec(source, range.start, range.end - range.start)?, kind)
            }
            Some(range) => return Err(wrong((range.end - range.start) as usize / size)),
            None => {
                let values = typed(source, &data, kind, elements)?;
                let held = match &values {
                    Values::Float(v) => v.len(),
                    Values::Int(v) => v.len(),
                };
                if held != elements {
                    return Err(wrong(held));
                }
                Some(values)
            }
        };
        self.keep(8 * elements)?;
        Ok(values.map(|values| Array { shape: shape(&dims), values }))
    }
}

/// Calls `visit` for the messages at the end of a path of fields.
fn nested(source: &dyn Source, message: Range<u64>, path: &[u64], visit: &mut dyn FnMut(Field) -> Result<()>) -> Result<()> {
    let Some((&number, rest)) = path.split_first() else { return Ok(()) };
    fields(source, message, &mut |field| match (field.is(number), rest.is_empty()) {
        (true, true) => visit(field),
        (true, false) => nested(source, field.content, rest, visit),
        _ => Ok(()),
    })
}

fn shape(dims: &[u64]) -> Vec<usize> {
    dims.iter().map(|&d| d as usize).collect()
}

/// Number of elements, if there are at most [`MOST`].
fn element_count(dims: &[u64]) -> Option<usize> {
    let dims: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    limits::element_count(&dims?).filter(|&n| n <= MOST)
}

/// Bytes per element of those ONNX data types that become an [`Array`].
fn element_bytes(data_type: i64) -> Option<usize> {
    Some(match data_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 => 8,
        _ => return None,
    })
}

/// Little-endian elements of an ONNX data type.
fn decode(bytes: &[u8], data_type: i64) -> Option<Values> {
    Some(match data_type {
        1 => Values::Float(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        10 => Values::Float(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
        11 => Values::Float(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()),
        16 => Values::Float(bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect()),
        2 => Values::Int(bytes.iter().map(|&b| b.into()).collect()),
        3 => Values::Int(bytes.iter().map(|&b| (b as i8).into()).collect()),
        4 => Values::Int(bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b).into()).collect()),
        5 => Values::Int(bytes.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b).into()).collect()),
        6 => Values::Int(bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()),
        7 => Values::Int(bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
        9 => Values::Int(bytes.iter().map(|&b| i64::from(b != 0)).collect()),
        12 => Values::Int(bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b).into()).collect()),
        13 => Values::Int(bytes.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b) as i64).collect()),
        _ => return None,
    })
}

/// The elements in the typed fields of a `TensorProto`, at most one more than `elements`.
fn typed(source: &dyn Source, data: &[Field], data_type: i64, elements: usize) -> Result<Values> {
    let number = match data_type {
        1 => FLOAT_DATA,
        11 => DOUBLE_DATA,
        7 => TENSOR_INT64,
        12 | 13 => TENSOR_UINT64,
        _ => INT32_DATA,
    };
    let (mut floats, mut ints) = (Vec::new(), Vec::new());
    for field in data.iter().filter(|field| field.number == number) {
        match (data_type, field.value) {
            (1, FieldValue::I32(v)) => floats.push(f32::from_le_bytes(v.to_le_bytes())),
            (11, FieldValue::I64(v)) => floats.push(f64::from_le_bytes(v.to_le_bytes()) as f32),
            (1 | 11, FieldValue::Len(len)) if len <= 8 * MOST as u64 => {
                if let Some(Values::Float(more)) = decode(&read_vec(source, field.content.start, len)?, data_type) {
                    floats.extend(more);
                }
            }
            (1 | 11, _) => {}
            (_, FieldValue::Varint(v)) => ints.push(v as i64),
            (_, FieldValue::Len(len)) if len <= (MOST * varint::MAX_VARINT_LEN) as u64 => {
                integers(source, field, MOST, &mut ints)?;
            }
            _ => {}
        }
        if floats.len().max(ints.len()) > elements {
            break;
        }
    }
    Ok(match data_type {
        1 | 11 => Values::Float(floats),
        // 16-bit floats hide in the low half of 32-bit integers.
        10 => Values::Float(ints.into_iter().map(|i| f16::from_bits(i as u16).to_f32()).collect()),
        16 => Values::Float(ints.into_iter().map(|i| bf16::from_bits(i as u16).to_f32()).collect()),
        9 => Values::Int(ints.into_iter().map(|i| i64::from(i != 0)).collect()),
        _ => Values::Int(ints),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_types() {
        assert_eq!(decode(&[1, 0xff], 3), Some(Values::Int(vec![1, -1])));
        assert_eq!(decode(&[1, 0xff], 2), Some(Values::Int(vec![1, 255])));
        assert_eq!(decode(&[2, 0], 9), Some(Values::Int(vec![1, 0])));
        assert_eq!(decode(&[0xff, 0xff], 5), Some(Values::Int(vec![-1])));
        assert_eq!(decode(&[0xff, 0xff], 4), Some(Values::Int(vec![65535])));
        assert_eq!(decode(&[0, 0x3c], 10), Some(Values::Float(vec![1.0])));
        assert_eq!(decode(&[0x80, 0x3f], 16), Some(Values::Float(vec![1.0])));
        assert_eq!(decode(&1.5f64.to_le_bytes(), 11), Some(Values::Float(vec![1.5])));
        assert_eq!(decode(&(-7i64).to_le_bytes(), 7), Some(Values::Int(vec![-7])));
        assert_eq!(decode(&[1], 8), None, "strings");
    }
}
