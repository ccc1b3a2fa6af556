//! `parm-compare` as a process, on the digits.

use std::path::{Path, PathBuf};

use parm_testkit::npy::{f4, f4_values};
use parm_testkit::report::made_by;
use parm_testkit::schema::check;
use parm_testkit::{Outcome, Tool, safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/digits").join(name)
}

/// A deployed model and a code for pairs, trained for a moment.
fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let train = |what: &str| {
        let call = Tool::new("parm-train").args(what).arg("--data").arg(digits("train.npy"));
        call.arg("--labels").arg(digits("train-labels.npy")).within(folder.path()).run().output()
    };
    let _ = train("base --hidden 64 --epochs 15 --lr 0.01 -o base.safetensors");
    let _ =
        train("parity --base base.safetensors --init base --code sum -k 2 --epochs 40 --lr 0.003 -o pairs");
    folder
}

fn compare(folder: &Path, arguments: &str) -> Outcome {
    let call = Tool::new("parm-compare").args("-m base.safetensors --data").arg(digits("test.npy"));
    call.arg("--labels").arg(digits("test-labels.npy")).args(arguments).within(folder).run()
}

/// The schema of comparisons.
fn schema() -> Value {
    serde_json::from_slice(&Tool::new("parm-compare").args("--schema").run().output()).unwrap()
}

#[test]
fn a_model_of_one_output_is_refused_and_what_its_file_leaves_open_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let first = vec![0.1; 8 * 64];
    let write = |outputs: usize| {
        let last = vec![0.5; 8 * outputs];
        let tensors: [(&str, &[usize], &[f32]); 4] = [
            ("fc1.weight", &[8, 64], &first),
            ("fc1.bias", &[8], &[0.; 8]),
            ("fc2.weight", &[outputs, 8], &last),
            ("fc2.bias", &[outputs], &vec![0.; outputs]),
        ];
        std::fs::write(path.join("base.safetensors"), safetensors::file("\"format\":\"pt\"", &tensors))
            .unwrap();
    };
    let call = "-k 2 --draws 1 --threads 1 --codes berrut";
    write(1);
    let ended = compare(path, &format!("{call} --activation tanh"));
    let message = "--labels: found predictions of one number, which tell no classes apart";
    assert!(ended.code == 2 && ended.stderr.contains(message), "{}", ended.stderr);
    write(10);
    let ended = compare(path, &format!("{call} --activation tanh"));
    assert!(ended.code == 0 && ended.stderr.is_empty(), "{}", ended.stderr);
    let ended = compare(path, call);
    assert!(ended.code == 0 && ended.stderr.contains("--activation"), "{}", ended.stderr);
}

#[test]
fn codes_stand_beside_the_baselines_of_their_size() {
    let folder = stage();
    let call = "-k 2,4 --lost 1 --code-dir pairs --json --threads 1";
    let output = compare(folder.path(), call).output();
    let report: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(report["format"], 2);
    check(&schema(), &report);
    let (made_by, inputs) = made_by(&report, folder.path());
    assert_eq!([&made_by.options["seed"], &made_by.options["k"]], [&json!([0]), &json!([2, 4])]);
    for name in ["base.safetensors", "pairs/code.json", "pairs/parity-0.safetensors"] {
        assert!(inputs.iter().any(|input| input == name), "{name}: {inputs:?}");
    }
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<_> =
        rows.iter().map(|row| (row["code"].as_str().unwrap(), row["k"].as_u64().unwrap())).collect();
    let of = |k| {
        let trained = (k == 2).then_some(("sum:trained", k));
        let codes = [("berrut", k), ("floater-hormann", k), ("spline", k)];
        [("none", k), ("replicate", k)].into_iter().chain(trained).chain(codes).collect::<Vec<_>>()
    };
    assert_eq!(names, [of(2), of(4)].concat());

    let all = |name: &str| rows.iter().find(|row| row["code"] == name).unwrap()["A_all"].as_f64().unwrap();
    assert!(all("none") < all("replicate") && all("replicate") < all("sum:trained"), "{report}");
    assert!(report["recommendation"].as_str().unwrap().starts_with("recommended: sum:trained with k = 2"));
    for row in rows {
        let [low, value, high] = ["low", "A_all", "high"].map(|key| row[key].as_f64().unwrap());
        assert!(low <= value && value <= high, "{row}");
        assert_eq!(row["extra_workers"], row["lost"]);
        let at_rate = row["A_all_at_rate"].as_f64().unwrap();
        // Fewer losses cost less, but for chance.
        assert!((value - 0.01..1.0).contains(&at_rate), "{row}");
        // A copy is the prediction itself, and so is what arrived.
        if row["code"] == "replicate" {
            assert_eq!(row["agreement"], 1.0);
        }
        assert_eq!(
            row["A_a"].is_null(),
            ["berrut", "floater-hormann", "spline"].contains(&row["code"].as_str().unwrap())
        );
    }

    let without_times = |output: &[u8]| {
        let mut report: Value = serde_json::from_slice(output).unwrap();
        for row in report["rows"].as_array_mut().unwrap() {
            row.as_object_mut().unwrap().remove("decode_us");
        }
        report
    };
    let again = compare(folder.path(), call).output();
    assert_eq!(without_times(&again), without_times(&output), "the seed decides");
    let never = compare(folder.path(), &format!("{call} --loss-rate 0")).output();
    let never: Value = serde_json::from_slice(&never).unwrap();
    for row in never["rows"].as_array().unwrap().iter().filter(|row| row["code"] == "none") {
        // Both count the deployed model's own predictions, one of all, one of those that arrived.
        let (at_rate, own) = (row["A_all_at_rate"].as_f64().unwrap(), row["A_a"].as_f64().unwrap());
        assert!((at_rate - own).abs() < 0.01, "{row}");
    }
    let other = compare(folder.path(), &format!("{call} --seed 1")).output();
    assert_ne!(without_times(&other), without_times(&output));
}

