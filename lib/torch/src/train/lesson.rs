//! The loop: what one model learns, epoch by epoch.

use std::collections::BTreeMap;

use parm::LinearCode;
use tch::{Kind, Reduction, TchError, Tensor};

use super::folder::{Best, Folder, State};
use super::random::{groups, rng, rng_key};
use super::rows::{Rows, combine, flat};
use super::{BEST, Epoch, Recipe, Surroundings, TrainError};
use crate::adam::Adam;
use crate::device::Device;
use crate::network::{Description, Mode, Network};

/// What one model learns.
pub(super) struct Lesson<'a> {
    pub(super) queries: &'a Rows,
    pub(super) goal: Goal<'a>,
    /// The code with the parity at hand as its only one.
    pub(super) code: LinearCode,
    /// Labels of all rows, if known: `[rows]`.
    pub(super) labels: Option<Tensor>,
}

/// The model that learns.
pub(super) struct Student<'a> {
    /// Its layers and shapes.
    pub(super) description: Description,
    /// A model whose weights it begins with.
    pub(super) initial: Option<&'a Network>,
    /// What must be the same for its training to go on.
    pub(super) settings: BTreeMap<String, String>,
    /// Keeps its random numbers apart from those of other models of the same seed.
    pub(super) stream: u64,
}

pub(super) enum Goal<'a> {
    /// The labels, under the cross-entropy.
    Labels,
    /// Weighted sums of these predictions, under the mean squared error.
    Sums(&'a Rows),
}

/// What the validation rows say of a model.
struct Validation {
    loss: f64,
    /// The share that the best model is chosen by.
    score: f64,
    degraded: Option<f64>,
}

/// Sums over the validation rows, on the device: read once, at the end.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) loss: Option<Tensor>,
    pub(super) agreed: Option<Tensor>,
    pub(super) right: Option<Tensor>,
    pub(super) available: Option<Tensor>,
    pub(super) reconstructions: u64,
}

fn add(to: &mut Option<Tensor>, value: &Tensor) -> Result<(), TchError> {
    let value = value.f_to_kind(Kind::Double)?;
    *to = Some(match to.take() {
        None => value,
        Some(sum) => sum.f_add(&value)?,
    });
    Ok(())
}

pub(super) fn read(sum: &Tensor) -> f64 {
    sum.double_value(&[])
}

