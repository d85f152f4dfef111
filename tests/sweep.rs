//! Measured curves, against files that are compressed and run one by one: the samples of the page, and `resnet20.onnx` of the folder named by
//! `WATERFILL_DATA`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use waterfill::{
    data::{self, Dataset, Entry},
    error::{Error, Result},
    io::source::PathSource,
    pipeline::{
        self, Opened, Session,
        calibrate::Memory,
        evaluate::{self, Evaluator, Options, Reference},
        job::{self, Progress, Span, Waiting, wait},
        settle,
        sweep::{On, Sweep, measure},
    },
    report::{
        AllocationSettings, Budget, CalibrationSettings, CurveSettings, EvaluationReport, MeasuredCurves, MeasuredPoint, Report,
        SweepSettings, TransformChoice,
    },
};

fn run<T: Send + 'static>(job: job::Job<T>) -> Vec<T> {
    job::run(job, &mut |_| Ok(())).unwrap()
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/samples").join(name)
}

fn images(path: PathBuf) -> Dataset {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    data::open(vec![Entry { path: name, source: Rc::new(PathSource::open(path).unwrap()) }]).unwrap()
}

/// A network with curves, calibrated if `images` say on how many.
fn session(path: PathBuf, data: &Dataset, images: Option<usize>) -> Session {
    let Opened::Model(mut session) = pipeline::open(vec![Rc::new(PathSource::open(path).unwrap())]).unwrap() else { panic!("a model") };
    if let Some(images) = images {
        let preprocessing = evaluate::preprocessing(&session.runnable().unwrap(), data).unwrap();
        let settings = CalibrationSettings { images, ..Default::default() };
        let calibrator = session.calibrator(data, preprocessing, settings, Memory::default()).unwrap();
        run(calibrator.job());
        session.set_statistics(Some(calibrator.statistics()));
    }
    let curves = run(session.curves_job(CurveSettings::default()));
    session.set_curves(CurveSettings::default(), curves);
    *session
}

fn evaluator(session: &Session, data: &Dataset, limit: usize) -> (Evaluator, Reference) {
    let runnable = session.runnable().unwrap();
    let preprocessing = evaluate::preprocessing(&runnable, data).unwrap();
    let evaluator = Evaluator::new(&runnable, data, preprocessing, Options { limit: Some(limit), ..Options::default() }).unwrap();
    let reference = evaluator.reference(run(evaluator.reference_job()));
    (evaluator, reference)
}

fn quietly(_: Span, _: &Progress) -> Result<()> {
    Ok(())
}

fn all_points(sweep: &mut Sweep, session: &Session, (evaluator, reference): &(Evaluator, Reference)) -> Vec<MeasuredPoint> {
    let mut runner = Waiting::new(quietly);
    while wait(sweep.step(session, On { evaluator, reference, calibration: None }, &mut runner)).unwrap().is_some() {}
    sweep.points().to_vec()
}

#[test]
fn points_are_those_of_files_compressed_one_by_one() {
    let data = images(sample("digits-test.npz"));
    let session = session(sample("alexnet-digits.onnx"), &data, Some(40));
    let on = evaluator(&session, &data, 100);
    let settings = SweepSettings { transforms: SweepSettings::TRANSFORMS.to_vec(), rates: vec![4.0, 1.0, 2.0] };
    let base = AllocationSettings { locks: vec![(0, 6)], ..Default::default() };
    let sweep = || Sweep::new(&session, settings.clone(), base.clone()).unwrap();
    let points = all_points(&mut sweep(), &session, &on);
    assert_eq!(points.len(), 18);
    assert_eq!(points, all_points(&mut sweep(), &session, &on), "the same again");
    // Rates by rising order are 1, 2, 4: the places at the thirds are the second and the third.
    let asked: Vec<f64> = points.iter().map(|p| p.rate_asked).collect();
    assert_eq!([asked[0], asked[5], asked[6], asked[12]], [2.0, 2.0, 4.0, 1.0]);
    for transform in SweepSettings::TRANSFORMS {
        let mut line: Vec<&MeasuredPoint> = points.iter().filter(|p| p.transform == transform).collect();
        line.sort_by(|a, b| a.rate_asked.total_cmp(&b.rate_asked));
        assert!(line.is_sorted_by(|a, b| a.bytes < b.bytes && a.db.unwrap() > b.db.unwrap()), "{transform:?}: {line:?}");
        assert!(line.iter().all(|p| p.rate <= p.rate_asked && p.predicted_db.is_some() && p.top1.is_some() && p.agreement.is_some()));
    }
    // One of them by hand.
    let point = points.iter().find(|p| p.transform == TransformChoice::EltRow && p.rate_asked == 2.0).unwrap();
    let settings = AllocationSettings { budget: Budget::Bits(2.0), transform: TransformChoice::EltRow, feedback: false, ..base };
    let (allocation, _) = session.allocate(&settings).unwrap();
    let (_, layers) = wait(settle::encode(&session, &allocation, &settings, Span::WHOLE, &mut Waiting::new(quietly))).unwrap();
    let report = session.report(&allocation, &settings, &layers).unwrap().allocation;
    let tq = session.tq(&layers).unwrap();
    let decoded = evaluate::decoded(&tq, &run(pipeline::decode_job(&tq)));
    let network = session.runnable().unwrap().with_tensors(&decoded.tensors).unwrap();
    let e = on.0.finish("", 0.0, &run(on.0.compressed_job(&network, &on.1).unwrap()));
    assert_eq!((point.bytes, point.rate, point.predicted_db), (tq.file_bytes(), report.rate, Some(report.db)));
    assert_eq!((point.db, point.top1, point.top5, point.agreement), (e.sqnr_db.map(|s| -s), e.top1, e.top5, e.agreement));
    let (again, measured) = wait(measure(
        &session,
        &allocation,
        &settings,
        true,
        On { evaluator: &on.0, reference: &on.1, calibration: None },
        Span::WHOLE,
        &mut Waiting::new(quietly),
    ))
    .unwrap();
    assert_eq!((again.layers, again.report, measured.distortion), (layers, report, e.distortion));
}

