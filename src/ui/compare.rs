//! Two settings side by side: A, which was kept with what came of it, and B, which is what the page shows now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use leptos::prelude::*;

use super::{
    accuracy::outdated,
    check::Checked,
    choices::Choices,
    figures::FigureView,
    format,
    pictures::{Gallery, Scene, Viewer},
    state::{App, Settings},
};
use crate::report::{
    AllocationReport, Budget, EvaluationReport, Method,
    figure::{Axis, Chart, Content, Figure, Panel, Series, Shape, Which},
    pictures::psnr_words,
};

/// Settings, and what came of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    settings: Settings,
    locks: BTreeMap<usize, u8>,
    excludes: BTreeSet<usize>,
    /// What the network was calibrated on, in words.
    calibration: Option<String>,
    allocation: Arc<AllocationReport>,
    /// What the compressed network gave on the images of its calibration.
    check: Option<Arc<Checked>>,
    /// What both networks gave on the test images.
    evaluation: Option<Arc<EvaluationReport>>,
    /// Its pictures, of an image-to-image network.
    pictures: Option<Gallery>,
}

/// A number of both sides.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: &'static str,
    name: String,
    cells: [Option<String>; 2],
    /// B less A, in words with a sign; none where there is nothing to compare.
    difference: Option<String>,
}

impl Side {
    /// The settings in words.
    fn words(&self) -> String {
        let Settings { budget, transform, curves, .. } = self.settings;
        let budget = match budget {
            Budget::Bits(bits) => format!("{} bits per weight", format::plain(bits, 3)),
            Budget::Size(bytes) => format::bytes(bytes),
            Budget::Ratio(ratio) => format!("{} times smaller", format::plain(ratio, 2)),
        };
        let feedback = curves.method == Method::Feedback && self.calibration.is_some();
        let mut words = vec![budget, format!("transform {}", transform.name())];
        if feedback {
            words.push("error feedback".into());
        } else {
            words.push(format!("coding {}", curves.coding.name()));
        }
        words.push(format::count(curves.blocks, "block") + " a layer");
        words.push(self.calibration.as_ref().map_or("not calibrated".into(), |on| format!("calibrated on {on}")));
        if !self.locks.is_empty() {
            words.push(format!("{} locked", format::count(self.locks.len(), "layer")));
        }
        if !self.excludes.is_empty() {
            words.push(format!("{} kept", format::count(self.excludes.len(), "layer")));
        }
        words.join(", ")
    }
}

/// A number with its sign, and a true minus.
fn signed(v: f64, decimals: usize, unit: &str) -> String {
    let digits = format!("{:.decimals$}", v.abs());
    let zero = digits.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if zero {
        "±"
    } else if v < 0.0 {
        "\u{2212}"
    } else {
        "+"
    };
    format!("{sign}{digits} {unit}").trim_end().to_string()
}

