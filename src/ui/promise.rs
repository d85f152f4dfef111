//! A promise as the budget: "lose at most so many points". The engine looks for the smallest file that keeps it; its rate becomes the budget.

use std::sync::Arc;

use leptos::prelude::*;

use super::{
    accuracy::{Basis, Made, outdated},
    evaluation, format,
    jobs::Job,
    state::App,
};
use crate::{
    report::{Budget, promise::Promise},
    worker::messages::DataUse,
};

/// Key of the unit that this is in the budget's selector.
pub const UNIT: &str = "lose";

/// Signals of the promise.
#[derive(Clone, Copy)]
pub struct Promises {
    /// Whether the budget is a promise.
    pub chosen: RwSignal<bool>,
    /// Most points that may be lost.
    pub asked: RwSignal<f64>,
    /// What is wrong with what is typed.
    mistake: RwSignal<Option<&'static str>>,
    /// What was tried, and what it was tried with.
    made: RwSignal<Option<Made<Promise>>>,
    /// Whether that is all that was to be tried: a search that was cancelled has not ended.
    ended: RwSignal<bool>,
    /// Why it ended without an answer.
    pub error: RwSignal<Option<String>>,
}

impl Promises {
    /// One point.
    pub fn new() -> Promises {
        Promises {
            chosen: RwSignal::new(false),
            asked: RwSignal::new(1.0),
            mistake: RwSignal::new(None),
            made: RwSignal::new(None),
            ended: RwSignal::new(false),
            error: RwSignal::new(None),
        }
    }
    /// Another model.
    pub(super) fn forget(&self) {
        self.made.set(None);
        self.ended.set(false);
        self.error.set(None);
    }
}

impl Default for Promises {
    fn default() -> Self {
        Promises::new()
    }
}

/// Points from text, or what is wrong with it.
fn points(text: &str) -> Result<f64, &'static str> {
    let v: f64 = text.trim().parse().map_err(|_| "Enter a number of percentage points.")?;
    if (0.0..=100.0).contains(&v) { Ok(v) } else { Err("Enter a number from 0 to 100.") }
}

/// What the panel says of itself.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// It cannot be looked for: why, and the key of that.
    Obstacle(&'static str, String),
    Ready,
    /// So many rates were tried.
    Running(usize),
    Failed(String),
    /// So many rates were tried when it was cancelled, and the smallest of them that kept the promise, in bits per weight.
    Cancelled(usize, Option<f64>),
    /// What was found, and whether it is a file.
    Done(bool, String),
    Outdated(&'static str),
}

impl State {
    fn key(&self) -> &'static str {
        match self {
            State::Obstacle(key, _) => key,
            State::Ready => "ready",
            State::Running(_) => "running",
            State::Failed(_) => "failed",
            State::Cancelled(..) => "cancelled",
            State::Done(true, _) => "done",
            State::Done(false, _) => "not-kept",
            State::Outdated(_) => "outdated",
        }
    }
    fn words(&self) -> String {
        match self {
            State::Obstacle(_, why) => why.clone(),
            State::Ready => "Ready to try up to 8 rates. Each try compresses the network, and runs it on the test images.".into(),
            State::Running(done) => format!("Trying rates: {done} of at most 8."),
            State::Failed(why) => format!("Not found. {why}"),
            State::Cancelled(tried, kept) => {
                let kept =
                    kept.map_or("none has kept the promise so far".into(), |bits| format!("{bits} bits per weight kept the promise"));
                format!("Cancelled after trying {}: {kept}. Find it again.", format::count(*tried, "rate"))
            }
            State::Done(_, words) => words.clone(),
            State::Outdated(what) => format!("Out of date: {what} since. Find it again."),
        }
    }
}

impl App {
    /// Looks for the smallest file that keeps the promise.
    pub fn find_promised(self) {
        self.accuracy.promise.forget();
        self.ask(Job::Promise);
    }

    fn promise_basis(&self) -> Basis {
        Basis { allocation: None, ..self.basis(false) }
    }

    /// A rate was tried, or all were: then the best of them is the budget.
    pub(super) fn promised(self, promise: Promise, done: bool) {
        let known = self.accuracy.promise;
        if done {
            self.said.set(promise.words());
        }
        known.ended.set(done);
        let found = promise.kept_by().filter(|_| done);
        known.made.set(Some(Made { result: Arc::new(promise), basis: untrack(|| self.promise_basis()) }));
        if let Some(found) = found {
            self.set(|s| s.budget = Budget::Bits(found.asked));
        }
    }
}

/// The number field.
#[component]
pub fn Points(app: App) -> impl IntoView {
    let known = app.accuracy.promise;
    let typed = move |text: String| match points(&text) {
        Ok(v) => {
            known.mistake.set(None);
            known.asked.set(v);
        }
        Err(why) => known.mistake.set(Some(why)),
    };
    view! {
        <input id="lose-number" data-testid="lose-number" type="number" inputmode="decimal" min="0" max="100" step="any"
            aria-label="Most points of accuracy that may be lost" aria-describedby="lose-state" prop:value=known.asked.get_untracked().to_string()
            aria-invalid=move || known.mistake.get().map(|_| "true") disabled=move || app.is_tq() on:input:target=move |e| typed(e.target().value())/>
    }
}

