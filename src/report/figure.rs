//! Figures of the paper for the model that is open: data to be drawn ([`super::plot::figure`]), told as a table, and saved.
//!
//! One type for all of them, so that the page, its table for screen readers, and the command line show the same numbers.

use serde::{Deserialize, Serialize};

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Slopes of all layers' curves, and where they meet the multiplier. The page shows it first.
    #[default]
    Slopes,
    /// Variances of a layer's rows under transforms, and the water level.
    Spectrum,
    /// Weights of two channels of a layer, against each other.
    Pairs,
    /// Histograms of a layer's coefficients and weights, with the quantizer's cells.
    Histogram,
    /// Distortion of a layer against the step.
    Steps,
    /// A layer's kernels before and after quantization, as pictures.
    Kernels,
    /// Variances of a layer's rows before and after transforms, of weights and of gradients.
    RowGains,
    /// Gains and bases of transforms within a layer's kernels.
    Intra,
    /// Coding gains of all layers under transforms across channels.
    Gains,
    /// What bases take of all layers.
    Overhead,
    /// Rows of all layers that are not zero.
    Rows,
    /// Multiplications of all layers.
    Flops,
    /// How near all layers are to the limit of all coders.
    Limits,
    /// Cells of KLT and ELT in two dimensions ([`super::geometry`]); of no model.
    Geometry,
}

impl Which {
    /// All that are of a model, in the order in which they are offered.
    pub const ALL: [Which; 13] = [
        Which::Slopes,
        Which::Gains,
        Which::Overhead,
        Which::Rows,
        Which::Flops,
        Which::Limits,
        Which::Spectrum,
        Which::Pairs,
        Which::Histogram,
        Which::Steps,
        Which::Kernels,
        Which::RowGains,
        Which::Intra,
    ];

    /// The name on the command line, in JSON and in addresses.
    pub fn name(self) -> &'static str {
        match self {
            Which::Slopes => "slopes",
            Which::Spectrum => "spectrum",
            Which::Pairs => "pairs",
            Which::Histogram => "histogram",
            Which::Steps => "steps",
            Which::Kernels => "kernels",
            Which::RowGains => "row-gains",
            Which::Intra => "intra",
            Which::Gains => "gains",
            Which::Overhead => "overhead",
            Which::Rows => "rows",
            Which::Flops => "flops",
            Which::Limits => "limits",
            Which::Geometry => "geometry",
        }
    }

    /// The name on the page.
    pub fn title(self) -> &'static str {
        match self {
            Which::Slopes => "Slopes and λ",
            Which::Spectrum => "Spectrum and water level",
            Which::Pairs => "Correlated channels",
            Which::Histogram => "Histogram and cells",
            Which::Steps => "Steps",
            Which::Kernels => "Kernels",
            Which::RowGains => "Gains by row",
            Which::Intra => "Within kernels",
            Which::Gains => "Coding gains",
            Which::Overhead => "Cost of bases",
            Which::Rows => "Rows left",
            Which::Flops => "Multiplications",
            Which::Limits => "Bits and the limit",
            Which::Geometry => "Geometry of cells",
        }
    }

    /// Whether it is of one layer.
    pub fn of_layer(self) -> bool {
        match self {
            Which::Slopes | Which::Gains | Which::Overhead | Which::Rows | Which::Flops | Which::Limits | Which::Geometry => false,
            Which::Spectrum | Which::Pairs | Which::Histogram | Which::Steps | Which::Kernels | Which::RowGains | Which::Intra => true,
        }
    }

    /// The figure of a name.
    pub fn named(name: &str) -> Option<Which> {
        Which::ALL.into_iter().chain([Which::Geometry]).find(|w| w.name() == name)
    }
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Which it is.
    pub which: Which,
    /// What it shows of what: `Spectrum of layer3.0.conv1.weight`.
    pub title: String,
    /// What is to be seen in it: one to three sentences.
    pub caption: String,
    /// Where it comes from: `Young et al. 2021, Fig. 2`.
    pub source: String,
    /// The layer that it is of, or that stands out in it, by [`super::LayerRow::index`].
    pub layer: Option<usize>,
    /// Its panels.
    pub panels: Vec<Panel>,
}

