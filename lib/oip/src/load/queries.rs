//! The requests of a measurement.

use bytes::Bytes;
use parm::npy::RowLayout;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::labels::{JudgeError, Labels, Right};
use crate::{
    Chunks, Datatype, InferRequest, InferResponse, ModelMetadata, Parameters, Tensor, TensorMetadata,
};

/// The most bytes of a request. A larger one follows from a mistake in the server's metadata.
const LARGEST: usize = 256 << 20;

/// The bytes of random rows that are made in advance for one input, unless one request needs more.
const POOL: usize = 16 << 20;

/// The name of the input of a server without metadata, as in the examples of MLServer.
const UNNAMED: &str = "input-0";

/// The most different requests with random rows.
const DIFFERENT: usize = 256;

/// Rows or shapes that do not fit a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueriesError {
    /// The server names no input, and no rows are given.
    #[error("found a model whose server names no inputs, expected rows that are given")]
    NoInputs,
    /// A shape is given for an unknown input.
    #[error("found a shape for input '{name}', expected one for {expected}")]
    UnknownInput {
        /// The input.
        name: String,
        /// The inputs of the model.
        expected: String,
    },
    /// The server leaves the shape of a row open, and none is given.
    #[error("found input '{name}' of shape {shape:?}, expected a shape for its rows")]
    AnySize {
        /// The input.
        name: String,
        /// Its shape in the server's metadata.
        shape: Vec<i64>,
    },
    /// The shape of the rows differs from that of the input.
    #[error("found rows of shape {found:?} for input '{name}', expected {expected:?}")]
    Shape {
        /// The input.
        name: String,
        /// The shape of a row.
        found: Vec<u64>,
        /// The shape of the input; −1: any size.
        expected: Vec<i64>,
    },
    /// The model has no dimension of rows.
    #[error("found {rows} rows in a request, expected 1: input '{name}' has no dimension for more")]
    NoBatches {
        /// The input.
        name: String,
        /// The number of rows of a request.
        rows: usize,
    },
    /// There are no random elements of this type.
    #[error("found input '{name}' of {datatype}, expected elements of a fixed size")]
    NoNumbers {
        /// The input.
        name: String,
        /// Its element type.
        datatype: Datatype,
    },
    /// The element type of the given rows differs from that of the input.
    #[error("found rows of {found} for input '{name}', expected {expected}")]
    Datatype {
        /// The input.
        name: String,
        /// The type of the rows.
        found: Datatype,
        /// The type of the input.
        expected: Datatype,
    },
    /// Rows are given for one input, and the model has several.
    #[error("found {inputs} inputs, expected 1 for rows that are given")]
    SeveralInputs {
        /// The number of inputs.
        inputs: usize,
    },
    /// The inputs of another target differ.
    #[error("found a model of {found}, expected that of the first target, of {expected}")]
    Different {
        /// Its inputs.
        found: String,
        /// The inputs of the first target.
        expected: String,
    },
    /// The given stream has no rows.
    #[error("found a stream without rows, expected at least 1")]
    NoRows,
    /// A request is too large.
    #[error(
        "found rows of shape {shape:?} for input '{name}', {rows} in a request: expected at most {LARGEST} bytes"
    )]
    TooLarge {
        /// The input.
        name: String,
        /// The shape of a row.
        shape: Vec<u64>,
        /// The number of rows of a request.
        rows: usize,
    },
}

/// The shape of one row of an input, for models that leave it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowShape {
    /// The input; none: all inputs without a shape of their own.
    pub input: Option<String>,
    /// The shape of one row.
    pub shape: Vec<u64>,
}

/// Given rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Their element type and shape.
    pub layout: RowLayout,
    /// Their elements, little-endian.
    pub data: Bytes,
}

/// The source of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Random rows with this seed.
    Random(u64),
    /// Given rows, for a model with one input.
    Given(Rows),
}

/// The requests of a measurement.
#[derive(Clone, Debug)]
pub struct Queries {
    model: String,
    version: String,
    /// The number of rows of one request.
    rows: usize,
    inputs: Vec<Input>,
    /// The labels of the rows.
    labels: Option<Labels>,
}

#[derive(Clone, Debug)]
struct Input {
    name: String,
    datatype: Datatype,
    /// The shape of the tensor of a request.
    shape: Vec<u64>,
    row_bytes: usize,
    /// The rows, which are taken in turn.
    pool: Bytes,
    pool_rows: usize,
}

