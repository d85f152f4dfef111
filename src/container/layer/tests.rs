//! Bodies with scales of columns and gains of output channels.

use proptest::prelude::*;

use super::*;
use crate::{
    entropy::{Coder, Numbers, Symbols, range::Encoder},
    io::Order,
    testing,
};

fn shape(groups: usize, outputs: usize, inputs: usize, taps: usize) -> LayerShape {
    LayerShape { groups, outputs, inputs, taps, columns: taps, order: Order::OutIn }
}

/// A convolution, dense layers, a depthwise and a grouped one, a single weight, and one that has none.
fn shapes() -> [LayerShape; 7] {
    [shape(1, 5, 3, 9), shape(1, 9, 4, 1), shape(6, 1, 1, 9), shape(2, 3, 4, 3), shape(1, 1, 1, 1), shape(1, 40, 1, 1), shape(1, 0, 2, 1)]
}

/// What a body holds besides indices and rows' scales.
#[derive(Debug, Clone, Copy)]
struct With {
    coding: Coding,
    columns: bool,
    gains: bool,
    trellis: Trellis,
}

/// All that can be together.
fn all() -> Vec<With> {
    let with = |coding, columns, gains, trellis| With { coding, columns, gains, trellis };
    let adaptive = Trellis::ALL.iter().flat_map(|&trellis| {
        [(true, false), (false, true), (true, true)].map(|(columns, gains)| with(Coding::Adaptive, columns, gains, trellis))
    });
    adaptive.chain([with(Coding::Fixed, false, true, Trellis::None)]).collect()
}

/// Side information and indices that are made up, as [`read`] gives them; rows in up to three blocks, of which the second is not stored.
fn made_up(shape: &LayerShape, with: With, seed: u64) -> (LayerCode, Indices) {
    let mut seeds = seed..;
    let mut integers = |n: usize, least: i32, greatest: i32| -> Vec<i32> {
        let values = testing::noise(n, seeds.next().unwrap_or_default());
        values.iter().map(|v| least + ((v + 0.5) * (greatest - least + 1) as f32) as i32).collect()
    };
    let geometry = Geometry::new(shape, TransformKind::None).unwrap();
    let (rows, adaptive) = (geometry.rows(), with.coding == Coding::Adaptive);
    let blocks = rows.clamp(1, 3);
    let block_of_row: Vec<u16> = integers(rows, 0, blocks as i32 - 1).iter().map(|b| *b as u16).collect();
    let steps = integers(blocks, 120, 200);
    let blocks = steps.iter().enumerate().map(|(i, step)| match (i, adaptive) {
        (1, _) => BlockCode { depth: 0, step: Step(0), basis_depth: 0, basis_step: Step(0) },
        (_, true) => BlockCode { depth: 1, step: Step(*step as u8), basis_depth: 0, basis_step: Step(0) },
        (_, false) => BlockCode { depth: 5, step: Step(*step as u8), basis_depth: 0, basis_step: Step(0) },
    });
    let mut scales = |n: usize| -> Vec<Scale> { integers(n, 0, 63).iter().map(|s| Scale(*s as u8)).collect() };
    let row_scales: Vec<Scale> =
        scales(rows).iter().zip(&block_of_row).map(|(scale, block)| if adaptive && *block == 1 { Scale::ONE } else { *scale }).collect();
    let columns = with.columns.then(|| {
        let (channels, taps) = ColumnScales::lengths(shape);
        let kernels = [TransformKind::None, TransformKind::IntraDct1, TransformKind::IntraDct2][(seed / 3 % 3) as usize];
        let kernels = if dct::exists(shape, kernels) { kernels } else { TransformKind::None };
        ColumnScales { channels: scales(channels), taps: scales(taps), sorted: !seed.is_multiple_of(3), kernels }
    });
    let coarseness = (seed % (u64::from(Gains::COARSEST) + 1)) as u8;
    let most = ((256 * Gains::RANGE) >> coarseness).min(if with.coding == Coding::Fixed { 127 } else { i32::MAX });
    let codes = integers(shape.groups * shape.outputs, -most, most).iter().map(|c| *c as i16).collect();
    let code = LayerCode {
        kind: TransformKind::None,
        geometry,
        period: period(shape, TransformKind::None),
        exponent: integers(1, -9, 9)[0] as i16,
        block_of_row,
        scales: (seed % 4 != 3).then_some(row_scales),
        columns,
        gains: with.gains.then_some(Gains { coarseness, codes }),
        blocks: blocks.collect(),
        second: None,
        folded: seed % 2 == 1,
        trellis: with.trellis,
    };
    let mut indices = code.no_indices();
    let width = geometry.width.max(1);
    for (row, indices) in indices.coefficients.chunks_mut(width).enumerate().filter(|(row, _)| code.is_used(*row)) {
        // Mostly small.
        let (a, b) = (integers(indices.len(), -4, 3), integers(indices.len(), 0, 4 + (row % 3) as i32));
        indices.iter_mut().zip(a.iter().zip(b)).for_each(|(index, (a, b))| *index = a * b / 2);
    }
    (code, indices)
}

