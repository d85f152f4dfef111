//! A matrix of indices, row after row: binarisation, and the contexts of its decisions.
//!
//! An index is coded as its magnitude without the plane's low bits, by decisions "greater than 0, 1, 2, …" up to an escape, its sign after the
//! first of them, and the low bits raw; how many those are is coded before each row. Each decision has three contexts. Those on magnitudes: a weighted sum of the magnitudes around it; the
//! running means of its row and of its column; the three nearest magnitudes themselves. Those on signs, which are raw unless a plane says otherwise: signs around it in its row and in the
//! same kernel; the sign above it and its place in the kernel; running means of signs. Only what a decoder has already seen counts.

use super::{
    Coder, Numbers, Place,
    model::{Bit, CONTEXTS, Mixer, rate},
};

/// Decisions with contexts on a magnitude; larger ones are escapes.
pub const DECISIONS: usize = 14;
/// Classes of the weighted sum of neighbours, twice: for both quantizers of a trellis.
pub const CLASSES: usize = 2 * SUMS;
const SUMS: usize = 18;
const ROW_MEANS: usize = 16;
const COLUMN_MEANS: usize = 12;
/// Greatest magnitude that a neighbour counts for.
const CAP: u32 = 15;
/// Longest period of columns that is looked back at.
const PERIOD: usize = 1024;
/// Greatest exponent of an escape.
const ESCAPE: u32 = 24;
/// Magnitudes are below this: `f32` holds them exactly.
const MAGNITUDE: u32 = 1 << 24;
/// Most low bits.
const MAX_SHIFT: u32 = 15;

/// Probabilities of all decisions on a magnitude in one context.
type Context = [Bit; DECISIONS];

/// Codes the rows of a matrix of indices.
#[derive(Debug)]
pub struct Plane {
    /// Distance to the same tap of the channel before; 1 if there are no taps.
    period: usize,
    /// Low bits of the row before, and how their number changes.
    shift: u32,
    shifts: Numbers,
    magnitudes: Magnitudes,
    /// Nothing where signs are raw.
    signs: Option<Signs>,
    /// Zeros before a row: what lies left of it.
    margin: usize,
    /// Indices without low bits, of this row and the two before it, after the margin.
    rows: [Vec<i8>; 3],
    columns: Vec<Mean>,
    row: Mean,
    /// The last index.
    last: Option<i32>,
}

#[derive(Debug)]
struct Magnitudes {
    by_sum: Vec<Context>,
    by_means: Vec<Context>,
    by_pattern: Vec<Context>,
    mixers: [Mixer; DECISIONS],
}

#[derive(Debug)]
struct Signs {
    by_row: [Bit; 27],
    by_place: [Bit; 81],
    by_means: [Bit; 49],
    mixer: Mixer,
}

/// Running means of a row or column.
#[derive(Debug, Clone, Copy)]
struct Mean {
    /// Of magnitudes; of a row in 1/256, of a column in 1/128.
    magnitude: i32,
    /// Of signs; of a row in 1/128, of a column in 1/64.
    sign: i32,
}

/// Half octaves: 0, 1, 2, 3, 4, 6, 8, 12, … begin a class each.
#[inline]
fn class(v: u32, classes: usize) -> usize {
    if v == 0 {
        return 0;
    }
    let octave = v.ilog2();
    let upper = if octave > 0 { v >> (octave - 1) & 1 } else { 0 };
    ((1 + 2 * octave + upper) as usize).min(classes - 1)
}

/// 0, 1 or 2 for negative, zero, positive.
#[inline]
fn sign(v: i8) -> usize {
    (i32::from(v).signum() + 1) as usize
}

/// How many low bits of a row are best left out of the decisions: such that the rest is not much more than 3 on average.
fn best_shift(indices: &[i32]) -> u32 {
    let sum: u64 = indices.iter().map(|q| u64::from(q.unsigned_abs())).sum();
    let mean = sum / indices.len().max(1) as u64;
    (2 * mean / 3).checked_ilog2().unwrap_or(0).min(MAX_SHIFT)
}

