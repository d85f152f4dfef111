//! Step search: for every depth the step of least squared error, measured on the values themselves (Young et al. 2021,
//! Section 5.1: steps are searched, not derived from a distribution).
//!
//! Values are gathered once in a fine histogram that keeps, per bin, their (weighted) number and sum. The squared error of
//! any uniform quantizer is then a sum over its levels of `Σx² − 2ℓΔ·Σx + ℓ²Δ²·N`, with `N` and `Σx` from prefix sums. A bin
//! that a decision threshold cuts is assigned to one side whole; at a threshold both levels err the same, so this
//! changes the error in second order only (tested below against exact measurement).

use super::{ROUNDING, Step, UNCLIPPED, least_index};

/// Bins of the histogram.
const BINS: usize = 8192;
/// From this depth on steps come near a bin's width: errors are measured value by value instead, for the least step that
/// does not clip.
const DIRECT_FROM: u8 = 11;
/// Steps coarser or finer than the best so far that are tried before a search stops.
const PATIENCE: u8 = 3;

/// Steps of a ladder that an octave holds: of coefficients, of a basis.
pub const COEFFICIENT_RUNGS: u8 = 4;
pub const BASIS_RUNGS: u8 = 2;
/// Steps from this part of the greatest magnitude on are a few bins of the histogram.
const FINEST: f32 = 1.0 / 512.0;

/// A way to quantize some numbers, what it costs and errs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Bits a number, or [`UNCLIPPED`]; 0: nothing is stored.
    pub depth: u8,
    /// The step.
    pub step: Step,
    /// Bits that all the numbers take: of unclipped indices an estimate, their entropy and what a coder has to learn.
    pub bits: u64,
    /// Weighted squared error `Σ w (x − q(x))²`.
    pub distortion: f64,
}

/// For every depth from 0 to `max_depth`, the best step. `rows` yields rows of values with a weight for each row (1 for
/// coefficients; the energy of its coefficients for a basis row).
pub fn best_steps<'a>(rows: impl Iterator<Item = (&'a [f32], f64)> + Clone, max_depth: u8) -> Vec<Choice> {
    let max = rows.clone().map(|(row, _)| greatest(row)).fold(0f32, f32::max);
    let energy: f64 = rows.clone().map(|(row, weight)| weight * square_sum(row)).sum();
    let count: usize = rows.clone().map(|(row, _)| row.len()).sum();
    let choice = |depth: u8, (step, distortion)| Choice { depth, step, bits: u64::from(depth) * count as u64, distortion };
    if max == 0.0 || energy == 0.0 {
        return (0..=max_depth).map(|depth| choice(depth, (Step(0), energy))).collect();
    }
    let histogram = Histogram::new(rows.clone(), max, energy);
    let mut choices = vec![choice(0, (Step(0), energy))];
    for depth in 1..=max_depth {
        let before = choices[usize::from(depth) - 1].step;
        choices.push(choice(
            depth,
            match depth {
                1 | 2 => histogram.search_all(depth),
                3..DIRECT_FROM => histogram.search_near(depth, before),
                _ => direct(rows.clone(), max, depth),
            },
        ));
    }
    choices
}

/// What the search sees of quantizers, by depth and step: their weighted squared errors. `rows` as in [`best_steps`].
pub fn distortions<'a>(rows: impl Iterator<Item = (&'a [f32], f64)> + Clone, quantizers: &[(u8, Step)]) -> Vec<f64> {
    let max = rows.clone().map(|(row, _)| greatest(row)).fold(0f32, f32::max);
    let energy: f64 = rows.clone().map(|(row, weight)| weight * square_sum(row)).sum();
    if max == 0.0 || energy == 0.0 {
        return vec![energy; quantizers.len()];
    }
    let histogram = Histogram::new(rows, max, energy);
    quantizers.iter().map(|&(depth, step)| histogram.error(step.size().into(), depth)).collect()
}

