//! Elementwise functions of one input, and PRelu.
//!
//! Most derivatives are computed from the output, so that the function can overwrite its input and the input need not be kept. At a
//! kink the derivative is that of the constant side: 0 for Relu at 0 and for Clip at its limits (ReLU6 at 0 and at 6, as in PyTorch's
//! `relu6`; its `clamp` has 1 there, which cannot be told from a value beyond the limit once it is clipped).

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use super::binary::{along, arity, broadcasts_to, reduce_to, update};
use super::{Needs, Operator, Tape, Tensor, Value};

/// A function applied to every element.
#[derive(Debug, Clone, PartialEq)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// `x` or `alpha·x` below 0.
    LeakyRelu(f32),
    /// `x` or `alpha·(eˣ − 1)` below 0.
    Elu(f32),
    /// `max(0, min(1, alpha·x + beta))`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x·max(0, min(1, x/6 + ½))`.
    HardSwish,
    /// Limits; infinite where there is none.
    Clip {
        /// Least value.
        min: f32,
        /// Greatest value.
        max: f32,
    },
    /// `1/(1 + e⁻ˣ)`.
    Sigmoid,
    /// `tanh x`.
    Tanh,
    /// `x·Φ(x)`, exactly or with the tanh approximation.
    Gelu {
        /// Whether it is the approximation.
        tanh: bool,
    },
    /// The error function.
    Erf,
    /// `√x`.
    Sqrt,
    /// `eˣ`.
    Exp,
    /// `ln x`.
    Log,
    /// `−x`.
    Neg,
    /// `|x|`.
    Abs,
    /// `1/x`.
    Reciprocal,
    /// `ln(1 + eˣ)`.
    Softplus,
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Relu => "Relu",
            Unary::LeakyRelu(_) => "LeakyRelu",
            Unary::Elu(_) => "Elu",
            Unary::HardSigmoid { .. } => "HardSigmoid",
            Unary::HardSwish => "HardSwish",
            Unary::Clip { .. } => "Clip",
            Unary::Sigmoid => "Sigmoid",
            Unary::Tanh => "Tanh",
            Unary::Gelu { .. } => "Gelu",
            Unary::Erf => "Erf",
            Unary::Sqrt => "Sqrt",
            Unary::Exp => "Exp",
            Unary::Log => "Log",
            Unary::Neg => "Neg",
            Unary::Abs => "Abs",
            Unary::Reciprocal => "Reciprocal",
            Unary::Softplus => "Softplus",
        }
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 1..=1)?;
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = inputs.pop().expect("shapes() saw an input");
        // One loop for each function; comparisons are such that NaN stays.
        vec![match *self {
            Unary::Relu => map(x, |x| if x < 0.0 { 0.0 } else { x }),
            Unary::LeakyRelu(alpha) => map(x, |x| if x < 0.0 { alpha * x } else { x }),
            Unary::Elu(alpha) => map(x, |x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            Unary::HardSigmoid { alpha, beta } => map(x, |x| clip(alpha * x + beta, 0.0, 1.0)),
            Unary::HardSwish => map(x, |x| bounded(x, 3.0) * clip(x / 6.0 + 0.5, 0.0, 1.0)),
            Unary::Clip { min, max } => map(x, |x| clip(x, min, max)),
            Unary::Sigmoid => map(x, sigmoid),
            Unary::Tanh => map(x, f32::tanh),
            Unary::Gelu { tanh: false } => map(x, |x| bounded(x, 8.0) * normal(x)),
            Unary::Gelu { tanh: true } => map(x, |x| bounded(x, 16.0) * gate(x).0),
            Unary::Erf => map(x, |x| erf(x) as f32),
            Unary::Sqrt => map(x, f32::sqrt),
            Unary::Exp => map(x, f32::exp),
            Unary::Log => map(x, f32::ln),
            Unary::Neg => map(x, |x| -x),
            Unary::Abs => map(x, f32::abs),
            Unary::Reciprocal => map(x, f32::recip),
            Unary::Softplus => map(x, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        }]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        match (wanted[0], self) {
            (false, _) | (_, Unary::Neg) => Needs::default(),
            _ if self.by_input() => Needs { inputs: vec![true], outputs: vec![] },
            _ => Needs { inputs: vec![], outputs: vec![true] },
        }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangents[0].take().filter(|_| wanted[0]) else { return vec![None] };
        if matches!(self, Unary::Neg) {
            return vec![Some(map(Value::Owned(g), |g| -g))];
        }
        // The input where `by_input` says so, or else the output.
        let t = if self.by_input() { tape.input(0) } else { tape.output(0) };
        // Where the function is constant the cotangent does not count, not even when it is infinite.
        vec![Some(match *self {
            Unary::Relu => update(g, t, |g, y| if y > 0.0 { g } else { 0.0 }),
            Unary::LeakyRelu(alpha) => update(g, t, |g, t| if t > 0.0 { g } else { alpha * g }),
            Unary::Elu(alpha) if alpha < 0.0 => update(g, t, |g, x| if x > 0.0 { g } else { alpha * x.exp() * g }),
            Unary::Elu(alpha) => update(g, t, |g, y| if y > 0.0 { g } else { (y + alpha) * g }),
            Unary::HardSigmoid { alpha, .. } => update(g, t, |g, y| if y > 0.0 && y < 1.0 { alpha * g } else { 0.0 }),
            Unary::HardSwish => update(g, t, |g, x| match x {
                x if x <= -3.0 => 0.0,
                x if x >= 3.0 => g,
                x => (x / 3.0 + 0.5) * g,
            }),
            Unary::Clip { min, max } => update(g, t, |g, y| if y <= min || y >= max { 0.0 } else { g }),
            Unary::Sigmoid => update(g, t, |g, y| y * (1.0 - y) * g),
            Unary::Tanh => update(g, t, |g, y| (1.0 - y) * (1.0 + y) * g),
            Unary::Gelu { tanh: false } => update(g, t, |g, x| {
                let near = clip(x, -16.0, 16.0);
                let density = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0 * (-0.5 * near * near).exp();
                (normal(x) + near * density) * g
            }),
            Unary::Gelu { tanh: true } => update(g, t, |g, x| {
                let (s, slope) = gate(x);
                (s + clip(x, -16.0, 16.0) * slope) * g
            }),
            Unary::Erf => update(g, t, |g, x| FRAC_2_SQRT_PI * (-x * x).exp() * g),
            Unary::Sqrt => update(g, t, |g, y| 0.5 / y * g),
            Unary::Exp => update(g, t, |g, y| y * g),
            Unary::Log => update(g, t, |g, x| g / x),
            Unary::Abs => update(g, t, |g, x| match x {
                x if x > 0.0 => g,
                x if x < 0.0 => -g,
                _ => 0.0,
            }),
            Unary::Reciprocal => update(g, t, |g, y| -y * y * g),
            // y = ln(1 + eˣ), so that eˣ/(1 + eˣ) = 1 − e⁻ʸ.
            Unary::Softplus => update(g, t, |g, y| -(-y).exp_m1() * g),
            Unary::Neg => unreachable!("above"),
        })]
    }
}

