//! Encoding and decoding the rows of a model.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parm::Dtype;
use parm::calibration::Calibration;
use parm::codes::concat::Concat;
use parm::codes::{self, Code, Network, NetworkError};
use parm::dtype::Float;
use parm_engine::{Decode, Mask};

use super::decoding::{LearnedDecoder, LearnedOutput};
use super::spec::{RowTensor, Spec};
use parm_config::{Coded, Decoder, Encoder, ServedCode, calibration_of};
use parm_oip::{Chunks, Datatype, Parameters, Tensor};

/// Loads the network of a file for groups of this shape, `[rows, …]`.
pub type LoadNetwork<'a> = dyn Fn(&Path, &[usize]) -> Result<Arc<dyn Network>, NetworkError> + 'a;

/// The members of a coded row: slots in order, with the bytes of each coded input.
pub type Members = Vec<(usize, Vec<Bytes>)>;

/// Makes coded queries; shared by calls.
pub struct RowEncoder {
    k: usize,
    inputs: Vec<CodedInput>,
}

/// One coded input, and what encodes it.
struct CodedInput {
    spec: RowTensor,
    how: How,
}

enum How {
    /// The weights of each coded query, `[coded queries][k]`.
    Matrix(Arc<Vec<Vec<f64>>>),
    Single(Concat<f32>),
    Double(Concat<f64>),
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
    Network(Arc<LearnedDecoder>),
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
/// Tensors that the code cannot work with, or a network that cannot be loaded.
pub fn coders(
    spec: &Spec,
    coded: &Coded,
    code: &ServedCode,
    load: &LoadNetwork<'_>,
) -> Result<(CodedInputs, RowEncoder, RowDecoder), String> {
    let inputs = chosen(&coded.inputs, &spec.inputs, false)?;
    let outputs = chosen(&coded.outputs, &spec.outputs, true)?;
    let k = code.k;
    let matrix = match &code.encoder {
        Encoder::Matrix(matrix) => matrix.row_iter().map(|row| row.iter().copied().collect()).collect(),
        Encoder::Concat | Encoder::Network { .. } => Vec::new(),
    };
    let matrix = Arc::new(matrix);
    let how = |spec: &RowTensor| match &code.encoder {
        Encoder::Matrix(_) => Ok(How::Matrix(Arc::clone(&matrix))),
        Encoder::Concat if spec.encoded() == Dtype::F64 => {
            Concat::new(k, &spec.axes()).map(How::Double).map_err(|error| error.to_string())
        }
        Encoder::Concat => Concat::new(k, &spec.axes()).map(How::Single).map_err(|error| error.to_string()),
        Encoder::Network { file, .. } => network(load, file, k, spec).map(How::Network),
    };
    let coded_input = |&index: &usize| {
        let spec = spec.inputs[index].clone();
        Ok(CodedInput { how: how(&spec)?, spec })
    };
    let encoder = RowEncoder { k, inputs: inputs.iter().map(coded_input).collect::<Result<_, String>>()? };
    let specs: Vec<RowTensor> = outputs.iter().map(|&index| spec.outputs[index].clone()).collect();
    let (n, how) = match &code.decoder {
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
        Decoder::Network { file, r } => {
            let output = |(&index, spec): (&usize, &RowTensor)| {
                let network = network(load, file, k + r, spec)?;
                Ok(LearnedOutput { index, spec: spec.clone(), network })
            };
            let outputs = outputs.iter().zip(&specs).map(output).collect::<Result<_, String>>()?;
            (k + r, By::Network(Arc::new(LearnedDecoder::new(k, k + r, outputs))))
        }
    };
    let calibration = calibration_of(coded)?;
    Ok((CodedInputs(inputs), encoder, RowDecoder { outputs, specs, k, n, how, calibration }))
}

/// The network of a file, for groups of so many of these rows.
fn network(
    load: &LoadNetwork<'_>,
    file: &Path,
    rows: usize,
    spec: &RowTensor,
) -> Result<Arc<dyn Network>, String> {
    let group: Vec<usize> = std::iter::once(rows).chain(spec.axes()).collect();
    load(file, &group).map_err(|error| error.to_string())
}

/// The indices, among a model's inputs, of those that are coded.
#[derive(Clone, Debug)]
pub struct CodedInputs(pub Vec<usize>);

impl RowEncoder {
    /// True if a network makes all coded queries of a group at once: see [`encode_all`](Self::encode_all).
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.how, How::Network(_)))
    }

    /// The coded batch of one worker of a group, or of one parity: row by row from its members.
    ///
    /// # Errors
    /// A learned encoder that fails.
    pub fn encode(&self, coded: usize, rows: &[Members]) -> Result<Vec<Tensor>, String> {
        let tensor = |(index, input): (usize, &CodedInput)| {
            let spec = &input.spec;
            match &input.how {
                How::Matrix(matrix) => {
                    let weights = matrix.get(coded).map_or(&[][..], Vec::as_slice);
                    Ok(if spec.encoded() == Dtype::F64 {
                        weighted::<f64>(weights, rows, index, spec)
                    } else {
                        weighted::<f32>(weights, rows, index, spec)
                    })
                }
                How::Single(concat) => Ok(tiled(concat, self.k, rows, index, spec)),
                How::Double(concat) => Ok(tiled(concat, self.k, rows, index, spec)),
                How::Network(_) => {
                    let all = self.learned(rows, index)?;
                    let of_parity = all.into_iter().nth(coded);
                    of_parity
                        .ok_or_else(|| "the learned encoder gave fewer parities than its code has".into())
                }
            }
        };
        self.inputs.iter().enumerate().map(tensor).collect()
    }

    /// The coded batches of all parities of a group, by parity: a network makes them in one run.
    ///
    /// # Errors
    /// A learned encoder that fails.
    pub fn encode_all(&self, rows: &[Members]) -> Result<Vec<Vec<Tensor>>, String> {
        let mut all: Vec<Vec<Tensor>> = Vec::new();
        for index in 0..self.inputs.len() {
            let by_parity = self.learned(rows, index)?;
            all.resize_with(by_parity.len(), Vec::new);
            all.iter_mut().zip(by_parity).for_each(|(tensors, tensor)| tensors.push(tensor));
        }
        Ok(all)
    }

    /// One input of all parities, by parity.
    fn learned(&self, rows: &[Members], index: usize) -> Result<Vec<Tensor>, String> {
        let CodedInput { spec, how: How::Network(network) } = &self.inputs[index] else {
            return Err("the encoder is no network".to_owned());
        };
        let elements = spec.elements().max(1);
        let mut values = vec![0.0_f32; rows.len() * self.k * elements];
        for (members, group) in rows.iter().zip(values.chunks_exact_mut(self.k * elements)) {
            for (slot, query) in queries::<f32>(members, index, spec) {
                group[slot * elements..][..elements].copy_from_slice(&query);
            }
        }
        let coded = network.run(rows.len(), &values).map_err(|error| error.to_string())?;
        let parities = coded.len() / (rows.len() * elements).max(1);
        let of_parity = |parity: usize| {
            let groups = coded.chunks_exact(parities * elements);
            let rows_of = groups.flat_map(|group| &group[parity * elements..][..elements]);
            match spec.encoded() {
                Dtype::F64 => floats_tensor(spec, rows_of.map(|&value| f64::from(value)).collect()),
                _ => floats_tensor(spec, rows_of.copied().collect::<Vec<f32>>()),
            }
        };
        Ok((0..parities).map(of_parity).collect())
    }

    /// The groups themselves, for an instance that encodes them: of each input `[rows, k, …]`, zeros in
    /// slots without a query.
    #[must_use]
    pub fn groups(&self, rows: &[Members]) -> Vec<Tensor> {
        let tensor = |(index, CodedInput { spec, .. }): (usize, &CodedInput)| {
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
}

/// One input of the members of a coded row, by slot.
fn queries<'a, T: Float>(
    members: &'a Members,
    index: usize,
    spec: &RowTensor,
) -> impl Iterator<Item = (usize, Cow<'a, [T]>)> {
    let dtype = spec.dtype().unwrap_or(Dtype::F32);
    members.iter().filter_map(move |(slot, inputs)| Some((*slot, floats(dtype, inputs.get(index)?))))
}

