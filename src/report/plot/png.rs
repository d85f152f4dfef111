//! The charts as PNG, natively: plotters' bitmap backend with a bundled font.

use std::sync::Once;

use plotters::style::{FontStyle, register_font};
use plotters_bitmap::BitMapBackend;

use super::{
    FONT, Palette, Scale, TEXT, allocation, curve,
    figure::{draw_figure, figure_size},
    sweep::measured,
};
use crate::report::{AllocationReport, MeasuredCurves, Quantity, RdCurves, figure::Figure};

/// A subset of DejaVu Sans; its licence is in the same folder.
static DEJAVU: &[u8] = include_bytes!("../font/dejavu-sans-subset.ttf");
/// Pixels of the PNG per nominal pixel: sharp on dense screens.
const DENSITY: u32 = 2;
/// Pixels drawn per pixel of the PNG, each way; averaging them smooths the edges.
const SAMPLES: u32 = 2;
/// The bitmap backend scales fonts to ascent plus descent (DejaVu Sans: 1.164 em), and sets text 0.19 em higher than an SVG does.
const SCALE: Scale = Scale { units: (DENSITY * SAMPLES) as f64, font: 1.164, drop: 0.19 * TEXT };

/// The curves as a PNG with twice `size` pixels each way. Arguments as for [`super::curve_svg`].
pub fn curve_png(curves: &RdCurves, at: Option<(f64, f64)>, size: (u32, u32), palette: &Palette) -> Vec<u8> {
    png(size, |backend| curve(backend, curves, at, size, SCALE, &opaque(palette)).is_ok())
}

/// The allocation as a PNG with twice `size` pixels each way. Arguments as for [`super::allocation_svg`].
pub fn allocation_png(report: &AllocationReport, size: (u32, u32), palette: &Palette) -> Vec<u8> {
    png(size, |backend| allocation(backend, report, size, SCALE, &opaque(palette)).is_ok())
}

/// Measured curves as a PNG with twice `size` pixels each way. Arguments as for [`super::sweep::measured_svg`].
pub fn measured_png(curves: &MeasuredCurves, quantities: &[Quantity], size: (u32, u32), palette: &Palette) -> Vec<u8> {
    png(size, |backend| measured(backend, curves, quantities, size, SCALE, &opaque(palette)).is_ok())
}

/// A whole figure as a PNG with twice its pixels each way. Arguments as for [`super::figure::figure_svg`].
pub fn figure_png(figure: &Figure, size: (u32, u32), palette: &Palette) -> Vec<u8> {
    png(figure_size(figure, size), |backend| draw_figure(backend, figure, size, SCALE, &opaque(palette)).is_ok())
}

/// The bitmap has no transparency.
fn opaque(palette: &Palette) -> Palette {
    Palette { background: palette.background.or(Palette::LIGHT.background), ..*palette }
}

fn png((width, height): (u32, u32), draw: impl FnOnce(BitMapBackend) -> bool) -> Vec<u8> {
    static FONT_READY: Once = Once::new();
    FONT_READY.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, DEJAVU).is_ok();
        assert!(registered, "the bundled font is a font");
    });
    let (w, h) = (width.max(1) * DENSITY, height.max(1) * DENSITY);
    let (fine_w, fine_h) = (w * SAMPLES, h * SAMPLES);
    let mut fine = vec![0xff; fine_w as usize * fine_h as usize * 3];
    let drawn = draw(BitMapBackend::with_buffer(&mut fine, (fine_w, fine_h)));
    assert!(drawn, "drawing into memory with a registered font does not fail");

    let mut pixels = Vec::with_capacity(w as usize * h as usize * 3);
    for y in 0..h {
        for x in 0..w {
            for c in 0..3 {
                let sample = |i: u32| {
                    let (sx, sy) = (x * SAMPLES + i % SAMPLES, y * SAMPLES + i / SAMPLES);
                    fine[(sy as usize * fine_w as usize + sx as usize) * 3 + c] as u32
                };
                pixels.push(((0..SAMPLES * SAMPLES).map(sample).sum::<u32>() / (SAMPLES * SAMPLES)) as u8);
            }
        }
    }
    encode(&pixels, w, h).expect("encoding RGB into memory does not fail")
}

fn encode(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(out)
}
