//! WAV files: the samples of one channel.
//!
//! RIFF is read by its specification: chunks of odd length are followed by a pad byte, and unknown chunks are
//! skipped. Samples are integers of 8 to 32 bits (8 bits unsigned) or floats of 32 or 64 bits, in the plain
//! or the extensible format. Programs that write to a pipe cannot seek back to set the length of the data,
//! and leave 0 or the largest number; such data extend to the end of the file.

use std::io::{self, Read};

use parm::npy::read_full;

pub use crate::error::WavError;

/// The least length that is a placeholder: 2³² − 1, and the values that some programs use below 2³¹.
const PLACEHOLDER: u32 = 0x7fff_0000;

/// The bytes of a format chunk that are read, in the extensible format.
const FORMAT: usize = 40;

/// The rest of the GUID of a subformat, after the two bytes of the format number.
const SUBFORMAT: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/// The encoding of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// This number of bytes, little-endian; one byte is unsigned.
    Integer(usize),
    Float32,
    Float64,
}

impl Encoding {
    fn bytes(self) -> usize {
        match self {
            Self::Integer(bytes) => bytes,
            Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// One sample; integers are scaled to −1 to 1.
    fn decode(self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (Self::Integer(_), &[byte]) => (f64::from(byte) - 128.0) / 128.0,
            (Self::Float32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Self::Float64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => {
                // In the upper bytes, so that sign and scale are those of 32 bits.
                let mut wide = [0; 4];
                wide[4 - bytes.len()..].copy_from_slice(bytes);
                f64::from(i32::from_le_bytes(wide)) / 2_f64.powi(31)
            }
        }
    }
}

/// A WAV file, read up to its samples.
pub(crate) struct Wav<R> {
    /// Samples a second.
    pub rate: u32,
    /// The number of channels, whose samples alternate.
    pub channels: u16,
    encoding: Encoding,
    source: R,
    /// The remaining bytes of samples; none if they extend to the end of the file.
    left: Option<u64>,
}

impl<R: Read> Wav<R> {
    /// Reads a file up to its samples.
    ///
    /// # Errors
    /// A file that is refused.
    pub(crate) fn new(mut source: R) -> Result<Self, WavError> {
        let mut header = [0; 12];
        let found = read_full(&mut source, &mut header)?;
        if header[..4] != *b"RIFF" || found == 12 && header[8..] != *b"WAVE" {
            return Err(WavError::NoWave);
        }
        if found < 12 {
            return Err(WavError::Truncated("its header"));
        }
        let riff = word(&header, 4);
        // The bytes after the length of the file, and that length.
        let (mut at, end) = (4, u64::from(riff));
        let mut format = None;
        loop {
            let mut chunk = [0; 8];
            if read_full(&mut source, &mut chunk)? < chunk.len() {
                return Err(WavError::Truncated("a chunk's header, before the samples"));
            }
            at += 8;
            let length = word(&chunk, 4);
            if chunk[..4] == *b"data" {
                let (rate, channels, encoding) = format.ok_or(WavError::NoFormat)?;
                // A length of 0 is no placeholder if the file's length says that more follows.
                let is_last = riff == 0 || riff >= PLACEHOLDER || at >= end;
                let is_known = if length == 0 { !is_last } else { length < PLACEHOLDER };
                let left = is_known.then_some(u64::from(length));
                return Ok(Self { rate, channels, encoding, source, left });
            }
            let padded = u64::from(length) + u64::from(length % 2);
            let mut rest = source.by_ref().take(padded);
            if chunk[..4] == *b"fmt " {
                let mut text = Vec::new();
                rest.by_ref().take(FORMAT as u64).read_to_end(&mut text)?;
                text.truncate(length as usize);
                format = Some(parse_format(&text)?);
            }
            io::copy(&mut rest, &mut io::sink())?;
            if rest.limit() > 0 {
                return Err(WavError::Truncated("a chunk before the samples"));
            }
            at += padded;
        }
    }

    /// Replaces `samples` by the next samples; it is empty at the end.
    ///
    /// # Errors
    /// A source that fails, or ends within the samples.
    pub(crate) fn read(&mut self, samples: &mut Vec<f64>) -> Result<(), WavError> {
        let size = self.encoding.bytes();
        let mut block = vec![0; 4096 * size];
        if let Some(left) = self.left {
            block.truncate(usize::try_from(left).unwrap_or(usize::MAX).min(block.len()));
        }
        let found = read_full(&mut self.source, &mut block)?;
        if let Some(left) = &mut self.left {
            if found < block.len() {
                return Err(WavError::Truncated("its samples"));
            }
            *left -= found as u64;
        }
        if found % size > 0 {
            return Err(WavError::Truncated("a sample"));
        }
        samples.clear();
        samples.extend(block[..found].chunks_exact(size).map(|bytes| self.encoding.decode(bytes)));
        Ok(())
    }
}

/// The rate, the channels and the encoding of a format chunk.
fn parse_format(text: &[u8]) -> Result<(u32, u16, Encoding), WavError> {
    if text.len() < 16 {
        return Err(WavError::Truncated("its format chunk"));
    }
    let half = |at: usize| u16::from_le_bytes([text[at], text[at + 1]]);
    let (channels, bits) = (half(2), half(14));
    let format = match half(0) {
        0xfffe if text.get(26..FORMAT) == Some(&SUBFORMAT) => half(24),
        plain => plain,
    };
    // Samples have whole bytes; with fewer bits, the upper ones are used.
    let encoding = match (format, bits) {
        (1, 1..=32) => Encoding::Integer(usize::from(bits.div_ceil(8))),
        (3, 32) => Encoding::Float32,
        (3, 64) => Encoding::Float64,
        _ => return Err(WavError::Format { format, bits }),
    };
    Ok((word(text, 4), channels, encoding))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
