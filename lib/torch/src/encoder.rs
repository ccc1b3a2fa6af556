//! Making coded queries on a device.

use std::ops::Range;
use std::path::Path;

use nalgebra::DMatrix;
use parm::codes::concat::{Concat, ConcatError};
use parm::codes::{Code, Encoding};
use tch::{TchError, Tensor};

use crate::device::{Device, use_threads};
use crate::model::{Model, ModelError};

/// Makes coded queries of groups of k queries.
#[derive(Debug)]
pub struct Encoder {
    k: usize,
    how: How,
}

#[derive(Debug)]
enum How {
    /// Row i holds the weights of coded query i, one for each slot.
    Weights(Vec<Vec<f64>>),
    /// Matrices by slot, D and Aᵀ, where an image X adds D·X·Aᵀ.
    Tiles(Vec<[Tensor; 2]>),
    /// `[groups, k, …]` to `[groups, r, …]`.
    Model(Model),
}

/// Queries that a code cannot encode, or a learned encoder that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// Queries that cannot be tiled.
    #[error(transparent)]
    Concat(#[from] ConcatError),
    /// A model that cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Encoder {
    /// What makes the coded queries of a code for queries of this shape. `load` loads a learned encoder.
    ///
    /// # Errors
    /// Queries that cannot be tiled, or a model that cannot be loaded.
    pub fn new(
        code: &Code,
        shape: &[usize],
        device: Device,
        load: impl FnOnce(&Path) -> Result<Model, ModelError>,
    ) -> Result<Self, EncoderError> {
        let how = match code.encoding() {
            Encoding::Weighted => return Ok(Self::weights(code.k(), &code.parity_matrix())),
            Encoding::Learned(file) => How::Model(load(file)?),
            Encoding::Tiled => {
                let concat = Concat::new(code.k(), shape)?;
                let square = |values: &[f32]| {
                    let size = values.len().isqrt() as i64;
                    Tensor::from_slice(values).view([size, size]).to_device(device.0)
                };
                let slot = |slot| {
                    let [down, across] = concat.matrices(slot);
                    [square(&down), square(&across).transpose(0, 1).contiguous()]
                };
                How::Tiles((0..code.k()).map(slot).collect())
            }
        };
        Ok(Self { k: code.k(), how })
    }

    /// Weighted sums: the matrix `[coded queries, k]`.
    pub(crate) fn weights(k: usize, matrix: &DMatrix<f64>) -> Self {
        let weights = matrix.row_iter().map(|row| row.iter().copied().collect());
        Self { k, how: How::Weights(weights.collect()) }
    }

    /// Queries of a group.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// These coded queries of groups `[groups, k, …]`: for each `[groups, …]`. A model makes them on at most this number of
    /// threads of the CPU.
    pub(crate) fn encode(
        &self,
        coded: Range<usize>,
        groups: &Tensor,
        threads: usize,
    ) -> Result<Vec<Tensor>, TchError> {
        let slot = |slot: usize| groups.f_select(1, slot as i64);
        match &self.how {
            How::Weights(weights) => {
                let none = || TchError::Shape(format!("coded queries {coded:?} of {}", weights.len()));
                let weights = weights.get(coded.clone()).ok_or_else(none)?;
                weights.iter().map(|weights| weighted_sum(groups, weights)).collect()
            }
            How::Tiles(matrices) => {
                let tile =
                    |(at, [down, across]): (usize, &[Tensor; 2])| down.f_matmul(&slot(at)?)?.f_matmul(across);
                coded.map(|_| sum(matrices.iter().enumerate().map(tile))).collect()
            }
            How::Model(model) => {
                use_threads(threads);
                let made = model.predict(groups)?;
                coded.map(|index| made.f_select(1, index as i64)).collect()
            }
        }
    }
}

/// Σ weights\[i\]·groups\[:, i\] for groups `[groups, k, …]`, in as few passes over memory as libtorch has.
fn weighted_sum(groups: &Tensor, weights: &[f64]) -> Result<Tensor, TchError> {
    if weights.len() > 2 && weights.iter().all(|&weight| weight == 1.0) {
        return groups.f_sum_dim_intlist(1, false, groups.kind());
    }
    let mut sum: Option<Tensor> = None;
    for (slot, &weight) in weights.iter().enumerate() {
        let slot = groups.f_select(1, slot as i64)?;
        sum = Some(match sum {
            None if weight == 1.0 => slot,
            None => slot.f_mul_scalar(weight)?,
            Some(sum) if weight == 1.0 => sum.f_add(&slot)?,
            Some(sum) => sum.f_addcmul(&slot, &Tensor::from(weight as f32).f_to_device(slot.device())?)?,
        });
    }
    sum.ok_or_else(|| TchError::Shape("a group without queries".into()))
}

fn sum(mut terms: impl Iterator<Item = Result<Tensor, TchError>>) -> Result<Tensor, TchError> {
    let first = terms.next().unwrap_or_else(|| Err(TchError::Shape("a group without queries".into())))?;
    terms.try_fold(first, |sum, term| sum.f_add(&term?))
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn weighted_sums_are_those_of_the_formula() {
        let weights: [&[f64]; 7] =
            [&[1.0], &[3.0], &[1.0, 1.0], &[1.0, 2.0], &[-0.5, 1.0, 4.0], &[1.0; 5], &[1.0, 2.0, 1.0, 0.0]];
        for weights in weights {
            let (groups, k, elements) = (3, weights.len(), 7);
            let values: Vec<f32> =
                (0..groups * k * elements).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let size = [groups, k, elements].map(|axis| axis as i64);
            let coded = Encoder::weights(k, &DMatrix::from_row_slice(1, k, weights))
                .encode(0..1, &Tensor::from_slice(&values).view(size), 1)
                .unwrap();
            let found = Vec::<f32>::try_from(coded[0].to_kind(Kind::Float).flatten(0, -1)).unwrap();
            // All numbers are small multiples of one half: sums are exact in any order.
            let naive = (0..groups * elements).map(|at| {
                let (group, element) = (at / elements, at % elements);
                (0..k).map(|i| weights[i] as f32 * values[(group * k + i) * elements + element]).sum::<f32>()
            });
            assert_eq!(found, naive.collect::<Vec<_>>(), "{weights:?}");
        }
    }
}
