//! Calibration: from images to curves that say what errors cost in the network's output.

use std::sync::Arc;

use leptos::prelude::*;

use super::{accuracy::same_inputs, format, jobs::Job, state::App, term::Term};
use crate::{
    report::{
        CalibrationSettings, CalibrationSummary, Coding, Distortion, Method, Preprocessing, TransformChoice, recipe::RecipeCalibration,
    },
    worker::messages::DataUse,
};

/// How to calibrate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// How images become inputs; none: as the engine guesses.
    pub preprocessing: Option<Preprocessing>,
    /// How statistics are sampled.
    pub settings: CalibrationSettings,
    /// What an error costs.
    pub distortion: Distortion,
}

/// A calibration, and what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// What it found.
    pub summary: CalibrationSummary,
    /// How it was asked for.
    pub wish: Wish,
    /// Version of the images.
    pub images: u32,
}

impl Made {
    /// What asks for the same again, whatever the engine would guess now.
    pub(super) fn again(&self) -> (Wish, u32) {
        (Wish { preprocessing: Some(self.summary.preprocessing.clone()), ..self.wish.clone() }, self.images)
    }
    /// What has changed since: a clause, or nothing when it still holds.
    fn outdated(&self, wish: &Wish, images: u32) -> Option<&'static str> {
        let same = match &wish.preprocessing {
            Some(now) => same_inputs(&self.summary.preprocessing, now),
            // As guessed: by the engine, for these images.
            None => self.summary.preprocessing.origin != Preprocessing::EDITED,
        };
        match () {
            _ if self.images != images => Some("the images have changed"),
            _ if !same => Some("the preprocessing has changed"),
            _ if (self.wish.settings, self.wish.distortion) != (wish.settings, wish.distortion) => Some("its settings have changed"),
            _ => None,
        }
    }
}

/// Signals of the calibration.
#[derive(Clone, Copy)]
pub struct Calibration {
    /// What the curves are calibrated on.
    pub made: RwSignal<Option<Arc<Made>>>,
    /// Most images to run, random directions for each, and their seed, as typed.
    numbers: [RwSignal<String>; 3],
    /// What an error shall cost.
    distortion: RwSignal<Distortion>,
    /// Why the last calibration failed.
    pub error: RwSignal<Option<String>>,
}

impl Calibration {
    /// Nothing is calibrated.
    pub fn new() -> Calibration {
        Calibration {
            made: RwSignal::new(None),
            numbers: Number::ALL.map(|n| RwSignal::new(n.of(&CalibrationSettings::default()).to_string())),
            distortion: RwSignal::new(Distortion::default()),
            error: RwSignal::new(None),
        }
    }
}

impl Calibration {
    /// A number of the form, if it is one.
    fn number(&self, number: Number) -> Option<u64> {
        self.numbers[number as usize].with(|text| number.read(text))
    }
    /// Fills the form as a recipe has it.
    pub(super) fn prepare(&self, recipe: &RecipeCalibration) {
        let settings = recipe.settings();
        Number::ALL.into_iter().for_each(|n| self.numbers[n as usize].set(n.of(&settings).to_string()));
        self.distortion.set(recipe.distortion);
    }
    /// The first that is none.
    fn wrong(&self) -> Option<Number> {
        Number::ALL.into_iter().find(|&n| self.number(n).is_none())
    }
}

impl Default for Calibration {
    fn default() -> Self {
        Calibration::new()
    }
}

/// A number that statistics are sampled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Images,
    Draws,
    Seed,
}

impl Number {
    const ALL: [Number; 3] = [Number::Images, Number::Draws, Number::Seed];

