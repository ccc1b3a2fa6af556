//! State dicts that PyTorch would save, against the outputs that PyTorch computes with them: see
//! testdata/models/state_dicts.py, whose formula makes weights and queries here as well.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use parm_testkit::safetensors;
use parm_torch::device::Settings;
use parm_torch::{Device, Model, Session};
use serde::Deserialize;

/// A network with its outputs.
#[derive(Deserialize)]
struct Known {
    /// The network from which all other tensors are taken.
    alike: Option<String>,
    queries: Vec<usize>,
    outputs: Vec<Vec<f32>>,
    tensors: BTreeMap<String, Vec<usize>>,
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name)
}

/// Numbers within ±0.5, from the name and index.
fn numbers(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let key =
        name.bytes().fold(0x811C_9DC5_u32, |key, byte| (key ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..count as u32).map(move |place| {
        let mut x = key.wrapping_add(place.wrapping_mul(0x9E37_79B9));
        for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        f64::from(x ^ (x >> 16)) / 4_294_967_296.0 - 0.5
    })
}

fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let spread = (12.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
    let (base, factor) = match (name.rsplit('.').next(), shape.len()) {
        (Some("running_var"), _) => (1.0, 0.5),
        (_, 2..) => (0.0, spread),
        (Some("weight"), _) => (1.0, 0.2),
        _ => (0.0, 0.2),
    };
    numbers(name, shape.iter().product()).map(|x| (base + factor * x) as f32).collect()
}

/// Writes the state dict of these tensors.
fn write(path: &Path, tensors: &BTreeMap<String, Vec<usize>>) {
    let values: Vec<Vec<f32>> = tensors.iter().map(|(name, shape)| values(name, shape)).collect();
    let tensors: Vec<(&str, &[usize], &[f32])> = tensors
        .iter()
        .zip(&values)
        .map(|((name, shape), values)| (name.as_str(), shape.as_slice(), values.as_slice()))
        .collect();
    fs::write(path, safetensors::file("\"format\":\"pt\"", &tensors)).unwrap();
}

fn answers(path: &Path, queries: &[usize]) -> Vec<f32> {
    let model = Model::load(path, Device::CPU).unwrap();
    let (rows, shape) = (queries[0], &queries[1..]);
    let session = Session::new(model, Device::CPU, shape).unwrap();
    let queries: Vec<f32> = numbers("queries", queries.iter().product()).map(|x| (2.0 * x) as f32).collect();
    let mut outputs = Vec::new();
    session.run(rows, &queries, &mut outputs).unwrap();
    outputs.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn state_dicts_give_the_outputs_of_pytorch() {
    let text = fs::read_to_string(testdata("state_dicts.json")).unwrap();
    let known: BTreeMap<String, Known> = serde_json::from_str(&text).unwrap();
    assert_eq!(known.len(), 8);
    // On a busy machine several threads are slower than one.
    let one_thread = Settings { device: parm::DeviceChoice::Cpu, threads: Some(1), tf32: false };
    parm_torch::device::prepare(one_thread).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for (name, Known { alike, queries, outputs, tensors }) in &known {
        let mut all = alike.as_ref().map_or_else(BTreeMap::new, |name| known[name].tensors.clone());
        all.extend(tensors.clone());
        write(&path, &all);
        let answers = answers(&path, queries);
        for (row, expected) in outputs.iter().enumerate() {
            let answer = &answers[row * (answers.len() / queries[0])..][..expected.len()];
            let scale = expected.iter().fold(0_f32, |scale, x| scale.max(x.abs()));
            for (found, expected) in answer.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-4 * scale, "{name}, row {row}: {found} {expected}");
            }
        }
    }
}

#[test]
fn a_file_that_python_saved_is_the_formula() {
    let saved = fs::read(testdata("mlp.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    let mut tensors = BTreeMap::new();
    for (layer, ends) in [(1, [6, 5]), (3, [5, 4]), (5, [4, 3])] {
        tensors.insert(format!("module.classifier.{layer}.weight"), vec![ends[1], ends[0]]);
        tensors.insert(format!("module.classifier.{layer}.bias"), vec![ends[1]]);
    }
    write(&path, &tensors);
    assert_ne!(saved, fs::read(&path).unwrap(), "the files differ in layout");
    let queries = [4, 2, 3];
    assert_eq!(answers(&testdata("mlp.safetensors"), &queries), answers(&path, &queries));
}