/// The numbers of A and B.
fn rows(a: &Side, b: &Side) -> Vec<Row> {
    let sides = [a, b];
    let row =
        |key, name: &str, values: [Option<f64>; 2], words: &dyn Fn(f64) -> String, difference: &dyn Fn(f64, f64) -> Option<String>| Row {
            key,
            name: name.into(),
            cells: values.map(|v| v.map(words)),
            difference: if let [Some(a), Some(b)] = values { difference(a, b) } else { None },
        };
    let allocation = |f: fn(&AllocationReport) -> f64| sides.map(|s| Some(f(&s.allocation)));
    let bytes = |a: f64, b: f64| {
        let grouped = format::grouped((b - a).abs() as u64);
        let sign = if a == b {
            "±"
        } else if b < a {
            "\u{2212}"
        } else {
            "+"
        };
        Some(format!("{sign}{grouped} bytes ({})", signed(100.0 * (b - a) / a.max(1.0), 1, "%")))
    };
    let decibels = |a: f64, b: f64| (a.is_finite() && b.is_finite()).then(|| signed(b - a, 1, "dB"));
    let fine = |a: f64, b: f64| (a.is_finite() && b.is_finite()).then(|| signed(b - a, 2, "dB"));
    let points = |a: f64, b: f64| Some(signed(100.0 * (b - a), 2, "points"));
    let same = |a: bool| move |f: &dyn Fn(f64, f64) -> Option<String>, x, y| if a { f(x, y) } else { None };
    let measure = same(a.allocation.measure == b.allocation.measure);
    let mut rows = vec![
        row("bytes", "Size", allocation(|a| a.bytes as f64), &|v| format::bytes(v as u64), &bytes),
        row("ratio", "Ratio", allocation(|a| a.ratio), &|v| format!("{v:.2}×"), &|a, b| Some(signed(b - a, 2, "×"))),
        row("rate", "Rate", allocation(|a| a.rate), &|v| format!("{v:.2} bits"), &|a, b| Some(signed(b - a, 2, "bits"))),
        row("distortion", "Distortion", allocation(|a| a.db), &format::db, &|a, b| measure(&decibels, a, b)),
    ];
    // Errors measured on the images of the calibration, and on the test images.
    let checks = sides.map(|s| s.check.as_ref().map(|c| &c.report));
    let tests = sides.map(|s| s.evaluation.as_deref());
    for (reports, key, on) in [(checks, "check", "calibration images"), (tests, "test", "test images")] {
        let alike = if let [Some(a), Some(b)] = reports { a.data == b.data && a.preprocessing == b.preprocessing } else { false };
        let alike = same(alike);
        let of = |f: fn(&crate::report::Evaluation) -> Option<f64>| reports.map(|r| r.and_then(|r| r.compressed.as_ref()).and_then(f));
        let keys: [&'static str; 4] = if key == "check" {
            ["check-error", "check-top1", "check-agreement", "check-psnr"]
        } else {
            ["test-error", "test-top1", "test-agreement", "test-psnr"]
        };
        let name = |what: &str| format!("{what}, {on}");
        let exact = |e: &crate::report::Evaluation| match (e.sqnr_db, e.distortion) {
            (None, Some(0.0)) => Some(f64::NEG_INFINITY),
            (sqnr, _) => sqnr.map(|db| -db),
        };
        rows.push(row(keys[0], &name("Output error"), of(exact), &format::db, &|a, b| alike(&decibels, a, b)));
        rows.push(row(keys[1], &name("Top-1"), of(|e| e.top1), &format::percent, &|a, b| alike(&points, a, b)));
        rows.push(row(keys[2], &name("Agreement"), of(|e| e.agreement), &format::percent, &|a, b| alike(&points, a, b)));
        rows.push(row(keys[3], &name("PSNR"), of(|e| e.psnr()), &|db| psnr_words(db, 2), &|a, b| alike(&fine, a, b)));
    }
    rows.retain(|r| r.cells.iter().any(Option::is_some));
    rows
}

/// Pictures of both sides, or why there are none, a sentence; nothing for networks that give no pictures.
fn pictures(a: &Side, b: &Side) -> Option<Result<Vec<Scene>, &'static str>> {
    let inputs = |s: &Side| s.evaluation.as_ref().map(|e| (e.data.clone(), e.preprocessing.clone()));
    Some(match (&a.pictures, &b.pictures) {
        (None, None) => return None,
        (Some(a_pictures), Some(b_pictures)) => {
            let beside = if inputs(a) == inputs(b) { a_pictures.beside(b_pictures) } else { None };
            beside.ok_or("A's pictures are of other images, or of other inputs: evaluate B on the same to see both.")
        }
        (Some(_), None) => Err("Evaluate B, under Accuracy, to see pictures of both."),
        (None, Some(_)) => Err("A was kept before it was evaluated: swap, evaluate, and swap again to see pictures of both."),
    })
}

/// Bits of all layers, as pairs of bars.
fn figure(a: &Side, b: &Side) -> Figure {
    let names = b.allocation.layers.iter().map(|l| l.name.clone()).collect();
    let bars = |name: &str, side: &Side| {
        let points = side.allocation.layers.iter().map(|l| [l.index as f64, l.bits]).collect();
        Series::line(name, points).drawn(Shape::Bars).of(side.allocation.layers.iter().map(|l| l.index).collect())
    };
    let chart =
        Chart { x: Axis::layers(names), y: Axis::new("bits per weight", ""), series: vec![bars("A", a), bars("B", b)], ..Chart::default() };
    Figure {
        // Where it would be asked for; it is made here, of what was kept.
        which: Which::Slopes,
        title: "Bits of every layer, A and B".into(),
        caption: format!("A: {}. B: {}. Side information included.", a.words(), b.words()),
        source: "this page".into(),
        layer: None,
        panels: vec![Panel { name: String::new(), content: Content::Chart(chart) }],
    }
}

