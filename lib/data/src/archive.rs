//! Unpacks downloads: `.gz`, and `.tar.gz` or `.tgz`.
//!
//! Archives are not trusted: only files and directories below the target are made, no links, nothing is
//! overwritten, and the size is limited.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;

pub use crate::error::ArchiveError;
use crate::error::{At, DataError, Doing, Fault};

/// The limits of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

/// More than any of the sets has.
pub const LIMITS: Limits = Limits { bytes: 1 << 34, entries: 1 << 20 };

/// Unpacks a file by the ending of its name into a directory; a file of another ending is copied.
pub fn unpack(file: &Path, into: &Path, limits: Limits) -> Result<(), DataError> {
    let is = |path: &Path, ending: &str| path.extension().is_some_and(|found| found == ending);
    let name = Path::new(file.file_name().unwrap_or_default());
    let inner = Path::new(name.file_stem().unwrap_or_default());
    let open = || File::open(file).doing("open").map(BufReader::new);
    let done = if is(name, "tgz") || (is(name, "gz") && is(inner, "tar")) {
        open().and_then(|source| untar(MultiGzDecoder::new(source), into, limits))
    } else if is(name, "gz") {
        open().and_then(|source| save(&mut MultiGzDecoder::new(source), &into.join(inner), limits.bytes))
    } else {
        open().and_then(|mut source| save(&mut source, &into.join(name), limits.bytes))
    };
    done.map(drop).at(file)
}

/// The kind of an entry that is neither a file nor a directory.
fn word(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Symlink | tar::EntryType::Link => "link",
        tar::EntryType::Char | tar::EntryType::Block => "device",
        tar::EntryType::Fifo => "pipe",
        tar::EntryType::GNUSparse => "sparse file",
        _ => "entry of another kind",
    }
}

/// Unpacks the entries of a tar stream.
fn untar(source: impl Read, into: &Path, limits: Limits) -> Result<u64, Fault> {
    let mut archive = tar::Archive::new(source);
    let mut left = limits.bytes;
    for (count, entry) in (0..).zip(archive.entries().doing("read")?) {
        let mut entry = entry.doing("read")?;
        if count >= limits.entries {
            return Err(ArchiveError::TooMany(limits.entries).into());
        }
        let kind = entry.header().entry_type();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = into.join(below(&entry.path().doing("read")?).ok_or(ArchiveError::Outside(name.clone()))?);
        if kind.is_pax_global_extensions() {
        } else if kind.is_dir() {
            fs::create_dir_all(&path).doing("make a directory")?;
        } else if kind.is_file() {
            fs::create_dir_all(path.parent().unwrap_or(into)).doing("make a directory")?;
            if path.symlink_metadata().is_ok() {
                return Err(ArchiveError::Twice(name).into());
            }
            let expected = entry.size();
            if expected > left {
                return Err(ArchiveError::TooLarge(limits.bytes).into());
            }
            let found = save(&mut entry, &path, left)?;
            if found != expected {
                return Err(ArchiveError::Truncated { entry: name, found, expected }.into());
            }
            left -= found;
        } else {
            return Err(ArchiveError::Kind { entry: name, kind: word(kind) }.into());
        }
    }
    Ok(limits.bytes - left)
}

/// The path of an entry without '.'; none if it may lead outside of the target.
fn below(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// Writes a new file of at most this many bytes; returns their number.
fn save(source: &mut impl Read, path: &Path, most: u64) -> Result<u64, Fault> {
    let mut file = File::create_new(path).doing("write")?;
    let written = io::copy(&mut source.take(most.saturating_add(1)), &mut file).doing("unpack")?;
    if written > most {
        return Err(ArchiveError::TooLarge(most).into());
    }
    Ok(written)
}
