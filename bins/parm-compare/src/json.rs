//! The JSON of a comparison; `--schema` describes it.

use std::path::PathBuf;

use parm::{MadeBy, Task};
use schemars::JsonSchema;
use serde::Serialize;

use crate::scheme::Training;

/// The version of the format.
pub(crate) const FORMAT: u32 = 2;

/// What parm-compare --json prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "parm-compare")]
pub struct Report {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    pub format: u32,
    /// What the predictions are.
    pub task: Task,
    /// What scores measure: accuracy, R2, cosine or IoU.
    pub measure: &'static str,
    /// What scores compare predictions with.
    pub against: Against,
    /// The probability of each worker to be lost, for A_all_at_rate.
    pub loss_rate: f64,
    /// The schemes: by k and extra workers, baselines first.
    pub rows: Vec<Row>,
    /// The deployed models: that of the options first, then those that were trained with a code.
    pub deployed: Vec<Model>,
    /// The last line of the table.
    pub recommendation: String,
    /// How the report was made, and from what.
    pub made_by: MadeBy,
}

/// A scheme, with k queries and a number of extra workers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// What the table calls it: no other row of this size has the same.
    pub code: String,
    /// The name of its code, or none or replicate.
    pub name: String,
    /// How a trained code came to be; null for others.
    pub training: Option<Training>,
    /// True if its decoder is a network.
    pub learned_decoder: bool,
    /// The directory of a trained code; null for others.
    pub directory: Option<PathBuf>,
    /// Queries of a group.
    pub k: usize,
    /// Workers of a group beyond one for each query.
    pub extra_workers: usize,
    /// Workers of a group that are lost.
    pub lost: usize,
    /// The score of its deployed model; null without a truth.
    pub deployed: Option<f64>,
    /// Its scores under the losses of all seeds together.
    #[serde(flatten)]
    pub scores: Scores,
    /// The lower end of the 95 % interval of A_all, by bootstrap over groups; null for a single group.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// The standard deviation (n - 1) of A_all over the seeds; null for one seed.
    pub deviation: Option<f64>,
    /// The scores under the losses of each seed.
    pub seeds: Vec<Seeded>,
    /// The mean time to decode a group, in microseconds; null for a learned decoder.
    pub decode_us: Option<f64>,
}

/// The scores of a scheme.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Scores {
    /// The score of predictions that arrived; null for a code that rebuilds all.
    #[serde(rename = "A_a")]
    pub available: Option<f64>,
    /// The score of reconstructions; null for a scheme that has none.
    #[serde(rename = "A_d")]
    pub degraded: Option<f64>,
    /// The score of all predictions, where what nothing could rebuild is guessed.
    #[serde(rename = "A_all")]
    pub all: Option<f64>,
    /// A_all, if each worker is lost with the probability loss_rate.
    #[serde(rename = "A_all_at_rate")]
    pub at_rate: Option<f64>,
    /// The share of reconstructions that agree with the deployed model's own predictions.
    pub agreement: Option<f64>,
}

/// What predictions are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The labels, values or boxes that are true.
    Truth,
    /// The deployed model's own predictions.
    Deployed,
}

/// The scores of a scheme under the losses of a seed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Seeded {
    /// The seed.
    pub seed: u64,
    /// The scores.
    #[serde(flatten)]
    pub scores: Scores,
}

/// A deployed model.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Model {
    /// Its file.
    pub model: PathBuf,
    /// Its score; null without a truth.
    pub score: Option<f64>,
}
