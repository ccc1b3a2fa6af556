//! `parm-sim` as a process.

use std::fs;
use std::path::Path;

use parm_engine::journal::{Entry, Event, Given};
use parm_testkit::npy::f4;
use parm_testkit::report::made_by;
use parm_testkit::{Outcome, Tool, schema};
use parm_workload::Record;
use serde_json::{Value, json};
use tempfile::TempDir;

const CLUSTER: &str = r#"{"models": [{
    "name": "slow", "placement": "pooled", "deadline_ms": 5000, "call_timeout_ms": 5000, "ejection": null,
    "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}}, "answer": {"when": "grace", "ms": 36},
    "instances": [{"synthetic": {"count": 18, "behavior": {
        "service": {"distribution": "normal", "mean_ms": 30, "deviation_ms": 1.5},
        "slow": {"share": 0.01, "length_ms": 500, "factor": 5}}}}]}]}"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cluster.json"), CLUSTER).unwrap();
    folder
}

fn sim(folder: &Path, arguments: &[&str]) -> Outcome {
    let tool = Tool::new("parm-sim").within(folder).arg("cluster.json");
    arguments.iter().fold(tool, Tool::arg).run()
}

fn refused(folder: &Path, arguments: &[&str], code: i32, expected: &str) {
    let outcome = sim(folder, arguments);
    assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.stderr);
    assert!(outcome.stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
}

#[test]
fn policies_stand_side_by_side_and_threads_change_nothing() {
    let folder = folder();
    let policies = r#"[{"name": "equal", "redundancy": {"policy": "none"}}, {"name": "pooled"}]"#;
    fs::write(folder.path().join("policies.json"), policies).unwrap();
    let arguments =
        ["--policies", "policies.json", "--with", "{}", "--rates", "200,270", "--seeds", "3", "--json"];
    let run = |threads| {
        sim(folder.path(), &[&arguments[..], &["--queries", "20000", "--threads", threads]].concat())
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one.code, 0, "{}", one.stderr);
    assert_eq!(one.stdout, run("1").stdout);
    let [report, other] = [one, two].map(|outcome| {
        let mut report = schema::report("parm-sim", "", &outcome.stdout);
        let (made_by, inputs) = made_by(&report, folder.path());
        let options =
            ["seed", "seeds", "queries", "warm-up", "rate"].map(|name| made_by.options[name].clone());
        assert_eq!(options, [json!(0), json!(3), json!(20000), json!(1.0), json!([200.0, 270.0])]);
        assert_eq!(inputs, ["cluster.json", "policies.json"]);
        report.as_object_mut().unwrap().remove("made_by");
        report
    });
    assert_eq!(report, other);
    let runs = report["runs"].as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["equal", "equal", "pooled", "pooled", "{}", "{}"]);
    assert!(
        runs.iter().all(|run| (run["answered"].as_u64(), run["seeds"].as_u64()) == (Some(60_000), Some(3)))
    );
    let gap = |run: &Value| run["latency_ms"]["gap"].as_f64().unwrap();
    assert!(gap(&runs[1]) > 5.0 * gap(&runs[3]), "{report}");
    assert_eq!(runs[3]["latency_ms"], runs[5]["latency_ms"]);
}

