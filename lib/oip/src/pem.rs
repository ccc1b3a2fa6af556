//! Certificates and keys from PEM files.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, RootCertStore};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct PemError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: PemProblem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum PemProblem {
    /// It cannot be read, or is no PEM.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// Its certificates or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// It is a list of nothing.
    #[error("found no certificate")]
    Empty,
}

impl PemError {
    /// Names the file.
    pub fn of<E: Into<PemProblem>>(path: &Path) -> impl FnOnce(E) -> Self {
        |problem| Self { path: path.to_owned(), problem: problem.into() }
    }
}

/// The authorities of a file.
///
/// # Errors
/// A file that cannot be read, or has none.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(PemError::of(path))?;
    }
    Ok(roots)
}

/// A certificate with its intermediate certificates, and its key.
///
/// # Errors
/// The file that cannot be read, or has none.
pub fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PemError> {
    Ok((certificates(certificate)?, PrivateKeyDer::from_pem_file(key).map_err(PemError::of(key))?))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(PemError::of(path))?;
    if certificates.is_empty() {
        Err(PemProblem::Empty).map_err(PemError::of(path))
    } else {
        Ok(certificates)
    }
}
