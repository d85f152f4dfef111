//! Planes of indices from any bytes, and back: what was decoded encodes to bytes that decode to it.
#![no_main]

use waterfill::entropy::{
    Plane,
    range::{Decoder, Encoder},
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[rows, width, period, signs], bytes)) = data.split_first_chunk::<4>() else { return };
    let (rows, width) = (usize::from(rows % 16), usize::from(width).max(1));
    let plane = || Plane::new(width, period.into(), signs % 2 == 1);
    let read = |bytes: &[u8]| -> Result<Vec<i32>, String> {
        let (mut plane, mut decoder, mut indices) = (plane(), Decoder::new(bytes), vec![0; rows * width]);
        indices.chunks_mut(width).try_for_each(|row| plane.row(&mut decoder, row, |_| 0))?;
        Ok(indices)
    };
    let Ok(indices) = read(bytes) else { return };
    let (mut plane, mut encoder) = (plane(), Encoder::default());
    for row in indices.clone().chunks_mut(width) {
        plane.row(&mut encoder, row, |_| 0).expect("decoded indices are in range");
    }
    assert_eq!(read(&encoder.finish()), Ok(indices));
});
