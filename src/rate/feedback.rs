//! Candidates whose errors are fed back ([`crate::quantize::feedback`]): second moments of gradients across columns of a layer, and the scales that
//! follow from them.
//!
//! With one step for all of a layer, times a scale per row and one per column, every weight's error costs the same where `step² · g_i · D_j` is: `g_i` is
//! what errors of row `i` cost, `D_j` what is left of column `j` once later columns have made good what they can. The scale of a column is kept as one factor
//! of its input channel and one of its kernel tap.
//!
//! At high rate feedback gains the same in any orthonormal basis. At low rate it does not: where an error is as large as the weight it is in vain to shape it, and then it
//! pays that a decoder knows which directions to leave out. So columns may be cosine coefficients of each kernel, whose bases a decoder knows: nothing is stored for them.
//! On ResNet-20 the output's squared error at 0.65, 1.31 and 2.45 bits was 56.9, 11.2 and 1.38 with weights, 42.9, 8.70 and 1.18 with coefficients (type I; means of two
//! seeds).

use std::{ops::Range, sync::Arc};

use super::{
    cost::Cost,
    curve::Candidate,
    hull::Block,
    limit::{self, Eigenvalue},
};
use crate::{
    container::layer::{self, BlockCode, ColumnScales, LayerCode},
    io::LayerShape,
    quantize::{MAX_DEPTH, Scale, Step, UNCLIPPED, feedback::Factor, search::Choice, trellis::Trellis},
    report::{SecondMoment, TransformKind},
    statistics::{LayerStatistics, Moment},
    transform::{Geometry, dct, gain, intra},
};

/// Most columns that have a second moment together; wider layers are cut, between channels.
const WIDEST: usize = 4608;

/// What is added to the diagonal of the second moment, in parts of its mean: at least, and times the columns for each row of gradients that was sampled.
const DAMPING: [f32; 2] = [0.01, 0.1];

/// How errors of a layer are fed back.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// Scales of columns, relative to each other.
    pub columns: ColumnScales,
    /// Per group: factors of consecutive ranges of its columns, as they are coded, in units of the mean of the diagonal.
    pub factors: Vec<Vec<Factor>>,
    /// What a squared error costs in each row: `g_i`.
    pub rows: Vec<f64>,
    /// Per group: the eigenvalues of what was factored, in the same units.
    pub spectra: Vec<Vec<Eigenvalue>>,
}

impl Feedback {
    /// From what calibration found; nothing where there was none, or the layer does not reach the output. On `weights`, in canonical order, depends what columns are: of the
    /// cosine transforms within kernels that with the greatest coding gain, if any gains.
    pub fn new(shape: &LayerShape, weights: &[f32], cost: &Cost, of: SecondMoment) -> Option<Arc<Feedback>> {
        let Cost::Output { statistics, .. } = cost else { return None };
        let LayerShape { groups, inputs, taps, outputs, .. } = *shape;
        let width = inputs * taps;
        if width == 0 || outputs == 0 || groups == 0 {
            return None;
        }
        let rows = cost.rows(TransformKind::None, Geometry::new(shape, TransformKind::None)?, None, 0.0).rows;
        let kernels = kernels(shape, weights, statistics);
        let basis = dct::basis(shape, kernels);
        let channels = (WIDEST / taps).clamp(1, inputs);
        // Columns go by their scales, coarsest first: what little matters is left out, and what matters makes good for it. Of ResNet-20 squared errors at 0.65, 1.31
        // and 2.45 bits are 33.9, 7.87 and 1.15 with all cosine coefficients sorted, 42.9, 8.70 and 1.18 with channels alone. (Of weights channels gain 0.05 to 0.1 dB;
        // finest first they lose up to 0.23.) Not over ranges, whose factors know nothing of each other.
        let sorts = inputs <= channels && (inputs > 1 || basis.is_some());
        let (mut factors, mut spectra, mut moments) = (Vec::with_capacity(groups), Vec::with_capacity(groups), Vec::new());
        for group in 0..groups {
            let (mut columns, mut spectrum) = (Vec::new(), Vec::new());
            for first in (0..inputs).step_by(channels) {
                let (mut h, samples) = across_columns(statistics, group, first..(first + channels).min(inputs), of)?;
                let n = (channels.min(inputs - first)) * taps;
                if let Some(basis) = &basis {
                    intra::second_moment(basis, taps, &mut h, n);
                }
                let (h, factor) = factor(h, n, DAMPING[0] + DAMPING[1] * n as f32 / samples.max(1) as f32)?;
                columns.push(factor);
                spectrum.extend(limit::spectrum(&h, n));
                moments.extend(sorts.then_some(h));
            }
            factors.push(columns);
            spectra.push(spectrum);
        }
        let diagonal = |group: &Vec<Factor>| group.iter().flat_map(|f| f.diagonal.clone()).collect::<Vec<f32>>();
        let diagonals: Vec<Vec<f32>> = factors.iter().map(diagonal).collect();
        let mut columns = ColumnScales { kernels, ..scales(&diagonals, inputs, taps) };
        if sorts {
            let sorted = ColumnScales { sorted: true, ..columns.clone() };
            let factor = |(group, h): (usize, Vec<f32>)| Some(vec![permuted(h, &sorted.sequence(group, inputs))?]);
            if let Some(of_sorted) = moments.into_iter().enumerate().map(factor).collect() {
                (factors, columns) = (of_sorted, sorted);
            }
        }
        Some(Arc::new(Feedback { columns, factors, rows, spectra }))
    }
}

