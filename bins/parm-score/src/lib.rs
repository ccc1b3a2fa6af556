//! Scores predictions against the truth, as a table or JSON.

mod aggregate;
mod json;
mod measured;
mod report;
mod samples;

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context, Result, bail};
use parm::calibration::{Calibration, Judged};
use parm::npy::{RowBuffer, RowLayout, RowReader};
use parm::score::{Fate, Row, Scorer, rank, top1};
use parm::{Dtype, Float, Task};
use parm_cli::input::{Reading, Source, check_stdin};
use parm_cli::options::choose_task;
use parm_cli::output::Compression;
use parm_cli::tools::score::Score;
use parm_cli::{Exit, Input, Io, Usage};

pub use aggregate::{Aggregate, Aggregated, Difference, Summary};
pub use json::{About, Against, Baseline, Entry, Json, Of, Report};

/// Scores a stream of predictions and prints the result.
///
/// # Errors
/// Streams that are refused or do not fit each other, and labels that are not classes.
pub fn run(options: &Score, io: &mut Io) -> Result<Exit> {
    check_stdin(options.inputs())?;
    if options.json {
        io.record_inputs();
    }
    if !options.aggregate.is_empty() {
        return aggregate::run(options, io);
    }
    let reading = options.read.reading();
    let predictions = options.input.rows(io, reading)?;
    let layout = predictions.layout();
    let task = task(options, layout)?;
    let mask =
        |input: &Option<Input>, io: &mut Io| input.as_ref().map(|input| mask(input, io, reading)).transpose();
    let masks = Masks { available: mask(&options.available, io)?, solved: mask(&options.solved, io)? };
    if task != Task::Classify {
        let (text, rows) = measured::score(task, options, predictions, &masks, io)?;
        return print(options, io, &text, rows);
    }
    if options.labels.is_none() && options.reference.is_none() {
        return Err(Usage::error("found logits, expected --labels or --reference to compare them with"));
    }
    if !layout.dtype.is_float() || layout.shape.len() != 1 {
        bail!("{}: found rows of {layout}, expected predictions: floats [classes]", predictions.name());
    }
    let classes = layout.elements();
    let labels = options.labels.as_ref().map(|input| labels(input, io, reading, classes)).transpose()?;
    let known = labels.as_ref().map(|labels| labels.rows.as_slice());
    let reference = options.reference.as_ref();
    let truth = Truth {
        reference: reference.map(|input| reference_rows(input, io, reading, classes, known)).transpose()?,
        labels,
    };
    let confidence = options.confidence.as_ref().map(|input| confidences(input, io, reading)).transpose()?;
    let tops = options.top.iter().map(|&n| n as usize).filter(|&n| (1..=classes).contains(&n)).collect();
    let scores = Scores::new(tops, &truth, options, classes);
    let scores = match layout.dtype {
        Dtype::F64 => score::<f64>(predictions, &truth, &masks, confidence.as_ref(), scores),
        _ => score::<f32>(predictions, &truth, &masks, confidence.as_ref(), scores),
    }?;
    if let Some(target) = &options.calibrate {
        let calibration =
            Calibration::fit(&scores.judged).context("--calibrate: found no reconstruction to judge")?;
        let mut output = target.create(io, Compression::ByName(3))?;
        output.write_all(format!("{}\n", serde_json::to_string(&calibration)?).as_bytes())?;
        output.commit()?;
    }
    let text = report::report(&scores, options, io)?;
    print(options, io, &text, scores.rows)
}

/// The task that the options mean, or else the rows.
fn task(options: &Score, layout: &RowLayout) -> Result<Task> {
    let given = [
        ("--boxes", options.boxes.is_some(), Task::Boxes),
        ("--values", options.values.is_some(), Task::Regress),
    ];
    let asked = options.task.with(&given)?;
    let task = asked.as_ref().map(|asked| asked.task).unwrap_or_default();
    if layout.dtype.is_float() && layout.shape.len() < 2 && task == Task::Classify {
        return choose_task(asked.as_ref(), None, layout.elements());
    }
    Ok(task)
}

fn print(options: &Score, io: &mut Io, text: &str, rows: usize) -> Result<Exit> {
    io.print(text)?;
    options.common.count(io, &format!("scored {rows} predictions"));
    Ok(Exit::Done)
}

/// A stream that was read completely, with its name for messages.
struct Known<T> {
    name: String,
    rows: Vec<T>,
}

/// The truth for predictions, by row of one copy.
struct Truth {
    labels: Option<Known<usize>>,
    reference: Option<Known<Reference>>,
}

/// The part of the deployed model's own prediction that is kept.
#[derive(Clone, Copy)]
struct Reference {
    top1: usize,
    /// The rank of the label, if it is known.
    rank: Option<usize>,
}

