//! Measured curves: distortion and accuracy of the compressed network against rate, for every transform, measured in the background.

use std::sync::Arc;

use leptos::{html, prelude::*, task::spawn_local};

use super::{
    accuracy::{Basis, Made, outdated},
    dom, evaluation, format,
    jobs::{Job, Sweeping},
    state::{App, Progress},
    status::{self, Track},
};
use crate::{
    report::{
        AllocationSettings, MeasuredCurves, Preprocessing, Quantity, SweepSettings,
        pictures::psnr_words,
        plot::{Palette, sweep::measured_svg},
        table,
    },
    worker::messages::DataUse,
};

/// Size of a panel of saved pictures, in pixels.
const PICTURE: (u32, u32) = (960, 540);

/// What measured curves were asked for by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// How images become inputs; none: as the engine guesses.
    pub(super) preprocessing: Option<Preprocessing>,
    /// Transforms and rates.
    pub(super) settings: SweepSettings,
    /// Which layers are locked or excluded.
    pub(super) allocation: AllocationSettings,
}

impl Default for Asked {
    fn default() -> Self {
        Asked { preprocessing: None, settings: SweepSettings::all(false), allocation: AllocationSettings::default() }
    }
}

/// Signals of the measured curves.
#[derive(Clone, Copy)]
pub struct Sweep {
    /// The points so far, and what they were made from.
    pub made: RwSignal<Option<Made<MeasuredCurves>>>,
    /// Layers that were locked or excluded for them.
    bounds: RwSignal<Option<AllocationSettings>>,
    /// Whether they are being measured.
    pub activity: RwSignal<Sweeping>,
    /// How far the engine is.
    pub progress: RwSignal<Option<Progress>>,
    /// Why it stopped.
    pub error: RwSignal<Option<String>>,
}

impl Sweep {
    /// Nothing was measured.
    pub fn new() -> Sweep {
        Sweep {
            made: RwSignal::new(None),
            bounds: RwSignal::new(None),
            activity: RwSignal::new(Sweeping::Not),
            progress: RwSignal::new(None),
            error: RwSignal::new(None),
        }
    }
    /// Another model.
    pub(super) fn forget(&self) {
        self.made.set(None);
        self.error.set(None);
        self.progress.set(None);
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep::new()
    }
}

/// What the figure says of itself. Numbers are points that there are, and that are wanted.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// They cannot be measured: why, and the key of that.
    Obstacle(&'static str, String),
    Ready,
    Running(usize, usize),
    Waiting(usize, usize),
    Stopped(usize, usize),
    Failed(String),
    Done(usize),
    Outdated(&'static str),
}

impl State {
    fn key(&self) -> &'static str {
        match self {
            State::Obstacle(key, _) => key,
            State::Ready => "ready",
            State::Running(..) => "running",
            State::Waiting(..) => "waiting",
            State::Stopped(..) => "stopped",
            State::Failed(_) => "failed",
            State::Done(_) => "done",
            State::Outdated(_) => "outdated",
        }
    }
    fn words(&self) -> String {
        let of = |done: usize, all: usize| format!("{done} of {}", format::count(all, "point"));
        match self {
            State::Obstacle(_, why) => why.clone(),
            State::Ready => {
                "Not measured yet. It takes a while, in the background: a coarse picture comes first, and it can be stopped at any time."
                    .into()
            }
            State::Running(done, all) => {
                format!("Measuring: {}. The budget stays live; other work goes first, and this goes on after it.", of(*done, *all))
            }
            State::Waiting(done, all) => format!("Waits for other work, then goes on: {}.", of(*done, *all)),
            State::Stopped(done, all) => format!("Stopped at {}. Go on, or keep what there is.", of(*done, *all)),
            State::Failed(why) => format!("Not measured to the end. {why}"),
            State::Done(all) => {
                format!("{} measured on the test images, each with the weights that its file holds.", format::count(*all, "point"))
            }
            State::Outdated(what) => format!("Out of date: {what} since. Measure again."),
        }
    }
}

impl App {
    /// Measures curves, or goes on with them.
    pub fn measure_curves(self) {
        let calibrated = untrack(|| self.is_calibrated());
        let allocation = untrack(|| self.bounds());
        let asked = Asked {
            preprocessing: self.accuracy.edited.get_untracked(),
            settings: SweepSettings::all(calibrated),
            allocation: allocation.clone(),
        };
        self.session.update_value(|s| s.sweeping = Some(asked));
        self.accuracy.sweep.bounds.set(Some(allocation));
        self.accuracy.sweep.error.set(None);
        self.accuracy.sweep.progress.set(None);
        self.said.set("Measuring curves in the background…".into());
        self.ask(Job::Sweep);
    }