impl Lesson<'_> {
    fn k(&self) -> usize {
        self.code.k()
    }

    /// The groups of the validation rows `[groups, k]`, the same for every epoch and parity.
    pub(super) fn validation_groups(&self, recipe: &Recipe, device: Device) -> Result<Tensor, TrainError> {
        let rows = self.queries.count();
        let first = rows.saturating_sub(recipe.validation);
        Ok(groups(first..rows, self.k(), &mut rng(recipe.seed, 0, u64::MAX), device)?)
    }

    /// Outputs of a model for groups `index`, and their loss.
    fn answer(&self, model: &Network, index: &Tensor, mode: Mode) -> Result<(Tensor, Tensor), TchError> {
        let weights = self.code.weights(0);
        let outputs = flat(model.forward(&combine(&self.queries.tensor, index, &weights)?, mode)?)?;
        let loss = match (&self.goal, &self.labels) {
            (Goal::Sums(predictions), _) => {
                let sums = combine(&predictions.tensor, index, &weights)?;
                outputs.f_mse_loss(&sums, Reduction::Mean)?
            }
            (Goal::Labels, Some(labels)) => {
                let labels = labels.f_index_select(0, &index.f_flatten(0, -1)?)?;
                outputs.f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0)?
            }
            (Goal::Labels, None) => return Err(TchError::Shape("a classifier without labels".into())),
        };
        Ok((outputs, loss))
    }

    pub(super) fn train(
        &self,
        student: &Student<'_>,
        device: Device,
        recipe: &Recipe,
        around: &mut Surroundings<'_>,
    ) -> Result<Network, TrainError> {
        let Student { description, initial, settings, stream } = student;
        let stream = *stream;
        let k = self.k();
        let rows = self.queries.count().saturating_sub(recipe.validation);
        if rows < k || (1..k).contains(&recipe.validation) || recipe.validation > self.queries.count() {
            return Err(TrainError::TooFew { found: rows, validation: recipe.validation, expected: k });
        }
        let folder = Folder { path: around.folder.clone() };
        folder.create()?;
        let resumed =
            if recipe.resume { folder.resume(description, settings, recipe, device)? } else { None };
        let State { model, mut adam, mut epoch, mut best } = match resumed {
            Some(state) => state,
            None => State::new(description, *initial, rng_key(recipe.seed, stream), device)?,
        };
        let mut metrics = folder.metrics(epoch)?;
        let validation = self.validation_groups(recipe, device)?;
        while epoch < recipe.epochs {
            let begin = (around.clock)();
            let rate = recipe.rate_of(epoch);
            epoch += 1;
            let train_loss = {
                let mut order = rng(recipe.seed, stream, u64::from(epoch));
                let index = groups(0..rows, k, &mut order, device)?;
                self.learn(&model, &mut adam, &index, rate, recipe)?
            };
            let seen = self.validate(&model, &validation)?;
            let losses = [Some(train_loss), seen.as_ref().map(|seen| seen.loss)];
            if let Some(loss) = losses.into_iter().flatten().find(|loss| !loss.is_finite()) {
                return Err(TrainError::Diverged { epoch, loss });
            }
            // Without validation rows nothing tells epochs apart, and the last is taken.
            let rank = seen.as_ref().map_or((f64::from(epoch), train_loss), |seen| (seen.score, seen.loss));
            if best.as_ref().is_none_or(|best| best.is_worse_than(rank)) {
                model.save(&folder.path.join(BEST))?;
                best = Some(Best { epoch, rank, weights: model.weights().copy(device.0)? });
            }
            let score = seen.as_ref().map(|seen| seen.score);
            let is_base = matches!(self.goal, Goal::Labels);
            let line = Epoch {
                epoch,
                train_loss,
                validation_loss: seen.as_ref().map(|seen| seen.loss),
                accuracy: score.filter(|_| is_base),
                agreement: score.filter(|_| !is_base),
                degraded: seen.and_then(|seen| seen.degraded),
                lr: rate,
                seconds: (around.clock)() - begin,
            };
            folder.append(&mut metrics, &line)?;
            let due = epoch == recipe.epochs || epoch.is_multiple_of(recipe.checkpoint_cycle);
            if let Some(best) = best.as_ref().filter(|_| due) {
                folder.save(&model, &adam, epoch, best, settings)?;
            }
            (around.watch)(&line);
        }
        let weights = best.as_ref().map_or(model.weights(), |best| &best.weights);
        Ok(Network::new(description.clone(), weights, device.0)?)
    }

    /// Learns from all groups once; returns the mean loss.
    fn learn(
        &self,
        model: &Network,
        adam: &mut Adam,
        index: &Tensor,
        rate: f64,
        recipe: &Recipe,
    ) -> Result<f64, TchError> {
        let mut sum = None;
        let mut count = 0.0;
        for index in index.f_split(recipe.batch as i64, 0)? {
            let size = index.size()[0] as f64;
            let (_, loss) = self.answer(model, &index, Mode::Train)?;
            let gradients = Tensor::f_run_backward(&[&loss], model.parameters(), false, false)?;
            let flat: Vec<Tensor> = gradients.iter().map(|gradient| gradient.flatten(0, -1)).collect();
            adam.step(&model.weights().parameters, Tensor::f_cat(&flat, 0)?, rate, recipe.decay)?;
            add(&mut sum, &loss.f_detach()?.f_mul_scalar(size)?)?;
            count += size;
        }
        Ok(sum.as_ref().map_or(0.0, read) / count)
    }

    /// What the validation groups say of a model; none without any.
    fn validate(&self, model: &Network, groups: &Tensor) -> Result<Option<Validation>, TchError> {
        let count = groups.size()[0];
        if count == 0 {
            return Ok(None);
        }
        let mut sums = Sums::default();
        tch::no_grad(|| {
            for index in groups.f_split(self.queries.block(), 0)? {
                let (outputs, loss) = self.answer(model, &index, Mode::Evaluate)?;
                add(&mut sums.loss, &loss.f_mul_scalar(index.size()[0] as f64)?)?;
                match &self.goal {
                    Goal::Labels => self.count_right(&outputs, &index.f_flatten(0, -1)?, &mut sums)?,
                    Goal::Sums(predictions) => {
                        self.reconstruct(&predictions.tensor, &index, &[outputs], &mut sums)?;
                    }
                }
            }
            Ok::<_, TchError>(())
        })?;
        let share = |sum: Option<Tensor>| sum.map(|sum| read(&sum) / sums.reconstructions.max(1) as f64);
        let (agreed, right) = (share(sums.agreed), share(sums.right));
        Ok(Some(Validation {
            loss: sums.loss.as_ref().map_or(0.0, read) / count as f64,
            score: agreed.or(right).unwrap_or(0.0),
            degraded: right.filter(|_| agreed.is_some()),
        }))
    }

    fn count_right(&self, outputs: &Tensor, rows: &Tensor, sums: &mut Sums) -> Result<(), TchError> {
        sums.reconstructions += rows.numel() as u64;
        if let Some(labels) = &self.labels {
            add(
                &mut sums.right,
                &top1(outputs)?.f_eq_tensor(&labels.f_index_select(0, rows)?)?.f_sum(Kind::Int64)?,
            )?;
        }
        Ok(())
    }

    /// Loses each slot of the groups in turn, rebuilds it with the parity outputs and compares.
    pub(super) fn reconstruct(
        &self,
        predictions: &Tensor,
        index: &Tensor,
        answers: &[Tensor],
        sums: &mut Sums,
    ) -> Result<(), TchError> {
        let k = self.k();
        let rows: Vec<Tensor> =
            (0..k).map(|slot| index.f_select(1, slot as i64)).collect::<Result<_, _>>()?;
        let own: Vec<Tensor> =
            rows.iter().map(|rows| predictions.f_index_select(0, rows)).collect::<Result<_, _>>()?;
        for slot in 0..k {
            let mut available = vec![true; k + answers.len()];
            available[slot] = false;
            // A slot that the parities do not hold (its weights are 0) cannot be rebuilt.
            let decoding = self.code.decoding(&available);
            let Some(rebuilt) = decoding.rebuilt.first() else { continue };
            let mut sum = own[slot].f_zeros_like()?;
            for &(at, coefficient) in &rebuilt.terms {
                let answer = if at < k { &own[at] } else { &answers[at - k] };
                let _ = sum.f_add_(&answer.f_mul_scalar(coefficient)?)?;
            }
            let agreed = top1(&sum)?.f_eq_tensor(&top1(&own[slot])?)?.f_sum(Kind::Int64)?;
            add(&mut sums.agreed, &agreed)?;
            self.count_right(&sum, &rows[slot], sums)?;
            if let Some(labels) = &self.labels {
                let right = top1(&own[slot])?.f_eq_tensor(&labels.f_index_select(0, &rows[slot])?)?;
                add(&mut sums.available, &right.f_sum(Kind::Int64)?)?;
            }
        }
        Ok(())
    }
}

fn top1(rows: &Tensor) -> Result<Tensor, TchError> {
    rows.f_argmax(1, false)
}
