//! The whole way, on a real network in four formats: `resnet20.*` of the folder named by `WATERFILL_DATA`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{path::PathBuf, rc::Rc};

use waterfill::{
    container::TqFile,
    io::{Dtype, Role, source::BytesSource, source::PathSource, tensor},
    pipeline::{
        self, Opened, Session,
        job::{Span, Waiting, run, wait},
        relative_error,
        settle::settle,
    },
    report::{AllocationSettings, Budget, Coding, CurveSettings},
};

/// The folder; without it these tests say that they were left out.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("WATERFILL_DATA").map(PathBuf::from);
    match &folder {
        None => eprintln!("left out: WATERFILL_DATA is not set"),
        Some(folder) => assert!(folder.join("resnet20.onnx").is_file(), "WATERFILL_DATA is set, but {folder:?} has no resnet20.onnx"),
    }
    folder
}

fn session(path: PathBuf, coding: Coding) -> Session {
    let Opened::Model(mut session) = pipeline::open(vec![Rc::new(PathSource::open(path).unwrap())]).unwrap() else {
        panic!("a model is not a .tq")
    };
    let settings = CurveSettings { coding, ..Default::default() };
    let curves = run(session.curves_job(settings), &mut |_| Ok(())).unwrap();
    session.set_curves(settings, curves);
    *session
}

fn encode(session: &Session, bits: f64) -> (Vec<u8>, f64) {
    let settings = AllocationSettings { budget: Budget::Bits(bits), ..Default::default() };
    let (allocation, predicted) = session.allocate(&settings).unwrap();
    let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
    let mut file = Vec::new();
    session.write(&layers, &mut file).unwrap();
    let report = session.report(&allocation, &settings, &layers).unwrap();
    assert_eq!(file.len() as u64, predicted.bytes);
    assert!((report.allocation.db - predicted.db).abs() < 0.15, "predicted {} dB, measured {} dB", predicted.db, report.allocation.db);
    (file, report.allocation.db)
}

#[test]
fn four_formats_go_through() {
    let Some(data) = data() else { return };
    for name in ["resnet20.onnx", "resnet20.safetensors", "resnet20.pth", "resnet20.npz"] {
        let session = session(data.join(name), Coding::Fixed);
        let summary = session.summary();
        assert_eq!((summary.layers.len(), summary.layer_weights), (20, 268_336), "{name}");
        let (file, db) = encode(&session, 8.0);
        assert!(db < -42.0, "{name}: {db} dB at 8 bits");
        let tq = TqFile::open(Rc::new(BytesSource::new("resnet20.tq", file))).unwrap();
        let tensors = run(pipeline::decode_job(&tq), &mut |_| Ok(())).unwrap();
        let mut rebuilt = Vec::new();
        pipeline::rebuild(&tq, tensors, &mut rebuilt).unwrap();
        let Opened::Model(back) = pipeline::open(vec![Rc::new(BytesSource::new(name, rebuilt))]).unwrap() else { panic!("{name}") };
        assert_eq!(back.model.tensors, session.model.tensors, "{name}: names, types, shapes, order");
        for (i, info) in back.model.tensors.iter().enumerate() {
            let (a, b) = (session.model.reader.read(i).unwrap(), back.model.reader.read(i).unwrap());
            match info.role {
                Role::Exact => assert_eq!(a, b, "{name}: {}", info.name),
                _ => {
                    let error = relative_error(&tensor::to_f32(&a, Dtype::F32), &tensor::to_f32(&b, Dtype::F32));
                    assert!(error < 3e-4, "{name}: {} errs {error}", info.name);
                }
            }
        }
    }
}

/// At the rates of `../shared/data/README.md` the weight error falls by about 6 dB a bit.
#[test]
fn a_bit_is_about_six_decibels() {
    let Some(data) = data() else { return };
    let session = session(data.join("resnet20.onnx"), Coding::Fixed);
    let db: Vec<f64> = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].iter().map(|b| encode(&session, *b).1).collect();
    assert!(db.windows(2).all(|w| (4.0..7.0).contains(&(w[0] - w[1]))), "{db:?}");
}

/// Allocated by the coder's rates, a file is as large as was asked for to half a percent, and nearer to the weights than one of fixed lengths.
#[test]
fn entropy_coded_budgets_are_met() {
    let Some(data) = data() else { return };
    let fixed = session(data.join("resnet20.onnx"), Coding::Fixed);
    let session = session(data.join("resnet20.onnx"), Coding::Entropy);
    for bits in [0.4, 1.0, 2.0, 3.0, 5.0] {
        let settings = AllocationSettings { budget: Budget::Bits(bits), ..Default::default() };
        let settled = wait(settle(&session, &settings, None, Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap();
        let report = &settled.report;
        assert!(report.rate <= bits && report.rate > 0.995 * bits, "{bits} bits asked for, {} given", report.rate);
        assert_eq!(session.tq(&settled.layers).unwrap().file_bytes(), report.bytes);
        assert!(report.layers.iter().all(|l| l.depths.is_empty()));
        if bits >= 2.0 {
            let (_, db) = encode(&fixed, bits);
            assert!(report.db < db - 2.0, "{bits} bits: {} dB, {db} dB in fixed lengths", report.db);
        }
    }
}