/// One weighted sum for each row; slots without a query are zeros.
fn weighted<T: Float>(weights: &[f64], rows: &[Members], index: usize, spec: &RowTensor) -> Tensor {
    let mut out = vec![T::zeroed(); rows.len() * spec.elements()];
    for (members, out) in rows.iter().zip(out.chunks_exact_mut(spec.elements().max(1))) {
        let queries: Vec<(usize, Cow<[T]>)> = queries(members, index, spec).collect();
        let weight = |slot: usize| T::from_f64(weights.get(slot).copied().unwrap_or(0.0));
        let of_slots: Vec<T> = queries.iter().map(|(slot, _)| weight(*slot)).collect();
        let of_queries: Vec<&[T]> = queries.iter().map(|(_, query)| &query[..]).collect();
        codes::combine(&of_slots, &of_queries, out);
    }
    floats_tensor(spec, out)
}

/// One tiled image for each row; slots without a query are zeros.
fn tiled<T: Float>(concat: &Concat<T>, k: usize, rows: &[Members], index: usize, spec: &RowTensor) -> Tensor {
    let elements = spec.elements().max(1);
    let mut out = vec![T::zeroed(); rows.len() * elements];
    let (zeros, mut scratch) = (vec![T::zeroed(); elements], Vec::new());
    for (members, out) in rows.iter().zip(out.chunks_exact_mut(elements)) {
        let queries: Vec<(usize, Cow<[T]>)> = queries(members, index, spec).collect();
        let in_slot = |slot: usize| {
            queries.iter().find(|(held, _)| *held == slot).map_or(&zeros[..], |(_, query)| &query[..])
        };
        let images: Vec<&[T]> = (0..k).map(in_slot).collect();
        concat.encode(&images, &mut scratch, out);
    }
    floats_tensor(spec, out)
}

