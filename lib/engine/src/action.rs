//! The actions of an engine, which its driver executes.

use crate::arena::{CallId, GroupId, InstanceId, QueryId};
use crate::auto::State;
use crate::mask::Mask;

/// An action. The driver executes actions in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Send work to an instance; [`crate::Engine::call`] says what. If it does not know the call,
    /// the instance was lost in the same event, after a timer that was due before it.
    Dispatch {
        /// The call; its end is reported with this id.
        call: CallId,
        /// The instance.
        instance: InstanceId,
    },
    /// The answer of this call is no longer needed. If [`crate::Engine::call`] still knows it, cancel it and
    /// report [`crate::Engine::cancelled`], or let it finish and report its end. Otherwise the call timed
    /// out.
    Cancel {
        /// The call.
        call: CallId,
        /// Its instance.
        instance: InstanceId,
    },
    /// Rebuild a prediction, and report with [`crate::Engine::decoded`] whether it can be used: at once, or
    /// later if decoding takes long. Then the query is answered, or waits further. Copy the inputs of
    /// decoding now: the group may be dropped before decoding ends.
    Rebuild {
        /// The query.
        query: QueryId,
        /// Its row.
        row: u64,
        /// How to rebuild it.
        decode: Decode,
    },
    /// Answer a query. Each query is answered once, unless it was cancelled.
    Answer {
        /// The query.
        query: QueryId,
        /// Its row.
        row: u64,
        /// The answer.
        outcome: Outcome,
        /// True if the deadline has passed.
        late: bool,
    },
    /// The prediction of a query has arrived that was answered with a reconstruction, or would have been in
    /// shadow mode: compare the two, and report the result with [`crate::Engine::compared`].
    Compare {
        /// The query.
        query: QueryId,
        /// Its row.
        row: u64,
        /// How it was rebuilt.
        decode: Decode,
    },
    /// A row is no longer needed. Each row is released once, after its answer.
    Release {
        /// The row.
        row: u64,
    },
    /// The parity outputs or coded outputs of a group are no longer needed.
    Drop {
        /// The group.
        group: GroupId,
    },
    /// Probe an ejected instance, and report the result with [`crate::Engine::probed`].
    Probe {
        /// The instance.
        instance: InstanceId,
    },
    /// An instance was ejected; for the log.
    Ejected {
        /// The instance.
        instance: InstanceId,
    },
    /// An ejected instance gets work again; for the log.
    Healed {
        /// The instance.
        instance: InstanceId,
    },
    /// The policy `auto` has another state; for the log and the journal.
    State {
        /// The state.
        state: State,
        /// The load that led to it: the average number of first calls that run.
        load: f64,
    },
    /// Coding was switched off; for the log.
    CodingOff {
        /// The reason.
        reason: CodingOff,
    },
}

/// The answer to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The deployed model's prediction.
    Prediction {
        /// The instance that answered.
        instance: InstanceId,
        /// True if the call was a replica or a hedge.
        copy: bool,
    },
    /// The reconstruction of the last [`Action::Rebuild`].
    Reconstructed(Decode),
    /// The answer of the approximate model.
    Approximate {
        /// The instance that answered.
        instance: InstanceId,
    },
    /// A default answer.
    Default(Reason),
    /// The refusal of an instance, the last one reported with [`crate::Engine::refused`].
    Refused,
}

/// How to rebuild one prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    /// The group.
    pub group: GroupId,
    /// The slot of the prediction.
    pub slot: usize,
    /// Its row in the batches.
    pub row: usize,
    /// The workers whose answers are available.
    pub available: Mask,
    /// The slots without a query in this row; they are encoded and decoded as zeros.
    pub absent: Mask,
}

/// The reason of a default answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its deadline passed.
    Deadline,
    /// All calls for it failed, and coding cannot rebuild it.
    Failed,
}

/// The reason why coding is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingOff {
    /// Too few reconstructions agree with the predictions.
    Agreement,
    /// The deployed model is not the version that the code was made for.
    Version,
}

/// The reason why a query is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Too many queries are held.
    #[error("overloaded: {held} queries are held, the limit is {limit}")]
    Queries {
        /// The number of queries that are held.
        held: usize,
        /// The limit.
        limit: usize,
        /// The time until the work that waits now has been sent, in ns.
        retry: u64,
    },
    /// Too many batches wait.
    #[error("overloaded: {queued} batches wait for an instance, the limit is {limit}")]
    Queue {
        /// The number of batches that wait.
        queued: usize,
        /// The limit.
        limit: usize,
        /// The time until the work that waits now has been sent, in ns.
        retry: u64,
    },
    /// Its deadline has passed.
    #[error("the deadline passed {late} ns before the query arrived")]
    Expired {
        /// The time since the deadline, in ns.
        late: u64,
    },
}
