//! The Open Inference Protocol: requests and responses, their encodings, and a client.
//!
//! The same requests and responses are encoded as JSON over HTTP, as JSON followed by binary tensors, and
//! as protocol buffers over gRPC. The data of a tensor are little-endian bytes in row-major order, as in the
//! binary encodings, and are not copied.

mod body;
pub mod client;
mod error;
pub mod grpc;
pub mod http;
pub mod instance;
pub mod load;
pub mod pem;
pub mod proto;
mod tensor;
pub mod together;
pub mod transport;

use std::collections::BTreeMap;

use parm::npy::RowLayout;
use serde::{Deserialize, Deserializer, Serialize};

pub use error::{Error, Status};
pub use parm_config::Datatype;
pub use tensor::{Chunks, Place, Tensor, check};

/// Parameters of a request, a response or a tensor, by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A string.
    String(String),
}

impl std::fmt::Display for Parameter {
    /// As JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Uint(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::String(text) => write!(f, "{text:?}"),
        }
    }
}

/// An inference request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// The model's name.
    pub model: String,
    /// The model's version; empty: the default one.
    pub version: String,
    /// The client's id of the request; may be empty.
    pub id: String,
    /// Parameters such as `timeout` (µs) and `priority`.
    pub parameters: Parameters,
    /// The input tensors.
    pub inputs: Vec<Tensor>,
    /// The requested outputs; empty: all.
    pub outputs: Vec<RequestedOutput>,
}

impl InferRequest {
    /// True if it belongs to a sequence, whose instance keeps state.
    #[must_use]
    pub(crate) fn is_step(&self) -> bool {
        match self.parameters.get("sequence_id") {
            None | Some(Parameter::Int(0) | Parameter::Uint(0)) => false,
            Some(Parameter::String(name)) => !name.is_empty(),
            Some(_) => true,
        }
    }
}

/// An output that a request asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Parameters such as `classification`.
    pub parameters: Parameters,
}

/// The response to an [`InferRequest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// The model's name.
    pub model: String,
    /// The version that answered; empty if the server returns none.
    pub version: String,
    /// The request's id.
    pub id: String,
    /// Parameters such as `parm_reconstructed`.
    pub parameters: Parameters,
    /// The output tensors.
    pub outputs: Vec<Tensor>,
}

/// The metadata of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMetadata {
    /// Its name.
    #[serde(deserialize_with = "or_empty")]
    pub name: String,
    /// Its version.
    #[serde(deserialize_with = "or_empty")]
    pub version: String,
    /// The protocol extensions that it supports.
    #[serde(deserialize_with = "or_empty")]
    pub extensions: Vec<String>,
}

/// The metadata of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelMetadata {
    /// Its name.
    #[serde(deserialize_with = "or_empty")]
    pub name: String,
    /// Its versions.
    #[serde(deserialize_with = "or_empty")]
    pub versions: Vec<String>,
    /// Its platform; may be empty.
    #[serde(deserialize_with = "or_empty")]
    pub platform: String,
    /// Its inputs.
    #[serde(deserialize_with = "or_empty")]
    pub inputs: Vec<TensorMetadata>,
    /// Its outputs.
    #[serde(deserialize_with = "or_empty")]
    pub outputs: Vec<TensorMetadata>,
}

/// The metadata of an input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// Its shape with the dimension of rows; −1: any size.
    #[serde(default, deserialize_with = "or_empty")]
    pub shape: Vec<i64>,
}

impl TensorMetadata {
    /// An input for any number of these rows, for a server that does not describe its inputs.
    #[must_use]
    pub fn of_rows(name: &str, rows: &RowLayout) -> Self {
        let shape = std::iter::once(-1).chain(rows.shape.iter().map(|&axis| axis as i64)).collect();
        Self { name: name.to_owned(), datatype: rows.dtype.into(), shape }
    }
}

/// Reads null as the default, since some servers send null for missing fields.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
