//! `cargo xtask`: sets up, builds, serves and tests Waterfill.
//!
//! It carries wasm-bindgen (the command and its test runner) as libraries of exactly the version in `Cargo.lock`: nothing to install,
//! nothing to drift. Copied under the name `wasm-bindgen` it is that command, for Trunk.

mod build;
mod command;
mod dist;
mod lint;
mod paper;
mod serve;
mod setup;
mod split;
mod test;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds, serves and tests Waterfill")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the page and both engines, and serve them on 127.0.0.1
    Serve(serve::Options),
    /// Build the page and both engines into dist/, for any static host
    Build,
    /// Build the two engines into target/engine-st and target/engine-mt (Trunk's hook)
    Engine,
    /// Write dist/files.json, the list that the offline copy is made from (Trunk's hook)
    Stamp,
    /// Put a wasm-bindgen of the locked version into target/tools, for Trunk
    Tools,
    /// Run every test: native, Wasm in headless Chromium, and end to end on the built page
    Test {
        /// Run only this part
        #[arg(long)]
        only: Option<test::Part>,
    },
    /// Time the way from opening a large file to its curves, natively and in headless Chromium
    Bench,
    /// Compare the paper's transforms on the network in WATERFILL_DATA, and write docs/results.md
    Paper,
    /// Check formatting, lints and documentation
    Lint,
    /// Run lint, then test
    Ci,
    /// Run as wasm-bindgen's test runner (called by cargo)
    #[command(hide = true)]
    TestRunner {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let called = arguments.first().and_then(|a| Path::new(a).file_stem()).unwrap_or_default();
    if called == "wasm-bindgen" {
        return wasm_bindgen_cli::wasm_bindgen::run_cli_with_args(&arguments);
    }
    match Cli::parse().task {
        Task::TestRunner { arguments } => {
            let arguments = std::iter::once("wasm-bindgen-test-runner".into()).chain(arguments);
            wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(arguments)
        }
        task => {
            std::env::set_current_dir(root())?;
            match task {
                Task::Serve(options) => serve::serve(&options),
                Task::Build => dist::build(),
                Task::Engine => build::engines(),
                Task::Stamp => dist::stamp(&std::env::var_os("TRUNK_STAGING_DIR").map_or(PathBuf::from(dist::DIST), PathBuf::from)),
                Task::Tools => setup::tools(),
                Task::Test { only } => test::test(only),
                Task::Bench => test::bench(),
                Task::Paper => paper::paper(),
                Task::Lint => lint::lint(),
                Task::Ci => lint::lint().and_then(|()| test::test(None)),
                Task::TestRunner { .. } => unreachable!("handled above"),
            }
        }
    }
}

/// The package's folder: as `cargo run` says, else where this was compiled.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}
