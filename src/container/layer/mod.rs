//! The body of a layer section: side information and indices (docs/format.md, "Layer section"), in one of two codings: `fixed` lengths, or
//! `adaptive` probabilities.
//!
//! What the decoder computes uses `f32` additions and multiplications in a fixed order, never fused, and exact tables, so
//! decoded weights are the same bits on every machine and in every build.

mod adaptive;
mod fixed;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::{
    io::LayerShape,
    quantize::{
        self, Gains, SCALE_BITS, Scale, Step,
        feedback::{self, Factor},
        trellis::{self, Trellis, Walk},
    },
    report::{self, TransformKind},
    transform::{self, Geometry, dct, intra, two_sided},
};

/// Most blocks of a layer: a block number fits a byte.
pub const MAX_BLOCKS: usize = 256;

/// Bytes before the block table: transform and flags, index coding, exponent, number of blocks minus one.
const FIXED_BYTES: usize = 5;
/// Bytes after the block table of a two-sided transform: depth and step of its second basis.
const SECOND_BYTES: usize = 2;
/// Flag in the first byte: rows have scales of their own.
const SCALED: u8 = 0x10;
/// Flag in the first byte: the batch norm after the layer is folded in. Readers that cannot take it out again refuse the flag.
const FOLDED: u8 = 0x20;

/// Flag in the first byte: columns have scales of their own, and a trellis begins anew with each row. Adaptively coded layers alone, without a transform or with a
/// cosine transform of each kernel where it is.
const COLUMNS: u8 = 0x40;
/// Flag in the first byte: output channels have gains.
const GAINS: u8 = 0x80;

/// How indices are coded: the second byte of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Coding {
    /// Each in as many bits as the depth of its block says.
    Fixed = 0,
    /// By adaptive binary decisions in a range coder ([`crate::entropy`]).
    Adaptive = 1,
}

impl From<report::Coding> for Coding {
    fn from(coding: report::Coding) -> Coding {
        match coding {
            report::Coding::Fixed => Coding::Fixed,
            report::Coding::Depths | report::Coding::Entropy => Coding::Adaptive,
        }
    }
}

/// The indices of a layer. Rows that are not stored are zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Indices {
    /// Of the second basis of a two-sided transform.
    pub second: Vec<i32>,
    /// Of the basis, if it is stored.
    pub basis: Vec<i32>,
    /// Of the coefficients.
    pub coefficients: Vec<i32>,
}

/// How a block of rows is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCode {
    /// Bits per coefficient of a fixed-length quantizer, or [`quantize::UNCLIPPED`]; 0: the block is pruned. What was read of adaptively coded
    /// indices, which have no depth, is 1 where they are stored.
    pub depth: u8,
    /// Step of the coefficients.
    pub step: Step,
    /// Bits per number of the basis.
    pub basis_depth: u8,
    /// Step of the basis.
    pub basis_step: Step,
}

/// How the second basis of a two-sided transform is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondCode {
    /// Its sizes; follow from the layer's shape.
    pub geometry: Geometry,
    /// Bits per number.
    pub depth: u8,
    /// Step.
    pub step: Step,
}

/// Scales of the columns of a layer without a transform, or of its kernels' cosine coefficients: a column's is the product of that of its input channel and that
/// of its kernel tap, or of the number of its coefficient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnScales {
    /// Of each input channel, group after group.
    pub channels: Vec<Scale>,
    /// Of each tap, in all groups.
    pub taps: Vec<Scale>,
    /// Whether columns are coded, and their errors fed back, in the order of their scales, coarsest first; else in the layer's. Where columns are weights,
    /// channels are sorted and their taps stay together.
    pub sorted: bool,
    /// What columns of a kernel are: its weights (`None`), or its coefficients of a cosine transform ([`dct`]).
    pub kernels: TransformKind,
}

impl ColumnScales {
    /// How many channels and taps of a layer have scales.
    fn lengths(shape: &LayerShape) -> (usize, usize) {
        (shape.groups * shape.inputs, shape.taps)
    }

