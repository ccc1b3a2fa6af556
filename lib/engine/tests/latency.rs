//! The engine under virtual time in ParM's cluster: 12 + 6 instances of 30 ms ± 5 %, 270 queries a
//! second, each instance slow by 5 times for 1 % of the time, half a second at once.
//!
//! What is asserted is the order of the policies and that their gaps (P99.9 − median) stay far
//! apart. `cargo test --release -p parm-engine --test latency -- --nocapture` prints the table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parm_engine::{
    Action, Arrival, CallId, CodeRule, Completion, Config, Delay, Engine, Hedge, InstanceId, Outcome, Policy,
    Roles, Time, When,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, Normal};

const MS: Time = 1_000_000;
const QUERIES: u64 = 100_000;
const SEEDS: u64 = 10;

#[derive(Clone, Copy, PartialEq)]
enum Placement {
    Apart,
    Pooled,
}

struct Scheme {
    name: &'static str,
    k: usize,
    placement: Placement,
    config: fn(usize) -> Config,
}

fn config(policy: Policy, when: When) -> Config {
    Config { policy, when, deadline: 5000 * MS, call_timeout: 5000 * MS, ..Config::default() }
}

fn coded(k: usize, when: When) -> Config {
    let policy = Policy::Coded {
        code: CodeRule::parity(k, 1).unwrap(),
        version: 0,
        group_delay: 20 * MS,
        completion: Completion::Known,
        agreement: None,
        hedge: None,
    };
    config(policy, when)
}

const GRACE: When = When::Grace(Delay::Fixed(36 * MS));
const RUNNING: When = When::Grace(Delay::Percentile { share: 0.95, until_known: 36 * MS });

