//! `parm-train` as a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use parm::{CodeFile, Task};
use parm_testkit::npy::{f4, f4_values, item, u1};
use parm_testkit::report::made_by;
use parm_testkit::wait::until;
use parm_testkit::{Outcome, Tool, safetensors, tool};
use serde_json::{Value, json};

const ROWS: usize = 120;

/// The variable that glibc reads.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// A folder with data of three classes, `x.npy` [120, 2, 2] and `y.npy`: a row of class c has a
/// large number in place c.
fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let noise = |i: usize| ((i * 7919) % 101) as f32 / 101.0;
    let values: Vec<f32> =
        (0..ROWS * 4).map(|i| noise(i) + if i % 4 == (i / 4) % 3 { 2.0 } else { 0.0 }).collect();
    let labels: Vec<u8> = (0..ROWS).map(|row| (row % 3) as u8).collect();
    fs::write(folder.path().join("x.npy"), f4(&[ROWS, 2, 2], &values)).unwrap();
    fs::write(folder.path().join("y.npy"), u1(&[ROWS], &labels)).unwrap();
    folder
}

/// Trains, also in the place of what an earlier call of a test made.
fn train(folder: &Path, arguments: &str) -> Outcome {
    let force = if arguments.contains("--resume") { "" } else { "--force" };
    Tool::new("parm-train").args(arguments).args("--threads 1").args(force).within(folder).run()
}

fn done(folder: &Path, arguments: &str) {
    assert_eq!(train(folder, arguments).output(), b"", "{arguments}");
}

const BASE: &str = "base --data x.npy --labels y.npy --recipe paper --hidden 8 --batch 8 --lr 0.01";
const PARITY: &str =
    "parity --base b.safetensors --data x.npy --labels y.npy --code sum --recipe paper --batch 8 --lr 0.01";

fn base(folder: &Path) {
    done(folder, &format!("{BASE} --epochs 20 -o b.safetensors"));
}

fn same(folder: &Path, one: &str, other: &str) {
    let [one, other] = [one, other].map(|name| fs::read(folder.join(name)).unwrap());
    assert!(one == other, "the files are not equal");
}

/// The metrics without the time that epochs took.
fn metrics(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(",\"seconds\"").next().unwrap().to_owned()).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let folder = data();
    let path = folder.path();
    for (name, seed) in [("a", 1), ("b", 1), ("c", 2)] {
        done(path, &format!("{BASE} --epochs 3 --seed {seed} -o {name}.safetensors"));
    }
    same(path, "a.safetensors", "b.safetensors");
    same(path, "a.run/checkpoint.safetensors", "b.run/checkpoint.safetensors");
    let made_by = ["a", "b"].map(|name| {
        let text = fs::read(path.join(name).with_extension("run").join("made_by.json")).unwrap();
        let (made_by, inputs) = made_by(&serde_json::from_slice(&text).unwrap(), path);
        assert_eq!(inputs, ["x.npy", "y.npy"]);
        let values = ["seed", "hidden", "batch", "schedule"].map(|name| made_by.options[name].clone());
        assert_eq!(values, [json!(1), json!([8]), json!(8), json!("constant")]);
        assert!(made_by.command.contains(&format!("-o {name}.safetensors")), "{}", made_by.command);
        made_by.inputs
    });
    assert_eq!(made_by[0], made_by[1]);
    assert_ne!(fs::read(path.join("a.safetensors")).unwrap(), fs::read(path.join("c.safetensors")).unwrap());
    done(path, &format!("{PARITY} -k 2 -r 2 --epochs 3 -o p"));
    done(path, &format!("{PARITY} -k 2 -r 2 --epochs 3 -o q"));
    for name in ["parity-0.safetensors", "parity-1.safetensors"] {
        same(path, &format!("p/{name}"), &format!("q/{name}"));
    }
}

/// `sorted-x.npy` and `sorted-y.npy`: the data in the order of its classes.
fn sort(folder: &Path) {
    let (x, y) = (fs::read(folder.join("x.npy")).unwrap(), fs::read(folder.join("y.npy")).unwrap());
    let (values, labels) = (f4_values(&x), &y[y.len() - ROWS..]);
    let mut order: Vec<usize> = (0..ROWS).collect();
    order.sort_by_key(|&row| labels[row]);
    let values: Vec<f32> = order.iter().flat_map(|&row| values[row * 4..][..4].to_vec()).collect();
    let labels: Vec<u8> = order.iter().map(|&row| labels[row]).collect();
    fs::write(folder.join("sorted-x.npy"), f4(&[ROWS, 2, 2], &values)).unwrap();
    fs::write(folder.join("sorted-y.npy"), u1(&[ROWS], &labels)).unwrap();
}

const SORTED: &str = "base --data sorted-x.npy --labels sorted-y.npy --hidden 8 --batch 8 --lr 0.01";

#[test]
fn rows_in_the_order_of_their_classes_are_learnt_as_well_as_others() {
    let folder = data();
    sort(folder.path());
    done(folder.path(), &format!("{SORTED} --epochs 20 --validation 0.3 -o m.safetensors"));
    let lines = metrics(&folder.path().join("m.run/metrics.jsonl"));
    assert!(lines.last().unwrap().contains("\"accuracy\":1.0"), "{lines:?}");
}

#[test]
fn a_score_that_never_moves_is_no_reason_to_keep_the_first_epoch() {
    let folder = data();
    sort(folder.path());
    // The last rows are of a class that is never learnt.
    done(folder.path(), &format!("{SORTED} --epochs 5 --validation tail:40 -o m.safetensors"));
    let lines = metrics(&folder.path().join("m.run/metrics.jsonl"));
    assert!(lines.iter().all(|line| line.contains("\"accuracy\":0.0")), "{lines:?}");
    let checkpoint = fs::read(folder.path().join("m.run/checkpoint.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&checkpoint).contains("best_epoch\\\":5,"));
}

#[test]
fn a_checkpoint_of_version_0_1_0_goes_on_with_the_last_rows_for_validation() {
    let folder = data();
    let base = |rest: &str| {
        let fixed = "--recipe parm --schedule constant --checkpoint-cycle 1";
        done(folder.path(), &format!("{} {fixed} {rest}", BASE.replace("--recipe paper", "")));
    };
    // Its checkpoints have the number of rows alone, as those of these options.
    base("--epochs 4 --validation tail:12 -o whole.safetensors");
    base("--epochs 2 --validation tail:12 -o part.safetensors");
    base("--epochs 4 --validation 12 -o part.safetensors --resume");
    same(folder.path(), "whole.safetensors", "part.safetensors");
    // Others are not mixed up.
    base("--epochs 2 --validation 12 -o drawn.safetensors");
    let refused = train(
        folder.path(),
        &format!(
            "{} --recipe parm --schedule constant --epochs 4 --validation tail:12 -o drawn.safetensors --resume",
            BASE.replace("--recipe paper", "")
        ),
    );
    assert!(refused.code == 1 && refused.stderr.contains("12 drawn"), "{}", refused.stderr);
}

#[test]
fn timings_say_what_trainings_spend_their_time_with() {
    let folder = data();
    let path = folder.path();
    done(path, &format!("{BASE} --epochs 2 -o b.safetensors --timings base.json"));
    done(path, &format!("{PARITY} -k 2 --epochs 2 -o p --timings parity.json"));
    let refused = train(path, &format!("{BASE} --epochs 2 -o n.safetensors --timings nowhere/t.json"));
    assert!(refused.code == 1 && !path.join("n.run").exists(), "{}", refused.stderr);
    for (name, computed) in [("base.json", 4), ("parity.json", 6)] {
        let report: serde_json::Value = serde_json::from_slice(&fs::read(path.join(name)).unwrap()).unwrap();
        assert_eq!((&report["rows"], &report["device"]), (&ROWS.into(), &"cpu".into()));
        assert_eq!(made_by(&report, path).0.options["timings"], name);
        let phase = |name: &str| &report["seconds"][name];
        // Each epoch learns and validates; the deployed model predicts, and the code is scored.
        assert_eq!(phase("compute")["times"], computed, "{report}");
        for name in ["load", "compute", "write"] {
            assert!(phase(name)["seconds"].as_f64().unwrap() > 0.0, "{report}");
        }
    }
}

