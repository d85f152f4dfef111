//! Where images come in: files or a folder, for calibration and for tests.

use leptos::{html, prelude::*};

use super::{accuracy::use_name, calibration::CalibrationPanel, files, format, samples, state::App, term::Term};
use crate::worker::messages::DataUse;

/// Key of a use: in hooks, and on the page, where drops look for it.
pub fn key(usage: DataUse) -> &'static str {
    match usage {
        DataUse::Calibration => "calibration",
        DataUse::Test => "test",
    }
}

/// The use with this key.
pub fn of_key(wanted: &str) -> Option<DataUse> {
    [DataUse::Calibration, DataUse::Test].into_iter().find(|usage| key(*usage) == wanted)
}

/// Images of one use: chosen or dropped, and what they are.
#[component]
pub fn DataInput(app: App, usage: DataUse) -> impl IntoView {
    let key = key(usage);
    let (title, purpose) = match usage {
        DataUse::Test => ("Test images", "Accuracy is measured on these. Labels are used where there are some."),
        DataUse::Calibration => {
            ("Calibration images", "Optional: they say what errors cost in the output, layer by layer, and the test images stay unseen.")
        }
    };
    let title = match usage {
        DataUse::Test => title.into_any(),
        DataUse::Calibration => view! { <Term key="calibration">"Calibration"</Term>" images" }.into_any(),
    };
    let images = app.accuracy.images(usage);
    let summary = Memo::new(move |_| images.with(|i| i.summary.clone()));
    let busy = Memo::new(move |_| app.long_job.with(|job| job.is_some_and(|job| job.data() == Some(usage))));
    let over = move || app.aimed_at.get() == Some(usage);
    let name = use_name(usage);
    // A folder's input is one that the browser does not let choose files.
    let picker = move |kind: &'static str, label: &'static str| {
        let input: NodeRef<html::Input> = NodeRef::new();
        let folder = kind == "folder";
        let chosen = move |_| {
            if let Some(input) = input.get() {
                let chosen = files::of_list(input.files());
                input.set_value("");
                if !chosen.is_empty() {
                    app.open_data(usage, files::with_paths(chosen));
                }
            }
        };
        view! {
            <span class="file">
                <input id=format!("{key}-{kind}") data-testid=format!("{key}-{kind}") type="file" multiple aria-label=format!("{label}: {name}")
                    prop:webkitdirectory=folder node_ref=input on:change=chosen/>
                <label for=format!("{key}-{kind}") class="button small" aria-hidden="true">{label}</label>
            </span>
        }
    };
    let sample = Memo::new(move |_| {
        let of_sample = app.model.with(|m| m.as_ref().is_some_and(|m| samples::is_sample(&m.name)));
        let is_open = summary.with(|s| s.as_ref().is_some_and(|s| s.name == samples::TEST_SET));
        usage == DataUse::Test && of_sample && !is_open
    });
    view! {
        <div class="data" data-use=key data-part=(usage == DataUse::Calibration).then_some("calibration") class:over=over>
            <h3 id=format!("{key}-title")>{title}</h3>
            <p class="hint">{purpose}</p>
            <div class="pickers" role="group" aria-labelledby=format!("{key}-title")>
                {picker("input", "Choose files")}
                {picker("folder", "Choose a folder")}
                <Show when=move || sample.get()>
                    <button type="button" class="button small" data-testid="sample-test" on:click=move |_| samples::open_digits(app, usage)>
                        "Use the digits test set"</button>
                </Show>
            </div>
            <div class="recognised" role="status" data-testid=format!("{key}-summary")>
                {move || match summary.get() {
                    _ if busy.get() => view! { <p class="hint">"Reading…"</p> }.into_any(),
                    None => view! { <p class="hint">"Or drop them here: NumPy (.npz), CIFAR-10 (.bin), MNIST (IDX), a zip, a folder with one folder for each class, or PNG, JPEG and WebP files."</p> }.into_any(),
                    Some(data) => view! {
                        <div class="found">
                            <p><strong>{data.name.clone()}</strong><br/>{format::images(&data)}</p>
                            <button type="button" class="remove" data-testid=format!("{key}-remove") aria-label=format!("Remove the {name}")
                                title=format!("Remove the {name}") on:click=move |_| app.close_data(usage)>
                                <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8"/></svg>
                            </button>
                        </div>
                        <ul class="notes">{data.notes.iter().map(|n| view! { <li>{n.clone()}</li> }).collect_view()}</ul>
                    }.into_any(),
                }}
            </div>
            <p class="wrong" role="alert" data-testid=format!("{key}-error")>{move || images.with(|i| i.error.clone())}</p>
            {(usage == DataUse::Calibration).then(|| view! { <CalibrationPanel app/> })}
        </div>
    }
}
