//! One layer by its plan: its code, its indices, its body, and what it errs.

use super::EncodedLayer;
use crate::{
    container::layer,
    io::LayerShape,
    quantize::{self, trellis::Trellis},
    rate::{
        Plan,
        cost::Cost,
        curve::{self, Candidate, LayerCurves},
        hull::Vertex,
    },
    report::Coding,
};

/// Encodes a layer and measures its error on what a decoder makes of it.
pub(super) fn encode_layer(
    shape: &LayerShape,
    weights: Vec<f32>,
    curves: &LayerCurves,
    plan: &Plan,
    cost: &Cost,
    folded: bool,
    coding: Coding,
) -> EncodedLayer {
    let Plan::Quantized { candidate, blocks } = plan else { return EncodedLayer { body: None, error: 0.0 } };
    let candidate = &curves.candidates[*candidate];
    let mut normalized = weights.clone();
    let exponent = quantize::normalize(&mut normalized);
    let code = layer_code(candidate, shape, blocks, exponent, folded);
    let (code, indices) = indices(candidate, code, cost, shape, &normalized, coding);
    drop(normalized);
    let body = layer::encode(&code, coding.into(), &indices);
    // What a decoder makes of the body.
    let decoded = layer::reconstruct(&code, &indices, shape);
    drop(indices);
    let error = match cost {
        Cost::Weights => relative_error(&weights, &decoded),
        Cost::Output { statistics, unit, full } => {
            let error: Vec<f32> = decoded.iter().zip(&weights).map(|(d, w)| d - w).collect();
            unit * if *full { statistics.distortion(&error) } else { statistics.diagonal_distortion(&error) }
        }
    };
    EncodedLayer { error, body: Some(body) }
}

/// A layer's section body, and the weights that it gives.
pub(crate) type Recoded = (Vec<u8>, Vec<f32>);

/// Encodes a layer whose errors are fed back with others than its weights to be met, in the units of these: the body, and the weights that it gives. Nothing for another
/// plan.
pub(crate) fn encode_target(
    shape: &LayerShape,
    weights: &[f32],
    target: &[f32],
    curves: &LayerCurves,
    plan: &Plan,
    folded: bool,
) -> Option<Recoded> {
    let Plan::Quantized { candidate, blocks } = plan else { return None };
    let candidate = &curves.candidates[*candidate];
    let Some(feedback) = &candidate.feedback else { return None };
    // Steps are in units of the weights.
    let exponent = quantize::normalize(&mut weights.to_vec());
    let unit = quantize::power_of_two(-i32::from(exponent));
    let target: Vec<f32> = target.iter().map(|v| v * unit).collect();
    let code = layer_code(candidate, shape, blocks, exponent, folded);
    Some(layer::encode_feedback(&code, shape, &target, &feedback.factors))
}

/// The code of a layer as it is written, and its indices. `normalized` are the weights as they are quantized.
pub(super) fn indices(
    candidate: &Candidate,
    code: layer::LayerCode,
    cost: &Cost,
    shape: &LayerShape,
    normalized: &[f32],
    coding: Coding,
) -> (layer::LayerCode, layer::Indices) {
    let coefficients = curve::coefficients(candidate, &code, cost, shape, normalized);
    let basis = candidate.basis.as_ref();
    let second = basis.and_then(|b| b.second.as_ref()).map_or(&[][..], |v| &v.rows);
    let basis = basis.map_or(&[][..], |b| &b.rows);
    match (coding, &candidate.feedback) {
        (Coding::Fixed | Coding::Depths, _) => {
            let indices = code.indices(&coefficients, basis, second);
            (code, indices)
        }
        (Coding::Entropy, Some(feedback)) => {
            layer::fed_back(&code, &feedback.columns.forward(shape, &coefficients), &feedback.factors, layer::FEEDBACK_PASSES)
        }
        (Coding::Entropy, None) => layer::trellis_coded(&code, &coefficients, basis, second),
    }
}

/// The side information of a layer under a candidate, with the depths of a plan.
pub(crate) fn layer_code(candidate: &Candidate, shape: &LayerShape, blocks: &[Vertex], exponent: i16, folded: bool) -> layer::LayerCode {
    let codes = blocks.iter().zip(&candidate.blocks).map(|(Vertex { taken, .. }, block)| {
        let of = block.coefficients[usize::from(taken.coefficient)];
        let basis = block.basis.get(usize::from(taken.basis)).filter(|_| taken.coefficient > 0);
        let (basis_depth, basis_step) = basis.map_or((0, quantize::Step(0)), |b| (b.depth, b.step));
        layer::BlockCode { depth: of.depth, step: of.step, basis_depth, basis_step }
    });
    layer::LayerCode {
        kind: candidate.kind,
        geometry: candidate.geometry,
        period: layer::period(shape, candidate.kind),
        exponent,
        block_of_row: candidate.block_of_row.clone(),
        scales: candidate.scales.clone(),
        columns: candidate.feedback.as_ref().map(|f| f.columns.clone()),
        gains: None,
        blocks: codes.collect(),
        second: candidate.second,
        folded,
        trellis: Trellis::None,
    }
}

/// `‖a − b‖²/‖a‖²`, in `f64`; 0 where `a` is zero.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let energy: f64 = a.iter().map(|&v| square(v.into())).sum();
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    if energy > 0.0 { error / energy } else { 0.0 }
}
