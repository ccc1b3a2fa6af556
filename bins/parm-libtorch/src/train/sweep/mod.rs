//! Sweeps: every run of a configuration, trained and scored on test rows.

mod config;
mod job;
mod known;
mod report;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use parm_cli::Io;
use parm_cli::options::{Common, TimingsOption};
use parm_cli::tools::train::Sweep;

use crate::train::Machine;
use config::{Config, Run};
use job::{Job, Taught};

pub(crate) fn run(options: &Sweep, common: &Common, io: &mut Io) -> Result<()> {
    io.note_file(&options.config);
    let Config { runs, train_base } = fs::read_to_string(&options.config)
        .map_err(anyhow::Error::from)
        .and_then(|text| Config::parse(&text, options.config.parent().unwrap_or(Path::new(""))))
        .with_context(|| options.config.display().to_string())?;
    let first = options.continue_from.as_deref().map_or(Ok(0), |path| place(path, &runs, options))?;
    let jobs: Vec<_> = runs.iter().skip(first).map(|run| Job::new(run, options)).collect();
    // All runs are checked before the first one trains, perhaps for a day.
    for job in &jobs {
        job.check(train_base)?;
    }
    let machine = Machine::prepare(options.compute, &TimingsOption::default(), common, io)?;
    let mut results = Vec::new();
    let mut taught: Option<Taught> = None;
    for job in &jobs {
        if let Some(done) = job.done()? {
            common.count(io, &format!("{}: was done before", done.run));
            results.push(done);
            continue;
        }
        let taught = match taught.take().filter(|taught| taught.is_for(job)) {
            Some(same) => taught.insert(same),
            None => taught.insert(Taught::read(job, &machine, common, io)?),
        };
        results
            .push(job.run(taught, &machine, common, io).with_context(|| job.folder.display().to_string())?);
    }
    let text = if options.json { report::as_json(&results)? } else { report::as_table(&results) };
    io.print(&text)
}

/// The run whose folder contains this path.
fn place(path: &Path, runs: &[Run], options: &Sweep) -> Result<usize> {
    let real = fs::canonicalize(path).with_context(|| format!("--continue-from {}", path.display()))?;
    let folder = |run: &Run| options.save_dir.join(run.folder());
    let holds = |run: &Run| fs::canonicalize(folder(run)).is_ok_and(|folder| real.starts_with(folder));
    runs.iter().position(holds).ok_or_else(|| {
        let example = runs.first().map(folder).unwrap_or_default();
        anyhow!(
            "--continue-from {}: found no run of {} there, expected a folder as {}",
            path.display(),
            options.config.display(),
            example.display()
        )
    })
}
