//! What errors of a layer's coefficients cost (method.md, section 5): relative weight error without calibration; with it the squared error
//! of the network's output over the output's power, to second order.
//!
//! * Diagonal form: an error `dT_k` of row `k` of `T` costs `g_k‖dT_k‖²` with `g_k = s_kᵗ C_γγ s_k / width`, an error of its basis vector
//!   `c̄ ‖dS_k‖²‖t_k‖²` with the mean `c̄` of the diagonal of `C_γγ / width`. True of errors that are not correlated with the weights.
//! * Full form: an error `E` of all weights costs `mean_s ⟨G_s, E⟩²` over sampled gradients. Clipping at low depths makes errors that
//!   follow the weights, and these cost many times what the diagonal form says. To choose steps and depths, each row's error is split into
//!   what follows the row's coefficients, which the samples weigh, and a rest that does not, which the diagonal weighs: so that a choice
//!   among many does not fit the samples' noise ([`Projections::split`]).

use std::sync::Arc;

use crate::{
    nn::kernel,
    quantize::{
        self, Step,
        search::{lane_sums, square_sum},
    },
    report::TransformKind,
    statistics::{LayerStatistics, Moment},
    transform::{self, Basis, Geometry, linalg},
};

/// What an error costs.
#[derive(Debug, Clone)]
pub enum Cost {
    /// Relative weight error.
    Weights,
    /// Output error over output power.
    Output {
        /// Of the layer.
        statistics: Arc<LayerStatistics>,
        /// One over the output's power, times the square of the power of two that weights are multiplied by when they are normalised.
        unit: f64,
        /// Whether the full form is used, where samples were kept.
        full: bool,
    },
}

/// Costs under one transform.
#[derive(Debug, Clone)]
pub struct RowCosts {
    /// Of a squared error of each row of coefficients.
    pub rows: Vec<f64>,
    /// Of a squared error of a number of each row of the basis, over the energy of the row's coefficients.
    pub basis: Vec<f64>,
}

/// What sampled gradients say of errors that follow the weights: the derivative of the output, sample after sample, along each row of
/// coefficients and along a shift of all of the row.
#[derive(Debug, Clone)]
pub struct Projections {
    /// `⟨(SᵗG_s)_k, t_k⟩`, sample after sample, all rows each.
    along: Vec<f32>,
    /// `Σ_j (SᵗG_s)_kj`.
    shift: Vec<f32>,
    samples: usize,
    unit: f64,
}

/// Sums over one row of an error `e` of coefficients `t`: all that [`Projections::split`] needs of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowError {
    /// `Σ e²`.
    pub square: f64,
    /// `Σ e·t`.
    pub along: f64,
    /// `Σ e`.
    pub shift: f64,
}

impl Cost {
    /// The same for weights that were divided by `2^exponent` ([`quantize::normalize`]).
    pub fn normalized(self, exponent: i16) -> Cost {
        match self {
            Cost::Output { statistics, unit, full } => {
                Cost::Output { statistics, unit: unit * f64::from(quantize::power_of_two(exponent.into())).powi(2), full }
            }
            Cost::Weights => Cost::Weights,
        }
    }

    /// The second moments of gradients across the channels that a transform acts across, by group; of a transform within kernels the one
    /// across taps, of a two-sided transform those across outputs.
    pub fn moments(&self, kind: TransformKind) -> Option<&[Moment]> {
        let Cost::Output { statistics, .. } = self else { return None };
        Some(match kind {
            _ if kind.across_inputs() => &statistics.inputs,
            _ if kind.within_kernels() => std::slice::from_ref(&statistics.taps),
            _ => &statistics.outputs,
        })
    }

