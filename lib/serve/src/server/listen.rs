//! Accepts connections within limits, with TLS if it is configured, serves them, and shuts them down.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::budget::Budget;
use super::error::StartError;
use super::meter::MeteredService;
use super::refusals::Refusals;
use super::timeouts::{Overdue, TimedStream, Timeouts};
use parm_config::{Limits, Tls};
use parm_oip::pem;
use parm_oip::together::{Spawned, together};
use parm_oip::transport::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW};

/// The interval and the timeout of pings on silent HTTP/2 connections.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long accepting pauses when the system has no more file descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// How long a connection that shuts down waits for requests that the client may have sent already.
const LINGER: Duration = Duration::from_millis(500);

/// The least number of connections among which the memory for bodies is divided.
const FEW: usize = 16;

/// The least window of a connection over HTTP/2: the default of the standard.
const LEAST_WINDOW: u32 = 65_535;

/// A bound address with its routes.
pub(super) struct Listener {
    tcp: TcpListener,
    router: Router,
}

/// The state that all listeners share.
#[derive(Clone)]
pub(super) struct Connections {
    /// Limits of sizes, times and numbers.
    pub(super) limits: Arc<Limits>,
    /// One permit for each further connection.
    pub(super) room: Arc<Semaphore>,
    /// The memory for bodies that all connections share.
    pub(super) budget: Arc<Budget>,
    /// The present certificate.
    pub(super) tls: watch::Receiver<Option<TlsAcceptor>>,
    /// True when the server stops to accept connections.
    pub(super) stop: watch::Receiver<bool>,
}

/// Reads a certificate, its key, and the authorities of client certificates.
///
/// # Errors
/// A file that cannot be read or is invalid.
pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, StartError> {
    let Tls { certificate, key, client_ca } = tls;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = pem::authorities(ca)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| StartError::Authorities { file: ca.clone(), error })?,
            )
        }
    };
    let (chain, private) = pem::identity(certificate, key)?;
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|error| StartError::Key { file: key.clone(), error })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// The system's error.
    pub(super) async fn bind(address: SocketAddr, router: Router) -> io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind(address).await?, router })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts connections until the server stops, then waits until all connections have answered their
    /// requests and are closed.
    pub(super) async fn serve(self, mut connections: Connections) {
        // The channel is closed when all connections are.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
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
            // Without Nagle's algorithm small responses are sent at once.
            let _ = stream.set_nodelay(true);
            let tls = connections.tls.borrow().clone();
            let (router, connections, open) = (self.router.clone(), connections.clone(), open.clone());
            tokio::spawn(async move {
                let _open = (open, permit);
                match tls {
                    None => converse(stream, router, connections).await,
                    Some(tls) => {
                        let longest = Duration::from_millis(connections.limits.header_ms);
                        match tokio::time::timeout(longest, tls.accept(stream)).await {
                            Ok(Ok(stream)) => converse(stream, router, connections).await,
                            Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
                            Err(_) => tracing::debug!("the TLS handshake timed out"),
                        }
                    }
                }
            });
        }
        drop((self.tcp, open));
        let _ = all_closed.recv().await;
    }
}

/// Waits for a permit, then accepts a connection.
async fn accept(tcp: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = tcp.accept().await?;
    Ok((stream, permit))
}

impl Connections {
    /// The flow-control window of a new connection over HTTP/2: its share of `limits.bytes` among the open
    /// connections. A few connections can send fast, and many together fill at most a few times that memory.
    fn window(&self) -> u32 {
        let open = self.limits.connections.saturating_sub(self.room.available_permits());
        let share = self.limits.bytes / open.max(FEW);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(LEAST_WINDOW, CONNECTION_WINDOW)
    }
}

/// Serves a connection until one side closes it.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    connections: Connections,
) {
    let Connections { limits, budget, mut stop, .. } = connections.clone();
    let streams = Spawned::default();
    let mut builder = Builder::new(streams.clone());
    // `Timeouts` has the timeouts of headers and of idle connections.
    builder
        .http1()
        .header_read_timeout(None)
        // A client may close its sending half and wait for the response.
        .half_close(true)
        .max_buf_size(limits.header_bytes.max(8192));
    let window = connections.window();
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW.min(window))
        .initial_connection_window_size(window)
        .max_frame_size(FRAME)
        .max_concurrent_streams(u32::try_from(limits.requests).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        // Many cancelled calls are not an attack.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let timeouts = Timeouts::new(&limits);
    let service = MeteredService {
        router: TowerToHyperService::new(router),
        limits,
        budget,
        timeouts: Arc::clone(&timeouts),
    };
    let stream = TimedStream::new(stream, Arc::clone(&timeouts));
    let stream = TokioIo::new(Refusals::new(stream, Arc::clone(&timeouts)));
    let connection = async {
        let mut connection = pin!(builder.serve_connection(stream, service));
        tokio::select! {
            biased;
            end = connection.as_mut() => return end,
            overdue = timeouts.overdue() => {
                tracing::debug!(?overdue, "a connection is closed");
                if overdue != Overdue::Idle {
                    return Ok(());
                }
            }
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // Open requests are answered; over HTTP/2 the client learns which ones were not.
        connection.as_mut().graceful_shutdown();
        loop {
            tokio::select! {
                biased;
                end = connection.as_mut() => return end,
                _ = timeouts.overdue() => return Ok(()),
                () = tokio::time::sleep(LINGER) => {
                    if timeouts.is_idle() {
                        return Ok(());
                    }
                }
            }
        }
    };
    if let Err(error) = together(connection, streams).await {
        tracing::debug!(error = %error, "a connection failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The windows of `count` connections in order of opening, which share `bytes`.
    fn windows(bytes: usize, count: usize) -> Vec<usize> {
        let limits = Limits { bytes, connections: count, ..Limits::default() };
        let connections = Connections {
            room: Arc::new(Semaphore::new(count)),
            budget: Budget::new(bytes),
            limits: Arc::new(limits),
            tls: watch::channel(None).1,
            stop: watch::channel(false).1,
        };
        let mut permits = Vec::new();
        let window = |_| {
            permits.push(Arc::clone(&connections.room).try_acquire_owned().unwrap());
            connections.window() as usize
        };
        (0..count).map(window).collect()
    }

    #[test]
    fn windows_follow_from_the_bytes_that_all_connections_share() {
        // A few connections get large windows.
        assert_eq!(windows(1 << 30, 16)[15], 64 << 20);
        for (bytes, count) in [(1 << 30, 4096), (256 << 20, 1000)] {
            let all: usize = windows(bytes, count).iter().sum();
            assert!(all < 8 * bytes, "{count} connections may send {all} bytes of {bytes}");
        }
        // No window is smaller than the standard's default.
        assert_eq!(windows(1 << 20, 100)[99], 65_535);
    }
}
