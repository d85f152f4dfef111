//! Four floats side by side: a register in Wasm with SIMD, elsewhere an array that the compiler makes a register of.

/// Four floats.
#[derive(Clone, Copy)]
pub struct Four(Inner);

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
type Inner = core::arch::wasm32::v128;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
type Inner = [f32; 4];

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Four {
    /// Zeros.
    pub const ZERO: Four = Four(core::arch::wasm32::f32x4(0.0, 0.0, 0.0, 0.0));

    /// Eight floats as two.
    #[inline(always)]
    pub fn pair(from: &[f32; 8]) -> [Four; 2] {
        let from: *const Inner = from.as_ptr().cast();
        // SAFETY: eight floats are two vectors, and v128_load asks for no alignment.
        unsafe { [Four(core::arch::wasm32::v128_load(from)), Four(core::arch::wasm32::v128_load(from.add(1)))] }
    }

    /// Sums.
    #[inline(always)]
    pub fn plus(self, other: Four) -> Four {
        Four(core::arch::wasm32::f32x4_add(self.0, other.0))
    }

    /// Products.
    #[inline(always)]
    pub fn times(self, other: Four) -> Four {
        Four(core::arch::wasm32::f32x4_mul(self.0, other.0))
    }

    /// As an array.
    #[inline(always)]
    pub fn floats(self) -> [f32; 4] {
        let mut to = [0.0; 4];
        // SAFETY: four floats are one vector.
        unsafe { core::arch::wasm32::v128_store(to.as_mut_ptr().cast(), self.0) };
        to
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
impl Four {
    /// Zeros.
    pub const ZERO: Four = Four([0.0; 4]);

    /// Eight floats as two.
    #[inline(always)]
    pub fn pair(&[a, b, c, d, e, f, g, h]: &[f32; 8]) -> [Four; 2] {
        [Four([a, b, c, d]), Four([e, f, g, h])]
    }

    /// Sums.
    #[inline(always)]
    pub fn plus(self, other: Four) -> Four {
        Four(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    /// Products.
    #[inline(always)]
    pub fn times(self, other: Four) -> Four {
        Four(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }

    /// As an array.
    #[inline(always)]
    pub fn floats(self) -> [f32; 4] {
        self.0
    }
}