    /// What is quantized of weights in canonical order: these, or their kernels' coefficients in place of them.
    pub fn forward<'a>(&self, shape: &LayerShape, weights: &'a [f32]) -> Cow<'a, [f32]> {
        let mut columns = Cow::Borrowed(weights);
        if let Some(basis) = dct::basis(shape, self.kernels) {
            intra::forward(&basis, shape.taps, columns.to_mut());
        }
        columns
    }

    /// Weights in place of columns.
    fn backward(&self, shape: &LayerShape, columns: &mut [f32]) {
        if let Some(basis) = dct::basis(shape, self.kernels) {
            intra::backward(&basis, shape.taps, columns);
        }
    }

    /// The columns of a group of `inputs` channels in the order in which they are coded. Those of the same scale stay in the layer's.
    pub fn sequence(&self, group: usize, inputs: usize) -> Vec<usize> {
        let (channels, taps) = (&self.channels[group * inputs..(group + 1) * inputs], &self.taps);
        let mut columns: Vec<usize> = (0..inputs * taps.len()).collect();
        if self.sorted {
            let own = |tap: usize| if self.kernels == TransformKind::None { 0 } else { u16::from(taps[tap].0) };
            columns.sort_by_key(|&column| u16::from(channels[column / taps.len()].0) + own(column % taps.len()));
        }
        columns
    }

    /// The scales of all columns of a group of `inputs` channels in the layer's order, as a decoder has them.
    pub fn columns(&self, group: usize, inputs: usize) -> Vec<f32> {
        let taps: Vec<f32> = self.taps.iter().map(|s| s.size()).collect();
        let channels = &self.channels[group * inputs..(group + 1) * inputs];
        channels.iter().flat_map(|channel| taps.iter().map(|tap| channel.size() * tap)).collect()
    }
}

/// A layer's side information: all a decoder needs besides the indices.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCode {
    /// The transform.
    pub kind: TransformKind,
    /// Its sizes; follows from the layer's shape and the transform.
    pub geometry: Geometry,
    /// Distance of coefficients of a row that are neighbours in the layer ([`period`]).
    pub period: usize,
    /// Weights are `2^exponent` times what is coded.
    pub exponent: i16,
    /// Block of each row.
    pub block_of_row: Vec<u16>,
    /// Scale of each row, if steps are scaled per row.
    pub scales: Option<Vec<Scale>>,
    /// Scales of columns, if steps are scaled per column too.
    pub columns: Option<ColumnScales>,
    /// Factors of the weights of each output channel, group after group.
    pub gains: Option<Gains>,
    /// The blocks.
    pub blocks: Vec<BlockCode>,
    /// The second basis of a two-sided transform.
    pub second: Option<SecondCode>,
    /// Whether the weights are those of the layer with the batch norm after it folded in ([`super::fold`]).
    pub folded: bool,
    /// The trellis that the indices of coefficients are of; none in fixed lengths. Steps are then those of its grid.
    pub trellis: Trellis,
}

/// After how many coefficients of a row the next channel begins: what an adaptive coder looks back at besides the coefficients just before.
pub fn period(shape: &LayerShape, kind: TransformKind) -> usize {
    if kind.within_kernels() { shape.inputs } else { shape.taps }
}

/// Whether rows of coefficients come by falling variance, so that their blocks need not be stored.
pub fn rows_are_sorted(kind: TransformKind, geometry: Geometry) -> bool {
    // The order of a basis that is not stored is not free.
    kind.stores_basis() && geometry.groups == 1
}

/// The block of the `rank`-th strongest of `rows` rows: equal cuts.
pub fn block_of_rank(rank: usize, rows: usize, blocks: usize) -> u16 {
    (rank * blocks / rows.max(1)) as u16
}

/// The block of each row, where rows are sorted: it is not stored.
fn sorted_blocks(kind: TransformKind, geometry: Geometry, blocks: usize) -> Option<Vec<u16>> {
    let rows = geometry.rows();
    rows_are_sorted(kind, geometry).then(|| (0..rows).map(|rank| block_of_rank(rank, rows, blocks)).collect())
}

fn block_number_bits(blocks: usize) -> u32 {
    usize::BITS - (blocks - 1).leading_zeros()
}

fn block_entry_bytes(kind: TransformKind) -> usize {
    if kind.stores_basis() { 4 } else { 2 }
}

