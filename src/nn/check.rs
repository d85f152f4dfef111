//! Finite differences for tests: whether an operator's [`Operator::vjp`] is the derivative of its [`Operator::forward`].
//!
//! For a random cotangent `v` the product `vᵀ∂y/∂x` is compared with central differences of `⟨v, y⟩`, summed in f64. Forward passes
//! are `f32`, so steps are large (1/16) and the error of order `h²` is removed by a second step of half the size (Richardson):
//! what is left is `h⁴/480` of the fifth derivative, and rounding. The error is measured for each input as a whole, against the norm
//! of its gradient, with an allowance for rounding of just those outputs that moved.

use super::{Operator, Tape, Tensor, Value};
use crate::testing::noise;

/// Greatest error, relative to the norm of the gradient.
const LIMIT: f64 = 1e-4;

/// Values of ±0.25 to ±1: away from kinks at 0 by more than the steps of [`gradients`].
pub fn away(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    Tensor::new(shape, noise(n, seed).iter().map(|x| x * 1.5 + 0.25f32.copysign(*x)).collect())
}

/// Values of 0.5 to 1.5.
pub fn positive(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    Tensor::new(shape, noise(n, seed).iter().map(|x| x + 1.0).collect())
}

/// Values of ±1.
pub fn any(shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    Tensor::new(shape, noise(n, seed).iter().map(|x| 2.0 * x).collect())
}

/// Values a quarter apart in random order, none nearer to 0 than an eighth: no step of [`gradients`] changes which is greater.
pub fn distinct(shape: &[usize], seed: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let key = noise(n, seed);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| key[a].total_cmp(&key[b]));
    let mut data = vec![0.0; n];
    order.iter().enumerate().for_each(|(rank, &i)| data[i] = (rank as f32 - (n / 2) as f32) / 4.0 + 0.125);
    Tensor::new(shape, data)
}

/// Checks an operator that has a derivative by every input: see [`gradients_by`].
pub fn gradients(op: &dyn Operator, inputs: &[Tensor]) {
    gradients_by(op, inputs, &vec![true; inputs.len()]);
}

/// Checks an operator that has derivatives by the inputs that are `smooth`, and `None` for the others.
///
/// * `forward` gives the shapes that `shapes` says, and the same bits for borrowed and owned inputs, with and without `aux`.
/// * `vjp` agrees with finite differences, for each smooth input wanted alone and for all inputs wanted, with cotangents for all outputs
///   and for each output alone; the tape has just what `needs` names.
///
/// Inputs must lie where the function is smooth within steps of 1/16; they should be few, for each element costs four forward passes.
///
/// # Panics
/// When something disagrees.
pub fn gradients_by(op: &dyn Operator, inputs: &[Tensor], smooth: &[bool]) {
    let (outputs, aux) = forward(op, inputs);
    let cotangents: Vec<Tensor> =
        outputs.iter().enumerate().map(|(o, y)| Tensor::new(&y.shape[..], any(&[y.len()], 1000 + o as u64).data)).collect();
    let differences: Vec<Option<Vec<Difference>>> =
        (0..inputs.len()).map(|i| smooth[i].then(|| differences(op, inputs, i, &outputs, &cotangents))).collect();

    let mut subsets: Vec<Vec<bool>> = vec![vec![true; inputs.len()]];
    if inputs.len() > 1 {
        subsets.extend((0..inputs.len()).filter(|&i| smooth[i]).map(|i| (0..inputs.len()).map(|j| j == i).collect()));
    }
    // All outputs together, and each alone.
    let mut given: Vec<Vec<bool>> = vec![vec![true; outputs.len()]];
    if outputs.len() > 1 {
        given.extend((0..outputs.len()).map(|o| (0..outputs.len()).map(|p| p == o).collect()));
    }
    let input_shapes: Vec<&[usize]> = inputs.iter().map(|t| &t.shape[..]).collect();
    let output_shapes: Vec<&[usize]> = outputs.iter().map(|t| &t.shape[..]).collect();
    for wanted in &subsets {
        let needs = op.needs(wanted);
        assert!(needs.inputs.len() <= inputs.len() && needs.outputs.len() <= outputs.len(), "{op:?} needs what there is not: {needs:?}");
        let tape = Tape {
            inputs: &kept(inputs, &needs.inputs),
            outputs: &kept(&outputs, &needs.outputs),
            input_shapes: &input_shapes,
            output_shapes: &output_shapes,
            aux: &aux,
        };
        for given in &given {
            let v = given.iter().zip(&cotangents).map(|(&g, v)| g.then(|| v.clone())).collect();
            let gradients = op.vjp(&tape, v, wanted);
            assert_eq!(gradients.len(), inputs.len(), "{op:?} has to say something about every input");
            for (i, gradient) in gradients.iter().enumerate() {
                let what = format!("{op:?}, input {i} of shapes {input_shapes:?}, wanted {wanted:?}, cotangents {given:?}");
                let Some(difference) = differences[i].as_ref().filter(|_| wanted[i]) else {
                    assert!(gradient.is_none(), "{what}: a derivative that is none, or not wanted");
                    continue;
                };
                let gradient = gradient.as_ref().unwrap_or_else(|| panic!("{what}: no derivative"));
                assert_eq!(gradient.shape, inputs[i].shape, "{what}: shape of the derivative");
                difference_is(gradient, difference, given, &what);
            }
        }
    }
}

