//! Bad rows, bad answers and refusals: who gets them, and who does not.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::http::{get, send};
use common::server::Server;
use common::wait::until;
use common::{Call, ask, asked, linear, model, puppet, respond, runtime, values};
use parm_engine::Roles;
use parm_oip::instance::CallError;
use parm_oip::{Error, Status};
use parm_serving::runtime::{How, Member, Runtime};
use tokio::sync::mpsc::UnboundedReceiver;

const CODED: &str = r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}},
    "answer": {"when": "first"}, "instances": []"#;

const BERRUT: &str = r#""redundancy": {"policy": "coded", "code": {"name": "berrut", "k": 2, "s": 1}},
    "answer": {"when": "first"}, "instances": []"#;

/// The rows that an instance was sent, call by call.
type Seen = Arc<Mutex<Vec<Vec<f32>>>>;

/// Ends all calls of an instance as a function says.
fn behave(
    mut calls: UnboundedReceiver<Call>,
    how: impl Fn(&[f32]) -> Result<(), CallError> + Send + 'static,
) -> Seen {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let firsts = call.firsts();
            log.lock().unwrap().push(firsts.clone());
            match how(&firsts) {
                Ok(()) => call.answer(linear),
                Err(error) => call.fail(error),
            }
        }
    });
    seen
}

fn refuses_large(rows: &[f32]) -> Result<(), CallError> {
    let bad = rows.iter().any(|row| row.abs() > 100.0);
    if bad { Err(CallError::Refused(Error::invalid("row out of range"))) } else { Ok(()) }
}

async fn settled(runtime: &Runtime) -> parm_serving::runtime::Snapshot {
    let is_over = async || runtime.snapshot().await.unwrap().members.iter().all(|member| member.running == 0);
    until("the end of all calls", is_over).await;
    runtime.snapshot().await.unwrap()
}

