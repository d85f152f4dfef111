//! Labels in a file of their own, for two images, under a name that the first byte chooses.
#![no_main]

use std::sync::LazyLock;

use waterfill::data::{self, Entry};
use waterfill_fuzz::{file, one_sentence};

/// Two grey images of 2×2, as an IDX file.
static IMAGES: LazyLock<Vec<u8>> = LazyLock::new(|| [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2][..], &[7; 8]].concat());

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let name = ["labels.npy", "labels.npz", "labels.txt", "labels.csv"][usize::from(first) % 4];
    let entry = Entry { path: "t10k-images-idx3-ubyte".into(), source: file("t10k-images-idx3-ubyte", &IMAGES) };
    let dataset = data::open(vec![entry]).expect("two images");
    match data::with_labels(dataset, file(name, data)) {
        Err(error) => one_sentence(&error),
        Ok(dataset) => assert_eq!(dataset.labels.map(|l| l.len()), Some(2)),
    }
});
