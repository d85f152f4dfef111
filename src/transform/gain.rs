//! Coding gains (Young et al. 2021, eq. 11 and Fig. 3; of transforms within kernels Section 7.2 and Table 6), and what bases take (Section 4.3,
//! Fig. 5).
//!
//! With the covariance `C_θθ` of the weights and the second moment `C_γγ` of the gradients across the `n` channels (or kernel positions) that
//! a transform `T = UᵗX`, `X = ST`, `S = U^{−t}` acts across,
//!
//! ```text
//! G = (Π diag C_γγ)^{1/n} (Π diag C_θθ)^{1/n} / (Π diag SᵗC_γγS)^{1/n} (Π diag UᵗC_θθU)^{1/n}.
//! ```
//!
//! Scaling a column of `U` moves gain from one part to the other and leaves the product: the parts are given for `|det U| = 1`. Over several
//! groups the exponents run over all their rows.
//!
//! * The KLT has the greatest weight part of all orthogonal transforms, never less than 0 dB. Its gradient part may be less, and so may its
//!   total. The ELT has the greatest parts and the greatest total of all transforms, so never less than 0 dB and than the KLT's.
//! * A singular matrix would make a gain infinite. Before and after alike, `C_γγ` has [`elt::DAMPING`] times its mean eigenvalue added to its
//!   diagonal, as for the ELT itself, and `C_θθ` [`FLOOR`] times its. So a row without energy counts as one of `FLOOR` of the mean variance.
//!   Where there are more channels than the rank can be (`dim > width`), there are such rows, and the gain says little but how many:
//!   [`TransformGain::full_rank`] is then false.
//! * Without calibration gradients are taken for white: `C_γγ = I`, and their part is 0 dB.
//! * The two-sided transform is given the sum of its two sides' gains, which it has where the covariance of all weights is the Kronecker
//!   product of those across outputs and across inputs.

use nalgebra::{Cholesky, DMatrix, Dyn};

use super::{Geometry, dct, elt, linalg, to_matrix};
use crate::{
    io::LayerShape,
    report::{
        TransformKind,
        gains::{RowGains, RowVariances, TransformGain},
    },
    statistics::{LayerStatistics, Moment},
};

/// What is added to the diagonal of `C_θθ`, in parts of its mean eigenvalue: a gain counts no row of less than −60 dB.
pub const FLOOR: f64 = 1e-6;

/// Most channels across which gains are computed: as many as have a whole second moment of gradients.
pub const MOST_CHANNELS: usize = crate::statistics::MOST_CHANNELS;

/// Both second moments across the channels of a group, `n×n`, in units of their mean eigenvalues, regularised.
struct Moments {
    weights: DMatrix<f64>,
    gradients: DMatrix<f64>,
    cholesky: Cholesky<f64, Dyn>,
}

impl Moments {
    /// Of a `dim×width` matrix `X` and the gradients' moment, if there is one that is of use.
    fn new(x: &[f32], dim: usize, width: usize, moment: Option<&Moment>) -> Option<Moments> {
        // In double precision: sums of products in f32 would be seen in rows at the floor.
        let x = DMatrix::from_row_iterator(dim, width, x.iter().map(|&v| f64::from(v)));
        let c = &x * x.transpose();
        let mean = c.trace() / dim.max(1) as f64;
        let mut weights = if mean > 0.0 && mean.is_finite() { c / mean } else { DMatrix::identity(dim, dim) };
        (0..dim).for_each(|i| weights[(i, i)] += FLOOR);
        let (gradients, cholesky) = match moment.and_then(elt::damped) {
            Some(damped) => damped,
            None => (DMatrix::identity(dim, dim), Cholesky::new(DMatrix::identity(dim, dim))?),
        };
        Some(Moments { weights, gradients, cholesky })
    }
}

/// A transform of one group: `U` and `S`, columns of both belonging to a row of `T`.
struct Pair {
    u: DMatrix<f64>,
    s: DMatrix<f64>,
    /// `ln |det U|`.
    volume: f64,
}

