//! Runs in a browser: what needs JavaScript values, and what has to come out the same in Wasm as natively.
#![cfg(target_arch = "wasm32")]

#[path = "golden_file/mod.rs"]
mod golden_file;

use js_sys::{Array, Promise, Uint8Array};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};
use waterfill::{
    report::{
        AllocationReport, AllocationSettings, Budget, CalibrationSettings, CalibrationSummary, Channels, Coding, CurveSettings,
        DataSummary, Distortion, Evaluation, EvaluationReport, LayerDamage, LayerRow, LayerSummary, Measure, MeasuredCurves, MeasuredPoint,
        Method, ModelSummary, Preprocessing, RdCurves, RdLine, RdPoint, Report, SweepSettings, TransformChoice, TransformKind,
        pictures::{PictureRange, PictureScore, Shown},
    },
    worker::messages::{FromEngine, ToEngine},
};
use web_sys::{File, MessageChannel, MessageEvent};

wasm_bindgen_test_configure!(run_in_browser);

/// Turns a message into the value that is posted, and that value into a message.
fn there_and_back<T: Serialize + DeserializeOwned>(message: &T) -> T {
    let value = message.serialize(&serde_wasm_bindgen::Serializer::new()).expect("serializes");
    serde_wasm_bindgen::from_value(value).expect("deserializes")
}

/// Posts a value through a channel, as `postMessage` of page and worker do, and waits for it at the other end.
async fn posted(value: &JsValue, transfer: &Array) -> JsValue {
    let channel = MessageChannel::new().expect("a channel");
    let arrival = Promise::new(&mut |resolve, _| channel.port2().set_onmessage(Some(&resolve)));
    channel.port1().post_message_with_transferable(value, transfer).expect("posts");
    JsFuture::from(arrival).await.expect("an event").unchecked_into::<MessageEvent>().data()
}

fn settings() -> AllocationSettings {
    AllocationSettings {
        budget: Budget::Size(3_000_000_000_000),
        transform: TransformChoice::KltRow,
        feedback: false,
        locks: vec![(2, 8)],
        excludes: vec![0, 7],
    }
}

fn evaluation() -> EvaluationReport {
    let reference = Evaluation {
        what: "full precision".into(),
        images: 600,
        top1: Some(0.995),
        top5: None,
        agreement: None,
        distortion: None,
        sqnr_db: None,
        psnr_db: None,
        pictures: None,
        seconds: 0.1,
    };
    let compressed = Evaluation { agreement: Some(1.0 / 3.0), distortion: Some(1e-30), sqnr_db: Some(-2.5), ..reference.clone() };
    EvaluationReport {
        data: DataSummary {
            name: "digits.npz".into(),
            several: false,
            format: "npz".into(),
            images: 600,
            size: [8, 8, 1],
            labelled: true,
            classes: vec!["zéro".into()],
            notes: Vec::new(),
        },
        preprocessing: Preprocessing {
            resize: None,
            crop: Some([224, 160]),
            channels: Channels::Grey,
            scale: 1.0 / 255.0,
            mean: vec![0.306],
            std: vec![0.3762],
            channels_last: true,
            origin: "edited".into(),
        },
        reference: Some(reference),
        compressed: Some(compressed),
        damage: vec![LayerDamage { index: 0, name: "conv1.weight".into(), distortion: 0.5, share: 1.0, changed: None }],
        notes: vec!["One sentence.".into()],
    }
}

fn calibration() -> CalibrationSummary {
    let EvaluationReport { data, preprocessing, .. } = evaluation();
    CalibrationSummary {
        data,
        preprocessing,
        settings: CalibrationSettings { images: 200, draws: 2, seed: (1 << 53) - 1 },
        images: 200,
        samples: 400,
        images_per_sample: 1,
        sampling_error: 0.07,
        unreached: 1,
    }
}

