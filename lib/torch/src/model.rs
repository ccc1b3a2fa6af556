//! A model of either kind: native, or TorchScript.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tch::{CModule, TchError, Tensor};

use crate::checkpoint::CheckpointError;
use crate::device::Device;
use crate::network::{Mode, Network};

/// A model that answers queries.
#[derive(Debug)]
pub enum Model {
    /// One of this project's own architectures.
    Native(Box<Network>),
    /// A program that PyTorch exported, with its weights.
    Script(Script),
}

/// A loaded TorchScript module.
#[derive(Debug)]
pub struct Script(CModule);

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file that cannot be read, or that is no native model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file that begins as TorchScript does, but is none that libtorch can load.
    #[error("{}: found TorchScript that cannot be loaded ({message})", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// libtorch's reason.
        message: String,
    },
}

impl Model {
    /// Loads a model; the first bytes tell the kind: `PK` is TorchScript, a zip archive.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        let io = |error| CheckpointError::Io { path: path.into(), error };
        let mut magic = Vec::new();
        File::open(path).and_then(|file| file.take(2).read_to_end(&mut magic)).map_err(io)?;
        if magic == b"PK" {
            return Self::script(path, device).map_err(|error| ModelError::Script {
                path: path.into(),
                message: crate::one_line(&error.to_string()),
            });
        }
        Ok(Self::Native(Box::new(Network::load(path, device)?)))
    }

    fn script(path: &Path, device: Device) -> Result<Self, TchError> {
        let mut module = CModule::load_on_device(path, device.0)?;
        // Without it a module saved while training would drop activations.
        module.f_set_eval()?;
        Ok(Self::Script(Script(module)))
    }

    /// The shape of a query, if the model says it.
    #[must_use]
    pub fn query_shape(&self) -> Option<&[usize]> {
        match self {
            Self::Native(network) => network.description().query_shape.as_deref(),
            Self::Script(_) => None,
        }
    }

    /// Outputs for f4 queries `[rows, …]`; the gradient is followed.
    pub(crate) fn forward(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Native(network) => network.forward(queries, Mode::Evaluate),
            Self::Script(module) => module.0.forward_ts(&[queries]),
        }
    }

    /// Outputs for queries `[rows, …]`.
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Native(network) => network.predict(queries),
            Self::Script(module) => tch::no_grad(|| module.0.forward_ts(&[queries])),
        }
    }
}
