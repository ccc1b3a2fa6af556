//! The rows of a training, and their hashes.

use std::path::Path;

use bytemuck::cast_slice;
use sha2::{Digest, Sha256};
use tch::{Kind, TchError, Tensor};

use super::TrainError;
use super::augment::Drawn;
use crate::device::{Device, threads, use_threads};
use crate::memory::pinned;
use crate::model::Model;

/// The most rows or groups that are computed at a time without training.
const BLOCK: usize = 1024;

/// The most numbers of their queries; the outputs of convolutions are many times larger.
const BLOCK_NUMBERS: usize = 1 << 20;

/// Rows for a device, and the hash of their bytes and shape.
#[derive(Debug)]
pub struct Rows {
    /// `[rows, elements]`, on the device if they fit, otherwise in pinned memory of the host.
    pub(super) tensor: Tensor,
    device: tch::Device,
    shape: Vec<usize>,
    sha256: String,
}

impl Rows {
    /// Copies rows to a device: `values` holds at least `count` of this shape.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`]; libtorch's, if memory is short; fewer values than rows.
    pub fn new(values: &[f32], count: usize, shape: &[usize], device: Device) -> Result<Self, TrainError> {
        let elements: usize = shape.iter().product();
        let missing =
            || TrainError::Count { what: "values", found: values.len(), expected: count * elements };
        let values = values.get(..count * elements).ok_or_else(missing)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite { found: values[at], row: at / elements });
        }
        let bytes: &[u8] = cast_slice(values);
        let size = [count as i64, elements as i64];
        let tensor = Tensor::f_from_data_size(bytes, &size, Kind::Float)?;
        let sha256 = hash(&[format!("{shape:?}").as_bytes(), bytes]);
        let host = Self { tensor, device: tch::Device::Cpu, shape: shape.into(), sha256 };
        host.to_device(device)
    }

    /// The rows for this device.
    ///
    /// # Errors
    /// libtorch's, if memory is short.
    pub fn to_device(self, device: Device) -> Result<Self, TrainError> {
        let tensor = match self.tensor.f_to_device(device.0) {
            Err(error) if crate::is_out_of_memory(&error) => pinned(&self.tensor)?,
            moved => moved?,
        };
        Ok(Self { tensor, device: device.0, ..self })
    }

    /// The number of rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tensor.size().first().map_or(0, |&rows| rows as usize)
    }

    /// The shape of one row.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The device that the rows are for.
    pub(super) fn device(&self) -> tch::Device {
        self.device
    }

    /// The number of rows or groups to compute at a time without training.
    pub(super) fn block(&self) -> i64 {
        let elements = self.shape.iter().product::<usize>().max(1);
        (BLOCK_NUMBERS / elements).clamp(1, BLOCK) as i64
    }

    /// The rows with these indices, on the device. Rows of the host are copied while the device computes.
    pub(super) fn select(&self, index: &Tensor) -> Result<Tensor, TchError> {
        if self.tensor.device() == self.device {
            return self.tensor.f_index_select(0, index);
        }
        let rows = self.tensor.f_index_select(0, &index.f_to_device(self.tensor.device())?)?;
        pinned(&rows)?.f_to_device_(self.device, Kind::Float, true, false)
    }

    /// The rows with these indices, augmented if `drawn` is given.
    pub(super) fn drawn(&self, index: &Tensor, drawn: Option<&Drawn>) -> Result<Tensor, TchError> {
        let rows = self.select(index)?;
        match drawn {
            None => Ok(rows),
            Some(drawn) => drawn.of(&rows, index),
        }
    }

    /// Flat rows `[rows, elements]` in the shape of one row each.
    pub(super) fn shaped(&self, rows: &Tensor) -> Result<Tensor, TchError> {
        let count = rows.size().first().copied().unwrap_or_default();
        let size: Vec<i64> =
            std::iter::once(count).chain(self.shape.iter().map(|&axis| axis as i64)).collect();
        rows.f_reshape(size.as_slice())
    }

    /// Σ weights\[i\]·rows\[index\[g, i\]\] for each group g: `[groups, elements]`.
    pub(super) fn combine(
        &self,
        index: &Tensor,
        weights: &[f64],
        drawn: Option<&Drawn>,
    ) -> Result<Tensor, TchError> {
        weighted(weights, |slot| self.drawn(&index.f_select(1, slot)?, drawn))
    }

    /// SHA-256 of the shape and the values, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// A deployed model's predictions of these rows.
    ///
    /// # Errors
    /// [`TrainError::QueryShape`], [`TrainError::Predictions`]; libtorch's.
    pub fn predict(&self, model: &Model) -> Result<Self, TrainError> {
        if let Some(expected) = model.query_shape().filter(|&shape| shape != self.shape) {
            return Err(TrainError::QueryShape { found: self.shape.clone(), expected: expected.into() });
        }
        use_threads(threads());
        let mut blocks: Vec<Tensor> = Vec::new();
        let mut shape = Vec::new();
        for block in self.tensor.split(self.block(), 0) {
            let rows = block.size()[0];
            let outputs = model.predict(&self.shaped(&block.f_to_device(self.device)?)?)?;
            let size = outputs.size();
            match size.split_first() {
                Some((&first, row)) if first == rows && (blocks.is_empty() || row == shape) => {
                    shape = row.to_vec();
                }
                _ => return Err(TrainError::Predictions { found: size, rows }),
            }
            if matches!(outputs.kind(), Kind::ComplexHalf | Kind::ComplexFloat | Kind::ComplexDouble) {
                return Err(TrainError::Complex);
            }
            blocks.push(outputs.f_to_kind(Kind::Float)?.f_reshape([rows, -1])?);
        }
        let shape = shape.into_iter().map(|axis| axis as usize).collect();
        // The model's hash identifies the predictions, which differ in the last bit between machines.
        Ok(Self { tensor: Tensor::f_cat(&blocks, 0)?, device: self.device, shape, sha256: String::new() })
    }

    /// The shape of a model's output for one row.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn output_shape(&self, model: &Model) -> Result<Vec<usize>, TrainError> {
        let tensor = self.tensor.f_narrow(0, 0, 1)?;
        let first = Self { tensor, device: self.device, shape: self.shape.clone(), sha256: String::new() };
        Ok(first.predict(model)?.shape)
    }
}

