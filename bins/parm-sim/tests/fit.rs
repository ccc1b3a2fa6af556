//! `parm-sim fit` and `parm-sim check` as processes.

use std::fs;

use parm_testkit::report::made_by;
use parm_testkit::{Tool, schema};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A recorded run of four instances that are slow for a while, and its journal.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let behavior = json!({
        "service": {"distribution": "normal", "mean_ms": 10, "deviation_ms": 0.5},
        "slow": {"share": 0.03, "length_ms": 200, "factor": 4},
    });
    let cluster = |count: u32| {
        json!({"models": [{"name": "m", "placement": "pooled",
            "instances": [{"synthetic": {"count": count, "behavior": behavior}}]}]})
    };
    for (name, content) in [("true.json", cluster(4)), ("wrong.json", cluster(2))] {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    let run = "true.json --rate 150 --queries 10000 --warm-up 1 --records r.jsonl --journal j.jsonl.zst";
    assert_eq!(Tool::new("parm-sim").within(folder.path()).args(run).run().code, 0);
    folder
}

#[test]
fn a_run_is_fitted_and_predicted() {
    let folder = folder();
    let tool = |arguments: &str| Tool::new("parm-sim").within(folder.path()).args(arguments).run();
    let text = tool("fit j.jsonl.zst -o cluster.json");
    assert_eq!(text.code, 0, "{}", text.stderr);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("arrivals   poisson, 1"), "{text}");
    assert!(text.contains("\nslow       ") && text.contains(" ms each, 4.0"), "{text}");
    // The last line is a command.
    let command = text.lines().last().unwrap().split_once("parm-sim ").unwrap().1;
    let again = tool(&format!("{command} --queries 1000"));
    assert_eq!(again.code, 0, "{}", again.stderr);

    let report = tool("fit j.jsonl.zst r.jsonl -o both.json --json");
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let (_, inputs) = made_by(&report, folder.path());
    assert_eq!(inputs, ["j.jsonl.zst", "r.jsonl"]);
    assert_eq!((&report["arrivals"]["law"], &report["cluster"]), (&json!("poisson"), &json!("both.json")));
    assert!(report["faults"]["slow"]["share"].as_f64().is_some(), "{report}");

    let predicted = tool("check r.jsonl cluster.json --json");
    assert_eq!(predicted.code, 0, "{}", predicted.stderr);
    let report = schema::report("parm-sim", "check", &predicted.stdout);
    let (made_by, inputs) = made_by(&report, folder.path());
    assert_eq!(
        (inputs, &made_by.options["seeds"]),
        (vec!["cluster.json".to_owned(), "r.jsonl".to_owned()], &json!(39))
    );
    assert_eq!((&report["predicts"], &report["missed"]), (&json!(true), &json!([])));
    assert!(report["mape"].as_f64() < Some(0.05), "{report}");
    let table = String::from_utf8(tool("check j.jsonl.zst cluster.json").stdout).unwrap();
    assert!(table.contains("the cluster predicts the run"), "{table}");

    let wrong = tool("check r.jsonl wrong.json");
    assert_eq!(wrong.code, 4, "{}", wrong.stderr);
    let table = String::from_utf8(wrong.stdout).unwrap();
    assert!(table.contains("the cluster does not predict the run: mean"), "{table}");
    // The run had another policy.
    let replicated = r#"{"redundancy": {"policy": "replicate", "copies": 2}}"#;
    let other = Tool::new("parm-sim").within(folder.path()).args("check r.jsonl true.json --with");
    assert_eq!(other.arg(replicated).run().code, 4);
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("text"), "no records\n").unwrap();
    for (arguments, code, expected) in [
        ("fit r.jsonl -o c.json", 1, "r.jsonl: records of requests do not say how many instances there were"),
        ("fit r.jsonl", 2, "--output"),
        ("fit r.jsonl --instances 4 -o -", 2, "--output -: standard output is for what was found"),
        ("fit text -o c.json", 1, "text: line 1: expected a record of a request"),
        ("fit nowhere -o c.json", 1, "nowhere: cannot"),
        ("check r.jsonl nowhere.json", 1, "nowhere.json: cannot read"),
        ("check text true.json", 1, "text: line 1: expected a record"),
        ("check r.jsonl true.json --seeds 38", 2, "38 is not in 39..=100000"),
        ("check r.jsonl true.json --tolerance 101", 2, "expected 0 to 100"),
        ("check r.jsonl true.json --with 3", 2, "expected an object"),
        ("check r.jsonl true.json -m none", 1, "found none with the name 'none'"),
    ] {
        let outcome = Tool::new("parm-sim").within(folder.path()).args(arguments).run();
        assert_eq!(outcome.code, code, "{arguments}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(expected), "{arguments}: {}", outcome.stderr);
    }
    assert!(!folder.path().join("c.json").exists());
    let lost =
        fs::read_to_string(folder.path().join("r.jsonl")).unwrap().replace(r#""answered""#, r#""timeout""#);
    fs::write(folder.path().join("lost.jsonl"), lost).unwrap();
    let outcome = Tool::new("parm-sim").within(folder.path()).args("check lost.jsonl true.json").run();
    assert!(
        outcome.code == 1 && outcome.stderr.contains("lost.jsonl: found no answers"),
        "{}",
        outcome.stderr
    );
}
