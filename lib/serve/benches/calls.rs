//! Microseconds of a call to a server on this machine that gives back its inputs, one after the other, over
//! the ways that instances are called; and over gRPC with tonic's own client, for comparison.
//!
//!     cargo bench -p parm-serving --bench calls

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use bytes::Bytes;
use http::Response;
use parm_config::{Encoding, Remote};
use parm_oip::client::connect;
use parm_oip::http::{self as wire, HEADER_LENGTH};
use parm_oip::instance::{CallContext, Instance};
use parm_oip::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use parm_oip::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use parm_oip::proto::{ModelInferRequest, ModelInferResponse};
use parm_oip::{Datatype, InferRequest, InferResponse, Parameters, Tensor, grpc};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

const LIMIT: usize = 64 << 20;

/// HTTP/2 windows, as in the client.
const WINDOWS: [u32; 2] = [16 << 20, 64 << 20];

fn echo(request: InferRequest) -> InferResponse {
    let InferRequest { model, version, id, parameters, inputs: outputs, .. } = request;
    InferResponse { model, version, id, parameters, outputs }
}

struct Echo;

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    async fn model_infer(
        &self,
        request: tonic::Request<ModelInferRequest>,
    ) -> Result<tonic::Response<ModelInferResponse>, tonic::Status> {
        let response = echo(grpc::read_request(request.into_inner())?);
        Ok(tonic::Response::new(grpc::write_response(&response)))
    }
}

async fn http_echo(request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(HEADER_LENGTH).map(|value| wire::header_length(value.as_bytes()).unwrap());
    let body = to_bytes(body, LIMIT).await.unwrap();
    let (request, forms) = wire::decode_request("m", "", length, &body).unwrap();
    let encoded = wire::encode_response(&echo(request), &forms).unwrap();
    let mut response = Response::builder();
    if let Some(length) = encoded.header_length {
        response = response.header(HEADER_LENGTH, length);
    }
    response.body(Body::new(encoded.body)).unwrap()
}

/// The servers, on a thread of their own.
fn serve() -> [SocketAddr; 2] {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let listeners = [bind(), bind()];
    let addresses = [0, 1].map(|index: usize| listeners[index].local_addr().unwrap());
    std::thread::spawn(move || {
        runtime.block_on(async {
            let [http, grpc] = listeners;
            let router = Router::new().fallback(http_echo);
            tokio::spawn(async { axum::serve(http, router).await });
            let [stream, connection] = WINDOWS;
            let service = GrpcInferenceServiceServer::new(Echo).max_decoding_message_size(LIMIT);
            let server = Server::builder()
                .initial_stream_window_size(stream)
                .initial_connection_window_size(connection)
                .add_service(service);
            server.serve_with_incoming(TcpIncoming::from(grpc).with_nodelay(Some(true))).await
        })
    });
    addresses
}

fn request(floats: usize) -> InferRequest {
    let data: Bytes = (0..floats).flat_map(|value| (value as f32 / 7.0).to_le_bytes()).collect();
    let tensor = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1, floats as u64],
        parameters: Parameters::new(),
        data: data.into(),
    };
    let (model, id) = ("m".to_owned(), "7".to_owned());
    InferRequest { model, id, inputs: vec![tensor], ..InferRequest::default() }
}

/// The median and the 99th percentile of the times of calls, in µs.
fn print(name: &str, calls: usize, mut call: impl FnMut()) {
    let mut times: Vec<f64> = (0..calls + calls / 10)
        .map(|_| {
            let begin = Instant::now();
            call();
            begin.elapsed().as_secs_f64() * 1e6
        })
        .skip(calls / 10)
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:40} {:>10.1} {:>10.1}", times[times.len() / 2], times[times.len() * 99 / 100]);
}

fn client(runtime: &Runtime, address: SocketAddr, encoding: Encoding) -> impl FnMut(&InferRequest) + use<'_> {
    let remote = Remote { url: format!("http://{address}"), encoding, ..Remote::default() };
    let client: Arc<dyn Instance> = connect(&remote, address, LIMIT).unwrap();
    move |request| {
        let answer = runtime.block_on(client.infer(request.clone(), CallContext::default())).unwrap();
        assert_eq!(answer.outputs, request.inputs);
    }
}

fn main() {
    // `cargo test` runs this file too, without the flag: once, and briefly.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let [http, grpc] = serve();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    println!("{:40} {:>10} {:>10}", "µs", "median", "p99");
    for (floats, calls) in [(8, 20_000), (150_528, 300)] {
        let (request, calls) = (request(floats), if quick { 10 } else { calls });
        for (name, address, encoding) in [
            ("HTTP, JSON", http, Encoding::Json),
            ("HTTP, binary", http, Encoding::Binary),
            ("gRPC", grpc, Encoding::Grpc),
        ] {
            let mut call = client(&runtime, address, encoding);
            print(&format!("{name}, {floats} floats"), calls, || call(&request));
        }
        let [stream, connection] = WINDOWS;
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{grpc}"))
            .unwrap()
            .tcp_nodelay(true)
            .initial_stream_window_size(stream)
            .initial_connection_window_size(connection);
        let channel = runtime.block_on(channel.connect()).unwrap();
        let mut tonic = GrpcInferenceServiceClient::new(channel).max_decoding_message_size(LIMIT);
        print(&format!("gRPC by tonic's client, {floats} floats"), calls, || {
            let answer = runtime.block_on(tonic.model_infer(grpc::write_request(&request))).unwrap();
            assert_eq!(grpc::read_response(answer.into_inner()).unwrap().outputs, request.inputs);
        });
    }
}
