//! zstd around streams: detected by its magic number when read, on request when written.

use std::io::{self, BufReader, Cursor, Read, Write};

use super::header::read_full;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How much memory a compressed stream may ask of its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// At most 8 MiB, which every zstd level up to 19 keeps to.
    #[default]
    Normal,
    /// At most 2 GiB: for streams written with zstd's `--ultra` or `--long`.
    Long,
}

/// The source itself, or its content if it is compressed with zstd. Reads as few bytes as the
/// magic number needs, however few the source gives at a time.
///
/// # Errors
/// The source's.
pub fn decompress<'a>(
    mut source: impl Read + Send + 'a,
    window: Window,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = [0; 4];
    let found = read_full(&mut source, &mut magic)?;
    let whole = Cursor::new(magic).take(found as u64).chain(source);
    if magic != MAGIC {
        return Ok(Box::new(whole));
    }
    let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(128 * 1024, whole))?;
    decoder.window_log_max(match window {
        Window::Normal => 23,
        Window::Long => 31,
    })?;
    Ok(Box::new(decoder))
}

/// A sink that compresses with zstd; [`finish`](Self::finish) ends the frame.
pub struct Compressor<W: Write>(zstd::Encoder<'static, W>);

impl<W: Write> Compressor<W> {
    /// A compressor at the given level (1 to 19; 3 is zstd's default). A checksum is added.
    ///
    /// # Errors
    /// A level that zstd does not have.
    pub fn new(sink: W, level: i32) -> io::Result<Self> {
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
