//! Numbers in words.

use crate::report::{Budget, DataSummary, LayerRow, Measure};

/// `1234567` → `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `107321` → `107,321 bytes`.
pub fn bytes(n: u64) -> String {
    format!("{} byte{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// `107321` → `107 kB`: three digits, decimal units.
pub fn short_bytes(n: u64) -> String {
    let mut v = n as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if v < 999.5 || unit == "GB" {
            let decimals = if unit == "bytes" || v >= 99.95 { 0 } else { 1 };
            return format!("{v:.decimals$} {unit}");
        }
        v /= 1000.0;
    }
    unreachable!("the last unit returns")
}

/// Decibels with one decimal and a true minus sign.
pub fn db(v: f64) -> String {
    if v == f64::NEG_INFINITY {
        return "exact".into();
    }
    let s = format!("{:.1} dB", v.abs());
    if v < -0.05 { format!("\u{2212}{s}") } else { s }
}

/// A relative error in decibels.
pub fn error_db(relative: f64) -> String {
    db(10.0 * relative.log10())
}

/// A number without needless zeros, at most `decimals` of them.
pub fn plain(v: f64, decimals: usize) -> String {
    let s = format!("{v:.decimals$}");
    if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.').to_string() } else { s }
}

/// `[64, 3, 3, 3]` → `64×3×3×3`.
pub fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("×")
}

/// A duration, roughly.
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 90.0 => format!("{s:.0} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

/// Time left, in words.
pub fn time_left(s: f64) -> String {
    if s < 1.0 { "less than a second left".into() } else { format!("about {} left", seconds(s.ceil())) }
}

/// `3`, `layer` → `3 layers`.
pub fn count(n: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(n as u64), if n == 1 { "" } else { "s" })
}

/// What a row is compressed by.
pub fn coded_by(row: &LayerRow) -> &'static str {
    row.coded_by().unwrap_or("kept")
}

/// What distortion is called, where it stands beside others.
pub fn distortion(measure: Measure) -> &'static str {
    match measure {
        Measure::Weights => "distortion",
        Measure::Output => "output distortion",
    }
}

/// Words with a capital letter.
pub fn title(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the distortion of a whole network is.
pub fn distortion_is(measure: Measure) -> &'static str {
    match measure {
        Measure::Weights => "the mean relative weight error of the layers: a stand-in until the model is calibrated",
        Measure::Output => "the error of the network's output over its power, by the second-order model, in dB",
    }
}

/// What the errors of layers are.
pub fn errors_are(measure: Measure) -> &'static str {
    match measure {
        Measure::Weights => "relative weight errors, in dB",
        Measure::Output => "those of the network's output over its power, by the second-order model, in dB",
    }
}

/// Bits per weight above what no coder can do without; a dash where that is not known.
pub fn gap(gap: Option<f64>) -> String {
    gap.map_or("–".into(), |gap| format!("{}{:.2}", if gap < -0.005 { "\u{2212}" } else { "" }, gap.abs()))
}

/// A row in one sentence, for the bars.
pub fn layer(row: &LayerRow, measure: Measure) -> String {
    if row.excluded {
        format!("{}: kept as it is, {}", row.name, bytes(row.bytes))
    } else {
        let (transform, size) = (coded_by(row), bytes(row.bytes));
        let of = if measure == Measure::Output { "output error" } else { "error" };
        format!("{}: {:.2} bits per weight, {transform}, {size}, {of} {}", row.name, row.bits, error_db(row.error))
    }
}

/// Images in words: `2,000 images, 32 × 32, RGB, labelled, 10 classes`.
pub fn images(data: &DataSummary) -> String {
    let [height, width, channels] = data.size;
    let channels = match channels {
        1 => "grey".into(),
        3 => "RGB".into(),
        4 => "RGBA".into(),
        n => count(n, "channel"),
    };
    let labels = if data.labelled { "labelled" } else { "without labels" };
    let classes = if data.classes.is_empty() { String::new() } else { format!(", {} classes", grouped(data.classes.len() as u64)) };
    format!("{}, {height} × {width}, {channels}, {labels}{classes}", count(data.images, "image"))
}

/// A part of 1 in percent.
pub fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}

/// Three significant digits, with a power of ten where zeros would be many: `0.0123`, `1.23·10⁻⁶`.
pub fn significant(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return if v == 0.0 { "0".into() } else { "–".into() };
    }
    // Rounded first: 999.6 has four digits before the point.
    let text = format!("{v:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        e @ -3..=5 => format!("{v:.*}", usize::try_from(2 - e).unwrap_or(0)),
        e => {
            let digits = e.unsigned_abs().to_string();
            let raised: String = digits.chars().filter_map(|c| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(c as usize - '0' as usize)).collect();
            format!("{mantissa}·10{}{raised}", if e < 0 { "⁻" } else { "" })
        }
    }
}

/// A unit a budget is given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unit {
    /// Bits per weight.
    Bits,
    /// Bytes of the file.
    Size,
    /// Times smaller.
    Ratio,
}

