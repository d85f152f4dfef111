//! What the page shows, and how it changes: requests go out, answers come in, signals change, components follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use js_sys::Array;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    accuracy::Accuracy,
    address::Address,
    choices::Choice,
    clock::Later,
    compare::Side,
    dom,
    format::{self, Unit},
    history::History,
    jobs::{Job, Then},
    pace::{AtHand, Turns},
    session::Session,
};
use crate::{
    report::{
        AllocationReport, AllocationSettings, Budget, Coding, CurveSettings, Distortion, Method, ModelSummary, RdCurves, TransformChoice,
        batch::Item, figure::Which, geometry::Plane,
    },
    worker::messages::DataUse,
};

/// Wait for the next change of a setting that means seconds of work.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// Why indices are not coded by `entropy` now.
pub(super) const NOT_ENTROPY: &str =
    "The calibration measures distortions, which takes fixed depths: for entropy, calibrate with another distortion.";
/// Why errors are not fed back now.
pub(super) const NOT_FEEDBACK: &str =
    "The calibration measures distortions, which takes fixed depths: for error feedback, calibrate with another distortion.";

/// What the page is doing; its words are the `status` hook's text.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// No model.
    Idle,
    /// A file is being read.
    Loading,
    /// The engine computes.
    Working,
    /// A model is open.
    Ready,
    /// The last request failed: one sentence.
    Failed(String),
}

impl Phase {
    /// The text of the `status` hook.
    pub fn words(&self) -> String {
        match self {
            Phase::Idle => "idle".into(),
            Phase::Loading => "loading".into(),
            Phase::Working => "working".into(),
            Phase::Ready => "ready".into(),
            Phase::Failed(error) => format!("error: {error}"),
        }
    }
}

/// Which engine runs.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineInfo {
    /// Nobody has begun anything that it is needed for.
    Waiting,
    /// Not up yet.
    Starting,
    /// Up.
    Running {
        /// Threads of its pool.
        threads: u32,
        /// Whether it is the build with threads.
        shared: bool,
        /// Whether it uses SIMD.
        simd: bool,
    },
    /// It does not start.
    Broken,
}

impl EngineInfo {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            EngineInfo::Waiting => "The engine is loaded when you begin.".into(),
            EngineInfo::Starting => "The engine is starting…".into(),
            EngineInfo::Broken => "The engine does not run in this browser.".into(),
            EngineInfo::Running { threads, shared, simd } => {
                let build = if *shared { "threaded build" } else { "single-thread build" };
                let threads = format::count(*threads as usize, "thread");
                format!("WebAssembly engine: {build}, {threads}{}", if *simd { ", SIMD" } else { "" })
            }
        }
    }
}

/// How far a long job is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: String,
    /// The layer finished last.
    pub layer: String,
    /// Layers done.
    pub done: u32,
    /// Layers in all.
    pub total: u32,
    /// 0 to 1.
    pub fraction: f64,
    /// Estimated seconds left.
    pub seconds_left: Option<f64>,
}

/// What is chosen of the curves' settings. What an error costs is not: it belongs to a calibration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurveChoice {
    /// Blocks per layer.
    pub blocks: usize,
    /// How indices are coded. Settings of earlier visits may be without it.
    #[serde(default)]
    pub coding: Coding,
    /// What a layer may be compressed by, once there is a calibration. Settings of earlier visits may be without it.
    #[serde(default = "best")]
    pub method: Method,
}

/// The method where none was chosen: what does best, once there is a calibration.
fn best() -> Method {
    Method::Feedback
}

impl CurveChoice {
    /// All settings of the curves. What an error costs is said by a calibration; without one no errors are fed back.
    pub fn with(self, calibrated: Option<Distortion>) -> CurveSettings {
        let CurveChoice { blocks, coding, method } = self;
        let distortion = calibrated.unwrap_or_default();
        match method {
            Method::Feedback if calibrated.is_some() => {
                CurveSettings { blocks, distortion, coding: Coding::Entropy, method, matching: true, ..CurveSettings::default() }
            }
            _ => CurveSettings { blocks, distortion, coding, ..CurveSettings::default() },
        }
    }
}

impl Default for CurveChoice {
    fn default() -> Self {
        let CurveSettings { blocks, coding, .. } = CurveSettings::default();
        CurveChoice { blocks, coding, method: best() }
    }
}

/// Settings that are remembered from visit to visit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What is asked for.
    pub budget: Budget,
    /// The unit the number field shows.
    pub unit: Unit,
    /// Allowed transforms.
    pub transform: TransformChoice,
    /// What the curves are computed by.
    #[serde(flatten)]
    pub curves: CurveChoice,
}

impl Default for Settings {
    fn default() -> Self {
        let AllocationSettings { budget, transform, .. } = AllocationSettings::default();
        Settings { budget, unit: Unit::Bits, transform, curves: CurveChoice::default() }
    }
}

