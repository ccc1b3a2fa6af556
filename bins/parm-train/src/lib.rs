//! `parm-train`: data to deployed models, and deployed models to the parity models of a code.

mod export;
mod family;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use parm::CodeFile;
use parm::code_dir::{self, Deployed, MadeBy, RunsOn, Scores};
use parm::npy::{RowBuffer, Window};
use parm_cli::input::check_stdin;
use parm_cli::options::{Common, Compute};
use parm_cli::tools::train::{self as arguments, Base, Init, Parity, Train, What};
use parm_cli::{Exit, Input, Io, Progress, Usage};
use parm_torch::device;
use parm_torch::train::{self, Epoch, Recipe, Rows, Schedule, Surroundings};
use parm_torch::{Device, Model, Network};

const NAME: &str = "parm-train";

/// Runs the tool.
///
/// # Errors
/// Anything that keeps it from writing the model or the code; see the messages.
pub fn run(options: &Train, io: &mut Io) -> Result<Exit> {
    match &options.what {
        What::Base(base) => train_base(base, &options.common, io)?,
        What::Parity(parity) => train_parity(parity, &options.common, io)?,
        What::Export(export) => export::run(export, &options.common, io)?,
    }
    Ok(Exit::Done)
}

fn train_base(options: &Base, common: &Common, io: &mut Io) -> Result<()> {
    check_stdin([&options.data, &options.labels])?;
    let family = family::choose(Some(options.model), options.hidden.as_deref(), None, 1)?;
    let device = prepare(options.compute, common, io)?;
    let window = options.read.window();
    let queries = rows(&options.data, device, window, io)?;
    let labels = labels(&options.labels, &queries, &options.data, io, window)?;
    let recipe = recipe(&options.recipe, queries.count())?;
    let progress = Progress::new(common, io, "epochs", Some(u64::from(recipe.epochs)));
    let mut last = None;
    let mut watch = |epoch: &Epoch| {
        progress.advance(1);
        progress.note(summary(epoch));
        last = Some(epoch.clone());
    };
    let start = Instant::now();
    let mut around = Surroundings {
        folder: options.output.with_extension("run"),
        clock: &|| start.elapsed().as_secs_f64(),
        watch: &mut watch,
    };
    let model = train::base(&queries, &labels, &family, device, &recipe, &mut around)
        .with_context(|| options.data.to_string())?;
    model.save(&options.output)?;
    drop(progress);
    common.count(io, NAME, &format!("{}: {}", options.output.display(), done(&recipe, last.as_ref())));
    Ok(())
}

fn train_parity(options: &Parity, common: &Common, io: &mut Io) -> Result<()> {
    if options.code.code != "sum" {
        return Err(Usage::error(format!(
            "--code {}: found no code that parity models can be trained for, expected sum",
            options.code.code
        )));
    }
    let code = options.code.choose(io)?.linear;
    if code.r() == 0 {
        return Err(Usage::error("-r 0: found a code without parity queries, expected at least 1"));
    }
    check_stdin([&options.data].into_iter().chain(&options.labels).chain(&options.targets))?;
    // What no deployed model can mend is refused before anything is read.
    let family =
        |deployed| family::choose(options.model, options.hidden.as_deref(), deployed, options.parity_width);
    family(None)?;
    let device = prepare(options.compute, common, io)?;
    let window = options.read.window();
    let queries = rows(&options.data, device, window, io)?;
    let labels = options
        .labels
        .as_ref()
        .map(|input| labels(input, &queries, &options.data, io, window))
        .transpose()?;
    let recipe = recipe(&options.recipe, queries.count())?;
    let Teacher { predictions, deployed, model } = teacher(options, &queries, device, io)?;
    if options.init == Init::Base && model.is_none() {
        return Err(Usage::error("--init base needs --base with a native model, whose weights can be taken"));
    }
    let family = family(model.as_ref().and_then(|model| model.description().family()))?;
    let parity = train::Parity {
        queries: &queries,
        predictions: &predictions,
        deployed: &deployed.sha256,
        labels: labels.as_deref(),
        code: &code,
        family: &family,
        initial: model.as_ref().filter(|_| options.init == Init::Base),
        device,
    };
    retract(&options.output)?;

    let start = Instant::now();
    let (mut models, mut names) = (Vec::new(), Vec::new());
    let total = u64::from(recipe.epochs) * code.r() as u64;
    let progress = Progress::new(common, io, "epochs", Some(total));
    for j in 0..code.r() {
        let mut watch = |epoch: &Epoch| {
            progress.advance(1);
            progress.note(format!("parity {j}: {}", summary(epoch)));
        };
        let mut around = Surroundings {
            folder: options.output.join("run").join(format!("parity-{j}")),
            clock: &|| start.elapsed().as_secs_f64(),
            watch: &mut watch,
        };
        models.push(parity.train(j, &recipe, &mut around).with_context(|| options.data.to_string())?);
    }
    for (j, model) in models.iter().enumerate() {
        let name = format!("parity-{j}.safetensors");
        model.save(&options.output.join(&name))?;
        names.push(name);
    }
    let scores = parity.score(&models, &recipe)?;
    let scores = Scores {
        available: scores.available,
        degraded: scores.degraded,
        agreement: scores.agreement,
        n: scores.reconstructions,
    };
    let file = CodeFile {
        format: code_dir::FORMAT,
        code: "sum".into(),
        k: code.k(),
        r: code.r(),
        weights: (0..code.r()).map(|j| code.weights(j)).collect(),
        query_shape: queries.shape().to_vec(),
        prediction_shape: predictions.shape().to_vec(),
        output: models.first().map_or_else(String::new, |model| model.description().output.clone()),
        runs_on: RunsOn::Parity,
        parity: names,
        encoder: None,
        decoder: None,
        deployed,
        scores,
        made_by: MadeBy { version: env!("CARGO_PKG_VERSION").into(), command: io.command.clone() },
    };
    file.save(&options.output)?;
    drop(progress);
    common.count(io, NAME, &format!("{}: {}", options.output.display(), scored(&file.scores)));
    Ok(())
}

