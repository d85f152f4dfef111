//! Waterfill: compresses neural networks by transform quantization (Young, Zhe, Taubman, Girod, TPAMI 2021).

pub mod error;
pub mod limits;
pub mod report;

#[cfg(feature = "core")]
pub mod io;
#[cfg(feature = "ui")]
pub mod ui;
#[cfg(feature = "web")]
pub mod worker;