impl App {
    /// What the page shows now, with what is known of it.
    fn side(&self) -> Option<Side> {
        let allocation = self.allocation.get()?;
        let known = self.accuracy;
        let check = known.check.with(|c| c.of(&allocation).and_then(|c| c.as_ref().ok().cloned()));
        let made = known.evaluation.get().filter(|made| outdated(&made.basis, &self.basis(false)).is_none());
        let calibration =
            known.calibration.made.get().map(|m| format!("{} of {}", format::count(m.summary.images, "image"), m.summary.data.name));
        Some(Side {
            settings: self.settings.get(),
            locks: self.locks.get(),
            excludes: self.excludes.get(),
            calibration,
            allocation,
            check,
            pictures: if made.is_some() { known.pictures.get() } else { None },
            evaluation: made.map(|m| m.result),
        })
    }

    /// What was kept of the open model.
    fn kept_side(&self) -> Option<Arc<Side>> {
        let generation = self.generation.get();
        self.kept.get().filter(|(of, _)| *of == generation).map(|(_, side)| side)
    }

    fn keep(self) {
        if let Some(side) = untrack(|| self.side()) {
            self.said.set(format!("Kept as A: {}.", side.words()));
            self.kept.set(Some((self.generation.get_untracked(), Arc::new(side))));
        }
    }

    /// A's settings are those of the page again, and what the page showed is A.
    fn swap(self) {
        let (Some(a), Some(b)) = (untrack(|| self.kept_side()), untrack(|| self.side())) else { return };
        let choices = Choices { settings: a.settings, locks: a.locks.clone(), excludes: a.excludes.clone() };
        if let Some(why) = self.obstacle(&choices) {
            return self.said.set(format!("Not swapped. {why}"));
        }
        let other = if a.calibration == b.calibration { "" } else { " The calibration stays what it is now." };
        self.said.set(format!("Swapped: A's settings are in force.{other}"));
        self.kept.set(Some((self.generation.get_untracked(), Arc::new(b))));
        self.noted(|| self.choose(choices));
    }
}

/// The panel.
#[component]
pub fn ComparePanel(app: App) -> impl IntoView {
    let kept = Memo::new(move |_| app.kept_side());
    let now = Memo::new(move |_| app.side());
    let both = Memo::new(move |_| kept.get().zip(now.get()));
    let drawn = Memo::new(move |_| both.get().map(|(a, b)| Arc::new(figure(&a, &b))));
    let shown = Memo::new(move |_| both.get().and_then(|(a, b)| pictures(&a, &b)));
    let scenes = Memo::new(move |_| shown.get().and_then(|s| s.ok()).unwrap_or_default());
    let there = move || kept.with(|k| k.is_some());
    let words = move |side: Option<String>| side.unwrap_or_default();
    view! {
        <section class="card compare" data-part="compare" data-testid="ab" data-kept=move || there().to_string() aria-labelledby="ab-title">
            <div class="head">
                <h2 id="ab-title">"Compare two settings"</h2>
                <div class="chart-buttons">
                    <button type="button" class="button small" data-testid="ab-keep" disabled=move || app.is_tq() || now.with(|n| n.is_none())
                        on:click=move |_| app.keep()>"Keep as A"</button>
                    <Show when=there>
                        <button type="button" class="button small" data-testid="ab-swap" on:click=move |_| app.swap()>"Swap A and B"</button>
                        <button type="button" class="button small" data-testid="ab-forget" on:click=move |_| app.kept.set(None)>"Forget A"</button>
                    </Show>
                </div>
            </div>
            <Show when=there fallback=|| view! {
                <p class="hint">"Keep these settings and what came of them as A, change something, and see both side by side."</p>
            }>
                <dl class="sides">
                    <div><dt>"A, kept"</dt><dd data-testid="ab-a">{move || words(kept.with(|k| k.as_ref().map(|k| k.words())))}</dd></div>
                    <div><dt>"B, now"</dt><dd data-testid="ab-b">{move || words(now.with(|n| n.as_ref().map(|n| n.words())))}</dd></div>
                </dl>
                {move || both.get().map(|(a, b)| view! { <Numbers rows=rows(&a, &b)/> })}
                <p class="fine">"Sizes and distortions before encoding are predicted. Accuracy is shown where it was measured: on the calibration images by itself, on the test images by Evaluate."</p>
                {move || shown.get().and_then(|s| s.err()).map(|why| view! { <p class="hint" data-testid="ab-pictures-why">{why}</p> })}
                <Show when=move || !scenes.with(|s| s.is_empty())><Viewer app id="ab-pictures" scenes/></Show>
                <FigureView app figure=drawn.into() saved_as="comparison"/>
            </Show>
        </section>
    }
}

