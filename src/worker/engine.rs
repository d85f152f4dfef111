//! The engine's loop: takes the page's messages, runs jobs of the pipeline, posts answers.
//!
//! Everything here runs on the worker's own thread. Between tasks it gives way to the worker's event loop, so that a `Cancel` (or a
//! new long job, which ends the one that runs) is seen; with threads, tasks run on the pool and this thread only
//! waits, so that it sees them at once. A task of an ended job may still run to its end on the pool; its result is dropped.

mod batch;
mod pictures;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{Array, Uint8Array};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::DedicatedWorkerGlobalScope;

use super::messages::{DataUse, FromEngine, ToEngine};
use crate::{
    container::TqFile,
    data::{self, Dataset, Entry},
    error::{Error, Result},
    graph::Runnable,
    io::{Source, source::BlobSource},
    pipeline::{
        self, Opened, Session,
        calibrate::{Calibrator, Memory},
        evaluate::{self, Evaluator, Options, Reference},
        figures::Making,
        job::{Job, Progress, Run, Runner, Span},
        promise::{self, Kept, Tests},
        settle::{self, Settled},
        sweep::{self, On, Sweep},
    },
    report::{
        AllocationSettings, CalibrationSettings, CurveSettings, Distortion, Evaluation, EvaluationReport, MeasuredCurves, ModelSummary,
        Preprocessing, Report, SweepSettings,
        figure::{Figure, Which},
        promise::Promise,
        table,
    },
};

/// What is open.
#[derive(Default)]
struct State {
    session: Option<Session>,
    tq: Option<Rc<TqFile>>,
    /// The network of the open `.tq`, once it was decoded.
    tq_runnable: Option<Rc<Runnable>>,
    settings: AllocationSettings,
    /// The open network on the open images, by use, and on those it was calibrated on ([`CHECK`]): moving the budget runs only the
    /// compressed network again.
    references: [Option<Rc<OnImages>>; 3],
    /// What the last settings came to, as a download holds it.
    settled: Option<Rc<Made>>,
    /// A sweep that was cancelled.
    sweep: Option<(Swept, Sweep)>,
    /// The samples taken last, of the open network on the open calibration images.
    samples: Option<Rc<Samples>>,
}

/// Samples for statistics, perhaps not all of them yet.
struct Samples {
    preprocessing: Preprocessing,
    settings: CalibrationSettings,
    calibrator: Calibrator,
}

/// What settings came to.
struct Made {
    settings: AllocationSettings,
    settled: Settled,
    /// What both networks gave on the images of the calibration, or why they were not run.
    check: Result<EvaluationReport>,
}

/// A network that was run on images.
struct OnImages {
    preprocessing: Preprocessing,
    evaluator: Evaluator,
    reference: Reference,
    evaluation: Evaluation,
}

/// What a sweep was asked for by: it goes on if it is asked for the same.
#[derive(PartialEq)]
struct Swept {
    preprocessing: Preprocessing,
    settings: SweepSettings,
    locks: Vec<(usize, u8)>,
    excludes: Vec<usize>,
    /// [`EPOCH`] when it began.
    epoch: u32,
}

/// Place of the references on the images of the calibration.
const CHECK: usize = 2;

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    /// Images, by use; models come and go under them.
    static IMAGES: RefCell<[Option<Dataset>; 2]> = RefCell::default();
    /// The job that runs, 0 when none does.
    static RUNNING: Cell<u32> = const { Cell::new(0) };
    /// Counts curves and test images: a sweep is of one of each.
    static EPOCH: Cell<u32> = const { Cell::new(0) };
}

fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

fn now() -> f64 {
    scope().performance().map_or(0.0, |p| p.now() / 1000.0)
}

/// Posts a message, with its buffers transferred.
pub fn post(message: &FromEngine) {
    let posted = message
        .serialize(&serde_wasm_bindgen::Serializer::new())
        .map_err(JsValue::from)
        .and_then(|value| scope().post_message_with_transfer(&value, &message.transfer()));
    if let Err(e) = posted {
        web_sys::console::error_2(&"a message could not be posted".into(), &e);
    }
}

