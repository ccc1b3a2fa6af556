//! `parm-data`: streams and data sets.

use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::input::Input;
use crate::options::{Common, CompressOptions, ReadOptions, WriteOptions};
use crate::output::Target;
use crate::value::{ValueError, expected};

mod sets;

pub use sets::{Boxes, Cifar, Decoding, Fetch, Idx, Images, Listing, Normalize, PixelOptions, Speech, Split};

/// Inspect, join, slice and shuffle streams, and read data sets
#[derive(Parser, Clone, Debug)]
#[command(name = Data::NAME, version, max_term_width = 100, subcommand_required = true)]
pub struct Data {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Data, "parm-data");

/// What `parm-data` does.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Describe the items of streams
    ///
    /// Reads each stream to its end, and so checks that it is complete.
    Info(Info),
    /// Join streams into one item
    ///
    /// A plain concatenation of .npy files is a valid stream for these tools, but numpy.load reads
    /// only its first item. This command writes one item with the rows of all.
    Cat(Cat),
    /// Take a range of rows
    Slice(Slice),
    /// Shuffle the rows of streams, all in the same order
    ///
    /// Streams of the same number of rows get the same random order, so that data and labels stay
    /// together. Data in class order must be shuffled before it is encoded; otherwise every coding group
    /// has one class. One stream at a time is held in memory.
    Shuffle(Shuffle),
    /// Read images and labels in the IDX format of MNIST, plain or gzip
    ///
    /// Writes DIR/images.npy, [N, 1, H, W], and DIR/labels.npy, [N].
    Idx(Idx),
    /// Read CIFAR-10 or CIFAR-100 in the binary version, from a directory or the archive
    ///
    /// Writes DIR/images.npy, [N, 3, 32, 32], DIR/labels.npy, [N] (the fine labels of CIFAR-100),
    /// and DIR/classes.json, the names of the classes, if the set contains them.
    Cifar(Cifar),
    /// Read pictures from a directory for each class
    ///
    /// BMP, GIF, JPEG, PNG, PNM, TIFF and WebP files, at any depth below a class, become RGB images as in
    /// torchvision: the shorter side is resized with antialiasing, the center is cropped, and
    /// each channel is normalised. Writes DIR/images.npy, [N, 3, CROP, CROP], DIR/labels.npy, [N], and
    /// DIR/classes.json: the names of the directories, sorted; a label is an index into them. Rows come
    /// class by class, unless --shuffle is given. Files of other types are left out with a warning.
    Images(Images),
    /// Read the clips of Speech Commands as spectrograms
    ///
    /// Writes DIR/clips.npy, f4 [N, 1, 161, 101], DIR/labels.npy, [N], and DIR/classes.json: the
    /// words, sorted; a label is an index into them. Rows come word by word, unless --shuffle is given.
    Speech(Speech),
    /// Read pictures with one box each, for models that locate things
    ///
    /// Writes DIR/images.npy, [N, 3, SIZE, SIZE], and DIR/boxes.npy, f4 [N, 4]: for a box with its
    /// corner at (x, y), of w x h pixels in a picture of W x H, the numbers 2x/W - 1, 2y/H - 1, 2w/W
    /// and 2h/H. Boxes are first clipped to the picture. Rows have the order of the list,
    /// unless --shuffle is given.
    Boxes(Boxes),
    /// Download a public data set, verify it and unpack it
    ///
    /// A second call continues an interrupted download. Downloads stay in the cache.
    Fetch(Fetch),
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
    pub read: ReadOptions,
}

/// `parm-data cat`
#[derive(Args, Clone, Debug)]
pub struct Cat {
    /// The streams, in order
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub write: WriteOptions,
}

/// `parm-data slice`
#[derive(Args, Clone, Debug)]
pub struct Slice {
    /// The rows: START:STOP, counted from 0, without STOP; either may be left out
    #[arg(value_name = "START:STOP")]
    pub rows: RowRange,

    /// The stream
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub write: WriteOptions,
}

/// `parm-data shuffle`
#[derive(Args, Clone, Debug)]
pub struct Shuffle {
    /// The streams
    #[arg(value_name = "STREAM.npy", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    /// Where to write; repeated for each stream, in the same order
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Streams")]
    pub output: Vec<Target>,

    /// The seed of the random order
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub compress: CompressOptions,
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
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().map_err(|_| ValueError::Row(text.to_owned()));
        let (start, stop) =
            text.split_once(':').ok_or_else(|| expected("START:STOP, as 100:200, :200 or 100:"))?;
        let start = if start.is_empty() { 0 } else { number(start)? };
        let stop = if stop.is_empty() { None } else { Some(number(stop)?) };
        if stop.is_some_and(|stop| stop < start) {
            return Err(expected("START not after STOP"));
        }
        Ok(Self { start, stop })
    }
}