/// The page's state. Copied freely: all of it are handles.
#[derive(Clone, Copy)]
pub struct App {
    /// What the page is doing.
    pub phase: RwSignal<Phase>,
    /// A sentence beside it.
    pub said: RwSignal<String>,
    /// Which engine runs.
    pub engine: RwSignal<EngineInfo>,
    /// The long job that runs, if any.
    pub long_job: RwSignal<Option<Job>>,
    /// How far it is.
    pub progress: RwSignal<Option<Progress>>,
    /// The model that is open.
    pub model: RwSignal<Option<Arc<ModelSummary>>>,
    /// Counts models: rows of one are not rows of the next.
    pub generation: RwSignal<u32>,
    /// Its curves; none for a `.tq`.
    pub curves: RwSignal<Option<Arc<RdCurves>>>,
    /// Its allocation.
    pub allocation: RwSignal<Option<Arc<AllocationReport>>>,
    /// The equivalent command line.
    pub command: RwSignal<String>,
    /// Settings.
    pub settings: RwSignal<Settings>,
    /// Layers locked to a depth.
    pub locks: RwSignal<BTreeMap<usize, u8>>,
    /// Layers kept as they are.
    pub excludes: RwSignal<BTreeSet<usize>>,
    /// What was chosen before, and can be again.
    pub history: RwSignal<History<Choice>>,
    /// The layer that is picked out in the table, the bars and the list of damage.
    pub selected: RwSignal<Option<usize>>,
    /// Settings that were kept to compare with, and of which model, by its `generation`.
    pub kept: RwSignal<Option<(u32, Arc<Side>)>>,
    /// Several models that are compressed one after the other.
    pub batch: RwSignal<Vec<Item>>,
    /// The figure of the paper that is shown.
    pub figure: RwSignal<Which>,
    /// What the geometry of cells is of.
    pub plane: RwSignal<Plane>,
    /// The images' field that files are being dragged over.
    pub aimed_at: RwSignal<Option<DataUse>>,
    /// Images, and what networks gave on them.
    pub accuracy: Accuracy,
    /// Whether the browser prefers a dark page; not on paper.
    pub dark: ReadSignal<bool>,
    /// Whether the budget is being changed.
    pub at_hand: AtHand,
    /// Parts that are drawn anew in a frame of their own.
    pub(super) turns: Turns,
    /// What the page's address said that is still to be done.
    pub(super) address: Address,
    pub(super) session: StoredValue<Session, LocalStorage>,
}

impl App {
    /// Starts the engine and remembers the last visit's settings.
    pub fn new() -> App {
        let app = App {
            phase: RwSignal::new(Phase::Idle),
            said: RwSignal::new("Drop a model file anywhere on this page, or try a sample.".into()),
            engine: RwSignal::new(EngineInfo::Waiting),
            long_job: RwSignal::new(None),
            progress: RwSignal::new(None),
            model: RwSignal::new(None),
            generation: RwSignal::new(0),
            curves: RwSignal::new(None),
            allocation: RwSignal::new(None),
            command: RwSignal::new(String::new()),
            settings: RwSignal::new(dom::recall().unwrap_or_default()),
            locks: RwSignal::new(BTreeMap::new()),
            excludes: RwSignal::new(BTreeSet::new()),
            history: RwSignal::new(History::default()),
            selected: RwSignal::new(None),
            kept: RwSignal::new(None),
            batch: RwSignal::new(Vec::new()),
            figure: RwSignal::new(Which::default()),
            plane: RwSignal::new(Plane::default()),
            aimed_at: RwSignal::new(None),
            accuracy: Accuracy::new(),
            dark: dom::media("screen and (prefers-color-scheme: dark)"),
            at_hand: AtHand::new(),
            turns: Turns::new(),
            address: Address::new(),
            session: StoredValue::new_local(Session::default()),
        };
        // What was calibrated at the last visit is not any more.
        app.uncalibrated();
        app.wake_at_first();
        app.follow_history();
        // What the address says goes before what was remembered.
        app.follow_address();
        // Storage is written to when a slider rests, not at each of its steps.
        Effect::new(move |waiting: Option<Later>| {
            let (mut waiting, settings) = (waiting.unwrap_or_default(), app.settings.get());
            waiting.set(DEBOUNCE, move || dom::remember(&settings));
            waiting
        });
        app
    }

    /// Whether the open file is a `.tq`, which is shown but not compressed again.
    pub fn is_tq(&self) -> bool {
        self.model.with(|m| m.as_ref().is_some_and(|m| m.format == "tq"))
    }

    // Requests.

    /// Opens files: a model, and external data that belong to it.
    pub fn open(self, files: Array) {
        if files.length() == 0 {
            return;
        }
        self.session.update_value(|s| s.opening = Some(files));
        self.ask(Job::Open);
    }

    /// Changes settings; the engine follows.
    pub fn set(self, change: impl FnOnce(&mut Settings)) {
        self.noted(|| self.settings.update(change));
        self.pump();
    }

    /// Changes how indices are coded, unless the calibration stands against it: distortions are measured for quantizers of fixed depths.
    pub fn set_coding(self, coding: Coding) {
        if coding == Coding::Entropy && untrack(|| self.is_measuring()) {
            return self.said.set(NOT_ENTROPY.into());
        }
        self.set_curves(|c| c.coding = coding);
    }

