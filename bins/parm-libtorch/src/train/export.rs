//! Exports models for other programs, alone or in a model repository of Triton.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use parm::Dtype;
use parm::npy::RowLayout;
use parm_cli::options::{Common, ModelOptions, PartOptions};
use parm_cli::output::{Compression, Target};
use parm_cli::tools::train::{Backend, Export};
use parm_cli::{Io, Usage};
use parm_torch::{Choices, Device, EXTENSIONS, Model, Session};

use crate::train::data::choices;

/// The name of a model's input in Triton's PyTorch backend.
const INPUT: &str = "INPUT__0";
const OUTPUT: &str = "OUTPUT__0";

/// The model of Triton's Python backend, which runs the model file beside it.
const PYTHON: &str = include_str!("model.py");

pub(crate) fn run(options: &Export, common: &Common, io: &mut Io) -> Result<()> {
    let PartOptions { from, to } = options.part.clone();
    let choices = Choices { from, to, ..choices(&options.model_options, io)? };
    let model = Model::load_as(&options.model, Device::CPU, &choices)?;
    if let Some(warning) = model.warning() {
        common.warn(io, &format!("{}: {warning}", options.model.display()));
    }
    let written = match (&options.output, &options.triton) {
        (Some(target), _) => {
            let (bytes, extension) = export(options, &model)?;
            check_name(target, extension)?;
            write(target, &bytes, io)?;
            target.to_string()
        }
        (None, Some(repository)) => triton(options, repository, model, io)?.display().to_string(),
        (None, None) => return Err(Usage::error("found no output, expected -o or --triton")),
    };
    common.count(io, &format!("{written}: written"));
    Ok(())
}

/// The file of the exported model, and its extension.
fn export(options: &Export, model: &Model) -> Result<(Vec<u8>, &'static str)> {
    model.export(options.query_shape.as_deref()).with_context(|| options.model.display().to_string())
}

/// Refuses a name that says another kind of model.
fn check_name(target: &Target, extension: &str) -> Result<()> {
    let Target::Path(path) = target else { return Ok(()) };
    let found = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let kind = if extension == "pt2" { "an exported program" } else { "TorchScript" };
    ensure!(
        found == extension || !EXTENSIONS.contains(&found),
        "{target}: found the extension .{found}, expected .{extension}: the model is written as {kind}"
    );
    Ok(())
}

fn write(target: &Target, bytes: &[u8], io: &mut Io) -> Result<()> {
    let mut output = target.create(io, Compression::ByName(3))?;
    output.write_all(bytes)?;
    output.commit()
}

/// Writes a model into a repository; `config.pbtxt`, which completes it, is written last.
fn triton(options: &Export, repository: &Path, model: Model, io: &mut Io) -> Result<PathBuf> {
    let of_file = || options.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = options.name.clone().unwrap_or_else(of_file);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.starts_with('.') || name.is_empty() || !name.chars().all(plain) {
        return Err(Usage::error(format!(
            "--name: found '{name}', expected letters, digits and _-., and no dot at the beginning"
        )));
    }
    let at = || options.model.display().to_string();
    let (bytes, extension) = export(options, &model)?;
    let is_program = extension == "pt2";
    let backend = options.backend.unwrap_or(if is_program { Backend::Python } else { Backend::Libtorch });
    if is_program && backend == Backend::Libtorch {
        bail!(
            "{}: found an exported program, expected --backend python: libtorch runs TorchScript alone",
            at()
        );
    }
    if !choices_are_written(options, backend) {
        bail!(
            "{}: found --output-name, --input or --constant, expected none of them: {}",
            at(),
            "a model of Triton has one input, and only --backend python can choose an output"
        );
    }
    let batch = model.batch();
    ensure!(
        batch.step == 1,
        "{}: found a program of {batch}, expected any number: Triton makes batches of its own",
        at()
    );
    let most = batch.most.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX));
    let most = most.min(options.max_batch);
    let shape = options.query_shape.clone().or_else(|| model.query_shape().map(<[usize]>::to_vec));
    let shape = shape.with_context(|| {
        format!("{}: found a model without the shape of its queries, expected --query-shape", at())
    })?;
    let query = RowLayout::new(model.query_dtype().unwrap_or(Dtype::F32), shape);
    // A row of zeros shows what comes out.
    let session = Session::new(model, Device::CPU, &query.shape).with_context(at)?;
    let prediction = session.output().with_context(at)?;

    let folder = repository.join(&name);
    let version = folder.join("1");
    fs::create_dir_all(&version).with_context(|| version.display().to_string())?;
    write(&Target::Path(version.join("model").with_extension(extension)), &bytes, io)?;
    let program = version.join("model.py");
    match backend {
        Backend::Python => fs::write(&program, python(options.model_options.output_name.as_deref())),
        // A file of the other backend would be ignored, but confuse readers.
        Backend::Libtorch => match fs::remove_file(&program) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    }
    .with_context(|| program.display().to_string())?;
    let config = folder.join("config.pbtxt");
    let runs = match backend {
        Backend::Libtorch => "platform: \"pytorch_libtorch\"",
        Backend::Python => "backend: \"python\"",
    };
    let input = tensor("input", INPUT, &query);
    let output = tensor("output", OUTPUT, prediction);
    let text = format!("name: \"{name}\"\n{runs}\nmax_batch_size: {most}\n{input}{output}");
    fs::write(&config, text).with_context(|| config.display().to_string())?;
    Ok(config)
}

/// Whether a repository can hold what the options choose.
fn choices_are_written(options: &Export, backend: Backend) -> bool {
    let ModelOptions { output_name, query_input, constants, .. } = &options.model_options;
    let is_chosen = output_name.is_some() && backend == Backend::Libtorch;
    !is_chosen && query_input.is_none() && constants.is_empty()
}

/// The program of the Python backend, which answers with this output.
fn python(output: Option<&str>) -> String {
    let Some(output) = output else { return PYTHON.into() };
    // JSON's text is Python's, too.
    let output = serde_json::Value::from(output).to_string();
    PYTHON.replacen("OUTPUT = None", &format!("OUTPUT = {output}"), 1)
}

/// An input or output of a configuration. Triton supports shapes without axes only by reshaping.
fn tensor(what: &str, name: &str, layout: &RowLayout) -> String {
    let shape = layout.shape.as_slice();
    let (dims, reshape) =
        if shape.is_empty() { (&[1][..], "\n    reshape { shape: [ ] }") } else { (shape, "") };
    let kind = data_type(layout.dtype);
    format!(
        "{what} [\n  {{\n    name: \"{name}\"\n    data_type: {kind}\n    dims: {dims:?}{reshape}\n  }}\n]\n"
    )
}

/// Triton's name of a type.
fn data_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "TYPE_BOOL",
        Dtype::U8 => "TYPE_UINT8",
        Dtype::U16 => "TYPE_UINT16",
        Dtype::U32 => "TYPE_UINT32",
        Dtype::U64 => "TYPE_UINT64",
        Dtype::I8 => "TYPE_INT8",
        Dtype::I16 => "TYPE_INT16",
        Dtype::I32 => "TYPE_INT32",
        Dtype::I64 => "TYPE_INT64",
        Dtype::F16 => "TYPE_FP16",
        Dtype::F32 => "TYPE_FP32",
        Dtype::F64 => "TYPE_FP64",
    }
}