/// Bits of a layer's body that do not depend on the depths.
pub fn side_bits(kind: TransformKind, geometry: Geometry, blocks: usize, scaled: bool) -> u64 {
    let per_row = if rows_are_sorted(kind, geometry) { 0 } else { block_number_bits(blocks) } + if scaled { SCALE_BITS } else { 0 };
    let second = if kind == TransformKind::TwoSided { SECOND_BYTES } else { 0 };
    8 * (FIXED_BYTES + blocks * block_entry_bytes(kind) + second) as u64 + geometry.rows() as u64 * u64::from(per_row)
}

/// About how many bits the side information of an adaptively coded layer takes: a step in three to five bits, a number of a block in its length, a
/// scale, which is coded by its difference from the one before, in four.
pub fn adaptive_side_bits(kind: TransformKind, geometry: Geometry, blocks: usize, scaled: bool) -> u64 {
    let per_row = if rows_are_sorted(kind, geometry) { 0 } else { block_number_bits(blocks) } + if scaled { 4 } else { 0 };
    let steps = if kind.stores_basis() { 2 } else { 1 };
    8 * FIXED_BYTES as u64 + (4 * blocks * steps) as u64 + geometry.rows() as u64 * u64::from(per_row)
}

/// Bytes of a body of `bits` side and index bits.
pub fn body_bytes(bits: u64) -> u64 {
    bits.div_ceil(8)
}

/// The byte that begins a body.
fn first_byte(code: &LayerCode) -> u8 {
    let within = code.columns.as_ref().map_or(code.kind, |c| c.kernels);
    let kind = TransformKind::ALL.iter().position(|k| *k == within).expect("every transform has a code") as u8;
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    kind | flag(code.scales.is_some(), SCALED)
        | flag(code.folded, FOLDED)
        | flag(code.columns.is_some(), COLUMNS)
        | flag(code.gains.is_some(), GAINS)
}

/// Encodes a body.
pub fn encode(code: &LayerCode, coding: Coding, indices: &Indices) -> Vec<u8> {
    match coding {
        Coding::Fixed => fixed::encode(code, indices),
        Coding::Adaptive => adaptive::encode(code, indices),
    }
}

/// By how many eighths of an octave the grid of a trellis is finer than the step of one quantizer of equal slope: its cells are twice as wide as the
/// grid and 1.1 dB better.
const GRID: u8 = 7;

/// How much of what a bit is worth the search counts. Indices that are lowered to save bits make errors that follow the weights, and those cost
/// the output several times what others do. Squared error of ResNet-20's output at 3 bits, at 2: 1.18, 9.5 with all of it; 1.13, 8.7 with 0.7; 1.01, 6.6 with
/// 0.4; 1.01, 6.6 with 0.2; 1.17, 7.0 with none.
const LOWERED: f32 = 0.3;
/// The same where errors are fed back: squared error at 2 bits and 1, gains matched, 3.52 and 28.6 with half of it, 3.50 and 27.9 with 0.3, 3.55 and 30.1 with 0.7.
const LOWERED_FED_BACK: f32 = 0.3;
/// How often weights are quantized whose errors are fed back, each time by the bits of what was found before.
pub const FEEDBACK_PASSES: usize = 3;

/// Encodes a body of unclipped coefficients ([`quantize::UNCLIPPED`]) with a trellis of eight states, by what indices err and cost. Arguments as of
/// [`LayerCode::indices`]; the steps of `code` are those of single quantizers.
pub fn encode_trellis(code: &LayerCode, coefficients: &[f32], basis: &[f32], second: &[f32]) -> Vec<u8> {
    let (code, indices) = trellis_coded(code, coefficients, basis, second);
    adaptive::encode(&code, &indices)
}

