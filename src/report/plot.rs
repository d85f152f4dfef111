//! The charts, drawn with plotters: the rate–distortion curve and the bits per layer; [`figure`] draws all others, [`sweep`] measured curves.
//!
//! One drawing routine per chart, generic over plotters' backend: [`curve_svg`] and [`allocation_svg`] serve the page and the
//! command line, `png` the command line. Text is placed at fixed positions and never measured, so an SVG does not depend on
//! the fonts of the machine that draws it, and the page is not laid out once per label.
//!
//! plotters rounds to whole backend units: an SVG is drawn on a grid `GRID` times finer than its nominal size, and its
//! `viewBox` scales it back.

use plotters::{
    coord::{
        Shift,
        ranged1d::{BoldPoints, Ranged},
        types::RangedCoordf64,
    },
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea},
    element::{Circle, DashedPathElement, PathElement, Rectangle, Text},
    prelude::DrawingBackend,
    style::{
        Color, FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use plotters_svg::SVGBackend;

use super::{AllocationReport, LayerRow, Measure, Method, RdCurves, RdLine, TransformKind};

mod changes;
pub mod figure;
#[cfg(feature = "cli")]
pub mod png;
pub mod sweep;

pub use changes::{Change, Replaced, changes};

/// Backend units per nominal pixel of an SVG.
const GRID: f64 = 8.0;
/// How an SVG is drawn. plotters-svg divides font sizes by 1.24; that is multiplied back.
const SVG: Scale = Scale { units: GRID, font: 1.24, drop: 0.0 };
/// The font family asked for. The PNG backend registers its bundled font under this name.
const FONT: &str = "system-ui, sans-serif";
/// Text height in nominal pixels.
const TEXT: f64 = 12.0;
/// Space left of the plot area for tick labels.
const LEFT: f64 = 40.0;
/// Space right of the plot area.
const RIGHT: f64 = 12.0;
/// Space above the plot area for the y axis' title and the legend.
const TOP: f64 = 30.0;
/// Space below the plot area for tick labels and the x axis' title.
const BOTTOM: f64 = 40.0;

/// Width below which the bars' legend has its own line.
const NARROW: f64 = 440.0;
/// Widest bar.
const BAR: f64 = 56.0;

/// What a drawing routine returns.
pub type Drawn<T, B> = Result<T, DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Colours of both charts. Lines and bars differ in dash, lightness or hatching as well, never in colour alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Palette {
    /// Behind everything; `None` leaves it transparent.
    pub background: Option<RGBColor>,
    /// Axis titles, legend, and the line of no transform.
    pub text: RGBColor,
    /// Tick labels and axes.
    pub muted: RGBColor,
    /// Grid lines.
    pub grid: RGBColor,
    /// Bars of no transform.
    pub none: RGBColor,
    /// The `KLT` line.
    pub klt: RGBColor,
    /// Bars of `klt-row`.
    pub klt_row: RGBColor,
    /// Bars of `klt-col`.
    pub klt_col: RGBColor,
    /// The `ELT` line, and bars of `elt-row`.
    pub elt_row: RGBColor,
    /// Bars of `elt-col`.
    pub elt_col: RGBColor,
    /// Bars of `intra-dct1`.
    pub intra_dct1: RGBColor,
    /// Bars of `intra-dct2`.
    pub intra_dct2: RGBColor,
    /// Bars of `intra-klt`.
    pub intra_klt: RGBColor,
    /// Bars of `intra-elt`.
    pub intra_elt: RGBColor,
    /// Bars of `two-sided`.
    pub two_sided: RGBColor,
    /// Bars of layers whose errors are fed back.
    pub feedback: RGBColor,
    /// The line of the limit.
    pub limit: RGBColor,
    /// The `auto` line.
    pub auto: RGBColor,
    /// The operating point.
    pub marker: RGBColor,
}

impl Palette {
    /// For a light page and for print.
    pub const LIGHT: Palette = Palette {
        background: Some(RGBColor(255, 255, 255)),
        text: RGBColor(22, 32, 46),
        muted: RGBColor(84, 99, 119),
        grid: RGBColor(228, 234, 241),
        none: RGBColor(120, 134, 153),
        klt: RGBColor(188, 92, 6),
        klt_row: RGBColor(8, 105, 202),
        klt_col: RGBColor(20, 148, 160),
        elt_row: RGBColor(126, 63, 178),
        elt_col: RGBColor(178, 72, 140),
        intra_dct1: RGBColor(90, 120, 20),
        intra_dct2: RGBColor(46, 125, 50),
        intra_klt: RGBColor(141, 85, 36),
        intra_elt: RGBColor(194, 24, 91),
        two_sided: RGBColor(70, 80, 190),
        feedback: RGBColor(170, 50, 30),
        limit: RGBColor(84, 99, 119),
        auto: RGBColor(8, 105, 202),
        marker: RGBColor(8, 105, 202),
    };
    /// For a dark page.
    pub const DARK: Palette = Palette {
        background: Some(RGBColor(23, 33, 43)),
        text: RGBColor(230, 237, 245),
        muted: RGBColor(158, 173, 191),
        grid: RGBColor(38, 50, 66),
        none: RGBColor(139, 153, 172),
        klt: RGBColor(240, 160, 75),
        klt_row: RGBColor(86, 172, 255),
        klt_col: RGBColor(64, 196, 190),
        elt_row: RGBColor(190, 150, 255),
        elt_col: RGBColor(244, 143, 204),
        intra_dct1: RGBColor(190, 205, 90),
        intra_dct2: RGBColor(120, 205, 120),
        intra_klt: RGBColor(214, 165, 110),
        intra_elt: RGBColor(255, 120, 150),
        two_sided: RGBColor(150, 160, 255),
        feedback: RGBColor(255, 128, 108),
        limit: RGBColor(158, 173, 191),
        auto: RGBColor(86, 172, 255),
        marker: RGBColor(86, 172, 255),
    };
    /// The same colours on nothing: the page's own card shows through.
    pub const fn transparent(self) -> Palette {
        Palette { background: None, ..self }
    }
    fn bar(&self, (transform, feedback): Kind) -> RGBColor {
        match transform {
            None => self.muted,
            Some(_) if feedback => self.feedback,
            Some(TransformKind::None) => self.none,
            Some(TransformKind::KltRow) => self.klt_row,
            Some(TransformKind::KltCol) => self.klt_col,
            Some(TransformKind::EltRow) => self.elt_row,
            Some(TransformKind::EltCol) => self.elt_col,
            Some(TransformKind::IntraDct1) => self.intra_dct1,
            Some(TransformKind::IntraDct2) => self.intra_dct2,
            Some(TransformKind::IntraKlt) => self.intra_klt,
            Some(TransformKind::IntraElt) => self.intra_elt,
            Some(TransformKind::TwoSided) => self.two_sided,
        }
    }
}

/// Where the plot area of a curve is, in nominal pixels, and the data range it shows: maps one to the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Top edge.
    pub top: f64,
    /// Bottom edge.
    pub bottom: f64,
    /// Rate at the right edge, in bits per weight; the left edge is 0.
    pub rate_max: f64,
    /// Distortion at the bottom edge, in dB.
    pub db_min: f64,
    /// Distortion at the top edge, in dB.
    pub db_max: f64,
}

