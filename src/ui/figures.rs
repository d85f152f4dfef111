//! Figures of the paper for the open model: which one is chosen here, the engine makes it, and it is made again when the allocation has changed and rests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;
use web_sys::{Element, PointerEvent};

use super::{dom, format, state::App};
use crate::{
    report::{
        figure::{Chart, Content, Figure, Panel, Picture, Which},
        plot::{
            Palette,
            figure::{ChartFrame, figure_size, figure_svg, panel_svg},
        },
    },
    worker::messages::ToEngine,
};

/// Wait for the next change of the allocation.
const REST: Duration = Duration::from_millis(150);
/// Height of a chart, in CSS pixels.
const HEIGHT: u32 = 300;
/// Size of a panel in saved pictures, in pixels.
const PICTURE: (u32, u32) = (960, 420);
/// Most lines of a table that are shown; the CSV has all.
const LINES: usize = 500;

/// A place where a figure is shown: what it asked for, and what came.
#[derive(Clone, Copy)]
pub struct Slot {
    /// The last answer: the figure, or why there is none.
    pub shown: RwSignal<Option<Result<Arc<Figure>, String>>>,
    /// Whether another is on its way.
    pub busy: RwSignal<bool>,
}

/// Figures that were asked for.
#[derive(Default)]
pub(super) struct Figures {
    last: u32,
    waiting: BTreeMap<u32, Slot>,
}

impl App {
    /// Asks for a figure of the open model.
    fn ask_figure(self, slot: Slot, which: Which, layer: usize) {
        let number = self.session.try_update_value(|s| {
            // What was asked for before is out of date.
            s.figures.waiting.retain(|_, waiting| waiting.shown != slot.shown);
            s.figures.last += 1;
            s.figures.waiting.insert(s.figures.last, slot);
            s.figures.last
        });
        if let Some(number) = number {
            slot.busy.set(true);
            self.post(&ToEngine::Figure { number, which, layer });
        }
    }

    /// A figure has come.
    pub(super) fn figure_made(self, number: u32, figure: Result<Figure, String>) {
        let slot = self.session.try_update_value(|s| s.figures.waiting.remove(&number)).flatten();
        if let Some(slot) = slot {
            // The place may be gone.
            slot.busy.try_set(false);
            slot.shown.try_set(Some(figure.map(Arc::new)));
        }
    }

    /// The layer that is picked out, else the first.
    pub fn layer(&self) -> usize {
        self.selected.get().unwrap_or(0)
    }
}

/// A place that shows a figure of a layer, and follows the allocation; made in a component, it ends with it.
pub fn slot(app: App, which: Signal<Which>, layer: Signal<usize>) -> Slot {
    let slot = Slot { shown: RwSignal::new(None), busy: RwSignal::new(false) };
    let wanted = Memo::new(move |_| (which.get(), layer.get()));
    let waiting = StoredValue::new_local(None::<TimeoutHandle>);
    let stop = move || {
        if let Some(before) = waiting.try_update_value(Option::take).flatten() {
            before.clear();
        }
    };
    let ask = move || {
        let (which, layer) = wanted.get_untracked();
        if app.curves.with_untracked(|c| c.is_some()) {
            app.ask_figure(slot, which, layer);
        }
    };
    Effect::new(move |last: Option<(Which, usize)>| {
        let now = wanted.get();
        let there = app.allocation.with(|a| a.is_some());
        stop();
        // Another figure at once, the same for another allocation when that rests.
        let rest = if last == Some(now) { REST } else { Duration::ZERO };
        if there {
            waiting.update_value(|w| *w = set_timeout_with_handle(ask, rest).ok());
        }
        now
    });
    on_cleanup(stop);
    slot
}