/// The code with a trellis, and the indices: what [`encode_trellis`] encodes.
pub fn trellis_coded(code: &LayerCode, coefficients: &[f32], basis: &[f32], second: &[f32]) -> (LayerCode, Indices) {
    let mut code = code.clone();
    let mut indices = code.indices(coefficients, basis, second);
    code.trellis = Trellis::Eight;
    for block in &mut code.blocks {
        block.step.0 = block.step.0.saturating_sub(GRID);
    }
    let width = code.geometry.width;
    let used: Vec<usize> = (0..code.block_of_row.len()).filter(|&row| code.is_used(row)).collect();
    let (mut values, mut rough) = (Vec::with_capacity(used.len() * width), Vec::with_capacity(used.len() * width));
    for &row in &used {
        let inverse = 1.0 / code.row_step(row);
        values.extend(coefficients[row * width..(row + 1) * width].iter().map(|v| v * inverse));
        rough.extend(indices.coefficients[row * width..(row + 1) * width].iter().map(|q| q.unsigned_abs().min(255) as u8));
    }
    // What a bit is worth, in squares of a step of the grid.
    let price = LOWERED * quantize::BIT * (f32::from(GRID) / 4.0).exp2();
    let found = trellis::indices(&values, &neighbourhoods(&rough, width, code.period), code.trellis, price);
    for (&row, found) in used.iter().zip(found.chunks(width.max(1))) {
        indices.coefficients[row * width..(row + 1) * width].copy_from_slice(found);
    }
    (code, indices)
}

/// Encodes a body of unclipped weights, in canonical order, with scales of columns and a trellis of eight states, errors fed back. Gives
/// also the weights that are decoded from it.
pub fn encode_feedback(code: &LayerCode, shape: &LayerShape, weights: &[f32], factors: &[Vec<Factor>]) -> (Vec<u8>, Vec<f32>) {
    let columns = code.columns.as_ref().map_or(Cow::Borrowed(weights), |c| c.forward(shape, weights));
    let (code, indices) = fed_back(code, &columns, factors, FEEDBACK_PASSES);
    (adaptive::encode(&code, &indices), reconstruct(&code, &indices, shape))
}

/// The code with a trellis, and the indices of weights whose errors are fed back. `weights` are the columns of all rows ([`ColumnScales::forward`]), `factors` those of
/// each group's columns in the order in which they are coded ([`ColumnScales::sequence`]); the steps of `code` are those of single quantizers.
pub fn fed_back(code: &LayerCode, weights: &[f32], factors: &[Vec<Factor>], passes: usize) -> (LayerCode, Indices) {
    let mut code = code.clone();
    let mut indices = code.no_indices();
    code.trellis = Trellis::Eight;
    for block in &mut code.blocks {
        block.step.0 = block.step.0.saturating_sub(GRID);
    }
    let Geometry { rank, width, .. } = code.geometry;
    let price = LOWERED_FED_BACK * quantize::BIT * (f32::from(GRID) / 4.0).exp2();
    for (group, factors) in factors.iter().enumerate() {
        let used: Vec<usize> = (group * rank..(group + 1) * rank).filter(|&row| code.is_used(row)).collect();
        let inputs = width / code.period.max(1);
        let Some((columns, sequence)) = code.columns.as_ref().map(|c| (c.columns(group, inputs), c.sequence(group, inputs))) else {
            continue;
        };
        let columns: Vec<f32> = sequence.iter().map(|&column| columns[column]).collect();
        let mut values = Vec::with_capacity(used.len() * width);
        for &row in &used {
            let inverse = 1.0 / code.row_step(row);
            let weights = &weights[row * width..(row + 1) * width];
            values.extend(sequence.iter().map(|&column| weights[column] * inverse));
        }
        let classes = |indices: &[i32]| {
            let rough: Vec<u8> = indices.iter().map(|q| q.unsigned_abs().min(255) as u8).collect();
            neighbourhoods(&rough, width, code.period)
        };
        let found = feedback::indices(feedback::Rows { weights: &values, columns: &columns, price }, factors, passes, classes);
        for (&row, found) in used.iter().zip(found.chunks(width.max(1))) {
            indices.coefficients[row * width..(row + 1) * width].copy_from_slice(found);
        }
    }
    (code, indices)
}

