//! Roles of instances, and what calls do.

use crate::Time;
use crate::arena::{GroupId, InstanceId};
use crate::mask::Mask;

/// The role of an instance: the kind of model that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The deployed model.
    Deployed,
    /// The approximate model.
    Approximate,
    /// A parity model, by index.
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
    /// True if it runs the deployed model.
    pub deployed: bool,
    /// True if it runs the approximate model.
    pub approximate: bool,
    /// The set of its parity models.
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
    /// Runs the deployed model as a replica or a hedge.
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
    /// The role that it needs.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Deployed | Self::Copy | Self::Coded { .. } => Role::Deployed,
            Self::Approximate => Role::Approximate,
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
