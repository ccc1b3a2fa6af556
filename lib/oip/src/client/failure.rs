//! Classifies the errors of calls.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use crate::http::decode_error;
use crate::instance::CallError;
use crate::{Error, Status};

/// The most bytes of an error body that are read for its message.
const MESSAGE: usize = 64 << 10;

/// The error of a response whose status is not success.
pub(super) fn refused(code: StatusCode, body: &[u8]) -> CallError {
    if !(400..600).contains(&code.as_u16()) {
        return CallError::Unexpected(code.as_u16());
    }
    said(decode_error(code.as_u16(), body.get(..MESSAGE).unwrap_or(body)))
}

/// The meaning of an error that a server reports.
pub(super) fn said(error: Error) -> CallError {
    match error.status {
        Status::InvalidArgument | Status::TooLarge => CallError::Refused(error),
        // The credentials are this server's, not the client's.
        Status::Unauthenticated | Status::Forbidden => CallError::Failed(Error {
            code: Some(error.http()),
            grpc_code: error.grpc_code,
            ..Error::new(
                Status::Unavailable,
                format!("the instance refuses this server's credentials: {error}"),
            )
        }),
        _ => CallError::Failed(error),
    }
}

/// The error of a connection that was lost, or that is not HTTP.
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
        CallError::Garbled(format!("the answer is not HTTP: {text}"))
    } else {
        CallError::Unreachable(format!("the connection was lost: {text}"))
    }
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
