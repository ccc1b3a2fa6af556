//! A model of any kind: native, exported program or TorchScript.

use std::path::{Path, PathBuf};

use parm::npy::Array;
use parm::{Activation, Dtype};
use tch::{Kind, TchError, Tensor};

use crate::device::Device;
use crate::exported::{Batch, Program, ProgramError};
use crate::foreign::{self, Foreign, Format};
use crate::network::{CheckpointError, ExportError, Network};
use crate::numbers::Gathered;
use crate::script::{Script, ScriptError};
use crate::summary::{Port, Summary};
use crate::trainable::{Mode, Precision, Trainable};

/// A model that answers queries.
#[derive(Debug)]
pub enum Model {
    /// A native architecture.
    Native(Box<Network>),
    /// An exported program with its weights.
    Exported(Box<Program>),
    /// A TorchScript module with its weights.
    Script(Script),
}

/// The caller's choices where the file of a model leaves them open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// The activation of an MLP whose file does not name it.
    pub activation: Option<Activation>,
    /// The output of a model with several: a key, or the index in a tuple; none: the first.
    pub output: Option<String>,
    /// The input that is the query, of a model with several.
    pub input: Option<String>,
    /// Inputs that are the same for all queries, by name.
    pub constants: Vec<(String, Array)>,
    /// The node of an exported program whose value is the query; none: an input is.
    pub from: Option<String>,
    /// The node of an exported program whose value is the output; none: an output of the model is.
    pub to: Option<String>,
    /// Whether inputs that nobody chose may stay open: enough to describe a model, not to run it.
    pub open: bool,
}

/// The extensions of models' files, by kind.
pub const EXTENSIONS: [&str; 3] = ["safetensors", "pt2", "pt"];

/// The number up to which f4 represents all integers.
const MOST_WHOLE: f64 = 16_777_216.0;

/// Inputs that do not fit those of a model.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// No tensor goes in, or all that do are constants.
    #[error("found no input left, expected one for the query")]
    NoInput,
    /// Several inputs may be the query.
    #[error(
        "found the inputs {}, expected --input with the one that is the query, and --constant NAME=FILE for each \
         other one",
        .0.join(", ")
    )]
    Several(Vec<String>),
    /// The query is named, and other inputs have no value.
    #[error("found no value of {}, expected --constant NAME=FILE for each input but the query", .0.join(", "))]
    Valueless(Vec<String>),
    /// The query is also a constant.
    #[error("found --input and --constant of '{0}', expected one of them")]
    Both(String),
    /// An input of this name does not exist.
    #[error("found no input '{name}', expected one of {}", inputs.join(", "))]
    NoSuchInput {
        /// The name that was given.
        name: String,
        /// The inputs.
        inputs: Vec<String>,
    },
}

/// A model that cannot be loaded or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file that cannot be read, or that is not a native model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A model that is not trained, and so not written.
    #[error(transparent)]
    NotTrainable(#[from] NotTrainable),
    /// A file of another format.
    #[error("{}: found {found}, expected a model: safetensors, .pt2 or TorchScript; {hint}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format that was found.
        found: &'static str,
        /// How to convert it.
        hint: String,
    },
    /// A file that looks like TorchScript, but that libtorch cannot load.
    #[error("{}: found TorchScript that cannot be loaded ({message})", path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// libtorch's reason.
        message: String,
    },
    /// An exported program that cannot be used.
    #[error("{}: {error}", path.display())]
    Exported {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: Box<ProgramError>,
    },
    /// Inputs that do not fit those of the module.
    #[error("{}: {error}", path.display())]
    Inputs {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: InputsError,
    },
    /// Nodes are named, and the model has none.
    #[error("{}: found {found}, which has no nodes, expected an exported program (.pt2) for --from and --to", path.display())]
    NoNodes {
        /// The file.
        path: PathBuf,
        /// The kind of model.
        found: &'static str,
    },
    /// An input or output is named, but the model has only one.
    #[error("{}: found a model of one {what}, expected no {option} {name}", path.display())]
    OneOnly {
        /// The file.
        path: PathBuf,
        /// Input or output.
        what: &'static str,
        /// The option.
        option: &'static str,
        /// The name.
        name: String,
    },
}

/// A model that cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected a model that can be trained: {mend}")]
pub struct NotTrainable {
    /// The model, or what is in its way.
    pub found: String,
    /// What to do.
    pub mend: &'static str,
}

