//! The confidence intervals of reports, where queueing theory knows what they should contain.

mod common;

use std::time::Duration;

use common::cluster;
use parm_simulation::{Row, run};
use parm_workload::{Arrivals, Summary};

#[test]
fn a_confidence_interval_of_95_percent_contains_the_true_value_in_95_percent_of_runs() {
    // M/M/1 at half load: the mean latency is 1 / (100 - 50) s, and latencies are exponentially distributed.
    let service = r#""service": {"distribution": "exponential", "mean_ms": 10}"#;
    let model = cluster(&format!(r#"{{"count": 1, "behavior": {{{service}}}}}"#), "");
    let mean = 20.0;
    let median = mean * 2.0_f64.ln();
    let runs = 200_u32;
    let mut contain = [0, 0];
    for of in 0..runs {
        let trial = |trial: u64| {
            let queries = (Duration::from_secs(2), 4000);
            run(&model, &Arrivals::Poisson, 50.0, u64::from(of) * 10 + trial, queries, &mut |_| Ok(()), None)
                .unwrap()
        };
        let row = Row { name: None, rate: 50.0, trials: (0..5).map(trial).collect() };
        let intervals = [
            (row.interval(|trial| trial.summary.mean_ms()), mean),
            (row.interval(|trial| Summary::within_ms(&trial.summary, 0.5)), median),
        ];
        for (contain, (interval, expected)) in contain.iter_mut().zip(intervals) {
            let [low, high] = interval.unwrap();
            *contain += u32::from((low..=high).contains(&expected));
        }
    }
    for (contain, of) in contain.into_iter().zip(["mean", "median"]) {
        let share = f64::from(contain) / f64::from(runs);
        assert!((0.93..=0.97).contains(&share), "{of}: {share}");
    }
}
