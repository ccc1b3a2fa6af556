//! Queries, batches, coding groups, and the work for them.
//!
//! They hold each other, and some of their counts follow from others. So they come, go and are joined here
//! alone:
//!
//! - A batch and a group count their queries without an answer, and a group those of them that may be rebuilt.
//! - Work is listed with its owner as long as there is the work.
//! - A query goes when its batch, the groups that it completes and the known queries have released it.

use std::ops::{Index, IndexMut};

use crate::Time;
use crate::action::Decode;
use crate::arena::{Arena, BatchId, CallId, GroupId, Id, InstanceId, QueryId};
use crate::arrival::{Arrival, RedundancyLevel};
use crate::mask::Mask;
use crate::task::Task;

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that are independent of each other
pub(crate) struct Query {
    pub(crate) row: u64,
    /// Its request.
    pub(crate) request: u64,
    pub(crate) arrived: Time,
    pub(crate) deadline: Time,
    pub(crate) priority: u8,
    pub(crate) allow_reconstructed: bool,
    pub(crate) class: u64,
    pub(crate) answered: bool,
    /// True if its prediction is available, or was refused.
    pub(crate) done: bool,
    pub(crate) grace_set: bool,
    pub(crate) batch: BatchId,
    /// Its row in its batch.
    pub(crate) position: usize,
    /// The number of its holders: its batch, the list of known queries, and groups that it completes.
    holders: u32,
    /// How it was rebuilt, or would have been in shadow mode.
    pub(crate) rebuilt: Option<Decode>,
    /// How the driver is rebuilding it, until it reports the result.
    pub(crate) rebuilding: Option<Decode>,
    /// The available answers of a reconstruction that could not be used; 0: none failed.
    pub(crate) undecodable: Mask,
}

/// The key of a filling batch: only queries with equal keys share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchKey {
    pub(crate) class: u64,
    /// True if they join no coding group: only predictions may answer them, and the code answers every query
    /// with a reconstruction.
    pub(crate) uncoded: bool,
    /// How much redundancy they get.
    pub(crate) redundancy: RedundancyLevel,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that are independent of each other
pub(crate) struct Batch {
    pub(crate) queries: Vec<QueryId>,
    pub(crate) key: BatchKey,
    pub(crate) filling: bool,
    pub(crate) priority: u8,
    /// Its position in queues.
    pub(crate) seq: u64,
    pub(crate) first_arrived: Time,
    /// The number of queries without an answer.
    open: usize,
    pub(crate) group: Option<(GroupId, usize)>,
    /// Work of the batch itself that is queued or runs.
    works: Vec<CallId>,
    /// The number of rows whose prediction is neither available nor refused.
    pub(crate) left: usize,
    /// True if there are no such rows.
    pub(crate) answered: bool,
    /// True if some of its rows were refused.
    pub(crate) refused: bool,
    /// True if its predictions can be used to rebuild others.
    pub(crate) usable: bool,
    /// The instance that answered with the approximate model.
    pub(crate) approximated_by: Option<InstanceId>,
    pub(crate) hedged: bool,
    /// True if its queries themselves were sent or queued.
    pub(crate) sent: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    Batch(BatchId),
    /// A known query, which is in every row.
    Known(QueryId),
}