/// A batch of coded rows.
fn floats_tensor<T: Float>(spec: &RowTensor, values: Vec<T>) -> Tensor {
    Tensor {
        name: spec.name.clone(),
        datatype: if T::DTYPE == Dtype::F64 { Datatype::Fp64 } else { Datatype::Fp32 },
        shape: spec.shape_of(values.len() / spec.elements().max(1)),
        parameters: Parameters::default(),
        data: Chunks::from(Bytes::from_owner(Floats(values))),
    }
}

impl RowDecoder {
    /// True if all predictions are rebuilt by interpolation.
    #[must_use]
    pub fn interpolates(&self) -> bool {
        matches!(self.how, By::Interpolating(_))
    }

    /// The network that rebuilds, if one does: it takes its time, and is to run elsewhere than what waits for
    /// nothing.
    pub(super) fn learned(&self) -> Option<&Arc<LearnedDecoder>> {
        match &self.how {
            By::Network(decoder) => Some(decoder),
            By::Linear(_) | By::Interpolating(_) => None,
        }
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
        self.calibrate(&mut rebuilt);
        Ok(rebuilt)
    }

    /// Makes a probability of a confidence, if there is a calibration.
    pub(super) fn calibrate(&self, rebuilt: &mut Rebuilt) {
        // 0 and 1 are no estimates: nothing is known, or nothing was lost.
        if let Some(calibration) = &self.calibration
            && 0.0 < rebuilt.confidence
            && rebuilt.confidence < 1.0
        {
            rebuilt.confidence = calibration.apply(rebuilt.confidence);
        }
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
            By::Network(decoder) => {
                let task = decoder.gather(lost, count, answer);
                return decoder.run(&[task]).remove(0);
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
