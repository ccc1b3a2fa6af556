//! Iteration over the rows of a stream, across its items, in bounded memory.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytemuck::{Pod, cast_slice_mut};

use super::header::{ItemHeader, Order, Stored};
use super::{Array, RowLayout, StreamError, StreamErrorKind};
use crate::dtype::{ByteOrder, Dtype, Float};

/// The first step of a growing buffer, in bytes.
const GROWTH: usize = 64 * 1024;

/// Reads the rows of a stream.
///
/// It never seeks, never reads beyond the last item it was asked for, and never allocates more
/// than a constant plus twice what has arrived.
pub struct RowReader<R> {
    source: R,
    name: String,
    layout: RowLayout,
    header: ItemHeader,
    item: u64,
    /// Rows of the current item that were not given out yet.
    rows_left: u64,
    /// The data of the current item, when it is in Fortran order.
    buffered: Option<Vec<u8>>,
    opened: VecDeque<u64>,
}

/// Values of a block of rows, and room for their bytes while they are converted.
///
/// Reused from block to block; it only ever grows.
pub struct RowBuffer<T> {
    values: Vec<T>,
    bytes: Vec<u8>,
}

impl<T> Default for RowBuffer<T> {
    fn default() -> Self {
        Self { values: Vec::new(), bytes: Vec::new() }
    }
}

impl<T> RowBuffer<T> {
    /// The values read last, and whatever an earlier, longer block left behind them.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The same values, to keep.
    #[must_use]
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    /// The same values, to change them in place.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

impl<R: Read> RowReader<R> {
    /// Opens a stream by reading its first header. `name` is for messages.
    ///
    /// # Errors
    /// A stream without an item, or a first header that is refused.
    pub fn new(mut source: R, name: impl Into<String>) -> Result<Self, StreamError> {
        let name = name.into();
        match read_header(&mut source).and_then(|header| header.ok_or(StreamErrorKind::Empty)) {
            Ok(header) => {
                let layout = header.layout.clone();
                let mut reader = Self {
                    source,
                    name,
                    layout,
                    item: 1,
                    rows_left: 0,
                    header,
                    buffered: None,
                    opened: VecDeque::new(),
                };
                reader.begin_item();
                Ok(reader)
            }
            Err(kind) => Err(StreamError { stream: name, item: 1, kind }),
        }
    }

    /// The stream's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the rows of this stream look like.
    pub fn layout(&self) -> &RowLayout {
        &self.layout
    }

    /// The header of the item that the next row comes from, or the last one came from.
    pub fn header(&self) -> &ItemHeader {
        &self.header
    }

    /// The rows of each item that was opened since the last call, in order: what an output whose
    /// items follow the input's must announce.
    pub fn take_opened(&mut self) -> impl Iterator<Item = u64> + use<'_, R> {
        self.opened.drain(..)
    }

    /// Reads up to `max_rows` rows as little-endian, C-ordered bytes to the beginning of `buffer`,
    /// which grows as needed and keeps its length otherwise. Returns the rows read: fewer than
    /// `max_rows` only at the end of the stream.
    ///
    /// # Errors
    /// Anything of [`StreamErrorKind`]; the buffer's content is then unspecified.
    pub fn read_raw(&mut self, max_rows: usize, buffer: &mut Vec<u8>) -> Result<usize, StreamError> {
        self.read_pod(max_rows, buffer)
    }

    /// Reads all rows of the stream into one array.
    ///
    /// # Errors
    /// Anything of [`StreamErrorKind`].
    pub fn read_array(mut self) -> Result<Array, StreamError> {
        let (mut bytes, mut block) = (Vec::new(), Vec::new());
        let row = self.layout.bytes();
        let mut rows = 0;
        loop {
            let read = self.read_raw(self.layout.rows_per_block(), &mut block)?;
            if read == 0 {
                let shape = [rows].into_iter().chain(self.layout.shape).collect();
                return Ok(Array { dtype: self.layout.dtype, shape, bytes });
            }
            rows += read;
            bytes.extend_from_slice(&block[..read * row]);
        }
    }

    /// Reads up to `max_rows` rows as floats to the beginning of `buffer`. Returns the rows read:
    /// fewer than `max_rows` only at the end of the stream.
    ///
    /// # Errors
    /// Anything of [`StreamErrorKind`]; the buffer's content is then unspecified.
    pub fn read<T: Float>(
        &mut self,
        max_rows: usize,
        buffer: &mut RowBuffer<T>,
    ) -> Result<usize, StreamError> {
        if self.layout.dtype == T::DTYPE && cfg!(target_endian = "little") {
            return self.read_pod(max_rows, &mut buffer.values);
        }
        let rows = self.read_pod(max_rows, &mut buffer.bytes)?;
        let elements = rows * self.layout.elements();
        if buffer.values.len() < elements {
            resize_exact(&mut buffer.values, elements);
        }
        T::decode(self.layout.dtype, &buffer.bytes, &mut buffer.values[..elements]);
        Ok(rows)
    }

