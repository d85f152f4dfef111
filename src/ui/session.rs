//! The conversation with the engine: one job at a time, and what its answers change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use js_sys::Array;
use leptos::prelude::*;
use web_sys::Blob;

use super::{
    accuracy::{Basis, use_name},
    batch::BatchFiles,
    calibration::Wish,
    check::Checked,
    dom,
    engine::Engine,
    figures::Figures,
    format::{self, Unit},
    jobs::{Job, Queue, Stale, Sweeping, Then},
    pictures::Gallery,
    state::{App, CurveChoice, EngineInfo, Phase, Progress},
    sweep::Asked,
};
use crate::{
    report::{AllocationReport, AllocationSettings, Budget, ModelSummary, RdCurves, Report, TransformChoice},
    worker::messages::{DataUse, FromEngine, ToEngine},
};

/// A cancel that is not answered within this time ends the worker: with its restart it takes effect within 200 ms.
const CANCEL_PATIENCE: Duration = Duration::from_millis(150);
/// The same for work in the background, whose end nobody waits for: a large layer is not worth an engine.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(5);
/// While a slider is dragged, allocations follow each other: `ready` waits this long for the next one.
const SETTLE: Duration = Duration::from_millis(60);
/// What worker.js says first when the engine's code has crashed: that worker is of no use any more.
const CRASHED: &str = "The engine stopped";

/// The last encoding, until the allocation changes.
pub(super) struct Encoded {
    file_name: String,
    file: Blob,
    report: Box<Report>,
    csv: String,
}

/// Files of images, as `[path, File]` pairs.
#[derive(Default)]
pub(super) struct ImageFiles {
    /// Those that are being opened.
    pub(super) incoming: Option<Array>,
    /// Those of the images that are shown.
    pub(super) opened: Option<Array>,
    /// Whether the engine holds the images that are shown.
    pub(super) held: bool,
}

/// What belongs to the conversation with the engine and is not shown.
#[derive(Default)]
pub(super) struct Session {
    pub(super) engine: Option<Engine>,
    pub(super) queue: Queue,
    /// Files that are being opened.
    pub(super) opening: Option<Array>,
    /// Files of the model that is shown.
    pub(super) opened: Option<Array>,
    /// Whether the engine holds the model that is shown.
    pub(super) holds_model: bool,
    /// Settings sent with the job that runs.
    pub(super) sent: Option<(AllocationSettings, CurveChoice)>,
    /// Settings of the allocation that is shown.
    pub(super) applied: Option<(AllocationSettings, CurveChoice)>,
    /// The table and the curves of a model that is being opened.
    pub(super) incoming: Option<(ModelSummary, Option<RdCurves>, f64)>,
    pub(super) encoded: Option<Encoded>,
    /// Files of images, by use.
    pub(super) images: [ImageFiles; 2],
    /// Whether the engine has said if the model that is shown runs on the images that are shown.
    pub(super) knows_network: bool,
    /// What the evaluation that runs is made from, and the damage, if that is looked for.
    pub(super) evaluating: Option<(Basis, Option<Basis>)>,
    /// What the calibration that runs is made from: how it was asked for, and the version of the images.
    pub(super) calibrating: Option<(Wish, u32)>,
    /// Whether the engine's model is calibrated as the page says.
    pub(super) holds_calibration: bool,
    /// Whether samples of a calibration were lost with an engine, and it has not been said yet.
    pub(super) lost_samples: bool,
    /// What the measured curves that run or wait were asked for by.
    pub(super) sweeping: Option<Asked>,
    /// The allocation has not changed for a while.
    pub(super) rested: bool,
    /// Until it has.
    pub(super) rest: Option<TimeoutHandle>,
    pub(super) recompute: Option<TimeoutHandle>,
    /// Files of a batch.
    pub(super) batch: BatchFiles,
    /// Figures that were asked for.
    pub(super) figures: Figures,
}

