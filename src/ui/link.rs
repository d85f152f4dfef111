//! Links to the page: settings, and what is chosen of a model's layers, in the address behind the `#`, which browsers keep to themselves.
//!
//! `#bits=3.5&unit=bits&transform=auto&blocks=8&coding=fixed&method=feedback&lock=conv1.weight=8&exclude=fc.weight&layer=fc.weight&figure=spectrum&geometry=0.8,4,-70&sample=resnet-digits`
//!
//! Names and values are those of the command line. Layers go by name: a number would mean another layer in another version of a model, and
//! the command line wants names, too. Parameters of others are left as they are.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    format::{self, Unit},
    samples,
};
use crate::report::{
    Budget, Coding, Method, TransformChoice,
    figure::Which,
    geometry::{ANGLES, CORRELATIONS, Plane, RATIOS},
    recipe::{DEEPEST_LOCK, MOST_BLOCKS},
};

/// What is not written as it is: what has a meaning in an address, or what programs cut off that make links of text.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b':').remove(b'=').remove(b',');
/// Longest part of a link that is repeated to the user, in characters.
const SHOWN: usize = 40;

/// What a link says. What it does not say stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Link {
    /// `bits`, `size` in bytes, or `ratio`.
    pub budget: Option<Budget>,
    /// The unit that the budget is shown in.
    pub unit: Option<Unit>,
    /// Allowed transforms.
    pub transform: Option<TransformChoice>,
    /// Blocks per layer.
    pub blocks: Option<usize>,
    /// How indices are coded.
    pub coding: Option<Coding>,
    /// What layers may be compressed by.
    pub method: Option<Method>,
    /// `lock`: layers locked to a depth.
    pub locks: BTreeMap<String, u8>,
    /// `exclude`: layers kept as they are.
    pub excludes: BTreeSet<String>,
    /// The layer that is picked out.
    pub layer: Option<String>,
    /// The figure that is shown; the first where nothing is said.
    pub figure: Option<Which>,
    /// `geometry`: what the cells are of: correlation, sensitivity, angle in degrees.
    pub plane: Option<Plane>,
    /// The sample model to open ([`samples::known`]).
    pub sample: Option<&'static str>,
    /// Parameters of others, as they were written.
    pub others: Vec<String>,
}

/// Takes a value where there is none yet.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let taken = place.is_none() && value.is_some();
    if taken {
        *place = value;
    }
    taken
}

fn budget(key: &str, text: &str) -> Option<Budget> {
    let number = || text.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
    match key {
        "bits" => number().map(Budget::Bits),
        "size" => text.parse().ok().map(Budget::Size),
        _ => number().filter(|v| *v > 0.0).map(Budget::Ratio),
    }
}

/// Three numbers within their bounds.
fn plane(text: &str) -> Option<Plane> {
    let numbers: Vec<f64> = text.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [correlation, ratio, angle] = numbers[..] else { return None };
    let within = |v: f64, [least, most]: [f64; 2]| (least..=most).contains(&v);
    let known = within(correlation, CORRELATIONS) && within(ratio, RATIOS) && within(angle, ANGLES);
    known.then_some(Plane { correlation, ratio, angle })
}

impl Link {
    /// Reads what is behind the `#`. Returns what it says, and the parts that are not understood.
    pub fn parse(fragment: &str) -> (Link, Vec<String>) {
        let (mut link, mut wrong) = (Link::default(), Vec::new());
        for part in fragment.strip_prefix('#').unwrap_or(fragment).split('&').filter(|part| !part.is_empty()) {
            match link.take(part) {
                Some(true) => {}
                Some(false) => wrong.push(percent_decode_str(part).decode_utf8_lossy().into_owned()),
                None => link.others.push(part.into()),
            }
        }
        (link, wrong)
    }

