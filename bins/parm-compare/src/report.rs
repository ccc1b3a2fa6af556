//! The table, its JSON, and the last line.

use std::fmt::Write;
use std::path::PathBuf;

use parm::{MadeBy, Task, counted};
use serde_json::json;

use crate::evaluate::Evaluation;

/// What came of all schemes.
pub(crate) struct Report {
    pub(crate) task: Task,
    /// What its scores measure.
    pub(crate) measure: &'static str,
    pub(crate) results: Vec<Evaluation>,
    /// The probability that a worker is lost.
    pub(crate) rate: f64,
    /// The measures of the deployed models, that of the options first; none without a truth.
    pub(crate) deployed: Vec<(PathBuf, Option<f64>)>,
}

impl Report {
    /// The letter or word of the scores in the table.
    fn score(&self) -> &'static str {
        if self.task == Task::Classify { "A" } else { self.measure }
    }

    /// The table for people.
    pub(crate) fn as_table(&self) -> String {
        let Self { measure, results, rate, deployed, .. } = self;
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let score = self.score();
        let at_rate = format!("{score}_all({rate})");
        let (one, rated) = ((score.len() + 5).max(9), (at_rate.len() + 2).max(13));
        let mut table = String::new();
        let width = results.iter().map(|result| result.name.chars().count()).max().unwrap_or(0).max(16) + 1;
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<width$}{:>4}{:>7}{:>6}{:>one$}{:>one$}{:>one$}{:>16}{:>rated$}{:>11}{:>11}",
            "code",
            "k",
            "extra",
            "lost",
            format!("{score}_a"),
            format!("{score}_d"),
            format!("{score}_all"),
            "95 % interval",
            at_rate,
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
                "{:<width$}{:>4}{:>6.1}%{:>6}{:>one$}{:>one$}{:>one$}{:>16}{:>rated$}{:>11}{:>11}",
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
            let _ = writeln!(table, "{measure} of {}: {}", own.display(), number(*accuracy));
            for (file, accuracy) in joint {
                let (file, accuracy) = (file.display(), number(*accuracy));
                let _ = writeln!(table, "{measure} of {file}, trained with its code: {accuracy}");
            }
        }
        let _ = writeln!(table, "{}", recommendation(results, self.score()));
        table
    }

    /// The table for programs: what parm-plot reads.
    pub(crate) fn as_json(&self, made_by: &MadeBy) -> String {
        let Self { task, measure, results, rate, deployed } = self;
        let row = |result: &Evaluation| {
            json!({
                "code": result.name,
                "k": result.k,
                "extra_workers": result.extra,
                "lost": result.extra,
            *measure: result.deployed,
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
                "task": task,
                "measure": measure,
                "loss_rate": rate,
                "rows": rows,
                "deployed": deployed
                    .iter()
                    .map(|(file, accuracy)| json!({"model": file, *measure: accuracy}))
                    .collect::<Vec<_>>(),
                "recommendation": recommendation(results, self.score()),
                "made_by": made_by,
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
fn recommendation(results: &[Evaluation], score: &str) -> String {
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
            "recommended: {} with k = {} and {} a group: {score}_all {:.4}, where {} has {:.4}",
            code.name,
            code.k,
            counted(code.extra, "extra worker"),
            code.all.unwrap_or_default(),
            baseline.name,
            baseline.all.unwrap_or_default()
        ),
    }
}
