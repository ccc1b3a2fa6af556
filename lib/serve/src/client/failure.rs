//! What went wrong with a call.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use crate::instance::CallError;
use crate::oip::http::decode_error;
use crate::oip::{Error, Status};

/// Bytes of an error's body that are read for its message.
const MESSAGE: usize = 64 << 10;

/// What an answer means whose status is no success.
pub(super) fn refused(code: StatusCode, body: &[u8]) -> CallError {
    if !(400..600).contains(&code.as_u16()) {
        return CallError::Garbled(format!("found status {}, expected 200", code.as_u16()));
    }
    said(decode_error(code.as_u16(), body.get(..MESSAGE).unwrap_or(body)))
}

/// What an error means that a server says.
pub(super) fn said(error: Error) -> CallError {
    match error.status {
        Status::InvalidArgument | Status::TooLarge => CallError::Refused(error),
        // The client has no part in how this server is known to its instances.
        Status::Unauthenticated => CallError::Failed(Error::new(
            Status::Unavailable,
            format!("the instance refuses this server's credentials: {error}"),
        )),
        _ => CallError::Failed(error),
    }
}

/// A connection that broke, or that did not speak HTTP.
pub(super) fn broke(error: &hyper::Error) -> CallError {
    let mut text = error.to_string();
    let mut garbled = error.is_parse();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        garbled |= error.downcast_ref().is_some_and(|error: &h2::Error| error.is_library());
        garbled |= error.downcast_ref().is_some_and(|error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        });
        cause = error.source();
    }
    if garbled {
        CallError::Garbled(format!("the answer is no HTTP: {text}"))
    } else {
        CallError::Unreachable(format!("the connection broke off: {text}"))
    }
}

/// True if the other side closed the connection, and the call may be sent over another.
pub(super) fn is_closed(error: &hyper::Error) -> bool {
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        return true;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        let h2 = error
            .downcast_ref()
            .is_some_and(|error: &h2::Error| error.is_io() || error.is_go_away() && error.is_remote());
        let io = error.downcast_ref().is_some_and(|error: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        });
        if h2 || io {
            return true;
        }
        cause = error.source();
    }
    false
}
