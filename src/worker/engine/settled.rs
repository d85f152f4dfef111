//! What the settings come to, as a download holds it, and what that gives on the images of the calibration.

use std::rc::Rc;

use super::{Jobs, Part, RUNNING, STATE, images::on_calibration, post, session};
use crate::{
    error::{Error, Result},
    pipeline::{
        Session,
        job::Span,
        settle::{self, Settled},
    },
    report::{AllocationSettings, EvaluationReport},
    worker::messages::FromEngine,
};

/// What settings came to.
pub(super) struct Made {
    pub(super) settings: AllocationSettings,
    pub(super) settled: Settled,
    /// What both networks gave on the images of the calibration, or why they were not run.
    pub(super) check: Result<EvaluationReport>,
}

/// What the settings come to ([`settle`]), made only if it was not made before. A network that is not calibrated, or whose images are gone, or
/// that cannot be measured is encoded without being run.
pub(super) async fn settled(job: u32, session: &Session) -> Result<Rc<Made>> {
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

/// Runs what the settings come to on the images of the calibration.
pub(super) async fn check(job: u32) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let made = settled(job, &session).await?;
    if let Err(why) = &made.check {
        return Err(why.clone());
    }
    post(&FromEngine::Checked { job });
    Ok(())
}
