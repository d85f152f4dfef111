//! The rate–distortion curve. plotters draws it; on top lies an SVG with the operating point, which can be dragged and moved
//! by keys, and with the values under the pointer.

use std::sync::Arc;

use leptos::{html, prelude::*, svg};
use wasm_bindgen::JsCast;
use web_sys::{Element, KeyboardEvent, PointerEvent};

use super::{
    dom,
    downloads::{Chart, ChartButtons},
    format,
    state::App,
    term::Term,
};
use crate::report::{
    Budget, RdCurves, RdLine, RdPoint,
    plot::{Frame, Palette, curve_svg},
};

/// Steps of the arrow and page keys, in bits per weight.
const STEP: f64 = 0.05;
const LEAP: f64 = 0.5;

/// The point of a line nearest to a rate.
pub(super) fn nearest(points: &[RdPoint], rate: f64) -> Option<RdPoint> {
    let i = points.partition_point(|p| p.rate < rate);
    let around = [i.checked_sub(1), Some(i)].into_iter().flatten().filter_map(|i| points.get(i));
    around.min_by(|a, b| (a.rate - rate).abs().total_cmp(&(b.rate - rate).abs())).copied()
}

/// Labels and nearest points of all lines.
fn values(curves: &RdCurves, rate: f64) -> Vec<(String, RdPoint)> {
    curves.lines.iter().filter_map(|l| Some((l.label.clone(), nearest(&l.points, rate)?))).filter(|(_, p)| p.db.is_finite()).collect()
}

/// What the drawing shows.
fn words(curves: &RdCurves) -> String {
    let line = |l: &RdLine| match l.label.as_str() {
        "none" => "one line without transform".to_string(),
        "auto" => "one with the best per layer".into(),
        "limit" => "one that no coder can come below".into(),
        transform => format!("one with the {transform}"),
    };
    let lines: Vec<_> = curves.lines.iter().map(line).collect();
    format!("{} in decibels over rate in bits per weight: {}.", format::title(format::distortion(curves.measure)), lines.join(", "))
}

