//! Compares a recorded run with simulations of it.

use std::fmt::Write as _;

use parm_workload::Summary;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Trial;

/// A quantity of a recorded run beside that of its simulations.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Compared {
    /// Its name; latencies are in ms.
    pub name: &'static str,
    /// As it was measured.
    pub measured: f64,
    /// The median over the simulations.
    pub predicted: f64,
    /// The lower end of the interval in which 95 % of runs are, by the order of the simulations.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The difference of the prediction from what was measured, as a share of it; none for shares, which do not decide.
    pub error: Option<f64>,
    /// Whether what was measured is within the interval.
    pub within: bool,
}

/// A recorded run beside simulations of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Check {
    /// The quantities.
    pub compared: Vec<Compared>,
    /// The mean absolute error of the latencies, as a share.
    pub mape: f64,
    /// The error that counts as none, as a share.
    pub tolerance: f64,
    /// The latencies that the simulations do not predict.
    pub missed: Vec<&'static str>,
    /// Whether they predict all.
    pub predicts: bool,
}

/// The fewest simulations: all of them and the run together are then in 95 of 100 cases within two of 40.
pub const FEWEST: usize = 39;

/// The quantities, and whether they are latencies.
type Quantity = (&'static str, bool, fn(&Summary) -> Option<f64>);

const QUANTITIES: [Quantity; 8] = [
    ("mean", true, Summary::mean_ms),
    ("median", true, |of| of.within_ms(0.5)),
    ("p90", true, |of| of.within_ms(0.9)),
    ("p99", true, |of| of.within_ms(0.99)),
    ("p99.5", true, |of| of.within_ms(0.995)),
    ("p99.9", true, |of| of.within_ms(0.999)),
    ("reconstructed", false, |of| of.share(of.reconstructed)),
    ("failed", false, |of| {
        let all = of.answered() + of.failed();
        (all > 0).then(|| of.failed() as f64 / all as f64)
    }),
];

/// Compares a run with at least [`FEWEST`] simulations of it. An error up to `tolerance` counts as none. None without
/// answers, or with fewer simulations.
#[must_use]
pub fn check(run: &Summary, trials: &[Trial], tolerance: f64) -> Option<Check> {
    let compare = |&(name, is_latency, of): &Quantity| {
        let mut values: Vec<f64> = trials.iter().filter_map(|trial| of(&trial.summary)).collect();
        values.sort_by(f64::total_cmp);
        // A further run is equally likely at each place among these.
        let outside = ((values.len() + 1) as f64 * 0.025) as usize;
        let at = |place: usize| values.get(place).copied();
        let (low, high) = (at(outside.checked_sub(1)?)?, at(values.len().checked_sub(outside)?)?);
        let predicted = f64::midpoint(at((values.len() - 1) / 2)?, at(values.len() / 2)?);
        let measured = of(run)?;
        let error = is_latency.then(|| predicted / measured - 1.0).filter(|error| error.is_finite());
        Some(Compared {
            name,
            measured,
            predicted,
            low,
            high,
            error,
            within: (low..=high).contains(&measured),
        })
    };
    let compared: Vec<Compared> = QUANTITIES.iter().map(compare).collect::<Option<_>>()?;
    let errors: Vec<f64> = compared.iter().filter_map(|of| of.error).map(f64::abs).collect();
    let mape = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let missed: Vec<&str> = compared.iter().filter(|of| !of.holds(tolerance)).map(|of| of.name).collect();
    let predicts = missed.is_empty();
    Some(Check { compared, mape, tolerance, missed, predicts })
}

impl Compared {
    fn holds(&self, tolerance: f64) -> bool {
        self.error.is_none_or(|error| self.within || error.abs() <= tolerance)
    }
}

impl Check {
    /// A table with a line for each quantity, and the verdict; times are in ms, errors in %.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:14}{:>10}{:>10}{:>10}{:>10}{:>8}\n",
            "", "MEASURED", "PREDICTED", "LOW", "HIGH", "ERROR"
        );
        for Compared { name, measured, predicted, low, high, error, .. } in &self.compared {
            let error = error.map_or("-".to_owned(), |error| format!("{:+.2}", error * 100.0));
            let digits = if error == "-" { 4 } else { 3 };
            let _ = writeln!(
                table,
                "{name:14}{measured:>10.digits$}{predicted:>10.digits$}{low:>10.digits$}{high:>10.digits$}{error:>8}"
            );
        }
        let verdict = if self.predicts {
            format!(
                "predicts the run: each latency is within the interval, or within {} %",
                self.tolerance * 100.0
            )
        } else {
            format!(
                "does not predict the run: {} outside of the interval, and off by more than {} %",
                self.missed.join(", "),
                self.tolerance * 100.0
            )
        };
        let _ = writeln!(table, "\nmean absolute error {:.2} %; the cluster {verdict}", self.mape * 100.0);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(ms: u64) -> Summary {
        let mut summary = Summary::new(1.0, 1);
        summary.latency.record(ms * 1_000_000).unwrap();
        summary
    }

    fn trials(count: u64) -> Vec<Trial> {
        let trial = |ms| Trial { summary: summary(ms), counters: Vec::new(), busy: 0.0 };
        (0..count).map(|place| trial(100 + place)).collect()
    }

    #[test]
    fn a_run_within_the_interval_or_the_tolerance_is_predicted() {
        let median = |check: &Check| check.compared[1].clone();
        let within = check(&summary(101), &trials(39), 0.0).unwrap();
        assert!(within.missed.is_empty() && within.predicts);
        let Compared { low, predicted, high, .. } = median(&within);
        assert_eq!([low, predicted, high].map(f64::round), [100.0, 119.0, 138.0]);
        let beside = |tolerance| check(&summary(150), &trials(39), tolerance).unwrap();
        assert!((median(&beside(0.0)).error.unwrap() + 0.2067).abs() < 2e-3, "{:?}", beside(0.0));
        assert_eq!(beside(0.1).missed, ["mean", "median", "p90", "p99", "p99.5", "p99.9"]);
        assert!(beside(0.1).table().contains("does not predict the run: mean, median"));
        assert!(beside(0.3).predicts && (beside(0.3).mape - 0.2067).abs() < 2e-3);
        // The outermost of 79 simulations are outside of the interval, one on each side.
        assert_eq!(median(&check(&summary(101), &trials(79), 0.0).unwrap()).low.round(), 101.0);
        assert_eq!(check(&summary(101), &trials(38), 0.0), None);
        assert_eq!(check(&Summary::new(1.0, 1), &trials(39), 0.0), None);
    }
}
