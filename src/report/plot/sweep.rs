//! Measured curves: a panel for each quantity, a line for each transform.

use plotters::element::Polygon;

use super::{
    Color, DrawingBackend, Drawn, HPos, LEFT, Palette, Pen, RGBColor, SVG, SVGBackend, Scale, TOP, VPos, finished, grid, gridded, inner,
    most_along, round_up, ticks,
};
use crate::report::{MeasuredCurves, MeasuredPoint, Quantity, TransformChoice};

/// Half the width of a marker, in nominal pixels.
const MARKER: f64 = 3.75;
/// Space between two lines of the legend.
const ROW: f64 = 18.0;
/// Width of the legend.
const LEGEND: f64 = 92.0;

/// Where a panel is, in nominal pixels, and what it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Panel {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    rate_max: f64,
    /// Values at the bottom and at the top.
    from: f64,
    to: f64,
}

impl Panel {
    /// The panel of a quantity, in a drawing of `size` that begins at `y`.
    fn new(curves: &MeasuredCurves, quantity: Quantity, size: (u32, u32), y: f64) -> Panel {
        let (right, bottom) = inner(size);
        let rate_max = curves.points.iter().map(|p| p.rate).filter(|r| r.is_finite()).fold(1.0, f64::max).ceil();
        let values = curves.points.iter().filter_map(|p| quantity.of(p)).chain(quantity.limit(&curves.reference));
        let (least, most) = values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        let (from, to) = match quantity {
            Quantity::Distortion => {
                let from = if least < 0.0 { -round_up(-least) } else { -1.0 };
                (from.max(-300.0), if most > 0.0 && most.is_finite() { round_up(most) } else { 0.0 })
            }
            Quantity::Psnr if least.is_finite() => ((least / 10.0).floor() * 10.0, (most / 10.0).ceil() * 10.0),
            // Tens, so that what little is lost at high rates can be seen.
            _ if least.is_finite() => (((least / 10.0).floor() * 10.0).clamp(0.0, 90.0), ((most / 10.0).ceil() * 10.0).clamp(10.0, 100.0)),
            _ => (0.0, 100.0),
        };
        Panel { left: LEFT, right, top: y + TOP, bottom: y + bottom, rate_max, from, to: if to > from { to } else { from + 10.0 } }
    }

    fn to_px(self, rate: f64, value: f64) -> (f64, f64) {
        let y = self.top + (self.to - value) / (self.to - self.from) * (self.bottom - self.top);
        (self.left + rate / self.rate_max * (self.right - self.left), y)
    }
}

/// Colour of a line. Dashes and markers tell lines apart as well.
fn colour(transform: TransformChoice, palette: &Palette) -> RGBColor {
    transform.kind().map_or(palette.text, |kind| palette.bar((Some(kind), false)))
}

impl<B: DrawingBackend> Pen<B> {
    /// A line of measured points, in its own dash.
    fn measured(&self, transform: TransformChoice, points: &[(f64, f64)], palette: &Palette) -> Drawn<(), B> {
        let color = colour(transform, palette);
        match transform {
            _ if points.len() < 2 => Ok(()),
            TransformChoice::Auto => self.path(points.iter().copied(), color, 2.5),
            TransformChoice::None => self.dashed(points, 1.75, 3.5, color, 1.75),
            TransformChoice::KltRow => self.dashed(points, 6.0, 3.0, color, 1.75),
            TransformChoice::KltCol => self.dashed(points, 3.5, 3.0, color, 1.75),
            TransformChoice::EltRow => self.path(points.iter().copied(), color, 1.5),
            TransformChoice::EltCol => self.dashed(points, 12.0, 3.0, color, 1.75),
            TransformChoice::TwoSided => self.dashed(points, 9.0, 6.0, color, 1.75),
            TransformChoice::IntraDct1 => self.dashed(points, 2.0, 5.0, color, 1.75),
            TransformChoice::IntraDct2 => self.dashed(points, 4.0, 6.0, color, 1.75),
            TransformChoice::IntraKlt => self.dashed(points, 7.0, 5.0, color, 1.25),
            TransformChoice::IntraElt => self.path(points.iter().copied(), color, 1.0),
        }
    }

