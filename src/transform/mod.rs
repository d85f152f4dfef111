//! Transforms (Young et al. 2021, Sections 4.2, 7.1 and 7.2; method.md, section 3).
//!
//! A layer is `groups` stacked matrices `X` of `dim` rows (the channels a transform acts across) and `width` columns. The
//! decoder of a group computes `X ≈ Ŝ·T̂`; the columns of `S` have unit norm, and are orthogonal in a KLT (then `T = SᵗX`). Coefficients and basis are
//! kept row by row: row `k` of `T` belongs to row `k` of `Sᵗ`, and both are zero-cost when the row is not needed. A two-sided transform has a second
//! basis, which all rows share.

pub mod dct;
pub mod elt;
pub mod gain;
pub mod intra;
pub mod klt;
pub mod linalg;
pub mod pairs;
pub mod two_sided;

use crate::{
    io::{
        LayerShape,
        tensor::{swap_channels, transpose},
    },
    report::TransformKind,
};

/// Most weights of a layer for which a basis is computed (AlexNet's largest layer has 38 million). Above, only `none`.
pub const KLT_WEIGHTS: usize = 1 << 26;

/// The sizes of a layer under a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Stacked matrices, each with a basis of its own.
    pub groups: usize,
    /// Rows of `X` per group: the channels, or positions of a kernel, that the transform acts across.
    pub dim: usize,
    /// Columns of `X`, and of `T`; of `T` alone under a two-sided transform.
    pub width: usize,
    /// Rows of `T` per group: `dim` without a transform and with a cosine transform, else `min(dim, width)`, which no rank exceeds.
    pub rank: usize,
}

impl Geometry {
    /// The geometry of a layer under a transform; `None` when that transform does not exist for it (method.md, sections 1
    /// and 3): a depthwise layer has no cross-channel transform, a single channel or a kernel of one position has nothing to decorrelate,
    /// cosine transforms are for kernels that [`dct::exists`] knows, and the two-sided transform is for layers of one group.
    pub fn new(shape: &LayerShape, kind: TransformKind) -> Option<Geometry> {
        let LayerShape { groups, outputs, inputs, taps, .. } = *shape;
        let (dim, width) = match kind {
            TransformKind::None => {
                return Some(Geometry { groups, dim: outputs, width: inputs * taps, rank: outputs });
            }
            TransformKind::KltCol | TransformKind::EltCol => (outputs, inputs * taps),
            TransformKind::KltRow | TransformKind::EltRow => (inputs, outputs * taps),
            TransformKind::IntraKlt | TransformKind::IntraElt => (taps, groups * outputs * inputs),
            TransformKind::IntraDct1 | TransformKind::IntraDct2 => {
                let width = groups * outputs * inputs;
                let exists = taps >= 2 && width >= 1 && shape.weights() <= KLT_WEIGHTS && dct::exists(shape, kind);
                // Its vectors do not come from the weights, so none of them can be left out for a lack of rank.
                return exists.then_some(Geometry { groups: 1, dim: taps, width, rank: taps });
            }
            TransformKind::TwoSided => {
                let second = Geometry::second(shape, kind)?;
                (if groups == 1 { outputs } else { 0 }, second.rank * taps)
            }
        };
        let groups = if kind.within_kernels() { 1 } else { groups };
        let exists = dim >= 2 && width >= 1 && groups >= 1 && shape.weights() <= KLT_WEIGHTS;
        exists.then_some(Geometry { groups, dim, width, rank: dim.min(width) })
    }

    /// The geometry of the second basis, `V`, of a two-sided transform: that of the row transforms. `None` for other transforms.
    pub fn second(shape: &LayerShape, kind: TransformKind) -> Option<Geometry> {
        if kind == TransformKind::TwoSided { Geometry::new(shape, TransformKind::KltRow) } else { None }
    }

    /// Rows of `T` over all groups.
    pub fn rows(&self) -> usize {
        self.groups * self.rank
    }

    /// Numbers that are stored of a row of the basis: `dim` with a transform whose basis is not known to the decoder, else 0.
    pub fn basis_width(&self, kind: TransformKind) -> usize {
        if kind.stores_basis() { self.dim } else { 0 }
    }
}

/// Brings a layer from canonical order (`groups×outputs×inputs×taps`) to the stacked matrices `X` of a transform.
pub fn to_matrix(shape: &LayerShape, kind: TransformKind, weights: &[f32]) -> Vec<f32> {
    if kind.across_inputs() {
        swap_channels(weights, shape.outputs, shape.inputs, shape.taps)
    } else if kind.within_kernels() {
        transpose(weights, shape.weights() / shape.taps.max(1), shape.taps)
    } else {
        weights.to_vec()
    }
}

/// The inverse of [`to_matrix`].
pub fn from_matrix(shape: &LayerShape, kind: TransformKind, matrix: Vec<f32>) -> Vec<f32> {
    if kind.across_inputs() {
        swap_channels(&matrix, shape.inputs, shape.outputs, shape.taps)
    } else if kind.within_kernels() {
        transpose(&matrix, shape.taps, shape.weights() / shape.taps.max(1))
    } else {
        matrix
    }
}

