//! The protocol's bodies over HTTP: JSON, and JSON followed by binary tensors.
//!
//! A body in binary form has as many bytes of JSON as the header [`HEADER_LENGTH`] says, then the data of
//! the tensors whose JSON has a `binary_data_size`, in order. Decoded tensors are slices of the body; an
//! encoded body is a list of pieces, without copies of the tensors.
//!
//! Requests are accepted and refused as in Triton, with the same messages. Responses may also have numbers
//! for FP16 and BF16, `null` for NaN, and parameters that are not plain values, which are ignored. Tensors
//! may contain `NaN`, `Infinity` and `-Infinity`, which are not JSON but which many servers and clients
//! write.

mod decode;
mod elements;
mod encode;
mod error;
mod json;

pub use decode::{decode_raw_request, decode_request, decode_response};
pub use encode::{encode_request, encode_response, text_bytes};
pub use error::{decode_error, encode_error};

pub use super::body::Body;
use super::{Error, ModelMetadata, ServerMetadata};

/// The header with the number of bytes of JSON at the beginning of a body in binary form. 0 marks a raw
/// request, see [`decode_raw_request`]. Without the header the body is JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The form of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A list of numbers in JSON.
    #[default]
    Json,
    /// Bytes after the JSON.
    Binary,
}

/// The requested forms of outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputForms {
    /// The form of outputs that `named` does not list.
    pub default: Form,
    /// Forms by the names of outputs.
    pub named: Vec<(String, Form)>,
}

impl OutputForms {
    /// The form of an output.
    #[must_use]
    pub fn of(&self, output: &str) -> Form {
        self.named.iter().find(|(name, _)| name == output).map_or(self.default, |&(_, form)| form)
    }
}

/// Requests are decoded strictly, responses leniently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// A body with the headers that describe it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The value of the header [`HEADER_LENGTH`]; none: no such header.
    pub header_length: Option<usize>,
    /// The body.
    pub body: Body,
}

impl Encoded {
    /// The value of the header `Content-Type`.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        if self.header_length.is_some() { "application/octet-stream" } else { "application/json" }
    }
}

/// Reads the value of the header [`HEADER_LENGTH`].
///
/// # Errors
/// [`Status::InvalidArgument`](super::Status) if it is not a number.
pub fn header_length(value: &[u8]) -> Result<usize, Error> {
    let value = String::from_utf8_lossy(value);
    value.trim().parse().map_err(|_| {
        Error::invalid(format!(
            "Unable to parse Inference-Header-Content-Length, got: {value}, expected a size"
        ))
    })
}

/// The body of `GET /v2`.
#[must_use]
pub fn encode_server_metadata(metadata: &ServerMetadata) -> Body {
    json::to_body(metadata)
}

/// Reads the body of `GET /v2`; missing and null fields are empty.
///
/// # Errors
/// [`Status::InvalidArgument`](super::Status) if the body is malformed.
pub fn decode_server_metadata(body: &[u8]) -> Result<ServerMetadata, Error> {
    json::parse(body, &mut None, "server metadata")
}

/// The body of `GET /v2/models/{model}`.
#[must_use]
pub fn encode_model_metadata(metadata: &ModelMetadata) -> Body {
    json::to_body(metadata)
}

/// Reads the body of `GET /v2/models/{model}`; missing and null fields are empty.
///
/// # Errors
/// [`Status::InvalidArgument`](super::Status) if the body is malformed.
pub fn decode_model_metadata(body: &[u8]) -> Result<ModelMetadata, Error> {
    json::parse(body, &mut None, "model metadata")
}

#[cfg(test)]
mod tests;
