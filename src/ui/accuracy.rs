//! What is known about images and about networks run on them, and whether it still holds.

use std::sync::Arc;

use js_sys::Array;
use leptos::prelude::*;
use web_sys::File;

use super::{
    calibration::Calibration,
    check::Check,
    dom, format,
    jobs::Job,
    pictures::Gallery,
    promise::Promises,
    state::{App, Phase},
    sweep::Sweep,
};
use crate::{
    report::{AllocationReport, Coding, CurveSettings, DataSummary, EvaluationReport, LayerDamage, Method, Preprocessing},
    worker::messages::DataUse,
};

/// Images of one use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Images {
    /// What they are; none before there are any.
    pub summary: Option<Arc<DataSummary>>,
    /// Why the last files were not taken: one sentence.
    pub error: Option<String>,
    /// Counts what was opened and removed.
    pub version: u32,
}

/// What a result was made from: it is out of date when one of these has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    /// The allocation.
    pub allocation: Option<Arc<AllocationReport>>,
    /// How its indices are coded: what is allocated does not say so.
    pub coding: Coding,
    /// What its layers may be compressed by.
    pub method: Method,
    /// How images became inputs.
    pub preprocessing: Option<Preprocessing>,
    /// Which images, and their version.
    pub images: (DataUse, u32),
}

/// A result, and what it was made from.
#[derive(Debug, Clone)]
pub struct Made<T> {
    /// The result.
    pub result: Arc<T>,
    /// What it was made from.
    pub basis: Basis,
}

/// Signals of the panel.
#[derive(Clone, Copy)]
pub struct Accuracy {
    /// Images for calibration and for tests.
    images: [RwSignal<Images>; 2],
    /// How the engine would make inputs of the images; none when it has not said so.
    pub guess: RwSignal<Option<Preprocessing>>,
    /// Why the open network cannot be run, on images of each use.
    why_not: [RwSignal<Option<String>>; 2],
    /// What the user made of the guess, for this model.
    pub edited: RwSignal<Option<Preprocessing>>,
    /// What is wrong with what the user is typing.
    pub mistake: RwSignal<Option<String>>,
    /// The last evaluation.
    pub evaluation: RwSignal<Option<Made<EvaluationReport>>>,
    /// Its pictures, of image-to-image networks.
    pub pictures: RwSignal<Option<Gallery>>,
    /// The damage done by each layer, greatest first.
    pub damage: RwSignal<Option<Made<Vec<LayerDamage>>>>,
    /// Why the last evaluation failed.
    pub error: RwSignal<Option<String>>,
    /// What the curves are calibrated on.
    pub calibration: Calibration,
    /// What was predicted of the allocation, measured.
    pub check: RwSignal<Check>,
    /// The measured curves.
    pub sweep: Sweep,
    /// A promise as the budget.
    pub promise: Promises,
}

impl Accuracy {
    /// Nothing is known.
    pub fn new() -> Accuracy {
        Accuracy {
            images: [RwSignal::new(Images::default()), RwSignal::new(Images::default())],
            guess: RwSignal::new(None),
            why_not: [RwSignal::new(None), RwSignal::new(None)],
            edited: RwSignal::new(None),
            mistake: RwSignal::new(None),
            evaluation: RwSignal::new(None),
            pictures: RwSignal::new(None),
            damage: RwSignal::new(None),
            error: RwSignal::new(None),
            calibration: Calibration::new(),
            check: RwSignal::new(Check::default()),
            sweep: Sweep::new(),
            promise: Promises::new(),
        }
    }
    /// Images of one use.
    pub fn images(&self, usage: DataUse) -> RwSignal<Images> {
        self.images[usage as usize]
    }
    /// Why the open network cannot be run on images of this use.
    pub fn why_not(&self, usage: DataUse) -> Option<String> {
        self.why_not[usage as usize].get()
    }
    /// The engine has said so, for each use.
    pub(super) fn set_why_not(&self, why_not: [Option<String>; 2]) {
        self.why_not.iter().zip(why_not).for_each(|(signal, why)| signal.set(why));
    }
    /// How images become inputs: as the user says, or as guessed.
    pub fn preprocessing(&self) -> Option<Preprocessing> {
        self.edited.get().or_else(|| self.guess.get())
    }
    /// Whether there are test images.
    pub fn has_tests(&self) -> bool {
        self.images(DataUse::Test).with(|i| i.summary.is_some())
    }
    /// Another model: what was known of the one before is forgotten; the images stay.
    pub(super) fn forget_model(&self) {
        self.guess.set(None);
        self.set_why_not(Default::default());
        // The form follows what was edited, unless there is a mistake in it.
        self.mistake.set(None);
        self.edited.set(None);
        self.evaluation.set(None);
        self.pictures.set(None);
        self.damage.set(None);
        self.error.set(None);
        self.calibration.error.set(None);
        self.sweep.forget();
        self.promise.forget();
    }
}

impl Default for Accuracy {
    fn default() -> Self {
        Accuracy::new()
    }
}

