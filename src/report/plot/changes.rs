//! What differs between two SVGs of this module: so a page can change the elements that it shows, and need not make all of them anew.

use std::ops::Range;

/// How many elements are looked over for one that stays.
const NEAR: usize = 24;

/// Something that differs in an element that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Position of the element within the root, before others are [`Replaced`].
    pub element: usize,
    /// The attribute; none where its text differs.
    pub attribute: Option<&'a str>,
    /// What it is now.
    pub value: &'a str,
}

/// Elements in a row that make way for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced<'a> {
    /// Position of the first of them within the root.
    pub at: usize,
    /// How many they are.
    pub count: usize,
    /// The others, as SVG.
    pub svg: &'a str,
}

/// An element of the root.
struct Drawn<'a> {
    /// Where it is in the drawing.
    at: Range<usize>,
    /// Its tag without attributes.
    kind: &'a str,
    /// Attributes as they stand there.
    attributes: &'a str,
    /// Its lines after the tag's, to its end.
    rest: &'a str,
}

/// What has changed; none if the root is another: another size. Elements stay that are of the same kinds, in the same order, with the same attributes, where nothing that differs
/// is escaped. Drawings of this module have one tag a line, and no elements within elements of the root.
pub fn changes<'a>(before: &str, now: &'a str) -> Option<(Vec<Change<'a>>, Vec<Replaced<'a>>)> {
    let ((root, old), (same, new)) = (elements(before), elements(now));
    if root != same {
        return None;
    }
    let (mut changes, mut replaced) = (Vec::new(), Vec::new());
    let (mut from, mut to) = (0, 0);
    while from < old.len() || to < new.len() {
        let (gone, came) = apart(&old[from..], &new[to..]);
        if gone + came > 0 {
            let svg = new[to..to + came].first().map_or("", |first| &now[first.at.start..new[to + came - 1].at.end]);
            replaced.push(Replaced { at: from, count: gone, svg });
            (from, to) = (from + gone, to + came);
        } else {
            differences(from, &old[from], &new[to], &mut changes);
            (from, to) = (from + 1, to + 1);
        }
    }
    Some((changes, replaced))
}

/// How many elements are gone, and have come, before one that stays; as few as can be, and all if there is none near.
fn apart(old: &[Drawn], new: &[Drawn]) -> (usize, usize) {
    let stays = |(gone, came): (usize, usize)| old.get(gone).zip(new.get(came)).is_some_and(|(was, is)| alike(was, is));
    let near = (0..NEAR).flat_map(|both| (0..=both).map(move |gone| (gone, both - gone)));
    near.into_iter().find(|&at| stays(at)).unwrap_or((old.len(), new.len()))
}

impl<'a> Drawn<'a> {
    fn is_closed(&self) -> bool {
        self.attributes.ends_with('/') || self.rest.contains("</")
    }

    fn words(&self) -> &'a str {
        self.rest.split_once('<').map_or(self.rest, |(words, _)| words).trim()
    }
}

/// The line of the root, and its elements.
fn elements(svg: &str) -> (&str, Vec<Drawn<'_>>) {
    let (root, _) = svg.split_once('\n').unwrap_or((svg, ""));
    let mut found: Vec<Drawn> = Vec::new();
    let mut at = root.len() + 1;
    for line in svg.get(at..).unwrap_or_default().split_inclusive('\n') {
        let end = at + line.len();
        match (line.strip_prefix('<'), found.last_mut()) {
            (Some(tag), _) if !tag.starts_with('/') => {
                let (kind, attributes) = tag.trim_end().trim_end_matches('>').split_once(' ').unwrap_or((tag, ""));
                found.push(Drawn { at: at..end, kind, attributes, rest: "" });
            }
            (_, Some(element)) if !element.is_closed() => {
                element.rest = &svg[element.at.end - element.rest.len()..end];
                element.at.end = end;
            }
            // The end of the root.
            _ => {}
        }
        at = end;
    }
    (root, found)
}