/// Unclipped quantizers of falling steps, `rungs` an octave, after the choice to store nothing: from steps that leave next to nothing to those
/// of about `max_depth` bits. `rows` as in [`best_steps`].
pub fn ladder<'a>(rows: impl Iterator<Item = (&'a [f32], f64)> + Clone, max_depth: u8, rungs: u8) -> Vec<Choice> {
    let max = rows.clone().map(|(row, _)| greatest(row)).fold(0f32, f32::max);
    let energy: f64 = rows.clone().map(|(row, weight)| weight * square_sum(row)).sum();
    let (count, weight) = rows.clone().fold((0, 0.0), |(n, w), (row, weight)| (n + row.len() as u64, w + weight * row.len() as f64));
    let mut choices = vec![Choice { depth: 0, step: Step(0), bits: 0, distortion: energy }];
    if max == 0.0 || energy == 0.0 {
        // Zeros, or numbers of no weight: the coarsest step will do.
        choices.push(Choice { depth: UNCLIPPED, step: Step(u8::MAX), bits: count / 64, distortion: energy });
        return choices;
    }
    let histogram = Histogram::new(rows, max, energy);
    let fine = max * FINEST;
    let mut code = Step::at_least(2.0 * max).0;
    loop {
        let (step, size) = (Step(code), Step(code).size());
        let (bits, distortion) = if size >= fine {
            histogram.entropy(size.into())
        } else {
            // Steps so fine that values are uniform in them.
            let last = choices[choices.len() - 1];
            let finer = f64::from(last.step.size() / size).log2();
            (last.bits as f64 + count as f64 * finer, weight * f64::from(size).powi(2) / 12.0)
        };
        choices.push(Choice { depth: UNCLIPPED, step, bits: bits.ceil() as u64, distortion });
        match code.checked_sub(8 / rungs) {
            Some(next) if bits < f64::from(max_depth) * count as f64 => code = next,
            _ => return choices,
        }
    }
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
fn direct<'a>(rows: impl Iterator<Item = (&'a [f32], f64)>, max: f32, depth: u8) -> (Step, f64) {
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
    (step, rows.map(|(row, weight)| weight * lane_sum(row, error)).sum())
}

/// Sums a function of values.
fn lane_sum(values: &[f32], of: impl Fn(f32) -> f32) -> f64 {
    lane_sums(values, |v| [of(v)])[0]
}

/// Sums functions of values, in lanes (a compiler must not reorder floating-point sums by itself), parts of them in `f64`.
pub fn lane_sums<const N: usize>(values: &[f32], of: impl Fn(f32) -> [f32; N]) -> [f64; N] {
    const LANES: usize = 8;
    let mut total = [0f64; N];
    for part in values.chunks(1024) {
        let (lanes, rest) = part.as_chunks::<LANES>();
        let (mut sums, mut last) = ([[0f32; LANES]; N], [0f32; N]);
        for lane in lanes {
            for (i, v) in lane.iter().enumerate() {
                let terms = of(*v);
                (0..N).for_each(|n| sums[n][i] += terms[n]);
            }
        }
        for v in rest {
            let terms = of(*v);
            (0..N).for_each(|n| last[n] += terms[n]);
        }
        (0..N).for_each(|n| total[n] += f64::from(sums[n].iter().sum::<f32>() + last[n]));
    }
    total
}

struct Histogram {
    max: f64,
    energy: f64,
    /// Prefix sums over bins: number, weighted number, and weighted sum of the values below bin `i`.
    count: Vec<u64>,
    number: Vec<f64>,
    sum: Vec<f64>,
}

