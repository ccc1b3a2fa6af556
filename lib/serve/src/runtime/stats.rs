//! The measurements of a runtime.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use parm_engine::{CodingOff, Counters, Held, Roles};

use parm_oip::instance::InstanceView;

use super::history::{History, Slice};

/// The length of each of the two windows of recent times.
const RECENT: Duration = Duration::from_secs(15);

/// A histogram of times, in ns, to two digits, so that it is small enough to be copied for each snapshot.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    sum: Duration,
}

impl Default for Times {
    fn default() -> Self {
        // Two digits are valid; only more than five are not.
        let histogram = Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits"));
        Self { histogram, sum: Duration::ZERO }
    }
}

impl Times {
    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        // The histogram resizes itself.
        let _ = self.histogram.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.sum += time;
    }

    /// The number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The histogram.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The quantile at a share in 0..=1.
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

/// The measurements of a runtime since its start. The engine has counters of its own.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// From the arrival of a request to its response.
    pub requests: Times,
    /// The time of the last response.
    pub last_answer: Option<SystemTime>,
    /// Requests that got an error.
    pub failed_requests: u64,
    /// From the arrival of a query to its answer.
    pub answers: Times,
    /// The same of the previous and the present window.
    windows: [Times; 2],
    window_since: Duration,
    pub(super) history: History,
    /// From the arrival of a query to the first call for it.
    pub queued: Times,
    /// Calls of the deployed model.
    pub calls: Times,
    /// Calls of parity models, and of coded queries.
    pub parity_calls: Times,
    /// From the arrival of the first query of a group to its encoding.
    pub group_wait: Times,
    /// From the encoding of a batch to its dispatch.
    pub parity_queued: Times,
    /// From the dispatch of a coded batch to its sending.
    pub encode: Times,
    /// Of that, the time of the encoder.
    pub encode_sum: Times,
    /// The time to rebuild one prediction.
    pub decode: Times,
}

impl Stats {
    /// Records the time to answer a query; `now` is the time since the start.
    pub(super) fn answered(&mut self, now: Duration, time: Duration) {
        self.answers.record(time);
        self.history.answered(time);
        if now.saturating_sub(self.window_since) > RECENT {
            self.windows.swap(0, 1);
            self.windows[1] = Times::default();
            self.window_since = now;
        }
        self.windows[1].record(time);
    }

    /// The times to answer queries within the last 15 to 30 s.
    #[must_use]
    pub fn recent(&self) -> Times {
        let mut both = self.windows[0].clone();
        // Both have the same precision, and resize themselves.
        let _ = both.histogram.add(&self.windows[1].histogram);
        both.sum += self.windows[1].sum;
        both
    }
}

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It gets work.
    In,
    /// It is ejected: it gets no work until a probe succeeds.
    Ejected,
    /// It gets no new work, and is removed after its last call.
    Leaving,
}

/// A snapshot of an instance.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Roles,
    /// Its state.
    pub state: State,
    /// Its running calls.
    pub running: usize,
    /// Calls that it answered.
    pub answered: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that it refused.
    pub refused: u64,
    /// The number of its ejections.
    pub ejections: u64,
    /// The error of its last failed call.
    pub last_failure: Option<String>,
    /// What its client observed.
    pub of: InstanceView,
    /// The times of its calls.
    pub times: Times,
}

/// A snapshot of a runtime.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The engine's counters.
    pub counters: Counters,
    /// The number of things that the engine holds.
    pub held: Held,
    /// Batches that wait for the deployed model.
    pub waiting: usize,
    /// Coded batches that wait for each parity model.
    pub waiting_parity: Vec<usize>,
    /// What the policy `auto` gives to queries, and the load that it measured; none for other policies.
    pub auto: Option<(parm_engine::State, f64)>,
    /// The reason why coding is off, if it is.
    pub coding_off: Option<CodingOff>,
    /// The measurements.
    pub stats: Stats,
    /// The last ten minutes, the oldest slice first.
    pub history: Vec<Slice>,
    /// The instances, in the order in which they joined.
    pub members: Vec<MemberView>,
}
