//! Reports of loads and policies, to latencies over rates and to fronts.

use anyhow::{Context, Result, bail};
use parm_cli::tools::plot::{Front, Load, Measure};
use serde_json::Value;

use crate::fields::{Fields, parse};
use crate::figure::{Figure, Form, Look, Note, Panel, Point, Scale, Series};
use crate::names;

/// One run of a report, as far as all charts need it.
struct Run<'a> {
    fields: Fields<'a>,
    name: Option<String>,
}

/// Calls `each` with the runs of a report.
fn runs<T>((input, text): &(String, Vec<u8>), each: impl Fn(&Run) -> Result<T>) -> Result<Vec<T>> {
    let report = parse(text, 1).with_context(|| input.clone())?;
    let fields = Fields::new(input, &report)?;
    let format = fields.whole("format", 0)?;
    if format != 1.0 {
        bail!("{input}: found format {format}, expected 1");
    }
    let Some(Value::Array(list)) = fields.map.get("runs") else {
        bail!("{input}: found no \"runs\", expected a list of them");
    };
    if list.is_empty() {
        bail!("{input}: found a report of no runs, expected at least one");
    }
    let run = |(at, run): (usize, &Value)| {
        let place = format!("{input}: run {at}");
        let fields = Fields::new(&place, run)?;
        let name = fields.text("name")?;
        each(&Run { fields, name })
    };
    list.iter().enumerate().map(run).collect()
}

impl Run<'_> {
    /// A latency in ms at `x`, with the least and the most of all trials; none if nothing was answered.
    fn latency(&self, measure: Measure, x: f64) -> Result<Option<Point>> {
        let field = measure.field();
        let place = self.fields.place;
        let of = |value: Option<&Value>, name: &str| -> Result<Option<f64>> {
            let Some(value) = value else { return Ok(None) };
            let place = format!("{place}: {name}");
            Fields::new(&place, value)?.positive(field)
        };
        if !self.fields.map.contains_key("latency_ms") {
            bail!("{place}: found no \"latency_ms\", expected an object of latencies");
        }
        let extreme = |name: &str| -> Result<Option<f64>> {
            let Some(value) = self.fields.map.get(name) else { return Ok(None) };
            let place = format!("{place}: {name}");
            of(Fields::new(&place, value)?.map.get("latency_ms"), &format!("{name}: latency_ms"))
        };
        let Some(latency) = of(self.fields.map.get("latency_ms"), "latency_ms")? else { return Ok(None) };
        let spread = extreme("min")?.zip(extreme("max")?);
        if let Some((least, most)) = spread
            && !(least..=most).contains(&latency)
        {
            bail!("{place}: found {field} {latency} outside of its min {least} and max {most}");
        }
        let interval = spread.filter(|(least, most)| least < most);
        Ok(Some(Point { x, y: latency, interval }))
    }

    /// Requests that failed, and all.
    fn requests(&self) -> Result<(u64, u64)> {
        let count = |field: &str| -> Result<u64> { Ok(self.fields.positive(field)?.unwrap_or(0.0) as u64) };
        let (all, answered) = (count("requests")?, count("answered")?);
        Ok((all.saturating_sub(answered), all))
    }
}

