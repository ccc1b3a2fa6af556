//! The folder of a run: checkpoints to go on from, the best model, a line of metrics per epoch.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use tch::{Kind, Tensor};

use super::{BEST, CHECKPOINT, Epoch, METRICS, Recipe, TrainError};
use crate::adam::Adam;
use crate::checkpoint::{self, Checkpoint};
use crate::device::Device;
use crate::network::{Description, Network, Training, Weights};

const MEAN: &str = "adam.mean";
const SQUARE: &str = "adam.square";
const BEST_BUFFERS: &str = "best.buffers";
const BEST_PARAMETERS: &str = "best.parameters";
const BEST_RANK: &str = "best.rank";

/// All that a training carries from epoch to epoch.
pub(super) struct State {
    pub(super) model: Network,
    pub(super) adam: Adam,
    /// Epochs that are done.
    pub(super) epoch: u32,
    pub(super) best: Option<Best>,
}

impl State {
    pub(super) fn new(
        description: &Description,
        initial: Option<&Network>,
        key: [u8; 32],
        device: Device,
    ) -> Result<Self, TrainError> {
        let model = match initial {
            None => Network::random(description.clone(), key, device.0)?,
            Some(model) if model.is_like(description) => {
                Network::new(description.clone(), model.weights(), device.0)?
            }
            Some(model) => {
                let [found, expected] =
                    [model.description(), description].map(|found| found.architecture.to_string());
                return Err(TrainError::Initial { found, expected });
            }
        };
        let adam = Adam::new(&model.weights().parameters)?;
        Ok(Self { model, adam, epoch: 0, best: None })
    }
}

/// The best model so far.
pub(super) struct Best {
    pub(super) epoch: u32,
    /// Score, then loss; compared by [`Best::is_worse_than`].
    pub(super) rank: (f64, f64),
    pub(super) weights: Weights,
}

impl Best {
    pub(super) fn is_worse_than(&self, (score, loss): (f64, f64)) -> bool {
        score > self.rank.0 || (score == self.rank.0 && loss < self.rank.1)
    }
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

    pub(super) fn save(
        &self,
        model: &Network,
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
        let Weights { parameters, buffers } = &best.weights;
        // Networks without buffers have none to write.
        let buffers = Some((BEST_BUFFERS, buffers)).filter(|(_, buffers)| buffers.numel() > 0);
        let rest = [(MEAN, mean), (SQUARE, square), (BEST_PARAMETERS, parameters), (BEST_RANK, &rank)];
        let rest = rest.into_iter().chain(buffers);
        tensors.extend(rest.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())));
        Ok(checkpoint::write(&self.path.join(CHECKPOINT), &description, &tensors)?)
    }

    /// The state of the newest checkpoint; none if there is no checkpoint.
    pub(super) fn resume(
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
        let weights = file.take_weights()?;
        let [length, counted] = [&weights.parameters, &weights.buffers].map(Tensor::numel);
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
            weights: Weights {
                parameters: take(BEST_PARAMETERS, Kind::Float, length)?,
                buffers: match counted {
                    0 => weights.buffers.shallow_clone(),
                    _ => take(BEST_BUFFERS, Kind::Float, counted)?,
                },
            },
        };
        // What was written between the checkpoint and the end of that run is not of this one.
        Network::new(description.clone(), &best.weights, device.0)?.save(&self.path.join(BEST))?;
        let model = Network::new(description.clone(), &weights, device.0)?;
        Ok(Some(State { model, adam, epoch: training.epoch, best: Some(best) }))
    }

    /// Opens the metrics after the lines of the epochs that are done; a run from the start also
    /// leaves nothing of an earlier one.
    pub(super) fn metrics(&self, epochs: u32) -> Result<File, TrainError> {
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

    pub(super) fn append(&self, metrics: &mut File, line: &Epoch) -> Result<(), TrainError> {
        let text = serde_json::to_string(line).map_err(io::Error::other).map(|text| text + "\n");
        text.and_then(|text| metrics.write_all(text.as_bytes())).map_err(self.error(METRICS))
    }
}
