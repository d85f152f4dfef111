//! Accuracy: images in, the full-precision and the compressed network side by side.

use leptos::prelude::*;

use super::{
    accuracy::{self, Accuracy},
    damage::Damage,
    data_input::DataInput,
    format,
    jobs::Job,
    pictures::Viewer,
    preprocessing::PreprocessingForm,
    state::App,
    status::Doing,
    sweep::MeasuredPanel,
    term::Term,
};
use crate::{
    report::{Evaluation, EvaluationReport, pictures::psnr_words},
    worker::messages::DataUse,
};

/// A row of the readout.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: &'static str,
    name: &'static str,
    /// In the glossary, or nothing.
    term: &'static str,
    hint: &'static str,
    /// Number and words; of the full-precision network and of the compressed one.
    cells: [Option<(f64, String)>; 2],
}

/// The rows there is something in.
fn rows(report: &EvaluationReport) -> Vec<Row> {
    type Cell = fn(&Evaluation) -> Option<(f64, String)>;
    let all: [(&str, &str, &str, Cell); 8] = [
        ("top1", "Top-1 accuracy", "The label is the first choice.", |e| e.top1.map(|v| (v, format::percent(v)))),
        ("top5", "Top-5 accuracy", "The label is among the first five.", |e| e.top5.map(|v| (v, format::percent(v)))),
        ("agreement", "Agreement", "Same first choice as at full precision.", |e| e.agreement.map(|v| (v, format::percent(v)))),
        ("distortion", "Mean squared output error", "Per image, summed over outputs.", |e| {
            e.distortion.map(|v| (v, format::significant(v)))
        }),
        ("sqnr", "SQNR", "Power of the output over that of its error.", |e| match (e.sqnr_db, e.distortion) {
            (None, Some(0.0)) => Some((f64::INFINITY, "exact".into())),
            (sqnr, _) => sqnr.map(|v| (v, format::db(v))),
        }),
        ("psnr", "PSNR", "Of the pictures, against those at full precision.", |e| e.psnr().map(|v| (v, psnr_words(v, 2)))),
        ("images", "Images", "", |e| Some((e.images as f64, format::grouped(e.images as u64)))),
        ("seconds", "Time", "", |e| Some((e.seconds, format::seconds(e.seconds)))),
    ];
    let networks = [report.reference.as_ref(), report.compressed.as_ref()];
    let row = |(key, name, hint, cell): (&'static str, &'static str, &'static str, Cell)| {
        let cells = networks.map(|network| network.and_then(cell));
        let term = match key {
            "top1" => "top-1",
            "top5" => "top-5",
            "distortion" => "output-distortion",
            "images" | "seconds" => "",
            same => same,
        };
        cells.iter().any(Option::is_some).then_some(Row { key, name, term, hint, cells })
    };
    all.into_iter().filter_map(row).collect()
}

/// What the readout says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    NoModel,
    NoImages,
    CannotRun(String),
    Mistake,
    Ready,
    Running,
    Failed(String),
    Done,
    Outdated(&'static str),
}

impl State {
    pub(super) fn key(&self) -> &'static str {
        match self {
            State::NoModel => "no-model",
            State::NoImages => "no-images",
            State::CannotRun(_) => "cannot-run",
            State::Mistake => "mistake",
            State::Ready => "ready",
            State::Running => "running",
            State::Failed(_) => "failed",
            State::Done => "done",
            State::Outdated(_) => "outdated",
        }
    }
    pub(super) fn words(&self) -> String {
        match self {
            State::NoModel => "Open a model, and choose test images, to see what compressing it costs.".into(),
            State::NoImages => "Choose test images to see what compressing this network costs.".into(),
            State::CannotRun(why) => format!("This network cannot be run. {why}"),
            State::Mistake => accuracy::MISTAKE.into(),
            State::Ready => "Ready to run both networks on the test images.".into(),
            State::Running => "The networks are running…".into(),
            State::Failed(why) => format!("Not evaluated. {why}"),
            State::Done => "Measured on the test images, with the weights that a download holds.".into(),
            State::Outdated(what) => format!("Out of date: {what} since. Evaluate again."),
        }
    }
    /// Whether the networks can be run now.
    fn can_run(&self) -> bool {
        matches!(self, State::Ready | State::Failed(_) | State::Done | State::Outdated(_))
    }
}

/// What stands in the way of an evaluation.
pub(super) fn obstacle(has_model: bool, known: Accuracy) -> Option<State> {
    match () {
        _ if !has_model => Some(State::NoModel),
        _ if !known.has_tests() => Some(State::NoImages),
        _ if known.mistake.with(|m| m.is_some()) => Some(State::Mistake),
        // The engine said so of its own guess, not of what the user made of it.
        _ if known.edited.with(|e| e.is_none()) => known.why_not(DataUse::Test).map(State::CannotRun),
        _ => None,
    }
}

