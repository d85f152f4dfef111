//! Any [`Figure`]: axes that fit its numbers, lines, bars and dots that differ in more than colour, pictures of cells.

use plotters::element::Polygon;

use super::{
    Color, DrawingBackend, Drawn, HPos, LEFT, Palette, Pen, RGBColor, RIGHT, SVG, SVGBackend, Scale, VPos, finished, grid, gridded, inner,
    most_along, position_labels, ticks,
};
use crate::report::{
    TransformKind,
    figure::{Axis, Chart, Content, Figure, Panel, Picture, Series, Shape},
};

/// Height of the line that an axis' title stands on, above the plot area.
const TITLE: f64 = 24.0;
/// Height of a line of the legend.
const ROW: f64 = 18.0;
/// Width of a letter of the legend, about.
const LETTER: f64 = 6.8;
/// From a line of words to the next, of a picture's sides and of names of marks.
const LINE: f64 = 14.0;
/// Radius of a dot.
const DOT: f64 = 3.5;
/// Most letters of a name in the legend.
const LONGEST: usize = 28;

/// Where the plot area of a chart is, in nominal pixels, and the data range it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChartFrame {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Top edge.
    pub top: f64,
    /// Bottom edge.
    pub bottom: f64,
    /// Values at the left and at the right edge.
    pub x: (f64, f64),
    /// Values at the bottom and at the top edge.
    pub y: (f64, f64),
}

impl ChartFrame {
    /// The frame of a chart in a drawing of `size` nominal pixels.
    pub fn new(chart: &Chart, size: (u32, u32)) -> ChartFrame {
        let (right, bottom) = inner(size);
        let standing = (0..chart.marks.len()).filter(|&i| chart.marks[i].standing && named_before(chart, i).is_some()).count();
        let top = TITLE + ROW * legend(chart, right).len() as f64 + 8.0 + LINE * standing as f64;
        let (left, bottom) = (LEFT + 10.0, bottom.max(top + 20.0));
        let bars = chart.series.iter().any(|s| s.shape == Shape::Bars);
        let x = match chart.x.names.len() {
            0 => range(chart, 0, bars),
            n => (-0.5, n as f64 - 0.5),
        };
        let mut frame = ChartFrame { left, right: right.max(left + 20.0), top, bottom, x, y: range(chart, 1, bars) };
        if chart.equal {
            frame.equalize();
        }
        frame
    }

    /// Widens the range of the axis that has more room for its numbers.
    fn equalize(&mut self) {
        let unit = |range: (f64, f64), room: f64| (range.1 - range.0) / room;
        let (x, y) = (unit(self.x, self.right - self.left), unit(self.y, self.bottom - self.top));
        let wider = |range: (f64, f64), by: f64| {
            let (middle, half) = ((range.0 + range.1) / 2.0, (range.1 - range.0) / 2.0 * by);
            (middle - half, middle + half)
        };
        if x < y { self.x = wider(self.x, y / x) } else { self.y = wider(self.y, x / y) }
    }

    /// Nominal pixels of a point.
    pub fn to_px(&self, [x, y]: [f64; 2]) -> (f64, f64) {
        (
            self.left + (x - self.x.0) / (self.x.1 - self.x.0) * (self.right - self.left),
            self.bottom - (y - self.y.0) / (self.y.1 - self.y.0) * (self.bottom - self.top),
        )
    }

    /// The point of nominal pixels.
    pub fn from_px(&self, (x, y): (f64, f64)) -> [f64; 2] {
        [
            self.x.0 + (x - self.left) / (self.right - self.left) * (self.x.1 - self.x.0),
            self.y.0 + (self.bottom - y) / (self.bottom - self.top) * (self.y.1 - self.y.0),
        ]
    }

    /// The series and the point that are nearest to nominal pixels, no farther than 24 of them; above and below a bar or a named position, those of it.
    pub fn nearest(&self, chart: &Chart, (px, py): (f64, f64)) -> Option<(usize, usize)> {
        let named = !chart.x.names.is_empty();
        let mut best = (if named { f64::INFINITY } else { 24.0 * 24.0 }, None);
        for (s, series) in chart.series.iter().enumerate() {
            for (p, point) in series.points.iter().enumerate().filter(|(_, p)| p[0].is_finite() && p[1].is_finite()) {
                let (x, y) = self.to_px(*point);
                // Among names the position counts first.
                let across = if named { (self.from_px((px, py))[0].round() - point[0]).abs() * 1e3 } else { px - x };
                let distance = across * across + (py - y) * (py - y);
                if distance < best.0 {
                    best = (distance, Some((s, p)));
                }
            }
        }
        let inside = px >= self.left - 4.0 && px <= self.right + 4.0 && py >= self.top - 4.0 && py <= self.bottom + 24.0;
        best.1.filter(|_| inside)
    }
}

