//! `waterfill eval`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use waterfill::{
    data::Dataset,
    error::Result,
    graph::Runnable,
    pipeline::{
        self, Opened,
        evaluate::{self, Decoded, Evaluator, Reference},
    },
    report::{Evaluation, EvaluationReport, table},
};

use crate::{
    files::{json, open, open_model, write_each},
    images::{dataset, preprocessing},
    options::{DataOptions, EVALUATIONS, evaluation_report},
    progress::{run, timed},
};

pub const EVAL_EXAMPLES: &str = "\
Examples:
  waterfill eval resnet20.onnx --data cifar10-test.npz                    (accuracy of a model)
  waterfill eval resnet20.tq --data cifar-10-batches-bin --reference resnet20.onnx
  waterfill eval resnet50.tq --data imagenet/val --limit 1000 --reference resnet50.onnx --layers --report eval.json
  waterfill eval lenet.onnx --data t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz
  waterfill eval net.onnx --data photos.zip --labels val.txt --resize 256 --crop 224 --mean 0.5 --std 0.5

Data: .npz with images and labels, .npy, CIFAR-10 and CIFAR-100 batches (binary), MNIST files, a zip or a folder of PNG, JPEG or WebP
images (a folder per class). How images become inputs is what the model says, or else guessed; see `inputs:` in the output.";

#[derive(Args)]
#[command(group(ArgGroup::new("images").args(["test"])), after_help = EVAL_EXAMPLES)]
pub struct Eval {
    /// A model or a .tq file.
    #[arg(value_name = "MODEL_OR_TQ")]
    pub model: PathBuf,
    /// Images: a file, several, or a folder.
    #[arg(long = "data", id = "test", value_name = "DATA", num_args = 1.., required = true)]
    pub test: Vec<PathBuf>,
    #[command(flatten)]
    pub data: DataOptions,
    /// The full-precision model to compare with.
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<PathBuf>,
    /// Find the damage that each layer does alone.
    #[arg(long, requires = "reference")]
    pub layers: bool,
    /// Write a report: .json (everything) or .csv. May be repeated.
    #[arg(long, value_name = "FILE", value_parser = evaluation_report)]
    pub report: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a task may take here.
pub const EVALUATION: evaluate::Options = evaluate::Options { limit: None, memory: 256 << 20, work: 2_000_000_000 };

pub fn evaluator(runnable: &Runnable, data: &Dataset, options: &DataOptions) -> Result<Evaluator> {
    let limit = options.limit.map(|n| n as usize);
    Evaluator::new(runnable, data, preprocessing(runnable, data, options)?, evaluate::Options { limit, ..EVALUATION })
}

pub fn run_reference(evaluator: &Evaluator) -> Result<(Reference, Evaluation)> {
    let (results, seconds) = timed(|| run(evaluator.reference_job()))?;
    let reference = evaluator.reference(results);
    let evaluation = evaluator.finish_reference(evaluate::FULL, seconds, &reference);
    Ok((reference, evaluation))
}

pub fn print_evaluation(report: &EvaluationReport) {
    print!("{}", table::evaluation_text(report));
    report.data.notes.iter().chain(&report.notes).for_each(|note| eprintln!("note: {note}"));
}

pub fn eval(args: &Eval, path: &Path) -> Result<()> {
    let data = dataset(&args.test, args.data.labels.as_deref())?;
    let opened = open(path, &[])?;
    let reference = args.reference.as_deref().map(|path| open_model(path, &[])).transpose()?;
    let report = match (opened, reference) {
        (Opened::Model(session), None) => {
            let evaluator = evaluator(&*session.runnable()?, &data, &args.data)?;
            let (_, full) = run_reference(&evaluator)?;
            evaluator.report(Some(full), None, Vec::new())
        }
        (Opened::Tq(tq), None) => {
            let runnable = evaluate::tq_runnable(&tq, run(pipeline::decode_job(&tq))?)?;
            let evaluator = evaluator(&runnable, &data, &args.data)?;
            let (_, evaluation) = run_reference(&evaluator)?;
            let what = evaluate::what(&pipeline::describe(&tq)?.1);
            evaluator.report(None, Some(Evaluation { what, ..evaluation }), Vec::new())
        }
        (opened, Some(original)) => {
            let (compressed, what, decoded) = match &opened {
                Opened::Model(session) => {
                    let decoded = if args.layers { evaluate::decoded_model(&session.model)? } else { Decoded::default() };
                    ((*session.runnable()?).clone(), session.model.name.clone(), decoded)
                }
                Opened::Tq(tq) => {
                    let tensors = run(pipeline::decode_job(tq))?;
                    let decoded = if args.layers { evaluate::decoded(tq, &tensors) } else { Decoded::default() };
                    (evaluate::tq_runnable(tq, tensors)?, evaluate::what(&pipeline::describe(tq)?.1), decoded)
                }
            };
            if args.layers {
                match &opened {
                    Opened::Model(session) => evaluate::same_tensors(&session.model.name, &session.model.tensors, &original.model)?,
                    Opened::Tq(tq) => evaluate::same_tensors(tq.name(), &tq.tensors, &original.model)?,
                }
            }
            let evaluator = evaluator(&*original.runnable()?, &data, &args.data)?;
            let (reference, full) = run_reference(&evaluator)?;
            let (results, seconds) = timed(|| run(evaluator.compressed_job(&compressed, &reference)?))?;
            let compressed = evaluator.finish(what, seconds, &results);
            let damage = match args.layers {
                true => evaluator.damage(&decoded, &run(evaluator.damage_job(&decoded, &reference, None))?),
                false => Vec::new(),
            };
            evaluator.report(Some(full), Some(compressed), damage)
        }
    };
    write_each(&args.report, false, &data.summary.name, &EVALUATIONS, |extension| match extension {
        "csv" => table::evaluation_csv(&report).into_bytes(),
        _ => json(&report).into_bytes(),
    })?;
    if args.json {
        print!("{}", json(&report));
    } else {
        print_evaluation(&report);
    }
    Ok(())
}
