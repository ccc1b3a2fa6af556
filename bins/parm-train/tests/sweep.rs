//! `parm-train sweep` as a process, on handwritten digits in the place of MNIST.

use std::fs;
use std::path::{Path, PathBuf};

use parm::CodeFile;
use parm::codes::directory::RunsOn;
use parm_testkit::npy::{f4, f4_values};
use parm_testkit::{Outcome, Tool, safetensors};
use serde_json::{Value, json};

const SUM: [&str; 2] = ["coders.summation.AdditionEncoder", "coders.summation.SubtractionDecoder"];
const CONCAT: [&str; 2] = ["coders.image.ConcatenationEncoder", "coders.summation.SubtractionDecoder"];
const LEARNED: [&str; 2] = ["coders.mlp.MLPEncoder", "coders.mlp.MLPDecoder"];

/// A folder with the data set and a configuration, c.json: sums, k = 2 and 3.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/digits");
    for part in ["train", "test"] {
        let to = folder.path().join("data/mnist").join(part);
        fs::create_dir_all(&to).unwrap();
        fs::copy(digits.join(format!("{part}.npy")), to.join("images.npy")).unwrap();
        fs::copy(digits.join(format!("{part}-labels.npy")), to.join("labels.npy")).unwrap();
    }
    write(folder.path(), &config());
    folder
}

fn config() -> Value {
    json!({
        "num_epoch": 30, "k_vals": [2, 3], "enc_dec_types": [SUM], "datasets": ["mnist"],
        "models": ["base-mlp"], "losses": ["torch.nn.MSELoss"], "train_encoder": false,
        "train_parity_model": true, "train_decoder": false, "train_base_model": true,
    })
}

/// The configuration with other values.
fn with(changes: &Value) -> Value {
    let mut config = config();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

fn write(folder: &Path, config: &Value) {
    fs::write(folder.join("c.json"), config.to_string()).unwrap();
}

/// Sweeps, also in the place of what an earlier call of a test made.
fn sweep(folder: &Path, arguments: &str) -> Outcome {
    let keeps = ["--resume", "--only-test", "--continue-from"].iter().any(|flag| arguments.contains(flag));
    let force = if keeps { "" } else { "--force" };
    Tool::new("parm-train").args("sweep c.json --threads 1").args(arguments).args(force).within(folder).run()
}

/// The lines of a sweep's JSON.
fn lines(folder: &Path, arguments: &str) -> Vec<Value> {
    let output = String::from_utf8(sweep(folder, &format!("{arguments} --json")).output()).unwrap();
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn code(k: u32, loss: &str, [encoder, decoder]: [&str; 2]) -> PathBuf {
    Path::new("mnist/base-mlp").join(format!("k{k}")).join(loss).join(encoder).join(decoder)
}

fn run(k: u32) -> PathBuf {
    code(k, "torch.nn.MSELoss", SUM)
}

/// A_d of a code on the test rows, by the tools.
fn degraded(folder: &Path, code: &str) -> f64 {
    let path = format!("{}:{}", parm_testkit::tool::folder().display(), std::env::var("PATH").unwrap());
    let script = format!(
        "base=save/base/mnist/base-mlp/model.safetensors; data=data/mnist/test\n\
         model={code}/parity-0.safetensors; test -e $model || model=$base\n\
         parm-infer -m $base $data/images.npy > own.npy\n\
         parm-encode --code {code} $data/images.npy | parm-infer -m $model > parity.npy\n\
         parm-decode --code {code} --parity parity.npy --erase each --erased-out have.npy own.npy > out.npy\n\
         parm-score -k 2 --labels $data/labels.npy --available have.npy --copies 2 out.npy |\n\
           awk '$1 == \"A_d\" {{print $3}}'"
    );
    let mut bash = std::process::Command::new("bash");
    let bash = bash.args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(folder).env("PATH", path);
    let output = bash.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn all_runs_are_trained_scored_and_named() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"k_vals": [2, 4], "enc_dec_types": [SUM, CONCAT]})));
    let output = sweep(path, "save --recipe parm").output();
    let table: Vec<Vec<String>> = String::from_utf8(output)
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(table[0], ["run", "k", "A_a", "A_d", "agreement", "rebuilt"]);
    let expected = ["k2-sum", "k2-concat", "k4-sum", "k4-concat"];
    let expected = expected.map(|name| format!("mnist-base-mlp-{name}-linear-mse"));
    assert_eq!(table[1..].iter().map(|row| row[0].clone()).collect::<Vec<_>>(), expected);
    for (row, coders) in table[1..].iter().zip([SUM, CONCAT, SUM, CONCAT]) {
        let k: u32 = row[1].parse().unwrap();
        let long = path.join("save").join(code(k, "torch.nn.MSELoss", coders));
        let file = CodeFile::load(&path.join("save").join(&row[0])).unwrap();
        assert_eq!((file.k, file.runs_on), (k as usize, RunsOn::Parity));
        assert_eq!(
            fs::canonicalize(path.join("save").join(&row[0])).unwrap(),
            fs::canonicalize(&long).unwrap()
        );
        let tested: Value = serde_json::from_slice(&fs::read(long.join("test.json")).unwrap()).unwrap();
        assert_eq!(tested["run"], row[0]);
        assert_eq!(format!("{:.4}", tested["A_d"].as_f64().unwrap()), row[3]);
        assert_eq!(tested["n"], 480);
        let epochs = fs::read_to_string(long.join("run/parity-0/metrics.jsonl")).unwrap();
        assert_eq!(epochs.lines().count(), 30);
    }
    // What was trained is what is scored: the groups differ, the scores hardly.
    let scored: f64 = table[1][3].parse().unwrap();
    let tools = degraded(path, "save/mnist-base-mlp-k2-sum-linear-mse");
    assert!(scored > 0.5 && (scored - tools).abs() < 0.06, "{scored} {tools}");
}