/// A basis: `groups × rank` rows of `dim` numbers, row `k` of a group being column `k` of its `S`.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    /// Sizes.
    pub geometry: Geometry,
    /// The rows.
    pub rows: Vec<f32>,
    /// `V` of a two-sided transform: columns of `V` are rows here.
    pub second: Option<Box<Basis>>,
}

/// The coefficients `T`: `groups × rank` rows of `width` numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficients {
    /// Sizes.
    pub geometry: Geometry,
    /// The rows.
    pub rows: Vec<f32>,
}

impl Basis {
    /// `SᵗX` for stacked matrices `X` in this basis' geometry: the coefficients of an orthonormal basis.
    pub fn forward(&self, x: &[f32]) -> Coefficients {
        let Geometry { groups, dim, width, rank } = self.analysed();
        let mut rows = Vec::with_capacity(groups * rank * width);
        for (s, x) in self.rows.chunks(rank * dim).zip(x.chunks(dim * width)) {
            rows.append(&mut linalg::product(s, x, rank, dim, width));
        }
        if let Some(v) = &self.second {
            rows = two_sided::forward(v, &rows, width / v.geometry.dim);
        }
        Coefficients { geometry: self.geometry, rows }
    }

    /// The geometry with the width of the matrices `X` that the basis is for, which is not that of `T` if there is a second basis.
    pub fn analysed(&self) -> Geometry {
        let Geometry { width, .. } = self.geometry;
        let width = self.second.as_ref().map_or(width, |v| width / v.geometry.rank.max(1) * v.geometry.dim);
        Geometry { width, ..self.geometry }
    }
}