/// The panel.
#[component]
pub fn EvaluationPanel(app: App) -> impl IntoView {
    let known = app.accuracy;
    let has_model = Memo::new(move |_| app.model.with(|m| m.is_some()));
    let running = Memo::new(move |_| app.long_job_or_waiting().is_some_and(Job::is_evaluation));
    let outdated = Memo::new(move |_| known.evaluation.with(|e| e.as_ref().and_then(|e| accuracy::outdated(&e.basis, &app.basis(false)))));
    // A result is shown even when it could not be had again.
    let state = Memo::new(move |_| match (known.error.get(), known.evaluation.with(|e| e.is_some())) {
        _ if running.get() => State::Running,
        (Some(why), _) => State::Failed(why),
        (None, true) => outdated.get().map_or(State::Done, State::Outdated),
        (None, false) => obstacle(has_model.get(), known).unwrap_or(State::Ready),
    });
    let can_run = Memo::new(move |_| state.get().can_run() && obstacle(has_model.get(), known).is_none());
    let scenes = Memo::new(move |_| known.pictures.with(|p| p.as_ref().map(|p| p.scenes()).unwrap_or_default()));
    let busy = move || app.long_job.with(|job| job.is_some());
    let is_tq = move || app.is_tq();
    let again = move || known.evaluation.with(|e| e.is_some());
    let in_panel = Memo::new(move |_| app.long_job.with(|job| job.is_some_and(|job| job.is_of_data())));
    view! {
        <section class="card evaluation" data-part="accuracy" data-testid="eval-panel" aria-labelledby="evaluation-title">
            <div class="head">
                <h2 id="evaluation-title">"Accuracy"</h2>
                <p class="hint">"Run the network on your own images, before and after."</p>
            </div>
            <div class="inputs">
                <DataInput app usage=DataUse::Test/>
                <DataInput app usage=DataUse::Calibration/>
            </div>
            <PreprocessingForm app/>
            <div class="actions">
                <button type="button" class="button primary" data-testid="evaluate" disabled=move || busy() || !can_run.get()
                    on:click=move |_| app.evaluate(false)>{move || if again() { "Evaluate again" } else { "Evaluate" }}</button>
                <button type="button" class="button" data-testid="find-damage" disabled=move || busy() || !can_run.get() || is_tq()
                    on:click=move |_| app.evaluate(true)>"Find who did the damage"</button>
                <button type="button" class="button" data-testid="download-evaluation" disabled=move || known.evaluation.with(|e| e.is_none())
                    on:click=move |_| app.save_evaluation()>"Save evaluation (JSON)"</button>
            </div>
            <Show when=move || in_panel.get()><Doing app/></Show>
            <div class="readout" data-testid="accuracy-readout" data-state=move || state.get().key() aria-live="polite">
                <p class="state-line" data-testid="accuracy-state">{move || state.get().words()}</p>
                {move || known.evaluation.get().map(|made| view! { <Readout report=made.result/> })}
            </div>
            <Show when=move || known.pictures.with(|p| p.is_some())><Viewer app id="pictures" scenes/></Show>
            <Damage app/>
            <MeasuredPanel app/>
        </section>
    }
}