#[test]
fn an_encoder_that_does_not_learn_stays_as_it_begins() {
    let folder = folder();
    let path = folder.path();
    let fixed = json!({"k_vals": [2], "enc_dec_types": [LEARNED], "num_epoch": 6, "train_encoder": false,
        "train_parity_model": false, "train_decoder": true});
    write(path, &with(&fixed));
    let name = "mnist-base-mlp-k2-mlp-mlp-mse";
    let read = |part: &str| fs::read(path.join(format!("save/{name}/{part}.safetensors"))).unwrap();
    lines(path, "save --epochs 2");
    let early = ["encoder", "decoder"].map(read);
    // Its optimiser makes no step, that of the decoder does: they go on as one.
    lines(path, "save --resume");
    let resumed = ["encoder", "decoder", "run/checkpoint"].map(read);
    assert!(early[0] == resumed[0] && early[1] != resumed[1]);
    let line = &lines(path, "save")[0];
    assert!(["encoder", "decoder", "run/checkpoint"].map(read) == resumed);
    assert_eq!(line["settings"]["fixed_encoder"], true);
    let [scored, tools] = [line["A_d"].as_f64().unwrap(), degraded(path, &format!("save/{name}"))];
    assert!((scored - tools).abs() < 0.08, "{scored} {tools}");
    // What was done with a fixed encoder is not what is asked for with one that learns.
    write(
        path,
        &with(&json!({"k_vals": [2], "enc_dec_types": [LEARNED], "num_epoch": 6, "train_encoder": true,
        "train_parity_model": false, "train_decoder": true})),
    );
    let other = sweep(path, "save --resume");
    assert!(other.code == 1 && other.stderr.contains("which stays, expected"), "{}", other.stderr);
}

#[test]
fn images_are_augmented_as_their_data_set_has_it() {
    let folder = folder();
    let path = folder.path();
    fs::rename(path.join("data/mnist"), path.join("data/cifar10")).unwrap();
    write(path, &with(&json!({"k_vals": [2], "num_epoch": 1, "datasets": ["cifar10"]})));
    for (arguments, augment) in [
        ("", "[shift(4), flip]"),
        ("--augment shift=1", "[shift(1)]"),
        ("--augment none", "[none]"),
        ("--recipe parm", "[]"),
    ] {
        let line = &lines(path, &format!("save {arguments}"))[0];
        assert_eq!(line["settings"]["augment"], augment, "{arguments}");
    }
}

