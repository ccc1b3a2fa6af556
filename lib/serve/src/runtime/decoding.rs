//! Rebuilding the rows of a model.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use parm::calibration::Calibration;
use parm::codes::{Code, Decoder, LoadNetwork, Matrices, Reconstruction};
use parm::dtype::Float;
use parm::task::{Spread, TOLERANCE};
use parm::{Dtype, Task};
use parm_engine::Mask;

use super::learned::{LearnedDecoder, LearnedOutput};
use super::rows::{CodingError, Floats, Lost, Rebuilt, floats, to_bytes};
use super::spec::RowTensor;
use parm_config::{Coded, calibration_of};
use parm_oip::Tensor;

/// Rebuilds predictions.
pub struct RowDecoder {
    /// The outputs that are rebuilt, by their indices among the model's outputs.
    outputs: Vec<(usize, RowTensor)>,
    k: usize,
    /// All predictions of a group are rebuilt, by interpolation.
    interpolates: bool,
    how: How,
    calibration: Option<Calibration>,
    task: Task,
    /// The predictions of values that were compared.
    spread: Spread,
}

/// The predictions from which the deviation of values is known well enough to compare them.
const KNOWN: u64 = 8;

enum How {
    Matrices(Decoder),
    Network(Arc<LearnedDecoder>),
}

impl RowDecoder {
    /// The decoder of these outputs.
    pub(super) fn new(
        coded: &Coded,
        task: Option<Task>,
        code: &Code,
        outputs: Vec<(usize, RowTensor)>,
        load: &LoadNetwork<'_>,
    ) -> Result<Self, CodingError> {
        let (k, n) = (code.k(), code.workers());
        // The first output that is rebuilt is the prediction.
        let elements = outputs.first().map_or(0, |(_, spec)| spec.elements());
        let task = Task::choose(task, code.task(), elements)?;
        let how = match code.learned_decoder() {
            None => How::Matrices(code.linear_decoder().with_task(task)),
            Some(file) => {
                let output = |(index, spec): &(usize, RowTensor)| {
                    let network = load(file, &[&[n], &spec.axes()[..]].concat())?;
                    Ok(LearnedOutput { index: *index, spec: spec.clone(), network })
                };
                let outputs = outputs.iter().map(output).collect::<Result<_, CodingError>>()?;
                How::Network(Arc::new(LearnedDecoder::new(k, n, task, outputs)))
            }
        };
        let calibration =
            calibration_of(coded).map_err(|error| CodingError::Calibration(error.to_string()))?;
        let interpolates = code.interpolating().is_some();
        Ok(Self { outputs, k, interpolates, how, calibration, task, spread: Spread::default() })
    }

    /// True if all predictions are rebuilt by interpolation.
    #[must_use]
    pub fn interpolates(&self) -> bool {
        self.interpolates
    }

    /// The network that rebuilds, if one does: it takes its time, and is to run elsewhere than what waits for
    /// nothing.
    pub(super) fn learned(&self) -> Option<&Arc<LearnedDecoder>> {
        match &self.how {
            How::Network(decoder) => Some(decoder),
            How::Matrices(_) => None,
        }
    }

    /// The indices, among the model's outputs, of those that are rebuilt.
    #[must_use]
    pub fn outputs(&self) -> Vec<usize> {
        self.outputs.iter().map(|(index, _)| *index).collect()
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
    ) -> Result<Rebuilt, CodingError> {
        let mut rebuilt = self.rebuild(lost, count, answer)?;
        self.calibrate(&mut rebuilt);
        Ok(rebuilt)
    }

    /// Makes a probability of a confidence, if there is a calibration.
    pub(super) fn calibrate(&self, rebuilt: &mut Rebuilt) {
        if let Some(calibration) = &self.calibration {
            rebuilt.confidence = calibration.calibrate(rebuilt.confidence);
        }
    }

