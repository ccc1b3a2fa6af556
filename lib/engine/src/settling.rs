//! Cancels exactly the work that is no longer needed, and releases what nothing holds.

use crate::Action;
use crate::arena::{BatchId, CallId, GroupId, QueryId};
use crate::engine::Engine;
use crate::state::{Owner, Part, Slot, Task, Work};

impl Engine {
    /// Ends a query, answered or not.
    pub(crate) fn close_query(&mut self, query: QueryId) {
        let held = &mut self.queries[query];
        held.answered = true;
        let (id, allowed) = (held.batch, held.allow_reconstructed);
        let batch = &mut self.batches[id];
        batch.open -= 1;
        if let Some((group, _)) = batch.group {
            let group = &mut self.groups[group];
            group.open -= 1;
            group.rebuildable -= usize::from(allowed);
        }
        if batch.filling {
            batch.queries.retain(|&other| other != query);
            if batch.queries.is_empty() {
                self.filling.remove(&batch.key);
                self.batches.remove(id);
            }
            self.let_go(query);
        }
    }

    /// Removes one holder of a query.
    pub(crate) fn let_go(&mut self, query: QueryId) {
        let held = &mut self.queries[query];
        held.holders -= 1;
        if held.holders == 0 {
            let row = held.row;
            self.queries.remove(query);
            self.actions.push_back(Action::Release { row });
        }
    }

    /// True if the answer of this work is needed.
    pub(crate) fn is_needed(&self, work: &Work) -> bool {
        match work.owner {
            Owner::Group(id) => {
                let group = &self.groups[id];
                !group.dead
                    && if matches!(work.task, Task::Parity { .. }) { group.rebuildable } else { group.open }
                        > 0
            }
            Owner::Batch(id) => {
                let batch = &self.batches[id];
                // A prediction whose query is answered may still be needed to rebuild others of its group.
                let helps = || {
                    let group = batch.group.map(|(group, _)| &self.groups[group]);
                    work.task == Task::Deployed
                        && !batch.refused
                        && group.is_some_and(|group| !group.dead && group.rebuildable > 0)
                };
                let is_open = |query: &QueryId| !self.queries[*query].answered;
                let open = || match work.part {
                    None => batch.open > 0,
                    Some(Part { from, to }) => batch.queries[from..to].iter().any(is_open),
                };
                !batch.answered && (open() || helps())
            }
        }
    }

    /// False if the work was not needed and not running, and was removed.
    fn keep(&mut self, call: CallId) -> bool {
        let work = self.works[call];
        if self.is_needed(&work) {
            return true;
        }
        if let Some((instance, _)) = work.running {
            if self.config.cancel_running && !work.cancelled {
                self.works[call].cancelled = true;
                self.actions.push_back(Action::Cancel { call, instance });
            }
            return true;
        }
        self.unqueue(call);
        self.unlink(call);
        self.counters.work_cancelled += 1;
        false
    }

    fn keep_needed(&mut self, owner: Owner) {
        let mut at = 0;
        loop {
            let works = match owner {
                Owner::Batch(batch) => &self.batches[batch].works,
                Owner::Group(group) => &self.groups[group].works,
            };
            let Some(&call) = works.get(at) else { return };
            at += usize::from(self.keep(call));
        }
    }

    /// The group of an owner if it is held, otherwise its batch.
    fn family(&self, owner: Owner) -> Option<Owner> {
        match owner {
            Owner::Group(group) => self.groups.contains(group).then_some(owner),
            Owner::Batch(batch) => {
                let batch = self.batches.get(batch)?;
                Some(batch.group.map_or(owner, |(group, _)| Owner::Group(group)))
            }
        }
    }

    /// Cancels unneeded work of a batch or its group, and frees them if they are done. Does nothing if they
    /// are not held.
    pub(crate) fn settle(&mut self, owner: Owner) {
        match self.family(owner) {
            Some(Owner::Group(group)) => self.settle_group(group),
            Some(Owner::Batch(batch)) => {
                self.keep_needed(owner);
                let held = &self.batches[batch];
                if held.open == 0 && held.works.is_empty() && !held.filling {
                    self.free_batch(batch);
                }
            }
            None => {}
        }
    }

    fn settle_group(&mut self, id: GroupId) {
        self.keep_needed(Owner::Group(id));
        let mut busy = !self.groups[id].works.is_empty();
        for slot in 0..self.groups[id].slots.len() {
            if let Some(batch) = self.groups[id].slots[slot].batch() {
                self.keep_needed(Owner::Batch(batch));
                busy |= !self.batches[batch].works.is_empty();
            }
        }
        let group = &self.groups[id];
        if busy || group.open > 0 || group.filling {
            return;
        }
        if let Some(group) = self.groups.remove(id) {
            for slot in group.slots {
                match slot {
                    Slot::Batch(batch) => self.free_batch(batch),
                    Slot::Known(query) => self.let_go(query),
                }
            }
            self.actions.push_back(Action::Drop { group: id });
        }
    }

    fn free_batch(&mut self, batch: BatchId) {
        if let Some(batch) = self.batches.remove(batch) {
            for query in batch.queries {
                self.let_go(query);
            }
        }
    }

    /// Lets a group rebuild nothing any more. Queries that were sent only in coded form are sent themselves.
    pub(crate) fn kill_group(&mut self, id: GroupId) {
        self.no_longer_fills(id);
        self.groups[id].dead = true;
        self.fail_unanswerable(Owner::Group(id));
        self.settle(Owner::Group(id));
    }

    /// See [`Engine::fail_unanswerable_of`], for the batches of this owner.
    pub(crate) fn fail_unanswerable(&mut self, owner: Owner) {
        match self.family(owner) {
            Some(Owner::Group(group)) => {
                for slot in 0..self.groups[group].slots.len() {
                    if let Some(batch) = self.groups[group].slots[slot].batch() {
                        self.fail_unanswerable_of(batch);
                    }
                }
            }
            Some(Owner::Batch(batch)) => self.fail_unanswerable_of(batch),
            None => {}
        }
    }
}
