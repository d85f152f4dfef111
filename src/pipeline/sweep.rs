//! Allocations measured: encoded, decoded as a decoder would, and the network run with what comes out. One of them ([`measure`]), or one for
//! every transform and rate: the measured curves (Young et al. 2021, Figs. 6 and 9), a [`Sweep`].
//!
//! ```text
//! Session ─ allocate ─→ Allocation ─ compressed ─→ Compressed ─ compare ─→ Evaluation
//! ```
//!
//! Who runs the jobs is a [`Runner`]: the same code serves the command line and the browser's engine. A sweep that was cancelled goes on with
//! the point that it stopped in.

use super::{
    EncodedLayer, Session, decode_job,
    evaluate::{self, Decoded, Evaluator, Reference},
    job::{Runner, Span},
    settle,
};
use crate::{
    container::TqFile,
    error::{Error, Result},
    graph::Runnable,
    rate::{Allocation, Plan},
    report::{AllocationReport, AllocationSettings, Budget, Coding, Evaluation, Measure, MeasuredPoint, SweepSettings, TransformChoice},
};

/// An allocation as a file, and that file decoded.
pub struct Compressed {
    /// The allocation that is in the file ([`settle::encode`]).
    pub allocation: Allocation,
    /// The layers of the file.
    pub layers: Vec<EncodedLayer>,
    /// The same before gains were matched.
    pub plain: Vec<EncodedLayer>,
    /// The allocation, errors measured on the decoded weights.
    pub report: AllocationReport,
    /// What the file gives back.
    pub decoded: Decoded,
    /// Small tensors of the file that differ from the model's, by index: for [`Session::with_small`].
    pub small: Vec<(usize, Vec<f32>)>,
}

/// What networks are run on.
#[derive(Clone, Copy)]
pub struct On<'a> {
    /// The full-precision network on images.
    pub evaluator: &'a Evaluator,
    /// What it gives there.
    pub reference: &'a Reference,
    /// The same network on the images of its calibration: gains and biases are matched on these, whatever it is measured on.
    pub calibration: Option<&'a Evaluator>,
}

/// Encodes an allocation, and decodes what its file holds. With calibration the steps of all blocks are chosen `together` ([`settle::encode`]).
///
/// # Errors
/// Those of encoding and decoding, and of the runner.
pub async fn compressed(
    session: &Session,
    allocation: &Allocation,
    settings: &AllocationSettings,
    together: bool,
    span: Span,
    runner: &mut impl Runner,
) -> Result<Compressed> {
    let (allocation, layers) = match together || session.curve_settings().coding == Coding::Entropy {
        true => settle::encode(session, allocation, settings, span.part(0.0, 0.5), runner).await?,
        false => (allocation.clone(), runner.run(span.part(0.0, 0.5), session.encode_job(allocation)).await?),
    };
    let report = session.encoded_report(&allocation, settings, &layers);
    let decoded = decode(session, &layers, span.part(0.5, 1.0), runner).await?;
    Ok(Compressed { allocation, plain: layers.clone(), layers, report, decoded, small: Vec::new() })
}

/// Decodes what a file of these layers holds.
///
/// # Errors
/// Those of decoding, and of the runner.
pub async fn decode(session: &Session, layers: &[EncodedLayer], span: Span, runner: &mut impl Runner) -> Result<Decoded> {
    let tq: TqFile = session.tq(layers)?;
    let tensors = runner.run(span, decode_job(&tq)).await?;
    Ok(evaluate::decoded(&tq, &tensors))
}

/// Runs a compressed network and compares it with the reference. `what` names it.
///
/// # Errors
/// Those of [`Evaluator::compressed_job`], and of the runner.
pub async fn compare(
    network: &Runnable,
    what: String,
    evaluator: &Evaluator,
    reference: &Reference,
    span: Span,
    runner: &mut impl Runner,
) -> Result<Evaluation> {
    let start = runner.now();
    let results = runner.run(span, evaluator.compressed_job(network, reference)?).await?;
    Ok(evaluator.finish(what, runner.now() - start, &results))
}

/// Compresses a network by an allocation, and finishes it.
///
/// # Errors
/// Those of [`compressed`] and [`finish`].
pub async fn measure(
    session: &Session,
    allocation: &Allocation,
    settings: &AllocationSettings,
    together: bool,
    on: On<'_>,
    span: Span,
    runner: &mut impl Runner,
) -> Result<(Compressed, Evaluation)> {
    let coded = coding_share(session, allocation, on);
    let compressed = compressed(session, allocation, settings, together, span.part(0.0, coded), runner).await?;
    finish(session, compressed, settings, on, span.part(coded, 1.0), runner).await
}

/// Which part of the work of [`measure`] is encoding and decoding, which cost about the same.
pub fn coding_share(session: &Session, allocation: &Allocation, on: On<'_>) -> f64 {
    let (coding, running) = (2.0 * session.encode_job(allocation).cost(), on.evaluator.cost());
    let matching = if session.curve_settings().matching { 0.4 * coding } else { 0.0 };
    (coding - matching) / (coding + running).max(f64::MIN_POSITIVE)
}

