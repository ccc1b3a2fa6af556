//! Hedging: late batches are sent again, within a budget.

use crate::Time;
use crate::arena::BatchId;
use crate::engine::Engine;
use crate::state::{Owner, Task};
use crate::timers::Timer;

/// The shortest time between two checks of a batch that coding may still rebuild, so that a driver does not
/// wake all the time.
const CHECK_AGAIN: Time = 1_000_000;

impl Engine {
    /// Sets the timer of a batch that was sent.
    pub(crate) fn set_hedge(&mut self, batch: BatchId) {
        if let Some(hedge) = &self.hedge {
            let delay = hedge.delay.time(self.call_times.value());
            self.alarm(self.now.saturating_add(delay), Timer::Hedge(batch));
        }
    }

    /// Sends a late batch again, unless coding may still rebuild it in time.
    pub(crate) fn hedge_due(&mut self, batch: BatchId) {
        let Some(hedge) = &self.hedge else { return };
        let delay = hedge.delay.time(self.call_times.value()).max(1);
        if let Some(again) = self.covered_until(batch, delay) {
            let again = again.max(self.now.saturating_add(CHECK_AGAIN));
            self.alarm(again, Timer::Hedge(batch));
            return;
        }
        self.batches[batch].hedged = true;
        if self.hedge_tokens >= 1.0 {
            self.hedge_tokens -= 1.0;
            self.counters.hedges += 1;
            self.add_work(Task::Copy, Owner::Batch(batch), false);
        } else {
            self.counters.hedges_unpaid += 1;
        }
    }
}
