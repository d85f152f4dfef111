//! The engine: the numeric core as a Wasm module in a module worker (www/worker.js).

fn main() {}

#[cfg(target_arch = "wasm32")]
mod exports {
    use wasm_bindgen::prelude::*;
    // Exports `init_thread_pool`.
    #[cfg(feature = "threads")]
    use wasm_bindgen_rayon as _;
    use waterfill::worker::{engine, messages::FromEngine};

    /// Called once by the worker, when the pool of `threads` threads is up.
    #[wasm_bindgen]
    pub fn start(threads: u32) {
        console_error_panic_hook::set_once();
        let (shared, simd) = (cfg!(target_feature = "atomics"), cfg!(target_feature = "simd128"));
        engine::post(&FromEngine::Ready { threads, shared, simd });
    }

    /// Takes a message from the page ([`waterfill::worker::messages::ToEngine`]).
    #[wasm_bindgen]
    pub async fn handle(message: JsValue) {
        engine::handle(message).await;
    }
}
