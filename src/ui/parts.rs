//! Parts of the page, and which of them an address hides: `?hide=table,downloads`. For a lecture, or to put one figure beside a text.

/// The parameter.
pub const PARAMETER: &str = "hide";

/// A part that can be hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the page is, and that nothing leaves the machine.
    Words,
    /// Where files come in.
    Drop,
    /// The curve.
    Curve,
    /// Budget, method, transform, coding.
    Budget,
    /// The result in numbers.
    Summary,
    /// Two settings side by side.
    Compare,
    /// Bits per layer.
    Bars,
    /// Images, and what networks give on them.
    Accuracy,
    /// The calibration images, within accuracy.
    Calibration,
    /// Figures of the paper.
    Figures,
    /// The geometry of cells.
    Geometry,
    /// The layers.
    Table,
    /// Files out, and the command line.
    Downloads,
    /// The walk and the glossary.
    Learn,
    /// The last lines.
    Footer,
}

impl Part {
    /// All of them, from top to bottom.
    pub const ALL: [Part; 15] = [
        Part::Words,
        Part::Drop,
        Part::Curve,
        Part::Budget,
        Part::Summary,
        Part::Compare,
        Part::Bars,
        Part::Accuracy,
        Part::Calibration,
        Part::Figures,
        Part::Geometry,
        Part::Table,
        Part::Downloads,
        Part::Learn,
        Part::Footer,
    ];

    /// In addresses, and in the page's attributes.
    pub fn name(self) -> &'static str {
        match self {
            Part::Words => "words",
            Part::Drop => "drop",
            Part::Curve => "curve",
            Part::Budget => "budget",
            Part::Summary => "summary",
            Part::Compare => "compare",
            Part::Bars => "bars",
            Part::Accuracy => "accuracy",
            Part::Calibration => "calibration",
            Part::Figures => "figures",
            Part::Geometry => "geometry",
            Part::Table => "table",
            Part::Downloads => "downloads",
            Part::Learn => "learn",
            Part::Footer => "footer",
        }
    }

    /// On the page.
    pub fn title(self) -> &'static str {
        match self {
            Part::Words => "Words in the header",
            Part::Drop => "Model file and samples",
            Part::Curve => "Rate–distortion curve",
            Part::Budget => "Budget",
            Part::Summary => "Result",
            Part::Compare => "A and B",
            Part::Bars => "Bits per layer",
            Part::Accuracy => "Accuracy",
            Part::Calibration => "Calibration images",
            Part::Figures => "Figures",
            Part::Geometry => "Geometry of cells",
            Part::Table => "Layers",
            Part::Downloads => "Downloads",
            Part::Learn => "Learn and glossary",
            Part::Footer => "Last lines",
        }
    }
}

/// The parts that are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hidden(u16);

impl Hidden {
    /// Whether a part is.
    pub fn has(self, part: Part) -> bool {
        self.0 & (1 << part as u16) != 0
    }
    /// Shows or hides a part.
    pub fn set(&mut self, part: Part, hidden: bool) {
        let bit = 1 << part as u16;
        self.0 = if hidden { self.0 | bit } else { self.0 & !bit };
    }
    /// Their names, with a character between them.
    pub fn names(self, between: &str) -> String {
        Part::ALL.into_iter().filter(|p| self.has(*p)).map(Part::name).collect::<Vec<_>>().join(between)
    }
    /// What an address says, and a sentence on names that it knows and we do not.
    pub fn read(list: &str) -> (Hidden, Option<String>) {
        let (mut hidden, mut unknown) = (Hidden::default(), Vec::new());
        for name in list.split([',', ' ']).filter(|n| !n.is_empty()) {
            match Part::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(name)) {
                Some(part) => hidden.set(part, true),
                None if unknown.len() < 3 && !unknown.contains(&name) => unknown.push(name),
                None => {}
            }
        }
        let quoted: Vec<_> = unknown.iter().map(|n| format!("“{}”", n.chars().take(24).collect::<String>())).collect();
        let names = Part::ALL.map(Part::name).join(", ");
        let sentence =
            format!("This page has no part {} to hide: after hide= in its address come names out of {names}.", quoted.join(" and no "));
        (hidden, (!unknown.is_empty()).then_some(sentence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let mut all = Hidden::default();
        for part in Part::ALL {
            let (hidden, wrong) = Hidden::read(part.name());
            assert!(hidden.has(part) && wrong.is_none() && !part.title().is_empty());
            assert_eq!(Part::ALL.into_iter().filter(|p| hidden.has(*p)).count(), 1);
            all.set(part, true);
        }
        assert_eq!(Hidden::read(&all.names(",")), (all, None));
        all.set(Part::Table, false);
        assert!(!all.has(Part::Table) && all.has(Part::Footer) && !all.names(" ").contains("table"));
        assert_eq!(Hidden::read(""), (Hidden::default(), None));
        assert_eq!(Hidden::read(" Table,, DROP,table ").0.names(","), "drop,table");
    }

    #[test]
    fn what_is_no_part_is_one_sentence() {
        let (hidden, wrong) = Hidden::read("table,foo,bar,foo");
        let wrong = wrong.unwrap();
        assert_eq!(hidden.names(","), "table");
        assert!(wrong.starts_with("This page has no part “foo” and no “bar” to hide:") && wrong.matches(". ").count() == 0, "{wrong}");
        assert!(wrong.contains("words, drop,") && wrong.ends_with("footer."));
        let long = Hidden::read(&"ä".repeat(1000)).1.unwrap();
        assert!(long.len() < 300, "{long}");
    }
}
