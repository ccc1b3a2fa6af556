//! Timeouts of connections whose clients are slow or silent.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use parm_config::Limits;

/// The connection preface of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The headers of a request did not arrive in time.
    Header,
    /// No request arrived.
    Idle,
    /// The client does not read its response.
    Answer,
}

/// The timeouts of one connection.
pub(super) struct Timeouts {
    header: Duration,
    idle: Duration,
    answer: Duration,
    /// Requests whose responses are not sent completely.
    open: AtomicUsize,
    http2: AtomicBool,
    waits: Mutex<Waits>,
    /// Responses with bytes left to send, each with the time at which the connection last accepted some.
    unsent: Mutex<Slab<Instant>>,
    /// Wakes [`Timeouts::overdue`] when a timeout is sooner than the one that it waits for.
    sooner: Notify,
}

struct Waits {
    /// The timeout that runs while no request is in flight.
    what: Overdue,
    since: Instant,
    /// The number of received bytes of the preface; none: the connection is not HTTP/2.
    preface: Option<usize>,
    /// The time since which the socket accepts no more bytes.
    stalled: Option<Instant>,
    /// The time at which [`Timeouts::overdue`] checks again.
    looks: Instant,
}

impl Timeouts {
    /// The timeouts of a new connection.
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let now = Instant::now();
        let waits = Waits { what: Overdue::Header, since: now, preface: Some(0), stalled: None, looks: now };
        Arc::new(Self {
            header: Duration::from_millis(limits.header_ms),
            idle: Duration::from_millis(limits.idle_ms),
            answer: Duration::from_millis(limits.body_ms),
            open: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
            waits: Mutex::new(waits),
            unsent: Mutex::default(),
            sooner: Notify::new(),
        })
    }

    /// Records that the headers of a request were read.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.open.fetch_add(1, Ordering::Relaxed);
        InFlight { timeouts: Arc::clone(self), unsent: None }
    }

    /// True if no request is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// True if the connection is HTTP/1 and no request is in flight.
    pub(super) fn is_before_a_request(&self) -> bool {
        self.is_idle() && !self.http2.load(Ordering::Relaxed)
    }

    /// Waits until a timeout expires, so that the connection is closed.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            let now = Instant::now();
            let looks = {
                let mut waits = self.waits();
                let (at, why) = self.due(&waits);
                if at <= now {
                    return why;
                }
                waits.looks = at;
                at
            };
            tokio::select! {
                () = tokio::time::sleep_until(looks) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    fn unsent(&self) -> MutexGuard<'_, Slab<Instant>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The earliest timeout at present.
    fn due(&self, waits: &Waits) -> (Instant, Overdue) {
        let waited = if self.open.load(Ordering::Relaxed) > 0 {
            // While a request is in flight, none of these timeouts runs.
            (Instant::now() + self.header.min(self.idle).max(Duration::from_millis(1)), waits.what)
        } else {
            let longest = if waits.what == Overdue::Header { self.header } else { self.idle };
            (waits.since + longest, waits.what)
        };
        let unsent = self.unsent().iter().map(|(_, &since)| since).min();
        match unsent.into_iter().chain(waits.stalled).min() {
            Some(since) if since + self.answer < waited.0 => (since + self.answer, Overdue::Answer),
            _ => waited,
        }
    }

    /// Wakes [`Timeouts::overdue`] if it would check too late.
    fn look(&self, waits: &Waits) {
        if self.due(waits).0 < waits.looks {
            self.sooner.notify_one();
        }
    }

    fn read(&self, bytes: &[u8]) {
        if self.http2.load(Ordering::Relaxed) || bytes.is_empty() {
            return;
        }
        let mut waits = self.waits();
        if let Some(seen) = waits.preface {
            let expected = PREFACE.get(seen..).unwrap_or_default();
            let same = expected.iter().zip(bytes).take_while(|(expected, byte)| expected == byte).count();
            if same == expected.len() {
                self.http2.store(true, Ordering::Relaxed);
                (waits.what, waits.since) = (Overdue::Idle, Instant::now());
                return;
            }
            waits.preface = (same == bytes.len()).then_some(seen + same);
        }
        if waits.what == Overdue::Idle && self.open.load(Ordering::Relaxed) == 0 {
            (waits.what, waits.since) = (Overdue::Header, Instant::now());
            self.look(&waits);
        }
    }

    fn wrote(&self, done: bool) {
        let mut waits = self.waits();
        if done {
            waits.stalled = None;
        } else if waits.stalled.is_none() {
            waits.stalled = Some(Instant::now());
            self.look(&waits);
        }
    }
}

