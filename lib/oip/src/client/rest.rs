//! Calls over HTTP, in JSON or binary.

use std::sync::OnceLock;

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::dial::Dialer;
use super::echo::Echo;
use super::failure::refused;
use super::http1::Http1;
use super::reply::Reply;
use super::target::Target;
use crate::http::{
    self as wire, Body, Form, HEADER_LENGTH, decode_model_metadata, decode_response, decode_server_metadata,
    encode_request,
};
use crate::instance::{CallContext, CallError, Headers};
use crate::{Error, InferRequest, InferResponse, ModelMetadata, ServerMetadata, Status};

/// The characters that are escaped in names in paths.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The name of the extension for binary tensors.
const BINARY: &str = "binary_tensor_data";

/// The name of TorchServe, which has no routes for metadata and readiness of a model.
const TORCH_SERVE: &str = "torchserve";

/// A server at one address.
pub(super) struct Rest {
    target: Target,
    host: Option<HeaderValue>,
    http: Http1,
    pub(super) echo: Echo,
    /// The form that the server accepts, when it is known.
    form: OnceLock<Form>,
    body_bytes: usize,
}

impl Rest {
    pub(super) fn new(target: Target, dialer: Dialer, form: Option<Form>, body_bytes: usize) -> Self {
        let known = OnceLock::new();
        form.map(|form| known.set(form));
        let host = HeaderValue::try_from(target.authority.as_str()).ok();
        Self { host, target, http: Http1::new(dialer), echo: Echo::default(), form: known, body_bytes }
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
        if self.form.get().is_none() {
            self.ask_form().await?;
        }
        if let Some(&form) = self.form.get() {
            return self.infer_as(form, request, call).await;
        }
        match self.infer_as(Form::Binary, request, call).await {
            // A failed call may have run, and a step of a sequence must not run twice.
            Err(CallError::Failed(_) | CallError::Garbled(_) | CallError::Unexpected(_))
                if !request.is_step() =>
            {
                self.settle(Form::Json, self.infer_as(Form::Json, request, call).await)
            }
            Err(CallError::Refused(_)) => {
                self.settle(Form::Json, self.infer_as(Form::Json, request, call).await)
            }
            answer => self.settle(Form::Binary, answer),
        }
    }

