//! Exports models as TorchScript, alone or in a model repository of Triton.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use parm_cli::options::Common;
use parm_cli::output::{Compression, Target};
use parm_cli::tools::train::{Backend, Export};
use parm_cli::{Io, Usage};
use parm_torch::{Choices, Device, Model, Network};

/// The name of a model's input in Triton's PyTorch backend.
const INPUT: &str = "INPUT__0";
const OUTPUT: &str = "OUTPUT__0";

/// The model of Triton's Python backend, which runs the TorchScript file beside it.
const PYTHON: &str = include_str!("model.py");

pub(crate) fn run(options: &Export, common: &Common, io: &mut Io) -> Result<()> {
    let choices = Choices { activation: options.activation, output: None };
    let model = Model::load_as(&options.model, Device::CPU, &choices)?;
    if let Some(warning) = model.warning() {
        common.warn(io, &format!("{}: {warning}", options.model.display()));
    }
    let network = match model {
        Model::Native(network) => network,
        Model::Script(_) => bail!(
            "{}: found TorchScript, expected safetensors: it is exported already",
            options.model.display()
        ),
    };
    let mut export = |target: &Target| {
        let program = network.program(options.query_shape.as_deref());
        let (bytes, shape) = program.with_context(|| options.model.display().to_string())?;
        let mut output = target.create(io, Compression::ByName(3))?;
        output.write_all(&bytes)?;
        output.commit()?;
        anyhow::Ok(shape)
    };
    let written = match (&options.output, &options.triton) {
        (Some(target), _) => {
            export(target)?;
            target.to_string()
        }
        (None, Some(repository)) => triton(options, repository, &network, export)?.display().to_string(),
        (None, None) => return Err(Usage::error("found no output, expected -o or --triton")),
    };
    common.count(io, &format!("{written}: written"));
    Ok(())
}

/// Writes a model into a repository; `config.pbtxt`, which completes it, is written last.
fn triton(
    options: &Export,
    repository: &Path,
    network: &Network,
    export: impl FnOnce(&Target) -> Result<Vec<usize>>,
) -> Result<PathBuf> {
    let of_file = || options.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = options.name.clone().unwrap_or_else(of_file);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.starts_with('.') || name.is_empty() || !name.chars().all(plain) {
        return Err(Usage::error(format!(
            "--name: found '{name}', expected letters, digits and _-., and no dot at the beginning"
        )));
    }
    let folder = repository.join(&name);
    let version = folder.join("1");
    fs::create_dir_all(&version).with_context(|| version.display().to_string())?;
    let query_shape = export(&Target::Path(version.join("model.pt")))?;
    let program = version.join("model.py");
    match options.backend {
        Backend::Python => fs::write(&program, PYTHON),
        // A file of the other backend would be ignored, but confuse readers.
        Backend::Libtorch => match fs::remove_file(&program) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    }
    .with_context(|| program.display().to_string())?;
    let config = folder.join("config.pbtxt");
    let runs = match options.backend {
        Backend::Libtorch => "platform: \"pytorch_libtorch\"",
        Backend::Python => "backend: \"python\"",
    };
    let input = tensor("input", INPUT, &query_shape);
    let output = tensor("output", OUTPUT, &network.description().prediction_shape);
    let most = options.max_batch;
    let text = format!("name: \"{name}\"\n{runs}\nmax_batch_size: {most}\n{input}{output}");
    fs::write(&config, text).with_context(|| config.display().to_string())?;
    Ok(config)
}

/// An input or output of a configuration. Triton supports shapes without axes only by reshaping.
fn tensor(what: &str, name: &str, shape: &[usize]) -> String {
    let (dims, reshape) =
        if shape.is_empty() { (&[1][..], "\n    reshape { shape: [ ] }") } else { (shape, "") };
    format!(
        "{what} [\n  {{\n    name: \"{name}\"\n    data_type: TYPE_FP32\n    dims: {dims:?}{reshape}\n  }}\n]\n"
    )
}
