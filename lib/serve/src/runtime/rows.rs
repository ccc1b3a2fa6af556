//! The rows of a group as the code takes them, what is lost of it, and what was rebuilt.

use std::borrow::Cow;

use bytes::Bytes;
use parm::Dtype;
use parm::codes::{EncoderError, NetworkError};
use parm::dtype::Float;
use parm::task::TaskError;
use parm_engine::{Decode, Mask};

use super::spec::RowTensor;
use parm_oip::{Chunks, Datatype, Parameters, Tensor};

/// Rows that cannot be encoded or rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// A tensor that the configuration names, and the model does not have.
    #[error("found no {side} '{name}' to code, the model has {has}")]
    Unknown {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Those that the model has.
        has: String,
    },
    /// A tensor whose elements codes do not compute with.
    #[error("cannot code the {side} '{name}' of {datatype}")]
    Datatype {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Its element type.
        datatype: Datatype,
    },
    /// Some inputs are coded, and others are not, of a code that runs on the deployed model.
    #[error("this code runs coded queries on the deployed model: all inputs must be coded")]
    SomeInputs,
    /// Queries that the code cannot encode.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A network that cannot be loaded, or that failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A task that the first output does not have.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The file of a calibration.
    #[error("{0}")]
    Calibration(String),
    /// Nothing determines the prediction in a slot.
    #[error("the code cannot rebuild this slot")]
    Unsolved,
    /// An answer that the engine took for available is not.
    #[error("the answer of worker {0} is not at hand")]
    NoAnswer(usize),
    /// Answers of one output that do not have one size.
    #[error("the answers for output '{0}' have different sizes")]
    Sizes(String),
    /// An answer without an output that is rebuilt.
    #[error("found no output '{0}' in the answer")]
    NoOutput(String),
    /// An output whose elements codes do not compute with.
    #[error("found output '{name}' of {datatype}, expected a float type")]
    NoFloat {
        /// Its name.
        name: String,
        /// Its element type.
        datatype: Datatype,
    },
    /// An output of another shape.
    #[error("found output '{name}' of shape {shape:?} in {bytes} bytes, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// The bytes of its elements.
        bytes: usize,
        /// The shape that it should have.
        expected: Vec<u64>,
    },
    /// An output that is not what the model's outputs are.
    #[error(
        "found output '{name}' of {datatype} {shape:?} in {bytes} bytes, expected {} {expected:?}",
        expected_datatype
    )]
    Output {
        /// Its name.
        name: String,
        /// Its element type.
        datatype: Datatype,
        /// Its shape.
        shape: Vec<u64>,
        /// The bytes of its elements.
        bytes: usize,
        /// The element type that it should have.
        expected_datatype: Datatype,
        /// The shape that it should have.
        expected: Vec<u64>,
    },
    /// An answer to a coded query of a model without a code.
    #[error("the model has no code")]
    NoCode,
    /// The thread of a network panicked.
    #[error("the learned {part} failed: {cause}")]
    Panicked {
        /// `encoder` or `decoder`.
        part: &'static str,
        /// What it said.
        cause: String,
    },
}

/// What is to be rebuilt, and from what.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// The slot.
    pub slot: usize,
    /// The workers whose answers are at hand.
    pub available: Mask,
    /// The slots that have no query: they were encoded as zeros.
    pub absent: Mask,
}

impl From<Decode> for Lost {
    fn from(Decode { slot, available, absent, .. }: Decode) -> Self {
        Self { slot, available, absent }
    }
}

/// A prediction that was rebuilt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuilt {
    /// Each of the model's outputs; those that are not rebuilt are empty.
    pub outputs: Vec<Bytes>,
    /// How far to trust it, 0 to 1, by the first output.
    pub confidence: f32,
}

/// A batch of coded rows.
pub(super) fn floats_tensor<T: Float>(spec: &RowTensor, values: Vec<T>) -> Tensor {
    Tensor {
        name: spec.name.clone(),
        datatype: if T::DTYPE == Dtype::F64 { Datatype::Fp64 } else { Datatype::Fp32 },
        shape: spec.shape_of(values.len() / spec.elements().max(1)),
        parameters: Parameters::default(),
        data: Chunks::from(Bytes::from_owner(Floats(values))),
    }
}

pub(super) fn to_bytes<T: Float>(values: Vec<T>, spec: &RowTensor) -> Bytes {
    let dtype = spec.dtype().unwrap_or(T::DTYPE);
    if dtype == T::DTYPE {
        return Bytes::from_owner(Floats(values));
    }
    let mut bytes = Vec::with_capacity(spec.bytes);
    T::encode(&values, dtype, &mut bytes);
    Bytes::from(bytes)
}

/// Elements as floats; where they lie, if they are what is wanted and aligned.
pub(super) fn floats<T: Float>(dtype: Dtype, bytes: &[u8]) -> Cow<'_, [T]> {
    if dtype == T::DTYPE
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return Cow::Borrowed(values);
    }
    let mut values = vec![T::zeroed(); bytes.len() / dtype.size()];
    T::decode(dtype, bytes, &mut values);
    Cow::Owned(values)
}

/// Floats that are sent as they lie.
pub(super) struct Floats<T>(pub(super) Vec<T>);

impl<T: Float> AsRef<[u8]> for Floats<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}
