//! Collects queries into batches, and batches into coding groups.

use crate::Time;
use crate::action::{CodingOff, Rejection};
use crate::arena::{BatchId, GroupId, QueryId};
use crate::code::Mask;
use crate::config::Completion;
use crate::engine::{Arrival, Engine};
use crate::state::{Batch, BatchKey, Group, Owner, Query, Slot, Task};
use crate::timers::Timer;

impl Engine {
    /// Checks the limits for a query, and returns its deadline.
    pub(crate) fn admit(&mut self, arrival: &Arrival) -> Result<Time, Rejection> {
        let deadline = arrival.deadline.unwrap_or_else(|| self.now.saturating_add(self.config.deadline));
        if deadline <= self.now {
            return Err(Rejection::Expired { late: self.now - deadline });
        }
        let limit = self.config.max_queue;
        let queued = self.pools.first().map_or(0, |pool| pool.queue.len() - pool.redundant);
        if queued >= limit {
            return Err(Rejection::Queue { queued, limit });
        }
        let limit = self.config.max_queries;
        if self.queries.len() >= limit {
            // Redundant work is dropped before queries are rejected.
            self.shed_all();
        }
        let held = self.queries.len();
        if held >= limit { Err(Rejection::Queries { held, limit }) } else { Ok(deadline) }
    }

    pub(crate) fn take(&mut self, arrival: &Arrival, deadline: Time) -> QueryId {
        self.counters.queries += 1;
        let apart = self.coding.is_some() && !arrival.coded;
        let uncoded = apart || !arrival.allow_reconstructed && self.codes_all();
        let key = BatchKey { class: arrival.class, uncoded };
        let batch = match self.filling.get(&key) {
            Some(&batch) => batch,
            None => self.new_batch(key),
        };
        let query = self.queries.insert(Query {
            row: arrival.row,
            request: arrival.request,
            arrived: self.now,
            deadline,
            priority: arrival.priority,
            allow_reconstructed: arrival.allow_reconstructed,
            class: arrival.class,
            answered: false,
            done: false,
            grace_set: false,
            batch,
            position: 0,
            holders: 1,
            rebuilt: None,
            rebuilding: None,
            undecodable: 0,
        });
        let held = &mut self.batches[batch];
        held.queries.push(query);
        held.open += 1;
        let full = held.queries.len() >= self.batch_size as usize;
        self.alarm(deadline, Timer::Deadline(query));
        if full {
            self.close_batch(batch);
        }
        query
    }

    /// Adapts the size of batches to the time of a call: additive increase, multiplicative decrease, as in
    /// Clipper (NSDI 2017, section 4.3.1).
    pub(crate) fn adapt(&mut self, batch: BatchId, time: Time) {
        let Some(target) = self.config.batch_target else { return };
        let rows = self.batches.get(batch).map_or(0, |batch| batch.queries.len());
        if time > target {
            self.batch_size = (self.batch_size * 0.9).max(1.0);
        } else if rows >= self.batch_size as usize {
            self.batch_size = (self.batch_size + 1.0).min(self.config.max_batch as f64);
        }
    }

    /// True if the code answers every query by decoding.
    fn codes_all(&self) -> bool {
        self.coding.as_ref().is_some_and(|coding| coding.off.is_none() && !coding.rule.is_systematic())
    }

    fn new_batch(&mut self, key: BatchKey) -> BatchId {
        let batch = self.batches.insert(Batch {
            queries: Vec::new(),
            key,
            filling: true,
            priority: 0,
            seq: 0,
            first_arrived: self.now,
            open: 0,
            group: None,
            works: Vec::new(),
            left: 0,
            answered: false,
            refused: false,
            usable: true,
            cheap: None,
            hedged: false,
            sent: false,
        });
        self.filling.insert(key, batch);
        if self.config.max_batch > 1 {
            self.alarm(self.now.saturating_add(self.config.batch_delay), Timer::Batch(batch));
        }
        batch
    }

    /// Closes a batch: sends it, and adds it to a coding group.
    pub(crate) fn close_batch(&mut self, batch: BatchId) {
        let key = self.batches[batch].key;
        self.filling.remove(&key);
        let seq = self.next_seq();
        let held = &mut self.batches[batch];
        held.filling = false;
        held.seq = seq;
        held.left = held.queries.len();
        for (position, &query) in held.queries.iter().enumerate() {
            self.queries[query].position = position;
        }
        let queries = &self.queries;
        held.priority = held.queries.iter().map(|&query| queries[query].priority).min().unwrap_or(0);
        self.counters.batches += 1;
        if let Some(hedge) = &self.hedge {
            self.hedge_tokens = (self.hedge_tokens + hedge.budget).min(hedge.burst);
        }
        let group = if key.uncoded { None } else { self.join_group(batch) };
        if group.is_none() || !self.codes_all() {
            self.send_batch(batch);
        }
        if let (Some(group), Some(coding)) = (group, &self.coding)
            && self.groups[group].slots.len() >= coding.rule.k()
        {
            self.close_group(group);
        }
    }

    /// Sends the queries of a batch themselves.
    pub(crate) fn send_batch(&mut self, batch: BatchId) {
        let owner = Owner::Batch(batch);
        self.batches[batch].sent = true;
        self.add_work(Task::Deployed, owner, false);
        for _ in 1..self.copies {
            self.add_work(Task::Copy, owner, true);
        }
        if self.cheap {
            self.add_work(Task::Cheap, owner, true);
        }
    }

