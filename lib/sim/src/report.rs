//! Trials of one model at one rate, for people and programs.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Trial;

/// The trials of one model at one rate, one for each seed; there is at least one.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the model is called.
    pub name: String,
    /// Queries a second.
    pub rate: f64,
    /// The trials, in the order of their seeds.
    pub trials: Vec<Trial>,
}

impl Row {
    /// The median over the trials of a number of each; none if none has one.
    #[must_use]
    pub fn median(&self, of: fn(&Trial) -> Option<f64>) -> Option<f64> {
        spread(&self.trials, of).map(|[median, ..]| median)
    }
}

/// A number of each trial: its place in JSON, its column, the decimals there, and what it is.
struct Measure {
    name: &'static str,
    column: Option<(&'static str, usize)>,
    of: fn(&Trial) -> Option<f64>,
}

const fn measure(
    name: &'static str,
    column: Option<(&'static str, usize)>,
    of: fn(&Trial) -> Option<f64>,
) -> Measure {
    Measure { name, column, of }
}

/// Latencies, in ms.
const LATENCIES: [Measure; 7] = [
    measure("median", Some(("MED", 3)), |trial| trial.summary.within_ms(0.5)),
    measure("mean", Some(("MEAN", 3)), |trial| trial.summary.mean_ms()),
    measure("p99", Some(("P99", 3)), |trial| trial.summary.within_ms(0.99)),
    measure("p99.5", Some(("P99.5", 3)), |trial| trial.summary.within_ms(0.995)),
    measure("p99.9", Some(("P99.9", 3)), |trial| trial.summary.within_ms(0.999)),
    measure("max", Some(("MAX", 3)), |trial| trial.summary.within_ms(1.0)),
    measure("gap", Some(("GAP", 3)), |trial| {
        Some(trial.summary.within_ms(0.999)? - trial.summary.within_ms(0.5)?)
    }),
];

/// Shares: of answers, of arrivals, of requests, of time; and calls for each query.
const SHARES: [Measure; 7] = [
    measure("reconstructed", Some(("REBUILT", 4)), |trial| trial.summary.share(trial.summary.reconstructed)),
    measure("approximate", Some(("APPROX", 4)), |trial| trial.summary.share(trial.summary.approximate)),
    measure("default", Some(("DEFAULT", 4)), |trial| trial.summary.share(trial.summary.default)),
    measure("hedged", Some(("HEDGED", 4)), |trial| per_query(trial, trial.counters.hedges)),
    measure("failed", Some(("FAILED", 4)), |trial| {
        let all = trial.summary.failed() + trial.summary.answered();
        (all > 0).then(|| trial.summary.failed() as f64 / all as f64)
    }),
    measure("busy", Some(("BUSY", 3)), |trial| Some(trial.busy)),
    measure("calls", None, |trial| per_query(trial, trial.counters.calls)),
];

fn per_query(trial: &Trial, count: u64) -> Option<f64> {
    (trial.counters.queries > 0).then(|| count as f64 / trial.counters.queries as f64)
}

/// The median of what the trials have, with the least and the most; none if none has any.
fn spread(trials: &[Trial], of: fn(&Trial) -> Option<f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = trials.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied();
    let last = values.len().checked_sub(1)?;
    Some([f64::midpoint(at(last / 2)?, at(values.len() / 2)?), at(0)?, at(last)?])
}

/// A table with a line for each model and rate: medians over the trials; times are in ms.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(4, 60);
    let mut table = format!("{:width$}{:>10}{:>10}", "NAME", "RATE", "NUM");
    for (column, _) in columns().filter_map(|measure| measure.column) {
        let _ = write!(table, "{column:>10}");
    }
    table.push('\n');
    for row in rows {
        let name: String = row.name.chars().take(width).collect();
        let _ = write!(table, "{name:width$}{:>10}{:>10}", rounded(row.rate), answered(row));
        for measure in columns() {
            let Some((_, decimals)) = measure.column else { continue };
            let value = spread(&row.trials, measure.of);
            let text = value.map_or("-".to_owned(), |[median, ..]| format!("{median:.decimals$}"));
            let _ = write!(table, "{text:>10}");
        }
        table.push('\n');
    }
    table
}

fn columns() -> impl Iterator<Item = &'static Measure> {
    LATENCIES.iter().chain(&SHARES)
}

/// To three decimals, without zeros at the end.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The answers of all trials.
fn answered(row: &Row) -> u64 {
    row.trials.iter().map(|trial| trial.summary.answered()).sum()
}