    /// In hooks.
    fn key(self) -> &'static str {
        match self {
            Number::Images => "calibration-images",
            Number::Draws => "calibration-draws",
            Number::Seed => "calibration-seed",
        }
    }
    fn label(self) -> &'static str {
        match self {
            Number::Images => "Images at most",
            Number::Draws => "Draws per image",
            Number::Seed => "Seed",
        }
    }
    fn hint(self) -> &'static str {
        match self {
            Number::Images => "Evenly spaced among those there are.",
            Number::Draws => "Random directions of the output, for each image: more of them, and sensitivities are known better.",
            Number::Seed => "Of the random directions: the same seed gives the same file.",
        }
    }
    fn range(self) -> (u64, u64) {
        match self {
            Number::Images => (1, crate::limits::IMAGES as u64),
            // As many as the command line takes.
            Number::Draws => (1, u64::from(u16::MAX)),
            // What a number in the browser, and in JSON, holds exactly.
            Number::Seed => (0, (1 << 53) - 1),
        }
    }
    fn of(self, settings: &CalibrationSettings) -> u64 {
        match self {
            Number::Images => settings.images as u64,
            Number::Draws => settings.draws as u64,
            Number::Seed => settings.seed,
        }
    }
    /// What was typed.
    fn read(self, text: &str) -> Option<u64> {
        let (least, most) = self.range();
        text.trim().parse().ok().filter(|n| (least..=most).contains(n))
    }
    /// What it takes.
    fn wanted(self) -> String {
        let (least, most) = self.range();
        let name = match self {
            Number::Images => "number of images",
            Number::Draws => "number of draws per image",
            Number::Seed => "seed",
        };
        format!("The {name} is a whole number from {least} to {}.", format::grouped(most))
    }
}

/// What the panel says of itself.
#[derive(Debug, Clone, PartialEq)]
enum State {
    NoModel,
    Compressed,
    CannotRun(String),
    Mistake,
    WrongNumber(Number),
    /// Of these quantizers distortions are not measured.
    NotMeasured,
    Ready,
    Running,
    Forgetting,
    Failed(String),
    Done(Distortion),
    Outdated(&'static str),
}

impl State {
    fn key(&self) -> &'static str {
        match self {
            State::NoModel => "no-model",
            State::Compressed => "compressed",
            State::CannotRun(_) => "cannot-run",
            State::Mistake => "mistake",
            State::WrongNumber(_) => "wrong-number",
            State::NotMeasured => "not-measured",
            State::Ready => "ready",
            State::Running => "running",
            State::Forgetting => "forgetting",
            State::Failed(_) => "failed",
            State::Done(_) => "done",
            State::Outdated(_) => "outdated",
        }
    }
    fn words(&self) -> String {
        match self {
            State::NoModel => "Open a model to calibrate it on these images.".into(),
            State::Compressed => "A compressed file is not calibrated; open the original model.".into(),
            State::CannotRun(why) => format!("This network cannot be run, so it cannot be calibrated. {why}"),
            State::Mistake => super::accuracy::MISTAKE.into(),
            State::WrongNumber(number) => number.wanted(),
            State::NotMeasured => {
                "Distortions are measured for fixed depths: choose another distortion, or above, with the budget, another coding than entropy and no error feedback."
                    .into()
            }
            State::Ready => {
                "Not calibrated: an error counts alike in every layer. Calibrated, it counts as much as the output feels it.".into()
            }
            State::Running => "Calibrating…".into(),
            State::Forgetting => "Computing the curves without calibration…".into(),
            State::Failed(why) => format!("Not calibrated. {why}"),
            State::Done(Distortion::Diagonal) => {
                "Calibrated: distortion is that of the network's output, as if errors of weights did not depend on each other.".into()
            }
            State::Done(_) => "Calibrated: distortion is that of the network's output.".into(),
            State::Outdated(what) => format!("Out of date: {what} since. Calibrate again."),
        }
    }
    /// Whether the network can be calibrated now.
    fn can_run(&self) -> bool {
        matches!(self, State::Ready | State::Failed(_) | State::Done(_) | State::Outdated(_))
    }
}

impl App {
    /// Whether the curves are calibrated, or will be again.
    pub fn is_calibrated(&self) -> bool {
        self.accuracy.calibration.made.with(|m| m.is_some())
    }

    /// What the form asks for.
    fn wish(&self) -> Option<Wish> {
        let form = self.accuracy.calibration;
        let [images, draws, seed] = Number::ALL.map(|n| form.number(n));
        let settings = CalibrationSettings { images: usize::try_from(images?).ok()?, draws: usize::try_from(draws?).ok()?, seed: seed? };
        Some(Wish { preprocessing: self.accuracy.edited.get(), settings, distortion: form.distortion.get() })
    }

    /// Whether distortions are measured, or are being measured.
    pub(super) fn is_measuring(&self) -> bool {
        let measured = |wish: &Wish| wish.distortion == Distortion::Measured;
        // What runs is not in a signal of its own, but begins and ends with one.
        self.long_job.track();
        let runs = self.session.with_value(|s| s.calibrating.as_ref().is_some_and(|c| measured(&c.0)));
        runs | self.accuracy.calibration.made.with(|m| m.as_ref().is_some_and(|m| measured(&m.wish)))
    }

