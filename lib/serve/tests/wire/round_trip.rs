//! What is written is read as it was.

use parm_oip::http::{Form, OutputForms, decode_request, decode_response, encode_request, encode_response};
use parm_oip::proto::{ModelInferRequest, ModelInferResponse};
use parm_oip::{InferRequest, Tensor, grpc};
use proptest::prelude::*;
use prost::Message;

use crate::strategies::{Holds, request, response};

fn over_http(request: &InferRequest, form: Form) {
    let sent = encode_request(request, form).unwrap();
    let (read, forms) =
        decode_request(&request.model, &request.version, sent.header_length, &sent.body.to_bytes()).unwrap();
    assert_eq!(&read, request);
    assert_eq!(forms.default, form);
    assert!(request.outputs.iter().all(|output| forms.of(&output.name) == form));
}

/// An output of each name, so that each can have its own form.
fn named_apart(outputs: &mut [Tensor]) {
    for (i, output) in outputs.iter_mut().enumerate() {
        output.name += &i.to_string();
    }
}

proptest! {
    #[test]
    fn a_request_in_json(request in request(Holds::Json)) {
        over_http(&request, Form::Json);
    }

    #[test]
    fn a_request_in_binary(request in request(Holds::Everything)) {
        over_http(&request, Form::Binary);
    }

    #[test]
    fn a_response_in_mixed_forms(mut response in response(Holds::Json), binary in any::<[bool; 4]>()) {
        named_apart(&mut response.outputs);
        let form = |binary| if binary { Form::Binary } else { Form::Json };
        let named = response.outputs.iter().zip(binary).map(|(output, binary)| (output.name.clone(), form(binary)));
        let sent = encode_response(&response, &OutputForms { named: named.collect(), default: Form::Json }).unwrap();
        let any = binary[..response.outputs.len()].contains(&true);
        prop_assert_eq!(sent.header_length.is_some(), any);
        prop_assert_eq!(decode_response(sent.header_length, &sent.body.to_bytes()), Ok(response));
    }

    #[test]
    fn a_response_in_binary(response in response(Holds::Everything)) {
        let forms = OutputForms { default: Form::Binary, named: Vec::new() };
        let sent = encode_response(&response, &forms).unwrap();
        prop_assert_eq!(decode_response(sent.header_length, &sent.body.to_bytes()), Ok(response));
    }

    #[test]
    fn messages(request in request(Holds::Everything), response in response(Holds::Everything)) {
        let sent = grpc::write_request(&request).encode_to_vec();
        let framed = grpc::frame::encode_request(&request).unwrap().to_bytes();
        let prefix = [&[0][..], &(sent.len() as u32).to_be_bytes()].concat();
        prop_assert_eq!(framed, [&prefix[..], &sent[..]].concat());
        prop_assert_eq!(grpc::read_request(ModelInferRequest::decode(&sent[..]).unwrap()), Ok(request));
        let sent = grpc::write_response(&response).encode_to_vec();
        prop_assert_eq!(grpc::read_response(ModelInferResponse::decode(&sent[..]).unwrap()), Ok(response));
    }
}
