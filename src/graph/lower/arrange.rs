//! Operators that move elements and compute nothing. They move known integers too.

use super::{Clause, Context, Operand, Rule, axes, axis, node::Call};
use crate::{
    limits,
    nn::arrange::{Concat, DepthToSpace, Expand, Fill, Gather, Pad, Reshape, Slice, SpaceToDepth, Split, Transpose},
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Dropout", dropout),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Gather", gather),
    ("Identity", identity),
    ("Pad", pad),
    ("Reshape", reshape),
    ("Slice", slice),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Unsqueeze", unsqueeze),
];

/// The same elements in another shape.
pub(super) fn reshaped(context: &mut Context, call: &Call, x: &Operand, shape: Vec<usize>) -> Clause<Vec<Operand>> {
    if context.shape(x) == shape {
        return Ok(vec![x.clone()]);
    }
    if limits::element_count(&shape).is_none() {
        return Err(format!("a shape of {shape:?} is too large"));
    }
    context.rearrange(call, Reshape { shape }, std::slice::from_ref(x), 0)
}

fn identity(_: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    Ok(vec![call.input(0)?.clone()])
}

fn dropout(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    if call.known_ints(context, 2, "its training mode")?.is_some_and(|mode| mode.iter().any(|&m| m != 0)) {
        return Err("it is in training mode".into());
    }
    identity(context, call)
}

fn concat(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let inputs = call.all()?;
    let along = call.int("axis")?.ok_or("its axis is missing")?;
    let along = axis(along, context.shape(&inputs[0]).len())?;
    context.rearrange(call, Concat { axis: along }, &inputs, 0)
}

fn split(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let along = axis(call.int_or("axis", 0)?, shape.len())?;
    let length = shape[along];
    let sizes = match call.list(context, "split", 1)? {
        Some(sizes) => {
            let sizes: Option<Vec<usize>> = sizes.iter().map(|&s| usize::try_from(s).ok().filter(|&s| s <= length)).collect();
            sizes.filter(|sizes| sizes.iter().sum::<usize>() == length).ok_or_else(|| format!("its parts do not add up to {length}"))?
        }
        None => {
            let parts = match call.int("num_outputs")? {
                Some(parts) => call.size("number of outputs", parts, 1)?,
                None => call.node.outputs.len().max(1),
            };
            if parts != call.node.outputs.len() {
                return Err(format!("it has {} outputs, and num_outputs is {parts}", call.node.outputs.len()));
            }
            if call.opset < 18 && !length.is_multiple_of(parts) {
                return Err(format!("{length} elements cannot be split into {parts} equal parts"));
            }
            // The last part is smaller where there is a remainder.
            let part = length.div_ceil(parts);
            (0..parts).map(|i| part.min(length.saturating_sub(i * part))).collect()
        }
    };
    context.rearrange(call, Split { axis: along, sizes }, std::slice::from_ref(x), 0)
}

fn slice(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let starts = call.list(context, "starts", 1)?.ok_or("its starts are missing")?;
    let ends = call.list(context, "ends", 2)?.ok_or("its ends are missing")?;
    let along = match call.list(context, "axes", 3)? {
        Some(list) => axes(&list, shape.len())?,
        None => (0..starts.len()).collect(),
    };
    let steps = call.known_ints(context, 4, "its steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), along.len(), steps.len()].iter().any(|&n| n != starts.len()) || starts.len() > shape.len() {
        return Err(format!("it has {} starts, {} ends, {} axes and {} steps", starts.len(), ends.len(), along.len(), steps.len()));
    }
    let mut ranges: Vec<(usize, isize, usize)> = shape.iter().map(|&n| (0, 1, n)).collect();
    for (((&start, &end), &along), &step) in starts.iter().zip(&ends).zip(&along).zip(&steps) {
        if step == 0 {
            return Err("its step is 0".into());
        }
        ranges[along] = range(start, end, step, shape[along]);
    }
    context.rearrange(call, Slice { ranges }, std::slice::from_ref(x), 0)
}

