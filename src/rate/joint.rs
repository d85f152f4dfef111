//! Steps of all blocks chosen together.
//!
//! Curves take one block at a time. But errors that follow the weights (those of clipping, and of rows that are left out) do not add up like
//! noise: weights that are all a little too small make an output that is much too small, and an error of one sign in one layer can undo one of
//! the other sign elsewhere. Every sampled gradient sees the whole network at once: with `p_b` what the error of block `b` does to a sample,
//! the output's error is `Σ rest_b + mean_s (Σ_b p_b,s)²` ([`super::cost`]). Steps cost nothing in the file, so once depths are allocated they are
//! chosen again, block after block, against what all the others leave.

use super::{
    cost::{Cost, Quantized, Split, mean_square},
    curve::Candidate,
};
use crate::{container::layer::LayerCode, quantize::Step, transform::Basis};

/// Steps tried around the one that the curves chose, in eighths of an octave.
const TRIED: std::ops::RangeInclusive<i16> = -6..=8;
/// How often all blocks are gone through, at most.
const SWEEPS: usize = 8;

/// A block whose step can be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Its number in the layer.
    pub block: usize,
    /// Steps and what their errors do.
    tries: Vec<(Step, Split)>,
    /// The one taken.
    taken: usize,
}

/// What the errors of one layer do.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerErrors {
    /// Of rows that are left out and of the basis, sample by sample: what no step changes.
    fixed: Vec<f32>,
    /// The blocks that are stored.
    blocks: Vec<Tried>,
}

/// The errors of a layer under a code; nothing where no samples are used. `coefficients` are those that are coded, for the basis as `decoded`;
/// `error` is that of the decoded weights as a matrix of the transform ([`crate::transform::to_matrix`]), in normalised weights.
pub fn layer_errors(
    candidate: &Candidate,
    code: &LayerCode,
    cost: &Cost,
    basis: Option<&Basis>,
    coefficients: &[f32],
    error: &[f32],
) -> Option<LayerErrors> {
    let (kind, geometry) = (candidate.kind, candidate.geometry);
    let width = geometry.width;
    // The error of the coefficients as they are coded now.
    let mut quantized = vec![0f32; coefficients.len()];
    for row in (0..geometry.rows()).filter(|&row| code.is_used(row)) {
        let at = row * width..(row + 1) * width;
        code.decoded_row(row, &coefficients[at.clone()])
            .zip(&coefficients[at.clone()])
            .zip(&mut quantized[at])
            .for_each(|((q, t), e)| *e = q - t);
    }
    let mut samples = 0;
    let mut fixed = Vec::new();
    let dot = |a: &[f32], b: &[f32]| {
        a.chunks(256).zip(b.chunks(256)).map(|(a, b)| f64::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>())).sum::<f64>()
    };
    let Cost::Output { statistics, unit, .. } = cost else { return None };
    let projections = cost.projections(kind, geometry, basis, coefficients, statistics.kept(), |g| {
        let whole = crate::transform::to_matrix(&statistics.shape, kind, &statistics.gradient(samples));
        samples += 1;
        fixed.push(((dot(&whole, error) - dot(g, &quantized)) * unit.sqrt()) as f32);
    })?;
    let energy: f64 = crate::quantize::search::square_sum(coefficients);
    let costs = cost.rows(kind, geometry, basis, energy).rows;
    let scale = |row: usize| candidate.scales.as_ref().map_or(1.0, |s| s[row].size());
    let mut blocks = Vec::new();
    for (block, of) in code.blocks.iter().enumerate().filter(|(_, b)| b.depth > 0) {
        let rows: Vec<usize> = (0..geometry.rows()).filter(|&row| usize::from(code.block_of_row[row]) == block).collect();
        let steps = TRIED.filter_map(|offset| u8::try_from(i16::from(of.step.0) + offset).ok().map(Step));
        let tries = projections.quantized(&rows, Quantized { coefficients, width, costs: &costs, scale: &scale }, of.depth, steps);
        let taken = tries.iter().position(|(step, _)| *step == of.step)?;
        blocks.push(Tried { block, tries, taken });
    }
    Some(LayerErrors { fixed, blocks })
}

/// The steps of a layer's blocks.
pub type Steps = Vec<(usize, Step)>;

