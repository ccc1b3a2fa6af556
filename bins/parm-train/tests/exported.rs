//! Parity models of exported programs and TorchScript, as processes: the README's session on digits.

use std::fs;
use std::path::{Path, PathBuf};

use parm_testkit::Tool;

fn digits(name: &str) -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/digits").join(name)).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported").join(name)
}

fn run(folder: &Path, tool: &str, options: &str) -> Vec<u8> {
    Tool::new(tool)
        .args(&options.replace("DIGITS", digits("").to_str().unwrap()))
        .within(folder)
        .run()
        .output()
}

fn train(folder: &Path, options: &str) -> parm_testkit::Outcome {
    let data = digits("");
    let options = options.replace("DIGITS", data.to_str().unwrap());
    let all = format!(
        "parity --data {0}/train.npy --labels {0}/train-labels.npy --threads 1 {options}",
        data.display()
    );
    Tool::new("parm-train").args(&all).within(folder).run()
}

/// A score of `parm-score --json` on the test rows, each lost once.
fn degraded(folder: &Path, code: &str, k: u32, base: &str, parity: &str) -> f64 {
    let output = |name: &str, bytes: Vec<u8>| fs::write(folder.join(name), bytes).unwrap();
    output("p.npy", run(folder, "parm-infer", &format!("-m {base} DIGITS/test.npy")));
    output("parity-queries.npy", run(folder, "parm-encode", &format!("--code {code} DIGITS/test.npy")));
    output("parity.npy", run(folder, "parm-infer", &format!("-m {code}/{parity} parity-queries.npy")));
    let decode = format!("--code {code} --parity parity.npy --erase each --erased-out lost.npy p.npy");
    output("each.npy", run(folder, "parm-decode", &decode));
    let score = format!("--labels DIGITS/test-labels.npy --available lost.npy --copies {k} --json each.npy");
    let scores: serde_json::Value = serde_json::from_slice(&run(folder, "parm-score", &score)).unwrap();
    let all = scores["scores"].as_array().unwrap();
    let found = all.iter().find(|score| score["score"] == "A_d" && score["top"] == 1);
    found.and_then(|score| score["value"].as_f64()).unwrap()
}

#[test]
fn a_program_has_a_parity_model_of_its_own_architecture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = digits("model.pt2");
    let base = model.display();
    let ended = train(path, &format!("--base {base} --code sum -k 2 --epochs 40 -o code -q"));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(path.join("code/parity-0.pt2").exists() && path.join("code/run/parity-0/best.pt2").exists());
    let degraded = degraded(path, "code", 2, &base.to_string(), "parity-0.pt2");
    // .95 when this was written; guessing the most frequent digit has .1.
    assert!(degraded > 0.9, "{degraded}");
    let text = String::from_utf8(run(path, "parm-infer", "-m code/parity-0.pt2 --describe")).unwrap();
    assert!(text.contains("trainable   yes"), "{text}");
}

/// SIGINT in the second epoch of four, then `--resume`: the parity models are those of an unbroken training.
fn resumes_to_the_bit(base: &Path, options: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let call = |out: &str| {
        let data = digits("train.npy");
        let files = format!("--base {} --data {} -o {out} -q", base.display(), data.display());
        let call = format!("parity {files} --code sum -k 3 -r 2 --epochs 4 --threads 1 {options}");
        Tool::new("parm-train").args(&call).within(path)
    };
    assert_eq!(call("whole").run().code, 0);
    let stopped = call("parts").interrupt("INT", &path.join("parts/run/parity-0/metrics.jsonl"));
    assert_eq!(stopped.code, 130, "{}", stopped.stderr);
    assert!(!path.join("parts/code.json").exists());
    assert_eq!(call("parts").args("--resume").run().code, 0);
    let kind = base.extension().unwrap().to_str().unwrap();
    for name in ["parity-0", "parity-1", "run/parity-0/best", "run/parity-1/best"] {
        let read = |folder: &str| fs::read(path.join(format!("{folder}/{name}.{kind}"))).unwrap();
        assert!(read("whole") == read("parts"), "{name}");
    }
}

#[test]
fn a_training_of_a_program_is_resumed_to_the_bit() {
    resumes_to_the_bit(&digits("model.pt2"), "");
}

