//! Training: deployed models (*base*) and parity models, as in ParM (SOSP 2019, section 4.2).
//!
//! A parity model learns to answer the parity query Σ w_i·X_i with Σ w_i·F(X_i), F the deployed
//! model, under the mean squared error. A deployed model is the same with groups of one row, and
//! labels and the cross-entropy in place of sums. Both are one loop over a [`Lesson`].
//!
//! Everything random (initial weights, the groups of each epoch, the groups of the validation rows)
//! is keyed by seed, parity and epoch, and a checkpoint holds all that the loop carries from epoch
//! to epoch. So on one CPU thread of one machine a training repeats itself to the bit, broken off
//! or not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytemuck::cast_slice;
use nalgebra::DMatrix;
use parm::LinearCode;
use parm::codes::CodeError;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Kind, Reduction, TchError, Tensor};

use crate::adam::Adam;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Description, Training};
use crate::device::Device;
use crate::mlp::Mlp;
use crate::model::Model;

/// Rows or groups that are answered at a time where nothing is learnt.
const BLOCK: i64 = 1024;

/// The most classes that a deployed model may have: a guard against labels that are none.
const MAX_CLASSES: i64 = 1 << 20;

/// The newest checkpoint, in a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The best model so far, in a run's folder.
pub const BEST: &str = "best.safetensors";
/// A line per epoch, in a run's folder.
pub const METRICS: &str = "metrics.jsonl";

/// How the learning rate goes over the epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to 0 along half a cosine.
    Cosine,
}

/// How to train.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Passes over the rows.
    pub epochs: u32,
    /// Rows (base) or groups (parity) of a minibatch.
    pub batch: usize,
    /// The learning rate of Adam.
    pub rate: f64,
    /// The weight decay of Adam, added to the gradient.
    pub decay: f64,
    /// How the learning rate goes over the epochs.
    pub schedule: Schedule,
    /// Rows at the end that are kept for validation.
    pub validation: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Epochs between checkpoints.
    pub checkpoint_cycle: u32,
    /// Go on from the newest checkpoint, if there is one.
    pub resume: bool,
}

/// Rows on a device, and the hash of their bytes and shape.
#[derive(Debug)]
pub struct Rows {
    /// `[rows, elements]`
    tensor: Tensor,
    shape: Vec<usize>,
    sha256: String,
}

/// Where a training writes, what time it is and who watches.
pub struct Surroundings<'a> {
    /// The folder of checkpoints and metrics.
    pub folder: PathBuf,
    /// Seconds since some moment.
    pub clock: &'a dyn Fn() -> f64,
    /// Is told of each epoch.
    pub watch: &'a mut dyn FnMut(&Epoch),
}

/// A line of the metrics: what one epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The mean loss over the training rows, while they were learnt.
    pub train_loss: f64,
    /// The mean loss over the validation rows; none without any.
    pub validation_loss: Option<f64>,
    /// Base: the share of validation rows answered rightly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Parity: the share of reconstructions with the deployed model's top-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Parity: the share of right reconstructions; only with labels.
    #[serde(rename = "A_d", skip_serializing_if = "Option::is_none")]
    pub degraded: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// What the epoch took, in seconds.
    pub seconds: f64,
}

