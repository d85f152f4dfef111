//! Bit allocation by one Lagrange multiplier (Young et al. 2021, Algorithm 1 and eq. 8; method.md, section 6).
//!
//! For a multiplier `λ` every block takes the depths of least `D + λ·bits`, every layer the candidate (transform, basis and side
//! information included) of least cost: equal slopes everywhere. A budget is met by bisection on `λ` (`bisect.rs`), which costs
//! microseconds a step on convex hulls; what is left of it then goes to the steepest upgrades that still fit.
//!
//! With calibration the distortion is the output's squared error over its power, summed over blocks and layers ([`cost`]). Without, it
//! is a stand-in: the sum over layers of the relative weight error `‖dΘ‖²/‖Θ‖²`, in which every layer weighs the same, whatever its size
//! and its effect on the output.

mod bisect;
pub mod cost;
pub mod curve;
pub mod feedback;
pub mod hull;
pub mod joint;
pub mod limit;
mod second;
pub mod steps;

use std::collections::BinaryHeap;

use crate::{
    container::{self, layer},
    error::{Error, Result},
    quantize::{MAX_DEPTH, UNCLIPPED},
    report::{AllocationReport, AllocationSettings, Budget, LayerRow, Measure, RdCurves, RdLine, RdPoint, TransformKind},
};
pub use bisect::Way;
use curve::{Candidate, LayerCurves};
use hull::{Block, Vertex};
use limit::Limit;

/// A layer as the allocator sees it.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Name of the weight tensor.
    pub name: &'a str,
    /// Shape as stored.
    pub shape: &'a [usize],
    /// Bytes of the tensor, which an excluded layer takes.
    pub exact_bytes: u64,
    /// The curves.
    pub curves: &'a LayerCurves,
}

/// All that an allocation depends on besides its settings.
#[derive(Debug)]
pub struct Problem<'a> {
    /// The layers.
    pub layers: Vec<Layer<'a>>,
    /// Bytes of the file that are not layer sections.
    pub other_bytes: u64,
    /// Bytes of the original file.
    pub original_bytes: u64,
    /// What distortions are.
    pub measure: Measure,
}

/// What a layer was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Kept bit for bit.
    Exact,
    /// Quantized.
    Quantized {
        /// Index of the candidate.
        candidate: usize,
        /// Vertex of each of its blocks.
        blocks: Vec<Vertex>,
    },
}

/// An allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Per layer.
    pub plans: Vec<Plan>,
    /// The multiplier: relative error per bit.
    pub lambda: f64,
    /// Bytes of the layer sections of the quantized layers.
    pub layer_bytes: u64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// When the budget cannot be had, why; the allocation is then the nearest.
    pub not_reachable: Option<Error>,
    /// Least and greatest rate that can be had.
    pub rate_range: (f64, f64),
}

impl Plan {
    /// Bits by the curves, which a coder may need more or less than.
    pub fn predicted_bits(&self, curves: &LayerCurves) -> u64 {
        match self {
            Plan::Exact => 0,
            Plan::Quantized { candidate, blocks } => curves.candidates[*candidate].side_bits + blocks.iter().map(|b| b.bits).sum::<u64>(),
        }
    }

    /// Whether it encodes to the same as another plan for the same layer, whatever curves say of either.
    pub fn chooses_as(&self, other: &Plan) -> bool {
        match (self, other) {
            (Plan::Exact, Plan::Exact) => true,
            (Plan::Quantized { candidate: a, blocks: of_a }, Plan::Quantized { candidate: b, blocks: of_b }) => {
                a == b && of_a.len() == of_b.len() && of_a.iter().zip(of_b).all(|(a, b)| a.taken == b.taken)
            }
            _ => false,
        }
    }

    fn bits(&self, curves: &LayerCurves) -> u64 {
        match self {
            Plan::Exact => 0,
            Plan::Quantized { candidate, .. } => coded_bits(self.predicted_bits(curves), curves.coded(*candidate)),
        }
    }

    fn section_bytes(&self, layer: &Layer) -> u64 {
        container::section_bytes(match self {
            Plan::Exact => layer.exact_bytes,
            Plan::Quantized { .. } => layer::body_bytes(self.bits(layer.curves)),
        })
    }

    /// Relative weight error.
    pub fn distortion(&self) -> f64 {
        match self {
            Plan::Exact => 0.0,
            Plan::Quantized { blocks, .. } => blocks.iter().map(|b| b.distortion).sum(),
        }
    }
}

