//! Options that several commands share, and what their values may be.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use waterfill::{
    error::{Error, Result},
    pipeline::{self, Session},
    report::{
        AllocationSettings, Budget, CalibrationSettings, Coding, CurveSettings, Distortion, Method, Preprocessing, SecondMoment,
        TransformChoice,
    },
};

/// What bits are shared out by.
#[derive(Args, Clone)]
pub struct AllocationOptions {
    /// Budget as a rate: bits per weight of the quantized layers, all side information included [default: 4].
    #[arg(long, group = "budget", value_name = "B", value_parser = positive)]
    pub bits: Option<f64>,
    /// Budget as a file size in bytes.
    #[arg(long, group = "budget", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub size: Option<u64>,
    /// Budget as a ratio of the original size to the file size.
    #[arg(long, group = "budget", value_name = "X", value_parser = positive)]
    pub ratio: Option<f64>,
    /// Transform; auto chooses per layer [default: auto].
    #[arg(long, value_enum)]
    pub transform: Option<Transform>,
    /// Lock a layer to a depth of 0 to 10 bits.
    #[arg(long, value_name = "LAYER=BITS", value_parser = lock)]
    pub lock: Vec<(String, u8)>,
    /// Keep a layer as it is, bit for bit.
    #[arg(long, value_name = "LAYER")]
    pub exclude: Vec<String>,
}

impl AllocationOptions {
    /// The transform that was asked for: one that needs images is refused where there are none, before any work is done.
    pub fn transform(&self, sampling: &Sampling) -> Result<TransformChoice> {
        let transform = self.transform.map_or(TransformChoice::Auto, TransformChoice::from);
        let known = !transform.needs_calibration() || !sampling.calibration.is_empty();
        known.then_some(transform).ok_or_else(|| pipeline::uncalibrated(transform))
    }

    /// The settings for a model that is open, which knows its layers' names.
    pub fn settings(&self, session: &Session, transform: TransformChoice) -> Result<AllocationSettings> {
        let budget = match (self.size, self.ratio) {
            (Some(size), _) => Budget::Size(size),
            (_, Some(ratio)) => Budget::Ratio(ratio),
            _ => Budget::Bits(self.bits.unwrap_or(4.0)),
        };
        // In the model's order, in which page and recipe have them, too.
        let mut locks = self.lock.iter().map(|(name, depth)| Ok((session.layer_index(name)?, *depth))).collect::<Result<Vec<_>>>()?;
        let mut excludes = self.exclude.iter().map(|name| session.layer_index(name)).collect::<Result<Vec<_>>>()?;
        locks.sort_by_key(|lock| lock.0);
        excludes.sort_unstable();
        Ok(AllocationSettings { budget, transform, feedback: true, locks, excludes })
    }
}

#[derive(Args, Clone)]
pub struct CurveOptions {
    /// Most blocks of rows per layer, each with its own depth and step [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub blocks: Option<u16>,
    /// Files with external data of the ONNX model, if it has any. Without this, files next to the model are looked up.
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
}

/// Images to take statistics on.
#[derive(Args, Clone)]
pub struct Sampling {
    /// Images to calibrate on: a file, several, or a folder. Bits then go where they matter to the network's output, and transforms learned
    /// end to end are among the choices. See `waterfill eval --help` for what images can be.
    #[arg(long, value_name = "DATA", num_args = 1..)]
    pub calibration: Vec<PathBuf>,
    /// Calibrate on at most so many images, evenly spaced [default: 400].
    #[arg(long, value_name = "N", requires = "calibration", value_parser = clap::value_parser!(u32).range(1..))]
    pub calibration_images: Option<u32>,
    /// Random directions of the output per calibration image; of few images two or more are better than one [default: 1].
    #[arg(long, value_name = "N", requires = "calibration", value_parser = clap::value_parser!(u16).range(1..))]
    pub draws: Option<u16>,
    /// Seed of the random directions: the same seed gives the same file [default: 1].
    #[arg(long, value_name = "N", requires = "calibration")]
    pub seed: Option<u64>,
}

#[derive(Args, Clone)]
pub struct CalibrationOptions {
    #[command(flatten)]
    pub sampling: Sampling,
    /// What an error costs: the full second-order model, or its diagonal alone [default: model].
    #[arg(long, value_enum, requires = "calibration")]
    pub distortion: Option<DistortionModel>,
}

impl CurveOptions {
    pub fn blocks(&self) -> u16 {
        self.blocks.unwrap_or(8)
    }
}

