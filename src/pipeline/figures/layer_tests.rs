//! Tests of the figures of one layer.

use std::rc::Rc;

use super::{
    histogram::cells,
    part::{Part, spaced},
    tests::{chart, made, series, session},
    *,
};
use crate::{
    container::layer,
    data,
    io::{LayerShape, Order, source::BytesSource},
    pipeline::{Opened, calibrate::Memory, evaluate, job::run, open},
    quantize::{self, UNCLIPPED, index},
    rate::{Plan, curve},
    report::{
        Budget, CalibrationSettings, Coding, CurveSettings, Method, TransformChoice, TransformKind,
        figure::{Chart, Content, Panel, Picture},
    },
    testing::noise,
    transform::gain,
};

const SAMPLES: [(&str, &[u8]); 3] = [
    ("resnet-digits.onnx", include_bytes!("../../../www/samples/resnet-digits.onnx")),
    ("alexnet-digits.onnx", include_bytes!("../../../www/samples/alexnet-digits.onnx")),
    ("densenet-digits.onnx", include_bytes!("../../../www/samples/densenet-digits.onnx")),
];

fn source(name: &str, bytes: &[u8]) -> Rc<BytesSource> {
    Rc::new(BytesSource::new(name, bytes.to_vec()))
}

/// A sample network with its curves, calibrated on so many images.
fn opened((name, bytes): (&str, &[u8]), settings: CurveSettings, images: usize) -> Session {
    let Ok(Opened::Model(mut session)) = open(vec![source(name, bytes)]) else { panic!("{name} is a model") };
    if images > 0 {
        let digits = source("digits-test.npz", include_bytes!("../../../www/samples/digits-test.npz"));
        let data = data::open(vec![data::Entry { path: "digits-test.npz".into(), source: digits }]).unwrap();
        let preprocessing = evaluate::preprocessing(&session.runnable().unwrap(), &data).unwrap();
        let of = CalibrationSettings { images, ..CalibrationSettings::default() };
        let calibrator = session.calibrator(&data, preprocessing, of, Memory::default()).unwrap();
        run(calibrator.job(), &mut |_| Ok(())).unwrap();
        session.set_statistics(Some(calibrator.statistics()));
    }
    let curves = run(session.curves_job(settings), &mut |_| Ok(())).unwrap();
    session.set_curves(settings, curves);
    *session
}

fn fed_back() -> CurveSettings {
    CurveSettings { coding: Coding::Entropy, method: Method::Feedback, ..CurveSettings::default() }
}

fn of(transform: TransformChoice, bits: f64) -> AllocationSettings {
    AllocationSettings { budget: Budget::Bits(bits), transform, feedback: false, ..AllocationSettings::default() }
}

fn picture(figure: &Figure, panel: usize) -> &Picture {
    let Content::Picture(picture) = &figure.panels[panel].content else { panic!("a chart") };
    picture
}

/// Every figure of every layer is there, or one sentence says why not; with numbers in every panel.
fn all_figures(session: &Session, settings: &AllocationSettings, of: usize) {
    for layer in (0..session.layers.len()).step_by(of) {
        for which in Which::ALL.into_iter().filter(|w| w.of_layer()) {
            let name = session.layer_name(layer);
            match session.figure(which, layer, settings) {
                Err(error) => {
                    let words = error.to_string();
                    let may = matches!(which, Which::Spectrum | Which::RowGains | Which::Intra);
                    assert!(may && words.starts_with(&name) && words.ends_with('.') && words.contains("choose"), "{which:?}: {words}");
                }
                Ok(Making { job, finish }) => {
                    let figure = finish(run(job, &mut |_| Ok(())).unwrap());
                    assert!(figure.caption.ends_with('.') && figure.title.contains(&name), "{}", figure.caption);
                    assert!(!figure.caption.contains("  ") && !figure.caption.contains("NaN"), "{}", figure.caption);
                    for panel in &figure.panels {
                        let numbers = panel.table().rows.iter().flatten().filter(|c| c.parse::<f64>().is_ok()).count();
                        assert!(numbers > 0, "{which:?} of {name}: {} is empty", panel.name);
                    }
                    assert!(!figure.panels.is_empty());
                }
            }
        }
    }
}

