//! Opens connections to one address.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Error;
use super::target::{Protocol, Target};
use crate::instance::CallError;
use crate::pem::{self, PemError};
use parm_config::Identity;

/// The longest time to connect, with TLS.
const LONGEST: Duration = Duration::from_secs(5);

/// The byte stream of a connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// The state of the socket's input, without reading from it.
    fn input(&self) -> Input;
}

/// The state of a socket's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Bytes,
    /// The peer has closed the connection.
    End,
}

impl Io for TcpStream {
    fn input(&self) -> Input {
        match SockRef::from(self).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Input::End,
            Ok(_) => Input::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Input::Nothing,
            Err(_) => Input::End,
        }
    }
}

impl Io for TlsStream<TcpStream> {
    fn input(&self) -> Input {
        match self.get_ref().0.input() {
            // They may belong to TLS itself.
            Input::Bytes => Input::Nothing,
            other => other,
        }
    }
}

/// Opens connections.
pub(super) struct Dialer {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    pub(super) fn new(target: &Target, address: SocketAddr) -> Result<Self, Error> {
        if !target.secure {
            return Ok(Self { address, tls: None });
        }
        let name = target.server_name.clone();
        let name = ServerName::try_from(name).map_err(|error| Error::Url {
            url: target.authority.to_string(),
            problem: format!("which certificates cannot name: {error}"),
        })?;
        let roots = match &target.ca {
            Some(path) => pem::authorities(path).map_err(Error::Certificates)?,
            None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        };
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config
            .map_err(|error| Error::Url { url: target.authority.to_string(), problem: error.to_string() })?
            .with_root_certificates(roots);
        let mut config = match &target.identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => pem::identity(certificate, key)
                .and_then(|(chain, private)| {
                    config.with_client_auth_cert(chain, private).map_err(PemError::of(key))
                })
                .map_err(Error::Identity)?,
        };
        config.alpn_protocols = match target.protocol {
            Protocol::Http(_) => vec![b"http/1.1".to_vec()],
            Protocol::Grpc => vec![b"h2".to_vec()],
        };
        Ok(Self { address, tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }

    pub(super) async fn dial(&self) -> Result<Box<dyn Io>, CallError> {
        let connection = tokio::time::timeout(LONGEST, self.connect()).await.unwrap_or_else(|_| {
            let text = format!("no connection within {} ms", LONGEST.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        });
        let failed = |error| CallError::Unreachable(format!("the instance cannot be reached: {error}"));
        connection.map_err(failed)
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(self.address).await?;
        // Without Nagle's algorithm small requests are sent at once.
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
        })
    }
}
