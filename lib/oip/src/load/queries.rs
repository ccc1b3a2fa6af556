//! What is asked.

use bytes::Bytes;
use parm::npy::RowLayout;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::labels::{JudgeError, Labels, Right};
use crate::{
    Chunks, Datatype, InferRequest, InferResponse, ModelMetadata, Parameters, Tensor, TensorMetadata,
};

/// The most bytes of a request. What is larger is a mistake of the server that describes its model.
const LARGEST: usize = 256 << 20;

/// Bytes of the random rows that are made beforehand for one input, where one request has less.
const POOL: usize = 16 << 20;

/// What the input of a model is called whose server names none, as the examples of MLServer have it.
const UNNAMED: &str = "input-0";

/// The most requests with random rows that differ.
const DIFFERENT: usize = 256;

/// Why a model cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueriesError {
    /// The server names no input, and no rows say what it takes.
    #[error("found a model whose server names no inputs, expected rows that are given")]
    NoInputs,
    /// A shape is given for an input that is not there.
    #[error("found a shape for input '{name}', expected one for {expected}")]
    UnknownInput {
        /// The input.
        name: String,
        /// Those that there are.
        expected: String,
    },
    /// The server leaves the shape of a row open, and nothing else says it.
    #[error("found input '{name}' of shape {shape:?}, expected a shape for its rows")]
    AnySize {
        /// The input.
        name: String,
        /// Its shape, as the server says it.
        shape: Vec<i64>,
    },
    /// A row has another shape than the input.
    #[error("found rows of shape {found:?} for input '{name}', expected {expected:?}")]
    Shape {
        /// The input.
        name: String,
        /// The shape of a row.
        found: Vec<u64>,
        /// That of the input, −1 for any size.
        expected: Vec<i64>,
    },
    /// The model takes one row at a time.
    #[error("found {rows} rows in a request, expected 1: input '{name}' has no dimension for more")]
    NoBatches {
        /// The input.
        name: String,
        /// Rows of a request.
        rows: usize,
    },
    /// Elements that are not made up.
    #[error("found input '{name}' of {datatype}, expected elements of a fixed size")]
    NoNumbers {
        /// The input.
        name: String,
        /// Its element type.
        datatype: Datatype,
    },
    /// The rows that are given have another element type than the input.
    #[error("found rows of {found} for input '{name}', expected {expected}")]
    Datatype {
        /// The input.
        name: String,
        /// That of the rows.
        found: Datatype,
        /// That of the input.
        expected: Datatype,
    },
    /// Rows are given for one input, and the model has several.
    #[error("found {inputs} inputs, expected 1 for rows that are given")]
    SeveralInputs {
        /// The inputs.
        inputs: usize,
    },
    /// Another target takes something else.
    #[error("found a model of {found}, expected that of the first target, of {expected}")]
    Different {
        /// Its inputs.
        found: String,
        /// Those of the first target.
        expected: String,
    },
    /// No row is given.
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
        /// Rows of a request.
        rows: usize,
    },
}

/// The shape of one row of an input, for models that leave it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowShape {
    /// The input; none: all that are not named.
    pub input: Option<String>,
    /// The shape of one row.
    pub shape: Vec<u64>,
}

/// Rows that are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// What they are.
    pub layout: RowLayout,
    /// Their elements, little-endian.
    pub data: Bytes,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this seed.
    Random(u64),
    /// They are given, for a model with one input.
    Given(Rows),
}

/// The requests of a measurement.
#[derive(Clone, Debug)]
pub struct Queries {
    model: String,
    version: String,
    /// Rows of one request.
    rows: usize,
    inputs: Vec<Input>,
    /// What is right.
    labels: Option<Labels>,
}

#[derive(Clone, Debug)]
struct Input {
    name: String,
    datatype: Datatype,
    /// Of the tensor of a request.
    shape: Vec<u64>,
    row_bytes: usize,
    /// Rows, taken in turn, and how many they are.
    pool: Bytes,
    pool_rows: usize,
}

impl Queries {
    /// Requests of so many rows for a model as its server describes it: with the rows that are given in
    /// turn, or with random ones. If the server names no input, it is one as the rows that are given.
    ///
    /// Random numbers are uniform: floats from 0 to 1, whole ones from 0 to 127. They are made beforehand,
    /// for up to 256 requests, and then used again, so that making them takes no time while requests are
    /// sent.
    ///
    /// # Errors
    /// What does not fit: see [`QueriesError`].
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
                // Another stream than that of the arrivals.
                random.set_stream(1);
                let input = |input| Input::random(input, rows, shapes, &mut random);
                inputs.iter().map(input).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { model: metadata.name.clone(), version: version.to_owned(), rows, inputs, labels: None })
    }

    /// The same, with what is right.
    #[must_use]
    pub fn with_labels(self, labels: Labels) -> Self {
        Self { labels: Some(labels), ..self }
    }

    /// Checks that the requests are those of another target.
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

    /// How much of the answer to the request of this number is right; none without labels.
    pub(super) fn right(&self, number: u64, answer: &InferResponse) -> Option<Result<Right, JudgeError>> {
        let first = u128::from(number) * self.rows as u128;
        self.labels.as_ref().map(|labels| labels.right(first, self.rows, answer))
    }

    /// The rows of one request.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The request of this number.
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
        // A shape that is also given must be the same.
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

    /// An input as its server describes it, without rows.
    fn new(said: &TensorMetadata, rows: usize, shapes: &[RowShape]) -> Result<Self, QueriesError> {
        let name = said.name.clone();
        let Some(size) = said.datatype.size() else {
            return Err(QueriesError::NoNumbers { name, datatype: said.datatype });
        };
        let named = shapes.iter().find(|shape| shape.input.as_ref() == Some(&said.name));
        let given = named.or_else(|| shapes.iter().find(|shape| shape.input.is_none()));
        // A first dimension of any size is that of rows; a server that says nothing may have one, too.
        // One of 1 may be that of a single row, and none of a row's own: as the rows that are given have it.
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

    /// The tensor of a request: the next rows of the pool, which begins anew after its last one.
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
        // Of whole numbers up to 127, all but the first byte are zeros.
        other => {
            to.push(whole);
            to.extend(std::iter::repeat_n(0, other.size().unwrap_or(1) - 1));
        }
    }
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
