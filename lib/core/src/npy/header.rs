//! One item's header: strict on sizes, lenient in spelling.
//!
//! The header is a Python dictionary. Keys come in any order and spacing, strings in either quotes and
//! with the `u` of Python 2, lengths with its `L`, and types by every name that `NumPy` reads.

use std::io::{self, Read};

use ndarray_npy::npy::header::{Header, Layout};
use py_literal::Value;

use super::{RowLayout, StreamErrorKind};
use crate::dtype::{ByteOrder, Dtype};

/// The longest header that is read, in characters: `NumPy`'s own limit.
pub const MAX_HEADER: usize = 10_000;

/// The most dimensions that an item may have: `NumPy`'s own limit.
pub const MAX_DIMENSIONS: usize = 64;

/// What a header must be, for messages.
const DICTIONARY: &str = "a dictionary of 'descr', 'fortran_order' and 'shape'";

/// The keys that a header has, all of them and no others.
const KEYS: [&str; 3] = ["descr", "fortran_order", "shape"];

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The order of an item's elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The last axis varies fastest; rows are contiguous.
    C,
    /// The first axis varies fastest; rows are interleaved.
    Fortran,
}

/// How elements lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As the layout says.
    AsTyped,
    /// As bfloat16, the upper half of the layout's `f4`; ml_dtypes writes them as records, `V2`.
    Bfloat16,
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
    /// How the elements lie in the file.
    pub stored: Stored,
}

impl ItemHeader {
    /// Bytes of data that follow the header.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.rows * self.row_bytes()
    }

    /// Bytes of one row in the file.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        let bytes = self.layout.bytes() as u64;
        match self.stored {
            Stored::AsTyped => bytes,
            Stored::Bfloat16 => bytes / 2,
        }
    }

    /// The header as it stands in a stream, in version 1.0.
    ///
    /// # Errors
    /// More rows than fit the address space.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let rows = usize::try_from(self.rows).map_err(io::Error::other)?;
        let descr = match (self.stored, self.byte_order) {
            (Stored::Bfloat16, ByteOrder::Little) => "<V2".into(),
            (Stored::Bfloat16, ByteOrder::Big) => ">V2".into(),
            (Stored::AsTyped, ByteOrder::Little) => self.layout.dtype.descr(),
            (Stored::AsTyped, ByteOrder::Big) => format!(">{}", self.layout.dtype.name()),
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
        Self::parse(&String::from_utf8_lossy(&bytes[8 + length_bytes..])).map(Some)
    }

    /// Checks the text of a header.
    fn parse(text: &str) -> Result<Self, StreamErrorKind> {
        let malformed =
            |found: String, expected| StreamErrorKind::Header(format!("{found}, expected {expected}"));
        let entries = entries(text)
            .ok_or_else(|| malformed(format!("found '{}'", one_line(text.trim())), DICTIONARY))?;
        if let Some((key, _)) = entries.iter().find(|(key, _)| !KEYS.contains(key)) {
            return Err(malformed(format!("found the key '{}'", one_line(key)), DICTIONARY));
        }
        let value = |name| {
            // Of keys that come twice Python takes the last.
            let found = entries.iter().rev().find(|(key, _)| *key == name);
            let missing = || malformed(format!("found no key '{name}'"), DICTIONARY);
            found.map(|&(_, value)| value).ok_or_else(missing)
        };
        let [descr, fortran_order, shape] = [value(KEYS[0])?, value(KEYS[1])?, value(KEYS[2])?];
        let (dtype, byte_order, stored) =
            element(descr).map_err(|what| StreamErrorKind::Dtype { found: one_line(descr), what })?;
        let is_fortran = match fortran_order {
            "True" => true,
            "False" => false,
            other => {
                return Err(malformed(format!("found fortran_order {}", one_line(other)), "True or False"));
            }
        };
        let shape = lengths(shape).ok_or_else(|| {
            malformed(format!("found shape {}", one_line(shape)), "a tuple of lengths below 2^64")
        })?;
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
        // With one axis the two orders are the same.
        let order = if is_fortran && !row_shape.is_empty() { Order::Fortran } else { Order::C };
        Ok(Self { rows: *rows as u64, layout: RowLayout::new(dtype, row_shape), byte_order, order, stored })
    }
}

/// The keys of a dictionary and the texts of their values; none if it is no dictionary.
fn entries(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut entries = Vec::new();
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    while !rest.starts_with('}') {
        let (key, after) = string(rest)?;
        let after = after.trim_start().strip_prefix(':')?;
        let (value, after) = after.split_at(value_end(after)?);
        entries.push((key, value.trim()));
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    (rest == "}").then_some(entries)
}

/// A string's text, and what follows it. Strings with escapes are none of a header's.
fn string(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix(['u', 'U']).unwrap_or(text);
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let (inside, after) = text[1..].split_once(quote)?;
    (!inside.contains('\\')).then_some((inside, after))
}

/// Where a value ends: before the comma or brace that is within no brackets and no string.
fn value_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => drop(characters.next()),
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, ',' | '}') if depth == 0 => return Some(at),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// The element type that a descriptor names; else what the descriptor is.
fn element(descr: &str) -> Result<(Dtype, ByteOrder, Stored), &'static str> {
    match string(descr) {
        Some((">V2", "")) => Ok((Dtype::F32, ByteOrder::Big, Stored::Bfloat16)),
        Some(("<V2" | "|V2" | "=V2" | "V2", "")) => Ok((Dtype::F32, ByteOrder::Little, Stored::Bfloat16)),
        Some((name, "")) => {
            let (dtype, byte_order) = Dtype::parse(name)?;
            Ok((dtype, byte_order, Stored::AsTyped))
        }
        _ if descr.starts_with('[') => Err("structured records"),
        _ => Err("an unknown type"),
    }
}

/// The lengths of a tuple, with or without the `L` of Python 2.
fn lengths(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    let mut lengths: Vec<_> = inside.split(',').map(str::trim).collect();
    match lengths.as_slice() {
        [""] => return Some(Vec::new()),
        // A number in brackets is no tuple.
        [_] => return None,
        [.., ""] => drop(lengths.pop()),
        _ => {}
    }
    let length = |text: &str| {
        let digits = text.strip_suffix(['L', 'l']).unwrap_or(text);
        // Python 2 reads 010 as 8, Python 3 not at all.
        let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_octal = digits.len() > 1 && digits.starts_with('0');
        digits.parse().ok().filter(|_| is_decimal && !is_octal)
    };
    lengths.into_iter().map(length).collect()
}

/// Appends `count` bytes of the header to what was read so far.
fn read_more(source: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> Result<(), StreamErrorKind> {
    let begin = bytes.len();
    let expected = begin + count;
    bytes.resize(expected, 0);
    let found = begin + read_full(source, &mut bytes[begin..])?;
    if found < expected { Err(StreamErrorKind::TruncatedHeader { found, expected }) } else { Ok(()) }
}

/// Reads until the buffer is full or the source ends; a pipe may give a byte at a time. Returns the bytes read.
///
/// # Errors
/// The source's.
pub fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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