struct Masks {
    available: Option<Known<bool>>,
    solved: Option<Known<bool>>,
}

/// All counts.
struct Scores {
    rows: usize,
    classes: usize,
    /// The number of queries of a group.
    k: usize,
    /// The number of extra workers of a group.
    r: usize,
    /// The number of rows of one copy.
    copy_rows: usize,
    copies: usize,
    all: Scorer,
    /// The scores of groups by the number of lost predictions.
    by_lost: BTreeMap<usize, Scorer>,
    /// The scores of `none` and of `replicate` under the same losses, if the deployed model's predictions are
    /// known.
    baselines: Option<[Scorer; 2]>,
    /// The confidences of reconstructions, and whether they were right.
    judged: Vec<Judged>,
}

impl Scores {
    fn new(tops: Vec<usize>, truth: &Truth, options: &Score, classes: usize) -> Self {
        let labels = truth.labels.iter().map(|labels| labels.rows.len());
        let reference = truth.reference.iter().map(|reference| reference.rows.len());
        // Streams that do not fit the predictions are found at the end of these.
        let copy_rows = labels.chain(reference).min().unwrap_or(0);
        let k = options.k as usize;
        let all = Scorer::new(tops, copy_rows.div_ceil(k));
        let comparable = k > 1 && truth.labels.is_some() && truth.reference.is_some();
        Self {
            rows: 0,
            classes,
            k,
            r: options.r as usize,
            copy_rows,
            copies: options.copies as usize,
            baselines: comparable.then(|| [all.clone(), all.clone()]),
            all,
            by_lost: BTreeMap::new(),
            judged: Vec::new(),
        }
    }

    /// Counts the rows of one group.
    fn count(&mut self, group: usize, rows: &[(Row, Option<Reference>)]) {
        let lost = rows.iter().filter(|(row, _)| row.fate != Fate::Available).count();
        let empty = || Scorer::new(self.all.tops().to_vec(), self.copy_rows.div_ceil(self.k));
        let by_lost = (self.k > 1).then(|| self.by_lost.entry(lost).or_insert_with(empty));
        for scorer in by_lost.into_iter().chain([&mut self.all]) {
            for &(row, _) in rows {
                scorer.count(group, row);
            }
        }
        let Some([none, replicate]) = &mut self.baselines else { return };
        for (slot, &(row, reference)) in rows.iter().enumerate() {
            let unsolved = Row { fate: Fate::Unsolved, ..row };
            let (guessed, copied) = match row.fate {
                Fate::Available => (row, row),
                // Dealt round-robin, the extra workers have the first r queries.
                _ if slot < self.r => {
                    let rank = reference.and_then(|reference| reference.rank);
                    (unsolved, Row { fate: Fate::Reconstructed, rank, agrees: None })
                }
                _ => (unsolved, unsolved),
            };
            none.count(group, guessed);
            replicate.count(group, copied);
        }
    }
}

fn score<T: Float>(
    mut predictions: RowReader<Source>,
    truth: &Truth,
    masks: &Masks,
    confidence: Option<&Known<f32>>,
    mut scores: Scores,
) -> Result<Scores> {
    let (elements, block_rows) = (predictions.layout().elements(), predictions.layout().rows_per_block());
    let mut values = RowBuffer::<T>::default();
    let at = |mask: &Option<Known<bool>>, row: usize| match mask {
        Some(mask) => mask.rows.get(row).copied(),
        None => Some(true),
    };
    let mut group = Vec::with_capacity(scores.k);
    loop {
        let read = predictions.read(block_rows, &mut values)?;
        for values in values.values()[..read * elements].chunks_exact(elements) {
            let row = scores.rows;
            scores.rows += 1;
            let (Some(available), Some(solved)) = (at(&masks.available, row), at(&masks.solved, row)) else {
                continue;
            };
            let fate = match (available, solved) {
                (true, _) => Fate::Available,
                (false, true) => Fate::Reconstructed,
                (false, false) => Fate::Unsolved,
            };
            if scores.copy_rows == 0 {
                continue;
            }
            let of_copy = row % scores.copy_rows;
            let label = truth.labels.as_ref().map(|labels| labels.rows[of_copy]);
            let reference = truth.reference.as_ref().map(|reference| reference.rows[of_copy]);
            let rank = label.and_then(|label| rank(values, label));
            let judged = fate == Fate::Reconstructed || masks.available.is_none();
            if let (Some(confidence), Some(rank), true) = (confidence, rank, judged) {
                scores.judged.extend(confidence.rows.get(row).map(|&confidence| (confidence, rank == 0)));
            }
            let agrees = reference.map(|reference| top1(values) == Some(reference.top1));
            group.push((Row { fate, rank, agrees }, reference));
            // A group ends with its last slot, or with its copy.
            if (of_copy + 1).is_multiple_of(scores.k) || of_copy + 1 == scores.copy_rows {
                scores.count(of_copy / scores.k, &group);
                group.clear();
            }
        }
        if read < block_rows {
            break;
        }
    }
    check_rows(predictions.name(), truth, masks, &scores)?;
    if let Some(Known { name, rows }) = confidence.filter(|confidence| confidence.rows.len() != scores.rows) {
        let (found, expected) = (rows.len(), scores.rows);
        bail!("{name}: found {found} confidences, expected {expected} as {} has rows", predictions.name());
    }
    Ok(scores)
}

