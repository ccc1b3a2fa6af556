//! Decodes requests and responses.

use bytes::Bytes;

use parm_config::UnknownDatatype;

use super::super::tensor::{Place, check, elements, refuse_shared_memory};
use super::super::{
    Datatype, Error, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput, Tensor,
    TensorMetadata,
};
use super::json::{self, OutputJson, ParametersJson, RequestJson, ResponseJson, TensorJson};
use super::{Form, OutputForms, Side};

/// Reads the body of `POST …/infer`; the model and its version come from the path. Also returns the
/// requested form of the outputs.
///
/// # Errors
/// [`Status::InvalidArgument`](super::super::Status) if the body violates the protocol,
/// `Status::Unimplemented` if it uses shared memory.
pub fn decode_request(
    model: &str,
    version: &str,
    header_length: Option<usize>,
    body: &Bytes,
) -> Result<(InferRequest, OutputForms), Error> {
    let (json, mut binary) = split(body, header_length)?;
    let mut quoted = None;
    let request: RequestJson = json::parse(&json, &mut quoted, "request")?;
    let mut inputs = Vec::new();
    for input in request.inputs {
        strict(input.parameters.as_ref())?;
        inputs.push(tensor(input, Side::Request, model, &mut binary)?);
    }
    check_end(&binary, "input", model)?;
    strict(request.parameters.as_ref())?;
    let mut parameters = request.parameters.unwrap_or_default().known;
    let mut forms = OutputForms::default();
    if let Some(form) = take_encoding(&mut parameters, "binary_data_output")? {
        forms.default = form;
    }
    let outputs = request.outputs.unwrap_or_default().into_iter();
    let outputs = outputs.map(|output| requested(output, &mut forms)).collect::<Result<_, _>>()?;
    let request = InferRequest {
        model: model.to_owned(),
        version: version.to_owned(),
        id: request.id.unwrap_or_default(),
        parameters,
        inputs,
        outputs,
    };
    Ok((request, forms))
}

/// Reads a raw request, marked by a header length of 0: the body is the data of the model's only input, and
/// the outputs are requested in binary form. One variable dimension of the shape follows from the size of
/// the body; if there are two and the first is that of rows, it is 1. For BYTES the body is the one string.
///
/// # Errors
/// [`Status::InvalidArgument`](super::super::Status) if the model does not have exactly one input, or the
/// size does not fit.
pub fn decode_raw_request(
    model: &str,
    version: &str,
    inputs: &[TensorMetadata],
    body: Bytes,
) -> Result<(InferRequest, OutputForms), Error> {
    let [input] = inputs else {
        return Err(Error::invalid(format!(
            "Raw request must only have 1 input (found 1) to be deduced but got {} inputs in '{model}' model \
             configuration",
            inputs.len()
        )));
    };
    let place = Place { kind: "input", name: &input.name, model };
    let shape = raw_shape(input, body.len(), place)?;
    let data = if input.datatype == Datatype::Bytes {
        let length = u32::try_from(body.len()).map_err(|_| {
            Error::invalid(format!("{place} is {} bytes long, expected at most {}", body.len(), u32::MAX))
        })?;
        [Bytes::copy_from_slice(&length.to_le_bytes()), body].into_iter().collect()
    } else {
        body.into()
    };
    check(input.datatype, &shape, &data, place)?;
    let (name, datatype) = (input.name.clone(), input.datatype);
    let input = Tensor { name, datatype, shape, parameters: Parameters::new(), data };
    let (model, version) = (model.to_owned(), version.to_owned());
    let request = InferRequest { model, version, inputs: vec![input], ..InferRequest::default() };
    Ok((request, OutputForms { default: Form::Binary, named: Vec::new() }))
}

/// The shape of a raw input of this many bytes.
fn raw_shape(input: &TensorMetadata, bytes: usize, place: Place) -> Result<Vec<u64>, Error> {
    let mut open = input.shape.iter().filter(|&&axis| axis < 0).count();
    let mut shape: Vec<u64> = input.shape.iter().map(|&axis| u64::try_from(axis).unwrap_or(1)).collect();
    let first_is_open = input.shape.first().is_some_and(|&axis| axis < 0);
    if open == 2 && first_is_open {
        open = 1;
    }
    if open > 1 {
        return Err(Error::invalid(format!(
            "The shape of the raw input '{}' can not be deduced because there are more than one variable-sized \
             dimension: {:?}",
            place.name, input.shape
        )));
    }
    // The size of one entry of the variable dimension: variable dimensions are 1 in `shape`.
    let rest = elements(&shape, input.datatype, place)? * input.datatype.size().unwrap_or(1);
    if let Some(axis) = input.shape.iter().rposition(|&axis| axis < 0)
        && input.datatype != Datatype::Bytes
        && let Some(size) = shape.get_mut(axis)
    {
        *size = (bytes / rest.max(1)) as u64;
    }
    Ok(shape)
}