/// `(start, step, count)` of `start..end` with NumPy's rules on an axis of this length.
pub(super) fn range(start: i64, end: i64, step: i64, length: usize) -> (usize, isize, usize) {
    let n = length as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let (start, end) = (from_end(start).clamp(low, high), from_end(end).clamp(low, high));
    // A step beyond the axis takes one element, whatever it is.
    let step = step.clamp(-n.max(1), n.max(1));
    let span = if step > 0 { end - start } else { start - end };
    match span > 0 {
        true => (start as usize, step as isize, (span as u64).div_ceil(step.unsigned_abs()) as usize),
        false => (0, 1, 0),
    }
}

fn pad(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let rank = context.shape(x).len();
    let list = call.list(context, "pads", 1)?.ok_or("its pads are missing")?;
    let along = match call.known_ints(context, 3, "its axes")? {
        Some(list) => axes(&list, rank)?,
        None => (0..rank).collect(),
    };
    if list.len() != 2 * along.len() {
        return Err(format!("it has {} pads for {} axes", list.len(), along.len()));
    }
    let mut pads = vec![(0, 0); rank];
    for (i, &a) in along.iter().enumerate() {
        let size =
            |value: i64| call.size("padding", value.checked_abs().unwrap_or(i64::MAX), 0).map(|s| s as isize * value.signum() as isize);
        pads[a] = (size(list[i])?, size(list[along.len() + i])?);
    }
    let value = match call.known_floats(context, 2, "its value")? {
        Some(value) => value.first().copied().unwrap_or_default(),
        None => call.float_or("value", 0.0)?,
    };
    let fill = match call.text_or("mode", "constant")? {
        // Integers are moved by position, and −1 is none.
        "constant" if x.integers().is_some() => Fill::Constant(-1.0),
        "constant" => Fill::Constant(value),
        "reflect" => Fill::Reflect,
        "edge" => Fill::Edge,
        other => return Err(format!("its mode {other} is not supported")),
    };
    context.rearrange(call, Pad { pads, fill }, std::slice::from_ref(x), value as i64)
}

fn flatten(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let at = match call.int_or("axis", 1)? {
        at if at == shape.len() as i64 => shape.len(),
        at => axis(at, shape.len())?,
    };
    let (rows, columns) = shape.split_at(at);
    reshaped(context, call, x, vec![rows.iter().product(), columns.iter().product()])
}

fn reshape(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let old = context.shape(x);
    let wanted = call.list(context, "shape", 1)?.ok_or("its shape is missing")?;
    let keep_zeros = call.flag("allowzero")?;
    let mut open = None;
    let mut shape = Vec::with_capacity(wanted.len());
    for (i, &length) in wanted.iter().enumerate() {
        shape.push(match length {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if !keep_zeros => *old.get(i).ok_or_else(|| format!("it copies dimension {i} of {}", old.len()))?,
            _ => usize::try_from(length).map_err(|_| format!("its shape {wanted:?} makes no sense"))?,
        });
    }
    let misfit = || format!("{old:?} cannot be reshaped to {wanted:?}");
    let elements = old.iter().product::<usize>();
    let rest = limits::element_count(&shape).ok_or_else(misfit)?;
    if let Some(i) = open {
        if rest == 0 || elements % rest != 0 {
            return Err(misfit());
        }
        shape[i] = elements / rest;
    } else if rest != elements {
        return Err(misfit());
    }
    reshaped(context, call, x, shape)
}

fn transpose(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let rank = context.shape(x).len();
    let order = match call.ints("perm")? {
        Some(list) => axes(list, rank)?,
        None => (0..rank).rev().collect(),
    };
    if order.len() != rank {
        return Err(format!("it orders {} axes of {rank}", order.len()));
    }
    context.rearrange(call, Transpose { axes: order }, std::slice::from_ref(x), 0)
}

