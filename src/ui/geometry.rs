//! Cells of KLT and ELT in two dimensions: sliders, and handles in the plane, change weights and sensitivity; the figure follows frame by frame.

use std::sync::Arc;

use leptos::{html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{Element, PointerEvent};

use super::{
    dom,
    figures::{Numbers, save},
    format,
    state::App,
};
use crate::report::{
    figure::{Chart, Content, Figure},
    geometry::{ANGLES, CORRELATIONS, Plane, RATIOS},
    plane::bits_saved,
    plot::{
        Palette,
        figure::{ChartFrame, panel_svg},
    },
};

/// Greatest height of a plane, in CSS pixels.
const HEIGHT: u32 = 420;

/// A handle: where it is, and what dragging it to a point makes of the plane.
type Handle = (&'static str, fn(&Plane) -> [f64; 2], fn(Plane, [f64; 2]) -> Plane);

/// They are there for the pointer alone: the sliders do the same.
const HANDLES: [Handle; 2] = [("weights", Plane::weights_end, Plane::with_weights_end), ("cost", Plane::cost_end, Plane::with_cost_end)];

/// The panel.
#[component]
pub fn GeometryPanel(app: App) -> impl IntoView {
    let plane = app.plane;
    let figure = Memo::new(move |_| Arc::new(plane.get().figure()));
    let gains = move || {
        let [klt, elt] = plane.get().gains();
        let words = |name: &str, db: f64| {
            format!("{name}: {} dB, {} bits per weight", format::plain(db, 2), format::plain(bits_saved(db), 2)).replace('-', "\u{2212}")
        };
        format!("Coding gains over no transform. {}. {}.", words("KLT", klt), words("ELT", elt))
    };
    let saves = ["SVG", "PNG", "CSV"].map(|kind| {
        view! {
            <button type="button" class="button small" data-testid=format!("geometry-save-{}", kind.to_lowercase())
                aria-label=format!("Save the geometry as {kind}") on:click=move |_| save(app, figure.get_untracked(), None, kind)>{kind}</button>
        }
    });
    view! {
        <section class="card paper-figures geometry" data-part="geometry" aria-labelledby="geometry-title" data-testid="geometry">
            <div class="head"><h2 id="geometry-title">"Geometry of cells"</h2><div class="chart-buttons">{saves.collect_view()}</div></div>
            <div class="geometry-sliders">
                <Slider name="correlation" label="Correlation of two weights" unit="" bounds=CORRELATIONS step="0.01"
                    value=Signal::derive(move || plane.get().correlation) set=move |v| plane.update(|p| p.correlation = v)/>
                <Slider name="sensitivity" label="Sensitivity: how many times more errors cost in one direction" unit="times" bounds=RATIOS step="0.1"
                    value=Signal::derive(move || plane.get().ratio) set=move |v| plane.update(|p| p.ratio = v)/>
                <Slider name="angle" label="Angle of that direction" unit="degrees" bounds=ANGLES step="1"
                    value=Signal::derive(move || plane.get().angle) set=move |v| plane.update(|p| p.angle = v)/>
            </div>
            <p class="state-line" role="status" data-testid="geometry-gains">{gains}</p>
            <div class="figure-panels"><PlaneView app plane figure panel=0/><PlaneView app plane figure panel=1/></div>
            <p class="hint">{move || figure.with(|f| format!("{} ({})", f.caption, f.source))}</p>
            <Numbers figure=Signal::derive(move || Some(figure.get()))/>
        </section>
    }
}

/// A slider with its number.
#[component]
fn Slider(
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    bounds: [f64; 2],
    step: &'static str,
    value: Signal<f64>,
    set: impl Fn(f64) + 'static,
) -> impl IntoView {
    let words = move || format!("{} {unit}", format::plain(value.get(), 2)).trim_end().replace('-', "\u{2212}");
    view! {
        <label class="geometry-slider">
            <span>{label}": "<b>{words}</b></span>
            <input class="slider" type="range" data-testid=format!("geometry-{name}") min=bounds[0].to_string() max=bounds[1].to_string() step=step
                aria-valuetext=words prop:value=move || format::plain(value.get(), 2)
                on:input:target=move |e| if let Ok(v) = e.target().value().parse() { set(v) }/>
        </label>
    }
}

/// One of the two planes.
#[component]
fn PlaneView(app: App, plane: RwSignal<Plane>, figure: Memo<Arc<Figure>>, panel: usize) -> impl IntoView {
    let host: NodeRef<html::Div> = NodeRef::new();
    let measured = dom::size_of(host);
    let size = Memo::new(move |_| {
        let width = measured.get().0;
        (width, width.clamp(260, HEIGHT))
    });
    let drawing = move || {
        let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
        if size.get().0 > 0 { figure.with(|f| panel_svg(&f.panels[panel], size.get(), &palette.transparent())) } else { String::new() }
    };
    let frame = move || {
        figure.with(|f| match &f.panels[panel].content {
            Content::Chart(chart) => ChartFrame::new(chart, size.get()),
            Content::Picture(_) => ChartFrame::new(&Chart::default(), size.get()),
        })
    };
    let dragged = move |e: &PointerEvent, to: fn(Plane, [f64; 2]) -> Plane| {
        let Some(element) = host.get_untracked() else { return };
        let corner = element.get_bounding_client_rect();
        let point = untrack(frame).from_px((f64::from(e.client_x()) - corner.left(), f64::from(e.client_y()) - corner.top()));
        plane.update(|p| *p = to(*p, point));
    };
    let handles = HANDLES.map(|(name, end, to)| {
        let at = Memo::new(move |_| frame().to_px(end(&plane.get())));
        view! {
            <span class="geometry-handle" class:of-cost=move || name == "cost" aria-hidden="true" data-testid=format!("geometry-handle-{name}-{panel}")
                style:left=move || format!("{}px", at.get().0) style:top=move || format!("{}px", at.get().1)
                on:pointerdown=move |e| {
                    if let Some(element) = e.current_target().and_then(|t| t.dyn_into::<Element>().ok()) {
                        // A pointer that is gone already cannot be captured.
                        let _ = element.set_pointer_capture(e.pointer_id());
                    }
                    e.prevent_default();
                }
                on:pointermove=move |e| if e.buttons() & 1 != 0 { dragged(&e, to) }></span>
        }
    });
    let name = move || figure.with(|f| f.panels[panel].name.clone());
    let label =
        move || format!("{}. Ellipses of the weights and of errors of equal cost, and the cells. The table below has the numbers.", name());
    view! {
        <div class="figure-panel">
            <h3>{name}</h3>
            <div class="plot" node_ref=host style:height=move || format!("{}px", size.get().1)>
                <div class="drawing" role="img" aria-label=label inner_html=drawing></div>
                {handles.collect_view()}
            </div>
        </div>
    }
}
