//! `parm-score --aggregate` as a process.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{f4, mask, u1};
use parm_testkit::report::made_by;
use parm_testkit::schema::check;
use parm_testkit::{Outcome, Tool};
use serde_json::{Value, json};

fn run(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-score").args(arguments).within(folder).run()
}

fn parsed(folder: &Path, arguments: &str) -> Value {
    serde_json::from_slice(&run(folder, arguments).output()).unwrap()
}

fn of<'a>(report: &'a Value, score: &str) -> &'a Value {
    let all = report["aggregates"].as_array().unwrap();
    all.iter().find(|of| of["score"] == score).unwrap_or_else(|| panic!("no {score}: {report}"))
}

/// A report of parm-score with this A_d.
fn scores(degraded: f64) -> Value {
    let entry =
        json!({"score": "A_d", "of": "reconstructed", "against": "truth", "top": 1, "value": degraded});
    json!({"format": 2, "task": "classify", "k": 2, "extra_workers": 1, "f": 0.1, "scores": [entry]})
}

fn close(found: &Value, expected: f64) {
    assert!(found.as_f64().is_some_and(|found| (found - expected).abs() < 1e-9), "{found} {expected}");
}

#[test]
fn a_score_over_seeds_is_compared_by_a_paired_test() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, degraded) in
        [("a0", 0.5), ("a1", 0.6), ("a2", 0.7), ("b0", 0.4), ("b1", 0.55), ("b2", 0.6), ("a3", 0.1)]
    {
        fs::write(path.join(format!("{name}.json")), scores(degraded).to_string()).unwrap();
    }
    let call = "--aggregate a0.json a1.json a2.json --versus b0.json b1.json b2.json";
    let report = parsed(path, &format!("{call} --json"));
    let schema = parsed(path, "--schema");
    check(&schema, &report);
    let (_, inputs) = made_by(&report, path);
    assert_eq!(inputs, ["a0", "a1", "a2", "b0", "b1", "b2"].map(|name| format!("{name}.json")));
    let of = of(&report, "A_d");
    close(&of["mean"], 0.6);
    close(&of["deviation"], 0.1);
    // 0.1 · 4.302653 / √3, with the quantile for two degrees of freedom.
    let half = 0.1 * (0.95_f64.powi(2) * 2.0 / (1.0 - 0.95_f64.powi(2))).sqrt() / 3.0_f64.sqrt();
    close(&of["low"], 0.6 - half);
    close(&of["high"], 0.6 + half);
    close(&of["versus"]["mean"], 0.55 / 3.0 + 1.0 / 3.0);
    // The differences are 0.1, 0.05 and 0.1; with two degrees of freedom F(t) = 1/2 + t / (2 √(2 + t²)).
    let difference = &of["difference"];
    close(&difference["mean"], 0.25 / 3.0);
    close(&difference["t"], 5.0);
    close(&difference["p"], 1.0 - 5.0 / 27.0_f64.sqrt());
    let table = String::from_utf8(run(path, call).output()).unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "score n mean deviation 95 % interval versus difference 95 % interval p");
    assert_eq!(lines[1][..4], ["A_d", "3", "0.6000", "0.1000"]);
    assert_eq!(lines[1][5..7], ["0.5167", "0.0833"]);
    assert_eq!(lines[1][8], "0.0377");
    // One report says nothing of others.
    let one = parsed(path, "--aggregate a0.json --json");
    check(&schema, &one);
    assert_eq!((&one["aggregates"][0]["n"], &one["aggregates"][0]["low"]), (&json!(1), &Value::Null));

    let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    write("other-k.json", &scores(0.5).to_string().replace("\"k\":2", "\"k\":4"));
    write("boxes.json", &scores(0.5).to_string().replace("classify", "boxes"));
    write("new.json", &scores(0.5).to_string().replace("\"format\":2", "\"format\":3"));
    write("run.json", r#"{"run": "a", "MAE": 0.5}"#);
    write("empty.json", "\n");
    write("code.json", r#"{"k": 2}"#);
    write("cut.json", &scores(0.5).to_string()[..20]);
    for (call, code, message) in [
        ("--aggregate a0.json a1.json --versus b0.json", 2, "--versus: found 1 report, expected 2 as"),
        ("--aggregate a0.json other-k.json", 1, "other-k.json: found k 4, expected 2 as a0.json has"),
        (
            "--aggregate a0.json --versus boxes.json",
            1,
            "found reports of the task \"boxes\", expected \"classify\"",
        ),
        ("--aggregate a0.json --versus run.json", 1, "--versus: found none of the scores of --aggregate"),
        ("--aggregate new.json", 1, "new.json: found format 3, expected 1 or 2"),
        ("--aggregate empty.json", 1, "empty.json: found an empty file"),
        ("--aggregate code.json", 1, "code.json: found no scores, expected JSON of parm-score"),
        ("--aggregate cut.json", 1, "cut.json: EOF"),
        ("--aggregate missing.json", 1, "missing.json: cannot open"),
        ("--versus a0.json --labels a0.json", 2, "--aggregate"),
        ("--aggregate a0.json --labels a0.json", 2, "--labels"),
        ("--aggregate - - ", 2, "-"),
    ] {
        let ended = run(path, call);
        assert_eq!((ended.code, ended.stdout.len()), (code, 0), "{call}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{call}: {}", ended.stderr);
    }
}

#[test]
fn reports_of_all_tools_and_formats_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v0.1.0");
    for name in ["score.json", "compare.json"] {
        fs::copy(old.join(name), path.join(name)).unwrap();
    }
    // Scores of now, of the same kind as those of version 0.1.0.
    fs::write(path.join("y.npy"), f4(&[4, 10], &[1.0, 2.0].repeat(20))).unwrap();
    fs::write(path.join("labels.npy"), u1(&[4], &[1, 3, 1, 0])).unwrap();
    fs::write(path.join("have.npy"), mask(&[true, true, false, false])).unwrap();
    let call = "--labels labels.npy --reference y.npy --available have.npy --json y.npy";
    fs::write(path.join("new.json"), run(path, call).output()).unwrap();
    let both = parsed(path, "--aggregate score.json new.json --json");
    for score in ["A_a", "A_d", "A_o", "A_all", "A_o:top-5", "agreement"] {
        assert_eq!(of(&both, score)["n"], 2, "{both}");
    }
    // Those of now have no other names.
    let alone = parsed(path, "--aggregate new.json --json")["aggregates"].as_array().unwrap().len();
    assert_eq!(both["aggregates"].as_array().unwrap().len(), alone, "{both}");

    let compared = parsed(path, "--aggregate compare.json --json");
    close(&of(&compared, "none:k2:1-lost:A_all")["mean"], 0.665_338_541_666_666_7);

    // Values, in both formats.
    fs::write(path.join("v.npy"), f4(&[4, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0])).unwrap();
    let call = "--task regress -k 2 --values v.npy --reference v.npy --available have.npy --json v.npy";
    fs::write(path.join("values.json"), run(path, call).output()).unwrap();
    let line = |name: &str| json!({"values": name, "against": "truth", "rows": 2, "r2": 1.0, "low": 0.9});
    let first = json!({"format": 1, "task": "regress", "values": [line("all"), line("all, none")]});
    fs::write(path.join("first.json"), first.to_string()).unwrap();
    for name in ["values.json", "first.json"] {
        let report = parsed(path, &format!("--aggregate {name} --json"));
        for score in ["all:truth:r2", "all:none:truth:r2"] {
            assert!(of(&report, score)["mean"].is_number(), "{report}");
        }
    }

    // The runs of a sweep that differ in their seeds; one run is compared with another.
    let run_of = |run: &str, seed: u64, degraded: f64| json!({"run": format!("{run}-s{seed}"), "k": 2, "seed": seed, "A_d": degraded, "n": 9, "IoU": {"mean": 0.5}});
    let lines = |runs: &[Value]| runs.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let sum = [run_of("sum", 1, 0.5), run_of("sum", 2, 0.7)];
    let concat = [run_of("concat", 1, 0.4), run_of("concat", 2, 0.5)];
    fs::write(path.join("sum.jsonl"), lines(&sum)).unwrap();
    fs::write(path.join("concat.jsonl"), lines(&concat)).unwrap();
    fs::write(path.join("all.jsonl"), lines(&[sum, concat].concat())).unwrap();
    let all = parsed(path, "--aggregate all.jsonl --json");
    assert_eq!((&of(&all, "sum:A_d")["n"], &of(&all, "concat:IoU:mean")["n"]), (&json!(2), &json!(2)));
    let two = parsed(path, "--aggregate sum.jsonl --versus concat.jsonl --json");
    close(&of(&two, "A_d")["difference"]["mean"], 0.15);
}
