//! What page and engine say to each other. The page never sees a tensor; the engine never sees the document.
//!
//! serde enums through `serde-wasm-bindgen`; JavaScript handles ride inside untouched (`preserve`), so a `File` is posted by
//! handle and byte buffers are transferred, not copied ([`FromEngine::transfer`]).
//!
//! A job is one request and all its answers; the page numbers them upwards. Every job ends with exactly one of its result,
//! [`FromEngine::Failed`] or [`FromEngine::Cancelled`]. A failed or cancelled `Open` leaves the model that was open before.

use serde::{Deserialize, Serialize};

use crate::report::{AllocationReport, AllocationSettings, CurveSettings, ModelSummary, RdCurves, Report};

/// From the page to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToEngine {
    /// Opens a model (or a `.tq`) and, for a model, computes its curves: `Opened`, `Progress`…, `Curves`, `Allocated`.
    /// A `.tq` ends with `Opened` (format `tq`) followed by `Allocated` (what the file holds); only `Reconstruct` applies then.
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
    /// Computes the curves of the open model again, with other settings: `Progress`…, `Curves`, `Allocated`.
    Recompute {
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
    /// Encodes the current allocation: `Progress`…, `Encoded`.
    Encode {
        /// Job number.
        job: u32,
    },
    /// Decodes what `Encode` would write (or the open `.tq`) into the input's own format: `Progress`…, `Reconstructed`.
    Reconstruct {
        /// Job number.
        job: u32,
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
        /// What is being done: `reading`, `curves`, `encoding`, `decoding`.
        stage: String,
        /// The layer that was finished last.
        layer: String,
        /// Layers done.
        done: u32,
        /// Layers in all.
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
    /// The curves of all layers exist.
    Curves {
        /// Job number.
        job: u32,
        /// For the plot.
        curves: RdCurves,
        /// Seconds from the request to here.
        seconds: f64,
    },
    /// An allocation.
    Allocated {
        /// Job number.
        job: u32,
        /// What was allocated.
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
        if let FromEngine::Encoded { parts, .. } | FromEngine::Reconstructed { parts, .. } = self {
            for part in parts.iter() {
                list.push(&wasm_bindgen::JsCast::unchecked_into::<js_sys::Uint8Array>(part).buffer());
            }
        }
        list
    }
}
