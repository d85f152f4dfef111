//! The paper's comparison of transforms (Young et al. 2021, Figs. 6 and 9) on a real network, from scratch: `docs/results.md`.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{cargo, run, say};

const TRANSFORMS: [&str; 11] =
    ["none", "klt-col", "klt-row", "elt-col", "elt-row", "intra-dct1", "intra-dct2", "intra-klt", "intra-elt", "two-sided", "auto"];
const RATES: [f64; 3] = [2.0, 3.0, 4.0];
const OUT: &str = "docs/results.md";

/// What was measured for this project before it began, in Python, in the paper's convention (8 blocks, whole-bit depths, basis counted,
/// nothing matched afterwards): top-1 in per cent and mean squared error of the logits on the same 2000 images, per rate.
const BEFORE: [(&str, [(f64, f64); 3]); 5] = [
    ("none", [(13.4, 409.0), (64.0, 216.0), (85.3, 46.0)]),
    ("klt-col", [(50.6, 229.0), (66.4, 126.0), (86.5, 18.0)]),
    ("klt-row", [(67.1, 127.0), (84.9, 33.0), (87.7, 11.6)]),
    ("elt-col", [(46.9, 226.0), (76.4, 62.0), (87.0, 10.9)]),
    ("elt-row", [(68.6, 102.0), (85.8, 21.0), (87.8, 6.3)]),
];

/// What one run of the command line tool gave.
struct Row {
    transform: &'static str,
    rate: f64,
    bytes: u64,
    predicted: f64,
    measured: f64,
    top1: f64,
    error: f64,
    /// Layers predicted within a factor of 1.3, of all.
    near: (usize, usize),
}

/// Measures everything and writes the page.
pub fn paper() -> Result<()> {
    let folder = std::env::var_os("WATERFILL_DATA").map(PathBuf::from).context("WATERFILL_DATA names no folder with resnet20.onnx")?;
    run("the command line tool", cargo().args(["build", "--release"]))?;
    let work = Path::new("target/paper");
    fs::create_dir_all(work)?;
    let mut rows = Vec::new();
    for rate in RATES {
        for transform in TRANSFORMS {
            let row = measure(&folder, work, transform, rate)?;
            say(&format!("{rate} bits, {transform}: top-1 {:.2} %, squared output error {:.2}", row.top1, row.error));
            rows.push(row);
        }
    }
    fs::write(OUT, page(&rows)?)?;
    say(OUT);
    Ok(())
}

