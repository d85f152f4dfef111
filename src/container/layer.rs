//! The body of a layer section: side information and fixed-length indices (docs/format.md, "Layer section").
//!
//! What the decoder computes uses `f32` additions and multiplications in a fixed order, never fused, and exact tables, so
//! decoded weights are the same bits on every machine and in every build.

use std::borrow::Cow;

use super::bits::{BitReader, BitWriter};
use crate::{
    io::LayerShape,
    quantize::{self, MAX_BASIS_DEPTH, MAX_DEPTH, ROW_SCALE_BITS, RowScale, Step, least_index},
    report::TransformKind,
    transform::{self, Geometry, dct, two_sided},
};

/// Most blocks of a layer: a block number fits a byte.
pub const MAX_BLOCKS: usize = 256;

/// Bytes before the block table: transform and flags, index coding, exponent, number of blocks minus one.
const FIXED_BYTES: usize = 5;
/// Bytes after the block table of a two-sided transform: depth and step of its second basis.
const SECOND_BYTES: usize = 2;
/// Index coding 0: fixed-length indices. Other values are reserved for entropy coding.
const FIXED_LENGTH: u8 = 0;
/// Flag in the first byte: rows have scales of their own.
const SCALED: u8 = 0x10;
/// Flag in the first byte: the batch norm after the layer is folded in. Readers that cannot take it out again refuse the flag.
const FOLDED: u8 = 0x20;

/// How a block of rows is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCode {
    /// Bits per coefficient.
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

/// A layer's side information: all a decoder needs besides the indices.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCode {
    /// The transform.
    pub kind: TransformKind,
    /// Its sizes; follows from the layer's shape and the transform.
    pub geometry: Geometry,
    /// Weights are `2^exponent` times what is coded.
    pub exponent: i16,
    /// Block of each row.
    pub block_of_row: Vec<u16>,
    /// Scale of each row, if steps are scaled per row.
    pub scales: Option<Vec<RowScale>>,
    /// The blocks.
    pub blocks: Vec<BlockCode>,
    /// The second basis of a two-sided transform.
    pub second: Option<SecondCode>,
    /// Whether the weights are those of the layer with the batch norm after it folded in ([`super::fold`]).
    pub folded: bool,
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

fn block_number_bits(blocks: usize) -> u32 {
    usize::BITS - (blocks - 1).leading_zeros()
}

fn block_entry_bytes(kind: TransformKind) -> usize {
    if kind.stores_basis() { 4 } else { 2 }
}

/// Bits of a layer's body that do not depend on the depths.
pub fn side_bits(kind: TransformKind, geometry: Geometry, blocks: usize, scaled: bool) -> u64 {
    let per_row = if rows_are_sorted(kind, geometry) { 0 } else { block_number_bits(blocks) } + if scaled { ROW_SCALE_BITS } else { 0 };
    let second = if kind == TransformKind::TwoSided { SECOND_BYTES } else { 0 };
    8 * (FIXED_BYTES + blocks * block_entry_bytes(kind) + second) as u64 + geometry.rows() as u64 * u64::from(per_row)
}

/// Bytes of a body of `bits` side and index bits.
pub fn body_bytes(bits: u64) -> u64 {
    bits.div_ceil(8)
}

