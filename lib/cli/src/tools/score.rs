//! `parm-score`: predictions and the truth, to scores.

use clap::Parser;
use parm::task::TOLERANCE;

use crate::input::Input;
use crate::options::{Common, ReadOptions, SchemaOption, TaskOption};
use crate::output::Target;
use crate::value::{fraction, positive};

/// Score predictions and reconstructions
///
/// Prints A_a, the accuracy of available predictions; A_d, that of reconstructions; A_o, the overall
/// accuracy (1-f)A_a + f A_d at the unavailable fraction f; A_all, that of all predictions as they are;
/// and the agreement, the share of reconstructions whose top-1 class is that of the deployed model. Each has
/// a 95 % interval, by bootstrap over coding groups. Values are scored by R2 and their errors, embeddings by their
/// cosine and their neighbours, boxes by their intersection over union.
#[derive(Parser, Clone, Debug)]
#[command(name = Score::NAME, version, max_term_width = 100)]
pub struct Score {
    /// The true labels [N], integers
    #[arg(long, value_name = "LABELS.npy", required_unless_present_any = ["reference", "boxes", "values", "aggregate"])]
    pub labels: Option<Input>,

    /// The true boxes [N, 4], corner, width and height; predictions are boxes and are scored by their IoU
    #[arg(long, value_name = "BOXES.npy", conflicts_with_all = ["labels", "values", "confidence"])]
    pub boxes: Option<Input>,

    /// The true values [N] or [N, d]; predictions are values and are scored by R2 and their errors
    #[arg(long, value_name = "VALUES.npy", conflicts_with_all = ["labels", "confidence"])]
    pub values: Option<Input>,

    #[command(flatten)]
    pub task: TaskOption,

    /// Values agree within T standard deviations of the deployed model's predictions
    ///
    /// The distance of two predictions is Euclidean, and the deviation is that of all their values together. With
    /// 0.2, values that are all wrong by as much have an R2 of 0.96, and a guess of the mean agrees with 16 % of
    /// values that are normally distributed.
    #[arg(long, value_name = "T", default_value_t = TOLERANCE, value_parser = positive)]
    pub tolerance: f64,

    /// A mask [N] of the predictions that were available; by default all
    ///
    /// All others count as reconstructions, whatever they contain.
    #[arg(long, value_name = "MASK.npy")]
    pub available: Option<Input>,

    /// The deployed model's predictions of all rows, to compare reconstructions with
    #[arg(long, value_name = "PREDICTIONS.npy", requires = "available")]
    pub reference: Option<Input>,

    /// A mask [N] from parm-decode: false if a prediction could not be rebuilt
    ///
    /// Such rows are counted separately: they are not part of A_d, and count as wrong in A_o.
    #[arg(long, value_name = "MASK.npy", requires = "available")]
    pub solved: Option<Input>,

    /// The unavailable fraction f of A_o
    #[arg(short = 'f', long, value_name = "F", default_value = "0.1", value_parser = fraction)]
    pub unavailable_fraction: f64,

    /// Count an answer as right if the label is among the top n, for each n
    ///
    /// Values of n above the number of classes are left out.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,5,10,20")]
    pub top: Vec<u32>,

    /// The number of copies of the labelled rows in the predictions and masks
    ///
    /// 'parm-decode --erase each' writes k copies.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub copies: u32,

    /// Queries of a coding group
    ///
    /// The errors of a group's rows are correlated, so intervals need it. It also adds A_all for
    /// each number of lost predictions in a group, and the baselines.
    #[arg(short, value_name = "K", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,

    /// Spare workers of a group for the baseline 'replicate', dealt round-robin over its queries
    #[arg(short, value_name = "R", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub r: u32,

    /// The seed of the bootstrap
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// Confidences [N] from parm-decode, for AUROC: how well they separate right from wrong
    ///
    /// Reconstructions are counted; without --available, all rows.
    #[arg(long, value_name = "CONFIDENCE.npy", requires = "labels")]
    pub confidence: Option<Input>,

    /// Write the calibration of the confidences: the share of right answers at each confidence
    ///
    /// 'parm-decode --calibration' reads it.
    #[arg(long, value_name = "FILE.json", requires = "confidence")]
    pub calibrate: Option<Target>,

    /// Print the mean of each score of these reports, with its standard deviation and 95 % interval
    ///
    /// They are JSON of parm-score, parm-compare or parm-train sweep, one for each seed. No predictions are read.
    #[arg(
        long,
        value_name = "REPORT.json",
        num_args = 1..,
        conflicts_with_all = ["boxes", "values", "labels", "available", "reference", "confidence", "input"],
        help_heading = "Reports over seeds"
    )]
    pub aggregate: Vec<Input>,

    /// Compare with these reports, by a paired t test
    ///
    /// As many as those of --aggregate, and in the same order: the first with the first, and so on.
    #[arg(
        long,
        value_name = "REPORT.json",
        num_args = 1..,
        requires = "aggregate",
        // Else it would not be required beside what it conflicts with.
        conflicts_with_all = ["boxes", "values", "labels", "available", "reference", "confidence", "input"],
        help_heading = "Reports over seeds"
    )]
    pub versus: Vec<Input>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub schema: SchemaOption,

    /// The predictions and reconstructions
    #[arg(value_name = "PREDICTIONS.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Score, "parm-score");

impl Score {
    /// All streams that are read.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        let truth = self.labels.iter().chain(&self.boxes).chain(&self.values).chain(&self.reference);
        let predictions = self.aggregate.is_empty().then_some(&self.input);
        predictions
            .into_iter()
            .chain(truth)
            .chain(&self.available)
            .chain(&self.solved)
            .chain(&self.confidence)
            .chain(&self.aggregate)
            .chain(&self.versus)
    }
}