/// Matches a compressed network, where that is asked for and there are images to do so, and runs it.
///
/// # Errors
/// Those of [`settle::matched`] and [`compare`].
pub async fn finish(
    session: &Session,
    mut compressed: Compressed,
    settings: &AllocationSettings,
    on: On<'_>,
    span: Span,
    runner: &mut impl Runner,
) -> Result<(Compressed, Evaluation)> {
    let On { evaluator, reference, calibration } = on;
    let mut matched = 0.0;
    if let Some(images) = calibration.filter(|_| session.curve_settings().matching) {
        let matching = 0.8 * session.encode_job(&compressed.allocation).cost();
        matched = matching / (matching + evaluator.cost()).max(f64::MIN_POSITIVE);
        compressed = settle::matched(session, compressed, settings, images, false, span.part(0.0, matched), runner).await?;
    }
    let network = session.runnable()?.with_tensors(&compressed.decoded.tensors)?;
    let what = evaluate::what(&compressed.report);
    let evaluation = compare(&network, what, evaluator, reference, span.part(matched, 1.0), runner).await?;
    Ok((compressed, evaluation))
}

/// The points of measured curves, one after the other.
pub struct Sweep {
    settings: SweepSettings,
    /// What all points have in common: locks and excludes.
    base: AllocationSettings,
    /// Indices of transform and rate, in the order of work.
    order: Vec<(usize, usize)>,
    /// The first points of `order`, and the plans that they are of.
    points: Vec<MeasuredPoint>,
    plans: Vec<Vec<Plan>>,
}

impl Sweep {
    /// Plans a sweep: the first points are those of all transforms at two rates apart, then at the ends, then between. `base` says which layers
    /// are locked or excluded; its budget and transform do not matter.
    ///
    /// # Errors
    /// Nothing is asked for, a rate that is not a positive number, a transform that needs calibration where there is none.
    pub fn new(session: &Session, settings: SweepSettings, base: AllocationSettings) -> Result<Sweep> {
        if settings.transforms.is_empty() || settings.rates.is_empty() {
            return Err(Error::Setting("Measured curves need a transform and a rate at least.".into()));
        }
        if let Some(rate) = settings.rates.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
            return Err(Error::Setting(format!("A rate of {rate} bits per weight is not a positive number.")));
        }
        if let Some(transform) = settings.transforms.iter().find(|t| t.needs_calibration() && session.statistics().is_none()) {
            return Err(super::uncalibrated(*transform));
        }
        let mut rising: Vec<usize> = (0..settings.rates.len()).collect();
        rising.sort_by(|&a, &b| settings.rates[a].total_cmp(&settings.rates[b]));
        let order = coarse_first(rising.len()).into_iter().flat_map(|i| (0..settings.transforms.len()).map(move |t| (t, i)));
        let order = order.map(|(t, i)| (t, rising[i])).collect();
        Ok(Sweep { settings, base, order, points: Vec::new(), plans: Vec::new() })
    }

    /// What was asked for.
    pub fn settings(&self) -> &SweepSettings {
        &self.settings
    }

    /// The points so far, in the order of work.
    pub fn points(&self) -> &[MeasuredPoint] {
        &self.points
    }

    /// How many points there will be.
    pub fn wanted(&self) -> usize {
        self.order.len()
    }

    /// Measures the next point; none when all are there. A budget out of reach gives the nearest point; one that is the same file as
    /// another is not measured again. `span` is what the rest of the sweep is of the progress.
    ///
    /// # Errors
    /// Those of [`measure`]. The point is then still to be measured.
    pub async fn step(&mut self, session: &Session, on: On<'_>, runner: &mut impl Runner) -> Result<Option<MeasuredPoint>> {
        let Some(&(transform, rate)) = self.order.get(self.points.len()) else { return Ok(None) };
        let (transform, rate_asked) = (self.settings.transforms[transform], self.settings.rates[rate]);
        // Lines of transforms are of those.
        let feedback = transform == TransformChoice::Auto;
        let settings = AllocationSettings { budget: Budget::Bits(rate_asked), transform, feedback, ..self.base.clone() };
        let (allocation, _) = session.allocate(&settings)?;
        let point = match self.plans.iter().position(|plans| *plans == allocation.plans) {
            Some(same) => MeasuredPoint { transform, rate_asked, ..self.points[same] },
            None => {
                let part = |points: usize| points as f64 / self.order.len() as f64;
                let span = Span { from: part(self.points.len()), to: part(self.points.len() + 1) };
                let (Compressed { report, .. }, e) = measure(session, &allocation, &settings, true, on, span, runner).await?;
                MeasuredPoint {
                    transform,
                    rate_asked,
                    rate: report.rate,
                    bytes: report.bytes,
                    db: e.sqnr_db.map(|sqnr| -sqnr),
                    predicted_db: (report.measure == Measure::Output).then_some(report.db),
                    top1: e.top1,
                    top5: e.top5,
                    agreement: e.agreement,
                    psnr_db: e.psnr_db,
                }
            }
        };
        self.points.push(point);
        self.plans.push(allocation.plans);
        Ok(Some(point))
    }
}

/// The order in which `n` places in a row are visited, so that those visited first say most of the rest: at the thirds, at the ends, then
/// always the one farthest from all before.
fn coarse_first(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(n);
    for i in [n / 3, 2 * n / 3, 0, n.saturating_sub(1)].into_iter().filter(|&i| i < n) {
        if !order.contains(&i) {
            order.push(i);
        }
    }
    while order.len() < n {
        let distance = |i: usize| order.iter().map(|&o| o.abs_diff(i)).min().unwrap_or(n);
        // The first of the farthest.
        let next = (0..n).rev().max_by_key(|&i| distance(i)).unwrap_or(0);
        order.push(next);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_picture_comes_first() {
        let rates = coarse_first(8).into_iter().map(|i| SweepSettings::RATES[i]).collect::<Vec<_>>();
        assert_eq!(rates, [2.0, 4.0, 1.0, 6.0, 1.5, 2.5, 3.0, 5.0]);
        assert_eq!(coarse_first(11)[..6], [3, 7, 0, 10, 5, 1]);
        for n in 0..40 {
            let mut all = coarse_first(n);
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }
}
