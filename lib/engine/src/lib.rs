//! The core of coded serving: a state machine that takes events with their times and returns actions.
//!
//! A driver reports events to an [`Engine`] (a query arrived; an instance answered, failed, joined or was
//! lost; a client gave up; time passed), and executes its [`Action`]s. The engine has no clock, no sockets,
//! no threads and no randomness, so that a server, a simulator under virtual time and a test of one race
//! drive the same code.
//!
//! It never sees a tensor. A query is a *row*, a number that the driver chose; encoding is part of the
//! dispatch of a parity query, decoding is [`Action::Rebuild`], and the driver does both. It keeps a row (the
//! query, and its prediction once one arrived) until [`Action::Release`]. When it encodes a group it notes
//! [`Engine::members`], which it needs for decoding, and keeps them with the group's parity outputs until
//! [`Action::Drop`].
//!
//! # What a group is
//! Queries are collected into batches, and k batches make a coding group; row i of its parity batch
//! encodes row i of each batch that has one. A group that does not fill in time is completed with a
//! known query, whose prediction is at hand, or coded shorter.
//!
//! # Bounds
//! Every query has a deadline and every call a timeout, so that nothing is held for ever. Unexpected events
//! (late, repeated, unknown, out of order) are ignored and counted.

mod action;
mod answering;
mod arena;
mod batching;
mod code;
mod config;
mod counters;
mod dispatch;
mod engine;
mod health;
mod hedging;
pub mod journal;
mod percentile;
mod refusing;
mod settling;
mod state;
mod timers;
mod views;

pub use action::{Action, CodingOff, Decode, Outcome, Reason, Rejection};
pub use arena::{BatchId, CallId, GroupId, InstanceId, QueryId};
pub use code::{CodeRule, MAX_WORKERS, Mask, Rule};
pub use config::{
    Agreement, Balance, Completion, Config, ConfigError, Delay, Ejection, Hedge, Policy, When, ms,
};
pub use counters::Counters;
pub use engine::{Arrival, Engine};
pub use state::{Call, Role, Roles, Task};
pub use views::Held;

/// A time in ns since the driver's origin, or a duration in ns.
pub type Time = u64;
