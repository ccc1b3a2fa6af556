//! `parm-plot`: results, to images.

mod image;

use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::input::Input;
use crate::options::Common;
use crate::value::{ValueError, duration, expected};
pub use image::{ImageFormat, ImageOptions, ImageSize, Rename, TermOption, ThemeOption};

/// Draw results: training curves, accuracy of codes and of joint training, latencies, accuracy against latency, and coding groups
///
/// Reads JSON and writes an SVG, PNG or PDF image, or draws on a terminal. Images are readable in black and white,
/// since series differ in markers and dashes as well as in colors.
#[derive(Parser, Clone, Debug)]
#[command(name = Plot::NAME, version, max_term_width = 100, subcommand_required = true)]
pub struct Plot {
    /// What to draw.
    #[command(subcommand)]
    pub chart: Chart,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Plot, "parm-plot");

/// What `parm-plot` draws.
#[derive(Subcommand, Clone, Debug)]
pub enum Chart {
    /// Training curves: the loss, and the accuracy, agreement and A_d on the validation rows, by epoch
    ///
    /// Reads the metrics.jsonl of parm-train, during the training or afterwards. The loss
    /// has a logarithmic scale if it spans more than a factor of ten.
    Curves(Curves),
    /// Scores, each beside its name, with their intervals
    ///
    /// Reads the report of parm-score, or the runs of parm-train sweep; see SCORES.
    Scores(Scores),
    /// Accuracy against the number of extra workers of a group, with a line for each code
    ///
    /// Reads the report of parm-compare; see COMPARISONS.
    Workers(Compared),
    /// Accuracy against k, with a line for each code
    ///
    /// Reads the report of parm-compare; see COMPARISONS.
    K(Compared),
    /// What is gained and lost by joint training: A_d against the accuracy of the deployed model
    ///
    /// Reads reports of parm-compare; see COMPARISONS. A line for each code and k connects its trainings, also
    /// those of several reports.
    Joint(Jointly),
    /// Latencies: the share of slower answers, to the end of the tail, with a line for each rate
    ///
    /// Reads the records of requests of parm-load and parm-sim, any number of them, in bounded memory. The
    /// shares have a logarithmic scale with the names of percentiles. Latencies have three significant digits.
    Latency(Latency),
    /// Latencies against load: median, P99 and P99.9, with a line for each server or policy
    ///
    /// Reads the reports that parm-load and parm-sim print with --json; see REPORTS. Of reports of parm-load --slo it draws
    /// the goodput as well.
    Load(Load),
    /// Overall accuracy against latency and cost: all policies, and a line through the best ones
    ///
    /// Reads the output of parm-sim advise --json; see ADVICE. For each number of instances, a line connects
    /// the policies for which no policy on at most as many instances is better in both accuracy and latency.
    Front(Front),
    /// The timeline of one coding group: its calls, their answers, and what was rebuilt
    ///
    /// Reads a journal of the serving core, see parm-formats(5). Each query of the group has a lane, from
    /// its arrival to its answer, and each instance that ran calls of the group has a lane with these calls.
    Timeline(Timeline),
}

/// `parm-plot latency`
#[derive(Args, Clone, Debug)]
pub struct Latency {
    /// The records of each measurement
    #[arg(value_name = "RECORDS.jsonl", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// Draw median, P99 and P99.9 over time, in slices of this length, as 10s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub slices: Option<f64>,

    #[command(flatten)]
    pub reference: ReferenceOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// `parm-plot load`
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// The reports
    #[arg(value_name = "REPORT.json", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// The latencies to draw
    #[arg(long, value_name = "LATENCY,…", value_delimiter = ',', default_value = "median,p99,p99.9")]
    pub latency: Vec<Measure>,

    /// Draw the slices of time of parm-load --slices over time, instead of latencies over rates
    #[arg(long)]
    pub slices: bool,

    #[command(flatten)]
    pub average: AverageOption,

    #[command(flatten)]
    pub reference: ReferenceOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// `parm-plot front`
#[derive(Args, Clone, Debug)]
pub struct Front {
    /// The advice, for one or several numbers of instances
    #[arg(value_name = "ADVICE.json", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// The latency to draw
    #[arg(long, value_name = "LATENCY", default_value = "p99.9")]
    pub latency: Measure,

    #[command(flatten)]
    pub reference: ReferenceOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// `parm-plot timeline`
#[derive(Args, Clone, Debug)]
pub struct Timeline {
    /// The journal
    #[arg(value_name = "JOURNAL.jsonl", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    /// The group to draw [default: the first one with a reconstruction, or the first]
    #[arg(long, value_name = "N")]
    pub group: Option<u64>,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// A number of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// The median
    Median,
    /// The mean
    Mean,
    /// The 99th percentile
    P99,
    /// The 99.5th percentile
    #[value(name = "p99.5")]
    P995,
    /// The 99.9th percentile
    #[value(name = "p99.9")]
    P999,
    /// The maximum
    Max,
    /// P99.9 minus the median
    Gap,
}

impl Measure {
    /// Its field in a report.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::Mean => "mean",
            Self::P99 => "p99",
            Self::P995 => "p99.5",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::Gap => "gap",
        }
    }
}

