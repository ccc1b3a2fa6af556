//! Code directories of models that were trained elsewhere.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use parm::codes::CodeName;
use parm::codes::directory::{self, RunsOn};
use parm::{CodeFile, Task};
use parm_cli::options::{CodeOptions, Common, choose_task};
use parm_cli::tools::train::Adopt;
use parm_cli::{Io, Usage};
use parm_torch::{Choices, Device, Model, Session};

use crate::train::data::{choices, named};
use crate::train::plan::remove;

pub(crate) fn run(options: &Adopt, common: &Common, io: &mut Io) -> Result<()> {
    let Adopt { parity, encoder, decoder, base, output, .. } = options;
    check_parts(options)?;
    base.iter().chain(parity).chain(encoder).chain(decoder).for_each(|path| io.note_file(path));
    let r = options.r.unwrap_or(parity.len().max(1) as u32);
    // A learned encoder's linear decoder is that of 'sum'.
    let linear = if options.code == CodeName::Learned { CodeName::Sum } else { options.code };
    let linear = CodeOptions {
        code: linear.as_str().into(),
        k: Some(options.k),
        r: Some(r),
        weights: options.weights.clone(),
    };
    let code = linear.choose(io)?;
    io.resolve("r", r);
    let linear = code.systematic().context("found a code without parity queries")?;
    let choices = choices(&options.model_options, io)?;
    let asked = options.task.with(&[])?;
    let [query_shape, prediction_shape] = shapes(options, &choices)?;
    let said = said(base.as_deref(), &choices)?;
    // What is not known is not checked.
    let elements = prediction_shape.as_ref().map(|shape| shape.iter().product());
    let task = match elements {
        Some(elements) => choose_task(asked.as_ref(), said, elements)?,
        None => asked.map(|asked| asked.task).or(said).unwrap_or_default(),
    };
    let deployed = base.as_deref().map(|path| anyhow::Ok(named(path, io.sha256(path)?))).transpose()?;

    let mark = output.join(directory::FILE_NAME);
    if mark.exists() && !options.force {
        bail!("{}: found a code: --force takes its place", mark.display());
    }
    fs::create_dir_all(output).with_context(|| format!("{}: cannot create", output.display()))?;
    // The mark of a finished code: what follows is unfinished.
    remove(&mark)?;
    let copy = |path: &Path, part: String| copy(path, output, &part);
    let numbered = parity.iter().enumerate().map(|(j, path)| copy(path, format!("parity-{j}")));
    let file = CodeFile {
        weights: (0..linear.r()).map(|parity| linear.weights(parity)).collect(),
        query_shape,
        prediction_shape,
        input_name: choices.input,
        output_name: choices.output,
        output: task,
        runs_on: if parity.is_empty() { RunsOn::Deployed } else { RunsOn::Parity },
        parity: numbered.collect::<Result<_>>()?,
        encoder: encoder.as_deref().map(|path| copy(path, "encoder".into())).transpose()?,
        decoder: decoder.as_deref().map(|path| copy(path, "decoder".into())).transpose()?,
        deployed,
        made_by: Some(io.made_by()),
        ..CodeFile::new(code.spec())
    };
    file.save(output)?;
    if options.force {
        file.remove_other_parts(output)?;
    }
    let CodeFile { code, k, r, .. } = &file;
    common.count(io, &format!("{}: the code {code}, k = {k}, r = {r}", output.display()));
    Ok(())
}

/// Sees that the parts make a code.
fn check_parts(options: &Adopt) -> Result<()> {
    let Adopt { parity, encoder, decoder, .. } = options;
    if encoder.is_some() != (options.code == CodeName::Learned) {
        return Err(Usage::error("--encoder goes with --code learned, which needs it"));
    }
    match (options.r, parity.len()) {
        (_, 0) if encoder.is_none() && decoder.is_none() => {
            Err(Usage::error("found no part, expected --parity, --encoder or --decoder"))
        }
        (Some(r), found) if found > 0 && found != r as usize => {
            Err(Usage::error(format!("--parity: found {found}, expected r = {r}")))
        }
        _ => Ok(()),
    }
}

/// The shapes of a query and of a prediction, if the options or the models say them. All models must have
/// the same.
fn shapes(options: &Adopt, choices: &Choices) -> Result<[Option<Vec<usize>>; 2]> {
    let Adopt { parity, encoder, decoder, base, .. } = options;
    // A coder has other shapes; that it can be read is seen here.
    for path in encoder.iter().chain(decoder) {
        Model::load(path, Device::CPU)?;
    }
    let mut query = options.query_shape.clone();
    let mut prediction: Option<Vec<usize>> = None;
    let mut models = Vec::new();
    for path in parity.iter().chain(base) {
        let model = Model::load_part(path, Device::CPU, choices)?;
        query = query.or_else(|| model.query_shape().map(<[usize]>::to_vec));
        models.push((path, model));
    }
    let Some(shape) = &query else { return Ok([None, None]) };
    for (path, model) in models {
        let at = || path.display().to_string();
        let session = Session::new(model, Device::CPU, shape).with_context(at)?;
        let found = session.output().with_context(at)?.shape.clone();
        let expected = prediction.get_or_insert_with(|| found.clone());
        ensure!(
            found == *expected,
            "{}: found outputs of shape {found:?}, expected {expected:?} as of the other models",
            path.display()
        );
    }
    Ok([query, prediction])
}

/// The task that the file of the deployed model says.
fn said(base: Option<&Path>, choices: &Choices) -> Result<Option<Task>> {
    Ok(match base.map(|path| Model::load_part(path, Device::CPU, choices)).transpose()? {
        Some(Model::Native(network)) => network.description().task(),
        _ => None,
    })
}

/// Copies a model into the directory, as this part. Returns its name there.
fn copy(path: &Path, directory: &Path, part: &str) -> Result<String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("pt");
    let name = format!("{part}.{extension}");
    let to = directory.join(&name);
    // A model that is in its place already must not be emptied.
    let is_there = fs::canonicalize(path).ok().is_some_and(|from| fs::canonicalize(&to).ok() == Some(from));
    if !is_there {
        fs::copy(path, &to)
            .with_context(|| format!("{}: cannot copy to {}", path.display(), to.display()))?;
    }
    Ok(name)
}
