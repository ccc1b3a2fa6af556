//! Predictions and the truth to scores, as a table or JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context, Result, bail};
use parm::npy::{RowBuffer, RowReader, Window};
use parm::score::{Fate, Scorer, Tally, top1};
use parm::{Dtype, Float};
use parm_cli::input::{Source, check_stdin};
use parm_cli::tools::score::Score;
use parm_cli::{Exit, Input, Io};
use serde_json::json;

/// Scores a stream of predictions and prints the result.
///
/// # Errors
/// Streams that are refused or do not fit each other, labels that are no classes.
pub fn run(options: &Score, io: &mut Io) -> Result<Exit> {
    check_stdin(options.inputs())?;
    let window = options.read.window();
    let predictions = options.input.rows(io, window)?;
    let layout = predictions.layout();
    if !layout.dtype.is_float() || layout.shape.len() != 1 {
        bail!("{}: found rows of {layout}, expected predictions: floats [classes]", predictions.name());
    }
    let classes = layout.elements();
    let truth = Truth {
        labels: options.labels.as_ref().map(|input| labels(input, io, window, classes)).transpose()?,
        reference: options
            .reference
            .as_ref()
            .map(|input| reference(input, io, window, classes))
            .transpose()?,
    };
    let masks = Masks {
        available: options.available.as_ref().map(|input| mask(input, io, window)).transpose()?,
        solved: options.solved.as_ref().map(|input| mask(input, io, window)).transpose()?,
    };
    let tops = options.top.iter().map(|&n| n as usize).filter(|&n| (1..=classes).contains(&n)).collect();
    let copies = options.copies as usize;
    let (rows, scorer) = match layout.dtype {
        Dtype::F64 => score::<f64>(predictions, &truth, &masks, copies, Scorer::new(tops)),
        _ => score::<f32>(predictions, &truth, &masks, copies, Scorer::new(tops)),
    }?;
    let text = if options.json { as_json(&scorer, options, rows) } else { as_table(&scorer, options) };
    let mut stdout = io.take_stdout().context("standard output is closed")?;
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("standard output: cannot write")?;
    options.common.count(io, "parm-score", &format!("scored {rows} predictions"));
    Ok(Exit::Done)
}

/// What predictions are compared with, by row of one copy; each with its stream's name.
struct Truth {
    labels: Option<(String, Vec<usize>)>,
    /// The deployed model's own top-1.
    reference: Option<(String, Vec<usize>)>,
}

/// The masks, by row; each with its stream's name.
struct Masks {
    available: Option<(String, Vec<bool>)>,
    solved: Option<(String, Vec<bool>)>,
}

fn score<T: Float>(
    mut predictions: RowReader<Source>,
    truth: &Truth,
    masks: &Masks,
    copies: usize,
    mut scorer: Scorer,
) -> Result<(usize, Scorer)> {
    let (elements, block_rows) = (predictions.layout().elements(), predictions.layout().rows_per_block());
    let mut values = RowBuffer::<T>::default();
    let name = predictions.name().to_owned();
    let mut rows = 0;
    let at = |mask: &Option<(String, Vec<bool>)>, row: usize| match mask {
        Some((_, mask)) => mask.get(row).copied(),
        None => Some(true),
    };
    // Rows of one copy: checked against the number of predictions when these have ended.
    let copy_rows =
        truth.labels.iter().chain(&truth.reference).map(|(_, rows)| rows.len()).min().unwrap_or(0);
    loop {
        let read = predictions.read(block_rows, &mut values)?;
        for row in values.values()[..read * elements].chunks_exact(elements) {
            if let (Some(available), Some(solved)) = (at(&masks.available, rows), at(&masks.solved, rows))
                && copy_rows > 0
            {
                let fate = match (available, solved) {
                    (true, _) => Fate::Available,
                    (false, true) => Fate::Reconstructed,
                    (false, false) => Fate::Unsolved,
                };
                scorer.count(fate);
                if let Some((_, labels)) = &truth.labels {
                    scorer.label(fate, row, labels[rows % copy_rows]);
                }
                if let Some((_, reference)) = &truth.reference {
                    scorer.reference(fate, row, reference[rows % copy_rows]);
                }
            }
            rows += 1;
        }
        if read < block_rows {
            break;
        }
    }
    for (mask, found) in masks.available.iter().chain(&masks.solved).map(|(mask, rows)| (mask, rows.len())) {
        if found != rows {
            bail!("{mask}: found {found} entries, expected {rows} as {name} has rows");
        }
    }
    for (stream, found) in truth.labels.iter().chain(&truth.reference).map(|(name, rows)| (name, rows.len()))
    {
        if found * copies != rows {
            let hint = if copies > 1 { format!(" / {copies} copies") } else { String::new() };
            let several = found > 0 && rows.is_multiple_of(found) && copies == 1 && rows > found;
            let flag = if several { "; for copies of the labelled rows see --copies" } else { "" };
            bail!("{stream}: found {found} rows, expected as many as {name} has: {rows}{hint}{flag}");
        }
    }
    Ok((rows, scorer))
}

