//! `parm-score` as a process.

use std::fs;
use std::path::Path;

use parm::hash::sha256;
use parm_testkit::npy::{f4, item, mask, u1};
use parm_testkit::report::made_by;
use parm_testkit::schema::{check, follows};
use parm_testkit::{Outcome, Tool};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Five rows of three classes: rows 0 to 2 are right, row 3 is right in the top 2, row 4 is wrong.
fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes| fs::write(folder.path().join(name), bytes).unwrap();
    let rows = [[9., 1., 0.], [0., 9., 1.], [0., 1., 9.], [5., 6., 0.], [7., 8., 9.]];
    write("y.npy", f4(&[5, 3], rows.as_flattened()));
    write("labels.npy", u1(&[5], &[0, 1, 2, 0, 0]));
    write("have.npy", mask(&[true, true, false, false, false]));
    write("solved.npy", mask(&[true, true, true, true, false]));
    let reference = [[9., 1., 0.], [0., 9., 1.], [0., 1., 9.], [6., 5., 0.], [9., 8., 7.]];
    write("reference.npy", f4(&[5, 3], reference.as_flattened()));
    folder
}

fn score(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-score").args(arguments).within(folder).run()
}

fn json(folder: &Path, arguments: &str) -> Value {
    let output = score(folder, &format!("--json {arguments}")).output();
    serde_json::from_slice(&output).expect("JSON")
}

/// The name of what a score is about, after a name of it: as in tables.
fn called(entry: &Value, name: &Value) -> String {
    let name = name.as_str().unwrap();
    match (&entry["lost"], &entry["baseline"]) {
        (Value::Null, Value::Null) => name.to_owned(),
        (Value::Null, baseline) => format!("{name}:{}", baseline.as_str().unwrap()),
        (lost, _) => format!("{name}:{lost}-lost"),
    }
}

/// One score of a report in JSON.
fn value<'a>(report: &'a Value, score: &str, top: u64) -> &'a Value {
    let scores = report["scores"].as_array().unwrap();
    let is_it = |entry: &&Value| {
        called(entry, &entry["score"]) == score && (entry["top"] == top || entry["top"].is_null())
    };
    &scores.iter().find(is_it).unwrap_or_else(|| panic!("no {score} top {top}"))["value"]
}

/// The scores of values, embeddings or boxes in one line of the table, and its rows.
fn line(report: &Value, name: &str, against: &str) -> Value {
    let scores = report["scores"].as_array().unwrap();
    let is_in = |entry: &&Value| called(entry, &entry["of"]) == name && entry["against"] == against;
    let mut line = serde_json::Map::new();
    for entry in scores.iter().filter(is_in) {
        line.insert("rows".into(), entry["rows"].clone());
        line.insert(entry["score"].as_str().unwrap().into(), entry["value"].clone());
        for end in ["low", "high"].into_iter().filter(|&end| !entry[end].is_null()) {
            line.insert(end.into(), entry[end].clone());
        }
    }
    assert!(!line.is_empty(), "no {name} against {against}: {report}");
    line.into()
}

#[test]
fn a_report_says_how_it_was_made_and_of_what() {
    let folder = stage();
    let path = folder.path();
    let of = |arguments: &str, stdin: &[u8]| {
        let call = Tool::new("parm-score").args("--json").args(arguments).within(path).stdin(stdin);
        made_by(&serde_json::from_slice(&call.run().output()).unwrap(), path)
    };
    let call = "--labels labels.npy --available have.npy -f 0.25";
    let (classes, inputs) = of(call, &fs::read(path.join("y.npy")).unwrap());
    assert!(classes.command.ends_with(&format!("parm-score --json {call}")), "{}", classes.command);
    let options = ["unavailable-fraction", "seed", "k", "labels", "solved", "PREDICTIONS.npy"];
    let expected = [json!(0.25), json!(0), json!(1), json!("labels.npy"), json!(null), json!("-")];
    assert_eq!(options.map(|name| classes.options[name].clone()), expected);
    assert_eq!(inputs, ["-", "have.npy", "labels.npy"]);
    let stream = &classes.inputs[0];
    assert_eq!((stream.pipe, &stream.sha256), (true, &sha256(&path.join("y.npy")).ok()));
    let (_, inputs) = of("--task embed --available have.npy --reference reference.npy y.npy", &[]);
    assert_eq!(inputs, ["y.npy", "have.npy", "reference.npy"]);
}

