//! Axes to turn by hand: a cloud of pairs, its ellipse, and what a rotation gains. The numbers are [`crate::report::plane`]'s.

use leptos::{prelude::*, svg};
use wasm_bindgen::JsCast;
use web_sys::{Element, PointerEvent};

use crate::{
    report::{
        figure::{Content, Figure, Which},
        plane::{Basis, Moment, bits_saved},
    },
    ui::{figures, format, state::App, term::Term},
};

/// Half the width of what is drawn, in standard deviations.
const REACH: f64 = 3.4;
/// Units of the drawing per standard deviation.
const UNIT: f64 = 50.0;
/// Points of the cloud.
const POINTS: usize = 260;
/// Correlations that can be set: at ±1 the gain has no bound.
const MOST: f64 = 0.95;

/// A point of the plane, in the drawing's units: `y` grows upwards.
fn at((x, y): (f64, f64)) -> (f64, f64) {
    (x * UNIT, -y * UNIT)
}

/// Decibels with two decimals and a true minus sign.
fn fine_db(db: f64) -> String {
    format!("{}{:.2} dB", if db < -0.005 { "\u{2212}" } else { "" }, db.abs())
}

/// An angle in degrees, in (−90, 90]: axes are lines, and turned by half a turn they are themselves.
fn wrapped(degrees: f64) -> f64 {
    let d = degrees.rem_euclid(180.0);
    if d > 90.0 { d - 180.0 } else { d }
}

/// The pairs of weights of a figure, in units in which the product of both variances is 1.
fn pairs(figure: &Figure) -> Option<Vec<(f64, f64)>> {
    let Content::Chart(chart) = &figure.panels.first()?.content else { return None };
    let points: Vec<_> = chart.series.first()?.points.iter().map(|p| (p[0], p[1])).collect();
    let moment = Moment::of(&points);
    let unit = (moment.a * moment.c).powf(0.25);
    (unit > 0.0 && unit.is_finite()).then(|| points.into_iter().map(|(x, y)| (x / unit, y / unit)).collect())
}