#[tokio::test]
async fn of_a_batch_only_the_request_whose_row_is_refused_gets_the_refusal() {
    let runtime = runtime(&model(r#""batch": {"max_size": 6, "delay_ms": 5}, "instances": []"#));
    for _ in 0..2 {
        behave(puppet(&runtime, Roles::DEPLOYED).await, refuses_large);
    }
    let answers: Vec<_> =
        [&[1.0, 2.0][..], &[3.0], &[1000.0, 4.0], &[5.0]].map(|rows| asked(&runtime, ask(rows))).into();
    for (answer, first) in answers.into_iter().zip([Some(1.0), Some(3.0), None, Some(5.0)]) {
        match (answer.await.unwrap(), first) {
            (Ok(answers), Some(first)) => assert_eq!(values(&answers[0]), [first, 2.0 * first]),
            (Err(error), None) => assert_eq!(error, Error::invalid("row out of range")),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn in_a_group_nobody_gets_the_refusal_of_another_one() {
    for redundancy in [CODED, BERRUT] {
        let runtime = runtime(&model(redundancy));
        for _ in 0..3 {
            behave(puppet(&runtime, Roles { parity: 1, ..Roles::DEPLOYED }).await, refuses_large);
        }
        let (mut refused, mut right) = (0, 0);
        for round in 0..20 {
            let bad = asked(&runtime, ask(&[1000.0 + round as f32]));
            let good = asked(&runtime, ask(&[1.0 + round as f32]));
            let answer = values(&good.await.unwrap().unwrap()[0]);
            assert!((answer[0] - 1.0 - round as f32).abs() < 0.01, "{redundancy}: {answer:?}");
            right += 1;
            refused +=
                usize::from(bad.await.unwrap().is_err_and(|error| error.status == Status::InvalidArgument));
        }
        assert_eq!((right, refused), (20, 20), "{redundancy}");
    }
}

#[tokio::test]
async fn an_instance_that_refuses_everything_costs_no_answer_and_its_place() {
    let runtime = runtime(&model(r#""instances": []"#));
    let refuses = |_: &[f32]| Err(CallError::Refused(Error::invalid("this instance is broken")));
    behave(puppet(&runtime, Roles::DEPLOYED).await, refuses);
    for _ in 0..2 {
        behave(puppet(&runtime, Roles::DEPLOYED).await, |_| Ok(()));
    }
    for row in 1..50 {
        let answers = runtime.ask(ask(&[row as f32])).await.unwrap();
        assert_eq!(values(&answers[0])[0], row as f32);
    }
    let members = settled(&runtime).await.members;
    assert!(members[0].refused >= 3 && members[0].refused < 20 && members[0].ejections > 0, "{members:?}");
    assert_eq!((members[1].ejections, members[2].ejections, members[0].failed), (0, 0, 0));
    assert!(members[0].last_failure.as_deref() == Some("this instance is broken"));
}

#[tokio::test]
async fn a_row_that_is_not_finite_is_answered_and_coded_with_no_other() {
    let runtime = runtime(&model(CODED));
    let mut deployed = Vec::new();
    for _ in 0..2 {
        deployed.push(behave(puppet(&runtime, Roles::DEPLOYED).await, |_| Ok(())));
    }
    let parity = behave(puppet(&runtime, Roles::parity(0)).await, |_| Ok(()));
    for round in 0..10 {
        for bad in [f32::NAN, f32::INFINITY] {
            let (bad, good) = (asked(&runtime, ask(&[bad])), asked(&runtime, ask(&[round as f32])));
            let good = good.await.unwrap().unwrap();
            assert_eq!(values(&good[0])[0], round as f32);
            let bad = bad.await.unwrap().unwrap();
            assert!(bad[0].how == How::Prediction && !values(&bad[0])[0].is_finite());
        }
    }
    settled(&runtime).await;
    let coded = parity.lock().unwrap();
    assert!(!coded.is_empty() && coded.iter().flatten().all(|row| row.is_finite()), "{coded:?}");
}

#[tokio::test]
async fn rows_that_are_not_finite_are_refused_where_that_is_configured() {
    let runtime = runtime(&model(r#""non_finite": "refuse", "instances": []"#));
    behave(puppet(&runtime, Roles::DEPLOYED).await, |_| Ok(()));
    runtime.ask(ask(&[1.0, 2.0])).await.unwrap();
    let error = runtime.ask(ask(&[1.0, f32::NAN])).await.unwrap_err();
    let expected = "found a value that is not finite in row 1 of input 'x', which this model refuses";
    assert_eq!(error, Error::invalid(expected));
}

#[tokio::test]
async fn a_prediction_that_is_not_finite_rebuilds_no_other() {
    let runtime = runtime(&model(CODED));
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[5.0])));
    let (here, missing) = (first.recv().await.unwrap(), second.recv().await.unwrap());
    let of_one = here.firsts() == [1.0];
    parity.recv().await.unwrap().answer(linear);
    here.answer(|_| vec![f32::NAN, 0.0]);
    let (bad, other) = if of_one { (one, two) } else { (two, one) };
    assert!(values(&bad.await.unwrap().unwrap()[0])[0].is_nan(), "it is the model's own");
    let expected = missing.firsts()[0];
    assert!(!other.is_finished());
    missing.answer(linear);
    let other = other.await.unwrap().unwrap();
    assert_eq!((values(&other[0])[0], other[0].how), (expected, How::Prediction));
}

#[tokio::test]
async fn a_parity_output_that_is_not_finite_rebuilds_nothing() {
    let runtime = runtime(&model(CODED));
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[1.0])));
    parity.recv().await.unwrap().answer(|_| vec![f32::INFINITY, 0.0]);
    first.recv().await.unwrap().answer(linear);
    second.recv().await.unwrap().answer(linear);
    for answer in [one, two] {
        let answers = answer.await.unwrap().unwrap();
        assert_eq!((values(&answers[0]), answers[0].how), (vec![1.0, 2.0], How::Prediction));
    }
    assert_eq!(settled(&runtime).await.counters.failures, 0);
}

#[tokio::test]
async fn an_output_that_is_not_rebuilt_may_be_what_it_likes() {
    let text = CODED.replace("\"k\": 2}", "\"k\": 2}, \"outputs\": [\"y\"]");
    let mut model = model(&text);
    model.outputs.push(parm_config::TensorSpec { name: "mask".to_owned(), ..model.outputs[0].clone() });
    let runtime = runtime(&model);
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[1.0])));
    let answer = |call: Call| {
        let mut response = respond(&call.request, linear);
        let mut mask = respond(&call.request, |_| vec![f32::NEG_INFINITY; 2]).outputs.remove(0);
        "mask".clone_into(&mut mask.name);
        response.outputs.push(mask);
        call.end.send(Ok(response)).unwrap();
    };
    answer(first.recv().await.unwrap());
    answer(parity.recv().await.unwrap());
    let _missing = second.recv().await.unwrap();
    let mut hows = [one.await.unwrap().unwrap()[0].how, two.await.unwrap().unwrap()[0].how];
    hows.sort_by_key(|how| *how != How::Prediction);
    assert!(matches!(hows, [How::Prediction, How::Reconstructed { .. }]), "{hows:?}");
}