/// For each of some rows of magnitudes the class of those that a decoder knows around it: before it in its row and above, and what its row and
/// column are on average, which a coder learns.
fn neighbourhoods(magnitudes: &[u8], width: usize, period: usize) -> Vec<u8> {
    let rows = magnitudes.len() / width.max(1);
    let at = |row: Option<usize>, column: Option<usize>| match (row, column) {
        (Some(row), Some(column)) => u32::from(magnitudes[row * width + column]),
        _ => 0,
    };
    let mut columns = vec![0u32; width];
    for row in magnitudes.chunks(width.max(1)) {
        columns.iter_mut().zip(row).for_each(|(sum, m)| *sum += u32::from(*m));
    }
    let mut classes = Vec::with_capacity(magnitudes.len());
    for row in 0..rows {
        let sum: u32 = magnitudes[row * width..(row + 1) * width].iter().map(|m| u32::from(*m)).sum();
        for (j, column) in columns.iter().enumerate() {
            let left = |back: usize| at(Some(row), j.checked_sub(back));
            let above = |back: usize| at(row.checked_sub(back), Some(j));
            let near = 2 * left(1) + left(2) + 2 * left(period) + left(2 * period) + 2 * above(1) + above(2);
            let means = 9.0 * (sum as f32 / width as f32 + *column as f32 / rows as f32) / 2.0;
            classes.push(trellis::class(near + means as u32));
        }
    }
    classes
}

impl LayerCode {
    /// The indices (Young et al. 2021, eq. 5, and [`quantize::index`]). `coefficients` and `basis` are rows in the code's geometry, of weights
    /// scaled by `2^−exponent`; `second` are those of the second basis, if there is one. A basis that the decoder knows is not looked at.
    pub fn indices(&self, coefficients: &[f32], basis: &[f32], second: &[f32]) -> Indices {
        let put = |to: &mut [i32], values: &[f32], step: f32, depth: u8| {
            let inverse = 1.0 / step;
            to.iter_mut().zip(values).for_each(|(q, &v)| *q = quantize::index(v, inverse, depth));
        };
        let Geometry { dim, width, .. } = self.geometry;
        let mut out = self.no_indices();
        if let Some(code) = self.second {
            put(&mut out.second, second, code.step.size(), code.depth);
        }
        for row in (0..self.block_of_row.len()).filter(|&row| self.is_used(row)) {
            let block = self.block(row);
            if self.kind.stores_basis() {
                let at = row * dim..(row + 1) * dim;
                put(&mut out.basis[at.clone()], &basis[at], block.basis_step.size(), block.basis_depth);
            }
            let at = row * width..(row + 1) * width;
            put(&mut out.coefficients[at.clone()], &coefficients[at], self.row_step(row), block.depth);
        }
        out
    }

    /// Indices that are all zero.
    pub fn no_indices(&self) -> Indices {
        let Geometry { dim, width, .. } = self.geometry;
        let rows = self.geometry.rows();
        Indices {
            second: vec![0; self.second.map_or(0, |s| s.numbers())],
            basis: vec![0; if self.kind.stores_basis() { rows * dim } else { 0 }],
            coefficients: vec![0; rows * width],
        }
    }

    fn block(&self, row: usize) -> BlockCode {
        self.blocks[usize::from(self.block_of_row[row])]
    }

    /// Whether a row of coefficients is stored.
    pub fn is_used(&self, row: usize) -> bool {
        self.block(row).depth > 0
    }

    /// A row of the basis as it is decoded.
    pub fn decoded_basis(&self, row: usize, values: &[f32]) -> Vec<f32> {
        if !self.kind.stores_basis() {
            return values.to_vec();
        }
        let block = self.block(row);
        decoded(values, block.basis_step, block.basis_depth)
    }

    /// A row of coefficients as it is decoded.
    pub fn decoded_row<'a>(&self, row: usize, values: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let (size, depth) = (self.row_step(row), self.block(row).depth);
        let inverse = 1.0 / size;
        values.iter().map(move |&v| quantize::index(v, inverse, depth) as f32 * size)
    }

    /// Whether the trellis begins anew with each row.
    fn restarts(&self) -> bool {
        self.columns.is_some()
    }

    /// The step of a row of coefficients: its block's, times its scale.
    pub fn row_step(&self, row: usize) -> f32 {
        let step = self.block(row).step.size();
        self.scales.as_ref().map_or(step, |scales| step * scales[row].size())
    }
}

impl SecondCode {
    /// The second basis as it is decoded.
    pub fn decoded(&self, values: &[f32]) -> Vec<f32> {
        decoded(values, self.step, self.depth)
    }

    /// Bits of its numbers.
    pub fn bits(&self) -> u64 {
        u64::from(self.depth) * self.numbers() as u64
    }

    fn numbers(&self) -> usize {
        self.geometry.rank * self.geometry.dim
    }
}