impl Sampling {
    pub fn settings(&self) -> CalibrationSettings {
        let default = CalibrationSettings::default();
        CalibrationSettings {
            images: self.calibration_images.map_or(default.images, |n| n as usize),
            draws: self.draws.map_or(default.draws, usize::from),
            seed: self.seed.unwrap_or(default.seed),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum DistortionModel {
    Model,
    Diagonal,
    Measured,
}

/// How layers are compressed.
#[derive(Args, Clone)]
pub struct CodingOptions {
    /// What layers are compressed by: a transform or none; or also error feedback, entropy-coded, which needs calibration [default: feedback with
    /// --calibration, unless transforms, a coding or measured distortion are asked for; else transform].
    #[arg(long, value_enum, value_name = "METHOD")]
    pub method: Option<MethodOption>,
    /// What errors that are fed back are weighed by: sampled gradients, or the layers' inputs, which is less work and a coarser model
    /// [default: gradients].
    #[arg(long, value_enum, value_name = "MOMENT", requires = "calibration")]
    pub second_moment: Option<SecondMomentOption>,
    /// Match gain and bias of every output channel to the full-precision network on the calibration images [default: with feedback].
    #[arg(
        long, value_name = "BOOL", requires = "calibration", num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub matching: Option<bool>,
    /// How indices are coded: in fixed lengths; those of the same depths by an adaptive range coder, which makes the file smaller than the
    /// budget; or by that coder without clipping, bits allocated by what it needs [default: entropy with feedback, else fixed].
    #[arg(long, value_enum)]
    pub coding: Option<CodingOption>,
}

impl CodingOptions {
    /// What was asked for, else what does best with it. `calibrated`: there are images; `open`: no transforms are asked for.
    pub fn settings(&self, blocks: u16, distortion: Option<DistortionModel>, calibrated: bool, open: bool) -> Result<CurveSettings> {
        let (distortion, coding) = (self::distortion(distortion), self.coding.map(Coding::from));
        let open = open && matches!(coding, None | Some(Coding::Entropy)) && distortion != Distortion::Measured;
        let method = self.method.map_or(if calibrated && open { Method::Feedback } else { Method::Transform }, Method::from);
        let coding = coding.unwrap_or(if method == Method::Feedback { Coding::Entropy } else { Coding::Fixed });
        if method == Method::Feedback {
            let without =
                |what: &str, instead: &str| Err(Error::Setting(format!("Error feedback {what}: {instead}, or choose --method transform.")));
            if !calibrated {
                return without("follows what errors do to the output", "give images with --calibration");
            }
            if coding != Coding::Entropy {
                return without("is for entropy-coded indices", "leave out --coding");
            }
        }
        let second_moment = self.second_moment.map(SecondMoment::from).unwrap_or_default();
        let matching = self.matching.unwrap_or(method == Method::Feedback);
        Ok(CurveSettings { blocks: blocks.into(), distortion, coding, method, second_moment, matching })
    }
}

/// How an error's cost is found; by the model unless something else is said.
fn distortion(option: Option<DistortionModel>) -> Distortion {
    match option {
        Some(DistortionModel::Diagonal) => Distortion::Diagonal,
        Some(DistortionModel::Measured) => Distortion::Measured,
        Some(DistortionModel::Model) | None => Distortion::Model,
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum MethodOption {
    Transform,
    Feedback,
}

impl From<MethodOption> for Method {
    fn from(option: MethodOption) -> Method {
        match option {
            MethodOption::Transform => Method::Transform,
            MethodOption::Feedback => Method::Feedback,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SecondMomentOption {
    Gradients,
    Inputs,
}

impl From<SecondMomentOption> for SecondMoment {
    fn from(option: SecondMomentOption) -> SecondMoment {
        match option {
            SecondMomentOption::Gradients => SecondMoment::Gradients,
            SecondMomentOption::Inputs => SecondMoment::Inputs,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum CodingOption {
    Fixed,
    Depths,
    Entropy,
}

impl From<CodingOption> for Coding {
    fn from(option: CodingOption) -> Coding {
        match option {
            CodingOption::Fixed => Coding::Fixed,
            CodingOption::Depths => Coding::Depths,
            CodingOption::Entropy => Coding::Entropy,
        }
    }
}

#[derive(Args, Clone)]
pub struct DataOptions {
    /// Labels in a file of their own: .npy, .npz, or text with one label, or `file,label`, per line.
    #[arg(long, value_name = "FILE", requires = "images")]
    pub labels: Option<PathBuf>,
    /// Run at most so many images, evenly spaced.
    #[arg(long, value_name = "N", requires = "images", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Length of the shorter side after resizing; 0 for none.
    #[arg(long, value_name = "PIXELS", requires = "images")]
    pub resize: Option<usize>,
    /// Size cut from the centre: one number, or HEIGHTxWIDTH; 0 for none.
    #[arg(long, value_name = "PIXELS", requires = "images", value_parser = crop)]
    pub crop: Option<[usize; 2]>,
    /// Subtracted from each channel, after scaling: one number, or one per channel.
    #[arg(long, value_name = "M,…", requires = "images", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f32>,
    /// Divides each channel after that: one number, or one per channel.
    #[arg(long, value_name = "S,…", requires = "images", value_delimiter = ',')]
    pub std: Vec<f32>,
    /// Pixels are multiplied by this first: 1/255 for values from 0 to 1.
    #[arg(long, value_name = "X", requires = "images", value_parser = ratio)]
    pub scale: Option<f32>,
    /// Order of channels.
    #[arg(long, value_enum, requires = "images")]
    pub channels: Option<ChannelOrder>,
    /// Whether channels come last in the network's input (N × H × W × C).
    #[arg(
        long, value_name = "BOOL", requires = "images", num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub channels_last: Option<bool>,
    /// All of these in a JSON file, as reports have it.
    #[arg(long, value_name = "FILE", requires = "images")]
    pub preprocessing: Option<PathBuf>,
    /// What a recipe has of it.
    #[arg(skip)]
    pub recipe: Option<Preprocessing>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ChannelOrder {
    Rgb,
    Bgr,
    Grey,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Transform {
    Auto,
    None,
    KltRow,
    KltCol,
    EltRow,
    EltCol,
    #[value(name = "intra-dct1")]
    IntraDct1,
    #[value(name = "intra-dct2")]
    IntraDct2,
    IntraKlt,
    IntraElt,
    TwoSided,
}

impl From<Transform> for TransformChoice {
    fn from(t: Transform) -> TransformChoice {
        match t {
            Transform::Auto => TransformChoice::Auto,
            Transform::None => TransformChoice::None,
            Transform::KltRow => TransformChoice::KltRow,
            Transform::KltCol => TransformChoice::KltCol,
            Transform::EltRow => TransformChoice::EltRow,
            Transform::EltCol => TransformChoice::EltCol,
            Transform::IntraDct1 => TransformChoice::IntraDct1,
            Transform::IntraDct2 => TransformChoice::IntraDct2,
            Transform::IntraKlt => TransformChoice::IntraKlt,
            Transform::IntraElt => TransformChoice::IntraElt,
            Transform::TwoSided => TransformChoice::TwoSided,
        }
    }
}

/// Percentage points: a number from 0 to 100.
pub fn points(s: &str) -> std::result::Result<f64, String> {
    s.parse().ok().filter(|v| (0.0..=100.0).contains(v)).ok_or_else(|| "must be a number from 0 to 100".into())
}

pub fn positive(s: &str) -> std::result::Result<f64, String> {
    s.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0).ok_or_else(|| "must be a positive number".into())
}

/// A path with one of these extensions, or with none (a folder).
pub fn path_with(s: &str, extensions: &[&str]) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(s);
    let known = path.extension().is_none_or(|e| extensions.iter().any(|k| e.eq_ignore_ascii_case(k)));
    if known || path.is_dir() { Ok(path) } else { Err(format!("must end in .{}", extensions.join(", ."))) }
}

pub const REPORTS: [&str; 4] = ["json", "csv", "svg", "png"];

pub const DRAWINGS: [&str; 2] = ["svg", "png"];

pub const EVALUATIONS: [&str; 2] = ["json", "csv"];

pub fn report(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &REPORTS)
}

pub fn evaluation_report(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &EVALUATIONS)
}

/// `224` or `224x160`, height first.
pub fn crop(s: &str) -> std::result::Result<[usize; 2], String> {
    let (h, w) = s.split_once(['x', '×']).unwrap_or((s, s));
    match (h.parse(), w.parse()) {
        (Ok(h), Ok(w)) => Ok([h, w]),
        _ => Err("must be a number of pixels, or HEIGHTxWIDTH".into()),
    }
}

/// `0.0039` or `1/255`.
pub fn ratio(s: &str) -> std::result::Result<f32, String> {
    let (a, b) = s.split_once('/').unwrap_or((s, "1"));
    let value = a.trim().parse::<f64>().ok().zip(b.trim().parse::<f64>().ok()).map(|(a, b)| (a / b) as f32);
    value.filter(|v| v.is_finite()).ok_or_else(|| "must be a number, or one over another".into())
}

pub fn drawing(s: &str) -> std::result::Result<PathBuf, String> {
    path_with(s, &DRAWINGS)
}

pub fn lock(s: &str) -> std::result::Result<(String, u8), String> {
    // Names may contain `=`; the depth comes after the last one.
    let (layer, bits) = s.rsplit_once('=').ok_or("must be LAYER=BITS")?;
    match bits.parse() {
        Ok(bits) if bits <= waterfill::quantize::MAX_DEPTH => Ok((layer.into(), bits)),
        _ => Err(format!("the depth must be a whole number from 0 to {}", waterfill::quantize::MAX_DEPTH)),
    }
}
