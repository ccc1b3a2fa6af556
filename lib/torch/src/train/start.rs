//! What the models of a training begin as.

use super::TrainError;
use super::rows::{bytes_of, hash};
use super::state::Learner;
use crate::device::Device;
use crate::model::{Model, NotTrainable};
use crate::network::{Description, Network};
use crate::numbers::{Flat, HoldError};
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
            Self::Copy(model) => Ok(model.trainable()?.record()),
        }
    }

    fn layers(&self) -> Result<Layers, NotTrainable> {
        let (is_linear, parameters) = match self {
            Self::Native { description, .. } => (description.is_linear(), description.parameters()),
            Self::Copy(model) => {
                let model = model.trainable()?;
                let numbers = model.numbers();
                (numbers.is_linear(), numbers.flat().learned.numel())
            }
        };
        Ok(match (is_linear, parameters) {
            (true, _) => Layers::Linear,
            (false, ..=SMALL) => Layers::Small,
            (false, _) => Layers::Large,
        })
    }

    /// The hash of the numbers that it begins with.
    pub(super) fn hash(&self) -> Result<String, NotTrainable> {
        match self {
            Self::Native { weights: None, .. } => Ok("random".into()),
            Self::Native { weights: Some(network), .. } => Ok(hash_flat(network.numbers().flat())),
            Self::Copy(model) => Ok(hash_flat(model.trainable()?.numbers().flat())),
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
            Self::Copy(model) => Ok(model.trainable()?.copy(device.0)?),
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

    /// A text for the settings of a training.
    pub(super) fn record(&self) -> Result<String, NotTrainable> {
        let held =
            if self.held.is_empty() { String::new() } else { format!(", {} held", self.held.join(" ")) };
        let stays = if self.learns { "" } else { ", which stays" };
        Ok(format!("{} from {}{held}{stays}", self.begin.record()?, self.begin.hash()?))
    }
}

fn hash_flat(flat: &Flat) -> String {
    let bytes = flat.named().map(|(_, tensor)| bytes_of(tensor));
    hash(&bytes.each_ref().map(Vec::as_slice))
}
