//! Native networks: the architectures of the papers, their tensors and their computations.

mod architecture;
pub(crate) mod checkpoint;
mod description;
mod export;
mod layer;
mod state_dict;
mod widen;

use std::path::Path;

use parm::Activation;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, TchError, Tensor};

pub(crate) use architecture::{Architecture, image};
pub use checkpoint::CheckpointError;
pub use description::{Description, Family, Output, ShapeError};
pub use export::ExportError;

use checkpoint::Checkpoint;
use layer::{Initial, Layer, Needed, Needs, Supply, apply, reshape};

use crate::model::{Model, ModelError};
use crate::numbers::{Flat, Numbers};
use crate::trainable::{Mode, Trainable};

/// The standard deviation of initial linear weights: the reference implementation's.
const INITIAL_DEVIATION: f64 = 0.01;

/// A network of any architecture.
#[derive(Debug)]
pub struct Network {
    description: Description,
    layers: Vec<Layer>,
    needs: Needs,
    /// The parameters, then the buffers.
    numbers: Numbers,
    /// True if neither its file nor the caller names the activation, which is then ReLU.
    assumes_relu: bool,
}

impl Network {
    /// A network with random initial weights from this seed.
    ///
    /// # Errors
    /// libtorch's.
    pub fn initial(description: Description, seed: u64, device: crate::Device) -> Result<Self, TchError> {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self::random(description, key, device.0)
    }

    /// A network with the initial weights of the reference implementation: Xavier's for convolutions,
    /// N(0, 0.01²) for linear weights, 0 for biases, 1 and 0 for batch normalisation. The weights of learned
    /// coders have a deviation that depends on the layer.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn random(description: Description, seed: [u8; 32], device: Device) -> Result<Self, TchError> {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let needs = Needs::of(&description.layers());
        let spread = description.architecture.spread();
        let mut fill = |needed: &[Needed]| {
            let flat = Tensor::f_zeros([total(needed)?], (Kind::Float, Device::Cpu))?;
            let mut at = 0;
            for Needed { shape, initial, .. } in needed {
                let elements: usize = shape.iter().product();
                let view = flat.f_narrow(0, at, elements as i64)?;
                let inputs = shape.get(1).map_or(1.0, |&inputs| inputs as f64);
                let deviation = spread.map_or(INITIAL_DEVIATION, |spread| spread / inputs.sqrt());
                fill(view, *initial, deviation, &mut rng)?;
                at += elements as i64;
            }
            Ok::<_, TchError>(flat)
        };
        let flat = Flat {
            learned: fill(&needs.parameters)?,
            fixed: fill(&needs.buffers)?,
            integers: Tensor::f_zeros([0], (Kind::Int64, Device::Cpu))?,
        };
        Self::new(description, &flat, device)
    }

    /// A network with these numbers, which are copied.
    ///
    /// # Errors
    /// libtorch's, if there are fewer than the layers need.
    pub(crate) fn new(description: Description, flat: &Flat, device: Device) -> Result<Self, TchError> {
        let entries = Needs::of(&description.layers()).entries();
        Ok(Self::of(description, Numbers::new(entries.into(), flat, device)?))
    }

    /// A network of this description with the weights of one like it, which are copied.
    ///
    /// # Errors
    /// libtorch's, if it is not like it.
    pub(crate) fn like(&self, description: Description, device: Device) -> Result<Self, TchError> {
        let entries = Needs::of(&description.layers()).entries();
        Ok(Self::of(description, Numbers::of(entries, self.numbers.views(), device)?))
    }

    fn of(mut description: Description, numbers: Numbers) -> Self {
        description.training = None;
        let layers = description.layers();
        let needs = Needs::of(&layers);
        Self { description, layers, needs, numbers, assumes_relu: false }
    }

    /// Reads a model file of this project, or a state dict. `activation` is that of an MLP whose file does
    /// not name it.
    ///
    /// # Errors
    /// [`CheckpointError`], by kind.
    pub fn load(
        path: &Path,
        device: crate::Device,
        activation: Option<Activation>,
    ) -> Result<Self, CheckpointError> {
        let mut file = Checkpoint::read(path, activation)?;
        let flat = file.take_weights()?;
        let network =
            Self::new(file.description, &flat, device.0).map_err(|error| CheckpointError::Malformed {
                path: path.into(),
                found: format!("parameters that cannot be used ({})", crate::one_line(&error.to_string())),
            })?;
        Ok(Self { assumes_relu: file.assumes_relu, ..network })
    }

    /// True if its activation is assumed to be ReLU, since neither its file nor the caller names it.
    pub(crate) fn assumes_relu(&self) -> bool {
        self.assumes_relu
    }

    /// Writes a model file.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        checkpoint::write(path, &self.description, &self.numbers.named())
    }

    /// The multiplications for one query, if it has linear layers alone.
    pub(crate) fn multiplications(&self) -> Option<usize> {
        self.layers.iter().map(Layer::multiplications).sum()
    }

    /// The model's description.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Whether its numbers fit a network of this description.
    #[must_use]
    pub fn is_like(&self, description: &Description) -> bool {
        self.needs == Needs::of(&description.layers())
    }

    /// Predictions `[rows, …]` for f4 queries `[rows, …]`, in the shapes of the description and with
    /// gradient. Queries may also be flat, `[rows, elements]`, if their shape is known.
    ///
    /// # Errors
    /// libtorch's, if the queries have another shape.
    pub(crate) fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        self.compute(self.numbers.views(), queries, mode)
    }

    /// Predictions for queries of any type, without a gradient.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        tch::no_grad(|| self.forward(&queries.f_to_kind(Kind::Float)?, Mode::Evaluate))
    }

    /// Predictions with these tensors, the parameters and then the buffers.
    fn compute(&self, tensors: &[Tensor], queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let (parameters, buffers) = tensors.split_at(self.needs.parameters.len().min(tensors.len()));
        let mut supply = Supply::new(parameters, buffers);
        let outputs = if mode.is_mixed() {
            let queries = queries.f_to_kind(Kind::BFloat16)?;
            apply(&self.layers, &queries, &mut supply, mode)?.f_to_kind(Kind::Float)?
        } else {
            apply(&self.layers, queries, &mut supply, mode)?
        };
        reshape(outputs, &self.description.prediction_shape)
    }
}

