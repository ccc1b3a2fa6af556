//! Encoding and decoding the rows of a model.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use parm::Dtype;
use parm::calibration::Calibration;
use parm::codes::concat::Concat;
use parm::codes::{self, Code};
use parm::dtype::Float;
use parm_engine::{Decode, Mask};

use super::spec::{RowTensor, Spec};
use crate::config::{Coded, Decoder, Encoder, ServedCode, calibration_of};
use crate::oip::{Chunks, Datatype, Parameters, Tensor};

/// A model inside this process that codes: a learned encoder or decoder.
pub trait Network: Send + Sync + 'static {
    /// Runs it on one group, `[1, rows, …]` with the given shape of a row, and gives its outputs,
    /// one row behind the other.
    ///
    /// # Errors
    /// What went wrong.
    fn run(&self, rows: usize, shape: &[u64], values: &[f32]) -> Result<Vec<f32>, String>;
}

/// The networks of a learned code.
#[derive(Clone, Default)]
pub struct Networks {
    /// The learned encoder.
    pub encoder: Option<Arc<dyn Network>>,
    /// The learned decoder.
    pub decoder: Option<Arc<dyn Network>>,
}

/// The members of a coded row: slots in order, with the bytes of each coded input.
pub type Members = Vec<(usize, Vec<Bytes>)>;

/// Makes coded queries; shared by calls.
pub struct RowEncoder {
    k: usize,
    inputs: Vec<RowTensor>,
    how: How,
}

enum How {
    /// The weights of each coded query, `[coded queries][k]`.
    Matrix(Vec<Vec<f64>>),
    /// One encoder for each input.
    Concat {
        single: Vec<Concat<f32>>,
        double: Vec<Concat<f64>>,
    },
    Network(Arc<dyn Network>),
}

/// Rebuilds predictions.
pub struct RowDecoder {
    /// The indices, among the model's outputs, of those that are rebuilt.
    outputs: Vec<usize>,
    specs: Vec<RowTensor>,
    k: usize,
    n: usize,
    how: By,
    calibration: Option<Calibration>,
}

enum By {
    Linear(codes::Decoder<Box<dyn Code + Send>>),
    Interpolating(codes::Decoder<Box<dyn Code + Send>>),
    Network(Arc<dyn Network>),
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
    /// How far to trust it, 0 to 1; 0 where the first output is no vector of logits.
    pub confidence: f32,
}

/// The inputs that the configuration names, or all, by index; of outputs alike.
///
/// # Errors
/// A name that the model does not have, or a tensor that cannot be coded.
fn chosen(names: &[String], all: &[RowTensor], outputs: bool) -> Result<Vec<usize>, String> {
    let side = if outputs { "output" } else { "input" };
    let indices: Vec<usize> = if names.is_empty() {
        (0..all.len()).collect()
    } else {
        let index = |name: &String| {
            all.iter().position(|spec| spec.name == *name).ok_or_else(|| {
                let have: Vec<&str> = all.iter().map(|spec| spec.name.as_str()).collect();
                format!("found no {side} '{name}' to code, the model has {}", have.join(", "))
            })
        };
        names.iter().map(index).collect::<Result<_, _>>()?
    };
    let fits = |spec: &RowTensor| if outputs { spec.is_float() } else { spec.dtype().is_some() };
    match indices.iter().find(|&&index| !fits(&all[index])) {
        Some(&index) => {
            Err(format!("cannot code the {side} '{}' of {}", all[index].name, all[index].datatype))
        }
        None => Ok(indices),
    }
}

