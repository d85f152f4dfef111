//! Index coding 0: every index in the bits of its block's depth.

use super::{
    BlockCode, Coding, First, Indices, LayerCode, Read, SHORT, SecondCode, block_number_bits, body_bytes, first_byte, rows_are_sorted,
    side_bits, sorted_blocks,
};
use crate::{
    container::bits::{BitReader, BitWriter},
    quantize::{Gains, MAX_BASIS_DEPTH, MAX_DEPTH, SCALE_BITS, Scale, Step, least_index, trellis::Trellis},
};

/// Bits of the code of a gain.
pub const GAIN_BITS: u32 = 8;

pub fn encode(code: &LayerCode, indices: &Indices) -> Vec<u8> {
    let stored = code.kind.stores_basis();
    let mut w = BitWriter::default();
    w.put(first_byte(code).into(), 8);
    w.put(Coding::Fixed as u32, 8);
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
    if !rows_are_sorted(code.kind, code.geometry) {
        let bits = block_number_bits(code.blocks.len());
        code.block_of_row.iter().for_each(|&b| w.put(b.into(), bits));
    }
    for scale in code.scales.iter().flatten() {
        w.put(scale.0.into(), SCALE_BITS);
    }
    if let Some(gains) = &code.gains {
        w.put(gains.coarseness.into(), 8);
        gains.codes.iter().for_each(|&code| w.put(u32::from((code as i8).cast_unsigned()), GAIN_BITS));
    }
    let mut put = |indices: &[i32], depth: u8| {
        let least = least_index(depth);
        indices.iter().for_each(|&q| w.put((q - least) as u32, depth.into()));
    };
    if let Some(second) = code.second {
        put(&indices.second, second.depth);
    }
    let (dim, width) = (code.geometry.dim, code.geometry.width);
    for row in (0..code.block_of_row.len()).filter(|&row| code.is_used(row)) {
        let block = code.block(row);
        if stored {
            put(&indices.basis[row * dim..(row + 1) * dim], block.basis_depth);
        }
        put(&indices.coefficients[row * width..(row + 1) * width], block.depth);
    }
    w.finish()
}

/// Reads what follows the first two bytes.
pub fn read(first: First, rest: &[u8]) -> Result<Read, String> {
    let mut r = BitReader::new(rest);
    let mut get = |bits: u32| r.get(bits).ok_or(SHORT);
    let exponent = get(16)? as u16 as i16;
    let blocks = get(8)? as usize + 1;
    let First { kind, geometry, second, period, scaled, folded, gains, .. } = first;
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
    let second = match second {
        None => None,
        Some(geometry) => {
            let code = SecondCode { geometry, depth: get(8)? as u8, step: Step(get(8)? as u8) };
            if code.depth > MAX_BASIS_DEPTH {
                return Err("the depth of its second basis is out of range".into());
            }
            Some(code)
        }
    };
    let rows = geometry.rows();
    let block_of_row = match sorted_blocks(kind, geometry, blocks) {
        Some(sorted) => sorted,
        None => {
            let bits = block_number_bits(blocks);
            let mut of_row = Vec::with_capacity(rows);
            for _ in 0..rows {
                let block = get(bits)? as u16;
                if usize::from(block) >= blocks {
                    return Err("a row is in a block that does not exist".into());
                }
                of_row.push(block);
            }
            of_row
        }
    };
    let mut scales = None;
    if scaled {
        scales = Some((0..rows).map(|_| get(SCALE_BITS).map(|c| Scale(c as u8))).collect::<Result<Vec<_>, _>>()?);
    }
    let gains = match gains {
        None => None,
        Some(channels) => {
            let coarseness = get(8)? as u8;
            let codes = (0..channels).map(|_| get(GAIN_BITS).map(|c| i16::from(c as u8 as i8))).collect::<Result<Vec<_>, _>>()?;
            Some(Gains { coarseness, codes }).filter(Gains::are_in_range).ok_or("a gain is out of range").map(Some)?
        }
    };
    let (columns, trellis) = (None, Trellis::None);
    let code = LayerCode { kind, geometry, period, exponent, block_of_row, scales, columns, gains, blocks: table, second, folded, trellis };
    let (want, have) = (body_bytes(code.bits()), rest.len() as u64 + 2);
    if want != have {
        return Err(format!("its section has {have} bytes where its depths need {want}"));
    }
    // Only now is there memory for the indices: the body is as long as they need.
    let mut indices = code.no_indices();
    let mut take = |out: &mut [i32], depth: u8| -> Result<(), String> {
        let least = least_index(depth);
        for q in out {
            *q = r.get(depth.into()).ok_or("its section ends within its indices")? as i32 + least;
        }
        Ok(())
    };
    if let Some(second) = code.second {
        take(&mut indices.second, second.depth)?;
    }
    let (dim, width) = (geometry.dim, geometry.width);
    for row in (0..rows).filter(|&row| code.is_used(row)) {
        let block = code.block(row);
        if stored {
            take(&mut indices.basis[row * dim..(row + 1) * dim], block.basis_depth)?;
        }
        take(&mut indices.coefficients[row * width..(row + 1) * width], block.depth)?;
    }
    if !r.at_end() {
        return Err("its section does not end with its indices".into());
    }
    let basis_bytes = code.basis_bits() / 8;
    Ok(Read { code, coding: Coding::Fixed, indices, basis_bytes })
}

impl LayerCode {
    /// Bits of the whole body in fixed lengths.
    fn bits(&self) -> u64 {
        let row = |block: &u16| u64::from(self.blocks[usize::from(*block)].depth) * self.geometry.width as u64;
        let coefficients = self.block_of_row.iter().map(row).sum::<u64>();
        side_bits(self.kind, self.geometry, self.blocks.len(), self.scales.is_some()) + self.gain_bits() + coefficients + self.basis_bits()
    }

    /// Bits of the gains.
    fn gain_bits(&self) -> u64 {
        self.gains.as_ref().map_or(0, |gains| 8 + u64::from(GAIN_BITS) * gains.codes.len() as u64)
    }

    /// Bits of the basis, or of both.
    fn basis_bits(&self) -> u64 {
        let width = self.geometry.basis_width(self.kind) as u64;
        let blocks = self.block_of_row.iter().map(|b| self.blocks[usize::from(*b)]);
        let second = self.second.map_or(0, |second| second.bits());
        blocks.filter(|b| b.depth > 0).map(|b| u64::from(b.basis_depth) * width).sum::<u64>() + second
    }
}
