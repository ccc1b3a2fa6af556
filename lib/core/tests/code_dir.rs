//! Code directories: what is saved is loaded, and everything that does not fit is refused by name.

use std::fs;
use std::path::Path;

use parm::codes::directory::{CodeDirError, CodeFile, Deployed, FILE_NAME, RunsOn, Scores};
use parm::codes::geometry::Points;
use parm::codes::{Code, CodeError, CodeKind, CodeName, CodeSpec};
use parm::{MadeBy, MadeFrom, Task};
use serde_json::{Value, json};
use tempfile::TempDir;

fn file() -> CodeFile {
    CodeFile {
        weights: vec![vec![1.0, 1.0], vec![1.0, 0.1]],
        query_shape: Some(vec![1, 28, 28]),
        prediction_shape: Some(vec![10]),
        parity: vec!["parity-0.safetensors".into(), "parity-1.safetensors".into()],
        deployed: Some(deployed("00ff")),
        scores: Some(Scores {
            available: Some(0.97),
            degraded: Some(0.1 + 0.2),
            n: 300,
            ..Scores::default()
        }),
        made_by: Some(MadeBy {
            version: "0.2.0".into(),
            commit: Some("1234abc".into()),
            command: "parm-train parity".into(),
            options: [("seed".to_owned(), 7.into())].into(),
            inputs: vec![MadeFrom { name: "x.npy".into(), sha256: Some("00".into()), pipe: false }],
        }),
        ..CodeFile::new(&CodeSpec { r: Some(2), ..CodeSpec::new(CodeName::Sum, 2) })
    }
}

fn deployed(sha256: &str) -> Deployed {
    Deployed { sha256: sha256.into(), name: "base.safetensors".into(), recorded: false, joint: false }
}

/// A directory with the models that `file` names.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in file().parity {
        fs::write(directory.path().join(name), b"weights").unwrap();
    }
    directory
}

/// Loads a directory whose `code.json` was changed at one place.
fn changed(at: &str, value: Value) -> CodeDirError {
    let directory = directory();
    let mut json = serde_json::to_value(file()).unwrap();
    json[at] = value;
    fs::write(directory.path().join(FILE_NAME), json.to_string()).unwrap();
    CodeFile::load(directory.path()).unwrap_err()
}

#[test]
fn the_task_has_the_word_of_its_outputs_and_other_words_are_refused() {
    let directory = directory();
    for task in Task::ALL {
        let file = CodeFile { output: task, ..file() };
        file.save(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert!(text.contains(&format!("\"output\": \"{}\"", task.output())), "{text}");
        assert_eq!(CodeFile::load(directory.path()).unwrap(), file);
    }
    let error = changed("output", json!("classes"));
    let expected = "output: found 'classes', expected logits, values, embeddings, boxes";
    assert!(error.to_string().contains(expected), "{error}");
}

/// The message without the temporary directory's own name, and on one line.
fn message(error: &CodeDirError, directory: &Path) -> String {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message.replace(&format!("{}/", directory.display()), "")
}

#[test]
fn what_is_saved_is_loaded() {
    let directory = directory();
    file().save(directory.path()).unwrap();
    assert_eq!(CodeFile::load(directory.path()).unwrap(), file());
    // And again over itself, without a trace of the temporary file.
    file().save(directory.path()).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    let CodeKind::Systematic(code) = file().kind().unwrap() else { panic!("a code with parities") };
    assert_eq!((code.k(), code.r(), code.weights(1)), (2, 2, vec![1.0, 0.1]));
}

#[test]
fn a_code_without_parity_models_is_loaded() {
    let directory = directory();
    let file = CodeFile { runs_on: RunsOn::Deployed, parity: vec![], ..file() };
    file.save(directory.path()).unwrap();
    assert_eq!(CodeFile::load(directory.path()).unwrap(), file);
}

#[test]
fn an_interpolating_code_comes_with_its_deployed_model() {
    let directory = directory();
    let spec = CodeSpec {
        stragglers: Some(2),
        byzantine: Some(1),
        points: Some(Points::Chebyshev2),
        lambdas: [Some(0.5), Some(1e-5)],
        ..CodeSpec::new(CodeName::Spline, 4)
    };
    let joint = Deployed { name: "deployed.safetensors".into(), joint: true, ..deployed("00ff") };
    let file = CodeFile { deployed: Some(joint), ..CodeFile::new(&spec) };
    file.save(directory.path()).unwrap();
    let error = CodeFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, CodeDirError::MissingPart(_)), "{error}");
    let model = directory.path().join("deployed.safetensors");
    fs::write(&model, b"weights").unwrap();
    assert_eq!(CodeFile::load(directory.path()).unwrap(), file);
    let code = Code::load(directory.path()).unwrap();
    assert_eq!((code.kind(), code.runs_on()), (&spec.matrices().unwrap(), RunsOn::Deployed));
    assert_eq!(code.joint_model(), Some(model.clone()));
    // Another code in its place removes the model.
    CodeFile { deployed: None, ..file }.remove_other_parts(directory.path()).unwrap();
    assert!(!model.exists());
}

