//! The engine's side of the page: messages, and the loop that runs in the module worker.

pub mod messages;