    /// The marker of a transform: small and large disc, square, diamond, triangles; of those that are seldom drawn, bars and hourglasses.
    fn marker(&self, transform: TransformChoice, (x, y): (f64, f64), palette: &Palette) -> Drawn<(), B> {
        let r = MARKER;
        let corners: &[(f64, f64)] = match transform {
            TransformChoice::Auto => return self.disc((x, y), r, colour(transform, palette)),
            TransformChoice::None => return self.disc((x, y), 0.8 * r, colour(transform, palette)),
            TransformChoice::KltRow => &[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
            TransformChoice::KltCol => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
            TransformChoice::EltRow => &[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
            TransformChoice::EltCol => &[(0.0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
            TransformChoice::TwoSided => &[(-1.1, 0.0), (0.0, -0.7), (1.1, 0.0), (0.0, 0.7)],
            TransformChoice::IntraDct1 => &[(-1.1, -0.4), (1.1, -0.4), (1.1, 0.4), (-1.1, 0.4)],
            TransformChoice::IntraDct2 => &[(-0.4, -1.1), (0.4, -1.1), (0.4, 1.1), (-0.4, 1.1)],
            TransformChoice::IntraKlt => &[(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)],
            TransformChoice::IntraElt => &[(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)],
        };
        let corners: Vec<_> = corners.iter().map(|(dx, dy)| self.units((x + r * dx, y + r * dy))).collect();
        self.area.draw(&Polygon::new(corners, colour(transform, palette).filled()))
    }
}

/// Draws measured curves: a panel for each of the quantities, one above the other, rate in bits per weight on x.
pub fn measured<B: DrawingBackend>(
    backend: B,
    curves: &MeasuredCurves,
    quantities: &[Quantity],
    size: (u32, u32),
    scale: Scale,
    palette: &Palette,
) -> Drawn<(), B> {
    let pen = Pen::new(backend, scale, palette)?;
    let height = size.1 / quantities.len().max(1) as u32;
    for (i, &quantity) in quantities.iter().enumerate() {
        panel(&pen, curves, quantity, Panel::new(curves, quantity, (size.0, height), f64::from(height) * i as f64), palette)?;
    }
    pen.finish()
}

fn panel<B: DrawingBackend>(pen: &Pen<B>, curves: &MeasuredCurves, quantity: Quantity, at: Panel, palette: &Palette) -> Drawn<(), B> {
    let Panel { left, right, top, bottom, .. } = at;
    let down = ticks(at.from, at.to, 7).into_iter().map(|value| (value, at.to_px(0.0, value).1));
    let along = ticks(0.0, at.rate_max, most_along(right - left)).into_iter().map(|rate| (rate, at.to_px(rate, at.from).0));
    gridded(pen, (left, top), (right, bottom), down, along, palette)?;
    pen.line((left, bottom), (right, bottom), palette.muted, 1.0)?;
    pen.text(quantity.name(), (4.0, top - TOP + 6.0), HPos::Left, VPos::Top, palette.text)?;
    pen.text("rate (bits per weight)", ((left + right) / 2.0, bottom + 23.0), HPos::Center, VPos::Top, palette.text)?;
    let limit = quantity.limit(&curves.reference).filter(|v| (at.from..=at.to).contains(v));
    if let Some(y) = limit.map(|v| at.to_px(0.0, v).1) {
        pen.dashed(&[(left, y), (right, y)], 3.0, 3.0, palette.muted, 1.0)?;
        // Nothing is above it, and to the right of the axis' title there is room even where it is the top.
        pen.text("full precision", (right, y - 4.0), HPos::Right, VPos::Bottom, palette.muted)?;
    }
    let place = |p: &MeasuredPoint| {
        let value = quantity.of(p).filter(|v| v.is_finite())?;
        p.rate.is_finite().then(|| at.to_px(p.rate, value.clamp(at.from, at.to)))
    };
    let lines = curves.lines();
    // The thick line of `auto`, which is last, first: others show on it.
    for (transform, points) in lines.iter().rev() {
        let points: Vec<_> = points.iter().filter_map(place).collect();
        pen.measured(*transform, &points, palette)?;
        points.iter().try_for_each(|&p| pen.marker(*transform, p, palette))?;
    }
    // Distortion falls to the right, accuracy rises: the corner that is free.
    let first = match quantity {
        Quantity::Distortion => top + 12.0,
        _ => bottom - 12.0 - ROW * lines.len().saturating_sub(1) as f64,
    };
    for (i, (transform, _)) in lines.iter().enumerate() {
        let (x, y) = (right - LEGEND, first + ROW * i as f64);
        pen.measured(*transform, &[(x, y), (x + 30.0, y)], palette)?;
        pen.marker(*transform, (x + 15.0, y), palette)?;
        pen.text(transform.name(), (x + 38.0, y), HPos::Left, VPos::Center, palette.text)?;
    }
    Ok(())
}

/// Measured curves as a standalone SVG of `size` pixels: a panel for each of the quantities, one above the other.
pub fn measured_svg(curves: &MeasuredCurves, quantities: &[Quantity], size: (u32, u32), palette: &Palette) -> String {
    let mut svg = String::new();
    let drawn = measured(SVGBackend::with_string(&mut svg, grid(size)), curves, quantities, size, SVG, palette);
    debug_assert!(drawn.is_ok(), "writing to a string does not fail");
    finished(svg, size)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::assert_well_formed, *};
    use crate::report::sweep::tests::measured as some;

    const SIZE: (u32, u32) = (640, 360);

    #[test]
    fn every_line_has_a_name_and_markers_and_axes_have_units() {
        let curves = some(&crate::report::SweepSettings::TRANSFORMS);
        for quantity in Quantity::ALL {
            let svg = measured_svg(&curves, &[quantity], SIZE, &Palette::LIGHT);
            assert_well_formed(&svg);
            for text in ["none", "klt-row", "klt-col", "elt-row", "elt-col", "auto", "rate (bits per weight)", quantity.name()] {
                assert!(svg.contains(text), "{text}");
            }
            // Eight rates, and one in the legend.
            assert_eq!((svg.matches("<polygon").count(), svg.matches("<circle").count()), (4 * 9, 2 * 9), "{quantity:?}");
            let named = matches!(quantity, Quantity::Top1 | Quantity::Top5);
            assert_eq!(svg.contains("full precision"), named, "{quantity:?}");
        }
    }

    #[test]
    fn panels_lie_one_above_the_other() {
        let curves = some(&[TransformChoice::Auto]);
        let both = measured_svg(&curves, &[Quantity::Distortion, Quantity::Top1], (640, 720), &Palette::DARK);
        assert_well_formed(&both);
        assert!(both.contains("height=\"720\"") && both.matches("rate (bits per weight)").count() == 2);
        let lower = Panel::new(&curves, Quantity::Top1, SIZE, 360.0);
        assert_eq!((lower.top, lower.bottom), (360.0 + TOP, 360.0 + inner(SIZE).1));
        assert_eq!((lower.from, lower.to, lower.rate_max), (40.0, 100.0, 6.0));
        assert_eq!(lower.to_px(0.0, 100.0), (LEFT, lower.top));
    }

    #[test]
    fn whatever_was_measured_draws() {
        let mut curves = some(&TransformChoice::ALL);
        for change in 0..5 {
            match change {
                0 => curves.points.truncate(1),
                1 => curves.points[0].db = None,
                2 => curves.points[0].db = Some(f64::NAN),
                3 => (curves.points[0].db, curves.points[0].top1) = (Some(35.0), Some(0.0)),
                _ => curves.points.clear(),
            }
            for quantity in Quantity::ALL {
                for size in [SIZE, (0, 0), (1, 900)] {
                    assert_well_formed(&measured_svg(&curves, &[quantity], size, &Palette::LIGHT));
                }
            }
        }
        assert_well_formed(&measured_svg(&curves, &[], SIZE, &Palette::LIGHT));
    }
}
