//! `parm-decode`: predictions, parity outputs and what is missing, to predictions.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

use parm::codes::Locate;
use parm::corrupt::Corrupt;

use crate::input::Input;
use crate::options::{
    CodeOptions, Common, Compute, CurveOptions, FlushOption, ReadOptions, ShardOption, TailOption,
    TaskOption, WriteOptions,
};
use crate::output::Target;
use crate::value::{ValueError, expected};

/// Rebuild the predictions that are missing
///
/// Reads a stream of predictions, a mask of those that are available, and the outputs of
/// the parity models; writes all predictions, with reconstructions in place of the missing
/// ones. With an interpolating code it reads the n answers of each group, in the order of the workers,
/// and writes the k predictions of the group, all of them rebuilt. The float type is kept.
/// A learned decoder runs on f4 in parm-infer, which must be in the same directory as this program.
#[derive(Parser, Clone, Debug)]
#[command(name = Decode::NAME, version, max_term_width = 100)]
pub struct Decode {
    #[command(flatten)]
    pub code: CodeOptions,

    #[command(flatten)]
    pub curve: CurveOptions,

    /// The number of queries that were encoded, to leave out the repeats of --tail pad
    ///
    /// The answers do not show it: without this option all k predictions of the last group are written.
    #[arg(long, value_name = "N", help_heading = "Interpolating codes")]
    pub rows: Option<u64>,

    /// Leave groups with fewer than n - S answers unsolved
    ///
    /// Without it, a single answer rebuilds its group, more or less accurately.
    #[arg(long, help_heading = "Interpolating codes")]
    pub strict: bool,

    /// Find up to E (--byzantine) wrong answers in each group, and leave them out
    #[arg(long, value_name = "HOW", requires = "byzantine", help_heading = "Wrong answers")]
    pub locate: Option<LocateOption>,

    /// How many times the error must shrink before an answer is left out
    ///
    /// The error of a group is that with which curves through all answers but one predict the remaining one. An
    /// answer is left out if the error shrinks X times more without it than without the median answer. Leaving
    /// out answers costs accuracy, and small errors do less harm. 0 leaves out E answers of every group.
    #[arg(
        long,
        value_name = "X",
        default_value = "1.3",
        requires = "locate",
        help_heading = "Wrong answers"
    )]
    pub threshold: f64,

    /// Write a mask [groups x n]: false if an answer was missing or was found to be wrong
    #[arg(long, value_name = "FILE", requires = "locate", help_heading = "Wrong answers")]
    pub kept: Option<Target>,

    /// What to do with the last rows if k does not divide the number of rows
    #[arg(long, value_name = "HOW", default_value = "error", help_heading = "Code")]
    pub tail: TailOption,

    /// The outputs of a parity model, one row for each group; repeated in the order of the parities
    #[arg(long, value_name = "P.npy", help_heading = "Code")]
    pub parity: Vec<Input>,

    /// A mask [N] of the predictions, or answers, that are available
    #[arg(
        long,
        value_name = "MASK.npy",
        required_unless_present_any = ["erase", "corrupt"],
        conflicts_with = "erase",
        help_heading = "Losses"
    )]
    pub available: Option<Input>,

    /// A mask [groups] of the outputs of a parity model that are available; repeated like --parity
    #[arg(long, value_name = "MASK.npy", help_heading = "Losses")]
    pub parity_available: Vec<Input>,

    /// What to write for a prediction that cannot be rebuilt: keep, zero, uniform or a file [default:
    /// keep; with --erase: uniform]
    ///
    /// 'keep' writes the input row, 'zero' zeros, 'uniform' the score 1/C for each of C classes, and a file
    /// contains the row to write. With --erase the input row is the true prediction, and scores would count it
    /// as rebuilt. With an interpolating code there is no input row for a prediction: 'keep' then writes zeros.
    #[arg(long, value_name = "WHAT", help_heading = "Losses")]
    pub default: Option<DefaultPrediction>,

    /// Write a mask [N]: false if a prediction is missing and could not be rebuilt
    #[arg(long, value_name = "FILE", help_heading = "Losses")]
    pub solved: Option<Target>,

    /// Write the confidence of each prediction: f4 [N], from 0 to 1
    ///
    /// 1 for available predictions; m/(m + a) for reconstructions, with the margin m between
    /// their two largest scores (logits) and the amplification a of errors by the reconstruction (1 for a
    /// learned decoder); 0 for predictions that could not be rebuilt. Values, embeddings and boxes have no margin:
    /// theirs is 1/(1 + a).
    #[arg(long, value_name = "FILE", help_heading = "Losses")]
    pub confidence: Option<Target>,

    #[command(flatten)]
    pub task: TaskOption,

    /// A calibration from parm-score: confidences become probabilities of being right
    ///
    /// Available predictions keep 1, and those that could not be rebuilt 0.
    #[arg(long, value_name = "FILE.json", requires = "confidence", help_heading = "Losses")]
    pub calibration: Option<PathBuf>,

    /// End with exit code 0 even if some predictions could not be rebuilt
    #[arg(long, help_heading = "Losses")]
    pub allow_unsolved: bool,

    /// For experiments, lose predictions at random: one, each or p=P
    ///
    /// 'one' loses one prediction of every group; 'each' writes k copies of the stream, and copy i loses slot i
    /// of every group; 'p=0.1' loses each prediction with the probability 0.1. With an interpolating code,
    /// answers of the n workers are lost, and 'each' makes n copies.
    #[arg(long, value_name = "WHAT", help_heading = "Experiments")]
    pub erase: Option<EraseOption>,

    /// For experiments, make E (--byzantine) answers of every group wrong: noise=SIGMA, flip or stale
    ///
    /// 'noise=10' adds N(0, 10^2) to each number of an answer; 'flip' changes the signs; 'stale' repeats the
    /// worker's answer of the previous group. The answers are chosen among the available ones. With -v, the
    /// number that --locate found is printed.
    #[arg(long, value_name = "HOW", requires = "byzantine", help_heading = "Experiments")]
    pub corrupt: Option<CorruptOption>,

    /// The seed of random losses and wrong answers
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Experiments")]
    pub seed: u64,

    /// Write the mask of the random losses
    #[arg(long, value_name = "FILE", requires = "erase", help_heading = "Experiments")]
    pub erased_out: Option<Target>,

    /// The predictions, or the answers; missing rows may have any content
    #[arg(value_name = "PREDICTIONS.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub shard: ShardOption,

    #[command(flatten)]
    pub flush: FlushOption,

    #[command(flatten)]
    pub write: WriteOptions,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Decode, "parm-decode");

