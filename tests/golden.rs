//! A `.tq` written by an earlier build decodes to the same bits: natively here, in both Wasm builds in `tests/wasm.rs` and
//! `tests/wasm_threads.rs`.
#![cfg(feature = "core")]

mod golden_file;

#[test]
fn decoded_bits_are_the_same_natively() {
    golden_file::check();
}
