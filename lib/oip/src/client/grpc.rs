//! The protocol over gRPC.
//!
//! Unary calls are made here without tonic's client, for three reasons. It reports the same kind of error for
//! the server's status, a malformed answer and a lost connection, which must be distinguished here. It panics
//! at status details that are not base64. It takes a third longer for a picture's tensor
//! (`benches/calls.rs`).

use std::time::Duration;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode;
use prost::Message;

use super::dial::Dialer;
use super::echo::Echo;
use super::failure::{refused, said};
use super::http2::Http2;
use super::reply::Reply;
use super::target::Target;
use crate::grpc::frame;
use crate::grpc::{read_model_metadata, read_response};
use crate::http::Body;
use crate::instance::{CallContext, CallError};
use crate::proto::{
    ModelConfigRequest, ModelConfigResponse, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ServerReadyRequest, ServerReadyResponse,
};
use crate::{Error, InferRequest, InferResponse, ModelMetadata, Status};

const RESOURCE_EXHAUSTED: i32 = 8;

/// A server at one address.
pub(super) struct Grpc {
    target: Target,
    http: Http2,
    pub(super) echo: Echo,
    body_bytes: usize,
}

impl Grpc {
    pub(super) fn new(target: Target, dialer: Dialer, body_bytes: usize) -> Self {
        Self { target, http: Http2::new(dialer), echo: Echo::default(), body_bytes }
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> &str {
        self.target.authority.as_str()
    }

    pub(super) async fn infer(
        &self,
        request: &InferRequest,
        call: &CallContext,
    ) -> Result<InferResponse, CallError> {
        let body = frame::encode_request(request).map_err(CallError::Refused)?;
        let read = |response: ModelInferResponse| {
            let response = read_response(response).map_err(garbled)?;
            self.echo.check(request, &response)?;
            Ok(response)
        };
        self.call("ModelInfer", body, call, read).await
    }

    pub(super) async fn ready(&self, name: String, version: String) -> Result<(), CallError> {
        let ready = if name.is_empty() {
            self.ask::<ServerReadyResponse>("ServerReady", &ServerReadyRequest {}).await?.ready
        } else {
            self.ask::<ModelReadyResponse>("ModelReady", &ModelReadyRequest { name, version }).await?.ready
        };
        if ready {
            return Ok(());
        }
        Err(CallError::Failed(Error::new(Status::Unavailable, "it says that it is not ready")))
    }

    pub(super) async fn metadata(&self, name: String, version: String) -> Result<ModelMetadata, CallError> {
        let said: ModelMetadataResponse =
            self.ask("ModelMetadata", &ModelMetadataRequest { name, version }).await?;
        read_model_metadata(said).map_err(garbled)
    }

    /// `max_batch_size` in Triton's configuration of a model.
    pub(super) async fn max_batch_size(&self, name: String, version: String) -> Result<i64, CallError> {
        let said: ModelConfigResponse =
            self.ask("ModelConfig", &ModelConfigRequest { name, version }).await?;
        Ok(said.config.map_or(0, |config| config.max_batch_size.into()))
    }

    async fn ask<M: Message + Default>(&self, method: &str, request: &impl Message) -> Result<M, CallError> {
        let body = frame::encode(request).map_err(CallError::Refused)?;
        self.call(method, body, &CallContext::default(), Ok).await
    }

    async fn call<M: Message + Default, T>(
        &self,
        method: &str,
        body: Body,
        call: &CallContext,
        read: impl FnOnce(M) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let uri = Uri::builder()
            .scheme(self.target.scheme())
            .authority(self.target.authority.clone())
            .path_and_query(format!("/inference.GRPCInferenceService/{method}"));
        let uri = uri.build().map_err(|error| CallError::Refused(Error::invalid(error.to_string())))?;
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
        let headers = request.headers_mut();
        *headers = self.target.headers(&call.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = call.timeout.and_then(timeout) {
            headers.insert(HeaderName::from_static("grpc-timeout"), timeout);
        }
        self.http.call(request, self.body_bytes, |reply| read(message(reply)?)).await
    }
}

/// The message of an answer, or its error.
fn message<M: Message + Default>(reply: Reply) -> Result<M, CallError> {
    if reply.code != StatusCode::OK {
        // The status comes from a proxy or another kind of server, and does not concern the request.
        return Err(match refused(reply.code, &reply.body) {
            CallError::Refused(error) if error.status == Status::InvalidArgument => {
                CallError::Garbled(format!("found status {} of HTTP: {error}", reply.code.as_u16()))
            }
            error => error,
        });
    }
    match reply.trailers.as_ref().and_then(status).or_else(|| status(&reply.headers)) {
        Some((0, _)) => frame::decode(reply.body).map_err(garbled),
        // Servers report this when they are busy.
        Some((code @ RESOURCE_EXHAUSTED, message)) => {
            let error = Error::new(Status::Unavailable, message);
            Err(CallError::Failed(Error { grpc_code: Some(code), ..error }))
        }
        Some((code, message)) => {
            let error = Error::new(Status::from_grpc(code), message);
            Err(said(Error { grpc_code: Some(code), ..error }))
        }
        None => Err(CallError::Garbled("found no grpc-status, expected a gRPC answer".to_owned())),
    }
}

fn garbled(error: Error) -> CallError {
    CallError::Garbled(error.message)
}

/// The value of `grpc-timeout`, which has at most eight digits; none if the timeout is longer.
fn timeout(timeout: Duration) -> Option<HeaderValue> {
    let [us, ms, s] = [timeout.as_micros(), timeout.as_millis(), timeout.as_secs().into()];
    let (number, unit) =
        [(us, 'u'), (ms, 'm'), (s, 'S')].into_iter().find(|&(number, _)| number < 100_000_000)?;
    HeaderValue::try_from(format!("{number}{unit}")).ok()
}

/// The status and message of a call.
fn status(headers: &HeaderMap) -> Option<(i32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").map_or(&[][..], HeaderValue::as_bytes);
    let message = percent_decode(message).decode_utf8_lossy();
    let empty = message.is_empty();
    Some((code, if empty { format!("status {code} without a message") } else { message.into_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_eight_digits() {
        for (time, expected) in [
            (Duration::from_nanos(1500), Some("1u")),
            (Duration::from_millis(50), Some("50000u")),
            (Duration::from_secs(99), Some("99000000u")),
            (Duration::from_secs(100), Some("100000m")),
            (Duration::from_secs(100_000), Some("100000S")),
            (Duration::MAX, None),
        ] {
            assert_eq!(timeout(time).as_ref().map(HeaderValue::as_bytes), expected.map(str::as_bytes));
        }
    }

    #[test]
    fn statuses_are_read_whatever_details_accompany_them() {
        let read = |fields: &[(&'static str, &[u8])]| {
            let field = |&(name, value): &(&'static str, &[u8])| {
                (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
            };
            status(&fields.iter().map(field).collect())
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("grpc-status", b"x")]), None);
        assert_eq!(read(&[("grpc-status", b"\xff")]), None);
        let details: (&str, &[u8]) = ("grpc-status-details-bin", b"!!! no base64");
        for (message, expected) in [
            (&b"a%20b%C3%BC"[..], "a bü"),
            (b"%ff", "\u{fffd}"),
            (b"", "status 3 without a message"),
            (b"%", "%"),
        ] {
            let found = read(&[("grpc-status", b"3"), ("grpc-message", message), details]);
            assert_eq!(found, Some((3, expected.to_owned())));
        }
    }
}
