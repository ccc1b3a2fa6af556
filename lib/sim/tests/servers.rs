//! Several servers that share instances.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{cluster, latencies};
use parm_config::Model;
use parm_simulation::{Size, Trial, run};
use parm_workload::{Arrivals, Record, Trace};

fn servers(
    model: &Model,
    arrivals: &Arrivals,
    rate: f64,
    seed: u64,
    (queries, servers): (u64, usize),
) -> (Trial, Vec<Record>) {
    let mut records = Vec::new();
    let mut each = |record: &Record| {
        records.push(record.clone());
        Ok(())
    };
    let size = Size { warm_up: Duration::ZERO, queries, servers };
    let trial = run(model, arrivals, rate, seed, size, &mut each, None).unwrap();
    (trial, records)
}

const CONSTANT: &str = r#""behavior": {"service": {"distribution": "constant", "ms": 10}}"#;

#[test]
fn calls_of_other_servers_wait_at_the_instance_in_order() {
    let model = cluster(&format!(r#"{{"count": 1, {CONSTANT}}}"#), "");
    let trace = Arc::new(Trace::of_seconds(&[0.0, 0.001, 0.002, 0.003, 0.1]).unwrap());
    // Whichever server gets a query: one instance answers one call after the other.
    for seed in 0..20 {
        let (trial, records) = servers(&model, &Arrivals::Trace(trace.clone()), trace.rate(), seed, (5, 2));
        let mut ended: Vec<u64> = records.iter().map(|record| record.ended_ns / 1_000_000).collect();
        ended.sort_unstable();
        assert_eq!(ended, [10, 20, 30, 40, 110]);
        assert_eq!(trial.count(|of| of.queries), 5);
        assert!((trial.busy - 50.0 / 110.0).abs() < 1e-9);
    }
}

#[test]
fn a_timeout_at_a_busy_instance_gives_up_the_place_in_its_queue() {
    let more = r#", "call_timeout_ms": 15, "attempts": 1, "ejection": null"#;
    let model = cluster(&format!(r#"{{"count": 1, {CONSTANT}}}"#), more);
    let trace = Arc::new(Trace::of_seconds(&[0.0, 0.0001, 0.0002, 0.03]).unwrap());
    let found =
        (0..200).map(|seed| servers(&model, &Arrivals::Trace(trace.clone()), trace.rate(), seed, (4, 3)).1);
    // With the first three on different servers: the second call begins at 10 ms, and is given up at 15 ms; so is the
    // third one, which has not begun. The fourth finds the instance free.
    let failed = |records: &Vec<Record>| {
        records
            .iter()
            .filter(|record| record.status == Some(503))
            .map(|record| record.query)
            .collect::<Vec<_>>()
    };
    let given_up = found.filter(|records| failed(records) == [1, 2]).collect::<Vec<_>>();
    assert!(given_up.len() > 20, "{}", given_up.len());
    for records in given_up {
        let last = records.iter().find(|record| record.query == 3).unwrap();
        assert_eq!((last.ended_ns - last.intended_ns) / 1_000_000, 10, "{records:?}");
    }
}

#[test]
fn one_server_is_as_before_and_very_many_are_a_queue_for_each_instance() {
    let service = r#""behavior": {"service": {"distribution": "exponential", "mean_ms": 10}}"#;
    let model =
        cluster(&format!(r#"{{"count": 8, {service}}}"#), r#", "balance": "round-robin", "ejection": null"#);
    // At first all servers send to the same instances.
    let mean = |count: usize| {
        let warm_up = Duration::from_secs(if count > 1 { 60 } else { 0 });
        let size = Size { warm_up, queries: 100_000, servers: count };
        let trial = run(&model, &Arrivals::Poisson, 400.0, 1, size, &mut |_| Ok(()), None).unwrap();
        assert_eq!(trial.counters.len(), count);
        trial.summary.mean_ms().unwrap()
    };
    let one = common::trial(&model, &Arrivals::Poisson, 400.0, 1, 100_000).summary.mean_ms().unwrap();
    assert_eq!(mean(1), one);
    let [few, many] = [mean(2), mean(400)];
    assert!(one < few && few < many, "{one} {few} {many}");
    // With random instances, each is M/M/1 at half load, with a mean of 20 ms.
    let latencies = latencies(&servers(&model, &Arrivals::Poisson, 400.0, 1, (1000, 2)).1);
    assert!(latencies.iter().all(|ms| *ms > 0.0) && (many - 20.0).abs() < 2.0, "{many}");
}

#[test]
fn the_same_seed_gives_the_same_records_with_any_number_of_servers() {
    let coded =
        r#", "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}}, "cancel_running": true"#;
    let behavior = r#""behavior": {"service": {"distribution": "exponential", "mean_ms": 20},
        "slow": {"share": 0.05, "length_ms": 300, "factor": 5}, "errors": 0.01, "hangs": 0.001}"#;
    let model = cluster(&format!(r#"{{"count": 12, {behavior}}}"#), coded);
    for count in [2, 5] {
        let of = |seed| servers(&model, &Arrivals::Poisson, 200.0, seed, (20_000, count)).1;
        assert!(of(1) == of(1) && of(1) != of(2) && of(1).len() == 20_000);
    }
}