    /// Stops measuring; what there is stays.
    pub fn stop_curves(self) {
        let number = self.session.try_update_value(|s| s.queue.cancel_sweep()).flatten();
        // What goes on in the engine until it hears of this is nobody's business.
        self.accuracy.sweep.activity.set(Sweeping::Not);
        self.said.set(format!("Cancelled. {} stay.", format::count(self.points(), "measured point")));
        if let Some(number) = number {
            self.end_background(number);
        }
    }

    fn points(&self) -> usize {
        self.accuracy.sweep.made.with_untracked(|m| m.as_ref().map_or(0, |m| m.result.points.len()))
    }

    /// Layers that are locked or excluded.
    fn bounds(&self) -> AllocationSettings {
        AllocationSettings {
            locks: self.locks.with(|l| l.iter().map(|(&i, &d)| (i, d)).collect()),
            excludes: self.excludes.with(|e| e.iter().copied().collect()),
            ..AllocationSettings::default()
        }
    }

    /// A point has come, with all before it.
    pub(super) fn measured(self, curves: MeasuredCurves) {
        let images = self.accuracy.images(DataUse::Test).with_untracked(|i| i.version);
        if curves.is_complete() {
            self.said.set(format!("The curves are measured: {}.", format::count(curves.points.len(), "point")));
        }
        let basis = Basis {
            allocation: None,
            coding: curves.curve_settings.coding,
            method: curves.curve_settings.method,
            preprocessing: Some(curves.preprocessing.clone()),
            images: (DataUse::Test, images),
        };
        self.accuracy.sweep.made.set(Some(Made { result: Arc::new(curves), basis }));
    }

    /// What has changed since the curves were measured: a clause.
    fn curves_outdated(&self) -> Option<&'static str> {
        let known = self.accuracy;
        known.sweep.made.with(|made| {
            let Made { result, basis } = made.as_ref()?;
            let now = Basis { allocation: None, ..self.basis(false) };
            let calibration = known.calibration.made.get();
            let summary = calibration.as_ref().map(|m| &m.summary);
            let distortion = calibration.as_ref().map(|m| m.wish.distortion);
            match () {
                _ if result.calibration.as_ref() != summary => Some("the calibration has changed"),
                _ if distortion.is_some_and(|d| d != result.curve_settings.distortion) => Some("the form of the distortion has changed"),
                _ if self.settings.with(|s| s.curves.blocks) != result.curve_settings.blocks => Some("the number of blocks has changed"),
                _ if known.sweep.bounds.with(|b| b.as_ref().is_some_and(|b| *b != self.bounds())) => {
                    Some("which layers are locked or kept has changed")
                }
                _ => outdated(basis, &now),
            }
        })
    }

    /// Saves what there is.
    fn save_curves(self, kind: &'static str) {
        let Some(curves) = self.accuracy.sweep.made.get_untracked().map(|m| m.result) else { return };
        let stem = curves.model.rsplit_once('.').map_or(curves.model.as_str(), |(stem, _)| stem);
        let name = format!("{stem}-measured.{kind}");
        let quantities = curves.drawn();
        let size = (PICTURE.0, PICTURE.1 * quantities.len().max(1) as u32);
        let svg = || measured_svg(&curves, &quantities, size, &Palette::LIGHT);
        match kind {
            "json" => {
                let json = serde_json::to_string_pretty(&*curves).map_err(|e| e.to_string());
                self.save(json.and_then(|j| dom::text_blob(&j, "application/json")), &name);
            }
            "csv" => self.save(dom::text_blob(&table::measured_csv(&curves), "text/csv"), &name),
            "png" => {
                let svg = svg();
                spawn_local(async move { self.save(dom::png_of(&svg, size).await, &name) });
            }
            _ => self.save(dom::text_blob(&svg(), "image/svg+xml"), &name),
        }
    }
}

impl App {
    /// Why curves cannot be measured.
    fn curves_obstacle(self) -> Option<State> {
        let has_model = self.model.with(|m| m.is_some());
        if has_model && self.is_tq() {
            return Some(State::Obstacle("compressed", "A compressed file has no curves; open the original model.".into()));
        }
        evaluation::obstacle(has_model, self.accuracy).map(|o| match o {
            evaluation::State::NoModel | evaluation::State::NoImages => {
                State::Obstacle(o.key(), "They need a model and test images.".into())
            }
            other => State::Obstacle(other.key(), other.words()),
        })
    }

