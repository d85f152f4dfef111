//! `waterfill compress`.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use clap::{ArgGroup, Args};
use waterfill::{
    container::TqFile,
    error::{Error, Result},
    io::source::PathSource,
    pipeline::{
        self, evaluate,
        job::{Span, wait},
        promise::{self, Tests},
        settle::{Settled, settle},
    },
    report::{
        Report, TransformChoice,
        plot::{self, Palette},
        promise::Promise,
        table,
    },
};

use crate::{
    EXAMPLES,
    eval::{evaluator, print_evaluation, run_reference},
    files::{PLOT, json, open_model, output, write_each, write_file},
    images::{Calibration, dataset},
    options::{AllocationOptions, CalibrationOptions, CodingOptions, CurveOptions, DataOptions, REPORTS, points, report},
    progress::{progress_bar, run, runner, timed},
    recipe,
};

#[derive(Args, Clone)]
#[command(
    group(ArgGroup::new("budget")),
    group(ArgGroup::new("images").args(["test", "calibration"]).multiple(true)),
    after_help = EXAMPLES
)]
pub struct Compress {
    /// Model files.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Where to write: a file for one model, a folder for several. Default: next to the model, with the extension .tq.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub allocation: AllocationOptions,
    /// Budget as a promise: the smallest file found (of 8 at most that are tried) that loses at most so many percentage points of top-1 on the
    /// images of --test; without labels, of agreement with the full-precision network. Images that choose the rate are no proof for
    /// others: chance alone, one standard deviation of sqrt(p(1-p)/n), is told in points.
    #[arg(long, group = "budget", value_name = "POINTS", value_parser = points, requires = "test")]
    pub lose: Option<f64>,
    /// All of these from a recipe, as the page or --save-recipe saves it: budget, transform, how to code and to calibrate, locks, excludes.
    /// Options that are given as well go before it. Its calibration needs images: give them with --calibration.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Write what was asked for as a recipe. For several models: a folder that gets one for each.
    #[arg(long, value_name = "FILE")]
    pub save_recipe: Option<PathBuf>,
    #[command(flatten)]
    pub coding: CodingOptions,
    #[command(flatten)]
    pub curve: CurveOptions,
    #[command(flatten)]
    pub calibration: CalibrationOptions,
    /// Write a report: .json (everything), .csv (a line a layer), .svg or .png (the bits of every layer). May be repeated. For
    /// several models: a folder that gets them all.
    #[arg(long, value_name = "FILE", value_parser = report)]
    pub report: Vec<PathBuf>,
    /// Print the layers' table.
    #[arg(long)]
    pub layers: bool,
    /// Run what was written on these images: a file, several, or a folder. See `waterfill eval --help`.
    #[arg(long, id = "test", value_name = "DATA", num_args = 1..)]
    pub test: Vec<PathBuf>,
    #[command(flatten)]
    pub data: DataOptions,
}

