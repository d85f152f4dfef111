//! What the page is doing, in one word and one sentence, and how far it is.

use leptos::prelude::*;

use super::{
    format,
    state::{App, Phase, Progress},
};

/// Status, progress and cancel.
#[component]
pub fn Status(app: App) -> impl IntoView {
    let failed = move || app.phase.with(|p| matches!(p, Phase::Failed(_)));
    let kind = move || {
        app.phase.with(|p| match p {
            Phase::Idle => "idle",
            Phase::Loading | Phase::Working => "busy",
            Phase::Ready => "ready",
            Phase::Failed(_) => "failed",
        })
    };
    // What has to do with images shows its progress in their panel.
    let busy = Memo::new(move |_| app.long_job.with(|j| j.is_some_and(|job| !job.is_of_data())));
    view! {
        <section class="status" aria-label="Status">
            <div class="line" data-kind=kind>
                <span class="state" data-testid="status" role=move || failed().then_some("alert")>
                    {move || app.phase.with(|p| p.words())}
                </span>
                <span class="said" aria-live="polite">{app.said}</span>
            </div>
            <Show when=move || busy.get()><Doing app/></Show>
        </section>
    }
}

/// How far the long job is, and the button that cancels it.
#[component]
pub fn Doing(app: App) -> impl IntoView {
    view! {
        <div class="progress">
            <Track percent=Signal::derive(move || app.progress.with(|p| p.as_ref().and_then(percent))) label="Progress"/>
            <p class="doing">{move || app.progress.with(|p| p.as_ref().map(words))}</p>
            <button type="button" class="button" data-testid="cancel" on:click=move |_| app.cancel()>"Cancel"</button>
        </div>
    }
}

/// A progress bar; where the percentage is not known, it only moves.
#[component]
pub fn Track(percent: Signal<Option<f64>>, #[prop(into)] label: Signal<String>) -> impl IntoView {
    view! {
        <div class="track" class:unknown=move || percent.get().is_none() role="progressbar" aria-label=label
            aria-valuemin="0" aria-valuemax="100" aria-valuenow=move || percent.get().map(|p| p.to_string())>
            <div class="fill" style:width=move || format!("{}%", percent.get().unwrap_or(0.0))></div>
        </div>
    }
}

/// Nothing where it is not known of how much.
pub(super) fn percent(p: &Progress) -> Option<f64> {
    (p.total > 0).then(|| (p.fraction.clamp(0.0, 1.0) * 100.0).round())
}

/// What is done, of what, and how long it still takes.
pub(super) fn words(p: &Progress) -> String {
    let (stage, what) = match p.stage.as_str() {
        "running" => ("full precision", "batch"),
        "comparing" => ("compressed", "batch"),
        "pictures" => ("pictures", "picture"),
        "damage" => ("one layer at a time", "run"),
        "statistics" => ("statistics", "sample"),
        "fetching" => ("fetching the part of the engine that this needs", ""),
        other => (other, "layer"),
    };
    let mut words = match p.total {
        0 => stage.to_string(),
        total => format!("{stage}: {what} {} of {total}", p.done),
    };
    // Samples have no names, only numbers.
    if !p.layer.is_empty() && what != "sample" {
        words += &format!(" · {}", p.layer);
    }
    if let Some(left) = p.seconds_left {
        words += &format!(" · {}", format::time_left(left));
    }
    words
}