/// Takes a message from the page.
pub async fn handle(message: JsValue) {
    let message = match serde_wasm_bindgen::from_value::<ToEngine>(message) {
        Ok(message) => message,
        Err(e) => return post(&FromEngine::Failed { job: 0, error: format!("The page sent a message that cannot be read: {e}.") }),
    };
    let (job, result) = match message {
        ToEngine::Open { job, files, curves, allocation } => (job, open(job, files, curves, allocation).await),
        ToEngine::Batch { job, groups, which, curves, allocation, calibration } => {
            (job, batch::run(job, groups, which, curves, allocation, calibration).await)
        }
        ToEngine::Pack { job, files } => (job, batch::pack(job, files)),
        ToEngine::Recompute { job, curves, allocation } => (job, recompute(job, curves, allocation).await),
        ToEngine::Calibrate { job, preprocessing, calibration, curves, allocation } => {
            (job, calibrate(job, preprocessing, calibration, curves, allocation).await)
        }
        ToEngine::Forget { job, curves, allocation } => (job, forget(job, curves, allocation).await),
        ToEngine::Allocate { job, allocation } => (job, allocate(job, allocation)),
        ToEngine::Encode { job } => (job, encode(job).await),
        ToEngine::Reconstruct { job } => (job, reconstruct(job).await),
        ToEngine::OpenData { job, usage, files } => (job, open_data(job, usage, files)),
        ToEngine::CloseData { job, usage } => {
            set_images(usage, None);
            post(&FromEngine::DataOpened { job, usage, summary: None });
            (job, Ok(()))
        }
        ToEngine::Network { job } => (job, network(job).await),
        ToEngine::Evaluate { job, preprocessing, damage } => (job, evaluate(job, preprocessing, damage).await),
        ToEngine::Check { job } => (job, check(job).await),
        ToEngine::Sweep { job, preprocessing, settings, allocation } => (job, sweep_on(job, preprocessing, settings, allocation).await),
        ToEngine::Promise { job, preprocessing, lose, allocation } => (job, promise(job, preprocessing, lose, allocation).await),
        ToEngine::Figure { number, which, layer } => {
            let figure = figure(which, layer).await.map(Box::new).map_err(|e| e.to_string());
            return post(&FromEngine::Figure { number, figure });
        }
        ToEngine::Cancel { job } => {
            // The job's own loop sees this and answers.
            if RUNNING.get() == job {
                RUNNING.set(0);
            }
            return;
        }
    };
    if RUNNING.get() == job {
        RUNNING.set(0);
    }
    match result {
        Ok(()) => {}
        Err(Error::Cancelled) => post(&FromEngine::Cancelled { job }),
        Err(e) => post(&FromEngine::Failed { job, error: e.to_string() }),
    }
}

/// Lets the worker's event loop run: waiting messages are handled before this returns.
async fn give_way(milliseconds: i32) {
    let timeout = js_sys::Promise::new(&mut |resolve, _| {
        let set = js_sys::Reflect::get(&scope(), &"setTimeout".into()).map(JsCast::unchecked_into::<js_sys::Function>);
        let called = set.and_then(|set| set.call2(&JsValue::UNDEFINED, &resolve, &milliseconds.into()));
        if called.is_err() {
            // Without timers the best is not to wait.
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    });
    // A promise that is only ever resolved.
    let _ = JsFuture::from(timeout).await;
}

/// The number of work that is not a job: it shows no progress, and goes on to its end beside a job.
const BESIDE: u32 = 0;

fn still_running(number: u32) -> Result<()> {
    if number == BESIDE || RUNNING.get() == number { Ok(()) } else { Err(Error::Cancelled) }
}

/// The part of a progress bar that a job is, and when the bar was begun, and where.
#[derive(Clone, Copy)]
struct Part {
    from: f64,
    to: f64,
    start: f64,
    begun: f64,
}

impl Part {
    fn whole() -> Part {
        Part { from: 0.0, to: 1.0, start: now(), begun: 0.0 }
    }

    fn part(self, Span { from, to }: Span) -> Part {
        let Span { from, to } = Span { from: self.from, to: self.to }.part(from, to);
        Part { from, to, ..self }
    }
}

/// Runs the jobs of one request.
struct Jobs {
    job: u32,
    part: Part,
}

impl Runner for Jobs {
    async fn run<T: Send + 'static>(&mut self, span: Span, job: Job<'_, T>) -> Result<Vec<T>> {
        run_part(self.job, self.part.part(span), job).await
    }

    fn now(&self) -> f64 {
        now()
    }
}

fn post_progress(job: u32, part: Part, p: &Progress) {
    if job == BESIDE {
        return;
    }
    let fraction = part.from + (part.to - part.from) * p.fraction;
    let worked = fraction - part.begun;
    post(&FromEngine::Progress {
        job,
        stage: p.stage.into(),
        layer: p.item.clone(),
        done: p.done as u32,
        total: p.total as u32,
        fraction,
        seconds_left: p.seconds_left.filter(|_| worked > 0.02).map(|_| (now() - part.start) * (1.0 - fraction) / worked),
    });
}

/// Runs a job whose progress is all there is to show.
async fn run<T: Send + 'static>(number: u32, job: Job<'_, T>) -> Result<Vec<T>> {
    run_part(number, Part::whole(), job).await
}

