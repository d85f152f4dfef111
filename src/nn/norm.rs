//! Normalizations.
//!
//! Statistics of LayerNorm and InstanceNorm take two passes over a row and are summed in f64: a mean that is large beside the deviation
//! costs no digits.

use super::binary::{arity, broadcasts_to, reduce_to, sum, sum2, update};
use super::{Needs, Operator, Tape, Tensor, Value};

/// BatchNormalization with its stored statistics: inputs `x`, scale, bias, mean, variance (one value a channel). The statistics are
/// constants: there is no derivative by them.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

impl BatchNorm {
    /// `1/√(variance + epsilon)` of every channel.
    fn factors(&self, variance: &Tensor) -> Vec<f32> {
        variance.data.iter().map(|v| inverse_deviation(f64::from(*v), self.epsilon) as f32).collect()
    }
}

/// As tensors that are broadcast to `x`: one value a channel.
fn channels(x: &[usize], values: Vec<f32>) -> Tensor {
    let mut shape = vec![1; x.len() - 1];
    shape[0] = x[1];
    Tensor::new(shape, values)
}

/// Checks that inputs from the second on have one value a channel.
fn one_a_channel(inputs: &[&[usize]], names: &[&str]) -> Result<(), String> {
    if inputs[0].len() < 2 {
        return Err(format!("its input of shape {:?} has no axis of channels", inputs[0]));
    }
    for (shape, name) in inputs[1..].iter().zip(names) {
        if **shape != [inputs[0][1]] {
            return Err(format!("its {name} of shape {shape:?} has not one value for each of {} channels", inputs[0][1]));
        }
    }
    Ok(())
}

impl Operator for BatchNorm {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 5..=5)?;
        one_a_channel(inputs, &["scale", "bias", "mean", "variance"])?;
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let mut x = inputs.remove(0).into_owned();
        let [scale, bias, mean] = [0, 1, 2].map(|i| &inputs[i].data);
        let factors: Vec<f32> = self.factors(&inputs[3]).iter().zip(scale).map(|(f, s)| f * s).collect();
        let channels = x.shape[1];
        let area: usize = x.shape[2..].iter().product();
        if area == 1 && channels > 0 {
            for row in x.data.chunks_exact_mut(channels) {
                for (((x, f), m), b) in row.iter_mut().zip(&factors).zip(mean).zip(bias) {
                    *x = (*x - m) * f + b;
                }
            }
        } else if area > 0 {
            for (row, c) in x.data.chunks_exact_mut(area).zip((0..channels).cycle()) {
                let (f, m, b) = (factors[c], mean[c], bias[c]);
                row.iter_mut().for_each(|x| *x = (*x - m) * f + b);
            }
        }
        vec![x]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[1], wanted[0], false, wanted[1], wanted[0] || wanted[1]], outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangents[0].take() else { return vec![None; 5] };
        let shape = tape.input_shapes[0];
        let per_channel = [shape[1]];
        let column = channels(shape, vec![0.0; shape[1]]).shape;
        let by_scale = wanted[1].then(|| {
            let centred = update(tape.input(0).clone(), &channels(shape, tape.input(3).data.clone()), |x, mean| x - mean);
            let product = update(centred, &g, |x, g| x * g);
            let sums = reduce_to(Value::Owned(product), &column).reshaped(per_channel);
            update(sums, &Tensor::new(per_channel, self.factors(tape.input(4))), |s, f| s * f)
        });
        let by_bias = wanted[2].then(|| reduce_to(Value::Borrowed(&g), &column).reshaped(per_channel));
        let by_x = wanted[0].then(|| {
            let factors = self.factors(tape.input(4)).iter().zip(&tape.input(1).data).map(|(f, s)| f * s).collect();
            update(g, &channels(shape, factors), |g, f| g * f)
        });
        vec![by_x, by_scale, by_bias, None, None]
    }
}