    /// Reads and forgets the rest of the stream; returns the number of rows passed over.
    ///
    /// # Errors
    /// Anything of [`StreamErrorKind`].
    pub fn skip_rest(&mut self) -> Result<u64, StreamError> {
        let mut rows = self.skip_item()?;
        while self.next_item()? {
            rows += self.skip_item()?;
            // Nothing follows these items; over a long stream the list would only grow.
            self.opened.clear();
        }
        Ok(rows)
    }

    /// Reads and forgets the rest of the current item; returns the number of rows passed over.
    ///
    /// # Errors
    /// A source that fails or ends too early.
    pub fn skip_item(&mut self) -> Result<u64, StreamError> {
        let rows = self.rows_left;
        if self.buffered.is_none() {
            let wanted = rows * self.layout.bytes() as u64;
            let found = io::copy(&mut self.source.by_ref().take(wanted), &mut io::sink())
                .map_err(|error| self.error(error.into()))?;
            if found < wanted {
                let before = self.header.data_bytes() - wanted;
                return Err(self.error(StreamErrorKind::Truncated {
                    found: before + found,
                    expected: self.header.data_bytes(),
                }));
            }
        }
        self.rows_left = 0;
        Ok(rows)
    }

    /// Goes to the next item unless the current one has rows left; false at the end of the stream.
    ///
    /// # Errors
    /// A header that is refused, or whose rows are not those of the first item.
    pub fn next_item(&mut self) -> Result<bool, StreamError> {
        if self.rows_left > 0 {
            return Ok(true);
        }
        self.buffered = None;
        self.item += 1;
        match read_header(&mut self.source) {
            Ok(None) => {
                self.item -= 1;
                Ok(false)
            }
            Ok(Some(header)) if header.layout != self.layout => {
                let expected = self.layout.clone();
                Err(self.error(StreamErrorKind::Layout { found: header.layout, expected }))
            }
            Ok(Some(header)) => {
                self.header = header;
                self.begin_item();
                Ok(true)
            }
            Err(kind) => Err(self.error(kind)),
        }
    }

    /// How many rows can be read without waiting for the next item: those that are left of the current one, or of the
    /// next one that has any; 0 at the end of the stream. At most `max`, and up to the end of a group of `k`, which may
    /// be in the next item.
    ///
    /// # Errors
    /// As [`next_item`](Self::next_item).
    ///
    /// # Panics
    /// If `k` is 0.
    pub fn rows_at_once(&mut self, max: usize, k: usize) -> Result<usize, StreamError> {
        while self.rows_left == 0 {
            if !self.next_item()? {
                return Ok(0);
            }
        }
        let left = usize::try_from(self.rows_left).unwrap_or(usize::MAX).min(max);
        Ok(left.checked_next_multiple_of(k).unwrap_or(max).min(max))
    }

    fn begin_item(&mut self) {
        self.rows_left = self.header.rows;
        self.opened.push_back(self.header.rows);
    }

    fn error(&self, kind: StreamErrorKind) -> StreamError {
        StreamError { stream: self.name.clone(), item: self.item, kind }
    }

    fn truncated(&self, bytes_before: u64, found: usize) -> StreamError {
        let expected = self.header.data_bytes();
        self.error(StreamErrorKind::Truncated { found: bytes_before + found as u64, expected })
    }

    /// Reads rows into a buffer of any plain type, as the bytes that it is made of.
    fn read_pod<P: Pod>(&mut self, max_rows: usize, buffer: &mut Vec<P>) -> Result<usize, StreamError> {
        let row_bytes = self.layout.bytes();
        let mut rows = 0;
        while rows < max_rows {
            if self.rows_left == 0 {
                if self.next_item()? {
                    continue;
                }
                break;
            }
            let take = usize::try_from(self.rows_left).unwrap_or(usize::MAX).min(max_rows - rows);
            let filled = rows * row_bytes;
            // Saturating is enough: the buffer grows with what arrives, not to what is wanted.
            let wanted = take.saturating_mul(row_bytes);
            match self.header.order {
                Order::C => self.fill(buffer, filled, wanted)?,
                Order::Fortran => self.gather(buffer, filled, take)?,
            }
            self.rows_left -= take as u64;
            rows += take;
        }
        Ok(rows)
    }

    /// Reads `wanted` bytes of rows in C order to `buffer`, from byte `filled` on.
    fn fill<P: Pod>(&mut self, buffer: &mut Vec<P>, filled: usize, wanted: usize) -> Result<(), StreamError> {
        let before = (self.header.rows - self.rows_left) * self.layout.bytes() as u64;
        let found = read_growing(&mut self.source, buffer, filled, wanted)
            .map_err(|error| self.error(error.into()))?;
        if found < wanted {
            return Err(self.truncated(before, found));
        }
        self.to_little_endian(&mut cast_slice_mut(buffer)[filled..filled + wanted]);
        Ok(())
    }

