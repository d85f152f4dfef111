//! Between an allocation and its encoding: steps of all blocks chosen together ([`crate::rate::joint`]), and what `auto` settles on.
//!
//! ```text
//! allocate ─→ alternatives ─ steps_job ─→ with_steps ─ encode_job ─→ run on the calibration images ─→ the best
//! ```
//!
//! Entropy-coded, an allocation is encoded, its coded bits are learnt, and it is allocated again ([`encode`]). With errors fed back each of its layers is run alone, too, and it
//! is allocated once more with the layers as much worth as that has shown ([`Session::weighed`]).
//!
//! The model says what each transform costs, running the network says what it does.
//!
//! Choosing per layer among transforms by a model follows the model's errors too: the sum of many small gains that are not all there can be
//! worse than the best single transform. So with calibration images at hand the allocations in question are encoded, run, and the best
//! one is taken.

mod encode;
mod matched;
mod steps;

use std::sync::Arc;

pub use self::{encode::encode, matched::matched};
use super::{
    EncodedLayer, Session,
    evaluate::{Evaluator, Reference},
    job::{Runner, Span},
    sweep::{self, Compressed, On},
};
use crate::{
    container::{self, layer},
    error::{Error, Result},
    rate::{Allocation, Plan},
    report::{AllocationReport, AllocationSettings, AlternativeRow, Coding, Evaluation, Method, TransformChoice},
};

/// Allocations whose predicted distortion is this many times that of `auto` are not run.
const HOPELESS: f64 = 2.0;
/// Errors of the output below this part of its power are small enough for a second-order model: −30 dB.
const SMALL: f64 = 0.001;
/// Most allocations that are run.
const MOST: usize = 6;
/// The same where errors are fed back in nearly all layers, whatever transform the others may have.
const MOST_FED_BACK: usize = 2;
/// Most multiplications of all their runs, some ten seconds in a browser with two threads; two runs there may be in any case.
const MOST_RUN: f64 = 2e11;

/// Most multiplications of running all layers alone, some three seconds in a browser with two threads; one batch of images there may be in any case. A factor for a layer needs no more.
const MOST_ALONE: f64 = 6e10;
/// How many times more or less than the model says a layer may weigh.
const WEIGHED: f64 = 8.0;

/// An allocation, and the choice of transforms that it came from.
#[derive(Debug)]
pub struct Alternative {
    /// The choice.
    pub transform: TransformChoice,
    /// The allocation.
    pub allocation: Allocation,
}

/// Bytes of the sections of encoded layers.
fn section_bytes(layers: &[EncodedLayer]) -> u64 {
    layers.iter().filter_map(|l| l.body.as_ref()).map(|body| container::section_bytes(body.len() as u64)).sum()
}

/// What is written, and how it came about.
#[derive(Debug)]
pub struct Settled {
    /// The allocation.
    pub allocation: Allocation,
    /// Its layers.
    pub layers: Vec<EncodedLayer>,
    /// The same before gains were matched, for [`matched::retargeted`].
    plain: Vec<EncodedLayer>,
    /// The allocation, errors measured on the decoded weights.
    pub report: AllocationReport,
    /// What the network gave on the images, if it was run.
    pub evaluation: Option<Evaluation>,
    /// What was run, the best first; nothing without images.
    pub alternatives: Vec<AlternativeRow>,
    /// Small tensors of the file that differ from the model's, by index: for [`Session::with_small`].
    pub small: Vec<(usize, Vec<f32>)>,
}

/// Allocates and encodes. With images it takes what does least harm when it is run on them: of the [`Session::alternatives`], steps chosen
/// together, and of the first of them with the steps that the curves have; with errors fed back also of layers weighed by running them alone. Second-order models fail where errors are as large as the output is,
/// and there steps that are chosen together by such a model can do more harm than good. A budget out of reach gives the nearest there is.
///
/// # Errors
/// Those of [`Session::alternatives`] and [`sweep::measure`].
pub async fn settle(
    session: &Session,
    settings: &AllocationSettings,
    on: Option<(&Evaluator, &Reference)>,
    span: Span,
    runner: &mut impl Runner,
) -> Result<Settled> {
    let Some(on) = on else {
        let (allocation, _) = session.allocate(settings)?;
        let (allocation, layers) = encode(session, &allocation, settings, span, runner).await?;
        let report = session.encoded_report(&allocation, settings, &layers);
        let (plain, alternatives, small) = Default::default();
        return Ok(Settled { allocation, layers, plain, report, evaluation: None, alternatives, small });
    };
    let mut tries: Vec<(Alternative, bool)> = session.alternatives(settings)?.into_iter().map(|a| (a, true)).collect();
    // The steps of the curves, before what could be left out: the allocation of the settings is run both ways where the model may fail.
    let may_fail = |a: &Alternative| distortion(&a.allocation) > SMALL && session.curve_settings().coding != Coding::Entropy;
    if let Some((first, _)) = tries.first().filter(|(first, _)| may_fail(first)) {
        let alone = Alternative { transform: first.transform, allocation: first.allocation.clone() };
        tries.insert(1, (alone, false));
    }
    tries.truncate((MOST_RUN / on.0.cost().max(1.0)).clamp(2.0, 100.0) as usize);
    let on = On { evaluator: on.0, reference: on.1, calibration: Some(on.0) };
    // With errors fed back layers are weighed once more by what running them shows, which takes about as long as three other tries at most, and the best is quantized for
    // its own inputs.
    let weighs = session.curve_settings().method == Method::Feedback;
    let retargets = weighs && session.curve_settings().matching;
    let (count, first, extra) = (tries.len() as f64, if weighs { 4.0 } else { 0.0 }, if retargets { 2.0 } else { 0.0 });
    let part = |from: f64, to: f64| span.part(from / (count + first + extra), to / (count + first + extra));
    let mut found: Vec<Settled> = Vec::new();
    let mut weighted = None;
    for (i, (Alternative { transform, allocation }, together)) in tries.into_iter().enumerate() {
        let settings = AllocationSettings { transform, ..settings.clone() };
        let (compressed, evaluation) = if weighs && i == 0 {
            let coded = sweep::coding_share(session, &allocation, on);
            let compressed = sweep::compressed(session, &allocation, &settings, together, part(0.0, coded), runner).await?;
            weighted = Some(session.weighed(&compressed, on, part(coded, coded + first - 1.0), runner).await?);
            sweep::finish(session, compressed, &settings, on, part(coded + first - 1.0, first), runner).await?
        } else {
            let at = i as f64 + (first - 1.0).max(0.0);
            sweep::measure(session, &allocation, &settings, together, on, part(at, at + 1.0), runner).await?
        };
        found.push(Settled::new(transform, [together, false], compressed, evaluation));
    }
    if let Some(session) = weighted {
        let (allocation, _) = session.allocate(settings)?;
        if found.iter().all(|f| f.allocation.plans != allocation.plans) {
            let last = part(count + first - 1.0, count + first);
            let (compressed, evaluation) = sweep::measure(&session, &allocation, settings, true, on, last, runner).await?;
            found.push(Settled::new(settings.transform, [true, true], compressed, evaluation));
        }
    }
    // The first of equals: that of the settings.
    found.sort_by(|a, b| a.alternatives[0].measured_db.total_cmp(&b.alternatives[0].measured_db));
    let rows = found.iter().map(|f| f.alternatives[0]).collect();
    let best = found.into_iter().next().ok_or_else(|| Error::Setting("There is nothing to run.".into()))?;
    let mut best = Settled { alternatives: rows, ..best };
    if retargets {
        best = matched::retargeted(session, best, settings, on, part(count + first, count + first + extra), runner).await?;
    }
    Ok(best)
}