/// Outputs as `[rows, elements]`.
pub(super) fn flat(outputs: Tensor) -> Result<Tensor, TchError> {
    match outputs.size()[..] {
        [_, _] => Ok(outputs),
        [rows, ..] => outputs.f_reshape([rows, -1]),
        [] => Err(TchError::Shape("outputs without rows".into())),
    }
}

/// The sum of these tensors times their weights, into the first of them: each is a copy of its own.
pub(super) fn weighted(
    weights: &[f64],
    part: impl Fn(i64) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    let mut sum: Option<Tensor> = None;
    for (slot, &weight) in weights.iter().enumerate() {
        let part = part(slot as i64)?;
        let part = if weight == 1.0 { part } else { part.f_mul_scalar(weight)? };
        sum = Some(match sum {
            None => part,
            Some(mut sum) => sum.f_add_(&part)?,
        });
    }
    sum.ok_or_else(|| TchError::Shape("a group without queries".into()))
}

pub(crate) fn hash(parts: &[&[u8]]) -> String {
    hash_all(parts)
}

/// SHA-256 of these parts, one after the other, in hexadecimal.
pub(super) fn hash_all(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    parm::hash::hexadecimal(&hasher.finalize())
}

pub(super) fn hash_tensor(tensor: &Tensor) -> String {
    hash(&[&bytes_of(tensor)])
}

pub(super) fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.to_device(tch::Device::Cpu).contiguous().copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// The file system's.
pub fn sha256(path: &Path) -> Result<String, TrainError> {
    parm::hash::sha256(path).map_err(|error| TrainError::Folder { path: path.into(), error })
}
