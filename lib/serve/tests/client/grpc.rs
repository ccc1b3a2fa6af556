//! Calls over gRPC.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use parm_config::Encoding;
use parm_oip::instance::{CallContext, CallError, Instance};
use parm_oip::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use parm_oip::proto::model_infer_response::InferOutputTensor;
use parm_oip::proto::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ServerReadyRequest, ServerReadyResponse,
};
use parm_oip::{Datatype, Error, InferResponse, Status, grpc};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::fake::*;

pub(crate) fn grpc_client(address: SocketAddr) -> Arc<dyn Instance> {
    client(&format!("grpc://{address}"), address, Encoding::Auto)
}

/// A server made with tonic, that gives back its inputs.
#[derive(Default)]
struct Echo {
    seen: Arc<Mutex<Vec<tonic::metadata::MetadataMap>>>,
}

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    async fn model_infer(
        &self,
        request: tonic::Request<ModelInferRequest>,
    ) -> Result<tonic::Response<ModelInferResponse>, tonic::Status> {
        self.seen.lock().unwrap().push(request.metadata().clone());
        let request = grpc::read_request(request.into_inner())?;
        if let Ok(code) = request.model.parse() {
            return Err(tonic::Status::new(Code::from_i32(code), "as you wish"));
        }
        if request.model == "lists" {
            let contents = InferTensorContents { fp32_contents: vec![1.5], ..Default::default() };
            let (name, datatype) = ("y".to_owned(), "FP32".to_owned());
            let output = InferOutputTensor {
                name,
                datatype,
                shape: vec![1, 1],
                contents: Some(contents),
                ..Default::default()
            };
            return Ok(tonic::Response::new(ModelInferResponse {
                outputs: vec![output],
                ..Default::default()
            }));
        }
        let response = InferResponse {
            model: request.model,
            version: request.version,
            id: request.id,
            parameters: request.parameters,
            outputs: request.inputs,
        };
        Ok(tonic::Response::new(grpc::write_response(&response)))
    }

    async fn model_ready(
        &self,
        request: tonic::Request<ModelReadyRequest>,
    ) -> Result<tonic::Response<ModelReadyResponse>, tonic::Status> {
        let request = request.into_inner();
        match &*request.name {
            "x" => Err(tonic::Status::not_found("Request for unknown model: 'x' is not found")),
            _ => Ok(tonic::Response::new(ModelReadyResponse { ready: request.version == "2" })),
        }
    }

    async fn server_ready(
        &self,
        _: tonic::Request<ServerReadyRequest>,
    ) -> Result<tonic::Response<ServerReadyResponse>, tonic::Status> {
        Ok(tonic::Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_metadata(
        &self,
        request: tonic::Request<ModelMetadataRequest>,
    ) -> Result<tonic::Response<ModelMetadataResponse>, tonic::Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let tensor = parm_oip::proto::model_metadata_response::TensorMetadata {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![-1, 3],
        };
        let versions = vec![version];
        let said = ModelMetadataResponse { name, versions, inputs: vec![tensor], ..Default::default() };
        Ok(tonic::Response::new(said))
    }
}

async fn echo() -> (SocketAddr, Arc<Mutex<Vec<tonic::metadata::MetadataMap>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = Echo::default();
    let seen = Arc::clone(&echo.seen);
    let service = GrpcInferenceServiceServer::new(echo).max_decoding_message_size(64 << 20);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)));
    (address, seen)
}

/// A message in a body.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut body = vec![0];
    body.put_u32(message.len() as u32);
    body.extend_from_slice(message);
    body.into()
}

/// An answer of gRPC: a message, and how the call ended.
pub(crate) fn replied(message: &[u8], status: &'static str) -> Response<Body> {
    let trailers: HeaderMap = [("grpc-status", status), ("grpc-message", "a%20message")]
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    let frames = [http_body::Frame::data(framed(message)), http_body::Frame::trailers(trailers)];
    let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(body.boxed_unsync()))
        .unwrap()
}

/// A response of so many bytes.
pub(crate) fn message(bytes: usize) -> Vec<u8> {
    let (name, datatype) = ("y".to_owned(), "UINT8".to_owned());
    let output = InferOutputTensor { name, datatype, shape: vec![1, bytes as i64], ..Default::default() };
    let raw_output_contents = vec![Bytes::from(vec![7; bytes])];
    let response = ModelInferResponse { outputs: vec![output], raw_output_contents, ..Default::default() };
    prost::Message::encode_to_vec(&response)
}

