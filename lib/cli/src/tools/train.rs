//! `parm-train`: data to models and codes.

mod sweep;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parm::Activation;

use crate::input::Input;
use crate::options::{CodeOptions, Common, Compute, ModelOptions, ReadOptions, TimingsOption};
use crate::output::Target;

pub use sweep::Sweep;

/// Train and export deployed models and parity models
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-train", version, max_term_width = 100, subcommand_required = true)]
pub struct Train {
    /// What to do.
    #[command(subcommand)]
    pub what: What,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Train, "parm-train");

/// What `parm-train` does.
#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Train a deployed model: a classifier of the rows
    Base(Base),
    /// Train the parity models of a code for a deployed model
    ///
    /// Groups of k rows are drawn anew each epoch; parity model j learns to answer the parity query
    /// Σ w_ji X_i with Σ w_ji F(X_i), the sum of the deployed model's predictions.
    Parity(Parity),
    /// Train the learned coders of a code, and what they work with
    ///
    /// Encoder, parity models and decoder learn together, those of them that are networks: to rebuild
    /// the deployed model's predictions under every loss of up to r of them.
    Coders(Coders),
    /// Make a code directory of models that were trained elsewhere
    ///
    /// The models are copied into it, and its code.json says what they are for. All tools then take it as
    /// they take what 'parity' and 'coders' write.
    Adopt(Adopt),
    /// Train and score all codes of a configuration
    ///
    /// Every combination of its data sets, models, values of k, losses and pairs of an encoder and a
    /// decoder is a run. The scores on the test rows come at the end, as a table.
    Sweep(Box<Sweep>),
    /// Write a model as TorchScript, alone or in a model repository of Triton
    ///
    /// The program has a method forward that answers f4 queries [rows, …], any number of them.
    Export(Export),
}

/// `parm-train export`
#[derive(Args, Clone, Debug)]
pub struct Export {
    /// The model: safetensors of parm-train, or a state dict that was saved from PyTorch
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// The shape of a query, for a model that does not say it
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub query_shape: Option<Vec<usize>>,

    /// The activation of an MLP whose file does not say it: relu, gelu, tanh, sigmoid, silu or leaky-relu
    #[arg(long, value_name = "NAME")]
    pub activation: Option<Activation>,

    /// Where to write the TorchScript
    #[arg(
        short,
        long,
        value_name = "MODEL.pt",
        required_unless_present = "triton",
        conflicts_with = "triton",
        help_heading = "Streams"
    )]
    pub output: Option<Target>,

    /// The model repository of Triton to write to: DIR/NAME/config.pbtxt and DIR/NAME/1/model.pt
    #[arg(long, value_name = "DIR", help_heading = "Triton")]
    pub triton: Option<PathBuf>,

    /// The name of the model there [default: that of the file]
    #[arg(long, value_name = "NAME", conflicts_with = "output", help_heading = "Triton")]
    pub name: Option<String>,

    /// What runs the model there
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "libtorch",
        conflicts_with = "output",
        help_heading = "Triton"
    )]
    pub backend: Backend,

    /// The most queries that Triton may give the model at once
    #[arg(
        long,
        value_name = "N",
        default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)),
        conflicts_with = "output",
        help_heading = "Triton"
    )]
    pub max_batch: u32,
}

/// What runs an exported model in Triton.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Triton's own PyTorch backend
    #[default]
    Libtorch,
    /// Triton's Python backend, whose Python must have PyTorch
    Python,
}

/// The kind of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// Linear layers with an activation between them: the deployed model's, else ReLU
    Mlp,
    /// LeNet-5, as for Speech Commands
    Lenet5,
    /// VGG-11 with batch normalisation, as for Speech Commands
    Vgg11,
    /// ResNet-18
    Resnet18,
    /// ResNet-152
    Resnet152,
}

/// `parm-train base`
#[derive(Args, Clone, Debug)]
pub struct Base {
    /// The rows to learn from
    #[arg(long, value_name = "DATA.npy")]
    pub data: Input,

    /// Their labels [N], integers from 0
    #[arg(long, value_name = "LABELS.npy", required_unless_present = "boxes", conflicts_with = "boxes")]
    pub labels: Option<Input>,

    /// Their boxes [N, 4], corner, width and height: the model then predicts these
    #[arg(long, value_name = "BOXES.npy")]
    pub boxes: Option<Input>,

    /// The kind of network
    ///
    /// All but an MLP take images: rows [height, width] or [channels, height, width]. ResNets have three
    /// stages for images below 32×32, and ImageNet's first layers for those of 64×64 and more.
    #[arg(short, long, value_name = "KIND", default_value = "mlp")]
    pub model: Architecture,

