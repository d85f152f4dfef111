//! What calibration predicted of the output's error, and what the compressed network itself gives on the same images: measured in the
//! background once the budget has rested.

use std::{sync::Arc, time::Duration};

use leptos::prelude::*;

use super::{
    accuracy::same_bits,
    format,
    jobs::{Job, Sweeping},
    state::App,
    term::Term,
};
use crate::report::{AllocationReport, EvaluationReport, Measure, pictures::psnr_words};

/// The budget has rested when it has not changed for so long.
const REST: Duration = Duration::from_millis(600);

/// What came of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What both networks gave.
    pub report: EvaluationReport,
    /// Allocations that were run; the best was taken.
    pub tried: u32,
}

/// What came of a check, or why nothing did.
pub(super) type Outcome = Result<Arc<Checked>, String>;

/// The last check, and the one that runs.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// What was allocated, and what came of it.
    made: Option<(Arc<AllocationReport>, Outcome)>,
    /// What is being measured.
    running: Option<Arc<AllocationReport>>,
}

impl Check {
    /// What came of the check of this allocation, if it was made.
    pub(super) fn of(&self, allocation: &Arc<AllocationReport>) -> Option<&Outcome> {
        self.made.as_ref().filter(|(of, _)| Arc::ptr_eq(of, allocation) || same_bits(of, allocation)).map(|(_, result)| result)
    }
}

/// What the readout says of itself.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Until the budget rests.
    Waiting,
    /// Until nothing else runs.
    Busy,
    /// Until the curves are measured.
    Behind,
    Measuring,
    Done(Arc<Checked>),
    Failed(String),
}

impl State {
    fn key(&self) -> &'static str {
        match self {
            State::Waiting | State::Busy | State::Behind => "waiting",
            State::Measuring => "measuring",
            State::Done(_) => "done",
            State::Failed(_) => "failed",
        }
    }
    fn words(&self) -> String {
        match self {
            State::Waiting => "Will be measured once the budget rests.".into(),
            State::Busy => "Will be measured after what runs now.".into(),
            State::Behind => "Will be measured after the measured curves.".into(),
            State::Measuring => "Measuring on the calibration images…".into(),
            State::Done(checked) => {
                let Checked { report, tried } = &**checked;
                let images = report.compressed.as_ref().map_or(0, |e| e.images);
                let best = if *tried > 1 { format!(", the best of {tried} ways that were run") } else { String::new() };
                format!("Measured on {}, with the weights that a download holds{best}.", format::count(images, "calibration image"))
            }
            State::Failed(why) => format!("Not measured. {why}"),
        }
    }
}

impl App {
    /// Whether the allocation is calibrated and was not checked.
    pub(super) fn is_unchecked(&self) -> bool {
        self.checkable().is_some_and(|a| self.accuracy.check.with(|c| c.of(&a).is_none()))
    }

    /// The allocation, if its distortion is that of the output.
    fn checkable(&self) -> Option<Arc<AllocationReport>> {
        self.allocation.get().filter(|a| a.measure == Measure::Output && self.is_calibrated())
    }

    /// The allocation has changed: waits until it does not any more.
    pub(super) fn await_rest(self) {
        let rested = move || {
            self.session.update_value(|s| s.rested = true);
            self.pump();
        };
        self.session.update_value(|s| {
            s.rested = false;
            s.rest.set(REST, rested);
        });
    }

    /// The check of the allocation begins.
    pub(super) fn checking(&self) {
        let allocation = self.allocation.get();
        self.accuracy.check.update(|c| c.running = allocation);
    }

    /// It has ended, without a result.
    pub(super) fn not_checking(&self) {
        self.accuracy.check.update(|c| c.running = None);
    }

    /// What the settings came to, and what that gave, if it was run: it takes the place of the allocation that was shown, also where an
    /// evaluation is being made of it. Its bytes are those of the file, which an entropy coder's are only now.
    pub(super) fn settled(&self, allocation: AllocationReport, checked: Option<Checked>) {
        let allocation = Arc::new(allocation);
        self.session.update_value(|s| {
            s.encoded = None;
            if let Some((basis, damage)) = &mut s.evaluating {
                [Some(basis), damage.as_mut()].into_iter().flatten().for_each(|b| b.allocation = Some(allocation.clone()));
            }
        });
        self.allocation.set(Some(allocation.clone()));
        self.accuracy.check.update(|c| match checked {
            Some(checked) => *c = Check { made: Some((allocation, Ok(Arc::new(checked)))), running: None },
            // A check that fails after this is of what is shown now.
            None => c.running = c.running.take().map(|_| allocation),
        });
    }

