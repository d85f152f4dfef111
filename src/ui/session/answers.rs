//! What the engine's answers change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use leptos::prelude::*;

use super::{CRASHED, encoded::Encoded};
use crate::{
    report::{AllocationReport, Budget},
    ui::{
        check::Checked,
        dom,
        format::{self, Unit},
        jobs::Job,
        pace,
        pictures::Gallery,
        state::{App, EngineInfo, Phase, Progress},
    },
    worker::messages::FromEngine,
};

/// While a slider is dragged, allocations follow each other: `ready` waits this long for the next one.
const SETTLE: Duration = Duration::from_millis(60);

impl App {
    /// Takes what the engine says.
    pub(super) fn receive(self, message: FromEngine) {
        match message {
            FromEngine::Ready { threads, shared, simd } => {
                self.engine.set(EngineInfo::Running { threads, shared, simd });
                dom::tell("waterfill-engine");
            }
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
                let answer = move || {
                    if let Some(kind) = self.end(job) {
                        self.allocated(kind, allocation, command);
                    }
                };
                match self.active(job) {
                    Some(Job::Allocate) => pace::in_next_frame(answer),
                    _ => answer(),
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
            self.await_next();
        } else if self.session.with_value(|s| s.queue.is_idle()) {
            self.settle();
        }
    }

    /// Ready, unless another allocation follows.
    fn await_next(self) {
        let ready = move || {
            if self.phase.get_untracked() == Phase::Working && self.session.with_value(|s| s.queue.is_idle()) {
                self.settle();
            }
        };
        self.session.update_value(|s| s.follows.set(SETTLE, ready));
    }
}
