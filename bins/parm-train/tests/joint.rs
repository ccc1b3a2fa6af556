//! Deployed models that are trained together with their codes, as processes, on digits.

use std::fs;
use std::path::{Path, PathBuf};

use parm::{CodeFile, Task};
use parm_testkit::npy::{f4, f4_values, u1};
use parm_testkit::{Outcome, Tool};
use serde_json::Value;

fn repository(name: &str) -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

fn digits(options: &str) -> String {
    options.replace("DIGITS", repository("testdata/digits").to_str().unwrap())
}

fn run(folder: &Path, tool: &str, options: &str) -> Vec<u8> {
    Tool::new(tool).args(&digits(options)).within(folder).run().output()
}

/// The command line of a joint training.
fn joint(options: &str) -> String {
    let labels = if options.contains("--labels") { "" } else { "--labels DIGITS/train-labels.npy" };
    digits(&format!("joint --data DIGITS/train.npy {labels} --threads 1 -q {options}"))
}

fn train(folder: &Path, options: &str) -> Outcome {
    Tool::new("parm-train").args(&joint(options)).within(folder).run()
}

fn done(folder: &Path, options: &str) -> CodeFile {
    let ended = train(folder, options);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{options}");
    let output = options.split("-o ").nth(1).unwrap().split(' ').next().unwrap();
    CodeFile::load(&folder.join(output)).unwrap()
}

/// The lines of parm-compare on the test rows.
fn compare(folder: &Path, options: &str) -> Value {
    let data = "--data DIGITS/test.npy --labels DIGITS/test-labels.npy --json";
    serde_json::from_slice(&run(folder, "parm-compare", &format!("{data} {options}"))).unwrap()
}

fn row<'a>(compared: &'a Value, code: &str) -> &'a Value {
    compared["rows"].as_array().unwrap().iter().find(|row| row["code"] == code).unwrap()
}

const BASE: &str = "base --data DIGITS/train.npy --labels DIGITS/train-labels.npy --threads 1 --hidden 64,32 \
                    --epochs 60 -o base.safetensors -q";

#[test]
fn a_deployed_model_that_learns_with_its_code_is_rebuilt_better() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run(path, "parm-train", BASE);
    let parity =
        "parity --base base.safetensors --data DIGITS/train.npy --threads 1 --code sum -k 4 -o parity -q";
    run(path, "parm-train", parity);
    let file = done(path, "--base base.safetensors --code sum -k 4 -o joint");
    let deployed = file.joint().unwrap();
    assert_eq!((deployed.name.as_str(), deployed.recorded), ("deployed.safetensors", false));
    let scores = file.scores.unwrap();
    assert!(scores.available.is_some_and(|accuracy| accuracy > 0.9), "{scores:?}");

    let compared =
        compare(path, "-m base.safetensors -k 4 --codes berrut --code-dir parity --code-dir joint");
    let value = |code: &str, score: &str| row(&compared, code)[score].as_f64().unwrap();
    let [trained, joint] = ["sum:trained", "sum:joint"].map(|code| value(code, "A_d"));
    assert!(joint > trained + 0.02, "{joint} {trained}");
    // Both deployed models are shown.
    let [own, other] = [0, 1].map(|at| compared["deployed"][at].clone());
    assert_eq!(
        (own["model"].as_str(), other["model"].as_str()),
        (Some("base.safetensors"), Some("joint/deployed.safetensors"))
    );
    let accuracy = |of: &Value| of["score"].as_f64().unwrap();
    assert!(accuracy(&other) > accuracy(&own) - 0.03, "{own} {other}");
    // The code goes with no other deployed model.
    let refused = Tool::new("parm-infer")
        .args(&digits("-m base.safetensors --code joint --parity-out q.npy DIGITS/test.npy -o p.npy"))
        .within(path)
        .run();
    assert!(refused.code == 1 && refused.stderr.contains("expected"), "{}", refused.stderr);
    run(
        path,
        "parm-infer",
        "-m joint/deployed.safetensors --code joint --parity-out q.npy DIGITS/test.npy -o p.npy --tail pad",
    );
}

#[test]
fn an_interpolating_code_is_a_directory_with_its_deployed_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run(path, "parm-train", BASE);
    let options = "--base base.safetensors --code spline --lambda-d 1e-5 -k 4 --stragglers 1 -o joint";
    let file = done(path, options);
    assert_eq!((file.stragglers, file.lambda_d, file.parity.len()), (Some(1), Some(1e-5), 0));
    let compared = compare(path, "-m base.safetensors -k 4 --codes spline --lambda-d 1e-5 --code-dir joint");
    let value = |code: &str| row(&compared, code)["A_d"].as_f64().unwrap();
    assert!(value("spline:joint") > value("spline") + 0.02, "{compared}");
    // The tools take all of the code from the directory.
    fs::write(path.join("coded.npy"), run(path, "parm-encode", "--code joint DIGITS/test.npy --tail pad"))
        .unwrap();
    fs::write(path.join("answers.npy"), run(path, "parm-infer", "-m joint/deployed.safetensors coded.npy"))
        .unwrap();
    for code in ["joint", "spline -k 4 --stragglers 1 --lambda-d 1e-5"] {
        let decoded = run(path, "parm-decode", &format!("--code {code} --erase one --seed 3 answers.npy"));
        fs::write(path.join(format!("{}.npy", &code[..5])), decoded).unwrap();
    }
    assert!(fs::read(path.join("joint.npy")).unwrap() == fs::read(path.join("splin.npy")).unwrap());
    let refused = Tool::new("parm-infer")
        .args("-m joint/deployed.safetensors --code joint --parity-out q.npy coded.npy -o p.npy")
        .within(path)
        .run();
    assert!(refused.code == 2 && refused.stderr.contains("parm-encode"), "{}", refused.stderr);
}

