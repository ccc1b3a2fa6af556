//! `parm-encode`: queries to parity queries.

use clap::Parser;

use crate::input::Input;
use crate::options::{
    CodeOptions, Common, CompressOptions, Compute, CurveOptions, FlushOption, ReadOptions, ShardOption,
    TailOption,
};
use crate::output::Target;

/// Encode queries into parity queries, or coded queries
///
/// Reads a stream of queries, one in each row, and writes one parity query for each group of k:
/// with the code 'sum' a weighted sum of the group. The interpolating codes write one stream of n
/// coded queries for each group, in the order of the workers. Integers and halves become f4; f8 stays f8.
/// A learned encoder runs on f4 in parm-infer, which must be in the same directory as this program.
#[derive(Parser, Clone, Debug)]
#[command(name = Encode::NAME, version, max_term_width = 100)]
pub struct Encode {
    #[command(flatten)]
    pub code: CodeOptions,

    #[command(flatten)]
    pub curve: CurveOptions,

    /// What to do with the last rows if k does not divide the number of rows
    #[arg(long, value_name = "HOW", default_value = "error", help_heading = "Code")]
    pub tail: TailOption,

    /// Write only the parity queries with this index, 0 to r-1
    #[arg(long, value_name = "J", help_heading = "Code")]
    pub parity_index: Option<usize>,

    /// The queries
    #[arg(value_name = "QUERIES.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    /// Where to write the parity queries, or the coded queries
    ///
    /// With r > 1, a name with {} makes one file for each parity; {} stands for its index.
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Streams")]
    pub output: Target,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub shard: ShardOption,

    #[command(flatten)]
    pub flush: FlushOption,

    #[command(flatten)]
    pub compress: CompressOptions,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Encode, "parm-encode");
