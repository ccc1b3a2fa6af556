//! Encodes requests and responses.

use super::super::body::Writer;
use super::super::tensor::{Place, check};
use super::super::{Datatype, Error, InferRequest, InferResponse, Parameter, Parameters, Tensor};
use super::json::write;
use super::{Encoded, Form, OutputForms, elements};

/// The parameters about the form of tensors. They belong to the encoding, not to the request.
const OWN: [&str; 3] = ["binary_data", "binary_data_output", "binary_data_size"];

/// Writes a request with its inputs in a form, and requests its outputs in the same form.
///
/// # Errors
/// [`Status::InvalidArgument`](super::super::Status) if the data of a tensor do not fit its shape, or if
/// JSON cannot hold its strings.
pub fn encode_request(request: &InferRequest, form: Form) -> Result<Encoded, Error> {
    let mut text = Vec::with_capacity(512);
    text.push(b'{');
    text_field(&mut text, "id", &request.id);
    let binary = (form == Form::Binary).then_some(&Parameter::Bool(true));
    parameters(&mut text, &request.parameters, binary.map(|value| ("binary_data_output", value)));
    key(&mut text, "inputs");
    text.push(b'[');
    for input in &request.inputs {
        tensor(&mut text, input, form, Place { kind: "input", name: &input.name, model: &request.model })?;
    }
    text.push(b']');
    if !request.outputs.is_empty() {
        key(&mut text, "outputs");
        text.push(b'[');
        for output in &request.outputs {
            open(&mut text, &output.name);
            parameters(&mut text, &output.parameters, binary.map(|value| ("binary_data", value)));
            text.push(b'}');
        }
        text.push(b']');
    }
    text.push(b'}');
    let behind: Vec<_> = request.inputs.iter().filter(|_| form == Form::Binary).collect();
    Ok(encoded(text, form, &behind))
}

/// Writes a response with its outputs in the requested forms.
///
/// # Errors
/// [`Status::InvalidArgument`](super::super::Status) if the data of a tensor do not fit its shape, or if JSON
/// cannot hold its elements: strings that are not UTF-8, and, as in Triton, FP16 and BF16.
pub fn encode_response(response: &InferResponse, forms: &OutputForms) -> Result<Encoded, Error> {
    let mut text = Vec::with_capacity(512);
    text.push(b'{');
    text_field(&mut text, "id", &response.id);
    key(&mut text, "model_name");
    write(&mut text, &response.model);
    text_field(&mut text, "model_version", &response.version);
    parameters(&mut text, &response.parameters, None);
    key(&mut text, "outputs");
    text.push(b'[');
    let mut behind = Vec::new();
    for output in &response.outputs {
        let form = forms.of(&output.name);
        match form {
            Form::Binary => behind.push(output),
            Form::Json if matches!(output.datatype, Datatype::Fp16 | Datatype::Bf16) => {
                return Err(Error::invalid(format!(
                    "sending {} data via JSON is not supported. Please use the binary data format for output {}",
                    output.datatype, output.name
                )));
            }
            Form::Json => {}
        }
        tensor(
            &mut text,
            output,
            form,
            Place { kind: "output", name: &output.name, model: &response.model },
        )?;
    }
    text.extend_from_slice(b"]}");
    let form = if behind.is_empty() { Form::Json } else { Form::Binary };
    Ok(encoded(text, form, &behind))
}

/// The most bytes of text that [`encode_response`] writes for the data of outputs.
#[must_use]
pub fn text_bytes(response: &InferResponse, forms: &OutputForms) -> usize {
    let in_text = response.outputs.iter().filter(|output| forms.of(&output.name) == Form::Json);
    let bytes = |output: &Tensor| {
        // Characters for each byte of data, with the comma and the quotes.
        let longest = match output.datatype {
            Datatype::Bool | Datatype::Bytes => 6,
            Datatype::Int8 => 5,
            Datatype::Uint8 | Datatype::Int16 | Datatype::Fp32 | Datatype::Fp64 => 4,
            _ => 3,
        };
        output.data.len().saturating_mul(longest)
    };
    in_text.map(bytes).fold(0, usize::saturating_add)
}