/// The same as an object, and more: parm-sim(1) describes it. What `parm-load --json` has too stands where
/// it has it.
#[must_use]
pub fn json(rows: &[Row]) -> Value {
    let run = |row: &Row| {
        let [median, least, most] = [0, 1, 2].map(|place| {
            let values = |measures: &[Measure]| {
                let value = |measure: &Measure| {
                    (measure.name.to_owned(), json!(spread(&row.trials, measure.of).map(|of| of[place])))
                };
                measures.iter().map(value).collect::<serde_json::Map<_, _>>()
            };
            let mut all = values(&SHARES);
            all.insert("latency_ms".to_owned(), values(&LATENCIES).into());
            all
        });
        let mut run = median;
        let sum = |of: fn(&Trial) -> u64| row.trials.iter().map(of).sum::<u64>();
        let failed = sum(|trial| trial.summary.failed());
        run.insert("name".to_owned(), row.name.clone().into());
        run.insert("rate".to_owned(), row.rate.into());
        run.insert("seeds".to_owned(), row.trials.len().into());
        run.insert("requests".to_owned(), (answered(row) + failed).into());
        run.insert("answered".to_owned(), answered(row).into());
        run.insert("min".to_owned(), least.into());
        run.insert("max".to_owned(), most.into());
        run.insert("cdf".to_owned(), distribution(row));
        Value::Object(run)
    };
    json!({"format": 1, "runs": rows.iter().map(run).collect::<Vec<_>>()})
}

/// Latencies of all trials together, in ms, with the shares of answers within them: ten points for each
/// power of ten of what is above.
fn distribution(row: &Row) -> Value {
    let mut all = Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!("three digits"));
    for trial in &row.trials {
        // It grows as it must.
        let _ = all.add(&trial.summary.latency);
    }
    let within = |share: f64| json!([all.value_at_quantile(share) as f64 / 1e6, share]);
    let body = (0..9).map(|tenth| f64::from(tenth) / 10.0);
    let tail = (10..).map(|tenth| 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0));
    let tail = tail.take_while(|share| (1.0 - share) * all.len() as f64 >= 1.0);
    if all.is_empty() { json!([]) } else { body.chain(tail).chain([1.0]).map(within).collect() }
}

#[cfg(test)]
mod tests {
    use parm_engine::Counters;
    use parm_serving::load::Summary;

    use super::*;

    fn trial(latencies: impl Iterator<Item = u64>) -> Trial {
        let mut summary = Summary::new(10.0, 1);
        latencies.for_each(|ms| summary.latency.record(ms * 1_000_000).unwrap());
        Trial { summary, counters: Counters { queries: 4, hedges: 1, ..Counters::default() }, busy: 0.5 }
    }

    #[test]
    fn medians_stand_in_the_table_and_the_least_and_the_most_in_json() {
        let trials = vec![trial(1..=3), trial(11..=13), trial(2..=4)];
        let rows = [Row { name: "one".to_owned(), rate: 10.0, trials }];
        let lines: Vec<Vec<String>> =
            table(&rows).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        assert_eq!(
            lines[0].join(" "),
            "NAME RATE NUM MED MEAN P99 P99.5 P99.9 MAX GAP REBUILT APPROX DEFAULT HEDGED FAILED BUSY"
        );
        assert_eq!((lines[1][..3].join(" ").as_str(), &lines[1][3][..2]), ("one 10 9", "3."));
        let run = &json(&rows)["runs"][0];
        assert_eq!((run["hedged"].as_f64(), run["answered"].as_u64()), (Some(0.25), Some(9)));
        let median = |of: &Value| of["latency_ms"]["median"].as_f64().unwrap().round() as u64;
        assert_eq!([median(run), median(&run["min"]), median(&run["max"])], [3, 2, 12]);
        let cdf = run["cdf"].as_array().unwrap();
        assert_eq!(cdf.last().unwrap()[1], 1.0);
        assert_eq!(cdf.last().unwrap()[0].as_f64().unwrap().round(), 13.0);
    }

    #[test]
    fn of_an_even_number_the_median_is_between_two_and_of_nothing_there_is_none() {
        assert_eq!(
            spread(&[trial(1..=1), trial(3..=3)], |trial| trial.summary.mean_ms()).unwrap()[0].round(),
            2.0
        );
        let rows = [Row { name: "none".to_owned(), rate: 1.0, trials: vec![trial(1..1)] }];
        assert!(table(&rows).lines().nth(1).unwrap().contains(" - "));
        assert_eq!(json(&rows)["runs"][0]["cdf"], json!([]));
    }
}