/// A training that cannot begin, go on or end.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Rows of other numbers than there are queries.
    #[error("found {found} {what}, expected {expected}: one for each row of data")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// Rows of data.
        expected: usize,
    },
    /// Nothing to learn from.
    #[error(
        "found {found} rows to learn from and {validation} for validation, expected at least {expected} of each"
    )]
    TooFew {
        /// Rows that are left to learn from.
        found: usize,
        /// Rows kept for validation.
        validation: usize,
        /// Rows of one group.
        expected: usize,
    },
    /// A label beyond any class.
    #[error("found label {found} at row {row}, expected 0 to {}", classes - 1)]
    Label {
        /// The label.
        found: i64,
        /// Its row, from 0.
        row: usize,
        /// Classes of the predictions.
        classes: i64,
    },
    /// A deployed model whose queries are others.
    #[error("found rows of shape {found:?}, expected {expected:?} as the deployed model asks for")]
    QueryShape {
        /// The shape of a row of data.
        found: Vec<usize>,
        /// The deployed model's.
        expected: Vec<usize>,
    },
    /// Predictions without a row for each query, or of changing shape.
    #[error("found predictions of shape {found:?} for {rows} rows, expected one row each along axis 0")]
    Predictions {
        /// The shape found.
        found: Vec<i64>,
        /// Rows asked.
        rows: i64,
    },
    /// Weights to begin with that belong to other layers.
    #[error("found layers {found:?} to begin with, expected {expected:?}")]
    Initial {
        /// Layers of the model to begin with.
        found: Vec<usize>,
        /// Layers of the model to train.
        expected: Vec<usize>,
    },
    /// A checkpoint of a training of something else.
    #[error("{}: found a checkpoint with {name} = {found}, expected {expected}: it cannot be resumed", path.display())]
    Settings {
        /// The checkpoint.
        path: PathBuf,
        /// The setting that differs.
        name: String,
        /// Its value in the checkpoint.
        found: String,
        /// Its value now.
        expected: String,
    },
    /// A loss that is infinite or not a number.
    #[error(
        "the training diverged: found a loss of {loss} in epoch {epoch}, expected a finite one; a smaller --lr may help"
    )]
    Diverged {
        /// The epoch.
        epoch: u32,
        /// The loss.
        loss: f64,
    },
    /// A model file that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's folder cannot be used.
    #[error("{}: {error}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Weights that make no code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// libtorch refused to compute.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(#[from] TchError),
}

impl Rows {
    /// Takes over rows: `values` holds at least `count` of this shape.
    ///
    /// # Errors
    /// libtorch's, if memory is short; fewer values than rows.
    pub fn new(values: &[f32], count: usize, shape: &[usize], device: Device) -> Result<Self, TrainError> {
        let elements: usize = shape.iter().product();
        let missing =
            || TrainError::Count { what: "values", found: values.len(), expected: count * elements };
        let values = values.get(..count * elements).ok_or_else(missing)?;
        let bytes: &[u8] = cast_slice(values);
        let size = [count as i64, elements as i64];
        let tensor = Tensor::f_from_data_size(bytes, &size, Kind::Float)?.f_to_device(device.0)?;
        Ok(Self { tensor, shape: shape.into(), sha256: hash(&[format!("{shape:?}").as_bytes(), bytes]) })
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tensor.size().first().map_or(0, |&rows| rows as usize)
    }

    /// The shape of one row.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
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
        let mut blocks: Vec<Tensor> = Vec::new();
        let mut shape = Vec::new();
        for block in self.tensor.split(BLOCK, 0) {
            let rows = block.size()[0];
            let size: Vec<i64> =
                std::iter::once(rows).chain(self.shape.iter().map(|&axis| axis as i64)).collect();
            let outputs = model.predict(&block.f_view(size.as_slice())?)?;
            let size = outputs.size();
            match size.split_first() {
                Some((&first, row)) if first == rows && (blocks.is_empty() || row == shape) => {
                    shape = row.to_vec()
                }
                _ => return Err(TrainError::Predictions { found: size, rows }),
            }
            blocks.push(outputs.f_to_kind(Kind::Float)?.f_view([rows, -1])?);
        }
        let shape = shape.into_iter().map(|axis| axis as usize).collect();
        // The model's own hash names them: those of different machines differ in the last bit.
        Ok(Self { tensor: Tensor::f_cat(&blocks, 0)?, shape, sha256: String::new() })
    }
}

/// What one model learns.
struct Lesson<'a> {
    queries: &'a Rows,
    goal: Goal<'a>,
    /// The code with the parity at hand as its only one.
    code: LinearCode,
    /// Labels of all rows, if known: `[rows]`.
    labels: Option<Tensor>,
}