/// The button, what came of it, and what was tried.
#[component]
pub fn PromisePanel(app: App) -> impl IntoView {
    let known = app.accuracy.promise;
    let has_model = Memo::new(move |_| app.model.with(|m| m.is_some()));
    let obstacle = move || match known.mistake.get() {
        _ if app.is_tq() => Some(State::Obstacle("compressed", "This file is already compressed; open the original model.".into())),
        Some(why) => Some(State::Obstacle("mistake", why.into())),
        None => evaluation::obstacle(has_model.get(), app.accuracy).map(|o| {
            let words = match o {
                evaluation::State::NoImages => "Choose test images first (under Accuracy): the loss is measured on them.".into(),
                ref other => other.words(),
            };
            State::Obstacle(o.key(), words)
        }),
    };
    let running = Memo::new(move |_| app.long_job.get() == Some(Job::Promise));
    let state = Memo::new(move |_| {
        let tried = known.made.with(|m| m.as_ref().map_or(0, |m| m.result.tries.len()));
        if running.get() {
            return State::Running(tried);
        }
        if let Some(obstacle) = obstacle() {
            return obstacle;
        }
        let made = known.made.get().map(|m| (outdated(&m.basis, &app.promise_basis()), m.result));
        match (known.error.get(), made) {
            (Some(why), _) => State::Failed(why),
            (None, Some((Some(what), _))) => State::Outdated(what),
            (None, Some((None, found))) if found.lose != known.asked.get() => State::Outdated("the number of points has changed"),
            (None, Some((None, found))) if !known.ended.get() => State::Cancelled(found.tries.len(), found.kept_by().map(|t| t.asked)),
            (None, Some((None, found))) => State::Done(found.best.is_some(), found.words()),
            (None, None) => State::Ready,
        }
    });
    let busy = move || app.long_job.with(|job| job.is_some());
    let can = move || !busy() && obstacle().is_none();
    let labelled = move || app.accuracy.images(DataUse::Test).with(|i| i.summary.as_ref().map(|s| s.labelled));
    let measures = move || {
        Some(match labelled()? {
            true => "Top-1 accuracy by the labels of the test images, in percentage points.",
            false => "The test images have no labels: agreement with the full-precision network, in percentage points.",
        })
    };
    view! {
        <div class="promise beside" data-testid="lose" data-state=move || state.get().key()>
            <button type="button" class="button" data-testid="lose-find" disabled=move || !can() on:click=move |_| app.find_promised()>"Find the smallest"</button>
            <p class="hint">{measures}</p>
            <p class="state-line" id="lose-state" role="status">{move || state.get().words()}</p>
            {move || known.made.get().filter(|m| !m.result.tries.is_empty()).map(|m| view! { <Tries promise=m.result/> })}
        </div>
    }
}

/// What was tried, by falling rate.
#[component]
fn Tries(promise: Arc<Promise>) -> impl IntoView {
    let mut order: Vec<usize> = (0..promise.tries.len()).collect();
    order.sort_by(|&a, &b| promise.tries[b].asked.total_cmp(&promise.tries[a].asked));
    let rows = order.into_iter().map(|i| {
        let (t, best) = (promise.tries[i], promise.best == Some(i));
        let lost = promise.lost(t.has);
        let lost = if lost < -0.005 { format!("+{:.2}", -lost) } else if lost < 0.005 { "±0.00".into() } else { format!("\u{2212}{lost:.2}") };
        let kept = if best { "best" } else if t.keeps { "kept" } else { "broken" };
        view! {
            <tr class:best=best data-asked=t.asked.to_string() data-keeps=t.keeps.to_string()><th scope="row">{format::plain(t.asked, 3)}</th>
                <td class="number">{format::short_bytes(t.bytes)}</td><td class="number">{lost}</td><td>{kept}</td></tr>
        }
    });
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Rates that were tried">
            <table data-testid="lose-tries" aria-label="Rates that were tried">
                <thead><tr><th scope="col">"bits"</th><th scope="col" class="number">"size"</th><th scope="col" class="number">"points"</th><th scope="col">"promise"</th></tr></thead>
                <tbody>{rows.collect_view()}</tbody>
            </table>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_numbers_from_0_to_100() {
        assert_eq!([points("0"), points(" 0.5 "), points("100")], [Ok(0.0), Ok(0.5), Ok(100.0)]);
        for text in ["", "a", "-1", "101", "NaN", "inf"] {
            assert!(points(text).is_err_and(|why| why.ends_with('.')), "{text}");
        }
    }

    #[test]
    fn every_state_is_a_sentence() {
        for state in [
            State::Obstacle("no-images", "Choose test images first.".into()),
            State::Ready,
            State::Running(3),
            State::Failed("a.onnx: no; yes.".into()),
            State::Cancelled(1, None),
            State::Cancelled(2, Some(1.5)),
            State::Done(true, "Kept.".into()),
            State::Done(false, "Even at 8.".into()),
            State::Outdated("the allocation has changed"),
        ] {
            assert!(state.words().ends_with('.'), "{state:?}");
        }
    }
}