#[test]
fn records_are_those_of_the_load_generator_and_a_trace() {
    let folder = folder();
    let outcome = sim(folder.path(), &["--rate", "270", "--queries", "2000", "--records", "records.jsonl"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let text = fs::read_to_string(folder.path().join("records.jsonl")).unwrap();
    let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2000);
    let again = sim(folder.path(), &["--trace", "records.jsonl", "--warm-up", "0", "-v"]);
    let table = String::from_utf8(again.stdout).unwrap();
    assert!(table.lines().nth(1).unwrap().contains(" 2000 "), "{table}");
    assert!(again.stderr.ends_with("parm-sim: 2000 queries\n"), "{}", again.stderr);
    fs::write(folder.path().join("times.npy"), f4(&[4], &[0.0, 1.0, 2.0, 3.0])).unwrap();
    let third = sim(folder.path(), &["--trace", "times.npy", "--warm-up", "0", "--rates", "1,50"]);
    let table = String::from_utf8(third.stdout).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn bursts_of_several_clients_have_the_rate_and_a_longer_tail() {
    let folder = folder();
    let p99 = |how: &str| {
        let outcome =
            sim(folder.path(), &["--rate", "270", "--queries", "20000", "--arrivals", how, "--json"]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let report = schema::report("parm-sim", "", &outcome.stdout);
        report["runs"][0]["latency_ms"]["p99"].as_f64().unwrap()
    };
    let [even, bursts] = [p99("poisson"), p99("poisson+2*on-off:500ms:2s")];
    assert!(bursts > 2.0 * even, "{bursts} {even}");
}

#[test]
fn servers_that_share_instances_are_slower_than_one() {
    let folder = folder();
    let p99 = |servers: &str| {
        let outcome =
            sim(folder.path(), &["--rate", "270", "--queries", "20000", "--servers", servers, "--json"]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let report = schema::report("parm-sim", "", &outcome.stdout);
        assert_eq!(report["runs"][0]["answered"], 20_000);
        report["runs"][0]["latency_ms"]["p99"].as_f64().unwrap()
    };
    let [one, three] = ["1", "3"].map(p99);
    assert!(three > 1.1 * one, "{three} {one}");
}

#[test]
fn a_journal_agrees_with_the_records() {
    let folder = folder();
    let arguments =
        ["--rate", "270", "--queries", "2000", "--warm-up", "0", "--journal", "j", "--records", "r"];
    let outcome = sim(folder.path(), &arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let lines = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    let records: Vec<Record> = lines("r").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let entries: Vec<Entry> = lines("j").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut answered = Vec::new();
    for entry in entries {
        match entry.event {
            Event::Answer { query, given: Given::Reconstructed { .. } } => {
                answered.push((query, entry.t_ns, 1));
            }
            Event::Answer { query, .. } => answered.push((query, entry.t_ns, 0)),
            _ => {}
        }
    }
    let recorded: Vec<_> =
        records.iter().map(|record| (record.query, record.ended_ns, record.reconstructed)).collect();
    assert_eq!(answered, recorded);
    assert!(recorded.iter().any(|record| record.2 == 1));
}

#[test]
fn trace_events_have_all_queries_and_no_two_calls_of_a_row_at_a_time() {
    let folder = folder();
    let outcome = sim(
        folder.path(),
        &["--rate", "270", "--queries", "2000", "--warm-up", "0", "--trace-events", "t.json"],
    );
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let text = fs::read_to_string(folder.path().join("t.json")).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &str| events.iter().filter(|event| event["ph"] == *phase).collect::<Vec<_>>();
    assert_eq!((of("b").len(), of("e").len()), (2000, 2000));
    assert!(of("e").iter().any(|event| event["args"]["outcome"] == "reconstructed"));
    let mut ends = std::collections::HashMap::new();
    let mut calls = of("X");
    calls.sort_by(|one, other| one["ts"].as_f64().unwrap().total_cmp(&other["ts"].as_f64().unwrap()));
    for call in &calls {
        let (begin, time) = (call["ts"].as_f64().unwrap(), call["dur"].as_f64().unwrap());
        let before = ends.insert(call["tid"].as_u64().unwrap(), begin + time);
        assert!(before.is_none_or(|end| end <= begin + 1e-3), "{call} begins before {before:?}");
    }
    assert_eq!(calls.iter().filter(|call| call["name"] == "deployed").count(), 2000);
    assert!(calls.iter().any(|call| call["name"] == "parity" && call["args"]["group"].is_u64()));
    // Eighteen instances of one call at a time have a row each.
    assert_eq!(of("M").len(), 2 + 18);
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("empty.json"), "[]").unwrap();
    fs::write(path.join("object.json"), "{}").unwrap();
    fs::write(path.join("rows.npy"), f4(&[2, 2], &[0.0; 4])).unwrap();
    fs::write(path.join("back.npy"), f4(&[2], &[1.0, 0.0])).unwrap();
    refused(path, &[], 2, "--rate");
    refused(path, &["--rate", "0"], 2, "expected 0.001");
    refused(
        path,
        &["--rate", "9", "-m", "none"],
        1,
        "found none with the name 'none', expected one of: slow",
    );
    let weekly = "--arrivals: found 'weekly', expected poisson, constant, gamma:CV";
    refused(path, &["--rate", "9", "--arrivals", "poisson+weekly"], 2, weekly);
    refused(path, &["--rate", "9", "--with", "3"], 2, "expected an object");
    refused(
        path,
        &["--rate", "9", "--with", r#"{"attempts": 0}"#],
        1,
        "cluster.json: models[0]: found max_attempts = 0",
    );
    let remote = r#"{"instances": [{"remote": {"url": "http://localhost"}}]}"#;
    refused(path, &["--rate", "9", "--with", remote], 1, "expected synthetic ones");
    refused(path, &["--rate", "9", "--policies", "empty.json"], 1, "found no policies");
    refused(path, &["--rate", "9", "--policies", "object.json"], 1, "expected a list of objects");
    refused(path, &["--rate", "9", "--policies", "nowhere.json"], 1, "nowhere.json: cannot read");
    refused(path, &["--rate", "9", "--records", "-"], 2, "expected a file");
    refused(
        path,
        &["--rate", "9", "--records", "r", "--seeds", "2"],
        2,
        "found 1 models or policies and 2 seeds",
    );
    refused(
        path,
        &["--rate", "9", "--records", "r", "--queries", "10000001"],
        2,
        "expected at most 10000000",
    );
    refused(path, &["--rate", "9", "--journal", "-"], 2, "--journal -: standard output is for the table");
    refused(path, &["--rate", "9", "--journal", "j", "--seeds", "2"], 2, "--journal: found 1 models");
    refused(
        path,
        &["--rate", "9", "--servers", "2", "--journal", "j"],
        2,
        "--journal: found 2 servers, expected",
    );
    refused(path, &["--rate", "9", "--servers", "0"], 2, "0 is not in 1..=1000");
    refused(path, &["--rates", "9,8", "--journal", "j"], 2, "--journal: found 2 rates, expected one");
    refused(
        path,
        &["--rates", "9,8", "--trace-events", "t"],
        2,
        "--trace-events: found 2 rates, expected one",
    );
    refused(
        path,
        &["--rate", "9", "--trace-events", "-"],
        2,
        "--trace-events -: standard output is for the table",
    );
    refused(path, &["--trace", "rows.npy"], 1, "expected times: one number a row");
    refused(path, &["--trace", "back.npy"], 1, "back.npy: time 1: found 0 s after 1 s");
    refused(path, &["--trace", "empty.json"], 1, "empty.json");
    let nowhere = Tool::new("parm-sim").args("nowhere.json --rate 1").run();
    assert!(nowhere.code == 1 && nowhere.stderr.contains("nowhere.json: cannot read"), "{}", nowhere.stderr);
}
