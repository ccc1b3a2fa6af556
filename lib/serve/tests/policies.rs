//! Policies as clients see them: requests over HTTP to a server whose instances do as a test says.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::http::{Reply, get, post};
use common::server::Server;
use common::wait::{soon, until};
use common::{Call, Puppet, linear};
use parm::codes::{Code, Network, NetworkError};
use parm_config::{Embedded, Model};
use parm_oip::instance::{CallError, Instance};
use parm_serving::Embed;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A call for something that must not come.
const WHILE: Duration = Duration::from_millis(60);

/// Hands out instances whose calls a test ends by hand; they are numbered as they are made.
struct Puppets {
    calls: mpsc::UnboundedSender<(usize, Call)>,
    made: AtomicUsize,
}

impl Embed for Puppets {
    fn instance(
        &self,
        _: &Embedded,
        _: &BTreeMap<String, PathBuf>,
        _: &Model,
        _: Option<&Code>,
    ) -> Result<Arc<dyn Instance>, NetworkError> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let (puppet, mut own, _) = Puppet::new();
        let all = self.calls.clone();
        tokio::spawn(async move {
            while let Some(call) = own.recv().await {
                let _ = all.send((number, call));
            }
        });
        Ok(Arc::new(puppet))
    }

    fn network(&self, _: &Path, _: &Model, _: &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
        Err(NetworkError("the tests have none".to_owned()))
    }
}

/// A server of a model with so many instances of each role.
struct Stage {
    server: Server,
    calls: mpsc::UnboundedReceiver<(usize, Call)>,
}

impl Stage {
    async fn new(instances: &[(usize, &str)], more: &str) -> Self {
        let of = |(count, role): &(usize, &str)| {
            format!(r#"{{"embedded": {{"count": {count}}}, "roles": ["{role}"]}}"#)
        };
        let of: Vec<String> = instances.iter().map(of).collect();
        let model = format!(
            r#"{{"name": "m", "deadline_ms": 20000, "call_timeout_ms": 20000, "ejection": null,
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [3]}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [2]}}],
                "files": {{"deployed": "a", "cheap": "b", "parity": ["c"]}},
                "instances": [{}], {more}}}"#,
            of.join(", ")
        );
        let (sender, calls) = mpsc::unbounded_channel();
        let puppets = Puppets { calls: sender, made: AtomicUsize::new(0) };
        let server = Server::embedding(&model, "", Arc::new(puppets)).await;
        let stage = Self { server, calls };
        let count = instances.iter().map(|(count, _)| count).sum();
        let joined = async || stage.status().await["instances"].as_array().map(Vec::len) == Some(count);
        until("all instances", joined).await;
        stage
    }

    /// Asks for a row that is three times a number, with these parameters.
    fn ask(&self, first: i32, parameters: &str) -> JoinHandle<Reply> {
        let at = self.server.http();
        let body = format!(
            r#"{{"parameters": {{{parameters}}}, "inputs": [{{"name": "x", "shape": [1, 3],
                "datatype": "FP32", "data": [{first}, {first}, {first}]}}]}}"#
        );
        tokio::spawn(async move { post(at, "/v2/models/m/infer", &body).await })
    }

    async fn call(&mut self) -> (usize, Call) {
        soon("a call", self.calls.recv()).await.unwrap()
    }

    async fn no_call(&mut self) {
        let call = tokio::time::timeout(WHILE, self.calls.recv()).await;
        assert!(call.is_err(), "a call came");
    }

    /// Two requests, of 1 and of 5: their calls of the deployed model, and that of the parity model.
    async fn group(&mut self, parameters: [&str; 2]) -> ([JoinHandle<Reply>; 2], [Call; 2], Call) {
        let one = self.ask(1, parameters[0]);
        let (_, first) = self.call().await;
        assert_eq!(first.firsts(), [1.0]);
        let two = self.ask(5, parameters[1]);
        let (mut second, mut parity) = (None, None);
        for _ in 0..2 {
            let (_, call) = self.call().await;
            if call.request.model == "m-parity-0" { parity = Some(call) } else { second = Some(call) }
        }
        let (second, parity) = (second.unwrap(), parity.unwrap());
        assert_eq!((second.firsts(), parity.firsts()), (vec![5.0], vec![6.0]));
        ([one, two], [first, second], parity)
    }

    async fn status(&self) -> serde_json::Value {
        get(self.server.http(), "/status.json").await.json()["models"][0].take()
    }

    async fn metric(&self, line: &str) -> f64 {
        let text = String::from_utf8(get(self.server.http(), "/metrics").await.body).unwrap();
        let (name, labels) = line.split_once('{').unwrap_or((line, ""));
        let comma = if labels.is_empty() { "" } else { "," };
        let start = format!(r#"{name}{{model="m",version="1"{comma}{}}} "#, labels.trim_end_matches('}'));
        let found = text.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("no {start} in\n{text}")).parse().unwrap()
    }

    /// Nothing is held of queries that were answered, when the calls for them are over.
    async fn holds_nothing(&self) {
        until("the release of all queries", async || self.status().await["held"] == 0).await;
    }
}