/// Chooses the steps of all layers; gives them layer by layer, and the output's error before and after.
pub fn choose(layers: &mut [Option<LayerErrors>]) -> (Vec<Steps>, (f64, f64)) {
    let samples = layers.iter().flatten().map(|l| l.fixed.len()).max().unwrap_or(0);
    let mut sum = vec![0f32; samples];
    let add = |sum: &mut [f32], p: &[f32], sign: f32| sum.iter_mut().zip(p).for_each(|(s, p)| *s += sign * p);
    let mut rest = 0.0;
    for layer in layers.iter().flatten() {
        add(&mut sum, &layer.fixed, 1.0);
        for block in &layer.blocks {
            add(&mut sum, &block.tries[block.taken].1.along, 1.0);
            rest += block.tries[block.taken].1.rest;
        }
    }
    let before = rest + mean_square(&sum);
    for _ in 0..SWEEPS {
        let mut changed = false;
        for block in layers.iter_mut().flatten().flat_map(|l| &mut l.blocks) {
            let now = &block.tries[block.taken].1;
            add(&mut sum, &now.along, -1.0);
            rest -= now.rest;
            let cost = |split: &Split| {
                split.rest + sum.iter().zip(&split.along).map(|(s, p)| f64::from(s + p).powi(2)).sum::<f64>() / samples.max(1) as f64
            };
            let costs = block.tries.iter().map(|(_, split)| cost(split)).enumerate();
            let best = costs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(block.taken, |b| b.0);
            changed |= best != block.taken;
            block.taken = best;
            let now = &block.tries[best].1;
            add(&mut sum, &now.along, 1.0);
            rest += now.rest;
        }
        if !changed {
            break;
        }
    }
    let steps = layers.iter().map(|l| l.iter().flat_map(|l| &l.blocks).map(|b| (b.block, b.tries[b.taken].0)).collect());
    (steps.collect(), (before, rest + mean_square(&sum)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    fn layers(count: usize, blocks: usize, tries: usize, samples: usize, seed: u64) -> Vec<Option<LayerErrors>> {
        let mut seeds = (0..).map(|i| seed.wrapping_add(i));
        let mut next = |n: usize| noise(n, seeds.next().unwrap_or(0));
        let layer = |i: usize| {
            let block = |block: usize| Tried {
                block,
                tries: (0..tries).map(|k| (Step(k as u8), Split { rest: f64::from(next(1)[0].abs()), along: next(samples) })).collect(),
                taken: block % tries,
            };
            let blocks = (0..blocks).map(block).collect();
            // A layer that is kept bit for bit has no errors.
            (i % 3 != 2).then(|| LayerErrors { fixed: next(samples), blocks })
        };
        (0..count).map(layer).collect()
    }

    /// From the beginning.
    fn cost(layers: &[Option<LayerErrors>], samples: usize, taken: &dyn Fn(usize, &Tried) -> usize) -> f64 {
        let mut sum = vec![0f32; samples];
        let mut rest = 0.0;
        for (i, layer) in layers.iter().enumerate() {
            let Some(layer) = layer else { continue };
            sum.iter_mut().zip(&layer.fixed).for_each(|(s, p)| *s += p);
            for block in &layer.blocks {
                let split = &block.tries[taken(i, block)].1;
                rest += split.rest;
                sum.iter_mut().zip(&split.along).for_each(|(s, p)| *s += p);
            }
        }
        rest + mean_square(&sum)
    }

    proptest! {
        #[test]
        fn no_single_step_would_be_better(
            count in 1usize..5, blocks in 0usize..4, tries in 1usize..5, samples in 1usize..6, seed in any::<u64>(),
        ) {
            let mut layers = layers(count, blocks, tries, samples, seed);
            let first = cost(&layers, samples, &|_, b| b.taken);
            let (steps, (before, after)) = choose(&mut layers);
            prop_assert!((before - first).abs() < 1e-3 * (1.0 + first));
            prop_assert!(after <= before + 1e-3);
            let end = cost(&layers, samples, &|_, b| b.taken);
            prop_assert!((after - end).abs() < 1e-3 * (1.0 + end));
            for (i, layer) in layers.iter().enumerate() {
                let Some(layer) = layer else {
                    prop_assert!(steps[i].is_empty());
                    continue;
                };
                for block in &layer.blocks {
                    prop_assert!(steps[i].contains(&(block.block, block.tries[block.taken].0)));
                    for other in 0..tries {
                        let changed = cost(&layers, samples, &|l, b| if l == i && b.block == block.block { other } else { b.taken });
                        prop_assert!(changed >= end - 1e-3 * (1.0 + end), "{changed} instead of {end}");
                    }
                }
            }
        }
    }

    /// Two errors that undo each other are better than two small ones that add up.
    #[test]
    fn errors_may_undo_each_other() {
        let split = |rest: f64, p: f32| Split { rest, along: vec![p; 4] };
        let block = |block, tries: [(f64, f32); 2]| Tried {
            block,
            tries: vec![(Step(1), split(tries[0].0, tries[0].1)), (Step(2), split(tries[1].0, tries[1].1))],
            taken: 0,
        };
        let blocks = vec![block(0, [(0.1, 1.0), (0.1, 1.0)]), block(3, [(0.0, 0.5), (0.2, -1.0)])];
        let (steps, (before, after)) = choose(&mut [None, Some(LayerErrors { fixed: vec![0.0; 4], blocks })]);
        assert_eq!(steps[1], [(0, Step(1)), (3, Step(2))]);
        assert!((before - 2.35).abs() < 1e-9 && (after - 0.3).abs() < 1e-9);
    }

    #[test]
    fn nothing_to_choose() {
        assert_eq!(choose(&mut []), (vec![], (0.0, 0.0)));
        assert_eq!(choose(&mut [None]), (vec![vec![]], (0.0, 0.0)));
    }
}
