//! What quantizers of one block err, step by step: the curves along which steps are searched (Young et al. 2021, Fig. 8).

use super::{
    cost::{Cost, Quantized},
    curve::Candidate,
};
use crate::quantize::{
    Step,
    search::{self, square_sum},
};

/// A block of rows of a layer whose coefficients are there.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The candidate; its rows may be shorter than those of the layer.
    pub candidate: &'a Candidate,
    /// The block.
    pub block: usize,
    /// Coefficients of all rows.
    pub coefficients: &'a [f32],
    /// Which part of the layer's coefficients these are.
    pub share: f64,
}

/// Distortions of fixed-length quantizers of the block, by depth and step, as the search of the curves sees them: clipping and rounding alike. Of errors that follow
/// the coefficients the samples are asked, where `cost` has them and all of the layer is there. `cost` is in terms of normalised weights.
pub fn distortions(rows: Rows<'_>, cost: &Cost, quantizers: &[(u8, Step)]) -> Vec<f64> {
    let Rows { candidate, block, coefficients, share } = rows;
    let (kind, geometry) = (candidate.kind, candidate.geometry);
    let width = geometry.width.max(1);
    let energy = coefficients.chunks(width).map(square_sum).sum::<f64>() / share;
    let basis = candidate.basis.as_deref();
    let mut analysed = basis.map_or(geometry, |b| b.analysed());
    // Costs are those of rows of the layer.
    analysed.width = (analysed.width as f64 / share).round() as usize;
    let costs = cost.rows(kind, analysed, basis, energy).rows;
    let of: Vec<usize> = (0..candidate.block_of_row.len()).filter(|&row| usize::from(candidate.block_of_row[row]) == block).collect();
    let scale = |row: usize| candidate.scales.as_ref().map_or(1.0, |s| s[row].size());
    let whole = share >= 1.0;
    let projections = whole.then(|| cost.projections(kind, geometry, basis, coefficients, cost.enough(geometry), |_| {})).flatten();
    if let Some(projections) = projections {
        let quantized = Quantized { coefficients, width, costs: &costs, scale: &scale };
        let split = |&(depth, step): &(u8, Step)| {
            projections.quantized(&of, quantized, depth, std::iter::once(step)).first().map_or(0.0, |(_, split)| split.cost())
        };
        return quantizers.iter().map(split).collect();
    }
    let scaled: Vec<Vec<f32>> =
        of.iter().map(|&row| coefficients[row * width..(row + 1) * width].iter().map(|v| v / scale(row)).collect()).collect();
    let weighted = of.iter().zip(&scaled).map(|(&row, values)| (&values[..], f64::from(scale(row)).powi(2) * costs[row] / share));
    search::distortions(weighted, quantizers)
}