/// The range of an axis: of its numbers, of marks, of what it shows at least; with 0 for the height of bars; ending where labels can stand.
fn range(chart: &Chart, axis: usize, bars: bool) -> (f64, f64) {
    let of: &Axis = if axis == 0 { &chart.x } else { &chart.y };
    let points = chart.series.iter().flat_map(|s| &s.points).filter(|p| p[0].is_finite() && p[1].is_finite()).map(|p| p[axis]);
    let marks = chart.marks.iter().filter(|m| m.standing == (axis == 0)).map(|m| m.at).filter(|v| v.is_finite());
    let zero = (bars && axis == 1).then_some(0.0);
    let values = points.chain(marks).chain(of.at_least.into_iter().flatten()).chain(zero);
    let (from, to) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), v| (from.min(v), to.max(v)));
    match () {
        _ if from > to => (0.0, 1.0),
        // Bars without any height stand on the edge too.
        _ if from == to && bars && axis == 1 => (0.0, 1.0),
        _ if from == to => (from - 0.5 * from.abs().max(1.0), to + 0.5 * to.abs().max(1.0)),
        // Bars stand on the edge, and half a bar stands out.
        _ if axis == 0 => {
            let margin = if bars { spacing(&chart.series) / 2.0 } else { 0.0 };
            (from - margin, to + margin)
        }
        _ => {
            let margin = 0.04 * (to - from);
            (if from == 0.0 && bars { 0.0 } else { from - margin }, to + margin)
        }
    }
}

/// The least distance between bars; of a single one, one.
fn spacing(series: &[Series]) -> f64 {
    let bars = series.iter().filter(|s| s.shape == Shape::Bars);
    let gaps = bars.flat_map(|s| s.points.windows(2).map(|w| (w[1][0] - w[0][0]).abs())).filter(|gap| *gap > 0.0);
    let least = gaps.fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 1.0 }
}

