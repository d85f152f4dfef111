//! `waterfill gains`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use waterfill::error::Result;

use crate::{
    files::{json, open_model, unwritable, write_file},
    images::Calibration,
    options::{DataOptions, Sampling},
    progress::run,
};

#[derive(Args)]
#[command(group(ArgGroup::new("images").args(["calibration"])))]
pub struct Gains {
    /// A model file.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Files with external data of the ONNX model, if it has any. Without this, files next to the model are looked up.
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    images: DataOptions,
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a line a layer and transform as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Also show the variances of all rows of a layer, before and after each transform.
    #[arg(long, value_name = "LAYER")]
    rows: Option<String>,
}

/// Computes the gains, prints their table and writes what is asked for.
pub fn gains(args: &Gains) -> Result<()> {
    let mut session = open_model(&args.model, &args.data)?;
    let rows = args.rows.as_deref().map(|name| session.layer_index(name)).transpose()?;
    // Second moments are sums: no sample need be kept.
    Calibration::open(&session, &args.sampling, &args.images)?.statistics(&mut session, 0)?;
    let layers = run(session.gains_job(rows))?;
    let report = session.gains_report(layers);
    let write = |path: &Path, content: String| write_file(path, |out| out.write_all(content.as_bytes()).map_err(unwritable(path)));
    args.json.as_deref().map_or(Ok(()), |path| write(path, json(&report)))?;
    args.csv.as_deref().map_or(Ok(()), |path| write(path, report.csv()))?;
    print!("{}", report.text());
    Ok(())
}
