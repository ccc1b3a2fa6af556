//! Responses over HTTP: JSON, and errors.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use parm_oip::http as wire;
use parm_oip::{Error, Status};

/// What a handler returns.
pub(super) type Answer = Result<Response, ErrorResponse>;

/// An error of the protocol as a response.
pub(super) struct ErrorResponse(pub(super) Error);

impl From<Error> for ErrorResponse {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.status.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, json(wire::encode_error(&self.0).to_bytes())).into_response()
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
