//! Runtimes: what becomes of a request, with instances that do as a test says.

mod common;

use std::time::Duration;

use common::wait::{soon, until};
use common::{ask, asked, linear, model, puppet, runtime, values};
use parm_engine::Roles;
use parm_oip::instance::CallError;
use parm_oip::{Error, Status};
use parm_serving::runtime::How;

const CODED: &str = r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}},
    "answer": {"when": "first"}, "instances": []"#;

#[tokio::test]
async fn predictions_come_back_in_the_order_of_the_rows() {
    let runtime = runtime(&model(r#""batch": {"max_size": 2, "delay_ms": 1}, "instances": []"#));
    let mut calls = puppet(&runtime, Roles::DEPLOYED).await;
    let mut others = puppet(&runtime, Roles::DEPLOYED).await;
    let answer = asked(&runtime, ask(&[1.0, 2.0, 3.0]));
    let (first, second) = (calls.recv().await.unwrap(), others.recv().await.unwrap());
    assert_eq!((first.firsts(), second.firsts()), (vec![1.0, 2.0], vec![3.0]));
    assert_eq!(first.request.inputs[0].shape, [2, 3]);
    second.answer(linear);
    first.answer(linear);
    let answers = answer.await.unwrap().unwrap();
    let found: Vec<Vec<f32>> = answers.iter().map(values).collect();
    assert_eq!(found, [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]);
    assert!(answers.iter().all(|answer| answer.how == How::Prediction));
}

#[tokio::test]
async fn the_parity_query_is_the_sum_and_rebuilds_what_is_missing() {
    let runtime = runtime(&model(CODED));
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[5.0])));
    let (held, lost) = (first.recv().await.unwrap(), second.recv().await.unwrap());
    let coded = parity.recv().await.unwrap();
    assert_eq!((coded.firsts(), coded.request.model.as_str()), (vec![6.0], "m-parity-0"));
    let here = held.firsts()[0];
    held.answer(linear);
    coded.answer(linear);
    let (one, two) = (one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
    let (own, rebuilt) = if here == 1.0 { (&one[0], &two[0]) } else { (&two[0], &one[0]) };
    assert_eq!((own.how, values(own)), (How::Prediction, vec![here, 2.0 * here]));
    assert_eq!(values(rebuilt), vec![6.0 - here, 12.0 - 2.0 * here]);
    assert!(matches!(rebuilt.how, How::Reconstructed { confidence } if confidence > 0.0), "{rebuilt:?}");
    // The real answer comes late, and is compared.
    lost.answer(linear);
    until("a comparison", async || runtime.snapshot().await.unwrap().counters.agreed > 0).await;
    let counters = runtime.snapshot().await.unwrap().counters;
    assert_eq!((counters.reconstructed, counters.late_after_reconstruction), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_query_that_coding_rebuilds_is_not_hedged() {
    let hedge = r#""hedge": {"after": {"ms": 50}, "burst": 10}}, "answer""#;
    let runtime = runtime(&model(&CODED.replace("},\n    \"answer\"", &format!(", {hedge}"))));
    let mut slow = puppet(&runtime, Roles::DEPLOYED).await;
    let mut quick = puppet(&runtime, Roles::DEPLOYED).await;
    let mut spare = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let one = asked(&runtime, ask(&[1.0]));
    let _lost = slow.recv().await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let two = asked(&runtime, ask(&[5.0]));
    quick.recv().await.unwrap().answer(linear);
    // The first query is late now, and its parity query is not.
    tokio::time::sleep(Duration::from_millis(30)).await;
    parity.recv().await.unwrap().answer(linear);
    let answers = [one.await.unwrap().unwrap(), two.await.unwrap().unwrap()];
    let rebuilt = answers.iter().filter(|rows| matches!(rows[0].how, How::Reconstructed { .. })).count();
    assert_eq!(rebuilt, 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(spare.try_recv().is_err(), "it was hedged");
    assert_eq!(runtime.snapshot().await.unwrap().counters.hedges, 0);
    // What coding cannot rebuild is hedged.
    let _lost = asked(&runtime, ask(&[9.0]));
    assert_eq!(soon("a hedge", spare.recv()).await.unwrap().firsts(), [9.0]);
}

#[tokio::test]
async fn coded_queries_of_berrut_are_answered_by_decoding_alone() {
    let runtime = runtime(&model(
        r#""redundancy": {"policy": "coded", "code": {"name": "berrut", "k": 2, "s": 1}},
           "answer": {"when": "first"}, "instances": []"#,
    ));
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(puppet(&runtime, Roles::DEPLOYED).await);
    }
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[1.0])));
    // All queries are alike, so that all coded ones are, too, and interpolation is exact.
    for calls in &mut calls {
        calls.recv().await.unwrap().answer(linear);
    }
    for answer in [one, two] {
        let answers = answer.await.unwrap().unwrap();
        let [a, b] = values(&answers[0])[..] else { panic!("{answers:?}") };
        assert!((a - 1.0).abs() < 1e-5 && (b - 2.0).abs() < 1e-5, "{a} {b}");
    }
}

