//! Training: deployed models (*base*), parity models as in ParM (SOSP 2019, section 4.2), learned coders
//! (*Learning a Code*, 2018; JSAIT 2020), and deployed models together with their codes (*joint*).
//!
//! A training minimises an objective (`objective`): that of a network that answers rows, or that of a code
//! whose deployed model, encoder, parity models and decoder are trained or given. Both use one loop
//! (`lesson`) over groups of rows; the groups of a base model have one row.
//!
//! All random choices (initial weights, the groups of each epoch, those of the validation rows) are keyed by
//! seed, training and epoch, and a checkpoint has the complete state of the loop. Therefore a training on one
//! CPU thread of one machine gives the same bits each time, whether it was interrupted or not.

mod augment;
mod coding;
mod counts;
mod error;
mod lesson;
mod loss;
mod objective;
mod random;
mod rows;
mod scenarios;
mod split;
mod start;
mod state;
#[cfg(test)]
mod toy;

pub use augment::Augment;
pub use coding::{
    AnswersPlan, CodeScores, Coding, DecoderPlan, DeployedPlan, EncoderPlan, Joint, Trained, single,
};
pub use counts::{Fit, Truth};
pub use error::TrainError;
pub use loss::Loss;
pub use objective::{Compared, TilesError};
pub(crate) use rows::hash;
pub use rows::{Rows, sha256};
pub use split::{Kept, Validation};
pub use start::{Begin, Layers, Start};

pub use crate::trainable::{BatchNorm, Precision};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::model::Model;
use crate::timings::Timings;
use crate::trainable::Mode;
use lesson::Lesson;
use objective::Own;
use rows::hash_tensor;

/// The newest checkpoint, in a run's folder.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The best model so far, in the folder of a run of one model; with several, `best-NAME`. The extension is
/// that of its kind.
const BEST: &str = "best";
/// The name of the validation rows in checkpoints.
const VALIDATION: &str = "validation rows";
/// The names of other settings.
const RATE: &str = "lr";
const WARM_UP: &str = "warm-up";
const CLIP: &str = "clip";
const AVERAGE: &str = "average";
const NORM: &str = "batch normalisation";
/// The metrics in a run's folder, one line for each epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The same as a table.
const TABLE: &str = "metrics.csv";

/// The schedule of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// It is constant.
    #[default]
    Constant,
    /// It falls to 0 along half a cosine.
    Cosine,
}

/// The settings of a training.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Passes over the rows.
    pub epochs: u32,
    /// The number of rows (base) or groups (parity) of a minibatch.
    pub batch: usize,
    /// The learning rate of Adam.
    pub rate: f64,
    /// The weight decay of Adam, added to the gradient.
    pub decay: f64,
    /// The schedule of the learning rate.
    pub schedule: Schedule,
    /// The epochs in which the learning rate rises linearly to its schedule, minibatch by minibatch.
    pub warm_up: f64,
    /// The largest norm of the gradient of all parameters together; longer gradients are shortened.
    pub clip: Option<f64>,
    /// The decay of the moving average of the weights, which is validated and kept in place of the weights
    /// themselves; none: the weights are.
    pub average: Option<f64>,
    /// The rows that are kept for validation.
    pub validation: Validation,
    /// The seed of everything random.
    pub seed: u64,
    /// Epochs between checkpoints.
    pub checkpoint_cycle: u32,
    /// The epochs without a better one after which the training ends; none: it ends after all of them.
    pub patience: Option<u32>,
    /// Whether to resume from the newest checkpoint, if there is one.
    pub resume: bool,
    /// How models compute while they learn.
    pub precision: Precision,
    /// Batch normalisation while they learn.
    pub norm: BatchNorm,
    /// Augmentation of images; none: images stay the same.
    pub augment: Option<Augment>,
}

impl Recipe {
    /// How models compute while they learn.
    fn mode(&self) -> Mode {
        Mode::Train { precision: self.precision, norm: self.norm }
    }