    /// Changes what a layer may be compressed by, unless the calibration stands against it. Without one it waits for it.
    pub fn set_method(self, method: Method) {
        if method == Method::Feedback && untrack(|| self.is_measuring()) {
            return self.said.set(NOT_FEEDBACK.into());
        }
        self.set_curves(|c| c.method = method);
    }

    /// What the choice comes to, calibrated or not.
    pub fn curve_settings(&self) -> CurveSettings {
        self.settings.with(|s| s.curves).with(self.calibrated_by())
    }

    /// What indices are coded by, where the bytes that are shown are not yet those of the file.
    pub fn predicted_for(&self) -> Option<Coding> {
        let measured = self.allocation.with(|a| a.as_ref().is_none_or(|a| a.measured));
        let coding = self.curve_settings().coding;
        (coding != Coding::Fixed && !measured && !self.is_tq()).then_some(coding)
    }

    /// Changes what the curves are computed by; they follow when it has not changed for a while.
    pub fn set_curves(self, change: impl FnOnce(&mut CurveChoice)) {
        self.noted(|| self.settings.update(|s| change(&mut s.curves)));
        self.follow_curves();
    }

    /// The curves follow their settings, when these have not changed for a while.
    pub(super) fn follow_curves(self) {
        self.session.update_value(|s| s.recompute.set(DEBOUNCE, move || self.recompute()));
    }

    fn recompute(self) {
        let curves = self.settings.with_untracked(|s| s.curves);
        let needed = self.session.with_value(|s| s.holds_model && s.applied.as_ref().is_none_or(|a| a.1 != curves));
        if needed && !untrack(|| self.is_tq()) {
            self.ask(Job::Recompute);
        }
    }

    /// Locks a layer to a depth, or unlocks it.
    pub fn lock(self, layer: usize, depth: Option<u8>) {
        self.noted(|| {
            self.locks.update(|l| {
                match depth {
                    Some(depth) => l.insert(layer, depth),
                    None => l.remove(&layer),
                };
            })
        });
        self.pump();
    }

    /// Keeps a layer as it is, or not.
    pub fn exclude(self, layer: usize, excluded: bool) {
        self.noted(|| {
            self.excludes.update(|e| {
                if excluded {
                    e.insert(layer)
                } else {
                    e.remove(&layer)
                };
            })
        });
        self.pump();
    }

    /// Saves something that needs the encoded file.
    pub fn encode(self, then: Then) {
        if self.session.with_value(|s| s.encoded.is_some() && s.queue.is_idle()) {
            self.save_encoded(then);
        } else {
            self.ask(Job::Encode(then));
        }
    }

    /// Saves the reconstructed model.
    pub fn reconstruct(self) {
        self.ask(Job::Reconstruct);
    }

    /// Says that something went wrong on the page itself.
    pub fn fail(self, sentence: String) {
        self.phase.set(Phase::Failed(sentence));
        self.said.set(self.still_open());
    }
}

impl Default for App {
    fn default() -> Self {
        App::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_remembered_also_those_of_before_codings_and_methods() {
        let curves = CurveChoice { blocks: 4, coding: Coding::Entropy, method: Method::Transform };
        let settings = Settings { curves, ..Settings::default() };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        let before = text.replace(r#","method":"transform""#, "");
        assert_ne!(before, text);
        let curves = CurveChoice { method: Method::Feedback, ..curves };
        assert_eq!(serde_json::from_str::<Settings>(&before).unwrap(), Settings { curves, ..settings });
        let earlier = before.replace(r#","coding":"entropy""#, "");
        assert_ne!(earlier, before);
        let curves = CurveChoice { coding: Coding::Fixed, ..curves };
        assert_eq!(serde_json::from_str::<Settings>(&earlier).unwrap(), Settings { curves, ..settings });
    }

    #[test]
    fn the_choice_and_the_distortion_are_all_settings_of_the_curves() {
        assert_eq!(CurveChoice::default().with(None), CurveSettings::default());
        let transform = CurveChoice { method: Method::Transform, ..CurveChoice::default() };
        assert_eq!(transform.with(Some(Distortion::default())), CurveSettings::default());
        let choice = CurveChoice { blocks: 2, coding: Coding::Depths, method: Method::Transform };
        let all = CurveSettings { blocks: 2, distortion: Distortion::Diagonal, coding: Coding::Depths, ..CurveSettings::default() };
        assert_eq!(choice.with(Some(Distortion::Diagonal)), all);
    }

    #[test]
    fn errors_are_fed_back_with_calibration_alone_entropy_coded_and_matched() {
        let choice = CurveChoice { coding: Coding::Depths, method: Method::Feedback, ..CurveChoice::default() };
        assert_eq!(choice.with(None), CurveChoice { method: Method::Transform, ..choice }.with(None));
        let fed_back = choice.with(Some(Distortion::Diagonal));
        let wanted = CurveSettings {
            distortion: Distortion::Diagonal,
            coding: Coding::Entropy,
            method: Method::Feedback,
            matching: true,
            ..CurveSettings::default()
        };
        assert_eq!(fed_back, wanted);
    }
}
