//! A drawing that follows a dragged slider: elements that the one before had are changed where they differ, and only those that come or go are made. Parsing and styling some
//! hundred elements anew takes a good part of a frame.

use wasm_bindgen::{JsCast, intern};
use web_sys::{Element, Node};

use crate::report::plot::{Change, Replaced, changes};

/// Shows a drawing of [`crate::report::plot`] in an element that shows the one `before`, if any.
pub fn show(host: &Element, before: Option<&str>, now: &str) {
    if before == Some(now) {
        return;
    }
    let changed = before.and_then(|before| changes(before, now)).and_then(|(changes, replaced)| apply(host, &changes, &replaced));
    if changed.is_none() {
        host.set_inner_html(now);
    }
}

/// Changes what is shown; not when that is something else than was thought.
fn apply(host: &Element, changes: &[Change], replaced: &[Replaced]) -> Option<()> {
    let svg = host.first_element_child()?;
    let shown = svg.children();
    for change in changes {
        let element = shown.item(u32::try_from(change.element).ok()?)?;
        match change.attribute {
            // Some dozen names, thousands of times.
            Some(name) => element.set_attribute(intern(name), change.value).ok()?,
            None => element.unchecked_ref::<Node>().set_text_content(Some(change.value)),
        }
    }
    // Positions are those before: the last first.
    for &Replaced { at, count, svg: new } in replaced.iter().rev() {
        let at = u32::try_from(at).ok()?;
        for _ in 0..count {
            shown.item(at)?.remove();
        }
        match shown.item(at) {
            Some(next) => next.insert_adjacent_html("beforebegin", new).ok()?,
            None => svg.insert_adjacent_html("beforeend", new).ok()?,
        }
    }
    Some(())
}
