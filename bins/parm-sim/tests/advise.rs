//! `parm-sim advise` as a process.

use std::fs;
use std::path::Path;

use parm_testkit::report::made_by;
use parm_testkit::{Outcome, Tool, code_dir, schema};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Twelve instances that are slow by 3 times in 6 % of the time, and what three codes are worth.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write =
        |name: &str, content: Value| fs::write(folder.path().join(name), content.to_string()).unwrap();
    let behavior = json!({
        "service": {"distribution": "normal", "mean_ms": 30, "deviation_ms": 1.5},
        "slow": {"share": 0.06, "length_ms": 500, "factor": 3},
    });
    let instances = json!([{"synthetic": {"count": 12, "behavior": behavior}}]);
    let model = json!({"name": "m", "placement": "pooled", "deadline_ms": 5000, "call_timeout_ms": 5000,
        "instances": instances});
    write("cluster.json", json!({"models": [model]}));
    let several = json!({"name": "m", "placement": "pooled", "instances": [instances[0], instances[0]]});
    write("several.json", json!({"models": [several]}));
    for (k, degraded) in [(2, 0.8868), (3, 0.7386)] {
        let scores = json!([{"score": "A_a", "value": 0.935}, {"score": "A_d", "value": degraded}]);
        write(&format!("k{k}.json"), json!({"format": 1, "k": k, "extra_workers": 1, "scores": scores}));
    }
    write("blind.json", json!({"format": 1, "k": 2, "extra_workers": 1, "scores": []}));
    write("nothing.json", json!({"format": 1, "k": null}));
    write("zero.json", json!({"format": 1, "k": 2, "extra_workers": 0}));
    code_dir::learned(&folder.path().join("code"), (2, 1), None, None);
    folder
}

fn advise(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-sim").within(folder).args("advise").args(arguments).run()
}

