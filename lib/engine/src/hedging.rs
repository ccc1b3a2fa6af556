//! Sending again what is late, within a budget.

use crate::Time;
use crate::arena::BatchId;
use crate::engine::Engine;
use crate::hedge_budget::HedgeBudget;
use crate::store::Owner;
use crate::task::Task;
use crate::timers::Timer;

/// The shortest time between two looks at a batch that coding is about to rebuild: however short
/// the delay, a driver must not wake without end.
const LOOK_AGAIN: Time = 1_000_000;

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
        self.store[batch].hedged = true;
        if self.hedging.as_mut().is_some_and(HedgeBudget::spend) {
            self.counters.hedges += 1;
            self.add_work(Task::Copy, Owner::Batch(batch), false);
        } else {
            self.counters.hedges_unpaid += 1;
        }
    }
}
