//! What went wrong with a call.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use crate::http::decode_error;
use crate::instance::CallError;
use crate::{Error, Status};

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
        Status::Unauthenticated | Status::Forbidden => CallError::Failed(Error {
            code: Some(error.http()),
            ..Error::new(
                Status::Unavailable,
                format!("the instance refuses this server's credentials: {error}"),
            )
        }),
        _ => CallError::Failed(error),
    }
}

/// A connection that broke, or that did not speak HTTP.
pub(super) fn broke(error: &(dyn StdError + 'static)) -> CallError {
    let text: Vec<String> = causes(error).map(ToString::to_string).collect();
    let text = text.join(": ");
    let garbled = causes(error).any(|error| {
        error.downcast_ref().is_some_and(|error: &hyper::Error| error.is_parse())
            || error.downcast_ref().is_some_and(|error: &h2::Error| error.is_library())
            || error.downcast_ref().is_some_and(|error: &io::Error| {
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
            })
    });
    if garbled {
        CallError::Garbled(format!("the answer is no HTTP: {text}"))
    } else {
        CallError::Unreachable(format!("the connection broke off: {text}"))
    }
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
