//! Instances that are not real: how long a call takes, and whether it is answered at all.
//!
//! The same models are behind the server's synthetic instances, the tests and the simulator. All
//! randomness comes from a seed and the instance's number, and what time does (slow periods,
//! crashes) from another stream than what calls do, so that an instance is slow at the same moments
//! however many calls it gets.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Exp1, StandardNormal, StandardUniform};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Time;

/// Nanoseconds of a millisecond.
const MS: f64 = 1e6;

/// How a synthetic instance behaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Behavior {
    /// How long a call of one row takes.
    pub service: Service,
    /// How much longer each further row of a batch takes, in ms.
    pub per_row_ms: f64,
    /// Times in which everything takes longer.
    pub slow: Option<Slow>,
    /// Times in which nothing is answered: calls fail at once.
    pub crash: Option<Crash>,
    /// The share of calls that fail.
    pub errors: f64,
    /// The share of calls that are never answered.
    pub hangs: f64,
}

/// How long a call takes, in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "distribution", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Service {
    /// Always the same.
    Constant {
        /// The time.
        ms: f64,
    },
    /// Normal, and never less than 0.
    Normal {
        /// The mean.
        mean_ms: f64,
        /// The standard deviation.
        deviation_ms: f64,
    },
    /// Exponential.
    Exponential {
        /// The mean.
        mean_ms: f64,
    },
    /// Log-normal.
    LogNormal {
        /// The median.
        median_ms: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// One of these times, each as likely.
    Measured {
        /// The times.
        times_ms: Vec<f64>,
    },
}

impl Default for Service {
    fn default() -> Self {
        Self::Constant { ms: 0.0 }
    }
}

/// Periods in which everything takes longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// The share of time that is slow.
    pub share: f64,
    /// The length of one period, in ms; what is between two is exponentially distributed.
    pub length_ms: f64,
    /// How many times longer calls take that begin in it.
    pub factor: f64,
}

/// Crashes and restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// The mean time between a restart and the next crash, in ms, exponentially distributed.
    pub every_ms: f64,
    /// How long it is down, in ms.
    pub down_ms: f64,
}

/// A behaviour that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("found {name} = {value}, expected {expected}")]
pub struct BehaviorError {
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub expected: &'static str,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered after this time.
    Answer(Time),
    /// It fails after this time.
    Fail(Time),
    /// Nothing ever comes.
    Hang,
}

/// A synthetic instance.
#[derive(Clone, Debug)]
pub struct Synthetic {
    behavior: Behavior,
    calls: ChaCha8Rng,
    slow: Option<Periods>,
    crash: Option<Periods>,
}

/// Periods of one length, with exponentially distributed times between them, as far as they are
/// known.
#[derive(Clone, Debug)]
struct Periods {
    random: ChaCha8Rng,
    mean_between: f64,
    length: f64,
    begin: f64,
    end: f64,
}

impl Behavior {
    /// Sees whether a behaviour can be.
    ///
    /// # Errors
    /// A time that is negative or not finite, or a share that is none.
    pub fn check(&self) -> Result<(), BehaviorError> {
        let times = match &self.service {
            Service::Constant { ms } => vec![("ms", *ms)],
            Service::Normal { mean_ms, deviation_ms } => {
                vec![("mean_ms", *mean_ms), ("deviation_ms", *deviation_ms)]
            }
            Service::Exponential { mean_ms } => vec![("mean_ms", *mean_ms)],
            Service::LogNormal { median_ms, sigma } => vec![("median_ms", *median_ms), ("sigma", *sigma)],
            Service::Measured { times_ms } if times_ms.is_empty() => {
                return Err(BehaviorError { name: "times_ms", value: 0.0, expected: "at least one time" });
            }
            Service::Measured { times_ms } => times_ms.iter().map(|&ms| ("times_ms", ms)).collect(),
        };
        for (name, value) in times.into_iter().chain([("per_row_ms", self.per_row_ms)]) {
            require(name, value, value.is_finite() && value >= 0.0, "a finite number from 0")?;
        }
        if let Service::LogNormal { median_ms, .. } = self.service {
            require("median_ms", median_ms, median_ms > 0.0, "a number above 0")?;
        }
        if let Some(Slow { share, length_ms, factor }) = self.slow {
            require("share", share, share > 0.0 && share < 1.0, "a share above 0 and below 1")?;
            require("length_ms", length_ms, length_ms.is_finite() && length_ms > 0.0, "a number above 0")?;
            require("factor", factor, factor.is_finite() && factor >= 1.0, "a number from 1")?;
        }
        if let Some(Crash { every_ms, down_ms }) = self.crash {
            require("every_ms", every_ms, every_ms.is_finite() && every_ms > 0.0, "a number above 0")?;
            require("down_ms", down_ms, down_ms.is_finite() && down_ms > 0.0, "a number above 0")?;
        }
        for (name, value) in [("errors", self.errors), ("hangs", self.hangs)] {
            require(name, value, (0.0..=1.0).contains(&value), "a share from 0 to 1")?;
        }
        let faults = self.errors + self.hangs;
        require("errors + hangs", faults, faults <= 1.0, "at most 1")
    }
}

