//! The server: speaks the protocol to clients, and passes requests to runtimes.
//!
//! `infer` is what a request becomes, however it came; `routes`, `http` and `grpc` are its forms; `listen`
//! accepts connections, within limits and with TLS; `auth` says who may ask.

mod auth;
mod blocking;
mod body;
mod budget;
mod compression;
mod counts;
mod decompressed;
mod error;
mod grpc;
mod http;
mod infer;
mod listen;
mod messages;
mod meter;
mod metrics;
mod model_config;
mod page;
mod refusals;
mod response;
mod routes;
mod run;
mod state;
mod statistics;
mod timeouts;

pub use error::StartError;
pub(crate) use run::check_files;
pub use run::{Addresses, Order, Running};
