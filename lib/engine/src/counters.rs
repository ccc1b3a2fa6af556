//! What happened, in numbers.

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Queries that were taken.
    pub queries: u64,
    /// Queries that were rejected.
    pub rejected: u64,
    /// Queries whose client gave up.
    pub cancelled: u64,
    /// Queries answered with a prediction of the deployed model.
    pub predictions: u64,
    /// Of these, by a replica or a hedge.
    pub copies_won: u64,
    /// Queries answered with a reconstruction.
    pub reconstructed: u64,
    /// Queries that would have been, in shadow mode.
    pub shadow: u64,
    /// Queries answered by the approximate model.
    pub approximate: u64,
    /// Default answers at the deadline.
    pub default_deadline: u64,
    /// Default answers where all calls failed.
    pub default_failed: u64,
    /// Queries that instances refused.
    pub refused: u64,
    /// Answers after the deadline.
    pub late: u64,
    /// Predictions that came after a reconstruction.
    pub late_after_reconstruction: u64,
    /// Batches that were sent or queued.
    pub batches: u64,
    /// Groups whose k slots were filled with batches.
    pub groups_full: u64,
    /// Groups completed with known queries.
    pub groups_completed: u64,
    /// Groups coded with fewer queries.
    pub groups_shorter: u64,
    /// Groups that were not coded: all was answered when their time was up.
    pub groups_unneeded: u64,
    /// Calls of all kinds.
    pub calls: u64,
    /// Parity queries (batches of them) that were answered.
    pub parity_answers: u64,
    /// Of these, those of groups in which nothing was missing any more.
    pub parity_useless: u64,
    /// Queued work that was dropped since nobody needed it.
    pub work_cancelled: u64,
    /// Parity queries and copies given up under load.
    pub shed: u64,
    /// Calls that were broken off since nobody needed them.
    pub calls_cancelled: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that were refused.
    pub refusals: u64,
    /// Refused batches that were sent again request by request.
    pub splits: u64,
    /// Reconstructions that could not be given.
    pub undecodable: u64,
    /// Calls that took too long.
    pub timeouts: u64,
    /// Work that was sent again.
    pub retries: u64,
    /// Hedges that were sent.
    pub hedges: u64,
    /// Hedges that were due and had no budget.
    pub hedges_unpaid: u64,
    /// Comparisons that agreed.
    pub agreed: u64,
    /// Comparisons that did not.
    pub disagreed: u64,
    /// Instances taken out of rotation.
    pub ejections: u64,
    /// Instances that came back.
    pub healed: u64,
    /// Events that fitted nothing: of calls, queries or instances that are gone or never were.
    pub ignored: u64,
    /// Events whose time was before that of an earlier one.
    pub out_of_order: u64,
}
