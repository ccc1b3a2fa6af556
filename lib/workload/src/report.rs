//! Reports of trials of targets at rates, as tables and JSON, for `parm-load` and `parm-sim`.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use parm::score::Interval;
use parm::statistics::Estimate;
use serde_json::{Map, Value, json};

use crate::Summary;

/// The trials of one target at one rate; there is at least one.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The name of the target, if it has one.
    pub name: Option<String>,
    /// The requests a second.
    pub rate: f64,
    /// The trials in order.
    pub trials: Vec<T>,
}

/// A quantity of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Measure<T> {
    /// The JSON object that contains it, if any.
    pub within: Option<&'static str>,
    /// Its name in JSON.
    pub name: &'static str,
    /// Its column in the table, if it has one, and the decimals there.
    pub column: Option<(&'static str, usize)>,
    /// Its value; none if the trial does not have it.
    pub of: fn(&T) -> Option<f64>,
}

impl<T> Measure<T> {
    /// A measure at the top level of the JSON.
    #[must_use]
    pub fn new(name: &'static str, column: Option<(&'static str, usize)>, of: fn(&T) -> Option<f64>) -> Self {
        Self { within: None, name, column, of }
    }

    /// Puts the measure into a JSON object.
    #[must_use]
    pub fn within(self, object: &'static str) -> Self {
        Self { within: Some(object), ..self }
    }
}

/// The latencies of answers, in ms.
#[must_use]
pub fn latencies<T: AsRef<Summary>>() -> Vec<Measure<T>> {
    let measures: [Measure<T>; 7] = [
        Measure::new("median", Some(("MED", 3)), |trial| trial.as_ref().within_ms(0.5)),
        Measure::new("mean", Some(("MEAN", 3)), |trial| trial.as_ref().mean_ms()),
        Measure::new("p99", Some(("P99", 3)), |trial| trial.as_ref().within_ms(0.99)),
        Measure::new("p99.5", Some(("P99.5", 3)), |trial| trial.as_ref().within_ms(0.995)),
        Measure::new("p99.9", Some(("P99.9", 3)), |trial| trial.as_ref().within_ms(0.999)),
        Measure::new("max", Some(("MAX", 3)), |trial| trial.as_ref().within_ms(1.0)),
        Measure::new("gap", Some(("GAP", 3)), |trial| trial.as_ref().gap_ms()),
    ];
    measures.map(|measure| measure.within("latency_ms")).into()
}

/// The shares of the answered rows.
#[must_use]
pub fn shares<T: AsRef<Summary>>() -> Vec<Measure<T>> {
    vec![
        Measure::new("reconstructed", Some(("REBUILT", 4)), |trial| share(trial, |all| all.reconstructed)),
        Measure::new("approximate", Some(("APPROX", 4)), |trial| share(trial, |all| all.approximate)),
        Measure::new("default", Some(("DEFAULT", 4)), |trial| share(trial, |all| all.default)),
    ]
}

fn share<T: AsRef<Summary>>(trial: &T, rows: fn(&Summary) -> u64) -> Option<f64> {
    trial.as_ref().share(rows(trial.as_ref()))
}

impl<T> Row<T> {
    /// The median of a quantity over the trials; none if no trial has it.
    #[must_use]
    pub fn median(&self, of: fn(&T) -> Option<f64>) -> Option<f64> {
        self.spread(of).map(|[median, ..]| median)
    }

    /// The 95 % confidence interval of the mean of a quantity over the trials, by Student's t distribution; none if
    /// fewer than two trials have it.
    #[must_use]
    pub fn interval(&self, of: fn(&T) -> Option<f64>) -> Option<[f64; 2]> {
        let values: Vec<f64> = self.trials.iter().filter_map(of).collect();
        let Interval { low, high } = Estimate::of(&values)?.interval()?;
        Some([low, high])
    }

    /// A quantity in the table: the mean with half of its interval, to two digits of that; or what all values are.
    fn cell(&self, of: fn(&T) -> Option<f64>, decimals: usize) -> String {
        let Some([low, high]) = self.interval(of).filter(|[low, high]| low < high) else {
            return self.median(of).map_or("-".to_owned(), |all| format!("{all:.decimals$}"));
        };
        let (mean, half) = (f64::midpoint(low, high), (high - low) / 2.0);
        let decimals = (1.0 - half.log10().floor()).clamp(0.0, decimals as f64) as usize;
        format!("{mean:.decimals$} ± {half:.decimals$}")
    }

    /// The median, minimum and maximum of a quantity over the trials, and the ends of the interval of its mean.
    fn statistics(&self, of: fn(&T) -> Option<f64>) -> [Option<f64>; 5] {
        let [median, least, most] = self.spread(of).map_or([None; 3], |spread| spread.map(Some));
        let [low, high] = self.interval(of).map_or([None; 2], |interval| interval.map(Some));
        [median, least, most, low, high]
    }

