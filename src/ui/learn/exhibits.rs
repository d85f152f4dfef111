//! What the walk's steps show: figures of the open model that follow what is done to them. They are the page's own: a slider here is the page's budget.

use leptos::{html, prelude::*};

use super::{ToGlossary, plane::Plane, steps::Exhibit};
use crate::{
    report::{
        AllocationReport, Budget, Coding, Measure, Method, RdCurves,
        figure::Which,
        plot::{Palette, allocation_svg, curve_svg},
    },
    ui::{
        curve::nearest,
        dom,
        figures::LiveFigure,
        format, samples,
        state::{App, Phase},
        sweep::AccuracyOverRate,
        term::Term,
    },
    worker::messages::DataUse,
};

/// The figure of a step.
pub fn exhibit(app: App, exhibit: Exhibit) -> AnyView {
    let of_model = |view: AnyView| view! { <OfModel app/>{view} }.into_any();
    match exhibit {
        Exhibit::Plane => view! { <Plane app/> }.into_any(),
        Exhibit::Next => of_model(view! { <Next app/> }.into_any()),
        Exhibit::Pairs => of_model(view! { <Pairs app/> }.into_any()),
        Exhibit::Gradients => of_model(view! { <Gradients app/> }.into_any()),
        Exhibit::Curve => of_model(view! { <NextBit app/> }.into_any()),
        Exhibit::Level => of_model(view! { <Level app/> }.into_any()),
        Exhibit::Zeros => of_model(view! { <Zeros app/> }.into_any()),
        Exhibit::Coding => of_model(view! { <Codings app/> }.into_any()),
        Exhibit::Feedback => of_model(view! { <Methods app/> }.into_any()),
        Exhibit::Accuracy => of_model(view! { <Measured app/> }.into_any()),
    }
}

/// Which model figures are of, and what the page is doing with it.
#[component]
fn OfModel(app: App) -> impl IntoView {
    let name = Memo::new(move |_| app.model.with(|m| m.as_ref().map(|m| m.name.clone())));
    let is_sample = move || name.get().is_some_and(|n| n == samples::OF_THE_WALK);
    let words = move || match (name.get(), app.phase.get()) {
        (_, Phase::Failed(why)) => why,
        (_, Phase::Loading | Phase::Working) => app.said.get(),
        (None, _) => "Figures are of a network: none is open.".into(),
        (Some(name), _) => format!("Of {name}, as it is now."),
    };
    view! {
        <div class="of-model">
            <p class="hint">{words}</p>
            <Show when=move || !is_sample() && !app.long_job.with(|j| j.is_some())>
                <button type="button" class="button small" data-testid="walk-sample" on:click=move |_| samples::open_that_of_the_walk(app)>
                    "Use the sample network"</button>
            </Show>
        </div>
    }
}

/// A drawing as wide as there is room.
#[component]
fn Drawn<S, L>(
    app: App,
    /// Draws at a size.
    svg: S,
    /// What it shows, in words.
    label: L,
    #[prop(default = 230)] height: u32,
) -> impl IntoView
where
    S: Fn((u32, u32), &Palette) -> Option<String> + Send + Sync + 'static,
    L: Fn() -> String + Send + Sync + 'static,
{
    let host: NodeRef<html::Div> = NodeRef::new();
    let measured = dom::size_of(host);
    let drawing = move || {
        let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
        let width = measured.get().0;
        (width > 0).then(|| svg((width, height), &palette.transparent())).flatten().unwrap_or_default()
    };
    view! {
        <div class="plot" node_ref=host style:height=format!("{height}px")>
            <div class="drawing" role="img" aria-label=label inner_html=drawing></div>
        </div>
    }
}

