//! `parm-train`: data to models and codes.

mod sweep;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parm::codes::CodeName;

use crate::input::Input;
use crate::options::{
    CodeOptions, Common, Compute, CurveOptions, ModelOptions, PartOptions, ReadOptions, TaskOption,
    TimingsOption, code_name,
};
use crate::output::Target;
use crate::value::{ValueError, expected, not_negative, positive};

pub use sweep::Sweep;

/// Train deployed models, parity models and learned codes, and export them
#[derive(Parser, Clone, Debug)]
#[command(name = Train::NAME, version, max_term_width = 100, subcommand_required = true)]
pub struct Train {
    /// What to do.
    #[command(subcommand)]
    pub what: What,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Train, "parm-train", "parm-train-sweep");

/// What `parm-train` does.
#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Train a deployed model: a classifier, or a model that predicts values or boxes
    Base(Base),
    /// Train the parity models of a code for a deployed model
    ///
    /// New random groups of k rows are formed in each epoch. Parity model j learns to answer the parity query
    /// Σ w_ji X_i with Σ w_ji F(X_i), the sum of the deployed model's predictions.
    Parity(Parity),
    /// Train a learned encoder and decoder, and parity models
    ///
    /// The networks among encoder, parity models and decoder are trained together, to rebuild
    /// the deployed model's predictions under every loss of up to r of them.
    Coders(Coders),
    /// Train a deployed model together with its code
    ///
    /// Both learn at once: the deployed model to predict the truth, and all parts of the code to rebuild its
    /// predictions. Reconstructions are then better than those of a deployed model that stays as it is, at some
    /// cost in its own accuracy, which --weight trades.
    Joint(Box<Joint>),
    /// Make a code directory from models that were trained elsewhere
    ///
    /// The models are copied into it, and its code.json describes them. All tools accept it like the
    /// directories of 'parity' and 'coders'.
    Adopt(Adopt),
    /// Train and score all codes of a configuration
    ///
    /// Every combination of its data sets, models, values of k, losses and pairs of an encoder and a
    /// decoder is a run. At the end, a table has the scores on the test rows.
    Sweep(Box<Sweep>),
    /// Write a model for other programs, alone or in a model repository of Triton
    ///
    /// A native model becomes TorchScript, whose method forward takes f4 queries [rows, …] with any number of
    /// rows. An exported program stays one (.pt2), and TorchScript stays TorchScript.
    Export(Export),
}

/// `parm-train export`
#[derive(Args, Clone, Debug)]
pub struct Export {
    /// The model: safetensors of parm-train, a state dict, an exported program (.pt2) or TorchScript
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// The shape of a query, if the model does not contain it
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub query_shape: Option<Vec<usize>>,

    #[command(flatten)]
    pub model_options: ModelOptions,

    #[command(flatten)]
    pub part: PartOptions,

    /// Where to write the model
    #[arg(
        short,
        long,
        value_name = "MODEL",
        required_unless_present = "triton",
        conflicts_with = "triton",
        help_heading = "Streams"
    )]
    pub output: Option<Target>,

    /// The model repository of Triton to write to: DIR/NAME/config.pbtxt and DIR/NAME/1/model.pt (or .pt2)
    #[arg(long, value_name = "DIR", help_heading = "Triton")]
    pub triton: Option<PathBuf>,

    /// The name of the model in Triton [default: that of the file]
    #[arg(long, value_name = "NAME", conflicts_with = "output", help_heading = "Triton")]
    pub name: Option<String>,

    /// The backend of Triton that runs the model [default: libtorch; python for an exported program]
    #[arg(long, value_name = "WHICH", conflicts_with = "output", help_heading = "Triton")]
    pub backend: Option<Backend>,

    /// The most queries of a batch in Triton
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Triton's own PyTorch backend, which runs TorchScript alone
    Libtorch,
    /// Triton's Python backend, whose Python must have PyTorch
    Python,
}

