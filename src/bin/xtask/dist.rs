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
    for part in ["app_bg.wasm", "engine-st/engine_bg.wasm", "engine-mt/engine_bg.wasm"] {
        say(&format!("{DIST}/{part}: {} kB", fs::metadata(Path::new(DIST).join(part))?.len().div_ceil(1000)));
    }
    Ok(())
}

/// Writes `files.json` into a finished page: the version (a hash of all hashes) and each file with its integrity value.
/// The service worker makes its offline copy from this list.
pub fn stamp(dist: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    let mut version = Sha256::new();
    for file in files_below(dist)? {
        let name = file.strip_prefix(dist)?.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        if name == LIST {
            continue;
        }
        let hash = BASE64_STANDARD.encode(Sha256::digest(fs::read(&file)?));
        version.update(format!("{name} {hash}\n"));
        files.insert(name, format!("sha256-{hash}"));
    }
    let version: String = version.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let list = serde_json::json!({ "version": version, "files": files });
    fs::write(dist.join(LIST), serde_json::to_string_pretty(&list)?).with_context(|| dist.join(LIST).display().to_string())
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
