//! Sending again what is late, within a budget.

use crate::Time;
use crate::arena::BatchId;
use crate::config::Hedge;
use crate::engine::Engine;
use crate::percentile::Percentile;
use crate::state::{Owner, Task};
use crate::timers::Timer;

/// The shortest time between two looks at a batch that coding is about to rebuild: however short
/// the delay, a driver must not wake without end.
const LOOK_AGAIN: Time = 1_000_000;

/// When a batch is late, and how many second calls may be sent: never more than `budget` for each batch in the
/// long run, and `burst` at once.
#[derive(Debug)]
pub(crate) struct Hedging {
    policy: Hedge,
    /// Second calls that may be sent now, from 0 to `burst`.
    tokens: f64,
    /// The times of calls of the deployed model.
    call_times: Percentile,
}

impl Hedging {
    pub(crate) fn new(policy: Hedge) -> Self {
        Self { policy, tokens: policy.burst, call_times: Percentile::new(policy.delay.share()) }
    }

    /// A call of the deployed model took so long.
    pub(crate) fn record(&mut self, time: Time) {
        self.call_times.record(time);
    }

    /// The time after which a call is late.
    fn delay(&self) -> Time {
        self.policy.delay.time(self.call_times.value())
    }

    /// A batch is sent: it adds to the budget.
    pub(crate) fn earn(&mut self) {
        self.tokens = (self.tokens + self.policy.budget).min(self.policy.burst);
    }

    /// Takes one second call from the budget; false if there is none.
    fn spend(&mut self) -> bool {
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

impl Engine {
    /// A batch was sent: it is late after a while.
    pub(crate) fn set_hedge(&mut self, batch: BatchId) {
        if let Some(hedging) = &self.hedging {
            self.set_timer(self.now.saturating_add(hedging.delay()), Timer::Hedge(batch));
        }
    }

    /// A batch is late: it is sent again, unless coding is about to rebuild it.
    pub(crate) fn hedge_due(&mut self, batch: BatchId) {
        let Some(hedging) = &self.hedging else { return };
        if let Some(again) = self.covered_until(batch, hedging.delay().max(1)) {
            let again = again.max(self.now.saturating_add(LOOK_AGAIN));
            self.set_timer(again, Timer::Hedge(batch));
            return;
        }
        self.batches[batch].hedged = true;
        if self.hedging.as_mut().is_some_and(Hedging::spend) {
            self.counters.hedges += 1;
            self.add_work(Task::Copy, Owner::Batch(batch), false);
        } else {
            self.counters.hedges_unpaid += 1;
        }
    }
}
