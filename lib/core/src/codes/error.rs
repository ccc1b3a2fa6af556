//! What can be wrong with a code.

/// The most workers of a group: the limit on the size of every code.
pub const MAX_WORKERS: usize = 16_384;

/// Parameters that make no code.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodeError {
    /// A group without queries.
    #[error("found k = 0, expected at least 1 query in a group")]
    NoQueries,
    /// A matrix of weights of another size.
    #[error("found weights of {found_r}x{found_k}, expected r x k = {r}x{k}")]
    WeightShape {
        /// Rows found.
        found_r: usize,
        /// Columns found.
        found_k: usize,
        /// Parities of the code.
        r: usize,
        /// Queries of a group.
        k: usize,
    },
    /// Queries, stragglers or wrong answers of a number that makes no group of workers.
    #[error(
        "found {workers} workers for k = {k} queries, {stragglers} stragglers and {byzantine} wrong answers; \
         expected at most {MAX_WORKERS}"
    )]
    Workers {
        /// Workers of the group.
        workers: usize,
        /// Queries of the group.
        k: usize,
        /// Answers that may be missing.
        stragglers: usize,
        /// Answers that may be wrong.
        byzantine: usize,
    },
    /// More queries and parities than a group may have workers.
    #[error("found k = {k} queries and r = {r} parities, expected at most {MAX_WORKERS} together")]
    Size {
        /// Queries of a group.
        k: usize,
        /// Parities of a group.
        r: usize,
    },
    /// A code that is a trained network.
    #[error("found the code learned, expected the directory of a trained code")]
    Untrained,
    /// A weight of smoothness that is negative or not a number.
    #[error("found lambda {0}; expected a finite number from 0")]
    Lambda(f64),
    /// A weight that is infinite or not a number.
    #[error("found weight {value} for parity {parity}, slot {slot}; expected a finite number")]
    Weight {
        /// The weight.
        value: f64,
        /// Its parity.
        parity: usize,
        /// Its slot.
        slot: usize,
    },
}
