//! `parm-score` as a process.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{f4, item, mask, u1};
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

/// One score of a report in JSON.
fn value<'a>(report: &'a Value, score: &str, top: u64) -> &'a Value {
    let scores = report["scores"].as_array().unwrap();
    let found = scores
        .iter()
        .find(|entry| entry["score"] == score && (entry["top"] == top || entry["top"].is_null()));
    &found.unwrap_or_else(|| panic!("no {score} top {top}"))["value"]
}

#[test]
fn predictions_of_one_number_are_scored_by_their_error_and_r2() {
    let folder = stage();
    let path = folder.path();
    let write = |name: &str, bytes| fs::write(path.join(name), bytes).unwrap();
    write("own.npy", f4(&[5, 1], &[1000., 1002., 1004., 1006., 1000.]));
    write("flat.npy", f4(&[5], &[1000., 1002., 1004., 1006., 1000.]));
    write("rebuilt.npy", f4(&[5, 1], &[1000., 1002., 1003., 1007., 7.]));
    let call = "--available have.npy --solved solved.npy";
    for reference in ["own.npy", "flat.npy"] {
        let report = json(path, &format!("{call} --reference {reference} rebuilt.npy"));
        let [available, rebuilt, all] = [0, 1, 2].map(|at| &report["values"][at]);
        assert_eq!(
            (&available["rows"], &available["mse"], &available["r2"]),
            (&json!(2), &json!(0.0), &json!(1.0))
        );
        // 1003 and 1007 for 1004 and 1006: errors of 2, a scatter of 2.
        assert_eq!(
            (&rebuilt["rows"], &rebuilt["mse"], &rebuilt["r2"]),
            (&json!(2), &json!(1.0), &json!(0.0))
        );
        assert_eq!((&all["rows"], &all["mse"], &all["r2"]), (&json!(4), &json!(0.5), &json!(0.9)));
        assert_eq!(report["unsolved"], 1);
    }
    let table = score(path, &format!("{call} --reference own.npy rebuilt.npy")).output();
    assert!(String::from_utf8(table).unwrap().contains("reconstructed        2      1.0000    0.0000"));
    for (options, found) in [
        (
            "--labels labels.npy",
            "one number, which tell no classes apart, and labels.npy; expected --reference",
        ),
        (
            &*format!("{call} --reference reference.npy"),
            "found rows of f4[3], expected predictions of one number",
        ),
        (&*format!("{call} --reference x.npy"), "x.npy: found 4 rows, expected as many as"),
    ] {
        write("x.npy", f4(&[4], &[0.; 4]));
        let ended = score(path, &format!("{options} rebuilt.npy"));
        assert!(ended.code == 1 && ended.stderr.contains(found), "{options}: {}", ended.stderr);
    }
}

#[test]
fn all_scores_as_json() {
    let folder = stage();
    let report =
        json(folder.path(), "--labels labels.npy --available have.npy --reference reference.npy y.npy");
    let third = 1.0 / 3.0;
    assert_eq!(
        (&report["format"], &report["available"], &report["reconstructed"]),
        (&json!(1), &json!(2), &json!(3))
    );
    assert_eq!(value(&report, "agreement", 1), &json!(third));
    assert_eq!(value(&report, "A_a", 1), &json!(1.0));
    assert_eq!(value(&report, "A_d", 1), &json!(third));
    assert_eq!(value(&report, "A_d", 2), &json!(2.0 * third));
    assert_eq!(value(&report, "A_all", 1), &json!(0.6));
    assert!((value(&report, "A_o(0.1)", 1).as_f64().unwrap() - (0.9 + 0.1 * third)).abs() < 1e-12);
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
    assert!((value(&report, "A_o(0.5)", 1).as_f64().unwrap() - (0.5 + 0.5 / 3.0)).abs() < 1e-12);
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
    assert_eq!(value(&report, "A_all, 0 lost", 1), &json!(1.0));
    assert_eq!(value(&report, "A_all, 1 lost", 1), &json!(0.75));
    assert_eq!(value(&report, "A_all, 2 lost", 1), &json!(0.0));
    // Of four lost predictions `none` guesses all, one of two right; a spare worker has three of them.
    assert_eq!(value(&report, "A_all, none", 1), &json!((4.0 + 0.5 * 4.0) / 8.0));
    assert_eq!(value(&report, "A_all, replicate", 1), &json!((7.0 + 0.5) / 8.0));
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
    let narrow = json(folder.path(), "--labels labels.npy y.npy");
    assert_eq!(json(folder.path(), "--labels wide.npy y.npy"), narrow);
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
    assert_eq!(words[1][..3], ["available", "6", "0.9167"]);
    assert_eq!(words[1][4..], ["1.0000", "0.8333"]);
    assert_eq!(words[2], ["reconstructed", "2", "0.0000", "0.0000-0.0000", "0.0000", "0.0000"]);
    assert_eq!(words[3][..3], ["all", "8", "0.6875"]);
    let json = call("--boxes truth.npy --copies 2 --json p.npy").output();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["boxes"][1]["mean_iou"], &json["boxes"][2]["iou_75"]),
        (&serde_json::Value::Null, &0.625.into())
    );

    for (arguments, message) in [
        ("--boxes truth.npy p.npy", "truth.npy: found 4 boxes, expected 8: one for each row of p.npy"),
        ("--boxes p.npy have.npy", "have.npy: found rows of b1[], expected boxes: floats [4]"),
        ("--boxes have.npy p.npy", "have.npy: found rows of b1[], expected boxes [4]"),
        ("--boxes truth.npy --available have.npy truth.npy", "--available: found 8 entries, expected 4"),
    ] {
        let ended = call(arguments);
        assert!(ended.code == 1 && ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
    }
}