/// Encodes a body. `coefficients` and `basis` are rows in the code's geometry, of weights scaled by `2^−exponent`; `second` are those of the
/// second basis, if there is one. A basis that the decoder knows is not looked at.
pub fn encode(code: &LayerCode, coefficients: &[f32], basis: &[f32], second: &[f32]) -> Vec<u8> {
    let geometry = code.geometry;
    let stored = code.kind.stores_basis();
    let mut w = BitWriter::default();
    let kind = TransformKind::ALL.iter().position(|k| *k == code.kind).expect("every transform has a code") as u32;
    let flag = |on: bool, flag: u8| if on { u32::from(flag) } else { 0 };
    w.put(kind | flag(code.scales.is_some(), SCALED) | flag(code.folded, FOLDED), 8);
    w.put(FIXED_LENGTH.into(), 8);
    w.put(u32::from(code.exponent as u16), 16);
    w.put(code.blocks.len() as u32 - 1, 8);
    for block in &code.blocks {
        w.put(block.depth.into(), 8);
        w.put(block.step.0.into(), 8);
        if stored {
            w.put(block.basis_depth.into(), 8);
            w.put(block.basis_step.0.into(), 8);
        }
    }
    if let Some(second) = code.second {
        w.put(second.depth.into(), 8);
        w.put(second.step.0.into(), 8);
    }
    if !rows_are_sorted(code.kind, geometry) {
        let bits = block_number_bits(code.blocks.len());
        code.block_of_row.iter().for_each(|&b| w.put(b.into(), bits));
    }
    for scale in code.scales.iter().flatten() {
        w.put(scale.0.into(), ROW_SCALE_BITS);
    }
    let mut put = |values: &[f32], step: f32, depth: u8| {
        let (inverse, least) = (1.0 / step, least_index(depth));
        values.iter().for_each(|&v| w.put((quantize::index(v, inverse, depth) - least) as u32, depth.into()));
    };
    if let Some(code) = code.second {
        put(second, code.step.size(), code.depth);
    }
    for (row, &block) in code.block_of_row.iter().enumerate() {
        let block = code.blocks[usize::from(block)];
        if block.depth == 0 {
            continue;
        }
        if stored {
            put(&basis[row * geometry.dim..(row + 1) * geometry.dim], block.basis_step.size(), block.basis_depth);
        }
        put(&coefficients[row * geometry.width..(row + 1) * geometry.width], code.row_step(row), block.depth);
    }
    w.finish()
}

impl LayerCode {
    /// Whether a row of coefficients is stored.
    pub fn is_used(&self, row: usize) -> bool {
        self.blocks[usize::from(self.block_of_row[row])].depth > 0
    }

    /// A row of the basis as it is decoded.
    pub fn decoded_basis(&self, row: usize, values: &[f32]) -> Vec<f32> {
        if !self.kind.stores_basis() {
            return values.to_vec();
        }
        let block = self.blocks[usize::from(self.block_of_row[row])];
        decoded(values, block.basis_step, block.basis_depth)
    }

    /// A row of coefficients as it is decoded.
    pub fn decoded_row<'a>(&self, row: usize, values: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let (size, depth) = (self.row_step(row), self.blocks[usize::from(self.block_of_row[row])].depth);
        let inverse = 1.0 / size;
        values.iter().map(move |&v| quantize::index(v, inverse, depth) as f32 * size)
    }

    /// The step of a row of coefficients: its block's, times its scale.
    fn row_step(&self, row: usize) -> f32 {
        let step = self.blocks[usize::from(self.block_of_row[row])].step.size();
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

/// Reads a body's side information. The error is a clause that says what is wrong.
pub fn read_code(body: &[u8], shape: &LayerShape) -> Result<LayerCode, String> {
    read(body, shape).map(|(code, _)| code)
}

fn read<'a>(body: &'a [u8], shape: &LayerShape) -> Result<(LayerCode, BitReader<'a>), String> {
    const SHORT: &str = "its section is shorter than its side information";
    let mut r = BitReader::new(body);
    let mut get = |bits: u32| r.get(bits).ok_or(SHORT);
    let first = get(8)? as u8;
    let kind = *TransformKind::ALL.get(usize::from(first & 0x0f)).ok_or("its transform is unknown to this version")?;
    if first & !(FOLDED | SCALED | 0x0f) != 0 {
        return Err("it has flags that this version does not know".into());
    }
    if get(8)? != u32::from(FIXED_LENGTH) {
        return Err("its index coding is unknown to this version".into());
    }
    let exponent = get(16)? as u16 as i16;
    let blocks = get(8)? as usize + 1;
    let geometry = Geometry::new(shape, kind).ok_or("its transform does not exist for its shape")?;
    if blocks > geometry.rows().max(1) {
        return Err("it has more blocks than rows".into());
    }
    // Every row takes at least its share of side information or indices: a body this short cannot describe that many rows.
    let stored = kind.stores_basis();
    let mut table = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        let (depth, step) = (get(8)? as u8, Step(get(8)? as u8));
        let (basis_depth, basis_step) = if stored { (get(8)? as u8, Step(get(8)? as u8)) } else { (0, Step(0)) };
        if depth > MAX_DEPTH || basis_depth > MAX_BASIS_DEPTH || (stored && depth > 0 && basis_depth == 0) {
            return Err("a depth is out of range".into());
        }
        table.push(BlockCode { depth, step, basis_depth, basis_step });
    }
    let mut second = None;
    if let Some(geometry) = Geometry::second(shape, kind) {
        let code = SecondCode { geometry, depth: get(8)? as u8, step: Step(get(8)? as u8) };
        if code.depth > MAX_BASIS_DEPTH {
            return Err("the depth of its second basis is out of range".into());
        }
        second = Some(code);
    }
    let rows = geometry.rows();
    let mut block_of_row = Vec::with_capacity(rows);
    if rows_are_sorted(kind, geometry) {
        block_of_row.extend((0..rows).map(|rank| block_of_rank(rank, rows, blocks)));
    } else {
        let bits = block_number_bits(blocks);
        for _ in 0..rows {
            let block = get(bits)? as u16;
            if usize::from(block) >= blocks {
                return Err("a row is in a block that does not exist".into());
            }
            block_of_row.push(block);
        }
    }
    let mut scales = None;
    if first & SCALED != 0 {
        scales = Some((0..rows).map(|_| get(ROW_SCALE_BITS).map(|c| RowScale(c as u8))).collect::<Result<Vec<_>, _>>()?);
    }
    let code = LayerCode { kind, geometry, exponent, block_of_row, scales, blocks: table, second, folded: first & FOLDED != 0 };
    let want = body_bytes(code.bits());
    if want != body.len() as u64 {
        return Err(format!("its section has {} bytes where its depths need {want}", body.len()));
    }
    Ok((code, r))
}