/// What several inputs are.
#[derive(Args, Clone, Copy, Debug)]
pub struct AverageOption {
    /// Draw the means of repetitions, such as seeds, with 95 % intervals: of all inputs, or of those in each folder
    ///
    /// A point is the mean over the inputs that have it; its bar is the interval of the mean by Student's t
    /// distribution, in place of the intervals of the inputs themselves.
    #[arg(long, value_name = "INPUTS")]
    pub average: Option<Average>,
}

/// Which inputs are repetitions of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Average {
    /// All of them
    All,
    /// Those in the same folder
    Folder,
}

/// A line to compare with.
#[derive(Args, Clone, Debug)]
pub struct ReferenceOption {
    /// Draw a horizontal line at this value of the vertical axis
    #[arg(long, value_name = "[NAME=]VALUE", allow_hyphen_values = true)]
    pub reference: Option<Reference>,
}

/// A height with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// What stands in the legend.
    pub name: String,
    /// The height.
    pub at: f64,
}

impl FromStr for Reference {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, at) = text.rsplit_once('=').unwrap_or((text, text));
        let at = at.parse().ok().filter(|at: &f64| at.is_finite());
        let at = at.ok_or_else(|| expected("[NAME=]VALUE: a number"))?;
        Ok(Self { name: name.to_owned(), at })
    }
}

/// `parm-plot curves`
#[derive(Args, Clone, Debug)]
pub struct Curves {
    /// The metrics of each training
    #[arg(value_name = "METRICS.jsonl", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    #[command(flatten)]
    pub average: AverageOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// `parm-plot scores`
#[derive(Args, Clone, Debug)]
pub struct Scores {
    /// The reports
    #[arg(value_name = "SCORE.json", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    #[command(flatten)]
    pub average: AverageOption,

    /// Draw the scores of this top n
    #[arg(long, value_name = "N", default_value = "1")]
    pub top: u32,

    #[command(flatten)]
    pub reference: ReferenceOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// `parm-plot workers` and `parm-plot k`
#[derive(Args, Clone, Debug)]
pub struct Compared {
    /// The reports
    #[arg(value_name = "COMPARE.json", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    #[command(flatten)]
    pub average: AverageOption,

    #[command(flatten)]
    pub selection: Selection,

    #[command(flatten)]
    pub reference: ReferenceOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// What is drawn of a comparison of codes.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// The score to draw
    #[arg(long, value_name = "SCORE", default_value = "A_all")]
    pub score: Score,

    /// Draw only these codes
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    pub codes: Vec<String>,

    /// Draw only these k
    #[arg(short, value_name = "K,…", value_delimiter = ',')]
    pub k: Vec<u32>,

    /// Draw only these numbers of lost workers
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub lost: Vec<u32>,
}

/// `parm-plot joint`
#[derive(Args, Clone, Debug)]
pub struct Jointly {
    /// The reports
    #[arg(value_name = "COMPARE.json", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// Draw only these k
    #[arg(short, value_name = "K,…", value_delimiter = ',')]
    pub k: Vec<u32>,

    #[command(flatten)]
    pub reference: ReferenceOption,

    #[command(flatten)]
    pub image: ImageOptions,
}

/// A score of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Score {
    /// Accuracy over all queries of a group
    #[default]
    #[value(name = "A_all")]
    All,
    /// Accuracy of reconstructions
    #[value(name = "A_d")]
    Degraded,
    /// Accuracy of available predictions
    #[value(name = "A_a")]
    Available,
    /// Share of reconstructions with the top-1 class of the deployed model
    #[value(name = "agreement")]
    Agreement,
}

impl Score {
    /// The word for it, which is its field in a report as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "A_all",
            Self::Degraded => "A_d",
            Self::Available => "A_a",
            Self::Agreement => "agreement",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_may_have_names() {
        let named = |name: &str, at| Ok(Reference { name: name.to_owned(), at });
        assert_eq!("target=60".parse(), named("target", 60.0));
        assert_eq!("a=b=-0.5".parse(), named("a=b", -0.5));
        assert_eq!("1e-3".parse(), named("1e-3", 0.001));
        for text in ["", "target", "target=", "=", "60=target", "nan", "x=inf"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn measures_have_one_name() {
        for measure in Measure::value_variants() {
            assert_eq!(measure.to_possible_value().unwrap().get_name(), measure.field());
        }
    }

    #[test]
    fn scores_have_one_name() {
        for score in Score::value_variants() {
            assert_eq!(score.to_possible_value().unwrap().get_name(), score.name());
        }
    }
}