fn tool(arguments: &[&str]) -> Result<()> {
    let output = Command::new("target/release/waterfill").args(arguments).output()?;
    if !output.status.success() {
        bail!("waterfill {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn measure(folder: &Path, work: &Path, transform: &'static str, rate: f64) -> Result<Row> {
    let [model, calibration, test] = ["resnet20.onnx", "cifar10-calib1000.npz", "cifar10-test2000.npz"].map(|f| folder.join(f));
    let [tq, report, layers] = ["paper.tq", "paper.json", "layers.json"].map(|f| work.join(f));
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let (bits, model, calibration, test) = (rate.to_string(), text(&model), text(&calibration), text(&test));
    let (tq, report_text, layers_text) = (text(&tq), text(&report), text(&layers));
    let compress =
        ["compress", &model, "-o", &tq, "--bits", &bits, "--method", "transform", "--transform", transform, "--report", &report_text];
    let sampling = ["--calibration-images", "200", "--draws", "2"];
    tool(&[&compress[..], &["--calibration", &calibration, "--test", &test], &sampling].concat())?;
    let eval = ["eval", &tq, "--reference", &model, "--data", &calibration, "--limit", "300", "--layers", "--report", &layers_text];
    tool(&eval)?;
    let read = |path: &PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let (report, layers) = (read(&report)?, read(&layers)?);
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_f64).with_context(|| pointer.to_string());
    // The output's power on the images that layers were measured on.
    let power = number(&layers, "/compressed/distortion")? * 10f64.powf(number(&layers, "/compressed/sqnr_db")? / 10.0);
    let list = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let (predicted, damage) = (list(&report, "/allocation/layers"), list(&layers, "/damage"));
    let mut near = 0;
    for (layer, alone) in predicted.iter().zip(&damage) {
        let ratio = number(layer, "/error")? * power / number(alone, "/distortion")?;
        near += usize::from((1.0 / 1.3..1.3).contains(&ratio));
    }
    Ok(Row {
        transform,
        rate: number(&report, "/allocation/rate")?,
        bytes: number(&report, "/allocation/bytes")? as u64,
        predicted: number(&report, "/allocation/db")?,
        measured: -number(&report, "/check/compressed/sqnr_db")?,
        top1: 100.0 * number(&report, "/evaluation/compressed/top1")?,
        error: number(&report, "/evaluation/compressed/distortion")?,
        near: (near, damage.len()),
    })
}

fn page(rows: &[Row]) -> Result<String> {
    let mut out = String::from(
        "# Results\n\n\
         Written by `WATERFILL_DATA=… cargo xtask paper`, which measures everything on this page with the command line tool.\n\n\
         ResNet-20 on CIFAR-10 (268,336 weights in 20 layers, `resnet20.onnx`, full precision 88.65 %), fixed-length whole-bit depths, 8 blocks a layer, basis,\n\
         steps and depths counted in the rate; statistics of 200 calibration images with two draws each; no retraining, nothing matched afterwards. A layer goes without\n\
         the transform where that is cheaper; steps are chosen for all blocks together; `auto` chooses per layer, and takes the best of several allocations that it runs on\n\
         the calibration images. Accuracy and mean squared output error on 2000 test images. *Before*: what was measured in Python, with the transform in every layer, before\n\
         this project began.\n\n\
         *Predicted*: the error of the output by the second-order model, over the output's power; *measured*: of the network itself on the calibration images.\n\
         *Layers predicted*: layers whose error alone, measured on 300 calibration images, is within a factor of 1.3 of what the model says.\n\n\
         | transform | bits per weight | file, bytes | top-1, % | before | squared output error | before | predicted, dB | measured, dB | layers predicted |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (i, row) in rows.iter().enumerate() {
        let before = BEFORE.iter().find(|b| b.0 == row.transform).map(|b| b.1[i / TRANSFORMS.len()]);
        let (top1, error) = before.map_or_else(Default::default, |(top1, error)| (top1.to_string(), error.to_string()));
        writeln!(
            out,
            "| {} | {:.3} | {} | {:.2} | {top1} | {:.2} | {error} | {:.2} | {:.2} | {} of {} |",
            row.transform, row.rate, row.bytes, row.top1, row.error, row.predicted, row.measured, row.near.0, row.near.1
        )?;
    }
    out.push_str("\n## What it says\n\n");
    for rows in rows.chunks(TRANSFORMS.len()) {
        let best = |wanted: &dyn Fn(&str) -> bool| {
            rows.iter().filter(|r| wanted(r.transform)).min_by(|a, b| a.error.total_cmp(&b.error)).context("a row for each transform")
        };
        let [none, klt, elt, single, auto] = [
            best(&|t| t == "none")?,
            best(&|t| t == "klt-row" || t == "klt-col")?,
            best(&|t| t == "elt-row" || t == "elt-col")?,
            best(&|t| t != "auto")?,
            best(&|t| t == "auto")?,
        ];
        writeln!(
            out,
            "* {:.0} bits: squared output error of `none` {:.2}, of the better KLT (`{}`) {:.2}, of the better ELT (`{}`) {:.2}; of the best single transform \
             (`{}`) {:.2}, measured {:.2} dB on the calibration images; of `auto` {:.2}, measured {:.2} dB.",
            none.rate,
            none.error,
            klt.transform,
            klt.error,
            elt.transform,
            elt.error,
            single.transform,
            single.error,
            single.measured,
            auto.error,
            auto.measured
        )?;
    }
    let near = rows.iter().filter(|r| r.rate > 2.5).fold((0, 0), |sum, r| (sum.0 + r.near.0, sum.1 + r.near.1));
    let least = rows.iter().filter(|r| r.rate > 2.5).min_by_key(|r| r.near.0).context("a row")?;
    writeln!(
        out,
        "* Layers predicted within a factor of 1.3 at 3 bits and more: {} of {}; fewest with `{}` at {:.0} bits, {} of {}.",
        near.0, near.1, least.transform, least.rate, least.near.0, least.near.1
    )?;
    Ok(out)
}
