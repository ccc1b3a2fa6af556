//! The data of a training: rows, their labels or boxes, and the deployed model's predictions.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use parm::codes::directory::Deployed;
use parm::npy::RowBuffer;
use parm_cli::input::{Reading, check_stdin};
use parm_cli::options::{Common, ModelOptions, ReadOptions};
use parm_cli::tools::train::Teaching;
use parm_cli::{Input, Io, Usage};
use parm_torch::train::{self, Rows, Truth};
use parm_torch::{Choices, Device, Model, Phase};

use crate::Machine;
use crate::recipe::VALUES;

/// The deployed model and its predictions, on which a code is trained.
pub(crate) struct Teacher {
    pub(crate) queries: Rows,
    pub(crate) predictions: Rows,
    pub(crate) truth: Option<Truth>,
    pub(crate) deployed: Deployed,
    /// The deployed model, if it was given.
    pub(crate) model: Option<Model>,
    /// The kind of predictions: `logits` or `boxes`.
    pub(crate) output: String,
    /// What the file of the deployed model leaves open.
    pub(crate) choices: Choices,
}

impl Teacher {
    /// `copies` says that parity models begin as copies of the deployed model.
    pub(crate) fn read(
        options: &Teaching,
        read: ReadOptions,
        copies: bool,
        machine: &Machine,
        common: &Common,
        io: &mut Io,
    ) -> Result<Self> {
        let Machine { device, timings, .. } = machine;
        let Teaching { base, model_options, targets, data, labels, boxes } = options;
        if base.is_none() && model_options.is_given() {
            return Err(Usage::error(
                "--activation, --output-name, --input, --constant: found no model, expected --base",
            ));
        }
        let constants = model_options.read_constants(io)?;
        let ModelOptions { activation, output_name, query_input, .. } = model_options.clone();
        let choices =
            Choices { activation, output: output_name, input: query_input, constants, ..Choices::default() };
        check_stdin([data].into_iter().chain(labels).chain(targets).chain(boxes))?;
        let window = read.reading();
        let queries = rows(data, machine, window, io)?;
        let (predictions, deployed, model) = match (base, targets) {
            (Some(path), _) => {
                let deployed = named(path, train::sha256(path)?);
                let load = || Model::load_as(path, *device, &choices);
                let model = timings.measure_on(*device, Phase::Load, load)?;
                if let Some(warning) = model.warning() {
                    common.warn(io, &format!("{}: {warning}", path.display()));
                }
                if let (true, Model::Exported(_)) = (copies, &model) {
                    // Another network in its place would be a guess: the mend is a line of Python.
                    model.check_trainable().with_context(|| deployed.name.clone())?;
                }
                let on = || format!("{} on {data}", path.display());
                let predict = || queries.predict(&model).with_context(on);
                (timings.measure_on(*device, Phase::Compute, predict)?, deployed, Some(model))
            }
            (None, Some(input)) => {
                let (predictions, deployed) = recorded(input, machine, window, io)?;
                ensure!(
                    predictions.count() == queries.count(),
                    "{input}: found {} predictions, expected {}: one for each row of {data}",
                    predictions.count(),
                    queries.count()
                );
                (predictions, deployed, None)
            }
            (None, None) => {
                return Err(Usage::error(
                    "a deployed model (--base) or recorded predictions (--targets) needed",
                ));
            }
        };
        let outputs = predictions.shape().iter().product::<usize>();
        if let (Some(labels), 1) = (labels, outputs) {
            bail!(
                "{labels}: found predictions of one number, which tell no classes apart: leave out --labels"
            );
        }
        let truth = match (labels, boxes) {
            (Some(input), _) => {
                let labels = labels_of(input, &queries, data, io, window)?;
                let truth = Truth::classes(&labels, &queries, outputs as i64, *device);
                Some(truth.with_context(|| input.to_string())?)
            }
            (None, Some(input)) => Some(boxes_of(input, &queries, machine, io, window)?),
            (None, None) => None,
        };
        if let (Some(boxes), true) = (boxes, outputs != 4) {
            bail!("{boxes}: found predictions of {outputs} numbers, expected 4, which are boxes as well");
        }
        let said = match &model {
            _ if outputs == 1 => VALUES.into(),
            Some(Model::Native(network)) => network.description().output.clone(),
            _ if boxes.is_some() => "boxes".into(),
            _ => "logits".into(),
        };
        Ok(Self { queries, predictions, truth, deployed, model, output: said, choices })
    }
}

pub(crate) fn named(path: &Path, sha256: String) -> Deployed {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Deployed { sha256, name, recorded: false }
}

/// Reads recorded predictions, and returns their hash.
fn recorded(input: &Input, machine: &Machine, window: Reading, io: &mut Io) -> Result<(Rows, Deployed)> {
    let predictions = rows(input, machine, window, io)?;
    let mut deployed = match input {
        // The hash of a file is that of sha256sum; for a pipe, the rows are hashed.
        Input::Path(path) if path.is_file() => named(path, train::sha256(path)?),
        Input::Path(path) => named(path, predictions.sha256().to_owned()),
        Input::Stdin => named(Path::new("-"), predictions.sha256().to_owned()),
    };
    deployed.recorded = true;
    Ok((predictions, deployed))
}

/// Reads a complete stream of rows.
pub(crate) fn rows(input: &Input, machine: &Machine, window: Reading, io: &mut Io) -> Result<Rows> {
    let Machine { device, timings, .. } = machine;
    let rows = timings.measure(Phase::Load, || {
        let mut reader = input.rows(io, window)?;
        let mut buffer = RowBuffer::<f32>::default();
        let count = reader.read(usize::MAX, &mut buffer)?;
        ensure!(count > 0, "{input}: found no rows, expected at least 1");
        let shape = &reader.layout().shape;
        Rows::new(buffer.values(), count, shape, Device::CPU).with_context(|| input.to_string())
    })?;
    timings.measure_on(*device, Phase::Upload, || rows.to_device(*device)).with_context(|| input.to_string())
}

/// Reads one label for each row of the data.
pub(crate) fn labels_of(
    input: &Input,
    queries: &Rows,
    data: &Input,
    io: &mut Io,
    window: Reading,
) -> Result<Vec<i64>> {
    let labels = input.labels(io, window)?;
    let (found, expected) = (labels.len(), queries.count());
    ensure!(
        found == expected,
        "{input}: found {found} labels, expected {expected}: one for each row of {data}"
    );
    Ok(labels)
}

/// Reads one box for each row of the data.
pub(crate) fn boxes_of(
    input: &Input,
    queries: &Rows,
    machine: &Machine,
    io: &mut Io,
    window: Reading,
) -> Result<Truth> {
    let boxes = rows(input, machine, window, io)?;
    Truth::boxes(&boxes, queries).with_context(|| input.to_string())
}
