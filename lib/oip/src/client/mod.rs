//! Remote instances: model servers of the protocol.
//!
//! Each instance is one address; the host name of the URL is sent to it. A call over HTTP/1 has a connection
//! of its own from a pool; calls over gRPC share a few connections. A cancelled call closes only its own
//! connection or stream. A request that may have run is not sent again; one that was not written, or that the
//! server reports as not processed, is.
//!
//! An answer must belong to its request: its id is compared if the server returns ids, and so are the model
//! and the version. An answer to another request is [`CallError::Mismatched`], and closes the connection.
//!
//! Servers differ, and this is what is done about it. All requests have an id, since answers of some fail
//! without, and a content type of their own, never the client's. With [`Encoding::Auto`] tensors are sent in
//! binary if the server says that it knows the extension; otherwise the first inference is sent in binary
//! and, if that is refused, as JSON; what was answered stays. Redirects are not followed.

pub mod blocking;
mod dial;
mod echo;
mod failure;
mod grpc;
mod http1;
mod http2;
mod reply;
mod rest;
mod target;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::instance::{Answer, CallContext, CallError, Instance, InstanceView, within};
use crate::pem::PemError;
use crate::{InferRequest, InferResponse, ModelMetadata};
use dial::Dialer;
use echo::Echo;
use grpc::Grpc;
use http::HeaderName;
use parm_config::{Encoding, Remote};
use rest::Rest;
use target::{Protocol, Target};

/// The most bytes of an answer to a program.
pub const BODY: usize = 256 << 20;

/// The timeout of lookups of names, and of calls for readiness and metadata.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is invalid, or not that of a model server.
    #[error("found the URL '{url}', {problem}")]
    Url {
        /// The URL.
        url: String,
        /// The problem.
        problem: String,
    },
    /// The name has no address.
    #[error("{host}: {error}")]
    Lookup {
        /// The name.
        host: String,
        /// The error of the lookup.
        error: io::Error,
    },
    /// A header that is invalid, or that the configuration cannot set.
    #[error("header '{name}': {problem}")]
    Header {
        /// The header's name.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The server does not return the metadata of the model.
    #[error("{url}: model {model}: {error}")]
    Model {
        /// The server.
        url: String,
        /// The model.
        model: String,
        /// The error of its first address.
        error: CallError,
    },
    /// Certificates that cannot be read.
    #[error(transparent)]
    Certificates(PemError),
    /// A certificate to show, or its key, that cannot be read.
    #[error(transparent)]
    Identity(PemError),
}

/// A header of clients that cannot go on to instances.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassedHeaderError {
    /// No name of a header, or not in lower case.
    #[error("found '{0}', expected the name of a header in lower case")]
    Name(String),
    /// One that each call has by itself.
    #[error("found '{0}', which each call sets itself")]
    Own(HeaderName),
}

