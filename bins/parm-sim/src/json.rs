//! The JSON of reports; `--schema` describes it.

use parm::MadeBy;
use parm_simulation::{Check, ModelRun};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// The version of the format.
pub(crate) const FORMAT: u32 = 1;

/// What parm-sim --json prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "parm-sim")]
pub struct Simulation {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    pub(crate) format: u32,
    /// The file of the cluster.
    pub(crate) cluster: String,
    /// The first seed.
    pub(crate) seed: u64,
    /// Each model or variant at each rate.
    pub(crate) runs: Vec<ModelRun>,
    /// How the report was made, and from what.
    pub(crate) made_by: MadeBy,
}

/// What parm-sim check --json prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "parm-sim check")]
pub struct Prediction {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    pub(crate) format: u32,
    /// The recorded run beside its simulations.
    #[serde(flatten)]
    pub(crate) check: Check,
    /// How the report was made, and from what.
    pub(crate) made_by: MadeBy,
}

/// What parm-sim advise --json prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "parm-sim advise")]
pub struct Advice {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    pub(crate) format: u32,
    /// The policies that were simulated; with --target, those with the number of instances that was found.
    pub(crate) candidates: Vec<Entry>,
    /// The name of the best one.
    pub(crate) chosen: String,
    /// Why it is the best.
    pub(crate) why: String,
    /// Its fields of a model in parm-serve.json: redundancy, answer, placement, ejection and instances.
    pub(crate) policy: Map<String, Value>,
    /// What the search for the fewest instances found, with --target.
    #[serde(flatten)]
    pub(crate) fewest: Option<Fewest>,
    /// How the report was made, and from what.
    pub(crate) made_by: MadeBy,
}

/// A policy, with medians over the seeds.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// The number of instances.
    pub(crate) instances: usize,
    /// The median of latencies, in ms; null without answers.
    pub(crate) median_ms: Option<f64>,
    /// Their P99.
    pub(crate) p99_ms: Option<f64>,
    /// Their P99.9.
    #[serde(rename = "p99.9_ms")]
    pub(crate) p999_ms: Option<f64>,
    /// The share of answers that were rebuilt.
    pub(crate) reconstructed: f64,
    /// The share of queries that failed or got a default answer.
    pub(crate) lost: f64,
    /// The overall accuracy.
    #[serde(rename = "A_o")]
    pub(crate) accuracy: f64,
}

/// The fewest instances with which a target holds.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Fewest {
    /// The conditions.
    pub(crate) target: String,
    /// The fewest instances; null if it does not hold with the most.
    pub(crate) instances: Option<usize>,
    /// The policies with which it holds then.
    pub(crate) held: Vec<String>,
    /// Choices of a policy and a number of instances that were simulated.
    pub(crate) simulated: usize,
    /// All choices.
    pub(crate) choices: usize,
    /// With --exhaustive, how many instances fewer the best choice of all has.
    pub(crate) regret: Option<usize>,
}
