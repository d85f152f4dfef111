//! What no coder can beat: reverse water-filling on the eigenvalues of the second-order model (Cover, Thomas, Elements of Information Theory, Section 10.3.3;
//! for weights Lifar et al., WaterSIC).
//!
//! An error `e` of row `i` costs `g_i·e·H·eᵗ`, as where errors are fed back ([`super::feedback`]). Were weights Gaussian and independent, those of row `i` of variance
//! `σ_i²`, the layer would be a sum of independent parts, whose variances are `g_i σ_i²` times the eigenvalues of `H`. For a water level `θ` a part of variance `v` takes `½ log₂(v/θ)` bits and errs `θ`, or nothing and errs `v`, if
//! that is less.
//!
//! Of all weights of these variances Gaussian ones need most bits. True ones are peaked and have structure, so a good coder may come below the line a little; at low rates it
//! stays above by more, as true weights lie along what `H` is sensitive to more than independent ones would.

use std::ops::Range;

use nalgebra::DMatrix;

use super::feedback::Feedback;
use crate::{
    io::LayerShape,
    nn::kernel::{self, Matrix},
    quantize::search::square_sum,
    statistics::signs,
};

/// An eigenvalue, and how many there are like it.
pub type Eigenvalue = (f64, f64);

/// Largest matrix whose eigenvalues are computed one by one.
const EXACT: usize = 600;
/// Random vectors that larger ones are seen by, and products with each.
const PROBES: usize = 4;
const PRODUCTS: usize = 40;

/// Parts of an octave that variances are counted by.
const FINE: f64 = 16.0;
/// Parts this many octaves below the greatest take no bits that anyone would pay for.
const DEEP: f64 = 80.0;

/// The parts of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Logarithms to base two of the variances of parts, in what distortions are in; falling.
    logs: Vec<f64>,
    /// Of the first parts, from none to all: how many there are, and the sum of their logarithms.
    first: Vec<(f64, f64)>,
    /// What the others err without bits.
    rest: Vec<f64>,
}

impl Limit {
    /// The parts of a layer from its weights, normalised, in canonical order. Nothing where it does not reach the output.
    pub fn new(shape: &LayerShape, feedback: &Feedback, weights: &[f32]) -> Option<Limit> {
        let width = shape.inputs * shape.taps;
        let mut logs = Vec::new();
        for (row, (weights, g)) in weights.chunks(width.max(1)).zip(&feedback.rows).enumerate() {
            let columns = &feedback.spectra[row / shape.outputs.max(1)];
            let row = g * square_sum(weights) / width as f64;
            logs.extend(columns.iter().filter(|c| row * c.0 > 0.0).map(|&(column, count)| ((row * column).log2(), count)));
        }
        let greatest = logs.iter().map(|l| l.0).fold(f64::NEG_INFINITY, f64::max);
        if !greatest.is_finite() {
            return None;
        }
        let mut bins = vec![(0.0, 0.0); (DEEP * FINE) as usize];
        for (log, count) in logs {
            if let Some(bin) = bins.get_mut(((greatest - log) * FINE) as usize) {
                *bin = (bin.0 + count * log, bin.1 + count);
            }
        }
        Some(Limit::of(bins.into_iter().filter(|b| b.1 > 0.0).map(|(sum, count)| (sum / count, count))))
    }

    /// From logarithms of variances, falling, and how many parts have each.
    fn of(parts: impl DoubleEndedIterator<Item = (f64, f64)> + Clone) -> Limit {
        let add = |sum: &mut (f64, f64), (log, count): (f64, f64)| {
            *sum = (sum.0 + count, sum.1 + count * log);
            Some(*sum)
        };
        let first = std::iter::once((0.0, 0.0)).chain(parts.clone().scan((0.0, 0.0), add)).collect();
        let mut rest: Vec<f64> = std::iter::once(0.0)
            .chain(parts.clone().rev().scan(0.0, |sum, (log, count)| {
                *sum += count * log.exp2();
                Some(*sum)
            }))
            .collect();
        rest.reverse();
        Limit { logs: parts.map(|p| p.0).collect(), first, rest }
    }

    /// Bits and distortion at a water level, which is given by its logarithm to base two.
    fn at(&self, level: f64) -> (f64, f64) {
        let above = self.logs.partition_point(|log| *log > level);
        let (count, logs) = self.first[above];
        (0.5 * (logs - count * level), count * level.exp2() + self.rest[above])
    }
}