/// The table of both networks.
#[component]
fn Readout(report: std::sync::Arc<EvaluationReport>) -> impl IntoView {
    let networks = [("Full precision", report.reference.as_ref()), ("Compressed", report.compressed.as_ref())];
    let there = networks.map(|(_, e)| e.is_some());
    let heads = networks.into_iter().filter_map(|(name, e)| {
        // What was compressed how far; of the other network the name says it all.
        let what = e?.what.clone();
        let what = (!what.eq_ignore_ascii_case(name)).then(|| view! { <small>{what}</small> });
        Some(view! { <th scope="col">{name}{what}</th> })
    });
    let body = rows(&report).into_iter().map(|row| {
        let cells = row.cells.into_iter().zip(there).filter(|(_, there)| *there).map(|(cell, _)| {
            let value = cell.as_ref().map(|(v, _)| v.to_string());
            view! { <td data-value=value>{cell.map_or_else(|| "–".to_string(), |(_, words)| words)}</td> }
        });
        let name = match row.term {
            "" => row.name.into_any(),
            term => view! { <Term key=term>{row.name}</Term> }.into_any(),
        };
        let hint = (!row.hint.is_empty()).then(|| view! { <small>{row.hint}</small> });
        view! { <tr data-row=row.key><th scope="row">{name}{hint}</th>{cells.collect_view()}</tr> }
    });
    view! {
        <table>
            <caption>{format!("On {}: {}", report.data.name, format::images(&report.data))}</caption>
            <thead><tr><td></td>{heads.collect_view()}</tr></thead>
            <tbody>{body.collect_view()}</tbody>
        </table>
        <ul class="notes">{report.notes.iter().map(|n| view! { <li>{n.clone()}</li> }).collect_view()}</ul>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        Channels, DataSummary, Preprocessing,
        pictures::{PictureRange, PictureScore},
    };

    fn evaluation() -> Evaluation {
        Evaluation {
            what: "full precision".into(),
            images: 2000,
            top1: Some(0.8865),
            top5: None,
            agreement: None,
            distortion: None,
            sqnr_db: None,
            psnr_db: None,
            pictures: None,
            seconds: 1.24,
        }
    }

    fn report(reference: Option<Evaluation>, compressed: Option<Evaluation>) -> EvaluationReport {
        let preprocessing = Preprocessing {
            resize: None,
            crop: None,
            channels: Channels::Rgb,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            channels_last: false,
            origin: String::new(),
        };
        let data = DataSummary {
            name: "a.npz".into(),
            several: false,
            format: "npz".into(),
            images: 2000,
            size: [32, 32, 3],
            labelled: true,
            classes: Vec::new(),
            notes: Vec::new(),
        };
        EvaluationReport { data, preprocessing, reference, compressed, damage: Vec::new(), notes: Vec::new() }
    }

    #[test]
    fn only_rows_that_exist_are_shown() {
        let compressed = Evaluation { agreement: Some(0.97), distortion: Some(0.5), sqnr_db: Some(21.26), ..evaluation() };
        let shown = rows(&report(Some(evaluation()), Some(compressed)));
        let keys: Vec<_> = shown.iter().map(|r| r.key).collect();
        assert_eq!(keys, ["top1", "agreement", "distortion", "sqnr", "images", "seconds"]);
        let known = |row: &Row| row.term.is_empty() || crate::ui::glossary::find(row.term).is_some();
        assert!(shown.iter().all(known), "{shown:?}");
        let words = |row: usize, network: usize| shown[row].cells[network].as_ref().map(|c| c.1.as_str());
        assert_eq!([words(0, 0), words(1, 0), words(1, 1)], [Some("88.65 %"), None, Some("97.00 %")]);
        assert_eq!([words(3, 1), words(4, 0), words(5, 0)], [Some("21.3 dB"), Some("2,000"), Some("1.2 s")]);

        let range = PictureRange::of(0.0, 1.0);
        let score = PictureScore { size: [8, 8, 1], range, peak: range.peak(), identical: false };
        let pictures = Evaluation { top1: None, distortion: Some(0.5), psnr_db: Some(38.125), pictures: Some(score), ..evaluation() };
        let exact = PictureScore { identical: true, ..score };
        let exact = Evaluation { psnr_db: None, pictures: Some(exact), ..pictures.clone() };
        for (evaluation, words) in [(pictures, "38.12 dB"), (exact, "identical")] {
            let shown = rows(&report(None, Some(evaluation)));
            let psnr = shown.iter().find(|r| r.key == "psnr").and_then(|r| r.cells[1].clone());
            assert_eq!(psnr.map(|c| c.1).as_deref(), Some(words));
            assert!(shown.iter().all(|r| !["top1", "agreement"].contains(&r.key)), "of pictures they mean nothing");
        }

        let exact = Evaluation { distortion: Some(0.0), top1: None, ..evaluation() };
        let shown = rows(&report(None, Some(exact)));
        let sqnr = shown.iter().find(|r| r.key == "sqnr").and_then(|r| r.cells[1].clone());
        assert_eq!(sqnr.map(|c| c.1), Some("exact".into()), "a copy has no error to speak of in decibels");
        assert!(shown.iter().all(|r| r.cells[0].is_none() && r.key != "top1"));
        assert!(rows(&report(None, None)).is_empty());
    }

    #[test]
    fn every_state_is_a_sentence_and_says_whether_to_go_on() {
        let why = || "a.pth: it holds no graph; open the ONNX file.".to_string();
        for (state, can_run) in [
            (State::NoModel, false),
            (State::NoImages, false),
            (State::CannotRun(why()), false),
            (State::Mistake, false),
            (State::Running, false),
            (State::Ready, true),
            (State::Failed(why()), true),
            (State::Done, true),
            (State::Outdated("the allocation has changed"), true),
        ] {
            assert_eq!(state.can_run(), can_run, "{state:?}");
            assert!(state.words().ends_with(['.', '…']), "{state:?}");
        }
    }
}