    /// Points that there are, and that are wanted.
    fn curves_counts(self) -> Option<(usize, usize)> {
        self.accuracy.sweep.made.with(|m| m.as_ref().map(|m| (m.result.points.len(), m.result.wanted())))
    }

    /// How the measured curves are.
    fn curves_state(self) -> State {
        let sweep = self.accuracy.sweep;
        // Before the first point of this run has come, the points are those of the run before.
        let fresh = || self.curves_outdated().is_none();
        let running = || self.curves_counts().filter(|_| fresh()).unwrap_or((0, SweepSettings::all(self.is_calibrated()).points()));
        match sweep.activity.get() {
            Sweeping::Running => return State::Running(running().0, running().1),
            Sweeping::Waiting => return State::Waiting(running().0, running().1),
            Sweeping::Not => {}
        }
        match (sweep.error.get(), self.curves_counts()) {
            (Some(why), _) => State::Failed(why),
            (None, Some((done, all))) => match self.curves_outdated() {
                Some(what) => State::Outdated(what),
                None if done < all => State::Stopped(done, all),
                None => State::Done(all),
            },
            (None, None) => self.curves_obstacle().unwrap_or(State::Ready),
        }
    }
}

/// The panel.
#[component]
pub fn MeasuredPanel(app: App) -> impl IntoView {
    let sweep = app.accuracy.sweep;
    let save = move |kind: &'static str, words: &'static str| {
        view! {
            <button type="button" class="button small" data-testid=format!("measured-{kind}") disabled=move || app.curves_counts().is_none()
                aria-label=format!("Save the measured curves as {words}") on:click=move |_| app.save_curves(kind)>{words}</button>
        }
    };
    let shown = Memo::new(move |_| sweep.made.with(|m| m.as_ref().map(|m| m.result.drawn()).unwrap_or_default()));
    let state = Memo::new(move |_| app.curves_state());
    view! {
        <div class="measured" data-testid="measured-curves" data-state=move || state.get().key()
            data-points=move || app.curves_counts().map(|c| c.0.to_string()) aria-labelledby="measured-title" role="group">
            <div class="head">
                <h3 id="measured-title">"Measured curves"</h3>
                <div class="chart-buttons">{save("json", "JSON")}{save("csv", "CSV")}{save("svg", "SVG")}{save("png", "PNG")}</div>
            </div>
            <p class="hint">"Distortion and accuracy, or the PSNR of pictures, against rate, for every transform: each point is a file, decoded, and its network run on the test images."</p>
            <Measuring app state hook="measure-curves"/>
            <div class="figures-measured">
                {move || shown.get().into_iter().map(|quantity| view! { <Figure app quantity/> }).collect_view()}
            </div>
            <Values app/>
        </div>
    }
}

/// The curve of what counts, and what measures it: for the walk.
#[component]
pub fn AccuracyOverRate(app: App) -> impl IntoView {
    let state = Memo::new(move |_| app.curves_state());
    let shown = Memo::new(move |_| app.accuracy.sweep.made.with(|m| m.as_ref().and_then(|m| m.result.drawn().get(1).copied())));
    view! {
        <div class="measured" data-testid="walk-measured" data-state=move || state.get().key()>
            <Measuring app state hook="walk-curves"/>
            {move || shown.get().map(|quantity| view! { <Figure app quantity/> })}
        </div>
    }
}

/// Begins, goes on, stops; how far it is, and how it is.
#[component]
fn Measuring(app: App, state: Memo<State>, hook: &'static str) -> impl IntoView {
    let active = Memo::new(move |_| app.accuracy.sweep.activity.get() != Sweeping::Not);
    let can_run = move || !active.get() && app.curves_obstacle().is_none();
    let label = move || match state.get() {
        State::Stopped(..) => "Go on measuring",
        State::Done(_) | State::Outdated(_) => "Measure curves again",
        _ => "Measure curves",
    };
    view! {
        <div class="actions">
            <button type="button" class="button" data-testid=hook disabled=move || !can_run() on:click=move |_| app.measure_curves()>{label}</button>
            <Show when=move || active.get()>
                <button type="button" class="button" data-testid=format!("{hook}-cancel") on:click=move |_| app.stop_curves()>"Stop"</button>
            </Show>
        </div>
        <Show when=move || active.get()><SweepProgress app/></Show>
        <p class="state-line" role="status">{move || state.get().words()}</p>
    }
}

