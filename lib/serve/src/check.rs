//! Checks of a configuration that need the server: headers, addresses, tensors, files and models.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use parm::codes::{Code, Network, NetworkError};
use parm_config::{Config, ConfigError, Files, Model, code_of, made_for};
use parm_oip::{ModelMetadata, client};

use crate::runtime::membership::{self, Embed, LoadError};
use crate::runtime::{Spec, coders};

/// Checks a configuration: all of [`Config::check`], then headers, addresses and tensors.
///
/// # Errors
/// The first invalid value.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    config.check()?;
    for name in &config.limits.passed_headers.names {
        if let Err(error) = client::may_be_passed_on(name) {
            return Err(ConfigError::value("limits.passed_headers.names", error.to_string()));
        }
    }
    for (index, model) in config.models.iter().enumerate() {
        check_model(model, &format!("models[{index}]"))?;
    }
    Ok(())
}

/// Whether models run inside the server: embedded instances, or the networks of a learned code.
#[must_use]
pub fn needs_libtorch(config: &Config) -> bool {
    config.models.iter().any(|model| {
        let embedded = model.instances.iter().any(|instances| instances.embedded.is_some());
        embedded || code_of(model).is_ok_and(|code| code.iter().flat_map(Code::networks).next().is_some())
    })
}

fn check_model(model: &Model, at: &str) -> Result<(), ConfigError> {
    for (index, instances) in model.instances.iter().enumerate() {
        if let Some(remote) = &instances.remote {
            let wrong =
                |error| ConfigError::value(&format!("{at}.instances[{index}]"), format!("remote: {error}"));
            client::check(remote).map_err(wrong)?;
        }
    }
    let code =
        code_of(model).map_err(|problem| ConfigError::value(&format!("{at}.redundancy.code"), problem))?;
    if let (Some(coded), Some(code)) = (model.redundancy.coded(), &code)
        && has_tensors(model)
        && code.networks().next().is_none()
        && let Ok(spec) = Spec::new(model, &ModelMetadata::default())
    {
        let checked = coders(&spec, coded, model.task, code, &no_network);
        checked.map_err(|problem| ConfigError::value(&format!("{at}.redundancy"), problem))?;
    }
    if model.synthetic_count() > 0 && (!model.inputs.is_empty() || !model.outputs.is_empty()) {
        let spec = Spec::synthetic(model);
        spec.map_err(|problem| ConfigError::value(&format!("{at}.instances"), problem))?;
    }
    Ok(())
}

/// Whether the configuration has the inputs and outputs of a model, which otherwise its instances tell.
fn has_tensors(model: &Model) -> bool {
    !model.inputs.is_empty() && !model.outputs.is_empty()
}

/// [`check_model`] does not load networks; it skips the codes that have some.
fn no_network(_: &Path, _: &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
    Err(NetworkError("it is not loaded here".to_owned()))
}

/// Checks the files: keys, certificates and code directories are read, the files of embedded models and
/// networks are opened. [`check_embedded`] loads those.
///
/// # Errors
/// The first one that cannot be used.
pub fn check_files(config: &Config) -> Result<(), ConfigError> {
    crate::server::check_files(config).map_err(|(field, problem)| ConfigError::value(field, problem))?;
    for (index, model) in config.models.iter().enumerate() {
        for (number, instances) in model.instances.iter().enumerate() {
            if let Some(remote) = &instances.remote {
                // Connecting sends nothing.
                let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
                client::connect(remote, nowhere, config.limits.body_bytes).map_err(|error| {
                    ConfigError::value(
                        &format!("models[{index}].instances[{number}].remote"),
                        error.to_string(),
                    )
                })?;
            }
        }
        if model.synthetic_count() > 0 {
            let at = format!("models[{index}].instances");
            Spec::synthetic(model).map_err(|problem| ConfigError::value(&at, problem))?;
        }
        let at = format!("models[{index}].redundancy.code");
        made_for(model).map_err(|problem| ConfigError::value(&at, problem))?;
        for path in code_of(model).ok().flatten().iter().flat_map(Code::networks) {
            File::open(path).map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        }
    }
    for model in config.models.iter().filter(|model| model.instances.iter().any(|of| of.embedded.is_some())) {
        let Files { deployed, parity, approximate } = &model.files;
        for path in deployed.iter().chain(parity).chain(approximate) {
            File::open(path).map_err(|error| ConfigError::Io { path: path.clone(), error })?;
        }
    }
    Ok(())
}

/// Loads the models of embedded instances and the networks of learned codes on the CPU.
///
/// # Errors
/// The first one that cannot be loaded.
pub fn check_embedded(config: &Config, embed: &dyn Embed) -> Result<(), ConfigError> {
    for (index, model) in config.models.iter().enumerate() {
        let at = format!("models[{index}]");
        let model = &on_cpu(model);
        let code = code_of(model).map_err(|problem| ConfigError::value(&at, problem))?;
        let names = membership::role_names(model, code.as_ref());
        for (number, instances) in model.instances.iter().enumerate() {
            let Some(embedded) = &instances.embedded else { continue };
            let make = || -> Result<(), LoadError> {
                let roles = instances.check(model.placement, names.parity.len())?;
                let files = model.files_of(roles, code.as_ref())?.into_iter();
                let files = files.map(|(role, file)| (names.of_role(role).to_owned(), file)).collect();
                embed.instance(embedded, &files, model, code.as_ref())?;
                Ok(())
            };
            make().map_err(|problem| ConfigError::value(&format!("{at}.instances[{number}]"), problem))?;
        }
        if let (Some(coded), Some(code)) = (model.redundancy.coded(), &code)
            && has_tensors(model)
            && let Ok(spec) = Spec::new(model, &ModelMetadata::default())
        {
            let network = |file: &Path, group: &[usize]| embed.network(file, model, group);
            coders(&spec, coded, model.task, code, &network)
                .map_err(|problem| ConfigError::value(&at, problem))?;
        }
    }
    Ok(())
}

/// The model with its embedded instances on the CPU, which every machine has.
fn on_cpu(model: &Model) -> Model {
    let mut model = model.clone();
    for embedded in model.instances.iter_mut().filter_map(|instances| instances.embedded.as_mut()) {
        "cpu".clone_into(&mut embedded.device);
    }
    model
}
