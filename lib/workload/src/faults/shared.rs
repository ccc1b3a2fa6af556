//! Faults that several instances share: transfers between them, and racks that are slow or down.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::periods::Periods;
use super::{BehaviorError, Crash, MS, Slow, require};
use crate::Time;

/// Faults that several instances share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// The seed of their random numbers.
    pub seed: u64,
    /// Transfers of data between pairs of instances.
    pub shuffles: Option<Shuffles>,
    /// Racks: groups of instances that are slow or down together.
    pub racks: Option<Racks>,
}

/// Transfers of data between random pairs of instances, as in the clusters of ParM's evaluation. A transfer
/// slows down the network of both instances. When one ends, another one begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shuffles {
    /// The number of transfers that run at once.
    pub concurrent: usize,
    /// The length of the shortest transfer, in ms; lengths are uniformly distributed.
    pub min_ms: f64,
    /// The length of the longest transfer, in ms.
    pub max_ms: f64,
    /// The factor of the network time of a call that begins during one transfer of its instance; each further
    /// transfer adds as much again.
    pub factor: f64,
}

/// Instances that are slow or down together. Instance i is in rack i mod `count`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Racks {
    /// The number of racks.
    pub count: usize,
    /// Periods in which calls of all instances of a rack take longer.
    #[serde(default)]
    pub slow: Option<Slow>,
    /// Periods in which calls of all instances of a rack fail at once.
    #[serde(default)]
    pub crash: Option<Crash>,
}

/// The conditions of an instance at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// The factor of the network time.
    pub network: f64,
    /// The factor of the time of calls.
    pub slow: f64,
    /// True if its rack is down.
    pub down: bool,
}

impl Default for Conditions {
    /// No fault.
    fn default() -> Self {
        Self { network: 1.0, slow: 1.0, down: false }
    }
}

/// The state of the faults that instances share.
#[derive(Clone, Debug)]
pub struct Shared {
    shuffling: Option<Shuffling>,
    racks: Vec<Rack>,
    slow_factor: f64,
}

#[derive(Clone, Debug)]
struct Shuffling {
    of: Shuffles,
    random: ChaCha8Rng,
    /// The ends of transfers, in ns, with their two instances.
    running: BinaryHeap<Reverse<(Time, [usize; 2])>>,
    /// The number of transfers of each instance.
    transfers: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Rack {
    slow: Option<Periods>,
    crash: Option<Periods>,
}

impl Faults {
    /// Checks the values for this number of instances.
    ///
    /// # Errors
    /// An invalid value, or shuffles among fewer than two instances.
    pub fn check(&self, instances: usize) -> Result<(), BehaviorError> {
        if let Some(Shuffles { concurrent, min_ms, max_ms, factor }) = self.shuffles {
            require("instances", instances as f64, instances >= 2, "at least 2 where there are shuffles")?;
            require("concurrent", concurrent as f64, concurrent >= 1, "at least 1")?;
            require("min_ms", min_ms, min_ms.is_finite() && min_ms >= 1.0, "a number from 1")?;
            require("max_ms", max_ms, max_ms.is_finite() && max_ms >= min_ms, "a number from min_ms")?;
            require("factor", factor, factor.is_finite() && factor >= 1.0, "a number from 1")?;
        }
        if let Some(Racks { count, slow, crash }) = &self.racks {
            require("count", *count as f64, *count >= 1, "at least 1")?;
            slow.as_ref().map_or(Ok(()), Slow::check)?;
            crash.as_ref().map_or(Ok(()), Crash::check)?;
        }
        Ok(())
    }
}

impl Shared {
    /// The faults of this number of instances, at time 0.
    ///
    /// # Errors
    /// The errors of [`Faults::check`].
    pub fn new(faults: &Faults, instances: usize) -> Result<Self, BehaviorError> {
        faults.check(instances)?;
        let stream = |number: usize| {
            let mut random = ChaCha8Rng::seed_from_u64(faults.seed);
            // The streams of instances are numbered from 0 upwards.
            random.set_stream(u64::MAX - number as u64);
            random
        };
        let shuffling = faults.shuffles.clone().map(|of| {
            let mut shuffling = Shuffling {
                random: stream(0),
                running: BinaryHeap::new(),
                transfers: vec![0; instances],
                of,
            };
            (0..shuffling.of.concurrent).for_each(|_| shuffling.begin(0));
            shuffling
        });
        let racks = faults.racks.iter().flat_map(|racks| {
            (0..racks.count.min(instances)).map(|rack| Rack {
                slow: racks.slow.as_ref().map(|slow| slow.periods(stream(2 * rack + 1))),
                crash: racks.crash.as_ref().map(|crash| crash.periods(stream(2 * rack + 2))),
            })
        });
        let slow = faults.racks.as_ref().and_then(|racks| racks.slow.as_ref());
        Ok(Self { shuffling, racks: racks.collect(), slow_factor: slow.map_or(1.0, |slow| slow.factor) })
    }

