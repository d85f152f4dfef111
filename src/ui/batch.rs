//! Several models, compressed one after the other with the settings of the page: a list of them, and all results in one archive.

use js_sys::Array;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Blob, File};

use super::{
    dom, format,
    jobs::Job,
    state::{App, CurveChoice},
    status::Track,
};
use crate::{
    report::{
        AllocationSettings, Budget, Coding, TransformChoice,
        batch::{Item, Packed, Progress, csv, unique},
    },
    worker::messages::ToEngine,
};

/// Name of the archive.
const ARCHIVE: &str = "waterfill.zip";
/// Name of the report, beside the archive and in it.
const REPORT: &str = "waterfill.csv";

/// Files of a batch.
#[derive(Default)]
pub(super) struct BatchFiles {
    /// Of each model: an array of its files.
    models: Vec<Array>,
    /// What they were compressed to.
    results: Vec<Option<Blob>>,
    /// Models that the batch that runs was asked for.
    which: Vec<u32>,
}

impl App {
    /// What was chosen are several models, by the places of their files: they are compressed one after the other.
    pub(super) fn several(self, groups: Vec<Vec<u32>>) {
        let names = self.session.try_update_value(|s| {
            let files = s.opening.take().unwrap_or_default();
            let models: Vec<Array> = groups.iter().map(|group| group.iter().map(|&i| files.get(i)).collect()).collect();
            let name = |model: &Array| model.get(0).dyn_into::<File>().map(|f| f.name()).unwrap_or_default();
            let names: Vec<String> = models.iter().map(name).collect();
            s.batch = BatchFiles { results: vec![None; models.len()], models, which: Vec::new() };
            names
        });
        let item = |name: String| Item { name, progress: Progress::Waiting };
        self.batch.set(names.unwrap_or_default().into_iter().map(item).collect());
        self.ask(Job::Batch);
    }

    /// Compresses all of them again, with the settings as they are now.
    fn batch_again(self) {
        self.session.update_value(|s| s.batch.results.iter_mut().for_each(|r| *r = None));
        self.batch.update(|items| items.iter_mut().for_each(|i| i.progress = Progress::Waiting));
        self.ask(Job::Batch);
    }

    /// The request for those that wait.
    pub(super) fn batch_message(&self, job: u32, mut allocation: AllocationSettings, choice: CurveChoice) -> ToEngine {
        let waiting = |(i, item): (usize, &Item)| (item.progress == Progress::Waiting).then_some(i as u32);
        let which: Vec<u32> = self.batch.with_untracked(|items| items.iter().enumerate().filter_map(waiting).collect());
        let groups = self.session.try_update_value(|s| {
            s.batch.which.clone_from(&which);
            s.batch.models.iter().collect::<Array>()
        });
        // Layers are those of one model.
        allocation.locks.clear();
        allocation.excludes.clear();
        let made = self.accuracy.calibration.made.get_untracked();
        let calibration = made.map(|made| (made.wish.settings, choice.with(Some(made.wish.distortion))));
        if calibration.is_none() && allocation.transform.needs_calibration() {
            allocation.transform = TransformChoice::Auto;
        }
        ToEngine::Batch { job, groups: groups.unwrap_or_default(), which, curves: choice.with(None), allocation, calibration }
    }

    /// A model begins, or has ended.
    pub(super) fn batched(self, index: u32, progress: Progress, parts: &Array) {
        let index = index as usize;
        let blob = if let Progress::Done(_) = progress { Some(dom::blob(parts, "application/octet-stream")) } else { None };
        let (result, progress) = match blob {
            None => (None, progress),
            Some(Ok(blob)) => (Some(blob), progress),
            Some(Err(why)) => (None, Progress::Failed(format!("The file cannot be put together: {why}."))),
        };
        self.session.update_value(|s| {
            if let Some(slot) = s.batch.results.get_mut(index) {
                *slot = result;
            }
        });
        self.batch.update(|items| {
            if let Some(item) = items.get_mut(index) {
                item.progress = progress;
            }
        });
    }

    /// All of them have ended.
    pub(super) fn batch_ended(self) {
        self.said.set(self.batch.with_untracked(|items| told(items)));
    }

    /// The batch was stopped: what was being worked on waits again.
    pub(super) fn batch_stopped(self) {
        self.batch
            .update(|items| items.iter_mut().filter(|i| i.progress == Progress::Working).for_each(|i| i.progress = Progress::Waiting));
    }

    /// The batch ended with the engine, or with an error of its own: the model that was being worked on has failed. Whether others wait, and can go on.
    pub(super) fn batch_failed(self, why: &str) -> bool {
        let others = self.batch.try_update(|items| {
            let at = items.iter_mut().find(|i| i.progress == Progress::Working)?;
            at.progress = Progress::Failed(format!("{}: {why}", at.name));
            Some(items.iter().any(|i| i.progress == Progress::Waiting))
        });
        others.flatten() == Some(true)
    }