    /// The recipe with the settings of the run to resume, for what no option sets, and with its validation
    /// rows: version 0.1.0 kept the last rows.
    ///
    /// # Errors
    /// A checkpoint in this folder that cannot be read.
    pub fn resumed(mut self, folder: &Path, unset: &[Setting]) -> Result<Self, TrainError> {
        let Some(found) = self.resume.then(|| state::settings_of(folder)).transpose()?.flatten() else {
            return Ok(self);
        };
        let tail = Validation { kept: Kept::Tail, ..self.validation };
        if found.get(VALIDATION).is_some_and(|found| *found == tail.to_string()) {
            self.validation = tail;
        }
        let number = |name: &str| found.get(name).and_then(|text| text.parse::<f64>().ok());
        for setting in unset {
            match setting {
                Setting::Rate => self.rate = number(RATE).unwrap_or(self.rate),
                Setting::WarmUp => self.warm_up = number(WARM_UP).unwrap_or(0.0),
                Setting::Clip => self.clip = number(CLIP),
                Setting::Average => self.average = number(AVERAGE),
            }
        }
        Ok(self)
    }

    /// The learning rate of a minibatch: that of its epoch, or less in the warm-up. `steps` minibatches were
    /// done before, and an epoch has `batches`.
    fn warmed(&self, rate: f64, steps: u64, batches: u64) -> f64 {
        let all = self.warm_up * batches as f64;
        let done = steps as f64 + 1.0;
        if done < all { rate * done / all } else { rate }
    }

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

/// A setting that a run keeps when it is resumed, if no option sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The learning rate.
    Rate,
    /// The warm-up.
    WarmUp,
    /// The largest norm of the gradient.
    Clip,
    /// The moving average of the weights.
    Average,
}

/// The environment of a training: its folder, the clock, and callbacks.
pub struct Environment<'a> {
    /// The folder of checkpoints and metrics.
    pub folder: PathBuf,
    /// Returns the time in seconds since some moment.
    pub clock: &'a dyn Fn() -> f64,
    /// Called after each epoch.
    pub watch: &'a mut dyn FnMut(&Epoch),
    /// Called after each minibatch.
    pub step: &'a mut dyn FnMut(&Step<'_>),
    /// Called before each minibatch; true: save and stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Collects the times of computing and writing.
    pub timings: &'a Timings,
}

/// Where a training is within an epoch.
pub struct Step<'a> {
    /// Epochs that are done.
    pub done: u32,
    /// Minibatches of this epoch that are done.
    pub batch: u64,
    /// Minibatches of an epoch.
    pub batches: u64,
    /// The learning rate of the last one.
    pub rate: f64,
    /// Reads the mean loss of the epoch so far, for which a GPU must have finished.
    pub loss: &'a dyn Fn() -> f64,
}

/// A line of the metrics: the results of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The mean loss over the training rows, during training.
    pub train_loss: f64,
    /// The mean loss over the validation rows; none without any.
    pub validation_loss: Option<f64>,
    /// Base: the accuracy on the validation rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Joint: the accuracy of the deployed model.
    #[serde(rename = "A_a", default, skip_serializing_if = "Option::is_none")]
    pub available: Option<f64>,
    /// Codes: the share of reconstructions that agree with the deployed model's own predictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Codes: the accuracy of reconstructions; only with labels.
    #[serde(rename = "A_d", skip_serializing_if = "Option::is_none")]
    pub degraded: Option<f64>,
    /// The mean intersection over union of boxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iou: Option<f64>,
    /// Values: R², base: against the true ones; codes: of reconstructions against the deployed model's own.
    #[serde(rename = "R2", default, skip_serializing_if = "Option::is_none")]
    pub determination: Option<f64>,
    /// Values: the mean absolute error, against the same.
    #[serde(rename = "MAE", default, skip_serializing_if = "Option::is_none")]
    pub absolute_error: Option<f64>,
    /// Embeddings: the mean cosine with the deployed model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
    /// Embeddings: the share of the deployed model's ten nearest neighbours that are found.
    #[serde(rename = "recall@10", default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// The time of the epoch, in seconds.
    pub seconds: f64,
}

impl Epoch {
    /// The names of the columns of the table.
    const COLUMNS: &'static str = "epoch,train_loss,validation_loss,accuracy,A_a,agreement,A_d,iou,R2,MAE,cosine,recall@10,\
                                   lr,seconds";

    /// A line of the table; what is not known is empty.
    fn row(&self) -> String {
        let scores = [
            Some(self.train_loss),
            self.validation_loss,
            self.accuracy,
            self.available,
            self.agreement,
            self.degraded,
            self.iou,
            self.determination,
            self.absolute_error,
            self.cosine,
            self.recall,
            Some(self.lr),
            Some(self.seconds),
        ];
        let cell = |score: Option<f64>| score.map_or_else(String::new, |score| score.to_string());
        std::iter::once(self.epoch.to_string()).chain(scores.map(cell)).collect::<Vec<_>>().join(",")
    }
}

