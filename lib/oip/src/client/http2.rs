//! Calls over HTTP/2: several at a time on each of a few connections.
//!
//! One connection slows down when large tensors share it; therefore there are several. A further connection
//! is opened only when all others are in use.
//!
//! A connection that reported an error is not used again. A request is sent again only if the server did not
//! process it: it was not written, or the server reports that.
//!
//! h2 is used without hyper, which sends the body of a request only after its head has been written, and so
//! wakes the server twice.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::Request;
use http_body::{Body as _, Frame};
use tokio::sync::Mutex as AsyncMutex;

use super::dial::Dialer;
use super::failure::broke;
use super::reply::{Reply, receive};
use crate::http::Body;
use crate::instance::CallError;
use crate::together::Repolled;
use crate::transport::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW};

/// The most bytes of an answer's headers.
const HEADERS: u32 = 64 << 10;

/// The most connections.
const CONNECTIONS: usize = 4;

/// The number of consecutive cancelled calls after which a connection is not used again, since the peer may
/// have vanished.
const GIVEN_UP: u32 = 8;

/// The number of connections that a call tries before it opens its own.
const TRIED: usize = 2;

/// The most interim responses (1xx) before an answer.
const INTERIM: usize = 32;

/// Connections to one address.
pub(super) struct Http2 {
    dialer: Dialer,
    slots: [Slot; CONNECTIONS],
}

/// A slot for a connection.
#[derive(Default)]
struct Slot {
    calls: AtomicUsize,
    /// Consecutive cancelled calls.
    given_up: AtomicU32,
    connection: AsyncMutex<Option<Numbered>>,
}

/// A connection with its number in its slot.
#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: SendRequest<Bytes>,
    finished: Finished,
    /// True if it ended or reported an error, so that no further call uses it.
    over: Arc<AtomicBool>,
}

/// Why a call has no answer.
enum Failure {
    /// The server did not process the request.
    NotTaken(h2::Error),
    /// The server may have processed the request.
    Unanswered(CallError),
}

impl Numbered {
    /// Sends a request, and returns the head of its answer.
    async fn send(&self, request: Request<Body>) -> Result<http::Response<RecvStream>, Failure> {
        let unsent = |error| {
            self.see(&error);
            Failure::NotTaken(error)
        };
        let mut connection = self.connection.clone().ready().await.map_err(unsent)?;
        let (head, mut body) = request.into_parts();
        let (answer, mut stream) =
            connection.send_request(Request::from_parts(head, ()), body.is_end_stream()).map_err(unsent)?;
        while let Some(piece) = body.next_piece() {
            if stream.send_data(piece, body.is_end_stream()).is_err() {
                // The answer or the stream's error has the cause.
                break;
            }
        }
        self.head(answer).await
    }

    async fn head(&self, mut answer: ResponseFuture) -> Result<http::Response<RecvStream>, Failure> {
        let mut interim = 0;
        let head = poll_fn(|context| {
            while let Poll::Ready(Some(Ok(_))) = answer.poll_informational(context) {
                interim += 1;
                if interim > INTERIM {
                    return Poll::Ready(None);
                }
            }
            Pin::new(&mut answer).poll(context).map(Some)
        });
        match head.await {
            Some(Ok(head)) => Ok(head),
            Some(Err(error)) => {
                self.see(&error);
                Err(if is_not_taken(&error) {
                    Failure::NotTaken(error)
                } else {
                    Failure::Unanswered(broke(&error))
                })
            }
            None => {
                let text = format!("found {interim} interim responses and no answer");
                Err(Failure::Unanswered(CallError::Garbled(text)))
            }
        }
    }