/// JSON, followed by the data of tensors.
fn encoded(text: Vec<u8>, form: Form, behind: &[&Tensor]) -> Encoded {
    let header_length = (form == Form::Binary).then_some(text.len());
    let mut body = Writer::new(text);
    behind.iter().flat_map(|tensor| &tensor.data).for_each(|piece| body.push(piece));
    Encoded { header_length, body: body.finish() }
}

fn tensor(text: &mut Vec<u8>, tensor: &Tensor, form: Form, place: Place) -> Result<(), Error> {
    check(tensor.datatype, &tensor.shape, &tensor.data, place)?;
    open(text, &tensor.name);
    key(text, "datatype");
    write(text, tensor.datatype.name());
    key(text, "shape");
    write(text, &tensor.shape);
    let size = Parameter::Int(tensor.data.len() as i64);
    parameters(text, &tensor.parameters, (form == Form::Binary).then_some(("binary_data_size", &size)));
    if form == Form::Json {
        key(text, "data");
        elements::write(text, tensor.datatype, &tensor.data.contiguous(), place)?;
    }
    text.push(b'}');
    Ok(())
}

/// Begins the object of a tensor, after a comma if it is not the first.
fn open(text: &mut Vec<u8>, name: &str) {
    text.extend_from_slice(if text.ends_with(b"[") { b"{" } else { b",{" });
    key(text, "name");
    write(text, name);
}

/// Begins a field, after a comma if it is not the first.
fn key(text: &mut Vec<u8>, name: &str) {
    if !text.ends_with(b"{") {
        text.push(b',');
    }
    write(text, name);
    text.push(b':');
}

/// A string field, left out if it is empty.
fn text_field(text: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        key(text, name);
        write(text, value);
    }
}

