//! Load and clusters, for servers and for the simulator: arrival schedules, fault models of instances,
//! records of requests, and summaries.
//!
//! Load is open-loop: requests are sent at predetermined times, whatever happened to earlier requests.
//! Latencies count from these times, so that a stall of the server delays all requests that were due during
//! it (no coordinated omission).
//!
//! A [`Schedule`] has the times of requests, a [`Record`] the outcome of one, and a [`Summary`] the
//! statistics of records. A [`Row`] has the summaries of several trials. An [`Expectation`] is what they must
//! fulfil, and a [`Search`] finds the highest rate at which they do.
//! [`faults`] has the models of slow, failing and crashing instances.

mod comparison;
mod drill;
mod expect;
pub mod faults;
mod histogram;
mod record;
pub mod report;
mod schedule;
mod search;
mod slices;
mod summary;
mod trace;

pub use comparison::{FaultRun, TargetRun, Trial, compare, drill_table, runs, slices_table, table};
pub use drill::{Action, Drill, DrillError, DrillLog, Fault, Impact};
pub use expect::{ExpectError, Expectation, Watch};
pub use histogram::write_histograms;
pub use record::{Outcome, Record};
pub use report::Row;
pub use schedule::{Arrivals, ArrivalsError, Due, Schedule, Span};
pub use search::Search;
pub use slices::{SliceLatencies, SliceRun, Slices};
pub use summary::Summary;
pub use trace::{Trace, TraceError};

/// A time in ns since an origin that the caller chooses, or a duration in ns.
pub type Time = u64;