enum Goal<'a> {
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

/// The best model so far.
struct Best {
    epoch: u32,
    /// Score, then loss; compared by [`Best::is_worse_than`].
    rank: (f64, f64),
    parameters: Tensor,
}

impl Best {
    fn is_worse_than(&self, (score, loss): (f64, f64)) -> bool {
        score > self.rank.0 || (score == self.rank.0 && loss < self.rank.1)
    }
}

/// A trained parity model and the data that it was trained on, to score its code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeScores {
    /// Accuracy of the deployed model; none without labels.
    pub available: Option<f64>,
    /// Accuracy of the reconstructions; none without labels.
    pub degraded: Option<f64>,
    /// Share of reconstructions with the deployed model's own top-1; none without validation rows.
    pub agreement: Option<f64>,
    /// Reconstructions that were scored.
    pub reconstructions: u64,
}

/// Trains a deployed model: an MLP that classifies the rows. Returns the best of all epochs by
/// validation accuracy, and of equals the one of lower loss; without validation rows the last.
///
/// # Errors
/// [`TrainError`], by kind.
pub fn base(
    queries: &Rows,
    labels: &[i64],
    hidden: &[usize],
    device: Device,
    recipe: &Recipe,
    around: &mut Surroundings<'_>,
) -> Result<Mlp, TrainError> {
    let classes = labels.iter().max().map_or(0, |&label| label.saturating_add(1)).min(MAX_CLASSES);
    let bytes: &[u8] = cast_slice(labels);
    let lesson = Lesson {
        queries,
        goal: Goal::Labels,
        code: single(&[1.0])?,
        labels: Some(labels_tensor(labels, queries, classes, device)?),
    };
    let description = Description::mlp(queries.shape(), hidden, &[classes as usize]);
    let own = [("task", "base".into()), ("labels", hash(&[bytes]))];
    let settings = settings(&own, queries, &description, recipe);
    lesson.train(&description, None, settings, 0, device, recipe, around)
}

/// A code to train parity models for, and what it is trained on.
pub struct Parity<'a> {
    /// The queries.
    pub queries: &'a Rows,
    /// The deployed model's predictions of them.
    pub predictions: &'a Rows,
    /// What the predictions come from: the hash of the model, or of the recorded predictions.
    pub deployed: &'a str,
    /// Labels, for scores.
    pub labels: Option<&'a [i64]>,
    /// The code.
    pub code: &'a LinearCode,
    /// Widths of the hidden layers of parity models.
    pub hidden: &'a [usize],
    /// A model whose weights to begin with.
    pub initial: Option<&'a Mlp>,
    /// Where to compute.
    pub device: Device,
}

