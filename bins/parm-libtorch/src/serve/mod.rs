//! `parm-serve` with models inside it. Each instance has a thread of its own, and on a GPU a stream of its own.

mod coder;
mod instance;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use coder::{Coder, failed};
use instance::{EmbeddedInstance, Loaded, Models};
use parm::DeviceChoice;
use parm::codes::{Code, Network, NetworkError};
use parm_cli::tools::serve::Serve;
use parm_cli::{Exit, Io};
use parm_config::{Embedded, Model as ModelConfig};
use parm_oip::instance::Instance;
use parm_serving::Embed;
use parm_torch::device::{Device, Settings};
use parm_torch::{Choices, Encoder, Model, Session, Tuning, device};

/// Runs the tool.
///
/// # Errors
/// As [`parm_serve::run`], and models that cannot be loaded.
pub fn run(options: &Serve, io: &mut Io) -> anyhow::Result<Exit> {
    device::keep_memory(thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let config = parm_serve::read(options)?;
    parm_serve::run(options, config, Some(Arc::new(Libtorch::new(options.threads))), io)
}

/// Makes embedded instances and networks with libtorch.
pub(crate) struct Libtorch {
    threads: Option<u32>,
}

impl Libtorch {
    /// With this number of threads for one operation; none: libtorch's default.
    pub(crate) fn new(threads: Option<u32>) -> Self {
        Self { threads }
    }

    fn device(&self, name: &str) -> Result<Device, NetworkError> {
        let choice: DeviceChoice = name.parse().map_err(|error| failed(format!("device {name}: {error}")))?;
        let settings = Settings { device: choice, threads: self.threads, tf32: false };
        let chosen = device::prepare(settings).map_err(failed)?;
        if let Some(note) = chosen.note {
            tracing::warn!(note, "the device");
        }
        Ok(chosen.device)
    }
}

impl Embed for Libtorch {
    fn instance(
        &self,
        embedded: &Embedded,
        files: &BTreeMap<String, PathBuf>,
        model: &ModelConfig,
        code: Option<&Code>,
    ) -> Result<Arc<dyn Instance>, NetworkError> {
        let device = self.device(&embedded.device)?;
        let (input, output) = (model.inputs.first(), model.outputs.first());
        if model.inputs.len() > 1 || model.outputs.len() > 1 {
            return Err(failed("embedded models have one input and one output"));
        }
        let configured: Option<Vec<usize>> = input
            .map(|spec| spec.shape.iter().map(|&axis| usize::try_from(axis)).collect::<Result<_, _>>())
            .transpose()
            .map_err(|_| failed("embedded models need fixed shapes"))?;
        parm_config::made_for(model).map_err(failed)?;
        let file = code.and_then(Code::trained).map(|trained| &trained.file);
        let choices = Choices {
            input: file.and_then(|file| file.input_name.clone()),
            output: file.and_then(|file| file.output_name.clone()),
            ..Choices::default()
        };
        let code = code.filter(|_| embedded.encode.unwrap_or_else(|| device.is_gpu()));
        let (loaded, encoder) = device::apart(|| load(files, device, &choices, configured.as_deref(), code))?;
        let names = [
            input.map_or("input", |spec| &spec.name).to_owned(),
            output.map_or("output", |spec| &spec.name).to_owned(),
        ];
        let models = Models { device, loaded, encoder, output: names[1].clone() };
        Ok(Arc::new(EmbeddedInstance::start(models, names)?))
    }

    fn network(
        &self,
        file: &Path,
        model: &ModelConfig,
        group: &[usize],
    ) -> Result<Arc<dyn Network>, NetworkError> {
        let embedded = model.instances.iter().find_map(|instances| instances.embedded.as_ref());
        let device = self.device(embedded.map_or("cpu", |embedded| &embedded.device))?;
        Ok(Arc::new(Coder::load(file, device, group)?))
    }
}

/// The models in these files by name, and the encoder of the code. All of them answer queries of one shape: the
/// configured one, or what the first file says.
fn load(
    files: &BTreeMap<String, PathBuf>,
    device: Device,
    choices: &Choices,
    configured: Option<&[usize]>,
    code: Option<&Code>,
) -> Result<(HashMap<String, Loaded>, Option<Encoder>), NetworkError> {
    let mut models = HashMap::new();
    let mut encoder = None;
    for (name, file) in files {
        let loaded = Model::load_part(file, device, choices).map_err(failed)?;
        if let Some(warning) = loaded.warning() {
            tracing::warn!(file = %file.display(), "{warning}; parm-train export has that option");
        }
        let shape = configured.or(loaded.query_shape()).map(<[usize]>::to_vec);
        let shape = shape.ok_or_else(|| {
            failed(format!(
                "{} does not have the shape of a query, expected inputs in the configuration",
                file.display()
            ))
        })?;
        // All models of a model have queries of the same shape.
        if let (Some(code), None) = (code, &encoder) {
            let load = |file: &Path| Model::load(file, device);
            let made = Encoder::new(code, &shape, device, load);
            encoder = Some(made.map_err(failed)?);
        }
        let wrong = |error: &dyn std::error::Error| failed(format!("{}: {error}", file.display()));
        let session = Session::new(loaded, device, &shape).map_err(|error| wrong(&error))?;
        let session = session.tuned(Tuning::default());
        // This also makes the first run, which is slow.
        let layout = session.output().map_err(|error| wrong(&error))?.clone();
        models.insert(
            name.clone(),
            Loaded { session, shape, outputs: layout.shape.clone(), dtype: layout.dtype },
        );
    }
    Ok((models, encoder))
}

#[cfg(test)]
mod tests;
