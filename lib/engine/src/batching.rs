//! Collects queries into batches, and batches into coding groups.

use crate::Time;
use crate::action::{CodingOff, Rejection};
use crate::arena::{BatchId, GroupId, QueryId};
use crate::arrival::{Arrival, RedundancyLevel};
use crate::coding::Coding;
use crate::engine::Engine;
use crate::mask::Mask;
use crate::store::{BatchKey, Owner, Query, Slot};
use crate::task::{Role, Task};
use crate::timers::Timer;

impl Engine {
    /// Checks the limits for a query, and returns its deadline.
    pub(crate) fn admit(&mut self, arrival: &Arrival) -> Result<Time, Rejection> {
        let deadline = arrival.deadline.unwrap_or_else(|| self.now.saturating_add(self.config.deadline));
        if deadline <= self.now {
            return Err(Rejection::Expired { late: self.now - deadline });
        }
        let limit = self.config.max_queue;
        let queued = self.pools.first().map_or(0, |pool| pool.waiting() - pool.redundant());
        if queued >= limit {
            return Err(Rejection::Queue { queued, limit, retry: self.backlog() });
        }
        let limit = self.config.max_queries;
        if self.store.count::<QueryId>() >= limit {
            // Redundant work is dropped before queries are rejected.
            self.shed_all();
        }
        let held = self.store.count::<QueryId>();
        if held >= limit {
            Err(Rejection::Queries { held, limit, retry: self.backlog() })
        } else {
            Ok(deadline)
        }
    }

    pub(crate) fn take(&mut self, arrival: &Arrival, deadline: Time) -> QueryId {
        self.counters.queries += 1;
        if let Some(auto) = &mut self.auto {
            auto.query();
        }
        let alone = !arrival.coded || arrival.redundancy == RedundancyLevel::None;
        let apart = self.coding.is_some() && alone;
        let uncoded = apart || !arrival.allow_reconstructed && self.answers_by_decoding();
        let key = BatchKey { class: arrival.class, uncoded, redundancy: arrival.redundancy };
        let batch = match self.filling.get(&key) {
            Some(&batch) => batch,
            None => self.new_batch(key),
        };
        let query = self.store.new_query(batch, arrival, self.now, deadline);
        let full = self.store[batch].queries.len() >= self.batch_size.now();
        self.set_timer(deadline, Timer::Deadline(query));
        if full {
            self.close_batch(batch);
        }
        query
    }

    /// True if the code answers every query by decoding.
    fn answers_by_decoding(&self) -> bool {
        self.coding.as_ref().is_some_and(Coding::answers_by_decoding)
    }

    fn new_batch(&mut self, key: BatchKey) -> BatchId {
        let batch = self.store.new_batch(key, self.now);
        self.filling.insert(key, batch);
        if self.batch_size.may_be_several() {
            self.set_timer(self.now.saturating_add(self.config.batch_delay), Timer::Batch(batch));
        }
        batch
    }

    /// A batch has waited for its time: it is closed, if an instance can take it or others depend on it. If all
    /// instances are busy, more queries may join it meanwhile.
    pub(crate) fn batch_due(&mut self, batch: BatchId) {
        let coded = self.is_coded(self.store[batch].key);
        if coded || self.approximate || self.has_ready_instance() {
            self.close_batch(batch);
        }
    }

    /// True if batches of this key join coding groups now.
    fn is_coded(&self, key: BatchKey) -> bool {
        let is_on = self.coding.as_ref().is_some_and(Coding::is_on);
        is_on && !key.uncoded && self.codes_now(key.redundancy)
    }

    /// Closes the batches that have waited for their time and for an instance, while there is one, the oldest first.
    pub(crate) fn close_due_batches(&mut self) {
        while self.has_ready_instance() {
            let latest = self.now.saturating_sub(self.config.batch_delay);
            let waited = self.filling.values().map(|&batch| (self.store[batch].first_arrived, batch));
            let Some((_, batch)) = waited.filter(|&(arrived, _)| arrived <= latest).min() else { return };
            self.close_batch(batch);
        }
    }

    /// True if an instance of the deployed model has room.
    fn has_ready_instance(&self) -> bool {
        self.pools.first().is_some_and(|pool| pool.ready().next().is_some())
    }

    /// Closes a batch: sends it, and adds it to a coding group.
    pub(crate) fn close_batch(&mut self, batch: BatchId) {
        let key = self.store[batch].key;
        self.filling.remove(&key);
        let seq = self.next_seq();
        self.store.seal(batch, seq);
        self.counters.batches += 1;
        if let Some(hedging) = &mut self.hedging {
            hedging.earn();
        }
        if let Some(auto) = &mut self.auto {
            auto.batch();
        }
        self.adapt();
        let group = if self.is_coded(key) { self.join_group(batch) } else { None };
        if group.is_none() || !self.answers_by_decoding() {
            self.send_batch(batch);
        }
        if let (Some(group), Some(coding)) = (group, &self.coding)
            && self.store[group].slots.len() >= coding.rule().k()
        {
            self.close_group(group);
        }
    }

    /// Sends the queries of a batch themselves.
    pub(crate) fn send_batch(&mut self, batch: BatchId) {
        let owner = Owner::Batch(batch);
        self.store[batch].sent = true;
        let redundancy = self.store[batch].key.redundancy;
        let copies = if redundancy == RedundancyLevel::None { 1 } else { self.copies_now() };
        self.add_work(Task::Deployed, owner, false);
        for _ in 1..copies {
            self.add_work(Task::Copy, owner, true);
        }
        if self.approximate && redundancy != RedundancyLevel::None {
            self.add_work(Task::Approximate, owner, true);
        }
    }