    /// Costs of rows. `energy` is that of all coefficients.
    pub fn rows(&self, kind: TransformKind, geometry: Geometry, basis: Option<&Basis>, energy: f64) -> RowCosts {
        let Geometry { dim, width, rank, .. } = geometry;
        let (Some(moments), Cost::Output { unit, .. }) = (self.moments(kind), self) else {
            let relative = if energy > 0.0 { 1.0 / energy } else { 0.0 };
            return RowCosts { rows: vec![relative; geometry.rows()], basis: vec![relative; geometry.rows()] };
        };
        let per_width = unit / width.max(1) as f64;
        let (mut rows, mut by_basis) = (Vec::with_capacity(geometry.rows()), Vec::with_capacity(geometry.rows()));
        for (group, moment) in moments.iter().enumerate() {
            match basis {
                None => rows.extend((0..rank).map(|k| moment.at(k) * per_width)),
                Some(basis) => {
                    let s = &basis.rows[group * rank * dim..(group + 1) * rank * dim];
                    rows.extend(quadratic_forms(s, moment, dim).into_iter().map(|g| g * per_width));
                }
            }
            by_basis.extend(std::iter::repeat_n(moment.trace() / dim.max(1) as f64 * per_width, rank));
        }
        RowCosts { rows, basis: by_basis }
    }

    /// How many of the samples are enough to compare the transforms of a layer: all, but for layers so large that these would take longer
    /// than running the network.
    pub fn enough(&self, geometry: Geometry) -> usize {
        let Cost::Output { statistics, .. } = self else { return 0 };
        let product = geometry.groups as f64 * (geometry.rank * geometry.dim) as f64 * geometry.width as f64;
        statistics.kept().min(((MOST_PRODUCTS / product.max(1.0)) as usize).max(FEWEST_SAMPLES))
    }

    /// What the first `samples` sampled gradients say of errors that follow the `coefficients` of a transform; nothing where the full form is
    /// not used. `see` is shown every sample under the transform, `SᵗG_s`.
    pub fn projections(
        &self,
        kind: TransformKind,
        geometry: Geometry,
        basis: Option<&Basis>,
        coefficients: &[f32],
        samples: usize,
        mut see: impl FnMut(&[f32]),
    ) -> Option<Projections> {
        let Cost::Output { statistics, unit, full: true } = self else { return None };
        let samples = samples.min(statistics.kept());
        if samples == 0 {
            return None;
        }
        let width = geometry.width.max(1);
        let (mut along, mut shift) = (Vec::with_capacity(samples * geometry.rows()), Vec::with_capacity(samples * geometry.rows()));
        for sample in 0..samples {
            let mut g = transform::to_matrix(&statistics.shape, kind, &statistics.gradient(sample));
            if let Some(basis) = basis {
                g = basis.forward(&g).rows;
            }
            for (g, t) in g.chunks(width).zip(coefficients.chunks(width)) {
                along.push(kernel::dots(g, [t])[0]);
                shift.push(kernel::sum(g));
            }
            see(&g);
        }
        Some(Projections { along, shift, samples, unit: *unit })
    }
}

/// `s_kᵗ C s_k` of all rows of a basis; with the diagonal of `C` alone where there is no more.
fn quadratic_forms(s: &[f32], moment: &Moment, dim: usize) -> Vec<f64> {
    let squares = |s: &[f32]| -> f64 { s.iter().enumerate().map(|(i, &v)| f64::from(v).powi(2) * moment.at(i)).sum() };
    match moment.full() {
        None => s.chunks(dim.max(1)).map(squares).collect(),
        Some(c) => {
            let rank = s.len() / dim.max(1);
            let c: Vec<f32> = c.iter().map(|&v| v as f32).collect();
            let sc = linalg::product(s, &c, rank, dim, dim);
            let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>().max(0.0);
            sc.chunks(dim.max(1)).zip(s.chunks(dim.max(1))).map(dot).collect()
        }
    }
}

/// How many times the cost of errors that follow the weights is counted. Those of one block add up in step with those of other blocks and
/// layers (all weights a little too small make the output much too small), which costs of single blocks do not see: the sum of `n` equal ones
/// costs `n` times the sum of their costs. Measured on ResNet-20 at 2, 3 and 4 bits, 4 gave less error of the output than 1, 8 and 16.
const COHERENCE: f64 = 4.0;

/// Most multiplications of the samples under one transform, and fewest samples in any case.
const MOST_PRODUCTS: f64 = 5e9;
const FEWEST_SAMPLES: usize = 8;

