//! Calls over HTTP/1.1: one at a time on each connection, which is kept for the next.
//!
//! A connection is driven by the call on it, in the call's own task, and by nobody while it is kept. One on
//! which anything came that does not belong to the answer of its call is not kept: the next call would take
//! it for its own answer.
//!
//! A request of which a byte was written may have run: it is not sent again.

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
use crate::together::Again;

/// The most connections that are kept.
const MOST_IDLE: usize = 64;

/// Connections to one address.
pub(super) struct Http1 {
    dialer: Dialer,
    idle: Idle,
}

/// A connection, and what drives it.
struct Connection {
    sender: SendRequest<Tracked>,
    driver: Driver,
    progress: Arc<Progress>,
    /// It may be used again.
    is_sound: bool,
}

/// Reads and writes; none once the connection is over.
struct Driver(Option<http1::Connection<TokioIo<Watched>, Tracked>>);

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
            // An error may come early: the server does not read what it refuses.
            *is_sound = progress.head_came();
            if !*is_sound && parts.status.is_success() {
                let text = "the answer began before its request was sent: it is another call's";
                return Err(CallError::Mismatched(text.to_owned()));
            }
            let reply = receive(parts, &mut body, limit).await?;
            progress.end();
            Ok(reply)
        };
        driver.until(answer).await
    }

    /// True if nothing has come since the last answer, and the server has not closed it.
    fn is_ready(&mut self) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        self.is_sound && self.sender.is_ready()
    }
}

/// Connections that wait for a call; the last one used is taken first.
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
        Self { dialer, idle: Idle::default() }
    }

    /// Sends a request, waits for the answer, which may have `limit` bytes, and reads it. Dropped before it
    /// has come, this closes the connection.
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
                // The server closed it while it waited.
                Err(_) if !is_new && connection.progress.is_untouched() => {}
                Err(error) => return Err(error),
            }
        };
        let result = read(reply);
        // Who knows what follows an answer that is none to the request.
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
