//! `parm-data`: streams and data sets.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::input::Input;
use crate::options::{Common, CompressOptions, ReadOptions, WriteOptions};
use crate::output::Target;

/// Inspect, join, cut and shuffle streams, and read data sets
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-data", version, max_term_width = 100, subcommand_required = true)]
pub struct Data {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Data, "parm-data");

/// What `parm-data` does.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Describe the items of streams
    ///
    /// Reads each stream to its end, so that what it prints is checked.
    Info(Info),
    /// Join streams into one item
    ///
    /// A plain concatenation of .npy files is a valid stream for these tools, but numpy.load reads
    /// only its first item. This writes one item that holds the rows of all.
    Cat(Cat),
    /// Take a range of rows
    Slice(Slice),
    /// Shuffle the rows of streams, all alike
    ///
    /// Streams of the same number of rows are put into the same random order, so data and labels stay
    /// together. Class-ordered data must be shuffled before it is encoded, or every coding group
    /// holds one class. Each stream is held in memory in turn.
    Shuffle(Shuffle),
    /// Read images and labels in IDX format, as MNIST has them, gzip or not
    ///
    /// Writes DIR/images.npy, [N, 1, H, W], and DIR/labels.npy, [N].
    Idx(Idx),
}

/// `parm-data info`
#[derive(Args, Clone, Debug)]
pub struct Info {
    /// The streams
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// Print one JSON object per stream
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,
}

/// `parm-data cat`
#[derive(Args, Clone, Debug)]
pub struct Cat {
    /// The streams, in order
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub write: WriteOptions,
}

/// `parm-data slice`
#[derive(Args, Clone, Debug)]
pub struct Slice {
    /// The rows to take: START:STOP, counted from 0, STOP excluded; either may be left out
    #[arg(value_name = "START:STOP")]
    pub rows: RowRange,

    /// The stream
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub write: WriteOptions,
}

/// `parm-data shuffle`
#[derive(Args, Clone, Debug)]
pub struct Shuffle {
    /// The streams
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// Where to write: as often as there are streams, in their order
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Streams")]
    pub output: Vec<Target>,

    /// The seed of the random order
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compress: CompressOptions,
}

/// `parm-data idx`
#[derive(Args, Clone, Debug)]
pub struct Idx {
    /// The images: u1 [N, H, W]
    #[arg(value_name = "IMAGES")]
    pub images: PathBuf,

    /// The labels: u1 [N]
    #[arg(value_name = "LABELS")]
    pub labels: PathBuf,

    /// The directory to write to; it is made if need be
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// How pixels become numbers
    #[arg(long, value_name = "HOW", default_value = "unit")]
    pub normalize: Normalize,

    /// With --normalize standard, the mean that is subtracted from pixels in 0..1 [default: the data's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mean: Option<f64>,

    /// With --normalize standard, the deviation that they are divided by [default: the data's]
    #[arg(long, value_name = "X")]
    pub std: Option<f64>,
}

/// How pixels become numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Normalize {
    /// Bytes as they are, u1
    None,
    /// f4 from 0 to 1
    #[default]
    Unit,
    /// f4 of mean 0 and deviation 1
    Standard,
}

/// A range of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// The first row.
    pub start: u64,
    /// The row after the last; none for all to the end.
    pub stop: Option<u64>,
}

impl FromStr for RowRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().map_err(|_| format!("'{text}' is no row number"));
        let (start, stop) = text.split_once(':').ok_or("expected START:STOP, as 100:200, :200 or 100:")?;
        let start = if start.is_empty() { 0 } else { number(start)? };
        let stop = if stop.is_empty() { None } else { Some(number(stop)?) };
        if stop.is_some_and(|stop| stop < start) {
            return Err("expected START not after STOP".into());
        }
        Ok(Self { start, stop })
    }
}
