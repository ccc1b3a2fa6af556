//! `parm-encode`: queries to parity queries.

use clap::Parser;

use crate::input::Input;
use crate::options::{
    CodeOptions, Common, CompressOptions, Compute, CurveOptions, ReadOptions, ShardOption, TailOption,
};
use crate::output::Target;

/// Encode queries into parity queries, or coded queries
///
/// Reads a stream of queries, one a row, takes them k at a time and writes one parity query per
/// group: for the code 'sum' a weighted sum of the group. The interpolating codes write one stream of n
/// coded queries per group, in the order of their workers. Integers and halves become f4; f8 stays f8.
/// A learned encoder runs in parm-infer, which must lie beside this program, and on f4.
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-encode", version, max_term_width = 100)]
pub struct Encode {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub code: CodeOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub curve: CurveOptions,

    /// What to do with the last rows if k does not divide their number
    #[arg(long, value_name = "HOW", default_value = "error", help_heading = "Code")]
    pub tail: TailOption,

    /// Write only the parity queries of this index, 0 to r-1
    #[arg(long, value_name = "J", help_heading = "Code")]
    pub parity_index: Option<usize>,

    /// The queries
    #[arg(value_name = "QUERIES.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    /// Where to write the parity queries, or the coded queries
    ///
    /// With r > 1, a name with {} in it makes one file per parity, {} standing for its index.
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Streams")]
    pub output: Target,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub shard: ShardOption,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compress: CompressOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Encode, "parm-encode");
