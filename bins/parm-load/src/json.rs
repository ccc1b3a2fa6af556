//! The JSON of a report; `--schema` describes it.

use parm::MadeBy;
use parm_cli::tools::load::Load;
use parm_workload::{Row, Search, TargetRun, Trial, runs};
use schemars::JsonSchema;
use serde::Serialize;

use crate::targets::Target;

/// The version of the format.
const FORMAT: u32 = 1;

/// What parm-load --json prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "parm-load")]
pub struct Report {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    format: u32,
    /// The model's name.
    model: String,
    /// Rows of one request.
    rows: u32,
    /// The seed of the first trial.
    seed: u64,
    /// The objective of latencies, in ms.
    slo_ms: Option<f64>,
    /// What each measurement must fulfil.
    expect: Option<String>,
    /// The conditions of the search, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    find: Option<String>,
    /// The rates that the search ended with, of each target.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Vec<Found>>,
    /// Each target at each rate.
    runs: Vec<Run>,
    /// How the report was made, and from what.
    made_by: MadeBy,
}

/// The result of a search.
#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    /// The target, if it has a name.
    name: Option<String>,
    /// The highest rate at which the conditions held.
    held: Option<f64>,
    /// The lowest rate at which they did not.
    missed: Option<f64>,
}

/// The trials of one target at one rate.
#[derive(Debug, Serialize, JsonSchema)]
struct Run {
    /// The target.
    url: Option<String>,
    /// What was measured.
    #[serde(flatten)]
    run: TargetRun,
}

impl Report {
    pub(crate) fn new(
        options: &Load,
        targets: &[Target],
        rows: &[Row<Trial>],
        searches: &[Search],
        made_by: MadeBy,
    ) -> Self {
        let run = |run: TargetRun| {
            let target = targets.iter().find(|target| target.name == run.run.name);
            Run { url: target.map(|target| target.url.clone()), run }
        };
        let found = |(target, search): (&Target, &Search)| Found {
            name: target.name.clone(),
            held: search.held(),
            missed: search.missed(),
        };
        Self {
            format: FORMAT,
            model: options.model.clone(),
            rows: options.rows,
            seed: options.seed,
            slo_ms: options.slo.map(|slo| slo * 1e3),
            expect: options.expect.clone(),
            find: options.find.clone(),
            found: options.find.is_some().then(|| targets.iter().zip(searches).map(found).collect()),
            runs: runs(rows).into_iter().map(run).collect(),
            made_by,
        }
    }
}
