//! Coding gains of all layers (Young et al. 2021, Fig. 3 and eq. 11): the numbers of `waterfill gains`, side by side.

use super::{super::Session, Making, Piece, bars};
use crate::report::{
    GainsReport, TransformGain, TransformKind,
    figure::{Axis, Chart, Content, Figure, Panel, Which},
};

/// The transforms that are compared, those without calibration first.
const KINDS: [TransformKind; 4] = [TransformKind::KltRow, TransformKind::KltCol, TransformKind::EltRow, TransformKind::EltCol];

/// A part of the gain.
type Part = fn(&TransformGain) -> f64;

impl Session {
    pub(super) fn gains(&self, layer: usize) -> Making<'_> {
        Making::of_layers(self.gains_job(None), Piece::Gains, move |pieces| {
            let gains = pieces.into_iter().map(|p| if let Piece::Gains(g) = p { g } else { unreachable!("the job is of gains") });
            self.gains_figure(layer, &self.gains_report(gains.collect()))
        })
    }

    fn gains_figure(&self, layer: usize, report: &GainsReport) -> Figure {
        let calibrated = report.calibration.is_some();
        let of = |layer: usize, kind: TransformKind| report.layers[layer].transforms.iter().find(|g| g.transform == kind);
        let there = |kind: &TransformKind| report.layers.iter().any(|l| l.transforms.iter().any(|g| g.transform == *kind));
        let kinds: Vec<TransformKind> = KINDS.into_iter().filter(there).collect();
        let panel = |name: &str, part: Part| {
            let value = |layer: usize, kind| of(layer, kind).filter(|g| g.full_rank).map(part);
            let series = kinds.iter().map(|&kind| bars(kind.name(), (0..report.layers.len()).map(|layer| value(layer, kind))));
            let chart = Chart { x: self.layer_axis(), y: Axis::new("coding gain", "dB"), series: series.collect(), ..Chart::default() };
            Panel { name: name.into(), content: Content::Chart(chart) }
        };
        let panels = if calibrated {
            let parts: [(&str, Part); 3] =
                [("part of the weights", |g| g.weight_db), ("part of the gradients", |g| g.gradient_db), ("total", |g| g.total_db)];
            parts.into_iter().map(|(name, part)| panel(name, part)).collect()
        } else {
            vec![panel("", |g| g.total_db)]
        };
        let means = report.means().into_iter().filter(|m| kinds.contains(&m.transform));
        let means: Vec<String> = means.map(|m| format!("{} {:.1} dB", m.transform.name(), m.weight_db + m.gradient_db)).collect();
        let mean = if means.is_empty() {
            "No layer has a transform across channels.".to_string()
        } else {
            format!("Every 6 dB save a bit per weight; the means are {}.", means.join(", "))
        };
        let gradients = if calibrated {
            "A KLT looks at weights alone and may lose with the gradients what it gains with them; an ELT gains most of all transforms."
        } else {
            "Without calibration all errors count alike; with it there are also the part of the gradients and the ELT."
        };
        let lacking = |kind| (0..report.layers.len()).any(|layer| !of(layer, kind).is_some_and(|g| g.full_rank));
        let gaps = if kinds.iter().any(|kind| lacking(*kind)) {
            " Where a bar is missing, there is no such transform, or more channels than the weights\u{2019} rank, which makes any gain look great."
        } else {
            ""
        };
        Figure {
            which: Which::Gains,
            title: format!("Coding gains of {}", super::counted(report.layers.len(), "layer")),
            caption: format!("{mean} {gradients}{gaps}"),
            source: "Young et al. 2021, Fig. 3 and eq. 11".into(),
            layer: Some(layer),
            panels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{calibrated, chart, made, series, session},
        *,
    };
    use crate::{pipeline::job::run, report::AllocationSettings};

    fn check(session: &Session) {
        let report = session.gains_report(run(session.gains_job(None), &mut |_| Ok(())).unwrap());
        let figure = made(session, Which::Gains, 0, &AllocationSettings::default());
        let parts: &[Part] =
            if report.calibration.is_some() { &[|g| g.weight_db, |g| g.gradient_db, |g| g.total_db] } else { &[|g| g.total_db] };
        assert_eq!(figure.panels.len(), parts.len());
        let mut bars = 0;
        for (panel, part) in parts.iter().enumerate() {
            let chart = chart(&figure, panel);
            for series in &chart.series {
                assert_eq!(series.points.len(), session.layers.len());
                for (layer, point) in series.points.iter().enumerate() {
                    let gain = report.layers[layer].transforms.iter().find(|g| g.transform.name() == series.name);
                    assert_eq!((point[0], series.layer(layer)), (layer as f64, Some(layer)));
                    match gain.filter(|g| g.full_rank) {
                        Some(gain) => {
                            assert_eq!(point[1], part(gain));
                            bars += 1;
                        }
                        None => assert!(point[1].is_nan()),
                    }
                }
            }
        }
        assert!(bars > session.layers.len());
        for mean in report.means().iter().filter(|m| KINDS.contains(&m.transform)) {
            let words = format!("{} {:.1} dB", mean.transform.name(), mean.weight_db + mean.gradient_db);
            assert!(figure.caption.contains(&words), "{words}: {}", figure.caption);
        }
    }

    #[test]
    fn bars_are_the_gains_of_the_command_line() {
        check(&session());
        check(&calibrated());
    }

    /// An ELT gains no less than a KLT across the same channels, and both parts are the total.
    #[test]
    fn elts_gain_most() {
        let figure = made(&calibrated(), Which::Gains, 0, &AllocationSettings::default());
        let [weights, gradients, total] = [0, 1, 2].map(|panel| chart(&figure, panel));
        for kind in KINDS {
            let [w, g, t] = [weights, gradients, total].map(|c| series(c, kind.name()));
            let sums = w.points.iter().zip(&g.points).zip(&t.points).filter(|(_, t)| t[1].is_finite());
            sums.for_each(|((w, g), t)| assert!((w[1] + g[1] - t[1]).abs() < 1e-9));
        }
        for (klt, elt) in [("klt-row", "elt-row"), ("klt-col", "elt-col")] {
            let pairs = series(total, klt).points.iter().zip(&series(total, elt).points).filter(|(k, _)| k[1].is_finite());
            assert!(pairs.clone().count() > 3);
            pairs.for_each(|(k, e)| assert!(e[1] >= k[1] - 1e-6 && e[1] >= -1e-6, "{klt} {k:?} {e:?}"));
        }
    }
}
