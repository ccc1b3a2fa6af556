//! The policy `auto`: spends the capacity that the queries themselves leave.
//!
//! The controller measures the load: the number of first calls of queries that run, on average over about two
//! seconds. Copies, hedges and parity queries are not counted, so that the controller does not react to its own
//! effect. From the load it estimates the share of queries that find no free instance, and chooses the
//! [`State`] by it. The bounds are from the table of `testdata/experiments/serving/auto.py`. Where more queries would
//! wait than the bound of copies permits, copies are still better than coding if reconstructions come so late that hardly
//! any query with copies takes as long.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::action::Action;
use crate::arrival::RedundancyLevel;
use crate::config::{Auto, When};
use crate::engine::Engine;
use crate::hedge_budget::HedgeBudget;
use crate::instance::Instance;
use crate::percentile::Percentile;
use crate::task::Role;
use crate::tokens::Tokens;

/// The time over which the load is averaged, before it is smoothed.
const WINDOW: Time = 500_000_000;

/// The time constant of the smoothed load.
const MEMORY: Time = 2_000_000_000;

/// How long the load must permit more redundancy before there is more. Less redundancy comes at once.
const HOLD: Time = 3_000_000_000;

/// How much larger the load is taken to be where more redundancy is considered.
const MARGIN: f64 = 1.05;

/// The copies of a query, itself included, in the state [`State::Replicate`].
const COPIES: usize = 2;

/// The largest share of queries that would wait if all queries had copies.
const REPLICATE_BELOW: f64 = 0.05;

/// The share of queries by which copies are compared with coding where more queries would wait.
const TAIL: f64 = 0.001;

/// The largest share of queries that would wait without redundancy where queries are coded. Parity queries wait
/// for free instances, and are dropped when they are not needed any more.
const CODE_BELOW: f64 = 0.34;

/// The largest busy share, if all queries had copies, where more calls are slow than may be reconstructed, so that
/// coding helps little. It may exceed 1, since copies that are not needed any more are not sent.
const REPLICATE_SLOW_BELOW: f64 = 1.1;

/// A call is slow if it takes more than this number of times the median.
pub(crate) const SLOW: u64 = 2;

/// The time over which the share of slow calls is measured.
const SLOW_MEMORY: Time = 30_000_000_000;

/// Coding is limited while this number of times [`Auto::max_reconstructed`] of the calls are slow, until they are
/// fewer than that times the second number.
const LIMITED: [f64; 2] = [1.5, 0.8];

/// The largest share of queries that would wait without redundancy where late calls are sent again.
const HEDGE_BELOW: f64 = 0.8;

/// The most reconstructions that can be saved up.
const RECONSTRUCTIONS: f64 = 60.0;

/// The most additional calls that can be saved up.
const CALLS: f64 = 100.0;

/// What the policy `auto` gives to queries now, from least to most; parm-serve.json(5) has the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing: the instances are overloaded.
    None,
    /// Late calls are sent again.
    Hedge,
    /// Queries are coded in groups; late calls that coding cannot rebuild are sent again.
    Coded,
    /// Queries are sent twice; late calls are sent again.
    Replicate,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::None, Self::Hedge, Self::Coded, Self::Replicate];

    /// Its name in metrics and journals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hedge => "hedge",
            Self::Coded => "coded",
            Self::Replicate => "replicate",
        }
    }
}

/// Chooses the state of the policy `auto`.
#[derive(Debug)]
pub(crate) struct Controller {
    max_calls: f64,
    max_reconstructed: f64,
    state: State,
    /// First calls that run.
    running: usize,
    /// The sum of the times of first calls in this window, in ns.
    busy: f64,
    /// The time up to which `busy` is known.
    updated: Time,
    /// The begin of the window.
    begin: Time,
    /// The smoothed number of first calls that run; none before the end of the first window.
    load: Option<f64>,
    /// The calls that ended in this window, and the slow ones of these.
    ended: [u64; 2],
    /// The smoothed numbers of both for each window.
    slow: [f64; 2],
    /// True if more calls are slow than may be reconstructed.
    limited: bool,
    /// Since when the load permits more redundancy.
    more_since: Option<Time>,
    /// Early reconstructions that are permitted.
    reconstructions: Tokens,
    /// Additional calls that are permitted.
    calls: Tokens,
}

