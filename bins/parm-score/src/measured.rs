//! Scores predictions that are no classes: values, embeddings and boxes.
//!
//! A line of the report is about some rows (those that were available, those that were rebuilt, all) against the
//! truth or against the deployed model's own predictions, or about a baseline under the same losses.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use parm::Task;
use parm::measures::{Column, Measures, Tally};
use parm::neighbours::{NEIGHBOURS, Neighbours, recall};
use parm::npy::{RowBuffer, RowReader};
use parm::score::{Fate, Interval};
use parm::task::Spread;
use parm_cli::input::Source;
use parm_cli::tools::score::Score;
use parm_cli::{Input, Io, Usage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::json::{self, About, Against, Baseline, Entry, Of};
use crate::{Known, Masks};

/// Rows of floats.
struct Rows {
    name: String,
    values: Vec<f64>,
    elements: usize,
}

impl Rows {
    fn read(task: Task, rows: &mut RowReader<Source>, like: Option<usize>) -> Result<Self> {
        let (name, layout) = (rows.name().to_owned(), rows.layout().clone());
        let elements = layout.elements();
        let expected = match (task, like) {
            (Task::Boxes, _) => "boxes: floats [4]".to_owned(),
            (Task::Regress, None) => "values: floats, one or [d] a row".to_owned(),
            (Task::Embed | Task::Classify, None) => "embeddings: floats [d], d from 2".to_owned(),
            (_, Some(like)) => format!("floats [{like}], as the predictions have"),
        };
        let fits = like.is_none_or(|like| like == elements) && task.misfit(elements).is_none();
        ensure!(
            layout.dtype.is_float() && layout.shape.len() < 2 && fits,
            "{name}: found rows of {layout}, expected {expected}"
        );
        let mut values = RowBuffer::<f64>::default();
        let count = rows.read(usize::MAX, &mut values)?;
        Ok(Self { name, values: values.values()[..count * elements].to_vec(), elements })
    }

    fn count(&self) -> usize {
        self.values.len() / self.elements
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.elements..][..self.elements]
    }

    /// Refuses what is no number, in the rows that are scored.
    fn check(&self, is_scored: impl Fn(usize) -> bool, hint: &str) -> Result<()> {
        let is_wrong = |row: &usize| is_scored(*row) && self.row(*row).iter().any(|value| !value.is_finite());
        match (0..self.count()).find(is_wrong) {
            Some(row) => {
                bail!("{}: row {row}: found a value that is not finite, expected numbers{hint}", self.name)
            }
            None => Ok(()),
        }
    }

    fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|value| *value as f32).collect()
    }
}

/// What stands in the place of a prediction.
#[derive(Clone, Copy)]
enum Stands {
    /// The row of the predictions as it is.
    Row,
    /// The deployed model's own.
    Own,
    /// A guess: the mean of the deployed model's predictions, or of the true ones.
    Guess,
}

/// Scores predictions; returns the report and the number of rows.
pub(crate) fn score(
    task: Task,
    options: &Score,
    mut predictions: RowReader<Source>,
    masks: &Masks,
    io: &mut Io,
) -> Result<(String, usize)> {
    check(task, options, predictions.name())?;
    let rows = Rows::read(task, &mut predictions, None)?;
    let mut read = |input: &Option<Input>| {
        let read = |input: &Input| {
            let mut stream = input.rows(io, options.read.reading())?;
            Rows::read(task, &mut stream, Some(rows.elements))
        };
        input.as_ref().map(read).transpose()
    };
    let truth = read(if task == Task::Boxes { &options.boxes } else { &options.values })?;
    let reference = read(&options.reference)?;
    let labels = options.labels.as_ref().map(|input| input.labels(io, options.read.reading())).transpose()?;
    let set = Set::new(task, options, rows, truth, reference, masks)?;
    let found =
        labels.as_ref().zip(options.labels.as_ref()).filter(|(labels, _)| labels.len() != set.originals);
    if let Some((labels, input)) = found {
        bail!("{input}: found {} labels, expected {}: one for each row", labels.len(), set.originals);
    }
    let near = (task == Task::Embed).then(|| Near::new(&set, labels)).transpose()?;
    let report = Report { lines: set.lines(options, near.as_ref()), columns: set.columns(near.as_ref()) };
    let text = if options.json { report.json(&set, options, io)? } else { report.table(&set) };
    Ok((text, set.rows.count()))
}

