//! What is shown: the same serde types on the page, in JSON and in CSV. Nothing here computes a rate or a distortion.

pub mod batch;
pub mod calibration;
pub mod evaluation;
pub mod figure;
pub mod gains;
pub mod geometry;
pub mod pictures;
pub mod plane;
#[cfg(feature = "plots")]
pub mod plot;
pub mod promise;
pub mod recipe;
pub mod sweep;
pub mod table;

pub use calibration::{CalibrationSettings, CalibrationSummary};
pub use evaluation::{Channels, DataSummary, Evaluation, EvaluationReport, LayerDamage, Preprocessing};
pub use gains::{GainsReport, LayerGains, MeanGain, RowGains, RowVariances, TransformGain};
use serde::{Deserialize, Deserializer, Serialize};
pub use sweep::{MeasuredCurves, MeasuredPoint, Quantity, SweepSettings};

/// The transform of a layer (Young et al. 2021, Sections 4.2, 7.1 and 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransformKind {
    /// `T = Θ`; nothing to store.
    None,
    /// Karhunen–Loève transform across input channels, `T = ΘU`.
    KltRow,
    /// Karhunen–Loève transform across output channels, `T = UᵗΘ`.
    KltCol,
    /// End-to-end learned transform across input channels; needs calibration.
    EltRow,
    /// End-to-end learned transform across output channels; needs calibration.
    EltCol,
    /// Discrete cosine transform of type I within kernels, orthonormal; nothing to store (Section 7.2).
    IntraDct1,
    /// Discrete cosine transform of type II within kernels, orthonormal; nothing to store (Section 7.2).
    IntraDct2,
    /// Karhunen–Loève transform within kernels, one basis for the layer (Section 7.2).
    IntraKlt,
    /// End-to-end learned transform within kernels, one basis for the layer; needs calibration (Section 7.2).
    IntraElt,
    /// Karhunen–Loève transforms across output and across input channels, `T = UᵗΘV` (Section 7.1).
    TwoSided,
}

impl TransformKind {
    /// All of them, in the order of the file format's codes.
    pub const ALL: [TransformKind; 10] = [
        TransformKind::None,
        TransformKind::KltRow,
        TransformKind::KltCol,
        TransformKind::EltRow,
        TransformKind::EltCol,
        TransformKind::IntraDct1,
        TransformKind::IntraDct2,
        TransformKind::IntraKlt,
        TransformKind::IntraElt,
        TransformKind::TwoSided,
    ];
    /// Whether it acts across input channels (row transforms) and not across output channels.
    pub fn across_inputs(self) -> bool {
        matches!(self, TransformKind::KltRow | TransformKind::EltRow)
    }
    /// Whether it acts across the positions of a kernel and not across channels.
    pub fn within_kernels(self) -> bool {
        use TransformKind::{IntraDct1, IntraDct2, IntraElt, IntraKlt};
        matches!(self, IntraDct1 | IntraDct2 | IntraKlt | IntraElt)
    }
    /// Whether a file holds its basis: that of a cosine transform is known to the decoder.
    pub fn stores_basis(self) -> bool {
        !matches!(self, TransformKind::None | TransformKind::IntraDct1 | TransformKind::IntraDct2)
    }
    /// The name on the command line, on the page and in reports.
    pub fn name(self) -> &'static str {
        match self {
            TransformKind::None => "none",
            TransformKind::KltRow => "klt-row",
            TransformKind::KltCol => "klt-col",
            TransformKind::EltRow => "elt-row",
            TransformKind::EltCol => "elt-col",
            TransformKind::IntraDct1 => "intra-dct1",
            TransformKind::IntraDct2 => "intra-dct2",
            TransformKind::IntraKlt => "intra-klt",
            TransformKind::IntraElt => "intra-elt",
            TransformKind::TwoSided => "two-sided",
        }
    }
}

/// Which transforms the allocation may choose from, per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransformChoice {
    /// Per layer the one of least `D + λR`, basis included.
    #[default]
    Auto,
    /// This one where it pays, none elsewhere.
    None,
    /// This one where it pays, none elsewhere.
    KltRow,
    /// This one where it pays, none elsewhere.
    KltCol,
    /// This one where it pays, none elsewhere; needs calibration.
    EltRow,
    /// This one where it pays, none elsewhere; needs calibration.
    EltCol,
    /// This one where it pays, none elsewhere.
    IntraDct1,
    /// This one where it pays, none elsewhere.
    IntraDct2,
    /// This one where it pays, none elsewhere.
    IntraKlt,
    /// This one where it pays, none elsewhere; needs calibration.
    IntraElt,
    /// This one where it pays, none elsewhere.
    TwoSided,
}

