//! Clients that are slow or silent, or that close their half.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, model, rows};
use crate::common::http::get;
use crate::common::server::Server;
use crate::common::wait::soon;
use crate::raw::{call, connect};

/// What comes on a connection until it is closed.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // One that is reset is closed, too.
    let _ = soon("the end of the connection", stream.read_to_end(&mut all)).await;
    all
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    let read = soon("an answer", stream.read(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn silent_connections_are_closed_and_make_room_and_who_runs_the_server_has_its_own() {
    let backend = Backend::start(Duration::ZERO).await;
    let more = r#""admin": "127.0.0.1:0", "limits": {"connections": 4, "header_ms": 400, "idle_ms": 60000},"#;
    let server = Server::start(&model(&[&backend], ""), more).await;
    for at in [server.http(), server.at.grpc.unwrap()] {
        for beginning in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET /v2 HTTP/1.1\r\nhost:"] {
            let mut silent = Vec::new();
            for _ in 0..4 {
                let mut stream = TcpStream::connect(at).await.unwrap();
                stream.write_all(beginning).await.unwrap();
                silent.push(stream);
            }
            assert_eq!(get(server.at.admin.unwrap(), "/metrics").await.code, 200);
            // It waits for room, and then is answered.
            assert_eq!(get(server.http(), "/v2/health/live").await.code, 200, "{beginning:?}");
            for mut stream in silent {
                rest(&mut stream).await;
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_on_any_route() {
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), r#""limits": {"body_ms": 300},"#).await;
    for path in ["/v2/models/m/infer", "/v2/repository/index"] {
        let mut stream = TcpStream::connect(server.http()).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = String::from_utf8_lossy(&rest(&mut stream).await).into_owned();
        assert!(said.starts_with("HTTP/1.1 504") && said.contains("did not arrive within 300 ms"), "{said}");
    }
    // Half of a message over gRPC.
    let mut client = connect(server.at.grpc.unwrap()).await;
    for method in ["ModelInfer", "RepositoryIndex", "ModelStreamInfer"] {
        let method = format!("inference.GRPCInferenceService/{method}");
        let called = call(&mut client, &method, "", b"\0\0\0\0\x09half", false);
        assert_eq!(soon("an answer", called).await, "4", "{method}");
    }
}

#[tokio::test]
async fn a_connection_that_is_kept_is_not_closed_by_the_time_for_headers() {
    let backend = Backend::start(Duration::ZERO).await;
    let model = model(&[&backend], "");
    let server = Server::start(&model, r#""limits": {"header_ms": 200, "idle_ms": 600000},"#).await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    // The next header has as long as the first one.
    stream.write_all(b"GET /v2").await.unwrap();
    rest(&mut stream).await;
    // The time for silence ends it where the time for headers does not.
    let server = Server::start(&model, r#""limits": {"header_ms": 600000, "idle_ms": 500},"#).await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let since = Instant::now();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(rest(&mut stream).await.is_empty());
    assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_client_that_closed_its_half_gets_its_answer() {
    let backend = Backend::start(Duration::from_millis(300)).await;
    let server = Server::start(&model(&[&backend], ""), "").await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let body = rows(&[[1, 2]], "");
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let said = String::from_utf8_lossy(&rest(&mut stream).await).into_owned();
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("[21.0]"), "{said}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_closed() {
    let server = Server::start(
        r#"{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [100000]}],
            "instances": [{"synthetic": {}, "roles": ["deployed"]}]}"#,
        r#""limits": {"body_ms": 400, "bytes": 200000000},"#,
    )
    .await;
    let body = r#"{"inputs": [{"name": "x", "shape": [40, 1], "datatype": "FP32", "data": [DATA]}]}"#
        .replace("DATA", &["1"; 40].join(","));
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    // More answers than the system keeps for one who does not read.
    for _ in 0..8 {
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }
    // Room for a few answers at a time is all there is, so that it must be given back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // One that is reset is closed as well.
    let _ = soon("the end of the connection", stream.read_to_end(&mut Vec::new())).await;
}

/// Over HTTP/2 a client can take none of its answers, and say otherwise that it is well.
#[tokio::test]
async fn streams_whose_answers_are_not_taken_give_back_what_they_hold() {
    let server = Server::start(
        r#"{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1000000]}],
            "instances": [{"synthetic": {}, "roles": ["deployed"]}]}"#,
        r#""limits": {"body_ms": 500, "body_bytes": 8000000, "bytes": 20000000},"#,
    )
    .await;
    let body = r#"{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}"#;
    let binary = r#"{"parameters": {"binary_data_output": true}, "#.to_owned() + &body[1..];
    let path = "/v2/models/m/infer";
    let large = async || crate::common::http::post(server.http(), path, &binary).await.code;
    assert_eq!(large().await, 200);
    let stream = TcpStream::connect(server.http()).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(100)
        .handshake::<_, bytes::Bytes>(stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        let request = http::Request::post(format!("http://x{path}")).body(()).unwrap();
        let (answer, mut sends) = client.send_request(request, false).unwrap();
        sends.send_data(binary.clone().into(), true).unwrap();
        answers.push(answer.await.unwrap());
    }
    assert_eq!(large().await, 503, "what is not taken counts");
    let closed = soon("the end of the connection", connection).await;
    drop((closed, answers));
    assert_eq!(large().await, 200);
}
