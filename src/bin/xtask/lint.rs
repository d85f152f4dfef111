//! Formatting, lints and documentation.

use anyhow::Result;

use crate::{
    build::TARGET,
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
    let mut wasm = cargo();
    wasm.args(["clippy", "--target", TARGET, "--no-default-features", "--features", "ui,threads"]);
    wasm.args(["--lib", "--bin", "app", "--bin", "engine", "--test", "wasm", "--test", "wasm_threads"]).args(deny);
    // wasm-bindgen-rayon insists on atomics, which the stable compiler hides. Nothing is linked here, so the standard library may be
    // without.
    wasm.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+atomics,+simd128");
    run("clippy, wasm", &mut wasm)?;
    let mut doc = cargo();
    doc.args(["doc", "--no-deps", "--no-default-features", "--features", NATIVE]);
    run("documentation", doc.env("CARGO_ENCODED_RUSTDOCFLAGS", "-Dwarnings"))
}
