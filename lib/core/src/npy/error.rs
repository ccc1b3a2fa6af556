//! What can be wrong with a stream that is read.

use std::io;

use super::{MAX_DIMENSIONS, MAX_HEADER, RowLayout};

/// A stream that cannot be read: which one, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{stream}: item {item}: {kind}")]
pub struct StreamError {
    /// The stream's name: a path, or `standard input`.
    pub stream: String,
    /// The item within the stream, counted from 1.
    pub item: u64,
    /// What was found and what was expected.
    pub kind: StreamErrorKind,
}

/// What was found in a stream and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum StreamErrorKind {
    /// The source failed.
    #[error("cannot read: {0}")]
    Io(#[source] io::Error),
    /// The stream has no item at all.
    #[error("found the end of the stream, expected an .npy item")]
    Empty,
    /// The item does not begin as an `.npy` item does.
    #[error("not an .npy item: found {found}, expected the bytes 93 4e 55 4d 50 59 (\\x93NUMPY){hint}")]
    Magic {
        /// The first bytes, in hexadecimal.
        found: String,
        /// What the bytes look like, if known.
        hint: &'static str,
    },
    /// A format version that does not exist.
    #[error("found format version {major}.{minor}, expected 1.0, 2.0 or 3.0")]
    Version {
        /// The major version.
        major: u8,
        /// The minor version.
        minor: u8,
    },
    /// A header longer than any real one.
    #[error("found a header of {found} characters, expected at most {MAX_HEADER}")]
    HeaderTooLong {
        /// The length that the item claims.
        found: u64,
    },
    /// The stream ends within a header.
    #[error("truncated header: found {found} of {expected} bytes")]
    TruncatedHeader {
        /// Bytes that arrived.
        found: usize,
        /// Bytes that the header has.
        expected: usize,
    },
    /// A header that is not the dictionary that the format asks for.
    #[error("malformed header: {0}")]
    Header(String),
    /// An element type that tensor streams do not carry.
    #[error("found elements of type {found} ({what}), expected f2 f4 f8, i1 to i8, u1 to u8 or b1")]
    Dtype {
        /// The descriptor as it stands in the header.
        found: String,
        /// What it means.
        what: &'static str,
    },
    /// An item without an axis that counts rows.
    #[error("found a single number (shape ()), expected rows along axis 0")]
    NoRows,
    /// Rows without elements.
    #[error("found shape {found:?}, whose rows have no elements; expected at least one element a row")]
    EmptyRows {
        /// The item's shape.
        found: Vec<usize>,
    },
    /// More dimensions than `NumPy` allows.
    #[error("found {found} dimensions, expected at most {MAX_DIMENSIONS}")]
    Dimensions {
        /// The number of dimensions.
        found: usize,
    },
    /// A shape whose size in bytes does not fit the address space.
    #[error("found shape {found:?}, whose size overflows")]
    Overflow {
        /// The item's shape.
        found: Vec<usize>,
    },
    /// The stream ends within an item's data.
    #[error("truncated: the item has {found} of {expected} bytes of data")]
    Truncated {
        /// Bytes that arrived.
        found: u64,
        /// Bytes that the header promised.
        expected: u64,
    },
    /// An item that cannot be taken apart.
    #[error(
        "found an item in Fortran order, whose rows do not lie side by side, expected C order to take a part \
         of it (parm-data cat writes it so)"
    )]
    FortranPart,
    /// An item whose rows differ from those of the first item.
    #[error("found rows of {found}, expected {expected} as in item 1")]
    Layout {
        /// The rows of this item.
        found: RowLayout,
        /// The rows of the first item.
        expected: RowLayout,
    },
}

impl From<io::Error> for StreamErrorKind {
    /// What a source below says of the stream's items stays what it is.
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Io)
    }
}
