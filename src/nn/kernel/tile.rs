//! One tile of a product, for the registers of a processor. The order of sums is the same in all, and no product is fused with the sum that it is added to:
//! see [`super::packed`].

/// The product of a panel of `A`, `R` rows, and a panel of `B`, `C` columns: both hold as many terms.
pub trait Tile<const R: usize, const C: usize>: Copy {
    /// The sums over all terms. `a` holds `R` numbers a term, `b` `C`.
    fn product(self, a: &[f32], b: &[f32]) -> [[f32; C]; R];
}

/// 4×8, for 16 registers of four floats, as Wasm has them.
#[derive(Debug, Clone, Copy)]
pub struct Narrow;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Tile<4, 8> for Narrow {
    #[inline(always)]
    fn product(self, a: &[f32], b: &[f32]) -> [[f32; 8]; 4] {
        use core::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, v128, v128_load, v128_load32_splat, v128_store};
        let mut sums = [[f32x4_splat(0.0); 2]; 4];
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<8>().0) {
            // SAFETY: `b` holds 8 floats.
            let (left, right) = unsafe { (v128_load(b.as_ptr().cast()), v128_load(b.as_ptr().add(4).cast())) };
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `a` holds 4 floats.
                let a = unsafe { v128_load32_splat(a.as_ptr().add(i).cast()) };
                sums[0] = f32x4_add(sums[0], f32x4_mul(a, left));
                sums[1] = f32x4_add(sums[1], f32x4_mul(a, right));
            }
        }
        let mut tile = [[0.0; 8]; 4];
        for (row, [left, right]) in tile.iter_mut().zip(sums) {
            let to: *mut v128 = row.as_mut_ptr().cast();
            // SAFETY: a row holds two vectors, and v128_store asks for no alignment.
            unsafe {
                v128_store(to, left);
                v128_store(to.add(1), right);
            }
        }
        tile
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
impl Tile<4, 8> for Narrow {
    #[inline(always)]
    fn product(self, a: &[f32], b: &[f32]) -> [[f32; 8]; 4] {
        let mut sums = [[0.0f32; 8]; 4];
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<8>().0) {
            for (sums, a) in sums.iter_mut().zip(a) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        sums
    }
}

#[cfg(target_arch = "x86_64")]
pub use wide::{Wide, Wider};

#[cfg(target_arch = "x86_64")]
mod wide {
    use core::arch::x86_64::{
        _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_loadu_ps,
        _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::Tile;

    /// 4×16, for 16 registers of eight floats. There is one only where the processor has AVX.
    #[derive(Debug, Clone, Copy)]
    pub struct Wide(());

    impl Wide {
        /// Where the processor has them.
        pub fn new() -> Option<Wide> {
            is_x86_feature_detected!("avx").then_some(Wide(()))
        }
    }

    impl Tile<4, 16> for Wide {
        #[inline(always)]
        fn product(self, a: &[f32], b: &[f32]) -> [[f32; 16]; 4] {
            // SAFETY: the processor has AVX, or there were no `Wide`.
            unsafe { avx(a, b) }
        }
    }

    #[target_feature(enable = "avx")]
    fn avx(a: &[f32], b: &[f32]) -> [[f32; 16]; 4] {
        let mut sums = [[_mm256_setzero_ps(); 2]; 4];
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<16>().0) {
            // SAFETY: `b` holds 16 floats, and the load asks for no alignment.
            let (left, right) = unsafe { (_mm256_loadu_ps(b.as_ptr()), _mm256_loadu_ps(b.as_ptr().add(8))) };
            for (sums, a) in sums.iter_mut().zip(a) {
                let a = _mm256_set1_ps(*a);
                sums[0] = _mm256_add_ps(sums[0], _mm256_mul_ps(a, left));
                sums[1] = _mm256_add_ps(sums[1], _mm256_mul_ps(a, right));
            }
        }
        let mut tile = [[0.0; 16]; 4];
        for (row, [left, right]) in tile.iter_mut().zip(sums) {
            // SAFETY: a row holds 16 floats, and the store asks for no alignment.
            unsafe {
                _mm256_storeu_ps(row.as_mut_ptr(), left);
                _mm256_storeu_ps(row.as_mut_ptr().add(8), right);
            }
        }
        tile
    }

    /// 8×32, for 32 registers of sixteen floats. There is one only where the processor has AVX-512.
    #[derive(Debug, Clone, Copy)]
    pub struct Wider(());

    impl Wider {
        /// Where the processor has them.
        pub fn new() -> Option<Wider> {
            is_x86_feature_detected!("avx512f").then_some(Wider(()))
        }
    }

    impl Tile<8, 32> for Wider {
        #[inline(always)]
        fn product(self, a: &[f32], b: &[f32]) -> [[f32; 32]; 8] {
            // SAFETY: the processor has AVX-512, or there were no `Wider`.
            unsafe { avx512(a, b) }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn avx512(a: &[f32], b: &[f32]) -> [[f32; 32]; 8] {
        let mut sums = [[_mm512_setzero_ps(); 2]; 8];
        for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<32>().0) {
            // SAFETY: `b` holds 32 floats, and the load asks for no alignment.
            let (left, right) = unsafe { (_mm512_loadu_ps(b.as_ptr()), _mm512_loadu_ps(b.as_ptr().add(16))) };
            for (sums, a) in sums.iter_mut().zip(a) {
                let a = _mm512_set1_ps(*a);
                sums[0] = _mm512_add_ps(sums[0], _mm512_mul_ps(a, left));
                sums[1] = _mm512_add_ps(sums[1], _mm512_mul_ps(a, right));
            }
        }
        let mut tile = [[0.0; 32]; 8];
        for (row, [left, right]) in tile.iter_mut().zip(sums) {
            // SAFETY: a row holds 32 floats, and the store asks for no alignment.
            unsafe {
                _mm512_storeu_ps(row.as_mut_ptr(), left);
                _mm512_storeu_ps(row.as_mut_ptr().add(16), right);
            }
        }
        tile
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// The same bits as one sum after the other.
    fn check<const R: usize, const C: usize>(tile: impl Tile<R, C>) {
        for terms in [0, 1, 7, 256] {
            let (a, b) = (noise(R * terms, 1), noise(C * terms, 2));
            let sums = tile.product(&a, &b);
            for (i, row) in sums.iter().enumerate() {
                for (j, sum) in row.iter().enumerate() {
                    let one = (0..terms).fold(0f32, |sum, k| sum + a[k * R + i] * b[k * C + j]);
                    assert_eq!(sum.to_bits(), one.to_bits(), "{R}×{C}, {terms} terms, at {i} {j}");
                }
            }
        }
    }

    #[test]
    fn tiles_of_all_sizes_are_the_same_sums() {
        check(Narrow);
        #[cfg(target_arch = "x86_64")]
        {
            Wide::new().into_iter().for_each(check);
            Wider::new().into_iter().for_each(check);
        }
    }
}
