//! Open-loop load, and what it meets: requests are sent at times that are decided beforehand, whatever
//! becomes of the ones before, and their latency counts from those times. A server that stalls is so
//! charged for all requests that were meant for the stall, not for the one that saw it (no coordinated
//! omission).
//!
//! [`Schedule`] says when, [`Queries`] what, [`measure`] sends and gives a [`Record`] of each request, and
//! a [`Summary`] counts records, whoever made them.

mod measure;
mod queries;
mod record;
mod report;
mod schedule;
mod summary;
mod trace;

pub use measure::{Plan, measure};
pub use queries::{Queries, QueriesError, RowShape, Rows, Source};
pub use record::{Outcome, Record};
pub use report::{json, table};
pub use schedule::{Arrivals, Due, Schedule, Span};
pub use summary::Summary;
pub use trace::{Trace, TraceError};