#[test]
fn every_code_and_every_kind_of_model_is_trained_jointly_and_resumed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let program = repository("testdata/digits/model.pt2");
    // Its five classes are not those of digits.
    let script = repository("testdata/exported/cnn.pt");
    let labels = fs::read(repository("testdata/digits/train-labels.npy")).unwrap();
    let labels: Vec<u8> = labels[128..].iter().map(|label| label % 5).collect();
    fs::write(path.join("five.npy"), u1(&[labels.len()], &labels)).unwrap();
    for (at, options) in [
        "--hidden 16 --code sum -k 3 -r 2".to_owned(),
        "--base mlp --hidden 16 --code concat -k 2 --ema 0.9".to_owned(),
        "--hidden 16 --code learned --encoder conv --runs-on parity -k 2 --loss kl --augment shift=1"
            .to_owned(),
        "--hidden 16 --code sum --runs-on deployed -k 2 --compare sums --loss mse".to_owned(),
        format!("--base {} --labels five.npy --code floater-hormann -k 3 --byzantine 1", script.display()),
        format!("--base {} --code sum -k 2 --freeze *.bias --precision mixed", program.display()),
    ]
    .iter()
    .enumerate()
    {
        let call = |out: &str, more: &str| format!("{options} --epochs 3 {more} -o {out}{at}");
        let file = done(path, &call("whole", ""));
        let first = path.join(format!("parts{at}/run/metrics.jsonl"));
        let stopped =
            Tool::new("parm-train").args(&joint(&call("parts", ""))).within(path).interrupt("INT", &first);
        assert!([0, 130].contains(&stopped.code), "{options}: {}", stopped.stderr);
        done(path, &call("parts", "--resume"));
        let parts = file.parity.iter().chain(&file.encoder).chain(&file.decoder);
        for part in parts.chain([&file.joint().unwrap().name]) {
            let read = |folder: &str| fs::read(path.join(format!("{folder}{at}")).join(part)).unwrap();
            assert!(read("whole") == read("parts"), "{options}: {part}");
        }
    }
}

#[test]
fn what_cannot_be_trained_jointly_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let fixed = repository("testdata/exported/mlp-fixed.pt2");
    let cases = [
        ("--code replicate -k 2", 2, "replicate"),
        ("--code none -k 2", 2, "none"),
        ("--code sum -k 2 --encoder mlp", 2, "--encoder goes with --code learned"),
        ("--code sum -k 2 --stragglers 1", 2, "--stragglers goes with interpolating codes"),
        ("--code berrut -k 2 -r 2", 2, "-r goes with codes with parities"),
        ("--code berrut -k 2 --decoder mlp", 2, "expected neither"),
        ("--code berrut -k 2 --runs-on parity", 2, "expected neither"),
        ("--code learned -k 2 --parity-width 2", 2, "expected --runs-on parity"),
        ("--code concat -k 2 -r 2", 2, "concat has one parity query"),
        ("--code sum -k 2 --weight 0", 2, "--weight"),
        ("--code sum -k 2 --activation relu", 2, "found a kind of network"),
        ("--code sum -k 2 --base missing.pt2", 1, "missing.pt2"),
        ("--code sum -k 900", 1, "expected at least 900 of each"),
        (&format!("--code sum -k 2 --base {}", fixed.display()), 1, "dynamic_shapes"),
    ];
    for (options, code, expected) in cases {
        let ended = train(path, &format!("{options} --epochs 1 -o new"));
        let line = &ended.stderr;
        assert_eq!(ended.code, code, "{options}: {line}");
        assert!(line.contains(expected) && !line.contains("panicked"), "{options}: {line}");
        assert!(!path.join("new/code.json").exists(), "{options}");
    }
}

#[test]
fn a_deployed_model_of_values_learns_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // The sums of the upper and the lower half of a picture.
    let pixels = f4_values(&fs::read(repository("testdata/digits/train.npy")).unwrap());
    let values: Vec<f32> = pixels.chunks(32).map(|half| half.iter().sum()).collect();
    fs::write(path.join("v.npy"), f4(&[values.len() / 2, 2], &values)).unwrap();
    let call = "joint --data DIGITS/train.npy --code sum -k 2 --threads 1 --epochs 40 --batch 32 --lr 0.01";
    let train = |options: &str| {
        Tool::new("parm-train").args(&digits(&format!("{call} {options}"))).within(path).run()
    };
    let ended = train("--values v.npy -o joint");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let file = CodeFile::load(&path.join("joint")).unwrap();
    let scores = file.scores.unwrap();
    let [own, rebuilt] = [scores.available_determination, scores.degraded_determination].map(Option::unwrap);
    assert!(file.output == Task::Regress && own > 0.5 && rebuilt > own - 0.2, "{scores:?}");
    for (options, message) in [
        ("--task embed -o new", "--task embed: found no loss for embeddings here"),
        ("-o new", "found no truth to learn, expected --labels, --boxes or --values"),
        (
            "--values v.npy --loss cross-entropy -o new",
            "--loss cross-entropy: found predictions of the task regress",
        ),
    ] {
        let ended = train(options);
        assert!(
            ended.code == 2 && ended.stderr.contains(message),
            "{options}: {} {}",
            ended.code,
            ended.stderr
        );
    }
}
