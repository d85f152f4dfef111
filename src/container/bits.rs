//! Fixed-length codes packed into bytes, least significant bit first.

/// Packs codes of 0 to 32 bits.
#[derive(Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// Appends the `width` low bits of `code`.
    pub fn put(&mut self, code: u32, width: u32) {
        debug_assert!(width <= 32 && (width == 32 || code >> width == 0));
        self.pending |= u64::from(code) << self.count;
        self.count += width;
        while self.count >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// The bytes; the last one is filled up with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Reads what [`BitWriter`] wrote.
#[derive(Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    pending: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, next: 0, pending: 0, count: 0 }
    }

    /// The next code; `None` past the end.
    pub fn get(&mut self, width: u32) -> Option<u32> {
        while self.count < width {
            self.pending |= u64::from(*self.bytes.get(self.next)?) << self.count;
            self.next += 1;
            self.count += 8;
        }
        let code = (self.pending & ((1u64 << width) - 1)) as u32;
        self.pending >>= width;
        self.count -= width;
        Some(code)
    }

    /// Whether only the zeros that fill the last byte are left.
    pub fn at_end(&self) -> bool {
        self.next == self.bytes.len() && self.count < 8 && self.pending == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn roundtrip(codes in prop::collection::vec((any::<u32>(), 0u32..=32), 0..200)) {
            let mut w = BitWriter::default();
            let mask = |(c, n): (u32, u32)| if n == 32 { c } else { c & ((1 << n) - 1) };
            for &c in &codes {
                w.put(mask(c), c.1);
            }
            let bytes = w.finish();
            prop_assert_eq!(bytes.len() as u64, codes.iter().map(|c| u64::from(c.1)).sum::<u64>().div_ceil(8));
            let mut r = BitReader::new(&bytes);
            for &c in &codes {
                prop_assert_eq!(r.get(c.1), Some(mask(c)));
            }
            prop_assert!(r.at_end());
            prop_assert_eq!(r.get(9), None);
        }
    }
}
