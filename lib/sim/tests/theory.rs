//! Clusters whose latencies are known from theory.

mod common;

use std::sync::Arc;

use common::{cluster, latencies, records, trial};
use parm_workload::{Arrivals, Outcome, Trace};

const CONSTANT: &str = r#""service": {"distribution": "constant", "ms": 10}"#;

#[test]
fn one_instance_answers_queries_in_sequence_to_the_nanosecond() {
    let model = cluster(&format!(r#"{{"count": 1, "behavior": {{{CONSTANT}}}}}"#), "");
    let trace = Arc::new(Trace::of_seconds(&[0.0, 0.004, 0.030, 0.031, 0.050, 0.1]).unwrap());
    let records = records(&model, &Arrivals::Trace(trace.clone()), trace.rate(), 0);
    // Answers arrive at 10, 20, 40, 50, 60 and 110 ms.
    let ended: Vec<u64> = records.iter().map(|record| record.ended_ns).collect();
    assert_eq!(ended, [10, 20, 40, 50, 60, 110].map(|ms| ms * 1_000_000));
    assert_eq!(latencies(&records), [10.0, 16.0, 10.0, 19.0, 10.0, 10.0]);
}

#[test]
fn the_times_of_the_server_are_added_to_queries_calls_and_coding() {
    let overhead = |name: &str, ms: u32| format!(r#""{name}": {{"distribution": "constant", "ms": {ms}}}"#);
    let overheads = [overhead("query", 1), overhead("call", 2), overhead("encode", 3), overhead("decode", 4)];
    // Three instances get the two queries and the parity query. The answer to the second query is late by a
    // second.
    let model = cluster(
        &format!(r#"{{"count": 2, "behavior": {{{CONSTANT}}}}}"#),
        &format!(
            r#", "overhead": {{{}}}, "answer": {{"when": "first"}},
            "redundancy": {{"policy": "coded", "code": {{"name": "sum", "k": 2}}}}"#,
            overheads.join(", ")
        ),
    );
    // Both instances have a query each. The parity query follows on the instance that is free first, when
    // both predictions have arrived.
    let trace = Arc::new(Trace::of_seconds(&[0.0, 0.001]).unwrap());
    let found = records(&model, &Arrivals::Trace(trace.clone()), trace.rate(), 0);
    assert_eq!(latencies(&found), [13.0, 13.0]);
    // One of three instances is slow. The third one answers the parity query of the first group, which is
    // encoded in 3 ms. The slow instance's query is rebuilt at 1 + 3 + 2 + 10 ms, and decoded in 4 ms.
    let mut slow = model.clone();
    slow.instances = serde_json::from_str(
        r#"[{"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 1000}}}},
            {"synthetic": {"count": 2, "behavior": {"service": {"distribution": "constant", "ms": 10}}}}]"#,
    )
    .unwrap();
    let found = records(&slow, &Arrivals::Trace(trace.clone()), trace.rate(), 0);
    let rebuilt: Vec<usize> = found.iter().map(|record| record.reconstructed).collect();
    assert_eq!((latencies(&found), rebuilt), (vec![13.0, 21.0], vec![0, 1]));
}

#[test]
fn the_mean_wait_is_that_of_queueing_theory() {
    // Pollaczek–Khinchine: rho s (1 + c^2) / (2 (1 - rho)). c is the deviation of the service time divided by
    // its mean s: 0 for a constant time (M/D/1), 1 for an exponential one (M/M/1).
    for (service, squared) in
        [(CONSTANT, 0.0), (r#""service": {"distribution": "exponential", "mean_ms": 10}"#, 1.0)]
    {
        let model = cluster(&format!(r#"{{"count": 1, "behavior": {{{service}}}}}"#), "");
        for rho in [0.3, 0.6, 0.8] {
            let trial = trial(&model, &Arrivals::Poisson, rho * 100.0, 5, 400_000);
            let expected = 10.0 + rho * 10.0 * (1.0 + squared) / (2.0 * (1.0 - rho));
            let mean = trial.summary.mean_ms().unwrap();
            assert!(
                (mean / expected - 1.0).abs() < 0.03,
                "{service} at {rho}: {mean} ms, expected {expected}"
            );
            assert!((trial.busy / rho - 1.0).abs() < 0.02, "{}", trial.busy);
        }
    }
}

#[test]
fn the_mean_wait_of_several_instances_is_that_of_erlangs_formula() {
    // M/M/3 at 80 %: Erlang C gives 0.6472 as the share of queries that wait, and a mean wait of
    // 0.6472 s / (3 (1 - 0.8)).
    let service = r#""service": {"distribution": "exponential", "mean_ms": 10}"#;
    let model = cluster(&format!(r#"{{"count": 3, "behavior": {{{service}}}}}"#), "");
    let trial = trial(&model, &Arrivals::Poisson, 240.0, 2, 400_000);
    let (mean, expected) = (trial.summary.mean_ms().unwrap(), 10.0 + 0.6472 * 10.0 / 0.6);
    assert!((mean / expected - 1.0).abs() < 0.03, "{mean} ms, expected {expected}");
}

#[test]
fn lost_queries_fail_at_their_deadline_and_excess_queries_are_refused() {
    let hangs = r#"{"count": 1, "behavior": {"hangs": 1}}"#;
    let trace = Arc::new(Trace::of_seconds(&[0.0, 1.0]).unwrap());
    let model =
        cluster(hangs, r#", "deadline_ms": 300, "call_timeout_ms": 100, "attempts": 2, "ejection": null"#);
    let found = records(&model, &Arrivals::Trace(trace.clone()), 1.0, 0);
    assert_eq!(latencies(&found), [200.0, 200.0]);
    assert!(found.iter().all(|record| (record.outcome, record.status) == (Outcome::Failed, Some(503))));
    let late = cluster(hangs, r#", "deadline_ms": 300, "call_timeout_ms": 1000, "fallback": "zeros""#);
    let found = records(&late, &Arrivals::Trace(trace.clone()), 1.0, 0);
    assert_eq!((latencies(&found), found[0].default), (vec![300.0, 300.0], 1));
    let late = cluster(hangs, r#", "deadline_ms": 300, "call_timeout_ms": 1000"#);
    assert_eq!(records(&late, &Arrivals::Trace(trace.clone()), 1.0, 0)[0].status, Some(504));
    let full = cluster(hangs, r#", "max_queries": 1, "deadline_ms": 5000, "call_timeout_ms": 5000"#);
    let found = records(&full, &Arrivals::Trace(trace.clone()), 1.0, 0);
    assert_eq!((found[0].query, found[0].status, found[0].ended_ns), (1, Some(503), 1_000_000_000));
}

#[test]
fn a_crashed_instance_is_ejected_probed_and_gets_work_when_it_is_up() {
    let crash = r#""crash": {"every_ms": 9000, "down_ms": 1000}"#;
    let model = cluster(
        &format!(r#"{{"count": 6, "behavior": {{{CONSTANT}, {crash}}}}}"#),
        r#", "ejection": {"failures": 2, "probe_ms": 50}"#,
    );
    let trial = trial(&model, &Arrivals::Constant, 100.0, 1, 20_000);
    let counters = &trial.counters[0];
    // In 200 s each of six instances crashes twenty times. Two failed calls eject it, and it gets no more
    // until a probe succeeds.
    assert!(
        (90..150).contains(&counters.ejections) && counters.healed + 6 > counters.ejections,
        "{counters:?}"
    );
    assert!(
        (2 * counters.ejections..2 * counters.ejections + 12).contains(&counters.failures),
        "{counters:?}"
    );
    assert!(trial.summary.failed() < 20, "{:?}", trial.summary.failures);
}
