//! The rate–distortion curves of one layer: every transform, every block of rows, every depth, with measured errors
//! (Young et al. 2021, Section 5.1; method.md, sections 2 to 6).

use std::sync::Arc;

use super::hull::Block;
use crate::{
    container::layer,
    io::LayerShape,
    quantize::{
        self, MAX_BASIS_DEPTH, MAX_DEPTH, RowScale,
        search::{Choice, best_steps, eighth_power_sum, square_sum},
    },
    report::TransformKind,
    transform::{self, Basis, Coefficients, Geometry, klt},
};

/// Width of rows from which steps are always scaled per row: a scale then costs less than 0.012 bits per weight.
const ALWAYS_SCALED: usize = 512;

/// One way to code a layer: a transform, with one step per block of rows or a step scaled for each row.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The transform.
    pub kind: TransformKind,
    /// Its sizes.
    pub geometry: Geometry,
    /// Its basis; none for [`TransformKind::None`].
    pub basis: Option<Arc<Basis>>,
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

/// Computes the curves of a layer. `weights` are finite, in canonical order; `blocks` is the greatest number of blocks.
pub fn layer_curves(shape: &LayerShape, mut weights: Vec<f32>, blocks: usize) -> LayerCurves {
    quantize::normalize(&mut weights);
    let count = weights.len() as u64;
    let klt::Klts { row, col } = klt::klts(shape, &weights);
    let none = Geometry::new(shape, TransformKind::None).map(|geometry| Coefficients { geometry, rows: weights });
    let mut candidates = Vec::new();
    let parts = [
        (TransformKind::None, none.map(|t| (None, t))),
        (TransformKind::KltRow, row.map(|(s, t)| (Some(Arc::new(s)), t))),
        (TransformKind::KltCol, col.map(|(s, t)| (Some(Arc::new(s)), t))),
    ];
    for (kind, part) in parts {
        let Some((basis, coefficients)) = part else { continue };
        let rows = Rows::new(kind, coefficients, blocks);
        let basis = basis.map(|basis| (rows.basis_steps(&basis), basis));
        let scaled = rows.count() > rows.blocks;
        // On wide rows the scales cost next to nothing: one step per block need not be tried.
        if !scaled || rows.coefficients.geometry.width < ALWAYS_SCALED {
            candidates.push(rows.candidate(kind, basis.clone(), None));
        }
        if scaled {
            candidates.push(rows.candidate(kind, basis, Some(rows.scales())));
        }
    }
    LayerCurves { shape: *shape, weights: count, candidates }
}

/// Rows of coefficients, sorted by falling variance and cut into blocks.
struct Rows {
    coefficients: Coefficients,
    /// Energy of each row.
    energies: Vec<f64>,
    /// Their sum.
    energy: f64,
    blocks: usize,
    block_of_row: Vec<u16>,
}

impl Rows {
    fn new(kind: TransformKind, coefficients: Coefficients, blocks: usize) -> Rows {
        let width = coefficients.geometry.width;
        let rows = coefficients.geometry.rows();
        let energies: Vec<f64> = coefficients.rows.chunks(width.max(1)).map(square_sum).collect();
        let energies = if width == 0 { vec![0.0; rows] } else { energies };
        let blocks = blocks.clamp(1, layer::MAX_BLOCKS).min(rows.max(1));
        let mut order: Vec<usize> = (0..rows).collect();
        // A KLT of one group comes sorted; its order is then known to the decoder and need not be stored.
        if !layer::rows_are_sorted(kind, coefficients.geometry) {
            order.sort_by(|&a, &b| energies[b].total_cmp(&energies[a]).then(a.cmp(&b)));
        }
        let mut block_of_row = vec![0; rows];
        for (rank, &row) in order.iter().enumerate() {
            block_of_row[row] = layer::block_of_rank(rank, rows, blocks);
        }
        Rows { energy: energies.iter().sum(), coefficients, energies, blocks, block_of_row }
    }

    fn count(&self) -> usize {
        self.energies.len()
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

    /// A factor that makes squared errors relative to the layer's energy.
    fn relative(&self) -> f64 {
        if self.energy > 0.0 { 1.0 / self.energy } else { 0.0 }
    }

    /// Per block, the best step of the basis for each depth. An error of a basis row weighs as much as the coefficients it carries.
    fn basis_steps(&self, basis: &Basis) -> Vec<Vec<Choice>> {
        let dim = basis.geometry.dim;
        let steps = |rows: &Vec<usize>| {
            let values = rows.iter().map(|&row| (&basis.rows[row * dim..(row + 1) * dim], self.energies[row] * self.relative()));
            best_steps(values, MAX_BASIS_DEPTH)
        };
        self.members().iter().map(steps).collect()
    }

    fn candidate(&self, kind: TransformKind, basis: Option<(Vec<Vec<Choice>>, Arc<Basis>)>, scales: Option<Vec<RowScale>>) -> Candidate {
        let geometry = self.coefficients.geometry;
        let scaled = scales.as_ref().map(|scales| {
            let mut scaled = self.coefficients.rows.clone();
            for (row, scale) in scaled.chunks_mut(geometry.width.max(1)).zip(scales) {
                let factor = 1.0 / scale.size();
                row.iter_mut().for_each(|v| *v *= factor);
            }
            scaled
        });
        let coefficients = scaled.as_deref().unwrap_or(&self.coefficients.rows);
        let (basis_steps, basis) = basis.unzip();
        let mut basis_steps = basis_steps.unwrap_or_default().into_iter();
        let mut blocks = Vec::with_capacity(self.blocks);
        for rows in self.members() {
            let values = rows.iter().map(|&row| {
                let weight = scales.as_ref().map_or(1.0, |s| f64::from(s[row].size()).powi(2));
                (&coefficients[row * geometry.width..(row + 1) * geometry.width], weight * self.relative())
            });
            let counts = [geometry.width, geometry.basis_width(kind)].map(|width| (rows.len() * width) as u64);
            blocks.push(Block::new(best_steps(values, MAX_DEPTH), basis_steps.next().unwrap_or_default(), counts[0], counts[1]));
        }
        let side_bits = layer::side_bits(kind, geometry, blocks.len(), scales.is_some());
        Candidate { kind, geometry, basis, scales, block_of_row: self.block_of_row.clone(), blocks, side_bits }
    }
}

/// The coefficients of a candidate, from the weights again (they are not kept between curves and encoding).
pub fn coefficients(candidate: &Candidate, shape: &LayerShape, normalized: &[f32]) -> Vec<f32> {
    let x = transform::to_matrix(shape, candidate.kind, normalized);
    match &candidate.basis {
        Some(basis) => basis.forward(&x).rows,
        None => x,
    }
}
