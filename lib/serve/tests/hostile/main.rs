//! Hostile bodies and messages: mutations of what clients send, read under an allocator that counts.
//!
//! What is proved for each: no panic, an answer or an error with a message of bounded size, what was read
//! has the size of its shape and is written again, and never more live memory than `CONSTANT` +
//! `FACTOR` × the bytes that arrived. The factor is that of numbers in lists: a digit and a comma, or one
//! byte of a message, become eight bytes in a vector that doubles as it fills; and of names in maps.
//!
//! 100 000 inputs by default, others with `PARM_SOAK=NUMBER`; `PARM_HOSTILE_INPUT=I` reads only
//! input I, which is the same on every machine.

mod mutations;

use bytes::Bytes;
use parm_oip::http::{self, Form, OutputForms};
use parm_oip::proto::{ModelInferRequest, ModelInferResponse, check_fields};
use parm_oip::{Datatype, Error, InferRequest, InferResponse, Place, Tensor, TensorMetadata, grpc};
use parm_testkit::hostile::{Counting, account, arrived, soak};
use prost::Message;

use mutations::{As, Input, corpus, input};

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a reader may hold of an empty body.
const CONSTANT: isize = 16 << 10;

const FACTOR: usize = 16;

const INPUTS: u64 = 100_000;

fn sees_tensors(tensors: &[Tensor]) {
    for tensor in tensors {
        let place = Place { kind: "tensor", name: &tensor.name, model: "" };
        parm_oip::check(tensor.datatype, &tensor.shape, &tensor.data, place).unwrap();
    }
}

/// Writes a request in all forms, as a client does that passes it on.
fn pass_on(request: &InferRequest) {
    sees_tensors(&request.inputs);
    // JSON cannot hold all.
    let _ = http::encode_request(request, Form::Json);
    let sent = http::encode_request(request, Form::Binary).unwrap();
    let (again, _) = http::decode_request("m", "", sent.header_length, &sent.body.to_bytes()).unwrap();
    assert_eq!(again.inputs, request.inputs);
    let again = grpc::read_request(grpc::write_request(request)).unwrap();
    assert_eq!(again.inputs, request.inputs);
}

/// Writes a response in all forms, as a server does.
fn give_back(response: &InferResponse) {
    sees_tensors(&response.outputs);
    let _ = http::encode_response(response, &OutputForms::default());
    let forms = OutputForms { default: Form::Binary, named: Vec::new() };
    let sent = http::encode_response(response, &forms).unwrap();
    let again = http::decode_response(sent.header_length, &sent.body.to_bytes()).unwrap();
    assert_eq!(again.outputs, response.outputs);
    let again = grpc::read_response(grpc::write_response(response)).unwrap();
    assert_eq!(again.outputs, response.outputs);
}

/// What was read.
enum Read {
    Request(InferRequest),
    Response(InferResponse),
    Other,
}

fn read(input: &Input, body: &Bytes) -> Result<Read, Error> {
    let malformed = |error: prost::DecodeError| Error::invalid(error.to_string());
    let fields = || check_fields(body).map_err(|status| Error::from(&status));
    Ok(match input.read_as {
        As::Request => Read::Request(http::decode_request("m", "", input.header_length, body)?.0),
        As::RawRequest => {
            let shape = vec![-1, body.len() as i64 % 3 - 1];
            let datatype = Datatype::ALL[body.len() % 14];
            let inputs = [TensorMetadata { name: "x".into(), datatype, shape }];
            Read::Request(http::decode_raw_request("m", "", &inputs, body.clone())?.0)
        }
        As::Response => Read::Response(http::decode_response(input.header_length, body)?),
        As::RequestMessage => {
            fields()?;
            let message = ModelInferRequest::decode(body.clone()).map_err(malformed)?;
            Read::Request(grpc::read_request(message)?)
        }
        As::ResponseMessage => {
            fields()?;
            let message = ModelInferResponse::decode(body.clone()).map_err(malformed)?;
            Read::Response(grpc::read_response(message)?)
        }
        As::Metadata => {
            drop(http::decode_error(400, body));
            drop(http::decode_server_metadata(body));
            drop(http::decode_model_metadata(body)?);
            Read::Other
        }
    })
}

