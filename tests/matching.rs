//! Gain and bias matching on the network it was measured for: `resnet20.onnx` and others of the folder named by `WATERFILL_DATA`.
#![cfg(all(feature = "cli", not(target_arch = "wasm32")))]

use std::{path::PathBuf, rc::Rc, time::Instant};

use waterfill::{
    data::{self, Dataset, Entry},
    error::Error,
    graph::Runnable,
    io::source::PathSource,
    pipeline::{
        self, Opened, Session,
        evaluate::{self, Decoded, Evaluator, Options, Reference},
        job::{self, Job, Runner, Span, Waiting, wait},
        matching::{self, Matched, Matcher},
        sweep,
    },
    report::{AllocationSettings, Budget, Coding, CurveSettings, Evaluation, TransformChoice},
};

fn run<T: Send + 'static>(job: Job<T>) -> Vec<T> {
    job::run(job, &mut |_| Ok(())).unwrap()
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("WATERFILL_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("WATERFILL_DATA is not set: nothing was tested");
    }
    folder
}

fn images(path: PathBuf) -> Dataset {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    data::open(vec![Entry { path: name, source: Rc::new(PathSource::open(path).unwrap()) }]).unwrap()
}

/// A session whose layers are entropy-coded without a transform.
fn session(path: PathBuf) -> Session {
    let Opened::Model(session) = pipeline::open(vec![Rc::new(PathSource::open(path).unwrap())]).unwrap() else { panic!("a model") };
    let mut session = *session;
    let settings = CurveSettings { coding: Coding::Entropy, blocks: 1, ..Default::default() };
    let curves = run(session.curves_job(settings));
    session.set_curves(settings, curves);
    session
}

/// What a file of so many bits per weight decodes to.
fn compressed(session: &Session, bits: f64) -> sweep::Compressed {
    let transform = TransformChoice::None;
    let settings = AllocationSettings { budget: Budget::Bits(bits), transform, ..Default::default() };
    let (allocation, _) = session.allocate(&settings).unwrap();
    let runner = &mut Waiting::new(|_, _| Ok(()));
    wait(sweep::compressed(session, &allocation, &settings, true, Span::WHOLE, runner)).unwrap()
}

fn matcher(session: &Session, decoded: &Decoded, data: &Dataset, options: matching::Options) -> Matcher {
    let preprocessing = evaluate::preprocessing(&session.runnable().unwrap(), data).unwrap();
    session.matcher(decoded, data, preprocessing, options).unwrap()
}

fn matched(matcher: &Matcher) -> Matched {
    wait(matcher.run(Span::WHOLE, &mut Waiting::new(|_, _| Ok(())))).unwrap()
}

/// Images that networks are compared on.
struct Judge {
    evaluator: Evaluator,
    reference: Reference,
}

impl Judge {
    fn new(session: &Session, data: &Dataset, limit: usize) -> Judge {
        let runnable = session.runnable().unwrap();
        let preprocessing = evaluate::preprocessing(&runnable, data).unwrap();
        let evaluator = Evaluator::new(&runnable, data, preprocessing, Options { limit: Some(limit), ..Options::default() }).unwrap();
        let reference = evaluator.reference(run(evaluator.reference_job()));
        Judge { evaluator, reference }
    }

    fn judge(&self, network: &Runnable) -> Evaluation {
        self.evaluator.finish("", 0.0, &run(self.evaluator.compressed_job(network, &self.reference).unwrap()))
    }
}

