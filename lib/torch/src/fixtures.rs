//! What PyTorch computed with the models of `testdata/exported`, for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use tch::{Kind, Tensor};

use crate::adam::Adam;
use crate::trainable::{Mode, Trainable};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported")
}

/// The tensors of a file of values.
pub(crate) fn values(name: &str) -> BTreeMap<String, Tensor> {
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

/// The largest difference as a share of the largest value.
pub(crate) fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let [found, expected] = [found, expected].map(|tensor| tensor.to_kind(Kind::Double));
    let largest = expected.abs().max().double_value(&[]).max(1e-30);
    (found - expected).abs().max().double_value(&[]) / largest
}

pub(crate) fn loss(outputs: &Tensor) -> Tensor {
    outputs.square().mean(Kind::Float)
}

/// libtorch's generator of random numbers, which all tests of a process share: whoever draws from it holds this.
pub(crate) fn generator() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ten steps of Adam on these queries, each with libtorch's generator as PyTorch's was.
pub(crate) fn train(model: &dyn Trainable, queries: &Tensor) {
    let _generator = generator();
    let flat = &model.numbers().flat().learned;
    let mut adam = Adam::new(flat).unwrap();
    for step in 0..10 {
        tch::manual_seed(1000 + step);
        let loss = loss(&model.forward(queries, Mode::TRAIN).unwrap());
        let own: Vec<&Tensor> = model.numbers().learned().collect();
        let gradients = Tensor::run_backward(&[&loss], &own, false, false);
        let gradients: Vec<Tensor> = gradients.iter().map(|gradient| gradient.flatten(0, -1)).collect();
        adam.step(flat, &Tensor::cat(&gradients, 0), 1e-3, 0.0).unwrap();
    }
}