/// How far it is.
#[component]
fn SweepProgress(app: App) -> impl IntoView {
    let progress = app.accuracy.sweep.progress;
    let words = move || {
        progress.with(|p| {
            let p = p.as_ref()?;
            // How much of a fetch there is, it says; of measuring, the state's line counts the points.
            let Some(percent) = status::percent(p) else { return Some(status::words(p)) };
            let left = p.seconds_left.map(format::time_left)?;
            Some(format!("{percent} %, {left}"))
        })
    };
    view! {
        <div class="progress quiet">
            <Track percent=Signal::derive(move || progress.with(|p| p.as_ref().and_then(status::percent))) label="Measured curves"/>
            <p class="doing">{words}</p>
        </div>
    }
}

/// One quantity against rate.
#[component]
fn Figure(app: App, quantity: Quantity) -> impl IntoView {
    let host: NodeRef<html::Div> = NodeRef::new();
    let size = dom::size_of(host);
    let made = app.accuracy.sweep.made;
    let drawing = Memo::new(move |_| {
        let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
        let curves = made.get()?.result;
        (size.get().0 > 0).then(|| measured_svg(&curves, &[quantity], size.get(), &palette.transparent()))
    });
    let words = move || {
        made.with(|m| {
            let lines = m.as_ref().map(|m| m.result.lines()).unwrap_or_default();
            let names: Vec<_> =
                lines.iter().map(|(t, points)| format!("{} ({})", t.name(), format::count(points.len(), "point"))).collect();
            format!("{} over rate in bits per weight, measured: {}.", format::title(quantity.name()), names.join(", "))
        })
    };
    view! {
        <div class="plot measured-plot" node_ref=host data-testid=format!("measured-plot-{}", if quantity == Quantity::Distortion { "distortion" } else { "accuracy" })>
            <div class="drawing" role="img" inner_html=move || drawing.get().unwrap_or_default() aria-label=words></div>
        </div>
    }
}

/// The values, for those who do not see the figures, and for copying.
#[component]
fn Values(app: App) -> impl IntoView {
    let (open, set_open) = signal(false);
    let made = app.accuracy.sweep.made;
    let table = move |curves: Arc<MeasuredCurves>| {
        let there = curves.quantities();
        let predicted = curves.calibration.is_some();
        let rows = curves.lines().into_iter().flat_map(|(transform, points)| points.into_iter().map(move |p| (transform, p)));
        let rows: Vec<_> = rows
            .map(|(transform, p)| {
                let cell = |q: Quantity| match (q, q.of(&p)) {
                    (Quantity::Distortion, None) => "exact".to_string(),
                    (Quantity::Distortion, Some(db)) => format::db(db),
                    (Quantity::Psnr, psnr) => psnr_words(psnr.unwrap_or(f64::INFINITY), 2),
                    (_, None) => "–".into(),
                    (_, Some(percent)) => format::percent(percent / 100.0),
                };
                let numbers = there.iter().map(|&q| view! { <td class="number">{cell(q)}</td> }).collect_view();
                view! {
                    <tr><th scope="row">{transform.name()}</th><td class="number">{format!("{:.2}", p.rate)}</td><td class="number">{format::grouped(p.bytes)}</td>
                        {numbers}{predicted.then(|| view! { <td class="number">{p.predicted_db.map_or_else(|| "–".to_string(), format::db)}</td> })}</tr>
                }
            })
            .collect();
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Values of the measured curves">
                <table aria-label="Measured curves">
                    <thead><tr><th scope="col">"transform"</th><th scope="col" class="number">"bits per weight"</th><th scope="col" class="number">"bytes"</th>
                        {there.iter().map(|q| view! { <th scope="col" class="number">{q.name()}</th> }).collect_view()}
                        {predicted.then(|| view! { <th scope="col" class="number">"predicted (dB)"</th> })}</tr></thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
        }
    };
    view! {
        <Show when=move || made.with(|m| m.is_some())>
            <details on:toggle:target=move |e| set_open.set(e.target().has_attribute("open"))>
                <summary data-testid="measured-values">"Values as a table"</summary>
                {move || open.get().then(|| made.get().map(|m| table(m.result)))}
            </details>
        </Show>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_a_sentence() {
        for state in [
            State::Obstacle("no-images", "They need a model and test images.".into()),
            State::Ready,
            State::Running(3, 48),
            State::Waiting(3, 48),
            State::Stopped(1, 48),
            State::Failed("a.onnx: no; yes.".into()),
            State::Done(48),
            State::Outdated("the calibration has changed"),
        ] {
            assert!(state.words().ends_with('.'), "{state:?}");
        }
    }
}
