//! Normalizations, and softmax.

use super::{Clause, Context, Operand, Rule, axis, node::Call};
use crate::nn::{
    binary::Binary,
    norm::{BatchNorm, InstanceNorm, LayerNorm, Lrn},
    softmax::Softmax,
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_norm),
    ("GroupNormalization", group_norm),
    ("InstanceNormalization", instance_norm),
    ("LRN", lrn),
    ("LayerNormalization", layer_norm),
    ("LogSoftmax", |context, call| softmax(context, call, true)),
    ("Softmax", |context, call| softmax(context, call, false)),
];

fn batch_norm(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    if call.flag("training_mode")? {
        return Err("it is in training mode".into());
    }
    if call.int_or("spatial", 1)? == 0 {
        return Err("its attribute `spatial` of 0 is not supported".into());
    }
    let epsilon = call.float_or("epsilon", 1e-5)?;
    let inputs = call.values(context, 5, 5)?;
    context.push(call, BatchNorm { epsilon }, &inputs)
}

/// Mean and deviation, its further outputs, cannot be had.
fn layer_norm(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let epsilon = call.float_or("epsilon", 1e-5)?;
    let inputs = call.values(context, 2, 3)?;
    let axis = axis(call.int_or("axis", -1)?, context.builder.shape(inputs[0]).len())?;
    context.push(call, LayerNorm { axis, epsilon }, &inputs)
}

fn instance_norm(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let epsilon = call.float_or("epsilon", 1e-5)?;
    let inputs = call.values(context, 3, 3)?;
    context.push(call, InstanceNorm { epsilon }, &inputs)
}

/// GroupNormalization: groups are the channels of an instance normalization; scale and bias are per group before opset 21, per
/// channel since.
fn group_norm(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let (scale, bias) = (call.input(1)?, call.input(2)?);
    let shape = context.shape(x);
    let groups = call.size("num_groups", call.int_or("num_groups", 0)?, 1)?;
    let epsilon = call.float_or("epsilon", 1e-5)?;
    let [batch, channels, ref space @ ..] = *shape else { return Err(format!("its input of shape {shape:?} has no channels")) };
    if channels % groups != 0 {
        return Err(format!("its {channels} channels are no multiple of {groups} groups"));
    }
    let grouped = vec![batch, groups, channels / groups * space.iter().product::<usize>()];
    let grouped = super::arrange::reshaped(context, call, x, grouped)?;
    let grouped = context.value(&grouped[0]);
    let per_channel = call.opset >= 21;
    let (one, zero) = match per_channel {
        true => (context.floats(vec![groups], vec![1.0; groups]), context.floats(vec![groups], vec![0.0; groups])),
        false => (scale.clone(), bias.clone()),
    };
    let (one, zero) = (context.value(&one), context.value(&zero));
    let y = context.push(call, InstanceNorm { epsilon }, &[grouped, one, zero])?;
    let y = super::arrange::reshaped(context, call, &y[0], shape.clone())?;
    if !per_channel {
        return Ok(y);
    }
    let mut column = vec![channels];
    column.extend(space.iter().map(|_| 1));
    let scale = super::arrange::reshaped(context, call, scale, column.clone())?;
    let bias = super::arrange::reshaped(context, call, bias, column)?;
    let (y, scale, bias) = (context.value(&y[0]), context.value(&scale[0]), context.value(&bias[0]));
    let scaled = context.one(call, Binary::Mul, &[y, scale])?;
    context.push(call, Binary::Add, &[scaled, bias])
}

fn lrn(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let operator = Lrn {
        size: call.size("size", call.int_or("size", 0)?, 1)?,
        alpha: call.float_or("alpha", 1e-4)?,
        beta: call.float_or("beta", 0.75)?,
        bias: call.float_or("bias", 1.0)?,
    };
    let x = call.value(context, 0)?;
    context.push(call, operator, &[x])
}

/// Before opset 13 all axes from `axis` on are normalized together.
fn softmax(context: &mut Context, call: &Call, log: bool) -> Clause<Vec<Operand>> {
    let x = call.value(context, 0)?;
    let rank = context.builder.shape(x).len();
    let first = axis(call.int_or("axis", if call.opset < 13 { 1 } else { -1 })?, rank)?;
    let axes = if call.opset < 13 { first..rank } else { first..first + 1 };
    context.push(call, Softmax { axes, log }, &[x])
}
