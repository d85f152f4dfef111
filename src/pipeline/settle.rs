//! Between an allocation and its encoding: steps of all blocks chosen together ([`joint`]), and what `auto` settles on.
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

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{
    EncodedLayer, Session,
    evaluate::{Evaluator, Reference},
    job::{Item, Job, Runner, Span},
    layer_code,
    matching::{self, targets::Targets},
    sweep::{self, Compressed, On},
};
use crate::{
    container::{self, layer},
    error::{Error, Result},
    quantize::{self, Gains},
    rate::{
        Allocation, Plan, curve,
        joint::{self, LayerErrors},
    },
    report::{AllocationReport, AllocationSettings, AlternativeRow, Coding, Evaluation, Method, TransformChoice},
    transform::{self, Basis},
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
/// The part of the budget from which on what quantizing for a layer's own inputs has left is spent: a hundredth.
const LEFT: u64 = 100;

/// Most multiplications of running all layers alone, some ten seconds in a browser with two threads; one batch of images there may be in any case.
const MOST_ALONE: f64 = 2e11;
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

/// How often an allocation is coded to learn what it takes, and how often it is coded at most.
const LEARNING: usize = 3;
const ROUNDS: usize = 9;
/// How much of a budget an entropy-coded allocation uses at least, and what is aimed at.
const USED: f64 = 0.995;
const AIM: f64 = 0.998;

/// Encodes an allocation. Of fixed-length quantizers, with calibration, after choosing the steps of all blocks together. Entropy-coded, it is
/// allocated again by what the coder made of it, until the budget is met: the allocation that was encoded is returned.
///
/// # Errors
/// Those of reading and encoding, and of the runner.
pub async fn encode(
    session: &Session,
    allocation: &Allocation,
    settings: &AllocationSettings,
    span: Span,
    runner: &mut impl Runner,
) -> Result<(Allocation, Vec<EncodedLayer>)> {
    if session.curve_settings().coding == Coding::Entropy {
        return encode_by_rate(session, allocation, settings, span, runner).await;
    }
    let layers = if session.statistics().is_none() {
        runner.run(span, session.encode_job(allocation)).await?
    } else {
        let (steps, coding) = (session.steps_job(allocation).cost(), session.encode_job(allocation).cost());
        let between = steps / (steps + coding).max(f64::MIN_POSITIVE);
        let found = runner.run(span.part(0.0, between), session.steps_job(allocation)).await?;
        runner.run(span.part(between, 1.0), session.with_steps(allocation, found).encode_job(allocation)).await?
    };
    Ok((allocation.clone(), layers))
}

/// Allocates by the coder's rates: encodes, learns how many bits each layer took, allocates again. What was learnt holds for one allocation, and
/// less for the next: after some rounds it is kept, and the bytes that are allocated are scaled by those that come out. Takes the most bytes that
/// were within the budget, or the fewest there were.
async fn encode_by_rate(
    session: &Session,
    allocation: &Allocation,
    settings: &AllocationSettings,
    span: Span,
    runner: &mut impl Runner,
) -> Result<(Allocation, Vec<EncodedLayer>)> {
    let limit = session.problem().layer_limit(settings)?;
    // Gains come later.
    let quantized = (0..session.layers.len()).filter(|&layer| allocation.plans[layer] != Plan::Exact);
    let reserved = quantized.map(|layer| session.gain_bits(layer).div_ceil(8)).sum::<u64>();
    let (mut session, mut allocation, mut part) = (session.clone(), allocation.clone(), 1.0);
    let mut best: Option<(u64, Allocation, Vec<EncodedLayer>)> = None;
    // What each layer was encoded to last: most plans stay what they were.
    let mut known: Vec<Option<(Plan, EncodedLayer)>> = vec![None; allocation.plans.len()];
    // Parts that were tried, and their bytes.
    let (mut below, mut above) = (None::<(f64, f64)>, None::<(f64, f64)>);
    for round in 0..ROUNDS {
        let span = span.part(round as f64 / ROUNDS as f64, (round + 1) as f64 / ROUNDS as f64);
        let is_known = |layer: usize| known[layer].as_ref().is_some_and(|(plan, _)| *plan == allocation.plans[layer]);
        let changed: Vec<usize> = (0..known.len()).filter(|&layer| !is_known(layer)).collect();
        let encoded = runner.run(span, session.encode_some_job(&allocation, changed.clone())).await?;
        for (layer, encoded) in changed.into_iter().zip(encoded) {
            known[layer] = Some((allocation.plans[layer].clone(), encoded));
        }
        let layers: Vec<EncodedLayer> = known.iter().flatten().map(|(_, encoded)| encoded.clone()).collect();
        if round < LEARNING {
            session.learn(&allocation, &layers);
        }
        let bytes = section_bytes(&layers) + reserved;
        let fits = |bytes: u64| limit.is_none_or(|limit| bytes <= limit);
        let better = match &best {
            None => true,
            Some((had, ..)) => {
                if fits(*had) {
                    fits(bytes) && bytes > *had
                } else {
                    bytes < *had
                }
            }
        };
        if better {
            best = Some((bytes, allocation.clone(), layers));
        }
        let Some(limit) = limit.filter(|limit| !fits(bytes) || (bytes as f64) < USED * *limit as f64) else { break };
        if round >= LEARNING {
            // Between what was too much and what was not, once there is both.
            let end = if fits(bytes) { &mut below } else { &mut above };
            *end = Some((part, bytes as f64));
            let aim = AIM * limit as f64;
            part = match (below, above) {
                (Some((low, few)), Some((high, many))) => low + (high - low) * ((aim - few) / (many - few)).clamp(0.05, 0.95),
                _ => part * (aim / bytes as f64).powf(0.8),
            };
        }
        let mut again = session.problem().allocate_within(settings, part)?;
        // What is too much is not encoded again: less is asked for, until it is another allocation.
        while again.plans == allocation.plans && !fits(bytes) && part > 0.5 {
            part *= 0.998;
            again = session.problem().allocate_within(settings, part)?;
        }
        if again.plans == allocation.plans {
            break;
        }
        allocation = again;
    }
    let (_, allocation, layers) = best.ok_or_else(|| Error::Setting("There is nothing to encode.".into()))?;
    Ok((allocation, layers))
}

/// Matches gains and biases of a compressed network to the full-precision one, on an evaluator's images: its layers get gains, and small tensors new values. Gains are coded
/// coarser, and at last left out, where the budget leaves no room for them. With `targets` layers are quantized again on the way ([`matching::targets`]): they may
/// then take more than the budget has.
///
/// # Errors
/// Those of [`super::matching`], of encoding and of decoding, and of the runner.
pub async fn matched(
    session: &Session,
    compressed: Compressed,
    settings: &AllocationSettings,
    evaluator: &Evaluator,
    targets: bool,
    span: Span,
    runner: &mut impl Runner,
) -> Result<Compressed> {
    let limit = session.problem().layer_limit(settings)?.unwrap_or(u64::MAX).max(section_bytes(&compressed.layers));
    let coded: Rc<[bool]> = compressed.layers.iter().map(|l| l.body.is_some()).collect();
    for coarser in 0..=COARSER {
        let part = |from: f64, to: f64| {
            span.part((f64::from(coarser) + from) / f64::from(COARSER + 1), (f64::from(coarser) + to) / f64::from(COARSER + 1))
        };
        let kept: Rc<RefCell<Vec<Option<Gains>>>> = Rc::new(RefCell::new(vec![None; coded.len()]));
        let (coded, keep) = (coded.clone(), kept.clone());
        let matcher = evaluator.matcher(session, &compressed.decoded, matching::Options::default())?.keeping_gains(move |layer, gains| {
            // Layers kept bit for bit have no place for gains; at last no layer has.
            if !coded[layer] || coarser == COARSER {
                return vec![1.0; gains.len()];
            }
            let gains = Gains::nearest(&gains, coarser);
            let sizes = gains.sizes().collect();
            keep.borrow_mut()[layer] = Some(gains);
            sizes
        });
        let targets = targets.then(|| Targets::new(session, &compressed.allocation, &compressed.layers));
        let found = matcher.run_with(targets.as_ref(), part(0.0, 0.6), runner).await?;
        let gains = kept.take();
        let layers = targets.map_or_else(|| compressed.layers.clone(), Targets::into_layers);
        let layers = runner.run(part(0.6, 0.8), session.matched_job(&layers, &gains)).await?;
        if section_bytes(&layers) > limit && coarser < COARSER {
            continue;
        }
        let session = session.with_small(&found.tensors)?;
        let decoded = sweep::decode(&session, &layers, part(0.8, 1.0), runner).await?;
        let report = session.encoded_report(&compressed.allocation, settings, &layers);
        return Ok(Compressed { allocation: compressed.allocation, layers, report, decoded, small: found.tensors });
    }
    Ok(compressed)
}

/// How many times coarser gains are tried, if they do not fit, before they are left out.
const COARSER: u8 = 3;

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
        return Ok(Settled { allocation, layers, report, evaluation: None, alternatives: Vec::new(), small: Vec::new() });
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
    // With errors fed back layers are weighed once more by what running them shows, which takes about as long as three other tries, and the best is quantized for
    // its own inputs.
    let weighs = session.curve_settings().method == Method::Feedback;
    let retargets = weighs && session.curve_settings().matching;
    let (count, first, extra) = (tries.len() as f64, if weighs { 4.0 } else { 0.0 }, if retargets { 1.0 } else { 0.0 });
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
        best = retargeted(session, best, settings, on, part(count + first, count + first + extra), runner).await?;
    }
    Ok(best)
}

