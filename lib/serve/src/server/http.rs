//! The protocol over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::auth::{Access, Port};
use super::blocking::LITTLE;
use super::body::{self, Packing};
use super::budget::Reservation;
use super::statistics::{self, Statistics};
use super::{Server, model_config};
use crate::models::Served;
use parm_oip::http::OutputForms;
use parm_oip::instance::CallContext;
use parm_oip::{Error, InferResponse, Status, http as wire};

/// The header that is copied from the request to the response.
const REQUEST_ID: &str = "x-request-id";

/// The state that handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) server: Arc<Server>,
    pub(super) access: Arc<Access>,
}

type Answer = Result<Response, ErrorResponse>;

/// An error of the protocol as a response.
pub(super) struct ErrorResponse(pub(super) Error);

impl From<Error> for ErrorResponse {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The routes that use models.
pub(super) fn inference(shared: Shared) -> Router {
    let routes = Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/", get(server_metadata))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(ready))
        .route("/v2/models/{model}/config", get(config))
        .route("/v2/models/{model}/stats", get(model_statistics))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(ready))
        .route("/v2/models/{model}/versions/{version}/config", get(config))
        .route("/v2/models/{model}/versions/{version}/stats", get(model_statistics))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer));
    let access = Arc::clone(&shared.access);
    guarded(routes, move |headers| access.inference(headers))
        // Health needs no key.
        .route("/v2/health/live", get(async || StatusCode::OK))
        .route("/v2/health/ready", get(server_ready))
        .with_state(shared)
}

/// The routes for operators.
pub(super) fn admin(shared: Shared, port: Port) -> Router {
    let views = Router::new()
        .route("/", get(super::page::page))
        .route("/status.json", get(super::page::status))
        .route("/metrics", get(super::metrics::metrics))
        .route("/v2/repository/index", post(index));
    let management = Router::new()
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route("/v2/models/{model}/coding/resume", post(resume_coding));
    let [one, other] = [Arc::clone(&shared.access), Arc::clone(&shared.access)];
    let views = guarded(views, move |headers| one.view(headers));
    views.merge(guarded(management, move |headers| other.manage(headers, port))).with_state(shared)
}

fn guarded(
    routes: Router<Shared>,
    check: impl Fn(&HeaderMap) -> Result<(), Error> + Clone + Send + Sync + 'static,
) -> Router<Shared> {
    routes.route_layer(axum::middleware::from_fn(move |request: Request, next: axum::middleware::Next| {
        let allowed = check(request.headers());
        async move {
            match allowed {
                Ok(()) => next.run(request).await,
                Err(error) => ErrorResponse(error).into_response(),
            }
        }
    }))
}

/// Adds the responses to unknown routes and methods.
pub(super) fn with_fallbacks(router: Router) -> Router {
    router
        .fallback(async |request: Request| {
            ErrorResponse(Error::new(Status::NotFound, format!("found no route {}", request.uri().path())))
        })
        .method_not_allowed_fallback(async |request: Request| {
            let text = format!(
                "found the method {}, which {} does not support",
                request.method(),
                request.uri().path()
            );
            (StatusCode::METHOD_NOT_ALLOWED, json(wire::encode_error(&Error::invalid(text)).to_bytes()))
        })
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.status.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, json(wire::encode_error(&self.0).to_bytes())).into_response()
    }
}

fn json(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}

/// A value as JSON.
pub(super) fn as_json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| Error::new(Status::Internal, error.to_string()))?;
    Ok(json(text))
}

#[derive(Deserialize)]
struct ModelPath {
    model: String,
    #[serde(default)]
    version: String,
}

async fn server_metadata(State(shared): State<Shared>) -> Response {
    json(wire::encode_server_metadata(&shared.server.metadata()).to_bytes())
}

