//! Every layer as a row: what it is, what it was given, and what the user decides about it.

use std::{cmp::Ordering, sync::Arc};

use leptos::{ev::MouseEvent, html, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::Element;

use super::{
    clock::{Later, next_frame},
    dom, format,
    state::App,
    term::Term,
};
use crate::report::{AllocationReport, LayerRow, recipe::DEEPEST_LOCK};

/// Rows made per frame: a table of hundreds must not hold up the page.
const CHUNK: usize = 10;
/// Wait for the last change before rows change places: they do not jump while a slider is dragged.
const RESORT: std::time::Duration = std::time::Duration::from_millis(250);

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Number,
    Name,
    Shape,
    Weights,
    Transform,
    Bits,
    Bytes,
    Error,
    Gap,
    Lock,
    Exclude,
}

impl Column {
    const ALL: [(Column, &'static str); 11] = [
        (Column::Number, "#"),
        (Column::Name, "Layer"),
        (Column::Shape, "Shape"),
        (Column::Weights, "Weights"),
        (Column::Transform, "Transform"),
        (Column::Bits, "Bits"),
        (Column::Bytes, "Bytes"),
        (Column::Error, "Error"),
        (Column::Gap, "Gap"),
        (Column::Lock, "Lock"),
        (Column::Exclude, "Exclude"),
    ];
    fn is_number(self) -> bool {
        matches!(self, Column::Number | Column::Weights | Column::Bits | Column::Bytes | Column::Error | Column::Gap)
    }
    fn compare(self, a: &LayerRow, b: &LayerRow) -> Ordering {
        match self {
            Column::Number => a.index.cmp(&b.index),
            Column::Name => a.name.cmp(&b.name),
            Column::Shape => a.shape.cmp(&b.shape),
            Column::Weights => a.weights.cmp(&b.weights),
            Column::Transform => (a.transform, a.feedback).cmp(&(b.transform, b.feedback)),
            Column::Bits => a.bits.total_cmp(&b.bits),
            Column::Bytes => a.bytes.cmp(&b.bytes),
            Column::Error => a.error.total_cmp(&b.error),
            Column::Gap => a.gap.partial_cmp(&b.gap).unwrap_or(Ordering::Equal),
            Column::Lock => a.locked.cmp(&b.locked),
            Column::Exclude => a.excluded.cmp(&b.excluded),
        }
    }
}

/// Positions of the rows, sorted; equal rows stay in the model's order.
fn order(rows: &[LayerRow], (column, descending): (Column, bool)) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| {
        let compared = column.compare(&rows[a], &rows[b]);
        if descending { compared.reverse() } else { compared }
    });
    order
}

/// What of a row changes with the budget.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Changing {
    coded_by: &'static str,
    bits: f64,
    bytes: u64,
    error: f64,
    gap: Option<f64>,
    excluded: bool,
}

/// The table.
#[component]
pub fn LayerTable(app: App) -> impl IntoView {
    let sort = RwSignal::new((Column::Number, false));
    let rows = RwSignal::new(Vec::<(u32, usize)>::new());
    let scrolled: NodeRef<html::Div> = NodeRef::new();
    let late = app.late_allocation(scrolled);
    let shown = RwSignal::new(CHUNK);

    let arrange = move || {
        let generation = app.generation.get_untracked();
        let sorted = app.allocation.with_untracked(|a| a.as_ref().map(|a| order(&a.layers, sort.get_untracked()))).unwrap_or_default();
        let sorted: Vec<_> = sorted.into_iter().map(|i| (generation, i)).collect();
        if rows.with_untracked(|r| *r != sorted) {
            rows.set(sorted);
        }
    };
    // At once for a new model or a new order …
    Effect::new(move |_| {
        app.generation.track();
        sort.track();
        arrange();
    });
    Effect::new(move |last: Option<u32>| {
        let generation = app.generation.get();
        if last.is_some_and(|l| l != generation) {
            shown.set(CHUNK);
        }
        generation
    });
    // … and after a while for new values.
    let waiting = StoredValue::new_local(Later::default());
    Effect::new(move |_| {
        app.allocation.track();
        waiting.update_value(|w| w.set(RESORT, arrange));
    });
    // Long tables grow, a chunk per frame.
    Effect::new(move |_| {
        if shown.get() < rows.with(|r| r.len()) {
            next_frame(move || {
                let _ = shown.try_update(|s| *s += CHUNK);
            });
        }
    });
    let visible = move || rows.with(|r| r.iter().take(shown.get()).copied().collect::<Vec<_>>());

    let errors_are = move || app.allocation.with(|a| format::errors_are(a.as_ref().map(|a| a.measure).unwrap_or_default()));
    let headers = Column::ALL.map(|(column, name)| {
        let state = move || match sort.get() {
            (c, true) if c == column => "descending",
            (c, false) if c == column => "ascending",
            _ => "none",
        };
        let clicked = move |_| sort.update(|s| *s = (column, s.0 == column && !s.1));
        view! {
            <th scope="col" role="columnheader" class:number=column.is_number() aria-sort=state>
                <button type="button" on:click=clicked>{name}<span class="arrow" aria-hidden="true"></span></button>
            </th>
        }
    });
    view! {
        <section class="card" data-part="table" aria-labelledby="layers-title">
            <div class="head">
                <h2 id="layers-title">"Layers"</h2>
                <p class="hint"><Term key="lock">"Lock"</Term>" a layer to a "<Term key="depth">"depth"</Term>" in bits, or "<Term key="exclude">"exclude"</Term>" it and it is kept as it is. Errors: "{errors_are}"."</p>
            </div>
            <div class="scroll" tabindex="0" role="region" aria-label="Table of layers" node_ref=scrolled>
                // The style lays rows out by themselves, so that rows out of sight cost nothing; that takes the roles away.
                <table data-testid="layer-table" class="layers" role="table" aria-labelledby="layers-title">
                    <thead role="rowgroup"><tr role="row">{headers.collect_view()}</tr></thead>
                    <tbody role="rowgroup"><For each=visible key=|key| *key children=move |(_, index)| view! { <Row app index late/> }/></tbody>
                </table>
            </div>
        </section>
    }
}

