//! Convolutions and poolings: windows.

use super::{Clause, Context, Operand, Rule, node::Call};
use crate::nn::{
    conv::{Conv, ConvTranspose},
    pool::{AveragePool, MaxPool},
    reduce::{Reduce, Reduction},
    window::Window,
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", average_pool),
    ("Conv", conv),
    ("ConvTranspose", conv_transpose),
    ("GlobalAveragePool", |context, call| global(context, call, Reduction::Mean)),
    ("GlobalMaxPool", |context, call| global(context, call, Reduction::Max)),
    ("MaxPool", max_pool),
];

/// Spatial lengths of an input `N×C×…`: one or two.
fn spatial(context: &Context, call: &Call) -> Clause<Vec<usize>> {
    let shape = context.shape(call.input(0)?);
    match shape.len() {
        3 | 4 => Ok(shape[2..].to_vec()),
        rank @ 5.. => Err(format!("its input has {} spatial axes; one and two can be run", rank - 2)),
        _ => Err(format!("its input of shape {shape:?} has no spatial axis")),
    }
}

/// One number per spatial axis as a pair; height is 1 (or `missing`) where there is one axis.
fn pair(values: &[usize], missing: usize) -> [usize; 2] {
    match *values {
        [a, b] => [a, b],
        [a] => [missing, a],
        _ => [missing; 2],
    }
}

/// An attribute with one number per spatial axis.
fn sizes(call: &Call, name: &str, axes: usize, default: i64, least: i64) -> Clause<Vec<usize>> {
    let Some(list) = call.ints(name)? else { return Ok(vec![default as usize; axes]) };
    if list.len() != axes {
        return Err(format!("its {name} has {} numbers for {axes} spatial axes", list.len()));
    }
    list.iter().map(|&value| call.size(name, value, least)).collect()
}

/// A window with `auto_pad` resolved; the second result tells whether it was `SAME_…`.
fn window(call: &Call, input: &[usize], kernel: &[usize]) -> Clause<(Window, bool)> {
    let axes = input.len();
    if let Some(&side) = kernel.iter().find(|&&side| side == 0 || side >= 1 << 15) {
        return Err(format!("its kernel has a side of {side}"));
    }
    let stride = sizes(call, "strides", axes, 1, 1)?;
    let dilation = sizes(call, "dilations", axes, 1, 1)?;
    let (mut begin, mut end) = (vec![0; axes], vec![0; axes]);
    let auto = call.text_or("auto_pad", "NOTSET")?;
    match auto {
        "NOTSET" | "" => {
            if let Some(list) = call.ints("pads")? {
                if list.len() != 2 * axes {
                    return Err(format!("it has {} pads for {axes} spatial axes", list.len()));
                }
                for i in 0..axes {
                    begin[i] = call.size("padding", list[i], 0)?;
                    end[i] = call.size("padding", list[axes + i], 0)?;
                }
            }
        }
        "VALID" => {}
        "SAME_UPPER" | "SAME_LOWER" => {
            for i in 0..axes {
                let span = (kernel[i] - 1) * dilation[i] + 1;
                let outputs = input[i].div_ceil(stride[i]);
                let total = (outputs.saturating_sub(1) * stride[i] + span).saturating_sub(input[i]);
                let (less, more) = (total / 2, total - total / 2);
                (begin[i], end[i]) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            }
        }
        other => return Err(format!("its auto_pad {other} is not known")),
    }
    let ([top, left], [bottom, right]) = (pair(&begin, 0), pair(&end, 0));
    let window =
        Window { kernel: pair(kernel, 1), stride: pair(&stride, 1), dilation: pair(&dilation, 1), pads: [top, left, bottom, right] };
    Ok((window, auto.starts_with("SAME")))
}

