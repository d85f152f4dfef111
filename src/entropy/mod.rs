//! Entropy coding of quantization indices (docs/format.md, "Adaptive coding"): adaptive binary decisions, each with a probability mixed
//! from three contexts, two slow ones and one fast, in a range coder. Integers only, so that every machine and every build gives the same bytes.
//!
//! ```text
//! index ─ plane ─→ decisions ─ model ─→ probabilities ─ Coder ─→ bytes (range::Encoder) · bits (Count) · costs by context (Record)
//!                                                           └──── index again (range::Decoder)
//! ```
//!
//! There is one way through: [`Plane::row`] asks a [`Coder`] for every decision. An encoder, a counter and a recorder take the decision they
//! are given, a decoder answers with the one it finds. So the rate that an optimiser counts is the rate that the file gets.

mod model;
mod plane;
pub mod range;
mod side;

pub use plane::{Plane, signs_agree};
pub use side::{Numbers, Symbols};

/// Where a decision stands: for who records costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Class of the neighbours' magnitudes, below [`Record::CLASSES`].
    pub class: usize,
    /// Which of the decisions on an index, below [`Record::DECISIONS`].
    pub decision: usize,
}

impl Place {
    /// Signs and side information are not recorded.
    const NONE: Place = Place { class: 0, decision: Record::DECISIONS };
}

/// What decisions are coded with.
pub trait Coder: Default {
    /// Whether decisions are read: what is given to be coded is of no meaning then.
    const READS: bool = false;

    /// Codes a decision that is true with probability `p / 65536`. What writes or counts takes `bit` and returns it; what reads returns what
    /// it reads.
    fn code(&mut self, bit: bool, p: u16, place: Place) -> bool;

    /// The same, for decisions of which neither outcome is much likelier.
    #[inline(always)]
    fn code_unforeseen(&mut self, bit: bool, p: u16, place: Place) -> bool {
        self.code(bit, p, place)
    }

    /// Codes a number below `2^count` in `count` raw bits, 32 at most.
    fn raw(&mut self, bits: u32, count: u32) -> u32;

    /// Bits so far.
    fn bits(&self) -> f64;

    /// Codes a decision that is as likely as not.
    #[inline]
    fn half(&mut self, bit: bool) -> bool {
        self.raw(bit.into(), 1) == 1
    }
}

/// Counts bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// In units of `1 / Count::UNIT` bits.
    sum: u64,
}

impl Count {
    /// Units of a bit.
    const UNIT: u32 = 1 << 12;
}

impl Coder for Count {
    fn bits(&self) -> f64 {
        self.sum as f64 / f64::from(Self::UNIT)
    }

    fn code(&mut self, bit: bool, p: u16, _: Place) -> bool {
        self.sum += u64::from(model::cost(bit, p));
        bit
    }

    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        self.sum += u64::from(Self::UNIT) * u64::from(count);
        bits
    }
}

/// Counts bits, and records what decisions cost on average in each class of neighbours: the rates that an optimiser weighs indices with.
#[derive(Debug, Clone)]
pub struct Record {
    count: Count,
    /// Per class and decision: sums of the costs that false and true would have had, and their number.
    sums: Vec<[u64; 3]>,
}

impl Record {
    /// Classes of neighbours.
    pub const CLASSES: usize = plane::CLASSES;
    /// Decisions on an index.
    pub const DECISIONS: usize = plane::DECISIONS;

    /// Nothing recorded yet.
    pub fn new() -> Record {
        Record { count: Count::default(), sums: vec![[0; 3]; Self::CLASSES * Self::DECISIONS] }
    }

    /// Average cost in bits of a decision; nothing where it was never met.
    pub fn cost(&self, place: Place, bit: bool) -> Option<f64> {
        let [no, yes, number] = self.sums[place.class * Self::DECISIONS + place.decision];
        (number > 0).then(|| (if bit { yes } else { no }) as f64 / (number as f64 * f64::from(Count::UNIT)))
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl Coder for Record {
    fn bits(&self) -> f64 {
        self.count.bits()
    }

    fn code(&mut self, bit: bool, p: u16, place: Place) -> bool {
        if place.decision < Self::DECISIONS {
            let sums = &mut self.sums[place.class * Self::DECISIONS + place.decision];
            sums[0] += u64::from(model::cost(false, p));
            sums[1] += u64::from(model::cost(true, p));
            sums[2] += 1;
        }
        self.count.code(bit, p, place)
    }

    fn raw(&mut self, bits: u32, count: u32) -> u32 {
        self.count.raw(bits, count)
    }
}

#[cfg(test)]
mod tests;
