//! The memory that clients can make the server take.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend::{Backend, model, rows};
use crate::common::http::{get, post, send};
use crate::common::server::Server;
use crate::common::wait::until;
use crate::raw::gzip;

const INFER: &str = "/v2/models/m/infer";

/// The beginning of a request over HTTP whose body never ends.
async fn half(server: &Server, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", bytes + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; bytes]).await.unwrap();
    stream
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_is_refused_before_it_is_made() {
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), r#""limits": {"body_bytes": 4000},"#).await;
    let asks = |classes: usize, count: usize| {
        let output =
            format!(r#""outputs": [{{"name": "y", "parameters": {{"classification": {classes}}}}}],"#);
        rows(&vec![[1, 2]; count], &output)
    };
    assert_eq!(post(server.http(), INFER, &asks(9, 10)).await.code, 200);
    let calls = backend.asked().len();
    let reply = post(server.http(), INFER, &asks(9, 100)).await;
    assert_eq!((reply.code, reply.error().contains("the answer would have")), (413, true), "{reply:?}");
    assert_eq!(backend.asked().len(), calls, "no instance was asked");
}

#[tokio::test]
async fn bodies_under_way_have_a_limit_together() {
    let backend = Backend::start(Duration::ZERO).await;
    let limits = r#""limits": {"body_bytes": 60000, "bytes": 100000},"#;
    let server = Server::start(&model(&[&backend], ""), limits).await;
    let (small, large) = (rows(&[[1, 2]], ""), format!("{}{}", rows(&[[1, 2]], ""), " ".repeat(55_000)));
    assert_eq!(post(server.http(), INFER, &large).await.code, 200);
    let slow = half(&server, 59_000).await;
    // Until all of it has arrived.
    until("a refusal", async || post(server.http(), INFER, &large).await.code != 200).await;
    let reply = post(server.http(), INFER, &large).await;
    assert_eq!((reply.code, reply.error().contains("overloaded")), (503, true), "{reply:?}");
    // What is unpacked counts, too.
    let packed = gzip(large.as_bytes());
    let reply = send(server.http(), "POST", INFER, &[("content-encoding", "gzip")], &packed).await;
    assert_eq!(reply.code, 503, "{reply:?}");
    // And over gRPC.
    let mut client = server.grpc().await;
    let data = crate::common::bytes(&vec![0.0; 12_000]);
    let asked = parm_oip::proto::ModelInferRequest {
        model_name: "m".to_owned(),
        raw_input_contents: vec![data],
        ..Default::default()
    };
    let status = client.model_infer(asked.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert_eq!(post(server.http(), INFER, &small).await.code, 200);
    drop(slow);
    until("room for a body", async || post(server.http(), INFER, &large).await.code == 200).await;
    // It is wrong in itself, and is read.
    let status = client.model_infer(asked).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
}

/// One thread serves: whatever keeps it keeps all clients.
#[tokio::test]
async fn health_is_told_while_a_large_body_is_unpacked_and_read() {
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), "").await;
    let at = server.http();
    let numbers = format!("{}1", "1,".repeat(20_000_000));
    let body = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [10000000, 2], "datatype": "FP32", "data": [{numbers}]}}]}}"#
    );
    let packed = gzip(body.as_bytes());
    let large =
        tokio::spawn(async move { send(at, "POST", INFER, &[("content-encoding", "gzip")], &packed).await });
    let mut told = 0;
    while !large.is_finished() {
        assert_eq!(get(at, "/v2/health/live").await.code, 200);
        told += 1;
    }
    assert_eq!(large.await.unwrap().code, 400);
    // Had the body kept the thread, it would have been told once at most.
    assert!(told > 5, "health was told {told} times");
}