#[test]
fn a_cancelled_sweep_goes_on_where_it_stopped() {
    let data = images(sample("digits-test.npz"));
    let session = session(sample("resnet-digits.onnx"), &data, None);
    let on = evaluator(&session, &data, 40);
    let settings = SweepSettings { rates: vec![2.0, 4.0], ..SweepSettings::all(false) };
    let sweep = || Sweep::new(&session, settings.clone(), AllocationSettings::default()).unwrap();
    let whole = all_points(&mut sweep(), &session, &on);
    assert_eq!(whole.len(), 8);
    assert!(whole.iter().all(|p| p.predicted_db.is_none() && p.db.is_some()), "nothing is predicted without calibration");

    let mut cut = sweep();
    let mut last = 0.0;
    let mut until = Waiting::new(|span: Span, p: &Progress| {
        let at = span.from + (span.to - span.from) * p.fraction;
        assert!(at >= last && at <= 1.0, "{last} {at}");
        last = at;
        if at > 0.45 { Err(Error::Cancelled) } else { Ok(()) }
    });
    let stopped = loop {
        match wait(cut.step(&session, On { evaluator: &on.0, reference: &on.1, calibration: None }, &mut until)) {
            Ok(point) => assert!(point.is_some()),
            Err(e) => break e,
        }
    };
    assert_eq!((stopped, cut.points().len(), cut.wanted()), (Error::Cancelled, 3, 8));
    assert_eq!(cut.points(), &whole[..3], "what was measured stays");
    assert_eq!(all_points(&mut cut, &session, &on), whole);
}

#[test]
fn what_is_the_same_file_is_run_once_and_what_means_nothing_is_said() {
    let data = images(sample("digits-test.npz"));
    let session = session(sample("resnet-digits.onnx"), &data, None);
    let on = evaluator(&session, &data, 20);
    // Out of reach: the nearest is the same file for both.
    let settings = SweepSettings { transforms: vec![TransformChoice::None], rates: vec![50.0, 90.0, 3.0] };
    let mut sweep = Sweep::new(&session, settings, AllocationSettings::default()).unwrap();
    let mut runs = 0;
    let mut runner = Waiting::new(|_, p: &Progress| {
        runs += usize::from(p.stage == "comparing" && p.done == p.total);
        Ok(())
    });
    while wait(sweep.step(&session, On { evaluator: &on.0, reference: &on.1, calibration: None }, &mut runner)).unwrap().is_some() {}
    let points = sweep.points().to_vec();
    assert_eq!(runs, 2);
    let of = |rate: f64| *points.iter().find(|p| p.rate_asked == rate).unwrap();
    assert_eq!(MeasuredPoint { rate_asked: 90.0, ..of(50.0) }, of(90.0));
    assert!(of(90.0).rate < 12.0 && of(90.0).bytes > of(3.0).bytes);

    let refuse = |transforms: &[TransformChoice], rates: &[f64]| {
        let settings = SweepSettings { transforms: transforms.to_vec(), rates: rates.to_vec() };
        let text = Sweep::new(&session, settings, AllocationSettings::default()).err().unwrap().to_string();
        assert!(text.ends_with('.') && !text.contains('\n'), "{text}");
        text
    };
    assert!(refuse(&[TransformChoice::EltRow], &[2.0]).contains("elt-row is learned"));
    for rates in [&[][..], &[0.0], &[-1.0], &[f64::NAN], &[f64::INFINITY]] {
        assert!(refuse(&[TransformChoice::Auto], rates).contains("rate"));
    }
}

