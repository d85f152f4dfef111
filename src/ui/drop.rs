//! Where files come in: the whole page is a drop zone, and there is a button.

use leptos::{ev, html, prelude::*};
use web_sys::{DragEvent, FileList};

use super::{format, samples::Samples, state::App};

fn files_of(list: Option<FileList>) -> js_sys::Array {
    let files = js_sys::Array::new();
    if let Some(list) = list {
        for i in 0..list.length() {
            if let Some(file) = list.get(i) {
                files.push(&file);
            }
        }
    }
    files
}

/// Whether files are dragged, not text or a link.
fn has_files(e: &DragEvent) -> bool {
    e.data_transfer().is_some_and(|d| d.types().includes(&"Files".into(), 0))
}

/// The drop zone, the file button and the samples.
#[component]
pub fn Drop(app: App) -> impl IntoView {
    // Entering a child fires before leaving its parent: count.
    let depth = RwSignal::new(0i32);
    let enter = window_event_listener(ev::dragenter, move |e| {
        if has_files(&e) {
            e.prevent_default();
            depth.update(|d| *d += 1);
        }
    });
    let over = window_event_listener(ev::dragover, |e| {
        if has_files(&e) {
            e.prevent_default();
        }
    });
    let leave = window_event_listener(ev::dragleave, move |e| {
        if has_files(&e) {
            depth.update(|d| *d = (*d - 1).max(0));
        }
    });
    let drop = window_event_listener(ev::drop, move |e| {
        if has_files(&e) {
            e.prevent_default();
            depth.set(0);
            app.open(files_of(e.data_transfer().and_then(|d| d.files())));
        }
    });
    on_cleanup(move || [enter, over, leave, drop].into_iter().for_each(|l| l.remove()));

    let input: NodeRef<html::Input> = NodeRef::new();
    let chosen = move |_| {
        if let Some(input) = input.get() {
            let files = files_of(input.files());
            // Choosing the same file again is a change, too.
            input.set_value("");
            app.open(files);
        }
    };
    let model = move || app.model.get();
    view! {
        <section class="drop" aria-label="Model file" class:over=move || { depth.get() > 0 }>
            <div class="what">
                <Show when=move || app.model.with(|m| m.is_some()) fallback=|| view! {
                    <h2>"Drop a model here"</h2>
                    <p>"ONNX, safetensors, PyTorch (.pth, .pt), NumPy (.npz, .npy), or a compressed .tq. Drop external data files together with their model."</p>
                }>
                    <h2 class="model-name">{move || model().map(|m| m.name.clone())}</h2>
                    <p class="facts">
                        {move || model().map(|m| {
                            format!("{} · {} · {} · {} weights", m.format, format::short_bytes(m.bytes), format::count(m.layers.len(), "layer"), format::grouped(m.layer_weights))
                        })}
                    </p>
                </Show>
            </div>
            <div class="choose">
                <span class="file">
                    <input id="model-file" data-testid="model-input" type="file" multiple node_ref=input on:change=chosen/>
                    <label for="model-file" class="button primary">
                        {move || if app.model.with(|m| m.is_some()) { "Open another file" } else { "Choose a file" }}
                    </label>
                </span>
                <Samples app/>
            </div>
        </section>
        <div class="veil" class:shown=move || { depth.get() > 0 } aria-hidden="true"><p>"Drop to open"</p></div>
    }
}
