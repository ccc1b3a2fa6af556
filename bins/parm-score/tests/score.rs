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

#[test]
fn all_scores_as_json() {
    let folder = stage();
    let report =
        json(folder.path(), "--labels labels.npy --available have.npy --reference reference.npy y.npy");
    let third = 1.0 / 3.0;
    assert_eq!(report["available"], json!(2));
    assert_eq!(report["reconstructed"], json!(3));
    assert_eq!(report["agreement"], json!(third));
    assert_eq!(report["top"].as_array().map(Vec::len), Some(2), "top 5 to 20 of three classes say nothing");
    let top1 = &report["top"][0];
    assert_eq!((&top1["n"], &top1["A_a"], &top1["A_d"]), (&json!(1), &json!(1.0), &json!(third)));
    assert!((top1["A_o"].as_f64().unwrap() - (0.9 + 0.1 * third)).abs() < 1e-12);
    assert_eq!(report["top"][1]["A_d"], json!(2.0 * third));
}

#[test]
fn unsolved_rows_are_counted_apart_and_wrong_in_overall() {
    let folder = stage();
    let call = "--labels labels.npy --available have.npy --solved solved.npy -f 0.5 y.npy";
    let report = json(folder.path(), call);
    assert_eq!((&report["unsolved"], &report["reconstructed"]), (&json!(1), &json!(2)));
    assert_eq!(report["top"][0]["A_d"], json!(0.5));
    assert!((report["top"][0]["A_o"].as_f64().unwrap() - (0.5 + 0.5 / 3.0)).abs() < 1e-12);
}

#[test]
fn the_table_has_a_line_per_score() {
    let folder = stage();
    let call = "--labels labels.npy --available have.npy --solved solved.npy --reference reference.npy --top 1,2 y.npy";
    let table = String::from_utf8(score(folder.path(), call).output()).unwrap();
    let expected = "                 rows    top-1    top-2\n\
                    A_a                 2   1.0000   1.0000\n\
                    A_d                 2   0.5000   1.0000\n\
                    A_o(0.1)            -   0.9333   0.9667\n\
                    agreement           2   0.5000\n\
                    unsolved            1\n";
    assert_eq!(table, expected);
}

#[test]
fn labels_alone_score_available_predictions() {
    let folder = stage();
    let report = json(folder.path(), "--labels labels.npy y.npy");
    assert_eq!((&report["available"], &report["top"][0]["A_a"]), (&json!(5), &json!(0.6)));
    assert_eq!((&report["top"][0]["A_d"], &report["agreement"]), (&Value::Null, &Value::Null));
}

#[test]
fn agreement_needs_no_labels() {
    let folder = stage();
    let report = json(folder.path(), "--reference reference.npy --available have.npy y.npy");
    assert_eq!(report["top"], json!([]));
    assert!(report["agreement"].is_number());
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
    assert_eq!((&report["rows"], &report["top"][0]["A_a"]), (&json!(10), &json!(1.0)));
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