    /// Version of the calibration images.
    fn calibration_images(&self) -> u32 {
        self.accuracy.images(DataUse::Calibration).with(|i| i.version)
    }

    /// What an error costs, by the calibration that there is.
    pub(super) fn calibrated_by(&self) -> Option<Distortion> {
        self.accuracy.calibration.made.with(|m| m.as_ref().map(|m| m.wish.distortion))
    }

    /// Calibrates the open model.
    pub fn calibrate(self) {
        let Some(wish) = untrack(|| self.wish()) else { return };
        let images = untrack(|| self.calibration_images());
        self.session.update_value(|s| s.calibrating = Some((wish, images)));
        self.accuracy.calibration.error.set(None);
        self.ask(Job::Calibrate);
    }

    /// Forgets the calibration.
    pub fn forget_calibration(self) {
        self.accuracy.calibration.error.set(None);
        self.ask(Job::Forget);
    }

    /// Other images, or none: what was calibrated on those before is forgotten.
    pub(super) fn images_changed(self, usage: DataUse) {
        if usage == DataUse::Calibration && untrack(|| self.is_calibrated()) {
            if self.session.with_value(|s| s.holds_calibration) {
                self.forget_calibration();
            } else {
                self.uncalibrated();
            }
        }
    }

    /// The curves came with what they are calibrated on, if they are.
    pub(super) fn curves_are_of(self, summary: Option<CalibrationSummary>, seconds: f64) {
        let Some(summary) = summary else {
            let lost = self.uncalibrated().map(|t| format!(" The transform is auto: there is no {} without it.", t.name()));
            return self.said.set(format!("The calibration is forgotten.{}", lost.unwrap_or_default()));
        };
        // Curves that are computed again with other settings stay calibrated on the same.
        if let Some((wish, images)) = self.session.try_update_value(|s| s.calibrating.take()).flatten() {
            self.session.update_value(|s| s.holds_calibration = true);
            let run = format::count(summary.images, "image");
            self.said.set(format!("Calibrated on {run} in {}.", format::seconds(seconds)));
            self.accuracy.calibration.made.set(Some(Arc::new(Made { summary, wish, images })));
        }
    }

    /// There is no calibration any more. Returns the transform that went with it, if it was chosen.
    pub(super) fn uncalibrated(self) -> Option<TransformChoice> {
        self.session.update_value(|s| s.holds_calibration = false);
        self.accuracy.calibration.made.set(None);
        let chosen = self.settings.with_untracked(|s| s.transform);
        chosen.needs_calibration().then(|| {
            self.settings.update(|s| s.transform = TransformChoice::Auto);
            chosen
        })
    }
}

