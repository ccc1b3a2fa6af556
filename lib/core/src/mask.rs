//! Masks: one `b1`, or `u1` of 0 or 1, per row of the stream that they accompany; true (1) means available.

use std::io::Read;

use crate::dtype::Dtype;
use crate::npy::{RowLayout, RowReader, StreamError};

/// A mask that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// The stream itself is wrong.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The stream holds something else.
    #[error(
        "{stream}: found rows of {found}, expected a mask: b1[] or u1[] (one b1, or a 0 or 1, for each row)"
    )]
    NotAMask {
        /// The stream's name.
        stream: String,
        /// What its rows look like.
        found: RowLayout,
    },
    /// A `u1` that is neither 0 nor 1.
    #[error("{stream}: row {row}: found {found} in a mask, expected 0 or 1")]
    Entry {
        /// The stream's name.
        stream: String,
        /// The row.
        row: u64,
        /// The entry.
        found: u8,
    },
}

/// The layout of masks that are written.
#[must_use]
pub fn layout() -> RowLayout {
    RowLayout::new(Dtype::Bool, [])
}

/// Reads a mask.
pub struct MaskReader<R> {
    rows: RowReader<R>,
    /// Rows that were read before.
    before: u64,
    bytes: Vec<u8>,
}

impl<R: Read> MaskReader<R> {
    /// Opens a mask. `name` is for messages.
    ///
    /// # Errors
    /// A stream that is refused, or that is not a mask.
    pub fn new(source: R, name: impl Into<String>) -> Result<Self, MaskError> {
        let rows = RowReader::new(source, name)?;
        let found = rows.layout();
        if !matches!(found.dtype, Dtype::Bool | Dtype::U8) || !found.shape.is_empty() {
            return Err(MaskError::NotAMask { stream: rows.name().into(), found: found.clone() });
        }
        Ok(Self { rows, before: 0, bytes: Vec::new() })
    }

    /// The mask's name, for messages.
    pub fn name(&self) -> &str {
        self.rows.name()
    }

    /// Appends up to `max_rows` entries to `mask`; returns how many, fewer only at the end.
    ///
    /// # Errors
    /// What [`RowReader`] refuses.
    pub fn read(&mut self, max_rows: usize, mask: &mut Vec<bool>) -> Result<usize, MaskError> {
        let rows = self.rows.read_raw(max_rows, &mut self.bytes)?;
        // Nothing follows a mask's items; over a long stream the list would only grow.
        self.rows.take_opened().for_each(drop);
        for (row, &found) in (self.before..).zip(&self.bytes[..rows]) {
            if found > 1 {
                return Err(MaskError::Entry { stream: self.name().into(), row, found });
            }
            mask.push(found != 0);
        }
        self.before += rows as u64;
        Ok(rows)
    }
}
