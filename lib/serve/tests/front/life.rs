//! How models come and go, and how the server stops.

use std::sync::Arc;
use std::time::Duration;

use parm_serving::NoModels;
use parm_serving::server::{Order, Running};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use crate::backend::{Backend, model, rows};
use crate::common::http::{get, post};
use crate::common::server::{Server, config};
use crate::common::wait::{soon, until};

/// Much later than that.
const DRAIN: &str = r#""drain_ms": 600000,"#;

const INFER: &str = "/v2/models/m/infer";

/// Waits until a model of a server is in a state.
async fn state(server: &Server, name: &str, state: &str) {
    until(state, async || {
        let status = get(server.http(), "/status.json").await.json();
        let models = status["models"].as_array().unwrap();
        models.iter().any(|model| model["name"] == name && model["state"] == state)
    })
    .await;
}

#[tokio::test]
async fn stop_ends_as_soon_as_all_is_answered_also_where_known_queries_complete_groups() {
    let backend = Backend::start(Duration::from_secs(2)).await;
    for complete in [true, false] {
        let coded = format!(
            r#""deadline_ms": 60000, "call_timeout_ms": 60000,
                "redundancy": {{"policy": "coded", "complete": {complete}}},"#
        );
        let server = Server::start(&model(&[&backend], &coded), DRAIN).await;
        let at = server.http();
        let asked: Vec<_> = (0..3)
            .map(|row| tokio::spawn(async move { post(at, INFER, &rows(&[[row, 1]], "")).await }))
            .collect();
        let held = async || get(at, "/status.json").await.json()["models"][0]["held"].as_u64();
        until("three queries", async || held().await >= Some(3)).await;
        assert!(soon("the end of the server", server.stop()).await, "it did not end in time");
        for (row, asked) in asked.into_iter().enumerate() {
            assert_eq!(asked.await.unwrap().json()["outputs"][0]["data"], json!([row as f64 + 10.0]));
        }
    }
}

#[tokio::test]
async fn stop_ends_streams_and_silent_connections() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), DRAIN).await;
    let mut client = server.grpc().await;
    let (sends, requests) = mpsc::channel(1);
    let asked = parm_oip::proto::ModelInferRequest {
        id: "a".to_owned(),
        model_name: "m".to_owned(),
        inputs: vec![parm_oip::proto::model_infer_request::InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 2],
            ..Default::default()
        }],
        raw_input_contents: vec![crate::common::bytes(&[1.0, 2.0])],
        ..Default::default()
    };
    sends.send(asked).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().infer_response.unwrap();
    assert_eq!(answer.id, "a");
    // Clients wait for it to know that a request is over.
    assert!(answer.parameters.contains_key("triton_final_response"), "{answer:?}");
    let address = format!("http://{}", server.at.grpc.unwrap());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let watched = HealthCheckRequest { service: String::new() };
    let mut health = HealthClient::new(channel).watch(watched).await.unwrap().into_inner();
    assert_eq!(health.next().await.unwrap().unwrap().status, 1);
    let mut silent = Vec::new();
    for beginning in [&b""[..], b"PRI * ", b"GET /v2 HTTP/1.1\r\n"] {
        let mut stream = tokio::net::TcpStream::connect(server.http()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, beginning).await.unwrap();
        silent.push(stream);
    }
    get(server.http(), "/v2").await;
    assert!(soon("the end of the server", server.stop()).await, "it did not end in time");
    assert_eq!(health.next().await.unwrap().unwrap().status, 2);
    assert!(health.next().await.is_none_or(|end| end.is_err()));
    assert!(answers.next().await.is_none_or(|end| end.is_err()));
    drop(sends);
}

