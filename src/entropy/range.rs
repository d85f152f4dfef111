//! The range coder: decisions of any probability in very nearly `−log₂ p` bits each.
//!
//! 64-bit interval, of which 32 bits at least are in use: with 16-bit probabilities rounding costs less than 2⁻¹⁶ of a decision. Carries go
//! back into the bytes that were written. Bytes after the last that matters are left out; a decoder reads zeros there.

use super::{Coder, Place};

/// When the interval gets smaller than this, 32 bits go out.
const LEAST: u64 = 1 << 32;

/// Writes decisions.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    low: u64,
    range: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { bytes: Vec::new(), low: 0, range: u64::MAX }
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

    /// The bytes, without the zeros at their end, which a decoder supplies.
    pub fn finish(mut self) -> Vec<u8> {
        // The number in the interval with the most zeros at its end.
        let last = self.range - 1;
        let zeros = (0..64).rev().find(|&zeros| {
            let below = (1u64 << zeros) - 1;
            let up = self.low.wrapping_neg() & below;
            up <= last
        });
        let below = (1u64 << zeros.unwrap_or(0)) - 1;
        self.add(self.low.wrapping_neg() & below);
        self.bytes.extend_from_slice(&self.low.to_be_bytes());
        while self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

/// Bits of an interval.
fn bits(words: usize, range: u64) -> f64 {
    32.0 * words as f64 + 64.0 - (range as f64).log2()
}

impl Coder for Encoder {
    fn bits(&self) -> f64 {
        bits(self.bytes.len() / 4, self.range)
    }

    #[inline]
    fn code(&mut self, bit: bool, p: u16, _: Place) -> bool {
        self.split((self.range >> 16) * u64::from(p), bit)
    }

    #[inline]
    fn half(&mut self, bit: bool) -> bool {
        self.split(self.range >> 1, bit)
    }
}

/// Reads decisions. Past the end of the bytes it reads zeros: how many decisions there are is known to who asks.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    code: u64,
    range: u64,
}

impl<'a> Decoder<'a> {
    /// Starts at the first decision.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Decoder { bytes, at: 0, code: 0, range: u64::MAX };
        decoder.code = u64::from(decoder.word()) << 32;
        decoder.code |= u64::from(decoder.word());
        decoder
    }

    fn word(&mut self) -> u32 {
        let word = match self.bytes.get(self.at..self.at + 4) {
            Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
            _ => (self.at..self.at + 4).fold(0, |word, at| word << 8 | u32::from(self.bytes.get(at).copied().unwrap_or(0))),
        };
        self.at += 4;
        word
    }

    /// Whether no byte was left unread, as after the last decision of what [`Encoder`] wrote.
    pub fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    fn split(&mut self, bound: u64) -> bool {
        let bit = self.code < bound;
        // Selected, not branched to: what is well coded cannot be foreseen.
        let (code, range) = (self.code.wrapping_sub(bound), self.range - bound);
        self.code = if bit { self.code } else { code };
        self.range = if bit { bound } else { range };
        if self.range < LEAST {
            self.code = self.code << 32 | u64::from(self.word());
            self.range <<= 32;
        }
        bit
    }
}

impl Coder for Decoder<'_> {
    const READS: bool = true;

    fn bits(&self) -> f64 {
        bits(self.at / 4 - 2, self.range)
    }

    #[inline]
    fn code(&mut self, _: bool, p: u16, _: Place) -> bool {
        self.split((self.range >> 16) * u64::from(p))
    }

    #[inline]
    fn half(&mut self, _: bool) -> bool {
        self.split(self.range >> 1)
    }
}
