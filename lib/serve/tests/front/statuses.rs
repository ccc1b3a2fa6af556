//! What clients are told of requests that cannot be read.

use std::time::Duration;

use crate::backend::{Backend, model};
use crate::common::http::{raw, send};
use crate::common::server::Server;
use crate::raw::{call, connect};

#[tokio::test]
async fn messages_that_are_malformed_or_too_large_have_the_statuses_of_triton() {
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), r#""limits": {"body_bytes": 1000},"#).await;
    for method in ["ModelInfer", "ModelMetadata", "ModelStreamInfer"] {
        for (body, expected) in [
            (&b"\0\0\0\0\x02\x0a\x09"[..], "3"),
            (b"\0\0\0\0\x09abc", "3"),
            (b"\x07\0\0\0\0", "3"),
            (b"\0\0\0\x03\xe9", "8"),
            (b"\0\xff\xff\xff\xff", "8"),
        ] {
            let mut client = connect(server.at.grpc.unwrap()).await;
            let method = format!("inference.GRPCInferenceService/{method}");
            let status = call(&mut client, &method, "", body, true).await;
            assert_eq!(status, expected, "{method}: {body:?}");
        }
    }
}

#[tokio::test]
async fn every_refusal_over_http_is_json() {
    let backend = Backend::start(Duration::ZERO).await;
    let more = r#""limits": {"body_bytes": 10000}, "management": "open","#;
    let server = Server::start(&model(&[&backend], ""), more).await;
    let long = "x".repeat(20_000);
    for (method, path, headers, body, code) in [
        ("GET", "/nowhere", &[][..], "", 404),
        ("GET", "/v2/models/%ff", &[], "", 400),
        ("GET", "/v2/models/a%2Fb", &[], "", 404),
        ("GET", "/v2/models/%ff/infer", &[], "", 405),
        ("POST", "/v2/models/%ff/infer", &[], "{}", 400),
        ("POST", "/v2/models/m/infer", &[("inference-header-content-length", "x")], "{}", 400),
        ("POST", "/v2/models/m/infer", &[("content-encoding", "br")], "{}", 400),
        ("POST", "/v2/models/m/infer", &[], &long, 413),
        ("POST", "/v2/repository/index", &[], &long, 413),
        ("POST", "/v2/repository/index", &[], "{", 400),
        ("POST", "/v2/repository/models/%ff/load", &[], "", 400),
        ("DELETE", "/metrics", &[], "", 405),
    ] {
        let reply = send(server.http(), method, path, headers, body.as_bytes()).await;
        assert_eq!(
            (reply.code, reply.header("content-type")),
            (code, Some("application/json")),
            "{method} {path}"
        );
        assert!(!reply.error().is_empty(), "{method} {path}");
    }
    for (head, code) in [
        (&b"\x00\x01\x02 nothing of HTTP\r\n\r\n"[..], 400),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400),
        (&[b"GET /v2 HTTP/1.1\r\nhost: x\r\nlong: ", long.repeat(5).as_bytes(), b"\r\n\r\n"].concat(), 431),
    ] {
        let reply = raw(server.http(), head).await;
        assert_eq!((reply.code, reply.header("content-type")), (code, Some("application/json")), "{reply:?}");
        assert!(reply.error().contains("the head of the request cannot be read"), "{reply:?}");
    }
}
