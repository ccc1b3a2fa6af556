//! Open-loop load, and what it meets: requests are sent at times that are decided beforehand, whatever
//! becomes of the ones before, and their latency counts from those times. A server that stalls is so
//! charged for all requests that were meant for the stall, not for the one that saw it (no coordinated
//! omission).
//!
//! [`Schedule`] says when, [`Queries`] what, [`measure`] sends and gives a [`Record`] of each request, and
//! a [`Summary`] counts records, whoever made them. A [`Row`] holds those of several trials.

mod comparison;
mod histogram;
mod labels;
mod measure;
mod queries;
mod record;
pub mod report;
mod schedule;
mod summary;
mod trace;

pub use comparison::{Trial, compare, json, table};
pub use histogram::write_histograms;
pub use labels::{Labels, LabelsError};
pub use measure::{Plan, measure};
pub use queries::{Queries, QueriesError, RowShape, Rows, Source};
pub use record::{Outcome, Record};
pub use report::Row;
pub use schedule::{Arrivals, Due, Schedule, Span};
pub use summary::Summary;
pub use trace::{Trace, TraceError};