fn require(name: &'static str, value: f64, good: bool, expected: &'static str) -> Result<(), BehaviorError> {
    if good { Ok(()) } else { Err(BehaviorError { name, value, expected }) }
}

impl Synthetic {
    /// An instance that has just started, at time 0.
    ///
    /// # Errors
    /// A behaviour that cannot be: see [`Behavior::check`].
    pub fn new(behavior: Behavior, seed: u64, instance: u64) -> Result<Self, BehaviorError> {
        behavior.check()?;
        let stream = |number: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(instance.wrapping_mul(3).wrapping_add(number));
            random
        };
        let slow = behavior.slow.as_ref().map(|slow| {
            let between = slow.length_ms * (1.0 - slow.share) / slow.share;
            Periods::new(stream(1), between, slow.length_ms)
        });
        let crash =
            behavior.crash.as_ref().map(|crash| Periods::new(stream(2), crash.every_ms, crash.down_ms));
        Ok(Self { calls: stream(0), slow, crash, behavior })
    }

    /// What becomes of a call of so many rows that begins now; `now` never goes back.
    pub fn call(&mut self, now: Time, rows: usize) -> Fate {
        let ms = now as f64 / MS;
        // Both are drawn for every call, so that the times of calls are the same with and without
        // faults.
        let chance: f64 = self.calls.sample(StandardUniform);
        let one = self.behavior.service.sample(&mut self.calls);
        if self.crash.as_mut().is_some_and(|crash| crash.covers(ms)) {
            return Fate::Fail(0);
        }
        let is_slow = self.slow.as_mut().is_some_and(|slow| slow.covers(ms));
        let factor = self.behavior.slow.as_ref().filter(|_| is_slow).map_or(1.0, |slow| slow.factor);
        let further = self.behavior.per_row_ms * rows.saturating_sub(1) as f64;
        let time = ((one + further) * factor * MS) as Time;
        let Behavior { errors, hangs, .. } = self.behavior;
        if chance < errors {
            Fate::Fail(time)
        } else if chance < errors + hangs {
            Fate::Hang
        } else {
            Fate::Answer(time)
        }
    }

    /// True if it is up at this time, so that a probe finds it ready; `now` never goes back.
    pub fn is_up(&mut self, now: Time) -> bool {
        !self.crash.as_mut().is_some_and(|crash| crash.covers(now as f64 / MS))
    }
}

impl Service {
    /// One time, in ms; parameters are those that [`Behavior::check`] lets pass.
    fn sample(&self, random: &mut ChaCha8Rng) -> f64 {
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
        }
    }
}

impl Periods {
    fn new(random: ChaCha8Rng, mean_between: f64, length: f64) -> Self {
        let mut periods = Self { random, mean_between, length, begin: 0.0, end: 0.0 };
        periods.next();
        periods
    }

    fn next(&mut self) {
        let unit: f64 = self.random.sample(Exp1);
        self.begin = self.end + self.mean_between * unit;
        self.end = self.begin + self.length;
    }