/// What stands in the way when the preprocessing cannot be used.
pub const MISTAKE: &str = "The preprocessing has a mistake; correct it, or reset it to the guess.";

/// In words, what images are for.
pub fn use_name(usage: DataUse) -> &'static str {
    match usage {
        DataUse::Calibration => "calibration images",
        DataUse::Test => "test images",
    }
}

/// Whether two allocations write the same file.
pub(super) fn same_bits(a: &AllocationReport, b: &AllocationReport) -> bool {
    let same = |(a, b): (&crate::report::LayerRow, &crate::report::LayerRow)| {
        (a.transform, a.feedback) == (b.transform, b.feedback) && a.bytes == b.bytes && a.depths == b.depths && a.excluded == b.excluded
    };
    a.bytes == b.bytes && a.layers.len() == b.layers.len() && a.layers.iter().zip(&b.layers).all(same)
}

/// Whether images become the same inputs.
pub(super) fn same_inputs(a: &Preprocessing, b: &Preprocessing) -> bool {
    *a == Preprocessing { origin: a.origin.clone(), ..b.clone() }
}

/// What has changed since: a clause, or nothing when the result still holds.
pub fn outdated(made: &Basis, now: &Basis) -> Option<&'static str> {
    let allocation = match (&made.allocation, &now.allocation) {
        (Some(made), Some(now)) => Arc::ptr_eq(made, now) || same_bits(made, now),
        (made, now) => made.is_none() == now.is_none(),
    };
    let inputs = match (&made.preprocessing, &now.preprocessing) {
        (Some(made), Some(now)) => same_inputs(made, now),
        // What is not known yet is no change.
        _ => true,
    };
    match () {
        _ if made.images != now.images => Some("the images have changed"),
        _ if !inputs => Some("the preprocessing has changed"),
        _ if made.method != now.method => Some("the method has changed"),
        _ if made.coding != now.coding => Some("the coding has changed"),
        _ if !allocation => Some("the allocation has changed"),
        _ => None,
    }
}

impl App {
    /// What an evaluation, or the search for the damage, would be made from now.
    pub fn basis(&self, damage: bool) -> Basis {
        let calibrated = damage && self.accuracy.images(DataUse::Calibration).with(|i| i.summary.is_some());
        let usage = if calibrated { DataUse::Calibration } else { DataUse::Test };
        let CurveSettings { coding, method, .. } = self.curve_settings();
        Basis {
            allocation: self.allocation.get(),
            coding,
            method,
            preprocessing: self.accuracy.preprocessing(),
            images: (usage, self.accuracy.images(usage).with(|i| i.version)),
        }
    }

    // Requests.

    /// Opens images: files with their paths inside what was chosen.
    pub fn open_data(self, usage: DataUse, files: Vec<(String, File)>) {
        if files.is_empty() {
            return self.data_failed(usage, "There are no files in what was given; choose images, or a folder of images.".into());
        }
        let pair = |(path, file): (String, File)| Array::of2(&path.into(), &file);
        let files: Array = files.into_iter().map(pair).collect();
        self.session.update_value(|s| s.images[usage as usize].incoming = Some(files));
        self.accuracy.images(usage).update(|i| i.error = None);
        self.ask(Job::OpenData(usage));
    }

    /// Forgets images.
    pub fn close_data(self, usage: DataUse) {
        self.session.update_value(|s| {
            s.images[usage as usize] = Default::default();
            s.knows_network = false;
        });
        self.accuracy.images(usage).update(|i| *i = Images { version: i.version + 1, ..Images::default() });
        self.ask(Job::CloseData(usage));
        self.images_changed(usage);
    }

    /// Runs the networks; with `damage`, also with one layer quantized at a time.
    pub fn evaluate(self, damage: bool) {
        self.accuracy.error.set(None);
        self.ask(Job::Evaluate { damage });
    }

    /// Files were not taken.
    pub(super) fn data_failed(self, usage: DataUse, error: String) {
        self.accuracy.images(usage).update(|i| i.error = Some(error.clone()));
        self.fail(error);
    }

    /// Saves the last evaluation, with the damage if that was found for the same.
    pub fn save_evaluation(self) {
        let Some(made) = self.accuracy.evaluation.get_untracked() else { return };
        let mut report = (*made.result).clone();
        if let Some(damage) = self.accuracy.damage.get_untracked() {
            // Found on images of its own, perhaps, but for the same network.
            let basis = Basis { images: made.basis.images, ..damage.basis };
            if outdated(&basis, &made.basis).is_none() {
                report.damage = damage.result.to_vec();
            }
        }
        let json = serde_json::to_string_pretty(&report).map_err(|e| e.to_string());
        let name = self.model.with_untracked(|m| m.as_ref().map_or(String::new(), |m| m.name.clone()));
        self.save(json.and_then(|j| dom::text_blob(&j, "application/json")), &format!("{name}.evaluation.json"));
    }

    // Answers.

