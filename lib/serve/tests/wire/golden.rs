//! Bodies of Triton's client and messages of Google's protocol buffers (`testdata/serving/make.py`).

use std::fs;
use std::path::Path;

use bytes::Bytes;
use parm_oip::http::{Form, OutputForms, decode_request, encode_request};
use parm_oip::proto::{ModelInferRequest, ModelInferResponse, ModelMetadataResponse};
use parm_oip::{Datatype, Parameter, Parameters, RequestedOutput, Tensor, grpc};
use prost::Message;
use serde_json::Value;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/serving"))
}

/// The cases of a kind, with their bodies.
fn cases(kind: &str) -> Vec<(Value, Bytes)> {
    let cases = fs::read_to_string(folder().join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    let of_kind: Vec<_> = cases.into_iter().filter(|case| case["kind"] == kind).collect();
    assert!(!of_kind.is_empty(), "{kind}");
    let body = |case: &Value| fs::read(folder().join(text(&case["file"]))).unwrap();
    of_kind.into_iter().map(|case| (body(&case).into(), case)).map(|(body, case)| (case, body)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn tensors(case: &Value) -> Vec<Tensor> {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let tensor = |tensor: &Value| Tensor {
        name: text(&tensor["name"]),
        datatype: text(&tensor["datatype"]).parse().unwrap(),
        shape: tensor["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap()).collect(),
        parameters: Parameters::new(),
        data: Bytes::from(bytes(&text(&tensor["data"]))).into(),
    };
    case["tensors"].as_array().unwrap().iter().map(tensor).collect()
}

fn parameters(value: &Value) -> Parameters {
    let parameter = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Bool(value) => Parameter::Bool(*value),
            Value::String(value) => Parameter::String(value.clone()),
            Value::Number(value) if value.is_i64() => Parameter::Int(value.as_i64().unwrap()),
            value => Parameter::Double(value.as_f64().unwrap()),
        };
        (name.clone(), value)
    };
    value.as_object().unwrap().iter().map(parameter).collect()
}

fn outputs(case: &Value) -> Vec<RequestedOutput> {
    let output = |output: &Value| RequestedOutput {
        name: text(&output["name"]),
        parameters: parameters(&output["parameters"]),
    };
    case["outputs"].as_array().unwrap().iter().map(output).collect()
}

#[test]
fn requests_of_tritons_client_over_http_are_read() {
    let mut seen = Vec::new();
    for (case, body) in cases("http-request") {
        let header_length = case["header_length"].as_u64().map(|length| length as usize);
        let (request, forms) = decode_request("m", "", header_length, &body).unwrap();
        assert_eq!(request.inputs, tensors(&case), "{}", case["file"]);
        assert_eq!(request.id, text(&case["id"]));
        assert_eq!(request.parameters, parameters(&case["parameters"]), "{}", case["file"]);
        assert_eq!(request.outputs, outputs(&case));
        let form = |binary: &Value| if binary.as_bool().unwrap() { Form::Binary } else { Form::Json };
        for output in case["outputs"].as_array().unwrap() {
            assert_eq!(forms.of(&text(&output["name"])), form(&output["binary"]));
        }
        assert_eq!(forms.default, form(&case["default_binary"]), "{}", case["file"]);
        seen.extend(request.inputs.iter().map(|input| input.datatype));

        // And as this client writes them.
        let again = encode_request(&request, Form::Binary).unwrap();
        let (read, forms) = decode_request("m", "", again.header_length, &again.body.to_bytes()).unwrap();
        assert_eq!(read, request);
        let named = request.outputs.iter().map(|output| (output.name.clone(), Form::Binary)).collect();
        assert_eq!(forms, OutputForms { default: Form::Binary, named });
    }
    assert!(Datatype::ALL.iter().all(|datatype| seen.contains(datatype)));
}

#[test]
fn requests_over_grpc_are_read() {
    for (case, body) in cases("grpc-request") {
        let message = ModelInferRequest::decode(body).unwrap();
        let request = grpc::read_request(message).unwrap();
        assert_eq!(request.inputs, tensors(&case), "{}", case["file"]);
        let names = [&request.model, &request.version, &request.id];
        assert_eq!(names, [&text(&case["model"]), &text(&case["version"]), &text(&case["id"])]);
        assert_eq!(request.parameters, parameters(&case["parameters"]));
        assert_eq!(request.outputs, outputs(&case));
        assert_eq!(grpc::read_request(grpc::write_request(&request)), Ok(request));
    }
}

#[test]
fn responses_over_grpc_are_read() {
    for (case, body) in cases("grpc-response") {
        let message = ModelInferResponse::decode(body).unwrap();
        let response = grpc::read_response(message).unwrap();
        assert_eq!(response.outputs, tensors(&case), "{}", case["file"]);
        let names = [&response.model, &response.version, &response.id];
        assert_eq!(names, [&text(&case["model"]), &text(&case["version"]), &text(&case["id"])]);
        assert_eq!(response.parameters, parameters(&case["parameters"]));
        assert_eq!(grpc::read_response(grpc::write_response(&response)), Ok(response));
    }
}

#[test]
fn raw_messages_are_written_as_google_writes_them() {
    for (case, body) in cases("grpc-response") {
        if case["file"] == "raw-response.pb" {
            let response = grpc::read_response(ModelInferResponse::decode(body.clone()).unwrap()).unwrap();
            assert_eq!(grpc::write_response(&response).encode_to_vec(), body);
        }
    }
}

#[test]
fn a_field_on_which_servers_disagree_is_skipped() {
    for (_, body) in cases("grpc-metadata") {
        let metadata = grpc::read_model_metadata(ModelMetadataResponse::decode(body).unwrap()).unwrap();
        assert_eq!((&*metadata.name, &*metadata.platform, metadata.versions.len()), ("m", "p", 2));
        let [x, y] = [&metadata.inputs[0], &metadata.outputs[0]];
        assert_eq!((&*x.name, &*y.name, &x.shape[..], y.datatype), ("x", "y", &[-1, 3][..], Datatype::Fp32));
    }
}
