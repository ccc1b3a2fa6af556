//! Makes figures of JSON results.

use anyhow::{Context, Result, bail};
use parm_cli::tools::plot::{Score, Selection};
use serde_json::Value;

use crate::fields::{Fields, blank, items, parse};
use crate::figure::{Figure, Form, Look, Panel, Point, Scale, Series};

/// The measures of a training: the field, its name, and whether it is a share. Losses and shares have a panel
/// each.
const MEASURES: [(&str, &str, bool); 6] = [
    ("validation_loss", "validation loss", false),
    ("train_loss", "train loss", false),
    ("accuracy", "accuracy", true),
    ("A_a", "A_a", true),
    ("agreement", "agreement", true),
    ("A_d", "A_d", true),
];

/// The metrics of trainings, each a name and lines of JSON, as curves over epochs.
pub fn curves(inputs: &[(String, Vec<u8>)]) -> Result<Figure> {
    let runs = inputs.iter().map(|(name, text)| epochs(name, text)).collect::<Result<Vec<_>>>()?;
    let panel = |shares: bool| {
        let measures = || MEASURES.iter().filter(move |measure| measure.2 == shares);
        let mut series = Vec::new();
        for (run, epochs) in runs.iter().enumerate() {
            for (dash, &(field, measure, _)) in measures().enumerate() {
                let points: Vec<Point> = epochs.iter().filter_map(|epoch| epoch.point(field)).collect();
                if points.is_empty() {
                    continue;
                }
                // Several trainings differ in markers, and their measures in dashes.
                let (name, marker) = match runs.len() {
                    1 => (measure.to_owned(), dash),
                    _ => (format!("{}: {measure}", short(&inputs[run].0)), run),
                };
                series.push(Series { name, look: Look { marker, dash, form: Form::Both }, points });
            }
        }
        let found = |field: &str| epochs_have(&runs, field);
        let shown: Vec<&str> =
            measures().filter(|measure| found(measure.0)).map(|measure| measure.1).collect();
        let y_label = if shares { shown.join(", ") } else { "loss".to_owned() };
        Panel::new(y_label, if shares { Scale::Shares } else { Scale::Values }, series)
    };
    let panels: Vec<Panel> =
        [false, true].map(panel).into_iter().filter(|panel| !panel.series.is_empty()).collect();
    Ok(Figure { x_label: "epoch".to_owned(), across: Scale::Whole, panels })
}

/// One line of metrics: its numbers, by their place in [`MEASURES`].
struct Epoch {
    epoch: f64,
    values: [Option<f64>; MEASURES.len()],
}

impl Epoch {
    fn point(&self, field: &str) -> Option<Point> {
        let at = MEASURES.iter().position(|measure| measure.0 == field)?;
        Some(Point { x: self.epoch, y: self.values[at]?, interval: None })
    }
}

fn epochs_have(runs: &[Vec<Epoch>], field: &str) -> bool {
    runs.iter().flatten().any(|epoch| epoch.point(field).is_some())
}

fn epochs(name: &str, text: &[u8]) -> Result<Vec<Epoch>> {
    let mut epochs: Vec<Epoch> = Vec::new();
    for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if blank(text) {
            continue;
        }
        let value = parse(text, line).with_context(|| name.to_owned())?;
        let place = format!("{name}: line {line}");
        let fields = Fields::new(&place, &value)?;
        let mut values = [None; MEASURES.len()];
        for (value, (field, _, share)) in values.iter_mut().zip(MEASURES) {
            *value = if share { fields.share(field)? } else { fields.number(field)? };
        }
        let epoch = fields.whole("epoch", 0)?;
        if let Some(last) = epochs.last().filter(|last| last.epoch >= epoch) {
            bail!("{place}: found epoch {epoch} after epoch {}, expected rising epochs", last.epoch);
        }
        if values.iter().all(Option::is_none) {
            let expected = MEASURES.map(|measure| measure.0).join(", ");
            bail!("{place}: found no measure, expected one of {expected}");
        }
        epochs.push(Epoch { epoch, values });
    }
    if epochs.is_empty() {
        bail!("{name}: found no epochs, expected a line of JSON for each");
    }
    Ok(epochs)
}

/// The names of trainings.
fn short(name: &str) -> &str {
    name.strip_suffix("/metrics.jsonl").unwrap_or(name)
}

/// A row of a comparison.
struct Row {
    code: String,
    k: f64,
    extra: f64,
    lost: f64,
    point: Option<(f64, Option<(f64, f64)>)>,
}

