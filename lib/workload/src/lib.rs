//! What load and clusters look like, for servers and for the simulator alike: when requests are sent, how
//! instances behave, what became of each request, and what that comes to.
//!
//! Load is open-loop: requests are sent at times that are decided beforehand, whatever becomes of the
//! requests before. Their latency counts from those times, so that a server that stalls is charged for all
//! requests that were due during the stall, not only for the one that met it (no coordinated omission).
//!
//! [`Schedule`] says when requests are due, a [`Record`] what became of one, and a [`Summary`] counts
//! records. A [`Row`] has the summaries of several trials. [`faults`] describes how instances slow down,
//! fail and crash.

mod comparison;
pub mod faults;
mod histogram;
mod record;
pub mod report;
mod schedule;
mod summary;
mod trace;

pub use comparison::{Trial, compare, json, table};
pub use histogram::write_histograms;
pub use record::{Outcome, Record};
pub use report::Row;
pub use schedule::{Arrivals, Due, Schedule, Span};
pub use summary::Summary;
pub use trace::{Trace, TraceError};

/// A moment, or a duration: nanoseconds, since an origin that the caller chooses.
pub type Time = u64;
