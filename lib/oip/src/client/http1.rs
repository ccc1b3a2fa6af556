//! Calls over HTTP/1.1: one at a time on each connection. Idle connections are kept for further calls.
//!
//! Each call drives its connection in its own task; nothing drives an idle connection. A connection on which
//! unexpected bytes arrived is closed, since the next call would take them for its answer.
//!
//! A request of which a byte was written may have run, and is not sent again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use http::Request;
use hyper::client::conn::http1::{self, SendRequest, handshake};
use hyper_util::rt::TokioIo;

use super::dial::Dialer;
use super::failure::broke;
use super::reply::{Reply, receive};
use super::watch::{Progress, Tracked, Watched};
use crate::http::Body;
use crate::instance::CallError;
use crate::together::Repolled;

/// The most idle connections.
const MOST_IDLE: usize = 64;

/// Connections to one address.
pub(super) struct Http1 {
    dialer: Dialer,
    idle: Idle,
}

/// A connection with its driver.
struct Connection {
    sender: SendRequest<Tracked>,
    driver: Driver,
    progress: Arc<Progress>,
    /// True if it may be used again.
    is_sound: bool,
}

/// Drives the connection's I/O; none when the connection has ended.
struct Driver(Option<http1::Connection<TokioIo<Watched>, Tracked>>);

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.0
            && Pin::new(driver).poll(context).is_ready()
        {
            // The call on the connection gets the error.
            self.0 = None;
        }
    }

    /// Drives the connection until some work on it is done.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        Repolled::new(poll_fn(|context| {
            self.poll(context);
            work.as_mut().poll(context)
        }))
        .await
    }
}

impl Connection {
    fn new(sender: SendRequest<Tracked>, driver: Driver, progress: Arc<Progress>) -> Self {
        Self { sender, driver, progress, is_sound: true }
    }

    async fn call(&mut self, request: Request<Body>, limit: usize) -> Result<Reply, CallError> {
        let Self { sender, driver, progress, is_sound } = self;
        let request = request.map(|body| progress.begin(body));
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
            let (parts, mut body) = response.into_parts();
            // An error may arrive before the request is sent: the server need not read what it refuses.
            *is_sound = progress.head_came();
            if !*is_sound && parts.status.is_success() {
                let text = "the answer began before its request was sent: it belongs to another call";
                return Err(CallError::Mismatched(text.to_owned()));
            }
            let reply = receive(parts, &mut body, limit).await?;
            progress.end();
            Ok(reply)
        };
        driver.until(answer).await
    }

    /// True if nothing has arrived since the last answer, and the server has not closed the connection.
    fn is_ready(&mut self) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        self.is_sound && self.sender.is_ready()
    }
}

/// Idle connections; the last one used is taken first.
#[derive(Default)]
struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            connection.progress.look();
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing drives idle connections. Without this, the oldest ones would stay after the server has
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
        Self { dialer, idle: Idle::default() }
    }

    /// Sends a request, and reads its answer of at most `limit` bytes. Dropping the future before that closes
    /// the connection.
    pub(super) async fn call<T>(
        &self,
        request: Request<Body>,
        limit: usize,
        read: impl FnOnce(Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let (mut connection, reply) = loop {
            let kept = self.idle.take();
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.dial().await?,
            };
            match connection.call(request.clone(), limit).await {
                Ok(reply) => break (connection, reply),
                // The server closed the idle connection.
                Err(_) if !is_new && connection.progress.is_untouched() => {}
                Err(error) => return Err(error),
            }
        };
        let result = read(reply);
        // Further unexpected bytes may follow an answer that does not belong to the request.
        let is_answer = !matches!(result, Err(CallError::Garbled(_) | CallError::Mismatched(_)));
        if is_answer && connection.is_ready() {
            self.idle.keep(connection);
        }
        result
    }

    async fn dial(&self) -> Result<Connection, CallError> {
        let progress = Arc::new(Progress::default());
        let io = Watched::new(self.dialer.dial().await?, Arc::clone(&progress));
        let (sender, driver) = handshake(TokioIo::new(io)).await.map_err(|error| broke(&error))?;
        Ok(Connection::new(sender, Driver(Some(driver)), progress))
    }
}
