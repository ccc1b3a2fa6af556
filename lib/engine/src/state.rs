//! What an engine holds.

use crate::Time;
use crate::action::Decode;
use crate::arena::{BatchId, CallId, GroupId, InstanceId, QueryId};
use crate::health::Health;
use crate::mask::Mask;

/// What an instance can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The deployed model.
    Deployed,
    /// The approximate model.
    Approximate,
    /// A parity model, by its index.
    Parity(usize),
}

impl Role {
    /// The index of its pool.
    pub(crate) fn pool(self) -> usize {
        match self {
            Self::Deployed => 0,
            Self::Approximate => 1,
            Self::Parity(parity) => parity.saturating_add(2),
        }
    }
}

/// The roles of an instance. Work is taken in this order: deployed, approximate, parity by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// It runs the deployed model.
    pub deployed: bool,
    /// It runs the approximate model.
    pub approximate: bool,
    /// The parity models that it runs, by index.
    pub parity: Mask,
}

impl Roles {
    /// Only the deployed model.
    pub const DEPLOYED: Self = Self { deployed: true, approximate: false, parity: 0 };
    /// Only the approximate model.
    pub const APPROXIMATE: Self = Self { deployed: false, approximate: true, parity: 0 };

    /// Only one parity model.
    #[must_use]
    pub fn parity(parity: usize) -> Self {
        Self { parity: 1_u128.checked_shl(parity as u32).unwrap_or(0), ..Self::default() }
    }

    /// The deployed model and all r parity models: the placement *pooled*.
    #[must_use]
    pub fn pooled(r: usize) -> Self {
        Self { deployed: true, approximate: false, parity: crate::mask::ones(r) }
    }
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Runs the deployed model on a batch.
    Deployed,
    /// The same, a second time: a replica or a hedge.
    Copy,
    /// Runs the approximate model on a batch.
    Approximate,
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
    /// Whose model it runs.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Deployed | Self::Copy | Self::Coded { .. } => Role::Deployed,
            Self::Approximate => Role::Approximate,
            Self::Parity { parity, .. } => Role::Parity(parity),
        }
    }
}

/// A call that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it does.
    pub task: Task,
    /// Where.
    pub instance: InstanceId,
    /// Rows of its batch.
    pub rows: usize,
    /// How long it waited for the instance.
    pub waited: Time,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that are independent of each other
pub(crate) struct Query {
    pub(crate) row: u64,
    /// The request that it is of.
    pub(crate) request: u64,
    pub(crate) arrived: Time,
    pub(crate) deadline: Time,
    pub(crate) priority: u8,
    pub(crate) allow_reconstructed: bool,
    pub(crate) class: u64,
    pub(crate) answered: bool,
    /// Its prediction is at hand, or was refused.
    pub(crate) done: bool,
    pub(crate) grace_set: bool,
    pub(crate) batch: BatchId,
    /// Its row of the batch.
    pub(crate) position: usize,
    /// Its batch, the known queries, and groups that it completes.
    pub(crate) holders: u32,
    /// How it was rebuilt, or would have been.
    pub(crate) rebuilt: Option<Decode>,
    /// How the driver is told to rebuild it, until it says whether it can.
    pub(crate) rebuilding: Option<Decode>,
    /// The answers that did not give a reconstruction; 0: none did not.
    pub(crate) undecodable: Mask,
}

/// Which queries share a batch while it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchKey {
    pub(crate) class: u64,
    /// They join no coding group: their answers must be the deployed model's own, and the code gives
    /// reconstructions alone.
    pub(crate) uncoded: bool,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that are independent of each other
pub(crate) struct Batch {
    pub(crate) queries: Vec<QueryId>,
    pub(crate) key: BatchKey,
    pub(crate) filling: bool,
    pub(crate) priority: u8,
    /// Its place in queues.
    pub(crate) seq: u64,
    pub(crate) first_arrived: Time,
    /// Queries without an answer.
    pub(crate) open: usize,
    pub(crate) group: Option<(GroupId, usize)>,
    /// Work of the batch itself that is queued or runs.
    pub(crate) works: Vec<CallId>,
    /// Rows whose prediction is not at hand, and was not refused.
    pub(crate) left: usize,
    /// There are none left.
    pub(crate) answered: bool,
    /// Some of its rows were refused.
    pub(crate) refused: bool,
    /// Its predictions serve to rebuild others.
    pub(crate) usable: bool,
    /// Who gave the approximate model's answers.
    pub(crate) approximated_by: Option<InstanceId>,
    pub(crate) hedged: bool,
    /// Its queries themselves were sent or queued.
    pub(crate) sent: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    Batch(BatchId),
    /// One query, in every row.
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
    /// From slot 0; fewer than k while it fills, or when it is coded shorter.
    pub(crate) slots: Vec<Slot>,
    pub(crate) class: u64,
    pub(crate) filling: bool,
    /// Nothing is rebuilt from it.
    pub(crate) abandoned: bool,
    /// The workers whose answers are at hand.
    pub(crate) available: Mask,
    /// The highest of its batches.
    pub(crate) priority: u8,
    /// Queries without an answer.
    pub(crate) open: usize,
    /// Of these, those that may be rebuilt.
    pub(crate) rebuildable: usize,
    /// Coded work that is queued or runs.
    pub(crate) works: Vec<CallId>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    Batch(BatchId),
    Group(GroupId),
}

/// Instances that failed at something, as far as they are remembered: the last few.
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

/// Rows of a batch, from one to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) task: Task,
    pub(crate) owner: Owner,
    /// The rows of its batch that it is for; none: all.
    pub(crate) part: Option<Part>,
    /// The instance that refused it first, and when it was sent there.
    pub(crate) refused_by: Option<(InstanceId, Time)>,
    /// Redundant work waits for all other work.
    pub(crate) redundant: bool,
    pub(crate) priority: u8,
    pub(crate) seq: u64,
    pub(crate) attempts: u8,
    /// Since when it is queued, or was.
    pub(crate) queued: Time,
    /// Where it failed.
    pub(crate) avoid: Avoid,
    /// Where it runs and since when, if it does.
    pub(crate) running: Option<(InstanceId, Time)>,
    pub(crate) cancelled: bool,
}

impl Work {
    /// True if it is for a row of its batch.
    pub(crate) fn covers(&self, position: usize) -> bool {
        self.part.is_none_or(|part| (part.from..part.to).contains(&position))
    }
}

#[derive(Debug)]
pub(crate) struct Instance {
    /// The pools of its roles, in the order of their work.
    pub(crate) pools: Vec<usize>,
    pub(crate) capacity: usize,
    pub(crate) running: Vec<CallId>,
    pub(crate) health: Health,
    /// Its key among those with room, if it is there.
    pub(crate) ready: Option<u64>,
    pub(crate) last_sent: u64,
}

impl Instance {
    /// True if it may get work now.
    pub(crate) fn has_room(&self) -> bool {
        self.health.is_in() && self.running.len() < self.capacity
    }
}