/// What is said when a job goes on that gave way to a download.
fn goes_on_words(kind: Job) -> &'static str {
    match kind {
        Job::Calibrate => "The calibration goes on.",
        Job::Evaluate { .. } => "The evaluation begins again.",
        _ => "Now the curves are computed.",
    }
}

impl App {
    /// Starts a worker; an old one ends.
    pub(super) fn spawn(self) {
        self.engine.set(EngineInfo::Starting);
        // Dropping the old one first ends it.
        self.session.update_value(|s| {
            s.engine = None;
            s.holds_model = false;
            s.holds_calibration = false;
            s.images.iter_mut().for_each(|files| files.held = false);
        });
        match Engine::spawn(move |m| self.receive(m), move |why| self.broken(why)) {
            Ok(engine) => self.session.update_value(|s| s.engine = Some(engine)),
            Err(why) => self.broken(why),
        }
    }

    /// Asks for a job.
    pub(super) fn ask(self, job: Job) {
        let (number, beneath) = self
            .session
            .try_update_value(|s| {
                let number = s.queue.ask(job);
                (number, s.queue.goes_on().is_some() || s.queue.active().is_some_and(|(_, active)| active.is_background()))
            })
            .unwrap_or_default();
        if number.is_some() && self.session.with_value(|s| s.queue.goes_on().is_some()) {
            self.said.set("What runs gives way to the download…".into());
        }
        match number {
            // Its engine need not end with what gives way.
            Some(number) if beneath => self.post(&ToEngine::Cancel { job: number }),
            Some(number) => self.post_cancel(number, CANCEL_PATIENCE),
            None => {}
        }
        self.pump();
    }

    /// Ends work in the background that the user does not want any more.
    pub(super) fn end_background(self, number: u32) {
        self.post_cancel(number, BACKGROUND_PATIENCE);
    }

    /// Cancels the long job that runs.
    pub fn cancel(self) {
        if let Some(number) = self.session.try_update_value(|s| s.queue.cancel()).flatten() {
            self.said.set("Cancelling…".into());
            self.post_cancel(number, CANCEL_PATIENCE);
        }
    }

    /// Cancels a job, if need be with its worker.
    fn post_cancel(self, number: u32, patience: Duration) {
        self.post(&ToEngine::Cancel { job: number });
        set_timeout(
            move || {
                if self.session.with_value(|s| s.queue.active().is_some_and(|(n, _)| n == number)) {
                    self.restart();
                }
            },
            patience,
        );
    }

    /// Ends the worker and its job, and starts a new one.
    fn restart(self) {
        let (lost, restoring) = self.session.try_update_value(|s| (s.queue.lose(), !s.holds_calibration)).unwrap_or_default();
        self.spawn();
        if let Some(job) = lost {
            // Not tried again and again.
            if job == Job::Calibrate && restoring {
                self.uncalibrated();
            }
            self.cancelled(job);
            if job == Job::Calibrate {
                self.session.update_value(|s| s.lost_samples = true);
            }
        }
        self.pump();
    }

    pub(super) fn post(self, message: &ToEngine) {
        let posted = self.session.with_value(|s| s.engine.as_ref().map_or(Err("it is not running".into()), |e| e.post(message)));
        if let Err(why) = posted {
            self.broken(why);
        }
    }

    /// What the settings ask for.
    fn wanted(&self) -> (AllocationSettings, CurveChoice) {
        let settings = self.settings.get_untracked();
        let locks = self.locks.with_untracked(|l| l.iter().map(|(&i, &d)| (i, d)).collect());
        let excludes = self.excludes.with_untracked(|e| e.iter().copied().collect());
        let lost = settings.transform.needs_calibration() && !self.session.with_value(|s| s.holds_calibration);
        let transform = if lost { TransformChoice::Auto } else { settings.transform };
        (AllocationSettings { budget: settings.budget, transform, feedback: true, locks, excludes }, settings.curves)
    }

