//! `parm-data`: streams and data sets.

use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::input::Input;
use crate::options::{Common, CompressOptions, ReadOptions, WriteOptions};
use crate::output::Target;
use crate::value::{ValueError, expected, not_negative};

mod sets;
mod tensors;

pub use sets::{
    Boxes, Cifar, Decoding, Fetch, Idx, Images, Listing, Normalize, PixelOptions, Size, Speech, Split,
};
pub use tensors::{Cast, Convert, Divide, Format, Group, Ratio};

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
    /// Compare two streams, element by element
    ///
    /// Prints where they differ most, and ends with exit code 1 if an element differs by more than the tolerance, --atol
    /// + --rtol |b| for an element b of the second stream. The types may differ. NaN equals NaN.
    Diff(Diff),
    /// Join streams into one item
    ///
    /// A plain concatenation of .npy files is a valid stream for these tools, but numpy.load reads
    /// only its first item. This command writes one item with the rows of all.
    Cat(Cat),
    /// Take a range of rows, or every so many of them
    Slice(Slice),
    /// Shuffle the rows of streams, all in the same order
    ///
    /// Streams of the same number of rows get the same random order, so that data and labels stay
    /// together. Data in class order must be shuffled before it is encoded; otherwise every coding group
    /// has one class. One stream at a time is held in memory.
    Shuffle(Shuffle),
    /// Split streams into parts for training, validation and tests
    ///
    /// Writes DIR/train/NAME, DIR/validation/NAME and DIR/test/NAME for each stream NAME; the parts of all streams have
    /// the same rows. They are chosen at random by the seed, and come in the order of the input. Pipes are copied to a
    /// temporary file.
    #[command(name = "split")]
    Divide(Divide),
    /// Change the type and the scale of elements, or make rows of labels and labels of rows
    ///
    /// An element x becomes (x * --scale - --mean) / --std, and then gets the type.
    Cast(Cast),
    /// Convert between streams and .npz, safetensors, CSV and IDX files
    ///
    /// npz and safetensors take all tensors of all files. The others have one: choose it with --name. Numbers keep their
    /// type, except that bfloat16 becomes f4, and CSV is read as i8, or f8 if not all numbers are integers. What comes
    /// from a pipe is copied to a temporary file.
    Convert(Convert),
    /// Show a coding group: its rows, their slots, and its parities
    Group(Group),
    /// Read images and labels in the IDX format of MNIST, plain or gzip
    ///
    /// Writes DIR/images.npy, [N, 1, H, W], and DIR/labels.npy, [N].
    Idx(Idx),
    /// Read CIFAR-10 or CIFAR-100 in the binary version, from a directory or the archive
    ///
    /// Writes DIR/images.npy, [N, 3, 32, 32], DIR/labels.npy, [N] (the fine labels of CIFAR-100),
    /// and DIR/classes.json, the names of the classes, if the set contains them.
    Cifar(Cifar),
    /// Read pictures from a directory for each class, or from a list
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

    /// Also print minimum, maximum, mean and deviation, NaN, infinities, classes and SHA-256
    ///
    /// The first four are those of finite elements. Classes are counted for streams of labels (one integer a row), if
    /// there are at most 1000. The SHA-256 is that of the stream without compression, as sha256sum prints it.
    #[arg(long)]
    pub stats: bool,

    #[command(flatten)]
    pub read: ReadOptions,
}

/// `parm-data diff`
#[derive(Args, Clone, Debug)]
pub struct Diff {
    /// The stream
    #[arg(value_name = "A.npy", help_heading = "Streams")]
    pub first: Input,

    /// The stream to compare it with
    #[arg(value_name = "B.npy", default_value = "-", help_heading = "Streams")]
    pub second: Input,

    /// The absolute difference that is allowed
    #[arg(long, value_name = "X", default_value = "0", value_parser = not_negative)]
    pub atol: f64,

    /// The difference that is allowed relative to the element of B
    #[arg(long, value_name = "X", default_value = "0", value_parser = not_negative)]
    pub rtol: f64,

    /// Print one JSON object, also if nothing differs
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
    /// The rows: START:STOP or START:STOP:STEP as in Python, counted from 0, without STOP; each may be left out
    ///
    /// Negative bounds are counted from the end: '-100:' are the last 100 rows. '::10' is every tenth row, '::-1' all
    /// of them backwards. Negative bounds make a copy of an input that is a pipe, in a temporary file; with a negative
    /// step, the rows of the result are held in memory.
    #[arg(value_name = "START:STOP[:STEP]", allow_hyphen_values = true)]
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

/// A range of rows, as Python's slices have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// Where it begins; counted from the end if negative.
    start: Option<i64>,
    /// Where it ends, itself outside.
    stop: Option<i64>,
    /// From one row to the next; not 0.
    step: i64,
}

