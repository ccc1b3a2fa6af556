//! Work: its queues, and its dispatch to instances.

use crate::action::{Outcome, Reason};
use crate::arena::{BatchId, CallId, InstanceId, QueryId};
use crate::config::Balance;
use crate::engine::Engine;
use crate::store::{Avoid, Owner, Slot, Work};
use crate::task::{Role, Task};
use crate::timers::Timer;
use crate::{Action, Time};

/// The most waiting work that is checked for an instance, since the instance may have failed it.
const MOST_CHECKED: usize = 64;

/// The bit of a key that orders an instance behind all others.
const LAST: u64 = 1 << 63;

impl Engine {
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Sends work to an instance with free capacity, or queues it.
    pub(crate) fn add_work(&mut self, task: Task, owner: Owner, redundant: bool) {
        let (priority, seq) = match owner {
            Owner::Batch(batch) => (self.store[batch].priority, self.store[batch].seq),
            // In the order of groups, after earlier batches.
            Owner::Group(group) => (self.store[group].priority, self.next_seq()),
        };
        self.queue(Work {
            task,
            owner,
            part: None,
            refused_by: None,
            redundant,
            priority,
            seq,
            attempts: 1,
            queued: self.now,
            avoid: Avoid::default(),
            running: None,
            cancelled: false,
        });
    }

    pub(crate) fn queue(&mut self, work: Work) {
        let call = self.store.add_work(work);
        self.start_or_wait(call);
    }

    /// Sends work of the store to an instance with free capacity, or queues it.
    fn start_or_wait(&mut self, call: CallId) {
        let work = self.store[call];
        let pool = work.task.role().pool();
        if let Some(instance) = self.choose(pool, call)
            && (!work.redundant || self.leaves_reserve(instance))
        {
            self.start(call, instance);
            self.update_ready(instance);
            return;
        }
        let limit = self.config.max_queue;
        let pool = &mut self.pools[pool];
        pool.push(call, &work);
        if work.redundant
            && pool.redundant() > limit
            && let Some(oldest) = pool.oldest_redundant()
        {
            self.shed(oldest);
        }
    }

    /// An instance with free capacity: preferably one that runs nothing of the same group, and not one that
    /// failed the work if there is another that gets work.
    fn choose(&self, pool: usize, call: CallId) -> Option<InstanceId> {
        let (work, pool) = (&self.store[call], &self.pools[pool]);
        let mut shared = None;
        for instance in pool.ready() {
            if !pool.may_give(work, instance) {
                continue;
            }
            if !self.runs_same_group(instance, work.owner) {
                return Some(instance);
            }
            shared = shared.or(Some(instance));
        }
        shared
    }

    /// True if an instance runs something of the same batch or group.
    fn runs_same_group(&self, instance: InstanceId, owner: Owner) -> bool {
        if self.instances[instance].running.is_empty() {
            return false;
        }
        let runs = |works: &[CallId]| {
            works.iter().any(|&call| self.store[call].running.is_some_and(|(place, _)| place == instance))
        };
        let group = match owner {
            Owner::Group(group) => group,
            Owner::Batch(batch) => match self.store[batch].group {
                Some((group, _)) => group,
                None => return runs(self.store[batch].works()),
            },
        };
        let group = &self.store[group];
        let batches = group.slots.iter().filter_map(Slot::batch);
        runs(group.works()) || batches.into_iter().any(|batch| runs(self.store[batch].works()))
    }

    fn start(&mut self, call: CallId, instance: InstanceId) {
        let seq = self.next_seq();
        let now = self.now;
        self.store[call].running = Some((instance, now));
        let held = &mut self.instances[instance];
        held.running.push(call);
        held.last_sent = seq;
        self.counters.calls += 1;
        self.actions.push_back(Action::Dispatch { call, instance });
        self.set_timer(now.saturating_add(self.config.call_timeout), Timer::Call(call));
        if let Work { task: Task::Deployed, owner: Owner::Batch(batch), .. } = self.store[call] {
            if let Some(auto) = &mut self.auto {
                auto.started(now);
            }
            self.set_hedge(batch);
        }
    }

