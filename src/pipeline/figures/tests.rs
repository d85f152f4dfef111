use std::rc::Rc;

use super::*;
use crate::{
    data,
    io::source::BytesSource,
    pipeline::{Opened, calibrate::Memory, evaluate, job::run, open},
    report::{
        CalibrationSettings, Coding, CurveSettings, Method,
        figure::{Chart, Content, Series},
    },
};

/// The sample network, with its curves.
pub(super) fn session() -> Session {
    let bytes = include_bytes!("../../../www/samples/resnet-digits.onnx");
    let source = Rc::new(BytesSource::new("resnet-digits.onnx", bytes.to_vec()));
    let Ok(Opened::Model(mut session)) = open(vec![source]) else { panic!("the sample is a model") };
    let settings = CurveSettings::default();
    let curves = run(session.curves_job(settings), &mut |_| Ok(())).unwrap();
    session.set_curves(settings, curves);
    *session
}

/// The same, calibrated by a few images.
pub(super) fn calibrated() -> Session {
    let mut session = session();
    let source = Rc::new(BytesSource::new("digits-test.npz", include_bytes!("../../../www/samples/digits-test.npz").to_vec()));
    let data = data::open(vec![data::Entry { path: "digits-test.npz".into(), source }]).unwrap();
    let preprocessing = evaluate::preprocessing(&session.runnable().unwrap(), &data).unwrap();
    let settings = CalibrationSettings { images: 16, draws: 1, seed: 3 };
    let calibrator = session.calibrator(&data, preprocessing, settings, Memory::default()).unwrap();
    run(calibrator.job(), &mut |_| Ok(())).unwrap();
    session.set_statistics(Some(calibrator.statistics()));
    let settings = CurveSettings { coding: Coding::Entropy, method: Method::Feedback, ..CurveSettings::default() };
    let curves = run(session.curves_job(settings), &mut |_| Ok(())).unwrap();
    session.set_curves(settings, curves);
    session
}

/// A figure, made.
pub(super) fn made(session: &Session, which: Which, layer: usize, settings: &AllocationSettings) -> Figure {
    let Making { job, finish } = session.figure(which, layer, settings).unwrap();
    finish(run(job, &mut |_| Ok(())).unwrap())
}

/// The chart of a panel.
pub(super) fn chart(figure: &Figure, panel: usize) -> &Chart {
    let Content::Chart(chart) = &figure.panels[panel].content else { panic!("a picture") };
    chart
}

pub(super) fn series<'a>(chart: &'a Chart, name: &str) -> &'a Series {
    chart.series.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no series {name}"))
}

#[test]
fn every_figure_says_what_it_is_and_has_numbers() {
    let kept = AllocationSettings { excludes: vec![0, 1], ..AllocationSettings::default() };
    for session in [session(), calibrated()] {
        for (which, settings) in Which::ALL.into_iter().flat_map(|which| [(which, AllocationSettings::default()), (which, kept.clone())]) {
            if session.figure(which, 1, &settings).is_err() {
                assert!(which == Which::Limits && session.statistics().is_none(), "{which:?}");
                continue;
            }
            let figure = made(&session, which, 1, &settings);
            assert_eq!((figure.which, figure.layer), (which, Some(1)));
            assert!(figure.caption.ends_with('.') && !figure.title.ends_with('.') && !figure.source.is_empty(), "{which:?}");
            assert!(figure.caption.split(". ").count() <= 4, "{which:?}: {}", figure.caption);
            if which.of_layer() {
                assert!(figure.title.contains(&session.layer_name(1)), "{}", figure.title);
            }
            assert!(!figure.panels.is_empty() && figure.csv().lines().count() > 5, "{which:?}");
            let named = figure.panels.iter().filter(|p| !p.name.is_empty()).count();
            assert!(named == figure.panels.len() || figure.panels.len() == 1, "{which:?}: panels of several have names");
        }
    }
    let session = session();
    assert!(session.figure(Which::Slopes, 999, &kept).is_err_and(|e| e.to_string().starts_with("There is no layer 999")));
}

#[test]
fn curves_get_flatter_and_all_layers_stop_at_lambda() {
    let session = session();
    let settings = AllocationSettings::default();
    let (allocation, _) = session.allocate(&settings).unwrap();
    let figure = made(&session, Which::Slopes, 2, &settings);
    let chart = chart(&figure, 0);
    let at = decibels(allocation.lambda);
    assert_eq!(chart.marks[0].at, at);
    let points = series(chart, "bits of each layer");
    assert_eq!(points.points.len(), session.layers.len());
    for (point, layer) in points.points.iter().zip(&points.layers) {
        assert_eq!(point[1], at);
        let line = chart.series.iter().find(|s| s.layers == [*layer]).unwrap();
        // But for what differences of distortions that nearly coincide are rounded by.
        for step in line.points.windows(2) {
            assert!(step[0][0] < step[1][0] && step[0][1] >= step[1][1] - 1e-9, "layer {layer}: {step:?}");
        }
        assert_eq!(line.faint, *layer != 2);
        // What was spent to the layer's rate buys more than half of λ (what bisection leaves is filled up to there), what comes after less than λ.
        let (mut before, mut after) = (f64::INFINITY, f64::NEG_INFINITY);
        for step in line.points.windows(2) {
            before = if step[1][0] < point[0] - 0.01 { before.min(step[0][1]) } else { before };
            after = if step[0][0] > point[0] + 0.01 { after.max(step[0][1]) } else { after };
        }
        assert!(before > at - 3.02 && after < at + 1e-6, "layer {layer}: {before} {at} {after}");
    }
}

