//! `waterfill curves`: distortion and accuracy against rate, measured.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use waterfill::{
    error::Result,
    pipeline::{
        job::wait,
        sweep::{On, Sweep},
        uncalibrated,
    },
    report::{
        AllocationSettings, MeasuredCurves, SweepSettings,
        plot::{Palette, png, sweep::measured_svg},
        table,
    },
};

use crate::{
    eval::{evaluator, run_reference},
    files::{PLOT, json, open_model, unwritable, write_each, write_file},
    images::{Calibration, dataset},
    options::{CalibrationOptions, CodingOptions, DRAWINGS, DataOptions, Transform, drawing, positive},
    progress::{progress_bar, runner},
};

const EXAMPLES: &str = "\
Examples:
  waterfill curves resnet20.onnx --data cifar10-test.npz --calibration cifar10-train.npz --plot curves.svg
  waterfill curves resnet50.pth --data imagenet/val --limit 1000 --transforms none,klt-row --rates 2,3,4 --csv curves.csv

Every point is a file as `waterfill compress` would write it, run as `waterfill eval` would run it. Points that show most come first, and
files are written after every point, so that what there is can be used at any time.";

/// What to measure, and on what.
#[derive(Args)]
#[command(group(ArgGroup::new("images").args(["test", "calibration"]).multiple(true)), after_help = EXAMPLES)]
pub struct Curves {
    /// The model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Images to run networks on: a file, several, or a folder. See `waterfill eval --help`.
    #[arg(long = "data", id = "test", value_name = "DATA", num_args = 1.., required = true)]
    test: Vec<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    calibration: CalibrationOptions,
    /// Transforms, a line for each [default: all that there are; elt-row and elt-col need --calibration]. Errors are fed back on the line of auto
    /// alone, if they are.
    #[arg(long, value_enum, value_name = "T,…", value_delimiter = ',')]
    transforms: Vec<Transform>,
    #[command(flatten)]
    coding: CodingOptions,
    /// Rates in bits per weight [default: 1,1.5,2,2.5,3,4,5,6].
    #[arg(long, value_name = "B,…", value_delimiter = ',', value_parser = positive)]
    rates: Vec<f64>,
    /// Most blocks of rows per layer, each with its own depth and step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    blocks: u16,
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the points as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw the curves, distortion above accuracy: .svg or .png. May be repeated.
    #[arg(long, value_name = "FILE", value_parser = drawing)]
    plot: Vec<PathBuf>,
}

/// Measures, and prints a line for every point as it comes.
pub fn curves(args: &Curves) -> Result<()> {
    let mut session = open_model(&args.model, &[])?;
    // What cannot be run says so before the work is done.
    let evaluator = evaluator(&*session.runnable()?, &dataset(&args.test, args.data.labels.as_deref())?, &args.data)?;
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    let default = SweepSettings::all(!args.calibration.sampling.calibration.is_empty());
    let settings = SweepSettings {
        transforms: if args.transforms.is_empty() { default.transforms } else { args.transforms.iter().map(|&t| t.into()).collect() },
        rates: if args.rates.is_empty() { default.rates } else { args.rates.clone() },
    };
    if let Some(&transform) = settings.transforms.iter().find(|t| t.needs_calibration() && args.calibration.sampling.calibration.is_empty())
    {
        return Err(uncalibrated(transform));
    }
    let (calibrated, open) = (calibration.images.is_some(), args.transforms.is_empty());
    calibration.curves(&mut session, args.coding.settings(args.blocks, args.calibration.distortion, calibrated, open)?)?;
    let checker = calibration.evaluator(&session)?;
    let mut sweep = Sweep::new(&session, settings, AllocationSettings::default())?;
    let (reference, full) = run_reference(&evaluator)?;
    let report = evaluator.report(Some(full.clone()), None, Vec::new());
    let mut measured = MeasuredCurves {
        model: session.model.name.clone(),
        data: report.data,
        preprocessing: report.preprocessing,
        reference: full,
        pictures: evaluator.gives_pictures(),
        curve_settings: session.curve_settings(),
        calibration: session.statistics().map(|s| s.summary.clone()),
        settings: sweep.settings().clone(),
        points: Vec::new(),
    };
    report.notes.iter().for_each(|note| eprintln!("note: {note}"));
    print!("{}", table::measured_head(&measured));

    let bar = progress_bar("curves");
    let mut runner = runner(&bar);
    let on = On { evaluator: &evaluator, reference: &reference, calibration: checker.as_ref() };
    while let Some(point) = wait(sweep.step(&session, on, &mut runner))? {
        measured.points.push(point);
        bar.suspend(|| print!("{}", table::measured_row(&measured, &point)));
        write(args, &measured)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes what there is so far.
fn write(args: &Curves, measured: &MeasuredCurves) -> Result<()> {
    let text = |path: &Path, text: String| write_file(path, |out| out.write_all(text.as_bytes()).map_err(unwritable(path)));
    args.json.iter().try_for_each(|path| text(path, json(measured)))?;
    args.csv.iter().try_for_each(|path| text(path, table::measured_csv(measured)))?;
    let quantities = measured.drawn();
    let size = (PLOT.0, PLOT.1 * quantities.len() as u32);
    write_each(&args.plot, false, &measured.model, &DRAWINGS, |extension| match extension {
        "png" => png::measured_png(measured, &quantities, size, &Palette::LIGHT),
        _ => measured_svg(measured, &quantities, size, &Palette::LIGHT).into_bytes(),
    })
}
