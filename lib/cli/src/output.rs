//! Opening streams to write: a path, or `-` for standard output.
//!
//! Links are followed, and kept. A new or regular file is written under a temporary name beside it and
//! renamed when it is complete, so that no incomplete file is visible. Anything else (a pipe, a device, a
//! descriptor such as `/dev/stdout`) is written directly.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use parm::npy::{Compressor, RowLayout, RowWriter};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::exit::Usage;
use crate::io::{Io, was_closed};
use crate::signals;

/// The name of a stream to write: a path, or `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `-`
    Stdout,
    /// A path.
    Path(PathBuf),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(OsString::from(name).into())
    }
}

impl From<OsString> for Target {
    /// File names need not be UTF-8.
    fn from(name: OsString) -> Self {
        if name == "-" { Self::Stdout } else { Self::Path(name.into()) }
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
    /// With zstd at this level if the name ends in `.zst`, otherwise not.
    ByName(i32),
    /// With zstd at this level.
    Zstd(i32),
}

/// A stream that is being written. If it is dropped without [`commit`](Self::commit), no file is created.
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
    /// The name with {} replaced by the index of a parity query.
    #[must_use]
    pub fn numbered(&self, parity: usize) -> Self {
        match self {
            Self::Path(path) => {
                let (mut name, mut rest) = (Vec::new(), path.as_os_str().as_bytes());
                while let Some(at) = rest.windows(2).position(|bytes| bytes == b"{}") {
                    name.extend_from_slice(&rest[..at]);
                    name.extend_from_slice(parity.to_string().as_bytes());
                    rest = &rest[at + 2..];
                }
                name.extend_from_slice(rest);
                Self::Path(OsString::from_vec(name).into())
            }
            Self::Stdout => Self::Stdout,
        }
    }

