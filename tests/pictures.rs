//! Networks from images to images: PSNR, and the pictures that are looked at. The networks are those of `tests/pictures`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    rc::Rc,
};

use serde_json::Value;
use waterfill::{
    data::{self, Dataset, Entry, Pixels},
    graph::Runnable,
    io::source::PathSource,
    pipeline::{
        self, Opened, Session,
        evaluate::{self, Evaluator, Options},
        job,
        pictures::Picture,
    },
    report::{AllocationSettings, Budget, CurveSettings, Evaluation, pictures::PictureRange, table},
};

fn run<T: Send + 'static>(job: job::Job<T>) -> Vec<T> {
    job::run(job, &mut |_| Ok(())).unwrap()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn images(name: &str) -> Dataset {
    let path = file(name);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    data::open(vec![Entry { path: name, source: Rc::new(PathSource::open(path).unwrap()) }]).unwrap()
}

fn session(name: &str) -> Session {
    let Opened::Model(session) = pipeline::open(vec![Rc::new(PathSource::open(file(name)).unwrap())]).unwrap() else { panic!("a model") };
    *session
}

/// A model at so many bits, run on images, and its pictures. Without bits: the model itself.
fn compared(model: &str, data: &Dataset, bits: Option<f64>, limit: Option<usize>) -> (Evaluator, Evaluation, Vec<Picture>) {
    let mut session = session(model);
    let runnable = session.runnable().unwrap();
    let compressed: Runnable = match bits {
        None => (*runnable).clone(),
        Some(bits) => {
            let curves = run(session.curves_job(CurveSettings::default()));
            session.set_curves(CurveSettings::default(), curves);
            let settings = AllocationSettings { budget: Budget::Bits(bits), ..Default::default() };
            let (allocation, _) = session.allocate(&settings).unwrap();
            let tq = session.tq(&run(session.encode_job(&allocation))).unwrap();
            runnable.with_tensors(&evaluate::decoded(&tq, &run(pipeline::decode_job(&tq))).tensors).unwrap()
        }
    };
    let inputs = evaluate::preprocessing(&runnable, data).unwrap();
    let evaluator = Evaluator::new(&runnable, data, inputs, Options { limit, ..Default::default() }).unwrap();
    let reference = evaluator.reference(run(evaluator.reference_job()));
    let e = evaluator.finish("", 0.0, &run(evaluator.compressed_job(&compressed, &reference).unwrap()));
    let range = e.pictures.map_or(PictureRange::of(0.0, 1.0), |p| p.range);
    let pictures = evaluator.pictures(&run(evaluator.pictures_job(&compressed).unwrap()), range);
    (evaluator, e, pictures)
}

#[test]
fn psnr_is_of_all_pictures_and_of_each() {
    let data = images("pictures/noisy-digits.npz");
    // All images that are run are shown.
    let (_, e, pictures) = compared("pictures/denoiser.onnx", &data, Some(4.0), Some(4));
    let score = e.pictures.expect("pictures");
    assert_eq!((score.size, score.peak, score.identical), ([32, 32, 1], 1.0, false));
    assert_eq!((e.top1, e.agreement), (None, None));
    // Of the mean squared error per pixel, for a peak of 1.
    let psnr = e.psnr().unwrap();
    assert!((psnr + 10.0 * (e.distortion.unwrap() / 1024.0).log10()).abs() < 1e-9 && (10.0..40.0).contains(&psnr), "{psnr} dB");
    assert_eq!(pictures.iter().map(|p| p.shown.image).collect::<Vec<_>>(), [0, 3, 6, 9]);
    let mean = pictures.iter().map(|p| 10f64.powf(-p.shown.psnr() / 10.0)).sum::<f64>() / 4.0;
    assert!((psnr + 10.0 * mean.log10()).abs() < 1e-4, "{psnr} dB, {mean}");

    for picture in &pictures {
        // What went in are the file's own bytes.
        let image = data::decode(data.images.read(picture.shown.image).unwrap()).unwrap();
        let Pixels::U8(bytes) = image.pixels else { panic!("bytes") };
        let grey = |rgba: &[u8]| rgba.chunks(4).map(|p| (p[0], p[0] == p[1] && p[1] == p[2] && p[3] == 255)).unzip();
        let (shades, whole): (Vec<u8>, Vec<bool>) = grey(&picture.input.as_ref().unwrap().rgba);
        assert_eq!(shades, bytes);
        assert!(whole.iter().all(|g| *g), "grey and opaque");
        // The picture's error in shades is its PSNR, but for rounding and clamping, which take from it.
        let (full, _): (Vec<u8>, Vec<bool>) = grey(&picture.full.rgba);
        let (compressed, _): (Vec<u8>, Vec<bool>) = grey(&picture.compressed.rgba);
        let error: f64 = full.iter().zip(&compressed).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>() / 1024.0;
        let shown = 10.0 * (255.0 * 255.0 / error).log10();
        assert!((-0.1..3.0).contains(&(shown - picture.shown.psnr())), "{shown} dB, {} dB", picture.shown.psnr());
    }
}

