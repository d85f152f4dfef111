//! The network as a file describes it, and its way to something that runs:
//!
//! ```text
//! ONNX ─ io::onnx ─┐
//!                  ├─→ Graph ─ batch_norm ─→ folds ─┐
//! weights ─ templates ─┘        └──────── lower ────┴─→ nn::Network
//! ```
//!
//! A [`Graph`] is ONNX's, by name and without shapes; [`templates`] write one for files that hold weights only. [`lower`] turns it,
//! for given shapes of inputs, into a [`crate::nn::Network`]: operators of every opset become those of [`crate::nn`], shapes
//! are inferred, what is constant is computed, batch norms are folded. [`Runnable`] is a graph with its weights in memory. [`offsets`] finds
//! the tensors that are added to what layers give.

pub mod array;
pub mod batch_norm;
pub mod lower;
pub mod offsets;
pub mod runnable;
pub mod templates;

use std::collections::HashMap;

pub use array::{Array, Values};
pub use runnable::Runnable;

/// A graph, by names. Tensors that are not in `constants` and are not computed are in the model's table
/// ([`crate::io::Model::tensors`]) under the same name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// Version of ONNX's standard operator set.
    pub opset: i64,
    /// Inputs that have to be given (initializers are none).
    pub inputs: Vec<Input>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Nodes, in an order in which they can run.
    pub nodes: Vec<Node>,
    /// Constants that are not in the model's table: integers, and small floats.
    pub constants: HashMap<String, Array>,
    /// Free text that came with the model, by key (ONNX `metadata_props`).
    pub metadata: HashMap<String, String>,
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Length of each axis; `None` where it is free. Empty as a whole when the file does not say.
    pub dims: Vec<Option<usize>>,
}

/// A node of a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its name, which may be empty.
    pub name: String,
    /// The operator.
    pub op: String,
    /// Its domain; empty for the standard one.
    pub domain: String,
    /// Names of its inputs; an empty name is an input left out.
    pub inputs: Vec<String>,
    /// Names of its outputs; an empty name is an output left out.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: HashMap<String, Attribute>,
}

/// An attribute of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// Integer.
    Int(i64),
    /// Float.
    Float(f32),
    /// Text.
    Text(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// A tensor.
    Array(Array),
    /// Anything else (a graph, …), which no operator that is supported has.
    Other,
}
