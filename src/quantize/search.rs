//! Step search: for every depth the step of least squared error, measured on the values themselves (Young et al. 2021,
//! Section 5.1: steps are searched, not derived from a distribution).
//!
//! Values are gathered once in a fine histogram that keeps, per bin, their (weighted) number and sum. The squared error of
//! any uniform quantizer is then a sum over its levels of `Σx² − 2ℓΔ·Σx + ℓ²Δ²·N`, with `N` and `Σx` from prefix sums. A bin
//! that a decision threshold cuts is assigned to one side whole; at a threshold both levels err the same, so this
//! changes the error in second order only (tested below against exact measurement).

use super::{Step, least_index};

/// Bins of the histogram.
const BINS: usize = 8192;
/// From this depth on steps come near a bin's width: errors are measured value by value instead, for the least step that
/// does not clip.
const DIRECT_FROM: u8 = 11;
/// Steps coarser or finer than the best so far that are tried before a search stops.
const PATIENCE: u8 = 3;

/// The best step of a depth and its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The step.
    pub step: Step,
    /// Weighted squared error `Σ w (x − q(x))²`.
    pub distortion: f64,
}

/// For every depth from 0 to `max_depth`, the best step. `rows` yields rows of values with a weight for each row (1 for
/// coefficients; the energy of its coefficients for a basis row).
pub fn best_steps<'a>(rows: impl Iterator<Item = (&'a [f32], f64)> + Clone, max_depth: u8) -> Vec<Choice> {
    let max = rows.clone().map(|(row, _)| greatest(row)).fold(0f32, f32::max);
    let energy: f64 = rows.clone().map(|(row, weight)| weight * square_sum(row)).sum();
    let nothing = Choice { step: Step(0), distortion: energy };
    if max == 0.0 || energy == 0.0 {
        return vec![nothing; usize::from(max_depth) + 1];
    }
    let histogram = Histogram::new(rows.clone(), max, energy);
    let mut choices = vec![nothing];
    for depth in 1..=max_depth {
        let before = choices[usize::from(depth) - 1].step;
        choices.push(match depth {
            1 | 2 => histogram.search_all(depth),
            3..DIRECT_FROM => histogram.search_near(depth, before),
            _ => direct(rows.clone(), max, depth),
        });
    }
    choices
}

/// The greatest magnitude.
fn greatest(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<8>();
    let mut max = [0f32; 8];
    for lane in lanes {
        for (m, v) in max.iter_mut().zip(lane) {
            *m = if v.abs() > *m { v.abs() } else { *m };
        }
    }
    max.iter().chain(rest).fold(0f32, |m, v| m.max(v.abs()))
}

/// `Σx²`.
pub fn square_sum(row: &[f32]) -> f64 {
    lane_sum(row, |v| v * v)
}

/// `Σx⁸`.
pub fn eighth_power_sum(row: &[f32]) -> f64 {
    lane_sum(row, |v| {
        let fourth = (v * v) * (v * v);
        fourth * fourth
    })
}

/// The least step that does not clip, and its measured error.
fn direct<'a>(rows: impl Iterator<Item = (&'a [f32], f64)>, max: f32, depth: u8) -> Choice {
    // Adding and subtracting this rounds to an integer, in two operations that every vector unit has. (Ties go to even instead of
    // up, at the same error.)
    const ROUND: f32 = 12_582_912.0;
    let least = least_index(depth) as f32;
    let step = Step::at_least(max / (-least - 0.5));
    let (size, inverse) = (step.size(), 1.0 / step.size());
    let error = |v: f32| {
        let index = ((v * inverse + ROUND) - ROUND).clamp(least, -least - 1.0);
        (v - index * size) * (v - index * size)
    };
    Choice { step, distortion: rows.map(|(row, weight)| weight * lane_sum(row, error)).sum() }
}

/// Sums a function of values, in lanes (a compiler must not reorder floating-point sums by itself), parts of them in `f64`.
fn lane_sum(values: &[f32], of: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 8;
    let part = |part: &[f32]| -> f64 {
        let (lanes, rest) = part.as_chunks::<LANES>();
        let mut sums = [0f32; LANES];
        for lane in lanes {
            for (sum, v) in sums.iter_mut().zip(lane) {
                *sum += of(*v);
            }
        }
        f64::from(sums.iter().sum::<f32>() + rest.iter().map(|v| of(*v)).sum::<f32>())
    };
    values.chunks(1024).map(part).sum()
}

struct Histogram {
    max: f64,
    energy: f64,
    /// Prefix sums over bins: weighted number and sum of the values below bin `i`.
    number: Vec<f64>,
    sum: Vec<f64>,
}

