//! What the user takes away: files, report, pictures, and the command line that does the same.

use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;

use super::{
    address::{CopyLink, TakenOver},
    dom,
    jobs::{Job, Then},
    recipe::RecipeButtons,
    state::App,
};
use crate::report::{
    Coding, DataSummary,
    plot::{Palette, allocation_svg, curve_svg},
};

/// Size of saved pictures, in pixels.
const PICTURE: (u32, u32) = (960, 540);

/// A chart that can be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// The curve.
    Curve,
    /// The bars.
    Allocation,
}

impl Chart {
    fn key(self) -> &'static str {
        match self {
            Chart::Curve => "curve",
            Chart::Allocation => "allocation",
        }
    }
    fn svg(self, app: App) -> Option<String> {
        let allocation = app.allocation.get_untracked()?;
        Some(match self {
            Chart::Curve => curve_svg(&*app.curves.get_untracked()?, Some((allocation.rate, allocation.db)), PICTURE, &Palette::LIGHT).0,
            Chart::Allocation => allocation_svg(&allocation, PICTURE, &Palette::LIGHT),
        })
    }
}

/// Saves a chart as SVG or PNG.
#[component]
pub fn ChartButtons(app: App, chart: Chart) -> impl IntoView {
    let absent = move || chart == Chart::Curve && app.curves.with(|c| c.is_none());
    let name = move |kind: &str| {
        let model = app.model.with_untracked(|m| m.as_ref().map_or(String::new(), |m| m.name.clone()));
        let stem = model.rsplit_once('.').map_or(model.as_str(), |(stem, _)| stem);
        format!("{stem}-{}.{kind}", chart.key())
    };
    let svg = move |_| {
        if let Some(svg) = chart.svg(app) {
            app.save(dom::text_blob(&svg, "image/svg+xml"), &name("svg"));
        }
    };
    let png = move |_| {
        if let Some(svg) = chart.svg(app) {
            spawn_local(async move { app.save(dom::png_of(&svg, PICTURE).await, &name("png")) });
        }
    };
    let label = move |kind: &str| format!("Save the {} as {kind}", if chart == Chart::Curve { "curve" } else { "bars" });
    view! {
        <div class="chart-buttons">
            <button type="button" class="button small" data-testid=format!("{}-svg", chart.key()) aria-label=label("SVG") disabled=absent on:click=svg>"SVG"</button>
            <button type="button" class="button small" data-testid=format!("{}-png", chart.key()) aria-label=label("PNG") disabled=absent on:click=png>"PNG"</button>
        </div>
    }
}

/// How large the file will be, where what is shown is predicted for a coding.
fn how_large(predicted: Option<Coding>) -> &'static str {
    match predicted {
        None | Some(Coding::Fixed) => "Exactly as large as shown.",
        Some(Coding::Depths) => "Smaller than shown; its size is known once it is encoded.",
        Some(Coding::Entropy) => "Within the budget; its size is known once it is encoded.",
    }
}

/// What a download holds that is asked for while a job runs, and what becomes of the job.
fn meanwhile(job: Job) -> Option<&'static str> {
    match job {
        Job::Calibrate => {
            Some("As shown now, without the calibration that runs: it gives way to the download, and goes on from its samples.")
        }
        Job::Evaluate { .. } => Some("As shown now. The evaluation gives way to the download, and begins again after it."),
        Job::Recompute | Job::Forget => Some("As shown now, by the curves that there are: the new ones are computed after the download."),
        Job::OpenData(_) => Some("As shown now, once the images are read."),
        Job::Open | Job::Reopen => Some("Once the model is open."),
        _ => None,
    }
}

/// Saves the compressed file.
#[component]
pub fn SaveTq(app: App, hook: &'static str, words: &'static str) -> impl IntoView {
    let not_now = move || app.saves_nothing() || app.is_tq();
    view! {
        <button type="button" class="button primary" data-testid=hook disabled=not_now on:click=move |_| app.encode(Then::SaveTq)>{words}</button>
    }
}

impl App {
    /// Whether what runs now lets no file be asked for.
    fn saves_nothing(self) -> bool {
        self.long_job.with(|j| j.is_some_and(|job| !job.lets_save()))
    }
}

/// The downloads.
#[component]
pub fn Downloads(app: App) -> impl IntoView {
    let busy = move || app.saves_nothing();
    let meanwhile = move || app.long_job.get().and_then(meanwhile).filter(|_| !app.is_tq());
    let not_now = move || busy() || app.is_tq();
    let shown: NodeRef<html::Code> = NodeRef::new();
    let (copied, set_copied) = signal(None::<bool>);
    Effect::new(move |_| {
        app.command.track();
        set_copied.set(None);
    });
    let several = move || app.accuracy.calibration.made.with(|made| made.as_ref().is_some_and(|made| made.summary.data.several));
    let copy = move |_| {
        let command = app.command.get_untracked();
        let element = shown.get_untracked().and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok());
        spawn_local(async move { set_copied.set(Some(dom::copy(&command, element).await)) });
    };
    view! {
        <section class="card downloads" data-part="downloads" aria-labelledby="downloads-title">
            <h2 id="downloads-title">"Take it with you"</h2>
            <div class="buttons">
                <div>
                    <SaveTq app hook="download-tq" words="Compressed file (.tq)"/>
                    <p data-testid="download-holds">
                        {move || if app.is_tq() { "This file is already compressed." } else { meanwhile().unwrap_or_else(|| how_large(app.predicted_for())) }}</p>
                    <p>"Open it here, or with "<code>"waterfill decompress"</code>", to have the model back."</p>
                </div>
                <div>
                    <button type="button" class="button" data-testid="download-model" disabled=busy on:click=move |_| app.reconstruct()>
                        "Decoded model"</button>
                    <p>"The format it came in, with its new weights."</p>
                </div>
                <div>
                    <span class="twins">
                        <button type="button" class="button" data-testid="download-report" disabled=not_now on:click=move |_| app.encode(Then::SaveJson)>
                            "Report (JSON)"</button>
                        <button type="button" class="button" data-testid="download-report-csv" disabled=not_now on:click=move |_| app.encode(Then::SaveCsv)>
                            "Report (CSV)"</button>
                    </span>
                    <p>"Errors measured on the decoded weights."</p>
                </div>
            </div>
            <div class="elsewhere">
                <h3>"The same settings at another time or place"</h3>
                <div class="buttons"><RecipeButtons app/><CopyLink app/></div>
                <TakenOver app/>
                <p class="hint">"A recipe and a link hold settings, and layers that are locked or excluded, by name: never weights or images. A recipe also says how it was calibrated, and is for the command line, too. Drop one on the page to load it."</p>
            </div>
            <div class="command">
                <h3 id="command-title">"The same on the command line"</h3>
                <div class="row">
                    <code node_ref=shown tabindex="0" aria-labelledby="command-title" role="textbox" aria-readonly="true">{app.command}</code>
                    <button type="button" class="button" data-testid="copy-command" on:click=copy>
                        {move || if copied.get() == Some(true) { "Copied" } else { "Copy" }}</button>
                </div>
                <Show when=move || several()>
                    <p class="hint" data-testid="command-folder">
                        <code>{DataSummary::FOLDER}</code>" stands for a folder that holds your calibration images and nothing else: a browser does not tell where files are."</p>
                </Show>
                <p class="hint" role="status">
                    {move || match copied.get() {
                        Some(true) => "Copied to the clipboard.",
                        Some(false) => "The browser denies the clipboard; the command is selected: press Ctrl+C (on a Mac, ⌘C).",
                        None => "",
                    }}
                </p>
            </div>
        </section>
    }
}