#[test]
fn every_layer_of_the_samples_has_every_figure_or_a_sentence() {
    for sample in SAMPLES {
        let session = opened(sample, CurveSettings::default(), 0);
        all_figures(&session, &AllocationSettings::default(), 1);
        // Pruned, and kept.
        let last = session.layers.len() - 1;
        let settings = AllocationSettings { locks: vec![(0, 0)], excludes: vec![last], ..AllocationSettings::default() };
        all_figures(&session, &settings, last.max(1));
    }
}

#[test]
fn every_layer_has_every_figure_with_calibration_and_errors_fed_back() {
    let session = opened(SAMPLES[0], fed_back(), 60);
    let settings = AllocationSettings { budget: Budget::Bits(2.0), ..AllocationSettings::default() };
    let (allocation, _) = session.allocate(&settings).unwrap();
    let fed =
        |i: usize, p: &Plan| matches!(p, Plan::Quantized { candidate, .. } if session.curves[i].candidates[*candidate].feedback.is_some());
    assert!(allocation.plans.iter().enumerate().any(|(i, p)| fed(i, p)));
    all_figures(&session, &settings, 1);
    all_figures(&session, &of(TransformChoice::EltCol, 2.0), 2);
}

#[test]
fn shares_of_histograms_are_all_of_the_coefficients() {
    let session = session();
    for settings in [of(TransformChoice::KltCol, 3.0), of(TransformChoice::None, 2.0)] {
        let figure = made(&session, Which::Histogram, 2, &settings);
        assert_eq!(figure.panels.len(), 2);
        for panel in 0..2 {
            let chart = chart(&figure, panel);
            let sum = |s: &crate::report::figure::Series| s.points.iter().map(|p| p[1]).sum::<f64>();
            for shares in chart.series.iter().filter(|s| s.name != "levels") {
                assert!((sum(shares) - 100.0).abs() < 1e-9, "{}: {}", shares.name, sum(shares));
            }
        }
        let cells = chart(&figure, 0);
        assert!(series(cells, "levels").points.iter().all(|p| p[1] == 0.0) && !cells.marks.is_empty() && cells.marks.len() <= 24);
    }
}

#[test]
fn cells_are_those_of_the_quantizer() {
    for depth in [1, 2, 3, 5, 8, 10, UNCLIPPED] {
        for step in [0.03f32, 1.0, 7.5] {
            let (levels, thresholds) = cells(step.into(), depth);
            assert_eq!(levels.len(), thresholds.len() + 1);
            assert!(levels.len() <= 25 && levels.contains(&0.0));
            for (i, threshold) in thresholds.iter().enumerate() {
                let at = |v: f64| index(v as f32, 1.0 / step, depth);
                let near = 1e-4 * f64::from(step);
                let (below, above) = (at(threshold - near), at(threshold + near));
                assert_eq!(above, below + 1, "{depth} bits: {threshold}");
                assert!((f64::from(below) * f64::from(step) - levels[i]).abs() < 1e-6 * f64::from(step));
            }
        }
    }
    assert_eq!(cells(1.0, 0), (vec![0.0], Vec::new()));
}

#[test]
fn the_share_of_zeros_is_that_of_the_indices() {
    let session = session();
    let settings = of(TransformChoice::None, 2.0);
    let figure = made(&session, Which::Histogram, 2, &settings);
    let share: f64 = figure.caption.split(' ').next().unwrap().parse().unwrap();
    let (allocation, _) = session.allocate(&settings).unwrap();
    let encoded = run(session.encode_some_job(&allocation, vec![2]), &mut |_| Ok(())).unwrap();
    let indices = layer::read(encoded[0].body.as_ref().unwrap(), &session.layers[2].1).unwrap().indices.coefficients;
    let zeros = 100.0 * indices.iter().filter(|q| **q == 0).count() as f64 / indices.len() as f64;
    assert!((share - zeros).abs() < 0.051, "{share} for {zeros}");
}

