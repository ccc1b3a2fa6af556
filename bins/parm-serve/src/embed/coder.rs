//! Learned encoders and decoders.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use parm::dtype::Float;
use parm_serving::runtime::Network;
use parm_torch::{Device, Model, Session};

/// A learned encoder or decoder.
pub(super) struct Coder {
    file: PathBuf,
    device: Device,
    /// By the shape of a group.
    sessions: Mutex<HashMap<Vec<usize>, Session>>,
}

impl Coder {
    /// It is loaded for each shape that it is asked to code.
    pub(super) fn new(file: &Path, device: Device) -> Self {
        Self { file: file.to_owned(), device, sessions: Mutex::default() }
    }
}

impl Network for Coder {
    fn run(&self, rows: usize, shape: &[u64], values: &[f32]) -> Result<Vec<f32>, String> {
        let group: Vec<usize> =
            std::iter::once(rows).chain(shape.iter().map(|&axis| axis as usize)).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if !sessions.contains_key(&group) {
            let model = Model::load(&self.file, self.device).map_err(|error| error.to_string())?;
            let session = Session::new(model, self.device, &group).map_err(|error| error.to_string())?;
            sessions.insert(group.clone(), session);
        }
        let session = sessions.get_mut(&group).ok_or("the session is gone")?;
        let mut bytes = Vec::new();
        let layout = session.run(1, values, &mut bytes).map_err(|error| error.to_string())?;
        let mut outputs = vec![0.0; layout.elements()];
        f32::decode(layout.dtype, &bytes, &mut outputs);
        Ok(outputs)
    }
}
