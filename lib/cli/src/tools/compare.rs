//! `parm-compare`: every code on one's own model and data, in one table.

use std::path::PathBuf;

use clap::Parser;

use parm::codes::{CodeName, LAMBDA_D, LAMBDA_E};

use crate::input::Input;
use crate::options::{
    Common, Compute, ModelOptions, PointsOption, ReadOptions, SchemaOption, TaskOption, code_name,
};
use crate::value::fraction;

/// Compare codes on your own model and data
///
/// Runs the deployed model once on the data and on the coded queries of every code, loses workers at
/// random, decodes, and prints one table: every code, k and number of lost workers, beside two
/// baselines with the same number of workers. The last line recommends a code, or not to code.
#[derive(Parser, Clone, Debug)]
#[command(name = Compare::NAME, version, max_term_width = 100)]
pub struct Compare {
    /// The deployed model, of any kind: see parm-models(7)
    #[arg(short, long, value_name = "MODEL")]
    pub model: PathBuf,

    #[command(flatten)]
    pub model_options: ModelOptions,

    /// The queries
    #[arg(long, value_name = "DATA.npy")]
    pub data: Input,

    /// Their labels [N], integers from 0
    ///
    /// Without them, classes are compared with those of the deployed model: A_d is then the agreement.
    #[arg(long, value_name = "LABELS.npy")]
    pub labels: Option<Input>,

    /// Their true values [N] or [N, d]; predictions are values
    ///
    /// Without them, values are compared with those of the deployed model.
    #[arg(long, value_name = "VALUES.npy", conflicts_with = "labels")]
    pub values: Option<Input>,

    /// Their true boxes [N, 4], corner, width and height; predictions are boxes
    ///
    /// Without them, boxes are compared with those of the deployed model.
    #[arg(long, value_name = "BOXES.npy", conflicts_with_all = ["labels", "values"])]
    pub boxes: Option<Input>,

    #[command(flatten)]
    pub task: TaskOption,

    /// The codes to compare that run on the deployed model
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "berrut,floater-hormann,spline",
        value_parser = code_name(CodeName::ALL.into_iter().filter(|name| name.interpolates())),
        help_heading = "Codes"
    )]
    pub codes: Vec<CodeName>,

    /// The directory of a trained code to compare as well; may be repeated
    ///
    /// It is compared at its own k, with r extra workers for its r parities.
    #[arg(long, value_name = "DIR", help_heading = "Codes")]
    pub code_dir: Vec<PathBuf>,

    /// Queries of a coding group; the table has a part for each k
    #[arg(
        short,
        value_name = "K,…",
        value_delimiter = ',',
        default_value = "2,4,8",
        value_parser = clap::value_parser!(u32).range(1..=256),
        help_heading = "Codes"
    )]
    pub k: Vec<u32>,

    /// Lost workers of a group, which is also the number of extra workers
    #[arg(
        long,
        value_name = "L,…",
        value_delimiter = ',',
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=256),
        help_heading = "Codes"
    )]
    pub lost: Vec<u32>,

    /// The points of the workers of interpolating codes
    #[arg(long, value_name = "WHERE", default_value = "approxifer", help_heading = "Codes")]
    pub points: PointsOption,

    /// The blending degree of floater-hormann
    #[arg(long, value_name = "D", default_value = "1", help_heading = "Codes")]
    pub degree: usize,

    /// The smoothness of spline's encoder
    #[arg(long, value_name = "X", default_value_t = LAMBDA_E, help_heading = "Codes")]
    pub lambda_e: f64,

    /// The smoothness of spline's decoder
    #[arg(long, value_name = "X", default_value_t = LAMBDA_D, help_heading = "Codes")]
    pub lambda_d: f64,

    /// The probability P that a worker is lost, for the column A_all(P)
    ///
    /// In that column any number of workers is lost, also more than the extra ones. In the other columns as
    /// many are lost as there are extra ones.
    #[arg(long, value_name = "P", default_value = "0.05", value_parser = fraction)]
    pub loss_rate: f64,

    /// Random losses for each group
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..))]
    pub draws: u32,

    /// The seeds of losses; the first is also that of the bootstrap
    ///
    /// With several, the scores are those under the losses of all, and the table has the standard deviation of A_all
    /// over them.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    pub seed: Vec<u64>,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub schema: SchemaOption,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Compare, "parm-compare");
