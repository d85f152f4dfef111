//! "Lose at most so many points" as the budget: the smallest file whose network, as decoded and run on test images, keeps a promise about its
//! accuracy.
//!
//! ```text
//! Search ─ a rate ─→ settle ─→ decode ─→ compare ─→ kept or not ─→ Search
//! ```
//!
//! Accuracy rises with the rate on the whole, not step by step: a smaller file can be right on an image more. So bisection finds a place where
//! the promise begins to hold, not the only one, and what is taken is the smallest file of those that were run and kept it. That is a fact about
//! the test images; how much of it is chance is said with it ([`Promise::chance`]).

use super::{
    Session,
    evaluate::{self, Evaluator, Reference},
    job::{Runner, Span},
    settle::{self, Settled},
    sweep,
};
use crate::{
    error::{Error, Result},
    evaluate::Output,
    report::{
        AllocationSettings, Budget, Evaluation,
        promise::{Promise, Promised, Try},
    },
};

/// Most rates that are tried.
pub const MOST: usize = 8;
/// Rates between which it looks, in bits per weight.
const RATES: (f64, f64) = (0.3, 8.0);
/// Rates of less than this ratio are not told apart: a file that much smaller is not worth another run.
const CLOSE: f64 = 1.02;
/// After so many tries without one that keeps the promise, the highest rate is tried: it may be in vain.
const DOUBT: usize = 2;

/// Bisection on the logarithm of the rate. It knows nothing of networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The greatest rate that has failed, or the least there is.
    low: f64,
    /// The least rate that has kept the promise, or the highest there is.
    high: f64,
    highest: f64,
    tries: usize,
    kept: bool,
    /// Whether the highest rate has failed.
    vain: bool,
}

impl Search {
    /// Looks between two rates, the higher of which is at least the lower, and both of which are above 0.
    pub fn new((low, high): (f64, f64)) -> Search {
        Search { low, high, highest: high, tries: 0, kept: false, vain: false }
    }

    /// The rate to try now; none when it is over. Rates have three decimals, as a user would type them, but for the highest.
    pub fn next(&self) -> Option<f64> {
        let middle = ((self.low * self.high).sqrt() * 1000.0).round() / 1000.0;
        let close = self.high < CLOSE * self.low || middle <= self.low || middle >= self.high;
        match () {
            _ if self.tries == MOST || self.vain => None,
            _ if !self.kept && (self.tries >= DOUBT || close) => Some(self.highest),
            _ if close => None,
            _ => Some(middle),
        }
    }

    /// Takes what came of [`Search::next`].
    pub fn take(&mut self, asked: f64, keeps: bool) {
        self.tries += 1;
        self.kept |= keeps;
        match keeps {
            true => self.high = self.high.min(asked),
            false => {
                self.vain |= asked >= self.highest;
                self.low = self.low.max(asked);
            }
        }
    }
}

/// Tries rates until the search ends. `step` tries one, as this part of the progress; what it gives beside the try is kept of the best alone.
/// `told` hears of every try.
///
/// # Errors
/// Those of `step`.
pub async fn search<T>(
    mut promise: Promise,
    rates: (f64, f64),
    span: Span,
    mut step: impl AsyncFnMut(f64, Span) -> Result<(Try, T)>,
    mut told: impl FnMut(&Promise),
) -> Result<(Promise, Option<T>)> {
    let (mut search, mut best) = (Search::new(rates), None);
    while let Some(asked) = search.next() {
        let done = promise.tries.len();
        let (tried, made) = step(asked, span.part(done as f64 / MOST as f64, (done + 1) as f64 / MOST as f64)).await?;
        search.take(asked, tried.keeps);
        promise.tries.push(tried);
        if tried.keeps && promise.kept_by().is_none_or(|best| tried.bytes < best.bytes) {
            promise.best = Some(done);
            best = Some(made);
        }
        told(&promise);
    }
    Ok((promise, best))
}

/// The full-precision network on test images.
#[derive(Clone, Copy)]
pub struct Tests<'a> {
    /// The images.
    pub evaluator: &'a Evaluator,
    /// What it gives there.
    pub reference: &'a Reference,
    /// The same in numbers.
    pub full: &'a Evaluation,
}