/// The answer to a request of one row, and what is said of it.
async fn answer(reply: JoinHandle<Reply>) -> (Vec<f64>, serde_json::Value) {
    let reply = soon("a reply", reply).await.unwrap();
    assert_eq!(reply.code, 200, "{reply:?}");
    let mut json = reply.json();
    let data = json["outputs"][0]["data"].as_array().unwrap();
    (data.iter().map(|value| value.as_f64().unwrap()).collect(), json["parameters"].take())
}

async fn error(reply: JoinHandle<Reply>) -> (u16, String) {
    let reply = soon("a reply", reply).await.unwrap();
    (reply.code, reply.error())
}

fn gone() -> CallError {
    CallError::Unreachable("it is gone".to_owned())
}

const CODED: &str = r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}, "group_delay_ms": 20000,
    "complete": false}"#;

#[tokio::test]
async fn replicate_asks_two_instances_and_the_first_answer_counts() {
    let more = r#""redundancy": {"policy": "replicate", "copies": 2}"#;
    let mut stage = Stage::new(&[(3, "deployed")], more).await;
    let reply = stage.ask(1, "");
    let ((one, _lost), (other, copy)) = (stage.call().await, stage.call().await);
    assert_ne!(one, other, "both are at one instance");
    stage.no_call().await;
    copy.answer(linear);
    let (values, notes) = answer(reply).await;
    assert_eq!((values, notes), (vec![1.0, 2.0], serde_json::Value::Null));
    assert_eq!(stage.metric(r#"parm_answers_total{how="prediction"}"#).await, 1.0);
}

#[tokio::test]
async fn hedge_asks_again_when_it_is_late_as_long_as_its_budget_lasts() {
    let more = r#""redundancy": {"policy": "hedge", "after": {"ms": 80}, "budget": 0.0, "burst": 1}"#;
    let mut stage = Stage::new(&[(3, "deployed")], more).await;
    let since = Instant::now();
    let reply = stage.ask(1, "");
    let (first, _slow) = stage.call().await;
    let (second, hedge) = stage.call().await;
    assert!(since.elapsed() >= Duration::from_millis(80) && first != second);
    hedge.answer(linear);
    assert_eq!(answer(reply).await.0, [1.0, 2.0]);
    let reply = stage.ask(2, "");
    let (_, call) = stage.call().await;
    until("a hedge without a budget", async || stage.metric("parm_hedges_unpaid_total").await == 1.0).await;
    stage.no_call().await;
    call.answer(linear);
    assert_eq!(answer(reply).await.0, [2.0, 4.0]);
    let counted =
        [stage.metric("parm_hedges_issued_total").await, stage.metric("parm_hedges_won_total").await];
    assert_eq!(counted, [1.0, 1.0]);
}

#[tokio::test]
async fn approximate_answers_are_named_and_not_given_to_those_who_refuse_them() {
    let more = r#""redundancy": {"policy": "cheap"}, "answer": {"when": "first"}"#;
    let mut stage = Stage::new(&[(1, "deployed"), (1, "cheap")], more).await;
    for (parameters, approximate) in [("", true), (r#""parm_allow_reconstructed": false"#, false)] {
        let reply = stage.ask(1, parameters);
        let (one, other) = (stage.call().await.1, stage.call().await.1);
        let (own, approximate_call) = if one.request.model == "m" { (one, other) } else { (other, one) };
        assert_eq!(approximate_call.request.model, "m-cheap");
        approximate_call.answer(|_| vec![7.0, 7.0]);
        if approximate {
            let (values, notes) = answer(reply).await;
            assert_eq!((values, notes["parm_approximate"].as_str()), (vec![7.0, 7.0], Some("0")));
            own.answer(linear);
        } else {
            own.answer(linear);
            let (values, notes) = answer(reply).await;
            assert_eq!((values, notes), (vec![1.0, 2.0], serde_json::Value::Null));
        }
        stage.holds_nothing().await;
    }
}

#[tokio::test]
async fn coded_and_hedged_of_two_losses_one_is_asked_again_and_the_other_rebuilt() {
    let more = format!(
        r#"{}, "hedge": {{"after": {{"ms": 50}}, "burst": 10}}}}, "answer": {{"when": "first"}}"#,
        CODED.trim_end_matches('}')
    );
    let mut stage = Stage::new(&[(3, "deployed"), (1, "parity-0")], &more).await;
    let ([one, two], [_first, _second], parity) = stage.group([""; 2]).await;
    parity.answer(linear);
    let (_, hedge) = stage.call().await;
    let hedged = hedge.firsts()[0];
    hedge.answer(linear);
    let (own, other) = if hedged == 1.0 { (one, two) } else { (two, one) };
    let (values, notes) = answer(own).await;
    assert_eq!((values[0], notes), (f64::from(hedged), serde_json::Value::Null));
    let (values, notes) = answer(other).await;
    assert_eq!((values[0], notes["parm_reconstructed"].as_str()), (6.0 - f64::from(hedged), Some("0")));
}

#[tokio::test]
async fn shadow_measures_and_answers_with_the_late_prediction() {
    let more = format!(r#""shadow": true, "answer": {{"when": "first"}}, {CODED}"#);
    let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &more).await;
    let ([one, two], [first, late], parity) = stage.group([""; 2]).await;
    first.answer(linear);
    answer(one).await;
    parity.answer(linear);
    let rebuilt = async || stage.metric("parm_shadow_reconstructed_total").await == 1.0;
    until("a reconstruction", rebuilt).await;
    assert!(!two.is_finished(), "it was answered with a reconstruction");
    late.answer(|_| vec![9.0, 1.0]);
    let (values, notes) = answer(two).await;
    assert_eq!((values, notes), (vec![9.0, 1.0], serde_json::Value::Null));
    let compared = async || stage.metric(r#"parm_agreement_total{agrees="no"}"#).await == 1.0;
    until("a comparison", compared).await;
    assert_eq!(stage.metric(r#"parm_answers_total{how="reconstructed"}"#).await, 0.0);
    stage.holds_nothing().await;
}

#[tokio::test]
async fn grace_waits_for_the_prediction_and_then_answers_without_it() {
    let of = |ms: u32| format!(r#""answer": {{"when": "grace", "ms": {ms}}}, {CODED}"#);
    let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &of(19_000)).await;
    let ([one, two], [first, second], parity) = stage.group([""; 2]).await;
    first.answer(linear);
    parity.answer(linear);
    answer(one).await;
    second.answer(|_| vec![5.5, 5.5]);
    assert_eq!(answer(two).await, (vec![5.5, 5.5], serde_json::Value::Null), "within its grace");
    let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &of(300)).await;
    let asked = Instant::now();
    let ([one, two], [first, _lost], parity) = stage.group([""; 2]).await;
    first.answer(linear);
    parity.answer(linear);
    answer(one).await;
    let (values, notes) = answer(two).await;
    assert_eq!((values, notes["parm_reconstructed"].as_str()), (vec![5.0, 10.0], Some("0")));
    assert!(asked.elapsed() >= Duration::from_millis(300), "after {:?}", asked.elapsed());
}

#[tokio::test]
async fn at_the_deadline_a_reconstruction_is_better_than_none() {
    let more = format!(r#""answer": {{"when": "deadline"}}, {CODED}"#);
    let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &more).await;
    let asked = Instant::now();
    // In microseconds.
    let ([one, two], [first, _lost], parity) = stage.group([r#""timeout": 3000000"#; 2]).await;
    first.answer(linear);
    parity.answer(linear);
    answer(one).await;
    let (values, notes) = answer(two).await;
    assert_eq!((values, notes["parm_reconstructed"].as_str()), (vec![5.0, 10.0], Some("0")));
    assert!(asked.elapsed() >= Duration::from_secs(3), "after {:?}", asked.elapsed());
}

#[tokio::test]
async fn who_refuses_reconstructions_waits_and_helps_the_other_or_is_told_503() {
    let more = format!(r#""answer": {{"when": "first"}}, "attempts": 1, {CODED}"#);
    let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &more).await;
    let refuses = ["", r#""parm_allow_reconstructed": false"#];
    let ([one, two], [first, late], parity) = stage.group(refuses).await;
    first.answer(linear);
    parity.answer(linear);
    answer(one).await;
    tokio::time::sleep(WHILE).await;
    assert!(!two.is_finished(), "it was answered with a reconstruction");
    late.answer(linear);
    assert_eq!(answer(two).await, (vec![5.0, 10.0], serde_json::Value::Null));
    let ([one, two], [lost, second], parity) = stage.group(refuses).await;
    parity.answer(linear);
    second.answer(linear);
    answer(two).await;
    let (values, notes) = answer(one).await;
    assert_eq!((values, notes["parm_reconstructed"].as_str()), (vec![1.0, 2.0], Some("0")));
    lost.fail(gone());
    let ([one, two], [first, lost], parity) = stage.group(refuses).await;
    first.answer(linear);
    parity.answer(linear);
    answer(one).await;
    lost.fail(gone());
    assert_eq!(error(two).await, (503, "no instance gave an answer: it is gone".to_owned()));
    stage.holds_nothing().await;
}

#[tokio::test]
async fn priorities_say_who_goes_first_and_timeouts_who_is_told_504() {
    let mut stage = Stage::new(&[(1, "deployed")], r#""redundancy": {"policy": "none"}"#).await;
    let first = stage.ask(1, "");
    let (_, running) = stage.call().await;
    let mut replies = Vec::new();
    for (number, parameters) in
        [(2, r#""priority": 200"#), (3, ""), (4, r#""priority": 1"#), (5, r#""priority": 1"#)]
    {
        replies.push(stage.ask(number, parameters));
        until("the query to wait", async || stage.status().await["waiting"] == number - 1).await;
    }
    let hurried = stage.ask(6, r#""priority": 255, "timeout": 50000"#);
    assert_eq!(error(hurried).await, (504, "the deadline passed without an answer".to_owned()));
    running.answer(linear);
    answer(first).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        let (_, call) = stage.call().await;
        order.push(call.firsts()[0]);
        call.answer(linear);
    }
    assert_eq!(order, [4.0, 5.0, 3.0, 2.0]);
    for reply in replies {
        answer(reply).await;
    }
    // What nobody waits for any more is not sent.
    stage.no_call().await;
    stage.holds_nothing().await;
}

#[tokio::test]
async fn the_policy_auto_says_its_state() {
    let more = r#""redundancy": {"policy": "auto"}"#;
    let mut stage = Stage::new(&[(2, "deployed")], more).await;
    let reply = stage.ask(1, "");
    stage.call().await.1.answer(linear);
    answer(reply).await;
    assert_eq!(stage.metric(r#"parm_policy{state="hedge"}"#).await, 1.0);
    assert_eq!(stage.metric(r#"parm_policy{state="replicate"}"#).await, 0.0);
    let auto = stage.status().await["auto"].clone();
    assert_eq!((auto["state"].as_str(), auto["level"].as_u64()), (Some("hedge"), Some(1)), "{auto}");
}

#[tokio::test]
async fn a_request_chooses_its_redundancy() {
    let more = r#""redundancy": {"policy": "replicate", "copies": 2}"#;
    let mut stage = Stage::new(&[(2, "deployed")], more).await;
    for (parameters, calls) in
        [("", 2), (r#""parm_redundancy": "none""#, 1), (r#""parm_redundancy": "critical""#, 2)]
    {
        let reply = stage.ask(1, parameters);
        let mut running = Vec::new();
        for _ in 0..calls {
            running.push(stage.call().await.1);
        }
        stage.no_call().await;
        for call in running {
            call.answer(linear);
        }
        answer(reply).await;
    }
}

#[tokio::test]
async fn under_load_parity_work_goes_first_and_then_503() {
    let more = format!(r#""max_queries": 6, {CODED}"#);
    let mut stage = Stage::new(&[(1, "deployed"), (1, "parity-0")], &more).await;
    let mut replies = Vec::new();
    for number in 1..=6 {
        replies.push(stage.ask(number, ""));
        until("the query to be held", async || stage.status().await["held"] == number).await;
    }
    let (deployed, parity) = (stage.call().await.1, stage.call().await.1);
    assert_eq!((deployed.request.model.as_str(), parity.request.model.as_str()), ("m", "m-parity-0"));
    assert_eq!(stage.metric("parm_shed_total").await, 0.0);
    let refused = soon("a reply", stage.ask(7, "")).await.unwrap();
    assert_eq!(refused.error(), "overloaded: 6 queries are held, the limit is 6");
    assert_eq!((refused.code, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(stage.metric("parm_shed_total").await, 2.0, "the parity work of two groups waited");
    assert_eq!(stage.metric("parm_rejected_total").await, 1.0);
    deployed.answer(linear);
    parity.answer(linear);
    for _ in 2..=6 {
        let (_, call) = stage.call().await;
        assert_eq!(call.request.model, "m", "parity work that was shed");
        call.answer(linear);
    }
    for reply in replies {
        answer(reply).await;
    }
    stage.holds_nothing().await;
}

#[tokio::test]
async fn more_losses_than_parities_are_told_at_once_each_by_its_own_word() {
    let more = format!(r#""attempts": 1, {CODED}"#);
    let zeros = format!(r#""fallback": "zeros", {more}"#);
    for (more, lenient) in [(more, false), (zeros, true)] {
        let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &more).await;
        // Which of the three calls of a group fail, and which query has an answer then.
        for (lost, answered) in
            [([true, true, false], [false; 2]), ([true, false, true], [false, true]), ([true; 3], [false; 2])]
        {
            let (replies, [first, second], parity) = stage.group([""; 2]).await;
            for (call, lost) in [first, second, parity].into_iter().zip(lost) {
                if lost { call.fail(gone()) } else { call.answer(linear) }
            }
            for ((reply, answered), value) in replies.into_iter().zip(answered).zip([1.0, 5.0]) {
                if answered {
                    assert_eq!(answer(reply).await.0, [value, 2.0 * value]);
                } else if lenient {
                    let (values, notes) = answer(reply).await;
                    assert_eq!(values, [0.0, 0.0]);
                    assert_eq!(
                        (notes["parm_default"].as_str(), notes["parm_default_reason"].as_str()),
                        (Some("0"), Some("failed"))
                    );
                } else {
                    let expected = "no instance gave an answer: it is gone".to_owned();
                    assert_eq!(error(reply).await, (503, expected), "{lost:?}");
                }
            }
            stage.holds_nothing().await;
        }
        assert_eq!(stage.metric("parm_unrecoverable_total").await, 5.0);
    }
}

#[tokio::test]
async fn when_all_instances_hang_the_deadline_ends_it() {
    for (fallback, lenient) in [("error", false), ("zeros", true)] {
        let more = format!(r#""fallback": "{fallback}", {CODED}"#);
        let more = more.replace(r#""fallback""#, r#""cancel_running": true, "fallback""#);
        let mut stage = Stage::new(&[(2, "deployed"), (1, "parity-0")], &more).await;
        let (replies, _hang, _parity) = stage.group([r#""timeout": 300000"#; 2]).await;
        for reply in replies {
            if lenient {
                let (values, notes) = answer(reply).await;
                assert_eq!(
                    (values, notes["parm_default_reason"].as_str()),
                    (vec![0.0, 0.0], Some("deadline"))
                );
            } else {
                let expected = "the deadline passed without an answer".to_owned();
                assert_eq!(error(reply).await, (504, expected));
            }
        }
        stage.holds_nothing().await;
    }
}