/// The second moment across the columns of some input channels of a group, and of how many rows of gradients it is the mean: from gradients; or from inputs, `E[xxᵗ]`
/// across channels times that of gradients across taps, where this is asked for or no gradients were kept. On ResNet-20 at 1.94 bits the output's squared
/// error is 3.77 with gradients, 5.19 with inputs, and 5.68 with gradients across channels in their place.
fn across_columns(statistics: &LayerStatistics, group: usize, channels: Range<usize>, of: SecondMoment) -> Option<(Vec<f32>, usize)> {
    let LayerShape { taps, outputs, .. } = statistics.shape;
    if of == SecondMoment::Gradients
        && let Some(found) = statistics.columns(group, channels.start * taps..channels.end * taps)
    {
        return Some(found);
    }
    // Where it is not known which of its input's axes are channels, of gradients.
    let across = statistics.input_moments.get(group).unwrap_or(&statistics.inputs[group]);
    let element = |moment: &Moment, i: usize, j: usize| match moment.full() {
        Some(m) => m[(i, j)],
        None if i == j => moment.at(i),
        None => 0.0,
    };
    // Of single taps nothing is summed.
    let within = |i: usize, j: usize| if taps == 1 { 1.0 } else { element(&statistics.taps, i, j) };
    let n = channels.len() * taps;
    let mut h = Vec::with_capacity(n * n);
    for row in 0..n {
        let (channel, tap) = (channels.start + row / taps, row % taps);
        h.extend((0..n).map(|j| (element(across, channel, channels.start + j / taps) * within(tap, j % taps)) as f32));
    }
    Some((h, statistics.samples * outputs * taps))
}

/// What columns of a layer are best: the weights of its kernels, or the coefficients of the cosine transform with the greater coding gain within kernels (Young et al. 2021,
/// Section 7.2), if that is more than nothing.
fn kernels(shape: &LayerShape, weights: &[f32], statistics: &LayerStatistics) -> TransformKind {
    let gains = gain::cosine_gains(shape, weights, statistics);
    let best = gains.into_iter().filter(|(_, db)| *db > 0.0).max_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(TransformKind::None, |(kind, _)| kind)
}

/// A second moment in units of the mean of its diagonal and damped by so many of them, or more where rounding has made it indefinite; and its factor.
fn factor(mut h: Vec<f32>, n: usize, mut damping: f32) -> Option<(Vec<f32>, Factor)> {
    let mean = (0..n).map(|i| f64::from(h[i * n + i])).sum::<f64>() / n.max(1) as f64;
    if !(mean > 0.0 && mean.is_finite()) {
        return None;
    }
    let unit = (1.0 / mean) as f32;
    h.iter_mut().for_each(|v| *v *= unit);
    for _ in 0..4 {
        let mut damped = h.clone();
        (0..n).for_each(|i| damped[i * n + i] += damping);
        if let Some(factor) = Factor::new(damped.clone(), n) {
            return Some((damped, factor));
        }
        damping *= 10.0;
    }
    None
}

