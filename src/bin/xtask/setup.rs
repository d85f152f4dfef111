//! What has to be on the machine: added where that is possible, asked for by name where not. Nothing is skipped silently.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    build::TARGET,
    command::{output, run},
};

/// The Wasm target, and the standard library's source for the engine with threads.
pub fn toolchain() -> Result<()> {
    let sysroot = output("rustc", &["--print", "sysroot"]).context("rustc does not run; install Rust from https://rustup.rs")?;
    let rustlib = Path::new(&sysroot).join("lib/rustlib");
    if !rustlib.join(TARGET).join("lib").is_dir() {
        rustup(&["target", "add", TARGET])?;
    }
    if !rustlib.join("src/rust/library/Cargo.lock").is_file() {
        rustup(&["component", "add", "rust-src"])?;
    }
    Ok(())
}

/// rustfmt and clippy.
pub fn lint_tools() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if output(program, &["--version"]).is_none() {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

fn rustup(arguments: &[&str]) -> Result<()> {
    let wanted = arguments.join(" ");
    if output("rustup", &["--version"]).is_none() {
        bail!(
            "`rustup {wanted}` is needed and rustup is not installed; install it from https://rustup.rs, or add that part of Rust in your own way"
        );
    }
    run(&format!("rustup {wanted}"), Command::new("rustup").args(arguments))
}

/// The browser that the tests run in.
pub struct Browser {
    /// Chromium.
    pub chromium: PathBuf,
    /// Its driver, for the Wasm tests.
    pub driver: PathBuf,
}

/// Finds Chromium and its driver; installs both as root on a machine with apt-get.
pub fn browser() -> Result<Browser> {
    if let Some(browser) = find_browser()? {
        return Ok(browser);
    }
    apt_install(&["chromium", "chromium-driver"])?;
    find_browser()?.context(
        "the browser tests need Chromium and chromedriver: install them (Debian: `apt-get install chromium chromium-driver`), \
         or set CHROMIUM and CHROMEDRIVER to their paths",
    )
}

/// Installs packages as root on a machine with apt-get; does nothing elsewhere.
fn apt_install(packages: &[&str]) -> Result<()> {
    if output("id", &["-u"]).as_deref() != Some("0") || output("apt-get", &["--version"]).is_none() {
        return Ok(());
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        run(&format!("apt-get {}", arguments.join(" ")), &mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// The folder with ONNX's own tests of its operators, out of the `onnx` package for Python. It is downloaded once, as pip is configured,
/// and only its data are used: nothing of it is installed or run.
pub fn onnx_tests() -> Result<PathBuf> {
    const REQUIREMENTS: &str = "tests/conformance-requirements.txt";
    let folder = Path::new("target/onnx-tests");
    let data = folder.join("onnx/backend/test/data");
    let wanted = fs::read(REQUIREMENTS)?;
    let done = folder.join("requirements.txt");
    if !fs::read(&done).is_ok_and(|done| done == wanted) {
        pip()?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let mut download = Command::new("python3");
        download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", REQUIREMENTS]);
        // One wheel for all machines.
        download.args(["--implementation", "cp", "--python-version", "3.12", "--abi", "abi3"]);
        download.args(["--platform", "manylinux_2_28_x86_64", "--dest"]).arg(folder);
        run("ONNX's tests", &mut download)?;
        for entry in fs::read_dir(folder)? {
            let wheel = entry?.path();
            if wheel.extension().is_some_and(|e| e == "whl") {
                run("unpacking them", Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))?;
                fs::remove_file(wheel)?;
            }
        }
        if !data.join("node").is_dir() {
            bail!("the package in {REQUIREMENTS} has no tests in {}", data.display());
        }
        fs::write(done, wanted)?;
    }
    Ok(fs::canonicalize(data)?)
}

/// A folder with numpy, for the decoder in docs/tq.py. It is installed once, as pip is configured, for `target` alone.
pub fn numpy() -> Result<PathBuf> {
    const REQUIREMENTS: &str = "tests/decoder-requirements.txt";
    let folder = Path::new("target/numpy");
    let (wanted, done) = (fs::read(REQUIREMENTS)?, folder.join("requirements.txt"));
    if !fs::read(&done).is_ok_and(|done| done == wanted) {
        pip()?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let mut install = Command::new("python3");
        install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "-r", REQUIREMENTS, "--target"]).arg(folder);
        run("numpy", &mut install)?;
        fs::write(done, wanted)?;
    }
    Ok(fs::canonicalize(folder)?)
}

/// Python with pip.
fn pip() -> Result<()> {
    let version = || output("python3", &["-m", "pip", "--version"]);
    if version().is_none() {
        apt_install(&["python3", "python3-pip"])?;
    }
    version().map(drop).context("Python 3 with pip is needed (Debian: `apt-get install python3-pip`)")
}

fn find_browser() -> Result<Option<Browser>> {
    let chromium = find("CHROMIUM", &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])?;
    let driver = find("CHROMEDRIVER", &["chromedriver"])?;
    Ok(chromium.zip(driver).map(|(chromium, driver)| Browser { chromium, driver }))
}

/// The program that the variable names, or the first of these names on the PATH.
fn find(variable: &str, names: &[&str]) -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        if !path.is_file() {
            bail!("{variable} is set to {}, which is not there", path.display());
        }
        return Ok(Some(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let file =
        |name: &&str| folders.iter().map(|folder| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))).find(|p| p.is_file());
    Ok(names.iter().find_map(file))
}

/// The end-to-end tests' folder.
pub const BROWSER_TESTS: &str = "tests/browser";

/// Node and npm, and the packages of the lock file.
pub fn node() -> Result<()> {
    const NEEDED: u32 = 20;
    let version = output("node", &["--version"]).with_context(|| format!("node is missing: install Node.js {NEEDED} or later with npm"))?;
    let major: Option<u32> = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major| major < NEEDED) {
        bail!("node {version} is too old: install Node.js {NEEDED} or later with npm");
    }
    if output("npm", &["--version"]).is_none() {
        bail!("npm is missing: install it (it comes with Node.js; Debian: `apt-get install npm`)");
    }
    let lock = fs::read(Path::new(BROWSER_TESTS).join("package-lock.json"))?;
    let installed = Path::new(BROWSER_TESTS).join("node_modules/.installed-lock.json");
    if fs::read(&installed).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    run("npm ci", Command::new("npm").args(["ci", "--prefix", BROWSER_TESTS, "--no-audit", "--no-fund"]))?;
    Ok(fs::write(installed, lock)?)
}

/// A copy of this program that is `wasm-bindgen`, for Trunk: `PATH=$PWD/target/tools:$PATH trunk serve`.
pub fn tools() -> Result<()> {
    let tools = Path::new("target/tools");
    fs::create_dir_all(tools)?;
    let tool = tools.join(format!("wasm-bindgen{}", std::env::consts::EXE_SUFFIX));
    if tool.exists() {
        fs::remove_file(&tool)?; // a running program cannot be overwritten
    }
    fs::copy(std::env::current_exe()?, &tool)?;
    println!("{}", fs::canonicalize(tools)?.display());
    Ok(())
}