impl Pair {
    fn orthogonal(u: DMatrix<f64>) -> Pair {
        Pair { s: u.clone(), u, volume: 0.0 }
    }

    fn klt(moments: &Moments) -> Pair {
        Pair::orthogonal(linalg::precise_eigenvectors(&moments.weights))
    }

    /// Theorem 3: with `C_γγ = LLᵗ` and the eigenvectors `V` of `LᵗC_θθL`, `U = LV` and `S = L^{−t}V`.
    fn elt(moments: &Moments) -> Option<Pair> {
        let l = moments.cholesky.l();
        let v = linalg::precise_eigenvectors(&(l.tr_mul(&moments.weights) * &l));
        let s = l.tr_solve_lower_triangular(&v)?;
        let volume = l.diagonal().iter().map(|d| d.ln()).sum();
        Some(Pair { u: l * v, s, volume })
    }

    /// `diag AᵗCA`.
    fn variances(a: &DMatrix<f64>, c: &DMatrix<f64>, factor: f64) -> Vec<f64> {
        (c * a).column_iter().zip(a.column_iter()).map(|(ca, a)| factor * ca.dot(&a)).collect()
    }
}

/// Variances of all rows of a layer, before and after a transform.
#[derive(Default)]
struct Variances {
    weights: [Vec<f64>; 2],
    gradients: [Vec<f64>; 2],
}

impl Variances {
    fn add(&mut self, moments: &Moments, pair: &Pair) {
        // To |det U| = 1.
        let scale = (2.0 * pair.volume / moments.weights.nrows().max(1) as f64).exp();
        self.weights[0].extend(moments.weights.diagonal().iter());
        self.gradients[0].extend(moments.gradients.diagonal().iter());
        self.weights[1].append(&mut Pair::variances(&pair.u, &moments.weights, 1.0 / scale));
        self.gradients[1].append(&mut Pair::variances(&pair.s, &moments.gradients, scale));
    }

    fn rows(&self) -> RowGains {
        let one = |which: usize| {
            let mut rows: Vec<(f64, f64)> =
                self.weights[which].iter().zip(&self.gradients[which]).map(|(w, g)| (decibels(*w), decibels(*g))).collect();
            rows.sort_by(|a, b| (b.0 + b.1).total_cmp(&(a.0 + a.1)));
            RowVariances {
                weight_db: rows.iter().map(|r| r.0).collect(),
                gradient_db: rows.iter().map(|r| r.1).collect(),
                product_db: rows.iter().map(|r| r.0 + r.1).collect(),
            }
        };
        RowGains { before: one(0), after: one(1) }
    }
}

fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.max(f64::MIN_POSITIVE).log10()
}

/// The mean in dB of variances before, less that of those after.
fn gain([before, after]: &[Vec<f64>; 2]) -> f64 {
    let mean = |v: &Vec<f64>| v.iter().map(|v| decibels(*v)).sum::<f64>() / v.len().max(1) as f64;
    mean(before) - mean(after)
}

/// The gains of a layer under every transform that exists for it, in the order of [`TransformKind::ALL`]: those of the ELT only with
/// `statistics`, those across more than [`MOST_CHANNELS`] not at all. `weights` are in canonical order; `rows`: with the variances of all rows.
pub fn layer_gains(shape: &LayerShape, weights: &[f32], statistics: Option<&LayerStatistics>, rows: bool) -> Vec<TransformGain> {
    let mut gains: Vec<TransformGain> = Vec::new();
    for (sides, kinds) in [
        (TransformKind::KltRow, &[TransformKind::KltRow, TransformKind::EltRow][..]),
        (TransformKind::KltCol, &[TransformKind::KltCol, TransformKind::EltCol]),
        (TransformKind::IntraKlt, &[TransformKind::IntraDct1, TransformKind::IntraDct2, TransformKind::IntraKlt, TransformKind::IntraElt]),
    ] {
        let Some(geometry) = Geometry::new(shape, sides).filter(|g| g.dim <= MOST_CHANNELS) else { continue };
        let found = variances(shape, weights, statistics, (sides, geometry), kinds);
        gains.extend(found.into_iter().map(|(kind, v)| {
            let (gradient_db, weight_db) = (gain(&v.gradients), gain(&v.weights));
            TransformGain { rows: rows.then(|| v.rows()), ..of_parts(shape, kind, gradient_db, weight_db) }
        }));
    }
    let of = |kind: TransformKind| gains.iter().find(|g| g.transform == kind);
    if let (Some(col), Some(row)) = (of(TransformKind::KltCol), of(TransformKind::KltRow))
        && Geometry::new(shape, TransformKind::TwoSided).is_some()
    {
        let (gradient_db, weight_db) = (col.gradient_db + row.gradient_db, col.weight_db + row.weight_db);
        gains.push(of_parts(shape, TransformKind::TwoSided, gradient_db, weight_db));
    }
    gains.sort_by_key(|g| g.transform);
    gains
}