impl Unary {
    /// Whether the derivative is computed from the input.
    fn by_input(&self) -> bool {
        match *self {
            // From its output the sign of the input cannot be told.
            Unary::LeakyRelu(alpha) | Unary::Elu(alpha) => alpha < 0.0,
            Unary::Gelu { .. } | Unary::HardSwish | Unary::Erf | Unary::Log | Unary::Abs => true,
            _ => false,
        }
    }
}

/// `f` of every element, in place where the tensor is owned.
fn map(x: Value<'_>, f: impl Fn(f32) -> f32) -> Tensor {
    match x {
        Value::Owned(mut x) => {
            x.data.iter_mut().for_each(|x| *x = f(*x));
            x
        }
        Value::Borrowed(x) => Tensor::new(&x.shape[..], x.data.iter().map(|x| f(*x)).collect()),
    }
}

/// The nearest value in limits (the upper one where they cross, as in NumPy); NaN stays, and a limit that is NaN is none.
fn clip(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// At least `−limit`: a factor for functions that have become 0 there, so that they are 0 at −∞ too.
fn bounded(x: f32, limit: f32) -> f32 {
    if x < -limit { -limit } else { x }
}

/// `1/(1 + e⁻ˣ)`; no exponential overflows.
fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// The factor `½(1 + tanh z) = 1/(1 + e⁻²ᶻ)` of Gelu's approximation, `z = √(2/π)·(x + 0.044715 x³)`, and its derivative. It is 0 or 1
/// long before |x| is 16.
fn gate(x: f32) -> (f32, f32) {
    let x = clip(x, -16.0, 16.0);
    let twice = 2.0 * (2.0 / PI).sqrt();
    let s = sigmoid(twice * (x + 0.044715 * x * x * x));
    (s, s * (1.0 - s) * twice * (1.0 + 3.0 * 0.044715 * x * x))
}

/// The normal distribution function; exactly 0 from about −5.7 down.
fn normal(x: f32) -> f32 {
    (0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))) as f32
}

