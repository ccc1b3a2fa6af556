//! Calls over HTTP/1.1: one at a time on each connection, which is kept for the next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::client::conn::http1::{SendRequest, handshake};

use super::dial::Dialer;
use super::failure::{broke, is_closed};
use super::reply::{Reply, receive};
use crate::instance::CallError;
use crate::oip::http::Body;

/// The most connections that are kept.
const MOST_IDLE: usize = 64;

/// How long a server may take to read what is left of a request that it has answered.
const TO_SETTLE: Duration = Duration::from_secs(1);

/// Connections to one address.
pub(super) struct Http1 {
    dialer: Dialer,
    idle: Arc<Idle>,
}

/// Connections that wait for a call; the last one used is taken first.
#[derive(Default)]
struct Idle(Mutex<Vec<SendRequest<Body>>>);

impl Idle {
    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The server may have closed some.
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: SendRequest<Body>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }
}

impl Http1 {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, idle: Arc::default() }
    }

    /// Sends a request, and waits for the answer, which may have `limit` bytes. Dropped before it has
    /// come, this closes the connection.
    pub(super) async fn call(&self, request: Request<Body>, limit: usize) -> Result<Reply, CallError> {
        if let Some(mut connection) = self.idle.take() {
            match connection.send_request(request.clone()).await {
                Ok(response) => {
                    let reply = receive(response, limit).await?;
                    self.keep(connection);
                    return Ok(reply);
                }
                // The server closed it while it waited.
                Err(error) if is_closed(&error) => {}
                Err(error) => return Err(broke(&error)),
            }
        }
        let io = self.dialer.dial().await?;
        let (mut connection, driver) = handshake(io).await.map_err(|error| broke(&error))?;
        // How it ends is what the call on it is told.
        tokio::spawn(driver);
        let response = connection.send_request(request).await.map_err(|error| broke(&error))?;
        let reply = receive(response, limit).await?;
        self.keep(connection);
        Ok(reply)
    }

    /// Keeps a connection for the next call, as soon as it is done with this one.
    fn keep(&self, mut connection: SendRequest<Body>) {
        if connection.is_ready() {
            return self.idle.keep(connection);
        }
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(TO_SETTLE, connection.ready()).await {
                idle.keep(connection);
            }
        });
    }
}
