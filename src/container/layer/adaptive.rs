//! Index coding 1: everything after the first two bytes in one range coder, by adaptive decisions ([`crate::entropy`]).
//!
//! Writing, counting and reading go the same way: `side`, then `planes`.

use super::{BlockCode, Coding, ColumnScales, First, Indices, LayerCode, Read, SecondCode, block_number_bits, first_byte, sorted_blocks};
use crate::{
    entropy::{
        Coder, Count, Numbers, Plane, Symbols,
        range::{Decoder, Encoder},
        signs_agree,
    },
    quantize::{
        Gains, SCALE_BITS, Scale, Step,
        trellis::{Trellis, Walk},
    },
    transform::Geometry,
};

/// What steps are told from: the first of a layer, the first of its basis.
const STEP: i32 = 168;
const BASIS_STEP: i32 = 152;
/// Bits of the unit of gains.
const GAIN_UNIT_BITS: u32 = 3;
/// Bits of the kind of trellis.
const TRELLIS_BITS: u32 = 2;
/// Most indices that a byte of a body can hold, at the greatest probability that there is.
const INDICES_PER_BYTE: usize = 11_400;

pub fn encode(code: &LayerCode, indices: &Indices) -> Vec<u8> {
    let (mut encoder, mut code, mut indices) = (Encoder::default(), code.clone(), indices.clone());
    // Writing what is there cannot fail: indices of quantizers are in range.
    let written = side(&mut encoder, &mut code).and_then(|()| planes(&mut encoder, &code, &mut indices));
    debug_assert!(written.is_ok());
    [&[first_byte(&code), Coding::Adaptive as u8][..], &encoder.finish()].concat()
}

/// Bits of a body, by the same way.
pub fn count(code: &LayerCode, indices: &Indices) -> f64 {
    let (mut count, mut code, mut indices) = (Count::default(), code.clone(), indices.clone());
    let counted = side(&mut count, &mut code).and_then(|()| planes(&mut count, &code, &mut indices));
    debug_assert!(counted.is_ok());
    16.0 + count.bits()
}

/// Reads what follows the first two bytes.
pub fn read(first: First, rest: &[u8]) -> Result<Read, String> {
    let First { kind, geometry, second, period, scaled, columns, gains, folded } = first;
    let mut decoder = Decoder::new(rest);
    let rows = geometry.rows();
    let mut code = LayerCode {
        kind,
        geometry,
        period,
        exponent: 0,
        block_of_row: vec![0; rows],
        scales: scaled.then(|| vec![Scale::ONE; rows]),
        columns: columns.map(|((channels, taps), kernels)| ColumnScales {
            channels: vec![Scale::ONE; channels],
            taps: vec![Scale::ONE; taps],
            sorted: false,
            kernels,
        }),
        gains: gains.map(|channels| Gains { coarseness: 0, codes: vec![0; channels] }),
        blocks: Vec::new(),
        second: second.map(|geometry| SecondCode { geometry, depth: 0, step: Step(0) }),
        folded,
        trellis: Trellis::None,
    };
    side(&mut decoder, &mut code)?;
    let used = (0..rows).filter(|&row| code.is_used(row)).count();
    let basis = if kind.stores_basis() { geometry.dim } else { 0 };
    if used.saturating_mul(geometry.width + basis) / INDICES_PER_BYTE > rest.len() + 8 {
        return Err("its section is shorter than its indices can be".into());
    }
    let mut indices = code.no_indices();
    let basis_bits = planes(&mut decoder, &code, &mut indices)?;
    if !decoder.at_end() {
        return Err("its section does not end with its indices".into());
    }
    Ok(Read { code, coding: Coding::Adaptive, indices, basis_bytes: (basis_bits / 8.0).ceil() as u64 })
}

