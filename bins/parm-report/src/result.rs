//! The figures and the quantities of a result.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, bail};
use parm::score::Interval;
use parm_cli::tools::plot::{Measure, Selection};
use parm_figures::{self as figures, Drawing, Figure, Input, Records};
use serde_json::Value;

use crate::folder::{Entry, Kind};

/// The most bytes of a result that is read as a whole.
const MOST_BYTES: u64 = 64 << 20;
/// The latencies that are drawn and compared: the field, and its name.
pub(crate) const LATENCIES: [(Measure, &str, &str); 3] =
    [(Measure::Median, "median", "median"), (Measure::P99, "p99", "P99"), (Measure::P999, "p99.9", "P99.9")];

/// A number that two experiments may share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity {
    /// What it is, and of what.
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Its 95 % interval, if the result has one.
    pub(crate) interval: Option<Interval>,
    /// Whether a larger value is better.
    pub(crate) larger_is_better: bool,
}

/// The figures of a result, each with a caption.
///
/// # Errors
/// A result that is not what it seemed.
pub(crate) fn drawings(kind: Kind, entry: &Entry) -> Result<Vec<(&'static str, Drawing)>> {
    let measures = LATENCIES.map(|(measure, ..)| measure);
    let selection = Selection::default();
    let chart = |caption, figure: Figure| (caption, Drawing::Chart(figure));
    Ok(match kind {
        Kind::Scores | Kind::Run => {
            vec![chart("scores, with 95 % intervals", named(figures::scores(&input(entry)?, 1)?, entry)?)]
        }
        Kind::Codes => {
            let input = input(entry)?;
            let rows = entry.value["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
            let several = |field: &str| rows.iter().any(|row| row[field] != rows[0][field]);
            let mut all = Vec::new();
            if several("k") {
                all.push(chart("accuracy over k", figures::k(&input, &selection)?));
            }
            if several("extra_workers") || all.is_empty() {
                let figure = figures::workers(&input, &selection)?;
                all.push(chart("accuracy over the number of extra workers", figure));
            }
            all
        }
        Kind::Load => {
            let input = [input(entry)?];
            let mut all =
                vec![chart("latencies over the rate of requests", figures::load(&input, &measures)?)];
            let sliced = entry.value["runs"]
                .as_array()
                .is_some_and(|runs| runs.iter().all(|run| run["slices"].is_array()));
            if sliced {
                all.push(chart("latencies over time", figures::slices(&input, &measures)?));
            }
            all
        }
        Kind::Advice => {
            vec![chart(
                "accuracy over the tail of latencies",
                figures::front(&[input(entry)?], Measure::P999)?,
            )]
        }
        Kind::Training => vec![chart("losses and scores over epochs", figures::curves(&[input(entry)?])?)],
        Kind::Records => {
            let mut records = Records::default();
            let file = File::open(&entry.path).context("cannot open")?;
            records.read(entry.name.clone(), file, || ())?;
            vec![chart("share of slower answers", records.figure()?)]
        }
        Kind::Journal => {
            vec![("one coding group", Drawing::Timeline(figures::timeline(&input(entry)?, None)?))]
        }
        Kind::Code => Vec::new(),
    })
}

/// A figure whose series without a name are called by the file.
fn named(figure: Figure, entry: &Entry) -> Result<Figure> {
    figures::combine(vec![(entry.name.clone(), figure)], None)
}

fn input(entry: &Entry) -> Result<Input> {
    let (mut bytes, file) = (Vec::new(), File::open(&entry.path).context("cannot open")?);
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).context("cannot read")?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("found more than {MOST_BYTES} bytes");
    }
    Ok((entry.name.clone(), bytes))
}

/// The quantities of a result.
pub(crate) fn quantities(kind: Kind, value: &Value) -> Vec<Quantity> {
    let list = |field: &str| value[field].as_array().map(Vec::as_slice).unwrap_or_default();
    match kind {
        Kind::Scores => list("scores").iter().filter_map(score).collect(),
        Kind::Codes => list("rows").iter().flat_map(code).collect(),
        Kind::Run => {
            ["A_a", "A_d", "agreement", "R2", "cosine"].iter().filter_map(|name| plain(name, value)).collect()
        }
        Kind::Load => list("runs").iter().flat_map(run).collect(),
        Kind::Advice | Kind::Training | Kind::Records | Kind::Journal | Kind::Code => Vec::new(),
    }
}

/// A score of parm-score.
fn score(of: &Value) -> Option<Quantity> {
    let (name, value) = (figures::score_name(of)?, of["value"].as_f64()?);
    let top = of["top"].as_u64().filter(|&top| top > 1);
    Some(Quantity {
        larger_is_better: !["mae", "mse"].contains(&name.as_str()) && !name.contains("error"),
        name: top.map_or(name.clone(), |top| format!("{name}, top {top}")),
        value,
        interval: interval(&of["low"], &of["high"]),
    })
}

/// A score of a run.
fn plain(name: &str, of: &Value) -> Option<Quantity> {
    let value = of[name].as_f64()?;
    Some(Quantity { name: name.to_owned(), value, interval: None, larger_is_better: true })
}

/// The scores of a code of parm-compare.
fn code(row: &Value) -> Vec<Quantity> {
    let [k, lost] = ["k", "lost"].map(|field| row[field].as_u64().unwrap_or_default());
    let of = |score: &str| {
        let quantity = plain(score, row)?;
        let name = format!("{score} of {}, k = {k}, {lost} lost", row["code"].as_str()?);
        let interval = (score == "A_all").then(|| interval(&row["low"], &row["high"])).flatten();
        Some(Quantity { name, interval, ..quantity })
    };
    ["A_all", "A_d", "agreement"].into_iter().filter_map(of).collect()
}

/// The latencies of a target at a rate.
fn run(run: &Value) -> Vec<Quantity> {
    let of = |(_, field, name): &(Measure, &str, &str)| {
        let latency = |of: &Value| of["latency_ms"][field].clone();
        let target = run["name"].as_str().map(|name| format!(" of {name}")).unwrap_or_default();
        Some(Quantity {
            name: format!("{name}{target} at {} requests/s, ms", run["rate"].as_f64()?),
            value: latency(run).as_f64()?,
            interval: interval(&latency(&run["low"]), &latency(&run["high"])),
            larger_is_better: false,
        })
    };
    LATENCIES.iter().filter_map(of).collect()
}

fn interval(low: &Value, high: &Value) -> Option<Interval> {
    Some(Interval { low: low.as_f64()?, high: high.as_f64()? })
}