#[test]
fn an_exact_copy_is_identical_in_words_and_json() {
    let (evaluator, e, pictures) = compared("pictures/denoiser.onnx", &images("pictures/noisy-digits.npz"), None, None);
    assert_eq!((e.psnr_db, e.psnr(), e.distortion), (None, Some(f64::INFINITY), Some(0.0)));
    assert!(pictures.len() == 4 && pictures.iter().all(|p| p.full == p.compressed && p.shown.psnr_db.is_none()));
    let report = evaluator.report(None, Some(e), Vec::new());
    let json: Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!((&json["compressed"]["psnr_db"], &json["compressed"]["pictures"]["identical"]), (&Value::Null, &Value::Bool(true)));
    assert!(table::evaluation_text(&report).contains("PSNR          ") && table::evaluation_text(&report).contains("identical"));
    assert!(report.notes.iter().any(|n| n.contains("PSNR is for a peak of 1.")), "{:?}", report.notes);
}

#[test]
fn colour_pictures_may_be_larger_than_what_went_in() {
    let data = images("fixtures/data/cifar10.bin");
    let (evaluator, e, pictures) = compared("pictures/enlarger.onnx", &data, Some(6.0), None);
    let layout = evaluator.layout().expect("pictures");
    assert_eq!((layout.channels, layout.height, layout.last, e.pictures.unwrap().size), (3, 64, false, [64, 64, 3]));
    assert!(data.labels.is_some() && e.top1.is_none() && e.psnr().unwrap() > 40.0, "{e:?}");
    let (input, full) = (pictures[0].input.as_ref().unwrap(), &pictures[0].full);
    assert_eq!([input.height, input.width, full.height, full.width], [32, 32, 64, 64]);
    // The network is bilinear: four neighbours become the middle one of them in these parts, in every colour.
    let at = |p: &pipeline::pictures::Pixels, y: usize, x: usize, c: usize| f64::from(p.rgba[4 * (y * p.width + x) + c]);
    for (y, x, c) in [(1, 1, 0), (10, 20, 1), (30, 17, 2)] {
        let near = |dy: usize, dx: usize| at(input, y - dy, x - dx, c);
        let expected = 0.5625 * near(0, 0) + 0.1875 * (near(0, 1) + near(1, 0)) + 0.0625 * near(1, 1);
        assert!((at(full, 2 * y, 2 * x, c) - expected).abs() <= 1.0, "{y} {x} {c}");
    }
}

#[test]
fn two_channels_are_no_picture() {
    let (evaluator, e, pictures) = compared("pictures/two-channels.onnx", &images("pictures/noisy-digits.npz"), Some(9.0), None);
    assert!(evaluator.layout().is_none() && evaluator.pictures_cost() == 0 && pictures.is_empty());
    assert!(e.pictures.is_none() && e.psnr().is_none() && e.distortion.is_some_and(|d| d > 0.0), "{e:?}");
}