/// The weights as docs/format.md has them, one by one.
fn by_the_page(code: &LayerCode, indices: &Indices, shape: &LayerShape) -> Vec<f32> {
    let LayerShape { groups, outputs, inputs, taps, .. } = *shape;
    let mut walk = Walk::new(code.trellis);
    let mut weights = Vec::new();
    for row in 0..groups * outputs {
        if code.columns.is_some() {
            walk = Walk::new(code.trellis);
        }
        let coded = &indices.coefficients[row * inputs * taps..(row + 1) * inputs * taps];
        let level = |index: &i32| if code.trellis == Trellis::None || !code.is_used(row) { *index } else { walk.pass(*index) };
        let levels: Vec<i32> = coded.iter().map(level).collect();
        let coefficient = |column: usize| -> f32 {
            let (group, channel, tap) = (row / outputs, column / taps, column % taps);
            // Columns come in the layer's order, or by their scales; those that are weights by their channels' alone.
            let place = match &code.columns {
                Some(ColumnScales { channels, taps: of_taps, sorted: true, kernels }) => {
                    let own = |tap: usize| if *kernels == TransformKind::None { 0 } else { i32::from(of_taps[tap].0) };
                    let code = |other: usize| (i32::from(channels[group * inputs + other / taps].0) + own(other % taps), other);
                    (0..inputs * taps).filter(|&other| code(other) < code(column)).count()
                }
                _ => column,
            };
            let level = levels[place];
            let scale = code.scales.as_ref().map_or(1.0, |s| s[row].size());
            let value = level as f32 * (code.blocks[usize::from(code.block_of_row[row])].step.size() * scale);
            let columns = code.columns.as_ref();
            value * columns.map_or(1.0, |columns| columns.channels[group * inputs + channel].size() * columns.taps[tap].size())
        };
        let basis = code.columns.as_ref().and_then(|columns| dct::basis(shape, columns.kernels));
        for column in 0..inputs * taps {
            if !code.is_used(row) {
                weights.push(0.0);
                continue;
            }
            let (first, tap) = (column / taps * taps, column % taps);
            let mut weight = match &basis {
                Some(basis) => (0..taps).fold(0f32, |sum, k| sum + basis[k * taps + tap] * coefficient(first + k)),
                None => coefficient(column),
            };
            let half = i32::from(code.exponent) / 2;
            weight = weight * quantize::power_of_two(half) * quantize::power_of_two(i32::from(code.exponent) - half);
            weights.push(code.gains.as_ref().map_or(weight, |gains| weight * gains.sizes().nth(row).unwrap()));
        }
    }
    weights
}

fn bits(weights: &[f32]) -> Vec<u32> {
    weights.iter().map(|w| w.to_bits()).collect()
}

