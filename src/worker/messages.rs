//! What page and engine say to each other. The page never sees a tensor; the engine never sees the document.
//!
//! serde enums through `serde-wasm-bindgen`; JavaScript handles ride inside untouched (`preserve`), so a `File` is posted by
//! handle and byte buffers are transferred, not copied ([`FromEngine::transfer`]).
//!
//! A job is one request and all its answers; the page numbers them upwards. Every job ends with exactly one of its result,
//! [`FromEngine::Failed`] or [`FromEngine::Cancelled`]. A failed or cancelled `Open` leaves the model that was open before, a failed or
//! cancelled `OpenData` the images, a failed or cancelled `Recompute`, `Calibrate` or `Forget` the curves. One job runs at a time, but
//! `Allocate` may be asked for while `Evaluate`, `Calibrate`, `Check`, `Promise` or `Sweep` runs: they go on with the allocation that they began with,
//! and a `Sweep` has its own.

use serde::{Deserialize, Serialize};

use crate::report::{
    AllocationReport, AllocationSettings, CalibrationSettings, CalibrationSummary, CurveSettings, DataSummary, EvaluationReport,
    MeasuredCurves, ModelSummary, Preprocessing, RdCurves, Report, SweepSettings, batch,
    figure::{Figure, Which},
    pictures::Shown,
    promise::Promise,
};

/// What images are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataUse {
    /// Statistics of the full-precision network; labels are not used.
    Calibration,
    /// Accuracy.
    Test,
}