#[test]
fn reports_of_all_tasks_follow_their_schema() {
    let folder = stage();
    let path = folder.path();
    let schema: Value = serde_json::from_slice(&score(path, "--schema").output()).unwrap();
    assert_eq!(schema["$defs"]["Report"]["properties"]["format"]["const"], 2);
    for call in [
        "-k 2 --labels labels.npy --available have.npy --solved solved.npy --reference reference.npy y.npy",
        "--reference reference.npy --available have.npy y.npy",
        "--task embed --available have.npy --reference reference.npy --labels labels.npy y.npy",
        "--task regress -k 2 --values reference.npy --available have.npy --reference reference.npy y.npy",
    ] {
        check(&schema, &json(path, call));
    }
    let mut wrong = json(path, "--labels labels.npy y.npy");
    wrong["scores"][0]["of"] = "some".into();
    assert!(follows(&schema, &wrong).is_err());
    let ended = score(path, "--schema --labels labels.npy");
    assert_eq!((ended.code, ended.stdout.len()), (2, 0), "{}", ended.stderr);
}

#[test]
fn predictions_of_one_number_are_scored_as_values() {
    let folder = stage();
    let path = folder.path();
    let write = |name: &str, bytes| fs::write(path.join(name), bytes).unwrap();
    write("own.npy", f4(&[5, 1], &[1000., 1002., 1004., 1006., 1000.]));
    write("flat.npy", f4(&[5], &[1000., 1002., 1004., 1006., 1000.]));
    write("rebuilt.npy", f4(&[5, 1], &[1000., 1002., 1003., 1007., 7.]));
    let call = "--available have.npy --solved solved.npy";
    for reference in ["own.npy", "flat.npy"] {
        let report = json(path, &format!("{call} --reference {reference} rebuilt.npy"));
        let [available, rebuilt, all] =
            ["available", "reconstructed", "all"].map(|name| line(&report, name, "deployed"));
        assert_eq!(
            (&available["rows"], &available["mae"], &available["r2"]),
            (&json!(2), &json!(0.0), &json!(1.0))
        );
        // 1003 and 1007 for 1004 and 1006: errors of 2, a scatter of 2.
        assert_eq!(
            (&rebuilt["rows"], &rebuilt["mse"], &rebuilt["r2"]),
            (&json!(2), &json!(1.0), &json!(0.0))
        );
        // What nothing rebuilt is guessed: the mean is 1002.4.
        assert_eq!(all["rows"], 5);
        assert!((all["mae"].as_f64().unwrap() - (1.0 + 1.0 + 2.4) / 5.0).abs() < 1e-9, "{all}");
        assert_eq!((&report["unsolved"], &report["task"]), (&json!(1), &json!("regress")));
    }
    // The deviation is √5.44 = 2.33: errors of 1 are within half of it, and beyond a fifth.
    for (tolerance, agreement) in [("0.5", 1.0), ("0.2", 0.0)] {
        let call = format!("{call} --reference own.npy --tolerance {tolerance} rebuilt.npy");
        assert_eq!(line(&json(path, &call), "reconstructed", "deployed")["agreement"], agreement);
    }
    let table = score(path, &format!("{call} --reference own.npy rebuilt.npy")).output();
    let table = String::from_utf8(table).unwrap();
    let words: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(words[..4], ["reconstructed", "deployed", "2", "0.0000"], "{table}");
    write("x.npy", f4(&[4], &[0.; 4]));
    write("nan.npy", f4(&[5, 1], &[1000., 1002., 1004., f32::NAN, 1000.]));
    for (options, code, found) in [
        (
            "--labels labels.npy rebuilt.npy",
            2,
            "found --labels, but a prediction of the task regress has no classes",
        ),
        (
            &*format!("{call} --reference reference.npy rebuilt.npy"),
            1,
            "found rows of f4[3], expected floats [1]",
        ),
        (&*format!("{call} --reference x.npy rebuilt.npy"), 1, "x.npy: found 4 rows, expected as many as"),
        (
            &*format!("{call} --reference own.npy nan.npy"),
            1,
            "nan.npy: row 3: found a value that is not finite",
        ),
        (
            &*format!("{call} --reference nan.npy own.npy"),
            1,
            "nan.npy: row 3: found a value that is not finite",
        ),
        (
            "--available have.npy --reference own.npy nan.npy",
            1,
            "row 3: found a value that is not finite, expected numbers; --solved leaves out what could not",
        ),
        (
            "--values own.npy --task embed rebuilt.npy",
            2,
            "--task embed: found --values, which goes with --task regress",
        ),
        (
            "--task classify --available have.npy --reference own.npy rebuilt.npy",
            2,
            "--task classify: found predictions of one number",
        ),
        ("--values own.npy --tolerance 0 rebuilt.npy", 2, "--tolerance"),
    ] {
        let ended = score(path, options);
        assert!(
            ended.code == code && ended.stderr.contains(found),
            "{options}: {} {}",
            ended.code,
            ended.stderr
        );
        assert_eq!(
            ended.stderr.lines().count(),
            if found == "--tolerance" { 3 } else { 1 },
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn values_are_scored_against_the_truth_and_the_deployed_model_beside_the_baselines() {
    let folder = stage();
    let path = folder.path();
    let write = |name: &str, bytes| fs::write(path.join(name), bytes).unwrap();
    // Two values a row; the deployed model is wrong by 1 in the first of each row.
    let truth = [[0., 0.], [4., 0.], [0., 8.], [4., 8.]];
    let own = truth.map(|[a, b]| [a + 1., b]);
    let rebuilt = [own[0], [5., 2.], own[2], [5., 6.]];
    for (name, rows) in [("truth.npy", truth), ("own.npy", own), ("rebuilt.npy", rebuilt)] {
        write(name, f4(&[4, 2], rows.as_flattened()));
    }
    write("some.npy", mask(&[true, false, true, false]));
    let call = "--values truth.npy --available some.npy --reference own.npy -k 2 rebuilt.npy";
    let report = json(path, call);
    let of = |name: &str, against: &str, key: &str| line(&report, name, against)[key].as_f64().unwrap();
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    // Rows 0 and 2 scatter by 32 in the second value, and so do rows 1 and 3.
    close(of("available", "truth", "r2"), 1. - 2. / 32.);
    close(of("reconstructed", "truth", "r2"), 1. - (2. + 8.) / 32.);
    close(of("reconstructed", "truth", "mae"), 6. / 4.);
    close(of("reconstructed", "deployed", "r2"), 1. - 8. / 32.);
    // All rows scatter by 16 and 64; the mean is [3, 4] for the deployed model.
    close(of("all", "truth", "r2"), 1. - 12. / 80.);
    let guessed =
        |rows: &[[f64; 2]]| rows.iter().map(|[a, b]| (a - 3.).powi(2) + (b - 4.).powi(2)).sum::<f64>();
    close(of("all:none", "truth", "r2"), 1. - (2. + guessed(&[[4., 0.], [4., 8.]])) / 80.);
    // The spare worker has the first query of a group, and here the second ones are lost.
    close(of("all:replicate", "truth", "r2"), of("all:none", "truth", "r2"));
    let two = json(path, &format!("-r 2 {call}"));
    close(line(&two, "all:replicate", "truth")["r2"].as_f64().unwrap(), 1. - 4. / 80.);
    // The truth alone is enough.
    let alone = json(path, "--values truth.npy own.npy");
    close(line(&alone, "available", "truth")["mae"].as_f64().unwrap(), 0.5);
    assert!(line(&alone, "reconstructed", "truth")["r2"].is_null());
    let copies = json(path, "--values truth.npy --copies 1 --seed 3 own.npy");
    let found = line(&copies, "all", "truth");
    assert!(found["low"].as_f64() <= found["r2"].as_f64() && found["r2"].as_f64() <= found["high"].as_f64());
}

#[test]
fn embeddings_are_scored_by_their_cosine_and_their_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, bytes| fs::write(path.join(name), bytes).unwrap();
    // Twenty-four directions of two classes; the rebuilt ones of the second half are turned to the other class.
    let rows = 24;
    let at = |degrees: f64, length: f64| {
        let angle = degrees.to_radians();
        [(angle.cos() * length) as f32, (angle.sin() * length) as f32]
    };
    let label = |row: usize| u8::from(row % 12 >= 6);
    let angle = |row: usize| (row % 6) as f64 + 4.0 * (row / 12) as f64 / 7.0 + 90.0 * f64::from(label(row));
    let own: Vec<[f32; 2]> = (0..rows).map(|row| at(angle(row), 1.0)).collect();
    let turned: Vec<[f32; 2]> =
        (0..rows).map(|row| at(angle(row) + if row < 12 { 0.0 } else { 90.0 }, 3.0)).collect();
    write("own.npy", f4(&[rows, 2], own.as_flattened()));
    write("turned.npy", f4(&[rows, 2], turned.as_flattened()));
    write("labels.npy", u1(&[rows], &(0..rows).map(label).collect::<Vec<_>>()));
    write("none.npy", mask(&vec![false; rows]));
    write("half.npy", mask(&(0..rows).map(|row| row >= 12).collect::<Vec<_>>()));
    let call = "--task embed --reference own.npy --labels labels.npy -k 2";
    let report = json(path, &format!("{call} --available none.npy turned.npy"));
    let found = line(&report, "reconstructed", "deployed");
    let value = |key: &str| found[key].as_f64().unwrap();
    assert!((value("cosine") - 0.5).abs() < 1e-6 && value("agreement") == 0.5, "{found}");
    // Rows of class 0 that were turned find those of class 1. Rows of class 1 still find their own class, but for
    // ten of its eleven others they find those that are farthest from class 0.
    assert_eq!((value("label_recall_10"), value("label_share_10")), (0.75, 0.75));
    assert!((0.7..0.75).contains(&value("recall_10")), "{found}");
    // Equal directions of another length are the same embeddings.
    let half = json(path, &format!("{call} --available half.npy turned.npy"));
    let found = line(&half, "reconstructed", "deployed");
    assert_eq!((&found["rows"], &found["recall_10"]), (&json!(12), &json!(1.0)));
    assert_eq!((&found["label_recall_10"], &found["label_share_10"]), (&json!(1.0), &json!(1.0)));
    let none = line(&half, "all:none", "deployed");
    assert!(none["cosine"].as_f64() < line(&half, "all", "deployed")["cosine"].as_f64());
    assert!(none["recall_10"].as_f64() < Some(0.8), "{none}");
    for (options, code, message) in [
        ("--task embed --labels labels.npy own.npy", 2, "own.npy: found embeddings, expected --reference"),
        (
            "--task embed --available none.npy --reference labels.npy own.npy",
            1,
            "labels.npy: found rows of u1[]",
        ),
        (
            "--task embed --available none.npy --reference own.npy labels.npy",
            1,
            "expected embeddings: floats [d]",
        ),
        (
            "--task classify --boxes own.npy own.npy",
            2,
            "--task classify: found --boxes, which goes with --task boxes",
        ),
    ] {
        let ended = score(path, options);
        assert!(
            ended.code == code && ended.stderr.contains(message),
            "{options}: {} {}",
            ended.code,
            ended.stderr
        );
    }
    write("few.npy", u1(&[3], &[0, 1, 0]));
    let ended = score(path, "--task embed --available none.npy --reference own.npy --labels few.npy own.npy");
    assert!(ended.stderr.contains("few.npy: found 3 labels, expected 24"), "{}", ended.stderr);
}

#[test]
fn all_scores_as_json() {
    let folder = stage();
    let report =
        json(folder.path(), "--labels labels.npy --available have.npy --reference reference.npy y.npy");
    let third = 1.0 / 3.0;
    assert_eq!(
        (&report["format"], &report["available"], &report["reconstructed"]),
        (&json!(2), &json!(2), &json!(3))
    );
    assert_eq!(value(&report, "agreement", 1), &json!(third));
    assert_eq!(value(&report, "A_a", 1), &json!(1.0));
    assert_eq!(value(&report, "A_d", 1), &json!(third));
    assert_eq!(value(&report, "A_d", 2), &json!(2.0 * third));
    assert_eq!(value(&report, "A_all", 1), &json!(0.6));
    assert!((value(&report, "A_o", 1).as_f64().unwrap() - (0.9 + 0.1 * third)).abs() < 1e-12);
    let tops = report["scores"].as_array().unwrap().iter().filter_map(|entry| entry["top"].as_u64()).max();
    assert_eq!(tops, Some(2), "top 5 to 20 of three classes say nothing");
}

#[test]
fn unsolved_rows_are_counted_apart_and_wrong_in_overall() {
    let folder = stage();
    let call = "--labels labels.npy --available have.npy --solved solved.npy -f 0.5 y.npy";
    let report = json(folder.path(), call);
    assert_eq!((&report["unsolved"], &report["reconstructed"]), (&json!(1), &json!(2)));
    assert_eq!(value(&report, "A_d", 1), &json!(0.5));
    assert!((value(&report, "A_o", 1).as_f64().unwrap() - (0.5 + 0.5 / 3.0)).abs() < 1e-12);
    assert_eq!(value(&report, "A_all", 1), &json!(0.6));
}

#[test]
fn the_table_has_a_line_per_score() {
    let folder = stage();
    let call = "--labels labels.npy --available have.npy --solved solved.npy --reference reference.npy --top 1,2 y.npy";
    let table = String::from_utf8(score(folder.path(), call).output()).unwrap();
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["rows", "top-1", "95", "%", "interval", "top-2"]);
    let expected = [
        ("A_a", "2", "1.0000", Some("1.0000")),
        ("A_d", "2", "0.5000", Some("1.0000")),
        ("A_o(0.1)", "-", "0.9333", Some("0.9667")),
        ("A_all", "5", "0.6000", Some("0.8000")),
        ("agreement", "2", "0.5000", None),
    ];
    for (words, (name, rows, top1, top2)) in words[1..].iter().zip(expected) {
        assert_eq!((words[0], words[1], words[2], words.get(4).copied()), (name, rows, top1, top2));
    }
    assert_eq!(words[6], ["unsolved", "1"]);
}

#[test]
fn groups_give_losses_intervals_and_baselines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes| fs::write(folder.path().join(name), bytes).unwrap();
    // Four groups of two, all deployed predictions right; groups 0 and 1 lose slot 0, group 2 both.
    let right = [1.0_f32, 0.0].repeat(8);
    let mut rebuilt = right.clone();
    rebuilt[4..6].copy_from_slice(&[0.0, 1.0]);
    write("y.npy", f4(&[8, 2], &rebuilt));
    write("deployed.npy", f4(&[8, 2], &right));
    write("labels.npy", u1(&[8], &[0; 8]));
    write("have.npy", mask(&[false, true, false, true, false, false, true, true]));
    write("solved.npy", mask(&[true, true, true, true, false, false, true, true]));
    let call =
        "-k 2 --labels labels.npy --available have.npy --solved solved.npy --reference deployed.npy y.npy";
    let report = json(folder.path(), call);
    assert_eq!(value(&report, "A_all:0-lost", 1), &json!(1.0));
    assert_eq!(value(&report, "A_all:1-lost", 1), &json!(0.75));
    assert_eq!(value(&report, "A_all:2-lost", 1), &json!(0.0));
    // Of four lost predictions `none` guesses all, one of two right; a spare worker has three of them.
    assert_eq!(value(&report, "A_all:none", 1), &json!((4.0 + 0.5 * 4.0) / 8.0));
    assert_eq!(value(&report, "A_all:replicate", 1), &json!((7.0 + 0.5) / 8.0));
    let interval =
        report["scores"].as_array().unwrap().iter().find(|entry| entry["score"] == "A_all").unwrap();
    let [low, value, high] = ["low", "value", "high"].map(|key| interval[key].as_f64().unwrap());
    assert!(low < value && value < high, "{interval}");
}

