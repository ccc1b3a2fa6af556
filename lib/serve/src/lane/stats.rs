//! What a lane measures.

use std::time::Duration;

use hdrhistogram::Histogram;
use parm_engine::{CodingOff, Counters, Held, Roles};

/// Times, in ns, to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        // Three digits is a precision that there is.
        Self(Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits")))
    }
}

impl Times {
    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The histogram.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The time within which this share came, in 0..=1.
    #[must_use]
    pub fn within(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    /// The sum of all times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() * self.0.len() as f64 / 1e9)
    }
}

/// What a lane counted and measured since its start; what the engine counts is beside it.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that got an error.
    pub failed_requests: u64,
    /// From the arrival of a query to its answer.
    pub answers: Times,
    /// From the arrival of a query to the first call for it.
    pub queued: Times,
    /// Calls of the deployed model.
    pub calls: Times,
    /// Calls of parity models, and of coded queries.
    pub parity_calls: Times,
    /// From the arrival of the first query of a group to its encoding.
    pub group_wait: Times,
    /// Encoding one coded batch.
    pub encode: Times,
    /// Rebuilding one prediction.
    pub decode: Times,
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It gets work.
    In,
    /// It was taken out of rotation.
    Ejected,
    /// It gets no more work.
    Leaving,
}

/// An instance, as it stands.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub roles: Roles,
    /// How it stands.
    pub state: State,
    /// Calls that it does now.
    pub running: usize,
    /// Calls that ended well.
    pub answered: u64,
    /// Calls that did not.
    pub failed: u64,
    /// Times that it was taken out of rotation.
    pub ejections: u64,
    /// What its last failure said.
    pub last_failure: Option<String>,
    /// Its calls.
    pub times: Times,
}

/// How a lane stands.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the engine counted.
    pub counters: Counters,
    /// What the engine holds.
    pub held: Held,
    /// Batches that wait for the deployed model.
    pub waiting: usize,
    /// Coded batches that wait for each parity model.
    pub waiting_parity: Vec<usize>,
    /// Why coding is off, if it is.
    pub coding_off: Option<CodingOff>,
    /// What was measured.
    pub stats: Stats,
    /// The instances, in the order in which they joined.
    pub members: Vec<MemberView>,
}
