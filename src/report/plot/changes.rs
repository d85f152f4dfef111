//! What differs between two SVGs of this module that have the same elements: so a page can change those that it shows, and need not make all of them anew.

/// Something that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Position of the element within the root.
    pub element: u32,
    /// The attribute; none where its text differs.
    pub attribute: Option<&'a str>,
    /// What it is now.
    pub value: &'a str,
}

/// What has changed; none if the elements are others, or anything was or is escaped. Drawings of this module have one tag a line, and no elements within elements of the root.
pub fn changes<'a>(before: &str, now: &'a str) -> Option<Vec<Change<'a>>> {
    let (mut before, mut now) = (before.lines(), now.lines());
    // The root: other than that it is another size.
    if before.next() != now.next() {
        return None;
    }
    let (mut changes, mut elements) = (Vec::new(), 0);
    loop {
        let (was, is) = match (before.next(), now.next()) {
            (None, None) => return Some(changes),
            (was, is) => (was?, is?),
        };
        let tag = is.starts_with('<') && !is.starts_with("</");
        elements += u32::from(tag);
        if was == is {
            continue;
        }
        let element = elements.checked_sub(1)?;
        if was.contains('&') || is.contains('&') {
            return None;
        }
        match (was.strip_prefix('<'), is.strip_prefix('<')) {
            (None, None) => changes.push(Change { element, attribute: None, value: is.trim() }),
            (Some(was), Some(is)) if tag => {
                let ((kind, was), (same, is)) = (was.split_once(' ')?, is.split_once(' ')?);
                if kind != same {
                    return None;
                }
                let (mut was, mut is) = (attributes(was), attributes(is));
                loop {
                    match (was.next(), is.next()) {
                        (None, None) => break,
                        (Some((name, was)), Some((same, is))) if name == same => {
                            if was != is {
                                changes.push(Change { element, attribute: Some(same), value: is });
                            }
                        }
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
    }
}

/// Names and values of `a="b" c="d"/>`.
fn attributes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some((name.trim_start(), value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Palette, allocation_svg, tests::report},
        *,
    };
    use crate::report::AllocationReport;

    /// What a page that shows `before` shows once it is changed.
    fn changed(before: &str, changes: &[Change]) -> String {
        let mut element = None::<u32>;
        let mut lines = Vec::new();
        for (i, line) in before.lines().enumerate() {
            let mut line = line.to_string();
            let tag = line.starts_with('<');
            if i > 0 && tag && !line.starts_with("</") {
                element = Some(element.map_or(0, |e| e + 1));
            }
            for change in changes.iter().filter(|c| Some(c.element) == element && c.attribute.is_some() == tag) {
                match change.attribute {
                    None => line = change.value.to_string(),
                    Some(name) => {
                        let start = line.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
                        let end = start + line[start..].find('"').unwrap();
                        line.replace_range(start..end, change.value);
                    }
                }
            }
            lines.push(line);
        }
        lines.join("\n")
    }

    fn drawn(rate: f64, bits: &[f64]) -> String {
        let mut report = AllocationReport { rate, ..report(bits.len()) };
        report.layers.iter_mut().zip(bits).for_each(|(layer, &bits)| layer.bits = bits);
        allocation_svg(&report, (900, 240), &Palette::DARK.transparent())
    }

    #[test]
    fn a_bar_that_grows_is_the_only_change() {
        let (before, now) = (drawn(3.5, &[2.0, 3.0, 7.9, 1.0]), drawn(3.5, &[2.0, 3.5, 7.9, 1.0]));
        let found = changes(&before, &now).unwrap();
        let names: Vec<_> = found.iter().map(|c| c.attribute).collect();
        // The bar, and the mark on it.
        assert!(names.contains(&Some("y")) && names.contains(&Some("height")), "{found:?}");
        assert!(found.len() <= 4, "{found:?}");
        assert_eq!(changed(&before, &found), now.trim_end());
        assert_eq!(changes(&now, &now), Some(Vec::new()));
    }

    #[test]
    fn other_elements_and_escapes_are_not_changed_in_place() {
        let svg = |inside: &str| format!("<svg>\n{inside}\n</svg>");
        for (before, now) in [
            ("<rect x=\"1\"/>", "<rect x=\"1\"/>\n<rect x=\"2\"/>"),
            ("<rect x=\"1\"/>", "<circle x=\"1\"/>"),
            ("<rect x=\"1\"/>", "<rect y=\"1\"/>"),
            ("<rect x=\"1\"/>", "<rect x=\"1\" y=\"1\"/>"),
            ("<text x=\"1\">\na\n</text>", "<text x=\"1\">\n&lt;\n</text>"),
            ("<text x=\"1\">\na\n</text>", "<text x=\"1\">\n</text>\n<rect x=\"1\"/>"),
            ("<rect x=\"1\"/>", "a"),
        ] {
            assert_eq!(changes(&svg(before), &svg(now)), None, "{now}");
        }
        assert_eq!(changes("<svg width=\"1\">\n</svg>", "<svg width=\"2\">\n</svg>"), None);
        assert_eq!(changes("", ""), Some(Vec::new()));
        let text = changes(
            "<svg>\n<rect x=\"0\"/>\n<text x=\"1\">\na\n</text>\n</svg>",
            "<svg>\n<rect x=\"0\"/>\n<text x=\"2\">\nb\n</text>\n</svg>",
        );
        let of = |attribute, value| Change { element: 1, attribute, value };
        assert_eq!(text, Some(vec![of(Some("x"), "2"), of(None, "b")]));
    }

    proptest! {
        /// Whatever changes, either all is drawn anew or what is shown is what would be.
        #[test]
        fn a_changed_drawing_is_the_drawing(
            bits in (1usize..40).prop_flat_map(|n| (prop::collection::vec(0.0..8.0f64, n), prop::collection::vec(0.0..8.0f64, n))),
            rates in (0.0..8.0f64, 0.0..8.0f64),
        ) {
            let (before, now) = (drawn(rates.0, &bits.0), drawn(rates.1, &bits.1));
            if let Some(found) = changes(&before, &now) {
                prop_assert_eq!(changed(&before, &found), now.trim_end());
            }
        }
    }
}
