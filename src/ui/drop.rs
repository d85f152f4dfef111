//! Where files come in: the whole page is a drop zone for models, with two fields for images in it; and there is a button.

use leptos::{ev, html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;
use web_sys::{DragEvent, Element, File};

use super::{
    data_input,
    files::{self, Dropped},
    format,
    samples::Samples,
    state::App,
};
use crate::worker::messages::DataUse;

/// Whether files are dragged, not text or a link.
fn has_files(e: &DragEvent) -> bool {
    e.data_transfer().is_some_and(|d| d.types().includes(&"Files".into(), 0))
}

/// The images' field that is pointed at.
fn field_at(e: &DragEvent) -> Option<DataUse> {
    let element = e.target()?.dyn_into::<Element>().ok()?;
    data_input::of_key(&element.closest("[data-use]").ok()??.get_attribute("data-use")?)
}

/// Opens what was chosen or dropped where models are: images are for tests.
fn open(app: App, chosen: Vec<File>) {
    let names: Vec<String> = chosen.iter().map(File::name).collect();
    if files::is_recipe(names.iter().map(String::as_str)) {
        chosen.into_iter().for_each(|file| app.load_recipe(file));
    } else if files::are_images(names.iter().map(String::as_str)) {
        app.open_data(DataUse::Test, files::with_paths(chosen));
    } else {
        app.open(chosen.into_iter().collect());
    }
}

/// Opens what was dropped.
fn take(app: App, dropped: Dropped, field: Option<DataUse>) {
    if let Some(recipe) = dropped.recipe().filter(|_| field.is_none()) {
        return app.load_recipe(recipe);
    }
    match field.or_else(|| dropped.is_images().then_some(DataUse::Test)) {
        None => app.open(dropped.files()),
        Some(usage) => spawn_local(async move {
            match dropped.all().await {
                Ok(files) => app.open_data(usage, files),
                Err(why) => app.data_failed(usage, why),
            }
        }),
    }
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
    let over = window_event_listener(ev::dragover, move |e| {
        if has_files(&e) {
            e.prevent_default();
            if app.aimed_at.get_untracked() != field_at(&e) {
                app.aimed_at.set(field_at(&e));
            }
        }
    });
    let leave = window_event_listener(ev::dragleave, move |e| {
        if has_files(&e) {
            depth.update(|d| *d = (*d - 1).max(0));
            if depth.get_untracked() == 0 {
                app.aimed_at.set(None);
            }
        }
    });
    let drop = window_event_listener(ev::drop, move |e| {
        if has_files(&e) {
            e.prevent_default();
            depth.set(0);
            app.aimed_at.set(None);
            take(app, Dropped::new(e.data_transfer()), field_at(&e));
        }
    });
    on_cleanup(move || [enter, over, leave, drop].into_iter().for_each(|l| l.remove()));

    let input: NodeRef<html::Input> = NodeRef::new();
    let chosen = move |_| {
        if let Some(input) = input.get() {
            let files = files::of_list(input.files());
            // Choosing the same file again is a change, too.
            input.set_value("");
            open(app, files);
        }
    };
    let model = move || app.model.get();
    view! {
        <section class="drop" data-part="drop" aria-label="Model file" class:over=move || { depth.get() > 0 }>
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
                    <label for="model-file" class="button" class:primary=move || app.model.with(|m| m.is_none())>
                        {move || if app.model.with(|m| m.is_some()) { "Open another file" } else { "Choose a file" }}
                    </label>
                </span>
                <Samples app/>
            </div>
        </section>
        <div class="veil" class:shown=move || { depth.get() > 0 } aria-hidden="true">
            <p>{move || if app.aimed_at.with(|a| a.is_some()) { "Drop the images" } else { "Drop to open" }}</p>
        </div>
    }
}