/// The curve.
#[component]
pub fn Curve(app: App) -> impl IntoView {
    let host: NodeRef<html::Div> = NodeRef::new();
    let overlay: NodeRef<svg::Svg> = NodeRef::new();
    let handle: NodeRef<svg::G> = NodeRef::new();
    let size = dom::size_of(host);
    let drawing = Memo::new(move |_| {
        let palette = if app.dark.get() { Palette::DARK } else { Palette::LIGHT };
        let curves = app.curves.get()?;
        (size.get().0 > 0).then(|| curve_svg(&curves, None, size.get(), &palette.transparent()))
    });
    let frame = Memo::new(move |_| drawing.with(|d| d.as_ref().map(|d| d.1)));
    let range = move || app.allocation.with(|a| a.as_ref().map_or((0.0, 8.0), |a| a.rate_range));
    let point = move || app.allocation.with(|a| a.as_ref().map(|a| (a.rate, a.db)));
    let at = Memo::new(move |_| {
        let (f, (rate, db)) = (frame.get()?, point()?);
        (rate.is_finite() && db.is_finite()).then(|| f.to_px(rate, db.clamp(f.db_min, f.db_max)))
    });

    // Moving the operating point is asking for a rate.
    let ask = move |rate: f64| {
        let (least, most) = untrack(range);
        let rate = (rate.clamp(least, most) * 100.0).round() / 100.0;
        app.at_hand.reach();
        app.set(|s| s.budget = Budget::Bits(rate));
    };
    let asked = move || match app.settings.with_untracked(|s| s.budget) {
        Budget::Bits(b) => b,
        _ => untrack(point).map_or(0.0, |p| p.0),
    };
    let (dragging, set_dragging) = signal(false);
    let (hover, set_hover) = signal(None::<f64>);
    let x_of = move |e: &PointerEvent| {
        let element: Element = overlay.get_untracked()?.unchecked_into();
        Some(e.client_x() as f64 - element.get_bounding_client_rect().left())
    };
    let moved = move |e: PointerEvent| {
        let (Some(x), Some(f)) = (x_of(&e), frame.get_untracked()) else { return };
        if dragging.get_untracked() {
            ask(f.rate_at(x));
        }
        set_hover.set((f.left - 12.0..=f.right + 12.0).contains(&x).then(|| f.rate_at(x)));
    };
    let pressed = move |e: PointerEvent| {
        if e.button() != 0 {
            return;
        }
        if let Some(element) = overlay.get_untracked() {
            let element: Element = element.unchecked_into();
            let _ = element.set_pointer_capture(e.pointer_id());
        }
        if let Some(handle) = handle.get_untracked() {
            let _ = handle.focus();
        }
        // Focus goes to the operating point, not to where the browser would put it.
        e.prevent_default();
        set_dragging.set(true);
        app.at_hand.reach();
        moved(e);
    };
    let key = move |e: KeyboardEvent| {
        let (least, most) = untrack(range);
        let rate = match e.key().as_str() {
            "ArrowRight" | "ArrowUp" => asked() + STEP,
            "ArrowLeft" | "ArrowDown" => asked() - STEP,
            "PageUp" => asked() + LEAP,
            "PageDown" => asked() - LEAP,
            "Home" => least,
            "End" => most,
            _ => return,
        };
        e.prevent_default();
        ask(rate);
    };

    let hovered = Memo::new(move |_| {
        let (f, rate) = (frame.get()?, hover.get()?);
        let found = app.curves.with(|c| c.as_ref().map(|c| values(c, rate)))?;
        Some((f.to_px(rate, 0.0).0, f, found))
    });
    let tip = move || {
        hovered.get().map(|(x, f, found)| {
            // Beside the line, on the side that has more room.
            let side = if x > (f.left + f.right) / 2.0 { format!("right:{}px", size.get().0 as f64 - x + 12.0) } else { format!("left:{}px", x + 12.0) };
            let narrow = size.get().0 < 520;
            view! {
                <table class="tip" style=side>
                    <tbody>
                        {found.into_iter().map(|(label, p)| view! {
                            <tr><th>{label}</th><td>{format!("{:.2} bits", p.rate)}</td><td>{format::db(p.db)}</td>{(!narrow).then(|| view! { <td>{format::short_bytes(p.bytes)}</td> })}</tr>
                        }).collect_view()}
                    </tbody>
                </table>
            }
        })
    };
    let valuetext = move || {
        app.allocation.with(|a| {
            a.as_ref().map(|a| {
                let (name, db) = (format::distortion(a.measure), format::db(a.db));
                format!("{:.2} bits per weight, {name} {db}, {}", a.rate, format::bytes(a.bytes))
            })
        })
    };
    let pin = move || at.get().unwrap_or_default();
    let edge = move |f: fn(&Frame) -> f64| move || frame.get().as_ref().map(f).unwrap_or_default();
    let chart = move || {
        view! {
            <div class="plot curve" data-testid="rd-curve" node_ref=host>
                <div class="drawing" role="img" inner_html=move || drawing.with(|d| d.as_ref().map(|d| d.0.clone()).unwrap_or_default())
                    aria-label=move || app.curves.with(|c| c.as_ref().map(|c| words(c)))></div>
                <svg class="overlay" node_ref=overlay class:dragging=dragging on:pointerdown=pressed on:pointermove=moved
                    on:pointerup=move |_| set_dragging.set(false) on:pointercancel=move |_| set_dragging.set(false)
                    on:pointerleave=move |_| set_hover.set(None)>
                    <g class="hover" aria-hidden="true">
                        {move || hovered.get().map(|(x, f, found)| view! {
                            <line x1=x x2=x y1=f.top y2=f.bottom/>
                            {found.into_iter().map(|(_, p)| {
                                let (x, y) = f.to_px(p.rate, p.db);
                                view! { <circle cx=x cy=y r="3.5"/> }
                            }).collect_view()}
                        })}
                    </g>
                    <g class="point" class:hidden=move || at.get().is_none() node_ref=handle data-testid="operating-point" role="slider" tabindex="0"
                        aria-label="Operating point, in bits per weight" aria-orientation="horizontal"
                        aria-valuemin=move || format!("{:.2}", range().0) aria-valuemax=move || format!("{:.2}", range().1)
                        aria-valuenow=move || point().map(|p| format!("{:.2}", p.0)) aria-valuetext=valuetext on:keydown=key
                        on:pointerenter=move |_| app.at_hand.reach() on:focus=move |_| app.at_hand.reach()>
                        <line x1=move || pin().0 x2=move || pin().0 y1=edge(|f| f.top) y2=edge(|f| f.bottom)/>
                        <circle class="reach" cx=move || pin().0 cy=move || pin().1 r="22"/>
                        <circle class="ring" cx=move || pin().0 cy=move || pin().1 r="13"/>
                        <circle class="knob" cx=move || pin().0 cy=move || pin().1 r="8"/>
                    </g>
                </svg>
                {tip}
            </div>
            <p class="hint">"Drag the "<Term key="operating-point">"point"</Term>", or move it with the arrow keys."</p>
            <Numbers app/>
        }
    };
    view! {
        <section class="card curve-card" data-part="curve" aria-labelledby="curve-title">
            <div class="head">
                <h2 id="curve-title"><Term key="rd-curve">"Rate–distortion curve"</Term></h2>
                <ChartButtons app chart=Chart::Curve/>
            </div>
            <Show when=move || app.curves.with(|c| c.is_some()) fallback=|| view! {
                <div class="plot nothing" data-testid="rd-curve">
                    <p>"There is no curve: this file is already compressed, and what it left out is not in it. Open the original model to choose another rate."</p>
                </div>
            }>{chart()}</Show>
        </section>
    }
}

