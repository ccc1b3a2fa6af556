//! Making coded queries on a device.

use std::ops::Range;

use parm::LinearCode;
use parm::codes::concat::{Concat, ConcatError};
use tch::{TchError, Tensor};

use crate::device::Device;
use crate::model::Model;

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

impl Encoder {
    /// Weighted sums: row i holds the weights of coded query i, one for each of k slots.
    #[must_use]
    pub fn weights(k: usize, weights: Vec<Vec<f64>>) -> Self {
        Self { k, how: How::Weights(weights) }
    }

    /// The weighted sums that are a code's parity queries.
    #[must_use]
    pub fn linear(code: &LinearCode) -> Self {
        Self::weights(code.k(), (0..code.r()).map(|parity| code.weights(parity)).collect())
    }

    /// Images of tiles (the code `concat`) for queries of this shape.
    ///
    /// # Errors
    /// Queries that are no images, or too small.
    pub fn tiles(k: usize, shape: &[usize], device: Device) -> Result<Self, ConcatError> {
        let concat = Concat::<f32>::new(k, shape)?;
        let square = |values: &[f32]| {
            let size = values.len().isqrt() as i64;
            Tensor::from_slice(values).view([size, size]).to_device(device.0)
        };
        let slot = |slot| {
            let [down, across] = concat.matrices(slot);
            [square(&down), square(&across).transpose(0, 1).contiguous()]
        };
        Ok(Self { k, how: How::Tiles((0..k).map(slot).collect()) })
    }

    /// A learned encoder, `[groups, k, …]` to `[groups, r, …]`.
    #[must_use]
    pub fn model(k: usize, model: Model) -> Self {
        Self { k, how: How::Model(model) }
    }

    /// Queries of a group.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// These coded queries of groups `[groups, k, …]`: for each `[groups, …]`.
    pub(crate) fn encode(&self, coded: Range<usize>, groups: &Tensor) -> Result<Vec<Tensor>, TchError> {
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
            let coded = Encoder::weights(k, vec![weights.to_vec()])
                .encode(0..1, &Tensor::from_slice(&values).view(size))
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
