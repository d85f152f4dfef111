//! The rate–distortion curves of one layer: every transform, every block of rows, every depth, with measured errors
//! (Young et al. 2021, Section 5.1; method.md, sections 2 to 6).

use std::sync::Arc;

use super::{
    cost::{Cost, Projections, Quantized, RowCosts},
    feedback::{self, Feedback},
    hull::Block,
    limit::Limit,
    second,
};
use crate::{
    container::layer,
    io::LayerShape,
    quantize::{
        self, MAX_BASIS_DEPTH, MAX_DEPTH, Scale, Step,
        search::{BASIS_RUNGS, COEFFICIENT_RUNGS, Choice, best_steps, eighth_power_sum, ladder, square_sum},
    },
    report::{Coding, CurveSettings, Method, TransformKind},
    transform::{self, Basis, Coefficients, Geometry, elt, intra::intra, klt, linalg, two_sided},
};

/// Width of rows from which steps are always scaled per row: a scale then costs less than 0.012 bits per weight.
const ALWAYS_SCALED: usize = 512;

/// Most samples that transforms are compared by where errors may be fed back, which is better nearly always: with all 400 the curves of
/// ResNet-20 take a quarter longer (4.3 s for 3.4).
const COMPARED: usize = 128;

/// Steps that are tried where errors that follow the weights are measured, in eighths of an octave from the best of the diagonal form. Wider
/// ones clip less.
const STEPS_MEASURED: [i16; 9] = [-4, -2, 0, 2, 4, 6, 8, 10, 13];

/// One way to code a layer: a transform, with one step per block of rows or a step scaled for each row.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The transform.
    pub kind: TransformKind,
    /// Its sizes.
    pub geometry: Geometry,
    /// Its basis; none for [`TransformKind::None`].
    pub basis: Option<Arc<Basis>>,
    /// How its second basis is quantized, if it has one.
    pub second: Option<layer::SecondCode>,
    /// Scale of each row, when steps are scaled per row.
    pub scales: Option<Vec<Scale>>,
    /// Scales of columns and the factor of the second moment of gradients, when errors are fed back ([`feedback`]).
    pub feedback: Option<Arc<Feedback>>,
    /// Block of each row.
    pub block_of_row: Vec<u16>,
    /// The blocks, strongest first.
    pub blocks: Vec<Block>,
    /// Bits of its section of the file that do not depend on what is taken for the blocks, gains to come among them; of entropy-coded ones about.
    pub side_bits: u64,
    /// How many times the predicted bits a coder needed, once it has coded the layer this way ([`LayerCurves::learn`]).
    pub coded: Option<f64>,
}

/// All candidates of a layer.
#[derive(Debug, Clone)]
pub struct LayerCurves {
    /// Its shape.
    pub shape: LayerShape,
    /// Number of weights.
    pub weights: u64,
    /// The candidates; never empty.
    pub candidates: Vec<Candidate>,
    /// What no coder can beat, where errors may be fed back.
    pub limit: Option<Limit>,
}

impl LayerCurves {
    /// How many times the predicted bits of a candidate a coder needs: as it was when the candidate was coded, else as other candidates were on
    /// average, else once.
    pub fn coded(&self, candidate: usize) -> f64 {
        self.candidates[candidate].coded.unwrap_or_else(|| {
            let (sum, count) =
                self.candidates.iter().filter_map(|c| c.coded).fold((0.0, 0.0), |(sum, count), coded| (sum + coded, count + 1.0));
            if count > 0.0 { sum / count } else { 1.0 }
        })
    }

    /// The same with all distortions times a factor.
    #[must_use]
    pub fn weighted(&self, factor: f64) -> LayerCurves {
        let mut weighted = self.clone();
        weighted.candidates.iter_mut().flat_map(|c| &mut c.blocks).for_each(|block| block.weigh(factor));
        weighted
    }

