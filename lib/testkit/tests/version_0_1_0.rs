//! Every file of version 0.1.0 in testdata/v0.1.0 is still read.

use std::path::{Path, PathBuf};

use parm_testkit::Tool;
use parm_testkit::npy::f4;
use tempfile::TempDir;

/// Runs a tool in the folder of the files, and gives what it wrote to standard output.
fn output(program: &str, arguments: &str, input: &[u8]) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v0.1.0");
    Tool::new(program).args(arguments).within(&folder).stdin(input).run().output()
}

fn queries() -> Vec<u8> {
    f4(&[4, 2, 2], &(0..16).map(|value| value as f32).collect::<Vec<f32>>())
}

/// A cluster of synthetic instances, in this folder.
fn cluster(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("cluster.json");
    let text =
        r#"{"models": [{"name": "m", "placement": "pooled", "instances": [{"synthetic": {"count": 4}}]}]}"#;
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_configuration_of_a_server_is_read() {
    output("parm-serve", "--quiet --check-config parm-serve.json", b"");
}

#[test]
fn models_and_codes_of_both_formats_are_read() {
    let pixels = f4(&[2, 1, 8, 8], &(0..128).map(|value| (value % 16) as f32).collect::<Vec<f32>>());
    assert!(!output("parm-infer", "-m model.safetensors -", &pixels).is_empty());
    assert!(!output("parm-encode", "--code code-1 -", &queries()).is_empty());
    assert!(!output("parm-encode", "--code code-2 --parity-index 1 -", &queries()).is_empty());
}

#[test]
fn records_are_simulated_again() {
    let folder = tempfile::tempdir().unwrap();
    let call = format!("{} --trace records.jsonl --warm-up 0 --json", cluster(&folder).display());
    assert!(!output("parm-sim", &call, b"").is_empty());
}

#[test]
fn reports_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    for (picture, reports) in [
        ("latency", "records.jsonl"),
        ("load", "load.json"),
        ("load", "sim.json"),
        ("k", "compare.json"),
        ("workers", "compare.json"),
    ] {
        let file = folder.path().join("picture.svg");
        output("parm-plot", &format!("{picture} {reports} -o {}", file.display()), b"");
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("<svg"), "{picture} {reports}");
    }
}

#[test]
fn what_parm_score_said_is_a_code_for_advice() {
    let folder = tempfile::tempdir().unwrap();
    let call = format!(
        "advise {} --accuracy score.json --rates 10 --queries 200 --json",
        cluster(&folder).display()
    );
    assert!(!output("parm-sim", &call, b"").is_empty());
}
