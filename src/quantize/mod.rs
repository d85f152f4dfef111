//! Uniform quantizers: that of the paper, clipped to whole-bit depths (Young et al. 2021, eq. 5; method.md, section 2), and one that does not
//! clip, for indices that are entropy-coded; and trellis-coded ones ([`trellis`]).

pub mod feedback;
pub mod search;
pub mod trellis;

/// Greatest depth of a block of coefficients, in bits. The paper's range is 0 to 8; two more let an 8-bit budget be spent
/// unevenly (with 8 as the ceiling every block would have to take it, and nothing would be left to allocate).
pub const MAX_DEPTH: u8 = 10;
/// Greatest depth of a block of basis rows, in bits. Basis errors are multiplied by a coefficient's whole energy, so a basis
/// needs finer steps than the coefficients it carries.
pub const MAX_BASIS_DEPTH: u8 = 14;

/// Stands for a depth where indices are entropy-coded: the quantizer does not clip.
pub const UNCLIPPED: u8 = u8::MAX;
/// What is added to magnitudes of an unclipped quantizer before they are rounded down. Less than a half: a smaller index costs fewer bits, and
/// of values between two levels more are near the lower one.
pub const ROUNDING: f32 = 0.46;
/// What a bit is worth in squares of a step, where slopes are equal: the error of a fine quantizer, `Δ²/12`, falls by `2 ln 2` of itself a bit.
pub const BIT: f32 = std::f32::consts::LN_2 / 6.0;
/// Greatest index of an unclipped quantizer: `f32` holds it exactly.
const GREATEST: i32 = (1 << 24) - 1;

/// A step size, coded in one byte: `2^((code − 192) / 8)`, rounded to `f32`, for weights scaled to a greatest magnitude
/// in [0.5, 1). The table is of exact `f32` bits, so every decoder has the same steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u8);

/// `2^(i/8)` for `i` in 0..8, as `f32` bits.
const EIGHTHS: [u32; 8] = [0x3f80_0000, 0x3f8b_95c2, 0x3f98_37f0, 0x3fa5_fed7, 0x3fb5_04f3, 0x3fc5_672a, 0x3fd7_44fd, 0x3fea_c0c7];

impl Step {
    /// The step size.
    pub fn size(self) -> f32 {
        f32::from_bits(EIGHTHS[usize::from(self.0 % 8)]) * power_of_two(i32::from(self.0 / 8) - 24)
    }

    /// The smallest coded step that is at least `size`, or the largest there is.
    pub fn at_least(size: f32) -> Step {
        (0..u8::MAX).map(Step).find(|s| s.size() >= size).unwrap_or(Step(u8::MAX))
    }
}

/// The scale of a row or column of coefficients, coded in [`SCALE_BITS`] bits: `2^(−code/4)`. The step of a coefficient is its block's step, times the
/// scales of its row and of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale(pub u8);

/// Bits of a coded [`Scale`].
pub const SCALE_BITS: u32 = 6;

impl Scale {
    /// One.
    pub const ONE: Scale = Scale(0);

    /// The scale.
    pub fn size(self) -> f32 {
        let (octaves, quarters) = (i32::from(self.0 / 4), usize::from(self.0 % 4));
        if quarters == 0 { power_of_two(-octaves) } else { f32::from_bits(EIGHTHS[8 - 2 * quarters]) * power_of_two(-octaves - 1) }
    }

    /// The nearest coded scale, in the logarithm, of a ratio of at most 1.
    pub fn nearest(ratio: f64) -> Scale {
        let code = (-4.0 * ratio.max(1e-9).log2()).round();
        Scale(code.clamp(0.0, f64::from((1u8 << SCALE_BITS) - 1)) as u8)
    }
}

