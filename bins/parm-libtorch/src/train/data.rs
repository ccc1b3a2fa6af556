//! The data of a training: rows, their labels, boxes or values, and the deployed model's predictions.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use parm::Task;
use parm::codes::directory::Deployed;
use parm::npy::RowBuffer;
use parm_cli::input::{Reading, check_stdin};
use parm_cli::options::{AskedTask, Common, ModelOptions, ReadOptions, TaskOption, choose_task};
use parm_cli::tools::train::{Joint, ParityModel, Teaching};
use parm_cli::{Input, Io, Usage};
use parm_torch::train::{Rows, Truth};
use parm_torch::{Choices, Description, Device, Model, Network, Output, Phase};

use crate::train::{Machine, family};

/// The deployed model, and the data on which a code is trained.
pub(crate) struct Teacher {
    pub(crate) queries: Rows,
    /// The shape of a prediction.
    pub(crate) prediction: Vec<usize>,
    pub(crate) truth: Option<Truth>,
    /// What the deployed model is called in messages.
    pub(crate) name: String,
    /// What stays as it is of the deployed model; none if it is trained with the code.
    pub(crate) fixed: Option<Predicted>,
    /// The deployed model, if it was given.
    pub(crate) model: Option<Model>,
    /// What the predictions are.
    pub(crate) task: Task,
    /// What the file of the deployed model leaves open.
    pub(crate) choices: Choices,
}

/// A deployed model that stays as it is.
pub(crate) struct Predicted {
    /// Its predictions of the queries.
    pub(crate) predictions: Rows,
    pub(crate) deployed: Deployed,
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
        let Teaching { base, model_options, targets, data, labels, boxes, values, task } = options;
        let given = Given { labels: labels.as_ref(), boxes: boxes.as_ref(), values: values.as_ref() };
        let asked = given.task(*task)?;
        if base.is_none() && model_options.is_given() {
            return Err(Usage::error(
                "--activation, --output-name, --input, --constant: found no model, expected --base",
            ));
        }
        let choices = choices(model_options, io)?;
        check_stdin([data].into_iter().chain(targets).chain(given.inputs()))?;
        let window = read.reading();
        let queries = rows(data, machine, window, io)?;
        let (predictions, deployed, model) = match (base, targets) {
            (Some(path), _) => {
                let deployed = named(path, io.sha256(path)?);
                let model = load(path, &choices, machine, common, io)?;
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
        let prediction = predictions.shape().to_vec();
        let known = Known::read(given, &queries, data, machine, window, io)?;
        let task = task_of(asked.as_ref(), model.as_ref(), &prediction)?;
        let truth = Known::truth(known, &queries, &prediction, machine)?;
        let name = deployed.name.clone();
        let fixed = Some(Predicted { predictions, deployed });
        Ok(Self { queries, prediction, truth, name, fixed, model, task, choices })
    }

    /// The data of a code whose deployed model is trained with it.
    pub(crate) fn read_joint(
        options: &Joint,
        machine: &Machine,
        common: &Common,
        io: &mut Io,
    ) -> Result<Self> {
        let Joint { base, model_options, data, labels, boxes, values, task, network, .. } = options;
        let given = Given { labels: labels.as_ref(), boxes: boxes.as_ref(), values: values.as_ref() };
        let asked = Some(given.taught(*task)?);
        let choices = choices(model_options, io)?;
        check_stdin([data].into_iter().chain(given.inputs()))?;
        let window = options.read.reading();
        let queries = rows(data, machine, window, io)?;
        let known = Known::read(given, &queries, data, machine, window, io)?;
        let (model, name) = match base {
            ParityModel::File(path) => {
                let model = load(path, &choices, machine, common, io)?;
                model.check_trainable().with_context(|| path.display().to_string())?;
                (model, path.display().to_string())
            }
            ParityModel::Kind(_) if model_options.is_given() => {
                return Err(Usage::error(
                    "--activation, --output-name, --input, --constant: found a kind of network, expected --base \
                     with the file of a model",
                ));
            }
            ParityModel::Kind(kind) => {
                let family = family::choose(Some(*kind), network.hidden.as_deref(), None, 1)?;
                let outputs = known.as_ref().map_or(Ok(1), Known::outputs)?;
                let mut description = Description::new(&family, queries.shape(), &[outputs])?;
                description.output =
                    Output::Predictions(asked.as_ref().map(|asked| asked.task).unwrap_or_default());
                let network = Network::initial(description, options.recipe.seed, machine.device)?;
                (Model::Native(Box::new(network)), "the deployed model".into())
            }
        };
        let prediction = queries.output_shape(&model).with_context(|| format!("{name} on {data}"))?;
        let task = task_of(asked.as_ref(), Some(&model), &prediction)?;
        let truth = Known::truth(known, &queries, &prediction, machine)?;
        Ok(Self { queries, prediction, truth, name, fixed: None, model: Some(model), task, choices })
    }
}

/// What the options say that the file of the deployed model leaves open.
pub(crate) fn choices(options: &ModelOptions, io: &mut Io) -> Result<Choices> {
    let constants = options.read_constants(io)?;
    let ModelOptions { activation, output_name, query_input, .. } = options.clone();
    Ok(Choices { activation, output: output_name, input: query_input, constants, ..Choices::default() })
}

/// Loads a deployed model.
fn load(path: &Path, choices: &Choices, machine: &Machine, common: &Common, io: &mut Io) -> Result<Model> {
    io.note_file(path);
    let load = || Model::load_as(path, machine.device, choices);
    let model = machine.timings.measure_on(machine.device, Phase::Load, load)?;
    if let Some(warning) = model.warning() {
        common.warn(io, &format!("{}: {warning}", path.display()));
    }
    Ok(model)
}

/// The files of labels, boxes or values that are given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) labels: Option<&'a Input>,
    pub(crate) boxes: Option<&'a Input>,
    pub(crate) values: Option<&'a Input>,
}