    /// Posts the next job, when none runs.
    pub(super) fn pump(self) {
        if let Some(job) = self.session.try_update_value(|s| s.queue.take_dropped()).flatten() {
            self.undo(job);
        }
        let wanted = self.wanted();
        let tq = untrack(|| self.is_tq());
        let calibrated = self.accuracy.calibration.made.get_untracked();
        let unchecked = untrack(|| self.is_unchecked());
        let started = self.session.try_update_value(|s| {
            if s.queue.is_idle() {
                // A new engine is given the old model, unless a new one waits, the old images, and what was calibrated on them.
                if !s.holds_model && s.opened.is_some() {
                    s.queue.ask(Job::Reopen);
                }
                for usage in [DataUse::Calibration, DataUse::Test] {
                    let files = &s.images[usage as usize];
                    if !files.held && files.opened.is_some() {
                        s.queue.ask(Job::OpenData(usage));
                    }
                }
            }
            if let Some(made) = calibrated.filter(|_| s.queue.is_idle() && s.holds_model && !s.holds_calibration) {
                s.calibrating = Some(made.again());
                s.queue.ask(Job::Calibrate);
            }
            let allocation = s.holds_model && !tq && s.applied.as_ref().is_none_or(|a| a.0 != wanted.0);
            let network = s.holds_model && !s.knows_network && s.images.iter().any(|files| files.held);
            let check = s.rested && s.holds_calibration && s.images[DataUse::Calibration as usize].held && unchecked;
            let under = s.queue.active().filter(|(_, active)| *active == Job::Check).map(|(number, _)| number);
            let gave_way = s.queue.goes_on();
            (s.queue.start(Stale { allocation, network, check }), under, gave_way.is_some() && s.queue.goes_on().is_none())
        });
        self.show_sweep();
        let Some((Some((job, kind)), under, goes_on)) = started else { return };
        // A check of an allocation that was.
        if let (Job::Allocate, Some(number)) = (kind, under) {
            self.post(&ToEngine::Cancel { job: number });
        }
        let (mut allocation, choice) = wanted;
        // What the engine's model is calibrated by. A new one is not, nor is one that is opened again.
        let calibrated = untrack(|| self.calibrated_by()).filter(|_| self.session.with_value(|s| s.holds_calibration));
        let curves = choice.with(calibrated.filter(|_| kind == Job::Recompute));
        // A new model is not calibrated.
        if matches!(kind, Job::Open | Job::Forget) && allocation.transform.needs_calibration() {
            allocation.transform = TransformChoice::Auto;
        }
        let message = match kind {
            Job::Allocate => ToEngine::Allocate { job, allocation: allocation.clone() },
            Job::Recompute => ToEngine::Recompute { job, curves, allocation: allocation.clone() },
            Job::Calibrate => {
                let wish = self.session.with_value(|s| s.calibrating.clone()).map(|c| c.0).unwrap_or_default();
                let Wish { preprocessing, settings: calibration, distortion } = wish;
                let curves = choice.with(Some(distortion));
                ToEngine::Calibrate { job, preprocessing, calibration, curves, allocation: allocation.clone() }
            }
            Job::Forget => ToEngine::Forget { job, curves, allocation: allocation.clone() },
            Job::Encode(_) => ToEngine::Encode { job },
            Job::Reconstruct => ToEngine::Reconstruct { job },
            Job::OpenData(usage) => {
                let files = self.session.with_value(|s| {
                    let files = &s.images[usage as usize];
                    files.incoming.clone().or_else(|| files.opened.clone())
                });
                ToEngine::OpenData { job, usage, files: files.unwrap_or_default() }
            }
            Job::CloseData(usage) => ToEngine::CloseData { job, usage },
            Job::Network => ToEngine::Network { job },
            Job::Evaluate { damage } => {
                // The engine codes as it was last told, which the choice may be ahead of.
                let applied = self.session.with_value(|s| s.applied.as_ref().map(|a| a.1)).unwrap_or(choice).with(calibrated);
                let of = |basis: Basis| Basis { coding: applied.coding, method: applied.method, ..basis };
                let basis = untrack(|| (of(self.basis(false)), damage.then(|| of(self.basis(true)))));
                self.session.update_value(|s| s.evaluating = Some(basis));
                ToEngine::Evaluate { job, preprocessing: self.accuracy.edited.get_untracked(), damage }
            }
            Job::Sweep => {
                let asked = self.session.with_value(|s| s.sweeping.clone()).unwrap_or_default();
                let Asked { preprocessing, settings, allocation } = asked;
                ToEngine::Sweep { job, preprocessing, settings, allocation }
            }
            Job::Batch => self.batch_message(job, allocation.clone(), choice),
            Job::Pack => self.pack_message(job),
            Job::Promise => {
                let lose = self.accuracy.promise.asked.get_untracked();
                ToEngine::Promise { job, preprocessing: self.accuracy.edited.get_untracked(), lose, allocation: allocation.clone() }
            }
            Job::Check => {
                untrack(|| self.checking());
                ToEngine::Check { job }
            }
            Job::Open | Job::Reopen => {
                if kind == Job::Open {
                    // Locks belong to a model, and so does a size in bytes.
                    allocation.locks.clear();
                    allocation.excludes.clear();
                    if let Budget::Size(_) = allocation.budget {
                        let rate = self.allocation.with_untracked(|a| a.as_ref().map(|a| a.rate));
                        allocation.budget = rate.map_or(AllocationSettings::default().budget, Budget::Bits);
                    }
                }
                let files = self.session.with_value(|s| if kind == Job::Open { s.opening.clone() } else { s.opened.clone() });
                ToEngine::Open { job, files: files.unwrap_or_default(), curves, allocation: allocation.clone() }
            }
        };
        if matches!(kind, Job::Allocate | Job::Recompute | Job::Calibrate | Job::Forget | Job::Open | Job::Reopen) {
            // An allocation is by the curves that there are, which the choice may be ahead of.
            let of = |s: &Session| s.applied.as_ref().filter(|_| kind == Job::Allocate).map_or(choice, |a| a.1);
            self.session.update_value(|s| s.sent = Some((allocation, of(s))));
        }
        if kind.is_long() {
            self.progress.set(None);
            let saved = self.said.get_untracked();
            self.said.set(match kind {
                _ if goes_on => format!("{saved} {}", goes_on_words(kind)),
                Job::Open => "Reading the file…".into(),
                Job::Reopen => self.restarted(),
                Job::Recompute => "Computing the curves again…".into(),
                Job::Calibrate => "Calibrating…".into(),
                Job::Forget => "Computing the curves without calibration…".into(),
                Job::Reconstruct => "Decoding the model…".into(),
                Job::OpenData(usage) => format!("Reading the {}…", use_name(usage)),
                Job::Evaluate { .. } => "Running the networks…".into(),
                Job::Batch => "Compressing several models…".into(),
                Job::Pack => "Putting the archive together…".into(),
                Job::Promise => "Trying rates…".into(),
                _ => "Encoding…".into(),
            });
        }
        self.show_long_job();
        // A question in the background is nobody's business.
        if kind != Job::Network && !kind.is_background() {
            self.phase.set(if kind == Job::Open { Phase::Loading } else { Phase::Working });
        }
        self.post(&message);
    }