impl From<TchError> for NotTrainable {
    fn from(error: TchError) -> Self {
        let found = format!("an error of libtorch ({})", crate::one_line(&error.to_string()));
        Self { found, mend: "a copy of its numbers is needed" }
    }
}

impl Model {
    /// Loads a model with the default choices.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        Self::load_as(path, device, &Choices::default())
    }

    /// Loads a model, whose kind is read from the file.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    pub fn load_as(path: &Path, device: Device, choices: &Choices) -> Result<Self, ModelError> {
        let io = |error| CheckpointError::Io { path: path.into(), error };
        let format = foreign::tell(path).map_err(io)?;
        if let (Some(given), Some(what)) = (choices.activation, format.has_activations()) {
            let found = format!("{what}, which has its activations");
            return Err(CheckpointError::Activation { path: path.into(), found, given }.into());
        }
        let found = match format {
            Format::Native => Some("a native model"),
            Format::Script => Some("TorchScript"),
            Format::Exported | Format::Foreign(_) => None,
        };
        if let (Some(found), true) = (found, choices.from.is_some() || choices.to.is_some()) {
            return Err(ModelError::NoNodes { path: path.into(), found });
        }
        match format {
            Format::Foreign(Foreign { found, hint }) => {
                Err(ModelError::Foreign { path: path.into(), found, hint })
            }
            Format::Script => {
                Script::load(path, device.0, choices).map(Self::Script).map_err(|error| match error {
                    ScriptError::Inputs(error) => ModelError::Inputs { path: path.into(), error },
                    ScriptError::Torch(error) => {
                        ModelError::Script { path: path.into(), message: crate::one_line(&error.to_string()) }
                    }
                })
            }
            Format::Exported => {
                let program = Program::load(path, device.0, choices);
                let failed = |error| ModelError::Exported { path: path.into(), error: Box::new(error) };
                Ok(Self::Exported(Box::new(program.map_err(failed)?)))
            }
            Format::Native => {
                let constant = choices.constants.first().map(|(name, _)| name);
                let named = [
                    ("output", "--output-name", choices.output.as_ref()),
                    ("input", "--input", choices.input.as_ref()),
                    ("input", "--constant", constant),
                ];
                if let Some((what, option, Some(name))) = named.into_iter().find(|(.., name)| name.is_some())
                {
                    return Err(ModelError::OneOnly { path: path.into(), what, option, name: name.clone() });
                }
                Ok(Self::Native(Box::new(Network::load(path, device, choices.activation)?)))
            }
        }
    }

    /// Loads a part of a code. Choices for the deployed model hold for a part that may have begun as it; a native
    /// one has nothing to choose.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    pub fn load_part(path: &Path, device: Device, choices: &Choices) -> Result<Self, ModelError> {
        let io = |error| CheckpointError::Io { path: path.into(), error };
        let is_native = foreign::tell(path).map_err(io)? == Format::Native;
        let choices = Choices { activation: None, ..choices.clone() };
        Self::load_as(path, device, &if is_native { Choices::default() } else { choices })
    }

    /// A note about a choice that neither the file nor the caller made.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        match self {
            Self::Native(network) if network.assumes_relu() => Some(
                "found the state dict of an MLP, which does not say its activation: taken to be relu \
                 (--activation says another)",
            ),
            _ => None,
        }
    }

    /// What it is, takes and gives.
    #[must_use]
    pub fn summary(&self) -> Summary {
        match self {
            Self::Native(network) => {
                let description = network.description();
                let port = |shape: Option<&[usize]>| {
                    let axes = |shape: &[usize]| {
                        let axes = ["rows".to_owned()].into_iter().chain(shape.iter().map(usize::to_string));
                        format!("f4[{}]", axes.collect::<Vec<_>>().join(", "))
                    };
                    Port { name: String::new(), layout: shape.map_or("unknown".into(), axes) }
                };
                Summary {
                    kind: format!("native model, {}", description.architecture.record()),
                    inputs: vec![port(description.query_shape.as_deref())],
                    query: Some("the input".into()),
                    batch: Batch::ANY,
                    outputs: vec![port(Some(&description.prediction_shape))],
                    parameters: network.numbers().learned().map(|tensor| tensor.numel() as u64).sum(),
                    tensors: network.numbers().learned().count(),
                    obstacle: None,
                }
            }
            Self::Exported(program) => program.summary(),
            Self::Script(script) => script.summary(),
        }
    }

    /// The shape of a query, if the model's file has it.
    #[must_use]
    pub fn query_shape(&self) -> Option<&[usize]> {
        match self {
            Self::Native(network) => network.description().query_shape.as_deref(),
            Self::Exported(program) => program.query_shape(),
            Self::Script(_) => None,
        }
    }

    /// The numbers of queries that it computes at a time.
    #[must_use]
    pub fn batch(&self) -> Batch {
        match self {
            Self::Exported(program) => program.batch(),
            Self::Native(_) | Self::Script(_) => Batch::ANY,
        }
    }

    /// The multiplications for one query of a network of linear layers between vectors; none for other networks.
    pub(crate) fn multiplications(&self) -> Option<usize> {
        match self {
            Self::Native(network) => network.multiplications(),
            Self::Exported(program) => program.multiplications(),
            Self::Script(_) => None,
        }
    }

    /// The type of a query, if the model's file has it.
    #[must_use]
    pub fn query_dtype(&self) -> Option<Dtype> {
        match self {
            Self::Native(_) => Some(Dtype::F32),
            Self::Exported(program) => program.query_kind().and_then(crate::session::dtype),
            Self::Script(_) => None,
        }
    }

    /// The file of the model for other programs, and its extension: of a native model TorchScript, else its own
    /// kind. The shape of a query is needed if a native model does not have it.
    ///
    /// # Errors
    /// [`ExportError`], by kind.
    pub fn export(&self, query_shape: Option<&[usize]>) -> Result<(Vec<u8>, &'static str), ExportError> {
        Ok(match self {
            Self::Native(network) => (network.program(query_shape)?.0, "pt"),
            Self::Exported(program) => (program.to_bytes().map_err(ExportError::Archive)?, "pt2"),
            Self::Script(script) => (script.to_bytes()?, "pt"),
        })
    }

    /// A copy that can be trained, with numbers of its own.
    ///
    /// # Errors
    /// [`NotTrainable`], with what to do.
    pub(crate) fn trainable(&self) -> Result<Box<dyn Trainable>, NotTrainable> {
        match self {
            Self::Native(network) => {
                let network: &dyn Trainable = &**network;
                Ok(network.copy(network.numbers().device())?)
            }
            Self::Exported(program) => program.trainable(),
            Self::Script(script) => script.trainable(),
        }
    }

    /// The tensors that a copy has as its own.
    pub(crate) fn gathered(&self) -> Gathered {
        match self {
            Self::Native(network) => Gathered::of(network.numbers()),
            Self::Exported(program) => program.gathered(),
            Self::Script(script) => script.gathered(),
        }
    }

    /// What it computes: a text for the settings of a training, which must be equal to resume it.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn record(&self) -> Result<String, TchError> {
        match self {
            Self::Native(network) => Ok(network.description().architecture.record()),
            Self::Exported(program) => Ok(program.record()),
            Self::Script(script) => script.record(),
        }
    }

    /// Sees that the model can be trained.
    ///
    /// # Errors
    /// [`NotTrainable`], with what to do.
    pub fn check_trainable(&self) -> Result<(), NotTrainable> {
        match self {
            Self::Native(_) => Ok(()),
            Self::Exported(program) => program.check_trainable(),
            Self::Script(script) => script.check_trainable(),
        }
    }

    /// What a copy that is trained does not learn, if anything.
    #[must_use]
    pub fn untrained_part(&self) -> Option<String> {
        match self {
            Self::Script(script) => {
                let count = script.fixed_norms().ok().filter(|&count| count > 0)?;
                let norms = parm::counted(count, "batch normalisation");
                Some(format!("found traced TorchScript: it learns with its {norms} as in evaluation"))
            }
            Self::Exported(program) => {
                let count = Some(program.fixed_norms()).filter(|&count| count > 0)?;
                let norms = parm::counted(count, "batch normalisation");
                Some(format!("found a decomposed program: it learns with its {norms} as in evaluation"))
            }
            Self::Native(_) => None,
        }
    }

    /// The extension of its file.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Native(_) => "safetensors",
            Self::Exported(_) => "pt2",
            Self::Script(_) => "pt",
        }
    }

    /// Writes a model that can be trained to a file of its kind, by way of a temporary file beside it.
    ///
    /// # Errors
    /// [`ModelError::NotTrainable`]; the file system's.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.trainable()?.save(path)
    }

    /// The same model, faster, for one that only answers queries of this shape: it is not to be written or trained.
    /// What libtorch cannot optimise stays as it is.
    pub(crate) fn optimized(self, query_shape: &[usize], precision: Precision) -> Self {
        let is_full = precision == Precision::Full;
        match self {
            Self::Exported(program) => Self::Exported(program.lowered(is_full).map_or(program, Box::new)),
            // libtorch's optimisations and oneDNN's layers are of f4.
            model if !is_full => model,
            Self::Native(network) => {
                let optimized = network.optimized(query_shape).map(Self::Script);
                optimized.unwrap_or(Self::Native(network))
            }
            Self::Script(script) => Self::Script(script.optimized().unwrap_or(script)),
        }
    }

    /// Whether all that uses a query takes images of few channels, with the channels last in memory.
    pub(crate) fn takes_channels_last(&self) -> bool {
        matches!(self, Self::Exported(program) if program.takes_channels_last())
    }

    /// Outputs for f4 queries `[rows, …]`, in f4, with gradient.
    pub(crate) fn forward(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Native(network) => network.forward(queries, Mode::Evaluate),
            Self::Exported(program) => program.forward(queries, Mode::Evaluate)?.f_to_kind(Kind::Float),
            Self::Script(script) => script.forward(queries)?.f_to_kind(Kind::Float),
        }
    }

    /// Outputs for queries `[rows, …]`.
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Native(network) => network.predict(queries),
            Self::Exported(program) => program.predict(queries),
            Self::Script(script) => tch::no_grad(|| script.forward(queries)),
        }
    }
}