/// Water levels of interest, as logarithms to base two: from where no part takes bits to 10 bits per part and more.
pub fn levels(limits: &[&Limit]) -> Range<f64> {
    let greatest = limits.iter().flat_map(|l| l.logs.first()).copied().fold(f64::NEG_INFINITY, f64::max);
    let least = limits.iter().flat_map(|l| l.logs.last()).copied().fold(f64::INFINITY, f64::min);
    least - 24.0..greatest
}

/// Bits and distortion of layers together at one water level.
pub fn at(limits: &[&Limit], level: f64) -> (f64, f64) {
    limits.iter().map(|l| l.at(level)).fold((0.0, 0.0), |sum, l| (sum.0 + l.0, sum.1 + l.1))
}

/// Fewest bits at which layers together err no more than this.
pub fn bits(limits: &[&Limit], distortion: f64) -> f64 {
    let Range { start: mut low, end: mut high } = levels(limits);
    if !(low.is_finite() && high.is_finite()) {
        return 0.0;
    }
    // Forty halvings of some hundred octaves.
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if at(limits, middle).1 > distortion {
            high = middle;
        } else {
            low = middle;
        }
    }
    at(limits, low).0
}

/// The eigenvalues of a symmetric, positive definite `n×n` matrix: all of them, or of a large one about how they are distributed, by stochastic Lanczos
/// quadrature (Golub, Meurant, Matrices, Moments and Quadrature, 2010; Ubaru, Chen, Saad 2017).
pub fn spectrum(h: &[f32], n: usize) -> Vec<Eigenvalue> {
    if n <= EXACT {
        let h = DMatrix::from_fn(n, n, |i, j| f64::from(h[i * n + j]));
        return h.symmetric_eigenvalues().iter().map(|&v| (v, 1.0)).collect();
    }
    lanczos(h, n)
}

/// What products with a matrix have shown of it, from one vector on.
struct Probe {
    /// Orthonormal.
    vectors: Vec<Vec<f32>>,
    /// The tridiagonal matrix that the other becomes among these: its diagonal, and what is beside it.
    diagonal: Vec<f64>,
    beside: Vec<f64>,
}

impl Probe {
    /// Takes the product with the last vector.
    fn take(&mut self, mut w: Vec<f32>) {
        self.diagonal.push(self.vectors.last().map_or(0.0, |last| dot(&w, last)));
        // Twice is enough.
        for _ in 0..2 {
            for v in &self.vectors {
                let along = dot(&w, v) as f32;
                w.iter_mut().zip(v).for_each(|(w, v)| *w -= along * v);
            }
        }
        let norm = dot(&w, &w).sqrt();
        if norm > 1e-4 * self.diagonal[0].abs() {
            self.beside.push(norm);
            w.iter_mut().for_each(|w| *w /= norm as f32);
            self.vectors.push(w);
        }
    }

    /// Eigenvalues of the tridiagonal matrix, and which part of all each stands for.
    fn nodes(&self) -> Vec<(f64, f64)> {
        let m = self.diagonal.len();
        let matrix = DMatrix::from_fn(m, m, |i, j| match i.abs_diff(j) {
            0 => self.diagonal[i],
            1 => self.beside[i.min(j)],
            _ => 0.0,
        });
        let found = matrix.symmetric_eigen();
        found.eigenvalues.iter().enumerate().map(|(k, &value)| (value, found.eigenvectors[(0, k)].powi(2))).collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.chunks(256).zip(b.chunks(256)).map(|(a, b)| f64::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>())).sum()
}

