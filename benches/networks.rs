//! Forward and reverse passes of whole networks, natively: milliseconds, GFLOP/s (two for each multiplication, three forward passes for
//! forward and back), and how much of the rate of a product of 256×256 matrices that is; on one thread, and with half the images on
//! each of two. With `WATERFILL_PYTHON` naming a Python that has `onnx` and `onnxruntime`, ResNet-50 is compared with the latter.

mod architectures;

use std::{
    hint::black_box,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Instant,
};

use architectures::{ALL, network, noise, run};
use waterfill::nn::kernel::{Matrix, fastest, product};

/// Seconds of the fastest of some runs.
fn best(runs: usize, mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(time).fold(f64::INFINITY, f64::min)
}

/// GFLOP/s of products of 256×256 matrices, as gradients are taken with or networks evaluated.
fn kernel_rate(gradient: bool) -> f64 {
    let (a, b, mut c) = (noise(65536, 1), noise(65536, 2), vec![0.0; 65536]);
    let mut call = || product(256, 256, 256, Matrix::rows(&a, 256), Matrix::rows(&b, 256), &mut c, 256, false);
    let time = best(200, || if gradient { call() } else { fastest(&mut call) });
    black_box(&c);
    2.0 * 256f64.powi(3) / time / 1e9
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{:<14} {:>6} {:>7} {:<16} {:>9} {:>8} {:>9}", "", "images", "threads", "", "ms", "GFLOP/s", "of kernel");
    for (name, images) in ALL.into_iter().filter(|(name, _)| name.contains(&only)) {
        for threads in [1, 2] {
            if images % threads != 0 {
                continue;
            }
            let part = network(name, images / threads);
            for gradient in [false, true] {
                let rate = kernel_rate(gradient);
                let time = best(4, || {
                    std::thread::scope(|scope| {
                        (1..threads).for_each(|_| drop(scope.spawn(|| run(&part, gradient))));
                        run(&part, gradient);
                    });
                });
                let flops = 2.0 * part.multiplications() as f64 * threads as f64 * if gradient { 3.0 } else { 1.0 } / time / 1e9;
                let what = if gradient { "forward and back" } else { "forward" };
                let share = flops / rate / threads as f64 * 100.0;
                println!("{name:<14} {images:>6} {threads:>7} {what:<16} {:>9.1} {flops:>8.1} {share:>8.0}%", time * 1e3);
            }
        }
    }
    if "ResNet-50".contains(&only) {
        compare();
    }
}

/// ResNet-50 forward, one image, one thread: runs alternate with those of onnxruntime, which waits for a line before each.
fn compare() {
    let Ok(python) = std::env::var("WATERFILL_PYTHON") else {
        println!("onnxruntime: left out, WATERFILL_PYTHON names no Python with onnx and onnxruntime");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/onnxruntime_speed.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
    let (mut ask, mut answers) = (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")).lines());
    let resnet = network("ResNet-50", 1);
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    run(&resnet, false);
    for _ in 0..12 {
        ours = ours.min(best(1, || run(&resnet, false)));
        writeln!(ask, "run").expect("the script runs");
        let answer = answers.next().expect("the script answers").expect("text");
        theirs = theirs.min(answer.parse().expect("seconds"));
    }
    drop(ask);
    child.wait().expect("the script ends");
    println!(
        "ResNet-50 forward, one image, one thread: {:.1} ms, onnxruntime {:.1} ms, ratio {:.2}",
        ours * 1e3,
        theirs * 1e3,
        ours / theirs
    );
}
