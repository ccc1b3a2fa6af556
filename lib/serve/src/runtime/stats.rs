//! What a runtime measures.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use parm_engine::{CodingOff, Counters, Held, Roles};

use parm_oip::instance::InstanceView;

/// How long times count as recent, once and twice.
const RECENT: Duration = Duration::from_secs(15);

/// Times, in ns, to two digits: a runtime is to be looked at without making it wait.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    sum: Duration,
}

impl Default for Times {
    fn default() -> Self {
        // Two digits is a precision that there is.
        let histogram = Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits"));
        Self { histogram, sum: Duration::ZERO }
    }
}

impl Times {
    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        // It grows as it must.
        let _ = self.histogram.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.sum += time;
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The histogram.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The time within which this share came, in 0..=1.
    #[must_use]
    pub fn within(&self, share: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(share))
    }

    /// The sum of all times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// What a runtime counted and measured since its start; what the engine counts is beside it.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// From the arrival of a request to its response.
    pub requests: Times,
    /// When the last request was answered.
    pub last_answer: Option<SystemTime>,
    /// Requests that got an error.
    pub failed_requests: u64,
    /// From the arrival of a query to its answer.
    pub answers: Times,
    /// The same, of a while ago and of now.
    windows: [Times; 2],
    window_since: Duration,
    /// From the arrival of a query to the first call for it.
    pub queued: Times,
    /// Calls of the deployed model.
    pub calls: Times,
    /// Calls of parity models, and of coded queries.
    pub parity_calls: Times,
    /// From the arrival of the first query of a group to its encoding.
    pub group_wait: Times,
    /// What coded batches wait for an instance.
    pub parity_queued: Times,
    /// From the dispatch of a coded batch to its sending.
    pub encode: Times,
    /// Of that, the encoder alone.
    pub encode_sum: Times,
    /// Rebuilding one prediction.
    pub decode: Times,
}

impl Stats {
    /// A query was answered after a time; `now` is the time since the start.
    pub(super) fn answered(&mut self, now: Duration, time: Duration) {
        self.answers.record(time);
        if now.saturating_sub(self.window_since) > RECENT {
            self.windows.swap(0, 1);
            self.windows[1] = Times::default();
            self.window_since = now;
        }
        self.windows[1].record(time);
    }

    /// The times to answer of the last half minute or so.
    #[must_use]
    pub fn recent(&self) -> Times {
        let mut both = self.windows[0].clone();
        // Both have the same precision, and grow as they must.
        let _ = both.histogram.add(&self.windows[1].histogram);
        both.sum += self.windows[1].sum;
        both
    }
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
    /// Calls that it refused.
    pub refused: u64,
    /// Times that it was taken out of rotation.
    pub ejections: u64,
    /// What its last failure said.
    pub last_failure: Option<String>,
    /// What is known of it beside.
    pub of: InstanceView,
    /// Its calls.
    pub times: Times,
}

/// How a runtime stands.
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