    /// The median, minimum and maximum of a quantity over the trials; none if no trial has it.
    fn spread(&self, of: fn(&T) -> Option<f64>) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.trials.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied();
        let last = values.len().checked_sub(1)?;
        Some([f64::midpoint(at(last / 2)?, at(values.len() / 2)?), at(0)?, at(last)?])
    }
}

impl<T: AsRef<Summary>> Row<T> {
    /// The sum of a count over all trials.
    #[must_use]
    pub fn sum(&self, of: fn(&Summary) -> u64) -> u64 {
        self.trials.iter().map(|trial| of(trial.as_ref())).sum()
    }
}

/// A table with a line for each row; times are in ms. Names have a column if there are any.
#[must_use]
pub fn table<T: AsRef<Summary>>(rows: &[Row<T>], measures: &[Measure<T>]) -> String {
    let names = rows.iter().filter_map(|row| row.name.as_deref());
    let width = names.map(|name| name.chars().count().clamp(4, 60)).max();
    let columns = || measures.iter().filter_map(|measure| Some((measure.of, measure.column?)));
    let header = ["RATE", "NUM"].into_iter().chain(columns().map(|(_, (column, _))| column));
    let mut lines = vec![("NAME", header.map(str::to_owned).collect::<Vec<_>>())];
    for row in rows {
        let first = [rounded(row.rate).to_string(), row.sum(Summary::answered).to_string()];
        let cells = columns().map(|(of, (_, decimals))| row.cell(of, decimals));
        lines.push((row.name.as_deref().unwrap_or_default(), first.into_iter().chain(cells).collect()));
    }
    let width_of = |column: usize| {
        let cells = lines.iter().filter_map(|(_, cells)| cells.get(column));
        cells.map(|cell| cell.chars().count() + 2).max().unwrap_or(0).max(10)
    };
    let widths: Vec<usize> = (0..measures.len() + 2).map(width_of).collect();
    let mut table = String::new();
    for (name, cells) in &lines {
        if let Some(width) = width {
            let name: String = name.chars().take(width).collect();
            let _ = write!(table, "{name:width$}");
        }
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(table, "{cell:>width$}");
        }
        table.push('\n');
    }
    table
}

/// Rounds to three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The table and more as a JSON object; `more` adds further fields to each row. parm-load(1) and parm-sim(1)
/// describe it.
#[must_use]
pub fn json<T: AsRef<Summary>>(
    rows: &[Row<T>],
    measures: &[Measure<T>],
    mut more: impl FnMut(&Row<T>, &mut Map<String, Value>),
) -> Value {
    let mut run = |row: &Row<T>| {
        let [mut run, least, most, low, high] = [0, 1, 2, 3, 4].map(|place| {
            let mut all = Map::new();
            for measure in measures {
                let value = json!(row.statistics(measure.of)[place]);
                match measure.within {
                    None => all.insert(measure.name.to_owned(), value),
                    Some(object) => {
                        let object = all.entry(object).or_insert_with(|| json!({}));
                        object.as_object_mut().and_then(|of| of.insert(measure.name.to_owned(), value))
                    }
                };
            }
            all
        });
        if let Some(name) = &row.name {
            run.insert("name".to_owned(), name.clone().into());
        }
        let (answered, failed) = (row.sum(Summary::answered), row.sum(Summary::failed));
        run.insert("rate".to_owned(), row.rate.into());
        run.insert("requests".to_owned(), (answered + failed).into());
        run.insert("answered".to_owned(), answered.into());
        run.insert("min".to_owned(), least.into());
        run.insert("max".to_owned(), most.into());
        if row.trials.len() > 1 {
            run.insert("low".to_owned(), low.into());
            run.insert("high".to_owned(), high.into());
        }
        run.insert("cdf".to_owned(), distribution(row));
        more(row, &mut run);
        Value::Object(run)
    };
    json!({"format": 1, "runs": rows.iter().map(&mut run).collect::<Vec<_>>()})
}