/// Encodes, reads, decodes; returns the body.
fn round_trip(shape: &LayerShape, with: With, seed: u64) -> Vec<u8> {
    let (code, indices) = made_up(shape, with, seed);
    let body = encode(&code, with.coding, &indices);
    let found = read(&body, shape).unwrap();
    assert_eq!((&found.code, found.coding, &found.indices), (&code, with.coding, &indices), "{shape:?} {with:?}");
    let weights = decode(&body, shape).unwrap();
    assert_eq!(bits(&weights), bits(&by_the_page(&code, &indices, shape)), "{shape:?} {with:?}");
    assert_eq!(is_folded(&body), code.folded);
    if with.coding == Coding::Adaptive {
        // To within what fills the last byte of the range code and of raw bits.
        let (counted, written) = (count(&code, &indices), 8.0 * body.len() as f64);
        assert!((written - counted).abs() < 0.005 * counted + 17.0, "{shape:?} {with:?}: {counted} counted, {written} written");
    }
    body
}

#[test]
fn scales_of_columns_and_gains_come_back() {
    for (shape, with, seed) in shapes().iter().flat_map(|s| all().into_iter().flat_map(move |w| (0..8).map(move |seed| (s, w, seed)))) {
        round_trip(shape, with, seed);
    }
}

/// A body gets gains, or others; nothing else of it changes.
#[test]
fn gains_are_put_into_bodies() {
    for (shape, with) in shapes().iter().flat_map(|s| all().into_iter().map(move |w| (s, w))) {
        let (code, indices) = made_up(shape, with, 5);
        let body = encode(&code, with.coding, &indices);
        let gains = Gains { coarseness: 2, codes: (0..shape.groups * shape.outputs).map(|c| c as i16 - 3).collect() };
        let matched = with_gains(&body, shape, gains.clone()).unwrap();
        let found = read(&matched, shape).unwrap();
        assert_eq!((found.code, found.indices), (LayerCode { gains: Some(gains.clone()), ..code }, indices));
        let more = Gains { codes: [&gains.codes[..], &[0]].concat(), ..gains.clone() };
        let coarse = Gains { coarseness: 8, ..gains };
        for gains in [more, coarse] {
            assert!(with_gains(&body, shape, gains).is_err());
        }
    }
}

/// Whatever a byte of a body is, it is an error or decodes to the right number of weights; and what decodes, encodes to the same again.
#[test]
fn forged_bodies_are_refused_or_decode() {
    let said = |forged: &[u8], shape: &LayerShape| {
        let Ok(found) = read(forged, shape) else {
            assert!(decode(forged, shape).is_err());
            return;
        };
        let weights = decode(forged, shape).unwrap();
        assert_eq!(weights.len(), shape.weights());
        let again = encode(&found.code, found.coding, &found.indices);
        assert_eq!(bits(&decode(&again, shape).unwrap()), bits(&weights));
    };
    for (shape, with) in shapes()[..5].iter().flat_map(|s| all().into_iter().map(move |w| (s, w))) {
        let body = round_trip(shape, with, 2);
        for at in 0..body.len() {
            let values: Vec<u8> =
                if at < 2 { (0..=255).collect() } else { (0..8).map(|bit| body[at] ^ 1 << bit).chain([0, 255]).collect() };
            for value in values {
                let mut forged = body.clone();
                forged[at] = value;
                said(&forged, shape);
            }
            said(&body[..at], shape);
            said(&[&body[..at], &[0x55], &body[at..]].concat(), shape);
        }
    }
}

/// Scales of columns go with no transform, or a cosine transform within kernels that exists, and with adaptive coding alone.
#[test]
fn columns_have_no_scales_elsewhere() {
    let shape = shape(1, 4, 3, 9);
    let code = |columns, coding| made_up(&shape, With { coding, columns, gains: true, trellis: Trellis::None }, 0);
    let (adaptive, indices) = code(true, Coding::Adaptive);
    let mut body = encode(&adaptive, Coding::Adaptive, &indices);
    assert_eq!(body[0], SCALED | COLUMNS | GAINS);
    for kind in 1..=0x0fu8 {
        body[0] = SCALED | COLUMNS | GAINS | kind;
        let cosine =
            [TransformKind::IntraDct1, TransformKind::IntraDct2].into_iter().find(|k| TransformKind::ALL[usize::from(kind % 10)] == *k);
        match cosine.filter(|_| kind < 10) {
            Some(kernels) => {
                let columns = read(&body, &shape).unwrap().code.columns.unwrap();
                assert_eq!((columns.kernels, columns.taps.len()), (kernels, 9));
                // Nine positions, but no kernel of known sides.
                let unknown = LayerShape { columns: 0, ..shape };
                assert_eq!(read(&body, &unknown).unwrap_err(), "its transform does not exist for its shape");
            }
            None => assert!(read(&body, &shape).unwrap_err().contains(if kind < 10 {
                "columns where there can be none"
            } else {
                "transform is unknown"
            })),
        }
    }
    let (fixed, indices) = code(false, Coding::Fixed);
    let mut body = encode(&fixed, Coding::Fixed, &indices);
    assert_eq!(body[0], SCALED | GAINS);
    body[0] |= COLUMNS;
    assert!(read(&body, &shape).unwrap_err().contains("columns where there can be none"));
}