/// The curve with the operating point.
#[component]
fn CurveHere(app: App) -> impl IntoView {
    let point = move || app.allocation.with(|a| a.as_ref().map(|a| (a.rate, a.db)));
    let svg = move |size, palette: &Palette| app.curves.with(|c| c.as_ref().map(|c| curve_svg(c, point(), size, palette).0));
    let label = move || match point() {
        Some((rate, db)) => format!("The curve, and the operating point: {rate:.2} bits per weight, {}.", format::db(db)),
        None => "The curve.".into(),
    };
    view! { <Drawn app svg label height=270/> }
}

/// Bits of all layers.
#[component]
fn BarsHere(app: App) -> impl IntoView {
    let svg = move |size, palette: &Palette| app.allocation.with(|a| a.as_ref().map(|a| allocation_svg(a, size, palette)));
    view! { <Drawn app svg label=|| "Bits per weight of every layer, as bars.".to_string()/> }
}

/// The page's budget, as a slider.
#[component]
fn Bits(app: App) -> impl IntoView {
    let slider: NodeRef<html::Input> = NodeRef::new();
    let rate = move || app.allocation.with(|a| a.as_ref().map(|a| a.rate));
    Effect::new(move |_| {
        let (Some(slider), Some((range, rate))) = (slider.get(), app.allocation.with(|a| a.as_ref().map(|a| (a.rate_range, a.rate))))
        else {
            return;
        };
        // Bounds before the value, or the browser cuts it.
        let (least, most) = ((range.0 * 100.0).floor() / 100.0, (range.1 * 100.0).ceil() / 100.0);
        slider.set_min(&format::plain(least, 2));
        slider.set_max(&format::plain(most, 2));
        let asked = match app.settings.with(|s| s.budget) {
            Budget::Bits(bits) => bits,
            _ => rate,
        };
        let value = format::plain(asked.clamp(least, most), 2);
        if slider.value() != value {
            slider.set_value(&value);
        }
    });
    view! {
        <div class="field">
            <label for="walk-bits"><Term key="budget">"Budget"</Term>": "<output>{move || rate().map(|r| format!("{r:.2} bits per weight"))}</output></label>
            <input id="walk-bits" data-testid="walk-bits" class="slider" type="range" step="0.01" node_ref=slider disabled=move || rate().is_none() || app.is_tq()
                aria-valuetext=move || rate().map(|r| format!("{r:.2} bits per weight"))
                on:input:target=move |e| if let Ok(bits) = e.target().value().parse() { app.set(|s| s.budget = Budget::Bits(bits)) }/>
        </div>
    }
}

/// The layer with most weights, the first of several: its figures show most.
pub fn largest(app: App) -> Signal<usize> {
    Memo::new(move |_| {
        app.model.with(|m| {
            let layers = m.as_ref().map(|m| m.layers.as_slice()).unwrap_or_default();
            layers.iter().rev().max_by_key(|l| l.weights).map_or(0, |l| l.index)
        })
    })
    .into()
}

/// One of the page's figures, of the largest layer, or with it picked out.
#[component]
fn OfLargest(app: App, which: Which) -> impl IntoView {
    view! {
        <Show when=move || app.curves.with(|c| c.is_some())>
            <LiveFigure app which=Signal::stored(which) layer=largest(app)/>
        </Show>
    }
}

#[component]
fn Pairs(app: App) -> impl IntoView {
    view! { <OfLargest app which=Which::Pairs/> }
}

/// What a further bit takes away: the rate it starts from, the one it ends at, and decibels.
fn next_bit(curves: &RdCurves, rate: f64) -> Option<(f64, f64, f64)> {
    let auto = curves.lines.iter().find(|l| l.label == "auto")?;
    let (from, to) = (nearest(&auto.points, rate)?, nearest(&auto.points, rate + 1.0)?);
    // Points lie close to each other, but lines end.
    ((to.rate - rate - 1.0).abs() < 0.25 && from.db.is_finite() && to.db.is_finite()).then_some((from.rate, to.rate, from.db - to.db))
}