/// From the page to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToEngine {
    /// Opens a model (or a `.tq`) and, for a model, computes its curves: `Opened`, `Progress`…, `Curves`, `Allocated`.
    /// A `.tq` ends with `Opened` (format `tq`) followed by `Allocated` (what the file holds); only `Reconstruct` and `Evaluate` apply
    /// then. A file that turns out to hold images becomes the test images instead: `DataOpened`, and the model stays.
    /// Files that turn out to be several models are only told apart: `Several`, and the model stays.
    Open {
        /// Job number.
        job: u32,
        /// A JavaScript array of `File`s (a model and its external data).
        #[serde(with = "serde_wasm_bindgen::preserve")]
        files: js_sys::Array,
        /// Settings of the curves.
        curves: CurveSettings,
        /// Settings of the first allocation.
        allocation: AllocationSettings,
    },
    /// Compresses several models, one after the other; the open one stays as it is. For each: `Batched` when it begins, `Progress`…, `Batched` with
    /// what came of it; after the last `BatchEnded`. One that fails does not end the others.
    Batch {
        /// Job number.
        job: u32,
        /// Models: a JavaScript array of arrays of `File`s that belong together, the model's first.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        groups: js_sys::Array,
        /// Places of those to compress.
        which: Vec<u32>,
        /// Settings of the curves without calibration.
        curves: CurveSettings,
        /// Settings of the allocations, without locks and excludes.
        allocation: AllocationSettings,
        /// Whether models that take the calibration images are calibrated, how, and settings of the curves then.
        calibration: Option<(CalibrationSettings, CurveSettings)>,
    },
    /// Puts files into one archive: `Packed`.
    Pack {
        /// Job number.
        job: u32,
        /// A JavaScript array of `File`s.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        files: js_sys::Array,
    },
    /// Computes the curves of the open model again, with other settings: `Progress`…, `Curves`, `Allocated`.
    Recompute {
        /// Job number.
        job: u32,
        /// Settings of the curves.
        curves: CurveSettings,
        /// Settings of the allocation that follows.
        allocation: AllocationSettings,
    },
    /// Takes statistics of the open model on the calibration images, and computes its curves from them: `Progress`…, `Curves`, `Allocated`.
    /// Asked for again with the same images, preprocessing and settings, it goes on from the samples that were taken.
    Calibrate {
        /// Job number.
        job: u32,
        /// How images become inputs; none: as guessed.
        preprocessing: Option<Preprocessing>,
        /// How statistics are sampled.
        calibration: CalibrationSettings,
        /// Settings of the curves.
        curves: CurveSettings,
        /// Settings of the allocation that follows.
        allocation: AllocationSettings,
    },
    /// Computes the curves of the open model without statistics: `Progress`…, `Curves`, `Allocated`.
    Forget {
        /// Job number.
        job: u32,
        /// Settings of the curves.
        curves: CurveSettings,
        /// Settings of the allocation that follows.
        allocation: AllocationSettings,
    },
    /// A new budget, lock or transform: `Allocated`, in milliseconds.
    Allocate {
        /// Job number.
        job: u32,
        /// Settings.
        allocation: AllocationSettings,
    },
    /// Encodes what the current settings come to, after a `Check` of it that was not made: `Progress`…, `Settled`, `Encoded`.
    Encode {
        /// Job number.
        job: u32,
    },
    /// Decodes what `Encode` would write (or the open `.tq`) into the input's own format: `Progress`…, `Settled`, `Reconstructed`.
    Reconstruct {
        /// Job number.
        job: u32,
    },
    /// Opens images: `Progress`…, `DataOpened`. They stay until others are opened for the same use or `CloseData`; a new model keeps them.
    /// What was calibrated on others holds until `Forget`.
    OpenData {
        /// Job number.
        job: u32,
        /// What they are for.
        usage: DataUse,
        /// A JavaScript array of `[path, File]` pairs; the path names the class folder.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        files: js_sys::Array,
    },
    /// Forgets images: `DataOpened` without a summary.
    CloseData {
        /// Job number.
        job: u32,
        /// What they were for.
        usage: DataUse,
    },
    /// Asks whether the open network can be run, and how the open images (those for tests first) would become its inputs: `Network`.
    /// The answer holds until another model or other images are open. Reads the network's weights: the page asks once there are images.
    Network {
        /// Job number.
        job: u32,
    },
    /// Runs the full-precision and the compressed network (what `Encode` would write, or the open `.tq` alone) on the test images, and, if
    /// `damage`, the network with one layer quantized at a time on the calibration images (or the test images, when there are none):
    /// `Progress`…, `Settled`, `Evaluated`.
    Evaluate {
        /// Job number.
        job: u32,
        /// How images become inputs; none: as guessed.
        preprocessing: Option<Preprocessing>,
        /// Whether to find the damage done by each layer.
        damage: bool,
    },
    /// Finds what the current settings come to: runs the network, compressed by the allocations in question, on the images that it was
    /// calibrated on, and takes the best. `Progress`…, `Settled`, `Checked`.
    Check {
        /// Job number.
        job: u32,
    },
    /// Compresses the network by every transform and rate wanted, and runs it on the test images: `Progress`…, `Measured` after each point
    /// from the first on; that with all points is the last. Asked for again with the same settings, on the same curves and images, it goes
    /// on where it was cancelled.
    Sweep {
        /// Job number.
        job: u32,
        /// How images become inputs; none: as guessed.
        preprocessing: Option<Preprocessing>,
        /// Transforms and rates.
        settings: SweepSettings,
        /// Which layers are locked or excluded; the rest does not matter.
        allocation: AllocationSettings,
    },
    /// Finds the smallest file that loses at most so many points of top-1 on the test images, or without labels of agreement: `Progress`…,
    /// `Promised` after each try, and with the last one `done`. What was found is then what `Encode` writes for the settings it was found
    /// with, without finding it again.
    Promise {
        /// Job number.
        job: u32,
        /// How images become inputs; none: as guessed.
        preprocessing: Option<Preprocessing>,
        /// Most percentage points that may be lost.
        lose: f64,
        /// Settings of all tries; the budget does not matter.
        allocation: AllocationSettings,
    },
    /// Makes a figure of the open model, for the allocation asked for last: `Figure`. Not a job: it has a number of its own, is made beside whatever runs, and cannot be
    /// cancelled.
    Figure {
        /// Number of the figure.
        number: u32,
        /// Which.
        which: Which,
        /// The layer that it is of, or that stands out in it.
        layer: usize,
    },
    /// Stops this job. Answered by `Cancelled` for that job, unless it had ended.
    Cancel {
        /// Number of the job to stop.
        job: u32,
    },
}

