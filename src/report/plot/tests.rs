use super::*;
use crate::report::{Measure, RdPoint};

const SIZE: (u32, u32) = (640, 360);

pub(crate) fn curves() -> RdCurves {
    let line = |label: &str, gain: f64| RdLine {
        label: label.into(),
        points: (0..=80)
            .map(|i| i as f64 / 10.0)
            .map(|rate| RdPoint { rate, bytes: (rate * 1e4) as u64, db: -(6.02 + gain) * rate })
            .collect(),
    };
    RdCurves { measure: Measure::Weights, lines: vec![line("none", 0.0), line("KLT", 0.3), line("auto", 0.35)] }
}

pub(crate) fn report(n: usize) -> AllocationReport {
    let layers = (0..n).map(|i| LayerRow {
        index: i,
        name: format!("layer{i}.<conv>&\"weight\""),
        shape: vec![16, 16, 3, 3],
        weights: 2304,
        transform: if i % 4 == 3 { None } else { Some(TransformKind::ALL[i % 4 % 3]) },
        feedback: false,
        bits: if i % 4 == 3 { 32.0 } else { 2.0 + (i % 7) as f64 * 0.7 },
        bytes: 1000,
        basis_bytes: 10,
        error: 0.01,
        gap: None,
        locked: None,
        excluded: i % 4 == 3,
        depths: vec![4],
    });
    AllocationReport {
        measure: Measure::Weights,
        rate: 3.5,
        bytes: 12345,
        ratio: 8.0,
        db: -21.0,
        gap: None,
        lambda: 0.1,
        measured: false,
        other_bytes: 300,
        not_reachable: None,
        rate_range: (0.0, 8.0),
        layers: layers.collect(),
    }
}

/// Every tag closed, every attribute quoted, numbers only where numbers belong.
pub(crate) fn assert_well_formed(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{}", &svg[..svg.len().min(80)]);
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        assert!(!text.contains('&') || text.contains(';'));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_string()));
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap().to_string());
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn the_curve_is_well_formed_and_says_its_size() {
    let (svg, frame) = curve_svg(&curves(), Some((4.0, -25.0)), SIZE, &Palette::LIGHT);
    assert_well_formed(&svg);
    assert!(svg.contains("width=\"640\" height=\"360\" viewBox=\"0 0 5120 2880\""));
    for text in ["none", "KLT", "auto", "rate (bits per weight)", "distortion (dB)", "\u{2212}10"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("font-size=\"96\""), "12 px on the grid");
    assert_eq!(frame.rate_max, 8.0);
    assert_eq!(frame.db_max, 0.0);
    assert!(frame.db_min <= -6.37 * 8.0);
}

#[test]
fn lines_of_one_stroke_that_follow_each_other_are_one_element_and_others_stay() {
    let line = |stroke: &str, points: &str| format!("<polyline fill=\"none\" {stroke} stroke-width=\"8\" points=\"{points} \"/>\n");
    let (red, blue, pale) = ("opacity=\"1\" stroke=\"#FF0000\"", "opacity=\"1\" stroke=\"#0000FF\"", "opacity=\"0.5\" stroke=\"#FF0000\"");
    let text = "<text x=\"1\">\npolyline\n</text>\n";
    let (a, b, c) = ("1,2 3,4", "5,6 7,8 9,10", "11,12 13,14");
    let path = format!("<path fill=\"none\" {red} stroke-width=\"8\" d=\"M{a}M{b}\"/>\n");
    assert_eq!(joined(&(line(red, a) + &line(red, b) + &line(blue, c))), path.clone() + &line(blue, c));
    // Nothing is moved before or behind another thing, and what shines through each other stays apart.
    for apart in [line(red, a) + &line(blue, b) + &line(red, c), line(red, a) + text + &line(red, b), line(pale, a) + &line(pale, b)] {
        assert_eq!(joined(&apart), apart);
    }
    assert_eq!(joined(&(line(red, a) + &line(red, b) + text + &line(red, c))), path + text + &line(red, c));
    assert_eq!(joined(""), "");
}

