//! Who did the damage: the error of the output when one layer alone is quantized.

use leptos::prelude::*;

use super::{accuracy, format, state::App};

/// The layers, greatest damage first.
#[component]
pub fn Damage(app: App) -> impl IntoView {
    let damage = app.accuracy.damage;
    let outdated = Memo::new(move |_| damage.with(|d| d.as_ref().and_then(|d| accuracy::outdated(&d.basis, &app.basis(true)))));
    let rows = move || {
        let made = damage.get()?;
        let most = made.result.iter().map(|l| l.share).fold(0.0, f64::max);
        let decides = made.result.iter().any(|l| l.changed.is_some());
        let body = made.result.iter().map(|layer| {
            let index = layer.index;
            let chosen = move || app.selected.get() == Some(index);
            let clicked = move |_| app.selected.update(|s| *s = (*s != Some(index)).then_some(index));
            let width = if most > 0.0 { 100.0 * layer.share / most } else { 0.0 };
            let changed = layer.changed.map(format::percent);
            view! {
                <tr class:selected=chosen>
                    <th scope="row"><button type="button" aria-pressed=move || chosen().to_string() title=layer.name.clone() on:click=clicked>
                        {format!("{} · {}", index + 1, layer.name)}</button></th>
                    <td class="share"><span class="bar" aria-hidden="true"><span style:width=format!("{width:.1}%")></span></span>
                        <span class="number">{format::percent(layer.share)}</span></td>
                    <td class="number">{format::significant(layer.distortion)}</td>
                    {decides.then(|| view! { <td class="number">{changed.unwrap_or_else(|| "–".into())}</td> })}
                </tr>
            }
        });
        Some(view! {
            <div class="damage">
                <h3 id="damage-title">"Who did the damage"</h3>
                <p class="hint">"Error of the output when this layer alone is quantized. Pick a layer to see it among the bars and in the table."</p>
                <p class="wrong" role="status">{move || outdated.get().map(|what| format!("Out of date: {what} since."))}</p>
                <div class="scroll" tabindex="0" role="region" aria-labelledby="damage-title">
                    <table data-testid="damage-list" aria-labelledby="damage-title">
                        <thead><tr>
                            <th scope="col">"Layer"</th><th scope="col">"Share"</th><th scope="col" class="number">"Squared error"</th>
                            {decides.then(|| view! { <th scope="col" class="number">"Decisions changed"</th> })}
                        </tr></thead>
                        <tbody>{body.collect_view()}</tbody>
                    </table>
                </div>
            </div>
        })
    };
    view! { {rows} }
}