/// From the engine to the page.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromEngine {
    /// The engine is up.
    Ready {
        /// Threads of its pool; 1 for the build without threads.
        threads: u32,
        /// Whether this is the build with threads.
        shared: bool,
        /// Whether it uses SIMD.
        simd: bool,
    },
    /// A job goes on.
    Progress {
        /// Job number.
        job: u32,
        /// What is being done: `curves`, `statistics`, `encoding`, `decoding`, `running`, `comparing`, `pictures`, `damage`. A `Check` and a `Sweep`
        /// go through several. Before, `fetching`: the part of the engine that is needed, of no known size; `layer` says how much of it has come.
        stage: String,
        /// The layer (of `running` and `comparing`, the images; of `statistics`, the sample) that was finished last.
        layer: String,
        /// Layers done (or samples, or batches of images; of `damage`, layers times batches).
        done: u32,
        /// Of how many.
        total: u32,
        /// Part of the work done, 0 to 1 (layers weigh by their cost).
        fraction: f64,
        /// Estimated seconds left, once there is something to estimate from.
        seconds_left: Option<f64>,
    },
    /// A file was recognised and its table read.
    Opened {
        /// Job number.
        job: u32,
        /// The table.
        model: ModelSummary,
    },
    /// Files that were to be opened are several models.
    Several {
        /// Job number.
        job: u32,
        /// Places of the files that belong together, the model's first.
        groups: Vec<Vec<u32>>,
    },
    /// A model of a batch begins, or has ended.
    Batched {
        /// Job number.
        job: u32,
        /// Its place in the batch.
        index: u32,
        /// Where it is.
        progress: batch::Progress,
        /// Of one that is done, the bytes of its file: an array of `Uint8Array`s, to be put into one `Blob`.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        parts: js_sys::Array,
    },
    /// A batch has ended.
    BatchEnded {
        /// Job number.
        job: u32,
    },
    /// An archive.
    Packed {
        /// Job number.
        job: u32,
        /// Its bytes: an array of `Uint8Array`s, to be put into one `Blob`.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        parts: js_sys::Array,
    },
    /// The curves of all layers exist.
    Curves {
        /// Job number.
        job: u32,
        /// For the plot.
        curves: RdCurves,
        /// Seconds from the request to here.
        seconds: f64,
        /// What they were calibrated on, if they were.
        calibration: Option<Box<CalibrationSummary>>,
    },
    /// An allocation.
    Allocated {
        /// Job number.
        job: u32,
        /// What was allocated.
        #[serde(with = "bytes")]
        allocation: AllocationReport,
        /// The equivalent command line.
        command: String,
    },
    /// The `.tq` file.
    Encoded {
        /// Job number.
        job: u32,
        /// File name to save it under.
        file_name: String,
        /// Its bytes: an array of `Uint8Array`s, to be put into one `Blob`.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        parts: js_sys::Array,
        /// The report, with errors measured on decoded weights.
        report: Box<Report>,
        /// The report as CSV.
        csv: String,
    },
    /// The reconstructed model.
    Reconstructed {
        /// Job number.
        job: u32,
        /// File name to save it under.
        file_name: String,
        /// Its bytes: an array of `Uint8Array`s, to be put into one `Blob`.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        parts: js_sys::Array,
    },
    /// Images were recognised, or forgotten.
    DataOpened {
        /// Job number.
        job: u32,
        /// What they are for.
        usage: DataUse,
        /// What they are; none when they were forgotten.
        summary: Option<DataSummary>,
    },
    /// What was asked about the open network.
    Network {
        /// Job number.
        job: u32,
        /// How the open images would become its inputs; none when it cannot be run at all.
        preprocessing: Option<Preprocessing>,
        /// Why it cannot be run, or not on the images of this use in this way: one sentence.
        why_not: [Option<String>; 2],
    },
    /// Networks were run.
    Evaluated {
        /// Job number.
        job: u32,
        /// What they gave.
        report: Box<EvaluationReport>,
        /// Of image-to-image networks that were compared, a few pictures; else none.
        pictures: Vec<Shown>,
        /// Their pixels: an array of `Uint8Array`s, for every picture three of them: the input (empty if it is no picture), the full-precision
        /// output and the compressed one. Rows from top to bottom; red, green, blue and opaqueness of every pixel.
        #[serde(with = "serde_wasm_bindgen::preserve")]
        pixels: js_sys::Array,
    },
    /// What the current settings come to, with calibration on its images: what a download holds, to the byte. Any job that needs the
    /// compressed network of an open model says this once before it goes on, unless the settings have changed meanwhile.
    Settled {
        /// Job number.
        job: u32,
        /// The allocation that was taken, errors those of the decoded weights: with calibration, as it predicts them.
        allocation: Box<AllocationReport>,
        /// What both networks gave, if they were run; the measured error is that of the compressed one.
        check: Option<Box<EvaluationReport>>,
        /// Allocations that were run; the best was taken.
        tried: u32,
    },
    /// A check has ended.
    Checked {
        /// Job number.
        job: u32,
    },
    /// A point of the measured curves, with all before it.
    Measured {
        /// Job number.
        job: u32,
        /// What there is so far.
        curves: Box<MeasuredCurves>,
    },
    /// A rate was tried for a promise, or all were.
    Promised {
        /// Job number.
        job: u32,
        /// What was tried so far.
        promise: Box<Promise>,
        /// Whether that is all: then the job has ended, and the best of the tries is what was asked for, if there is one.
        done: bool,
    },
    /// A figure.
    Figure {
        /// Its number.
        number: u32,
        /// It, or one sentence that says why there is none.
        figure: Result<Box<Figure>, String>,
    },
    /// The job failed; its one sentence.
    Failed {
        /// Job number.
        job: u32,
        /// One sentence: which file, which tensor, what is wrong, what to do.
        error: String,
    },
    /// The job was cancelled.
    Cancelled {
        /// Job number.
        job: u32,
    },
}

