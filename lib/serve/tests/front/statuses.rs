//! What clients are told of requests that cannot be read.

use std::time::Duration;

use parm_oip::proto::ModelInferRequest;
use parm_oip::proto::model_infer_request::InferInputTensor;
use prost::Message;

use crate::backend::{Backend, model};
use crate::common::http::{raw, send};
use crate::common::server::Server;
use crate::raw::{call, call_packed, connect, gzip};

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

/// Messages as a client packs them: the flag, the length, and what is packed.
fn packed(messages: &[Vec<u8>]) -> Vec<u8> {
    let framed = |message: &Vec<u8>| {
        let packed = gzip(message);
        [&[1], &u32::try_from(packed.len()).unwrap().to_be_bytes()[..], &packed].concat()
    };
    messages.iter().flat_map(framed).collect()
}

fn request(row: [f32; 2]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![1, 2],
        ..InferInputTensor::default()
    };
    let raw = row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![input],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_messages_are_read_within_the_limits_of_bodies() {
    let backend = Backend::start(Duration::ZERO).await;
    let more = r#""limits": {"body_bytes": 10000, "bytes": 20000},"#;
    let server = Server::start(&model(&[&backend], ""), more).await;
    let mut client = connect(server.at.grpc.unwrap()).await;
    let [one, many] =
        ["ModelInfer", "ModelStreamInfer"].map(|method| format!("inference.GRPCInferenceService/{method}"));
    let message = |row| request(row).encode_to_vec();
    for name in ["gzip", "GZIP"] {
        let body = packed(&[message([1.0, 2.0])]);
        assert_eq!(call_packed(&mut client, &one, name, body).await, "0", "{name}");
    }
    let stream = packed(&[message([3.0, 4.0]), message([5.0, 6.0])]);
    assert_eq!(call_packed(&mut client, &many, "gzip", stream).await, "0");
    let mut asked: Vec<String> =
        backend.asked().iter().map(|asked| asked["inputs"][0]["data"].to_string()).collect();
    asked.sort();
    assert_eq!(asked, ["[1.0,2.0]", "[1.0,2.0]", "[3.0,4.0]", "[5.0,6.0]"]);
    // A message that is not packed may come between.
    let plain =
        [&b"\0"[..], &u32::try_from(message([7.0, 8.0]).len()).unwrap().to_be_bytes(), &message([7.0, 8.0])];
    assert_eq!(call_packed(&mut client, &one, "gzip", plain.concat()).await, "0");

    // Small when it is packed, and too large then.
    let large = packed(&[vec![0; 10_001]]);
    assert!(large.len() < 200);
    assert_eq!(call_packed(&mut client, &one, "gzip", large).await, "8");
    let mut cut = packed(&[message([1.0, 2.0])]);
    let end = cut.len() - 1;
    cut[end] ^= 1;
    for (packing, body, status) in [
        ("gzip", cut, "3"),
        ("gzip", b"\x01\0\0\0\x02no".to_vec(), "3"),
        ("br", b"\0\0\0\0\0".to_vec(), "12"),
    ] {
        assert_eq!(call_packed(&mut client, &one, packing, body.clone()).await, status, "{packing} {body:?}");
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
