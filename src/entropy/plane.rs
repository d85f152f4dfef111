//! A matrix of indices, row after row: binarisation, and the contexts of its decisions.
//!
//! An index is coded as its magnitude without the plane's low bits, by decisions "greater than 0, 1, 2, …" up to an escape, its sign after the
//! first of them, and the low bits raw; how many those are is coded before each row. Each decision has three contexts. Those on magnitudes: a weighted sum of the magnitudes around it; the
//! running means of its row and of its column; the three nearest magnitudes themselves, whose estimates follow changes. Those on signs, which are raw unless a plane says otherwise: signs around it in its row and in the
//! same kernel; the sign above it and its place in the kernel; running means of signs. Only what a decoder has already seen counts.

use std::cell::Cell;

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

/// Numbers of contexts and of decisions, rounded up to powers of two: a mask of an index takes the place of a check.
const BY_SUM: usize = CLASSES.next_power_of_two();
const BY_MEANS: usize = (2 * ROW_MEANS * COLUMN_MEANS).next_power_of_two();
const BY_PATTERN: usize = 2 * 64;
const PLACES: usize = DECISIONS.next_power_of_two();
/// And of signs.
const BY_SIGNS: usize = 32;
const BY_PLACE: usize = 128;
const BY_SIGN_MEANS: usize = 64;

/// Probabilities of all decisions on a magnitude in one context.
type Context = [Bit; PLACES];

/// Codes the rows of a matrix of indices.
#[derive(Debug)]
pub struct Plane {
    /// Distance to the same tap of the channel before; 1 if there are no taps.
    period: usize,
    /// Low bits of the row before, and how their number changes.
    shift: u32,
    shifts: Numbers,
    magnitudes: Box<Magnitudes>,
    /// Nothing where signs are raw.
    signs: Option<Signs>,
    /// Zeros before a row: what lies left of it.
    margin: usize,
    /// This row and the two before it.
    rows: [Row; 3],
    columns: Vec<Mean>,
    row: Mean,
    /// The last index.
    last: Option<i32>,
}

/// Indices without low bits, after the margin.
#[derive(Debug)]
struct Row {
    magnitudes: Vec<u8>,
    /// 0, 1 or 2 for negative, zero, positive; nothing where signs are raw.
    signs: Vec<u8>,
}

#[derive(Debug)]
struct Magnitudes {
    by_sum: [Context; BY_SUM],
    by_means: [Context; BY_MEANS],
    by_pattern: [Context; BY_PATTERN],
    mixers: [Mixer; PLACES],
}

#[derive(Debug)]
struct Signs {
    by_row: [Bit; BY_SIGNS],
    by_place: [Bit; BY_PLACE],
    by_means: [Bit; BY_SIGN_MEANS],
    mixer: Mixer,
}

impl Signs {
    /// Codes a sign, in three contexts by their numbers.
    #[inline(always)]
    fn code<C: Coder>(&mut self, coder: &mut C, negative: bool, [by_row, by_place, by_means]: [usize; CONTEXTS]) -> bool {
        let bits: [&mut Bit; CONTEXTS] = [
            &mut self.by_row[by_row & (BY_SIGNS - 1)],
            &mut self.by_place[by_place & (BY_PLACE - 1)],
            &mut self.by_means[by_means & (BY_SIGN_MEANS - 1)],
        ];
        self.mixer.code_unforeseen(bits, |p| coder.code_unforeseen(negative, p, Place::NONE))
    }
}

/// Running means of a row or column.
#[derive(Debug, Clone, Copy)]
struct Mean {
    /// Of magnitudes; of a row in 1/256, of a column in 1/128.
    magnitude: i32,
    /// Of signs; of a row in 1/128, of a column in 1/64.
    sign: i32,
}

/// Classes of numbers. Half octaves: 0, 1, 2, 3, 4, 6, 8, 12, … begin a class each.
static CLASS: [u8; 4096] = half_octaves();

const fn half_octaves() -> [u8; 4096] {
    let mut table = [0; 4096];
    let mut v = 1;
    while v < 4096u32 {
        let octave = v.ilog2();
        let upper = if octave > 0 { v >> (octave - 1) & 1 } else { 0 };
        table[v as usize] = (1 + 2 * octave + upper) as u8;
        v += 1;
    }
    table
}

