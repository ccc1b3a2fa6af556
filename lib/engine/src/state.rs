//! The state of an engine: roles, calls, queries, batches, groups, instances and pools.

use std::collections::BTreeSet;

use crate::Time;
use crate::action::Decode;
use crate::arena::{BatchId, CallId, GroupId, InstanceId, QueryId};
use crate::code::Mask;
use crate::percentile::Percentile;

/// The role of an instance: the kind of model that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The deployed model.
    Deployed,
    /// The approximate model.
    Cheap,
    /// A parity model, by index.
    Parity(usize),
}

impl Role {
    /// The index of its pool.
    pub(crate) fn pool(self) -> usize {
        match self {
            Self::Deployed => 0,
            Self::Cheap => 1,
            Self::Parity(parity) => parity.saturating_add(2),
        }
    }
}

/// The roles of an instance. It takes work in this order: deployed, approximate, parity by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// True if it runs the deployed model.
    pub deployed: bool,
    /// True if it runs the approximate model.
    pub cheap: bool,
    /// The set of its parity models.
    pub parity: Mask,
}

impl Roles {
    /// Only the deployed model.
    pub const DEPLOYED: Self = Self { deployed: true, cheap: false, parity: 0 };
    /// Only the approximate model.
    pub const CHEAP: Self = Self { deployed: false, cheap: true, parity: 0 };

    /// Only one parity model.
    #[must_use]
    pub fn parity(parity: usize) -> Self {
        Self { parity: 1_u128.checked_shl(parity as u32).unwrap_or(0), ..Self::default() }
    }

    /// The deployed model and all r parity models: the placement *pooled*.
    #[must_use]
    pub fn pooled(r: usize) -> Self {
        Self { deployed: true, cheap: false, parity: crate::code::ones(r) }
    }
}

/// The task of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Runs the deployed model on a batch.
    Deployed,
    /// Runs the deployed model as a replica or a hedge.
    Copy,
    /// Runs the approximate model on a batch.
    Cheap,
    /// Encodes a group's parity batch, and runs its parity model.
    Parity {
        /// The group.
        group: GroupId,
        /// The parity.
        parity: usize,
    },
    /// Encodes a group's coded batch, and runs the deployed model.
    Coded {
        /// The group.
        group: GroupId,
        /// The worker of the group.
        worker: usize,
    },
}

impl Task {
    /// The role that it needs.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Deployed | Self::Copy | Self::Coded { .. } => Role::Deployed,
            Self::Cheap => Role::Cheap,
            Self::Parity { parity, .. } => Role::Parity(parity),
        }
    }
}

/// A running call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its task.
    pub task: Task,
    /// Its instance.
    pub instance: InstanceId,
    /// The number of rows of its batch.
    pub rows: usize,
    /// How long it waited for the instance.
    pub waited: Time,
}

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
    pub(crate) holders: u32,
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
    pub(crate) open: usize,
    pub(crate) group: Option<(GroupId, usize)>,
    /// Queued and running work of the batch itself.
    pub(crate) works: Vec<CallId>,
    /// The number of rows whose prediction is neither available nor refused.
    pub(crate) left: usize,
    /// True if there are no such rows.
    pub(crate) answered: bool,
    /// True if some of its rows were refused.
    pub(crate) refused: bool,
    /// True if its predictions can be used to rebuild others.
    pub(crate) usable: bool,
    /// The instance that answered with the approximate model.
    pub(crate) cheap: Option<InstanceId>,
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
    /// True if it rebuilds nothing any more.
    pub(crate) dead: bool,
    /// The workers whose answers are available.
    pub(crate) available: Mask,
    /// The highest priority of its batches.
    pub(crate) priority: u8,
    /// The number of queries without an answer.
    pub(crate) open: usize,
    /// The number of these that may be rebuilt.
    pub(crate) rebuildable: usize,
    /// Queued and running coded work.
    pub(crate) works: Vec<CallId>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    In,
    Ejected,
    Probing,
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Instance {
    /// The pools of its roles, in the order in which it takes work.
    pub(crate) pools: Vec<usize>,
    pub(crate) capacity: usize,
    pub(crate) running: Vec<CallId>,
    pub(crate) status: Status,
    /// Its key among the instances with free capacity, if it is one.
    pub(crate) ready: Option<u64>,
    pub(crate) last_sent: u64,
    pub(crate) failures: u32,
    pub(crate) ejections: u32,
    /// The time of its next probe, or of the probe's timeout.
    pub(crate) heal_at: Time,
    /// The running mean of its times, divided by the median of its role.
    pub(crate) slowness: f64,
    /// The end of the last slow call that counted.
    pub(crate) slow_at: Time,
    /// The time of the last failure that counted.
    pub(crate) failed_at: Time,
}

/// The order of queued work: redundant, priority, position.
pub(crate) type QueueKey = (bool, u8, u64, CallId);

/// The waiting work and the free instances of one role.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) queue: BTreeSet<QueueKey>,
    /// The number of redundant ones in the queue.
    pub(crate) redundant: usize,
    pub(crate) ready: BTreeSet<(u64, InstanceId)>,
    pub(crate) members: usize,
    pub(crate) ejected: usize,
    /// The median time of its calls.
    pub(crate) median: Percentile,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
            redundant: 0,
            ready: BTreeSet::new(),
            members: 0,
            ejected: 0,
            median: Percentile::new(0.5),
        }
    }

    /// True if an instance may take work: it has not failed it, or no other instance may be left that has
    /// not.
    pub(crate) fn may_give(&self, work: &Work, instance: InstanceId) -> bool {
        !work.avoid.has(instance) || self.members - self.ejected <= work.avoid.count()
    }
}