fn squeeze(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let gone = match call.list(context, "axes", 1)? {
        Some(list) => axes(&list, shape.len())?,
        None => (0..shape.len()).filter(|&a| shape[a] == 1).collect(),
    };
    if let Some(&a) = gone.iter().find(|&&a| shape[a] != 1) {
        return Err(format!("axis {a} has length {}, not 1", shape[a]));
    }
    let kept = (0..shape.len()).filter(|a| !gone.contains(a)).map(|a| shape[a]).collect();
    reshaped(context, call, x, kept)
}

fn unsqueeze(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let mut old = context.shape(x).into_iter();
    let list = call.list(context, "axes", 1)?.ok_or("its axes are missing")?;
    let rank = old.len() + list.len();
    if rank > limits::DIMENSIONS {
        return Err(format!("it makes {rank} dimensions"));
    }
    let new = axes(&list, rank)?;
    let shape = (0..rank).map(|a| if new.contains(&a) { 1 } else { old.next().unwrap_or(1) }).collect();
    reshaped(context, call, x, shape)
}

fn expand(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let wanted = call.known_ints(context, 1, "its shape")?.ok_or("its shape is missing")?;
    let wanted: Option<Vec<usize>> = wanted.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = super::known::broadcast(&[&context.shape(x), &wanted.ok_or("its shape has negative lengths")?])?;
    if shape == context.shape(x) {
        return Ok(vec![x.clone()]);
    }
    context.rearrange(call, Expand { shape }, std::slice::from_ref(x), 0)
}

/// Tile: an axis of length `n` is `r×n`, of which `r` is expanded.
fn tile(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let repeats = call.known_ints(context, 1, "its repeats")?.ok_or("its repeats are missing")?;
    if repeats.len() != shape.len() {
        return Err(format!("it has {} repeats for {} axes", repeats.len(), shape.len()));
    }
    let (mut split, mut stretched, mut tiled) = (Vec::new(), Vec::new(), Vec::new());
    for (&n, &times) in shape.iter().zip(&repeats) {
        let times =
            usize::try_from(times).ok().filter(|&t| t as u64 <= limits::WEIGHTS).ok_or_else(|| format!("it repeats {times} times"))?;
        if times != 1 {
            split.push(1);
            stretched.push(times);
        }
        split.push(n);
        stretched.push(n);
        tiled.push(n.checked_mul(times).ok_or_else(|| format!("it repeats {times} times"))?);
    }
    if limits::element_count(&stretched).is_none() {
        return Err(format!("a shape of {tiled:?} is too large"));
    }
    let x = reshaped(context, call, x, split)?;
    let x = context.rearrange(call, Expand { shape: stretched }, &x, 0)?;
    reshaped(context, call, &x[0], tiled)
}

fn gather(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let along = axis(call.int_or("axis", 0)?, shape.len())?;
    let list = call.known_ints(context, 1, "its indices")?.ok_or("its indices are missing")?;
    let indices: Clause<Vec<usize>> = list
        .iter()
        .map(|&i| axis(i, shape[along]).map_err(|_| format!("index {i} is outside of axis {along}, which has {} elements", shape[along])))
        .collect();
    let indices_shape = context.shape(call.input(1)?);
    context.rearrange(call, Gather { axis: along, indices: indices?, indices_shape }, std::slice::from_ref(x), 0)
}

fn depth_to_space(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let block = call.size("block size", call.int_or("blocksize", 0)?, 1)?;
    let crd = match call.text_or("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        other => return Err(format!("its mode {other} is not known")),
    };
    context.rearrange(call, DepthToSpace { block, crd }, &[call.input(0)?.clone()], 0)
}

fn space_to_depth(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let block = call.size("block size", call.int_or("blocksize", 0)?, 1)?;
    context.rearrange(call, SpaceToDepth { block }, &[call.input(0)?.clone()], 0)
}
