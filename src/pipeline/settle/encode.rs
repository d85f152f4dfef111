//! Encodes an allocation; entropy-coded, it is allocated again by what the coder made of it.

use std::sync::Arc;

use super::section_bytes;
use crate::{
    error::{Error, Result},
    pipeline::{
        EncodedLayer, Session,
        job::{Runner, Span},
    },
    rate::{Allocation, Plan, Way},
    report::{AllocationSettings, Coding},
};

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
    // Parts that were tried, and their bytes.
    let (mut below, mut above) = (None::<(f64, f64)>, None::<(f64, f64)>);
    for round in 0..ROUNDS {
        let span = span.part(round as f64 / ROUNDS as f64, (round + 1) as f64 / ROUNDS as f64);
        let layers = session.encoded(&allocation, span, runner).await?;
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
        let mut way = Way::default();
        let mut again = session.problem().allocate_within(settings, part, &mut way)?;
        // What is too much is not encoded again: less is asked for, until it is another allocation.
        while again.plans == allocation.plans && !fits(bytes) && part > 0.5 {
            part *= 0.998;
            again = session.problem().allocate_within(settings, part, &mut way)?;
        }
        if again.plans == allocation.plans {
            break;
        }
        allocation = again;
    }
    let (_, allocation, layers) = best.ok_or_else(|| Error::Setting("There is nothing to encode.".into()))?;
    Ok((allocation, layers))
}

impl Session {
    /// The entropy-coded layers of an allocation. Those whose plans choose what they did when they were encoded last, in any of the session's clones, are not encoded
    /// again: most plans stay what they were from one round to the next, or under another choice of transforms.
    ///
    /// # Errors
    /// Those of reading and encoding, and of the runner.
    pub(super) async fn encoded(&self, allocation: &Allocation, span: Span, runner: &mut impl Runner) -> Result<Vec<EncodedLayer>> {
        let mut last = self.encoded.take();
        last.resize(allocation.plans.len(), None);
        let same = |layer: &usize| matches!(&last[*layer], Some((plan, _)) if plan.chooses_as(&allocation.plans[*layer]));
        let changed: Vec<usize> = (0..last.len()).filter(|layer| !same(layer)).collect();
        let found = runner.run(span, self.encode_some_job(allocation, changed.clone())).await;
        let layers = found.map(|found| {
            for (layer, encoded) in changed.into_iter().zip(found) {
                last[layer] = Some((allocation.plans[layer].clone(), encoded));
            }
            last.iter().flatten().map(|(_, encoded)| encoded.clone()).collect()
        });
        // Also of what was cancelled: it is begun anew.
        self.encoded.replace(last);
        layers
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
}