#[tokio::test]
async fn a_failed_call_is_sent_to_another_instance() {
    let runtime = runtime(&model(r#""instances": []"#));
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let answer = asked(&runtime, ask(&[1.0]));
    first.recv().await.unwrap().fail(CallError::Unreachable("connection refused".to_owned()));
    second.recv().await.unwrap().answer(linear);
    assert_eq!(values(&answer.await.unwrap().unwrap()[0]), [1.0, 2.0]);
    let members = runtime.snapshot().await.unwrap().members;
    assert_eq!(members[0].last_failure.as_deref(), Some("connection refused"));
    assert_eq!((members[0].failed, members[1].answered), (1, 1));
}

#[tokio::test]
async fn what_all_instances_fail_is_503_with_the_last_failure() {
    let runtime = runtime(&model(r#""attempts": 1, "instances": []"#));
    let mut calls = puppet(&runtime, Roles::DEPLOYED).await;
    let answer = asked(&runtime, ask(&[1.0]));
    calls.recv().await.unwrap().fail(CallError::Unreachable("connection refused".to_owned()));
    let error = answer.await.unwrap().unwrap_err();
    assert_eq!(error.status, Status::Unavailable);
    assert_eq!(error.message, "no instance gave an answer: connection refused");
}

#[tokio::test]
async fn what_an_instance_refuses_is_refused_and_not_sent_again() {
    let runtime = runtime(&model(r#""instances": []"#));
    let mut calls = puppet(&runtime, Roles::DEPLOYED).await;
    let answer = asked(&runtime, ask(&[1.0]));
    calls.recv().await.unwrap().fail(CallError::Refused(Error::invalid("no such output")));
    assert_eq!(answer.await.unwrap().unwrap_err(), Error::invalid("no such output"));
    assert_eq!(runtime.snapshot().await.unwrap().counters.retries, 0);
}

#[tokio::test]
async fn the_deadline_passes_504_or_zeros_as_configured() {
    let strict = runtime(&model(r#""deadline_ms": 20, "instances": []"#));
    let _calls = puppet(&strict, Roles::DEPLOYED).await;
    let error = strict.ask(ask(&[1.0])).await.unwrap_err();
    assert_eq!(
        (error.status, error.message.as_str()),
        (Status::DeadlineExceeded, "the deadline passed without an answer")
    );
    let lenient = runtime(&model(r#""deadline_ms": 20, "fallback": "zeros", "instances": []"#));
    let _calls = puppet(&lenient, Roles::DEPLOYED).await;
    let answers = lenient.ask(ask(&[1.0])).await.unwrap();
    assert_eq!(values(&answers[0]), [0.0, 0.0]);
    assert_eq!(answers[0].how, How::Default(parm_engine::Reason::Deadline));
}

#[tokio::test]
async fn an_answer_of_another_shape_is_a_failure_of_the_instance() {
    let runtime = runtime(&model(r#""attempts": 1, "instances": []"#));
    let mut calls = puppet(&runtime, Roles::DEPLOYED).await;
    let answer = asked(&runtime, ask(&[1.0]));
    calls.recv().await.unwrap().answer(<[f32]>::to_vec);
    let error = answer.await.unwrap().unwrap_err();
    assert!(error.message.contains("found output 'y' of FP32 [1, 3] in 12 bytes"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_dropped_is_given_up_and_held_no_longer() {
    let runtime = runtime(&model(r#""instances": []"#));
    let answer = asked(&runtime, ask(&[1.0, 2.0]));
    let held = async || runtime.snapshot().await.unwrap().held.queries;
    until("two queries", async || held().await == 2).await;
    answer.abort();
    until("the end of the queries", async || held().await == 0).await;
    assert_eq!(runtime.snapshot().await.unwrap().counters.cancelled, 2);
}

#[tokio::test]
async fn drain_sends_what_fills_and_waits_for_its_answers() {
    let runtime = runtime(&model(r#""batch": {"max_size": 8, "delay_ms": 1000}, "instances": []"#));
    let mut calls = puppet(&runtime, Roles::DEPLOYED).await;
    let answer = asked(&runtime, ask(&[1.0]));
    until("the query", async || runtime.snapshot().await.unwrap().held.queries == 1).await;
    let drained = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.drain().await }
    });
    calls.recv().await.unwrap().answer(linear);
    answer.await.unwrap().unwrap();
    drained.await.unwrap();
}

#[tokio::test]
async fn calls_that_nobody_needs_are_dropped_where_that_is_configured() {
    let runtime = runtime(&model(&format!(r#""cancel_running": true, {CODED}"#)));
    let mut first = puppet(&runtime, Roles::DEPLOYED).await;
    let mut second = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, ask(&[1.0])), asked(&runtime, ask(&[5.0])));
    let mut lost = first.recv().await.unwrap();
    second.recv().await.unwrap().answer(linear);
    parity.recv().await.unwrap().answer(linear);
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    lost.end.closed().await;
    assert_eq!(runtime.snapshot().await.unwrap().members[0].failed, 0);
}

#[tokio::test]
async fn a_runtime_that_nobody_asks_any_more_ends() {
    let runtime = runtime(&model(r#""instances": []"#));
    let (puppet, mut calls, _) = common::Puppet::new();
    let member = parm_serving::runtime::Member {
        instance: std::sync::Arc::new(puppet),
        name: String::new(),
        roles: Roles::DEPLOYED,
        capacity: 1,
        parity_input: None,
        most_rows: None,
        cancel_running: None,
        suspected: std::sync::Arc::default(),
    };
    runtime.join(member).await.unwrap();
    drop(runtime);
    assert!(calls.recv().await.is_none(), "the runtime held its instance for ever");
}

#[tokio::test]
async fn another_version_of_the_deployed_model_switches_coding_off_until_it_is_the_same_again() {
    let coded = CODED.replace("\"k\": 2}", "\"k\": 2}, \"made_for\": \"1\"");
    let runtime = runtime(&model(&coded));
    let mut calls = puppet(&runtime, Roles::DEPLOYED).await;
    let _silent = puppet(&runtime, Roles::parity(0)).await;
    let mut next = async |version: &str| {
        let answer = asked(&runtime, ask(&[1.0]));
        let call = calls.recv().await.unwrap();
        let mut response = common::respond(&call.request, linear);
        version.clone_into(&mut response.version);
        call.end.send(Ok(response)).unwrap();
        answer.await.unwrap().unwrap();
        runtime.snapshot().await.unwrap().coding_off
    };
    assert_eq!(next("1").await, None);
    assert_eq!(next("2").await, Some(parm_engine::CodingOff::Version));
    for _ in 0..99 {
        assert_eq!(next("1").await, Some(parm_engine::CodingOff::Version));
    }
    assert_eq!(next("1").await, None);
}

#[test]
fn the_page_of_the_configuration_names_every_field() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../man/parm-serve.json.5")).unwrap();
    let schema = serde_json::to_value(parm_config::schema()).unwrap();
    let mut properties = vec![&schema["properties"]];
    properties.extend(schema["$defs"].as_object().unwrap().values().map(|of| &of["properties"]));
    for name in properties.iter().filter_map(|of| of.as_object()).flat_map(|of| of.keys()) {
        let said =
            [format!("\\fB{name}\\fR"), format!(".B {name}\n"), format!(".BR {name} "), format!("\" {name}")];
        assert!(said.iter().any(|said| page.contains(said)), "{name} is not in the page");
    }
}
