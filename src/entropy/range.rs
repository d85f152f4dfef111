//! The range coder: decisions of any probability in very nearly `−log₂ p` bits each, and raw bits as they are.
//!
//! ```text
//! decisions ─→ bytes … bytes ←─ raw bits
//! ```
//!
//! 64-bit interval, of which 32 bits at least are in use: with 16-bit probabilities rounding costs less than 2⁻¹⁶ of a decision. Carries go
//! back into the bytes that were written. Raw bits have nothing to do with the interval: they fill bytes from the end of the stream towards
//! its start, so that a decoder takes many of them at once. Both end with the last byte that matters; where there are no raw bits,
//! zeros at the end are left out, too: a decoder reads zeros past the end.

use super::{Coder, Place};

/// When the interval gets smaller than this, 32 bits go out.
const LEAST: u64 = 1 << 32;
/// Bits that are fetched at a time.
const WORD: u32 = 32;

/// Writes decisions.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    low: u64,
    range: u64,
    /// Raw bits, eight to a byte, the first highest.
    raw: Vec<u8>,
    /// Those that do not fill a byte yet, and their number.
    rest: u64,
    held: u32,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { bytes: Vec::new(), low: 0, range: u64::MAX, raw: Vec::new(), rest: 0, held: 0 }
    }
}

impl Encoder {
    fn add(&mut self, to_low: u64) {
        let (low, carry) = self.low.overflowing_add(to_low);
        self.low = low;
        if carry {
            self.carry();
        }
    }

    /// Adds one to what was written. It never overflows: the interval lies below one.
    fn carry(&mut self) {
        for byte in self.bytes.iter_mut().rev() {
            let (sum, carry) = byte.overflowing_add(1);
            *byte = sum;
            if !carry {
                break;
            }
        }
    }

    /// Takes the part of the interval below `bound`, or the rest.
    #[inline]
    fn split(&mut self, bound: u64, bit: bool) -> bool {
        if bit {
            self.range = bound;
        } else {
            self.add(bound);
            self.range -= bound;
        }
        if self.range < LEAST {
            self.bytes.extend_from_slice(&((self.low >> 32) as u32).to_be_bytes());
            self.low <<= 32;
            self.range <<= 32;
        }
        bit
    }

    /// The bytes.
    pub fn finish(mut self) -> Vec<u8> {
        // The shortest start of a number that lies in the interval whatever follows.
        let last = self.range - 1;
        let (up, count) = (0..8)
            .map(|count| {
                let below = u64::MAX >> (8 * count);
                (self.low.wrapping_neg() & below, below, count)
            })
            .find_map(|(up, below, count)| up.checked_add(below).is_some_and(|to| to <= last).then_some((up, count)))
            .unwrap_or((0, 8));
        self.add(up);
        self.bytes.extend_from_slice(&self.low.to_be_bytes()[..count]);
        if self.held > 0 {
            self.raw.push((self.rest << (8 - self.held)) as u8);
        }
        if self.raw.is_empty() {
            while self.bytes.last() == Some(&0) {
                self.bytes.pop();
            }
        }
        self.bytes.extend(self.raw.iter().rev());
        self.bytes
    }
}

/// Bits of an interval.
fn bits(words: usize, range: u64) -> f64 {
    32.0 * words as f64 + 64.0 - (range as f64).log2()
}

impl Coder for Encoder {
    fn bits(&self) -> f64 {
        bits(self.bytes.len() / 4, self.range) + 8.0 * self.raw.len() as f64 + f64::from(self.held)
    }

    #[inline]
    fn code(&mut self, bit: bool, p: u16, _: Place) -> bool {
        self.split((self.range >> 16) * u64::from(p), bit)
    }

    #[inline]
    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        debug_assert!(count <= WORD);
        self.rest = self.rest << count | u64::from(bits);
        self.held += count;
        while self.held >= 8 {
            self.held -= 8;
            self.raw.push((self.rest >> self.held) as u8);
        }
        bits
    }
}

