//! The trials of a measurement: which target is measured when.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parm_cli::Io;
use parm_cli::tools::load::{ArrivalsOption, Load};
use parm_oip::load::{Plan, measure};
use parm_workload::{Arrivals, Record, Row, Span, Trace, Trial, compare};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::targets::Target;

/// The default time of a measurement, in seconds.
const SECONDS: f64 = 10.0;

/// All trials, of all targets at all rates.
pub(crate) struct Trials {
    /// The number of requests of the trace, if there is one.
    traced: Option<u64>,
    rates: Vec<f64>,
    /// How often each target is measured at each rate.
    count: u32,
    /// The plan of the first trial.
    plan: Plan,
}

impl Trials {
    /// The trials that the options ask for.
    ///
    /// # Errors
    /// A trace that cannot be read.
    pub(crate) fn new(options: &Load, io: &mut Io) -> Result<Self> {
        let schedule = &options.schedule;
        let arrivals = match (schedule.trace(io, Trace::read)?, schedule.arrivals) {
            (Some(trace), _) => Arrivals::Trace(Arc::new(trace)),
            (None, ArrivalsOption::Poisson) => Arrivals::Poisson,
            (None, ArrivalsOption::Constant) => Arrivals::Constant,
        };
        let (rates, traced) = (arrivals.rates(&schedule.rate), arrivals.requests());
        let span = match (schedule.queries, options.seconds) {
            (Some(requests), _) => Span::Requests(requests),
            (None, Some(seconds)) => Span::Time(Duration::from_secs_f64(seconds)),
            // A trace has an end.
            (None, None) => traced.map_or(Span::Time(Duration::from_secs_f64(SECONDS)), Span::Requests),
        };
        let plan = Plan {
            name: None,
            trial: None,
            arrivals,
            rate: 1.0,
            seed: options.seed,
            warm_up: Duration::from_secs_f64(schedule.warm_up),
            span,
            timeout: Duration::from_secs_f64(options.timeout / 1e3),
            in_flight: options.in_flight as usize,
        };
        io.resolve("rate", rates.clone());
        match plan.span {
            Span::Requests(requests) => io.resolve("queries", requests),
            Span::Time(time) => io.resolve("seconds", time.as_secs_f64()),
        }
        Ok(Self { traced, rates, count: options.trials, plan })
    }

    /// The expected number of recorded requests for this number of targets.
    pub(crate) fn requests(&self, targets: usize) -> u64 {
        let at = |&rate: &f64| {
            let requests = match self.plan.span {
                Span::Requests(requests) => requests,
                Span::Time(time) => (rate * time.as_secs_f64()) as u64,
            };
            requests.min(self.traced.unwrap_or(u64::MAX))
        };
        let each = self.rates.iter().map(at).fold(0, u64::saturating_add);
        each.saturating_mul(u64::from(self.count)).saturating_mul(targets as u64)
    }

    /// Measures all targets at all rates in each trial. Each trial begins with the next target, so that
    /// changes on the machine affect all targets alike. The arrivals of a trial are the same for all targets.
    /// `each` gets each record, and `after` each measurement with the target's name.
    ///
    /// Returns a row for each rate and target that was measured, ordered by rate.
    ///
    /// # Errors
    /// The errors of `each`, and a thread that cannot be started.
    pub(crate) fn run(
        &self,
        targets: &[Target],
        runtime: &Handle,
        stop: &watch::Receiver<bool>,
        mut each: impl FnMut(&Record) -> io::Result<()>,
        mut after: impl FnMut(Option<&str>, &Trial),
    ) -> Result<Vec<Row<Trial>>> {
        let mut rows: Vec<Row<Trial>> = Vec::new();
        for &rate in &self.rates {
            let row = |target: &Target| Row { name: target.name.clone(), rate, trials: Vec::new() };
            rows.extend(targets.iter().map(row));
        }
        let clock = Instant::now();
        'all: for trial in 0..self.count {
            for of_rate in rows.chunks_mut(targets.len()) {
                for turn in 0..targets.len() {
                    let place = (trial as usize + turn) % targets.len();
                    let (Some(target), Some(row)) = (targets.get(place), of_rate.get_mut(place)) else {
                        continue;
                    };
                    let plan = Plan {
                        name: target.name.clone(),
                        trial: (self.count > 1).then_some(trial),
                        rate: row.rate,
                        seed: self.plan.seed.wrapping_add(u64::from(trial)),
                        ..self.plan.clone()
                    };
                    let begin = clock.elapsed() + plan.warm_up;
                    let Target { instance, queries, .. } = target;
                    let summary = measure(runtime, instance, queries, &plan, stop, &mut each);
                    let summary = summary.context("records")?;
                    let trial = Trial { summary, begin, gap_ratio: None };
                    after(row.name.as_deref(), &trial);
                    row.trials.push(trial);
                    if *stop.borrow() {
                        break 'all;
                    }
                }
            }
        }
        rows.chunks_mut(targets.len()).for_each(compare);
        rows.retain(|row| !row.trials.is_empty());
        Ok(rows)
    }
}
