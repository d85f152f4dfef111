//! First pass: where the tensors and nodes of a `ModelProto` stand. Field numbers are those of onnx.proto.

use std::ops::Range;

use super::wire::FieldValue;

use super::wire::{Field, fields, integers, text};
use crate::error::{FETCH_AGAIN, Result, bad};
use crate::io::Source;
use crate::limits;

/// `ModelProto.graph`.
pub(super) const GRAPH: u64 = 7;
const MODEL_TRAINING: u64 = 20;
const MODEL_FUNCTIONS: u64 = 25;
const TRAINING_INITIALIZATION: u64 = 1;
const TRAINING_ALGORITHM: u64 = 2;
const FUNCTION_NODE: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_OP: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const NODE_DOMAIN: u64 = 7;
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_I: u64 = 3;
const ATTRIBUTE_T: u64 = 5;
const ATTRIBUTE_G: u64 = 6;
const ATTRIBUTE_INTS: u64 = 8;
const ATTRIBUTE_TENSORS: u64 = 10;
const ATTRIBUTE_GRAPHS: u64 = 11;
const DIMS: u64 = 1;
const DATA_TYPE: u64 = 2;
/// `TensorProto.float_data`.
pub(super) const FLOAT_DATA: u64 = 4;
/// `TensorProto.int32_data`, which holds 16-bit floats too.
pub(super) const INT32_DATA: u64 = 5;
const NAME: u64 = 8;
/// `TensorProto.raw_data`.
pub(super) const RAW_DATA: u64 = 9;
/// `TensorProto.double_data`.
pub(super) const DOUBLE_DATA: u64 = 10;
const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;

/// A message whose length may have to be rewritten.
pub(super) struct Message {
    /// Where its length stands: up to the start of `content`.
    pub length_at: u64,
    /// Its content.
    pub content: Range<u64>,
    /// The message around it; `None` for the model.
    pub parent: Option<usize>,
}

/// Where a tensor was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// An initializer of the main graph.
    Initializer,
    /// The value of a Constant node of the main graph.
    Constant,
    /// In a subgraph, a function, or another attribute.
    Buried,
}

/// A `TensorProto`, without its data.
pub(super) struct Tensor {
    pub found: Found,
    /// Its name; of a constant, that of the node's output.
    pub name: String,
    pub dims: Vec<u64>,
    pub data_type: i64,
    /// Its message, in [`Walk::messages`].
    pub message: usize,
    /// Content of `raw_data`.
    pub raw: Option<Range<u64>>,
    /// Runs of typed data fields, whole, with their numbers, and the content when it is a single packed field.
    pub typed: Vec<Field>,
    /// Entries of `external_data`.
    pub external: Vec<(String, String)>,
    /// Whether `data_location` says that the data are in another file.
    pub is_external: bool,
    /// The fields `external_data` and `data_location`, whole.
    pub pointers: Vec<Range<u64>>,
}

/// What roles need to know of a node of the main graph.
#[derive(Default)]
pub(super) struct Node {
    pub op: String,
    pub inputs: Vec<String>,
    pub output: String,
    pub group: Option<i64>,
    pub trans_a: bool,
    pub trans_b: bool,
    pub permutation: Option<Vec<i64>>,
}

/// The structure of a model.
pub(super) struct Walk {
    /// Messages that hold tensors, each after the one around it.
    pub messages: Vec<Message>,
    /// Tensors in file order.
    pub tensors: Vec<Tensor>,
    /// Nodes of the main graph in the standard operator set.
    pub nodes: Vec<Node>,
}

