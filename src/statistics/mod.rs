//! What calibration data say of a layer's weights (method.md, sections 1, 3 and 4): second moments of the output's derivatives, the
//! sampled derivatives themselves, and the first two moments of what goes into the layer and comes out.
//!
//! A sample `G_s` is the derivative of `Σ_b v_bᵗ y_b / √batch` by the layer's weights, with independent random signs `v_b` for every
//! image. `E[v vᵗ] = I` is all that the identity `E_v[g gᵗ] = Σ_i ∂y_i ∂y_iᵗ` asks for (Young et al. 2021, Section 4.2, with the
//! expectation taken by sampling instead of one backward pass per output). Signs do it with less variance than normal deviates, and
//! are the same on every machine.
//!
//! Then an error `E` of the weights causes the output distortion `D(E) = mean_s ⟨G_s, E⟩²` to second order.

use std::{ops::Range, sync::Arc};

use half::bf16;
use nalgebra::DMatrix;

use crate::{
    io::{LayerShape, tensor::swap_channels},
    nn::kernel::{self, Matrix},
    quantize::search::square_sum,
    transform::linalg,
};

/// Most channels for which a whole second moment is kept; beyond, its diagonal only.
pub const MOST_CHANNELS: usize = 2048;

/// A second moment across channels: `n×n`, symmetric, positive semidefinite; of wide layers the diagonal alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Moment {
    /// All of it.
    Full(DMatrix<f64>),
    /// Its diagonal.
    Diagonal(Vec<f64>),
}

impl Moment {
    /// Zero.
    pub fn zeros(n: usize) -> Moment {
        if n <= MOST_CHANNELS { Moment::Full(DMatrix::zeros(n, n)) } else { Moment::Diagonal(vec![0.0; n]) }
    }

    /// Adds `X·Xᵗ` for an `n×width` matrix.
    pub fn add(&mut self, x: &[f32], width: usize) {
        match self {
            Moment::Full(sum) => *sum += linalg::gram(x, sum.nrows(), width),
            Moment::Diagonal(sum) => {
                for (sum, row) in sum.iter_mut().zip(x.chunks(width.max(1))) {
                    *sum += square_sum(row);
                }
            }
        }
    }

    /// Sum of squares off the diagonal.
    fn off_diagonal(&self) -> f64 {
        self.full().map_or(0.0, |m| m.norm_squared() - m.diagonal().norm_squared()).max(0.0)
    }

    /// Makes correlations smaller by as much as sampling is likely to have made them larger (Schäfer, Strimmer 2005, "A shrinkage approach to
    /// large-scale covariance matrix estimation", target D): a mean of few samples has directions that no sample happened to see, and an ELT would leave just
    /// these without bits. `squares` is the mean over `samples` of what [`Moment::off_diagonal`] is of each.
    fn shrink(&mut self, squares: f64, samples: usize) {
        let known = self.off_diagonal();
        let Moment::Full(m) = self else { return };
        // Variances of the means of the elements, summed. One sample says nothing of them.
        let variance = if samples < 2 { f64::INFINITY } else { (squares - known).max(0.0) / (samples - 1) as f64 };
        let keep = if known > 0.0 { (1.0 - variance / known).max(0.0) } else { 1.0 };
        let diagonal = m.diagonal();
        *m *= keep;
        m.set_diagonal(&diagonal);
    }