    /// The request for the archive: all results and the report.
    pub(super) fn pack_message(&self, job: u32) -> ToEngine {
        let items = self.batch.get_untracked();
        let names = file_names(&items);
        let mut files = self.session.with_value(|s| {
            let blob = |i: usize| s.batch.results.get(i).cloned().flatten();
            names.iter().filter_map(|(i, name)| file(&blob(*i)?, name)).collect::<Array>()
        });
        let report = dom::text_blob(&csv(&items), "text/csv").ok().and_then(|blob| file(&blob, REPORT));
        files.extend(report);
        ToEngine::Pack { job, files }
    }

    /// The archive is there.
    pub(super) fn packed(self, parts: &Array) {
        self.save(dom::blob(parts, "application/zip"), ARCHIVE);
    }

    fn save_one(self, index: usize) {
        let names = self.batch.with_untracked(|items| file_names(items));
        let blob = self.session.with_value(|s| s.batch.results.get(index).cloned().flatten());
        if let (Some(blob), Some((_, name))) = (blob, names.into_iter().find(|(i, _)| *i == index)) {
            self.save(Ok(blob), &name);
        }
    }

    /// The list is put away, with what is in it.
    fn close_batch(self) {
        self.session.update_value(|s| s.batch = BatchFiles::default());
        self.batch.set(Vec::new());
    }
}

fn file(blob: &Blob, name: &str) -> Option<File> {
    File::new_with_blob_sequence(&Array::of1(blob), name).ok()
}

/// Names of the files that are there, no two alike, with the places of their models.
fn file_names(items: &[Item]) -> Vec<(usize, String)> {
    let done = |(i, item): (usize, &Item)| if let Progress::Done(p) = &item.progress { Some((i, p.file_name.clone())) } else { None };
    let (places, names): (Vec<usize>, Vec<String>) = items.iter().enumerate().filter_map(done).unzip();
    places.into_iter().zip(unique(&names)).collect()
}

/// So many of each, in words.
fn told(items: &[Item]) -> String {
    let count = |test: fn(&Progress) -> bool| items.iter().filter(|i| test(&i.progress)).count();
    let (done, failed) = (count(|p| matches!(p, Progress::Done(_))), count(|p| matches!(p, Progress::Failed(_))));
    let waiting = items.len() - done - failed;
    let mut words = format!("{} of {} compressed", done, format::count(items.len(), "model"));
    if failed > 0 {
        words += &format!(", {failed} failed");
    }
    if waiting > 0 {
        words += &format!(", {waiting} to go");
    }
    words + "."
}

/// The settings in words.
fn settings_words(app: App) -> String {
    let settings = app.settings.get();
    let budget = match settings.budget {
        Budget::Bits(bits) => format!("{} bits per weight", format::plain(bits, 3)),
        Budget::Size(bytes) => format!("{} each", format::bytes(bytes)),
        Budget::Ratio(ratio) => format!("{} times smaller", format::plain(ratio, 2)),
    };
    let coding = match settings.curves.with(None).coding {
        Coding::Fixed => "",
        Coding::Depths => ", entropy-coded depths",
        Coding::Entropy => ", entropy-coded",
    };
    let calibrated =
        if app.is_calibrated() { "Each is calibrated on the calibration images, where they fit it." } else { "None is calibrated." };
    format!(
        "Now: {budget}, transform {}, {} blocks a layer{coding}. {calibrated} Locked and kept layers are those of the open model, and not of these.",
        settings.transform.name(),
        settings.curves.blocks
    )
}

/// The list, where there is one.
#[component]
pub fn BatchPanel(app: App) -> impl IntoView {
    let there = Memo::new(move |_| app.batch.with(|b| !b.is_empty()));
    let running = Memo::new(move |_| app.long_job.get() == Some(Job::Batch));
    let busy = move || app.long_job.with(|job| job.is_some());
    let any = move |test: fn(&Progress) -> bool| app.batch.with(|b| b.iter().any(|i| test(&i.progress)));
    let done = move || any(|p| matches!(p, Progress::Done(_)));
    let waiting = move || any(|p| *p == Progress::Waiting);
    let count = Memo::new(move |_| app.batch.with(|b| b.len()));
    let state = move || match (running.get(), waiting()) {
        (true, _) => "running",
        (false, true) => "waiting",
        (false, false) => "done",
    };
    view! {
        <Show when=move || there.get()>
            <section class="card batch" data-testid="batch" data-state=state aria-labelledby="batch-title">
                <div class="head">
                    <h2 id="batch-title">"Several models"</h2>
                    <div class="chart-buttons">
                        <button type="button" class="button small" data-testid="batch-close" disabled=move || running.get()
                            on:click=move |_| app.close_batch()>"Put away"</button>
                    </div>
                </div>
                <p class="hint">{move || settings_words(app)}</p>
                <ul>{move || (0..count.get()).map(|index| view! { <Row app index/> }).collect_view()}</ul>
                <p class="state-line" role="status">{move || app.batch.with(|b| told(b))}</p>
                <div class="actions">
                    <button type="button" class="button primary" data-testid="batch-zip" disabled=move || busy() || !done()
                        on:click=move |_| app.ask(Job::Pack)>"Save all (ZIP)"</button>
                    <button type="button" class="button" data-testid="batch-csv" disabled=move || busy() || !done()
                        on:click=move |_| app.save(dom::text_blob(&app.batch.with_untracked(|b| csv(b)), "text/csv"), REPORT)>"Report (CSV)"</button>
                    <Show when=move || !running.get() && waiting()>
                        <button type="button" class="button" data-testid="batch-go-on" disabled=busy on:click=move |_| app.ask(Job::Batch)>"Go on"</button>
                    </Show>
                    <Show when=move || running.get()>
                        <button type="button" class="button" data-testid="batch-cancel" on:click=move |_| app.cancel()>"Stop"</button>
                    </Show>
                    <button type="button" class="button" data-testid="batch-again" disabled=busy on:click=move |_| app.batch_again()>
                        "All again, with these settings"</button>
                </div>
            </section>
        </Show>
    }
}

