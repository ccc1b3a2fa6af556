//! The folder of a run: checkpoints, the best networks, and a line of metrics for each epoch.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use super::objective::{Models, none};
use super::{BEST, CHECKPOINT, Epoch, METRICS, Recipe, TABLE, TrainError, left_out};
use crate::adam::Adam;
use crate::device::Device;
use crate::model::EXTENSIONS;
use crate::network::checkpoint::{self, TensorFile};
use crate::numbers::Flat;
use crate::trainable::{Mode, Trainable};

/// A model of a lesson.
pub(super) struct Learner<'a> {
    /// What it is: the name of its tensors in checkpoints.
    pub(super) name: String,
    /// Whether it is the only one.
    pub(super) alone: bool,
    /// Makes the model as it begins, on a device, with random weights from a key if it has none of its own.
    pub(super) begin: Box<Make<'a>>,
    /// Whether it learns; else it stays as it begins.
    pub(super) learns: bool,
}

type Make<'a> = dyn Fn([u8; 32], Device) -> Result<Box<dyn Trainable>, TrainError> + 'a;

impl Learner<'_> {
    /// The name of the file of the best one, without its extension.
    fn best(&self) -> String {
        if self.alone { BEST.into() } else { format!("{BEST}-{}", self.name) }
    }
}

/// The state of a training between steps.
pub(super) struct State {
    /// Each model and its optimiser.
    pub(super) models: Vec<Box<dyn Trainable>>,
    pub(super) optimisers: Vec<Adam>,
    /// The moving averages of the models, if they are kept.
    pub(super) averages: Option<Vec<Box<dyn Trainable>>>,
    /// The number of finished epochs.
    pub(super) epoch: u32,
    /// The number of finished minibatches of the next epoch.
    pub(super) batch: u64,
    /// The sum of the losses of these minibatches' groups, and the number of groups.
    pub(super) losses: (f64, f64),
    pub(super) best: Option<Best>,
}

/// The best models so far.
pub(super) struct Best {
    pub(super) epoch: u32,
    /// The score, then the loss; [`Best::is_worse_than`] compares them.
    pub(super) rank: (f64, f64),
    /// True if some epoch had another score than the first.
    pub(super) moved: bool,
    /// The newest epoch with a higher score than all before it; its own epoch may be later, with a lower loss.
    pub(super) improved: u32,
    pub(super) flats: Vec<Flat>,
}

/// The metrics of the epochs that are done, as lines of JSON and as a table.
pub(super) struct Metrics {
    lines: File,
    table: File,
}

impl Best {
    pub(super) fn is_worse_than(&self, (score, loss): (f64, f64)) -> bool {
        score > self.rank.0 || (score == self.rank.0 && loss < self.rank.1)
    }
}

/// The metadata of a checkpoint: the progress of a training, and its settings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    /// The epoch of the best models so far.
    best_epoch: Option<u32>,
    /// True if some epoch had another score than the first; missing in version 0.1.0.
    #[serde(default = "yes")]
    best_moved: bool,
    /// The newest epoch with a higher score than all before it; missing in version 0.2.0.
    best_improved: Option<u32>,
    /// The number of finished epochs.
    epoch: u32,
    /// The number of finished minibatches of the next epoch.
    batch: u64,
    /// The settings that must be equal to resume the training.
    settings: BTreeMap<String, String>,
    /// The number of Adam's steps.
    step: u64,
}

fn yes() -> bool {
    true
}

/// The content of a checkpoint, for messages.
const STATE: &str = "the state of a training";

/// The name of a tensor that belongs to no network.
const LOSSES: &str = "losses";
const BEST_RANK: &str = "best.rank";

impl State {
    pub(super) fn new(
        learners: &[Learner<'_>],
        key: [u8; 32],
        recipe: &Recipe,
        device: Device,
    ) -> Result<Self, TrainError> {
        let (mut models, mut optimisers) = (Vec::new(), Vec::new());
        for (index, learner) in learners.iter().enumerate() {
            let mut key = key;
            key[16] = index as u8;
            let model = (learner.begin)(key, device)?;
            optimisers.push(Adam::new(&model.numbers().flat().learned)?);
            models.push(model);
        }
        let copies = || models.iter().map(|model| model.copy(device.0)).collect::<Result<_, _>>();
        let averages = recipe.average.map(|_| copies()).transpose()?;
        Ok(Self { models, optimisers, averages, epoch: 0, batch: 0, losses: (0.0, 0.0), best: None })
    }

    /// The answers of the models that learn.
    pub(super) fn answers(&self, mode: Mode) -> Box<Models<'_>> {
        Box::new(move |at, queries| self.models.get(at).ok_or_else(none)?.answer(queries, mode))
    }

    /// The models that are validated and kept.
    pub(super) fn kept(&self) -> &[Box<dyn Trainable>] {
        self.averages.as_deref().unwrap_or(&self.models)
    }

