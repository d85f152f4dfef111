//! Resize and Upsample.

use super::{Clause, Context, Operand, Rule, axes, node::Call};
use crate::{
    limits,
    nn::resize::{Coordinates, Interpolation, Nearest, Resize},
};

pub(super) const RULES: &[(&str, Rule)] = &[("Resize", resize), ("Upsample", upsample)];

fn resize(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    if call.opset < 11 {
        return upsample(context, call);
    }
    let nearest = match call.text_or("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Nearest::RoundPreferFloor,
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        other => return Err(format!("its nearest_mode {other} is not known")),
    };
    let coordinates = match call.text_or("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        other => return Err(format!("its coordinate_transformation_mode {other} is not supported")),
    };
    let interpolation = mode(call, nearest)?;
    if call.flag("antialias")? {
        return Err("its antialias is not supported".into());
    }
    let x = call.input(0)?;
    let shape = context.shape(x);
    let along = match call.ints("axes")? {
        Some(list) => axes(list, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let given = |count: usize, what: &str| match count == along.len() {
        true => Ok(()),
        false => Err(format!("it has {count} {what} for {} axes", along.len())),
    };
    // An empty list is one left out: inputs could not be, at first.
    let wanted = call.known_floats(context, 2, "its scales")?.filter(|list| !list.is_empty());
    let sizes = call.known_ints(context, 3, "its sizes")?.filter(|list| !list.is_empty());
    let (mut scales, mut lengths) = (vec![1.0; shape.len()], shape.clone());
    if let Some(sizes) = sizes {
        given(sizes.len(), "sizes")?;
        let policy = call.text_or("keep_aspect_ratio_policy", "stretch")?;
        let ratio = |(&a, &size): (&usize, &i64)| size as f32 / shape[a] as f32;
        let common = match policy {
            "stretch" => None,
            "not_larger" => along.iter().zip(&sizes).map(ratio).reduce(f32::min),
            "not_smaller" => along.iter().zip(&sizes).map(ratio).reduce(f32::max),
            other => return Err(format!("its keep_aspect_ratio_policy {other} is not known")),
        };
        for pair @ (&a, &size) in along.iter().zip(&sizes) {
            scales[a] = common.unwrap_or_else(|| ratio(pair));
            lengths[a] = match common {
                Some(scale) => length((scale * shape[a] as f32 + 0.5).floor())?,
                None => usize::try_from(size).map_err(|_| format!("a size of {size} makes no sense"))?,
            };
        }
    } else if let Some(wanted) = wanted {
        given(wanted.len(), "scales")?;
        for (&a, &scale) in along.iter().zip(&wanted) {
            scales[a] = scale;
            lengths[a] = length((scale * shape[a] as f32).floor())?;
        }
    } else {
        return Err("it has neither scales nor sizes".into());
    }
    finish(context, call, lengths, scales, interpolation, coordinates)
}

/// Upsample, and Resize of opset 10: coordinates are those of the input times the scale, and the nearest element is the one before.
fn upsample(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let scales = match call.known_floats(context, 1, "its scales")? {
        Some(scales) => scales,
        None => call.floats("scales")?.ok_or("its scales are missing")?.to_vec(),
    };
    let shape = context.shape(call.input(0)?);
    if scales.len() != shape.len() {
        return Err(format!("it has {} scales for {} axes", scales.len(), shape.len()));
    }
    let lengths = shape.iter().zip(&scales).map(|(&n, scale)| length((n as f32 * scale).floor())).collect::<Clause<_>>()?;
    let interpolation = mode(call, Nearest::Floor)?;
    finish(context, call, lengths, scales, interpolation, Coordinates::Asymmetric)
}

fn mode(call: &Call, nearest: Nearest) -> Clause<Interpolation> {
    match call.text_or("mode", "nearest")? {
        "nearest" => Ok(Interpolation::Nearest(nearest)),
        "linear" | "bilinear" => Ok(Interpolation::Linear),
        other => Err(format!("its mode {other} is not supported")),
    }
}

fn length(value: f32) -> Clause<usize> {
    match value >= 0.0 && value <= limits::WEIGHTS as f32 {
        true => Ok(value as usize),
        false => Err(format!("a length of {value} makes no sense")),
    }
}

fn finish(
    context: &mut Context,
    call: &Call,
    shape: Vec<usize>,
    scales: Vec<f32>,
    interpolation: Interpolation,
    coordinates: Coordinates,
) -> Clause<Vec<Operand>> {
    if let Some(scale) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(format!("a scale of {scale} makes no sense"));
    }
    if limits::element_count(&shape).is_none() {
        return Err(format!("a shape of {shape:?} is too large"));
    }
    let x = call.value(context, 0)?;
    context.push(call, Resize { shape, scales, interpolation, coordinates }, &[x])
}
