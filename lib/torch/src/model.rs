//! A model of either kind: native or TorchScript.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parm::Activation;
use tch::{CModule, IValue, Kind, TchError, Tensor};

use crate::device::Device;
use crate::foreign::{self, Foreign};
use crate::network::{CheckpointError, Network};
use crate::trainable::{Mode, Trainable};

/// A model that answers queries.
#[derive(Debug)]
pub enum Model {
    /// A native architecture.
    Native(Box<Network>),
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
}

/// A loaded TorchScript module.
#[derive(Debug)]
pub struct Script {
    module: CModule,
    /// The chosen output of several.
    output: Option<String>,
    /// The type of queries that the module accepts, known after its first answer.
    kind: OnceLock<Kind>,
}

/// The extensions of models' files, by kind.
pub(crate) const EXTENSIONS: [&str; 2] = ["safetensors", "pt"];

/// The types of queries that are tried in turn, since a module does not name its type; most accept f4.
const KINDS: [Kind; 5] = [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double, Kind::Int64];

/// The number up to which f4 represents all integers.
const MOST_WHOLE: f64 = 16_777_216.0;

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
    #[error("{}: found {found}, expected safetensors or TorchScript; {hint}", path.display())]
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
    /// An output is named, but the model has only one.
    #[error("{}: found a model of one output, expected no --output-name {name}", path.display())]
    OneOutput {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

/// A model that cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected a model that can be trained: {mend}")]
pub struct NotTrainable {
    /// The model.
    pub found: &'static str,
    /// What to do.
    pub mend: &'static str,
}

impl Model {
    /// Loads a model with the default choices.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        Self::load_as(path, device, &Choices::default())
    }

    /// Loads a model. Its kind is read from the first bytes: `PK` is a zip archive, TorchScript.
    ///
    /// # Errors
    /// [`ModelError`], by kind.
    pub fn load_as(path: &Path, device: Device, choices: &Choices) -> Result<Self, ModelError> {
        let io = |error| CheckpointError::Io { path: path.into(), error };
        if let Some(Foreign { found, hint }) = foreign::tell(path).map_err(io)? {
            return Err(ModelError::Foreign { path: path.into(), found, hint });
        }
        if foreign::is_zip(path).map_err(io)? {
            if let Some(given) = choices.activation {
                let found = "TorchScript, which has its activations".into();
                return Err(CheckpointError::Activation { path: path.into(), found, given }.into());
            }
            return Script::load(path, device, choices.output.clone()).map(Self::Script).map_err(|error| {
                ModelError::Script { path: path.into(), message: crate::one_line(&error.to_string()) }
            });
        }
        if let Some(name) = choices.output.clone() {
            return Err(ModelError::OneOutput { path: path.into(), name });
        }
        Ok(Self::Native(Box::new(Network::load(path, device, choices.activation)?)))
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

    /// The shape of a query, if the model's file has it.
    #[must_use]
    pub fn query_shape(&self) -> Option<&[usize]> {
        match self {
            Self::Native(network) => network.description().query_shape.as_deref(),
            Self::Script(_) => None,
        }
    }

    /// The model as one that can be trained.
    ///
    /// # Errors
    /// [`NotTrainable`], with what to do.
    pub(crate) fn trainable(&self) -> Result<&dyn Trainable, NotTrainable> {
        match self {
            Self::Native(network) => Ok(&**network),
            Self::Script(_) => {
                Err(NotTrainable { found: "TorchScript", mend: "give the kind of a network instead" })
            }
        }
    }

    /// Sees that the model can be trained.
    ///
    /// # Errors
    /// [`NotTrainable`], with what to do.
    pub fn check_trainable(&self) -> Result<(), NotTrainable> {
        self.trainable().map(drop)
    }

    /// The extension of its file.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Native(_) => "safetensors",
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

    /// Outputs for f4 queries `[rows, …]`, in f4, with gradient.
    pub(crate) fn forward(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Native(network) => network.forward(queries, Mode::Evaluate),
            Self::Script(script) => script.forward(queries)?.f_to_kind(Kind::Float),
        }
    }

    /// Outputs for queries `[rows, …]`.
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Native(network) => network.predict(queries),
            Self::Script(script) => tch::no_grad(|| script.forward(queries)),
        }
    }
}

