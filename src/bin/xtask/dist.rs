//! Puts the page together in `dist/`: all addresses are relative, so any static host serves it, under any path.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use crate::{
    build::{self, ENGINE_MT, ENGINE_ST, PAGE},
    command::say,
};

/// Where the page is put together.
pub const DIST: &str = "dist";
/// Name of the list of all files.
const LIST: &str = "files.json";
/// Name of the engine's worker.
const WORKER: &str = "worker.js";

/// Builds everything into `dist/`. A server that serves it meanwhile sees the old build or the new one.
pub fn build() -> Result<()> {
    build::engines()?;
    let next = Path::new("target/dist");
    if next.exists() {
        fs::remove_dir_all(next)?;
    }
    PAGE.build(next)?;
    for engine in [ENGINE_ST.name, ENGINE_MT.name] {
        copy(&Path::new("target").join(engine), &next.join(engine))?;
    }
    copy(Path::new("www"), next)?;
    fs::write(next.join("index.html"), without_trunk(&fs::read_to_string("index.html").context("index.html")?))?;
    stamp(next)?;
    if Path::new(DIST).exists() {
        fs::remove_dir_all(DIST)?;
    }
    fs::rename(next, DIST)?;
    for file in files_below(Path::new(DIST))?.iter().filter(|file| file.extension().is_some_and(|e| e == "wasm")) {
        say(&format!("{}: {} kB", file.display(), fs::metadata(file)?.len().div_ceil(1000)));
    }
    Ok(())
}

/// Gives the engine of a finished page a folder of its own name, and writes `files.json`: the version (a hash of all hashes) and each file with its
/// integrity value. The service worker makes its offline copy from this list.
pub fn stamp(dist: &Path) -> Result<()> {
    name_engine(dist)?;
    let (version, files) = hashes(dist, files_below(dist)?)?;
    let list = serde_json::json!({ "version": version, "files": files });
    fs::write(dist.join(LIST), serde_json::to_string_pretty(&list)?).with_context(|| dist.join(LIST).display().to_string())
}

/// Moves the worker and both engines to `engine-HASH/`, which `index.html` names then: a page that is open while a new version is put in its place never
/// starts the new version's engine, whose messages it might not understand. It finds its own in the offline copy.
fn name_engine(dist: &Path) -> Result<()> {
    let parts = [WORKER, ENGINE_ST.name, ENGINE_MT.name].map(|part| dist.join(part));
    let mut files = Vec::new();
    for part in &parts {
        files.extend(if part.is_dir() { files_below(part)? } else { vec![part.clone()] });
    }
    let folder = format!("engine-{}", hashes(dist, files)?.0);
    fs::create_dir_all(dist.join(&folder))?;
    for part in &parts {
        fs::rename(part, dist.join(&folder).join(part.file_name().unwrap_or_default()))?;
    }
    let (index, plain) = (dist.join("index.html"), format!("<meta name=\"engine\" content=\"{WORKER}\">"));
    let html = fs::read_to_string(&index).with_context(|| index.display().to_string())?;
    anyhow::ensure!(html.contains(&plain), "{} does not have the line {plain}", index.display());
    fs::write(&index, html.replace(&plain, &format!("<meta name=\"engine\" content=\"{folder}/{WORKER}\">")))?;
    Ok(())
}

/// Integrity values of files by their names in a folder, but for the list itself, and the hash of all of them.
fn hashes(folder: &Path, files: Vec<PathBuf>) -> Result<(String, BTreeMap<String, String>)> {
    let mut values = BTreeMap::new();
    let mut all = Sha256::new();
    for file in files {
        let name = file.strip_prefix(folder)?.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        if name == LIST {
            continue;
        }
        let hash = BASE64_STANDARD.encode(Sha256::digest(fs::read(&file)?));
        all.update(format!("{name} {hash}\n"));
        values.insert(name, format!("sha256-{hash}"));
    }
    Ok((all.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect(), values))
}

/// `index.html` is Trunk's input too: its `data-trunk` lines (what to build and copy) are done by [`build()`].
fn without_trunk(html: &str) -> String {
    html.lines().filter(|line| !line.contains("data-trunk")).flat_map(|line| [line, "\n"]).collect()
}

/// All files below a folder, sorted.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Copies a folder's files into another.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files_below(from)? {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(&file, &target).with_context(|| format!("{} to {}", file.display(), target.display()))?;
    }
    Ok(())
}