/// Checks that all streams have the same rows as the predictions.
fn check_rows(predictions: &str, truth: &Truth, masks: &Masks, scores: &Scores) -> Result<()> {
    let Scores { rows, copies, .. } = *scores;
    for mask in masks.available.iter().chain(&masks.solved) {
        let found = mask.rows.len();
        if found != rows {
            bail!("{}: found {found} entries, expected {rows} as {predictions} has rows", mask.name);
        }
    }
    let labels = truth.labels.iter().map(|labels| (&labels.name, labels.rows.len()));
    let reference = truth.reference.iter().map(|reference| (&reference.name, reference.rows.len()));
    if let Some((name, found)) = labels.chain(reference).find(|&(_, found)| found * copies != rows) {
        let several = found > 0 && rows > found && rows.is_multiple_of(found) && copies == 1;
        let hint = match copies {
            1 if several => "; for copies of the labelled rows see --copies".into(),
            1 => String::new(),
            _ => format!(" / {copies} copies"),
        };
        bail!("{name}: found {found} rows, expected as many as {predictions} has: {rows}{hint}");
    }
    Ok(())
}

/// Reads labels, which must be classes.
fn labels(input: &Input, io: &mut Io, reading: Reading, classes: usize) -> Result<Known<usize>> {
    let rows = input.labels(io, reading)?.into_iter().map(|label| label as usize).collect::<Vec<_>>();
    if let Some((row, label)) = rows.iter().enumerate().find(|&(_, &label)| label >= classes) {
        bail!("{input}: row {row}: found label {label}, expected 0 to {}", classes - 1);
    }
    Ok(Known { name: input.to_string(), rows })
}

/// Reads the deployed model's predictions, and keeps what the scores need.
fn reference_rows(
    input: &Input,
    io: &mut Io,
    reading: Reading,
    classes: usize,
    labels: Option<&[usize]>,
) -> Result<Known<Reference>> {
    let mut stream = input.rows(io, reading)?;
    let layout = stream.layout().clone();
    if !layout.dtype.is_float() || layout.shape != [classes] {
        bail!("{input}: found rows of {layout}, expected predictions of {classes} classes");
    }
    let mut rows = Vec::new();
    let mut values = RowBuffer::<f64>::default();
    loop {
        let read = stream.read(layout.rows_per_block(), &mut values)?;
        for values in values.values()[..read * classes].chunks_exact(classes) {
            let label = labels.and_then(|labels| labels.get(rows.len()).copied());
            let rank = label.and_then(|label| rank(values, label));
            rows.push(Reference { top1: top1(values).unwrap_or_default(), rank });
        }
        if read < layout.rows_per_block() {
            return Ok(Known { name: input.to_string(), rows });
        }
    }
}

/// Reads confidences: one number from 0 to 1 a row.
fn confidences(input: &Input, io: &mut Io, reading: Reading) -> Result<Known<f32>> {
    let mut stream = input.rows(io, reading)?;
    let layout = stream.layout().clone();
    if !layout.dtype.is_float() || !layout.shape.is_empty() {
        bail!("{input}: found rows of {layout}, expected confidences: one float a row");
    }
    let mut values = RowBuffer::<f32>::default();
    let count = stream.read(usize::MAX, &mut values)?;
    let rows = values.values()[..count].to_vec();
    if let Some((row, value)) = rows.iter().enumerate().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
        bail!("{input}: row {row}: found confidence {value}, expected 0 to 1");
    }
    Ok(Known { name: input.to_string(), rows })
}

fn mask(input: &Input, io: &mut Io, reading: Reading) -> Result<Known<bool>> {
    let mut mask = input.mask(io, reading)?;
    let mut rows = Vec::new();
    while mask.read(parm::npy::BLOCK_BYTES, &mut rows)? == parm::npy::BLOCK_BYTES {}
    Ok(Known { name: input.to_string(), rows })
}