/// Refuses options that the task does not have.
fn check(task: Task, options: &Score, name: &str) -> Result<()> {
    let given = [
        ("--labels", options.labels.is_some() && task != Task::Embed),
        ("--confidence", options.confidence.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        let reason = if flag == "--labels" { "has no classes" } else { "is not right or wrong" };
        let message = format!("{name}: found {flag}, but a prediction of the task {task} {reason}");
        return Err(Usage::error(format!("{message}: leave it out")));
    }
    let (lacks, expected) = match task {
        Task::Classify | Task::Embed => (options.reference.is_none(), "--reference"),
        Task::Regress => (options.values.is_none() && options.reference.is_none(), "--values or --reference"),
        Task::Boxes => (options.boxes.is_none(), "--boxes"),
    };
    if lacks {
        let found = task.output();
        return Err(Usage::error(format!("{name}: found {found}, expected {expected} to compare them with")));
    }
    Ok(())
}

/// Everything that is scored.
struct Set {
    task: Task,
    rows: Rows,
    truth: Option<Rows>,
    reference: Option<Rows>,
    fates: Vec<Fate>,
    /// The number of rows of one copy.
    originals: usize,
    guess: Vec<f64>,
    /// The largest distance of values that agree.
    tolerance: f64,
    has_losses: bool,
}

impl Set {
    fn new(
        task: Task,
        options: &Score,
        rows: Rows,
        truth: Option<Rows>,
        reference: Option<Rows>,
        masks: &Masks,
    ) -> Result<Self> {
        let (count, name) = (rows.count(), &rows.name);
        let copies = options.copies as usize;
        for other in truth.iter().chain(&reference) {
            let found = other.count() * copies;
            ensure!(
                found == count,
                "{}: found {found} rows, expected as many as {name} has: {count}",
                other.name
            );
            other.check(|_| true, "")?;
        }
        for mask in masks.available.iter().chain(&masks.solved) {
            let found = mask.rows.len();
            ensure!(
                found == count,
                "{}: found {found} entries, expected {count} as {name} has rows",
                mask.name
            );
        }
        let at = |mask: &Option<Known<bool>>, row: usize| mask.as_ref().is_none_or(|mask| mask.rows[row]);
        let fate = |row| match (at(&masks.available, row), at(&masks.solved, row)) {
            (true, _) => Fate::Available,
            (false, true) => Fate::Reconstructed,
            (false, false) => Fate::Unsolved,
        };
        let fates: Vec<Fate> = (0..count).map(fate).collect();
        let hint = "; --solved leaves out what could not be rebuilt";
        rows.check(|row| fates[row] != Fate::Unsolved, if masks.solved.is_none() { hint } else { "" })?;
        let own = reference.as_ref().or(truth.as_ref());
        let spread = own.map_or_else(Spread::default, |own| Spread::of(&own.values, own.elements));
        let mut guess = spread.mean().to_vec();
        guess.resize(rows.elements, 0.0);
        Ok(Self {
            task,
            originals: count / copies,
            fates,
            guess,
            tolerance: options.tolerance * spread.deviation(),
            has_losses: masks.available.is_some(),
            rows,
            truth,
            reference,
        })
    }

    /// The number of rows of this fate.
    fn count(&self, fate: Fate) -> u64 {
        self.fates.iter().filter(|other| **other == fate).count() as u64
    }

    fn other(&self, against: Against) -> Option<&Rows> {
        match against {
            Against::Truth => self.truth.as_ref(),
            Against::Deployed => self.reference.as_ref(),
        }
    }

    fn measures(&self, against: Against) -> Measures {
        let origin = self.other(against).filter(|rows| rows.count() > 0).map_or(&[][..], |rows| rows.row(0));
        Measures::new(self.task, self.task.agreement(self.tolerance), origin)
    }

    fn columns(&self, near: Option<&Near>) -> Vec<Column> {
        let own = self.measures(Against::Deployed).columns();
        own.iter().copied().chain(near.iter().flat_map(|near| near.columns()).copied()).collect()
    }

    fn lines(&self, options: &Score, near: Option<&Near>) -> Vec<Line> {
        let k = options.k as usize;
        let line = |about: About, stands: &dyn Fn(usize) -> Option<Stands>| {
            let other = self.other(about.against)?;
            let measures = self.measures(about.against);
            let extra = near.map_or(0, |near| near.columns().len());
            let mut tally = Tally::new(measures.width() + extra, self.originals.div_ceil(k));
            for row in 0..self.rows.count() {
                let Some(stands) = stands(row) else { continue };
                let of = row % self.originals;
                let prediction = match (stands, &self.reference) {
                    (Stands::Row, _) => self.rows.row(row),
                    (Stands::Own, Some(reference)) => reference.row(of),
                    (Stands::Own | Stands::Guess, _) => &self.guess,
                };
                let mut sums = measures.row(prediction, other.row(of));
                sums.extend(near.iter().flat_map(|near| near.scores(stands, row, of)));
                tally.count(of / k, &sums);
            }
            // The same random numbers for each line, so that intervals can be compared.
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            let sums = tally.total();
            let extras = sums[measures.width()..].iter().map(|sum| (sums[0] > 0.0).then(|| sum / sums[0]));
            let own = |sums: &[f64]| measures.scores(&sums[..measures.width()]);
            Some(Line {
                about,
                rows: sums[0] as u64,
                values: own(&sums).into_iter().chain(extras).collect(),
                interval: tally.interval(|sums| measures.main(&sums[..measures.width()]), &mut rng),
            })
        };
        let only = |fate: Fate| move |row: usize| (self.fates[row] == fate).then_some(Stands::Row);
        let stands = |row: usize| if self.fates[row] == Fate::Unsolved { Stands::Guess } else { Stands::Row };
        let main = if self.truth.is_some() { Against::Truth } else { Against::Deployed };
        let all = About::new(Of::All, main);
        let mut lines = vec![
            line(About::new(Of::Available, main), &only(Fate::Available)),
            line(About::new(Of::Reconstructed, main), &only(Fate::Reconstructed)),
            line(all, &|row| Some(stands(row))),
        ];
        if main == Against::Truth {
            let about = About::new(Of::Reconstructed, Against::Deployed);
            lines.push(line(about, &only(Fate::Reconstructed)));
        }
        if k > 1 && self.has_losses && self.reference.is_some() {
            let lost = |row: usize, instead: Stands| {
                if self.fates[row] == Fate::Available { Stands::Row } else { instead }
            };
            // Dealt round-robin, the extra workers have the first r queries.
            let copied = |row: usize| (row % self.originals) % k < options.r as usize;
            let copy = |row: usize| if copied(row) { Stands::Own } else { Stands::Guess };
            let instead = |baseline| About { baseline: Some(baseline), ..all };
            lines.push(line(instead(Baseline::None), &|row| Some(lost(row, Stands::Guess))));
            lines.push(line(instead(Baseline::Replicate), &|row| Some(lost(row, copy(row)))));
        }
        lines.into_iter().flatten().collect()
    }
}

/// The neighbours of embeddings among the deployed model's own.
struct Near {
    /// Of the deployed model's own embeddings.
    own: Vec<Vec<usize>>,
    /// Of the predictions, row by row.
    rows: Vec<Vec<usize>>,
    guess: Vec<Vec<usize>>,
    labels: Option<Vec<i64>>,
}

impl Near {
    fn new(set: &Set, labels: Option<Vec<i64>>) -> Result<Self> {
        let Some(reference) = &set.reference else {
            return Err(Usage::error("found embeddings, expected --reference to compare them with"));
        };
        let neighbours = Neighbours::new(&reference.floats(), reference.elements);
        let all: Vec<usize> = (0..set.originals).collect();
        let own = neighbours.nearest(&reference.floats(), &all);
        // Rows that are the deployed model's own have its neighbours.
        let differs = |row: &usize| set.rows.row(*row) != reference.row(*row % set.originals);
        let asked: Vec<usize> = (0..set.rows.count()).filter(differs).collect();
        let queries: Vec<f32> =
            asked.iter().flat_map(|&row| set.rows.row(row)).map(|value| *value as f32).collect();
        let of: Vec<usize> = asked.iter().map(|row| row % set.originals).collect();
        let mut rows: Vec<Vec<usize>> =
            (0..set.rows.count()).map(|row| own[row % set.originals].clone()).collect();
        for (row, found) in asked.into_iter().zip(neighbours.nearest(&queries, &of)) {
            rows[row] = found;
        }
        let guess: Vec<f32> = all.iter().flat_map(|_| &set.guess).map(|value| *value as f32).collect();
        Ok(Self { own, rows, guess: neighbours.nearest(&guess, &all), labels })
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column { title: "recall@10", key: "recall_10" },
            Column { title: "label-recall", key: "label_recall_10" },
            Column { title: "label-share", key: "label_share_10" },
        ];
        if self.labels.is_some() { COLUMNS } else { &COLUMNS[..1] }
    }

    /// Of what stands for a row: the share of the own neighbours that are found; whether one found has the row's
    /// label; the share of those found that have it.
    fn scores(&self, stands: Stands, row: usize, of: usize) -> Vec<f64> {
        let found = match stands {
            Stands::Row => &self.rows[row],
            Stands::Own => &self.own[of],
            Stands::Guess => &self.guess[of],
        };
        let mut scores = vec![recall(&self.own[of], found)];
        if let Some(labels) = &self.labels {
            let same = found.iter().filter(|&&other| labels[other] == labels[of]).count();
            let most = NEIGHBOURS.min(labels.len().saturating_sub(1)).max(1);
            scores.extend([f64::from(u8::from(same > 0)), same as f64 / most as f64]);
        }
        scores
    }
}

