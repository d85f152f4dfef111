//! `waterfill curve`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use waterfill::{
    error::Result,
    report::{
        AllocationSettings,
        plot::{self, Palette},
        table,
    },
};

use crate::{
    files::{PLOT, json, open_model, write_each},
    images::Calibration,
    options::{CalibrationOptions, CodingOptions, CurveOptions, DRAWINGS, DataOptions, drawing},
};

#[derive(Args)]
#[command(group(ArgGroup::new("images").args(["calibration"])))]
pub struct Curve {
    /// Model files.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Print JSON instead of CSV.
    #[arg(long)]
    pub json: bool,
    /// Draw the curves: .svg or .png. For several models: a folder that gets both.
    #[arg(long, value_name = "FILE", value_parser = drawing)]
    pub plot: Vec<PathBuf>,
    #[command(flatten)]
    pub coding: CodingOptions,
    #[command(flatten)]
    pub curve: CurveOptions,
    #[command(flatten)]
    pub calibration: CalibrationOptions,
    #[command(flatten)]
    pub data: DataOptions,
}

pub fn curve(args: &Curve, model: &Path) -> Result<()> {
    let mut session = open_model(model, &args.curve.data)?;
    let calibration = Calibration::open(&session, &args.calibration.sampling, &args.data)?;
    let calibrated = calibration.images.is_some();
    calibration.curves(&mut session, args.coding.settings(args.curve.blocks(), args.calibration.distortion, calibrated, true)?)?;
    let curves = session.rd_curves(&AllocationSettings::default())?;
    write_each(&args.plot, args.models.len() > 1, &session.model.name, &DRAWINGS, |extension| match extension {
        "png" => plot::png::curve_png(&curves, None, PLOT, &Palette::LIGHT),
        _ => plot::curve_svg(&curves, None, PLOT, &Palette::LIGHT).0.into_bytes(),
    })?;
    if args.json {
        print!("{}", json(&serde_json::json!({ "model": session.summary(), "curves": curves })));
    } else {
        print!("{}", table::curves_csv(&curves));
    }
    Ok(())
}