    /// Gives waiting work to an instance with free capacity, and lists it as free if there is capacity left.
    pub(crate) fn has_room(&mut self, instance: InstanceId) {
        while let Some(held) = self.instances.get(instance)
            && held.has_room()
        {
            let found = held.pools.iter().find_map(|&pool| self.waiting_for(pool, instance));
            let Some(call) = found else { break };
            self.unqueue(call);
            match self.hopeless(call) {
                Some(batch) => self.drop_hopeless(call, batch),
                None => self.start(call, instance),
            }
        }
        self.update_ready(instance);
        self.close_due_batches();
    }

    /// The batch of work that waited, if none of its queries can be answered by its deadline any more, and it helps no
    /// other query.
    fn hopeless(&self, call: CallId) -> Option<BatchId> {
        let Owner::Batch(id) = self.store[call].owner else { return None };
        let fastest = self.pools[Role::Deployed.pool()].fastest()?;
        let batch = &self.store[id];
        let is_late = |query: &QueryId| {
            let query = &self.store[*query];
            query.answered || query.deadline < self.now.saturating_add(fastest)
        };
        let alone = batch.group.is_none_or(|(group, _)| self.store[group].open() == batch.open());
        let runs = batch.works().iter().any(|&other| self.store[other].running.is_some());
        (alone && !runs && batch.queries.iter().all(is_late)).then_some(id)
    }

    /// Drops work whose answer would come too late, and answers its queries if nothing else can.
    fn drop_hopeless(&mut self, call: CallId, batch: BatchId) {
        self.counters.dropped_late += 1;
        self.store.remove_work(call);
        self.each_query(batch, |engine, query| {
            if !engine.store[query].answered
                && engine.store[query].rebuilding.is_none()
                && !engine.can_be_answered(query)
            {
                engine.finish(query, Outcome::Default(Reason::Deadline));
            }
        });
        self.clean_up(Owner::Batch(batch));
    }

    fn waiting_for(&self, pool: usize, instance: InstanceId) -> Option<CallId> {
        let pool = &self.pools[pool];
        let spare = self.leaves_reserve(instance);
        let may = |call: &CallId| {
            let work = &self.store[*call];
            (spare || !work.redundant) && pool.may_give(work, instance)
        };
        pool.queue().take(MOST_CHECKED).find(may)
    }

    /// True if an instance may get redundant work: that of the policy `auto` leaves one other instance free for
    /// the next query.
    fn leaves_reserve(&self, instance: InstanceId) -> bool {
        let deployed = Role::Deployed.pool();
        self.auto.is_none()
            || !self.instances[instance].pools.contains(&deployed)
            || self.pools[deployed].ready().any(|other| other != instance)
    }

    /// Redundant work that waits becomes as urgent as the queries of a late batch.
    pub(crate) fn urge(&mut self, batch: BatchId) {
        let group = self.store[batch].group.map(|(group, _)| group);
        let works = self.store[batch].works().iter();
        let of_group = group.iter().flat_map(|&group| self.store[group].works());
        let waits = |call: &CallId| self.store[*call].redundant && self.store[*call].running.is_none();
        let waiting: Vec<CallId> = works.chain(of_group).copied().filter(waits).collect();
        for call in waiting {
            self.unqueue(call);
            self.store[call].redundant = false;
            self.start_or_wait(call);
        }
    }

    /// Adds an instance to those with free capacity, or removes it.
    pub(crate) fn update_ready(&mut self, instance: InstanceId) {
        let (seq, now) = (self.next_seq(), self.now);
        let Some(held) = self.instances.get_mut(instance) else { return };
        let last = held.comes_last(now);
        let key = held.has_room().then_some(match self.config.balance {
            Balance::Pull => seq,
            Balance::RoundRobin => held.last_sent,
            Balance::LeastOutstanding => (held.running.len() as u64) << 48 | held.last_sent,
        });
        let key = key.map(|key| if last { key | LAST } else { key });
        let before = std::mem::replace(&mut held.ready, key);
        for &pool in &held.pools {
            self.pools[pool].set_ready(instance, before, key);
        }
    }