#[tokio::test]
async fn a_reconstruction_that_is_not_finite_waits_for_the_prediction_or_says_why_there_is_none() {
    for comes in [true, false] {
        let runtime = runtime(&model(&format!(r#""attempts": 1, {CODED}"#)));
        let mut first = puppet(&runtime, Roles::DEPLOYED).await;
        let mut second = puppet(&runtime, Roles::DEPLOYED).await;
        let mut parity = puppet(&runtime, Roles::parity(0)).await;
        let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[1.0])));
        // All are finite; their difference is not.
        parity.recv().await.unwrap().answer(|_| vec![-3e38, 0.0]);
        first.recv().await.unwrap().answer(|_| vec![3e38, 0.0]);
        let missing = second.recv().await.unwrap();
        if comes {
            missing.answer(linear);
        } else {
            missing.fail(CallError::Unreachable("gone".to_owned()));
        }
        let answers = [one.await.unwrap(), two.await.unwrap()];
        assert!(answers.iter().flatten().all(|answers| answers[0].how == How::Prediction));
        let errors: Vec<String> =
            answers.into_iter().filter_map(|answer| Some(answer.err()?.message)).collect();
        if comes {
            assert_eq!(errors.len(), 0);
        } else {
            assert!(errors.len() == 1 && errors[0].starts_with("no instance gave an answer: "), "{errors:?}");
        }
        assert_eq!(settled(&runtime).await.counters.undecodable, 1);
    }
}

#[tokio::test]
async fn rows_of_a_very_different_scale_are_not_coded_where_the_code_interpolates() {
    let runtime = runtime(&model(BERRUT));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(behave(puppet(&runtime, Roles::DEPLOYED).await, |_| Ok(())));
    }
    for round in 0..30 {
        let wild = (round > 3).then(|| asked(&runtime, ask(&[1e6])));
        let (one, two) = (asked(&runtime, ask(&[2.0])), asked(&runtime, ask(&[2.0])));
        for answer in [one, two] {
            let answer = values(&answer.await.unwrap().unwrap()[0]);
            assert!((answer[0] - 2.0).abs() < 1e-3, "{answer:?}");
        }
        if let Some(wild) = wild {
            assert_eq!(values(&wild.await.unwrap().unwrap()[0])[0], 1e6);
        }
    }
}

#[tokio::test]
async fn the_confidence_says_when_a_row_is_small_beside_others_of_its_group() {
    let confidence = async |other: f32| {
        let runtime = runtime(&model(&BERRUT.replace("\"s\": 1}", "\"s\": 1}, \"max_scale\": null")));
        for _ in 0..3 {
            behave(puppet(&runtime, Roles::DEPLOYED).await, |_| Ok(()));
        }
        let (small, large) = (asked(&runtime, ask(&[50.0])), asked(&runtime, ask(&[other])));
        large.await.unwrap().unwrap();
        match small.await.unwrap().unwrap()[0].how {
            How::Reconstructed { confidence } => confidence,
            other => panic!("{other:?}"),
        }
    };
    let (alike, wild) = (confidence(100.0).await, confidence(1e8).await);
    assert!(alike > 0.5 && wild < 1e-4, "{alike} {wild}");
}

