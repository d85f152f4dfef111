//! A node that is lowered: its attributes and inputs, read with their types checked.

use super::{Clause, Context, Operand};
use crate::{
    graph::{Attribute, Node, Values},
    nn::network::ValueId,
};

/// A node with the values of its inputs.
pub(super) struct Call<'a> {
    pub node: &'a Node,
    pub opset: i64,
    /// What messages call it.
    pub called: &'a str,
    /// Inputs; `None` where they are left out.
    pub inputs: Vec<Option<Operand>>,
}

impl Call<'_> {
    /// An integer attribute.
    pub fn int(&self, name: &str) -> Clause<Option<i64>> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Int(i)) => Ok(Some(*i)),
            Some(_) => Err(format!("its attribute `{name}` is not an integer")),
        }
    }

    pub fn int_or(&self, name: &str, default: i64) -> Clause<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub fn flag(&self, name: &str) -> Clause<bool> {
        Ok(self.int_or(name, 0)? != 0)
    }

    /// A length, side or count: 1 to 32767, so that no product of two overflows 32 bits.
    pub fn size(&self, name: &str, value: i64, least: i64) -> Clause<usize> {
        match (least..1 << 15).contains(&value) {
            true => Ok(value as usize),
            false => Err(format!("its {name} of {value} is not between {least} and {}", (1 << 15) - 1)),
        }
    }

    pub fn float_or(&self, name: &str, default: f32) -> Clause<f32> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(f)) => Ok(*f),
            Some(Attribute::Int(i)) => Ok(*i as f32),
            Some(_) => Err(format!("its attribute `{name}` is not a number")),
        }
    }

    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> Clause<&'a str> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Text(text)) => Ok(text),
            Some(_) => Err(format!("its attribute `{name}` is not a text")),
        }
    }

    pub fn ints(&self, name: &str) -> Clause<Option<&[i64]>> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(list)) => Ok(Some(list)),
            Some(_) => Err(format!("its attribute `{name}` is not a list of integers")),
        }
    }

    pub fn floats(&self, name: &str) -> Clause<Option<&[f32]>> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Floats(list)) => Ok(Some(list)),
            Some(_) => Err(format!("its attribute `{name}` is not a list of numbers")),
        }
    }

    /// An input, unless it is left out.
    pub fn optional(&self, position: usize) -> Option<&Operand> {
        self.inputs.get(position)?.as_ref()
    }

    pub fn input(&self, position: usize) -> Clause<&Operand> {
        self.optional(position).ok_or_else(|| format!("its input {} is missing", position + 1))
    }

    /// An input as a value of the network.
    pub fn value(&self, context: &mut Context, position: usize) -> Clause<ValueId> {
        Ok(context.value(self.input(position)?))
    }

    /// All inputs, none left out, at least one.
    pub fn all(&self) -> Clause<Vec<Operand>> {
        match self.inputs.is_empty() {
            true => Err("it has no inputs".into()),
            false => (0..self.inputs.len()).map(|i| self.input(i).cloned()).collect(),
        }
    }

    /// Inputs from the first on as values of the network; those left out at the end do not count.
    pub fn values(&self, context: &mut Context, least: usize, most: usize) -> Clause<Vec<ValueId>> {
        let given = self.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        (0..given.clamp(least, most)).map(|i| self.value(context, i)).collect()
    }

    /// Elements of an input that has to be known, by what it is for: `its shape`.
    pub fn known(&self, context: &Context, position: usize, what: &str) -> Clause<Option<Values>> {
        let Some(operand) = self.optional(position) else { return Ok(None) };
        match context.known(operand) {
            Some(array) => Ok(Some(array.values)),
            None => Err(self.computed(position, what)),
        }
    }

    /// The clause that something has to be known and is not.
    pub fn computed(&self, position: usize, what: &str) -> String {
        let name = self.node.inputs.get(position).map_or("", |name| name);
        format!("{what} (input {}, `{name}`) is computed from the data, and would have to be known", position + 1)
    }

    pub fn known_ints(&self, context: &Context, position: usize, what: &str) -> Clause<Option<Vec<i64>>> {
        Ok(match self.known(context, position, what)? {
            None => None,
            Some(Values::Int(list)) => Some(list),
            Some(Values::Float(list)) => Some(list.into_iter().map(|f| f as i64).collect()),
        })
    }

    pub fn known_floats(&self, context: &Context, position: usize, what: &str) -> Clause<Option<Vec<f32>>> {
        Ok(match self.known(context, position, what)? {
            None => None,
            Some(Values::Int(list)) => Some(list.into_iter().map(|i| i as f32).collect()),
            Some(Values::Float(list)) => Some(list),
        })
    }

    /// A list of integers that is an attribute in old opsets and an input in new ones.
    pub fn list(&self, context: &Context, attribute: &str, position: usize) -> Clause<Option<Vec<i64>>> {
        match self.known_ints(context, position, &format!("its {attribute}"))? {
            Some(list) => Ok(Some(list)),
            None => Ok(self.ints(attribute)?.map(<[i64]>::to_vec)),
        }
    }
}