async fn server_ready(State(shared): State<Shared>) -> StatusCode {
    if shared.server.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn found(shared: &Shared, path: &ModelPath) -> Result<Arc<Served>, Error> {
    shared.server.models.find(&path.model, &path.version)
}

async fn metadata(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    let metadata = shared.server.models.metadata(&path.model, &path.version)?;
    Ok(json(wire::encode_model_metadata(&metadata).to_bytes()))
}

async fn ready(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    found(&shared, &path)?.ready()?;
    Ok(StatusCode::OK.into_response())
}

async fn config(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    let served = found(&shared, &path)?;
    as_json(&model_config::ModelConfig::of(&served, &shared.server.limits)?)
}

async fn all_statistics(State(shared): State<Shared>) -> Answer {
    as_json(&Statistics { model_stats: statistics::of(&shared.server.models.all()).await })
}

async fn model_statistics(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    let versions = shared.server.models.versions(&path.model, &path.version)?;
    as_json(&Statistics { model_stats: statistics::of(&versions).await })
}

async fn infer(State(shared): State<Shared>, Path(path): Path<ModelPath>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let (server, headers) = (&shared.server, parts.headers);
    let held = server.held(&parts.extensions);
    let length =
        headers.get(wire::HEADER_LENGTH).map(|value| wire::header_length(value.as_bytes())).transpose()?;
    let limit = server.limits.body_bytes;
    let body = body::read(&headers, body, length.unwrap_or(0), limit).await?;
    let is_long = body.is_long(length);
    let (unpacked, reads) = (Arc::clone(&held), Arc::clone(&held));
    let (request, forms) = if length == Some(0) {
        let loaded = found(&shared, &path)?.loaded()?;
        let body = server.blocking.run(is_long, move || body.unpack(limit, &unpacked)).await?;
        wire::decode_raw_request(&path.model, &path.version, &loaded.metadata.inputs, body)?
    } else {
        let read = move || {
            let body = body.unpack(limit, &unpacked)?;
            let read = wire::decode_request(&path.model, &path.version, length, &body)?;
            // Numbers in JSON are copied into tensors.
            reads.reserve(if length.is_some() {
                0
            } else {
                read.0.inputs.iter().map(|input| input.data.len()).sum()
            })?;
            Ok(read)
        };
        server.blocking.run(is_long, read).await?
    };
    let call = CallContext { headers: server.passed_on(&headers), ..CallContext::default() };
    let response = server.infer(request, call, &held).await?;
    write(server, &headers, response, forms, &held).await
}

/// The response to an inference request.
async fn write(
    server: &Server,
    asked: &HeaderMap,
    response: InferResponse,
    forms: OutputForms,
    held: &Reservation,
) -> Answer {
    let text = wire::text_bytes(&response, &forms);
    let packing = Packing::wanted(asked);
    let binary: usize = response.outputs.iter().map(|output| output.data.len()).sum();
    held.reserve(text + if packing.is_some() { text + binary } else { 0 })?;
    let is_long = text > LITTLE || packing.is_some() && text + binary > LITTLE;
    let write = move || {
        let encoded = wire::encode_response(&response, &forms)?;
        let packed = packing.and_then(|packing| Some((packing, packing.pack(&encoded.body.to_bytes())?)));
        Ok((encoded, packed))
    };
    let (encoded, packed) = server.blocking.run(is_long, write).await?;
    let mut answer = HeaderMap::new();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(encoded.content_type()));
    if let Some(length) = encoded.header_length {
        answer.insert(HeaderName::from_static(wire::HEADER_LENGTH), HeaderValue::from(length));
    }
    if let Some(id) = asked.get(REQUEST_ID) {
        answer.insert(HeaderName::from_static(REQUEST_ID), id.clone());
    }
    let Some((packing, packed)) = packed else {
        return Ok((answer, Body::new(encoded.body)).into_response());
    };
    answer.insert(CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
    answer.insert(VARY, HeaderValue::from(ACCEPT_ENCODING));
    Ok((answer, packed).into_response())
}

/// The most bytes of a request for the index.
const INDEX_BYTES: usize = 4096;

#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

async fn index(State(shared): State<Shared>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, 0, INDEX_BYTES).await?;
    let body = body.unpack(INDEX_BYTES, &shared.server.held(&parts.extensions))?;
    let request: IndexRequest = match body.trim_ascii() {
        [] => IndexRequest::default(),
        text => serde_json::from_slice(text)
            .map_err(|error| Error::invalid(format!("failed to parse the request JSON buffer: {error}")))?,
    };
    as_json(&shared.server.models.index(request.ready))
}

async fn load(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    shared.server.models.load(&path.model).await?;
    Ok(StatusCode::OK.into_response())
}

async fn unload(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    shared.server.models.unload(&path.model)?;
    Ok(StatusCode::OK.into_response())
}

async fn resume_coding(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    for served in shared.server.models.versions(&path.model, "")? {
        served.loaded()?.runtime.resume_coding()?;
    }
    Ok(StatusCode::OK.into_response())
}
