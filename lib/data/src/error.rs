//! What is wrong with a data set: which file, and what about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::boxes::BoxError;
use crate::cifar::CifarError;
use crate::fetch::FetchError;
use crate::folder::FolderError;
use crate::idx::IdxError;
use crate::picture::PictureError;
use crate::speech::SpeechError;

/// A file of a data set that is refused: its path, and as the source what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct DataError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    /// It cannot be opened, read or written: says which, and why.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Boxes(#[from] BoxError),
    #[error(transparent)]
    Cifar(#[from] CifarError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Idx(#[from] IdxError),
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Speech(#[from] SpeechError),
}

/// Says of an error which file it is about.
pub trait At<T> {
    /// The same result, its error with the path.
    fn at(self, path: &Path) -> Result<T, DataError>;
}

impl<T, E: Into<Fault>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, DataError> {
        self.map_err(|fault| DataError { path: path.to_owned(), fault: fault.into() })
    }
}

/// Names what could not be done.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|error| Fault::Io(what, error))
    }
}