    /// Opens the stream to write.
    ///
    /// # Errors
    /// A file that cannot be created; binary data to a terminal; standard output twice.
    pub fn create(&self, io: &mut Io, compression: Compression) -> Result<Output> {
        let (place, level) = match self {
            Self::Stdout => (Place::stdout(io)?, None),
            Self::Path(path) => {
                let cannot = || format!("{}: cannot create", path.display());
                let place = match Destination::of(path).with_context(cannot)? {
                    Destination::Descriptor(1) => Place::stdout(io)?,
                    Destination::Descriptor(other) => Place::descriptor(other).with_context(cannot)?,
                    Destination::Direct => Place::direct(path).with_context(cannot)?,
                    Destination::File(file) => Place::beside(file).with_context(cannot)?,
                };
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

/// The kind of file at a path.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    /// A descriptor of this process, such as `/dev/stdout` and `/dev/fd/3`.
    Descriptor(i32),
    /// A pipe, a device, or another file that is not regular.
    Direct,
    /// A new or regular file at this path, which is not a link.
    File(PathBuf),
}

impl Destination {
    /// Follows the links of a path, also to a file that does not exist yet.
    fn of(path: &Path) -> io::Result<Self> {
        let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
        let is_file = match fs::metadata(path) {
            Ok(there) => there.is_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let mut path = path.to_owned();
        for _ in 0..=MAX_LINKS {
            let Some(name) = path.file_name().map(OsStr::to_owned) else {
                return Err(io::ErrorKind::IsADirectory.into());
            };
            let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            let parent = fs::canonicalize(parent)?;
            if parent == own
                && let Some(descriptor) = name.to_str().and_then(|name| name.parse().ok())
            {
                return Ok(Self::Descriptor(descriptor));
            }
            path = parent.join(name);
            match fs::read_link(&path) {
                Ok(link) => path = parent.join(link),
                // The path is not a link, or does not exist.
                Err(_) if is_file => return Ok(Self::File(path)),
                Err(_) => return Ok(Self::Direct),
            }
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }
}

/// The most links that are followed, as in Linux.
const MAX_LINKS: usize = 40;

impl Place {
    fn stdout(io: &mut Io) -> Result<Self> {
        if io.terminals.stdout {
            return Err(Usage::error(
                "standard output is a terminal: redirect it, or name a file with --output",
            ));
        }
        let stdout = io.take_stdout();
        stdout
            .map(Self::Direct)
            .ok_or_else(|| Usage::error("'-' (standard output) is named twice for output"))
    }

    /// A descriptor that the process inherited.
    fn descriptor(number: i32) -> io::Result<Self> {
        if was_closed(number) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: this call copies the descriptor of that number, or fails if there is none.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
        if copy == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the copy was made just now, and nothing else uses it.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Self::Direct(Box::new(File::from(copy))))
    }

    fn direct(path: &Path) -> io::Result<Self> {
        Ok(Self::Direct(Box::new(File::options().write(true).open(path)?)))
    }

    fn beside(path: PathBuf) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        // A new file gets the permissions of File::create, less the umask; an old file keeps its own.
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
    /// Ends the stream: flushes it, and gives the file its name.
    ///
    /// # Errors
    /// The system's; no file is created then.
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

/// Ends a stream of rows, and gives its file its name.
///
/// # Errors
/// The system's, or rows that were announced but not written.
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

/// Lines of JSON, to a file if there is one.
pub struct Lines(Option<BufWriter<Output>>);

impl Lines {
    /// Creates the file.
    ///
    /// # Errors
    /// As [`Target::create`].
    pub fn new(target: Option<&Target>, io: &mut Io) -> Result<Self> {
        let create = |target: &Target| target.create(io, Compression::ByName(3)).map(BufWriter::new);
        Ok(Self(target.map(create).transpose()?))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&mut self, line: &impl Serialize) -> io::Result<()> {
        let Some(lines) = &mut self.0 else { return Ok(()) };
        serde_json::to_writer(&mut *lines, line)?;
        lines.write_all(b"\n")
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The system's.
    pub fn commit(self) -> Result<()> {
        let Some(lines) = self.0 else { return Ok(()) };
        lines.into_inner().map_err(IntoInnerError::into_error)?.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_path_leads_to_decides() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir(at("store")).unwrap();
        fs::write(at("store/old"), "").unwrap();
        for (link, to) in [
            ("to-old", "store/old"),
            ("to-new", "store/new"),
            ("store/up", "../to-new"),
            ("to-up", "store/up"),
            ("to-stdout", "/proc/self/fd/1"),
            ("to-link", "to-stdout"),
            ("folder", "store"),
            ("to-null", "/dev/null"),
            ("loop", "loop"),
            ("nowhere", "missing/new"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        let (old, new) = (Destination::File(at("store/old")), Destination::File(at("store/new")));
        for (name, expected) in [
            ("store/old", &old),
            ("store/new", &new),
            ("to-old", &old),
            ("to-new", &new),
            ("to-up", &new),
            ("folder/new", &new),
            ("to-stdout", &Destination::Descriptor(1)),
            ("to-link", &Destination::Descriptor(1)),
            ("to-null", &Destination::Direct),
        ] {
            assert_eq!(Destination::of(&at(name)).unwrap(), *expected, "{name}");
        }
        for name in ["/dev/fd/7", "/proc/self/fd/7"] {
            assert_eq!(Destination::of(Path::new(name)).unwrap(), Destination::Descriptor(7));
        }
        assert_eq!(Destination::of(Path::new("/dev/stdout")).unwrap(), Destination::Descriptor(1));
        for name in ["loop", "nowhere", "store/.."] {
            assert!(Destination::of(&at(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn braces_are_numbered_in_names_of_any_bytes() {
        let target = Target::from(OsString::from_vec(b"p\xe9-{}-{}.npy".to_vec()));
        assert_eq!(target.numbered(12), Target::from(OsString::from_vec(b"p\xe9-12-12.npy".to_vec())));
        assert_eq!(Target::Stdout.numbered(1), Target::Stdout);
    }
}
