//! Calls to model servers that are not this one: each with its dialect, its failures and its ends.

mod blocking;
mod connections;
mod dialects;
mod failures;
mod fake;
mod faults;
mod grpc;
mod running;
mod streams;
mod tls;
#[path = "../common/wait.rs"]
mod wait;