#[test]
fn a_resumed_training_gives_the_bytes_of_an_unbroken_one() {
    let folder = data();
    let path = folder.path();
    base(path);
    for (kind, model) in [(BASE.to_owned(), ""), (format!("{PARITY} -k 3"), "/parity-0")] {
        let (out, run) = if model.is_empty() { (".safetensors", ".run") } else { ("", "/run/parity-0") };
        done(path, &format!("{kind} --epochs 6 -o whole{out}"));
        // Without a checkpoint there is nothing to resume, and that is no error.
        done(path, &format!("{kind} --epochs 3 --resume -o part{out}"));
        let lines = path.join(format!("part{run}/metrics.jsonl"));
        let text = fs::read_to_string(&lines).unwrap();
        // As if it had been killed while it wrote a line beyond its last checkpoint.
        fs::write(&lines, format!("{text}{}\n{{\"epo", text.lines().last().unwrap().replace(":3,", ":4,")))
            .unwrap();
        fs::write(path.join(format!("part{run}/best.safetensors")), b"of a later epoch").unwrap();
        done(path, &format!("{kind} --epochs 6 --resume -o part{out}"));
        for name in [format!("{model}{}", if model.is_empty() { out } else { ".safetensors" })]
            .into_iter()
            .chain(["checkpoint.safetensors", "best.safetensors"].map(|name| format!("{run}/{name}")))
        {
            same(path, &format!("whole{name}"), &format!("part{name}"));
        }
        assert_eq!(metrics(&lines), metrics(&path.join(format!("whole{run}/metrics.jsonl"))));
        assert_eq!(metrics(&lines).len(), 6);
        // Nothing is left to do, and the result is the same again.
        done(path, &format!("{kind} --epochs 6 --resume -o part{out}"));
        assert_eq!(metrics(&lines).len(), 6);
    }
}

#[test]
fn fewer_checkpoints_change_nothing_of_the_model() {
    let folder = data();
    done(folder.path(), &format!("{BASE} --epochs 5 -o a.safetensors"));
    done(folder.path(), &format!("{BASE} --epochs 5 --checkpoint-cycle 2 -o b.safetensors"));
    same(folder.path(), "a.safetensors", "b.safetensors");
    same(folder.path(), "a.run/checkpoint.safetensors", "b.run/checkpoint.safetensors");
}

#[test]
fn a_code_is_learnt_and_described() {
    let folder = data();
    let path = folder.path();
    base(path);
    done(path, &format!("{PARITY} -k 2 -r 2 --epochs 40 --validation 24 -o code"));
    let code = CodeFile::load(&path.join("code")).unwrap();
    assert_eq!((code.k, code.r, code.weights.clone()), (2, 2, vec![vec![1.0, 1.0], vec![1.0, 2.0]]));
    assert_eq!(
        (code.query_shape.as_deref(), code.prediction_shape.as_deref()),
        (Some([2, 2].as_slice()), Some([3].as_slice()))
    );
    let (deployed, scores) = (code.deployed.unwrap(), code.scores.unwrap());
    assert_eq!(
        (deployed.name.as_str(), deployed.sha256.len(), deployed.recorded, scores.n),
        ("b.safetensors", 64, false, 24)
    );
    let scores = [scores.available, scores.degraded, scores.agreement];
    assert!(scores.iter().all(|score| score.is_some_and(|score| (0.9..=1.0).contains(&score))), "{scores:?}");
    assert_eq!(metrics(&path.join("code/run/parity-1/metrics.jsonl")).len(), 40);

    let report: Value = serde_json::from_slice(&fs::read(path.join("code/code.json")).unwrap()).unwrap();
    let (made_by, inputs) = made_by(&report, path);
    assert_eq!(inputs, ["x.npy", "b.safetensors", "y.npy"]);
    let names =
        ["seed", "epochs", "validation", "lr", "weight-decay", "schedule", "loss", "compare", "threads"];
    let expected = json!([0, 40, "24", 0.01, 1e-5, "constant", "mse", "sums", 1]);
    assert_eq!(json!(names.map(|name| made_by.options[name].clone())), expected);

    // Without labels and validation rows there is nothing to score.
    let few = "parity --base b.safetensors --data x.npy --code sum -k 2 --epochs 1";
    done(path, &format!("{few} --validation 0 -o plain"));
    let scores = CodeFile::load(&path.join("plain")).unwrap().scores.unwrap();
    assert_eq!((scores.available, scores.degraded, scores.agreement, scores.n), (None, None, None, 0));
}

#[test]
fn recorded_predictions_stand_for_the_model() {
    let folder = data();
    let path = folder.path();
    base(path);
    let recorded =
        Tool::new("parm-infer").args("-m b.safetensors --threads 1 x.npy").within(path).run().output();
    fs::write(path.join("f.npy"), recorded).unwrap();
    let recorded = PARITY.replace("--base b.safetensors", "--targets f.npy");
    done(path, &format!("{PARITY} -k 2 --epochs 2 -o model"));
    done(path, &format!("{recorded} -k 2 --epochs 2 --hidden 8 -o recorded"));
    same(path, "model/parity-0.safetensors", "recorded/parity-0.safetensors");
    let deployed = CodeFile::load(&path.join("recorded")).unwrap().deployed.unwrap();
    assert_eq!((deployed.name.as_str(), deployed.recorded), ("f.npy", true));
    // TorchScript is a deployed model as well.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/linear.pt");
    let from_script = PARITY.replace("b.safetensors", script.to_str().unwrap());
    done(path, &format!("{from_script} -k 2 --epochs 1 -q -o script"));
    assert_eq!(CodeFile::load(&path.join("script")).unwrap().prediction_shape, Some(vec![3]));
}

#[test]
fn weights_come_from_a_file_and_models_begin_where_they_are_told() {
    let folder = data();
    let path = folder.path();
    base(path);
    let weights = [0.5_f64, -1.0, 2.0].map(f64::to_le_bytes).concat();
    fs::write(path.join("w.npy"), item("<f8", &[1, 3], &weights)).unwrap();
    done(path, &format!("{PARITY} --weights w.npy --epochs 1 --init base --schedule cosine -o code"));
    assert_eq!(CodeFile::load(&path.join("code")).unwrap().weights, [[0.5, -1.0, 2.0]]);
    assert!(metrics(&path.join("code/run/parity-0/metrics.jsonl"))[0].contains("\"lr\":0.01"));
}

/// Images [24, 16, 20] of two classes, `i.npy`, and their labels, `l.npy`: one half is brighter.
fn images(folder: &Path) {
    let noise = |i: usize| ((i * 7919) % 101) as f32 / 101.0;
    let bright = |i: usize| usize::from(i % 320 >= 160) == (i / 320) % 2;
    let values: Vec<f32> = (0..24 * 320).map(|i| noise(i) + if bright(i) { 2.0 } else { 0.0 }).collect();
    fs::write(folder.join("i.npy"), f4(&[24, 16, 20], &values)).unwrap();
    fs::write(folder.join("l.npy"), u1(&[24], &(0..24).map(|row| row % 2).collect::<Vec<u8>>())).unwrap();
}

#[test]
fn networks_of_images_learn_and_their_parity_models_may_be_others() {
    let folder = data();
    let path = folder.path();
    images(path);
    let base = "base --data i.npy --labels l.npy --recipe paper --batch 6 --validation 6 --lr 0.003";
    done(path, &format!("{base} --model resnet18 --epochs 3 -o r.safetensors"));
    let last = metrics(&path.join("r.run/metrics.jsonl")).pop().unwrap();
    let line: serde_json::Value = serde_json::from_str(&format!("{last}}}")).unwrap();
    assert!(line["accuracy"].as_f64().unwrap() > 0.9, "{line}");
    // Broken off, with the running statistics of the last and of the best epoch.
    done(path, &format!("{base} --model resnet18 --epochs 1 -o s.safetensors"));
    done(path, &format!("{base} --model resnet18 --epochs 3 --resume -o s.safetensors"));
    same(path, "r.safetensors", "s.safetensors");
    same(path, "r.run/checkpoint.safetensors", "s.run/checkpoint.safetensors");
    same(path, "r.run/best.safetensors", "s.run/best.safetensors");

    let parity = "parity --base r.safetensors --data i.npy --code sum -k 2 --batch 6 --epochs 1";
    let described = |name: &str| {
        let file = fs::read(path.join(name)).unwrap();
        String::from_utf8_lossy(&file[..400]).into_owned()
    };
    for (options, found) in [
        ("", "resnet18"),
        ("--init base", "resnet18"),
        ("--model lenet5", "lenet5"),
        ("--model mlp --hidden 5 --parity-width 3", "[320,15,2]"),
    ] {
        done(path, &format!("{parity} {options} -o code"));
        assert!(described("code/parity-0.safetensors").contains(found), "{options}");
        assert_eq!(CodeFile::load(&path.join("code")).unwrap().query_shape, Some(vec![16, 20]));
    }
    done(path, &format!("{base} --hidden 7,6 --epochs 1 -o m.safetensors"));
    let parity = parity.replace("r.safetensors", "m.safetensors");
    done(path, &format!("{parity} --parity-width 2 -o wide"));
    assert!(described("wide/parity-0.safetensors").contains("[320,14,12,2]"));

    for (options, code, found) in [
        ("--model lenet5 --hidden 4", 2, "--hidden: found a network without hidden widths"),
        ("--model lenet5 --parity-width 2", 2, "--parity-width: found a network without hidden widths"),
        ("--hidden 60000000 --parity-width 4", 2, "of width 240000000, expected at most 16777216"),
        (
            "--model vgg11",
            1,
            "[16, 20], expected [height, width] or [channels, height, width] of at least 32×32",
        ),
        ("--model lenet5 --init base", 1, "found initial weights of "),
    ] {
        let ended = train(path, &format!("{parity} {options} -o new"));
        assert!(ended.code == code && ended.stderr.contains(found), "{options}: {}", ended.stderr);
    }
}