#[tokio::test]
async fn batches_are_as_large_as_all_instances_take_them() {
    let runtime = runtime(&model(r#""batch": {"max_size": 8, "delay_ms": 2}, "instances": []"#));
    let (puppet, calls, _) = common::Puppet::new();
    let member = Member {
        instance: Arc::new(puppet),
        name: String::new(),
        roles: Roles::DEPLOYED,
        capacity: 8,
        parity_input: None,
        most_rows: Some(3),
        cancel_running: None,
        suspected: Arc::default(),
    };
    runtime.join(member).await.unwrap();
    let seen = behave(calls, |_| Ok(()));
    assert_eq!(runtime.ask(ask(&[1.0; 8])).await.unwrap().len(), 8);
    let sizes: Vec<usize> = seen.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 3, 2]);
}

#[tokio::test]
async fn a_drain_waits_for_answers_and_not_for_instances_that_say_nothing() {
    let runtime = runtime(&model(&format!(r#""call_timeout_ms": 600000, "deadline_ms": 600000, {CODED}"#)));
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[5.0])));
    first.recv().await.unwrap().answer(linear);
    parity.recv().await.unwrap().answer(linear);
    let _silent = second.recv().await.unwrap();
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(20), runtime.drain()).await.expect("it waits for the instance");
}

#[tokio::test]
async fn a_call_that_got_the_answer_of_another_one_is_made_elsewhere() {
    let runtime = runtime(&model(r#""instances": []"#));
    let confused = |_: &[f32]| Err(CallError::Mismatched("the id of another call".to_owned()));
    behave(puppet(&runtime, Roles::DEPLOYED).await, confused);
    behave(puppet(&runtime, Roles::DEPLOYED).await, |_| Ok(()));
    for row in 0..20 {
        assert_eq!(values(&runtime.ask(ask(&[row as f32])).await.unwrap()[0])[0], row as f32);
    }
    let members = settled(&runtime).await.members;
    assert!(members[0].failed > 0 && members[1].failed == 0);
}

/// An instance over HTTP: the heads of the requests that it got, and what it answers to inference.
fn instance(
    answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    seen.lock().unwrap().push(head.clone());
                    let reply = if head.contains("/config ") {
                        r#"{"max_batch_size": 2}"#.to_owned()
                    } else if head.contains("/infer ") {
                        match answer(&String::from_utf8_lossy(&body)) {
                            Some(reply) => reply,
                            // It closes, and may have worked.
                            None => return,
                        }
                    } else {
                        "{}".to_owned()
                    };
                    let length = reply.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    if (&stream).write_all((head + &reply).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, heads)
}

/// The answer to any number of rows: y is 1.5 in each.
fn ones(body: &str) -> String {
    let request: serde_json::Value = serde_json::from_str(body).unwrap();
    let rows = request["inputs"][0]["shape"][0].as_u64().unwrap() as usize;
    let output =
        serde_json::json!({"name": "y", "datatype": "FP32", "shape": [rows, 1], "data": vec![1.5; rows]});
    serde_json::json!({"model_name": "m", "id": request["id"], "outputs": [output]}).to_string()
}

async fn before(address: SocketAddr, more: &str) -> Server {
    let model = format!(
        r#"{{"name": "m", "batch": {{"max_size": 8, "delay_ms": 2}},
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [1]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1]}}],
            "instances": [{{"remote": {{"url": "http://{address}", "encoding": "json"}}, "roles": ["deployed"]}}]}}"#
    );
    Server::start(&model, more).await
}

const ROWS: &str =
    r#"{"inputs": [{"name": "x", "shape": [5, 1], "datatype": "FP32", "data": [1, 2, 3, 4, 5]}]PARAMETERS}"#;

async fn infer(server: &Server, headers: &[(&str, &str)], parameters: &str) -> common::http::Reply {
    let body = ROWS.replace("PARAMETERS", parameters);
    send(server.http(), "POST", "/v2/models/m/infer", headers, body.as_bytes()).await
}

