//! Coded serving: tokio around [`parm_engine`].
//!
//! [`oip`] is the Open Inference Protocol as data, and its forms on the wire; clients and instances
//! speak it alike. An [`instance::Instance`] answers inference requests: a remote model server, or
//! one inside this process.

pub mod config;
pub mod instance;
pub mod oip;
