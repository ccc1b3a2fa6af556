//! The trials of a measurement: which target is measured when.

use std::io;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parm_cli::tools::load::Load;
use parm_cli::{Io, Usage};
use parm_oip::load::{Plan, measure};
use parm_workload::{
    Arrivals, Drill, DrillLog, Expectation, Record, Row, Schedule, Search, Span, Trace, Trial, Watch, compare,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::drill;
use crate::targets::Target;

/// The default time of a measurement, in seconds.
const SECONDS: f64 = 10.0;

/// The rate at which a search begins.
const FIRST_RATE: f64 = 10.0;

/// The distance of the two rates at which a search ends, as a share of the lower one.
const PRECISION: f64 = 0.02;

/// The trials that decide at these rates.
const TRIALS: u32 = 3;

/// All trials, of all targets at all rates.
pub(crate) struct Trials {
    /// The number of requests of the trace, if there is one.
    traced: Option<u64>,
    rates: Vec<f64>,
    /// How often each target is measured at each rate; at the end of a search.
    count: u32,
    /// The plan of the first trial.
    plan: Plan,
    expected: Option<Expectation>,
    drill: Option<Drill>,
}

impl Trials {
    /// The trials that the options ask for.
    ///
    /// # Errors
    /// A trace that cannot be read.
    pub(crate) fn new(options: &Load, expected: Option<Expectation>, io: &mut Io) -> Result<Self> {
        let schedule = &options.schedule;
        let ramp = schedule.ramp.map(|ramp| [ramp.from, ramp.to]);
        let arrivals = Arrivals::new(schedule.trace(io, Trace::read)?, &schedule.arrivals, ramp)
            .map_err(|error| Usage::error(format!("--arrivals: {error}")))?;
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
            slo: options.slo.map(Duration::from_secs_f64),
            slices: options.slices.map(Duration::from_secs_f64),
        };
        io.resolve("rate", rates.clone());
        match plan.span {
            Span::Requests(requests) => io.resolve("queries", requests),
            Span::Time(time) => io.resolve("seconds", time.as_secs_f64()),
        }
        let count = options.trials.unwrap_or(if options.find.is_some() { TRIALS } else { 1 });
        io.resolve("trials", count);
        let drill = drill::read(options, plan.span, &rates)?;
        Ok(Self { traced, rates, count, plan, expected, drill })
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
    /// Returns a row for each rate and target that was measured, ordered by rate. A measurement that is not as
    /// expected is the last one.
    ///
    /// # Errors
    /// The errors of `each`, and a thread that cannot be started.
    pub(crate) fn run(
        &self,
        targets: &[Target],
        runtime: &Handle,
        stop: &watch::Receiver<bool>,
        each: impl FnMut(&Record) -> io::Result<()>,
        after: impl FnMut(Option<&str>, &Trial),
    ) -> Result<Vec<Row<Trial>>> {
        let mut rows: Vec<Row<Trial>> = Vec::new();
        for &rate in &self.rates {
            let row = |target: &Target| Row { name: target.name.clone(), rate, trials: Vec::new() };
            rows.extend(targets.iter().map(row));
        }
        let mut session = Session { runtime, stop, clock: Instant::now(), each, after };
        'all: for trial in 0..self.count {
            for of_rate in rows.chunks_mut(targets.len()) {
                for turn in 0..targets.len() {
                    let place = (trial as usize + turn) % targets.len();
                    let (Some(target), Some(row)) = (targets.get(place), of_rate.get_mut(place)) else {
                        continue;
                    };
                    let ended = self.trial(target, row.rate, trial, &mut session)?;
                    let is_last = !ended.unmet.is_empty();
                    row.trials.push(ended);
                    if is_last || *stop.borrow() {
                        break 'all;
                    }
                }
            }
        }
        rows.chunks_mut(targets.len()).for_each(compare);
        rows.retain(|row| !row.trials.is_empty());
        Ok(rows)
    }

    /// Searches the highest rate at which each target is as expected. As [`Self::run`], with the searches in the order
    /// of targets.
    pub(crate) fn find(
        &self,
        targets: &[Target],
        runtime: &Handle,
        stop: &watch::Receiver<bool>,
        each: impl FnMut(&Record) -> io::Result<()>,
        after: impl FnMut(Option<&str>, &Trial),
    ) -> Result<(Vec<Row<Trial>>, Vec<Search>)> {
        let mut session = Session { runtime, stop, clock: Instant::now(), each, after };
        let (mut all, mut searches) = (Vec::new(), Vec::new());
        for target in targets {
            let first = self.rates.first().copied().unwrap_or(FIRST_RATE);
            let mut search = Search::new(first, PRECISION, self.count);
            let mut rows: Vec<Row<Trial>> = Vec::new();
            while let Some(rate) = search.rate().filter(|_| !*stop.borrow()) {
                let place = rows.iter().position(|row| row.rate == rate).unwrap_or_else(|| {
                    rows.push(Row { name: target.name.clone(), rate, trials: Vec::new() });
                    rows.len() - 1
                });
                let row = &mut rows[place];
                // At the limit, other arrivals may decide otherwise.
                let number = u32::try_from(row.trials.len()).unwrap_or(u32::MAX);
                let trial = self.trial(target, rate, number, &mut session)?;
                if !*stop.borrow() {
                    search.tried(rate, trial.unmet.is_empty());
                }
                row.trials.push(trial);
            }
            rows.sort_by(|a, b| a.rate.total_cmp(&b.rate));
            all.append(&mut rows);
            searches.push(search);
        }
        Ok((all, searches))
    }

    /// Measures a target at a rate.
    fn trial<E, A>(
        &self,
        target: &Target,
        rate: f64,
        trial: u32,
        session: &mut Session<'_, E, A>,
    ) -> Result<Trial>
    where
        E: FnMut(&Record) -> io::Result<()>,
        A: FnMut(Option<&str>, &Trial),
    {
        let plan = Plan {
            name: target.name.clone(),
            trial: (self.count > 1).then_some(trial),
            rate,
            seed: self.plan.seed.wrapping_add(u64::from(trial)),
            ..self.plan.clone()
        };
        let begin = session.clock.elapsed() + plan.warm_up;
        let Target { name, instance, queries, .. } = target;
        let mut watch = self.expected.as_ref().map(|expected| {
            let Plan { rate, seed, warm_up, span, .. } = plan;
            let requests = Schedule::new(plan.arrivals.clone(), rate, seed, warm_up, span).requests();
            Watch::new(expected, requests, queries.rows())
        });
        let mut log = DrillLog::new(queries.rows());
        let (is_over, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let each = |record: &Record| {
            (session.each)(record)?;
            if self.drill.is_some() {
                log.add(record);
            }
            let lost =
                watch.as_mut().is_some_and(|watch| watch.add(record)) || failed.load(Ordering::Relaxed);
            Ok(if lost { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let started = Instant::now();
        let (summary, committed) = thread::scope(|scope| {
            let commit = |drill| drill::commit(drill, started, plan.warm_up, &is_over, &failed);
            let committing = self.drill.as_ref().map(|drill| scope.spawn(move || commit(drill)));
            let summary = measure(session.runtime, instance, queries, &plan, session.stop, each);
            is_over.store(true, Ordering::Relaxed);
            let committed =
                committing.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (summary, committed)
        });
        let summary = summary.context("records")?;
        let times = committed.transpose()?.unwrap_or_default();
        let impacts = log.impacts(&times);
        let faults = self.drill.iter().flat_map(|drill| drill.0.clone()).zip(impacts).collect();
        // What a signal ended is not judged.
        let watch = watch.filter(|_| !*session.stop.borrow());
        let unmet = watch.map_or(Vec::new(), |watch| watch.reasons(&summary));
        let trial = Trial { unmet, faults, ..Trial::new(summary, begin) };
        (session.after)(name.as_deref(), &trial);
        Ok(trial)
    }
}

/// What all measurements have in common.
struct Session<'a, E, A> {
    runtime: &'a Handle,
    stop: &'a watch::Receiver<bool>,
    /// The zero of their begins.
    clock: Instant,
    each: E,
    after: A,
}

/// What is expected of each measurement.
///
/// # Errors
/// An expectation that cannot be read, or that needs an objective where there is none; several rates to begin a search
/// at.
pub(crate) fn expected(options: &Load) -> Result<Option<Expectation>> {
    let (name, text) = match (&options.expect, &options.find) {
        (Some(text), _) => ("--expect", text),
        (None, Some(text)) => ("--find", text),
        (None, None) => return Ok(None),
    };
    let expected: Expectation =
        text.parse().map_err(|error| Usage::error(format!("{name} {text}: {error}")))?;
    if expected.needs_objective() && options.slo.is_none() {
        return Err(Usage::error(format!(
            "{name} {text}: found goodput without an objective, expected --slo"
        )));
    }
    let rates = options.schedule.rate.len();
    if options.find.is_some() && rates > 1 {
        return Err(Usage::error(format!("--find: found {rates} rates, expected one to begin with")));
    }
    Ok(Some(expected))
}