fn model() -> ModelSummary {
    ModelSummary {
        name: "réseau.onnx".into(),
        format: "onnx".into(),
        bytes: (1 << 53) - 1,
        tensors: 2,
        layer_weights: 432,
        layer_bytes: 1728,
        small_values: 16,
        exact_bytes: 8,
        layers: vec![LayerSummary { index: 0, name: "conv1.weight".into(), shape: vec![16, 3, 3, 3], weights: 432 }],
        notes: vec!["One sentence.".into()],
    }
}

fn allocation() -> AllocationReport {
    let row = |index, transform| LayerRow {
        index,
        name: format!("layer{index}"),
        shape: vec![16, 27],
        weights: 432,
        transform,
        feedback: index == 1,
        bits: 1.0 / 3.0,
        bytes: 18,
        basis_bytes: 3,
        error: f64::MIN_POSITIVE,
        gap: None,
        locked: Some(0),
        excluded: transform.is_none(),
        depths: vec![8, 3, 0],
    };
    AllocationReport {
        measure: Measure::Output,
        rate: 0.1,
        bytes: 1 << 40,
        ratio: 7.5,
        db: -31.4,
        gap: None,
        lambda: 1e-300,
        measured: true,
        other_bytes: 100,
        not_reachable: Some("1 bit per weight is not reachable; the nearest is 2.".into()),
        rate_range: (0.5, 8.25),
        layers: vec![row(0, Some(TransformKind::KltCol)), row(1, Some(TransformKind::None)), row(2, None)],
    }
}

fn curves() -> RdCurves {
    let points = (0..50).map(|i| RdPoint { rate: f64::from(i) / 7.0, bytes: 1000 * i as u64, db: -f64::from(i) * 6.02 }).collect();
    RdCurves { measure: Measure::Output, lines: vec![RdLine { label: "auto".into(), points }] }
}

#[wasm_bindgen_test]
async fn a_file_is_posted_by_handle() {
    let file = File::new_with_str_sequence(&Array::of1(&JsValue::from_str("weights")), "a.onnx").expect("a file");
    let message = ToEngine::Open {
        job: 3,
        files: Array::of1(&file),
        curves: CurveSettings { blocks: 4, distortion: Distortion::Diagonal, ..Default::default() },
        allocation: settings(),
    };
    let value = message.serialize(&serde_wasm_bindgen::Serializer::new()).expect("serializes");
    let value = posted(&value, &Array::new()).await;
    let ToEngine::Open { job, files, curves, allocation } = serde_wasm_bindgen::from_value(value).expect("deserializes") else {
        panic!("another message")
    };
    let file: File = files.get(0).dyn_into().expect("a File");
    assert_eq!((job, file.name(), curves.blocks, allocation), (3, "a.onnx".to_owned(), 4, settings()));
    let text = JsFuture::from(file.slice_with_f64_and_f64(1.0, 4.0).expect("a slice").array_buffer()).await.expect("its bytes");
    assert_eq!(Uint8Array::new(&text).to_vec(), b"eig");
}

#[wasm_bindgen_test]
async fn results_are_transferred_not_copied() {
    let sent = [Uint8Array::from(&[1u8, 2, 3][..]), Uint8Array::from(&[4u8][..])];
    let message = FromEngine::Reconstructed { job: 9, file_name: "a.npz".into(), parts: Array::of2(&sent[0], &sent[1]) };
    let value = message.serialize(&serde_wasm_bindgen::Serializer::new()).expect("serializes");
    let value = posted(&value, &message.transfer()).await;
    assert!(sent.iter().all(|part| part.length() == 0), "the sender keeps nothing");
    let FromEngine::Reconstructed { job: 9, file_name, parts } = serde_wasm_bindgen::from_value(value).expect("deserializes") else {
        panic!("another message")
    };
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.unchecked_into::<Uint8Array>().to_vec()).collect();
    assert_eq!((file_name.as_str(), parts), ("a.npz", vec![vec![1, 2, 3], vec![4]]));
}

