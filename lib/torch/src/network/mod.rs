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
pub use description::{Description, Family, ShapeError};
pub use export::ExportError;
pub(crate) use layer::{Mode, Weights};

use checkpoint::Checkpoint;
use layer::{Initial, Layer, Needed, Needs, Supply, apply, reshape};

/// The standard deviation of initial linear weights: the reference implementation's.
const INITIAL_DEVIATION: f64 = 0.01;

/// A network of any architecture.
#[derive(Debug)]
pub struct Network {
    description: Description,
    layers: Vec<Layer>,
    needs: Needs,
    /// All parameters in one tensor, so that the optimiser needs few operations.
    weights: Weights,
    /// Views of the parameters, with gradients of their own.
    parameters: Vec<Tensor>,
    /// Views of the buffers.
    buffers: Vec<Tensor>,
    /// True if neither its file nor the caller names the activation, which is then ReLU.
    assumes_relu: bool,
}

impl Network {
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
        let weights = Weights { parameters: fill(&needs.parameters)?, buffers: fill(&needs.buffers)? };
        Self::new(description, &weights, device)
    }

    /// A network with these numbers, which are copied.
    ///
    /// # Errors
    /// libtorch's, if there are fewer than the layers need.
    pub(crate) fn new(
        mut description: Description,
        weights: &Weights,
        device: Device,
    ) -> Result<Self, TchError> {
        description.training = None;
        let layers = description.layers();
        let needs = Needs::of(&layers);
        let weights = weights.copy(device)?;
        let parameters = views(&weights.parameters, &needs.parameters, true)?;
        let buffers = views(&weights.buffers, &needs.buffers, false)?;
        Ok(Self { description, layers, needs, weights, parameters, buffers, assumes_relu: false })
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
        let weights = file.take_weights()?;
        let network =
            Self::new(file.description, &weights, device.0).map_err(|error| CheckpointError::Malformed {
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
        checkpoint::write(path, &self.description, &self.named())
    }

    /// The model's description.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Parameters and buffers by name.
    pub(crate) fn named(&self) -> Vec<(String, Tensor)> {
        let views = self.parameters.iter().chain(&self.buffers).map(Tensor::shallow_clone);
        self.needs.all().map(|needed| needed.name.clone()).zip(views).collect()
    }

    /// The parameters, layer by layer, as views with gradients.
    pub(crate) fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// All numbers of the network; changing them changes the network.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
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
        self.compute(&self.parameters, &self.buffers, queries, mode)
    }

    /// Predictions for queries of any type, without a gradient.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        tch::no_grad(|| self.forward(&queries.f_to_kind(Kind::Float)?, Mode::Evaluate))
    }

    fn compute(
        &self,
        parameters: &[Tensor],
        buffers: &[Tensor],
        queries: &Tensor,
        mode: Mode,
    ) -> Result<Tensor, TchError> {
        let mut supply = Supply::new(parameters, buffers);
        let outputs = if mode == Mode::TrainMixed {
            let queries = queries.f_to_kind(Kind::BFloat16)?;
            apply(&self.layers, &queries, &mut supply, mode)?.f_to_kind(Kind::Float)?
        } else {
            apply(&self.layers, queries, &mut supply, mode)?
        };
        reshape(outputs, &self.description.prediction_shape)
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

/// Views of a flat tensor in the shapes of its parts.
fn views(flat: &Tensor, needed: &[Needed], gradient: bool) -> Result<Vec<Tensor>, TchError> {
    let mut at = 0;
    let mut views = Vec::with_capacity(needed.len());
    for Needed { shape, .. } in needed {
        let shape: Vec<i64> = shape.iter().map(|&axis| axis as i64).collect();
        let length = shape.iter().product();
        let view = flat.f_narrow(0, at, length)?.f_view(&*shape)?.f_detach()?;
        views.push(view.f_set_requires_grad(gradient)?);
        at += length;
    }
    Ok(views)
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
