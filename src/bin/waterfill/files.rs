//! Files of models and results.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    rc::Rc,
};

use waterfill::{
    error::{Error, Result, bad},
    io::{Source, source::PathSource},
    pipeline::{self, Opened, Session},
};

pub fn open(path: &Path, data: &[PathBuf]) -> Result<Opened> {
    let mut paths: Vec<PathBuf> = std::iter::once(path).chain(data.iter().map(PathBuf::as_path)).map(Path::to_path_buf).collect();
    loop {
        let source = |path| PathSource::open(path).map(|s| Rc::new(s) as Rc<dyn Source>);
        match pipeline::open(paths.iter().map(source).collect::<Result<_>>()?) {
            // External data usually lies next to the model.
            Err(Error::Missing { file, needs }) => {
                let next = path.with_file_name(&needs);
                if paths.contains(&next) || !next.is_file() {
                    return Err(Error::Missing { file, needs });
                }
                paths.push(next);
            }
            opened => return opened,
        }
    }
}

pub fn open_model(path: &Path, data: &[PathBuf]) -> Result<Box<Session>> {
    match open(path, data)? {
        Opened::Model(session) => Ok(session),
        Opened::Tq(tq) => Err(bad(tq.name(), "it is compressed already", "use `waterfill decompress` or `waterfill inspect`")),
    }
}

pub fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::Setting(format!("{path} cannot be written: {e}."))
}

/// Writes a file whole or not at all: to a temporary name first.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let result = (|| {
        let mut out = BufWriter::new(fs::File::create(&temporary).map_err(unwritable(path))?);
        write(&mut out)?;
        out.flush().map_err(unwritable(path))?;
        fs::rename(&temporary, path).map_err(unwritable(path))
    })();
    if result.is_err() {
        // Nothing half written stays behind; the error is the one that counts.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Where the output for one of the inputs goes.
pub fn output(asked: Option<&Path>, several: bool, input: &Path, name: &str) -> Result<PathBuf> {
    match asked {
        None => Ok(input.with_file_name(name)),
        Some(path) if several || path.is_dir() => {
            fs::create_dir_all(path).map_err(unwritable(path))?;
            Ok(path.join(name))
        }
        Some(path) => Ok(path.to_path_buf()),
    }
}

/// Size of drawings, in pixels.
pub const PLOT: (u32, u32) = (960, 540);

/// Writes one content in the formats that the extensions of `paths` ask for; into a folder, in all `extensions`.
pub fn write_each(paths: &[PathBuf], several: bool, model: &str, extensions: &[&str], content: impl Fn(&str) -> Vec<u8>) -> Result<()> {
    for path in paths {
        let folder = several || path.is_dir() || path.extension().is_none();
        let files: Vec<PathBuf> = if folder {
            fs::create_dir_all(path).map_err(unwritable(path))?;
            extensions.iter().map(|e| path.join(Path::new(&pipeline::tq_name(model)).with_extension(e))).collect()
        } else {
            vec![path.clone()]
        };
        for file in files {
            let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            write_file(&file, |out| out.write_all(&content(&extension)).map_err(unwritable(&file)))?;
        }
    }
    Ok(())
}

pub fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("reports are plain data");
    text.push('\n');
    text
}