impl Parity<'_> {
    /// Trains the model of parity `j`. Returns the best of all epochs by validation agreement
    /// (every single loss simulated and decoded with this parity alone), and of equals the one of
    /// lower loss; without validation rows the last.
    ///
    /// # Errors
    /// [`TrainError`], by kind.
    pub fn train(&self, j: usize, recipe: &Recipe, around: &mut Surroundings<'_>) -> Result<Mlp, TrainError> {
        let weights = self.code.weights(j);
        let lesson = self.lesson(single(&weights)?)?;
        let description = Description::mlp(self.queries.shape(), self.hidden, self.predictions.shape());
        let own = [
            ("task", format!("parity {j}")),
            ("deployed", self.deployed.into()),
            ("weights", format!("{weights:?}")),
            ("initial", self.initial.map_or("random".into(), |model| hash_tensor(model.flat()))),
        ];
        let settings = settings(&own, self.queries, &description, recipe);
        lesson.train(&description, self.initial, settings, j as u64 + 1, self.device, recipe, around)
    }

    /// Scores the whole code on the validation rows, every single loss simulated.
    ///
    /// # Errors
    /// libtorch's.
    pub fn score(&self, models: &[Mlp], recipe: &Recipe) -> Result<CodeScores, TrainError> {
        let lesson = self.lesson(self.code.clone())?;
        let groups = lesson.validation_groups(recipe, self.device)?;
        let mut sums = Sums::default();
        tch::no_grad(|| {
            for index in groups.split(BLOCK, 0) {
                let mut answers = Vec::new();
                for (j, model) in models.iter().enumerate() {
                    answers.push(model.forward(&combine(
                        &self.queries.tensor,
                        &index,
                        &self.code.weights(j),
                    )?)?);
                }
                lesson.reconstruct(&self.predictions.tensor, &index, &answers, &mut sums)?;
            }
            Ok::<_, TchError>(())
        })?;
        let share = |right: &Option<Tensor>| {
            right
                .as_ref()
                .filter(|_| sums.reconstructions > 0)
                .map(|right| read(right) / sums.reconstructions as f64)
        };
        Ok(CodeScores {
            available: share(&sums.available).filter(|_| self.labels.is_some()),
            degraded: share(&sums.right).filter(|_| self.labels.is_some()),
            agreement: share(&sums.agreed),
            reconstructions: sums.reconstructions,
        })
    }

    fn lesson(&self, code: LinearCode) -> Result<Lesson<'_>, TrainError> {
        let rows = self.queries.count();
        if self.predictions.count() != rows {
            let found = self.predictions.count();
            return Err(TrainError::Count { what: "predictions", found, expected: rows });
        }
        let classes = self.predictions.tensor.size().get(1).copied().unwrap_or(1);
        let labels = self.labels.map(|labels| labels_tensor(labels, self.queries, classes, self.device));
        Ok(Lesson {
            queries: self.queries,
            goal: Goal::Sums(self.predictions),
            code,
            labels: labels.transpose()?,
        })
    }
}

/// Sums over the validation rows, on the device: read once, at the end.
#[derive(Default)]
struct Sums {
    loss: Option<Tensor>,
    agreed: Option<Tensor>,
    right: Option<Tensor>,
    available: Option<Tensor>,
    reconstructions: u64,
}

fn add(to: &mut Option<Tensor>, value: &Tensor) -> Result<(), TchError> {
    let value = value.f_to_kind(Kind::Double)?;
    *to = Some(match to.take() {
        None => value,
        Some(sum) => sum.f_add(&value)?,
    });
    Ok(())
}

fn read(sum: &Tensor) -> f64 {
    sum.double_value(&[])
}