/// Lines of the legend: places of series.
fn legend(chart: &Chart, right: f64) -> Vec<Vec<usize>> {
    let mut lines: Vec<(f64, Vec<usize>)> = Vec::new();
    let shown = chart.series.iter().enumerate().filter(|(_, s)| !s.faint && !s.name.is_empty());
    // One of one kind is what the axis says it is.
    if shown.clone().count() < 2 && !chart.series.iter().any(|s| s.faint) {
        return Vec::new();
    }
    for (i, series) in shown {
        let width = 40.0 + LETTER * series.name.chars().count().min(LONGEST) as f64;
        match lines.last_mut().filter(|(used, _)| used + width <= right - LEFT) {
            Some((used, line)) => {
                *used += width;
                line.push(i);
            }
            None => lines.push((width, vec![i])),
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Colour of a series: that of the transform it is named after, else its own.
fn colour(chart: &Chart, i: usize, palette: &Palette) -> RGBColor {
    let series = &chart.series[i];
    if series.faint {
        return palette.none;
    }
    let kind = TransformKind::ALL.into_iter().find(|k| k.name() == series.name);
    let turns =
        [palette.auto, palette.klt, palette.elt_row, palette.klt_col, palette.elt_col, palette.intra_dct2, palette.feedback, palette.text];
    let place = chart.series[..i].iter().filter(|s| !s.faint).count();
    kind.map_or(turns[place % turns.len()], |kind| palette.bar((Some(kind), false)))
}

/// Length of dashes and of gaps of a series' lines; none for a solid one.
fn dash(chart: &Chart, i: usize) -> Option<(f64, f64)> {
    let place = chart.series[..i].iter().filter(|s| !s.faint).count();
    [None, Some((7.0, 4.0)), Some((2.0, 4.0)), Some((13.0, 3.0)), Some((4.0, 3.0)), Some((9.0, 6.0)), Some((2.0, 7.0)), Some((5.0, 7.0))]
        [place % 8]
}

/// Runs of finite points, in nominal pixels.
fn runs(series: &Series, frame: &ChartFrame) -> Vec<Vec<(f64, f64)>> {
    let finite = |p: &&[f64; 2]| p[0].is_finite() && p[1].is_finite();
    let runs = series.points.split(|p| !finite(&p)).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().map(|p| frame.to_px(*p)).collect()).collect()
}

impl<B: DrawingBackend> Pen<B> {
    /// A line in a series' own dash.
    fn series_line(&self, chart: &Chart, i: usize, points: &[(f64, f64)], palette: &Palette) -> Drawn<(), B> {
        let (color, faint) = (colour(chart, i, palette), chart.series[i].faint);
        match dash(chart, i).filter(|_| !faint) {
            _ if points.len() < 2 => points.first().map_or(Ok(()), |p| self.disc(*p, 2.0, color)),
            None => self.path(points.iter().copied(), color, if faint { 0.75 } else { 2.0 }),
            Some((on, off)) => self.dashed(points, on, off, color, 2.0),
        }
    }

    /// A dot of a series: disc, square, diamond, triangle.
    fn series_dot(&self, chart: &Chart, i: usize, (x, y): (f64, f64), palette: &Palette) -> Drawn<(), B> {
        let color = colour(chart, i, palette);
        if chart.series[i].faint {
            return self.disc((x, y), 1.5, color);
        }
        let corners: &[(f64, f64)] = match chart.series[..i].iter().filter(|s| !s.faint).count() % 4 {
            0 => return self.disc((x, y), DOT, color),
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            _ => &[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        };
        let corners: Vec<_> = corners.iter().map(|(dx, dy)| self.units((x + DOT * dx, y + DOT * dy))).collect();
        self.area.draw(&Polygon::new(corners, color.filled()))
    }

    /// A bar of a series, with as many notches at its end as there are series before it.
    fn series_bar(&self, chart: &Chart, i: usize, from: (f64, f64), to: (f64, f64), palette: &Palette) -> Drawn<(), B> {
        let (top, bottom) = (from.1.min(to.1), from.1.max(to.1));
        self.rect((from.0, top), (to.0, bottom), colour(chart, i, palette))?;
        let notches = chart.series[..i].iter().filter(|s| s.shape == Shape::Bars).count();
        let light = palette.background.unwrap_or(palette.grid);
        let fits = to.0 - from.0 >= 4.0 && bottom - top >= 3.0 * notches as f64 + 4.0;
        (0..if fits { notches } else { 0 }).try_for_each(|n| {
            let y = top + 3.0 + 3.0 * n as f64;
            self.line((from.0, y), (to.0, y), light, 1.0)
        })
    }

    fn series(&self, chart: &Chart, i: usize, frame: &ChartFrame, palette: &Palette) -> Drawn<(), B> {
        let series = &chart.series[i];
        match series.shape {
            Shape::Line => runs(series, frame).iter().try_for_each(|run| self.series_line(chart, i, run, palette)),
            Shape::Outline => runs(series, frame).into_iter().try_for_each(|mut run| {
                run.push(run[0]);
                self.series_line(chart, i, &run, palette)
            }),
            Shape::Steps => runs(series, frame).iter().try_for_each(|run| {
                let corners: Vec<_> = run.windows(2).flat_map(|w| [w[0], (w[1].0, w[0].1)]).chain(run.last().copied()).collect();
                self.series_line(chart, i, &corners, palette)
            }),
            Shape::Dots => runs(series, frame).into_iter().flatten().try_for_each(|p| self.series_dot(chart, i, p, palette)),
            Shape::Bars => {
                let bars: Vec<usize> = (0..chart.series.len()).filter(|&k| chart.series[k].shape == Shape::Bars).collect();
                let place = bars.iter().position(|&k| k == i).unwrap_or(0) as f64;
                let slot = if chart.x.names.is_empty() { spacing(&chart.series) } else { 1.0 };
                let slot = slot / (frame.x.1 - frame.x.0) * (frame.right - frame.left);
                // Bars of a histogram touch; those of names have room between them.
                let used = if chart.x.names.is_empty() { 0.96 * slot } else { (0.82 * slot).max(slot - 8.0).min(slot) };
                let width = used / bars.len() as f64;
                let zero = frame.to_px([0.0, 0.0]).1.clamp(frame.top, frame.bottom);
                runs(series, frame).into_iter().flatten().try_for_each(|(x, y)| {
                    let from = x - used / 2.0 + place * width;
                    self.series_bar(chart, i, (from, y), (from + width.max(0.5), zero), palette)
                })
            }
        }
    }
}

fn axes<B: DrawingBackend>(pen: &Pen<B>, chart: &Chart, frame: &ChartFrame, palette: &Palette) -> Drawn<(), B> {
    let ChartFrame { left, right, top, bottom, x, y } = *frame;
    let up = (((bottom - top) / 32.0).max(2.0) as usize).min(8);
    let down = ticks(y.0, y.1, up).into_iter().map(|value| (value, frame.to_px([0.0, value]).1));
    let numbers = if chart.x.names.is_empty() { ticks(x.0, x.1, most_along(right - left)) } else { Vec::new() };
    let along = numbers
        .into_iter()
        .filter(|value| !chart.x.whole || (value - value.round()).abs() < 1e-6)
        .map(|value| (value, frame.to_px([value, 0.0]).0));
    gridded(pen, (left, top), (right, bottom), down, along, palette)?;
    if !chart.x.names.is_empty() {
        let names: Vec<&str> = chart.x.names.iter().map(String::as_str).collect();
        position_labels(pen, &names, (left, right), bottom + 7.0, palette)?;
    }
    pen.line((left, bottom), (right, bottom), palette.muted, 1.0)?;
    pen.text(&chart.y.words(), (4.0, 6.0), HPos::Left, VPos::Top, palette.text)?;
    pen.text(&chart.x.words(), ((left + right) / 2.0, bottom + 23.0), HPos::Center, VPos::Top, palette.text)
}

/// How many names of marks that stand, or lie, as this one does come before its own; none where its name has come already.
fn named_before(chart: &Chart, i: usize) -> Option<usize> {
    let first = |i: usize| chart.marks[..i].iter().all(|m| m.name != chart.marks[i].name);
    first(i).then(|| (0..i).filter(|&k| first(k) && chart.marks[k].standing == chart.marks[i].standing).count())
}

/// Whether lines or dots of a chart pass through a box of nominal pixels, from its left upper corner to its right lower one.
fn crossed(chart: &Chart, frame: &ChartFrame, (from, to): ((f64, f64), (f64, f64))) -> bool {
    let enters = |a: (f64, f64), b: (f64, f64)| {
        // The part of the segment that is above and below the box's width.
        let (a, b) = if a.0 <= b.0 { (a, b) } else { (b, a) };
        let at = |x: f64| if b.0 > a.0 { a.1 + (b.1 - a.1) * ((x - a.0) / (b.0 - a.0)).clamp(0.0, 1.0) } else { a.1 };
        let (y, z) = if b.0 > a.0 { (at(from.0), at(to.0)) } else { (a.1, b.1) };
        b.0 >= from.0 && a.0 <= to.0 && y.max(z) >= from.1 && y.min(z) <= to.1
    };
    let crosses = |run: Vec<(f64, f64)>| run.first().is_some_and(|p| enters(*p, *p)) || run.windows(2).any(|w| enters(w[0], w[1]));
    chart.series.iter().filter(|s| s.shape != Shape::Bars).any(|s| runs(s, frame).into_iter().any(crosses))
}

/// A line across, with its name: of one that stands above the plot area, in a line of its own; of one that lies at an end where nothing passes through it, if there is one. One whose name
/// has been told already is thin.
fn mark<B: DrawingBackend>(pen: &Pen<B>, chart: &Chart, i: usize, frame: &ChartFrame, palette: &Palette) -> Drawn<(), B> {
    let ChartFrame { left, right, top, bottom, .. } = *frame;
    let (mark, place) = (&chart.marks[i], named_before(chart, i));
    if !mark.at.is_finite() {
        return Ok(());
    }
    let name = if place.is_some() { &mark.name } else { "" };
    let (color, width) = if place.is_some() { (palette.text, 1.25) } else { (palette.muted, 0.75) };
    if mark.standing {
        let x = frame.to_px([mark.at, 0.0]).0;
        pen.dashed(&[(x, top), (x, bottom)], 3.0, 3.0, color, width)?;
        let side = if x > (left + right) / 2.0 { HPos::Right } else { HPos::Left };
        pen.text(name, (x, top - 3.0 - LINE * place.unwrap_or(0) as f64), side, VPos::Bottom, palette.text)
    } else {
        let y = frame.to_px([0.0, mark.at]).1;
        pen.dashed(&[(left, y), (right, y)], 3.0, 3.0, color, width)?;
        let wide = LETTER * name.chars().count() as f64;
        let ends = [(right - 2.0, HPos::Right, right - 2.0 - wide), (left + 2.0, HPos::Left, left + 2.0)];
        let sides = [(VPos::Bottom, y - 3.0, y - 3.0 - LINE), (VPos::Top, y + 3.0, y + 3.0)];
        let places = ends.into_iter().flat_map(|end| sides.map(|side| (end, side)));
        let inside = places.filter(|(_, (_, _, upper))| *upper >= top && upper + LINE <= bottom);
        let free =
            inside.clone().find(|((_, _, from), (_, _, upper))| !crossed(chart, frame, ((*from, *upper), (from + wide, upper + LINE))));
        let ((at, side, _), (above, line, _)) = free.or_else(|| inside.clone().next()).unwrap_or((ends[0], sides[0]));
        pen.text(name, (at, line), side, above, palette.text)
    }
}

fn chart<B: DrawingBackend>(pen: &Pen<B>, chart: &Chart, size: (u32, u32), palette: &Palette) -> Drawn<(), B> {
    let frame = ChartFrame::new(chart, size);
    axes(pen, chart, &frame, palette)?;
    let (behind, before): (Vec<usize>, Vec<usize>) = (0..chart.series.len()).partition(|&i| chart.series[i].faint);
    behind.into_iter().chain(before).try_for_each(|i| pen.series(chart, i, &frame, palette))?;
    if frame.y.0 < 0.0 && frame.y.1 > 0.0 {
        let zero = frame.to_px([0.0, 0.0]).1;
        pen.line((frame.left, zero), (frame.right, zero), palette.muted, 1.0)?;
    }
    (0..chart.marks.len()).try_for_each(|i| mark(pen, chart, i, &frame, palette))?;
    for (line, series) in legend(chart, inner(size).0).into_iter().enumerate() {
        let (mut x, y) = (LEFT + 10.0, TITLE + ROW * (line as f64 + 0.5));
        for i in series {
            match chart.series[i].shape {
                Shape::Dots => pen.series_dot(chart, i, (x + 12.0, y), palette)?,
                Shape::Bars => pen.series_bar(chart, i, (x + 6.0, y - 6.0), (x + 18.0, y + 6.0), palette)?,
                Shape::Line | Shape::Steps | Shape::Outline => pen.series_line(chart, i, &[(x, y), (x + 24.0, y)], palette)?,
            }
            let name = super::shortened(&chart.series[i].name, LONGEST);
            pen.text(&name, (x + 29.0, y), HPos::Left, VPos::Center, palette.text)?;
            x += 40.0 + LETTER * name.chars().count() as f64;
        }
    }
    Ok(())
}

/// The colour of a value: towards orange above zero, towards blue below, the card's own at zero.
fn shade(value: f32, full: f32, palette: &Palette) -> Option<RGBColor> {
    let part = f64::from((value / full.max(f32::MIN_POSITIVE)).clamp(-1.0, 1.0));
    if !part.is_finite() {
        return None;
    }
    let RGBColor(r, g, b) = palette.background.unwrap_or(palette.grid);
    let RGBColor(to_r, to_g, to_b) = if part < 0.0 { palette.klt_row } else { palette.klt };
    // The square root, so that small values can be seen; in 32 steps, so that runs of like cells are one rectangle.
    let part = (part.abs().sqrt() * 32.0).round() / 32.0;
    let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * part).round() as u8;
    Some(RGBColor(mix(r, to_r), mix(g, to_g), mix(b, to_b)))
}

/// What lies along a picture's sides, in as many lines as a width asks for.
fn sides(picture: &Picture, width: u32) -> Vec<String> {
    let words = format!("{} down, {} across", picture.rows, picture.columns);
    if 4.0 + LETTER * words.chars().count() as f64 <= f64::from(width) {
        return vec![words];
    }
    vec![format!("{} down,", picture.rows), format!("{} across", picture.columns)]
}

/// Room above a picture's cells, for the words of its sides.
pub fn picture_head(picture: &Picture, width: u32) -> f64 {
    12.0 + LINE * sides(picture, width).len() as f64
}

/// Side of a cell of a picture.
fn cell(picture: &Picture, (width, height): (u32, u32)) -> f64 {
    let columns = picture.width.max(1);
    let rows = picture.values.len().div_ceil(columns).max(1);
    ((f64::from(width) - 4.0 - RIGHT) / columns as f64)
        .min((f64::from(height) - 26.0 - picture_head(picture, width)) / rows as f64)
        .clamp(0.5, 28.0)
}

fn picture<B: DrawingBackend>(pen: &Pen<B>, picture: &Picture, (width, height): (u32, u32), palette: &Palette) -> Drawn<(), B> {
    let columns = picture.width.max(1);
    let rows = picture.values.len().div_ceil(columns).max(1);
    let (left, top) = (4.0, picture_head(picture, width));
    let cell = cell(picture, (width, height));
    for (i, words) in sides(picture, width).iter().enumerate() {
        pen.text(words, (left, 6.0 + LINE * i as f64), HPos::Left, VPos::Top, palette.text)?;
    }
    for (row, line) in picture.values.chunks(columns).enumerate() {
        let (mut start, y) = (0, top + row as f64 * cell);
        let shades: Vec<_> = line.iter().map(|v| shade(*v, picture.full, palette)).collect();
        for end in 1..=shades.len() {
            if end == shades.len() || shades[end] != shades[start] {
                if let Some(color) = shades[start] {
                    pen.rect((left + start as f64 * cell, y), (left + end as f64 * cell, y + cell), color)?;
                }
                start = end;
            }
        }
    }
    // The scale.
    let y = top + rows as f64 * cell + 8.0;
    for i in 0..32u8 {
        let value = (f32::from(i) + 0.5) / 16.0 - 1.0;
        let x = left + 52.0 + f64::from(i) * 3.0;
        shade(value, 1.0, palette).map_or(Ok(()), |color| pen.rect((x, y), (x + 3.0, y + 10.0), color))?;
    }
    let bound = |v: f32| if v.abs() >= 0.01 || v == 0.0 { format!("{v:.2}") } else { format!("{v:.1e}") }.replace('-', "\u{2212}");
    pen.text(&bound(-picture.full), (left + 48.0, y + 5.0), HPos::Right, VPos::Center, palette.muted)?;
    pen.text(&bound(picture.full), (left + 152.0, y + 5.0), HPos::Left, VPos::Center, palette.muted)
}

fn panel<B: DrawingBackend>(pen: &Pen<B>, of: &Panel, size: (u32, u32), palette: &Palette) -> Drawn<(), B> {
    match &of.content {
        Content::Chart(c) => chart(pen, c, size, palette),
        Content::Picture(p) => picture(pen, p, size, palette),
    }
}

/// Draws a panel. `size` is in nominal pixels.
pub fn draw_panel<B: DrawingBackend>(backend: B, of: &Panel, size: (u32, u32), scale: Scale, palette: &Palette) -> Drawn<(), B> {
    let pen = Pen::new(backend, scale, palette)?;
    panel(&pen, of, size, palette)?;
    pen.finish()
}

/// A panel as a standalone SVG of `size` pixels; its numbers are where [`ChartFrame::new`] says.
pub fn panel_svg(of: &Panel, size: (u32, u32), palette: &Palette) -> String {
    let mut svg = String::new();
    let drawn = draw_panel(SVGBackend::with_string(&mut svg, grid(size)), of, size, SVG, palette);
    debug_assert!(drawn.is_ok(), "writing to a string does not fail");
    finished(svg, size)
}

/// Height of a heading in a picture of a whole figure.
const HEADING: u32 = 30;

/// Height of a panel in a picture of a whole figure: that of charts is given, pictures take no more than they need.
fn panel_height(of: &Panel, (width, height): (u32, u32)) -> u32 {
    let Content::Picture(picture) = &of.content else { return height };
    let rows = picture.values.len().div_ceil(picture.width.max(1)).max(1);
    height.min((34.0 + picture_head(picture, width) + cell(picture, (width, height)) * rows as f64).ceil() as u32)
}

/// Size of a picture of a whole figure, whose charts are of `size`.
pub fn figure_size(figure: &Figure, size: (u32, u32)) -> (u32, u32) {
    let named = figure.panels.iter().filter(|p| !p.name.is_empty()).count() as u32;
    (size.0, HEADING + figure.panels.iter().map(|p| panel_height(p, size)).sum::<u32>() + named * HEADING)
}

/// Draws a whole figure: its title, its panels one below the other, each of `size`.
pub fn draw_figure<B: DrawingBackend>(backend: B, figure: &Figure, size: (u32, u32), scale: Scale, palette: &Palette) -> Drawn<(), B> {
    let mut pen = Pen::new(backend, scale, palette)?;
    pen.text(&figure.title, (4.0, 8.0), HPos::Left, VPos::Top, palette.text)?;
    let whole = pen.area.clone();
    let mut y = HEADING;
    for of in &figure.panels {
        let size = (size.0, panel_height(of, size));
        if !of.name.is_empty() {
            pen.area = whole.clone();
            pen.text(&of.name, (4.0, f64::from(y) + 8.0), HPos::Left, VPos::Top, palette.muted)?;
            y += HEADING;
        }
        let (from, to) = (pen.units((0.0, f64::from(y))), pen.units((f64::from(size.0), f64::from(y + size.1))));
        pen.area = whole.clone().shrink(from, ((to.0 - from.0) as u32, (to.1 - from.1) as u32));
        panel(&pen, of, size, palette)?;
        y += size.1;
    }
    pen.area = whole;
    pen.finish()
}

/// A whole figure as a standalone SVG, its panels of `size` pixels each ([`figure_size`]).
pub fn figure_svg(figure: &Figure, size: (u32, u32), palette: &Palette) -> String {
    let (mut svg, whole) = (String::new(), figure_size(figure, size));
    let drawn = draw_figure(SVGBackend::with_string(&mut svg, grid(whole)), figure, size, SVG, palette);
    debug_assert!(drawn.is_ok(), "writing to a string does not fail");
    finished(svg, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        figure::{Mark, tests::figure},
        plot::tests::assert_well_formed,
    };

    fn first_chart() -> Chart {
        let Content::Chart(chart) = figure().panels[0].content.clone() else { panic!() };
        chart
    }

    #[test]
    fn all_there_may_be_is_drawn_well_formed_at_any_size() {
        for size in [(960, 400), (358, 300), (1, 1)] {
            for palette in [Palette::LIGHT, Palette::DARK, Palette::DARK.transparent()] {
                let figure = figure();
                figure.panels.iter().for_each(|p| assert_well_formed(&panel_svg(p, size, &palette)));
                let whole = figure_svg(&figure, size, &palette);
                assert_well_formed(&whole);
                let (width, height) = figure_size(&figure, size);
                assert!(whole.contains(&format!("width=\"{width}\" height=\"{height}\"")));
                assert!(whole.contains("All of it") && whole.contains("kernels"));
            }
        }
    }

    #[test]
    fn an_axis_that_counts_has_whole_numbers_alone() {
        let labels = |x: Axis| {
            let points = vec![[1.0, 10.0], [3.0, 20.0]];
            let chart =
                Chart { x, series: vec![Series { points, shape: Shape::Line, ..first_chart().series[0].clone() }], ..Chart::default() };
            let svg = panel_svg(&Panel { name: String::new(), content: Content::Chart(chart) }, (500, 300), &Palette::LIGHT);
            assert_well_formed(&svg);
            let texts = svg.split("<text").skip(1).filter_map(|text| text.split(['>', '<']).nth(1));
            texts.map(|text| text.trim().to_string()).collect::<Vec<_>>()
        };
        let has = |labels: &[String], number: &str| labels.iter().any(|l| l == number);
        let (all, whole) = (labels(Axis::new("row", "")), labels(Axis::counted("row")));
        assert!(["1", "1.5", "2", "2.5", "3"].iter().all(|n| has(&all, n)), "{all:?}");
        assert!(["1", "2", "3"].iter().all(|n| has(&whole, n)) && ["1.5", "2.5"].iter().all(|n| !has(&whole, n)), "{whole:?}");
    }

    #[test]
    fn words_of_a_pictures_sides_take_two_lines_where_one_is_too_narrow() {
        let (rows, columns) = ("line of channels, line of its kernel".to_string(), "channel, column of its kernel".to_string());
        let picture = Picture { rows, columns, width: 9, values: vec![0.5; 90], full: 1.0 };
        for (width, lines) in [(960, 1), (330, 2), (300, 2)] {
            let words = sides(&picture, width);
            assert_eq!(words.len(), lines, "{width}");
            assert!(words.iter().all(|w| 4.0 + LETTER * w.chars().count() as f64 <= f64::from(width)), "{words:?}");
            let panel = Panel { name: String::new(), content: Content::Picture(picture.clone()) };
            let size = (width, panel_height(&panel, (width, 900)));
            let svg = panel_svg(&panel, size, &Palette::LIGHT);
            assert!(words.iter().all(|w| svg.contains(w)), "{svg}");
            // The cells begin below the words, and the scale ends above the lower edge.
            assert!(f64::from(size.1) >= picture_head(&picture, width) + 10.0 * cell(&picture, size) + 18.0);
        }
    }

    #[test]
    fn nothing_and_one_point_are_drawn() {
        let empty = Chart::default();
        assert_well_formed(&panel_svg(&Panel::chart(empty), (300, 200), &Palette::LIGHT));
        for shape in [Shape::Line, Shape::Steps, Shape::Bars, Shape::Dots, Shape::Outline] {
            let one = Chart { series: vec![Series::line("one", vec![[2.0, -3.0]]).drawn(shape)], ..Chart::default() };
            let frame = ChartFrame::new(&one, (300, 200));
            assert!(frame.x.0 < 2.0 && frame.x.1 > 2.0 && frame.y.0 < -3.0 && frame.y.1 > -3.0, "{shape:?} {frame:?}");
            assert_well_formed(&panel_svg(&Panel::chart(one), (300, 200), &Palette::LIGHT));
        }
        let nothing = Picture::default();
        assert_well_formed(&panel_svg(&Panel { name: String::new(), content: Content::Picture(nothing) }, (300, 200), &Palette::LIGHT));
    }

    #[test]
    fn pixels_and_numbers_are_each_others_inverse_and_the_nearest_point_is_found() {
        let chart = first_chart();
        let frame = ChartFrame::new(&chart, (640, 300));
        let [x, y] = frame.from_px(frame.to_px([1.25, -2.5]));
        assert!((x - 1.25).abs() < 1e-9 && (y + 2.5).abs() < 1e-9);
        // By position among names, wherever above it; a gap is no point.
        let (x, _) = frame.to_px([0.8, 0.0]);
        assert_eq!(frame.nearest(&chart, (x, frame.top)).map(|f| f.1), Some(1));
        let (x, _) = frame.to_px([2.0, 0.0]);
        assert_ne!(frame.nearest(&chart, (x, frame.top)).map(|f| f.1), Some(2));
        assert_eq!(frame.nearest(&chart, (-50.0, 10.0)), None);
    }

    #[test]
    fn a_unit_is_as_long_on_both_axes_where_it_should_be() {
        let Content::Chart(chart) = figure().panels[1].content.clone() else { panic!() };
        for size in [(640, 300), (300, 640)] {
            let frame = ChartFrame::new(&chart, size);
            let (origin, unit) = (frame.to_px([0.0, 0.0]), frame.to_px([1.0, 1.0]));
            assert!(((unit.0 - origin.0) + (unit.1 - origin.1)).abs() < 1e-6, "{size:?}");
            assert!(unit.0 <= frame.right && unit.1 >= frame.top);
        }
    }

    /// Of a drawing: where a text stands.
    fn place_of(svg: &str, words: &str) -> (f64, f64) {
        let end = svg.find(&format!("{words}\n</text>")).expect(words);
        let start = svg[..end].rfind("<text").unwrap();
        let number =
            |name: &str| svg[start..end].split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
        (number("x"), number("y"))
    }

    #[test]
    fn names_of_marks_stand_where_nothing_passes_through_them() {
        let mark = |name: &str, standing, at| Mark { name: name.into(), standing, at };
        let series = vec![Series::line("rising", vec![[0.0, 0.0], [10.0, 10.0]])];
        let marks = vec![mark("left", true, 2.0), mark("left", true, 3.0), mark("next", true, 2.1), mark("level", false, 9.7)];
        let chart = Chart { series, marks, ..Chart::default() };
        let (size, scale) = ((390, 300), f64::from(grid((1, 1)).0));
        let frame = ChartFrame::new(&chart, size);
        let svg = panel_svg(&Panel::chart(chart.clone()), size, &Palette::LIGHT);
        let [left, next, level] = ["left", "next", "level"].map(|name| place_of(&svg, name)).map(|(x, y)| (x / scale, y / scale));
        assert!(next.1 < left.1 - 10.0 && left.1 <= frame.top, "above the plot area, a line each: {left:?} {next:?} {frame:?}");
        assert!(level.0 < (frame.left + frame.right) / 2.0, "the line ends at the right: {level:?}");
        let whole = ((frame.left, frame.top), (frame.right, frame.bottom));
        assert!(
            crossed(&chart, &frame, whole) && !crossed(&chart, &frame, ((frame.left, frame.top), (frame.left + 20.0, frame.top + 20.0)))
        );
    }

    #[test]
    fn bars_stand_on_zero_and_a_legend_too_long_for_a_line_has_more() {
        let chart = first_chart();
        let frame = ChartFrame::new(&chart, (640, 300));
        assert!(frame.y.0 <= -6.5 && frame.y.1 >= 3.25, "{frame:?}");
        // Where all are zero as well.
        let flat = Chart { series: vec![Series::line("flat", vec![[0.0, 0.0], [1.0, 0.0]]).drawn(Shape::Bars)], ..Chart::default() };
        assert_eq!(ChartFrame::new(&flat, (640, 300)).y, (0.0, 1.0));
        assert_eq!(legend(&chart, 600.0), [vec![0, 1]]);
        assert_eq!(legend(&chart, 130.0), [vec![0], vec![1]]);
    }
}
