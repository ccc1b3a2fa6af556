//! The JSON of a report, which is the same for all tasks; `--schema` describes it.

use parm::score::Interval;
use parm::{MadeBy, Task};
use schemars::JsonSchema;
use serde::Serialize;

use crate::aggregate::Aggregate;

/// The version of the format.
pub(crate) const FORMAT: u32 = 2;

/// What parm-score --json prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "parm-score")]
#[serde(untagged)]
pub enum Json {
    /// The scores of predictions.
    Scores(Report),
    /// Scores over several reports, by --aggregate.
    Aggregate(Aggregate),
}

/// The scores of predictions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report {
    /// The version of this format.
    #[schemars(extend("const" = FORMAT))]
    pub format: u32,
    /// What the predictions are.
    pub task: Task,
    /// Predictions that were scored.
    pub rows: usize,
    /// Those that were available.
    pub available: u64,
    /// Those that were not, and were rebuilt.
    pub reconstructed: u64,
    /// Those that could not be rebuilt.
    pub unsolved: u64,
    /// Queries of a coding group.
    pub k: usize,
    /// Extra workers of a group, for the baseline 'replicate'.
    pub extra_workers: usize,
    /// The unavailable fraction of A_o.
    pub f: f64,
    /// How well the confidences separate right from wrong; null without confidences.
    pub auroc: Option<f64>,
    /// All scores.
    pub scores: Vec<Entry>,
    /// How the report was made, and from what.
    pub made_by: MadeBy,
}

/// A score.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Entry {
    /// Its name. Of classes: A_a, A_d, A_o, A_all and agreement. Of values: r2, mae, mse and agreement. Of embeddings:
    /// cosine, agreement, recall_10, label_recall_10 and label_share_10. Of boxes: mean_iou, iou_50 and iou_75.
    pub score: &'static str,
    /// What it is about.
    #[serde(flatten)]
    pub about: About,
    /// Of classes, the n of a top-n accuracy; null for other scores.
    pub top: Option<usize>,
    /// The score; null if it is about no rows.
    pub value: Option<f64>,
    /// The lower end of its 95 % interval, by bootstrap over coding groups; null if it has none.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// The number of rows that it is about; null for A_o, which is a weighted mean.
    pub rows: Option<u64>,
}

impl Entry {
    /// A score that is no top-n accuracy.
    pub(crate) fn new(
        score: &'static str,
        about: About,
        value: Option<f64>,
        interval: Option<Interval>,
        rows: Option<u64>,
    ) -> Self {
        let (low, high) = (interval.map(|interval| interval.low), interval.map(|interval| interval.high));
        Self { score, about, top: None, value, low, high, rows }
    }

    /// The same for the top n.
    pub(crate) fn at(self, top: Option<usize>) -> Self {
        Self { top, ..self }
    }
}

/// What a score is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct About {
    /// Which predictions are scored.
    pub of: Of,
    /// What they are compared with.
    pub against: Against,
    /// Only groups that lost so many predictions are counted; null: all groups.
    pub lost: Option<usize>,
    /// What has the place of the code, under the same losses; null: the predictions as they are.
    pub baseline: Option<Baseline>,
}

impl About {
    pub(crate) fn new(of: Of, against: Against) -> Self {
        Self { of, against, lost: None, baseline: None }
    }
}

/// Predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Those that were available.
    Available,
    /// Those that were rebuilt.
    Reconstructed,
    /// All.
    All,
}

impl Of {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Reconstructed => "reconstructed",
            Self::All => "all",
        }
    }
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

impl Against {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Truth => "truth",
            Self::Deployed => "deployed",
        }
    }
}

/// A trivial scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// Lost predictions are guessed.
    None,
    /// Extra workers answer the first queries of a group a second time.
    Replicate,
}

impl Baseline {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Replicate => "replicate",
        }
    }
}

/// The line to print.
pub(crate) fn text(report: &impl Serialize) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string(report)?))
}
