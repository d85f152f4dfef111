//! Small constant arrays of a graph: shapes, axes, pads, scales.

use std::collections::HashMap;

use super::Attribute;

/// A constant array in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Values,
}

/// Elements of an [`Array`].
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floats of any width.
    Float(Vec<f32>),
    /// Integers of any width; booleans as 0 and 1.
    Int(Vec<i64>),
}

/// What a Constant node with these attributes gives. Nothing for strings and sparse tensors.
pub fn constant(attributes: &HashMap<String, Attribute>) -> Option<Array> {
    let array = |shape, values| Some(Array { shape, values });
    ["value", "value_float", "value_floats", "value_int", "value_ints"].iter().find_map(|name| match attributes.get(*name)? {
        Attribute::Array(a) => Some(a.clone()),
        Attribute::Float(f) => array(vec![], Values::Float(vec![*f])),
        Attribute::Int(i) => array(vec![], Values::Int(vec![*i])),
        Attribute::Floats(f) => array(vec![f.len()], Values::Float(f.clone())),
        Attribute::Ints(i) => array(vec![i.len()], Values::Int(i.clone())),
        Attribute::Text(_) | Attribute::Other => None,
    })
}