/// The kind of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// Linear layers with an activation between them: that of the deployed model, otherwise ReLU
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
    /// The training rows
    #[arg(long, value_name = "DATA.npy")]
    pub data: Input,

    /// Their labels [N], integers from 0
    #[arg(long, value_name = "LABELS.npy", conflicts_with = "boxes")]
    pub labels: Option<Input>,

    /// Their boxes [N, 4], corner, width and height; the model then predicts boxes
    #[arg(long, value_name = "BOXES.npy")]
    pub boxes: Option<Input>,

    /// Their values [N] or [N, d]; the model then predicts values
    #[arg(long, value_name = "VALUES.npy", conflicts_with_all = ["labels", "boxes"])]
    pub values: Option<Input>,

    #[command(flatten)]
    pub task: TaskOption,

    /// The loss of values and boxes: mse or smooth-l1 [default: smooth-l1]
    #[arg(long, value_name = "WHICH")]
    pub loss: Option<LossKind>,

    /// The kind of network
    ///
    /// All but an MLP take images: rows [height, width] or [channels, height, width]. ResNets have three
    /// stages for images below 32×32, and ImageNet's first layers for images from 64×64.
    #[arg(short, long, value_name = "KIND", default_value = "mlp")]
    pub model: Architecture,

    /// Widths of an MLP's hidden layers [default: 200,100]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub hidden: Option<Vec<u32>>,

    /// Where to write the model; checkpoints and metrics go to a folder beside it
    ///
    /// The folder of MODEL.safetensors is MODEL.run/, with checkpoint.safetensors (the newest epoch),
    /// best.safetensors and metrics.jsonl.
    #[arg(short, long, value_name = "MODEL.safetensors", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    pub recipe: Recipe,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub timings: TimingsOption,

    #[command(flatten)]
    pub read: ReadOptions,
}

/// What a code is trained on.
#[derive(Args, Clone, Debug)]
pub struct Teaching {
    /// The deployed model, of any kind: see parm-models(7)
    #[arg(long, value_name = "MODEL", required_unless_present = "targets", conflicts_with = "targets")]
    pub base: Option<PathBuf>,

    #[command(flatten)]
    pub model_options: ModelOptions,

    /// Recorded predictions of the rows, instead of the deployed model
    #[arg(long, value_name = "PREDICTIONS.npy")]
    pub targets: Option<Input>,

    /// The training rows
    #[arg(long, value_name = "DATA.npy")]
    pub data: Input,

    /// Their labels [N], for the scores A_a and A_d, and for the cross-entropy
    #[arg(long, value_name = "LABELS.npy", conflicts_with = "boxes")]
    pub labels: Option<Input>,

    /// Their boxes [N, 4], for the scores, if the deployed model predicts boxes
    #[arg(long, value_name = "BOXES.npy")]
    pub boxes: Option<Input>,

    /// Their values [N] or [N, d], for the scores, if the deployed model predicts values
    #[arg(long, value_name = "VALUES.npy", conflicts_with_all = ["labels", "boxes"])]
    pub values: Option<Input>,

    #[command(flatten)]
    pub task: TaskOption,
}

/// `parm-train parity`
#[derive(Args, Clone, Debug)]
pub struct Parity {
    #[command(flatten)]
    pub teaching: Teaching,

    #[command(flatten)]
    pub code: CodeOptions,

    #[command(flatten)]
    pub network: ParityNetwork,

    /// The code directory to write; code.json is written last
    ///
    /// DIR/run/parity-J/ has checkpoint.safetensors (the newest epoch), best.safetensors and
    /// metrics.jsonl of parity J.
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    pub objective: Objective,

    #[command(flatten)]
    pub recipe: Recipe,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub timings: TimingsOption,

    #[command(flatten)]
    pub read: ReadOptions,
}

/// `parm-train coders`
#[derive(Args, Clone, Debug)]
pub struct Coders {
    #[command(flatten)]
    pub teaching: Teaching,

    /// Queries of a coding group
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Code")]
    pub k: u32,

