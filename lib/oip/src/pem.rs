//! Certificates and keys from PEM files.

use std::path::Path;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The authorities of a file. The error does not name the file.
///
/// # Errors
/// A file that cannot be read, or has none.
pub fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
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
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let named = |path: &Path, problem: String| format!("{}: {problem}", path.display());
    let chain = certificates(certificate).map_err(|problem| named(certificate, problem))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error.to_string()))?;
    Ok((chain, private))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("found no certificate".to_owned()) } else { Ok(certificates) }
}