    /// Copies `take` rows of an item in Fortran order to `buffer`, from byte `filled` on; the first
    /// call for an item reads all of it.
    fn gather<P: Pod>(&mut self, buffer: &mut Vec<P>, filled: usize, take: usize) -> Result<(), StreamError> {
        let item_rows = self.header.rows as usize; // the header's check made sure that it fits
        let data = if let Some(data) = self.buffered.take() {
            data
        } else {
            let wanted = item_rows * self.layout.bytes();
            let mut data: Vec<u8> = Vec::new();
            let found = read_growing(&mut self.source, &mut data, 0, wanted)
                .map_err(|error| self.error(error.into()))?;
            if found < wanted {
                return Err(self.truncated(0, found));
            }
            self.to_little_endian(&mut data);
            data
        };
        let size = self.layout.dtype.size();
        let end = filled + take * self.layout.bytes();
        if buffer.len() * size_of::<P>() < end {
            resize_exact(buffer, end.div_ceil(size_of::<P>()));
        }
        let first = item_rows - self.rows_left as usize;
        let out = cast_slice_mut::<P, u8>(buffer)[filled..end].chunks_exact_mut(size);
        let offsets = (first..first + take).flat_map(|row| {
            FortranOffsets::new(&self.layout.shape, item_rows).map(move |offset| row + offset)
        });
        for (out, offset) in out.zip(offsets) {
            out.copy_from_slice(&data[offset * size..][..size]);
        }
        self.buffered = Some(data);
        Ok(())
    }

    fn to_little_endian(&self, bytes: &mut [u8]) {
        let size = self.layout.dtype.size();
        if self.header.byte_order == ByteOrder::Big && size > 1 {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        if self.layout.dtype == Dtype::Bool {
            // Any other value would be no valid b1 once it is written again.
            for byte in bytes {
                *byte = u8::from(*byte != 0);
            }
        }
    }
}

/// Reads a header, and refuses elements that are not read as they lie.
fn read_header(source: &mut impl Read) -> Result<Option<ItemHeader>, StreamErrorKind> {
    let header = ItemHeader::read(source)?;
    if header.as_ref().is_some_and(|header| header.stored == Stored::Bfloat16) {
        let what = "records of 2 bytes; with --bf16 they are read as bfloat16";
        return Err(StreamErrorKind::Dtype { found: "'V2'".into(), what });
    }
    Ok(header)
}

/// Reads up to `wanted` bytes to `buffer`, from byte `filled` on. The buffer grows in steps that
/// double what has arrived, so a source that ends early never costs more than that.
fn read_growing<P: Pod>(
    source: &mut impl Read,
    buffer: &mut Vec<P>,
    filled: usize,
    wanted: usize,
) -> io::Result<usize> {
    let end = filled.saturating_add(wanted);
    let mut at = filled;
    while at < end {
        if at >= size_of_val(buffer.as_slice()) {
            let grown = at.saturating_mul(2).max(GROWTH).min(end).div_ceil(size_of::<P>());
            resize_exact(buffer, grown);
        }
        let room = cast_slice_mut::<P, u8>(buffer);
        let until = end.min(room.len());
        match super::header::read_full(source, &mut room[at..until])? {
            read if read < until - at => return Ok(at + read - filled),
            read => at += read,
        }
    }
    Ok(wanted)
}

/// Grows a buffer to this many elements and not, as `resize` would, to up to twice as many.
fn resize_exact<P: Pod>(buffer: &mut Vec<P>, elements: usize) {
    buffer.reserve_exact(elements - buffer.len());
    buffer.resize(elements, P::zeroed());
}

/// The offsets, in elements, of the elements of row 0 in an item in Fortran order, in C order of
/// the row's own axes.
struct FortranOffsets<'a> {
    shape: &'a [usize],
    strides: Vec<usize>,
    index: Vec<usize>,
    offset: usize,
    left: usize,
}

impl<'a> FortranOffsets<'a> {
    fn new(shape: &'a [usize], rows: usize) -> Self {
        let strides = shape
            .iter()
            .scan(rows, |stride, &axis| {
                let this = *stride;
                *stride *= axis;
                Some(this)
            })
            .collect();
        Self { shape, strides, index: vec![0; shape.len()], offset: 0, left: shape.iter().product() }
    }
}

impl Iterator for FortranOffsets<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.offset;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.offset += self.strides[axis];
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.offset -= self.strides[axis] * self.shape[axis];
            self.index[axis] = 0;
        }
        Some(offset)
    }
}
