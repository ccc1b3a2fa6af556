//! `parm-infer` on state dicts of PyTorch.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{f4, f4_values, shape, u1};
use parm_testkit::{Tool, safetensors};

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
    let ended = infer(&saved).args("--activation relu").stdin(f4(&[2, 2, 3], &[0.5; 12])).run();
    assert_eq!(shape(&ended.output()), [2, 3]);
}

/// The file of an MLP whose first layer copies two numbers and whose second adds them up.
fn sum_of_two([first, second]: [&str; 2], metadata: &str) -> Vec<u8> {
    let names = [first, second].map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]);
    safetensors::file(
        metadata,
        &[
            (&names[0][0], &[2, 2], &[1., 0., 0., 1.]),
            (&names[0][1], &[2], &[0., 0.]),
            (&names[1][0], &[1, 2], &[1., 1.]),
            (&names[1][1], &[1], &[0.]),
        ],
    )
}

#[test]
fn the_activation_of_a_state_dict_is_said_by_an_option_or_taken_to_be_relu_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    fs::write(&state, sum_of_two(["fc1", "fc2"], "\"format\":\"pt\"")).unwrap();
    let ask = |options: &str| infer(&state).args(options).stdin(f4(&[1, 2], &[-1., 2.])).run();
    let ended = ask("");
    let warning = "warning: ";
    assert!(
        ended.code == 0 && ended.stderr.contains(warning) && ended.stderr.contains("--activation"),
        "{}",
        ended.stderr
    );
    assert_eq!((f4_values(&ended.stdout), ended.stderr.lines().count()), (vec![2.], 1));
    assert_eq!(ask("-q").output(), ended.stdout);
    // As torch.nn.functional computes them at -1 and 2.
    for (name, expected) in [
        ("relu", 2.0),
        ("gelu", -0.158_655_26 + 1.954_499_7),
        ("tanh", -0.761_594_2 + 0.964_027_6),
        ("sigmoid", 0.268_941_4 + 0.880_797_1),
        ("silu", -0.268_941_4 + 1.761_594_2),
        ("leaky-relu", -0.01 + 2.0),
    ] {
        let found = f4_values(&ask(&format!("--activation {name}")).output())[0];
        assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
    }
    let ended = ask("--activation swish");
    assert!(ended.code == 2 && ended.stderr.contains("expected relu, gelu"), "{}", ended.stderr);

    // Where the file says it, nobody else need; files of version 0.1.0 do not name ReLU.
    let own = folder.path().join("own.safetensors");
    for (activation, expected) in
        [("", 2.0), ("\\\"activation\\\":\\\"tanh\\\",", -0.761_594_2 + 0.964_027_6)]
    {
        let mlp = safetensors::mlp(&[2, 2, 1], &[2], &[1]);
        let mlp = mlp.replace("\\\"output", &format!("{activation}\\\"output"));
        fs::write(&own, sum_of_two(["nn.0", "nn.2"], &mlp)).unwrap();
        let ended = infer(&own).stdin(f4(&[1, 2], &[-1., 2.])).run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let found = f4_values(&ended.stdout)[0];
        assert!((found - expected).abs() < 1e-6 && ended.stderr.is_empty(), "{found} {expected}");
    }
    let ended = infer(&own).args("--activation gelu").stdin(f4(&[1, 2], &[-1., 2.])).run();
    assert!(
        ended.code == 1 && ended.stderr.contains("says its activation, tanh, expected no --activation gelu"),
        "{}",
        ended.stderr
    );
}

#[test]
fn tensors_that_a_file_shares_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.safetensors");
    // Twice the layer a, as safetensors' save_model writes a module whose layers a and b are one.
    let metadata = r#""format":"pt","b.weight":"a.weight","b.bias":"a.bias""#;
    let tensors: [(&str, &[usize], &[f32]); 4] = [
        ("a.weight", &[2, 2], &[1., 1., 0., 1.]),
        ("a.bias", &[2], &[1., 0.]),
        ("c.weight", &[1, 2], &[1., 10.]),
        ("c.bias", &[1], &[0.]),
    ];
    fs::write(&path, safetensors::file(metadata, &tensors)).unwrap();
    let ended = infer(&path).args("--activation relu").stdin(f4(&[1, 2], &[1., 2.])).run();
    // [1, 2] to [4, 2] to [7, 2].
    assert_eq!(f4_values(&ended.output()), [27.]);
    let surplus: (&str, &[usize], &[f32]) = ("norm.running_mean", &[2], &[0., 0.]);
    fs::write(&path, safetensors::file(metadata, &[&tensors[..], &[surplus]].concat())).unwrap();
    let ended = infer(&path).stdin(f4(&[1, 2], &[1., 2.])).run();
    let message =
        "found norm.running_mean of [2], which does not belong to it, expected the parameters of an MLP";
    assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
}