/// Factors of the output channels of a layer, by which a decoder multiplies its weights: `2^(code·2^coarseness / 256)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gains {
    /// Octaves of the unit of codes over 1/256, as a power of two; at most [`Gains::COARSEST`].
    pub coarseness: u8,
    /// The codes; gains are within [`Gains::RANGE`] octaves.
    pub codes: Vec<i16>,
}

/// `2^(i/32)` for `i` in 0..32, as `f32` bits.
const FINE: [u32; 32] = [
    0x3f80_0000,
    0x3f82_cd87,
    0x3f85_aac3,
    0x3f88_980f,
    0x3f8b_95c2,
    0x3f8e_a43a,
    0x3f91_c3d3,
    0x3f94_f4f0,
    0x3f98_37f0,
    0x3f9b_8d3a,
    0x3f9e_f532,
    0x3fa2_7043,
    0x3fa5_fed7,
    0x3fa9_a15b,
    0x3fad_583f,
    0x3fb1_23f6,
    0x3fb5_04f3,
    0x3fb8_fbaf,
    0x3fbd_08a4,
    0x3fc1_2c4d,
    0x3fc5_672a,
    0x3fc9_b9be,
    0x3fce_248c,
    0x3fd2_a81e,
    0x3fd7_44fd,
    0x3fdb_fbb8,
    0x3fe0_ccdf,
    0x3fe5_b907,
    0x3fea_c0c7,
    0x3fef_e4ba,
    0x3ff5_257d,
    0x3ffa_83b3,
];
/// `2^(i/256)` for `i` in 0..8, as `f32` bits.
const FINEST: [u32; 8] = [0x3f80_0000, 0x3f80_58d8, 0x3f80_b1ed, 0x3f81_0b41, 0x3f81_64d2, 0x3f81_bea1, 0x3f82_18af, 0x3f82_72fc];

impl Gains {
    /// Greatest coarseness: half octaves.
    pub const COARSEST: u8 = 7;
    /// Octaves that a gain is from one, at most.
    pub const RANGE: i32 = 8;

    /// The nearest codes of gains, so fine that of what the gains differ by rounding leaves a hundredth of the power; `coarser` by some octaves.
    pub fn nearest(gains: &[f32], coarser: u8) -> Gains {
        let logs: Vec<f64> = gains.iter().map(|g| f64::from(*g).clamp(2f64.powi(-Self::RANGE), 2f64.powi(Self::RANGE)).log2()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
        let deviation = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / logs.len().max(1) as f64).sqrt();
        // A unit of 0.35 deviations: its square over 12 is a hundredth.
        let unit = (256.0 * 0.35 * deviation).max(1.0).log2().floor() as u8;
        // Codes have eight bits at most.
        let greatest = logs.iter().fold(0f64, |m, l| m.max(l.abs()));
        let fits = |coarseness: &u8| (256.0 * greatest / f64::from(1u32 << coarseness)).round() <= f64::from(i8::MAX);
        let finest = (0..Self::COARSEST).find(fits).unwrap_or(Self::COARSEST);
        let coarseness = (unit + coarser).clamp(finest, Self::COARSEST);
        let unit = f64::from(1u32 << coarseness) / 256.0;
        Gains { coarseness, codes: logs.iter().map(|l| (l / unit).round() as i16).collect() }
    }

    /// The gains.
    pub fn sizes(&self) -> impl Iterator<Item = f32> {
        self.codes.iter().map(|&code| {
            let code = i32::from(code) << self.coarseness.min(Self::COARSEST);
            let (octaves, part) = (code.div_euclid(256), code.rem_euclid(256) as usize);
            f32::from_bits(FINE[part / 8]) * f32::from_bits(FINEST[part % 8]) * power_of_two(octaves)
        })
    }

    /// Whether all gains are in range.
    pub fn are_in_range(&self) -> bool {
        self.coarseness <= Self::COARSEST && self.codes.iter().all(|&c| (i32::from(c) << self.coarseness).abs() <= 256 * Self::RANGE)
    }
}

