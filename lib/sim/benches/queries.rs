//! Simulated queries a second on one thread, at two thirds of the instances' capacity, with everything that
//! costs time: random times, slow periods, transfers between instances, groups and grace.
//!
//!     cargo bench -p parm-simulation --bench queries

use std::time::{Duration, Instant};

use parm_config::{Config, Model};
use parm_simulation::run;
use parm_workload::Arrivals;

/// Runs of each kind; the fastest counts, since other load on the machine only adds time.
const ROUNDS: usize = 3;

const POLICIES: [(&str, &str); 3] = [
    ("none", r#""redundancy": {"policy": "none"}"#),
    ("hedge", r#""redundancy": {"policy": "hedge", "after": {"percentile": 95}}"#),
    ("sum k=2, grace", r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}}"#),
];

fn main() {
    // `cargo test` runs this file without the flag: once, and briefly.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let (queries, rounds) = if quick { (2000, 1) } else { (1_000_000, ROUNDS) };
    println!("{:20} {:>10} {:>16}", "", "instances", "10^6 queries/s");
    for (name, policy) in POLICIES {
        for instances in [18, 1000, 10_000] {
            let model = model(policy, instances);
            // A call takes 30 ms, and a coded query needs one and a half calls.
            let rate =
                instances as f64 / 0.03 * 2.0 / 3.0 * if name.starts_with("sum") { 2.0 / 3.0 } else { 1.0 };
            let seconds = (0..rounds).map(|_| {
                let begin = Instant::now();
                let queries_of = (Duration::ZERO, queries);
                let trial = run(&model, &Arrivals::Poisson, rate, 1, queries_of, &mut |_| Ok(()), None);
                assert_eq!(trial.expect("a cluster").summary.answered(), queries, "a query has no answer");
                begin.elapsed().as_secs_f64()
            });
            let best = seconds.min_by(f64::total_cmp).expect("there is at least one round");
            println!("{name:20} {instances:>10} {:>16.2}", queries as f64 / best / 1e6);
        }
    }
}

fn model(policy: &str, instances: usize) -> Model {
    let text = format!(
        r#"{{"models": [{{"name": "m", "placement": "pooled", {policy}, "deadline_ms": 60000,
            "call_timeout_ms": 60000,
            "faults": {{"shuffles": {{"concurrent": {}, "min_ms": 500, "max_ms": 1500, "factor": 2}}}},
            "instances": [{{"synthetic": {{"count": {instances}, "behavior": {{
                "service": {{"distribution": "normal", "mean_ms": 27, "deviation_ms": 1.5}},
                "network": {{"distribution": "exponential", "mean_ms": 3}},
                "slow": {{"share": 0.01, "length_ms": 500, "factor": 5}}}}}}}}]}}]}}"#,
        (instances / 10).max(1)
    );
    Config::parse(&text).expect("a configuration").models.swap_remove(0)
}
