//! Elementwise functions of one input, and of two or more.

use super::{Clause, Context, Operand, Rule, known, node::Call};
use crate::nn::{
    binary::Binary,
    unary::{PRelu, Unary},
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", |context, call| unary(context, call, Unary::Abs, Some(i64::checked_abs))),
    ("Add", |context, call| binary(context, call, Binary::Add, i64::checked_add)),
    ("Clip", clip),
    ("Div", |context, call| binary(context, call, Binary::Div, i64::checked_div)),
    ("Elu", |context, call| unary(context, call, Unary::Elu(call.float_or("alpha", 1.0)?), None)),
    ("Erf", |context, call| unary(context, call, Unary::Erf, None)),
    ("Exp", |context, call| unary(context, call, Unary::Exp, None)),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", |context, call| unary(context, call, Unary::HardSwish, None)),
    ("LeakyRelu", |context, call| unary(context, call, Unary::LeakyRelu(call.float_or("alpha", 0.01)?), None)),
    ("Log", |context, call| unary(context, call, Unary::Log, None)),
    ("Max", |context, call| fold(context, call, &Binary::Max, |a, b| Some(a.max(b)))),
    ("Mean", mean),
    ("Min", |context, call| fold(context, call, &Binary::Min, |a, b| Some(a.min(b)))),
    ("Mul", |context, call| binary(context, call, Binary::Mul, i64::checked_mul)),
    ("Neg", |context, call| unary(context, call, Unary::Neg, Some(i64::checked_neg))),
    ("PRelu", prelu),
    ("Pow", |context, call| binary(context, call, Binary::Pow, |a, b| a.checked_pow(u32::try_from(b).ok()?))),
    ("Reciprocal", |context, call| unary(context, call, Unary::Reciprocal, None)),
    ("Relu", |context, call| unary(context, call, Unary::Relu, Some(|a| Some(a.max(0))))),
    ("Sigmoid", |context, call| unary(context, call, Unary::Sigmoid, None)),
    ("Softplus", |context, call| unary(context, call, Unary::Softplus, None)),
    ("Sqrt", |context, call| unary(context, call, Unary::Sqrt, None)),
    ("Sub", |context, call| binary(context, call, Binary::Sub, i64::checked_sub)),
    ("Sum", |context, call| fold(context, call, &Binary::Add, i64::checked_add)),
    ("Tanh", |context, call| unary(context, call, Unary::Tanh, None)),
];

/// A function of one input, and what it does to integers.
fn unary(context: &mut Context, call: &Call, operator: Unary, exact: Option<fn(i64) -> Option<i64>>) -> Clause<Vec<Operand>> {
    if let (Operand::Known(x), Some(exact)) = (call.input(0)?, exact) {
        let values: Option<Vec<i64>> = x.values.iter().map(|&i| exact(i)).collect();
        return Ok(vec![context.integers(x.shape.clone(), |_| values.ok_or_else(|| "its integers overflow".into()))?]);
    }
    let x = call.value(context, 0)?;
    context.push(call, operator, &[x])
}

fn gelu(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let tanh = match call.text_or("approximate", "none")? {
        "none" => false,
        "tanh" => true,
        other => return Err(format!("its approximation {other} is not known")),
    };
    unary(context, call, Unary::Gelu { tanh }, None)
}

fn hard_sigmoid(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let operator = Unary::HardSigmoid { alpha: call.float_or("alpha", 0.2)?, beta: call.float_or("beta", 0.5)? };
    unary(context, call, operator, None)
}

/// Limits are attributes before opset 11.
fn clip(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let limit = |context: &Context, position: usize, name: &str, none: f32| -> Clause<f32> {
        let of = if position == 1 { "its least value" } else { "its greatest value" };
        match call.known_floats(context, position, of)? {
            Some(list) if list.len() == 1 => Ok(list[0]),
            Some(list) => Err(format!("{of} is {} numbers", list.len())),
            None => call.float_or(name, none),
        }
    };
    if let Operand::Known(x) = call.input(0)? {
        let limit = |position, none| -> Clause<i64> {
            let list = call.known_ints(context, position, "its limit")?;
            Ok(list.and_then(|list| list.first().copied()).unwrap_or(none))
        };
        let (min, max) = (limit(1, i64::MIN)?, limit(2, i64::MAX)?);
        let values = x.values.iter().map(|&i| i.max(min).min(max)).collect();
        return Ok(vec![context.integers(x.shape.clone(), |_| Ok(values))?]);
    }
    let min = limit(context, 1, "min", f32::NEG_INFINITY)?;
    let max = limit(context, 2, "max", f32::INFINITY)?;
    unary(context, call, Unary::Clip { min, max }, None)
}

fn prelu(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let inputs = call.values(context, 2, 2)?;
    context.push(call, PRelu, &inputs)
}

/// A function of two inputs, and what it does to integers.
fn binary(context: &mut Context, call: &Call, operator: Binary, exact: fn(i64, i64) -> Option<i64>) -> Clause<Vec<Operand>> {
    let y = apply(context, call, operator, exact, call.input(0)?, call.input(1)?)?;
    Ok(vec![y])
}

/// The same for any number of inputs, from the first to the last.
fn fold(context: &mut Context, call: &Call, operator: &Binary, exact: fn(i64, i64) -> Option<i64>) -> Clause<Vec<Operand>> {
    let inputs = call.all()?;
    let mut y = inputs[0].clone();
    for x in &inputs[1..] {
        y = apply(context, call, operator.clone(), exact, &y, x)?;
    }
    Ok(vec![y])
}

fn mean(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let sum = fold(context, call, &Binary::Add, i64::checked_add)?;
    let share = context.floats(vec![], vec![1.0 / call.inputs.len() as f32]);
    let (sum, share) = (context.value(&sum[0]), context.value(&share));
    context.push(call, Binary::Mul, &[sum, share])
}

fn apply(
    context: &mut Context,
    call: &Call,
    operator: Binary,
    exact: fn(i64, i64) -> Option<i64>,
    a: &Operand,
    b: &Operand,
) -> Clause<Operand> {
    if let (Operand::Known(a), Operand::Known(b)) = (a, b) {
        let shape = known::broadcast(&[&a.shape, &b.shape])?;
        return context.integers(shape.clone(), |_| {
            let (a, b) = (known::stretch(&a.values, &a.shape, &shape), known::stretch(&b.values, &b.shape, &shape));
            let all: Option<Vec<i64>> = a.into_iter().zip(b).map(|(a, b)| exact(a, b)).collect();
            all.ok_or_else(|| "its integers overflow, or are divided by 0".into())
        });
    }
    let (a, b) = (context.value(a), context.value(b));
    Ok(Operand::Value(context.one(call, operator, &[a, b])?))
}
