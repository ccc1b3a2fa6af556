//! Reports of trials of targets at rates, as tables and JSON, for `parm-load` and `parm-sim`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::marker::PhantomData;

use hdrhistogram::Histogram;
use parm::score::Interval;
use parm::statistics::Estimate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Summary;

/// A trial that reports are made of.
pub trait Measured: AsRef<Summary> + Sized {
    /// All quantities that a report may have.
    fn measures() -> Vec<Measure<Self>>;
}

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

/// Whether a report of these rows has something.
type When<T> = fn(&[Row<T>]) -> bool;

/// A quantity of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Measure<T> {
    /// The JSON object that contains it, if any.
    within: Option<&'static str>,
    /// Its name in JSON.
    name: &'static str,
    /// What it is, for the JSON Schema.
    about: &'static str,
    /// Its column in the table, if it has one, and the decimals there.
    column: Option<(&'static str, usize)>,
    /// Whether a report of these rows has it; if there is none, all have it.
    when: Option<When<T>>,
    /// Its value; none if the trial does not have it.
    of: fn(&T) -> Option<f64>,
}

impl<T> Measure<T> {
    /// A measure at the top level of the JSON of all reports, without a column.
    #[must_use]
    pub fn new(name: &'static str, about: &'static str, of: fn(&T) -> Option<f64>) -> Self {
        Self { within: None, name, about, column: None, when: None, of }
    }

    /// Gives the measure a column of the table, with so many decimals.
    #[must_use]
    pub fn column(self, name: &'static str, decimals: usize) -> Self {
        Self { column: Some((name, decimals)), ..self }
    }

    /// Puts the measure into a JSON object.
    #[must_use]
    pub fn within(self, object: &'static str) -> Self {
        Self { within: Some(object), ..self }
    }

    /// Leaves the measure out of reports of other rows than these.
    #[must_use]
    pub fn when(self, when: When<T>) -> Self {
        Self { when: Some(when), ..self }
    }
}

/// The latencies of answers, in ms.
#[must_use]
pub fn latencies<T: AsRef<Summary>>() -> Vec<Measure<T>> {
    let measures: [Measure<T>; 7] = [
        Measure::new("median", "The median of latencies, in ms.", |trial: &T| trial.as_ref().within_ms(0.5))
            .column("MED", 3),
        Measure::new("mean", "Their mean.", |trial: &T| trial.as_ref().mean_ms()).column("MEAN", 3),
        Measure::new("p99", "Their P99.", |trial: &T| trial.as_ref().within_ms(0.99)).column("P99", 3),
        Measure::new("p99.5", "Their P99.5.", |trial: &T| trial.as_ref().within_ms(0.995)).column("P99.5", 3),
        Measure::new("p99.9", "Their P99.9.", |trial: &T| trial.as_ref().within_ms(0.999)).column("P99.9", 3),
        Measure::new("max", "The longest one.", |trial: &T| trial.as_ref().within_ms(1.0)).column("MAX", 3),
        Measure::new("gap", "The P99.9 minus the median.", |trial: &T| trial.as_ref().gap_ms())
            .column("GAP", 3),
    ];
    measures.map(|measure| measure.within("latency_ms")).into()
}