    /// Takes work out of its queue.
    pub(crate) fn unqueue(&mut self, call: CallId) {
        let work = self.store[call];
        self.pools[work.task.role().pool()].remove(call, &work);
    }

    /// Ends a call: removes its work, and frees capacity of its instance.
    pub(crate) fn end_call(&mut self, call: CallId, instance: InstanceId) -> Work {
        if let Some(held) = self.instances.get_mut(instance) {
            held.running.retain(|&running| running != call);
            if held.health.is_leaving() && held.running.is_empty() {
                self.instances.remove(instance);
            }
        }
        self.remove_running(call)
    }

    /// Removes the work of a call.
    pub(crate) fn remove_running(&mut self, call: CallId) -> Work {
        let work = self.store.remove_work(call);
        if work.task == Task::Deployed
            && let Some(auto) = &mut self.auto
        {
            let took = work.running.map_or(0, |(_, since)| self.now - since);
            auto.ended(self.now, self.pools[0].is_slow(took));
        }
        work
    }

    pub(crate) fn call_failed(&mut self, call: CallId, instance: InstanceId) {
        let work = self.end_call(call, instance);
        if !work.cancelled {
            let since = work.running.map_or(0, |(_, since)| since);
            if work.task == Task::Deployed
                && let Some(held) = self.instances.get_mut(instance)
            {
                held.health.failing += self.now - since;
            }
            self.count_failure(instance, since);
        }
        let mut avoid = work.avoid;
        avoid.add(instance);
        self.retry(Work { avoid, ..work });
        self.clean_up(work.owner);
        self.has_room(instance);
    }

    /// Sends work again, if it is needed, has attempts left, and is not redundant work under load.
    pub(crate) fn retry(&mut self, work: Work) {
        let pool = &self.pools[work.task.role().pool()];
        let room = pool.waiting() < self.config.max_queue;
        if room && work.attempts < self.config.max_attempts && self.is_needed(&work) {
            self.counters.retries += 1;
            let attempts = work.attempts + 1;
            self.queue(Work { attempts, queued: self.now, running: None, cancelled: false, ..work });
        } else {
            self.fail_unanswerable(work.owner);
        }
    }

    pub(crate) fn timed_out(&mut self, call: CallId) {
        let Some((instance, _)) = self.store[call].running else { return };
        self.counters.timeouts += 1;
        self.actions.push_back(Action::Cancel { call, instance });
        self.call_failed(call, instance);
    }

    /// Drops redundant work that waits.
    fn shed(&mut self, call: CallId) {
        self.counters.shed += 1;
        self.unqueue(call);
        let owner = self.store.remove_work(call).owner;
        self.fail_unanswerable(owner);
        self.clean_up(owner);
    }

    /// Drops all redundant work that waits.
    pub(crate) fn shed_all(&mut self) {
        for pool in 0..self.pools.len() {
            while let Some(call) = self.pools[pool].last_redundant() {
                self.shed(call);
            }
        }
    }

    pub(crate) fn set_timer(&mut self, at: Time, timer: Timer) {
        self.timers.set(at, timer);
        if self.timers.is_large() {
            let mut timers = std::mem::replace(&mut self.timers, crate::timers::Timers::new());
            timers.sweep(|timer| self.is_live(timer));
            self.timers = timers;
        }
    }

    /// False if a timer has become pointless.
    pub(crate) fn is_live(&self, timer: Timer) -> bool {
        match timer {
            Timer::Batch(batch) => self.store.get(batch).is_some_and(|batch| batch.filling),
            Timer::Group(group) => self.store.get(group).is_some_and(|group| group.filling),
            Timer::Grace(query) | Timer::Deadline(query) => {
                self.store.get(query).is_some_and(|query| !query.answered)
            }
            Timer::Hedge(batch) => self
                .store
                .get(batch)
                .is_some_and(|batch| !batch.answered && !batch.hedged && batch.open() > 0),
            Timer::Call(call) => self.store.contains(call),
            Timer::Heal(instance) => self.instances.contains(instance),
        }
    }
}
