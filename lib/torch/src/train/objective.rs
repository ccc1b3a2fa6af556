//! The objectives of training: a network that answers rows, or the parts of a code.

use parm::LinearCode;
use parm::codes::concat::{Concat, ConcatError};
use tch::{Kind, TchError, Tensor};

use super::augment::Drawn;
use super::counts::{Counts, Truth};
use super::loss::Loss;
use super::rows::{Rows, flat};
use super::scenarios::Scenarios;
use crate::device::Device;
use crate::model::Model;

/// The answers of a training's models, by their index, for f32 rows of one query each.
pub(super) type Models<'a> = dyn Fn(usize, &Tensor) -> Result<Tensor, TchError> + 'a;

/// The objective of a training.
pub(super) trait Objective {
    /// The rows to learn from.
    fn queries(&self) -> &Rows;

    /// Their labels or boxes, if they are known.
    fn truth(&self) -> Option<&Truth>;

    /// The number of rows of a group.
    fn k(&self) -> usize;

    /// The mean loss of groups `[groups, k]` of rows, augmented if `drawn` is given.
    fn loss(&self, models: &Models<'_>, index: &Tensor, drawn: Option<&Drawn>) -> Result<Tensor, TchError>;

    /// Counts the results of groups under every single loss, and their loss.
    fn count(&self, models: &Models<'_>, index: &Tensor, counts: &mut Counts) -> Result<(), TchError>;
}

/// A network that learns the labels or boxes of rows.
pub(super) struct Own<'a> {
    pub(super) queries: &'a Rows,
    pub(super) truth: &'a Truth,
    pub(super) loss: Loss,
}

impl Own<'_> {
    fn answer(
        &self,
        models: &Models<'_>,
        rows: &Tensor,
        drawn: Option<&Drawn>,
    ) -> Result<[Tensor; 2], TchError> {
        let outputs = flat(models(0, &self.queries.shaped(&self.queries.drawn(rows, drawn)?)?)?)?;
        let loss = self.loss.of(&outputs, &self.truth.tensor().f_index_select(0, rows)?)?;
        Ok([outputs, loss])
    }
}

impl Objective for Own<'_> {
    fn queries(&self) -> &Rows {
        self.queries
    }

    fn truth(&self) -> Option<&Truth> {
        Some(self.truth)
    }

    fn k(&self) -> usize {
        1
    }

    fn loss(&self, models: &Models<'_>, index: &Tensor, drawn: Option<&Drawn>) -> Result<Tensor, TchError> {
        let [_, loss] = self.answer(models, &index.f_flatten(0, -1)?, drawn)?;
        Ok(loss)
    }

    fn count(&self, models: &Models<'_>, index: &Tensor, counts: &mut Counts) -> Result<(), TchError> {
        let rows = index.f_flatten(0, -1)?;
        let [outputs, loss] = self.answer(models, &rows, None)?;
        counts.add_loss(&loss, rows.numel() as i64)?;
        counts.count(&outputs, None, Some(&self.truth.select(&rows)?))
    }
}

/// The values that the loss of a code compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compared {
    /// Parity outputs, with the weighted sums of the deployed model's predictions, as in ParM.
    Sums,
    /// Reconstructions, with the predictions, under every loss of up to r predictions.
    #[default]
    Reconstructions,
}

/// How parity queries are made.
pub(super) enum Encoder {
    /// By the code's weighted sums.
    Weights,
    Tiles(Tiles),
    /// By the network of this index, `[k, …]` to `[r, …]`.
    Network(usize),
}

/// The rows as tiles of images.
pub(super) struct Tiles {
    code: Concat,
    /// Each row, shrunk and repeated in every tile: `[rows, elements]`.
    shrunk: Tensor,
    /// 1 in the tile of a slot: `[k, elements]`.
    masks: Tensor,
}

