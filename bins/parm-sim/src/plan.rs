//! The trials of all models at all rates with all seeds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parm_cli::tools::sim::SimulatedLoad;
use parm_cli::{Io, Progress, Usage};
use parm_config::Model;
use parm_simulation::{Journaled, Row, Size, Trial, run};
use parm_workload::{Arrivals, Record, Trace};

use crate::jobs;

/// The default number of queries at each rate.
const QUERIES: u64 = 100_000;

/// The number of queries between two updates of the progress bar.
const STEP: u64 = 1 << 12;

/// The trials of each model.
pub(crate) struct Plan {
    arrivals: Arrivals,
    rates: Vec<f64>,
    seeds: Vec<u64>,
    warm_up: Duration,
    queries: u64,
    threads: Option<u32>,
    /// The servers that share the instances.
    servers: usize,
}

/// One trial.
#[derive(Clone, Copy)]
struct Job<'a> {
    model: &'a Model,
    rate: f64,
    seed: u64,
}

impl Plan {
    /// The trials that the options ask for.
    ///
    /// # Errors
    /// A trace that cannot be read.
    pub(crate) fn new(options: &SimulatedLoad, io: &mut Io) -> Result<Self> {
        let schedule = &options.schedule;
        let ramp = schedule.ramp.map(|ramp| [ramp.from, ramp.to]);
        let arrivals = Arrivals::new(schedule.trace(io, Trace::read)?, &schedule.arrivals, ramp)
            .map_err(|error| Usage::error(format!("--arrivals: {error}")))?;
        let (rates, most) = (arrivals.rates(&schedule.rate), arrivals.requests());
        let queries = schedule.queries.or(most).unwrap_or(QUERIES).min(most.unwrap_or(u64::MAX));
        io.resolve("rate", rates.clone());
        io.resolve("queries", queries);
        let seeds = (0..u64::from(options.seeds)).map(|seed| options.seed.wrapping_add(seed)).collect();
        let warm_up = Duration::from_secs_f64(schedule.warm_up);
        Ok(Self { arrivals, rates, seeds, warm_up, queries, threads: options.computing.threads, servers: 1 })
    }

    /// The same trials with this number of servers.
    pub(crate) fn with_servers(self, servers: usize) -> Self {
        Self { servers, ..self }
    }

    /// Trials of a trace at its own rate, each with other faults.
    pub(crate) fn of_trace(trace: Trace, seed: u64, seeds: u32, threads: Option<u32>) -> Self {
        let (rates, queries) = (vec![trace.rate()], trace.requests());
        let seeds = (0..u64::from(seeds)).map(|number| seed.wrapping_add(number)).collect();
        let arrivals = Arrivals::Trace(Arc::new(trace));
        Self { arrivals, rates, seeds, warm_up: Duration::ZERO, queries, threads, servers: 1 }
    }

    /// The number of queries of all trials of this number of models.
    pub(crate) fn total(&self, models: usize) -> u64 {
        self.queries.saturating_mul((models * self.rates.len() * self.seeds.len()) as u64)
    }

    /// The number of queries of each trial.
    pub(crate) fn queries(&self) -> u64 {
        self.queries
    }

    /// Runs all trials on several threads.
    ///
    /// # Errors
    /// A model that cannot be simulated.
    pub(crate) fn in_parallel(&self, models: &[(String, Model)], progress: &Progress) -> Result<Vec<Row>> {
        let trial = |job: &Job<'_>| self.trial(*job, progress, |_| Ok(()), None);
        Ok(self.rows(models, jobs::in_parallel(self.threads, &self.jobs(models), trial)?))
    }

    /// Runs one trial after another, and passes all records to `each` and the journal's entries to `journal`.
    ///
    /// # Errors
    /// A model that cannot be simulated, or an error of `each` or `journal`.
    pub(crate) fn one_by_one(
        &self,
        models: &[(String, Model)],
        progress: &Progress,
        mut each: impl FnMut(&Record) -> io::Result<()>,
        mut journal: Option<Journaled<'_>>,
    ) -> Result<Vec<Row>> {
        let mut trials = Vec::new();
        for job in self.jobs(models) {
            let journal = journal.as_mut().map(|journal| &mut **journal as Journaled<'_>);
            trials.push(self.trial(job, progress, &mut each, journal)?);
        }
        Ok(self.rows(models, trials))
    }

    fn jobs<'a>(&self, models: &'a [(String, Model)]) -> Vec<Job<'a>> {
        let mut jobs = Vec::new();
        for (_, model) in models {
            for &rate in &self.rates {
                jobs.extend(self.seeds.iter().map(|&seed| Job { model, rate, seed }));
            }
        }
        jobs
    }

    fn trial(
        &self,
        job: Job<'_>,
        progress: &Progress,
        mut each: impl FnMut(&Record) -> io::Result<()>,
        journal: Option<Journaled<'_>>,
    ) -> Result<Trial> {
        let mut ended = 0;
        let mut each = |record: &Record| {
            ended += 1;
            if ended % STEP == 0 {
                progress.advance(STEP);
            }
            each(record)
        };
        let size = Size { warm_up: self.warm_up, queries: self.queries, servers: self.servers };
        Ok(run(job.model, &self.arrivals, job.rate, job.seed, size, &mut each, journal)?)
    }

    /// Trials in the order of [`Self::jobs`].
    fn rows(&self, models: &[(String, Model)], trials: Vec<Trial>) -> Vec<Row> {
        let mut trials = trials.into_iter();
        let mut rows = Vec::new();
        for (name, _) in models {
            for &rate in &self.rates {
                let trials = trials.by_ref().take(self.seeds.len()).collect();
                rows.push(Row { name: Some(name.clone()), rate, trials });
            }
        }
        rows
    }
}
