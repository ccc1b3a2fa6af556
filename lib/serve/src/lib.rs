//! Coded serving: tokio around [`parm_engine`].
//!
//! [`oip`] is the Open Inference Protocol as data, and its forms on the wire; clients and instances
//! speak it alike. An [`instance::Instance`] answers inference requests: a remote model server, or
//! one inside this process.

pub mod client;
pub mod config;
pub mod instance;
pub mod load;
pub mod models;
pub mod oip;
mod pem;
pub mod proto;
pub mod runtime;
pub mod server;
mod together;
mod transport;

pub use runtime::membership::{Embed, NoModels};

#[cfg(target_endian = "big")]
compile_error!("tensors of the protocol are little-endian, and are computed with where they lie");
