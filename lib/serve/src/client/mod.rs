//! Remote instances: model servers of the protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Remote;
use crate::instance::Instance;

/// The addresses of a server.
///
/// # Errors
/// A URL that is none, or a name that cannot be looked up.
pub async fn resolve(url: &str) -> Result<Vec<SocketAddr>, String> {
    let _ = url;
    Err("not yet".to_owned())
}

/// The instance at one of a server's addresses.
///
/// # Errors
/// A URL that is none, or certificates that cannot be read.
pub fn connect(remote: &Remote, address: SocketAddr, body_bytes: usize) -> Result<Arc<dyn Instance>, String> {
    let _ = (remote, address, body_bytes);
    Err("not yet".to_owned())
}