/// The error function within 4·10⁻¹⁰ of its value, ±1 from |x| = 4 on (where it is 1 − 1.5·10⁻⁸).
///
/// Neither the standard library nor a crate that is here on every platform has one (`libm` comes with Wasm builds only). `erf(x)/x` is
/// an entire function of `x²`: one polynomial in `t = x²/8 − 1`, interpolated at Chebyshev nodes of [−1, 1], does for all of |x| ≤ 4
/// without a case or an exponential, so that loops over it are vector loops.
fn erf(x: f32) -> f64 {
    let x = f64::from(x);
    let near = x.clamp(-4.0, 4.0);
    let t = near * near / 8.0 - 1.0;
    let y = near * ERF.iter().rev().fold(0.0, |sum, c| sum * t + c);
    if near == x { y } else { y.signum() }
}

/// Coefficients of `erf(x)/x` by rising powers of `x²/8 − 1`.
const ERF: [f64; 19] = [
    0.3535309956434049,
    -0.17657623580039228,
    0.13167511777582963,
    -0.10771029288641266,
    0.09020894134279632,
    -0.07473048679705468,
    0.05988782958300683,
    -0.04574431267502724,
    0.033053291696067265,
    -0.022562558293108114,
    0.014381038744396328,
    -0.008384044276092753,
    0.0047749462205666495,
    -0.0029097129559724944,
    0.0014101528932398749,
    -0.00032551962727953547,
    0.0001732295034487736,
    -0.0002464220145300619,
    9.403816578637098e-05,
];

/// PRelu: inputs `x` and `slope`, which is broadcast to `x`: `x`, or `slope·x` below 0.
#[derive(Debug, Clone, PartialEq)]
pub struct PRelu;