fn waterfill(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waterfill")).args(words.iter().map(|w| w.as_ref())).output().expect("the tool starts")
}

#[test]
fn command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (tq, report) = (folder.path().join("a.tq"), folder.path().join("r.json"));
    let (model, data) = (file("pictures/denoiser.onnx"), file("pictures/noisy-digits.npz"));
    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--bits", &"4", &"--test", &data, &"--report", &report]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && text.lines().any(|l| l.starts_with("PSNR") && l.ends_with(" dB")), "{text}");
    assert!(!text.contains("agreement") && !text.contains("top-1"), "{text}");
    let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let psnr = &report["evaluation"]["compressed"]["psnr_db"];
    assert!(psnr.as_f64().is_some_and(|db| db > 10.0), "{psnr}");

    let words: [&dyn AsRef<std::ffi::OsStr>; 7] = [&"eval", &tq, &"--data", &data, &"--reference", &model, &"--json"];
    let again: Value = serde_json::from_slice(&waterfill(&words).stdout).unwrap();
    assert_eq!((&again["compressed"]["psnr_db"], &again["reference"]["psnr_db"]), (psnr, &Value::Null));
    assert_eq!(again["compressed"]["pictures"]["range"], serde_json::json!({ "low": 0.0, "high": 1.0 }));
    let out = waterfill(&[&"eval", &tq, &"--data", &data, &"--reference", &model, &"--layers"]);
    assert!(out.status.success() && !String::from_utf8_lossy(&out.stdout).contains("changed answers"));

    let out = waterfill(&[&"compress", &model, &"-o", &tq, &"--lose", &"1", &"--test", &data]);
    let error = String::from_utf8(out.stderr).unwrap();
    let error = error.lines().find(|l| l.starts_with("error: ")).unwrap();
    assert!(error.contains("\"Lose at most\" needs a classifier") && error.ends_with('.'), "{error}");
}

#[test]
fn curves_have_a_psnr() {
    let folder = tempfile::tempdir().unwrap();
    let [json, csv, svg] = ["c.json", "c.csv", "c.svg"].map(|name| folder.path().join(name));
    let (model, data) = (file("pictures/denoiser.onnx"), file("pictures/noisy-digits.npz"));
    let options: [&dyn AsRef<std::ffi::OsStr>; 9] =
        [&"--transforms", &"none", &"--csv", &csv, &"--json", &json, &"--plot", &svg, &"--rates=2,4,8"];
    let out = waterfill(&[&[&"curves" as &dyn AsRef<std::ffi::OsStr>, &model, &"--data", &data], &options[..]].concat());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("PSNR\n") && !text.contains("agreement") && text.matches(" dB\n").count() == 3, "{text}");
    let curves: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let psnr: Vec<f64> = curves["points"].as_array().unwrap().iter().map(|p| p["psnr_db"].as_f64().unwrap()).collect();
    let rates: Vec<f64> = curves["points"].as_array().unwrap().iter().map(|p| p["rate_asked"].as_f64().unwrap()).collect();
    let at = |rate: f64| psnr[rates.iter().position(|r| *r == rate).unwrap()];
    assert!(at(2.0) < at(4.0) && at(4.0) < at(8.0), "{rates:?} {psnr:?}");
    // That of the same file, compressed and run alone.
    let (tq, report) = (folder.path().join("a.tq"), folder.path().join("r.json"));
    let words: [&dyn AsRef<std::ffi::OsStr>; 10] =
        [&"compress", &model, &"-o", &tq, &"--bits=4", &"--transform=none", &"--test", &data, &"--report", &report];
    assert!(waterfill(&words).status.success());
    let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["evaluation"]["compressed"]["psnr_db"], at(4.0));
    assert!(fs::read_to_string(&csv).unwrap().lines().next().unwrap().ends_with(",psnr_db"));
    assert!(fs::read_to_string(&svg).unwrap().contains("PSNR (dB)"));
}