/// Runs a job's tasks one after the other, giving way between them.
#[cfg(not(feature = "threads"))]
async fn run_part<T: Send + 'static>(number: u32, part: Part, job: Job<'_, T>) -> Result<Vec<T>> {
    let start = now();
    let mut run = Run::new(job);
    let mut gave_way = now();
    while let Some((index, task)) = run.next_task()? {
        let result = task()?;
        let progress = run.finish(index, result, now() - start);
        // A few frames' worth of small layers at a time: each turn of the event loop costs some milliseconds.
        if now() - gave_way > 0.04 || progress.done == progress.total {
            post_progress(number, part, &progress);
            give_way(0).await;
            gave_way = now();
        }
        still_running(number)?;
    }
    Ok(run.results().expect("every item was run"))
}

/// Runs a job's tasks on the pool.
#[cfg(feature = "threads")]
async fn run_part<T: Send + 'static>(number: u32, part: Part, job: Job<'_, T>) -> Result<Vec<T>> {
    let start = now();
    let mut run = Run::new(job);
    let (send, receive) = std::sync::mpsc::channel::<(usize, Result<T>)>();
    let most = crate::pipeline::job::threads() + 1;
    let mut running = 0;
    let mut posted = 0.0;
    loop {
        while running < most {
            let Some((index, task)) = run.next_task()? else { break };
            let send = send.clone();
            running += 1;
            // A closed channel means that the job has ended.
            rayon::spawn(move || drop(send.send((index, task()))));
        }
        if running == 0 {
            return Ok(run.results().expect("every item was run"));
        }
        let mut last = None;
        while let Ok((index, result)) = receive.try_recv() {
            running -= 1;
            last = Some(run.finish(index, result?, now() - start));
        }
        match last {
            // More tasks first; the event loop at least 25 times a second.
            Some(progress) if now() - posted > 0.04 || progress.done == progress.total => {
                post_progress(number, part, &progress);
                give_way(0).await;
                posted = now();
            }
            Some(_) => {}
            None => give_way(1).await,
        }
        still_running(number)?;
    }
}

fn nothing_open() -> Error {
    Error::Setting("No model is open; drop one on the page first.".into())
}

fn session() -> Result<Session> {
    STATE.with_borrow(|s| s.session.clone()).ok_or_else(nothing_open)
}

fn source(file: JsValue) -> Result<Rc<dyn Source>> {
    BlobSource::new(file.unchecked_into()).map(|s| Rc::new(s) as Rc<dyn Source>)
}

async fn open(job: u32, files: Array, curves: CurveSettings, allocation: AllocationSettings) -> Result<()> {
    let start = now();
    RUNNING.set(job);
    let sources = files.iter().map(source).collect::<Result<Vec<_>>>()?;
    if let Some(images) = images_in(&sources) {
        return opened_images(job, DataUse::Test, images);
    }
    if let Some(groups) = batch::several(&sources) {
        post(&FromEngine::Several { job, groups });
        return Ok(());
    }
    match pipeline::open(sources)? {
        Opened::Model(mut session) => {
            post(&FromEngine::Opened { job, model: session.summary() });
            // Locks and excludes belong to the model before.
            let settings = AllocationSettings { locks: Vec::new(), excludes: Vec::new(), ..allocation };
            let computed = run(job, session.curves_job(curves)).await?;
            session.set_curves(curves, computed);
            EPOCH.set(EPOCH.get() + 1);
            STATE.with_borrow_mut(|s| *s = State { session: Some(*session), ..State::default() });
            finish_curves(job, start, settings)
        }
        Opened::Tq(tq) => {
            let (model, allocation) = pipeline::describe(&tq)?;
            let model = ModelSummary { format: "tq".into(), ..model };
            let command = format!("waterfill decompress {}", pipeline::quote(tq.name()));
            EPOCH.set(EPOCH.get() + 1);
            STATE.with_borrow_mut(|s| *s = State { tq: Some(Rc::new(*tq)), ..State::default() });
            post(&FromEngine::Opened { job, model });
            post(&FromEngine::Allocated { job, allocation, command });
            Ok(())
        }
    }
}

async fn recompute(job: u32, curves: CurveSettings, allocation: AllocationSettings) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    curves_of(job, now(), Part::whole(), session, curves, allocation).await
}

async fn forget(job: u32, curves: CurveSettings, allocation: AllocationSettings) -> Result<()> {
    let mut session = session()?;
    RUNNING.set(job);
    session.set_statistics(None);
    curves_of(job, now(), Part::whole(), session, curves, allocation).await
}

