//! The names that configurations may use: the reference implementation's, and those of the options.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use parm::Task;
use parm_cli::tools::train::{Architecture, Augmentation, DecoderKind, EncoderKind, LossKind, ParityModel};
use serde::Deserialize;
use serde_json::Value;

/// A name of a configuration, and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known<T: 'static> {
    /// The name in the configuration.
    pub(crate) name: &'static str,
    /// The name in this project.
    pub(crate) short: &'static str,
    pub(crate) meaning: T,
}

/// A data set of the reference implementation: the names of its files, and its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) rows: &'static str,
    /// What models for it predict, unless the configuration says something else.
    pub(crate) task: Task,
    /// The augmentation of the reference implementation, as far as it is supported.
    pub(crate) augment: &'static [Augmentation],
}

/// A data set of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) short: String,
    pub(crate) source: Source,
}

/// Where the rows of a data set are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the folder of data sets.
    Known(Files),
    /// In files of their own.
    Own { train: Split, test: Split },
}

/// The files of a split of a data set, by the options that take them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    pub(crate) data: PathBuf,
    labels: Option<PathBuf>,
    boxes: Option<PathBuf>,
    values: Option<PathBuf>,
}

impl Split {
    /// The truth, and the task whose truth it is.
    fn truth(&self) -> Result<Option<(Task, &Path)>> {
        let files =
            [(Task::Classify, &self.labels), (Task::Boxes, &self.boxes), (Task::Regress, &self.values)];
        let given: Vec<_> = files.iter().filter_map(|(task, file)| Some((*task, file.as_deref()?))).collect();
        ensure!(given.len() < 2, "found several of labels, boxes and values, expected one");
        Ok(given.first().copied())
    }

    /// The truth of a task.
    pub(crate) fn of(&self, task: Task) -> Option<&Path> {
        self.truth().ok().flatten().filter(|(of, _)| *of == task).map(|(_, file)| file)
    }

    /// With paths that are relative to a folder.
    fn within(self, folder: &Path) -> Self {
        let at = |path: PathBuf| folder.join(path);
        let [labels, boxes, values] = [self.labels, self.boxes, self.values].map(|path| path.map(at));
        Self { data: at(self.data), labels, boxes, values }
    }
}

/// A data set of a configuration, by its files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnData {
    name: String,
    train: Split,
    test: Split,
}

impl DataSet {
    /// A name, or an object with files, whose paths are relative to this folder.
    pub(crate) fn parse(value: &Value, folder: &Path) -> Result<Self> {
        if let Value::String(name) = value {
            let known = find("datasets", name, DATA_SETS)
                .map_err(|error| anyhow!("{error}, or an object with name, train and test"))?;
            let source = Source::Known(known.meaning);
            return Ok(Self { name: known.name.into(), short: known.short.into(), source });
        }
        let own = OwnData::deserialize(value).context("datasets")?;
        let name = checked("datasets", own.name)?;
        let [train, test] = [own.train, own.test].map(|split| split.within(folder));
        let task = |split: &Split| {
            let truth = split.truth().with_context(|| format!("datasets: {name}"))?;
            anyhow::Ok(truth.map(|(task, _)| task))
        };
        ensure!(
            task(&train)? == task(&test)?,
            "datasets: {name}: found another truth for test than for train, expected the same of labels, boxes and \
             values"
        );
        Ok(Self { short: name.clone(), name, source: Source::Own { train, test } })
    }

    /// What models for it predict, unless the configuration says something else.
    pub(crate) fn task(&self) -> Option<Task> {
        match &self.source {
            Source::Known(files) => Some(files.task),
            Source::Own { train, .. } => train.truth().ok().flatten().map(|(task, _)| task),
        }
    }

    /// The augmentation of the reference implementation.
    pub(crate) fn augment(&self) -> &'static [Augmentation] {
        match &self.source {
            Source::Known(files) => files.augment,
            Source::Own { .. } => &[],
        }
    }
}

/// A deployed model of a run; parity models are of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployed {
    pub(crate) name: String,
    pub(crate) short: String,
    pub(crate) model: ParityModel,
}

/// A deployed model of a configuration, by its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnModel {
    name: String,
    file: PathBuf,
}

impl Deployed {
    /// The name of a kind, the file of a model, or an object with its name and its file, whose paths are relative to
    /// this folder.
    pub(crate) fn parse(value: &Value, folder: &Path) -> Result<Self> {
        let Value::String(text) = value else {
            let OwnModel { name, file } = OwnModel::deserialize(value).context("models")?;
            return Self::of_file(name, &file, folder);
        };
        if let Ok(ParityModel::File(file)) = text.parse() {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return Self::of_file(name, &file, folder);
        }
        let known =
            find("models", text, MODELS).map_err(|error| anyhow!("{error}, or the file of a model"))?;
        let model = ParityModel::Kind(known.meaning);
        Ok(Self { name: known.name.into(), short: known.short.into(), model })
    }

    fn of_file(name: String, file: &Path, folder: &Path) -> Result<Self> {
        let name = checked("models", name)?;
        Ok(Self { short: name.clone(), name, model: ParityModel::File(folder.join(file)) })
    }
}