/// `2^e` exactly, for `e` in the range of normal `f32`s.
pub fn power_of_two(e: i32) -> f32 {
    f32::from_bits(((e.clamp(-126, 127) + 127) as u32) << 23)
}

/// The least index of a depth, `−2^{R−1}`; 0 for depth 0.
pub fn least_index(depth: u8) -> i32 {
    if depth == 0 { 0 } else { -(1 << (depth - 1)) }
}

/// Quantizes one value: `clip(round(θ/Δ), −2^{R−1}, 2^{R−1} − 1)`; ties round up. At the depth [`UNCLIPPED`], `sign(θ)·⌊|θ|/Δ + `[`ROUNDING`]`⌋`.
#[inline]
pub fn index(value: f32, inverse_step: f32, depth: u8) -> i32 {
    if depth == 0 {
        return 0;
    }
    let scaled = value * inverse_step;
    if depth == UNCLIPPED {
        let magnitude = ((scaled.abs() + ROUNDING) as i32).min(GREATEST);
        return if scaled < 0.0 { -magnitude } else { magnitude };
    }
    let least = least_index(depth);
    // The floor, without a call into a maths library where the processor has no instruction for it. The conversion saturates.
    let shifted = scaled + 0.5;
    let truncated = shifted as i32;
    (truncated - i32::from(shifted < truncated as f32)).clamp(least, -least - 1)
}

/// The nearest index of an unclipped quantizer, of a tie the one nearer to zero.
pub fn nearest(value: f32, inverse_step: f32) -> i32 {
    let scaled = value * inverse_step;
    let magnitude = ((scaled.abs() + 0.5).ceil() as i32 - 1).clamp(0, GREATEST);
    if scaled < 0.0 { -magnitude } else { magnitude }
}

/// Scales finite weights by a power of two so that the greatest magnitude is in [0.5, 1), exactly (denormal results excepted);
/// returns the exponent `e` with `weight = scaled · 2^e`.
pub fn normalize(weights: &mut [f32]) -> i16 {
    let max = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
    if max == 0.0 {
        return 0;
    }
    let bits = max.to_bits();
    let e = if bits >> 23 == 0 { -126 - (bits << 9).leading_zeros() as i32 } else { (bits >> 23) as i32 - 126 };
    scale(weights, -e);
    e as i16
}

