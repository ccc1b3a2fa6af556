//! The search for the highest rate at which an expectation holds, where queueing theory knows it.

mod common;

use common::{cluster, trial};
use parm_workload::{Arrivals, Expectation, Search, Watch};

/// The stationary distribution of the number of queries in an M/D/c queue, of this number of arrivals in a service
/// time: who is served now has left after a service time, and those that arrived meanwhile are there.
fn queries_in_system(instances: usize, arrivals: f64) -> Vec<f64> {
    const MOST: usize = 300;
    let mut poisson = vec![(-arrivals).exp()];
    while poisson.len() < 60 {
        poisson.push(poisson[poisson.len() - 1] * arrivals / poisson.len() as f64);
    }
    let mut now = vec![0.0; MOST];
    now[0] = 1.0;
    for _ in 0..20_000 {
        let mut next = vec![0.0; MOST];
        for (queries, share) in now.iter().enumerate() {
            let left = queries.saturating_sub(instances);
            for (arrived, probability) in poisson.iter().enumerate().take(MOST - left) {
                next[left + arrived] += share * probability;
            }
        }
        let change: f64 = now.iter().zip(&next).map(|(now, next)| (now - next).abs()).sum();
        now = next;
        if change < 1e-10 {
            break;
        }
    }
    now
}

/// The share of queries in an M/D/c queue that wait at most so long, in service times (Franx, A simple solution for the
/// M/D/c waiting time distribution, 2001).
fn within(instances: usize, arrivals: f64, wait: f64) -> f64 {
    let distribution = queries_in_system(instances, arrivals);
    let at_most = |waiting: usize| distribution.iter().take(instances + waiting + 1).sum::<f64>();
    let periods = wait as usize + 1;
    let rest = arrivals * (periods as f64 - wait);
    let mut term = (-rest).exp();
    let mut share = 0.0;
    for place in 0..periods * instances {
        share += term * at_most(periods * instances - 1 - place);
        term *= rest / (place + 1) as f64;
    }
    share
}

#[test]
fn the_formula_is_that_of_one_instance_where_it_is_known() {
    // M/D/1: no wait with probability 1 - rho; at most t < 1 with (1 - rho) exp(rho t).
    for (rho, wait) in [(0.5, 0.0), (0.8, 0.0), (0.8, 0.7_f64)] {
        let expected = (1.0 - rho) * (rho * wait).exp();
        let found = within(1, rho, wait);
        assert!((found - expected).abs() < 1e-6, "{rho}, {wait}: {found}, expected {expected}");
    }
}

#[test]
fn it_finds_the_limit_of_a_queue_with_constant_times_within_three_percent() {
    for (instances, expect, share, wait) in
        [(1, "p99<40ms", 0.99, 3.0), (4, "p99<25ms", 0.99, 1.5), (4, "p90<15ms", 0.9, 0.5)]
    {
        // Latencies are the wait and a service time of 10 ms.
        let (mut low, mut high) = (0.01, 0.97);
        while high - low > 1e-3 {
            let rho = f64::midpoint(low, high);
            *(if within(instances, rho * instances as f64, wait) >= share { &mut low } else { &mut high }) =
                rho;
        }
        let expected = low * instances as f64 * 100.0;
        let service = r#""service": {"distribution": "constant", "ms": 10}"#;
        let model = cluster(&format!(r#"{{"count": {instances}, "behavior": {{{service}}}}}"#), "");
        let expectation: Expectation = expect.parse().unwrap();
        let mut search = Search::new(10.0, 0.01, 3);
        let mut trials = 0;
        while let Some(rate) = search.rate() {
            let trial = trial(&model, &Arrivals::Poisson, rate, trials, 100_000);
            let watch = Watch::new(&expectation, 100_000, 1);
            search.tried(rate, watch.reasons(&trial.summary).is_empty());
            trials += 1;
        }
        let (held, missed) = (search.held().unwrap(), search.missed().unwrap());
        let found = f64::midpoint(held, missed);
        assert!(
            (found / expected - 1.0).abs() < 0.03 && trials < 30,
            "{instances} instances, {expect}: {held} to {missed} in {trials} trials, expected {expected}"
        );
    }
}
