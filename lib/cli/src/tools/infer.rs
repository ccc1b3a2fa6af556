//! `parm-infer`: tensors to a model's outputs.

use std::path::PathBuf;

use clap::Parser;

use crate::input::Input;
use crate::options::{Common, Compute, ReadOptions, WriteOptions};

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