impl TransformChoice {
    /// All of them, those that need calibration last.
    pub const ALL: [TransformChoice; 11] = [
        TransformChoice::Auto,
        TransformChoice::None,
        TransformChoice::KltRow,
        TransformChoice::KltCol,
        TransformChoice::TwoSided,
        TransformChoice::IntraDct1,
        TransformChoice::IntraDct2,
        TransformChoice::IntraKlt,
        TransformChoice::EltRow,
        TransformChoice::EltCol,
        TransformChoice::IntraElt,
    ];

    /// The name on the command line and on the page.
    pub fn name(self) -> &'static str {
        self.kind().map_or("auto", TransformKind::name)
    }

    /// The transform that is asked for; nothing for [`TransformChoice::Auto`].
    pub fn kind(self) -> Option<TransformKind> {
        Some(match self {
            TransformChoice::Auto => return None,
            TransformChoice::None => TransformKind::None,
            TransformChoice::KltRow => TransformKind::KltRow,
            TransformChoice::KltCol => TransformKind::KltCol,
            TransformChoice::EltRow => TransformKind::EltRow,
            TransformChoice::EltCol => TransformKind::EltCol,
            TransformChoice::IntraDct1 => TransformKind::IntraDct1,
            TransformChoice::IntraDct2 => TransformKind::IntraDct2,
            TransformChoice::IntraKlt => TransformKind::IntraKlt,
            TransformChoice::IntraElt => TransformKind::IntraElt,
            TransformChoice::TwoSided => TransformKind::TwoSided,
        })
    }

    /// Whether it exists only with calibration.
    pub fn needs_calibration(self) -> bool {
        matches!(self, TransformChoice::EltRow | TransformChoice::EltCol | TransformChoice::IntraElt)
    }
}

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Rate: bits per weight of the quantized layers, everything a decoder needs for them included.
    Bits(f64),
    /// Bytes of the whole `.tq` file.
    Size(u64),
    /// Original bytes over bytes of the `.tq` file.
    Ratio(f64),
}

/// What an error of the weights costs (method.md, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distortion {
    /// The output's squared error to second order, over sampled gradients; without calibration the relative weight error.
    #[default]
    Model,
    /// The same by the diagonal of the gradients' second moment alone: for steps that clip nothing.
    Diagonal,
    /// The output's squared error of the network itself, run with one block quantized at a time (Young et al. 2021, Algorithm 2).
    Measured,
}

impl Distortion {
    /// All of them.
    pub const ALL: [Distortion; 3] = [Distortion::Model, Distortion::Diagonal, Distortion::Measured];
    /// The name on the command line and on the page.
    pub fn name(self) -> &'static str {
        match self {
            Distortion::Model => "model",
            Distortion::Diagonal => "diagonal",
            Distortion::Measured => "measured",
        }
    }
}

/// What the distortion of curves and allocations is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Without calibration: relative weight error, its mean over layers.
    #[default]
    Weights,
    /// With calibration: output error over output power, its sum over layers.
    Output,
}

/// How indices are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// Fixed-length quantizers of whole-bit depths, each index in as many bits as its depth (Young et al. 2021, eq. 5).
    #[default]
    Fixed,
    /// The same indices, entropy-coded. A budget counts depths: the file comes out smaller.
    Depths,
    /// Unclipped quantizers whose steps are allocated by what the entropy coder makes of their indices: a budget is what the file has.
    Entropy,
}

impl Coding {
    /// All of them.
    pub const ALL: [Coding; 3] = [Coding::Fixed, Coding::Depths, Coding::Entropy];
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Fixed => "fixed",
            Coding::Depths => "depths",
            Coding::Entropy => "entropy",
        }
    }
}

/// What a layer may be compressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A transform (Young et al. 2021), or none.
    #[default]
    Transform,
    /// The same, or error feedback ([`crate::quantize::feedback`]). With calibration and entropy coding alone.
    Feedback,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 2] = [Method::Transform, Method::Feedback];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Transform => "transform",
            Method::Feedback => "feedback",
        }
    }
}

/// What says how much errors of columns cost together, where they are fed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondMoment {
    /// Sampled gradients; inputs where too few of these fit into memory.
    #[default]
    Gradients,
    /// The layer's inputs across channels, `E[xxᵗ]`, and gradients across taps: less work, and a coarser model.
    Inputs,
}

impl SecondMoment {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            SecondMoment::Gradients => "gradients",
            SecondMoment::Inputs => "inputs",
        }
    }
}

