//! The rate–distortion curves of one layer: every transform, every block of rows, every depth, with measured errors
//! (Young et al. 2021, Section 5.1; method.md, sections 2 to 6).

use std::sync::Arc;

use super::{
    cost::{Cost, Projections, RowCosts},
    hull::Block,
    second,
};
use crate::{
    container::layer,
    io::LayerShape,
    quantize::{
        self, MAX_BASIS_DEPTH, MAX_DEPTH, RowScale, Step,
        search::{Choice, best_steps, eighth_power_sum, square_sum},
    },
    report::TransformKind,
    transform::{self, Basis, Coefficients, Geometry, elt, intra::intra, klt, linalg, two_sided},
};

/// Width of rows from which steps are always scaled per row: a scale then costs less than 0.012 bits per weight.
const ALWAYS_SCALED: usize = 512;

/// Depths up to which steps clip enough for errors to follow the weights: there the full form of the output's error is measured.
const CLIPPING: u8 = 6;
/// Steps that are measured there, in eighths of an octave from the best of the diagonal form. Wider ones clip less.
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
    pub scales: Option<Vec<RowScale>>,
    /// Block of each row.
    pub block_of_row: Vec<u16>,
    /// The blocks, strongest first.
    pub blocks: Vec<Block>,
    /// Bits of its section of the file that do not depend on the depths.
    pub side_bits: u64,
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
}

/// Computes the curves of a layer. `weights` are finite, in canonical order; `blocks` is the greatest number of blocks. `cost` is in
/// terms of the weights as they are given; they are normalised here.
pub fn layer_curves(shape: &LayerShape, mut weights: Vec<f32>, blocks: usize, cost: &Cost) -> LayerCurves {
    let exponent = quantize::normalize(&mut weights);
    let cost = match cost.clone() {
        Cost::Output { statistics, unit, full } => {
            Cost::Output { statistics, unit: unit * f64::from(quantize::power_of_two(exponent.into())).powi(2), full }
        }
        weights => weights,
    };
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
    let none = Geometry::new(shape, TransformKind::None).map(|geometry| Coefficients { geometry, rows: weights });
    let mut candidates = Vec::new();
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
        let rows = Rows::new(kind, basis, coefficients, blocks, &cost);
        let scaled = rows.count() > rows.blocks;
        // On wide rows the scales cost next to nothing: one step per block need not be tried.
        if !scaled || rows.coefficients.geometry.width < ALWAYS_SCALED {
            candidates.extend(second::candidates(rows.candidate(None), &rows.coefficients, &cost));
        }
        if scaled {
            candidates.extend(second::candidates(rows.candidate(Some(rows.scales())), &rows.coefficients, &cost));
        }
    }
    LayerCurves { shape: *shape, weights: count, candidates }
}

/// Rows of coefficients under a transform, by falling cost of losing them, cut into blocks.
struct Rows {
    kind: TransformKind,
    basis: Option<Arc<Basis>>,
    coefficients: Coefficients,
    costs: RowCosts,
    projections: Option<Projections>,
    blocks: usize,
    block_of_row: Vec<u16>,
    /// Per block, the best step of the basis for each depth; empty where none is stored.
    basis_steps: Vec<Vec<Choice>>,
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
    fn new(kind: TransformKind, mut basis: Option<Basis>, mut coefficients: Coefficients, blocks: usize, cost: &Cost) -> Rows {
        let geometry = coefficients.geometry;
        let rows = geometry.rows();
        let mut energy = energies(&coefficients);
        let mut costs = cost.rows(kind, basis.as_ref().map_or(geometry, Basis::analysed), basis.as_ref(), energy.iter().sum());
        let blocks = blocks.clamp(1, layer::MAX_BLOCKS).min(rows.max(1));
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
        let projections = cost.projections(kind, geometry, basis.as_ref());
        let basis = basis.map(Arc::new);
        let mut out = Rows { kind, basis, coefficients, costs, projections, blocks, block_of_row, basis_steps: Vec::new() };
        if let Some(basis) = out.basis.as_ref().filter(|_| kind.stores_basis()) {
            let dim = geometry.dim;
            let steps = |rows: &Vec<usize>| {
                let weighted = rows.iter().map(|&row| (&basis.rows[row * dim..(row + 1) * dim], energy[row] * out.costs.basis[row]));
                best_steps(weighted, MAX_BASIS_DEPTH)
            };
            out.basis_steps = out.members().iter().map(steps).collect();
        }
        out
    }

    fn count(&self) -> usize {
        self.block_of_row.len()
    }

    /// Scale of each row: the eighth-power mean of its magnitudes over the greatest one. The best step of a fixed-length
    /// quantizer follows the standard deviation at low depths and the peak at high ones; this mean lies between (at 8 bits it
    /// gains 0.7 dB on ResNet-20 over the standard deviation, and loses nothing at 2).
    fn scales(&self) -> Vec<RowScale> {
        let width = self.coefficients.geometry.width.max(1);
        // Weights are scaled to at most 1, coefficients to little more: eighth powers stay in range, and tiny ones do not matter.
        let norms: Vec<f64> = self.coefficients.rows.chunks(width).map(|row| eighth_power_sum(row).powf(0.125)).collect();
        let max = norms.iter().fold(0f64, |m, e| m.max(*e));
        norms.iter().map(|n| if max > 0.0 { RowScale::nearest(n / max) } else { RowScale(0) }).collect()
    }

