//! Connections that are too slow, or silent: what a connection waits for, and how long it may.

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

use crate::config::Limits;

/// What a connection over HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It began to ask, and did not go on.
    Header,
    /// Nothing was asked on it for a while.
    Idle,
    /// Its client does not read.
    Answer,
}

/// The pace of one connection.
pub(super) struct Pace {
    header: Duration,
    idle: Duration,
    answer: Duration,
    /// Requests that are not answered to the end.
    open: AtomicUsize,
    http2: AtomicBool,
    waits: Mutex<Waits>,
    /// Answers that are not sent to the end, with the time at which the connection last took of them.
    owed: Mutex<Slab<Instant>>,
    /// Something is due before the time that [`Pace::overdue`] waits for.
    sooner: Notify,
}

struct Waits {
    /// For what, while no request is open.
    what: Overdue,
    since: Instant,
    /// Bytes of the preface of HTTP/2 that came; none: it is not HTTP/2.
    preface: Option<usize>,
    /// Since when the client reads nothing of what is sent.
    stalled: Option<Instant>,
    /// When [`Pace::overdue`] looks again.
    looks: Instant,
}

impl Pace {
    /// The pace of a connection that begins now.
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
            owed: Mutex::default(),
            sooner: Notify::new(),
        })
    }

    /// A request was read.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open { pace: Arc::clone(self), owed: None }
    }

    /// True if no request is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// True if it is no connection over HTTP/2, and no request is open.
    pub(super) fn is_before_a_request(&self) -> bool {
        self.is_idle() && !self.http2.load(Ordering::Relaxed)
    }

    /// Waits until the connection is to be closed.
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

    fn owed(&self) -> MutexGuard<'_, Slab<Instant>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something is due at the earliest, as far as is known now, and what.
    fn due(&self, waits: &Waits) -> (Instant, Overdue) {
        let waited = if self.open.load(Ordering::Relaxed) > 0 {
            // It cannot be due before it is over.
            (Instant::now() + self.header.min(self.idle).max(Duration::from_millis(1)), waits.what)
        } else {
            let longest = if waits.what == Overdue::Header { self.header } else { self.idle };
            (waits.since + longest, waits.what)
        };
        let owed = self.owed().iter().map(|(_, &since)| since).min();
        match owed.into_iter().chain(waits.stalled).min() {
            Some(since) if since + self.answer < waited.0 => (since + self.answer, Overdue::Answer),
            _ => waited,
        }
    }

    /// Has [`Pace::overdue`] look again, if it would look too late.
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

/// A request that is not answered to the end.
pub(super) struct Open {
    pace: Arc<Pace>,
    /// Its place among the answers that are owed.
    owed: Option<usize>,
}

impl Open {
    /// The connection took a piece of the answer; how long it may take for the next one counts from now.
    pub(super) fn took(&mut self) {
        let mut owed = self.pace.owed();
        match self.owed.and_then(|place| owed.get_mut(place)) {
            Some(since) => *since = Instant::now(),
            None => self.owed = Some(owed.insert(Instant::now())),
        }
    }

    /// The connection waits for the answer, not the answer for it.
    pub(super) fn waits(&mut self) {
        if let Some(place) = self.owed.take() {
            self.pace.owed().try_remove(place);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.waits();
        if self.pace.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut waits = self.pace.waits();
            (waits.what, waits.since) = (Overdue::Idle, Instant::now());
        }
    }
}

/// A stream of bytes whose pace is watched.
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    stalled: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace, stalled: false }
    }

    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.stalled {
            self.stalled = written.is_pending();
            self.pace.wrote(written.is_ready());
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.pace.read(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
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

    fn pace() -> Arc<Pace> {
        Pace::new(&Limits { header_ms: 100, body_ms: 200, idle_ms: 1000, ..Limits::default() })
    }

    /// Why and after how many ms it is closed.
    async fn closed(pace: &Pace) -> (Overdue, u128) {
        let since = Instant::now();
        let why = tokio::time::timeout(100_000 * MS, pace.overdue()).await.unwrap();
        (why, since.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_says_anything_is_closed_after_the_time_for_headers() {
        assert_eq!(closed(&pace()).await, (Overdue::Header, 100));
        for half in [&PREFACE[..20], b"GET / HTTP/1.1\r\nhost"] {
            let pace = pace();
            pace.read(half);
            assert_eq!(closed(&pace).await, (Overdue::Header, 100));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_a_time_of_its_own_and_the_next_header_again_its_own() {
        let pace = pace();
        pace.read(b"GET / HTTP/1.1\r\n\r\n");
        drop(pace.begin());
        assert_eq!(closed(&pace).await, (Overdue::Idle, 1000));
        drop(pace.begin());
        let other = Arc::clone(&pace);
        tokio::spawn(async move {
            tokio::time::sleep(400 * MS).await;
            other.read(b"G");
        });
        assert_eq!(closed(&pace).await, (Overdue::Header, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_answered_slowly_is_not_in_the_way() {
        let pace = pace();
        let open = pace.begin();
        tokio::spawn(async move {
            tokio::time::sleep(5000 * MS).await;
            drop(open);
        });
        assert_eq!(closed(&pace).await.0, Overdue::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_idle_while_nothing_is_asked_whatever_comes() {
        let pace = pace();
        pace.read(&PREFACE[..10]);
        pace.read(&PREFACE[10..]);
        let other = Arc::clone(&pace);
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::time::sleep(50 * MS).await;
                other.read(b"ping");
            }
        });
        assert_eq!(closed(&pace).await, (Overdue::Idle, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nothing_is_taken_any_more_closes_the_connection() {
        let pace = pace();
        let (mut slow, mut other) = (pace.begin(), pace.begin());
        let task = tokio::spawn(async move {
            slow.took();
            for _ in 0..20 {
                other.took();
                tokio::time::sleep(50 * MS).await;
            }
            (slow, other)
        });
        let (why, after) = closed(&pace).await;
        // It is looked at now and then.
        assert!(why == Overdue::Answer && (200..=300).contains(&after), "{why:?} after {after} ms");
        let (mut slow, mut other) = task.await.unwrap();
        // Streams without an end may have nothing to send for any time.
        slow.waits();
        other.waits();
        assert!(tokio::time::timeout(100_000 * MS, pace.overdue()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_closed_also_while_it_is_answered() {
        let pace = pace();
        let _open = pace.begin();
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = Paced::new(near, Arc::clone(&pace));
        let writes = tokio::spawn(async move { near.write_all(&[0; 100]).await });
        far.read_exact(&mut [0; 50]).await.unwrap();
        assert_eq!(closed(&pace).await, (Overdue::Answer, 200));
        writes.abort();
    }
}