/// Settings that the curves depend on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurveSettings {
    /// Most blocks of rows per layer, each with its own depth and step (Young et al. 2021, Section 5.1: 8).
    pub blocks: usize,
    /// What an error costs, with calibration.
    #[serde(default)]
    pub distortion: Distortion,
    /// How indices are coded.
    #[serde(default)]
    pub coding: Coding,
    /// What a layer may be compressed by.
    #[serde(default)]
    pub method: Method,
    /// What errors that are fed back are weighed by.
    #[serde(default)]
    pub second_moment: SecondMoment,
    /// Whether gains and biases of output channels are matched to the full-precision network, with calibration.
    #[serde(default)]
    pub matching: bool,
}

impl Default for CurveSettings {
    fn default() -> Self {
        CurveSettings {
            blocks: 8,
            distortion: Distortion::Model,
            coding: Coding::Fixed,
            method: Method::Transform,
            second_moment: SecondMoment::Gradients,
            matching: false,
        }
    }
}

/// Settings that only the allocation depends on: a change costs milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllocationSettings {
    /// What is asked for.
    pub budget: Budget,
    /// Allowed transforms.
    pub transform: TransformChoice,
    /// Whether errors may be fed back, where the curves have that.
    #[serde(default = "yes")]
    pub feedback: bool,
    /// Layers locked to a depth, by [`LayerRow::index`].
    pub locks: Vec<(usize, u8)>,
    /// Layers kept as they are, by [`LayerRow::index`].
    pub excludes: Vec<usize>,
}

impl Default for AllocationSettings {
    fn default() -> Self {
        let (budget, transform) = (Budget::Bits(4.0), TransformChoice::Auto);
        AllocationSettings { budget, transform, feedback: true, locks: Vec::new(), excludes: Vec::new() }
    }
}

fn yes() -> bool {
    true
}

/// A number that may not be known: JSON has no NaN.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A model as it was opened: the table before anything is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// File name.
    pub name: String,
    /// `onnx`, `safetensors`, `npz`, `npy`, `pth`, or `tq`.
    pub format: String,
    /// Bytes of the file, external data included.
    pub bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Weights in layers (what is quantized).
    pub layer_weights: u64,
    /// Bytes of those weights in the file.
    pub layer_bytes: u64,
    /// Values in biases and normalisation parameters.
    pub small_values: u64,
    /// Bytes kept bit for bit.
    pub exact_bytes: u64,
    /// The layers.
    pub layers: Vec<LayerSummary>,
    /// Things the user should know (an unused external file, a layer kept because …), one sentence each.
    pub notes: Vec<String>,
}

/// A layer as it was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// Position among the layers; the key of locks and excludes.
    pub index: usize,
    /// Name of its weight tensor.
    pub name: String,
    /// Shape as stored.
    pub shape: Vec<usize>,
    /// Number of weights.
    pub weights: u64,
}

/// A point of a rate–distortion curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RdPoint {
    /// Rate in bits per weight.
    pub rate: f64,
    /// Bytes of the whole file at this point.
    pub bytes: u64,
    /// Distortion in dB ([`Measure`]): the mean over layers of the relative weight error, 0 dB for all weights zero; or the output's error
    /// over its power, summed over layers ([`LayerRow::error`]).
    pub db: f64,
}

/// One line of the rate–distortion plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RdLine {
    /// `none`, `KLT`, `ELT`, `limit` or `auto`.
    pub label: String,
    /// Points, by rising rate.
    pub points: Vec<RdPoint>,
}

/// The rate–distortion plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RdCurves {
    /// What distortions are.
    #[serde(default)]
    pub measure: Measure,
    /// Lines; `auto` last.
    pub lines: Vec<RdLine>,
}

/// One allocation: what the readouts, the bars and the table show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllocationReport {
    /// Rate in bits per weight over the layers that are quantized, all side information included.
    pub rate: f64,
    /// Bytes of the `.tq` file, exactly.
    pub bytes: u64,
    /// Bytes of the original over bytes of the `.tq` file.
    pub ratio: f64,
    /// What distortions are.
    #[serde(default)]
    pub measure: Measure,
    /// Distortion of the quantized layers in dB, as in [`RdPoint::db`]; NaN (null in JSON) where it is not known, as for an opened `.tq`.
    #[serde(deserialize_with = "or_nan")]
    pub db: f64,
    /// How many bits per weight the rate is above the limit of all coders at this distortion, by the model ([`crate::rate::limit`]); nothing where the limit is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// The Lagrange multiplier: relative error that one more bit would buy; NaN where it is not known.
    #[serde(deserialize_with = "or_nan")]
    pub lambda: f64,
    /// Whether errors were measured on decoded weights (after encoding) or on the curves (before).
    pub measured: bool,
    /// Bytes of the file that are not layers: header, skeleton, small and exact tensors.
    pub other_bytes: u64,
    /// When the budget cannot be had: one sentence that says so, with the nearest reachable value.
    pub not_reachable: Option<String>,
    /// Least and greatest rate that can be had with these settings.
    pub rate_range: (f64, f64),
    /// Per layer.
    pub layers: Vec<LayerRow>,
}

