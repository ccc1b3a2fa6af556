//! The file format of native models: safetensors with a description.
//!
//! The metadata has one entry, `parm`, with JSON whose keys have a fixed order: the architecture, the shapes
//! of a query and of a prediction, the kind of predictions and, in the checkpoint of a training, its
//! progress. There is only one entry since the metadata of safetensors is unordered, and equal models must be
//! equal files.
//!
//! Safetensors without that entry are state dicts of PyTorch, recognised by the names and shapes of their
//! tensors. If tensors are shared, safetensors' `save_model` keeps one of them and lists the others in the
//! metadata, with the name of the one that was kept. State dicts do not have the activation of an MLP; the
//! caller may give it, and it is ReLU otherwise.
//!
//! Refused are: files that are not safetensors, state dicts of other networks, architectures and shapes that
//! do not fit each other, and tensors that are missing, surplus, or of another type or shape.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use parm::Activation;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};

use super::architecture::Architecture;
use super::description::{Description, Misfit};
use super::layer::{Needed, Needs};
use super::state_dict::StateDict;
use crate::numbers::Flat;

/// The only entry of the metadata.
const KEY: &str = "parm";

/// The longest header in bytes, the limit of safetensors.
const MAX_HEADER: u64 = 100_000_000;

/// A model file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// An error of the file system.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Not a model file.
    #[error("{}: found {found}, expected a model: safetensors, .pt2 or TorchScript", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem.
        found: String,
    },
    /// A state dict of an unknown network.
    #[error("{}: found {found}, expected {expected}, or the metadata entry '{KEY}' of parm-train", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its tensors, or their problem.
        found: String,
        /// The known networks, or the nearest one.
        expected: String,
    },
    /// An activation is given, but the model has its own or none.
    #[error("{}: found {found}, expected no --activation {given}", path.display())]
    Activation {
        /// The file.
        path: PathBuf,
        /// The model.
        found: String,
        /// The activation that was given.
        given: Activation,
    },
    /// An invalid description.
    #[error("{}: found {found}, expected {expected}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Its content.
        found: String,
        /// The valid content.
        expected: String,
    },
    /// A tensor that does not fit the description.
    #[error("{}: found {found}, expected tensor {name} of {expected}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its type and shape, or that it is missing.
        found: String,
        /// The expected type and shape.
        expected: String,
    },
    /// A tensor that does not belong to the architecture.
    #[error("{}: found tensor {name}, expected no more than those of {architecture}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The architecture of the description.
        architecture: String,
    },
}

/// The content of a file: the JSON of its metadata, and its tensors by name, on the CPU.
pub(crate) struct TensorFile {
    path: PathBuf,
    json: Option<String>,
    tensors: BTreeMap<String, Tensor>,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CheckpointError`], by kind.
    pub(crate) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(|error| CheckpointError::Io { path: path.into(), error })?;
        let malformed = |error| malformed(path, &error);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
        let json = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY)).cloned();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes).map_err(malformed)?.iter() {
            let kind = (view.dtype() == Dtype::I64).then_some(Kind::Int64);
            tensors.insert(name.to_owned(), tensor(path, name, &view, kind.or(float(view.dtype())))?);
        }
        Ok(Self { path: path.into(), json, tensors })
    }

    /// Parses its metadata.
    ///
    /// # Errors
    /// [`CheckpointError::Description`] if it is not the expected description.
    pub(crate) fn describe<T: DeserializeOwned>(&self, expected: &str) -> Result<T, CheckpointError> {
        parse(&self.path, self.json.as_deref().unwrap_or(""), expected)
    }

    /// Takes a tensor out, which must have this type and shape.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`]
    pub(crate) fn take(
        &mut self,
        name: &str,
        kind: Kind,
        shape: &[usize],
    ) -> Result<Tensor, CheckpointError> {
        take(&self.path, &mut self.tensors, name, kind, shape)
    }
}

/// Parses the metadata of a file without reading its tensors.
///
/// # Errors
/// As [`TensorFile::read`] and [`TensorFile::describe`].
pub(crate) fn metadata<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<T, CheckpointError> {
    let read = |mut file: File| -> io::Result<_> {
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(MAX_HEADER)).read_to_end(&mut header)?;
        Ok(serde_json::from_slice::<serde_json::Value>(&header)?)
    };
    let header = match File::open(path).map(read) {
        Ok(Ok(header)) => header,
        Ok(Err(error)) => return Err(malformed(path, &error)),
        Err(error) => return Err(CheckpointError::Io { path: path.into(), error }),
    };
    parse(path, header["__metadata__"][KEY].as_str().unwrap_or(""), expected)
}

