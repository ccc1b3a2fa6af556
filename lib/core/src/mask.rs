//! Masks: one `b1` per row of the stream that they accompany; true means available.

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
    #[error("{stream}: found rows of {found}, expected a mask: b1[] (one b1 for each row)")]
    NotAMask {
        /// The stream's name.
        stream: String,
        /// What its rows look like.
        found: RowLayout,
    },
}

/// The layout of masks.
#[must_use]
pub fn layout() -> RowLayout {
    RowLayout::new(Dtype::Bool, [])
}

/// Reads a mask.
pub struct MaskReader<R> {
    rows: RowReader<R>,
    bytes: Vec<u8>,
}

impl<R: Read> MaskReader<R> {
    /// Opens a mask. `name` is for messages.
    ///
    /// # Errors
    /// A stream that is refused, or that is not a mask.
    pub fn new(source: R, name: impl Into<String>) -> Result<Self, MaskError> {
        let rows = RowReader::new(source, name)?;
        if *rows.layout() != layout() {
            return Err(MaskError::NotAMask { stream: rows.name().into(), found: rows.layout().clone() });
        }
        Ok(Self { rows, bytes: Vec::new() })
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
        mask.extend(self.bytes[..rows].iter().map(|&byte| byte != 0));
        Ok(rows)
    }
}