fn decoded(values: &[f32], step: Step, depth: u8) -> Vec<f32> {
    let (size, inverse) = (step.size(), 1.0 / step.size());
    values.iter().map(|&v| quantize::index(v, inverse, depth) as f32 * size).collect()
}

/// A body with other gains, or with gains at all.
///
/// # Errors
/// Those of [`read`]; gains that are out of range, or not one for each output channel.
pub fn with_gains(body: &[u8], shape: &LayerShape, gains: Gains) -> Result<Vec<u8>, String> {
    let Read { mut code, coding, indices, .. } = read(body, shape)?;
    let fits = |code: i16| coding != Coding::Fixed || i8::try_from(code).is_ok();
    if gains.codes.len() != shape.groups * shape.outputs || !gains.are_in_range() || !gains.codes.iter().all(|&code| fits(code)) {
        return Err("its gains do not fit it".into());
    }
    code.gains = Some(gains);
    Ok(encode(&code, coding, &indices))
}

/// How many bits gains take, about where they are coded adaptively.
pub fn gain_bits(shape: &LayerShape, coding: Coding) -> u64 {
    let gains = (shape.groups * shape.outputs) as u64;
    match coding {
        Coding::Fixed => 8 + u64::from(fixed::GAIN_BITS) * gains,
        Coding::Adaptive => 24 + 5 * gains,
    }
}

/// Bits of an adaptively coded body: what [`encode`] writes, counted.
pub fn count(code: &LayerCode, indices: &Indices) -> f64 {
    adaptive::count(code, indices)
}

/// A body that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Side information.
    pub code: LayerCode,
    /// How the indices are coded.
    pub coding: Coding,
    /// The indices.
    pub indices: Indices,
    /// Bytes that the basis, or both, take; to within a few bytes where a range coder writes them.
    pub basis_bytes: u64,
}

/// Reads a body. The error is a clause that says what is wrong.
pub fn read(body: &[u8], shape: &LayerShape) -> Result<Read, String> {
    let &[first, coding, ref rest @ ..] = body else { return Err(SHORT.into()) };
    const NO_SHAPE: &str = "its transform does not exist for its shape";
    let mut kind = *TransformKind::ALL.get(usize::from(first & 0x0f)).ok_or("its transform is unknown to this version")?;
    let mut columns = None;
    if first & COLUMNS != 0 {
        let kernels = std::mem::replace(&mut kind, TransformKind::None);
        let cosine = matches!(kernels, TransformKind::IntraDct1 | TransformKind::IntraDct2);
        if !(kernels == TransformKind::None || cosine) || coding != Coding::Adaptive as u8 {
            return Err("it has scales of columns where there can be none".into());
        }
        if cosine && !dct::exists(shape, kernels) {
            return Err(NO_SHAPE.into());
        }
        columns = Some((ColumnScales::lengths(shape), kernels));
    }
    let geometry = Geometry::new(shape, kind).ok_or(NO_SHAPE)?;
    let second = Geometry::second(shape, kind);
    let gains = (first & GAINS != 0).then_some(shape.groups * shape.outputs);
    let (scaled, folded) = (first & SCALED != 0, first & FOLDED != 0);
    let first = First { kind, geometry, second, period: period(shape, kind), scaled, columns, gains, folded };
    match coding {
        0 => fixed::read(first, rest),
        1 => adaptive::read(first, rest),
        _ => Err("its index coding is unknown to this version".into()),
    }
}

const SHORT: &str = "its section is shorter than its side information";

/// What the first byte of a body says of a layer.
struct First {
    kind: TransformKind,
    geometry: Geometry,
    second: Option<Geometry>,
    period: usize,
    scaled: bool,
    /// Numbers of channels and taps that have scales, if columns have, and what these are.
    columns: Option<((usize, usize), TransformKind)>,
    /// Number of output channels, if they have gains.
    gains: Option<usize>,
    folded: bool,
}

/// Whether a body says that it is folded.
pub fn is_folded(body: &[u8]) -> bool {
    body.first().is_some_and(|first| first & FOLDED != 0)
}