#[test]
fn a_drawing_has_few_elements_however_many_dashes() {
    // Of 54 layers: their bars, lines of at most a few strokes, and labels.
    let svg = allocation_svg(&report(54), (900, 240), &Palette::LIGHT);
    let count = |tag: &str| svg.matches(tag).count();
    assert!(count("<polyline") + count("<path") < 20, "{} polylines, {} paths", count("<polyline"), count("<path"));
    assert!(count("<rect") >= 40);
    let dashes = svg.lines().filter(|l| l.starts_with("<path")).map(|l| l.matches('M').count()).max();
    assert!(dashes > Some(100), "the mean is dashed: {dashes:?}");
}

#[test]
fn the_frame_maps_there_and_back() {
    let (_, frame) = curve_svg(&curves(), None, SIZE, &Palette::DARK);
    for (rate, db) in [(0.0, 0.0), (3.2, -19.5), (8.0, -50.0)] {
        let (x, y) = frame.to_px(rate, db);
        assert!((frame.rate_at(x) - rate).abs() < 1e-9 && (frame.db_at(y) - db).abs() < 1e-9);
    }
    assert_eq!(frame.rate_at(-100.0), 0.0);
    assert_eq!(frame.rate_at(1e9), frame.rate_max);
    let bars = BarFrame::new(5, SIZE);
    for i in 0..5 {
        let (from, to) = bars.slot(i);
        assert_eq!(bars.at((from + to) / 2.0), Some(i));
    }
    assert_eq!((bars.at(0.0), bars.at(639.0)), (None, None));
    assert_eq!(BarFrame::new(0, SIZE).at(100.0), None);
}

#[test]
fn lines_lie_where_the_frame_says() {
    let (svg, frame) = curve_svg(&curves(), None, SIZE, &Palette::LIGHT);
    let auto = svg.lines().filter(|l| l.starts_with("<polyline") && l.contains("#0869CA")).max_by_key(|l| l.len()).unwrap();
    let first = auto.split("points=\"").nth(1).unwrap().split(' ').next().unwrap();
    let (x, y) = first.split_once(',').unwrap();
    let (fx, fy) = frame.to_px(0.0, 0.0);
    assert_eq!((x.parse::<f64>().unwrap() / GRID, y.parse::<f64>().unwrap() / GRID), (fx, fy));
}

#[test]
fn curves_of_no_point_one_point_and_infinite_points_draw() {
    let line = |points: Vec<(f64, f64)>| RdLine {
        label: "none".into(),
        points: points.into_iter().map(|(rate, db)| RdPoint { rate, bytes: 0, db }).collect(),
    };
    for lines in [
        vec![],
        vec![line(vec![])],
        vec![line(vec![(0.0, 0.0)])],
        vec![line(vec![(0.0, f64::NEG_INFINITY), (1.0, f64::NAN), (f64::INFINITY, -3.0), (2.0, -4.0)])],
        vec![line(vec![(0.0, 3.0), (1e-9, 1e-9)])],
    ] {
        let (svg, frame) = curve_svg(&RdCurves { measure: Measure::Weights, lines }, Some((f64::NAN, 0.0)), SIZE, &Palette::LIGHT);
        assert_well_formed(&svg);
        assert!(frame.rate_max > 0.0 && frame.db_min < frame.db_max);
    }
}

#[test]
fn bars_draw_for_any_number_of_layers_and_any_size() {
    for n in [0, 1, 5, 22, 160, 1000] {
        for size in [(1200, 260), (340, 240), (0, 0), (10, 3000)] {
            let svg = allocation_svg(&report(n), size, &Palette::DARK.transparent());
            assert_well_formed(&svg);
            if n == 5 && size.0 == 1200 {
                assert!(svg.contains("layer0.&lt;conv&gt;&amp;&quot;"), "names are escaped");
                assert!(svg.contains("klt-col") && svg.contains("kept"));
            }
        }
    }
    let svg = allocation_svg(&report(160), (340, 240), &Palette::LIGHT);
    let labels = svg.matches("<text").count();
    assert!((8..40).contains(&labels), "{labels} labels at 340 px");
}