#[test]
fn command_line() {
    let folder = tempfile::tempdir().unwrap();
    let tool = |args: &[&dyn AsRef<std::ffi::OsStr>]| {
        let out = Command::new(env!("CARGO_BIN_EXE_waterfill")).args(args.iter().map(|a| a.as_ref())).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (model, data) = (sample("alexnet-digits.onnx"), sample("digits-test.npz"));
    let file = |name: &str| folder.path().join(name);
    let (json, csv, svg, png) = (file("c.json"), file("c.csv"), file("c.svg"), file("c.png"));
    let calibration: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--calibration", &data, &"--calibration-images", &"30"];
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"curves", &model, &"--data", &data, &"--transforms", &"none,elt-col,auto"];
    args.extend(calibration);
    args.extend::<[&dyn AsRef<std::ffi::OsStr>; 10]>([
        &"--rates", &"3,2", &"--json", &json, &"--csv", &csv, &"--plot", &svg, &"--plot", &png,
    ]);
    let (code, out, err) = tool(&args);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 3 + 6, "{out}");
    assert!(out.contains("full precision: top-1 99.50 %") && out.contains("predicted"), "{out}");
    let curves: MeasuredCurves = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert!(curves.is_complete() && curves.calibration.is_some() && curves.lines().len() == 3);
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 1 + 6);
    let drawn = fs::read_to_string(&svg).unwrap();
    assert!(["elt-col", "output distortion (dB)", "top-1 accuracy (%)"].iter().all(|text| drawn.contains(text)));
    assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG"));

    // Compressed by the tool: among what it runs is the point, with the steps of all blocks chosen together.
    let (tq, report, eval) = (file("a.tq"), file("r.json"), file("e.json"));
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"compress", &model, &"-o", &tq, &"--bits", &"2", &"--transform", &"elt-col"];
    args.extend(calibration);
    args.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&"--report", &report]);
    assert_eq!(tool(&args).0, Some(0));
    let found: Report = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let together = found.alternatives.iter().find(|a| a.steps_together).unwrap();
    let point = curves.points.iter().find(|p| p.transform == TransformChoice::EltCol && p.rate_asked == 2.0).unwrap();
    assert_eq!((point.bytes, point.predicted_db), (fs::metadata(&tq).unwrap().len(), Some(together.predicted_db)));

    // Without calibration there is one way only: the same file, compressed and run by the tool.
    let args: [&dyn AsRef<std::ffi::OsStr>; 10] =
        [&"curves", &model, &"--data", &data, &"--transforms", &"klt-col", &"--rates", &"2", &"--json", &json];
    assert_eq!(tool(&args).0, Some(0));
    let curves: MeasuredCurves = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let args: [&dyn AsRef<std::ffi::OsStr>; 8] = [&"compress", &model, &"-o", &tq, &"--bits", &"2", &"--transform", &"klt-col"];
    assert_eq!(tool(&args).0, Some(0));
    assert_eq!(tool(&[&"eval", &tq, &"--data", &data, &"--reference", &model, &"--report", &eval]).0, Some(0));
    let eval: EvaluationReport = serde_json::from_slice(&fs::read(&eval).unwrap()).unwrap();
    let (e, point) = (eval.compressed.unwrap(), &curves.points[0]);
    assert_eq!(point.bytes, fs::metadata(&tq).unwrap().len());
    assert_eq!((point.db, point.top1, point.top5, point.agreement), (e.sqnr_db.map(|s| -s), e.top1, e.top5, e.agreement));

    let (code, _, err) = tool(&[&"curves", &model, &"--data", &data, &"--transforms", &"elt-row"]);
    assert!(code == Some(1) && err.contains("give images with --calibration"), "{err}");
    assert_eq!(tool(&[&"curves", &model]).0, Some(2));
    assert_eq!(tool(&[&"curves", &model, &"--data", &data, &"--rates", &"0"]).0, Some(2));
    // The network has channels first.
    let (code, _, err) = tool(&[&"eval", &model, &"--data", &data, &"--channels-last"]);
    assert!(code == Some(1) && err.contains("become 8×8×1, but the network takes 1×8×8"), "{err}");
    assert_eq!(tool(&[&"eval", &model, &"--data", &data, &"--limit", &"20", &"--channels-last=false"]).0, Some(0));
}
