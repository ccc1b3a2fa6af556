//! The protocol over HTTP: the handlers of its routes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::blocking::LITTLE;
use super::body;
use super::budget::Reservation;
use super::compression::Compression;
use super::model_config::ModelConfig;
use super::response::{Answer, as_json, json};
use super::state::{self, Server, Shared};
use super::statistics::{self, Statistics};
use crate::models::Served;
use parm_oip::http::OutputForms;
use parm_oip::instance::CallContext;
use parm_oip::{Error, InferResponse, http as wire};

/// The header that is copied from the request to the response.
const REQUEST_ID: &str = "x-request-id";

/// The model that a path names.
#[derive(Deserialize)]
pub(super) struct ModelPath {
    model: String,
    #[serde(default)]
    version: String,
}

pub(super) async fn server_metadata() -> Response {
    json(wire::encode_server_metadata(&state::metadata()).to_bytes())
}

pub(super) async fn server_ready(State(shared): State<Shared>) -> StatusCode {
    if shared.server.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn found(shared: &Shared, path: &ModelPath) -> Result<Arc<Served>, Error> {
    shared.server.models.find(&path.model, &path.version)
}

pub(super) async fn metadata(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    let metadata = shared.server.models.metadata(&path.model, &path.version)?;
    Ok(json(wire::encode_model_metadata(&metadata).to_bytes()))
}

pub(super) async fn ready(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    found(&shared, &path)?.ready()?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn config(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    let served = found(&shared, &path)?;
    as_json(&ModelConfig::of(&served, &shared.server.limits)?)
}

pub(super) async fn all_statistics(State(shared): State<Shared>) -> Answer {
    as_json(&Statistics { model_stats: statistics::of(&shared.server.models.all()).await })
}

pub(super) async fn model_statistics(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    let versions = shared.server.models.versions(&path.model, &path.version)?;
    as_json(&Statistics { model_stats: statistics::of(&versions).await })
}

pub(super) async fn infer(
    State(shared): State<Shared>,
    Path(path): Path<ModelPath>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let (server, headers) = (&shared.server, parts.headers);
    let held = server.held(&parts.extensions);
    let length =
        headers.get(wire::HEADER_LENGTH).map(|value| wire::header_length(value.as_bytes())).transpose()?;
    let limit = server.limits.body_bytes;
    let body = body::read(&headers, body, length.unwrap_or(0), limit).await?;
    let is_long = body.is_long(length);
    let (decompressed, reads) = (Arc::clone(&held), Arc::clone(&held));
    let (request, forms) = if length == Some(0) {
        let loaded = found(&shared, &path)?.loaded()?;
        let body = server.blocking.run(is_long, move || body.decompress(limit, &decompressed)).await?;
        wire::decode_raw_request(&path.model, &path.version, &loaded.metadata.inputs, body)?
    } else {
        let read = move || {
            let body = body.decompress(limit, &decompressed)?;
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
    let compression = Compression::wanted(asked);
    let binary: usize = response.outputs.iter().map(|output| output.data.len()).sum();
    held.reserve(text + if compression.is_some() { text + binary } else { 0 })?;
    let is_long = text > LITTLE || compression.is_some() && text + binary > LITTLE;
    let write = move || {
        let encoded = wire::encode_response(&response, &forms)?;
        let compressed = compression
            .and_then(|compression| Some((compression, compression.compress(&encoded.body.to_bytes())?)));
        Ok((encoded, compressed))
    };
    let (encoded, compressed) = server.blocking.run(is_long, write).await?;
    let mut answer = HeaderMap::new();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(encoded.content_type()));
    if let Some(length) = encoded.header_length {
        answer.insert(HeaderName::from_static(wire::HEADER_LENGTH), HeaderValue::from(length));
    }
    if let Some(id) = asked.get(REQUEST_ID) {
        answer.insert(HeaderName::from_static(REQUEST_ID), id.clone());
    }
    let Some((compression, compressed)) = compressed else {
        return Ok((answer, Body::new(encoded.body)).into_response());
    };
    answer.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.name()));
    answer.insert(VARY, HeaderValue::from(ACCEPT_ENCODING));
    Ok((answer, compressed).into_response())
}

/// The most bytes of a request for the index.
const INDEX_BYTES: usize = 4096;

#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

pub(super) async fn index(State(shared): State<Shared>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, 0, INDEX_BYTES).await?;
    let body = body.decompress(INDEX_BYTES, &shared.server.held(&parts.extensions))?;
    let request: IndexRequest = match body.trim_ascii() {
        [] => IndexRequest::default(),
        text => serde_json::from_slice(text)
            .map_err(|error| Error::invalid(format!("failed to parse the request JSON buffer: {error}")))?,
    };
    as_json(&shared.server.models.index(request.ready))
}

pub(super) async fn load(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    shared.server.models.load(&path.model).await?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn unload(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    shared.server.models.unload(&path.model)?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn resume_coding(State(shared): State<Shared>, Path(path): Path<ModelPath>) -> Answer {
    for served in shared.server.models.versions(&path.model, "")? {
        served.loaded()?.runtime.resume_coding()?;
    }
    Ok(StatusCode::OK.into_response())
}
