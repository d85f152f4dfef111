//! Measured curves, one point after the other.

use super::{
    EPOCH, Jobs, Part, RUNNING, STATE,
    images::{known_on_images, network_on, on_images, with_calibration},
    now, post, session, still_running,
};
use crate::{
    error::Result,
    pipeline::{
        Session,
        evaluate::Evaluator,
        sweep::{On, Sweep},
    },
    report::{AllocationSettings, MeasuredCurves, Preprocessing, SweepSettings},
    worker::messages::{DataUse, FromEngine},
};

/// What a sweep was asked for by: it goes on if it is asked for the same.
#[derive(PartialEq)]
pub(super) struct Swept {
    pub(super) preprocessing: Preprocessing,
    pub(super) settings: SweepSettings,
    pub(super) locks: Vec<(usize, u8)>,
    pub(super) excludes: Vec<usize>,
    /// [`EPOCH`] when it began.
    pub(super) epoch: u32,
}

/// Measures curves, or goes on where the same were cancelled.
pub(super) async fn run(
    job: u32,
    preprocessing: Option<Preprocessing>,
    settings: SweepSettings,
    allocation: AllocationSettings,
) -> Result<()> {
    let session = session()?;
    RUNNING.set(job);
    let (evaluator, p) = network_on(DataUse::Test, &*session.runnable()?, preprocessing)?;
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
        pictures: on.evaluator.gives_pictures(),
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
