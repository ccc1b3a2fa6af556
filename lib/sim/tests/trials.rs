//! Trials: seeds, faults, errors.

mod common;

use std::time::Duration;

use common::{cluster, trial};
use parm_simulation::{Cluster, ClusterError, TrialError, run};
use parm_workload::{Arrivals, Record};

const POISSON: &Arrivals = &Arrivals::Poisson;

/// A cluster with everything in it.
fn eventful() -> parm_config::Model {
    cluster(
        r#"{"count": 12, "seed": 3, "behavior": {
            "service": {"distribution": "log-normal", "median_ms": 20, "sigma": 0.3},
            "network": {"distribution": "exponential", "mean_ms": 2},
            "slow": {"share": 0.02, "length_ms": 300, "factor": 5}, "errors": 0.001, "hangs": 0.0005,
            "late": {"share": 0.01, "by_ms": 30}, "crash": {"every_ms": 20000, "down_ms": 500}}}"#,
        r#", "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2},
            "hedge": {"after": {"percentile": 99}, "budget": 0.02}},
            "overhead": {"call": {"distribution": "exponential", "mean_ms": 0.2}},
            "faults": {"seed": 1, "shuffles": {"concurrent": 2, "min_ms": 100, "max_ms": 900, "factor": 4},
                "racks": {"count": 3, "slow": {"share": 0.01, "length_ms": 100, "factor": 2}}}"#,
    )
}

fn text(seed: u64) -> String {
    let mut text = String::new();
    let mut each = |record: &Record| {
        text += &(serde_json::to_string(record).unwrap() + "\n");
        Ok(())
    };
    run(&eventful(), POISSON, 200.0, seed, (Duration::from_secs(1), 20_000), &mut each, None).unwrap();
    text
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let first = text(1);
    assert_eq!(first.lines().count(), 20_000);
    assert!(first.contains(r#""reconstructed":1"#) && first == text(1));
    assert_ne!(first, text(2));
}

#[test]
fn the_seed_is_added_to_the_seeds_of_the_file() {
    let mut other = eventful();
    for instances in &mut other.instances {
        instances.synthetic.as_mut().unwrap().seed += 4;
    }
    other.faults.seed += 4;
    // The faults of the instances are the same; the arrivals have another seed.
    let constant = &Arrivals::Constant;
    other.overhead.call = parm_workload::faults::Service::default();
    let mut one = eventful();
    one.overhead.call = parm_workload::faults::Service::default();
    let (one, other) = (trial(&one, constant, 100.0, 4, 5000), trial(&other, constant, 100.0, 0, 5000));
    assert_eq!(one.counters, other.counters);
    assert_eq!(one.summary.latency, other.summary.latency);
}

#[test]
fn shuffles_slow_the_network_alone_and_racks_all_of_their_instances() {
    let service = r#""service": {"distribution": "constant", "ms": 10}"#;
    let behavior = format!(r#"{{{service}, "network": {{"distribution": "constant", "ms": 2}}}}"#);
    let mean = |faults: &str| {
        let model = cluster(
            &format!(r#"{{"count": 16, "behavior": {behavior}}}"#),
            &format!(r#", "ejection": null, "balance": "round-robin", "faults": {faults}"#),
        );
        trial(&model, &Arrivals::Constant, 100.0, 1, 200_000).summary.mean_ms().unwrap()
    };
    assert!((mean("{}") - 12.0).abs() < 0.01);
    // Four transfers have 8 ends among 16 instances: half a transfer for each, which adds twice 2 ms.
    let shuffles = mean(r#"{"shuffles": {"concurrent": 4, "min_ms": 50, "max_ms": 150, "factor": 3}}"#);
    assert!((shuffles - 14.0).abs() < 0.1, "{shuffles}");
    let racks = mean(r#"{"racks": {"count": 4, "slow": {"share": 0.1, "length_ms": 50, "factor": 3}}}"#);
    assert!((racks - 14.4).abs() < 0.15, "{racks}");
}

#[test]
fn models_that_cannot_be_simulated_are_refused() {
    let mut real = eventful();
    real.instances.push(serde_json::from_str(r#"{"remote": {"url": "http://localhost"}}"#).unwrap());
    assert!(matches!(Cluster::new(&real, 0, 1).unwrap_err(), ClusterError::Real { index: 1 }));
    let mut empty = eventful();
    empty.instances[0].synthetic.as_mut().unwrap().count = 0;
    let error = run(&empty, POISSON, 1.0, 0, (Duration::ZERO, 1), &mut |_| Ok(()), None).unwrap_err();
    assert!(matches!(error, TrialError::Cluster(ClusterError::Empty)), "{error}");
    let mut wrong = eventful();
    wrong.deadline_ms = 0.0;
    let refused = Cluster::new(&wrong, 0, 1).unwrap_err();
    assert!(matches!(&refused, ClusterError::Policy(error) if error.to_string().contains("deadline")));
    let full = &mut |_: &Record| Err(std::io::Error::other("full"));
    let error = run(&eventful(), POISSON, 1.0, 0, (Duration::ZERO, 1), full, None).unwrap_err();
    assert_eq!(error.to_string(), "cannot write records: full");
}