#[test]
fn confidences_are_judged_and_calibrated() {
    let folder = stage();
    // Reconstructions are rows 2 to 4, of which row 2 is right.
    fs::write(folder.path().join("c.npy"), f4(&[5], &[1.0, 1.0, 0.5, 0.25, 0.75])).unwrap();
    let call = "--labels labels.npy --available have.npy --confidence c.npy --calibrate c.json y.npy";
    assert_eq!(json(folder.path(), call)["auroc"], json!(0.5));
    let fit: Value = serde_json::from_slice(&fs::read(folder.path().join("c.json")).unwrap()).unwrap();
    assert_eq!(fit, json!({"format": 1, "points": [[0.25, 0.0], [0.625, 0.5]]}));
    for (bytes, message) in [
        (f4(&[4], &[0.5; 4]), "c.npy: found 4 confidences, expected 5"),
        (f4(&[5], &[0.5, 0.5, 0.5, 0.5, 2.0]), "c.npy: row 4: found confidence 2, expected 0 to 1"),
        (u1(&[5], &[0; 5]), "c.npy: found rows of u1[], expected confidences"),
    ] {
        fs::write(folder.path().join("c.npy"), bytes).unwrap();
        let refused = score(folder.path(), call);
        assert!(refused.code == 1 && refused.stderr.contains(message), "{}", refused.stderr);
    }
}

