//! The server: its routes, its errors, its limits and its keys, over HTTP and gRPC.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::http::{get, post, raw, send};
use common::server::{Server, config};
use common::wait::until;
use parm_config::{Config, Remote};
use parm_oip::instance::{CallContext, CallError};
use parm_oip::{Status, client, grpc as wire, proto};
use parm_serving::NoModels;
use parm_serving::server::{Order, Running};
use serde_json::json;
use tokio::sync::mpsc;

/// A model of 8 floats in, 3 out, whose answers are sums.
const TOY: &str = r#"{"name": "toy",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [8]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}],
    "placement": "pooled", "instances": [{"synthetic": {"count": 3}}]}"#;

/// A row, and what the toy answers.
const ROW: &str = r#"{"id": "7", "inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32",
    "data": [1, 2, 3, 4, 5, 6, 7, 8]}]}"#;
const ANSWER: [f64; 3] = [12.0, 15.0, 9.0];

#[tokio::test]
async fn routes_of_the_protocol() {
    let server = Server::start(TOY, "").await;
    let at = server.http();
    for path in
        ["/v2/health/live", "/v2/health/ready", "/v2/models/toy/ready", "/v2/models/toy/versions/1/ready"]
    {
        assert_eq!(get(at, path).await.code, 200, "{path}");
    }
    for path in ["/v2", "/v2/"] {
        assert_eq!(get(at, path).await.json()["name"], "parm-serve");
    }
    let expected = json!({"name": "toy", "versions": ["1"], "platform": "parm",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]});
    assert_eq!(get(at, "/v2/models/toy").await.json(), expected);
    let config = get(at, "/v2/models/toy/config").await.json();
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(4096), &json!([8])));
    assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
    let answer = post(at, "/v2/models/toy/infer", ROW).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = answer.json();
    assert_eq!((&answer["id"], &answer["model_version"]), (&json!("7"), &json!("1")));
    assert_eq!(answer["outputs"][0]["data"], json!(ANSWER));
    for path in ["/v2/models/toy/stats", "/v2/models/stats", "/v2/models/toy/versions/1/stats"] {
        let stats = &get(at, path).await.json()["model_stats"][0];
        assert_eq!(
            (&stats["inference_count"], &stats["inference_stats"]["success"]["count"]),
            (&json!(1), &json!(1))
        );
        assert!(stats["inference_stats"]["success"]["ns"].as_u64().unwrap() > 0);
    }
    let index = post(at, "/v2/repository/index", "").await.json();
    assert_eq!(index, json!([{"name": "toy", "version": "1", "state": "READY", "reason": ""}]));
    assert!(server.stop().await);
}

#[tokio::test]
async fn errors_are_told_as_the_protocol_has_them() {
    let server = Server::start(TOY, "").await;
    let at = server.http();
    let reply = post(at, "/v2/models/toy/infer", &ROW.replace("[1, 8]", "[1, 7]")).await;
    assert_eq!(reply.code, 400);
    let wrong = |from: &str, to: &str| ROW.replace(from, to);
    for (body, expected) in [
        (wrong("\"x\"", "\"z\""), "found the inputs z, expected 'x'"),
        (wrong("FP32", "FP64"), "inference input 'x' data-type is 'FP64', but model 'toy' expects 'FP32'"),
        (wrong("[1, 8]", "[8]"), "Expected [-1,8], got [8]"),
        (
            wrong("\"shape\": [1, 8]", "\"shape\": [0, 8]").replace("1, 2, 3, 4, 5, 6, 7, 8", ""),
            "found a request of no rows",
        ),
        (wrong("\"id\": \"7\"", "\"outputs\": [{\"name\": \"z\"}]"), "unexpected inference output 'z'"),
        (wrong("\"id\": \"7\"", "\"parameters\": {\"timeout\": -1}"), "found timeout = -1"),
        (
            wrong("\"id\": \"7\"", "\"parameters\": {\"parm_allow_reconstructed\": 3}"),
            "expected true or false",
        ),
        (
            wrong("\"id\": \"7\"", "\"parameters\": {\"parm_redundancy\": \"all\"}"),
            "found parm_redundancy = \"all\", expected none, normal or critical",
        ),
        ("{".to_owned(), "failed to parse"),
    ] {
        let reply = post(at, "/v2/models/toy/infer", &body).await;
        assert_eq!(reply.code, 400, "{body}");
        assert!(reply.error().contains(expected), "{body}: {}", reply.error());
    }
    let reply = post(at, "/v2/models/nix/infer", ROW).await;
    assert_eq!(
        (reply.code, reply.error()),
        (404, "Request for unknown model: 'nix' is not found".to_owned())
    );
    let reply = post(at, "/v2/models/toy/versions/2/infer", ROW).await;
    assert_eq!((reply.code, reply.error().contains("version 2")), (404, true));
    let reply = get(at, "/v2/nix").await;
    assert_eq!((reply.code, reply.error()), (404, "found no route /v2/nix".to_owned()));
    let reply = get(at, "/v2/models/toy/infer").await;
    assert_eq!((reply.code, reply.error().contains("found the method GET")), (405, true));
}

