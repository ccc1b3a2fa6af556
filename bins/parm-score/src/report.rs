//! Writes scores as a table or JSON.

use std::fmt::Write;

use parm::calibration::auroc;
use parm::score::{Interval, Measure, Scorer};
use parm_cli::Io;
use parm_cli::tools::score::Score;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::Scores;

/// One line of the report.
struct Line {
    name: String,
    /// The number of rows of the score; none for a weighted mean of others.
    rows: Option<u64>,
    /// A value and its interval for each top n; agreement has only one.
    values: Vec<(Option<f64>, Option<Interval>)>,
}

/// The report that the options ask for.
pub(crate) fn text(scores: &Scores, options: &Score, io: &Io) -> String {
    let lines = lines(scores, options);
    if options.json { as_json(scores, options, &lines, io) } else { as_table(scores, options, &lines) }
}

fn lines(scores: &Scores, options: &Score) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |scorer: &Scorer, wanted: &[(String, Option<u64>, Measure)]| {
        let tops = |measure| if measure == Measure::Agreement { 1 } else { scorer.tops().len() };
        let cells: Vec<_> = wanted
            .iter()
            .flat_map(|&(.., measure)| (0..tops(measure)).map(move |at| (measure, at)))
            .collect();
        // The same random numbers for each scorer, so that intervals can be compared.
        let intervals = scorer.intervals(&cells, &mut ChaCha8Rng::seed_from_u64(options.seed));
        let mut values = cells.iter().map(|&(measure, at)| scorer.score(measure, at)).zip(intervals);
        for (name, rows, measure) in wanted {
            let values = values.by_ref().take(tops(*measure)).collect();
            lines.push(Line { name: name.clone(), rows: *rows, values });
        }
    };
    let total = scores.all.total();
    let rows = |scorer: &Scorer| Some(scorer.total().available + scorer.total().lost());
    let f = options.unavailable_fraction;
    let mut wanted = Vec::new();
    if options.labels.is_some() {
        wanted.push(("A_a".to_owned(), Some(total.available), Measure::Available));
        wanted.push(("A_d".to_owned(), Some(total.reconstructed), Measure::Degraded));
        wanted.push((format!("A_o({f})"), None, Measure::Overall(f)));
        wanted.push(("A_all".to_owned(), rows(&scores.all), Measure::All));
    }
    if options.reference.is_some() {
        wanted.push(("agreement".to_owned(), Some(total.compared), Measure::Agreement));
    }
    add(&scores.all, &wanted);
    if options.labels.is_some() {
        for (lost, scorer) in &scores.by_lost {
            add(scorer, &[(format!("A_all, {lost} lost"), rows(scorer), Measure::All)]);
        }
        for (name, scorer) in ["none", "replicate"].iter().zip(scores.baselines.iter().flatten()) {
            add(scorer, &[(format!("A_all, {name}"), rows(scorer), Measure::AllGuessed(scores.classes))]);
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
        // One word, so that scripts can split the columns.
        let name = line.name.replace(", ", ":").replace(' ', "-");
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

fn as_json(scores: &Scores, options: &Score, lines: &[Line], io: &Io) -> String {
    let total = scores.all.total();
    let entry = |line: &Line, at: usize| {
        let (value, interval) = line.values[at];
        json!({
            "score": line.name,
            "top": (line.name != "agreement").then(|| scores.all.tops()[at]),
            "value": value,
            "low": interval.map(|interval| interval.low),
            "high": interval.map(|interval| interval.high),
            "rows": line.rows,
        })
    };
    let entries = lines
        .iter()
        .flat_map(|line| (0..line.values.len()).map(move |at| entry(line, at)))
        .collect::<Vec<_>>();
    let report = json!({
        "format": 1,
        "rows": scores.rows,
        "available": total.available,
        "reconstructed": total.reconstructed,
        "unsolved": total.unsolved,
        "k": scores.k,
        "extra_workers": scores.r,
        "f": options.unavailable_fraction,
        "auroc": auroc(&scores.judged),
        "scores": entries,
        "made_by": io.made_by(),
    });
    format!("{report}\n")
}