    /// Keeps what a coder needed for a candidate of which so many bits were predicted.
    pub fn learn(&mut self, candidate: usize, predicted: u64, bits: u64) {
        // A layer of a few bits, mostly side information, would say too much of others.
        self.candidates[candidate].coded = Some((bits as f64 / predicted.max(1) as f64).clamp(0.2, 5.0));
    }
}

/// Computes the curves of a layer. `weights` are finite, in canonical order. `cost` is in terms of the weights as they are given; they are
/// normalised here.
pub fn layer_curves(shape: &LayerShape, mut weights: Vec<f32>, settings: CurveSettings, cost: &Cost) -> LayerCurves {
    let exponent = quantize::normalize(&mut weights);
    let cost = cost.clone().normalized(exponent);
    let count = weights.len() as u64;
    let klts = klt::klts(shape, &weights);
    let both = two_sided::two_sided(shape, &weights, &klts);
    let klt::Klts { row, col } = klts;
    let elt = |kind| {
        let (geometry, moments) = (Geometry::new(shape, kind)?, cost.moments(kind)?);
        elt::elt(&transform::to_matrix(shape, kind, &weights), geometry, moments)
    };
    let (elt_row, elt_col) = (elt(TransformKind::EltRow), elt(TransformKind::EltCol));
    let within = [TransformKind::IntraDct1, TransformKind::IntraDct2, TransformKind::IntraKlt, TransformKind::IntraElt]
        .map(|kind| (kind, intra(shape, kind, &weights, cost.moments(kind)).map(|(s, t)| (Some(s), t))));
    let (mut candidates, mut limit) = (Vec::new(), None);
    if settings.method == Method::Feedback {
        let fed_back = Feedback::new(shape, &weights, &cost, settings.second_moment).and_then(|feedback| {
            limit = Limit::new(shape, &feedback, &weights);
            let scales = cost_scales(&feedback.rows);
            feedback::candidate(shape, feedback, scales, &weights)
        });
        candidates.extend(fed_back);
    }
    let none = Geometry::new(shape, TransformKind::None).map(|geometry| Coefficients { geometry, rows: weights });
    let parts = [
        (TransformKind::None, none.map(|t| (None, t))),
        (TransformKind::KltRow, row.map(|(s, t)| (Some(s), t))),
        (TransformKind::KltCol, col.map(|(s, t)| (Some(s), t))),
        (TransformKind::EltRow, elt_row.map(|(s, t)| (Some(s), t))),
        (TransformKind::EltCol, elt_col.map(|(s, t)| (Some(s), t))),
        (TransformKind::TwoSided, both.map(|(s, t)| (Some(s), t))),
    ];
    for (kind, part) in parts.into_iter().chain(within) {
        let Some((basis, coefficients)) = part else { continue };
        let rows = Rows::new(kind, basis, coefficients, settings, &cost);
        let scales = rows.scales();
        // On wide rows the scales cost next to nothing: one step per block need not be tried.
        if scales.is_none() || rows.coefficients.geometry.width < ALWAYS_SCALED {
            candidates.extend(second::candidates(rows.candidate(None), &rows.coefficients, &cost));
        }
        if scales.is_some() {
            candidates.extend(second::candidates(rows.candidate(scales), &rows.coefficients, &cost));
        }
    }
    if settings.matching && matches!(cost, Cost::Output { .. }) {
        candidates.iter_mut().for_each(|c| c.side_bits += layer::gain_bits(shape, settings.coding.into()));
    }
    LayerCurves { shape: *shape, weights: count, candidates, limit }
}

/// Rows of coefficients under a transform, by falling cost of losing them, cut into blocks.
struct Rows {
    kind: TransformKind,
    basis: Option<Arc<Basis>>,
    coefficients: Coefficients,
    costs: RowCosts,
    projections: Option<Projections>,
    coding: Coding,
    blocks: usize,
    block_of_row: Vec<u16>,
    /// Per block, the choices for its basis; empty where none is stored.
    basis_steps: Vec<Vec<Choice>>,
}

