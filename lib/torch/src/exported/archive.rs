//! The archive of an exported program: a zip of stored members under one folder.
//!
//! Refused are archives that are compressed or whose members claim more than the file has, so that reading
//! one allocates no more than its length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use zip::write::FileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::ProgramError;

/// The alignment of members in bytes, as PyTorch writes them.
const ALIGNMENT: u16 = 64;

/// The members of an archive, by their names without its folder.
#[derive(Debug)]
pub(super) struct Archive {
    zip: ZipArchive<File>,
    /// The folder, with its slash.
    folder: String,
    /// The index in the zip and the size, by name.
    members: BTreeMap<String, (usize, u64)>,
}

impl Archive {
    /// Opens an archive and reads its list of members.
    pub(super) fn open(path: &Path) -> Result<Self, ProgramError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut zip = ZipArchive::new(file).map_err(damaged)?;
        let mut folder: Option<String> = None;
        let mut members = BTreeMap::new();
        let mut total = 0_u64;
        for index in 0..zip.len() {
            let member = zip.by_index_raw(index).map_err(damaged)?;
            let name = member.name();
            if name.ends_with('/') {
                continue;
            }
            let size = member.size();
            if member.compression() != CompressionMethod::Stored || member.compressed_size() != size {
                return Err(ProgramError::Compressed { member: name.into() });
            }
            total = total.saturating_add(size);
            if total > length {
                return Err(ProgramError::Claims { member: name.into(), bytes: total, length });
            }
            let (its, rest) = name.split_once('/').unwrap_or(("", name));
            let own = folder.get_or_insert_with(|| format!("{its}/"));
            if own.strip_suffix('/') != Some(its) {
                return Err(ProgramError::Folders { found: name.into(), expected: own.clone() });
            }
            members.insert(rest.to_owned(), (index, size));
        }
        Ok(Self { zip, folder: folder.unwrap_or_default(), members })
    }

    /// The names of its members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The bytes of a member.
    pub(super) fn read(&mut self, name: &str) -> Result<Vec<u8>, ProgramError> {
        let missing = || ProgramError::Missing { member: name.into() };
        let &(index, size) = self.members.get(name).ok_or_else(missing)?;
        let mut bytes = Vec::with_capacity(size as usize);
        let member = self.zip.by_index(index).map_err(damaged)?;
        // The zip's reader checks the sum of what it reads to the end.
        member.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(missing()) }
    }

    /// The members but those that are replaced or left out, and the folder: what is needed to write the
    /// archive again.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&str) -> bool) -> Result<Kept, ProgramError> {
        let names: Vec<String> = self.names().filter(|name| is_kept(name)).map(str::to_owned).collect();
        let members = names.into_iter().map(|name| Ok((name.clone(), self.read(&name)?)));
        Ok(Kept { members: members.collect::<Result<_, ProgramError>>()?, folder: self.folder.clone() })
    }
}

/// The members that stay the same when an archive is written with other weights.
#[derive(Debug)]
pub(super) struct Kept {
    folder: String,
    members: Vec<(String, Vec<u8>)>,
}

impl Kept {
    /// Adds a member.
    pub(super) fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.members.push((name, bytes));
    }

    /// Whether a member of this name is among them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(own, _)| own == name)
    }

    /// Writes an archive: these members, and others.
    pub(super) fn write<'a>(
        &'a self,
        others: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        to: impl Write + io::Seek,
    ) -> io::Result<()> {
        let mut zip = ZipWriter::new(to);
        // Equal programs are equal files: no member has the time at which it was written.
        let options = FileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default());
        let own = self.members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        for (name, bytes) in others.into_iter().chain(own) {
            let options = options.large_file(bytes.len() as u64 >= u64::from(u32::MAX));
            zip.start_file_aligned(format!("{}{name}", self.folder), options, ALIGNMENT)?;
            zip.write_all(bytes)?;
        }
        zip.finish()?.flush()
    }
}

fn damaged(error: zip::result::ZipError) -> ProgramError {
    match error {
        zip::result::ZipError::Io(error) => ProgramError::Io(error),
        other => ProgramError::Damaged(other.to_string()),
    }
}
