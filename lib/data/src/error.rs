//! Errors of data sets, with the file and the problem.

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

/// A file of a data set that is refused: its path; the source is the problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct DataError {
    /// The file or directory.
    pub path: PathBuf,
    /// The problem.
    #[source]
    pub fault: Fault,
}

/// The problem of a file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    /// It cannot be opened, read or written.
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

/// Adds the file to an error.
pub trait At<T> {
    /// The same result, with the path in its error.
    fn at(self, path: &Path) -> Result<T, DataError>;
}

impl<T, E: Into<Fault>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, DataError> {
        self.map_err(|fault| DataError { path: path.to_owned(), fault: fault.into() })
    }
}

/// Adds the failed operation to an error.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|error| Fault::Io(what, error))
    }
}
