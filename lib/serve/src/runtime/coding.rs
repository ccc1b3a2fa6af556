//! Encoding the rows of a model, and what encodes and rebuilds them.

use std::borrow::Cow;

use bytes::Bytes;
use parm::codes::{self, Code, LoadNetwork, NetworkError};
use parm::dtype::Float;
use parm::{Dtype, Task};

use super::decoding::RowDecoder;
use super::rows::{CodingError, floats, floats_tensor};
use super::spec::{RowTensor, Spec};
use parm_config::Coded;
use parm_oip::{Parameters, Tensor};

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
    encoder: codes::Encoder,
}

/// The inputs that the configuration names, or all, by index; of outputs alike.
///
/// # Errors
/// A name that the model does not have, or a tensor that cannot be coded.
fn chosen(names: &[String], all: &[RowTensor], outputs: bool) -> Result<Vec<usize>, CodingError> {
    let side = if outputs { "output" } else { "input" };
    let indices: Vec<usize> = if names.is_empty() {
        (0..all.len()).collect()
    } else {
        let index = |name: &String| {
            all.iter().position(|spec| spec.name == *name).ok_or_else(|| {
                let has: Vec<&str> = all.iter().map(|spec| spec.name.as_str()).collect();
                CodingError::Unknown { side, name: name.clone(), has: has.join(", ") }
            })
        };
        names.iter().map(index).collect::<Result<_, _>>()?
    };
    let fits = |spec: &RowTensor| if outputs { spec.is_float() } else { spec.dtype().is_some() };
    match indices.iter().find(|&&index| !fits(&all[index])) {
        Some(&index) => {
            let RowTensor { name, datatype, .. } = &all[index];
            Err(CodingError::Datatype { side, name: name.clone(), datatype: *datatype })
        }
        None => Ok(indices),
    }
}

/// The encoder and decoder of a model, whose task is this one if the file says so.
///
/// # Errors
/// Tensors that the code cannot work with, another task than that of the code, or a network that cannot be loaded.
pub fn coders(
    spec: &Spec,
    coded: &Coded,
    task: Option<Task>,
    code: &Code,
    load: &LoadNetwork<'_>,
) -> Result<(CodedInputs, RowEncoder, RowDecoder), CodingError> {
    let inputs = chosen(&coded.inputs, &spec.inputs, false)?;
    let outputs = chosen(&coded.outputs, &spec.outputs, true)?;
    if code.interpolating().is_some() && inputs.len() < spec.inputs.len() {
        return Err(CodingError::SomeInputs);
    }
    let coded_input = |&index: &usize| {
        let spec = spec.inputs[index].clone();
        Ok(CodedInput { encoder: code.encoder(&spec.axes(), load)?, spec })
    };
    let encoder = RowEncoder {
        k: code.k(),
        inputs: inputs.iter().map(coded_input).collect::<Result<_, CodingError>>()?,
    };
    let outputs = outputs.into_iter().map(|index| (index, spec.outputs[index].clone())).collect();
    let decoder = RowDecoder::new(coded, task, code, outputs, load)?;
    Ok((CodedInputs(inputs), encoder, decoder))
}

/// The indices, among a model's inputs, of those that are coded.
#[derive(Clone, Debug)]
pub struct CodedInputs(pub Vec<usize>);

impl RowEncoder {
    /// True if a network makes all coded queries of a group at once: see [`encode_all`](Self::encode_all).
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.inputs.iter().any(|input| input.encoder.is_learned())
    }

    /// The coded batch of one worker of a group, or of one parity: row by row from its members.
    ///
    /// # Errors
    /// A learned encoder that fails.
    pub fn encode(&self, coded: usize, rows: &[Members]) -> Result<Vec<Tensor>, CodingError> {
        let tensor = |(index, input): (usize, &CodedInput)| match input.spec.encoded() {
            Dtype::F64 => input.encode::<f64>(coded, rows, index),
            _ => input.encode::<f32>(coded, rows, index),
        };
        Ok(self.inputs.iter().enumerate().map(tensor).collect::<Result<_, NetworkError>>()?)
    }

    /// The coded batches of all parities of a group, by parity: a network makes them in one run.
    ///
    /// # Errors
    /// A learned encoder that fails.
    pub fn encode_all(&self, rows: &[Members]) -> Result<Vec<Vec<Tensor>>, CodingError> {
        let mut all: Vec<Vec<Tensor>> = Vec::new();
        for (index, input) in self.inputs.iter().enumerate() {
            let by_parity = match input.spec.encoded() {
                Dtype::F64 => input.encode_all::<f64>(self.k, rows, index),
                _ => input.encode_all::<f32>(self.k, rows, index),
            }?;
            all.resize_with(by_parity.len(), Vec::new);
            all.iter_mut().zip(by_parity).for_each(|(tensors, tensor)| tensors.push(tensor));
        }
        Ok(all)
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

impl CodedInput {
    /// This input of the members of a coded row, by slot.
    fn queries<'a, T: Float>(
        &self,
        members: &'a Members,
        index: usize,
    ) -> impl Iterator<Item = (usize, Cow<'a, [T]>)> + use<'a, T> {
        let dtype = self.spec.dtype().unwrap_or(Dtype::F32);
        members.iter().filter_map(move |(slot, inputs)| Some((*slot, floats(dtype, inputs.get(index)?))))
    }

    /// One coded query for each row; slots without a query are zeros.
    fn encode<T: Float>(&self, coded: usize, rows: &[Members], index: usize) -> Result<Tensor, NetworkError> {
        let elements = self.spec.elements();
        let (mut out, mut scratch) = (vec![T::zeroed(); rows.len() * elements], Vec::new());
        for (members, out) in rows.iter().zip(out.chunks_exact_mut(elements.max(1))) {
            let queries: Vec<(usize, Cow<[T]>)> = self.queries(members, index).collect();
            let queries: Vec<(usize, &[T])> =
                queries.iter().map(|(slot, query)| (*slot, &query[..])).collect();
            self.encoder.encode_one(coded, &queries, &mut scratch, out)?;
        }
        Ok(floats_tensor(&self.spec, out))
    }

    /// All coded queries of each row, by parity.
    fn encode_all<T: Float>(
        &self,
        k: usize,
        rows: &[Members],
        index: usize,
    ) -> Result<Vec<Tensor>, NetworkError> {
        let (elements, coded) = (self.spec.elements().max(1), self.encoder.coded());
        let mut values = vec![T::zeroed(); rows.len() * k * elements];
        for (members, group) in rows.iter().zip(values.chunks_exact_mut(k * elements)) {
            for (slot, query) in self.queries::<T>(members, index) {
                group[slot * elements..][..elements].copy_from_slice(&query);
            }
        }
        let mut made = Vec::new();
        self.encoder.encode(0..coded, &values, &mut made)?;
        let of_parity = |parity: usize| {
            let groups = made.chunks_exact(coded * elements);
            let rows: Vec<T> =
                groups.flat_map(|group| &group[parity * elements..][..elements]).copied().collect();
            floats_tensor(&self.spec, rows)
        };
        Ok((0..coded).map(of_parity).collect())
    }
}