#[tokio::test]
async fn binary_and_raw_requests_and_packed_bodies() {
    let server = Server::start(TOY, "").await;
    let at = server.http();
    let data: Vec<u8> = (1..=8).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let json = r#"{"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "parameters": {"binary_data_size": 32}}],
        "parameters": {"binary_data_output": true}}"#;
    let length = json.len().to_string();
    let body = [json.as_bytes(), &data].concat();
    for (body, length) in [(&body, length.as_str()), (&data, "0")] {
        let headers = [("inference-header-content-length", length), ("x-request-id", "abc")];
        let reply = send(at, "POST", "/v2/models/toy/infer", &headers, body).await;
        assert_eq!((reply.code, reply.header("x-request-id")), (200, Some("abc")), "{reply:?}");
        let json: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
        let found: Vec<f64> = common::floats(&reply.body[json..]).into_iter().map(f64::from).collect();
        assert_eq!(found, ANSWER);
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, ROW.as_bytes()).unwrap();
    let headers = [("content-encoding", "gzip"), ("accept-encoding", "gzip")];
    let reply = send(at, "POST", "/v2/models/toy/infer", &headers, &packer.finish().unwrap()).await;
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&reply.body[..]), &mut text).unwrap();
    assert!(text.contains("[12.0,15.0,9.0]"), "{text}");
}

