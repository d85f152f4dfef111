//! Jobs that did not come to their end: cancelled, failed, or lost with the engine.

use leptos::prelude::*;

use super::CRASHED;
use crate::ui::{
    jobs::{Job, Sweeping},
    state::{App, EngineInfo, Phase},
};

impl App {
    /// What a job that did not come to its end leaves behind.
    pub(super) fn undo(self, kind: Job) {
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

    pub(super) fn cancelled(self, kind: Job) {
        self.undo(kind);
        self.long_job.set(None);
        self.progress.set(None);
        self.settle();
        self.show_sweep();
        self.said.set(format!("Cancelled. {}", self.still_open()));
    }

    pub(super) fn failed(self, kind: Job, error: String) {
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
    pub(super) fn broken(self, why: String) {
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
}
