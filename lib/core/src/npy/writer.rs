//! Writing rows as the items of a stream.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::RowLayout;
use super::header::{ItemHeader, Order, Stored};
use crate::dtype::{ByteOrder, Float};

/// Writes rows as `.npy` items.
///
/// The size of an item stands in its header, before its rows; so it must be *announced* before its
/// first row is written. Announcing may run ahead of writing by any number of items.
pub struct RowWriter<W> {
    sink: W,
    layout: RowLayout,
    announced: VecDeque<u64>,
    /// Rows that the current item still lacks.
    left: u64,
    items: u64,
    bytes: Vec<u8>,
}

/// A stream that could not be written, or was left unfinished.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The sink failed.
    #[error("cannot write")]
    Io(#[from] io::Error),
    /// More rows than were announced.
    #[error("a row beyond the last announced item")]
    Unannounced,
    /// Fewer rows than were announced.
    #[error("{0} rows fewer than announced")]
    Unfinished(u64),
}

impl<W: Write> RowWriter<W> {
    /// A writer of rows of the given layout.
    pub fn new(sink: W, layout: RowLayout) -> Self {
        Self { sink, layout, announced: VecDeque::new(), left: 0, items: 0, bytes: Vec::new() }
    }

    /// What the rows of this stream look like.
    pub fn layout(&self) -> &RowLayout {
        &self.layout
    }

    /// Announces the next item. Items of 0 rows are left out, except that a stream has at least
    /// one item.
    pub fn announce(&mut self, rows: u64) {
        if rows > 0 {
            self.announced.push_back(rows);
        }
    }

    /// Writes whole rows, given as little-endian, C-ordered bytes.
    ///
    /// # Errors
    /// The sink's, or rows that were not announced.
    ///
    /// # Panics
    /// If `rows` ends within a row.
    pub fn write_raw(&mut self, mut rows: &[u8]) -> Result<(), WriteError> {
        let row_bytes = self.layout.bytes();
        assert_eq!(rows.len() % row_bytes, 0, "only whole rows are written");
        while !rows.is_empty() {
            if self.left == 0 {
                self.left = self.announced.pop_front().ok_or(WriteError::Unannounced)?;
                self.begin_item(self.left)?;
            }
            let here = ((rows.len() / row_bytes) as u64).min(self.left);
            let (now, later) = rows.split_at(here as usize * row_bytes);
            self.sink.write_all(now)?;
            self.left -= here;
            rows = later;
        }
        Ok(())
    }

    /// Writes whole rows of floats, converted to the stream's float type.
    ///
    /// # Errors
    /// The sink's, or rows that were not announced.
    ///
    /// # Panics
    /// If `rows` ends within a row, or the stream's type is no float type.
    pub fn write<T: Float>(&mut self, rows: &[T]) -> Result<(), WriteError> {
        if self.layout.dtype == T::DTYPE && cfg!(target_endian = "little") {
            return self.write_raw(bytemuck::cast_slice(rows));
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        T::encode(rows, self.layout.dtype, &mut bytes);
        let written = self.write_raw(&bytes);
        self.bytes = bytes;
        written
    }

    /// Flushes the sink, so that the rows that were written can be read.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// Ends the stream, flushes the sink and gives it back.
    ///
    /// # Errors
    /// The sink's, or rows that were announced and not written.
    pub fn finish(mut self) -> Result<W, WriteError> {
        let missing = self.left + self.announced.iter().sum::<u64>();
        if missing > 0 {
            return Err(WriteError::Unfinished(missing));
        }
        if self.items == 0 {
            self.begin_item(0)?;
        }
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn begin_item(&mut self, rows: u64) -> Result<(), WriteError> {
        self.items += 1;
        let layout = self.layout.clone();
        let header = ItemHeader {
            rows,
            layout,
            byte_order: ByteOrder::Little,
            order: Order::C,
            stored: Stored::AsTyped,
        };
        Ok(self.sink.write_all(&header.to_bytes()?)?)
    }
}