impl LayerCode {
    /// Bits of the whole body.
    pub fn bits(&self) -> u64 {
        let row = |block: &u16| u64::from(self.blocks[usize::from(*block)].depth) * self.geometry.width as u64;
        let coefficients = self.block_of_row.iter().map(row).sum::<u64>();
        side_bits(self.kind, self.geometry, self.blocks.len(), self.scales.is_some()) + coefficients + self.basis_bits()
    }

    /// Bits of the basis, or of both.
    pub fn basis_bits(&self) -> u64 {
        let width = self.geometry.basis_width(self.kind) as u64;
        let blocks = self.block_of_row.iter().map(|b| self.blocks[usize::from(*b)]);
        let second = self.second.map_or(0, |second| second.bits());
        blocks.filter(|b| b.depth > 0).map(|b| u64::from(b.basis_depth) * width).sum::<u64>() + second
    }
}

/// Whether a body says that it is folded.
pub fn is_folded(body: &[u8]) -> bool {
    body.first().is_some_and(|first| first & FOLDED != 0)
}

/// Decodes a body to the layer's weights in canonical order, folded if they are ([`is_folded`]). The error is a clause that says what is wrong.
pub fn decode(body: &[u8], shape: &LayerShape) -> Result<Vec<f32>, String> {
    let (code, mut r) = read(body, shape)?;
    let geometry = code.geometry;
    let (transformed, stored) = (code.kind != TransformKind::None, code.kind.stores_basis());
    let mut basis = match dct::basis(shape, code.kind) {
        Some(known) => known,
        None => vec![0f32; if stored { geometry.rows() * geometry.dim } else { 0 }],
    };
    let mut coefficients = vec![0f32; geometry.rows() * geometry.width];
    let mut get = |out: &mut [f32], step: f32, depth: u8| -> Result<(), String> {
        let least = least_index(depth);
        for v in out {
            let code = r.get(depth.into()).ok_or("its section ends within its indices")?;
            *v = (code as i32 + least) as f32 * step;
        }
        Ok(())
    };
    let mut second = vec![0f32; code.second.map_or(0, |s| s.numbers())];
    if let Some(code) = code.second {
        get(&mut second, code.step.size(), code.depth)?;
    }
    let mut used = vec![false; geometry.rows()];
    for row in 0..geometry.rows() {
        let block = code.blocks[usize::from(code.block_of_row[row])];
        if block.depth == 0 {
            continue;
        }
        used[row] = true;
        if stored {
            get(&mut basis[row * geometry.dim..(row + 1) * geometry.dim], block.basis_step.size(), block.basis_depth)?;
        }
        get(&mut coefficients[row * geometry.width..(row + 1) * geometry.width], code.row_step(row), block.depth)?;
    }
    if !r.at_end() {
        return Err("its section does not end with its indices".into());
    }
    let mut x = if transformed {
        let mut x = Vec::with_capacity(shape.weights());
        for g in 0..geometry.groups {
            let Geometry { dim, width, rank, .. } = geometry;
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
    } else {
        coefficients
    };
    quantize::scale(&mut x, code.exponent.into());
    Ok(transform::from_matrix(shape, code.kind, x))
}
