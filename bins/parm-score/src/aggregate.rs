//! `--aggregate`: what the scores of several reports, as of several seeds, come to.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use parm::statistics::Estimate;
use parm::{MadeBy, counted};
use parm_cli::tools::score::Score;
use parm_cli::{Exit, Input, Io, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::json;
use crate::samples::Samples;

/// The version of the format.
const FORMAT: u32 = 1;

/// Scores over several reports.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Aggregate {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    pub format: u32,
    /// The reports.
    pub reports: Vec<String>,
    /// Those that they are compared with, in the same order; empty without.
    pub versus: Vec<String>,
    /// The scores that any of the reports has.
    pub aggregates: Vec<Aggregated>,
    /// How this was made, and from what.
    pub made_by: MadeBy,
}

/// A score over several reports.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Aggregated {
    /// Its name: what the table calls it.
    pub score: String,
    /// What it comes to.
    #[serde(flatten)]
    pub summary: Summary,
    /// What it comes to over the other reports; null without.
    pub versus: Option<Summary>,
    /// Its differences from the other reports, pair by pair; null without, and if they have another number of values.
    pub difference: Option<Difference>,
}

/// What the values of a score come to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Summary {
    /// The number of values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1); null for one value.
    pub deviation: Option<f64>,
    /// The lower end of the 95 % confidence interval of the mean, by Student's t distribution; null for one value.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// All values, in the order of the reports.
    pub values: Vec<f64>,
}

impl Summary {
    fn new(values: &[f64]) -> Option<Self> {
        let of = Estimate::of(values)?;
        let [low, high] = ends(&of);
        Some(Self { n: of.n, mean: of.mean, deviation: of.deviation, low, high, values: values.to_vec() })
    }
}

/// The differences of pairs: those of the reports minus the others.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Difference {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1); null for one pair.
    pub deviation: Option<f64>,
    /// The lower end of the 95 % confidence interval of the mean; null for one pair.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// The statistic of the paired t test; null for one pair, and if all differences are equal.
    pub t: Option<f64>,
    /// Its two-sided p.
    pub p: Option<f64>,
}

impl Difference {
    /// None if the values are no pairs.
    fn new(values: &[f64], versus: &[f64]) -> Option<Self> {
        if values.len() != versus.len() {
            return None;
        }
        let differences: Vec<f64> = values.iter().zip(versus).map(|(a, b)| a - b).collect();
        let of = Estimate::of(&differences)?;
        let ([low, high], test) = (ends(&of), of.test());
        Some(Self {
            mean: of.mean,
            deviation: of.deviation,
            low,
            high,
            t: test.map(|test| test.t),
            p: test.map(|test| test.p),
        })
    }
}

/// The ends of the interval.
fn ends(of: &Estimate) -> [Option<f64>; 2] {
    of.interval().map_or([None; 2], |interval| [Some(interval.low), Some(interval.high)])
}

/// Reads the reports and prints what their scores come to.
pub(crate) fn run(options: &Score, io: &mut Io) -> Result<Exit> {
    let [reports, versus] = [&options.aggregate, &options.versus];
    if !versus.is_empty() && versus.len() != reports.len() {
        let (found, expected) = (counted(versus.len(), "report"), reports.len());
        return Err(Usage::error(format!("--versus: found {found}, expected {expected} as --aggregate has")));
    }
    let (samples, others) = (Samples::read(reports, io)?, Samples::read(versus, io)?);
    if let (Some(task), Some(other)) = (samples.task(), others.task()) {
        ensure!(task == other, "--versus: found reports of the task {other}, expected {task}");
    }
    let has_others = !versus.is_empty();
    let over_all = |(name, values): &(String, Vec<f64>)| {
        let others = others.of(name);
        Some(Aggregated {
            score: name.clone(),
            summary: Summary::new(values)?,
            versus: Summary::new(others),
            difference: Difference::new(values, others),
        })
    };
    let aggregates: Vec<Aggregated> = samples.scores.iter().filter_map(over_all).collect();
    ensure!(
        !has_others || aggregates.iter().any(|score| score.versus.is_some()),
        "--versus: found none of the scores of --aggregate, expected reports of the same kind"
    );
    let text = if options.json {
        let names = |inputs: &[Input]| inputs.iter().map(Input::to_string).collect();
        json::text(&Aggregate {
            format: FORMAT,
            reports: names(reports),
            versus: names(versus),
            aggregates,
            made_by: io.made_by(),
        })?
    } else {
        table(&aggregates, has_others)
    };
    io.print(&text)?;
    options.common.count(io, &format!("aggregated {}", counted(reports.len() + versus.len(), "report")));
    Ok(Exit::Done)
}

fn table(aggregates: &[Aggregated], has_others: bool) -> String {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    let interval = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{low:.4}..{high:.4}"),
        _ => "-".into(),
    };
    let width = aggregates.iter().map(|of| of.score.chars().count()).max().unwrap_or(0).max(10) + 1;
    let mut table =
        format!("{:<width$}{:>4}{:>10}{:>11}{:>18}", "score", "n", "mean", "deviation", "95 % interval");
    if has_others {
        // Writing to a string cannot fail.
        let _ = write!(table, "{:>10}{:>12}{:>18}{:>9}", "versus", "difference", "95 % interval", "p");
    }
    table.push('\n');
    for Aggregated { score, summary, versus, difference } in aggregates {
        let _ = write!(
            table,
            "{score:<width$}{:>4}{:>10.4}{:>11}{:>18}",
            summary.n,
            summary.mean,
            number(summary.deviation),
            interval(summary.low, summary.high)
        );
        if has_others {
            let difference = difference.as_ref();
            let _ = write!(
                table,
                "{:>10}{:>12}{:>18}{:>9}",
                number(versus.as_ref().map(|versus| versus.mean)),
                number(difference.map(|of| of.mean)),
                interval(difference.and_then(|of| of.low), difference.and_then(|of| of.high)),
                number(difference.and_then(|of| of.p)),
            );
        }
        table.push('\n');
    }
    table
}