    fn rebuild<'a>(
        &mut self,
        lost: Lost,
        count: usize,
        answer: impl Fn(usize) -> Option<&'a [Bytes]>,
    ) -> Result<Rebuilt, CodingError> {
        let decoder = match &mut self.how {
            How::Network(decoder) => {
                let task = decoder.gather(lost, count, answer);
                return decoder.run(&[task]).remove(0);
            }
            How::Matrices(decoder) => decoder,
        };
        // Queries that are absent were encoded as zeros: they are known, and take no part.
        let systematic = !self.interpolates;
        let (absent, predictions) = if systematic { (lost.absent, self.k) } else { (0, 0) };
        let decoding = decoder.decoding(&workers(lost.available | absent, decoder.kind().workers()));
        let of = decoding.rebuilt.iter().find(|rebuilt| rebuilt.slot == lost.slot);
        let Reconstruction { slot, terms } = of.ok_or(CodingError::Unsolved)?;
        let is_absent = |worker: usize| worker < predictions && absent >> worker & 1 == 1;
        let terms = terms.iter().copied().filter(|(worker, _)| !is_absent(*worker)).collect();
        let of = Reconstruction { slot: *slot, terms };
        let mut rebuilt = Rebuilt { outputs: vec![Bytes::new(); count], confidence: 0.0 };
        for (place, (index, spec)) in self.outputs.iter().enumerate() {
            let answer = |worker| answer(worker)?.get(*index);
            let (bytes, confidence) = match spec.encoded() {
                Dtype::F64 => combine::<f64>(spec, decoder, &of, predictions, answer)?,
                _ => combine::<f32>(spec, decoder, &of, predictions, answer)?,
            };
            rebuilt.outputs[*index] = bytes;
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
    pub fn accept(&self, tensors: &[Tensor], rows: usize, count: usize) -> Result<Vec<Bytes>, CodingError> {
        let mut outputs = vec![Bytes::new(); count];
        for (index, spec) in &self.outputs {
            // One output is what it is, whatever a parity model calls it.
            let is_it = |tensor: &&Tensor| tensor.name == spec.name || (tensors.len() == 1 && count == 1);
            let tensor = tensors.iter().find(is_it);
            let tensor = tensor.ok_or_else(|| CodingError::NoOutput(spec.name.clone()))?;
            let expected = spec.shape_of(rows);
            let dtype = tensor.datatype.dtype().filter(|dtype| dtype.is_float());
            let dtype = dtype
                .ok_or_else(|| CodingError::NoFloat { name: spec.name.clone(), datatype: tensor.datatype })?;
            if tensor.shape != expected || tensor.data.len() != rows * spec.elements() * dtype.size() {
                return Err(CodingError::Shape {
                    name: spec.name.clone(),
                    shape: tensor.shape.clone(),
                    bytes: tensor.data.len(),
                    expected,
                });
            }
            let data = tensor.data.contiguous();
            outputs[*index] = if dtype == spec.encoded() {
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
        for (index, spec) in &self.outputs {
            let size = spec.elements() * spec.encoded().size();
            if let Some(output) = outputs.get(*index).filter(|output| output.len() >= (row + 1) * size) {
                slices[*index] = output.slice(row * size..(row + 1) * size);
            }
        }
        slices
    }

    /// Whether a reconstruction agrees with the prediction, in the first output that is rebuilt: see
    /// [`Task::agreement`]. Values are compared by the deviation of those that were compared; none while these are
    /// too few.
    pub fn agrees(&mut self, rebuilt: &[Bytes], prediction: &[Bytes]) -> Option<bool> {
        let (index, spec) = self.outputs.first()?;
        let values = |outputs: &[Bytes]| -> Vec<f64> {
            let bytes = outputs.get(*index).map_or(&[][..], |bytes| &bytes[..]);
            floats::<f64>(spec.dtype().unwrap_or(Dtype::F64), bytes).into_owned()
        };
        let (rebuilt, prediction) = (values(rebuilt), values(prediction));
        if self.task == Task::Regress {
            self.spread.add(&prediction);
            if self.spread.rows() < KNOWN {
                return None;
            }
        }
        let agreement = self.task.agreement(TOLERANCE * self.spread.deviation());
        Some(agreement.agrees(&rebuilt, &prediction))
    }
}

/// A set of workers, one by one.
fn workers(mask: Mask, n: usize) -> Vec<bool> {
    (0..n).map(|worker| mask >> worker & 1 == 1).collect()
}

/// One output, rebuilt, and the confidence in it. The first `predictions` workers answer in the model's own
/// type, the others in that of the code.
fn combine<'a, T: Float>(
    spec: &RowTensor,
    decoder: &Decoder,
    of: &Reconstruction,
    predictions: usize,
    answer: impl Fn(usize) -> Option<&'a Bytes>,
) -> Result<(Bytes, f32), CodingError> {
    let row = |&(worker, _): &(usize, f64)| -> Result<Cow<'a, [T]>, CodingError> {
        let bytes = answer(worker).ok_or(CodingError::NoAnswer(worker))?;
        let own = if worker < predictions { spec.dtype() } else { None };
        Ok(floats(own.unwrap_or(T::DTYPE), bytes))
    };
    let rows: Vec<Cow<[T]>> = of.terms.iter().map(row).collect::<Result<_, _>>()?;
    let mut out = vec![T::zeroed(); spec.elements()];
    if rows.iter().any(|row| row.len() != out.len()) {
        return Err(CodingError::Sizes(spec.name.clone()));
    }
    of.combine_rows(rows.iter().map(|row| &row[..]), &mut out);
    let confidence = decoder.confidence(of, &out);
    Ok((to_bytes(out, spec), confidence))
}
