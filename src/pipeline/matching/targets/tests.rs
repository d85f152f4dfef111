use proptest::prelude::*;

use super::*;
use crate::{nn::Operator, nn::conv::Conv, nn::window::Window, testing::noise};

/// `rows×pixels` of noise with correlated rows, so that inputs are like inputs.
fn inputs(n: usize, pixels: usize, seed: u64) -> Vec<f32> {
    let shared = noise(pixels, seed + 7);
    let own = noise(n * pixels, seed);
    (0..n * pixels).map(|i| own[i] + shared[i % pixels] + 0.3).collect()
}

/// `A·x`.
fn times(a: &[f32], rows: usize, x: &[f32], pixels: usize) -> Vec<f32> {
    let n = a.len() / rows;
    (0..rows * pixels).map(|i| (0..n).map(|k| a[i / pixels * n + k] * x[k * pixels + i % pixels]).sum()).collect()
}

proptest! {
    #[test]
    fn where_inputs_are_the_same_weights_stay(n in 1usize..9, outputs in 1usize..4, seed in any::<u32>()) {
        let (x, pixels) = (inputs(n, 60, seed.into()), 60);
        let change = Sums::of(pixels, &x, &x, None, &noise(outputs * n, 3)).change().unwrap();
        prop_assert_eq!(change, vec![0.0; outputs * n]);
    }

    /// With `x̃ = A·x` there are weights that make all good: `W̃·A = W`, as far as damping lets them.
    #[test]
    fn what_can_be_made_good_is(n in 1usize..6, outputs in 1usize..4, seed in any::<u32>()) {
        let pixels = 400;
        let x = inputs(n, pixels, seed.into());
        let a: Vec<f32> = noise(n * n, u64::from(seed) + 1).iter().enumerate().map(|(i, v)| 0.1 * v + if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let (q, w) = (times(&a, n, &x, pixels), noise(outputs * n, 5));
        let change = Sums::of(pixels, &x, &q, None, &w).change().unwrap();
        let target: Vec<f32> = w.iter().zip(&change).map(|(w, d)| w + d).collect();
        let left = |w2: &[f32]| -> f64 {
            let (y, z) = (times(&w, outputs, &x, pixels), times(w2, outputs, &q, pixels));
            y.chunks(pixels).zip(z.chunks(pixels)).map(|(y, z)| {
                let mean = y.iter().zip(z).map(|(y, z)| f64::from(y - z)).sum::<f64>() / pixels as f64;
                y.iter().zip(z).map(|(y, z)| (f64::from(y - z) - mean).powi(2)).sum::<f64>()
            }).sum()
        };
        prop_assert!(left(&target) <= 0.1 * left(&w) + 1e-6, "{} of {}", left(&target), left(&w));
    }

    /// Sums of parts, added, are those of the whole, and any inputs give finite weights or none.
    #[test]
    fn parts_add_to_the_whole(n in 1usize..6, cut in 1usize..40, scale in prop::sample::select(vec![0f32, 1e-12, 1.0, 1e10]), seed in any::<u32>()) {
        let (pixels, seed) = (41, u64::from(seed));
        let (x, q, r): (Vec<f32>, Vec<f32>, Vec<f32>) = (inputs(n, pixels, seed), inputs(n, pixels, seed + 1), inputs(2, pixels, seed + 2));
        let part = |a: &[f32], from: usize, to: usize| a.chunks(pixels).flat_map(|row| row[from..to].iter().map(|v| v * scale).collect::<Vec<_>>()).collect::<Vec<f32>>();
        let w = noise(2 * n, 4);
        let of = |from: usize, to: usize| Sums::of(to - from, &part(&x, from, to), &part(&q, from, to), Some(part(&r, from, to)), &w);
        let mut ordered = Ordered::default();
        ordered.add(2, Some(of(cut, pixels)));
        ordered.add(1, None);
        prop_assert!(ordered.total.is_none());
        ordered.add(0, Some(of(0, cut)));
        match (of(0, pixels).change(), ordered.total.unwrap().change()) {
            (Some(whole), Some(sum)) => {
                prop_assert!(whole.iter().zip(&sum).all(|(a, b)| a.is_finite() && (a - b).abs() < 1e-2 * (1.0 + a.abs())), "{whole:?} {sum:?}");
            }
            (whole, sum) => prop_assert!(whole.is_none() && sum.is_none() && scale == 0.0),
        }
    }
}

/// The change is the difference between the solutions of least squares for the full-precision output and for what the layer gives: `(W(B − C) + R)C⁻¹` with moments summed plainly.
#[test]
fn the_change_is_that_of_plain_sums() {
    let (n, outputs, pixels) = (3, 2, 50);
    let (x, q, r, w) = (inputs(n, pixels, 3), inputs(n, pixels, 4), noise(outputs * pixels, 5), noise(outputs * n, 6));
    let change = Sums::of(pixels, &x, &q, Some(r.clone()), &w).change().unwrap();
    let row = |a: &[f32], i: usize| a[i * pixels..][..pixels].iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let mean = |a: &[f64]| a.iter().sum::<f64>() / pixels as f64;
    let cov = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / pixels as f64 - mean(a) * mean(b);
    let c = DMatrix::from_fn(n, n, |i, j| cov(&row(&q, i), &row(&q, j)));
    let damped = &c + DMatrix::identity(n, n) * (DAMPING * c.trace() / n as f64);
    let b = DMatrix::from_fn(n, n, |i, j| cov(&row(&x, i), &row(&q, j)));
    let r = DMatrix::from_fn(outputs, n, |i, j| cov(&row(&r, i), &row(&q, j)));
    let weights = DMatrix::from_row_iterator(outputs, n, w.iter().map(|&v| f64::from(v)));
    let expected = (weights * (b - &c) + r) * damped.try_inverse().unwrap();
    for i in 0..outputs {
        for j in 0..n {
            assert!((expected[(i, j)] - f64::from(change[i * n + j])).abs() < 1e-4, "{expected} {change:?}");
        }
    }
}

/// A residual connection's error that follows the inputs is taken off by the weights.
#[test]
fn what_goes_round_a_layer_is_made_good() {
    let (n, pixels) = (4, 300);
    let (x, v) = (inputs(n, pixels, 3), noise(2 * n, 9));
    let r = times(&v, 2, &x, pixels);
    let change = Sums::of(pixels, &x, &x, Some(r), &noise(2 * n, 1)).change().unwrap();
    assert!(change.iter().zip(&v).all(|(a, b)| (a - b).abs() < 0.15), "{change:?} {v:?}");
}

/// What pixels see times the weights is the convolution.
#[test]
fn pixels_see_what_is_convolved() {
    let window = Window { stride: [2, 1], pads: [1, 2, 0, 1], dilation: [1, 2], ..Window::new([3, 2]) };
    let conv = Conv { window, groups: 1 };
    let (x, w) = (Tensor::new(vec![2, 3, 7, 6], noise(252, 1)), Tensor::new(vec![4, 3, 3, 2], noise(72, 2)));
    let shapes = [&x.shape[..], &w.shape[..]];
    let y = conv.forward(vec![std::borrow::Cow::Borrowed(&x), std::borrow::Cow::Borrowed(&w)], None).remove(0);
    let each = y.shape[2] * y.shape[3];
    let pixels: Vec<usize> = (0..2 * each).step_by(3).collect();
    let columns = conv.seen(&shapes, &x, &pixels).unwrap();
    let found = times(&w.data, 4, &columns, pixels.len());
    for (channel, row) in found.chunks(pixels.len()).enumerate() {
        for (&pixel, v) in pixels.iter().zip(row) {
            let expected = y.data[(pixel / each * 4 + channel) * each + pixel % each];
            assert!((v - expected).abs() < 1e-4, "{v} for {expected}");
        }
    }
    assert!(Conv { window, groups: 3 }.seen(&[&x.shape[..], &[3, 1, 3, 2]], &x, &pixels).is_none());
}
