//! Reports of trials of models at rates, as tables and JSON.

use parm_workload::report::{self, Measure, Measured, Run};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Trial;

/// The trials of one model at one rate: one or more, one for each seed, in order.
pub type Row = parm_workload::Row<Trial>;

impl Measured for Trial {
    /// The measures of `parm-load`, and those that only a simulation has.
    fn measures() -> Vec<Measure<Self>> {
        let own = [
            Measure::new("hedged", "The share of queries that were sent a second time.", |trial: &Self| {
                per_query(trial, trial.count(|of| of.hedges))
            })
            .column("HEDGED", 4),
            Measure::new("failed", "The share of queries without an answer.", |trial: &Self| {
                let all = trial.summary.failed() + trial.summary.answered();
                (all > 0).then(|| trial.summary.failed() as f64 / all as f64)
            })
            .column("FAILED", 4),
            Measure::new("busy", "The share of their time that instances worked.", |trial: &Self| {
                Some(trial.busy)
            })
            .column("BUSY", 3),
            Measure::new("calls", "Calls for each query.", |trial: &Self| {
                per_query(trial, trial.count(|of| of.calls))
            }),
        ];
        report::latencies().into_iter().chain(report::shares()).chain(own).collect()
    }
}

fn per_query(trial: &Trial, count: u64) -> Option<f64> {
    let queries = trial.count(|of| of.queries);
    (queries > 0).then(|| count as f64 / queries as f64)
}

/// The trials of one model at one rate, in the JSON of parm-sim.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModelRun {
    /// What reports of measurements have, too.
    #[serde(flatten)]
    pub run: Run<Trial>,
    /// The number of seeds.
    pub seeds: usize,
}

/// The table and more, for JSON.
#[must_use]
pub fn runs(rows: &[Row]) -> Vec<ModelRun> {
    let runs = report::runs(rows).into_iter().zip(rows);
    runs.map(|(run, row)| ModelRun { run, seeds: row.trials.len() }).collect()
}

#[cfg(test)]
mod tests {
    use parm_engine::Counters;
    use parm_workload::Summary;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn measures_that_only_a_simulation_has_are_reported() {
        let trial = |ms: u64| {
            let mut summary = Summary::new(10.0, 1);
            summary.latency.record(ms * 1_000_000).unwrap();
            // Two servers, of which the second one hedges.
            let counters =
                [1, 3].map(|queries| Counters { queries, hedges: ms * (queries / 2), ..Counters::default() });
            Trial { summary, counters: counters.to_vec(), busy: 0.5 }
        };
        let rows = [Row { name: Some("one".to_owned()), rate: 10.0, trials: vec![trial(1), trial(3)] }];
        let table = report::table(&rows);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[0].join(" "),
            "NAME RATE NUM MED MEAN P99 P99.5 P99.9 MAX GAP REBUILT APPROX DEFAULT HEDGED FAILED BUSY"
        );
        assert_eq!(lines[1][..3], ["one", "10", "2"]);
        // Of 0.25 and 0.75, the half of the interval is 12.706 times a quarter.
        assert!(table.contains("  0.5 ± 3.2  "), "{table}");
        let run = &json!(runs(&rows))[0];
        let hedged = [&run["hedged"], &run["min"]["hedged"], &run["max"]["hedged"]];
        assert_eq!(hedged.map(Value::as_f64), [Some(0.5), Some(0.25), Some(0.75)]);
        assert_eq!((&run["seeds"], &run["failed"], &run["busy"]), (&2.into(), &0.0.into(), &0.5.into()));
    }
}