/// Button, settings, and what came of it.
#[component]
pub fn CalibrationPanel(app: App) -> impl IntoView {
    let (known, form) = (app.accuracy, app.accuracy.calibration);
    let has_images = Memo::new(move |_| known.images(DataUse::Calibration).with(|i| i.summary.is_some()));
    let calibrated = Memo::new(move |_| app.is_calibrated());
    let running = Memo::new(move |_| app.long_job_or_waiting().filter(|job| matches!(job, Job::Calibrate | Job::Forget)));
    let obstacle = move || match () {
        _ if app.model.with(|m| m.is_none()) => Some(State::NoModel),
        _ if app.is_tq() => Some(State::Compressed),
        _ if known.mistake.with(|m| m.is_some()) => Some(State::Mistake),
        // The engine said so of its own guess, not of what the user made of it.
        _ => form
            .wrong()
            .map(State::WrongNumber)
            .or_else(|| {
                let guessed = known.edited.with(|e| e.is_none());
                guessed.then(|| known.why_not(DataUse::Calibration)).flatten().map(State::CannotRun)
            })
            .or_else(|| {
                let entropy = app.settings.with(|s| s.curves.coding == Coding::Entropy || s.curves.method == Method::Feedback);
                (entropy && form.distortion.get() == Distortion::Measured).then_some(State::NotMeasured)
            }),
    };
    let state = Memo::new(move |_| {
        let result = || {
            let (made, wish) = (form.made.get()?, app.wish()?);
            let outdated = made.outdated(&wish, app.calibration_images());
            Some(outdated.map_or(State::Done(made.wish.distortion), State::Outdated))
        };
        match running.get() {
            Some(Job::Forget) => State::Forgetting,
            Some(_) => State::Running,
            None => obstacle().or_else(|| form.error.get().map(State::Failed)).or_else(result).unwrap_or(State::Ready),
        }
    });
    // Curves that follow a choice just made do not stand in the way: what is asked for waits for them.
    let busy = move || app.long_job.with(|job| job.is_some_and(|job| job != Job::Recompute));
    let chosen = move |name: String| {
        if let Some(distortion) = Distortion::ALL.into_iter().find(|d| d.name() == name) {
            form.distortion.set(distortion);
        }
    };
    let field = move |number: Number| {
        let (key, typed, (least, most)) = (number.key(), form.numbers[number as usize], number.range());
        let label = match number {
            Number::Draws => view! { <Term key="draws">{number.label()}</Term> }.into_any(),
            _ => number.label().into_any(),
        };
        view! {
            <div class="field">
                <label for=key>{label}</label>
                <input id=key data-testid=key type="number" inputmode="numeric" min=least.to_string() max=most.to_string() step="1"
                    title=number.hint() aria-describedby="calibration-state" prop:value=typed
                    aria-invalid=move || form.number(number).is_none().then_some("true")
                    on:input:target=move |e| typed.set(e.target().value())/>
            </div>
        }
    };
    let shown = move || has_images.get() || calibrated.get();
    view! {
        <Show when=shown>
            <div class="calibration" data-testid="calibration" data-state=move || state.get().key()>
                <div class="fields">
                    {Number::ALL.map(field).collect_view()}
                    <div class="field">
                        <label for="distortion-model"><Term key="output-distortion">"Distortion"</Term></label>
                        <select id="distortion-model" data-testid="distortion-model" on:change:target=move |e| chosen(e.target().value())>
                            {Distortion::ALL.map(|d| view! {
                                <option value=d.name() prop:selected=move || form.distortion.get() == d>{d.name()}</option>
                            }).collect_view()}
                        </select>
                    </div>
                </div>
                <div class="actions">
                    <button type="button" class="button" data-testid="calibrate" disabled=move || busy() || !has_images.get() || !state.get().can_run()
                        on:click=move |_| app.calibrate()>{move || if calibrated.get() { "Calibrate again" } else { "Calibrate" }}</button>
                    <Show when=move || calibrated.get()>
                        <button type="button" class="button" data-testid="calibrate-forget" disabled=busy on:click=move |_| app.forget_calibration()>
                            "Forget calibration"</button>
                    </Show>
                </div>
                <p id="calibration-state" class="state-line" role="status" data-testid="calibration-state">{move || state.get().words()}</p>
                {move || form.made.get().map(|made| view! { <Readout made/> })}
            </div>
        </Show>
    }
}

/// What calibration found: name, value.
fn facts(summary: &CalibrationSummary) -> Vec<(&'static str, String)> {
    let (run, all) = (summary.images, summary.data.images);
    let images =
        if run < all { format!("{} of {}", format::grouped(run as u64), format::grouped(all as u64)) } else { format::grouped(run as u64) };
    let each = if summary.images_per_sample > 1 { format!(", of {} images each", summary.images_per_sample) } else { String::new() };
    // Of one sample nobody knows.
    let error = summary.sampling_error;
    let error = if error.is_finite() { format!("{:.1} %", 100.0 * error) } else { "unknown".into() };
    let mut facts =
        vec![("Images", images), ("Samples", format!("{}{each}", format::grouped(summary.samples as u64))), ("Sampling error", error)];
    if summary.unreached > 0 {
        facts.push(("Not reached", format!("{}, which no output depends on", format::count(summary.unreached, "layer"))));
    }
    facts
}

