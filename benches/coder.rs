//! The entropy coder natively, one thread: millions of weights a second, the best of some runs, by rate; without and with contexts of signs.

#[path = "coder/mod.rs"]
mod planes;

use std::{hint::black_box, time::Instant};

use planes::{WEIGHTS, decode, encode, indices};

/// Millions of weights a second of the fastest of some runs.
fn best(mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    WEIGHTS as f64 / (0..7).map(time).fold(f64::INFINITY, f64::min) / 1e6
}

fn main() {
    println!("{:>15} {:>8} {:>12} {:>12}", "bits per weight", "signs", "encoding M/s", "decoding M/s");
    for scale in [0.3f32, 0.8, 1.6, 3.2, 12.8] {
        let indices = indices(scale);
        for signs in [false, true] {
            let bytes = encode(&indices, signs);
            let mut back = vec![0; WEIGHTS];
            let encoding = best(|| drop(black_box(encode(black_box(&indices), signs))));
            let decoding = best(|| decode(black_box(&bytes), signs, &mut back));
            assert_eq!(back, indices);
            let rate = 8.0 * bytes.len() as f64 / WEIGHTS as f64;
            println!("{rate:>15.2} {:>8} {encoding:>12.1} {decoding:>12.1}", if signs { "contexts" } else { "raw" });
        }
    }
}
