//! The engine's loop: takes the page's messages, runs jobs of the pipeline, posts answers.
//!
//! Everything here runs on the worker's own thread. Between tasks it gives way to the worker's event loop, so that a `Cancel` (or a
//! new long job, which ends the one that runs) is seen; with threads, tasks run on the pool and this thread only
//! waits, so that it sees them at once. A task of an ended job may still run to its end on the pool; its result is dropped.

mod batch;
mod calibrate;
mod evaluate;
mod images;
mod parts;
mod pictures;
mod promise;
mod rest;
mod settled;
mod sweep;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::Array;
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::DedicatedWorkerGlobalScope;

use self::{
    calibrate::Samples,
    images::{OnImages, images, images_in, opened_images},
    parts::Parts,
    settled::{Made, settled},
    sweep::Swept,
};
use super::messages::{DataUse, FromEngine, ToEngine};
use crate::{
    container::TqFile,
    data::Dataset,
    error::{Error, Result},
    graph::Runnable,
    io::{Source, source::BlobSource},
    pipeline::{
        self, Opened, Session,
        evaluate::Options,
        figures::Making,
        job::{Job, Progress, Run, Runner, Span},
        settle::Settled,
        sweep::Sweep,
    },
    report::{
        AllocationSettings, CurveSettings, Distortion, ModelSummary, Report,
        figure::{Figure, Which},
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
    /// The open network on the open images, by use, and on those it was calibrated on ([`images::CHECK`]): moving the budget runs only the
    /// compressed network again.
    references: [Option<Rc<OnImages>>; 3],
    /// What the last settings came to, as a download holds it.
    settled: Option<Rc<Made>>,
    /// A sweep that was cancelled.
    sweep: Option<(Swept, Sweep)>,
    /// The samples taken last, of the open network on the open calibration images.
    samples: Option<Rc<Samples>>,
}

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
    if let Some(job) = rest::wanted_for(&message) {
        RUNNING.set(job);
        if let Err(e) = rest::fetch(job).await {
            return end(job, Err(e));
        }
    }
    let (job, result) = match message {
        ToEngine::Open { job, files, curves, allocation } => (job, open(job, files, curves, allocation).await),
        ToEngine::Batch { job, groups, which, curves, allocation, calibration } => {
            (job, batch::run(job, groups, which, curves, allocation, calibration).await)
        }
        ToEngine::Pack { job, files } => (job, batch::pack(job, files)),
        ToEngine::Recompute { job, curves, allocation } => (job, recompute(job, curves, allocation).await),
        ToEngine::Calibrate { job, preprocessing, calibration, curves, allocation } => {
            (job, calibrate::run(job, preprocessing, calibration, curves, allocation).await)
        }
        ToEngine::Forget { job, curves, allocation } => (job, forget(job, curves, allocation).await),
        ToEngine::Allocate { job, allocation } => (job, allocate(job, allocation)),
        ToEngine::Encode { job } => (job, encode(job).await),
        ToEngine::Reconstruct { job } => (job, reconstruct(job).await),
        ToEngine::OpenData { job, usage, files } => (job, images::open_data(job, usage, files)),
        ToEngine::CloseData { job, usage } => {
            images::set_images(usage, None);
            post(&FromEngine::DataOpened { job, usage, summary: None });
            (job, Ok(()))
        }
        ToEngine::Network { job } => (job, images::network(job).await),
        ToEngine::Evaluate { job, preprocessing, damage } => (job, evaluate::run(job, preprocessing, damage).await),
        ToEngine::Check { job } => (job, settled::check(job).await),
        ToEngine::Sweep { job, preprocessing, settings, allocation } => (job, sweep::run(job, preprocessing, settings, allocation).await),
        ToEngine::Promise { job, preprocessing, lose, allocation } => (job, promise::run(job, preprocessing, lose, allocation).await),
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
    end(job, result);
}

/// Ends a job: what came of it was posted, unless it failed.
fn end(job: u32, result: Result<()>) {
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
    if !rest::first_makes(which) {
        rest::fetch(BESIDE).await?;
    }
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