    fn show_long_job(self) {
        self.long_job.set(self.session.with_value(|s| s.queue.active()).map(|(_, job)| job).filter(|job| job.is_long()));
    }

    /// The long job that gave way to a download, or the one that runs.
    pub(super) fn long_job_or_waiting(&self) -> Option<Job> {
        let runs = self.long_job.get();
        self.session.with_value(|s| s.queue.goes_on()).or(runs)
    }

    fn active(&self, number: u32) -> Option<Job> {
        self.session.with_value(|s| s.queue.active()).filter(|(n, _)| *n == number).map(|(_, job)| job)
    }

    fn end(&self, number: u32) -> Option<Job> {
        let job = self.session.try_update_value(|s| s.queue.end(number)).flatten()?;
        self.show_long_job();
        if job.is_long() {
            self.progress.set(None);
        }
        Some(job)
    }

    /// What is said when the engine had to be replaced.
    fn restarted(&self) -> String {
        let lost = self.session.with_value(|s| s.lost_samples);
        let again = if untrack(|| self.is_calibrated()) { " and calibrates it again" } else { "" };
        let samples = if lost { " The samples taken so far are lost." } else { "" };
        format!("Cancelled. The engine was restarted: it opens {} again{again}…{samples}", self.model_name())
    }

    fn show_sweep(self) {
        let now = self.session.with_value(|s| s.queue.sweeping());
        if self.accuracy.sweep.activity.get_untracked() != now {
            self.accuracy.sweep.activity.set(now);
        }
    }

