//! Programs of `testdata/exported`, beside what PyTorch computed with the same modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use tch::{Device, Kind, TchError, Tensor};

use super::Program;
use super::run::Settings;
use crate::adam::Adam;
use crate::model::Choices;
use crate::network::Mode;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported")
}

fn load(name: &str) -> Program {
    Program::load(&folder().join(format!("{name}.pt2")), Device::Cpu, &Choices::default()).unwrap()
}

/// The tensors of a file of values.
fn values(name: &str) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => panic!("{name}: {other:?}"),
        };
        let size: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
        (name.to_owned(), Tensor::from_data_size(view.data(), &size, kind))
    };
    file.iter().map(tensor).collect()
}

/// `index.json`: the file of values of each program.
fn index(group: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(index[group].clone()).unwrap()
}

/// The largest difference as a share of the largest value.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let [found, expected] = [found, expected].map(|tensor| tensor.to_kind(Kind::Double));
    let largest = expected.abs().max().double_value(&[]).max(1e-30);
    (found - expected).abs().max().double_value(&[]) / largest
}

/// The tensors of a program with gradients, as training has them.
fn learning(program: &Program) -> Vec<Tensor> {
    let copy = |(input, tensor): (&super::Input, &Tensor)| match input.role {
        super::Role::Parameter => tensor.copy().set_requires_grad(true),
        _ => tensor.copy(),
    };
    program.file.graph.inputs.iter().zip(&program.tensors).map(copy).collect()
}

/// Its parameters in PyTorch's order, each once.
fn parameters(program: &Program) -> Vec<(String, usize)> {
    let inputs = program.file.graph.inputs.iter().enumerate();
    let own = inputs.filter(|(_, input)| input.role == super::Role::Parameter);
    own.map(|(at, input)| (input.name.clone(), at)).collect()
}

fn loss(outputs: &Tensor) -> Tensor {
    outputs.square().mean(Kind::Float)
}

#[test]
fn outputs_are_those_of_pytorch() {
    let all = index("trainable").into_iter().chain([("mlp-fixed".to_owned(), "mlp".to_owned())]);
    for (name, of) in all {
        let values = values(&of);
        // The tools give f4 to every model.
        let queries = values["queries"].to_kind(Kind::Float);
        let outputs = load(&name).predict(&queries).unwrap();
        let found = difference(&outputs, &values["outputs"]);
        assert!(found <= 1e-5, "{name}: {found:e}");
    }
}

#[test]
fn gradients_are_those_of_pytorch() {
    for (name, of) in index("trainable").into_iter().filter(|(name, _)| name != "cnn-train") {
        let (program, values) = (load(&name), values(&of));
        let tensors = learning(&program);
        let loss = loss(&program.forward_with(&tensors, &values["queries"], Mode::Evaluate, false).unwrap());
        let found = difference(&loss, &values["loss"]);
        assert!(found <= 1e-5, "{name}: {found:e}");
        loss.backward();
        let largest = values.iter().filter(|(key, _)| key.starts_with("gradient."));
        let largest = largest.map(|(_, tensor)| tensor.abs().max().double_value(&[])).fold(0.0, f64::max);
        for (parameter, at) in parameters(&program) {
            // PyTorch lists a shared weight by its first name, and adds its gradients.
            let Some(expected) = values.get(&format!("gradient.{parameter}")) else { continue };
            let mut gradient = tensors[at].grad();
            for (other, second) in parameters(&program) {
                let is_shared = program.tensors[second].data_ptr() == program.tensors[at].data_ptr();
                if is_shared && other != parameter {
                    gradient = gradient + tensors[second].grad();
                }
            }
            let found = (&gradient - expected).abs().max().double_value(&[]) / largest;
            assert!(found <= 1e-4, "{name}: {parameter} {found:e}");
        }
    }
}

/// Ten steps of Adam, each with libtorch's generator as PyTorch's was.
fn train(program: &Program, queries: &Tensor) -> Result<Vec<Tensor>, TchError> {
    let mut tensors = learning(program);
    let learned: Vec<usize> = parameters(program).into_iter().map(|(_, at)| at).collect();
    let mut optimisers: Vec<Adam> = learned.iter().map(|&at| Adam::new(&tensors[at])).collect::<Result<_, _>>()?;
    for step in 0..10 {
        tch::manual_seed(1000 + step);
        let loss = loss(&program.forward_with(&tensors, queries, Mode::Train, false)?);
        let own: Vec<Tensor> = learned.iter().map(|&at| tensors[at].shallow_clone()).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &own, false, false)?;
        for ((&at, adam), gradient) in learned.iter().zip(&mut optimisers).zip(gradients) {
            adam.step(&tensors[at], gradient, 1e-3, 0.0)?;
        }
    }
    for tensor in &mut tensors {
        *tensor = tensor.detach();
    }
    Ok(tensors)
}