/// The same allocation with layers quantized for the inputs that they have in the quantized network ([`matching::targets`]), if that fits the budget, or takes no more bytes,
/// and does less harm. It takes fewer bytes at low rates: what is left is spent, and all is done once more.
async fn retargeted(
    session: &Session,
    mut settled: Settled,
    settings: &AllocationSettings,
    on: On<'_>,
    span: Span,
    runner: &mut impl Runner,
) -> Result<Settled> {
    let row = settled.alternatives[0];
    let settings = AllocationSettings { transform: row.transform, ..settings.clone() };
    let limit = session.problem().layer_limit(&settings)?.unwrap_or(0).max(section_bytes(&settled.layers));
    let mut allocation = settled.allocation.clone();
    for round in [span.part(0.0, 0.5), span.part(0.5, 1.0)] {
        let layers = runner.run(round.part(0.0, 0.2), session.encode_job(&allocation)).await?;
        let decoded = sweep::decode(session, &layers, round.part(0.2, 0.3), runner).await?;
        let report = session.encoded_report(&allocation, &settings, &layers);
        let compressed = Compressed { allocation: allocation.clone(), layers, report, decoded, small: Vec::new() };
        let compressed = matched(session, compressed, &settings, on.evaluator, true, round.part(0.3, 0.9), runner).await?;
        let bytes = section_bytes(&compressed.layers);
        if bytes > limit {
            break;
        }
        let network = session.runnable()?.with_tensors(&compressed.decoded.tensors)?;
        let what = super::evaluate::what(&compressed.report);
        let evaluation = sweep::compare(&network, what, on.evaluator, on.reference, round.part(0.9, 1.0), runner).await?;
        let found = Settled::new(row.transform, [row.steps_together, row.layers_measured], compressed, evaluation);
        if found.alternatives[0].measured_db >= settled.alternatives[0].measured_db {
            break;
        }
        let mut alternatives = std::mem::take(&mut settled.alternatives);
        alternatives[0] = found.alternatives[0];
        settled = Settled { alternatives, ..found };
        let left = limit - bytes;
        if left < limit / LEFT {
            break;
        }
        allocation = session.problem().refilled(&settings, &allocation, left)?;
    }
    Ok(settled)
}