    fn merge(&mut self, other: &Moment) {
        match (self, other) {
            (Moment::Full(a), Moment::Full(b)) => *a += b,
            (Moment::Diagonal(a), Moment::Diagonal(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
            _ => unreachable!("moments of one layer have one form"),
        }
    }

    fn scale(&mut self, factor: f64) {
        match self {
            Moment::Full(m) => *m *= factor,
            Moment::Diagonal(d) => d.iter_mut().for_each(|v| *v *= factor),
        }
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        match self {
            Moment::Full(m) => m.nrows(),
            Moment::Diagonal(d) => d.len(),
        }
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element of the diagonal.
    pub fn at(&self, i: usize) -> f64 {
        match self {
            Moment::Full(m) => m[(i, i)],
            Moment::Diagonal(d) => d[i],
        }
    }

    /// Sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.len()).map(|i| self.at(i)).sum()
    }

    /// All of it, if it is there.
    pub fn full(&self) -> Option<&DMatrix<f64>> {
        if let Moment::Full(m) = self { Some(m) } else { None }
    }
}

/// Sampled second moments of one layer. All of them are means over samples, and sums over everything else; those of gradients with their
/// correlations made smaller by what sampling leaves unknown of them (Schäfer, Strimmer 2005).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerStatistics {
    /// The layer.
    pub shape: LayerShape,
    /// Samples taken.
    pub samples: usize,
    /// Per group `C_γγ` across output channels, `n×n`: `mean_s G_s G_sᵗ`.
    pub outputs: Vec<Moment>,
    /// Per group `C_γγ` across input channels, `m×m`.
    pub inputs: Vec<Moment>,
    /// `C_γγ` across kernel taps, `K×K`, over all groups.
    pub taps: Moment,
    /// Per group the second moment of the layer's input across channels, a mean over positions; empty where its channels are not known.
    pub input_moments: Vec<Moment>,
    /// Mean and standard deviation of each output channel, before biases and activations that are operators of their own; empty where
    /// its channels are not known.
    pub pre_activations: Vec<(f64, f64)>,
    /// Mean of `‖G_s‖²`, and of its square: how surely the mean is known.
    energy: (f64, f64),
    /// The samples, one after the other in canonical order; none when they were not to be kept.
    gradients: Arc<Vec<bf16>>,
}

/// What one sample adds to the statistics of one layer.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The derivative in canonical order; empty where the layer took no part.
    pub gradient: Vec<f32>,
    /// Sum over positions of the second moment of its input, per group, and how many positions these were.
    pub input: Option<(Vec<Moment>, f64)>,
    /// Per output channel the sum of values and of squares, and how many these were.
    pub output: Option<(Vec<(f64, f64)>, f64)>,
}

/// Sums samples.
#[derive(Debug, Clone)]
pub struct Accumulator {
    statistics: LayerStatistics,
    keep: bool,
    positions: f64,
    values: f64,
    /// Sums of [`Moment::off_diagonal`] of the samples' moments: outputs, inputs, taps.
    squares: Vec<f64>,
}

/// Second moments of one sample, computed by the task that took it, so that summing is all that is left to do in order.
#[derive(Debug, Clone)]
pub struct Moments {
    outputs: Vec<Moment>,
    inputs: Vec<Moment>,
    taps: Moment,
    /// [`Moment::off_diagonal`] of each of these.
    squares: Vec<f64>,
    energy: f64,
    sample: Sample,
}

impl Moments {
    /// Squares a sample.
    pub fn new(shape: &LayerShape, sample: Sample) -> Moments {
        let LayerShape { groups, outputs: n, inputs: m, taps: k, .. } = *shape;
        let moments = |count: usize| (0..groups).map(|_| Moment::zeros(count)).collect::<Vec<_>>();
        let mut out = Moments { outputs: moments(n), inputs: moments(m), taps: Moment::zeros(k), squares: Vec::new(), energy: 0.0, sample };
        let g = &out.sample.gradient;
        if g.is_empty() {
            return out;
        }
        out.energy = square_sum(g);
        let size = n * m * k;
        let by_inputs = swap_channels(g, n, m, k);
        for group in 0..groups {
            let at = group * size..(group + 1) * size;
            out.outputs[group].add(&g[at.clone()], m * k);
            out.inputs[group].add(&by_inputs[at], n * k);
        }
        if k > 1 {
            out.taps.add(&crate::io::tensor::transpose(g, groups * n * m, k), groups * n * m);
        }
        out.squares = out.outputs.iter().chain(&out.inputs).chain([&out.taps]).map(Moment::off_diagonal).collect();
        out
    }
}

impl Accumulator {
    /// Nothing yet; `keep`: keeps the samples themselves.
    pub fn new(shape: LayerShape, keep: bool) -> Accumulator {
        let empty = Moments::new(&shape, Sample { gradient: Vec::new(), input: None, output: None });
        let statistics = LayerStatistics {
            shape,
            samples: 0,
            outputs: empty.outputs,
            inputs: empty.inputs,
            taps: empty.taps,
            input_moments: Vec::new(),
            pre_activations: Vec::new(),
            energy: (0.0, 0.0),
            gradients: Arc::default(),
        };
        let squares = vec![0.0; 2 * shape.groups + 1];
        Accumulator { statistics, keep, positions: 0.0, values: 0.0, squares }
    }

