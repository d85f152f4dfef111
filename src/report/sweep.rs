//! Measured curves: what the compressed network gives on data, for several transforms and rates (Young et al. 2021, Figs. 6 and 9).

use serde::{Deserialize, Serialize};

use super::{CalibrationSummary, CurveSettings, DataSummary, Evaluation, Preprocessing, TransformChoice};

/// Which points of the measured curves are wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepSettings {
    /// A line for each.
    pub transforms: Vec<TransformChoice>,
    /// Rates asked for, in bits per weight.
    pub rates: Vec<f64>,
}

impl SweepSettings {
    /// Rates of the default, in bits per weight.
    pub const RATES: [f64; 8] = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0];

    /// The transforms of the default: those of the paper's figures, and `auto`. The others gain little, and are run where they are asked for.
    pub const TRANSFORMS: [TransformChoice; 6] = [
        TransformChoice::None,
        TransformChoice::KltRow,
        TransformChoice::KltCol,
        TransformChoice::EltRow,
        TransformChoice::EltCol,
        TransformChoice::Auto,
    ];

    /// The default: those transforms that there are, with or without calibration.
    pub fn all(calibrated: bool) -> SweepSettings {
        let there = |t: &TransformChoice| calibrated || !t.needs_calibration();
        SweepSettings { transforms: Self::TRANSFORMS.into_iter().filter(there).collect(), rates: Self::RATES.to_vec() }
    }

    /// How many points there will be.
    pub fn points(&self) -> usize {
        self.transforms.len() * self.rates.len()
    }
}

/// A compressed network that was run: one point of a measured curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredPoint {
    /// The line it is on.
    pub transform: TransformChoice,
    /// Rate asked for, in bits per weight.
    pub rate_asked: f64,
    /// Rate had, in bits per weight, all side information included.
    pub rate: f64,
    /// Bytes of the whole `.tq` file.
    pub bytes: u64,
    /// Squared error of the network's output over the output's power, in dB, measured; none for an exact copy.
    pub db: Option<f64>,
    /// The same as calibration predicts it ([`super::AllocationReport::db`], of the decoded weights); none without calibration.
    pub predicted_db: Option<f64>,
    /// Part of the images whose label is the network's first choice, 0 to 1; none without labels or without classes.
    pub top1: Option<f64>,
    /// Part of the images whose label is among its first five; none for fewer than six classes.
    pub top5: Option<f64>,
    /// Part of the images on which its first choice is that of the full-precision network; none without classes.
    pub agreement: Option<f64>,
    /// PSNR of the pictures against those of the full-precision network, in dB; none for networks that give none, and where all are identical.
    #[serde(default)]
    pub psnr_db: Option<f64>,
}

/// Measured curves, as far as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredCurves {
    /// Name of the model's file.
    pub model: String,
    /// The data that networks were run on.
    pub data: DataSummary,
    /// How they became inputs.
    pub preprocessing: Preprocessing,
    /// The full-precision network on them.
    pub reference: Evaluation,
    /// Whether it gives pictures: they have a PSNR, and no classes.
    #[serde(default)]
    pub pictures: bool,
    /// Settings of the curves that bits were allocated by.
    pub curve_settings: CurveSettings,
    /// What those were calibrated on, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationSummary>,
    /// What was asked for.
    pub settings: SweepSettings,
    /// What was measured, in the order of measuring: a coarse picture first.
    pub points: Vec<MeasuredPoint>,
}

/// What is plotted over the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// [`MeasuredPoint::db`].
    Distortion,
    /// [`MeasuredPoint::top1`].
    Top1,
    /// [`MeasuredPoint::top5`].
    Top5,
    /// [`MeasuredPoint::agreement`].
    Agreement,
    /// [`MeasuredPoint::psnr_db`].
    Psnr,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 5] = [Quantity::Distortion, Quantity::Top1, Quantity::Top5, Quantity::Agreement, Quantity::Psnr];

    /// In words, with its unit.
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Distortion => "output distortion (dB)",
            Quantity::Top1 => "top-1 accuracy (%)",
            Quantity::Top5 => "top-5 accuracy (%)",
            Quantity::Agreement => "agreement (%)",
            Quantity::Psnr => "PSNR (dB)",
        }
    }

    /// Of a point: decibels or percent; none where it was not measured.
    pub fn of(self, point: &MeasuredPoint) -> Option<f64> {
        let percent = |part: Option<f64>| part.map(|p| 100.0 * p);
        match self {
            Quantity::Distortion => point.db,
            Quantity::Top1 => percent(point.top1),
            Quantity::Top5 => percent(point.top5),
            Quantity::Agreement => percent(point.agreement),
            Quantity::Psnr => point.psnr_db,
        }
    }

    /// Of the full-precision network, which a curve tends to; none for what is measured against it, and where there is nothing to compare with.
    pub fn limit(self, reference: &Evaluation) -> Option<f64> {
        match self {
            Quantity::Distortion | Quantity::Agreement | Quantity::Psnr => None,
            Quantity::Top1 => reference.top1.map(|p| 100.0 * p),
            Quantity::Top5 => reference.top5.map(|p| 100.0 * p),
        }
    }
}

impl MeasuredCurves {
    /// How many points there will be.
    pub fn wanted(&self) -> usize {
        self.settings.points()
    }

