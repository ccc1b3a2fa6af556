//! The file of a native model: safetensors that describes itself.
//!
//! The metadata has one entry, `parm`, whose value is JSON with its keys in a fixed order: the
//! architecture, the shapes of a query and of a prediction, what the predictions are and, in a
//! training's checkpoint, how far it came. One entry, since safetensors' metadata has no order of
//! its own, and equal models must be equal files.
//!
//! Refused, with the file, what was found and what was expected: anything that is not safetensors,
//! safetensors without that entry, architectures and shapes that do not fit each other, tensors
//! that are missing, too many, or of another type or shape.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The only entry of the metadata.
const KEY: &str = "parm";

/// The only architecture so far.
pub(crate) const MLP: &str = "mlp";

/// What a file says about its model. Fields in the order of their names: that is the order in the
/// file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The kind of network: `mlp`.
    pub architecture: String,
    /// Widths of the layers, from the elements of a query to those of a prediction.
    pub layers: Vec<usize>,
    /// What the predictions are: `logits`.
    pub output: String,
    /// The shape of one prediction.
    pub prediction_shape: Vec<usize>,
    /// The shape of one query.
    pub query_shape: Vec<usize>,
    /// How far a training came; only in its checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// How far a training came, and what it is a training of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The epoch of the best model so far.
    pub best_epoch: u32,
    /// Epochs that are done.
    pub epoch: u32,
    /// What must be the same for the training to go on.
    pub settings: BTreeMap<String, String>,
    /// Steps that Adam has made.
    pub step: u64,
}

/// A model file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system's.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a model file.
    #[error("{}: found {found}, expected a model: safetensors of parm-train, or TorchScript", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it as safetensors.
        found: String,
    },
    /// Safetensors from elsewhere.
    #[error(
        "{}: found safetensors without the metadata entry '{KEY}', expected a model that parm-train wrote",
        .0.display()
    )]
    Foreign(PathBuf),
    /// A description that makes no model.
    #[error("{}: found {found}, expected {expected}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What would make sense.
        expected: String,
    },
    /// A tensor that does not fit the description.
    #[error("{}: found {found}, expected tensor {name} of {expected}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its type and shape, or that there is none.
        found: String,
        /// The type and shape that it should have.
        expected: String,
    },
    /// A tensor that the description has no place for.
    #[error("{}: found tensor {name}, expected no more than the parameters of the layers {layers:?}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The layers of the description.
        layers: Vec<usize>,
    },
}

impl Description {
    /// Describes a classifier: an MLP between these shapes whose outputs are logits.
    #[must_use]
    pub fn mlp(query_shape: &[usize], hidden: &[usize], prediction_shape: &[usize]) -> Self {
        let ends = [query_shape, prediction_shape].map(|shape| shape.iter().product());
        let layers = [&ends[..1], hidden, &ends[1..]].concat();
        Self {
            architecture: MLP.into(),
            layers,
            output: "logits".into(),
            prediction_shape: prediction_shape.into(),
            query_shape: query_shape.into(),
            training: None,
        }
    }

    /// Names and shapes of the parameters, in the order of the layers: `nn.0.weight`, `nn.0.bias`,
    /// `nn.2.weight`, … as in the `nn.Sequential` of the papers' MLP, whose odd places are the
    /// activations.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (String, Vec<usize>)> + use<'_> {
        self.layers.windows(2).enumerate().flat_map(|(i, ends)| {
            let [from, to] = [ends[0], ends[1]];
            let name = |what| format!("nn.{}.{what}", 2 * i);
            [(name("weight"), vec![to, from]), (name("bias"), vec![to])]
        })
    }

    fn check(&self, path: &Path) -> Result<(), CheckpointError> {
        let wrong = |found, expected: &str| {
            Err(CheckpointError::Description { path: path.into(), found, expected: expected.into() })
        };
        if self.architecture != MLP {
            return wrong(format!("architecture '{}'", self.architecture), "'mlp'");
        }
        let sizes = |shape: &[usize]| {
            shape
                .iter()
                .try_fold(1_usize, |product, &axis| product.checked_mul(axis))
                .filter(|&size| size > 0)
        };
        let ends = [sizes(&self.query_shape), sizes(&self.prediction_shape)];
        let [first, .., last] = self.layers[..] else {
            return wrong(format!("layers {:?}", self.layers), "at least two widths");
        };
        if ends != [Some(first), Some(last)] || self.layers.contains(&0) {
            let (query, prediction) = (&self.query_shape, &self.prediction_shape);
            return wrong(
                format!("layers {:?} for queries {query:?} and predictions {prediction:?}", self.layers),
                "widths above 0 that begin and end with the sizes of these",
            );
        }
        Ok(())
    }
}

