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
/// The part of the budget from which on what quantizing for a layer's own inputs has left is spent: a hundredth.
const LEFT: u64 = 100;

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
        return Ok(Compressed { allocation: compressed.allocation, layers, report, decoded, small: found.tensors });
    }
    Ok(compressed)
}

/// The same allocation with layers quantized for the inputs that they have in the quantized network ([`matching::targets`]), if that fits the budget, or takes no more bytes,
/// and does less harm. It takes fewer bytes at low rates: what is left is spent, and all is done once more.
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
        let what = evaluate::what(&compressed.report);
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