/// The encoder and decoder of a model.
///
/// # Errors
/// Tensors that the code cannot work with.
pub fn coders(
    spec: &Spec,
    coded: &Coded,
    code: &ServedCode,
    networks: Networks,
) -> Result<(CodedInputs, RowEncoder, RowDecoder), String> {
    let inputs = chosen(&coded.inputs, &spec.inputs, false)?;
    let outputs = chosen(&coded.outputs, &spec.outputs, true)?;
    let specs: Vec<RowTensor> = inputs.iter().map(|&index| spec.inputs[index].clone()).collect();
    let k = code.k;
    let how = match &code.encoder {
        Encoder::Matrix(matrix) => {
            How::Matrix(matrix.row_iter().map(|row| row.iter().copied().collect()).collect())
        }
        Encoder::Concat => {
            let shapes = specs.iter().map(|spec| spec.shape.iter().map(|&axis| axis as usize).collect());
            let shapes: Vec<Vec<usize>> = shapes.collect();
            let text = |error: parm::codes::concat::ConcatError| error.to_string();
            How::Concat {
                single: shapes
                    .iter()
                    .map(|shape| Concat::new(k, shape))
                    .collect::<Result<_, _>>()
                    .map_err(text)?,
                double: shapes
                    .iter()
                    .map(|shape| Concat::new(k, shape))
                    .collect::<Result<_, _>>()
                    .map_err(text)?,
            }
        }
        Encoder::Network { .. } => {
            How::Network(networks.encoder.ok_or("a learned encoder needs embedded models")?)
        }
    };
    let (n, by) = match &code.decoder {
        Decoder::Linear(linear) => {
            (linear.workers(), By::Linear(codes::Decoder::new(Box::new(linear.clone()) as Box<_>)))
        }
        Decoder::Interpolating(code) => {
            if inputs.len() < spec.inputs.len() {
                return Err(
                    "this code runs coded queries on the deployed model: all inputs must be coded".to_owned()
                );
            }
            (code.workers(), By::Interpolating(codes::Decoder::new(Box::new(code.clone()) as Box<_>)))
        }
        Decoder::Network { r, .. } => {
            let network = networks.decoder.ok_or("a learned decoder needs embedded models")?;
            (k + r, By::Network(network))
        }
    };
    let rebuilt = outputs.iter().map(|&index| spec.outputs[index].clone()).collect();
    let decoder = RowDecoder { outputs, specs: rebuilt, k, n, how: by, calibration: calibration_of(coded)? };
    Ok((CodedInputs(inputs), RowEncoder { k, inputs: specs, how }, decoder))
}

/// The indices, among a model's inputs, of those that are coded.
#[derive(Clone, Debug)]
pub struct CodedInputs(pub Vec<usize>);

impl RowEncoder {
    /// The coded batch of one worker of a group, or of one parity: row by row from its members.
    ///
    /// # Errors
    /// A learned encoder that fails.
    pub fn encode(&self, coded: usize, rows: &[Members]) -> Result<Vec<Tensor>, String> {
        let tensor = |(index, spec): (usize, &RowTensor)| {
            let dtype = spec.dtype().unwrap_or(Dtype::F32);
            let double = dtype.encoded() == Dtype::F64;
            let data = if double {
                self.rows::<f64>(coded, rows, index, spec, dtype)?
            } else {
                self.rows::<f32>(coded, rows, index, spec, dtype)?
            };
            Ok(Tensor {
                name: spec.name.clone(),
                datatype: if double { Datatype::Fp64 } else { Datatype::Fp32 },
                shape: spec.shape_of(rows.len()),
                parameters: Parameters::default(),
                data: Chunks::from(data),
            })
        };
        self.inputs.iter().enumerate().map(tensor).collect()
    }

    /// The groups themselves, for who encodes them: of each input `[rows, k, …]`, zeros in slots without a
    /// query.
    #[must_use]
    pub fn groups(&self, rows: &[Members]) -> Vec<Tensor> {
        let tensor = |(index, spec): (usize, &RowTensor)| {
            let zeros = Bytes::from(vec![0; spec.bytes]);
            let in_slot = |members: &Members, slot: usize| {
                let query = members.iter().find(|(held, _)| *held == slot);
                query.and_then(|(_, inputs)| inputs.get(index)).unwrap_or(&zeros).clone()
            };
            let mut shape = spec.shape_of(rows.len());
            shape.insert(1, self.k as u64);
            Tensor {
                name: spec.name.clone(),
                datatype: spec.datatype,
                shape,
                parameters: Parameters::default(),
                data: rows
                    .iter()
                    .flat_map(|members| (0..self.k).map(|slot| in_slot(members, slot)))
                    .collect(),
            }
        };
        self.inputs.iter().enumerate().map(tensor).collect()
    }

    fn rows<T: Pick>(
        &self,
        coded: usize,
        rows: &[Members],
        index: usize,
        spec: &RowTensor,
        dtype: Dtype,
    ) -> Result<Bytes, String> {
        let elements = spec.elements();
        let mut out = vec![T::zeroed(); rows.len() * elements];
        for (members, out) in rows.iter().zip(out.chunks_exact_mut(elements.max(1))) {
            let queries: Vec<(usize, Cow<[T]>)> = members
                .iter()
                .filter_map(|(slot, inputs)| Some((*slot, floats(dtype, inputs.get(index)?))))
                .collect();
            self.row(coded, index, spec, &queries, out)?;
        }
        Ok(Bytes::from_owner(Floats(out)))
    }