/// The least of every curve is where the search was, or next to it.
#[test]
fn steps_that_were_searched_are_the_best_of_their_curves() {
    let plain = session();
    let calibrated = opened(SAMPLES[0], CurveSettings::default(), 60);
    for (session, within, worse) in [(&plain, 1.01, 0.02), (&calibrated, 6.01, 3.0)] {
        for transform in [TransformChoice::None, TransformChoice::KltRow, TransformChoice::IntraKlt] {
            let figure = made(session, Which::Steps, 3, &of(transform, 3.0));
            let chart = chart(&figure, 0);
            let dots = &series(chart, "step that the search took").points;
            let curves: Vec<_> = chart.series.iter().filter(|s| s.name.ends_with("bit") || s.name.ends_with("bits")).collect();
            assert_eq!((curves.len(), dots.len()), (7, 7));
            for (curve, dot) in curves.iter().zip(dots) {
                let least = curve.points.iter().min_by(|a, b| a[1].total_cmp(&b[1])).unwrap();
                let apart = 8.0 * (least[0] - dot[0]).abs();
                assert!(apart < within || dot[1] - least[1] < worse, "{transform:?}, {}: {dot:?} for {least:?}", curve.name);
                assert!(curve.points.contains(dot));
            }
            // Valleys; those of the least depths are flat.
            for curve in &curves[2..] {
                let least = curve.points.iter().map(|p| p[1]).fold(f64::INFINITY, f64::min);
                assert!(curve.points[0][1] > least + 0.5 && curve.points.last().unwrap()[1] > least + 0.5, "{}", curve.name);
            }
            let depths: Vec<f64> = dots.iter().map(|d| d[1]).collect();
            assert!(depths.is_sorted_by(|a, b| a > b), "every bit is worth something: {depths:?}");
        }
    }
}

/// The distortions of the curve of a block are those that the curve of the layer has.
#[test]
fn curves_of_steps_are_in_the_measure_of_the_allocation() {
    for session in [session(), opened(SAMPLES[0], CurveSettings::default(), 60)] {
        let settings = of(TransformChoice::KltCol, 3.0);
        let given = session.given(2, &settings).unwrap().unwrap();
        let figure = made(&session, Which::Steps, 2, &settings);
        let block = given.strongest().unwrap().0;
        for (depth, dot) in [1, 2, 3, 4, 5, 6, 8].into_iter().zip(&series(chart(&figure, 0), "step that the search took").points) {
            let choice: &crate::quantize::search::Choice = &given.candidate.blocks[block].coefficients[depth];
            assert!((dot[1] - decibels(choice.distortion)).abs() < 0.1, "{depth}: {} for {}", dot[1], decibels(choice.distortion));
        }
    }
}

#[test]
fn kernels_are_those_read_and_those_that_the_decoder_gives() {
    let entropy = CurveSettings { coding: Coding::Entropy, ..CurveSettings::default() };
    for (session, transform) in [
        (session(), TransformChoice::KltRow),
        (opened(SAMPLES[0], entropy, 0), TransformChoice::IntraKlt),
        (opened(SAMPLES[0], fed_back(), 60), TransformChoice::Auto),
    ] {
        let (layer, settings) = (2, AllocationSettings { feedback: true, ..of(transform, 2.0) });
        let figure = made(&session, Which::Kernels, layer, &settings);
        let (tensor, shape) = session.layers[layer];
        let before = session.read(tensor).unwrap();
        let (allocation, _) = session.allocate(&settings).unwrap();
        let encoded = run(session.encode_some_job(&allocation, vec![layer]), &mut |_| Ok(())).unwrap();
        let after = layer::decode(encoded[0].body.as_ref().unwrap(), &shape).unwrap();
        let LayerShape { inputs, taps, columns, outputs, .. } = shape;
        assert!(taps == 9 && columns == 3 && outputs >= 4 && inputs >= 4, "{shape:?}");
        for (panel, weights) in [(0, &before), (1, &after)] {
            let picture = picture(&figure, panel);
            assert_eq!(picture.full, picture_full(&figure), "one scale");
            for (output, input, tap) in [(0, 0, 0), (3, 2, 7), (1, 3, 5)] {
                let (y, x) = (output * 4 + tap / 3, input * 4 + tap % 3);
                assert_eq!(
                    picture.values[y * picture.width + x],
                    weights[(output * inputs + input) * taps + tap],
                    "{output} {input} {tap}"
                );
            }
            assert!(picture.values[3].is_nan(), "a gap");
        }
        let [difference, before, after] = [figure.panels.len() - 1, 0, 1].map(|p| &picture(&figure, p).values);
        for (d, (b, a)) in difference.iter().zip(before.iter().zip(after)) {
            assert!(d.is_nan() && b.is_nan() || (a - b - d).abs() < 1e-6);
        }
    }
}

