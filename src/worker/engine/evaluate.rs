//! Both networks on the test images.

use js_sys::Array;

use super::{
    Jobs, Part, RUNNING, STATE,
    images::{images, network_on, on_images, runnable, wanted},
    now, pictures, post, run_part,
    settled::settled,
};
use crate::{
    error::Result,
    pipeline::{self, evaluate, job::Span, sweep},
    report::{Evaluation, Preprocessing},
    worker::messages::{DataUse, FromEngine},
};

/// Runs both; with `damage`, the network with each layer compressed alone as well.
pub(super) async fn run(job: u32, preprocessing: Option<Preprocessing>, damage: bool) -> Result<()> {
    RUNNING.set(job);
    // Before a `.tq` is decoded for nothing.
    wanted(DataUse::Test)?;
    let runnable = runnable(job).await?;
    let (evaluator, p) = network_on(DataUse::Test, &runnable, preprocessing.clone())?;
    let Some(session) = STATE.with_borrow(|s| s.session.clone()) else {
        // A `.tq` alone: there is nothing to compare it with.
        let alone = on_images(job, Part::whole(), evaluator, p, DataUse::Test as usize).await?;
        let described = STATE.with_borrow(|s| s.tq.as_ref().map(|tq| pipeline::describe(tq))).transpose()?;
        let what = described.map_or_else(String::new, |(_, allocation)| evaluate::what(&allocation));
        let compressed = Evaluation { what, ..alone.evaluation.clone() };
        let report = alone.evaluator.report(None, Some(compressed), Vec::new());
        post(&FromEngine::Evaluated { job, report: Box::new(report), pictures: Vec::new(), pixels: Array::new() });
        return Ok(());
    };
    let made = settled(job, &session).await?;
    let mut jobs = Jobs { job, part: Part::whole() };
    let session = session.with_small(&made.settled.small)?;
    let decoded = sweep::decode(&session, &made.settled.layers, Span::WHOLE, &mut jobs).await?;

    // One bar for all runs of networks: each counts as many as it runs images, which cost the same.
    let calibrator = match images(DataUse::Calibration).filter(|_| damage) {
        Some(_) => Some(network_on(DataUse::Calibration, &runnable, preprocessing)?),
        None => None,
    };
    let layers = if damage { decoded.layers.iter().filter(|l| l.at.is_some()).count() as f64 } else { 0.0 };
    let tests = evaluator.images() as f64;
    let others = calibrator.as_ref().map_or(0.0, |(e, _)| e.images() as f64);
    let runs = [tests, tests, evaluator.pictures_cost() as f64, others, layers * if calibrator.is_some() { others } else { tests }];
    let (all, start) = (runs.iter().sum::<f64>(), now());
    let part = |run: usize| {
        let before: f64 = runs[..run].iter().sum();
        Part { from: before / all, to: (before + runs[run]) / all, start, begun: 0.0 }
    };

    let tested = on_images(job, part(0), evaluator, p, DataUse::Test as usize).await?;
    let (network, what) = (runnable.with_tensors(&decoded.tensors)?, evaluate::what(&made.settled.report));
    let mut jobs = Jobs { job, part: part(1) };
    let compressed = sweep::compare(&network, what, &tested.evaluator, &tested.reference, Span::WHOLE, &mut jobs).await?;
    let (pictures, pixels) = pictures::made(job, part(2), &tested.evaluator, &network, &compressed).await?;
    let damage = if damage {
        let on = match calibrator {
            Some((evaluator, p)) => on_images(job, part(3), evaluator, p, DataUse::Calibration as usize).await?,
            None => tested.clone(),
        };
        let results = run_part(job, part(4), on.evaluator.damage_job(&decoded, &on.reference, None)).await?;
        on.evaluator.damage(&decoded, &results)
    } else {
        Vec::new()
    };
    let report = tested.evaluator.report(Some(tested.evaluation.clone()), Some(compressed), damage);
    post(&FromEngine::Evaluated { job, report: Box::new(report), pictures, pixels });
    Ok(())
}
