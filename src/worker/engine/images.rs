//! Images that are open, and the open network on them.

use std::rc::Rc;

use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};

use super::{EPOCH, IMAGES, Part, RUNNING, STATE, now, post, run, run_part, session, source};
use crate::{
    data::{self, Dataset, Entry},
    error::{Error, Result},
    graph::Runnable,
    io::Source,
    pipeline::{
        self, Session,
        evaluate::{self, Evaluator, Options, Reference},
        job::Span,
    },
    report::{Evaluation, Preprocessing},
    worker::messages::{DataUse, FromEngine},
};

/// Place of the references on the images of the calibration.
pub(super) const CHECK: usize = 2;

/// A network that was run on images.
pub(super) struct OnImages {
    pub(super) preprocessing: Preprocessing,
    pub(super) evaluator: Evaluator,
    pub(super) reference: Reference,
    pub(super) evaluation: Evaluation,
}

/// The images in what was dropped where models are: archives may hold either.
pub(super) fn images_in(sources: &[Rc<dyn Source>]) -> Option<Dataset> {
    let [source] = sources else { return None };
    let name = source.name().to_ascii_lowercase();
    let archive = [".npz", ".zip"].iter().any(|e| name.ends_with(e));
    archive.then(|| data::open(vec![Entry { path: source.name().into(), source: source.clone() }]).ok()).flatten()
}

pub(super) fn set_images(usage: DataUse, images: Option<Dataset>) {
    IMAGES.with_borrow_mut(|i| i[usage as usize] = images);
    STATE.with_borrow_mut(|s| {
        s.references[usage as usize] = None;
        match usage {
            DataUse::Calibration => (s.references[CHECK], s.samples, s.settled) = (None, None, None),
            DataUse::Test => {
                EPOCH.set(EPOCH.get() + 1);
                s.sweep = None;
            }
        }
    });
}

pub(super) fn opened_images(job: u32, usage: DataUse, images: Dataset) -> Result<()> {
    let summary = images.summary.clone();
    set_images(usage, Some(images));
    post(&FromEngine::DataOpened { job, usage, summary: Some(summary) });
    Ok(())
}

pub(super) fn open_data(job: u32, usage: DataUse, files: Array) -> Result<()> {
    let entry = |pair: JsValue| {
        let pair: Array = pair.unchecked_into();
        Ok(Entry { path: pair.get(0).as_string().unwrap_or_default(), source: source(pair.get(1))? })
    };
    opened_images(job, usage, data::open(files.iter().map(entry).collect::<Result<_>>()?)?)
}

pub(super) fn images(usage: DataUse) -> Option<Dataset> {
    IMAGES.with_borrow(|i| i[usage as usize].clone())
}

/// The open network, with its weights in memory. That of a `.tq` is decoded first.
pub(super) async fn runnable(job: u32) -> Result<Rc<Runnable>> {
    let (tq, made) = STATE.with_borrow(|s| (s.tq.clone(), s.tq_runnable.clone()));
    match (tq, made) {
        (None, _) => session()?.runnable(),
        (_, Some(made)) => Ok(made),
        (Some(tq), None) => {
            let tensors = run(job, pipeline::decode_job(&tq)).await?;
            let runnable = Rc::new(evaluate::tq_runnable(&tq, tensors)?);
            STATE.with_borrow_mut(|s| s.tq_runnable = Some(runnable.clone()));
            Ok(runnable)
        }
    }
}