/// Reads labels that are classes.
fn labels(input: &Input, io: &mut Io, window: Window, classes: usize) -> Result<(String, Vec<usize>)> {
    let labels = input.labels(io, window)?.into_iter().map(|label| label as usize).collect::<Vec<_>>();
    if let Some((row, label)) = labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
        bail!("{input}: row {row}: found label {label}, expected 0 to {}", classes - 1);
    }
    Ok((input.to_string(), labels))
}

/// Reads the deployed model's predictions and keeps their top-1.
fn reference(input: &Input, io: &mut Io, window: Window, classes: usize) -> Result<(String, Vec<usize>)> {
    let mut rows = input.rows(io, window)?;
    let layout = rows.layout().clone();
    if !layout.dtype.is_float() || layout.shape != [classes] {
        bail!("{input}: found rows of {layout}, expected predictions of {classes} classes");
    }
    let mut tops = Vec::new();
    let mut values = RowBuffer::<f64>::default();
    loop {
        let read = rows.read(layout.rows_per_block(), &mut values)?;
        tops.extend(values.values()[..read * classes].chunks_exact(classes).filter_map(top1));
        if read < layout.rows_per_block() {
            return Ok((input.to_string(), tops));
        }
    }
}

fn mask(input: &Input, io: &mut Io, window: Window) -> Result<(String, Vec<bool>)> {
    let mut mask = input.mask(io, window)?;
    let mut entries = Vec::new();
    while mask.read(parm::npy::BLOCK_BYTES, &mut entries)? == parm::npy::BLOCK_BYTES {}
    Ok((input.to_string(), entries))
}

fn as_json(scorer: &Scorer, options: &Score, rows: usize) -> String {
    let f = options.unavailable_fraction;
    let top = |(at, n): (usize, &usize)| {
        json!({
            "n": n,
            "A_a": scorer.available.accuracy(at),
            "A_d": scorer.reconstructed.accuracy(at),
            "A_o": scorer.overall(at, f),
        })
    };
    let labelled = options.labels.is_some();
    let tops = if labelled { scorer.tops().iter().enumerate().map(top).collect() } else { Vec::new() };
    let report = json!({
        "rows": rows,
        "available": rows as u64 - scorer.lost(),
        "reconstructed": scorer.lost() - scorer.unsolved,
        "unsolved": scorer.unsolved,
        "f": f,
        "top": tops,
        "agreement": scorer.agreement(),
    });
    format!("{report}\n")
}

fn as_table(scorer: &Scorer, options: &Score) -> String {
    let mut table = format!("{:<12}{:>9}", "", "rows");
    // Writing to a string cannot fail.
    for n in scorer.tops() {
        let _ = write!(table, "{:>9}", format!("top-{n}"));
    }
    table.push('\n');
    let mut line = |name: &str, rows: Option<u64>, values: &[Option<f64>]| {
        let _ = write!(table, "{name:<12}{:>9}", rows.map_or("-".into(), |rows| rows.to_string()));
        for value in values {
            let _ = write!(table, "{:>9}", value.map_or("-".into(), |value| format!("{value:.4}")));
        }
        table.push('\n');
    };
    let tops = || 0..scorer.tops().len();
    let accuracies = |tally: &Tally| tops().map(|at| tally.accuracy(at)).collect::<Vec<_>>();
    if options.labels.is_some() {
        line("A_a", Some(scorer.available.rows), &accuracies(&scorer.available));
        line("A_d", Some(scorer.reconstructed.rows), &accuracies(&scorer.reconstructed));
        let f = options.unavailable_fraction;
        let overall: Vec<_> = tops().map(|at| scorer.overall(at, f)).collect();
        line(&format!("A_o({f})"), None, &overall);
    }
    if options.reference.is_some() {
        line("agreement", Some(scorer.compared), &[scorer.agreement()]);
    }
    if options.solved.is_some() {
        line("unsolved", Some(scorer.unsolved), &[]);
    }
    table
}
