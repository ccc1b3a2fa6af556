//! Scores predictions of one number against the deployed model's own, by their mean squared error and R², the
//! share of the variance that they explain.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use parm::npy::{RowBuffer, RowReader};
use parm::score::{Fate, Interval};
use parm_cli::input::Source;
use parm_cli::tools::score::Score;
use parm_cli::{Input, Io};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::Masks;

/// Resamplings of the bootstrap.
const RESAMPLINGS: usize = 1000;

/// Scores values; returns the report and the number of rows.
pub(crate) fn score(
    options: &Score,
    mut predictions: RowReader<Source>,
    masks: &Masks,
    io: &mut Io,
) -> Result<(String, usize)> {
    let name = predictions.name().to_owned();
    let one = "predictions of one number, which tell no classes apart";
    if let Some(labels) = &options.labels {
        bail!("{name}: found {one}, and {labels}; expected --reference in place of --labels");
    }
    let Some(reference) = &options.reference else {
        bail!("{name}: found {one}, expected --reference to compare them with");
    };
    let truth = read(reference, &mut reference.rows(io, options.read.reading())?)?;
    let mut buffer = RowBuffer::<f64>::default();
    let rows = predictions.read(usize::MAX, &mut buffer)?;
    let copies = options.copies as usize;
    ensure!(
        rows == truth.len() * copies,
        "{reference}: found {} rows, expected as many as {name} has: {rows}",
        truth.len() * copies
    );
    for mask in masks.available.iter().chain(&masks.solved) {
        let found = mask.rows.len();
        ensure!(found == rows, "{}: found {found} entries, expected {rows} as {name} has rows", mask.name);
    }
    let at = |mask: &Option<crate::Known<bool>>, row: usize| mask.as_ref().is_none_or(|mask| mask.rows[row]);
    // The rows of a group, and its copies, are correlated; they are resampled together.
    let groups = truth.len().div_ceil(options.k as usize).max(1);
    let kinds = [Some(Fate::Available), Some(Fate::Reconstructed), None];
    let mut sums = kinds.map(|_| vec![Sums::default(); groups]);
    let mut unsolved = 0;
    let origin = truth.first().copied().unwrap_or_default();
    for (row, &prediction) in buffer.values()[..rows].iter().enumerate() {
        let of = row % truth.len().max(1);
        let fate = match (at(&masks.available, row), at(&masks.solved, row)) {
            (true, _) => Fate::Available,
            (false, true) => Fate::Reconstructed,
            (false, false) => {
                unsolved += 1;
                continue;
            }
        };
        for (kind, sums) in kinds.iter().zip(&mut sums) {
            if kind.is_none_or(|kind| kind == fate) {
                sums[of / options.k as usize].count(prediction - truth[of], truth[of] - origin);
            }
        }
    }
    let names = ["available", "reconstructed", "all"];
    let lines: Vec<Line> =
        names.iter().zip(&sums).map(|(name, groups)| Line::new(name, groups, options.seed)).collect();
    Ok((if options.json { as_json(&lines, unsolved) } else { as_table(&lines, unsolved) }, rows))
}

fn read(name: &Input, rows: &mut RowReader<Source>) -> Result<Vec<f64>> {
    let layout = rows.layout();
    ensure!(
        layout.dtype.is_float() && layout.elements() == 1,
        "{name}: found rows of {layout}, expected predictions of one number"
    );
    let mut values = RowBuffer::<f64>::default();
    let count = rows.read(usize::MAX, &mut values)?;
    Ok(values.values()[..count].to_vec())
}

/// Sums over rows.
#[derive(Clone, Copy, Default)]
struct Sums {
    rows: f64,
    /// The sum of squared errors.
    errors: f64,
    /// The sum of true values, less the first one, and that of their squares.
    values: f64,
    squares: f64,
}

impl Sums {
    fn count(&mut self, error: f64, value: f64) {
        self.add(Self { rows: 1.0, errors: error * error, values: value, squares: value * value });
    }

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.errors += other.errors;
        self.values += other.values;
        self.squares += other.squares;
    }

    /// The mean squared error; none without rows.
    fn error(self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.errors / self.rows)
    }

    /// R²; none if all true values are equal.
    fn determination(self) -> Option<f64> {
        let scatter = self.squares - self.values * self.values / self.rows;
        (scatter > 0.0).then(|| 1.0 - self.errors / scatter)
    }
}

/// One line of the report.
struct Line {
    name: &'static str,
    rows: u64,
    error: Option<f64>,
    determination: Option<f64>,
    /// The interval of R².
    interval: Option<Interval>,
}

impl Line {
    fn new(name: &'static str, groups: &[Sums], seed: u64) -> Self {
        let total = |groups: &mut dyn Iterator<Item = Sums>| {
            groups.fold(Sums::default(), |mut sum, group| {
                sum.add(group);
                sum
            })
        };
        let groups: Vec<Sums> = groups.iter().copied().filter(|group| group.rows > 0.0).collect();
        let all = total(&mut groups.iter().copied());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |_| {
            let drawn = (0..groups.len()).map(|_| groups[rng.random_range(0..groups.len())]);
            total(&mut drawn.collect::<Vec<_>>().into_iter()).determination()
        };
        let interval =
            (groups.len() > 1).then(|| (0..RESAMPLINGS).filter_map(&mut draw).collect::<Vec<f64>>());
        let interval = interval.filter(|values| !values.is_empty()).map(|mut values| {
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
            Interval { low: at(0.025), high: at(0.975) }
        });
        let determination = all.determination();
        Self { name, rows: all.rows as u64, error: all.error(), determination, interval }
    }
}

fn as_table(lines: &[Line], unsolved: u64) -> String {
    let mut table =
        format!("{:<14}{:>8}{:>12}{:>10}{:>18}\n", "values", "rows", "MSE", "R2", "95 % interval");
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    for Line { name, rows, error, determination, interval } in lines {
        let [error, determination] = [error, determination].map(|value| number(*value));
        let interval = interval.map_or("-".into(), |Interval { low, high }| format!("{low:.4}-{high:.4}"));
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{name:<14}{rows:>8}{error:>12}{determination:>10}{interval:>18}");
    }
    if unsolved > 0 {
        let _ = writeln!(table, "{:<14}{unsolved:>8}", "unsolved");
    }
    table
}

fn as_json(lines: &[Line], unsolved: u64) -> String {
    let row = |line: &Line| {
        json!({
            "values": line.name,
            "rows": line.rows,
            "mse": line.error,
            "r2": line.determination,
            "low": line.interval.map(|interval| interval.low),
            "high": line.interval.map(|interval| interval.high),
        })
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    format!("{}\n", json!({"format": 1, "values": rows, "unsolved": unsolved}))
}