    /// Takes a parameter; `None` for those of others, false for what is not understood.
    fn take(&mut self, part: &str) -> Option<bool> {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = percent_decode_str(value).decode_utf8().unwrap_or(Cow::Borrowed(""));
        let found = match key {
            "bits" | "size" | "ratio" => once(&mut self.budget, budget(key, &value)),
            "unit" => once(&mut self.unit, Unit::ALL.into_iter().find(|u| u.key() == value)),
            "transform" => once(&mut self.transform, TransformChoice::ALL.into_iter().find(|t| t.name() == value)),
            "blocks" => once(&mut self.blocks, value.parse().ok().filter(|n| (1..=MOST_BLOCKS).contains(n))),
            "coding" => once(&mut self.coding, Coding::ALL.into_iter().find(|c| c.name() == value)),
            "method" => once(&mut self.method, Method::ALL.into_iter().find(|m| m.name() == value)),
            // Names may contain `=`; the depth comes after the last one.
            "lock" => match value.rsplit_once('=').map(|(layer, depth)| (layer, depth.parse())) {
                Some((layer, Ok(depth))) if !layer.is_empty() && depth <= DEEPEST_LOCK && !self.locks.contains_key(layer) => {
                    self.locks.insert(layer.into(), depth).is_none()
                }
                _ => false,
            },
            "exclude" => !value.is_empty() && self.excludes.insert(value.into_owned()),
            "layer" => once(&mut self.layer, Some(value.into_owned()).filter(|name| !name.is_empty())),
            "figure" => once(&mut self.figure, Which::ALL.into_iter().find(|w| w.name() == value)),
            "geometry" => once(&mut self.plane, plane(&value)),
            "sample" => once(&mut self.sample, samples::known(&value)),
            _ => return None,
        };
        Some(found)
    }

    /// What is written behind the `#`.
    pub fn write(&self) -> String {
        let mut parts = self.others.clone();
        let mut say = |key: &str, value: &str| parts.push(format!("{key}={}", utf8_percent_encode(value, ESCAPED)));
        match self.budget {
            Some(Budget::Bits(bits)) => say("bits", &bits.to_string()),
            Some(Budget::Size(bytes)) => say("size", &bytes.to_string()),
            Some(Budget::Ratio(ratio)) => say("ratio", &ratio.to_string()),
            None => {}
        }
        let blocks = self.blocks.map(|blocks| blocks.to_string());
        let single = [
            ("unit", self.unit.map(Unit::key)),
            ("transform", self.transform.map(TransformChoice::name)),
            ("blocks", blocks.as_deref()),
            ("coding", self.coding.map(Coding::name)),
            ("method", self.method.map(Method::name)),
        ];
        single.into_iter().filter_map(|(key, value)| Some((key, value?))).for_each(|(key, value)| say(key, value));
        self.locks.iter().for_each(|(layer, depth)| say("lock", &format!("{layer}={depth}")));
        self.excludes.iter().for_each(|layer| say("exclude", layer));
        let plane = self.plane.map(|p| [p.correlation, p.ratio, p.angle].map(|v| format::plain(v, 2)).join(","));
        let last = [
            ("layer", self.layer.as_deref()),
            ("figure", self.figure.map(Which::name)),
            ("geometry", plane.as_deref()),
            ("sample", self.sample),
        ];
        last.into_iter().filter_map(|(key, value)| Some((key, value?))).for_each(|(key, value)| say(key, value));
        parts.join("&")
    }
}

/// What is not understood, in one sentence.
pub fn not_understood(parts: &[String]) -> Option<String> {
    let first = parts.first()?;
    let mut shown: String = first.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if first.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    let more = match parts.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more of its parts"),
    };
    let (are, them) = if parts.len() > 1 { ("are", "them") } else { ("is", "it") };
    Some(format!("`{shown}` in the link{more} {are} not understood; it is used without {them}."))
}

#[cfg(test)]
mod tests {
    use proptest::{collection, option, prelude::*, sample::select};

    use super::*;

    fn full() -> Link {
        Link {
            budget: Some(Budget::Bits(3.5)),
            unit: Some(Unit::Size),
            transform: Some(TransformChoice::KltRow),
            blocks: Some(4),
            coding: Some(Coding::Depths),
            method: Some(Method::Transform),
            locks: BTreeMap::from([("a=b &c#%+é".into(), 8), ("conv1.weight".into(), 0)]),
            excludes: BTreeSet::from(["/fc/weight:0".into()]),
            layer: Some("conv1.weight".into()),
            figure: Some(Which::RowGains),
            plane: Some(Plane { correlation: -0.5, ratio: 2.5, angle: -70.0 }),
            sample: Some("resnet-digits"),
            others: vec!["learn=3".into(), "main".into(), "hide=a%20b,c".into()],
        }
    }

    #[test]
    fn a_link_says_what_the_command_line_says() {
        let text = "learn=3&main&hide=a%20b,c&bits=3.5&unit=size&transform=klt-row&blocks=4&coding=depths&method=transform\
                    &lock=a=b%20%26c%23%25%2B%C3%A9=8&lock=conv1.weight=0&exclude=/fc/weight:0&layer=conv1.weight&figure=row-gains&geometry=-0.5,2.5,-70\
                    &sample=resnet-digits";
        assert_eq!(full().write(), text);
        assert_eq!(Link::parse(&format!("#{text}")), (full(), Vec::new()));
        for nothing in ["", "#", "#&&"] {
            assert_eq!(Link::parse(nothing), (Link::default(), Vec::new()));
        }
        assert_eq!(Link::default().write(), "");
    }