/// What a compressed model came to, in words.
fn packed_words(p: &Packed) -> String {
    format!(
        "{} → {}: {} times smaller, {:.2} bits per weight, {} {}, in {}",
        format::bytes(p.before),
        format::bytes(p.after),
        format::plain(p.ratio(), 1),
        p.rate,
        format::distortion(p.measure),
        format::db(p.db),
        format::seconds(p.seconds)
    )
}

/// A model.
#[component]
fn Row(app: App, index: usize) -> impl IntoView {
    let item = Memo::new(move |_| app.batch.with(|b| b.get(index).cloned()));
    let name = move || item.with(|i| i.as_ref().map(|i| i.name.clone()).unwrap_or_default());
    let key = move || item.with(|i| i.as_ref().map(|i| i.progress.name()));
    // Its part of the whole bar.
    let percent = move || {
        let fraction = app.progress.with(|p| p.as_ref().map_or(0.0, |p| p.fraction));
        let (place, all) = app.session.with_value(|s| (s.batch.which.iter().position(|w| *w == index as u32), s.batch.which.len()));
        (100.0 * (fraction * all as f64 - place.unwrap_or(0) as f64).clamp(0.0, 1.0)).round()
    };
    let what = move || match item.with(|i| i.as_ref().map(|i| i.progress.clone())) {
        Some(Progress::Working) => view! {
            <Track percent=Signal::derive(move || Some(percent())) label=Signal::derive(move || format!("Progress of {}", name()))/>
        }
        .into_any(),
        Some(Progress::Done(p)) => view! {
            <span class="words">{packed_words(&p)}</span>
            {p.notes.iter().map(|note| view! { <small>{note.clone()}</small> }).collect_view()}
        }
        .into_any(),
        Some(Progress::Failed(why)) => view! { <span class="wrong">{why}</span> }.into_any(),
        Some(Progress::Waiting) | None => view! { <span class="hint">"waits"</span> }.into_any(),
    };
    let is_done = Memo::new(move |_| key() == Some("done"));
    view! {
        <li data-state=key data-name=name>
            <strong>{name}</strong>
            <div class="what">{what}</div>
            <Show when=move || is_done.get()>
                <button type="button" class="button small" data-testid="batch-save" aria-label=move || format!("Save {}, compressed", name())
                    on:click=move |_| app.save_one(index)>"Save"</button>
            </Show>
        </li>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Measure;

    fn done(file_name: &str) -> Progress {
        Progress::Done(Box::new(Packed {
            file_name: file_name.into(),
            before: 107_321,
            after: 10_000,
            layers: 3,
            rate: 2.5,
            db: -21.04,
            measure: Measure::Weights,
            seconds: 0.5,
            notes: Vec::new(),
        }))
    }

    #[test]
    fn a_batch_is_told_in_words() {
        let item = |name: &str, progress| Item { name: name.into(), progress };
        let items = [
            item("a.onnx", done("a.tq")),
            item("a.pth", done("a.tq")),
            item("b", Progress::Failed("b: no.".into())),
            item("c", Progress::Waiting),
        ];
        assert_eq!(told(&items), "2 of 4 models compressed, 1 failed, 1 to go.");
        assert_eq!(told(&items[..1]), "1 of 1 model compressed.");
        assert_eq!(file_names(&items), [(0, "a.tq".to_string()), (1, "a-2.tq".to_string())]);
        let Progress::Done(p) = done("a.tq") else { panic!() };
        assert_eq!(
            packed_words(&p),
            "107,321 bytes → 10,000 bytes: 10.7 times smaller, 2.50 bits per weight, distortion \u{2212}21.0 dB, in 0.5 s"
        );
    }
}