/// The parameters and one about the form, left out if there are none.
fn parameters(text: &mut Vec<u8>, parameters: &Parameters, own: Option<(&str, &Parameter)>) {
    let others = parameters.iter().map(|(name, value)| (name.as_str(), value));
    let others = others.filter(|(name, _)| !OWN.contains(name));
    let mut all = own.into_iter().chain(others).peekable();
    if all.peek().is_none() {
        return;
    }
    key(text, "parameters");
    text.push(b'{');
    for (name, value) in all {
        key(text, name);
        match value {
            Parameter::Double(value) => elements::float(text, *value),
            value => write(text, value),
        }
    }
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::RequestedOutput;
    use super::*;

    fn tensor(datatype: Datatype, shape: &[u64], data: &'static [u8]) -> Tensor {
        let (name, parameters) = ("x".to_owned(), Parameters::new());
        Tensor { name, datatype, shape: shape.to_vec(), parameters, data: Bytes::from_static(data).into() }
    }

    #[test]
    fn a_request_is_written_in_both_forms() {
        let request = InferRequest {
            model: "m".into(),
            id: "7".into(),
            parameters: [
                ("binary_data_output".into(), Parameter::Int(1)),
                ("timeout".into(), Parameter::Int(5)),
            ]
            .into(),
            inputs: vec![
                tensor(Datatype::Int16, &[1, 2], b"\x01\0\x02\0"),
                tensor(Datatype::Bf16, &[0], b""),
            ],
            outputs: vec![RequestedOutput { name: "y".into(), ..Default::default() }; 2],
            ..Default::default()
        };
        let json = encode_request(&request, Form::Json).unwrap();
        assert_eq!((json.header_length, json.content_type()), (None, "application/json"));
        assert_eq!(
            json.body.to_bytes(),
            r#"{"id":"7","parameters":{"timeout":5},"inputs":[{"name":"x","datatype":"INT16","shape":[1,2],"data":[1,2]},"#
                .to_owned()
                + r#"{"name":"x","datatype":"BF16","shape":[0],"data":[]}],"outputs":[{"name":"y"},{"name":"y"}]}"#
        );
        let binary = encode_request(&request, Form::Binary).unwrap();
        let text = r#"{"id":"7","parameters":{"binary_data_output":true,"timeout":5},"inputs":[{"name":"x","datatype":"INT16","#
            .to_owned()
            + r#""shape":[1,2],"parameters":{"binary_data_size":4}},{"name":"x","datatype":"BF16","shape":[0],"#
            + r#""parameters":{"binary_data_size":0}}],"outputs":[{"name":"y","parameters":{"binary_data":true}},"#
            + r#"{"name":"y","parameters":{"binary_data":true}}]}"#;
        assert_eq!(
            (binary.header_length, binary.content_type()),
            (Some(text.len()), "application/octet-stream")
        );
        assert_eq!(binary.body.to_bytes(), text + "\x01\0\x02\0");
    }

    #[test]
    fn a_response_is_written_in_the_requested_forms() {
        let response = InferResponse {
            model: "m".into(),
            version: "1".into(),
            outputs: vec![
                tensor(Datatype::Bool, &[2], b"\0\x01"),
                Tensor { name: "y".into(), ..tensor(Datatype::Int8, &[1], b"a") },
            ],
            ..Default::default()
        };
        let encoded = |default, named: &[(&str, Form)]| {
            let named = named.iter().map(|&(name, form)| (name.to_owned(), form)).collect();
            encode_response(&response, &OutputForms { default, named }).unwrap()
        };
        let json = encoded(Form::Json, &[]);
        let head = r#"{"model_name":"m","model_version":"1","outputs":["#;
        let expected = head.to_owned()
            + r#"{"name":"x","datatype":"BOOL","shape":[2],"data":[false,true]},"#
            + r#"{"name":"y","datatype":"INT8","shape":[1],"data":[97]}]}"#;
        assert_eq!((json.body.to_bytes(), json.header_length), (expected.into(), None));
        // One output is binary, the other JSON.
        for (default, named) in [(Form::Json, ("y", Form::Binary)), (Form::Binary, ("x", Form::Json))] {
            let mixed = encoded(default, &[named]);
            let expected = head.to_owned()
                + r#"{"name":"x","datatype":"BOOL","shape":[2],"data":[false,true]},"#
                + r#"{"name":"y","datatype":"INT8","shape":[1],"parameters":{"binary_data_size":1}}]}"#;
            assert_eq!(
                (mixed.header_length, mixed.body.to_bytes()),
                (Some(expected.len()), (expected + "a").into())
            );
        }
    }

    #[test]
    fn a_tensor_that_does_not_fit_its_shape_or_json_is_not_written() {
        let response =
            |output| InferResponse { model: "m".into(), outputs: vec![output], ..Default::default() };
        for (form, output, expected) in [
            (Form::Json, tensor(Datatype::Fp16, &[1], b"ab"), "sending FP16 data via JSON is not supported."),
            (Form::Json, tensor(Datatype::Bf16, &[1], b"ab"), "sending BF16 data via JSON is not supported."),
            (
                Form::Json,
                tensor(Datatype::Bytes, &[1], b"\x01\0\0\0\xff"),
                "output 'x' for model 'm' holds bytes that are not UTF-8",
            ),
            (
                Form::Json,
                tensor(Datatype::Fp32, &[1], b"abcdefgh"),
                "output byte size mismatch for output 'x' for model 'm'. Expected 4, got 8",
            ),
            (Form::Binary, tensor(Datatype::Fp32, &[1], b"abc"), "Expected 4, got 3"),
        ] {
            let forms = OutputForms { default: form, named: Vec::new() };
            let error = encode_response(&response(output), &forms).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
        let inputs = vec![tensor(Datatype::Fp32, &[2], b"abcd")];
        let error = encode_request(&InferRequest { inputs, ..Default::default() }, Form::Binary).unwrap_err();
        assert!(error.message.contains("Expected 8, got 4"), "{error}");
    }
}