/// The panel.
#[component]
pub fn FiguresPanel(app: App) -> impl IntoView {
    let which = app.figure;
    let layers =
        move || app.model.with(|m| m.as_ref().map(|m| m.layers.iter().map(|l| l.name.clone()).collect::<Vec<_>>()).unwrap_or_default());
    let choices = Which::ALL.map(|w| {
        view! {
            <button type="button" class="button small" data-testid=format!("figure-{}", w.name()) aria-pressed=move || (which.get() == w).to_string()
                on:click=move |_| which.set(w)>{w.title()}</button>
        }
    });
    let selected = move |layer: usize| app.selected.get().unwrap_or(0) == layer;
    view! {
        <section class="card figures" aria-labelledby="figures-title" data-testid="figures">
            <div class="head"><h2 id="figures-title">"Figures"</h2></div>
            <div class="figure-choice" role="group" aria-label="Which figure">{choices.collect_view()}</div>
            <label class="figure-layer">"Layer "
                <select data-testid="figure-layer" on:change:target=move |e| app.selected.set(e.target().value().parse().ok())>
                    {move || layers().into_iter().enumerate().map(|(i, name)| view! {
                        <option value=i.to_string() selected=move || selected(i)>{format!("{} · {name}", i + 1)}</option>
                    }).collect_view()}
                </select>
            </label>
            <Show when=move || app.curves.with(|c| c.is_some()) fallback=|| view! {
                <p class="state-line">"A compressed file has no curves, and so no figures; open the original model."</p>
            }>
                <LiveFigure app which=which.into() layer=Signal::derive(move || app.layer())/>
            </Show>
        </section>
    }
}

/// A figure that follows the model, the layer and the allocation.
#[component]
pub fn LiveFigure(app: App, which: Signal<Which>, layer: Signal<usize>) -> impl IntoView {
    let slot = slot(app, which, layer);
    let figure = Memo::new(move |_| slot.shown.with(|s| s.as_ref().and_then(|s| s.as_ref().ok().cloned())));
    let words = move || {
        slot.shown.with(|shown| match shown {
            _ if slot.busy.get() => "Computing the figure…".to_string(),
            Some(Err(why)) => why.clone(),
            Some(Ok(_)) => String::new(),
            None => "The figure comes with the curves.".to_string(),
        })
    };
    let state = move || match (slot.busy.get(), slot.shown.with(|s| s.as_ref().map(|s| s.is_ok()))) {
        (true, _) => "busy",
        (false, Some(true)) => "done",
        (false, Some(false)) => "failed",
        (false, None) => "waiting",
    };
    view! {
        <div class="live-figure" data-testid="live-figure" data-state=state>
            <p class="state-line" role="status">{words}</p>
            {move || figure.get().map(|figure| view! { <FigureView app figure/> })}
        </div>
    }
}

/// A figure: its title and caption, its panels, its numbers, and what can be saved of it.
#[component]
pub fn FigureView(app: App, figure: Arc<Figure>) -> impl IntoView {
    let panels = figure.panels.iter().cloned().map(Arc::new).map(|panel| view! { <PanelView app panel/> }).collect_view();
    let (title, caption, source) = (figure.title.clone(), figure.caption.clone(), figure.source.clone());
    let save = {
        let figure = figure.clone();
        move |kind: &'static str| {
            let figure = figure.clone();
            view! {
                <button type="button" class="button small" data-testid=format!("figure-save-{}", kind.to_lowercase())
                    aria-label=format!("Save the figure as {kind}") on:click=move |_| save(app, figure.clone(), kind)>{kind}</button>
            }
        }
    };
    view! {
        <figure>
            <div class="head">
                <h3 data-testid="figure-title">{title}</h3>
                <div class="chart-buttons">{save("SVG")}{save("PNG")}{save("CSV")}</div>
            </div>
            <div class="figure-panels">{panels}</div>
            <figcaption class="hint">{caption}" ("{source}")"</figcaption>
            <Numbers figure/>
        </figure>
    }
}