/// Scales over the greatest one.
fn relative(sizes: Vec<f64>) -> Vec<Scale> {
    let max = sizes.iter().fold(0f64, |m, e| m.max(*e));
    sizes.iter().map(|n| if max > 0.0 { Scale::nearest(n / max) } else { Scale::ONE }).collect()
}

/// Scales at which errors of all rows cost the same.
fn cost_scales(costs: &[f64]) -> Vec<Scale> {
    let mean = costs.iter().sum::<f64>() / costs.len() as f64;
    // Rows that cost nothing as far as samples know may cost a little.
    relative(costs.iter().map(|cost| 1.0 / (cost + 1e-3 * mean).max(f64::MIN_POSITIVE).sqrt()).collect())
}

/// Energy of each row.
fn energies(coefficients: &Coefficients) -> Vec<f64> {
    let width = coefficients.geometry.width;
    if width == 0 {
        return vec![0.0; coefficients.geometry.rows()];
    }
    coefficients.rows.chunks(width).map(square_sum).collect()
}

/// Puts rows of `width` numbers in another order.
fn reordered(rows: &[f32], width: usize, order: &[usize]) -> Vec<f32> {
    order.iter().flat_map(|&row| &rows[row * width..(row + 1) * width]).copied().collect()
}

impl Rows {
    fn new(kind: TransformKind, mut basis: Option<Basis>, mut coefficients: Coefficients, settings: CurveSettings, cost: &Cost) -> Rows {
        let geometry = coefficients.geometry;
        let rows = geometry.rows();
        let mut energy = energies(&coefficients);
        let mut costs = cost.rows(kind, basis.as_ref().map_or(geometry, Basis::analysed), basis.as_ref(), energy.iter().sum());
        let blocks = settings.blocks.clamp(1, layer::MAX_BLOCKS).min(rows.max(1));
        let importance: Vec<f64> = energy.iter().zip(&costs.rows).map(|(e, c)| e * c).collect();
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]).then(a.cmp(&b)));
        let mut block_of_row = vec![0; rows];
        if let Some(basis) = basis.as_mut().filter(|_| layer::rows_are_sorted(kind, geometry)) {
            // The rows of a transform may come in any order: sorted, their blocks are known to the decoder and need not be stored.
            basis.rows = reordered(&basis.rows, geometry.dim, &order);
            coefficients.rows = reordered(&coefficients.rows, geometry.width, &order);
            costs.rows = order.iter().map(|&row| costs.rows[row]).collect();
            energy = order.iter().map(|&row| energy[row]).collect();
            order = (0..rows).collect();
        }
        for (rank, &row) in order.iter().enumerate() {
            block_of_row[row] = layer::block_of_rank(rank, rows, blocks);
        }
        let samples = match settings.method {
            Method::Feedback => cost.enough(geometry).min(COMPARED),
            Method::Transform => cost.enough(geometry),
        };
        let projections = cost.projections(kind, geometry, basis.as_ref(), &coefficients.rows, samples, |_| {});
        let basis = basis.map(Arc::new);
        let coding = settings.coding;
        let mut out = Rows { kind, basis, coefficients, costs, projections, coding, blocks, block_of_row, basis_steps: Vec::new() };
        if let Some(basis) = out.basis.as_ref().filter(|_| kind.stores_basis()) {
            let dim = geometry.dim;
            let steps = |rows: &Vec<usize>| {
                let weighted = rows.iter().map(|&row| (&basis.rows[row * dim..(row + 1) * dim], energy[row] * out.costs.basis[row]));
                match coding {
                    Coding::Entropy => ladder(weighted, MAX_BASIS_DEPTH, BASIS_RUNGS),
                    Coding::Fixed | Coding::Depths => best_steps(weighted, MAX_BASIS_DEPTH),
                }
            };
            out.basis_steps = out.members().iter().map(steps).collect();
        }
        out
    }

    /// Scale of each row; nothing where scales are of no use: each row has a block of its own, or, entropy-coded, all rows cost alike.
    ///
    /// Of fixed-length quantizers it is the eighth-power mean of the row's magnitudes over the greatest one. Their best step follows the standard
    /// deviation at low depths and the peak at high ones; this mean lies between (at 8 bits it gains 0.7 dB on ResNet-20 over the standard
    /// deviation, and loses nothing at 2). An entropy-coded row's step follows from what its errors cost alone: steps at which all rows' errors
    /// cost the same have equal slopes (method.md, section 6).
    fn scales(&self) -> Option<Vec<Scale>> {
        if self.block_of_row.len() <= self.blocks {
            return None;
        }
        if self.coding == Coding::Entropy {
            let scales = cost_scales(&self.costs.rows);
            return scales.iter().any(|s| *s != scales[0]).then_some(scales);
        }
        let width = self.coefficients.geometry.width.max(1);
        // Weights are scaled to at most 1, coefficients to little more: eighth powers stay in range, and tiny ones do not matter.
        Some(relative(self.coefficients.rows.chunks(width).map(|row| eighth_power_sum(row).powf(0.125)).collect()))
    }

    /// Rows of each block.
    fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.blocks];
        for (row, block) in self.block_of_row.iter().enumerate() {
            members[usize::from(*block)].push(row);
        }
        members
    }

    fn candidate(&self, scales: Option<Vec<Scale>>) -> Candidate {
        let (kind, geometry) = (self.kind, self.coefficients.geometry);
        let scaled = scales.as_ref().map(|scales| {
            let mut scaled = self.coefficients.rows.clone();
            for (row, scale) in scaled.chunks_mut(geometry.width.max(1)).zip(scales) {
                let factor = 1.0 / scale.size();
                row.iter_mut().for_each(|v| *v *= factor);
            }
            scaled
        });
        let coefficients = scaled.as_deref().unwrap_or(&self.coefficients.rows);
        let mut basis_steps = self.basis_steps.iter().cloned();
        let mut blocks = Vec::with_capacity(self.blocks);
        for rows in self.members() {
            let size = |row: usize| scales.as_ref().map_or(1.0, |s| s[row].size());
            let values = rows.iter().map(|&row| {
                let weight = f64::from(size(row)).powi(2) * self.costs.rows[row];
                (&coefficients[row * geometry.width..(row + 1) * geometry.width], weight)
            });
            let mut choices = match self.coding {
                Coding::Entropy => ladder(values, MAX_DEPTH, COEFFICIENT_RUNGS),
                Coding::Fixed | Coding::Depths => best_steps(values, MAX_DEPTH),
            };
            if let Some(projections) = &self.projections {
                let (coefficients, costs) = (&self.coefficients.rows[..], &self.costs.rows[..]);
                measure(&mut choices, projections, &rows, Quantized { coefficients, width: geometry.width, costs, scale: &size });
            }
            blocks.push(Block::new(choices, basis_steps.next().unwrap_or_default(), (rows.len() * geometry.width) as u64));
        }
        let side_bits = match self.coding {
            Coding::Entropy => layer::adaptive_side_bits(kind, geometry, blocks.len(), scales.is_some()),
            Coding::Fixed | Coding::Depths => layer::side_bits(kind, geometry, blocks.len(), scales.is_some()),
        };
        let (basis, block_of_row) = (self.basis.clone(), self.block_of_row.clone());
        Candidate { kind, geometry, basis, second: None, scales, feedback: None, block_of_row, blocks, side_bits, coded: None }
    }
}

