//! The multiplier of a budget, by bisection. A dragged budget asks for one in every frame: what cannot be best any more between the two ends is not weighed again.
//!
//! The cost `D + λ·bits` of a candidate, its blocks at their best, is concave in `λ`, and so is that of the best candidate. Between two multipliers a candidate costs no less
//! than the chord between its costs there, and the best one no more than the tangents of the best ones there: a candidate whose chord is above the tangents is never best.
//! And bits fall as `λ` rises: a layer of the same bits at both ends has them between.

use super::{FLATTEST, STEEPEST, Solver, Weighed};

/// A candidate that may be best for a layer between two multipliers, and what it costs at them, and at the one that is tried.
struct Contender {
    candidate: usize,
    coded: f64,
    low: f64,
    tried: f64,
    high: f64,
}

/// A layer between two multipliers: what is best at each of them, and at the one that is tried.
pub(super) struct Between {
    pub(super) low: Weighed,
    tried: Weighed,
    pub(super) high: Weighed,
    contenders: Vec<Contender>,
}

impl Between {
    fn is_settled(&self) -> bool {
        (self.low.candidate, self.low.bits) == (self.high.candidate, self.high.bits)
    }

    /// The part of the interval above the multiplier that was tried, or below it, is left out.
    fn halve(&mut self, lower: bool) {
        *(if lower { &mut self.high } else { &mut self.low }) = self.tried;
        for c in &mut self.contenders {
            *(if lower { &mut c.high } else { &mut c.low }) = c.tried;
        }
    }

    /// Leaves out what is never best between the multipliers `low` and `high`.
    fn prune(&mut self, low: f64, high: f64) {
        let bits = self.low.bits.saturating_sub(self.high.bits) as f64;
        // Where the tangents meet; anywhere if they are one.
        let meet = if bits > 0.0 { ((self.high.distortion - self.low.distortion) / bits).clamp(low, high) } else { high };
        let part = (meet - low) / (high - low);
        // Sums are rounded; bits that a coder needs, to whole ones.
        let most = (self.low.distortion + meet * self.low.bits as f64) * (1.0 + 1e-9) + high;
        self.contenders.retain(|c| c.low + (c.high - c.low) * part <= most);
    }
}

impl Solver<'_> {
    /// Every layer between no multiplier and [`STEEPEST`]; nothing for one that is kept bit for bit.
    pub(super) fn between(&self) -> Vec<Option<Between>> {
        let between = |layer: usize| {
            let (mut low, mut high, mut contenders) = (None, None, Vec::new());
            for candidate in self.options(layer) {
                let coded = self.problem.layers[layer].curves.coded(candidate);
                let [flat, steep] = [0.0, STEEPEST].map(|lambda| self.weigh(layer, candidate, coded, lambda));
                contenders.push(Contender { candidate, coded, low: flat.cost, tried: flat.cost, high: steep.cost });
                (low, high) = (Some(flat.or_better(low)), Some(steep.or_better(high)));
            }
            Some(Between { low: low?, tried: low?, high: high?, contenders })
        };
        (0..self.problem.layers.len()).map(between).collect()
    }

    /// The smallest multiplier, to within a millionth, at which the layers take no more than `limit` bytes, and what is best for each of them there. At [`STEEPEST`] they
    /// must take no more.
    pub(super) fn bisect(&self, limit: u64, mut layers: Vec<Option<Between>>) -> (f64, Vec<Option<Weighed>>) {
        let (mut fits, mut too_much) = (STEEPEST, FLATTEST);
        // Lower ends were weighed at no multiplier at first.
        let mut low = 0.0;
        while fits / too_much > 1.0 + 1e-6 {
            let middle = (fits * too_much).sqrt();
            let mut bytes = 0;
            for (layer, between) in layers.iter_mut().enumerate().filter_map(|(layer, b)| Some((layer, b.as_mut()?))) {
                if !between.is_settled() {
                    let mut best = None;
                    for c in &mut between.contenders {
                        let weighed = self.weigh(layer, c.candidate, c.coded, middle);
                        c.tried = weighed.cost;
                        best = Some(weighed.or_better(best));
                    }
                    between.tried = best.unwrap_or(between.high);
                }
                bytes += between.tried.section_bytes();
            }
            let lower = bytes <= limit;
            if lower {
                fits = middle;
            } else {
                (too_much, low) = (middle, middle);
            }
            for between in layers.iter_mut().flatten().filter(|b| !b.is_settled()) {
                between.halve(lower);
                between.prune(low, fits);
            }
        }
        (fits, layers.iter().map(|between| between.as_ref().map(|b| b.high)).collect())
    }
}