#[tokio::test]
async fn tensors_go_there_and_back() {
    let (address, seen) = echo().await;
    let server = grpc_client(address);
    for floats in [0, 3, 150_000] {
        let asked = request(floats);
        let call = CallContext {
            timeout: Some(Duration::from_secs(5)),
            headers: [("traceparent".to_owned(), "00-1".to_owned())].into(),
            ..CallContext::default()
        };
        let answer = server.infer(asked.clone(), call).await.unwrap();
        assert_eq!((answer.outputs, &*answer.model), (asked.inputs, "m"));
        assert!(answer.id.starts_with("parm-"));
        let seen = seen.lock().unwrap().last().unwrap().clone();
        for (name, value) in
            [("traceparent", "00-1"), ("grpc-timeout", "5000000u"), ("content-type", "application/grpc")]
        {
            assert_eq!(seen.get(name).unwrap().to_str().unwrap(), value);
        }
    }
}

#[tokio::test]
async fn a_client_that_is_gone_leaves_no_connection() {
    let (server, _) = echo().await;
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = between.local_addr().unwrap();
    let closed = tokio::spawn(async move {
        let (mut client, _) = between.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    });
    let client = grpc_client(address);
    client.infer(request(8), CallContext::default()).await.unwrap();
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("it stays open").unwrap().unwrap();
}

#[tokio::test]
async fn mlserver_answers_with_lists_instead_of_raw_data() {
    let (address, _) = echo().await;
    let mut lists = request(3);
    "lists".clone_into(&mut lists.model);
    let answer = grpc_client(address).infer(lists, CallContext::default()).await.unwrap();
    assert_eq!(floats(&answer), [1.5]);
}

/// The error of a server that sent this code.
fn sent(code: Code, error: CallError) -> CallError {
    let with_code = |error| Error { grpc_code: Some(code as i32), ..error };
    match error {
        CallError::Refused(error) => CallError::Refused(with_code(error)),
        CallError::Failed(error) => CallError::Failed(with_code(error)),
        other => other,
    }
}

#[tokio::test]
async fn statuses_say_whose_fault_it_is() {
    let (address, _) = echo().await;
    let server = grpc_client(address);
    let text = "as you wish";
    let refused = |status| CallError::Refused(Error::new(status, text));
    let failed = |status| CallError::Failed(Error::new(status, text));
    let credentials = "the instance refuses this server's credentials: as you wish";
    let credentials =
        |code| CallError::Failed(Error { code: Some(code), ..Error::new(Status::Unavailable, credentials) });
    for (code, expected) in [
        (Code::InvalidArgument, refused(Status::InvalidArgument)),
        (Code::OutOfRange, refused(Status::InvalidArgument)),
        (Code::FailedPrecondition, refused(Status::InvalidArgument)),
        (Code::ResourceExhausted, failed(Status::Unavailable)),
        (Code::NotFound, failed(Status::NotFound)),
        (Code::Unavailable, failed(Status::Unavailable)),
        (Code::Cancelled, failed(Status::Unavailable)),
        (Code::Internal, failed(Status::Internal)),
        (Code::Unknown, failed(Status::Internal)),
        (Code::DeadlineExceeded, failed(Status::DeadlineExceeded)),
        (Code::Unimplemented, failed(Status::Unimplemented)),
        (Code::Unauthenticated, credentials(401)),
        (Code::PermissionDenied, credentials(403)),
    ] {
        let mut asked = request(3);
        asked.model = (code as i32).to_string();
        let error = server.infer(asked, CallContext::default()).await.unwrap_err();
        assert_eq!(error, sent(code, expected), "{code:?}");
    }
}

#[tokio::test]
async fn readiness_and_metadata_are_asked_for() {
    let (address, _) = echo().await;
    let server = grpc_client(address);
    let failed = |status, text| Err(CallError::Failed(Error::new(status, text)));
    assert_eq!(server.ready("", "").await, Ok(()));
    assert_eq!(server.ready("m", "2").await, Ok(()));
    assert_eq!(server.ready("m", "").await, failed(Status::Unavailable, "it says that it is not ready"));
    let unknown = "Request for unknown model: 'x' is not found";
    let unknown = CallError::Failed(Error::new(Status::NotFound, unknown));
    assert_eq!(server.ready("x", "").await, Err(sent(Code::NotFound, unknown)));
    let metadata = server.metadata("m", "2").await.unwrap();
    assert_eq!((&*metadata.name, &*metadata.versions[0]), ("m", "2"));
    assert_eq!((metadata.inputs[0].datatype, &metadata.inputs[0].shape[..]), (Datatype::Fp32, &[-1, 3][..]));
}