/// Whether signs of neighbours tell enough of signs for contexts to pay: more than a hundredth of a bit a sign, by how often they agree with the
/// sign to the left, at the same tap of the channel before, above, or two to the left. Arguments as of [`Plane::new`], and all rows.
pub fn signs_agree(indices: &[i32], width: usize, taps: usize) -> bool {
    const LEAST: f64 = 0.01;
    let width = width.max(1);
    let neighbours = [1, 2, taps.max(1), width];
    let (mut pairs, mut same) = ([0u32; 4], [0u32; 4]);
    for (row, values) in indices.chunks(width).enumerate() {
        for (j, &v) in values.iter().enumerate().filter(|(_, v)| **v != 0) {
            for (k, &back) in neighbours.iter().enumerate() {
                // In the row, but for what lies above.
                let there = if k == 3 { row > 0 } else { j >= back };
                let other = if there { indices[row * width + j - back] } else { 0 };
                pairs[k] += u32::from(other != 0);
                same[k] += u32::from(other != 0 && (other < 0) == (v < 0));
            }
        }
    }
    pairs.iter().zip(same).any(|(&pairs, same)| {
        let p = (f64::from(same) + 1.0) / (f64::from(pairs) + 2.0);
        let entropy = -p * p.log2() - (1.0 - p) * (1.0 - p).log2();
        // Chance alone makes agreement that tells about 1/(2n ln 2) of a bit.
        1.0 - entropy > LEAST + 2.0 / (f64::from(pairs) + 1.0)
    })
}

impl Plane {
    /// A plane with rows of `width` indices, whose columns repeat after `taps`. `signs` says whether signs have contexts.
    pub fn new(width: usize, taps: usize, signs: bool) -> Plane {
        let contexts = |n: usize| vec![[Bit::NEW; DECISIONS]; n];
        let period = if taps <= PERIOD { taps.max(1) } else { 1 };
        let margin = 2 * period.max(2);
        Plane {
            period,
            margin,
            shift: 0,
            shifts: Numbers::default(),
            magnitudes: Magnitudes {
                by_sum: contexts(CLASSES),
                by_means: contexts(2 * ROW_MEANS * COLUMN_MEANS),
                by_pattern: contexts(2 * 64),
                mixers: [Mixer::NEW; DECISIONS],
            },
            signs: signs.then_some(Signs { by_row: [Bit::NEW; 27], by_place: [Bit::NEW; 81], by_means: [Bit::NEW; 49], mixer: Mixer::NEW }),
            rows: [0; 3].map(|_| vec![0; margin + width]),
            columns: vec![Mean { magnitude: 128, sign: 0 }; width],
            row: Mean { magnitude: 256, sign: 0 },
            last: None,
        }
    }

