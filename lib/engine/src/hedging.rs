//! Hedging: late batches are sent again, within a budget.

use crate::arena::BatchId;
use crate::arrival::RedundancyLevel;
use crate::auto::State;
use crate::engine::Engine;
use crate::store::Owner;
use crate::task::Task;
use crate::timers::{CHECK_AGAIN, Timer};

impl Engine {
    /// Sets the timer of a batch that was sent.
    pub(crate) fn set_hedge(&mut self, batch: BatchId) {
        if let Some(hedging) = &self.hedging
            && self.store[batch].key.redundancy != RedundancyLevel::None
        {
            self.set_timer(self.now.saturating_add(hedging.delay()), Timer::Hedge(batch));
        }
    }

    /// Sends a late batch again, unless coding may still rebuild it in time.
    pub(crate) fn hedge_due(&mut self, batch: BatchId) {
        let Some(hedging) = &self.hedging else { return };
        let delay = hedging.delay().max(1);
        let critical = self.store[batch].key.redundancy == RedundancyLevel::Critical;
        if let Some(auto) = &self.auto {
            let overloaded = auto.state() == State::None && !critical;
            self.urge(batch);
            if overloaded {
                self.counters.hedges_unpaid += 1;
                return;
            }
        }
        if let Some(again) = self.covered_until(batch, delay) {
            let again = again.max(self.now.saturating_add(CHECK_AGAIN));
            self.set_timer(again, Timer::Hedge(batch));
            return;
        }
        self.store[batch].hedged = true;
        let affordable = self.auto.as_mut().is_none_or(|auto| auto.spend(1));
        if affordable && self.hedging.as_mut().is_some_and(|hedging| hedging.spend(critical)) {
            self.counters.hedges += 1;
            self.add_work(Task::Copy, Owner::Batch(batch), false);
        } else {
            self.counters.hedges_unpaid += 1;
        }
    }
}