/// `‖ŷ − y‖²` on test images without matching and with it on calibration images, for some rates.
fn distortions(file: &str, rates: &[f64]) -> Option<Vec<(f64, f64)>> {
    let folder = folder()?;
    let (calibration, test) = (images(folder.join("cifar10-calib1000.npz")), images(folder.join("cifar10-test2000.npz")));
    let session = session(folder.join(file));
    let judge = Judge::new(&session, &test, 1000);
    let runnable = session.runnable().unwrap();
    let distortion = |bits: &f64| {
        let mut compressed = compressed(&session, *bits);
        let before = judge.judge(&runnable.with_tensors(&compressed.decoded.tensors).unwrap());
        let matcher = matcher(&session, &compressed.decoded, &calibration, matching::Options::default());
        let start = Instant::now();
        let found = matched(&matcher);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(found.images, 256);
        // The file with the offsets is as long as it was, and gives them back.
        let with_small = session.with_small(&found.tensors).unwrap();
        let tq = with_small.tq(&compressed.layers).unwrap();
        assert_eq!(tq.file_bytes(), session.tq(&compressed.layers).unwrap().file_bytes());
        let written = evaluate::decoded(&tq, &run(pipeline::decode_job(&tq)));
        found.apply(&session.model, &mut compressed.decoded);
        for (index, values) in &found.tensors {
            assert_eq!(&written.tensors.iter().find(|t| t.0 == *index).unwrap().1, values);
            assert_eq!(&compressed.decoded.tensors.iter().find(|t| t.0 == *index).unwrap().1, values);
        }
        let after = judge.judge(&runnable.with_tensors(&compressed.decoded.tensors).unwrap());
        let (d, top1) = (|e: &Evaluation| e.distortion.unwrap(), |e: &Evaluation| 100.0 * e.top1.unwrap_or(f64::NAN));
        println!(
            "{file}, {:.2} bits: distortion {:.2} → {:.2}, top-1 {:.1} → {:.1} %, the pass took {seconds:.2} s",
            compressed.report.rate,
            d(&before),
            d(&after),
            top1(&before),
            top1(&after)
        );
        (d(&before), d(&after))
    };
    Some(rates.iter().map(distortion).collect())
}

#[test]
fn matching_lowers_the_distortion_of_other_images() {
    let Some(found) = distortions("resnet20.onnx", &[2.0, 1.5]) else { return };
    assert!(found.iter().all(|(before, after)| *after < 0.6 * before), "{found:?}");
}

/// Batch norms that the exporter kept are folded here: the same network, the same distortions.
#[test]
fn kept_batch_norms_take_the_offsets_of_folded_ones() {
    let Some(kept) = distortions("resnet20-legacy-bn.onnx", &[2.0]) else { return };
    let Some(folded) = distortions("resnet20.onnx", &[2.0]) else { return };
    let (kept, folded) = (kept[0].1, folded[0].1);
    assert!((kept / folded).ln().abs() < 0.25, "{kept} {folded}");
}

#[test]
fn results_do_not_depend_on_threads_and_a_pass_can_be_cancelled() {
    let Some(folder) = folder() else { return };
    let data = images(folder.join("cifar10-calib1000.npz"));
    let session = session(folder.join("resnet20.onnx"));
    let decoded = compressed(&session, 2.0).decoded;
    // 2 MB of activations, some ten images: the last batch is a short one.
    let options = matching::Options { memory: 4 << 20, ..Default::default() };
    let matcher = matcher(&session, &decoded, &data, options);
    assert!((2..100).contains(&matcher.images()), "{}", matcher.images());
    let found = matched(&matcher);
    assert_eq!(found, matched(&matcher));
    assert_eq!(found, wait(matcher.run(Span::WHOLE, &mut OneByOne)).unwrap());
    // Cancelled between its items, in the middle of the pass.
    let mut items = 0;
    let cancelled = wait(matcher.run(
        Span::WHOLE,
        &mut Waiting::new(|span, _| {
            items += 1;
            assert!(span.from >= 0.0 && span.to <= 1.0 + 1e-9);
            if items == 9 { Err(Error::Cancelled) } else { Ok(()) }
        }),
    ));
    assert_eq!(cancelled, Err(Error::Cancelled));
    assert_eq!(matched(&matcher), found, "and it can be run again");
}

/// Runs tasks here, one after the other, as a browser without threads does.
struct OneByOne;

impl Runner for OneByOne {
    async fn run<T: Send + 'static>(&mut self, _: Span, job: Job<'_, T>) -> Result<Vec<T>, Error> {
        let mut run = job::Run::new(job);
        while let Some((index, task)) = run.next_task()? {
            run.finish(index, task()?, 0.0);
        }
        Ok(run.results().unwrap())
    }

    fn now(&self) -> f64 {
        0.0
    }
}
