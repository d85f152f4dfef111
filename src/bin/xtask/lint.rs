//! Formatting, lints and documentation.

use anyhow::Result;

use crate::{
    build::{ENGINE_MT, ENGINE_ST, PAGE},
    command::{cargo, run},
    setup,
};

/// Every feature that compiles natively. The threads are the browser's.
const NATIVE: &str = "cli,ui,engine,xtask";

/// Checks all of it; a warning is an error.
pub fn lint() -> Result<()> {
    setup::lint_tools()?;
    setup::toolchain()?;
    run("cargo fmt", cargo().args(["fmt", "--check"]))?;
    let deny = ["--", "-D", "warnings"];
    run("clippy", cargo().args(["clippy", "--no-default-features", "--features", NATIVE, "--all-targets"]).args(deny))?;
    run("clippy, page", PAGE.cargo("clippy").args(["--lib", "--bin", "app"]).args(deny))?;
    run("clippy, engine-st", ENGINE_ST.cargo("clippy").args(["--lib", "--bin", "engine", "--test", "wasm"]).args(deny))?;
    run("clippy, engine-mt", ENGINE_MT.cargo("clippy").args(["--lib", "--bin", "engine", "--test", "wasm_threads"]).args(deny))?;
    run(
        "documentation",
        cargo().args(["doc", "--no-deps", "--no-default-features", "--features", NATIVE]).env("RUSTDOCFLAGS", "-D warnings"),
    )
}
