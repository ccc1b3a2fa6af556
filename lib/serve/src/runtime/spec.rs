//! The inputs and outputs of a model, row by row.

use parm::Dtype;

use parm_config::{Model, TensorSpec};
use parm_oip::{Datatype, Error, InferRequest, ModelMetadata, Tensor, TensorMetadata};

/// An input or output, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowTensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// The shape of one row.
    pub shape: Vec<u64>,
    /// The bytes of one row.
    pub bytes: usize,
}

/// The inputs of one query, and the outputs of one prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The inputs.
    pub inputs: Vec<RowTensor>,
    /// The outputs.
    pub outputs: Vec<RowTensor>,
}

/// Why requests are passed on whole, neither batched nor coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Uncoded {
    /// A tensor has elements of variable size.
    Datatype,
    /// A dimension other than that of rows has no fixed size.
    VariableShape,
    /// The model has no dimension of rows.
    NoBatches,
    /// The request belongs to a sequence.
    Sequence,
}

impl Uncoded {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Datatype, Self::VariableShape, Self::NoBatches, Self::Sequence];

    /// The name of the reason in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Datatype => "datatype",
            Self::VariableShape => "variable_shape",
            Self::NoBatches => "no_batches",
            Self::Sequence => "sequence",
        }
    }
}

/// Inputs and outputs that synthetic instances cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No rows.
    #[error("synthetic instances need fixed shapes: {}", .0.name())]
    Shapes(Uncoded),
    /// Not in the configuration.
    #[error("synthetic instances need inputs and outputs in the configuration")]
    None,
    /// An output of whole numbers or text.
    #[error("synthetic instances give floats, not '{name}' of {datatype}")]
    NoFloat {
        /// Its name.
        name: String,
        /// Its element type.
        datatype: Datatype,
    },
}

impl Spec {
    /// The rows of a model, from its configuration, or else from an instance's metadata.
    ///
    /// # Errors
    /// The reason why the requests of the model are passed on whole.
    pub fn new(model: &Model, metadata: &ModelMetadata) -> Result<Self, Uncoded> {
        let side = |configured: &[TensorSpec], said: &[TensorMetadata]| {
            if configured.is_empty() {
                said.iter().map(RowTensor::from_metadata).collect::<Result<Vec<_>, _>>()
            } else {
                configured.iter().map(|spec| RowTensor::new(&spec.name, spec.datatype, &spec.shape)).collect()
            }
        };
        Ok(Self {
            inputs: side(&model.inputs, &metadata.inputs)?,
            outputs: side(&model.outputs, &metadata.outputs)?,
        })
    }

    /// The rows of a model's synthetic instances.
    ///
    /// # Errors
    /// Inputs or outputs that synthetic instances do not support.
    pub fn synthetic(model: &Model) -> Result<Self, SpecError> {
        let spec = Self::new(model, &ModelMetadata::default()).map_err(SpecError::Shapes)?;
        if spec.inputs.is_empty() || spec.outputs.is_empty() {
            return Err(SpecError::None);
        }
        match spec.outputs.iter().find(|output| !output.is_float()) {
            Some(RowTensor { name, datatype, .. }) => {
                Err(SpecError::NoFloat { name: name.clone(), datatype: *datatype })
            }
            None => Ok(spec),
        }
    }

    /// The bytes of each input of a request, as slices of its tensors, and the number of rows.
    ///
    /// # Errors
    /// Inputs or outputs that differ from the model's.
    pub fn rows(&self, request: &InferRequest) -> Result<(Vec<bytes::Bytes>, usize), Error> {
        let mut rows = None;
        let mut inputs = Vec::with_capacity(self.inputs.len());
        if request.inputs.len() != self.inputs.len() {
            return Err(Error::invalid(format!(
                "expected {} inputs but got {} inputs for model '{}'",
                self.inputs.len(),
                request.inputs.len(),
                request.model,
            )));
        }
        for spec in &self.inputs {
            let Some(tensor) = request.inputs.iter().find(|tensor| tensor.name == spec.name) else {
                let names: Vec<&str> = request.inputs.iter().map(|tensor| tensor.name.as_str()).collect();
                return Err(Error::invalid(format!(
                    "found the inputs {}, expected '{}' for model '{}'",
                    names.join(", "),
                    spec.name,
                    request.model
                )));
            };
            let count = spec.count(tensor, &request.model)?;
            if *rows.get_or_insert(count) != count {
                return Err(Error::invalid(format!(
                    "found {count} rows in input '{}' and {} in others of model '{}'",
                    spec.name,
                    rows.unwrap_or(0),
                    request.model
                )));
            }
            inputs.push(tensor.data.contiguous());
        }
        for output in &request.outputs {
            if !self.outputs.iter().any(|spec| spec.name == output.name) {
                return Err(Error::invalid(format!(
                    "unexpected inference output '{}' for model '{}'",
                    output.name, request.model
                )));
            }
        }
        match rows {
            Some(rows @ 1..) => Ok((inputs, rows)),
            _ => Err(Error::invalid(format!(
                "found a request of no rows for model '{}', expected at least 1",
                request.model
            ))),
        }
    }
}

