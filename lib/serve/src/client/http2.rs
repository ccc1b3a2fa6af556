//! Calls over HTTP/2: several at a time on each of a few connections.
//!
//! One connection slows down when large tensors share it, so that there are several; a further one is
//! made only when all others are in use.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use http::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioTimer;
use tokio::sync::Mutex;

use super::dial::Dialer;
use super::failure::{broke, is_closed};
use super::reply::{Reply, receive};
use crate::instance::CallError;
use crate::oip::http::Body;
use crate::together::{Spawned, together};
use crate::transport::{CONNECTION_WINDOW, STREAM_WINDOW};

/// The largest frame that a server may send. With the 16 KiB of the standard, the answer of 600 KB comes in
/// forty pieces, and a call takes a third longer.
const FRAME: u32 = 1 << 20;

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
    connection: Mutex<Option<Numbered>>,
}

/// A connection, and which one of its slot it is.
#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: SendRequest<Body>,
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
        let mut sent = used.connection.send_request(request.clone()).await;
        if let Err(error) = &sent
            && !is_new
            && is_closed(error)
        {
            let (mut other, _) = self.connection(slot, Some(used.number)).await?;
            sent = other.connection.send_request(request).await;
        }
        receive(sent.map_err(|error| broke(&error))?, limit).await
    }

    /// The connection of a slot, but not this one; true if it is new.
    async fn connection(&self, slot: &Slot, but: Option<u64>) -> Result<(Numbered, bool), CallError> {
        let mut held = slot.connection.lock().await;
        if let Some(held) = &*held
            && but != Some(held.number)
            && !held.connection.is_closed()
            && slot.given_up.load(Ordering::Relaxed) < GIVEN_UP
        {
            return Ok((held.clone(), false));
        }
        let io = self.dialer.dial().await?;
        let parts = Spawned::default();
        let (connection, driver) = Builder::new(parts.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            // Answers to calls that were given up are no attack here.
            .max_local_error_reset_streams(None)
            .handshake(io)
            .await
            .map_err(|error| broke(&error))?;
        // How it ends is what the calls on it are told.
        tokio::spawn(together(driver, parts));
        slot.given_up.store(0, Ordering::Relaxed);
        let number = held.as_ref().map_or(0, |held| held.number + 1);
        let new = Numbered { number, connection };
        *held = Some(new.clone());
        Ok((new, true))
    }
}
