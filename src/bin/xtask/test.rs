//! Runs the tests: native, Wasm in headless Chromium, end to end on the built page.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    build::{self, ENGINE_MT, ENGINE_ST, Variant},
    command::{cargo, run, run_lines, say},
    dist,
    setup::{self, BROWSER_TESTS, Browser},
};

/// Where proptest takes the seed of its cases from.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Part {
    /// `cargo test`, the page's logic and this program's included
    Native,
    /// Both Wasm builds in headless Chromium
    Wasm,
    /// The built page in headless Chromium
    E2e,
}

/// How one suite went.
struct Suite {
    name: &'static str,
    passed: usize,
    failed: usize,
    seconds: f64,
}

/// Runs all tests or one part; all suites run even if one fails.
pub fn test(only: Option<Part>) -> Result<()> {
    let wanted = |part| only.is_none_or(|only| only == part);
    setup::toolchain()?;
    // What is missing is said at once, not after ten minutes of compiling.
    let browser = if wanted(Part::Wasm) || wanted(Part::E2e) { Some(setup::browser()?) } else { None };
    if wanted(Part::E2e) {
        setup::node()?;
    }
    let mut suites = Vec::new();
    if wanted(Part::Native) {
        let (onnx, numpy) = (setup::onnx_tests()?, setup::numpy()?);
        let mut native = cargo();
        native.args(["test", "--no-fail-fast", "--features", "ui"]).env("WATERFILL_ONNX", onnx).env("WATERFILL_NUMPY", numpy);
        // Here a change is tested, by the same cases each time; a plain `cargo test` looks for new ones.
        if std::env::var_os(PROPTEST_SEED).is_none() {
            native.env(PROPTEST_SEED, "2021");
        }
        suites.push(suite("native", &mut native)?);
        suites.push(suite("xtask", cargo().args(["test", "--no-default-features", "--features", "xtask", "--bin", "xtask"]))?);
    }
    if let Some(browser) = browser {
        if wanted(Part::Wasm) {
            suites.push(suite("wasm, one thread", &mut wasm(&ENGINE_ST, "wasm", &browser)?)?);
            suites.push(suite("wasm, threads", &mut wasm(&ENGINE_MT, "wasm_threads", &browser)?)?);
        }
        if wanted(Part::E2e) {
            dist::build()?;
            suites.push(suite("end to end", &mut node("run.mjs", &browser)?)?);
        }
    }
    let (passed, failed) = suites.iter().fold((0, 0), |(p, f), suite| (p + suite.passed, f + suite.failed));
    for Suite { name, passed, failed, seconds } in suites {
        say(&format!("{name}: {passed} passed, {failed} failed, {seconds:.1} s"));
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// Runs one suite and counts its tests. A suite that stops before it has counted a failure, or that has no tests, counts as one.
fn suite(name: &'static str, command: &mut Command) -> Result<Suite> {
    say(&format!("tests: {name}"));
    let start = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let success = run_lines(name, command, |line| {
        if let Some((p, f)) = counts(line) {
            passed += p;
            failed += f;
        }
    })?;
    if failed == 0 && (!success || passed == 0) {
        failed = 1;
    }
    Ok(Suite { name, passed, failed, seconds: start.elapsed().as_secs_f64() })
}

/// The numbers of `test result: ok. 3 passed; 0 failed; …` (Rust's) and of `3 passed, 0 failed` (ours).
fn counts(line: &str) -> Option<(usize, usize)> {
    let line = line.strip_prefix("test result: ").map_or(line, |rest| rest.split_once(". ").map_or(rest, |(_, rest)| rest));
    let mut parts = line.split([',', ';']).map(str::trim);
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

/// Prints the times of whole networks, of the entropy coder, and from opening a large file to its curves: natively, then in the browser.
pub fn bench() -> Result<()> {
    setup::toolchain()?;
    let browser = setup::browser()?;
    setup::node()?;
    run("networks, native", cargo().args(["bench", "--bench", "networks"]))?;
    run("entropy coder, native", cargo().args(["bench", "--bench", "coder"]))?;
    run("networks and entropy coder, browser", node("speed.mjs", &browser)?.arg(build::speed()?))?;
    run("native benchmark", cargo().args(["bench", "--bench", "open_to_curve"]))?;
    dist::build()?;
    run("browser benchmark", &mut node("bench.mjs", &browser)?)?;
    run("first load and frames", &mut node("load.mjs", &browser)?)
}

/// One of the scripts that drive the browser, with what it needs.
fn node(script: &str, browser: &Browser) -> Result<Command> {
    let mut node = Command::new("node");
    node.arg(Path::new(BROWSER_TESTS).join(script));
    node.env("XTASK_EXE", std::env::current_exe()?).env("CHROMIUM", &browser.chromium);
    Ok(node)
}

/// `cargo test` of one Wasm build, with this program as the runner.
fn wasm(variant: &Variant, test: &str, browser: &Browser) -> Result<Command> {
    let mut command = variant.cargo("test");
    let runner = serde_json::json!([std::env::current_exe()?, "test-runner"]);
    command.args(["--profile", variant.profile, "--test", test, "--config", &format!("target.wasm32-unknown-unknown.runner={runner}")]);
    command.env("CHROMEDRIVER", &browser.driver).env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", webdriver(browser)?);
    Ok(command)
}

/// The driver's settings with the path of the browser, which the driver would otherwise look for itself.
fn webdriver(browser: &Browser) -> Result<PathBuf> {
    let settings = Path::new(BROWSER_TESTS).join("webdriver.json");
    let mut settings: serde_json::Value = serde_json::from_slice(&fs::read(&settings)?).with_context(|| settings.display().to_string())?;
    settings["goog:chromeOptions"]["binary"] = serde_json::json!(browser.chromium);
    let file = Path::new("target/webdriver.json");
    fs::create_dir_all("target")?;
    fs::write(file, settings.to_string())?;
    Ok(fs::canonicalize(file)?)
}