/// A name that may be that of a folder.
fn checked(key: &str, name: String) -> Result<String> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        bail!(
            "{key}: found the name '{name}', expected letters, digits, -, _, + and dots that are not first"
        );
    }
    Ok(name)
}

/// An encoder and a decoder: a pair of names, or the name of a code, whose decoder is linear.
pub(crate) fn coders(value: &Value) -> Result<(Known<EncoderKind>, Known<DecoderKind>)> {
    let key = "enc_dec_types";
    let (encoder, decoder) = match value {
        Value::String(code) => (code.as_str(), "linear"),
        Value::Array(pair) => match &pair[..] {
            [Value::String(encoder), Value::String(decoder)] => (encoder.as_str(), decoder.as_str()),
            _ => bail!("{key}: found {value}, expected a pair of names"),
        },
        _ => bail!("{key}: found {value}, expected a name or a pair of names"),
    };
    Ok((find(key, encoder, ENCODERS)?, find(key, decoder, DECODERS)?))
}

const fn known<T>(name: &'static str, short: &'static str, meaning: T) -> Known<T> {
    Known { name, short, meaning }
}

const IMAGES: Files = Files { rows: "images.npy", task: Task::Classify, augment: &[] };
const CIFAR: Files = Files { augment: &[Augmentation::Shift(4), Augmentation::Flip], ..IMAGES };
const CLIPS: Files = Files { rows: "clips.npy", ..IMAGES };
const BOXES: Files = Files { task: Task::Boxes, ..IMAGES };

pub(crate) const DATA_SETS: &[Known<Files>] = &[
    known("mnist", "mnist", IMAGES),
    known("fashion-mnist", "fashion-mnist", IMAGES),
    known("cifar10", "cifar10", CIFAR),
    known("cifar100", "cifar100", CIFAR),
    known("cat_v_dog", "cat-v-dog", Files { augment: &[Augmentation::Flip], ..IMAGES }),
    known("gcommands", "gcommands", CLIPS),
    // A separate program in the reference implementation, which uses this name for its results.
    known("cub-localization", "cub-localization", BOXES),
];

pub(crate) const MODELS: &[Known<Architecture>] = &[
    known("base-mlp", "base-mlp", Architecture::Mlp),
    known("resnet18", "resnet18", Architecture::Resnet18),
    known("resnet152", "resnet152", Architecture::Resnet152),
    known("vgg11", "vgg11", Architecture::Vgg11),
    known("lenet", "lenet5", Architecture::Lenet5),
    known("lenet5", "lenet5", Architecture::Lenet5),
    known("mlp", "mlp", Architecture::Mlp),
];

pub(crate) const LOSSES: &[Known<LossKind>] = &[
    known("torch.nn.MSELoss", "mse", LossKind::Mse),
    known("mse", "mse", LossKind::Mse),
    known("torch.nn.SmoothL1Loss", "smooth-l1", LossKind::SmoothL1),
    known("smooth-l1", "smooth-l1", LossKind::SmoothL1),
    known("torch.nn.CosineEmbeddingLoss", "cosine", LossKind::Cosine),
    known("cosine", "cosine", LossKind::Cosine),
    known("torch.nn.CrossEntropyLoss", "cross-entropy", LossKind::CrossEntropy),
    known("cross-entropy", "cross-entropy", LossKind::CrossEntropy),
    known("loss.kldiv.KLDivLoss", "kl", LossKind::Kl),
    known("kl", "kl", LossKind::Kl),
];

pub(crate) const ENCODERS: &[Known<EncoderKind>] = &[
    known("coders.summation.AdditionEncoder", "sum", EncoderKind::Sum),
    known("add", "sum", EncoderKind::Sum),
    known("sum", "sum", EncoderKind::Sum),
    known("coders.image.ConcatenationEncoder", "concat", EncoderKind::Concat),
    known("concat", "concat", EncoderKind::Concat),
    known("coders.mlp.MLPEncoder", "mlp", EncoderKind::Mlp),
    known("mlp", "mlp", EncoderKind::Mlp),
    known("coders.conv.ConvEncoder", "conv", EncoderKind::Conv),
    known("conv", "conv", EncoderKind::Conv),
];

pub(crate) const DECODERS: &[Known<DecoderKind>] = &[
    known("coders.summation.SubtractionDecoder", "linear", DecoderKind::Linear),
    known("sub", "linear", DecoderKind::Linear),
    known("linear", "linear", DecoderKind::Linear),
    known("coders.mlp.MLPDecoder", "mlp", DecoderKind::Mlp),
    known("mlp", "mlp", DecoderKind::Mlp),
];

/// The meaning of a name under a key.
pub(crate) fn find<T: Copy>(key: &str, name: &str, all: &[Known<T>]) -> Result<Known<T>> {
    let names: Vec<_> = all.iter().map(|known| known.name).collect();
    all.iter()
        .find(|known| known.name == name)
        .copied()
        .ok_or_else(|| anyhow!("{key}: found '{name}', expected one of {}", names.join(", ")))
}