    /// Parity queries of a coding group
    #[arg(
        short,
        value_name = "R",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Code"
    )]
    pub r: u32,

    /// The encoder, which makes the parity queries
    #[arg(long, value_name = "KIND", default_value = "mlp", help_heading = "Code")]
    pub encoder: EncoderKind,

    /// The model that answers the parity queries
    #[arg(long, value_name = "WHICH", default_value = "deployed", help_heading = "Code")]
    pub runs_on: RunsOn,

    /// The decoder, which rebuilds predictions
    #[arg(long, value_name = "KIND", default_value = "mlp", help_heading = "Code")]
    pub decoder: DecoderKind,

    #[command(flatten)]
    pub network: ParityNetwork,

    /// The code directory to write; code.json is written last
    ///
    /// DIR/run/ has checkpoint.safetensors (the newest epoch), the best networks and metrics.jsonl.
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    #[command(flatten)]
    pub objective: Objective,

    #[command(flatten)]
    pub recipe: Recipe,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub timings: TimingsOption,

    #[command(flatten)]
    pub read: ReadOptions,
}

/// `parm-train joint`
#[derive(Args, Clone, Debug)]
pub struct Joint {
    /// The deployed model to begin with: a trained one of any kind, or a kind of network with random weights
    ///
    /// The kinds are those of 'parm-train base', and the name of a file has a dot or a slash. See parm-models(7)
    /// for what can be trained.
    #[arg(long, value_name = "KIND|FILE", default_value = "mlp")]
    pub base: ParityModel,

    #[command(flatten)]
    pub model_options: ModelOptions,

    /// The training rows
    #[arg(long, value_name = "DATA.npy")]
    pub data: Input,

    /// Their labels [N], integers from 0
    #[arg(long, value_name = "LABELS.npy", conflicts_with = "boxes")]
    pub labels: Option<Input>,

    /// Their boxes [N, 4], corner, width and height; the deployed model then predicts boxes
    #[arg(long, value_name = "BOXES.npy")]
    pub boxes: Option<Input>,

    /// Their values [N] or [N, d]; the deployed model then predicts values
    #[arg(long, value_name = "VALUES.npy", conflicts_with_all = ["labels", "boxes"])]
    pub values: Option<Input>,

    #[command(flatten)]
    pub task: TaskOption,

    /// The code
    #[arg(
        long,
        value_name = "NAME",
        value_parser = code_name(CodeName::in_directories()),
        help_heading = "Code"
    )]
    pub code: CodeName,

    /// Queries of a coding group
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Code")]
    pub k: u32,

    /// Parity queries of a coding group [default: 1]
    #[arg(short, value_name = "R", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Code")]
    pub r: Option<u32>,

    /// A file of weights [r, k] in place of the default, (i+1)^j for parity j and slot i
    #[arg(long, value_name = "W.npy", help_heading = "Code")]
    pub weights: Option<PathBuf>,

    /// The encoder of the code 'learned' [default: mlp]
    #[arg(long, value_name = "KIND", help_heading = "Code")]
    pub encoder: Option<LearnedEncoder>,

    /// The decoder [default: linear; of the code 'learned': mlp]
    #[arg(long, value_name = "KIND", help_heading = "Code")]
    pub decoder: Option<DecoderKind>,

    /// The model that answers the coded queries [default: parity; of the code 'learned' and of interpolating ones:
    /// deployed]
    #[arg(long, value_name = "WHICH", help_heading = "Code")]
    pub runs_on: Option<RunsOn>,

    #[command(flatten)]
    pub curve: CurveOptions,

    #[command(flatten)]
    pub network: ParityNetwork,

    /// The code directory to write, with the deployed model in it; code.json is written last
    ///
    /// DIR/run/ has checkpoint.safetensors (the newest epoch), the best models and metrics.jsonl.
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// The weight of the loss of what is rebuilt, beside the deployed model's own loss [default: 1/(k-1); of
    /// interpolating codes 1]
    ///
    /// The more, the better reconstructions are, and the worse the deployed model is.
    #[arg(long, value_name = "X", value_parser = positive, help_heading = "Loss")]
    pub weight: Option<f64>,

    #[command(flatten)]
    pub objective: Objective,

    #[command(flatten)]
    pub recipe: Recipe,

    #[command(flatten)]
    pub compute: Compute,

    #[command(flatten)]
    pub timings: TimingsOption,

    #[command(flatten)]
    pub read: ReadOptions,
}