    /// One coded row; slots without a query are zeros.
    fn row<T: Pick>(
        &self,
        coded: usize,
        index: usize,
        spec: &RowTensor,
        queries: &[(usize, Cow<[T]>)],
        out: &mut [T],
    ) -> Result<(), String> {
        let all = |zeros: &[T]| -> Vec<T> {
            let query = |slot: usize| {
                queries.iter().find(|(held, _)| *held == slot).map_or(zeros, |(_, query)| &query[..])
            };
            (0..self.k).flat_map(|slot| query(slot).iter().copied()).collect()
        };
        match &self.how {
            How::Matrix(matrix) => {
                let of = matrix.get(coded).map_or(&[][..], Vec::as_slice);
                let weight = |slot: usize| T::from_f64(of.get(slot).copied().unwrap_or(0.0));
                let weights: Vec<T> = queries.iter().map(|(slot, _)| weight(*slot)).collect();
                let rows: Vec<&[T]> = queries.iter().map(|(_, query)| &query[..]).collect();
                codes::combine(&weights, &rows, out);
            }
            How::Concat { single, double } => {
                let zeros = vec![T::zeroed(); out.len()];
                let rows = all(&zeros);
                let rows: Vec<&[T]> = rows.chunks_exact(out.len().max(1)).collect();
                if let Some(concat) = T::pick(single, double).get(index) {
                    concat.encode(&rows, &mut Vec::new(), out);
                }
            }
            How::Network(network) => {
                let zeros = vec![T::zeroed(); out.len()];
                let values: Vec<f32> = all(&zeros).iter().map(|value| value.to_f64() as f32).collect();
                let coded_rows = network.run(self.k, &spec.shape, &values)?;
                let row = coded_rows.chunks_exact(out.len().max(1)).nth(coded);
                let row = row.ok_or("the learned encoder gave fewer parities than its code has")?;
                for (out, value) in out.iter_mut().zip(row) {
                    *out = T::from_f64(f64::from(*value));
                }
            }
        }
        Ok(())
    }
}

impl RowDecoder {
    /// True if all predictions are rebuilt by interpolation.
    #[must_use]
    pub fn interpolates(&self) -> bool {
        matches!(self.how, By::Interpolating(_))
    }