/// Replaces choices by the best of steps around them, errors that follow the coefficients counted as the samples say ([`Projections::split`]).
/// The step with the least error of the weights is not the one with the least error of the output (Young et al. 2021, Fig. 8). Steps of a ladder
/// stay what they are.
fn measure(choices: &mut [Choice], projections: &Projections, of: &[usize], rows: Quantized<'_>) {
    for choice in choices {
        let around = i16::from(choice.step.0);
        // Fine quantizers clip next to nothing, and their errors follow nothing.
        let offsets = match choice.depth {
            0 | 7.. => &[0][..],
            1..4 => &STEPS_MEASURED[..],
            _ => &STEPS_MEASURED[1..7],
        };
        let steps = offsets.iter().map(|offset| Step((around + offset).clamp(0, 255) as u8));
        let tried = projections.quantized(of, rows, choice.depth, steps).into_iter();
        let tried = tried.map(|(step, split)| Choice { step, distortion: split.cost(), ..*choice });
        if let Some(best) = tried.min_by(|a, b| a.distortion.total_cmp(&b.distortion)) {
            *choice = best;
        }
    }
}

/// The coefficients that are coded: those of the best reconstruction from the basis that the decoder has ([`elt::closed_loop`]), without
/// the rows that are not stored. From the weights again, which are not kept between curves and encoding.
pub fn coefficients(candidate: &Candidate, code: &layer::LayerCode, cost: &Cost, shape: &LayerShape, normalized: &[f32]) -> Vec<f32> {
    let second = candidate.basis.as_ref().and_then(|b| b.second.as_ref()).zip(code.second).map(|(v, code)| code.decoded(&v.rows));
    let decoded = |row, basis: &[f32]| code.is_used(row).then(|| code.decoded_basis(row, basis));
    analysed(candidate, cost, shape, normalized, &second.unwrap_or_default(), decoded)
}

