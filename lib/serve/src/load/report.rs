//! Summaries for people and programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Summary;

/// The shares of answers whose latencies are reported, with their names in the table and in JSON.
const SHARES: [(f64, &str, &str); 5] = [
    (0.5, "MED", "median"),
    (0.99, "P99", "p99"),
    (0.995, "P99.5", "p99.5"),
    (0.999, "P99.9", "p99.9"),
    (1.0, "MAX", "max"),
];

/// A table with a line for each summary; times are in ms.
#[must_use]
pub fn table(summaries: &[Summary]) -> String {
    let mut table = format!("{:>10}{:>10}", "RATE", "NUM");
    for (index, (_, name, _)) in SHARES.into_iter().enumerate() {
        let _ = write!(table, "{name:>10}");
        if index == 0 {
            let _ = write!(table, "{:>10}", "MEAN");
        }
    }
    let _ = writeln!(table, "{:>9}{:>9}{:>9}{:>9}  FAILED", "REBUILT", "APPROX", "DEFAULT", "LATE");
    for summary in summaries {
        let _ = write!(table, "{:>10}{:>10}", summary.rate, summary.answered());
        for (index, (share, ..)) in SHARES.into_iter().enumerate() {
            let _ = write!(table, "{:>10}", ms(summary.within_ms(share)));
            if index == 0 {
                let _ = write!(table, "{:>10}", ms(summary.mean_ms()));
            }
        }
        for rows in [summary.reconstructed, summary.approximate, summary.default] {
            let share = summary.share(rows).map_or("-".to_owned(), |share| format!("{share:.4}"));
            let _ = write!(table, "{share:>9}");
        }
        let failures: Vec<String> =
            summary.failures.iter().map(|(failure, count)| format!("{failure}:{count}")).collect();
        let failures = if failures.is_empty() { "0".to_owned() } else { failures.join(",") };
        let _ = writeln!(table, "{:>9}  {failures}", ms(summary.late_ms(0.99)));
    }
    table
}

fn ms(time: Option<f64>) -> String {
    time.map_or("-".to_owned(), |time| format!("{time:.3}"))
}

/// The same as an object, and a little more: parm-load(1) describes it.
#[must_use]
pub fn json(summaries: &[Summary]) -> Value {
    let run = |summary: &Summary| {
        let mut latency: serde_json::Map<String, Value> = SHARES
            .iter()
            .map(|&(share, _, name)| (name.to_owned(), json!(summary.within_ms(share))))
            .collect();
        latency.insert("mean".to_owned(), json!(summary.mean_ms()));
        json!({
            "rate": summary.rate,
            "requests": summary.answered() + summary.failed(),
            "answered": summary.answered(),
            "failed": summary.failed(),
            "failures": summary.failures,
            "seconds": summary.end_ns as f64 / 1e9,
            "latency_ms": latency,
            "lateness_ms": {
                "median": summary.late_ms(0.5),
                "p99": summary.late_ms(0.99),
                "max": summary.late_ms(1.0),
            },
            "reconstructed": summary.share(summary.reconstructed),
            "approximate": summary.share(summary.approximate),
            "default": summary.share(summary.default),
        })
    };
    json!({"format": 1, "runs": summaries.iter().map(run).collect::<Vec<_>>()})
}
