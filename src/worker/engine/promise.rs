//! The smallest file that keeps a promise.

use std::rc::Rc;

use super::{
    Jobs, Part, RUNNING, STATE,
    images::{network_on, on_calibration, on_images},
    post, session,
    settled::Made,
};
use crate::{
    error::{Error, Result},
    pipeline::{
        job::Span,
        promise::{self, Kept, Tests},
    },
    report::{AllocationSettings, Preprocessing, promise::Promise},
    worker::messages::{DataUse, FromEngine},
};

/// Finds the smallest file that keeps a promise ([`promise::keep`]), and keeps it as what its settings come to.
pub(super) async fn run(job: u32, preprocessing: Option<Preprocessing>, lose: f64, allocation: AllocationSettings) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let (evaluator, p) = network_on(DataUse::Test, &*session.runnable()?, preprocessing)?;
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