    /// The indices, among the model's outputs, of those that are rebuilt.
    #[must_use]
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// Rebuilds one prediction. `answer` gives the outputs of a worker: of a systematic code the
    /// prediction of the query in its slot, or the output of its parity. `count` is how many outputs
    /// the model has.
    ///
    /// # Errors
    /// What is missing, or a learned decoder that fails.
    pub fn decode<'a>(
        &mut self,
        lost: Lost,
        count: usize,
        answer: impl Fn(usize) -> Option<&'a [Bytes]>,
    ) -> Result<Rebuilt, String> {
        let mut rebuilt = self.rebuild(lost, count, answer)?;
        // 0 and 1 are no estimates: nothing is known, or nothing was lost.
        if let Some(calibration) = &self.calibration
            && 0.0 < rebuilt.confidence
            && rebuilt.confidence < 1.0
        {
            rebuilt.confidence = calibration.apply(rebuilt.confidence);
        }
        Ok(rebuilt)
    }

    fn rebuild<'a>(
        &mut self,
        lost: Lost,
        count: usize,
        answer: impl Fn(usize) -> Option<&'a [Bytes]>,
    ) -> Result<Rebuilt, String> {
        let mut rebuilt = Rebuilt { outputs: vec![Bytes::new(); count], confidence: 0.0 };
        let is_absent = |worker: usize| worker < self.k && lost.absent >> worker & 1 == 1;
        let terms: Vec<(usize, f64)> = match &mut self.how {
            By::Network(network) => {
                let network = Arc::clone(network);
                return self.by_network(&network, lost, rebuilt, answer);
            }
            By::Linear(code) => {
                let decoding = code.decoding(&workers(lost.available | lost.absent, self.n));
                let of = decoding.rebuilt.iter().find(|rebuilt| rebuilt.slot == lost.slot);
                of.ok_or("the code cannot rebuild this slot")?.terms.clone()
            }
            By::Interpolating(code) => {
                let decoding = code.decoding(&workers(lost.available, self.n));
                let of = decoding.rebuilt.iter().find(|rebuilt| rebuilt.slot == lost.slot);
                of.ok_or("the code cannot rebuild this slot")?.terms.clone()
            }
        };
        let systematic = matches!(self.how, By::Linear(_));
        let terms: Vec<(usize, f64)> =
            terms.into_iter().filter(|(worker, _)| !(systematic && is_absent(*worker))).collect();
        let predictions = if systematic { self.k } else { 0 };
        for (place, (&index, spec)) in self.outputs.iter().zip(&self.specs).enumerate() {
            let (bytes, confidence) = if spec.encoded() == Dtype::F64 {
                combine::<f64>(spec, &terms, predictions, |worker| answer(worker)?.get(index))?
            } else {
                combine::<f32>(spec, &terms, predictions, |worker| answer(worker)?.get(index))?
            };
            rebuilt.outputs[index] = bytes;
            if place == 0 {
                rebuilt.confidence = confidence;
            }
        }
        Ok(rebuilt)
    }

    /// The outputs of a parity model, or of coded queries, as [`decode`](Self::decode) wants them:
    /// for each of the model's `count` outputs the elements of all rows, in the float type that the
    /// code computes in.
    ///
    /// # Errors
    /// What was found, and what was expected.
    pub fn accept(&self, tensors: &[Tensor], rows: usize, count: usize) -> Result<Vec<Bytes>, String> {
        let mut outputs = vec![Bytes::new(); count];
        for (&index, spec) in self.outputs.iter().zip(&self.specs) {
            // One output is what it is, whatever a parity model calls it.
            let is_it = |tensor: &&Tensor| tensor.name == spec.name || (tensors.len() == 1 && count == 1);
            let tensor = tensors.iter().find(is_it);
            let tensor = tensor.ok_or_else(|| format!("found no output '{}' in the answer", spec.name))?;
            let expected = spec.shape_of(rows);
            let dtype = tensor.datatype.dtype().filter(|dtype| dtype.is_float());
            let dtype = dtype.ok_or_else(|| {
                format!("found output '{}' of {}, expected a float type", spec.name, tensor.datatype)
            })?;
            if tensor.shape != expected || tensor.data.len() != rows * spec.elements() * dtype.size() {
                return Err(format!(
                    "found output '{}' of shape {:?} in {} bytes, expected {expected:?}",
                    spec.name,
                    tensor.shape,
                    tensor.data.len()
                ));
            }
            let data = tensor.data.contiguous();
            outputs[index] = if dtype == spec.encoded() {
                data
            } else if spec.encoded() == Dtype::F64 {
                Bytes::from_owner(Floats(floats::<f64>(dtype, &data).into_owned()))
            } else {
                Bytes::from_owner(Floats(floats::<f32>(dtype, &data).into_owned()))
            };
        }
        Ok(outputs)
    }

    /// One row of what [`accept`](Self::accept) gave.
    #[must_use]
    pub fn row(&self, outputs: &[Bytes], row: usize) -> Vec<Bytes> {
        let mut slices = vec![Bytes::new(); outputs.len()];
        for (&index, spec) in self.outputs.iter().zip(&self.specs) {
            let size = spec.elements() * spec.encoded().size();
            if let Some(output) = outputs.get(index).filter(|output| output.len() >= (row + 1) * size) {
                slices[index] = output.slice(row * size..(row + 1) * size);
            }
        }
        slices
    }

    /// True if a reconstruction has the prediction's top-1, in the first output that is rebuilt; of
    /// one without classes, if it is within a tenth of its largest magnitude.
    #[must_use]
    pub fn agrees(&self, rebuilt: &[Bytes], prediction: &[Bytes]) -> bool {
        let (Some(&index), Some(spec)) = (self.outputs.first(), self.specs.first()) else { return false };
        let values = |outputs: &[Bytes]| -> Vec<f64> {
            let bytes = outputs.get(index).map_or(&[][..], |bytes| &bytes[..]);
            floats::<f64>(spec.dtype().unwrap_or(Dtype::F64), bytes).into_owned()
        };
        let (rebuilt, prediction) = (values(rebuilt), values(prediction));
        match (&rebuilt[..], &prediction[..]) {
            ([a], [b]) => (a - b).abs() <= 0.1 * b.abs(),
            _ => top(&rebuilt) == top(&prediction),
        }
    }

    fn by_network<'a>(
        &self,
        network: &Arc<dyn Network>,
        lost: Lost,
        mut rebuilt: Rebuilt,
        answer: impl Fn(usize) -> Option<&'a [Bytes]>,
    ) -> Result<Rebuilt, String> {
        for (place, (&index, spec)) in self.outputs.iter().zip(&self.specs).enumerate() {
            let elements = spec.elements();
            let mut values = vec![0.0; self.n * elements];
            for (worker, values) in values.chunks_exact_mut(elements.max(1)).enumerate() {
                let at_hand = lost.available >> worker & 1 == 1;
                if let Some(bytes) = answer(worker).filter(|_| at_hand).and_then(|outputs| outputs.get(index))
                {
                    let own = if worker < self.k { spec.dtype() } else { Some(spec.encoded()) };
                    f32::decode(own.unwrap_or(Dtype::F32), bytes, values);
                }
            }
            let outputs = network.run(self.n, &spec.shape, &values)?;
            let row = outputs.chunks_exact(elements.max(1)).nth(lost.slot);
            let row = row.ok_or("the learned decoder gave fewer predictions than its code has queries")?;
            rebuilt.outputs[index] = to_bytes(row.to_vec(), spec);
            if place == 0 {
                rebuilt.confidence = codes::confidence(row, 1.0);
            }
        }
        Ok(rebuilt)
    }
}