/// The total gain in dB of each cosine transform within kernels that a layer has.
pub fn cosine_gains(shape: &LayerShape, weights: &[f32], statistics: &LayerStatistics) -> Vec<(TransformKind, f64)> {
    const BOTH: [TransformKind; 2] = [TransformKind::IntraDct1, TransformKind::IntraDct2];
    let Some(geometry) = Geometry::new(shape, TransformKind::IntraKlt) else { return Vec::new() };
    if !BOTH.iter().any(|kind| dct::exists(shape, *kind)) {
        return Vec::new();
    }
    let found = variances(shape, weights, Some(statistics), (TransformKind::IntraKlt, geometry), &BOTH);
    found.into_iter().map(|(kind, v)| (kind, gain(&v.gradients) + gain(&v.weights))).collect()
}

/// The variances under transforms that act across the same channels: those of `side`, which has the geometry of all of them but for its rank.
fn variances(
    shape: &LayerShape,
    weights: &[f32],
    statistics: Option<&LayerStatistics>,
    (side, geometry): (TransformKind, Geometry),
    kinds: &[TransformKind],
) -> Vec<(TransformKind, Variances)> {
    let Geometry { dim, width, .. } = geometry;
    let known = statistics.map(|s| match side {
        TransformKind::KltRow => &s.inputs[..],
        TransformKind::KltCol => &s.outputs[..],
        _ => std::slice::from_ref(&s.taps),
    });
    let x = to_matrix(shape, side, weights);
    let mut out: Vec<(TransformKind, Option<Variances>)> = kinds.iter().map(|kind| (*kind, Some(Variances::default()))).collect();
    for (group, x) in x.chunks((dim * width).max(1)).enumerate() {
        let moment = known.and_then(|m| m.get(group));
        let Some(moments) = Moments::new(x, dim, width, moment) else { return Vec::new() };
        for (kind, sum) in &mut out {
            let pair = match kind {
                TransformKind::EltRow | TransformKind::EltCol | TransformKind::IntraElt => statistics.and_then(|_| Pair::elt(&moments)),
                TransformKind::IntraDct1 | TransformKind::IntraDct2 => dct::basis(shape, *kind)
                    .map(|basis| Pair::orthogonal(DMatrix::from_iterator(dim, dim, basis.into_iter().map(f64::from)))),
                _ => Some(Pair::klt(&moments)),
            };
            match (pair, sum.as_mut()) {
                (Some(pair), Some(sum)) => sum.add(&moments, &pair),
                _ => *sum = None,
            }
        }
    }
    out.into_iter().filter_map(|(kind, v)| Some((kind, v?))).collect()
}

/// The gain of a transform from its parts, and its overhead.
fn of_parts(shape: &LayerShape, transform: TransformKind, gradient_db: f64, weight_db: f64) -> TransformGain {
    let overhead = overhead(shape, transform).unwrap_or_default();
    let total_db = gradient_db + weight_db;
    TransformGain {
        transform,
        gradient_db,
        weight_db,
        total_db,
        // ½ log₂ G, and 10 log₁₀ G is in dB.
        bits_saved: total_db / (20.0 * std::f64::consts::LOG10_2),
        full_rank: full_rank(shape, transform),
        overhead,
        overhead_percent: 100.0 * overhead as f64 / shape.weights().max(1) as f64,
        rows: None,
    }
}

