//! Training: deployed models (*base*) and parity models, as in ParM (SOSP 2019, section 4.2).
//!
//! A parity model learns to answer the parity query `Σ w_i·X_i` with `Σ w_i·F(X_i)`, F the deployed
//! model, under the mean squared error. A deployed model is the same with groups of one row, and
//! labels and the cross-entropy in place of sums. Both are one loop.
//!
//! Everything random (initial weights, the groups of each epoch, the groups of the validation rows)
//! is keyed by seed, parity and epoch, and a checkpoint holds all that the loop carries from epoch
//! to epoch. So on one CPU thread of one machine a training repeats itself to the bit, broken off
//! or not.

mod error;
mod folder;
mod lesson;
mod random;
mod rows;

pub use error::TrainError;
pub use rows::{Rows, sha256};

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytemuck::cast_slice;
use nalgebra::DMatrix;
use parm::LinearCode;
use parm::codes::CodeError;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use crate::device::Device;
use crate::network::{Description, Family, Mode, Network};
use lesson::{Goal, Lesson, Student, Sums, read};
use rows::{combine, flat, hash, hash_weights, labels_tensor};

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

/// Trains a deployed model: a network that classifies the rows. Returns the best of all epochs by
/// validation accuracy, and of equals the one of lower loss; without validation rows the last.
///
/// # Errors
/// [`TrainError`], by kind.
pub fn base(
    queries: &Rows,
    labels: &[i64],
    family: &Family,
    device: Device,
    recipe: &Recipe,
    around: &mut Surroundings<'_>,
) -> Result<Network, TrainError> {
    let classes = labels.iter().max().map_or(0, |&label| label.saturating_add(1)).min(MAX_CLASSES);
    let bytes: &[u8] = cast_slice(labels);
    let lesson = Lesson {
        queries,
        goal: Goal::Labels,
        code: single(&[1.0])?,
        labels: Some(labels_tensor(labels, queries, classes, device)?),
    };
    let description = Description::new(family, queries.shape(), &[classes as usize])?;
    let own = [("task", "base".into()), ("labels", hash(&[bytes]))];
    let settings = settings(&own, queries, &description, recipe);
    let student = Student { description, initial: None, settings, stream: 0 };
    lesson.train(&student, device, recipe, around)
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
    /// What parity models are.
    pub family: &'a Family,
    /// A model whose weights to begin with.
    pub initial: Option<&'a Network>,
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
    pub fn train(
        &self,
        j: usize,
        recipe: &Recipe,
        around: &mut Surroundings<'_>,
    ) -> Result<Network, TrainError> {
        let weights = self.code.weights(j);
        let lesson = self.lesson(single(&weights)?)?;
        let description = Description::new(self.family, self.queries.shape(), self.predictions.shape())?;
        let own = [
            ("task", format!("parity {j}")),
            ("deployed", self.deployed.into()),
            ("weights", format!("{weights:?}")),
            ("initial", self.initial.map_or("random".into(), |model| hash_weights(model.weights()))),
        ];
        let settings = settings(&own, self.queries, &description, recipe);
        let student = Student { description, initial: self.initial, settings, stream: j as u64 + 1 };
        lesson.train(&student, self.device, recipe, around)
    }

    /// Scores the whole code on the validation rows, every single loss simulated.
    ///
    /// # Errors
    /// libtorch's.
    pub fn score(&self, models: &[Network], recipe: &Recipe) -> Result<CodeScores, TrainError> {
        let lesson = self.lesson(self.code.clone())?;
        let groups = lesson.validation_groups(recipe, self.device)?;
        let mut sums = Sums::default();
        tch::no_grad(|| {
            for index in groups.split(self.queries.block(), 0) {
                let mut answers = Vec::new();
                for (j, model) in models.iter().enumerate() {
                    let queries = combine(&self.queries.tensor, &index, &self.code.weights(j))?;
                    answers.push(flat(model.forward(&queries, Mode::Evaluate)?)?);
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
        ("data", queries.sha256().to_owned()),
        ("layers", description.architecture.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Weights;

    /// Rows of three numbers, all different.
    fn rows(count: usize) -> Rows {
        let values: Vec<f32> = (0..count * 3).map(|i| ((i * 7919) % 1009) as f32 / 100.0 - 5.0).collect();
        Rows::new(&values, count, &[3], Device::CPU).unwrap()
    }

    /// F(X) = W·X: with it as its own parity model every linear code rebuilds exactly.
    fn linear() -> Network {
        let parameters = tch::Tensor::from_slice(&[1_f32, -2., 0.5, 0.25, 1., -1., 0., 0.]);
        let weights = Weights { parameters, buffers: tch::Tensor::from_slice::<f32>(&[]) };
        Network::new(Description::mlp(&[3], &[], &[2]), &weights, tch::Device::Cpu).unwrap()
    }

    fn recipe(validation: usize) -> Recipe {
        Recipe {
            epochs: 4,
            batch: 4,
            rate: 1e-3,
            decay: 0.0,
            schedule: Schedule::Cosine,
            validation,
            seed: 3,
            checkpoint_cycle: 1,
            resume: false,
        }
    }

    #[test]
    fn a_linear_model_is_rebuilt_exactly_by_every_code() {
        let queries = rows(60);
        let predictions = queries.predict(&crate::Model::Native(Box::new(linear()))).unwrap();
        let labels = vec![1; 60];
        for (k, r) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)] {
            let code = LinearCode::sum(k, r).unwrap();
            let parity = Parity {
                queries: &queries,
                predictions: &predictions,
                deployed: "",
                labels: Some(&labels),
                code: &code,
                family: &Family::Mlp { hidden: Vec::new() },
                initial: None,
                device: Device::CPU,
            };
            let models: Vec<Network> = (0..r).map(|_| linear()).collect();
            let scores = parity.score(&models, &recipe(31)).unwrap();
            assert_eq!(
                (scores.agreement, scores.reconstructions),
                (Some(1.0), (31 / k * k) as u64),
                "{k} {r}"
            );
            assert_eq!(scores.degraded, scores.available);
            assert!(scores.available.is_some_and(|accuracy| accuracy > 0.0 && accuracy < 1.0));
        }
    }

    #[test]
    fn a_code_with_weights_of_zero_scores_the_slots_that_it_holds() {
        let queries = rows(20);
        let predictions = queries.predict(&crate::Model::Native(Box::new(linear()))).unwrap();
        let code = single(&[0.0, 2.0]).unwrap();
        let parity = Parity {
            queries: &queries,
            predictions: &predictions,
            deployed: "",
            labels: None,
            code: &code,
            family: &Family::Mlp { hidden: Vec::new() },
            initial: None,
            device: Device::CPU,
        };
        let scores = parity.score(&[linear()], &recipe(20)).unwrap();
        assert_eq!((scores.agreement, scores.available, scores.reconstructions), (Some(1.0), None, 10));
    }

    #[test]
    fn the_cosine_falls_from_the_full_rate() {
        let rates = [0, 1, 2, 3].map(|done| recipe(0).rate_of(done) / 1e-3);
        assert_eq!(rates[0], 1.0);
        assert!((rates[2] - 0.5).abs() < 1e-12 && rates[1] > rates[2] && rates[3] > 0.0, "{rates:?}");
    }

    #[test]
    fn groups_are_a_shuffle_without_what_is_left_over() {
        let draw = |epoch| {
            let groups = random::groups(5..16, 3, &mut random::rng(1, 2, epoch), Device::CPU).unwrap();
            assert_eq!(groups.size(), [3, 3]);
            Vec::<i64>::try_from(groups.flatten(0, -1)).unwrap()
        };
        let (first, second) = (draw(1), draw(2));
        assert_eq!(first, draw(1));
        assert_ne!(first, second);
        let mut sorted = first;
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() == 9 && sorted.iter().all(|row| (5..16).contains(row)));
    }

    #[test]
    fn predictions_without_a_row_each_are_refused() {
        let total = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/models/total.pt");
        let model = crate::Model::load(std::path::Path::new(total), Device::CPU).unwrap();
        let error = rows(5).predict(&model).unwrap_err().to_string();
        assert!(error.contains("shape [] for 5 rows"), "{error}");
        let few = Rows::new(&[0.0; 5], 2, &[3], Device::CPU).unwrap_err().to_string();
        assert!(few.contains("found 5 values, expected 6"), "{few}");
    }
}