#[test]
fn gains_in_fixed_lengths_are_in_range() {
    let shape = shape(1, 1, 1, 1);
    let with = With { coding: Coding::Fixed, columns: false, gains: true, trellis: Trellis::None };
    let (mut code, indices) = made_up(&shape, with, 3);
    let mut said = |coarseness: u8, gain: i16| {
        code.gains = Some(Gains { coarseness, codes: vec![gain] });
        read(&encode(&code, Coding::Fixed, &indices), &shape).map(|found| found.code.gains.unwrap().codes[0])
    };
    for coarseness in 0..=Gains::COARSEST {
        let most = (2048 >> coarseness).min(127);
        for gain in [-most, most] {
            assert_eq!(said(coarseness, gain), Ok(gain));
            if most < 127 {
                assert_eq!(said(coarseness, gain + gain.signum()), Err("a gain is out of range".into()));
            }
        }
    }
    assert_eq!(said(4, -128), Ok(-128));
    // Other bodies cannot hold what does not fit eight bits.
    let body = encode(&made_up(&shape, With { gains: false, ..with }, 3).0, Coding::Fixed, &indices);
    let put = |code| with_gains(&body, &shape, Gains { coarseness: 0, codes: vec![code] });
    assert!(put(127).is_ok() && put(128).is_err() && put(-129).is_err());
    for (coarseness, gain) in [(8, 0), (255, 0), (255, -128), (5, -128), (7, 127)] {
        assert_eq!(said(coarseness, gain), Err("a gain is out of range".into()));
    }
}

/// A pruned layer of one group whose side information is written number by number: that channels are sorted; scales of channels and taps, each told from the one
/// before; of gains coarseness and mean, and how each differs from it.
fn by_hand(channels: &[i32], taps: &[i32], (coarseness, mean): (u32, i32), gains: &[i32]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for (bits, count) in [(0, 16), (0, 8), (0, 2)] {
        encoder.raw(bits, count);
    }
    Symbols::new(1).code(&mut encoder, 0);
    encoder.half(true);
    for scales in [channels, taps] {
        let mut numbers = Numbers::default();
        scales.iter().for_each(|s| assert_eq!(numbers.code(&mut encoder, *s), *s));
    }
    encoder.raw(coarseness, 3);
    Numbers::default().code(&mut encoder, mean);
    let mut numbers = Numbers::default();
    gains.iter().for_each(|g| assert_eq!(numbers.code(&mut encoder, *g), *g));
    encoder.half(false);
    [&[COLUMNS | GAINS, Coding::Adaptive as u8][..], &encoder.finish()].concat()
}

