//! A layer under what it was given; of a layer too large to be looked at whole, some channels of it.

use std::sync::Arc;

use crate::{
    container::layer::ColumnScales,
    io::LayerShape,
    rate::{cost::Cost, curve::Candidate},
    report::TransformKind,
    transform::{self, Basis, Geometry},
};

/// About how many numbers of a layer figures look at.
pub(super) const MOST: usize = 1 << 20;

/// A layer, or those of its channels that rows of coefficients run along: every transform acts on the columns of its matrices one by one.
pub(super) struct Part {
    /// Its shape.
    pub shape: LayerShape,
    /// Its weights, in canonical order.
    pub weights: Vec<f32>,
    /// How it is coded, without what feeds errors back if it is not whole.
    pub candidate: Candidate,
    /// Scales of columns, if errors are fed back.
    pub columns: Option<ColumnScales>,
    /// Which part of the layer it is, up to 1.
    pub share: f64,
}

/// So many of `n` channels, evenly spaced.
pub(super) fn spaced(n: usize, wanted: usize) -> Vec<usize> {
    let wanted = wanted.clamp(1, n.max(1));
    (0..wanted.min(n)).map(|i| i * n / wanted).collect()
}

/// Some output channels (or input channels) of every group of a layer.
pub(super) fn cut(shape: &LayerShape, weights: &[f32], outputs: bool, kept: &[usize]) -> (LayerShape, Vec<f32>) {
    let row = shape.inputs * shape.taps;
    if outputs {
        let rows = (0..shape.groups).flat_map(|g| kept.iter().map(move |o| g * shape.outputs + o));
        let weights = rows.flat_map(|r| &weights[r * row..(r + 1) * row]).copied().collect();
        (LayerShape { outputs: kept.len(), ..*shape }, weights)
    } else {
        let of_row = |row: &[f32]| kept.iter().flat_map(|i| row[i * shape.taps..(i + 1) * shape.taps].to_vec()).collect::<Vec<_>>();
        (LayerShape { inputs: kept.len(), ..*shape }, weights.chunks(row.max(1)).flat_map(of_row).collect())
    }
}

/// Whether rows of coefficients run along output channels and not along input channels.
fn along_outputs(kind: TransformKind) -> bool {
    kind.across_inputs() || kind.within_kernels()
}

impl Part {
    /// All rows of coefficients, of a layer of more than `most` weights some columns of them.
    pub fn columns(shape: &LayerShape, weights: Vec<f32>, candidate: &Candidate, most: usize) -> Part {
        let columns = candidate.feedback.as_ref().map(|f| f.columns.clone());
        if weights.len() <= most || candidate.kind == TransformKind::TwoSided {
            return Part { shape: *shape, weights, candidate: candidate.clone(), columns, share: 1.0 };
        }
        let outputs = along_outputs(candidate.kind);
        let along = if outputs { shape.outputs } else { shape.inputs };
        let kept = spaced(along, most / (weights.len() / along.max(1)).max(1));
        let columns = columns.map(|c| {
            let channels = (0..shape.groups).flat_map(|g| kept.iter().map(|i| c.channels[g * shape.inputs + i]).collect::<Vec<_>>());
            ColumnScales { channels: channels.collect(), ..c.clone() }
        });
        let (cut_shape, weights) = cut(shape, &weights, outputs, &kept);
        let candidate = Candidate { feedback: None, ..narrowed(candidate, candidate.geometry.width / along.max(1) * kept.len()) };
        Part { shape: cut_shape, weights, candidate, columns, share: kept.len() as f64 / along.max(1) as f64 }
    }

    /// The first `most` channels that can be coded without the others.
    pub fn first(shape: &LayerShape, weights: Vec<f32>, candidate: &Candidate, most: usize) -> Part {
        let (kind, columns) = (candidate.kind, candidate.feedback.as_ref().map(|f| f.columns.clone()));
        // Without a transform rows are coded one by one, also where errors are fed back, along their columns.
        let outputs = kind == TransformKind::None || along_outputs(kind);
        let along = if outputs { shape.outputs } else { shape.inputs };
        if kind == TransformKind::TwoSided || along <= most {
            return Part { shape: *shape, weights, candidate: candidate.clone(), columns, share: 1.0 };
        }
        let kept: Vec<usize> = (0..most).collect();
        let (cut_shape, weights) = cut(shape, &weights, outputs, &kept);
        let candidate = if kind == TransformKind::None {
            let rows: Vec<usize> = (0..shape.groups).flat_map(|g| (0..most).map(move |o| g * shape.outputs + o)).collect();
            Candidate {
                geometry: Geometry { dim: most, rank: most, ..candidate.geometry },
                scales: candidate.scales.as_ref().map(|s| rows.iter().map(|&r| s[r]).collect()),
                block_of_row: rows.iter().map(|&r| candidate.block_of_row[r]).collect(),
                ..candidate.clone()
            }
        } else {
            narrowed(candidate, candidate.geometry.width / along * most)
        };
        Part { shape: cut_shape, weights, candidate, columns, share: most as f64 / along as f64 }
    }

    /// Coefficients of all rows of the transform as it was computed. `cost` is in terms of these weights.
    pub fn coefficients(&self, cost: &Cost) -> Vec<f32> {
        match (&self.candidate.basis, self.candidate.kind) {
            (Some(_), TransformKind::EltRow | TransformKind::EltCol | TransformKind::IntraElt) => {
                self.candidate.coefficients(cost, &self.shape, &self.weights)
            }
            // The inverse of an orthonormal basis is its transpose.
            (Some(basis), kind) => basis.forward(&transform::to_matrix(&self.shape, kind, &self.weights)).rows,
            (None, _) => match &self.columns {
                Some(columns) => columns.forward(&self.shape, &self.weights).into_owned(),
                None => self.weights.clone(),
            },
        }
    }

    /// The scale of every coefficient's step: that of its row, times that of its column.
    pub fn scales(&self) -> Vec<f32> {
        let Geometry { width, rank, .. } = self.candidate.geometry;
        let rows = self.candidate.geometry.rows();
        let columns = |row: usize| self.columns.as_ref().map(|c| c.columns(row / rank.max(1), self.shape.inputs));
        let row = |row: usize| {
            let scale = self.candidate.scales.as_ref().map_or(1.0, |s| s[row].size());
            columns(row).unwrap_or_else(|| vec![1.0; width]).into_iter().map(move |c| c * scale)
        };
        (0..rows).flat_map(row).collect()
    }

    /// Whether steps are scaled at all.
    pub fn is_scaled(&self) -> bool {
        self.columns.is_some() || self.candidate.scales.is_some()
    }
}

/// A candidate whose rows are shorter.
fn narrowed(candidate: &Candidate, width: usize) -> Candidate {
    let geometry = Geometry { width, ..candidate.geometry };
    let basis = candidate.basis.as_ref().map(|b| Arc::new(Basis { geometry, ..(**b).clone() }));
    Candidate { geometry, basis, ..candidate.clone() }
}
