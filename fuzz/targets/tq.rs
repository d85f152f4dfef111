//! A whole `.tq`, its checksums put right first: what they protect is then reached.
#![no_main]

use std::rc::Rc;

use waterfill::{
    container::TqFile,
    error::Error,
    io::{Source, TensorReader},
    pipeline,
};
use waterfill_fuzz::{file, one_sentence};

/// Puts the checksum of every section right, as far as frames lead.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut at = 8;
    while let Some(&[a, b, c, d]) = data.get(at + 1..at + 5) {
        let end = at + 5 + u32::from_le_bytes([a, b, c, d]) as usize;
        if end + 4 > data.len() {
            break;
        }
        let crc = crc32fast::hash(&data[at..end]).to_le_bytes();
        data[end..end + 4].copy_from_slice(&crc);
        at = end + 4;
    }
    data
}

fn read(data: &[u8], open: fn(Rc<dyn Source>) -> Result<TqFile, Error>) -> Result<(), Error> {
    let tq = open(file("fuzz.tq", data))?;
    for index in 0..tq.tensors.len() {
        match tq.read(index) {
            Ok(bytes) => assert_eq!(bytes.len(), tq.tensors[index].bytes()),
            Err(error) => one_sentence(&error),
        }
    }
    pipeline::describe(&tq)?;
    waterfill::io::skeleton::write(&tq.skeleton, &tq, &mut std::io::sink())
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for data in [data, &with_checksums(data)] {
        for open in [TqFile::open, TqFile::recover] {
            if let Err(error) = read(data, open) {
                one_sentence(&error);
            }
        }
    }
});