/// The table.
#[component]
fn Numbers(rows: Vec<Row>) -> impl IntoView {
    let rows = rows.into_iter().map(|row| {
        let cells = row.cells.map(|c| view! { <td class="number">{c.unwrap_or_else(|| "–".into())}</td> });
        view! {
            <tr data-row=row.key><th scope="row">{row.name}</th>{cells.into_iter().collect_view()}<td class="number">{row.difference.unwrap_or_default()}</td></tr>
        }
    });
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Numbers of A and B">
            <table data-testid="ab-table" aria-label="A and B">
                <thead><tr><th scope="col">"of"</th><th scope="col" class="number">"A, kept"</th><th scope="col" class="number">"B, now"</th><th scope="col" class="number">"B \u{2212} A"</th></tr></thead>
                <tbody>{rows.collect_view()}</tbody>
            </table>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Evaluation, Measure, calibration::tests::summary, plot::tests::report};

    fn side(bytes: u64, top1: Option<f64>) -> Side {
        let allocation = AllocationReport {
            bytes,
            rate: bytes as f64 / 1000.0,
            ratio: 8000.0 / bytes as f64,
            db: -20.0 - bytes as f64 / 1000.0,
            ..report(3)
        };
        let found = summary();
        let compressed = |top1: f64| Evaluation {
            what: String::new(),
            images: 100,
            top1: Some(top1),
            top5: None,
            agreement: Some(1.0),
            distortion: Some(0.0),
            sqnr_db: None,
            psnr_db: None,
            pictures: None,
            seconds: 0.0,
        };
        let evaluation = top1.map(|top1| EvaluationReport {
            data: found.data.clone(),
            preprocessing: found.preprocessing.clone(),
            reference: None,
            compressed: Some(compressed(top1)),
            damage: Vec::new(),
            notes: Vec::new(),
        });
        Side {
            settings: Settings::default(),
            locks: BTreeMap::new(),
            excludes: BTreeSet::new(),
            calibration: None,
            allocation: Arc::new(allocation),
            check: None,
            evaluation: evaluation.map(Arc::new),
            pictures: None,
        }
    }

    #[test]
    fn differences_have_signs() {
        let (a, b) = (side(4000, Some(0.96)), side(2000, Some(0.95)));
        let shown = rows(&a, &b);
        let row = |key: &str| shown.iter().find(|r| r.key == key).unwrap_or_else(|| panic!("{key}: {shown:?}"));
        assert_eq!(row("bytes").cells, [Some("4,000 bytes".to_string()), Some("2,000 bytes".into())]);
        assert_eq!(row("bytes").difference.as_deref(), Some("\u{2212}2,000 bytes (\u{2212}50.0 %)"));
        assert_eq!(row("ratio").difference.as_deref(), Some("+2.00 ×"));
        assert_eq!(row("rate").difference.as_deref(), Some("\u{2212}2.00 bits"));
        assert_eq!(row("distortion").difference.as_deref(), Some("+2.0 dB"));
        assert_eq!(row("test-top1").difference.as_deref(), Some("\u{2212}1.00 points"));
        assert_eq!(row("test-agreement").difference.as_deref(), Some("±0.00 points"));
        assert_eq!((row("test-error").cells[0].as_deref(), row("test-error").difference.as_deref()), (Some("exact"), None));
        assert!(shown.iter().all(|r| !r.key.starts_with("check")), "what was not measured is left out");
    }

    #[test]
    fn what_cannot_be_compared_has_no_difference() {
        let (a, mut b) = (side(4000, Some(0.96)), side(2000, None));
        Arc::make_mut(&mut b.allocation).measure = Measure::Output;
        let shown = rows(&a, &b);
        let row = |key: &str| shown.iter().find(|r| r.key == key);
        assert_eq!(row("distortion").map(|r| r.difference.clone()), Some(None), "other distortions");
        assert_eq!(row("test-top1").map(|r| (r.cells[1].clone(), r.difference.clone())), Some((None, None)));
        let mut b = side(2000, Some(0.9));
        Arc::make_mut(b.evaluation.as_mut().unwrap()).data.name = "others.npz".into();
        assert!(rows(&a, &b).iter().find(|r| r.key == "test-top1").is_some_and(|r| r.cells[1].is_some() && r.difference.is_none()));
    }

    #[test]
    fn bars_stand_in_pairs_of_one_layer() {
        let (a, b) = (side(4000, None), side(2000, None));
        let figure = figure(&a, &b);
        let Content::Chart(chart) = &figure.panels[0].content else { panic!("a chart") };
        assert_eq!(chart.series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        assert!(chart.series.iter().all(|s| s.points.len() == 3 && s.layer(2) == Some(2) && s.points[1][0] == 1.0));
        assert_eq!(a.words(), "4 bits per weight, transform auto, coding fixed, 8 blocks a layer, not calibrated");
    }
}