#[component]
fn Row(app: App, index: usize, late: ReadSignal<Option<Arc<AllocationReport>>>) -> impl IntoView {
    let first = app.allocation.with_untracked(|a| a.as_ref().and_then(|a| a.layers.get(index).cloned()));
    let Some(first) = first else { return ().into_any() };
    let now = Memo::new(move |_| {
        late.with(|a| {
            let row = a.as_ref().and_then(|a| a.layers.get(index));
            row.map(|r| Changing {
                coded_by: format::coded_by(r),
                bits: r.bits,
                bytes: r.bytes,
                error: r.error,
                gap: r.gap,
                excluded: r.excluded,
            })
            .unwrap_or_default()
        })
    });
    let fixed = app.is_tq();
    let (lock_name, exclude_name) = (format!("Lock {} to a depth", first.name), format!("Exclude {}", first.name));
    // What a file holds stays; the rest is as it was chosen, here or by undoing, a link or a recipe.
    let locked = Memo::new(move |_| if fixed { first.locked } else { app.locks.with(|l| l.get(&index).copied()) });
    let excluded = Memo::new(move |_| if fixed { first.excluded } else { app.excludes.with(|e| e.contains(&index)) });
    let depth: NodeRef<html::Select> = NodeRef::new();
    Effect::new(move |_| {
        if let Some(depth) = depth.get() {
            depth.set_value(&locked.get().map_or(String::new(), |d| d.to_string()));
        }
    });
    let row: NodeRef<html::Tr> = NodeRef::new();
    let selected = Memo::new(move |_| app.selected.get() == Some(index));
    // Locking and excluding a layer is not picking it.
    let picked = move |e: MouseEvent| {
        let control = e.target().and_then(|t| t.dyn_into::<Element>().ok()).and_then(|t| t.closest("select, input").ok().flatten());
        if control.is_none() {
            app.selected.set(Some(index));
        }
    };
    Effect::new(move |_| {
        if selected.get()
            && let Some(row) = row.get()
        {
            dom::scroll_inside(&row, ".scroll");
        }
    });
    view! {
        // By the pointer; the list of layers beside the figures does the same by the keyboard.
        <tr role="row" node_ref=row on:click=picked class:excluded=move || now.get().excluded class:selected=selected>
            <td role="cell" class="number">{index + 1}</td>
            <th scope="row" role="rowheader" title=first.name.clone()>{first.name.clone()}</th>
            <td role="cell">{format::shape(&first.shape)}</td>
            <td role="cell" class="number">{format::grouped(first.weights)}</td>
            <td role="cell"><span class="transform" data-kind=move || now.get().coded_by>{move || now.get().coded_by}</span></td>
            <td role="cell" class="number">{move || format!("{:.2}", now.get().bits)}</td>
            <td role="cell" class="number">{move || format::grouped(now.get().bytes)}</td>
            <td role="cell" class="number">{move || if now.get().excluded { "exact".into() } else { format::error_db(now.get().error) }}</td>
            <td role="cell" class="number">{move || format::gap(now.get().gap)}</td>
            <td role="cell">
                <select aria-label=lock_name disabled=fixed node_ref=depth on:change:target=move |e| app.lock(index, e.target().value().parse().ok())>
                    <option value="">"–"</option>
                    {(0..=DEEPEST_LOCK).map(|d| view! { <option value=d.to_string()>{d}</option> }).collect_view()}
                </select>
            </td>
            <td role="cell" class="check">
                <input type="checkbox" aria-label=exclude_name disabled=fixed prop:checked=excluded
                    on:change:target=move |e| app.exclude(index, e.target().checked())/>
            </td>
        </tr>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::tests::report;

    #[test]
    fn rows_sort_by_every_column_and_stay_in_order_when_equal() {
        let rows = report(9).layers;
        for (column, _) in Column::ALL {
            for descending in [false, true] {
                let sorted = order(&rows, (column, descending));
                assert_eq!(sorted.len(), 9);
                for pair in sorted.windows(2) {
                    let compared = column.compare(&rows[pair[0]], &rows[pair[1]]);
                    let compared = if descending { compared.reverse() } else { compared };
                    assert!(compared == Ordering::Less || compared == Ordering::Equal && pair[0] < pair[1], "{column:?}");
                }
            }
        }
        assert_eq!(order(&rows, (Column::Number, true)), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
    }
}
