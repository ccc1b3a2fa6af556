//! `parm-infer`: tensors to a model's outputs.

use std::path::PathBuf;

use clap::Parser;

use crate::input::Input;
use crate::options::{Common, Compute, ReadOptions, TailOption, WriteOptions};
use crate::output::Target;

/// Run a model on a stream of tensors
///
/// Reads a stream of queries, one a row, and writes one output row for each, in the order of the
/// input. Reading, computing and writing overlap.
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-infer", version, max_term_width = 100)]
pub struct Infer {
    /// The model: safetensors that parm-train wrote, or TorchScript
    #[arg(short, long, value_name = "MODEL")]
    pub model: PathBuf,

    /// The directory of a trained code: encode and run its parity models in the same pass
    ///
    /// The queries are read once and go to the device once; there they are encoded. The model must be
    /// the one that the code was trained for.
    #[arg(long, value_name = "DIR", requires = "parity_out", help_heading = "Code")]
    pub code: Option<PathBuf>,

    /// Where to write the outputs of the parity models, {} standing for the index of the parity
    #[arg(long, value_name = "FILE", requires = "code", help_heading = "Code")]
    pub parity_out: Option<Target>,

    /// What to do with the last rows if k does not divide their number
    #[arg(long, value_name = "HOW", default_value = "error", requires = "code", help_heading = "Code")]
    pub tail: TailOption,

    /// Rows that the model computes at a time
    #[arg(
        long,
        value_name = "N",
        default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Computing"
    )]
    pub batch: u32,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,

    /// The queries
    #[arg(value_name = "QUERIES.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub write: WriteOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Infer, "parm-infer");