/// A configuration of two models, of which only one can get ready.
fn half(backend: &Backend, deadline: u32) -> String {
    let good = model(&[backend], &format!(r#""deadline_ms": {deadline},"#)).replace(r#""m""#, r#""good""#);
    let bad = model(&[backend], &format!(r#""deadline_ms": {deadline},"#));
    let nowhere = format!("http://{}", backend.at);
    format!("{}, {good}", bad.replace(&nowhere, "http://127.0.0.1:9"))
}

#[tokio::test]
async fn a_changed_model_that_gets_not_ready_delays_neither_the_others_nor_the_stop() {
    let backend = Backend::start(Duration::ZERO).await;
    let both =
        format!("{}, {}", model(&[&backend], ""), model(&[&backend], "").replace(r#""m""#, r#""good""#));
    let server = Server::start(&both, DRAIN).await;
    let good = async || post(server.http(), "/v2/models/good/infer", &rows(&[[1, 2]], "")).await.code;
    for round in 0..2 {
        let slow = Backend::start(Duration::from_mins(1)).await;
        let changed = half(&backend, 300 + round);
        let changed = changed.replace(&format!("http://{}", backend.at), &format!("http://{}", slow.at));
        server.orders.send(Order::Reload(Box::new(config(&changed, "")))).await.unwrap();
        // The good one has a new instance, which does not answer in time; the other one is still the old one.
        until("the new instance", async || good().await == 504).await;
        assert_eq!(post(server.http(), INFER, &rows(&[[1, 2]], "")).await.code, 200);
        // What was there before takes over again.
        server.orders.send(Order::Reload(Box::new(config(&both, "")))).await.unwrap();
        until("the old instance", async || good().await == 200).await;
    }
    let changed = half(&backend, 400);
    server.orders.send(Order::Reload(Box::new(config(&changed, "")))).await.unwrap();
    assert!(soon("the end of the server", server.stop()).await);
}

#[tokio::test]
async fn a_configuration_that_was_replaced_does_not_take_over_when_it_gets_ready() {
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), "").await;
    // Nobody listens there yet.
    let mut later = Backend::start(Duration::ZERO).await;
    let at = later.at;
    later.kill();
    let changed = model(&[&later], "");
    server.orders.send(Order::Reload(Box::new(config(&changed, "")))).await.unwrap();
    server.orders.send(Order::Reload(Box::new(config(&model(&[&backend], ""), "")))).await.unwrap();
    let later = Backend::back(at).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..5 {
        assert_eq!(post(server.http(), INFER, &rows(&[[1, 2]], "")).await.code, 200);
    }
    assert!(later.asked().is_empty());
}

#[tokio::test]
async fn a_load_that_is_not_answered_leaves_nothing_when_the_model_is_unloaded() {
    // A server that names no inputs, and counts how often it is asked.
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let router = axum::Router::new().fallback(move || {
        counts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async { "{}" }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let silent = format!(
        r#"{{"name": "m", "load": false, "instances": [{{"remote": {{"url": "http://{at}"}}, "roles": ["deployed"]}}]}}"#
    );
    let server = Server::start(&silent, r#""management": "open","#).await;
    let http = server.http();
    for _ in 0..3 {
        // Nobody waits for them.
        let loads: Vec<_> = (0..5)
            .map(|_| tokio::spawn(async move { post(http, "/v2/repository/models/m/load", "").await }))
            .collect();
        state(&server, "m", "loading").await;
        until("the reason", async || {
            let status = get(http, "/status.json").await.json();
            status["models"][0]["reason"].as_str().is_some_and(|why| why.contains("names no inputs"))
        })
        .await;
        loads.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(post(http, "/v2/repository/models/m/unload", "").await.code, 200);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = asked.load(std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), before);
    assert_eq!(get(http, "/v2/health/ready").await.code, 200);
}

#[tokio::test]
async fn a_server_whose_instances_are_all_dead_is_not_ready_until_one_is_back() {
    let mut backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), "").await;
    assert_eq!(get(server.http(), "/v2/models/m/ready").await.code, 200);
    let at = backend.at;
    backend.kill();
    until("the end of readiness", async || {
        assert_ne!(post(server.http(), INFER, &rows(&[[1, 2]], "")).await.code, 200);
        get(server.http(), "/v2/health/ready").await.code != 200
    })
    .await;
    let reply = get(server.http(), "/v2/models/m/ready").await;
    assert_eq!((reply.code, reply.error().contains("no instance answers")), (503, true), "{reply:?}");
    let _back = Backend::back(at).await;
    server.ready().await;
    until("an answer", async || post(server.http(), INFER, &rows(&[[1, 2]], "")).await.code == 200).await;
}

#[tokio::test]
async fn new_sequences_go_to_instances_that_are_alive() {
    let alive = Backend::start(Duration::ZERO).await;
    let mut dead = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&alive, &dead], ""), "").await;
    let instances = async || {
        let status = get(server.http(), "/status.json").await.json();
        status["models"][0]["instances"].as_array().map_or(0, Vec::len)
    };
    until("two instances", async || instances().await == 2).await;
    let step = async |id: u32, more: &str| {
        let parameters = format!(r#""parameters": {{"sequence_id": {id}{more}}},"#);
        post(server.http(), INFER, &rows(&[[1, 2]], &parameters)).await.code
    };
    let mut id = 1;
    until("a sequence on each instance", async || {
        assert_eq!(step(id, r#", "sequence_start": true"#).await, 200);
        id += 1;
        !dead.asked().is_empty() && !alive.asked().is_empty()
    })
    .await;
    dead.kill();
    // Those that are there find it out.
    let mut known = 0;
    until("a step that fails", async || {
        known += 1;
        step(known % id, "").await != 200
    })
    .await;
    // Once the instance was asked whether it is alive, and did not answer.
    let mut new = 1000;
    until("20 new sequences in a row that none fails", async || {
        for _ in 0..20 {
            new += 1;
            if step(new, r#", "sequence_start": true"#).await != 200 {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test]
async fn why_a_model_is_not_loaded_is_told() {
    let redirect = answering(http::StatusCode::FOUND, "").await;
    let nameless = answering(http::StatusCode::OK, r#"{"inputs": [], "outputs": []}"#).await;
    let url = |at: std::net::SocketAddr| format!(r#""url": "http://{at}""#);
    let tensors = r#""inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],"#;
    for (remote, more, expected) in [
        (r#""url": "http://127.0.0.1:9""#, "", "cannot be reached"),
        (r#""url": "https://127.0.0.1:9", "ca": "/nowhere/ca.pem""#, "", "/nowhere/ca.pem"),
        (r#""url": "http://nowhere.invalid""#, "", "nowhere.invalid"),
        (&url(redirect), "", "found status 302"),
        (&url(nameless), "", "names no inputs"),
        // Of a model whose tensors are configured nothing is asked, and instances are waited for.
        (r#""url": "http://127.0.0.1:9""#, tensors, "no instance has joined yet: http://127.0.0.1:9 at"),
        (r#""url": "http://nowhere.invalid""#, tensors, "nowhere.invalid"),
        (&url(redirect), tensors, "found status 302"),
    ] {
        let instances = format!(r#"[{{"remote": {{{remote}}}, "roles": ["deployed"]}}]"#);
        let text = format!(r#"{{"name": "m", {more} "instances": {instances}}}"#);
        let (_orders, told) = mpsc::channel(1);
        let running = Running::start(config(&text, ""), Arc::new(NoModels)).await.unwrap();
        let at = running.addresses.http.unwrap();
        tokio::spawn(running.serve(told));
        until(expected, async || {
            let reply = post(at, INFER, &rows(&[[1, 2]], "")).await;
            assert_eq!(reply.code, 503);
            reply.error().contains(expected)
        })
        .await;
        let ready = get(at, "/v2/models/m/ready").await;
        assert!(ready.code == 503 && ready.error().contains(expected), "{ready:?}");
        let status = get(at, "/status.json").await.json();
        let reason = status["models"][0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(expected), "{reason}");
    }
}

/// A server with one answer to everything.
async fn answering(status: http::StatusCode, body: &'static str) -> std::net::SocketAddr {
    let answer = move || async move { (status, [("location", "http://elsewhere/")], body) };
    let router = axum::Router::new().fallback(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    at
}

/// It may be overloaded, or others may answer in its place: only who asks for readiness is told.
#[tokio::test]
async fn a_server_that_is_not_ready_goes_on_to_answer() {
    let backend = Backend::start(Duration::ZERO).await;
    let server = Server::start(&model(&[&backend], ""), "").await;
    backend.ready.store(false, std::sync::atomic::Ordering::Relaxed);
    // Nothing fails: it is asked every few seconds.
    let not_ready = async || get(server.http(), "/v2/health/ready").await.code != 200;
    until("the end of readiness", not_ready).await;
    assert_eq!(post(server.http(), INFER, &rows(&[[1, 2]], "")).await.code, 200);
    backend.ready.store(true, std::sync::atomic::Ordering::Relaxed);
    server.ready().await;
}