/// Saves a figure.
fn save(app: App, figure: Arc<Figure>, kind: &'static str) {
    let model = app.model.with_untracked(|m| m.as_ref().map_or(String::new(), |m| m.name.clone()));
    let stem = model.rsplit_once('.').map_or(model.as_str(), |(stem, _)| stem);
    let name = format!("{stem}-{}.{}", figure.which.name(), kind.to_lowercase());
    let svg = || figure_svg(&figure, PICTURE, &Palette::LIGHT);
    match kind {
        "CSV" => app.save(dom::text_blob(&figure.csv(), "text/csv"), &name),
        "PNG" => {
            let (svg, size) = (svg(), figure_size(&figure, PICTURE));
            spawn_local(async move { app.save(dom::png_of(&svg, size).await, &name) });
        }
        _ => app.save(dom::text_blob(&svg(), "image/svg+xml"), &name),
    }
}

/// Height of a panel of this width, in CSS pixels.
fn height(content: &Content, width: u32) -> u32 {
    match content {
        Content::Chart(chart) if chart.equal => width.clamp(260, 420),
        Content::Chart(_) => HEIGHT,
        Content::Picture(Picture { width: columns, values, .. }) => {
            let columns = (*columns).max(1);
            let cell = ((f64::from(width) - 16.0) / columns as f64).clamp(0.5, 28.0);
            (52.0 + cell * values.len().div_ceil(columns) as f64).clamp(80.0, 640.0) as u32
        }
    }
}

/// A panel, drawn; pointing at it tells a point's numbers, choosing a point chooses its layer.
#[component]
fn PanelView(app: App, panel: Arc<Panel>) -> impl IntoView {
    let host: NodeRef<html::Div> = NodeRef::new();
    let measured = dom::size_of(host);
    let width = Memo::new(move |_| measured.get().0);
    let content = panel.clone();
    let tall = move || height(&content.content, width.get().max(1));
    let drawn = panel.clone();
    let size = {
        let tall = tall.clone();
        move || (width.get(), tall())
    };
    let drawing = {
        let size = size.clone();
        move || {
            let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
            if width.get() > 0 { panel_svg(&drawn, size(), &palette.transparent()) } else { String::new() }
        }
    };
    let (pointed, set_pointed) = signal(None::<(usize, usize)>);
    let at = {
        let (panel, size) = (panel.clone(), size.clone());
        move |e: &PointerEvent| {
            let Content::Chart(chart) = &panel.content else { return None };
            let element = e.current_target().and_then(|t| t.dyn_into::<Element>().ok())?;
            let corner = element.get_bounding_client_rect();
            let place = (f64::from(e.client_x()) - corner.left(), f64::from(e.client_y()) - corner.top());
            ChartFrame::new(chart, untrack(&size)).nearest(chart, place)
        }
    };
    let moved = {
        let at = at.clone();
        move |e: PointerEvent| set_pointed.set(at(&e))
    };
    let chosen = {
        let panel = panel.clone();
        move |e: PointerEvent| {
            if let (Some((series, point)), Content::Chart(chart)) = (at(&e), &panel.content)
                && let Some(layer) = chart.series[series].layer(point)
            {
                app.selected.set(Some(layer));
            }
        }
    };
    let words = {
        let panel = panel.clone();
        move || match (&panel.content, pointed.get()) {
            (Content::Chart(chart), Some(found)) => told(chart, found),
            _ => String::new(),
        }
    };
    let label = label(&panel);
    let spot = {
        let (panel, size) = (panel.clone(), size.clone());
        move || match (&panel.content, pointed.get()) {
            (Content::Chart(chart), Some((s, p))) => Some(ChartFrame::new(chart, size()).to_px(chart.series[s].points[p])),
            _ => None,
        }
    };
    view! {
        <div class="figure-panel">
            {(!panel.name.is_empty()).then(|| view! { <h4>{panel.name.clone()}</h4> })}
            <div class="plot" node_ref=host style:height=move || format!("{}px", tall()) on:pointermove=moved on:pointerdown=chosen
                on:pointerleave=move |_| set_pointed.set(None)>
                <div class="drawing" role="img" aria-label=label inner_html=drawing></div>
                {move || spot().map(|(x, y)| view! { <span class="spot" aria-hidden="true" style:left=format!("{x}px") style:top=format!("{y}px")></span> })}
            </div>
            <p class="hint told" aria-hidden="true">{words}</p>
        </div>
    }
}

