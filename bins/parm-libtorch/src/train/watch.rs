//! The progress of trainings, and signals that stop them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Instant;

use parm_cli::options::Common;
use parm_cli::{Io, Progress, signals};
use parm_torch::Timings;
use parm_torch::train::{Environment, Epoch};

/// The progress of one or more trainings.
pub(crate) struct Watch<'a> {
    progress: Progress,
    start: Instant,
    timings: &'a Timings,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(common: &Common, io: &mut Io, epochs: u64, timings: &'a Timings) -> Self {
        // The training is saved before a signal ends the program.
        signals::postpone();
        let progress = Progress::new(common, io, "epochs", Some(epochs));
        Self { progress, start: Instant::now(), timings }
    }

    /// Runs a training in this folder, under this name. Also returns its last epoch.
    pub(crate) fn run<T, E>(
        &self,
        folder: PathBuf,
        name: &str,
        train: impl FnOnce(&mut Environment<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<Epoch>), E> {
        let last = RefCell::new(None);
        let mut watch = |epoch: &Epoch| {
            if last.borrow().is_none() {
                // A resumed training has done the epochs before this one already.
                self.progress.skip(u64::from(epoch.epoch) - 1);
            }
            self.progress.advance(1);
            self.progress.note(format!("{name}{}", summary(epoch)));
            *last.borrow_mut() = Some(epoch.clone());
        };
        let mut environment = Environment {
            folder,
            clock: &|| self.start.elapsed().as_secs_f64(),
            watch: &mut watch,
            stop: &|| signals::noted().is_some(),
            timings: self.timings,
        };
        let trained = train(&mut environment)?;
        Ok((trained, last.into_inner()))
    }
}

/// A short summary of an epoch.
pub(crate) fn summary(epoch: &Epoch) -> String {
    let scores = [
        ("IoU", epoch.iou),
        ("R2", epoch.determination),
        ("cosine", epoch.cosine),
        ("accuracy", epoch.accuracy),
        ("agreement", epoch.agreement),
    ];
    let score = scores.iter().find_map(|(name, score)| score.map(|score| format!(", {name} {score:.4}")));
    format!("loss {:.4}{}", epoch.train_loss, score.unwrap_or_default())
}
