//! The protocol's bodies over HTTP: JSON, and JSON with tensors in binary behind it.
//!
//! A body in binary form is some JSON, as many bytes as the header [`HEADER_LENGTH`] says, and then
//! the data of those tensors whose JSON has a `binary_data_size`, in order. Tensors of a body that is
//! read are slices of it; a body that is written is a list of pieces, which are the tensors' own.
//!
//! What is read of requests is what Triton accepts, with its words for what is wrong; what is read of
//! responses is more: numbers for FP16 and BF16, `null` for a NaN, and parameters that are no plain
//! values, which are left out. `NaN`, `Infinity` and `-Infinity`, which are no JSON, stand for
//! themselves in tensors, as many servers and clients write them.

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

/// The header, in lower case, with the number of bytes of JSON at the head of a body in binary form; 0
/// marks a raw request, see [`decode_raw_request`]. Without it the body is all JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// How tensors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As lists of numbers in JSON.
    #[default]
    Json,
    /// As bytes behind the JSON.
    Binary,
}

/// In which form a request wants its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputForms {
    /// Of outputs that are not named below.
    pub default: Form,
    /// By the outputs' names.
    pub named: Vec<(String, Form)>,
}

impl OutputForms {
    /// The form of an output.
    #[must_use]
    pub fn of(&self, output: &str) -> Form {
        self.named.iter().find(|(name, _)| name == output).map_or(self.default, |&(_, form)| form)
    }
}

/// What is read: a request, strictly, or a response, leniently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// A body to send, and the headers that it needs.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The value of the header [`HEADER_LENGTH`]; none: do not send it.
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
/// [`Status::InvalidArgument`](super::Status) if it is no number.
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

/// Reads the body of `GET /v2`; what is missing or null is empty.
///
/// # Errors
/// [`Status::InvalidArgument`](super::Status) if it is something else.
pub fn decode_server_metadata(body: &[u8]) -> Result<ServerMetadata, Error> {
    json::parse(body, &mut None, "server metadata")
}

/// The body of `GET /v2/models/{model}`.
#[must_use]
pub fn encode_model_metadata(metadata: &ModelMetadata) -> Body {
    json::to_body(metadata)
}

/// Reads the body of `GET /v2/models/{model}`; what is missing or null is empty.
///
/// # Errors
/// [`Status::InvalidArgument`](super::Status) if it is something else.
pub fn decode_model_metadata(body: &[u8]) -> Result<ModelMetadata, Error> {
    json::parse(body, &mut None, "model metadata")
}

#[cfg(test)]
mod tests;