/// Computes the curves of `session`, which takes the place of the open one once it has them.
async fn curves_of(
    job: u32,
    start: f64,
    part: Part,
    mut session: Session,
    curves: CurveSettings,
    allocation: AllocationSettings,
) -> Result<()> {
    let measured = curves.distortion == Distortion::Measured && session.statistics().is_some();
    let images = images(DataUse::Calibration).filter(|_| measured);
    if measured && images.is_none() {
        let reason =
            "Distortions are measured by running the network on the calibration images, which are not open any more; choose them again.";
        return Err(Error::Setting(reason.into()));
    }
    // Measuring takes nearly all the time.
    let between = Part { to: if measured { part.from + 0.05 * (part.to - part.from) } else { part.to }, ..part };
    let computed = run_part(job, between, session.curves_job(curves)).await?;
    session.set_curves(curves, computed);
    if let Some((images, found)) = images.zip(session.statistics().map(|s| s.summary.clone())) {
        let measurer = session.measurer(&images, found.preprocessing, found.settings.images, Options::default().memory)?;
        let results = run_part(job, Part { from: between.to, ..part }, session.measured_job(&measurer)).await?;
        session.set_curves(curves, session.measured_curves(&measurer, &results));
    }
    EPOCH.set(EPOCH.get() + 1);
    STATE.with_borrow_mut(|s| (s.session, s.settled, s.sweep) = (Some(session), None, None));
    finish_curves(job, start, allocation)
}

fn finish_curves(job: u32, start: f64, settings: AllocationSettings) -> Result<()> {
    let session = session()?;
    let (curves, calibration) = (session.rd_curves(&settings)?, session.statistics().map(|s| Box::new(s.summary.clone())));
    post(&FromEngine::Curves { job, curves, seconds: now() - start, calibration });
    allocate(job, settings)
}

fn allocate(job: u32, settings: AllocationSettings) -> Result<()> {
    let session = session()?;
    // What was encoded by these settings is known better than what is predicted: after entropy coding it has other bytes.
    let known = STATE.with_borrow(|s| s.settled.clone()).filter(|known| known.settings == settings);
    let report = match known {
        Some(known) => known.settled.report.clone(),
        None => session.allocate(&settings)?.1,
    };
    let command = session.command(&settings);
    STATE.with_borrow_mut(|s| s.settings = settings);
    post(&FromEngine::Allocated { job, allocation: report, command });
    Ok(())
}

/// A figure of the open model, for the allocation asked for last.
async fn figure(which: Which, layer: usize) -> Result<Figure> {
    let (session, settings) = (session()?, STATE.with_borrow(|s| s.settings.clone()));
    let Making { job, finish } = session.figure(which, layer, &settings)?;
    let pieces = run(BESIDE, job).await?;
    Ok(finish(pieces))
}

async fn encode(job: u32) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let made = settled(job, &session).await?;
    let session = session.with_small(&made.settled.small)?;
    let Settled { allocation, layers, alternatives, .. } = &made.settled;
    let (alternatives, check) = (alternatives.clone(), made.check.as_ref().ok().cloned());
    let report = Report { alternatives, check, ..session.report(allocation, &made.settings, layers)? };
    let mut out = Parts::default();
    session.write(layers, &mut out)?;
    let csv = table::report_csv(&report);
    let file_name = pipeline::tq_name(&session.model.name);
    post(&FromEngine::Encoded { job, file_name, parts: out.finish(), report: Box::new(report), csv });
    Ok(())
}

async fn reconstruct(job: u32) -> Result<()> {
    RUNNING.set(job);
    let open = STATE.with_borrow(|s| s.tq.clone());
    let tq = match open {
        Some(tq) => tq,
        // What a download would hold, decoded as a download would be.
        None => {
            let session = session()?;
            let made = settled(job, &session).await?;
            Rc::new(session.with_small(&made.settled.small)?.tq(&made.settled.layers)?)
        }
    };
    let tensors = run(job, pipeline::decode_job(&tq)).await?;
    let mut out = Parts::default();
    pipeline::rebuild(&tq, tensors, &mut out)?;
    post(&FromEngine::Reconstructed { job, file_name: tq.original_name.clone(), parts: out.finish() });
    Ok(())
}

// Images, and networks run on them.

/// The images in what was dropped where models are: archives may hold either.
fn images_in(sources: &[Rc<dyn Source>]) -> Option<Dataset> {
    let [source] = sources else { return None };
    let name = source.name().to_ascii_lowercase();
    let archive = [".npz", ".zip"].iter().any(|e| name.ends_with(e));
    archive.then(|| data::open(vec![Entry { path: source.name().into(), source: source.clone() }]).ok()).flatten()
}