    /// Codes a row. `quantizer` says of an index which of the two quantizers of a trellis it belongs to, from the index before it, nothing before
    /// the first of the plane; it is always the first quantizer without a trellis. A decoder writes the indices that it finds.
    ///
    /// # Errors
    /// A decoder may find a magnitude, or a number of low bits, that does not exist.
    pub fn row<C: Coder>(&mut self, coder: &mut C, row: &mut [i32], mut quantizer: impl FnMut(Option<i32>) -> usize) -> Result<(), String> {
        debug_assert_eq!(row.len(), self.columns.len());
        let best = if C::READS { 0 } else { best_shift(row) };
        let change = self.shifts.code(coder, best.cast_signed() - self.shift.cast_signed());
        self.shift = self.shift.checked_add_signed(change).filter(|s| *s <= MAX_SHIFT).ok_or("a row of it has too many low bits")?;
        let Plane { period, margin, shift, magnitudes, signs, rows: [now, above, above_it], columns, row: mean, last, .. } = self;
        let (period, margin, shift) = (*period, *margin, *shift);
        mean.sign = 0;
        let mut place = 0;
        for (j, (index, column)) in row.iter_mut().zip(columns.iter_mut()).enumerate() {
            let at = margin + j;
            let [left, left2, left3, tap, tap2] = [now[at - 1], now[at - 2], now[at - 3], now[at - period], now[at - 2 * period]];
            let (up, up2) = (above[at], above_it[at]);
            let near = |v: i8| u32::from(v.unsigned_abs());
            let sum = if period > 1 {
                2 * near(left) + near(left2) + 2 * near(tap) + near(tap2) + 2 * near(up) + near(up2)
            } else {
                3 * near(left) + 2 * near(left2) + near(left3) + 2 * near(up) + near(up2)
            };
            let quantizer = quantizer(*last);
            let sums = quantizer * SUMS + class(2 * sum, SUMS);
            let means = class((mean.magnitude >> 4) as u32, ROW_MEANS) * COLUMN_MEANS + class((column.magnitude >> 4) as u32, COLUMN_MEANS);
            let pattern = (quantizer * 64) as u32 + 16 * near(left).min(3) + 4 * near(tap).min(3) + near(up).min(3);
            let (by_sum, by_pattern) = (&mut magnitudes.by_sum[sums], &mut magnitudes.by_pattern[pattern as usize]);
            let mut code_sign = |coder: &mut C| {
                let Some(signs) = signs.as_mut() else { return coder.half(*index < 0) };
                let by_means = (((mean.sign + 16) >> 5).clamp(-3, 3) + 3) * 7 + ((column.sign + 4) >> 3).clamp(-3, 3) + 3;
                let bits: [&mut Bit; CONTEXTS] = [
                    &mut signs.by_row[9 * sign(left) + 3 * sign(left3) + sign(tap)],
                    &mut signs.by_place[27 * sign(up) + 9 * sign(left2) + place.min(8)],
                    &mut signs.by_means[by_means as usize],
                ];
                signs.mixer.code(bits, |p| coder.code(*index < 0, p, Place::NONE))
            };

            let magnitude = index.unsigned_abs();
            let high = magnitude >> shift;
            let mut found = 0;
            let mut negative = false;
            let mut by_means = &mut magnitudes.by_means[means];
            while (found as usize) < DECISIONS {
                let t = found as usize;
                let bits: [&mut Bit; CONTEXTS] = [&mut by_sum[t], &mut by_means[t], &mut by_pattern[t]];
                if !magnitudes.mixers[t].code(bits, |p| coder.code(high > found, p, Place { class: sums, decision: t })) {
                    break;
                }
                found += 1;
                if found == 1 {
                    negative = code_sign(coder);
                    // A fixed-length quantizer has one level more on the negative side.
                    by_means = &mut magnitudes.by_means[means + if negative { ROW_MEANS * COLUMN_MEANS } else { 0 }];
                }
            }
            if found as usize == DECISIONS {
                found += escape(coder, high.wrapping_sub(found))?;
            }
            let magnitude = u64::from(found) << shift | u64::from(coder.raw(magnitude & ((1 << shift) - 1), shift));
            if magnitude >= MAGNITUDE.into() {
                return Err("an index of it is out of range".into());
            }
            if found == 0 && magnitude > 0 {
                negative = code_sign(coder);
            }
            *index = if negative { -(magnitude as i32) } else { magnitude as i32 };

            *last = Some(*index);
            place = if place + 1 == period { 0 } else { place + 1 };
            let (capped, signed) = (found.min(CAP) as i8, index.signum());
            now[at] = if negative { -capped } else { capped };
            let found = found.min(255) as i32;
            mean.magnitude += (((found << 8) - mean.magnitude) * rate(7 + j.min(120) as u8)) >> 14;
            mean.sign += 8 * signed - (mean.sign >> 4);
            column.magnitude += 16 * found - (column.magnitude >> 3);
            column.sign += 8 * signed - (column.sign >> 3);
        }
        self.rows.rotate_right(1);
        Ok(())
    }
}

/// A number in an Elias-γ code of raw bits.
fn escape<C: Coder>(coder: &mut C, value: u32) -> Result<u32, String> {
    let more = value.wrapping_add(1);
    let exponent = more.max(1).ilog2();
    let mut found = 0;
    while coder.half(found < exponent) {
        found += 1;
        if found > ESCAPE {
            return Err("an index of it is out of range".into());
        }
    }
    let low = coder.raw(more & ((1 << found) - 1), found);
    Ok((1 << found | low) - 1)
}
