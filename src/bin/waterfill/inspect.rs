//! `waterfill inspect`.

use std::path::{Path, PathBuf};

use clap::Args;
use waterfill::{
    error::Result,
    pipeline::{self, Opened},
    report::table,
};

use crate::files::{json, open};

#[derive(Args)]
pub struct Inspect {
    /// A model or a .tq file.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn inspect(args: &Inspect, file: &Path) -> Result<()> {
    let (summary, allocation) = match open(file, &[])? {
        Opened::Model(session) => (session.summary(), None),
        Opened::Tq(tq) => {
            let (summary, allocation) = pipeline::describe(&tq)?;
            (summary, Some(allocation))
        }
    };
    if args.json {
        print!("{}", json(&serde_json::json!({ "model": summary, "allocation": allocation })));
        return Ok(());
    }
    println!("{} ({}, {} bytes)", summary.name, summary.format, summary.bytes);
    println!("  {} layers, {} weights, {} bytes", summary.layers.len(), summary.layer_weights, summary.layer_bytes);
    println!(
        "  {} tensors in all; {} values in biases and norms; {} bytes kept bit for bit",
        summary.tensors, summary.small_values, summary.exact_bytes
    );
    summary.notes.iter().for_each(|note| println!("  {note}"));
    match allocation {
        Some(a) => {
            println!("  compressed to {} bytes, {:.2} times smaller; {:.4} bits per weight", a.bytes, a.ratio, a.rate);
            let layers = a.bytes - a.other_bytes;
            println!(
                "  {layers} bytes in layers (indices, steps, scales, bases, gains); {} in the graph, biases, norms and tables",
                a.other_bytes
            );
            print!("{}", table::allocation_text(&a));
        }
        None => summary.layers.iter().for_each(|l| println!("  {}  {:?}  {} weights", l.name, l.shape, l.weights)),
    }
    Ok(())
}