fn parse<T: DeserializeOwned>(path: &Path, json: &str, expected: &str) -> Result<T, CheckpointError> {
    serde_json::from_str(json).map_err(|error| CheckpointError::Description {
        path: path.into(),
        found: format!("a description that does not fit ({error})"),
        expected: expected.into(),
    })
}

fn malformed(path: &Path, error: &dyn std::error::Error) -> CheckpointError {
    CheckpointError::Malformed {
        path: path.into(),
        found: format!("no safetensors ({})", crate::one_line(&format!("{error}"))),
    }
}

fn take(
    path: &Path,
    tensors: &mut BTreeMap<String, Tensor>,
    name: &str,
    kind: Kind,
    shape: &[usize],
) -> Result<Tensor, CheckpointError> {
    let found = match tensors.remove(name) {
        Some(tensor) if tensor.kind() == kind && dimensions(&tensor) == shape => return Ok(tensor),
        Some(tensor) => format!("{:?}{:?}", tensor.kind(), tensor.size()),
        None => "none".into(),
    };
    let expected = format!("{kind:?}{shape:?}");
    Err(CheckpointError::Tensor { path: path.into(), name: name.into(), found, expected })
}

/// The content of a file: its description and its tensors by name, on the CPU.
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) description: Description,
    /// True if neither the file nor the caller names the activation of this MLP, which is then ReLU.
    pub(crate) assumes_relu: bool,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads a file; `activation` is that of an MLP whose file does not name it.
    ///
    /// # Errors
    /// [`CheckpointError`], by kind.
    pub(crate) fn read(path: &Path, activation: Option<Activation>) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(|error| CheckpointError::Io { path: path.into(), error })?;
        let malformed = |error| malformed(path, &error);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
        let views = SafeTensors::deserialize(&bytes).map_err(malformed)?;
        let entries = metadata.metadata().as_ref();
        let json = entries.and_then(|entries| entries.get(KEY));
        let (mut description, names) = match json {
            Some(json) => {
                let own = views.names().into_iter().map(|name| (name.to_owned(), name.to_owned()));
                (describe(path, json)?, own.collect())
            }
            None => foreign(path, &views, &shared(&views, entries))?,
        };
        let assumes_relu = choose(path, &mut description, json.is_some(), activation)?;
        description.check().map_err(|Misfit { found, expected }| CheckpointError::Description {
            path: path.into(),
            found,
            expected,
        })?;
        let mut tensors = BTreeMap::new();
        for (name, theirs) in names {
            let view = views.tensor(&theirs).map_err(malformed)?;
            let tensor = tensor(path, &theirs, &view, float(view.dtype()))?;
            tensors.insert(name, if json.is_none() { tensor.to_kind(Kind::Float) } else { tensor });
        }
        Ok(Self { path: path.into(), description, assumes_relu, tensors })
    }

    /// Takes parameters and buffers out.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`]; [`CheckpointError::Unknown`] if a finished model has others.
    pub(crate) fn take_weights(&mut self) -> Result<Flat, CheckpointError> {
        let needs = Needs::of(&self.description.layers());
        let mut flat = |needed: &[Needed]| {
            let mut parts = vec![Tensor::from_slice::<f32>(&[])];
            for Needed { name, shape, .. } in needed {
                parts.push(take(&self.path, &mut self.tensors, name, Kind::Float, shape)?.flatten(0, -1));
            }
            Ok(Tensor::cat(&parts, 0))
        };
        let flat = Flat {
            learned: flat(&needs.parameters)?,
            fixed: flat(&needs.buffers)?,
            integers: Tensor::from_slice::<i64>(&[]),
        };
        match self.tensors.keys().next() {
            Some(name) if self.description.training.is_none() => Err(CheckpointError::Unknown {
                path: self.path.clone(),
                name: name.clone(),
                architecture: self.description.architecture.to_string(),
            }),
            _ => Ok(flat),
        }
    }
}

/// Parses this project's metadata.
fn describe(path: &Path, json: &str) -> Result<Description, CheckpointError> {
    let wrong = |found: String| CheckpointError::Description {
        path: path.into(),
        found: format!("a description that is malformed ({found})"),
        expected: "an architecture, what it needs, output and shapes".into(),
    };
    let description: Description = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    // Unknown fields are not in the description that was read.
    let [read, all] = [serde_json::to_value(&description), serde_json::from_str(json)];
    if read.ok() == all.ok() { Ok(description) } else { Err(wrong("it says more than that".into())) }
}