pub(super) async fn network(job: u32) -> Result<()> {
    RUNNING.set(job);
    let mut why_not: [Option<String>; 2] = Default::default();
    let mut guesses: Vec<(bool, Preprocessing)> = Vec::new();
    match runnable(job).await {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(e) => why_not.fill(Some(e.to_string())),
        Ok(runnable) => {
            for usage in [DataUse::Test, DataUse::Calibration] {
                let Some(mut images) = images(usage) else { continue };
                // Labels are no matter where accuracy is not measured.
                if usage == DataUse::Calibration {
                    images.labels = None;
                }
                let wrong = match evaluate::preprocessing(&runnable, &images) {
                    Err(e) => Some(e),
                    Ok(p) => {
                        let wrong = Evaluator::new(&runnable, &images, p.clone(), Options::default()).err();
                        guesses.push((wrong.is_some(), p));
                        wrong
                    }
                };
                why_not[usage as usize] = wrong.map(|e| e.to_string());
            }
        }
    }
    // One that works, of the tests if it does.
    guesses.sort_by_key(|(wrong, _)| *wrong);
    post(&FromEngine::Network { job, preprocessing: guesses.into_iter().next().map(|g| g.1), why_not });
    Ok(())
}

/// What the open network gives on images; run only if it was not run on them before. `part` of the progress bar is its own. `place` says
/// where it is kept.
pub(super) async fn on_images(
    job: u32,
    part: Part,
    evaluator: Evaluator,
    preprocessing: Preprocessing,
    place: usize,
) -> Result<Rc<OnImages>> {
    if let Some(known) = known_on_images(&evaluator, &preprocessing, place) {
        return Ok(known);
    }
    let start = now();
    let results = run_part(job, part, evaluator.reference_job()).await?;
    let reference = evaluator.reference(results);
    let evaluation = evaluator.finish_reference(evaluate::FULL, now() - start, &reference);
    let on_images = Rc::new(OnImages { preprocessing, evaluator, reference, evaluation });
    STATE.with_borrow_mut(|s| s.references[place] = Some(on_images.clone()));
    Ok(on_images)
}

pub(super) fn known_on_images(evaluator: &Evaluator, preprocessing: &Preprocessing, place: usize) -> Option<Rc<OnImages>> {
    let known = STATE.with_borrow(|s| s.references[place].clone());
    known.filter(|known| known.preprocessing == *preprocessing && known.evaluator.images() == evaluator.images())
}

/// The open network with the images of its calibration, and how they become inputs.
pub(super) fn with_calibration(session: &Session) -> Result<(Evaluator, Preprocessing)> {
    let no_images = || Error::Setting("The network is not calibrated on images that are open; calibrate it first.".into());
    let images = images(DataUse::Calibration).ok_or_else(no_images)?;
    let found = session.statistics().ok_or_else(no_images)?.summary.clone();
    let p = found.preprocessing;
    Ok((Evaluator::of_calibration(&*session.runnable()?, &images, p.clone(), found.settings, Options::default())?, p))
}

/// The open network on the images of its calibration, and where in the progress that ends.
pub(super) async fn on_calibration(job: u32, session: &Session, part: Part) -> Result<(Rc<OnImages>, f64)> {
    let (evaluator, p) = with_calibration(session)?;
    let known = known_on_images(&evaluator, &p, CHECK).is_some();
    let to = part.part(Span { from: 0.0, to: if known { 0.0 } else { 0.1 } }).to;
    Ok((on_images(job, Part { to, ..part }, evaluator, p, CHECK).await?, to))
}

/// A network on images, and how they become inputs: as asked for, else as they usually do.
pub(super) fn network_on(usage: DataUse, runnable: &Runnable, preprocessing: Option<Preprocessing>) -> Result<(Evaluator, Preprocessing)> {
    let images = wanted(usage)?;
    let p = preprocessing.map_or_else(|| evaluate::preprocessing(runnable, &images), Ok)?;
    Ok((Evaluator::new(runnable, &images, p.clone(), Options::default())?, p))
}

/// Images that have to be open.
pub(super) fn wanted(usage: DataUse) -> Result<Dataset> {
    let name = match usage {
        DataUse::Test => "test",
        DataUse::Calibration => "calibration",
    };
    images(usage).ok_or_else(|| Error::Setting(format!("No {name} images are open; choose some first.")))
}
