//! The counters, which become metrics.

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Queries that were accepted.
    pub queries: u64,
    /// Queries that were rejected.
    pub rejected: u64,
    /// Queries whose client gave up.
    pub cancelled: u64,
    /// Queries answered with a prediction of the deployed model.
    pub predictions: u64,
    /// Predictions of replicas and hedges among these.
    pub copies_won: u64,
    /// Queries answered with a reconstruction.
    pub reconstructed: u64,
    /// Queries that would have got a reconstruction, in shadow mode.
    pub shadow: u64,
    /// Queries answered by the approximate model.
    pub approximate: u64,
    /// Default answers at the deadline.
    pub default_deadline: u64,
    /// Default answers since all calls failed.
    pub default_failed: u64,
    /// Queries that instances refused.
    pub refused: u64,
    /// Answers after the deadline.
    pub late: u64,
    /// Predictions that arrived after a reconstruction.
    pub late_after_reconstruction: u64,
    /// Batches that were sent or queued.
    pub batches: u64,
    /// Groups whose k slots were filled with batches.
    pub groups_full: u64,
    /// Groups completed with known queries.
    pub groups_completed: u64,
    /// Groups coded with fewer queries.
    pub groups_shorter: u64,
    /// Groups that were not coded, since all their queries were answered when the group delay was over.
    pub groups_unneeded: u64,
    /// Calls of all kinds.
    pub calls: u64,
    /// Batches of parity queries that were answered.
    pub parity_answers: u64,
    /// Those of these whose group missed no prediction any more.
    pub parity_useless: u64,
    /// Queued work that was dropped since it was no longer needed.
    pub work_cancelled: u64,
    /// Parity queries and copies that were dropped under load.
    pub shed: u64,
    /// Waiting work that was dropped since no query could be answered by its deadline.
    pub dropped_late: u64,
    /// Calls that were cancelled since they were no longer needed.
    pub calls_cancelled: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that were refused.
    pub refusals: u64,
    /// Refused batches that were sent again request by request.
    pub splits: u64,
    /// Reconstructions that could not be used.
    pub undecodable: u64,
    /// Calls that timed out.
    pub timeouts: u64,
    /// Work that was sent again.
    pub retries: u64,
    /// Hedges that were sent.
    pub hedges: u64,
    /// Late calls that were not sent again since the budget was spent.
    pub hedges_unpaid: u64,
    /// Times that a reconstruction was withheld since `max_reconstructed` was reached.
    pub reconstructions_unpaid: u64,
    /// Changes of the state of the policy `auto`.
    pub state_changes: u64,
    /// Comparisons that agreed.
    pub agreed: u64,
    /// Comparisons that did not agree.
    pub disagreed: u64,
    /// Ejections of instances.
    pub ejections: u64,
    /// Ejected instances that got work again.
    pub healed: u64,
    /// Events that were ignored, of calls, queries or instances that the engine does not hold.
    pub ignored: u64,
    /// Events whose time was before that of an earlier one.
    pub out_of_order: u64,
}