/// A part of a figure with axes of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// What sets it apart from the others; empty where there is one.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// What a panel holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Lines, bars and dots between axes.
    Chart(Chart),
    /// Numbers as a picture.
    Picture(Picture),
}

/// Lines, bars and dots between axes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Chart {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Whether a unit is as long on both axes.
    #[serde(default)]
    pub equal: bool,
    /// What is drawn, the last on top.
    pub series: Vec<Series>,
    /// Lines across.
    #[serde(default)]
    pub marks: Vec<Mark>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Axis {
    /// What it measures.
    pub title: String,
    /// In which unit; empty for numbers and names.
    pub unit: String,
    /// Names of the positions 0, 1, …, where it has names instead of numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The least range that is shown; it grows with the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<[f64; 2]>,
    /// Whether it counts: there is nothing between two whole numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl Axis {
    /// An axis of numbers.
    pub fn new(title: &str, unit: &str) -> Axis {
        Axis { title: title.into(), unit: unit.into(), ..Axis::default() }
    }

    /// An axis of whole numbers, of things in an order.
    pub fn counted(title: &str) -> Axis {
        Axis { title: title.into(), whole: true, ..Axis::default() }
    }

    /// An axis of layers, by name.
    pub fn layers(names: Vec<String>) -> Axis {
        Axis { title: "layer".into(), names, ..Axis::default() }
    }

    /// Title and unit.
    pub fn words(&self) -> String {
        if self.unit.is_empty() { self.title.clone() } else { format!("{} ({})", self.title, self.unit) }
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Points joined by lines.
    #[default]
    Line,
    /// A value from each point to the next.
    Steps,
    /// Bars from 0, as wide as points are apart; those of several series stand side by side.
    Bars,
    /// Dots.
    Dots,
    /// A closed line.
    Outline,
}

/// A series of points.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// How it is drawn.
    pub shape: Shape,
    /// Points, in the axes' units. Those that are not finite are gaps.
    #[serde(with = "holes")]
    pub points: Vec<[f64; 2]>,
    /// The layer of each point, or of all of them if there is one; empty where they are of none. Choosing a point chooses its layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<usize>,
    /// Whether it is behind the others, thin, and not in the legend: one of many of a kind.
    #[serde(default)]
    pub faint: bool,
}

impl Series {
    /// A line.
    pub fn line(name: &str, points: Vec<[f64; 2]>) -> Series {
        Series { name: name.into(), points, ..Series::default() }
    }

    /// The same, drawn in another way.
    #[must_use]
    pub fn drawn(self, shape: Shape) -> Series {
        Series { shape, ..self }
    }

    /// The same, of these layers.
    #[must_use]
    pub fn of(self, layers: Vec<usize>) -> Series {
        Series { layers, ..self }
    }

    /// The same, behind the others.
    #[must_use]
    pub fn faint(self) -> Series {
        Series { faint: true, ..self }
    }

    /// The layer of a point.
    pub fn layer(&self, point: usize) -> Option<usize> {
        if let [one] = self.layers[..] { Some(one) } else { self.layers.get(point).copied() }
    }
}

/// A line across a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// What it says.
    pub name: String,
    /// Whether it stands, at an `x`, or lies, at a `y`.
    pub standing: bool,
    /// Where.
    pub at: f64,
}

/// Numbers as a picture: blue below zero, orange above, white at zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Picture {
    /// Cells in a line.
    pub width: usize,
    /// Values, line by line; null (NaN) is a gap.
    #[serde(with = "gaps")]
    pub values: Vec<f32>,
    /// The value of the strongest colour.
    pub full: f32,
    /// What lines are.
    pub rows: String,
    /// What columns are.
    pub columns: String,
}

/// JSON has no NaN: nor in points.
mod holes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(points: &[[f64; 2]], to: S) -> Result<S::Ok, S::Error> {
        points.iter().map(|p| p.map(|v| v.is_finite().then_some(v))).collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<[f64; 2]>, D::Error> {
        Ok(Vec::<[Option<f64>; 2]>::deserialize(from)?.into_iter().map(|p| p.map(|v| v.unwrap_or(f64::NAN))).collect())
    }
}

