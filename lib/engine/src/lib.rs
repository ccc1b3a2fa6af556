//! The core of coded serving: a state machine that takes events with their times and returns actions.
//!
//! A driver tells an [`Engine`] what happens (a query arrived, an instance answered, failed, joined
//! or was lost, a client gave up, a timer expired) and does what it is told by [`Action`]s. The
//! engine has no clock, no sockets, no threads and no randomness, so that a server, a simulator
//! under virtual time and a test of one race drive the same code.
//!
//! It never sees a tensor. A query is a *row*, a number that the driver chose; encoding is part of
//! the dispatch of a parity query, decoding is [`Action::Rebuild`], and the driver does both. It keeps
//! a row (the query, and its prediction once one arrived) until [`Action::Release`]. When it encodes a
//! group, it keeps [`Engine::members`], which decoding needs, with the group's parity outputs until
//! [`Action::Drop`].
//!
//! # What a group is
//! Queries are collected into batches, and k batches make a coding group; row i of its parity batch
//! encodes row i of each batch that has one. A group that does not fill in time is completed with a
//! known query, whose prediction is at hand, or coded shorter.
//!
//! # Bounds
//! Every query has a deadline and every call a timeout, so that nothing is held forever. Events
//! that fit nothing (late, twice, unknown, out of order) are ignored and counted.

mod action;
mod answering;
mod arena;
mod arrival;
mod auto;
mod batch_size;
mod batching;
mod cleanup;
mod code;
mod coding;
mod config;
mod counters;
mod dispatch;
mod engine;
mod error;
mod health;
mod hedge_budget;
mod hedging;
mod inspect;
mod instance;
pub mod journal;
mod mask;
mod percentile;
mod pools;
mod refusals;
mod store;
mod task;
mod timers;
mod tokens;

pub use action::{Action, CodingOff, Decode, Outcome, Reason, Rejection};
pub use arena::{CallId, GroupId, InstanceId, QueryId};
pub use arrival::{Arrival, RedundancyLevel};
pub use auto::State;
pub use code::CodeRule;
pub use config::{
    Agreement, Auto, Balance, Completion, Config, Delay, Ejection, Groups, Hedge, Policy, When,
};
pub use counters::Counters;
pub use engine::Engine;
pub use error::ConfigError;
pub use inspect::Held;
pub use mask::{MAX_WORKERS, Mask};
pub use task::{Call, Role, Roles, Task};

/// A time in ns since the driver's origin, or a duration in ns.
pub type Time = u64;
