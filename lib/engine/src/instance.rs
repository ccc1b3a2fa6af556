//! Instances: what they run, and whether they are in rotation.

use crate::Time;
use crate::arena::CallId;
use crate::config::Ejection;

/// The weight of the last call in the running mean of an instance's slowness.
const LAST_CALL: f64 = 0.25;

/// The longest time to a probe is 2 to this times the first.
const MAX_DOUBLINGS: u32 = 6;

/// Calls that were under way together and fail within this time fail for one reason, say a connection that
/// broke off, which counts once.
const TOGETHER: Time = 5_000_000;

#[derive(Debug)]
pub(crate) struct Instance {
    /// The pools of its roles, in the order in which it takes work.
    pub(crate) pools: Vec<usize>,
    pub(crate) capacity: usize,
    pub(crate) running: Vec<CallId>,
    /// True if calls whose answers are no longer needed are cancelled.
    pub(crate) cancels: bool,
    pub(crate) health: Health,
    /// Its key among the instances with free capacity, if it is one.
    pub(crate) ready: Option<u64>,
    pub(crate) last_sent: u64,
}

impl Instance {
    /// True if it may get work now.
    pub(crate) fn has_room(&self) -> bool {
        self.health.is_in() && self.running.len() < self.capacity
    }

    /// True if it gets work only where no other instance is free: it has come back a short time ago, and runs a call.
    pub(crate) fn comes_last(&self, now: Time) -> bool {
        self.health.is_starting(now) && !self.running.is_empty()
    }
}

/// Whether an instance is in rotation, and what its calls say of it.
#[derive(Debug)]
pub(crate) struct Health {
    status: Status,
    /// Failures in a row.
    failures: u32,
    /// Ejections and failed probes in a row.
    ejections: u32,
    /// When it is probed, or its probe takes too long: only the timer of this time counts.
    due: Time,
    /// The calls that it answered since it joined or came back.
    calls: u32,
    /// The end of its slow start.
    starts_until: Time,
    /// The running mean of its times, divided by the median of its role.
    slowness: f64,
    /// The end of the last slow call that counted.
    slow_at: Time,
    /// The time of the last failure that counted.
    failed_at: Time,
    /// How long queries' own calls ran that have failed since the last success.
    pub(crate) failing: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    In,
    Ejected,
    Probing,
    Leaving,
}

/// What a timer of an instance means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is to be probed.
    Probe,
    /// Its probe took too long.
    Overdue,
    /// Nothing: the timer is an old one.
    Nothing,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            status: Status::In,
            failures: 0,
            ejections: 0,
            due: 0,
            calls: 0,
            starts_until: 0,
            slowness: 1.0,
            slow_at: 0,
            failed_at: 0,
            failing: 0,
        }
    }

    /// True if it is in rotation.
    pub(crate) fn is_in(&self) -> bool {
        self.status == Status::In
    }

    /// True if it was taken out of rotation.
    pub(crate) fn is_out(&self) -> bool {
        matches!(self.status, Status::Ejected | Status::Probing)
    }

    /// True if it gets no more work, and finishes what it runs.
    pub(crate) fn is_leaving(&self) -> bool {
        self.status == Status::Leaving
    }

    /// A call was answered that took so many times the median; true if the instance is too slow.
    pub(crate) fn count_success(
        &mut self,
        now: Time,
        time: Time,
        ratio: f64,
        ejection: Option<Ejection>,
    ) -> bool {
        (self.failures, self.failing) = (0, 0);
        self.calls = self.calls.saturating_add(1);
        let Some(Ejection { slowness: bound, min_calls, .. }) = ejection else { return false };
        if ratio > bound {
            // Calls that were under way together were slow for one reason, which counts once.
            if now - time < self.slow_at {
                return false;
            }
            self.slow_at = now;
        }
        // One call says no more than that it was slow, however slow it was.
        self.slowness += (ratio.min(2.0 * bound) - self.slowness) * LAST_CALL;
        let is_slow = self.slowness > bound && self.calls > min_calls;
        if !is_slow && self.is_in() && self.slowness < 1.5 {
            self.ejections = 0;
        }
        is_slow
    }

    /// A call that was sent then has failed; true if too many in a row have.
    pub(crate) fn count_failure(&mut self, now: Time, sent: Time, ejection: Option<Ejection>) -> bool {
        if self.failures > 0 && sent < self.failed_at && now - self.failed_at < TOGETHER {
            return false;
        }
        self.failed_at = now;
        self.failures = self.failures.saturating_add(1);
        ejection.is_some_and(|ejection| self.failures >= ejection.failures)
    }

    /// It is out of rotation, and waits for its next probe; when that is.
    pub(crate) fn wait_for_probe(&mut self, now: Time, base: Time) -> Time {
        self.status = Status::Ejected;
        let wait = base.saturating_mul(1 << self.ejections.min(MAX_DOUBLINGS));
        self.ejections = self.ejections.saturating_add(1);
        self.due = now.saturating_add(wait);
        self.due
    }

    /// It is probed, which may take so long; when that is over.
    pub(crate) fn probe(&mut self, now: Time, longest: Time) -> Time {
        self.status = Status::Probing;
        self.due = now.saturating_add(longest);
        self.due
    }

    /// What the timer of this time means.
    pub(crate) fn due(&self, at: Time) -> Due {
        match self.status {
            Status::Ejected if self.due == at => Due::Probe,
            Status::Probing if self.due == at => Due::Overdue,
            _ => Due::Nothing,
        }
    }

    /// True if it is being probed.
    pub(crate) fn is_probing(&self) -> bool {
        self.status == Status::Probing
    }

    /// It is out of rotation.
    pub(crate) fn eject(&mut self) {
        self.status = Status::Ejected;
    }

    /// It gets no more work.
    pub(crate) fn leave(&mut self) {
        self.status = Status::Leaving;
    }

    /// It is in rotation again, with a slow start until then.
    pub(crate) fn heal(&mut self, starts_until: Time) {
        self.status = Status::In;
        self.failures = 0;
        self.slowness = 1.0;
        self.calls = 0;
        self.starts_until = starts_until;
    }

    /// True if it has come back a short time ago.
    pub(crate) fn is_starting(&self, now: Time) -> bool {
        now < self.starts_until
    }
}