/// What parity models learn from.
struct Teacher {
    predictions: Rows,
    deployed: Deployed,
    /// The deployed model, if it is native.
    model: Option<Network>,
}

fn teacher(options: &Parity, queries: &Rows, device: Device, io: &mut Io) -> Result<Teacher> {
    let named = |path: &Path, sha256| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Deployed { sha256, name }
    };
    match (&options.base, &options.targets) {
        (Some(path), _) => {
            let deployed = named(path, train::sha256(path)?);
            let model = Model::load(path, device)?;
            let on = || format!("{} on {}", path.display(), options.data);
            let predictions = queries.predict(&model).with_context(on)?;
            let model = match model {
                Model::Native(model) => Some(*model),
                Model::Script(_) => None,
            };
            Ok(Teacher { predictions, deployed, model })
        }
        (None, Some(input)) => {
            let (predictions, sha256) = recorded(input, device, options.read.window(), io)?;
            ensure!(
                predictions.count() == queries.count(),
                "{input}: found {} predictions, expected {}: one for each row of {}",
                predictions.count(),
                queries.count(),
                options.data
            );
            let deployed = match input {
                Input::Stdin => Deployed { sha256, name: "-".into() },
                Input::Path(path) => named(path, sha256),
            };
            Ok(Teacher { predictions, deployed, model: None })
        }
        (None, None) => {
            Err(Usage::error("a deployed model (--base) or recorded predictions (--targets) needed"))
        }
    }
}

/// Reads recorded predictions and hashes the bytes that they came as.
fn recorded(input: &Input, device: Device, window: Window, io: &mut Io) -> Result<(Rows, String)> {
    let predictions = rows(input, device, window, io)?;
    let sha256 = match input {
        // A file's hash is that of sha256sum; what came through a pipe is known by its rows.
        Input::Path(path) if path.is_file() => train::sha256(path)?,
        _ => predictions.sha256().to_owned(),
    };
    Ok((predictions, sha256))
}

/// Removes the mark of a finished code: what follows is unfinished.
fn retract(directory: &Path) -> Result<()> {
    let path = directory.join(code_dir::FILE_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot replace", path.display()))
        }
        _ => Ok(()),
    }
}

fn prepare(compute: Compute, common: &Common, io: &mut Io) -> Result<Device> {
    // Minibatches of small models lose more by waking threads than they win.
    let chosen = device::prepare(compute.device, Some(compute.threads.unwrap_or(1)))?;
    if let Some(note) = &chosen.note {
        common.note(io, NAME, note);
    }
    Ok(chosen.device)
}

/// Reads a whole stream of rows.
fn rows(input: &Input, device: Device, window: Window, io: &mut Io) -> Result<Rows> {
    let mut reader = input.rows(io, window)?;
    let mut buffer = RowBuffer::<f32>::default();
    let count = reader.read(usize::MAX, &mut buffer)?;
    ensure!(count > 0, "{input}: found no rows, expected at least 1");
    Rows::new(buffer.values(), count, &reader.layout().shape, device).with_context(|| input.to_string())
}

/// Reads one label for each row of the data.
fn labels(input: &Input, queries: &Rows, data: &Input, io: &mut Io, window: Window) -> Result<Vec<i64>> {
    let labels = input.labels(io, window)?;
    let (found, expected) = (labels.len(), queries.count());
    ensure!(
        found == expected,
        "{input}: found {found} labels, expected {expected}: one for each row of {data}"
    );
    Ok(labels)
}

fn recipe(options: &arguments::Recipe, rows: usize) -> Result<Recipe> {
    let share = options.validation;
    let validation = if share < 1.0 { (share * rows as f64).floor() } else { share };
    if validation.fract() != 0.0 {
        return Err(Usage::error(format!(
            "--validation {share}: expected whole rows, or a fraction below 1"
        )));
    }
    ensure!(validation < rows as f64, "--validation {share}: found {rows} rows in all, expected more");
    Ok(Recipe {
        epochs: options.epochs,
        batch: options.batch as usize,
        rate: options.lr,
        decay: options.weight_decay,
        schedule: match options.schedule {
            arguments::Schedule::Constant => Schedule::Constant,
            arguments::Schedule::Cosine => Schedule::Cosine,
        },
        validation: validation as usize,
        seed: options.seed,
        checkpoint_cycle: options.checkpoint_cycle,
        resume: options.resume,
    })
}

/// An epoch beside the progress bar.
fn summary(epoch: &Epoch) -> String {
    let score = epoch
        .accuracy
        .map(|score| format!(", accuracy {score:.4}"))
        .or_else(|| epoch.agreement.map(|score| format!(", agreement {score:.4}")));
    format!("loss {:.4}{}", epoch.train_loss, score.unwrap_or_default())
}

fn scored(scores: &Scores) -> String {
    let values = [("A_a", scores.available), ("A_d", scores.degraded), ("agreement", scores.agreement)];
    let known = values.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value:.4}, ")));
    format!("{}{} reconstructions scored", known.collect::<String>(), scores.n)
}

fn done(recipe: &Recipe, last: Option<&Epoch>) -> String {
    last.map_or_else(
        || format!("all {} epochs were done before", recipe.epochs),
        |epoch| format!("{} epochs done, the last with {}", epoch.epoch, summary(epoch)),
    )
}