#[component]
fn NextBit(app: App) -> impl IntoView {
    let bought = Memo::new(move |_| {
        let rate = app.allocation.with(|a| a.as_ref().map(|a| a.rate))?;
        app.curves.with(|c| c.as_ref().and_then(|c| next_bit(c, rate)))
    });
    let words = move || match bought.get() {
        Some((from, to, db)) => {
            format!("From {from:.2} to {to:.2} bits per weight {} are gained, {:.1} dB a bit.", format::db(db), db / (to - from))
        }
        None => "Here the curve ends: choose a smaller budget to see what the next bit buys.".into(),
    };
    view! {
        <CurveHere app/>
        <Bits app/>
        <p data-testid="next-bit" data-db=move || bought.get().map(|b| (b.2 / (b.1 - b.0)).to_string())>{words}</p>
    }
}

/// Least and most bits of the layers that are compressed.
fn span(a: &AllocationReport) -> Option<(f64, f64)> {
    let bits = a.layers.iter().filter(|l| !l.excluded).map(|l| l.bits);
    bits.fold(None, |s, b| Some(s.map_or((b, b), |(least, most): (f64, f64)| (least.min(b), most.max(b)))))
}

#[component]
fn Level(app: App) -> impl IntoView {
    let with = move |f: fn(&AllocationReport) -> Option<String>| app.allocation.with(|a| a.as_deref().and_then(f));
    view! {
        <Bits app/>
        <dl class="figures">
            <div><dt><Term key="water-level">"Water level λ"</Term></dt>
                <dd class="main" data-testid="walk-lambda" data-lambda=move || with(|a| Some(a.lambda.to_string()))>
                    {move || with(|a| Some(format!("{} of distortion per bit", format::significant(a.lambda))))}</dd></div>
            <div><dt>"Bits per weight of layers"</dt><dd>{move || with(|a| span(a).map(|(least, most)| format!("{least:.2} to {most:.2}")))}</dd></div>
            <div><dt><Term key="distortion">"Distortion"</Term></dt><dd>{move || with(|a| Some(format::db(a.db)))}</dd></div>
        </dl>
        <OfLargest app which=Which::Slopes/>
    }
}

/// Blocks without bits, and all.
fn zero_blocks(a: &AllocationReport) -> (usize, usize) {
    let depths = || a.layers.iter().filter(|l| !l.excluded).flat_map(|l| &l.depths);
    (depths().filter(|d| **d == 0).count(), depths().count())
}

#[component]
fn Zeros(app: App) -> impl IntoView {
    let counted = Memo::new(move |_| app.allocation.with(|a| a.as_deref().map(zero_blocks)));
    let words = move || {
        counted.get().map(|(zero, all)| match all {
            0 => {
                "What this network is compressed by now has no blocks of rows: choose the method transform, and fixed lengths.".to_string()
            }
            _ => format!(
                "{} of {} of rows {} no bits: all their rows are zero.",
                format::grouped(zero as u64),
                format::count(all, "block"),
                if zero == 1 { "has" } else { "have" }
            ),
        })
    };
    view! {
        <Bits app/>
        <p data-testid="zero-blocks" data-zero=move || counted.get().map(|c| c.0.to_string())>{words}</p>
        <OfLargest app which=Which::Spectrum/>
        <OfLargest app which=Which::Rows/>
    }
}