/// The kernel of a weight tensor `…×…×kernel`, which `kernel_shape` may repeat.
fn kernel(context: &Context, call: &Call, axes: usize) -> Clause<Vec<usize>> {
    let weight = context.shape(call.input(1)?);
    if weight.len() != axes + 2 {
        return Err(format!("its weight of shape {weight:?} does not fit an input with {axes} spatial axes"));
    }
    let kernel = weight[2..].to_vec();
    match call.ints("kernel_shape")? {
        Some(list) if !list.iter().copied().eq(kernel.iter().map(|&k| k as i64)) => {
            Err(format!("its kernel_shape {list:?} is not that of its weight, {kernel:?}"))
        }
        _ => Ok(kernel),
    }
}

fn conv(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let input = spatial(context, call)?;
    let (window, _) = window(call, &input, &kernel(context, call, input.len())?)?;
    let groups = call.size("group", call.int_or("group", 1)?, 1)?;
    let inputs = call.values(context, 2, 3)?;
    context.push(call, Conv { window, groups }, &inputs)
}

fn conv_transpose(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let input = spatial(context, call)?;
    let axes = input.len();
    let (mut window, same) = window(call, &input, &kernel(context, call, axes)?)?;
    let mut extra = pair(&sizes(call, "output_padding", axes, 0, 0)?, 0);
    let upper = call.text_or("auto_pad", "NOTSET")? == "SAME_UPPER";
    let wanted = match call.ints("output_shape")? {
        // Some programs write all axes, others the spatial ones only.
        Some(list) if list.len() == axes || list.len() == axes + 2 => {
            let sizes: Clause<Vec<usize>> = list[list.len() - axes..].iter().map(|&n| call.size("output_shape", n, 0)).collect();
            Some(sizes?)
        }
        Some(list) => return Err(format!("its output_shape has {} numbers for {axes} spatial axes", list.len())),
        None if same => Some((0..axes).map(|i| input[i] * pair_at(window.stride, axes, i)).collect()),
        None => None,
    };
    if let Some(wanted) = wanted {
        for i in 0..axes {
            let at = i + 2 - axes;
            let full = (input[i].saturating_sub(1) * window.stride[at] + window.span(at) + extra[at]) as i64;
            let total = full - wanted[i] as i64;
            if total < 0 {
                // More is wanted than there is: zeros follow.
                extra[at] += total.unsigned_abs() as usize;
            }
            let total = total.max(0) as usize;
            let (less, more) = (total / 2, total - total / 2);
            (window.pads[at], window.pads[2 + at]) = if upper { (less, more) } else { (more, less) };
        }
    }
    let groups = call.size("group", call.int_or("group", 1)?, 1)?;
    let inputs = call.values(context, 2, 3)?;
    context.push(call, ConvTranspose { window, groups, output_padding: extra }, &inputs)
}

/// What a pair has for spatial axis `i` of `axes`.
fn pair_at(pair: [usize; 2], axes: usize, i: usize) -> usize {
    pair[i + 2 - axes]
}

/// The window of a pooling, and whether a last window may hang over.
fn pooling(context: &Context, call: &Call) -> Clause<(Window, bool)> {
    let input = spatial(context, call)?;
    let kernel = call.ints("kernel_shape")?.ok_or("its kernel_shape is missing")?;
    if kernel.len() != input.len() {
        return Err(format!("its kernel has {} sides for {} spatial axes", kernel.len(), input.len()));
    }
    let kernel: Vec<usize> = kernel.iter().map(|&side| call.size("kernel_shape", side, 1)).collect::<Clause<_>>()?;
    let (window, same) = window(call, &input, &kernel)?;
    Ok((window, call.flag("ceil_mode")? && !same))
}

fn max_pool(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let (window, ceil) = pooling(context, call)?;
    let x = call.value(context, 0)?;
    context.push(call, MaxPool { window, ceil }, &[x])
}

fn average_pool(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let (window, ceil) = pooling(context, call)?;
    let count_pads = call.flag("count_include_pad")?;
    let x = call.value(context, 0)?;
    context.push(call, AveragePool { window, ceil, count_pads }, &[x])
}

fn global(context: &mut Context, call: &Call, reduction: Reduction) -> Clause<Vec<Operand>> {
    let x = call.value(context, 0)?;
    let axes = (2..context.builder.shape(x).len()).collect();
    context.push(call, Reduce { reduction, axes, keep: true }, &[x])
}
