//! Variants of a cluster file.

use std::path::Path;

use parm_config::Redundancy;
use parm_simulation::{VariantError, variants};
use serde_json::{Map, Value};

const FILE: &str = r#"{"models": [
    {"name": "a", "default": true, "instances": [{"roles": ["deployed"], "synthetic": {"count": 2}}]},
    {"name": "b", "placement": "pooled", "instances": [{"synthetic": {}}]}]}"#;

fn fields(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap()
}

fn of(model: Option<&str>, with: &[&str]) -> Result<Vec<(String, parm_config::Model)>, VariantError> {
    let with: Vec<_> = with.iter().map(|with| fields(with)).collect();
    variants(FILE, Path::new("folder"), model, &with)
}

#[test]
fn without_variants_the_models_are_those_of_the_file() {
    let names = |model| of(model, &[]).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!((names(None), names(Some("b"))), (vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_variants_fields_replace_those_of_the_model() {
    let found = of(
        Some("b"),
        &[
            "{}",
            r#"{"name": "twice", "redundancy": {"policy": "replicate", "copies": 2}}"#,
            r#"{"attempts": 1}"#,
        ],
    )
    .unwrap();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["{}", "twice", r#"{"attempts":1}"#]);
    assert_eq!(found[0].1.redundancy, Redundancy::None);
    assert_eq!(found[1].1.redundancy, Redundancy::Replicate { copies: 2 });
    assert!(found.iter().all(|(_, model)| model.instances == found[0].1.instances));
    assert_eq!((found[2].1.attempts, found[2].1.name.as_str()), (1, "b"));
}

#[test]
fn invalid_variants_are_refused() {
    assert!(matches!(variants("{", Path::new(""), None, &[]), Err(VariantError::Json(_))));
    let error = of(Some("c"), &[]).unwrap_err().to_string();
    assert_eq!(error, "models: found none with the name 'c', expected one of: a, b");
    let error = of(None, &["{}", r#"{"redundancy": {"policy": "magic"}}"#]).unwrap_err().to_string();
    assert!(error.starts_with("models[1].redundancy"), "{error}");
    let directory = r#"{"name": "directory", "directory": "code"}"#;
    let error = of(None, &[&format!(r#"{{"redundancy": {{"policy": "coded", "code": {directory}}}}}"#)]);
    assert!(error.unwrap_err().to_string().contains("folder/code/code.json"));
    assert!(matches!(variants("{}", Path::new(""), None, &[]), Err(VariantError::Config(_))));
}
