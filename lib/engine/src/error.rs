//! What can be wrong with a configuration.

use crate::mask::MAX_WORKERS;

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A size or time of which there must be some.
    #[error("found {name} = 0, expected at least 1")]
    Zero {
        /// Its name.
        name: &'static str,
    },
    /// A number that is not a share, or not positive and finite.
    #[error("found {name} = {value}, expected {expected}")]
    Number {
        /// Its name.
        name: &'static str,
        /// The number.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// A code of no queries or too many workers.
    #[error(
        "found a code of k = {k} queries and n = {n} workers; expected k from 1 and n up to {MAX_WORKERS}"
    )]
    Workers {
        /// Queries of a group.
        k: usize,
        /// Workers of a group.
        n: usize,
    },
    /// A number of answers that no group has.
    #[error("found a code that decodes {enough} of n = {n} answers; expected 1 to {n}")]
    Enough {
        /// Answers that suffice.
        enough: usize,
        /// Workers of a group.
        n: usize,
    },
    /// A code whose answers are all reconstructions, in shadow mode.
    #[error(
        "found shadow mode with a code that answers every query by decoding; expected one with parity queries"
    )]
    Shadow,
    /// The policy `auto` with a code whose answers are all reconstructions.
    #[error(
        "found the policy auto with a code that answers every query by decoding; expected one with parity queries"
    )]
    Auto,
}

/// A delay in JSON that is not one.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(crate) enum DelayError {
    /// Neither or both of its fields.
    #[error("expected a delay with either ms or percentile")]
    Fields,
    /// A percentile that is none.
    #[error("found percentile = {percentile}, expected 0 to 100")]
    Percentile {
        /// The number.
        percentile: f64,
    },
    /// A time that is none.
    #[error(transparent)]
    Time(#[from] TimeError),
}

/// A time in JSON that is negative, no number or too long.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("found {found}, expected a time in ms from 0 to {longest}, a day")]
pub(crate) struct TimeError {
    /// The time, in ms.
    pub(crate) found: f64,
    /// The longest, in ms.
    pub(crate) longest: f64,
}