impl Queries {
    /// Requests of `rows` rows for a model: given rows in turn, or random ones. If the server names no
    /// inputs, the given rows describe the only one.
    ///
    /// Random numbers are uniform: floats from 0 to 1, integers from 0 to 127. They are made in advance for
    /// up to 256 requests and reused, so that making them takes no time while requests are sent.
    ///
    /// # Errors
    /// Rows or shapes that do not fit: see [`QueriesError`].
    pub fn new(
        version: &str,
        metadata: &ModelMetadata,
        rows: usize,
        shapes: &[RowShape],
        source: Source,
    ) -> Result<Self, QueriesError> {
        let names = || metadata.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
        for name in shapes.iter().filter_map(|shape| shape.input.as_ref()) {
            if !metadata.inputs.iter().any(|input| input.name == *name) {
                return Err(QueriesError::UnknownInput { name: name.clone(), expected: names() });
            }
        }
        let inputs = match (&metadata.inputs[..], source) {
            ([], Source::Given(given)) => {
                let input = TensorMetadata::of_rows(UNNAMED, &given.layout);
                vec![Input::of(&input, rows, shapes, given)?]
            }
            ([], Source::Random(_)) => return Err(QueriesError::NoInputs),
            ([input], Source::Given(given)) => vec![Input::of(input, rows, shapes, given)?],
            (several, Source::Given(_)) => return Err(QueriesError::SeveralInputs { inputs: several.len() }),
            (inputs, Source::Random(seed)) => {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                // The arrivals use stream 0.
                random.set_stream(1);
                let input = |input| Input::random(input, rows, shapes, &mut random);
                inputs.iter().map(input).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { model: metadata.name.clone(), version: version.to_owned(), rows, inputs, labels: None })
    }

    /// Adds labels.
    #[must_use]
    pub fn with_labels(self, labels: Labels) -> Self {
        Self { labels: Some(labels), ..self }
    }

    /// Checks that the requests equal those of another target.
    ///
    /// # Errors
    /// Inputs that differ.
    pub fn check_same(&self, first: &Self) -> Result<(), QueriesError> {
        let inputs = |queries: &Self| {
            let input = |input: &Input| format!("'{}' {} {:?}", input.name, input.datatype, input.shape);
            queries.inputs.iter().map(input).collect::<Vec<_>>().join(", ")
        };
        let (found, expected) = (inputs(self), inputs(first));
        if found == expected { Ok(()) } else { Err(QueriesError::Different { found, expected }) }
    }

    /// The number of rows of the answer to request `number` that are right; none without labels.
    pub(super) fn right(&self, number: u64, answer: &InferResponse) -> Option<Result<Right, JudgeError>> {
        let first = u128::from(number) * self.rows as u128;
        self.labels.as_ref().map(|labels| labels.right(first, self.rows, answer))
    }

    /// The number of rows of one request.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The request with this number.
    #[must_use]
    pub fn request(&self, number: u64) -> InferRequest {
        InferRequest {
            model: self.model.clone(),
            version: self.version.clone(),
            inputs: self.inputs.iter().map(|input| input.tensor(number, self.rows)).collect(),
            ..InferRequest::default()
        }
    }
}

impl Input {
    fn of(
        said: &TensorMetadata,
        rows: usize,
        shapes: &[RowShape],
        given: Rows,
    ) -> Result<Self, QueriesError> {
        let found = Datatype::from(given.layout.dtype);
        let own = RowShape {
            input: Some(said.name.clone()),
            shape: given.layout.shape.iter().map(|&axis| axis as u64).collect(),
        };
        let input = Self::new(said, rows, std::slice::from_ref(&own))?;
        // A shape that is given as well must agree.
        Self::new(said, rows, shapes).or_else(|error| match error {
            QueriesError::AnySize { .. } => Ok(input.clone()),
            error => Err(error),
        })?;
        if found != said.datatype {
            let (name, expected) = (said.name.clone(), said.datatype);
            return Err(QueriesError::Datatype { name, found, expected });
        }
        match given.data.len().checked_div(input.row_bytes) {
            None | Some(0) => Err(QueriesError::NoRows),
            Some(pool_rows) => Ok(Self { pool: given.data, pool_rows, ..input }),
        }
    }

    fn random(
        said: &TensorMetadata,
        rows: usize,
        shapes: &[RowShape],
        random: &mut ChaCha8Rng,
    ) -> Result<Self, QueriesError> {
        let input = Self::new(said, rows, shapes)?;
        let bytes = input.row_bytes * rows;
        let requests = POOL.checked_div(bytes).unwrap_or(1).clamp(1, DIFFERENT);
        let size = said.datatype.size().unwrap_or(1);
        let mut pool = Vec::with_capacity(requests * bytes);
        for _ in 0..requests * bytes / size {
            draw(said.datatype, random, &mut pool);
        }
        Ok(Self { pool: pool.into(), pool_rows: requests * rows, ..input })
    }