#[test]
fn the_last_line_says_what_was_done() {
    let folder = data();
    let ended = train(folder.path(), &format!("{BASE} --epochs 2 -o b.safetensors -v"));
    let line = "parm-train: b.safetensors: 2 epochs done in 0.";
    assert!(ended.code == 0 && ended.stderr.starts_with(line), "{}", ended.stderr);
    assert!(ended.stderr.contains(" s, the last with loss ") && ended.stderr.contains(", accuracy "));
    let ended = train(folder.path(), &format!("{PARITY} -k 2 --epochs 1 -o code -v"));
    assert!(ended.stderr.starts_with("parm-train: code: done in 0."), "{}", ended.stderr);
    assert!(ended.stderr.ends_with(", 12 reconstructions scored\n"), "{}", ended.stderr);
    let ended = train(folder.path(), &format!("{BASE} --epochs 2 -o b.safetensors -v --resume"));
    assert!(ended.stderr.ends_with("the training had been done before\n"), "{}", ended.stderr);
}

#[test]
fn progress_in_a_log_is_lines_with_loss_and_time_left() {
    let folder = data();
    base(folder.path());
    let call = format!("{PARITY} -k 2 -r 2 --epochs 3 --progress always -v -o code");
    let ended = train(folder.path(), &call);
    let lines: Vec<_> = ended.stderr.lines().collect();
    // The first minibatch, the ends of both trainings, and the last line.
    assert_eq!((ended.code, lines.len()), (0, 4), "{}", ended.stderr);
    assert!(
        lines[0].starts_with("parity 0: epoch 1 of 3, ") && lines[0].contains(" %, loss "),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains(", rate 1.00e-2, ") && lines[0].ends_with(" left"), "{}", lines[0]);
    assert!(lines[1].starts_with("parity 0: epoch 3 of 3, loss "), "{}", lines[1]);
    assert!(
        lines[2].starts_with("parity 1: epoch 3 of 3, loss ") && lines[2].ends_with("0.0 s left"),
        "{}",
        lines[2]
    );
}