/// The shares of the answered rows.
#[must_use]
pub fn shares<T: AsRef<Summary>>() -> Vec<Measure<T>> {
    vec![
        Measure::new("reconstructed", "The share of rows that were rebuilt.", |trial: &T| {
            share(trial, |all| all.reconstructed)
        })
        .column("REBUILT", 4),
        Measure::new("approximate", "The share of rows that the approximate model answered.", |trial: &T| {
            share(trial, |all| all.approximate)
        })
        .column("APPROX", 4),
        Measure::new("default", "The share of rows that got a default answer.", |trial: &T| {
            share(trial, |all| all.default)
        })
        .column("DEFAULT", 4),
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
pub fn table<T: Measured>(rows: &[Row<T>]) -> String {
    let measures = measures(rows);
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

/// The quantities that a report of these rows has.
fn measures<T: Measured>(rows: &[Row<T>]) -> Vec<Measure<T>> {
    T::measures().into_iter().filter(|measure| measure.when.is_none_or(|when| when(rows))).collect()
}

/// The trials of one target or model at one rate, in a report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(bound = "")]
#[schemars(bound = "T: Measured")]
pub struct Run<T> {
    /// The name of the target or model, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The intended requests a second.
    pub rate: f64,
    /// The number of requests of all trials.
    pub requests: u64,
    /// Those that were answered.
    pub answered: u64,
    /// The median of each quantity over the trials.
    #[serde(flatten)]
    pub medians: Numbers<T>,
    /// The least value of each quantity over the trials.
    pub min: Numbers<T>,
    /// The greatest value.
    pub max: Numbers<T>,
    /// For several trials, the lower end of the 95 % confidence interval of the mean of each quantity, by Student's t
    /// distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<Numbers<T>>,
    /// The upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<Numbers<T>>,
    /// Pairs of a latency in ms and the share of the answers of all trials within it.
    pub cdf: Vec<[f64; 2]>,
}

/// A value of each quantity; null if no trial has it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent, bound = "")]
pub struct Numbers<T> {
    values: Map<String, Value>,
    #[serde(skip)]
    of: PhantomData<T>,
}

impl<T> Numbers<T> {
    fn new(measures: &[Measure<T>], of: impl Fn(&Measure<T>) -> Option<f64>) -> Self {
        let mut values = Map::new();
        for measure in measures {
            let (name, value) = (measure.name.to_owned(), json!(of(measure)));
            match measure.within {
                None => values.insert(name, value),
                Some(object) => {
                    let object = values.entry(object).or_insert_with(|| json!({}));
                    object.as_object_mut().and_then(|object| object.insert(name, value))
                }
            };
        }
        Self { values, of: PhantomData }
    }
}

impl<T: Measured> JsonSchema for Numbers<T> {
    fn schema_name() -> Cow<'static, str> {
        "Numbers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let measures = T::measures();
        let (mut properties, mut required) = described(&measures, None);
        for object in measures.iter().filter_map(|measure| measure.within) {
            let (inner, needed) = described(&measures, Some(object));
            let inner = json!({"type": "object", "properties": inner, "required": needed});
            if properties.insert(object.to_owned(), inner).is_none() {
                required.push(object);
            }
        }
        json_schema!({"type": "object", "properties": properties, "required": required})
    }
}

/// The schemas of the quantities that an object contains, or that none does, and the names of those that are always there.
fn described<T>(measures: &[Measure<T>], within: Option<&str>) -> (Map<String, Value>, Vec<&'static str>) {
    let own = || measures.iter().filter(|measure| measure.within == within);
    let number = |measure: &Measure<T>| {
        let schema = json!({"description": measure.about, "type": ["number", "null"]});
        (measure.name.to_owned(), schema)
    };
    let required = own().filter(|measure| measure.when.is_none()).map(|measure| measure.name);
    (own().map(number).collect(), required.collect())
}

/// The table and more, for JSON.
#[must_use]
pub fn runs<T: Measured>(rows: &[Row<T>]) -> Vec<Run<T>> {
    let measures = measures(rows);
    let run = |row: &Row<T>| {
        let numbers = |of: &dyn Fn(&Measure<T>) -> Option<f64>| Numbers::new(&measures, of);
        let several = row.trials.len() > 1;
        let (answered, failed) = (row.sum(Summary::answered), row.sum(Summary::failed));
        Run {
            name: row.name.clone(),
            rate: row.rate,
            requests: answered + failed,
            answered,
            medians: numbers(&|measure| row.median(measure.of)),
            min: numbers(&|measure| row.spread(measure.of).map(|[_, least, _]| least)),
            max: numbers(&|measure| row.spread(measure.of).map(|[.., most]| most)),
            low: several.then(|| numbers(&|measure| row.interval(measure.of).map(|[low, _]| low))),
            high: several.then(|| numbers(&|measure| row.interval(measure.of).map(|[_, high]| high))),
            cdf: distribution(row),
        }
    };
    rows.iter().map(run).collect()
}

/// The distribution of the latencies of all trials, in ms, with the share of answers within each: ten points
/// for each power of ten of the share above.
fn distribution<T: AsRef<Summary>>(row: &Row<T>) -> Vec<[f64; 2]> {
    let mut all = Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!("three digits"));
    for trial in &row.trials {
        // The histogram resizes itself.
        let _ = all.add(&trial.as_ref().latency);
    }
    let within = |share: f64| [all.value_at_quantile(share) as f64 / 1e6, share];
    let body = (0..9).map(|tenth| f64::from(tenth) / 10.0);
    let tail = (10..).map(|tenth| 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0));
    let tail = tail.take_while(|share| (1.0 - share) * all.len() as f64 >= 1.0);
    if all.is_empty() { Vec::new() } else { body.chain(tail).chain([1.0]).map(within).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Measured for Summary {
        fn measures() -> Vec<Measure<Self>> {
            let slo = Measure::new("goodput", "", Summary::goodput);
            let slo = slo.when(|rows| rows.iter().any(|row| row.trials.iter().any(|of| of.slo.is_some())));
            [latencies(), shares(), vec![slo]].concat()
        }
    }

    fn json(rows: &[Row<Summary>]) -> Value {
        json!(runs(rows))
    }

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
        let text = table(&rows);
        let lines: Vec<Vec<&str>> = text.lines().map(cells).collect();
        assert_eq!(
            lines[0].join(" "),
            "NAME RATE NUM MED MEAN P99 P99.5 P99.9 MAX GAP REBUILT APPROX DEFAULT"
        );
        // Medians of 2, 12 and 3 ms: 17/3 ± 4.303 · 5.508 / √3.
        assert_eq!(lines[1][..4], ["one", "10", "9", "6 ± 14"]);
        assert_eq!(lines[1][10], "0.0000");
        let run = &json(&rows)[0];
        let number = |name: &str| run[name].as_u64();
        assert_eq!([number("answered"), number("requests")], [Some(9), Some(9)]);
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
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("  123456.789"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(lines.iter().all(|line| cells(line).len() == 12), "{text}");
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
        let run = &json(&[row])[0];
        assert_eq!(
            (run["low"]["latency_ms"]["mean"].as_f64(), run["high"]["latency_ms"]["mean"].as_f64()),
            (Some(low), Some(high))
        );
        let [row] = of(None, vec![trial(1..=1)]);
        assert_eq!(row.interval(Summary::mean_ms), None);
        assert!(json(&[row])[0].get("low").is_none());
    }

    #[test]
    fn the_median_of_an_even_number_is_a_mean_and_of_none_there_is_none() {
        let [row] = of(None, vec![trial(1..=1), trial(3..=3)]);
        assert_eq!(row.median(Summary::mean_ms).unwrap().round(), 2.0);
        let rows = of(None, vec![trial(1..1)]);
        let text = table(&rows);
        assert!(!text.contains("NAME") && text.lines().nth(1).unwrap().contains(" - "), "{text}");
        let run = &json(&rows)[0];
        assert_eq!((&run["cdf"], run.get("name"), run.get("goodput")), (&json!([]), None, None));
    }
}