impl Tiles {
    pub(super) fn new(queries: &Rows, k: usize, device: Device) -> Result<Self, TilesError> {
        let code = Concat::new(k, queries.shape())?;
        let elements: usize = queries.shape().iter().product();
        let mut out = Vec::new();
        let mut encode = |group: &[f32]| {
            code.encode_groups(group, &mut out);
            Tensor::f_from_slice(&out)
        };
        let mut masks = Vec::new();
        for slot in 0..k {
            let ones = (0..k * elements).map(|i| if i / elements == slot { 1.0 } else { 0.0 });
            masks.push(encode(&ones.collect::<Vec<f32>>())?.f_ge(0.5)?.f_to_kind(Kind::Float)?);
        }
        let mut row = vec![0.0_f32; elements];
        let mut shrunk = Vec::with_capacity(queries.count());
        for query in 0..queries.count() {
            queries.tensor.f_get(query as i64)?.f_copy_data(&mut row, elements)?;
            shrunk.push(encode(&row.repeat(k))?);
        }
        Ok(Self {
            shrunk: Tensor::f_stack(&shrunk, 0)?.f_to_device(device.0)?,
            masks: Tensor::f_stack(&masks, 0)?.f_to_device(device.0)?,
            code,
        })
    }

    fn encode(&self, index: &Tensor) -> Result<Tensor, TchError> {
        let mut image: Option<Tensor> = None;
        for slot in 0..self.masks.size()[0] {
            let rows = self.shrunk.f_index_select(0, &index.f_select(1, slot)?)?;
            let tile = rows.f_mul(&self.masks.f_get(slot)?)?;
            image = Some(match image {
                None => tile,
                Some(mut image) => image.f_add_(&tile)?,
            });
        }
        image.ok_or_else(none)
    }

    /// The images of groups of augmented rows, which are shrunk here.
    fn encode_drawn(&self, queries: &Rows, index: &Tensor, drawn: &Drawn) -> Result<Tensor, TchError> {
        let rows = queries.drawn(&index.f_flatten(0, 1)?, Some(drawn))?;
        let mut values = vec![0.0_f32; rows.numel()];
        rows.f_copy_data(&mut values, rows.numel())?;
        let mut out = Vec::new();
        self.code.encode_groups(&values, &mut out);
        Tensor::f_from_slice(&out)?.f_view([index.size()[0], -1])?.f_to_device(index.device())
    }
}

/// Rows that cannot be tiled.
#[derive(Debug, thiserror::Error)]
pub enum TilesError {
    /// Their shape is not that of an image, or k tiles do not fit.
    #[error(transparent)]
    Shape(#[from] ConcatError),
    /// libtorch's.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(TchError),
}

impl From<TchError> for TilesError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

/// The models that answer parity queries.
pub(super) enum Answers<'a> {
    /// The networks from this index on, one for each parity query.
    Networks(usize),
    /// The deployed model.
    Deployed(&'a Model),
}

/// A code with networks that are trained.
pub(super) struct Coded<'a> {
    pub(super) queries: &'a Rows,
    pub(super) predictions: &'a Rows,
    pub(super) truth: Option<&'a Truth>,
    pub(super) code: &'a LinearCode,
    pub(super) encoder: Encoder,
    pub(super) answers: Answers<'a>,
    /// The index of the network that decodes, if the decoder is learned.
    pub(super) decoder: Option<usize>,
    pub(super) loss: Loss,
    pub(super) compared: Compared,
    /// The loss patterns of training.
    pub(super) learnt: Scenarios,
    /// All loss patterns of one prediction.
    pub(super) single: Scenarios,
}

