//! The committed `.tq` and the checksum of its decoded tensors, for every build that must agree on it.
//!
//! `densenet-digits.tq` is `www/samples/densenet-digits.onnx` at 2.5 bits with `klt-col`: transforms, pruned blocks, row
//! scales. The checksum is what `tests/interop/decode_tq.py` computes, a decoder written from docs/format.md with numpy.

use std::rc::Rc;

use waterfill::{container::TqFile, io::TensorReader, io::source::BytesSource};

/// CRC-32 over the bytes of all tensors in table order.
pub const CHECKSUM: u32 = 0x9a34_900c;

/// Decodes the file and compares.
pub fn check() {
    let file = include_bytes!("densenet-digits.tq");
    let tq = TqFile::open(Rc::new(BytesSource::new("densenet-digits.tq", file.to_vec()))).expect("the golden file opens");
    let mut crc = crc32fast::Hasher::new();
    for index in 0..tq.tensors.len() {
        crc.update(&tq.read(index).expect("the golden file decodes"));
    }
    assert_eq!(crc.finalize(), CHECKSUM, "decoded weights changed");
}