#[tokio::test]
async fn field_6_of_metadata_is_of_no_matter_whatever_its_type() {
    for field in [&b"\x32\x04abcd"[..], b"\x32\x06\x0a\x01k\x12\x01v", b"\x30\x07"] {
        let said = [&b"\x0a\x01m"[..], field].concat();
        let fake = Fake::new(move |_| replied(&said, "0")).await;
        assert_eq!(grpc_client(fake.address).metadata("m", "").await.unwrap().name, "m");
        assert_eq!(fake.asked(), ["POST /inference.GRPCInferenceService/ModelMetadata"]);
    }
}

#[tokio::test]
async fn garbage_is_garbled() {
    let plain = |code: u16, body: &'static str| {
        move |_: &Seen| Response::builder().status(code).body(Body::from(body)).unwrap()
    };
    let message = |message: &'static [u8]| move |_: &Seen| replied(message, "0");
    for (fake, expected) in [
        (Fake::new(plain(200, "<html>")).await, "found no grpc-status, expected a gRPC answer"),
        (Fake::new(plain(400, "plain HTTP")).await, "found status 400 of HTTP: plain HTTP"),
        (Fake::new(message(b"\x08")).await, "failed to decode"),
        (Fake::new(message(&[0xff; 50])).await, "failed to decode"),
        // A tensor of FP99.
        (Fake::new(message(b"\x2a\x06\x12\x04FP99")).await, "FP99"),
        // One of three floats, which are not there.
        (Fake::new(message(b"\x2a\x09\x12\x04FP32\x1a\x01\x03")).await, "unable to find data"),
        (
            Fake::new(|_| {
                Response::builder().header("grpc-status", "0").body(Body::from("\x01\0\0\0\0")).unwrap()
            })
            .await,
            "found a compressed message",
        ),
        (
            Fake::new(|_| Response::builder().header("grpc-status", "0").body(Body::empty()).unwrap()).await,
            "found 0 bytes, expected a message",
        ),
    ] {
        let error = infer(&grpc_client(fake.address)).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Garbled(text) if text.contains(expected)),
            "{expected}: {error:?}"
        );
    }
    let elsewhere = Fake::new(plain(302, "")).await;
    assert_eq!(infer(&grpc_client(elsewhere.address)).await, Err(CallError::Unexpected(302)));
}

#[tokio::test]
async fn proxies_fail_in_their_own_way() {
    for (code, body, expected) in [
        (502, "nginx", CallError::Failed(Error::from_http(502, "nginx"))),
        (404, "who", CallError::Failed(Error::new(Status::NotFound, "who"))),
        (413, "large", CallError::Refused(Error::new(Status::TooLarge, "large"))),
    ] {
        let fake = Fake::new(move |_| json(code, body)).await;
        assert_eq!(infer(&grpc_client(fake.address)).await, Err(expected));
    }
    // The status may come without a body, at once; and with a message.
    let fake = Fake::new(|_| {
        let head = Response::builder().header("grpc-status", "14").header("grpc-message", "no%20one");
        head.body(Body::empty()).unwrap()
    })
    .await;
    assert_eq!(
        infer(&grpc_client(fake.address)).await,
        Err(sent(Code::Unavailable, CallError::Failed(Error::new(Status::Unavailable, "no one"))))
    );
    let fake = Fake::new(|_| replied(b"", "3")).await;
    let refused = CallError::Refused(Error::invalid("a message"));
    assert_eq!(infer(&grpc_client(fake.address)).await, Err(sent(Code::InvalidArgument, refused)));
}

#[tokio::test]
async fn a_server_of_http_1_is_none_of_grpc() {
    let (address, _) = raw(|_, _| vec![Step::Write(http("400 Bad Request", "", "")), Step::Hang]).await;
    let error = infer(&grpc_client(address)).await.unwrap_err();
    assert!(matches!(error, CallError::Garbled(_)), "{error:?}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_garbled() {
    let fake = Fake::new(|_| replied(&message(LIMIT + 1), "0")).await;
    let error = infer(&grpc_client(fake.address)).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Garbled(text) if text.ends_with("expected at most 1048576")),
        "{error:?}"
    );
    // The connection lives on.
    let fake = Fake::new(|_| replied(&message(LIMIT - 100), "0")).await;
    assert_eq!(infer(&grpc_client(fake.address)).await.unwrap().outputs[0].data.len(), LIMIT - 100);
}