/// Loads the digits for calibration, then calibrates on them.
#[component]
fn CalibrateHere(app: App) -> impl IntoView {
    let images = app.accuracy.images(DataUse::Calibration);
    let has_images = Memo::new(move |_| images.with(|i| i.summary.is_some()));
    let wanted = RwSignal::new(false);
    let busy = move || app.long_job.with(|j| j.is_some());
    let of_sample = move || app.model.with(|m| m.as_ref().is_some_and(|m| samples::is_sample(&m.name)));
    // As soon as there are images, and the engine is free.
    Effect::new(move |_| {
        if wanted.get() && has_images.get() && !busy() {
            wanted.set(false);
            app.calibrate();
        }
    });
    let clicked = move |_| {
        if has_images.get_untracked() {
            app.calibrate();
        } else {
            wanted.set(true);
            samples::open_digits(app, DataUse::Calibration);
        }
    };
    let failed = move || app.accuracy.calibration.error.get().or_else(|| images.with(|i| i.error.clone()));
    let words = move || match (app.is_calibrated(), of_sample() || has_images.get()) {
        (true, _) => "Calibrated: distortion is that of the network's output.",
        (false, true) => "Not calibrated: an error counts alike in every layer.",
        (false, false) => "Not calibrated. Choose calibration images under Accuracy first: there are none of ours for this network.",
    };
    view! {
        <div class="actions">
            <Show when=move || !app.is_calibrated() fallback=move || view! {
                <button type="button" class="button" data-testid="walk-forget" disabled=busy on:click=move |_| app.forget_calibration()>"Forget calibration"</button>
            }>
                <button type="button" class="button" data-testid="walk-calibrate"
                    disabled=move || busy() || wanted.get() || app.is_tq() || !(of_sample() || has_images.get()) on:click=clicked>
                    {move || if has_images.get() { "Calibrate" } else { "Calibrate on the digits" }}</button>
            </Show>
        </div>
        <p class="wrong" role="status">{failed}</p>
        <p class="hint">{words}</p>
    }
}

#[component]
fn Gradients(app: App) -> impl IntoView {
    view! {
        <BarsHere app/>
        <CalibrateHere app/>
        <p class="hint">"The bars are the bits of the layers. Watch them move when the network is calibrated, and go back to compare."</p>
    }
}

/// What was seen of a choice.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    rate: f64,
    bytes: u64,
    db: f64,
    measure: Measure,
}

impl Seen {
    fn of(a: &AllocationReport) -> Seen {
        Seen { rate: a.rate, bytes: a.bytes, db: a.db, measure: a.measure }
    }
}