    fn covers(&mut self, ms: f64) -> bool {
        while self.end <= ms {
            self.next();
        }
        ms >= self.begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Behavior {
        serde_json::from_str(json).unwrap()
    }

    /// The fates of calls of one row, one each millisecond.
    fn fates(behavior: &Behavior, seed: u64, calls: u64) -> Vec<Fate> {
        let mut synthetic = Synthetic::new(behavior.clone(), seed, 0).unwrap();
        (0..calls).map(|call| synthetic.call(call * 1_000_000, 1)).collect()
    }

    fn mean_ms(fates: &[Fate]) -> f64 {
        let times = fates.iter().filter_map(|fate| match fate {
            Fate::Answer(time) => Some(*time as f64 / MS),
            _ => None,
        });
        times.clone().sum::<f64>() / times.count() as f64
    }

    #[test]
    fn times_have_the_mean_of_their_distribution() {
        for (service, mean) in [
            (r#"{"distribution": "constant", "ms": 3}"#, 3.0),
            (r#"{"distribution": "normal", "mean_ms": 30, "deviation_ms": 1.5}"#, 30.0),
            (r#"{"distribution": "exponential", "mean_ms": 10}"#, 10.0),
            (r#"{"distribution": "log-normal", "median_ms": 10, "sigma": 0.5}"#, 10.0 * 0.125_f64.exp()),
            (r#"{"distribution": "measured", "times_ms": [1, 2, 6]}"#, 3.0),
        ] {
            let behavior = parse(&format!(r#"{{"service": {service}}}"#));
            let found = mean_ms(&fates(&behavior, 1, 20_000));
            assert!((found / mean - 1.0).abs() < 0.02, "{service}: {found} ms");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_and_another_instance_others() {
        let behavior = parse(
            r#"{"service": {"distribution": "exponential", "mean_ms": 10}, "errors": 0.1, "hangs": 0.1,
                "slow": {"share": 0.1, "length_ms": 50, "factor": 3}}"#,
        );
        assert_eq!(fates(&behavior, 7, 1000), fates(&behavior, 7, 1000));
        assert_ne!(fates(&behavior, 7, 1000), fates(&behavior, 8, 1000));
        let mut other = Synthetic::new(behavior.clone(), 7, 1).unwrap();
        let other: Vec<Fate> = (0..1000).map(|call| other.call(call * 1_000_000, 1)).collect();
        assert_ne!(fates(&behavior, 7, 1000), other);
    }

    #[test]
    fn slow_periods_crashes_errors_and_hangs_have_their_shares() {
        let constant = r#""service": {"distribution": "constant", "ms": 10}"#;
        let slow = format!(r#"{{{constant}, "slow": {{"share": 0.1, "length_ms": 500, "factor": 5}}}}"#);
        let found = mean_ms(&fates(&parse(&slow), 3, 2_000_000));
        assert!((found - 14.0).abs() < 0.5, "{found} ms");
        let faults = format!(
            r#"{{{constant}, "errors": 0.02, "hangs": 0.01, "crash": {{"every_ms": 9000, "down_ms": 1000}}}}"#
        );
        let fates = fates(&parse(&faults), 3, 2_000_000);
        let share = |of: fn(&Fate) -> bool| fates.iter().filter(|fate| of(fate)).count() as f64 / 2e6;
        let (down, errors) =
            (share(|fate| *fate == Fate::Fail(0)), share(|fate| *fate == Fate::Fail(10_000_000)));
        assert!((down - 0.1).abs() < 0.02, "{down}");
        assert!((errors - 0.02 * 0.9).abs() < 0.002, "{errors}");
        assert!((share(|fate| *fate == Fate::Hang) - 0.009).abs() < 0.001);
    }

    #[test]
    fn further_rows_take_longer_and_a_crashed_instance_is_not_up() {
        let batched = parse(r#"{"service": {"distribution": "constant", "ms": 2}, "per_row_ms": 0.5}"#);
        let mut synthetic = Synthetic::new(batched, 0, 0).unwrap();
        assert_eq!(synthetic.call(0, 5), Fate::Answer(4_000_000));
        let mut down = Synthetic::new(parse(r#"{"crash": {"every_ms": 1, "down_ms": 1e9}}"#), 0, 0).unwrap();
        assert!(!down.is_up(1_000_000_000));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (json, expected) in [
            (r#"{"service": {"distribution": "constant", "ms": -1}}"#, "found ms = -1"),
            (r#"{"service": {"distribution": "measured", "times_ms": []}}"#, "at least one time"),
            (r#"{"service": {"distribution": "log-normal", "median_ms": 0, "sigma": 1}}"#, "median_ms = 0"),
            (r#"{"per_row_ms": -2}"#, "per_row_ms = -2"),
            (r#"{"errors": 1.5}"#, "errors = 1.5"),
            (r#"{"errors": 0.7, "hangs": 0.7}"#, "errors + hangs = 1.4"),
            (r#"{"slow": {"share": 1, "length_ms": 1, "factor": 2}}"#, "share = 1"),
            (r#"{"slow": {"share": 0.1, "length_ms": 0, "factor": 2}}"#, "length_ms = 0"),
            (r#"{"slow": {"share": 0.1, "length_ms": 1, "factor": 0.5}}"#, "factor = 0.5"),
            (r#"{"crash": {"every_ms": 0, "down_ms": 1}}"#, "every_ms = 0"),
            (r#"{"crash": {"every_ms": 1, "down_ms": 0}}"#, "down_ms = 0"),
        ] {
            let error = Synthetic::new(parse(json), 0, 0).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert!(serde_json::from_str::<Behavior>(r#"{"slwo": null}"#).is_err());
    }
}
