//! The rest of the engine: `cargo xtask build` cuts the engine's module in two (`src/bin/xtask/split.rs`), and only the first part is there from the beginning. It
//! opens ONNX and safetensors, finds curves, spends budgets and writes `.tq`.
//!
//! Each thread has both parts for itself, on one memory: who first calls a function of the rest has it loaded, from bytes that are fetched once. What a message
//! asks for of the rest is known before ([`wanted_for`]), and fetched while the worker goes on ([`fetch`]); that fails with a sentence where a function
//! that is not there could only end the engine.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::OnceLock,
};

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::{Part, give_way, post_progress, still_running};
use crate::{
    error::{Error, Result},
    pipeline::job::Progress,
    report::figure::Which,
    worker::messages::ToEngine,
};

#[wasm_bindgen(module = "/src/worker/engine/rest.js")]
extern "C" {
    #[wasm_bindgen(js_name = fetchRest)]
    fn fetch_rest() -> js_sys::Promise;
    #[wasm_bindgen(js_name = bytesCame)]
    fn bytes_came() -> f64;
    #[wasm_bindgen(catch, js_name = fetchRestNow)]
    fn fetch_rest_now() -> std::result::Result<Uint8Array, JsValue>;
    #[wasm_bindgen(js_name = startRest)]
    fn start_rest(bytes: &[u8], first: &JsValue);
}

/// The bytes of the rest once they were fetched. They stay: another thread may need them any time.
static BYTES: OnceLock<Vec<u8>> = OnceLock::new();

/// How a fetch ended.
type Fetched = OnceCell<std::result::Result<(), String>>;

thread_local! {
    /// The fetch that is under way, for all who wait for it.
    static COMING: RefCell<Option<Rc<Fetched>>> = RefCell::default();
}

/// How often somebody who waits looks whether the bytes are there, in milliseconds.
const LOOK: i32 = 40;

/// The job for which a message asks for something of the rest, if it does.
pub(super) fn wanted_for(message: &ToEngine) -> Option<u32> {
    match message {
        ToEngine::Open { job, files, .. } => {
            (!files.iter().all(|file| first_opens(&file.unchecked_into::<web_sys::File>().name()))).then_some(*job)
        }
        ToEngine::Batch { job, .. }
        | ToEngine::Pack { job, .. }
        | ToEngine::Calibrate { job, .. }
        | ToEngine::Reconstruct { job }
        | ToEngine::OpenData { job, .. }
        | ToEngine::Network { job }
        | ToEngine::Evaluate { job, .. }
        | ToEngine::Sweep { job, .. }
        | ToEngine::Promise { job, .. } => Some(*job),
        // Of these, what runs networks does so after one that is named above. Figures are no jobs: they ask themselves.
        ToEngine::Recompute { .. }
        | ToEngine::Forget { .. }
        | ToEngine::Allocate { .. }
        | ToEngine::Encode { .. }
        | ToEngine::CloseData { .. }
        | ToEngine::Check { .. }
        | ToEngine::Figure { .. }
        | ToEngine::Cancel { .. } => None,
    }
}

/// Whether the first part opens a file of this name by itself: ONNX and what belongs to it, or safetensors.
fn first_opens(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".onnx", ".data", ".safetensors", ".json"].iter().any(|end| name.ends_with(end))
}

/// Whether the first part makes a figure by itself.
pub(super) fn first_makes(which: Which) -> bool {
    which == Which::default()
}

/// Fetches the rest for a job, unless that was done. A job that is cancelled does not wait for it; the fetch goes on, for the next one.
pub(super) async fn fetch(number: u32) -> Result<()> {
    while BYTES.get().is_none() {
        let coming = COMING.with_borrow_mut(|coming| coming.get_or_insert_with(begin).clone());
        let kilobytes = format!("{:.0} kB", bytes_came() / 1000.0);
        let progress = Progress { stage: "fetching", item: kilobytes, done: 0, total: 0, fraction: 0.0, seconds_left: None };
        post_progress(number, Part::whole(), &progress);
        give_way(LOOK).await;
        still_running(number)?;
        if let Some(Err(why)) = coming.get() {
            return Err(unreached(why));
        }
    }
    Ok(())
}

/// Begins to fetch it.
fn begin() -> Rc<Fetched> {
    let coming = Rc::new(Fetched::new());
    let ended = coming.clone();
    spawn_local(async move {
        let fetched = JsFuture::from(fetch_rest()).await.map(|fetched| keep(&fetched.unchecked_into())).map_err(why);
        // Nobody else sets it.
        let _ = ended.set(fetched.map(|_| ()));
        COMING.take();
    });
    coming
}

fn keep(fetched: &Uint8Array) -> &'static [u8] {
    BYTES.get_or_init(|| fetched.to_vec())
}

fn why(e: JsValue) -> String {
    e.dyn_into::<js_sys::Error>().map_or_else(|e| format!("{e:?}"), |e| e.message().into())
}

fn unreached(why: &str) -> Error {
    Error::Setting(format!("The part of the engine that this needs could not be fetched ({why}); check the connection and try again."))
}

/// Loads the rest into the thread that calls. Functions of the first part that stand for those of the rest call it (`src/bin/xtask/split.rs`).
#[wasm_bindgen]
pub fn load_rest() {
    // Whatever is called is found, also what nobody knew before.
    match BYTES.get().map_or_else(|| fetch_rest_now().map(|fetched| keep(&fetched)), |bytes| Ok(bytes)) {
        Ok(bytes) => start_rest(bytes, &wasm_bindgen::exports()),
        Err(e) => wasm_bindgen::throw_str(&unreached(&why(e)).to_string()),
    }
}
