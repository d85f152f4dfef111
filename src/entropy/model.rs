//! Probabilities of decisions: estimates that adapt quickly at first and, once they have seen much, at one of two speeds; and a mix of several contexts' in the
//! logistic domain, fast and slow ones, whose weights adapt too. 16-bit probabilities, logits in 1/256.

/// `65536 / (1 + e^(−x/2))` for `x` from −16 to 16.
const LOGISTIC: [i32; 33] = [
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565, 62428,
    63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
];
/// Least and greatest probability.
const LEAST: i32 = 32;
const GREATEST: i32 = 65536 - LEAST;
/// Greatest magnitude of a logit.
const LOGIT: i32 = 2047;
/// Logits of probabilities, in 4096 steps.
const STRETCHES: [i16; 4096] = stretches();
static STRETCH: [i16; 4096] = STRETCHES;
/// Probabilities of logits from −2048 on.
static SQUASH: [u16; 4096] = squashes();

const fn squash_of(logit: i32) -> i32 {
    let x = (logit + 2048) as usize;
    let (i, part) = (x >> 7, (x & 127) as i32);
    let p = (LOGISTIC[i] * (128 - part) + LOGISTIC[i + 1] * part + 64) >> 7;
    if p < LEAST {
        LEAST
    } else if p > GREATEST {
        GREATEST
    } else {
        p
    }
}

const fn squashes() -> [u16; 4096] {
    let mut table = [0; 4096];
    let mut i = 0;
    while i < 4096 {
        table[i] = squash_of(i as i32 - 2048) as u16;
        i += 1;
    }
    table
}

/// The inverse: the least logit whose probability is at least that of the step's middle.
const fn stretches() -> [i16; 4096] {
    let mut table = [0; 4096];
    let (mut i, mut logit) = (0, -LOGIT);
    while i < 4096 {
        while logit < LOGIT && squash_of(logit) < 16 * i as i32 + 8 {
            logit += 1;
        }
        table[i] = logit as i16;
        i += 1;
    }
    table
}

/// How far a probability that has seen `n` decisions moves towards the next: `2¹² / (n + 1.6)`.
static RATES: [u16; 256] = rates();

const fn rates() -> [u16; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        table[n] = ((1 << 12) * 5 / (5 * n + 8)) as u16;
        n += 1;
    }
    table
}

/// `2¹² / (n + 1.6)`.
#[inline]
pub fn rate(n: u8) -> i32 {
    i32::from(RATES[usize::from(n)])
}

/// Probability of one decision in one context.
#[derive(Debug, Clone, Copy)]
pub struct Bit {
    /// In units of 2⁻²⁰: as fine as what a certain decision is to be learnt to.
    p: u32,
    /// Of the probability: looked up when it changes, not when it is waited for.
    logit: i16,
    seen: u8,
}

impl Bit {
    /// As likely as not.
    pub const NEW: Bit = Bit { p: 1 << 19, logit: STRETCHES[2048], seen: 0 };
    const ONE: u32 = (1 << 20) - 1;

    /// Moves towards a decision, as far as it does after `limit` of them or fewer.
    #[inline(always)]
    fn update(&mut self, bit: bool, limit: u8) {
        // Towards all ones is towards 0 of what is left.
        let flip = u32::from(bit).wrapping_neg() & Self::ONE;
        let rest = self.p ^ flip;
        self.p = (rest - ((rest * u32::from(RATES[usize::from(self.seen)])) >> 12)) ^ flip;
        self.seen += u8::from(self.seen < limit);
        self.logit = STRETCH[(self.p >> 8) as usize & 4095];
    }
}

/// Contexts of a decision.
pub const CONTEXTS: usize = 3;

/// How many decisions a probability remembers: one that is to keep what all of a layer has in common.
const SLOW: u8 = 255;
/// One that is to follow how a layer changes.
const FAST: u8 = 24;
/// Those of the contexts, in their order in [`super::plane`]: the last one is the coarsest. That it is fast makes files of ResNet-20 in fixed depths between 0.03 % smaller and
/// 0.08 % larger, and errors that are fed back 0.01 dB less at 1.5 bits and below. Were the first one fast, these would be up to 0.04 dB more; were the second, files up to 0.2 %
/// larger.
const LIMITS: [u8; CONTEXTS] = [SLOW, SLOW, FAST];

/// How much each context's word counts for one decision; 2¹⁶ is one.
#[derive(Debug, Clone, Copy)]
pub struct Mixer([i32; CONTEXTS]);

impl Mixer {
    /// All alike, and a little more than a mean: contexts that agree are surer together.
    pub const NEW: Mixer = Mixer([24_000; CONTEXTS]);

    /// The probability of a decision in its contexts, mixed.
    #[inline(always)]
    pub fn probability(&self, bits: [&Bit; CONTEXTS]) -> u16 {
        let product = |i: usize| i64::from(bits[i].logit) * i64::from(self.0[i]);
        let sum = (product(0) + product(1) + product(2)) >> 16;
        SQUASH[(sum.clamp(-i64::from(LOGIT), i64::from(LOGIT)) + 2048) as usize]
    }

    /// Codes a decision with `code(probability)`, and learns from it.
    #[inline(always)]
    pub fn code(&mut self, bits: [&mut Bit; CONTEXTS], code: impl FnOnce(u16) -> bool) -> bool {
        let p = self.probability([bits[0], bits[1], bits[2]]);
        self.code_of(p, bits, code)
    }

