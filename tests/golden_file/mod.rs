//! The committed `.tq` and the checksum of its decoded tensors, for every build that must agree on it.
//!
//! `densenet-digits.tq` is `www/samples/densenet-digits.onnx` at 2.5 bits with `klt-col`: transforms, pruned blocks, row
//! scales; `densenet-digits-adaptive.tq` the same by a later build, adaptively coded; `densenet-digits-trellis.tq` with `--coding entropy`.
//! `resnet-digits-feedback.tq` is `www/samples/resnet-digits.onnx` at 2 bits with `--coding entropy --calibration www/samples/digits-test.npz`, errors
//! fed back and gains matched: scales of columns, gains; `resnet-digits-cosine.tq` the same by a later build, columns being cosine coefficients. The `kernels-….tq` are layers of many shapes of kernels (`kernels.py`), at 5 bits and 3 blocks, each file with another of the
//! transforms within kernels or the two-sided one where a layer has it. The checksums are what `docs/tq.py` computes, a decoder written from docs/format.md with numpy.

use std::rc::Rc;

use waterfill::{container::TqFile, io::TensorReader, io::source::BytesSource};

/// The files, and the CRC-32 over the bytes of all their tensors in table order.
const FILES: [(&str, &[u8], u32); 9] = [
    ("densenet-digits.tq", include_bytes!("densenet-digits.tq"), 0x9a34_900c),
    ("densenet-digits-adaptive.tq", include_bytes!("densenet-digits-adaptive.tq"), 0xa4bf_facd),
    ("densenet-digits-trellis.tq", include_bytes!("densenet-digits-trellis.tq"), 0x4f2c_0fba),
    ("resnet-digits-feedback.tq", include_bytes!("resnet-digits-feedback.tq"), 0xbc73_89b0),
    ("resnet-digits-cosine.tq", include_bytes!("resnet-digits-cosine.tq"), 0x96c6_662f),
    ("kernels-intra-dct1.tq", include_bytes!("kernels-intra-dct1.tq"), 0xfa69_bd45),
    ("kernels-intra-dct2.tq", include_bytes!("kernels-intra-dct2.tq"), 0x5a5e_c297),
    ("kernels-intra-klt.tq", include_bytes!("kernels-intra-klt.tq"), 0xde76_57ed),
    ("kernels-two-sided.tq", include_bytes!("kernels-two-sided.tq"), 0xbbbf_ecb0),
];

/// Decodes the files and compares.
pub fn check() {
    for (name, file, checksum) in FILES {
        let tq = TqFile::open(Rc::new(BytesSource::new(name, file.to_vec()))).expect("a golden file opens");
        let mut crc = crc32fast::Hasher::new();
        for index in 0..tq.tensors.len() {
            crc.update(&tq.read(index).expect("a golden file decodes"));
        }
        assert_eq!(crc.finalize(), checksum, "decoded weights of {name} changed");
    }
}
