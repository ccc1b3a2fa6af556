//! Cancels exactly the work that is no longer needed, and releases what nothing holds.

use crate::Action;
use crate::arena::{BatchId, CallId, GroupId, QueryId};
use crate::engine::Engine;
use crate::store::{Owner, Part, Slot, Work};
use crate::task::Task;

impl Engine {
    /// Ends a query, answered or not.
    pub(crate) fn close_query(&mut self, query: QueryId) {
        self.store.close(query);
        let id = self.store[query].batch;
        let batch = &mut self.store[id];
        if batch.filling {
            batch.queries.retain(|&other| other != query);
            if batch.queries.is_empty() {
                self.filling.remove(&batch.key);
                self.store.remove_batch(id);
            }
            self.release_query(query);
        }
    }

    /// Removes one holder of a query.
    pub(crate) fn release_query(&mut self, query: QueryId) {
        if let Some(row) = self.store.release(query) {
            self.actions.push_back(Action::Release { row });
        }
    }

    /// True if the answer of this work is needed.
    pub(crate) fn is_needed(&self, work: &Work) -> bool {
        match work.owner {
            Owner::Group(id) => {
                let group = &self.store[id];
                !group.abandoned
                    && if matches!(work.task, Task::Parity { .. }) {
                        group.rebuildable()
                    } else {
                        group.open()
                    } > 0
            }
            Owner::Batch(id) => {
                let batch = &self.store[id];
                // A prediction whose query is answered may still be needed to rebuild others of its group.
                let helps = || {
                    let group = batch.group.map(|(group, _)| &self.store[group]);
                    work.task == Task::Deployed
                        && !batch.refused
                        && group.is_some_and(|group| !group.abandoned && group.rebuildable() > 0)
                };
                let is_open = |query: &QueryId| !self.store[*query].answered;
                let open = || match work.part {
                    None => batch.open() > 0,
                    Some(Part { from, to }) => batch.queries[from..to].iter().any(is_open),
                };
                !batch.answered && (open() || helps())
            }
        }
    }

    /// False if the work was not needed and not running, and was removed.
    fn keep_if_needed(&mut self, call: CallId) -> bool {
        let work = self.store[call];
        if self.is_needed(&work) {
            return true;
        }
        if let Some((instance, _)) = work.running {
            let cancels = self.instances.get(instance).is_some_and(|held| held.cancels);
            if cancels && !work.cancelled {
                self.store[call].cancelled = true;
                self.actions.push_back(Action::Cancel { call, instance });
            }
            return true;
        }
        self.unqueue(call);
        self.store.remove_work(call);
        self.counters.work_cancelled += 1;
        false
    }

    fn cancel_unneeded(&mut self, owner: Owner) {
        let mut at = 0;
        loop {
            let works = match owner {
                Owner::Batch(batch) => self.store[batch].works(),
                Owner::Group(group) => self.store[group].works(),
            };
            let Some(&call) = works.get(at) else { return };
            at += usize::from(self.keep_if_needed(call));
        }
    }

    /// The group of an owner if it is held, otherwise its batch.
    fn top_owner(&self, owner: Owner) -> Option<Owner> {
        match owner {
            Owner::Group(group) => self.store.contains(group).then_some(owner),
            Owner::Batch(batch) => {
                let batch = self.store.get(batch)?;
                Some(batch.group.map_or(owner, |(group, _)| Owner::Group(group)))
            }
        }
    }

    /// Cancels unneeded work of a batch or its group, and frees them if they are done. Does nothing if they
    /// are not held.
    pub(crate) fn clean_up(&mut self, owner: Owner) {
        match self.top_owner(owner) {
            Some(Owner::Group(group)) => self.clean_up_group(group),
            Some(Owner::Batch(batch)) => {
                self.cancel_unneeded(owner);
                let held = &self.store[batch];
                if held.open() == 0 && held.works().is_empty() && !held.filling {
                    self.free_batch(batch);
                }
            }
            None => {}
        }
    }

    fn clean_up_group(&mut self, id: GroupId) {
        self.cancel_unneeded(Owner::Group(id));
        let mut busy = !self.store[id].works().is_empty();
        for slot in 0..self.store[id].slots.len() {
            if let Some(batch) = self.store[id].slots[slot].batch() {
                self.cancel_unneeded(Owner::Batch(batch));
                busy |= !self.store[batch].works().is_empty();
            }
        }
        let group = &self.store[id];
        if busy || group.open() > 0 || group.filling {
            return;
        }
        if let Some(group) = self.store.remove_group(id) {
            for slot in group.slots {
                match slot {
                    Slot::Batch(batch) => self.free_batch(batch),
                    Slot::Known(query) => self.release_query(query),
                }
            }
            self.actions.push_back(Action::Drop { group: id });
        }
    }

    fn free_batch(&mut self, batch: BatchId) {
        if let Some(batch) = self.store.remove_batch(batch) {
            for query in batch.queries {
                self.release_query(query);
            }
        }
    }

    /// Lets a group rebuild nothing any more. Queries that were sent only in coded form are sent themselves.
    pub(crate) fn abandon_group(&mut self, id: GroupId) {
        self.no_longer_fills(id);
        self.store[id].abandoned = true;
        self.fail_unanswerable(Owner::Group(id));
        self.clean_up(Owner::Group(id));
    }

    /// See [`Engine::fail_unanswerable_of`], for the batches of this owner.
    pub(crate) fn fail_unanswerable(&mut self, owner: Owner) {
        match self.top_owner(owner) {
            Some(Owner::Group(group)) => {
                for slot in 0..self.store[group].slots.len() {
                    if let Some(batch) = self.store[group].slots[slot].batch() {
                        self.fail_unanswerable_of(batch);
                    }
                }
            }
            Some(Owner::Batch(batch)) => self.fail_unanswerable_of(batch),
            None => {}
        }
    }
}
