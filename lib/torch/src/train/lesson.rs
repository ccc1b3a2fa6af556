//! The training loop.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::counts::{Counts, Truth, read};
use super::objective::{Models, Objective};
use super::random::{augment_rng, dropout_seed, groups, rng, rng_key};
use super::split::Split;
use super::state::{Best, Folder, Learner, State};
use super::{Augment, Environment, Epoch, Recipe, Step, TrainError};
use crate::device::Device;
use crate::timings::Phase;
use crate::trainable::Trainable;

/// Models and their objective.
pub(super) struct Lesson<'a> {
    pub(super) objective: &'a dyn Objective,
    pub(super) learners: Vec<Learner<'a>>,
    /// The settings that must be equal to resume the training.
    pub(super) settings: BTreeMap<String, String>,
    /// The stream of random numbers, which differs between the trainings of one seed.
    pub(super) stream: u64,
    pub(super) device: Device,
}

/// How an epoch ended.
enum Ended {
    /// After its last minibatch, with the mean loss.
    Whole(f64),
    /// Before it, since the caller asked to stop.
    Early,
}

impl Lesson<'_> {
    pub(super) fn train(
        &self,
        recipe: &Recipe,
        environment: &mut Environment<'_>,
    ) -> Result<Vec<Box<dyn Trainable>>, TrainError> {
        let (k, all) = (self.objective.k(), self.objective.queries().count());
        let kept = recipe.validation.rows;
        let rows = all.saturating_sub(kept);
        if rows < k || (1..k).contains(&kept) || kept > all {
            return Err(TrainError::TooFew { found: rows, validation: kept, expected: k });
        }
        let split = split(self.objective, recipe)?;
        let folder = Folder { path: environment.folder.clone() };
        let timings = environment.timings;
        folder.create()?;
        let resumed = if recipe.resume {
            folder.resume(&self.learners, &self.settings, recipe, self.device)?
        } else {
            None
        };
        let key = rng_key(recipe.seed, self.stream);
        let mut state = resumed.map_or_else(|| State::new(&self.learners, key, recipe, self.device), Ok)?;
        let mut metrics = folder.metrics(&state, &self.learners)?;
        let validation = validation_groups(&split, self.objective, recipe, self.device)?;
        let is_last = |state: &State| {
            let without_better = |best: &Best| state.epoch.saturating_sub(best.improved);
            let patience = recipe.patience.zip(state.best.as_ref());
            state.epoch >= recipe.epochs || patience.is_some_and(|(most, best)| without_better(best) >= most)
        };
        while !is_last(&state) {
            let begin = (environment.clock)();
            let rate = recipe.rate_of(state.epoch);
            let learn = || self.learn(&mut state, &split.training, rate, recipe, environment);
            let train_loss = match timings.measure_on(self.device, Phase::Compute, learn)? {
                Ended::Whole(loss) => loss,
                Ended::Early => {
                    timings.measure(Phase::Write, || folder.save(&state, &self.learners, &self.settings))?;
                    return Err(TrainError::Stopped { epoch: state.epoch });
                }
            };
            state.epoch += 1;
            (state.batch, state.losses) = (0, (0.0, 0.0));
            let counts = || count(self.objective, &state.kept_answers(), &validation);
            let counts = timings.measure_on(self.device, Phase::Compute, counts)?;
            let seconds = (environment.clock)() - begin;
            let line = line(state.epoch, train_loss, &counts, self.objective.is_joint(), rate, seconds)?;
            let losses = [Some(train_loss), line.validation_loss];
            if let Some(loss) = losses.into_iter().flatten().find(|loss| !loss.is_finite()) {
                return Err(TrainError::Diverged { epoch: state.epoch, loss });
            }
            timings.measure(Phase::Write, || {
                self.keep_best(&mut state, &line, counts.score(self.objective.is_joint()), &folder)?;
                folder.append(&mut metrics, &line)?;
                if is_last(&state) || state.epoch.is_multiple_of(recipe.checkpoint_cycle) {
                    folder.save(&state, &self.learners, &self.settings)?;
                }
                Ok::<_, TrainError>(())
            })?;
            (environment.watch)(&line);
        }
        match &state.best {
            Some(best) => best.models(&state.models),
            None => Ok(state.models),
        }
    }

    /// Trains one epoch, or the rest of it.
    fn learn(
        &self,
        state: &mut State,
        rows: &[i64],
        rate: f64,
        recipe: &Recipe,
        environment: &mut Environment<'_>,
    ) -> Result<Ended, TrainError> {
        let epoch = u64::from(state.epoch) + 1;
        let mut order = rng(recipe.seed, self.stream, epoch);
        let index = groups(rows, self.objective.k(), &mut order, self.device)?;
        let mut numbers = augment_rng(recipe.seed, self.stream, epoch);
        let draw = |augment: Augment| augment.draw(self.objective.queries(), &mut numbers);
        let drawn = recipe.augment.map(draw).transpose()?;
        let learns = |at: &usize| self.learners.get(*at).is_some_and(|learner| learner.learns);
        let learning: Vec<usize> = (0..state.models.len()).filter(learns).collect();
        let parameters: Vec<Tensor> = learning
            .iter()
            .flat_map(|&at| state.models[at].numbers().learned().map(Tensor::shallow_clone))
            .collect();
        let is_random = state.models.iter().any(|model| model.is_random());
        let (before, mut count) = state.losses;
        let mut sum = Tensor::from(before).f_to_device(self.device.0)?;
        let batches = index.f_split(recipe.batch as i64, 0)?;
        let before_epoch = u64::from(state.epoch) * batches.len() as u64;
        for index in batches.iter().skip(state.batch as usize) {
            if (environment.stop)() {
                state.losses = (read(&sum), count);
                return Ok(Ended::Early);
            }
            let size = index.size()[0] as f64;
            if is_random {
                tch::manual_seed(dropout_seed(recipe.seed, self.stream, epoch, state.batch));
            }
            let loss = self.objective.loss(&state.answers(recipe.mode()), index, drawn.as_ref())?;
            // libtorch ends the process if it is asked for gradients of what has none.
            if !loss.requires_grad() {
                return Err(TrainError::NoGradient);
            }
            let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
            let mut gradients = gradients.iter().zip(&parameters).map(flat_gradient);
            let mut flats = Vec::with_capacity(learning.len());
            for &at in &learning {
                let own = gradients.by_ref().take(state.models[at].numbers().learned().count());
                flats.push(Tensor::f_cat(&own.collect::<Result<Vec<Tensor>, TchError>>()?, 0)?);
            }
            if let Some(most) = recipe.clip {
                clip(&mut flats, most)?;
            }
            let rate = recipe.warmed(rate, before_epoch + state.batch, batches.len() as u64);
            for (&at, gradient) in learning.iter().zip(flats) {
                let learned = &state.models[at].numbers().flat().learned;
                state.optimisers[at].step(learned, &gradient, rate, recipe.decay)?;
            }
            if let Some(decay) = recipe.average {
                state.average(decay)?;
            }
            let loss = loss.f_detach()?.f_to_kind(tch::Kind::Double)?.f_mul_scalar(size)?;
            sum = sum.f_add(&loss)?;
            count += size;
            state.batch += 1;
            (environment.step)(&Step {
                done: state.epoch,
                batch: state.batch,
                batches: batches.len() as u64,
                rate,
                loss: &|| read(&sum) / count,
            });
        }
        Ok(Ended::Whole(read(&sum) / count))
    }

    /// Keeps the models if they are the best so far. Without validation rows, or if the score never
    /// changed, these are the last ones.
    fn keep_best(
        &self,
        state: &mut State,
        line: &Epoch,
        score: Option<f64>,
        folder: &Folder,
    ) -> Result<(), TrainError> {
        let rank = match line.validation_loss {
            Some(loss) => (score.unwrap_or(0.0), loss),
            None => (f64::from(line.epoch), line.train_loss),
        };
        // Without scores the loss alone decides.
        let is_better = |best: &Best| rank.0 > best.rank.0 || (score.is_none() && rank.1 < best.rank.1);
        let known = state.best.as_ref().filter(|best| !is_better(best));
        let improved = known.map_or(line.epoch, |best| best.improved);
        let moved = state.best.as_ref().is_some_and(|best| best.moved || best.rank.0 != rank.0);
        let undecided = score.is_some() && !moved;
        if undecided || state.best.as_ref().is_none_or(|best| best.is_worse_than(rank)) {
            folder.save_best(state.kept(), &self.learners)?;
            let flats = state.kept().iter().map(|model| model.numbers().flat().copy(self.device.0));
            let flats = flats.collect::<Result<_, _>>()?;
            state.best = Some(Best { epoch: line.epoch, rank, moved, improved, flats });
        } else if let Some(best) = &mut state.best {
            best.moved = moved;
        }
        Ok(())
    }
}