/// What a coder makes of predicted bits.
fn coded_bits(predicted: u64, coded: f64) -> u64 {
    // As they are where they are exact.
    if coded == 1.0 { predicted } else { (predicted as f64 * coded).round() as u64 }
}

/// Which candidates a line or a choice of transform admits.
fn admitted(candidates: &[Candidate], choice: Admit) -> impl Iterator<Item = (usize, &Candidate)> {
    // None is always a candidate: a layer may have no such transform (a depthwise one), and on narrow layers the basis can cost more than
    // it gains (method.md, section 3).
    let wanted = move |kind: TransformKind| match choice.kinds {
        Kinds::Any => true,
        Kinds::One(one) => kind == one,
        Kinds::Klt => matches!(kind, TransformKind::KltRow | TransformKind::KltCol),
        Kinds::Elt => matches!(kind, TransformKind::EltRow | TransformKind::EltCol),
    };
    candidates.iter().enumerate().filter(move |(_, c)| match c.feedback {
        Some(_) => choice.feedback,
        None => c.kind == TransformKind::None || wanted(c.kind),
    })
}

/// Transforms besides none, and whether errors may be fed back.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Admit {
    kinds: Kinds,
    feedback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kinds {
    Any,
    One(TransformKind),
    Klt,
    Elt,
}

impl From<&AllocationSettings> for Admit {
    fn from(settings: &AllocationSettings) -> Admit {
        Admit { kinds: settings.transform.kind().map_or(Kinds::Any, Kinds::One), feedback: settings.feedback }
    }
}

/// Per layer: excluded, locked to a depth, or free.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Freedom {
    Free,
    Locked(u8),
    Excluded,
}

/// A candidate for a layer at a multiplier, its blocks at their best, as sums: a dragged budget asks for hundreds of them of every layer, and for the blocks of one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Weighed {
    candidate: usize,
    bits: u64,
    distortion: f64,
    cost: f64,
    /// The multiplier of its blocks' predicted bits.
    lambda: f64,
}

impl Weighed {
    /// The one of less cost, or fewer bits at the same.
    fn or_better(self, other: Option<Weighed>) -> Weighed {
        other.filter(|other| other.cost.total_cmp(&self.cost).then(other.bits.cmp(&self.bits)).is_le()).unwrap_or(self)
    }

    fn section_bytes(&self) -> u64 {
        container::section_bytes(layer::body_bytes(self.bits))
    }
}

/// The vertex of a block at a multiplier.
fn vertex(block: &Block, freedom: Freedom, lambda: f64) -> Vertex {
    match freedom {
        Freedom::Locked(depth) => block.at_locked(lambda, depth),
        Freedom::Free | Freedom::Excluded => block.at(lambda),
    }
}

struct Solver<'a> {
    problem: &'a Problem<'a>,
    freedom: Vec<Freedom>,
    admit: Admit,
}

/// Above any slope: a relative weight error is at most about 1 and a bit at least 1; an output error by the model may be larger.
const STEEPEST: f64 = 1e6;
/// Below any slope that matters: one bit of a layer of 2^28 weights at −120 dB, that hardly reaches the output.
const FLATTEST: f64 = 1e-26;

