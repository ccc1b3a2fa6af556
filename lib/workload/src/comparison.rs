//! The results of `parm-load`: targets compared at each rate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::report::{self, Measure, Measured, Row, Run};
use crate::slices::SliceRun;
use crate::{Fault, Impact, Slices, Summary};

/// One measurement of a target at a rate.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its results.
    pub summary: Summary,
    /// The end of its warm-up, since a moment that all trials share.
    pub begin: Duration,
    /// The P99.9 minus the median, divided by that of the first target in the same trial.
    pub gap_ratio: Option<f64>,
    /// Why it was not as expected.
    pub unmet: Vec<String>,
    /// The faults that were committed meanwhile.
    pub faults: Vec<(Fault, Impact)>,
}

impl Trial {
    /// A measurement that is not compared, and of which nothing was expected.
    #[must_use]
    pub fn new(summary: Summary, begin: Duration) -> Self {
        Self { summary, begin, gap_ratio: None, unmet: Vec::new(), faults: Vec::new() }
    }
}

impl AsRef<Summary> for Trial {
    fn as_ref(&self) -> &Summary {
        &self.summary
    }
}

/// Compares the targets that were measured at one rate with the first one.
pub fn compare(targets: &mut [Row<Trial>]) {
    let gap = |trial: &Trial| trial.summary.gap_ms().filter(|&gap| gap > 0.0);
    let first: Vec<Option<f64>> =
        targets.first().map_or(Vec::new(), |first| first.trials.iter().map(gap).collect());
    for (trial, first) in targets.iter_mut().flat_map(|row| row.trials.iter_mut().zip(&first)) {
        trial.gap_ratio = trial.summary.gap_ms().zip(*first).map(|(gap, first)| gap / first);
    }
}

impl Measured for Trial {
    fn measures() -> Vec<Measure<Self>> {
        let compared = [Measure::new(
            "gap_ratio",
            "The gap divided by that of the first target in the same trial.",
            |trial: &Self| trial.gap_ratio,
        )
        .column("RATIO", 3)
        .when(|rows| rows.iter().any(|row| row.name != rows[0].name))];
        let judged = [
            Measure::new("goodput", "Answers within the objective, a second.", |trial: &Self| {
                trial.summary.goodput()
            })
            .column("GOODPUT", 1)
            .when(has_objective),
            Measure::new(
                "within_slo",
                "Answers within the objective, as a share of all requests.",
                |trial: &Self| trial.summary.good_share(),
            )
            .when(has_objective),
            Measure::new("accuracy", "The share of rows that are right.", |trial: &Self| {
                trial.summary.accuracy()
            })
            .column("ACCURACY", 4)
            .when(has_labels),
            Measure::new("A_d", "The share of rebuilt rows that are right.", |trial: &Self| {
                trial.summary.degraded_accuracy()
            })
            .column("A_D", 4)
            .when(has_labels),
        ];
        let own = [
            Measure::new("median", "The median of how late requests were sent, in ms.", |trial: &Self| {
                trial.summary.late_ms(0.5)
            })
            .within("lateness_ms"),
            Measure::new("p99", "Its P99.", |trial: &Self| trial.summary.late_ms(0.99))
                .column("LATE", 3)
                .within("lateness_ms"),
            Measure::new("max", "The latest.", |trial: &Self| trial.summary.late_ms(1.0))
                .within("lateness_ms"),
            Measure::new("seconds", "The time until the last answer.", |trial: &Self| {
                Some(trial.summary.end_ns as f64 / 1e9)
            }),
        ];
        let all = report::latencies().into_iter().chain(compared).chain(report::shares());
        all.chain(judged).chain(own).collect()
    }
}

fn has_objective(rows: &[Row<Trial>]) -> bool {
    rows.iter().flat_map(|row| &row.trials).any(|trial| trial.summary.slo.is_some())
}

fn has_labels(rows: &[Row<Trial>]) -> bool {
    rows.iter().flat_map(|row| &row.trials).any(|trial| trial.summary.judged > 0)
}

/// A table with a line for each target and rate; times are in ms.
#[must_use]
pub fn table(rows: &[Row<Trial>]) -> String {
    let failed = |row: &Row<Trial>| match failures(row) {
        none if none.is_empty() => "0".to_owned(),
        some => some.iter().map(|(kind, count)| format!("{kind}:{count}")).collect::<Vec<_>>().join(","),
    };
    let last = std::iter::once("FAILED".to_owned()).chain(rows.iter().map(failed));
    let mut table = String::new();
    for (line, last) in report::table(rows).lines().zip(last) {
        let _ = writeln!(table, "{line}  {last}");
    }
    table
}

/// The trials of one target at one rate, in the JSON of parm-load.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TargetRun {
    /// What reports of simulations have, too.
    #[serde(flatten)]
    pub run: Run<Trial>,
    /// The number of trials.
    pub trials: usize,
    /// Requests without an answer of all trials.
    pub failed: u64,
    /// The same by kind.
    pub failures: BTreeMap<String, u64>,
    /// Why what was expected does not hold; left out if it does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<String>,
    /// The faults of a drill; left out if there was none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drill: Vec<FaultRun>,
    /// Slices of time, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slices: Option<Vec<SliceRun>>,
}