/// `X = S·T` of one group, added up row by row of `T` in rising order, in plain `f32` (never fused): the decoder's arithmetic,
/// the same bits on every machine. Rows of `T` for which `used` is false are skipped. `basis` is `rank×dim`, `coefficients`
/// `rank×width`; the result is `dim×width`.
pub fn reconstruct(basis: &[f32], coefficients: &[f32], used: &[bool], dim: usize, width: usize) -> Vec<f32> {
    // Columns are cut so that a strip of T stays in the cache over all rows of X.
    const STRIP: usize = 256;
    let mut x = vec![0f32; dim * width];
    for start in (0..width).step_by(STRIP) {
        let end = (start + STRIP).min(width);
        for i in 0..dim {
            let out = &mut x[i * width + start..i * width + end];
            for (k, _) in used.iter().enumerate().filter(|(_, used)| **used) {
                let s = basis[k * dim + i];
                for (o, t) in out.iter_mut().zip(&coefficients[k * width + start..k * width + end]) {
                    *o += s * *t;
                }
            }
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{io::Order, statistics::Moment, testing::noise};

    #[test]
    fn row_matrix_and_back() {
        let shape = LayerShape { groups: 2, outputs: 3, inputs: 4, taps: 5, columns: 0, order: Order::OutIn };
        let w: Vec<f32> = (0..shape.weights()).map(|i| i as f32).collect();
        let x = to_matrix(&shape, TransformKind::KltRow, &w);
        // group 1, input 2, output 1, tap 3
        assert_eq!(x[((4 + 2) * 3 + 1) * 5 + 3], w[((3 + 1) * 4 + 2) * 5 + 3]);
        assert_eq!(from_matrix(&shape, TransformKind::KltRow, x), w);
    }

    /// Every transform of a layer with its coefficients; ELTs for gradients of random directions.
    fn all(shape: &LayerShape, weights: &[f32], seed: u64) -> Vec<(TransformKind, Basis, Coefficients)> {
        let klts = klt::klts(shape, weights);
        let moments = |count: usize, n: usize| -> Vec<Moment> {
            let group = |g: usize| {
                let mut moment = Moment::zeros(n);
                moment.add(&noise(n * (n + 2), seed + g as u64), n + 2);
                moment
            };
            (0..count).map(group).collect()
        };
        let one = |kind: TransformKind| match kind {
            TransformKind::None => None,
            TransformKind::KltRow => klts.row.clone(),
            TransformKind::KltCol => klts.col.clone(),
            TransformKind::EltRow | TransformKind::EltCol => {
                let geometry = Geometry::new(shape, kind)?;
                elt::elt(&to_matrix(shape, kind, weights), geometry, &moments(geometry.groups, geometry.dim))
            }
            TransformKind::TwoSided => two_sided::two_sided(shape, weights, &klts),
            _ => intra::intra(shape, kind, weights, Some(&moments(1, shape.taps))),
        };
        TransformKind::ALL.into_iter().filter_map(|kind| one(kind).map(|(s, t)| (kind, s, t))).collect()
    }

    /// What the decoder makes of a basis and coefficients that nothing has been done to.
    fn decoded(shape: &LayerShape, kind: TransformKind, basis: &Basis, t: &Coefficients) -> Vec<f32> {
        let Geometry { groups, dim, width, rank } = basis.analysed();
        let rows = match &basis.second {
            Some(v) => two_sided::backward(&v.rows, v.geometry, &t.rows, shape.taps),
            None => t.rows.clone(),
        };
        let group = |g: usize| {
            let (s, t) = (&basis.rows[g * rank * dim..(g + 1) * rank * dim], &rows[g * rank * width..(g + 1) * rank * width]);
            reconstruct(s, t, &vec![true; rank], dim, width)
        };
        from_matrix(shape, kind, (0..groups).flat_map(group).collect())
    }

    /// Reconstruction is exact up to rounding, sizes are as the geometry says, and closed loops of exact bases change nothing.
    fn check(shape: &LayerShape, weights: &[f32], seed: u64) -> Vec<TransformKind> {
        let energy: f64 = weights.iter().map(|&v| f64::from(v).powi(2)).sum();
        let scale = (energy / weights.len().max(1) as f64).sqrt().max(1e-12);
        let mut kinds = Vec::new();
        for (kind, basis, t) in all(shape, weights, seed) {
            let geometry = Geometry::new(shape, kind).unwrap();
            assert_eq!((basis.geometry, t.geometry, t.rows.len()), (geometry, geometry, geometry.rows() * geometry.width), "{kind:?}");
            assert_eq!(basis.second.as_ref().map(|v| v.geometry), Geometry::second(shape, kind));
            let back = decoded(shape, kind, &basis, &t);
            assert_eq!(back.len(), weights.len());
            for (a, b) in back.iter().zip(weights) {
                assert!(f64::from((a - b).abs()) < 2e-3 * scale * (geometry.dim as f64).sqrt(), "{kind:?} {shape:?}: {a} for {b}");
            }
            if kind == TransformKind::TwoSided {
                let v = basis.second.as_ref().unwrap();
                let y = linalg::product(&basis.rows, weights, geometry.rank, geometry.dim, basis.analysed().width);
                let again = two_sided::closed_loop(&v.rows, v.geometry, None, &y, shape.taps);
                assert!(again.iter().zip(&t.rows).all(|(a, b)| f64::from((a - b).abs()) <= 1e-3 * scale * (energy / scale.powi(2)).sqrt()));
                let kept: f64 = t.rows.iter().map(|&v| f64::from(v).powi(2)).sum();
                assert!((kept - energy).abs() <= 1e-4 * energy, "both bases are orthonormal: energy {kept} of {energy}");
            }
            kinds.push(kind);
        }
        kinds
    }

    #[test]
    fn all_kinds_are_exact_and_exist_where_they_should() {
        let shape = |groups, outputs, inputs, taps, columns| LayerShape { groups, outputs, inputs, taps, columns, order: Order::OutIn };
        use TransformKind::{EltCol, EltRow, IntraDct1, IntraDct2, IntraElt, IntraKlt, KltCol, KltRow, TwoSided};
        let across = [KltRow, KltCol, EltRow, EltCol];
        let within = [IntraDct1, IntraDct2, IntraKlt, IntraElt];
        let cases: [(LayerShape, Vec<TransformKind>); 8] = [
            (shape(1, 16, 8, 9, 3), [&across[..], &within, &[TwoSided]].concat()),
            (shape(2, 4, 4, 9, 3), [&across[..], &within].concat()),
            (shape(6, 1, 1, 25, 5), within.to_vec()),
            (shape(1, 10, 64, 1, 1), [&across[..], &[TwoSided]].concat()),
            (shape(1, 2, 40, 6, 2), [&across[..], &within, &[TwoSided]].concat()),
            (shape(1, 1, 8, 9, 3), [&[KltRow, EltRow][..], &within].concat()),
            (shape(1, 3, 4, 24, 0), [&across[..], &[IntraKlt, IntraElt, TwoSided]].concat()),
            (shape(1, 1, 1, 1, 1), Vec::new()),
        ];
        for (shape, kinds) in cases {
            let found = check(&shape, &noise(shape.weights(), 3), 7);
            assert_eq!(found, kinds, "{shape:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_layer(groups in 1usize..3, n in 1usize..12, m in 1usize..12, rows in 1usize..4, columns in 1usize..5, rank in 1usize..4, seed in 0u64..1 << 40) {
            let shape = LayerShape { groups, outputs: n, inputs: m, taps: rows * columns, columns, order: Order::OutIn };
            check(&shape, &noise(shape.weights(), seed), seed);
            // Of low rank across outputs.
            let (a, b) = (noise(groups * n * rank, seed ^ 1), noise(rank * m * shape.taps, seed ^ 2));
            check(&shape, &linalg::product(&a, &b, groups * n, rank, m * shape.taps), seed);
            check(&shape, &vec![0.0; shape.weights()], seed);
        }
    }
}