/// Rows of a stream: `first`, `first + step`, ... below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The first row.
    pub first: u64,
    /// The row after the last.
    pub end: u64,
    /// From one row to the next.
    pub step: u64,
    /// Whether they are written backwards.
    pub backwards: bool,
}

impl RowRange {
    /// The rows, if they do not depend on how many rows the stream has.
    #[must_use]
    pub fn fixed(self) -> Option<Rows> {
        let known = |bound: Option<i64>| bound.is_none_or(|bound| bound >= 0);
        // No stream has more rows than this, so that the end is where the stream ends.
        (self.step > 0 && known(self.start) && known(self.stop)).then(|| self.of(i64::MAX as u64))
    }

    /// The rows of a stream of `rows` rows.
    #[must_use]
    pub fn of(self, rows: u64) -> Rows {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let backwards = self.step < 0;
        // A row, or where the range begins or ends beyond the first or last of them.
        let bound = |bound: i64| {
            let bound = if bound < 0 { bound.saturating_add(rows) } else { bound };
            if backwards { bound.clamp(-1, rows - 1) } else { bound.clamp(0, rows) }
        };
        let (from, to) = if backwards { (rows - 1, -1) } else { (0, rows) };
        let (start, stop) = (self.start.map_or(from, bound), self.stop.map_or(to, bound));
        let by = self.step.unsigned_abs();
        if !backwards {
            return Rows { first: start as u64, end: stop.max(start) as u64, step: by, backwards };
        }
        let count = if start > stop { start.abs_diff(stop).div_ceil(by) } else { 0 };
        let end = (start + 1) as u64;
        Rows { first: end - count.min(1) - count.saturating_sub(1) * by, end, step: by, backwards }
    }
}

impl Rows {
    /// How many of them are in `from..to`, and the first of these.
    #[must_use]
    pub fn within(self, from: u64, to: u64) -> (u64, u64) {
        let steps = from.saturating_sub(self.first).div_ceil(self.step);
        let first = self.first.saturating_add(steps.saturating_mul(self.step));
        (to.min(self.end).saturating_sub(first).div_ceil(self.step), first)
    }
}

impl FromStr for RowRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| ValueError::Row(text.to_owned())),
        };
        let parts: Vec<_> = text.split(':').collect();
        let (start, stop, by) = match parts[..] {
            [start, stop] => (number(start)?, number(stop)?, 1),
            [start, stop, by] => (number(start)?, number(stop)?, number(by)?.unwrap_or(1)),
            _ => return Err(expected("START:STOP or START:STOP:STEP, as 100:200, -100: or ::10")),
        };
        if by == 0 {
            return Err(expected("a STEP that is not 0"));
        }
        if by > 0 && start.zip(stop).is_some_and(|(a, b)| b < a && (a < 0) == (b < 0)) {
            return Err(expected("START not after STOP"));
        }
        Ok(Self { start, stop, step: by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_python() {
        // Every range over 0 to 5 rows, against the definition: the indices that range(*slice.indices(n)) has.
        let bounds = || std::iter::once(None).chain((-7..=7).map(Some));
        let mut ranges = 0;
        for (start, stop, by) in bounds().flat_map(|start| {
            bounds().flat_map(move |stop| [-3, -2, -1, 1, 2, 3].map(move |by| (start, stop, by)))
        }) {
            let range = RowRange { start, stop, step: by };
            for rows in 0..=5_i64 {
                let wrap = |bound: i64| if bound < 0 { bound + rows } else { bound };
                let mut expected = Vec::new();
                let mut at = match (start.map(wrap), by > 0) {
                    (Some(start), true) => start.max(0),
                    (Some(start), false) => start.min(rows - 1),
                    (None, true) => 0,
                    (None, false) => rows - 1,
                };
                let goes_on = |at: i64| match (stop.map(wrap), by > 0) {
                    (stop, true) => at < stop.unwrap_or(rows).min(rows),
                    (stop, false) => at > stop.unwrap_or(-1).max(-1),
                };
                while goes_on(at) {
                    expected.push(at as u64);
                    at += by;
                }
                let found = range.of(rows as u64);
                let (count, first) = found.within(0, rows as u64);
                let mut indices: Vec<u64> = (0..count).map(|i| first + i * found.step).collect();
                if found.backwards {
                    indices.reverse();
                }
                assert_eq!(indices, expected, "{range:?} of {rows}");
                if let Some(fixed) = range.fixed() {
                    let (fixed_count, fixed_first) = fixed.within(0, rows as u64);
                    assert_eq!(fixed_count, count, "{range:?} of {rows}");
                    assert!(count == 0 || fixed_first == first, "{range:?} of {rows}");
                }
                ranges += 1;
            }
        }
        assert_eq!(ranges, 16 * 16 * 6 * 6);
    }
}
