//! Learned encoders and decoders.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use parm::codes::{Network, NetworkError};
use parm::dtype::Float;
use parm_torch::device::apart;
use parm_torch::{Device, Model, Session};

/// A network that cannot be loaded, for this reason.
pub(super) fn failed(error: impl Display) -> NetworkError {
    NetworkError(error.to_string())
}

/// A learned encoder or decoder.
pub(super) struct Coder(Mutex<Session>);

impl Coder {
    /// Loads the network for groups of this shape, and runs it once, since the first run is slow and shows
    /// whether it works.
    pub(super) fn load(file: &Path, device: Device, group: &[usize]) -> Result<Self, NetworkError> {
        let wrong = |error: &dyn Error| failed(format!("{}: {error}", file.display()));
        apart(|| {
            let model = Model::load(file, device).map_err(failed)?;
            let session = Session::new(model, device, group).map_err(|error| wrong(&error))?;
            session.output().map_err(|error| wrong(&error))?;
            Ok(Self(Mutex::new(session)))
        })
    }
}

impl Network for Coder {
    fn run(&self, groups: usize, values: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let session = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        let layout = session.run(groups, values, &mut bytes).map_err(failed)?;
        let mut outputs = vec![0.0; groups * layout.elements()];
        f32::decode(layout.dtype, &bytes, &mut outputs);
        Ok(outputs)
    }
}
