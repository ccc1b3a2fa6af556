//! Coded serving: tokio around [`parm_engine`].
//!
//! A [`runtime::Runtime`] is the engine of one model at work, with its queries and its instances; [`models`]
//! loads and unloads models, and [`server`] answers requests of the Open Inference Protocol. [`check`] finds
//! what a configuration asks for that cannot be served.

pub mod check;
pub mod models;
pub mod runtime;
pub mod server;
mod synthetic;

pub use runtime::membership::{Embed, NoModels};
pub use synthetic::SyntheticInstance;

#[cfg(target_endian = "big")]
compile_error!("tensors of the protocol are little-endian, and are computed with where they lie");