fn set_images(usage: DataUse, images: Option<Dataset>) {
    IMAGES.with_borrow_mut(|i| i[usage as usize] = images);
    STATE.with_borrow_mut(|s| {
        s.references[usage as usize] = None;
        match usage {
            DataUse::Calibration => (s.references[CHECK], s.samples, s.settled) = (None, None, None),
            DataUse::Test => {
                EPOCH.set(EPOCH.get() + 1);
                s.sweep = None;
            }
        }
    });
}

fn opened_images(job: u32, usage: DataUse, images: Dataset) -> Result<()> {
    let summary = images.summary.clone();
    set_images(usage, Some(images));
    post(&FromEngine::DataOpened { job, usage, summary: Some(summary) });
    Ok(())
}

fn open_data(job: u32, usage: DataUse, files: Array) -> Result<()> {
    let entry = |pair: JsValue| {
        let pair: Array = pair.unchecked_into();
        Ok(Entry { path: pair.get(0).as_string().unwrap_or_default(), source: source(pair.get(1))? })
    };
    opened_images(job, usage, data::open(files.iter().map(entry).collect::<Result<_>>()?)?)
}

fn images(usage: DataUse) -> Option<Dataset> {
    IMAGES.with_borrow(|i| i[usage as usize].clone())
}

/// The open network, with its weights in memory. That of a `.tq` is decoded first.
async fn runnable(job: u32) -> Result<Rc<Runnable>> {
    let (tq, made) = STATE.with_borrow(|s| (s.tq.clone(), s.tq_runnable.clone()));
    match (tq, made) {
        (None, _) => session()?.runnable(),
        (_, Some(made)) => Ok(made),
        (Some(tq), None) => {
            let tensors = run(job, pipeline::decode_job(&tq)).await?;
            let runnable = Rc::new(evaluate::tq_runnable(&tq, tensors)?);
            STATE.with_borrow_mut(|s| s.tq_runnable = Some(runnable.clone()));
            Ok(runnable)
        }
    }
}

async fn network(job: u32) -> Result<()> {
    RUNNING.set(job);
    let mut why_not: [Option<String>; 2] = Default::default();
    let mut guesses: Vec<(bool, Preprocessing)> = Vec::new();
    match runnable(job).await {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(e) => why_not.fill(Some(e.to_string())),
        Ok(runnable) => {
            for usage in [DataUse::Test, DataUse::Calibration] {
                let Some(mut images) = images(usage) else { continue };
                // Labels are no matter where accuracy is not measured.
                if usage == DataUse::Calibration {
                    images.labels = None;
                }
                let wrong = match evaluate::preprocessing(&runnable, &images) {
                    Err(e) => Some(e),
                    Ok(p) => {
                        let wrong = Evaluator::new(&runnable, &images, p.clone(), Options::default()).err();
                        guesses.push((wrong.is_some(), p));
                        wrong
                    }
                };
                why_not[usage as usize] = wrong.map(|e| e.to_string());
            }
        }
    }
    // One that works, of the tests if it does.
    guesses.sort_by_key(|(wrong, _)| *wrong);
    post(&FromEngine::Network { job, preprocessing: guesses.into_iter().next().map(|g| g.1), why_not });
    Ok(())
}

/// The samples that were taken in the same way before, or none of them yet.
fn samples(
    session: &Session,
    images: &Dataset,
    preprocessing: Option<Preprocessing>,
    settings: CalibrationSettings,
) -> Result<Rc<Samples>> {
    let preprocessing = preprocessing.map_or_else(|| evaluate::preprocessing(&*session.runnable()?, images), Ok)?;
    let known = STATE.with_borrow(|s| s.samples.clone());
    if let Some(known) = known.filter(|known| known.preprocessing == preprocessing && known.settings == settings) {
        return Ok(known);
    }
    // Those before are freed first.
    STATE.with_borrow_mut(|s| s.samples = None);
    let calibrator = session.calibrator(images, preprocessing.clone(), settings, Memory::default())?;
    let samples = Rc::new(Samples { preprocessing, settings, calibrator });
    STATE.with_borrow_mut(|s| s.samples = Some(samples.clone()));
    Ok(samples)
}

async fn calibrate(
    job: u32,
    preprocessing: Option<Preprocessing>,
    calibration: CalibrationSettings,
    curves: CurveSettings,
    allocation: AllocationSettings,
) -> Result<()> {
    let start = now();
    RUNNING.set(job);
    let images = images(DataUse::Calibration).ok_or_else(|| Error::Setting("No calibration images are open; choose some first.".into()))?;
    let mut session = session()?;
    let samples = samples(&session, &images, preprocessing, calibration)?;
    let statistics = samples.calibrator.job();
    let seen = if curves.distortion == Distortion::Diagonal { 0 } else { samples.calibrator.kept() };
    let between = statistics.cost() / (statistics.cost() + session.curves_cost(seen));
    // What is measured takes far longer than the samples.
    let between = if curves.distortion == Distortion::Measured { 0.1 * between } else { between };
    let whole = Part { start, ..Part::whole() };
    run_part(job, Part { to: between, ..whole }, statistics).await?;
    session.set_statistics(Some(samples.calibrator.statistics()));
    curves_of(job, start, Part { from: between, ..whole }, session, curves, allocation).await
}

