//! The scores of classes, as a table or JSON.

use std::fmt::Write;

use parm::Task;
use parm::calibration::auroc;
use parm::score::{Interval, Measure, Scorer};
use parm_cli::Io;
use parm_cli::tools::score::Score;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::Scores;
use crate::json::{About, Against, Baseline, Entry, FORMAT, Of, Report, text};

/// One line of the table.
struct Line {
    score: &'static str,
    about: About,
    /// The number of rows of the score; none for a weighted mean of others.
    rows: Option<u64>,
    /// A value and its interval for each top n; agreement has only one.
    values: Vec<(Option<f64>, Option<Interval>)>,
}

impl Line {
    /// Its name in the table: one word, so that scripts can split the columns.
    fn name(&self, f: f64) -> String {
        let Self { score, about, .. } = self;
        match (about.lost, about.baseline) {
            (Some(lost), _) => format!("{score}:{lost}-lost"),
            (_, Some(baseline)) => format!("{score}:{}", baseline.name()),
            _ if *score == "A_o" => format!("{score}({f})"),
            _ => (*score).to_owned(),
        }
    }
}

/// The report that the options ask for.
pub(crate) fn report(scores: &Scores, options: &Score, io: &Io) -> anyhow::Result<String> {
    let lines = lines(scores, options);
    if options.json { as_json(scores, options, &lines, io) } else { Ok(as_table(scores, options, &lines)) }
}

fn lines(scores: &Scores, options: &Score) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |scorer: &Scorer, wanted: &[(&'static str, About, Option<u64>, Measure)]| {
        let tops = |measure| if measure == Measure::Agreement { 1 } else { scorer.tops().len() };
        let cells: Vec<_> = wanted
            .iter()
            .flat_map(|&(.., measure)| (0..tops(measure)).map(move |at| (measure, at)))
            .collect();
        // The same random numbers for each scorer, so that intervals can be compared.
        let intervals = scorer.intervals(&cells, &mut ChaCha8Rng::seed_from_u64(options.seed));
        let mut values = cells.iter().map(|&(measure, at)| scorer.score(measure, at)).zip(intervals);
        for &(score, about, rows, measure) in wanted {
            let values = values.by_ref().take(tops(measure)).collect();
            lines.push(Line { score, about, rows, values });
        }
    };
    let total = scores.all.total();
    let rows = |scorer: &Scorer| Some(scorer.total().available + scorer.total().lost());
    let [available, rebuilt, all] =
        [Of::Available, Of::Reconstructed, Of::All].map(|of| About::new(of, Against::Truth));
    let mut wanted = Vec::new();
    if options.labels.is_some() {
        wanted.push(("A_a", available, Some(total.available), Measure::Available));
        wanted.push(("A_d", rebuilt, Some(total.reconstructed), Measure::Degraded));
        wanted.push(("A_o", all, None, Measure::Overall(options.unavailable_fraction)));
        wanted.push(("A_all", all, rows(&scores.all), Measure::All));
    }
    if options.reference.is_some() {
        let about = About::new(Of::Reconstructed, Against::Deployed);
        wanted.push(("agreement", about, Some(total.compared), Measure::Agreement));
    }
    add(&scores.all, &wanted);
    if options.labels.is_some() {
        for (&lost, scorer) in &scores.by_lost {
            let about = About { lost: Some(lost), ..all };
            add(scorer, &[("A_all", about, rows(scorer), Measure::All)]);
        }
        let baselines = [Baseline::None, Baseline::Replicate];
        for (baseline, scorer) in baselines.into_iter().zip(scores.baselines.iter().flatten()) {
            let about = About { baseline: Some(baseline), ..all };
            add(scorer, &[("A_all", about, rows(scorer), Measure::AllGuessed(scores.classes))]);
        }
    }
    lines
}

fn as_table(scores: &Scores, options: &Score, lines: &[Line]) -> String {
    let mut table = format!("{:<18}{:>9}", "", "rows");
    // Writing to a string cannot fail.
    for (at, n) in scores.all.tops().iter().enumerate() {
        let _ = write!(table, "{:>9}", format!("top-{n}"));
        if at == 0 {
            let _ = write!(table, "{:>17}", "95 % interval");
        }
    }
    table.push('\n');
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    for line in lines {
        let name = line.name(options.unavailable_fraction);
        let _ = write!(table, "{name:<18}{:>9}", or_dash(line.rows.map(|rows| rows.to_string())));
        for (at, (value, interval)) in line.values.iter().enumerate() {
            let _ = write!(table, "{:>9}", or_dash(value.map(|value| format!("{value:.4}"))));
            if at == 0 {
                let interval = interval.map(|Interval { low, high }| format!("{low:.4}-{high:.4}"));
                let _ = write!(table, "{:>17}", or_dash(interval));
            }
        }
        table.push('\n');
    }
    if options.confidence.is_some() {
        let auroc = or_dash(auroc(&scores.judged).map(|value| format!("{value:.4}")));
        let _ = writeln!(table, "{:<18}{:>9}{auroc:>9}", "AUROC", scores.judged.len());
    }
    if options.solved.is_some() {
        let _ = writeln!(table, "{:<18}{:>9}", "unsolved", scores.all.total().unsolved);
    }
    table
}

fn as_json(scores: &Scores, options: &Score, lines: &[Line], io: &Io) -> anyhow::Result<String> {
    let total = scores.all.total();
    let entry = |line: &Line, at: usize| {
        let (value, interval) = line.values[at];
        let top = (line.score != "agreement").then(|| scores.all.tops()[at]);
        Entry::new(line.score, line.about, value, interval, line.rows).at(top)
    };
    let entries = lines.iter().flat_map(|line| (0..line.values.len()).map(move |at| entry(line, at)));
    text(&Report {
        format: FORMAT,
        task: Task::Classify,
        rows: scores.rows,
        available: total.available,
        reconstructed: total.reconstructed,
        unsolved: total.unsolved,
        k: scores.k,
        extra_workers: scores.r,
        f: options.unavailable_fraction,
        auroc: auroc(&scores.judged),
        scores: entries.collect(),
        made_by: io.made_by(),
    })
}
