//! A server that cannot start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use parm_oip::pem::PemError;
use tokio_rustls::rustls;

/// An address that cannot be bound, or a file of keys or certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address that cannot be bound.
    #[error("{address}: {error}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// A file of keys that cannot be read.
    #[error("{}: {error}", file.display())]
    Keys {
        /// The file.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file of keys without one.
    #[error("{}: found no key, expected one on each line", .0.display())]
    NoKey(PathBuf),
    /// A file of certificates that cannot be read, or is none.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Authorities that cannot verify clients.
    #[error("{}: {error}", file.display())]
    Authorities {
        /// Their file.
        file: PathBuf,
        /// Why.
        error: rustls::server::VerifierBuilderError,
    },
    /// A key that does not fit its certificate.
    #[error("{}: {error}", file.display())]
    Key {
        /// The file of the key.
        file: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// TLS that cannot be set up at all.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}
