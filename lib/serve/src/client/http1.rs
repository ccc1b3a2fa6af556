//! Calls over HTTP/1.1: one at a time on each connection, which is kept for the next.
//!
//! A connection is driven by the call on it, in the call's own task, and by nobody while it is kept.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use http::Request;
use hyper::client::conn::http1::{self, SendRequest, handshake};
use hyper_util::rt::TokioIo;

use super::dial::{Dialer, Io};
use super::failure::{broke, is_closed};
use super::reply::{Reply, receive};
use crate::instance::CallError;
use crate::oip::http::Body;
use crate::together::Again;

/// The most connections that are kept.
const MOST_IDLE: usize = 64;

/// How long a server may take to read what is left of a request that it has answered.
const TO_SETTLE: Duration = Duration::from_secs(1);

/// Connections to one address.
pub(super) struct Http1 {
    dialer: Dialer,
    idle: Arc<Idle>,
}

/// A connection, and what drives it.
struct Connection {
    sender: SendRequest<Body>,
    driver: Driver,
}

/// Reads and writes; none once the connection is over.
struct Driver(Option<http1::Connection<TokioIo<Box<dyn Io>>, Body>>);

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.0
            && Pin::new(driver).poll(context).is_ready()
        {
            // How it ended is what the call on it is told.
            self.0 = None;
        }
    }

    /// Drives the connection until some work on it is done.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        Again::new(poll_fn(|context| {
            self.poll(context);
            work.as_mut().poll(context)
        }))
        .await
    }
}

/// Why there is no reply.
enum Failure {
    /// The request was not answered.
    Unanswered(hyper::Error),
    Call(CallError),
}

impl Connection {
    async fn call(&mut self, request: Request<Body>, limit: usize) -> Result<Reply, Failure> {
        let Self { sender, driver } = self;
        let answer = async {
            let response = sender.send_request(request).await.map_err(Failure::Unanswered)?;
            let (parts, mut body) = response.into_parts();
            receive(parts, &mut body, limit).await.map_err(Failure::Call)
        };
        driver.until(answer).await
    }

    /// True if the server has not closed it, and it is done with what was sent before.
    fn is_ready(&mut self) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready()
    }
}

/// Connections that wait for a call; the last one used is taken first.
#[derive(Default)]
struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody drives them: those at the bottom, which no call takes, would stay when the server has
        // closed them.
        if idle.first_mut().is_some_and(|oldest| !oldest.is_ready()) {
            idle.remove(0);
        }
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
            match connection.call(request.clone(), limit).await {
                Ok(reply) => {
                    self.keep(connection);
                    return Ok(reply);
                }
                // The server closed it while it waited.
                Err(Failure::Unanswered(error)) if is_closed(&error) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let (sender, driver) =
            handshake(TokioIo::new(self.dialer.dial().await?)).await.map_err(|error| broke(&error))?;
        let mut connection = Connection { sender, driver: Driver(Some(driver)) };
        let reply = connection.call(request, limit).await?;
        self.keep(connection);
        Ok(reply)
    }

    /// Keeps a connection for the next call, as soon as it is done with this one.
    fn keep(&self, mut connection: Connection) {
        if connection.is_ready() {
            return self.idle.keep(connection);
        }
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            let Connection { sender, driver } = &mut connection;
            let settled = driver.until(sender.ready());
            if let Ok(Ok(())) = tokio::time::timeout(TO_SETTLE, settled).await {
                idle.keep(connection);
            }
        });
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unanswered(error) => broke(&error),
            Failure::Call(error) => error,
        }
    }
}
