//! Calls over HTTP/2: several at a time on each of a few connections.
//!
//! One connection slows down when large tensors share it, so that there are several; a further one is
//! made only when all others are in use.
//!
//! This is h2, without hyper around it: that sends a request's body when its head has been written, and so
//! wakes the server twice.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::Request;
use http_body::{Body as _, Frame};
use tokio::sync::Mutex as AsyncMutex;

use super::dial::Dialer;
use super::failure::{broke, is_closed};
use super::reply::{Reply, receive};
use crate::instance::CallError;
use crate::oip::http::Body;
use crate::together::Again;
use crate::transport::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW};

/// The most bytes of an answer's headers.
const HEADERS: u32 = 64 << 10;

/// The most connections.
const CONNECTIONS: usize = 4;

/// A connection on which so many calls in a row were given up is not used again: the other side may be
/// gone without a word.
const GIVEN_UP: u32 = 8;

/// Connections to one address.
pub(super) struct Http2 {
    dialer: Dialer,
    slots: [Slot; CONNECTIONS],
}

/// A place for a connection.
#[derive(Default)]
struct Slot {
    calls: AtomicUsize,
    /// Calls in a row that were given up.
    given_up: AtomicU32,
    connection: AsyncMutex<Option<Numbered>>,
}

/// A connection, and which one of its slot it is.
#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: SendRequest<Bytes>,
    finished: Finished,
}

impl Numbered {
    /// Sends a request; gives the head of its answer.
    async fn send(&self, request: Request<Body>) -> Result<http::Response<RecvStream>, h2::Error> {
        let mut connection = self.connection.clone().ready().await?;
        let (head, mut body) = request.into_parts();
        let (answer, mut stream) =
            connection.send_request(Request::from_parts(head, ()), body.is_end_stream())?;
        while let Some(piece) = body.next_piece() {
            stream.send_data(piece, body.is_end_stream())?;
        }
        answer.await
    }
}

/// Bodies that were read to their ends. To drop one wakes the connection's task, which has nothing to do:
/// another thread would be woken for it. So that task drops them, when it is at work. What nobody calls any
/// more is not held by them.
#[derive(Clone, Default)]
struct Finished(Arc<Mutex<Vec<RecvStream>>>);

impl Finished {
    fn keep(&self, body: RecvStream) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    }
}

/// Drives a connection, and drops what is finished on it.
async fn drive<T>(connection: impl Future<Output = T>, finished: Weak<Mutex<Vec<RecvStream>>>) {
    let mut connection = pin!(connection);
    // How it ends is what the calls on it are told.
    let _ = Again::new(poll_fn(|context| {
        if let Some(finished) = finished.upgrade() {
            finished.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        connection.as_mut().poll(context)
    }))
    .await;
}

/// What is read of an answer.
struct Answer(RecvStream);

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(context)) {
            return Poll::Ready(Some(data.and_then(|data| {
                self.0.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            })));
        }
        let trailers = ready!(self.0.poll_trailers(context));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// A call on a connection.
struct Call<'a> {
    slot: &'a Slot,
    over: bool,
}

impl<'a> Call<'a> {
    fn begin(slots: &'a [Slot; CONNECTIONS]) -> Self {
        let [first, others @ ..] = slots;
        let calls = |slot: &Slot| slot.calls.load(Ordering::Relaxed);
        // Of those that are equal, the first.
        let slot =
            others.iter().fold(first, |least, slot| if calls(slot) < calls(least) { slot } else { least });
        slot.calls.fetch_add(1, Ordering::Relaxed);
        Self { slot, over: false }
    }

    fn end(mut self) {
        self.over = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.slot.calls.fetch_sub(1, Ordering::Relaxed);
        if self.over {
            self.slot.given_up.store(0, Ordering::Relaxed);
        } else {
            self.slot.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Http2 {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, slots: Default::default() }
    }

    /// Sends a request, and waits for the answer, which may have `limit` bytes. Dropped before it has
    /// come, this resets the stream.
    pub(super) async fn call(&self, request: Request<Body>, limit: usize) -> Result<Reply, CallError> {
        let call = Call::begin(&self.slots);
        let reply = self.call_on(call.slot, request, limit).await;
        call.end();
        reply
    }

    async fn call_on(&self, slot: &Slot, request: Request<Body>, limit: usize) -> Result<Reply, CallError> {
        let (mut used, is_new) = self.connection(slot, None).await?;
        let mut sent = used.send(request.clone()).await;
        if let Err(error) = &sent
            && !is_new
            && is_closed(error)
        {
            (used, _) = self.connection(slot, Some(used.number)).await?;
            sent = used.send(request).await;
        }
        let (head, body) = sent.map_err(|error| broke(&error))?.into_parts();
        let mut body = Answer(body);
        let reply = receive(head, &mut body, limit).await?;
        used.finished.keep(body.0);
        Ok(reply)
    }

    /// The connection of a slot, but not this one; true if it is new.
    async fn connection(&self, slot: &Slot, but: Option<u64>) -> Result<(Numbered, bool), CallError> {
        let mut held = slot.connection.lock().await;
        if let Some(held) = &*held
            && but != Some(held.number)
            && slot.given_up.load(Ordering::Relaxed) < GIVEN_UP
        {
            return Ok((held.clone(), false));
        }
        let io = self.dialer.dial().await?;
        let (connection, driver) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADERS)
            .enable_push(false)
            // Answers to calls that were given up are no attack here.
            .max_local_error_reset_streams(None)
            .handshake(io)
            .await
            .map_err(|error| broke(&error))?;
        let finished = Finished::default();
        tokio::spawn(drive(driver, Arc::downgrade(&finished.0)));
        slot.given_up.store(0, Ordering::Relaxed);
        let number = held.as_ref().map_or(0, |held| held.number + 1);
        let new = Numbered { number, connection, finished };
        *held = Some(new.clone());
        Ok((new, true))
    }
}