    fn receive(self, message: FromEngine) {
        match message {
            FromEngine::Ready { threads, shared, simd } => self.engine.set(EngineInfo::Running { threads, shared, simd }),
            FromEngine::Progress { job, stage, layer, done, total, fraction, seconds_left } => {
                let progress = match self.active(job) {
                    Some(Job::Sweep) => Some(self.accuracy.sweep.progress),
                    Some(Job::Check) | None => None,
                    Some(_) => Some(self.progress),
                };
                if let Some(shown) = progress {
                    shown.set(Some(Progress { stage, layer, done, total, fraction, seconds_left }));
                }
            }
            FromEngine::Opened { job, model } => {
                if self.active(job).is_some() {
                    if self.active(job) == Some(Job::Open) {
                        let (layers, weights) = (format::count(model.layers.len(), "layer"), format::grouped(model.layer_weights));
                        self.said.set(format!("{}: {layers}, {weights} weights. Computing its curves…", model.name));
                    }
                    self.phase.set(Phase::Working);
                    self.session.update_value(|s| s.incoming = Some((model, None, 0.0)));
                }
            }
            FromEngine::Curves { job, curves, seconds, calibration } => match self.active(job) {
                Some(Job::Open | Job::Reopen) => self.session.update_value(|s| {
                    if let Some(incoming) = &mut s.incoming {
                        (incoming.1, incoming.2) = (Some(curves), seconds);
                    }
                }),
                Some(kind) => {
                    self.curves.set(Some(Arc::new(curves)));
                    if matches!(kind, Job::Calibrate | Job::Forget) {
                        self.curves_are_of(calibration.map(|c| *c), seconds);
                    }
                }
                None => {}
            },
            FromEngine::Allocated { job, allocation, command } => {
                if let Some(kind) = self.end(job) {
                    self.allocated(kind, allocation, command);
                }
            }
            FromEngine::Encoded { job, file_name, parts, report, csv } => {
                if let Some(Job::Encode(then)) = self.end(job) {
                    match dom::blob(&parts, "application/octet-stream") {
                        Ok(file) => {
                            self.session.update_value(|s| s.encoded = Some(Encoded { file_name, file, report, csv }));
                            self.settle();
                            self.save_encoded(then);
                        }
                        Err(why) => self.fail(format!("The file cannot be put together: {why}.")),
                    }
                    self.pump();
                }
            }
            FromEngine::Reconstructed { job, file_name, parts } => {
                if self.end(job).is_some() {
                    self.settle();
                    self.save(dom::blob(&parts, "application/octet-stream"), &file_name);
                    self.pump();
                }
            }
            FromEngine::DataOpened { job, usage, summary } => {
                if let Some(kind) = self.end(job) {
                    // A file that was dropped where models are turned out to hold images.
                    if kind == Job::Open {
                        self.session.update_value(|s| s.images[usage as usize].incoming = s.opening.take().map(|files| dom::named(&files)));
                    }
                    self.settle();
                    self.data_opened(usage, summary);
                    self.pump();
                }
            }
            FromEngine::Network { job, preprocessing, why_not } => {
                if self.end(job).is_some() {
                    self.session.update_value(|s| s.knows_network = true);
                    self.accuracy.guess.set(preprocessing);
                    self.accuracy.set_why_not(why_not);
                    self.quiet_end();
                    self.pump();
                }
            }
            FromEngine::Evaluated { job, report, pictures, pixels } => {
                if self.end(job).is_some() {
                    self.settle();
                    if let Some(basis) = self.session.try_update_value(|s| s.evaluating.take()).flatten() {
                        self.evaluated(*report, Gallery::of(pictures, &pixels), basis);
                    }
                    self.pump();
                }
            }
            FromEngine::Settled { job, allocation, check, tried } => {
                if self.active(job).is_some() {
                    self.settled(*allocation, check.map(|report| Checked { report: *report, tried }));
                }
            }
            FromEngine::Checked { job } => {
                if self.end(job) == Some(Job::Check) {
                    self.pump();
                }
            }
            FromEngine::Measured { job, curves } => {
                if self.active(job) == Some(Job::Sweep) {
                    if curves.is_complete() {
                        self.end(job);
                        self.session.update_value(|s| {
                            s.queue.cancel_sweep();
                        });
                    }
                    self.measured(*curves);
                    self.pump();
                }
            }
            FromEngine::Several { job, groups } => {
                if self.end(job) == Some(Job::Open) {
                    self.settle();
                    self.several(groups);
                }
            }
            FromEngine::Batched { job, index, progress, parts } => {
                if self.active(job) == Some(Job::Batch) {
                    self.batched(index, progress, &parts);
                }
            }
            FromEngine::BatchEnded { job } => {
                if self.end(job).is_some() {
                    self.settle();
                    self.batch_ended();
                    self.pump();
                }
            }
            FromEngine::Packed { job, parts } => {
                if self.end(job).is_some() {
                    self.settle();
                    self.packed(&parts);
                    self.pump();
                }
            }
            FromEngine::Promised { job, promise, done } => {
                if self.active(job) == Some(Job::Promise) {
                    if done {
                        self.end(job);
                        self.settle();
                    }
                    self.promised(*promise, done);
                    self.pump();
                }
            }
            FromEngine::Figure { number, figure } => self.figure_made(number, figure.map(|f| *f)),
            FromEngine::Failed { job: 0, error } => self.broken(error),
            // Whichever job it names, all of them have ended.
            FromEngine::Failed { error, .. } if error.starts_with(CRASHED) => {
                if let Some(kind) = self.session.try_update_value(|s| s.queue.lose()).flatten() {
                    self.long_job.set(None);
                    self.progress.set(None);
                    self.failed(kind, error);
                }
            }
            FromEngine::Failed { job, error } => {
                if let Some(kind) = self.end(job) {
                    self.failed(kind, error);
                }
            }
            FromEngine::Cancelled { job } => {
                match self.end(job) {
                    // It goes on after a download, from what it has.
                    Some(kind) if self.session.with_value(|s| s.queue.goes_on() == Some(kind)) => self.pump(),
                    // Something else goes first, or its words were said already.
                    Some(kind) if kind.is_background() => {
                        self.undo(kind);
                        self.pump();
                    }
                    Some(kind) => {
                        self.cancelled(kind);
                        self.pump();
                    }
                    None => {}
                }
            }
        }
    }