/// Its dropout draws again what it drew, and its running statistics move on.
#[test]
fn a_training_of_a_scripted_module_is_resumed_to_the_bit() {
    resumes_to_the_bit(&fixture("cnn.pt"), "--loss mse");
}

#[test]
fn what_cannot_be_trained_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = fixture("mlp-fixed.pt2");
    let data: Vec<f32> = (0..40 * 16).map(|value| value as f32 * 0.01).collect();
    fs::write(folder.path().join("x.npy"), parm_testkit::npy::f4(&[40, 16], &data)).unwrap();
    let options = format!("parity --base {} --code sum -k 2 --data x.npy -o code", fixed.display());
    let ended = Tool::new("parm-train").args(&options).within(folder.path()).run();
    assert_eq!(ended.code, 1);
    for part in ["mlp-fixed.pt2", "found a graph of a constant or bounded number of rows", "dynamic_shapes=("]
    {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    assert!(!folder.path().join("code").exists());
    // Another kind of network may be trained for it.
    let other = format!("{options} --model mlp --hidden 8 --epochs 1 -q");
    let ended = Tool::new("parm-train").args(&other).within(folder.path()).run();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(folder.path().join("code/parity-0.safetensors").exists());
}

#[test]
fn a_model_of_integer_queries_is_refused_as_such_before_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<f32> = (0..40 * 12).map(|value| value as f32 * 0.01).collect();
    fs::write(folder.path().join("x.npy"), parm_testkit::npy::f4(&[40, 12], &data)).unwrap();
    let base = fixture("distilbert.pt2");
    let options = format!("parity --base {} --code sum -k 2 --data x.npy -o code", base.display());
    let ended = Tool::new("parm-train").args(&options).within(folder.path()).run();
    let message =
        "distilbert.pt2: found queries of type i8, expected a model that can be trained: a code makes sums";
    assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
}

#[test]
fn notes_tell_what_options_come_to() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<f32> = (0..40 * 16).map(|value| (value % 37) as f32 * 0.1).collect();
    fs::write(folder.path().join("x.npy"), parm_testkit::npy::f4(&[40, 16], &data)).unwrap();
    let notes = |base: &str, data: &Path, options: &str| {
        let call = format!("--base {} --data {}", fixture(base).display(), data.display());
        let call =
            format!("parity {call} --code sum -k 2 --loss mse --epochs 1 --threads 1 -o code {options}");
        let ended = Tool::new("parm-train").args(&call).args("--force").within(folder.path()).run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let notes = ended.stderr.lines().filter_map(|line| line.strip_prefix("parm-train: note: "));
        notes.map(str::to_owned).collect::<Vec<_>>()
    };
    let (rows, digits) = (folder.path().join("x.npy"), digits("train.npy"));
    let mlp = "parity model: an MLP [16, 8, 5] by --hidden, not a network like mlp.pt2";
    let found = notes("mlp.pt2", &rows, "--hidden 8");
    assert!(found.len() == 1 && found[0].starts_with(mlp), "{found:?}");
    assert!(notes("mlp.pt2", &rows, "--hidden 8 --model mlp").is_empty());
    let frozen = "--bn frozen: found parity models without batch normalisation, where it has no effect";
    for (base, data, expected) in
        [("mlp.pt2", &rows, vec![frozen]), ("cnn.pt2", &digits, vec![]), ("cnn.pt", &digits, vec![])]
    {
        assert_eq!(notes(base, data, "--bn frozen"), expected, "{base}");
    }
    assert_eq!(notes("mlp.pt2", &rows, "--model mlp --bn frozen"), [frozen]);
}

