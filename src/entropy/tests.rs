use proptest::prelude::*;

use super::{
    range::{Decoder, Encoder},
    *,
};
use crate::testing::noise;

fn encoded(indices: &[i32], width: usize, taps: usize, signs: bool) -> Vec<u8> {
    let (mut plane, mut encoder) = (Plane::new(width, taps, signs), Encoder::default());
    for row in indices.to_vec().chunks_mut(width.max(1)) {
        plane.row(&mut encoder, row, |_| 0).unwrap();
    }
    encoder.finish()
}

fn decoded(bytes: &[u8], rows: usize, width: usize, taps: usize, signs: bool) -> Result<(Vec<i32>, bool), String> {
    let (mut plane, mut decoder) = (Plane::new(width, taps, signs), Decoder::new(bytes));
    let mut indices = vec![0; rows * width];
    for row in indices.chunks_mut(width.max(1)) {
        plane.row(&mut decoder, row, |_| 0)?;
    }
    Ok((indices, decoder.at_end()))
}

fn counted(indices: &[i32], width: usize, taps: usize, signs: bool) -> f64 {
    let (mut plane, mut count) = (Plane::new(width, taps, signs), Count::default());
    for row in indices.to_vec().chunks_mut(width.max(1)) {
        plane.row(&mut count, row, |_| 0).unwrap();
    }
    count.bits()
}

proptest! {
    /// Decisions with probabilities, and numbers of 0 to 32 raw bits between them.
    #[test]
    fn decisions_come_back(decisions in prop::collection::vec((any::<bool>(), 32u16..=65504, any::<u32>(), 0u32..=32, any::<bool>()), 0..2000)) {
        let place = Place { class: 0, decision: 0 };
        let low = |number: u32, count: u32| number & (u64::from(u32::MAX) >> (32 - count)) as u32;
        let mut encoder = Encoder::default();
        for &(bit, p, number, count, raw) in &decisions {
            if raw { encoder.raw(low(number, count), count); } else { encoder.code(bit, p, place); }
        }
        let written = encoder.bits();
        let bytes = encoder.finish();
        let bits: f64 = decisions.iter().map(|&(bit, p, _, count, raw)| {
            let p = f64::from(p) / 65536.0;
            if raw { count.into() } else { -(if bit { p } else { 1.0 - p }).log2() }
        }).sum();
        // What an ideal coder takes, to within rounding up to bytes of both ends.
        prop_assert!((8 * bytes.len()) as f64 <= bits * 1.0001 + 24.0, "{} bytes for {bits} bits", bytes.len());
        prop_assert!((written - bits).abs() <= bits * 1e-4 + 1e-6, "{written} for {bits} bits");
        let mut decoder = Decoder::new(&bytes);
        for &(bit, p, number, count, raw) in &decisions {
            if raw {
                prop_assert_eq!(decoder.raw(0, count), low(number, count));
            } else {
                prop_assert_eq!(decoder.code(false, p, place), bit);
            }
        }
        prop_assert!(decoder.at_end());
        prop_assert!((decoder.bits() - written).abs() <= 1e-6);
    }

    /// Decode(encode(x)) = x, in the bytes that were counted, over shapes from nothing to wide, sparse and dense.
    #[test]
    fn indices_come_back(
        rows in 0usize..12, width in 0usize..80, taps in prop::sample::select(vec![1usize, 2, 9, 25, 49]), spread in 0u32..20, signs in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let indices: Vec<i32> = noise(rows * width, seed).iter().map(|v| ((2.0 * v).powi(3) * (1u32 << spread) as f32) as i32).collect();
        let bytes = encoded(&indices, width, taps, signs);
        let (back, end) = decoded(&bytes, rows, width, taps, signs).unwrap();
        prop_assert_eq!(back, indices.clone());
        prop_assert!(end);
        let bits = counted(&indices, width, taps, signs);
        let written = (8 * bytes.len()) as f64;
        prop_assert!((written - bits).abs() <= 0.005 * bits + 72.0, "{written} written, {bits} counted");
    }

    /// Whatever the bytes, a decoder ends, and gives indices or a sentence.
    #[test]
    fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300), width in 1usize..40, signs in any::<bool>()) {
        if let Ok((indices, _)) = decoded(&bytes, 5, width, 9, signs) {
            prop_assert!(indices.iter().all(|q| q.unsigned_abs() < 1 << 24));
        }
    }

    #[test]
    fn side_information_comes_back(numbers in prop::collection::vec(-70_000i32..70_000, 0..100), symbols in prop::collection::vec(0u32..32, 0..100)) {
        let (mut encoder, mut n, mut s) = (Encoder::default(), Numbers::default(), Symbols::new(5));
        numbers.iter().for_each(|&v| assert_eq!(n.code(&mut encoder, v), v));
        symbols.iter().for_each(|&v| assert_eq!(s.code(&mut encoder, v), v));
        let bytes = encoder.finish();
        let (mut decoder, mut n, mut s) = (Decoder::new(&bytes), Numbers::default(), Symbols::new(5));
        for &v in &numbers {
            prop_assert_eq!(n.code(&mut decoder, 0), v);
        }
        for &v in &symbols {
            prop_assert_eq!(s.code(&mut decoder, 0), v);
        }
        prop_assert!(decoder.at_end());
    }
}

