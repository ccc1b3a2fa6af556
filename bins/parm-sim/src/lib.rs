//! `parm-sim`: coded serving under virtual time. What it does is in `parm_simulation`; here are its
//! options, its threads and its output.

mod jobs;
mod trace;

use std::io::{BufWriter, IntoInnerError, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parm_cli::output::{Compression, Output, Target};
use parm_cli::tools::load::ArrivalsOption;
use parm_cli::tools::sim::Sim;
use parm_cli::{Exit, Io, Progress, Usage};
use parm_serving::config::Model;
use parm_serving::load;
use parm_simulation::{Arrivals, Row, Trial, json, run as simulate, table, variants};
use serde_json::{Map, Value};

/// The most queries of which there are records.
const MOST_RECORDS: u64 = 10_000_000;

/// Queries of a cluster without a word on how many.
const QUERIES: u64 = 100_000;

/// One trial to be made.
#[derive(Clone, Copy)]
struct Job<'a> {
    model: &'a Model,
    rate: f64,
    seed: u64,
}

/// Runs the tool.
///
/// # Errors
/// A cluster, policies or a trace that cannot be simulated, or records that cannot be written.
pub fn run(options: &Sim, io: &mut Io) -> Result<Exit> {
    let models = models(options)?;
    let trace = options.trace.as_ref().map(|input| trace::read(input, io)).transpose()?;
    let arrivals = match (&trace, options.arrivals) {
        (Some(trace), _) => Arrivals::Traced(trace),
        (None, ArrivalsOption::Poisson) => Arrivals::Drawn(load::Arrivals::Poisson),
        (None, ArrivalsOption::Constant) => Arrivals::Drawn(load::Arrivals::Constant),
    };
    let rates = match &trace {
        Some(trace) if options.rate.is_empty() => vec![trace.rate()],
        _ => options.rate.clone(),
    };
    let most = trace.as_ref().map_or(u64::MAX, |trace| trace.queries() as u64);
    let queries = options.queries.unwrap_or(if trace.is_some() { most } else { QUERIES }).min(most);
    let all = (models.len() * rates.len()) as u64 * u64::from(options.seeds);
    let total = queries.saturating_mul(all);
    check_records(options, models.len(), total)?;

    let seeds = || (0..u64::from(options.seeds)).map(|seed| options.seed.wrapping_add(seed));
    let places =
        || models.iter().flat_map(|(name, model)| rates.iter().map(move |&rate| (name, model, rate)));
    let jobs: Vec<Job<'_>> =
        places().flat_map(|(_, model, rate)| seeds().map(move |seed| Job { model, rate, seed })).collect();
    let progress = Progress::new(&options.common, io, "queries", Some(total));
    let span = (Duration::from_secs_f64(options.warm_up), queries);
    let create = |target: &Target| target.create(io, Compression::ByName(3)).map(BufWriter::new);
    let trials = if let Some(mut records) = options.records.as_ref().map(create).transpose()? {
        let mut trials = Vec::with_capacity(jobs.len());
        for job in jobs {
            trials.push(trial(job, arrivals, span, &progress, |record| {
                serde_json::to_writer(&mut records, record)?;
                records.write_all(b"\n")
            })?);
        }
        let output: Output = records.into_inner().map_err(IntoInnerError::into_error).context("records")?;
        output.commit()?;
        trials
    } else {
        let trial = |job: &Job<'_>| trial(*job, arrivals, span, &progress, |_| Ok(()));
        jobs::in_parallel(options.threads, &jobs, trial)?
    };
    drop(progress);

    let mut trials = trials.into_iter();
    let rows: Vec<Row> = places()
        .map(|(name, _, rate)| Row {
            name: name.clone(),
            rate,
            trials: trials.by_ref().take(options.seeds as usize).collect(),
        })
        .collect();
    print(options, io, &rows)?;
    options.common.count(io, "parm-sim", &format!("{total} queries"));
    Ok(Exit::Done)
}

/// The models to simulate, and what they are called.
fn models(options: &Sim) -> Result<Vec<(String, Model)>> {
    let path = &options.cluster;
    let mut policies: Vec<Map<String, Value>> = Vec::new();
    if let Some(path) = &options.policies {
        let list: Vec<Map<String, Value>> = serde_json::from_str(&text(path)?).with_context(|| {
            format!("{}: expected a list of objects with fields of a model", path.display())
        })?;
        if list.is_empty() {
            bail!("{}: found no policies, expected at least one", path.display());
        }
        policies.extend(list);
    }
    for with in &options.with {
        policies.push(serde_json::from_str(with).map_err(|error| {
            Usage::error(format!("--with {with}: expected an object with fields of a model: {error}"))
        })?);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let models = variants(&text(path)?, folder, options.model.as_deref(), &policies)
        .with_context(|| path.display().to_string())?;
    for (name, model) in &models {
        let cluster = parm_simulation::Cluster::new(model, 0);
        cluster.with_context(|| format!("{}: model {name}", path.display()))?;
    }
    Ok(models)
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))
}

fn check_records(options: &Sim, models: usize, total: u64) -> Result<()> {
    if options.records == Some(Target::Stdout) {
        return Err(Usage::error("--records -: standard output is for the table, expected a file"));
    }
    if options.records.is_some() && (models > 1 || options.seeds > 1) {
        return Err(Usage::error(format!(
            "--records: found {models} models or policies and {} seeds, expected one of each: records do \
             not say whose they are",
            options.seeds
        )));
    }
    if options.records.is_some() && total > MOST_RECORDS {
        return Err(Usage::error(format!(
            "--records: found {total} queries, expected at most {MOST_RECORDS}; without records there may \
             be more"
        )));
    }
    Ok(())
}

/// Queries between two moves of the progress bar.
const STEP: u64 = 1 << 12;

fn trial(
    job: Job<'_>,
    arrivals: Arrivals<'_>,
    span: (Duration, u64),
    progress: &Progress,
    mut each: impl FnMut(&load::Record) -> std::io::Result<()>,
) -> Result<Trial> {
    let mut ended = 0;
    let mut each = |record: &load::Record| {
        ended += 1;
        if ended % STEP == 0 {
            progress.advance(STEP);
        }
        each(record)
    };
    Ok(simulate(job.model, arrivals, job.rate, job.seed, span, &mut each)?)
}

fn print(options: &Sim, io: &mut Io, rows: &[Row]) -> Result<()> {
    let text = if options.json {
        let mut report = json(rows);
        report["cluster"] = options.cluster.display().to_string().into();
        report["seed"] = options.seed.into();
        format!("{report}\n")
    } else {
        table(rows)
    };
    let mut stdout = io.take_stdout().context("standard output is closed")?;
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output: cannot write")
}
