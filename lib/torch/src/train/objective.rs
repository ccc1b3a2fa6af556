//! The objectives of training: a network that answers rows, or the parts of a code.

use parm::Task;
use parm::codes::concat::{Concat, ConcatError};
use parm::codes::{CodeKind, Matrices};
use tch::{Kind, TchError, Tensor};

use super::augment::Drawn;
use super::counts::{Counts, Truth};
use super::loss::Loss;
use super::rows::{Rows, flat, weighted};
use super::scenarios::Scenarios;
use crate::device::Device;
use crate::model::Model;

/// The answers of a training's models, by their index, for f32 rows of one query each.
pub(super) type Models<'a> = dyn Fn(usize, &Tensor) -> Result<Tensor, TchError> + 'a;

/// The objective of a training.
pub(super) trait Objective {
    /// The rows to learn from.
    fn queries(&self) -> &Rows;

    /// Their labels, values or boxes, if they are known.
    fn truth(&self) -> Option<&Truth>;

    /// Counts of nothing yet, for the task of the predictions.
    fn counts(&self) -> Counts;

    /// The number of rows of a group.
    fn k(&self) -> usize;

    /// Whether the deployed model learns with its code.
    fn is_joint(&self) -> bool {
        false
    }

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

    fn counts(&self) -> Counts {
        Counts::new(self.truth.task(), 0.0)
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

/// The deployed model of a code that is trained.
pub(super) enum Deployed<'a> {
    /// It stays as it is: its predictions are known.
    Fixed(&'a Rows),
    /// The network of index 0, which is trained with the code: its own loss, against the truth, and the weight of
    /// the loss of what is rebuilt beside it.
    Joint { loss: Loss, weight: f64 },
}

/// The models that answer coded queries.
pub(super) enum Answers<'a> {
    /// The networks from this index on, one for each parity query.
    Networks(usize),
    /// The deployed model, which stays as it is.
    Deployed(&'a Model),
    /// The deployed model, which is the network of index 0.
    Joint,
}

/// The outputs of a code's models for groups.
struct Outputs {
    /// The deployed model's predictions: `[groups, k, elements]`.
    own: Tensor,
    /// The answers to coded queries, by query: `[groups, elements]` each.
    coded: Vec<Tensor>,
}

/// A code with networks that are trained.
pub(super) struct Coded<'a> {
    pub(super) queries: &'a Rows,
    pub(super) deployed: Deployed<'a>,
    pub(super) truth: Option<&'a Truth>,
    pub(super) task: Task,
    /// The largest distance of values that agree.
    pub(super) tolerance: f64,
    pub(super) code: &'a CodeKind,
    /// The weights of the queries in each coded query, if the encoder or decoder uses them.
    pub(super) weights: Vec<Vec<f64>>,
    pub(super) encoder: Encoder,
    pub(super) answers: Answers<'a>,
    /// The index of the network that decodes, if the decoder is learned.
    pub(super) decoder: Option<usize>,
    pub(super) loss: Loss,
    pub(super) compared: Compared,
    /// The loss patterns of training.
    pub(super) learnt: Scenarios,
    /// All loss patterns of one answer.
    pub(super) single: Scenarios,
}

impl Coded<'_> {
    /// The coded queries of groups, by query: `[groups, elements]` each.
    fn encode(
        &self,
        models: &Models<'_>,
        index: &Tensor,
        drawn: Option<&Drawn>,
    ) -> Result<Vec<Tensor>, TchError> {
        match (&self.encoder, drawn) {
            (Encoder::Weights, _) => {
                let coded = |weights: &Vec<f64>| self.queries.combine(index, weights, drawn);
                self.weights.iter().map(coded).collect()
            }
            (Encoder::Tiles(tiles), None) => Ok(vec![tiles.encode(index)?]),
            (Encoder::Tiles(tiles), Some(drawn)) => {
                Ok(vec![tiles.encode_drawn(self.queries, index, drawn)?])
            }
            (Encoder::Network(at), _) => {
                let groups = self.queries.drawn(&index.f_flatten(0, 1)?, drawn)?;
                let groups = groups.f_view(&*sized(&index.size(), self.queries.shape()))?;
                let coded = models(*at, &groups)?;
                let coded = |j| coded.f_select(1, j as i64)?.f_flatten(1, -1);
                (0..self.weights.len()).map(coded).collect()
            }
        }
    }

    /// The outputs of all models for groups.
    fn outputs(
        &self,
        models: &Models<'_>,
        index: &Tensor,
        drawn: Option<&Drawn>,
    ) -> Result<Outputs, TchError> {
        let mut coded = self.encode(models, index, drawn)?;
        let own = match self.deployed {
            Deployed::Fixed(predictions) => predictions.select(&index.f_flatten(0, 1)?)?,
            Deployed::Joint { .. } => {
                // Coded queries that it answers as well are of the same batch: batch normalisation sees all.
                let rows = index.numel() as i64;
                let mut asked = vec![self.queries.drawn(&index.f_flatten(0, 1)?, drawn)?];
                if let Answers::Joint = self.answers {
                    asked.append(&mut coded);
                }
                let all = flat(models(0, &self.queries.shaped(&Tensor::f_cat(&asked, 0)?)?)?)?;
                if let Answers::Joint = self.answers {
                    let answers = all.f_narrow(0, rows, all.size()[0] - rows)?;
                    coded = answers.f_split(index.size()[0], 0)?;
                }
                all.f_narrow(0, 0, rows)?
            }
        };
        let own = own.f_view([index.size()[0], index.size()[1], -1])?;
        let answer = |(j, coded): (usize, &Tensor)| match &self.answers {
            Answers::Networks(first) => flat(models(first + j, &self.queries.shaped(coded)?)?),
            Answers::Deployed(model) => flat(model.forward(&self.queries.shaped(coded)?)?),
            Answers::Joint => Ok(coded.shallow_clone()),
        };
        let coded = coded.iter().enumerate().map(answer).collect::<Result<_, TchError>>()?;
        Ok(Outputs { own, coded })
    }

