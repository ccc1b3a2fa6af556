//! Errors of data sets, with the file and the problem.

// The fields of errors are the words of their messages.
#![allow(missing_docs)]

use std::io;
use std::path::{Path, PathBuf};

use image::ImageError;

use crate::limits::{LEAST, MAX_BYTES, MAX_PIXELS, RATE};

/// A file of a data set that is refused: its path; the source is the problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct DataError {
    /// The file or directory.
    pub path: PathBuf,
    /// The problem.
    #[source]
    pub fault: Fault,
}

/// The problem of a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be opened, read or written.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Boxes(#[from] BoxError),
    #[error(transparent)]
    Cifar(#[from] CifarError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Idx(#[from] IdxError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Speech(#[from] SpeechError),
}

/// Adds the file to an error.
pub trait At<T> {
    /// The same result, with the path in its error.
    fn at(self, path: &Path) -> Result<T, DataError>;
}

impl<T, E: Into<Fault>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, DataError> {
        self.map_err(|fault| DataError { path: path.to_owned(), fault: fault.into() })
    }
}

/// Adds the failed operation to an error.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|error| Fault::Io(what, error))
    }
}

/// An archive that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A path out of the target.
    #[error("found the entry '{0}', expected a path below the directory that it is unpacked to")]
    Outside(String),
    /// A link, a device, …
    #[error("found '{entry}', a {kind}, expected files and directories")]
    Kind { entry: String, kind: &'static str },
    /// A file that an entry before it has made.
    #[error("found the entry '{0}' twice")]
    Twice(String),
    /// An entry that ends early.
    #[error("found {found} bytes of the entry '{entry}', expected {expected}")]
    Truncated { entry: String, found: u64, expected: u64 },
    /// More bytes than allowed.
    #[error("found more than {0} bytes in it, the most that is unpacked")]
    TooLarge(u64),
    /// More entries than allowed.
    #[error("found more than {0} entries in it, the most that is unpacked")]
    TooMany(u64),
}

/// A list of boxes, or a box, that is refused.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// No table.
    #[error("cannot read CSV")]
    Csv(#[from] csv::Error),
    /// A table without a column that is needed.
    #[error("found no column '{0}', expected filename, xmin, ymin, xmax and ymax")]
    NoColumn(&'static str),
    /// A line that is not what its table needs.
    #[error("line {line}: found '{found}', expected {expected}")]
    Line { line: u64, found: String, expected: &'static str },
    /// An image that one table names and another does not.
    #[error("found no entry for image {0}, which images.txt names")]
    NoEntry(String),
    /// A path that leads out of the directory of the pictures.
    #[error("line {line}: found '{found}', expected a path below the directory of the pictures")]
    Outside { line: u64, found: String },
    /// A list of nothing.
    #[error("found no boxes")]
    NoBoxes,
    /// A box without a pixel in the picture.
    #[error(
        "found the box ({}, {}) to ({}, {}), of which nothing lies in the picture of {width}x{height} pixels",
        corners[0], corners[1], corners[2], corners[3]
    )]
    Nothing { corners: [f64; 4], width: usize, height: usize },
    /// A picture that is not of the size that the table says.
    #[error("found a picture of {0}x{1} pixels, expected {2}x{3} as in the list of boxes", found.0, found.1, expected.0, expected.1)]
    Size { found: (usize, usize), expected: (usize, usize) },
}

