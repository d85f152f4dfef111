//! The worker that computes: a handle to post to, and to end.

use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{Event, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::dom;
use crate::worker::messages::{FromEngine, ToEngine};

/// A running worker. Dropping it ends the worker at once, whatever it computes.
pub struct Engine {
    worker: Worker,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

impl Engine {
    /// Starts a worker. The page's query goes with it: `?engine=st` and `?threads=N` are the worker's.
    /// `receive` gets every message, `broken` a sentence when the worker itself fails.
    pub fn spawn(receive: impl Fn(FromEngine) + 'static, broken: impl Fn(String) + 'static) -> Result<Engine, String> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let query = web_sys::window().and_then(|w| w.location().search().ok()).unwrap_or_default();
        let worker = Worker::new_with_options(&format!("{}{query}", dom::meta("engine")), &options).map_err(in_words)?;
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |e: MessageEvent| match serde_wasm_bindgen::from_value(e.data()) {
            Ok(message) => receive(message),
            Err(error) => web_sys::console::error_1(&format!("a message of the engine was not understood: {error}").into()),
        });
        let on_error = Closure::<dyn FnMut(Event)>::new(move |e: Event| broken(in_words(e.into())));
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Engine { worker, _on_message: on_message, _on_error: on_error })
    }

    /// Posts a message. Files go by handle, nothing is copied.
    pub fn post(&self, message: &ToEngine) -> Result<(), String> {
        let message = message.serialize(&serde_wasm_bindgen::Serializer::new()).map_err(|e| e.to_string())?;
        self.worker.post_message(&message).map_err(in_words)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }
}

/// The `message` of a JavaScript error or error event, or what else it is.
pub fn in_words(error: JsValue) -> String {
    js_sys::Reflect::get(&error, &"message".into())
        .ok()
        .and_then(|m| m.as_string())
        .filter(|m| !m.is_empty())
        .or_else(|| error.as_string())
        .unwrap_or_else(|| "no reason was given".into())
}
