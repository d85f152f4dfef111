//! The engine's side of the page: messages, and the loop that runs in the module worker.

#[cfg(all(feature = "engine", target_arch = "wasm32"))]
pub mod engine;
pub mod messages;
