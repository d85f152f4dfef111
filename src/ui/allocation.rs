//! Bits per layer, as bars. The table below says the same in words and numbers.

use leptos::{html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{Element, PointerEvent};

use super::{
    dom,
    downloads::{Chart, ChartButtons},
    format, redraw,
    state::App,
    term::Term,
};
use crate::report::plot::{BarFrame, Palette, allocation_svg};

/// Height of the chart in CSS pixels.
const HEIGHT: u32 = 240;

/// The bars.
#[component]
pub fn Allocation(app: App) -> impl IntoView {
    let host: NodeRef<html::Div> = NodeRef::new();
    let measured = dom::size_of(host);
    // The height is given, so that bars are drawn once, not again when the drawing has made its room.
    let size = move || (measured.get().0, HEIGHT);
    let (late, canvas) = (app.late_allocation(host), NodeRef::<html::Div>::new());
    Effect::new(move |shown: Option<Option<String>>| {
        let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
        let now = match late.get() {
            Some(a) if size().0 > 0 => allocation_svg(&a, size(), &palette.transparent()),
            _ => String::new(),
        };
        let canvas = canvas.get()?;
        redraw::show(&canvas, shown.flatten().as_deref(), &now);
        Some(now)
    });
    let bars = move || BarFrame::new(app.allocation.with(|a| a.as_ref().map_or(0, |a| a.layers.len())), size());

    let (hovered, set_hovered) = signal(None::<usize>);
    let picked = move || hovered.get().or_else(|| app.selected.get());
    let moved = move |e: PointerEvent| {
        if let Some(element) = e.current_target().and_then(|t| t.dyn_into::<Element>().ok()) {
            let x = e.client_x() as f64 - element.get_bounding_client_rect().left();
            set_hovered.set(bars().at(x));
        }
    };
    // A layer that is chosen here is chosen in the table and in figures; those without a pointer choose it there.
    let chosen = move |e: PointerEvent| {
        moved(e);
        if let Some(layer) = hovered.get_untracked() {
            app.selected.set(Some(layer));
        }
    };
    let column = move || picked().map(|i| bars().slot(i));
    let words = move || {
        let i = picked()?;
        app.allocation.with(|a| {
            let a = a.as_ref()?;
            a.layers.get(i).map(|l| format!("{} · {}", i + 1, format::layer(l, a.measure)))
        })
    };
    let label = move || {
        let n = app.allocation.with(|a| a.as_ref().map_or(0, |a| a.layers.len()));
        format!("Bits per weight of {}, as bars. The table below has the same values.", format::count(n, "layer"))
    };
    view! {
        <section class="card" data-part="bars" aria-labelledby="allocation-title">
            <div class="head">
                <h2 id="allocation-title"><Term key="bits-per-weight">"Bits"</Term>" per layer"</h2>
                <ChartButtons app chart=Chart::Allocation/>
            </div>
            <div class="plot" data-testid="allocation-chart" node_ref=host on:pointermove=moved on:pointerdown=chosen
                on:pointerleave=move |_| set_hovered.set(None) style:height=format!("{HEIGHT}px")>
                <div class="drawing" role="img" aria-label=label node_ref=canvas></div>
                <div class="column" class:shown=move || column().is_some() style:left=move || column().map(|c| format!("{}px", c.0))
                    style:width=move || column().map(|c| format!("{}px", c.1 - c.0))></div>
            </div>
            <p class="hint">{move || words().unwrap_or_else(|| "Point at a bar to see its layer. The dashed line is the mean rate.".into())}</p>
        </section>
    }
}