impl Frame {
    /// The frame of these curves in a drawing of `size` nominal pixels. Points that are not finite are left out.
    pub fn new(curves: &RdCurves, size: (u32, u32)) -> Frame {
        let (mut rate_max, mut db_min, mut db_max) = (0.0f64, 0.0f64, 0.0f64);
        for (rate, db) in curves.lines.iter().flat_map(finite) {
            rate_max = rate_max.max(rate);
            db_min = db_min.min(db);
            db_max = db_max.max(db);
        }
        let rate_max = if rate_max > 0.0 { rate_max } else { 1.0 };
        let db_min = if db_min < 0.0 { -round_up(-db_min) } else { -1.0 };
        let db_max = if db_max > 0.0 { round_up(db_max) } else { 0.0 };
        let (right, bottom) = inner(size);
        Frame { left: LEFT, right, top: TOP, bottom, rate_max, db_min, db_max }
    }
    /// Nominal pixels of a rate (bits per weight) and a distortion (dB).
    pub fn to_px(&self, rate: f64, db: f64) -> (f64, f64) {
        (
            self.left + rate / self.rate_max * (self.right - self.left),
            self.top + (self.db_max - db) / (self.db_max - self.db_min) * (self.bottom - self.top),
        )
    }
    /// Rate at a horizontal position; positions outside of the plot area count as its nearest edge.
    pub fn rate_at(&self, x: f64) -> f64 {
        ((x - self.left) / (self.right - self.left)).clamp(0.0, 1.0) * self.rate_max
    }
    /// Distortion at a vertical position, likewise.
    pub fn db_at(&self, y: f64) -> f64 {
        self.db_max - ((y - self.top) / (self.bottom - self.top)).clamp(0.0, 1.0) * (self.db_max - self.db_min)
    }
}