/// One line of the report.
struct Line {
    about: About,
    rows: u64,
    values: Vec<Option<f64>>,
    /// Of the first value.
    interval: Option<Interval>,
}

struct Report {
    columns: Vec<Column>,
    lines: Vec<Line>,
}

impl Report {
    fn table(&self, set: &Set) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let mut table = format!("{:<14}{:>10}{:>8}", set.task.output(), "against", "rows");
        // Writing to a string cannot fail.
        for (at, column) in self.columns.iter().enumerate() {
            let _ = write!(table, "{:>13}", column.title);
            if at == 0 {
                let _ = write!(table, "{:>18}", "95 % interval");
            }
        }
        table.push('\n');
        for Line { about, rows, values, interval } in &self.lines {
            // One word, so that scripts can split the columns.
            let name = about.baseline.map(|baseline| format!(":{}", baseline.name()));
            let name = format!("{}{}", about.of.name(), name.unwrap_or_default());
            let _ = write!(table, "{name:<14}{:>10}{rows:>8}", about.against.name());
            for (at, value) in values.iter().enumerate() {
                let _ = write!(table, "{:>13}", or_dash(value.map(|value| format!("{value:.4}"))));
                if at == 0 {
                    let interval = interval.map(|Interval { low, high }| format!("{low:.4}-{high:.4}"));
                    let _ = write!(table, "{:>18}", or_dash(interval));
                }
            }
            table.push('\n');
        }
        let unsolved = set.count(Fate::Unsolved);
        if unsolved > 0 {
            let _ = writeln!(table, "{:<14}{:>10}{unsolved:>8}", "unsolved", "");
        }
        table
    }

    fn json(&self, set: &Set, options: &Score, io: &Io) -> Result<String> {
        let entries = |line: &Line| {
            let about = line.about;
            let rows = Some(line.rows);
            let values = self.columns.iter().zip(line.values.clone()).enumerate();
            values
                .map(|(at, (column, value))| {
                    let interval = line.interval.filter(|_| at == 0);
                    Entry::new(column.key, about, value, interval, rows)
                })
                .collect::<Vec<_>>()
        };
        json::text(&json::Report {
            format: json::FORMAT,
            task: set.task,
            rows: set.rows.count(),
            available: set.count(Fate::Available),
            reconstructed: set.count(Fate::Reconstructed),
            unsolved: set.count(Fate::Unsolved),
            k: options.k as usize,
            extra_workers: options.r as usize,
            f: options.unavailable_fraction,
            auroc: None,
            scores: self.lines.iter().flat_map(entries).collect(),
            made_by: io.made_by(),
        })
    }
}
