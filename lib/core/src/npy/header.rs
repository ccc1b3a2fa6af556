//! The guarded reading of one item's header.

use std::io::{self, Read};

use ndarray_npy::npy::header::{Header, Layout, ParseHeaderError, ReadHeaderError};
use py_literal::Value;

use super::{RowLayout, StreamErrorKind};
use crate::dtype::{ByteOrder, Dtype};

/// The longest header that is read, in characters: `NumPy`'s own limit.
pub const MAX_HEADER: usize = 10_000;

/// The most dimensions that an item may have: `NumPy`'s own limit.
pub const MAX_DIMENSIONS: usize = 64;

/// Brackets within brackets that a header may have. A stream's own has two, a structured type's
/// four, and braces are only the outermost. The parser behind the guard tries what a list without a
/// last comma holds twice, and what braces hold three times (a dictionary's key, again, a set's
/// element): 14 nested braces take it 13 s, and each pair more takes nine times as long.
const MAX_NESTING: usize = 4;

/// What a header must be, for messages.
const DICTIONARY: &str = "a dictionary of 'descr', 'fortran_order' and 'shape'";

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The order of an item's elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The last axis varies fastest; rows are contiguous.
    C,
    /// The first axis varies fastest; rows are interleaved.
    Fortran,
}

/// The checked header of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemHeader {
    /// Rows of the item: the length of axis 0.
    pub rows: u64,
    /// The element type and the shape of a row.
    pub layout: RowLayout,
    /// The byte order of the elements.
    pub byte_order: ByteOrder,
    /// The order of the elements.
    pub order: Order,
}

impl ItemHeader {
    /// Bytes of data that follow the header.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.rows * self.layout.bytes() as u64
    }

    /// The header as it stands in a stream, in version 1.0.
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let rows = usize::try_from(self.rows).map_err(io::Error::other)?;
        let descr = match self.byte_order {
            ByteOrder::Little => self.layout.dtype.descr(),
            ByteOrder::Big => format!(">{}", self.layout.dtype.name()),
        };
        let layout = match self.order {
            Order::C => Layout::Standard,
            Order::Fortran => Layout::Fortran,
        };
        let shape = std::iter::once(rows).chain(self.layout.shape.iter().copied()).collect();
        Header { type_descriptor: Value::String(descr), layout, shape }.to_bytes().map_err(io::Error::other)
    }

    /// Reads a header and nothing beyond it; `None` at the end of the stream.
    pub(super) fn read(source: &mut impl Read) -> Result<Option<Self>, StreamErrorKind> {
        let mut bytes = vec![0; 8];
        match read_full(source, &mut bytes)? {
            0 => return Ok(None),
            found if !bytes.starts_with(&MAGIC[..found.min(6)]) => {
                return Err(magic_error(&bytes[..found.min(6)]));
            }
            8 => {}
            found => return Err(StreamErrorKind::TruncatedHeader { found, expected: 8 }),
        }
        let length_bytes = match (bytes[6], bytes[7]) {
            (1, 0) => 2,
            (2 | 3, 0) => 4,
            (major, minor) => return Err(StreamErrorKind::Version { major, minor }),
        };
        read_more(source, &mut bytes, length_bytes)?;
        let mut length = [0; 4];
        length[..length_bytes].copy_from_slice(&bytes[8..]);
        let length = u32::from_le_bytes(length);
        match usize::try_from(length) {
            Ok(length) if length <= MAX_HEADER => read_more(source, &mut bytes, length)?,
            _ => return Err(StreamErrorKind::HeaderTooLong { found: u64::from(length) }),
        }
        let prefix = 8 + length_bytes;
        if is_nested_deeply(&bytes[prefix..]) {
            let error =
                format!("found nested braces, or brackets over {MAX_NESTING} deep; expected {DICTIONARY}");
            return Err(StreamErrorKind::Header(error));
        }
        let header = Header::from_reader(&mut bytes.as_slice()).map_err(|error| match error {
            ReadHeaderError::Io(error) => StreamErrorKind::Io(error),
            ReadHeaderError::Parse(error) => StreamErrorKind::Header(parse_error(&error, &bytes[prefix..])),
        })?;
        Self::check(&header).map(Some)
    }

    fn check(header: &Header) -> Result<Self, StreamErrorKind> {
        let (dtype, byte_order) = match &header.type_descriptor {
            Value::String(descr) => Dtype::parse(descr)
                .map_err(|what| StreamErrorKind::Dtype { found: format!("'{}'", one_line(descr)), what })?,
            other => {
                let what =
                    if matches!(other, Value::List(_)) { "structured records" } else { "an unknown type" };
                return Err(StreamErrorKind::Dtype { found: one_line(&other.to_string()), what });
            }
        };
        let shape = &header.shape;
        if shape.len() > MAX_DIMENSIONS {
            return Err(StreamErrorKind::Dimensions { found: shape.len() });
        }
        let (rows, row_shape) = shape.split_first().ok_or(StreamErrorKind::NoRows)?;
        if row_shape.contains(&0) {
            return Err(StreamErrorKind::EmptyRows { found: shape.clone() });
        }
        // An item may have 0 rows, but each row must still fit.
        row_shape
            .iter()
            .chain([rows.max(&1)])
            .try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(|| StreamErrorKind::Overflow { found: shape.clone() })?;
        let order = match header.layout {
            // With one axis the two orders are the same.
            Layout::Fortran if !row_shape.is_empty() => Order::Fortran,
            _ => Order::C,
        };
        Ok(Self { rows: *rows as u64, layout: RowLayout::new(dtype, row_shape), byte_order, order })
    }
}