/// A fault that was committed, and what it cost.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FaultRun {
    /// Its name.
    pub fault: String,
    /// When it was committed, in seconds after the warm-up.
    pub at_s: f64,
    /// What it cost.
    #[serde(flatten)]
    pub impact: Impact,
}

/// The table and more, for JSON.
#[must_use]
pub fn runs(rows: &[Row<Trial>]) -> Vec<TargetRun> {
    let run = |(run, row): (Run<Trial>, &Row<Trial>)| {
        let faults = row.trials.iter().flat_map(|trial| &trial.faults);
        let fault = |(fault, impact): &(Fault, Impact)| FaultRun {
            fault: fault.name.clone(),
            at_s: fault.at_s,
            impact: *impact,
        };
        TargetRun {
            run,
            trials: row.trials.len(),
            failed: row.sum(Summary::failed),
            failures: failures(row),
            unmet: row.trials.iter().flat_map(|trial| trial.unmet.clone()).collect(),
            drill: faults.map(fault).collect(),
            slices: slices(row),
        }
    };
    report::runs(rows).into_iter().zip(rows).map(run).collect()
}

/// A table with a line for each fault of a drill; times are in ms. Empty if there was no drill.
#[must_use]
pub fn drill_table(rows: &[Row<Trial>]) -> String {
    let faults: Vec<&(Fault, Impact)> =
        rows.iter().flat_map(|row| &row.trials).flat_map(|trial| &trial.faults).collect();
    let mut table = String::new();
    let Some(width) = faults.iter().map(|(fault, _)| fault.name.chars().count().clamp(5, 60)).max() else {
        return table;
    };
    let header = ["AT", "NUM", "LOST", "WORST", "RECOVERY", "REBUILT", "ACCURACY"].map(str::to_owned);
    let lines = faults.iter().map(|(fault, impact)| {
        let number = |value: Option<f64>, decimals: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let columns = [
            format!("{:.1}", fault.at_s),
            impact.requests.to_string(),
            impact.lost.to_string(),
            number(impact.worst_ms, 3),
            number(impact.recovery_ms, 1),
            number(impact.reconstructed, 4),
            number(impact.accuracy, 4),
        ];
        (fault.name.as_str(), columns)
    });
    for (name, columns) in std::iter::once(("FAULT", header)).chain(lines) {
        let name: String = name.chars().take(width).collect();
        let _ = write!(table, "{name:width$}");
        for column in columns {
            let _ = write!(table, "{column:>10}");
        }
        table.push('\n');
    }
    table
}

/// The slices of all trials together; none if they were not asked for.
fn slices(row: &Row<Trial>) -> Option<Vec<SliceRun>> {
    let rows = row.trials.first()?.summary.rows;
    let of: Vec<&Slices> = row.trials.iter().filter_map(|trial| trial.summary.slices.as_ref()).collect();
    (!of.is_empty()).then(|| Slices::runs(of.into_iter(), rows))
}

/// A table with a line for each slice of each target and rate; times are in ms. Empty if there are no slices.
#[must_use]
pub fn slices_table(rows: &[Row<Trial>]) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let name = row.name.clone().unwrap_or_default();
        for slice in slices(row).into_iter().flatten() {
            let number = |value: Option<f64>, decimals: usize| {
                value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
            };
            lines.push((
                name.clone(),
                [
                    format!("{:.1}", slice.from_s),
                    format!("{:.1}", slice.rate),
                    slice.answered.to_string(),
                    number(slice.latency_ms.median, 3),
                    number(slice.latency_ms.p99, 3),
                    number(slice.latency_ms.p999, 3),
                    number(slice.latency_ms.max, 3),
                    number(slice.reconstructed, 4),
                    slice.failed.to_string(),
                ],
            ));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let header =
        ["FROM", "RATE", "NUM", "MED", "P99", "P99.9", "MAX", "REBUILT", "FAILED"].map(str::to_owned);
    let named = rows.iter().any(|row| row.name.is_some());
    let width = lines.iter().map(|(name, _)| name.chars().count().clamp(4, 60)).max().unwrap_or(4);
    let mut table = String::new();
    for (name, columns) in std::iter::once(&("NAME".to_owned(), header)).chain(&lines) {
        if named {
            let name: String = name.chars().take(width).collect();
            let _ = write!(table, "{name:width$}");
        }
        for column in columns {
            let _ = write!(table, "{column:>10}");
        }
        table.push('\n');
    }
    table
}