/// Choices side by side: each row is filled when it has been chosen. Values of another measure, or of another model, are forgotten.
#[component]
fn Compare<K>(app: App, rows: Vec<(K, &'static str)>, current: Signal<Option<K>>, caption: &'static str) -> impl IntoView
where
    K: Copy + PartialEq + Send + Sync + 'static,
{
    let seen = RwSignal::new(Vec::<(K, Seen)>::new());
    Effect::new(move |before: Option<u32>| {
        let generation = app.generation.get();
        if before.is_some_and(|b| b != generation) {
            seen.set(Vec::new());
        }
        let now = app.allocation.with(|a| a.as_deref().map(Seen::of));
        if let (Some(key), Some(now)) = (untrack(|| current.get()), now) {
            seen.update(|s| {
                s.retain(|(k, old)| *k != key && old.measure == now.measure);
                s.push((key, now));
            });
        }
        generation
    });
    let body = move || {
        let cell = |key| seen.with(|s| s.iter().find(|(k, _)| *k == key).map(|(_, seen)| *seen));
        let row = |(key, name): (K, &'static str)| {
            let number = |f: fn(&Seen) -> String| view! { <td class="number">{cell(key).as_ref().map_or_else(|| "–".to_string(), f)}</td> };
            view! {
                <tr class:selected=current.get() == Some(key)>
                    <th scope="row">{name}</th>
                    {number(|s| format!("{:.2}", s.rate))}{number(|s| format::grouped(s.bytes))}{number(|s| format::db(s.db))}
                </tr>
            }
        };
        rows.iter().copied().map(row).collect_view()
    };
    view! {
        <table class="compare" data-testid="compare">
            <caption>{caption}</caption>
            <thead><tr><td></td><th scope="col" class="number">"bits per weight"</th><th scope="col" class="number">"bytes"</th><th scope="col" class="number">"distortion"</th></tr></thead>
            <tbody>{body}</tbody>
        </table>
    }
}

/// Coding and method of the allocation that is shown: what was asked for meanwhile is not it.
fn applied(app: App) -> Option<(Coding, Method)> {
    app.allocation.track();
    let choice = app.session.with_value(|s| s.applied.as_ref().map(|a| a.1))?;
    let settings = choice.with(app.calibrated_by());
    (!app.is_tq()).then_some((settings.coding, settings.method))
}

/// Buttons of which one is pressed.
#[component]
fn Pick<K>(
    rows: Vec<(K, &'static str)>,
    now: Signal<Option<K>>,
    pick: Callback<K>,
    label: &'static str,
    hook: &'static str,
    disabled: Signal<bool>,
) -> impl IntoView
where
    K: Copy + PartialEq + Send + Sync + 'static,
{
    let button = move |(key, name): (K, &'static str)| {
        view! {
            <button type="button" class="button" aria-pressed=move || (now.get() == Some(key)).to_string() disabled=disabled on:click=move |_| pick.run(key)>{name}</button>
        }
    };
    view! { <div class="actions pick" role="group" aria-label=label data-testid=hook>{rows.into_iter().map(button).collect_view()}</div> }
}

#[component]
fn Codings(app: App) -> impl IntoView {
    let rows = vec![(Coding::Fixed, "fixed lengths"), (Coding::Entropy, "entropy-coded")];
    let current = Signal::derive(move || applied(app).map(|a| a.0));
    let chosen = Signal::derive(move || Some(app.curve_settings().coding));
    let fed_back = move || app.curve_settings().method == Method::Feedback;
    let disabled = Signal::derive(move || fed_back() || app.is_tq() || app.is_measuring());
    view! {
        <Pick rows=rows.clone() now=chosen pick=Callback::new(move |coding| app.set_coding(coding)) label="Coding" hook="walk-coding" disabled/>
        <Show when=fed_back>
            <p class="hint">"Error feedback is always entropy-coded. "
                <button type="button" class="button small" data-testid="walk-transform" on:click=move |_| app.set_method(Method::Transform)>"Compress by transforms"</button></p>
        </Show>
        <Compare app rows current caption="At the same budget: choose the other, and compare the distortion"/>
        <OfLargest app which=Which::Histogram/>
        <CurveHere app/>
    }
}

#[component]
fn Methods(app: App) -> impl IntoView {
    let rows = vec![(Method::Transform, "transform"), (Method::Feedback, "error feedback")];
    let current = Signal::derive(move || applied(app).map(|a| a.1));
    let chosen = Signal::derive(move || Some(app.curve_settings().method));
    let disabled = Signal::derive(move || !app.is_calibrated() || app.is_tq() || app.is_measuring());
    view! {
        <CurveHere app/>
        <CalibrateHere app/>
        <Pick rows=rows.clone() now=chosen pick=Callback::new(move |method| app.set_method(method)) label="Method" hook="walk-method" disabled/>
        <Compare app rows current caption="At the same budget, output distortion by the model"/>
    }
}

#[component]
fn Measured(app: App) -> impl IntoView {
    let tests = app.accuracy.images(DataUse::Test);
    let has_tests = Memo::new(move |_| tests.with(|i| i.summary.is_some()));
    let busy = move || app.long_job.with(|j| j.is_some());
    let result = move || app.accuracy.evaluation.get();
    let outdated = move || result().and_then(|made| crate::ui::accuracy::outdated(&made.basis, &app.basis(false)));
    let rows = move || {
        let made = result()?;
        let (full, small) = (made.result.reference.clone(), made.result.compressed.clone());
        let percent = |v: Option<f64>| v.map(format::percent);
        let row = |key, name: &'static str, full: Option<String>, small: Option<String>| {
            let value = |v: Option<String>| v.unwrap_or_else(|| "–".into());
            view! { <tr data-row=name><th scope="row"><Term key=key>{name}</Term></th><td class="number">{value(full)}</td><td class="number">{value(small)}</td></tr> }
        };
        let top1 = |e: &Option<crate::report::Evaluation>| percent(e.as_ref().and_then(|e| e.top1));
        let small_of = |f: fn(&crate::report::Evaluation) -> Option<f64>| small.as_ref().and_then(f);
        Some(view! {
            <table class="compare" data-testid="walk-accuracy">
                <caption>{format!("On {}: {}", made.result.data.name, format::images(&made.result.data))}</caption>
                <thead><tr><td></td><th scope="col" class="number">"full precision"</th><th scope="col" class="number">"compressed"</th></tr></thead>
                <tbody>
                    {row("top-1", "top-1 accuracy", top1(&full), top1(&small))}
                    {row("agreement", "agreement", None, percent(small_of(|e| e.agreement)))}
                    {row("sqnr", "SQNR", None, small_of(|e| e.sqnr_db).map(format::db))}
                </tbody>
            </table>
        })
    };
    view! {
        <Bits app/>
        <div class="actions">
            <TestsHere app/>
            <button type="button" class="button" data-testid="walk-evaluate" disabled=move || busy() || !has_tests.get() || app.accuracy.mistake.with(|m| m.is_some())
                on:click=move |_| app.evaluate(false)>{move || if result().is_some() { "Evaluate again" } else { "Evaluate" }}</button>
        </div>
        <p class="wrong" role="status">{move || app.accuracy.error.get().or_else(|| outdated().map(|what| format!("Out of date: {what} since.")))}</p>
        {rows}
        <p class="hint">"The sample comes with one set of 600 images. Calibrated and measured on the same images a network looks a little better than it is: for your own, keep two sets."</p>
    }
}

/// Test images for the sample, where there are none.
#[component]
fn TestsHere(app: App) -> impl IntoView {
    let tests = app.accuracy.images(DataUse::Test);
    let wanted = Memo::new(move |_| {
        app.model.with(|m| m.as_ref().is_some_and(|m| samples::is_sample(&m.name))) && tests.with(|i| i.summary.is_none())
    });
    view! {
        <Show when=move || wanted.get()>
            <button type="button" class="button" data-testid="walk-tests" disabled=move || app.long_job.with(|j| j.is_some())
                on:click=move |_| samples::open_digits(app, DataUse::Test)>"Use the digits test set"</button>
        </Show>
    }
}

/// Where retraining would begin, and where to go from here.
#[component]
fn Next(app: App) -> impl IntoView {
    view! {
        <div class="actions"><TestsHere app/></div>
        <AccuracyOverRate app/>
        <ol class="next">
            <li>"Open your own model: the whole page is a drop zone."</li>
            <li>"Give it calibration images under Accuracy, and calibrate. A few hundred are enough, and they need no labels."</li>
            <li>"Choose a budget on the curve, and evaluate on other images, with labels."</li>
            <li>"Take the compressed file or the decoded model with you, and the command line that makes the same."</li>
        </ol>
        <div class="actions"><ToGlossary/></div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::{curves, report};

    #[test]
    fn the_next_bit_is_read_off_the_line() {
        let (from, to, db) = next_bit(&curves(), 3.02).unwrap();
        assert!((from - 3.0).abs() < 1e-9 && (to - 4.0).abs() < 1e-9 && (db - 6.37).abs() < 1e-9, "{from} {to} {db}");
        assert_eq!(next_bit(&curves(), 7.6), None, "the line ends at 8 bits");
    }

    #[test]
    fn zero_blocks_are_those_of_layers_that_are_compressed() {
        let mut a = report(5);
        a.layers[0].depths = vec![3, 0, 0];
        a.layers[1].depths = vec![0];
        a.layers[3].depths = vec![0, 0];
        assert!(a.layers[3].excluded);
        assert_eq!(zero_blocks(&a), (3, 6));
        let (least, most) = span(&a).unwrap();
        assert!(least < most && most < 32.0, "{least} {most}");
    }
}