/// What the open network gives on images; run only if it was not run on them before. `part` of the progress bar is its own. `place` says
/// where it is kept.
async fn on_images(job: u32, part: Part, evaluator: Evaluator, preprocessing: Preprocessing, place: usize) -> Result<Rc<OnImages>> {
    if let Some(known) = known_on_images(&evaluator, &preprocessing, place) {
        return Ok(known);
    }
    let start = now();
    let results = run_part(job, part, evaluator.reference_job()).await?;
    let reference = evaluator.reference(results);
    let evaluation = evaluator.finish_reference(evaluate::FULL, now() - start, &reference);
    let on_images = Rc::new(OnImages { preprocessing, evaluator, reference, evaluation });
    STATE.with_borrow_mut(|s| s.references[place] = Some(on_images.clone()));
    Ok(on_images)
}

fn known_on_images(evaluator: &Evaluator, preprocessing: &Preprocessing, place: usize) -> Option<Rc<OnImages>> {
    let known = STATE.with_borrow(|s| s.references[place].clone());
    known.filter(|known| known.preprocessing == *preprocessing && known.evaluator.images() == evaluator.images())
}

/// What the settings come to ([`settle`]), made only if it was not made before. A network that is not calibrated, or whose images are gone, or
/// that cannot be measured is encoded without being run.
async fn settled(job: u32, session: &Session) -> Result<Rc<Made>> {
    // They may change while a job goes on with these.
    let (settings, known) = STATE.with_borrow(|s| (s.settings.clone(), s.settled.clone()));
    if let Some(known) = known.filter(|known| known.settings == settings) {
        post_settled(job, &known);
        return Ok(known);
    }
    let part = Part::whole();
    let on = match on_calibration(job, session, part).await {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        on => on,
    };
    let (on, to) = on.map_or_else(|e| (Err(e), part.from), |(on, to)| (Ok(on), to));
    let mut jobs = Jobs { job, part: Part { from: to, ..part } };
    let run_on = on.as_ref().ok().map(|on| (&on.evaluator, &on.reference));
    let mut settled = settle::settle(session, &settings, run_on, Span::WHOLE, &mut jobs).await?;
    let evaluation = settled.evaluation.take();
    let check = on.map(|on| on.evaluator.report(Some(on.evaluation.clone()), evaluation, Vec::new()));
    let made = Rc::new(Made { settings, settled, check });
    // Other settings may have come meanwhile; then this is not what the page shows.
    if STATE.with_borrow(|s| s.settings == made.settings) {
        STATE.with_borrow_mut(|s| s.settled = Some(made.clone()));
        post_settled(job, &made);
    }
    Ok(made)
}

fn post_settled(job: u32, made: &Made) {
    let (allocation, check) = (Box::new(made.settled.report.clone()), made.check.as_ref().ok().cloned().map(Box::new));
    post(&FromEngine::Settled { job, allocation, check, tried: made.settled.alternatives.len() as u32 });
}

/// The open network with the images of its calibration, and how they become inputs.
fn with_calibration(session: &Session) -> Result<(Evaluator, Preprocessing)> {
    let no_images = || Error::Setting("The network is not calibrated on images that are open; calibrate it first.".into());
    let images = images(DataUse::Calibration).ok_or_else(no_images)?;
    let found = session.statistics().ok_or_else(no_images)?.summary.clone();
    let p = found.preprocessing;
    Ok((Evaluator::of_calibration(&*session.runnable()?, &images, p.clone(), found.settings, Options::default())?, p))
}

/// The open network on the images of its calibration, and where in the progress that ends.
async fn on_calibration(job: u32, session: &Session, part: Part) -> Result<(Rc<OnImages>, f64)> {
    let (evaluator, p) = with_calibration(session)?;
    let known = known_on_images(&evaluator, &p, CHECK).is_some();
    let to = part.part(Span { from: 0.0, to: if known { 0.0 } else { 0.1 } }).to;
    Ok((on_images(job, Part { to, ..part }, evaluator, p, CHECK).await?, to))
}

async fn check(job: u32) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let made = settled(job, &session).await?;
    if let Err(why) = &made.check {
        return Err(why.clone());
    }
    post(&FromEngine::Checked { job });
    Ok(())
}

