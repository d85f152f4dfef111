//! The conversation with the engine: one job at a time.
//!
//! ```text
//! ask ─→ queue ─ pump ─→ engine ─→ receive ─→ allocated, evaluated, …
//!                                     └─────→ cancelled, failed, broken
//! ```

mod answers;
mod encoded;
mod ends;

use std::time::Duration;

use js_sys::Array;
use leptos::prelude::*;

use super::{
    accuracy::{Basis, use_name},
    batch::BatchFiles,
    calibration::Wish,
    clock::Later,
    dom,
    engine::Engine,
    figures::Figures,
    jobs::{Job, Queue, Stale},
    state::{App, CurveChoice, EngineInfo, Phase},
    sweep::Asked,
};
use crate::{
    report::{AllocationSettings, Budget, ModelSummary, RdCurves, TransformChoice},
    worker::messages::{DataUse, ToEngine},
};

/// A cancel that is not answered within this time ends the worker: with its restart it takes effect within 200 ms.
const CANCEL_PATIENCE: Duration = Duration::from_millis(150);
/// The same for work in the background, whose end nobody waits for: a large layer is not worth an engine.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(5);
/// What worker.js says first when the engine's code has crashed: that worker is of no use any more.
const CRASHED: &str = "The engine stopped";

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
    pub(super) encoded: Option<encoded::Encoded>,
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
    pub(super) rest: Later,
    /// Until no other allocation follows.
    pub(super) follows: Later,
    pub(super) recompute: Later,
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
    /// Starts the engine at the first sign of somebody who is about to use it: it is twice as large as the page, and who only looks does not need it.
    pub(super) fn wake_at_first(self) {
        dom::at_first(&["pointermove", "pointerdown", "touchstart", "wheel", "keydown", "dragenter"], move || self.wake());
    }

    /// Starts the engine, unless it was started.
    fn wake(self) {
        if self.engine.with_untracked(|engine| *engine == EngineInfo::Waiting) {
            self.spawn();
        }
    }

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
        self.wake();
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
}