    /// Adds the batch to a group; none if coding is off.
    fn join_group(&mut self, batch: BatchId) -> Option<GroupId> {
        let coding = self.coding.as_ref().filter(|coding| coding.off.is_none())?;
        let (k, delay) = (coding.rule.k(), coding.group_delay);
        let class = self.batches[batch].key.class;
        let id = if let Some(&filling) = self.filling_groups.get(&class) {
            filling
        } else {
            let group = self.groups.insert(Group {
                slots: Vec::with_capacity(k),
                class,
                filling: true,
                dead: false,
                available: 0,
                priority: u8::MAX,
                open: 0,
                rebuildable: 0,
                works: Vec::new(),
            });
            self.filling_groups.insert(class, group);
            if k > 1 {
                self.alarm(self.now.saturating_add(delay), Timer::Group(group));
            }
            group
        };
        let group = &mut self.groups[id];
        let held = &mut self.batches[batch];
        held.group = Some((id, group.slots.len()));
        group.slots.push(Slot::Batch(batch));
        group.priority = group.priority.min(held.priority);
        group.open += held.open;
        let queries = &self.queries;
        group.rebuildable += held.queries.iter().filter(|&&query| queries[query].allow_reconstructed).count();
        Some(id)
    }

    /// Closes a group: sends its coded queries if they are needed.
    pub(crate) fn close_group(&mut self, id: GroupId) {
        self.no_longer_fills(id);
        let Some(coding) = &self.coding else { return };
        let (k, n, systematic) = (coding.rule.k(), coding.rule.workers(), coding.rule.is_systematic());
        let complete = coding.completion == Completion::Known;
        let batches = self.groups[id].slots.len();
        if self.groups[id].rebuildable == 0 {
            self.counters.groups_unneeded += 1;
            self.kill_group(id);
            return;
        }
        if batches < k && complete {
            self.complete_group(id, k, systematic);
        }
        let filled = self.groups[id].slots.len();
        let counter = match (batches == k, filled == k) {
            (true, _) => &mut self.counters.groups_full,
            (false, true) => &mut self.counters.groups_completed,
            (false, false) => &mut self.counters.groups_shorter,
        };
        *counter += 1;
        for worker in if systematic { k..n } else { 0..n } {
            let task = match worker.checked_sub(k) {
                Some(parity) if systematic => Task::Parity { group: id, parity },
                _ => Task::Coded { group: id, worker },
            };
            // Dropping one of them under load may end the group.
            if self.groups.contains(id) {
                self.add_work(task, Owner::Group(id), systematic);
            }
        }
    }

    /// Removes a group from the filling ones.
    pub(crate) fn no_longer_fills(&mut self, id: GroupId) {
        let group = &mut self.groups[id];
        if std::mem::replace(&mut group.filling, false) {
            self.filling_groups.remove(&group.class);
        }
    }

    /// Fills the remaining slots with known queries, the newest first.
    fn complete_group(&mut self, id: GroupId, k: usize, systematic: bool) {
        for at in (0..self.known.len()).rev() {
            let query = self.known[at];
            let group = &mut self.groups[id];
            if group.slots.len() >= k {
                break;
            }
            let Query { batch, class, .. } = self.queries[query];
            if class != group.class {
                continue;
            }
            if group.slots.iter().any(|slot| matches!(slot, Slot::Batch(member) if *member == batch)) {
                continue;
            }
            if systematic {
                group.available |= 1 << group.slots.len();
            }
            group.slots.push(Slot::Known(query));
            self.queries[query].holders += 1;
        }
    }

    /// The slots without a query in this row.
    pub(crate) fn absent(&self, group: GroupId, row: usize) -> Mask {
        let slots = &self.groups[group].slots;
        let k = self.coding.as_ref().map_or(0, |coding| coding.rule.k());
        let is_absent = |slot: usize| match slots.get(slot) {
            Some(Slot::Batch(batch)) => self.batches[*batch].queries.len() <= row,
            Some(Slot::Known(_)) => false,
            None => true,
        };
        (0..k).filter(|&slot| is_absent(slot)).fold(0, |mask, slot| mask | 1 << slot)
    }

    /// The number of rows of the longest batch of a group.
    pub(crate) fn group_rows(&self, group: GroupId) -> usize {
        let rows = self.groups[group].slots.iter().map(|slot| match slot {
            Slot::Batch(batch) => self.batches[*batch].queries.len(),
            Slot::Known(_) => 1,
        });
        rows.max().unwrap_or(0)
    }

    /// Switches coding off; existing groups rebuild nothing any more.
    pub(crate) fn switch_off(&mut self, reason: CodingOff) {
        let Some(coding) = &mut self.coding else { return };
        coding.off = Some(reason);
        self.actions.push_back(crate::Action::CodingOff { reason });
        while let Some(query) = self.known.pop_front() {
            self.let_go(query);
        }
        let groups: Vec<GroupId> = self.groups.ids().collect();
        for group in groups {
            if self.groups.contains(group) {
                self.kill_group(group);
            }
        }
    }
}
