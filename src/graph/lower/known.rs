//! What is computed while a network is lowered and has no operator in [`crate::nn`]: shapes, ranges, comparisons, roundings, casts.
//! Integers are exact. In exported models, and in older ones most of all, the arguments of Reshape, Slice or Resize come out of
//! chains of these.

use super::{Clause, Context, Operand, Rule, node::Call};
use crate::{
    graph::{Array, Attribute, Values, array},
    limits,
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("And", |context, call| both(context, call, |a, b| i64::from(a != 0 && b != 0), |_, _| 0)),
    ("Cast", cast),
    ("CastLike", cast_like),
    ("Ceil", |context, call| rounded(context, call, f32::ceil)),
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("Equal", |context, call| both(context, call, |a, b| i64::from(a == b), |a, b| i64::from(a == b))),
    ("Floor", |context, call| rounded(context, call, f32::floor)),
    ("Greater", |context, call| both(context, call, |a, b| i64::from(a > b), |a, b| i64::from(a > b))),
    ("GreaterOrEqual", |context, call| both(context, call, |a, b| i64::from(a >= b), |a, b| i64::from(a >= b))),
    ("Less", |context, call| both(context, call, |a, b| i64::from(a < b), |a, b| i64::from(a < b))),
    ("LessOrEqual", |context, call| both(context, call, |a, b| i64::from(a <= b), |a, b| i64::from(a <= b))),
    ("Mod", modulo),
    ("NonZero", non_zero),
    ("Not", not),
    ("Or", |context, call| both(context, call, |a, b| i64::from(a != 0 || b != 0), |_, _| 0)),
    ("Range", range),
    ("Round", |context, call| rounded(context, call, f32::round_ties_even)),
    ("Shape", shape),
    ("Sign", sign),
    ("Size", size),
    ("Where", select),
    ("Xor", |context, call| both(context, call, |a, b| i64::from((a != 0) != (b != 0)), |_, _| 0)),
];

/// The shape that shapes broadcast to, as in NumPy.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Clause<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or_default();
    let mut result = vec![1; rank];
    for shape in shapes {
        for (to, &n) in result[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*to, n) {
                (_, 1) => {}
                (1, n) => *to = n,
                (to, n) if to == n => {}
                _ => return Err(format!("shapes {shapes:?} cannot be combined")),
            }
        }
    }
    match limits::element_count(&result) {
        Some(_) => Ok(result),
        None => Err(format!("a shape of {result:?} is too large")),
    }
}

