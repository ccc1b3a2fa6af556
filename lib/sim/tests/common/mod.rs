//! Clusters, and trials of them.

#![allow(dead_code)] // not all tests use all of it

use std::time::Duration;

use parm_config::{Config, Model};
use parm_simulation::{Trial, run};
use parm_workload::{Arrivals, Record};

/// A model with these instances, and these further fields.
pub(crate) fn cluster(synthetic: &str, more: &str) -> Model {
    let text = format!(
        r#"{{"models": [{{"name": "m", "placement": "pooled", "instances": [{{"synthetic": {synthetic}}}] {more}}}]}}"#
    );
    let config = Config::parse(&text).unwrap();
    config.check().unwrap();
    config.models.into_iter().next().unwrap()
}

/// A trial without a warm-up.
pub(crate) fn trial(model: &Model, arrivals: &Arrivals, rate: f64, seed: u64, queries: u64) -> Trial {
    run(model, arrivals, rate, seed, (Duration::ZERO, queries), &mut |_| Ok(()), None).unwrap()
}

/// The records of all queries of a trace, in order.
pub(crate) fn records(model: &Model, arrivals: &Arrivals, rate: f64, seed: u64) -> Vec<Record> {
    let mut records = Vec::new();
    let mut each = |record: &Record| {
        records.push(record.clone());
        Ok(())
    };
    run(model, arrivals, rate, seed, (Duration::ZERO, u64::MAX), &mut each, None).unwrap();
    records
}

/// Latencies, in ms.
pub(crate) fn latencies(records: &[Record]) -> Vec<f64> {
    records.iter().map(|record| (record.ended_ns - record.intended_ns) as f64 / 1e6).collect()
}
