//! The names that configurations may use: the reference implementation's.

use anyhow::{Result, anyhow};
use parm::Task;
use parm_cli::tools::train::{Architecture, Augmentation, DecoderKind, EncoderKind, LossKind};

/// A name of a configuration, and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known<T: 'static> {
    /// The name in the configuration.
    pub(crate) name: &'static str,
    /// The name in this project.
    pub(crate) short: &'static str,
    pub(crate) meaning: T,
}

/// A data set: the names of its files, and its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) rows: &'static str,
    /// What models for it predict, unless the configuration says something else.
    pub(crate) task: Task,
    /// The augmentation of the reference implementation, as far as it is supported.
    pub(crate) augment: &'static [Augmentation],
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
];

pub(crate) const LOSSES: &[Known<LossKind>] = &[
    known("torch.nn.MSELoss", "mse", LossKind::Mse),
    known("mse", "mse", LossKind::Mse),
    known("torch.nn.SmoothL1Loss", "smooth-l1", LossKind::SmoothL1),
    known("torch.nn.CosineEmbeddingLoss", "cosine", LossKind::Cosine),
    known("cosine", "cosine", LossKind::Cosine),
    known("torch.nn.CrossEntropyLoss", "cross-entropy", LossKind::CrossEntropy),
    known("loss.kldiv.KLDivLoss", "kl", LossKind::Kl),
];

pub(crate) const ENCODERS: &[Known<EncoderKind>] = &[
    known("coders.summation.AdditionEncoder", "sum", EncoderKind::Sum),
    known("add", "sum", EncoderKind::Sum),
    known("coders.image.ConcatenationEncoder", "concat", EncoderKind::Concat),
    known("coders.mlp.MLPEncoder", "mlp", EncoderKind::Mlp),
    known("coders.conv.ConvEncoder", "conv", EncoderKind::Conv),
];

pub(crate) const DECODERS: &[Known<DecoderKind>] = &[
    known("coders.summation.SubtractionDecoder", "linear", DecoderKind::Linear),
    known("sub", "linear", DecoderKind::Linear),
    known("coders.mlp.MLPDecoder", "mlp", DecoderKind::Mlp),
];

/// The meaning of a name under a key.
pub(crate) fn find<T: Copy>(key: &str, name: &str, all: &[Known<T>]) -> Result<Known<T>> {
    let names: Vec<_> = all.iter().map(|known| known.name).collect();
    all.iter()
        .find(|known| known.name == name)
        .copied()
        .ok_or_else(|| anyhow!("{key}: found '{name}', expected one of {}", names.join(", ")))
}