#[cfg(feature = "cli")]
#[test]
fn pngs_decode_and_show_text_and_bars() {
    for bytes in [
        png::curve_png(&curves(), Some((4.0, -25.0)), SIZE, &Palette::LIGHT),
        png::allocation_png(&report(22), SIZE, &Palette::LIGHT.transparent()),
    ] {
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut buf = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut buf).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (1280, 720, ::png::ColorType::Rgb));
        // The y axis' title stands in the upper left corner: some of its pixels are nearly as dark as its colour.
        let dark = (0..50).flat_map(|y| (0..200).map(move |x| (y * 1280 + x) * 3)).filter(|&i| buf[i] < 80).count();
        assert!(dark > 100, "{dark} dark pixels where the title is");
        assert_eq!(&buf[buf.len() - 3..], [255, 255, 255]);
    }
}

/// With every transform in use a narrow drawing names those of most layers, a wide one nearly all of them.
#[test]
fn the_legend_fits() {
    let mut report = report(TransformKind::ALL.len() * 3);
    for (i, layer) in report.layers.iter_mut().enumerate() {
        (layer.excluded, layer.transform) = (false, Some(TransformKind::ALL[i % TransformKind::ALL.len()]));
    }
    report.layers[0].transform = Some(TransformKind::TwoSided);
    let names = |width: u32| {
        let svg = allocation_svg(&report, (width, 300), &Palette::LIGHT);
        assert_well_formed(&svg);
        // The text of an element is on a line of its own.
        TransformKind::ALL.into_iter().filter(|kind| svg.lines().any(|line| line.trim() == kind.name())).collect::<Vec<_>>()
    };
    let (narrow, wide) = (names(340), names(1200));
    assert!((2..=4).contains(&narrow.len()) && narrow.contains(&TransformKind::TwoSided), "{narrow:?}");
    assert_eq!(wide, TransformKind::ALL);
}

/// A layer whose errors are fed back has no transform, and is not shown as one without.
#[test]
fn error_feedback_has_a_bar_and_a_name_of_its_own() {
    let mut report = report(3);
    let svg = |report: &AllocationReport| allocation_svg(report, (800, 300), &Palette::LIGHT);
    let named = |svg: &str, name: &str| svg.lines().any(|line| line.trim() == name);
    let before = svg(&report);
    assert!(named(&before, "none") && !named(&before, "feedback"));
    report.layers.iter_mut().filter(|l| l.transform == Some(TransformKind::None)).for_each(|l| l.feedback = true);
    let after = svg(&report);
    assert_well_formed(&after);
    assert!(named(&after, "feedback") && !named(&after, "none"));
    assert!(after.contains("#AA321E") && !before.contains("#AA321E"));
}

#[test]
fn ticks_have_labels_of_their_own_however_small_the_axis() {
    for (from, to) in [(0.0, 0.0021), (-3e-6, 2e-6), (-1.0, 1.0), (0.0, 0.9), (-94.3, -12.0), (0.0, 3e7)] {
        let labels: Vec<String> = ticks(from, to, 7).into_iter().map(tick_label).collect();
        let distinct: std::collections::BTreeSet<&String> = labels.iter().collect();
        assert!(labels.len() > 2 && distinct.len() == labels.len(), "{from} to {to}: {labels:?}");
        assert!(labels.iter().all(|l| l.chars().count() <= 8 && !l.contains('-')), "{from} to {to}: {labels:?}");
    }
    let label = |v: f64| tick_label(v);
    assert_eq!([label(0.1 + 0.2), label(-0.0), label(-2.5e-4), label(0.0015)], ["0.3", "0", "\u{2212}2.5e\u{2212}4", "0.0015"]);
}
