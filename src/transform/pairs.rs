//! Two channels of a layer whose weights are correlated most: what transforms live on, in a form that can be drawn.

use super::{Geometry, to_matrix};
use crate::{io::LayerShape, report::TransformKind};

/// Most channels that are compared, and most pairs of weights that they are compared by.
const CHANNELS: usize = 128;
const COMPARED: usize = 1024;
/// Pairs of weights that a correlation is believed of, and the fewest that are shown where a layer has no more.
const ENOUGH: usize = 64;
const FEWEST: usize = 8;

/// Two channels of the same group.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Whether they are input channels, or output channels.
    pub inputs: bool,
    /// The channels, counted over all groups.
    pub channels: (usize, usize),
    /// Their correlation, about zero, as the KLT sees it: `Σab / √(Σa² Σb²)`.
    pub correlation: f64,
    /// Weights of both, at the same place otherwise: of the other channels, and of the kernel.
    pub points: Vec<(f32, f32)>,
}

/// The pair of greatest correlation, of either sign; at most `most` of its points, evenly spaced. Of input channels, or where these have too few weights each,
/// of output channels. None where the layer has no two channels in a group, or too few weights for each.
pub fn most_correlated(shape: &LayerShape, weights: &[f32], most: usize) -> Option<Pair> {
    let sides = || [TransformKind::KltRow, TransformKind::KltCol].into_iter().filter_map(|kind| Some((kind, Geometry::new(shape, kind)?)));
    let side = sides().find(|s| s.1.width >= ENOUGH).or_else(|| sides().find(|s| s.1.width >= FEWEST));
    let (kind, Geometry { dim, width, .. }) = side?;
    let x = to_matrix(shape, kind, weights);
    let every = width.div_ceil(COMPARED);
    let thinned: Vec<Vec<f64>> = x.chunks(width).map(|row| row.iter().step_by(every).map(|&v| f64::from(v)).collect()).collect();
    let power: Vec<f64> = thinned.iter().map(|row| row.iter().map(|v| v * v).sum()).collect();
    let mut best: Option<(f64, usize, usize)> = None;
    for (g, group) in (0..thinned.len()).step_by(dim).enumerate() {
        // Of many groups the first few say enough.
        if g * dim >= CHANNELS {
            break;
        }
        let end = group + dim.min(CHANNELS);
        for i in group..end {
            for j in i + 1..end {
                let scale = (power[i] * power[j]).sqrt();
                let product: f64 = thinned[i].iter().zip(&thinned[j]).map(|(a, b)| a * b).sum();
                if scale > 0.0 && scale.is_finite() && best.is_none_or(|b| (product / scale).abs() > b.0.abs()) {
                    best = Some((product / scale, i, j));
                }
            }
        }
    }
    let (correlation, i, j) = best?;
    let (a, b) = (&x[i * width..(i + 1) * width], &x[j * width..(j + 1) * width]);
    let every = width.div_ceil(most.max(1));
    let points = a.iter().zip(b).step_by(every).map(|(&a, &b)| (a, b)).collect();
    Some(Pair { inputs: kind.across_inputs(), channels: (i, j), correlation, points })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::Order, testing::noise};

    fn shape(groups: usize, outputs: usize, inputs: usize, taps: usize) -> LayerShape {
        LayerShape { groups, outputs, inputs, taps, columns: 0, order: Order::OutIn }
    }

    #[test]
    fn two_channels_that_are_alike_are_found() {
        let shape = shape(2, 20, 6, 9);
        let mut weights = noise(shape.weights(), 5);
        let at = |g: usize, o: usize, i: usize, t: usize| ((g * 20 + o) * 6 + i) * 9 + t;
        // In the second group, channel 4 is the negative of channel 1, but for a little.
        for o in 0..20 {
            for t in 0..9 {
                weights[at(1, o, 4, t)] = -2.0 * weights[at(1, o, 1, t)] + 0.1 * weights[at(1, o, 0, t)];
            }
        }
        let pair = most_correlated(&shape, &weights, 1000).unwrap();
        assert_eq!((pair.inputs, pair.channels, pair.points.len()), (true, (6 + 1, 6 + 4), 180));
        assert!(pair.correlation < -0.98 && pair.correlation >= -1.0, "{}", pair.correlation);
        assert_eq!(pair.points[0], (weights[at(1, 0, 1, 0)], weights[at(1, 0, 4, 0)]));
        let few = most_correlated(&shape, &weights, 50).unwrap();
        assert_eq!((few.channels, few.points.len()), (pair.channels, 45));
    }

    #[test]
    fn output_channels_are_compared_where_there_are_no_two_input_channels() {
        let first = shape(1, 5, 1, 9);
        let mut weights = noise(first.weights(), 3);
        for t in 0..9 {
            weights[4 * 9 + t] = weights[2 * 9 + t];
        }
        let pair = most_correlated(&first, &weights, 100).unwrap();
        assert_eq!((pair.inputs, pair.channels, pair.points.len()), (false, (2, 4), 9));
        assert!((pair.correlation - 1.0).abs() < 1e-12);
    }

    #[test]
    fn layers_without_pairs_have_none() {
        for (shape, weights) in [(shape(1, 1, 1, 9), 9), (shape(6, 1, 1, 9), 54), (shape(1, 4, 4, 1), 16)] {
            assert_eq!(most_correlated(&shape, &noise(weights, 1), 100), None, "{shape:?}");
        }
        let zero = shape(1, 20, 3, 9);
        assert_eq!(most_correlated(&zero, &vec![0.0; zero.weights()], 100), None);
    }
}
