//! Running other programs.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// The cargo that runs this program.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Runs a command, its output going to the terminal, and says how long it took.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{what}: {:?} cannot be started", command.get_program()))?;
    if !status.success() {
        bail!("{what} failed ({status}): {command:?}");
    }
    say(&format!("{what}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Runs a command and hands each line of its standard output on to the terminal and to `line`. Returns whether it succeeded.
pub fn run_lines(what: &str, command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("{what}: {:?} cannot be started", command.get_program()))?;
    let output = child.stdout.take().context("its output is not piped")?;
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    // Tests may print anything: bytes go to the terminal as they are, only the parser needs text.
    while output.read_until(b'\n', &mut bytes)? > 0 {
        std::io::stdout().write_all(&bytes)?;
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    Ok(child.wait()?.success())
}

/// What a command prints, or `None` if it cannot be run or fails.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// One line about what xtask does, apart from the lines of the tools it runs.
pub fn say(line: &str) {
    println!("[xtask] {line}");
}