impl FromEngine {
    /// The buffers to transfer with this message.
    pub fn transfer(&self) -> js_sys::Array {
        let list = js_sys::Array::new();
        use FromEngine::{Batched, Encoded, Evaluated, Packed, Reconstructed};
        let (Encoded { parts, .. }
        | Reconstructed { parts, .. }
        | Batched { parts, .. }
        | Packed { parts, .. }
        | Evaluated { pixels: parts, .. }) = self
        else {
            return list;
        };
        for part in parts.iter() {
            list.push(&wasm_bindgen::JsCast::unchecked_into::<js_sys::Uint8Array>(part).buffer());
        }
        list
    }
}

/// A value as the bytes of one text. While a budget is dragged there is an allocation for every frame, of a thousand numbers and names; as a JavaScript object each
/// would be made and read by itself on the page's thread. And what came with a message is kept until the next major collection of garbage: as a string, it would be what brings that
/// about, in the midst of a drag; bytes are kept beside what is collected.
mod bytes {
    use js_sys::Uint8Array;
    use serde::{Deserializer, Serialize, Serializer, de::DeserializeOwned};
    use serde_wasm_bindgen::preserve;

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_vec(value).map_err(serde::ser::Error::custom)?;
        preserve::serialize(&Uint8Array::from(&text[..]), to)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let text: Uint8Array = preserve::deserialize(from)?;
        serde_json::from_slice(&text.to_vec()).map_err(serde::de::Error::custom)
    }
}