/// The curve's values, for those who do not see it, and for copying.
#[component]
fn Numbers(app: App) -> impl IntoView {
    let (open, set_open) = signal(false);
    let table = move |curves: Arc<RdCurves>| {
        let most = curves.lines.iter().flat_map(|l| l.points.last()).map(|p| p.rate).fold(0.0, f64::max);
        let rows = (0..=(most * 2.0).ceil().min(64.0) as usize).map(|i| {
            let rate = i as f64 / 2.0;
            let cells = curves.lines.iter().map(|l| match nearest(&l.points, rate) {
                Some(p) if (p.rate - rate).abs() <= 0.25 => view! { <td class="number">{format::db(p.db)}</td> },
                _ => view! { <td class="number">{"–".to_string()}</td> },
            });
            view! { <tr><th scope="row" class="number">{format!("{rate:.1}")}</th>{cells.collect_view()}</tr> }
        });
        let name = format!("{} in decibels", format::title(format::distortion(curves.measure)));
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Values of the curve">
                <table aria-label=name>
                    <thead><tr><th scope="col" class="number">"bits per weight"</th>
                        {curves.lines.iter().map(|l| view! { <th scope="col" class="number">{l.label.clone()}</th> }).collect_view()}</tr></thead>
                    <tbody>{rows.collect_view()}</tbody>
                </table>
            </div>
        }
    };
    view! {
        <details on:toggle:target=move |e| set_open.set(e.target().has_attribute("open"))>
            <summary>"Values as a table"</summary>
            {move || open.get().then(|| app.curves.get().map(table))}
        </details>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Measure, plot::tests::curves};

    #[test]
    fn the_nearest_point_is_found_on_both_sides_and_at_both_ends() {
        let curves = curves();
        let points = &curves.lines[0].points;
        for (rate, expected) in [(-1.0, 0.0), (0.04, 0.0), (0.06, 0.1), (3.96, 4.0), (99.0, 8.0)] {
            assert_eq!(nearest(points, rate).unwrap().rate, expected);
        }
        assert_eq!(nearest(&[], 1.0), None);
        let found = values(&curves, 4.0);
        assert_eq!(found.iter().map(|(l, _)| l.as_str()).collect::<Vec<_>>(), ["none", "KLT", "auto"]);
    }

    #[test]
    fn the_words_follow_the_lines_and_the_measure() {
        let mut curves = curves();
        let start = "in decibels over rate in bits per weight: one line without transform, one with the KLT";
        assert_eq!(words(&curves), format!("Distortion {start}, one with the best per layer."));
        curves.measure = Measure::Output;
        curves.lines.insert(2, RdLine { label: "ELT".into(), points: Vec::new() });
        assert_eq!(words(&curves), format!("Output distortion {start}, one with the ELT, one with the best per layer."));
    }
}
