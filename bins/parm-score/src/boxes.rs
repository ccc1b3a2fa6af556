//! Scores predicted boxes by their intersection over union (IoU) with the true ones.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use parm::npy::{RowBuffer, RowReader};
use parm::score::{Interval, intersection_over_union};
use parm_cli::input::Source;
use parm_cli::tools::score::Score;
use parm_cli::{Input, Io};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Resamplings of the bootstrap.
const RESAMPLINGS: usize = 1000;

/// Scores boxes; returns the report and the number of rows.
pub(crate) fn score(
    options: &Score,
    boxes: &Input,
    mut predictions: RowReader<Source>,
    available: Option<&[bool]>,
    io: &mut Io,
) -> Result<(String, usize)> {
    let found = predictions.layout();
    if !found.dtype.is_float() || found.shape != [4] {
        bail!("{}: found rows of {found}, expected boxes: floats [4]", predictions.name());
    }
    let truth = read(&mut boxes.rows(io, options.read.reading())?)?;
    let name = predictions.name().to_owned();
    let predicted = read(&mut predictions)?;
    let (rows, copies) = (predicted.len(), options.copies as usize);
    ensure!(
        rows == truth.len() * copies,
        "{boxes}: found {} boxes, expected {}: one for each row of {name}",
        truth.len() * copies,
        rows
    );
    if let Some(available) = available {
        ensure!(
            available.len() == rows,
            "--available: found {} entries, expected {rows}: one for each row of {name}",
            available.len()
        );
    }
    // The rows of a group, and its copies, are correlated; they are resampled together.
    let groups = truth.len().div_ceil(options.k as usize).max(1);
    let mut kinds = [("available", vec![Vec::new(); groups]), ("reconstructed", vec![Vec::new(); groups])];
    for (row, predicted) in predicted.iter().enumerate() {
        let of = row % truth.len().max(1);
        let lost = available.is_some_and(|available| !available[row]);
        kinds[usize::from(lost)].1[of / options.k as usize]
            .push(intersection_over_union(predicted, &truth[of]));
    }
    let all = kinds[0].1.iter().zip(&kinds[1].1).map(|(a, b)| [a.as_slice(), b].concat()).collect();
    let [own, rebuilt] = kinds;
    let lines = [own, rebuilt, ("all", all)].map(|(kind, groups)| Line::new(kind, &groups, options.seed));
    Ok((if options.json { as_json(&lines) } else { as_table(&lines) }, rows))
}

fn read(rows: &mut RowReader<Source>) -> Result<Vec<[f32; 4]>> {
    let layout = rows.layout();
    ensure!(layout.shape == [4], "{}: found rows of {layout}, expected boxes [4]", rows.name());
    let mut values = RowBuffer::<f32>::default();
    let count = rows.read(usize::MAX, &mut values)?;
    Ok(values.values()[..count * 4].as_chunks().0.to_vec())
}

/// One line of the report.
struct Line {
    kind: &'static str,
    rows: usize,
    /// None without rows.
    fit: Option<Fit>,
}

struct Fit {
    mean: f64,
    interval: Interval,
    half: f64,
    three_quarters: f64,
}

impl Line {
    fn new(kind: &'static str, groups: &[Vec<f64>], seed: u64) -> Self {
        let rows = groups.iter().map(Vec::len).sum::<usize>();
        let share = |least: f64| {
            let enough = groups.iter().flatten().filter(|&&iou| iou >= least).count();
            enough as f64 / rows as f64
        };
        let sums: Vec<(f64, usize)> = groups
            .iter()
            .map(|group| (group.iter().sum(), group.len()))
            .filter(|&(_, count)| count > 0)
            .collect();
        let mean = |sums: &mut dyn Iterator<Item = (f64, usize)>| {
            let (sum, count) = sums.fold((0.0, 0), |(sum, count), (s, c)| (sum + s, count + c));
            sum / count as f64
        };
        let fit = || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let draw = |_| mean(&mut (0..sums.len()).map(|_| sums[rng.random_range(0..sums.len())]));
            let mut means: Vec<f64> = (0..RESAMPLINGS).map(draw).collect();
            means.sort_by(f64::total_cmp);
            let at = |share: f64| means[((RESAMPLINGS - 1) as f64 * share) as usize];
            let interval = Interval { low: at(0.025), high: at(0.975) };
            Fit {
                mean: mean(&mut sums.iter().copied()),
                interval,
                half: share(0.5),
                three_quarters: share(0.75),
            }
        };
        Self { kind, rows, fit: (rows > 0).then(fit) }
    }
}

fn as_table(lines: &[Line]) -> String {
    let mut table = format!(
        "{:<14}{:>8}{:>10}{:>16}{:>12}{:>12}\n",
        "boxes", "rows", "mean IoU", "95 % interval", "IoU >= 0.5", "IoU >= 0.75"
    );
    for Line { kind, rows, fit } in lines {
        let cells = fit.as_ref().map_or(["-".into(), "-".into(), "-".into(), "-".into()], |fit| {
            let Interval { low, high } = fit.interval;
            [
                format!("{:.4}", fit.mean),
                format!("{low:.4}-{high:.4}"),
                format!("{:.4}", fit.half),
                format!("{:.4}", fit.three_quarters),
            ]
        });
        let [mean, interval, half, three_quarters] = cells;
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{kind:<14}{rows:>8}{mean:>10}{interval:>16}{half:>12}{three_quarters:>12}");
    }
    table
}

fn as_json(lines: &[Line]) -> String {
    let row = |Line { kind, rows, fit }: &Line| {
        json!({
            "boxes": kind,
            "rows": rows,
            "mean_iou": fit.as_ref().map(|fit| fit.mean),
            "low": fit.as_ref().map(|fit| fit.interval.low),
            "high": fit.as_ref().map(|fit| fit.interval.high),
            "iou_50": fit.as_ref().map(|fit| fit.half),
            "iou_75": fit.as_ref().map(|fit| fit.three_quarters),
        })
    };
    format!("{}\n", json!({"format": 1, "boxes": lines.iter().map(row).collect::<Vec<_>>()}))
}
