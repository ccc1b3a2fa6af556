//! The configuration of an engine: its policies, with their defaults and their JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Time;
use crate::code::CodeRule;
use crate::error::{ConfigError, DelayError};

/// One millisecond.
const MS: Time = 1_000_000;

/// The largest number of calls for a query that [`Auto::max_calls`] can allow.
const MOST_CALLS: f64 = 10.0;

/// The configuration of an engine.
#[derive(Debug)]
pub struct Config {
    /// The most queries of a batch.
    pub max_batch: usize,
    /// How long a query waits for others to fill its batch.
    pub batch_delay: Time,
    /// The time that calls of the deployed model should take at most. The size of batches grows by one after
    /// each full batch within this time, and shrinks by a tenth after each one beyond it. None: it is
    /// `max_batch`.
    pub batch_target: Option<Time>,
    /// The policy against late and lost answers.
    pub policy: Policy,
    /// When a query gets a reconstruction, or an answer of the approximate model, in place of its prediction.
    pub when: When,
    /// True: predictions are rebuilt and compared, but never answered with.
    pub shadow: bool,
    /// Which of several free instances gets work.
    pub balance: Balance,
    /// The time to answer a query without a deadline of its own.
    pub deadline: Time,
    /// The timeout of a call. A call that times out has failed, and its work is sent again.
    pub call_timeout: Time,
    /// The most calls for one piece of work.
    pub max_attempts: u8,
    /// The most queries that are held, answered or not; further ones are rejected.
    pub max_queries: usize,
    /// The most batches that wait for an instance; beyond it, queries are rejected. As many batches of parity
    /// queries and copies may wait; beyond it, the oldest are dropped.
    pub max_queue: usize,
    /// True: calls whose answers are no longer needed are cancelled. False: they finish, and their answers
    /// are compared with reconstructions.
    pub cancel_running: bool,
    /// When instances are ejected; none: never.
    pub ejection: Option<Ejection>,
}

impl Default for Config {
    /// No redundancy, no batches, one second to answer.
    fn default() -> Self {
        Self {
            max_batch: 1,
            batch_delay: 0,
            batch_target: None,
            policy: Policy::None,
            when: When::default(),
            shadow: false,
            balance: Balance::Pull,
            deadline: 1000 * MS,
            call_timeout: 1000 * MS,
            max_attempts: 3,
            max_queries: 65_536,
            max_queue: 16_384,
            cancel_running: false,
            ejection: None,
        }
    }
}

/// The policy against late and lost answers.
#[derive(Debug)]
pub enum Policy {
    /// No redundancy. With additional instances it is the baseline of equal resources.
    None,
    /// Each batch is sent to this number of instances; the first answer counts.
    Replicate(usize),
    /// A late call is sent a second time.
    Hedge(Hedge),
    /// Each batch is also sent to the approximate model, [`crate::Role::Approximate`].
    Approximate,
    /// Queries are coded in groups.
    Coded {
        /// How they are coded.
        groups: Groups,
        /// When a late call is sent again if coding cannot rebuild its predictions; none: never.
        hedge: Option<Hedge>,
    },
    /// The engine chooses among these policies by the load.
    Auto(Auto),
}

/// How queries are coded in groups.
#[derive(Debug)]
pub struct Groups {
    /// The code.
    pub code: CodeRule,
    /// The version of the deployed model that the code was made for.
    pub version: u64,
    /// How long a batch waits for others to fill its group.
    pub group_delay: Time,
    /// What happens to a group that does not fill in time.
    pub completion: Completion,
    /// The agreement below which coding is switched off; none: never.
    pub agreement: Option<Agreement>,
}

/// The policy that follows the load; see [`crate::State`] for its rule.
#[derive(Debug)]
pub struct Auto {
    /// How queries are coded; none: they are not.
    pub groups: Option<Groups>,
    /// When a late call is sent again.
    pub hedge: Hedge,
    /// The largest share of queries that get a reconstruction although their prediction may still come.
    pub max_reconstructed: f64,
    /// The most calls for each batch on average, retries not counted.
    pub max_calls: f64,
}

/// What happens to a group that does not fill in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The remaining slots get queries whose predictions are known; if there are too few, it is coded with
    /// fewer queries.
    Known,
    /// It is coded with fewer queries.
    Shorter,
}

/// When a low live agreement switches coding off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Agreement {
    /// The number of last comparisons that count.
    pub window: usize,
    /// The share of them that must agree, in 0..=1.
    pub at_least: f64,
}

impl Default for Agreement {
    fn default() -> Self {
        Self { window: 1000, at_least: 0.5 }
    }
}

/// When a query gets a reconstruction, or an answer of the approximate model, in place of its prediction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "when", rename_all = "kebab-case", deny_unknown_fields)]
pub enum When {
    /// As soon as there is one, as in ParM.
    First,
    /// After a delay from the arrival of the query, or when the prediction cannot come any more.
    Grace(Delay),
    /// At its deadline, or when the prediction cannot come any more.
    Deadline,
}

