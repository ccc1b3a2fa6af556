//! Tests of the bodies that are accepted and refused.

use bytes::Bytes;

use super::super::{
    Datatype, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput, Status, Tensor,
    TensorMetadata,
};
use super::*;

fn request(body: &str, header_length: Option<usize>) -> Result<(InferRequest, OutputForms), Error> {
    decode_request("m", "1", header_length, &Bytes::copy_from_slice(body.as_bytes()))
}

fn refused(body: &str, header_length: Option<usize>) -> String {
    let error = request(body, header_length).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument, "{error}");
    error.message
}

/// A request of one input with these fields, and its length.
fn with_input(fields: &str) -> (String, Option<usize>) {
    let json = format!(r#"{{"inputs":[{{"name":"x",{fields}}}]}}"#);
    let length = json.len();
    (json, Some(length))
}

fn response(body: &str) -> Result<InferResponse, Error> {
    decode_response(None, &Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn a_request_in_json_is_read() {
    let body = r#" {"id":"7","parameters":{"timeout":5,"binary_data_output":true},"model_name":"other",
        "inputs":[{"data":[[1,2.5],[NaN,-4]],"parameters":{"p":"q"},"shape":[2,2],"datatype":"FP32","name":"x"}],
        "outputs":[{"name":"y"},{"name":"z","parameters":{"binary_data":false,"classification":3}}]} "#;
    let (request, forms) = request(body, None).unwrap();
    assert_eq!((&*request.model, &*request.version, &*request.id), ("m", "1", "7"));
    assert_eq!(request.parameters, Parameters::from([("timeout".into(), Parameter::Int(5))]));
    let [x] = &request.inputs[..] else { panic!("one input") };
    assert_eq!((&*x.name, x.datatype, &x.shape[..]), ("x", Datatype::Fp32, &[2, 2][..]));
    assert_eq!(x.parameters, Parameters::from([("p".into(), Parameter::String("q".into()))]));
    let floats = [1.0_f32, 2.5, f32::NAN, -4.0];
    assert_eq!(x.data.contiguous(), floats.map(f32::to_le_bytes).concat());
    let classification = Parameters::from([("classification".into(), Parameter::Int(3))]);
    let z = RequestedOutput { name: "z".into(), parameters: classification };
    assert_eq!(request.outputs, [RequestedOutput { name: "y".into(), ..Default::default() }, z]);
    assert_eq!([forms.of("y"), forms.of("z")], [Form::Binary, Form::Json]);
}

#[test]
fn tensors_behind_the_json_are_slices_of_the_body() {
    let json = r#"{"inputs":[{"name":"a","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}},
        {"name":"b","shape":[1],"datatype":"INT8","data":[5]},
        {"name":"c","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}}]}"#;
    let body = Bytes::from([json.as_bytes(), b"\x01\0\x02\0", b"\x01\0\0\0z\0\0\0\0"].concat());
    let (request, forms) = decode_request("m", "", Some(json.len()), &body).unwrap();
    let data: Vec<Bytes> = request.inputs.iter().map(|input| input.data.contiguous()).collect();
    assert_eq!(data, [&b"\x01\0\x02\0"[..], b"\x05", b"\x01\0\0\0z\0\0\0\0"]);
    assert_eq!(data[0].as_ptr(), body[json.len()..].as_ptr(), "not a copy");
    assert!(request.inputs.iter().all(|input| input.parameters.is_empty()), "sizes belong to the encoding");
    assert_eq!(forms, OutputForms::default());
}

#[test]
fn null_is_read_as_a_missing_field() {
    let (request, _) = request(r#"{"id":null,"parameters":null,"inputs":[],"outputs":null}"#, None).unwrap();
    assert_eq!(request, InferRequest { model: "m".into(), version: "1".into(), ..Default::default() });
}

#[test]
fn malformed_requests_are_refused_with_tritons_messages() {
    for (body, expected) in [
        ("", "failed to parse the request JSON buffer: EOF while parsing a value at line 1 column 0"),
        ("{\"inputs\":[", "failed to parse the request JSON buffer: EOF"),
        ("{\"inputs\":[NaN}", "failed to parse the request JSON buffer: invalid type: string \"NaN\""),
        ("{}", "failed to parse the request JSON buffer: missing field `inputs`"),
        ("{\"inputs\":[]}x", "failed to parse the request JSON buffer: trailing characters"),
        ("{\"inputs\":[],\"id\":7}", "invalid type: integer `7`, expected a string"),
        ("{\"inputs\":[],\"outputs\":[{}]}", "missing field `name`"),
        (
            r#"{"inputs":[],"parameters":{"p":[1]}}"#,
            "parameter 'p' has invalid type. It should be either 'int', 'bool', or 'string'.",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"p":null}}]}"#,
            "parameter 'p' has invalid type. It should be either 'int', 'bool', or 'string'.",
        ),
        (
            r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#,
            "Unable to parse 'binary_data_output': found 1, expected true or false",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":"yes"}}]}"#,
            "Unable to parse 'binary_data': found \"yes\", expected true or false",
        ),
    ] {
        let message = refused(body, None);
        assert!(message.contains(expected), "{message}");
    }
    let message = refused("{}", Some(3));
    assert_eq!(message, "inference header size should be in range (0, 2), got: 3");
}