/// Where the bars of an allocation are, in nominal pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarFrame {
    /// Left edge of the plot area.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Top edge.
    pub top: f64,
    /// Bottom edge.
    pub bottom: f64,
    /// Number of bars.
    pub bars: usize,
}

impl BarFrame {
    /// The frame of `bars` bars in a drawing of `size` nominal pixels.
    pub fn new(bars: usize, size: (u32, u32)) -> BarFrame {
        let (right, bottom) = inner(size);
        // Where the legend does not fit beside the axis' title, it has its own line.
        let top = if right < NARROW { TOP + 18.0 } else { TOP };
        BarFrame { left: LEFT, right, top, bottom: bottom.max(top + 20.0), bars }
    }
    /// Left and right edge of the slot of bar `i`.
    pub fn slot(&self, i: usize) -> (f64, f64) {
        let width = (self.right - self.left) / self.bars.max(1) as f64;
        (self.left + i as f64 * width, self.left + (i + 1) as f64 * width)
    }
    /// The bar whose slot is at a horizontal position.
    pub fn at(&self, x: f64) -> Option<usize> {
        let i = ((x - self.left) / (self.right - self.left) * self.bars as f64).floor();
        (i >= 0.0 && i < self.bars as f64).then_some(i as usize)
    }
}

/// Right and bottom edge of a plot area. Even a drawing of no size has one.
fn inner((width, height): (u32, u32)) -> (f64, f64) {
    ((width as f64 - RIGHT).max(LEFT + 20.0), (height as f64 - BOTTOM).max(TOP + 20.0))
}

/// The next of 1, 2, 3 … 9, 10, 12, 15, 20, 25, 30 … at or above a positive value: an axis ends where a label can stand.
fn round_up(v: f64) -> f64 {
    let scale = 10f64.powf(v.log10().floor());
    const STEPS: [f64; 13] = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
    STEPS.iter().map(|s| s * scale).find(|&s| s >= v * (1.0 - 1e-9)).unwrap_or(10.0 * scale)
}

/// Title of the axis of distortions.
fn distortion_title(measure: Measure) -> &'static str {
    match measure {
        Measure::Weights => "distortion (dB)",
        Measure::Output => "output distortion (dB)",
    }
}

fn finite(line: &RdLine) -> impl Iterator<Item = (f64, f64)> {
    line.points.iter().map(|p| (p.rate, p.db)).filter(|(r, d)| r.is_finite() && d.is_finite())
}

/// Round values of an axis, at most `most` of them.
fn ticks(from: f64, to: f64, most: usize) -> Vec<f64> {
    // What is left of a sum that ought to be zero is zero.
    let zero = 1e-9 * (to - from).abs();
    RangedCoordf64::from(from..to).key_points(BoldPoints(most)).into_iter().map(|v| if v.abs() < zero { 0.0 } else { v }).collect()
}

/// A tick's label: no more digits than needed, powers of ten where there would be many zeros, and a true minus sign.
fn tick_label(v: f64) -> String {
    // Steps are round numbers, their sums nearly.
    let round: f64 = format!("{v:.6e}").parse().unwrap_or(v);
    let label = if round != 0.0 && round.abs() < 1e-3 { format!("{round:e}") } else { format!("{}", round + 0.0) };
    label.replace('-', "\u{2212}")
}

