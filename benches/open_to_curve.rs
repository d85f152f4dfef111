//! From opening a file of ResNet-50's size to its rate–distortion curve, natively; then what a new budget costs.
//!
//! `cargo bench --bench open_to_curve` prints the times with one thread and with two. The file it makes
//! (`target/bench/resnet50-sized.safetensors`, 102 MB of seeded pseudo-random weights) is what `cargo xtask bench` opens in the browser.

use std::{fs, io::Write, path::Path, process::Command, rc::Rc, time::Instant};

use waterfill::{
    io::source::PathSource,
    pipeline::{self, Opened, job},
    report::{AllocationSettings, Budget, CurveSettings},
};

const FILE: &str = "target/bench/resnet50-sized.safetensors";

/// ResNet-50's 53 convolutions and its dense layer: outputs, inputs, kernel.
fn shapes() -> Vec<(String, [usize; 4])> {
    let mut shapes = vec![("conv1".to_string(), [64, 3, 7, 7])];
    let mut inputs = 64;
    for (stage, (width, blocks)) in [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate() {
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            shapes.push((format!("{name}.conv1"), [width, inputs, 1, 1]));
            shapes.push((format!("{name}.conv2"), [width, width, 3, 3]));
            shapes.push((format!("{name}.conv3"), [4 * width, width, 1, 1]));
            if block == 0 {
                shapes.push((format!("{name}.downsample"), [4 * width, inputs, 1, 1]));
            }
            inputs = 4 * width;
        }
    }
    shapes.push(("fc".into(), [1000, 2048, 1, 1]));
    shapes
}

/// Writes the file: rows of different variances around a common direction, so that there is something to decorrelate.
fn write_file() -> std::io::Result<()> {
    let shapes = shapes();
    let mut header = String::from("{");
    let mut offset = 0;
    for (name, s) in &shapes {
        let end = offset + 4 * s.iter().product::<usize>();
        header += &format!("\"{name}.weight\":{{\"dtype\":\"F32\",\"shape\":{s:?},\"data_offsets\":[{offset},{end}]}},");
        offset = end;
    }
    header.pop();
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    fs::create_dir_all(Path::new(FILE).parent().expect("the file is in a folder"))?;
    let mut out = std::io::BufWriter::new(fs::File::create(FILE)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut s = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    for (_, [n, m, a, b]) in shapes {
        let row = m * a * b;
        let common: Vec<f32> = (0..row).map(|_| uniform()).collect();
        for i in 0..n {
            let scale = 0.05 / (1.0 + i as f32 / n as f32);
            for c in &common {
                let v = scale * (0.3 * c + uniform() * uniform().abs() * 2.0);
                out.write_all(&v.to_le_bytes())?;
            }
        }
    }
    out.flush()
}

/// One run, in a process of its own (a pool's size is fixed once).
fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let Opened::Model(mut session) = pipeline::open(vec![Rc::new(PathSource::open(FILE)?)])? else { return Err("not a model".into()) };
    let settings = CurveSettings::default();
    let curves = job::run(session.curves_job(settings), &mut |_| Ok(()))?;
    session.set_curves(settings, curves);
    session.rd_curves(&AllocationSettings::default())?;
    println!("native, {} thread(s): open to curve {:.2} s", job::threads(), start.elapsed().as_secs_f64());

    let start = Instant::now();
    const BUDGETS: u32 = 100;
    for i in 0..BUDGETS {
        let budget = Budget::Bits(1.0 + 0.07 * f64::from(i));
        session.allocate(&AllocationSettings { budget, ..Default::default() })?;
    }
    println!("native: a new budget {:.3} ms", start.elapsed().as_secs_f64() * 1e3 / f64::from(BUDGETS));

    let (allocation, _) = session.allocate(&AllocationSettings::default())?;
    let start = Instant::now();
    let layers = job::run(session.encode_job(&allocation), &mut |_| Ok(()))?;
    let mut file = Vec::new();
    let bytes = session.write(&layers, &mut file)?;
    println!("native, {} thread(s): encode at 4 bits {:.2} s, {bytes} bytes", job::threads(), start.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("WATERFILL_BENCH_CHILD").is_some() {
        return measure();
    }
    if !Path::new(FILE).exists() {
        write_file()?;
    }
    println!("{FILE}: {} bytes, {} layers", fs::metadata(FILE)?.len(), shapes().len());
    if std::env::args().any(|a| a == "--write-only") {
        return Ok(());
    }
    for threads in ["1", "2"] {
        let child = Command::new(std::env::current_exe()?).env("WATERFILL_BENCH_CHILD", "1").env("RAYON_NUM_THREADS", threads).status()?;
        if !child.success() {
            return Err("the measurement failed".into());
        }
    }
    Ok(())
}
