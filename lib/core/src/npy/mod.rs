//! Tensor streams: one or more complete `.npy` items back to back, read and written row by row.
//!
//! Axis 0 counts rows; all items of a stream share one [`RowLayout`]. [`RowReader`] iterates the
//! rows of a stream across its items in bounded memory, [`RowWriter`] writes rows as items whose
//! sizes were announced, and [`decompress`] and [`Compressor`] put zstd around either. [`Items`] makes of
//! some rows of a file a stream of their own, such as those of a [`Shard`].
//!
//! Read: the types of [`Dtype`], both byte orders, C order, Fortran order (the item is buffered),
//! format versions 1.0 to 3.0; bfloat16 through [`Widened`]. Written: version 1.0, little-endian, C order.
//!
//! Refused, each with an error that names the stream, the item, what was found and what was
//! expected ([`StreamErrorKind`]): other element types, truncated items, headers over
//! [`MAX_HEADER`] characters, shapes whose size overflows, items without rows axis or with empty
//! rows, and rows that change type or shape. No header makes the reader allocate what has not
//! arrived: buffers grow with the data, to at most twice its size.

mod bfloat16;
mod compress;
mod error;
mod header;
mod part;
mod reader;
mod writer;

pub use bfloat16::Widened;
pub use compress::{Compressor, Window, ZstdError, decompress, is_compressed};
pub use error::{StreamError, StreamErrorKind};
pub use header::{ItemHeader, MAX_DIMENSIONS, MAX_HEADER, Order, Stored, read_full};
pub use part::{Items, Part, Shard, ShardError, Skip};
pub use reader::{RowBuffer, RowReader};
pub use writer::{RowWriter, WriteError};

use std::fmt;

use crate::dtype::Dtype;

/// What all rows of one stream share: the element type and the shape of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// The element type.
    pub dtype: Dtype,
    /// The shape of one row: the item's shape without axis 0. Empty for a stream of scalars.
    pub shape: Vec<usize>,
}

impl RowLayout {
    /// A layout of the given element type and row shape.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// Elements of one row. The reader has checked that the product fits.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one row.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// How many rows make a block that stays in the processor's caches: at least one.
    #[must_use]
    pub fn rows_per_block(&self) -> usize {
        (BLOCK_BYTES / self.bytes().max(1)).max(1)
    }
}

/// A whole item in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// The element type.
    pub dtype: Dtype,
    /// The shape, with axis 0.
    pub shape: Vec<usize>,
    /// The elements, little-endian, in C order.
    pub bytes: Vec<u8>,
}

impl fmt::Display for RowLayout {
    /// As `f4[1, 28, 28]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// The size of the blocks that tools read and write at a time, in bytes.
pub const BLOCK_BYTES: usize = 256 * 1024;
