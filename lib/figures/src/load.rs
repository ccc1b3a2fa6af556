//! Draws reports of loads as latencies over rates.

use anyhow::{Result, bail};
use parm_cli::tools::plot::Measure;
use serde_json::Value;

use crate::fields::{Fields, items};
use crate::figure::{Figure, Form, Look, Panel, Point, Scale, Series};
use crate::names;

/// One run of a report.
struct Run<'a> {
    fields: Fields<'a>,
    name: Option<String>,
}

/// Calls `each` with the objects of a report's list.
pub(crate) fn each<T>(
    report: &(String, Vec<u8>),
    list: &str,
    each: impl Fn(Fields) -> Result<T>,
) -> Result<Vec<T>> {
    let (input, objects) = (&report.0, items(report, list)?);
    if objects.is_empty() {
        bail!("{input}: found a report of no {list}, expected at least one");
    }
    let object = |(at, object): (usize, &Value)| {
        let place = format!("{input}: {list}[{at}]");
        each(Fields::new(&place, object)?)
    };
    objects.iter().enumerate().map(object).collect()
}

impl Run<'_> {
    /// A latency in ms at `x`; none without answers.
    fn latency(&self, measure: Measure, x: f64) -> Result<Option<Point>> {
        if !self.fields.map.contains_key("latency_ms") {
            bail!("{}: found no \"latency_ms\", expected an object of latencies", self.fields.place);
        }
        self.point(&["latency_ms", measure.field()], x)
    }

    /// The number that these fields lead to, at `x`, with its minimum and maximum over the trials; none if the run does
    /// not have it.
    fn point(&self, path: &[&str], x: f64) -> Result<Option<Point>> {
        let Some(y) = number(&self.fields, path)? else { return Ok(None) };
        let extreme = |name: &str| number(&self.fields, &[&[name], path].concat());
        let spread = extreme("min")?.zip(extreme("max")?);
        if let Some((least, most)) = spread
            && !(least..=most).contains(&y)
        {
            let (place, name) = (self.fields.place, path.last().copied().unwrap_or_default());
            bail!("{place}: found {name} {y} outside of its min {least} and max {most}");
        }
        let interval = spread.filter(|(least, most)| least < most);
        Ok(Some(Point { x, y, interval }))
    }

    /// The number of failed requests, and of all.
    fn requests(&self) -> Result<(u64, u64)> {
        let count = |field: &str| -> Result<u64> { Ok(self.fields.positive(field)?.unwrap_or(0.0) as u64) };
        let (all, answered) = (count("requests")?, count("answered")?);
        Ok((all.saturating_sub(answered), all))
    }
}

/// A number from 0 in objects within each other; none if it is missing, or one of them.
fn number(fields: &Fields, path: &[&str]) -> Result<Option<f64>> {
    match *path {
        [] => Ok(None),
        [field] => fields.positive(field),
        [name, ref rest @ ..] => {
            let Some(value) = fields.map.get(name) else { return Ok(None) };
            let place = format!("{}: {name}", fields.place);
            number(&Fields::new(&place, value)?, rest)
        }
    }
}