/// A set of workers, one by one.
fn workers(mask: Mask, n: usize) -> Vec<bool> {
    (0..n).map(|worker| mask >> worker & 1 == 1).collect()
}

/// The index of the largest value, the first of several.
fn top(values: &[f64]) -> Option<usize> {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().position(|&value| value == best)
}

/// One output, Σ coefficient·answer, and the confidence in it. The first `predictions` workers
/// answer in the model's own type, the others in that of the code.
fn combine<'a, T: Float>(
    spec: &RowTensor,
    terms: &[(usize, f64)],
    predictions: usize,
    answer: impl Fn(usize) -> Option<&'a Bytes>,
) -> Result<(Bytes, f32), String> {
    let mut rows: Vec<Cow<[T]>> = Vec::with_capacity(terms.len());
    for &(worker, _) in terms {
        let bytes = answer(worker).ok_or_else(|| format!("the answer of worker {worker} is not at hand"))?;
        let own = if worker < predictions { spec.dtype() } else { None };
        rows.push(floats(own.unwrap_or(T::DTYPE), bytes));
    }
    let weights: Vec<T> = terms.iter().map(|(_, c)| T::from_f64(*c)).collect();
    let rows: Vec<&[T]> = rows.iter().map(|row| &row[..]).collect();
    let mut out = vec![T::zeroed(); spec.elements()];
    if rows.iter().any(|row| row.len() != out.len()) {
        return Err(format!("the answers for output '{}' have different sizes", spec.name));
    }
    codes::combine(&weights, &rows, &mut out);
    let amplification = terms.iter().map(|(_, c)| c * c).sum::<f64>().sqrt();
    let confidence = codes::confidence(&out, amplification);
    Ok((to_bytes(out, spec), confidence))
}

fn to_bytes<T: Float>(values: Vec<T>, spec: &RowTensor) -> Bytes {
    let dtype = spec.dtype().unwrap_or(T::DTYPE);
    if dtype == T::DTYPE {
        return Bytes::from_owner(Floats(values));
    }
    let mut bytes = Vec::with_capacity(spec.bytes);
    T::encode(&values, dtype, &mut bytes);
    Bytes::from(bytes)
}

/// Elements as floats; where they lie, if they are what is wanted and aligned.
fn floats<T: Float>(dtype: Dtype, bytes: &[u8]) -> Cow<'_, [T]> {
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
struct Floats<T>(Vec<T>);

impl<T: Float> AsRef<[u8]> for Floats<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Chooses what is made for a float type.
trait Pick: Float {
    fn pick<'a>(single: &'a [Concat<f32>], double: &'a [Concat<f64>]) -> &'a [Concat<Self>];
}

impl Pick for f32 {
    fn pick<'a>(single: &'a [Concat<f32>], _: &'a [Concat<f64>]) -> &'a [Concat<f32>] {
        single
    }
}

impl Pick for f64 {
    fn pick<'a>(_: &'a [Concat<f32>], double: &'a [Concat<f64>]) -> &'a [Concat<f64>] {
        double
    }
}
