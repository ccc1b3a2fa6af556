//! The engine and its events.

use std::collections::{BTreeMap, VecDeque};

use crate::Time;
use crate::action::{Action, CodingOff, Outcome, Reason, Rejection};
use crate::arena::{Arena, BatchId, CallId, GroupId, InstanceId, QueryId};
use crate::arrival::Arrival;
use crate::auto::Controller;
use crate::batch_size::BatchSize;
use crate::coding::Coding;
use crate::config::{Config, Policy, When};
use crate::counters::Counters;
use crate::error::ConfigError;
use crate::hedge_budget::HedgeBudget;
use crate::instance::Instance;
use crate::percentile::Percentile;
use crate::pools::Pool;
use crate::store::{BatchKey, Owner, Store, Work};
use crate::task::Task;
use crate::timers::{Timer, Timers};

/// The serving core. Each event has the time at which it happened; timers that were due before it
/// go off first. Take the actions with [`Engine::next_action`] after each event; a driver that calls
/// [`Engine::tick`] and takes them before each event, too, sees one cause at a time.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) copies: usize,
    pub(crate) approximate: bool,
    pub(crate) hedging: Option<HedgeBudget>,
    pub(crate) coding: Option<Coding>,
    pub(crate) auto: Option<Controller>,
    pub(crate) now: Time,
    pub(crate) seq: u64,
    pub(crate) store: Store,
    pub(crate) instances: Arena<InstanceId, Instance>,
    /// The batches that are filling.
    pub(crate) filling: BTreeMap<BatchKey, BatchId>,
    /// The groups that are filling, by class.
    pub(crate) filling_groups: BTreeMap<u64, GroupId>,
    pub(crate) known: VecDeque<QueryId>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) batch_size: BatchSize,
    pub(crate) timers: Timers,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) counters: Counters,
    /// Times from arrival to prediction, for the grace.
    pub(crate) answer_times: Percentile,
}

/// An engine is `Send`.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Engine>();
};

impl Engine {
    /// An engine without instances.
    ///
    /// # Errors
    /// An invalid configuration.
    pub fn new(mut config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let (mut copies, mut approximate, mut hedge, mut groups, mut auto) = (1, false, None, None, None);
        match std::mem::replace(&mut config.policy, Policy::None) {
            Policy::None => {}
            Policy::Replicate(number) => copies = number,
            Policy::Approximate => approximate = true,
            Policy::Hedge(of) => hedge = Some(of),
            Policy::Coded { groups: of, hedge: late } => (groups, hedge) = (Some(of), late),
            Policy::Auto(of) => {
                auto = Some(Controller::new(&of));
                (groups, hedge) = (of.groups, Some(of.hedge));
            }
        }
        let coding = groups.map(Coding::new);
        let parities = coding.as_ref().map_or(0, |coding| coding.rule().r());
        let grace = if let When::Grace(delay) = config.when { delay.share() } else { 1.0 };
        Ok(Self {
            copies,
            approximate,
            hedging: hedge.map(HedgeBudget::new),
            coding,
            auto,
            now: 0,
            seq: 0,
            store: Store::new(),
            instances: Arena::new(),
            filling: BTreeMap::new(),
            filling_groups: BTreeMap::new(),
            known: VecDeque::new(),
            pools: (0..2 + parities).map(|_| Pool::new()).collect(),
            batch_size: BatchSize::new(config.max_batch, config.batch_target),
            timers: Timers::new(),
            actions: VecDeque::new(),
            counters: Counters::default(),
            answer_times: Percentile::new(grace),
            config,
        })
    }

    /// The next action; none if all have been taken.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A query arrived.
    ///
    /// # Errors
    /// The query is rejected; the engine does not hold it.
    pub fn arrive(&mut self, now: Time, arrival: Arrival) -> Result<QueryId, Rejection> {
        self.begin(now);
        match self.admit(&arrival) {
            Ok(deadline) => Ok(self.take(&arrival, deadline)),
            Err(rejection) => {
                self.counters.rejected += 1;
                Err(rejection)
            }
        }
    }

