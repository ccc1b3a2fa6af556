//! Connections: accepted within limits, with TLS where that is configured, and closed in order.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Limits, Tls};
use crate::together::{Spawned, together};
use crate::transport::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW};

/// How often a silent HTTP/2 connection is asked whether it lives, and how long it has to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long the loop waits when the system has no more file descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// An address that is listened at.
pub(super) struct Listener {
    tcp: TcpListener,
    router: Router,
}

/// What all listeners share.
#[derive(Clone)]
pub(super) struct Connections {
    /// Limits of sizes, times and numbers.
    pub(super) limits: Arc<Limits>,
    /// Room for connections.
    pub(super) room: Arc<Semaphore>,
    /// The certificate of now.
    pub(super) tls: watch::Receiver<Option<TlsAcceptor>>,
    /// True as soon as no more connections are accepted.
    pub(super) stop: watch::Receiver<bool>,
}

/// Reads a certificate and its key.
///
/// # Errors
/// A file that cannot be read, or that is none.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let named = |path: &Path, error: String| format!("{}: {error}", path.display());
    let pem =
        |path: &Path, error: tokio_rustls::rustls::pki_types::pem::Error| named(path, error.to_string());
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(&tls.certificate, error))?;
    if chain.is_empty() {
        return Err(named(&tls.certificate, "found no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| pem(&tls.key, error))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| named(&tls.key, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listener {
    /// Listens at an address.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn bind(address: SocketAddr, router: Router) -> io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind(address).await?, router })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts connections until it is told to stop, and then waits until those that there are have
    /// answered what they were asked.
    pub(super) async fn serve(self, mut connections: Connections) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.tcp, &connections.room) => accepted,
                _ = connections.stop.wait_for(|stop| *stop) => break,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                    continue;
                }
            };
            // Small answers are not to wait for more.
            let _ = stream.set_nodelay(true);
            let tls = connections.tls.borrow().clone();
            let (router, limits, watcher) =
                (self.router.clone(), Arc::clone(&connections.limits), graceful.watcher());
            tokio::spawn(async move {
                match tls {
                    None => converse(stream, router, &limits, watcher, permit).await,
                    Some(tls) => {
                        let longest = Duration::from_millis(limits.header_ms);
                        match tokio::time::timeout(longest, tls.accept(stream)).await {
                            Ok(Ok(stream)) => converse(stream, router, &limits, watcher, permit).await,
                            Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
                            Err(_) => tracing::debug!("no TLS in time"),
                        }
                    }
                }
            });
        }
        drop(self.tcp);
        graceful.shutdown().await;
    }
}

/// A connection, when there is room for one more.
async fn accept(tcp: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = tcp.accept().await?;
    Ok((stream, permit))
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    limits: &Limits,
    watcher: hyper_util::server::graceful::Watcher,
    _permit: OwnedSemaphorePermit,
) {
    let streams = Spawned::default();
    let mut builder = Builder::new(streams.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_ms))
        .max_buf_size(limits.header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(u32::try_from(limits.requests).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        // Clients that give up calls are no attack here.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = together(watcher.watch(connection), streams).await {
        tracing::debug!(error = %error, "a connection broke off");
    }
}