#[component]
fn Readout(made: Arc<Made>) -> impl IntoView {
    let fact = |(name, value): (&'static str, String)| {
        let name = match name {
            "Sampling error" => view! { <Term key="sampling-error">{name}</Term> }.into_any(),
            _ => name.into_any(),
        };
        view! { <div><dt>{name}</dt><dd>{value}</dd></div> }
    };
    let error = made.summary.sampling_error.to_string();
    view! {
        <dl class="figures" data-testid="calibration-readout" data-samples=made.summary.samples.to_string() data-error=error aria-label="Calibration">
            {facts(&made.summary).into_iter().map(fact).collect_view()}
        </dl>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::calibration::tests::summary;

    fn made() -> Made {
        let wish = Wish { preprocessing: None, settings: CalibrationSettings::default(), distortion: Distortion::Model };
        Made { summary: summary(), wish, images: 3 }
    }

    #[test]
    fn a_calibration_holds_until_something_it_was_made_from_changes() {
        let made = made();
        let wish = made.wish.clone();
        assert_eq!(made.outdated(&wish, 3), None);
        assert_eq!(made.outdated(&wish, 4), Some("the images have changed"));
        let edited = Preprocessing { origin: Preprocessing::EDITED.into(), ..summary().preprocessing };
        assert_eq!(made.outdated(&Wish { preprocessing: Some(edited.clone()), ..wish.clone() }, 3), None, "numbers as they were guessed");
        let scaled = Preprocessing { scale: 1.0, ..edited };
        assert_eq!(made.outdated(&Wish { preprocessing: Some(scaled), ..wish.clone() }, 3), Some("the preprocessing has changed"));
        let fewer = CalibrationSettings { images: 20, ..wish.settings };
        assert_eq!(made.outdated(&Wish { settings: fewer, ..wish.clone() }, 3), Some("its settings have changed"));
        assert_eq!(made.outdated(&Wish { distortion: Distortion::Diagonal, ..wish }, 3), Some("its settings have changed"));
    }

    #[test]
    fn a_lost_calibration_is_asked_for_as_it_was_made() {
        let made = made();
        let (again, images) = made.again();
        assert_eq!((again.settings, again.preprocessing.as_ref()), (made.wish.settings, Some(&made.summary.preprocessing)));
        // The form still asks for what it asked for.
        let same = Made { wish: again, images, ..made.clone() };
        assert_eq!(same.outdated(&made.wish, 3), None);
    }

    #[test]
    fn numbers_are_whole_and_in_range() {
        let read = |texts: [&str; 2]| texts.map(|t| Number::Images.read(t));
        assert_eq!(read(["200", " 1 "]), [Some(200), Some(1)]);
        for number in Number::ALL {
            for text in ["", "-1", "1.5", "a", "99999999999999999999"] {
                assert_eq!(number.read(text), None, "{text}");
            }
            let default = number.of(&CalibrationSettings::default());
            assert_eq!(number.read(&default.to_string()), Some(default));
            assert!(number.wanted().ends_with('.') && number.hint().ends_with('.'));
        }
        assert_eq!((Number::Images.read("0"), Number::Draws.read("0"), Number::Seed.read("0")), (None, None, Some(0)));
        assert_eq!((Number::Draws.read("65536"), Number::Seed.read("9007199254740992")), (None, None));
    }

    #[test]
    fn what_was_found_is_in_words() {
        let mut found = summary();
        let values = |found: &CalibrationSummary| facts(found).into_iter().map(|f| f.1).collect::<Vec<_>>();
        assert_eq!(values(&found), ["200 of 600", "200", "7.1 %"]);
        (found.images, found.samples, found.images_per_sample, found.unreached) = (600, 20, 30, 1);
        assert_eq!(values(&found), ["600", "20, of 30 images each", "7.1 %", "1 layer, which no output depends on"]);
        (found.samples, found.sampling_error) = (1, f64::INFINITY);
        assert_eq!(values(&found)[2], "unknown");
    }

    #[test]
    fn every_state_is_a_sentence_and_says_whether_to_go_on() {
        let why = || "a.pth: it holds no graph; open the ONNX file.".to_string();
        for (state, can_run) in [
            (State::NoModel, false),
            (State::Compressed, false),
            (State::CannotRun(why()), false),
            (State::Mistake, false),
            (State::WrongNumber(Number::Draws), false),
            (State::NotMeasured, false),
            (State::Running, false),
            (State::Forgetting, false),
            (State::Ready, true),
            (State::Failed(why()), true),
            (State::Done(Distortion::Model), true),
            (State::Done(Distortion::Diagonal), true),
            (State::Outdated("the images have changed"), true),
        ] {
            assert_eq!(state.can_run(), can_run, "{state:?}");
            assert!(state.words().ends_with(['.', '…']), "{state:?}");
        }
    }
}