/// The coefficients of rows for which `decoded` gives the basis vector that the decoder has, zeros for the others. `second` is the second
/// basis of a two-sided transform as the decoder has it.
fn analysed(
    candidate: &Candidate,
    cost: &Cost,
    shape: &LayerShape,
    normalized: &[f32],
    second: &[f32],
    decoded: impl Fn(usize, &[f32]) -> Option<Vec<f32>>,
) -> Vec<f32> {
    let x = transform::to_matrix(shape, candidate.kind, normalized);
    let Some(basis) = &candidate.basis else { return x };
    let Geometry { groups, dim, width, rank } = basis.analysed();
    let moments = cost.moments(candidate.kind);
    let mut rows = vec![0f32; groups * rank * candidate.geometry.width];
    for group in 0..groups {
        let (mut used, mut vectors) = (Vec::new(), Vec::new());
        for row in group * rank..(group + 1) * rank {
            if let Some(mut vector) = decoded(row, &basis.rows[row * dim..(row + 1) * dim]) {
                used.push(row);
                vectors.append(&mut vector);
            }
        }
        let x = &x[group * dim * width..(group + 1) * dim * width];
        let damped = moments.and_then(|m| elt::damped(&m[group]));
        let t = elt::closed_loop(&vectors, damped.as_ref().map(|(c, _)| c), x, dim, width);
        // A basis so coarse that its vectors depend on each other has no best coefficients: orthogonal projections, then.
        let t = t.unwrap_or_else(|| linalg::product(&vectors, x, used.len(), dim, width));
        let (t, width) = match &basis.second {
            Some(v) => {
                let moment = cost.moments(TransformKind::KltRow).and_then(|m| m.first());
                (two_sided::closed_loop(second, v.geometry, moment, &t, shape.taps), candidate.geometry.width)
            }
            None => (t, width),
        };
        for (row, t) in used.into_iter().zip(t.chunks(width.max(1))) {
            rows[row * width..(row + 1) * width].copy_from_slice(t);
        }
    }
    rows
}

/// Greatest depth at which distortions are measured by running the network; beyond, errors are so small that the model holds, and its
/// curve goes on from the last point that was measured.
pub const MEASURED_DEPTH: u8 = 6;
/// Steps that are run at the depths that clip, in eighths of an octave from the one that the model prefers.
const STEPS_RUN: [i16; 3] = [-3, 0, 3];

/// A quantizer of one block: what is tried by running the network (Young et al. 2021, Algorithm 2: per depth and step).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// The block.
    pub block: usize,
    /// Its depth.
    pub depth: u8,
    /// Its step.
    pub step: Step,
}