    /// The same, with the probability that [`Mixer::probability`] gave.
    #[inline(always)]
    pub fn code_of(&mut self, p: u16, bits: [&mut Bit; CONTEXTS], code: impl FnOnce(u16) -> bool) -> bool {
        // One way for each outcome: what it is learnt by is constant there.
        if code(p) {
            self.learn(bits, 65536 - i32::from(p), true);
            true
        } else {
            self.learn(bits, -i32::from(p), false);
            false
        }
    }

    /// As [`Mixer::code`], for decisions of which neither outcome is much likelier: without branches.
    #[inline(always)]
    pub fn code_unforeseen(&mut self, bits: [&mut Bit; CONTEXTS], code: impl FnOnce(u16) -> bool) -> bool {
        let p = self.probability([bits[0], bits[1], bits[2]]);
        let bit = code(p);
        self.learn(bits, (i32::from(bit) << 16) - i32::from(p), bit);
        bit
    }

    #[inline(always)]
    fn learn(&mut self, bits: [&mut Bit; CONTEXTS], error: i32, bit: bool) {
        for ((w, b), limit) in self.0.iter_mut().zip(bits).zip(LIMITS) {
            *w = w.wrapping_add((i32::from(b.logit) * error + (1 << 15)) >> 16);
            b.update(bit, limit);
        }
    }
}

/// A probability of one context alone, for decisions too few to mix.
#[derive(Debug, Clone, Copy)]
pub struct Single(Bit);

impl Single {
    /// As likely as not.
    pub const NEW: Single = Single(Bit::NEW);

    /// Codes a decision with `code(probability)`, and learns from it.
    pub fn code(&mut self, code: impl FnOnce(u16) -> bool) -> bool {
        let bit = code(((self.0.p >> 4) as i32).clamp(LEAST, GREATEST) as u16);
        self.0.update(bit, SLOW);
        bit
    }
}

/// `−log₂` of a decision's probability, in 1/4096 bit.
pub fn cost(bit: bool, p: u16) -> u32 {
    let p = if bit { u32::from(p) } else { 65536 - u32::from(p) };
    u32::from(COSTS[(p >> 4) as usize])
}

static COSTS: [u16; 4097] = costs();

const fn costs() -> [u16; 4097] {
    let mut table = [0; 4097];
    let mut i = 0;
    while i <= 4096 {
        // Of the middle of the step, 16·i + 8 of 65536, in 1/4096 bit.
        let p = if i == 4096 { 65536 } else { 16 * i as u64 + 8 };
        table[i] = (16 * 4096 - log2(p)) as u16;
        i += 1;
    }
    table
}

/// `4096·log₂ v` of `v ≥ 1`, rounded down: the bits of the logarithm one by one, by squaring.
const fn log2(v: u64) -> u32 {
    let whole = 63 - v.leading_zeros();
    let mut mantissa = v << (31 - whole);
    let mut log = whole;
    let mut i = 0;
    while i < 12 {
        mantissa = (mantissa * mantissa) >> 31;
        log <<= 1;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            log |= 1;
        }
        i += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_the_functions() {
        for logit in -LOGIT..=LOGIT {
            let exact = 65536.0 / (1.0 + (-f64::from(logit) / 256.0).exp());
            assert!((f64::from(squash_of(logit)) - exact).abs() < 0.004 * 65536.0, "{logit}");
        }
        assert!(SQUASH.windows(2).all(|w| w[0] <= w[1]) && STRETCH.windows(2).all(|w| w[0] <= w[1]));
        for p in (64..65536 - 64).step_by(16) {
            let back = i32::from(SQUASH[(i32::from(STRETCH[p / 16]) + 2048) as usize]);
            assert!((back - p as i32 - 8).abs() < 100, "{p} {back}");
        }
        for p in 32..=65504u16 {
            let exact = -(f64::from(p) / 65536.0).log2();
            assert!((f64::from(cost(true, p)) / 4096.0 - exact).abs() < 1.0 / f64::from(p / 16 + 1) + 0.001, "{p}");
            assert_eq!(cost(false, p), u32::from(COSTS[(65536 - usize::from(p)) >> 4]));
        }
    }

    #[test]
    fn counts_learn_a_probability_at_once_and_keep_it() {
        let mut bit = Bit::NEW;
        for i in 0..20_000u32 {
            // One in eight, in no order that repeats soon.
            bit.update(i.wrapping_mul(2_654_435_761) >> 29 == 0, SLOW);
            if i > 200 {
                assert!((4000..14000).contains(&(bit.p >> 4)), "{i}: {}", bit.p >> 4);
            }
        }
        let mut always = Bit::NEW;
        (0..5000).for_each(|_| always.update(true, SLOW));
        assert!(always.p >> 4 > 65_400);
        (0..5000).for_each(|_| always.update(false, SLOW));
        assert!(always.p >> 4 < 100);
    }

    #[test]
    fn fast_counts_follow_a_change_and_slow_ones_do_not() {
        let after = |limit| {
            let mut bit = Bit::NEW;
            (0..1000).for_each(|_| bit.update(true, limit));
            (0..25).for_each(|_| bit.update(false, limit));
            f64::from(bit.p) / f64::from(Bit::ONE)
        };
        // (1 − 1/(limit + 1.6))²⁵ of what there was.
        assert!((after(FAST) - 0.37).abs() < 0.01 && (after(SLOW) - 0.907).abs() < 0.01, "{} {}", after(FAST), after(SLOW));
    }
}
