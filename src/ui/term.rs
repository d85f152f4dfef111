//! Terms of the field, explained where they stand: on hover, on focus and by touch, from the [`glossary`]; and the whole glossary as a list.
//!
//! There is one explanation on the page at a time, and one element for it: it can be pointed at, goes away with Escape, and stays while the pointer
//! or the focus stays (WCAG 2.1, success criterion 1.4.13). Screen readers are given the list's entry instead, which is always there.

use std::time::Duration;

use leptos::{ev, html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{DomRect, Element, HtmlElement};

use super::{
    clock::{Later, next_frame},
    dom, format,
    glossary::{self, ENTRIES, Entry, PAPER},
};

/// Time to get with the pointer from a term to its explanation.
const CROSSING: Duration = Duration::from_millis(220);
/// Least distance of an explanation from the window's edge, and from its term, in CSS pixels.
const MARGIN: f64 = 8.0;
const APART: f64 = 4.0;

/// The explanation that is shown. A context of the whole page.
#[derive(Clone, Copy)]
pub struct Tips {
    entry: RwSignal<Option<&'static Entry>>,
    at: StoredValue<Option<HtmlElement>, LocalStorage>,
    /// The term that has the focus, unless its explanation was dismissed.
    focused: StoredValue<Option<(&'static Entry, HtmlElement)>, LocalStorage>,
    leaving: StoredValue<Later, LocalStorage>,
}

impl Tips {
    /// None is shown. Every component below finds it.
    pub fn provide() -> Tips {
        let tips = Tips {
            entry: RwSignal::new(None),
            at: StoredValue::new_local(None),
            focused: StoredValue::new_local(None),
            leaving: StoredValue::new_local(Later::default()),
        };
        provide_context(tips);
        tips
    }

    /// Takes the explanation away. Returns whether there was one.
    pub fn dismiss(self) -> bool {
        self.stay();
        self.at.set_value(None);
        self.focused.set_value(None);
        let was = self.entry.with_untracked(|e| e.is_some());
        if was {
            self.entry.set(None);
        }
        was
    }

    fn hide(self) {
        self.dismiss();
    }

    fn show(self, entry: &'static Entry, at: HtmlElement) {
        self.stay();
        self.at.set_value(Some(at));
        self.entry.set(Some(entry));
    }

    fn stay(self) {
        self.leaving.update_value(Later::stop);
    }

    /// Unless the pointer comes back. The term that has the focus is explained again.
    fn leave(self) {
        let left = move || match self.focused.get_value() {
            Some((entry, term)) => self.show(entry, term),
            None => self.hide(),
        };
        self.leaving.update_value(|l| l.set(CROSSING, left));
    }
}

/// Where an explanation of a size goes in a window of a width and height, so that it covers neither its term nor the window's edge: left, top.
fn place(term: (f64, f64, f64, f64), (width, height): (f64, f64), window: (f64, f64)) -> (f64, f64) {
    let (left, top, _, bottom) = term;
    let x = left.min(window.0 - width - MARGIN).max(MARGIN);
    let below = bottom + APART;
    // Below, unless there is room above alone.
    let y = if below + height + MARGIN > window.1 && top - APART - height >= MARGIN { top - APART - height } else { below };
    (x, y)
}

fn edges(r: &DomRect) -> (f64, f64, f64, f64) {
    (r.left(), r.top(), r.right(), r.bottom())
}

/// A term, with its explanation.
#[component]
pub fn Term(
    /// Of its entry in the glossary.
    key: &'static str,
    children: Children,
) -> impl IntoView {
    let (Some(entry), Some(tips)) = (glossary::find(key), use_context::<Tips>()) else { return children().into_any() };
    let node: NodeRef<html::Dfn> = NodeRef::new();
    let show = move || {
        if let Some(element) = node.get_untracked() {
            tips.show(entry, element.unchecked_into());
        }
    };
    let focus = move || {
        if let Some(element) = node.get_untracked() {
            tips.focused.set_value(Some((entry, element.unchecked_into())));
            show();
        }
    };
    view! {
        <dfn class="term" tabindex="0" data-term=key aria-describedby=format!("glossary-{key}") node_ref=node
            on:pointerenter=move |_| show() on:pointerleave=move |_| tips.leave()
            on:focus=move |_| focus() on:click=move |_| show() on:blur=move |_| tips.hide()>{children()}</dfn>
    }
    .into_any()
}

/// The explanation that is shown. Once on the page.
#[component]
pub fn Tip(tips: Tips) -> impl IntoView {
    let node: NodeRef<html::Div> = NodeRef::new();
    let (at, set_at) = signal(None::<(f64, f64)>);
    let measure = move || {
        let (Some(tip), Some(Some(term))) = (node.get_untracked(), tips.at.try_with_value(|at| at.clone())) else { return };
        let size = tip.get_bounding_client_rect();
        let number = |v: Result<wasm_bindgen::JsValue, _>| v.ok().and_then(|v| v.as_f64()).unwrap_or_default();
        let inside = (f64::from(document().document_element().map_or(0, |e| e.client_width())), number(window().inner_height()));
        set_at.set(Some(place(edges(&term.get_bounding_client_rect()), (size.width(), size.height()), inside)));
    };
    Effect::new(move |_| {
        if tips.entry.with(|e| e.is_some()) {
            // When its words have made its size.
            next_frame(measure);
        } else {
            set_at.set(None);
        }
    });
    let escape = window_event_listener(ev::keydown, move |e| {
        if e.key() == "Escape" && tips.dismiss() {
            e.prevent_default();
        }
    });
    let scrolled = window_event_listener(ev::scroll, move |_| measure());
    let resized = window_event_listener(ev::resize, move |_| tips.hide());
    on_cleanup(move || [escape, scrolled, resized].into_iter().for_each(|l| l.remove()));
    let style = move || at.get().map_or_else(|| "visibility:hidden".to_string(), |(x, y)| format!("left:{x:.1}px;top:{y:.1}px"));
    view! {
        <div class="explanation" role="tooltip" data-testid="explanation" node_ref=node class:shown=move || tips.entry.with(|e| e.is_some()) style=style
            on:pointerenter=move |_| tips.stay() on:pointerleave=move |_| tips.leave()>
            {move || tips.entry.get().map(|e| view! {
                <p><strong>{format::title(e.term)}</strong></p>
                <p>{e.words}</p>
                <p class="fine">{e.source()}</p>
            })}
        </div>
    }
}

/// The glossary as a list: to read, to search with the browser, and for screen readers, which are sent here from every term.
#[component]
pub fn Glossary() -> impl IntoView {
    let entry = |e: &'static Entry| {
        view! {
            <div data-entry=e.key>
                <dt>{format::title(e.term)}</dt>
                <dd id=format!("glossary-{}", e.key)>{e.words}" "<span class="fine">{e.source()}</span></dd>
            </div>
        }
    };
    view! {
        <section class="card glossary" data-part="learn" aria-labelledby="glossary-title">
            <details data-testid="glossary">
                <summary><h2 id="glossary-title">"Glossary"</h2><span class="hint">{format!(" {} terms, to read in one go or to search with the browser", ENTRIES.len())}</span></summary>
                <p class="hint">"The paper is Young, Zhe, Taubman, Girod: "
                    <a href=PAPER target="_blank" rel="noopener noreferrer">"Transform Quantization for CNN Compression"</a>", TPAMI 2021."</p>
                <dl>{ENTRIES.iter().map(entry).collect_view()}</dl>
            </details>
        </section>
    }
}

/// Opens the glossary's list, and goes there.
pub fn open_glossary() {
    let list = document().query_selector(".glossary details").ok().flatten();
    if let Some(list) = list {
        let _ = list.set_attribute("open", "");
        if let Some(summary) = list.first_element_child().and_then(|e: Element| e.dyn_into::<HtmlElement>().ok()) {
            dom::go_to(&summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_stays_in_the_window_and_off_its_term() {
        let (size, window) = ((300.0, 100.0), (390.0, 800.0));
        assert_eq!(place((20.0, 50.0, 60.0, 70.0), size, window), (20.0, 74.0), "below, at the term's left edge");
        assert_eq!(place((350.0, 50.0, 380.0, 70.0), size, window).0, 82.0, "pushed in from the right");
        assert_eq!(place((-30.0, 50.0, 10.0, 70.0), size, window).0, 8.0, "and from the left");
        assert_eq!(place((20.0, 750.0, 60.0, 770.0), size, window).1, 646.0, "above, where there is no room below");
        assert_eq!(place((20.0, 50.0, 60.0, 70.0), (300.0, 790.0), window).1, 74.0, "below, where there is none above either");
        assert_eq!(place((20.0, 50.0, 60.0, 70.0), (500.0, 100.0), window).0, 8.0, "a window too narrow");
    }
}
