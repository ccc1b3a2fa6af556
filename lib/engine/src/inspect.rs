//! The read access of drivers to an engine.

use crate::Time;
use crate::action::CodingOff;
use crate::arena::{BatchId, CallId, GroupId, QueryId};
use crate::auto::State;
use crate::code::CodeRule;
use crate::coding::Coding;
use crate::counters::Counters;
use crate::engine::Engine;
use crate::pools::Pool;
use crate::store::{Owner, Part, Slot};
use crate::task::{Call, Role};

/// The number of things that an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Queries, answered or not.
    pub queries: usize,
    /// Batches.
    pub batches: usize,
    /// Coding groups.
    pub groups: usize,
    /// Work that waits or runs.
    pub works: usize,
    /// Instances.
    pub instances: usize,
    /// Timers, also those that became pointless and were not yet swept.
    pub timers: usize,
}

impl Engine {
    /// A running call; none if it has ended or was given up.
    #[must_use]
    pub fn call(&self, call: CallId) -> Option<Call> {
        let work = self.store.get(call)?;
        let (instance, since) = work.running?;
        let rows = match work.owner {
            Owner::Batch(batch) => {
                work.part.map_or(self.store[batch].queries.len(), |part| part.to - part.from)
            }
            Owner::Group(group) => self.group_rows(group),
        };
        Some(Call { task: work.task, instance, rows, waited: since - work.queued })
    }

    /// The rows of a call that runs a model on a batch: [`crate::Task::Deployed`],
    /// [`crate::Task::Copy`] and [`crate::Task::Approximate`]. None of other calls.
    pub fn rows(&self, call: CallId) -> impl Iterator<Item = u64> + '_ {
        let work = self.store.get(call);
        let batch = match work.map(|work| work.owner) {
            Some(Owner::Batch(batch)) => self.store.get(batch),
            _ => None,
        };
        let part = work.and_then(|work| work.part).unwrap_or(Part { from: 0, to: usize::MAX });
        let queries = batch.into_iter().flat_map(|batch| &batch.queries);
        queries.take(part.to).skip(part.from).map(|&query| self.store[query].row)
    }

    /// The members of one row of a group's coded batches: slots in order, each with its driver's row. Slots
    /// without a query are left out. Empty if the engine does not hold the group.
    pub fn members(&self, group: GroupId, row: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let slots = self.store.get(group).into_iter().flat_map(|group| group.slots.iter().enumerate());
        slots.filter_map(move |(slot, holds)| {
            let query = match *holds {
                Slot::Batch(batch) => *self.store[batch].queries.get(row)?,
                Slot::Known(query) => query,
            };
            Some((slot, self.store[query].row))
        })
    }

    /// The code of groups, if the policy has one.
    #[must_use]
    pub fn code(&self) -> Option<&CodeRule> {
        self.coding.as_ref().map(Coding::rule)
    }

    /// The counters since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The reason why coding is off; none if it is on or the policy does not code.
    #[must_use]
    pub fn coding_off(&self) -> Option<CodingOff> {
        self.coding.as_ref()?.off()
    }

    /// What the policy `auto` gives to queries now, and the load that it measured: the average number of first
    /// calls that run. None for other policies.
    #[must_use]
    pub fn state(&self) -> Option<(State, f64)> {
        self.auto.as_ref().map(|auto| (auto.state(), auto.load()))
    }

    /// The number of batches, or coded batches, that wait for an instance with this role.
    #[must_use]
    pub fn waiting(&self, role: Role) -> usize {
        self.pools.get(role.pool()).map_or(0, Pool::waiting)
    }

    /// The time until the batches that wait for the deployed model now have been sent, from the median time of
    /// calls. Without instances in rotation it is that of one instance.
    #[must_use]
    pub fn backlog(&self) -> Time {
        let pool = &self.pools[Role::Deployed.pool()];
        let rounds = (pool.waiting() - pool.redundant()) as f64 / self.capacity().max(1) as f64;
        (rounds * pool.median().unwrap_or(0) as f64) as Time
    }

    /// The number of things that are held now.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            queries: self.store.count::<QueryId>(),
            batches: self.store.count::<BatchId>(),
            groups: self.store.count::<GroupId>(),
            works: self.store.count::<CallId>(),
            instances: self.instances.len(),
            timers: self.timers.len(),
        }
    }
}