/// The factor of a second moment of columns in another order.
fn permuted(h: Vec<f32>, sequence: &[usize]) -> Option<Factor> {
    let n = sequence.len();
    let row = |&row: &usize| sequence.iter().map(move |column| (row, *column));
    Factor::new(sequence.iter().flat_map(row).map(|(row, column)| h[row * n + column]).collect(), n)
}

/// The scale of each input channel and of each tap: `1/√D_j` as geometric means, the greatest of each one.
fn scales(diagonals: &[Vec<f32>], inputs: usize, taps: usize) -> ColumnScales {
    let log = |d: f32| -0.5 * f64::from(d).max(1e-30).log2();
    let channels: Vec<f64> =
        diagonals.iter().flat_map(|d| d.chunks(taps).map(|d| d.iter().map(|d| log(*d)).sum::<f64>() / taps as f64)).collect();
    let mut of_taps = vec![0f64; taps];
    for d in diagonals {
        d.iter().enumerate().for_each(|(j, d)| of_taps[j % taps] += log(*d) / (inputs * diagonals.len()) as f64);
    }
    let coded = |logs: &[f64]| -> Vec<Scale> {
        let greatest = logs.iter().fold(f64::NEG_INFINITY, |m, l| m.max(*l));
        logs.iter().map(|l| Scale::nearest((l - greatest).exp2())).collect()
    };
    ColumnScales { channels: coded(&channels), taps: coded(&of_taps), sorted: false, kernels: TransformKind::None }
}

/// Most weights that a curve is measured on; of larger layers some rows.
const MEASURED: usize = 1 << 16;
/// Steps that are measured, in eighths of an octave apart.
const APART: u8 = 8;
/// Bits per weight from which another octave is a bit, and a quarter of the distortion.
const FINE: f64 = 4.5;

/// A layer whose curve is measured.
struct Curve<'a> {
    shape: &'a LayerShape,
    geometry: Geometry,
    feedback: &'a Feedback,
    scales: &'a [Scale],
    /// The layer's columns: its weights, or their kernels' coefficients.
    columns: &'a [f32],
    /// One of so many rows is coded.
    every: usize,
    /// Which part of all that is.
    share: f64,
}

