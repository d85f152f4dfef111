//! `waterfill figure`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, builder::PossibleValuesParser};
use waterfill::{
    error::Result,
    pipeline::figures::Making,
    report::{
        AllocationSettings, Budget, TransformChoice,
        figure::Which,
        plot::{self, Palette},
    },
};

use crate::{
    files::{PLOT, json, open_model, write_each},
    images::Calibration,
    options::{CalibrationOptions, CodingOptions, CurveOptions, DataOptions, Transform, lock, path_with, positive},
    progress::run,
};

/// What a figure is written as.
const WRITTEN: [&str; 4] = ["json", "csv", "svg", "png"];

fn written(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &WRITTEN)
}

#[derive(Args)]
#[command(group(ArgGroup::new("budget")), group(ArgGroup::new("images").args(["calibration"])))]
pub struct Figure {
    /// Which figure.
    #[arg(value_name = "FIGURE", value_parser = PossibleValuesParser::new(Which::ALL.map(Which::name)))]
    which: String,
    /// A model file.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// The layer that it is of, or that stands out in it [default: the first].
    #[arg(long, value_name = "LAYER")]
    layer: Option<String>,
    /// Budget as a rate: bits per weight of the quantized layers [default: 4].
    #[arg(long, group = "budget", value_name = "B", value_parser = positive)]
    bits: Option<f64>,
    /// Budget as a file size in bytes.
    #[arg(long, group = "budget", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    size: Option<u64>,
    /// Budget as a ratio of the original size to the file size.
    #[arg(long, group = "budget", value_name = "X", value_parser = positive)]
    ratio: Option<f64>,
    /// Transform; auto chooses per layer.
    #[arg(long, value_enum, default_value = "auto")]
    transform: Transform,
    /// Lock a layer to a depth of 0 to 10 bits.
    #[arg(long, value_name = "LAYER=BITS", value_parser = lock)]
    lock: Vec<(String, u8)>,
    /// Keep a layer as it is, bit for bit.
    #[arg(long, value_name = "LAYER")]
    exclude: Vec<String>,
    #[command(flatten)]
    coding: CodingOptions,
    #[command(flatten)]
    curve: CurveOptions,
    #[command(flatten)]
    calibration: CalibrationOptions,
    #[command(flatten)]
    data: DataOptions,
    /// Write the figure: .json, .csv, .svg or .png. May be repeated. Without this its numbers are printed as CSV.
    #[arg(short, long, value_name = "FILE", value_parser = written)]
    output: Vec<PathBuf>,
}

/// Computes a figure, prints its numbers or writes what is asked for.
pub fn figure(args: &Figure) -> Result<()> {
    let mut session = open_model(&args.model, &args.curve.data)?;
    let which = Which::named(&args.which).expect("clap admits the names of figures alone");
    let layer = args.layer.as_deref().map_or(Ok(0), |name| session.layer_index(name))?;
    let transform = TransformChoice::from(args.transform);
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    let (calibrated, open) = (calibration.images.is_some(), transform == TransformChoice::Auto);
    calibration.curves(&mut session, args.coding.settings(args.curve.blocks(), args.calibration.distortion, calibrated, open)?)?;
    let budget = match (args.size, args.ratio) {
        (Some(size), _) => Budget::Size(size),
        (_, Some(ratio)) => Budget::Ratio(ratio),
        _ => Budget::Bits(args.bits.unwrap_or(4.0)),
    };
    let locks = args.lock.iter().map(|(name, depth)| Ok((session.layer_index(name)?, *depth))).collect::<Result<_>>()?;
    let excludes = args.exclude.iter().map(|name| session.layer_index(name)).collect::<Result<_>>()?;
    let settings = AllocationSettings { budget, transform, feedback: true, locks, excludes };
    let Making { job, finish } = session.figure(which, layer, &settings)?;
    let figure = finish(run(job)?);
    write_each(&args.output, false, &session.model.name, &WRITTEN, |extension| match extension {
        "csv" => figure.csv().into_bytes(),
        "svg" => plot::figure::figure_svg(&figure, PLOT, &Palette::LIGHT).into_bytes(),
        "png" => plot::png::figure_png(&figure, PLOT, &Palette::LIGHT),
        _ => json(&figure).into_bytes(),
    })?;
    if args.output.is_empty() {
        print!("{}", figure.csv());
    } else {
        println!("{}: {}", figure.title, figure.caption);
    }
    Ok(())
}