impl Coded<'_> {
    /// The parity queries of groups: r times `[groups, elements]`.
    fn encode(
        &self,
        models: &Models<'_>,
        index: &Tensor,
        drawn: Option<&Drawn>,
    ) -> Result<Vec<Tensor>, TchError> {
        match (&self.encoder, drawn) {
            (Encoder::Weights, _) => {
                let parity = |j| self.queries.combine(index, &self.code.weights(j), drawn);
                (0..self.code.r()).map(parity).collect()
            }
            (Encoder::Tiles(tiles), None) => Ok(vec![tiles.encode(index)?]),
            (Encoder::Tiles(tiles), Some(drawn)) => {
                Ok(vec![tiles.encode_drawn(self.queries, index, drawn)?])
            }
            (Encoder::Network(at), _) => {
                let groups = self.queries.drawn(&index.f_flatten(0, 1)?, drawn)?;
                let groups = groups.f_view(&*sized(&index.size(), self.queries.shape()))?;
                let coded = models(*at, &groups)?;
                let parity = |j| coded.f_select(1, j as i64)?.f_flatten(1, -1);
                (0..self.code.r()).map(parity).collect()
            }
        }
    }

    /// The parity outputs of groups: r times `[groups, elements]`.
    fn answer(
        &self,
        models: &Models<'_>,
        index: &Tensor,
        drawn: Option<&Drawn>,
    ) -> Result<Vec<Tensor>, TchError> {
        let coded = self.encode(models, index, drawn)?;
        let answer = |(j, coded): (usize, &Tensor)| {
            let coded = self.queries.shaped(coded)?;
            match &self.answers {
                Answers::Networks(first) => flat(models(first + j, &coded)?),
                Answers::Deployed(model) => flat(model.forward(&coded)?),
            }
        };
        coded.iter().enumerate().map(answer).collect()
    }

    /// All outputs of groups, the deployed model's first: `[groups, k + r, elements]`.
    fn outputs(&self, answers: &[Tensor], index: &Tensor) -> Result<Tensor, TchError> {
        let own = gather(self.predictions, index)?;
        let mut outputs = vec![own];
        for answer in answers {
            outputs.push(answer.f_unsqueeze(1)?);
        }
        Tensor::f_cat(&outputs, 1)
    }

    fn loss_of(&self, models: &Models<'_>, index: &Tensor, answers: &[Tensor]) -> Result<Tensor, TchError> {
        if self.compared == Compared::Reconstructions {
            let outputs = self.outputs(answers, index)?;
            let rebuilt = self.rebuild(&self.learnt, models, &outputs)?;
            return self.loss.of(&rebuilt, &self.lost(&self.learnt, index)?);
        }
        let mut sum: Option<Tensor> = None;
        for (j, answer) in answers.iter().enumerate() {
            let loss = self.loss.of(answer, &self.sums(j, index)?)?;
            sum = Some(match sum {
                None => loss,
                Some(sum) => sum.f_add(&loss)?,
            });
        }
        sum.ok_or_else(none)?.f_div_scalar(answers.len() as f64)
    }

    /// The reconstructions of all groups, one after the other: `[groups·lost, elements]`.
    fn rebuild(
        &self,
        scenarios: &Scenarios,
        models: &Models<'_>,
        outputs: &Tensor,
    ) -> Result<Tensor, TchError> {
        let rebuilt = match self.decoder {
            Some(at) => scenarios.rebuild(outputs, Some(&|answers: &Tensor| models(at, answers)))?,
            None => scenarios.rebuild(outputs, None)?,
        };
        rebuilt.f_flatten(0, 1)
    }

    /// The targets of the lost rows.
    fn lost(&self, scenarios: &Scenarios, index: &Tensor) -> Result<Tensor, TchError> {
        let rows = index.f_index_select(1, scenarios.slots())?.f_flatten(0, 1)?;
        match (self.loss, self.truth) {
            (Loss::CrossEntropy, Some(truth)) => truth.tensor().f_index_select(0, &rows),
            _ => self.predictions.select(&rows),
        }
    }

    /// The target of parity output j: the weighted sum of predictions; for the cross-entropy the weighted
    /// shares of the labels.
    fn sums(&self, j: usize, index: &Tensor) -> Result<Tensor, TchError> {
        let weights = self.code.weights(j);
        let (Loss::CrossEntropy, Some(truth)) = (self.loss, self.truth) else {
            return self.predictions.combine(index, &weights, None);
        };
        let classes = self.predictions.tensor.size()[1];
        // [groups, k, classes] to the weighted mean over the slots.
        let labels = truth.tensor().f_index_select(0, &index.f_flatten(0, 1)?)?;
        let ones = labels.f_one_hot(classes)?.f_to_kind(Kind::Float)?;
        let ones = ones.f_view([-1, weights.len() as i64, classes])?;
        let total = weights.iter().sum::<f64>();
        let shares: Vec<f32> = weights.iter().map(|weight| (weight / total) as f32).collect();
        let shares = Tensor::f_from_slice(&shares)?.f_to_device(ones.device())?;
        ones.f_mul(&shares.f_view([1, -1, 1])?)?.f_sum_dim_intlist(1, false, Kind::Float)
    }

    /// Counts the results of groups under every single loss.
    pub(super) fn count_single(
        &self,
        models: &Models<'_>,
        index: &Tensor,
        answers: &[Tensor],
        counts: &mut Counts,
    ) -> Result<(), TchError> {
        let outputs = self.outputs(answers, index)?;
        let rebuilt = self.rebuild(&self.single, models, &outputs)?;
        let rows = index.f_index_select(1, self.single.slots())?.f_flatten(0, 1)?;
        let own = self.predictions.select(&rows)?;
        let truth = self.truth.map(|truth| truth.select(&rows)).transpose()?;
        counts.count(&rebuilt, Some(&own), truth.as_ref())
    }
}