/// Fewest coefficients of a wide row that errors are measured on.
const SEEN: usize = 1024;

/// The parts of an error of some rows: what the diagonal form weighs, and what follows the coefficients, as each sample sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Cost of the part that does not follow the coefficients.
    pub rest: f64,
    /// What the other part does to the output, sample by sample, in roots of the unit of costs: parts of several blocks and layers add up.
    pub along: Vec<f32>,
}

impl Split {
    /// The cost of these rows alone, errors in step with each other counted `COHERENCE` times.
    pub fn cost(&self) -> f64 {
        self.rest + COHERENCE * mean_square(&self.along)
    }
}

/// `mean p²`.
pub fn mean_square(p: &[f32]) -> f64 {
    p.iter().map(|&p| f64::from(p).powi(2)).sum::<f64>() / p.len().max(1) as f64
}

impl Projections {
    /// Splits an error of some rows. Each row's becomes what follows its coefficients, `x·t + y` by least squares, and a rest. The rest costs
    /// what the diagonal form says, `rows` being [`RowCosts::rows`].
    ///
    /// `errors` are those of `of`, the rows' numbers; `sums` the sums `(Σt², Σt)` of their coefficients; both over `seen` coefficients of a row
    /// of `width`.
    pub fn split(&self, of: &[usize], errors: &[RowError], sums: &[(f64, f64)], [seen, width]: [usize; 2], rows: &[f64]) -> Split {
        let unseen = width as f64 / seen.max(1) as f64;
        let count = self.along.len() / self.samples;
        let (mut rest, mut parts) = (0.0, Vec::with_capacity(of.len()));
        for ((&row, e), &(square, sum)) in of.iter().zip(errors).zip(sums) {
            let n = seen as f64;
            // A row that is constant, or has two numbers, has nothing besides its multiples.
            let determinant = square * n - sum * sum;
            let (x, y) = if square <= 0.0 {
                (0.0, 0.0)
            } else if seen < 3 || determinant < 1e-6 * square * n {
                (e.along / square, 0.0)
            } else {
                ((e.along * n - e.shift * sum) / determinant, (e.shift * square - e.along * sum) / determinant)
            };
            rest += unseen * rows[row] * (e.square - x * e.along - y * e.shift).max(0.0);
            parts.push((row, x as f32, y as f32));
        }
        let root = self.unit.sqrt();
        let along = (0..self.samples).map(|sample| {
            let (along, shift) = (&self.along[sample * count..], &self.shift[sample * count..]);
            let p: f32 = parts.iter().map(|&(row, x, y)| x * along[row] + y * shift[row]).sum();
            (f64::from(p) * root) as f32
        });
        Split { rest, along: along.collect() }
    }

    /// The splits of an error of some rows of coefficients for each of `steps` at one depth. `scale` is that of a row's step.
    pub fn quantized(&self, of: &[usize], rows: Quantized<'_>, depth: u8, steps: impl Iterator<Item = Step>) -> Vec<(Step, Split)> {
        let Quantized { coefficients, width, costs, scale } = rows;
        // Of a wide row some coefficients say enough. Numbers of kernel positions are odd: every second or fourth sees all of them.
        let mut stride = 1;
        while width.div_ceil(2 * stride) >= SEEN {
            stride *= 2;
        }
        let clips = stride > 1 && depth > 0 && depth != quantize::UNCLIPPED;
        let seen: Vec<Seen> = of.iter().map(|&r| Seen::of(&coefficients[r * width..(r + 1) * width], stride, clips)).collect();
        let sums: Vec<(f64, f64)> =
            seen.iter().map(|row| (row.sum(square_sum), row.sum(|v| v.iter().map(|&v| f64::from(v)).sum()))).collect();
        let split = |step: Step| {
            let error = |(&r, row): (&usize, &Seen)| {
                let size = step.size() * scale(r);
                let inverse = 1.0 / size;
                let terms = |v: f32| {
                    let e = quantize::index(v, inverse, depth) as f32 * size - v;
                    [e * e, e * v, e]
                };
                let (large, others) = (lane_sums(&row.large, terms), lane_sums(&row.others, terms));
                let [square, along, shift] = std::array::from_fn(|i| large[i] + row.weight * others[i]);
                RowError { square, along, shift }
            };
            let errors: Vec<RowError> = of.iter().zip(&seen).map(error).collect();
            let counted = if clips { width } else { width.div_ceil(stride) };
            (step, self.split(of, &errors, &sums, [counted, width], costs))
        };
        steps.map(split).collect()
    }
}

