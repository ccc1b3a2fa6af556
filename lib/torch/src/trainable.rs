//! A model that can be trained, whatever its kind.

use std::fmt;
use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use crate::device::Autocast;
use crate::model::{Model, ModelError};
use crate::numbers::Numbers;

/// The precision of training. Weights, gradients and validation are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    Full,
    /// bf16 for linear layers and convolutions.
    Mixed,
}

/// Batch normalisation in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchNorm {
    /// By the batch's own statistics, which also move the running ones.
    #[default]
    Train,
    /// By the running statistics, which stay the same.
    Frozen,
}

/// How a model computes. All modes compute gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Batch normalisation by the running statistics, no dropout, f32.
    Evaluate,
    /// As in training, with dropout.
    Train { precision: Precision, norm: BatchNorm },
}

impl Mode {
    /// Training in f32, with batch normalisation by the batch's own statistics.
    #[cfg(test)]
    pub(crate) const TRAIN: Self = Self::Train { precision: Precision::Full, norm: BatchNorm::Train };

    /// Whether batch normalisation uses the batch's own statistics.
    pub(crate) fn trains_norm(self) -> bool {
        matches!(self, Self::Train { norm: BatchNorm::Train, .. })
    }

    pub(crate) fn is_mixed(self) -> bool {
        matches!(self, Self::Train { precision: Precision::Mixed, .. })
    }
}

/// A model that can be trained.
pub(crate) trait Trainable: fmt::Debug + Send {
    /// Its numbers; changing them changes the model.
    fn numbers(&self) -> &Numbers;

    /// The same model with other numbers, on their device. Their entries are those of this model, but for
    /// parameters that are held.
    ///
    /// # Errors
    /// libtorch's.
    fn with(&self, numbers: Numbers) -> Result<Box<dyn Trainable>, TchError>;

    /// Outputs `[rows, …]` for f32 queries `[rows, …]`, with gradient.
    ///
    /// # Errors
    /// libtorch's.
    fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError>;

    /// Writes its file, by way of a temporary file beside it.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    fn save(&self, path: &Path) -> Result<(), ModelError>;

    /// The extension of its file.
    fn extension(&self) -> &'static str;

    /// Whether libtorch's random numbers are drawn in training, as by dropout.
    fn is_random(&self) -> bool {
        false
    }

    /// Whether it computes mixed precision by itself; otherwise libtorch's autocast does.
    fn is_mixing(&self) -> bool {
        false
    }

    /// The model, for its user.
    fn into_model(self: Box<Self>) -> Model;
}

impl dyn Trainable + '_ {
    /// A copy on this device.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn copy(&self, device: Device) -> Result<Box<dyn Trainable>, TchError> {
        self.with(self.numbers().copy(device)?)
    }

    /// Outputs in f32 for f32 queries `[rows, …]`, with gradient.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn answer(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let casts = mode.is_mixed() && !self.is_mixing();
        let _autocast = casts.then(|| Autocast::new(self.numbers().device()));
        self.forward(queries, mode)?.f_to_kind(Kind::Float)
    }
}