    /// Widths of an MLP's hidden layers [default: 200,100]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub hidden: Option<Vec<u32>>,

    /// Where to write the model; checkpoints and metrics go to a folder beside it
    ///
    /// Beside MODEL.safetensors stands MODEL.run/ with checkpoint.safetensors (the newest epoch),
    /// best.safetensors and metrics.jsonl.
    #[arg(short, long, value_name = "MODEL.safetensors", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub recipe: Recipe,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: TimingsOption,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,
}

/// What a code is trained on.
#[derive(Args, Clone, Debug)]
pub struct Teaching {
    /// The deployed model: safetensors or TorchScript
    #[arg(long, value_name = "MODEL", required_unless_present = "targets", conflicts_with = "targets")]
    pub base: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub model_options: ModelOptions,

    /// Recorded predictions of the rows, in place of the deployed model
    #[arg(long, value_name = "PREDICTIONS.npy")]
    pub targets: Option<Input>,

    /// The rows to learn from
    #[arg(long, value_name = "DATA.npy")]
    pub data: Input,

    /// Their labels [N]; the scores A_a and A_d need them, and the cross-entropy
    #[arg(long, value_name = "LABELS.npy", conflicts_with = "boxes")]
    pub labels: Option<Input>,

    /// Their boxes [N, 4], if the deployed model predicts these: for the scores
    #[arg(long, value_name = "BOXES.npy")]
    pub boxes: Option<Input>,
}

/// `parm-train parity`
#[derive(Args, Clone, Debug)]
pub struct Parity {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub teaching: Teaching,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub code: CodeOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub network: ParityNetwork,

    /// The code directory to write; code.json comes last
    ///
    /// DIR/run/parity-J/ holds checkpoint.safetensors (the newest epoch), best.safetensors and
    /// metrics.jsonl of parity J.
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub objective: Objective,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub recipe: Recipe,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: TimingsOption,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,
}

/// `parm-train coders`
#[derive(Args, Clone, Debug)]
pub struct Coders {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub teaching: Teaching,

    /// Queries of a coding group
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Code")]
    pub k: u32,

    /// Parity queries of a coding group
    #[arg(
        short,
        value_name = "R",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=4096),
        help_heading = "Code"
    )]
    pub r: u32,

    /// What makes the parity queries
    #[arg(long, value_name = "KIND", default_value = "mlp", help_heading = "Code")]
    pub encoder: EncoderKind,

    /// What answers the parity queries
    #[arg(long, value_name = "WHICH", default_value = "deployed", help_heading = "Code")]
    pub runs_on: RunsOn,

    /// What rebuilds predictions
    #[arg(long, value_name = "KIND", default_value = "mlp", help_heading = "Code")]
    pub decoder: DecoderKind,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub network: ParityNetwork,

    /// The code directory to write; code.json comes last
    ///
    /// DIR/run/ holds checkpoint.safetensors (the newest epoch), the best networks and metrics.jsonl.
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub objective: Objective,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub recipe: Recipe,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: TimingsOption,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: ReadOptions,
}

/// `parm-train adopt`
#[derive(Args, Clone, Debug)]
pub struct Adopt {
    /// What makes the parity queries; with 'learned' it is the model --encoder
    #[arg(long, value_name = "NAME", help_heading = "Code")]
    pub code: Adopted,

    /// Queries of a coding group
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Code")]
    pub k: u32,

    /// Parity queries of a coding group [default: as many as there are --parity models, or 1]
    #[arg(short, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Code")]
    pub r: Option<u32>,

    /// A file of weights [r, k] in place of the default (i+1)^j of parity j, slot i
    #[arg(long, value_name = "W.npy", help_heading = "Code")]
    pub weights: Option<PathBuf>,

    /// The parity model, in the order of the parities; repeated
    ///
    /// Without any, the deployed model answers the parity queries, and an encoder or a decoder is needed.
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub parity: Vec<PathBuf>,

    /// The model that makes the parity queries [B, r, …] of the queries [B, k, …]
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub encoder: Option<PathBuf>,

    /// The model that rebuilds predictions: of [B, k+r, …] with zeros for what is missing to [B, k, …]
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub decoder: Option<PathBuf>,

    /// The deployed model that they were trained for; tools then refuse another one
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub base: Option<PathBuf>,

    /// The shape of a query, for models that do not say it; tools then refuse others
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Parts")]
    pub query_shape: Option<Vec<usize>>,

