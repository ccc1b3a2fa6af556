//! The bytes of a connection over HTTP/1.1, watched: whether a request may have been read, and what came
//! that nobody asked for.
//!
//! HTTP/1.1 does not say which request a response answers. What comes while no request is under way
//! answers none; nor does a success that begins before its request was wholly sent.

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

/// The most bytes before the head of an answer has come: interim replies (1xx) count.
const BEFORE_HEAD: usize = 512 << 10;

/// No byte of a request was written.
const IDLE: u8 = 0;
/// A request is being written.
const SENDING: u8 = 1;
/// It is written.
const SENT: u8 = 2;
/// The head of its answer has come.
const ANSWERED: u8 = 3;

/// How far the call on a connection has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: AtomicU8,
    /// The last piece of the body was handed over to be written.
    handed_over: AtomicBool,
    /// Something came before the request was written.
    early: AtomicBool,
    /// Bytes that came before the head of the answer.
    before_head: AtomicUsize,
    /// The system is to be asked what has come.
    look: AtomicBool,
}

impl Progress {
    /// It was kept for a while: the system is asked what has come, which the runtime may not know yet.
    pub(super) fn look(&self) {
        self.look.store(true, Ordering::Relaxed);
    }

    /// A request with this body is next.
    pub(super) fn begin(self: &Arc<Self>, body: Body) -> Tracked {
        self.state.store(IDLE, Ordering::Relaxed);
        self.early.store(false, Ordering::Relaxed);
        self.before_head.store(0, Ordering::Relaxed);
        self.handed_over.store(body.is_end_stream(), Ordering::Relaxed);
        Tracked { body, progress: Arc::clone(self) }
    }

    /// The head of the answer has come. True if it came after the whole request was sent.
    pub(super) fn head_came(&self) -> bool {
        let sent = self.state.swap(ANSWERED, Ordering::Relaxed) == SENT;
        sent && !self.early.load(Ordering::Relaxed)
    }

    /// The answer is there: nothing more may come.
    pub(super) fn end(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }

    /// True if no byte of the request was written.
    pub(super) fn is_untouched(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE
    }

    fn wrote(&self) {
        // Only the call's own task is here.
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
    io::Error::new(ErrorKind::InvalidData, "the server sent something that nobody asked for")
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

/// A body that says when all of it was handed over.
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