#[test]
fn without_train_parity_model_the_deployed_models_own_weights_answer() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"k_vals": [2], "train_parity_model": false})));
    let line = &lines(path, "save")[0];
    let name = "save/mnist-base-mlp-k2-sum-linear-mse";
    let file = CodeFile::load(&path.join(name)).unwrap();
    assert_eq!((file.runs_on, file.parity.len()), (RunsOn::Deployed, 0));
    assert_eq!(line["settings"]["deployed"], file.deployed.unwrap().sha256);
    let [scored, tools] = [line["A_d"].as_f64().unwrap(), degraded(path, name)];
    // Random weights answer one in ten rightly.
    assert!(scored > 0.25 && (scored - tools).abs() < 0.08, "{scored} {tools}");

    // The same model answers what an encoder learns to ask it.
    let base = path.join("save/base/mnist/base-mlp/model.safetensors");
    let before = fs::read(&base).unwrap();
    let learned = json!({"k_vals": [2], "enc_dec_types": [LEARNED], "num_epoch": 40, "train_encoder": true,
        "train_parity_model": false, "train_decoder": true});
    write(path, &with(&learned));
    let line = &lines(path, "save --recipe parm --batch 8 --lr 0.003")[0];
    let name = "save/mnist-base-mlp-k2-mlp-mlp-mse";
    let file = CodeFile::load(&path.join(name)).unwrap();
    assert_eq!((file.runs_on, file.parity.len()), (RunsOn::Deployed, 0));
    assert!(file.encoder.is_some() && file.decoder.is_some());
    let [scored, tools] = [line["A_d"].as_f64().unwrap(), degraded(path, name)];
    assert!(scored > 0.3 && (scored - tools).abs() < 0.08, "{scored} {tools}");
    assert!(fs::read(&base).unwrap() == before, "the deployed model has changed");
}

#[test]
fn the_papers_recipe_is_the_default_and_options_come_before_the_configuration() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"num_epoch": 2})));
    let settings = |arguments: &str| -> Vec<Value> {
        let list = |line: Value| {
            json!([line["settings"]["recipe"], line["settings"]["epochs"], line["settings"]["batch"]])
        };
        lines(path, arguments).into_iter().map(list).collect()
    };
    assert_eq!(settings("save"), [json!(["paper", 2, null]), json!(["paper", 2, null])]);
    // More rows for validation than there are to test.
    assert_eq!(settings("save --epochs 1 --batch 9 --validation 500")[0], json!(["paper", 1, 9]));
    assert_eq!(settings("save --recipe parm")[1], json!(["parm", 2, null]));
    // A learning rate for codes is none for deployed models, nor are their epochs.
    let epochs = fs::read_to_string(path.join("save/base/mnist/base-mlp/model.run/metrics.jsonl")).unwrap();
    assert!(epochs.lines().count() == 50 && epochs.contains("\"lr\":0.001"), "{epochs}");
}

#[test]
fn a_sweep_that_was_stopped_goes_on_to_the_bit() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"num_epoch": 300})));
    let whole = lines(path, "whole --lr 0.005");
    let part = Tool::new("parm-train")
        .args("sweep c.json part --threads 1 --lr 0.005 --base-dir whole/base --checkpoint-cycle 1000")
        .within(path)
        .interrupt("INT", &path.join("part").join(run(3)).join("run/parity-0/metrics.jsonl"));
    assert_eq!(part.code, 130, "{}", part.stderr);
    assert!(part.stdout.is_empty() && part.stderr.contains("--resume"), "{}", part.stderr);
    assert!(!path.join("part").join(run(3)).join("code.json").exists());
    let before = fs::metadata(path.join("part").join(run(2)).join("code.json")).unwrap().modified().unwrap();

    let rest =
        sweep(path, "part --lr 0.005 --base-dir whole/base --checkpoint-cycle 1000 --resume -v --json");
    assert!(
        rest.code == 0 && rest.stderr.contains("k2-sum-linear-mse: was done before\n"),
        "{}",
        rest.stderr
    );
    let rest: Vec<Value> = String::from_utf8(rest.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rest, whole);
    for run in [run(2), run(3)] {
        for name in ["parity-0.safetensors", "test.json", "run/parity-0/checkpoint.safetensors"] {
            let [one, other] =
                ["whole", "part"].map(|save| fs::read(path.join(save).join(&run).join(name)).unwrap());
            assert!(one == other, "{} {name}", run.display());
        }
    }
    let after = fs::metadata(path.join("part").join(run(2)).join("code.json")).unwrap().modified().unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_run_of_other_settings_is_not_taken_for_done() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"k_vals": [2], "num_epoch": 2})));
    lines(path, "save");
    assert_eq!(lines(path, "save --resume --epochs 4")[0]["settings"]["epochs"], 4);
    let epochs =
        fs::read_to_string(path.join("save").join(run(2)).join("run/parity-0/metrics.jsonl")).unwrap();
    assert_eq!(epochs.lines().count(), 4);
    let ended = sweep(path, "save --resume --epochs 4 --seed 1");
    let expected = "k2/torch.nn.MSELoss/coders.summation.AdditionEncoder";
    assert!(
        ended.code == 1 && ended.stderr.contains(expected) && ended.stderr.contains("seed"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_sweep_begins_with_the_run_that_it_is_told_to_continue_from() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"num_epoch": 2})));
    let all = lines(path, "save");
    let checkpoint = run(3).join("run/parity-0/checkpoint.safetensors");
    for from in [checkpoint.to_str().unwrap(), "mnist-base-mlp-k3-sum-linear-mse"] {
        assert_eq!(lines(path, &format!("save --continue-from save/{from}")), all[1..]);
    }
    for (from, message) in
        [("save", "found no run of c.json there, expected a folder as save/mnist"), ("none", "No such file")]
    {
        let ended = sweep(path, &format!("save --continue-from {from}"));
        assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
    }
}