/// Decodes a body to the layer's weights in canonical order, folded if they are ([`is_folded`]). The error is a clause that says what is wrong.
pub fn decode(body: &[u8], shape: &LayerShape) -> Result<Vec<f32>, String> {
    let Read { code, indices, .. } = read(body, shape)?;
    Ok(reconstruct(&code, &indices, shape))
}

/// A number for each row's numbers: indices of rows that are stored times steps, zeros for others.
fn stepped(code: &LayerCode, indices: &[i32], width: usize, step: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut values = vec![0f32; indices.len()];
    let width = width.max(1);
    for (row, (values, indices)) in values.chunks_mut(width).zip(indices.chunks(width)).enumerate().filter(|(row, _)| code.is_used(*row)) {
        let step = step(row);
        values.iter_mut().zip(indices).for_each(|(v, &q)| *v = q as f32 * step);
    }
    values
}

/// The coefficients of indices, of weights over `2^exponent`; zeros of rows that are not stored. Columns are in the layer's order.
pub fn coefficients(code: &LayerCode, indices: &Indices, shape: &LayerShape) -> Vec<f32> {
    let Geometry { width, rank, .. } = code.geometry;
    let levels = match code.trellis {
        Trellis::None => Cow::Borrowed(&indices.coefficients[..]),
        trellis => {
            let (mut levels, mut walk) = (indices.coefficients.clone(), Walk::new(trellis));
            for (_, row) in levels.chunks_mut(width.max(1)).enumerate().filter(|(row, _)| code.is_used(*row)) {
                if code.restarts() {
                    walk = Walk::new(trellis);
                }
                row.iter_mut().for_each(|k| *k = walk.pass(*k));
            }
            Cow::Owned(levels)
        }
    };
    let mut coefficients = stepped(code, &levels, width, |row| code.row_step(row));
    if let Some(columns) = &code.columns {
        for (group, rows) in coefficients.chunks_mut((rank * width).max(1)).enumerate() {
            let (scales, sequence) = (columns.columns(group, shape.inputs), columns.sequence(group, shape.inputs));
            let used = rows.chunks_mut(width.max(1)).enumerate().filter(|(row, _)| code.is_used(group * rank + row));
            for (_, row) in used {
                let coded = row.to_vec();
                sequence.iter().zip(coded).for_each(|(&column, v)| row[column] = v * scales[column]);
            }
        }
    }
    coefficients
}

/// The weights of indices.
pub fn reconstruct(code: &LayerCode, indices: &Indices, shape: &LayerShape) -> Vec<f32> {
    let geometry = code.geometry;
    let Geometry { groups, dim, width, rank } = geometry;
    let used: Vec<bool> = (0..geometry.rows()).map(|row| code.is_used(row)).collect();
    let mut coefficients = coefficients(code, indices, shape);
    if let Some(columns) = &code.columns {
        columns.backward(shape, &mut coefficients);
    }
    let mut x = if code.kind == TransformKind::None {
        coefficients
    } else {
        let basis =
            dct::basis(shape, code.kind).unwrap_or_else(|| stepped(code, &indices.basis, dim, |row| code.block(row).basis_step.size()));
        let second: Vec<f32> = code.second.map_or_else(Vec::new, |s| indices.second.iter().map(|&q| q as f32 * s.step.size()).collect());
        let mut x = Vec::with_capacity(shape.weights());
        for g in 0..groups {
            let (basis, coefficients) = (&basis[g * rank * dim..], &coefficients[g * rank * width..(g + 1) * rank * width]);
            let (coefficients, width) = match &code.second {
                None => (Cow::Borrowed(coefficients), width),
                Some(code) => {
                    let rows = two_sided::backward(&second, code.geometry, coefficients, shape.taps);
                    (Cow::Owned(rows), code.geometry.dim * shape.taps)
                }
            };
            x.append(&mut transform::reconstruct(&basis[..rank * dim], &coefficients, &used[g * rank..(g + 1) * rank], dim, width));
        }
        x
    };
    quantize::scale(&mut x, code.exponent.into());
    let mut weights = transform::from_matrix(shape, code.kind, x);
    if let Some(gains) = &code.gains {
        let width = (shape.inputs * shape.taps).max(1);
        weights.chunks_mut(width).zip(gains.sizes()).for_each(|(row, gain)| row.iter_mut().for_each(|w| *w *= gain));
    }
    weights
}
