//! What came of it: sizes before and after, ratio, rate, distortion, and what the user should know.

use leptos::prelude::*;

use super::{check::CheckReadout, downloads::SaveTq, format, state::App, term::Term};
use crate::report::{AllocationReport, Coding};

/// What a size is that is not yet that of the file.
fn predicted(coding: Option<Coding>) -> &'static str {
    match coding {
        None | Some(Coding::Fixed) => "",
        Some(Coding::Depths) => "Size and rate are those before entropy coding, which makes them smaller. ",
        Some(Coding::Entropy) => "Size and rate are predicted until the file is encoded. ",
    }
}

/// The result in numbers.
#[component]
pub fn Summary(app: App) -> impl IntoView {
    let with = move |f: fn(&AllocationReport) -> String| app.allocation.with(|a| a.as_ref().map(|a| f(a)));
    let before = move || app.model.with(|m| m.as_ref().map(|m| m.bytes));
    let part = move || app.allocation.with(|a| a.as_ref().map(|a| if a.ratio > 0.0 { (100.0 / a.ratio).min(100.0) } else { 100.0 }));
    let notes = move || app.model.with(|m| m.as_ref().map(|m| m.notes.clone())).unwrap_or_default();
    view! {
        <section class="card result" data-part="summary" aria-labelledby="result-title">
            <h2 id="result-title">"Result"</h2>
            <p class="ratio"><strong>{move || with(|a| format!("{}×", format::plain(a.ratio, if a.ratio < 100.0 { 1 } else { 0 })))}</strong>" "<Term key="compression-ratio">"smaller"</Term></p>
            <div class="gauge" aria-hidden="true"><div style:width=move || format!("{}%", part().unwrap_or(100.0))></div></div>
            // Here, too: who has come for a smaller file alone need not look further.
            <Show when=move || !app.is_tq()><SaveTq app hook="save-smaller" words="Download the compressed file"/></Show>
            <dl>
                <div><dt>"Before"</dt><dd>{move || before().map(format::bytes)}</dd></div>
                <div><dt>"After"</dt>
                    <dd class="main" data-testid="size-readout" data-bytes=move || with(|a| a.bytes.to_string())><span class="now">{move || with(|a| format::bytes(a.bytes))}</span></dd></div>
                <div><dt><Term key="rate">"Rate"</Term></dt>
                    <dd data-testid="rate-readout" data-rate=move || with(|a| a.rate.to_string())>
                        <span class="now">{move || with(|a| format!("{:.2} bits per weight", a.rate))}</span></dd></div>
                <div><dt><Term key="distortion">{move || with(|a| format::title(format::distortion(a.measure)))}</Term></dt>
                    <dd data-testid="distortion-readout" data-db=move || with(|a| a.db.to_string())
                        data-measure=move || with(|a| format::distortion(a.measure).into())><span class="now">{move || with(|a| format::db(a.db))}</span></dd></div>
                {move || app.allocation.with(|a| a.as_ref().and_then(|a| a.gap)).map(|gap| view! {
                    <div><dt>{if gap < 0.0 { "Below the " } else { "Above the " }}<Term key="limit">"limit"</Term></dt>
                        <dd data-testid="gap-readout" data-gap=gap.to_string()>{format!("{:.2} bits per weight", gap.abs())}</dd></div>
                })}
                <div><dt>"Besides layers"</dt><dd>{move || with(|a| format::bytes(a.other_bytes))}</dd></div>
            </dl>
            <CheckReadout app/>
            <p class="fine">
                {move || predicted(app.predicted_for())}
                {move || with(|a| {
                    let measured = if a.measured { "Errors are measured on decoded weights. " } else { "" };
                    let limit = if a.gap.is_some() { " The limit is the rate that no coder comes below at this distortion, were weights Gaussian noise." } else { "" };
                    format!("{measured}Distortion is {}.{limit}", format::distortion_is(a.measure))
                })}
            </p>
            <ul class="notes">{move || notes().into_iter().map(|n| view! { <li>{n}</li> }).collect_view()}</ul>
        </section>
    }
}