impl Controller {
    pub(crate) fn new(policy: &Auto) -> Self {
        Self {
            max_calls: policy.max_calls,
            max_reconstructed: policy.max_reconstructed,
            state: State::Hedge,
            running: 0,
            busy: 0.0,
            updated: 0,
            begin: 0,
            load: None,
            ended: [0; 2],
            slow: [0.0; 2],
            limited: false,
            more_since: None,
            reconstructions: Tokens::half(if policy.max_reconstructed > 0.0 { RECONSTRUCTIONS } else { 0.0 }),
            calls: Tokens::new(if policy.max_calls > 1.0 { CALLS } else { 0.0 }),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn load(&self) -> f64 {
        self.load.unwrap_or(0.0)
    }

    fn advance(&mut self, now: Time) {
        self.busy += self.running as f64 * (now - self.updated) as f64;
        self.updated = now;
    }

    /// A first call is sent.
    pub(crate) fn started(&mut self, now: Time) {
        self.advance(now);
        self.running += 1;
    }

    /// A first call has ended.
    pub(crate) fn ended(&mut self, now: Time, slow: bool) {
        self.advance(now);
        self.ended[0] += 1;
        self.ended[1] += u64::from(slow);
        self.running -= 1;
    }

    /// An instance was ejected where only failing calls ran for this time: they are no load for the others.
    pub(crate) fn forget(&mut self, failing: Time) {
        let share = 1.0 - (-(failing as f64) / MEMORY as f64).exp();
        self.load = self.load.map(|load| (load - share).max(0.0));
    }

    /// The new load if a window is over.
    fn measure(&mut self, now: Time) -> Option<f64> {
        let length = now - self.begin;
        if length < WINDOW {
            return None;
        }
        self.advance(now);
        let average = self.busy / length as f64;
        let last = 1.0 - (-(length as f64) / MEMORY as f64).exp();
        let load = self.load.map_or(average, |load| load + (average - load) * last);
        (self.busy, self.begin, self.load) = (0.0, now, Some(load));
        let keep = (-(length as f64) / SLOW_MEMORY as f64).exp();
        for (smoothed, new) in self.slow.iter_mut().zip(std::mem::take(&mut self.ended)) {
            *smoothed = *smoothed * keep + new as f64;
        }
        let most = self.max_reconstructed * LIMITED[0] * if self.limited { LIMITED[1] } else { 1.0 };
        self.limited = self.slow[1] > most * self.slow[0];
        Some(load)
    }

    /// Moves towards the state that the load permits: at once if it is less, and after a while if more redundancy
    /// is permitted even at a somewhat larger load. True if the state changes.
    fn decide(&mut self, now: Time, permits: impl Fn(f64) -> State) -> bool {
        let load = self.load();
        let (now_permitted, with_margin) = (permits(load), permits(load * MARGIN));
        let next = if now_permitted < self.state {
            now_permitted
        } else if with_margin > self.state {
            let since = *self.more_since.get_or_insert(now);
            if now - since < HOLD {
                return false;
            }
            with_margin
        } else {
            self.state
        };
        self.more_since = None;
        std::mem::replace(&mut self.state, next) != next
    }

    /// A query arrived.
    pub(crate) fn query(&mut self) {
        self.reconstructions.earn(self.max_reconstructed);
    }

    /// A batch is sent.
    pub(crate) fn batch(&mut self) {
        self.calls.earn(self.max_calls - 1.0);
    }

    /// True if a query may get a reconstruction although its prediction may still come.
    pub(crate) fn may_reconstruct(&self) -> bool {
        self.reconstructions.has(1.0)
    }

    /// A query gets a reconstruction, also if its prediction cannot come any more.
    pub(crate) fn reconstructed(&mut self) {
        self.reconstructions.owe(1.0);
    }

    /// Takes additional calls from the budget; false if they exceed it.
    pub(crate) fn spend(&mut self, calls: usize) -> bool {
        self.calls.spend(calls as f64)
    }
}

/// An estimate of the share of calls that wait at this number of busy instances of so many in all, from
/// Sakasegawa, "An approximation formula L_q ≃ α·ρ^β/(1 − ρ)", 1977.
fn waits(busy: f64, instances: f64) -> f64 {
    let share = busy / instances.max(1.0);
    if share >= 1.0 { 1.0 } else { share.powf((2.0 * (instances + 1.0)).sqrt() - 1.0) }
}

/// An estimate of the share of queries that take longer than this, if all queries have copies.
///
/// A query takes the shorter of two calls, after it has waited. First calls are sent before copies; so while all
/// instances are busy, they become free for waiting queries at the rate at which first calls leave them room.
fn late_with_copies(calls: &Percentile, time: Time, load: f64, instances: f64) -> f64 {
    let total = calls.total() as f64;
    let waiting = waits(load * COPIES as f64, instances);
    let rate = (instances - load).max(0.0) / calls.at(0.5).unwrap_or(Time::MAX) as f64;
    let mut longer_before = 1.0;
    let late = calls.longer().map(|(took, longer)| {
        let longer = (longer as f64 / total).powi(COPIES as i32);
        let share = std::mem::replace(&mut longer_before, longer) - longer;
        share * time.checked_sub(took).map_or(1.0, |left| waiting * (-rate * left as f64).exp())
    });
    late.sum()
}

impl Engine {
    /// Moves the policy `auto` to another state, if a window is over and the load wants it.
    pub(crate) fn adapt(&mut self) {
        let now = self.now;
        let Some(auto) = &mut self.auto else { return };
        if auto.measure(now).is_none() {
            return;
        }
        let (max_calls, limited) = (auto.max_calls, auto.limited);
        let instances = self.capacity() as f64;
        let codes = self.coding.as_ref().is_some_and(|coding| {
            let rule = coding.rule();
            coding.is_on() && max_calls >= 1.0 + rule.r() as f64 / rule.k() as f64
        });
        let codes = codes && !limited;
        let (calls, coded_tail) = (self.hedging.as_ref().map(HedgeBudget::call_times), self.coded_tail());
        let replicates = |load: f64| {
            let busy = load * COPIES as f64;
            let better = || match (calls, coded_tail) {
                (Some(calls), Some(tail)) => late_with_copies(calls, tail, load, instances) <= TAIL,
                _ => false,
            };
            max_calls >= COPIES as f64
                && if limited {
                    busy <= REPLICATE_SLOW_BELOW * instances
                } else {
                    waits(busy, instances) <= REPLICATE_BELOW || better()
                }
        };
        let permits = |load: f64| {
            if replicates(load) {
                return State::Replicate;
            }
            match waits(load, instances) {
                waits if codes && waits <= CODE_BELOW => State::Coded,
                waits if waits <= HEDGE_BELOW => State::Hedge,
                _ => State::None,
            }
        };
        if let Some(auto) = &mut self.auto
            && auto.decide(now, permits)
        {
            let (state, load) = (auto.state(), auto.load());
            self.counters.state_changes += 1;
            self.actions.push_back(Action::State { state, load });
        }
    }

    /// The least that the slowest of a thousand queries take if they are coded: the time of reconstructions, unless
    /// calls themselves take less. None if instances cancel calls, since then it is not known how long slow ones take.
    fn coded_tail(&self) -> Option<Time> {
        if self.instances.ids().any(|id| self.instances[id].cancels) {
            return None;
        }
        let calls = self.hedging.as_ref()?.call_times();
        let reconstruction = match self.config.when {
            When::First => 0,
            When::Grace(delay) => delay.time(calls.at(delay.share())),
            When::Deadline => self.config.deadline,
        };
        Some(calls.at(1.0 - TAIL)?.min(reconstruction))
    }

    /// The number of calls of the deployed model that instances in rotation can run at once.
    pub(crate) fn capacity(&self) -> usize {
        let deployed = |held: &&Instance| held.health.is_in() && held.pools.contains(&Role::Deployed.pool());
        self.instances.ids().map(|id| &self.instances[id]).filter(deployed).map(|held| held.capacity).sum()
    }

    /// The calls of a batch to send at once, itself included.
    pub(crate) fn copies_now(&mut self) -> usize {
        let Some(auto) = &mut self.auto else { return self.copies };
        if auto.state() == State::Replicate && auto.spend(COPIES - 1) { COPIES } else { 1 }
    }

    /// True if the policy lets batches of this redundancy join coding groups now; others than `auto` always do.
    pub(crate) fn codes_now(&self, redundancy: RedundancyLevel) -> bool {
        let critical = redundancy == RedundancyLevel::Critical;
        self.auto
            .as_ref()
            .is_none_or(|auto| auto.state() == State::Coded || critical && auto.state() != State::Replicate)
    }

    /// When a query may get a reconstruction although its prediction may still come, by its grace. The fewer
    /// reconstructions the policy `auto` has saved up, the later that is: from half a bucket on, up to twice the grace.
    pub(crate) fn grace_due(&self, arrived: Time, grace: Time) -> Time {
        let spent = self.auto.as_ref().map_or(0.0, |auto| (1.0 - 2.0 * auto.reconstructions.fill()).max(0.0));
        arrived.saturating_add(grace).saturating_add((grace as f64 * spent) as Time)
    }

    /// True if a query may get a reconstruction although its prediction may still come.
    pub(crate) fn may_reconstruct(&self) -> bool {
        self.auto.as_ref().is_none_or(Controller::may_reconstruct)
    }
}