impl Histogram {
    fn new<'a>(rows: impl Iterator<Item = (&'a [f32], f64)>, max: f32, energy: f64) -> Histogram {
        let mut count = vec![0u64; BINS + 1];
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
                    count[i + 1] += u64::from(*n);
                    number[i + 1] += weight * f64::from(*n);
                    sum[i + 1] += weight * f64::from(*s);
                    (*n, *s) = (0, 0.0);
                }
            }
        }
        for i in 0..BINS {
            count[i + 1] += count[i];
            number[i + 1] += number[i];
            sum[i + 1] += sum[i];
        }
        Histogram { max: f64::from(max), energy, count, number, sum }
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

    /// Bits and error of an unclipped quantizer.
    fn entropy(&self, step: f64) -> (f64, f64) {
        let rounding = f64::from(ROUNDING);
        let greatest = (self.max / step + rounding).floor() as i64;
        let all = self.count[BINS] as f64;
        let (mut bits, mut error, mut from) = (0.0, self.energy, 0);
        for level in -greatest..=greatest {
            // Thresholds lie away from zero by what rounding leaves of a half.
            let threshold = level as f64 + if level < 0 { rounding } else { 1.0 - rounding };
            let to = if level == greatest { BINS } else { self.border(threshold * step) };
            let value = level as f64 * step;
            error += value * (value * (self.number[to] - self.number[from]) - 2.0 * (self.sum[to] - self.sum[from]));
            let here = (self.count[to] - self.count[from]) as f64;
            if here > 0.0 {
                // What a coder has to learn: a level's probability to within its deviation.
                bits += here * (all / here).log2() + 0.5 * (1.0 + here).log2();
            }
            from = to;
        }
        (bits, error.max(self.energy * 1e-12))
    }

    fn try_step(&self, code: u8, depth: u8) -> (Step, f64) {
        (Step(code), self.error(f64::from(Step(code).size()), depth))
    }

    /// All coded steps from the one that clips nothing down to a 32nd of it.
    fn search_all(&self, depth: u8) -> (Step, f64) {
        let top = Step::at_least(2.0 * self.max as f32 / -least_index(depth) as f32).0;
        let all = (top.saturating_sub(48)..=top).rev().map(|code| self.try_step(code, depth));
        all.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((Step(top), self.energy))
    }

    /// One bit more halves the best step, nearly: searches both ways from half of the step that was best one bit before.
    fn search_near(&self, depth: u8, before: Step) -> (Step, f64) {
        let start = before.0.saturating_sub(7);
        let mut best = self.try_step(start, depth);
        let up: &mut dyn Iterator<Item = u8> = &mut (start..u8::MAX).map(|c| c + 1);
        let down: &mut dyn Iterator<Item = u8> = &mut (0..start).rev();
        for codes in [up, down] {
            let mut misses = 0;
            for code in codes {
                let choice = self.try_step(code, depth);
                misses = if choice.1 < best.1 { 0 } else { misses + 1 };
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

    /// The entropy-coded uniform quantizer of a Gaussian is 1.53 dB, a quarter of a bit, from its rate–distortion function at high rates (Gish and
    /// Pierce 1968), and a little more with the dead zone, and without centroids at 1 bit.
    #[test]
    fn a_ladder_of_a_gaussian() {
        let x = gaussian(200_000);
        let rungs = ladder([(&x[..], 1.0)].into_iter(), 10, COEFFICIENT_RUNGS);
        let energy = rungs[0].distortion;
        let rate = |c: &Choice| c.bits as f64 / x.len() as f64;
        for c in rungs.iter().skip(1).filter(|c| rate(c) > 0.05) {
            let bound = (energy / c.distortion).log2() / 2.0;
            let most = if rate(c) > 2.0 { 0.29 } else { 0.4 };
            assert!((0.0..most).contains(&(rate(c) - bound)), "{} bits where {bound} would do", rate(c));
        }
        assert!(rungs.windows(2).skip(1).all(|w| w[1].bits >= w[0].bits && w[1].step < w[0].step));
        assert!(rungs.last().is_some_and(|c| (10.0..10.3).contains(&rate(c))));
    }

    #[test]
    fn ladders_of_nothing() {
        for rows in [vec![], vec![0f32; 5], vec![0.5]] {
            for weight in [0.0, 1.0] {
                let rungs = ladder([(&rows[..], weight)].into_iter(), 10, BASIS_RUNGS);
                assert!(
                    rungs.len() >= 2 && rungs[0].depth == 0 && rungs[1..].iter().all(|c| c.depth == UNCLIPPED && c.distortion.is_finite())
                );
            }
        }
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
            for rung in ladder([(&x[..], 1.0)].into_iter(), 10, COEFFICIENT_RUNGS) {
                let exact = measured(&x, rung.step, rung.depth);
                prop_assert!((rung.distortion - exact).abs() <= 0.2 * exact + 2e-3 * choices[0].distortion, "{rung:?} for {exact}");
            }
            for (depth, c) in choices.iter().enumerate() {
                prop_assert!(c.distortion.is_finite() && c.distortion >= 0.0);
                let exact = measured(&x, c.step, depth as u8);
                prop_assert!(exact <= choices[0].distortion * 1.001 + 1e-9);
                prop_assert!((c.distortion - exact).abs() <= 0.05 * exact + 2e-4 * choices[0].distortion, "depth {}: {} for {}", depth, c.distortion, exact);
            }
        }
    }
}
