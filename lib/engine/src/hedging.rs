//! Sending again what is late, within a budget.

use crate::Time;
use crate::arena::BatchId;
use crate::engine::Engine;
use crate::state::{Owner, Task};
use crate::timers::Timer;

/// The shortest time between two looks at a batch that coding is about to rebuild: however short
/// the delay, a driver must not wake without end.
const LOOK_AGAIN: Time = 1_000_000;

impl Engine {
    /// A batch was sent: it is late after a while.
    pub(crate) fn set_hedge(&mut self, batch: BatchId) {
        if let Some(hedge) = &self.hedge {
            let delay = hedge.delay.time(self.call_times.value());
            self.alarm(self.now.saturating_add(delay), Timer::Hedge(batch));
        }
    }

    /// A batch is late: it is sent again, unless coding is about to rebuild it.
    pub(crate) fn hedge_due(&mut self, batch: BatchId) {
        let Some(hedge) = &self.hedge else { return };
        let delay = hedge.delay.time(self.call_times.value()).max(1);
        if let Some(again) = self.covered_until(batch, delay) {
            let again = again.max(self.now.saturating_add(LOOK_AGAIN));
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