    /// Their answers.
    pub(super) fn kept_answers(&self) -> Box<Models<'_>> {
        Box::new(|at, queries| self.kept().get(at).ok_or_else(none)?.answer(queries, Mode::Evaluate))
    }

    /// Moves the averages towards the models. In the first steps they move faster, so that they do not
    /// remember the initial weights.
    pub(super) fn average(&self, decay: f64) -> Result<(), TchError> {
        let steps = self.optimisers.iter().map(|adam| adam.state().0).max().unwrap_or_default() as f64;
        let decay = decay.min((1.0 + steps) / (10.0 + steps));
        tch::no_grad(|| {
            for (average, model) in self.averages.iter().flatten().zip(&self.models) {
                let (average, model) = (average.numbers().flat(), model.numbers().flat());
                let _ = average.learned.shallow_clone().f_lerp_(&model.learned, 1.0 - decay)?;
                let _ = average.fixed.shallow_clone().f_lerp_(&model.fixed, 1.0 - decay)?;
                average.integers.shallow_clone().f_copy_(&model.integers)?;
            }
            Ok(())
        })
    }

    /// A model's tensors in a checkpoint. There are none of a best model before the first epoch has
    /// ended.
    fn tensors(&self, index: usize, learner: &Learner<'_>) -> Vec<(String, Tensor)> {
        let (_, mean, square) = self.optimisers[index].state();
        let adam = [("mean", mean), ("square", square)];
        let own = self.models[index].numbers().flat().named().into_iter().chain(adam);
        let own = own.map(|(name, tensor)| (format!("{}.{name}", learner.name), tensor));
        let averages = self.averages.iter().flat_map(|averages| averages[index].numbers().flat().named());
        let averages = averages.map(|(name, tensor)| (format!("{}.average.{name}", learner.name), tensor));
        let best = self.best.iter().flat_map(|best| best.flats[index].named());
        let best = best.map(|(name, tensor)| (format!("{}.best.{name}", learner.name), tensor));
        // Empty tensors, as those of models without buffers, are left out.
        let all = own.chain(averages).chain(best).filter(|(_, tensor)| tensor.numel() > 0);
        all.map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }
}

/// The settings of the checkpoint in a folder, if there is one.
pub(super) fn settings_of(folder: &Path) -> Result<Option<BTreeMap<String, String>>, TrainError> {
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Ok(None);
    }
    let training: Training = checkpoint::metadata(&path, STATE)?;
    Ok(Some(training.settings))
}