impl Trainable for Network {
    fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn with(&self, numbers: Numbers) -> Result<Box<dyn Trainable>, TchError> {
        Ok(Box::new(Self::of(self.description.clone(), numbers)))
    }

    fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        self.forward(queries, mode)
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        Ok(self.save(path)?)
    }

    fn extension(&self) -> &'static str {
        "safetensors"
    }

    fn is_mixing(&self) -> bool {
        true
    }

    fn into_model(self: Box<Self>) -> Model {
        Model::Native(self)
    }
}

#[cfg(test)]
mod tests;

/// The number of elements of all tensors.
fn total(needed: &[Needed]) -> Result<i64, TchError> {
    let elements = |needed: &Needed| {
        needed.shape.iter().try_fold(1_i64, |product, &axis| product.checked_mul(i64::try_from(axis).ok()?))
    };
    let total = needed.iter().try_fold(0_i64, |sum, needed| sum.checked_add(elements(needed)?));
    total.ok_or_else(|| TchError::Shape("more parameters than can be counted".into()))
}

fn fill(mut view: Tensor, initial: Initial, deviation: f64, rng: &mut ChaCha8Rng) -> Result<(), TchError> {
    let mut draw = |number: &mut dyn FnMut(&mut ChaCha8Rng) -> f64| {
        let values: Vec<f32> = (0..view.numel()).map(|_| number(rng) as f32).collect();
        view.f_copy_(&Tensor::from_slice(&values))
    };
    match initial {
        Initial::Constant(value) => view.f_fill_(f64::from(value)).map(drop),
        Initial::Normal => draw(&mut |rng| deviation * normal(rng)),
        Initial::Xavier(meets) => {
            let bound = (12.0 / meets as f64).sqrt();
            draw(&mut |rng| bound * (2.0 * rng.random::<f64>() - 1.0))
        }
    }
}

/// A number from N(0, 1), by the Box–Muller transform.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 - [0, 1) is never 0, which has no logarithm.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