impl Solver<'_> {
    /// The candidates of a layer; none where it is kept bit for bit.
    fn options(&self, layer: usize) -> impl Iterator<Item = usize> {
        let quantized = self.freedom[layer] != Freedom::Excluded;
        let candidates = &self.problem.layers[layer].curves.candidates;
        admitted(candidates, self.admit).map(|(candidate, _)| candidate).filter(move |_| quantized)
    }

    /// A candidate of a layer. `coded` is [`LayerCurves::coded`].
    fn weigh(&self, layer: usize, candidate: usize, coded: f64, lambda: f64) -> Weighed {
        let (c, freedom, predicted) = (&self.problem.layers[layer].curves.candidates[candidate], self.freedom[layer], lambda * coded);
        let vertices = c.blocks.iter().map(|b| vertex(b, freedom, predicted));
        let (bits, distortion) = vertices.fold((c.side_bits, 0.0), |(bits, distortion), v| (bits + v.bits, distortion + v.distortion));
        let bits = coded_bits(bits, coded);
        Weighed { candidate, bits, distortion, cost: distortion + lambda * bits as f64, lambda: predicted }
    }

    /// What is best for every layer at a multiplier.
    fn best(&self, lambda: f64) -> Vec<Option<Weighed>> {
        let best = |layer: usize| {
            let coded = |candidate| self.problem.layers[layer].curves.coded(candidate);
            self.options(layer).map(|c| self.weigh(layer, c, coded(c), lambda)).fold(None, |best, w| Some(w.or_better(best)))
        };
        (0..self.problem.layers.len()).map(best).collect()
    }

    fn plans(&self, best: &[Option<Weighed>]) -> Vec<Plan> {
        let plan = |((layer, freedom), best): ((&Layer, &Freedom), &Option<Weighed>)| match best {
            None => Plan::Exact,
            Some(Weighed { candidate, lambda, .. }) => {
                let blocks = &layer.curves.candidates[*candidate].blocks;
                Plan::Quantized { candidate: *candidate, blocks: blocks.iter().map(|b| vertex(b, *freedom, *lambda)).collect() }
            }
        };
        self.problem.layers.iter().zip(&self.freedom).zip(best).map(plan).collect()
    }

    fn layer_bytes(&self, plans: &[Plan]) -> u64 {
        let quantized = plans.iter().zip(&self.problem.layers).filter(|(p, _)| **p != Plan::Exact);
        quantized.map(|(p, l)| p.section_bytes(l)).sum()
    }

    fn excluded_bytes(&self) -> u64 {
        let excluded = self.problem.layers.iter().zip(&self.freedom).filter(|(_, f)| **f == Freedom::Excluded);
        excluded.map(|(l, _)| container::section_bytes(l.exact_bytes)).sum()
    }

    fn weights(&self) -> u64 {
        self.problem.layers.iter().zip(&self.freedom).filter(|(_, f)| **f != Freedom::Excluded).map(|(l, _)| l.curves.weights).sum()
    }

    fn rate(&self, bytes: u64) -> f64 {
        8.0 * bytes as f64 / self.weights().max(1) as f64
    }

    /// Spends what bisection left: the steepest upgrades along the hulls that still fit. Only free layers; slopes down to half of
    /// `lambda`, so that slopes stay nearly equal.
    fn fill(&self, plans: &mut [Plan], limit: u64, lambda: f64) {
        let mut left = limit.saturating_sub(self.layer_bytes(plans));
        let mut heap = BinaryHeap::new();
        let upgrade = |plans: &[Plan], layer: usize, block: usize| -> Option<Upgrade> {
            let Plan::Quantized { candidate, blocks } = &plans[layer] else { return None };
            let curves = self.problem.layers[layer].curves;
            let next = curves.candidates[*candidate].blocks[block].next(blocks[block].bits)?;
            let slope = next.slope / curves.coded(*candidate);
            (slope > lambda / 2.0).then_some(Upgrade { slope, layer, block, next })
        };
        for (layer, plan) in plans.iter().enumerate().filter(|(l, _)| self.freedom[*l] == Freedom::Free) {
            if let Plan::Quantized { blocks, .. } = plan {
                heap.extend((0..blocks.len()).filter_map(|block| upgrade(plans, layer, block)));
            }
        }
        while let Some(Upgrade { layer, block, next, .. }) = heap.pop() {
            let before = plans[layer].section_bytes(&self.problem.layers[layer]);
            let Plan::Quantized { blocks, .. } = &mut plans[layer] else { continue };
            let old = std::mem::replace(&mut blocks[block], next);
            let more = plans[layer].section_bytes(&self.problem.layers[layer]).saturating_sub(before);
            if more <= left {
                left -= more;
                heap.extend(upgrade(plans, layer, block));
            } else if let Plan::Quantized { blocks, .. } = &mut plans[layer] {
                blocks[block] = old;
            }
        }
    }
}

struct Upgrade {
    slope: f64,
    layer: usize,
    block: usize,
    next: Vertex,
}

impl PartialEq for Upgrade {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Upgrade {}
impl PartialOrd for Upgrade {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Upgrade {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Ties by position, so that the result does not depend on the heap.
        self.slope.total_cmp(&other.slope).then((other.layer, other.block).cmp(&(self.layer, self.block)))
    }
}

impl Problem<'_> {
    fn freedom(&self, settings: &AllocationSettings) -> Result<Vec<Freedom>> {
        let mut freedom = vec![Freedom::Free; self.layers.len()];
        let none_such = |index: usize| Error::Setting(format!("There is no layer {index}: the model has {}.", self.layers.len()));
        for &(index, depth) in &settings.locks {
            if depth > MAX_DEPTH {
                return Err(Error::Setting(format!("A layer cannot be locked to {depth} bits: depths go from 0 to {MAX_DEPTH}.")));
            }
            *freedom.get_mut(index).ok_or_else(|| none_such(index))? = Freedom::Locked(depth);
        }
        for &index in &settings.excludes {
            *freedom.get_mut(index).ok_or_else(|| none_such(index))? = Freedom::Excluded;
        }
        Ok(freedom)
    }