impl Candidate {
    /// What to try, block after block, depths rising; of fixed-length quantizers.
    pub fn tries(&self) -> Vec<Try> {
        let mut tries = Vec::new();
        for (block, b) in self.blocks.iter().enumerate().filter(|(_, b)| b.count > 0) {
            for depth in 0..=MEASURED_DEPTH.min(b.coefficients.len() as u8 - 1) {
                let around = i16::from(b.coefficients[usize::from(depth)].step.0);
                let offsets = if (1..4).contains(&depth) { &STEPS_RUN[..] } else { &[0][..] };
                tries.extend(offsets.iter().map(|o| Try { block, depth, step: Step((around + o).clamp(0, 255) as u8) }));
            }
        }
        tries
    }

    /// The candidate with measured distortions, one for each of [`Candidate::tries`].
    pub fn with_measured(&self, distortions: &[f64]) -> Candidate {
        let mut blocks: Vec<(Vec<Option<Choice>>, &Block)> = self.blocks.iter().map(|b| (vec![None; b.coefficients.len()], b)).collect();
        for (Try { block, depth, step }, &distortion) in self.tries().into_iter().zip(distortions) {
            let best = &mut blocks[block].0[usize::from(depth)];
            if best.is_none_or(|b| distortion < b.distortion) {
                let of_depth = self.blocks[block].coefficients[usize::from(depth)];
                *best = Some(Choice { step, distortion, ..of_depth });
            }
        }
        let blocks = blocks.into_iter().map(|(measured, block)| {
            let last = measured.iter().zip(&block.coefficients).filter_map(|(m, model)| m.map(|m| (m, model))).next_back();
            let ratio = last.map_or(1.0, |(m, model)| if model.distortion > 0.0 { m.distortion / model.distortion } else { 1.0 });
            let choices = measured.iter().zip(&block.coefficients);
            let choices = choices.map(|(m, model)| m.unwrap_or(Choice { distortion: model.distortion * ratio, ..*model })).collect();
            Block::new(choices, block.basis.clone(), block.count)
        });
        Candidate { blocks: blocks.collect(), ..self.clone() }
    }

    /// The coefficients of all rows, for the basis as it was computed. `normalized` are the weights as they are quantized.
    pub fn coefficients(&self, cost: &Cost, shape: &LayerShape, normalized: &[f32]) -> Vec<f32> {
        let second = self.basis.as_ref().and_then(|b| b.second.as_ref()).map_or(&[][..], |v| &v.rows);
        analysed(self, cost, shape, normalized, second, |_, basis| Some(basis.to_vec()))
    }

    /// The error of the weights, in canonical order, of a block that is quantized alone. `coefficients` are those of all rows.
    pub fn error(&self, coefficients: &[f32], shape: &LayerShape, Try { block, depth, step }: Try) -> Vec<f32> {
        let width = self.geometry.width;
        let mut errors = vec![0f32; coefficients.len()];
        let used: Vec<bool> = self.block_of_row.iter().map(|b| usize::from(*b) == block).collect();
        for row in (0..used.len()).filter(|&row| used[row]) {
            let size = self.scales.as_ref().map_or(1.0, |s| s[row].size()) * step.size();
            let inverse = 1.0 / size;
            let at = row * width..(row + 1) * width;
            for (e, &v) in errors[at.clone()].iter_mut().zip(&coefficients[at]) {
                *e = quantize::index(v, inverse, depth) as f32 * size - v;
            }
        }
        let Some(basis) = &self.basis else { return transform::from_matrix(shape, self.kind, errors) };
        let Geometry { groups, dim, width, rank } = basis.analysed();
        if let Some(v) = &basis.second {
            errors = two_sided::backward(&v.rows, v.geometry, &errors, shape.taps);
        }
        let mut x = Vec::with_capacity(groups * dim * width);
        for group in 0..groups {
            let rows = group * rank..(group + 1) * rank;
            let (basis, errors) = (&basis.rows[rows.start * dim..rows.end * dim], &errors[rows.start * width..rows.end * width]);
            x.append(&mut transform::reconstruct(basis, errors, &used[rows], dim, width));
        }
        transform::from_matrix(shape, self.kind, x)
    }
}