/// A network that makes coded queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LearnedEncoder {
    /// An MLP of two layers, as wide as the group
    Mlp,
    /// Seven dilated convolutions, whose channels are the slots
    Conv,
}

/// `parm-train adopt`
#[derive(Args, Clone, Debug)]
pub struct Adopt {
    /// The code; with 'learned' the encoder is the model of --encoder
    #[arg(long, value_name = "NAME", value_parser = code_name(CodeName::trained()), help_heading = "Code")]
    pub code: CodeName,

    /// Queries of a coding group
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Code")]
    pub k: u32,

    /// Parity queries of a coding group [default: as many as there are --parity models, or 1]
    #[arg(short, value_name = "R", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Code")]
    pub r: Option<u32>,

    /// A file of weights [r, k] in place of the default, (i+1)^j for parity j and slot i
    #[arg(long, value_name = "W.npy", help_heading = "Code")]
    pub weights: Option<PathBuf>,

    /// A parity model; repeated in the order of the parities
    ///
    /// Without parity models the deployed model answers the parity queries, and an encoder or a decoder is required.
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub parity: Vec<PathBuf>,

    /// The model from queries [B, k, …] to parity queries [B, r, …]
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub encoder: Option<PathBuf>,

    /// The model from answers [B, k+r, …], with zeros for missing ones, to predictions [B, k, …]
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub decoder: Option<PathBuf>,

    /// The deployed model that they were trained for; tools then refuse others
    #[arg(long, value_name = "MODEL", help_heading = "Parts")]
    pub base: Option<PathBuf>,

    /// The shape of a query, if the models do not contain it; tools then refuse others
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Parts")]
    pub query_shape: Option<Vec<usize>>,

    #[command(flatten)]
    pub model_options: ModelOptions,

    #[command(flatten)]
    pub task: TaskOption,

    /// The code directory to write; code.json is written last
    #[arg(short, long, value_name = "DIR", help_heading = "Streams")]
    pub output: PathBuf,

    /// Replace an existing code, and remove parts of it that the new one does not have
    #[arg(long)]
    pub force: bool,
}

/// What makes parity queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncoderKind {
    /// Weighted sums
    Sum,
    /// One image tiled from the k shrunk images
    Concat,
    /// An MLP of two layers, as wide as the group
    Mlp,
    /// Seven dilated convolutions, whose channels are the slots
    Conv,
}

impl EncoderKind {
    /// The code whose encoder it is.
    #[must_use]
    pub fn code(self) -> CodeName {
        match self {
            Self::Sum => CodeName::Sum,
            Self::Concat => CodeName::Concat,
            Self::Mlp | Self::Conv => CodeName::Learned,
        }
    }
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
    /// The deployed model, unchanged
    Deployed,
    /// Parity models, which are trained as well
    Parity,
}

/// What parity models are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Parity models")]
pub struct ParityNetwork {
    /// The parity model: a kind of network, or a file of a model to begin with [default: the deployed model]
    ///
    /// The kinds are those of 'parm-train base': mlp, lenet5, vgg11, resnet18 and resnet152. A file may be of
    /// any kind that can be trained; its name has a dot or a slash. By default a parity model has the layers and
    /// the weights of the deployed model; if that cannot be trained, or is not given, it is an mlp.
    #[arg(short, long, value_name = "KIND|FILE")]
    pub model: Option<ParityModel>,

    /// Widths of an MLP's hidden layers [default: those of the deployed model, otherwise 200,100]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub hidden: Option<Vec<u32>>,

    /// Make the hidden layers of an MLP W times as wide
    #[arg(long, value_name = "W", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub parity_width: u32,

    /// The initial weights [default: auto; with --recipe paper: random]
    ///
    /// Only native networks can begin with random weights; a model of another kind always begins with those of
    /// its file.
    #[arg(long, value_name = "HOW")]
    pub init: Option<Init>,