impl Histogram {
    fn new<'a>(rows: impl Iterator<Item = (&'a [f32], f64)>, max: f32, energy: f64) -> Histogram {
        let mut number = vec![0f64; BINS + 1];
        let mut sum = vec![0f64; BINS + 1];
        let to_bin = BINS as f32 / (2.0 * max);
        let mut bins = vec![(0u32, 0f32); BINS];
        for (row, weight) in rows {
            for part in row.chunks(1 << 16) {
                for &v in part {
                    let bin = ((v + max) * to_bin) as i32;
                    let bin = &mut bins[(bin as usize).min(BINS - 1)];
                    bin.0 += 1;
                    bin.1 += v;
                }
                for (i, (n, s)) in bins.iter_mut().enumerate().filter(|(_, b)| b.0 > 0) {
                    number[i + 1] += weight * f64::from(*n);
                    sum[i + 1] += weight * f64::from(*s);
                    (*n, *s) = (0, 0.0);
                }
            }
        }
        for i in 0..BINS {
            number[i + 1] += number[i];
            sum[i + 1] += sum[i];
        }
        Histogram { max: f64::from(max), energy, number, sum }
    }

    /// The bin border nearest to a value.
    fn border(&self, value: f64) -> usize {
        ((value / self.max + 1.0) * (BINS as f64 / 2.0) + 0.5).clamp(0.0, BINS as f64) as usize
    }

    fn error(&self, step: f64, depth: u8) -> f64 {
        let least = least_index(depth);
        let first = (-self.max / step - 0.5).floor().max(f64::from(least)) as i32;
        let last = (self.max / step + 0.5).ceil().min(f64::from(-least - 1)) as i32;
        let mut error = self.energy;
        let mut from = 0;
        for level in first..=last {
            let to = if level == last { BINS } else { self.border((f64::from(level) + 0.5) * step) };
            let value = f64::from(level) * step;
            error += value * (value * (self.number[to] - self.number[from]) - 2.0 * (self.sum[to] - self.sum[from]));
            from = to;
        }
        // The sum of large terms that nearly cancel may end a rounding below zero.
        error.max(self.energy * 1e-12)
    }

    fn try_step(&self, code: u8, depth: u8) -> Choice {
        Choice { step: Step(code), distortion: self.error(f64::from(Step(code).size()), depth) }
    }

    /// All coded steps from the one that clips nothing down to a 32nd of it.
    fn search_all(&self, depth: u8) -> Choice {
        let top = Step::at_least(2.0 * self.max as f32 / -least_index(depth) as f32).0;
        let all = (top.saturating_sub(48)..=top).rev().map(|code| self.try_step(code, depth));
        all.min_by(|a, b| a.distortion.total_cmp(&b.distortion)).unwrap_or(Choice { step: Step(top), distortion: self.energy })
    }

    /// One bit more halves the best step, nearly: searches both ways from half of the step that was best one bit before.
    fn search_near(&self, depth: u8, before: Step) -> Choice {
        let start = before.0.saturating_sub(7);
        let mut best = self.try_step(start, depth);
        let up: &mut dyn Iterator<Item = u8> = &mut (start..u8::MAX).map(|c| c + 1);
        let down: &mut dyn Iterator<Item = u8> = &mut (0..start).rev();
        for codes in [up, down] {
            let mut misses = 0;
            for code in codes {
                let choice = self.try_step(code, depth);
                misses = if choice.distortion < best.distortion { 0 } else { misses + 1 };
                if misses == 0 {
                    best = choice;
                } else if misses == PATIENCE {
                    break;
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::index;

    fn measured(values: &[f32], step: Step, depth: u8) -> f64 {
        let (size, inverse) = (step.size(), 1.0 / step.size());
        values.iter().map(|&v| f64::from(v - index(v, inverse, depth) as f32 * size).powi(2)).sum()
    }

    /// Box–Muller.
    fn gaussian(n: usize) -> Vec<f32> {
        let mut s = 12345u64;
        let mut uniform = || {
            s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((s >> 33) as f64 + 0.5) / f64::from(1u32 << 31)
        };
        (0..n).map(|_| (0.1 * (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32).collect()
    }

    #[test]
    fn histogram_error_is_the_measured_error() {
        let x = gaussian(20_000);
        for (depth, choice) in best_steps([(&x[..], 1.0)].into_iter(), 12).iter().enumerate() {
            let exact = measured(&x, choice.step, depth as u8);
            assert!((choice.distortion / exact - 1.0).abs() < 0.02, "depth {depth}: {} for {exact}", choice.distortion);
        }
    }

    #[test]
    fn no_other_step_is_better() {
        let x = gaussian(5_000);
        for (depth, choice) in best_steps([(&x[..], 1.0)].into_iter(), 8).iter().enumerate().skip(1) {
            let mine = measured(&x, choice.step, depth as u8);
            for code in 0..=255 {
                assert!(mine <= measured(&x, Step(code), depth as u8) * 1.02, "depth {depth}: code {code} beats {:?}", choice.step);
            }
        }
    }

    /// The best uniform 16-level quantizer of a Gaussian has 19.38 dB (Max 1960, Table II); eq. 5 is mid-tread, with one level
    /// less on one side.
    #[test]
    fn gaussian_at_4_bits() {
        let x = gaussian(100_000);
        let d = best_steps([(&x[..], 1.0)].into_iter(), 4);
        let snr = 10.0 * (d[0].distortion / d[4].distortion).log10();
        assert!((19.0..19.45).contains(&snr), "{snr} dB");
    }

    #[test]
    fn weights_weigh_rows() {
        let (a, b) = (gaussian(1000), vec![0.3f32; 1000]);
        let both = best_steps([(&a[..], 1e-9), (&b[..], 1.0)].into_iter(), 3);
        // Only b counts: one level hits it nearly exactly.
        assert!(both[2].distortion < 0.01 * both[0].distortion);
    }

    proptest! {
        #[test]
        fn any_values(x in prop::collection::vec(-1f32..1.0, 0..300)) {
            let choices = best_steps([(&x[..], 1.0)].into_iter(), 12);
            prop_assert_eq!(choices.len(), 13);
            for (depth, c) in choices.iter().enumerate() {
                prop_assert!(c.distortion.is_finite() && c.distortion >= 0.0);
                let exact = measured(&x, c.step, depth as u8);
                prop_assert!(exact <= choices[0].distortion * 1.001 + 1e-9);
                prop_assert!((c.distortion - exact).abs() <= 0.05 * exact + 2e-4 * choices[0].distortion, "depth {}: {} for {}", depth, c.distortion, exact);
            }
        }
    }
}