impl Settled {
    /// What one of the tries came to.
    fn new(
        transform: TransformChoice,
        [steps_together, layers_measured]: [bool; 2],
        compressed: Compressed,
        evaluation: Evaluation,
    ) -> Settled {
        let Compressed { allocation, layers, plain, report, small, .. } = compressed;
        // Without an error there is no ratio in decibels: the least there is.
        let measured_db = evaluation.sqnr_db.map_or(-200.0, |sqnr| -sqnr);
        let (bytes, predicted_db) = (report.bytes, report.db);
        let row = AlternativeRow { transform, steps_together, layers_measured, bytes, predicted_db, measured_db };
        Settled { allocation, layers, plain, report, evaluation: Some(evaluation), alternatives: vec![row], small }
    }
}

/// What an allocation does to the output by the model.
fn distortion(allocation: &Allocation) -> f64 {
    allocation.plans.iter().filter(|p| **p != Plan::Exact).map(Plan::distortion).sum()
}

impl Session {
    /// What is worth running for these settings: their allocation, and where [`TransformChoice::Auto`] chooses with calibration, those of
    /// single transforms for the same budget, as far as they differ and the model does not rule them out; best predictions first.
    ///
    /// # Errors
    /// As [`Session::allocate`].
    pub fn alternatives(&self, settings: &AllocationSettings) -> Result<Vec<Alternative>> {
        let problem = self.problem();
        let allocation = problem.allocate(settings)?;
        let least = distortion(&allocation);
        let mut found = vec![Alternative { transform: settings.transform, allocation }];
        if settings.transform != TransformChoice::Auto || self.statistics.is_none() {
            return Ok(found);
        }
        for transform in TransformChoice::ALL.into_iter().filter(|t| *t != TransformChoice::Auto) {
            let allocation = problem.allocate(&AllocationSettings { transform, ..settings.clone() })?;
            let differs = found.iter().all(|f| f.allocation.plans != allocation.plans);
            if differs && allocation.not_reachable.is_none() && distortion(&allocation) <= HOPELESS * least {
                found.push(Alternative { transform, allocation });
            }
        }
        found[1..].sort_by(|a, b| distortion(&a.allocation).total_cmp(&distortion(&b.allocation)));
        found.truncate(if self.curve_settings().method == Method::Feedback { MOST_FED_BACK } else { MOST });
        Ok(found)
    }

    /// The session with the distortions of every layer's curves times what running the layer alone, compressed, has shown over what the model says of it.
    ///
    /// # Errors
    /// Those of running the network.
    pub async fn weighed(&self, compressed: &Compressed, on: On<'_>, span: Span, runner: &mut impl Runner) -> Result<Session> {
        let results = runner.run(span, on.evaluator.damage_job(&compressed.decoded, on.reference, Some(MOST_ALONE))).await?;
        let power = self.statistics.as_ref().map_or(0.0, |s| s.output_energy);
        let mut session = self.clone();
        for ((alone, layer), curves) in
            on.evaluator.damage(&compressed.decoded, &results).iter().zip(&compressed.layers).zip(&mut session.curves)
        {
            let (measured, predicted) = (alone.distortion, layer.error * power);
            if measured > 0.0 && predicted > 0.0 {
                *curves = Arc::new(curves.weighted((measured / predicted).clamp(1.0 / WEIGHED, WEIGHED)));
            }
        }
        Ok(session)
    }

    /// Bits that are kept free for gains of a layer.
    fn gain_bits(&self, layer: usize) -> u64 {
        let matched = self.curve_settings.matching && self.statistics.is_some();
        if matched { layer::gain_bits(&self.layers[layer].1, self.curve_settings.coding.into()) } else { 0 }
    }
}
