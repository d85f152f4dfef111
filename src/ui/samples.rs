//! Three small networks of our own, that come with the page.

use leptos::{prelude::*, task::spawn_local};

use super::{dom, state::App};

/// Hook, name on the button, file.
const SAMPLES: [(&str, &str, &str); 3] = [
    ("sample-resnet", "ResNet", "resnet-digits.onnx"),
    ("sample-alexnet", "AlexNet", "alexnet-digits.onnx"),
    ("sample-densenet", "DenseNet", "densenet-digits.onnx"),
];

/// A button per sample.
#[component]
pub fn Samples(app: App) -> impl IntoView {
    let open = move |file: &'static str| {
        spawn_local(async move {
            match dom::fetch_file(&format!("samples/{file}"), file).await {
                Ok(content) => app.open(js_sys::Array::of1(&content)),
                Err(why) => app.fail(format!("The sample {file} cannot be fetched ({why}); load the page again.")),
            }
        });
    };
    view! {
        <div class="samples" role="group" aria-labelledby="samples-title">
            <span id="samples-title">"or try a sample"</span>
            {SAMPLES
                .map(|(hook, name, file)| view! {
                    <button type="button" class="button" data-testid=hook on:click=move |_| open(file)>{name}</button>
                })
                .collect_view()}
        </div>
    }
}