impl Decode {
    /// All streams that are read.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        let masks = self.available.iter().chain(&self.parity_available);
        std::iter::once(&self.input).chain(masks).chain(&self.parity)
    }
}

/// What stands for a prediction that nothing can rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultPrediction {
    /// The row as it came in.
    Keep,
    /// Zeros.
    Zero,
    /// The same score for each class.
    Uniform,
    /// The row in this file.
    File(PathBuf),
}

impl FromStr for DefaultPrediction {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "keep" => Self::Keep,
            "zero" => Self::Zero,
            "uniform" => Self::Uniform,
            path => Self::File(path.into()),
        })
    }
}

/// How losses are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EraseOption {
    /// One prediction of every group.
    One,
    /// Each slot in turn, in k copies of the stream.
    Each,
    /// Each prediction with this probability.
    Probability(f64),
}

impl FromStr for EraseOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "one" => Ok(Self::One),
            "each" => Ok(Self::Each),
            _ => text
                .strip_prefix("p=")
                .and_then(|p| p.parse().ok())
                .filter(|p| (0.0..=1.0).contains(p))
                .map(Self::Probability)
                .ok_or_else(|| expected("one, each or p=P with P from 0 to 1")),
        }
    }
}

/// How answers are made wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CorruptOption(pub Corrupt);

impl FromStr for CorruptOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "flip" => Ok(Self(Corrupt::Flip)),
            "stale" => Ok(Self(Corrupt::Stale)),
            _ => text
                .strip_prefix("noise=")
                .and_then(|sigma| sigma.parse().ok())
                .filter(|sigma: &f64| sigma.is_finite() && *sigma >= 0.0)
                .map(|sigma| Self(Corrupt::Noise(sigma)))
                .ok_or_else(|| expected("flip, stale or noise=SIGMA with SIGMA from 0")),
        }
    }
}

/// How wrong answers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LocateOption {
    /// By the vote of all classes, as in ApproxIFER
    Vote,
    /// By how well the other answers predict each other without it
    Residual,
    /// By both
    Both,
}

impl From<LocateOption> for Locate {
    fn from(locate: LocateOption) -> Self {
        match locate {
            LocateOption::Vote => Self::Vote,
            LocateOption::Residual => Self::Residual,
            LocateOption::Both => Self::Both,
        }
    }
}
