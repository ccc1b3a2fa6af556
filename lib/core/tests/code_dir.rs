//! Code directories: what is saved is loaded, and everything that does not fit is refused by name.

use std::fs;
use std::path::Path;

use parm::code_dir::{CodeDirError, CodeFile, Deployed, FILE_NAME, FORMAT, MadeBy, RunsOn, Scores};
use parm::codes::CodeError;
use serde_json::{Value, json};
use tempfile::TempDir;

fn file() -> CodeFile {
    CodeFile {
        format: FORMAT,
        code: "sum".into(),
        k: 2,
        r: 2,
        weights: vec![vec![1.0, 1.0], vec![1.0, 0.1]],
        query_shape: vec![1, 28, 28],
        prediction_shape: vec![10],
        output: "logits".into(),
        runs_on: RunsOn::Parity,
        parity: vec!["parity-0.safetensors".into(), "parity-1.safetensors".into()],
        encoder: None,
        decoder: None,
        deployed: Deployed { sha256: "00ff".into(), name: "base.safetensors".into() },
        scores: Scores { available: Some(0.97), degraded: Some(0.1 + 0.2), agreement: None, n: 300 },
        made_by: MadeBy { version: "0.1.0".into(), command: "parm-train parity".into() },
    }
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
    let code = file().linear().unwrap();
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
    fs::write(directory.path().join(FILE_NAME), r#"{"format": 2, "something": "new"}"#).unwrap();
    let error = CodeFile::load(directory.path()).unwrap_err();
    assert!(matches!(error, CodeDirError::Format { found: 2, .. }));
    assert_eq!(message(&error, directory.path()), "code.json: found format 2, expected 1");
}

#[test]
fn a_code_of_another_name_is_unknown() {
    let error = changed("code", json!("turbo"));
    assert!(matches!(&error, CodeDirError::UnknownCode { found, .. } if found == "turbo"));
    assert!(
        error.to_string().ends_with("code.json: found code 'turbo', expected 'sum', 'concat' or 'learned'"),
        "{error}"
    );
}

#[test]
fn lists_that_do_not_fit_k_and_r_are_counted() {
    for (at, value, expected) in [
        ("r", json!(1), "found 2 rows of weights, expected r = 1"),
        ("k", json!(3), "found 2 weights in a row, expected k = 3"),
        ("k", json!(1_u64 << 40), "found 1099511627776 queries in a group, expected at most 4096"),
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