#[test]
fn the_choice_moves_with_the_target_and_the_load() {
    let folder = folder();
    let chosen = |arguments: &str| {
        let common = "cluster.json --accuracy k2.json --accuracy k3.json --queries 30000 --seeds 3 --json ";
        let outcome = advise(folder.path(), &(common.to_owned() + arguments));
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        schema::report("parm-sim", "advise", &outcome.stdout)
    };
    let of = |report: &Value, name: &str| {
        let all = report["candidates"].as_array().unwrap();
        all.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    // Replicas are too much, hedges meet slow instances, and within 60 ms only coding is.
    let strict = chosen("--rate 270 --budget 1.5 --target-p999 60");
    let best = strict["chosen"].as_str().unwrap();
    assert!(best.starts_with("k2 (k=2), pooled"), "{strict}");
    assert!(strict["why"].as_str().unwrap().contains("best overall accuracy"), "{strict}");
    assert_eq!(strict["policy"]["redundancy"]["policy"], "coded");
    let (made_by, inputs) = made_by(&strict, folder.path());
    assert_eq!(inputs, ["cluster.json", "k2.json", "k3.json"]);
    assert_eq!([&made_by.options["seeds"], &made_by.options["budget"]], [&json!(3), &json!(1.5)]);
    let (coded, equal) = (of(&strict, best), of(&strict, "equal"));
    assert!(coded["p99.9_ms"].as_f64() < Some(60.0) && equal["p99.9_ms"].as_f64() > Some(90.0));
    let rebuilt = coded["reconstructed"].as_f64().unwrap();
    let overall = (1.0 - rebuilt) * 0.935 + rebuilt * 0.8868;
    assert!((coded["A_o"].as_f64().unwrap() - overall).abs() < 1e-9, "{coded}");
    assert!(strict["candidates"].as_array().unwrap().iter().all(|entry| entry["instances"] == 18));
    // With time enough the exact answers win.
    let loose = chosen("--rate 270 --budget 1.5 --target-p999 500");
    assert!(!loose["chosen"].as_str().unwrap().contains("json"), "{loose}");
}

#[test]
fn the_search_for_the_smallest_fleet_has_no_regret_against_all_choices() {
    let folder = folder();
    let found = |arguments: &str, code: i32| {
        let common =
            "cluster.json --accuracy k2.json --rate 150 --queries 4000 --seeds 3 --budget 1.5 --json ";
        let outcome = advise(folder.path(), &(common.to_owned() + arguments));
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        schema::report("parm-sim", "advise", &outcome.stdout)
    };
    for target in ["p99.9<80ms", "p99<50ms,reconstructed<10%"] {
        let searched = found(&format!("--target {target}"), 0);
        let all = found(&format!("--target {target} --exhaustive"), 0);
        let number = |report: &Value, name: &str| report[name].as_u64().unwrap();
        assert_eq!(number(&all, "regret"), 0, "{all}");
        assert_eq!((&searched["instances"], &searched["regret"]), (&all["instances"], &Value::Null));
        assert_eq!((number(&searched, "choices"), searched["target"].as_str()), (8 * 18, Some(target)));
        assert!(number(&searched, "simulated") < 40, "{searched}");
        let (instances, chosen) = (number(&searched, "instances"), searched["chosen"].as_str().unwrap());
        assert!((2..18).contains(&instances), "{searched}");
        assert!(searched["held"].as_array().unwrap().iter().any(|name| name == chosen), "{searched}");
        let candidates = searched["candidates"].as_array().unwrap();
        assert!(candidates.iter().all(|candidate| candidate["instances"] == instances));
    }
    let none = found("--target p99<29ms", 4);
    assert_eq!((&none["instances"], &none["held"]), (&Value::Null, &json!([])));
    assert!(
        none["why"].as_str().unwrap().starts_with("p99<29ms does not hold with up to 18 instances"),
        "{none}"
    );
}

#[test]
fn the_table_marks_what_is_chosen_and_says_why() {
    let folder = folder();
    let outcome = advise(folder.path(), "cluster.json --accuracy k2.json --rate 270 --queries 5000");
    let table = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(table.lines().filter(|line| line.starts_with("* ")).count(), 1, "{table}");
    assert!(table.ends_with("accuracy counts only with --target-p999\n"), "{table}");
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = folder();
    for (arguments, code, expected) in [
        ("cluster.json --rate 9", 2, "--accuracy"),
        ("cluster.json --accuracy k2.json", 2, "--rate"),
        ("cluster.json --accuracy k2.json --rates 1,2", 2, "expected one: advice is for one load"),
        ("cluster.json --accuracy k2.json --rate 9 --target-p999 0", 2, "expected 1 to"),
        (
            "cluster.json --accuracy k2.json --rate 9 --target p99",
            2,
            "--target: found 'p99', expected a quantity",
        ),
        (
            "cluster.json --accuracy k2.json --rate 9 --target goodput>1",
            2,
            "--target: found goodput, expected other",
        ),
        ("cluster.json --accuracy k2.json --rate 9 --exhaustive", 2, "--target"),
        (
            "cluster.json --accuracy k2.json --rate 9 --target p99<9ms --target-p999 9",
            2,
            "cannot be used with",
        ),
        ("cluster.json --accuracy k2.json --rate 9 --budget 0.5", 1, "found a budget of 0.5"),
        ("several.json --accuracy k2.json --rate 9", 1, "found 2 entries"),
        ("nowhere.json --accuracy k2.json --rate 9", 1, "nowhere.json: cannot read"),
        ("cluster.json --accuracy nowhere.json --rate 9", 1, "nowhere.json: cannot read"),
        ("cluster.json --accuracy blind.json --rate 9", 1, "blind.json: found no A_a"),
        ("cluster.json --accuracy nothing.json --rate 9", 1, "nothing.json: found no k"),
        ("cluster.json --accuracy zero.json --rate 9", 1, "found k = 2 and 0 parities"),
        ("cluster.json --accuracy code --rate 9", 1, "it was not scored with labels"),
        ("cluster.json -m none --accuracy k2.json --rate 9", 1, "found none with the name 'none'"),
    ] {
        let outcome = advise(folder.path(), arguments);
        assert_eq!(outcome.code, code, "{arguments}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(expected), "{arguments}: {}", outcome.stderr);
    }
    // A file that is no JSON.
    fs::write(folder.path().join("text.json"), "scores").unwrap();
    let outcome = advise(folder.path(), "cluster.json --accuracy text.json --rate 9");
    assert!(
        outcome.stderr.contains("expected a code directory or the output of parm-score"),
        "{}",
        outcome.stderr
    );
}
