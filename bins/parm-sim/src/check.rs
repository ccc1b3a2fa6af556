//! `parm-sim check`: whether a cluster predicts a recorded run.

use anyhow::{Context, Result, bail};
use parm::counted;
use parm_cli::options::Common;
use parm_cli::tools::sim::Check;
use parm_cli::{Exit, Io, Progress};
use parm_simulation::check;
use parm_workload::Summary;

use crate::json::{FORMAT, Prediction};
use crate::plan::Plan;
use crate::{fit, models};

/// Simulates a recorded run, and compares the latencies.
///
/// # Errors
/// A file that is no recorded run, a run without answers, or a cluster that cannot be simulated.
pub(crate) fn run(options: &Check, common: &Common, io: &mut Io) -> Result<Exit> {
    if options.json {
        io.record_inputs();
        io.note_file(&options.cluster);
    }
    let with = options.with.as_slice();
    let models = models(&options.cluster, options.model.as_deref(), None, with)?;
    let recording = fit::recording(&options.recording, io)?;
    let trace = recording.trace().with_context(|| options.recording.to_string())?;
    let mut measured = Summary::new(trace.rate(), 1);
    recording.records.iter().for_each(|record| measured.add(record));
    if measured.answered() == 0 {
        bail!("{}: found no answers, expected at least one", options.recording);
    }
    let plan = Plan::of_trace(trace, options.seed, options.seeds, options.computing.threads);
    let progress = Progress::new(common, io, "queries", Some(plan.total(1)));
    let rows = plan.in_parallel(models.get(..1).unwrap_or_default(), &progress)?;
    drop(progress);
    let trials = rows.first().map_or(&[][..], |row| &row.trials);
    let tolerance = options.tolerance / 100.0;
    let found = check(&measured, trials, tolerance).with_context(|| {
        format!("{}: found simulations without answers, expected some", options.cluster.display())
    })?;
    let text = if options.json {
        let report = Prediction { format: FORMAT, check: found.clone(), made_by: io.made_by() };
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        found.table()
    };
    io.print(&text)?;
    common.count(io, &counted(plan.total(1), "query"));
    Ok(if found.predicts { Exit::Done } else { Exit::Unmet })
}
