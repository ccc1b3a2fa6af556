//! Clusters that are fitted to simulated runs of known clusters.

mod common;

use std::time::Duration;

use common::cluster;
use parm_config::{Config, Model};
use parm_engine::journal::Entry;
use parm_simulation::{ArrivalLaw, FEWEST, Fit, FitError, Recording, Trial, check, fit, run};
use parm_workload::faults::{Service, Slow};
use parm_workload::{Arrivals, Record, Summary};

/// The records and the journal of a run, as files have them.
fn recorded(model: &Model, rate: f64, queries: u64) -> [Recording; 2] {
    let (mut records, mut journal) = (String::new(), String::new());
    let line = |value: serde_json::Result<String>| value.unwrap() + "\n";
    let mut each = |record: &Record| {
        records += &line(serde_json::to_string(record));
        Ok(())
    };
    let mut note = |entry: &Entry| {
        journal += &line(serde_json::to_string(entry));
        Ok(())
    };
    let span = (Duration::from_secs(2), queries);
    run(model, &Arrivals::Poisson, rate, 5, span, &mut each, Some(&mut note)).unwrap();
    [records, journal].map(|text| Recording::read(text.as_bytes()).unwrap())
}

fn model_of(fit: &Fit) -> Model {
    Config::parse(&fit.cluster().to_string()).unwrap().models.swap_remove(0)
}

