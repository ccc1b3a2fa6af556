//! Responses over HTTP: JSON, and errors.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use parm_oip::http as wire;
use parm_oip::{Error, Status};

/// What a handler returns.
pub(super) type Answer = Result<Response, ErrorResponse>;

/// An error of the protocol as a response. One with 503 says when to try again: when the work that waits now has been
/// sent, at least after a second.
pub(super) struct ErrorResponse(pub(super) Error);

impl From<Error> for ErrorResponse {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.status.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, json(wire::encode_error(&self.0).to_bytes())).into_response();
        if code == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = self.0.retry_after.unwrap_or_default().as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A response whose body is JSON.
pub(super) fn json(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}

/// A value as JSON.
pub(super) fn as_json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| Error::new(Status::Internal, error.to_string()))?;
    Ok(json(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn unavailable_says_when_to_try_again_in_whole_seconds() {
        let after = |error: Error| {
            let response = ErrorResponse(error).into_response();
            response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        for (ms, expected) in [(0, "1"), (1000, "1"), (1001, "2"), (90_000, "90")] {
            assert_eq!(after(Error::unavailable("", Duration::from_millis(ms))).as_deref(), Some(expected));
        }
        assert_eq!(after(Error::new(Status::Unavailable, "")).as_deref(), Some("1"));
        assert_eq!(after(Error::invalid("")), None);
    }
}