impl Lesson<'_> {
    fn k(&self) -> usize {
        self.code.k()
    }

    /// The groups of the validation rows `[groups, k]`, the same for every epoch and parity.
    fn validation_groups(&self, recipe: &Recipe, device: Device) -> Result<Tensor, TrainError> {
        let rows = self.queries.count();
        let first = rows.saturating_sub(recipe.validation);
        Ok(groups(first..rows, self.k(), &mut rng(recipe.seed, 0, u64::MAX), device)?)
    }

    /// Outputs of a model for groups `index`, and their loss.
    fn answer(&self, model: &Mlp, index: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let weights = self.code.weights(0);
        let outputs = model.forward(&combine(&self.queries.tensor, index, &weights)?)?;
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

    #[allow(clippy::too_many_arguments)] // one call each for base and parity
    fn train(
        &self,
        description: &Description,
        initial: Option<&Mlp>,
        settings: BTreeMap<String, String>,
        stream: u64,
        device: Device,
        recipe: &Recipe,
        around: &mut Surroundings<'_>,
    ) -> Result<Mlp, TrainError> {
        let k = self.k();
        let rows = self.queries.count().saturating_sub(recipe.validation);
        if rows < k || (1..k).contains(&recipe.validation) || recipe.validation > self.queries.count() {
            return Err(TrainError::TooFew { found: rows, validation: recipe.validation, expected: k });
        }
        let folder = Folder { path: around.folder.clone() };
        folder.create()?;
        let resumed =
            if recipe.resume { folder.resume(description, &settings, recipe, device)? } else { None };
        let State { model, mut adam, mut epoch, mut best } = match resumed {
            Some(state) => state,
            None => State::new(description, initial, rng_key(recipe.seed, stream), device)?,
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
                best = Some(Best { epoch, rank, parameters: model.flat().f_detach_copy()? });
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
                folder.save(&model, &adam, epoch, best, &settings)?;
            }
            (around.watch)(&line);
        }
        let parameters = best.as_ref().map_or(model.flat(), |best| &best.parameters);
        Ok(Mlp::new(description.clone(), parameters, device.0)?)
    }

    /// Learns from all groups once; returns the mean loss.
    fn learn(
        &self,
        model: &Mlp,
        adam: &mut Adam,
        index: &Tensor,
        rate: f64,
        recipe: &Recipe,
    ) -> Result<f64, TchError> {
        let parameters: Vec<&Tensor> = model.parameters().collect();
        let mut sum = None;
        let mut count = 0.0;
        for index in index.f_split(recipe.batch as i64, 0)? {
            let size = index.size()[0] as f64;
            let (_, loss) = self.answer(model, &index)?;
            let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
            let flat: Vec<Tensor> = gradients.iter().map(|gradient| gradient.flatten(0, -1)).collect();
            adam.step(model.flat(), Tensor::f_cat(&flat, 0)?, rate, recipe.decay)?;
            add(&mut sum, &loss.f_detach()?.f_mul_scalar(size)?)?;
            count += size;
        }
        Ok(sum.as_ref().map_or(0.0, read) / count)
    }

    /// What the validation groups say of a model; none without any.
    fn validate(&self, model: &Mlp, groups: &Tensor) -> Result<Option<Validation>, TchError> {
        let count = groups.size()[0];
        if count == 0 {
            return Ok(None);
        }
        let mut sums = Sums::default();
        tch::no_grad(|| {
            for index in groups.f_split(BLOCK, 0)? {
                let (outputs, loss) = self.answer(model, &index)?;
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
    fn reconstruct(
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

/// All that a training carries from epoch to epoch.
struct State {
    model: Mlp,
    adam: Adam,
    /// Epochs that are done.
    epoch: u32,
    best: Option<Best>,
}

impl State {
    fn new(
        description: &Description,
        initial: Option<&Mlp>,
        key: [u8; 32],
        device: Device,
    ) -> Result<Self, TrainError> {
        let model = match initial {
            None => Mlp::random(description.clone(), key, device.0)?,
            Some(model) if model.description().layers == description.layers => {
                Mlp::new(description.clone(), model.flat(), device.0)?
            }
            Some(model) => {
                let (found, expected) = (model.description().layers.clone(), description.layers.clone());
                return Err(TrainError::Initial { found, expected });
            }
        };
        let adam = Adam::new(model.flat())?;
        Ok(Self { model, adam, epoch: 0, best: None })
    }
}

/// The folder of a run.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn error(&self, name: &str) -> impl FnOnce(io::Error) -> TrainError {
        let path = self.path.join(name);
        |error| TrainError::Folder { path, error }
    }

    fn create(&self) -> Result<(), TrainError> {
        fs::create_dir_all(&self.path).map_err(self.error(""))
    }

    fn save(
        &self,
        model: &Mlp,
        adam: &Adam,
        epoch: u32,
        best: &Best,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), TrainError> {
        let (step, mean, square) = adam.state();
        let training = Training { best_epoch: best.epoch, epoch, settings: settings.clone(), step };
        let description = Description { training: Some(training), ..model.description().clone() };
        let mut tensors = model.named();
        let rank = Tensor::from_slice(&[best.rank.0, best.rank.1]);
        let rest = [(MEAN, mean), (SQUARE, square), (BEST_PARAMETERS, &best.parameters), (BEST_RANK, &rank)];
        tensors.extend(rest.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())));
        Ok(checkpoint::write(&self.path.join(CHECKPOINT), &description, &tensors)?)
    }

    /// The state of the newest checkpoint; none if there is no checkpoint.
    fn resume(
        &self,
        description: &Description,
        settings: &BTreeMap<String, String>,
        recipe: &Recipe,
        device: Device,
    ) -> Result<Option<State>, TrainError> {
        let path = self.path.join(CHECKPOINT);
        if !path.try_exists().map_err(self.error(CHECKPOINT))? {
            return Ok(None);
        }
        let mut file = Checkpoint::read(&path)?;
        let differs = |name: &str, found: String, expected: String| {
            Err(TrainError::Settings { path: path.clone(), name: name.into(), found, expected })
        };
        let Some(training) = file.description.training.clone() else {
            return differs("training", "none".into(), "the state of one".into());
        };
        let names = settings.keys().chain(training.settings.keys());
        for name in names {
            let value = |of: &BTreeMap<String, String>| of.get(name).map_or("none".into(), String::clone);
            let (found, expected) = (value(&training.settings), value(settings));
            if found != expected {
                return differs(name, found, expected);
            }
        }
        if training.epoch > recipe.epochs {
            return differs(
                "epoch",
                training.epoch.to_string(),
                format!("at most --epochs {}", recipe.epochs),
            );
        }
        let length: usize = description.parameters().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let flat = file.take_parameters()?;
        let mut take =
            |name, kind, length| file.take(name, kind, &[length]).map(|tensor| tensor.to_device(device.0));
        let adam = Adam::restore(
            training.step,
            &take(MEAN, Kind::Float, length)?,
            &take(SQUARE, Kind::Float, length)?,
        )?;
        let rank = take(BEST_RANK, Kind::Double, 2)?;
        let best = Best {
            epoch: training.best_epoch,
            rank: (rank.double_value(&[0]), rank.double_value(&[1])),
            parameters: take(BEST_PARAMETERS, Kind::Float, length)?,
        };
        // What was written between the checkpoint and the end of that run is not of this one.
        Mlp::new(description.clone(), &best.parameters, device.0)?.save(&self.path.join(BEST))?;
        let model = Mlp::new(description.clone(), &flat, device.0)?;
        Ok(Some(State { model, adam, epoch: training.epoch, best: Some(best) }))
    }

    /// Opens the metrics after the lines of the epochs that are done; a run from the start also
    /// leaves nothing of an earlier one.
    fn metrics(&self, epochs: u32) -> Result<File, TrainError> {
        if epochs == 0 {
            for name in [CHECKPOINT, BEST] {
                match fs::remove_file(self.path.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.error(name)(error));
                    }
                    _ => {}
                }
            }
        }
        let path = self.path.join(METRICS);
        let old = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(self.error(METRICS)(error)),
        };
        let kept = |line: &&str| serde_json::from_str::<Epoch>(line).is_ok_and(|line| line.epoch <= epochs);
        let text: String = old.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
        let mut file = File::create(path).map_err(self.error(METRICS))?;
        file.write_all(text.as_bytes()).map_err(self.error(METRICS))?;
        Ok(file)
    }

    fn append(&self, metrics: &mut File, line: &Epoch) -> Result<(), TrainError> {
        let text = serde_json::to_string(line).map_err(io::Error::other).map(|text| text + "\n");
        text.and_then(|text| metrics.write_all(text.as_bytes())).map_err(self.error(METRICS))
    }
}