/// Reports as latencies over rates.
pub(crate) fn load(reports: &[(String, Vec<u8>)], options: &Load) -> Result<Figure> {
    let inputs: Vec<String> = reports.iter().map(|(input, _)| input.clone()).collect();
    let mut targets: Vec<(String, u64, u64)> = Vec::new();
    let mut lines: Vec<Series> = Vec::new();
    for (report, input) in reports.iter().zip(names::short(&inputs)) {
        let input = (reports.len() > 1).then_some(input);
        let found = runs(report, |run| {
            let Some(rate) = run.fields.positive("rate")?.filter(|&rate| rate > 0.0) else {
                bail!("{}: found no \"rate\", expected a positive number", run.fields.place);
            };
            let latencies = options.latency.iter().map(|&measure| run.latency(measure, rate));
            Ok((run.name.clone(), rate, run.requests()?, latencies.collect::<Result<Vec<_>>>()?))
        })?;
        for (name, rate, (failed, requests), latencies) in found {
            let target = names::joined([input.clone(), name]);
            let at = targets.iter().position(|(known, ..)| *known == target).unwrap_or_else(|| {
                targets.push((target.clone(), 0, 0));
                let series = |dash| Series {
                    name: String::new(),
                    look: Look { marker: targets.len() - 1, dash, form: Form::Both },
                    points: Vec::new(),
                };
                lines.extend((0..options.latency.len()).map(series));
                targets.len() - 1
            });
            targets[at].1 += failed;
            targets[at].2 += requests;
            let lines = &mut lines[at * options.latency.len()..];
            for (line, latency) in lines.iter_mut().zip(latencies) {
                if line.points.iter().any(|point| point.x == rate) {
                    bail!("{}: found two runs of {target} at rate {rate}, expected one", report.0);
                }
                line.points.extend(latency);
            }
        }
    }
    for (i, line) in lines.iter_mut().enumerate() {
        let (target, failed, requests) = &targets[i / options.latency.len()];
        let measure = options.latency[i % options.latency.len()];
        let latency = Some(label(measure).to_owned());
        let name = names::joined([(!target.is_empty()).then(|| target.clone()), latency]);
        line.name = names::with_failures(name, *failed, *requests);
        if targets.len() == 1 {
            // Of one target, its latencies differ in markers as well.
            line.look.marker = line.look.dash;
        }
        line.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    lines.retain(|line| !line.points.is_empty());
    if lines.is_empty() {
        bail!("{}: found none of these latencies in any run", inputs.join(", "));
    }
    let panel = Panel::new("latency (ms)".to_owned(), Scale::Values, lines);
    Ok(Figure { x_label: "requests/s".to_owned(), across: Scale::Values, panels: vec![panel] })
}

/// What a measure is called in images.
fn label(measure: Measure) -> &'static str {
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

/// A policy with what it gives and takes.
#[derive(Clone, Copy)]
struct Offer {
    latency: f64,
    accuracy: f64,
    cost: f64,
}

/// A report as accuracy against latency.
pub(crate) fn front(report: &(String, Vec<u8>), options: &Front) -> Result<Figure> {
    let found = runs(report, |run| {
        let Fields { place, map, .. } = run.fields;
        let Some(name) = run.name.clone() else { bail!("{place}: found no \"name\", expected one") };
        let Some(accuracy) = run.fields.share("accuracy")? else {
            bail!("{place}: found no \"accuracy\", expected a share from 0 to 1");
        };
        let field = if map.contains_key("cost") { "cost" } else { "instances" };
        let Some(cost) = run.fields.positive(field)? else {
            bail!("{place}: found neither \"cost\" nor \"instances\", expected what it costs");
        };
        let k = run.fields.positive("k")?;
        let latency = run.latency(options.latency, 0.0)?.map(|point| point.y);
        Ok(latency.map(|latency| (name, k, field, Offer { latency, accuracy, cost })))
    })?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    let Some((_, _, field, first)) = found.first() else {
        bail!("{}: found {} in none of the runs", report.0, options.latency.field());
    };
    let (field, cost) = (*field, first.cost);
    if found.iter().any(|(_, _, other, _)| *other != field) {
        bail!("{}: found \"cost\" in some runs and only \"instances\" in others", report.0);
    }
    let several = found.iter().any(|(.., offer)| offer.cost != cost);
    let mut series: Vec<Series> = Vec::new();
    let mut notes = Vec::new();
    for (name, k, _, offer) in &found {
        let point = Point { x: offer.latency, y: offer.accuracy, interval: None };
        let k = k.map(|k| format!("k = {k}"));
        let text = names::joined([k, several.then(|| offer.cost.to_string())]);
        notes.push(Note { x: point.x, y: point.y, text });
        if let Some(series) = series.iter_mut().find(|series| series.name == *name) {
            series.points.push(point);
        } else {
            let look = Look { form: Form::Markers, ..Look::of(series.len()) };
            series.push(Series { name: name.clone(), look, points: vec![point] });
        }
    }
    let offers: Vec<Offer> = found.iter().map(|(.., offer)| *offer).collect();
    series.extend(fronts(&offers, field));
    let mut panel = Panel::new("accuracy".to_owned(), Scale::Shares, series);
    panel.notes = notes;
    let cost = if several { format!("; numbers at markers: {field}") } else { format!("; {field}: {cost}") };
    let x_label = format!("{} of latencies (ms){cost}", label(options.latency));
    Ok(Figure { x_label, across: Scale::Values, panels: vec![panel] })
}

/// For each cost the steps through what nothing of up to that cost beats; where more cost buys nothing,
/// there is no line for it.
fn fronts(offers: &[Offer], field: &str) -> Vec<Series> {
    let mut costs: Vec<f64> = offers.iter().map(|offer| offer.cost).collect();
    costs.sort_by(f64::total_cmp);
    costs.dedup();
    let mut fronts: Vec<Series> = Vec::new();
    for &cost in &costs {
        let mut within: Vec<Offer> = offers.iter().filter(|offer| offer.cost <= cost).copied().collect();
        within.sort_by(|a, b| a.latency.total_cmp(&b.latency).then(b.accuracy.total_cmp(&a.accuracy)));
        let mut points: Vec<Point> = Vec::new();
        for offer in within {
            let corner = |y: f64| Point { x: offer.latency, y, interval: None };
            match points.last() {
                Some(best) if best.y >= offer.accuracy => continue,
                Some(&Point { y, .. }) => points.push(corner(y)),
                None => {}
            }
            points.push(corner(offer.accuracy));
        }
        let name = match field {
            _ if costs.len() == 1 => "best".to_owned(),
            "cost" => format!("best up to cost {cost}"),
            _ => format!("best up to {cost} {field}"),
        };
        // Black, whatever policies there are.
        let look = Look { marker: 3, dash: fronts.len(), form: Form::Line };
        if points.len() > 1 && fronts.last().is_none_or(|last| last.points != points) {
            fronts.push(Series { name, look, points });
        }
    }
    fronts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_pass_over_what_is_beaten_and_costs_that_buy_nothing() {
        let offer = |latency, accuracy, cost| Offer { latency, accuracy, cost };
        let offers = [
            offer(9.0, 0.9, 1.0),
            offer(5.0, 0.8, 1.0),
            offer(7.0, 0.7, 1.0),
            offer(5.0, 0.7, 1.0),
            offer(3.0, 0.8, 2.0),
            offer(3.5, 0.1, 3.0),
        ];
        let fronts: Vec<(String, Vec<(f64, f64)>)> = fronts(&offers, "instances")
            .into_iter()
            .map(|front| (front.name, front.points.iter().map(|point| (point.x, point.y)).collect()))
            .collect();
        let steps = |least| vec![(least, 0.8), (9.0, 0.8), (9.0, 0.9)];
        assert_eq!(
            fronts,
            [
                ("best up to 1 instances".to_owned(), steps(5.0)),
                ("best up to 2 instances".to_owned(), steps(3.0))
            ]
        );
    }
}