fn picture_full(figure: &Figure) -> f32 {
    picture(figure, 0).full
}

/// A part of a layer has the coefficients, and decodes to the weights, that the whole has there.
#[test]
fn parts_of_layers_are_as_the_whole() {
    let shape = LayerShape { groups: 1, outputs: 24, inputs: 20, taps: 9, columns: 3, order: Order::OutIn };
    let mut weights = noise(shape.weights(), 5);
    quantize::normalize(&mut weights);
    let cost = crate::rate::cost::Cost::Weights;
    let curves = curve::layer_curves(&shape, weights.clone(), CurveSettings::default(), &cost);
    for kind in [TransformKind::None, TransformKind::KltRow, TransformKind::KltCol, TransformKind::IntraDct2, TransformKind::IntraKlt] {
        let candidate = curves.candidates.iter().find(|c| c.kind == kind).unwrap();
        let whole = candidate.coefficients(&cost, &shape, &weights);
        let part = Part::columns(&shape, weights.clone(), candidate, 1000);
        let found = part.coefficients(&cost);
        assert!(part.share < 1.0 && found.len() <= 1000 && found.len() >= 500, "{kind:?}: {}", found.len());
        assert_eq!((found.len(), part.scales().len()), ((part.share * whole.len() as f64).round() as usize, found.len()));
        let (width, all) = (part.candidate.geometry.width, candidate.geometry.width);
        // The first channel is among them.
        for row in 0..candidate.geometry.rows() {
            let (a, b) = (found[row * width], whole[row * all]);
            assert!((a - b).abs() < 1e-4, "{kind:?} {row}: {a} for {b}");
        }

        let blocks: Vec<_> = candidate.blocks.iter().map(|b| b.at_locked(1e-6, 4)).collect();
        let given = Given { candidate: candidate.clone(), blocks };
        let whole = kernels::seen(&given, &shape, weights.clone(), cost.clone(), Coding::Fixed, usize::MAX);
        let part = kernels::seen(&given, &shape, weights.clone(), cost.clone(), Coding::Fixed, 7);
        assert!(whole.whole && !part.whole);
        let kept: Vec<usize> = (0..7).collect();
        let outputs = !matches!(kind, TransformKind::KltCol);
        let (_, expected) = super::part::cut(&shape, &whole.after, outputs, &kept);
        let greatest = expected.iter().zip(&part.after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(expected.len() == part.after.len() && greatest < 1e-5, "{kind:?}: {greatest}");
    }
    assert_eq!((spaced(10, 3), spaced(2, 5), spaced(0, 4)), (vec![0, 3, 6], vec![0, 1], vec![]));
}

#[test]
fn rows_fall_by_the_gain_on_average() {
    for session in [session(), opened(SAMPLES[0], CurveSettings::default(), 60)] {
        let layer = 2;
        let figure = made(&session, Which::RowGains, layer, &AllocationSettings::default());
        let calibrated = session.statistics.is_some();
        assert_eq!(figure.panels.len(), if calibrated { 6 } else { 2 });
        let report = run(session.gains_job(None), &mut |_| Ok(())).unwrap();
        let gain = |name: &str| report[layer].transforms.iter().find(|g| g.transform.name() == name).unwrap();
        let mean = |points: &[[f64; 2]]| points.iter().map(|p| p[1]).sum::<f64>() / points.len() as f64;
        for Panel { name, content } in &figure.panels {
            let Content::Chart(Chart { series, .. }) = content else { panic!() };
            assert_eq!(series.len(), if calibrated { 3 } else { 2 });
            for after in &series[1..] {
                let found = mean(&series[0].points) - mean(&after.points);
                let gain = gain(&after.name);
                let expected = match name.split(',').next().unwrap() {
                    "weights" => gain.weight_db,
                    "gradients" => gain.gradient_db,
                    _ => gain.total_db,
                };
                assert!((found - expected).abs() < 1e-6, "{name}, {}: {found} for {expected}", after.name);
            }
        }
    }
}

#[test]
fn gains_within_kernels_are_those_of_the_report_and_bases_are_orthonormal() {
    let session = session();
    let (layer, settings) = (2, AllocationSettings::default());
    let figure = made(&session, Which::Intra, layer, &settings);
    let (tensor, shape) = session.layers[layer];
    let gains = gain::layer_gains(&shape, &session.read(tensor).unwrap(), None, false);
    let chart = chart(&figure, 0);
    assert_eq!(chart.x.names, ["intra-dct1", "intra-dct2", "intra-klt"]);
    for (i, name) in chart.x.names.iter().enumerate() {
        let gain = gains.iter().find(|g| g.transform.name() == name).unwrap();
        assert_eq!(series(chart, "total").points[i][1], gain.total_db);
        assert_eq!(series(chart, "weights").points[i][1] + series(chart, "gradients").points[i][1], gain.total_db);
    }
    // Nine kernels of 3×3 side by side, each of length 1, orthogonal to the others.
    let basis = picture(&figure, 1);
    assert_eq!((basis.width, basis.values.len()), (9 * 4 - 1, 3 * (9 * 4 - 1)));
    let kernel = |k: usize| (0..9).map(move |tap| f64::from(basis.values[tap / 3 * basis.width + 4 * k + tap % 3])).collect::<Vec<_>>();
    for (a, b) in (0..9).flat_map(|a| (0..9).map(move |b| (a, b))) {
        let product: f64 = kernel(a).iter().zip(kernel(b)).map(|(x, y)| x * y).sum();
        assert!((product - if a == b { 1.0 } else { 0.0 }).abs() < 1e-4, "{a} {b}: {product}");
    }
    let pointwise = (0..session.layers.len()).find(|&l| session.layers[l].1.taps == 1).unwrap();
    let words = session.figure(Which::Intra, pointwise, &settings).err().unwrap().to_string();
    let said = "has kernels of one position, across which there is no transform; choose a layer with larger kernels.";
    assert_eq!(words, format!("{} {said}", session.layer_name(pointwise)));
}

#[test]
fn the_caption_counts_the_rows_below_the_water() {
    let session = session();
    let settings = of(TransformChoice::Auto, 1.5);
    let figure = made(&session, Which::Spectrum, 4, &settings);
    let words = figure.caption.split("Under ").nth(1).unwrap();
    let (name, numbers) = words.split_once(", the best here, ").unwrap();
    let numbers: Vec<usize> = numbers.split(' ').filter_map(|w| w.parse().ok()).collect();
    let counts = (0..figure.panels.len()).find_map(|p| {
        let chart = chart(&figure, p);
        let line = chart.series.iter().find(|s| s.name == name)?;
        Some(vec![line.points.iter().filter(|p| p[1] < chart.marks[0].at).count(), line.points.len()])
    });
    assert_eq!(Some(numbers), counts);
}

#[test]
fn layers_of_single_channels_have_a_sentence() {
    let shape = |groups, outputs, inputs, taps| LayerShape { groups, outputs, inputs, taps, columns: 3, order: Order::OutIn };
    let words = |shape| row_gains::across_channels("conv", &shape).unwrap_err().to_string();
    assert_eq!(
        words(shape(8, 1, 1, 9)),
        "conv has one channel on each side, across which there is no transform; choose a layer with more channels."
    );
    assert!(words(shape(1, 5000, 4000, 1)).starts_with("conv has more than 2048 channels"));
    assert!(row_gains::across_channels("conv", &shape(1, 1, 8, 9)).is_ok());
}