/// The distribution of the latencies of all trials, in ms, with the share of answers within each: ten points
/// for each power of ten of the share above.
fn distribution<T: AsRef<Summary>>(row: &Row<T>) -> Value {
    let mut all = Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!("three digits"));
    for trial in &row.trials {
        // The histogram resizes itself.
        let _ = all.add(&trial.as_ref().latency);
    }
    let within = |share: f64| json!([all.value_at_quantile(share) as f64 / 1e6, share]);
    let body = (0..9).map(|tenth| f64::from(tenth) / 10.0);
    let tail = (10..).map(|tenth| 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0));
    let tail = tail.take_while(|share| (1.0 - share) * all.len() as f64 >= 1.0);
    if all.is_empty() { json!([]) } else { body.chain(tail).chain([1.0]).map(within).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(latencies: impl Iterator<Item = u64>) -> Summary {
        let mut summary = Summary::new(10.0, 1);
        latencies.for_each(|ms| summary.latency.record(ms * 1_000_000).unwrap());
        summary
    }

    fn of(name: Option<&str>, trials: Vec<Summary>) -> [Row<Summary>; 1] {
        [Row { name: name.map(str::to_owned), rate: 10.0, trials }]
    }

    #[test]
    fn the_table_has_means_with_intervals_and_json_has_medians_and_extremes() {
        let rows = of(Some("one"), vec![trial(1..=3), trial(11..=13), trial(2..=4)]);
        let measures = [latencies(), shares()].concat();
        let text = table(&rows, &measures);
        let lines: Vec<Vec<&str>> = text.lines().map(cells).collect();
        assert_eq!(
            lines[0].join(" "),
            "NAME RATE NUM MED MEAN P99 P99.5 P99.9 MAX GAP REBUILT APPROX DEFAULT"
        );
        // Medians of 2, 12 and 3 ms: 17/3 ± 4.303 · 5.508 / √3.
        assert_eq!(lines[1][..4], ["one", "10", "9", "6 ± 14"]);
        assert_eq!(lines[1][10], "0.0000");
        let report = json(&rows, &measures, |row, run| {
            run.insert("trials".to_owned(), row.trials.len().into());
        });
        let run = &report["runs"][0];
        let number = |name: &str| run[name].as_u64();
        assert_eq!([number("answered"), number("requests"), number("trials")], [Some(9), Some(9), Some(3)]);
        let median = |of: &Value| of["latency_ms"]["median"].as_f64().unwrap().round() as u64;
        assert_eq!([median(run), median(&run["min"]), median(&run["max"])], [3, 2, 12]);
        let cdf = run["cdf"].as_array().unwrap();
        assert_eq!(cdf.last().unwrap()[1], 1.0);
        assert_eq!(cdf.last().unwrap()[0].as_f64().unwrap().round(), 13.0);
    }

    /// The cells of a line, which two spaces separate.
    fn cells(line: &str) -> Vec<&str> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn numbers_have_as_many_digits_as_their_intervals_mean() {
        let cell = |values: &[f64]| {
            let trials = values.to_vec();
            Row { name: None, rate: 1.0, trials }.cell(|value| value.is_finite().then_some(*value), 3)
        };
        // The half is 12.706 times that of the difference.
        assert_eq!(cell(&[5.0, 5.002]), "5.001 ± 0.013");
        assert_eq!(cell(&[5.0, 5.01]), "5.005 ± 0.064");
        assert_eq!(cell(&[5.0, 5.1]), "5.05 ± 0.64");
        assert_eq!(cell(&[1000.0, 1100.0]), "1050 ± 635");
        assert_eq!(cell(&[5.0, 5.0]), "5.000");
        assert_eq!([cell(&[5.0, f64::NAN]), cell(&[f64::NAN])], ["5.000", "-"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [[1, 900_000], [2, 3]].map(|[a, b]| Row {
            name: None,
            rate: 123_456.789,
            trials: vec![trial(a..=a), trial(b..=b)],
        });
        let text = table(&rows, &latencies());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("  123456.789"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(lines.iter().all(|line| cells(line).len() == 9), "{text}");
    }

    #[test]
    fn an_interval_is_that_of_students_distribution() {
        // Means of 1, 2 and 3 ms: 2 ± 4.303 / √3.
        let [row] = of(None, [1, 2, 3].map(|ms| trial(ms..=ms)).into());
        let [low, high] = row.interval(Summary::mean_ms).unwrap();
        assert!(
            (low - (2.0 - 2.4844)).abs() < 2e-3 && (high - (2.0 + 2.4844)).abs() < 2e-3,
            "{low} to {high}"
        );
        let report = json(&[row], &latencies(), |_, _| {});
        let run = &report["runs"][0];
        assert_eq!(
            (run["low"]["latency_ms"]["mean"].as_f64(), run["high"]["latency_ms"]["mean"].as_f64()),
            (Some(low), Some(high))
        );
        let [row] = of(None, vec![trial(1..=1)]);
        assert_eq!(row.interval(Summary::mean_ms), None);
        assert!(json(&[row], &latencies(), |_, _| {})["runs"][0].get("low").is_none());
    }

    #[test]
    fn the_median_of_an_even_number_is_a_mean_and_of_none_there_is_none() {
        let [row] = of(None, vec![trial(1..=1), trial(3..=3)]);
        assert_eq!(row.median(Summary::mean_ms).unwrap().round(), 2.0);
        let rows = of(None, vec![trial(1..1)]);
        let text = table(&rows, &latencies());
        assert!(!text.contains("NAME") && text.lines().nth(1).unwrap().contains(" - "), "{text}");
        let report = json(&rows, &latencies(), |_, _| {});
        assert_eq!((&report["runs"][0]["cdf"], report["runs"][0].get("name")), (&json!([]), None));
    }
}