impl Slot {
    pub(crate) fn batch(&self) -> Option<BatchId> {
        match *self {
            Self::Batch(batch) => Some(batch),
            Self::Known(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    /// Its slots from 0; fewer than k while it is filling, or if it is coded with fewer queries.
    pub(crate) slots: Vec<Slot>,
    pub(crate) class: u64,
    pub(crate) filling: bool,
    /// The time until which it waits for further batches, at most.
    pub(crate) closes: Time,
    /// True if it rebuilds nothing any more.
    pub(crate) abandoned: bool,
    /// The workers whose answers are available.
    pub(crate) available: Mask,
    /// The highest priority of its batches.
    pub(crate) priority: u8,
    /// The number of queries without an answer.
    open: usize,
    /// Of these, those that may be rebuilt.
    rebuildable: usize,
    /// Coded work that is queued or runs.
    works: Vec<CallId>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    Batch(BatchId),
    Group(GroupId),
}

/// The last few instances that failed a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Avoid([Option<InstanceId>; 4]);

impl Avoid {
    pub(crate) fn add(&mut self, instance: InstanceId) {
        if !self.has(instance) {
            self.0.rotate_right(1);
            self.0[0] = Some(instance);
        }
    }

    pub(crate) fn has(self, instance: InstanceId) -> bool {
        self.0.contains(&Some(instance))
    }

    pub(crate) fn count(self) -> usize {
        self.0.iter().flatten().count()
    }
}

/// A range of rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) task: Task,
    pub(crate) owner: Owner,
    /// Its rows of the batch; none: all.
    pub(crate) part: Option<Part>,
    /// The instance that refused it first, and the time of that call.
    pub(crate) refused_by: Option<(InstanceId, Time)>,
    /// True for redundant work, which waits for all other work.
    pub(crate) redundant: bool,
    pub(crate) priority: u8,
    pub(crate) seq: u64,
    pub(crate) attempts: u8,
    /// The time at which it was queued.
    pub(crate) queued: Time,
    /// The instances that failed it.
    pub(crate) avoid: Avoid,
    /// Its instance and the start of its call, if it is running.
    pub(crate) running: Option<(InstanceId, Time)>,
    pub(crate) cancelled: bool,
}

impl Work {
    /// True if it includes this row of its batch.
    pub(crate) fn covers(&self, position: usize) -> bool {
        self.part.is_none_or(|part| (part.from..part.to).contains(&position))
    }
}

/// What an [`Engine`](crate::Engine) holds, but for its instances.
#[derive(Debug)]
pub(crate) struct Store {
    queries: Arena<QueryId, Query>,
    batches: Arena<BatchId, Batch>,
    groups: Arena<GroupId, Group>,
    works: Arena<CallId, Work>,
}

/// It holds what has ids of this type.
pub(crate) trait Holds<I: Id> {
    type Item;

    fn arena(&self) -> &Arena<I, Self::Item>;

    fn arena_mut(&mut self) -> &mut Arena<I, Self::Item>;
}

macro_rules! holds {
    ($($id:ty, $item:ty, $field:ident;)*) => {$(
        impl Holds<$id> for Store {
            type Item = $item;

            fn arena(&self) -> &Arena<$id, $item> {
                &self.$field
            }

            fn arena_mut(&mut self) -> &mut Arena<$id, $item> {
                &mut self.$field
            }
        }

        impl Index<$id> for Store {
            type Output = $item;

            fn index(&self, id: $id) -> &$item {
                &self.$field[id]
            }
        }

        impl IndexMut<$id> for Store {
            fn index_mut(&mut self, id: $id) -> &mut $item {
                &mut self.$field[id]
            }
        }
    )*};
}

holds! {
    QueryId, Query, queries;
    BatchId, Batch, batches;
    GroupId, Group, groups;
    CallId, Work, works;
}

impl Batch {
    /// The number of queries without an answer.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Work of the batch itself that is queued or runs.
    pub(crate) fn works(&self) -> &[CallId] {
        &self.works
    }
}

impl Group {
    /// The number of queries without an answer.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Of these, those that may be rebuilt.
    pub(crate) fn rebuildable(&self) -> usize {
        self.rebuildable
    }

    /// Coded work that is queued or runs.
    pub(crate) fn works(&self) -> &[CallId] {
        &self.works
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { queries: Arena::new(), batches: Arena::new(), groups: Arena::new(), works: Arena::new() }
    }

    pub(crate) fn get<I: Id>(&self, id: I) -> Option<&<Self as Holds<I>>::Item>
    where
        Self: Holds<I>,
    {
        self.arena().get(id)
    }

    pub(crate) fn get_mut<I: Id>(&mut self, id: I) -> Option<&mut <Self as Holds<I>>::Item>
    where
        Self: Holds<I>,
    {
        self.arena_mut().get_mut(id)
    }

    pub(crate) fn contains<I: Id>(&self, id: I) -> bool
    where
        Self: Holds<I>,
    {
        self.arena().contains(id)
    }

    /// How many there are.
    pub(crate) fn count<I: Id>(&self) -> usize
    where
        Self: Holds<I>,
    {
        self.arena().len()
    }

    /// All groups.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.ids()
    }

    /// A batch that fills.
    pub(crate) fn new_batch(&mut self, key: BatchKey, now: Time) -> BatchId {
        self.batches.insert(Batch {
            queries: Vec::new(),
            key,
            filling: true,
            priority: 0,
            seq: 0,
            first_arrived: now,
            open: 0,
            group: None,
            works: Vec::new(),
            left: 0,
            answered: false,
            refused: false,
            usable: true,
            approximated_by: None,
            hedged: false,
            sent: false,
        })
    }

    /// A query joins a batch that fills.
    pub(crate) fn new_query(
        &mut self,
        batch: BatchId,
        arrival: &Arrival,
        now: Time,
        deadline: Time,
    ) -> QueryId {
        let query = self.queries.insert(Query {
            row: arrival.row,
            request: arrival.request,
            arrived: now,
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
        let batch = &mut self.batches[batch];
        batch.queries.push(query);
        batch.open += 1;
        query
    }

    /// No more queries join a batch, which has this order from now on.
    pub(crate) fn seal(&mut self, batch: BatchId, seq: u64) {
        let batch = &mut self.batches[batch];
        batch.filling = false;
        batch.seq = seq;
        batch.left = batch.queries.len();
        batch.priority = u8::MAX;
        for (position, &query) in batch.queries.iter().enumerate() {
            let query = &mut self.queries[query];
            query.position = position;
            batch.priority = batch.priority.min(query.priority);
        }
    }

    /// A group that fills.
    pub(crate) fn new_group(&mut self, class: u64, k: usize, closes: Time) -> GroupId {
        self.groups.insert(Group {
            slots: Vec::with_capacity(k),
            class,
            filling: true,
            closes,
            abandoned: false,
            available: 0,
            priority: u8::MAX,
            open: 0,
            rebuildable: 0,
            works: Vec::new(),
        })
    }

    /// A batch takes the next slot of a group.
    pub(crate) fn join(&mut self, batch: BatchId, id: GroupId) {
        let (group, held) = (&mut self.groups[id], &mut self.batches[batch]);
        held.group = Some((id, group.slots.len()));
        group.slots.push(Slot::Batch(batch));
        group.priority = group.priority.min(held.priority);
        group.open += held.open;
        let allowed = held.queries.iter().filter(|&&query| self.queries[query].allow_reconstructed);
        group.rebuildable += allowed.count();
    }

    /// A known query takes the next slot of a group. Its prediction is at hand, which is an answer of a
    /// systematic code.
    pub(crate) fn complete(&mut self, id: GroupId, query: QueryId, systematic: bool) {
        let group = &mut self.groups[id];
        if systematic {
            group.available |= 1 << group.slots.len();
        }
        group.slots.push(Slot::Known(query));
        self.queries[query].holders += 1;
    }

    /// A query is over: nobody waits for its answer.
    pub(crate) fn close(&mut self, query: QueryId) {
        let held = &mut self.queries[query];
        held.answered = true;
        let batch = &mut self.batches[held.batch];
        batch.open -= 1;
        if let Some((group, _)) = batch.group {
            let group = &mut self.groups[group];
            group.open -= 1;
            group.rebuildable -= usize::from(held.allow_reconstructed);
        }
    }

    /// One more holds a query.
    pub(crate) fn hold(&mut self, query: QueryId) {
        self.queries[query].holders += 1;
    }

    /// One holder of a query needs it no more; its row, if that was the last one: the query is gone then.
    pub(crate) fn release(&mut self, query: QueryId) -> Option<u64> {
        let held = &mut self.queries[query];
        held.holders -= 1;
        if held.holders > 0 {
            return None;
        }
        self.queries.remove(query).map(|query| query.row)
    }

    /// Work, listed with its owner.
    pub(crate) fn add_work(&mut self, work: Work) -> CallId {
        let call = self.works.insert(work);
        self.works_of(work.owner).push(call);
        call
    }

    /// Takes work from its owner; it is gone then.
    pub(crate) fn remove_work(&mut self, call: CallId) -> Work {
        let work = self.works[call];
        self.works.remove(call);
        self.works_of(work.owner).retain(|&other| other != call);
        work
    }

    fn works_of(&mut self, owner: Owner) -> &mut Vec<CallId> {
        match owner {
            Owner::Batch(batch) => &mut self.batches[batch].works,
            Owner::Group(group) => &mut self.groups[group].works,
        }
    }

    /// Takes a batch, whose queries are to be released.
    pub(crate) fn remove_batch(&mut self, batch: BatchId) -> Option<Batch> {
        self.batches.remove(batch)
    }

    /// Takes a group, whose batches and known queries are to be released.
    pub(crate) fn remove_group(&mut self, group: GroupId) -> Option<Group> {
        self.groups.remove(group)
    }
}