/// The gradient of a parameter as numbers `[elements]`; 0 for a parameter that the loss does not depend on.
fn flat_gradient((gradient, parameter): (&Tensor, &Tensor)) -> Result<Tensor, TchError> {
    if gradient.defined() {
        gradient.f_flatten(0, -1)
    } else {
        parameter.f_detach()?.f_zeros_like()?.f_flatten(0, -1)
    }
}

/// Shortens gradients whose norm, of all together, is larger than `most`.
fn clip(gradients: &mut [Tensor], most: f64) -> Result<(), TchError> {
    let norms: Vec<Tensor> = gradients.iter().map(Tensor::f_norm).collect::<Result<_, _>>()?;
    let norm = Tensor::f_stack(&norms, 0)?.f_norm()?;
    let factor = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(most)?.f_clamp_max(1.0)?;
    for gradient in gradients {
        let _ = gradient.f_mul_(&factor)?;
    }
    Ok(())
}

/// The training rows and the validation rows.
pub(super) fn split(objective: &dyn Objective, recipe: &Recipe) -> Result<Split, TchError> {
    let classes = match objective.truth() {
        Some(Truth::Classes(classes)) => Some(Vec::<i64>::try_from(classes.f_to_device(tch::Device::Cpu)?)?),
        Some(Truth::Boxes(_) | Truth::Values(_)) | None => None,
    };
    Ok(Split::new(objective.queries().count(), classes.as_deref(), recipe.validation, recipe.seed))
}