#[test]
fn malformed_tensors_are_refused_with_both_values() {
    for (fields, behind, expected) in [
        (
            r#""shape":[1],"datatype":"FP8","data":[1]"#,
            "",
            "input 'x' for model 'm': found datatype 'FP8', expected BOOL",
        ),
        (r#""shape":[-1],"datatype":"FP32","data":[1]"#, "", "invalid value: integer `-1`, expected u64"),
        (r#""shape":[1.5],"datatype":"FP32","data":[1]"#, "", "expected u64"),
        (r#""datatype":"FP32","data":[1]"#, "", "missing field `shape`"),
        (r#""shape":[4294967296,4294967296],"datatype":"FP32","data":[1]"#, "", "which overflows"),
        (r#""shape":[4294967296,1073741824],"datatype":"FP32","data":[1]"#, "", "which overflows"),
        (r#""shape":[1000000000],"datatype":"FP64","data":[1]"#, "", "of 1000000000 elements, got 1"),
        (r#""shape":[2],"datatype":"FP32","data":[1,"a"]"#, "", "holds \"a\", expected FP32"),
        (r#""shape":[1],"datatype":"FP32","data":[null]"#, "", "holds null, expected FP32"),
        (r#""shape":[1],"datatype":"FP32""#, "", "But no field is set: input 'x' for model 'm'"),
        (
            r#""shape":[1],"datatype":"INT8","data":[1],"parameters":{"binary_data_size":1}"#,
            "a",
            "But set 'data' 'binary_data_size'",
        ),
        (
            r#""shape":[1],"datatype":"FP16","data":[1]"#,
            "",
            "receiving FP16 data via JSON is not supported. Please use the binary data format for input x",
        ),
        (
            r#""shape":[1],"datatype":"BF16","data":[1]"#,
            "",
            "receiving BF16 data via JSON is not supported. Please use the binary data format for input x",
        ),
        (
            r#""shape":[3],"datatype":"INT8","parameters":{"binary_data_size":3}"#,
            "a",
            "unexpected size for input 'x', expecting 2 additional bytes for model 'm': found 1 of 3",
        ),
        (
            r#""shape":[3],"datatype":"INT8","parameters":{"binary_data_size":3}"#,
            "abcd",
            "unexpected additional input data for model 'm': expected 0 bytes, got 1",
        ),
        (
            r#""shape":[3],"datatype":"INT8","parameters":{"binary_data_size":4}"#,
            "abcd",
            "input byte size mismatch for input 'x' for model 'm'. Expected 3, got 4",
        ),
        (
            r#""shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":4}"#,
            "\0\0\0\0",
            "expected 2 string elements for inference input 'x', got 1",
        ),
        (
            r#""shape":[1],"datatype":"INT8","parameters":{"binary_data_size":-1}"#,
            "a",
            "Unable to parse 'binary_data_size': input 'x' for model 'm' has -1",
        ),
        (
            r#""shape":[1],"datatype":"INT8","parameters":{"binary_data_size":"1"}"#,
            "a",
            "Unable to parse 'binary_data_size'",
        ),
        (
            r#""shape":[1],"datatype":"INT8","parameters":{"binary_data_size":18446744073709551615}"#,
            "a",
            "Unable to parse 'binary_data_size'",
        ),
        (
            r#""shape":[1],"datatype":"INT8","data":[1],"parameters":{"p":{}}"#,
            "",
            "parameter 'p' has invalid type.",
        ),
    ] {
        let (json, length) = with_input(fields);
        let message = refused(&(json + behind), length);
        assert!(message.contains(expected), "{message}\n{expected}");
    }
}

#[test]
fn shared_memory_is_not_supported() {
    let (json, _) = with_input(r#""shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r"}"#);
    let output = r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]}"#;
    for (body, tensor) in [(&*json, "input 'x'"), (output, "output 'y'")] {
        let error = request(body, None).unwrap_err();
        assert_eq!(error.status, Status::Unimplemented);
        let expected = format!("shared memory is not supported, found 'shared_memory_region' of {tensor}");
        assert_eq!(error.message, expected);
    }
}

fn raw(shape: &[i64], datatype: Datatype, body: &'static [u8]) -> Result<Tensor, String> {
    let inputs = [TensorMetadata { name: "x".into(), datatype, shape: shape.to_vec() }];
    let (request, forms) =
        decode_raw_request("m", "", &inputs, Bytes::from_static(body)).map_err(|error| error.message)?;
    assert_eq!(forms.of("any"), Form::Binary);
    assert_eq!((request.inputs.len(), &*request.inputs[0].name), (1, "x"));
    Ok(request.inputs[0].clone())
}

#[test]
fn the_body_of_a_raw_request_is_the_only_input() {
    for (shape, expected) in
        [(&[2, 2][..], [2, 2]), (&[-1, 2], [2, 2]), (&[2, -1], [2, 2]), (&[-1, -1], [1, 4])]
    {
        let tensor = raw(shape, Datatype::Int16, b"abcdefgh").unwrap();
        assert_eq!((&tensor.shape[..], tensor.data), (&expected[..], Bytes::from_static(b"abcdefgh").into()));
    }
    assert_eq!(raw(&[-1, 3], Datatype::Fp32, b"").unwrap().shape, [0, 3]);
    let strings = raw(&[-1, 1], Datatype::Bytes, b"text").unwrap();
    assert_eq!(
        (&strings.shape[..], strings.data.contiguous()),
        (&[1, 1][..], Bytes::from_static(b"\x04\0\0\0text"))
    );
}

#[test]
fn a_raw_request_that_does_not_fit_is_refused() {
    for (shape, datatype, expected) in [
        (
            &[2, -1, -1][..],
            Datatype::Int8,
            "can not be deduced because there are more than one variable-sized dimension",
        ),
        (&[-1, -1, -1], Datatype::Int8, "more than one variable-sized dimension: [-1, -1, -1]"),
        (&[-1, 2], Datatype::Int16, "byte size mismatch for input 'x' for model 'm'. Expected 4, got 5"),
        (&[4], Datatype::Int8, "Expected 4, got 5"),
        (&[i64::MAX, 3], Datatype::Int8, "overflows"),
        (&[i64::MAX, -1], Datatype::Int32, "overflows"),
        (&[0, -1], Datatype::Int16, "Expected 0, got 5"),
        (&[2], Datatype::Bytes, "expected 2 string elements for inference input 'x', got 1"),
    ] {
        let error = raw(shape, datatype, b"12345").unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = decode_raw_request("m", "", &[], Bytes::new()).unwrap_err();
    assert_eq!(
        error.message,
        "Raw request must only have 1 input (found 1) to be deduced but got 0 inputs in 'm' model configuration"
    );
}

#[test]
fn responses_may_lack_fields_and_have_more_types() {
    let body = r#"{"model_name":"m","model_version":null,"parameters":{"headers":{"a":[1]},"p":true},
        "outputs":[{"name":"y","shape":[4],"datatype":"FP32","data":[1,null,NaN,-Infinity],"parameters":null},
        {"name":"z","shape":[1],"datatype":"FP16","data":[0.5],"parameters":{"content_type":"np","none":null}}]}"#;
    let response = response(body).unwrap();
    assert_eq!((&*response.model, &*response.version, &*response.id), ("m", "", ""));
    assert_eq!(response.parameters, Parameters::from([("p".into(), Parameter::Bool(true))]));
    let [y, z] = &response.outputs[..] else { panic!("two outputs") };
    let floats = [1.0_f32, f32::NAN, f32::NAN, f32::NEG_INFINITY];
    assert_eq!(y.data.contiguous(), floats.map(f32::to_le_bytes).concat());
    assert_eq!((z.data.contiguous(), z.parameters.len()), (Bytes::from_static(&[0, 0x38]), 1));
}

#[test]
fn malformed_responses_are_refused() {
    for (body, expected) in [
        ("<html>", "failed to parse the response JSON buffer: expected value"),
        ("{}", "missing field `outputs`"),
        (
            r#"{"model_name":"m","outputs":[{"name":"y","shape":[2],"datatype":"FP32","data":[1]}]}"#,
            "output 'y' for model 'm' has shape of 2 elements, got 1",
        ),
    ] {
        let error = response(body).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
    }
    let error = decode_response(Some(14), &Bytes::from_static(b"{\"outputs\":[]}x")).unwrap_err();
    assert_eq!(error.message, "unexpected additional output data for model '': expected 0 bytes, got 1");
}

#[test]
fn header_lengths_are_decimal_and_not_negative() {
    assert_eq!(header_length(b" 123 "), Ok(123));
    for value in [&b"-1"[..], b"", b"1e3", b"\xff", b"99999999999999999999"] {
        let error = header_length(value).unwrap_err();
        assert!(error.message.contains("Unable to parse Inference-Header-Content-Length, got: "), "{error}");
    }
}

#[test]
fn metadata_are_written_and_read() {
    let server = ServerMetadata {
        name: "parm".into(),
        version: "0.1".into(),
        extensions: vec!["binary_tensor_data".into()],
    };
    let json = encode_server_metadata(&server).to_bytes();
    assert_eq!(json, r#"{"name":"parm","version":"0.1","extensions":["binary_tensor_data"]}"#);
    assert_eq!(decode_server_metadata(&json), Ok(server));

    let tensor = |name: &str, datatype| TensorMetadata { name: name.into(), datatype, shape: vec![-1, 3] };
    let model = ModelMetadata {
        name: "m".into(),
        versions: vec!["1".into()],
        platform: "p".into(),
        inputs: vec![tensor("x", Datatype::Fp32)],
        outputs: vec![tensor("y", Datatype::Bytes)],
    };
    let json = encode_model_metadata(&model).to_bytes();
    let expected = r#"{"name":"m","versions":["1"],"platform":"p","inputs":[{"name":"x","datatype":"FP32","#;
    assert!(json.starts_with(expected.as_bytes()), "{json:?}");
    assert_eq!(decode_model_metadata(&json), Ok(model));
}

#[test]
fn metadata_may_lack_fields() {
    let model = decode_model_metadata(br#"{"name":"m","versions":null,"platform":null,"x":[{}]}"#).unwrap();
    assert_eq!(model, ModelMetadata { name: "m".into(), ..Default::default() });
    assert_eq!(decode_server_metadata(b"{}"), Ok(ServerMetadata::default()));
}

#[test]
fn malformed_metadata_are_refused() {
    for body in [&b""[..], b"<html>", b"[1]", br#"{"name":1}"#] {
        let error = decode_model_metadata(body).unwrap_err();
        assert!(error.message.starts_with("failed to parse the model metadata JSON buffer: "), "{error}");
    }
    let error = decode_model_metadata(br#"{"inputs":[{"name":"x","datatype":"F9"}]}"#).unwrap_err();
    assert!(error.message.contains("found datatype 'F9'"), "{error}");
}
