//! The multi-layer perceptron of the papers: linear layers with ReLU between them.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, TchError, Tensor};

use crate::checkpoint::{self, Checkpoint, CheckpointError, Description};

/// The standard deviation of initial weights (the reference implementation's; biases begin at 0).
const INITIAL_DEVIATION: f64 = 0.01;

/// An MLP of any widths. Queries of any shape are flattened.
#[derive(Debug)]
pub struct Mlp {
    description: Description,
    /// All parameters in one tensor, so that the optimiser takes few steps of many elements.
    flat: Tensor,
    /// Views of `flat` with gradients of their own: weight `[to, from]` and bias `[to]` of each layer.
    layers: Vec<(Tensor, Tensor)>,
}

impl Mlp {
    /// A model with initial weights drawn from N(0, 0.01²) and zero biases.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn random(description: Description, seed: [u8; 32], device: Device) -> Result<Self, TchError> {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut values: Vec<f32> = Vec::new();
        for (_, shape) in description.parameters() {
            let elements = shape.iter().product();
            match shape.len() {
                1 => values.resize(values.len() + elements, 0.0),
                _ => values.extend((0..elements).map(|_| (INITIAL_DEVIATION * normal(&mut rng)) as f32)),
            }
        }
        Self::new(description, &Tensor::from_slice(&values), device)
    }

    /// A model of the given parameters, flat and in the order of the description; they are copied.
    pub(crate) fn new(mut description: Description, flat: &Tensor, device: Device) -> Result<Self, TchError> {
        description.training = None;
        let flat = flat.f_to_device(device)?.f_detach_copy()?;
        let mut at = 0;
        let mut views = Vec::new();
        for (_, shape) in description.parameters() {
            let shape: Vec<i64> = shape.iter().map(|&axis| axis as i64).collect();
            let length = shape.iter().product();
            views.push(
                flat.f_narrow(0, at, length)?
                    .f_view(shape.as_slice())?
                    .f_detach()?
                    .f_set_requires_grad(true)?,
            );
            at += length;
        }
        let mut layers = Vec::new();
        let mut views = views.into_iter();
        while let (Some(weight), Some(bias)) = (views.next(), views.next()) {
            layers.push((weight, bias));
        }
        Ok(Self { description, flat, layers })
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`CheckpointError`], by kind.
    pub fn load(path: &Path, device: crate::Device) -> Result<Self, CheckpointError> {
        let mut file = Checkpoint::read(path)?;
        let flat = file.take_parameters()?;
        Self::new(file.description, &flat, device.0).map_err(|error| CheckpointError::Malformed {
            path: path.into(),
            found: format!("parameters that cannot be used ({})", crate::one_line(&error.to_string())),
        })
    }

    /// Writes a model file.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        checkpoint::write(path, &self.description, &self.named())
    }

    /// What the model's file says about it.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The widths of the layers between the first and the last.
    #[must_use]
    pub fn hidden(&self) -> &[usize] {
        let layers = &self.description.layers;
        &layers[1..layers.len() - 1]
    }

    /// The parameters by name.
    pub(crate) fn named(&self) -> Vec<(String, Tensor)> {
        let views = self.parameters().map(Tensor::shallow_clone);
        self.description.parameters().map(|(name, _)| name).zip(views).collect()
    }

    /// The parameters, layer by layer, weight before bias.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|(weight, bias)| [weight, bias])
    }

    /// All parameters in one tensor; a change of it is a change of the model.
    pub(crate) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Outputs `[rows, prediction size]` for queries `[rows, query size]`.
    pub(crate) fn forward(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        let mut rows = queries.shallow_clone();
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            if i > 0 {
                rows = rows.f_relu()?;
            }
            rows = rows.f_linear(weight, Some(bias))?;
        }
        Ok(rows)
    }

    /// Outputs `[rows, …]` in the shapes of the description.
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        let rows = queries.size().first().copied().unwrap_or(0);
        let [first, .., _] = self.description.layers[..] else {
            return Err(TchError::Shape("a model without layers".into()));
        };
        let outputs = self.forward(&queries.f_view([rows, first as i64])?.f_to_kind(Kind::Float)?)?;
        let shape: Vec<i64> = std::iter::once(rows)
            .chain(self.description.prediction_shape.iter().map(|&axis| axis as i64))
            .collect();
        outputs.f_view(shape.as_slice())
    }
}

/// A number from N(0, 1), by Box and Muller's transform.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 - [0, 1) is never 0, whose logarithm does not exist.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