    fn allocated(self, kind: Job, allocation: AllocationReport, command: String) {
        let (incoming, sent) = self
            .session
            .try_update_value(|s| {
                s.encoded = None;
                s.applied = s.sent.take();
                if matches!(kind, Job::Open | Job::Reopen) {
                    s.holds_model = true;
                    if kind == Job::Open {
                        s.knows_network = false;
                        s.opened = s.opening.take();
                    }
                }
                (s.incoming.take(), s.applied.clone())
            })
            .unwrap_or_default();
        if let (Job::Open, Some((sent, _))) = (kind, sent) {
            self.accuracy.forget_model();
            self.uncalibrated();
            self.selected.set(None);
            self.locks.set(BTreeMap::new());
            self.excludes.set(BTreeSet::new());
            // The budget may have been moved meanwhile; only one that was replaced is taken over.
            if let Budget::Size(_) = self.settings.with_untracked(|s| s.budget) {
                self.settings.update(|s| (s.budget, s.unit) = (sent.budget, Unit::Bits));
            }
        }
        let lost = self.session.try_update_value(|s| std::mem::take(&mut s.lost_samples)) == Some(true);
        let lost = if lost { " The samples taken so far were lost with the engine." } else { "" };
        if let Some((model, curves, seconds)) = incoming {
            self.said.set(match (kind, &curves) {
                (Job::Reopen, _) => format!("Cancelled; {} is open.{lost}", model.name),
                (_, Some(_)) => {
                    let layers = format::count(model.layers.len(), "layer");
                    format!("{} is open: {layers}, curves computed in {}.", model.name, format::seconds(seconds))
                }
                (_, None) => format!("{} is open: a compressed model that decodes to its original format.", model.name),
            });
            if kind == Job::Open {
                self.generation.update(|g| *g += 1);
            }
            self.model.set(Some(Arc::new(model)));
            self.curves.set(curves.map(Arc::new));
        } else if kind == Job::Recompute {
            self.said.set("The curves were computed again.".into());
        }
        self.allocation.set(Some(Arc::new(allocation)));
        self.command.set(command);
        if kind != Job::Allocate {
            self.forget_check();
        }
        self.await_rest();
        self.pump();
        if kind == Job::Allocate {
            set_timeout(
                move || {
                    if self.phase.get_untracked() == Phase::Working && self.session.with_value(|s| s.queue.is_idle()) {
                        self.settle();
                    }
                },
                SETTLE,
            );
        } else if self.session.with_value(|s| s.queue.is_idle()) {
            self.settle();
        }
    }