    /// Marks the connection as ended if the error is not of one stream alone.
    fn see(&self, error: &h2::Error) {
        if !is_of_stream(error) {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

/// True if the server ended one stream.
fn is_of_stream(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote()
}

/// True if the server reports that it did not process the request: refused, or after GOAWAY's last stream.
fn is_not_taken(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// Bodies that were read completely. Dropping one wakes the connection's task, perhaps on another thread,
/// although there is nothing to do. Therefore that task drops them at its next poll. They do not keep an
/// abandoned connection open.
#[derive(Clone, Default)]
struct Finished(Arc<Mutex<Vec<RecvStream>>>);

impl Finished {
    fn keep(&self, body: RecvStream) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    }
}

/// Drives a connection, and drops its finished bodies.
async fn drive<T>(
    connection: impl Future<Output = T>,
    finished: Weak<Mutex<Vec<RecvStream>>>,
    over: Arc<AtomicBool>,
) {
    let mut connection = pin!(connection);
    // The calls on the connection get the error.
    let _ = Repolled::new(poll_fn(|context| {
        if let Some(finished) = finished.upgrade() {
            finished.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        connection.as_mut().poll(context)
    }))
    .await;
    over.store(true, Ordering::Relaxed);
}

/// The body of an answer.
struct Answer<'a> {
    body: RecvStream,
    of: &'a Numbered,
}

impl Answer<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.body.poll_data(context)) {
            return Poll::Ready(Some(data.and_then(|data| {
                self.body.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            })));
        }
        let trailers = ready!(self.body.poll_trailers(context));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

impl http_body::Body for Answer<'_> {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let frame = ready!(self.poll(context));
        if let Some(Err(error)) = &frame {
            self.of.see(error);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
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
        // The first of the least used ones.
        let slot =
            others.iter().fold(first, |least, slot| if calls(slot) < calls(least) { slot } else { least });
        slot.calls.fetch_add(1, Ordering::Relaxed);
        Self { slot, over: false }
    }

    /// Records that the call was not cancelled.
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

    /// Sends a request, and reads its answer of at most `limit` bytes. Dropping the future before that resets
    /// the stream.
    pub(super) async fn call<T>(
        &self,
        request: Request<Body>,
        limit: usize,
        read: impl FnOnce(Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let call = Call::begin(&self.slots);
        let result = self.call_on(call.slot, request, limit, read).await;
        call.end();
        result
    }

    async fn call_on<T>(
        &self,
        slot: &Slot,
        request: Request<Body>,
        limit: usize,
        read: impl FnOnce(Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let (mut but, mut tried) = (None, 0);
        let (used, answer) = loop {
            let (used, is_new) = self.connection(slot, but).await?;
            match used.send(request.clone()).await {
                Ok(answer) => break (used, answer),
                Err(Failure::NotTaken(_)) if !is_new && tried < TRIED => {
                    (but, tried) = (Some(used.number), tried + 1);
                }
                Err(Failure::NotTaken(error)) => return Err(broke(&error)),
                Err(Failure::Unanswered(error)) => return Err(error),
            }
        };
        let (head, body) = answer.into_parts();
        let mut body = Answer { body, of: &used };
        let reply = receive(head, &mut body, limit).await?;
        let body = body.body;
        used.finished.keep(body);
        let result = read(reply);
        if let Err(CallError::Mismatched(_)) = result {
            used.over.store(true, Ordering::Relaxed);
        }
        result
    }

    /// The connection of a slot, or a new one in place of number `but`; true if it is new.
    async fn connection(&self, slot: &Slot, but: Option<u64>) -> Result<(Numbered, bool), CallError> {
        let mut held = slot.connection.lock().await;
        if let Some(held) = &*held
            && but != Some(held.number)
            && !held.over.load(Ordering::Relaxed)
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
            // Answers to cancelled calls are not an attack.
            .max_local_error_reset_streams(None)
            .handshake(io)
            .await
            .map_err(|error| broke(&error))?;
        let (finished, over) = (Finished::default(), Arc::new(AtomicBool::new(false)));
        tokio::spawn(drive(driver, Arc::downgrade(&finished.0), Arc::clone(&over)));
        slot.given_up.store(0, Ordering::Relaxed);
        let number = held.as_ref().map_or(0, |held| held.number + 1);
        let new = Numbered { number, connection, finished, over };
        *held = Some(new.clone());
        Ok((new, true))
    }
}