/// Reads decisions. Past the end of the bytes it reads zeros: how many decisions there are is known to who asks.
#[derive(Debug, Default)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    code: u64,
    range: u64,
    /// Bytes from the end on that raw bits were fetched from.
    fetched: usize,
    /// Raw bits that were fetched and not taken, the next highest, and their number.
    raw: u64,
    held: u32,
}

impl<'a> Decoder<'a> {
    /// Starts at the first decision.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Decoder { bytes, at: 0, code: 0, range: u64::MAX, fetched: 0, raw: 0, held: 0 };
        decoder.code = u64::from(decoder.word()) << WORD;
        decoder.code |= u64::from(decoder.word());
        decoder
    }

    #[inline]
    fn word(&mut self) -> u32 {
        let word = match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(word) => u32::from_be_bytes(*word),
            None => last_word(self.bytes, self.at),
        };
        self.at += 4;
        word
    }

    /// The word before those that raw bits were fetched from; its first byte is the last of the four.
    #[inline]
    fn raw_word(&mut self) -> u32 {
        let before = &self.bytes[..self.bytes.len().saturating_sub(self.fetched)];
        let word = match before.last_chunk() {
            Some(word) => u32::from_le_bytes(*word),
            None => first_word(before),
        };
        self.fetched += 4;
        word
    }

    /// Whether no byte was left unread, as after the last decision of what [`Encoder`] wrote.
    pub fn at_end(&self) -> bool {
        self.at + self.fetched - (self.held / 8) as usize >= self.bytes.len()
    }

    #[inline(always)]
    fn split(&mut self, bound: u64) -> bool {
        // One way for each outcome, up to what is learnt from it.
        if self.code < bound {
            self.range = bound;
            self.renew();
            true
        } else {
            self.code -= bound;
            self.range -= bound;
            self.renew();
            false
        }
    }

    #[inline(always)]
    fn renew(&mut self) {
        if self.range < LEAST {
            self.code = self.code << WORD | u64::from(self.word());
            self.range <<= WORD;
        }
    }
}

/// A word that the bytes end in, or that is past their end.
#[cold]
#[inline(never)]
fn last_word(bytes: &[u8], at: usize) -> u32 {
    (at..at + 4).fold(0, |word, at| word << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)))
}

/// A word of raw bits of which there are less than four bytes.
#[cold]
#[inline(never)]
fn first_word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().zip(1..).fold(0, |word, (&byte, i)| word | u32::from(byte) << (WORD - 8 * i))
}

impl Coder for Decoder<'_> {
    const READS: bool = true;

    fn bits(&self) -> f64 {
        bits(self.at / 4 - 2, self.range) + 8.0 * self.fetched as f64 - f64::from(self.held)
    }

    #[inline]
    fn code(&mut self, _: bool, p: u16, _: Place) -> bool {
        self.split((self.range >> 16) * u64::from(p))
    }

    #[inline(always)]
    fn code_unforeseen(&mut self, _: bool, p: u16, _: Place) -> bool {
        let bound = (self.range >> 16) * u64::from(p);
        let bit = self.code < bound;
        // Both outcomes in one: what is not branched to is not mispredicted.
        let zero = u64::from(bit).wrapping_sub(1);
        self.code -= bound & zero;
        self.range = bound ^ ((bound ^ (self.range - bound)) & zero);
        self.renew();
        bit
    }

    #[inline]
    fn raw(&mut self, _: u32, count: u32) -> u32 {
        debug_assert!(count <= WORD);
        if self.held < count {
            // At most 31 are held: the word fits behind them.
            self.raw |= u64::from(self.raw_word()) << (WORD - self.held);
            self.held += WORD;
        }
        // In two steps, for none of them.
        let taken = (self.raw >> 1 >> (63 - count)) as u32;
        self.raw <<= count;
        self.held -= count;
        taken
    }
}