    /// What a job that did not come to its end leaves behind.
    fn undo(self, kind: Job) {
        let applied = self.session.try_update_value(|s| {
            s.incoming = None;
            match kind {
                // A job that waits opens files of its own.
                Job::Open if s.queue.is_idle() => s.opening = None,
                // The old model is gone with the old engine.
                Job::Reopen => s.opened = None,
                // Not tried again and again.
                Job::Allocate => s.applied = s.sent.take(),
                Job::Network => s.knows_network = true,
                Job::Evaluate { .. } => s.evaluating = None,
                Job::Calibrate => s.calibrating = None,
                Job::Sweep if s.queue.sweeping() == Sweeping::Not => s.sweeping = None,
                _ => {}
            }
            // The curves are still those with the old settings.
            let curves = matches!(kind, Job::Recompute | Job::Calibrate | Job::Forget) && s.queue.is_idle();
            s.applied.as_ref().filter(|_| curves).map(|a| a.1)
        });
        if let Some(curves) = applied.flatten() {
            self.settings.update(|s| s.curves = curves);
        }
        match kind {
            Job::Reopen => {
                self.model.set(None);
                self.curves.set(None);
                self.allocation.set(None);
                self.accuracy.forget_model();
                self.uncalibrated();
            }
            // It was for an engine that had lost it.
            Job::Calibrate if self.session.with_value(|s| s.holds_model && !s.holds_calibration) => {
                self.uncalibrated();
            }
            Job::OpenData(usage) => self.data_lost(usage),
            Job::Check => self.not_checking(),
            Job::Batch => self.batch_stopped(),
            _ => {}
        }
    }