/// The smallest file that keeps a promise.
pub struct Kept {
    /// The settings that it came of: those given, at the rate that was found.
    pub settings: AllocationSettings,
    /// What they came to.
    pub settled: Settled,
    /// What its network gave on the test images.
    pub evaluation: Evaluation,
}

/// Finds the smallest file that loses at most `lose` points. `settings` are those of all tries but for their budget; `check` is what
/// [`settle::settle`] runs networks on. Without a file that keeps the promise there is none, and [`Promise::words`] says so.
///
/// # Errors
/// A network that does not choose among classes; a promise that is no number from 0 to 100; those of settling, decoding and running.
#[expect(clippy::too_many_arguments, reason = "two sets of images, and who is told of what")]
pub async fn keep(
    session: &Session,
    settings: &AllocationSettings,
    lose: f64,
    tests: Tests<'_>,
    check: Option<(&Evaluator, &Reference)>,
    span: Span,
    runner: &mut impl Runner,
    told: impl FnMut(&Promise),
) -> Result<(Promise, Option<Kept>)> {
    if !(0.0..=100.0).contains(&lose) {
        return Err(Error::Setting(format!("A loss of {lose} points is not a number from 0 to 100.")));
    }
    if !matches!(tests.evaluator.output(), Output::Classes(_)) {
        let gives = if let Output::Picture(_) = tests.evaluator.output() { ", this one gives pictures" } else { "" };
        let reason = format!("\"Lose at most\" needs a classifier, a network that chooses among classes{gives}");
        return Err(Error::Setting(format!("{reason}: choose a budget in bits, bytes or as a ratio.")));
    }
    let (of, full) = tests.full.top1.map_or((Promised::Agreement, 1.0), |top1| (Promised::Top1, top1));
    let promise = Promise::new(lose, of, tests.evaluator.images(), full);
    let at = |asked: f64| AllocationSettings { budget: Budget::Bits(asked), ..settings.clone() };
    let rates = reachable(session.allocate(&at(RATES.1))?.1.rate_range);
    let asked_for = promise.clone();
    let step = async |asked: f64, span: Span| {
        let settings = at(asked);
        // Coding takes most of the time where it is done several times, running the network where there are many images.
        let settled = settle::settle(session, &settings, check, span.part(0.0, 0.8), runner).await?;
        let small = session.with_small(&settled.small)?;
        let decoded = sweep::decode(&small, &settled.layers, span.part(0.8, 0.85), runner).await?;
        let network = session.runnable()?.with_tensors(&decoded.tensors)?;
        let what = evaluate::what(&settled.report);
        let evaluation = sweep::compare(&network, what, tests.evaluator, tests.reference, span.part(0.85, 1.0), runner).await?;
        let has = match of {
            Promised::Top1 => evaluation.top1,
            Promised::Agreement => evaluation.agreement,
        };
        let has = has.unwrap_or(0.0);
        let (rate, bytes, keeps) = (settled.report.rate, settled.report.bytes, asked_for.keeps(has));
        Ok((Try { asked, rate, bytes, has, keeps }, Kept { settings, settled, evaluation }))
    };
    search(promise, rates, span, step, told).await
}