/// At most `most` characters, the last an ellipsis if some are missing.
fn shortened(s: &str, most: usize) -> String {
    if s.chars().count() <= most {
        return s.to_string();
    }
    s.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// How nominal pixels become a backend's units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Backend units per nominal pixel.
    pub units: f64,
    /// Font size to ask the backend for, over the one wanted.
    pub font: f64,
    /// How much lower text must be placed for this backend, in nominal pixels.
    pub drop: f64,
}

/// A drawing area with lengths in nominal pixels.
struct Pen<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
    scale: Scale,
}

impl<B: DrawingBackend> Pen<B> {
    fn new(backend: B, scale: Scale, palette: &Palette) -> Drawn<Self, B> {
        let area = backend.into_drawing_area();
        if let Some(c) = &palette.background {
            area.fill(c)?;
        }
        Ok(Pen { area, scale })
    }
    /// Whole backend units: what plotters draws in.
    fn units(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale.units).round() as i32, (y * self.scale.units).round() as i32)
    }
    fn stroke(&self, color: RGBColor, width: f64) -> ShapeStyle {
        color.stroke_width((width * self.scale.units).round().max(1.0) as u32)
    }
    fn path(&self, points: impl IntoIterator<Item = (f64, f64)>, color: RGBColor, width: f64) -> Drawn<(), B> {
        let points: Vec<_> = points.into_iter().map(|p| self.units(p)).collect();
        self.area.draw(&PathElement::new(points, self.stroke(color, width)))
    }
    fn line(&self, from: (f64, f64), to: (f64, f64), color: RGBColor, width: f64) -> Drawn<(), B> {
        self.path([from, to], color, width)
    }
    fn dashed(&self, points: &[(f64, f64)], dash: f64, gap: f64, color: RGBColor, width: f64) -> Drawn<(), B> {
        let points: Vec<_> = points.iter().map(|&p| self.units(p)).collect();
        let length = |v: f64| (v * self.scale.units).round().max(1.0) as u32;
        self.area.draw(&DashedPathElement::new(points, length(dash), length(gap), self.stroke(color, width)))
    }
    fn rect(&self, from: (f64, f64), to: (f64, f64), color: RGBColor) -> Drawn<(), B> {
        self.area.draw(&Rectangle::new([self.units(from), self.units(to)], color.filled()))
    }
    fn disc(&self, at: (f64, f64), radius: f64, color: RGBColor) -> Drawn<(), B> {
        self.area.draw(&Circle::new(self.units(at), (radius * self.scale.units).round() as u32, color.filled()))
    }
    fn text(&self, text: &str, at: (f64, f64), h: HPos, v: VPos, color: RGBColor) -> Drawn<(), B> {
        let font = FontDesc::new(FontFamily::Name(FONT), TEXT * self.scale.units * self.scale.font, FontStyle::Normal);
        let style = TextStyle::from(font).color(&color).pos(Pos::new(h, v));
        self.area.draw(&Text::new(text.to_string(), self.units((at.0, at.1 + self.scale.drop)), style))
    }
    /// A line of the curve chart, in its own dash.
    fn rd_line(&self, label: &str, points: &[(f64, f64)], palette: &Palette) -> Drawn<(), B> {
        match label {
            "none" => self.dashed(points, 1.75, 4.25, palette.text, 1.75),
            "KLT" => self.dashed(points, 7.0, 4.0, palette.klt, 1.75),
            "ELT" => self.dashed(points, 13.0, 3.0, palette.elt_row, 1.75),
            "limit" => self.path(points.iter().copied(), palette.limit, 1.0),
            _ => self.path(points.iter().copied(), palette.auto, 3.0),
        }
    }
    fn finish(self) -> Drawn<(), B> {
        self.area.present()
    }
}