#[test]
fn adaptively_coded_scales_and_gains_are_in_range() {
    let shape = shape(1, 2, 2, 3);
    // Of numbers the greatest there are.
    const MOST: i32 = (1 << 17) - 1;
    let said = |channels: [i32; 2], taps: [i32; 3], unit, gains: [i32; 2]| read(&by_hand(&channels, &taps, unit, &gains), &shape);
    let found = said([63, -63], [5, 2, -7], (7, -3), [19, -13]).unwrap().code;
    let (channels, taps) = (vec![Scale(63), Scale(0)], vec![Scale(5), Scale(7), Scale(0)]);
    assert_eq!(found.columns, Some(ColumnScales { channels, taps, sorted: true, kernels: TransformKind::None }));
    assert_eq!(found.gains, Some(Gains { coarseness: 7, codes: vec![16, -16] }));
    // A mean may be anything.
    for mean in [MOST, -MOST] {
        assert_eq!(said([0; 2], [0; 3], (0, mean), [-mean; 2]).unwrap().code.gains.unwrap().codes, [0, 0]);
    }
    for channels in [[64, 0], [-1, 0], [63, 1], [0, -1], [MOST, -MOST], [-MOST, MOST], [MOST, MOST]] {
        let (tap, taps) = (channels[0], [0, channels[0], channels[1]]);
        assert_eq!(said(channels, [0; 3], (0, 0), [0; 2]).unwrap_err(), "a scale is out of range");
        assert_eq!(said([0; 2], taps, (0, 0), [0; 2]).unwrap_err(), "a scale is out of range", "{tap}");
    }
    for (unit, gain) in
        [((0, 0), 2049), ((0, 2049), 0), ((7, 0), 17), ((7, -17), 0), ((0, MOST), MOST), ((0, -MOST), -MOST), ((7, 0), MOST)]
    {
        assert_eq!(said([0; 2], [0; 3], unit, [-unit.1, gain]).unwrap_err(), "a gain is out of range");
    }
}

/// Known answers: what is written, and what it decodes to, must not change.
#[test]
fn golden_bodies() {
    let shape = shape(2, 2, 2, 3);
    let with = |coding| With { coding, columns: coding == Coding::Adaptive, gains: true, trellis: Trellis::None };
    let (mut adaptive, indices) = made_up(&shape, With { trellis: Trellis::Eight, ..with(Coding::Adaptive) }, 4);
    let (mut fixed, _) = made_up(&shape, with(Coding::Fixed), 4);
    adaptive.columns.as_mut().unwrap().kernels = TransformKind::None;
    for (code, last) in [(&mut adaptive, 255), (&mut fixed, 100)] {
        code.block_of_row = vec![0, 0, 1, 2];
        code.gains = Some(Gains { coarseness: 3, codes: vec![-40, 7, 0, last] });
    }
    let indices = Indices { coefficients: (0..24).map(|i| if (12..18).contains(&i) { 0 } else { (i * 7 % 11) - 5 }).collect(), ..indices };
    // What docs/tq.py makes of the bytes, too.
    let known: [(&LayerCode, Coding, &[u8], [u32; 24]); 2] = [
        (
            &adaptive,
            Coding::Adaptive,
            &[
                208, 1, 99, 179, 67, 201, 32, 205, 237, 53, 180, 234, 77, 197, 230, 29, 197, 248, 49, 184, 214, 167, 149, 6, 192, 174, 77,
                134, 188, 240, 187, 227, 202, 177, 126, 161, 2, 0, 0,
            ],
            [
                821177757, 892667123, 3026339376, 2973648365, 905969664, 3024093183, 828338024, 3053093811, 3045911060, 835889182, 0,
                3048285174, 0, 0, 0, 0, 0, 0, 0, 3201476637, 1025375766, 3084036126, 3192342644, 1009853429,
            ],
        ),
        (
            &fixed,
            Coding::Fixed,
            &[
                144, 0, 8, 0, 2, 5, 180, 0, 0, 5, 198, 144, 174, 86, 29, 3, 216, 7, 0, 100, 75, 186, 26, 27, 133, 108, 190, 5, 217, 124,
                75, 2,
            ],
            [
                3179711261, 1020740860, 3168224508, 1032227613, 1012352252, 3173086141, 1083503855, 0, 3230987503, 1079996263, 3214210287,
                3233428011, 0, 0, 0, 0, 0, 0, 0, 3314259394, 1162961059, 3297482178, 3316546354, 1158387138,
            ],
        ),
    ];
    for (code, coding, bytes, weights) in known {
        let body = encode(code, coding, &indices);
        assert_eq!(body, bytes, "what is written changed");
        assert_eq!(bits(&decode(&body, &shape).unwrap()), weights, "decoded bits changed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_body(groups in 1usize..5, n in 1usize..12, m in 1usize..12, k in 1usize..10, which in 0usize..10, seed in 0u64..1 << 40) {
        let with = all();
        round_trip(&shape(groups, n, m, k), with[which % with.len()], seed);
    }
}