/// Something that is not CIFAR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CifarError {
    /// None of its files.
    #[error("found neither data_batch_1.bin nor train.bin, expected CIFAR-10 or CIFAR-100{}", hint(*.pickled))]
    Unknown { pickled: bool },
    /// Some of its files.
    #[error("found no {0}, expected all files of the set")]
    Missing(&'static str),
    /// A file that ends within a record.
    #[error("{file}: found {found} bytes, expected records of {record}")]
    Size { file: &'static str, found: u64, record: u64 },
    /// A file that has become shorter.
    #[error("{file}: record {record}: truncated")]
    Truncated { file: &'static str, record: u64 },
    /// A label of another set.
    #[error("{file}: record {record}: found label {label}, expected one below {classes}")]
    Label { file: &'static str, record: u64, label: u8, classes: u8 },
}

fn hint(pickled: bool) -> &'static str {
    if pickled { " in the binary version, not Python's" } else { "" }
}

/// A file that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, or has hung up, or says nothing.
    #[error("cannot download {url}")]
    Http {
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server has something else to say.
    #[error("cannot download {url}: found status {status}, expected 200")]
    Status { url: String, status: u16 },
    /// The connection was cut.
    #[error("cannot download {url}: cut off after {have} bytes; the next call goes on from there")]
    Cut {
        url: String,
        have: u64,
        #[source]
        source: io::Error,
    },
    /// Another process is at it.
    #[error("another process is downloading it")]
    Busy,
    /// Other content.
    #[error("found the {kind} sum {found}, expected {expected}{}", if *.removed { "; it was removed" } else { "" })]
    Sum { kind: &'static str, found: String, expected: String, removed: bool },
}

/// A directory that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// No directory in it.
    #[error("found no directories in it, expected one for each class")]
    NoClasses,
    /// A class of nothing.
    #[error("found no file of type {0}, expected at least one of the class")]
    EmptyClass(String),
}

/// What is wrong with an IDX file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdxError {
    /// It ends within its header.
    #[error("truncated header, expected IDX {what}")]
    Header { what: &'static str },
    /// It begins with something else.
    #[error("found the magic number {found:02x?}, expected 00 00 ({types}) {axes:02x}: IDX {what}")]
    Magic { found: [u8; 4], types: &'static str, axes: u8, what: &'static str },
    /// Items without elements.
    #[error("found images of shape {0:?}, expected at least one pixel")]
    Empty(Vec<usize>),
    /// Items that are larger than any picture that is read.
    #[error("found images of shape {0:?}, expected at most {MAX_PIXELS} pixels")]
    Large(Vec<usize>),
    /// A size that no file has.
    #[error("found shape {0:?}, whose size overflows")]
    Overflow(Vec<usize>),
    /// It ends too early.
    #[error("found {found} bytes of data, expected {expected} for shape {axes:?}")]
    Truncated { found: u64, expected: u64, axes: Vec<usize> },
    /// It goes on after its last item.
    #[error("found more bytes of data, expected {expected} for shape {axes:?}")]
    TooLong { expected: u64, axes: Vec<usize> },
}

/// A list of pictures with labels that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No table.
    #[error("cannot read CSV")]
    Csv(#[from] csv::Error),
    /// A table without a column that is needed.
    #[error("found no column '{0}', expected filename and label")]
    NoColumn(&'static str),
    /// A path that leads out of the directory of the pictures.
    #[error("line {line}: found '{found}', expected a path below the directory of the pictures")]
    Outside { line: u64, found: String },
    /// A picture without a label.
    #[error("line {line}: found no label, expected a word or a number")]
    NoLabel { line: u64 },
    /// A list of nothing.
    #[error("found no pictures")]
    Empty,
}

/// A picture that is refused.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Something else.
    #[error(
        "found bytes {0:02x?} at its beginning, expected a picture: BMP, GIF, JPEG, PNG, PNM, TIFF or WebP"
    )]
    Unknown(Vec<u8>),
    /// A file that no picture of a sensible size needs.
    #[error("found more than {MAX_BYTES} bytes, expected a picture")]
    TooLong,
    /// More pixels than 2²⁶, or none.
    #[error("found {width}x{height} pixels, expected 1 to {MAX_PIXELS} of them")]
    Size { width: u64, height: u64 },
    /// A header that promises more than any compression can keep.
    #[error("found {bytes} bytes, which cannot hold the {width}x{height} pixels of the header")]
    TooShort { bytes: u64, width: u64, height: u64 },
    /// Samples of 16 bits or more.
    #[error("found {0} bits a channel, expected 8: convert the picture")]
    Deep(u8),
    /// Neither grey nor RGB nor CMYK.
    #[error("found the colours {0}, expected grey, RGB or CMYK: convert the picture")]
    Colours(String),
    /// A JPEG without the marker of its end.
    #[error("truncated JPEG: found no end of the picture in {0} bytes")]
    Truncated(usize),
    /// A JPEG that cannot be decoded.
    #[error("cannot decode JPEG")]
    Jpeg(#[source] zune_jpeg::errors::DecodeErrors),
    /// A PNG that cannot be decoded.
    #[error("cannot decode PNG: {}", plain(.0))]
    Png(png::DecodingError),
    /// A picture of another format that cannot be decoded.
    #[error("cannot decode {0}")]
    Other(&'static str, #[source] ImageError),
}

impl From<png::DecodingError> for PictureError {
    fn from(error: png::DecodingError) -> Self {
        Self::Png(error)
    }
}

/// What the crate says, with the names of chunks, of which it writes all fields of a Rust type.
fn plain(error: &png::DecodingError) -> String {
    let text = error.to_string();
    let split = || {
        let (before, rest) = text.split_once("ChunkType { type: ")?;
        let (name, rest) = rest.split_once(',')?;
        let (_, after) = rest.split_once('}')?;
        Some(format!("{before}{name}{after}"))
    };
    split().unwrap_or(text)
}

/// A clip that is refused, or a split that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// No WAV file, or one that ends too early.
    #[error(transparent)]
    Wave(#[from] WavError),
    /// Another rate.
    #[error("found {0} samples a second, expected {RATE}: resample it")]
    Rate(u32),
    /// More channels.
    #[error("found {0} channels, expected 1: mix them")]
    Channels(u16),
    /// Fewer samples than can be reflected.
    #[error("found {0} samples, expected at least {LEAST}")]
    Short(usize),
    /// Samples that are no numbers.
    #[error("found a sample that is not finite")]
    NotFinite,
    /// A line of a list that names no clip.
    #[error("line {line}: found '{clip}', expected a clip of the set, as WORD/NAME.wav")]
    NoClip { line: usize, clip: String },
    /// No clip is left.
    #[error("found no clips of this split")]
    NoClips,
}

/// A WAV file that is refused.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// The source failed.
    #[error("cannot read WAV")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("found no RIFF header of WAVE at its beginning, expected a WAV file")]
    NoWave,
    /// It ends too early.
    #[error("truncated WAV: it ends within {0}")]
    Truncated(&'static str),
    /// Samples without a format before them.
    #[error("found no format chunk before the samples")]
    NoFormat,
    /// Compressed samples, or a width that no program writes.
    #[error(
        "found format {format} with {bits} bits a sample, expected integers (1) of 8 to 32 bits or floats (3) of 32 or 64"
    )]
    Format { format: u16, bits: u16 },
}