impl Default for When {
    fn default() -> Self {
        Self::Grace(Delay::P95)
    }
}

/// A delay: a fixed time, or a percentile of the times of answers. Its JSON is `{"ms": 30}` or
/// `{"percentile": 95, "until_known_ms": 100}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "DelayJson", into = "DelayJson")]
#[schemars(with = "DelayJson")]
pub enum Delay {
    /// A fixed time.
    Fixed(Time),
    /// A percentile of the times of the answers of the last 15 to 30 s.
    Percentile {
        /// The share, in 0..=1.
        share: f64,
        /// The delay until there are enough answers.
        until_known: Time,
    },
}

/// A [`Delay`] in JSON.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct DelayJson {
    /// The time, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    /// Or: the percentile of the times of the last answers, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    percentile: Option<f64>,
    /// With a percentile: the delay until there are enough answers, in ms.
    until_known_ms: f64,
}

impl Default for DelayJson {
    fn default() -> Self {
        Self { ms: None, percentile: None, until_known_ms: 100.0 }
    }
}

impl TryFrom<DelayJson> for Delay {
    type Error = DelayError;

    fn try_from(json: DelayJson) -> Result<Self, DelayError> {
        match (json.ms, json.percentile) {
            (Some(ms), None) => Ok(Self::Fixed(ms::to_ns(ms)?)),
            (None, Some(percent)) if (0.0..=100.0).contains(&percent) => {
                Ok(Self::Percentile { share: percent / 100.0, until_known: ms::to_ns(json.until_known_ms)? })
            }
            (None, Some(percentile)) => Err(DelayError::Percentile { percentile }),
            _ => Err(DelayError::Fields),
        }
    }
}

impl From<Delay> for DelayJson {
    fn from(delay: Delay) -> Self {
        match delay {
            Delay::Fixed(time) => Self { ms: Some(ms::from_ns(time)), ..Self::default() },
            Delay::Percentile { share, until_known } => Self {
                percentile: Some(share * 100.0),
                until_known_ms: ms::from_ns(until_known),
                ..Self::default()
            },
        }
    }
}

/// When a late call is sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// The delay after the call was sent; a percentile is one of the times of calls.
    #[serde(rename = "after")]
    pub delay: Delay,
    /// The number of second calls for each first call.
    pub budget: f64,
    /// The number of second calls that can be saved up.
    pub burst: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { delay: Delay::P95, budget: 0.05, burst: 10.0 }
    }
}

/// Which of several free instances gets work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The one that has been free longest; with a capacity of 1 this is a single queue.
    #[default]
    Pull,
    /// The one whose last call was sent earliest.
    RoundRobin,
    /// The one with the fewest calls.
    LeastOutstanding,
}

/// When instances are ejected, so that they get no work until a probe succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// The number of consecutive failures after which an instance is ejected.
    pub failures: u32,
    /// The multiple of the median time of its role (at least 0.1 ms) beyond which an instance is ejected. It
    /// is compared with a running mean over about four calls, in which a call counts at most twice this
    /// value, and concurrent slow calls count once; so several consecutive slow calls are needed.
    pub slowness: f64,
    /// The time to the first probe (in ms in JSON). It doubles with each consecutive ejection or failed
    /// probe, up to 64 times.
    #[serde(rename = "probe_ms", with = "ms")]
    #[schemars(with = "f64")]
    pub base: Time,
    /// The largest share of the instances of a role that is ejected at once, in 0..1.
    pub max_share: f64,
    /// The number of calls that an instance answers, since it joined or came back, before it can be ejected for
    /// slowness.
    pub min_calls: u32,
    /// How long an instance that comes back gets a second concurrent call only if no other instance is free (in
    /// ms in JSON).
    #[serde(rename = "slow_start_ms", with = "ms")]
    #[schemars(with = "f64")]
    pub slow_start: Time,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 3,
            slowness: 10.0,
            base: 200 * MS,
            max_share: 0.9,
            min_calls: 20,
            slow_start: 5000 * MS,
        }
    }
}

/// Times in JSON: milliseconds.
mod ms {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::MS;
    use crate::Time;
    use crate::error::TimeError;

    /// The longest time: a day, in ms.
    const LONGEST: f64 = 86_400_000.0;

    /// Milliseconds as nanoseconds.
    pub(super) fn to_ns(ms: f64) -> Result<Time, TimeError> {
        if (0.0..=LONGEST).contains(&ms) {
            return Ok((ms * MS as f64).round() as Time);
        }
        Err(TimeError { found: ms, longest: LONGEST })
    }

