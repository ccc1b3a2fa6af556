//! bfloat16 in streams: `.npy` has no type for it, and ml_dtypes writes records of two bytes.

use std::io::{self, Cursor, Read};

use super::StreamErrorKind;
use super::header::{ItemHeader, Stored, read_full};
use crate::dtype::ByteOrder;

/// Bytes of an item that are read at a time.
const BLOCK: u64 = 64 * 1024;

/// A stream whose records of two bytes are bfloat16: the same stream with `f4` in their place, which
/// holds every bfloat16 exactly. Other items pass as they are.
pub struct Widened<R> {
    source: R,
    /// What was made and not read yet: a header, or a block of data.
    ready: Cursor<Vec<u8>>,
    /// The item that has begun, and the bytes of its data that are to come.
    item: Option<(ItemHeader, u64)>,
}

impl<R: Read> Widened<R> {
    /// Widens a stream, from its beginning.
    pub fn new(source: R) -> Self {
        Self { source, ready: Cursor::default(), item: None }
    }

    /// Makes the next piece ready; false at the end of the stream.
    fn advance(&mut self) -> Result<bool, StreamErrorKind> {
        if let Some((header, left)) = self.item.as_mut().filter(|(_, left)| *left > 0) {
            let mut block = vec![0; BLOCK.min(*left) as usize];
            let found = read_full(&mut self.source, &mut block)?;
            if found < block.len() {
                let expected = header.data_bytes();
                return Err(StreamErrorKind::Truncated { found: expected - *left + found as u64, expected });
            }
            *left -= found as u64;
            if header.stored == Stored::Bfloat16 {
                let widened = |&[a, b]: &[u8; 2]| match header.byte_order {
                    ByteOrder::Little => [0, 0, a, b],
                    ByteOrder::Big => [0, 0, b, a],
                };
                block = block.as_chunks().0.iter().flat_map(widened).collect();
            }
            self.ready = Cursor::new(block);
            return Ok(true);
        }
        let Some(header) = ItemHeader::read(&mut self.source)? else { return Ok(false) };
        let mut shown = header.clone();
        if header.stored == Stored::Bfloat16 {
            (shown.stored, shown.byte_order) = (Stored::AsTyped, ByteOrder::Little);
        }
        self.ready = Cursor::new(shown.to_bytes()?);
        let bytes = header.data_bytes();
        self.item = Some((header, bytes));
        Ok(true)
    }
}

impl<R: Read> Read for Widened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() || !self.advance().map_err(into_io)? {
                return Ok(read);
            }
        }
    }
}

/// An error that [`StreamErrorKind`] is found in again.
fn into_io(kind: StreamErrorKind) -> io::Error {
    match kind {
        StreamErrorKind::Io(error) => error,
        kind => io::Error::other(kind),
    }
}
