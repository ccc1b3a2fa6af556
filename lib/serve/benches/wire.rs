//! Microseconds to read a request and to write its response, in each form of the protocol, on one thread.
//!
//!     cargo bench -p parm-serving --bench wire

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use parm_oip::http::{
    Encoded, Form, OutputForms, decode_request, decode_response, encode_request, encode_response,
};
use parm_oip::proto::{ModelInferRequest, ModelInferResponse, check_fields};
use parm_oip::{Datatype, InferRequest, InferResponse, Parameters, Tensor, grpc};
use prost::Message;

/// Runs of each kind; the fastest counts, since what else runs on the machine only ever adds.
const ROUNDS: usize = 20;

fn main() {
    // `cargo test` runs this file too, without the flag: once, and briefly.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    println!(
        "{:40} {:>12} {:>12} {:>12} {:>12}",
        "µs", "read request", "write resp.", "write req.", "read resp."
    );
    for (elements, repeats) in [(8, 10_000), (150_528, 20)] {
        let repeats = if quick { 1 } else { repeats };
        let time = |work: &mut dyn FnMut()| {
            let runs = (0..ROUNDS).map(|_| {
                let begin = Instant::now();
                (0..repeats).for_each(|_| work());
                begin.elapsed().as_secs_f64() * 1e6 / f64::from(repeats)
            });
            runs.fold(f64::INFINITY, f64::min)
        };
        let print = |name: &str, times: [f64; 4]| {
            let times = times.map(|time| format!("{time:>12.2}")).join(" ");
            println!("{:40} {times}", format!("{name}, {elements} floats"));
        };
        for (name, form) in [("HTTP, binary", Form::Binary), ("HTTP, JSON", Form::Json)] {
            print(name, over_http(&time, elements, form));
        }
        print("gRPC, raw", over_grpc(&time, elements));
    }
}

fn request(elements: usize) -> (InferRequest, InferResponse) {
    let floats = (0..elements).flat_map(|i| (i as f32).sin().to_le_bytes()).collect::<Vec<_>>();
    let tensor = Tensor {
        name: "input".into(),
        datatype: Datatype::Fp32,
        shape: vec![1, elements as u64],
        parameters: Parameters::new(),
        data: Bytes::from(floats).into(),
    };
    let (model, id) = ("model".to_owned(), "1".to_owned());
    let outputs = vec![Tensor { name: "output".into(), ..tensor.clone() }];
    let response = InferResponse {
        model: model.clone(),
        version: "1".into(),
        id: id.clone(),
        outputs,
        ..Default::default()
    };
    (InferRequest { model, id, inputs: vec![tensor], ..Default::default() }, response)
}

fn over_http(time: &dyn Fn(&mut dyn FnMut()) -> f64, elements: usize, form: Form) -> [f64; 4] {
    let (request, response) = request(elements);
    let forms = OutputForms { default: form, named: Vec::new() };
    let sent = |encoded: Encoded| (encoded.header_length, encoded.body.to_bytes());
    let (length, body) = sent(encode_request(&request, form).expect("a request"));
    let (answer_length, answer) = sent(encode_response(&response, &forms).expect("a response"));
    [
        time(&mut || drop(black_box(decode_request("model", "", length, black_box(&body))))),
        time(&mut || drop(black_box(encode_response(black_box(&response), &forms)))),
        time(&mut || drop(black_box(encode_request(black_box(&request), form)))),
        time(&mut || drop(black_box(decode_response(answer_length, black_box(&answer))))),
    ]
}

/// With the messages as bytes, as they come and go.
fn over_grpc(time: &dyn Fn(&mut dyn FnMut()) -> f64, elements: usize) -> [f64; 4] {
    let (request, response) = request(elements);
    let body = Bytes::from(grpc::write_request(&request).encode_to_vec());
    let answer = Bytes::from(grpc::write_response(&response).encode_to_vec());
    [
        time(&mut || {
            check_fields(&body).expect("few fields");
            let message = ModelInferRequest::decode(black_box(&body).clone()).expect("a message");
            drop(black_box(grpc::read_request(message)));
        }),
        time(&mut || drop(black_box(grpc::write_response(black_box(&response)).encode_to_vec()))),
        time(&mut || drop(black_box(grpc::write_request(black_box(&request)).encode_to_vec()))),
        time(&mut || {
            let message = ModelInferResponse::decode(black_box(&answer).clone()).expect("a message");
            drop(black_box(grpc::read_response(message)));
        }),
    ]
}