    /// Asks the server whether it supports binary tensors. It may support them without stating it.
    async fn ask_form(&self) -> Result<(), CallError> {
        match self.server().await {
            Ok(server) if server.extensions.iter().any(|extension| extension == BINARY) => {
                self.form.get_or_init(|| Form::Binary);
                Ok(())
            }
            // Server metadata are optional.
            Ok(_)
            | Err(
                CallError::Refused(_)
                | CallError::Failed(_)
                | CallError::Garbled(_)
                | CallError::Unexpected(_),
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a form if it was answered.
    fn settle(
        &self,
        form: Form,
        answer: Result<InferResponse, CallError>,
    ) -> Result<InferResponse, CallError> {
        if answer.is_ok() {
            self.form.get_or_init(|| form);
        }
        answer
    }

    async fn infer_as(
        &self,
        form: Form,
        request: &InferRequest,
        call: &CallContext,
    ) -> Result<InferResponse, CallError> {
        let encoded = encode_request(request, form).map_err(CallError::Refused)?;
        let path = model_path(&request.model, &request.version) + "/infer";
        let mut sent = self.request(Method::POST, &path, &call.headers)?;
        sent.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoded.content_type()));
        if let Some(length) = encoded.header_length {
            sent.headers_mut().insert(HeaderName::from_static(HEADER_LENGTH), HeaderValue::from(length));
        }
        let read = |reply: &Reply| {
            let garbled = |error: Error| CallError::Garbled(error.message);
            let length = reply.headers.get(HEADER_LENGTH).map(|value| wire::header_length(value.as_bytes()));
            let response = length
                .transpose()
                .and_then(|length| decode_response(length, &reply.body))
                .map_err(garbled)?;
            self.echo.check(request, &response)?;
            Ok(response)
        };
        self.call(sent.map(|()| encoded.body), read).await
    }

    pub(super) async fn ready(&self, model: &str, version: &str) -> Result<(), CallError> {
        if self.form.get().is_none() {
            self.ask_form().await?;
        }
        if model.is_empty() {
            return self.get_ready("/v2/health/ready").await;
        }
        match self.get_ready(&(model_path(model, version) + "/ready")).await {
            Err(CallError::Refused(error) | CallError::Failed(error))
                if matches!(
                    error.status,
                    Status::NotFound | Status::InvalidArgument | Status::Unimplemented
                ) && self.is_torch_serve().await =>
            {
                self.get_ready("/v2/health/ready").await
            }
            answer => answer,
        }
    }

    async fn get_ready(&self, path: &str) -> Result<(), CallError> {
        #[derive(serde::Deserialize)]
        struct Ready {
            ready: bool,
        }
        let read = |reply: &Reply| match serde_json::from_slice::<Ready>(&reply.body) {
            Ok(Ready { ready: false }) => {
                Err(CallError::Failed(Error::new(Status::Unavailable, "it says that it is not ready")))
            }
            // Most servers answer 200 without a body.
            _ => Ok(()),
        };
        self.get(path, read).await
    }

    async fn is_torch_serve(&self) -> bool {
        self.server().await.is_ok_and(|server| server.name.eq_ignore_ascii_case(TORCH_SERVE))
    }

    async fn server(&self) -> Result<ServerMetadata, CallError> {
        let read = |reply: &Reply| decode_server_metadata(&reply.body);
        self.get("/v2", |reply| read(reply).map_err(|error| CallError::Garbled(error.message))).await
    }

    pub(super) async fn metadata(&self, model: &str, version: &str) -> Result<ModelMetadata, CallError> {
        let read = |reply: &Reply| decode_model_metadata(&reply.body);
        let path = model_path(model, version);
        self.get(&path, |reply| read(reply).map_err(|error| CallError::Garbled(error.message))).await
    }

    /// `max_batch_size` in Triton's configuration of a model.
    pub(super) async fn max_batch_size(&self, model: &str, version: &str) -> Result<i64, CallError> {
        #[derive(serde::Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct Config {
            max_batch_size: i64,
        }
        let path = model_path(model, version) + "/config";
        let read = |reply: &Reply| serde_json::from_slice::<Config>(&reply.body);
        let config =
            self.get(&path, |reply| read(reply).map_err(|error| CallError::Garbled(error.to_string())));
        Ok(config.await?.max_batch_size)
    }

    async fn get<T>(
        &self,
        path: &str,
        read: impl FnOnce(&Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let request = self.request(Method::GET, path, &Headers::default())?;
        self.call(request.map(|()| Body::default()), read).await
    }

    /// Sends a request, and reads its answer. A status other than success is an error.
    async fn call<T>(
        &self,
        request: Request<Body>,
        read: impl FnOnce(&Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let read = |reply: Reply| {
            if reply.code.is_success() { read(&reply) } else { Err(refused(reply.code, &reply.body)) }
        };
        self.http.call(request, self.body_bytes, read).await
    }

    /// A request without its body.
    fn request(&self, method: Method, path: &str, passed_on: &Headers) -> Result<Request<()>, CallError> {
        let uri = format!("{}{path}", self.target.prefix);
        let request = Request::builder().method(method).uri(uri).body(());
        // The name of the model may be too long for a path.
        let mut request = request.map_err(|error| CallError::Refused(Error::invalid(error.to_string())))?;
        *request.headers_mut() = self.target.headers(passed_on);
        self.host.clone().map(|host| request.headers_mut().insert(HOST, host));
        Ok(request)
    }
}

/// The path of a model, or of one version of it.
fn model_path(model: &str, version: &str) -> String {
    let mut path = format!("/v2/models/{}", utf8_percent_encode(model, ESCAPED));
    if !version.is_empty() {
        path.extend(["/versions/"].into_iter().chain(utf8_percent_encode(version, ESCAPED)));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(model_path("m-1._~", ""), "/v2/models/m-1._~");
        assert_eq!(model_path("a/b c", "ü?"), "/v2/models/a%2Fb%20c/versions/%C3%BC%3F");
    }
}