fn schemes() -> [Scheme; 8] {
    use Placement::{Apart, Pooled};
    [
        Scheme { name: "equal", k: 2, placement: Pooled, config: |_| config(Policy::None, When::First) },
        Scheme {
            name: "hedge after 45 ms, budget 5 %",
            k: 2,
            placement: Pooled,
            config: |_| {
                let hedge = Hedge { delay: Delay::Fixed(45 * MS), budget: 0.05, burst: 10.0 };
                config(Policy::Hedge(hedge), When::First)
            },
        },
        Scheme { name: "coded, first", k: 2, placement: Apart, config: |k| coded(k, When::First) },
        Scheme { name: "coded, grace 36 ms", k: 2, placement: Apart, config: |k| coded(k, GRACE) },
        Scheme { name: "coded, grace 36 ms, pooled", k: 2, placement: Pooled, config: |k| coded(k, GRACE) },
        Scheme { name: "coded, grace P95, pooled", k: 2, placement: Pooled, config: |k| coded(k, RUNNING) },
        Scheme {
            name: "coded, grace 36 ms, pooled, k = 3",
            k: 3,
            placement: Pooled,
            config: |k| coded(k, GRACE),
        },
        Scheme {
            name: "the same, k = 2, hedge at 40 ms",
            k: 2,
            placement: Pooled,
            config: |k| {
                let mut config = coded(k, GRACE);
                if let Policy::Coded { hedge, .. } = &mut config.policy {
                    *hedge = Some(Hedge { delay: Delay::Fixed(40 * MS), budget: 0.02, burst: 10.0 });
                }
                config
            },
        },
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Answer(CallId),
}

/// An instance's slow period: begin and end.
struct Slow {
    begin: f64,
    end: f64,
}

struct Run {
    median: f64,
    p99: f64,
    p999: f64,
    reconstructed: f64,
    again: f64,
}

fn run(scheme: &Scheme, seed: u64) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut engine = Engine::new((scheme.config)(scheme.k)).unwrap();
    let extra = 12 / scheme.k;
    let mut instances: Vec<InstanceId> = Vec::new();
    for i in 0..12 + extra {
        let roles = match scheme.placement {
            Placement::Pooled => Roles::pooled(1),
            Placement::Apart if i < 12 => Roles::DEPLOYED,
            Placement::Apart => Roles::parity(0),
        };
        instances.push(engine.join(0, roles, 1));
    }
    let between = Exp::new(0.270).unwrap();
    let service = Normal::new(30.0, 1.5).unwrap();
    // Half a second of slowness every 50 seconds, in ms.
    let well = Exp::new(1.0 / 49_500.0).unwrap();
    let mut slow: Vec<Slow> = instances.iter().map(|_| Slow { begin: f64::MAX, end: 0.0 }).collect();
    for slow in &mut slow {
        slow.begin = well.sample(&mut rng);
        slow.end = slow.begin + 500.0;
    }
    let mut events = BinaryHeap::from([Reverse((0, Event::Arrival))]);
    let mut arrived: Vec<Time> = Vec::new();
    let mut latencies: Vec<f64> = Vec::new();
    while latencies.len() < QUERIES as usize {
        let next = events.peek().map_or(Time::MAX, |event| event.0.0);
        let now = if let Some(at) = engine.wake()
            && at < next
        {
            engine.tick(at);
            at
        } else if let Some(Reverse((at, event))) = events.pop() {
            match event {
                Event::Answer(call) => engine.answered(at, call),
                Event::Arrival => {
                    engine.arrive(at, Arrival::new(arrived.len() as u64)).unwrap();
                    arrived.push(at);
                    if (arrived.len() as u64) < QUERIES {
                        let wait: f64 = between.sample(&mut rng);
                        events.push(Reverse((at + (wait * MS as f64) as Time, Event::Arrival)));
                    }
                }
            }
            at
        } else {
            panic!("nothing comes, and {} answers are missing", QUERIES as usize - latencies.len());
        };
        while let Some(action) = engine.next_action() {
            match action {
                Action::Dispatch { call, instance } => {
                    let slow = &mut slow[instance.index()];
                    let ms = now as f64 / MS as f64;
                    while slow.end < ms {
                        slow.begin = slow.end + well.sample(&mut rng);
                        slow.end = slow.begin + 500.0;
                    }
                    let factor = if ms >= slow.begin { 5.0 } else { 1.0 };
                    let time: f64 = service.sample(&mut rng) * factor;
                    events.push(Reverse((now + (time * MS as f64) as Time, Event::Answer(call))));
                }
                Action::Rebuild { query, .. } => engine.decoded(now, query, true),
                Action::Answer { row, outcome, .. } => {
                    assert!(!matches!(outcome, Outcome::Default(_)));
                    latencies.push((now - arrived[row as usize]) as f64 / MS as f64);
                }
                _ => {}
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((QUERIES as f64 * share) as usize).min(latencies.len() - 1)];
    let counters = engine.counters();
    Run {
        median: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        reconstructed: counters.reconstructed as f64 / QUERIES as f64,
        again: counters.hedges as f64 / QUERIES as f64,
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn coding_makes_the_gap_several_times_smaller_than_equal_resources_and_pooling_smaller_still() {
    println!(
        "{:32} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8}",
        "", "median", "P99", "P99.9", "gap", "rebuilt", "hedged"
    );
    let gaps: Vec<f64> = schemes()
        .iter()
        .map(|scheme| {
            let runs: Vec<Run> = (0..SEEDS).map(|seed| run(scheme, seed)).collect();
            let gap = median(&runs, |run| run.p999 - run.median);
            println!(
                "{:32} {:>7.1} {:>7.1} {:>7.1} {gap:>7.1} {:>7.2}% {:>7.2}%",
                scheme.name,
                median(&runs, |run| run.median),
                median(&runs, |run| run.p99),
                median(&runs, |run| run.p999),
                median(&runs, |run| run.reconstructed) * 100.0,
                median(&runs, |run| run.again) * 100.0,
            );
            gap
        })
        .collect();
    let [equal, hedge, first, grace, pooled, running, three, both] = gaps[..] else { panic!("{gaps:?}") };
    assert!(equal > 5.0 * first && equal > 5.0 * grace, "{gaps:?}");
    assert!(equal > 8.0 * pooled && equal > 8.0 * running && equal > 7.0 * three, "{gaps:?}");
    assert!(equal > 8.0 * both, "{gaps:?}");
    assert!(hedge > grace && hedge < equal, "{gaps:?}");
}