async fn sweep_on(job: u32, preprocessing: Option<Preprocessing>, settings: SweepSettings, allocation: AllocationSettings) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let test = images(DataUse::Test).ok_or_else(no_tests)?;
    let runnable = session.runnable()?;
    let p = preprocessing.map_or_else(|| evaluate::preprocessing(&runnable, &test), Ok)?;
    let evaluator = Evaluator::new(&runnable, &test, p.clone(), Options::default())?;
    let (locks, excludes) = (allocation.locks.clone(), allocation.excludes.clone());
    let swept = Swept { preprocessing: p.clone(), settings: settings.clone(), locks, excludes, epoch: EPOCH.get() };
    let known = STATE.with_borrow_mut(|s| s.sweep.take()).filter(|(of, _)| *of == swept);
    let mut sweep = match known {
        Some((_, sweep)) => sweep,
        None => Sweep::new(&session, settings, allocation)?,
    };
    let result = sweep_points(job, &session, &mut sweep, evaluator, p).await;
    if swept.epoch == EPOCH.get() {
        STATE.with_borrow_mut(|s| s.sweep = Some((swept, sweep)));
    }
    result
}

/// Measures the points that a sweep still lacks.
async fn sweep_points(job: u32, session: &Session, sweep: &mut Sweep, evaluator: Evaluator, p: Preprocessing) -> Result<()> {
    let whole = Part::whole();
    // The full-precision network counts as one point more.
    let reference = if known_on_images(&evaluator, &p, DataUse::Test as usize).is_some() { 0.0 } else { 1.0 / (sweep.wanted() + 1) as f64 };
    let on = on_images(job, Part { to: reference, ..whole }, evaluator, p, DataUse::Test as usize).await?;
    let report = on.evaluator.report(None, None, Vec::new());
    let mut measured = MeasuredCurves {
        model: session.model.name.clone(),
        data: report.data,
        preprocessing: report.preprocessing,
        reference: on.evaluation.clone(),
        curve_settings: session.curve_settings(),
        calibration: session.statistics().map(|s| s.summary.clone()),
        settings: sweep.settings().clone(),
        points: sweep.points().to_vec(),
    };
    let there = sweep.points().len() as f64 / sweep.wanted() as f64;
    let part = Part { from: reference, begun: there * (1.0 - reference) + reference, start: now(), ..whole };
    let mut jobs = Jobs { job, part };
    let calibration = if session.curve_settings().matching { Some(with_calibration(session)?.0) } else { None };
    loop {
        let on = On { evaluator: &on.evaluator, reference: &on.reference, calibration: calibration.as_ref() };
        let point = sweep.step(session, on, &mut jobs).await?;
        let ended = point.is_none();
        measured.points.extend(point);
        let complete = measured.is_complete();
        if !ended || complete {
            post(&FromEngine::Measured { job, curves: Box::new(measured.clone()) });
        }
        if ended || complete {
            return Ok(());
        }
        // Points that were measured before run no job that would look for this.
        still_running(job)?;
    }
}

/// Finds the smallest file that keeps a promise ([`promise::keep`]), and keeps it as what its settings come to.
async fn promise(job: u32, preprocessing: Option<Preprocessing>, lose: f64, allocation: AllocationSettings) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let test = images(DataUse::Test).ok_or_else(no_tests)?;
    let runnable = session.runnable()?;
    let p = preprocessing.map_or_else(|| evaluate::preprocessing(&runnable, &test), Ok)?;
    let evaluator = Evaluator::new(&runnable, &test, p.clone(), Options::default())?;
    let whole = Part::whole();
    let part = |from: f64, to: f64| whole.part(Span { from, to });
    let on = match on_calibration(job, &session, part(0.0, 0.03)).await {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        on => on.map(|(on, _)| on),
    };
    let tests = on_images(job, part(0.03, 0.06), evaluator, p, DataUse::Test as usize).await?;
    let known = Tests { evaluator: &tests.evaluator, reference: &tests.reference, full: &tests.evaluation };
    let run_on = on.as_ref().ok().map(|on| (&on.evaluator, &on.reference));
    let told = |promise: &Promise| post(&FromEngine::Promised { job, promise: Box::new(promise.clone()), done: false });
    let mut jobs = Jobs { job, part: part(0.06, 1.0) };
    let (promise, kept) = promise::keep(&session, &allocation, lose, known, run_on, Span::WHOLE, &mut jobs, told).await?;
    if let Some(Kept { settings, mut settled, .. }) = kept {
        let evaluation = settled.evaluation.take();
        let check = on.map(|on| on.evaluator.report(Some(on.evaluation.clone()), evaluation, Vec::new()));
        STATE.with_borrow_mut(|s| s.settled = Some(Rc::new(Made { settings, settled, check })));
    }
    post(&FromEngine::Promised { job, promise: Box::new(promise), done: true });
    Ok(())
}