/// Draws the curves: rate in bits per weight on x, distortion in dB on y, one line per [`RdLine`], and the operating point
/// `(rate, dB)` if given. `size` is in nominal pixels.
pub fn curve<B: DrawingBackend>(
    backend: B,
    curves: &RdCurves,
    at: Option<(f64, f64)>,
    size: (u32, u32),
    scale: Scale,
    palette: &Palette,
) -> Drawn<Frame, B> {
    let pen = Pen::new(backend, scale, palette)?;
    let frame = Frame::new(curves, size);
    let Frame { left, right, top, bottom, .. } = frame;

    let down = ticks(frame.db_min, frame.db_max, 8).into_iter().map(|db| (db, frame.to_px(0.0, db).1));
    let along = ticks(0.0, frame.rate_max, most_along(right - left)).into_iter().map(|rate| (rate, frame.to_px(rate, 0.0).0));
    gridded(&pen, (left, top), (right, bottom), down, along, palette)?;
    pen.line((left, bottom), (right, bottom), palette.muted, 1.0)?;
    pen.text(distortion_title(curves.measure), (4.0, 6.0), HPos::Left, VPos::Top, palette.text)?;
    pen.text("rate (bits per weight)", ((left + right) / 2.0, bottom + 23.0), HPos::Center, VPos::Top, palette.text)?;

    // The solid line, `auto`, first: where lines coincide, the dots and dashes of the others show on it.
    for line in curves.lines.iter().rev() {
        let points: Vec<_> = finite(line).map(|(rate, db)| frame.to_px(rate, db)).collect();
        match points[..] {
            [] => {}
            [one] => pen.disc(one, 2.5, if line.label == "none" { palette.text } else { palette.auto })?,
            _ => pen.rd_line(&line.label, &points, palette)?,
        }
    }
    // The curves fall to the right: the upper right corner is free.
    for (i, line) in curves.lines.iter().enumerate() {
        let (x, y) = (right - 84.0, top + 16.0 + 20.0 * i as f64);
        pen.rd_line(&line.label, &[(x, y), (x + 28.0, y)], palette)?;
        pen.text(&shortened(&line.label, 8), (x + 36.0, y), HPos::Left, VPos::Center, palette.text)?;
    }
    if let Some((rate, db)) = at.filter(|(r, d)| r.is_finite() && d.is_finite()) {
        let (x, y) = frame.to_px(rate, db);
        pen.dashed(&[(x, top), (x, bottom)], 3.0, 3.0, palette.marker, 1.0)?;
        pen.disc((x, y), 5.0, palette.marker)?;
        pen.disc((x, y), 2.0, palette.background.unwrap_or(RGBColor(255, 255, 255)))?;
    }
    pen.finish()?;
    Ok(frame)
}

/// Draws the allocation: a bar per layer, bits per weight high, coloured by transform; an excluded layer's bar is hatched
/// and fills the plot area. Arguments as for [`curve`].
pub fn allocation<B: DrawingBackend>(
    backend: B,
    report: &AllocationReport,
    size: (u32, u32),
    scale: Scale,
    palette: &Palette,
) -> Drawn<BarFrame, B> {
    let pen = Pen::new(backend, scale, palette)?;
    let frame = BarFrame::new(report.layers.len(), size);
    let BarFrame { left, right, top, bottom, .. } = frame;
    let bits = |l: &LayerRow| if l.bits.is_finite() && !l.excluded { l.bits.max(0.0) } else { 0.0 };
    let max = round_up(report.layers.iter().map(bits).fold(1.0, f64::max));
    let y_of = |b: f64| bottom - b / max * (bottom - top);

    let down = ticks(0.0, max, 7).into_iter().map(|b| (b, y_of(b)));
    gridded(&pen, (left, top), (right, bottom), down, std::iter::empty(), palette)?;
    // What looks alike is drawn together, so that an SVG has few elements (`joined`): it is made anew for each budget that a slider passes.
    let bars = report.layers.iter().enumerate().map(|(i, layer)| {
        let (from, to) = frame.slot(i);
        let half = ((to - from) * 0.41).max((to - from - 6.0) / 2.0).min(BAR / 2.0);
        let y = if layer.excluded { top } else { y_of(bits(layer)) };
        (layer, ((from + to) / 2.0 - half, y), ((from + to) / 2.0 + half, bottom))
    });
    for (_, from, to) in bars.clone().filter(|(layer, ..)| layer.excluded) {
        hatch(&pen, from, to, palette)?;
    }
    let bars = bars.filter(|(layer, ..)| !layer.excluded);
    for (layer, from, to) in bars.clone() {
        pen.rect(from, to, palette.bar(kind(layer)))?;
    }
    for (layer, from, to) in bars {
        mark(&pen, kind(layer), from, to, palette)?;
    }
    if report.rate.is_finite() && report.rate > 0.0 && report.rate <= max && !report.layers.is_empty() {
        pen.dashed(&[(left, y_of(report.rate)), (right, y_of(report.rate))], 3.0, 3.0, palette.text, 1.0)?;
    }
    pen.line((left, bottom), (right, bottom), palette.muted, 1.0)?;
    let names: Vec<&str> = report.layers.iter().map(|l| l.name.as_str()).collect();
    position_labels(&pen, &names, (left, right), bottom + 7.0, palette)?;
    pen.text("layer", ((left + right) / 2.0, bottom + 23.0), HPos::Center, VPos::Top, palette.text)?;
    pen.text("bits per weight", (4.0, 6.0), HPos::Left, VPos::Top, palette.text)?;
    legend(&pen, report, (right, if right < NARROW { 34.0 } else { 12.0 }), palette)?;
    pen.finish()?;
    Ok(frame)
}

