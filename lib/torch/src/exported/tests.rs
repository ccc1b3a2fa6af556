//! Programs of `testdata/exported`, beside what PyTorch computed with the same modules.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::Program;
use super::learning::Learning;
use crate::fixtures::{difference, folder, generator, loss, train, values};
use crate::model::Choices;
use crate::trainable::{BatchNorm, Mode, Precision, Trainable};

fn load(name: &str) -> Program {
    Program::load(&folder().join(format!("{name}.pt2")), Device::Cpu, &Choices::default()).unwrap()
}

/// `index.json`: the file of values of each program.
fn index(group: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(index[group].clone()).unwrap()
}

/// The programs of one input, with their files of values.
fn of_one_input() -> impl Iterator<Item = (String, String)> {
    let inference = index("inference")
        .into_iter()
        .filter(|(_, of)| ["mlp", "writes", "writes-view"].contains(&of.as_str()));
    index("trainable").into_iter().chain(inference)
}

/// A copy that learns.
fn learning(program: &Program) -> Learning {
    Learning::new(program).unwrap()
}

#[test]
fn outputs_are_those_of_pytorch() {
    for (name, of) in of_one_input() {
        let values = values(&of);
        // The tools give f4 to every model.
        let queries = values["queries"].to_kind(Kind::Float);
        let outputs = load(&name).predict(&queries).unwrap();
        let found = difference(&outputs, &values["outputs"]);
        assert!(found <= 1e-5, "{name}: {found:e}");
    }
}

#[test]
fn lowered_programs_answer_as_before() {
    for (name, of) in of_one_input() {
        let program = load(&name);
        let lowered = program.lowered(true).unwrap();
        let queries = values(&of)["queries"].to_kind(Kind::Float);
        let expected = program.predict(&queries).unwrap();
        // Twice, since a call that writes must not write to what is computed once.
        for _ in 0..2 {
            let outputs = lowered.predict(&queries).unwrap();
            assert_eq!((outputs.kind(), outputs.size()), (expected.kind(), expected.size()), "{name}");
            let found = difference(&outputs, &expected);
            assert!(found <= 1e-5, "{name}: {found:e}");
        }
    }
}

#[test]
fn lowered_programs_have_fewer_calls_and_none_of_what_evaluation_does_not_need() {
    let targets = |name: &str| -> Vec<String> {
        let graph = load(name).lowered(true).unwrap().graph;
        graph.calls.iter().map(|call| call.target.trim_start_matches("torch.ops.aten.").into()).collect()
    };
    // Both normalisations and the dropout are gone, and an activation is part of the first convolution.
    assert_eq!(
        targets("cnn"),
        ["conv2d.default", "conv2d.default", "max_pool2d.default", "flatten.using_ints", "linear.default"]
    );
    // In training mode the graph also counts batches.
    assert_eq!(targets("cnn-train"), targets("cnn"));
    let count = |name: &str, of: &str| targets(name).iter().filter(|target| target.starts_with(of)).count();
    // One sum is part of a convolution; of the other, a call between writes to what the convolution reads. A
    // hard-swish whose input is also used elsewhere stays, as do all calls that write to what others read.
    assert_eq!(["add_", "relu", "hardswish", "mul_"].map(|of| count("writes", of)), [2, 1, 1, 2]);
    // Where one writes through what may be a view, convolutions stay as they are.
    for name in ["writes-view", "writes-reshape"] {
        assert_eq!(["add_", "relu", "hardswish", "mul_"].map(|of| count(name, of)), [3, 3, 1, 3], "{name}");
    }
}

#[test]
fn gradients_are_those_of_pytorch() {
    for (name, of) in index("trainable").into_iter().filter(|(name, _)| name != "cnn-train") {
        let (learning, values) = (learning(&load(&name)), values(&of));
        let loss = loss(&learning.forward(&values["queries"], Mode::Evaluate).unwrap());
        let found = difference(&loss, &values["loss"]);
        assert!(found <= 1e-5, "{name}: {found:e}");
        loss.backward();
        let gradients = values.iter().filter(|(key, _)| key.starts_with("gradient."));
        let largest = gradients.map(|(_, tensor)| tensor.abs().max().double_value(&[])).fold(0.0, f64::max);
        let mut compared = 0;
        for (parameter, view) in learning.numbers().named().iter().filter(|(_, view)| view.requires_grad()) {
            compared += 1;
            // PyTorch lists a tied weight by its first name, as this does. What is under torch.no_grad() has none.
            let Some(expected) = values.get(&format!("gradient.{parameter}")) else {
                assert!(name == "no-grad" && !view.grad().defined(), "{name}: {parameter}");
                continue;
            };
            let found = (view.grad() - expected).abs().max().double_value(&[]) / largest;
            assert!(found <= 1e-4, "{name}: {parameter} {found:e}");
        }
        assert_eq!(compared, learning.numbers().learned().count(), "{name}");
    }
}