    /// Adds a sample. The order of samples is the order of sums: keep to it.
    pub fn add(&mut self, moments: Moments) {
        self.squares.iter_mut().zip(&moments.squares).for_each(|(sum, square)| *sum += square);
        let s = &mut self.statistics;
        s.samples += 1;
        s.energy.0 += moments.energy;
        s.energy.1 += moments.energy * moments.energy;
        let merge = |a: &mut [Moment], b: &[Moment]| a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b));
        merge(&mut s.outputs, &moments.outputs);
        merge(&mut s.inputs, &moments.inputs);
        s.taps.merge(&moments.taps);
        let Sample { gradient, input, output } = moments.sample;
        if self.keep {
            // Shared only with statistics that were asked for in between.
            let kept = Arc::make_mut(&mut s.gradients);
            match gradient.is_empty() {
                true => kept.extend(std::iter::repeat_n(bf16::ZERO, s.shape.weights())),
                false => kept.extend(gradient.iter().map(|&g| bf16::from_f32(g))),
            }
        }
        if let Some((moments, count)) = input {
            if s.input_moments.is_empty() {
                s.input_moments = moments;
            } else {
                merge(&mut s.input_moments, &moments);
            }
            self.positions += count;
        }
        if let Some((sums, count)) = output {
            s.pre_activations.resize(sums.len(), (0.0, 0.0));
            s.pre_activations.iter_mut().zip(sums).for_each(|(a, b)| *a = (a.0 + b.0, a.1 + b.1));
            self.values += count;
        }
    }

    /// The statistics so far.
    pub fn finish(&self) -> LayerStatistics {
        let mut s = self.statistics.clone();
        let per_sample = 1.0 / s.samples.max(1) as f64;
        s.energy = (s.energy.0 * per_sample, s.energy.1 * per_sample);
        for (m, squares) in s.outputs.iter_mut().chain(&mut s.inputs).chain([&mut s.taps]).zip(&self.squares) {
            m.scale(per_sample);
            m.shrink(squares * per_sample, s.samples);
        }
        s.input_moments.iter_mut().for_each(|m| m.scale(1.0 / self.positions.max(1.0)));
        let values = self.values.max(1.0);
        s.pre_activations.iter_mut().for_each(|p| {
            let mean = p.0 / values;
            *p = (mean, (p.1 / values - mean * mean).max(0.0).sqrt());
        });
        s
    }
}

/// Most multiplications of a second moment across columns: of 4608, as the widest that have one together, four rows of gradients for each. With two for each a ResNet-18
/// of 4 bits errs 0.34 dB more than with three and a half.
const MOST_PRODUCTS: f64 = 2e11;