    /// Most bytes that the sections of quantized layers may take; nothing where the rest of the file, `fixed`, takes more than there is.
    fn limit(&self, settings: &AllocationSettings, fixed: u64, weights: u64) -> Result<Option<u64>> {
        let positive = |v: f64, what: &str| -> Result<f64> {
            let ok = v.is_finite() && v > 0.0;
            ok.then_some(v).ok_or_else(|| Error::Setting(format!("A budget of {v} {what} is not a positive number.")))
        };
        let file_limit = |bytes: f64| if bytes >= fixed as f64 { Some((bytes - fixed as f64) as u64) } else { None };
        Ok(match settings.budget {
            Budget::Bits(bits) => Some((positive(bits, "bits per weight")? * weights as f64 / 8.0) as u64),
            Budget::Size(bytes) => file_limit(bytes as f64),
            Budget::Ratio(ratio) => file_limit(self.original_bytes as f64 / positive(ratio, "times")?),
        })
    }

    /// Most bytes that the sections of quantized layers may take for a budget; nothing where there is no such number.
    ///
    /// # Errors
    /// As [`Problem::allocate`].
    pub fn layer_limit(&self, settings: &AllocationSettings) -> Result<Option<u64>> {
        let solver = Solver { problem: self, freedom: self.freedom(settings)?, admit: settings.into() };
        self.limit(settings, self.other_bytes + solver.excluded_bytes(), solver.weights())
    }

    /// Allocates for a budget. A budget out of reach gives the nearest allocation, and says so in it.
    ///
    /// # Errors
    /// Settings that mean nothing: an unknown layer, a depth above 10, a budget that is not a positive number.
    pub fn allocate(&self, settings: &AllocationSettings) -> Result<Allocation> {
        self.allocate_within(settings, 1.0, &mut Way::default())
    }

    /// The same for a part of the bytes that the budget leaves for quantized layers: when a coder is known to need more than was predicted. What was weighed on the way to
    /// another budget, of the same curves, is not weighed again.
    ///
    /// # Errors
    /// As [`Problem::allocate`].
    pub fn allocate_within(&self, settings: &AllocationSettings, part: f64, way: &mut Way) -> Result<Allocation> {
        let solver = Solver { problem: self, freedom: self.freedom(settings)?, admit: settings.into() };
        let excluded = solver.excluded_bytes();
        let fixed = self.other_bytes + excluded;
        let weights = solver.weights();
        let limit = self.limit(settings, fixed, weights)?.map(|limit| if part == 1.0 { limit } else { (limit as f64 * part) as u64 });
        let [most, least] = way.ends(&solver);
        let [most_bytes, least_bytes] = [&most, &least].map(|best| best.iter().flatten().map(Weighed::section_bytes).sum::<u64>());
        let (lambda, plans, reached) = match limit {
            Some(limit) if limit >= most_bytes => {
                // More than the most is no budget at all; the last byte or two of rounding are.
                (0.0, solver.plans(&most), limit <= most_bytes + self.layers.len() as u64 || weights == 0)
            }
            Some(limit) if limit >= least_bytes => {
                let (lambda, best) = way.bisect(&solver, limit);
                let mut plans = solver.plans(&best);
                solver.fill(&mut plans, limit, lambda);
                (lambda, plans, true)
            }
            _ => (STEEPEST, solver.plans(&least), false),
        };
        let layer_bytes = solver.layer_bytes(&plans);
        let file_bytes = fixed + layer_bytes;
        let ratio = |bytes: u64| self.original_bytes as f64 / bytes.max(1) as f64;
        let not_reachable = (!reached).then(|| match settings.budget {
            Budget::Bits(bits) => Error::NotReachable {
                asked: format!("A rate of {bits} bits per weight"),
                nearest: format!("{:.3} bits per weight", solver.rate(layer_bytes)),
            },
            Budget::Size(bytes) => {
                Error::NotReachable { asked: format!("A file of {bytes} bytes"), nearest: format!("{file_bytes} bytes") }
            }
            Budget::Ratio(r) => Error::NotReachable { asked: format!("A ratio of {r}"), nearest: format!("{:.3}", ratio(file_bytes)) },
        });
        let rate_range = (solver.rate(least_bytes), solver.rate(most_bytes));
        Ok(Allocation { plans, lambda, layer_bytes, file_bytes, not_reachable, rate_range })
    }

