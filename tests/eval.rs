//! Networks run on images: the samples of the page, and `resnet20.*` of the folder named by `WATERFILL_DATA`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use waterfill::{
    container::TqFile,
    data::{self, Dataset, Entry},
    graph::Runnable,
    io::source::{BytesSource, PathSource},
    pipeline::{
        self, Opened, Session,
        evaluate::{self, Evaluator, Options},
        job,
    },
    report::{AllocationSettings, Budget, CurveSettings, Evaluation, EvaluationReport, Report},
};

fn run<T: Send + 'static>(job: job::Job<T>) -> Vec<T> {
    job::run(job, &mut |_| Ok(())).unwrap()
}

/// The folder; without it these tests say that they were left out.
fn real() -> Option<PathBuf> {
    let folder = std::env::var_os("WATERFILL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: WATERFILL_DATA is not set");
    }
    folder
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/samples").join(name)
}

fn images(path: PathBuf) -> Dataset {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    data::open(vec![Entry { path: name, source: Rc::new(PathSource::open(path).unwrap()) }]).unwrap()
}

fn session(path: PathBuf) -> Session {
    let Opened::Model(session) = pipeline::open(vec![Rc::new(PathSource::open(path).unwrap())]).unwrap() else { panic!("a model") };
    *session
}

fn evaluator(runnable: &Runnable, data: &Dataset, options: Options) -> Evaluator {
    Evaluator::new(runnable, data, evaluate::preprocessing(runnable, data).unwrap(), options).unwrap()
}

/// The network alone.
fn accuracy(runnable: &Runnable, data: &Dataset, options: Options) -> Evaluation {
    let e = evaluator(runnable, data, options);
    let reference = e.reference(run(e.reference_job()));
    e.finish_reference(evaluate::FULL, 0.0, &reference)
}

fn compress(session: &mut Session, bits: f64) -> TqFile {
    let curves = run(session.curves_job(CurveSettings::default()));
    session.set_curves(CurveSettings::default(), curves);
    let (allocation, _) = session.allocate(&AllocationSettings { budget: Budget::Bits(bits), ..Default::default() }).unwrap();
    session.tq(&run(session.encode_job(&allocation))).unwrap()
}

/// Top-1 of onnxruntime on all 600 images: docs/samples.md.
#[test]
fn the_samples_have_their_accuracy() {
    let data = images(sample("digits-test.npz"));
    for (name, right) in [("alexnet-digits.onnx", 597), ("resnet-digits.onnx", 599), ("densenet-digits.onnx", 596)] {
        let e = accuracy(&session(sample(name)).runnable().unwrap(), &data, Options::default());
        assert_eq!((e.images, e.top1.map(|t| (t * 600.0).round())), (600, Some(f64::from(right))), "{name}");
        assert!(e.top5.unwrap() >= e.top1.unwrap() && e.agreement.is_none() && e.distortion.is_none());
    }
}

#[test]
fn batches_and_threads_do_not_change_a_number() {
    let data = images(sample("digits-test.npz"));
    let mut session = session(sample("alexnet-digits.onnx"));
    let tq = compress(&mut session, 2.0);
    let decoded = evaluate::decoded(&tq, &run(pipeline::decode_job(&tq)));
    let runnable = session.runnable().unwrap();
    let compressed = runnable.with_tensors(&decoded.tensors).unwrap();
    let results: Vec<(usize, Evaluation, Evaluation)> = [1, 3_000_000, 40_000_000, u64::MAX]
        .into_iter()
        .map(|work| {
            let e = evaluator(&runnable, &data, Options { limit: Some(90), work, ..Default::default() });
            let reference = e.reference(run(e.reference_job()));
            let results = run(e.compressed_job(&compressed, &reference).unwrap());
            // One after the other, on this thread.
            let job = e.compressed_job(&compressed, &reference).unwrap();
            let one_by_one: Vec<_> = (0..job.items.len()).map(|i| (job.prepare)(i).unwrap()().unwrap()).collect();
            assert_eq!(results, one_by_one);
            (e.batch(), e.finish_reference("", 0.0, &reference), e.finish("", 0.0, &results))
        })
        .collect();
    let (batch, full, small) = &results[0];
    assert_eq!(*batch, 1);
    assert!(results.last().unwrap().0 > 30, "{} images per item", results.last().unwrap().0);
    assert!(small.distortion.unwrap() > 0.0 && small.agreement.unwrap() < 1.0 && small.images == 90);
    for (_, f, s) in &results[1..] {
        assert_eq!((f.top1, f.top5, s.top1, s.agreement), (full.top1, full.top5, small.top1, small.agreement));
        // Products of matrices may sum in another order for another batch.
        assert!((s.distortion.unwrap() / small.distortion.unwrap() - 1.0).abs() < 1e-4);
    }
}