    /// The code directory to write; code.json comes last
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// Take the place of a code that is there already, and remove parts of it that the new one has not
    #[arg(long)]
    pub force: bool,
}

/// The code of models that were trained elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Adopted {
    /// Weighted sums
    Sum,
    /// One image of k smaller ones
    Concat,
    /// What a model makes
    Learned,
}

/// What makes parity queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncoderKind {
    /// Weighted sums
    Sum,
    /// One image of k smaller ones
    Concat,
    /// An MLP of two layers, as wide as the group
    Mlp,
    /// Seven convolutions, dilated, whose channels are the slots
    Conv,
}

/// What rebuilds predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecoderKind {
    /// The linear equations of sums
    Linear,
    /// An MLP of three layers
    Mlp,
}

/// What answers parity queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunsOn {
    /// The deployed model, as it is
    Deployed,
    /// Parity models, that learn too
    Parity,
}

/// What parity models are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Parity models")]
pub struct ParityNetwork {
    /// The kind of network of a parity model [default: the deployed model's, else mlp]
    #[arg(short, long, value_name = "KIND")]
    pub model: Option<Architecture>,

    /// Widths of an MLP's hidden layers [default: the deployed model's, else 200,100]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub hidden: Option<Vec<u32>>,

    /// Make the hidden layers of an MLP W times as wide
    #[arg(long, value_name = "W", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub parity_width: u32,

    /// Weights to begin with [default: auto; with --recipe paper: random]
    #[arg(long, value_name = "HOW")]
    pub init: Option<Init>,
}

/// What training makes small.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Loss")]
pub struct Objective {
    /// The loss [default: kl; of boxes smooth-l1; with --recipe paper: mse]
    #[arg(long, value_name = "WHICH")]
    pub loss: Option<LossKind>,

    /// What the loss compares [default: reconstructions; with --recipe paper and --decoder linear:
    /// sums]
    #[arg(long, value_name = "WHAT")]
    pub compare: Option<Comparison>,

    /// The temperature of kl
    #[arg(long, value_name = "T", default_value = "3", value_parser = positive)]
    pub temperature: f64,
}

/// A loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LossKind {
    /// The mean squared error
    Mse,
    /// The absolute error, squared below 1
    SmoothL1,
    /// The divergence between softmax outputs at a temperature
    Kl,
    /// The cross-entropy against the labels
    CrossEntropy,
}

/// What a loss compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Comparison {
    /// Parity outputs with the weighted sums of predictions (cross-entropy: with the shares of labels)
    Sums,
    /// What is rebuilt with what was lost, under every loss of up to r predictions
    Reconstructions,
}

/// Weights that a parity model begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Init {
    /// The deployed model's if it is of the same kind and size, or an MLP made wider; else random ones
    #[default]
    Auto,
    /// Random ones
    Random,
    /// The deployed model's
    Base,
}

/// How networks compute while they learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// With f32
    #[default]
    F32,
    /// Linear layers and convolutions with bf16
    Mixed,
}

/// How the learning rate goes over the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// It stays
    Constant,
    /// It falls to 0 along half a cosine
    Cosine,
}

/// Whose recipe to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// This project's
    #[default]
    Parm,
    /// The papers'
    Paper,
}

/// How to train.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Recipe")]
pub struct Recipe {
    /// Whose recipe to follow where options leave it open
    ///
    /// 'paper' is that of the papers: 50 epochs in minibatches of 64 rows or, of groups of more than two, 32,
    /// at the constant rate 0.001, with a decay of 0.00001. 'parm' is better and faster: the rate falls along a cosine; base models have 20
    /// epochs in minibatches of 64 from the rate 0.001 with a decay of 0.00001, parity models 100 epochs
    /// of 256 groups from 0.005, coders 30 of 64 from 0.001, both without decay.
    #[arg(long, value_name = "WHOSE", default_value = "parm")]
    pub recipe: Whose,

    /// Passes over the rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: Option<u32>,

    /// Rows (base) or groups (parity, coders) of a minibatch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,

    /// The learning rate of Adam
    #[arg(long, value_name = "X", value_parser = positive)]
    pub lr: Option<f64>,

    /// The weight decay of Adam, added to the gradient
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub weight_decay: Option<f64>,

    /// How the learning rate goes over the epochs
    #[arg(long, value_name = "HOW")]
    pub schedule: Option<Schedule>,