/// Trains a deployed model. Returns the model of the epoch with the best validation accuracy (for values R², for
/// boxes the mean IoU), among equals that of the lowest loss; without validation rows that of the last epoch.
///
/// # Errors
/// [`TrainError`], by kind.
pub fn base(
    queries: &Rows,
    truth: &Truth,
    start: Start<'_>,
    loss: Loss,
    device: Device,
    recipe: &Recipe,
    environment: &mut Environment<'_>,
) -> Result<Model, TrainError> {
    let own = [
        ("task", "base".into()),
        ("labels", hash_tensor(truth.tensor())),
        ("layers", start.begin.record()?),
        ("initial", start.begin.hash()),
        ("loss", format!("{loss:?}")),
    ];
    let learner = start.learner("base", true);
    let lesson = Lesson {
        objective: &Own { queries, truth, loss },
        learners: vec![learner],
        settings: settings(&own, queries, recipe),
        stream: 0,
        device,
    };
    Ok(lesson.train(recipe, environment)?.pop().ok_or(TrainError::Nothing)?.into_model())
}

/// The settings that must be equal to resume a training.
fn settings(own: &[(&str, String)], queries: &Rows, recipe: &Recipe) -> BTreeMap<String, String> {
    let schedule = match recipe.schedule {
        Schedule::Constant => "constant".into(),
        // The rates depend on the number of epochs.
        Schedule::Cosine => format!("cosine over {} epochs", recipe.epochs),
    };
    let shared = [
        ("data", queries.sha256().to_owned()),
        ("batch", recipe.batch.to_string()),
        (RATE, recipe.rate.to_string()),
        ("weight decay", recipe.decay.to_string()),
        ("schedule", schedule),
        (VALIDATION, recipe.validation.to_string()),
        ("seed", recipe.seed.to_string()),
        ("precision", format!("{:?}", recipe.precision)),
        ("augmentation", recipe.augment.map_or("none".into(), |augment| format!("{augment:?}"))),
    ];
    // What has its default is left out, so that trainings of earlier versions can be resumed.
    let others = [
        (NORM, (recipe.norm == BatchNorm::Frozen).then(|| "frozen".to_owned())),
        (WARM_UP, (recipe.warm_up > 0.0).then(|| recipe.warm_up.to_string())),
        (CLIP, recipe.clip.map(|most| most.to_string())),
        (AVERAGE, recipe.average.map(|decay| decay.to_string())),
    ];
    let others = others.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let others: Vec<_> = others.collect();
    own.iter()
        .chain(&shared)
        .chain(&others)
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// The value, for messages, of a setting that is left out.
fn left_out(name: &str) -> &'static str {
    match name {
        NORM => "train",
        WARM_UP => "0",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use parm::codes::{CodeKind, Matrices};
    use parm::{LinearCode, Task};

    use super::*;
    use crate::network::{Description, Network};
    use crate::numbers::Flat;

    /// Rows of three numbers, all different.
    pub(super) fn rows(count: usize) -> Rows {
        let values: Vec<f32> = (0..count * 3).map(|i| ((i * 7919) % 1009) as f32 / 100.0 - 5.0).collect();
        Rows::new(&values, count, &[3], Device::CPU).unwrap()
    }

    /// F(X) = W·X, which is its own parity model, so that every linear code rebuilds exactly.
    fn linear() -> Network {
        let flat = Flat {
            learned: tch::Tensor::from_slice(&[1_f32, -2., 0.5, 0.25, 1., -1., 0., 0.]),
            fixed: tch::Tensor::from_slice::<f32>(&[]),
            integers: tch::Tensor::from_slice::<i64>(&[]),
        };
        Network::new(Description::mlp(&[3], &[], &[2]), &flat, tch::Device::Cpu).unwrap()
    }

    pub(super) fn recipe(rows: usize) -> Recipe {
        Recipe {
            epochs: 4,
            batch: 4,
            rate: 1e-3,
            decay: 0.0,
            schedule: Schedule::Cosine,
            warm_up: 0.0,
            clip: None,
            average: None,
            validation: Validation { rows, kept: Kept::Tail },
            seed: 3,
            patience: None,
            checkpoint_cycle: 1,
            resume: false,
            precision: Precision::Full,
            norm: BatchNorm::Train,
            augment: None,
        }
    }

    /// A code whose parity models are given.
    fn coding<'a>(
        queries: &'a Rows,
        predictions: &'a Rows,
        truth: Option<&'a Truth>,
        code: &'a CodeKind,
    ) -> Coding<'a> {
        let description = linear().description().clone();
        let start =
            Start { begin: Begin::Native { description, weights: None }, held: Vec::new(), learns: true };
        Coding {
            queries,
            deployed: DeployedPlan::Fixed { predictions, sha256: "", model: None },
            truth,
            task: Task::Classify,
            code,
            encoder: EncoderPlan::Sum,
            answers: AnswersPlan::Parity(vec![start; code.workers() - code.k()]),
            decoder: DecoderPlan::Linear,
            loss: Loss::Mse,
            compared: Compared::Sums,
            stream: 0,
            device: Device::CPU,
        }
    }

    fn parities(r: usize) -> Trained {
        Trained { parity: (0..r).map(|_| Model::Native(Box::new(linear()))).collect(), ..Trained::default() }
    }

    #[test]
    fn a_linear_model_is_rebuilt_exactly_by_every_code() {
        let queries = rows(60);
        let predictions = queries.predict(&Model::Native(Box::new(linear()))).unwrap();
        let truth = Truth::classes(&[1; 60], &queries, 2, Device::CPU).unwrap();
        for (k, r) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)] {
            let code = LinearCode::sum(k, r).unwrap().into();
            let coding = coding(&queries, &predictions, Some(&truth), &code);
            let scores = coding.score(parities(r), &recipe(31)).unwrap();
            let counted = (31 / k * k) as u64;
            assert_eq!((scores.agreement, scores.reconstructions), (Some(1.0), counted), "{k} {r}");
            assert_eq!(scores.degraded, scores.available);
            assert!(scores.available.is_some_and(|accuracy| accuracy > 0.0 && accuracy < 1.0));
        }
    }

    #[test]
    fn a_code_with_weights_of_zero_scores_the_slots_that_it_holds() {
        let queries = rows(20);
        let predictions = queries.predict(&Model::Native(Box::new(linear()))).unwrap();
        let code =
            LinearCode::weighted(2, nalgebra::DMatrix::from_row_slice(1, 2, &[0.0, 2.0])).unwrap().into();
        let scores = coding(&queries, &predictions, None, &code).score(parities(1), &recipe(20)).unwrap();
        assert_eq!((scores.agreement, scores.available, scores.reconstructions), (Some(1.0), None, 10));
    }

    #[test]
    fn the_cosine_falls_from_the_full_rate() {
        let rates = [0, 1, 2, 3].map(|done| recipe(0).rate_of(done) / 1e-3);
        assert_eq!(rates[0], 1.0);
        assert!((rates[2] - 0.5).abs() < 1e-12 && rates[1] > rates[2] && rates[3] > 0.0, "{rates:?}");
    }

    #[test]
    fn the_rate_rises_over_the_warm_up() {
        let recipe = Recipe { warm_up: 1.5, ..recipe(0) };
        let rates = [0, 2, 4, 5, 6].map(|steps| recipe.warmed(6.0, steps, 4));
        assert_eq!(rates, [1.0, 3.0, 5.0, 6.0, 6.0]);
        assert_eq!(Recipe { warm_up: 0.0, ..recipe }.warmed(6.0, 0, 4), 6.0);
    }

    #[test]
    fn groups_are_a_shuffle_without_what_is_left_over() {
        let draw = |epoch| {
            let groups =
                random::groups(&(5..16).collect::<Vec<_>>(), 3, &mut random::rng(1, 2, epoch), Device::CPU)
                    .unwrap();
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
        let model = Model::load(std::path::Path::new(total), Device::CPU).unwrap();
        let error = rows(5).predict(&model).unwrap_err().to_string();
        assert!(error.contains("shape [] for 5 rows"), "{error}");
        let few = Rows::new(&[0.0; 5], 2, &[3], Device::CPU).unwrap_err().to_string();
        assert!(few.contains("found 5 values, expected 6"), "{few}");
    }
}