/// LayerNormalization over the axes from `axis` on: inputs `x`, scale, perhaps bias (broadcast to `x`).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// First normalized axis, counted from the start.
    pub axis: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 2..=3)?;
        if self.axis > inputs[0].len() {
            return Err(format!("its axis {} is not in its input of shape {:?}", self.axis, inputs[0]));
        }
        broadcasts_to(inputs[1], inputs[0], "scale")?;
        if let Some(bias) = inputs.get(2) {
            broadcasts_to(bias, inputs[0], "bias")?;
        }
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = inputs.remove(0).into_owned();
        vec![affine(x, self.axis, self.epsilon, &inputs[0], inputs.get(1).map(|b| &**b))]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        affine_needs(wanted)
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangents[0].take() else { return vec![None; wanted.len()] };
        let scale = tape.inputs[1].cloned();
        affine_vjp(tape, g, self.axis, self.epsilon, scale, [tape.input_shapes[1], tape.input_shapes.get(2).unwrap_or(&&[][..])], wanted)
    }
}

/// InstanceNormalization over the spatial axes: inputs `x`, scale, bias (one value a channel).
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

impl Operator for InstanceNorm {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 3..=3)?;
        one_a_channel(inputs, &["scale", "bias"])?;
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = inputs.remove(0).into_owned();
        let [scale, bias] = [0, 1].map(|i| channels(&x.shape, inputs[i].data.clone()));
        vec![affine(x, 2, self.epsilon, &scale, Some(&bias))]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        affine_needs(wanted)
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangents[0].take() else { return vec![None; 3] };
        let shape = tape.input_shapes[0];
        let scale = tape.inputs[1].map(|s| channels(shape, s.data.clone()));
        let column = channels(shape, vec![0.0; shape[1]]).shape;
        let gradients = affine_vjp(tape, g, 2, self.epsilon, scale, [&column, &column], wanted);
        gradients.into_iter().zip(tape.input_shapes).map(|(g, shape)| g.map(|g| g.reshaped(*shape))).collect()
    }
}

/// Normalizes over the axes from `axis` on; then a scale and perhaps a bias, which are broadcast.
fn affine(mut x: Tensor, axis: usize, epsilon: f32, scale: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let row: usize = x.shape[axis..].iter().product();
    if row > 0 {
        x.data.chunks_exact_mut(row).for_each(|row| normalize(row, epsilon));
    }
    let x = update(x, scale, |x, s| x * s);
    match bias {
        Some(bias) => update(x, bias, |x, b| x + b),
        None => x,
    }
}

fn affine_needs(wanted: &[bool]) -> Needs {
    Needs { inputs: vec![wanted[0] || wanted[1], wanted[0]], outputs: vec![] }
}

/// The derivatives of [`affine`] by `x`, scale and, if it is an input, bias; `shapes` are those of scale and bias.
fn affine_vjp(
    tape: &Tape<'_>,
    g: Tensor,
    axis: usize,
    epsilon: f32,
    scale: Option<Tensor>,
    shapes: [&[usize]; 2],
    wanted: &[bool],
) -> Vec<Option<Tensor>> {
    let row: usize = tape.input_shapes[0][axis..].iter().product();
    let by_bias = (wanted.len() > 2).then(|| wanted[2].then(|| reduce_to(Value::Borrowed(&g), shapes[1])));
    let by_scale = wanted[1].then(|| {
        let mut x = tape.input(0).clone();
        if row > 0 {
            x.data.chunks_exact_mut(row).for_each(|row| normalize(row, epsilon));
        }
        reduce_to(Value::Owned(update(x, &g, |x, g| x * g)), shapes[0])
    });
    let by_x = wanted[0].then(|| {
        let mut g = update(g, &scale.expect("the scale is needed"), |g, s| g * s);
        if row > 0 {
            g.data.chunks_exact_mut(row).zip(tape.input(0).data.chunks_exact(row)).for_each(|(g, x)| normalize_vjp(g, x, epsilon));
        }
        g
    });
    [by_x, by_scale].into_iter().chain(by_bias).collect()
}

/// `1/√(variance + epsilon)`.
fn inverse_deviation(variance: f64, epsilon: f32) -> f64 {
    (variance + f64::from(epsilon)).sqrt().recip()
}

/// Mean, and [`inverse_deviation`].
fn statistics(x: &[f32], epsilon: f32) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = sum(x, f64::from) / n;
    let variance = sum(x, |x| (f64::from(x) - mean) * (f64::from(x) - mean)) / n;
    (mean, inverse_deviation(variance, epsilon))
}