/// Reads an input, and writes again what was read; returns the excess, and whether it was read.
fn check(input: &Input) -> (isize, bool) {
    let body = Bytes::from(input.body.clone());
    let (result, excess) = account(FACTOR, || {
        arrived(body.len());
        read(input, &body)
    });
    assert!(excess <= CONSTANT, "{excess} bytes over {FACTOR} times what arrived");
    match &result {
        Ok(Read::Request(request)) => pass_on(request),
        Ok(Read::Response(response)) => give_back(response),
        Ok(Read::Other) => {}
        Err(error) => assert!(error.message.len() < 1100, "{error}"),
    }
    (excess, result.is_ok())
}

#[test]
fn no_mutation_of_any_body_panics_or_takes_memory_that_did_not_arrive() {
    let corpus = corpus();
    for input in &corpus {
        let read_all = check(input).1;
        assert!(read_all || input.read_as == As::RawRequest, "{input:?}");
    }
    let show = |i| {
        let input = input(&corpus, i);
        eprintln!("{:?} {:?}\n{}", input.read_as, input.header_length, input.body.escape_ascii());
    };
    soak(INPUTS, show, |i| check(&input(&corpus, i)));
}

/// Bodies that make the most of their bytes.
#[test]
fn the_worst_bodies_take_bounded_memory_and_time() {
    let full =
        |begin: &str, piece: &str, end: &str| begin.to_owned() + &piece.repeat((8 << 20) / piece.len()) + end;
    let numbered = |begin: &str, piece: fn(usize) -> String, end: &str| {
        begin.to_owned() + &(0..500_000).map(piece).collect::<String>() + end
    };
    let tensor = r#"{"inputs":[{"name":"x","datatype":"#;
    let field = |tag: u8, inner: Vec<u8>| {
        let mut field = vec![tag];
        prost::encoding::encode_varint(inner.len() as u64, &mut field);
        [field, inner].concat()
    };
    // In the request, in a tensor, or in its contents.
    let nested = |depth, inner: Vec<u8>| (0..depth).fold(inner, |inner, _| field(0x2a, inner));
    let messages = |depth, piece: &[u8]| nested(depth, piece.repeat((8 << 20) / piece.len()));
    let packed = |depth, tag| nested(depth, field(tag, vec![1; 8 << 20]));
    let bodies = [
        (As::Request, full("", "[", "").into_bytes()),
        (As::Request, full("", "{\"inputs\":", "").into_bytes()),
        (As::Request, full("{\"x\":", "[", "").into_bytes()),
        (As::Request, full("{\"x\":", "{\"a\":", "").into_bytes()),
        (As::Request, full("{\"parameters\":{\"x\":", "[", "").into_bytes()),
        (As::Request, full("{\"inputs\":[", "{},", "").into_bytes()),
        (
            As::Request,
            full("{\"outputs\":[", "{\"name\":\"\"},", "{\"name\":\"\"}],\"inputs\":[]}").into_bytes(),
        ),
        (As::Request, full(tensor, "\"BOOL\"", "").into_bytes()),
        (
            As::Request,
            full(&format!("{tensor}\"BOOL\",\"shape\":["), "1,", "1],\"data\":[true]}]}").into_bytes(),
        ),
        (
            As::Request,
            full(&format!("{tensor}\"BOOL\",\"shape\":["), "1,", "2],\"data\":[true]}]}").into_bytes(),
        ),
        (
            As::Request,
            full(&format!("{tensor}\"FP64\",\"shape\":[4194305],\"data\":["), "1,", "1]}]}").into_bytes(),
        ),
        (As::Request, full(&format!("{tensor}\"FP64\",\"shape\":[9],\"data\":["), "[", "").into_bytes()),
        (As::Request, full(&format!("{tensor}\"FP64\",\"shape\":[9],\"data\":["), "{}", "").into_bytes()),
        (
            As::Request,
            full(&format!("{tensor}\"FP64\",\"shape\":[2],\"data\":["), "NaN,", "NaN]}]}").into_bytes(),
        ),
        (
            As::Request,
            full(&format!("{tensor}\"BYTES\",\"shape\":[2796203],\"data\":["), "\"\",", "\"\"]}]}")
                .into_bytes(),
        ),
        (As::Request, full(&format!("{tensor}\""), "\u{e9}", "\",\"shape\":[],\"data\":[]}]}").into_bytes()),
        (
            As::Request,
            full("{\"inputs\":[", r#"{"name":"","datatype":"BOOL","shape":[0],"data":[]},"#, "").into_bytes(),
        ),
        (
            As::Request,
            numbered("{\"parameters\":{", |i| format!("\"{i:x}\":1,"), "\"x\":1},\"inputs\":[]}")
                .into_bytes(),
        ),
        (As::Request, b"NaN,".repeat(2 << 20)),
        (As::Metadata, full("{\"versions\":[", "\"\",", "\"\"]}").into_bytes()),
        (As::Metadata, full("{\"detail\":", "[", "").into_bytes()),
        (As::RequestMessage, messages(0, &[0x2a, 0])),
        (As::RequestMessage, messages(0, &[0x3a, 0])),
        (As::RequestMessage, messages(0, &[0x22, 0])),
        (As::RequestMessage, messages(1, &[0x22, 0])),
        (As::RequestMessage, messages(1, &[0x18, 1])),
        (As::RequestMessage, packed(1, 0x1a)),
        (As::RequestMessage, packed(2, 0x0a)),
        (As::RequestMessage, packed(2, 0x2a)),
        (As::RequestMessage, messages(2, &[0x42, 0])),
        (As::RequestMessage, messages(2, &[0x28, 1])),
        (As::RequestMessage, messages(0, &[0x0b])),
        (As::RequestMessage, messages(0, &[0x0b, 0x0c])),
    ];
    for (read_as, body) in bodies {
        let begin = std::time::Instant::now();
        let header = body[..body.len().min(60)].escape_ascii().to_string();
        let input = Input { read_as, header_length: None, body };
        let whole = check(&input).1;
        let milliseconds = begin.elapsed().as_millis();
        let body = Bytes::from(input.body.clone());
        let (_, held) = account(0, || read(&input, &body).is_ok());
        let times = held as f64 / body.len() as f64;
        eprintln!("{milliseconds:5} ms {times:5.1} bytes for one {whole:5} {header}");
        // A second on an idle machine.
        assert!(milliseconds < 20_000, "{milliseconds} ms for {header}");
    }
}

/// There is a limit to what is more in memory than in the message.
#[test]
fn as_many_fields_as_a_message_may_have_take_a_few_mib() {
    for (field, expected) in [([0x2a, 0], 8 << 20), ([0x32, 0], 2 << 20), ([0x3a, 0], 2 << 20)] {
        let body = Bytes::from(field.repeat(16_384));
        let input = Input { read_as: As::RequestMessage, header_length: None, body: Vec::new() };
        let (_, held) = account(0, || read(&input, &body).is_ok());
        eprintln!("{held:8} bytes for {} {}", body.len(), field.escape_ascii());
        assert!(held < expected, "{held}");
    }
}

#[test]
fn large_tensors_are_not_copied() {
    let data = Bytes::from(vec![1; 600 << 10]);
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,153600],"parameters":{"binary_data_size":614400}}]}"#;
    let body = Bytes::from([json.as_bytes(), &data].concat());
    let (request, held) = account(0, || http::decode_request("m", "", Some(json.len()), &body).unwrap().0);
    assert!(held < 4096, "{held}");
    let (sent, held) = account(0, || http::encode_request(&request, Form::Binary).unwrap());
    assert!(held < 4096 && sent.body.len() > 600 << 10, "{held}");
    let message = Bytes::from(grpc::write_request(&request).encode_to_vec());
    let (request, held) =
        account(0, || grpc::read_request(ModelInferRequest::decode(message).unwrap()).unwrap());
    assert!(held < 4096, "{held}");
    let (_, held) = account(0, || grpc::write_request(&request));
    assert!(held < 4096, "{held}");
}
