//! Side information: small numbers and symbols, a few of each, each with adaptive probabilities of one context.

use super::{Coder, Place, model::Single};

/// Greatest exponent of a number's magnitude.
const EXPONENTS: usize = 17;

/// Signed numbers that are mostly near 0.
#[derive(Debug)]
pub struct Numbers {
    zero: Single,
    sign: Single,
    exponents: [Single; EXPONENTS],
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { zero: Single::NEW, sign: Single::NEW, exponents: [Single::NEW; EXPONENTS] }
    }
}

impl Numbers {
    /// Codes a number of magnitude below 2¹⁷.
    pub fn code<C: Coder>(&mut self, coder: &mut C, number: i32) -> i32 {
        if self.zero.code(|p| coder.code(number == 0, p, Place::NONE)) {
            return 0;
        }
        let negative = self.sign.code(|p| coder.code(number < 0, p, Place::NONE));
        let magnitude = number.unsigned_abs().clamp(1, (1 << EXPONENTS) - 1);
        let mut exponent = 0;
        while (exponent as usize) < EXPONENTS - 1
            && self.exponents[exponent as usize].code(|p| coder.code(exponent < magnitude.ilog2(), p, Place::NONE))
        {
            exponent += 1;
        }
        let magnitude = 1 << exponent | coder.raw(magnitude & ((1 << exponent) - 1), exponent);
        if negative { -magnitude.cast_signed() } else { magnitude.cast_signed() }
    }
}

/// Symbols of a few bits, by a tree of decisions.
#[derive(Debug)]
pub struct Symbols {
    bits: u32,
    tree: Vec<Single>,
}

impl Symbols {
    /// Symbols of `bits` bits, at most 16.
    pub fn new(bits: u32) -> Symbols {
        Symbols { bits, tree: vec![Single::NEW; 1 << bits.min(16)] }
    }

    /// Codes a symbol.
    pub fn code<C: Coder>(&mut self, coder: &mut C, symbol: u32) -> u32 {
        let mut node = 1;
        for i in (0..self.bits).rev() {
            let bit = self.tree[node].code(|p| coder.code(symbol >> i & 1 == 1, p, Place::NONE));
            node = node << 1 | usize::from(bit);
        }
        node as u32 - (1 << self.bits)
    }
}
