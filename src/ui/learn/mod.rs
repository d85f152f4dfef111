//! The guided walk: ten steps through the method, each with a figure that is alive, on the sample network. Its step is in the page's address.
//!
//! `steps` holds the texts, `exhibits` the figures, `plane` the one with axes to turn.

use leptos::{html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, KeyboardEvent};

use super::{
    clock, dom,
    glossary::PAPER,
    samples,
    state::App,
    term::{self, Term, Tips},
};

mod exhibits;
mod plane;
mod steps;

use steps::{Piece, STEPS, Step};

/// The parameter of the page's address.
const PARAMETER: &str = "learn";

/// Where the walk is. Copied freely.
#[derive(Clone, Copy)]
pub struct Walk {
    step: RwSignal<Option<usize>>,
    /// What had the focus when it began, to be given it back.
    before: StoredValue<Option<HtmlElement>, LocalStorage>,
    /// Whether the focus shall go to it: not when the address opens it.
    called: StoredValue<bool>,
    /// The answer chosen at each step.
    answers: RwSignal<[Option<usize>; STEPS.len()]>,
}

impl Walk {
    /// As the page's address says.
    pub fn of_address() -> Walk {
        let step = dom::parameter(PARAMETER).and_then(|value| steps::read(&value));
        Walk {
            step: RwSignal::new(step),
            before: StoredValue::new_local(None),
            called: StoredValue::new(false),
            answers: RwSignal::new([None; STEPS.len()]),
        }
    }

    /// Whether it is open.
    pub fn is_open(self) -> bool {
        self.step.with(|s| s.is_some())
    }

    /// Begins, or goes on where it was left.
    pub fn open(self) {
        let focused = document().active_element().and_then(|e: Element| e.dyn_into::<HtmlElement>().ok());
        self.before.set_value(focused);
        self.called.set_value(true);
        self.go(self.step.get_untracked().unwrap_or(0));
    }

    fn go(self, step: usize) {
        let step = step.min(STEPS.len() - 1);
        self.step.set(Some(step));
        dom::set_parameter(PARAMETER, Some(&(step + 1).to_string()));
    }

    fn close(self) {
        self.step.set(None);
        dom::set_parameter(PARAMETER, None);
        let button = || document().query_selector("[data-testid=learn]").ok().flatten().and_then(|e| e.dyn_into::<HtmlElement>().ok());
        if let Some(element) = self.before.try_update_value(|b| b.take()).flatten().filter(|e| e.is_connected()).or_else(button) {
            let _ = element.focus();
        }
    }
}

/// The button in the page's header.
#[component]
pub fn LearnButton(walk: Walk) -> impl IntoView {
    let clicked = move |_| if walk.step.with_untracked(|s| s.is_some()) { walk.close() } else { walk.open() };
    view! {
        <button type="button" class="button" data-part="learn" data-testid="learn" aria-expanded=move || walk.is_open().to_string()
            on:click=clicked>"Learn"</button>
    }
}

/// The walk, where it is open.
#[component]
pub fn WalkPanel(app: App, walk: Walk) -> impl IntoView {
    let open = Memo::new(move |_| walk.is_open());
    // It is on the sample network, unless there is another.
    Effect::new(move |_| {
        if open.get() && untrack(|| app.model.with(|m| m.is_none())) && app.session.with_value(|s| s.opening.is_none()) {
            samples::open_that_of_the_walk(app);
        }
    });
    view! { <Show when=move || open.get()><Panel app walk/></Show> }
}

/// Whether an arrow key means something else to the element that has it.
fn takes_arrows(element: &Element) -> bool {
    matches!(element.tag_name().as_str(), "INPUT" | "SELECT" | "TEXTAREA")
        || element.get_attribute("role").is_some_and(|r| r == "slider" || r == "textbox")
}

