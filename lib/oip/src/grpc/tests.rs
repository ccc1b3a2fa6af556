//! Tests of the messages that are accepted and refused.

use super::*;

const NAMES: [&str; 3] = ["x", "m", "7"];

fn contents(datatype: Datatype, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor {
        name: NAMES[0].into(),
        datatype: datatype.name().into(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..Default::default()
    };
    let (model_name, id) = (NAMES[1].into(), NAMES[2].into());
    ModelInferRequest { model_name, id, inputs: vec![input], ..Default::default() }
}

fn raw(datatype: &str, shape: &[i64], raw: &[&'static [u8]]) -> ModelInferRequest {
    let mut request = contents(Datatype::Bool, shape, InferTensorContents::default());
    request.inputs[0].contents = None;
    request.inputs[0].datatype = datatype.into();
    request.raw_input_contents = raw.iter().map(|&raw| Bytes::from_static(raw)).collect();
    request
}

fn data(message: ModelInferRequest) -> Result<Bytes, String> {
    read_request(message).map(|request| request.inputs[0].data.contiguous()).map_err(|error| error.message)
}

/// For each datatype a list of two elements, and its bytes.
fn lists() -> Vec<(Datatype, InferTensorContents, Vec<u8>)> {
    let none = InferTensorContents::default;
    let signed = |low, high| InferTensorContents { int_contents: vec![low, high], ..none() };
    let unsigned = |high| InferTensorContents { uint_contents: vec![0, high], ..none() };
    let strings = vec![Bytes::from_static(b"\xff"), Bytes::new()];
    vec![
        (Datatype::Bool, InferTensorContents { bool_contents: vec![true, false], ..none() }, vec![1, 0]),
        (Datatype::Int8, signed(-128, 127), vec![128, 127]),
        (Datatype::Int16, signed(-32768, 32767), vec![0, 128, 255, 127]),
        (Datatype::Int32, signed(-1, 1), vec![255, 255, 255, 255, 1, 0, 0, 0]),
        (
            Datatype::Int64,
            InferTensorContents { int64_contents: vec![-1, 1], ..none() },
            [-1_i64, 1].map(i64::to_le_bytes).concat(),
        ),
        (Datatype::Uint8, unsigned(255), vec![0, 255]),
        (Datatype::Uint16, unsigned(65535), vec![0, 0, 255, 255]),
        (Datatype::Uint32, unsigned(u32::MAX), vec![0, 0, 0, 0, 255, 255, 255, 255]),
        (
            Datatype::Uint64,
            InferTensorContents { uint64_contents: vec![0, u64::MAX], ..none() },
            [0, u64::MAX].map(u64::to_le_bytes).concat(),
        ),
        (
            Datatype::Fp32,
            InferTensorContents { fp32_contents: vec![0.5, f32::NAN], ..none() },
            [0.5, f32::NAN].map(f32::to_le_bytes).concat(),
        ),
        (
            Datatype::Fp64,
            InferTensorContents { fp64_contents: vec![0.5, f64::NAN], ..none() },
            [0.5, f64::NAN].map(f64::to_le_bytes).concat(),
        ),
        (
            Datatype::Bytes,
            InferTensorContents { bytes_contents: strings, ..none() },
            b"\x01\0\0\0\xff\0\0\0\0".to_vec(),
        ),
    ]
}

#[test]
fn each_type_is_read_from_its_list_and_raw() {
    for (datatype, list, expected) in lists() {
        assert_eq!(data(contents(datatype, &[2, 1], list)).unwrap(), expected, "{datatype}");
        let mut message = raw(datatype.name(), &[2], &[]);
        message.raw_input_contents = vec![expected.clone().into()];
        let held = message.raw_input_contents[0].as_ptr();
        let read = data(message).unwrap();
        assert_eq!((&read[..], read.as_ptr()), (&expected[..], held), "{datatype}: not a copy");
    }
    for datatype in ["FP16", "BF16"] {
        assert_eq!(data(raw(datatype, &[1], &[b"ab"])).unwrap(), &b"ab"[..]);
    }
}

#[test]
fn a_list_of_another_type_is_refused() {
    for (found, list, _) in lists() {
        for expected in Datatype::ALL {
            let shares = |one: Datatype| match one {
                Datatype::Int8 | Datatype::Int16 => Datatype::Int32,
                Datatype::Uint8 | Datatype::Uint16 => Datatype::Uint32,
                other => other,
            };
            let read = data(contents(expected, &[2], list.clone()));
            if shares(found) == shares(expected) {
                continue;
            }
            assert_eq!(
                read.unwrap_err(),
                format!(
                    "unexpected explicit tensor data for input tensor 'x' for model 'm' of type '{}', expected \
                     datatype '{expected}'",
                    shares(found)
                )
            );
        }
    }
    let signed = |value| InferTensorContents { int_contents: vec![value], ..Default::default() };
    let unsigned = |value| InferTensorContents { uint_contents: vec![value], ..Default::default() };
    for (datatype, list, value) in [
        (Datatype::Int8, signed(128), "128"),
        (Datatype::Int16, signed(-32769), "-32769"),
        (Datatype::Uint8, unsigned(256), "256"),
        (Datatype::Uint16, unsigned(65536), "65536"),
    ] {
        let expected = format!("input 'x' for model 'm' holds {value}, expected {datatype}");
        assert_eq!(data(contents(datatype, &[1], list)).unwrap_err(), expected);
    }
}

#[test]
fn a_response_may_have_empty_contents_beside_raw_ones() {
    let output = InferOutputTensor {
        name: "y".into(),
        datatype: "INT8".into(),
        shape: vec![1],
        contents: Some(InferTensorContents::default()),
        ..Default::default()
    };
    let raw_output_contents = vec![Bytes::from_static(b"a")];
    let message = ModelInferResponse { outputs: vec![output], raw_output_contents, ..Default::default() };
    assert_eq!(read_response(message).unwrap().outputs[0].data.contiguous(), b"a"[..]);
}

#[test]
fn malformed_messages_are_refused_with_tritons_messages() {
    let mut both = raw("INT8", &[1], &[b"a"]);
    both.inputs[0].contents = Some(InferTensorContents::default());
    let mut nameless = raw("INT8", &[1], &[b"a"]);
    nameless.parameters.insert("p".into(), InferParameter::default());
    for (message, expected) in [
        (both, "contents field must not be specified when using raw_input_contents for 'x' for model 'm'"),
        (raw("INT8", &[1], &[]), "unable to find data for input tensor 'x' for model 'm' in request."),
        (
            raw("INT8", &[1], &[b"a", b"b"]),
            "the number of inputs (1) does not match the number of raw input contents (2) for model 'm'",
        ),
        (
            raw("INT8", &[3], &[b"a"]),
            "input byte size mismatch for input 'x' for model 'm'. Expected 3, got 1",
        ),
        (
            raw("FP16", &[1], &[b""]),
            "input byte size mismatch for input 'x' for model 'm'. Expected 2, got 0",
        ),
        (
            raw("BYTES", &[1], &[b"\x01\0\0\0"]),
            "incomplete string data for inference input 'x', expecting string of length 1 but only 0 bytes available",
        ),
        (
            raw("INT8", &[1, -1], &[b"a"]),
            "input 'x' for model 'm' has shape [1, -1], found size -1, expected at least 0",
        ),
        (
            raw("INT8", &[i64::MAX, 3], &[b"a"]),
            "input 'x' for model 'm' has shape [9223372036854775807, 3], which overflows",
        ),
        (nameless, "parameter 'p' has no value, expected one"),
    ] {
        assert_eq!(data(message).unwrap_err(), expected);
    }
    let error = data(raw("FP8", &[1], &[b"a"])).unwrap_err();
    assert!(error.starts_with("input 'x' for model 'm': found datatype 'FP8', expected BOOL"), "{error}");
    let response = ModelInferResponse { raw_output_contents: vec![Bytes::new()], ..Default::default() };
    let error = read_response(response).unwrap_err();
    assert!(
        error.message.contains("the number of outputs (0) does not match the number of raw output"),
        "{error}"
    );
}

#[test]
fn tensors_without_elements_need_no_data() {
    assert_eq!(data(raw("FP32", &[0, 3], &[])).unwrap(), Bytes::new());
    assert_eq!(data(raw("FP32", &[3, 0], &[b""])).unwrap(), Bytes::new());
    assert_eq!(data(contents(Datatype::Fp32, &[0], InferTensorContents::default())).unwrap(), Bytes::new());
}

#[test]
fn shared_memory_is_not_supported() {
    let parameters =
        write_parameters(&[("shared_memory_region".into(), Parameter::String("r".into()))].into());
    let mut input = raw("INT8", &[1], &[]);
    input.inputs[0].parameters.clone_from(&parameters);
    let output = InferRequestedOutputTensor { name: "y".into(), parameters };
    let output = ModelInferRequest { outputs: vec![output], ..Default::default() };
    for (message, tensor) in [(input, "input 'x'"), (output, "output 'y'")] {
        let error = read_request(message).unwrap_err();
        assert_eq!(error.status, Status::Unimplemented);
        assert!(error.message.ends_with(tensor), "{error}");
    }
}

#[test]
fn metadata_go_both_ways() {
    let tensor = TensorMetadata { name: "x".into(), datatype: Datatype::Bf16, shape: vec![-1, 3] };
    let (versions, inputs) = (vec!["1".into()], vec![tensor]);
    let model =
        ModelMetadata { name: "m".into(), versions, platform: "p".into(), outputs: inputs.clone(), inputs };
    let mut message = write_model_metadata(&model);
    assert_eq!(read_model_metadata(message.clone()), Ok(model));
    message.outputs[0].datatype = "FP8".into();
    assert!(read_model_metadata(message).unwrap_err().message.contains("found datatype 'FP8'"));

    let server = ServerMetadata { name: "n".into(), version: "v".into(), extensions: vec!["e".into()] };
    let ServerMetadataResponse { name, version, extensions } = write_server_metadata(server.clone());
    assert_eq!(ServerMetadata { name, version, extensions }, server);
}

#[test]
fn errors_go_both_ways() {
    for status in Status::ALL {
        let error = Error::new(status, "what");
        let sent = tonic::Status::from(error.clone());
        assert_eq!((sent.code() as i32, sent.message()), (status.grpc(), "what"));
        assert_eq!(Error::from(&sent), error);
    }
}
