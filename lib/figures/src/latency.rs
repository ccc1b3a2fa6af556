//! Draws records of requests as the shares of answers that are slower than a latency.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::axis::TAIL;
use crate::fields::{blank, malformed};
use crate::figure::{Figure, Form, Look, Panel, Point, Scale, Series};
use crate::names;

/// The most bytes of a record, which may have a long error.
const MOST_LINE: u64 = 1 << 20;
/// The most measurements, since each has a histogram.
const MOST_RUNS: usize = 100;
/// The most slices of time.
const MOST_SLICES: usize = 10_000;
/// The latencies of a slice that are drawn.
const QUANTILES: [(&str, f64); 3] = [("median", 0.5), ("P99", 0.99), ("P99.9", 0.999)];
/// The distance in powers of ten within which a step of the line is left out.
const FINEST: f64 = 0.005;

/// The fields of a record that are read: parm-formats(5).
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(default, alias = "policy")]
    name: Option<String>,
    rate: f64,
    intended_ns: u64,
    ended_ns: u64,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
}

/// The records of one file, name and rate.
struct Run {
    input: usize,
    name: Option<String>,
    rate: f64,
    /// Latencies of answers, in ns.
    answers: Histogram<u64>,
    failed: u64,
    /// The same by the slice of time in which the request was due.
    slices: Vec<Option<Histogram<u32>>>,
}

impl Run {
    fn requests(&self) -> u64 {
        self.answers.len() + self.failed
    }

    /// Adds an answer to a slice of time.
    fn add(&mut self, slice: u64, latency: u64) -> Result<()> {
        let place = usize::try_from(slice).unwrap_or(usize::MAX);
        if place >= MOST_SLICES {
            bail!("found a request in slice {slice} of time, expected at most {MOST_SLICES}: see --slices");
        }
        if self.slices.len() <= place {
            self.slices.resize_with(place + 1, || None);
        }
        let answers = &mut self.slices[place];
        if answers.is_none() {
            *answers = Some(Histogram::new(2).context("two digits")?);
        }
        if let Some(answers) = answers {
            answers.record(latency)?;
        }
        Ok(())
    }

    /// A latency of each slice of this length that has answers, at its begin.
    fn over_time(&self, slice: u64, share: f64) -> Vec<Point> {
        let slices = self.slices.iter().enumerate().filter_map(|(at, answers)| Some((at, answers.as_ref()?)));
        let point = |(at, answers): (usize, &Histogram<u32>)| Point {
            x: (at as u64 * slice) as f64 / 1e9,
            y: answers.value_at_quantile(share) as f64 / 1e6,
            interval: None,
        };
        slices.map(point).collect()
    }
}

/// The collected records, in bounded memory.
#[derive(Default)]
pub struct Records {
    inputs: Vec<String>,
    runs: Vec<Run>,
    /// The length of slices of time, in ns.
    slice: Option<u64>,
}

impl Records {
    /// Records that are drawn over time, in slices of this many seconds.
    #[must_use]
    pub fn over_time(seconds: f64) -> Self {
        Self { slice: Some(((seconds * 1e9) as u64).max(1)), ..Self::default() }
    }

    /// Reads lines of records, and calls `each` for each.
    ///
    /// # Errors
    /// Lines that are not records; too many names and rates; no records.
    pub fn read(&mut self, input: String, source: impl Read, mut each: impl FnMut()) -> Result<()> {
        let mut source = BufReader::with_capacity(1 << 16, source);
        let (mut text, mut at, mut found) = (Vec::new(), 0, 0_u64);
        for line in 1.. {
            text.clear();
            let read = (&mut source).take(MOST_LINE + 1).read_until(b'\n', &mut text);
            match read.with_context(|| format!("{input}: cannot read"))? as u64 {
                0 => break,
                1..=MOST_LINE => {}
                _ => bail!("{input}: line {line}: found more than {MOST_LINE} bytes, expected a record"),
            }
            if blank(&text) {
                continue;
            }
            let record: Record = serde_json::from_slice(&text)
                .map_err(|error| malformed(&error, line))
                .with_context(|| input.clone())?;
            let place = || format!("{input}: line {line}");
            let Record { rate, intended_ns, ended_ns, .. } = record;
            if rate <= 0.0 {
                bail!("{}: found rate {rate}, expected a positive number", place());
            }
            let Some(latency) = ended_ns.checked_sub(intended_ns) else {
                bail!("{}: found ended_ns {ended_ns} before intended_ns {intended_ns}", place());
            };
            at = self.run(at, &record).with_context(place)?;
            let run = &mut self.runs[at];
            if record.outcome == "answered" {
                run.answers.record(latency).with_context(place)?;
                if let Some(slice) = self.slice {
                    run.add(intended_ns / slice, latency).with_context(place)?;
                }
            } else {
                run.failed += 1;
            }
            found += 1;
            each();
        }
        if found == 0 {
            bail!("{input}: found no records, expected a line of JSON for each request");
        }
        self.inputs.push(input);
        Ok(())
    }