    fn cancelled(self, kind: Job) {
        self.undo(kind);
        self.long_job.set(None);
        self.progress.set(None);
        self.settle();
        self.show_sweep();
        self.said.set(format!("Cancelled. {}", self.still_open()));
    }

    fn failed(self, kind: Job, error: String) {
        let others = kind == Job::Batch && self.batch_failed(&error);
        self.undo(kind);
        if error.starts_with(CRASHED) {
            self.spawn();
        }
        match kind {
            Job::OpenData(usage) => self.accuracy.images(usage).update(|i| i.error = Some(error.clone())),
            Job::Evaluate { .. } => self.accuracy.error.set(Some(error.clone())),
            Job::Sweep => self.accuracy.sweep.error.set(Some(error.clone())),
            Job::Promise => self.accuracy.promise.error.set(Some(error.clone())),
            // One model failed with the engine; the others go on.
            Job::Batch if others => {
                self.said.set(error);
                return self.ask(Job::Batch);
            }
            // Nobody asked for it.
            Job::Check => {
                self.check_failed(error);
                return self.pump();
            }
            Job::Calibrate => self.accuracy.calibration.error.set(Some(error.clone())),
            _ => {}
        }
        self.fail(error.clone());
        self.pump();
        // The next job's words must not hide the reason.
        if self.phase.get_untracked() != Phase::Failed(error.clone()) {
            self.said.set(error);
        }
    }

    /// The worker itself does not run: there is nobody to ask any more.
    fn broken(self, why: String) {
        let lost = self.session.try_update_value(|s| {
            s.engine = None;
            s.opened = None;
            s.holds_model = false;
            s.images = Default::default();
            s.queue.cancel();
            s.queue.lose()
        });
        if let Some(job) = lost.flatten() {
            self.undo(job);
        }
        self.long_job.set(None);
        self.show_sweep();
        self.engine.set(EngineInfo::Broken);
        self.phase.set(Phase::Failed(why));
        self.said.set("Load the page again; if that does not help, use a current version of the browser.".into());
    }

    pub(super) fn settle(self) {
        self.phase.set(if self.model.with_untracked(|m| m.is_some()) { Phase::Ready } else { Phase::Idle });
    }

    fn model_name(&self) -> String {
        self.model.with_untracked(|m| m.as_ref().map_or(String::new(), |m| m.name.clone()))
    }

    /// What is open all the same.
    pub(super) fn still_open(&self) -> String {
        match self.model_name() {
            name if name.is_empty() => "Open another file to go on.".into(),
            name => format!("{name} is still open."),
        }
    }

    // Files out.

    /// Saves a blob, and says so.
    pub fn save(self, blob: Result<Blob, String>, name: &str) {
        match blob.and_then(|b| dom::save(&b, name).map(|_| b)) {
            Ok(blob) => self.said.set(format!("Saved {name}, {}.", format::bytes(blob.size() as u64))),
            Err(why) => self.fail(format!("{name} cannot be saved: {why}.")),
        }
    }

    /// Saves the last encoding, or its report.
    pub(super) fn save_encoded(self, then: Then) {
        let what = self.session.with_value(|s| {
            s.encoded.as_ref().map(|e| match then {
                Then::SaveTq => (Ok(e.file.clone()), e.file_name.clone()),
                Then::SaveJson => {
                    let json = serde_json::to_string_pretty(&e.report).map_err(|e| e.to_string());
                    (json.and_then(|j| dom::text_blob(&j, "application/json")), format!("{}.json", e.file_name))
                }
                Then::SaveCsv => (dom::text_blob(&e.csv, "text/csv"), format!("{}.csv", e.file_name)),
            })
        });
        if let Some((blob, name)) = what {
            self.save(blob, &name);
        }
    }
}