    /// The client of a query gave up; the query gets no answer.
    pub fn cancel(&mut self, now: Time, query: QueryId) {
        self.begin(now);
        match self.store.get(query) {
            Some(held) if !held.answered => {
                let batch = held.batch;
                self.counters.cancelled += 1;
                self.close_query(query);
                self.clean_up(Owner::Batch(batch));
            }
            _ => self.counters.ignored += 1,
        }
    }

    /// A call was answered, with one row for each of its rows. Before this, call [`Engine::tick`] and keep
    /// the answer if [`Engine::call`] still knows the call; otherwise the answer is too late.
    pub fn answered(&mut self, now: Time, call: CallId) {
        self.answered_with(now, call, true);
    }

    /// As [`Engine::answered`], but the answer cannot be used to rebuild others, since it has values that are
    /// not finite.
    pub fn answered_unfit(&mut self, now: Time, call: CallId) {
        self.answered_with(now, call, false);
    }

    fn answered_with(&mut self, now: Time, call: CallId, usable: bool) {
        self.begin(now);
        let Some((instance, since)) = self.store.get(call).and_then(|work| work.running) else {
            self.counters.ignored += 1;
            return;
        };
        let work = self.end_call(call, instance);
        let pool = work.task.role().pool();
        self.count_success(instance, pool, self.now - since);
        self.count_false_refusal(work.refused_by, instance);
        match (work.task, work.owner) {
            (Task::Deployed, Owner::Batch(batch)) => {
                let time = self.now - since;
                if let Some(hedging) = &mut self.hedging {
                    hedging.record(self.now, time);
                }
                if work.part.is_none() {
                    let rows = self.store.get(batch).map_or(0, |batch| batch.queries.len());
                    self.batch_size.adapt(rows, time);
                }
                self.predicted(batch, &work, instance, usable);
            }
            (Task::Copy, Owner::Batch(batch)) => self.predicted(batch, &work, instance, usable),
            (Task::Approximate, Owner::Batch(batch)) => self.approximated(batch, instance),
            (Task::Parity { parity, .. }, Owner::Group(group)) if usable => {
                self.parity_answered(group, parity);
            }
            (Task::Coded { worker, .. }, Owner::Group(group)) if usable => {
                self.record_coded(group);
                self.worker_answered(group, worker);
            }
            (_, Owner::Group(_)) => self.fail_unanswerable(work.owner),
            _ => {}
        }
        self.clean_up(work.owner);
        self.has_room(instance);
    }

    /// A call failed: its instance reported a failure or cannot be reached.
    pub fn failed(&mut self, now: Time, call: CallId) {
        self.begin(now);
        let Some(&Work { running: Some((instance, _)), cancelled, .. }) = self.store.get(call) else {
            self.counters.ignored += 1;
            return;
        };
        self.counters.failures += u64::from(!cancelled);
        self.call_failed(call, instance);
    }

    /// A call was cancelled after [`crate::Action::Cancel`]; [`Engine::call`] must still know it. It counts
    /// neither as answered nor as failed.
    pub fn cancelled(&mut self, now: Time, call: CallId) {
        self.begin(now);
        let Some((instance, _)) = self.store.get(call).and_then(|work| work.running) else {
            self.counters.ignored += 1;
            return;
        };
        self.counters.calls_cancelled += 1;
        let work = self.end_call(call, instance);
        self.retry(work);
        self.clean_up(work.owner);
        self.has_room(instance);
    }

    /// A [`crate::Action::Rebuild`] was executed; `usable` is false if the reconstruction cannot be used,
    /// such as one with values that are not finite.
    pub fn decoded(&mut self, now: Time, query: QueryId, usable: bool) {
        self.begin(now);
        // The query may have been answered or cancelled.
        let Some(held) = self.store.get_mut(query) else { return };
        let Some(decode) = held.rebuilding.take() else {
            self.counters.ignored += 1;
            return;
        };
        let (batch, due) = (held.batch, held.deadline <= self.now);
        if held.answered {
            return;
        }
        if !usable {
            held.undecodable = decode.available;
            self.counters.undecodable += 1;
        }
        // The answer comes before the actions that followed the rebuild. Work that is sent in its place comes
        // after them, since they may have freed the capacity of its instance.
        let outcome = if usable && !self.store[decode.group].abandoned {
            self.store[query].rebuilt = Some(decode);
            Some(Outcome::Reconstructed(decode))
        } else {
            due.then_some(Outcome::Default(Reason::Deadline))
        };
        if let Some(outcome) = outcome {
            let later = std::mem::take(&mut self.actions);
            self.finish(query, outcome);
            self.actions.extend(later);
        } else {
            self.fail_unanswerable_of(batch);
        }
        self.clean_up(Owner::Batch(batch));
    }

