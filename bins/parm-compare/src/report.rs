//! The table, its JSON, and the last line.

use std::fmt::Write;
use std::path::PathBuf;

use parm::counted;
use serde_json::json;

use crate::evaluate::Evaluation;

/// What came of all schemes.
pub(crate) struct Report {
    pub(crate) results: Vec<Evaluation>,
    /// The probability that a worker is lost.
    pub(crate) rate: f64,
    /// The accuracies of the deployed models, that of the options first.
    pub(crate) deployed: Vec<(PathBuf, f64)>,
}

impl Report {
    /// The table for people.
    pub(crate) fn as_table(&self) -> String {
        let Self { results, rate, deployed } = self;
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let mut table = String::new();
        let width = results.iter().map(|result| result.name.chars().count()).max().unwrap_or(0).max(16) + 1;
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<width$}{:>4}{:>7}{:>6}{:>9}{:>9}{:>9}{:>16}{:>13}{:>11}{:>11}",
            "code",
            "k",
            "extra",
            "lost",
            "A_a",
            "A_d",
            "A_all",
            "95 % interval",
            format!("A_all({rate})"),
            "agreement",
            "decode"
        );
        let mut size = None;
        for result in results {
            let this = Some((result.k, result.extra));
            if size.is_some() && size != this {
                table.push('\n');
            }
            size = this;
            let interval =
                result.interval.map(|interval| format!("{:.4}-{:.4}", interval.low, interval.high));
            let _ = writeln!(
                table,
                "{:<width$}{:>4}{:>6.1}%{:>6}{:>9}{:>9}{:>9}{:>16}{:>13}{:>11}{:>11}",
                result.name,
                result.k,
                100.0 * result.extra as f64 / result.k as f64,
                result.extra,
                number(result.available),
                number(result.degraded),
                number(result.all),
                interval.unwrap_or_else(|| "-".into()),
                number(result.at_rate),
                number(result.agreement),
                microseconds(result).map_or_else(|| "-".into(), |time| format!("{time:.2} us")),
            );
        }
        table.push('\n');
        if let [(own, accuracy), joint @ ..] = &**deployed
            && !joint.is_empty()
        {
            let _ = writeln!(table, "accuracy of {}: {accuracy:.4}", own.display());
            for (file, accuracy) in joint {
                let _ =
                    writeln!(table, "accuracy of {}, trained with its code: {accuracy:.4}", file.display());
            }
        }
        let _ = writeln!(table, "{}", recommendation(results));
        table
    }

    /// The table for programs: what parm-plot reads.
    pub(crate) fn as_json(&self) -> String {
        let Self { results, rate, deployed } = self;
        let row = |result: &Evaluation| {
            json!({
                "code": result.name,
                "k": result.k,
                "extra_workers": result.extra,
                "lost": result.extra,
            "accuracy": result.accuracy,
                "A_a": result.available,
                "A_d": result.degraded,
                "A_all": result.all,
                "low": result.interval.map(|interval| interval.low),
                "high": result.interval.map(|interval| interval.high),
                "A_all_at_rate": result.at_rate,
                "agreement": result.agreement,
                "decode_us": microseconds(result),
            })
        };
        let rows: Vec<_> = results.iter().map(row).collect();
        format!(
            "{}\n",
            json!({
                "format": 1,
                "loss_rate": rate,
                "rows": rows,
                "deployed": deployed
                    .iter()
                    .map(|(file, accuracy)| json!({"model": file, "accuracy": accuracy}))
                    .collect::<Vec<_>>(),
                "recommendation": recommendation(results),
            })
        )
    }
}

/// The time to decode one group.
fn microseconds(result: &Evaluation) -> Option<f64> {
    result.decode.map(|time| time.as_secs_f64() * 1e6)
}

/// What to do: the code that gains most over the better baseline of its own size, if its gain is not
/// chance (its interval lies above the baseline's); else nothing.
fn recommendation(results: &[Evaluation]) -> String {
    let gain = |result: &Evaluation| {
        let size =
            |other: &&Evaluation| other.is_baseline && (other.k, other.extra) == (result.k, result.extra);
        let by_all = |a: &&Evaluation, b: &&Evaluation| {
            a.all.unwrap_or_default().total_cmp(&b.all.unwrap_or_default())
        };
        let baseline = results.iter().filter(size).max_by(by_all)?;
        let sure = result.interval?.low > baseline.interval?.high;
        sure.then_some((result.all? - baseline.all?, baseline))
    };
    let codes = results.iter().filter(|result| !result.is_baseline);
    let best = codes.filter_map(|code| Some((code, gain(code)?))).max_by(|a, b| a.1.0.total_cmp(&b.1.0));
    match best {
        None => "recommended: do not code; no code is surely better than the baselines at equal cost".into(),
        Some((code, (_, baseline))) => format!(
            "recommended: {} with k = {} and {} a group: A_all {:.4}, where {} has {:.4}",
            code.name,
            code.k,
            counted(code.extra, "extra worker"),
            code.all.unwrap_or_default(),
            baseline.name,
            baseline.all.unwrap_or_default()
        ),
    }
}
