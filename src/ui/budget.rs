//! How small it shall be: a slider in bits per weight, the same as a number in three units, and what may be chosen from.

use leptos::{html, prelude::*};

use super::{
    choices::HistoryButtons,
    format::{Unit, plain},
    promise::{self, PromisePanel},
    state::{App, NOT_ENTROPY, NOT_FEEDBACK},
    term::Term,
};
use crate::report::{Budget, Coding, Method, TransformChoice};

const BLOCKS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Numbers of blocks to choose from: a link or a recipe may have another one.
fn blocks_with(chosen: usize) -> Vec<usize> {
    let mut all = BLOCKS.to_vec();
    all.push(chosen);
    all.sort_unstable();
    all.dedup();
    all
}

/// A coding in words, and what it does.
fn coding_words(coding: Coding) -> (&'static str, &'static str) {
    match coding {
        Coding::Fixed => ("fixed lengths", "Each index takes as many bits as its depth."),
        Coding::Depths => ("depths, entropy-coded", "The same indices, entropy-coded: the file is smaller than the budget."),
        Coding::Entropy => ("entropy-coded allocation", "Bits are allocated by what the entropy coder needs. Slower to encode."),
    }
}

/// A method in words, and what it does.
fn method_words(method: Method) -> (&'static str, &'static str) {
    match method {
        Method::Transform => ("transform", "Each layer by the transform that pays most for its bits, or by none."),
        Method::Feedback => (
            "error feedback, gains matched",
            "Each weight makes good what those before it did to the output; then gains and biases are matched to the original. Slower, and much closer at few bits.",
        ),
    }
}

/// Why it cannot be chosen.
const UNCALIBRATED: &str = "Error feedback needs a calibration.";
/// Why what is chosen does nothing yet.
const WAITING: &str = "Error feedback begins with a calibration; until then layers are compressed by transforms.";
/// Why there is no choice of codings.
const ALWAYS_ENTROPY: &str = "Error feedback is always entropy-coded.";