    /// Adds the batch to a group; none without a code.
    fn join_group(&mut self, batch: BatchId) -> Option<GroupId> {
        let coding = self.coding.as_ref()?;
        let (k, delay) = (coding.rule().k(), coding.group_delay);
        let class = self.store[batch].key.class;
        let id = if let Some(&filling) = self.filling_groups.get(&class) {
            filling
        } else {
            let group = self.store.new_group(class, k, self.now.saturating_add(delay));
            self.filling_groups.insert(class, group);
            group
        };
        self.store.join(batch, id);
        if self.store[id].slots.len() == 1 && k > 1 {
            self.set_timer(self.group_closes(id), Timer::Group(id));
        }
        Some(id)
    }

    /// When a group closes that does not fill: it waits for its time, but no longer than until a query of it is late.
    fn group_closes(&self, id: GroupId) -> Time {
        let group = &self.store[id];
        let Some(late) = self.pools[Role::Deployed.pool()].late() else { return group.closes };
        let batches = group.slots.iter().filter_map(Slot::batch).map(|batch| &self.store[batch]);
        let open = batches.filter(|batch| batch.open() > 0);
        open.fold(group.closes, |closes, batch| closes.min(batch.first_arrived.saturating_add(late)))
    }

    /// Closes a group if it is time; its queries may have been answered meanwhile.
    pub(crate) fn group_due(&mut self, id: GroupId) {
        match self.group_closes(id) {
            later if later > self.now => self.set_timer(later, Timer::Group(id)),
            _ => self.close_group(id),
        }
    }

    /// Closes a group: sends its coded queries if they are needed.
    pub(crate) fn close_group(&mut self, id: GroupId) {
        self.no_longer_fills(id);
        let Some(coding) = &self.coding else { return };
        let (k, n, systematic) = (coding.rule().k(), coding.rule().workers(), coding.rule().is_systematic());
        let complete = coding.completes();
        let batches = self.store[id].slots.len();
        let parities = if systematic { n - k } else { 0 };
        let affordable =
            self.store[id].rebuildable() > 0 && self.auto.as_mut().is_none_or(|auto| auto.spend(parities));
        if !affordable {
            self.counters.groups_unneeded += 1;
            self.abandon_group(id);
            return;
        }
        if batches < k && complete {
            self.complete_group(id, k, systematic);
        }
        let filled = self.store[id].slots.len();
        let counter = match (batches == k, filled == k) {
            (true, _) => &mut self.counters.groups_full,
            (false, true) => &mut self.counters.groups_completed,
            (false, false) => &mut self.counters.groups_shorter,
        };
        *counter += 1;
        // What is to rebuild a critical batch, or a late one of the policy `auto`, is sent before other coded queries.
        let is_urgent = |batch: BatchId| {
            let batch = &self.store[batch];
            batch.key.redundancy == RedundancyLevel::Critical || self.auto.is_some() && batch.hedged
        };
        let urgent = self.store[id].slots.iter().filter_map(Slot::batch).any(is_urgent);
        let redundant = systematic && !urgent;
        for worker in if systematic { k..n } else { 0..n } {
            let task = match worker.checked_sub(k) {
                Some(parity) if systematic => Task::Parity { group: id, parity },
                _ => Task::Coded { group: id, worker },
            };
            // Dropping one of them under load may end the group.
            if self.store.contains(id) {
                self.add_work(task, Owner::Group(id), redundant);
            }
        }
    }

    /// Removes a group from the filling ones.
    pub(crate) fn no_longer_fills(&mut self, id: GroupId) {
        let group = &mut self.store[id];
        if std::mem::replace(&mut group.filling, false) {
            self.filling_groups.remove(&group.class);
        }
    }

    /// Fills the remaining slots with known queries, the newest first.
    fn complete_group(&mut self, id: GroupId, k: usize, systematic: bool) {
        for &query in self.known.iter().rev() {
            let group = &self.store[id];
            if group.slots.len() >= k {
                break;
            }
            let Query { batch, class, .. } = self.store[query];
            let is_member = |slot: &Slot| slot.batch() == Some(batch);
            if class == group.class && !group.slots.iter().any(is_member) {
                self.store.complete(id, query, systematic);
            }
        }
    }

    /// The slots without a query in this row.
    pub(crate) fn absent(&self, group: GroupId, row: usize) -> Mask {
        let slots = &self.store[group].slots;
        let k = self.coding.as_ref().map_or(0, |coding| coding.rule().k());
        let is_absent = |slot: usize| match slots.get(slot) {
            Some(Slot::Batch(batch)) => self.store[*batch].queries.len() <= row,
            Some(Slot::Known(_)) => false,
            None => true,
        };
        (0..k).filter(|&slot| is_absent(slot)).fold(0, |mask, slot| mask | 1 << slot)
    }

    /// The number of rows of the longest batch of a group.
    pub(crate) fn group_rows(&self, group: GroupId) -> usize {
        let rows = self.store[group].slots.iter().map(|slot| match slot {
            Slot::Batch(batch) => self.store[*batch].queries.len(),
            Slot::Known(_) => 1,
        });
        rows.max().unwrap_or(0)
    }

    /// Switches coding off; existing groups rebuild nothing any more.
    pub(crate) fn switch_off(&mut self, reason: CodingOff) {
        let Some(coding) = &mut self.coding else { return };
        coding.switch_off(reason);
        self.actions.push_back(crate::Action::CodingOff { reason });
        while let Some(query) = self.known.pop_front() {
            self.release_query(query);
        }
        let groups: Vec<GroupId> = self.store.groups().collect();
        for group in groups {
            if self.store.contains(group) {
                self.abandon_group(group);
            }
        }
    }
}