/// Ticks that fit along an axis of this width.
fn most_along(width: f64) -> usize {
    (width / 56.0).max(2.0) as usize
}

/// Lines across and down a plot area, and their labels beside it: values with their `y`, and with their `x`.
fn gridded<B: DrawingBackend>(
    pen: &Pen<B>,
    (left, top): (f64, f64),
    (right, bottom): (f64, f64),
    down: impl Iterator<Item = (f64, f64)> + Clone,
    along: impl Iterator<Item = (f64, f64)> + Clone,
    palette: &Palette,
) -> Drawn<(), B> {
    for (_, y) in down.clone() {
        pen.line((left, y), (right, y), palette.grid, 1.0)?;
    }
    for (_, x) in along.clone() {
        pen.line((x, top), (x, bottom), palette.grid, 1.0)?;
    }
    for (value, y) in down {
        pen.text(&tick_label(value), (left - 8.0, y), HPos::Right, VPos::Center, palette.muted)?;
    }
    for (value, x) in along {
        pen.text(&tick_label(value), (x, bottom + 7.0), HPos::Center, VPos::Top, palette.muted)?;
    }
    Ok(())
}

/// Names under positions that are wide, numbers (from 1, as in the table) under narrow ones.
fn position_labels<B: DrawingBackend>(pen: &Pen<B>, names: &[&str], (left, right): (f64, f64), y: f64, palette: &Palette) -> Drawn<(), B> {
    let n = names.len();
    let slot = (right - left) / n.max(1) as f64;
    let centre = |i: usize| left + (i as f64 + 0.5) * slot;
    if slot >= 90.0 {
        for (i, name) in names.iter().enumerate() {
            pen.text(&shortened(name, (slot / 7.2) as usize), (centre(i), y), HPos::Center, VPos::Top, palette.muted)?;
        }
    } else {
        let step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].into_iter().find(|s| slot * *s as f64 >= 22.0).unwrap_or(10000);
        for i in (0..n).filter(|i| i + 1 == 1 || (i + 1) % step == 0) {
            // 1 and the first multiple must not touch.
            if i == 0 && step > 1 && slot * (step - 1) as f64 <= 20.0 {
                continue;
            }
            pen.text(&(i + 1).to_string(), (centre(i), y), HPos::Center, VPos::Top, palette.muted)?;
        }
    }
    Ok(())
}

/// What a layer is compressed by: a transform, and whether its errors are fed back; no transform where it is kept.
type Kind = (Option<TransformKind>, bool);

fn kind(layer: &LayerRow) -> Kind {
    if layer.excluded { (None, false) } else { (layer.transform, layer.feedback) }
}

