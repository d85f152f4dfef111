//! Gains and biases matched after encoding, and layers quantized again for the inputs that they have in the quantized network.

use std::{cell::RefCell, rc::Rc};

use super::{Settled, section_bytes};
use crate::{
    error::Result,
    pipeline::{
        Session,
        evaluate::{self, Evaluator},
        job::{Runner, Span},
        matching::{self, targets::Targets},
        sweep::{self, Compressed, On},
    },
    quantize::Gains,
    report::AllocationSettings,
};

/// How many times coarser gains are tried, if they do not fit, before they are left out.
const COARSER: u8 = 3;
/// The part of the budget that may be left when layers are quantized for their own inputs: half a percent. More is spent.
const LEFT: u64 = 200;
/// How often that is done at most.
const ROUNDS: usize = 4;

/// Matches gains and biases of a compressed network to the full-precision one, on an evaluator's images: its layers get gains, and small tensors new values. Gains are coded
/// coarser, and at last left out, where the budget leaves no room for them. With `targets` layers are quantized again on the way ([`matching::targets`]): they may
/// then take more than the budget has.
///
/// # Errors
/// Those of [`crate::pipeline::matching`], of encoding and of decoding, and of the runner.
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
        return Ok(Compressed { layers, report, decoded, small: found.tensors, ..compressed });
    }
    Ok(compressed)
}

/// The same allocation with layers quantized for the inputs that they have in the quantized network ([`matching::targets`]), if that fits the budget, or takes no more bytes,
/// and does less harm. It takes other bytes than before, fewer at low rates: what is left is spent, and all is done once more, until little is left.
pub(super) async fn retargeted(
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
    let first = settled.allocation.clone();
    // The first allocation was encoded before.
    let mut encoded = Some(std::mem::take(&mut settled.plain));
    let (mut allocation, mut spent) = (first.clone(), Spent::default());
    for round in 0..ROUNDS {
        let span = span.part(round as f64 / ROUNDS as f64, (round + 1) as f64 / ROUNDS as f64);
        let layers = match encoded.take() {
            Some(layers) => layers,
            None => session.encoded(&allocation, span.part(0.0, 0.2), runner).await?,
        };
        let decoded = sweep::decode(session, &layers, span.part(0.2, 0.3), runner).await?;
        let report = session.encoded_report(&allocation, &settings, &layers);
        let compressed = Compressed { allocation: allocation.clone(), plain: layers.clone(), layers, report, decoded, small: Vec::new() };
        let compressed = matched(session, compressed, &settings, on.evaluator, true, span.part(0.3, 0.9), runner).await?;
        let bytes = section_bytes(&compressed.layers);
        let mut better = false;
        if bytes <= limit {
            let network = session.runnable()?.with_tensors(&compressed.decoded.tensors)?;
            let what = evaluate::what(&compressed.report);
            let evaluation = sweep::compare(&network, what, on.evaluator, on.reference, span.part(0.9, 1.0), runner).await?;
            let found = Settled::new(row.transform, [row.steps_together, row.layers_measured], compressed, evaluation);
            better = found.alternatives[0].measured_db < settled.alternatives[0].measured_db;
            if better {
                let mut alternatives = std::mem::take(&mut settled.alternatives);
                alternatives[0] = found.alternatives[0];
                settled = Settled { alternatives, ..found };
            }
        }
        // Where it does not pay with the first allocation it does not with another.
        if round == 0 && !better || !spent.came_to(bytes, limit) {
            break;
        }
        let next = session.problem().refilled(&settings, &first, spent.more)?;
        if next.plans == allocation.plans {
            break;
        }
        allocation = next;
    }
    Ok(settled)
}

/// What a budget has left for an allocation whose bytes are known only when it is encoded.
#[derive(Default)]
struct Spent {
    /// Bytes to allocate beyond those of the first allocation.
    more: u64,
    /// Such bytes, and what they left of the budget.
    below: (u64, u64),
    /// Such bytes, and by how much they were too many.
    above: Option<(u64, u64)>,
}

impl Spent {
    /// Takes the bytes that an allocation came to; whether another is worth it.
    fn came_to(&mut self, bytes: u64, limit: u64) -> bool {
        if bytes > limit {
            self.above = Some((self.more, bytes - limit));
        } else {
            self.below = (self.more, limit - bytes);
        }
        let ((few, left), last) = (self.below, self.more);
        self.more = match self.above {
            // As on a line between the two.
            Some((many, over)) => few + (many.saturating_sub(few) as f64 * (left as f64 / (left + over) as f64)) as u64,
            None => few + left,
        };
        left > limit / LEFT && self.more != few && self.more != last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that grow faster than what is allocated, and slower: within some tries next to nothing is left.
    #[test]
    fn what_is_left_is_spent() {
        for (share, limit) in [(1.3, 17_441), (1.0, 37_902), (0.7, 21_802), (2.0, 1000)] {
            let (mut spent, mut best) = (Spent::default(), 0);
            for _ in 0..ROUNDS {
                let bytes = limit * 9 / 10 + (share * spent.more as f64) as u64;
                if bytes <= limit {
                    best = best.max(bytes);
                }
                if !spent.came_to(bytes, limit) {
                    break;
                }
            }
            assert!(best >= limit - limit / 100, "{best} of {limit}");
        }
        // Nothing is left; and a budget of nothing.
        assert!(!Spent::default().came_to(100, 100) && !Spent::default().came_to(0, 0));
    }
}