/// Twelve instances that are slow by 5 times in 2 % of the time.
fn slow(factor: f64) -> Model {
    let behavior = format!(
        r#"{{"service": {{"distribution": "log-normal", "median_ms": 20, "sigma": 0.1}},
            "slow": {{"share": 0.02, "length_ms": 300, "factor": {factor}}}, "errors": 0.002}}"#
    );
    cluster(&format!(r#"{{"count": 12, "behavior": {behavior}}}"#), "")
}

fn near(found: f64, expected: f64, share: f64) {
    assert!((found / expected - 1.0).abs() <= share, "{found}, expected {expected}");
}

#[test]
fn a_journal_gives_back_the_cluster_that_wrote_it() {
    let [_, journal] = recorded(&slow(5.0), 200.0, 60_000);
    let found = fit(&[journal], None).unwrap();
    assert_eq!((found.arrivals.law, found.alike.len(), found.capacity), (ArrivalLaw::Poisson, 1, 1));
    near(found.arrivals.rate, 200.0, 0.02);
    assert_eq!((found.alike[0].count, found.per_row_ms), (12, 0.0));
    let times = &found.alike[0].times;
    near(times[times.len() / 2], 20.0, 0.01);
    near(times[times.len() * 99 / 100], 20.0 * (0.1 * 2.326_f64).exp(), 0.02);
    let faults = found.faults.as_ref().unwrap();
    let Slow { share, length_ms, factor } = faults.slow.clone().unwrap();
    near(share, 0.02, 0.15);
    near(length_ms, 300.0, 0.1);
    near(factor, 5.0, 0.03);
    near(faults.errors, 0.002, 0.35);
    assert!(faults.crash.is_none() && faults.hangs == 0.0 && found.query.is_none());
}

#[test]
fn instances_with_different_times_have_laws_of_their_own() {
    let constant =
        |ms: u32| format!(r#""behavior": {{"service": {{"distribution": "exponential", "mean_ms": {ms}}}}}"#);
    let two = format!(
        r#"{{"count": 5, {}}}}}, {{"synthetic": {{"count": 1, "seed": 9, {}}}"#,
        constant(10),
        constant(30)
    );
    let [_, journal] = recorded(&cluster(&two, ""), 200.0, 20_000);
    let found = fit(&[journal], None).unwrap();
    assert_eq!(found.alike.iter().map(|alike| alike.count).collect::<Vec<_>>(), [5, 1]);
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    near(mean(&found.alike[0].times), 10.0, 0.03);
    near(mean(&found.alike[1].times), 30.0, 0.05);
    // Independent times are no slow periods, however long their tail.
    assert_eq!(found.faults.unwrap().slow, None);
}

#[test]
fn crashes_hangs_batches_and_capacity_are_found() {
    let behavior = r#"{"service": {"distribution": "normal", "mean_ms": 10, "deviation_ms": 1}, "per_row_ms": 2,
        "hangs": 0.001, "crash": {"every_ms": 9000, "down_ms": 400}}"#;
    let more = r#", "batch": {"max_size": 4, "delay_ms": 5}, "ejection": null, "deadline_ms": 9000"#;
    let mut model = cluster(&format!(r#"{{"count": 6, "behavior": {behavior}}}"#), more);
    model.instances[0].capacity = 2;
    let [_, journal] = recorded(&model, 300.0, 60_000);
    let found = fit(&[journal], None).unwrap();
    assert_eq!((found.capacity, found.alike[0].count), (2, 6));
    near(found.per_row_ms, 2.0, 0.05);
    let faults = found.faults.as_ref().unwrap();
    let crash = faults.crash.clone().unwrap();
    near(crash.down_ms, 400.0, 0.1);
    near(crash.every_ms, 9000.0, 0.25);
    near(faults.hangs, 0.001, 0.5);
    assert!(faults.errors < 1e-4, "{faults:?}");
    model_of(&found);
}

#[test]
fn records_and_the_number_of_instances_give_the_times_of_calls() {
    let service = r#"{"distribution": "log-normal", "median_ms": 20, "sigma": 0.4}"#;
    let model = cluster(&format!(r#"{{"count": 4, "behavior": {{"service": {service}}}}}"#), "");
    // Queries wait: 86 % of the capacity.
    let [records, journal] = recorded(&model, 160.0, 20_000);
    let alone = fit(&[records], Some(4)).unwrap();
    let named = fit(&[journal], None).unwrap();
    assert!(alone.faults.is_none() && alone.table().contains("slow       unknown"));
    let [alone, named] = [alone, named].map(|fit| fit.alike.into_iter().next().unwrap());
    assert_eq!((alone.count, alone.times.len(), named.count), (4, 20_000, 4));
    // The journal has the warm-up, too.
    for share in [0.01, 0.5, 0.99, 0.999] {
        let at = |times: &[f64]| times[(times.len() as f64 * share) as usize];
        near(at(&alone.times), at(&named.times), 0.02);
    }
}

#[test]
fn the_records_and_the_journal_of_a_run_give_the_time_outside_of_calls() {
    let query = r#"{"distribution": "quantiles", "quantiles": [[0, 0.5], [0.9, 0.6], [1, 3]]}"#;
    let mut model = slow(5.0);
    model.overhead.query = serde_json::from_str(query).unwrap();
    let found = fit(&recorded(&model, 100.0, 20_000), None).unwrap();
    let Some(Service::Quantiles { quantiles }) = found.query else { panic!("{found:?}") };
    let at = |share: f64| quantiles.iter().find(|point| point.0 >= share).unwrap().1;
    near(at(0.5), 0.5 + 0.1 * 5.0 / 9.0, 0.05);
    near(at(0.9), 0.6, 0.1);
    near(at(0.99), 0.6 + 2.4 * 0.9, 0.1);
}

fn trials(model: &Model, recording: &Recording) -> Vec<Trial> {
    let arrivals = Arrivals::new(Some(recording.trace().unwrap()), "", None).unwrap();
    let rate = recording.trace().unwrap().rate();
    let trial =
        |seed| run(model, &arrivals, rate, seed, (Duration::ZERO, u64::MAX), &mut |_| Ok(()), None).unwrap();
    (0..FEWEST as u64).map(trial).collect()
}

#[test]
fn a_fitted_cluster_predicts_its_run_and_one_with_a_policy_and_a_wrong_cluster_does_neither() {
    let [records, journal] = recorded(&slow(5.0), 200.0, 20_000);
    let found = model_of(&fit(&[journal], None).unwrap());
    let coded = |model: &Model| Model {
        redundancy: serde_json::from_str(r#"{"policy": "coded", "code": {"name": "sum", "k": 2}}"#).unwrap(),
        ..model.clone()
    };
    let missed = |model: &Model, run: &Recording| {
        let mut measured = Summary::new(1.0, 1);
        run.records.iter().for_each(|record| measured.add(record));
        let found = check(&measured, &trials(model, run), 0.05).unwrap();
        println!("{}", found.table());
        found.missed
    };
    assert!(missed(&found, &records).is_empty());
    // What was fitted without redundancy predicts what coding does.
    let [with_code, _] = recorded(&coded(&slow(5.0)), 200.0, 20_000);
    assert!(missed(&coded(&found), &with_code).is_empty());
    assert!(missed(&slow(2.0), &records).contains(&"p99.9"));
    let mut fewer = slow(5.0);
    fewer.instances[0].synthetic.as_mut().unwrap().count = 6;
    assert!(!missed(&fewer, &records).is_empty());
}

#[test]
fn what_files_cannot_tell_is_refused() {
    let [records, journal] = recorded(&slow(5.0), 200.0, 2000);
    let coded =
        r#", "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}}, "cancel_running": true"#;
    let service = r#""behavior": {"service": {"distribution": "exponential", "mean_ms": 20}}"#;
    let coded = cluster(&format!(r#"{{"count": 12, {service}}}"#), coded);
    let [rebuilt, cancelled] = recorded(&coded, 200.0, 2000);
    let mut failed = records.clone();
    failed.records.iter_mut().take(50).for_each(|record| record.outcome = parm_workload::Outcome::Timeout);
    let mut unanswered = journal.clone();
    unanswered.calls = Some(Vec::new());
    let mut late = records.clone();
    late.records.iter_mut().for_each(|record| record.ended_ns = record.intended_ns);
    let mut more = records.clone();
    more.records.extend(journal.records.clone());
    for (recordings, instances, expected) in [
        (vec![records.clone()], None, "records of requests do not say how many instances"),
        (vec![journal.clone()], Some(12), "found --instances with a journal"),
        (vec![journal.clone(), journal.clone()], None, "found 0 files of records of requests and 2 journals"),
        (vec![rebuilt], Some(12), "answers that no call of the deployed model alone gave"),
        (vec![failed], Some(12), "found 50 of 2000 requests without an answer, expected at most 1 %"),
        (vec![records.clone()], Some(1), "requests that ended before one of 1 instances was free"),
        (vec![cancelled], None, "calls that were cancelled while they ran, expected at most 1 %"),
        (vec![unanswered], None, "found no call with an answer"),
        (vec![late, journal.clone()], None, "answers that the client had before the server, expected none"),
        (vec![more, journal], None, "expected at least as many queries"),
    ] {
        let error = fit(&recordings, instances).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let mut short = records;
    short.records.truncate(1);
    assert!(matches!(fit(&[short], Some(12)).unwrap_err(), FitError::Trace(_)));
}
