//! Opening streams to read: a path, or `-` for standard input.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use parm::Dtype;
use parm::mask::MaskReader;
use parm::npy::{Items, RowReader, Widened, Window, decompress, is_compressed};

use crate::exit::Usage;
use crate::io::Io;
use crate::provenance::is_pipe;

/// Bytes of a stream, decompressed where needed.
pub type Source = Box<dyn Read + Send>;

/// The name of a stream to read: a path, or `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `-`
    Stdin,
    /// A path.
    Path(PathBuf),
}

impl FromStr for Input {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(OsString::from(name).into())
    }
}

impl From<OsString> for Input {
    /// File names need not be UTF-8.
    fn from(name: OsString) -> Self {
        if name == "-" { Self::Stdin } else { Self::Path(name.into()) }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the bytes of streams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The largest zstd window of a compressed stream.
    pub window: Window,
    /// Whether records of two bytes are bfloat16.
    pub bf16: bool,
}

impl From<Window> for Reading {
    fn from(window: Window) -> Self {
        Self { window, bf16: false }
    }
}

impl Reading {
    /// The bytes of a stream of rows.
    fn widen(self, source: Source) -> Source {
        if self.bf16 { Box::new(Widened::new(source)) } else { source }
    }
}

/// A file, at its beginning.
enum Seekable {
    Plain(File),
    Packed(Source),
}

impl Input {
    /// Opens the bytes as they are.
    ///
    /// # Errors
    /// A file that cannot be opened; standard input twice, or from a terminal.
    pub fn source(&self, io: &mut Io) -> Result<Source> {
        Ok(match self {
            Self::Stdin if io.terminals.stdin => {
                return Err(Usage::error(
                    "standard input is a terminal: expected a file, or a pipe from another tool",
                ));
            }
            Self::Stdin => {
                let stdin = io.take_stdin().context("standard input is already in use")?;
                io.recorded(Path::new("-"), true, stdin)
            }
            Self::Path(path) => {
                let file = open(path)?;
                io.recorded(path, is_pipe(&file), file)
            }
        })
    }

    /// Opens the bytes of the stream; zstd is decompressed, and bfloat16 is read as `f4` if `reading` says
    /// so.
    ///
    /// # Errors
    /// As [`source`](Self::source).
    pub fn bytes(&self, io: &mut Io, reading: impl Into<Reading>) -> Result<Source> {
        let (source, reading) = (self.source(io)?, reading.into());
        let source = decompress(source, reading.window).with_context(|| format!("{self}: cannot read"))?;
        Ok(reading.widen(source))
    }

    /// Opens a stream of rows.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or a first header that is refused.
    pub fn rows(&self, io: &mut Io, reading: impl Into<Reading>) -> Result<RowReader<Source>> {
        Ok(RowReader::new(self.bytes(io, reading)?, self.to_string())?)
    }

    /// The items of a file.
    ///
    /// # Errors
    /// Standard input or another input without a known end, or an error of [`Items::find`].
    pub fn items(&self, reading: impl Into<Reading>) -> Result<Items> {
        Ok(match self.seekable(reading.into().window)? {
            Seekable::Plain(file) => Items::find(file, self.to_string()),
            Seekable::Packed(source) => Items::find(source, self.to_string()),
        }?)
    }

    /// The bytes of some rows of a file, as a stream.
    ///
    /// # Errors
    /// As [`items`](Self::items), or an error of [`Items::part`].
    pub fn part(&self, items: &Items, rows: Range<u64>, reading: impl Into<Reading>) -> Result<Source> {
        let reading = reading.into();
        let part: Source = match self.seekable(reading.window)? {
            Seekable::Plain(file) => Box::new(items.part(file, rows)?),
            Seekable::Packed(source) => Box::new(items.part(source, rows)?),
        };
        Ok(reading.widen(part))
    }

    fn seekable(&self, window: Window) -> Result<Seekable> {
        let refused = || Usage::error(format!("--shard needs files, whose ends are known: found {self}"));
        let Self::Path(path) = self else { return Err(refused()) };
        let mut file = open(path)?;
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            return Err(refused());
        }
        let packed = is_compressed(&mut file).with_context(|| format!("{self}: cannot read"))?;
        Ok(if packed {
            Seekable::Packed(decompress(file, window).with_context(|| format!("{self}: cannot read"))?)
        } else {
            Seekable::Plain(file)
        })
    }

    /// Reads a stream of labels: one integer a row, from 0.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), or a stream that holds anything else.
    pub fn labels(&self, io: &mut Io, reading: impl Into<Reading>) -> Result<Vec<i64>> {
        let mut rows = self.rows(io, reading)?;
        let layout = rows.layout().clone();
        if layout.dtype.is_float() || layout.dtype == Dtype::Bool || !layout.shape.is_empty() {
            bail!("{self}: found rows of {layout}, expected labels: one integer a row");
        }
        let mut bytes = Vec::new();
        let count = rows.read_raw(usize::MAX, &mut bytes)?;
        let label = |(row, label): (usize, i128)| {
            ensure!(label >= 0, "{self}: row {row}: found label {label}, expected 0 or more");
            i64::try_from(label).with_context(|| format!("{self}: row {row}: found label {label}"))
        };
        let labels = layout.dtype.integers(&bytes[..count * layout.bytes()]);
        labels.into_iter().flatten().enumerate().map(label).collect()
    }

    /// Opens a mask.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), or a stream that is not a mask.
    pub fn mask(&self, io: &mut Io, reading: impl Into<Reading>) -> Result<MaskReader<Source>> {
        Ok(MaskReader::new(self.bytes(io, reading)?, self.to_string())?)
    }
}

/// Checks that standard input is named at most once, before it is read.
///
/// # Errors
/// A usage error.
pub fn check_stdin<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Result<()> {
    if inputs.into_iter().filter(|&input| *input == Input::Stdin).count() > 1 {
        return Err(Usage::error("'-' (standard input) is named twice: only one input can be read from it"));
    }
    Ok(())
}

/// Opens a file to read. A directory is an error here, not only at the first read.
fn open(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("{}: cannot open", path.display()))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        bail!("{}: found a directory, expected a file", path.display());
    }
    Ok(file)
}