/// The part of [`RATES`] that can be had.
fn reachable((least, most): (f64, f64)) -> (f64, f64) {
    let high = if most > 0.0 { RATES.1.min(most) } else { RATES.1 };
    (RATES.0.max(least).min(high), high)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::pipeline::job::wait;

    /// Searches with a made-up network: `has` at a rate, and a file of 10,000 bytes a bit.
    fn found(lose: f64, rates: (f64, f64), has: impl Fn(f64) -> f64) -> (Promise, Option<f64>, Vec<Span>, usize) {
        let promise = Promise::new(lose, Promised::Top1, 1000, 0.95);
        let (asked_for, mut spans, mut told) = (promise.clone(), Vec::new(), 0);
        let step = async |asked: f64, span: Span| {
            spans.push(span);
            let has = has(asked);
            Ok((Try { asked, rate: asked, bytes: (10_000.0 * asked) as u64, has, keeps: asked_for.keeps(has) }, asked))
        };
        let (promise, best) = wait(search(promise, rates, Span::WHOLE, step, |_| told += 1)).unwrap();
        (promise, best, spans, told)
    }

    #[test]
    fn a_threshold_is_found_from_above_within_eight_tries() {
        for threshold in [0.31, 0.5, 0.9, 1.3, 2.0, 3.7, 5.0, 7.5, 7.99] {
            let (promise, best, spans, told) = found(1.0, RATES, |rate| if rate >= threshold { 0.95 } else { 0.90 });
            let best = best.unwrap_or_else(|| panic!("{threshold}: {promise:?}"));
            assert!(best >= threshold, "{best} for {threshold}");
            // The highest rate may have taken one of the tries.
            assert!(best < 1.06 * threshold, "{best} for {threshold}: {:?}", promise.tries);
            assert!(promise.tries.len() <= MOST && told == promise.tries.len());
            assert_eq!(promise.kept_by().map(|t| t.asked), Some(best));
            assert!(spans.windows(2).all(|w| w[0].to <= w[1].from + 1e-12) && spans.last().is_some_and(|s| s.to <= 1.0));
        }
    }

    #[test]
    fn the_smallest_of_those_that_keep_it_is_taken_also_where_accuracy_is_not_monotone() {
        // It holds from 1 bit on, but for a hole that the search falls into: between 1.4 and 1.7.
        let (promise, best, ..) = found(1.0, RATES, |rate| if rate >= 1.0 && !(1.4..1.7).contains(&rate) { 0.96 } else { 0.5 });
        let least = promise.tries.iter().filter(|t| t.keeps).map(|t| t.bytes).min();
        assert_eq!(promise.kept_by().map(|t| t.bytes), least);
        assert!(best.is_some_and(|b| (1.7..1.8).contains(&b)), "{promise:?}");
        // Chance: a jagged line, whose tries are all told, and of which no failing one is taken.
        for seed in 0..200u32 {
            let jagged = |rate: f64| 0.93 + 0.01 * (rate * 977.0 + f64::from(seed)).sin() + 0.002 * rate;
            let (promise, best, ..) = found(1.0, RATES, jagged);
            let least = promise.tries.iter().filter(|t| t.keeps).min_by_key(|t| t.bytes).map(|t| t.asked);
            assert_eq!(best, least, "seed {seed}");
            assert!(promise.tries.iter().all(|t| t.keeps == (t.has >= 0.94 - 1e-11)));
        }
    }

    #[test]
    fn what_the_highest_rate_does_not_keep_is_not_looked_for() {
        let (promise, best, ..) = found(0.5, RATES, |_| 0.9);
        assert_eq!((best, promise.best), (None, None));
        assert_eq!(promise.tries.iter().map(|t| t.asked).collect::<Vec<_>>(), [1.549, 3.52, 8.0]);
        assert!(promise.words().starts_with("Even at 8 bits per weight 5.00 points are lost of top-1 on 1000 images, more than 0.5"));
        // Nothing may be lost, and nothing is.
        assert!(found(0.0, RATES, |_| 0.95).1.is_some_and(|best| best < 0.31));
    }

    #[test]
    fn rates_out_of_reach_are_not_tried() {
        assert_eq!(reachable((0.1, 32.0)), RATES);
        assert_eq!(reachable((1.0, 3.0)), (1.0, 3.0));
        assert_eq!(reachable((9.0, 9.5)), (8.0, 8.0));
        assert_eq!(reachable((0.0, 0.1)), (0.1, 0.1));
        let (promise, best, ..) = found(1.0, (2.0, 2.0), |_| 0.95);
        assert_eq!((best, promise.tries.len()), (Some(2.0), 1), "one rate, one try");
        let (promise, ..) = found(1.0, (1.0, 3.0), |rate| rate);
        assert!(promise.tries.iter().all(|t| (1.0..=3.0).contains(&t.asked)));
    }

    #[test]
    fn an_error_ends_it() {
        let promise = Promise::new(1.0, Promised::Top1, 10, 1.0);
        let mut tries = 0;
        let step = async |asked: f64, _: Span| {
            tries += 1;
            if tries == 3 { Err(Error::Cancelled) } else { Ok((Try { asked, rate: asked, bytes: 1, has: 1.0, keeps: true }, ())) }
        };
        assert_eq!(wait(search(promise, RATES, Span::WHOLE, step, |_| ())).err(), Some(Error::Cancelled));
    }
}
