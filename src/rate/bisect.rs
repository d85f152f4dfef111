//! The multiplier of a budget, by bisection. A dragged budget asks for one in every frame: what cannot be best any more between the two ends is not weighed again, and the first
//! halves of the way to a budget, which weigh nearly all there is, are those of the way to the budget before.
//!
//! The cost `D + λ·bits` of a candidate, its blocks at their best, is concave in `λ`, and so is that of the best candidate. Between two multipliers a candidate costs no less
//! than the chord between its costs there, and the best one no more than the tangents of the best ones there: a candidate whose chord is above the tangents is never best.
//! And bits fall as `λ` rises: a layer of the same bits at both ends has them between.

use super::{Admit, FLATTEST, Freedom, STEEPEST, Solver, Weighed};

/// A candidate that may be best for a layer between two multipliers, and what it costs at them, and at the one that is tried.
#[derive(Debug, Clone)]
struct Contender {
    candidate: usize,
    coded: f64,
    low: f64,
    tried: f64,
    high: f64,
}

/// A layer between two multipliers: what is best at each of them, and at the one that is tried.
#[derive(Debug, Clone)]
struct Between {
    low: Weighed,
    tried: Weighed,
    high: Weighed,
    contenders: Vec<Contender>,
}

impl Between {
    fn is_settled(&self) -> bool {
        (self.low.candidate, self.low.bits) == (self.high.candidate, self.high.bits)
    }

    /// The part of the interval above the multiplier that was tried, or below it, is left out.
    fn half(&self, lower: bool) -> Between {
        let (low, high) = if lower { (self.low, self.tried) } else { (self.tried, self.high) };
        let half = |c: &Contender| {
            let (low, high) = if lower { (c.low, c.tried) } else { (c.tried, c.high) };
            Contender { low, high, ..*c }
        };
        Between { low, high, tried: self.tried, contenders: self.contenders.iter().map(half).collect() }
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

/// An interval of multipliers, and what may be best for each layer in it; nothing for one that is kept bit for bit.
#[derive(Debug)]
struct Interval {
    fits: f64,
    too_much: f64,
    /// The lower end at which layers were weighed: none at first, then `too_much`.
    low: f64,
    layers: Vec<Option<Between>>,
    /// Bytes of all layers in its middle, once that was tried.
    bytes: Option<u64>,
    /// Whether it is the lower half of the one before.
    lower: bool,
}

impl Interval {
    fn middle(&self) -> f64 {
        (self.fits * self.too_much).sqrt()
    }

    fn is_narrow(&self) -> bool {
        self.fits / self.too_much <= 1.0 + 1e-6
    }

    fn bytes_in_the_middle(&mut self, solver: &Solver) -> u64 {
        if let Some(bytes) = self.bytes {
            return bytes;
        }
        let middle = self.middle();
        let mut bytes = 0;
        for (layer, between) in self.layers.iter_mut().enumerate().filter_map(|(layer, b)| Some((layer, b.as_mut()?))) {
            if !between.is_settled() {
                let mut best = None;
                for c in &mut between.contenders {
                    let weighed = solver.weigh(layer, c.candidate, c.coded, middle);
                    c.tried = weighed.cost;
                    best = Some(weighed.or_better(best));
                }
                between.tried = best.unwrap_or(between.high);
            }
            bytes += between.tried.section_bytes();
        }
        *self.bytes.insert(bytes)
    }

    /// One of its halves, after its middle was tried.
    fn half(&self, lower: bool) -> Interval {
        let middle = self.middle();
        let (low, too_much, fits) = if lower { (self.low, self.too_much, middle) } else { (middle, middle, self.fits) };
        let half = |between: &Between| {
            if between.is_settled() {
                return Between { contenders: Vec::new(), ..*between };
            }
            let mut half = between.half(lower);
            half.prune(low, fits);
            half
        };
        let layers = self.layers.iter().map(|between| between.as_ref().map(half)).collect();
        Interval { fits, too_much, low, layers, bytes: None, lower }
    }
}

/// The way to the budget that was found last: from all multipliers, to one half after the other. The way to another budget of the same layers begins likewise. It
/// holds for curves that do not change, and begins anew for other locks, or another choice of transforms.
#[derive(Debug, Default)]
pub struct Way {
    of: Option<(Vec<Freedom>, Admit)>,
    intervals: Vec<Interval>,
}

impl Way {
    /// What is best for every layer at no multiplier and at [`STEEPEST`]; nothing for one that is kept bit for bit.
    pub(super) fn ends(&mut self, solver: &Solver) -> [Vec<Option<Weighed>>; 2] {
        let layers = &self.first(solver).layers;
        [|b: &Between| b.low, |b: &Between| b.high].map(|end| layers.iter().map(|b| b.as_ref().map(end)).collect())
    }

    fn first(&mut self, solver: &Solver) -> &Interval {
        if !matches!(&self.of, Some((freedom, admit)) if (freedom, admit) == (&solver.freedom, &solver.admit)) {
            self.of = Some((solver.freedom.clone(), solver.admit));
            self.intervals.clear();
        }
        if self.intervals.is_empty() {
            // Lower ends are weighed at no multiplier.
            self.intervals.push(Interval {
                fits: STEEPEST,
                too_much: FLATTEST,
                low: 0.0,
                layers: solver.between(),
                bytes: None,
                lower: false,
            });
        }
        &self.intervals[0]
    }

    /// The smallest multiplier, to within a millionth, at which the layers take no more than `limit` bytes, and what is best for each of them there. At [`STEEPEST`] they
    /// must take no more.
    pub(super) fn bisect(&mut self, solver: &Solver, limit: u64) -> (f64, Vec<Option<Weighed>>) {
        self.first(solver);
        let mut at = 0;
        while !self.intervals[at].is_narrow() {
            let lower = self.intervals[at].bytes_in_the_middle(solver) <= limit;
            if self.intervals.get(at + 1).is_none_or(|next| next.lower != lower) {
                let half = self.intervals[at].half(lower);
                self.intervals.truncate(at + 1);
                self.intervals.push(half);
            }
            at += 1;
        }
        let Interval { fits, layers, .. } = &self.intervals[at];
        (*fits, layers.iter().map(|between| between.as_ref().map(|b| b.high)).collect())
    }
}

impl Solver<'_> {
    /// Every layer between no multiplier and [`STEEPEST`].
    fn between(&self) -> Vec<Option<Between>> {
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
}
