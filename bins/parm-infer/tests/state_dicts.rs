//! `parm-infer` on state dicts of PyTorch.

use std::fs;
use std::path::Path;

use parm_testkit::Tool;
use parm_testkit::npy::{f4, shape, u1};

fn infer(model: &Path) -> Tool {
    Tool::new("parm-infer").args("--threads 1 --model").arg(model)
}

/// A model file as PyTorch would save it: without metadata, its tensors within a wrapper.
fn state_dict(file: &[u8]) -> Vec<u8> {
    let (size, rest) = file.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*size) as usize);
    let mut entries: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).unwrap();
    entries.remove("__metadata__");
    let wrapped = entries.into_iter().map(|(name, entry)| (format!("module.{name}"), entry));
    let header = serde_json::to_vec(&wrapped.collect::<serde_json::Map<_, _>>()).unwrap();
    [(header.len() as u64).to_le_bytes().as_slice(), &header, data].concat()
}

#[test]
fn state_dicts_of_pytorch_answer_as_the_models_that_they_are_of() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    let values: Vec<f32> = (0..8 * 64).map(|value| ((value * 37) % 101) as f32 / 50.0 - 1.0).collect();
    write("x.npy", f4(&[8, 1, 8, 8], &values));
    write("y.npy", u1(&[8], &[0, 1, 2, 0, 1, 2, 0, 1]));
    let train = "base --model resnet18 --data x.npy --labels y.npy --epochs 1 --threads 1 -o own.safetensors";
    assert_eq!(Tool::new("parm-train").args(train).within(folder.path()).run().output(), b"");
    write("state.safetensors", state_dict(&fs::read(folder.path().join("own.safetensors")).unwrap()));
    let answers = |model: &str| infer(Path::new(model)).args("x.npy").within(folder.path()).run();
    let expected = answers("own.safetensors").output();
    assert!(shape(&expected) == [8, 3] && answers("state.safetensors").output() == expected);
    // The file does not say how large the images are; what is none is refused.
    write("x.npy", f4(&[8, 64], &values));
    let ended = answers("state.safetensors");
    let message = "refuses rows of shape [64]: invalid shape: expected images [1, height, width]";
    assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
    // A file that Python saved.
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/mlp.safetensors");
    let ended = infer(&saved).stdin(f4(&[2, 2, 3], &[0.5; 12])).run();
    assert_eq!(shape(&ended.output()), [2, 3]);
}
