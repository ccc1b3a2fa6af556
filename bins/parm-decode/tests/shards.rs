//! Parts of a data set, encoded and decoded by calls of their own, are the whole when they are joined.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{f4, f4_values, mask};
use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

fn run(tool: &str, folder: &Path, arguments: &str) -> Outcome {
    Tool::new(tool).args(arguments).within(folder).run()
}

/// Rows of two, in two items, and which of them are missing: one of each three.
fn stage(rows: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..rows * 2).map(|value| ((value * 7) % 23) as f32).collect();
    let (first, second) = values.split_at(rows / 3 * 2);
    let stream = [f4(&[rows / 3, 2], first), f4(&[rows - rows / 3, 2], second)].concat();
    fs::write(folder.path().join("y.npy"), stream).unwrap();
    let available: Vec<bool> = (0..rows).map(|row| row % 3 != 1).collect();
    fs::write(folder.path().join("have.npy"), mask(&available)).unwrap();
    folder
}

/// Runs a tool for each shard, with what it writes in files of the shard's number, and joins them.
fn joined(tool: &str, folder: &Path, arguments: &str, shards: usize, extension: &str) -> Vec<u8> {
    let part = |number| format!("part-{number}.{extension}");
    for number in 1..=shards {
        let call = format!("{arguments} --shard {number}/{shards} -o {}", part(number));
        assert_eq!(run(tool, folder, &call).output(), b"");
    }
    let parts: Vec<String> = (1..=shards).map(part).collect();
    run("parm-data", folder, &format!("cat {}", parts.join(" "))).output()
}

#[test]
fn shards_joined_are_the_whole() {
    for (code, tail, rows) in [
        ("--code sum -k 3", "--tail error", 33),
        ("--code sum -k 3", "--tail pad", 32),
        ("--code sum -k 3", "--tail drop", 32),
        ("--code berrut -k 3 --stragglers 1", "--tail pad", 32),
    ] {
        for (shards, extension) in [(1, "npy"), (4, "npy"), (20, "npy.zst")] {
            let folder = stage(rows);
            let folder = folder.path();
            let coding = format!("{code} {tail}");
            let parities = run("parm-encode", folder, &format!("{coding} y.npy")).output();
            let call = format!("{coding} y.npy");
            let found = joined("parm-encode", folder, &call, shards, extension);
            assert_eq!(f4_values(&found), f4_values(&parities), "{coding}, {shards} shards");
            fs::write(folder.join("p.npy"), &parities).unwrap();
            let call = if code.contains("sum") {
                format!("{coding} --parity p.npy --available have.npy --allow-unsolved y.npy")
            } else {
                fs::write(folder.join("all.npy"), mask(&vec![true; parities.len() / 8])).unwrap();
                let answers = f4_values(&parities).len() / 2;
                fs::write(folder.join("have.npy"), mask(&vec![true; answers])).unwrap();
                format!("{code} --available have.npy p.npy")
            };
            let whole = run("parm-decode", folder, &call).output();
            let found = joined("parm-decode", folder, &call, shards, extension);
            assert_eq!(f4_values(&found), f4_values(&whole), "{call}, {shards} shards");
        }
    }
}

#[test]
fn compressed_files_have_shards_too() {
    let folder = stage(30);
    assert_eq!(run("parm-data", folder.path(), "cat y.npy -o y.npy.zst").output(), b"");
    let whole = run("parm-encode", folder.path(), "--code sum -k 2 y.npy").output();
    let found = joined("parm-encode", folder.path(), "--code sum -k 2 y.npy.zst", 4, "npy");
    assert_eq!(f4_values(&found), f4_values(&whole));
}

#[track_caller]
fn assert_refused(outcome: &Outcome, code: i32, text: &str) {
    assert_eq!(outcome.code, code, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(text), "{}", outcome.stderr);
}

#[test]
fn what_has_no_shards_is_refused() {
    let folder = stage(30);
    assert_eq!(run("parm-encode", folder.path(), "--code sum -k 3 y.npy -o p.npy").output(), b"");
    let pipe = Tool::new("parm-encode").args("--code sum -k 3 --shard 1/2").stdin(f4(&[3, 1], &[1.; 3]));
    assert_refused(&pipe.run(), 2, "--shard needs files, whose ends are known: found standard input");
    for (tool, call, code, text) in [
        ("parm-encode", "--code sum -k 3 --shard 3/2 y.npy", 2, "found shard '3/2', expected I/N"),
        ("parm-encode", "--code sum -k 3 --shard 1/2 /dev/null", 2, "found /dev/null"),
        (
            "parm-encode",
            "--code sum -k 7 --shard 2/2 y.npy",
            1,
            "found 16 rows, which do not fill groups of k = 7",
        ),
        (
            "parm-decode",
            "--code sum -k 3 --shard 1/2 --parity p.npy --erase one y.npy",
            2,
            "--erase is about the whole",
        ),
        (
            "parm-decode",
            "--code sum -k 3 --shard 1/2 --parity p.npy --available have.npy",
            2,
            "found standard input",
        ),
        (
            "parm-decode",
            "--code berrut -k 3 --stragglers 1 --shard 1/2 --rows 5 --available have.npy y.npy",
            2,
            "--rows is about",
        ),
    ] {
        assert_refused(&run(tool, folder.path(), call), code, text);
    }
}
