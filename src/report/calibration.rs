//! What calibration was asked for, and what it found.

use serde::{Deserialize, Serialize};

use super::{DataSummary, Preprocessing};

/// How statistics are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationSettings {
    /// Most images, evenly spaced among those there are.
    pub images: usize,
    /// Random directions per image. Other images tell more than other directions: ResNet-20's squared output error at 2.45 bits is 1.52 with 400 images of one, 1.59 with
    /// 200 of two. Of few images more are worth their time: with 64 of one, errors at 1.3 to 1.9 bits are 2 to 6 % larger than with two, and the model says too little of
    /// the error of layers whose basis was learned on the same samples.
    pub draws: usize,
    /// Of the random directions: the same seed gives the same statistics.
    pub seed: u64,
}

impl Default for CalibrationSettings {
    fn default() -> Self {
        CalibrationSettings { images: 400, draws: 1, seed: 1 }
    }
}

/// What statistics were taken of, and how sure they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// The images.
    pub data: DataSummary,
    /// How they became inputs.
    pub preprocessing: Preprocessing,
    /// What was asked for.
    pub settings: CalibrationSettings,
    /// Images run.
    pub images: usize,
    /// Samples of the gradient taken.
    pub samples: usize,
    /// Images that one sample is of: more than one where single ones would take too much memory.
    pub images_per_sample: usize,
    /// Relative standard error of a layer's sensitivity, mean over layers: what sampling leaves unknown.
    pub sampling_error: f64,
    /// Layers that no output depends on.
    pub unreached: usize,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::Channels;

    /// One of the digits.
    pub(crate) fn summary() -> CalibrationSummary {
        CalibrationSummary {
            data: DataSummary {
                name: "digits.npz".into(),
                several: false,
                format: "npz".into(),
                images: 600,
                size: [8, 8, 1],
                labelled: true,
                classes: Vec::new(),
                notes: Vec::new(),
            },
            preprocessing: Preprocessing {
                resize: None,
                crop: None,
                channels: Channels::Grey,
                scale: 1.0 / 255.0,
                mean: vec![0.306],
                std: vec![0.3762],
                channels_last: false,
                origin: "written in the model".into(),
            },
            settings: CalibrationSettings::default(),
            images: 200,
            samples: 200,
            images_per_sample: 1,
            sampling_error: 0.0712,
            unreached: 0,
        }
    }
}
