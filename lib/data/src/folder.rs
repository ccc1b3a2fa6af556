//! Directories with one directory of files for each class.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use crate::error::FolderError;
use crate::error::{At, DataError, Doing};

/// The examples of a directory that has a directory for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The names of the classes, sorted: a label is an index into it.
    pub classes: Vec<String>,
    /// Files with their labels: by class, within a class by directory, and sorted by name.
    pub files: Vec<(PathBuf, usize)>,
    /// Files that are no examples: other types, broken and circular links, and files outside of the classes.
    pub left_out: Vec<PathBuf>,
    /// The number of hidden files and directories, whose names begin with a dot. They are left out.
    pub hidden: usize,
}

impl Folder {
    /// Lists a directory. Files of these types (endings of names, in lower case) are examples of the class
    /// whose directory they are in, at any depth; names that begin with a dot are hidden, and the
    /// directories named in `skip` are no classes. Names are sorted byte by byte, as torchvision sorts them.
    pub fn open(directory: &Path, types: &[&str], skip: &[&str]) -> Result<Self, DataError> {
        let mut folder = Self { classes: Vec::new(), files: Vec::new(), left_out: Vec::new(), hidden: 0 };
        for name in folder.names(directory)? {
            let path = directory.join(&name);
            if !path.is_dir() {
                if is_of(&path, types) {
                    folder.left_out.push(path);
                }
                continue;
            }
            if skip.iter().any(|&skipped| name == *skipped) {
                continue;
            }
            let mut files = Vec::new();
            folder.walk(&path, types, &mut vec![identity(directory)?], &mut files)?;
            if files.is_empty() {
                return Err(FolderError::EmptyClass(types.join(", "))).at(&path);
            }
            files.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
            let label = folder.classes.len();
            folder.files.extend(files.into_iter().map(|file| (file, label)));
            folder.classes.push(name.to_string_lossy().into_owned());
        }
        if folder.classes.is_empty() {
            return Err(FolderError::NoClasses).at(directory);
        }
        Ok(folder)
    }

    /// Adds the examples of a directory and those below it. `above` are the directories that it is in.
    fn walk(
        &mut self,
        directory: &Path,
        types: &[&str],
        above: &mut Vec<(u64, u64)>,
        files: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let this = identity(directory)?;
        if above.contains(&this) {
            self.left_out.push(directory.to_owned());
            return Ok(());
        }
        above.push(this);
        for name in self.names(directory)? {
            let path = directory.join(name);
            match fs::metadata(&path) {
                Ok(there) if there.is_dir() => self.walk(&path, types, above, files)?,
                Ok(there) if there.is_file() && is_of(&path, types) => files.push(path),
                _ => self.left_out.push(path),
            }
        }
        above.pop();
        Ok(())
    }

    /// The names in a directory that are not hidden, sorted; counts those that are.
    fn names(&mut self, directory: &Path) -> Result<Vec<OsString>, DataError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).doing("read").at(directory)? {
            let name = entry.doing("read").at(directory)?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                self.hidden += 1;
            } else {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The identity of a directory, independent of links.
fn identity(directory: &Path) -> Result<(u64, u64), DataError> {
    let directory_data = fs::metadata(directory).doing("read").at(directory)?;
    Ok((directory_data.dev(), directory_data.ino()))
}

/// Whether a file's name has one of these endings.
fn is_of(path: &Path, types: &[&str]) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| types.contains(&&*ending))
}

/// Files of one directory stay together, before those of the directories within it.
fn sort_key(path: &Path) -> (&[u8], &[u8]) {
    let parent = path.parent().map_or(&[][..], |parent| parent.as_os_str().as_encoded_bytes());
    (parent, path.as_os_str().as_encoded_bytes())
}