    /// Hold the parameters of these names, in which * stands for any text; may be repeated
    ///
    /// The names are those of PyTorch, such as features.0.weight or layer1.*; the parameters stay as they begin.
    #[arg(long, value_name = "PATTERN")]
    pub freeze: Vec<String>,

    /// Batch normalisation in training
    #[arg(long, value_name = "HOW", default_value = "train")]
    pub bn: Norm,
}

impl ParityNetwork {
    /// Whether they leave open what a parity model is: it then begins as the deployed model, if that can be trained.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.model.is_none() && self.hidden.is_none()
    }
}

/// Batch normalisation in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Norm {
    /// By the statistics of the minibatch, which also move the running ones
    #[default]
    Train,
    /// By the running statistics of the initial model, which stay the same
    Frozen,
}

/// What a parity model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParityModel {
    /// A native network.
    Kind(Architecture),
    /// The model of a file, whose weights it begins with.
    File(PathBuf),
}

impl FromStr for ParityModel {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Architecture::from_str(text, false) {
            Ok(kind) => Ok(Self::Kind(kind)),
            Err(_) if text.contains(['.', '/']) => Ok(Self::File(text.into())),
            Err(_) => {
                let kinds: Vec<String> = Architecture::value_variants()
                    .iter()
                    .filter_map(Architecture::to_possible_value)
                    .map(|kind| kind.get_name().to_owned())
                    .collect();
                Err(expected(format!("{}, or the file of a model", kinds.join(", "))))
            }
        }
    }
}

/// What training makes small.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Loss")]
pub struct Objective {
    /// The loss [default: kl; joint: cross-entropy; of values and boxes smooth-l1; of embeddings cosine; with --recipe
    /// paper: mse]
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
    /// One minus the cosine: for embeddings
    Cosine,
    /// The divergence between softmax outputs at a temperature
    Kl,
    /// The cross-entropy against the labels
    CrossEntropy,
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// What a loss compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Comparison {
    /// Parity outputs with the weighted sums of predictions (cross-entropy: of labels)
    Sums,
    /// Reconstructions with the lost predictions, under every loss of up to r predictions
    Reconstructions,
}

/// Weights that a parity model begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Init {
    /// Those of the deployed model if it has the same kind and size, or is an MLP that is made wider; otherwise random ones
    #[default]
    Auto,
    /// Random ones
    Random,
    /// Those of the deployed model
    Base,
}

/// How networks compute while they learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// f32
    #[default]
    F32,
    /// bf16 in linear layers and convolutions
    Mixed,
}

