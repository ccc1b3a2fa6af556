//! Opening streams to write: a path, or `-` for standard output.
//!
//! A new or regular file is written under a temporary name beside it and renamed when it is
//! complete, so nobody ever sees half of it. Anything else (a pipe, a device) is written directly.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use parm::npy::{Compressor, RowLayout, RowWriter};
use tempfile::NamedTempFile;

use crate::exit::Usage;
use crate::io::Io;
use crate::signals;

/// The name of a stream to write: a path, or `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `-`
    Stdout,
    /// Anything else.
    Path(PathBuf),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(if name == "-" { Self::Stdout } else { Self::Path(name.into()) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// With zstd at this level if the name ends in `.zst`, else not.
    ByName(i32),
    /// With zstd at this level.
    Zstd(i32),
}

/// A stream that is being written. Dropped without [`commit`](Self::commit), a file leaves no trace.
pub struct Output {
    name: String,
    sink: Sink,
}

enum Sink {
    Plain(Place),
    Zstd(Box<Compressor<Place>>),
}

enum Place {
    Direct(Box<dyn Write + Send>),
    Beside { file: NamedTempFile, path: PathBuf, _removed_on_signal: signals::TemporaryFile },
}

impl Target {
    /// The same name, its {} replaced by the index of a parity.
    #[must_use]
    pub fn numbered(&self, parity: usize) -> Self {
        match self {
            Self::Path(path) => Self::Path(path.to_string_lossy().replace("{}", &parity.to_string()).into()),
            Self::Stdout => Self::Stdout,
        }
    }

    /// Opens the stream to write.
    ///
    /// # Errors
    /// A file that cannot be created; binary data to a terminal; standard output twice.
    pub fn create(&self, io: &mut Io, compression: Compression) -> Result<Output> {
        let (place, level) = match self {
            Self::Stdout => {
                if io.terminals.stdout {
                    return Err(Usage::error(
                        "standard output is a terminal: redirect it, or name a file with --output",
                    ));
                }
                let stdout = io
                    .take_stdout()
                    .ok_or_else(|| Usage::error("'-' (standard output) is named twice for output"))?;
                (Place::Direct(stdout), None)
            }
            Self::Path(path) => {
                let place =
                    Place::open(path).with_context(|| format!("{}: cannot create", path.display()))?;
                (place, path.extension().filter(|&extension| extension == "zst"))
            }
        };
        let level = match compression {
            Compression::Zstd(level) => Some(level),
            Compression::ByName(default) => level.map(|_| default),
        };
        let sink = match level {
            None => Sink::Plain(place),
            Some(level) => Sink::Zstd(Box::new(Compressor::new(place, level)?)),
        };
        let name = if *self == Self::Stdout { "standard output".into() } else { self.to_string() };
        Ok(Output { name, sink })
    }

    /// Opens a stream of rows to write.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn rows(
        &self,
        io: &mut Io,
        compression: Compression,
        layout: RowLayout,
    ) -> Result<RowWriter<Output>> {
        Ok(RowWriter::new(self.create(io, compression)?, layout))
    }
}

impl Place {
    fn open(path: &Path) -> io::Result<Self> {
        // A link keeps its place; what it leads to is replaced.
        let path = match fs::canonicalize(path) {
            Ok(real) if fs::metadata(&real)?.is_file() => real,
            Ok(other) => return Ok(Self::Direct(Box::new(File::options().write(true).open(other)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // The permissions that File::create would give, less the umask; an old file keeps its own.
        let permissions =
            fs::metadata(&path).map_or_else(|_| Permissions::from_mode(0o666), |old| old.permissions());
        let file = tempfile::Builder::new()
            .prefix(".parm-")
            .suffix(".tmp")
            .permissions(permissions)
            .tempfile_in(directory)?;
        let removed = signals::TemporaryFile::new(file.path());
        Ok(Self::Beside { file, path, _removed_on_signal: removed })
    }
}

impl Output {
    /// Ends the stream: writes out what is held back and gives the file its name.
    ///
    /// # Errors
    /// The system's; the file then leaves no trace.
    pub fn commit(self) -> Result<()> {
        let place = match self.sink {
            Sink::Plain(place) => Ok(place),
            Sink::Zstd(compressor) => compressor.finish(),
        };
        place
            .and_then(|place| match place {
                Place::Direct(mut sink) => sink.flush(),
                Place::Beside { mut file, path, .. } => {
                    file.flush()?;
                    file.persist(path).map(drop).map_err(|error| error.error)
                }
            })
            .with_context(|| format!("{}: cannot write", self.name))
    }
}

/// Ends a stream of rows and gives its file its name.
///
/// # Errors
/// The system's, or rows that were announced and not written.
pub fn commit(rows: RowWriter<Output>) -> Result<()> {
    rows.finish()?.commit()
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::Plain(place) => place.write(bytes),
            Sink::Zstd(compressor) => compressor.write(bytes),
        };
        written.map_err(|error| named(&self.name, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.sink {
            Sink::Plain(place) => place.flush(),
            Sink::Zstd(compressor) => compressor.flush(),
        };
        flushed.map_err(|error| named(&self.name, &error))
    }
}

/// The same kind of error, with the stream's name in its message.
fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(sink) => sink.write(bytes),
            Self::Beside { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(sink) => sink.flush(),
            Self::Beside { file, .. } => file.flush(),
        }
    }
}