/// Values of one shape repeated to fill another, to which it broadcasts.
pub(super) fn stretch<T: Copy>(values: &[T], from: &[usize], to: &[usize]) -> Vec<T> {
    if from == to {
        return values.to_vec();
    }
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for (i, &n) in from.iter().enumerate().rev() {
        if n != 1 {
            strides[to.len() - from.len() + i] = stride;
        }
        stride *= n;
    }
    let mut index = vec![0; to.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(to.iter().product());
    for _ in 0..out.capacity().min(to.iter().product()) {
        out.push(values[at]);
        for d in (0..to.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < to[d] {
                break;
            }
            at -= strides[d] * to[d];
            index[d] = 0;
        }
    }
    out
}

/// Floats of known values, of whatever type.
fn floats(values: Values) -> Vec<f32> {
    match values {
        Values::Float(f) => f,
        Values::Int(i) => i.into_iter().map(|i| i as f32).collect(),
    }
}

/// An input that has to be known.
fn known(context: &Context, call: &Call, position: usize) -> Clause<Array> {
    let operand = call.input(position)?;
    context.known(operand).ok_or_else(|| call.computed(position, "what it takes"))
}

/// A known function of two known inputs whose result is integers.
fn both(context: &mut Context, call: &Call, exact: fn(i64, i64) -> i64, float: fn(f32, f32) -> i64) -> Clause<Vec<Operand>> {
    let (a, b) = (known(context, call, 0)?, known(context, call, 1)?);
    let shape = broadcast(&[&a.shape, &b.shape])?;
    let result = context.integers(shape.clone(), |_| {
        Ok(match (a.values, b.values) {
            (Values::Int(x), Values::Int(y)) => {
                stretch(&x, &a.shape, &shape).into_iter().zip(stretch(&y, &b.shape, &shape)).map(|(x, y)| exact(x, y)).collect()
            }
            (x, y) => {
                let (x, y) = (floats(x), floats(y));
                stretch(&x, &a.shape, &shape).into_iter().zip(stretch(&y, &b.shape, &shape)).map(|(x, y)| float(x, y)).collect()
            }
        })
    })?;
    Ok(vec![result])
}

/// A rounding of known floats; integers stay as they are.
fn rounded(context: &mut Context, call: &Call, function: fn(f32) -> f32) -> Clause<Vec<Operand>> {
    if call.input(0)?.integers().is_some() {
        return Ok(vec![call.input(0)?.clone()]);
    }
    let x = known(context, call, 0)?;
    let values = floats(x.values).into_iter().map(function).collect();
    Ok(vec![context.floats(x.shape, values)])
}

fn sign(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    match call.input(0)? {
        Operand::Known(x) => {
            let values = x.values.iter().map(|i| i.signum()).collect();
            Ok(vec![context.integers(x.shape.clone(), |_| Ok(values))?])
        }
        Operand::Value(_) => rounded(context, call, |x| if x == 0.0 { 0.0 } else { x.signum() }),
    }
}

fn not(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = known(context, call, 0)?;
    let values = floats(x.values).into_iter().map(|x| i64::from(x == 0.0)).collect();
    Ok(vec![context.integers(x.shape, |_| Ok(values))?])
}

/// The remainder has the sign of the divisor, or with `fmod` that of the dividend.
fn modulo(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let (a, b) = (known(context, call, 0)?, known(context, call, 1)?);
    let fmod = call.flag("fmod")?;
    let shape = broadcast(&[&a.shape, &b.shape])?;
    if let (Values::Int(x), Values::Int(y)) = (&a.values, &b.values) {
        let of = |(x, y): (i64, i64)| match x.checked_rem(y) {
            None => Err("its integers are divided by 0".to_string()),
            Some(rest) if !fmod && rest != 0 && (rest < 0) != (y < 0) => Ok(rest + y),
            Some(rest) => Ok(rest),
        };
        let result = context
            .integers(shape.clone(), |_| stretch(x, &a.shape, &shape).into_iter().zip(stretch(y, &b.shape, &shape)).map(of).collect())?;
        return Ok(vec![result]);
    }
    let (x, y) = (floats(a.values), floats(b.values));
    let pairs = stretch(&x, &a.shape, &shape).into_iter().zip(stretch(&y, &b.shape, &shape));
    let of = |(x, y): (f32, f32)| if fmod { x % y } else { x - y * (x / y).floor() };
    Ok(vec![context.floats(shape, pairs.map(of).collect())])
}

/// `Where` with a known condition between known values.
fn select(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let [condition, a, b] = [known(context, call, 0)?, known(context, call, 1)?, known(context, call, 2)?];
    let shape = broadcast(&[&condition.shape, &a.shape, &b.shape])?;
    let chosen = stretch(&floats(condition.values), &condition.shape, &shape).into_iter().map(|c| c != 0.0);
    if let (Values::Int(x), Values::Int(y)) = (&a.values, &b.values) {
        let (x, y) = (stretch(x, &a.shape, &shape), stretch(y, &b.shape, &shape));
        let values = chosen.zip(x.into_iter().zip(y)).map(|(c, (x, y))| if c { x } else { y }).collect();
        return Ok(vec![context.integers(shape, |_| Ok(values))?]);
    }
    let (x, y) = (stretch(&floats(a.values), &a.shape, &shape), stretch(&floats(b.values), &b.shape, &shape));
    let values = chosen.zip(x.into_iter().zip(y)).map(|(c, (x, y))| if c { x } else { y }).collect();
    Ok(vec![context.floats(shape, values)])
}

fn shape(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let shape: Vec<i64> = context.shape(call.input(0)?).iter().map(|&n| n as i64).collect();
    let rank = shape.len() as i64;
    let place = |name: &str, default: i64| -> Clause<i64> {
        let at = call.int_or(name, default)?;
        Ok((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank))
    };
    let (start, end) = (place("start", 0)?, place("end", rank)?);
    let part = shape[start as usize..end.max(start) as usize].to_vec();
    Ok(vec![context.integers(vec![part.len()], |_| Ok(part))?])
}

fn size(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let size = context.shape(call.input(0)?).iter().product::<usize>() as i64;
    Ok(vec![context.integers(vec![], |_| Ok(vec![size]))?])
}

fn constant(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let array = array::constant(&call.node.attributes).ok_or("its value is not one that can be read")?;
    Ok(vec![context.array(&array)?])
}

fn constant_of_shape(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let shape = call.known_ints(context, 0, "its shape")?.ok_or("its shape is missing")?;
    let lengths: Option<Vec<usize>> = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let lengths = lengths.filter(|lengths| limits::element_count(lengths).is_some());
    let lengths = lengths.ok_or_else(|| format!("a shape of {shape:?} makes no sense"))?;
    match call.node.attributes.get("value") {
        Some(Attribute::Array(Array { values: Values::Int(list), .. })) if list.len() == 1 => {
            let value = list[0];
            Ok(vec![context.integers(lengths, |n| Ok(vec![value; n]))?])
        }
        // Counted like integers: any number of these could be asked for.
        Some(Attribute::Array(Array { values: Values::Float(list), .. })) if list.len() == 1 => {
            let n = context.room(&lengths)?;
            Ok(vec![context.floats(lengths, vec![list[0]; n])])
        }
        Some(_) => Err("its value is not one number".into()),
        None => {
            let n = context.room(&lengths)?;
            Ok(vec![context.floats(lengths, vec![0.0; n])])
        }
    }
}

fn range(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let [start, limit, step] = [0, 1, 2].map(|i| known(context, call, i));
    let [start, limit, step] = [start?.values, limit?.values, step?.values];
    if let (Values::Int(start), Values::Int(limit), Values::Int(step)) = (&start, &limit, &step)
        && let ([start], [limit], [step]) = (&**start, &**limit, &**step)
    {
        let (start, step) = (i128::from(*start), i128::from(*step));
        let span = i128::from(*limit) - start;
        if step == 0 {
            return Err("its step is 0".into());
        }
        let count = if (span > 0) == (step > 0) { span.abs().div_euclid(step.abs()) + i128::from(span % step != 0) } else { 0 };
        let count = usize::try_from(count).map_err(|_| "it has too many elements")?;
        let result = context.integers(vec![count], |_| Ok((0..count as i128).map(|i| (start + i * step) as i64).collect()))?;
        return Ok(vec![result]);
    }
    let one = |values: Values| floats(values).first().copied().ok_or_else(|| "it has an empty input".to_string());
    let (start, limit, step) = (one(start)?, one(limit)?, one(step)?);
    let count = ((limit - start) / step).ceil().max(0.0);
    if !(count.is_finite() && step != 0.0) {
        return Err(format!("a range from {start} to {limit} in steps of {step} makes no sense"));
    }
    let n = context.room(&[count as usize])?;
    Ok(vec![context.floats(vec![n], (0..n).map(|i| start + i as f32 * step).collect())])
}

fn non_zero(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = known(context, call, 0)?;
    let values = floats(x.values);
    let found: Vec<usize> = (0..values.len()).filter(|&i| values[i] != 0.0).collect();
    let mut inner = 1;
    let mut rows: Vec<Vec<i64>> = Vec::new();
    for &n in x.shape.iter().rev() {
        rows.push(found.iter().map(|i| (i / inner % n) as i64).collect());
        inner *= n;
    }
    let result = context.integers(vec![x.shape.len(), found.len()], |_| Ok(rows.into_iter().rev().flatten().collect()))?;
    Ok(vec![result])
}

/// Casts among floats do nothing, everything being 32-bit; those from and to integers need a value that is known.
fn cast(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let to = call.int("to")?.ok_or("its type is missing")?;
    let x = call.input(0)?;
    if matches!(to, 1 | 10 | 11 | 16) {
        let value = context.value(x);
        return Ok(vec![Operand::Value(value)]);
    }
    let narrow: fn(i64) -> i64 = match to {
        2 => |i| (i as u8).into(),
        3 => |i| (i as i8).into(),
        4 => |i| (i as u16).into(),
        5 => |i| (i as i16).into(),
        6 => |i| (i as i32).into(),
        7 | 13 => |i| i,
        9 => |i| i64::from(i != 0),
        12 => |i| (i as u32).into(),
        _ => return Err(format!("a cast to data type {to} is not supported")),
    };
    let array = context.known(x).ok_or_else(|| call.computed(0, "what it casts to integers"))?;
    let result = context.integers(array.shape, |_| {
        Ok(match array.values {
            Values::Int(list) => list.into_iter().map(narrow).collect(),
            Values::Float(list) if to == 9 => list.into_iter().map(|f| i64::from(f != 0.0)).collect(),
            Values::Float(list) => list.into_iter().map(|f| narrow(f as i64)).collect(),
        })
    })?;
    Ok(vec![result])
}

/// Like [`cast`], to integers or floats as the second input has them; their width is not known here.
fn cast_like(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    match call.input(1)? {
        Operand::Value(_) => {
            let value = context.value(x);
            Ok(vec![Operand::Value(value)])
        }
        Operand::Known(_) => {
            let array = context.known(x).ok_or_else(|| call.computed(0, "what it casts to integers"))?;
            let values = match array.values {
                Values::Int(list) => list,
                Values::Float(list) => list.into_iter().map(|f| f as i64).collect(),
            };
            Ok(vec![context.integers(array.shape, |_| Ok(values))?])
        }
    }
}