#[test]
fn only_test_scores_what_is_there_and_changes_nothing() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"num_epoch": 2})));
    let all = lines(path, "save");
    let test = path.join("save").join(run(2)).join("test.json");
    fs::remove_file(&test).unwrap();
    assert_eq!(lines(path, "save --only-test"), all);
    assert!(!test.exists());
    // Another deployed model than the code was trained for.
    let base = path.join("save/base/mnist/base-mlp");
    let parity = path.join("save").join(run(2)).join("parity-0.safetensors");
    let model = fs::read(base.join("model.safetensors")).unwrap();
    fs::copy(&parity, base.join("model.safetensors")).unwrap();
    let ended = sweep(path, "save --only-test");
    assert!(ended.code == 1 && ended.stderr.contains("found the SHA-256 "), "{}", ended.stderr);
    fs::write(base.join("model.safetensors"), model).unwrap();
    fs::copy(parity.with_extension("pt"), &parity).unwrap();
    // A part of another kind answers as well.
    assert_eq!(lines(path, "save --only-test"), all);
    fs::remove_file(path.join("save").join(run(2)).join("code.json")).unwrap();
    let ended = sweep(path, "save --only-test");
    assert!(ended.code == 1 && ended.stderr.contains("code.json"), "{}", ended.stderr);
}

#[test]
fn boxes_are_scored_by_their_overlap() {
    let folder = folder();
    let path = folder.path();
    for part in ["train", "test"] {
        let to = path.join("data/cub-localization").join(part);
        fs::create_dir_all(&to).unwrap();
        let values: Vec<f32> = (0..120 * 4).map(|i| ((i * 7919) % 101) as f32 / 101.0 + 0.5).collect();
        fs::write(to.join("images.npy"), f4(&[120, 2, 2], &values)).unwrap();
        fs::write(to.join("boxes.npy"), f4(&[120, 4], &values)).unwrap();
    }
    write(path, &with(&json!({"datasets": ["cub-localization"], "k_vals": [2]})));
    let base = path.join("save/base/cub-localization/base-mlp");
    fs::create_dir_all(&base).unwrap();
    let call = "base --data data/cub-localization/train/images.npy --hidden 32 --batch 8 --epochs 40 --lr 0.01 \
                --boxes data/cub-localization/train/boxes.npy --threads 1 -o";
    let call = Tool::new("parm-train").args(call).arg(base.join("model.safetensors")).within(path);
    assert_eq!(call.run().output(), b"");
    let line = &lines(path, "save --lr 0.01 --recipe parm --batch 8")[0];
    assert!(line["IoU"]["mean"].as_f64().is_some_and(|mean| mean > 0.5) && line["A_d"].is_null(), "{line}");
    let table = String::from_utf8(sweep(path, "save --only-test").output()).unwrap();
    assert!(table.lines().next().unwrap().ends_with("IoU  IoU>=.5 IoU>=.75  rebuilt"), "{table}");
}

