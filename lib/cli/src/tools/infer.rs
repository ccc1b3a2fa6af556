//! `parm-infer`: tensors to a model's outputs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use super::load::EncodingOption;
use crate::input::Input;
use crate::options::{
    Common, Compute, FlushOption, ModelOptions, PartOptions, ReadOptions, ShardOption, TailOption,
    TimingsOption, TuningOptions, WriteOptions,
};
use crate::output::Target;
use crate::value::{header, milliseconds};

/// Run a model on a stream of tensors
///
/// Reads a stream of queries, one in each row, and writes one output row for each, in the order of the
/// input. Reading, computing and writing overlap.
#[derive(Parser, Clone, Debug)]
#[command(name = Infer::NAME, version, max_term_width = 100)]
pub struct Infer {
    /// The model: safetensors of parm-train, a state dict, an exported program (.pt2) or TorchScript of PyTorch
    #[arg(short, long, value_name = "MODEL", required_unless_present = "url")]
    pub model: Option<PathBuf>,

    /// Describe the model instead: its kind, inputs, outputs and parameters, and whether it can be trained
    #[arg(long, requires = "model", conflicts_with_all = ["url", "code", "output"])]
    pub describe: bool,

    #[command(flatten)]
    pub model_options: ModelOptions,

    #[command(flatten)]
    pub part: PartOptions,

    /// A server in place of a model file: http://HOST:PORT, https://…, grpc://… or grpcs://…
    ///
    /// Any server of the Open Inference Protocol (KServe v2). The model must have one input. If the server does
    /// not list the inputs, the rows are sent unchanged, under the name --input-name.
    #[arg(
        long,
        value_name = "URL",
        requires = "model_name",
        conflicts_with_all = ["model", "code", "device", "threads", "tf32", "optimize", "precision", "timings", "activation", "query_input", "constants", "from", "to"],
        help_heading = "Server"
    )]
    pub url: Option<String>,

    /// The name of the server's model
    #[arg(long, value_name = "NAME", requires = "url", help_heading = "Server")]
    pub model_name: Option<String>,

    /// The model's version; by default the server chooses
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "",
        hide_default_value = true,
        requires = "url",
        help_heading = "Server"
    )]
    pub model_version: String,

    /// The name of the input, if the server does not list the inputs
    #[arg(long, value_name = "NAME", default_value = "input-0", requires = "url", help_heading = "Server")]
    pub input_name: String,

    /// The encoding of tensors
    #[arg(long, value_name = "ENCODING", default_value = "auto", requires = "url", help_heading = "Server")]
    pub encoding: EncodingOption,

    /// Requests at the same time, each with one batch
    #[arg(
        long,
        value_name = "N",
        default_value = "4",
        value_parser = clap::value_parser!(u32).range(1..=1000),
        requires = "url",
        help_heading = "Server"
    )]
    pub concurrency: u32,

    /// The timeout of an answer, in ms
    #[arg(
        long,
        value_name = "MS",
        default_value = "10000",
        value_parser = milliseconds,
        requires = "url",
        help_heading = "Server"
    )]
    pub timeout: f64,

    /// A header for each request; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, requires = "url", help_heading = "Server")]
    pub header: Vec<(String, String)>,

    /// The certificates to trust; by default those of the public authorities
    #[arg(long, value_name = "FILE.pem", requires = "url", help_heading = "Server")]
    pub ca: Option<PathBuf>,

    /// The directory of a trained code: encode, and run its parity models in the same pass
    ///
    /// The queries are read once, copied to the device once, and encoded there. The model must be
    /// the one that the code was trained for.
    #[arg(
        long,
        value_name = "DIR",
        requires = "parity_out",
        conflicts_with_all = ["from", "to"],
        help_heading = "Code"
    )]
    pub code: Option<PathBuf>,

    /// Where to write the outputs of the parity models; {} stands for the index of the parity
    #[arg(long, value_name = "FILE", requires = "code", help_heading = "Code")]
    pub parity_out: Option<Target>,

    /// What to do with the last rows if k does not divide the number of rows
    #[arg(long, value_name = "HOW", default_value = "error", requires = "code", help_heading = "Code")]
    pub tail: TailOption,

    /// Rows that the model computes at a time; with --url, rows of a request
    ///
    /// A model of a server that takes one row at a time gets one row.
    #[arg(
        long,
        value_name = "N",
        default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Computing"
    )]
    pub batch: u32,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub tuning: TuningOptions,

    #[command(flatten)]
    pub timings: TimingsOption,

    /// The queries
    #[arg(value_name = "QUERIES.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub shard: ShardOption,

    #[command(flatten)]
    pub flush: FlushOption,

    /// Rows that a shard must not separate; by default the k of --code, or 1
    #[arg(long, value_name = "K", requires = "shard", conflicts_with = "code", help_heading = "Streams")]
    pub group: Option<NonZeroUsize>,

    #[command(flatten)]
    pub write: WriteOptions,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Infer, "parm-infer");

impl Infer {
    /// Rows that a shard holds together, where no code says it.
    #[must_use]
    pub fn rows_together(&self) -> usize {
        self.group.map_or(1, NonZeroUsize::get)
    }
}