/// Bytes between decisions and raw bits are not left unnoticed, but for those that the range decoder reads ahead.
#[test]
fn bytes_that_nothing_reads_are_noticed() {
    let place = Place { class: 0, decision: 0 };
    let mut encoder = Encoder::default();
    encoder.code(true, 1 << 15, place);
    encoder.raw(0xabc, 12);
    let bytes = encoder.finish();
    // A byte of decisions, two of raw bits, the first bits last.
    assert_eq!(bytes, [0, 0xc0, 0xab]);
    for (unread, end) in [(0, true), (7, true), (8, false), (100, false)] {
        let longer = [&bytes[..1], &vec![0xff; unread], &bytes[1..]].concat();
        let mut decoder = Decoder::new(&longer);
        assert!(decoder.code(false, 1 << 15, place));
        assert_eq!(decoder.raw(0, 12), 0xabc);
        assert_eq!(decoder.at_end(), end, "{unread}");
    }
}

/// Indices from −2²⁴ + 1 to 2²⁴ − 1, and none beyond.
#[test]
fn the_greatest_index_comes_back() {
    let greatest = (1 << 24) - 1;
    for signs in [false, true] {
        let indices = [greatest, -greatest, 0, 1, -1, 14, -15, 1 << 20];
        let bytes = encoded(&indices, 4, 1, signs);
        assert_eq!(decoded(&bytes, 2, 4, 1, signs).unwrap().0, indices);
    }
    let (mut plane, mut encoder) = (Plane::new(1, 1, false), Encoder::default());
    assert!(plane.row(&mut encoder, &mut [1 << 24], |_| 0).is_err());
}

/// A Laplacian source quantized to about 2 bits: within 2 % of its entropy, learning included.
#[test]
fn memoryless_indices_take_their_entropy() {
    let uniform = noise(64 * 576, 7);
    let indices: Vec<i32> = uniform
        .iter()
        .map(|&u| (1.2 * f64::from(u).signum() * -(1.0 - f64::from(2.0 * u.abs()).min(0.999_999)).ln()).round() as i32)
        .collect();
    let mut counts = std::collections::HashMap::new();
    indices.iter().for_each(|q| *counts.entry(q).or_insert(0u32) += 1);
    let n = indices.len() as f64;
    let entropy: f64 = counts.values().map(|&c| f64::from(c) * -(f64::from(c) / n).log2()).sum();
    let bits = counted(&indices, 576, 9, false);
    assert!(bits < 1.02 * entropy && bits > 0.99 * entropy, "{} bits for an entropy of {}", bits / n, entropy / n);
}

/// A matrix whose rows and columns have scales of their own: contexts find them.
#[test]
fn scales_of_rows_and_columns_are_learnt() {
    let (rows, width) = (64, 288);
    let values = noise(rows * width, 3);
    let scale = |k: usize| 2f32.powi((k * 7 % 5) as i32 - 2);
    let quantized = |local: bool| -> Vec<i32> {
        (0..rows * width)
            .map(|i| {
                (4.0 * values[i] * if local { scale(i / width) * scale(i % width / 9) } else { scale(values[i].to_bits() as usize) })
                    .round() as i32
            })
            .collect()
    };
    // The same magnitudes in no order, for comparison.
    let mut mixed = quantized(true);
    mixed.sort_by_key(|q| q.wrapping_mul(40_503));
    let order: Vec<usize> = {
        let keys = noise(mixed.len(), 9);
        let mut o: Vec<usize> = (0..keys.len()).collect();
        o.sort_by(|a, b| keys[*a].total_cmp(&keys[*b]));
        o
    };
    let shuffled: Vec<i32> = order.iter().map(|&i| mixed[i]).collect();
    let (structured, without) = (counted(&quantized(true), width, 9, false), counted(&shuffled, width, 9, false));
    assert!(structured < 0.85 * without, "{structured} bits, {without} without structure");
}

/// Signs have contexts where they agree with those around them, and not by chance.
#[test]
fn signs_agree_where_they_do() {
    for (rows, width) in [(1, 1), (1, 300), (40, 90), (300, 1)] {
        let noise: Vec<i32> = noise(rows * width, 11).iter().map(|v| (6.0 * v) as i32).collect();
        assert!(!signs_agree(&noise, width, 9), "{rows} x {width}");
        let stripes: Vec<i32> = (0..rows * width).map(|i| noise[i].abs() * if i % width % 9 < 4 { 1 } else { -1 }).collect();
        assert_eq!(signs_agree(&stripes, width, 9), rows * width > 100);
        if rows * width > 1000 {
            assert!(counted(&stripes, width, 9, true) < 0.8 * counted(&stripes, width, 9, false));
        }
    }
    assert!(!signs_agree(&[], 0, 1));
}

/// The recorder counts what the counter counts, and its costs, weighed by how often they were met, add up to that.
#[test]
fn records_are_counts() {
    // Ten small rows, ten large ones, and so on.
    let large = |i: usize| if i / 900 % 2 == 1 { 8.0 } else { 2.0 };
    let indices: Vec<i32> = noise(40 * 90, 5).iter().enumerate().map(|(i, v)| (large(i) * (2.0 * v).powi(3)).round() as i32).collect();
    let (mut plane, mut record) = (Plane::new(90, 9, false), Record::new());
    for row in indices.clone().chunks_mut(90) {
        plane.row(&mut record, row, |_| 0).unwrap();
    }
    assert!((record.bits() - counted(&indices, 90, 9, false)).abs() < 1e-9);
    let zero = (0..Record::CLASSES).filter_map(|class| record.cost(Place { class, decision: 0 }, false)).collect::<Vec<_>>();
    assert!(zero.len() > 3 && zero.iter().all(|c| (0.0..16.0).contains(c)));
    // Among large neighbours a zero is rarer.
    assert!(zero[0] < *zero.last().unwrap());
}