/// JSON has no NaN.
mod gaps {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
        values.iter().map(|v| v.is_finite().then_some(*v)).collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        Ok(Vec::<Option<f32>>::deserialize(from)?.into_iter().map(|v| v.unwrap_or(f32::NAN)).collect())
    }
}

/// A figure's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Names of columns.
    pub header: Vec<String>,
    /// Lines of cells; empty where there is no number.
    pub rows: Vec<Vec<String>>,
}

impl Panel {
    /// A panel without a name.
    pub fn chart(chart: Chart) -> Panel {
        Panel { name: String::new(), content: Content::Chart(chart) }
    }

    /// Its numbers: for a chart a line for every point, for a picture a line for every line of it.
    pub fn table(&self) -> Table {
        match &self.content {
            Content::Chart(chart) => {
                let header = vec!["series".to_string(), chart.x.words(), chart.y.words()];
                let x = |v: f64| match chart.x.names.get(v.round().max(0.0) as usize) {
                    Some(name) => name.clone(),
                    None => number(v),
                };
                let points = |s: &Series| s.points.iter().map(|p| vec![s.name.clone(), x(p[0]), number(p[1])]).collect::<Vec<_>>();
                let marks = chart.marks.iter().map(|m| {
                    let (x, y) = if m.standing { (number(m.at), String::new()) } else { (String::new(), number(m.at)) };
                    vec![m.name.clone(), x, y]
                });
                Table { header, rows: chart.series.iter().flat_map(points).chain(marks).collect() }
            }
            Content::Picture(picture) => {
                let width = picture.width.max(1);
                let header = std::iter::once(picture.rows.clone()).chain((1..=width).map(|i| format!("{} {i}", picture.columns))).collect();
                let lines = picture.values.chunks(width).enumerate();
                let cells = |(i, line): (usize, &[f32])| {
                    std::iter::once((i + 1).to_string()).chain(line.iter().map(|v| number(f64::from(*v)))).collect()
                };
                Table { header, rows: lines.map(cells).collect() }
            }
        }
    }
}