/// Whether an element becomes another by changing attributes and text.
fn alike(was: &Drawn, is: &Drawn) -> bool {
    let (same, escaped) = (was.attributes == is.attributes, |text: &str| text.contains('&'));
    was.kind == is.kind
        && was.rest.is_empty() == is.rest.is_empty()
        && (was.rest == is.rest || !escaped(was.rest) && !escaped(is.rest))
        && (same || !escaped(was.attributes) && !escaped(is.attributes) && names(was.attributes).eq(names(is.attributes)))
}

/// What differs in an element that stays.
fn differences<'a>(element: usize, was: &Drawn, is: &Drawn<'a>, changes: &mut Vec<Change<'a>>) {
    if was.attributes != is.attributes {
        let differ = attributes(was.attributes).zip(attributes(is.attributes)).filter(|(was, is)| was != is);
        changes.extend(differ.map(|(_, (name, value))| Change { element, attribute: Some(name), value }));
    }
    if was.rest != is.rest {
        changes.push(Change { element, attribute: None, value: is.words() });
    }
}

/// Names of `a="b" c="d"/>`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    attributes(text).map(|(name, _)| name)
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
    fn changed(before: &str, (changes, replaced): &(Vec<Change>, Vec<Replaced>)) -> String {
        let mut lines = before.lines().collect::<Vec<_>>();
        let (root, end) = (lines.remove(0), lines.pop().unwrap());
        // Lines of an element together.
        let mut elements: Vec<String> = Vec::new();
        for line in lines {
            match elements.last_mut().filter(|_| !line.starts_with('<') || line.starts_with("</")) {
                Some(element) => *element += &format!("\n{line}"),
                None => elements.push(line.into()),
            }
        }
        for change in changes {
            let element = &mut elements[change.element];
            let (start, end) = match change.attribute {
                None => (element.find('\n').unwrap() + 1, element.rfind('\n').unwrap()),
                Some(name) => {
                    let start = element.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
                    (start, start + element[start..].find('"').unwrap())
                }
            };
            element.replace_range(start..end, change.value);
        }
        for &Replaced { at, count, svg } in replaced.iter().rev() {
            elements.splice(at..at + count, svg.trim_end().lines().map(Into::into));
        }
        [vec![root.to_string()], elements, vec![end.to_string()]].concat().join("\n")
    }

    fn drawn(rate: f64, bits: &[f64]) -> String {
        let mut report = AllocationReport { rate, ..report(bits.len()) };
        report.layers.iter_mut().zip(bits).for_each(|(layer, &bits)| layer.bits = bits);
        allocation_svg(&report, (900, 240), &Palette::DARK.transparent())
    }

    #[test]
    fn a_bar_that_grows_is_the_only_change() {
        let (before, now) = (drawn(3.5, &[2.0, 3.0, 7.9, 1.0]), drawn(3.5, &[2.0, 3.5, 7.9, 1.0]));
        let (found, replaced) = changes(&before, &now).unwrap();
        let names: Vec<_> = found.iter().map(|c| c.attribute).collect();
        // The bar, and the mark on it.
        assert!(names.contains(&Some("y")) && names.contains(&Some("height")), "{found:?}");
        assert!(found.len() <= 4 && replaced.is_empty(), "{found:?}");
        assert_eq!(changed(&before, &(found, replaced)), now.trim_end());
        assert_eq!(changes(&now, &now), Some((Vec::new(), Vec::new())));
    }

    #[test]
    fn a_bar_that_comes_leaves_the_others() {
        // A layer of no bits is hatched in place of its bar.
        let (before, now) = (drawn(3.5, &[2.0, 3.0, 0.0, 7.9, 0.0]), drawn(3.5, &[2.0, 0.0, 2.0, 7.9, 1.0]));
        let found = changes(&before, &now).unwrap();
        let anew: usize = found.1.iter().map(|r| r.svg.lines().count()).sum();
        assert!(!found.1.is_empty() && anew < now.lines().count() / 8, "{anew} of {}: {:?}", now.lines().count(), found.1);
        assert_eq!(changed(&before, &found), now.trim_end());
    }

    #[test]
    fn what_stays_between_two_replaced_is_left() {
        let before = "<svg>\n<line x=\"1\"/>\n<rect x=\"1\"/>\n<path d=\"M1\"/>\n<line x=\"3\"/>\n</svg>";
        let now = "<svg>\n<rect x=\"1\"/>\n<path d=\"M1\"/>\n<circle r=\"1\"/>\n<line x=\"4\"/>\n</svg>";
        let found = changes(before, now).unwrap();
        let replaced = |at, count, svg| Replaced { at, count, svg };
        assert_eq!(found.0, [Change { element: 3, attribute: Some("x"), value: "4" }]);
        assert_eq!(found.1, [replaced(0, 1, ""), replaced(3, 0, "<circle r=\"1\"/>\n")]);
        assert_eq!(changed(before, &found), now);
    }

    #[test]
    fn other_elements_and_escapes_are_replaced() {
        let svg = |inside: &str| format!("<svg>\n{inside}\n</svg>");
        for (before, now, at, count, new) in [
            ("<rect x=\"1\"/>", "<rect x=\"1\"/>\n<rect x=\"2\"/>", 1, 0, "<rect x=\"2\"/>\n"),
            ("<rect x=\"1\"/>\n<rect x=\"2\"/>", "<rect x=\"1\"/>", 1, 1, ""),
            ("<a b=\"1\"/>\n<rect x=\"1\"/>\n<a b=\"1\"/>", "<a b=\"1\"/>\n<circle x=\"1\"/>\n<a b=\"1\"/>", 1, 1, "<circle x=\"1\"/>\n"),
            ("<rect x=\"1\"/>", "<rect y=\"1\"/>", 0, 1, "<rect y=\"1\"/>\n"),
            ("<rect x=\"1\"/>", "<rect x=\"1\" y=\"1\"/>", 0, 1, "<rect x=\"1\" y=\"1\"/>\n"),
            ("<text x=\"1\">\na\n</text>", "<text x=\"1\">\n&lt;\n</text>", 0, 1, "<text x=\"1\">\n&lt;\n</text>\n"),
            ("<text x=\"&lt;\">\na\n</text>", "<text x=\"1\">\na\n</text>", 0, 1, "<text x=\"1\">\na\n</text>\n"),
            ("<text x=\"1\">\na\n</text>", "<text x=\"1\">\n</text>\n<rect x=\"1\"/>", 1, 0, "<rect x=\"1\"/>\n"),
            ("", "<rect x=\"1\"/>", 0, 0, "<rect x=\"1\"/>\n"),
        ] {
            let (before, now) = (svg(before), svg(now));
            let (_, replaced) = changes(&before, &now).unwrap();
            assert_eq!(replaced, [Replaced { at, count, svg: new }], "{now}");
        }
        assert_eq!(changes("<svg width=\"1\">\n</svg>", "<svg width=\"2\">\n</svg>"), None);
        assert_eq!(changes("", ""), Some((Vec::new(), Vec::new())));
        let text = changes(
            "<svg>\n<rect x=\"0\"/>\n<text x=\"1\">\na\n</text>\n</svg>",
            "<svg>\n<rect x=\"0\"/>\n<text x=\"2\">\nb\n</text>\n</svg>",
        );
        let of = |attribute, value| Change { element: 1, attribute, value };
        assert_eq!(text, Some((vec![of(Some("x"), "2"), of(None, "b")], Vec::new())));
    }

    /// Of some layers; of some of them none.
    fn bits() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![0.0..8.0f64, Just(0.0)], 1..40)
    }

    proptest! {
        /// Whatever changes, what is shown is what would be, were all of it drawn anew; layers may come and go.
        #[test]
        fn a_changed_drawing_is_the_drawing(
            bits in (bits(), bits()),
            rates in (0.0..8.0f64, 0.0..8.0f64),
        ) {
            let (before, now) = (drawn(rates.0, &bits.0), drawn(rates.1, &bits.1));
            let found = changes(&before, &now).unwrap();
            prop_assert_eq!(changed(&before, &found), now.trim_end());
        }
    }
}