/// The report of a comparison as accuracy against extra workers.
pub fn workers(report: &(String, Vec<u8>), options: &Selection) -> Result<Figure> {
    let rows = rows(report, options)?;
    let several = Several::of(&rows);
    // If all extra workers are lost in each row, the axis says so.
    let x_label = if several.lost { "extra workers" } else { "extra workers, all of them lost" };
    let name = |row: &Row| {
        let k = if several.k { format!(", k = {}", row.k) } else { String::new() };
        format!("{}{k}{}", row.code, several.lost(row))
    };
    let constant = Several::constant(&rows, |row| row.lost).filter(|_| !several.lost);
    let x_label = constant.map_or(x_label.to_owned(), |lost| format!("extra workers ({lost} lost)"));
    figure(report, options, &rows, x_label, |row| row.extra, name)
}

/// The report of a comparison as accuracy against k.
pub fn k(report: &(String, Vec<u8>), options: &Selection) -> Result<Figure> {
    let rows = rows(report, options)?;
    let several = Several::of(&rows);
    let name = |row: &Row| {
        let extra = if several.extra { format!(", {} extra", row.extra) } else { String::new() };
        format!("{}{extra}{}", row.code, several.lost(row))
    };
    figure(report, options, &rows, "k".to_owned(), |row| row.k, name)
}

/// The fields that differ between rows, which the names of series must contain.
struct Several {
    k: bool,
    extra: bool,
    /// False if all extra workers are lost in every row.
    lost: bool,
}

impl Several {
    fn of(rows: &[Row]) -> Self {
        let differ = |value: fn(&Row) -> f64| Self::constant(rows, value).is_none();
        Self {
            k: differ(|row| row.k),
            extra: differ(|row| row.extra),
            lost: differ(|row| row.lost) && rows.iter().any(|row| row.lost != row.extra),
        }
    }

    /// The common value of all rows.
    fn constant(rows: &[Row], value: fn(&Row) -> f64) -> Option<f64> {
        let first = value(rows.first()?);
        rows.iter().all(|row| value(row) == first).then_some(first)
    }

    fn lost(&self, row: &Row) -> String {
        if self.lost { format!(", {} lost", row.lost) } else { String::new() }
    }
}

/// Rows of equal name as series, in the order of first appearance.
fn figure(
    (name, _): &(String, Vec<u8>),
    options: &Selection,
    rows: &[Row],
    x_label: String,
    x: impl Fn(&Row) -> f64,
    series_name: impl Fn(&Row) -> String,
) -> Result<Figure> {
    let mut series: Vec<Series> = Vec::new();
    for row in rows {
        let Some((y, interval)) = row.point else { continue };
        let (row_name, point) = (series_name(row), Point { x: x(row), y, interval });
        if let Some(series) = series.iter_mut().find(|series| series.name == row_name) {
            series.points.push(point);
        } else {
            let look = Look::of(series.len());
            series.push(Series { name: row_name, look, points: vec![point] });
        }
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        if let Some(pair) = series.points.windows(2).find(|pair| pair[0].x == pair[1].x) {
            let at = pair[0].x;
            bail!("{name}: found two rows of {} at {x_label} {at}, expected one", series.name);
        }
    }
    let score = options.score.name();
    if series.is_empty() {
        bail!("{name}: found {score} in none of {} selected rows", rows.len());
    }
    let accuracy = if options.score == Score::Agreement { "" } else { "accuracy " };
    let panel = Panel::new(format!("{accuracy}{score}"), Scale::Shares, series);
    Ok(Figure { x_label, across: Scale::Whole, panels: vec![panel] })
}

/// The selected rows of a report.
fn rows(report: &(String, Vec<u8>), options: &Selection) -> Result<Vec<Row>> {
    let (name, list) = (&report.0, items(report, "rows")?);
    let rows = list.iter().enumerate().map(|(at, row)| {
        let place = format!("{name}: row {at}");
        let fields = Fields::new(&place, row)?;
        let Some(Value::String(code)) = fields.map.get("code") else {
            bail!("{place}: found no \"code\", expected the name of a code");
        };
        let interval = match (options.score, fields.share("low")?, fields.share("high")?) {
            (_, Some(low), Some(high)) if low > high => {
                bail!("{place}: found low {low} above high {high}")
            }
            // Reports have intervals of A_all only.
            (Score::All, Some(low), Some(high)) => Some((low, high)),
            _ => None,
        };
        Ok(Row {
            code: code.clone(),
            k: fields.whole("k", 1)?,
            extra: fields.whole("extra_workers", 0)?,
            lost: fields.whole("lost", 0)?,
            point: fields.share(options.score.name())?.map(|value| (value, interval)),
        })
    });
    let asked = |asked: &[u32], value: f64| asked.is_empty() || asked.iter().any(|&n| f64::from(n) == value);
    let mut rows = rows.collect::<Result<Vec<_>>>()?;
    let all = rows.len();
    rows.retain(|row| {
        (options.codes.is_empty() || options.codes.contains(&row.code))
            && asked(&options.k, row.k)
            && asked(&options.lost, row.lost)
    });
    if rows.is_empty() {
        bail!("{name}: found {all} rows and none that is selected");
    }
    Ok(rows)
}