fn normalize(x: &mut [f32], epsilon: f32) {
    let (mean, factor) = statistics(x, epsilon);
    x.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) * factor) as f32);
}

/// The derivative in place of the cotangent: `factor·(g − mean(g) − z·mean(g·z))`, where `z` is the normalized row.
fn normalize_vjp(g: &mut [f32], x: &[f32], epsilon: f32) {
    let (mean, factor) = statistics(x, epsilon);
    let n = x.len() as f64;
    let z = |x: f32| (f64::from(x) - mean) * factor;
    let constant = sum(g, f64::from) / n;
    let slope = sum2(g, x, |g, x| f64::from(g) * z(x)) / n;
    g.iter_mut().zip(x).for_each(|(g, x)| *g = (factor * (f64::from(*g) - constant - z(*x) * slope)) as f32);
}

/// Local response normalization across channels: `x·(bias + alpha/size · Σ x²)^(−beta)`. The sum is over a window of `size` channels,
/// `⌊(size − 1)/2⌋` before and `⌈(size − 1)/2⌉` after, as far as there are channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Lrn {
    /// Channels summed over.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
}

impl Lrn {
    /// Sums of terms over the window of every channel of an image; `back` turns windows round: over the channels in whose windows it is.
    fn windows(&self, terms: &[f32], area: usize, out: &mut [f32], back: bool) {
        let channels = terms.len() / area;
        let (mut before, mut after) = ((self.size - 1) / 2, self.size / 2);
        if back {
            (before, after) = (after, before);
        }
        for (c, out) in out.chunks_exact_mut(area).enumerate() {
            out.fill(0.0);
            let end = c.saturating_add(after).saturating_add(1).min(channels);
            for term in terms[c.saturating_sub(before) * area..end * area].chunks_exact(area) {
                out.iter_mut().zip(term).for_each(|(s, t)| *s += t);
            }
        }
    }

    /// `bias + alpha/size · Σ x²` of every element of an image.
    fn bases(&self, x: &[f32], area: usize, squares: &mut [f32], out: &mut [f32]) {
        squares.iter_mut().zip(x).for_each(|(s, x)| *s = x * x);
        self.windows(squares, area, out, false);
        let factor = self.alpha / self.size as f32;
        out.iter_mut().for_each(|s| *s = self.bias + factor * *s);
    }

    /// `base^(−beta)`; roots for the exponent that everyone uses.
    fn power(&self, base: f32) -> f32 {
        if self.beta == 0.75 {
            let root = base.sqrt();
            (root * root.sqrt()).recip()
        } else {
            base.powf(-self.beta)
        }
    }
}

