//! Figures of the paper for the open model: which one is chosen here, the engine makes it, and it is made again when the allocation has changed and rests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leptos::{html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;
use web_sys::{Element, PointerEvent};

use super::{clock::Later, dom, format, state::App};
use crate::{
    report::{
        figure::{Chart, Content, Figure, Panel, Which},
        plot::{
            Palette,
            figure::{ChartFrame, figure_size, figure_svg, panel_svg, picture_head},
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

    /// A figure has come. Reading it has taken some of this frame: it is drawn in another.
    pub(super) fn figure_made(self, number: u32, figure: Result<Figure, String>) {
        self.turns.wait(Box::new(move || {
            // Nobody waits for it where another was asked for by then.
            let slot = self.session.try_update_value(|s| s.figures.waiting.remove(&number)).flatten();
            if let Some(slot) = slot {
                // The place may be gone.
                slot.shown.try_set(Some(figure.map(Arc::new)));
                // Its panels wait in line behind the first of these, and are shown before the second.
                self.turns.wait(Box::new(move || {
                    self.turns.wait(Box::new(move || {
                        slot.busy.try_set(false);
                    }));
                }));
            }
        }));
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
    let waiting = StoredValue::new_local(Later::default());
    let ask = move || {
        let (which, layer) = wanted.get_untracked();
        if app.curves.with_untracked(|c| c.is_some()) {
            app.ask_figure(slot, which, layer);
        }
    };
    Effect::new(move |last: Option<(Which, usize)>| {
        let now = wanted.get();
        let there = app.allocation.with(|a| a.is_some());
        // Another figure at once, the same for another allocation when that rests.
        let rest = if last == Some(now) { REST } else { Duration::ZERO };
        waiting.update_value(|w| if there { w.set(rest, ask) } else { w.stop() });
        now
    });
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
        <section class="card paper-figures" data-part="figures" aria-labelledby="figures-title" data-testid="figures">
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
            <Show when=move || figure.with(|f| f.is_some())><FigureView app figure=figure.into()/></Show>
        </div>
    }
}

/// A figure: its title and caption, its panels, its numbers, and what can be saved of it. Another figure takes its place without the parts being made anew, so that what is open stays
/// open, and what has the focus keeps it.
#[component]
pub fn FigureView(
    app: App,
    figure: Signal<Option<Arc<Figure>>>,
    /// What a saved file is called beside the model; as the figure is if nothing else is said.
    #[prop(optional)]
    saved_as: Option<&'static str>,
) -> impl IntoView {
    let of = move |f: fn(&Figure) -> String| figure.with(|figure| figure.as_deref().map(f)).unwrap_or_default();
    let panels = Memo::new(move |_| figure.with(|f| f.as_ref().map_or(0, |f| f.panels.len())));
    let panel = move |i: usize| Memo::new(move |_| figure.with(|f| f.as_ref().and_then(|f| f.panels.get(i).cloned())).map(Arc::new));
    let button = move |kind: &'static str| {
        let save = move |_| {
            if let Some(figure) = figure.get_untracked() {
                save(app, figure, saved_as, kind);
            }
        };
        view! {
            <button type="button" class="button small" data-testid=format!("figure-save-{}", kind.to_lowercase())
                aria-label=format!("Save the figure as {kind}") on:click=save>{kind}</button>
        }
    };
    view! {
        <figure>
            <div class="head">
                <h3 data-testid="figure-title">{move || of(|f| f.title.clone())}</h3>
                <div class="chart-buttons">{button("SVG")}{button("PNG")}{button("CSV")}</div>
            </div>
            <div class="figure-panels">
                <For each=move || 0..panels.get() key=|i| *i children=move |i| view! { <PanelView app panel=panel(i).into()/> }/>
            </div>
            <figcaption class="hint">{move || of(|f| format!("{} ({})", f.caption, f.source))}</figcaption>
            <Numbers figure/>
        </figure>
    }
}

/// Saves a figure.
pub fn save(app: App, figure: Arc<Figure>, saved_as: Option<&'static str>, kind: &'static str) {
    let model = app.model.with_untracked(|m| m.as_ref().map_or(String::new(), |m| m.name.clone()));
    let stem = model.rsplit_once('.').map_or(model.as_str(), |(stem, _)| stem);
    // A figure of no model has a name of its own.
    let of = if stem.is_empty() || figure.which == Which::Geometry { String::new() } else { format!("{stem}-") };
    let name = format!("{of}{}.{}", saved_as.unwrap_or(figure.which.name()), kind.to_lowercase());
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
        Content::Picture(picture) => {
            let columns = picture.width.max(1);
            let cell = ((f64::from(width) - 16.0) / columns as f64).clamp(0.5, 28.0);
            (26.0 + picture_head(picture, width) + cell * picture.values.len().div_ceil(columns) as f64).clamp(80.0, 640.0) as u32
        }
    }
}

