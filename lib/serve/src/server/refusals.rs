//! Adds JSON bodies to the responses with which the HTTP library itself refuses malformed requests, so that
//! they look like all other errors.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::timeouts::Timeouts;
use parm_oip::Error;
use parm_oip::http::encode_error;

/// The end of the library's responses without a body.
const NO_BODY: &str = "\r\ncontent-length: 0\r\n";

/// A byte stream that adds bodies to the library's refusals.
pub(super) struct Refusals<S> {
    stream: S,
    timeouts: Arc<Timeouts>,
    /// The bytes that replace the library's response.
    instead: Vec<u8>,
}

impl<S> Refusals<S> {
    pub(super) fn new(stream: S, timeouts: Arc<Timeouts>) -> Self {
        Self { stream, timeouts, instead: Vec::new() }
    }
}

/// Adds a body to a response over HTTP/1 that has a status from 400 to 499 and no body.
fn with_body(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"HTTP/1.1 4") && !bytes.starts_with(b"HTTP/1.0 4") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let (status, _) = head.split_once("\r\n")?;
    let (before, after) = head.split_once(NO_BODY)?;
    let reason = status.get("HTTP/1.1 400 ".len()..)?;
    let error = Error::invalid(format!("the head of the request cannot be read: {reason}"));
    let body = encode_error(&error).to_bytes();
    let fields = format!("\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    Some([before.as_bytes(), fields.as_bytes(), after.as_bytes(), &body].concat())
}

impl<S: AsyncWrite + Unpin> Refusals<S> {
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusals<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Refusals<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        // The responses of the routes have bodies.
        if self.timeouts.is_before_a_request()
            && let Some(instead) = with_body(bytes)
        {
            self.instead = instead;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = bytes {
            return self.poll_write(context, one);
        }
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_without_a_body_get_one() {
        let found =
            with_body(b"HTTP/1.1 431 Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n");
        let found = String::from_utf8(found.unwrap()).unwrap();
        let (head, body) = found.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"error":"the head of the request cannot be read: Too Large"}"#);
        let lines: Vec<&str> = head.lines().collect();
        let length = format!("content-length: {}", body.len());
        let fields = [
            "HTTP/1.1 431 Too Large",
            "connection: close",
            "content-type: application/json",
            &length,
            "date: x",
        ];
        assert_eq!(lines, fields);
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 10\r\n\r\n0123456789",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert_eq!(with_body(other), None);
        }
    }
}
