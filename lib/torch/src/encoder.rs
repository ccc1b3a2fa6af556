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
                let term = |(at, &weight): (usize, &f64)| slot(at)?.f_mul_scalar(weight);
                weights.iter().map(|weights| sum(weights.iter().enumerate().map(term))).collect()
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

fn sum(mut terms: impl Iterator<Item = Result<Tensor, TchError>>) -> Result<Tensor, TchError> {
    let first = terms.next().unwrap_or_else(|| Err(TchError::Shape("a group without queries".into())))?;
    terms.try_fold(first, |sum, term| sum.f_add(&term?))
}