/// Multiplies by `2^e`, in two exact steps where one factor would leave the range of `f32`.
pub fn scale(values: &mut [f32], e: i32) {
    let half = e / 2;
    let (a, b) = (power_of_two(half), power_of_two(e - half));
    values.iter_mut().for_each(|v| *v = *v * a * b);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_are_eighth_octaves() {
        for code in 0..=255u8 {
            let want = 2f64.powf((f64::from(code) - 192.0) / 8.0);
            assert!((f64::from(Step(code).size()) / want - 1.0).abs() < 1e-7, "code {code}");
        }
        for code in 0..64u8 {
            let want = 2f64.powf(-f64::from(code) / 4.0);
            assert!((f64::from(Scale(code).size()) / want - 1.0).abs() < 1e-7, "scale {code}");
            assert_eq!(Scale::nearest(want), Scale(code));
        }
        for (i, bits) in EIGHTHS.iter().enumerate() {
            assert_eq!(*bits, FINE[4 * i]);
        }
        assert_eq!(Step(192).size(), 1.0);
        assert_eq!(Step::at_least(1.0), Step(192));
        assert_eq!(Step::at_least(1e9), Step(255));
        assert_eq!(Step::at_least(0.0), Step(0));
    }

    #[test]
    fn gains_are_parts_of_octaves() {
        for coarseness in 0..=Gains::COARSEST {
            let most = (256 * Gains::RANGE) >> coarseness;
            let codes: Vec<i16> = (-most..=most).map(|c| c as i16).collect();
            let gains = Gains { coarseness, codes };
            assert!(gains.are_in_range());
            for (size, code) in gains.sizes().zip(-most..) {
                let want = 2f64.powf(f64::from(code << coarseness) / 256.0);
                assert!((f64::from(size) / want - 1.0).abs() < 3e-7, "{coarseness} {code}");
            }
            assert!(!Gains { coarseness, codes: vec![most as i16 + 1] }.are_in_range());
        }
        assert!(!Gains { coarseness: 8, codes: vec![] }.are_in_range());
        // Gains that differ are coded as finely as they differ; those that do not, finely.
        let gains: Vec<f32> = crate::testing::noise(500, 3).iter().map(|v| (0.2 * v).exp2()).collect();
        let coded = Gains::nearest(&gains, 0);
        let power = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v.log2()).powi(2)).sum::<f64>();
        let left = power(&mut coded.sizes().zip(&gains).map(|(a, b)| a / b)) / power(&mut gains.iter().copied());
        assert!((0.001..0.012).contains(&left), "{left}");
        assert_eq!(Gains::nearest(&gains, 2).coarseness, coded.coarseness + 2);
        // In eight bits each, however large beside their differences.
        let large = Gains::nearest(&[3.9, 3.901], 0);
        assert!(
            large.codes.iter().all(|c| i8::try_from(*c).is_ok())
                && large.sizes().zip([3.9, 3.901]).all(|(a, b)| (a / b).log2().abs() < 0.01)
        );
        assert!(Gains::nearest(&[4.0, 4.0001], 0).codes.iter().all(|c| i8::try_from(*c).is_ok()));
        let alike = Gains::nearest(&[1.1; 5], 0);
        assert_eq!((alike.coarseness, alike.codes[0]), (0, 35));
        assert!(Gains::nearest(&[f32::MIN_POSITIVE, f32::MAX], 0).are_in_range());
    }

    #[test]
    fn equation_5() {
        // R = 2, Δ = 1: levels −2 … 1.
        let q: Vec<i32> = [-9.0, -1.6, -0.5, 0.49, 0.5, 7.0].iter().map(|&v| index(v, 1.0, 2)).collect();
        assert_eq!(q, [-2, -2, 0, 0, 1, 1]);
        assert_eq!(index(5.0, 1.0, 0), 0);
        assert_eq!((index(-5.0, 1.0, 1), index(5.0, 1.0, 1)), (-1, 0));
    }

    #[test]
    fn without_clipping() {
        let q: Vec<i32> = [-9.0, -1.6, -1.5, -0.53, 0.0, 0.53, 0.55, 1.53, 7.0].iter().map(|&v| index(v, 1.0, UNCLIPPED)).collect();
        assert_eq!(q, [-9, -2, -1, 0, 0, 0, 1, 1, 7]);
        assert_eq!((index(f32::MAX, 1e9, UNCLIPPED), index(-1e30, 1.0, UNCLIPPED)), (GREATEST, -GREATEST));
    }

    proptest! {
        #[test]
        fn scaling_is_exact(w in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite() && (*v == 0.0 || v.abs() > 1e-30)), 0..20)) {
            let mut scaled = w.clone();
            let e = normalize(&mut scaled);
            let greatest = w.iter().fold(0f32, |m, v| m.max(v.abs()));
            let max = scaled.iter().fold(0f32, |m, v| m.max(v.abs()));
            prop_assert!(max == 0.0 || (0.5..1.0).contains(&max));
            scale(&mut scaled, i32::from(e));
            for (a, b) in scaled.iter().zip(&w) {
                // values more than 2^100 below the greatest may have become denormal
                prop_assert!(a == b || b.abs() < greatest * 1e-30, "{} {}", a, b);
            }
        }
    }

    #[test]
    fn denormal_layers_scale_too() {
        let mut w = [f32::from_bits(3), 0.0];
        let e = normalize(&mut w);
        assert_eq!(w[0], 0.75);
        scale(&mut w, i32::from(e));
        assert_eq!(w[0].to_bits(), 3);
    }
}
