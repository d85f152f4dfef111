//! The engine's loop: takes the page's messages, runs jobs of the pipeline, posts answers.
//!
//! Everything here runs on the worker's own thread. Between tasks it gives way to the worker's event loop, so that a `Cancel` (or a
//! new long job, which ends the one that runs) is seen; with threads, tasks run on the pool and this thread only
//! waits, so that it sees them at once. A task of an ended job may still run to its end on the pool; its result is dropped.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{Array, Uint8Array};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::DedicatedWorkerGlobalScope;

use super::messages::{FromEngine, ToEngine};
use crate::{
    container::TqFile,
    error::{Error, Result},
    io::{Source, source::BlobSource},
    pipeline::{
        self, EncodedLayer, Opened, Session,
        job::{Job, Progress, Run},
    },
    rate::Allocation,
    report::{AllocationSettings, CurveSettings, ModelSummary, table},
};

/// What is open.
#[derive(Default)]
struct State {
    session: Option<Session>,
    tq: Option<Rc<TqFile>>,
    settings: AllocationSettings,
    allocation: Option<Allocation>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    /// The job that runs, 0 when none does.
    static RUNNING: Cell<u32> = const { Cell::new(0) };
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
        ToEngine::Recompute { job, curves, allocation } => (job, recompute(job, curves, allocation).await),
        ToEngine::Allocate { job, allocation } => (job, allocate(job, allocation)),
        ToEngine::Encode { job } => (job, encode(job).await),
        ToEngine::Reconstruct { job } => (job, reconstruct(job).await),
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

fn still_running(number: u32) -> Result<()> {
    if RUNNING.get() == number { Ok(()) } else { Err(Error::Cancelled) }
}

fn post_progress(job: u32, p: &Progress) {
    post(&FromEngine::Progress {
        job,
        stage: p.stage.into(),
        layer: p.item.clone(),
        done: p.done as u32,
        total: p.total as u32,
        fraction: p.fraction,
        seconds_left: p.seconds_left,
    });
}

/// Runs a job's tasks one after the other, giving way between them.
#[cfg(not(feature = "threads"))]
async fn run<T: Send + 'static>(number: u32, job: Job<'_, T>) -> Result<Vec<T>> {
    let start = now();
    let mut run = Run::new(job);
    let mut gave_way = now();
    while let Some((index, task)) = run.next_task()? {
        let result = task()?;
        let progress = run.finish(index, result, now() - start);
        // A few frames' worth of small layers at a time: each turn of the event loop costs some milliseconds.
        if now() - gave_way > 0.04 || progress.done == progress.total {
            post_progress(number, &progress);
            give_way(0).await;
            gave_way = now();
        }
        still_running(number)?;
    }
    Ok(run.results().expect("every item was run"))
}

/// Runs a job's tasks on the pool.
#[cfg(feature = "threads")]
async fn run<T: Send + 'static>(number: u32, job: Job<'_, T>) -> Result<Vec<T>> {
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
                post_progress(number, &progress);
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

async fn open(job: u32, files: Array, curves: CurveSettings, allocation: AllocationSettings) -> Result<()> {
    let start = now();
    RUNNING.set(job);
    let sources = files.iter().map(|f| BlobSource::new(f.unchecked_into()).map(|s| Rc::new(s) as Rc<dyn Source>)).collect::<Result<_>>()?;
    match pipeline::open(sources)? {
        Opened::Model(mut session) => {
            post(&FromEngine::Opened { job, model: session.summary() });
            // Locks and excludes belong to the model before.
            let settings = AllocationSettings { locks: Vec::new(), excludes: Vec::new(), ..allocation };
            let computed = run(job, session.curves_job(curves)).await?;
            session.set_curves(curves, computed);
            STATE.with_borrow_mut(|s| *s = State { session: Some(*session), ..State::default() });
            finish_curves(job, start, settings)
        }
        Opened::Tq(tq) => {
            let (model, allocation) = pipeline::describe(&tq)?;
            let model = ModelSummary { format: "tq".into(), ..model };
            let command = format!("waterfill decompress {}", pipeline::quote(tq.name()));
            STATE.with_borrow_mut(|s| *s = State { tq: Some(Rc::new(*tq)), ..State::default() });
            post(&FromEngine::Opened { job, model });
            post(&FromEngine::Allocated { job, allocation, command });
            Ok(())
        }
    }
}

async fn recompute(job: u32, curves: CurveSettings, allocation: AllocationSettings) -> Result<()> {
    let start = now();
    let mut session = session()?;
    RUNNING.set(job);
    let computed = run(job, session.curves_job(curves)).await?;
    session.set_curves(curves, computed);
    STATE.with_borrow_mut(|s| s.session = Some(session));
    finish_curves(job, start, allocation)
}

fn finish_curves(job: u32, start: f64, settings: AllocationSettings) -> Result<()> {
    let curves = session()?.rd_curves(&settings)?;
    post(&FromEngine::Curves { job, curves, seconds: now() - start });
    allocate(job, settings)
}

fn allocate(job: u32, settings: AllocationSettings) -> Result<()> {
    let session = session()?;
    let (allocation, report) = session.allocate(&settings)?;
    let command = session.command(&settings);
    STATE.with_borrow_mut(|s| {
        s.allocation = Some(allocation);
        s.settings = settings;
    });
    post(&FromEngine::Allocated { job, allocation: report, command });
    Ok(())
}

/// Encodes the current allocation, which must not change meanwhile: it is copied.
async fn encoded(job: u32, session: &Session) -> Result<(Allocation, AllocationSettings, Vec<EncodedLayer>)> {
    let (allocation, settings) = STATE.with_borrow(|s| (s.allocation.clone(), s.settings.clone()));
    let allocation = allocation.ok_or_else(nothing_open)?;
    let layers = run(job, session.encode_job(&allocation)).await?;
    Ok((allocation, settings, layers))
}

async fn encode(job: u32) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let (allocation, settings, layers) = encoded(job, &session).await?;
    let report = session.report(&allocation, &settings, &layers)?;
    let mut out = Parts::default();
    session.write(&layers, &mut out)?;
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
            let (_, _, layers) = encoded(job, &session).await?;
            let mut file = Vec::new();
            session.write(&layers, &mut file)?;
            let name = pipeline::tq_name(&session.model.name);
            Rc::new(TqFile::open(Rc::new(crate::io::source::BytesSource::new(name, file)))?)
        }
    };
    let tensors = run(job, pipeline::decode_job(&tq)).await?;
    let mut out = Parts::default();
    pipeline::rebuild(&tq, tensors, &mut out)?;
    post(&FromEngine::Reconstructed { job, file_name: tq.original_name.clone(), parts: out.finish() });
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