/// Appends `count` bytes of the header to what was read so far.
fn read_more(source: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> Result<(), StreamErrorKind> {
    let begin = bytes.len();
    let expected = begin + count;
    bytes.resize(expected, 0);
    let found = begin + read_full(source, &mut bytes[begin..])?;
    if found < expected { Err(StreamErrorKind::TruncatedHeader { found, expected }) } else { Ok(()) }
}

/// Reads until the buffer is full or the source ends; a pipe may give a byte at a time.
pub(super) fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether the parser must not see this header ([`MAX_NESTING`]). Brackets within strings count:
/// too many is safe, too few would not be.
fn is_nested_deeply(header: &[u8]) -> bool {
    let mut depth = 0_usize;
    for byte in header {
        match byte {
            b'{' if depth > 0 => return true,
            b'(' | b'[' | b'{' => depth += 1,
            // Without an opening one the parser stops here.
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return true;
        }
    }
    false
}

/// What a header holds and what it should hold.
fn parse_error(error: &ParseHeaderError, header: &[u8]) -> String {
    match error {
        ParseHeaderError::IllegalValue { key, value } => {
            let expected = if key == "shape" { "a tuple of lengths below 2^64" } else { "True or False" };
            format!("found {key} {}, expected {expected}", one_line(&value.to_string()))
        }
        // The parser's own error draws the header and an arrow, on five lines.
        ParseHeaderError::DictParse(_) => {
            format!("found '{}', expected {DICTIONARY}", one_line(&String::from_utf8_lossy(header)))
        }
        other => format!("{}; expected {DICTIONARY}", one_line(&other.to_string())),
    }
}

fn magic_error(found: &[u8]) -> StreamErrorKind {
    let hint = match found {
        [b'P', b'K', ..] => "; this looks like an .npz archive: extract its arrays first",
        [0x1f, 0x8b, ..] => "; this looks like gzip: decompress it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "; this looks like zstd within a stream: compress the whole stream, once"
        }
        _ => "",
    };
    let found = found.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    StreamErrorKind::Magic { found, hint }
}

/// The text of a hostile header, cut and cleaned for a one-line message.
fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect::<String>();
    line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().nth(120).is_some() {
        line.push('…');
    }
    line
}