/// The transforms that occur, right-aligned on one line; of more than fit, those of most layers.
fn legend<B: DrawingBackend>(pen: &Pen<B>, report: &AllocationReport, (right, y): (f64, f64), palette: &Palette) -> Drawn<(), B> {
    let mut entries: Vec<(&str, Kind)> = TransformKind::ALL.into_iter().map(|t| (t.name(), (Some(t), false))).collect();
    entries.push((Method::Feedback.name(), (Some(TransformKind::None), true)));
    entries.push(("kept", (None, false)));
    let count = |of: Kind| report.layers.iter().filter(|l| kind(l) == of).count();
    entries.retain(|(_, of)| count(*of) > 0);
    let width = |name: &str| 26.0 + 7.0 * name.len() as f64;
    // Beside the axis' title, or on a line of its own.
    let room = if right < NARROW { right } else { right - 120.0 };
    while entries.iter().map(|(name, _)| width(name)).sum::<f64>() > room
        && let Some(rarest) = (0..entries.len()).min_by_key(|&i| count(entries[i].1))
    {
        entries.remove(rarest);
    }
    let mut x = right - entries.iter().map(|(name, _)| width(name)).sum::<f64>();
    for (name, of) in entries {
        let (from, to) = ((x, y - 5.0), (x + 10.0, y + 5.0));
        match of.0 {
            None => hatch(pen, from, to, palette)?,
            Some(_) => {
                pen.rect(from, to, palette.bar(of))?;
                mark(pen, of, from, to, palette)?;
            }
        }
        pen.text(name, (x + 15.0, y), HPos::Left, VPos::Center, palette.text)?;
        x += width(name);
    }
    Ok(())
}