#[test]
fn labels_alone_score_available_predictions() {
    let folder = stage();
    let report = json(folder.path(), "--labels labels.npy y.npy");
    assert_eq!((&report["available"], value(&report, "A_a", 1)), (&json!(5), &json!(0.6)));
    assert_eq!(value(&report, "A_d", 1), &Value::Null);
}

#[test]
fn agreement_needs_no_labels() {
    let folder = stage();
    let report = json(folder.path(), "--reference reference.npy --available have.npy y.npy");
    assert_eq!(report["scores"].as_array().map(Vec::len), Some(1));
    assert!(value(&report, "agreement", 1).is_number());
}

#[test]
fn copies_are_scored_against_the_same_labels() {
    let folder = stage();
    let twice = |name: &str| {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(format!("2{name}")), [&*bytes, &*bytes].concat()).unwrap();
    };
    twice("y.npy");
    twice("have.npy");
    let report = json(folder.path(), "--labels labels.npy --available 2have.npy --copies 2 2y.npy");
    assert_eq!((&report["rows"], value(&report, "A_a", 1)), (&json!(10), &json!(1.0)));
    let refused = score(folder.path(), "--labels labels.npy 2y.npy");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("found 5 rows") && refused.stderr.contains("--copies"),
        "{}",
        refused.stderr
    );
}