const MEAN: &str = "adam.mean";
const SQUARE: &str = "adam.square";
const BEST_PARAMETERS: &str = "best.parameters";
const BEST_RANK: &str = "best.rank";

impl Recipe {
    /// The learning rate after `done` epochs.
    fn rate_of(&self, done: u32) -> f64 {
        match self.schedule {
            Schedule::Constant => self.rate,
            Schedule::Cosine => {
                let part = f64::from(done) / f64::from(self.epochs);
                self.rate * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
        }
    }
}

/// What must be the same for a training to go on.
fn settings(
    own: &[(&str, String)],
    queries: &Rows,
    description: &Description,
    recipe: &Recipe,
) -> BTreeMap<String, String> {
    let schedule = match recipe.schedule {
        Schedule::Constant => "constant".into(),
        // Its rates depend on the last epoch.
        Schedule::Cosine => format!("cosine over {} epochs", recipe.epochs),
    };
    let shared = [
        ("data", queries.sha256.clone()),
        ("layers", format!("{:?}", description.layers)),
        ("batch", recipe.batch.to_string()),
        ("lr", recipe.rate.to_string()),
        ("weight decay", recipe.decay.to_string()),
        ("schedule", schedule),
        ("validation rows", recipe.validation.to_string()),
        ("seed", recipe.seed.to_string()),
    ];
    own.iter().chain(&shared).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// The code with one parity of these weights.
fn single(weights: &[f64]) -> Result<LinearCode, CodeError> {
    LinearCode::weighted(weights.len(), DMatrix::from_row_slice(1, weights.len(), weights))
}

/// Σ weights\[i\]·rows\[index\[g, i\]\] for each group g: `[groups, elements]`.
fn combine(rows: &Tensor, index: &Tensor, weights: &[f64]) -> Result<Tensor, TchError> {
    let mut sum: Option<Tensor> = None;
    for (slot, &weight) in weights.iter().enumerate() {
        let slot = rows.f_index_select(0, &index.f_select(1, slot as i64)?)?;
        let part = if weight == 1.0 { slot } else { slot.f_mul_scalar(weight)? };
        sum = Some(match sum {
            None => part,
            Some(mut sum) => sum.f_add_(&part)?,
        });
    }
    sum.ok_or_else(|| TchError::Shape("a group without queries".into()))
}

/// Shuffles rows into groups `[groups, k]`; what is left over belongs to none.
fn groups(
    rows: std::ops::Range<usize>,
    k: usize,
    rng: &mut ChaCha8Rng,
    device: Device,
) -> Result<Tensor, TchError> {
    let mut order: Vec<i64> = rows.map(|row| row as i64).collect();
    order.shuffle(rng);
    let groups = order.len() / k;
    let bytes: &[u8] = cast_slice(&order[..groups * k]);
    Tensor::f_from_data_size(bytes, &[groups as i64, k as i64], Kind::Int64)?.f_to_device(device.0)
}

/// The key of what is random in the training of one model.
fn rng_key(seed: u64, stream: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&stream.to_le_bytes());
    key
}

/// Random numbers of one epoch; 0 is before the first.
fn rng(seed: u64, stream: u64, epoch: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::from_seed(rng_key(seed, stream));
    rng.set_stream(epoch);
    rng
}

fn top1(rows: &Tensor) -> Result<Tensor, TchError> {
    rows.f_argmax(1, false)
}

fn labels_tensor(labels: &[i64], queries: &Rows, classes: i64, device: Device) -> Result<Tensor, TrainError> {
    if labels.len() != queries.count() {
        return Err(TrainError::Count { what: "labels", found: labels.len(), expected: queries.count() });
    }
    match labels.iter().enumerate().find(|&(_, label)| !(0..classes).contains(label)) {
        Some((row, &found)) => Err(TrainError::Label { found, row, classes }),
        None => Ok(Tensor::from_slice(labels).f_to_device(device.0)?),
    }
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hex(&hasher.finalize())
}

fn hash_tensor(tensor: &Tensor) -> String {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.to_device(tch::Device::Cpu).copy_data_u8(&mut bytes, tensor.numel());
    hash(&[&bytes])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// The file system's.
pub fn sha256(path: &Path) -> Result<String, TrainError> {
    let error = |error| TrainError::Folder { path: path.into(), error };
    let mut hasher = Sha256::new();
    let read = File::open(path).and_then(|mut file| {
        let mut block = vec![0; 1 << 16];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(()),
                read => hasher.update(&block[..read]),
            }
        }
    });
    read.map_err(error)?;
    Ok(hex(&hasher.finalize()))
}