/// The budget.
#[component]
pub fn BudgetPanel(app: App) -> impl IntoView {
    let slider: NodeRef<html::Input> = NodeRef::new();
    let number: NodeRef<html::Input> = NodeRef::new();
    let (wrong, set_wrong) = signal(None::<&'static str>);
    let disabled = move || app.is_tq();

    // The slider's bounds come before its value, or the browser cuts the value.
    Effect::new(move |_| {
        let (Some(slider), Some((range, rate))) = (slider.get(), app.allocation.with(|a| a.as_ref().map(|a| (a.rate_range, a.rate))))
        else {
            return;
        };
        let least = (range.0 * 100.0).floor() / 100.0;
        let most = ((range.1 * 100.0).ceil() / 100.0).max(least + 0.01);
        let asked = match app.settings.with(|s| s.budget) {
            Budget::Bits(b) => b,
            _ => rate,
        };
        let (least_words, most_words) = (plain(least, 2), plain(most, 2));
        // Said again, even the same bounds are laid out again.
        if (slider.min(), slider.max()) != (least_words.clone(), most_words.clone()) {
            slider.set_min(&least_words);
            slider.set_max(&most_words);
        }
        let value = plain(asked.clamp(least, most), 2);
        if slider.value() != value {
            slider.set_value(&value);
        }
    });
    // The number is what was asked for in its own unit, and what was reached in another.
    Effect::new(move |_| {
        let (Some(number), Some((rate, bytes, ratio))) =
            (number.get(), app.allocation.with(|a| a.as_ref().map(|a| (a.rate, a.bytes, a.ratio))))
        else {
            return;
        };
        let settings = app.settings.get();
        let value = match (settings.unit, settings.budget) {
            (Unit::Bits, Budget::Bits(b)) => plain(b, 4),
            (Unit::Bits, _) => plain(rate, 2),
            (Unit::Size, Budget::Size(s)) => s.to_string(),
            (Unit::Size, _) => bytes.to_string(),
            (Unit::Ratio, Budget::Ratio(r)) => plain(r, 4),
            (Unit::Ratio, _) => plain(ratio, 2),
        };
        // What is being typed stays as it was typed.
        if number.value().parse::<f64>().ok() != value.parse().ok() && wrong.get_untracked().is_none() {
            number.set_value(&value);
        }
    });

    let slid = move |value: String| {
        if let Ok(rate) = value.parse() {
            set_wrong.set(None);
            app.at_hand.reach();
            app.set(|s| s.budget = Budget::Bits(rate));
        }
    };
    let typed = move |text: String| match app.settings.with_untracked(|s| s.unit).budget(&text) {
        Ok(budget) => {
            set_wrong.set(None);
            app.set(|s| s.budget = budget);
        }
        Err(why) => set_wrong.set(Some(why)),
    };
    let promising = app.accuracy.promise.chosen;
    let unit_chosen = move |key: String| {
        promising.set(key == promise::UNIT);
        if let Some(unit) = Unit::ALL.into_iter().find(|u| u.key() == key) {
            set_wrong.set(None);
            app.set(|s| s.unit = unit);
        }
    };
    let transform_chosen = move |name: String| {
        if let Some(transform) = TransformChoice::ALL.into_iter().find(|t| t.name() == name) {
            app.set(|s| s.transform = transform);
        }
    };
    let coding = Memo::new(move |_| app.curve_settings().coding);
    let feedback = Memo::new(move |_| app.curve_settings().method == Method::Feedback);
    let no_entropy = Memo::new(move |_| app.is_measuring());
    let coding_chosen = move |select: web_sys::HtmlSelectElement| {
        if let Some(coding) = Coding::ALL.into_iter().find(|c| c.name() == select.value()) {
            app.set_coding(coding);
        }
        // It may not have been taken.
        select.set_value(coding.get_untracked().name());
    };
    let blocks = Memo::new(move |_| app.settings.with(|s| s.curves.blocks));
    let calibrated = Memo::new(move |_| app.is_calibrated());
    let method = Memo::new(move |_| app.settings.with(|s| s.curves.method));
    let method_chosen = move |select: web_sys::HtmlSelectElement| {
        if let Some(method) = Method::ALL.into_iter().find(|m| m.name() == select.value()) {
            app.set_method(method);
        }
        // It may not have been taken.
        select.set_value(method.get_untracked().name());
    };
    let method_hint = move || {
        let words = |method| method_words(method).1;
        match (method.get(), calibrated.get()) {
            (Method::Feedback, false) if !app.is_tq() => WAITING.to_string(),
            (Method::Transform, false) if !app.is_tq() => format!("{} {UNCALIBRATED}", words(Method::Transform)),
            (Method::Transform, true) if no_entropy.get() => format!("{} {NOT_FEEDBACK}", words(Method::Transform)),
            (method, _) => words(method).to_string(),
        }
    };
    let transforms = move || {
        let there = TransformChoice::ALL.into_iter().filter(|t| calibrated.get() || !t.needs_calibration());
        let option = |t: TransformChoice| {
            let words = if t == TransformChoice::Auto { "auto (best)" } else { t.name() };
            view! { <option value=t.name() prop:selected=move || app.settings.with(|s| s.transform == t)>{words}</option> }
        };
        there.map(option).collect_view()
    };
    let valuetext =
        move || app.allocation.with(|a| a.as_ref().map(|a| format!("{:.2} bits per weight, {}", a.rate, super::format::bytes(a.bytes))));
    let not_reachable = move || app.allocation.with(|a| a.as_ref().and_then(|a| a.not_reachable.clone()));

    view! {
        <section class="card budget" data-part="budget" aria-labelledby="budget-title">
            <div class="head"><h2 id="budget-title"><Term key="budget">"Budget"</Term></h2><HistoryButtons app/></div>
            <div class="field amount">
                <Show when=move || promising.get()><promise::Points app/></Show>
                <div hidden=move || promising.get()>
                    <div class="alone">
                        <input id="budget-number" data-testid="budget-number" type="number" inputmode="decimal" min="0" step="any"
                            aria-label="Budget" aria-describedby="budget-wrong" node_ref=number
                            aria-invalid=move || wrong.get().map(|_| "true") disabled=disabled
                            on:input:target=move |e| typed(e.target().value())
                            on:blur=move |_| set_wrong.set(None)/>
                    </div>
                </div>
                <select data-testid="budget-unit" aria-label="Unit of the budget" disabled=disabled
                    on:change:target=move |e| unit_chosen(e.target().value())>
                    {Unit::ALL.map(|u| view! {
                        <option value=u.key() prop:selected=move || !promising.get() && app.settings.with(|s| s.unit == u)>{u.name()}</option>
                    }).collect_view()}
                    <option value=promise::UNIT prop:selected=promising>"points lost"</option>
                </select>
            </div>
            <Show when=move || promising.get()><PromisePanel app/></Show>
            <div>
                <div class="alone">
                    <input class="slider" data-testid="budget-slider" type="range" step="0.01" aria-label="Budget in bits per weight"
                        aria-valuetext=valuetext node_ref=slider disabled=disabled on:pointerenter=move |_| app.at_hand.reach()
                        on:pointerdown=move |_| app.at_hand.reach() on:focus=move |_| app.at_hand.reach()
                        on:input:target=move |e| slid(e.target().value())/>
                </div>
            </div>
            <div class="ends" aria-hidden="true"><span>"smaller"</span><span>"closer to the original"</span></div>
            <p id="budget-wrong" class="notice" role="status">{move || wrong.get().map(str::to_string).or_else(not_reachable)}</p>
            <div class="field">
                <label for="method"><Term key="method">"Method"</Term></label>
                <select id="method" data-testid="method" aria-describedby="method-hint" disabled=disabled on:change:target=move |e| method_chosen(e.target())>
                    {Method::ALL.map(|m| view! {
                        <option value=m.name() disabled=move || m == Method::Feedback && (!calibrated.get() || no_entropy.get())
                            prop:selected=move || method.get() == m>{method_words(m).0}</option>
                    }).collect_view()}
                </select>
                <p id="method-hint" class="hint">{method_hint}</p>
            </div>
            <div class="pair">
                <div class="field">
                    <label for="transform"><Term key="transform">"Transform"</Term></label>
                    <select id="transform" data-testid="transform" disabled=disabled on:change:target=move |e| transform_chosen(e.target().value())>
                        {transforms}
                    </select>
                </div>
                <div class="field">
                    <label for="blocks"><Term key="block">"Blocks"</Term>" per layer"</label>
                    <select id="blocks" data-testid="blocks" disabled=disabled
                        on:change:target=move |e| if let Ok(blocks) = e.target().value().parse() { app.set_curves(|c| c.blocks = blocks) }>
                        {move || blocks_with(blocks.get()).into_iter().map(|b| view! {
                            <option value=b.to_string() prop:selected=move || blocks.get() == b>{b}</option>
                        }).collect_view()}
                    </select>
                </div>
            </div>
            <div class="field">
                <label for="coding"><Term key="entropy-coding">"Coding"</Term></label>
                <select id="coding" data-testid="coding" aria-describedby="coding-hint" disabled=move || disabled() || feedback.get()
                    on:change:target=move |e| coding_chosen(e.target())>
                    {Coding::ALL.map(|c| view! {
                        <option value=c.name() disabled=move || c == Coding::Entropy && no_entropy.get()
                            prop:selected=move || coding.get() == c>{coding_words(c).0}</option>
                    }).collect_view()}
                </select>
                <p id="coding-hint" class="hint">
                    {move || coding_words(coding.get()).1}
                    {move || feedback.get().then(|| format!(" {ALWAYS_ENTROPY}"))}
                    {move || no_entropy.get().then(|| format!(" {NOT_ENTROPY}"))}
                </p>
            </div>
        </section>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_have_words_of_their_own_that_hold_their_name() {
        for coding in Coding::ALL {
            let (name, hint) = coding_words(coding);
            assert!(name.contains(coding.name()) && hint.ends_with('.'), "{coding:?}");
        }
        for words in [NOT_ENTROPY, NOT_FEEDBACK, UNCALIBRATED, WAITING, ALWAYS_ENTROPY] {
            assert!(words.ends_with('.'));
        }
    }

    #[test]
    fn methods_have_words_of_their_own_that_hold_their_name() {
        for method in Method::ALL {
            let (name, hint) = method_words(method);
            assert!(name.contains(method.name()) && hint.ends_with('.'), "{method:?}");
        }
    }
}