    /// Rows of each block.
    fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.blocks];
        for (row, block) in self.block_of_row.iter().enumerate() {
            members[usize::from(*block)].push(row);
        }
        members
    }

    fn candidate(&self, scales: Option<Vec<RowScale>>) -> Candidate {
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
            let mut choices = best_steps(values, MAX_DEPTH);
            if let Some(projections) = &self.projections {
                measure(&mut choices, projections, &rows, coefficients, geometry.width, &size);
            }
            let counts = [geometry.width, geometry.basis_width(kind)].map(|width| (rows.len() * width) as u64);
            blocks.push(Block::new(choices, basis_steps.next().unwrap_or_default(), counts[0], counts[1]));
        }
        let side_bits = layer::side_bits(kind, geometry, blocks.len(), scales.is_some());
        let (basis, block_of_row) = (self.basis.clone(), self.block_of_row.clone());
        Candidate { kind, geometry, basis, second: None, scales, block_of_row, blocks, side_bits }
    }
}

/// Replaces the choices of low depths by the best of steps around them in the full form of the output's error, on the values themselves.
/// The step with the least error of the weights is not the one with the least error of the output (Young et al. 2021, Fig. 8).
fn measure(
    choices: &mut [Choice],
    projections: &Projections,
    rows: &[usize],
    coefficients: &[f32],
    width: usize,
    size: &dyn Fn(usize) -> f32,
) {
    let mut tries: Vec<(u8, Step)> = vec![(0, Step(0))];
    for depth in 1..=CLIPPING.min(choices.len() as u8 - 1) {
        let around = i16::from(choices[usize::from(depth)].step.0);
        // Where little is clipped the best step is that of the diagonal form. Choosing among more by samples would fit their noise.
        let offsets = STEPS_MEASURED.iter().filter(|offset| depth < 4 || **offset == 0);
        tries.extend(offsets.map(|offset| (depth, Step((around + offset).clamp(0, 255) as u8))));
    }
    let costs = projections.costs(tries.len(), rows, |row, out| {
        let values = &coefficients[row * width..(row + 1) * width];
        for ((depth, step), out) in tries.iter().zip(out.chunks_mut(width.max(1))) {
            let (delta, inverse, scale) = (step.size(), 1.0 / step.size(), size(row));
            for (out, &v) in out.iter_mut().zip(values) {
                *out = scale * (quantize::index(v, inverse, *depth) as f32 * delta - v);
            }
        }
    });
    let mut best: Vec<Option<Choice>> = vec![None; choices.len()];
    for ((depth, step), distortion) in tries.into_iter().zip(costs) {
        let best = &mut best[usize::from(depth)];
        if best.is_none_or(|b| distortion < b.distortion) {
            *best = Some(Choice { step, distortion });
        }
    }
    choices.iter_mut().zip(best).for_each(|(choice, best)| *choice = best.unwrap_or(*choice));
}

/// The coefficients that are coded: those of the best reconstruction from the basis that the decoder has ([`elt::closed_loop`]), without
/// the rows that are not stored. From the weights again, which are not kept between curves and encoding.
pub fn coefficients(candidate: &Candidate, code: &layer::LayerCode, cost: &Cost, shape: &LayerShape, normalized: &[f32]) -> Vec<f32> {
    let x = transform::to_matrix(shape, candidate.kind, normalized);
    let Some(basis) = &candidate.basis else { return x };
    let Geometry { groups, dim, width, rank } = basis.analysed();
    let moments = cost.moments(candidate.kind);
    let mut rows = vec![0f32; groups * rank * candidate.geometry.width];
    for group in 0..groups {
        let used: Vec<usize> = (group * rank..(group + 1) * rank).filter(|&row| code.is_used(row)).collect();
        let decoded: Vec<f32> = used.iter().flat_map(|&row| code.decoded_basis(row, &basis.rows[row * dim..(row + 1) * dim])).collect();
        let x = &x[group * dim * width..(group + 1) * dim * width];
        let damped = moments.and_then(|m| elt::damped(&m[group]));
        let t = elt::closed_loop(&decoded, damped.as_ref().map(|(c, _)| c), x, dim, width);
        // A basis so coarse that its vectors depend on each other has no best coefficients: orthogonal projections, then.
        let t = t.unwrap_or_else(|| linalg::product(&decoded, x, used.len(), dim, width));
        let (t, width) = match (&basis.second, &code.second) {
            (Some(v), Some(code)) => {
                let moment = cost.moments(TransformKind::KltRow).and_then(|m| m.first());
                let t = two_sided::closed_loop(&code.decoded(&v.rows), code.geometry, moment, &t, shape.taps);
                (t, candidate.geometry.width)
            }
            _ => (t, width),
        };
        for (row, t) in used.into_iter().zip(t.chunks(width.max(1))) {
            rows[row * width..(row + 1) * width].copy_from_slice(t);
        }
    }
    rows
}
