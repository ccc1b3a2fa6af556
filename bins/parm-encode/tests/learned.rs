//! Learned encoders, by a TorchScript model that makes the parity queries of `sum`: both must agree.

use std::fs;
use std::path::{Path, PathBuf};

use parm_testkit::npy::{f4, f4_values, shape};
use parm_testkit::{Outcome, Tool, code_dir};
use tempfile::TempDir;

fn encode(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-encode").args(arguments).within(folder).run()
}

/// A folder with `rows` queries [2, 3] and the directories of codes with a learned encoder.
fn stage(rows: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..rows * 6).map(|value| ((value * 7) % 23) as f32).collect();
    fs::write(folder.path().join("x.npy"), f4(&[rows, 2, 3], &values)).unwrap();
    for k in [1, 2, 3, 5] {
        code_dir::learned(&folder.path().join(format!("code-{k}")), (k, 2), Some("encoder.pt"), None);
    }
    folder
}

fn file(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap()
}

#[test]
fn a_learned_encoder_writes_one_stream_per_parity() {
    let folder = stage(600);
    for k in [1, 2, 3, 5] {
        let call = format!("--code code-{k} --threads 1 --tf32 -o learned-{{}}.npy -v x.npy");
        let outcome = encode(folder.path(), &call);
        let message = format!("parm-encode: encoded 600 queries in {} groups\n", 600 / k);
        assert_eq!((outcome.code, outcome.stderr), (0, message));
        let _ = encode(folder.path(), &format!("--code sum -k {k} -r 2 -o sum-{{}}.npy x.npy")).output();
        for parity in 0..2 {
            let [learned, sum] =
                ["learned", "sum"].map(|name| file(&folder, &format!("{name}-{parity}.npy")));
            assert!(learned == sum, "k = {k}, parity {parity}");
        }
    }
}

#[test]
fn an_exported_program_encodes_as_well() {
    let folder = stage(60);
    for k in [2, 3, 5] {
        let code = folder.path().join(format!("program-{k}"));
        code_dir::learned(&code, (k, 2), Some("encoder.pt2"), None);
        let encoded = |code: &str| {
            let call = format!("--code {code} --threads 1 --parity-index 1 x.npy");
            encode(folder.path(), &call).output()
        };
        assert_eq!(encoded(&format!("program-{k}")), encoded(&format!("code-{k}")), "k = {k}");
    }
}

#[test]
fn one_parity_can_be_picked_and_goes_to_a_pipe() {
    let folder = stage(10);
    let picked = encode(folder.path(), "--code code-2 --parity-index 1 x.npy").output();
    let sum = encode(folder.path(), "--code sum -k 2 -r 2 --parity-index 1 x.npy").output();
    assert_eq!(picked, sum);
}

#[test]
fn groups_span_items_and_short_ones_follow_the_tail() {
    let folder = stage(7);
    let item = file(&folder, "x.npy");
    let input = [item.clone(), item].concat();
    for tail in ["pad", "drop"] {
        let call = |code: &str| {
            let tool = Tool::new("parm-encode").args(code).args("--parity-index 0 --tail").arg(tail);
            tool.within(folder.path()).stdin(input.clone()).run().output()
        };
        let [learned, sum] = ["--code code-3", "--code sum -k 3 -r 2"].map(call);
        let groups = if tail == "pad" { 5 } else { 4 };
        assert_eq!(f4_values(&learned), f4_values(&sum), "{tail}");
        assert_eq!(f4_values(&learned).len(), groups * 6, "{tail}");
    }
    // The message is about the queries, not about what became of them in the model's pipe.
    let outcome = encode(folder.path(), "--code code-3 -o p{}.npy x.npy");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with("parm-encode: x.npy: found 7"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(!folder.path().join("p0.npy").exists());
}

#[test]
fn a_model_that_is_no_encoder_is_refused() {
    let folder = stage(4);
    let path: PathBuf = folder.path().join("wrong");
    code_dir::learned(&path, (2, 3), Some("encoder.pt"), None);
    let outcome = encode(folder.path(), "--code wrong -o p{}.npy x.npy");
    let message = "parm-encode: found coded queries of f4[2, 2, 3] from the encoder, expected [r = 3, …]\n";
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, message));

    fs::write(path.join("encoder.pt"), "no model").unwrap();
    let outcome = encode(folder.path(), "--code wrong -o p{}.npy x.npy");
    assert_eq!(outcome.code, 1);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert!(lines[0].starts_with("parm-infer: wrong/encoder.pt: found"), "{}", outcome.stderr);
    assert_eq!(lines[1], "parm-encode: parm-infer failed (exit status: 1)");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
}

#[test]
fn a_full_disk_and_a_closed_pipe_end_it() {
    let folder = stage(4000);
    let outcome = encode(folder.path(), "--code code-2 --parity-index 0 -o /dev/full x.npy");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.ends_with("No space left on device (os error 28)\n"), "{}", outcome.stderr);
    let empty = Tool::new("parm-encode").args("--code code-2 --parity-index 0").within(folder.path());
    let output = empty.stdin(f4(&[0, 2, 3], &[])).run().output();
    assert_eq!(shape(&output), [0, 2, 3]);
}

#[test]
fn the_name_of_a_code_directory_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let code = folder.path().join(name);
    fs::create_dir(&code).unwrap();
    fs::write(code.join("p.pt"), "").unwrap();
    fs::write(code.join("code.json"), r#"{"format": 2, "code": "sum", "k": 2, "parity": ["p.pt"]}"#).unwrap();
    fs::write(folder.path().join("x.npy"), f4(&[4, 1], &[1.0, 2.0, 3.0, 4.0])).unwrap();
    let call = || Tool::new("parm-encode").args("x.npy --code").within(folder.path());
    assert_eq!(f4_values(&call().arg(name).run().output()), [3.0, 7.0]);
    fs::remove_file(code.join("p.pt")).unwrap();
    let outcome = call().arg(name).run();
    assert!(outcome.code == 1 && outcome.stderr.contains("p.pt: not found"), "{}", outcome.stderr);
    let outcome = call().arg(std::ffi::OsStr::from_bytes(b"th\xe9")).run();
    assert!(outcome.code == 2 && outcome.stderr.contains("nor a directory"), "{}", outcome.stderr);
}