impl Unit {
    /// All of them.
    pub const ALL: [Unit; 3] = [Unit::Bits, Unit::Size, Unit::Ratio];
    /// That of a budget.
    pub fn of(budget: Budget) -> Unit {
        match budget {
            Budget::Bits(_) => Unit::Bits,
            Budget::Size(_) => Unit::Size,
            Budget::Ratio(_) => Unit::Ratio,
        }
    }
    /// Its name, for the selector.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Bits => "bits per weight",
            Unit::Size => "bytes (file size)",
            Unit::Ratio => "times smaller (ratio)",
        }
    }
    /// Its key.
    pub fn key(self) -> &'static str {
        match self {
            Unit::Bits => "bits",
            Unit::Size => "size",
            Unit::Ratio => "ratio",
        }
    }
    /// A budget in this unit, or what is wrong with the number.
    pub fn budget(self, text: &str) -> Result<Budget, &'static str> {
        let v: f64 = text.trim().parse().map_err(|_| "Enter a number.")?;
        match self {
            _ if !v.is_finite() || v < 0.0 => Err("Enter a number that is not negative."),
            Unit::Bits => Ok(Budget::Bits(v)),
            Unit::Size => Ok(Budget::Size(v as u64)),
            Unit::Ratio if v > 0.0 => Ok(Budget::Ratio(v)),
            Unit::Ratio => Err("Enter a number above 0."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(107321)], ["0", "999", "1,000", "107,321"]);
        assert_eq!([bytes(1), bytes(107321)], ["1 byte", "107,321 bytes"]);
        assert_eq!([short_bytes(999), short_bytes(1000), short_bytes(107321)], ["999 bytes", "1.0 kB", "107 kB"]);
        assert_eq!([short_bytes(99_960), short_bytes(25_500_000), short_bytes(u64::MAX)], ["100 kB", "25.5 MB", "18446744074 GB"]);
        assert_eq!([db(-23.14), db(0.0), db(-0.04), db(1.0)], ["\u{2212}23.1 dB", "0.0 dB", "0.0 dB", "1.0 dB"]);
        assert_eq!([error_db(0.0), error_db(0.01)], ["exact", "\u{2212}20.0 dB"]);
        assert_eq!([plain(4.0, 2), plain(0.05, 2), plain(100.0, 0)], ["4", "0.05", "100"]);
        assert_eq!([shape(&[64, 3, 3, 3]), shape(&[])], ["64×3×3×3", "scalar"]);
        assert_eq!([seconds(0.42), seconds(12.3), seconds(200.0)], ["0.4 s", "12 s", "3 min"]);
        assert_eq!([time_left(0.2), time_left(11.2)], ["less than a second left", "about 12 s left"]);
        assert_eq!([count(1, "layer"), count(22, "layer")], ["1 layer", "22 layers"]);
    }

    #[test]
    fn images_and_results_in_words() {
        let mut data = DataSummary {
            name: "cifar.npz".into(),
            several: false,
            format: "npz".into(),
            images: 2000,
            size: [32, 24, 3],
            labelled: true,
            classes: Vec::new(),
            notes: Vec::new(),
        };
        assert_eq!(images(&data), "2,000 images, 32 × 24, RGB, labelled");
        (data.images, data.size[2], data.labelled) = (1, 1, false);
        assert_eq!(images(&data), "1 image, 32 × 24, grey, without labels");
        (data.size[2], data.classes) = (7, vec!["cat".into(), "dog".into()]);
        assert_eq!(images(&data), "1 image, 32 × 24, 7 channels, without labels, 2 classes");
        assert_eq!([percent(0.88649), percent(1.0), percent(0.0)], ["88.65 %", "100.00 %", "0.00 %"]);
        assert_eq!([significant(0.0), significant(f64::NAN), significant(1234.5)], ["0", "–", "1234"]);
        assert_eq!([significant(0.012345), significant(1.0), significant(99.96)], ["0.0123", "1.00", "100"]);
        assert_eq!([significant(1.234e-6), significant(2e-10), significant(3e9)], ["1.23·10⁻⁶", "2.00·10⁻¹⁰", "3.00·10⁹"]);
        assert_eq!(significant(-0.5), "-0.500");
    }

    #[test]
    fn budgets_from_text() {
        assert_eq!(Unit::Bits.budget(" 3.5"), Ok(Budget::Bits(3.5)));
        assert_eq!(Unit::Size.budget("107321"), Ok(Budget::Size(107321)));
        assert_eq!(Unit::Ratio.budget("10"), Ok(Budget::Ratio(10.0)));
        for (unit, text) in
            [(Unit::Bits, ""), (Unit::Bits, "-1"), (Unit::Size, "inf"), (Unit::Size, "NaN"), (Unit::Ratio, "0"), (Unit::Bits, "a")]
        {
            assert!(unit.budget(text).is_err(), "{text}");
        }
    }
}