impl Curve<'_> {
    fn seen(&self, row: usize) -> bool {
        row.is_multiple_of(self.every)
    }

    /// What errors of columns cost in all rows, from those that are seen.
    fn cost(&self, errors: &[f32]) -> f64 {
        let Geometry { rank, width, .. } = self.geometry;
        let mut sum = 0.0;
        for (group, factors) in self.feedback.factors.iter().enumerate() {
            let rows: Vec<usize> = (group * rank..(group + 1) * rank).filter(|&row| self.seen(row)).collect();
            let sequence = self.feedback.columns.sequence(group, self.shape.inputs);
            let mut first = 0;
            for factor in factors {
                let n = factor.diagonal.len();
                let columns = &sequence[first..first + n];
                let mut part = Vec::with_capacity(rows.len() * n);
                rows.iter().for_each(|row| part.extend(columns.iter().map(|column| errors[row * width + column])));
                sum += factor.costs(&part).iter().zip(&rows).map(|(cost, &row)| cost * self.feedback.rows[row]).sum::<f64>();
                first += n;
            }
        }
        sum / self.share
    }

    fn code(&self, step: Step, used: impl Fn(usize) -> bool) -> LayerCode {
        let rows = self.geometry.rows();
        LayerCode {
            kind: TransformKind::None,
            geometry: self.geometry,
            period: layer::period(self.shape, TransformKind::None),
            exponent: 0,
            block_of_row: (0..rows).map(|row| u16::from(!used(row))).collect(),
            scales: Some(self.scales.to_vec()),
            columns: Some(self.feedback.columns.clone()),
            gains: None,
            blocks: [UNCLIPPED, 0][..if (0..rows).all(used) { 1 } else { 2 }]
                .iter()
                .map(|&depth| BlockCode { depth, step, basis_depth: 0, basis_step: Step(0) })
                .collect(),
            second: None,
            folded: false,
            trellis: Trellis::None,
        }
    }

    /// Bits and distortion at a step, by coding what is seen.
    fn measured(&self, step: Step) -> (f64, f64) {
        let code = self.code(step, |row| self.seen(row));
        let (coded, indices) = layer::fed_back(&code, self.columns, &self.feedback.factors, 1);
        let errors: Vec<f32> = layer::coefficients(&coded, &indices, self.shape).iter().zip(self.columns).map(|(d, w)| d - w).collect();
        (((layer::count(&coded, &indices) - side_bits(&coded)) / self.share).max(0.0), self.cost(&errors))
    }

    /// A step at which everything seen is zero, or nearly: scales of rows and columns are one at most. Nothing where all is zero at any step.
    fn coarsest(&self) -> Option<Step> {
        let Geometry { rank, width, .. } = self.geometry;
        let greatest = (0..self.geometry.rows()).filter(|&row| self.seen(row)).map(|row| {
            let columns = self.feedback.columns.columns(row / rank.max(1), self.shape.inputs);
            let scale = self.scales[row].size();
            self.columns[row * width..(row + 1) * width].iter().zip(&columns).fold(0f32, |m, (w, c)| m.max(w.abs() / (c * scale)))
        });
        let greatest = greatest.fold(0f32, f32::max);
        (greatest > 0.0).then(|| Step::at_least(greatest))
    }

    /// What steps take and err, from all zeros on.
    fn choices(&self) -> Vec<Choice> {
        let (energy, count) = (self.cost(self.columns), self.columns.len() as f64);
        let mut choices = vec![Choice { depth: 0, step: Step(0), bits: 0, distortion: energy }];
        let coarsest = self.coarsest().filter(|_| energy > 0.0);
        let mut step = coarsest.unwrap_or(Step(u8::MAX));
        let (mut last_bits, mut last) = (0f64, energy);
        loop {
            let (bits, distortion) = if last_bits < FINE * count && coarsest.is_some() {
                self.measured(step)
            } else {
                (last_bits + count * f64::from(APART) / 8.0, last * 4f64.powf(-f64::from(APART) / 8.0))
            };
            // In between as on a line: bits, and logarithms of distortions.
            for part in (1..=APART).filter(|part| part % 2 == 0) {
                let t = f64::from(part) / f64::from(APART);
                choices.push(Choice {
                    depth: UNCLIPPED,
                    step: Step(step.0.saturating_add(APART - part)),
                    bits: (last_bits + t * (bits - last_bits)).ceil() as u64,
                    distortion: (last.max(f64::MIN_POSITIVE).ln() * (1.0 - t) + t * distortion.max(f64::MIN_POSITIVE).ln()).exp(),
                });
            }
            (last_bits, last) = (bits, distortion);
            match step.0.checked_sub(APART) {
                Some(next) if bits < f64::from(MAX_DEPTH) * count => step = Step(next),
                _ => return choices,
            }
        }
    }
}

/// Bits of what does not depend on indices: what zeros take.
fn side_bits(code: &LayerCode) -> f64 {
    layer::count(code, &code.no_indices())
}

