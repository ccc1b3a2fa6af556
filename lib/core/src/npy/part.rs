//! Parts of streams whose length is known: the rows of one shard, as a stream of their own.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::str::FromStr;

use super::header::{ItemHeader, Order};
use super::{StreamError, StreamErrorKind};

/// One of n parts of a stream, in whole coding groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    number: u64,
    /// How many parts there are.
    of: u64,
}

/// A text that names no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found shard '{0}', expected I/N: part I of N, from 1/N to N/N")]
pub struct ShardError(String);

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parts =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(ShardError(text.to_owned())),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// The rows of this part, of a stream of so many rows in groups of `k`: whole groups, as many as the
    /// other parts have or one more; rows that fill no group come with the last part.
    #[must_use]
    pub fn rows(self, rows: u64, k: u64) -> Range<u64> {
        let groups = u128::from(rows / k);
        // Not more than the groups.
        let first = |part: u64| (groups * u128::from(part) / u128::from(self.of)) as u64 * k;
        let end = if self.number == self.of { rows } else { first(self.number) };
        first(self.number - 1)..end
    }
}

/// A source that can go forward without reading.
pub trait Skip: Read {
    /// Passes over so many bytes; fewer only at the end.
    ///
    /// # Errors
    /// The source's.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>;
}

impl Skip for File {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let at = self.stream_position()?;
        let there = self.metadata()?.len().saturating_sub(at).min(bytes);
        self.seek(SeekFrom::Start(at + there))?;
        Ok(there)
    }
}

impl Skip for Box<dyn Read + Send> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.take(bytes), &mut io::sink())
    }
}

/// The items of a stream: their headers, and where their data begin.
#[derive(Clone, Debug)]
pub struct Items {
    name: String,
    items: Vec<(ItemHeader, u64)>,
}

impl Items {
    /// Finds the items of a source, from its beginning. `name` is for messages.
    ///
    /// # Errors
    /// A stream without an item, a header that is refused, an item that is cut short.
    pub fn find(source: impl Skip, name: impl Into<String>) -> Result<Self, StreamError> {
        let mut found = Self { name: name.into(), items: Vec::new() };
        let mut source = Counted { source, at: 0 };
        while let Some(header) =
            ItemHeader::read(&mut source).map_err(|kind| found.error(found.items.len(), kind))?
        {
            let (begin, expected) = (source.at, header.data_bytes());
            let skipped =
                source.source.skip(expected).map_err(|error| found.error(found.items.len(), error.into()))?;
            if skipped < expected {
                let kind = StreamErrorKind::Truncated { found: skipped, expected };
                return Err(found.error(found.items.len(), kind));
            }
            source.at += skipped;
            found.items.push((header, begin));
        }
        if found.items.is_empty() { Err(found.error(0, StreamErrorKind::Empty)) } else { Ok(found) }
    }

    /// Rows of all items.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.items.iter().map(|(header, _)| header.rows).sum()
    }

    /// Some of the rows, as a stream: an item for each that they are of, or one without rows. `source` is
    /// the one that the items were found in, at its beginning. Rows beyond the last one are left out.
    ///
    /// # Errors
    /// Rows of an item in Fortran order, which do not lie side by side, unless they are all of it.
    pub fn part<S: Skip>(&self, source: S, rows: Range<u64>) -> Result<Part<S>, StreamError> {
        let (mut pieces, mut first) = (VecDeque::new(), 0);
        for (index, (header, begin)) in self.items.iter().enumerate() {
            let (from, to) =
                (rows.start.clamp(first, first + header.rows), rows.end.clamp(first, first + header.rows));
            let count = to.saturating_sub(from);
            let is_last = index + 1 == self.items.len();
            if count > 0 || is_last && pieces.is_empty() {
                if header.order == Order::Fortran && count > 0 && count < header.rows {
                    return Err(self.error(index, StreamErrorKind::FortranPart));
                }
                let bytes = header.row_bytes();
                let text = ItemHeader { rows: count, ..header.clone() };
                let text = text.to_bytes().map_err(|error| self.error(index, error.into()))?;
                pieces.push_back(Piece {
                    header: text,
                    at: begin + (from - first) * bytes,
                    bytes: count * bytes,
                });
            }
            first += header.rows;
        }
        Ok(Part { source, at: 0, header: Cursor::default(), left: 0, pieces })
    }

    fn error(&self, item: usize, kind: StreamErrorKind) -> StreamError {
        StreamError { stream: self.name.clone(), item: item as u64 + 1, kind }
    }
}

struct Counted<S> {
    source: S,
    at: u64,
}

impl<S: Read> Read for Counted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// An item of a part.
struct Piece {
    header: Vec<u8>,
    /// Where its data begin in the source.
    at: u64,
    /// Bytes of its data.
    bytes: u64,
}

/// Some of the rows of a stream, as a stream.
pub struct Part<S> {
    source: S,
    /// Where the source is.
    at: u64,
    header: Cursor<Vec<u8>>,
    /// Bytes of data that are still to come of the piece that has begun.
    left: u64,
    pieces: VecDeque<Piece>,
}

impl<S: Skip> Read for Part<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.header.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.left > 0 {
                let read = self.source.by_ref().take(self.left).read(buffer)?;
                self.at += read as u64;
                self.left -= read as u64;
                return Ok(read);
            }
            let Some(piece) = self.pieces.pop_front() else { return Ok(0) };
            self.at += self.source.skip(piece.at - self.at)?;
            self.header = Cursor::new(piece.header);
            self.left = piece.bytes;
        }
    }
}
