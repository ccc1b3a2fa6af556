//! Directories of files: a class per directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{At, DataError, Doing};

/// A directory that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum FolderError {
    /// No directory in it.
    #[error("found no directories in it, expected one for each class")]
    NoClasses,
    /// A class of nothing.
    #[error("found no file of type {0}, expected at least one of the class")]
    EmptyClass(String),
}

/// The examples of a directory that has a directory for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The names of the classes, sorted: a label is an index into it.
    pub classes: Vec<String>,
    /// Files and their labels: class by class, and sorted by name within each.
    pub files: Vec<(PathBuf, usize)>,
    /// How many files in the directories of classes are of another type.
    pub ignored: usize,
}

impl Folder {
    /// Lists a directory. Files of these types (endings of names, in lower case) are examples, names
    /// that begin with a dot are hidden, and the directories named in `skip` are no classes. Names are
    /// sorted byte by byte, as Python sorts them; directories within classes are not entered.
    pub fn open(directory: &Path, types: &[&str], skip: &[&str]) -> Result<Self, DataError> {
        let mut folder = Self { classes: Vec::new(), files: Vec::new(), ignored: 0 };
        for name in names(directory)? {
            let path = directory.join(&name);
            if skip.iter().any(|&skipped| name == *skipped) || !path.is_dir() {
                continue;
            }
            let (label, before) = (folder.classes.len(), folder.files.len());
            folder.classes.push(name.to_string_lossy().into_owned());
            for file in names(&path)? {
                let file = path.join(file);
                let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
                if ending.is_some_and(|ending| types.contains(&&*ending)) {
                    folder.files.push((file, label));
                } else {
                    folder.ignored += 1;
                }
            }
            if folder.files.len() == before {
                return Err(FolderError::EmptyClass(types.join(", "))).at(&path);
            }
        }
        if folder.classes.is_empty() {
            return Err(FolderError::NoClasses).at(directory);
        }
        Ok(folder)
    }
}

/// The names in a directory that are not hidden, sorted.
fn names(directory: &Path) -> Result<Vec<OsString>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).doing("read").at(directory)? {
        let name = entry.doing("read").at(directory)?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