#[wasm_bindgen_test]
async fn pictures_survive_the_way_with_their_pixels() {
    let range = PictureRange::of(-1.0, 1.0);
    let score = PictureScore { size: [1, 1, 3], range, peak: range.peak(), identical: true };
    let mut report = evaluation();
    report.compressed = report.compressed.map(|e| Evaluation { pictures: Some(score), ..e });
    // No input: its pixels are empty.
    let shown = Shown { name: "a.png".into(), image: 3, input: None, output: [1, 1], whole: [300, 1], psnr_db: None };
    let sent = [Uint8Array::new_with_length(0), Uint8Array::from(&[1u8, 2, 3, 255][..]), Uint8Array::from(&[4u8, 5, 6, 255][..])];
    let pixels = sent.iter().collect();
    let message = FromEngine::Evaluated { job: 8, report: Box::new(report.clone()), pictures: vec![shown.clone()], pixels };
    let value = message.serialize(&serde_wasm_bindgen::Serializer::new()).expect("serializes");
    let value = posted(&value, &message.transfer()).await;
    assert!(sent.iter().all(|part| part.length() == 0), "the sender keeps nothing");
    let FromEngine::Evaluated { job: 8, report: same, pictures, pixels } = serde_wasm_bindgen::from_value(value).expect("deserializes")
    else {
        panic!("another message")
    };
    let pixels: Vec<Vec<u8>> = pixels.iter().map(|part| part.unchecked_into::<Uint8Array>().to_vec()).collect();
    assert_eq!((*same, pictures, pixels), (report, vec![shown], vec![vec![], vec![1, 2, 3, 255], vec![4, 5, 6, 255]]));
}

#[wasm_bindgen_test]
fn requests_survive_the_way() {
    for allocation in [AllocationSettings::default(), settings(), AllocationSettings { budget: Budget::Ratio(7.5), ..settings() }] {
        let message = ToEngine::Recompute { job: u32::MAX, curves: CurveSettings::default(), allocation: allocation.clone() };
        let ToEngine::Recompute { job, allocation: same, .. } = there_and_back(&message) else { panic!("another message") };
        assert_eq!((job, same), (u32::MAX, allocation));
    }
    let method = CurveSettings { coding: Coding::Entropy, method: Method::Feedback, matching: true, ..Default::default() };
    let (curves, summary) = (CurveSettings { blocks: 1, distortion: Distortion::Diagonal, ..method }, calibration());
    for asked in [None, Some(summary.preprocessing)] {
        let message =
            ToEngine::Calibrate { job: 4, preprocessing: asked.clone(), calibration: summary.settings, curves, allocation: settings() };
        let ToEngine::Calibrate { job, preprocessing, calibration, curves: same, allocation } = there_and_back(&message) else {
            panic!("another message")
        };
        assert_eq!((job, preprocessing, calibration, same, allocation), (4, asked, summary.settings, curves, settings()));
    }
    let message = ToEngine::Forget { job: 5, curves, allocation: settings() };
    let ToEngine::Forget { job, curves: same, allocation } = there_and_back(&message) else { panic!("another message") };
    assert_eq!((job, same, allocation), (5, curves, settings()));
    let wanted = SweepSettings::all(true);
    let message = ToEngine::Sweep { job: 6, preprocessing: None, settings: wanted.clone(), allocation: settings() };
    let ToEngine::Sweep { job, preprocessing, settings: same, allocation } = there_and_back(&message) else { panic!("another message") };
    assert_eq!((job, preprocessing, same, allocation), (6, None, wanted, settings()));
    assert!(matches!(there_and_back(&ToEngine::Check { job: 7 }), ToEngine::Check { job: 7 }));
    assert!(matches!(there_and_back(&ToEngine::Encode { job: 1 }), ToEngine::Encode { job: 1 }));
    assert!(matches!(there_and_back(&ToEngine::Reconstruct { job: 2 }), ToEngine::Reconstruct { job: 2 }));
    assert!(matches!(there_and_back(&ToEngine::Cancel { job: 3 }), ToEngine::Cancel { job: 3 }));
}