/// Central differences by one input, for one output.
struct Difference {
    values: Vec<f64>,
    /// Variance of their rounding errors, summed over the elements.
    rounding: f64,
}

fn differences(op: &dyn Operator, inputs: &[Tensor], i: usize, outputs: &[Tensor], cotangents: &[Tensor]) -> Vec<Difference> {
    let x = &inputs[i];
    // Small inputs are moved by a small part of their size only.
    let rms = (x.data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len().max(1) as f64).sqrt();
    let h = if rms > 0.0 { rms.min(1.0) / 16.0 } else { 1.0 / 16.0 } as f32;
    let mut all: Vec<Difference> = outputs.iter().map(|_| Difference { values: Vec::with_capacity(x.len()), rounding: 0.0 }).collect();
    let mut moved = inputs.to_vec();
    for k in 0..x.len() {
        let mut at = |x: f32| {
            moved[i].data[k] = x;
            op.forward(moved.iter().map(Value::Borrowed).collect(), None)
        };
        let mut slopes = [h, h / 2.0].map(|h| {
            let (above, below) = (x.data[k] + h, x.data[k] - h);
            let (up, down) = (at(above), at(below));
            (0..outputs.len())
                .map(|o| {
                    let (mut sum, mut energy) = (0.0, 0.0);
                    for ((&up, &down), &v) in up[o].data.iter().zip(&down[o].data).zip(&cotangents[o].data) {
                        if up != down {
                            sum += f64::from(v) * (f64::from(up) - f64::from(down));
                            energy += (f64::from(v) * f64::from(up)).powi(2);
                        }
                    }
                    (sum / (f64::from(above) - f64::from(below)), energy)
                })
                .collect::<Vec<_>>()
        });
        moved[i].data[k] = x.data[k];
        let [whole, half] = &mut slopes;
        for (o, difference) in all.iter_mut().enumerate() {
            difference.values.push((4.0 * half[o].0 - whole[o].0) / 3.0);
            difference.rounding += half[o].1 * (4.0 * f64::from(f32::EPSILON) / f64::from(h)).powi(2);
        }
    }
    all
}

/// Compares with the sum of the differences of those outputs that had a cotangent.
fn difference_is(gradient: &Tensor, differences: &[Difference], given: &[bool], what: &str) {
    let given: Vec<&Difference> = differences.iter().zip(given).filter(|(_, g)| **g).map(|(d, _)| d).collect();
    let (mut error, mut norm, mut worst) = (0f64, 0f64, (0f64, String::new()));
    for (k, &g) in gradient.data.iter().enumerate() {
        let d: f64 = given.iter().map(|d| d.values[k]).sum();
        let e = (f64::from(g) - d).abs();
        assert!(e.is_finite(), "{what}: element {k} is {g}, by differences {d}");
        if e > worst.0 {
            worst = (e, format!("element {k} is {g}, by differences {d}"));
        }
        error += e * e;
        norm += d * d;
    }
    let (error, norm) = (error.sqrt(), norm.sqrt());
    let limit = LIMIT * norm + given.iter().map(|d| d.rounding).sum::<f64>().sqrt();
    assert!(error <= limit, "{what}: error {error:.3e}, limit {limit:.3e}, norm {norm:.3e}; {}", worst.1);
}