/// What a point says.
fn told(chart: &Chart, (series, point): (usize, usize)) -> String {
    let series = &chart.series[series];
    let [x, y] = series.points[point];
    let name = chart.x.names.get(x.round().max(0.0) as usize);
    let value = |v: f64, unit: &str| format!("{} {unit}", format::plain(v, 3)).replace('-', "\u{2212}");
    let x = name.map_or_else(|| format!("{} {}", chart.x.title, value(x, &chart.x.unit)), String::clone);
    format!("{}: {}, {} {}", series.name, x.trim_end(), chart.y.title, value(y, &chart.y.unit)).trim_end().to_string()
}

/// A panel in words, for those who do not see it.
fn label(panel: &Panel) -> String {
    let name = if panel.name.is_empty() { String::new() } else { format!("{}: ", panel.name) };
    match &panel.content {
        Content::Chart(chart) => {
            let series = chart.series.iter().filter(|s| !s.faint).map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
            format!("{name}{} over {}: {series}. The table below has the numbers.", chart.y.words(), chart.x.words())
        }
        Content::Picture(picture) => {
            format!("{name}values as colours, {} down, {} across. The table below has the numbers.", picture.rows, picture.columns)
        }
    }
}

/// The numbers, for those who do not see the figure, and for copying.
#[component]
fn Numbers(figure: Arc<Figure>) -> impl IntoView {
    let (open, set_open) = signal(false);
    let tables = move || {
        let panels = figure.panels.iter().map(|panel| {
            let table = panel.table();
            let more = table.rows.len().saturating_sub(LINES);
            let name = if panel.name.is_empty() { figure.title.clone() } else { format!("{}, {}", figure.title, panel.name) };
            let header = table.header.into_iter().map(|h| view! { <th scope="col">{h}</th> }).collect_view();
            let rows = table.rows.into_iter().take(LINES).map(|row| {
                let mut cells = row.into_iter();
                let first = cells.next().unwrap_or_default();
                view! { <tr><th scope="row">{first}</th>{cells.map(|c| view! { <td class="number">{c}</td> }).collect_view()}</tr> }
            });
            let region = format!("Numbers of {name}");
            view! {
                <div class="scroll" tabindex="0" role="region" aria-label=region>
                    <table aria-label=name><thead><tr>{header}</tr></thead><tbody>{rows.collect_view()}</tbody></table>
                </div>
                {(more > 0).then(|| view! { <p class="hint">{format!("{more} more lines are in the CSV.")}</p> })}
            }
        });
        panels.collect_view()
    };
    view! {
        <details on:toggle:target=move |e| set_open.set(e.target().has_attribute("open"))>
            <summary data-testid="figure-numbers">"Numbers as a table"</summary>
            {move || open.get().then(&tables)}
        </details>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::tests::figure;

    #[test]
    fn points_and_panels_are_told_in_words() {
        let figure = figure();
        let charts: Vec<&Chart> =
            figure.panels.iter().filter_map(|p| if let Content::Chart(c) = &p.content { Some(c) } else { None }).collect();
        assert_eq!(told(charts[0], (1, 1)), "ELT: b,\"c\".weight, coding gain \u{2212}6.5 dB");
        assert_eq!(told(charts[1], (2, 1)), "levels: first weight 0.5, second weight 0.75");
        assert_eq!(label(&figure.panels[1]), "plane: second weight over first weight: cell, levels. The table below has the numbers.");
        assert_eq!(label(&figure.panels[2]), "kernels: values as colours, row down, column across. The table below has the numbers.");
    }

    #[test]
    fn pictures_are_as_high_as_their_cells() {
        let picture = |width: usize, cells: usize| Content::Picture(Picture { width, values: vec![0.0; cells], ..Picture::default() });
        assert_eq!(height(&picture(10, 100), 296), 52 + 280);
        assert!(height(&picture(1000, 10), 300) >= 80 && height(&picture(1, 100_000), 300) <= 640);
    }
}