#[test]
fn a_training_is_that_of_pytorch() {
    let values = values("cnn");
    for name in ["cnn", "cnn-2.15", "cnn-train"] {
        let learning = learning(&load(name));
        train(&learning, &values["queries"]);
        let mut compared = 0;
        for (parameter, view) in learning.numbers().named() {
            // A module in evaluation mode has no counter in its graph.
            if parameter.ends_with("num_batches_tracked") && name != "cnn-train" {
                continue;
            }
            let found = difference(&view.detach(), &values[&format!("after.{parameter}")]);
            assert!(found <= 1e-6, "{name}: {parameter} {found:e}");
            compared += 1;
        }
        assert!(compared >= 12, "{name}: {compared}");
    }
}

#[test]
fn a_program_that_answers_keeps_its_numbers() {
    let program = load("cnn-train");
    let before: Vec<Tensor> = program.tensors.iter().map(Tensor::copy).collect();
    let _ = program.predict(&values("cnn")["queries"]).unwrap();
    assert!(before.iter().zip(&program.tensors).all(|(before, tensor)| before == tensor));
}

#[test]
fn held_statistics_stay() {
    let _generator = generator();
    let learning = learning(&load("cnn"));
    let queries = &values("cnn")["queries"];
    let fixed = || learning.numbers().flat().fixed.copy();
    let before = fixed();
    let frozen = Mode::Train { precision: Precision::Full, norm: BatchNorm::Frozen };
    let _ = learning.forward(queries, frozen).unwrap();
    assert_eq!(fixed(), before);
    let _ = learning.forward(queries, Mode::TRAIN).unwrap();
    assert!(fixed() != before);
}

#[test]
fn what_is_saved_is_loaded_again() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("saved.pt2");
    for (name, of) in index("trainable") {
        let mut program = load(&name);
        // Other numbers, in the memory's order of the old ones.
        for (input, tensor) in program.graph.inputs.iter().zip(&mut program.tensors) {
            if input.role == super::Role::Parameter {
                *tensor = tensor.f_mul_scalar(0.5).unwrap();
            }
        }
        std::fs::write(&path, program.to_bytes().unwrap()).unwrap();
        let again = Program::load(&path, Device::Cpu, &Choices::default()).unwrap();
        let queries = values(&of)["queries"].to_kind(Kind::Float);
        // A transposed weight is multiplied by other loops.
        let found = difference(&again.predict(&queries).unwrap(), &program.predict(&queries).unwrap());
        assert!(found <= 1e-6, "{name}: {found:e}");
        std::fs::write(&path, again.to_bytes().unwrap()).unwrap();
        assert_eq!(program.to_bytes().unwrap(), again.to_bytes().unwrap(), "{name}");
    }
}

#[test]
fn tied_tensors_stay_tied() {
    let program = load("tied");
    let learning = learning(&program);
    // Three weights of 16 and 5 outputs and their biases, of which one weight is shared.
    assert_eq!(learning.numbers().flat().learned.size(), [16 * 16 + 2 * 16 + 5 * 16 + 5]);
    let original = std::fs::metadata(folder().join("tied.pt2")).unwrap().len() as usize;
    // Not a second weight of 16 · 16 numbers.
    assert!(program.to_bytes().unwrap().len() < original + 16 * 16 * 4);
}

#[test]
fn what_was_learned_is_saved() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("learned.pt2");
    let learning = learning(&load("cnn"));
    let _ = learning.numbers().flat().learned.shallow_clone().f_mul_scalar_(0.5).unwrap();
    learning.save(&path).unwrap();
    let again = Program::load(&path, Device::Cpu, &Choices::default()).unwrap();
    let queries = &values("cnn")["queries"];
    let expected = tch::no_grad(|| learning.forward(queries, Mode::Evaluate).unwrap());
    assert_eq!(again.predict(queries).unwrap(), expected);
    assert!(load("cnn").predict(queries).unwrap() != expected);
}

#[test]
fn rows_are_filled_to_the_number_that_a_graph_computes() {
    let queries = values("mlp")["queries"].to_kind(Kind::Float);
    let all = load("mlp").predict(&queries).unwrap();
    for (name, found) in
        [("mlp-fixed", "a constant or bounded number"), ("mlp-by-four", "multiples of 4 rows")]
    {
        let program = load(name);
        for rows in 1..=8 {
            let found = program.predict(&queries.narrow(0, 0, rows)).unwrap();
            assert!(difference(&found, &all.narrow(0, 0, rows)) < 1e-6, "{name} {rows}");
        }
        let error = program.check_trainable().unwrap_err().to_string();
        assert!(error.contains(found) && error.contains("dynamic_shapes"), "{error}");
    }
}

