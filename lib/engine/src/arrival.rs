//! Queries as they arrive.

use crate::Time;

/// How much redundancy a query gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedundancyLevel {
    /// None: it takes part in no group, and is sent once, apart from retries.
    None,
    /// What the policy gives.
    #[default]
    Normal,
    /// What the policy gives, before all others: its second call is sent though the budget is spent, and the
    /// parity queries of its group are sent before others. The policy `auto` codes it, or sends its late call again,
    /// in each state.
    Critical,
}

/// A query that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The driver's number of it; the engine only repeats it.
    pub row: u64,
    /// When it must be answered; none: after the time that the configuration says.
    pub deadline: Option<Time>,
    /// What waits is sent in this order, 0 first.
    pub priority: u8,
    /// False if its answer must be the deployed model's own: no reconstruction, no approximation.
    pub allow_reconstructed: bool,
    /// False if it must not be coded with others: it is answered, but takes part in no group.
    pub coded: bool,
    /// How much redundancy it gets.
    pub redundancy: RedundancyLevel,
    /// The driver's number of the request that it is of: of a batch that is refused, the queries of one
    /// request are sent again together.
    pub request: u64,
    /// Only queries of one class share batches and coding groups; 0 where there is one class.
    pub class: u64,
}

impl Arrival {
    /// A query without wishes, which is a request of its own.
    #[must_use]
    pub fn new(row: u64) -> Self {
        Self {
            row,
            deadline: None,
            priority: 0,
            allow_reconstructed: true,
            coded: true,
            redundancy: RedundancyLevel::Normal,
            request: row,
            class: 0,
        }
    }
}