pub fn compress(args: &Compress, model: &Path) -> Result<()> {
    let args = &recipe::filled(args)?;
    let mut session = open_model(model, &args.curve.data)?;
    // What cannot be run says so before the work is done.
    let evaluator = match &args.test[..] {
        [] => None,
        paths => Some(evaluator(&*session.runnable()?, &dataset(paths, args.data.labels.as_deref())?, &args.data)?),
    };
    let transform = args.allocation.transform(&args.calibration.sampling)?;
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    let checker = calibration.evaluator(&session)?;
    let (calibrated, open) = (calibration.images.is_some(), transform == TransformChoice::Auto);
    calibration.curves(&mut session, args.coding.settings(args.curve.blocks(), args.calibration.distortion, calibrated, open)?)?;
    let mut settings = args.allocation.settings(&session, transform)?;
    if args.lose.is_none()
        && let Some(error) = session.allocate(&settings)?.0.not_reachable
    {
        return Err(error);
    }
    let run_full = checker.as_ref().map(run_reference).transpose()?;
    let on = checker.as_ref().zip(run_full.as_ref()).map(|(checker, (reference, _))| (checker, reference));
    let bar = progress_bar(if on.is_some() { "settling" } else { "encoding" });
    let mut tested = None;
    let (settled, promise) = if let (Some(lose), Some(evaluator)) = (args.lose, &evaluator) {
        let (reference, full) = run_reference(evaluator)?;
        let tests = Tests { evaluator, reference: &reference, full: &full };
        let told = |promise: &Promise| bar.suspend(|| promise.tries.last().iter().for_each(|t| eprintln!("{}", promise.tried(t))));
        let found = wait(promise::keep(&session, &settings, lose, tests, on, Span::WHOLE, &mut runner(&bar), told));
        bar.finish_and_clear();
        let (promise, kept) = found?;
        let Some(kept) = kept else { return Err(Error::Setting(format!("{}: {}", session.model.name, promise.words()))) };
        settings = kept.settings;
        tested = Some((reference, full));
        (kept.settled, Some(promise))
    } else {
        let settled = wait(settle(&session, &settings, on, Span::WHOLE, &mut runner(&bar)));
        bar.finish_and_clear();
        (settled?, None)
    };
    let Settled { allocation, layers, evaluation, alternatives, small, .. } = settled;
    let session = session.with_small(&small)?;
    let check = checker.zip(run_full).map(|(checker, (_, full))| checker.report(Some(full), evaluation, Vec::new()));
    let mut report = Report { alternatives, check, promise, ..session.report(&allocation, &settings, &layers)? };
    let several = args.models.len() > 1;
    let path = output(args.output.as_deref(), several, model, &pipeline::tq_name(&session.model.name))?;
    write_file(&path, |out| session.write(&layers, out).map(drop))?;
    let name = &session.model.name;
    if let Some(evaluator) = &evaluator {
        let tq = TqFile::open(Rc::new(PathSource::open(&path)?))?;
        let decoded = evaluate::decoded(&tq, &run(pipeline::decode_job(&tq))?);
        let compressed = session.runnable()?.with_tensors(&decoded.tensors)?;
        let (reference, full) = tested.map_or_else(|| run_reference(evaluator), Ok)?;
        let (results, seconds) = timed(|| run(evaluator.compressed_job(&compressed, &reference)?))?;
        let compressed = evaluator.finish(evaluate::what(&report.allocation), seconds, &results);
        report.evaluation = Some(evaluator.report(Some(full), Some(compressed), Vec::new()));
    }
    write_each(&args.report, several, name, &REPORTS, |extension| match extension {
        "csv" => table::report_csv(&report).into_bytes(),
        "svg" => plot::allocation_svg(&report.allocation, PLOT, &Palette::LIGHT).into_bytes(),
        "png" => plot::png::allocation_png(&report.allocation, PLOT, &Palette::LIGHT),
        _ => json(&report).into_bytes(),
    })?;
    let a = &report.allocation;
    if args.layers {
        print!("{}", table::allocation_text(a));
    }
    if let Some(path) = &args.save_recipe {
        recipe::save(path, several, &report)?;
    }
    println!(
        "{}: {} bytes, from {} ({:.2} times smaller); {:.4} bits per weight, {:.2} dB",
        path.display(),
        a.bytes,
        session.model.file_bytes,
        a.ratio,
        a.rate,
        a.db
    );
    if let Some(gap) = a.gap {
        let side = if gap < 0.0 { "below" } else { "above" };
        println!("{:.3} bits per weight {side} the limit of Gaussian weights, at the same error by the model", gap.abs());
    }
    if let Some(text) = table::check_text(&report) {
        println!("{text}");
    }
    if let Some(promise) = &report.promise {
        println!("{} {}", promise.words(), promise.measures());
    }
    if let Some(evaluation) = &report.evaluation {
        print_evaluation(evaluation);
    }
    Ok(())
}