/// Reports as latencies over rates, with the goodput below if they have it.
pub fn load(reports: &[(String, Vec<u8>)], measures: &[Measure]) -> Result<Figure> {
    let inputs: Vec<String> = reports.iter().map(|(input, _)| input.clone()).collect();
    let mut targets: Vec<(String, u64, u64)> = Vec::new();
    // For each target those of the latencies, and that of the goodput.
    let mut lines: Vec<Series> = Vec::new();
    let of_target = measures.len() + 1;
    for (report, input) in reports.iter().zip(names::short(&inputs)) {
        let input = (reports.len() > 1).then_some(input);
        let found = each(report, "runs", |fields| {
            let run = Run { name: fields.text("name")?, fields };
            let Some(rate) = run.fields.positive("rate")?.filter(|&rate| rate > 0.0) else {
                bail!("{}: found no \"rate\", expected a positive number", run.fields.place);
            };
            let latencies = measures.iter().map(|&measure| run.latency(measure, rate));
            let points = latencies.chain([run.point(&["goodput"], rate)]);
            Ok((run.name.clone(), rate, run.requests()?, points.collect::<Result<Vec<_>>>()?))
        })?;
        for (name, rate, (failed, requests), points) in found {
            let target = names::joined([input.clone(), name]);
            let at = targets.iter().position(|(known, ..)| *known == target).unwrap_or_else(|| {
                targets.push((target.clone(), 0, 0));
                let series = |dash| Series {
                    name: String::new(),
                    look: Look { marker: targets.len() - 1, dash, form: Form::Both },
                    points: Vec::new(),
                };
                lines.extend((0..measures.len()).chain([0]).map(series));
                targets.len() - 1
            });
            targets[at].1 += failed;
            targets[at].2 += requests;
            let lines = &mut lines[at * of_target..];
            for (line, point) in lines.iter_mut().zip(points) {
                if line.points.iter().any(|point| point.x == rate) {
                    bail!("{}: found two runs of {target} at rate {rate}, expected one", report.0);
                }
                line.points.extend(point);
            }
        }
    }
    let (mut latencies, mut goodputs) = (Vec::new(), Vec::new());
    for (i, mut line) in lines.into_iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
        let (target, failed, requests) = &targets[i / of_target];
        let measure = measures.get(i % of_target);
        let what = Some(measure.map_or("goodput", |&measure| label(measure)).to_owned());
        let name = names::joined([(!target.is_empty()).then(|| target.clone()), what]);
        line.name = names::with_failures(name, *failed, *requests);
        if targets.len() == 1 {
            // With one target, its latencies also differ in their markers.
            line.look.marker = line.look.dash;
        }
        line.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        if measure.is_some() { &mut latencies } else { &mut goodputs }.push(line);
    }
    if latencies.is_empty() {
        bail!("{}: found none of these latencies in any run", inputs.join(", "));
    }
    let mut panels = vec![Panel::new("latency (ms)".to_owned(), Scale::Values, latencies)];
    if !goodputs.is_empty() {
        panels.push(Panel::new("goodput (answers/s)".to_owned(), Scale::Values, goodputs));
    }
    Ok(Figure { x_label: "requests/s".to_owned(), across: Scale::Values, panels })
}

/// The slices of reports as latencies over time.
pub fn slices(reports: &[(String, Vec<u8>)], measures: &[Measure]) -> Result<Figure> {
    let inputs: Vec<String> = reports.iter().map(|(input, _)| input.clone()).collect();
    let mut lines: Vec<Series> = Vec::new();
    for (report, input) in reports.iter().zip(names::short(&inputs)) {
        let input = (reports.len() > 1).then_some(input);
        let found = each(report, "runs", |fields| {
            let Some(slices) = fields.map.get("slices").and_then(Value::as_array) else {
                bail!("{}: found no \"slices\", expected a list, as of parm-load --slices", fields.place);
            };
            let mut latencies = vec![Vec::new(); measures.len()];
            for (at, slice) in slices.iter().enumerate() {
                let place = format!("{}: slices[{at}]", fields.place);
                let slice = Run { fields: Fields::new(&place, slice)?, name: None };
                let Some(from) = slice.fields.positive("from_s")? else {
                    bail!("{place}: found no \"from_s\", expected a time in s");
                };
                for (points, &measure) in latencies.iter_mut().zip(measures) {
                    points.extend(slice.latency(measure, from)?);
                }
            }
            Ok((fields.text("name")?, fields.positive("rate")?, latencies))
        })?;
        let several = found.iter().any(|(_, rate, _)| *rate != found[0].1);
        for (name, rate, latencies) in found {
            let rate = rate.filter(|_| several).map(|rate| format!("{rate}/s"));
            let marker = lines.len() / measures.len();
            for (dash, (points, &measure)) in latencies.into_iter().zip(measures).enumerate() {
                let parts = [input.clone(), name.clone(), rate.clone(), Some(label(measure).to_owned())];
                let look = Look { marker, dash, form: Form::Both };
                lines.push(Series { name: names::joined(parts), look, points });
            }
        }
    }
    lines.retain(|line| !line.points.is_empty());
    if lines.is_empty() {
        bail!("{}: found none of these latencies in any slice", inputs.join(", "));
    }
    let panel = Panel::new("latency (ms)".to_owned(), Scale::Values, lines);
    Ok(Figure { x_label: "time (s)".to_owned(), across: Scale::Values, panels: vec![panel] })
}

/// The name of a measure in images.
pub(crate) fn label(measure: Measure) -> &'static str {
    match measure {
        Measure::Median => "median",
        Measure::Mean => "mean",
        Measure::P99 => "P99",
        Measure::P995 => "P99.5",
        Measure::P999 => "P99.9",
        Measure::Max => "max",
        Measure::Gap => "P99.9 − median",
    }
}
