//! `waterfill figure`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, builder::PossibleValuesParser};
use waterfill::{
    error::{Error, Result},
    pipeline::figures::Making,
    report::{
        TransformChoice,
        figure::{self, Which},
        geometry::Plane,
        plot::{self, Palette},
    },
};

use crate::{
    files::{PLOT, json, open_model, write_each},
    images::Calibration,
    options::{AllocationOptions, CalibrationOptions, CodingOptions, CurveOptions, DataOptions, path_with},
    progress::run,
};

/// What a figure is written as.
const WRITTEN: [&str; 4] = ["json", "csv", "svg", "png"];

fn written(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &WRITTEN)
}

/// A number between bounds, which are in hundredths.
fn within<const FROM: i32, const TO: i32>(s: &str) -> std::result::Result<f64, String> {
    let (from, to) = (f64::from(FROM) / 100.0, f64::from(TO) / 100.0);
    let value = s.parse::<f64>().ok().filter(|v| (from..=to).contains(v));
    value.ok_or_else(|| format!("it is not a number from {from} to {to}"))
}

#[derive(Args)]
#[command(group(ArgGroup::new("budget")), group(ArgGroup::new("images").args(["calibration"])))]
pub struct Figure {
    /// Which figure.
    #[arg(value_name = "FIGURE", value_parser = PossibleValuesParser::new(Which::ALL.into_iter().chain([Which::Geometry]).map(Which::name)))]
    which: String,
    /// A model file; the geometry is of none.
    #[arg(value_name = "MODEL", required_if_eq_any(Which::ALL.map(|which| ("which", which.name()))))]
    pub model: Option<PathBuf>,
    /// Of the geometry: correlation of two weights, -0.95 to 0.95.
    #[arg(long, value_name = "R", default_value_t = Plane::default().correlation, allow_negative_numbers = true, value_parser = within::<-95, 95>)]
    correlation: f64,
    /// Of the geometry: how many times more an error costs along the sensitive direction than across it, 1 to 16.
    #[arg(long, value_name = "X", default_value_t = Plane::default().ratio, value_parser = within::<100, 1600>)]
    sensitivity: f64,
    /// Of the geometry: angle of the sensitive direction in degrees, -90 to 90.
    #[arg(long, value_name = "DEGREES", default_value_t = Plane::default().angle, allow_negative_numbers = true, value_parser = within::<-9000, 9000>)]
    angle: f64,
    /// The layer that it is of, or that stands out in it [default: the first].
    #[arg(long, value_name = "LAYER")]
    layer: Option<String>,
    #[command(flatten)]
    allocation: AllocationOptions,
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
    let which = Which::named(&args.which).expect("clap admits the names of figures alone");
    let model = match (&args.model, which) {
        (None, _) => {
            let plane = Plane { correlation: args.correlation, ratio: args.sensitivity, angle: args.angle };
            return write(args, "geometry", &plane.figure());
        }
        (Some(_), Which::Geometry) => return Err(Error::Setting("The geometry of cells is of no model: leave the file out.".into())),
        (Some(model), _) => model,
    };
    let mut session = open_model(model, &args.curve.data)?;
    let layer = args.layer.as_deref().map_or(Ok(0), |name| session.layer_index(name))?;
    let transform = args.allocation.transform(&args.calibration.sampling)?;
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    let (calibrated, open) = (calibration.images.is_some(), transform == TransformChoice::Auto);
    calibration.curves(&mut session, args.coding.settings(args.curve.blocks(), args.calibration.distortion, calibrated, open)?)?;
    let settings = args.allocation.settings(&session, transform)?;
    let Making { job, finish } = session.figure(which, layer, &settings)?;
    let figure = finish(run(job)?);
    write(args, &session.model.name, &figure)
}

/// Prints a figure's numbers, or writes what is asked for.
fn write(args: &Figure, name: &str, figure: &figure::Figure) -> Result<()> {
    write_each(&args.output, false, name, &WRITTEN, |extension| match extension {
        "csv" => figure.csv().into_bytes(),
        "svg" => plot::figure::figure_svg(figure, PLOT, &Palette::LIGHT).into_bytes(),
        "png" => plot::png::figure_png(figure, PLOT, &Palette::LIGHT),
        _ => json(figure).into_bytes(),
    })?;
    if args.output.is_empty() {
        print!("{}", figure.csv());
    } else {
        println!("{}: {}", figure.title, figure.caption);
    }
    Ok(())
}
