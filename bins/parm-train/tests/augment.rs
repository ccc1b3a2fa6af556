//! `parm-train --augment`: images that differ in each epoch.

use std::fs;
use std::path::Path;

use parm::CodeFile;
use parm_testkit::npy::f4;
use parm_testkit::{Outcome, Tool};

/// A folder with the digits, a deployed model of few epochs, and rows that are no images.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/digits");
    for (from, to) in [("train", "x"), ("train-labels", "y")] {
        fs::copy(digits.join(format!("{from}.npy")), path.join(format!("{to}.npy"))).unwrap();
    }
    done(path, &format!("{BASE} --epochs 5 -o b.safetensors"));
    folder
}

const BASE: &str = "base --data x.npy --labels y.npy --hidden 16 --batch 32";
const CODERS: &str = "coders --base b.safetensors --data x.npy -k 2 --batch 32";
const PARITY: &str = "parity --base b.safetensors --data x.npy -k 2 --batch 32";

fn train(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-train").args(arguments).args("--threads 1").within(folder).run()
}

fn done(folder: &Path, arguments: &str) {
    assert_eq!(train(folder, arguments).output(), b"", "{arguments}");
}

fn same(folder: &Path, one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|name| fs::read(folder.join(name)).unwrap());
    one == other
}

#[test]
fn a_resumed_training_draws_the_images_of_an_unbroken_one() {
    let folder = folder();
    let path = folder.path();
    let call = format!("{CODERS} --augment shift=1,flip --checkpoint-cycle 1000 --epochs 60");
    done(path, &format!("{call} -o whole"));
    let ended = Tool::new("parm-train")
        .args(&format!("{call} --threads 1 -o part"))
        .within(path)
        .interrupt("INT", &path.join("part/run/metrics.jsonl"));
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    assert!(path.join("part/run/checkpoint.safetensors").exists() && !path.join("part/code.json").exists());
    let other = train(path, &format!("{call} --resume -o part").replace("shift=1", "shift=2"));
    let message =
        "augmentation = Augment { shift: 1, flip: true }, expected Augment { shift: 2, flip: true }";
    assert!(other.code == 1 && other.stderr.contains(message), "{}", other.stderr);
    done(path, &format!("{call} --resume -o part"));
    for name in ["encoder.safetensors", "decoder.safetensors", "run/checkpoint.safetensors"] {
        assert!(same(path, &format!("whole/{name}"), &format!("part/{name}")), "{name}");
    }
}

#[test]
fn all_trainings_augment_and_each_in_its_own_way() {
    let folder = folder();
    let path = folder.path();
    for (call, out, model) in [
        (BASE, ".safetensors", ""),
        (&format!("{PARITY} --code sum"), "", "/parity-0.safetensors"),
        (&format!("{PARITY} --code concat"), "", "/parity-0.safetensors"),
        (&format!("{CODERS} --encoder sum"), "", "/decoder.safetensors"),
    ] {
        let ways = ["none", "shift=1", "flip", "shift=1,flip"];
        for (i, way) in ways.iter().enumerate() {
            done(path, &format!("{call} --epochs 2 --augment {way} --force -o m{i}{out}"));
        }
        let model = if model.is_empty() { out } else { model };
        for (i, j) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            assert!(!same(path, &format!("m{i}{model}"), &format!("m{j}{model}")), "{call}: {i} {j}");
        }
        done(path, &format!("{call} --epochs 2 --force -o plain{out}"));
        assert!(same(path, &format!("plain{model}"), &format!("m0{model}")), "{call}");
    }
    // What was augmented is learnt all the same; shifts of none are no shifts.
    done(path, &format!("{PARITY} --code concat --epochs 60 --augment shift=0 -o concat"));
    let agreement = CodeFile::load(&path.join("concat")).unwrap().scores.unwrap().agreement.unwrap();
    assert!(agreement > 0.7, "{agreement}");
}

#[test]
fn what_cannot_be_augmented_is_refused() {
    let folder = folder();
    let path = folder.path();
    let queries = parm_testkit::npy::f4_values(&fs::read(path.join("x.npy")).unwrap());
    let rows = queries.len() / 64;
    fs::write(path.join("flat.npy"), f4(&[rows, 64], &queries)).unwrap();
    fs::write(path.join("boxes.npy"), f4(&[rows, 4], &queries[..rows * 4])).unwrap();
    let base = |options: &str| format!("base --data x.npy --labels y.npy --epochs 1 {options} -o new");
    for (arguments, code, message) in [
        (base("--augment turn"), 2, "expected none, flip, or shift=N with a number of pixels"),
        (base("--augment shift=-1"), 2, "expected none, flip, or shift=N with a number of pixels"),
        (base("--augment flip,none"), 2, "--augment none: found other values, expected none alone"),
        (base("--augment shift=8"), 1, "images [height, width] or [channels, height, width] of more than 8"),
        (base("--augment flip").replace("x.npy", "flat.npy"), 1, "found rows of shape [64], expected images"),
        (
            base("--augment flip").replace("--labels y.npy", "--boxes boxes.npy"),
            2,
            "--augment: found boxes, which would not be moved along; expected labels",
        ),
        (
            format!("{CODERS} --boxes boxes.npy --targets boxes.npy --augment flip --runs-on parity -o new")
                .replace("--base b.safetensors", ""),
            2,
            "--augment: found boxes",
        ),
    ] {
        let ended = train(path, &arguments);
        assert!(ended.code == code && ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
    }
}