/// The JSON of a comparison on the digits without labels.
fn unlabelled(folder: &Path, arguments: &str) -> Outcome {
    let call = Tool::new("parm-compare").args("-m base.safetensors --data").arg(digits("test.npy"));
    call.args(arguments).within(folder).run()
}

#[test]
fn values_are_compared_by_their_r2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // The values of a picture are the sums of its upper and of its lower half.
    for part in ["train", "test"] {
        let pixels = f4_values(&std::fs::read(digits(&format!("{part}.npy"))).unwrap());
        let values: Vec<f32> = pixels.chunks(32).map(|half| half.iter().sum()).collect();
        std::fs::write(path.join(format!("{part}.npy")), f4(&[values.len() / 2, 2], &values)).unwrap();
    }
    for what in [
        "base --values train.npy --hidden 32 --epochs 20 --lr 0.01 -o base.safetensors",
        "parity --base base.safetensors --code sum -k 2 --epochs 60 --batch 32 -o pairs",
    ] {
        let call = Tool::new("parm-train").args(what).arg("--data").arg(digits("train.npy"));
        let _ = call.args("--threads 1").within(path).run().output();
    }
    let call = "-k 2 --code-dir pairs --json --threads 1 --draws 2";
    let report = |arguments: &str| -> Value {
        serde_json::from_slice(&unlabelled(path, &format!("{call} {arguments}")).output()).unwrap()
    };
    let known = report("--values test.npy");
    assert_eq!((&known["task"], &known["measure"]), (&"regress".into(), &"R2".into()));
    let of = |report: &Value, name: &str, key: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["code"] == name).unwrap()[key].as_f64()
    };
    check(&schema(), &known);
    let own = known["deployed"][0]["score"].as_f64().unwrap();
    let [none, copies, sum] =
        ["none", "replicate", "sum:trained"].map(|name| of(&known, name, "A_all").unwrap());
    assert!(none < copies && copies < sum && sum < own + 0.01, "{none} {copies} {sum} {own}");
    assert!(own > 0.7 && of(&known, "sum:trained", "agreement").unwrap() > 0.3, "{known}");
    assert!(known["recommendation"].as_str().unwrap().contains(": R2_all 0."), "{known}");
    // What arrived is the deployed model's own prediction, and without the truth it is that itself.
    let alone = report("");
    assert_eq!(of(&alone, "sum:trained", "A_a"), Some(1.0));
    assert!(alone["deployed"][0]["score"].is_null(), "{alone}");
    let table = unlabelled(path, "-k 2 --code-dir pairs --threads 1 --draws 1 --values test.npy").output();
    let table = String::from_utf8(table).unwrap();
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[4..7], ["R2_a", "R2_d", "R2_all"], "{table}");

    std::fs::write(path.join("one.npy"), f4(&[3], &[1., 2., 3.])).unwrap();
    let rows = known["rows"].as_array().map_or(0, Vec::len);
    assert_eq!(rows, 6, "two baselines, the trained code and three that interpolate");
    for (arguments, code, message) in [
        ("--values one.npy", 1, "one.npy: found 3 rows, expected"),
        (
            "--task embed --code-dir pairs",
            2,
            "--task embed: found the task embed, expected regress: the outputs are values",
        ),
        (
            "--task regress --boxes test.npy",
            2,
            "--task regress: found --boxes, which goes with --task boxes alone",
        ),
        ("--boxes test.npy", 2, "--boxes: found predictions of 2 numbers, expected 4"),
    ] {
        let ended = unlabelled(path, &format!("-k 2 --threads 1 --draws 1 --codes berrut {arguments}"));
        assert!(
            ended.code == code && ended.stderr.contains(message),
            "{arguments}: {} {}",
            ended.code,
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn classes_without_labels_are_compared_with_those_of_the_deployed_model() {
    let folder = stage();
    let call = "-k 2 --codes berrut --code-dir pairs --json --threads 1 --draws 2";
    let report: Value = serde_json::from_slice(&unlabelled(folder.path(), call).output()).unwrap();
    check(&schema(), &report);
    assert_eq!([&report["against"], &report["deployed"][0]["score"]], [&json!("deployed"), &Value::Null]);
    for row in report["rows"].as_array().unwrap() {
        assert_eq!(row["A_d"], row["agreement"], "{row}");
        assert!(row["A_a"] == 1.0 || row["name"] == "berrut", "{row}");
    }
    let labelled: Value = serde_json::from_slice(&compare(folder.path(), call).output()).unwrap();
    assert_eq!(labelled["against"], "truth");
    let agreements = |report: &Value| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().map(|row| row["agreement"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(agreements(&report), agreements(&labelled));
}

#[test]
fn the_losses_of_several_seeds_are_scored_together_and_apart() {
    let folder = stage();
    let call = "-k 2 --codes berrut --code-dir pairs --threads 1 --draws 2";
    let json = |seeds: &str| -> Value {
        let output = compare(folder.path(), &format!("{call} --json --seed {seeds}")).output();
        serde_json::from_slice(&output).unwrap()
    };
    let (three, alone) = (json("5,6,7"), json("6"));
    check(&schema(), &three);
    for (row, alone) in three["rows"].as_array().unwrap().iter().zip(alone["rows"].as_array().unwrap()) {
        let seeds = row["seeds"].as_array().unwrap();
        for score in ["A_d", "A_all", "A_all_at_rate", "agreement"] {
            assert_eq!(seeds[1][score], alone[score], "{score} {row}");
        }
        let all: Vec<f64> = seeds.iter().map(|of| of["A_all"].as_f64().unwrap()).collect();
        let mean = all.iter().sum::<f64>() / 3.0;
        assert!((row["A_all"].as_f64().unwrap() - mean).abs() < 1e-9, "{row}");
        let deviation = (all.iter().map(|of| (of - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        assert!((row["deviation"].as_f64().unwrap() - deviation).abs() < 1e-9, "{row}");
        assert_eq!(alone["deviation"], Value::Null);
    }
    let table = String::from_utf8(compare(folder.path(), &format!("{call} --seed 5,6")).output()).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].ends_with("  deviation") && lines[0].len() == lines[1].len(), "{table}");
    let ended = compare(folder.path(), &format!("{call} --seed 5,5"));
    assert!(ended.code == 2 && ended.stderr.contains("--seed: found 5 twice"), "{}", ended.stderr);
}

#[test]
fn embeddings_are_compared_by_their_cosine() {
    let folder = stage();
    let call = "-k 2 --json --threads 1 --draws 2 --task embed --code-dir pairs";
    let report: Value = serde_json::from_slice(&unlabelled(folder.path(), call).output()).unwrap();
    assert_eq!((&report["task"], &report["measure"]), (&"embed".into(), &"cosine".into()));
    let rows = report["rows"].as_array().unwrap();
    let of = |name: &str, key: &str| rows.iter().find(|row| row["code"] == name).unwrap()[key].as_f64();
    assert!((of("replicate", "A_a").unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(of("replicate", "agreement"), Some(1.0));
    assert!(of("none", "A_all") < of("sum:trained", "A_all"), "{report}");
    assert!(of("berrut", "A_d").is_some_and(|cosine| 0.0 < cosine && cosine < 1.0), "{report}");
}

#[test]
fn tiles_and_learned_coders_are_compared_too() {
    let folder = stage();
    let train = |what: &str| {
        let call = Tool::new("parm-train").args(what).arg("--data").arg(digits("train.npy"));
        let _ = call.args("--base base.safetensors -k 2 --lr 0.003").within(folder.path()).run().output();
    };
    train("parity --code concat --epochs 60 --batch 32 -o tiles");
    train("coders --epochs 30 --batch 32 -o around");
    train("coders --encoder sum --runs-on parity --epochs 60 --batch 32 -o sums");
    let call = "-k 2 --code-dir tiles --code-dir around --code-dir sums --codes berrut --json --threads 1";
    let report: Value = serde_json::from_slice(&compare(folder.path(), call).output()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let of = |name: &str, key: &str| rows.iter().find(|row| row["code"] == name).unwrap()[key].clone();
    for (name, directory) in [
        ("concat:trained", "tiles"),
        ("learned:trained:learned-decoder", "around"),
        ("sum:trained:learned-decoder", "sums"),
    ] {
        let file = std::fs::read(folder.path().join(directory).join("code.json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        let (scored, found) = (file["scores"]["agreement"].as_f64(), of(name, "agreement").as_f64());
        // Other rows, and other groups of them.
        assert!((scored.unwrap() - found.unwrap()).abs() < 0.15, "{name}: {scored:?} {found:?}");
        let plain = [of(name, "name"), of(name, "training"), of(name, "directory")];
        assert_eq!(plain, [json!(name.split(':').next()), json!("trained"), json!(directory)]);
        assert_eq!(of(name, "learned_decoder"), name.ends_with(":learned-decoder"));
        assert!(of(name, "A_all").as_f64() > of("none", "A_all").as_f64(), "{name}: {report}");
        assert_eq!(of(name, "decode_us").is_null(), directory != "tiles", "{name}");
    }
}

#[test]
fn the_table_ends_with_a_recommendation_that_may_be_not_to_code() {
    let folder = stage();
    let output = compare(folder.path(), "-k 12 --lost 3 --codes floater-hormann --threads 1").output();
    let table = String::from_utf8(output).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0])[..4], ["code", "k", "extra", "lost"]);
    assert_eq!(words(lines[1])[..4], ["none", "12", "25.0%", "3"]);
    assert!(lines.last().unwrap().starts_with("recommended: do not code"), "{table}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = stage();
    let refused = |arguments: &str, message: &str| {
        let outcome = compare(folder.path(), arguments);
        assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, b"".as_slice()), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    };
    refused("-k 256 --code-dir missing", "missing/code.json: No such file");
    std::fs::write(folder.path().join("few.npy"), parm_testkit::npy::f4(&[2, 1, 8, 8], &[0.0; 128])).unwrap();
    std::fs::write(folder.path().join("y.npy"), parm_testkit::npy::u1(&[2], &[0, 10])).unwrap();
    let call = |arguments: &str| Tool::new("parm-compare").args(arguments).within(folder.path()).run();
    let outcome = call("-m base.safetensors --data few.npy --labels y.npy -k 4");
    assert!(
        outcome.stderr.contains("few.npy: found 2 rows, expected at least one group of k = 4"),
        "{}",
        outcome.stderr
    );
    let outcome = call("-m base.safetensors --data few.npy --labels y.npy -k 2");
    assert!(outcome.stderr.contains("y.npy: row 1: found label 10, expected 0 to 9"), "{}", outcome.stderr);
    let outcome = call("-m missing.pt --data few.npy --labels y.npy -k 2");
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("missing.pt") && outcome.stderr.contains("parm-infer failed"),
        "{}",
        outcome.stderr
    );
    let outcome = call("-m base.safetensors --data few.npy --labels few.npy -k 2");
    assert!(outcome.stderr.contains("expected labels: one integer a row"), "{}", outcome.stderr);
}

#[test]
fn a_code_for_another_model_is_refused_and_codes_of_one_kind_have_their_directories_in_their_names() {
    let folder = stage();
    let train = |what: &str| {
        let call = Tool::new("parm-train").args(what).arg("--data").arg(digits("train.npy"));
        call.within(folder.path()).run().output()
    };
    let _ = train("parity --base base.safetensors --code sum -k 2 --epochs 1 -o others");
    let call = "-k 2 --codes berrut --code-dir pairs --code-dir others --json --draws 1 --threads 1";
    let report: Value = serde_json::from_slice(&compare(folder.path(), call).output()).unwrap();
    let names: Vec<_> =
        report["rows"].as_array().unwrap().iter().map(|row| row["code"].as_str().unwrap()).collect();
    assert_eq!(names, ["none", "replicate", "sum:trained:pairs", "sum:trained:others", "berrut"]);

    let refused = |call: &str, code: i32, message: &str| {
        let outcome = compare(folder.path(), call);
        assert_eq!((outcome.code, outcome.stdout.len()), (code, 0), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    };
    refused("-k 2 --code-dir pairs --code-dir pairs", 2, "--code-dir pairs: given twice");
    let path = folder.path().join("others/code.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["deployed"]["sha256"] = "00".into();
    std::fs::write(&path, file.to_string()).unwrap();
    refused("-k 2 --code-dir pairs --code-dir others", 1, "base.safetensors: found the SHA-256 ");
    refused("-k 2 --code-dir others", 1, "the model that others was trained for");
    // A code of which that is not known is compared.
    file.as_object_mut().unwrap().remove("deployed");
    std::fs::write(&path, file.to_string()).unwrap();
    let _ = compare(folder.path(), "-k 2 --codes berrut --code-dir others --draws 1").output();
}
