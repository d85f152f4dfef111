//! The command line tool. Progress on stderr, results on stdout; exit 0: done, 1: the input's fault, 2: usage.

mod compress;
mod curve;
mod curves;
mod decompress;
mod eval;
mod figure;
mod files;
mod gains;
mod images;
mod inspect;
mod options;
mod progress;
mod recipe;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use waterfill::error::Result;

const EXAMPLES: &str = "\
Examples:
  waterfill compress resnet.onnx -o resnet.tq --bits 4
  waterfill compress a.onnx b.safetensors --ratio 8          (writes a.tq and b.tq)
  waterfill compress resnet.pth -o resnet.tq --size 3000000 --lock conv1.weight=8 --exclude fc.weight --report resnet.json
  waterfill compress resnet.onnx --recipe resnet.recipe.json --calibration images
  waterfill decompress resnet.tq -o resnet-small.onnx
  waterfill curve resnet.onnx --plot curve.svg --json > curve.json
  waterfill curves resnet.onnx --data test.npz --calibration train.npz --plot measured.svg
  waterfill inspect resnet.tq
  waterfill gains resnet.onnx --calibration images.npz --csv gains.csv
  waterfill figure spectrum resnet.onnx --layer fc.weight --bits 3 -o spectrum.svg
  waterfill eval resnet.tq --data test.npz --reference resnet.onnx";

/// Compresses neural-network weights by transform quantization. Nothing leaves this machine.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compress models (safetensors, ONNX, npz, npy, PyTorch checkpoints) into .tq files.
    Compress(compress::Compress),
    /// Rebuild models, in their own formats, from .tq files.
    Decompress(decompress::Decompress),
    /// Compute the rate–distortion curves of models.
    Curve(curve::Curve),
    /// Measure distortion and accuracy against rate, for every transform.
    Curves(curves::Curves),
    /// Show what a model or a .tq file holds.
    Inspect(inspect::Inspect),
    /// Run a model or a .tq file on images: accuracy, agreement with a reference, output error.
    Eval(eval::Eval),
    /// Compute what each transform gains in each layer of a model, before anything is quantized.
    Gains(gains::Gains),
    /// Compute a figure of the paper for a model: its numbers, or a drawing.
    Figure(figure::Figure),
}

fn main() -> ExitCode {
    sigpipe::reset();
    let cli = Cli::parse();
    let failures = match cli.command {
        Command::Compress(c) => each(&c.models, |model| compress::compress(&c, model)),
        Command::Decompress(d) => each(&d.files, |file| decompress::decompress(&d, file)),
        Command::Curve(c) => each(&c.models, |model| curve::curve(&c, model)),
        Command::Curves(c) => usize::from(curves::curves(&c).inspect_err(|e| eprintln!("error: {e}")).is_err()),
        Command::Inspect(i) => each(&i.files, |file| inspect::inspect(&i, file)),
        Command::Eval(e) => each(std::slice::from_ref(&e.model), |model| eval::eval(&e, model)),
        Command::Gains(g) => each(std::slice::from_ref(&g.model), |_| gains::gains(&g)),
        Command::Figure(f) => each(std::slice::from_ref(f.model.as_ref().unwrap_or(&PathBuf::new())), |_| figure::figure(&f)),
    };
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Does something to each file; one that fails does not stop the others. Returns how many failed.
fn each(files: &[PathBuf], action: impl Fn(&Path) -> Result<()>) -> usize {
    files.iter().filter(|file| action(file).inspect_err(|e| eprintln!("error: {e}")).is_err()).count()
}