/// The addresses of a server, without duplicates.
///
/// # Errors
/// [`Error::Url`], and [`Error::Lookup`] if its name has no address, or none within 5 s.
pub async fn resolve(url: &str) -> Result<Vec<SocketAddr>, Error> {
    let target = Target::new(&Remote { url: url.to_owned(), ..Remote::default() })?;
    let failed = |error| Error::Lookup { host: target.host.clone(), error };
    let looked_up = tokio::net::lookup_host((target.host.as_str(), target.port));
    let slow = || failed(io::Error::new(io::ErrorKind::TimedOut, "no address within 5 s"));
    let found = tokio::time::timeout(ASK_TIMEOUT, looked_up).await.map_err(|_| slow())?;
    let mut addresses: Vec<SocketAddr> = found.map_err(failed)?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Checks the configuration of a server without calling it.
///
/// # Errors
/// [`Error::Url`] and [`Error::Header`].
pub fn check(remote: &Remote) -> Result<(), Error> {
    Target::new(remote).map(drop)
}

/// Checks that a header of a client may be passed on to instances.
///
/// # Errors
/// The problem.
pub fn may_be_passed_on(name: &str) -> Result<(), PassedHeaderError> {
    target::may_be_passed_on(name)
}

/// The instance at one of a server's addresses, with answers of at most `body_bytes`. Nothing is sent yet.
///
/// # Errors
/// [`Error::Url`], [`Error::Header`], [`Error::Certificates`] and [`Error::Identity`].
pub fn connect(remote: &Remote, address: SocketAddr, body_bytes: usize) -> Result<Arc<dyn Instance>, Error> {
    let target = Target::new(remote)?;
    let dialer = Dialer::new(&target, address)?;
    let client = match target.protocol {
        Protocol::Http(form) => Client::Http(Arc::new(Rest::new(target, dialer, form, body_bytes))),
        Protocol::Grpc => Client::Grpc(Arc::new(Grpc::new(target, dialer, body_bytes))),
    };
    Ok(Arc::new(client))
}

/// The server that a program's options describe.
#[must_use]
pub fn remote(url: &str, encoding: Encoding, headers: &[(String, String)], ca: Option<&Path>) -> Remote {
    Remote {
        url: url.to_owned(),
        encoding,
        headers: headers.iter().cloned().collect(),
        ca: ca.map(Path::to_owned),
        ..Remote::default()
    }
}

/// The instance at the first address of a server that has a model, and the metadata of the model under the
/// requested name.
///
/// # Errors
/// All of [`Error`].
pub async fn reach(
    remote: &Remote,
    model: &str,
    version: &str,
    body_bytes: usize,
) -> Result<(Arc<dyn Instance>, ModelMetadata), Error> {
    let mut first = None;
    for address in resolve(&remote.url).await? {
        let instance = connect(remote, address, body_bytes)?;
        match instance.metadata(model, version).await {
            // Some servers leave out the name.
            Ok(metadata) => return Ok((instance, ModelMetadata { name: model.to_owned(), ..metadata })),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    let none = || CallError::Unreachable("found no address, expected one".to_owned());
    let error = first.unwrap_or_else(none);
    Err(Error::Model { url: remote.url.clone(), model: model.to_owned(), error })
}

/// A remote instance.
#[derive(Clone)]
enum Client {
    Http(Arc<Rest>),
    Grpc(Arc<Grpc>),
}

impl Client {
    fn echo(&self) -> &Echo {
        match self {
            Self::Http(rest) => &rest.echo,
            Self::Grpc(grpc) => &grpc.echo,
        }
    }
}

impl Instance for Client {
    fn infer(&self, mut request: InferRequest, call: CallContext) -> Answer<InferResponse> {
        // Some servers fail without an id.
        if request.id.is_empty() {
            request.id = echo::new_id();
        }
        let server = self.clone();
        Box::pin(async move {
            let (name, result) = match &server {
                Client::Http(rest) => (rest.name(), rest.infer(&request, &call).await),
                Client::Grpc(grpc) => (grpc.name(), grpc.infer(&request, &call).await),
            };
            server.echo().count(name, result)
        })
    }

    fn most_rows(&self, model: &str, version: &str) -> Answer<Option<usize>> {
        let (server, model, version) = (self.clone(), model.to_owned(), version.to_owned());
        Box::pin(within(ASK_TIMEOUT, async move {
            let most = match &server {
                Client::Http(rest) => rest.max_batch_size(&model, &version).await?,
                Client::Grpc(grpc) => grpc.max_batch_size(model, version).await?,
            };
            // 0: it does not batch, or does not report a limit.
            Ok(usize::try_from(most).ok().filter(|&most| most > 0))
        }))
    }

    fn view(&self) -> InstanceView {
        self.echo().view()
    }

    fn ready(&self, model: &str, version: &str) -> Answer<()> {
        let (server, model, version) = (self.clone(), model.to_owned(), version.to_owned());
        Box::pin(within(ASK_TIMEOUT, async move {
            match &server {
                Client::Http(rest) => rest.ready(&model, &version).await,
                Client::Grpc(grpc) => grpc.ready(model, version).await,
            }
        }))
    }

    fn metadata(&self, model: &str, version: &str) -> Answer<ModelMetadata> {
        let (server, model, version) = (self.clone(), model.to_owned(), version.to_owned());
        Box::pin(within(ASK_TIMEOUT, async move {
            match &server {
                Client::Http(rest) => rest.metadata(&model, &version).await,
                Client::Grpc(grpc) => grpc.metadata(model, version).await,
            }
        }))
    }
}