    /// Change images by chance in each epoch: shift=N, flip, shift=N,flip, or none
    ///
    /// shift=N moves an image by up to N pixels along each axis, where zeros come in; flip mirrors every
    /// other image, left for right. What the deployed model predicts of an image stays what it predicts of
    /// the one that was given. The default is none, and that of the data set in sweeps by --recipe paper.
    #[arg(long, value_name = "HOW,…", value_delimiter = ',', value_parser = augmentation)]
    pub augment: Vec<Augmentation>,

    /// How networks compute while they learn
    ///
    /// Weights, Adam's state and what is validated are f32 in any case. GPUs are faster with 'mixed',
    /// most CPUs are slower.
    #[arg(long, value_name = "HOW", default_value = "f32")]
    pub precision: Precision,

    /// Rows kept for validation: a number, or a fraction below 1
    ///
    /// They are drawn from all rows by the seed, of each class its share where there are labels. With 'tail:'
    /// before the number, as by --recipe paper, they are the last rows: only for rows in random order.
    #[arg(long, value_name = "[tail:]N|F", default_value = "0.1")]
    pub validation: ValidationOption,

    /// The seed of initial weights and of the order of rows
    ///
    /// On one CPU thread of one machine, the same seed gives the same bytes.
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// Epochs between checkpoints
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoint_cycle: u32,

    /// Go on from the newest checkpoint, if there is one
    ///
    /// SIGINT and SIGTERM save a checkpoint before they end the program; a second one ends it at once.
    #[arg(long)]
    pub resume: bool,

    /// Begin anew in the place of a training that is there already
    ///
    /// Without this and --resume, it is an error if there is one. Parts of it that the new code has not are
    /// removed.
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
}

/// The rows that are kept for validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidationOption {
    /// How many they are.
    pub share: Share,
    /// Whether they are the last rows.
    pub tail: bool,
}

/// Some of all rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many.
    Rows(usize),
    /// This fraction, below 1.
    Fraction(f64),
}

impl Share {
    /// How many they are of so many rows.
    #[must_use]
    pub fn of(self, rows: usize) -> usize {
        match self {
            Self::Rows(count) => count,
            Self::Fraction(fraction) => (fraction * rows as f64).floor() as usize,
        }
    }
}

impl FromStr for ValidationOption {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (amount, tail) = text.strip_prefix("tail:").map_or((text, false), |amount| (amount, true));
        let share = match (amount.parse(), amount.parse()) {
            (Ok(rows), _) => Share::Rows(rows),
            (_, Ok(fraction)) if (0.0..1.0).contains(&fraction) => Share::Fraction(fraction),
            _ => return Err("expected whole rows, or a fraction from 0 to below 1"),
        };
        Ok(Self { share, tail })
    }
}

impl fmt::Display for ValidationOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tail { "tail:" } else { "" })?;
        match self.share {
            Share::Rows(rows) => write!(f, "{rows}"),
            Share::Fraction(fraction) => write!(f, "{fraction}"),
        }
    }
}

/// A way in which images are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augmentation {
    /// Not at all.
    None,
    /// Moved by up to so many pixels.
    Shift(u32),
    /// Mirrored.
    Flip,
}

fn augmentation(text: &str) -> Result<Augmentation, String> {
    match (text, text.strip_prefix("shift=").map(str::parse)) {
        ("none", _) => Ok(Augmentation::None),
        ("flip", _) => Ok(Augmentation::Flip),
        (_, Some(Ok(pixels))) => Ok(Augmentation::Shift(pixels)),
        _ => Err("expected none, flip, or shift=N with a number of pixels".into()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| "expected a number".into())
}

fn positive(text: &str) -> Result<f64, String> {
    number(text)
        .and_then(|value| if value > 0.0 { Ok(value) } else { Err("expected a number above 0".into()) })
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text).and_then(|value| if value >= 0.0 { Ok(value) } else { Err("expected 0 or more".into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_for_validation_are_a_count_or_a_fraction() {
        let parse = |text: &str| text.parse::<ValidationOption>();
        for (text, share, tail, of_ten) in [
            ("3", Share::Rows(3), false, 3),
            ("1", Share::Rows(1), false, 1),
            ("0.25", Share::Fraction(0.25), false, 2),
            ("tail:0.5", Share::Fraction(0.5), true, 5),
            ("tail:0", Share::Rows(0), true, 0),
        ] {
            let option = ValidationOption { share, tail };
            assert_eq!((parse(text), option.to_string().as_str()), (Ok(option), text));
            assert_eq!(share.of(10), of_ten);
        }
        for text in ["1.0", "2.5", "-1", "", "tail:", "head:3", "NaN", "inf"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
