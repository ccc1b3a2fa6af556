//! Converts between the messages of gRPC and the protocol's types.
//!
//! Tensors are read from `contents` and from `raw_*_contents`, and written raw. Raw data are slices of the
//! message.

mod contents;
pub mod frame;

use std::collections::BTreeMap;

use bytes::Bytes;

use parm_config::UnknownDatatype;

use super::tensor::{Place, check, refuse_shared_memory};
use super::{
    Chunks, Datatype, Error, InferRequest, InferResponse, ModelMetadata, Parameter, Parameters,
    RequestedOutput, ServerMetadata, Status, Tensor, TensorMetadata,
};
use crate::proto::infer_parameter::ParameterChoice;
use crate::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::proto::model_infer_response::InferOutputTensor;
use crate::proto::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
    ServerMetadataResponse, model_metadata_response,
};

/// Reads a request.
///
/// # Errors
/// [`Status::InvalidArgument`] if it violates the protocol, such as one with both raw data and contents;
/// [`Status::Unimplemented`] if it uses shared memory.
pub fn read_request(message: ModelInferRequest) -> Result<InferRequest, Error> {
    let model = message.model_name;
    let mut data = Data::new(message.raw_input_contents, message.inputs.len(), "input", &model)?;
    let mut inputs = Vec::new();
    for InferInputTensor { name, datatype, shape, parameters, contents } in message.inputs {
        inputs.push(data.tensor(name, &datatype, shape, parameters, contents)?);
    }
    let mut outputs = Vec::new();
    for output in message.outputs {
        let parameters = read_parameters(output.parameters)?;
        refuse_shared_memory(&parameters, "output", &output.name)?;
        outputs.push(RequestedOutput { name: output.name, parameters });
    }
    let parameters = read_parameters(message.parameters)?;
    Ok(InferRequest { model, version: message.model_version, id: message.id, parameters, inputs, outputs })
}

/// Writes a request.
#[must_use]
pub fn write_request(request: &InferRequest) -> ModelInferRequest {
    let raw_input_contents = request.inputs.iter().map(|tensor| tensor.data.contiguous()).collect();
    ModelInferRequest { raw_input_contents, ..write_head(request) }
}

/// Writes a request without the data of its tensors.
fn write_head(request: &InferRequest) -> ModelInferRequest {
    let input = |tensor: &Tensor| InferInputTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: write_shape(&tensor.shape),
        parameters: write_parameters(&tensor.parameters),
        contents: None,
    };
    let output = |output: &RequestedOutput| InferRequestedOutputTensor {
        name: output.name.clone(),
        parameters: write_parameters(&output.parameters),
    };
    ModelInferRequest {
        model_name: request.model.clone(),
        model_version: request.version.clone(),
        id: request.id.clone(),
        parameters: write_parameters(&request.parameters),
        inputs: request.inputs.iter().map(input).collect(),
        outputs: request.outputs.iter().map(output).collect(),
        raw_input_contents: Vec::new(),
    }
}

/// Reads a response.
///
/// # Errors
/// [`Status::InvalidArgument`] if it violates the protocol.
pub fn read_response(message: ModelInferResponse) -> Result<InferResponse, Error> {
    let model = message.model_name;
    let mut data = Data::new(message.raw_output_contents, message.outputs.len(), "output", &model)?;
    let mut outputs = Vec::new();
    for InferOutputTensor { name, datatype, shape, parameters, contents } in message.outputs {
        outputs.push(data.tensor(name, &datatype, shape, parameters, contents)?);
    }
    let parameters = read_parameters(message.parameters)?;
    Ok(InferResponse { model, version: message.model_version, id: message.id, parameters, outputs })
}

/// Writes a response.
#[must_use]
pub fn write_response(response: &InferResponse) -> ModelInferResponse {
    let output = |tensor: &Tensor| InferOutputTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: write_shape(&tensor.shape),
        parameters: write_parameters(&tensor.parameters),
        contents: None,
    };
    ModelInferResponse {
        model_name: response.model.clone(),
        model_version: response.version.clone(),
        id: response.id.clone(),
        parameters: write_parameters(&response.parameters),
        outputs: response.outputs.iter().map(output).collect(),
        raw_output_contents: response.outputs.iter().map(|tensor| tensor.data.contiguous()).collect(),
    }
}

/// An iterator over the data of a message's tensors.
struct Data<'a> {
    /// None: the tensors have contents.
    raw: Option<std::vec::IntoIter<Bytes>>,
    kind: &'static str,
    model: &'a str,
}

impl<'a> Data<'a> {
    fn new(raw: Vec<Bytes>, tensors: usize, kind: &'static str, model: &'a str) -> Result<Self, Error> {
        if !raw.is_empty() && raw.len() != tensors {
            return Err(Error::invalid(format!(
                "the number of {kind}s ({tensors}) does not match the number of raw {kind} contents ({}) for \
                 model '{model}'",
                raw.len()
            )));
        }
        Ok(Self { raw: (!raw.is_empty()).then(|| raw.into_iter()), kind, model })
    }