#[test]
fn a_training_ends_when_it_gets_no_better() {
    let folder = data();
    let path = folder.path();
    // Labels that the rows do not say, so that what is learnt does not help.
    let labels: Vec<u8> = (0..ROWS).map(|row| (row * 7919 % 1009 % 3) as u8).collect();
    fs::write(path.join("y.npy"), u1(&[ROWS], &labels)).unwrap();
    let call = format!("{BASE} --epochs 200 --validation 0.3");
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(path.join(name).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let score = |line: &Value| line["accuracy"].as_f64().unwrap();
    done(path, &format!("{call} --patience 3 -o m.safetensors"));
    let found = lines("m.run");
    assert!(found.len() < 200, "{}", found.len());
    let better = |best, at| if score(&found[at]) > score(&found[best]) { at } else { best };
    assert_eq!((0..found.len()).reduce(better), Some(found.len() - 4), "three epochs were no better");
    // A longer patience goes on as if it had been there from the beginning; a shorter one has nothing to do.
    done(path, &format!("{call} --patience 6 -o m.safetensors --resume"));
    done(path, &format!("{call} --patience 6 -o n.safetensors"));
    same(path, "m.safetensors", "n.safetensors");
    assert_eq!(metrics(&path.join("m.run/metrics.jsonl")), metrics(&path.join("n.run/metrics.jsonl")));
    let ended = train(path, &format!("{call} --patience 1 -v -o m.safetensors --resume"));
    assert!(ended.stderr.ends_with("the training had been done before\n"), "{}", ended.stderr);
    let refused = train(path, &format!("{BASE} --patience 1 --validation 0 -o o.safetensors"));
    let message = "parm-train: --patience needs rows for validation, found --validation 0\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (2, message));
    // A score that never changes is no better, though the newest epoch is kept, and the loss may be lower.
    let still = call.replace("--lr 0.01", "--lr 1e-9 --patience 3");
    done(path, &format!("{still} -o s.safetensors"));
    let found = lines("s.run");
    assert_eq!((found.len(), score(&found[3])), (4, score(&found[0])));
    // A resumed training counts the epochs before as well.
    done(path, &format!("{still} --epochs 2 -o t.safetensors").replace("--epochs 200 ", ""));
    done(path, &format!("{still} -o t.safetensors --resume"));
    same(path, "s.safetensors", "t.safetensors");
    assert_eq!(metrics(&path.join("s.run/metrics.jsonl")), metrics(&path.join("t.run/metrics.jsonl")));
}

#[test]
fn the_table_of_metrics_has_their_numbers() {
    let folder = data();
    let path = folder.path();
    done(path, &format!("{BASE} --epochs 2 -o m.safetensors"));
    done(path, &format!("{BASE} --epochs 4 -o m.safetensors --resume"));
    let table = fs::read_to_string(path.join("m.run/metrics.csv")).unwrap();
    let mut table = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = table.next().unwrap();
    let text = fs::read_to_string(path.join("m.run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    for (line, row) in lines.iter().zip(table.by_ref()) {
        assert_eq!(row.len(), names.len());
        for (name, cell) in names.iter().zip(row) {
            assert_eq!(line[name].as_f64(), cell.parse().ok(), "{name}");
        }
        assert!(line.as_object().unwrap().keys().all(|key| names.contains(&key.as_str())), "{line}");
    }
    assert!(table.next().is_none());
}

#[test]
fn labels_of_any_integer_type_are_the_same() {
    let folder = data();
    let path = folder.path();
    done(path, &format!("{BASE} --epochs 1 -o a.safetensors"));
    let labels = (0_i64..120).flat_map(|row| (row % 3).to_be_bytes()).collect::<Vec<_>>();
    fs::write(path.join("y.npy"), item(">i8", &[ROWS], &labels)).unwrap();
    done(path, &format!("{BASE} --epochs 1 -o b.safetensors"));
    same(path, "a.safetensors", "b.safetensors");
}

#[test]
fn what_cannot_be_learnt_is_refused_with_one_line_that_names_both_sides() {
    let folder = data();
    let path = folder.path();
    base(path);
    let write = |name: &str, bytes: Vec<u8>| fs::write(path.join(name), bytes).unwrap();
    write("short.npy", u1(&[3], &[0, 1, 2]));
    write("float.npy", f4(&[ROWS], &[0.0; ROWS]));
    write("minus.npy", item("|i1", &[ROWS], &[0xff; ROWS]));
    write("zeros.npy", u1(&[ROWS], &[0; ROWS]));
    write("nine.npy", u1(&[ROWS], &[9; ROWS]));
    write("huge.npy", item("<i8", &[ROWS], &[0x7f; ROWS * 8]));
    write("flat.npy", f4(&[ROWS, 4], &[0.0; ROWS * 4]));
    write("none.npy", f4(&[0, 2, 2], &[]));
    write("two.npy", f4(&[2, 2, 2], &[0.0; 8]));
    write("f.npy", f4(&[5, 3], &[0.0; 15]));
    write("nan.npy", f4(&[2, 3], &[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]));
    write("cut.npy", f4(&[2, 2, 2], &[0.0; 8])[..150].to_vec());
    write("bad.safetensors", safetensors::file("\"parm\":\"{}\"", &[]));
    let with =
        |options: &str, from: &str, to: &str| options.replace(from, to) + " --epochs 1 -o new.safetensors";
    let parity = |from: &str, to: &str| format!("{PARITY} -k 2").replace(from, to) + " --epochs 1 -o new";
    let cases = [
        (with(BASE, "y.npy", "short.npy"), 1, "short.npy: found 3 labels", "expected 120"),
        (with(BASE, "y.npy", "float.npy"), 1, "float.npy: found rows of f4[]", "expected labels"),
        (with(BASE, "y.npy", "minus.npy"), 1, "minus.npy: row 0: found label -1", "expected 0 or more"),
        (with(BASE, "y.npy", "huge.npy"), 1, "found label 9187201950435737471", "expected 0 to 1048575"),
        (with(BASE, "x.npy", "none.npy"), 1, "none.npy: found no rows", "expected at least 1"),
        (with(BASE, "x.npy", "cut.npy"), 1, "cut.npy: item 1: truncated", "of 32"),
        (with(BASE, "x.npy", "missing.npy"), 1, "missing.npy", "No such file"),
        (with(BASE, "--batch 8", "--validation 120"), 1, "--validation 120: found 120 rows", "expected more"),
        (with(BASE, "--hidden 8", "--hidden 8,0"), 2, "found a layer of width 0", "expected"),
        (with(BASE, "0.01", "1e30"), 1, "diverged: found a loss of", "epoch 1"),
        (with(BASE, "--hidden 8", "--device cuda:7"), 1, "found", "expected"),
        (format!("{BASE} --epochs 1 -o x.npy/m.safetensors"), 1, "x.npy/m.run", "Not a directory"),
        (parity("--code sum", "--code replicate"), 2, "--code replicate", "expected sum or concat"),
        (parity("-k 2", "-k 2 -r 0"), 2, "-r 0", "expected at least 1"),
        (parity("-k 2", ""), 2, "needs -k", ""),
        (parity("-k 2", "-k 200"), 1, "found 108 rows to learn from", "expected at least 200"),
        (parity("b.safetensors", "bad.safetensors"), 1, "bad.safetensors: found a description", "expected"),
        (parity("--code sum", "--activation gelu --code sum"), 1, "says its activation, relu", "expected no"),
        (
            with(BASE, "y.npy", "zeros.npy"),
            1,
            "zeros.npy: found labels that are all 0",
            "expected two classes",
        ),
        (parity("x.npy", "flat.npy"), 1, "found rows of shape [4]", "expected [2, 2]"),
        (parity("y.npy", "nine.npy"), 1, "found label 9 at row 0", "expected 0 to 2"),
        (parity("--base b.safetensors", "--targets f.npy"), 1, "f.npy: found 5 predictions", "expected 120"),
        (
            parity("--base b.safetensors", "--targets nan.npy"),
            1,
            "nan.npy: row 1: found NaN",
            "expected finite",
        ),
        (parity("--base b.safetensors", "--init base --targets x.npy"), 2, "--init base", "native"),
        (
            parity("-k 2", "-k 2 --init base --hidden 5"),
            1,
            "found initial weights of [4, 8, 3]",
            "expected [4, 5, 3]",
        ),
    ];
    for (arguments, code, found, expected) in cases {
        if arguments.contains("cuda") && Path::new("/dev/nvidiactl").exists() {
            continue;
        }
        let ended = train(path, &arguments);
        let line = &ended.stderr;
        assert!(line.contains(found) && line.contains(expected), "{arguments}: {line}");
        assert_eq!((ended.code, line.lines().count()), (code, 1), "{arguments}: {line}");
        assert!(line.starts_with("parm-train: ") && !line.contains("panicked"), "{line}");
        assert!(
            !path.join("new.safetensors").exists() && !path.join("new/code.json").exists(),
            "{arguments}"
        );
    }
}

#[test]
fn predictions_of_one_number_are_values() {
    let folder = data();
    let path = folder.path();
    fs::write(path.join("one.safetensors"), safetensors::linear(&[2, 2], 1, &[1., 2., -1., 0.5])).unwrap();
    let call =
        "parity --base one.safetensors --data x.npy --code sum -k 2 --epochs 60 --batch 8 --lr 0.01 -o one";
    let ended = train(path, &format!("{call} -v"));
    let note = "note: predictions of one number are values: the loss is smooth-l1 and the score R2";
    assert!(ended.code == 0 && ended.stderr.contains(note), "{}", ended.stderr);
    let report = ended.stderr.lines().find(|line| line.contains("reconstructions scored")).unwrap();
    let score: f64 = report.split("R2 ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(score > 0.95, "{report}");
    let last = metrics(&path.join("one/run/parity-0/metrics.jsonl")).pop().unwrap();
    assert!(last.contains("\"R2\":0.9") && last.contains("\"MAE\":0."), "{last}");
    let file = CodeFile::load(&path.join("one")).unwrap();
    let scores = file.scores.unwrap();
    assert_eq!((file.output, scores.determination.map(|r2| r2 > 0.95)), (Task::Regress, Some(true)));
    assert!(scores.agreement.is_some_and(|agreement| agreement > 0.5) && scores.degraded.is_none());

    for (options, code, found) in [
        ("--loss kl", 2, "--loss kl: found predictions of the task regress, expected smooth-l1 or mse"),
        ("--loss cross-entropy", 2, "--loss cross-entropy: found predictions of the task regress"),
        ("--labels y.npy", 2, "--labels: found predictions of one number, which tell no classes apart"),
        ("--task embed", 2, "--task embed: found predictions of one number, expected two or more"),
        ("--task classify", 2, "--task classify: found predictions of one number"),
    ] {
        let ended = train(path, &format!("{call} {options}"));
        assert!(ended.code == code && ended.stderr.contains(found), "{options}: {}", ended.stderr);
    }
}

#[test]
fn where_no_deployed_model_says_its_layers_the_first_line_says_what_the_parity_model_is() {
    let folder = data();
    let path = folder.path();
    base(path);
    let export = Tool::new("parm-train").args("export b.safetensors -o b.pt").within(path).run();
    assert_eq!(export.output(), b"");
    let script = PARITY.replace("b.safetensors", "b.pt");
    for (call, note) in [
        (
            &*script,
            Some(
                "parm-train: note: parity model: an MLP [4, 200, 100, 3], since b.pt cannot be trained (found ",
            ),
        ),
        (
            &format!("{script} --hidden 7"),
            Some("parm-train: note: parity model: an MLP [4, 7, 3] by --hidden, not a network like b.pt"),
        ),
        (&format!("{script} --model mlp --hidden 7"), None),
        (PARITY, None),
    ] {
        let ended = train(path, &format!("{call} -k 2 --epochs 1 -o p"));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        match note {
            Some(note) => assert!(ended.stderr.starts_with(note), "{call}: {}", ended.stderr),
            None => assert_eq!(ended.stderr, "", "{call}"),
        }
    }
}

#[test]
fn a_parity_model_has_the_activation_of_the_deployed_model() {
    let folder = data();
    let path = folder.path();
    let (hidden, last) = (vec![0.5_f32; 5 * 4], vec![0.25_f32; 3 * 5]);
    let tensors: [(&str, &[usize], &[f32]); 4] = [
        ("fc1.weight", &[5, 4], &hidden),
        ("fc1.bias", &[5], &[0.1; 5]),
        ("fc2.weight", &[3, 5], &last),
        ("fc2.bias", &[3], &[0.; 3]),
    ];
    fs::write(path.join("state.safetensors"), safetensors::file("\"format\":\"pt\"", &tensors)).unwrap();
    let call = "parity --base state.safetensors --data x.npy --code sum -k 2 --epochs 1 -o p";
    let ended = train(path, &format!("{call} --activation gelu"));
    assert!(ended.code == 0 && ended.stderr.is_empty(), "{}", ended.stderr);
    let parity = fs::read(path.join("p/parity-0.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&parity[8..400.min(parity.len())]).into_owned();
    assert!(header.contains(r#"\"layers\":[4,5,3],\"activation\":\"gelu\""#), "{header}");
    let ended = train(path, call);
    assert!(ended.code == 0 && ended.stderr.contains("taken to be relu (--activation"), "{}", ended.stderr);
    let parity = fs::read(path.join("p/parity-0.safetensors")).unwrap();
    assert!(!String::from_utf8_lossy(&parity).contains("activation"), "ReLU is not named");
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let folder = data();
    let path = folder.path();
    done(path, &format!("{BASE} --epochs 2 -o a.safetensors"));
    for (from, to, found) in [
        ("--batch 8", "--batch 8 --seed 7", "seed = 0, expected 7"),
        ("--batch 8", "--batch 9", "batch = 8, expected 9"),
        ("--hidden 8", "--hidden 9", "layers = [4, 8, 3], expected [4, 9, 3]"),
        ("0.01", "0.02", "lr = 0.01, expected 0.02"),
        ("--epochs 2", "--epochs 1", "epoch = 2, expected at most --epochs 1"),
        ("--batch 8", "--batch 8 --schedule cosine", "schedule = constant, expected cosine over 2 epochs"),
    ] {
        let arguments = format!("{BASE} --epochs 2 --resume -o a.safetensors").replace(from, to);
        let ended = train(path, &arguments);
        assert_eq!(ended.code, 1, "{arguments}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("a.run/checkpoint.safetensors") && ended.stderr.contains(found),
            "{}",
            ended.stderr
        );
    }
    fs::write(path.join("a.run/checkpoint.safetensors"), b"half").unwrap();
    let ended = train(path, &format!("{BASE} --epochs 2 --resume -o a.safetensors"));
    assert!(ended.code == 1 && ended.stderr.contains("expected a model"), "{}", ended.stderr);
}

/// Sends everything that was trained through the tools: the agreement of what they rebuild, each slot
/// lost in turn, with the deployed model's predictions.
fn agreement(path: &Path, code: &str, deployed: &str, k: usize) -> f64 {
    let tool = |name: &str, arguments: &str| {
        let output = Tool::new(name).args(arguments).within(path).run().output();
        fs::write(path.join("out.npy"), &output).unwrap();
        f4_values(&output)
    };
    let own = tool("parm-infer", &format!("-m {deployed} --threads 1 x.npy"));
    fs::copy(path.join("out.npy"), path.join("own.npy")).unwrap();
    let file = CodeFile::load(&path.join(code)).unwrap();
    tool("parm-encode", &format!("--code {code} --threads 1 x.npy"));
    fs::copy(path.join("out.npy"), path.join("coded.npy")).unwrap();
    let model = file.parity.first().map_or(deployed.to_owned(), |name| format!("{code}/{name}"));
    tool("parm-infer", &format!("-m {model} --threads 1 coded.npy"));
    fs::copy(path.join("out.npy"), path.join("parity.npy")).unwrap();
    let call =
        format!("--code {code} --threads 1 --parity parity.npy --erase each --erased-out e.npy own.npy");
    let rebuilt = tool("parm-decode", &call);
    let top1 = |row: &[f32]| (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let lost = (0..own.len() / 3 * k).filter(|row| (row % (own.len() / 3)) % k == row / (own.len() / 3));
    let agreed = lost.filter(|&row| {
        let of = row % (own.len() / 3);
        top1(&rebuilt[row * 3..][..3]) == top1(&own[of * 3..][..3])
    });
    agreed.count() as f64 / (own.len() / 3) as f64
}

#[test]
fn codes_of_all_kinds_are_learnt_and_used_by_the_tools() {
    let folder = data();
    let path = folder.path();
    base(path);
    let taught = "--base b.safetensors --data x.npy --labels y.npy --batch 8";
    for (what, parts, least) in [
        ("parity --code concat -k 2 --epochs 60", "sum 0 0 1", 0.6),
        ("parity --code sum -k 3 --loss mse --compare sums --epochs 60", "sum 0 0 1", 0.8),
        ("parity --code sum -k 2 --loss cross-entropy --epochs 60", "sum 0 0 1", 0.9),
        // A frozen model of three classes leaves an encoder little to learn.
        ("coders -k 2 --epochs 30 --lr 0.01", "learned 1 1 0", 0.2),
        ("coders -k 2 --runs-on parity --epochs 200 --lr 0.01", "learned 1 1 1", 0.8),
        ("coders -k 2 --encoder sum --runs-on parity --epochs 200 --lr 0.01", "sum 0 1 1", 0.8),
        ("coders -k 2 --recipe paper --runs-on parity --epochs 60 --lr 0.01", "learned 1 1 1", 0.8),
        (
            "coders -k 2 --encoder conv --decoder linear --runs-on parity --epochs 60 --lr 0.01",
            "learned 1 0 1",
            0.8,
        ),
    ] {
        done(path, &format!("{what} {taught} -o code"));
        let file = CodeFile::load(&path.join("code")).unwrap();
        let found = [file.encoder.iter().count(), file.decoder.iter().count(), file.parity.len()];
        assert!(parts.ends_with(&found.map(|n| n.to_string()).join(" ")), "{what}: {file:?}");
        for name in file.encoder.iter().chain(&file.decoder).chain(&file.parity) {
            assert!(path.join("code").join(name).with_extension("pt").exists(), "{what}: {name}");
        }
        let k = file.k;
        let agreement = agreement(path, "code", "b.safetensors", k);
        assert!(agreement >= least, "{what}: {agreement} {:?}", file.scores);
        // The tools rebuild what the training scored, on all rows rather than on a tenth of them.
        let scored = file.scores.unwrap().agreement.unwrap();
        assert!((scored - agreement).abs() < 0.35, "{what}: {agreement} {scored}");
        fs::remove_dir_all(path.join("code")).unwrap();
    }
    // Losses of up to twelve of 24 are ten million: those of up to two are taken.
    done(path, &format!("parity --code sum -k 24 -r 12 --validation 24 --epochs 1 {taught} -o many"));
    let coders = |arguments: &str| train(path, &format!("coders {arguments} --data x.npy --epochs 1 -o new"));
    for (arguments, code, message) in [
        ("-k 2 -r 2 --encoder concat --base b.safetensors", 2, "--encoder concat has one parity query"),
        ("-k 2 --targets x.npy", 2, "--runs-on deployed needs the deployed model"),
        ("-k 2 --encoder sum --decoder linear --base b.safetensors", 1, "found nothing to train"),
        ("-k 2 --loss cross-entropy --base b.safetensors", 1, "found no labels, expected them"),
        ("-k 2 --compare sums --base b.safetensors", 2, "--compare sums: found a decoder that is a network"),
        (
            "-k 2 --hidden 3 --base b.safetensors",
            2,
            "found no parity models to train, expected --runs-on parity",
        ),
    ] {
        let ended = coders(arguments);
        assert!(ended.code == code && ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
    }
}

#[test]
fn mixed_precision_learns_nearly_the_same() {
    let folder = data();
    let path = folder.path();
    images(path);
    for call in [
        format!("{BASE} --epochs 10"),
        "base --data i.npy --labels l.npy --batch 6 --validation 6 --lr 0.003 --model resnet18 --epochs 2"
            .into(),
    ] {
        done(path, &format!("{call} -o full.safetensors"));
        done(path, &format!("{call} --precision mixed -o mixed.safetensors"));
        let loss = |name: &str| {
            let last = metrics(&path.join(name).join("metrics.jsonl")).pop().unwrap();
            let line: serde_json::Value = serde_json::from_str(&format!("{last}}}")).unwrap();
            line["train_loss"].as_f64().unwrap()
        };
        let (full, mixed) = (loss("full.run"), loss("mixed.run"));
        assert!(full != mixed && (full - mixed).abs() < 0.25 * full, "{call}: {full} {mixed}");
    }
}

#[test]
fn values_are_learnt_and_rebuilt() {
    let folder = data();
    let path = folder.path();
    // Two values of a row, which are sums of its numbers.
    let x = f4_values(&fs::read(path.join("x.npy")).unwrap());
    let rows = x.chunks(4);
    let values: Vec<f32> = rows.flat_map(|x| [x[0] + 2.0 * x[1] + 10.0, x[2] - x[3]]).collect();
    fs::write(path.join("v.npy"), f4(&[ROWS, 2], &values)).unwrap();
    let first: Vec<f32> = values.iter().step_by(2).copied().collect();
    fs::write(path.join("one.npy"), f4(&[ROWS], &first)).unwrap();
    let base = "base --data x.npy --values v.npy --hidden 16 --batch 8 --epochs 60 --lr 0.01";
    let ended = train(path, &format!("{base} -v -o b.safetensors"));
    assert!(ended.code == 0 && ended.stderr.contains(", R2 0.9"), "{}", ended.stderr);
    let last = metrics(&path.join("b.run/metrics.jsonl")).pop().unwrap();
    assert!(last.contains("\"MAE\":0.") && !last.contains("accuracy"), "{last}");
    let file = String::from_utf8_lossy(&fs::read(path.join("b.safetensors")).unwrap()).into_owned();
    assert!(file.contains(r#"\"output\":\"values\""#));
    done(path, &format!("{base} --loss mse -o mse.safetensors"));
    assert_ne!(
        fs::read(path.join("mse.safetensors")).unwrap(),
        fs::read(path.join("b.safetensors")).unwrap()
    );
    done(path, "base --data x.npy --values one.npy --epochs 1 -o one.safetensors");

    let call = "parity --base b.safetensors --data x.npy --code sum -k 2 --batch 8 --epochs 60";
    let ended = train(path, &format!("{call} --values v.npy -v -o code"));
    assert!(ended.code == 0 && !ended.stderr.contains("note: predictions"), "{}", ended.stderr);
    let code = CodeFile::load(&path.join("code")).unwrap();
    let scores = code.scores.unwrap();
    assert_eq!((code.output, scores.available), (Task::Regress, None));
    let [own, rebuilt] = [scores.available_determination, scores.degraded_determination].map(Option::unwrap);
    assert!(own > 0.9 && 0.8 < rebuilt && rebuilt < own, "{scores:?}");
    assert!(scores.determination.unwrap() > 0.8 && scores.absolute_error.unwrap() < 1.0, "{scores:?}");
    // The best epoch is that of the highest R².
    let lines = metrics(&path.join("code/run/parity-0/metrics.jsonl"));
    let r2 = |line: &String| {
        line.split("\"R2\":").nth(1).unwrap().split(',').next().unwrap().parse::<f64>().unwrap()
    };
    let best = lines.iter().map(r2).fold(f64::MIN, f64::max);
    assert!((scores.determination.unwrap() - best).abs() < 1e-9, "{best} {scores:?}");
    done(path, &format!("{call} -o plain"));
    let scores = CodeFile::load(&path.join("plain")).unwrap().scores.unwrap();
    assert!(scores.degraded_determination.is_none() && scores.determination.is_some());

    for (call, code, message) in [
        (format!("{call} --values one.npy -o new"), 1, "one.npy: found rows of 1 values, expected 2"),
        (
            format!("{call} --task embed -o new"),
            2,
            "--task embed: found the task embed, expected regress: the outputs are values",
        ),
        (
            format!("{call} --task classify --values v.npy -o new"),
            2,
            "--task classify: found --values, which goes with --task regress alone",
        ),
        (
            format!("{base} --loss cosine -o new.safetensors"),
            2,
            "--loss cosine: found predictions of the task regress",
        ),
        (
            format!("{BASE} --loss mse -o new.safetensors"),
            2,
            "--loss: found labels, which are learnt by the cross-entropy",
        ),
        (
            "base --data x.npy --task regress -o new.safetensors".into(),
            2,
            "found no truth to learn, expected --values",
        ),
        (
            "base --data x.npy -o new.safetensors".into(),
            2,
            "found no truth to learn, expected --labels, --boxes or --values",
        ),
    ] {
        let ended = train(path, &call);
        assert!(
            ended.code == code && ended.stderr.contains(message),
            "{call}: {} {}",
            ended.code,
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{call}: {}", ended.stderr);
    }
}

#[test]
fn embeddings_are_rebuilt_by_their_direction() {
    let folder = data();
    let path = folder.path();
    base(path);
    // What classifies may be taken for an embedding: its file says no more than the default.
    let call = "parity --base b.safetensors --task embed --data x.npy --code sum -k 2 --batch 8 --epochs 60 --validation 48";
    let ended = train(path, &format!("{call} -v -o code"));
    assert!(ended.code == 0 && ended.stderr.contains("recall@10 "), "{}", ended.stderr);
    let code = CodeFile::load(&path.join("code")).unwrap();
    let scores = code.scores.unwrap();
    assert_eq!((code.output, scores.determination, scores.degraded), (Task::Embed, None, None));
    assert!(scores.cosine.unwrap() > 0.9 && scores.agreement.unwrap() > 0.5, "{scores:?}");
    let recall = scores.recall.unwrap();
    assert!(0.5 < recall && recall <= 1.0, "{scores:?}");
    let last = metrics(&path.join("code/run/parity-0/metrics.jsonl")).pop().unwrap();
    assert!(last.contains("\"cosine\":0.") && last.contains("\"recall@10\":"), "{last}");
    // A parity model says what it predicts.
    let file =
        String::from_utf8_lossy(&fs::read(path.join("code/parity-0.safetensors")).unwrap()).into_owned();
    assert!(file.contains(r#"\"output\":\"embeddings\""#));
    done(path, &format!("{} --loss mse --compare sums -o sums", call.replace("--epochs 60", "--epochs 2")));
    for (call, message) in [
        (
            format!("{call} --loss kl -o new"),
            "--loss kl: found predictions of the task embed, expected cosine or mse or smooth-l1",
        ),
        (format!("{call} --compare sums -o new"), "--compare sums: found the loss cosine"),
        (
            format!("{call} --labels y.npy -o new"),
            "--task embed: found --labels, which goes with --task classify alone",
        ),
        (
            "base --data x.npy --task embed -o new.safetensors".into(),
            "--task embed: found no loss for embeddings here",
        ),
    ] {
        let ended = train(path, &call);
        assert!(ended.code == 2 && ended.stderr.contains(message), "{call}: {} {}", ended.code, ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{call}: {}", ended.stderr);
    }
    // A code of models that were trained elsewhere says so as well.
    let adopt = |options: &str| {
        let call = "adopt --code sum -k 2 --parity code/parity-0.safetensors --force -o adopted";
        Tool::new("parm-train").args(call).args(options).within(path).run()
    };
    assert_eq!(adopt("--base b.safetensors --task embed").output(), b"");
    assert_eq!(CodeFile::load(&path.join("adopted")).unwrap().output, Task::Embed);
    let ended = adopt("--base b.safetensors --task boxes");
    assert!(
        ended.code == 2 && ended.stderr.contains("found predictions of 3 numbers, expected 4"),
        "{}",
        ended.stderr
    );
}

#[test]
fn boxes_are_learnt_and_rebuilt() {
    let folder = data();
    let path = folder.path();
    // The box of a row is the row itself, so that it can be learnt.
    let values = f4_values(&fs::read(path.join("x.npy")).unwrap());
    let boxes: Vec<f32> = values.iter().map(|value| value / 2.0).collect();
    fs::write(path.join("boxes.npy"), f4(&[ROWS, 4], &boxes)).unwrap();
    let ended = train(
        path,
        "base --data x.npy --boxes boxes.npy --hidden 32 --batch 8 --epochs 40 --lr 0.01 -v -o b.safetensors",
    );
    assert!(ended.code == 0 && ended.stderr.contains(", IoU 0."), "{}", ended.stderr);
    let call = "parity --base b.safetensors --data x.npy --boxes boxes.npy --code sum -k 2 --batch 8 --epochs 40 -v -o code";
    let ended = train(path, call);
    assert!(ended.code == 0 && ended.stderr.contains("mean IoU 0."), "{}", ended.stderr);
    let code = CodeFile::load(&path.join("code")).unwrap();
    let scores = code.scores.unwrap();
    assert_eq!((code.output, scores.degraded, scores.recall), (Task::Boxes, None, None));
    assert!(scores.overlap.is_some_and(|mean| mean > 0.5) && scores.agreement.is_some(), "{scores:?}");
    let mean: f64 = ended.stderr.split("mean IoU ").nth(1).unwrap()[..6].parse().unwrap();
    assert!(mean > 0.5, "{mean}");
    fs::write(path.join("three.npy"), f4(&[ROWS, 3], &boxes[..ROWS * 3])).unwrap();
    let other = call.replace("--base b.safetensors", "--targets three.npy");
    for (call, code, message) in [
        (
            format!("{call} --loss kl"),
            2,
            "--loss kl: found predictions of the task boxes, expected smooth-l1 or mse",
        ),
        (other, 2, "--boxes: found predictions of 3 numbers, expected 4"),
    ] {
        let ended = train(path, &call);
        assert!(ended.code == code && ended.stderr.contains(message), "{call}: {}", ended.stderr);
    }
    let ended = train(path, "base --data x.npy --boxes three.npy -o new.safetensors");
    assert!(
        ended.stderr.contains("three.npy: found rows of shape [3], expected boxes [4]"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_signal_saves_and_the_training_goes_on_from_there_to_the_bit() {
    let folder = data();
    let path = folder.path();
    let call = format!("{BASE} --epochs 400 --checkpoint-cycle 1000");
    done(path, &format!("{call} -o whole.safetensors"));
    for signal in ["INT", "TERM"] {
        let ended = Tool::new("parm-train")
            .args(&format!("{call} --threads 1 -o part.safetensors"))
            .within(path)
            .interrupt(signal, &path.join("part.run/metrics.jsonl"));
        assert_eq!(ended.code, if signal == "INT" { 130 } else { 143 }, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("parm-train: note: ") && ended.stderr.contains("--resume"),
            "{}",
            ended.stderr
        );
        assert!(!path.join("part.safetensors").exists());
        assert!(metrics(&path.join("part.run/metrics.jsonl")).len() < 400);
        done(path, &format!("{call} --resume -o part.safetensors"));
        same(path, "whole.safetensors", "part.safetensors");
        same(path, "whole.run/checkpoint.safetensors", "part.run/checkpoint.safetensors");
        assert_eq!(
            metrics(&path.join("part.run/metrics.jsonl")),
            metrics(&path.join("whole.run/metrics.jsonl"))
        );
        fs::remove_file(path.join("part.safetensors")).unwrap();
        fs::remove_dir_all(path.join("part.run")).unwrap();
    }
}

#[test]
fn a_training_that_fails_leaves_no_mark_of_a_finished_code() {
    let folder = data();
    let path = folder.path();
    base(path);
    done(path, &format!("{PARITY} -k 2 --epochs 1 -o code"));
    assert!(path.join("code/code.json").exists());
    let ended = train(path, &format!("{PARITY} -k 2 --epochs 1 -o code").replace("0.01", "1e30"));
    assert!(ended.code == 1 && ended.stderr.contains("diverged"), "{}", ended.stderr);
    assert!(!path.join("code/code.json").exists());
}

#[test]
fn a_training_that_is_there_is_not_overwritten_without_a_question() {
    let folder = data();
    let path = folder.path();
    let call =
        |arguments: &str| Tool::new("parm-train").args(arguments).args("--threads 1").within(path).run();
    let refused = |arguments: &str, message: &str| {
        let ended = call(arguments);
        assert_eq!(ended.code, 1, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
    };
    let read = |name: &str| fs::read(path.join(name)).unwrap();
    let say = "found a training: --resume goes on with it, --force begins anew in its place";
    let base = format!("{BASE} --epochs 1 -o b.safetensors");
    let _ = call(&base).output();
    let model = read("b.safetensors");
    refused(&format!("{base} --seed 1"), &format!("b.safetensors: {say}"));
    assert!(read("b.safetensors") == model);
    // One that was stopped has a checkpoint alone.
    fs::remove_file(path.join("b.safetensors")).unwrap();
    refused(&base, &format!("b.run/checkpoint.safetensors: {say}"));
    let _ = call(&format!("{base} --resume")).output();
    assert!(read("b.safetensors") == model);
    fs::remove_dir_all(path.join("b.run")).unwrap();
    refused(&format!("{base} --resume"), "found no checkpoint of it to go on from");
    let _ = call(&format!("{base} --force")).output();

    let parity = format!("{PARITY} -k 2 --epochs 1 -o code");
    let _ = call(&format!("{parity} -r 2")).output();
    fs::write(path.join("code/notes.txt"), "mine").unwrap();
    refused(&parity, &format!("code/code.json: {say}"));
    assert!(path.join("code/parity-1.pt").exists());
    let _ = call(&format!("{parity} --force")).output();
    let mut left: Vec<_> =
        fs::read_dir(path.join("code")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    // Parts of the larger code are gone, and nothing else.
    assert_eq!(left, ["code.json", "notes.txt", "parity-0.pt", "parity-0.safetensors", "run"]);
    let ended = call(&format!("{parity} --force --resume"));
    assert!(ended.code == 2 && ended.stderr.contains("cannot be used with"), "{}", ended.stderr);
}

#[test]
fn models_that_were_trained_elsewhere_make_a_code_directory() {
    let folder = data();
    let path = folder.path();
    base(path);
    done(path, &format!("{PARITY} -k 2 -r 2 --epochs 2 -o code"));
    let call = |arguments: &str| Tool::new("parm-train").args(arguments).within(path).run();
    let tool = |name: &str, arguments: &str| Tool::new(name).args(arguments).within(path).run().output();
    fs::copy(path.join("code/parity-0.pt"), path.join("one.pt")).unwrap();
    fs::copy(path.join("code/parity-1.safetensors"), path.join("two.safetensors")).unwrap();
    let adopt = "adopt --code sum -k 2 --base b.safetensors -o own";
    let _ = call(&format!("{adopt} --parity one.pt --parity two.safetensors")).output();
    let file = CodeFile::load(&path.join("own")).unwrap();
    let own = CodeFile::load(&path.join("code")).unwrap();
    assert_eq!(file.parity, ["parity-0.pt", "parity-1.safetensors"]);
    assert_eq!((file.weights, file.runs_on, file.deployed), (own.weights, own.runs_on, own.deployed));
    assert_eq!((file.query_shape, file.prediction_shape), (own.query_shape, own.prediction_shape));
    assert_eq!(file.scores, None);
    // It answers as the directory that was trained.
    for code in ["code", "own"] {
        let parity = format!("--parity-out {code}-{{}}.npy -o {code}.npy x.npy");
        tool("parm-infer", &format!("-m b.safetensors --threads 1 --code {code} {parity}"));
    }
    for parity in 0..2 {
        let [one, other] = ["code", "own"]
            .map(|code| f4_values(&fs::read(path.join(format!("{code}-{parity}.npy"))).unwrap()));
        assert!(one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-5), "parity {parity}");
    }

    let refused = |arguments: &str, code: i32, message: &str| {
        let ended = call(arguments);
        assert_eq!(ended.code, code, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{arguments}: {}", ended.stderr);
    };
    refused(&format!("{adopt} --parity one.pt"), 1, "own/code.json: found a code: --force takes its place");
    let _ = call(&format!("{adopt} --parity own/parity-0.pt --force")).output();
    let left = fs::read_dir(path.join("own")).unwrap().count();
    assert_eq!((CodeFile::load(&path.join("own")).unwrap().r, left), (1, 2));
    assert!(fs::metadata(path.join("own/parity-0.pt")).unwrap().len() > 0, "it was in its place");
    for (arguments, code, message) in [
        ("--code sum -k 2", 2, "found no part"),
        ("--code sum -k 2 -r 2 --parity one.pt", 2, "--parity: found 1, expected r = 2"),
        ("--code learned -k 2 --parity one.pt", 2, "--encoder goes with --code learned"),
        ("--code sum -k 2 --parity missing.pt", 1, "missing.pt"),
        ("--code sum -k 2 --parity x.npy", 1, "x.npy"),
        ("--code sum -k 2 --parity one.pt --query-shape 5", 1, "one.pt: "),
    ] {
        refused(&format!("adopt {arguments} -o none"), code, message);
        assert!(!path.join("none/code.json").exists(), "{arguments}");
    }
    // A model that does not say its shapes is adopted all the same.
    let _ = call("adopt --code sum -k 2 --parity one.pt -o plain").output();
    let file = CodeFile::load(&path.join("plain")).unwrap();
    assert_eq!((file.query_shape, file.prediction_shape, file.deployed), (None, None, None));
    let _ = tool("parm-encode", "--code plain -o p.npy x.npy");
}

/// The tensors of a native model by name.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entries = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let read = |(name, entry): (&String, &serde_json::Value)| {
        let [begin, end] = [0, 1].map(|at| 8 + length + entry["data_offsets"][at].as_u64().unwrap() as usize);
        let values = bytes[begin..end].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (name.clone(), values)
    };
    entries.map(read).collect()
}

#[test]
fn parameters_are_held_by_their_names_and_batch_norm_by_an_option() {
    let folder = data();
    let path = folder.path();
    images(path);
    done(
        path,
        "base --data i.npy --labels l.npy --batch 6 --validation 6 --lr 0.003 --model resnet18 --epochs 1 -o r.safetensors",
    );
    let parity = "parity --base r.safetensors --data i.npy --code sum -k 2 --batch 6 --epochs 2";
    let before = tensors(&path.join("r.safetensors"));
    let changed = |options: &str| -> Vec<String> {
        done(path, &format!("{parity} {options} -o code"));
        let after = tensors(&path.join("code/parity-0.safetensors"));
        assert_eq!(before.len(), after.len(), "{options}");
        after.into_iter().filter(|(name, values)| before[name] != *values).map(|(name, _)| name).collect()
    };
    let is_running = |name: &String| name.contains("running");
    let all = changed("");
    assert!(all.len() == before.len(), "{all:?}");
    let some = changed("--freeze layer1.* --freeze *conv1*");
    assert!(
        some.iter().all(|name| is_running(name) || !(name.starts_with("layer1.") || name.contains("conv1")))
    );
    let held = |name: &String| !is_running(name) && (name.starts_with("layer1.") || name.contains("conv1"));
    assert_eq!(some.len(), before.keys().filter(|name| !held(name)).count(), "{some:?}");
    let learned = changed("--bn frozen");
    assert_eq!(learned, before.keys().filter(|name| !is_running(name)).cloned().collect::<Vec<_>>());
    assert_eq!(
        changed("--bn frozen --freeze *conv* --freeze *bn* --freeze *downsample*"),
        ["fc.bias", "fc.weight"]
    );

    // A training with holds is resumed to the bit, and with others it is another training.
    let holds = "--freeze layer*.conv1.* --bn frozen";
    let constant = |epochs: u32, rest: &str| {
        let call = parity.replace("--epochs 2", &format!("--epochs {epochs} --schedule constant"));
        train(path, &format!("{call} {rest} -o part"))
    };
    assert_eq!(constant(2, holds).code, 0);
    fs::rename(path.join("part"), path.join("unbroken")).unwrap();
    assert_eq!(constant(1, holds).code, 0);
    for (other, found) in
        [("--bn frozen", "held"), ("--freeze layer*.conv1.*", "batch normalisation = frozen, expected train")]
    {
        let ended = constant(2, &format!("{other} --resume"));
        assert!(ended.code == 1 && ended.stderr.contains(found), "{other}: {}", ended.stderr);
    }
    assert_eq!(constant(2, &format!("{holds} --resume")).code, 0);
    same(path, "unbroken/parity-0.safetensors", "part/parity-0.safetensors");
    same(path, "unbroken/run/parity-0/checkpoint.safetensors", "part/run/parity-0/checkpoint.safetensors");

    for (options, code, found) in [
        ("--freeze layer9.*", 1, "found no parameter 'layer9.*', expected one of conv1.weight, bn1.weight, "),
        ("--freeze *", 1, "found patterns that match every parameter, expected some to be trained"),
    ] {
        let ended = train(path, &format!("{parity} {options} -o none"));
        assert!(ended.code == code && ended.stderr.contains(found), "{options}: {}", ended.stderr);
    }
    let ended = train(path, "coders --base r.safetensors --data i.npy -k 2 --epochs 1 --freeze fc.* -o none");
    assert!(ended.code == 2 && ended.stderr.contains("found no parity models to train"), "{}", ended.stderr);
}

#[test]
fn a_parity_model_begins_as_the_model_of_a_file() {
    let folder = data();
    let path = folder.path();
    base(path);
    done(
        path,
        &format!("{BASE} --hidden 5 --epochs 2 --seed 7 -o other.safetensors").replace("--hidden 8", ""),
    );
    let parity = format!("{PARITY} -k 2 --epochs 1 --lr 1e-9").replace("--lr 0.01", "");
    done(path, &format!("{parity} --model other.safetensors -o code"));
    let (start, end) =
        (tensors(&path.join("other.safetensors")), tensors(&path.join("code/parity-0.safetensors")));
    assert_eq!(start.keys().collect::<Vec<_>>(), end.keys().collect::<Vec<_>>());
    for (name, values) in &start {
        assert!(values.iter().zip(&end[name]).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
    }
    // Random weights are those of the kind.
    done(path, &format!("{parity} --model ./other.safetensors --init random -o random"));
    done(path, &format!("{parity} --model mlp --hidden 5 --init random -o kind"));
    same(path, "random/parity-0.safetensors", "kind/parity-0.safetensors");

    fs::write(path.join("wide.safetensors"), safetensors::linear(&[4], 3, &[0.5; 12])).unwrap();
    fs::write(path.join("two.safetensors"), safetensors::linear(&[2, 2], 2, &[0.5; 8])).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/pair.pt");
    for (options, code, found) in [
        ("--model other.safetensors --hidden 4", 2, "found --model with the file of a model"),
        ("--model other.safetensors --parity-width 2", 2, "found --model with the file of a model"),
        ("--model other.safetensors --init base", 2, "which has its own weights"),
        ("--model missing.pt", 1, "missing.pt"),
        ("--model mpl", 2, "expected mlp, lenet5, vgg11, resnet18, resnet152, or the file of a model"),
        (
            "--model wide.safetensors",
            1,
            "wide.safetensors: found a model of queries [4], expected [2, 2] as of x.npy",
        ),
        (
            "--model two.safetensors",
            1,
            "found outputs of shape [2] for one row, expected [3] as of the predictions",
        ),
        (
            &format!("--model {}", script.display()),
            1,
            "found TorchScript without parameters, expected a model that can be trained",
        ),
    ] {
        let ended = train(path, &format!("{parity} {options} -o none"));
        assert!(ended.code == code && ended.stderr.contains(found), "{options}: {}", ended.stderr);
    }
}

#[test]
fn a_run_that_is_resumed_keeps_its_rate_and_warm_up_where_no_option_sets_them() {
    let folder = data();
    let path = folder.path();
    images(path);
    done(path, "base --data i.npy --labels l.npy --batch 6 --model lenet5 --epochs 1 -o n.safetensors");
    let parity = "parity --base n.safetensors --data i.npy --code sum -k 2 --batch 3 --schedule constant";
    // As version 0.1.0, which had one rate for all networks.
    let old = "--lr 0.005 --warm-up 0 --clip 0";
    let new = "--lr 0.002 --warm-up 1.5 --clip 0.5 --ema 0.9";
    for own in [old, new] {
        done(path, &format!("{parity} --epochs 2 {own} -o whole"));
        done(path, &format!("{parity} --epochs 1 {own} -o part"));
        done(path, &format!("{parity} --epochs 2 --resume -o part"));
        same(path, "whole/parity-0.safetensors", "part/parity-0.safetensors");
        same(path, "whole/run/parity-0/checkpoint.safetensors", "part/run/parity-0/checkpoint.safetensors");
    }
    for (option, found) in [
        ("--lr 0.005", "lr = 0.002, expected 0.005"),
        ("--warm-up 1", "warm-up = 1.5, expected 1"),
        ("--warm-up 0", "warm-up = 1.5, expected 0"),
        ("--bn frozen", "batch normalisation = train, expected frozen"),
        ("--clip 0", "clip = 0.5, expected none"),
        ("--ema 0.5", "average = 0.9, expected 0.5"),
    ] {
        let ended = train(path, &format!("{parity} --epochs 2 {option} --resume -o part"));
        assert!(ended.code == 1 && ended.stderr.contains(found), "{option}: {}", ended.stderr);
    }
    let ended = train(path, &format!("{parity} --ema 1 -o none"));
    assert!(ended.code == 2 && ended.stderr.contains("a number from 0 to below 1"), "{}", ended.stderr);

    // What is not made of linear layers alone warms up, and a large one is slower, but for the papers' recipe.
    let first = |options: &str| {
        done(path, &format!("{parity} --epochs 1 {options} -o rate"));
        let checkpoint = fs::read(path.join("rate/run/parity-0/checkpoint.safetensors")).unwrap();
        let text = String::from_utf8_lossy(&checkpoint).into_owned();
        let lr = text.split(r#"\"lr\":\""#).nth(1).unwrap().split('\\').next().unwrap().to_owned();
        (lr, text.contains("warm-up"))
    };
    assert_eq!(first("--model mlp"), ("0.005".into(), false));
    assert_eq!(first("--recipe paper"), ("0.001".into(), false));
    assert_eq!(first(""), ("0.005".into(), true));
    assert_eq!(first("--model resnet18"), ("0.001".into(), true));
}

#[test]
fn glibc_asks_for_huge_pages_unless_the_user_decides() {
    let folder = data();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let tunables = |given: Option<&str>| {
        let mut command = Command::new(tool::folder().join("parm-train"));
        command.args(["base", "--data", "pipe", "--labels", "y.npy", "-o", "b.safetensors"]);
        command.current_dir(&folder).env_remove(TUNABLES).envs(given.map(|given| (TUNABLES, given)));
        let mut process = command.spawn().unwrap();
        let read = |name| fs::read(format!("/proc/{}/{name}", process.id())).unwrap();
        // It waits for the pipe.
        until("parm-libtorch to run", || read("comm") == b"parm-libtorch\n" && !read("environ").is_empty());
        let variables = String::from_utf8(read("environ")).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        let value = |variable: &str| Some(variable.strip_prefix(TUNABLES)?.strip_prefix('=')?.to_owned());
        variables.split('\0').find_map(value)
    };
    assert_eq!(tunables(None).unwrap(), "glibc.malloc.hugetlb=1");
    assert_eq!(tunables(Some("")).unwrap(), "");
}