    /// Images were opened, opened again in a new engine, or forgotten.
    pub(super) fn data_opened(self, usage: DataUse, summary: Option<DataSummary>) {
        let Some(summary) = summary else {
            return self.said.set(format!("The {} were removed.", use_name(usage)));
        };
        let new = self.session.try_update_value(|s| {
            let files = &mut s.images[usage as usize];
            files.held = true;
            let new = files.incoming.take();
            let is_new = new.is_some();
            files.opened = new.or(files.opened.take());
            s.knows_network &= !is_new;
            is_new
        });
        if new == Some(true) {
            self.said.set(format!("{}: {}.", summary.name, format::images(&summary)));
        }
        self.accuracy.images(usage).update(|i| {
            let version = i.version + u32::from(new == Some(true));
            *i = Images { summary: Some(Arc::new(summary)), error: None, version };
        });
        if new == Some(true) {
            self.images_changed(usage);
        }
    }

    /// Images were not opened.
    pub(super) fn data_lost(self, usage: DataUse) {
        let gone = self.session.try_update_value(|s| {
            let files = &mut s.images[usage as usize];
            let new = files.incoming.take().is_some();
            // The engine has the old ones, unless it was these that it was given again.
            if !new && !files.held {
                files.opened = None;
            }
            files.opened.is_none()
        });
        if gone == Some(true) {
            self.accuracy.images(usage).update(|i| *i = Images { version: i.version + 1, ..Images::default() });
            self.images_changed(usage);
        }
    }

    /// Networks were run.
    pub(super) fn evaluated(self, report: EvaluationReport, pictures: Option<Gallery>, (basis, damage): (Basis, Option<Basis>)) {
        let with_inputs = |basis: Basis| Basis { preprocessing: Some(report.preprocessing.clone()), ..basis };
        let (basis, damage) = (with_inputs(basis), damage.map(with_inputs));
        if let Some(basis) = damage {
            let mut layers = report.damage.clone();
            layers.sort_by(|a, b| b.distortion.total_cmp(&a.distortion).then(a.index.cmp(&b.index)));
            self.accuracy.damage.set(Some(Made { result: Arc::new(layers), basis }));
        }
        let run = report.compressed.as_ref().or(report.reference.as_ref());
        let images = run.map_or(report.data.images, |e| e.images);
        self.said.set(format!("The networks were run on {}.", format::count(images, "image")));
        self.accuracy.error.set(None);
        self.accuracy.pictures.set(pictures);
        self.accuracy.evaluation.set(Some(Made { result: Arc::new(report), basis }));
    }

    /// A quiet job has ended: the page is as it was before.
    pub(super) fn quiet_end(self) {
        let busy = self.phase.with_untracked(|p| matches!(p, Phase::Working | Phase::Loading));
        if busy && self.session.with_value(|s| s.queue.is_idle()) {
            self.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Channels, plot::tests::report};

    fn preprocessing() -> Preprocessing {
        Preprocessing {
            resize: None,
            crop: None,
            channels: Channels::Grey,
            scale: 1.0 / 255.0,
            mean: vec![0.5],
            std: vec![0.25],
            channels_last: false,
            origin: "written in the model".into(),
        }
    }

    #[test]
    fn a_result_holds_until_something_it_was_made_from_changes() {
        let made = Basis {
            allocation: Some(Arc::new(report(5))),
            coding: Coding::Fixed,
            method: Method::Transform,
            preprocessing: Some(preprocessing()),
            images: (DataUse::Test, 3),
        };
        assert_eq!(outdated(&made, &made), None);
        // Encoding measures errors and changes no bit; naming the numbers' origin changes no number.
        let mut measured = report(5);
        measured.measured = true;
        measured.db -= 0.1;
        measured.layers[2].error *= 1.1;
        let edited = Preprocessing { origin: "edited".into(), ..preprocessing() };
        let same = Basis { allocation: Some(Arc::new(measured)), preprocessing: Some(edited), ..made.clone() };
        assert_eq!(outdated(&made, &same), None);
        assert_eq!(outdated(&made, &Basis { preprocessing: None, ..made.clone() }), None);

        let mut other = report(5);
        other.layers[1].depths.push(3);
        let changed = |basis: Basis| outdated(&made, &basis).expect("outdated");
        assert_eq!(changed(Basis { allocation: Some(Arc::new(other)), ..made.clone() }), "the allocation has changed");
        assert_eq!(changed(Basis { allocation: None, ..made.clone() }), "the allocation has changed");
        assert_eq!(changed(Basis { coding: Coding::Depths, ..made.clone() }), "the coding has changed");
        // Which changes the coding too.
        assert_eq!(changed(Basis { coding: Coding::Entropy, method: Method::Feedback, ..made.clone() }), "the method has changed");
        assert_eq!(changed(Basis { images: (DataUse::Test, 4), ..made.clone() }), "the images have changed");
        let scaled = Preprocessing { scale: 1.0, ..preprocessing() };
        assert_eq!(changed(Basis { preprocessing: Some(scaled), ..made.clone() }), "the preprocessing has changed");
    }
}