/// Class of a number below 4096.
#[inline]
fn class(v: u32, classes: usize) -> usize {
    usize::from(CLASS[(v & 4095) as usize]).min(classes - 1)
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
        let period = if taps <= PERIOD { taps.max(1) } else { 1 };
        let margin = 2 * period.max(2);
        Plane {
            period,
            margin,
            shift: 0,
            shifts: Numbers::default(),
            magnitudes: Box::new(Magnitudes {
                by_sum: [[Bit::NEW; PLACES]; BY_SUM],
                by_means: [[Bit::NEW; PLACES]; BY_MEANS],
                by_pattern: [[Bit::NEW; PLACES]; BY_PATTERN],
                mixers: [Mixer::NEW; PLACES],
            }),
            signs: signs.then_some(Signs {
                by_row: [Bit::NEW; BY_SIGNS],
                by_place: [Bit::NEW; BY_PLACE],
                by_means: [Bit::NEW; BY_SIGN_MEANS],
                mixer: Mixer::NEW,
            }),
            rows: [0; 3].map(|_| Row { magnitudes: vec![0; margin + width], signs: vec![1; if signs { margin + width } else { 0 }] }),
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
    pub fn row<C: Coder>(&mut self, coder: &mut C, row: &mut [i32], quantizer: impl FnMut(Option<i32>) -> usize) -> Result<(), String> {
        debug_assert_eq!(row.len(), self.columns.len());
        let best = if C::READS { 0 } else { best_shift(row) };
        let change = self.shifts.code(coder, best.cast_signed() - self.shift.cast_signed());
        self.shift = self.shift.checked_add_signed(change).filter(|s| *s <= MAX_SHIFT).ok_or("a row of it has too many low bits")?;
        let coded =
            if self.signs.is_some() { self.high::<C, true>(coder, row, quantizer) } else { self.high::<C, false>(coder, row, quantizer) };
        self.rows.rotate_right(1);
        coded
    }

    /// A function for each kind of signs, and a coder that nothing else points to: both for what is kept in registers.
    #[inline(never)]
    fn high<C: Coder, const SIGNS: bool>(
        &mut self,
        coder: &mut C,
        row: &mut [i32],
        quantizer: impl FnMut(Option<i32>) -> usize,
    ) -> Result<(), String> {
        let mut own = std::mem::take(coder);
        let coded = self.indices::<C, SIGNS>(&mut own, row, quantizer);
        *coder = own;
        coded
    }

    #[inline(always)]
    fn indices<C: Coder, const SIGNS: bool>(
        &mut self,
        coder: &mut C,
        row: &mut [i32],
        mut quantizer: impl FnMut(Option<i32>) -> usize,
    ) -> Result<(), String> {
        let Plane { period, margin, shift, magnitudes, signs, rows: [now, above, above_it], columns, row: mean, last: before, .. } = self;
        let (period, margin, shift, width) = (*period, *margin, *shift, row.len());
        let Magnitudes { by_sum, by_means, by_pattern, mixers } = &mut **magnitudes;
        // All slices as long as the row: they are indexed without checks. Cells, since what is written is what a period later is looked back at.
        let cells = |row| Cell::from_mut(row).as_slice_of_cells();
        let (now, now_signs) = (cells(&mut now.magnitudes[..]), cells(&mut now.signs[..]));
        let from = |back: usize| &now[margin - back..][..width];
        let (now, taps, taps2) = (from(0), from(period), from(2 * period));
        let (ups, ups2) = (&above.magnitudes[margin..][..width], &above_it.magnitudes[margin..][..width]);
        let at = |start: usize| if SIGNS { start..start + width } else { 0..0 };
        let (now_signs, tap_signs, up_signs) = (&now_signs[at(margin)], &now_signs[at(margin - period)], &above.signs[at(margin)]);
        let columns = &mut columns[..width];
        let (mut left, mut left2, mut left3) = (0, 0, 0);
        let (mut last, mut row_mean) = (*before, mean.magnitude);
        let (mut sign, mut sign2, mut sign3, mut sign_mean, mut place) = (1, 1, 1, 0, 0);
        for j in 0..width {
            let column = &mut columns[j];
            let near = u32::from;
            let (tap, up) = (near(taps[j].get()), near(ups[j]));
            let around = 2 * up + near(ups2[j]);
            let sum =
                if period > 1 { around + 2 * left + left2 + 2 * tap + near(taps2[j].get()) } else { around + 3 * left + 2 * left2 + left3 };
            let quantizer = quantizer(last) & 1;
            let sums = quantizer * SUMS + class(2 * sum, SUMS);
            let means = class((row_mean >> 4) as u32, ROW_MEANS) * COLUMN_MEANS + class((column.magnitude >> 4) as u32, COLUMN_MEANS);
            let pattern = quantizer * 64 + (16 * left.min(3) + 4 * tap.min(3) + up.min(3)) as usize;
            let (of_sum, of_pattern) = (&mut by_sum[sums & (BY_SUM - 1)], &mut by_pattern[pattern & (BY_PATTERN - 1)]);

            let index = &mut row[j];
            let magnitude = index.unsigned_abs();
            // Not a closure, which would not be inlined where it is called twice.
            macro_rules! code_sign {
                () => {
                    match signs.as_mut() {
                        Some(signs) if SIGNS => {
                            let by_row = usize::from(9 * sign + 3 * sign3 + tap_signs[j].get());
                            let by_place = 27 * usize::from(up_signs[j]) + 9 * usize::from(sign2) + place.min(8);
                            let by_means = (((sign_mean + 16) >> 5).clamp(-3, 3) + 3) * 7 + ((column.sign + 4) >> 3).clamp(-3, 3) + 3;
                            signs.code(coder, *index < 0, [by_row, by_place, by_means as usize])
                        }
                        _ => coder.half(*index < 0),
                    }
                };
            }
            let high = magnitude >> shift;
            let mut found = 0;
            let mut negative = false;
            // After the first decision by the sign, too: a fixed-length quantizer has one level more on the negative side.
            let both = [means, means + ROW_MEANS * COLUMN_MEANS].map(|means| means & (BY_MEANS - 1));
            // Of each decision the probability is there before the one before it is made: nothing waits for it where that was foreseen wrongly.
            let ahead = both.map(|means| mixers[1].probability([&of_sum[1], &by_means[means][1], &of_pattern[1]]));
            let of = &mut by_means[means & (BY_MEANS - 1)];
            if mixers[0]
                .code([&mut of_sum[0], &mut of[0], &mut of_pattern[0]], |p| coder.code(high > 0, p, Place { class: sums, decision: 0 }))
            {
                negative = code_sign!();
                let mut ahead = ahead[0] ^ ((ahead[0] ^ ahead[1]) & u16::from(negative).wrapping_neg());
                let of = &mut by_means[(both[0] + usize::from(negative) * (ROW_MEANS * COLUMN_MEANS)) & (BY_MEANS - 1)];
                found = 1;
                while found < DECISIONS {
                    let (t, next) = (found & (PLACES - 1), (found + 1) & (PLACES - 1));
                    let p = ahead;
                    ahead = mixers[next].probability([&of_sum[next], &of[next], &of_pattern[next]]);
                    let bits: [&mut Bit; CONTEXTS] = [&mut of_sum[t], &mut of[t], &mut of_pattern[t]];
                    if !mixers[t].code_of(p, bits, |p| coder.code(high > t as u32, p, Place { class: sums, decision: t })) {
                        break;
                    }
                    found += 1;
                }
            }
            let mut found = found as u32;
            if found as usize == DECISIONS {
                found += escape(coder, high.wrapping_sub(found))?;
            }
            let mut whole = found;
            if shift > 0 {
                let all = u64::from(found) << shift | u64::from(coder.raw(magnitude & ((1 << shift) - 1), shift));
                whole = all.min(u64::from(MAGNITUDE)) as u32;
                if found == 0 && whole > 0 {
                    negative = code_sign!();
                }
            }
            if whole >= MAGNITUDE {
                return Err("an index of it is out of range".into());
            }
            let minus = -i32::from(negative);
            *index = (whole as i32 ^ minus) - minus;

            last = Some(*index);
            (left3, left2, left) = (left2, left, found.min(CAP));
            now[j].set(left as u8);
            let found = found.min(255) as i32;
            row_mean += (((found << 8) - row_mean) * rate(7 + j.min(120) as u8)) >> 12;
            column.magnitude += 16 * found - (column.magnitude >> 3);
            if SIGNS {
                let signed = index.signum();
                sign_mean += 8 * signed - (sign_mean >> 4);
                column.sign += 8 * signed - (column.sign >> 3);
                // Of what is left without low bits: those of a zero say nothing.
                (sign3, sign2) = (sign2, sign);
                sign = if found == 0 { 1 } else { (1 + signed) as u8 };
                now_signs[j].set(sign);
                place = if place + 1 == period { 0 } else { place + 1 };
            }
        }
        (*before, mean.magnitude) = (last, row_mean);
        Ok(())
    }
}

/// A number in an Elias-γ code of raw bits.
#[inline(always)]
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