/// Reads the body of a server's response to [`encode_request`](super::encode_request).
///
/// # Errors
/// [`Status::InvalidArgument`](super::super::Status) if it violates the protocol.
pub fn decode_response(header_length: Option<usize>, body: &Bytes) -> Result<InferResponse, Error> {
    let (json, mut binary) = split(body, header_length)?;
    let mut quoted = None;
    let response: ResponseJson = json::parse(&json, &mut quoted, "response")?;
    let model = response.model_name.unwrap_or_default();
    let mut outputs = Vec::new();
    for output in response.outputs {
        outputs.push(tensor(output, Side::Response, &model, &mut binary)?);
    }
    check_end(&binary, "output", &model)?;
    Ok(InferResponse {
        model,
        version: response.model_version.unwrap_or_default(),
        id: response.id.unwrap_or_default(),
        parameters: response.parameters.unwrap_or_default().known,
        outputs,
    })
}

/// The JSON of a body, and the bytes after it.
fn split(body: &Bytes, header_length: Option<usize>) -> Result<(Bytes, Bytes), Error> {
    let length = header_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(Error::invalid(format!(
            "inference header size should be in range (0, {}), got: {length}",
            body.len()
        )));
    }
    Ok((body.slice(..length), body.slice(length..)))
}

fn check_end(binary: &Bytes, kind: &str, model: &str) -> Result<(), Error> {
    if binary.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "unexpected additional {kind} data for model '{model}': expected 0 bytes, got {}",
        binary.len()
    )))
}

/// Checks that parameters of requests are plain values.
fn strict(parameters: Option<&ParametersJson>) -> Result<(), Error> {
    let other = parameters.and_then(|parameters| parameters.other.as_deref());
    other.map_or(Ok(()), |name| {
        Err(Error::invalid(format!(
            "parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'."
        )))
    })
}

/// Removes a parameter that requests the binary form, and returns its value.
fn take_encoding(parameters: &mut Parameters, name: &str) -> Result<Option<Form>, Error> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Parameter::Bool(binary)) => Ok(Some(if binary { Form::Binary } else { Form::Json })),
        Some(other) => {
            Err(Error::invalid(format!("Unable to parse '{name}': found {other}, expected true or false")))
        }
    }
}

fn requested(output: OutputJson, forms: &mut OutputForms) -> Result<RequestedOutput, Error> {
    strict(output.parameters.as_ref())?;
    let mut parameters = output.parameters.unwrap_or_default().known;
    refuse_shared_memory(&parameters, "output", &output.name)?;
    if let Some(form) = take_encoding(&mut parameters, "binary_data")? {
        forms.named.push((output.name.clone(), form));
    }
    Ok(RequestedOutput { name: output.name, parameters })
}

/// Reads a tensor; its data may be the next bytes of `binary`.
fn tensor(json: TensorJson, side: Side, model: &str, binary: &mut Bytes) -> Result<Tensor, Error> {
    let kind = if side == Side::Request { "input" } else { "output" };
    let place = Place { kind, name: &json.name, model };
    let datatype: Datatype = json
        .datatype
        .parse()
        .map_err(|error: UnknownDatatype| Error::invalid(format!("{place}: {error}")))?;
    let mut parameters = json.parameters.unwrap_or_default().known;
    refuse_shared_memory(&parameters, kind, &json.name)?;
    let data = match (json.data, parameters.remove("binary_data_size")) {
        (None, Some(bytes)) => take(binary, &bytes, place)?,
        (Some(data), None) => {
            if side == Side::Request && matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
                return Err(Error::invalid(format!(
                    "receiving {datatype} data via JSON is not supported. Please use the binary data format for \
                     {kind} {}",
                    json.name
                )));
            }
            let count = elements(&json.shape, datatype, place)?;
            super::elements::read(data.get(), datatype, count, side, place)?
        }
        (data, _) => {
            let found = if data.is_none() { "no field is set" } else { "set 'data' 'binary_data_size'" };
            return Err(Error::invalid(format!(
                "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', \
                 'shared_memory_region' in 'parameters'. But {found}: {place}"
            )));
        }
    };
    let data = data.into();
    check(datatype, &json.shape, &data, place)?;
    Ok(Tensor { name: json.name, datatype, shape: json.shape, parameters, data })
}

/// Takes the next bytes after the JSON.
fn take(binary: &mut Bytes, size: &Parameter, place: Place) -> Result<Bytes, Error> {
    let size = match size {
        Parameter::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    }
    .ok_or_else(|| Error::invalid(format!("Unable to parse 'binary_data_size': {place} has {size}")))?;
    if size > binary.len() {
        return Err(Error::invalid(format!(
            "unexpected size for {} '{}', expecting {} additional bytes for model '{}': found {} of {size}",
            place.kind,
            place.name,
            size - binary.len(),
            place.model,
            binary.len()
        )));
    }
    Ok(binary.split_to(size))
}