    /// The mean loss of groups.
    fn loss_of(&self, models: &Models<'_>, index: &Tensor, outputs: &Outputs) -> Result<Tensor, TchError> {
        let coded = match self.compared {
            Compared::Reconstructions => {
                let rebuilt = self.rebuild(&self.learnt, models, outputs)?;
                self.loss.of(&rebuilt, &self.lost(&self.learnt, index, outputs)?)?
            }
            Compared::Sums => self.loss_of_sums(index, outputs)?,
        };
        match (&self.deployed, self.truth) {
            (Deployed::Joint { loss, weight }, Some(truth)) => {
                let truth = truth.tensor().f_index_select(0, &index.f_flatten(0, 1)?)?;
                loss.of(&outputs.own.f_flatten(0, 1)?, &truth)?.f_add(&coded.f_mul_scalar(*weight)?)
            }
            _ => Ok(coded),
        }
    }

    /// The mean loss of the answers to coded queries against the weighted sums of predictions.
    fn loss_of_sums(&self, index: &Tensor, outputs: &Outputs) -> Result<Tensor, TchError> {
        let mut sum: Option<Tensor> = None;
        for (answer, weights) in outputs.coded.iter().zip(&self.weights) {
            let loss = self.loss.of(answer, &self.sums(weights, index, outputs)?)?;
            sum = Some(match sum {
                None => loss,
                Some(sum) => sum.f_add(&loss)?,
            });
        }
        sum.ok_or_else(none)?.f_div_scalar(outputs.coded.len() as f64)
    }

    /// The reconstructions of all groups, one after the other: `[groups·lost, elements]`.
    fn rebuild(
        &self,
        scenarios: &Scenarios,
        models: &Models<'_>,
        outputs: &Outputs,
    ) -> Result<Tensor, TchError> {
        let coded = Tensor::f_stack(&outputs.coded, 1)?;
        let all = match self.code {
            CodeKind::Systematic(_) => Tensor::f_cat(&[&outputs.own, &coded], 1)?,
            CodeKind::Interpolating(_) => coded,
        };
        let rebuilt = match self.decoder {
            Some(at) => scenarios.rebuild(&all, Some(&|answers: &Tensor| models(at, answers)))?,
            None => scenarios.rebuild(&all, None)?,
        };
        rebuilt.f_flatten(0, 1)
    }

    /// The targets of the lost rows.
    fn lost(&self, scenarios: &Scenarios, index: &Tensor, outputs: &Outputs) -> Result<Tensor, TchError> {
        match (self.loss, self.truth) {
            (Loss::CrossEntropy, Some(truth)) => {
                let rows = index.f_index_select(1, scenarios.slots())?.f_flatten(0, 1)?;
                truth.tensor().f_index_select(0, &rows)
            }
            _ => own_of(scenarios, outputs)?.f_detach(),
        }
    }

    /// The target of the answer to a coded query: the weighted sum of predictions; for the cross-entropy the
    /// weighted shares of the labels.
    fn sums(&self, weights: &[f64], index: &Tensor, outputs: &Outputs) -> Result<Tensor, TchError> {
        let (Loss::CrossEntropy, Some(truth)) = (self.loss, self.truth) else {
            let own = outputs.own.f_detach()?;
            return weighted(weights, |slot| own.f_select(1, slot)?.f_detach_copy());
        };
        let classes = outputs.own.size()[2];
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
    fn count_single(
        &self,
        models: &Models<'_>,
        index: &Tensor,
        outputs: &Outputs,
        counts: &mut Counts,
    ) -> Result<(), TchError> {
        let rebuilt = self.rebuild(&self.single, models, outputs)?;
        let rows = index.f_index_select(1, self.single.slots())?.f_flatten(0, 1)?;
        let truth = self.truth.map(|truth| truth.select(&rows)).transpose()?;
        counts.count(&rebuilt, Some(&own_of(&self.single, outputs)?), truth.as_ref())
    }
}

impl Objective for Coded<'_> {
    fn queries(&self) -> &Rows {
        self.queries
    }

    fn truth(&self) -> Option<&Truth> {
        self.truth
    }

    fn counts(&self) -> Counts {
        Counts::new(self.task, self.tolerance)
    }

    fn k(&self) -> usize {
        self.code.k()
    }

    fn is_joint(&self) -> bool {
        matches!(self.deployed, Deployed::Joint { .. })
    }

    fn loss(&self, models: &Models<'_>, index: &Tensor, drawn: Option<&Drawn>) -> Result<Tensor, TchError> {
        let outputs = self.outputs(models, index, drawn)?;
        self.loss_of(models, index, &outputs)
    }

    fn count(&self, models: &Models<'_>, index: &Tensor, counts: &mut Counts) -> Result<(), TchError> {
        let outputs = self.outputs(models, index, None)?;
        counts.add_loss(&self.loss_of(models, index, &outputs)?, index.size()[0])?;
        self.count_single(models, index, &outputs, counts)
    }
}

/// The deployed model's predictions of the lost rows, group by group.
fn own_of(scenarios: &Scenarios, outputs: &Outputs) -> Result<Tensor, TchError> {
    outputs.own.f_index_select(1, scenarios.slots())?.f_flatten(0, 1)
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
