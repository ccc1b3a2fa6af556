//! What an engine tells its driver.

use crate::arena::{CallId, GroupId, InstanceId, QueryId};
use crate::mask::Mask;

/// What the driver is to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Send work to an instance; [`crate::Engine::call`] says what. If it does not know the call,
    /// the instance was lost in the same event, after a timer that was due before it.
    Dispatch {
        /// The call, by which its end is reported.
        call: CallId,
        /// Where it goes.
        instance: InstanceId,
    },
    /// Nobody waits for this call any more. If [`crate::Engine::call`] still knows it, its end must
    /// be reported, by [`crate::Engine::cancelled`] if it is broken off; otherwise it took too long and was
    /// given up.
    Cancel {
        /// The call.
        call: CallId,
        /// Where it runs.
        instance: InstanceId,
    },
    /// Rebuild a prediction, and report with [`crate::Engine::decoded`] whether it can be given: at once, or
    /// later, where that takes long. The query is answered then, or waits on. What it is rebuilt from is taken
    /// now: its group may be dropped meanwhile, if the prediction comes first.
    Rebuild {
        /// The query.
        query: QueryId,
        /// Its row.
        row: u64,
        /// What it is rebuilt from.
        decode: Decode,
    },
    /// Answer a query. Each query is answered once, unless it was cancelled.
    Answer {
        /// The query.
        query: QueryId,
        /// Its row.
        row: u64,
        /// With what.
        outcome: Outcome,
        /// The deadline has passed.
        late: bool,
    },
    /// The prediction of a query is there that was rebuilt, or would have been in shadow mode:
    /// compare the two, and report with [`crate::Engine::compared`].
    Compare {
        /// The query.
        query: QueryId,
        /// Its row.
        row: u64,
        /// What it was rebuilt from.
        decode: Decode,
    },
    /// A row is not needed any more. Each row is released once, after its answer.
    Release {
        /// The row.
        row: u64,
    },
    /// A group's parity outputs or coded outputs are not needed any more.
    Drop {
        /// The group.
        group: GroupId,
    },
    /// See whether an ejected instance works, and report with [`crate::Engine::probed`].
    Probe {
        /// The instance.
        instance: InstanceId,
    },
    /// An instance was taken out of rotation: for the log.
    Ejected {
        /// The instance.
        instance: InstanceId,
    },
    /// An instance is in rotation again: for the log.
    Healed {
        /// The instance.
        instance: InstanceId,
    },
    /// Coding was switched off: for the log.
    CodingOff {
        /// Why.
        reason: CodingOff,
    },
}

/// With what a query is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The deployed model's prediction.
    Prediction {
        /// The instance that gave it.
        instance: InstanceId,
        /// It was sent there a second time, as a replica or a hedge.
        copy: bool,
    },
    /// A reconstruction: the one that the driver was told to rebuild last.
    Reconstructed(Decode),
    /// The answer of the approximate model.
    Approximate {
        /// The instance that gave it.
        instance: InstanceId,
    },
    /// A default answer.
    Default(Reason),
    /// Instances refuse it: what the last one said, which [`crate::Engine::refused`] told of.
    Refused,
}

/// How one prediction is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    /// The group.
    pub group: GroupId,
    /// The slot that is rebuilt.
    pub slot: usize,
    /// The row of the batches.
    pub row: usize,
    /// The workers whose answers are at hand.
    pub available: Mask,
    /// The slots that have no query in this row: encoded as if they were zero, and decoded so.
    pub absent: Mask,
}

/// Why a query got a default answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its deadline passed.
    Deadline,
    /// All calls for it failed, and coding cannot rebuild it.
    Failed,
}

/// Why coding is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingOff {
    /// Reconstructions agree too seldom with the deployed model.
    Agreement,
    /// The deployed model is not the version that the code was made for.
    Version,
}

/// Why a query is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Too many queries are held.
    #[error("overloaded: {held} queries are held, at most {limit} may be")]
    Queries {
        /// Queries that are held.
        held: usize,
        /// The most that may be.
        limit: usize,
    },
    /// Too many batches wait.
    #[error("overloaded: {queued} batches wait for an instance, at most {limit} may")]
    Queue {
        /// Batches that wait.
        queued: usize,
        /// The most that may.
        limit: usize,
    },
    /// Its deadline has passed.
    #[error("the deadline passed {late} ns before the query arrived")]
    Expired {
        /// How long ago, in ns.
        late: u64,
    },
}