/// How many times a row's root mean square its large coefficients are.
const LARGE: f64 = 3.0;

/// The coefficients of a row that errors are measured on.
struct Seen {
    /// All large ones, where some are clipped: at high depths a single one that is can err more than all others together.
    large: Vec<f32>,
    /// Every so many of the others.
    others: Vec<f32>,
    /// How many each of the others stands for; one where they are all there is.
    weight: f64,
}

impl Seen {
    fn of(row: &[f32], stride: usize, clips: bool) -> Seen {
        let every: Vec<f32> = row.iter().step_by(stride).copied().collect();
        if !clips {
            return Seen { large: Vec::new(), others: every, weight: 1.0 };
        }
        let bound = (LARGE * (square_sum(&every) / every.len().max(1) as f64).sqrt()) as f32;
        let large: Vec<f32> = row.iter().copied().filter(|v| v.abs() > bound).collect();
        let others: Vec<f32> = every.into_iter().filter(|v| v.abs() <= bound).collect();
        let weight = (row.len() - large.len()) as f64 / others.len().max(1) as f64;
        Seen { large, others, weight }
    }

    /// A sum over all coefficients.
    fn sum(&self, of: impl Fn(&[f32]) -> f64) -> f64 {
        of(&self.large) + self.weight * of(&self.others)
    }
}