#[test]
fn a_layers_own_curve_touches_the_tangent_of_slope_lambda_at_its_bits() {
    let session = session();
    for (layer, bits) in [(1, 2.0), (2, 4.0), (5, 3.0)] {
        let settings = AllocationSettings { budget: crate::report::Budget::Bits(bits), ..AllocationSettings::default() };
        let (_, report) = session.allocate(&settings).unwrap();
        let figure = made(&session, Which::Slopes, layer, &settings);
        let chart = chart(&figure, 1);
        let [curve, tangent, dot] = &chart.series[..] else { panic!("{:?}", chart.series.len()) };
        let ([x, y], [left, right]) = (dot.points[0], [tangent.points[0], tangent.points[1]]);
        assert_eq!(x, report.layers[layer].bits);
        let slope = (left[1] - right[1]) / (right[0] - left[0]);
        let line = |at: f64| y - slope * (at - x);
        assert!((line(left[0]) - left[1]).abs() < 1e-9 * left[1] && line(right[0]).abs() < 1e-9 * y, "the dot is on the tangent");
        assert!(curve.points.len() > 4 && curve.points.is_sorted_by(|a, b| a[0] <= b[0] && a[1] >= b[1]));
        // Curves of rates at equal slopes are convex: nothing is below the tangent, but for what bisection leaves.
        for p in &curve.points {
            assert!(p[1] >= line(p[0]) - 0.05 * y, "layer {layer}: {p:?} is below {}", line(p[0]));
        }
        // The dot is on the curve.
        let after = curve.points.iter().position(|p| p[0] >= x).unwrap();
        let [a, b] = [curve.points[after.max(1) - 1], curve.points[after.max(1)]];
        let there = a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]).max(1e-12);
        assert!((there / y - 1.0).abs() < 0.05, "layer {layer}: {there} for {y}");
        // And the slope is the curve's there: what comes before buys more (what bisection leaves is filled up to half of λ), what comes after less.
        let slopes: Vec<(f64, f64)> = curve.points.windows(2).map(|w| (w[0][0], (w[0][1] - w[1][1]) / (w[1][0] - w[0][0]))).collect();
        let (before, after): (Vec<_>, Vec<_>) = slopes.into_iter().partition(|s| s.0 < x);
        let (last, next) = (before.last().unwrap().1, after[0].1);
        assert!(last > 0.5 * slope && last < 2.0 * slope, "layer {layer}: {last} before, {slope}");
        assert!(next < slope * (1.0 + 1e-9) && next > slope / 4.0, "layer {layer}: {next} after, {slope}");
    }
}

#[test]
fn variances_of_a_layer_are_what_its_loss_costs_and_a_transform_only_sorts_them() {
    let session = session();
    let settings = AllocationSettings::default();
    let layer = 2;
    let figure = made(&session, Which::Spectrum, layer, &settings);
    assert_eq!(figure.panels.len(), 2);
    let shape = session.layers[layer].1;
    for (panel, dim) in [(0, shape.inputs), (1, shape.outputs)] {
        let chart = chart(&figure, panel);
        let width = (shape.weights() / dim) as f64;
        let total = |s: &Series| s.points.iter().map(|p| width * 10f64.powf(p[1] / 10.0)).sum::<f64>();
        let none = series(chart, "none");
        assert_eq!(none.points.len(), dim);
        // Without calibration distortion is relative to the layer's energy, all of which is lost with it. The floor under variances is a millionth.
        assert!((total(none) - 1.0).abs() < 1e-3, "{}", total(none));
        let klt = series(chart, ["klt-row", "klt-col"][panel]);
        assert!((total(klt) - 1.0).abs() < 1e-3, "orthogonal");
        let mean = |s: &Series| s.points.iter().map(|p| p[1]).sum::<f64>() / dim as f64;
        assert!(mean(klt) < mean(none) - 0.1, "a coding gain");
        assert!(klt.points.is_sorted_by(|a, b| a[1] >= b[1]));
        assert_eq!(chart.marks.len(), 1);
    }
    // A lower budget raises the water.
    let level = |bits: f64| {
        let settings = AllocationSettings { budget: crate::report::Budget::Bits(bits), ..settings.clone() };
        chart(&made(&session, Which::Spectrum, layer, &settings), 0).marks[0].at
    };
    assert!(level(2.0) > level(4.0) + 6.0, "{} {}", level(2.0), level(4.0));
}

#[test]
fn pairs_are_weights_and_their_ellipse_is_turned_to_the_klt() {
    use crate::report::plane::{Basis, Moment};

    let session = session();
    let largest = (0..session.layers.len()).max_by_key(|&i| session.layers[i].1.weights()).unwrap();
    let figure = made(&session, Which::Pairs, largest, &AllocationSettings::default());
    let chart = chart(&figure, 0);
    assert!(chart.equal, "an angle is an angle");
    let weights = session.read(session.layers[largest].0).unwrap();
    let pairs: Vec<(f64, f64)> = chart.series[0].points.iter().map(|p| (p[0], p[1])).collect();
    assert!(pairs.len() >= 64 && pairs.iter().all(|p| weights.contains(&(p.0 as f32)) && weights.contains(&(p.1 as f32))));
    let moment = Moment::of(&pairs);
    assert!(figure.caption.contains(&format!("{:.2}", moment.correlation().abs())), "{}", figure.caption);
    let along = |name: &str| {
        let [from, to] = series(chart, name).points[..] else { panic!("two ends") };
        (to[1] - from[1]).atan2(to[0] - from[0])
    };
    let angle = Basis::klt_angle(&moment);
    assert!((along("first axis of the KLT") - angle).sin().abs() < 1e-9);
    assert!((along("second axis of the KLT") - angle).cos().abs() < 1e-9);
    // The first layer has one input channel.
    let figure = made(&session, Which::Pairs, 0, &AllocationSettings::default());
    assert!(figure.title.starts_with("Output channels "), "{}", figure.title);
}
