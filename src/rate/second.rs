//! What the second basis of a two-sided transform costs. All rows share it, so its depth is no business of one block: every depth makes a
//! candidate of its own, in which a block of rows that is stored errs by its share of the second basis' errors, too, and one that is not
//! stored does not. The allocation then takes the depth of least `D + λR` with the rest of the candidate.

use super::{cost::Cost, curve::Candidate, hull::Block};
use crate::{
    container::layer::SecondCode,
    quantize::search::{best_steps, square_sum},
    report::TransformKind,
    transform::{Coefficients, Geometry},
};

/// Depths that are tried.
const DEPTHS: [u8; 9] = [2, 3, 4, 5, 6, 7, 8, 10, 12];

/// A candidate for every depth of its second basis; of a transform that has none, the candidate itself.
///
/// An error of row `l` of the second basis (column `l` of `V`) costs its squared size times the energy of the coefficients along it, as an
/// error of a first basis does (method.md, section 5), in the measure of errors across inputs. Errors of both bases and of the coefficients
/// are not correlated, and add up.
pub fn candidates(candidate: Candidate, coefficients: &Coefficients, cost: &Cost) -> Vec<Candidate> {
    let Some(v) = candidate.basis.as_ref().and_then(|b| b.second.as_ref()) else { return vec![candidate] };
    let Geometry { dim, rank, .. } = v.geometry;
    let taps = coefficients.geometry.width / rank.max(1);
    // Energy of the coefficients along each row, by block of rows.
    let mut energy = vec![vec![0f64; rank]; candidate.blocks.len()];
    for (i, t) in coefficients.rows.chunks(taps.max(1)).enumerate() {
        energy[usize::from(candidate.block_of_row[i / rank])][i % rank] += square_sum(t);
    }
    let along = |l: usize| energy.iter().map(|e| e[l]).sum::<f64>();
    let costs = cost.rows(TransformKind::KltRow, v.geometry, None, (0..rank).map(along).sum()).basis;
    let weighted = v.rows.chunks(dim.max(1)).enumerate().map(|(l, row)| (row, along(l) * costs[l]));
    let choices = best_steps(weighted, DEPTHS[DEPTHS.len() - 1]);
    let of_depth = |depth: u8| {
        let second = SecondCode { geometry: v.geometry, depth, step: choices[usize::from(depth)].step };
        let decoded = second.decoded(&v.rows);
        let error = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let errors: Vec<f64> = decoded.chunks(dim.max(1)).zip(v.rows.chunks(dim.max(1))).map(error).collect();
        let block = |(block, energy): (&Block, &Vec<f64>)| {
            let share: f64 = energy.iter().zip(&errors).zip(&costs).map(|((energy, error), cost)| energy * error * cost).sum();
            let mut coefficients = block.coefficients.clone();
            coefficients.iter_mut().skip(1).for_each(|choice| choice.distortion += share);
            Block::new(coefficients, block.basis.clone(), block.count)
        };
        let blocks = candidate.blocks.iter().zip(&energy).map(block).collect();
        Candidate { blocks, second: Some(second), side_bits: candidate.side_bits + second.bits(), ..candidate.clone() }
    };
    DEPTHS.into_iter().map(of_depth).collect()
}
