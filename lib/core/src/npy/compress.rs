//! zstd around streams: detected by its magic number when read, on request when written.

use std::io::{self, BufReader, Cursor, Read, Seek, Write};

use super::header::read_full;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The levels whose windows every reader here accepts; those above ask for more than 8 MiB.
const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// How much memory a compressed stream may ask of its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// At most 8 MiB, which every zstd level up to 19 keeps to.
    #[default]
    Normal,
    /// At most 2 GiB: for streams written with zstd's `--ultra` or `--long`.
    Long,
}

impl Window {
    fn log(self) -> u32 {
        match self {
            Self::Normal => 23,
            Self::Long => 31,
        }
    }
}

/// A compressed stream that cannot be read: the inner error of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum ZstdError {
    /// A window larger than the limit.
    #[error("zstd: found a window of {found} bytes, expected at most {limit}{}", if *limit < 1 << 31 { " (--long allows 2 GiB)" } else { "" })]
    Window {
        /// Bytes that the frame asks of its reader.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Anything else: cut short, corrupt, or followed by something that is not zstd.
    #[error("zstd: {0}")]
    Decoder(#[source] io::Error),
}

/// The source itself, or its content if it is compressed with zstd. Reads as few bytes as the
/// magic number needs, however few the source gives at a time; of a compressed stream, its header.
///
/// What is wrong with compressed content comes as an [`io::Error`] around a [`ZstdError`] when it
/// is read.
///
/// # Errors
/// The source's.
pub fn decompress<'a>(
    mut source: impl Read + Send + 'a,
    window: Window,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut begin = [0; LONGEST_FRAME_HEADER];
    let mut found = read_full(&mut source, &mut begin[..MAGIC.len()])?;
    if begin[..found] != MAGIC {
        return Ok(Box::new(Cursor::new(begin).take(found as u64).chain(source)));
    }
    found += read_full(&mut source, &mut begin[MAGIC.len()..])?;
    let whole = Cursor::new(begin).take(found as u64).chain(source);
    let limit = 1 << window.log();
    if let Some(found) = window_size(&begin[MAGIC.len()..found]).filter(|&found| found > limit) {
        return Ok(Box::new(Refused(Some(ZstdError::Window { found, limit }))));
    }
    let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(128 * 1024, whole))?;
    // The check above gives the better message; this one also holds for later frames.
    decoder.window_log_max(window.log())?;
    Ok(Box::new(Named(decoder)))
}

/// True if a file is compressed with zstd; afterwards it is at its beginning.
///
/// # Errors
/// The file's.
pub fn is_compressed(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let mut begin = [0; MAGIC.len()];
    let found = read_full(file, &mut begin)?;
    file.rewind()?;
    Ok(begin[..found] == MAGIC)
}

/// Magic number, descriptor, window descriptor, dictionary and content size.
const LONGEST_FRAME_HEADER: usize = 4 + 1 + 1 + 4 + 8;

/// The window that a frame asks for (RFC 8878, section 3.1.1.1), from the bytes that follow its
/// magic number; `None` if they end too early.
fn window_size(header: &[u8]) -> Option<u64> {
    let (&descriptor, rest) = header.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = u64::from(*rest.first()?);
        let base = 1 << (10 + (window >> 3));
        return Some(base + base / 8 * (window & 7));
    }
    // Without a window of its own, a frame's window is its content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut content = [0; 8];
    content[..size].copy_from_slice(rest.get(dictionary..dictionary + size)?);
    let content = u64::from_le_bytes(content);
    Some(if size == 2 { content + 256 } else { content })
}

/// A stream that is nothing but an error.
struct Refused(Option<ZstdError>);

impl Read for Refused {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), |error| Err(io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}

/// A decoder whose errors say that they are zstd's.
struct Named<R>(R);

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| io::Error::new(error.kind(), ZstdError::Decoder(error)))
    }
}

/// A sink that compresses with zstd; [`finish`](Self::finish) ends the frame.
pub struct Compressor<W: Write>(zstd::Encoder<'static, W>);

impl<W: Write> Compressor<W> {
    /// A compressor at the given level (1 to 19; 3 is zstd's default). A checksum is added.
    ///
    /// # Errors
    /// Any other level: zstd has some, but their windows are over the limit of [`Window::Normal`].
    pub fn new(sink: W, level: i32) -> io::Result<Self> {
        if !LEVELS.contains(&level) {
            let (first, last) = (LEVELS.start(), LEVELS.end());
            let error = format!("found zstd level {level}, expected {first} to {last}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let mut encoder = zstd::Encoder::new(sink, level)?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    /// Ends the frame and gives the sink back.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