impl Settled {
    /// What one of the tries came to.
    fn new(
        transform: TransformChoice,
        [steps_together, layers_measured]: [bool; 2],
        compressed: Compressed,
        evaluation: Evaluation,
    ) -> Settled {
        let Compressed { allocation, layers, report, small, .. } = compressed;
        // Without an error there is no ratio in decibels: the least there is.
        let measured_db = evaluation.sqnr_db.map_or(-200.0, |sqnr| -sqnr);
        let (bytes, predicted_db) = (report.bytes, report.db);
        let row = AlternativeRow { transform, steps_together, layers_measured, bytes, predicted_db, measured_db };
        Settled { allocation, layers, report, evaluation: Some(evaluation), alternatives: vec![row], small }
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

    /// The job that finds what the steps of every block do to the output: for [`Session::with_steps`].
    pub fn steps_job<'a>(&'a self, allocation: &'a Allocation) -> Job<'a, Option<LayerErrors>> {
        let samples = self.statistics.as_ref().and_then(|s| s.layers.first()).map_or(0, |l| l.kept());
        let cost = |shape: &crate::io::LayerShape| super::curve_cost(shape, samples);
        let items = self.layers.iter().map(|&(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: cost(&shape) });
        Job {
            stage: "steps",
            items: items.collect(),
            prepare: Box::new(move |i| {
                let (tensor, shape) = self.layers[i];
                let (curves, cost) = (self.curves[i].clone(), self.cost(i, self.curve_settings));
                let Plan::Quantized { candidate, blocks } = allocation.plans[i].clone() else { return Ok(Box::new(|| Ok(None))) };
                let mut weights = self.read(tensor)?;
                Ok(Box::new(move || {
                    let candidate = &curves.candidates[candidate];
                    let exponent = quantize::normalize(&mut weights);
                    let cost = cost.normalized(exponent);
                    let code = layer_code(candidate, &shape, &blocks, exponent, false);
                    let coefficients = curve::coefficients(candidate, &code, &cost, &shape, &weights);
                    let basis = candidate.basis.as_ref();
                    let second = basis.and_then(|b| b.second.as_ref());
                    let rows = basis.map_or(&[][..], |b| &b.rows);
                    let indices = code.indices(&coefficients, rows, second.map_or(&[][..], |v| &v.rows));
                    let decoded = layer::reconstruct(&code, &indices, &shape);
                    let to_normal = quantize::power_of_two(-i32::from(exponent));
                    let error: Vec<f32> = decoded.iter().zip(&weights).map(|(d, w)| d * to_normal - w).collect();
                    let error = transform::to_matrix(&shape, candidate.kind, &error);
                    let dim = candidate.geometry.dim;
                    let basis = basis.map(|b| {
                        let row = |(row, values): (usize, &[f32])| match code.is_used(row) {
                            true => code.decoded_basis(row, values),
                            false => vec![0.0; dim],
                        };
                        let second = second.zip(code.second).map(|(v, c)| Box::new(Basis { rows: c.decoded(&v.rows), ..(**v).clone() }));
                        Basis { geometry: b.geometry, rows: b.rows.chunks(dim.max(1)).enumerate().flat_map(row).collect(), second }
                    });
                    Ok(joint::layer_errors(candidate, &code, &cost, basis.as_ref(), &coefficients, &error))
                }))
            }),
        }
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

    /// Keeps what the coder needed for each layer of an allocation.
    fn learn(&mut self, allocation: &Allocation, layers: &[EncodedLayer]) {
        for (layer, (plan, encoded)) in allocation.plans.iter().zip(layers).enumerate() {
            if let (Plan::Quantized { candidate, .. }, Some(body)) = (plan, &encoded.body) {
                let bits = 8 * body.len() as u64 + self.gain_bits(layer);
                let curves = &mut self.curves[layer];
                let predicted = plan.predicted_bits(curves);
                Arc::make_mut(curves).learn(*candidate, predicted, bits);
            }
        }
    }

    /// Bits that are kept free for gains of a layer.
    fn gain_bits(&self, layer: usize) -> u64 {
        let matched = self.curve_settings.matching && self.statistics.is_some();
        if matched { layer::gain_bits(&self.layers[layer].1, self.curve_settings.coding.into()) } else { 0 }
    }

    /// The session with the steps of an allocation's blocks chosen together, to encode it with. `found` is what [`Session::steps_job`] gave.
    pub fn with_steps(&self, allocation: &Allocation, mut found: Vec<Option<LayerErrors>>) -> Session {
        let (steps, _) = joint::choose(&mut found);
        let mut session = self.clone();
        for (i, steps) in steps.into_iter().enumerate().filter(|(_, steps)| !steps.is_empty()) {
            let Plan::Quantized { candidate, blocks } = &allocation.plans[i] else { continue };
            let curves = Arc::make_mut(&mut session.curves[i]);
            for (block, step) in steps {
                curves.candidates[*candidate].blocks[block].coefficients[usize::from(blocks[block].taken.coefficient)].step = step;
            }
        }
        session
    }
}