/// The groups of the validation rows `[groups, k]`, the same for every epoch and network.
pub(super) fn validation_groups(
    split: &Split,
    objective: &dyn Objective,
    recipe: &Recipe,
    device: Device,
) -> Result<Tensor, TchError> {
    groups(&split.validation, objective.k(), &mut rng(recipe.seed, 0, u64::MAX), device)
}

/// Counts the results of groups with models.
pub(super) fn count(
    objective: &dyn Objective,
    models: &Models<'_>,
    groups: &Tensor,
) -> Result<Counts, TchError> {
    let mut counts = objective.counts();
    if groups.size()[0] > 0 {
        tch::no_grad(|| {
            for index in groups.f_split(objective.queries().block(), 0)? {
                objective.count(models, &index, &mut counts)?;
            }
            Ok::<_, TchError>(())
        })?;
    }
    Ok(counts)
}

fn line(
    epoch: u32,
    train_loss: f64,
    counts: &Counts,
    is_joint: bool,
    lr: f64,
    seconds: f64,
) -> Result<Epoch, TchError> {
    let agreement = counts.agreement();
    Ok(Epoch {
        epoch,
        train_loss,
        validation_loss: counts.loss(),
        accuracy: counts.accuracy().filter(|_| agreement.is_none()),
        available: counts.available().filter(|_| is_joint),
        agreement,
        degraded: counts.accuracy().filter(|_| agreement.is_some()),
        iou: counts.fit().map(|fit| fit.mean),
        determination: counts.determination(),
        absolute_error: counts.absolute(),
        cosine: counts.cosine(),
        recall: counts.recall()?,
        lr,
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gradients_are_shortened_together_and_short_ones_stay() {
        let gradients = || [Tensor::from_slice(&[3_f32, 0.0]), Tensor::from_slice(&[4_f32])];
        let clipped = |most| {
            let mut all = gradients();
            clip(&mut all, most).unwrap();
            all.map(|gradient| Vec::<f32>::try_from(gradient).unwrap())
        };
        assert_eq!(clipped(6.0), [vec![3.0, 0.0], vec![4.0]]);
        for (found, expected) in clipped(1.0).concat().into_iter().zip([0.6, 0.0, 0.8]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