/// So many of `all` indices at most, each once and all over the place: in their order where they are all, else in steps of the golden ratio.
fn some_of(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let coprime = |step: &usize| {
        let (mut a, mut b) = (all, *step);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let step = if most < all { ((all as f64 * 0.618_034) as usize..).find(coprime).unwrap_or(1) } else { 1 };
    (0..all.min(most)).map(move |i| (i as u128 * step as u128 % all.max(1) as u128) as usize)
}

impl LayerStatistics {
    /// Whether the layer's weights reach the output at all.
    pub fn reaches_output(&self) -> bool {
        self.energy.0 > 0.0
    }

    /// Relative standard error of the mean of `‖G_s‖²`: what sampling leaves unknown of the layer's sensitivity. Infinite for one sample.
    pub fn sampling_error(&self) -> f64 {
        let (mean, square) = self.energy;
        if mean <= 0.0 {
            return 0.0;
        }
        let n = self.samples as f64;
        if n < 2.0 { f64::INFINITY } else { ((square / (mean * mean) - 1.0).max(0.0) / (n - 1.0)).sqrt() }
    }

    /// How many samples are kept.
    pub fn kept(&self) -> usize {
        self.gradients.len() / self.shape.weights().max(1)
    }

    /// A kept sample, in canonical order.
    pub fn gradient(&self, sample: usize) -> Vec<f32> {
        let n = self.shape.weights();
        self.gradients[sample * n..(sample + 1) * n].iter().map(float).collect()
    }

    /// The second moment of the kept samples of a group across some columns of its matrix of weights (input channels and taps), `n×n` row-major: `mean_s
    /// G_sᵗ G_s`, over the rows; and of how many rows of gradients it was found, all or, of a very wide group, as many as take so many multiplications. Nothing where no samples
    /// are kept.
    pub fn columns(&self, group: usize, columns: Range<usize>) -> Option<(Vec<f32>, usize)> {
        let all = self.kept() * self.shape.outputs;
        let most = (2.0 * MOST_PRODUCTS / (columns.len().max(1) as f64).powi(2)) as usize;
        let rows: Vec<usize> = some_of(all, most).collect();
        (all > 0).then(|| (self.columns_of(group, columns, &rows), rows.len()))
    }

    /// The same of some rows of gradients, those of one sample after those of another.
    fn columns_of(&self, group: usize, columns: Range<usize>, rows: &[usize]) -> Vec<f32> {
        // Rows of samples that are multiplied at a time, and of the moment.
        const DEEP: usize = 512;
        const TALL: usize = 128;
        let LayerStatistics { shape: LayerShape { outputs, inputs, taps, .. }, .. } = *self;
        let (width, n) = (inputs * taps, columns.len());
        let mut sum = vec![0f32; n * n];
        let mut panel = Vec::with_capacity(DEEP.min(rows.len()) * n);
        for rows in rows.chunks(DEEP) {
            panel.clear();
            for row in rows {
                let at = row / outputs * self.shape.weights() + (group * outputs + row % outputs) * width;
                panel.extend(self.gradients[at + columns.start..at + columns.end].iter().map(float));
            }
            let panel = Matrix::rows(&panel, n);
            // On and below the diagonal.
            for top in (0..n).step_by(TALL) {
                let end = (top + TALL).min(n);
                let left = Matrix { data: &panel.data[top..], ..panel.t() };
                kernel::product(end - top, rows.len(), end, left, panel, &mut sum[top * n..], n, true);
            }
        }
        let scale = outputs as f32 / rows.len() as f32;
        for i in 0..n {
            for j in 0..=i {
                let v = sum[i * n + j] * scale;
                (sum[i * n + j], sum[j * n + i]) = (v, v);
            }
        }
        sum
    }

    /// The output distortion of a weight error in canonical order by the diagonal of `C_γγ` across output channels: as if errors were
    /// not correlated with each other.
    pub fn diagonal_distortion(&self, error: &[f32]) -> f64 {
        let width = (self.shape.inputs * self.shape.taps).max(1);
        let rows = error.chunks(width).zip(self.outputs.iter().flat_map(|m| (0..m.len()).map(|i| m.at(i))));
        rows.map(|(row, g)| g / width as f64 * square_sum(row)).sum()
    }

    /// The output distortion of a weight error in canonical order: `mean_s ⟨G_s, E⟩²`, the full second-order form; the diagonal form where
    /// samples were not kept.
    pub fn distortion(&self, error: &[f32]) -> f64 {
        let n = self.shape.weights();
        assert_eq!(error.len(), n, "an error has the shape of the layer");
        if self.kept() == 0 {
            return self.diagonal_distortion(error);
        }
        let mut sum = 0.0;
        for gradient in self.gradients.chunks(n.max(1)) {
            // In parts, so that rounding does not grow with the layer.
            let mut floats = [0f32; 256];
            let mut part = |(g, e): (&[bf16], &[f32])| {
                floats.iter_mut().zip(g).for_each(|(to, g)| *to = float(g));
                f64::from(kernel::dots(e, [&floats])[0])
            };
            let product: f64 = gradient.chunks(256).zip(error.chunks(256)).map(&mut part).sum();
            sum += product * product;
        }
        sum / self.kept() as f64
    }
}

/// A kept number: the upper half of a float's bits. The crate's own conversion looks for what is not a number, one by one, to make it quiet.
fn float(kept: &bf16) -> f32 {
    f32::from_bits(u32::from(kept.to_bits()) << 16)
}

/// `count` random signs, from a seed, the index of the image and that of the draw: the same on every machine (splitmix64).
pub fn signs(seed: u64, image: u64, draw: u64, count: usize) -> impl Iterator<Item = f32> {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let stream = mix(mix(mix(seed.wrapping_add(GOLDEN)) ^ image.wrapping_mul(GOLDEN)) ^ draw.wrapping_mul(GOLDEN).wrapping_add(1));
    (0..count as u64).map(move |i| {
        let word = mix(stream.wrapping_add((i / 64 + 1).wrapping_mul(GOLDEN)));
        if word >> (i % 64) & 1 == 1 { 1.0 } else { -1.0 }
    })
}

#[cfg(test)]
mod tests;