/// The figure.
#[component]
pub fn Plane(app: App) -> impl IntoView {
    let slot = figures::slot(app, Signal::stored(Which::Pairs), super::exhibits::largest(app));
    let real = Memo::new(move |_| slot.shown.with(|s| s.as_ref().and_then(|s| s.as_ref().ok().and_then(|f| pairs(f)))));
    // Whether the cloud is of true weights.
    let (of_weights, set_of_weights) = signal(false);
    let cloud_of = Memo::new(move |_| if of_weights.get() { real.get() } else { None });
    let drawing: NodeRef<svg::Svg> = NodeRef::new();
    let rho = RwSignal::new(0.8f64);
    let angle = RwSignal::new(0.0f64);
    let (dragging, set_dragging) = signal(false);
    let weights = Memo::new(move |_| cloud_of.with(|c| c.as_ref().map_or_else(|| Moment::correlated(rho.get()), |c| Moment::of(c))));
    let basis = Memo::new(move |_| Basis::rotation(angle.get().to_radians()));
    let gain = Memo::new(move |_| basis.get().gain_db(&weights.get(), &Moment::WHITE));
    let best = Memo::new(move |_| Basis::klt(&weights.get()).gain_db(&weights.get(), &Moment::WHITE));
    let variances = Memo::new(move |_| basis.get().variances(&weights.get()));

    let cloud = move || {
        let points = cloud_of.get().unwrap_or_else(|| weights.get().cloud(POINTS));
        points.into_iter().map(at).map(|(x, y)| format!("M{x:.1} {y:.1}h0")).collect::<String>()
    };
    let ellipse = move || {
        let points = weights.get().ellipse(2.0, 72).into_iter().map(at);
        points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
    };
    // Along an axis: its whole length, or as far as two standard deviations.
    let along = move |k: usize, length: f64| {
        let [x, y] = basis.get().u[k];
        at((x * length, y * length))
    };
    let axis = move |k: usize| {
        let end = move || along(k, REACH - 0.25);
        let spread = move || along(k, 2.0 * variances.get()[k].sqrt());
        let name = move || along(k, REACH - 0.02);
        let class = if k == 0 { "first" } else { "second" };
        view! {
            <g class=class>
                <line class="axis" x1=move || -end().0 y1=move || -end().1 x2=move || end().0 y2=move || end().1/>
                <line class="spread" x1=move || -spread().0 y1=move || -spread().1 x2=move || spread().0 y2=move || spread().1/>
                <text x=move || name().0 y=move || name().1 text-anchor="middle" dominant-baseline="central">{k + 1}</text>
            </g>
        }
    };
    let turn_to = move |e: &PointerEvent| {
        let Some(element) = drawing.get_untracked() else { return };
        let element: Element = element.unchecked_into();
        let r = element.get_bounding_client_rect();
        let (x, y) = (f64::from(e.client_x()) - r.left() - r.width() / 2.0, r.top() + r.height() / 2.0 - f64::from(e.client_y()));
        if x.hypot(y) > 4.0 {
            angle.set(wrapped(y.atan2(x).to_degrees().round()));
        }
    };
    let pressed = move |e: PointerEvent| {
        if e.button() == 0 {
            if let Some(element) = e.current_target().and_then(|t| t.dyn_into::<Element>().ok()) {
                let _ = element.set_pointer_capture(e.pointer_id());
            }
            set_dragging.set(true);
            turn_to(&e);
        }
    };
    let moved = move |e: PointerEvent| {
        if dragging.get_untracked() {
            turn_to(&e);
        }
    };
    let number = |text: String, signal: RwSignal<f64>| {
        if let Ok(value) = text.parse() {
            signal.set(value);
        }
    };
    let knob = move || along(0, REACH - 0.55);
    let words = move || {
        format!(
            "A cloud of pairs of correlation {}, its ellipse, and two axes turned by {} degrees. Variance along the axes: {:.2} and {:.2}.",
            format::plain(weights.get().correlation(), 2),
            angle.get(),
            variances.get()[0],
            variances.get()[1]
        )
    };
    let frame = {
        let half = REACH * UNIT;
        format!("{} {} {} {}", -half, -half, 2.0 * half, 2.0 * half)
    };
    view! {
        <div class="plane" data-testid="plane">
            <svg viewBox=frame role="img" aria-label=words node_ref=drawing class:dragging=dragging on:pointerdown=pressed on:pointermove=moved
                on:pointerup=move |_| set_dragging.set(false) on:pointercancel=move |_| set_dragging.set(false)>
                <path class="cloud" d=cloud/>
                <polygon class="ellipse" points=ellipse/>
                {axis(1)}{axis(0)}
                <circle class="knob" cx=move || knob().0 cy=move || knob().1 r="11"/>
            </svg>
            <div class="plane-side">
                <div class="field">
                    <label for="plane-angle">"Angle of the axes: "<output>{move || format!("{}°", angle.get()).replace('-', "\u{2212}")}</output></label>
                    <input id="plane-angle" data-testid="plane-angle" class="slider" type="range" min="-90" max="90" step="1"
                        prop:value=move || angle.get().to_string() aria-valuetext=move || format!("{} degrees, coding gain {}", angle.get(), fine_db(gain.get()))
                        on:input:target=move |e| number(e.target().value(), angle)/>
                </div>
                <div class="field" class:off=move || cloud_of.with(|c| c.is_some())>
                    <label for="plane-rho"><Term key="correlation">"Correlation"</Term>": "<output>{move || format!("{:.2}", weights.get().correlation()).replace('-', "\u{2212}")}</output></label>
                    <input id="plane-rho" data-testid="plane-rho" class="slider" type="range" min={(-MOST).to_string()} max={MOST.to_string()} step="0.05"
                        prop:value=move || rho.get().to_string() disabled=move || cloud_of.with(|c| c.is_some())
                        aria-valuetext=move || format!("{:.2}", rho.get())
                        on:input:target=move |e| number(e.target().value(), rho)/>
                </div>
                <dl class="figures">
                    <div><dt>"Variance along axis 1"</dt><dd>{move || format!("{:.2}", variances.get()[0])}</dd></div>
                    <div><dt>"Variance along axis 2"</dt><dd>{move || format!("{:.2}", variances.get()[1])}</dd></div>
                    <div><dt>"Their product, before 1"</dt><dd>{move || format!("{:.2}", variances.get()[0] * variances.get()[1])}</dd></div>
                    <div><dt><Term key="coding-gain">"Coding gain"</Term></dt>
                        <dd class="main" data-testid="plane-gain" data-db=move || gain.get().to_string()>{move || fine_db(gain.get())}</dd></div>
                    <div><dt>"It saves"</dt><dd>{move || format!("{:.2} bits per weight", bits_saved(gain.get()).max(0.0))}</dd></div>
                    <div><dt>"Best of all angles"</dt><dd>{move || fine_db(best.get())}</dd></div>
                </dl>
                <div class="actions">
                    <button type="button" class="button small" data-testid="plane-klt"
                        on:click=move |_| angle.set(wrapped(Basis::klt_angle(&weights.get_untracked()).to_degrees().round()))>"Turn to the best angle"</button>
                    <button type="button" class="button small" data-testid="plane-real" disabled=move || real.with(|r| r.is_none())
                        aria-pressed=move || cloud_of.with(|c| c.is_some()).to_string() on:click=move |_| set_of_weights.update(|r| *r = !*r)>
                        "The pairs of step 1"</button>
                </div>
            </div>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_those_of_lines() {
        for (degrees, expected) in
            [(0.0, 0.0), (45.0, 45.0), (90.0, 90.0), (-90.0, 90.0), (135.0, -45.0), (180.0, 0.0), (-135.0, 45.0), (359.0, -1.0)]
        {
            assert_eq!(wrapped(degrees), expected);
        }
        assert_eq!((fine_db(-0.001), fine_db(2.218), fine_db(-1.0)), ("0.00 dB".into(), "2.22 dB".into(), "\u{2212}1.00 dB".into()));
    }
}