#[wasm_bindgen_test]
fn answers_survive_the_way() {
    let FromEngine::Opened { model: same, .. } = there_and_back(&FromEngine::Opened { job: 1, model: model() }) else { panic!("another") };
    assert_eq!(same, model());
    for calibrated in [None, Some(Box::new(calibration()))] {
        let message = FromEngine::Curves { job: 1, curves: curves(), seconds: 0.25, calibration: calibrated.clone() };
        let FromEngine::Curves { curves: same, seconds, calibration, .. } = there_and_back(&message) else { panic!("another") };
        assert_eq!((same, seconds, calibration), (curves(), 0.25, calibrated));
    }
    let message = FromEngine::Allocated { job: 1, allocation: allocation(), command: "waterfill compress".into() };
    let FromEngine::Allocated { allocation: same, command, .. } = there_and_back(&message) else { panic!("another") };
    assert_eq!((same, command.as_str()), (allocation(), "waterfill compress"));
    // Of an opened `.tq` these are not known.
    let unknown = AllocationReport { db: f64::NAN, lambda: f64::NAN, ..allocation() };
    let message = FromEngine::Allocated { job: 1, allocation: unknown, command: String::new() };
    let FromEngine::Allocated { allocation: same, .. } = there_and_back(&message) else { panic!("another") };
    assert!(same.db.is_nan() && same.lambda.is_nan());
    assert_eq!(AllocationReport { db: -31.4, lambda: 1e-300, ..same }, allocation());
    for left in [None, Some(2.5)] {
        let layer = "layer1".to_owned();
        let message =
            FromEngine::Progress { job: 1, stage: "curves".into(), layer, done: 3, total: 54, fraction: 1.0 / 3.0, seconds_left: left };
        let FromEngine::Progress { done, total, fraction, seconds_left, .. } = there_and_back(&message) else { panic!("another") };
        assert_eq!((done, total, fraction, seconds_left), (3, 54, 1.0 / 3.0, left));
    }
}

#[wasm_bindgen_test]
fn what_was_measured_survives_the_way() {
    let message = FromEngine::Settled { job: 1, allocation: Box::new(allocation()), check: Some(Box::new(evaluation())), tried: 3 };
    let FromEngine::Settled { allocation: same, check, tried, .. } = there_and_back(&message) else { panic!("another") };
    assert_eq!((*same, check.map(|c| *c), tried), (allocation(), Some(evaluation()), 3));
    assert!(matches!(there_and_back(&FromEngine::Checked { job: 2 }), FromEngine::Checked { job: 2 }));
    let (e, found) = (evaluation(), calibration());
    let point = MeasuredPoint {
        transform: TransformChoice::EltCol,
        rate_asked: 2.0,
        rate: 1.99,
        bytes: 1234,
        db: Some(-9.5),
        predicted_db: None,
        top1: Some(0.75),
        top5: None,
        agreement: Some(1.0),
        psnr_db: Some(30.25),
    };
    let measured = MeasuredCurves {
        model: "a.onnx".into(),
        data: e.data,
        preprocessing: e.preprocessing,
        reference: e.reference.expect("there is one"),
        pictures: true,
        curve_settings: CurveSettings::default(),
        calibration: Some(found),
        settings: SweepSettings::all(true),
        points: vec![point],
    };
    let message = FromEngine::Measured { job: 1, curves: Box::new(measured.clone()) };
    let FromEngine::Measured { curves: same, .. } = there_and_back(&message) else { panic!("another") };
    assert_eq!(*same, measured);
}