/// The network of a state dict, with its names of tensors and those of the file.
fn foreign(
    path: &Path,
    views: &SafeTensors<'_>,
    shared: &BTreeMap<String, String>,
) -> Result<(Description, Vec<(String, String)>), CheckpointError> {
    let mut shapes: BTreeMap<String, Vec<usize>> =
        views.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
    for (name, one) in shared {
        shapes.extend(shapes.get(one).map(|shape| (name.clone(), shape.clone())));
    }
    match StateDict::recognise(&shapes, shared) {
        Ok(StateDict { description, mut names }) => {
            for (_, theirs) in &mut names {
                if let Some(one) = shared.get(theirs) {
                    theirs.clone_from(one);
                }
            }
            Ok((description, names))
        }
        Err(Misfit { found, expected }) => {
            Err(CheckpointError::Foreign { path: path.into(), found, expected })
        }
    }
}

/// Shared tensors: their name, and that of the tensor in the file.
fn shared(views: &SafeTensors<'_>, entries: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
    let kept: BTreeSet<&str> = views.names().into_iter().collect();
    let is_shared =
        |(name, one): &(&String, &String)| kept.contains(one.as_str()) && !kept.contains(name.as_str());
    let shared = entries.into_iter().flatten().filter(is_shared);
    shared.map(|(name, one)| (name.clone(), one.clone())).collect()
}

/// Sets the activation of an MLP whose file does not name one. Returns true if it is ReLU since the caller
/// does not name one either.
fn choose(
    path: &Path,
    description: &mut Description,
    is_said: bool,
    given: Option<Activation>,
) -> Result<bool, CheckpointError> {
    let has = match &description.architecture {
        // An MLP of at least two layers has an activation.
        Architecture::Mlp { layers, activation } if layers.len() > 2 => Some(*activation),
        _ => None,
    };
    match (has, given) {
        (Some(_), None) => Ok(!is_said),
        (None, None) => Ok(false),
        (Some(_), Some(given)) if !is_said => {
            description.set_activation(given);
            Ok(false)
        }
        (Some(has), Some(given)) if has == given => Ok(false),
        (has, Some(given)) => Err(CheckpointError::Activation {
            path: path.into(),
            found: match has {
                Some(has) => format!("a model that says its activation, {has}"),
                None => "a model without an activation to choose".into(),
            },
            given,
        }),
    }
}

fn dimensions(tensor: &Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|axis| usize::try_from(axis).unwrap_or(0)).collect()
}

/// The type of floats.
fn float(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// A tensor of this type; none is an error.
fn tensor(
    path: &Path,
    name: &str,
    view: &TensorView<'_>,
    kind: Option<Kind>,
) -> Result<Tensor, CheckpointError> {
    let kind = kind.ok_or_else(|| CheckpointError::Tensor {
        path: path.into(),
        name: name.into(),
        found: format!("{:?}{:?}", view.dtype(), view.shape()),
        expected: "floats".into(),
    })?;
    let size: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
    Tensor::f_from_data_size(view.data(), &size, kind).map_err(|error| CheckpointError::Malformed {
        path: path.into(),
        found: format!("tensor {name} that cannot be made ({})", crate::one_line(&error.to_string())),
    })
}

/// Writes a file under a temporary name beside it, syncs it, and renames it. The temporary name is always the
/// same, so that the next run overwrites the rest of a killed one.
///
/// # Errors
/// The file system's.
pub(crate) fn write(
    path: &Path,
    description: &impl Serialize,
    tensors: &[(String, Tensor)],
) -> Result<(), CheckpointError> {
    let bytes =
        serialize(description, tensors).map_err(|error| CheckpointError::Io { path: path.into(), error })?;
    write_bytes(path, &bytes)
}

/// Writes bytes to a file under a temporary name beside it, syncs it, and renames it.
///
/// # Errors
/// The file system's.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let io = |error| CheckpointError::Io { path: path.into(), error };
    let name = path.file_name().ok_or_else(|| io(io::ErrorKind::InvalidFilename.into()))?;
    let temporary = path.with_file_name(format!(".{}.tmp", name.to_string_lossy()));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // Only the first error is reported.
        let _ = fs::remove_file(&temporary);
        io(error)
    })
}

fn serialize(description: &impl Serialize, tensors: &[(String, Tensor)]) -> io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Double => Dtype::F64,
            Kind::Int64 => Dtype::I64,
            _ => Dtype::F32,
        };
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        let host = tensor.to_device(tch::Device::Cpu).contiguous();
        host.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(io::Error::other)?;
        raw.push((name, dtype, dimensions(tensor), bytes));
    }
    let views: Vec<_> = raw
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(io::Error::other)?;
    let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(description)?)]);
    safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)
}