    /// The conditions of an instance now; `now` never decreases.
    pub fn around(&mut self, now: Time, instance: usize) -> Conditions {
        let mut conditions = Conditions::default();
        if let Some(shuffling) = &mut self.shuffling {
            let transfers = shuffling.of_instance(now, instance);
            conditions.network += f64::from(transfers) * (shuffling.of.factor - 1.0);
        }
        let ms = now as f64 / MS;
        let racks = self.racks.len().max(1);
        if let Some(rack) = self.racks.get_mut(instance % racks) {
            if rack.slow.as_mut().is_some_and(|slow| slow.covers(ms)) {
                conditions.slow = self.slow_factor;
            }
            conditions.down = rack.crash.as_mut().is_some_and(|crash| crash.covers(ms));
        }
        conditions
    }
}

impl Shuffling {
    /// The number of running transfers of an instance.
    fn of_instance(&mut self, now: Time, instance: usize) -> u32 {
        while let Some(&Reverse((end, pair))) = self.running.peek()
            && end <= now
        {
            self.running.pop();
            for end in pair {
                self.transfers[end] -= 1;
            }
            self.begin(end);
        }
        self.transfers.get(instance).copied().unwrap_or(0)
    }

    fn begin(&mut self, at: Time) {
        let instances = self.transfers.len();
        let one = self.random.random_range(0..instances);
        let other = (one + self.random.random_range(1..instances)) % instances;
        let ms = self.random.random_range(self.of.min_ms..=self.of.max_ms);
        for end in [one, other] {
            self.transfers[end] += 1;
        }
        self.running.push(Reverse((at.saturating_add((ms * MS) as Time), [one, other])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(json: &str, instances: usize) -> Result<Shared, BehaviorError> {
        Shared::new(&serde_json::from_str(json).unwrap(), instances)
    }

    /// The conditions of each instance at each millisecond.
    fn conditions(json: &str, instances: usize, ms: u64) -> Vec<Vec<Conditions>> {
        let mut shared = shared(json, instances).unwrap();
        let at = |ms: u64| (0..instances).map(|i| shared.around(ms * 1_000_000, i)).collect();
        (0..ms).map(at).collect()
    }

    #[test]
    fn the_number_of_concurrent_transfers_is_constant() {
        let json = r#"{"seed": 1, "shuffles": {"concurrent": 4, "min_ms": 50, "max_ms": 150, "factor": 3}}"#;
        let found = conditions(json, 18, 20_000);
        let mut busy = [0.0; 18];
        for moment in &found {
            let extra: f64 = moment.iter().map(|around| (around.network - 1.0) / 2.0).sum();
            assert_eq!(extra, 8.0, "{moment:?}");
            assert!(moment.iter().all(|around| around.slow == 1.0 && !around.down));
            for (busy, around) in busy.iter_mut().zip(moment) {
                *busy += (around.network - 1.0) / 2.0 / 20_000.0;
            }
        }
        // Four transfers have 8 ends among 18 instances.
        assert!(busy.iter().all(|busy| (busy / (8.0 / 18.0) - 1.0).abs() < 0.4), "{busy:?}");
        assert_eq!(found, conditions(json, 18, 20_000));
        assert_ne!(found, conditions(&json.replace("1,", "2,"), 18, 20_000));
    }

    #[test]
    fn all_instances_of_a_rack_are_slow_and_down_together() {
        let json = r#"{"racks": {"count": 3, "slow": {"share": 0.2, "length_ms": 40, "factor": 5},
            "crash": {"every_ms": 900, "down_ms": 100}}}"#;
        let found = conditions(json, 7, 200_000);
        let (mut slow, mut down) = (0.0, 0.0);
        for moment in &found {
            assert_eq!(
                [moment[0], moment[0], moment[1], moment[2]],
                [moment[3], moment[6], moment[4], moment[5]]
            );
            slow += moment[..3].iter().filter(|around| around.slow == 5.0).count() as f64 / 6e5;
            down += moment[..3].iter().filter(|around| around.down).count() as f64 / 6e5;
        }
        assert!((slow - 0.2).abs() < 0.02 && (down - 0.1).abs() < 0.02, "{slow} {down}");
        assert!(found.iter().any(|moment| moment[0] != moment[1]));
    }

    #[test]
    fn invalid_values_are_refused_by_name() {
        let shuffles = |fields: &str| format!(r#"{{"shuffles": {{{fields}}}}}"#);
        for (json, instances, expected) in [
            (shuffles(r#""concurrent": 1, "min_ms": 1, "max_ms": 2, "factor": 2"#), 1, "instances = 1"),
            (shuffles(r#""concurrent": 0, "min_ms": 1, "max_ms": 2, "factor": 2"#), 2, "concurrent = 0"),
            (shuffles(r#""concurrent": 1, "min_ms": 0, "max_ms": 2, "factor": 2"#), 2, "min_ms = 0"),
            (shuffles(r#""concurrent": 1, "min_ms": 3, "max_ms": 2, "factor": 2"#), 2, "max_ms = 2"),
            (shuffles(r#""concurrent": 1, "min_ms": 1, "max_ms": 2, "factor": 0.5"#), 2, "factor = 0.5"),
            (r#"{"racks": {"count": 0}}"#.to_owned(), 1, "count = 0"),
            (
                r#"{"racks": {"count": 1, "slow": {"share": 0, "length_ms": 1, "factor": 2}}}"#.to_owned(),
                1,
                "share = 0",
            ),
            (
                r#"{"racks": {"count": 1, "crash": {"every_ms": 1, "down_ms": 0}}}"#.to_owned(),
                1,
                "down_ms = 0",
            ),
        ] {
            let error = shared(&json, instances).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
