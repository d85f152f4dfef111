//! Images on the command line: datasets, preprocessing, calibration.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use waterfill::{
    data::{self, Dataset, Entry, preprocess},
    error::{Error, Result},
    graph::Runnable,
    io::source::{FolderSource, PathSource},
    limits,
    pipeline::{
        Session,
        calibrate::Memory,
        evaluate::{self, Evaluator},
    },
    report::{Channels, Coding, CurveSettings, Distortion, Preprocessing},
};

use crate::{
    eval::EVALUATION,
    options::{ChannelOrder, DataOptions, Sampling},
    progress::run,
};

/// Images to calibrate on, and how they become inputs.
pub struct Calibration<'a> {
    pub sampling: &'a Sampling,
    pub images: Option<(Dataset, Preprocessing)>,
}

impl<'a> Calibration<'a> {
    /// Opens the images, if any are named. A network that cannot be run says so.
    pub fn open(session: &Session, sampling: &'a Sampling, data: &DataOptions) -> Result<Calibration<'a>> {
        if sampling.calibration.is_empty() {
            return Ok(Calibration { sampling, images: None });
        }
        let images = dataset(&sampling.calibration, None)?;
        let preprocessing = preprocessing(&*session.runnable()?, &images, data)?;
        Ok(Calibration { sampling, images: Some((images, preprocessing)) })
    }

    /// Takes statistics, if there is something to calibrate on, and keeps `samples` bytes of what they are made of.
    pub fn statistics(&self, session: &mut Session, samples: u64) -> Result<()> {
        session.model.notes.iter().for_each(|note| eprintln!("note: {note}"));
        if let Some((images, preprocessing)) = &self.images {
            let memory = Memory { samples, activations: 512 << 20 };
            let calibrator = session.calibrator(images, preprocessing.clone(), self.sampling.settings(), memory)?;
            run(calibrator.job())?;
            session.set_statistics(Some(calibrator.statistics()));
        }
        Ok(())
    }

    /// Takes statistics, if there is something to calibrate on, and computes the curves.
    pub fn curves(&self, session: &mut Session, settings: CurveSettings) -> Result<()> {
        self.statistics(session, 1 << 30)?;
        let distortion = settings.distortion;
        if distortion == Distortion::Measured && settings.coding == Coding::Entropy {
            let reason = "is measured for quantizers of fixed depths: leave out --distortion measured, or choose --coding fixed or depths";
            return Err(Error::Setting(format!("Distortion {reason}.")));
        }
        let curves = run(session.curves_job(settings))?;
        session.set_curves(settings, curves);
        if let (Distortion::Measured, Some((images, preprocessing))) = (distortion, &self.images) {
            let count = self.sampling.settings().images;
            let measurer = session.measurer(images, preprocessing.clone(), count, evaluate::Options::default().memory)?;
            let measured = run(session.measured_job(&measurer))?;
            session.set_curves(settings, session.measured_curves(&measurer, &measured));
        }
        Ok(())
    }

    /// The network on the calibration images, to measure what the model of distortion has predicted.
    pub fn evaluator(&self, session: &Session) -> Result<Option<Evaluator>> {
        let Some((images, preprocessing)) = &self.images else { return Ok(None) };
        Evaluator::of_calibration(&*session.runnable()?, images, preprocessing.clone(), self.sampling.settings(), EVALUATION).map(Some)
    }
}

/// Images, from files and folders.
pub fn dataset(paths: &[PathBuf], labels: Option<&Path>) -> Result<Dataset> {
    let mut entries = Vec::new();
    for path in paths {
        let name = path.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())).unwrap_or_default();
        if path.is_dir() {
            let prefix = if paths.len() > 1 { format!("{name}/") } else { String::new() };
            walk(path, &prefix, 0, &mut entries)?;
        } else {
            entries.push(Entry { path: name, source: Rc::new(PathSource::open(path)?) });
        }
    }
    let mut data = data::open(entries)?;
    if let [folder] = paths
        && folder.is_dir()
        && let Some(name) = folder.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
    {
        (data.summary.name, data.summary.several) = (name, false);
    }
    match labels {
        Some(labels) => data::with_labels(data, Rc::new(PathSource::open(labels)?)),
        None => Ok(data),
    }
}

/// The files below a folder.
pub fn walk(folder: &Path, prefix: &str, depth: usize, entries: &mut Vec<Entry>) -> Result<()> {
    let unreadable = |e| Error::Setting(format!("{} cannot be read: {e}.", folder.display()));
    for file in fs::read_dir(folder).map_err(unreadable)? {
        let file = file.map_err(unreadable)?;
        let (name, path) = (file.file_name().to_string_lossy().into_owned(), file.path());
        if name.starts_with('.') {
            continue;
        }
        match fs::metadata(&path) {
            // Links may lead in circles.
            Ok(meta) if meta.is_dir() && depth < 16 => walk(&path, &format!("{prefix}{name}/"), depth + 1, entries)?,
            Ok(meta) if meta.is_file() => {
                entries.push(Entry { path: format!("{prefix}{name}"), source: Rc::new(FolderSource::new(&path)?) });
            }
            _ => {}
        }
        if entries.len() > limits::IMAGES {
            return Err(Error::Setting(format!("{} has more than {} files.", folder.display(), limits::IMAGES)));
        }
    }
    Ok(())
}

/// How images become inputs, with what the command line says of it.
pub fn preprocessing(runnable: &Runnable, data: &Dataset, options: &DataOptions) -> Result<Preprocessing> {
    if let Some(path) = &options.preprocessing {
        let text = fs::read_to_string(path).map_err(|e| Error::Setting(format!("{} cannot be read: {e}.", path.display())))?;
        return preprocess::parse(&text).map_err(Error::Setting).map(|p| edited(p, options));
    }
    if let Some(recipe) = &options.recipe {
        return Ok(edited(recipe.clone(), options));
    }
    evaluate::preprocessing(runnable, data).map(|p| edited(p, options))
}

pub fn edited(mut p: Preprocessing, options: &DataOptions) -> Preprocessing {
    let before = p.clone();
    if let Some(side) = options.resize {
        p.resize = Some(side).filter(|&s| s > 0);
    }
    if let Some(crop) = options.crop {
        p.crop = Some(crop).filter(|c| *c != [0, 0]);
    }
    if !options.mean.is_empty() {
        p.mean = options.mean.clone();
    }
    if !options.std.is_empty() {
        p.std = options.std.clone();
    }
    p.scale = options.scale.unwrap_or(p.scale);
    p.channels = match options.channels {
        Some(ChannelOrder::Rgb) => Channels::Rgb,
        Some(ChannelOrder::Bgr) => Channels::Bgr,
        Some(ChannelOrder::Grey) => Channels::Grey,
        None => p.channels,
    };
    p.channels_last = options.channels_last.unwrap_or(p.channels_last);
    if p != before {
        p.origin = Preprocessing::EDITED.into();
    }
    p
}