/// A request whose response is not sent completely.
pub(super) struct InFlight {
    timeouts: Arc<Timeouts>,
    /// Its key among the unsent responses.
    unsent: Option<usize>,
}

impl InFlight {
    /// Restarts the timeout of the response: the connection accepted a piece of it.
    pub(super) fn sent_piece(&mut self) {
        let mut unsent = self.timeouts.unsent();
        match self.unsent.and_then(|place| unsent.get_mut(place)) {
            Some(since) => *since = Instant::now(),
            None => self.unsent = Some(unsent.insert(Instant::now())),
        }
    }

    /// Stops the timeout of the response: the handler has nothing to send yet.
    pub(super) fn awaits_handler(&mut self) {
        if let Some(place) = self.unsent.take() {
            self.timeouts.unsent().try_remove(place);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.awaits_handler();
        if self.timeouts.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut waits = self.timeouts.waits();
            (waits.what, waits.since) = (Overdue::Idle, Instant::now());
        }
    }
}

/// A byte stream that reports to the timeouts of its connection.
pub(super) struct TimedStream<S> {
    stream: S,
    timeouts: Arc<Timeouts>,
    stalled: bool,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, timeouts: Arc<Timeouts>) -> Self {
        Self { stream, timeouts, stalled: false }
    }

    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.stalled {
            self.stalled = written.is_pending();
            self.timeouts.wrote(written.is_ready());
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.timeouts.read(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn timeouts() -> Arc<Timeouts> {
        Timeouts::new(&Limits { header_ms: 100, body_ms: 200, idle_ms: 1000, ..Limits::default() })
    }

    /// The timeout that closes the connection, and its time in ms.
    async fn closed(timeouts: &Timeouts) -> (Overdue, u128) {
        let since = Instant::now();
        let why = tokio::time::timeout(100_000 * MS, timeouts.overdue()).await.unwrap();
        (why, since.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed_after_the_header_timeout() {
        assert_eq!(closed(&timeouts()).await, (Overdue::Header, 100));
        for half in [&PREFACE[..20], b"GET / HTTP/1.1\r\nhost"] {
            let timeouts = timeouts();
            timeouts.read(half);
            assert_eq!(closed(&timeouts).await, (Overdue::Header, 100));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_and_the_next_headers_have_timeouts_of_their_own() {
        let timeouts = timeouts();
        timeouts.read(b"GET / HTTP/1.1\r\n\r\n");
        drop(timeouts.begin());
        assert_eq!(closed(&timeouts).await, (Overdue::Idle, 1000));
        drop(timeouts.begin());
        let other = Arc::clone(&timeouts);
        tokio::spawn(async move {
            tokio::time::sleep(400 * MS).await;
            other.read(b"G");
        });
        assert_eq!(closed(&timeouts).await, (Overdue::Header, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn no_timeout_runs_while_a_handler_works() {
        let timeouts = timeouts();
        let open = timeouts.begin();
        tokio::spawn(async move {
            tokio::time::sleep(5000 * MS).await;
            drop(open);
        });
        assert_eq!(closed(&timeouts).await.0, Overdue::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_connections_are_idle_while_no_request_is_in_flight() {
        let timeouts = timeouts();
        timeouts.read(&PREFACE[..10]);
        timeouts.read(&PREFACE[10..]);
        let other = Arc::clone(&timeouts);
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::time::sleep(50 * MS).await;
                other.read(b"ping");
            }
        });
        assert_eq!(closed(&timeouts).await, (Overdue::Idle, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_when_it_accepts_no_more_of_a_response() {
        let timeouts = timeouts();
        let (mut slow, mut other) = (timeouts.begin(), timeouts.begin());
        let task = tokio::spawn(async move {
            slow.sent_piece();
            for _ in 0..20 {
                other.sent_piece();
                tokio::time::sleep(50 * MS).await;
            }
            (slow, other)
        });
        let (why, after) = closed(&timeouts).await;
        // It is checked every 100 ms.
        assert!(why == Overdue::Answer && (200..=300).contains(&after), "{why:?} after {after} ms");
        let (mut slow, mut other) = task.await.unwrap();
        // Streams may send nothing for any time.
        slow.awaits_handler();
        other.awaits_handler();
        assert!(tokio::time::timeout(100_000 * MS, timeouts.overdue()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_when_its_socket_accepts_no_more_bytes() {
        let timeouts = timeouts();
        let _open = timeouts.begin();
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = TimedStream::new(near, Arc::clone(&timeouts));
        let writes = tokio::spawn(async move { near.write_all(&[0; 100]).await });
        far.read_exact(&mut [0; 50]).await.unwrap();
        assert_eq!(closed(&timeouts).await, (Overdue::Answer, 200));
        writes.abort();
    }
}