/// Requests without an answer of all trials together, by kind.
fn failures(row: &Row<Trial>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (kind, count) in row.trials.iter().flat_map(|trial| &trial.summary.failures) {
        *all.entry(kind.clone()).or_default() += count;
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{Drill, Outcome, Record};

    /// A thousand answers, of which some are slow, and failures.
    fn trial(median_ms: u64, slow_ms: u64, failed: u64) -> Trial {
        let mut summary = Summary::new(5.0, 1);
        for number in 0..1000 + failed {
            let outcome = if number < 1000 { Outcome::Answered } else { Outcome::Timeout };
            let mut record = Record::new(5.0, number, 0, outcome);
            record.ended_ns = if number < 10 { slow_ms } else { median_ms } * 1_000_000;
            summary.add(&record);
        }
        Trial::new(summary, Duration::ZERO)
    }

    fn row(name: &str, trials: Vec<Trial>) -> Row<Trial> {
        Row { name: Some(name.to_owned()), rate: 5.0, trials }
    }

    #[test]
    fn targets_are_compared_with_the_first_one_in_each_trial() {
        let plain = row("plain", vec![trial(10, 110, 0), trial(10, 60, 0), trial(10, 10, 0)]);
        let coded = row("coded", vec![trial(10, 30, 1), trial(10, 20, 2), trial(10, 20, 0)]);
        let mut rows = [plain, coded];
        compare(&mut rows);
        let ratios = |row: &Row<Trial>| {
            let ratios = row.trials.iter().map(|trial| trial.gap_ratio.map(|ratio| (ratio * 1e2).round()));
            ratios.collect::<Vec<_>>()
        };
        // There is no ratio to a gap of 0.
        assert_eq!(ratios(&rows[0]), [Some(100.0), Some(100.0), None]);
        assert_eq!(ratios(&rows[1]), [Some(20.0), Some(20.0), None]);
        let table = table(&rows);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[0].join(" "),
            "NAME RATE NUM MED MEAN P99 P99.5 P99.9 MAX GAP RATIO REBUILT APPROX DEFAULT LATE FAILED"
        );
        assert_eq!((lines[2][0], *lines[2].last().unwrap()), ("coded", "timeout:3"));
        assert!(table.lines().nth(2).unwrap().contains("  0.200 ± 0.001  "), "{table}");
        let run = &runs(&rows)[1];
        assert_eq!((run.trials, run.failed, run.failures["timeout"], run.run.requests), (3, 3, 3, 3003));
    }

    #[test]
    fn faults_have_a_table_and_are_in_the_report() {
        let Drill(faults) =
            r#"{"faults": [{"at_s": 1, "kill": 77}, {"at_s": 2, "stop": 78}]}"#.parse().unwrap();
        let impact = Impact {
            requests: 9,
            lost: 1,
            worst_ms: Some(40.5),
            recovery_ms: None,
            reconstructed: Some(0.25),
            accuracy: None,
        };
        let mut one = trial(1, 1, 0);
        one.faults = faults.into_iter().map(|fault| (fault, impact)).collect();
        let rows = [row("one", vec![one]), row("two", vec![trial(1, 1, 0)])];
        let table = drill_table(&rows);
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "FAULT AT NUM LOST WORST RECOVERY REBUILT ACCURACY");
        assert_eq!(lines[1..], ["kill 77 1.0 9 1 40.500 - 0.2500 -", "stop 78 2.0 9 1 40.500 - 0.2500 -"]);
        assert_eq!(drill_table(&rows[1..]), "");
        let runs = serde_json::json!(runs(&rows));
        let fault = &runs[0]["drill"][1];
        assert_eq!(
            (&fault["fault"], &fault["lost"], &fault["recovery_ms"]),
            (&"stop 78".into(), &1.into(), &Value::Null)
        );
        assert!(runs[1].get("drill").is_none());
    }

    #[test]
    fn slices_have_a_table_and_are_in_the_report() {
        let mut summary = Summary::new(5.0, 1).with_slices(Some(Slices::new(1_000_000_000)));
        for number in 0..8 {
            let mut record = Record::new(5.0, number, number * 200_000_000, Outcome::Answered);
            record.ended_ns += 3_000_000;
            summary.add(&record);
        }
        let rows = [row("one", vec![Trial::new(summary, Duration::ZERO)]), row("two", vec![trial(1, 1, 0)])];
        let [with, without] = &runs(&rows)[..] else { panic!("two runs") };
        assert_eq!((with.slices.as_ref().unwrap()[1].answered, &without.slices), (3, &None));
        let table = slices_table(&rows);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "NAME FROM RATE NUM MED P99 P99.9 MAX REBUILT FAILED");
        assert_eq!((lines.len(), &lines[1][..4]), (3, &["one", "0.0", "5.0", "5"][..]));
        assert_eq!((lines[2][1], lines[2][9]), ("1.0", "0"));
        assert_eq!(slices_table(&rows[1..]), "");
    }

    #[test]
    fn missing_measures_have_no_column() {
        let table = table(&[Row { name: None, rate: 5.5, trials: vec![trial(1, 1, 0)] }]);
        let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        for absent in ["NAME", "RATIO", "ACCURACY", "A_D"] {
            assert!(!header.contains(&absent), "{table}");
        }
        assert!(table.lines().nth(1).unwrap().trim_start().starts_with("5.5 "), "{table}");
    }
}