    #[test]
    fn what_is_understood_is_used_and_the_rest_is_said() {
        let wrong = [
            "bits=x",
            "bits=-1",
            "bits=inf",
            "bits=",
            "bits",
            "size=1.5",
            "size=-1",
            "ratio=0",
            "ratio=NaN",
            "unit=furlong",
            "transform=fft",
            "blocks=0",
            "blocks=257",
            "blocks=2.0",
            "coding=zip",
            "method=magic",
            "lock=a",
            "lock==3",
            "lock=a=11",
            "lock=a=-1",
            "lock=a=b",
            "exclude=",
            "layer=",
            "sample=vgg",
            "figure=geometry",
            "figure=",
            "geometry=0.5",
            "geometry=0.5,4,0,1",
            "geometry=1,4,0",
            "geometry=0,NaN,0",
            "geometry=0,4,91",
            "exclude=%ff",
            "lock=%ff=3",
        ];
        for part in wrong {
            let (link, not) = Link::parse(&format!("#{part}&blocks=2&x=%ff"));
            let expected = Link { blocks: Some(2), others: vec!["x=%ff".into()], ..Link::default() };
            assert_eq!((link, not.len()), (expected, 1), "{part}");
            assert!(not_understood(&not).is_some_and(|s| s.ends_with("it is used without it.")), "{part}");
        }
        // What comes twice is not understood the second time.
        let (link, not) = Link::parse("bits=2&size=100&bits=3&lock=a=1&lock=a=2");
        assert_eq!(
            (link.budget, link.locks["a"], not),
            (Some(Budget::Bits(2.0)), 1, vec!["size=100".into(), "bits=3".into(), "lock=a=2".into()])
        );
        assert_eq!(not_understood(&[]), None);
        let long = not_understood(&["x".repeat(1000), "y\u{7}".into()]).unwrap();
        assert!(long.contains("…` in the link and 1 more of its parts are not understood") && long.chars().count() < 150, "{long}");
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9./:_=&%# +?-]{1,12}", "\\PC{1,8}"]
    }

    prop_compose! {
        fn links()(
            budget in option::of(prop_oneof![
                (0.0..1e9f64).prop_map(Budget::Bits), any::<u64>().prop_map(Budget::Size), (1e-6..1e6f64).prop_map(Budget::Ratio),
            ]),
            unit in option::of(select(&Unit::ALL[..])),
            transform in option::of(select(&TransformChoice::ALL[..])),
            blocks in option::of(1..=MOST_BLOCKS),
            coding in option::of(select(&Coding::ALL[..])),
            method in option::of(select(&Method::ALL[..])),
            locks in collection::btree_map(name(), 0..=DEEPEST_LOCK, 0..4),
            excludes in collection::btree_set(name(), 0..4),
            layer in option::of(name()),
            figure in option::of(select(&Which::ALL[..])),
            plane in option::of((-95..=95i32, 100..=1600i32, -9000..=9000i32).prop_map(|(r, s, a)| {
                let [correlation, ratio, angle] = [r, s, a].map(|v| f64::from(v) / 100.0);
                Plane { correlation, ratio, angle }
            })),
            sample in option::of(select(vec!["resnet-digits", "alexnet-digits", "densenet-digits"])),
            others in collection::vec("(hide|learn|x)=[a-z%0-9+]{0,6}", 0..3),
        ) -> Link {
            Link { budget, unit, transform, blocks, coding, method, locks, excludes, layer, figure, plane, sample, others }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(link in links()) {
            let text = link.write();
            prop_assert!(text.is_ascii() && !text.contains([' ', '#', '"', '<', '>', '\'']), "{text}");
            prop_assert_eq!(Link::parse(&text), (link, Vec::new()));
        }

        #[test]
        fn whatever_is_read_is_no_trouble(text in prop_oneof!["\\PC{0,60}", "((bits|size|blocks|lock|exclude|layer|figure|geometry|sample|x)(=|)[a-z0-9.%=#-]{0,6}&){0,8}"]) {
            let (link, wrong) = Link::parse(&text);
            prop_assert_eq!(not_understood(&wrong).is_some(), !wrong.is_empty());
            prop_assert_eq!(Link::parse(&link.write()), (link, Vec::new()));
        }
    }
}
