//! Indices for the benchmarks of the entropy coder: Laplacian values whose rows, and channels of nine taps, have scales of their own, as weights have,
//! quantized to about a given rate; coded and decoded by the one plane that layers use.

#[path = "../noise.rs"]
mod noise;

use noise::noise;
use waterfill::entropy::{
    Plane,
    range::{Decoder, Encoder},
};

/// Rows, columns and taps.
const ROWS: usize = 256;
const WIDTH: usize = 2304;
const TAPS: usize = 9;

/// Weights in a plane.
pub const WEIGHTS: usize = ROWS * WIDTH;

/// Indices whose greatest scale is `scale` steps.
pub fn indices(scale: f32) -> Vec<i32> {
    let (values, rows, channels) = (noise(WEIGHTS, 1), noise(ROWS, 2), noise(WIDTH / TAPS, 3));
    // Noise is uniform from −0.5 to 0.5.
    let laplacian = |u: f32| -u.signum() * (1.0 - 2.0 * u.abs()).max(1e-6).ln();
    let local = |i: usize| (2.0 * rows[i / WIDTH] + 2.0 * channels[i % WIDTH / TAPS]).exp2();
    values.iter().enumerate().map(|(i, &u)| (scale * local(i) * laplacian(u)).round() as i32).collect()
}

/// Codes them.
pub fn encode(indices: &[i32], signs: bool) -> Vec<u8> {
    let (mut plane, mut encoder) = (Plane::new(WIDTH, TAPS, signs), Encoder::default());
    for row in indices.to_vec().chunks_mut(WIDTH) {
        plane.row(&mut encoder, row, |_| 0).expect("indices are in range");
    }
    encoder.finish()
}

/// Decodes them into a buffer.
pub fn decode(bytes: &[u8], signs: bool, indices: &mut [i32]) {
    let (mut plane, mut decoder) = (Plane::new(WIDTH, TAPS, signs), Decoder::new(bytes));
    for row in indices.chunks_mut(WIDTH) {
        plane.row(&mut decoder, row, |_| 0).expect("what was coded");
    }
}
