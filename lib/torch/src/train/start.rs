//! What the models of a training begin as.

use tch::Tensor;

use super::TrainError;
use super::rows::{bytes_of, hash_all};
use super::state::Learner;
use crate::device::Device;
use crate::model::{Model, NotTrainable};
use crate::network::{Description, Network};
use crate::numbers::{Gathered, HoldError, Part};
use crate::trainable::Trainable;

/// A model of a training.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// What it begins as.
    pub begin: Begin<'a>,
    /// The parameters that are held: patterns of their names, in which `*` stands for any text.
    pub held: Vec<String>,
    /// True if it is trained; otherwise its weights stay the same.
    pub learns: bool,
}

/// What a model begins as.
#[derive(Clone, Debug)]
pub enum Begin<'a> {
    /// A native network of this description.
    Native {
        /// Its layers and shapes.
        description: Description,
        /// A network with the same layers whose weights it takes; none: random ones.
        weights: Option<&'a Network>,
    },
    /// A copy of a model, of any kind that can be trained.
    Copy(&'a Model),
}

/// What a model is made of, for the default recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Linear layers alone.
    Linear,
    /// Also others, such as convolutions, normalisation or attention, with up to a million parameters.
    Small,
    /// As `Small`, with more parameters.
    Large,
}

/// The most parameters of a small model.
const SMALL: usize = 1_000_000;

impl Begin<'_> {
    /// What the model computes, for the settings of a training.
    pub(super) fn record(&self) -> Result<String, NotTrainable> {
        match self {
            Self::Native { description, .. } => Ok(description.architecture.record()),
            Self::Copy(model) => Ok(model.record()?),
        }
    }

    fn layers(&self) -> Result<Layers, NotTrainable> {
        let (is_linear, parameters) = match self {
            Self::Native { description, .. } => (description.is_linear(), description.parameters()),
            Self::Copy(model) => {
                model.check_trainable()?;
                let own = model.gathered();
                (own.is_linear(), own.of_part(Part::Learned).map(Tensor::numel).sum())
            }
        };
        Ok(match (is_linear, parameters) {
            (true, _) => Layers::Linear,
            (false, ..=SMALL) => Layers::Small,
            (false, _) => Layers::Large,
        })
    }

    fn has_norm(&self) -> bool {
        match self {
            Self::Native { description, .. } => description.has_norm(),
            Self::Copy(model) => model.gathered().has_norm(),
        }
    }

    /// The hash of the numbers that it begins with.
    pub(super) fn hash(&self) -> String {
        match self {
            Self::Native { weights: None, .. } => "random".into(),
            Self::Native { weights: Some(network), .. } => hash_of(&Gathered::of(network.numbers())),
            Self::Copy(model) => hash_of(&model.gathered()),
        }
    }

    fn model(&self, key: [u8; 32], device: Device) -> Result<Box<dyn Trainable>, TrainError> {
        match self {
            Self::Native { description, weights: None } => {
                Ok(Box::new(Network::random(description.clone(), key, device.0)?))
            }
            Self::Native { description, weights: Some(network) } if network.is_like(description) => {
                Ok(Box::new(network.like(description.clone(), device.0)?))
            }
            Self::Native { description, weights: Some(network) } => {
                let [found, expected] =
                    [network.description(), description].map(|found| found.architecture.to_string());
                Err(TrainError::Initial { found, expected })
            }
            Self::Copy(model) => {
                let copy = model.trainable()?;
                let is_there = copy.numbers().device() == device.0;
                Ok(if is_there { copy } else { copy.copy(device.0)? })
            }
        }
    }
}

impl<'a> Start<'a> {
    pub(super) fn learner(self, name: &str, alone: bool) -> Learner<'a> {
        let learns = self.learns;
        let begin = Box::new(move |key, device| self.model(key, device));
        Learner { name: name.into(), alone, begin, learns }
    }

    /// The model on a device, with random weights from `key` if it has none of its own.
    fn model(&self, key: [u8; 32], device: Device) -> Result<Box<dyn Trainable>, TrainError> {
        let model = self.begin.model(key, device)?;
        if self.held.is_empty() {
            return Ok(model);
        }
        let held = model.numbers().hold(&self.held).map_err(|error| match error {
            HoldError::Torch(error) => TrainError::Torch(error),
            error => TrainError::Hold(error),
        })?;
        Ok(model.with(held)?)
    }

    /// What the model is made of.
    ///
    /// # Errors
    /// A model that cannot be trained.
    pub fn layers(&self) -> Result<Layers, NotTrainable> {
        self.begin.layers()
    }

    /// Whether the model has batch normalisation with running statistics.
    #[must_use]
    pub fn has_norm(&self) -> bool {
        self.begin.has_norm()
    }

    /// A text for the settings of a training.
    pub(super) fn record(&self) -> Result<String, NotTrainable> {
        let held =
            if self.held.is_empty() { String::new() } else { format!(", {} held", self.held.join(" ")) };
        let stays = if self.learns { "" } else { ", which stays" };
        Ok(format!("{} from {}{held}{stays}", self.begin.record()?, self.begin.hash()))
    }
}

/// The hash of flat tensors of these numbers, one after the other.
fn hash_of(gathered: &Gathered) -> String {
    let parts = [Part::Learned, Part::Fixed, Part::Integers];
    hash_all(parts.into_iter().flat_map(|part| gathered.of_part(part)).map(bytes_of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::folder;

    /// Checkpoints have this hash.
    #[test]
    fn the_hash_of_a_start_is_that_of_the_numbers_of_its_copy() {
        // Tied weights, a transposed one, and counters of batches.
        for name in ["tied.pt2", "cnn-train.pt2", "cnn.pt"] {
            let model = Model::load(&folder().join(name), Device::CPU).unwrap();
            let copy = model.trainable().unwrap();
            let flat = copy.numbers().flat().named().map(|(_, tensor)| bytes_of(tensor));
            assert_eq!(Begin::Copy(&model).hash(), hash_all(flat), "{name}");
        }
    }
}