/// A layer in an allocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Position among the layers.
    pub index: usize,
    /// Name of its weight tensor.
    pub name: String,
    /// Shape as stored.
    pub shape: Vec<usize>,
    /// Number of weights.
    pub weights: u64,
    /// The transform chosen; `None` for an excluded layer.
    pub transform: Option<TransformKind>,
    /// Whether errors are fed back, which takes no transform.
    #[serde(default)]
    pub feedback: bool,
    /// Bits per weight of this layer, basis and side information included.
    pub bits: f64,
    /// Bytes of its section of the file.
    pub bytes: u64,
    /// Of these, bytes of the basis.
    pub basis_bytes: u64,
    /// Without calibration the relative weight error `‖dΘ‖²/‖Θ‖²`, of the weights with the batch norm after the layer folded in, where there
    /// is one; with it the error that this layer causes in the output, over the output's power, by the model; NaN where it is not known.
    #[serde(deserialize_with = "or_nan")]
    pub error: f64,
    /// How many bits per weight more it takes than no coder could do without, by the model ([`crate::rate::limit`]), at its error; nothing where the limit is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// The depth it is locked to.
    pub locked: Option<u8>,
    /// Whether it is kept as it is.
    pub excluded: bool,
    /// Depth of each block of coefficients, strongest block first.
    pub depths: Vec<u8>,
}

impl LayerRow {
    /// What it is compressed by, in a word; nothing for an excluded layer.
    pub fn coded_by(&self) -> Option<&'static str> {
        if self.feedback { Some(Method::Feedback.name()) } else { self.transform.map(TransformKind::name) }
    }
}

/// An allocation that was run to see what it does ([`TransformChoice::Auto`] takes the best).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AlternativeRow {
    /// Which transforms it chose from.
    pub transform: TransformChoice,
    /// Whether the steps of all blocks were chosen together, or each block by itself.
    pub steps_together: bool,
    /// Whether layers count as much as running each of them alone has shown, or as the model says.
    #[serde(default)]
    pub layers_measured: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its distortion by the model, in dB.
    pub predicted_db: f64,
    /// The output's error over its power on the calibration images, in dB.
    pub measured_db: f64,
}

/// The whole report: `--report R.json`, `download-report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `waterfill` and its version.
    pub program: String,
    /// The equivalent command line.
    pub command: String,
    /// The input.
    pub model: ModelSummary,
    /// Settings of the curves.
    pub curve_settings: CurveSettings,
    /// Settings of the allocation.
    pub settings: AllocationSettings,
    /// What was allocated, measured on the decoded weights.
    pub allocation: AllocationReport,
    /// The curves.
    pub curves: RdCurves,
    /// What calibration found, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationSummary>,
    /// What the compressed network gave on the calibration images: the measure of what [`AllocationReport::db`] predicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<EvaluationReport>,
    /// The allocations that were run on the calibration images, the one that was taken first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<AlternativeRow>,
    /// What the compressed network gave on test data, where it was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationReport>,
    /// The promise that chose the rate, where that was the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<promise::Promise>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON has no NaN: of an opened `.tq` errors are not known, and a report of it is read back.
    #[cfg(feature = "plots")]
    #[test]
    fn what_is_not_known_survives_json() {
        let mut report = AllocationReport { db: f64::NAN, lambda: f64::NAN, ..plot::tests::report(2) };
        report.layers[1].error = f64::NAN;
        let mut back: AllocationReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert!(back.db.is_nan() && back.lambda.is_nan() && back.layers[1].error.is_nan());
        for r in [&mut report, &mut back] {
            (r.db, r.lambda, r.layers[1].error) = (0.0, 0.0, 0.0);
        }
        assert_eq!(back, report);
    }

    /// Names on the command line and in JSON are the same, and no two transforms share one.
    #[test]
    fn transforms_have_one_name() {
        for choice in TransformChoice::ALL {
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.name());
        }
        for (code, kind) in TransformKind::ALL.into_iter().enumerate() {
            assert_eq!((serde_json::to_value(kind).unwrap(), kind as usize), (kind.name().into(), code));
            assert_eq!(TransformChoice::ALL.iter().filter(|c| c.kind() == Some(kind)).count(), 1, "{kind:?}");
        }
    }
}