/// How the learning rate goes over the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// Constant
    Constant,
    /// Decreasing to 0 along half a cosine
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
    /// The recipe, for everything that no option sets
    ///
    /// 'paper' is that of the papers: 50 epochs in minibatches of 64 rows (32 for groups of more than two), at
    /// the constant rate 0.001, with a decay of 0.00001. 'parm' is better and faster: the rate decreases along
    /// a cosine. Base models have 20 epochs in minibatches of 64 from the rate 0.001 with a decay of 0.00001,
    /// parity models 100 epochs in minibatches of 256 groups from 0.005, coders 30 epochs of 64 from 0.001,
    /// both without decay. Parity models with other layers than linear ones (convolutions, attention) have a
    /// warm-up of one epoch and gradients clipped to the norm 1, and with more than a million parameters begin at
    /// 0.001. Joint trainings have 100 epochs in minibatches of 512 rows from 0.003 (0.001), always with that
    /// warm-up and clipping.
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

    /// Epochs, also a fraction, in which the learning rate rises linearly from 0; 0: none
    ///
    /// A run that is resumed keeps its own rate, warm-up, clipping and average where no option sets them.
    #[arg(long, value_name = "EPOCHS", value_parser = not_negative)]
    pub warm_up: Option<f64>,

    /// The largest norm of the gradient of all parameters; longer gradients are shortened; 0: any
    #[arg(long, value_name = "NORM", value_parser = not_negative)]
    pub clip: Option<f64>,

    /// Keep a moving average of the weights with this decay, below 1, in place of the weights; 0: do not
    ///
    /// It is the average that is validated and written.
    #[arg(long, value_name = "DECAY", value_parser = decay)]
    pub ema: Option<f64>,

    /// The weight decay of Adam, added to the gradient
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub weight_decay: Option<f64>,

    /// The learning rate over the epochs
    #[arg(long, value_name = "HOW")]
    pub schedule: Option<Schedule>,

    /// Change images at random in each epoch: shift=N, flip, shift=N,flip, or none
    ///
    /// shift=N shifts an image by up to N pixels along each axis and pads it with zeros; flip mirrors an image
    /// horizontally with the probability 1/2. The deployed model's predictions are always those of the original
    /// images. The default is none; in sweeps with --recipe paper it depends on the data set.
    #[arg(long, value_name = "HOW,…", value_delimiter = ',', value_parser = augmentation)]
    pub augment: Vec<Augmentation>,

    /// The precision of the training
    ///
    /// Weights, Adam's state and the validation always have f32. GPUs are faster with 'mixed',
    /// most CPUs are slower.
    #[arg(long, value_name = "HOW", default_value = "f32")]
    pub precision: Precision,

    /// Rows kept for validation: a number, or a fraction below 1
    ///
    /// They are chosen at random from all rows, by the seed, and with labels in proportion from each class.
    /// With 'tail:' before the number, as in --recipe paper, they are the last rows, for rows in random order
    /// only.
    #[arg(long, value_name = "[tail:]N|F", default_value = "0.1")]
    pub validation: ValidationOption,

    /// The seed of initial weights and of the order of rows
    ///
    /// On one CPU thread of one machine, the same seed gives the same bytes.
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// End the training after N epochs without a better score on the rows for validation
    ///
    /// The score is that of the task, as the agreement or the accuracy; a lower loss at the same score counts as no better.
    /// Without this option, all epochs are done.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: Option<u32>,

    /// Epochs between checkpoints
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoint_cycle: u32,

    /// Continue from the newest checkpoint, if there is one
    ///
    /// SIGINT and SIGTERM save a checkpoint and then end the program; a second signal ends it at once.
    #[arg(long)]
    pub resume: bool,

    /// Replace an existing training
    ///
    /// Without this option and --resume, an existing training is an error. Parts of it that the new code does
    /// not have are removed.
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

impl FromStr for Share {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.parse(), text.parse()) {
            (Ok(rows), _) => Ok(Self::Rows(rows)),
            (_, Ok(fraction)) if (0.0..1.0).contains(&fraction) => Ok(Self::Fraction(fraction)),
            _ => Err(expected("whole rows, or a fraction from 0 to below 1")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Fraction(fraction) => write!(f, "{fraction}"),
        }
    }
}

impl FromStr for ValidationOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (share, tail) = text.strip_prefix("tail:").map_or((text, false), |share| (share, true));
        Ok(Self { share: share.parse()?, tail })
    }
}

impl fmt::Display for ValidationOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tail { "tail:" } else { "" }, self.share)
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

fn decay(text: &str) -> Result<f64, ValueError> {
    let number = text.parse().ok().filter(|number| (0.0..1.0).contains(number));
    number.ok_or_else(|| expected("a number from 0 to below 1"))
}

fn augmentation(text: &str) -> Result<Augmentation, ValueError> {
    match (text, text.strip_prefix("shift=").map(str::parse)) {
        ("none", _) => Ok(Augmentation::None),
        ("flip", _) => Ok(Augmentation::Flip),
        (_, Some(Ok(pixels))) => Ok(Augmentation::Shift(pixels)),
        _ => Err(expected("none, flip, or shift=N with a number of pixels")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parity_model_is_a_kind_or_a_file() {
        let parse = |text: &str| text.parse::<ParityModel>();
        assert_eq!(parse("resnet18").unwrap(), ParityModel::Kind(Architecture::Resnet18));
        for file in ["m.pt", "./mlp", "models/m"] {
            assert_eq!(parse(file).unwrap(), ParityModel::File(file.into()));
        }
        let error = parse("resnet81").unwrap_err().to_string();
        assert!(error.contains("mlp, lenet5, vgg11, resnet18, resnet152, or the file of a model"), "{error}");
    }

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