fn no_tests() -> Error {
    Error::Setting("No test images are open; choose some first.".into())
}

async fn evaluate(job: u32, preprocessing: Option<Preprocessing>, damage: bool) -> Result<()> {
    RUNNING.set(job);
    let test = images(DataUse::Test).ok_or_else(no_tests)?;
    let runnable = runnable(job).await?;
    let inputs = |images: &Dataset| match &preprocessing {
        Some(p) => Ok(p.clone()),
        None => evaluate::preprocessing(&runnable, images),
    };
    let p = inputs(&test)?;
    let evaluator = Evaluator::new(&runnable, &test, p.clone(), Options::default())?;
    let Some(session) = STATE.with_borrow(|s| s.session.clone()) else {
        // A `.tq` alone: there is nothing to compare it with.
        let alone = on_images(job, Part::whole(), evaluator, p, DataUse::Test as usize).await?;
        let described = STATE.with_borrow(|s| s.tq.as_ref().map(|tq| pipeline::describe(tq))).transpose()?;
        let what = described.map_or_else(String::new, |(_, allocation)| evaluate::what(&allocation));
        let compressed = Evaluation { what, ..alone.evaluation.clone() };
        let report = alone.evaluator.report(None, Some(compressed), Vec::new());
        post(&FromEngine::Evaluated { job, report: Box::new(report), pictures: Vec::new(), pixels: Array::new() });
        return Ok(());
    };
    let made = settled(job, &session).await?;
    let mut jobs = Jobs { job, part: Part::whole() };
    let session = session.with_small(&made.settled.small)?;
    let decoded = sweep::decode(&session, &made.settled.layers, Span::WHOLE, &mut jobs).await?;

    // One bar for all runs of networks: each counts as many as it runs images, which cost the same.
    let calibration = images(DataUse::Calibration).filter(|_| damage);
    let layers = if damage { decoded.layers.iter().filter(|l| l.at.is_some()).count() as f64 } else { 0.0 };
    let tests = evaluator.images() as f64;
    let calibrator = match &calibration {
        Some(images) => Some((inputs(images)?, images)),
        None => None,
    };
    let calibrator = match calibrator {
        Some((p, images)) => Some((Evaluator::new(&runnable, images, p.clone(), Options::default())?, p)),
        None => None,
    };
    let others = calibrator.as_ref().map_or(0.0, |(e, _)| e.images() as f64);
    let runs = [tests, tests, evaluator.pictures_cost() as f64, others, layers * if calibrator.is_some() { others } else { tests }];
    let (all, start) = (runs.iter().sum::<f64>(), now());
    let part = |run: usize| {
        let before: f64 = runs[..run].iter().sum();
        Part { from: before / all, to: (before + runs[run]) / all, start, begun: 0.0 }
    };

    let tested = on_images(job, part(0), evaluator, p, DataUse::Test as usize).await?;
    let (network, what) = (runnable.with_tensors(&decoded.tensors)?, evaluate::what(&made.settled.report));
    let mut jobs = Jobs { job, part: part(1) };
    let compressed = sweep::compare(&network, what, &tested.evaluator, &tested.reference, Span::WHOLE, &mut jobs).await?;
    let (pictures, pixels) = pictures::made(job, part(2), &tested.evaluator, &network, &compressed).await?;
    let damage = if damage {
        let on = match calibrator {
            Some((evaluator, p)) => on_images(job, part(3), evaluator, p, DataUse::Calibration as usize).await?,
            None => tested.clone(),
        };
        let results = run_part(job, part(4), on.evaluator.damage_job(&decoded, &on.reference, None)).await?;
        on.evaluator.damage(&decoded, &results)
    } else {
        Vec::new()
    };
    let report = tested.evaluator.report(Some(tested.evaluation.clone()), Some(compressed), damage);
    post(&FromEngine::Evaluated { job, report: Box::new(report), pictures, pixels });
    Ok(())
}

/// Collects what is written in JavaScript's memory, for a `Blob`, in parts of a few megabytes.
#[derive(Default)]
struct Parts {
    parts: Array,
    part: Vec<u8>,
}

impl Parts {
    const PART: usize = 4 << 20;

    fn flush_part(&mut self) {
        if !self.part.is_empty() {
            self.parts.push(&Uint8Array::new_from_slice(&self.part));
            self.part.clear();
        }
    }

    fn finish(mut self) -> Array {
        self.flush_part();
        self.parts
    }
}

impl std::io::Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.part.len() + bytes.len() > Self::PART {
            self.flush_part();
        }
        if bytes.len() > Self::PART {
            self.parts.push(&Uint8Array::new_from_slice(bytes));
        } else {
            self.part.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
