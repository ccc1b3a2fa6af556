//! The table, its JSON, and the last line.

use std::fmt::Write;
use std::path::PathBuf;

use parm::{MadeBy, Task, counted};

use crate::evaluate::{self, Evaluation};
use crate::json::{Against, FORMAT, Model, Report, Row, Scores, Seeded};
use crate::scheme;

/// What came of all schemes.
pub(crate) struct Table<'a> {
    pub(crate) task: Task,
    /// What its scores measure.
    pub(crate) measure: &'static str,
    pub(crate) against: Against,
    pub(crate) results: Vec<Evaluation<'a>>,
    /// The probability that a worker is lost.
    pub(crate) rate: f64,
    /// The measures of the deployed models, that of the options first; none without a truth.
    pub(crate) deployed: Vec<(PathBuf, Option<f64>)>,
}

impl Table<'_> {
    /// The letter or word of the scores in the table.
    fn score(&self) -> &'static str {
        if self.task == Task::Classify { "A" } else { self.measure }
    }

    /// The table for people.
    pub(crate) fn as_text(&self) -> String {
        let Self { measure, results, rate, deployed, .. } = self;
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let score = self.score();
        let at_rate = format!("{score}_all({rate})");
        let (one, rated) = ((score.len() + 5).max(9), (at_rate.len() + 2).max(13));
        let mut table = String::new();
        let width =
            results.iter().map(|result| result.scheme.name.chars().count()).max().unwrap_or(0).max(16) + 1;
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
        let several = results.iter().any(|result| result.seeds.len() > 1);
        if several {
            table.pop();
            let _ = writeln!(table, "{:>11}", "deviation");
        }
        let mut size = None;
        for result in results {
            let scheme = result.scheme;
            let this = Some((scheme.k(), scheme.extra));
            if size.is_some() && size != this {
                table.push('\n');
            }
            size = this;
            let interval =
                result.interval.map(|interval| format!("{:.4}-{:.4}", interval.low, interval.high));
            let _ = writeln!(
                table,
                "{:<width$}{:>4}{:>6.1}%{:>6}{:>one$}{:>one$}{:>one$}{:>16}{:>rated$}{:>11}{:>11}",
                scheme.name,
                scheme.k(),
                100.0 * scheme.extra as f64 / scheme.k() as f64,
                scheme.extra,
                number(result.available),
                number(result.degraded),
                number(result.all),
                interval.unwrap_or_else(|| "-".into()),
                number(result.at_rate),
                number(result.agreement),
                microseconds(result).map_or_else(|| "-".into(), |time| format!("{time:.2} us")),
            );
            if several {
                table.pop();
                let _ = writeln!(table, "{:>11}", number(result.deviation()));
            }
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

    /// The table for programs.
    pub(crate) fn as_json(&self, made_by: MadeBy) -> serde_json::Result<String> {
        let seeded = |of: &evaluate::Seeded| Seeded {
            seed: of.seed,
            scores: Scores {
                available: of.scores.available,
                degraded: of.scores.degraded,
                all: of.scores.all,
                at_rate: of.at_rate,
                agreement: of.scores.agreement,
            },
        };
        let row = |result: &Evaluation<'_>| {
            let scheme = &result.scheme;
            Row {
                code: scheme.name.clone(),
                name: scheme.code.name().to_string(),
                training: scheme::training(&scheme.code),
                learned_decoder: scheme.code.learned_decoder().is_some(),
                directory: scheme.code.trained().map(|of| of.directory.clone()),
                k: scheme.k(),
                extra_workers: scheme.extra,
                lost: scheme.extra,
                deployed: result.deployed,
                scores: Scores {
                    available: result.available,
                    degraded: result.degraded,
                    all: result.all,
                    at_rate: result.at_rate,
                    agreement: result.agreement,
                },
                low: result.interval.map(|interval| interval.low),
                high: result.interval.map(|interval| interval.high),
                deviation: result.deviation(),
                seeds: result.seeds.iter().map(seeded).collect(),
                decode_us: microseconds(result),
            }
        };
        let model = |(file, score): &(PathBuf, Option<f64>)| Model { model: file.clone(), score: *score };
        let report = Report {
            format: FORMAT,
            task: self.task,
            measure: self.measure,
            against: self.against,
            loss_rate: self.rate,
            rows: self.results.iter().map(row).collect(),
            deployed: self.deployed.iter().map(model).collect(),
            recommendation: recommendation(&self.results, self.score()),
            made_by,
        };
        Ok(format!("{}\n", serde_json::to_string(&report)?))
    }
}

/// The time to decode one group.
fn microseconds(result: &Evaluation<'_>) -> Option<f64> {
    result.decode.map(|time| time.as_secs_f64() * 1e6)
}

/// What to do: the code that gains most over the better baseline of its own size, if its gain is not
/// chance (its interval lies above the baseline's); else nothing.
fn recommendation(results: &[Evaluation<'_>], score: &str) -> String {
    let gain = |result: &Evaluation<'_>| {
        let size = |of: &Evaluation<'_>| (of.scheme.k(), of.scheme.extra);
        let fits = |other: &&Evaluation<'_>| other.scheme.is_baseline() && size(other) == size(result);
        let by_all = |a: &&Evaluation<'_>, b: &&Evaluation<'_>| {
            a.all.unwrap_or_default().total_cmp(&b.all.unwrap_or_default())
        };
        let baseline = results.iter().filter(fits).max_by(by_all)?;
        let sure = result.interval?.low > baseline.interval?.high;
        sure.then_some((result.all? - baseline.all?, baseline))
    };
    let codes = results.iter().filter(|result| !result.scheme.is_baseline());
    let best = codes.filter_map(|code| Some((code, gain(code)?))).max_by(|a, b| a.1.0.total_cmp(&b.1.0));
    match best {
        None => "recommended: do not code; no code is surely better than the baselines at equal cost".into(),
        Some((code, (_, baseline))) => format!(
            "recommended: {} with k = {} and {} a group: {score}_all {:.4}, where {} has {:.4}",
            code.scheme.name,
            code.scheme.k(),
            counted(code.scheme.extra, "extra worker"),
            code.all.unwrap_or_default(),
            baseline.scheme.name,
            baseline.all.unwrap_or_default()
        ),
    }
}