    /// The same allocation with so many bytes more spent on the steepest upgrades of free layers that fit, as [`Problem::allocate`] spends what bisection leaves.
    ///
    /// # Errors
    /// As [`Problem::allocate`].
    pub fn refilled(&self, settings: &AllocationSettings, allocation: &Allocation, more: u64) -> Result<Allocation> {
        let solver = Solver { problem: self, freedom: self.freedom(settings)?, admit: settings.into() };
        let (mut plans, before) = (allocation.plans.clone(), solver.layer_bytes(&allocation.plans));
        solver.fill(&mut plans, before + more, allocation.lambda);
        let added = solver.layer_bytes(&plans) - before;
        let (layer_bytes, file_bytes) = (allocation.layer_bytes + added, allocation.file_bytes + added);
        Ok(Allocation { plans, layer_bytes, file_bytes, ..allocation.clone() })
    }

    /// The lines of the rate–distortion plot: `none`, `KLT` (the better of row and column, everywhere), with calibration `ELT` likewise,
    /// the limit of all coders ([`limit`]) where errors may be fed back, and `auto`, which alone has error feedback, if there is.
    pub fn curves(&self, settings: &AllocationSettings) -> Result<RdCurves> {
        const POINTS: i32 = 72;
        let freedom = self.freedom(settings)?;
        let line = |label: &str, kinds: Kinds| {
            let admit = Admit { kinds, feedback: matches!(kinds, Kinds::Any) && settings.feedback };
            let solver = Solver { problem: self, freedom: freedom.clone(), admit };
            let fixed = self.other_bytes + solver.excluded_bytes();
            // From far below the flattest slope to far above the steepest, evenly in the logarithm; then ends that are exact.
            let lambdas = std::iter::once(STEEPEST)
                .chain((0..POINTS).map(|i| 10f64.powf(-16.0 * f64::from(i) / f64::from(POINTS - 1))))
                .chain(std::iter::once(0.0));
            let mut points: Vec<RdPoint> = Vec::new();
            for lambda in lambdas {
                let plans = solver.plans(&solver.best(lambda));
                let bytes = solver.layer_bytes(&plans);
                let point = RdPoint { rate: solver.rate(bytes), bytes: fixed + bytes, db: decibels(self.distortion(&plans)) };
                if points.last().is_none_or(|last| point.bytes > last.bytes) {
                    points.push(point);
                }
            }
            RdLine { label: label.into(), points }
        };
        let mut lines = vec![line("none", Kinds::One(TransformKind::None)), line("KLT", Kinds::Klt)];
        if self.measure == Measure::Output {
            lines.push(line("ELT", Kinds::Elt));
        }
        lines.extend(self.limit_line(&Solver { problem: self, freedom: freedom.clone(), admit: settings.into() }));
        lines.push(line("auto", Kinds::Any));
        Ok(RdCurves { measure: self.measure, lines })
    }

    /// The line that no coder can beat, over the layers that are quantized; nothing where no errors may be fed back.
    fn limit_line(&self, solver: &Solver) -> Option<RdLine> {
        const POINTS: i32 = 96;
        let limits = self.limits(|layer| solver.freedom[layer] != Freedom::Excluded);
        if limits.is_empty() {
            return None;
        }
        let (fixed, weights, levels) = (self.other_bytes + solver.excluded_bytes(), solver.weights(), limit::levels(&limits));
        let level = |i: i32| levels.end - (levels.end - levels.start) * f64::from(i) / f64::from(POINTS - 1);
        let points = (0..POINTS).map(|i| {
            let (bits, distortion) = limit::at(&limits, level(i));
            RdPoint { rate: bits / weights.max(1) as f64, bytes: fixed + (bits / 8.0).ceil() as u64, db: decibels(distortion) }
        });
        let points = points.filter(|p| p.rate <= f64::from(MAX_DEPTH)).collect();
        Some(RdLine { label: "limit".into(), points })
    }

    /// Limits of some layers that have one.
    fn limits(&self, of: impl Fn(usize) -> bool) -> Vec<&Limit> {
        self.layers.iter().enumerate().filter(|(layer, _)| of(*layer)).filter_map(|(_, l)| l.curves.limit.as_ref()).collect()
    }