#[tokio::test]
async fn headers_that_are_passed_on_are_limited_and_those_that_are_not_are_counted() {
    let (address, heads) = instance(|body| Some(ones(body)));
    let long = "x".repeat(20_000);
    let server = before(address, "").await;
    let headers =
        [("x-request-id", &*long), ("traceparent", "00-1"), ("tracestate", "a=b"), ("x-other", "1")];
    let reply = infer(&server, &headers, "").await;
    assert_eq!(reply.code, 200, "{reply:?}");
    let head = heads.lock().unwrap().iter().rfind(|head| head.contains("/infer ")).unwrap().clone();
    assert!(head.contains("traceparent: 00-1\r\n") && head.contains("tracestate: a=b\r\n"), "{head}");
    assert!(!head.contains("x-request-id") && !head.contains("x-other"), "{head}");
    let metrics = String::from_utf8(get(server.http(), "/metrics").await.body).unwrap();
    assert!(metrics.contains("parm_dropped_headers_total{} 1\n"), "{metrics}");
    server.stop().await;

    let limits =
        r#""limits": {"passed_headers": {"names": ["x-other", "x-second"], "count": 1, "bytes": 30000}},"#;
    let server = before(address, limits).await;
    let headers = [("x-second", "2"), ("x-other", &*long), ("traceparent", "00-1")];
    assert_eq!(infer(&server, &headers, "").await.code, 200);
    let head = heads.lock().unwrap().iter().rfind(|head| head.contains("/infer ")).unwrap().clone();
    assert!(head.contains(&format!("x-other: {long}\r\n")), "{head}");
    assert!(!head.contains("x-second") && !head.contains("traceparent"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn the_batch_limit_of_a_backend_is_read_and_kept() {
    let (address, heads) = instance(|body| {
        assert!(body.contains(r#""shape":[2,1]"#) || body.contains(r#""shape":[1,1]"#), "{body}");
        Some(ones(body))
    });
    let server = before(address, "").await;
    let reply = infer(&server, &[], "").await;
    assert_eq!(reply.json()["outputs"][0]["data"], serde_json::json!([1.5, 1.5, 1.5, 1.5, 1.5]), "{reply:?}");
    assert!(heads.lock().unwrap().iter().any(|head| head.starts_with("GET /v2/models/m/config ")));
    server.stop().await;
}

#[tokio::test]
async fn a_step_of_a_sequence_that_may_have_run_is_not_sent_again() {
    let calls = Mutex::new(0);
    // The third request closes the connection that was kept.
    let (address, heads) = instance(move |body| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls == 3 { None } else { Some(ones(body)) }
    });
    let server = before(address, "").await;
    let codes =
        async |server: &Server| infer(server, &[], r#", "parameters": {"sequence_id": 7}"#).await.code;
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(codes(&server).await);
    }
    assert_eq!(found, [200, 200, 503, 200]);
    let steps = heads.lock().unwrap().iter().filter(|head| head.contains("/infer ")).count();
    assert_eq!(steps, 4, "one for each step");
    server.stop().await;
}

#[tokio::test]
async fn a_request_without_a_sequence_is_tried_again_as_an_attempt() {
    let calls = Mutex::new(0);
    let (address, _) = instance(move |body| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls % 5 == 0 { None } else { Some(ones(body)) }
    });
    let server = before(address, "").await;
    for _ in 0..5 {
        let reply = infer(&server, &[], "").await;
        assert_eq!(reply.code, 200, "{reply:?}");
    }
    let metrics = String::from_utf8(get(server.http(), "/metrics").await.body).unwrap();
    let failed = metrics.lines().find(|line| line.starts_with("parm_instance_failed_total")).unwrap();
    assert!(!failed.ends_with(" 0"), "{failed}");
    server.stop().await;
}

#[tokio::test]
async fn answers_of_other_calls_are_counted_and_whether_ids_come_back_is_said() {
    let calls = Mutex::new(0);
    let (address, _) = instance(move |body| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        let answer = ones(body);
        // The id of a call of before.
        Some(if *calls == 4 { answer.replace("\"id\":\"parm-", "\"id\":\"parm-0") } else { answer })
    });
    let server = before(address, "").await;
    for _ in 0..3 {
        assert_eq!(infer(&server, &[], "").await.code, 200);
    }
    let metrics = String::from_utf8(get(server.http(), "/metrics").await.body).unwrap();
    let counted = metrics.lines().find(|line| line.starts_with("parm_mismatched_answers_total")).unwrap();
    assert!(counted.ends_with(" 1"), "{counted}");
    let status = get(server.http(), "/status.json").await.json();
    let instance = &status["models"][0]["instances"][0];
    assert_eq!((&instance["echoes_ids"], &instance["mismatched"]), (&true.into(), &1.into()), "{instance}");
    server.stop().await;
}