/// The content of a file: its description and its tensors by name, on the CPU.
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) description: Description,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CheckpointError`], by kind.
    pub(crate) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(|error| CheckpointError::Io { path: path.into(), error })?;
        let malformed = |error| CheckpointError::Malformed {
            path: path.into(),
            found: format!("no safetensors ({})", crate::one_line(&format!("{error}"))),
        };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
        let views = SafeTensors::deserialize(&bytes).map_err(malformed)?;
        let json = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
        let json = json.ok_or_else(|| CheckpointError::Foreign(path.into()))?;
        let description: Description =
            serde_json::from_str(json).map_err(|error| CheckpointError::Description {
                path: path.into(),
                found: format!("a description that is malformed ({error})"),
                expected: "architecture, layers, output and shapes".into(),
            })?;
        description.check(path)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in views.iter() {
            tensors.insert(name.to_owned(), tensor(path, name, &view)?);
        }
        Ok(Self { path: path.into(), description, tensors })
    }

    /// Takes a tensor out, if it is there with this type and shape.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`]
    pub(crate) fn take(
        &mut self,
        name: &str,
        kind: Kind,
        shape: &[usize],
    ) -> Result<Tensor, CheckpointError> {
        let found = match self.tensors.remove(name) {
            Some(tensor) if tensor.kind() == kind && dimensions(&tensor) == shape => return Ok(tensor),
            Some(tensor) => format!("{:?}{:?}", tensor.kind(), tensor.size()),
            None => "none".into(),
        };
        let expected = format!("{kind:?}{shape:?}");
        Err(CheckpointError::Tensor { path: self.path.clone(), name: name.into(), found, expected })
    }

    /// Takes the parameters out, as one flat tensor in the order of the description.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`]; [`CheckpointError::Unknown`] if a finished model has others.
    pub(crate) fn take_parameters(&mut self) -> Result<Tensor, CheckpointError> {
        let names: Vec<_> = self.description.parameters().collect();
        let mut flat = Vec::with_capacity(names.len());
        for (name, shape) in names {
            flat.push(self.take(&name, Kind::Float, &shape)?.flatten(0, -1));
        }
        match self.tensors.keys().next() {
            Some(name) if self.description.training.is_none() => Err(CheckpointError::Unknown {
                path: self.path.clone(),
                name: name.clone(),
                layers: self.description.layers.clone(),
            }),
            _ => Ok(Tensor::cat(&flat, 0)),
        }
    }
}

fn dimensions(tensor: &Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|axis| usize::try_from(axis).unwrap_or(0)).collect()
}

fn tensor(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Tensor, CheckpointError> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        other => {
            return Err(CheckpointError::Tensor {
                path: path.into(),
                name: name.into(),
                found: format!("{other:?}{:?}", view.shape()),
                expected: "F32".into(),
            });
        }
    };
    let size: Vec<i64> = view.shape().iter().map(|&axis| axis as i64).collect();
    Tensor::f_from_data_size(view.data(), &size, kind).map_err(|error| CheckpointError::Malformed {
        path: path.into(),
        found: format!("tensor {name} that cannot be made ({})", crate::one_line(&error.to_string())),
    })
}

/// Writes a file: under a temporary name beside it, forced to the disk, then renamed. The temporary
/// name is always the same, so that what a killed run left is overwritten by the next.
///
/// # Errors
/// The file system's.
pub(crate) fn write(
    path: &Path,
    description: &Description,
    tensors: &[(String, Tensor)],
) -> Result<(), CheckpointError> {
    let io = |error| CheckpointError::Io { path: path.into(), error };
    let bytes = serialize(description, tensors).map_err(io)?;
    let name = path.file_name().ok_or_else(|| io(io::ErrorKind::InvalidFilename.into()))?;
    let temporary = path.with_file_name(format!(".{}.tmp", name.to_string_lossy()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.map_err(|error| {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        io(error)
    })
}

fn serialize(description: &Description, tensors: &[(String, Tensor)]) -> io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Double => Dtype::F64,
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
