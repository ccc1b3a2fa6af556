//! Fault models of synthetic instances: how long a call takes, and whether it is answered.
//!
//! The server's synthetic instances, the tests and the simulator use the same models. All random numbers come
//! from a seed and the instance's number. Periods (slow, crashed) and calls use different random streams, so
//! that an instance is slow at the same moments however many calls it gets.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Exp1, StandardNormal, StandardUniform};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Time;

mod periods;
mod shared;

use periods::Periods;
pub use shared::{Conditions, Faults, Racks, Shared, Shuffles};

/// Nanoseconds of a millisecond.
const MS: f64 = 1e6;

/// The times and faults of a synthetic instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Behavior {
    /// The time of a call of one row.
    pub service: Service,
    /// The additional time for each further row of a batch, in ms.
    pub per_row_ms: f64,
    /// The time on the network, both ways together.
    pub network: Service,
    /// Periods in which calls take longer.
    pub slow: Option<Slow>,
    /// Periods in which calls fail at once.
    pub crash: Option<Crash>,
    /// The share of calls that fail.
    pub errors: f64,
    /// The share of calls that are never answered.
    pub hangs: f64,
    /// Calls that are answered late.
    pub late: Option<Late>,
}

/// A distribution of times, in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "distribution", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Service {
    /// A constant time.
    Constant {
        /// The time.
        ms: f64,
    },
    /// A normal distribution, cut at 0.
    Normal {
        /// The mean.
        mean_ms: f64,
        /// The standard deviation.
        deviation_ms: f64,
    },
    /// An exponential distribution.
    Exponential {
        /// The mean.
        mean_ms: f64,
    },
    /// A log-normal distribution.
    LogNormal {
        /// The median.
        median_ms: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// One of a list of times, all equally likely.
    Measured {
        /// The times.
        times_ms: Vec<f64>,
    },
    /// A distribution by its quantiles, linear between them.
    Quantiles {
        /// The share of times that are at most this long, and the time: from share 0 to share 1.
        quantiles: Vec<(f64, f64)>,
    },
}

impl Default for Service {
    fn default() -> Self {
        Self::Constant { ms: 0.0 }
    }
}

/// Periods in which calls take longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// The share of time that is slow.
    pub share: f64,
    /// The length of one period, in ms; the times between periods are exponentially distributed.
    pub length_ms: f64,
    /// The factor by which calls that begin in a period take longer.
    pub factor: f64,
}

/// Crashes and restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// The mean time between a restart and the next crash, in ms, exponentially distributed.
    pub every_ms: f64,
    /// The length of a crash, in ms.
    pub down_ms: f64,
}

/// Late answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// The share of calls that are answered late.
    pub share: f64,
    /// The additional time, in ms.
    pub by_ms: f64,
}

/// An invalid value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("found {name} = {value}, expected {expected}")]
pub struct BehaviorError {
    /// The name of the field.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// The valid values.
    pub expected: &'static str,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered after this time.
    Answer(Time),
    /// It fails after this time.
    Fail(Time),
    /// It is never answered.
    Hang,
}

/// A synthetic instance.
#[derive(Clone, Debug)]
pub struct Synthetic {
    behavior: Arc<Behavior>,
    calls: ChaCha8Rng,
    slow: Option<Periods>,
    crash: Option<Periods>,
}

impl Behavior {
    /// Checks the values.
    ///
    /// # Errors
    /// A time that is negative or not finite, or a share outside 0 to 1.
    pub fn check(&self) -> Result<(), BehaviorError> {
        self.service.check()?;
        self.network.check()?;
        duration("per_row_ms", self.per_row_ms)?;
        self.slow.as_ref().map_or(Ok(()), Slow::check)?;
        self.crash.as_ref().map_or(Ok(()), Crash::check)?;
        let late = self.late.as_ref().map_or(0.0, |late| late.share);
        duration("by_ms", self.late.as_ref().map_or(0.0, |late| late.by_ms))?;
        for (name, value) in [("errors", self.errors), ("hangs", self.hangs), ("late", late)] {
            require(name, value, (0.0..=1.0).contains(&value), "a share from 0 to 1")?;
        }
        let faults = self.errors + self.hangs + late;
        require("errors + hangs + late", faults, faults <= 1.0, "at most 1")
    }
}

impl Slow {
    fn check(&self) -> Result<(), BehaviorError> {
        let &Self { share, length_ms, factor } = self;
        require("share", share, share > 0.0 && share < 1.0, "a share above 0 and below 1")?;
        require("length_ms", length_ms, length_ms.is_finite() && length_ms > 0.0, "a number above 0")?;
        require("factor", factor, factor.is_finite() && factor >= 1.0, "a number from 1")
    }

    fn periods(&self, random: ChaCha8Rng) -> Periods {
        Periods::new(random, self.length_ms * (1.0 - self.share) / self.share, self.length_ms)
    }
}

impl Crash {
    fn check(&self) -> Result<(), BehaviorError> {
        let &Self { every_ms, down_ms } = self;
        require("every_ms", every_ms, every_ms.is_finite() && every_ms > 0.0, "a number above 0")?;
        require("down_ms", down_ms, down_ms.is_finite() && down_ms > 0.0, "a number above 0")
    }

    fn periods(&self, random: ChaCha8Rng) -> Periods {
        Periods::new(random, self.every_ms, self.down_ms)
    }
}

fn duration(name: &'static str, ms: f64) -> Result<(), BehaviorError> {
    require(name, ms, ms.is_finite() && ms >= 0.0, "a finite number from 0")
}