/// Whether the weights may have full rank across what a transform acts across; of the two-sided one, on both sides.
fn full_rank(shape: &LayerShape, transform: TransformKind) -> bool {
    let sides = match transform {
        TransformKind::TwoSided => [TransformKind::KltRow, TransformKind::KltCol],
        kind => [kind; 2],
    };
    sides.into_iter().all(|kind| Geometry::new(shape, kind).is_some_and(|g| g.dim <= g.width))
}

/// Numbers of coefficients and stored bases less the number of weights, with the rows that the rank needs (Young et al. 2021, Section 4.3);
/// `None` where the transform does not exist.
pub fn overhead(shape: &LayerShape, transform: TransformKind) -> Option<i64> {
    let geometry = Geometry::new(shape, transform)?;
    let second = Geometry::second(shape, transform).map_or(0, |v| v.rank * v.dim);
    let numbers = geometry.rows() * (geometry.width + geometry.basis_width(transform)) + second;
    Some(numbers as i64 - shape.weights() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        io::Order,
        statistics::{Accumulator, Sample},
        testing::noise,
    };

    /// Statistics of `samples` random gradients, strong where channels have a high number: what weights are, they are not.
    fn statistics(shape: &LayerShape, samples: usize, seed: u64) -> LayerStatistics {
        let mut accumulator = Accumulator::new(*shape, false);
        for sample in 0..samples {
            let own = noise(shape.weights(), seed + sample as u64);
            let gradient = own.iter().enumerate().map(|(i, v)| v * (1.0 + (i % 7) as f32)).collect();
            accumulator.add(crate::statistics::Moments::new(shape, Sample { gradient, input: None, output: None }));
        }
        accumulator.finish()
    }

    fn layer(groups: usize, outputs: usize, inputs: usize, rows: usize, columns: usize) -> LayerShape {
        LayerShape { groups, outputs, inputs, taps: rows * columns, columns, order: Order::OutIn }
    }

    fn words(g: &TransformGain) -> String {
        format!("{} {} dB and {} dB", g.transform.name(), g.gradient_db, g.weight_db)
    }

    /// All that is said of gains at the head of this file.
    fn check(shape: &LayerShape, weights: &[f32], statistics: Option<&LayerStatistics>) -> Vec<TransformGain> {
        let gains = layer_gains(shape, weights, statistics, true);
        let near = 1e-4;
        let of = |kind: TransformKind| gains.iter().find(|g| g.transform == kind);
        for gain in &gains {
            assert!(gain.total_db.is_finite() && gain.transform != TransformKind::None);
            assert!((gain.total_db - gain.gradient_db - gain.weight_db).abs() < 1e-9);
            assert!((10f64.powf(gain.total_db / 10.0).log2() / 2.0 - gain.bits_saved).abs() < 1e-9);
            assert!(statistics.is_some() || gain.gradient_db.abs() < 1e-5, "{}", words(gain));
            if let Some(rows) = &gain.rows {
                let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
                let of_rows = mean(&rows.before.product_db) - mean(&rows.after.product_db);
                assert!((of_rows - gain.total_db).abs() < 1e-6, "{}", words(gain));
                assert!(rows.after.product_db.is_sorted_by(|a, b| a >= b));
            } else {
                assert_eq!(gain.transform, TransformKind::TwoSided);
            }
        }
        for (klt, elt) in [
            (TransformKind::KltRow, TransformKind::EltRow),
            (TransformKind::KltCol, TransformKind::EltCol),
            (TransformKind::IntraKlt, TransformKind::IntraElt),
        ] {
            let Some(klt) = of(klt) else { continue };
            assert!(klt.weight_db > -near, "{shape:?}: {}", words(klt));
            assert_eq!(statistics.is_some(), of(elt).is_some());
            let Some(elt) = of(elt) else { continue };
            assert!(elt.total_db > -near && elt.total_db > klt.total_db - near, "{shape:?}: {} {}", words(elt), words(klt));
            // Both parts of the ELT are the greatest there are, with volumes of 1.
            assert!(
                elt.weight_db > klt.weight_db - near && elt.gradient_db > klt.gradient_db - near,
                "{shape:?}: {} {}",
                words(elt),
                words(klt)
            );
        }
        for dct in [TransformKind::IntraDct1, TransformKind::IntraDct2] {
            let (Some(dct), Some(klt)) = (of(dct), of(TransformKind::IntraKlt)) else { continue };
            assert!(klt.weight_db > dct.weight_db - near, "{shape:?}: {} {}", words(klt), words(dct));
        }
        gains
    }

    /// Theorem 3's conditions, and those on volumes, for the matrices that gains are computed with.
    fn check_elt(x: &[f32], dim: usize, width: usize, moment: &Moment) {
        let moments = Moments::new(x, dim, width, Some(moment)).unwrap();
        let pair = Pair::elt(&moments).unwrap();
        let lambda = pair.u.tr_mul(&moments.weights) * &pair.u;
        let unit = pair.u.tr_mul(&moments.cholesky.solve(&pair.u));
        let inverse = pair.s.tr_mul(&pair.u);
        let most = lambda.diagonal().max();
        for (i, j) in (0..dim).flat_map(|i| (0..dim).map(move |j| (i, j))) {
            let expected = if i == j { 1.0 } else { 0.0 };
            assert!((unit[(i, j)] - expected).abs() < 1e-4, "UᵗC_γγ⁻¹U has {} at {i}, {j}", unit[(i, j)]);
            assert!((inverse[(i, j)] - expected).abs() < 1e-4, "SᵗU has {} at {i}, {j}", inverse[(i, j)]);
            assert!(i == j || lambda[(i, j)].abs() < 1e-5 * most, "UᵗC_θθU has {} at {i}, {j}", lambda[(i, j)]);
        }
        let determinant = pair.u.determinant().abs().ln();
        assert!((determinant - pair.volume).abs() < 1e-4 * (1.0 + dim as f64), "{determinant} {}", pair.volume);
    }

    #[test]
    fn known_gains() {
        // Two channels of variances 1 and 1 with correlation r: G = 1/√(1 − r²), all of it the weights' part.
        let (r, shape) = (0.8f32, layer(1, 2, 2, 1, 1));
        let weights = [1.0, 0.0, r, (1.0 - r * r).sqrt()];
        let gains = check(&shape, &weights, None);
        let col = gains.iter().find(|g| g.transform == TransformKind::KltCol).unwrap();
        let expected = -5.0 * (1.0 - f64::from(r * r)).log10();
        assert!((col.weight_db - expected).abs() < 1e-3 && col.gradient_db.abs() < 1e-5, "{col:?} for {expected}");
        assert!((col.bits_saved - 0.5 * (1.0 / 0.6f64).log2()).abs() < 1e-3, "{col:?}");
        // The basis has 2² numbers, which is as much as the layer.
        assert_eq!((col.overhead, col.overhead_percent, col.full_rank), (4, 100.0, true));
        // Gradients that are correlated alike double an ELT's gain in dB, and a KLT's.
        let mut gradients = statistics(&shape, 1, 1);
        let c = DMatrix::from_row_slice(2, 2, &[1.0, f64::from(r), f64::from(r), 1.0]);
        gradients.outputs = vec![Moment::Full(c)];
        let gains = check(&shape, &weights, Some(&gradients));
        for kind in [TransformKind::KltCol, TransformKind::EltCol] {
            let gain = gains.iter().find(|g| g.transform == kind).unwrap();
            assert!((gain.total_db - 2.0 * expected).abs() < 0.02, "{gain:?}");
        }
    }

    #[test]
    fn overheads() {
        let conv = layer(1, 64, 32, 3, 3);
        assert_eq!(overhead(&conv, TransformKind::KltCol), Some(64 * 64));
        assert_eq!(overhead(&conv, TransformKind::EltRow), Some(32 * 32));
        assert_eq!(overhead(&conv, TransformKind::TwoSided), Some(64 * 64 + 32 * 32));
        assert_eq!(overhead(&conv, TransformKind::IntraKlt), Some(81));
        assert_eq!(overhead(&conv, TransformKind::IntraDct2), Some(0));
        assert_eq!(overhead(&conv, TransformKind::None), Some(0));
        // A side longer than the rank: ten rows of ten and of a hundred numbers.
        let tall = layer(1, 100, 10, 1, 1);
        assert_eq!(overhead(&tall, TransformKind::KltCol), Some(10 * 10));
        assert_eq!(overhead(&layer(3, 1, 1, 1, 1), TransformKind::KltCol), None);
        // 90 of its 100 rows are at the floor, and the gain is that.
        let gains = check(&tall, &noise(1000, 1), None);
        let of = |kind| gains.iter().find(|g| g.transform == kind).unwrap();
        let (col, row, both) = (of(TransformKind::KltCol), of(TransformKind::KltRow), of(TransformKind::TwoSided));
        assert_eq!((col.full_rank, row.full_rank, both.full_rank), (false, true, false));
        assert!((col.total_db / (-10.0 * FLOOR.log10()) - 0.9).abs() < 0.25 && row.total_db < 1.0, "{} {}", col.total_db, row.total_db);
    }

    #[test]
    fn layers_without_transforms_have_no_gains() {
        assert!(layer_gains(&layer(1, 1, 1, 1, 1), &[1.0], None, false).is_empty());
        let depthwise = layer(5, 1, 1, 3, 3);
        let kinds: Vec<_> = check(&depthwise, &noise(45, 1), None).iter().map(|g| g.transform).collect();
        assert_eq!(kinds, [TransformKind::IntraDct1, TransformKind::IntraDct2, TransformKind::IntraKlt]);
    }

    /// Kernels that are smooth are what the cosine transform of type II is for.
    #[test]
    fn smooth_kernels_gain_by_the_cosine_transform() {
        let shape = layer(1, 30, 20, 3, 3);
        let smooth: Vec<f32> = noise(600, 3).iter().flat_map(|v| [1.0, 1.2, 1.0, 1.2, 1.5, 1.2, 1.0, 1.2, 1.0].map(|k| v * k)).collect();
        let weights: Vec<f32> = smooth.iter().zip(noise(5400, 4)).map(|(s, n)| s + 0.1 * n).collect();
        let gains = check(&shape, &weights, None);
        let dct = gains.iter().find(|g| g.transform == TransformKind::IntraDct2).unwrap();
        assert!(dct.total_db > 10.0, "{dct:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_layer(groups in 1usize..3, n in 1usize..14, m in 1usize..14, rows in 1usize..4, columns in 1usize..4, rank in 1usize..4, samples in 1usize..40, seed in 0u64..1 << 40) {
            let shape = layer(groups, n, m, rows, columns);
            let width = m * shape.taps;
            // Of full rank or what the sides allow, of low rank, nearly of low rank, and nothing.
            let full = noise(shape.weights(), seed);
            let low = linalg::product(&noise(groups * n * rank, seed ^ 1), &noise(rank * width, seed ^ 2), groups * n, rank, width);
            let nearly: Vec<f32> = low.iter().zip(&full).map(|(l, f)| l + 1e-4 * f).collect();
            let found = statistics(&shape, samples, seed ^ 3);
            for weights in [full, low, nearly, vec![0.0; shape.weights()]] {
                check(&shape, &weights, None);
                check(&shape, &weights, Some(&found));
            }
        }

        #[test]
        fn elts_diagonalise_both(dim in 1usize..16, width in 1usize..40, samples in 1usize..40, seed in any::<u64>()) {
            let mut moment = Moment::zeros(dim);
            moment.add(&noise(dim * samples, seed), samples);
            check_elt(&noise(dim * width, seed ^ 1), dim, width, &moment);
        }
    }

    /// Also of many channels, which have another eigensolver.
    #[test]
    fn many_channels() {
        let shape = layer(1, linalg::FAER_FROM + 20, 30, 1, 3);
        check(&shape, &noise(shape.weights(), 5), Some(&statistics(&shape, 3, 9)));
    }
}