/// The folder of a run.
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    fn error(&self, name: &str) -> impl FnOnce(io::Error) -> TrainError {
        let path = self.path.join(name);
        |error| TrainError::Folder { path, error }
    }

    pub(super) fn create(&self) -> Result<(), TrainError> {
        fs::create_dir_all(&self.path).map_err(self.error(""))
    }

    /// Writes the checkpoint.
    pub(super) fn save(
        &self,
        state: &State,
        learners: &[Learner<'_>],
        settings: &BTreeMap<String, String>,
    ) -> Result<(), TrainError> {
        let training = Training {
            best_epoch: state.best.as_ref().map(|best| best.epoch),
            best_moved: state.best.as_ref().is_some_and(|best| best.moved),
            best_improved: state.best.as_ref().map(|best| best.improved),
            epoch: state.epoch,
            batch: state.batch,
            settings: settings.clone(),
            // The optimisers of networks that are not trained make no steps.
            step: state.optimisers.iter().map(|adam| adam.state().0).max().unwrap_or_default(),
        };
        let numbers = |(a, b): (f64, f64)| Tensor::from_slice(&[a, b]);
        let mut tensors = vec![(LOSSES.to_owned(), numbers(state.losses))];
        tensors.extend(state.best.as_ref().map(|best| (BEST_RANK.to_owned(), numbers(best.rank))));
        for (index, learner) in learners.iter().enumerate() {
            tensors.extend(state.tensors(index, learner));
        }
        Ok(checkpoint::write(&self.path.join(CHECKPOINT), &training, &tensors)?)
    }

    /// Writes the best models.
    pub(super) fn save_best(
        &self,
        models: &[Box<dyn Trainable>],
        learners: &[Learner<'_>],
    ) -> Result<(), TrainError> {
        for (model, learner) in models.iter().zip(learners) {
            model.save(&self.path.join(format!("{}.{}", learner.best(), model.extension())))?;
        }
        Ok(())
    }

    /// The state of the newest checkpoint; none if there is no checkpoint.
    pub(super) fn resume(
        &self,
        learners: &[Learner<'_>],
        settings: &BTreeMap<String, String>,
        recipe: &Recipe,
        device: Device,
    ) -> Result<Option<State>, TrainError> {
        let path = self.path.join(CHECKPOINT);
        if !path.try_exists().map_err(self.error(CHECKPOINT))? {
            return Ok(None);
        }
        let mut file = TensorFile::read(&path)?;
        let training: Training = file.describe(STATE)?;
        let differs = |name: &str, found: String, expected: String| {
            Err(TrainError::Settings { path: path.clone(), name: name.into(), found, expected })
        };
        for name in settings.keys().chain(training.settings.keys()) {
            let value = |of: &BTreeMap<String, String>| {
                of.get(name).cloned().unwrap_or_else(|| left_out(name).into())
            };
            let (found, expected) = (value(&training.settings), value(settings));
            if found != expected {
                return differs(name, found, expected);
            }
        }
        if training.epoch > recipe.epochs {
            let expected = format!("at most --epochs {}", recipe.epochs);
            return differs("epoch", training.epoch.to_string(), expected);
        }
        let mut state = State::new(learners, [0; 32], recipe, device)?;
        (state.epoch, state.batch) = (training.epoch, training.batch);
        let mut numbers = |name| {
            let numbers = file.take(name, Kind::Double, &[2])?;
            Ok::<_, TrainError>((numbers.double_value(&[0]), numbers.double_value(&[1])))
        };
        state.losses = numbers(LOSSES)?;
        let mut best = match training.best_epoch {
            Some(epoch) => {
                let (rank, moved) = (numbers(BEST_RANK)?, training.best_moved);
                let improved = training.best_improved.unwrap_or(epoch);
                Some(Best { epoch, rank, moved, improved, flats: Vec::new() })
            }
            None => None,
        };
        for (index, learner) in learners.iter().enumerate() {
            let mut take = |name: &str, like: &Tensor| {
                if like.numel() == 0 {
                    return Ok::<_, TrainError>(like.shallow_clone());
                }
                let tensor = file.take(&format!("{}.{name}", learner.name), like.kind(), &[like.numel()])?;
                Ok(tensor.f_to_device(device.0)?)
            };
            let numbers = state.models[index].numbers();
            let own = numbers.flat().try_map(&mut take)?;
            if let Some(best) = &mut best {
                best.flats.push(numbers.flat().try_map(|name, like| take(&format!("best.{name}"), like))?);
            }
            if let Some(averages) = &mut state.averages {
                let flat = numbers.flat().try_map(|name, like| take(&format!("average.{name}"), like))?;
                averages[index] = averages[index].with(numbers.with(&flat, device.0)?)?;
            }
            let learned = &numbers.flat().learned;
            let (mean, square) = (take("mean", learned)?, take("square", learned)?);
            state.optimisers[index] = Adam::restore(training.step, &mean, &square)?;
            state.models[index] = state.models[index].with(numbers.with(&own, device.0)?)?;
        }
        state.best = best;
        // Files that the earlier run wrote after its checkpoint are replaced.
        if let Some(best) = &state.best {
            self.save_best(&best.models(&state.models)?, learners)?;
        }
        Ok(Some(state))
    }

    /// Opens the metrics after the lines of the finished epochs. A run from the start removes the files of an
    /// earlier one.
    pub(super) fn metrics(&self, state: &State, learners: &[Learner<'_>]) -> Result<Metrics, TrainError> {
        if state.epoch == 0 && state.batch == 0 {
            let best = |learner: &Learner<'_>| EXTENSIONS.map(|kind| format!("{}.{kind}", learner.best()));
            for name in learners.iter().flat_map(best).chain([CHECKPOINT.to_owned()]) {
                match fs::remove_file(self.path.join(&name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.error(&name)(error));
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
        let (mut lines, mut table) = (String::new(), format!("{}\n", Epoch::COLUMNS));
        for line in old.lines() {
            if let Ok(epoch) = serde_json::from_str::<Epoch>(line)
                && epoch.epoch <= state.epoch
            {
                lines.extend([line, "\n"]);
                table.extend([epoch.row().as_str(), "\n"]);
            }
        }
        let create = |name: &str, text: String| {
            let file = File::create(self.path.join(name));
            file.and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file)).map_err(self.error(name))
        };
        Ok(Metrics { lines: create(METRICS, lines)?, table: create(TABLE, table)? })
    }

    pub(super) fn append(&self, metrics: &mut Metrics, line: &Epoch) -> Result<(), TrainError> {
        let text = serde_json::to_string(line).map_err(io::Error::other).map(|text| text + "\n");
        text.and_then(|text| metrics.lines.write_all(text.as_bytes())).map_err(self.error(METRICS))?;
        writeln!(metrics.table, "{}", line.row()).map_err(self.error(TABLE))
    }
}

impl Best {
    /// The best models, from those of any epoch.
    pub(super) fn models(&self, all: &[Box<dyn Trainable>]) -> Result<Vec<Box<dyn Trainable>>, TrainError> {
        let models = all.iter().zip(&self.flats).map(|(model, flat)| {
            let numbers = model.numbers();
            Ok(model.with(numbers.with(flat, numbers.device())?)?)
        });
        models.collect()
    }
}