fn require(name: &'static str, value: f64, good: bool, expected: &'static str) -> Result<(), BehaviorError> {
    if good { Ok(()) } else { Err(BehaviorError { name, value, expected }) }
}

impl Synthetic {
    /// An instance that starts at time 0.
    ///
    /// # Errors
    /// The errors of [`Behavior::check`].
    pub fn new(behavior: impl Into<Arc<Behavior>>, seed: u64, instance: u64) -> Result<Self, BehaviorError> {
        let behavior = behavior.into();
        behavior.check()?;
        let stream = |number: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // The load generator uses stream 0.
            random.set_stream(instance.wrapping_mul(3).wrapping_add(1 + number));
            random
        };
        let slow = behavior.slow.as_ref().map(|slow| slow.periods(stream(1)));
        let crash = behavior.crash.as_ref().map(|crash| crash.periods(stream(2)));
        Ok(Self { calls: stream(0), slow, crash, behavior })
    }

    /// The outcome of a call of `rows` rows that begins now under these conditions; `now` never decreases.
    pub fn call(&mut self, now: Time, rows: usize, around: Conditions) -> Fate {
        let ms = now as f64 / MS;
        // Every call draws all of them, so that the times of calls are the same with and without faults.
        let chance: f64 = self.calls.sample(StandardUniform);
        let one = self.behavior.service.sample(&mut self.calls);
        let network = self.behavior.network.sample(&mut self.calls) * around.network;
        if self.crash.as_mut().is_some_and(|crash| crash.covers(ms)) || around.down {
            return Fate::Fail(0);
        }
        let is_slow = self.slow.as_mut().is_some_and(|slow| slow.covers(ms));
        let factor = self.behavior.slow.as_ref().filter(|_| is_slow).map_or(1.0, |slow| slow.factor);
        let further = self.behavior.per_row_ms * rows.saturating_sub(1) as f64;
        let time = (one + further + network) * factor * around.slow;
        let Behavior { errors, hangs, .. } = *self.behavior;
        if chance < errors {
            Fate::Fail((time * MS) as Time)
        } else if chance < errors + hangs {
            Fate::Hang
        } else {
            let is_late = |late: &&Late| chance < errors + hangs + late.share;
            let late = self.behavior.late.as_ref().filter(is_late).map_or(0.0, |late| late.by_ms);
            Fate::Answer(((time + late) * MS) as Time)
        }
    }

    /// True if it is up now, so that a probe succeeds; `now` never decreases.
    pub fn is_up(&mut self, now: Time, around: Conditions) -> bool {
        !around.down && !self.crash.as_mut().is_some_and(|crash| crash.covers(now as f64 / MS))
    }
}

impl Service {
    /// Checks the parameters.
    ///
    /// # Errors
    /// A time that is negative or not finite, or an empty list of times.
    pub fn check(&self) -> Result<(), BehaviorError> {
        match self {
            Self::Constant { ms } => duration("ms", *ms),
            Self::Normal { mean_ms, deviation_ms } => {
                duration("mean_ms", *mean_ms)?;
                duration("deviation_ms", *deviation_ms)
            }
            Self::Exponential { mean_ms } => duration("mean_ms", *mean_ms),
            Self::LogNormal { median_ms, sigma } => {
                duration("median_ms", *median_ms)?;
                duration("sigma", *sigma)?;
                require("median_ms", *median_ms, *median_ms > 0.0, "a number above 0")
            }
            Self::Measured { times_ms } => {
                let count = times_ms.len() as f64;
                require("times_ms", count, count > 0.0, "at least one time")?;
                times_ms.iter().try_for_each(|&ms| duration("times_ms", ms))
            }
            Self::Quantiles { quantiles } => {
                let ends = [quantiles.first(), quantiles.last()]
                    .map(|end| end.map_or(f64::NAN, |&(share, _)| share));
                require("quantiles from", ends[0], ends[0] == 0.0, "share 0 first")?;
                require("quantiles to", ends[1], ends[1] == 1.0, "share 1 last")?;
                quantiles.iter().try_for_each(|&(_, ms)| duration("quantiles", ms))?;
                let grows = |pair: &&[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
                let wrong = quantiles.windows(2).find(|pair| !grows(pair));
                wrong.map_or(Ok(()), |pair| {
                    require("quantiles", pair[1].0, false, "shares and times that grow")
                })
            }
        }
    }

    /// One random time, in ms. The parameters have passed [`Service::check`].
    pub fn sample(&self, random: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Constant { ms } => *ms,
            Self::Normal { mean_ms, deviation_ms } => {
                let unit: f64 = random.sample(StandardNormal);
                (mean_ms + deviation_ms * unit).max(0.0)
            }
            Self::Exponential { mean_ms } => {
                let unit: f64 = random.sample(Exp1);
                mean_ms * unit
            }
            Self::LogNormal { median_ms, sigma } => {
                let unit: f64 = random.sample(StandardNormal);
                median_ms * (sigma * unit).exp()
            }
            Self::Measured { times_ms } => {
                times_ms.get(random.random_range(0..times_ms.len().max(1))).copied().unwrap_or(0.0)
            }
            Self::Quantiles { quantiles } => {
                let unit: f64 = random.sample(StandardUniform);
                let above = quantiles.partition_point(|&(share, _)| share <= unit);
                match (quantiles.get(above.wrapping_sub(1)), quantiles.get(above)) {
                    (Some((from, low)), Some((to, high))) => low + (high - low) * (unit - from) / (to - from),
                    _ => 0.0,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