/// Walks the model.
pub(super) fn walk(source: &dyn Source) -> Result<Walk> {
    let whole = 0..source.len();
    let root = Message { length_at: 0, content: whole.clone(), parent: None };
    let mut walker = Walker { source, kept: 0, walk: Walk { messages: vec![root], tensors: Vec::new(), nodes: Vec::new() } };
    fields(source, whole, &mut |field| match field.number {
        GRAPH if field.is(GRAPH) => walker.graph(&field, 0, true, 0),
        MODEL_TRAINING if field.is(MODEL_TRAINING) => {
            let message = walker.enter(&field, 0);
            fields(source, field.content.clone(), &mut |inner| match inner.number {
                TRAINING_INITIALIZATION | TRAINING_ALGORITHM if inner.is(inner.number) => walker.graph(&inner, message, false, 1),
                _ => Ok(()),
            })
        }
        MODEL_FUNCTIONS if field.is(MODEL_FUNCTIONS) => {
            let message = walker.enter(&field, 0);
            fields(source, field.content.clone(), &mut |inner| match inner.number {
                FUNCTION_NODE if inner.is(FUNCTION_NODE) => walker.node(&inner, message, false, 1),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    })?;
    Ok(walker.walk)
}

struct Walker<'a> {
    source: &'a dyn Source,
    /// Bytes of names and nodes kept in memory.
    kept: u64,
    walk: Walk,
}

impl Walker<'_> {
    fn enter(&mut self, field: &Field, parent: usize) -> usize {
        self.walk.messages.push(Message { length_at: field.length_at, content: field.content.clone(), parent: Some(parent) });
        self.walk.messages.len() - 1
    }

    /// Leaves a message again. One without tensors is forgotten: most nodes.
    fn leave(&mut self, message: usize, tensors_before: usize) {
        if self.walk.tensors.len() == tensors_before {
            self.walk.messages.truncate(message);
        }
    }

    fn deep(&self, depth: usize) -> Result<()> {
        match depth > limits::DEPTH {
            true => Err(bad(self.source.name(), format!("its graphs are nested deeper than {}", limits::DEPTH), FETCH_AGAIN)),
            false => Ok(()),
        }
    }

    fn keep(&mut self, bytes: usize) -> Result<()> {
        // Each node and name also costs its own bookkeeping, which a list of empty ones would make the larger part.
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

    fn graph(&mut self, field: &Field, parent: usize, main: bool, depth: usize) -> Result<()> {
        self.deep(depth)?;
        let (message, before) = (self.enter(field, parent), self.walk.tensors.len());
        fields(self.source, field.content.clone(), &mut |inner| match inner.number {
            GRAPH_NODE if inner.is(GRAPH_NODE) => self.node(&inner, message, main, depth + 1),
            GRAPH_INITIALIZER if inner.is(GRAPH_INITIALIZER) => {
                let found = if main { Found::Initializer } else { Found::Buried };
                self.tensor(&inner, message, found)
            }
            _ => Ok(()),
        })?;
        self.leave(message, before);
        Ok(())
    }

    fn node(&mut self, field: &Field, parent: usize, main: bool, depth: usize) -> Result<()> {
        self.deep(depth)?;
        let (message, before) = (self.enter(field, parent), self.walk.tensors.len());
        let mut node = Node::default();
        let mut domain = String::new();
        let mut attributes = Vec::new();
        fields(self.source, field.content.clone(), &mut |inner| {
            match inner.number {
                NODE_INPUT if inner.is(NODE_INPUT) && main => node.inputs.push(self.text(&inner)?),
                NODE_OUTPUT if inner.is(NODE_OUTPUT) && main && node.output.is_empty() => node.output = self.text(&inner)?,
                NODE_OP if inner.is(NODE_OP) => node.op = self.text(&inner)?,
                NODE_DOMAIN if inner.is(NODE_DOMAIN) => domain = self.text(&inner)?,
                NODE_ATTRIBUTE if inner.is(NODE_ATTRIBUTE) => {
                    self.keep(0)?;
                    attributes.push(inner);
                }
                _ => {}
            }
            Ok(())
        })?;
        let standard = main && (domain.is_empty() || domain == "ai.onnx");
        for attribute in attributes {
            self.attribute(&attribute, message, standard, &mut node, depth + 1)?;
        }
        self.leave(message, before);
        if standard && node.op != "Constant" {
            self.keep(std::mem::size_of::<Node>())?;
            self.walk.nodes.push(node);
        }
        Ok(())
    }

    fn attribute(&mut self, field: &Field, parent: usize, standard: bool, node: &mut Node, depth: usize) -> Result<()> {
        self.deep(depth)?;
        let (message, before) = (self.enter(field, parent), self.walk.tensors.len());
        let mut name = String::new();
        let mut integer = None;
        let mut list = Vec::new();
        let constant = standard && node.op == "Constant";
        fields(self.source, field.content.clone(), &mut |inner| {
            match inner.number {
                ATTRIBUTE_NAME if inner.is(ATTRIBUTE_NAME) => name = text(self.source, &inner.content)?,
                ATTRIBUTE_I => integer = inner.integer(),
                // Only permutations are of interest; longer lists stay where they are.
                ATTRIBUTE_INTS if list.len() < limits::DIMENSIONS => {
                    let short = inner.content.end - inner.content.start <= limits::DIMENSIONS as u64;
                    if short {
                        integers(self.source, &inner, limits::DIMENSIONS, &mut list)?;
                    }
                }
                ATTRIBUTE_T if inner.is(ATTRIBUTE_T) => {
                    self.tensor(&inner, message, if constant { Found::Constant } else { Found::Buried })?;
                    if let (true, Some(tensor)) = (constant, self.walk.tensors.last_mut()) {
                        tensor.name.clone_from(&node.output);
                    }
                }
                ATTRIBUTE_TENSORS if inner.is(ATTRIBUTE_TENSORS) => self.tensor(&inner, message, Found::Buried)?,
                ATTRIBUTE_G | ATTRIBUTE_GRAPHS if inner.is(inner.number) => self.graph(&inner, message, false, depth + 1)?,
                _ => {}
            }
            Ok(())
        })?;
        self.leave(message, before);
        match &*name {
            "group" => node.group = integer,
            "transA" => node.trans_a = integer.is_some_and(|i| i != 0),
            "transB" => node.trans_b = integer.is_some_and(|i| i != 0),
            "perm" => node.permutation = Some(list),
            _ => {}
        }
        Ok(())
    }

    fn tensor(&mut self, field: &Field, parent: usize, found: Found) -> Result<()> {
        let message = self.enter(field, parent);
        self.keep(std::mem::size_of::<Tensor>())?;
        if self.walk.tensors.len() >= 4 * limits::TENSORS {
            return Err(bad(self.source.name(), format!("it has more than {} tensors", 4 * limits::TENSORS), "split it"));
        }
        let mut tensor = Tensor {
            found,
            name: String::new(),
            dims: Vec::new(),
            data_type: 0,
            message,
            raw: None,
            typed: Vec::new(),
            external: Vec::new(),
            is_external: false,
            pointers: Vec::new(),
        };
        let mut dims = Vec::new();
        fields(self.source, field.content.clone(), &mut |inner| {
            match inner.number {
                DIMS => integers(self.source, &inner, limits::DIMENSIONS, &mut dims)?,
                DATA_TYPE => tensor.data_type = inner.integer().unwrap_or_default(),
                NAME if inner.is(NAME) => tensor.name = self.text(&inner)?,
                RAW_DATA if inner.is(RAW_DATA) && tensor.raw.is_some() => {
                    return Err(bad(self.source.name(), "a tensor has its data twice", FETCH_AGAIN));
                }
                RAW_DATA if inner.is(RAW_DATA) => tensor.raw = Some(inner.content),
                FLOAT_DATA | INT32_DATA | DOUBLE_DATA => match tensor.typed.last_mut() {
                    // Unpacked numbers are fields of their own, millions of them: one run.
                    Some(run) if run.number == inner.number && run.whole.end == inner.whole.start => {
                        run.whole.end = inner.whole.end;
                        run.value = FieldValue::Varint(0);
                    }
                    _ => {
                        self.keep(std::mem::size_of::<Field>())?;
                        tensor.typed.push(inner);
                    }
                },
                EXTERNAL_DATA if inner.is(EXTERNAL_DATA) => {
                    self.keep(std::mem::size_of::<(String, String, Range<u64>)>())?;
                    let mut entry = (String::new(), String::new());
                    fields(self.source, inner.content.clone(), &mut |part| {
                        match part.number {
                            1 if part.is(1) => entry.0 = self.text(&part)?,
                            2 if part.is(2) => entry.1 = self.text(&part)?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    tensor.external.push(entry);
                    tensor.pointers.push(inner.whole);
                }
                DATA_LOCATION => {
                    tensor.is_external = inner.integer() == Some(1);
                    tensor.pointers.push(inner.whole);
                }
                _ => {}
            }
            Ok(())
        })
        .map_err(|e| if tensor.name.is_empty() { e } else { e.tensor(&tensor.name) })?;
        for dim in dims {
            let Ok(dim) = u64::try_from(dim) else {
                return Err(bad(self.source.name(), format!("its shape has a dimension of {dim}"), FETCH_AGAIN).tensor(&tensor.name));
            };
            tensor.dims.push(dim);
        }
        self.walk.tensors.push(tensor);
        Ok(())
    }
}