/// Outputs and `aux`, after a look at shapes and bits.
fn forward(op: &dyn Operator, inputs: &[Tensor]) -> (Vec<Tensor>, Vec<u32>) {
    let shapes = op.shapes(&inputs.iter().map(|t| &t.shape[..]).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    let borrowed = || inputs.iter().map(Value::Borrowed).collect::<Vec<_>>();
    let mut aux = Vec::new();
    let outputs = op.forward(borrowed(), Some(&mut aux));
    assert_eq!(outputs.iter().map(|t| t.shape.clone()).collect::<Vec<_>>(), shapes, "{op:?}: shapes of the outputs");
    for y in &outputs {
        assert_eq!(y.len(), y.shape.iter().product::<usize>(), "{op:?}: elements of an output");
    }
    let bits = |outputs: &[Tensor]| -> Vec<(Vec<usize>, Vec<u32>)> {
        outputs.iter().map(|t| (t.shape.clone(), t.data.iter().map(|x| x.to_bits()).collect())).collect()
    };
    let expected = bits(&outputs);
    assert_eq!(bits(&op.forward(borrowed(), None)), expected, "{op:?}: another result without aux");
    // Each input owned alone, and all of them.
    for owned in 0..=inputs.len() {
        let values = inputs.iter().enumerate();
        let values = values.map(|(i, t)| if owned == i || owned == inputs.len() { Value::Owned(t.clone()) } else { Value::Borrowed(t) });
        let outputs = op.forward(values.collect(), None);
        assert_eq!(bits(&outputs), expected, "{op:?}: another result when input {owned} is owned");
    }
    (outputs, aux)
}

fn kept<'a>(tensors: &'a [Tensor], needed: &[bool]) -> Vec<Option<&'a Tensor>> {
    tensors.iter().enumerate().map(|(i, t)| needed.get(i).is_some_and(|n| *n).then_some(t)).collect()
}

mod tests {
    use super::*;
    use crate::nn::Needs;

    /// `(x², w·x³)` elementwise, with a derivative that is wrong by a factor.
    #[derive(Debug)]
    struct Powers {
        factor: f32,
    }

    impl Operator for Powers {
        fn name(&self) -> &'static str {
            "Powers"
        }
        fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
            Ok(vec![inputs[0].to_vec(), inputs[0].to_vec()])
        }
        fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
            let (x, w) = (&inputs[0], &inputs[1]);
            let cubes = x.data.iter().zip(&w.data).map(|(x, w)| w * x * x * x).collect();
            vec![Tensor::new(&x.shape[..], x.data.iter().map(|x| x * x).collect()), Tensor::new(&x.shape[..], cubes)]
        }
        fn needs(&self, wanted: &[bool]) -> Needs {
            Needs { inputs: vec![true, wanted[0]], outputs: vec![] }
        }
        fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
            let x = tape.input(0);
            let at = |o: usize, k: usize| cotangents[o].as_ref().map_or(0.0, |v: &Tensor| v.data[k]);
            let by_x = wanted[0].then(|| {
                let w = tape.input(1);
                let g = |(k, x): (usize, &f32)| 2.0 * x * at(0, k) + self.factor * 3.0 * w.data[k] * x * x * at(1, k);
                Tensor::new(&x.shape[..], x.data.iter().enumerate().map(g).collect())
            });
            let g = |(k, x): (usize, &f32)| x * x * x * at(1, k);
            vec![by_x, wanted[1].then(|| Tensor::new(&x.shape[..], x.data.iter().enumerate().map(g).collect()))]
        }
    }

    #[test]
    fn right_derivatives_pass() {
        for shape in [&[][..], &[1], &[3, 5], &[0, 2]] {
            gradients(&Powers { factor: 1.0 }, &[any(shape, 1), away(shape, 2)]);
            let small = any(shape, 1).data.iter().map(|x| x * 1e-3).collect();
            gradients(&Powers { factor: 1.0 }, &[Tensor::new(shape, small), distinct(shape, 2)]);
        }
    }

    #[test]
    #[should_panic(expected = "limit")]
    fn a_factor_off_by_a_thousandth_fails() {
        gradients(&Powers { factor: 1.001 }, &[any(&[3, 5], 1), any(&[3, 5], 2)]);
    }

    #[test]
    fn distinct_values_are_apart() {
        let mut x = distinct(&[7, 5], 3).data;
        x.sort_by(f32::total_cmp);
        assert!(x.windows(2).all(|w| w[1] - w[0] == 0.25) && x.iter().all(|x| x.abs() >= 0.125));
        assert!(away(&[500], 1).data.iter().all(|x| x.abs() >= 0.25 && x.abs() <= 1.0));
    }
}
