//! The budget of second calls for late batches.

use crate::Time;
use crate::config::Hedge;
use crate::percentile::Percentile;
use crate::tokens::Tokens;

/// When a batch is late, and how many second calls may be sent: never more than `budget` for each batch in the
/// long run, and `burst` at once.
#[derive(Debug)]
pub(crate) struct HedgeBudget {
    policy: Hedge,
    /// Second calls that may be sent now.
    tokens: Tokens,
    /// The times of calls of the deployed model.
    call_times: Percentile,
}

impl HedgeBudget {
    pub(crate) fn new(policy: Hedge) -> Self {
        Self { policy, tokens: Tokens::new(policy.burst), call_times: Percentile::new(policy.delay.share()) }
    }

    /// A call of the deployed model took so long.
    pub(crate) fn record(&mut self, now: Time, time: Time) {
        self.call_times.record(now, time);
    }

    /// The time after which a call is late.
    pub(crate) fn delay(&self) -> Time {
        self.policy.delay.time(self.call_times.value())
    }

    /// The times of calls of the deployed model.
    pub(crate) fn call_times(&self) -> &Percentile {
        &self.call_times
    }

    /// A batch is sent: it adds to the budget.
    pub(crate) fn earn(&mut self) {
        self.tokens.earn(self.policy.budget);
    }

    /// Takes one second call from the budget; false if there is none. A critical batch may owe as many as can be
    /// saved up.
    pub(crate) fn spend(&mut self, critical: bool) -> bool {
        if critical { self.tokens.borrow(1.0) } else { self.tokens.spend(1.0) }
    }
}
