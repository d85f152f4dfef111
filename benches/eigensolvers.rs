//! nalgebra's symmetric eigensolver against faer's: where `transform::linalg::FAER_FROM` should be.

use std::time::Instant;

use nalgebra::{DMatrix, SymmetricEigen};

fn main() {
    println!("symmetric eigendecomposition with vectors, f64, milliseconds");
    println!("{:>6} {:>10} {:>10} {:>7}", "n", "nalgebra", "faer", "ratio");
    for n in [8, 16, 32, 48, 64, 96, 128, 256, 512] {
        let mut s = 1u64;
        let x = DMatrix::from_fn(n, 2 * n, |_, _| {
            s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (s >> 40) as f64 / f64::from(1 << 24) - 0.5
        });
        let c = &x * x.transpose();
        let time = |f: &dyn Fn() -> f64| {
            let runs = (400_000 / (n * n)).clamp(2, 400);
            let start = Instant::now();
            let sum: f64 = (0..runs).map(|_| f()).sum();
            assert!(sum.is_finite());
            start.elapsed().as_secs_f64() * 1e3 / runs as f64
        };
        let nalgebra = time(&|| SymmetricEigen::new(c.clone()).eigenvalues[0]);
        let view = faer::MatRef::from_column_major_slice(c.as_slice(), n, n);
        let faer = time(&|| view.self_adjoint_eigen(faer::Side::Lower).map_or(f64::NAN, |e| e.S()[0]));
        println!("{n:>6} {nalgebra:>10.3} {faer:>10.3} {:>7.2}", nalgebra / faer);
    }
}