/// Codes the side information.
fn side<C: Coder>(coder: &mut C, code: &mut LayerCode) -> Result<(), String> {
    code.exponent = coder.raw(u32::from(code.exponent.cast_unsigned()), 16) as u16 as i16;
    let blocks = 1 + coder.raw((code.blocks.len() as u32).wrapping_sub(1) & 0xff, 8) as usize;
    let rows = code.geometry.rows();
    if blocks > rows.max(1) {
        return Err("it has more blocks than rows".into());
    }
    code.blocks.resize(blocks, BlockCode { depth: 0, step: Step(0), basis_depth: 0, basis_step: Step(0) });
    let trellis = coder.raw(code.trellis as u32, TRELLIS_BITS);
    code.trellis = *Trellis::ALL.get(trellis as usize).ok_or("its trellis is unknown to this version")?;
    let (mut used, mut steps, mut basis_steps) = (Symbols::new(1), Numbers::default(), Numbers::default());
    let (mut last, mut last_basis) = (STEP, BASIS_STEP);
    let stored = code.kind.stores_basis();
    for block in &mut code.blocks {
        let is_used = used.code(coder, (block.depth > 0).into()) == 1;
        block.depth = if is_used { block.depth.max(1) } else { 0 };
        if !is_used {
            continue;
        }
        step(coder, &mut steps, &mut block.step, &mut last)?;
        if stored {
            block.basis_depth = block.basis_depth.max(1);
            step(coder, &mut basis_steps, &mut block.basis_step, &mut last_basis)?;
        }
    }
    if let Some(second) = &mut code.second {
        let is_used = used.code(coder, (second.depth > 0).into()) == 1;
        second.depth = if is_used { second.depth.max(1) } else { 0 };
        step(coder, &mut basis_steps, &mut second.step, &mut last_basis)?;
    }
    if let Some(sorted) = sorted_blocks(code.kind, code.geometry, blocks) {
        code.block_of_row = sorted;
    } else {
        let mut symbols = Symbols::new(block_number_bits(blocks));
        for block in &mut code.block_of_row {
            *block = symbols.code(coder, (*block).into()) as u16;
            if usize::from(*block) >= blocks {
                return Err("a row is in a block that does not exist".into());
            }
        }
    }
    let used: Vec<bool> = (0..rows).map(|row| code.is_used(row)).collect();
    scales(coder, code.scales.iter_mut().flatten().zip(used).filter(|(_, used)| *used).map(|(scale, _)| scale))?;
    if let Some(columns) = &mut code.columns {
        columns.sorted = coder.half(columns.sorted);
        scales(coder, columns.channels.iter_mut())?;
        scales(coder, columns.taps.iter_mut())?;
    }
    code.gains.as_mut().map_or(Ok(()), |found| gains(coder, found))
}

/// Codes scales, each by its difference from the one before.
fn scales<'a, C: Coder>(coder: &mut C, scales: impl Iterator<Item = &'a mut Scale>) -> Result<(), String> {
    let (mut numbers, mut last) = (Numbers::default(), 0);
    for scale in scales {
        last += numbers.code(coder, i32::from(scale.0) - last);
        *scale = u8::try_from(last).ok().filter(|&c| c < 1 << SCALE_BITS).map(Scale).ok_or("a scale is out of range")?;
    }
    Ok(())
}

/// Codes gains: their unit, their mean, and how each differs from it.
fn gains<C: Coder>(coder: &mut C, gains: &mut Gains) -> Result<(), String> {
    gains.coarseness = coder.raw(gains.coarseness.into(), GAIN_UNIT_BITS) as u8;
    let sum: i64 = gains.codes.iter().map(|&c| i64::from(c)).sum();
    let mean = if C::READS { 0 } else { sum / gains.codes.len().max(1) as i64 };
    let mean = Numbers::default().code(coder, mean as i32);
    let mut numbers = Numbers::default();
    for code in &mut gains.codes {
        let found = mean + numbers.code(coder, i32::from(*code) - mean);
        *code = i16::try_from(found).map_err(|_| "a gain is out of range")?;
    }
    if gains.are_in_range() { Ok(()) } else { Err("a gain is out of range".into()) }
}

/// Codes a step by its difference from the last one.
fn step<C: Coder>(coder: &mut C, numbers: &mut Numbers, step: &mut Step, last: &mut i32) -> Result<(), String> {
    *last += numbers.code(coder, i32::from(step.0) - *last);
    *step = u8::try_from(*last).map(Step).map_err(|_| "a step is out of range")?;
    Ok(())
}

/// Codes the indices: of the second basis, of the basis, of the coefficients. Returns the bits of the bases.
fn planes<C: Coder>(coder: &mut C, code: &LayerCode, indices: &mut Indices) -> Result<f64, String> {
    let Geometry { dim, width, .. } = code.geometry;
    let before = coder.bits();
    if let Some(second) = code.second.filter(|s| s.depth > 0) {
        plane(coder, &mut indices.second, [second.geometry.dim, 1], (Trellis::None, false), &|_| true)?;
    }
    if code.kind.stores_basis() {
        plane(coder, &mut indices.basis, [dim, 1], (Trellis::None, false), &|row| code.is_used(row))?;
    }
    let bases = coder.bits() - before;
    let trellis = (code.trellis, code.restarts());
    plane(coder, &mut indices.coefficients, [width, code.period], trellis, &|row| code.is_used(row))?;
    Ok(bases)
}

/// Codes the rows of a matrix that are used. `restarts`: the trellis begins anew with each row. `used` is asked once a row; were it generic,
/// the coder's loops would be compiled for each caller.
fn plane<C: Coder>(
    coder: &mut C,
    indices: &mut [i32],
    [width, period]: [usize; 2],
    (trellis, restarts): (Trellis, bool),
    used: &dyn Fn(usize) -> bool,
) -> Result<(), String> {
    let signs = coder.half(signs_agree(indices, width, period));
    let mut plane = Plane::new(width, period, signs);
    let mut walk = Walk::new(trellis);
    for (_, indices) in indices.chunks_mut(width.max(1)).enumerate().filter(|(row, _)| used(*row)) {
        let mut first = restarts;
        if restarts {
            walk = Walk::new(trellis);
        }
        plane.row(coder, indices, |before| {
            if !std::mem::take(&mut first) {
                before.map(|index| walk.pass(index));
            }
            walk.quantizer()
        })?;
    }
    Ok(())
}