impl Operator for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        arity(inputs, 2..=2)?;
        broadcasts_to(inputs[1], inputs[0], "slope")?;
        Ok(vec![inputs[0].to_vec()])
    }

    fn forward(&self, mut inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let slope = inputs.pop().expect("shapes() saw two inputs");
        let x = inputs.pop().expect("shapes() saw two inputs");
        vec![update(x.into_owned(), &slope, |x, slope| if x < 0.0 { slope * x } else { x })]
    }

    fn needs(&self, wanted: &[bool]) -> Needs {
        Needs { inputs: vec![wanted[0] || wanted[1], wanted[0]], outputs: vec![] }
    }

    fn vjp(&self, tape: &Tape<'_>, mut cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangents[0].take() else { return vec![None, None] };
        let by_slope = wanted[1].then(|| {
            let g = along(Value::Borrowed(&g), Some(tape.input(0)), None, |g, x, _| if x < 0.0 { x * g } else { 0.0 });
            reduce_to(g, tape.input_shapes[1])
        });
        let by_x = wanted[0].then(|| {
            let f = |g, x, slope: f32| if x > 0.0 { g } else { slope * g };
            along(Value::Owned(g), Some(tape.input(0)), Some(tape.input(1)), f).into_owned()
        });
        vec![by_x, by_slope]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{any, away, gradients, positive};

    fn values(op: Unary, x: &[f32]) -> Vec<f32> {
        op.forward(vec![Value::Owned(Tensor::new([x.len()], x.to_vec()))], None).remove(0).data
    }

    /// Derivatives at the input `x`.
    fn slopes(op: Unary, x: &[f32]) -> Vec<f32> {
        let x = Tensor::new([x.len()], x.to_vec());
        let y = op.forward(vec![Value::Borrowed(&x)], None).remove(0);
        let shapes = [&x.shape[..]];
        let tape = Tape { inputs: &[Some(&x)], outputs: &[Some(&y)], input_shapes: &shapes, output_shapes: &shapes, aux: &[] };
        let g = op.vjp(&tape, vec![Some(Tensor::new([x.len()], vec![1.0; x.len()]))], &[true]);
        g.into_iter().next().flatten().expect("a derivative").data
    }

    /// Within 1e-6 of the expected value, relatively; exact where that is 0 or infinite.
    fn near(op: Unary, x: &[f32], expected: &[f64]) {
        for ((x, y), e) in x.iter().zip(values(op.clone(), x)).zip(expected) {
            let y = f64::from(y);
            assert!(y == *e || (y - e).abs() <= 1e-6 * e.abs(), "{op:?} of {x} is {y}, not {e}");
        }
    }

    const INF: f32 = f32::INFINITY;

    fn all() -> Vec<Unary> {
        vec![
            Unary::Relu,
            Unary::LeakyRelu(0.1),
            Unary::LeakyRelu(0.0),
            Unary::LeakyRelu(-0.5),
            Unary::Elu(1.0),
            Unary::Elu(0.3),
            Unary::Elu(-2.0),
            Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Unary::HardSigmoid { alpha: 8.0, beta: 0.5 },
            Unary::HardSwish,
            Unary::Clip { min: -0.125, max: 0.125 },
            Unary::Clip { min: 0.0, max: 6.0 },
            Unary::Clip { min: -INF, max: 0.0 },
            Unary::Sigmoid,
            Unary::Tanh,
            Unary::Gelu { tanh: false },
            Unary::Gelu { tanh: true },
            Unary::Erf,
            Unary::Sqrt,
            Unary::Exp,
            Unary::Log,
            Unary::Neg,
            Unary::Abs,
            Unary::Reciprocal,
            Unary::Softplus,
        ]
    }

    #[test]
    fn derivatives() {
        for (op, seed) in all().iter().zip(0..) {
            for shape in [&[][..], &[1], &[0, 3], &[2, 3, 5], &[37]] {
                // Nothing here is near a kink.
                match op {
                    Unary::Sqrt | Unary::Log | Unary::Reciprocal => gradients(op, &[positive(shape, seed)]),
                    _ => gradients(op, &[away(shape, seed)]),
                }
            }
        }
        // Beyond the bends of what bends late.
        for op in [Unary::HardSwish, Unary::Gelu { tanh: false }, Unary::Gelu { tanh: true }, Unary::Softplus, Unary::Sigmoid] {
            gradients(&op, &[Tensor::new([6], vec![-5.0, -3.3, -2.7, 2.8, 3.4, 6.0])]);
        }
    }

    #[test]
    fn piecewise_functions() {
        let x = [-INF, -4.0, -1.0, 0.0, 0.5, 4.0, INF];
        assert_eq!(values(Unary::Relu, &x), [0.0, 0.0, 0.0, 0.0, 0.5, 4.0, INF]);
        assert_eq!(values(Unary::LeakyRelu(0.5), &x), [-INF, -2.0, -0.5, 0.0, 0.5, 4.0, INF]);
        assert_eq!(values(Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, &x), [0.0, 0.0, 0.25, 0.5, 0.625, 1.0, 1.0]);
        assert_eq!(values(Unary::Clip { min: -1.0, max: 2.0 }, &x), [-1.0, -1.0, -1.0, 0.0, 0.5, 2.0, 2.0]);
        assert_eq!(values(Unary::Clip { min: 3.0, max: 2.0 }, &x), [2.0; 7]);
        assert_eq!(values(Unary::Clip { min: -INF, max: INF }, &x), x);
        assert_eq!(values(Unary::HardSwish, &[-INF, -4.0, -1.5, 0.0, 1.5, 4.0, INF]), [0.0, 0.0, -0.375, 0.0, 1.125, 4.0, INF]);
        assert_eq!(values(Unary::Abs, &x), [INF, 4.0, 1.0, 0.0, 0.5, 4.0, INF]);
        assert_eq!(values(Unary::Neg, &x), [INF, 4.0, 1.0, 0.0, -0.5, -4.0, -INF]);
        assert_eq!(values(Unary::Reciprocal, &[4.0, -0.5, 0.0, INF]), [0.25, -2.0, INF, 0.0]);
        assert_eq!(values(Unary::Sqrt, &[0.0, 2.25, INF]), [0.0, 1.5, INF]);
    }

    #[test]
    fn large_arguments_do_not_overflow() {
        let x = [-INF, -1e4, -88.5, 0.0, 88.5, 1e4, INF];
        near(Unary::Elu(2.0), &x, &[-2.0, -2.0, -2.0, 0.0, 88.5, 1e4, INF.into()]);
        near(Unary::Sigmoid, &x, &[0.0, 0.0, 3.672301681915042e-39, 0.5, 1.0, 1.0, 1.0]);
        near(Unary::Softplus, &x, &[0.0, 0.0, 3.672301681915042e-39, std::f64::consts::LN_2, 88.5, 1e4, INF.into()]);
        near(Unary::Tanh, &x, &[-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
        near(Unary::Exp, &[-INF, -1e4, 0.0, 1.0, 1e4], &[0.0, 0.0, 1.0, std::f64::consts::E, INF.into()]);
        near(Unary::Log, &[0.0, 1.0, 10.0, INF], &[(-INF).into(), 0.0, std::f64::consts::LN_10, INF.into()]);
        for tanh in [false, true] {
            near(Unary::Gelu { tanh }, &x, &[0.0, 0.0, 0.0, 0.0, 88.5, 1e4, INF.into()]);
            assert_eq!(slopes(Unary::Gelu { tanh }, &x), [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]);
        }
        assert_eq!(slopes(Unary::Softplus, &x), [0.0, 0.0, slopes(Unary::Softplus, &[-88.5])[0], 0.5, 1.0, 1.0, 1.0]);
        assert_eq!(slopes(Unary::Sigmoid, &[-INF, 0.0, INF]), [0.0, 0.25, 0.0]);
    }

    #[test]
    fn nan_stays() {
        for op in all() {
            assert!(values(op.clone(), &[f32::NAN])[0].is_nan(), "{op:?}");
        }
    }

    #[test]
    fn derivatives_at_kinks() {
        assert_eq!(slopes(Unary::Relu, &[-1.0, 0.0, 1.0]), [0.0, 0.0, 1.0]);
        assert_eq!(slopes(Unary::LeakyRelu(0.25), &[-1.0, 0.0, 1.0]), [0.25, 0.25, 1.0]);
        assert_eq!(slopes(Unary::Clip { min: 0.0, max: 6.0 }, &[-1.0, 0.0, 3.0, 6.0, 7.0]), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(slopes(Unary::Clip { min: 0.0, max: INF }, &[-1.0, 0.0, 3.0]), [0.0, 0.0, 1.0]);
        assert_eq!(slopes(Unary::Abs, &[-2.0, 0.0, 2.0]), [-1.0, 0.0, 1.0]);
    }

    /// Values of tables (Abramowitz and Stegun, chapter 7), with more digits, and the first term of the series at a small argument.
    #[test]
    fn error_function() {
        let table: [(f32, f64); 16] = [
            (2f32.powi(-100), std::f64::consts::FRAC_2_SQRT_PI * 2f64.powi(-100)),
            (1.0 / 1024.0, 0.0011019324300718147),
            (0.125, 0.1403162048013338),
            (0.25, 0.276_326_390_168_236_9),
            (0.5, 0.520_499_877_813_046_5),
            (0.75, 0.711_155_633_653_515_1),
            (1.0, 0.842_700_792_949_714_9),
            (1.25, 0.922_900_128_256_458_2),
            (1.5, 0.966_105_146_475_310_8),
            (2.0, 0.995_322_265_018_952_7),
            (2.5, 0.999_593_047_982_555),
            (3.0, 0.999_977_909_503_001_4),
            (3.5, 0.999_999_256_901_627_7),
            (4.0, 0.999_999_984_582_742_1),
            (5.0, 1.0),
            (f32::INFINITY, 1.0),
        ];
        for (x, e) in table {
            assert!((erf(x) - e).abs() <= if x < 4.0 { 5e-10 * e } else { 2e-8 }, "erf({x}) is {}, not {e}", erf(x));
            assert_eq!(erf(-x), -erf(x));
            near(Unary::Erf, &[x, -x], &[e, -e]);
        }
        assert_eq!(erf(0.0), 0.0);
        // Φ(1) and Φ(−2) of any table of the normal distribution.
        near(
            Unary::Gelu { tanh: false },
            &[1.0, -2.0, 0.5],
            &[0.841_344_746_068_543, -2.0 * 0.022_750_131_948_179_2, 0.5 * 0.691_462_461_274_013],
        );
        let approximate = values(Unary::Gelu { tanh: true }, &[1.0, -2.0, 0.5]);
        let exact = values(Unary::Gelu { tanh: false }, &[1.0, -2.0, 0.5]);
        assert!(approximate.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-3 && a != b));
        near(Unary::Gelu { tanh: true }, &[1.0], &[0.841_191_990_608_276_1]);
    }

    #[test]
    fn prelu() {
        for (x, slope) in [(&[2, 3, 2, 2][..], &[3, 1, 1][..]), (&[2, 3], &[1]), (&[2, 3], &[]), (&[4], &[4]), (&[0, 3], &[3]), (&[], &[])]
        {
            gradients(&PRelu, &[away(x, 1), any(slope, 2)]);
        }
        let x = Tensor::new([1, 2, 3], vec![-1.0, 0.0, 2.0, -1.0, f32::NAN, 2.0]);
        let y = PRelu.forward(vec![Value::Owned(x), Value::Owned(Tensor::new([2, 1], vec![0.5, -3.0]))], None).remove(0);
        assert_eq!(y.data[..4], [-0.5, 0.0, 2.0, 3.0]);
        assert!(y.data[4].is_nan() && y.data[5] == 2.0);
        assert_eq!(PRelu.shapes(&[&[2, 3], &[2]]).unwrap_err(), "its slope of shape [2] cannot be broadcast to [2, 3]");
        assert!(PRelu.shapes(&[&[3], &[2, 3]]).is_err());
    }
}
