//! The policies in ParM's cluster: 12 instances and those of the parity models, 30 ms ± 5 % a query, 270
//! queries a second; each instance is 5 times slower for 1 % of the time, in periods of half a second.
//!
//! The test asserts the ratios of the gaps between P99.9 and the median, not their size.
//! `cargo test --release -p parm-simulation --test policies -- --nocapture` prints them.

mod common;

use common::trial;
use parm_config::Config;
use parm_workload::Arrivals;

const SEEDS: u64 = 5;
const QUERIES: u64 = 100_000;

/// The median, over seeds, of P99.9 − median, in ms.
fn gap(name: &str, instances: &str, more: &str) -> f64 {
    gap_at(270.0, name, instances, more)
}

/// The same at this rate.
fn gap_at(rate: f64, name: &str, instances: &str, more: &str) -> f64 {
    let behavior = r#"{"service": {"distribution": "normal", "mean_ms": 30, "deviation_ms": 1.5},
        "slow": {"share": 0.01, "length_ms": 500, "factor": 5}}"#;
    let instances = instances.replace("BEHAVIOR", behavior);
    let text = format!(
        r#"{{"models": [{{"name": "m", "deadline_ms": 5000, "call_timeout_ms": 5000, "ejection": null,
            "instances": {instances}{more}}}]}}"#
    );
    let model = Config::parse(&text).unwrap().models.remove(0);
    let mut gaps: Vec<f64> = (0..SEEDS)
        .map(|seed| {
            let latency = trial(&model, &Arrivals::Poisson, rate, seed, QUERIES).summary.latency;
            let at = |share| latency.value_at_quantile(share) as f64 / 1e6;
            at(0.999) - at(0.5)
        })
        .collect();
    gaps.sort_by(f64::total_cmp);
    let gap = gaps[gaps.len() / 2];
    println!("{name:32} {gap:7.1} ms");
    gap
}

#[test]
fn coding_makes_the_gap_several_times_smaller_than_equal_resources_and_pooling_smaller_still() {
    let pool = |count: usize| format!(r#"[{{"synthetic": {{"count": {count}, "behavior": BEHAVIOR}}}}]"#);
    let apart = |deployed: usize, parity: usize| {
        format!(
            r#"[{{"synthetic": {{"count": {deployed}, "behavior": BEHAVIOR}}, "roles": ["deployed"]}},
                {{"synthetic": {{"count": {parity}, "behavior": BEHAVIOR, "seed": 9}}, "roles": ["parity-0"]}}]"#
        )
    };
    let coded = |k: usize, answer: &str, placement: &str, hedge: &str| {
        format!(
            r#", "placement": "{placement}", "answer": {answer}, "redundancy": {{"policy": "coded",
                "code": {{"name": "sum", "k": {k}}}, "group_delay_ms": 20{hedge}}}"#
        )
    };
    let grace = r#"{"when": "grace", "ms": 36}"#;
    let running = r#"{"when": "grace", "percentile": 95, "until_known_ms": 36}"#;
    let hedged = r#", "hedge": {"after": {"ms": 40}, "budget": 0.02}"#;

    let equal = gap("equal resources", &pool(18), r#", "placement": "pooled""#);
    let hedge = gap(
        "hedge after 45 ms, budget 5 %",
        &pool(18),
        r#", "placement": "pooled", "redundancy": {"policy": "hedge", "after": {"ms": 45}, "budget": 0.05}"#,
    );
    let first = gap("coded, first", &apart(12, 6), &coded(2, r#"{"when": "first"}"#, "apart", ""));
    let late = gap("coded, grace 36 ms", &apart(12, 6), &coded(2, grace, "apart", ""));
    let pooled = gap("coded, grace 36 ms, pooled", &pool(18), &coded(2, grace, "pooled", ""));
    let p95 = gap("coded, grace P95, pooled", &pool(18), &coded(2, running, "pooled", ""));
    let three = gap("coded, grace 36 ms, pooled, k = 3", &pool(16), &coded(3, grace, "pooled", ""));
    let both = gap("coded, pooled, hedge after 40 ms", &pool(18), &coded(2, grace, "pooled", hedged));

    assert!(equal > 5.0 * first && equal > 5.0 * late);
    assert!(equal > 8.0 * pooled && equal > 8.0 * p95 && equal > 7.0 * three && equal > 8.0 * both);
    assert!(late < hedge && hedge < equal);
}

#[test]
fn the_policy_auto_follows_the_best_policy_over_the_load() {
    let pool = r#"[{"synthetic": {"count": 18, "behavior": BEHAVIOR}}]"#;
    let more = |redundancy: &str| {
        format!(
            r#", "placement": "pooled", "answer": {{"when": "grace", "ms": 36}}, "redundancy": {redundancy}"#
        )
    };
    let late = r#"{"after": {"ms": 36}, "budget": 0.05}"#;
    let replicate = more(r#"{"policy": "replicate", "copies": 2}"#);
    let coded = more(r#"{"policy": "coded", "code": {"name": "sum", "k": 2}}"#);
    let hedge = more(r#"{"policy": "hedge", "after": {"ms": 36}, "budget": 0.05}"#);
    let auto = more(&format!(
        r#"{{"policy": "auto", "coded": {{"code": {{"name": "sum", "k": 2}}}}, "hedge": {late}}}"#
    ));
    for rate in [60.0, 240.0, 480.0] {
        let gaps = [("replicate", &replicate), ("coded", &coded), ("hedge", &hedge), ("auto", &auto)]
            .map(|(name, more)| gap_at(rate, &format!("{name}, {rate}/s"), pool, more));
        let best = gaps[..3].iter().copied().fold(f64::INFINITY, f64::min);
        assert!(gaps[3] <= 1.2 * best, "{rate}/s: {gaps:?}");
    }
}

#[test]
fn the_policy_auto_keeps_copies_where_reconstructions_come_later_than_the_slowest_of_them() {
    // As in ParM's network: 7 % of calls take longer, up to 30 ms.
    let pool = r#"[{"synthetic": {"count": 18, "behavior": {
        "service": {"distribution": "normal", "mean_ms": 19, "deviation_ms": 0.25},
        "network": {"distribution": "quantiles",
            "quantiles": [[0, 1], [0.93, 1], [0.98, 6.6], [0.99, 9.8], [0.998, 17], [1, 30]]}}}}]"#;
    let more = |redundancy: &str| {
        format!(
            r#", "placement": "pooled", "answer": {{"when": "grace", "percentile": 99}}, "redundancy": {redundancy}"#
        )
    };
    let code = r#"{"name": "sum", "k": 2}"#;
    let late = r#"{"after": {"ms": 28}, "budget": 0.05}"#;
    let replicate = more(r#"{"policy": "replicate", "copies": 2}"#);
    let coded = more(&format!(r#"{{"policy": "coded", "code": {code}}}"#));
    let auto = more(&format!(r#"{{"policy": "auto", "coded": {{"code": {code}}}, "hedge": {late}}}"#));
    for rate in [270.0, 390.0] {
        let [replicate, coded, auto] = [("replicate", &replicate), ("coded", &coded), ("auto", &auto)]
            .map(|(name, more)| gap_at(rate, &format!("{name}, {rate}/s"), pool, more));
        assert_eq!(replicate < coded, rate < 300.0, "{rate}/s: {replicate} and {coded}");
        assert!(auto <= 1.1 * replicate.min(coded), "{rate}/s: {replicate}, {coded}, {auto}");
    }
}