/// The candidate of a layer: one block, whose curve is what coding some of its rows at some steps gave. `scales` are those of rows; `weights` are normalised, in canonical
/// order.
pub fn candidate(shape: &LayerShape, feedback: Arc<Feedback>, scales: Vec<Scale>, weights: &[f32]) -> Option<Candidate> {
    let kind = TransformKind::None;
    let geometry = Geometry::new(shape, kind)?;
    let (rows, every) = (geometry.rows(), (weights.len() / MEASURED).max(1));
    let share = (0..rows).filter(|row| row.is_multiple_of(every)).count() as f64 / rows as f64;
    let columns = feedback.columns.forward(shape, weights);
    let curve = Curve { shape, geometry, feedback: &feedback, scales: &scales, columns: &columns, every, share };
    let blocks = vec![Block::new(curve.choices(), Vec::new(), weights.len() as u64)];
    let side_bits = side_bits(&curve.code(Step(u8::MAX), |_| true)) as u64;
    let (scales, feedback) = (Some(scales), Some(feedback));
    Some(Candidate {
        kind,
        geometry,
        basis: None,
        second: None,
        scales,
        feedback,
        block_of_row: vec![0; rows],
        blocks,
        side_bits,
        coded: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        io::Order,
        rate::curve::layer_curves,
        report::{Coding, CurveSettings, Method},
        statistics::{Accumulator, LayerStatistics, Moments, Sample},
        testing::noise,
    };

    fn shape(groups: usize, outputs: usize, inputs: usize, taps: usize) -> LayerShape {
        LayerShape { groups, outputs, inputs, taps, columns: taps, order: Order::OutIn }
    }

    /// Gradients that have much in common across columns.
    fn statistics(shape: LayerShape, samples: usize, seed: u64) -> Arc<LayerStatistics> {
        let width = shape.inputs * shape.taps;
        let mut sum = Accumulator::new(shape, true);
        for sample in 0..samples {
            let own = noise(shape.weights(), seed.wrapping_add(sample as u64));
            let common = noise(shape.weights() / width.max(1), seed ^ (99 + sample as u64));
            let gradient = own.iter().enumerate().map(|(i, v)| 0.3 * v + common[i / width]).collect();
            sum.add(Moments::new(&shape, Sample { gradient, input: None, output: None }));
        }
        Arc::new(sum.finish())
    }

    fn cost(statistics: &Arc<LayerStatistics>) -> Cost {
        Cost::Output { statistics: statistics.clone(), unit: 1.0, full: true }
    }

    const SETTINGS: fn() -> CurveSettings =
        || CurveSettings { coding: Coding::Entropy, method: Method::Feedback, ..CurveSettings::default() };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Over shapes: bits rise and distortions fall along the curve, from what losing the layer costs to next to nothing; and what is coded at a
        /// step errs as the curve says.
        #[test]
        fn curves_are_what_coding_gives(
            (groups, outputs, inputs, taps) in prop_oneof![
                Just((1, 1, 1, 1)), Just((1, 40, 1, 1)), Just((1, 1, 50, 1)), Just((6, 1, 1, 9)), Just((2, 8, 5, 9)), Just((1, 20, 12, 9)),
            ],
            seed in any::<u64>(),
        ) {
            let shape = shape(groups, outputs, inputs, taps);
            // Enough samples to know how columns belong together: of fewer, what errs least by the model errs next to nothing in the samples.
            let samples = (8 * inputs * taps).div_ceil(outputs).max(24);
            let statistics = statistics(shape, samples, seed);
            let weights = noise(shape.weights(), seed ^ 5);
            let curves = layer_curves(&shape, weights.clone(), SETTINGS(), &cost(&statistics));
            let fed_back: Vec<&Candidate> = curves.candidates.iter().filter(|c| c.feedback.is_some()).collect();
            prop_assert_eq!(fed_back.len(), 1);
            let hull = &fed_back[0].blocks[0].hull;
            prop_assert!(hull.windows(2).all(|w| w[0].bits < w[1].bits && w[0].distortion > w[1].distortion));
            let (first, last) = (hull[0], hull[hull.len() - 1]);
            prop_assert!(first.bits == 0 && last.distortion < 1e-3 * first.distortion, "{:?} {:?}", first, last);
            let mut normalized = weights.clone();
            let exponent = crate::quantize::normalize(&mut normalized);
            let vertex = *hull.iter().filter(|v| v.taken.coefficient > 0).min_by_key(|v| v.bits.abs_diff(3 * weights.len() as u64)).unwrap();
            let code = crate::pipeline::layer_code(fed_back[0], &shape, &[vertex], exponent, false);
            let (body, weights_found) = layer::encode_feedback(&code, &shape, &normalized, &fed_back[0].feedback.as_ref().unwrap().factors);
            let decoded = layer::decode(&body, &shape).unwrap();
            prop_assert_eq!(&decoded, &weights_found);
            let error: Vec<f32> = decoded.iter().zip(&weights).map(|(a, b)| a - b).collect();
            // The model of the curve takes all rows' gradients to be alike but for their size; of few weights either number says little.
            let ratio = statistics.distortion(&error) / vertex.distortion;
            let within = if weights.len() < 100 { 8.0 } else { 3.0 };
            prop_assert!((1.0 / within..within).contains(&ratio), "{ratio} of {}", vertex.distortion);
        }
    }

    /// Where gradients agree across columns, a layer errs less for its bits than without feedback: both coded, at about two bits.
    #[test]
    fn errors_fed_back_cost_less() {
        let shape = shape(1, 30, 20, 9);
        let statistics = statistics(shape, 40, 3);
        let weights = noise(shape.weights(), 8);
        let curves = layer_curves(&shape, weights.clone(), SETTINGS(), &cost(&statistics));
        let mut normalized = weights.clone();
        let exponent = crate::quantize::normalize(&mut normalized);
        let coded = |fed_back: bool, step_of: &dyn Fn(u64) -> u64| -> (f64, f64) {
            let candidate = curves.candidates.iter().find(|c| c.kind == TransformKind::None && c.feedback.is_some() == fed_back).unwrap();
            let want = 2 * weights.len() as u64;
            let near = |b: &Block| *b.hull.iter().min_by_key(|v| step_of(v.bits).abs_diff(want * b.count / weights.len() as u64)).unwrap();
            let vertices: Vec<_> = candidate.blocks.iter().map(near).collect();
            let code = crate::pipeline::layer_code(candidate, &shape, &vertices, exponent, false);
            let body = match &candidate.feedback {
                Some(feedback) => layer::encode_feedback(&code, &shape, &normalized, &feedback.factors).0,
                None => layer::encode_trellis(&code, &normalized, &[], &[]),
            };
            let decoded = layer::decode(&body, &shape).unwrap();
            let error: Vec<f32> = decoded.iter().zip(&weights).map(|(a, b)| a - b).collect();
            (8.0 * body.len() as f64 / weights.len() as f64, statistics.distortion(&error))
        };
        let (with, without) = (coded(true, &|bits| bits), coded(false, &|bits| bits));
        // As many bits would make either err 4 times less each.
        let at_two = |(bits, distortion): (f64, f64)| distortion * 4f64.powf(bits - 2.0);
        assert!(at_two(with) < 0.5 * at_two(without), "{with:?} {without:?}");
    }

    /// Of Gaussian weights no coding comes below the limit, and this one comes near.
    #[test]
    fn gaussian_weights_take_a_little_more_than_the_limit() {
        let shape = shape(1, 80, 24, 9);
        let statistics = statistics(shape, 60, 3);
        let parts: Vec<Vec<f32>> = (0..12).map(|i| noise(shape.weights(), 100 + i)).collect();
        let weights: Vec<f32> = (0..shape.weights()).map(|i| parts.iter().map(|p| p[i]).sum()).collect();
        let curves = layer_curves(&shape, weights, SETTINGS(), &cost(&statistics));
        let limit = curves.limit.as_ref().unwrap();
        let candidate = curves.candidates.iter().find(|c| c.feedback.is_some()).unwrap();
        let count = shape.weights() as f64;
        let near: Vec<(f64, f64)> = candidate.blocks[0]
            .hull
            .iter()
            .map(|v| (v.bits as f64 / count, (v.bits as f64 - limit::bits(&[limit], v.distortion)) / count))
            .filter(|(bits, _)| (0.5..4.0).contains(bits))
            .collect();
        assert!(near.len() > 5 && near.iter().all(|(_, gap)| (0.0..0.35).contains(gap)), "{near:?}");
    }

    /// Without kept gradients, or where it is asked for, columns belong together as inputs do across channels and gradients across taps.
    #[test]
    fn second_moments_of_inputs_stand_in() {
        let shape = shape(1, 4, 3, 2);
        for (keep, of) in [(false, SecondMoment::Gradients), (true, SecondMoment::Inputs)] {
            let mut sum = Accumulator::new(shape, keep);
            for sample in 0..30 {
                let mut inputs = Moment::zeros(3);
                inputs.add(&noise(15, 50 + sample), 5);
                sum.add(Moments::new(&shape, Sample { gradient: noise(24, sample), input: Some((vec![inputs], 5.0)), output: None }));
            }
            let statistics = Arc::new(sum.finish());
            let (h, samples) = across_columns(&statistics, 0, 0..3, of).unwrap();
            let (inputs, taps) = (statistics.input_moments[0].full().unwrap(), statistics.taps.full().unwrap());
            for (i, j) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
                assert_eq!(h[i * 6 + j], (inputs[(i / 2, j / 2)] * taps[(i % 2, j % 2)]) as f32);
            }
            assert_eq!(samples, 30 * 4 * 2);
            assert!(Feedback::new(&shape, &noise(24, 7), &cost(&statistics), of).is_some());
        }
    }

    /// Channels are coded by their scales, coarsest first, and errors cost what they do by the second moment in the layer's order; of weights as of kernels'
    /// coefficients.
    #[test]
    fn errors_cost_what_they_do_in_the_layers_order() {
        // A kernel of no known sides has no cosine transform.
        for (columns, kernels) in [(0, TransformKind::None), (2, TransformKind::IntraDct2), (4, TransformKind::IntraDct2)] {
            let shape = LayerShape { columns, ..shape(1, 20, 7, 4) };
            // Every other channel matters more, and gradients are much the same all over a kernel.
            let mut sum = Accumulator::new(shape, true);
            for sample in 0..30 {
                let (own, common) = (noise(shape.weights(), sample), noise(shape.weights() / 4, sample ^ 77));
                let gradient = |i: usize| (0.2 * own[i] + common[i / 4]) * (1 + 3 * (i / 4 % 7 % 2)) as f32;
                let gradient = (0..shape.weights()).map(gradient).collect();
                sum.add(Moments::new(&shape, Sample { gradient, input: None, output: None }));
            }
            let statistics = Arc::new(sum.finish());
            let weights = noise(shape.weights(), 5);
            let feedback = Feedback::new(&shape, &weights, &cost(&statistics), SecondMoment::Gradients).unwrap();
            let (columns, sequence) = (&feedback.columns, feedback.columns.sequence(0, 7));
            assert_eq!(columns.kernels, kernels);
            let code = |&column: &usize| match kernels {
                TransformKind::None => i32::from(columns.channels[column / 4].0),
                _ => i32::from(columns.channels[column / 4].0) + i32::from(columns.taps[column % 4].0),
            };
            assert!(columns.sorted && sequence.is_sorted_by_key(code) && !sequence.is_sorted(), "{sequence:?}");
            // Taps of weights stay together.
            assert!(kernels != TransformKind::None || sequence.chunks(4).all(|c| (0..4).all(|tap| c[tap] == c[0] / 4 * 4 + tap)));
            let (h, samples) = across_columns(&statistics, 0, 0..7, SecondMoment::Gradients).unwrap();
            let mean = (0..28).map(|i| h[i * 28 + i]).sum::<f32>() / 28.0;
            let damping = DAMPING[0] + DAMPING[1] * 28.0 / samples as f32;
            let errors = noise(28, 2);
            let expected: f32 = (0..28)
                .flat_map(|i| (0..28).map(move |j| (i, j)))
                .map(|(i, j)| errors[i] * (h[i * 28 + j] / mean + if i == j { damping } else { 0.0 }) * errors[j])
                .sum();
            let quantized = columns.forward(&shape, &errors);
            let coded: Vec<f32> = sequence.iter().map(|&column| quantized[column]).collect();
            let found = feedback.factors[0][0].costs(&coded)[0];
            assert!((found / f64::from(expected) - 1.0).abs() < 0.02, "{found} for {expected} with {kernels:?}");
        }
    }

    /// Where gradients agree all over a kernel, and so do its weights, a cosine transform is worth its while; where both are of one place, it is left out.
    #[test]
    fn kernels_are_transformed_where_that_gains() {
        let shape = LayerShape { columns: 3, ..shape(1, 12, 6, 9) };
        let of = |common: f32, middle: f32| {
            let field = |seed: u64| -> Vec<f32> {
                let (own, all) = (noise(shape.weights(), seed), noise(shape.weights() / 9, seed ^ 99));
                own.iter().enumerate().map(|(i, v)| (v + common * all[i / 9]) * if i % 9 == 4 { middle } else { 1.0 }).collect()
            };
            let mut sum = Accumulator::new(shape, true);
            for sample in 0..200 {
                sum.add(Moments::new(&shape, Sample { gradient: field(sample), input: None, output: None }));
            }
            kernels(&shape, &field(1000), &sum.finish())
        };
        // The first vector of the second kind is constant.
        assert_eq!(of(3.0, 1.0), TransformKind::IntraDct2);
        assert_eq!(of(0.0, 8.0), TransformKind::None);
    }

    #[test]
    fn nothing_without_gradients() {
        let shape = shape(1, 4, 4, 1);
        assert!(Feedback::new(&shape, &noise(16, 7), &Cost::Weights, SecondMoment::Gradients).is_none());
        let mut sum = Accumulator::new(shape, true);
        sum.add(Moments::new(&shape, Sample { gradient: vec![0.0; 16], input: None, output: None }));
        assert!(Feedback::new(&shape, &noise(16, 7), &cost(&Arc::new(sum.finish())), SecondMoment::Gradients).is_none());
    }
}