#[test]
fn labels_of_any_integer_type_are_read() {
    let folder = stage();
    let wide: Vec<u8> = [0_i64, 1, 2, 0, 0].iter().flat_map(|label| label.to_be_bytes()).collect();
    fs::write(folder.path().join("wide.npy"), item(">i8", &[5], &wide)).unwrap();
    let [narrow, wide] =
        ["labels.npy", "wide.npy"].map(|labels| json(folder.path(), &format!("--labels {labels} y.npy")));
    assert_eq!(wide["scores"], narrow["scores"]);
}

#[test]
fn boxes_are_scored_by_their_intersection_over_union() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
    // The same, one half shared, apart, an empty one.
    let truth = [[0.0, 0.0, 2.0, 2.0]; 4].concat();
    let found =
        [[0.0, 0.0, 2.0, 2.0], [0.0, 1.0, 2.0, 1.0], [5.0, 5.0, 1.0, 1.0], [0.0, 0.0, -1.0, 2.0]].concat();
    write("truth.npy", f4(&[4, 4], &truth));
    write("p.npy", f4(&[8, 4], &[found.clone(), truth.clone()].concat()));
    write("have.npy", mask(&[true, true, false, false, true, true, true, true]));
    let call = |arguments: &str| Tool::new("parm-score").args(arguments).within(folder.path()).run();
    let table =
        String::from_utf8(call("--boxes truth.npy --available have.npy --copies 2 -k 2 p.npy").output())
            .unwrap();
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1][..4], ["available", "truth", "6", "0.9167"]);
    assert_eq!(words[1][5..], ["1.0000", "0.8333"]);
    assert_eq!(words[2], ["reconstructed", "truth", "2", "0.0000", "-", "0.0000", "0.0000"]);
    assert_eq!(words[3][..4], ["all", "truth", "8", "0.6875"]);
    let json = call("--boxes truth.npy --copies 2 --json p.npy").output();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(line(&json, "reconstructed", "truth")["mean_iou"], Value::Null);
    assert_eq!(line(&json, "all", "truth")["iou_75"], 0.625);

    // The deployed model's own boxes are a second truth, and the baselines need them.
    let with_own =
        "--boxes truth.npy --available have.npy --reference truth.npy --copies 2 -k 2 --json p.npy";
    let json: serde_json::Value = serde_json::from_slice(&call(with_own).output()).unwrap();
    assert_eq!(line(&json, "reconstructed", "deployed")["mean_iou"], 0.0);
    assert!(
        line(&json, "all:replicate", "truth")["mean_iou"].as_f64()
            > line(&json, "all", "truth")["mean_iou"].as_f64()
    );

    for (arguments, message) in [
        ("--boxes truth.npy p.npy", "truth.npy: found 4 rows, expected as many as p.npy has: 8"),
        ("--boxes p.npy have.npy", "have.npy: found rows of b1[], expected boxes: floats [4]"),
        ("--boxes have.npy p.npy", "have.npy: found rows of b1[], expected boxes: floats [4]"),
        (
            "--boxes truth.npy --available have.npy truth.npy",
            "have.npy: found 8 entries, expected 4 as truth.npy has rows",
        ),
    ] {
        let ended = call(arguments);
        assert!(ended.code == 1 && ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
    }
}
