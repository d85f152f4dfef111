//! The page. It draws and listens; the engine computes ([`crate::worker::messages`]).
//!
//! [`state`] holds the signals and the conversation with the engine, [`jobs`] decides which job is next, the other modules
//! are one part of the page each.

use leptos::{html, prelude::*};

pub mod accuracy;
pub mod address;
pub mod allocation;
pub mod batch;
pub mod budget;
pub mod calibration;
pub mod check;
pub mod choices;
pub mod clock;
pub mod compare;
pub mod curve;
pub mod damage;
pub mod data_input;
pub mod dom;
pub mod downloads;
pub mod drop;
pub mod engine;
pub mod evaluation;
pub mod figures;
pub mod files;
pub mod format;
pub mod geometry;
pub mod glossary;
pub mod history;
pub mod jobs;
pub mod learn;
pub mod link;
pub mod pace;
pub mod parts;
pub mod pictures;
pub mod preprocessing;
pub mod promise;
pub mod query;
pub mod recipe;
pub mod redraw;
pub mod samples;
pub mod session;
pub mod shown;
pub mod state;
pub mod status;
pub mod summary;
pub mod sweep;
pub mod table;
pub mod term;

/// Puts the page into the document.
pub fn mount() {
    leptos::mount::mount_to_body(Page);
}

/// The whole page.
#[component]
pub fn Page() -> impl IntoView {
    let app = state::App::new();
    let (shown, walk, tips) = (shown::Shown::of_address(), learn::Walk::of_address(), term::Tips::provide());
    let open = move || app.model.with(|m| m.is_some());
    // The panels are made once; which model they show is in the signals.
    let opened = Memo::new(move |_| open());
    let main: NodeRef<html::Main> = NodeRef::new();
    app.rest_out_of_sight(main);
    view! {
        <a class="skip" href="#main" on:click=address::skip>"Skip to the model"</a>
        <header class="top">
            <div class="brand">
                <img class="mark" src="icon.svg" alt="" width="44" height="44"/>
                <div>
                    <h1>"Waterfill"</h1>
                    <p data-part="words">"Makes neural networks smaller: every layer gets just as many bits as it is worth."</p>
                </div>
            </div>
            <learn::LearnButton walk/>
            <p class="private" data-part="words">
                <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4.5 7V5a3.5 3.5 0 0 1 7 0v2h.5a1 1 0 0 1 1 1v5a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V8a1 1 0 0 1 1-1zm1.5 0h4V5a2 2 0 0 0-4 0z"/></svg>
                "Nothing leaves this machine"
            </p>
        </header>
        <main id="main" tabindex="-1" class:empty=move || !opened.get() node_ref=main>
            <shown::Notice shown/>
            <learn::WalkPanel app walk/>
            <drop::Drop app/>
            <status::Status app/>
            <batch::BatchPanel app/>
            <Show when=move || opened.get() fallback=Steps>
                <div class="work">
                    <curve::Curve app/>
                    <div class="side">
                        <budget::BudgetPanel app/>
                        <summary::Summary app/>
                    </div>
                </div>
                <compare::ComparePanel app/>
                <allocation::Allocation app/>
            </Show>
            <evaluation::EvaluationPanel app/>
            <Show when=move || opened.get()>
                <figures::FiguresPanel app/>
            </Show>
            <geometry::GeometryPanel app/>
            <Show when=move || opened.get()>
                <table::LayerTable app/>
                <downloads::Downloads app/>
            </Show>
            <term::Glossary/>
        </main>
        <footer data-part="footer">
            <p data-testid="engine-info">{move || app.engine.with(|e| e.words())}</p>
            <p>"Your files are read, compressed and decoded in this browser tab. The page makes no request to anywhere else, and works offline once its engine has run."</p>
        </footer>
        <shown::Parts shown/>
        <term::Tip tips/>
    }
}

/// What happens next, in words, while there is no model.
#[component]
fn Steps() -> impl IntoView {
    view! {
        <ol class="steps">
            <li><h2>"Open"</h2><p>"A model as ONNX, safetensors, PyTorch checkpoint or NumPy archive. It is read on this machine, tensor by tensor."</p></li>
            <li><h2>"Choose"</h2><p>"See what every bit buys: drag the budget along the rate–distortion curve, and watch the bits move between layers."</p></li>
            <li><h2>"Keep"</h2><p>"Download the small file, or the same model with its new weights, in its own format, for any program that loads it."</p></li>
        </ol>
    }
}
