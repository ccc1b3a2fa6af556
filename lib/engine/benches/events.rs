//! Events per second of the engine on one thread: arrivals, answers and alarms, with all actions
//! taken, under a driver that costs next to nothing.
//!
//! Instances answer in the order in which they were asked, so that the driver needs a queue and no
//! heap; one answer in a hundred comes three times as late, by way of a second queue.
//!
//!     cargo bench -p parm-engine --bench events

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use parm_engine::{
    Action, Arrival, Balance, CallId, CodeRule, Completion, Config, Delay, Ejection, Engine, Groups, Hedge,
    Policy, Roles, Time, When,
};

const MS: Time = 1_000_000;
const SERVICE: Time = 30 * MS;

/// Runs of each kind; the fastest counts, since what else runs on the machine only ever adds.
const ROUNDS: usize = 5;

fn main() {
    // `cargo test` runs this file too, without the flag: once, and briefly.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let (queries, rounds) = if quick { (2000, 1) } else { (1_000_000, ROUNDS) };
    println!("{:44} {:>10} {:>12} {:>14}", "", "instances", "events/query", "10^6 events/s");
    for (name, parities, pooled, config) in configs() {
        for instances in [18, 1000] {
            let runs = (0..rounds).map(|_| run(config(), instances, parities, pooled, queries));
            let (events, seconds) =
                runs.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there is at least one round");
            let per_query = events as f64 / queries as f64;
            println!("{name:44} {instances:>10} {per_query:>12.2} {:>14.2}", events as f64 / seconds / 1e6);
        }
    }
}

type Kind = (&'static str, usize, bool, fn() -> Config);

fn configs() -> [Kind; 7] {
    [
        ("none", 0, false, Config::default),
        ("none, least outstanding", 0, false, || Config {
            balance: Balance::LeastOutstanding,
            ..Config::default()
        }),
        ("hedge", 0, false, || Config {
            policy: Policy::Hedge(Hedge {
                delay: Delay::Percentile { share: 0.95, until_known: 40 * MS },
                budget: 0.05,
                burst: 10.0,
            }),
            ..Config::default()
        }),
        ("sum k=2 r=1, apart, first", 1, false, || coded(2, 1, 1, When::First)),
        ("sum k=2 r=1, apart, grace, ejection", 1, false, || coded(2, 1, 1, percentile())),
        ("sum k=2 r=1, pooled, grace, ejection", 1, true, || coded(2, 1, 1, percentile())),
        ("sum k=4 r=2, apart, grace, batches of 8", 2, false, || coded(4, 2, 8, percentile())),
    ]
}

fn percentile() -> When {
    When::Grace(Delay::Percentile { share: 0.95, until_known: 40 * MS })
}

fn coded(k: usize, r: usize, max_batch: usize, when: When) -> Config {
    let ejection = (when != When::First).then_some(Ejection {
        failures: 5,
        slowness: 10.0,
        base: 1000 * MS,
        max_share: 0.3,
        min_calls: 20,
        slow_start: 5000 * MS,
    });
    Config {
        max_batch,
        batch_delay: 2 * MS,
        policy: Policy::Coded {
            groups: Groups {
                code: CodeRule::parity(k, r).expect("a code"),
                version: 1,
                group_delay: 10 * MS,
                completion: Completion::Known,
                agreement: None,
            },
            hedge: None,
        },
        when,
        ejection,
        ..Config::default()
    }
}

/// Serves so many queries at two thirds of what the instances can bear; returns events and seconds.
fn run(config: Config, instances: usize, parities: usize, pooled: bool, queries: u64) -> (u64, f64) {
    let max_batch = config.max_batch as u64;
    let mut engine = Engine::new(config).expect("a configuration");
    let apart = if pooled { 0 } else { instances * parities / (2 + parities) };
    for i in 0..instances {
        let roles = match i {
            _ if pooled => Roles::pooled(parities),
            i if i < apart => Roles::parity(i % parities),
            _ => Roles::DEPLOYED,
        };
        engine.join(0, roles, 1);
    }
    let deployed = if pooled { instances * 2 / 3 } else { instances - apart } as u64;
    let between = SERVICE * 3 / 2 / (deployed * max_batch);
    let mut running: [VecDeque<(Time, CallId)>; 2] = [VecDeque::new(), VecDeque::new()];
    let (mut events, mut arrived, mut sent, mut answered) = (0_u64, 0, 0_u64, 0_u64);
    let begin = Instant::now();
    while answered < queries {
        let arrival = if arrived < queries { arrived * between } else { Time::MAX };
        let [soon, late] = [0, 1].map(|of: usize| running[of].front().map_or(Time::MAX, |call| call.0));
        let alarm = engine.wake().unwrap_or(Time::MAX);
        let first = arrival.min(soon).min(late).min(alarm);
        if first == alarm {
            engine.tick(first);
        } else if first == arrival {
            let _ = black_box(engine.arrive(first, Arrival::new(arrived)));
            arrived += 1;
        } else if let Some((at, call)) = running[usize::from(first != soon)].pop_front() {
            engine.answered(at, call);
        }
        events += 1;
        while let Some(action) = engine.next_action() {
            match action {
                Action::Dispatch { call, .. } => {
                    sent += 1;
                    let late = sent.is_multiple_of(100);
                    let time = if late { 3 * SERVICE } else { SERVICE };
                    running[usize::from(late)].push_back((first + time, call));
                }
                Action::Rebuild { query, .. } => engine.decoded(first, query, true),
                Action::Answer { .. } => answered += 1,
                other => {
                    black_box(other);
                }
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(engine.counters().queries, queries, "a query was rejected");
    (events, seconds)
}
