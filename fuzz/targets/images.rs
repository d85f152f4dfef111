//! A dataset of one file, under a name that the first byte chooses: opened, and its first images decoded.
#![no_main]

use waterfill::data::{self, Entry};
use waterfill_fuzz::{file, one_sentence};

const NAMES: [&str; 8] =
    ["a.npz", "a.npy", "test_batch.bin", "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz", "pictures.zip", "cat/a.png", "cat/a.webp"];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let name = NAMES[usize::from(first) % NAMES.len()];
    match data::open(vec![Entry { path: name.into(), source: file(name, data) }]) {
        Err(error) => one_sentence(&error),
        Ok(dataset) => {
            assert!(dataset.labels.as_ref().is_none_or(|labels| labels.len() == dataset.images.len()));
            for index in 0..dataset.images.len().min(3) {
                if let Err(error) = dataset.images.read(index).and_then(data::decode) {
                    one_sentence(&error);
                }
            }
        }
    }
});