#[test]
fn a_training_is_that_of_pytorch() {
    let values = values("cnn");
    for name in ["cnn", "cnn-2.15", "cnn-train"] {
        let program = load(name);
        let tensors = train(&program, &values["queries"]).unwrap();
        for (input, tensor) in program.file.graph.inputs.iter().zip(&tensors) {
            let Some(expected) = values.get(&format!("after.{}", input.name)) else { continue };
            // A module in evaluation mode has no counter in its graph.
            if input.name.ends_with("num_batches_tracked") && name != "cnn-train" {
                continue;
            }
            let found = difference(tensor, expected);
            assert!(found <= 1e-6, "{name}: {} {found:e}", input.name);
        }
    }
}

#[test]
fn a_program_that_answers_keeps_its_numbers() {
    let program = load("cnn-train");
    let before: Vec<Tensor> = program.tensors.iter().map(Tensor::copy).collect();
    program.predict(&values("cnn")["queries"]).unwrap();
    assert!(before.iter().zip(&program.tensors).all(|(before, tensor)| before == tensor));
}

#[test]
fn held_statistics_stay() {
    let program = load("cnn");
    let tensors = learning(&program);
    let queries = &values("cnn")["queries"];
    let held = program.forward_with(&tensors, queries, Mode::Train, true).unwrap();
    for (input, (found, before)) in program.file.graph.inputs.iter().zip(tensors.iter().zip(&program.tensors)) {
        assert!(input.role != super::Role::Buffer || found == before, "{}", input.name);
    }
    let moved = program.forward_with(&tensors, queries, Mode::Train, false).unwrap();
    assert!(held != moved);
}

#[test]
fn what_is_saved_is_loaded_again() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("saved.pt2");
    for (name, of) in index("trainable") {
        let mut program = load(&name);
        // Other numbers, in memory of another order.
        for tensor in &mut program.tensors {
            if tensor.kind() == Kind::Float {
                *tensor = tensor.f_mul_scalar(0.5).unwrap();
            }
        }
        std::fs::write(&path, program.to_bytes().unwrap()).unwrap();
        let again = Program::load(&path, Device::Cpu, &Choices::default()).unwrap();
        let queries = values(&of)["queries"].to_kind(Kind::Float);
        assert_eq!(program.predict(&queries).unwrap(), again.predict(&queries).unwrap(), "{name}");
        std::fs::write(&path, again.to_bytes().unwrap()).unwrap();
        assert_eq!(program.to_bytes().unwrap(), again.to_bytes().unwrap(), "{name}");
    }
}

#[test]
fn tied_tensors_stay_tied_when_they_are_saved() {
    let program = load("tied");
    let own: Vec<usize> = parameters(&program).into_iter().map(|(_, at)| at).collect();
    let shared = own.iter().flat_map(|a| own.iter().map(move |b| (a, b)));
    let shared = shared.filter(|(a, b)| a < b && program.tensors[**a].data_ptr() == program.tensors[**b].data_ptr());
    assert_eq!(shared.count(), 1);
    let original = std::fs::metadata(folder().join("tied.pt2")).unwrap().len() as usize;
    // Not a second weight of 16 · 16 numbers.
    assert!(program.to_bytes().unwrap().len() < original + 16 * 16 * 4);
}

#[test]
fn a_constant_number_of_rows_is_filled() {
    let program = load("mlp-fixed");
    let queries = values("mlp")["queries"].to_kind(Kind::Float);
    let all = load("mlp").predict(&queries).unwrap();
    for rows in 1..=8 {
        let found = program.predict(&queries.narrow(0, 0, rows)).unwrap();
        assert!(difference(&found, &all.narrow(0, 0, rows)) < 1e-6, "{rows}");
    }
    assert!(program.obstacle().unwrap().to_string().contains("dynamic_shapes"));
}

#[test]
fn graphs_are_computed_in_settings_of_each_mode() {
    let program = load("cnn");
    let tensors = learning(&program);
    let mut inputs: Vec<&Tensor> = tensors.iter().collect();
    let queries = &values("cnn")["queries"];
    inputs[program.query] = queries;
    let run = |mode| {
        tch::manual_seed(1);
        let settings = Settings { mode, holds_statistics: true, device: Device::Cpu };
        program.file.graph.run(&inputs, settings).unwrap().swap_remove(0).unwrap()
    };
    assert_eq!(run(Mode::Evaluate), run(Mode::Evaluate));
    assert!(run(Mode::Train) != run(Mode::Evaluate), "dropout draws");
}