impl<'a> Given<'a> {
    pub(crate) fn inputs(self) -> impl Iterator<Item = &'a Input> {
        self.labels.into_iter().chain(self.boxes).chain(self.values)
    }

    /// The task that the options ask for.
    pub(crate) fn task(self, task: TaskOption) -> Result<Option<AskedTask>> {
        task.with(&[
            ("--labels", self.labels.is_some(), Task::Classify),
            ("--boxes", self.boxes.is_some(), Task::Boxes),
            ("--values", self.values.is_some(), Task::Regress),
        ])
    }

    /// The task that a deployed model is taught, by a truth that must be given.
    pub(crate) fn taught(self, task: TaskOption) -> Result<AskedTask> {
        let asked = self.task(task)?;
        let expected = match asked.as_ref().map(|asked| asked.task) {
            Some(Task::Embed) => {
                return Err(Usage::error(
                    "--task embed: found no loss for embeddings here; expected a model that was trained elsewhere, \
                     as the --base of 'parm-train parity'",
                ));
            }
            None => "--labels, --boxes or --values",
            Some(Task::Classify) => "--labels",
            Some(Task::Boxes) => "--boxes",
            Some(Task::Regress) => "--values",
        };
        match asked.filter(|_| self.inputs().next().is_some()) {
            Some(asked) => Ok(asked),
            None => Err(Usage::error(format!("found no truth to learn, expected {expected}"))),
        }
    }
}

/// The task of predictions of this shape.
fn task_of(asked: Option<&AskedTask>, model: Option<&Model>, prediction: &[usize]) -> Result<Task> {
    let said = match model {
        Some(Model::Native(network)) => network.description().task(),
        _ => None,
    };
    choose_task(asked, said, prediction.iter().product())
}

/// The labels, boxes or values of rows, and where they come from.
enum Known<'a> {
    Labels(&'a Input, Vec<i64>),
    Boxes(Truth),
    Values(&'a Input, Rows),
}

impl<'a> Known<'a> {
    /// Reads labels, boxes or values, as far as they are given.
    fn read(
        Given { labels, boxes, values }: Given<'a>,
        queries: &Rows,
        data: &Input,
        machine: &Machine,
        window: Reading,
        io: &mut Io,
    ) -> Result<Option<Self>> {
        Ok(if let Some(input) = labels {
            Some(Self::Labels(input, labels_of(input, queries, data, io, window)?))
        } else if let Some(input) = boxes {
            Some(Self::Boxes(boxes_of(input, queries, machine, io, window)?))
        } else if let Some(input) = values {
            Some(Self::Values(input, rows(input, machine, window, io)?))
        } else {
            None
        })
    }

    /// The outputs of a model that predicts them.
    fn outputs(&self) -> Result<usize> {
        match self {
            Self::Labels(input, labels) => Ok(classes(input, labels)? as usize),
            Self::Boxes(_) => Ok(4),
            Self::Values(_, values) => Ok(values.shape().iter().product()),
        }
    }

    /// The truth for predictions of this shape.
    fn truth(
        known: Option<Self>,
        queries: &Rows,
        prediction: &[usize],
        machine: &Machine,
    ) -> Result<Option<Truth>> {
        let outputs = prediction.iter().product::<usize>();
        Ok(match known {
            Some(Self::Labels(input, labels)) => {
                let truth = Truth::classes(&labels, queries, outputs as i64, machine.device);
                Some(truth.with_context(|| input.to_string())?)
            }
            Some(Self::Boxes(truth)) => Some(truth),
            Some(Self::Values(input, values)) => {
                Some(Truth::values(&values, queries, outputs).with_context(|| input.to_string())?)
            }
            None => None,
        })
    }
}

pub(crate) fn named(path: &Path, sha256: String) -> Deployed {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Deployed { sha256, name, recorded: false, joint: false }
}

/// Reads recorded predictions, and returns their hash.
fn recorded(input: &Input, machine: &Machine, window: Reading, io: &mut Io) -> Result<(Rows, Deployed)> {
    let predictions = rows(input, machine, window, io)?;
    let mut deployed = match input {
        // The hash of a file is that of sha256sum; for a pipe, the rows are hashed.
        Input::Path(path) if path.is_file() => named(path, io.sha256(path)?),
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

/// The most classes of a deployed model, against wrong labels.
const MAX_CLASSES: i64 = 1 << 20;

/// The number of classes of labels.
pub(crate) fn classes(input: &Input, labels: &[i64]) -> Result<i64> {
    let classes = labels.iter().max().map_or(0, |&label| label.saturating_add(1)).min(MAX_CLASSES);
    ensure!(
        classes != 1,
        "{input}: found labels that are all 0, expected two classes or more: there is nothing to learn"
    );
    Ok(classes)
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