impl Script {
    fn load(path: &Path, device: Device, output: Option<String>) -> Result<Self, TchError> {
        let mut module = CModule::load_on_device(path, device.0)?;
        // A module that was saved in training mode would apply dropout.
        module.f_set_eval()?;
        Ok(Self { module, output, kind: OnceLock::new() })
    }

    /// Outputs for f4 queries, which are converted to the first type that the module answers.
    fn forward(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        if let Some(kind) = self.kind.get() {
            return self.answer(queries, *kind);
        }
        let mut first = None;
        for kind in KINDS {
            match self.answer(queries, kind) {
                Ok(outputs) => {
                    let _ = self.kind.set(kind);
                    return Ok(outputs);
                }
                Err(error) if crate::is_out_of_memory(&error) => return Err(error),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| TchError::Kind("found no type that the model takes".into())))
    }

    fn answer(&self, queries: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
        if kind == Kind::Int64 {
            let is_whole = queries.f_frac()?.f_count_nonzero(None)?.int64_value(&[]) == 0;
            let fits = queries.numel() == 0 || queries.f_abs()?.f_max()?.double_value(&[]) <= MOST_WHOLE;
            if !is_whole || !fits {
                let found = "found queries with other numbers, expected integers up to 2^24";
                return Err(TchError::Kind(found.into()));
            }
        }
        let queries = IValue::Tensor(queries.f_to_kind(kind)?);
        self.choose(self.module.forward_is(&[queries])?)
    }

    /// The chosen output among those that a module returned.
    fn choose(&self, outputs: IValue) -> Result<Tensor, TchError> {
        let mut all: Vec<(String, IValue)> = match outputs {
            IValue::Tensor(tensor) if self.output.is_none() => return Ok(tensor),
            IValue::GenericDict(entries) => {
                entries.into_iter().map(|(key, value)| (name(&key), value)).collect()
            }
            IValue::Tuple(values) | IValue::GenericList(values) => numbered(values),
            IValue::TensorList(tensors) => numbered(tensors.into_iter().map(IValue::Tensor)),
            other => vec![(String::new(), other)],
        };
        let wanted = match &self.output {
            None => Some(0),
            Some(wanted) => all.iter().position(|(name, _)| name == wanted),
        };
        match wanted.filter(|&at| at < all.len()).map(|at| all.swap_remove(at).1) {
            Some(IValue::Tensor(tensor)) => Ok(tensor),
            Some(IValue::Tuple(values) | IValue::GenericList(values)) => first(values),
            Some(_) => Err(TchError::Shape("found an output that is not a tensor, expected one".into())),
            None => {
                let names: Vec<String> = all.into_iter().map(|(name, _)| name).collect();
                let wanted = self.output.as_deref().unwrap_or_default();
                Err(TchError::Shape(format!(
                    "found outputs [{}], expected '{wanted}' among them",
                    names.join(", ")
                )))
            }
        }
    }
}

/// The first output of nested outputs.
fn first(values: Vec<IValue>) -> Result<Tensor, TchError> {
    match values.into_iter().next() {
        Some(IValue::Tensor(tensor)) => Ok(tensor),
        _ => Err(TchError::Shape("found an output that is not a tensor, expected one".into())),
    }
}

fn numbered(values: impl IntoIterator<Item = IValue>) -> Vec<(String, IValue)> {
    values.into_iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
}

fn name(key: &IValue) -> String {
    match key {
        IValue::String(name) => name.clone(),
        IValue::Int(number) => number.to_string(),
        _ => String::new(),
    }
}
