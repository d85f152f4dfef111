//! Bits of all layers, and the limit of all coders at the same error ([`crate::rate::limit`]).

use super::{super::Session, bars, counted};
use crate::{
    error::{Error, Result},
    report::{
        AllocationSettings,
        figure::{Axis, Chart, Figure, Panel, Which},
    },
};

impl Session {
    pub(super) fn limits(&self, layer: usize, settings: &AllocationSettings) -> Result<Figure> {
        let report = self.allocate(settings)?.1;
        let known = report.layers.iter().filter(|row| row.gap.is_some()).count();
        if known == 0 {
            let reason = "The limit of all coders follows from calibration, where errors are fed back";
            return Err(Error::Setting(format!("{reason}: calibrate, and choose entropy coding with error feedback.")));
        }
        let spent = bars("bits spent", report.layers.iter().map(|row| (!row.excluded).then_some(row.bits)));
        let limit = bars("the limit", report.layers.iter().map(|row| row.gap.map(|gap| row.bits - gap)));
        let without = report.layers.len() - known;
        let without = if without == 0 { String::new() } else { format!(" It is not known of {}.", counted(without, "layer")) };
        let words = report.gap.map_or(String::new(), |gap| format!(": {gap:.2} bits per weight apart"));
        Ok(Figure {
            which: Which::Limits,
            title: format!("Bits of {}, and the limit{words}", counted(report.layers.len(), "layer")),
            caption: format!(
                "The limit is what the best coder would need at the same error for Gaussian weights, with gradients as calibration found them. What is above it goes to \
                 quantizers that are simple, to steps, scales and headers; a layer of few weights, or of weights that are far from Gaussian, may come below it.{without}"
            ),
            source: "Cover, Thomas, Elements of Information Theory, Section 10.3.3".into(),
            layer: Some(layer),
            panels: vec![Panel::chart(Chart {
                x: self.layer_axis(),
                y: Axis::new("rate", "bits per weight"),
                series: vec![spent, limit],
                ..Chart::default()
            })],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{calibrated, chart, made, series, session};
    use super::*;

    #[test]
    fn the_limit_is_below_what_is_spent_by_the_gap_of_the_table() {
        let session = calibrated();
        let settings = AllocationSettings { excludes: vec![1], ..AllocationSettings::default() };
        let figure = made(&session, Which::Limits, 0, &settings);
        let report = session.allocate(&settings).unwrap().1;
        let [spent, limit] = ["bits spent", "the limit"].map(|name| &series(chart(&figure, 0), name).points);
        assert!(spent[1][1].is_nan() && limit[1][1].is_nan());
        let mut known = 0;
        for (row, (spent, limit)) in report.layers.iter().zip(spent.iter().zip(limit)).filter(|(row, _)| row.gap.is_some()) {
            assert_eq!(spent[1], row.bits);
            assert!((spent[1] - limit[1] - row.gap.unwrap()).abs() < 1e-9);
            known += 1;
        }
        assert!(known > 2);
    }

    #[test]
    fn without_calibration_it_says_what_to_do() {
        let Err(error) = session().figure(Which::Limits, 0, &AllocationSettings::default()) else { panic!("there is no limit") };
        assert!(error.to_string().contains("calibrate"), "{error}");
    }
}