    /// Whether all points are there.
    pub fn is_complete(&self) -> bool {
        self.points.len() >= self.wanted()
    }

    /// The lines that have points: points by rising rate, those that are the same file once.
    pub fn lines(&self) -> Vec<(TransformChoice, Vec<MeasuredPoint>)> {
        let line = |&transform: &TransformChoice| {
            let mut points: Vec<MeasuredPoint> = self.points.iter().filter(|p| p.transform == transform).copied().collect();
            points.sort_by(|a, b| a.rate_asked.total_cmp(&b.rate_asked));
            points.dedup_by_key(|p| (p.bytes, p.db.map(f64::to_bits)));
            (transform, points)
        };
        self.settings.transforms.iter().map(line).filter(|(_, points)| !points.is_empty()).collect()
    }

    /// What is drawn: the distortion; and the accuracy, or without labels the agreement, or the PSNR of pictures.
    pub fn drawn(&self) -> Vec<Quantity> {
        let there = self.quantities();
        let second = [Quantity::Top1, Quantity::Agreement, Quantity::Psnr].into_iter().find(|q| there.contains(q));
        std::iter::once(Quantity::Distortion).chain(second).collect()
    }

    /// What there is to be plotted.
    pub fn quantities(&self) -> Vec<Quantity> {
        Quantity::ALL.into_iter().filter(|q| self.points.iter().any(|p| q.of(p).is_some())).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::calibration::tests::summary;

    /// A line for each transform, as if of a network on the digits.
    pub(crate) fn measured(transforms: &[TransformChoice]) -> MeasuredCurves {
        let found = summary();
        let reference = Evaluation {
            what: "full precision".into(),
            images: 600,
            top1: Some(0.99),
            top5: Some(1.0),
            agreement: None,
            distortion: None,
            sqnr_db: None,
            psnr_db: None,
            pictures: None,
            seconds: 0.5,
        };
        let settings = SweepSettings { transforms: transforms.to_vec(), rates: SweepSettings::RATES.to_vec() };
        let point = |(i, &transform): (usize, &TransformChoice), &rate: &f64| MeasuredPoint {
            transform,
            rate_asked: rate,
            rate: rate - 0.01,
            bytes: (rate * 1e4) as u64,
            db: Some(-5.0 * rate - 0.5 * i as f64),
            predicted_db: Some(-5.5 * rate),
            top1: Some(0.99 - 0.5 / (rate * rate * rate)),
            top5: Some(1.0 - 0.1 / (rate * rate)),
            agreement: Some(1.0 - 0.5 / (rate * rate * rate)),
            psnr_db: Some(12.0 + 5.0 * rate),
        };
        // As they are measured: rate after rate.
        let points = settings.rates.iter().rev().flat_map(|rate| transforms.iter().enumerate().map(move |line| point(line, rate)));
        MeasuredCurves {
            model: "net.onnx".into(),
            data: found.data.clone(),
            preprocessing: found.preprocessing.clone(),
            reference,
            pictures: false,
            curve_settings: CurveSettings::default(),
            points: points.collect(),
            calibration: Some(found),
            settings,
        }
    }

    #[test]
    fn lines_rise_and_have_every_file_once() {
        let mut curves = measured(&SweepSettings::TRANSFORMS);
        assert!(curves.is_complete() && curves.wanted() == 48);
        curves.points[5] = MeasuredPoint { rate_asked: 6.0, ..curves.points[11] };
        curves.points.remove(0);
        assert!(!curves.is_complete());
        let lines = curves.lines();
        assert_eq!(lines.iter().map(|l| l.0).collect::<Vec<_>>(), SweepSettings::TRANSFORMS);
        assert!(lines.iter().all(|(_, points)| points.is_sorted_by(|a, b| a.bytes < b.bytes)));
        assert_eq!([lines[0].1.len(), lines[1].1.len(), lines[5].1.len()], [7, 8, 7], "one is missing, one is there twice");
        assert_eq!(curves.quantities(), Quantity::ALL);
        curves.points.iter_mut().for_each(|p| (p.top1, p.top5, p.psnr_db) = (None, None, None));
        assert_eq!(curves.quantities(), [Quantity::Distortion, Quantity::Agreement]);
    }

    #[test]
    fn accuracy_is_drawn_where_there_are_labels_agreement_where_not_and_psnr_of_pictures() {
        let mut curves = measured(&TransformChoice::ALL);
        assert_eq!(curves.drawn(), [Quantity::Distortion, Quantity::Top1]);
        curves.points.iter_mut().for_each(|p| p.top1 = None);
        assert_eq!(curves.drawn(), [Quantity::Distortion, Quantity::Agreement]);
        curves.points.iter_mut().for_each(|p| p.agreement = None);
        assert_eq!(curves.drawn(), [Quantity::Distortion, Quantity::Psnr]);
        curves.points.iter_mut().for_each(|p| p.psnr_db = None);
        assert_eq!(curves.drawn(), [Quantity::Distortion]);
    }

    #[test]
    fn learned_transforms_need_calibration() {
        let names = |calibrated| SweepSettings::all(calibrated).transforms.iter().map(|t| t.name()).collect::<Vec<_>>();
        assert_eq!(names(false), ["none", "klt-row", "klt-col", "auto"]);
        assert_eq!(names(true), ["none", "klt-row", "klt-col", "elt-row", "elt-col", "auto"]);
    }
}
