//! Reports of trials of models at rates, as tables and JSON.

use parm_workload::report::{self, Measure};
use serde_json::Value;

use crate::Trial;

/// The trials of one model at one rate: one or more, one for each seed, in order.
pub type Row = parm_workload::Row<Trial>;

/// The measures of `parm-load`, and those that only a simulation has.
fn measures() -> Vec<Measure<Trial>> {
    let own = [
        Measure::new("hedged", Some(("HEDGED", 4)), |trial: &Trial| {
            per_query(trial, trial.count(|of| of.hedges))
        }),
        Measure::new("failed", Some(("FAILED", 4)), |trial| {
            let all = trial.summary.failed() + trial.summary.answered();
            (all > 0).then(|| trial.summary.failed() as f64 / all as f64)
        }),
        Measure::new("busy", Some(("BUSY", 3)), |trial| Some(trial.busy)),
        Measure::new("calls", None, |trial| per_query(trial, trial.count(|of| of.calls))),
    ];
    report::latencies().into_iter().chain(report::shares()).chain(own).collect()
}

fn per_query(trial: &Trial, count: u64) -> Option<f64> {
    let queries = trial.count(|of| of.queries);
    (queries > 0).then(|| count as f64 / queries as f64)
}

/// A table with a line for each model and rate; times are in ms.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    report::table(rows, &measures())
}

/// The table and more as a JSON object, which parm-sim(1) describes.
#[must_use]
pub fn json(rows: &[Row]) -> Value {
    report::json(rows, &measures(), |row, run| {
        run.insert("seeds".to_owned(), row.trials.len().into());
    })
}

#[cfg(test)]
mod tests {
    use parm_engine::Counters;
    use parm_workload::Summary;

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
        let table = table(&rows);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[0].join(" "),
            "NAME RATE NUM MED MEAN P99 P99.5 P99.9 MAX GAP REBUILT APPROX DEFAULT HEDGED FAILED BUSY"
        );
        assert_eq!(lines[1][..3], ["one", "10", "2"]);
        // Of 0.25 and 0.75, the half of the interval is 12.706 times a quarter.
        assert!(table.contains("  0.5 ± 3.2  "), "{table}");
        let run = &json(&rows)["runs"][0];
        let hedged = [&run["hedged"], &run["min"]["hedged"], &run["max"]["hedged"]];
        assert_eq!(hedged.map(Value::as_f64), [Some(0.5), Some(0.25), Some(0.75)]);
        assert_eq!((&run["seeds"], &run["failed"], &run["busy"]), (&2.into(), &0.0.into(), &0.5.into()));
    }
}