/// A panel, drawn; pointing at it tells a point's numbers, choosing a point chooses its layer.
#[component]
fn PanelView(app: App, panel: Signal<Option<Arc<Panel>>>) -> impl IntoView {
    let host: NodeRef<html::Div> = NodeRef::new();
    let measured = dom::size_of(host);
    let width = Memo::new(move |_| measured.get().0);
    let tall = Memo::new(move |_| panel.with(|p| p.as_ref().map_or(HEIGHT, |p| height(&p.content, width.get().max(1)))));
    let drawing = app.turns.late_drawing(panel, move |panel| {
        let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
        let size = (width.get(), tall.get());
        if size.0 > 0 { panel_svg(panel, size, &palette.transparent()) } else { String::new() }
    });
    // A chart, where it is one, and where its numbers are.
    let chart = move |then: &dyn Fn(&Chart, ChartFrame) -> Option<String>| {
        panel.with(|p| match p.as_ref().map(|p| &p.content) {
            Some(Content::Chart(chart)) => then(chart, ChartFrame::new(chart, (width.get(), tall.get()))),
            _ => None,
        })
    };
    let (pointed, set_pointed) = signal(None::<(usize, usize)>);
    // What was pointed at may be gone.
    Effect::new(move |_| {
        panel.track();
        set_pointed.set(None);
    });
    let at = move |e: &PointerEvent| {
        let element = e.current_target().and_then(|t| t.dyn_into::<Element>().ok())?;
        let corner = element.get_bounding_client_rect();
        let place = (f64::from(e.client_x()) - corner.left(), f64::from(e.client_y()) - corner.top());
        let size = (width.get_untracked(), tall.get_untracked());
        panel.with_untracked(|p| match &p.as_ref()?.content {
            Content::Chart(chart) => ChartFrame::new(chart, size).nearest(chart, place),
            Content::Picture(_) => None,
        })
    };
    let moved = move |e: PointerEvent| {
        let found = at(&e);
        if pointed.get_untracked() != found {
            set_pointed.set(found);
        }
    };
    let chosen = move |e: PointerEvent| {
        let Some((series, point)) = at(&e) else { return };
        let layer = panel.with_untracked(|p| match &p.as_ref()?.content {
            Content::Chart(chart) => chart.series.get(series)?.layer(point),
            Content::Picture(_) => None,
        });
        if layer.is_some() {
            app.selected.set(layer);
        }
    };
    let words = move || pointed.get().and_then(|found| chart(&|chart, _| told(chart, found))).unwrap_or_default();
    let spot = move || {
        pointed.get().and_then(|(s, p)| {
            chart(&|chart, frame| {
                let (x, y) = frame.to_px(*chart.series.get(s)?.points.get(p)?);
                Some(format!("left: {x:.1}px; top: {y:.1}px"))
            })
        })
    };
    let name = Memo::new(move |_| panel.with(|p| p.as_ref().map(|p| p.name.clone())).filter(|name| !name.is_empty()));
    view! {
        <div class="figure-panel">
            {move || name.get().map(|name| view! { <h4>{name}</h4> })}
            <div class="plot" node_ref=host style:height=move || format!("{}px", tall.get()) on:pointermove=moved on:pointerdown=chosen
                on:pointerleave=move |_| set_pointed.set(None)>
                <div class="drawing" role="img" aria-label=move || panel.with(|p| p.as_ref().map(|p| label(p))) inner_html=move || drawing.get()></div>
                {move || spot().map(|style| view! { <span class="spot" aria-hidden="true" style=style></span> })}
            </div>
            <p class="hint told" aria-hidden="true">{words}</p>
        </div>
    }
}

/// What a point says.
fn told(chart: &Chart, (series, point): (usize, usize)) -> Option<String> {
    let series = chart.series.get(series)?;
    let [x, y] = *series.points.get(point)?;
    let name = chart.x.names.get(x.round().max(0.0) as usize);
    let value = |v: f64, unit: &str| format!("{} {unit}", format::plain(v, 3)).replace('-', "\u{2212}");
    let x = name.map_or_else(|| format!("{} {}", chart.x.title, value(x, &chart.x.unit)), String::clone);
    Some(format!("{}: {}, {} {}", series.name, x.trim_end(), chart.y.title, value(y, &chart.y.unit)).trim_end().to_string())
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
pub fn Numbers(figure: Signal<Option<Arc<Figure>>>) -> impl IntoView {
    let (open, set_open) = signal(false);
    let tables = |figure: Arc<Figure>| {
        let panels = figure.panels.iter().map(|panel| {
            let table = panel.table();
            let more = table.rows.len().saturating_sub(LINES);
            let name = if panel.name.is_empty() { figure.title.clone() } else { format!("{}, {}", figure.title, panel.name) };
            let header =
                table.header.into_iter().enumerate().map(|(i, h)| view! { <th scope="col" class:number=(i > 0)>{h}</th> }).collect_view();
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
            {move || open.get().then(|| figure.get().map(tables))}
        </details>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Picture, tests::figure};

    #[test]
    fn points_and_panels_are_told_in_words() {
        let figure = figure();
        let charts: Vec<&Chart> =
            figure.panels.iter().filter_map(|p| if let Content::Chart(c) = &p.content { Some(c) } else { None }).collect();
        assert_eq!(told(charts[0], (1, 1)).as_deref(), Some("ELT: b,\"c\".weight, coding gain \u{2212}6.5 dB"));
        assert_eq!(told(charts[0], (9, 1)), None);
        assert_eq!(told(charts[1], (2, 1)).as_deref(), Some("levels: first weight 0.5, second weight 0.75"));
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
