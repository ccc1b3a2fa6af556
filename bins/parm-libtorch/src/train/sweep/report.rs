//! The scores of runs: a file beside each code, and a table of all runs.

use std::fmt::Write;

use parm_torch::train::CodeScores;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Run;

/// A run that was trained and scored on the test rows: test.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tested {
    pub(crate) run: String,
    pub(crate) k: u32,
    /// If the configuration has seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(rename = "A_a")]
    available: Option<f64>,
    #[serde(rename = "A_d")]
    degraded: Option<f64>,
    agreement: Option<f64>,
    #[serde(rename = "IoU")]
    fit: Option<Fit>,
    #[serde(rename = "R2", default, skip_serializing_if = "Option::is_none")]
    determination: Option<f64>,
    #[serde(rename = "MAE", default, skip_serializing_if = "Option::is_none")]
    absolute_error: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cosine: Option<f64>,
    #[serde(rename = "recall@10", default, skip_serializing_if = "Option::is_none")]
    recall: Option<f64>,
    /// The number of scored reconstructions.
    n: u64,
    /// The settings that must be equal to reuse the run.
    pub(crate) settings: Value,
}

/// The IoU of boxes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Fit {
    mean: f64,
    #[serde(rename = "at_least_0.5")]
    half: f64,
    #[serde(rename = "at_least_0.75")]
    three_quarters: f64,
}

impl Tested {
    pub(crate) fn new(run: &Run, scores: &CodeScores, settings: Value) -> Self {
        Self { run: run.name(), k: run.k, seed: run.seed, ..Self::of(scores, settings) }
    }

    /// The scores, of no run yet.
    fn of(scores: &CodeScores, settings: Value) -> Self {
        Self {
            run: String::new(),
            k: 0,
            seed: None,
            available: scores.available,
            degraded: scores.degraded,
            agreement: scores.agreement,
            fit: scores.fit.map(|fit| Fit {
                mean: fit.mean,
                half: fit.half,
                three_quarters: fit.three_quarters,
            }),
            determination: scores.determination,
            absolute_error: scores.absolute_error,
            cosine: scores.cosine,
            recall: scores.recall,
            n: scores.reconstructions,
            settings,
        }
    }
}

/// A line of JSON for each run.
pub(crate) fn as_json(results: &[Tested]) -> Result<String, serde_json::Error> {
    let line = |result| serde_json::to_string(result).map(|line| line + "\n");
    results.iter().map(line).collect()
}

/// A column of the table, which is there if a run has such a score.
type Column = (&'static str, fn(&Tested) -> Option<f64>);

const COLUMNS: &[Column] = &[
    ("IoU", |run| run.fit.map(|fit| fit.mean)),
    ("IoU>=.5", |run| run.fit.map(|fit| fit.half)),
    ("IoU>=.75", |run| run.fit.map(|fit| fit.three_quarters)),
    ("R2", |run| run.determination),
    ("MAE", |run| run.absolute_error),
    ("cosine", |run| run.cosine),
    ("recall@10", |run| run.recall),
];

/// The table; it has the columns of the scores that there are.
pub(crate) fn as_table(results: &[Tested]) -> String {
    let is_there = |column: &&Column| results.iter().any(|result| column.1(result).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(is_there).collect();
    let width = results.iter().map(|result| result.run.len()).max().unwrap_or_default();
    let mut table = format!("{:<width$}{:>5}{:>9}{:>9}{:>11}", "run", "k", "A_a", "A_d", "agreement");
    // Writing to a string cannot fail.
    for (title, _) in &columns {
        let _ = write!(table, "{title:>width$}", width = title.len().max(8) + 1);
    }
    let _ = writeln!(table, "{:>9}", "rebuilt");
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    for result in results {
        let Tested { run, k, .. } = result;
        let [available, degraded, agreement] =
            [result.available, result.degraded, result.agreement].map(number);
        let _ = write!(table, "{run:<width$}{k:>5}{available:>9}{degraded:>9}{agreement:>11}");
        for (title, of) in &columns {
            let _ = write!(table, "{:>width$}", number(of(result)), width = title.len().max(8) + 1);
        }
        let _ = writeln!(table, "{:>9}", result.n);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(run: &str, fit: Option<parm_torch::train::Fit>) -> Tested {
        let score = |value| fit.is_none().then_some(value);
        let scores = CodeScores {
            available: score(0.5),
            degraded: score(0.25),
            agreement: score(1.0),
            fit,
            reconstructions: 12,
            ..CodeScores::default()
        };
        Tested { run: run.into(), k: 2, ..Tested::of(&scores, Value::Null) }
    }

    #[test]
    fn the_table_has_columns_for_boxes_where_there_are_some() {
        let plain = as_table(&[tested("one", None)]);
        assert_eq!(
            plain,
            "run    k      A_a      A_d  agreement  rebuilt\none    2   0.5000   0.2500     1.0000       12\n"
        );
        let fit = parm_torch::train::Fit { mean: 0.75, half: 1.0, three_quarters: 0.5 };
        let boxes = as_table(&[tested("one", None), tested("other", Some(fit))]);
        assert!(boxes.ends_with("-          -   0.7500   1.0000   0.5000       12\n"), "{boxes}");
    }

    #[test]
    fn a_line_of_json_is_read_as_it_was_written() {
        let fit = parm_torch::train::Fit { mean: 0.75, half: 1.0, three_quarters: 0.5 };
        let text = as_json(&[tested("one", None), tested("other", Some(fit))]).unwrap();
        let lines: Vec<Tested> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(as_json(&lines).unwrap(), text);
        assert!(text.contains(r#""A_d":0.25,"agreement":1.0,"IoU":null,"n":12"#), "{text}");
        assert!(text.contains(r#""at_least_0.75":0.5"#), "{text}");
    }
}
