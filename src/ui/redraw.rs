//! A drawing that follows a dragged slider: where the one before had the same elements, only what differs is changed. Parsing and styling some hundred elements anew takes a good part of a frame.

use wasm_bindgen::JsCast;
use web_sys::Element;

use crate::report::plot::{Change, changes};

/// Shows a drawing of [`crate::report::plot`] in an element that shows the one `before`, if any.
pub fn show(host: &Element, before: Option<&str>, now: &str) {
    if before == Some(now) {
        return;
    }
    let changed = before.and_then(|before| changes(before, now)).is_some_and(|changes| apply(host, &changes));
    if !changed {
        host.set_inner_html(now);
    }
}

/// Changes what is shown; not when that is something else than was thought.
fn apply(host: &Element, changes: &[Change]) -> bool {
    let Some(shown) = host.first_element_child().map(|svg| svg.children()) else { return false };
    changes.iter().all(|change| {
        let Some(element) = shown.item(change.element) else { return false };
        match change.attribute {
            Some(name) => element.set_attribute(name, change.value).is_ok(),
            None => {
                element.unchecked_ref::<web_sys::Node>().set_text_content(Some(change.value));
                true
            }
        }
    })
}