#[test]
fn a_configuration_may_say_what_its_models_predict() {
    let folder = folder();
    let path = folder.path();
    // Values in the place of labels.
    for part in ["train", "test"] {
        let to = path.join("data/mnist").join(part);
        let images = f4_values(&fs::read(to.join("images.npy")).unwrap());
        let pixels = 64;
        let sum = |image: &[f32]| [image[..pixels / 2].iter().sum::<f32>(), image[pixels / 2..].iter().sum()];
        let values: Vec<f32> = images.chunks(pixels).flat_map(sum).collect();
        fs::write(to.join("values.npy"), f4(&[values.len() / 2, 2], &values)).unwrap();
        fs::remove_file(to.join("labels.npy")).unwrap();
    }
    write(path, &with(&json!({"task": "regress", "k_vals": [2], "num_epoch": 10})));
    let call = "save --lr 0.005 --recipe parm --batch 32";
    let line = &lines(path, call)[0];
    assert!(line["R2"].as_f64().is_some_and(|r2| r2 > 0.3) && line["A_d"].is_null(), "{line}");
    assert!(line["MAE"].is_number() && line["cosine"].is_null(), "{line}");
    let table = String::from_utf8(sweep(path, "save --only-test").output()).unwrap();
    assert!(table.lines().next().unwrap().ends_with("R2      MAE  rebuilt"), "{table}");

    let embed = with(&json!({"task": "embed", "k_vals": [2], "num_epoch": 10, "losses": ["cosine"]}));
    write(path, &embed);
    let ended = sweep(path, "other");
    let message = "other/base/mnist/base-mlp/model.safetensors: not found, expected the deployed model there: \
                   embeddings are trained elsewhere";
    assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
    // The values' model says that it is none of embeddings.
    let ended = sweep(path, "new --base-dir save/base");
    let message = "--task embed: found the task embed, expected regress";
    assert!(ended.code == 2 && ended.stderr.contains(message), "{}", ended.stderr);
    let base = path.join("own/base/mnist/base-mlp");
    fs::create_dir_all(&base).unwrap();
    let weights: Vec<f32> = (0..64 * 6).map(|i| ((i * 7919) % 101) as f32 / 101.0 - 0.5).collect();
    fs::write(base.join("model.safetensors"), safetensors::linear(&[1, 8, 8], 6, &weights)).unwrap();
    let line = &lines(path, "own --lr 0.005 --recipe parm --batch 32")[0];
    assert!(line["cosine"].as_f64().is_some_and(|cosine| cosine > 0.8) && line["R2"].is_null(), "{line}");
    assert!(line["recall@10"].is_number(), "{line}");
}

#[test]
fn what_is_missing_is_said_before_anything_is_trained() {
    let folder = folder();
    let path = folder.path();
    let refused = |arguments: &str, code: i32, messages: &[&str]| {
        let ended = sweep(path, arguments);
        assert_eq!(ended.code, code, "{}", ended.stderr);
        assert!(messages.iter().all(|message| ended.stderr.contains(message)), "{}", ended.stderr);
        assert!(!path.join("save/mnist").exists());
    };
    refused(
        "save --data-dir none",
        1,
        &["none/mnist/train/images.npy: not found, expected the data set mnist"],
    );
    refused("save --only-test", 1, &["save/base/mnist/base-mlp/model.safetensors: not found"]);
    refused("save --only-test --resume", 2, &["cannot be used with"]);
    fs::write(path.join("save"), b"").unwrap();
    refused("save", 1, &["save/base/mnist/base-mlp: cannot create"]);
    fs::remove_file(path.join("save")).unwrap();
    write(path, &with(&json!({"train_base_model": false})));
    let make = "parm-train base --model mlp --data data/mnist/train/images.npy --labels \
                data/mnist/train/labels.npy -o models/mnist/base-mlp/model.safetensors";
    refused("save --base-dir models", 1, &["models/mnist/base-mlp/model.safetensors: not found", make]);
    write(path, &with(&json!({"datasets": ["mnist", "svhn"]})));
    refused("save", 1, &["c.json: datasets: found 'svhn', expected one of mnist"]);
    fs::remove_file(path.join("c.json")).unwrap();
    refused("save", 1, &["c.json: No such file"]);

    write(path, &with(&json!({"k_vals": [2], "num_epoch": 1})));
    lines(path, "save");
    fs::write(path.join("save").join(run(2)).join("test.json"), b"{").unwrap();
    let ended = sweep(path, "save --resume");
    assert!(ended.code == 1 && ended.stderr.contains("test.json: found no scores"), "{}", ended.stderr);
    let link = path.join("save/mnist-base-mlp-k2-sum-linear-mse");
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    let ended = sweep(path, "save");
    assert!(ended.code == 1 && ended.stderr.contains("mse: cannot link"), "{}", ended.stderr);
}

