//! The rest of the engine: `cargo xtask build` cuts the engine's module in two (`src/bin/xtask/split.rs`), and only the first part is there from the beginning. It
//! opens ONNX and safetensors, finds curves, spends budgets and writes `.tq`.
//!
//! Each thread has both parts for itself, on one memory: who first calls a function of the rest has it loaded, from bytes that are fetched once. Where
//! there is something to lose, [`get`] is called before: it fails with a sentence where a function that is not there could only end the engine.

use std::sync::Mutex;

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use crate::error::{Error, Result};

#[wasm_bindgen(module = "/src/worker/engine/rest.js")]
extern "C" {
    #[wasm_bindgen(catch, js_name = fetchRest)]
    fn fetch_rest() -> std::result::Result<Uint8Array, JsValue>;
    #[wasm_bindgen(js_name = startRest)]
    fn start_rest(bytes: &[u8], first: &JsValue);
}

/// The bytes of the rest once they were fetched. They stay: another thread may need them any time.
static BYTES: Mutex<Option<&'static [u8]>> = Mutex::new(None);

/// Whether the first part opens a file of this name by itself: ONNX and what belongs to it, or safetensors.
pub(super) fn not_for(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".onnx", ".data", ".safetensors", ".json"].iter().any(|end| name.ends_with(end))
}

/// Fetches the rest, unless that was done.
pub(super) fn get() -> Result<&'static [u8]> {
    let mut bytes = BYTES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match *bytes {
        Some(bytes) => Ok(bytes),
        None => {
            let fetched = fetch_rest().map_err(|e| {
                let why = e.dyn_into::<js_sys::Error>().map_or_else(|e| format!("{e:?}"), |e| e.message().into());
                Error::Setting(format!(
                    "The part of the engine that this needs could not be fetched ({why}); check the connection and try again."
                ))
            })?;
            Ok(bytes.insert(fetched.to_vec().leak()))
        }
    }
}

/// Loads the rest into the thread that calls. Functions of the first part that stand for those of the rest call it (`src/bin/xtask/split.rs`).
#[wasm_bindgen]
pub fn load_rest() {
    match get() {
        Ok(bytes) => start_rest(bytes, &wasm_bindgen::exports()),
        Err(e) => wasm_bindgen::throw_str(&e.to_string()),
    }
}