    /// Converts nanoseconds to milliseconds.
    pub(super) fn from_ns(time: Time) -> f64 {
        time as f64 / MS as f64
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde wants it
    pub(super) fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(from_ns(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        to_ns(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The first invalid value.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_batch", self.max_batch as u64),
            ("deadline", self.deadline),
            ("call_timeout", self.call_timeout),
            ("max_attempts", u64::from(self.max_attempts)),
            ("max_queries", self.max_queries as u64),
            ("max_queue", self.max_queue as u64),
        ];
        positive.into_iter().try_for_each(at_least_one)?;
        at_least_one(("batch_target", self.batch_target.unwrap_or(1)))?;
        if let When::Grace(delay) = self.when {
            delay.check()?;
        }
        if let Some(ejection) = &self.ejection {
            at_least_one(("failures", u64::from(ejection.failures)))?;
            at_least_one(("base", ejection.base))?;
            let above_one = ejection.slowness > 1.0;
            number("slowness", ejection.slowness, above_one, "more than 1")?;
            let share = (0.0..1.0).contains(&ejection.max_share);
            number("max_share", ejection.max_share, share, "a share from 0 and below 1")?;
        }
        match &self.policy {
            Policy::Replicate(copies) => at_least_one(("replicate", *copies as u64)),
            Policy::Hedge(hedge) => hedge.check(),
            Policy::Coded { groups, hedge } => {
                if self.shadow && !groups.code.is_systematic() {
                    return Err(ConfigError::Shadow);
                }
                groups.check()?;
                hedge.as_ref().map_or(Ok(()), Hedge::check)
            }
            Policy::Auto(auto) => auto.check(),
            Policy::None | Policy::Approximate => Ok(()),
        }
    }
}

impl Groups {
    fn check(&self) -> Result<(), ConfigError> {
        let Some(agreement) = self.agreement else { return Ok(()) };
        at_least_one(("window", agreement.window as u64))?;
        share("at_least", agreement.at_least)
    }
}

impl Auto {
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(groups) = &self.groups {
            if !groups.code.is_systematic() {
                return Err(ConfigError::Auto);
            }
            groups.check()?;
        }
        share("max_reconstructed", self.max_reconstructed)?;
        let calls = (1.0..=MOST_CALLS).contains(&self.max_calls);
        number("max_calls", self.max_calls, calls, "a number from 1 to 10")?;
        self.hedge.check()
    }
}

impl Delay {
    /// The 95th percentile of the last answers.
    const P95: Self = Self::Percentile { share: 0.95, until_known: 100 * MS };

    fn check(self) -> Result<(), ConfigError> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Percentile { share: of, .. } => share("share", of),
        }
    }

    /// The share of a percentile; arbitrary for a fixed time.
    pub(crate) fn share(self) -> f64 {
        match self {
            Self::Fixed(_) => 1.0,
            Self::Percentile { share, .. } => share,
        }
    }

    /// The time to wait when the percentile is `known`.
    pub(crate) fn time(self, known: Option<Time>) -> Time {
        match self {
            Self::Fixed(time) => time,
            Self::Percentile { until_known, .. } => known.unwrap_or(until_known),
        }
    }
}

impl Hedge {
    fn check(&self) -> Result<(), ConfigError> {
        self.delay.check()?;
        let budget = self.budget.is_finite() && self.budget >= 0.0;
        number("budget", self.budget, budget, "a finite number from 0")?;
        let burst = self.burst.is_finite() && self.burst >= 1.0;
        number("burst", self.burst, burst, "a finite number from 1")
    }
}

fn at_least_one((name, value): (&'static str, u64)) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::Zero { name }) } else { Ok(()) }
}

fn share(name: &'static str, value: f64) -> Result<(), ConfigError> {
    number(name, value, (0.0..=1.0).contains(&value), "a share from 0 to 1")
}

fn number(name: &'static str, value: f64, good: bool, expected: &'static str) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(ConfigError::Number { name, value, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_read_as_they_are_written() {
        let delay = |text: &str| serde_json::from_str::<Delay>(text).map_err(|error| error.to_string());
        assert_eq!(delay(r#"{"ms": 1.5}"#), Ok(Delay::Fixed(1_500_000)));
        let percentile = Delay::Percentile { share: 0.9, until_known: 7 * MS };
        assert_eq!(delay(r#"{"percentile": 90, "until_known_ms": 7}"#), Ok(percentile));
        assert_eq!(delay(r#"{"percentile": 95}"#), Ok(Delay::P95));
        for written in [Delay::Fixed(3), Delay::Fixed(36 * MS), percentile, Delay::P95] {
            assert_eq!(delay(&serde_json::to_string(&written).unwrap()), Ok(written));
        }
        for (text, expected) in [
            ("{}", "either ms or percentile"),
            (r#"{"ms": 1, "percentile": 2}"#, "either ms or percentile"),
            (r#"{"percentile": 101}"#, "expected 0 to 100"),
            (r#"{"ms": -1}"#, "expected a time in ms from 0 to 86400000, a day"),
            (r#"{"ms": 86400001}"#, "a day"),
            (r#"{"seconds": 1}"#, "unknown field"),
        ] {
            let error = delay(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
