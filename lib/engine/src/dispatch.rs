//! Work: its queues, and its dispatch to instances.

use crate::arena::{CallId, InstanceId};
use crate::config::Balance;
use crate::engine::Engine;
use crate::state::{Avoid, Owner, QueueKey, Slot, Status, Task, Work};
use crate::timers::Timer;
use crate::{Action, Time};

/// The most waiting work that is checked for an instance, since the instance may have failed it.
const MOST_CHECKED: usize = 64;

impl Engine {
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Sends work to an instance with free capacity, or queues it.
    pub(crate) fn add_work(&mut self, task: Task, owner: Owner, redundant: bool) {
        let (priority, seq) = match owner {
            Owner::Batch(batch) => (self.batches[batch].priority, self.batches[batch].seq),
            // In the order of groups, after earlier batches.
            Owner::Group(group) => (self.groups[group].priority, self.next_seq()),
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
        let pool = work.task.role().pool();
        let call = self.works.insert(work);
        match work.owner {
            Owner::Batch(batch) => self.batches[batch].works.push(call),
            Owner::Group(group) => self.groups[group].works.push(call),
        }
        if let Some(instance) = self.choose(pool, call) {
            self.start(call, instance);
            self.list(instance);
            return;
        }
        let limit = self.config.max_queue;
        let pool = &mut self.pools[pool];
        pool.queue.insert(key(call, &work));
        if work.redundant {
            pool.redundant += 1;
            if pool.redundant > limit {
                // The oldest work of the lowest priority; positions begin at 1.
                let lowest = pool.queue.last().map_or(0, |key| key.1);
                let oldest = pool.queue.range((true, lowest, 0, call)..).next().map(|key| key.3);
                if let Some(oldest) = oldest {
                    self.shed(oldest);
                }
            }
        }
    }

    /// An instance with free capacity: preferably one that runs nothing of the same group, and not one that
    /// failed the work if there is another that gets work.
    fn choose(&self, pool: usize, call: CallId) -> Option<InstanceId> {
        let (work, pool) = (&self.works[call], &self.pools[pool]);
        let mut shared = None;
        for &(_, instance) in &pool.ready {
            if !pool.may_give(work, instance) {
                continue;
            }
            if !self.shares(instance, work.owner) {
                return Some(instance);
            }
            shared = shared.or(Some(instance));
        }
        shared
    }

    /// True if an instance runs something of the same batch or group.
    fn shares(&self, instance: InstanceId, owner: Owner) -> bool {
        if self.instances[instance].running.is_empty() {
            return false;
        }
        let runs = |works: &[CallId]| {
            works.iter().any(|&call| self.works[call].running.is_some_and(|(place, _)| place == instance))
        };
        let group = match owner {
            Owner::Group(group) => group,
            Owner::Batch(batch) => match self.batches[batch].group {
                Some((group, _)) => group,
                None => return runs(&self.batches[batch].works),
            },
        };
        let group = &self.groups[group];
        let batches = group.slots.iter().filter_map(Slot::batch);
        runs(&group.works) || batches.into_iter().any(|batch| runs(&self.batches[batch].works))
    }

    fn start(&mut self, call: CallId, instance: InstanceId) {
        let seq = self.next_seq();
        let now = self.now;
        self.works[call].running = Some((instance, now));
        let held = &mut self.instances[instance];
        held.running.push(call);
        held.last_sent = seq;
        self.counters.calls += 1;
        self.actions.push_back(Action::Dispatch { call, instance });
        self.alarm(now.saturating_add(self.config.call_timeout), Timer::Call(call));
        if let Work { task: Task::Deployed, owner: Owner::Batch(batch), .. } = self.works[call] {
            self.set_hedge(batch);
        }
    }

    /// Gives waiting work to an instance with free capacity, and lists it as free if there is capacity left.
    pub(crate) fn has_room(&mut self, instance: InstanceId) {
        while let Some(held) = self.instances.get(instance)
            && held.status == Status::In
            && held.running.len() < held.capacity
        {
            let found = held.pools.iter().find_map(|&pool| self.waiting_for(pool, instance));
            let Some(call) = found else { break };
            self.unqueue(call);
            self.start(call, instance);
        }
        self.list(instance);
    }

    fn waiting_for(&self, pool: usize, instance: InstanceId) -> Option<CallId> {
        let pool = &self.pools[pool];
        let waiting = pool.queue.iter().map(|key| key.3).take(MOST_CHECKED);
        waiting.into_iter().find(|&call| pool.may_give(&self.works[call], instance))
    }

    /// Adds an instance to those with free capacity, or removes it.
    pub(crate) fn list(&mut self, instance: InstanceId) {
        let seq = self.next_seq();
        let Some(held) = self.instances.get_mut(instance) else { return };
        let room = held.status == Status::In && held.running.len() < held.capacity;
        let key = room.then_some(match self.config.balance {
            Balance::Pull => seq,
            Balance::RoundRobin => held.last_sent,
            Balance::LeastOutstanding => (held.running.len() as u64) << 48 | held.last_sent,
        });
        let before = std::mem::replace(&mut held.ready, key);
        for &pool in &held.pools {
            let ready = &mut self.pools[pool].ready;
            if let Some(before) = before {
                ready.remove(&(before, instance));
            }
            if let Some(key) = key {
                ready.insert((key, instance));
            }
        }
    }

    /// Takes work out of its queue.
    pub(crate) fn unqueue(&mut self, call: CallId) {
        let work = self.works[call];
        let pool = &mut self.pools[work.task.role().pool()];
        if pool.queue.remove(&key(call, &work)) && work.redundant {
            pool.redundant -= 1;
        }
    }

    /// Removes work from its owner and from the engine.
    pub(crate) fn unlink(&mut self, call: CallId) -> Work {
        let work = self.works[call];
        self.works.remove(call);
        let works = match work.owner {
            Owner::Batch(batch) => &mut self.batches[batch].works,
            Owner::Group(group) => &mut self.groups[group].works,
        };
        works.retain(|&other| other != call);
        work
    }

    /// Ends a call: removes its work, and frees capacity of its instance.
    pub(crate) fn end_call(&mut self, call: CallId, instance: InstanceId) -> Work {
        if let Some(held) = self.instances.get_mut(instance) {
            held.running.retain(|&running| running != call);
            if held.status == Status::Leaving && held.running.is_empty() {
                self.instances.remove(instance);
            }
        }
        self.unlink(call)
    }

    pub(crate) fn call_failed(&mut self, call: CallId, instance: InstanceId) {
        let work = self.end_call(call, instance);
        if !work.cancelled {
            self.call_went_wrong(instance, work.running.map_or(0, |(_, since)| since));
        }
        let mut avoid = work.avoid;
        avoid.add(instance);
        self.retry(Work { avoid, ..work });
        self.settle(work.owner);
        self.has_room(instance);
    }

    /// Sends work again, if it is needed, has attempts left, and is not redundant work under load.
    pub(crate) fn retry(&mut self, work: Work) {
        let pool = &self.pools[work.task.role().pool()];
        let room = pool.queue.len() < self.config.max_queue;
        if room && work.attempts < self.config.max_attempts && self.is_needed(&work) {
            self.counters.retries += 1;
            let attempts = work.attempts + 1;
            self.queue(Work { attempts, queued: self.now, running: None, cancelled: false, ..work });
        } else {
            self.fail_unanswerable(work.owner);
        }
    }

    pub(crate) fn timed_out(&mut self, call: CallId) {
        let Some((instance, _)) = self.works[call].running else { return };
        self.counters.timeouts += 1;
        self.actions.push_back(Action::Cancel { call, instance });
        self.call_failed(call, instance);
    }

    /// Drops redundant work that waits.
    fn shed(&mut self, call: CallId) {
        self.counters.shed += 1;
        self.unqueue(call);
        let owner = self.unlink(call).owner;
        self.fail_unanswerable(owner);
        self.settle(owner);
    }

    /// Drops all redundant work that waits.
    pub(crate) fn shed_all(&mut self) {
        for pool in 0..self.pools.len() {
            while let Some(&(true, .., call)) = self.pools[pool].queue.last() {
                self.shed(call);
            }
        }
    }

    pub(crate) fn alarm(&mut self, at: Time, timer: Timer) {
        self.timers.set(at, timer);
        if self.timers.is_large() {
            let mut timers = std::mem::replace(&mut self.timers, crate::timers::Timers::new());
            timers.sweep(|timer| self.is_live(timer));
            self.timers = timers;
        }
    }

    /// False if a timer is obsolete.
    pub(crate) fn is_live(&self, timer: Timer) -> bool {
        match timer {
            Timer::Batch(batch) => self.batches.get(batch).is_some_and(|batch| batch.filling),
            Timer::Group(group) => self.groups.get(group).is_some_and(|group| group.filling),
            Timer::Grace(query) | Timer::Deadline(query) => {
                self.queries.get(query).is_some_and(|query| !query.answered)
            }
            Timer::Hedge(batch) => self
                .batches
                .get(batch)
                .is_some_and(|batch| !batch.answered && !batch.hedged && batch.open > 0),
            Timer::Call(call) => self.works.contains(call),
            Timer::Heal(instance) => self.instances.contains(instance),
        }
    }
}

fn key(call: CallId, work: &Work) -> QueueKey {
    (work.redundant, work.priority, work.seq, call)
}