    /// It failed; it is not tried again for this allocation.
    pub(super) fn check_failed(&self, why: String) {
        let now = self.allocation.get_untracked();
        self.accuracy.check.update(|c| c.made = c.running.take().or(now).map(|of| (of, Err(why))));
    }

    /// Other curves: what was checked is of those before, even if it looks the same.
    pub(super) fn forget_check(&self) {
        self.accuracy.check.set(Check::default());
    }
}

/// Predicted and measured, side by side.
#[component]
pub fn CheckReadout(app: App) -> impl IntoView {
    let check = app.accuracy.check;
    let allocation = Memo::new(move |_| app.checkable());
    let state = Memo::new(move |_| {
        let Some(allocation) = allocation.get() else { return State::Waiting };
        check.with(|c| match c.of(&allocation) {
            Some(Ok(checked)) => State::Done(checked.clone()),
            Some(Err(why)) => State::Failed(why.clone()),
            None if c.running.is_some() => State::Measuring,
            None if app.accuracy.sweep.activity.get() != Sweeping::Not => State::Behind,
            None if app.long_job.with(|job| job.is_some_and(Job::is_long)) => State::Busy,
            None => State::Waiting,
        })
    });
    let done = move || match state.get() {
        State::Done(checked) => Some(checked),
        _ => None,
    };
    // An exact copy has no error to speak of in decibels.
    let measured = move || done().map(|c| c.report.compressed.as_ref().and_then(|e| e.sqnr_db).map_or(f64::NEG_INFINITY, |sqnr| -sqnr));
    let predicted = move || allocation.get().map(|a| a.db);
    let top1 = move || {
        let checked = done()?;
        let of = |e: &Option<crate::report::Evaluation>| e.as_ref().and_then(|e| e.top1);
        Some((of(&checked.report.compressed)?, of(&checked.report.reference)?))
    };
    let psnr = move || done().and_then(|c| c.report.compressed.as_ref().and_then(|e| e.psnr()));
    view! {
        <Show when=move || allocation.with(|a| a.is_some())>
            <div class="beside" data-testid="check-readout" data-state=move || state.get().key()
                data-predicted=move || predicted().map(|db| db.to_string()) data-measured=move || measured().map(|db| db.to_string())>
                <dl aria-label="Predicted and measured output distortion">
                    <div><dt>"Predicted"</dt><dd>{move || predicted().map(format::db)}</dd></div>
                    <div><dt><Term key="measured-distortion">"Measured"</Term></dt><dd class="main">{move || measured().map_or_else(|| "…".to_string(), format::db)}</dd></div>
                    {move || top1().map(|(compressed, full)| view! {
                        <div><dt><Term key="top-1">"Top-1"</Term>" there"</dt><dd data-row="top1">{format!("{}, of {}", format::percent(compressed), format::percent(full))}</dd></div>
                    })}
                    {move || psnr().map(|db| view! {
                        <div><dt><Term key="psnr">"PSNR"</Term>" there"</dt><dd data-row="psnr">{psnr_words(db, 2)}</dd></div>
                    })}
                </dl>
                <p class="state-line" role="status">{move || state.get().words()}</p>
            </div>
        </Show>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::report;

    fn checked() -> Checked {
        let found = crate::report::calibration::tests::summary();
        let report = EvaluationReport {
            data: found.data,
            preprocessing: found.preprocessing,
            reference: None,
            compressed: None,
            damage: Vec::new(),
            notes: Vec::new(),
        };
        Checked { report, tried: 7 }
    }

    #[test]
    fn a_check_is_of_one_allocation() {
        let (one, mut other) = (Arc::new(report(5)), report(5));
        let check = Check { made: Some((one.clone(), Ok(Arc::new(checked())))), running: None };
        assert!(check.of(&one).is_some_and(|r| r.is_ok()));
        // Encoding measures errors and changes no bit.
        other.measured = true;
        assert!(check.of(&Arc::new(other.clone())).is_some());
        other.layers[1].bytes += 1;
        assert!(check.of(&Arc::new(other)).is_none());
        assert!(Check::default().of(&one).is_none());
    }

    #[test]
    fn every_state_is_a_sentence() {
        let states = [
            State::Waiting,
            State::Busy,
            State::Behind,
            State::Measuring,
            State::Done(Arc::new(checked())),
            State::Failed("a.onnx: it has NaN values; check it.".into()),
        ];
        for state in states {
            assert!(state.words().ends_with(['.', '…']), "{state:?}");
        }
    }
}