    /// Reads the next tensor.
    fn tensor(
        &mut self,
        name: String,
        datatype: &str,
        shape: Vec<i64>,
        parameters: BTreeMap<String, InferParameter>,
        contents: Option<InferTensorContents>,
    ) -> Result<Tensor, Error> {
        let place = Place { kind: self.kind, name: &name, model: self.model };
        let datatype: Datatype =
            datatype.parse().map_err(|error: UnknownDatatype| Error::invalid(format!("{place}: {error}")))?;
        let shape = read_shape(shape, place)?;
        let parameters = read_parameters(parameters)?;
        refuse_shared_memory(&parameters, self.kind, &name)?;
        let data = match (&mut self.raw, contents) {
            (Some(raw), None) => raw.next().unwrap_or_default(),
            // MLServer sends empty contents beside raw data.
            (Some(raw), Some(_)) if self.kind == "output" => raw.next().unwrap_or_default(),
            (None, Some(contents)) => contents::read(contents, datatype, place)?,
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!(
                    "contents field must not be specified when using raw_{}_contents for '{name}' for model '{}'",
                    self.kind, self.model
                )));
            }
            // A tensor without elements needs no data.
            (None, None) if shape.contains(&0) => Bytes::new(),
            (None, None) => {
                return Err(Error::invalid(format!(
                    "unable to find data for {} tensor '{name}' for model '{}' in request.",
                    self.kind, self.model
                )));
            }
        };
        let data = Chunks::from(data);
        check(datatype, &shape, &data, place)?;
        Ok(Tensor { name, datatype, shape, parameters, data })
    }
}

fn read_shape(shape: Vec<i64>, place: Place) -> Result<Vec<u64>, Error> {
    if let Some(axis) = shape.iter().find(|&&axis| axis < 0) {
        return Err(Error::invalid(format!(
            "{place} has shape {shape:?}, found size {axis}, expected at least 0"
        )));
    }
    Ok(shape.into_iter().map(i64::cast_unsigned).collect())
}

fn write_shape(shape: &[u64]) -> Vec<i64> {
    shape.iter().map(|axis| axis.cast_signed()).collect()
}

fn read_parameters(parameters: BTreeMap<String, InferParameter>) -> Result<Parameters, Error> {
    let read = |(name, parameter): (String, InferParameter)| {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value),
            Some(ParameterChoice::Uint64Param(value)) => {
                i64::try_from(value).map_or(Parameter::Uint(value), Parameter::Int)
            }
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::String(value),
            None => return Err(Error::invalid(format!("parameter '{name}' has no value, expected one"))),
        };
        Ok((name, value))
    };
    parameters.into_iter().map(read).collect()
}

fn write_parameters(parameters: &Parameters) -> BTreeMap<String, InferParameter> {
    let write = |(name, value): (&String, &Parameter)| {
        let choice = match value {
            Parameter::Bool(value) => ParameterChoice::BoolParam(*value),
            Parameter::Int(value) => ParameterChoice::Int64Param(*value),
            Parameter::Uint(value) => ParameterChoice::Uint64Param(*value),
            Parameter::Double(value) => ParameterChoice::DoubleParam(*value),
            Parameter::String(value) => ParameterChoice::StringParam(value.clone()),
        };
        (name.clone(), InferParameter { parameter_choice: Some(choice) })
    };
    parameters.iter().map(write).collect()
}

/// Reads the metadata of a model.
///
/// # Errors
/// [`Status::InvalidArgument`] if an input or output has an unknown datatype.
pub fn read_model_metadata(message: ModelMetadataResponse) -> Result<ModelMetadata, Error> {
    let read = |tensor: model_metadata_response::TensorMetadata| {
        let datatype = tensor.datatype.parse()?;
        Ok(TensorMetadata { name: tensor.name, datatype, shape: tensor.shape })
    };
    Ok(ModelMetadata {
        name: message.name,
        versions: message.versions,
        platform: message.platform,
        inputs: message.inputs.into_iter().map(read).collect::<Result<_, Error>>()?,
        outputs: message.outputs.into_iter().map(read).collect::<Result<_, Error>>()?,
    })
}

/// Writes the metadata of a model.
#[must_use]
pub fn write_model_metadata(metadata: &ModelMetadata) -> ModelMetadataResponse {
    let write = |tensor: &TensorMetadata| model_metadata_response::TensorMetadata {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: tensor.shape.clone(),
    };
    ModelMetadataResponse {
        name: metadata.name.clone(),
        versions: metadata.versions.clone(),
        platform: metadata.platform.clone(),
        inputs: metadata.inputs.iter().map(write).collect(),
        outputs: metadata.outputs.iter().map(write).collect(),
    }
}

/// Writes the metadata of a server.
#[must_use]
pub fn write_server_metadata(metadata: ServerMetadata) -> ServerMetadataResponse {
    ServerMetadataResponse { name: metadata.name, version: metadata.version, extensions: metadata.extensions }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::new(tonic::Code::from_i32(error.status.grpc()), error.message)
    }
}

impl From<&tonic::Status> for Error {
    fn from(status: &tonic::Status) -> Self {
        Self::new(Status::from_grpc(status.code() as i32), status.message())
    }
}

#[cfg(test)]
mod tests;