#[tokio::test]
async fn classification_names_the_largest_elements() {
    let server = Server::start(TOY, "").await;
    let asks = |outputs: &str| ROW.replace("\"id\": \"7\"", &format!("\"outputs\": [{outputs}]"));
    let two = asks(r#"{"name": "y", "parameters": {"classification": 2}}"#);
    let reply = post(server.http(), "/v2/models/toy/infer", &two).await.json();
    let expected =
        json!({"name": "y", "datatype": "BYTES", "shape": [1, 2], "data": ["15.000000:1", "12.000000:0"]});
    assert_eq!(reply["outputs"][0], expected);
    let none = asks(r#"{"name": "y", "parameters": {"classification": 0}}"#);
    let reply = post(server.http(), "/v2/models/toy/infer", &none).await;
    assert_eq!((reply.code, reply.error().contains("expected a number from 1")), (400, true));
}

#[tokio::test]
async fn limits_of_bodies_headers_rows_and_time() {
    let more = r#""limits": {"body_bytes": 1000, "header_bytes": 8192, "rows": 2, "header_ms": 200, "body_ms": 200},"#;
    let server = Server::start(TOY, more).await;
    let at = server.http();
    let reply = post(at, "/v2/models/toy/infer", &" ".repeat(1001)).await;
    assert_eq!((reply.code, reply.error().contains("expected at most 1000")), (413, true));
    let rows = ROW.replace("[1, 8]", "[3, 8]").replace("1, 2, 3, 4, 5, 6, 7, 8", &["0"; 24].join(","));
    let reply = post(at, "/v2/models/toy/infer", &rows).await;
    assert_eq!(
        (reply.code, reply.error().contains("found a request of 3 rows, expected at most 2")),
        (400, true)
    );
    let long = "a".repeat(20_000);
    let reply = send(at, "GET", "/v2", &[("x-long", &long)], b"").await;
    assert_eq!(reply.code, 431);
    // A slow loris: neither the headers nor the body ever end.
    let reply = raw(at, b"GET /v2 HTTP/1.1\r\nhost:").await;
    assert!(reply.code == 408 || reply.code == 0, "{reply:?}");
    let reply =
        raw(at, b"POST /v2/models/toy/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await;
    assert_eq!(reply.code, 504, "{reply:?}");
    server.ready().await;
}

#[tokio::test]
async fn garbage_breaks_nothing() {
    let server = Server::start(TOY, r#""limits": {"header_ms": 200},"#).await;
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"\r\n\r\n\r\n", b"GET\0/ HTTP/9\r\n\r\n"] {
        raw(server.http(), garbage).await;
        raw(server.at.grpc.unwrap(), garbage).await;
    }
    assert_eq!(post(server.http(), "/v2/models/toy/infer", ROW).await.code, 200);
}

#[tokio::test]
async fn keys_are_asked_for_by_inference_and_apart_by_who_runs_it() {
    let folder = std::env::temp_dir().join(format!("parm-server-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [user, boss] = ["user", "boss"].map(|name| folder.join(name));
    std::fs::write(&user, "u\n").unwrap();
    std::fs::write(&boss, "b\n").unwrap();
    let more = format!(r#""keys": {{"inference": {user:?}, "admin": {boss:?}}},"#);
    let server = Server::start(TOY, &more).await;
    std::fs::remove_dir_all(&folder).unwrap();
    let at = server.http();
    for (path, key, code_of_other) in [
        ("/v2/models/toy", "u", 401),
        ("/v2", "u", 401),
        ("/metrics", "b", 200),
        ("/", "b", 200),
        ("/status.json", "b", 200),
    ] {
        let bearer = format!("Bearer {key}");
        assert_eq!(send(at, "GET", path, &[("authorization", &bearer)], b"").await.code, 200, "{path}");
        assert_eq!(get(at, path).await.code, 401, "{path}");
        let other = if key == "u" { "b" } else { "u" };
        assert_eq!(send(at, "GET", path, &[("x-api-key", other)], b"").await.code, code_of_other, "{path}");
    }
    assert_eq!(post(at, "/v2/repository/models/toy/unload", "").await.code, 401);
    let mut client = server.grpc().await;
    let asked = proto::ModelMetadataRequest { name: "toy".to_owned(), version: String::new() };
    let status = client.model_metadata(asked.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(asked);
    request.metadata_mut().insert("authorization", "Bearer u".parse().unwrap());
    assert_eq!(client.model_metadata(request).await.unwrap().into_inner().name, "toy");
}

#[tokio::test]
async fn models_are_unloaded_and_loaded() {
    let server = Server::start(TOY, r#""management": "open","#).await;
    let at = server.http();
    assert_eq!(post(at, "/v2/repository/models/toy/unload", "").await.code, 200);
    let reply = post(at, "/v2/models/toy/infer", ROW).await;
    assert_eq!((reply.code, reply.error().contains("it is not loaded")), (503, true));
    assert_eq!(post(at, "/v2/repository/index", r#"{"ready": true}"#).await.json(), json!([]));
    assert_eq!(post(at, "/v2/repository/models/toy/load", "").await.code, 200);
    server.ready().await;
    assert_eq!(post(at, "/v2/models/toy/infer", ROW).await.code, 200);
    assert_eq!(post(at, "/v2/repository/models/nix/load", "").await.code, 404);
}

#[tokio::test]
async fn the_default_version_is_the_one_that_says_so_or_the_highest() {
    let version = |version: &str, more: &str| {
        TOY.replace("\"toy\",", &format!("\"toy\", \"version\": \"{version}\", {more}"))
    };
    let highest = Server::start(&[version("2", ""), version("10", "")].join(","), "").await;
    assert_eq!(post(highest.http(), "/v2/models/toy/infer", ROW).await.json()["model_version"], "10");
    let said = [version("2", "\"default\": true,"), version("10", "")].join(",");
    let said = Server::start(&said, "").await;
    assert_eq!(post(said.http(), "/v2/models/toy/infer", ROW).await.json()["model_version"], "2");
    assert_eq!(
        post(said.http(), "/v2/models/toy/versions/10/infer", ROW).await.json()["model_version"],
        "10"
    );
    assert_eq!(get(said.http(), "/v2/models/toy").await.json()["versions"], json!(["10", "2"]));
}

#[tokio::test]
async fn what_is_rebuilt_is_named() {
    let model = TOY.replace(
        "\"placement\"",
        r#""redundancy": {"policy": "coded"}, "answer": {"when": "first"}, "deadline_ms": 5000, "call_timeout_ms": 5000, "placement""#,
    );
    let slow = r#"[{"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 2000}}}, "roles": ["deployed"]},
        {"synthetic": {}, "roles": ["deployed"]}, {"synthetic": {}, "roles": ["parity-0"]}]"#;
    let model = model.replace(r#"[{"synthetic": {"count": 3}}]"#, slow);
    let server = Server::start(&model, "").await;
    while get(server.http(), "/status.json").await.json()["models"][0]["instances"].as_array().unwrap().len()
        < 3
    {}
    let two = ROW.replace("[1, 8]", "[2, 8]").replace("7, 8]", "7, 8, 1, 1, 1, 1, 1, 1, 1, 1]");
    let reply = post(server.http(), "/v2/models/toy/infer", &two).await.json();
    assert_eq!(reply["outputs"][0]["data"], json!([12.0, 15.0, 9.0, 3.0, 3.0, 2.0]));
    let rebuilt = reply["parameters"]["parm_reconstructed"].as_str().unwrap();
    assert!(rebuilt == "0" || rebuilt == "1", "{reply}");
    let confidence: f64 = reply["parameters"]["parm_confidence"].as_str().unwrap().parse().unwrap();
    assert!((0.0..=1.0).contains(&confidence));
    let refuses = ROW.replace(
        "\"id\": \"7\"",
        "\"parameters\": {\"parm_allow_reconstructed\": false, \"timeout\": 100000}",
    );
    let mut codes = Vec::new();
    for _ in 0..2 {
        codes.push(post(server.http(), "/v2/models/toy/infer", &refuses).await.code);
    }
    assert!(codes.iter().all(|code| [200, 504].contains(code)), "{codes:?}");
}

#[tokio::test]
async fn the_deadline_of_a_call_over_grpc_holds() {
    let slow = r#"[{"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 9000}}}}]"#;
    let server = Server::start(&TOY.replace(r#"[{"synthetic": {"count": 3}}]"#, slow), "").await;
    let at = server.at.grpc.unwrap();
    let remote = Remote { url: format!("grpc://{at}"), ..Remote::default() };
    let asked = wire::read_request(request("a", 8)).unwrap();
    // The client of this crate leaves it to its caller to stop waiting.
    let call = CallContext { timeout: Some(Duration::from_millis(50)), ..CallContext::default() };
    let since = Instant::now();
    let error = client::connect(&remote, at, 1 << 20).unwrap().infer(asked, call).await.unwrap_err();
    let CallError::Failed(error) = error else { panic!("{error}") };
    assert_eq!(error.status, Status::DeadlineExceeded);
    assert!(since.elapsed() < Duration::from_secs(5), "{error}");
}

#[tokio::test]
async fn grpc_has_what_http_has() {
    let server = Server::start(TOY, "").await;
    let mut client = server.grpc().await;
    assert!(client.server_live(proto::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(proto::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let name = || "toy".to_owned();
    let ready = proto::ModelReadyRequest { name: name(), version: String::new() };
    assert!(client.model_ready(ready).await.unwrap().into_inner().ready);
    let config = proto::ModelConfigRequest { name: name(), version: String::new() };
    let config = client.model_config(config).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.max_batch_size, &config.input[0].dims), (4096, &vec![8]));
    let answer = client.model_infer(request("a", 8)).await.unwrap().into_inner();
    let found: Vec<f64> = common::floats(&answer.raw_output_contents[0]).into_iter().map(f64::from).collect();
    assert_eq!((answer.id.as_str(), found), ("a", ANSWER.to_vec()));
    let status = client.model_infer(request("a", 7)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("Expected [-1,8], got [1, 7]"), "{status}");
    let unknown = proto::ModelInferRequest { model_name: "nix".to_owned(), ..request("a", 8) };
    let status = client.model_infer(unknown).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::NotFound, "Request for unknown model: 'nix' is not found")
    );
    // What the metadata ask for holds, unless the request itself asks for something else.
    let mut wrong = tonic::Request::new(request("a", 8));
    wrong.metadata_mut().insert("parm_redundancy", "all".parse().unwrap());
    let status = client.model_infer(wrong).await.unwrap_err();
    assert!(status.message().contains("found parm_redundancy = \"all\", expected none"), "{status}");
    let asked = proto::ModelStatisticsRequest { name: name(), version: String::new() };
    let statistics = client.model_statistics(asked).await.unwrap().into_inner().model_stats;
    assert_eq!(statistics[0].inference_count, 1);
    let index = client.repository_index(proto::RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert_eq!(index.models[0].state, "READY");
}

fn request(id: &str, elements: usize) -> proto::ModelInferRequest {
    let values: Vec<f32> = (1..=elements).map(|value| value as f32).collect();
    proto::ModelInferRequest {
        model_name: "toy".to_owned(),
        id: id.to_owned(),
        inputs: vec![proto::model_infer_request::InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, elements as i64],
            ..Default::default()
        }],
        raw_input_contents: vec![common::bytes(&values)],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_stream_answers_each_request_and_names_the_wrong_one() {
    use tokio_stream::StreamExt;
    let server = Server::start(TOY, "").await;
    let requests = tokio_stream::iter([request("a", 8), request("b", 7), request("c", 8)]);
    let mut answers = server.grpc().await.model_stream_infer(requests).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        found.push((answer.infer_response.unwrap().id, answer.error_message.is_empty()));
    }
    found.sort();
    assert_eq!(found, [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), true)]);
}

#[tokio::test]
async fn health_is_told_as_grpc_has_it() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let server = Server::start(TOY, "").await;
    let address = format!("http://{}", server.at.grpc.unwrap());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    for service in ["", "toy", "inference.GRPCInferenceService"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(asked).await.unwrap().into_inner().status;
        assert_eq!(status, i32::from(ServingStatus::Serving), "{service}");
    }
    let asked = HealthCheckRequest { service: "nix".to_owned() };
    assert_eq!(client.check(asked).await.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn reload_takes_over_without_losing_a_query() {
    let server = Server::start(TOY, "").await;
    let at = server.http();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut asked = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let reply = post(at, "/v2/models/toy/infer", ROW).await;
                assert_eq!(reply.code, 200, "{reply:?}");
                asked += 1;
            }
            asked
        }
    });
    for deadline in 2000..2010 {
        let model = TOY.replace("\"placement\"", &format!("\"deadline_ms\": {deadline}, \"placement\""));
        server.orders.send(Order::Reload(Box::new(config(&model, "")))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(asking.await.unwrap() > 0);
    let other = TOY.replace("\"toy\"", "\"other\"");
    server.orders.send(Order::Reload(Box::new(config(&other, "")))).await.unwrap();
    let gone = async || post(at, "/v2/models/toy/infer", ROW).await.code == 404;
    until("the end of the model", gone).await;
}

#[tokio::test]
async fn stop_answers_what_was_asked_and_ends() {
    let slow = TOY
        .replace("\"placement\"", r#""deadline_ms": 60000, "call_timeout_ms": 60000, "placement""#)
        .replace(r#"{"count": 3}"#, r#"{"behavior": {"service": {"distribution": "constant", "ms": 2000}}}"#);
    let server = Server::start(&slow, "").await;
    let at = server.http();
    let asked = tokio::spawn(async move { post(at, "/v2/models/toy/infer", ROW).await });
    let held = async || get(at, "/status.json").await.json()["models"][0]["held"] == 1;
    until("the query", held).await;
    assert!(server.stop().await, "it did not end in time");
    assert_eq!(asked.await.unwrap().code, 200);
    assert!(tokio::net::TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn metrics_have_tritons_names_and_ours() {
    let model = TOY.replace("\"placement\"", r#""redundancy": {"policy": "coded"}, "placement""#);
    let server = Server::start(&model, "").await;
    for _ in 0..4 {
        assert_eq!(post(server.http(), "/v2/models/toy/infer", ROW).await.code, 200);
    }
    let text = String::from_utf8(get(server.http(), "/metrics").await.body).unwrap();
    for line in [
        "nv_inference_request_success{model=\"toy\",version=\"1\"} 4",
        "nv_inference_count{model=\"toy\",version=\"1\"} 4",
        "parm_answers_total{model=\"toy\",version=\"1\",how=\"prediction\"} 4",
        "# TYPE parm_group_wait_seconds summary",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // Each line that is no comment is a name, labels and a number.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.ends_with('}') && value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why() {
    let model = r#"{"name": "toy", "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}],
        "instances": [{"synthetic": {}, "roles": ["deployed"]}]}"#;
    let text = format!(r#"{{"http": "127.0.0.1:0", "grpc": null, "models": [{model}]}}"#);
    let (_orders, told) = mpsc::channel(1);
    let running = Running::start(Config::parse(&text).unwrap(), Arc::new(NoModels)).await.unwrap();
    let at = running.addresses.http.unwrap();
    tokio::spawn(running.serve(told));
    // Synthetic instances have no strings: the model cannot be loaded, and says so.
    let failed = async || get(at, "/status.json").await.json()["models"][0]["state"] == "failed";
    until("the failure of the model", failed).await;
    let reply = post(at, "/v2/models/toy/infer", ROW).await;
    assert_eq!(
        (reply.code, reply.error().contains("synthetic instances need fixed shapes: datatype")),
        (503, true)
    );
}

#[tokio::test]
async fn with_a_certificate_all_addresses_speak_tls_alone() {
    use parm_config::Remote;
    use parm_oip::client;
    use parm_oip::instance::CallContext;
    let folder = std::env::temp_dir().join(format!("parm-server-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let more = format!(r#""tls": {{"certificate": {certificate:?}, "key": {key:?}}},"#);
    let running = Running::start(config(TOY, &more), Arc::new(NoModels)).await.unwrap();
    let at = running.addresses;
    let (_orders, told) = mpsc::channel(1);
    tokio::spawn(running.serve(told));
    for (scheme, address) in [("https", at.http.unwrap()), ("grpcs", at.grpc.unwrap())] {
        let url = format!("{scheme}://localhost:{}", address.port());
        let remote = Remote { url, ca: Some(certificate.clone()), ..Remote::default() };
        let instance = client::connect(&remote, address, 1 << 20).unwrap();
        until("readiness", async || instance.ready("toy", "").await.is_ok()).await;
        let data = common::bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let asked = parm_oip::grpc::read_request(request("a", 8)).unwrap();
        assert_eq!(asked.inputs[0].data.contiguous(), data);
        let answer = instance.infer(asked, CallContext::default()).await.unwrap();
        assert_eq!(common::floats(&answer.outputs[0].data.contiguous()), ANSWER.map(|value| value as f32));
        assert_ne!(get(address, "/v2").await.code, 200, "it also speaks without TLS");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let gone = Running::start(config(TOY, &more), Arc::new(NoModels)).await.err().unwrap();
    assert!(gone.to_string().contains("certificate.pem"), "{gone}");
}