#[test]
fn a_code_knows_the_output_of_its_models_and_takes_their_constants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let base = fixture("two.pt2");
    let numbers =
        |count: usize| (0..count).map(|i| ((i * 7919) % 101) as f32 * 0.02 - 1.0).collect::<Vec<_>>();
    fs::write(path.join("x.npy"), parm_testkit::npy::f4(&[60, 6], &numbers(360))).unwrap();
    fs::write(path.join("table.npy"), parm_testkit::npy::f4(&[3, 6], &numbers(18))).unwrap();
    let constant = "--constant table=table.npy";
    let options = format!("parity --base {} --code sum -k 2 --data x.npy", base.display());
    let all = format!("{options} {constant} --output-name features --loss mse --epochs 2 -o code -q");
    let ended = Tool::new("parm-train").args(&all).within(path).run();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let infer = |options: &str| Tool::new("parm-infer").args("--threads 1").args(options).within(path).run();
    let base = base.display();
    fs::write(path.join("coded.npy"), run(path, "parm-encode", "--code code x.npy")).unwrap();
    let steps = infer(&format!("-m code/parity-0.pt2 {constant} --output-name features coded.npy")).output();
    // The code says which output its models have; the constants are those of the call.
    let both = infer(&format!("-m {base} --code code --parity-out one.npy {constant} x.npy"));
    let alone = infer(&format!("-m {base} {constant} --output-name features x.npy")).output();
    assert_eq!(both.output(), alone);
    let found = parm_testkit::npy::f4_values(&fs::read(path.join("one.npy")).unwrap());
    for (found, expected) in found.iter().zip(parm_testkit::npy::f4_values(&steps)) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    let options = format!("{constant} --output-name logits --parity-out two.npy x.npy");
    let other = infer(&format!("-m {base} --code code {options}"));
    assert!(
        other.code == 1 && other.stderr.contains("expected features as the code has it"),
        "{}",
        other.stderr
    );
}

#[test]
fn programs_and_torchscript_are_exported_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let base = digits("model.pt2");
    let infer = |model: &str| run(path, "parm-infer", &format!("-m {model} DIGITS/test.npy"));
    let export = |options: &str| Tool::new("parm-train").args("export").args(options).within(path).run();
    let base = base.display().to_string();
    assert_eq!(export(&format!("{base} -o new.pt2")).output(), b"");
    assert_eq!(infer("new.pt2"), infer(&base));
    for name in ["e.safetensors", "e.pt"] {
        let ended = export(&format!("{base} -o {name}"));
        assert!(
            ended.code == 1 && ended.stderr.contains("expected .pt2: the model is written as an exported")
        );
        assert!(!path.join(name).exists());
    }
    // Names that say nothing of a kind, and standard output, stay.
    assert_eq!(export(&format!("{base} -o program.bin")).output(), b"");
    assert_eq!(export(&format!("{base} -o -")).output(), fs::read(path.join("new.pt2")).unwrap());
    assert_eq!(export(&format!("{base} --triton models --name digits")).output(), b"");
    assert_eq!(infer("models/digits/1/model.pt2"), infer(&base));
    let config = fs::read_to_string(path.join("models/digits/config.pbtxt")).unwrap();
    assert!(config.contains("backend: \"python\"") && config.contains("dims: [1, 8, 8]"), "{config}");
    assert!(config.contains("name: \"OUTPUT__0\"\n    data_type: TYPE_FP32\n    dims: [10]"), "{config}");
    assert!(fs::read_to_string(path.join("models/digits/1/model.py")).unwrap().contains("torch.export.load"));
    let ended = export(&format!("{base} --triton models --name other --backend libtorch"));
    assert!(ended.code == 1 && ended.stderr.contains("expected --backend python"), "{}", ended.stderr);
    assert!(!path.join("models/other").exists());
}

#[test]
fn a_part_of_a_program_is_exported_and_trained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let base = fixture("distilbert.pt2").display().to_string();
    let export = |options: &str| Tool::new("parm-train").args("export").args(options).within(path).run();
    assert_eq!(export(&format!("{base} --to layer_norm -o front.pt2")).output(), b"");
    assert_eq!(export(&format!("{base} --from layer_norm -o back.pt2")).output(), b"");
    let ids: Vec<f32> = (0..40 * 12).map(|value| (value * 7 % 50) as f32).collect();
    fs::write(path.join("ids.npy"), parm_testkit::npy::f4(&[40, 12], &ids)).unwrap();
    let infer = |options: &str| run(path, "parm-infer", options);
    fs::write(path.join("x.npy"), infer("-m front.pt2 ids.npy")).unwrap();
    assert_eq!(infer("-m back.pt2 x.npy"), infer(&format!("-m {base} --from layer_norm x.npy")));
    // A classifier of token ids is coded behind its embedding.
    let code = "parity --base back.pt2 --code sum -k 2 --data x.npy --epochs 1 --threads 1 -o code -q";
    assert_eq!(Tool::new("parm-train").args(code).within(path).run().output(), b"");
    assert!(path.join("code/parity-0.pt2").exists());
}