    /// The index of a record's run; the last one is tried first.
    fn run(&mut self, last: usize, record: &Record) -> Result<usize> {
        let input = self.inputs.len();
        let is = |run: &Run| run.input == input && run.rate == record.rate && run.name == record.name;
        if self.runs.get(last).is_some_and(is) {
            return Ok(last);
        }
        if let Some(at) = self.runs.iter().position(is) {
            return Ok(at);
        }
        if self.runs.len() == MOST_RUNS {
            bail!("found more than {MOST_RUNS} names and rates, expected at most as many");
        }
        let answers = Histogram::new(3).context("three digits")?;
        self.runs.push(Run {
            input,
            name: record.name.clone(),
            rate: record.rate,
            answers,
            failed: 0,
            slices: Vec::new(),
        });
        Ok(self.runs.len() - 1)
    }

    /// The shares of slower answers, as lines; or latencies over time.
    ///
    /// # Errors
    /// There is no answer.
    pub fn figure(self) -> Result<Figure> {
        let requests: u64 = self.runs.iter().map(Run::requests).sum();
        if self.runs.iter().all(|run| run.answers.is_empty()) {
            bail!("{}: found no answer to any of {requests} requests", self.inputs.join(", "));
        }
        let inputs = names::short(&self.inputs);
        let several_rates = self.runs.iter().any(|run| run.rate != self.runs[0].rate);
        let name = |run: &Run| {
            let input = (inputs.len() > 1 || (run.name.is_none() && !several_rates))
                .then(|| inputs[run.input].clone());
            let rate = several_rates.then(|| format!("{}/s", run.rate));
            let name = names::joined([input, run.name.clone(), rate]);
            names::with_failures(name, run.failed, run.requests())
        };
        if let Some(slice) = self.slice {
            let lines = self.runs.iter().enumerate().flat_map(|(marker, run)| {
                let name = (self.runs.len() > 1).then(|| name(run));
                QUANTILES.iter().enumerate().map(move |(dash, &(quantile, share))| {
                    // With one line for each latency, these also differ in their markers.
                    let marker = if name.is_some() { marker } else { dash };
                    let name = names::joined([name.clone(), Some(quantile.to_owned())]);
                    Series {
                        name,
                        look: Look { marker, dash, form: Form::Both },
                        points: run.over_time(slice, share),
                    }
                })
            });
            let panel = Panel::new("latency (ms)".to_owned(), Scale::Values, lines.collect());
            return Ok(Figure { x_label: "time (s)".to_owned(), across: Scale::Values, panels: vec![panel] });
        }
        let series = self.runs.iter().enumerate().map(|(i, run)| Series {
            name: name(run),
            look: Look { form: Form::Steps, ..Look::of(i) },
            points: curve(&run.answers),
        });
        let panel = Panel::new("answers that are slower".to_owned(), Scale::Tail, series.collect());
        Ok(Figure { x_label: "latency (ms)".to_owned(), across: Scale::Values, panels: vec![panel] })
    }
}

/// The steps from all answers to the slowest one, or to the lowest share that is drawn.
fn curve(answers: &Histogram<u64>) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut push = |x: f64, y: f64| points.push(Point { x, y, interval: None });
    let all = answers.len();
    let (mut slower, mut last) = (all, 1.0_f64);
    for step in answers.iter_recorded() {
        let ms = step.value_iterated_to() as f64 / 1e6;
        slower -= step.count_since_last_iteration();
        let share = slower as f64 / all as f64;
        if slower == 0 || share < TAIL {
            push(ms, last);
            if slower > 0 {
                push(ms, TAIL);
            }
            break;
        }
        if last.log10() - share.log10() >= FINEST {
            push(ms, last);
            push(ms, share);
            last = share;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_from_all_answers_to_the_slowest() {
        let mut answers = Histogram::new(3).unwrap();
        for ms in [1_u64, 1, 2, 10] {
            answers.record(ms * 1_000_000).unwrap();
        }
        let curve: Vec<(u64, f64)> =
            curve(&answers).iter().map(|point| (point.x.round() as u64, point.y)).collect();
        assert_eq!(curve, [(1, 1.0), (1, 0.5), (2, 0.5), (2, 0.25), (10, 0.25)]);
    }

    #[test]
    fn a_curve_has_few_points_and_ends_at_the_lowest_share() {
        let mut answers = Histogram::new(3).unwrap();
        // A share of s is slower than √(1/s) ms.
        for i in 1..=1_000_000 {
            answers.record((1e6 * (1e6 / f64::from(i)).sqrt()) as u64).unwrap();
        }
        let curve = curve(&answers);
        assert!((500..2500).contains(&curve.len()), "{}", curve.len());
        assert_eq!(curve.last().unwrap().y, TAIL);
        assert!(curve.windows(2).all(|pair| pair[0].x <= pair[1].x && pair[0].y >= pair[1].y));
        let of = |share: f64| curve.iter().find(|point| point.y <= share).unwrap().x;
        assert!((of(0.01) / 10.0 - 1.0).abs() < 0.01 && (of(1e-4) / 100.0 - 1.0).abs() < 0.02);
    }
}