/// Rows that are quantized.
#[derive(Clone, Copy)]
pub struct Quantized<'a> {
    /// The coefficients, all rows.
    pub coefficients: &'a [f32],
    /// Numbers in a row.
    pub width: usize,
    /// [`RowCosts::rows`].
    pub costs: &'a [f64],
    /// Scale of a row's step.
    pub scale: &'a dyn Fn(usize) -> f32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    proptest! {
        /// An error that is `x·t + y` in every row has no rest: its cost is the mean square of its products with the samples; and an error
        /// that is orthogonal to `t` and to shifts costs what the diagonal says.
        #[test]
        fn errors_that_follow_the_coefficients_cost_what_the_samples_say(
            rows in 1usize..6, width in 3usize..9, samples in 1usize..5, seed in any::<u64>(),
        ) {
            let (t, g) = (noise(rows * width, seed), noise(samples * rows * width, seed ^ 1));
            let factors = noise(2 * rows, seed ^ 2);
            let row = |v: &[f32], k: usize| v[k * width..(k + 1) * width].to_vec();
            let sum = |v: &[f32]| v.iter().map(|&v| f64::from(v)).sum::<f64>();
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let (mut along, mut shift) = (Vec::new(), Vec::new());
            for s in 0..samples {
                for k in 0..rows {
                    let g = row(&g, s * rows + k);
                    along.push(dot(&g, &row(&t, k)) as f32);
                    shift.push(sum(&g) as f32);
                }
            }
            let projections = Projections { along, shift, samples, unit: 0.5 };
            let error: Vec<Vec<f32>> = (0..rows).map(|k| row(&t, k).iter().map(|t| factors[2 * k] * t + factors[2 * k + 1]).collect()).collect();
            let of: Vec<usize> = (0..rows).collect();
            let sums: Vec<(f64, f64)> = of.iter().map(|&k| (dot(&row(&t, k), &row(&t, k)), sum(&row(&t, k)))).collect();
            let errors = |e: &[Vec<f32>]| -> Vec<RowError> {
                e.iter().enumerate().map(|(k, e)| RowError { square: dot(e, e), along: dot(e, &row(&t, k)), shift: sum(e) }).collect()
            };
            let exact = (0..samples).map(|s| (0..rows).map(|k| dot(&row(&g, s * rows + k), &error[k])).sum::<f64>().powi(2)).sum::<f64>();
            let expected = COHERENCE * 0.5 * exact / samples as f64;
            let cost = projections.split(&of, &errors(&error), &sums, [width; 2], &vec![1.0; rows]).cost();
            let scale = errors(&error).iter().map(|e| e.square).sum::<f64>();
            prop_assert!((cost - expected).abs() < 1e-3 * (expected + scale), "{cost} for {expected}");

            // The rest of some noise, once what follows t and 1 is taken off.
            let n = width as f64;
            let rest: Vec<Vec<f32>> = (0..rows).map(|k| {
                let (e, t) = (noise(width, seed ^ (3 + k as u64)), row(&t, k));
                let (square, sum_t, along, sum_e) = (dot(&t, &t), sum(&t), dot(&e, &t), sum(&e));
                let determinant = square * n - sum_t * sum_t;
                let (x, y) = ((along * n - sum_e * sum_t) / determinant, (sum_e * square - along * sum_t) / determinant);
                e.iter().zip(&t).map(|(e, t)| (f64::from(*e) - x * f64::from(*t) - y) as f32).collect()
            }).collect();
            let cost = projections.split(&of, &errors(&rest), &sums, [width; 2], &vec![2.0; rows]).cost();
            let expected: f64 = rest.iter().map(|e| 2.0 * dot(e, e)).sum();
            prop_assert!((cost - expected).abs() < 1e-3 * (expected + 1e-3), "{cost} for {expected}");
        }
    }

    /// A wide row of which every fourth coefficient is seen has about the cost that all of them say; a row that is not wide, exactly. So has one with a large coefficient that
    /// is not among these: a step that clips it alone, at a high depth, errs many times more than one that does not.
    #[test]
    fn wide_rows_are_seen_in_part() {
        // Steps that neither clip nearly all nor lose it; and steps on both sides of clipping one of 4 at 8 bits.
        for (width, within, outlier, depth, sizes) in
            [(SEEN, 1e-3, None, 3, 0.15..0.4), (4 * SEEN, 0.1, None, 3, 0.15..0.4), (4 * SEEN, 0.1, Some(4.0), 8, 0.02..0.05)]
        {
            let steps = (0..=255).map(Step).filter(|s| sizes.contains(&s.size()));
            assert!(steps.clone().count() > 5);
            let (mut t, rows, samples) = (noise(3 * width, 5), 3, 2);
            // In the row that costs most.
            t[width + 1] = outlier.unwrap_or(t[width + 1]);
            let row = |k: usize| &t[k * width..(k + 1) * width];
            let projections = Projections { along: noise(samples * rows, 6), shift: noise(samples * rows, 7), samples, unit: 0.5 };
            let (of, costs) = (vec![0, 1, 2], vec![1.0, 2.0, 0.5]);
            let quantized = Quantized { coefficients: &t, width, costs: &costs, scale: &|_| 1.0 };
            for (step, split) in projections.quantized(&of, quantized, depth, steps.clone()) {
                let error = |k: usize| -> Vec<f32> {
                    row(k).iter().map(|&v| quantize::index(v, 1.0 / step.size(), depth) as f32 * step.size() - v).collect()
                };
                let sum = |v: &[f32]| v.iter().map(|&v| f64::from(v)).sum::<f64>();
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let of_row = |k: usize| (error(k), row(k));
                let errors =
                    of.iter().map(|&k| of_row(k)).map(|(e, t)| RowError { square: dot(&e, &e), along: dot(&e, t), shift: sum(&e) });
                let sums: Vec<(f64, f64)> = of.iter().map(|&k| (dot(row(k), row(k)), sum(row(k)))).collect();
                let whole = projections.split(&of, &errors.collect::<Vec<_>>(), &sums, [width; 2], &costs);
                let ratio = split.rest / whole.rest;
                assert!((ratio - 1.0).abs() < within, "{width}, {step:?}: {} for {}", split.rest, whole.rest);
            }
        }
    }
}