    /// An input from the server's metadata, without rows.
    fn new(said: &TensorMetadata, rows: usize, shapes: &[RowShape]) -> Result<Self, QueriesError> {
        let name = said.name.clone();
        let Some(size) = said.datatype.size() else {
            return Err(QueriesError::NoNumbers { name, datatype: said.datatype });
        };
        let named = shapes.iter().find(|shape| shape.input.as_ref() == Some(&said.name));
        let given = named.or_else(|| shapes.iter().find(|shape| shape.input.is_none()));
        // A first dimension of any size is that of rows, and so is the first one if the metadata are empty.
        // A first dimension of 1 may be that of a single row, or belong to the row: the given rows decide.
        let (batches, expected) = match (&said.shape[..], given) {
            ([-1, row @ ..], _) => (true, row),
            ([], _) => (true, &[][..]),
            ([1, row @ ..], Some(RowShape { shape, .. })) if fits(shape, row) => (rows == 1, row),
            (row, _) => (false, row),
        };
        let row = match given {
            Some(RowShape { shape, .. }) if said.shape.is_empty() || fits(shape, expected) => shape.clone(),
            Some(RowShape { shape, .. }) => {
                return Err(QueriesError::Shape { name, found: shape.clone(), expected: expected.to_vec() });
            }
            None if said.shape.is_empty() => {
                return Err(QueriesError::AnySize { name, shape: said.shape.clone() });
            }
            None => expected
                .iter()
                .map(|&axis| u64::try_from(axis))
                .collect::<Result<_, _>>()
                .map_err(|_| QueriesError::AnySize { name: name.clone(), shape: said.shape.clone() })?,
        };
        if !batches && rows != 1 {
            return Err(QueriesError::NoBatches { name, rows });
        }
        let row_bytes =
            row.iter().try_fold(size, |bytes, &axis| bytes.checked_mul(usize::try_from(axis).ok()?));
        let Some(row_bytes) =
            row_bytes.filter(|bytes| bytes.checked_mul(rows).is_some_and(|bytes| bytes <= LARGEST))
        else {
            return Err(QueriesError::TooLarge { name, shape: row, rows });
        };
        let of_rows = batches.then_some(rows as u64);
        let shape = of_rows.into_iter().chain(row).collect();
        Ok(Self { name, datatype: said.datatype, shape, row_bytes, pool: Bytes::new(), pool_rows: 0 })
    }

    /// The tensor of a request: the next rows of the pool, which starts over after its last one.
    fn tensor(&self, number: u64, rows: usize) -> Tensor {
        let mut at = (u128::from(number) * rows as u128 % self.pool_rows.max(1) as u128) as usize;
        let mut left = rows;
        let mut chunks = Vec::new();
        while left > 0 && self.pool_rows > 0 {
            let taken = left.min(self.pool_rows - at);
            chunks.push(self.pool.slice(at * self.row_bytes..(at + taken) * self.row_bytes));
            (at, left) = (0, left - taken);
        }
        Tensor {
            name: self.name.clone(),
            datatype: self.datatype,
            shape: self.shape.clone(),
            parameters: Parameters::default(),
            data: chunks.into_iter().collect::<Chunks>(),
        }
    }
}

fn fits(shape: &[u64], expected: &[i64]) -> bool {
    shape.len() == expected.len()
        && shape.iter().zip(expected).all(|(&axis, &said)| said < 0 || said.unsigned_abs() == axis)
}

/// Adds one random element, little-endian.
fn draw(datatype: Datatype, random: &mut ChaCha8Rng, to: &mut Vec<u8>) {
    let unit: f64 = random.random();
    let whole = (unit * 128.0) as u8;
    match datatype {
        Datatype::Fp32 => to.extend((unit as f32).to_le_bytes()),
        Datatype::Fp64 => to.extend(unit.to_le_bytes()),
        Datatype::Fp16 => to.extend(half::f16::from_f64(unit).to_le_bytes()),
        Datatype::Bf16 => to.extend(half::bf16::from_f64(unit).to_le_bytes()),
        Datatype::Bool => to.push(whole & 1),
        // For integers up to 127, all bytes but the first are zero.
        other => {
            to.push(whole);
            to.extend(std::iter::repeat_n(0, other.size().unwrap_or(1) - 1));
        }
    }
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