impl Figure {
    /// All numbers as CSV, a line a point, panel after panel.
    pub fn csv(&self) -> String {
        let mut out = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        let mut write = |line: Vec<String>| out.write_record(line).expect("writing to memory does not fail");
        for panel in &self.panels {
            let Table { header, rows } = panel.table();
            let named = |mut line: Vec<String>, first: &str| {
                if self.panels.len() > 1 {
                    line.insert(0, first.into());
                }
                line
            };
            write(named(header, "panel"));
            rows.into_iter().for_each(|row| write(named(row, &panel.name)));
        }
        String::from_utf8(out.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is a string")
    }
}

/// As many digits as anyone compares, and nothing for what is no number.
fn number(v: f64) -> String {
    match v {
        _ if !v.is_finite() => String::new(),
        0.0 => "0".into(),
        _ if v == v.round() && v.abs() < 1e9 => format!("{v}"),
        _ if (1e-3..1e6).contains(&v.abs()) => format!("{v:.4}"),
        _ => format!("{v:.4e}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A figure with all there may be.
    pub(crate) fn figure() -> Figure {
        let names = ["a.weight", "b,\"c\".weight", "d"].map(String::from).to_vec();
        let bars =
            |name: &str, k: f64| Series::line(name, vec![[0.0, k], [1.0, -2.0 * k], [2.0, f64::NAN]]).drawn(Shape::Bars).of(vec![0, 1, 2]);
        let chart = Chart {
            x: Axis::layers(names),
            y: Axis::new("coding gain", "dB"),
            series: vec![bars("KLT", 1.5), bars("ELT", 3.25)],
            marks: vec![Mark { name: "mean".into(), standing: false, at: 0.125 }],
            ..Chart::default()
        };
        let circle: Vec<[f64; 2]> = (0..24).map(|i| (f64::from(i) / 24.0 * std::f64::consts::TAU).sin_cos()).map(|(y, x)| [x, y]).collect();
        let plane = Chart {
            x: Axis::new("first weight", ""),
            y: Axis::new("second weight", ""),
            equal: true,
            series: vec![
                Series::line("cell", circle.clone()).drawn(Shape::Outline),
                Series::line("weights", circle).drawn(Shape::Dots).faint(),
                Series::line("levels", vec![[-1.0, 0.25], [0.5, 0.75], [1.0, 0.75]]).drawn(Shape::Steps),
            ],
            marks: vec![Mark { name: "axis".into(), standing: true, at: 0.5 }],
        };
        let picture = Picture {
            width: 3,
            values: vec![-1.0, 0.0, 1.0, f32::NAN, 0.5, -0.5],
            full: 1.0,
            rows: "row".into(),
            columns: "column".into(),
        };
        let panel = |name: &str, content| Panel { name: name.into(), content };
        Figure {
            which: Which::Spectrum,
            title: "All of it".into(),
            caption: "What there may be in a figure.".into(),
            source: "Young et al. 2021, Fig. 3".into(),
            layer: Some(1),
            panels: vec![
                panel("gains", Content::Chart(chart)),
                panel("plane", Content::Chart(plane)),
                panel("kernels", Content::Picture(picture)),
            ],
        }
    }

    #[test]
    fn names_are_those_of_json_and_no_two_are_alike() {
        for which in Which::ALL {
            assert_eq!(serde_json::to_value(which).unwrap(), which.name());
            assert_eq!(Which::named(which.name()), Some(which));
            assert_eq!(Which::ALL.iter().filter(|w| w.title() == which.title()).count(), 1);
        }
        assert_eq!(Which::named("no such"), None);
    }

    #[test]
    fn json_keeps_gaps() {
        let mut figure = figure();
        let mut back: Figure = serde_json::from_str(&serde_json::to_string(&figure).unwrap()).unwrap();
        let pictures = [&figure, &back].map(|f| match &f.panels[2].content {
            Content::Picture(p) => p.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            Content::Chart(_) => panic!(),
        });
        assert_eq!(pictures[0].len(), 6);
        assert_eq!((&pictures[0][..3], &pictures[0][4..]), (&pictures[1][..3], &pictures[1][4..]));
        assert!(f32::from_bits(pictures[1][3]).is_nan());
        // A gap comes back as NaN, which is equal to nothing; all else is equal.
        for of in [&mut figure, &mut back] {
            let Content::Chart(chart) = &mut of.panels[0].content else { panic!() };
            chart.series.iter_mut().for_each(|s| assert!(s.points.pop().is_some_and(|p| p[0] == 2.0 && p[1].is_nan())));
        }
        assert_eq!(figure.panels[..2], back.panels[..2]);
    }

    #[test]
    fn csv_has_a_line_for_every_point_and_mark() {
        let figure = figure();
        let text = figure.csv();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), (1 + 6 + 1) + (1 + 24 + 24 + 3 + 1) + (1 + 2));
        assert_eq!(lines[0], "panel,series,layer,coding gain (dB)");
        assert_eq!(lines[2], r#"gains,KLT,"b,""c"".weight",-3"#);
        assert_eq!(lines[3], "gains,KLT,d,", "a gap");
        assert_eq!(lines[7], "gains,mean,,0.1250");
        assert_eq!(lines.last(), Some(&"kernels,2,,0.5000,-0.5000"));
        let single = Figure { panels: figure.panels[..1].to_vec(), ..figure };
        assert_eq!(single.csv().lines().next(), Some("series,layer,coding gain (dB)"));
    }

    #[test]
    fn a_series_of_one_layer_has_it_at_every_point() {
        let series = Series::line("a", vec![[0.0, 0.0]; 3]);
        assert_eq!(series.layer(1), None);
        assert_eq!(series.clone().of(vec![7]).layer(2), Some(7));
        assert_eq!((series.clone().of(vec![7, 8, 9]).layer(1), series.of(vec![7, 8]).layer(2)), (Some(8), None));
    }
}