impl Operator for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 1..=1)?;
        one_a_channel(inputs, &[])?;
        if self.size == 0 {
            return Err("its window has no channel".into());
        }
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let mut x = inputs.pop().expect("shapes() saw an input").into_owned();
        if x.is_empty() {
            return vec![x];
        }
        let area: usize = x.shape[2..].iter().product();
        let image = x.shape[1] * area;
        let (mut squares, mut bases) = (vec![0.0; image], vec![0.0; image]);
        for x in x.data.chunks_exact_mut(image) {
            self.bases(x, area, &mut squares, &mut bases);
            x.iter_mut().zip(&bases).for_each(|(x, b)| *x *= self.power(*b));
        }
        vec![x]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[0]], outputs: vec![] }
    }

    /// With bases `s`: `g·s^(−β) − 2β·alpha/size · x · Σ g·x·s^(−β−1)`, summed over the windows that an element is in.
    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(mut g) = cotangents[0].take().filter(|_| wanted[0]) else { return vec![None] };
        if g.is_empty() {
            return vec![Some(g)];
        }
        let x = tape.input(0);
        let area: usize = x.shape[2..].iter().product();
        let image = x.shape[1] * area;
        let factor = 2.0 * self.beta * self.alpha / self.size as f32;
        let (mut terms, mut bases) = (vec![0.0; image], vec![0.0; image]);
        for (g, x) in g.data.chunks_exact_mut(image).zip(x.data.chunks_exact(image)) {
            self.bases(x, area, &mut terms, &mut bases);
            for (((g, x), s), t) in g.iter_mut().zip(x).zip(&bases).zip(&mut terms) {
                *g *= self.power(*s);
                *t = *g * x / s;
            }
            self.windows(&terms, area, &mut bases, true);
            g.iter_mut().zip(x).zip(&bases).for_each(|((g, x), s)| *g -= factor * x * s);
        }
        vec![Some(g)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{any, gradients, gradients_by, positive};

    fn run(op: &dyn Operator, inputs: &[&Tensor]) -> Tensor {
        op.forward(inputs.iter().map(|t| Value::Borrowed(*t)).collect(), None).remove(0)
    }

    fn near(y: &[f32], expected: &[f32]) {
        assert_eq!(y.len(), expected.len());
        assert!(y.iter().zip(expected).all(|(y, e)| (y - e).abs() <= 2e-6 * e.abs().max(1.0)), "{y:?} is not {expected:?}");
    }

    #[test]
    fn derivatives_of_batch_norm() {
        for shape in [&[2, 3, 4, 2][..], &[5, 3], &[2, 1, 7], &[1, 3, 1, 1], &[0, 3, 2], &[2, 3, 0], &[2, 0, 3]] {
            let c = [shape[1]];
            let inputs = [any(shape, 1), any(&c, 2), any(&c, 3), any(&c, 4), positive(&c, 5)];
            gradients_by(&BatchNorm { epsilon: 1e-3 }, &inputs, &[true, true, true, false, false]);
        }
    }

    #[test]
    fn derivatives_of_layer_norm() {
        type Case<'a> = (&'a [usize], usize, &'a [usize], &'a [usize]);
        let cases: [Case; 9] = [
            (&[3, 8], 1, &[8], &[8]),
            (&[2, 3, 5], 2, &[5], &[]),
            (&[2, 3, 5], 1, &[3, 5], &[1, 5]),
            (&[2, 3, 5], 1, &[3, 1], &[2, 1, 5]),
            (&[2, 3, 5], 0, &[], &[1]),
            (&[6], 0, &[6], &[1]),
            (&[0, 4], 1, &[4], &[4]),
            (&[2, 0], 1, &[1], &[0]),
            (&[4, 1], 1, &[1], &[1]),
        ];
        for (x, axis, scale, bias) in cases {
            let op = LayerNorm { axis, epsilon: 1e-2 };
            gradients(&op, &[any(x, 1), any(scale, 2), any(bias, 3)]);
            gradients(&op, &[any(x, 4), any(scale, 5)]);
        }
        // Every element a row of its own.
        gradients(&LayerNorm { axis: 2, epsilon: 1e-2 }, &[any(&[2, 3], 1), any(&[3], 2)]);
    }

    #[test]
    fn derivatives_of_instance_norm() {
        for shape in [&[2, 3, 4, 2][..], &[1, 2, 9], &[2, 3], &[0, 3, 2], &[2, 3, 0]] {
            gradients(&InstanceNorm { epsilon: 1e-2 }, &[any(shape, 1), any(&[shape[1]], 2), any(&[shape[1]], 3)]);
        }
    }

    #[test]
    fn derivatives_of_lrn() {
        for size in [1, 2, 3, 4, 5, 9, usize::MAX] {
            for beta in [0.75, 0.6] {
                for shape in [&[2, 6, 3][..], &[1, 7], &[1, 1, 2, 2], &[0, 3, 2], &[2, 3, 0]] {
                    gradients(&Lrn { size, alpha: 1.5 * size as f32, beta, bias: 2.0 }, &[any(shape, 1)]);
                }
            }
        }
    }

    #[test]
    fn known_batch_norm() {
        let t = |v: [f32; 2]| Tensor::new([2], v.to_vec());
        let parameters = [t([3.0, -1.0]), t([0.5, 0.0]), t([1.0, 2.0]), t([3.0, 0.0])];
        for shape in [vec![1, 2, 2], vec![1, 2, 1, 2]] {
            let x = Tensor::new(shape, vec![1.0, 5.0, 2.0, 4.0]);
            let [s, b, m, v] = &parameters;
            near(&run(&BatchNorm { epsilon: 1.0 }, &[&x, s, b, m, v]).data, &[0.5, 6.5, 0.0, -2.0]);
        }
        let x = Tensor::new([2, 2], vec![1.0, 2.0, 5.0, 4.0]);
        let [s, b, m, v] = &parameters;
        near(&run(&BatchNorm { epsilon: 1.0 }, &[&x, s, b, m, v]).data, &[0.5, 0.0, 6.5, -2.0]);
    }

    #[test]
    fn known_layer_and_instance_norm() {
        // Mean 4, variance 8 (+ 1): thirds.
        let row = [0.0, 4.0, 4.0, 8.0];
        let x = Tensor::new([1, 2, 4], row.iter().chain(&row.map(|x| -x)).copied().collect());
        let third = 4.0 / 3.0;
        let scale = Tensor::new([4], vec![3.0, 1.0, 1.0, 1.5]);
        let bias = Tensor::new([4], vec![0.0, 1.0, 2.0, 3.0]);
        let y = run(&LayerNorm { axis: 2, epsilon: 1.0 }, &[&x, &scale, &bias]);
        near(&y.data, &[-4.0, 1.0, 2.0, 5.0, 4.0, 1.0, 2.0, 1.0]);
        let [scale, bias] = [vec![3.0, 1.0], vec![1.0, 0.0]].map(|v| Tensor::new([2], v));
        let y = run(&InstanceNorm { epsilon: 1.0 }, &[&x, &scale, &bias]);
        near(&y.data, &[-3.0, 1.0, 1.0, 5.0, third, 0.0, 0.0, -third]);
    }

    /// A mean ten thousand times the deviation costs no more digits than the f32 input has lost already; what is constant becomes 0.
    #[test]
    fn large_means_cost_nothing() {
        let x = Tensor::new([1000], (0..1000).map(|i| 10_000.0 + if i % 2 == 0 { 1.0 } else { -1.0 }).collect());
        let one = Tensor::new([1], vec![1.0]);
        let y = run(&LayerNorm { axis: 0, epsilon: 0.0 }, &[&x, &one]);
        assert!(y.data.chunks(2).all(|y| y == [1.0, -1.0]));
        let y = run(&LayerNorm { axis: 0, epsilon: 1e-5 }, &[&Tensor::new([3], vec![0.1; 3]), &one]);
        assert_eq!(y.data, [0.0; 3]);
    }

    /// Window of 2: this channel and the next.
    #[test]
    fn known_lrn() {
        let x = Tensor::new([1, 3, 1], vec![1.0, 2.0, 4.0]);
        let y = run(&Lrn { size: 2, alpha: 2.0, beta: 1.0, bias: 1.0 }, &[&x]);
        near(&y.data, &[1.0 / 6.0, 2.0 / 21.0, 4.0 / 17.0]);
        let y = run(&Lrn { size: 3, alpha: 3.0, beta: 0.75, bias: 0.0 }, &[&x]);
        near(&y.data, &[5f32.powf(-0.75), 2.0 * 21f32.powf(-0.75), 4.0 * 20f32.powf(-0.75)]);
    }

    #[test]
    fn impossible_shapes_are_told() {
        let c: &[usize] = &[3];
        let e = BatchNorm { epsilon: 0.0 }.shapes(&[&[2, 3, 4], c, &[4], c, c]).unwrap_err();
        assert_eq!(e, "its bias of shape [4] has not one value for each of 3 channels");
        let e = InstanceNorm { epsilon: 0.0 }.shapes(&[&[3], c, c]).unwrap_err();
        assert_eq!(e, "its input of shape [3] has no axis of channels");
        let e = LayerNorm { axis: 1, epsilon: 0.0 }.shapes(&[&[2, 3], &[2]]).unwrap_err();
        assert_eq!(e, "its scale of shape [2] cannot be broadcast to [2, 3]");
        assert!(LayerNorm { axis: 3, epsilon: 0.0 }.shapes(&[&[2, 3], &[3]]).is_err());
        assert!(Lrn { size: 0, alpha: 1.0, beta: 1.0, bias: 1.0 }.shapes(&[&[2, 3]]).is_err());
    }
}
