//! Coded serving: drives [`parm_engine`] with tokio and real instances.
//!
//! A [`runtime::Runtime`] drives the engine of one model, with its queries and its instances. [`models`]
//! loads and unloads models, and [`server`] answers requests of the Open Inference Protocol. [`check`]
//! finds configurations that cannot be served.

pub mod check;
pub mod models;
pub mod runtime;
pub mod server;
mod synthetic;

pub use runtime::membership::{Embed, NoModels};
pub use synthetic::SyntheticInstance;

#[cfg(target_endian = "big")]
compile_error!("codes compute with the protocol's little-endian tensors in place");