#[test]
fn a_directory_that_is_half_written_is_unfinished() {
    let directory = directory();
    // A save that was killed leaves its temporary file, and no code.json.
    fs::write(directory.path().join(".code.json.tmp"), b"{\"format\": 1").unwrap();
    let error = CodeFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, CodeDirError::Unfinished(_)));
    assert!(error.to_string().contains("found no code.json, expected"), "{error}");
    assert!(error.to_string().contains("the training may not have finished"), "{error}");
    file().save(directory.path()).unwrap();
    assert_eq!(CodeFile::load(directory.path()).unwrap(), file());
}

#[test]
fn a_directory_that_does_not_exist_is_neither_read_nor_written() {
    let parent = directory();
    let missing = parent.path().join("code");
    for error in [CodeFile::load(&missing).unwrap_err(), file().save(&missing).unwrap_err()] {
        assert!(matches!(error, CodeDirError::Io { .. }));
        let message = message(&error, parent.path());
        assert_eq!(message, "code/code.json: No such file or directory (os error 2)");
    }
}

#[test]
fn a_save_that_fails_leaves_nothing() {
    let directory = directory();
    // A folder in the file's place lets the temporary file be written and not renamed.
    fs::create_dir(directory.path().join(FILE_NAME)).unwrap();
    assert!(matches!(file().save(directory.path()), Err(CodeDirError::Io { .. })));
    assert!(!directory.path().join(".code.json.tmp").exists());
}

