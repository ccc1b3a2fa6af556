//! `parm-sim`: coded serving under virtual time. The simulation is in `parm_simulation`; this crate has its
//! threads and its output.

mod advise;
mod check;
mod fit;
mod jobs;
mod json;
mod plan;
mod trace_events;

use std::path::Path;

use anyhow::{Context, Result, bail};
use parm::counted;
use parm_cli::output::{Lines, Target};
use parm_cli::tools::sim::{Sim, SimCommand};
use parm_cli::{Exit, Io, Progress, Usage};
use parm_config::Model;
use parm_engine::journal::Entry;
use parm_simulation::{Cluster, Journaled, runs, variants};
use parm_workload::Summary;
use parm_workload::report::table;
use serde_json::{Map, Value};

use json::FORMAT;
pub use json::{Advice, Prediction, Simulation};
use plan::Plan;
use trace_events::TraceEvents;

/// The most queries with records or a journal.
const MOST_RECORDS: u64 = 10_000_000;

/// Runs the tool.
///
/// # Errors
/// A cluster, policies or a trace that cannot be simulated, or records that cannot be written.
pub fn run(options: &Sim, io: &mut Io) -> Result<Exit> {
    match &options.command {
        Some(SimCommand::Advise(advise)) => return advise::run(advise, &options.common, io),
        Some(SimCommand::Fit(fit)) => return fit::run(fit, &options.common, io),
        Some(SimCommand::Check(check)) => return check::run(check, &options.common, io),
        None => {}
    }
    let cluster = options.cluster.as_deref().context("expected a cluster")?;
    if options.json {
        io.record_inputs();
        [cluster].into_iter().chain(options.policies.as_deref()).for_each(|path| io.note_file(path));
    }
    let models = models(cluster, options.model.as_deref(), options.policies.as_deref(), &options.with)?;
    let plan = Plan::new(&options.load, io)?.with_servers(options.servers as usize);
    check_records(options, models.len(), plan.total(models.len()))?;
    let progress = Progress::new(&options.common, io, "queries", Some(plan.total(models.len())));
    let is_journaled = options.journal.is_some() || options.trace_events.is_some();
    let rows = if options.records.is_some() || is_journaled {
        let (mut records, mut journal) =
            (Lines::new(options.records.as_ref(), io)?, Lines::new(options.journal.as_ref(), io)?);
        let events = options.trace_events.as_ref();
        let mut events = events.map(|target| TraceEvents::new(target, io)).transpose()?;
        let mut note = |entry: &Entry| {
            journal.add(entry)?;
            events.as_mut().map_or(Ok(()), |events| events.add(entry))
        };
        let journaled = is_journaled.then_some(&mut note as Journaled<'_>);
        let rows = plan.one_by_one(&models, &progress, |record| records.add(record), journaled)?;
        records.commit().context("records")?;
        journal.commit().context("journal")?;
        events.map_or(Ok(()), |events| events.commit().context("trace events"))?;
        rows
    } else {
        plan.in_parallel(&models, &progress)?
    };
    drop(progress);
    let text = if options.json {
        let report = Simulation {
            format: FORMAT,
            cluster: cluster.display().to_string(),
            seed: options.load.seed,
            runs: runs(&rows),
            made_by: io.made_by(),
        };
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        table(&rows)
    };
    io.print(&text)?;
    let queries: u64 = rows.iter().map(|row| row.sum(Summary::answered) + row.sum(Summary::failed)).sum();
    options.common.count(io, &counted(queries, "query"));
    Ok(Exit::Done)
}

/// The models to simulate, with their names.
fn models(
    path: &Path,
    name: Option<&str>,
    list: Option<&Path>,
    with: &[String],
) -> Result<Vec<(String, Model)>> {
    let mut policies: Vec<Map<String, Value>> = Vec::new();
    if let Some(path) = list {
        let list: Vec<Map<String, Value>> = serde_json::from_str(&text(path)?).with_context(|| {
            format!("{}: expected a list of objects with fields of a model", path.display())
        })?;
        if list.is_empty() {
            bail!("{}: found no policies, expected at least one", path.display());
        }
        policies.extend(list);
    }
    for with in with {
        policies.push(serde_json::from_str(with).map_err(|error| {
            Usage::error(format!("--with {with}: expected an object with fields of a model: {error}"))
        })?);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let models =
        variants(&text(path)?, folder, name, &policies).with_context(|| path.display().to_string())?;
    for (name, model) in &models {
        let cluster = Cluster::new(model, 0, 1);
        cluster.with_context(|| format!("{}: model {name}", path.display()))?;
    }
    Ok(models)
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))
}

fn check_records(options: &Sim, models: usize, total: u64) -> Result<()> {
    let files = [
        ("--records", &options.records),
        ("--journal", &options.journal),
        ("--trace-events", &options.trace_events),
    ];
    for (name, target) in files {
        if *target == Some(Target::Stdout) {
            return Err(Usage::error(format!("{name} -: standard output is for the table, expected a file")));
        }
        if target.is_some() && (models > 1 || options.load.seeds > 1) {
            return Err(Usage::error(format!(
                "{name}: found {models} models or policies and {} seeds, expected one of each: lines do not \
                 say whose they are",
                options.load.seeds
            )));
        }
        if target.is_some() && total > MOST_RECORDS {
            return Err(Usage::error(format!(
                "{name}: found {total} queries, expected at most {MOST_RECORDS}; without {name} there may be \
                 more"
            )));
        }
    }
    // A journal identifies queries by their numbers, which start over at each rate.
    let found = options.load.schedule.rate.len();
    for (name, target) in [("--journal", &options.journal), ("--trace-events", &options.trace_events)] {
        if target.is_some() && found > 1 {
            return Err(Usage::error(format!("{name}: found {found} rates, expected one")));
        }
        if target.is_some() && options.servers > 1 {
            let found = options.servers;
            return Err(Usage::error(format!(
                "{name}: found {found} servers, expected one: each has its own calls"
            )));
        }
    }
    Ok(())
}