#[component]
fn Panel(app: App, walk: Walk) -> impl IntoView {
    let tips = expect_context::<Tips>();
    let heading: NodeRef<html::H2> = NodeRef::new();
    let index = Memo::new(move |_| walk.step.get().unwrap_or(0));
    let last = STEPS.len() - 1;
    // Once it is there.
    Effect::new(move |_| {
        if let Some(heading) = heading.get()
            && walk.called.try_update_value(std::mem::take) == Some(true)
        {
            clock::next_frame(move || dom::go_to(&heading));
        }
    });
    let key = move |e: KeyboardEvent| {
        if e.default_prevented() || e.ctrl_key() || e.alt_key() || e.meta_key() {
            return;
        }
        let on = e.target().and_then(|t| t.dyn_into::<Element>().ok());
        let arrows = !on.as_ref().is_some_and(takes_arrows);
        match e.key().as_str() {
            "ArrowRight" if arrows && index.get_untracked() < last => walk.go(index.get_untracked() + 1),
            "ArrowLeft" if arrows && index.get_untracked() > 0 => walk.go(index.get_untracked() - 1),
            // First what lies on top.
            "Escape" if !tips.dismiss() => walk.close(),
            "Escape" => {}
            _ => return,
        }
        e.prevent_default();
        e.stop_propagation();
    };
    let next = move |_| if index.get_untracked() == last { walk.close() } else { walk.go(index.get_untracked() + 1) };
    let previous = move |_| {
        if index.get_untracked() > 0 {
            walk.go(index.get_untracked() - 1);
        }
    };
    let number = move |i: usize| {
        let here = move || index.get() == i;
        view! {
            <li><button type="button" aria-label=format!("Step {}: {}", i + 1, STEPS[i].title) aria-current=move || here().then_some("step")
                class:past=move || { index.get() > i } on:click=move |_| walk.go(i)>{i + 1}</button></li>
        }
    };
    view! {
        <section class="card walk" data-part="learn" data-testid="walk" aria-labelledby="walk-title" on:keydown=key data-step=move || (index.get() + 1).to_string()>
            <div class="head">
                <p class="progress-words" role="status" data-testid="walk-progress">
                    {move || format!("Step {} of {}", index.get() + 1, STEPS.len())}<span class="unseen">{move || format!(": {}", STEPS[index.get()].title)}</span>
                </p>
                <button type="button" class="remove" aria-label="Close the walk" title="Close the walk (Escape)" data-testid="walk-close" on:click=move |_| walk.close()>
                    <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8"/></svg>
                </button>
            </div>
            <h2 id="walk-title" tabindex="-1" node_ref=heading>{move || STEPS[index.get()].title}</h2>
            {move || {
                let step = &STEPS[index.get()];
                view! { <StepView app walk step index=index.get_untracked()/> }
            }}
            <div class="walk-foot">
                <nav aria-label="Steps of the walk"><ol>{(0..STEPS.len()).map(number).collect_view()}</ol></nav>
                <div class="actions">
                    <button type="button" class="button" data-testid="walk-previous" aria-disabled=move || (index.get() == 0).then_some("true")
                        on:click=previous>"Previous"</button>
                    <button type="button" class="button primary" data-testid="walk-next" on:click=next>
                        {move || if index.get() == last { "Finish" } else { "Next" }}</button>
                </div>
            </div>
        </section>
    }
}

/// A text with its terms.
fn rich(text: &'static str) -> impl IntoView {
    let piece = |piece| match piece {
        Piece::Words(words) => words.into_any(),
        Piece::Term(key, words) => view! { <Term key=key>{words}</Term> }.into_any(),
    };
    steps::pieces(text).into_iter().map(piece).collect_view()
}

/// Words, figure and question of one step.
#[component]
fn StepView(app: App, walk: Walk, step: &'static Step, index: usize) -> impl IntoView {
    let source = match step.paper {
        Some(place) => view! { <p class="fine">"In "<a href=PAPER target="_blank" rel="noopener noreferrer">"the paper"</a>{format!(": {place}.")}</p> }.into_any(),
        None => view! {
            <p class="fine">"Not in "<a href=PAPER target="_blank" rel="noopener noreferrer">"the paper"</a>"."</p>
        }
        .into_any(),
    };
    view! {
        <div class="walk-step">
            <div class="walk-words">
                <p>{rich(step.words)}</p>
                {source}
                <Question walk step index/>
            </div>
            <div class="exhibit" data-testid="exhibit">{exhibits::exhibit(app, step.exhibit)}</div>
        </div>
    }
}

/// A question, and what is said of each answer.
#[component]
fn Question(walk: Walk, step: &'static Step, index: usize) -> impl IntoView {
    let chosen = Memo::new(move |_| walk.answers.with(|a| a[index]));
    let choice = move |i: usize| {
        let (words, right, _) = step.choices[i];
        let state = move || (chosen.get() == Some(i)).then_some(if right { "right" } else { "wrong" });
        view! {
            <button type="button" class="button choice" aria-pressed=move || (chosen.get() == Some(i)).to_string() data-state=state
                on:click=move |_| walk.answers.update(|a| a[index] = Some(i))>{words}</button>
        }
    };
    let feedback = move || {
        let (_, right, why) = step.choices[chosen.get()?];
        Some(format!("{} {why}", if right { "Right." } else { "Not quite." }))
    };
    view! {
        <div class="question" role="group" aria-labelledby="walk-question" data-testid="walk-question">
            <p id="walk-question"><strong>{step.question}</strong></p>
            <div class="choices">{(0..step.choices.len()).map(choice).collect_view()}</div>
            <p class="feedback" role="status" data-testid="walk-feedback">{feedback}</p>
        </div>
    }
}

/// A link to the glossary's list, for the end of the walk.
#[component]
fn ToGlossary() -> impl IntoView {
    view! { <button type="button" class="button" data-testid="to-glossary" on:click=move |_| term::open_glossary()>"All terms: the glossary"</button> }
}