#[test]
fn dropout_draws_only_while_the_model_learns() {
    let _generator = generator();
    let learning = learning(&load("cnn"));
    assert!(learning.is_random());
    let queries = &values("cnn")["queries"];
    let run = |mode, seed| {
        tch::manual_seed(seed);
        learning.forward(queries, mode).unwrap().detach()
    };
    let frozen = Mode::Train { precision: Precision::Full, norm: BatchNorm::Frozen };
    assert_eq!(run(Mode::Evaluate, 1), run(Mode::Evaluate, 2));
    assert_eq!(run(frozen, 1), run(frozen, 1));
    assert!(run(frozen, 1) != run(frozen, 2));
}

/// The names of the tensors that the nodes of a program make.
fn nodes(name: &str) -> Vec<String> {
    let mut archive = super::Archive::open(&folder().join(format!("{name}.pt2"))).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&archive.read("models/model.json").unwrap()).unwrap();
    let nodes = json["graph_module"]["graph"]["nodes"].as_array().unwrap().clone();
    nodes
        .iter()
        .filter_map(|node| node["outputs"][0]["as_tensor"]["name"].as_str().map(str::to_owned))
        .collect()
}

fn part(name: &str, from: Option<&str>, to: Option<&str>) -> Result<Program, super::ProgramError> {
    let [from, to] = [from, to].map(|node| node.map(str::to_owned));
    let path = folder().join(format!("{name}.pt2"));
    Program::load(&path, Device::Cpu, &Choices { from, to, ..Choices::default() })
}

#[test]
fn a_program_is_its_part_up_to_a_node_and_its_part_behind_it() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, least) in [
        ("mlp", 4),
        ("cnn", 7),
        ("cnn-train", 7),
        ("depthwise", 6),
        ("vit", 6),
        ("swin", 8),
        ("convnext", 4),
        ("distilbert", 10),
        ("no-grad", 2),
    ] {
        let of = if name == "cnn-train" { "cnn" } else { name };
        let queries = values(of)["queries"].to_kind(Kind::Float);
        let whole = load(name).predict(&queries).unwrap();
        let mut places = 0;
        for node in nodes(name) {
            let Ok(end) = part(name, Some(&node), None) else { continue };
            let begin = part(name, None, Some(&node)).unwrap();
            let between = begin.predict(&queries).unwrap();
            let found = difference(&end.predict(&between).unwrap(), &whole);
            assert!(found <= 1e-6, "{name}: {node} {found:e}");
            // Each part has its own parameters alone, and is written as a program.
            let count = |program: &Program| program.parameters().count();
            assert!(count(&begin) + count(&end) <= count(&load(name)) + 1, "{name}: {node}");
            for (part, queries) in [(&begin, &queries), (&end, &between)] {
                let path = scratch.path().join("part.pt2");
                std::fs::write(&path, part.to_bytes().unwrap()).unwrap();
                let again = Program::load(&path, Device::Cpu, &Choices::default()).unwrap();
                let found = difference(&again.predict(queries).unwrap(), &part.predict(queries).unwrap());
                assert!(found <= 1e-6, "{name}: {node} {found:e}");
            }
            places += 1;
        }
        assert!(places >= least, "{name}: {places}");
    }
}

#[test]
fn a_part_is_between_two_nodes() {
    let queries = values("cnn")["queries"].to_kind(Kind::Float);
    let run = |from, to, queries: &Tensor| part("cnn", from, to).unwrap().predict(queries).unwrap();
    let first = run(None, Some("relu"), &queries);
    let middle = run(Some("relu"), Some("flatten"), &first);
    assert_eq!(middle, run(None, Some("flatten"), &queries));
    assert_eq!(run(Some("flatten"), None, &middle), load("cnn").predict(&queries).unwrap());
}

#[test]
fn what_is_no_part_is_refused() {
    let error = |name: &str, from, to| part(name, from, to).unwrap_err().to_string();
    for (name, from, to, message) in [
        ("cnn", Some("relu_7"), None, "found no node 'relu_7' that makes a tensor, expected one as relu"),
        ("cnn", Some("nothing"), None, "expected one as conv2d, batch_norm, relu, dropout, "),
        ("cnn", Some("x"), None, "found no node 'x'"),
        ("cnn", Some("flatten"), Some("relu"), "found nothing that leads from 'flatten' to 'relu'"),
        ("cnn", Some("relu"), Some("relu"), "found nothing that leads from 'relu' to 'relu'"),
    ] {
        let error = error(name, from, to);
        assert!(error.contains(message), "{error}");
    }
    // The table goes in behind the features of the query, which is needed beside them.
    let path = folder().join("two.pt2");
    let choices = Choices { from: Some("relu".into()), ..Choices::default() };
    let error = Program::load(&path, Device::Cpu, &choices).unwrap_err().to_string();
    assert!(error.contains("found 'x' in 'matmul', which is behind 'relu'"), "{error}");
}
