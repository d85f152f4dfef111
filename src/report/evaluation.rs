//! What running a network on data gave.

use serde::{Deserialize, Serialize};

use super::pictures::PictureScore;

/// How images become inputs of the network, in this order: resize, crop, scale, normalize.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Length of the shorter side after resizing (bilinear, antialiased); none: not resized.
    pub resize: Option<usize>,
    /// Height and width cut from the centre; none: all of it.
    pub crop: Option<[usize; 2]>,
    /// Order of channels.
    #[serde(default)]
    pub channels: Channels,
    /// Pixels are multiplied by this first: 1/255 for values from 0 to 1.
    pub scale: f32,
    /// Subtracted per channel, after scaling. One value stands for all channels.
    pub mean: Vec<f32>,
    /// Divided by per channel, after that. One value stands for all channels.
    pub std: Vec<f32>,
    /// Whether channels come last in the network's input.
    #[serde(default)]
    pub channels_last: bool,
    /// Where these numbers come from, a clause: `standard of ImageNet networks`, `written in the model`, `edited`.
    #[serde(default)]
    pub origin: String,
}

impl Preprocessing {
    /// Origin of numbers that the user has changed.
    pub const EDITED: &str = "edited";
}

/// Order of the channels a network expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel.
    Grey,
}

/// A dataset as it was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Name of the file or folder.
    pub name: String,
    /// Whether it is of several files, and none of them and no folder has that name.
    #[serde(default)]
    pub several: bool,
    /// `npz`, `cifar-10`, `idx`, `zip of images`, `images`.
    pub format: String,
    /// Number of images.
    pub images: usize,
    /// Height, width, channels of the first image.
    pub size: [usize; 3],
    /// Whether there are labels.
    pub labelled: bool,
    /// Names of the classes, where the data have them.
    pub classes: Vec<String>,
    /// Things the user should know, one sentence each.
    pub notes: Vec<String>,
}

impl DataSummary {
    /// What stands on the command line for a folder whose name is not known.
    pub const FOLDER: &str = "DIR";

    /// What the command line names these data by: their file or folder, or [`DataSummary::FOLDER`] where several files were chosen, for a
    /// folder that holds them.
    pub fn path(&self) -> &str {
        if self.several { Self::FOLDER } else { &self.name }
    }
}

/// What one network gave on a dataset, compared with the full-precision network where there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What was run: `full precision`, or the rate and size of what was.
    pub what: String,
    /// Images that were run.
    pub images: usize,
    /// Part of the images whose label is the network's first choice, 0 to 1. None without labels or without classes.
    pub top1: Option<f64>,
    /// Part of the images whose label is among its first five; none for fewer than six classes.
    pub top5: Option<f64>,
    /// Part of the images on which its first choice is that of the full-precision network.
    pub agreement: Option<f64>,
    /// Mean squared output error `E‖ŷ − y‖²` per image, summed over outputs (method.md, `D`).
    pub distortion: Option<f64>,
    /// `10 log₁₀(E‖y‖² / E‖ŷ − y‖²)` in dB; infinite, hence none, for an exact copy.
    pub sqnr_db: Option<f64>,
    /// Image-to-image networks: peak signal to noise ratio against the full-precision network's pictures, in dB, of the squared error's
    /// mean over all of them; infinite, hence none, for pictures that are identical.
    pub psnr_db: Option<f64>,
    /// Image-to-image networks, compared with the full-precision one: how their pictures were judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PictureScore>,
    /// Seconds it took.
    pub seconds: f64,
}

impl Evaluation {
    /// PSNR in dB, infinite where all pictures are identical; none for what is no picture.
    pub fn psnr(&self) -> Option<f64> {
        self.psnr_db.or_else(|| self.pictures.filter(|p| p.identical).map(|_| f64::INFINITY))
    }
}

/// Everything about an evaluation, as it is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The data.
    pub data: DataSummary,
    /// How they became inputs.
    pub preprocessing: Preprocessing,
    /// The full-precision network; none if it was not there (a `.tq` alone).
    pub reference: Option<Evaluation>,
    /// The compressed network; none if there is none.
    pub compressed: Option<Evaluation>,
    /// Per layer, the damage done by that layer alone; empty if it was not asked for.
    pub damage: Vec<LayerDamage>,
    /// Things the user should know, one sentence each.
    pub notes: Vec<String>,
}

/// The output error when only this layer is quantized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerDamage {
    /// Position among the layers.
    pub index: usize,
    /// Name of its weight tensor.
    pub name: String,
    /// `E‖ŷ − y‖²` per image with only this layer quantized.
    pub distortion: f64,
    /// Part of the sum over all layers, 0 to 1.
    pub share: f64,
    /// Part of the images whose first choice changes.
    pub changed: Option<f64>,
}
