//! Waterfill: compresses neural networks by transform quantization (Young, Zhe, Taubman, Girod, TPAMI 2021).

pub mod error;
pub mod limits;
pub mod report;

#[cfg(feature = "core")]
pub mod container;
#[cfg(feature = "core")]
pub mod io;
#[cfg(feature = "core")]
pub mod pipeline;
#[cfg(feature = "core")]
pub mod quantize;
#[cfg(feature = "core")]
pub mod rate;
#[cfg(feature = "core")]
pub mod transform;
#[cfg(feature = "web")]
pub mod worker;