    /// How many bits per weight more than the limit of some layers, at the same error.
    fn gap(&self, of: impl Fn(usize) -> bool, error: f64, rate: f64, weights: u64) -> Option<f64> {
        let limits = self.limits(of);
        (!limits.is_empty() && error > 0.0).then(|| rate - limit::bits(&limits, error) / weights.max(1) as f64)
    }

    fn distortion(&self, plans: &[Plan]) -> f64 {
        let quantized: Vec<f64> = plans.iter().filter(|p| **p != Plan::Exact).map(Plan::distortion).collect();
        self.measure.total(quantized.iter().sum(), quantized.len())
    }

    /// The readouts of an allocation. `encoded` are, once there are encoded layers, the errors of the decoded weights and the bytes of the
    /// bodies, none of a layer that is kept bit for bit.
    pub fn report(
        &self,
        allocation: &Allocation,
        settings: &AllocationSettings,
        encoded: Option<&[(f64, Option<u64>)]>,
    ) -> AllocationReport {
        let mut rows = Vec::new();
        for (index, (layer, plan)) in self.layers.iter().zip(&allocation.plans).enumerate() {
            let body = encoded.and_then(|e| e[index].1);
            let bytes = body.map_or_else(|| plan.section_bytes(layer), container::section_bytes);
            let mut row = LayerRow {
                index,
                name: layer.name.to_string(),
                shape: layer.shape.to_vec(),
                weights: layer.curves.weights,
                transform: None,
                feedback: false,
                bits: 8.0 * bytes as f64 / layer.curves.weights.max(1) as f64,
                bytes,
                basis_bytes: 0,
                error: encoded.map_or_else(|| plan.distortion(), |e| e[index].0),
                gap: None,
                locked: settings.locks.iter().rev().find(|l| l.0 == index).map(|l| l.1),
                excluded: *plan == Plan::Exact,
                depths: Vec::new(),
            };
            if let Plan::Quantized { candidate, blocks } = plan {
                let candidate = &layer.curves.candidates[*candidate];
                (row.transform, row.feedback) = (Some(candidate.kind), candidate.feedback.is_some());
                let taken = |v: &Vertex, b: &Block| b.coefficients[usize::from(v.taken.coefficient)].depth;
                row.depths = blocks.iter().zip(&candidate.blocks).map(|(v, b)| taken(v, b)).collect();
                if row.depths.contains(&UNCLIPPED) {
                    row.depths.clear();
                }
                let basis = blocks.iter().zip(&candidate.blocks).filter_map(|(v, b)| b.basis.get(usize::from(v.taken.basis)));
                row.gap = self.gap(|layer| layer == index, row.error, row.bits, row.weights);
                row.basis_bytes = (basis.map(|b| b.bits).sum::<u64>() + candidate.second.map_or(0, |second| second.bits())) / 8;
            }
            rows.push(row);
        }
        let quantized: Vec<&LayerRow> = rows.iter().filter(|r| !r.excluded).collect();
        let weights: u64 = quantized.iter().map(|r| r.weights).sum();
        let error: f64 = quantized.iter().map(|r| r.error).sum();
        let layer_bytes: u64 = quantized.iter().map(|r| r.bytes).sum();
        // Of this problem, not of the one that was allocated: small tensors may have other values since, and another size.
        let other_bytes = self.other_bytes;
        let bytes = other_bytes + rows.iter().filter(|r| r.excluded).map(|r| r.bytes).sum::<u64>() + layer_bytes;
        let rate = 8.0 * layer_bytes as f64 / weights.max(1) as f64;
        AllocationReport {
            rate,
            bytes,
            ratio: self.original_bytes as f64 / bytes.max(1) as f64,
            measure: self.measure,
            db: decibels(self.measure.total(error, quantized.len())),
            gap: self.gap(|layer| !rows[layer].excluded, error, rate, weights),
            lambda: allocation.lambda,
            measured: encoded.is_some(),
            other_bytes,
            not_reachable: allocation.not_reachable.as_ref().map(ToString::to_string),
            rate_range: allocation.rate_range,
            layers: rows,
        }
    }
}

impl Measure {
    /// The distortion of a model from the sum over its quantized layers.
    fn total(self, sum: f64, layers: usize) -> f64 {
        match self {
            Measure::Weights => sum / layers.max(1) as f64,
            Measure::Output => sum,
        }
    }
}

/// A ratio in decibels, not below −200.
fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.max(1e-20).log10()
}

#[cfg(test)]
mod tests;