#[test]
fn own_data_and_models_are_swept_over_seeds() {
    let folder = folder();
    let path = folder.path();
    // A model of another tool's training, and rows in files of their own.
    write(path, &with(&json!({"k_vals": [2], "num_epoch": 1})));
    lines(path, "save");
    fs::create_dir(path.join("own")).unwrap();
    fs::rename(path.join("save/base/mnist/base-mlp/model.safetensors"), path.join("own/m.safetensors"))
        .unwrap();
    fs::rename(path.join("data/mnist"), path.join("own/rows")).unwrap();
    let split = |part: &str| json!({"data": format!("rows/{part}/images.npy"), "labels": format!("rows/{part}/labels.npy")});
    let config = json!({
        "epochs": 20, "k": [2], "coders": ["sum"], "models": ["m.safetensors"], "losses": ["mse"],
        "datasets": [{"name": "digits", "train": split("train"), "test": split("test")}], "seeds": [3, 4],
    });
    fs::write(path.join("own/c.json"), config.to_string()).unwrap();
    let sweep = |arguments: &str| {
        let call = Tool::new("parm-train").args("sweep own/c.json out --threads 1 --recipe parm --json");
        call.args(arguments).within(path).run()
    };
    let output = String::from_utf8(sweep("").output()).unwrap();
    let runs: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let model = parm::hash::sha256(&path.join("own/m.safetensors")).unwrap();
    let mut parity = Vec::new();
    for (run, seed) in runs.iter().zip([3, 4]) {
        let name = format!("digits-m-k2-sum-linear-mse-s{seed}");
        assert_eq!((&run["run"], &run["seed"]), (&json!(name), &json!(seed)));
        let code = path.join(format!("out/digits/m/k2/mse/sum/linear/seed-{seed}"));
        assert_eq!(fs::canonicalize(path.join("out").join(&name)).unwrap(), fs::canonicalize(&code).unwrap());
        let deployed = CodeFile::load(&code).unwrap().deployed.unwrap();
        assert_eq!(deployed.sha256, model);
        assert!(run["A_d"].as_f64().unwrap() > 0.3, "{run}");
        parity.push(fs::read(code.join("parity-0.safetensors")).unwrap());
    }
    assert!(runs.len() == 2 && parity[0] != parity[1], "{output}");
    assert!(!path.join("out/base").exists());
    // Runs are done by their seeds, too.
    assert_eq!(String::from_utf8(sweep("--resume").output()).unwrap(), output);
    fs::write(path.join("runs.jsonl"), &output).unwrap();
    let call = "--aggregate runs.jsonl --json";
    let all = Tool::new("parm-score").args(call).within(path).run().output();
    let all: Value = serde_json::from_slice(&all).unwrap();
    let degraded = all["aggregates"].as_array().unwrap().iter().find(|of| of["score"] == "A_d").unwrap();
    assert_eq!((&degraded["n"], &degraded["values"][1]), (&json!(2), &runs[1]["A_d"]));
    // A file is not trained.
    fs::remove_file(path.join("own/m.safetensors")).unwrap();
    let ended = sweep("--force");
    let message = "own/m.safetensors: not found, expected a deployed model there";
    assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
}

#[test]
fn deployed_models_may_be_torchscript() {
    let folder = folder();
    let path = folder.path();
    write(path, &with(&json!({"k_vals": [2], "num_epoch": 2})));
    lines(path, "save");
    let base = path.join("save/base/mnist/base-mlp/model.safetensors");
    let call = Tool::new("parm-train").args("export").arg(&base).arg("-o").arg(base.with_extension("pt"));
    assert_eq!(call.run().output(), b"");
    fs::remove_file(&base).unwrap();
    lines(path, "save");
    assert_eq!(CodeFile::load(&path.join("save").join(run(2))).unwrap().deployed.unwrap().name, "model.pt");
}
