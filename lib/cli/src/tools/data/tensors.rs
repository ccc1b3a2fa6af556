//! The subcommands of `parm-data` that make other streams of streams, and other files of tensors.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use parm::Dtype;

use crate::input::Input;
use crate::options::{CodeOptions, CompressOptions, CurveOptions, ReadOptions, TailOption, WriteOptions};
use crate::tools::train::Share;
use crate::value::{ValueError, expected};

/// `parm-data split`
#[derive(Args, Clone, Debug)]
pub struct Divide {
    /// The streams: files with the same number of rows, whose names must differ
    #[arg(value_name = "STREAM.npy", required = true, help_heading = "Streams")]
    pub inputs: Vec<PathBuf>,

    /// The directory to write to; it is created if necessary
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// Rows for validation: a number, or a fraction below 1
    #[arg(long, value_name = "N|F", required_unless_present = "test")]
    pub validation: Option<Share>,

    /// Rows for tests: a number, or a fraction below 1
    #[arg(long, value_name = "N|F")]
    pub test: Option<Share>,

    /// Take rows in proportion from each class of these labels
    ///
    /// They may be one of the streams.
    #[arg(long, value_name = "LABELS.npy")]
    pub stratify: Option<PathBuf>,

    /// The seed of the choice
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub compress: CompressOptions,
}

/// `parm-data cast`
#[derive(Args, Clone, Debug)]
pub struct Cast {
    /// The stream
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    /// The type to write: f2 f4 f8, i1 i2 i4 i8, u1 u2 u4 u8 or b1, or NumPy's name, as float32
    ///
    /// [default: after arithmetic, floats keep their type and others become f4; --one-hot: f4; --argmax: u1, or u2 or
    /// u4 if there are more classes]
    ///
    /// Floats are rounded to the nearest integer, halves to even. A number that the type cannot hold is an error. For
    /// b1, all numbers but 0 are true.
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    pub dtype: Option<Dtype>,

    /// Multiply by a number, or by a fraction, as 1/255
    #[arg(long, value_name = "X|X/Y", allow_negative_numbers = true, help_heading = "Arithmetic")]
    pub scale: Option<Ratio>,

    /// Subtract this: one number, or one for each channel, which the first axis of a row counts
    ///
    /// It comes after --scale.
    #[arg(
        long,
        value_name = "X[,X...]",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Arithmetic"
    )]
    pub mean: Vec<f64>,

    /// Divide by this, as for --mean
    ///
    /// It comes last.
    #[arg(long, value_name = "X[,X...]", value_delimiter = ',', help_heading = "Arithmetic")]
    pub std: Vec<f64>,

    /// Make rows of C numbers of labels: 1 for the class, 0 for others
    #[arg(
        long,
        value_name = "C",
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["scale", "mean", "std", "argmax"],
        help_heading = "Classes"
    )]
    pub one_hot: Option<u32>,

    /// Make labels of rows of scores: the index of the largest one
    ///
    /// Of equal scores it is the first, as in numpy.argmax; NaN counts as larger than all numbers.
    #[arg(long, conflicts_with_all = ["scale", "mean", "std"], help_heading = "Classes")]
    pub argmax: bool,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub write: WriteOptions,
}

/// `parm-data convert`
#[derive(Args, Clone, Debug)]
pub struct Convert {
    /// The files
    #[arg(value_name = "FILE", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// The format of the files [default: what their first bytes say]
    #[arg(long, value_name = "FORMAT", help_heading = "Formats")]
    pub from: Option<Format>,

    /// The format to write [default: what the name of the output says; npy for standard output]
    #[arg(long, value_name = "FORMAT", help_heading = "Formats")]
    pub to: Option<Format>,

    /// The tensor to take from files with several, and the name of a tensor of a file that has none
    ///
    /// Repeated, it takes several, in this order. [default: all of them; the name of a tensor without one is that of
    /// its file, without its extension]
    #[arg(long, value_name = "NAME", help_heading = "Formats")]
    pub name: Vec<String>,

    /// The columns to read of CSV: names of its header, or numbers from 0 [default: all of them]
    #[arg(long, value_name = "COLUMN[,COLUMN...]", value_delimiter = ',', help_heading = "Formats")]
    pub columns: Vec<String>,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub write: WriteOptions,
}

/// A format of files of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A stream of .npy items
    Npy,
    /// NumPy's archive of arrays
    Npz,
    /// Tensors with names, without code
    Safetensors,
    /// Lines of numbers, with commas between them
    Csv,
    /// The format of MNIST; read also if it is compressed with gzip
    Idx,
}

/// `parm-data group`
#[derive(Args, Clone, Debug)]
pub struct Group {
    /// The group, counted from 0
    #[arg(value_name = "GROUP")]
    pub group: u64,

    /// The stream: queries or predictions, or the n answers of each group of an interpolating code
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    pub code: CodeOptions,

    #[command(flatten)]
    pub curve: CurveOptions,

    /// What the last group is if k does not divide the number of rows
    #[arg(long, value_name = "HOW", default_value = "error", help_heading = "Code")]
    pub tail: TailOption,

    /// A stream with one row for each group, of parity queries or their outputs; repeated in the order of the parities
    #[arg(long, value_name = "P.npy", help_heading = "Code")]
    pub parity: Vec<Input>,

    /// A mask [N] of the rows that are available
    #[arg(long, value_name = "MASK.npy", help_heading = "Rows")]
    pub available: Option<Input>,

    /// Labels [N] of the queries
    #[arg(long, value_name = "LABELS.npy", help_heading = "Rows")]
    pub labels: Option<Input>,

    /// The most numbers of a row to print
    #[arg(long, value_name = "N", default_value = "8", help_heading = "Rows")]
    pub width: usize,

    /// Print one JSON object, with all numbers
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub read: ReadOptions,
}

/// A number, or a fraction of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// What is multiplied with.
    pub over: f64,
    /// What is divided by.
    pub under: f64,
}

impl FromStr for Ratio {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
        let (over, under) = text.split_once('/').unwrap_or((text, "1"));
        match (number(over), number(under)) {
            (Some(over), Some(under)) if under != 0.0 => Ok(Self { over, under }),
            _ => Err(expected("a number, or a fraction as 1/255")),
        }
    }
}

fn dtype(text: &str) -> Result<Dtype, ValueError> {
    match Dtype::parse(text) {
        Ok((dtype, _)) => Ok(dtype),
        Err(_) => Err(expected("f2 f4 f8, i1 i2 i4 i8, u1 u2 u4 u8 or b1, or a name of NumPy's, as float32")),
    }
}
