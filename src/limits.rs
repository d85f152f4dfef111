//! Bounds on what a file may ask for, checked BEFORE anything is allocated for it.

/// Most tensors in a file.
pub const TENSORS: usize = 1 << 17;
/// Most dimensions of a tensor.
pub const DIMENSIONS: usize = 16;
/// Longest name of a tensor or archive member, in bytes.
pub const NAME: usize = 4096;
/// Largest header, pickle, or graph without its weights, in bytes.
pub const HEADER: u64 = 256 << 20;
/// Most weights in one tensor: its f32 copy and its transform must fit a 4 GiB Wasm memory.
pub const WEIGHTS: u64 = 1 << 28;
/// Largest ratio of inflated to deflated size believed of an archive member (deflate's own limit is 1032).
pub const INFLATION: u64 = 1040;
/// Most weights per byte of a `.tq` that are believed (a pruned layer takes a few bytes, however large it is).
pub const EXPANSION: u64 = 1 << 16;
/// Most bytes of constants that are computed while a graph is read.
pub const COMPUTED: u64 = 1 << 30;
/// Most bytes of weights held in memory to run a network: beside files, activations and code in the 4 GiB of Wasm, or natively.
pub const RUN_WEIGHTS: u64 = if usize::BITS == 32 { 3 << 29 } else { 16 << 30 };
/// Most bytes of activations of one run of a network.
pub const ACTIVATIONS: u64 = 2 << 30;
/// Deepest nesting of pickled or protobuf values.
pub const DEPTH: usize = 64;

/// Most images of a dataset.
pub const IMAGES: usize = 1 << 22;
/// Most bytes of images that are inflated at once, because they cannot be inflated one by one.
pub const INFLATED: u64 = 1 << 30;
/// Longest side of an encoded image, in pixels.
pub const SIDE: u32 = 1 << 15;
/// Most bytes of an encoded image once decoded.
pub const DECODED: u64 = 512 << 20;

/// Product of a shape, or `None` when it overflows or exceeds [`WEIGHTS`] or [`DIMENSIONS`].
pub fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.len() > DIMENSIONS {
        return None;
    }
    let mut n: u64 = 1;
    for &d in shape {
        n = n.checked_mul(d as u64)?;
    }
    (n <= WEIGHTS).then_some(n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_overflow_have_no_count() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[3, 0, 5]), Some(0));
        assert_eq!(element_count(&[usize::MAX, 2]), None);
        assert_eq!(element_count(&[1 << 20, 1 << 20]), None);
        assert_eq!(element_count(&[1; 17]), None);
    }
}