/// What tells transforms apart without colour: `klt-row` has a notch line across its top, `klt-col` one down its middle; those of the ELT
/// have two; `two-sided` has both. Those within kernels have diagonals in their upper end: `intra-dct1` a rising one, `intra-dct2` a falling one,
/// `intra-klt` both, `intra-elt` both and a line above them. Error feedback has steps down from its upper left.
fn mark<B: DrawingBackend>(pen: &Pen<B>, (transform, feedback): Kind, from: (f64, f64), to: (f64, f64), palette: &Palette) -> Drawn<(), B> {
    let (width, height) = (to.0 - from.0, to.1 - from.1);
    let light = palette.background.unwrap_or(palette.grid);
    match transform {
        Some(_) if feedback && width >= 5.0 && height >= 9.0 => {
            let (x, y) = (|part: f64| from.0 + part * width, |down: f64| from.1 + down);
            let corners = [(0.0, 3.0), (0.33, 3.0), (0.33, 6.0), (0.67, 6.0), (0.67, 9.0), (1.0, 9.0)];
            pen.path(corners.map(|(part, down)| (x(part), y(down))), light, 1.25)
        }
        Some(TransformKind::KltRow) if width >= 5.0 && height >= 6.0 => pen.line((from.0, from.1 + 3.0), (to.0, from.1 + 3.0), light, 1.25),
        Some(TransformKind::KltCol) if width >= 5.0 && height >= 3.0 => {
            let x = (from.0 + to.0) / 2.0;
            pen.line((x, from.1), (x, to.1), light, 1.25)
        }
        Some(TransformKind::EltRow) if width >= 5.0 && height >= 9.0 => {
            let across = |down: f64| pen.line((from.0, from.1 + down), (to.0, from.1 + down), light, 1.25);
            across(3.0).and_then(|()| across(6.5))
        }
        Some(TransformKind::EltCol) if width >= 8.0 && height >= 3.0 => {
            let down = |part: f64| pen.line((from.0 + part * width, from.1), (from.0 + part * width, to.1), light, 1.25);
            down(1.0 / 3.0).and_then(|()| down(2.0 / 3.0))
        }
        Some(TransformKind::TwoSided) if width >= 5.0 && height >= 6.0 => {
            let x = (from.0 + to.0) / 2.0;
            pen.line((from.0, from.1 + 3.0), (to.0, from.1 + 3.0), light, 1.25)?;
            pen.line((x, from.1), (x, to.1), light, 1.25)
        }
        Some(kind) if kind.within_kernels() && width >= 5.0 && height >= 9.0 => {
            let (top, bottom) = (from.1 + 3.0, from.1 + 9.0);
            if kind != TransformKind::IntraDct2 {
                pen.line((from.0, bottom), (to.0, top), light, 1.25)?;
            }
            if kind != TransformKind::IntraDct1 {
                pen.line((from.0, top), (to.0, bottom), light, 1.25)?;
            }
            if kind == TransformKind::IntraElt {
                pen.line((from.0, top), (to.0, top), light, 1.25)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// An outlined rectangle with diagonal lines; a pale one where lines would run together.
fn hatch<B: DrawingBackend>(pen: &Pen<B>, from: (f64, f64), to: (f64, f64), palette: &Palette) -> Drawn<(), B> {
    let (width, height) = (to.0 - from.0, to.1 - from.1);
    if width < 4.0 {
        return pen.rect(from, to, palette.grid);
    }
    let color = palette.muted;
    pen.path([from, (to.0, from.1), to, (from.0, to.1), from], color, 1.0)?;
    let step = 6.0;
    let mut c = step;
    // The line x + y = c from the upper left corner, cut to the rectangle.
    while c < width + height {
        let a = (from.0 + (c - height).max(0.0), from.1 + c.min(height));
        let b = (from.0 + c.min(width), from.1 + (c - width).max(0.0));
        pen.line(a, b, color, 1.0)?;
        c += step;
    }
    Ok(())
}

/// The curves as a standalone SVG of `size` pixels, and the frame that maps data to them. `at` is the operating point,
/// `(rate, dB)`.
pub fn curve_svg(curves: &RdCurves, at: Option<(f64, f64)>, size: (u32, u32), palette: &Palette) -> (String, Frame) {
    let mut svg = String::new();
    // Writing to a string does not fail; were it to, the frame is right all the same.
    let frame =
        curve(SVGBackend::with_string(&mut svg, grid(size)), curves, at, size, SVG, palette).unwrap_or_else(|_| Frame::new(curves, size));
    (finished(svg, size), frame)
}

/// The allocation as a standalone SVG of `size` pixels; its bars are where [`BarFrame::new`] says.
pub fn allocation_svg(report: &AllocationReport, size: (u32, u32), palette: &Palette) -> String {
    let mut svg = String::new();
    let drawn = allocation(SVGBackend::with_string(&mut svg, grid(size)), report, size, SVG, palette);
    debug_assert!(drawn.is_ok(), "writing to a string does not fail");
    finished(svg, size)
}

fn grid((width, height): (u32, u32)) -> (u32, u32) {
    (width * GRID as u32, height * GRID as u32)
}

/// A drawing as it is given away: the root element says the nominal size (the `viewBox` stays that of the grid), and lines are joined.
fn finished(svg: String, size: (u32, u32)) -> String {
    let (w, h) = grid(size);
    joined(&svg.replacen(&format!("width=\"{w}\" height=\"{h}\""), &format!("width=\"{}\" height=\"{}\"", size.0, size.1), 1))
}

/// Makes one `<path>` of opaque `<polyline>`s of the same stroke that follow each other: plotters makes an element of every dash, and a browser takes as long for it as for a curve.
fn joined(svg: &str) -> String {
    /// What comes before the points, and the points.
    fn parts(line: &str) -> Option<(&str, &str)> {
        let (stroke, points) = line.strip_prefix("<polyline ")?.split_once(" points=\"")?;
        stroke.contains("opacity=\"1\"").then_some((stroke, points.strip_suffix("\"/>")?.trim_end()))
    }
    let mut joined = String::with_capacity(svg.len());
    let mut lines = svg.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let Some((stroke, first)) = parts(line.trim_end()) else {
            joined += line;
            continue;
        };
        let mut more = std::iter::from_fn(|| {
            let line = lines.next_if(|next| parts(next.trim_end()).is_some_and(|(other, _)| other == stroke))?;
            parts(line.trim_end()).map(|(_, points)| points)
        })
        .peekable();
        if more.peek().is_none() {
            joined += line;
            continue;
        }
        joined += &format!("<path {stroke} d=\"M{first}");
        for points in more {
            joined.push('M');
            joined += points;
        }
        joined += "\"/>\n";
    }
    joined
}

#[cfg(test)]
pub(crate) mod tests;
