//! Several models, one after the other: each is opened, compressed, handed over and forgotten; the model that is open stays open.

use std::rc::Rc;

use js_sys::Array;
use wasm_bindgen::JsCast;

use super::{
    Jobs, Part, Parts, RUNNING, give_way,
    images::{images, images_in},
    post, source, still_running,
};
use crate::{
    error::{Result, bad},
    io::Source,
    pipeline::{
        batch::{self, Settings},
        job::Span,
    },
    report::{
        AllocationSettings, CalibrationSettings, CurveSettings,
        batch::{Packed, Progress},
    },
    worker::messages::{DataUse, FromEngine},
};

fn sources(files: &Array) -> Result<Vec<Rc<dyn Source>>> {
    files.iter().map(source).collect()
}

/// The places of files that belong together, if they are several models.
pub(super) fn several(sources: &[Rc<dyn Source>]) -> Option<Vec<Vec<u32>>> {
    if sources.len() < 2 {
        return None;
    }
    let groups = batch::groups(sources);
    let places = |group: &batch::Group| group.files.iter().map(|&i| i as u32).collect();
    batch::are_several(&groups).then(|| groups.iter().map(places).collect())
}

/// Compresses `which` of the models. One that fails says so, and the next one follows.
pub(super) async fn run(
    job: u32,
    groups: Array,
    which: Vec<u32>,
    curves: CurveSettings,
    allocation: AllocationSettings,
    calibration: Option<(CalibrationSettings, CurveSettings)>,
) -> Result<()> {
    RUNNING.set(job);
    let data = images(DataUse::Calibration);
    let calibration = data.as_ref().zip(calibration).map(|(data, (sampling, curves))| (data, sampling, curves));
    let settings = Settings { curves, allocation: &allocation, calibration };
    let whole = Part::whole();
    let at = |done: usize| done as f64 / which.len().max(1) as f64;
    for (done, &index) in which.iter().enumerate() {
        post(&FromEngine::Batched { job, index, progress: Progress::Working, parts: Array::new() });
        let mut jobs = Jobs { job, part: whole.part(Span { from: at(done), to: at(done + 1) }) };
        let (progress, parts) = match one(&groups.get(index).unchecked_into(), &settings, &mut jobs).await {
            Err(e) => {
                // A cancelled job is one of no model.
                still_running(job)?;
                (Progress::Failed(e.to_string()), Array::new())
            }
            Ok((packed, parts)) => (Progress::Done(Box::new(packed)), parts),
        };
        post(&FromEngine::Batched { job, index, progress, parts });
        // Between models, too.
        give_way(0).await;
        still_running(job)?;
    }
    post(&FromEngine::BatchEnded { job });
    Ok(())
}

async fn one(files: &Array, settings: &Settings<'_>, jobs: &mut Jobs) -> Result<(Packed, Array)> {
    let sources = sources(files)?;
    if images_in(&sources).is_some() {
        return Err(bad(sources[0].name(), "it holds images, not a model", "open it by itself, or where images are"));
    }
    let mut out = Parts::default();
    let (packed, _) = batch::compress(sources, settings, &mut out, Span::WHOLE, jobs).await?;
    Ok((packed, out.finish()))
}

/// Puts files into one archive.
pub(super) fn pack(job: u32, files: Array) -> Result<()> {
    let mut out = std::io::Cursor::new(Vec::new());
    batch::pack(&sources(&files)?, &mut out)?;
    let mut parts = Parts::default();
    // Writing to JavaScript's memory does not fail.
    let _ = std::io::Write::write(&mut parts, out.get_ref());
    post(&FromEngine::Packed { job, parts: parts.finish() });
    Ok(())
}
