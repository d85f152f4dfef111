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
    let busy = Memo::new(move |_| app.long_job.with(|j| j.is_some()));
    let percent = move || app.progress.with(|p| p.as_ref().map(|p| (p.fraction.clamp(0.0, 1.0) * 100.0).round()));
    view! {
        <section class="status" aria-label="Status">
            <div class="line" data-kind=kind>
                <span class="state" data-testid="status" role=move || failed().then_some("alert")>
                    {move || app.phase.with(|p| p.words())}
                </span>
                <span class="said" aria-live="polite">{app.said}</span>
            </div>
            <Show when=move || busy.get()>
                <div class="progress">
                    <div class="track" class:unknown=move || percent().is_none() role="progressbar" aria-label="Progress"
                        aria-valuemin="0" aria-valuemax="100" aria-valuenow=move || percent().map(|p| p.to_string())>
                        <div class="fill" style:width=move || format!("{}%", percent().unwrap_or(0.0))></div>
                    </div>
                    <p class="doing">{move || app.progress.with(|p| p.as_ref().map(words))}</p>
                    <button type="button" class="button" data-testid="cancel" on:click=move |_| app.cancel()>"Cancel"</button>
                </div>
            </Show>
        </section>
    }
}

fn words(p: &Progress) -> String {
    let mut words = match p.total {
        0 => p.stage.clone(),
        total => format!("{}: layer {} of {total}", p.stage, p.done),
    };
    if !p.layer.is_empty() {
        words += &format!(" · {}", p.layer);
    }
    if let Some(left) = p.seconds_left {
        words += &format!(" · {}", format::time_left(left));
    }
    words
}
