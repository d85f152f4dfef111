use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{io::Order, testing::noise};

fn shape(groups: usize, outputs: usize, inputs: usize, taps: usize) -> LayerShape {
    LayerShape { groups, outputs, inputs, taps, columns: taps, order: Order::OutIn }
}

fn taken(shape: LayerShape, gradients: &[Vec<f32>], keep: bool) -> LayerStatistics {
    let mut sum = Accumulator::new(shape, keep);
    for gradient in gradients {
        sum.add(Moments::new(&shape, Sample { gradient: gradient.clone(), input: None, output: None }));
    }
    sum.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The three moments are those of the definition but for what sampling leaves unknown of their correlations, and all have the energy of
    /// the samples as their trace.
    #[test]
    fn moments_are_the_definition(g in 1usize..4, n in 1usize..6, m in 1usize..6, k in 1usize..5, count in 1usize..5, seed in any::<u64>()) {
        let s = shape(g, n, m, k);
        let gradients: Vec<Vec<f32>> = (0..count).map(|i| noise(s.weights(), seed.wrapping_add(i as u64))).collect();
        let found = taken(s, &gradients, true);
        let at = |i: usize, group, o, c, t| f64::from(gradients[i][((group * n + o) * m + c) * k + t]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5 * (1.0 + b.abs());
        let energy: f64 = gradients.iter().flatten().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count as f64;
        for group in 0..g {
            let by_outputs = |i: usize, a, b| (0..m * k).map(|j| at(i, group, a, j / k, j % k) * at(i, group, b, j / k, j % k)).sum::<f64>();
            let by_inputs = |i: usize, a, b| (0..n * k).map(|j| at(i, group, j / k, a, j % k) * at(i, group, j / k, b, j % k)).sum::<f64>();
            type Element<'a> = &'a dyn Fn(usize, usize, usize) -> f64;
            let parts: [(&Moment, usize, Element); 2] =
                [(&found.outputs[group], n, &by_outputs), (&found.inputs[group], m, &by_inputs)];
            for (moment, size, sample) in parts {
                let mean = |a, b| (0..count).map(|i| sample(i, a, b)).sum::<f64>() / count as f64;
                let off: Vec<(usize, usize)> = (0..size).flat_map(|a| (0..size).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
                // The variances of the means, summed, over the squares of the means, summed.
                let variance = |a, b| (0..count).map(|i| (sample(i, a, b) - mean(a, b)).powi(2)).sum::<f64>() / (count * (count - 1)) as f64;
                let (unknown, all) = off.iter().fold((0.0, 0.0), |(u, s), &(a, b)| (u + variance(a, b), s + mean(a, b).powi(2)));
                let keep = if count < 2 { 0.0 } else { (1.0 - unknown / all).max(0.0) };
                for i in 0..size {
                    prop_assert!(close(moment.at(i), mean(i, i)));
                }
                for (a, b) in off {
                    prop_assert!(close(moment.full().unwrap()[(a, b)], keep * mean(a, b)), "{keep}");
                }
            }
        }
        prop_assert!(close(found.outputs.iter().map(Moment::trace).sum(), energy) && close(found.inputs.iter().map(Moment::trace).sum(), energy));
        prop_assert!(k == 1 || close(found.taps.trace(), energy));
        prop_assert_eq!((found.samples, found.kept()), (count, count));
        // The samples are kept to the precision of bfloat16.
        for (i, gradient) in gradients.iter().enumerate() {
            prop_assert!(found.gradient(i).iter().zip(gradient).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
        }
    }

    /// `mean_s ⟨G_s, E⟩²`, and its diagonal when samples are not kept.
    #[test]
    fn distortion_is_the_mean_square_of_products(n in 1usize..5, m in 1usize..5, k in 1usize..4, count in 1usize..6, seed in any::<u64>()) {
        let s = shape(1, n, m, k);
        let gradients: Vec<Vec<f32>> = (0..count).map(|i| noise(s.weights(), seed.wrapping_add(i as u64))).collect();
        let error = noise(s.weights(), seed ^ 99);
        let full = taken(s, &gradients, true);
        let product = |g: &Vec<f32>| g.iter().zip(&error).map(|(g, e)| f64::from(*g) * f64::from(*e)).sum::<f64>();
        let want = gradients.iter().map(|g| product(g).powi(2)).sum::<f64>() / count as f64;
        prop_assert!((full.distortion(&error) - want).abs() < 0.02 * want + 1e-3 * s.weights() as f64, "{} {}", full.distortion(&error), want);
        let diagonal = taken(s, &gradients, false);
        let rows = |o: usize| error[o * m * k..(o + 1) * m * k].iter().map(|&e| f64::from(e).powi(2)).sum::<f64>();
        let want: f64 = (0..n).map(|o| diagonal.outputs[0].at(o) / (m * k) as f64 * rows(o)).sum();
        prop_assert!((diagonal.distortion(&error) - want).abs() < 1e-6 * (1.0 + want) && diagonal.kept() == 0);
    }
}

/// Few samples of many channels see few directions. What they say of correlations where there are none is noise, and goes; what many samples
/// say of channels that go together stays.
#[test]
fn correlations_are_believed_as_far_as_they_are_known() {
    let n = 200;
    let off = |count: usize, shared: f32| {
        let gradient = |i: usize| -> Vec<f32> {
            let (own, common) = (noise(n, i as u64), noise(1, 77 + i as u64)[0]);
            own.iter().map(|v| v + shared * common).collect()
        };
        let found = taken(shape(1, n, 1, 1), &(0..count).map(gradient).collect::<Vec<_>>(), false);
        let moment = found.outputs[0].full().unwrap();
        // Of variance 1/12 are both parts.
        let true_square = f64::from(shared).powi(4) / 144.0 * (n * (n - 1)) as f64;
        ((moment.norm_squared() - moment.diagonal().norm_squared()) / (n * n) as f64, true_square / (n * n) as f64)
    };
    // 16 samples of independent channels: raw, their products have a mean square of 1/144/16.
    assert!(off(16, 0.0).0 < 0.02 / 144.0 / 16.0, "{}", off(16, 0.0).0);
    let (found, real) = off(600, 1.0);
    assert!((0.7..1.3).contains(&(found / real)), "{found} for {real}");
}

#[test]
fn errors_along_and_across_a_gradient() {
    // One sample: an error along it costs, one across it does not. The diagonal cannot tell.
    let s = taken(shape(1, 1, 2, 1), &[vec![1.0, 1.0]], true);
    assert_eq!((s.distortion(&[0.5, 0.5]), s.distortion(&[0.5, -0.5])), (1.0, 0.0));
    assert_eq!((s.diagonal_distortion(&[0.5, 0.5]), s.diagonal_distortion(&[0.5, -0.5])), (0.5, 0.5));
    assert_eq!(s.sampling_error(), f64::INFINITY, "one sample says nothing of its spread");
}

#[test]
fn sampling_errors_shrink_with_samples_and_layers_that_took_no_part_are_known() {
    let s = shape(1, 2, 2, 1);
    let gradients = |count: usize| (0..count).map(|i| noise(4, i as u64 + 1)).collect::<Vec<_>>();
    let (few, many) = (taken(s, &gradients(10), false), taken(s, &gradients(1000), false));
    assert!(few.reaches_output() && few.sampling_error() > 4.0 * many.sampling_error() && many.sampling_error() < 0.05);
    let none = taken(s, &[Vec::new(), Vec::new()], true);
    assert!(!none.reaches_output() && none.sampling_error() == 0.0 && none.distortion(&[1.0; 4]) == 0.0);
}

#[test]
fn activations_become_moments_means_and_deviations() {
    let s = shape(1, 1, 2, 1);
    let mut sum = Accumulator::new(s, true);
    for (x, y) in [([1.0f32, 2.0], 1.0), ([3.0, -2.0], 5.0)] {
        let mut moment = Moment::zeros(2);
        moment.add(&x, 1);
        let output = Some((vec![(y, y * y)], 1.0));
        sum.add(Moments::new(&s, Sample { gradient: vec![1.0, 0.0], input: Some((vec![moment], 1.0)), output }));
    }
    let found = sum.finish();
    let moment = found.input_moments[0].full().unwrap();
    assert_eq!((moment[(0, 0)], moment[(0, 1)], moment[(1, 1)]), (5.0, -2.0, 4.0));
    assert_eq!(found.pre_activations, [(3.0, 2.0)]);
    // What was asked for in between stays as it was.
    let (before, samples) = (Arc::clone(&found.gradients), found.samples);
    sum.add(Moments::new(&s, Sample { gradient: vec![0.0, 1.0], input: None, output: None }));
    assert_eq!((samples, before.len(), sum.finish().kept()), (2, 4, 3));
}

#[test]
fn signs_are_fair_independent_and_the_same_everywhere() {
    let all = |seed, image, draw| signs(seed, image, draw, 4096).collect::<Vec<_>>();
    let a = all(1, 0, 0);
    assert_eq!(a[..16], [1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0]);
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().abs();
    assert!(a.iter().all(|v| v.abs() == 1.0) && a.iter().sum::<f32>().abs() < 250.0);
    for b in [all(2, 0, 0), all(1, 1, 0), all(1, 0, 1), all(0, 0, 0)] {
        assert!(product(&a, &b) < 250.0);
    }
    assert!((1..64).all(|lag| product(&a[lag..], &a) < 300.0));
}

#[test]
fn wide_layers_keep_a_diagonal() {
    let n = MOST_CHANNELS + 1;
    let s = shape(1, n, 1, 1);
    let found = taken(s, &[(0..n).map(|i| (i % 3) as f32).collect()], true);
    assert!(found.outputs[0].full().is_none() && (found.outputs[0].at(2), found.outputs[0].len()) == (4.0, n));
    assert_eq!(found.inputs[0].trace(), found.outputs[0].trace());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The second moment across columns is that of the definition, for any range of them.
    #[test]
    fn moments_of_columns_are_the_definition(
        g in 1usize..4, n in 1usize..6, m in 1usize..8, k in 1usize..5, count in 1usize..5, cut in 0.0f64..1.0, seed in any::<u64>(),
    ) {
        let s = shape(g, n, m, k);
        let gradients: Vec<Vec<f32>> = (0..count).map(|i| noise(s.weights(), seed.wrapping_add(i as u64))).collect();
        let found = taken(s, &gradients, true);
        let width = m * k;
        let first = (cut * width as f64) as usize;
        for group in 0..g {
            let (moment, rows) = found.columns(group, first..width).unwrap();
            prop_assert_eq!(rows, count * n);
            let columns = width - first;
            for (i, j) in (0..columns).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let product = |sample: usize, row: usize| {
                    let (kept, at) = (found.gradient(sample), (group * n + row) * width + first);
                    f64::from(kept[at + i]) * f64::from(kept[at + j])
                };
                let exact = (0..count).flat_map(|sample| (0..n).map(move |row| (sample, row))).map(|(s, r)| product(s, r)).sum::<f64>() / count as f64;
                prop_assert!((f64::from(moment[i * columns + j]) - exact).abs() < 1e-4 * (1.0 + exact.abs()));
            }
            // Of single rows it is theirs, as if all were alike.
            let alone = |row: usize| found.columns_of(group, first..width, &[row]);
            let mean = |e: usize| (0..rows).map(|row| f64::from(alone(row)[e])).sum::<f64>() / rows as f64;
            prop_assert!((0..columns * columns).step_by(7).all(|e| (mean(e) - f64::from(moment[e])).abs() < 1e-4 * (1.0 + mean(e).abs())));
        }
        prop_assert!(taken(s, &gradients, false).columns(0, 0..width).is_none());
    }
}

#[test]
fn some_rows_are_all_over_the_place() {
    assert_eq!(some_of(7, 7).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    assert_eq!((some_of(0, 5).count(), some_of(5, 0).count(), some_of(1, 9).count()), (0, 0, 1));
    for (all, most) in [(2, 1), (16_384, 9419), (131_072, 18_838), (1000, 999), (96, 32)] {
        let some: Vec<usize> = some_of(all, most).collect();
        let mut sorted = some.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() == most && sorted[most - 1] < all, "{most} of {all}");
        // Of 32 samples, or as many parts of all, each has its share.
        for of in [|i: usize, _: usize| i % 32, |i: usize, all: usize| i * 32 / all] {
            let mut counts = [0f64; 32];
            some.iter().for_each(|&i| counts[of(i, all)] += 1.0);
            let share = most as f64 / 32.0;
            assert!(most < 32 || counts.iter().all(|c| (c - share).abs() <= 2.0 + 0.05 * share), "{most} of {all}: {counts:?}");
        }
    }
}