fn lanczos(h: &[f32], n: usize) -> Vec<Eigenvalue> {
    let unit = 1.0 / (n as f32).sqrt();
    let start = |probe: usize| signs(1, probe as u64, 0, n).map(|s| s * unit).collect();
    let mut probes: Vec<Probe> =
        (0..PROBES).map(|probe| Probe { vectors: vec![start(probe)], diagonal: Vec::new(), beside: Vec::new() }).collect();
    for step in 0..PRODUCTS.min(n) {
        let last: Vec<f32> = probes.iter().flat_map(|p| p.vectors[step.min(p.vectors.len() - 1)].iter().copied()).collect();
        let mut products = vec![0f32; PROBES * n];
        kernel::product(PROBES, n, n, Matrix::rows(&last, n), Matrix::rows(h, n), &mut products, n, false);
        // A probe that has seen all there is stays as it is.
        for (probe, product) in probes.iter_mut().zip(products.chunks(n)).filter(|(probe, _)| probe.vectors.len() > step) {
            probe.take(product.to_vec());
        }
    }
    let count = n as f64 / PROBES as f64;
    probes.iter().flat_map(Probe::nodes).map(|(value, part)| (value, part * count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    fn limit(parts: &[(f64, f64)]) -> Limit {
        Limit::of(parts.iter().copied())
    }

    /// White Gaussian noise of variance one quarter: a bit is 6 dB, and what no bits are spent on errs its variance.
    #[test]
    fn a_bit_is_a_quarter_of_the_distortion() {
        let white = limit(&[(-2.0, 10.0)]);
        assert!(bits(&[&white], 2.5) < 1e-6);
        assert!((bits(&[&white], 2.5 / 16.0) - 20.0).abs() < 1e-6);
        assert!((bits(&[&white], 2.5 / 2.0) - 5.0).abs() < 1e-6);
        assert_eq!(bits(&[], 0.5), 0.0);
    }

    /// One water level over two layers: the weaker gets bits only once the level is below it.
    #[test]
    fn one_level_for_all() {
        let (strong, weak) = (limit(&[(4.0, 1.0)]), limit(&[(0.0, 3.0)]));
        // At level 2 the strong one errs 2 with 1.5 bits, and the weak ones 1 each.
        assert!((bits(&[&strong, &weak], 5.0) - 1.5).abs() < 1e-6);
        // At level 1/4.
        assert!((bits(&[&strong, &weak], 1.0) - (3.0 + 3.0)).abs() < 1e-6);
    }

    proptest! {
        /// Bits fall as distortion rises, along a convex line, and no other split of the distortion among layers does with fewer.
        #[test]
        fn water_filling_is_the_best_split(
            logs in prop::collection::vec((-20f64..10.0, 1f64..50.0), 2..6), part in 0.01f64..0.99, share in 0.01f64..0.99,
        ) {
            let limits: Vec<Limit> = logs.iter().map(|&p| limit(&[p])).collect();
            let all: Vec<&Limit> = limits.iter().collect();
            let most: f64 = logs.iter().map(|(log, count)| count * log.exp2()).sum();
            let distortion = part * most;
            let least = bits(&all, distortion);
            let (first, rest) = all.split_at(1);
            prop_assert!(least <= bits(first, share * distortion) + bits(rest, (1.0 - share) * distortion) + 1e-6);
            let middle = bits(&all, 0.5 * (distortion + 0.5 * distortion));
            prop_assert!(middle <= 0.5 * (least + bits(&all, 0.5 * distortion)) + 1e-6);
        }
    }

    /// Seen through a few products, a spectrum has the sums that limits are made of.
    #[test]
    fn large_spectra_have_the_same_sums() {
        let n = 300;
        let x = noise(n * 2 * n, 5);
        let mut h = vec![0f32; n * n];
        for i in 0..n {
            for j in 0..n {
                let dot: f32 = (0..2 * n).map(|k| (x[i * 2 * n + k] + x[k]) * (x[j * 2 * n + k] + x[k])).sum();
                h[i * n + j] = dot / (2 * n) as f32 + if i == j { 0.01 } else { 0.0 };
            }
        }
        let (exact, seen) = (spectrum(&h, n), lanczos(&h, n));
        let sum = |spectrum: &[Eigenvalue], f: &dyn Fn(f64) -> f64| spectrum.iter().map(|(v, count)| count * f(*v)).sum::<f64>() / n as f64;
        assert!((sum(&seen, &|_| 1.0) - 1.0).abs() < 1e-6);
        assert!((sum(&exact, &|v| 0.5 * v.log2()) - sum(&seen, &|v| 0.5 * v.log2())).abs() < 0.02);
        for level in [0.05f64, 0.3, 1.0] {
            let (a, b) = (sum(&exact, &|v| v.min(level)), sum(&seen, &|v| v.min(level)));
            assert!((a / b - 1.0).abs() < 0.05, "{level}: {a} {b}");
        }
        // The identity has one eigenvalue, which one product shows.
        let identity: Vec<f32> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
        assert!(lanczos(&identity, n).iter().all(|(v, count)| (v - 1.0).abs() < 1e-5 || *count < 1e-6));
    }
}
