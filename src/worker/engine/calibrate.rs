//! Statistics of the open network on calibration images.

use std::rc::Rc;

use super::{Part, RUNNING, STATE, curves_of, images::images, now, run_part, session};
use crate::{
    data::Dataset,
    error::{Error, Result},
    pipeline::{
        Session,
        calibrate::{Calibrator, Memory},
        evaluate,
    },
    report::{AllocationSettings, CalibrationSettings, CurveSettings, Distortion, Preprocessing},
    worker::messages::DataUse,
};

/// Samples for statistics, perhaps not all of them yet.
pub(super) struct Samples {
    pub(super) preprocessing: Preprocessing,
    pub(super) settings: CalibrationSettings,
    pub(super) calibrator: Calibrator,
}

/// The samples that were taken in the same way before, or none of them yet.
fn samples(
    session: &Session,
    images: &Dataset,
    preprocessing: Option<Preprocessing>,
    settings: CalibrationSettings,
) -> Result<Rc<Samples>> {
    let preprocessing = preprocessing.map_or_else(|| evaluate::preprocessing(&*session.runnable()?, images), Ok)?;
    let known = STATE.with_borrow(|s| s.samples.clone());
    if let Some(known) = known.filter(|known| known.preprocessing == preprocessing && known.settings == settings) {
        return Ok(known);
    }
    // Those before are freed first.
    STATE.with_borrow_mut(|s| s.samples = None);
    let calibrator = session.calibrator(images, preprocessing.clone(), settings, Memory::default())?;
    let samples = Rc::new(Samples { preprocessing, settings, calibrator });
    STATE.with_borrow_mut(|s| s.samples = Some(samples.clone()));
    Ok(samples)
}

/// Takes samples, and computes the curves with them.
pub(super) async fn run(
    job: u32,
    preprocessing: Option<Preprocessing>,
    calibration: CalibrationSettings,
    curves: CurveSettings,
    allocation: AllocationSettings,
) -> Result<()> {
    let start = now();
    RUNNING.set(job);
    let images = images(DataUse::Calibration).ok_or_else(|| Error::Setting("No calibration images are open; choose some first.".into()))?;
    let mut session = session()?;
    let samples = samples(&session, &images, preprocessing, calibration)?;
    let statistics = samples.calibrator.job();
    let seen = if curves.distortion == Distortion::Diagonal { 0 } else { samples.calibrator.kept() };
    let between = statistics.cost() / (statistics.cost() + session.curves_cost(seen));
    // What is measured takes far longer than the samples.
    let between = if curves.distortion == Distortion::Measured { 0.1 * between } else { between };
    let whole = Part { start, ..Part::whole() };
    run_part(job, Part { to: between, ..whole }, statistics).await?;
    session.set_statistics(Some(samples.calibrator.statistics()));
    curves_of(job, start, Part { from: between, ..whole }, session, curves, allocation).await
}