impl RowTensor {
    fn new(name: &str, datatype: Datatype, shape: &[i64]) -> Result<Self, Uncoded> {
        let size = datatype.size().ok_or(Uncoded::Datatype)?;
        let shape: Option<Vec<u64>> = shape.iter().map(|&axis| u64::try_from(axis).ok()).collect();
        let shape = shape.ok_or(Uncoded::VariableShape)?;
        let bytes =
            shape.iter().try_fold(size, |bytes, &axis| bytes.checked_mul(usize::try_from(axis).ok()?));
        let bytes = bytes.filter(|&bytes| bytes > 0).ok_or(Uncoded::VariableShape)?;
        Ok(Self { name: name.to_owned(), datatype, shape, bytes })
    }

    fn from_metadata(said: &TensorMetadata) -> Result<Self, Uncoded> {
        match said.shape[..] {
            [-1, ref row @ ..] => Self::new(&said.name, said.datatype, row),
            _ if said.datatype == Datatype::Bytes => Err(Uncoded::Datatype),
            _ => Err(Uncoded::NoBatches),
        }
    }

    /// Checks a tensor, and returns its number of rows.
    fn count(&self, tensor: &Tensor, model: &str) -> Result<usize, Error> {
        if tensor.datatype != self.datatype {
            return Err(Error::invalid(format!(
                "inference input '{}' data-type is '{}', but model '{model}' expects '{}'",
                self.name, tensor.datatype, self.datatype
            )));
        }
        match tensor.shape.split_first() {
            Some((&rows, row)) if row == self.shape => {
                let rows = usize::try_from(rows).unwrap_or(usize::MAX);
                let (found, expected) = (tensor.data.len(), rows.checked_mul(self.bytes));
                if Some(found) == expected {
                    return Ok(rows);
                }
                Err(Error::invalid(format!(
                    "found {found} bytes in input '{}', expected {} for its shape {:?}",
                    self.name,
                    expected.map_or("more than there can be".to_owned(), |bytes| bytes.to_string()),
                    tensor.shape
                )))
            }
            _ => Err(Error::invalid(format!(
                "unexpected shape for input '{}' for model '{model}'. Expected {}, got {:?}",
                self.name,
                self.batch_shape(),
                tensor.shape
            ))),
        }
    }

    fn batch_shape(&self) -> String {
        let axes: Vec<String> =
            std::iter::once("-1".to_owned()).chain(self.shape.iter().map(u64::to_string)).collect();
        format!("[{}]", axes.join(","))
    }

    /// The shape of one row.
    #[must_use]
    pub fn axes(&self) -> Vec<usize> {
        self.shape.iter().map(|&axis| axis as usize).collect()
    }

    /// The elements of one row.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.bytes / self.datatype.size().unwrap_or(1)
    }

    /// The type as which codes read it; none if it cannot be coded.
    #[must_use]
    pub fn dtype(&self) -> Option<Dtype> {
        self.datatype.dtype().filter(|&dtype| dtype != Dtype::Bool)
    }

    /// True if its elements are floats that can be coded.
    #[must_use]
    pub fn is_float(&self) -> bool {
        self.dtype().is_some_and(Dtype::is_float)
    }

    /// The float type of its coded rows.
    #[must_use]
    pub fn encoded(&self) -> Dtype {
        self.dtype().map_or(Dtype::F32, Dtype::encoded)
    }

    /// The shape of a batch of this many rows.
    #[must_use]
    pub fn shape_of(&self, rows: usize) -> Vec<u64> {
        std::iter::once(rows as u64).chain(self.shape.iter().copied()).collect()
    }
}