#[test]
fn json_that_is_cut_or_lacks_fields_is_malformed() {
    let directory = directory();
    let whole = serde_json::to_string(&file()).unwrap();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(directory.path().join(FILE_NAME), &whole[..end]).unwrap();
        let error = CodeFile::load(directory.path()).unwrap_err();
        assert!(matches!(error, CodeDirError::Json { .. }), "{error}");
        let message = message(&error, directory.path());
        assert!(message.starts_with("code.json: malformed: EOF while parsing"), "{message}");
    }
    for (at, value, expected) in [
        ("k", json!(-1), "invalid value: integer `-1`, expected usize"),
        ("k", Value::Null, "invalid type: null, expected usize"),
        ("runs_on", json!("gpu"), "unknown variant `gpu`, expected `parity` or `deployed`"),
        ("wieghts", json!([]), "unknown field `wieghts`"),
        ("weights", json!([[1.0, null]]), "invalid type: null, expected f64"),
    ] {
        let error = changed(at, value);
        assert!(matches!(error, CodeDirError::Json { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_format_of_the_future_is_refused_before_its_fields_are() {
    let directory = directory();
    fs::write(directory.path().join(FILE_NAME), r#"{"format": 3, "something": "new"}"#).unwrap();
    let error = CodeFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, CodeDirError::Format { found: 3, .. }));
    assert_eq!(message(&error, directory.path()), "code.json: found format 3, expected 1 or 2");
}

#[test]
fn a_code_of_another_name_is_unknown() {
    let error = changed("code", json!("turbo"));
    assert!(matches!(&error, CodeDirError::UnknownCode { found, .. } if found == "turbo"));
    assert!(
        error.to_string().ends_with("code.json: found code 'turbo', expected 'sum', 'concat', 'berrut', 'floater-hormann', 'spline' or \
                                    'learned'"),
        "{error}"
    );
}

#[test]
fn lists_that_do_not_fit_k_and_r_are_counted() {
    for (at, value, expected) in [
        ("r", json!(1), "found 2 rows of weights, expected r = 1"),
        ("k", json!(3), "found 2 weights in a row, expected k = 3"),
        ("weights", json!([[1.0, 1.0], [1.0]]), "found 1 weights in a row, expected k = 2"),
        ("parity", json!(["parity-0.safetensors"]), "found 1 parity models, expected r = 2"),
        ("code", json!("learned"), "found 0 encoders, expected 1 for the code 'learned'"),
        ("encoder", json!("parity-0.safetensors"), "found 1 encoders, expected 0 for the code 'sum'"),
    ] {
        let error = changed(at, value);
        assert!(matches!(error, CodeDirError::Count { .. }), "{error}");
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn a_group_that_is_too_large_is_refused_before_anything_is_made() {
    for (at, expected) in
        [("k", "k = 1099511627776 queries and r = 2"), ("r", "k = 2 queries and r = 1099511627776")]
    {
        let error = changed(at, json!(1_u64 << 40));
        assert!(matches!(error, CodeDirError::Code { error: CodeError::Size { .. }, .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("found {expected} parities, expected at most 16384")),
            "{error}"
        );
    }
}

#[test]
fn parameters_that_make_no_code_are_refused() {
    let directory = directory();
    let none = CodeFile { k: 0, weights: vec![vec![], vec![]], ..file() };
    none.save(directory.path()).unwrap();
    let error = CodeFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, CodeDirError::Code { error: CodeError::NoQueries, .. }));
    assert_eq!(
        message(&error, directory.path()),
        "code.json: found k = 0, expected at least 1 query in a group"
    );
}

#[test]
fn a_model_that_is_named_must_exist() {
    let directory = directory();
    file().save(directory.path()).unwrap();
    fs::remove_file(directory.path().join("parity-1.safetensors")).unwrap();
    let error = CodeFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, CodeDirError::MissingPart(_)));
    let message = message(&error, directory.path());
    assert_eq!(message, "parity-1.safetensors: not found, though code.json beside it names it");
    assert!(matches!(changed("decoder", json!("decoder.safetensors")), CodeDirError::MissingPart(_)));
}

#[test]
fn a_name_that_leads_out_of_the_directory_is_refused() {
    for name in ["../parity.safetensors", "/etc/passwd", "a/b", ".", "..", "", "parity-0.safetensors/"] {
        let error = changed("decoder", json!(name));
        assert!(matches!(error, CodeDirError::PartName { .. }), "{name}: {error}");
        assert!(error.to_string().contains(&format!("found the file name '{name}', expected")), "{error}");
    }
}

/// The file was written by version 0.1.0.
#[test]
fn format_1_is_read() {
    let directory = directory();
    fs::write(directory.path().join(FILE_NAME), include_str!("format-1/code.json")).unwrap();
    let file = CodeFile::load(directory.path()).unwrap();
    assert_eq!((file.format, file.k, file.r, file.weights), (1, 2, 1, vec![vec![1.0, 1.0]]));
    assert_eq!((file.query_shape, file.prediction_shape), (Some(vec![1, 8, 8]), Some(vec![10])));
    assert_eq!((file.runs_on, file.scores.unwrap().degraded), (RunsOn::Parity, Some(0.91)));
}

#[test]
fn a_file_written_by_hand_says_only_what_a_person_knows() {
    let directory = directory();
    let load = |text: &str| {
        fs::write(directory.path().join(FILE_NAME), text).unwrap();
        CodeFile::load(directory.path())
    };
    let models = r#""parity": ["parity-0.safetensors", "parity-1.safetensors"]"#;
    let file = load(&format!(r#"{{"format": 2, "code": "sum", "k": 3, "r": 2, {models}}}"#)).unwrap();
    assert_eq!(file.weights, [[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]);
    assert_eq!((file.runs_on, file.output), (RunsOn::Parity, Task::Classify));
    assert_eq!((&file.query_shape, &file.deployed, &file.scores), (&None, &None, &None));
    // What is not known is not checked.
    file.check_queries(directory.path(), &[7]).unwrap();
    file.check_predictions(directory.path(), &[7]).unwrap();
    file.check_model(directory.path(), Path::new("missing")).unwrap();
    file.save(directory.path()).unwrap();
    assert_eq!(CodeFile::load(directory.path()).unwrap(), file);
    for (text, expected) in [
        (r#"{"format": 2, "code": "sum"}"#, "missing field `k`"),
        (r#"{"format": 2, "code": "sum", "k": 2}"#, "found 0 parity models, expected r = 1"),
        (r#"{"format": 2, "code": "sum", "k": 0}"#, "found k = 0"),
        (
            r#"{"format": 2, "code": "sum", "k": 99999999999}"#,
            "k = 99999999999 queries and r = 1 parities, expected at most 16384",
        ),
        (
            r#"{"format": 2, "code": "sum", "k": 2, "r": 99999999999}"#,
            "r = 99999999999 parities, expected at most 16384",
        ),
    ] {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_code_is_used_with_what_it_was_made_for() {
    let directory = directory();
    let model = directory.path().join("model");
    fs::write(&model, "test").unwrap();
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let made_for = |sha256: &str, recorded| CodeFile {
        deployed: Some(Deployed { recorded, ..deployed(sha256) }),
        ..file()
    };
    made_for(sha256, false).check_model(directory.path(), &model).unwrap();
    // The model behind recorded predictions is not known.
    made_for("00ff", true).check_model(directory.path(), &model).unwrap();
    let error = made_for("00ff", false).check_model(directory.path(), &model).unwrap_err();
    assert!(matches!(error, CodeDirError::OtherModel { .. }));
    let expected =
        format!("model: found the SHA-256 {sha256}, expected 00ff (base.safetensors), the model that ");
    assert!(message(&error, directory.path()).starts_with(&expected), "{error}");
    let missing = directory.path().join("missing");
    let error = made_for("00ff", false).check_model(directory.path(), &missing).unwrap_err();
    assert!(matches!(error, CodeDirError::Io { path, .. } if path == missing));

    let code = Path::new("code");
    file().check_queries(code, &[1, 28, 28]).unwrap();
    file().check_predictions(code, &[10]).unwrap();
    let error = file().check_queries(code, &[28, 28]).unwrap_err();
    assert!(matches!(error, CodeDirError::OtherShape { .. }));
    assert_eq!(
        error.to_string(),
        "found queries of shape [28, 28], but the code code was trained for [1, 28, 28]"
    );
    assert!(file().check_predictions(code, &[11]).is_err());
}

#[test]
fn parts_that_the_code_has_not_are_removed_and_no_other_files() {
    let directory = directory();
    let others =
        ["parity-x.pt", "parity-.pt", "parity-7.npy", "my-encoder.pt", "encoder.txt", "notes", "decoder"];
    let old = [
        "parity-2.safetensors",
        "parity-10.pt",
        "encoder.safetensors",
        "encoder.pt",
        "decoder.pt",
        // Another kind of model in the place of a part.
        "parity-1.pt2",
    ];
    // The TorchScript beside a part of this code stays.
    for name in others.iter().chain(&old).chain(&["parity-1.pt"]) {
        fs::write(directory.path().join(name), "").unwrap();
    }
    fs::create_dir(directory.path().join("parity-3.pt")).unwrap();
    file().save(directory.path()).unwrap();
    file().remove_other_parts(directory.path()).unwrap();
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let own = ["code.json", "parity-0.safetensors", "parity-1.pt", "parity-1.safetensors", "parity-3.pt"];
    let mut expected: Vec<&str> = own.iter().chain(&others).copied().collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
}
