//! Layers that are coded with the batch norm after them folded in (docs/format.md, "Folded layers"): `W' = W·s`, one factor per output
//! channel, `s = γ/√(σ² + ε)` from tensors of the same file. A decoder divides by it.
//!
//! What a network computes depends on `W'`, so that is what errors are to be small in; the file keeps `W` and the batch norm.

use serde::{Deserialize, Serialize};

use crate::graph::batch_norm;

/// The batch norm of a folded layer, as the table of tensors has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// Index of the tensor `γ`.
    pub scale: usize,
    /// Index of the tensor `σ²`.
    pub variance: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Range of the greatest factor of a layer: far from where quotients overflow or lose bits.
const RANGE: std::ops::RangeInclusive<f32> = 1.0 / (1u64 << 60) as f32..=(1u64 << 60) as f32;

/// A channel that hardly matters has this part of the greatest factor: what is left of its weights may err by 2¹² times more than
/// others, and not without bounds.
const FLOOR: f32 = 1.0 / 4096.0;

/// The factor of each output channel, from `γ` and `σ²` as they are decoded: 0 where a channel is switched off (`γ = 0`). Nothing
/// when they are no use for dividing: not finite, all zero, or beyond 2^±60.
pub fn factors(gamma: &[f32], variance: &[f32], epsilon: f32) -> Option<Vec<f32>> {
    let mut s = batch_norm::scale(gamma, variance, epsilon);
    if s.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let max = s.iter().fold(0f32, |m, v| m.max(v.abs()));
    let least = max * FLOOR;
    s.iter_mut().filter(|v| **v != 0.0 && v.abs() < least).for_each(|v| *v = least.copysign(*v));
    RANGE.contains(&max).then_some(s)
}

/// `W·s`, for weights in canonical order. Products beyond the range of `f32` become its greatest values.
pub fn fold(weights: &mut [f32], factors: &[f32]) {
    rows(weights, factors, |w, s| (w * s).clamp(f32::MIN, f32::MAX));
}

/// `W'/s`, for weights in canonical order; 0 where the factor is.
pub fn unfold(weights: &mut [f32], factors: &[f32]) {
    rows(weights, factors, |w, s| if s == 0.0 { 0.0 } else { w / s });
}

fn rows(weights: &mut [f32], factors: &[f32], f: impl Fn(f32, f32) -> f32) {
    let width = (weights.len() / factors.len().max(1)).max(1);
    for (row, &s) in weights.chunks_exact_mut(width).zip(factors) {
        row.iter_mut().for_each(|w| *w = f(*w, s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn known_factors() {
        // √(3 + 1) = 2, √(15 + 1) = 4.
        assert_eq!(factors(&[1.0, -8.0, 0.0, -1e-20], &[3.0, 15.0, 0.0, 0.0], 1.0), Some(vec![0.5, -2.0, 0.0, -2.0 / 4096.0]));
        for (gamma, variance) in [(f32::NAN, 1.0), (1.0, -2.0), (1.0, f32::NAN), (1e30, 1.0), (1e-30, 1.0), (0.0, 1.0), (1.0, -1.0)] {
            assert_eq!(factors(&[gamma], &[variance], 1.0), None, "{gamma} {variance}");
        }
        assert_eq!(factors(&[], &[], 1.0), None);
    }

    #[test]
    fn unfolding_undoes_folding() {
        let (w, s) = (noise(12, 1), [0.25, -3.7, 0.0]);
        let mut v = w.clone();
        fold(&mut v, &s);
        assert_eq!(v[..4], [w[0] * 0.25, w[1] * 0.25, w[2] * 0.25, w[3] * 0.25]);
        unfold(&mut v, &s);
        assert!(w[..8].iter().zip(&v).all(|(a, b)| (a - b).abs() <= 1e-7) && v[8..] == [0.0; 4]);
        let mut huge = [f32::MAX, f32::MIN];
        fold(&mut huge, &[4.0]);
        assert_eq!(huge, [f32::MAX, f32::MIN]);
    }
}