/// The tensor of an array, on the CPU.
pub(crate) fn tensor_of(array: &Array) -> Result<Tensor, TchError> {
    let kind = match array.dtype {
        Dtype::Bool => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        other => {
            return Err(TchError::Kind(format!(
                "found numbers of type {other}, which libtorch does not have"
            )));
        }
    };
    let size: Vec<i64> = array.shape.iter().map(|&axis| axis as i64).collect();
    Tensor::f_from_data_size(&array.bytes, &size, kind)
}

/// The input that is the query: the one that is named, or the only one that is needed and no constant.
/// `inputs` are all, `needed` those without a default.
///
/// # Errors
/// A name that the model does not have; none or several that may be the query.
pub(crate) fn choose_query(
    inputs: &[&str],
    needed: &[&str],
    choices: &Choices,
) -> Result<String, InputsError> {
    let is_constant = |name: &str| choices.constants.iter().any(|(constant, _)| constant == name);
    let all = || inputs.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for name in choices.constants.iter().map(|(name, _)| name).chain(&choices.input) {
        if !inputs.contains(&name.as_str()) {
            return Err(InputsError::NoSuchInput { name: name.clone(), inputs: all() });
        }
    }
    if let Some(name) = choices.input.as_ref().filter(|name| is_constant(name)) {
        return Err(InputsError::Both(name.clone()));
    }
    let mut open: Vec<&str> = needed.iter().copied().filter(|name| !is_constant(name)).collect();
    if open.is_empty() {
        open.extend(
            choices.input.as_deref().or_else(|| inputs.iter().copied().find(|name| !is_constant(name))),
        );
    }
    match (&open[..], choices.input.as_deref()) {
        ([], _) => Err(InputsError::NoInput),
        ([query], None) => Ok((*query).to_owned()),
        ([query], Some(name)) if *query == name => Ok((*query).to_owned()),
        ([first, ..], _) if choices.open => Ok((*first).to_owned()),
        (_, Some(name)) => {
            let others = open.iter().filter(|other| **other != name);
            Err(InputsError::Valueless(others.map(|&other| other.to_owned()).collect()))
        }
        _ => Err(InputsError::Several(all())),
    }
}

/// Queries for a model that takes numbers of this type.
///
/// # Errors
/// The model takes integers, and the queries have other numbers.
pub(crate) fn whole_numbers(queries: &Tensor, kind: Kind) -> Result<&Tensor, TchError> {
    let is_integer = |kind| matches!(kind, Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64);
    if is_integer(kind) && !is_integer(queries.kind()) {
        let is_whole = queries.f_frac()?.f_count_nonzero(None)?.int64_value(&[]) == 0;
        let fits = queries.numel() == 0 || queries.f_abs()?.f_max()?.double_value(&[]) <= MOST_WHOLE;
        if !is_whole || !fits {
            let found = "found queries with other numbers, expected integers up to 2^24";
            return Err(TchError::Kind(found.into()));
        }
    }
    Ok(queries)
}
