//! A server before real connections with faults: what instances over a network do to it.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::http::{get, post};
use common::server::Server;
use parm_testkit::Proxy;
use parm_workload::faults::{Behavior, Crash, Faults, Shared};

const MODEL: &str = r#"
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],"#;

fn behavior(json: &str) -> Behavior {
    serde_json::from_str(json).unwrap()
}

/// A server of sums, over HTTP and gRPC.
async fn backend() -> Server {
    let instance = r#"{"synthetic": {"behavior": {}}, "capacity": 16}"#;
    Server::start(
        &format!(r#"{{"name": "m", "placement": "pooled", {MODEL} "instances": [{instance}]}}"#),
        "",
    )
    .await
}

/// A server before these addresses, coded in pairs.
async fn front(schema: &str, addresses: impl Iterator<Item = SocketAddr>) -> Server {
    let remote =
        |at| format!(r#"{{"remote": {{"url": "{schema}://{at}", "encoding": "auto"}}, "capacity": 4}}"#);
    let instances: Vec<String> = addresses.map(remote).collect();
    let model = format!(
        r#"{{"name": "m", "placement": "pooled", "names": {{"parity": ["m"]}}, {MODEL}
            "redundancy": {{"policy": "coded", "code": {{"name": "sum", "k": 2}}, "agreement": null}},
            "answer": {{"when": "first"}}, "deadline_ms": 60000, "call_timeout_ms": 300, "attempts": 6,
            "instances": [{}]}}"#,
        instances.join(", ")
    );
    Server::start(&model, "").await
}

/// Asks for so long, eight at a time; all answers must be right.
async fn ask(server: &Server, seconds: u64) {
    let (at, begin) = (server.http(), Instant::now());
    let mut asking = tokio::task::JoinSet::new();
    for runtime in 0..8 {
        asking.spawn(async move {
            let mut rows = (0..17).cycle();
            while begin.elapsed() < Duration::from_secs(seconds)
                && let Some(row) = rows.next()
            {
                let x = f64::from(runtime * 31 + row);
                let body = format!(
                    r#"{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [{x}, 1, 2]}}]}}"#
                );
                let reply = post(at, "/v2/models/m/infer", &body).await;
                assert_eq!(reply.code, 200, "{}", String::from_utf8_lossy(&reply.body));
                let reply = reply.json();
                let values: Vec<f64> =
                    reply["outputs"][0]["data"].as_array().unwrap().iter().map(|y| y.as_f64().unwrap()).collect();
                assert_eq!(values, [x + 2.0, 1.0], "{reply}");
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

/// The sum of a metric over all labels that have this one.
async fn metric(server: &Server, name: &str, label: &str) -> f64 {
    let text = String::from_utf8(get(server.http(), "/metrics").await.body).unwrap();
    let of = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        labels.contains(label).then(|| value.parse::<f64>().unwrap())
    };
    text.lines().filter_map(of).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_lost_cut_and_crashed_answers_fail_no_query() {
    // What befalls a connection of HTTP/2 befalls all calls on it.
    for (schema, port, share) in [("http", 0, 0.02), ("grpc", 1, 0.002)] {
        let mut proxies = Vec::new();
        for instance in 0..4 {
            let backend = backend().await;
            let at = [backend.at.http, backend.at.grpc][port].unwrap();
            let mut faults = behavior(
                r#"{"service": {"distribution": "constant", "ms": 1},
                    "late": {"share": 0.05, "by_ms": 40}, "slow": {"share": 0.05, "length_ms": 100, "factor": 20}}"#,
            );
            (faults.errors, faults.hangs) = (share, share / 2.0);
            // One of them at a time: when all are down, nobody can answer.
            faults.crash = (instance == 0).then_some(Crash { every_ms: 300.0, down_ms: 150.0 });
            proxies.push((Proxy::start(at, faults, 11, instance, None), backend));
        }
        let front = front(schema, proxies.iter().map(|(proxy, _)| proxy.address)).await;
        ask(&front, 2).await;
        assert!(metric(&front, "parm_answers_total", "how=\"reconstructed\"").await > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_the_instances_that_go_down_as_one_fail_no_query() {
    let faults: Faults = serde_json::from_str(
        r#"{"seed": 5, "racks": {"count": 1, "crash": {"every_ms": 200, "down_ms": 100}}}"#,
    )
    .unwrap();
    let among = Arc::new(Mutex::new(Shared::new(&faults, 2).unwrap()));
    let mut proxies = Vec::new();
    for instance in 0..4 {
        let backend = backend().await;
        let behavior = behavior(r#"{"service": {"distribution": "constant", "ms": 1}}"#);
        let among = (instance < 2).then(|| Arc::clone(&among));
        proxies.push((Proxy::start(backend.http(), behavior, 11, instance, among), backend));
    }
    let front = front("http", proxies.iter().map(|(proxy, _)| proxy.address)).await;
    ask(&front, 2).await;
    assert!(metric(&front, "parm_instance_failed_total", "").await > 0.0);
}