#[test]
fn damage_of_layers() {
    let data = images(sample("digits-test.npz"));
    let mut session = session(sample("resnet-digits.onnx"));
    let tq = compress(&mut session, 3.0);
    let tensors = run(pipeline::decode_job(&tq));
    let decoded = evaluate::decoded(&tq, &tensors);
    let runnable = session.runnable().unwrap();
    let e = evaluator(&runnable, &data, Options { limit: Some(40), ..Default::default() });
    let reference = e.reference(run(e.reference_job()));
    let damage = e.damage(&decoded, &run(e.damage_job(&decoded, &reference, None)));
    let names: Vec<String> = session.summary().layers.into_iter().map(|l| l.name).collect();
    assert_eq!(damage.iter().map(|d| d.name.clone()).collect::<Vec<_>>(), names);
    assert!((damage.iter().map(|d| d.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(damage.iter().all(|d| d.distortion > 0.0 && d.changed.is_some()));
    // A layer alone is the network with that tensor alone.
    let at = decoded.layers[3].at.unwrap();
    let alone = runnable.with_tensors(&decoded.tensors[at..=at]).unwrap();
    let alone = e.finish("", 0.0, &run(e.compressed_job(&alone, &reference).unwrap()));
    assert_eq!(alone.distortion, Some(damage[3].distortion));
    // The same network again: nothing is lost.
    let same = e.finish("", 0.0, &run(e.compressed_job(&runnable, &reference).unwrap()));
    assert_eq!((same.distortion, same.sqnr_db, same.agreement), (Some(0.0), None, Some(1.0)));
    // The `.tq` alone is the network with all its tensors.
    let whole = e.finish("", 0.0, &run(e.compressed_job(&evaluate::tq_runnable(&tq, tensors).unwrap(), &reference).unwrap()));
    let put = runnable.with_tensors(&decoded.tensors).unwrap();
    assert_eq!(whole, e.finish("", 0.0, &run(e.compressed_job(&put, &reference).unwrap())));
}

#[test]
fn what_does_not_fit_is_one_sentence() {
    let runnable = session(sample("resnet-digits.onnx")).runnable().unwrap();
    let digits = images(sample("digits-test.npz"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data");
    let other = images(fixtures.join("cifar10.bin"));
    let p = evaluate::preprocessing(&runnable, &digits).unwrap();
    let refuse = |data: &Dataset| {
        let text = Evaluator::new(&runnable, data, p.clone(), Options::default()).err().unwrap().to_string();
        assert!(text.ends_with('.') && !text.contains('\n'), "{text}");
        text
    };
    assert!(refuse(&other).contains("become 1×32×32, but the network takes 1×8×8"), "{}", refuse(&other));
    let mut labels = digits.clone();
    labels.labels.as_mut().unwrap()[7] = 10;
    assert!(refuse(&labels).contains("its label is 10, but the network tells 10 classes apart, 0 to 9"), "{}", refuse(&labels));
    assert!(refuse(&labels).contains("image 8"));
}

#[test]
fn command_line() {
    let folder = tempfile::tempdir().unwrap();
    let tool = |args: &[&dyn AsRef<std::ffi::OsStr>]| {
        let out = Command::new(env!("CARGO_BIN_EXE_waterfill")).args(args.iter().map(|a| a.as_ref())).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (model, data) = (sample("alexnet-digits.onnx"), sample("digits-test.npz"));
    let (tq, report, csv) = (folder.path().join("a.tq"), folder.path().join("r.json"), folder.path().join("e.csv"));
    let (code, out, err) = tool(&[&"compress", &model, &"-o", &tq, &"--bits", &"3", &"--report", &report, &"--test", &data]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("top-1") && out.contains("99.50 %"), "{out}");
    let report: Report = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let compressed = report.evaluation.unwrap().compressed.unwrap();

    let (code, out, err) = tool(&[&"eval", &tq, &"--data", &data, &"--reference", &model, &"--layers", &"--json", &"--report", &csv]);
    assert_eq!(code, Some(0), "{err}");
    let again: EvaluationReport = serde_json::from_str(&out).unwrap();
    let compared = again.compressed.unwrap();
    assert_eq!(Evaluation { seconds: compressed.seconds, ..compared }, compressed);
    assert_eq!(again.damage.len(), 8);
    let lines = fs::read_to_string(&csv).unwrap();
    assert_eq!(lines.lines().count(), 1 + 2 + 8, "{lines}");

    let (code, out, _) = tool(&[&"eval", &tq, &"--data", &data, &"--limit", &"60"]);
    assert!(code == Some(0) && out.contains("60 of 600 images, 8×8×1, with labels") && !out.contains("agreement"), "{out}");
    let (code, _, err) = tool(&[&"eval", &model, &"--data", &data, &"--crop", &"9"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: digits-test.npz: a crop of 9×9 is larger than its images of 8×8;"), "{err}");
    assert_eq!(tool(&[&"eval", &model]).0, Some(2));
    assert_eq!(tool(&[&"compress", &model, &"--limit", &"5"]).0, Some(2));
    assert!(tool(&[&"eval", &"--help"]).1.contains("Examples:"));
}

/// 1773 of 2000, whichever way the file went.
#[test]
fn resnet20_on_cifar10() {
    let Some(folder) = real() else { return };
    let data = images(folder.join("cifar10-test2000.npz"));
    for name in ["resnet20.onnx", "resnet20.safetensors", "resnet20.pth", "resnet20-legacy-bn.onnx"] {
        let e = accuracy(&session(folder.join(name)).runnable().unwrap(), &data, Options { work: 2_000_000_000, ..Default::default() });
        assert_eq!((e.images, e.top1), (2000, Some(0.8865)), "{name}");
    }
}

#[test]
fn resnet20_compressed() {
    let Some(folder) = real() else { return };
    let data = images(folder.join("cifar10-test2000.npz"));
    let mut session = session(folder.join("resnet20.safetensors"));
    let tq = compress(&mut session, 4.0);
    let tensors = run(pipeline::decode_job(&tq));
    let decoded = evaluate::decoded(&tq, &tensors);
    let runnable = session.runnable().unwrap();
    let e = evaluator(&runnable, &data, Options { limit: Some(500), work: 2_000_000_000, ..Default::default() });
    let reference = e.reference(run(e.reference_job()));
    let give = |runnable: &Runnable| e.finish("", 0.0, &run(e.compressed_job(runnable, &reference).unwrap()));
    let put = give(&runnable.with_tensors(&decoded.tensors).unwrap());
    assert!(put.top1.unwrap() > 0.8 && put.agreement.unwrap() > 0.85 && put.sqnr_db.unwrap() > 5.0, "{put:?}");
    // The decompressed file, opened as a user would.
    let mut file = Vec::new();
    pipeline::rebuild(&tq, tensors, &mut file).unwrap();
    let Opened::Model(back) = pipeline::open(vec![Rc::new(BytesSource::new("back.safetensors", file))]).unwrap() else { panic!() };
    assert_eq!(give(&back.runnable().unwrap()), put);
}