#[wasm_bindgen_test]
fn a_whole_report_survives_the_way_and_json() {
    let report = Report {
        program: "waterfill".into(),
        command: "waterfill compress".into(),
        model: model(),
        curve_settings: CurveSettings::default(),
        settings: settings(),
        allocation: allocation(),
        curves: curves(),
        calibration: Some(calibration()),
        check: Some(evaluation()),
        alternatives: Vec::new(),
        evaluation: Some(evaluation()),
        promise: None,
    };
    let parts = Array::of1(&Uint8Array::from(&[7u8][..]));
    let message = FromEngine::Encoded { job: 1, file_name: "a.tq".into(), parts, report: Box::new(report.clone()), csv: "a,b\n".into() };
    let FromEngine::Encoded { parts, report: same, csv, .. } = there_and_back(&message) else { panic!("another") };
    assert_eq!((*same, csv.as_str()), (report.clone(), "a,b\n"));
    assert_eq!(parts.get(0).unchecked_into::<Uint8Array>().to_vec(), [7]);
    let json = serde_json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("a report"), report);
}

#[wasm_bindgen_test]
fn the_worker_can_say_that_nothing_starts() {
    // www/worker.js makes this message by hand.
    let value = js_sys::JSON::parse(r#"{"Failed":{"job":0,"error":"x"}}"#).expect("JSON");
    let FromEngine::Failed { job: 0, error } = serde_wasm_bindgen::from_value(value).expect("a message") else { panic!("another message") };
    assert_eq!(error, "x");
}

#[wasm_bindgen_test]
fn decoded_bits_are_the_same_as_natively() {
    golden_file::check();
}

#[wasm_bindgen_test]
fn the_job_runs_in_wasm() {
    use std::rc::Rc;

    use waterfill::{
        container::TqFile,
        io::source::BytesSource,
        pipeline::{self, Opened, job::Run},
    };

    fn all<T>(job: pipeline::job::Job<T>) -> Vec<T> {
        let mut run = Run::new(job);
        while let Some((index, task)) = run.next_task().expect("reads") {
            run.finish(index, task().expect("runs"), 0.0);
        }
        run.results().expect("all items ran")
    }
    let model = include_bytes!("../www/samples/resnet-digits.onnx").to_vec();
    let Opened::Model(mut session) = pipeline::open(vec![Rc::new(BytesSource::new("resnet-digits.onnx", model))]).expect("opens") else {
        panic!("not a model")
    };
    let curves = all(session.curves_job(CurveSettings::default()));
    session.set_curves(CurveSettings::default(), curves);
    let (allocation, report) = session.allocate(&AllocationSettings::default()).expect("allocates");
    let layers = all(session.encode_job(&allocation));
    let mut file = Vec::new();
    session.write(&layers, &mut file).expect("writes");
    assert_eq!(file.len() as u64, report.bytes);
    let tq = TqFile::open(Rc::new(BytesSource::new("resnet-digits.tq", file))).expect("opens");
    assert_eq!(all(pipeline::decode_job(&tq)).len(), session.model.tensors.len());
}

/// The same as natively (`nn::kernel` has this test, too): sums of 256 terms at a time, one after the other, of rounded products.
#[wasm_bindgen_test]
fn products_are_the_same_bits_as_on_any_processor() {
    use waterfill::nn::kernel::{Matrix, product};
    let [m, k, n] = [37, 600, 41];
    let noise = |count: usize, factor: u32| -> Vec<f32> {
        (1..=count as u32).map(|i| i.wrapping_mul(factor) as f32 / 2f32.powi(31) - 1.0).collect()
    };
    let (a, b) = (noise(m * k, 2_654_435_761), noise(k * n, 2_246_822_519));
    let mut c = vec![0.0; m * n];
    product(m, k, n, Matrix::rows(&a, k), Matrix::rows(&b, n), &mut c, n, false);
    for (i, row) in c.chunks(n).enumerate() {
        for (j, found) in row.iter().enumerate() {
            let part = |start: usize| (start..(start + 256).min(k)).fold(0f32, |sum, p| sum + a[i * k + p] * b[p * n + j]);
            let sum = (0..k).step_by(256).map(part).reduce(|sum, part| sum + part);
            assert_eq!(Some(found.to_bits()), sum.map(f32::to_bits), "at {i} {j}");
        }
    }
}
