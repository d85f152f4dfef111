//! What of the page is shown: by its address, and by a menu at its end that makes such an address.

use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;

use super::{
    dom,
    parts::{Hidden, PARAMETER, Part},
};

/// Which parts are hidden. Copied freely.
#[derive(Clone, Copy)]
pub struct Shown {
    hidden: RwSignal<Hidden>,
    /// A sentence on what the address asks for in vain.
    wrong: RwSignal<Option<String>>,
}

impl Shown {
    /// As the page's address says. The style does the hiding: parts are there all the same, and keep what was done in them.
    pub fn of_address() -> Shown {
        let (hidden, wrong) = Hidden::read(&dom::parameter(PARAMETER).unwrap_or_default());
        let shown = Shown { hidden: RwSignal::new(hidden), wrong: RwSignal::new(wrong) };
        if let Some(body) = document().body() {
            let _ = body.set_attribute("data-hide", &hidden.names(" "));
        }
        shown
    }

    fn change(self, change: impl FnOnce(&mut Hidden)) {
        self.hidden.update(change);
        self.wrong.set(None);
        let hidden = self.hidden.get_untracked();
        if let Some(body) = document().body() {
            let _ = body.set_attribute("data-hide", &hidden.names(" "));
        }
        let names = hidden.names(",");
        dom::set_parameter(PARAMETER, (!names.is_empty()).then_some(&names));
    }
}

/// What the address asks for in vain, above everything.
#[component]
pub fn Notice(shown: Shown) -> impl IntoView {
    view! { <p class="wrong parts-wrong" role="status" data-testid="parts-wrong">{shown.wrong}</p> }
}

/// The menu.
#[component]
pub fn Parts(shown: Shown) -> impl IntoView {
    let address: NodeRef<html::Code> = NodeRef::new();
    let (open, set_open) = signal(false);
    let (copied, set_copied) = signal(None::<bool>);
    // Others change the address, too: it is read when it is looked at.
    let link = Memo::new(move |_| {
        open.track();
        shown.hidden.track();
        dom::address()
    });
    let copy = move |_| {
        let element = address.get_untracked().and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok());
        spawn_local(async move { set_copied.set(Some(dom::copy(&dom::address(), element).await)) });
    };
    let tick = move |part: Part| {
        view! {
            <label class="tick">
                <input type="checkbox" data-part-name=part.name() prop:checked=move || !shown.hidden.get().has(part)
                    on:change:target=move |e| {
                        set_copied.set(None);
                        shown.change(|h| h.set(part, !e.target().checked()));
                    }/>
                {part.title()}
            </label>
        }
    };
    view! {
        <section class="parts" aria-label="What is shown">
            <details data-testid="parts" on:toggle:target=move |e| set_open.set(e.target().has_attribute("open"))>
                <summary>"What is shown"</summary>
                <div class="card">
                    <p class="hint">"Hide what a lecture does not need. The page's address remembers it, so this view can be handed on."</p>
                    <div class="ticks" role="group" aria-label="Parts of the page">{Part::ALL.map(tick).collect_view()}</div>
                    <div class="address">
                        <h3 id="parts-link">"Address of this view"</h3>
                        <div class="row">
                            <code node_ref=address tabindex="0" role="textbox" aria-readonly="true" aria-labelledby="parts-link" data-testid="parts-link">{link}</code>
                            <button type="button" class="button" data-testid="parts-copy" on:click=copy>
                                {move || if copied.get() == Some(true) { "Copied" } else { "Copy" }}</button>
                            <button type="button" class="button" data-testid="parts-all" on:click=move |_| {
                                set_copied.set(None);
                                shown.change(|h| *h = Hidden::default());
                            }>"Show all"</button>
                        </div>
                        <p class="hint" role="status">
                            {move || (copied.get() == Some(false)).then_some("The browser denies the clipboard; the address is selected: press Ctrl+C (on a Mac, ⌘C).")}
                        </p>
                    </div>
                </div>
            </details>
        </section>
    }
}
