//! Observes the bytes of an HTTP/1.1 connection: whether the server may have read a request, and whether
//! unexpected bytes arrived.
//!
//! HTTP/1.1 does not say which request a response answers. Bytes that arrive while no request is open answer
//! none, and neither does a success that begins before its request was sent completely.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::{Input, Io};
use crate::http::Body;

/// The most bytes before the end of an answer's head, with interim responses (1xx).
const BEFORE_HEAD: usize = 512 << 10;

/// No byte of a request was written.
const IDLE: u8 = 0;
/// A request is being written.
const SENDING: u8 = 1;
/// The request is written.
const SENT: u8 = 2;
/// The head of the answer arrived.
const ANSWERED: u8 = 3;

/// The progress of the call on a connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: AtomicU8,
    /// True if the last piece of the body was handed to the connection.
    handed_over: AtomicBool,
    /// True if bytes arrived before the request was written.
    early: AtomicBool,
    /// The number of bytes that arrived before the end of the answer's head.
    before_head: AtomicUsize,
    /// True if the next read asks the system, not the runtime.
    look: AtomicBool,
}

impl Progress {
    /// Makes the next read ask the system: for an idle connection the runtime may not know of new bytes yet.
    pub(super) fn look(&self) {
        self.look.store(true, Ordering::Relaxed);
    }

    /// Starts a request with this body.
    pub(super) fn begin(self: &Arc<Self>, body: Body) -> Tracked {
        self.state.store(IDLE, Ordering::Relaxed);
        self.early.store(false, Ordering::Relaxed);
        self.before_head.store(0, Ordering::Relaxed);
        self.handed_over.store(body.is_end_stream(), Ordering::Relaxed);
        Tracked { body, progress: Arc::clone(self) }
    }

    /// Records that the head of the answer arrived; true if the whole request was sent before it.
    pub(super) fn head_came(&self) -> bool {
        let sent = self.state.swap(ANSWERED, Ordering::Relaxed) == SENT;
        sent && !self.early.load(Ordering::Relaxed)
    }

    /// Records that the answer is complete; no further bytes may arrive.
    pub(super) fn end(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }

    /// True if no byte of the request was written.
    pub(super) fn is_untouched(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE
    }

    fn wrote(&self) {
        // Only the call's own task runs this.
        if self.is_untouched() {
            self.state.store(SENDING, Ordering::Relaxed);
        }
    }

    fn flushed(&self) {
        if self.state.load(Ordering::Relaxed) == SENDING && self.handed_over.load(Ordering::Relaxed) {
            self.state.store(SENT, Ordering::Relaxed);
        }
    }

    fn read(&self, bytes: usize) -> io::Result<()> {
        match self.state.load(Ordering::Relaxed) {
            _ if bytes == 0 => {}
            IDLE => return Err(unrequested()),
            ANSWERED => {}
            state => {
                if state == SENDING {
                    self.early.store(true, Ordering::Relaxed);
                }
                let found = self.before_head.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if found > BEFORE_HEAD {
                    let text = format!("found {found} bytes without the head of an answer");
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(())
    }
}

fn unrequested() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the server sent bytes that answer no request")
}

/// The stream of a connection.
pub(super) struct Watched {
    io: Box<dyn Io>,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) fn new(io: Box<dyn Io>, progress: Arc<Progress>) -> Self {
        Self { io, progress }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.progress.look.swap(false, Ordering::Relaxed) {
            match self.io.input() {
                Input::Nothing => {}
                Input::Bytes => return Poll::Ready(Err(unrequested())),
                Input::End => return Poll::Ready(Ok(())),
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        Poll::Ready(self.progress.read(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.progress.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, pieces))?;
        self.progress.wrote();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.progress.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A body that records when all of it was handed over.
pub(super) struct Tracked {
    body: Body,
    progress: Arc<Progress>,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.body.is_end_stream() {
            self.progress.handed_over.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