    /// Limits the size of batches from now on, in addition to the configuration.
    pub fn limit_batch(&mut self, now: Time, most: usize) {
        self.begin(now);
        self.batch_size.limit(most);
        let filling: Vec<BatchId> = self.filling.values().copied().collect();
        for batch in filling {
            if self.store[batch].queries.len() >= self.batch_size.now() {
                self.close_batch(batch);
            }
        }
    }

    /// The driver compared a reconstruction with its prediction.
    pub fn compared(&mut self, now: Time, agree: bool) {
        self.begin(now);
        if agree {
            self.counters.agreed += 1;
        } else {
            self.counters.disagreed += 1;
        }
        if self.coding.as_mut().is_some_and(|coding| coding.compared(agree)) {
            self.switch_off(CodingOff::Agreement);
        }
    }

    /// The deployed model has this version from now on. If it is not the one that the code was made for,
    /// coding is off, and earlier groups rebuild nothing.
    pub fn version(&mut self, now: Time, version: u64) {
        self.begin(now);
        if self.coding.as_mut().is_some_and(|coding| coding.version(version)) {
            self.switch_off(CodingOff::Version);
        }
    }

    /// Switches coding on again after a low agreement, and restarts the count.
    pub fn resume_coding(&mut self, now: Time) {
        self.begin(now);
        if let Some(coding) = &mut self.coding {
            coding.resume();
        }
    }

    /// Time has passed: timers that are due go off.
    pub fn tick(&mut self, now: Time) {
        self.advance(now);
        while let Some((at, timer)) = self.timers.first()
            && at <= self.now
        {
            self.timers.pop();
            self.fire(at, timer);
        }
    }

    /// The time at which to call [`Engine::tick`] at the latest.
    pub fn wake(&mut self) -> Option<Time> {
        while let Some((at, timer)) = self.timers.first() {
            if self.is_live(timer) {
                return Some(at);
            }
            self.timers.pop();
        }
        None
    }

    /// No more queries arrive for now: closes partial batches and groups, and keeps no known queries.
    pub fn flush(&mut self, now: Time) {
        self.begin(now);
        while let Some((_, &batch)) = self.filling.first_key_value() {
            self.close_batch(batch);
        }
        while let Some((_, &group)) = self.filling_groups.first_key_value() {
            self.close_group(group);
        }
        while let Some(query) = self.known.pop_front() {
            self.release_query(query);
        }
    }

    /// What was due before now goes off, and then the event of now happens: one that comes at the
    /// moment of a timer is in time.
    pub(crate) fn begin(&mut self, now: Time) {
        self.advance(now);
        while let Some((at, timer)) = self.timers.first()
            && at < self.now
        {
            self.timers.pop();
            self.fire(at, timer);
        }
    }

    fn advance(&mut self, now: Time) {
        if now < self.now {
            self.counters.out_of_order += 1;
        }
        self.now = self.now.max(now);
    }

    fn fire(&mut self, at: Time, timer: Timer) {
        if !self.is_live(timer) {
            return;
        }
        match timer {
            Timer::Batch(batch) => self.batch_due(batch),
            Timer::Group(group) => self.group_due(group),
            Timer::Grace(query) => self.grace_over(query),
            Timer::Deadline(query) => self.deadline_passed(query),
            Timer::Hedge(batch) => self.hedge_due(batch),
            Timer::Call(call) => self.timed_out(call),
            Timer::Heal(instance) => self.heal_due(instance, at),
        }
    }
}
