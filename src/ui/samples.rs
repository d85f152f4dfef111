//! Three small networks of our own, and images to test them on, that come with the page.

use leptos::{prelude::*, task::spawn_local};

use super::{dom, state::App};
use crate::worker::messages::DataUse;

/// The images that the samples were tested on, and that they were not trained on.
pub const TEST_SET: &str = "digits-test.npz";

/// The sample that the walk ([`super::learn`]) goes through.
pub const OF_THE_WALK: &str = "resnet-digits.onnx";

/// Hook, name on the button, file.
const SAMPLES: [(&str, &str, &str); 3] = [
    ("sample-resnet", "ResNet", "resnet-digits.onnx"),
    ("sample-alexnet", "AlexNet", "alexnet-digits.onnx"),
    ("sample-densenet", "DenseNet", "densenet-digits.onnx"),
];

/// Whether a model of this name is one of ours, or one of ours compressed.
pub fn is_sample(name: &str) -> bool {
    SAMPLES.iter().any(|s| stem(s.2) == stem(name))
}

/// Takes the samples' test set for images of a use.
pub fn open_digits(app: App, usage: DataUse) {
    spawn_local(async move {
        match dom::fetch_file(&format!("samples/{TEST_SET}"), TEST_SET).await {
            Ok(content) => app.open_data(usage, vec![(TEST_SET.into(), content)]),
            Err(why) => app.data_failed(usage, format!("The digits test set cannot be fetched ({why}); load the page again.")),
        }
    });
}

/// The name that a link gives a sample, if there is one of this name: that of its file, without the extension.
pub fn known(name: &str) -> Option<&'static str> {
    SAMPLES.iter().map(|s| stem(s.2)).find(|stem| *stem == name)
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Opens a sample, by its name in links.
pub fn open(app: App, name: &'static str) {
    let Some(file) = SAMPLES.iter().map(|s| s.2).find(|file| stem(file) == name) else { return };
    spawn_local(async move {
        match dom::fetch_file(&format!("samples/{file}"), file).await {
            Ok(content) => {
                app.is_sample(name, content.clone());
                app.open(js_sys::Array::of1(&content));
            }
            Err(why) => app.fail(format!("The sample {file} cannot be fetched ({why}); load the page again.")),
        }
    });
}

/// Opens the sample that the walk goes through.
pub fn open_that_of_the_walk(app: App) {
    open(app, stem(OF_THE_WALK));
}

/// A button per sample.
#[component]
pub fn Samples(app: App) -> impl IntoView {
    view! {
        <div class="samples" role="group" aria-labelledby="samples-title">
            <span id="samples-title">"or try a sample"</span>
            {SAMPLES
                .map(|(hook, name, file)| view! {
                    <button type="button" class="button" data-testid=hook on:click=move |_| open(app, stem(file))>{name}</button>
                })
                .collect_view()}
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_known_by_their_files() {
        for (_, _, file) in SAMPLES {
            assert!(known(stem(file)).is_some() && is_sample(file), "{file}");
        }
        assert_eq!((known("vgg"), known("resnet-digits.onnx"), known("")), (None, None, None));
    }
}