impl Objective for Coded<'_> {
    fn queries(&self) -> &Rows {
        self.queries
    }

    fn truth(&self) -> Option<&Truth> {
        self.truth
    }

    fn k(&self) -> usize {
        self.code.k()
    }

    fn loss(&self, models: &Models<'_>, index: &Tensor, drawn: Option<&Drawn>) -> Result<Tensor, TchError> {
        let answers = self.answer(models, index, drawn)?;
        self.loss_of(models, index, &answers)
    }

    fn count(&self, models: &Models<'_>, index: &Tensor, counts: &mut Counts) -> Result<(), TchError> {
        let answers = self.answer(models, index, None)?;
        let loss = self.loss_of(models, index, &answers)?;
        counts.add_loss(&loss, index.size()[0])?;
        self.count_single(models, index, &answers, counts)
    }
}

/// Rows by group: `[groups, k, elements]`.
fn gather(rows: &Rows, index: &Tensor) -> Result<Tensor, TchError> {
    let size = index.size();
    rows.select(&index.f_flatten(0, 1)?)?.f_view([size[0], size[1], -1])
}

/// The size `[counts…, shape…]`.
fn sized(counts: &[i64], shape: &[usize]) -> Vec<i64> {
    counts.iter().copied().chain(shape.iter().map(|&axis| axis as i64)).collect()
}

pub(super) fn none() -> TchError {
    TchError::Shape("a part of the code is missing".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Augment;
    use crate::train::random::augment_rng;

    #[test]
    fn tiles_of_images_that_were_drawn_as_they_are_are_those_of_the_images() {
        let values: Vec<f32> = (0..6 * 2 * 8 * 8).map(|i| (i * 7919 % 1009) as f32).collect();
        let queries = Rows::new(&values, 6, &[2, 8, 8], Device::CPU).unwrap();
        let index = Tensor::from_slice(&[3_i64, 0, 5, 1]).view([2, 2]);
        let tiles = Tiles::new(&queries, 2, Device::CPU).unwrap();
        let drawn = Augment { shift: 0, flip: false }.draw(&queries, &mut augment_rng(1, 1, 1)).unwrap();
        let found = tiles.encode_drawn(&queries, &index, &drawn).unwrap();
        assert_eq!(found, tiles.encode(&index).unwrap());
    }
}
