//! The progress of trainings, and signals that stop them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parm_cli::options::Common;
use parm_cli::{Io, Progress, signals};
use parm_torch::Timings;
use parm_torch::train::{Environment, Epoch, Step};

/// What an epoch counts in the bar.
const PARTS: f64 = 1000.0;

/// The progress of one or more trainings, of as many epochs each.
pub(crate) struct Watch<'a> {
    progress: Progress,
    start: Instant,
    timings: &'a Timings,
    epochs: u32,
    trainings: usize,
    /// Trainings that are done.
    done: Cell<usize>,
    /// Epochs that had been done before.
    before: Cell<u32>,
    /// When the progress was last shown.
    shown: Cell<Option<Instant>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        common: &Common,
        io: &mut Io,
        epochs: u32,
        trainings: usize,
        timings: &'a Timings,
    ) -> Self {
        // The training is saved before a signal ends the program.
        signals::postpone();
        let total = f64::from(epochs) * trainings as f64 * PARTS;
        Self {
            progress: Progress::described(common, io, total as u64),
            start: Instant::now(),
            timings,
            epochs,
            trainings,
            done: Cell::new(0),
            before: Cell::new(0),
            shown: Cell::new(None),
        }
    }

    /// Runs a training in this folder, under this name. Also returns its last epoch.
    pub(crate) fn run<T, E>(
        &self,
        folder: PathBuf,
        name: &str,
        train: impl FnOnce(&mut Environment<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<Epoch>), E> {
        let last: RefCell<Option<Epoch>> = RefCell::new(None);
        let begun = Cell::new(false);
        let mut step = |step: &Step<'_>| {
            if !begun.replace(true) {
                self.before.set(self.before.get() + step.done);
            }
            let part = step.batch as f64 / step.batches.max(1) as f64;
            self.show(false, f64::from(step.done) + part, || {
                let (epoch, percent, loss) = (step.done + 1, (100.0 * part).floor(), (step.loss)());
                let known = last
                    .borrow()
                    .as_ref()
                    .and_then(score)
                    .map_or(String::new(), |score| format!("last {score}, "));
                let rate = step.rate;
                format!(
                    "{name}epoch {epoch} of {}, {percent} %, loss {loss:.4}, {known}rate {rate:.2e}",
                    self.epochs
                )
            });
        };
        let mut watch = |epoch: &Epoch| {
            *last.borrow_mut() = Some(epoch.clone());
            self.show(epoch.epoch == self.epochs, f64::from(epoch.epoch), || {
                format!("{name}epoch {} of {}, {}", epoch.epoch, self.epochs, summary(epoch))
            });
        };
        let mut environment = Environment {
            folder,
            clock: &|| self.start.elapsed().as_secs_f64(),
            watch: &mut watch,
            step: &mut step,
            stop: &|| signals::noted().is_some(),
            timings: self.timings,
        };
        let trained = train(&mut environment)?;
        self.done.set(self.done.get() + 1);
        Ok((trained, last.into_inner()))
    }

    /// Shows that so many epochs of the training are done, and the time that is left; unless it was shown just now.
    fn show(&self, is_end: bool, epochs: f64, text: impl FnOnce() -> String) {
        let Some(interval) = self.progress.interval() else { return };
        if !is_end && self.shown.get().is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        self.shown.set(Some(Instant::now()));
        let done = self.done.get() as f64 * f64::from(self.epochs) + epochs;
        let new = done - f64::from(self.before.get());
        let all = self.trainings as f64 * f64::from(self.epochs);
        let left = self.start.elapsed().as_secs_f64() / new.max(1e-9) * (all - done).max(0.0);
        self.progress.show((done * PARTS) as u64, &format!("{}, {} left", text(), duration(left)));
    }

    /// The time since the beginning, for the last line.
    pub(crate) fn took(&self) -> String {
        duration(self.start.elapsed().as_secs_f64())
    }
}

/// A time in the units that people use.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 10.0 => format!("{seconds:.1} s"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// A short summary of an epoch.
pub(crate) fn summary(epoch: &Epoch) -> String {
    format!(
        "loss {:.4}{}",
        epoch.train_loss,
        score(epoch).map_or(String::new(), |score| format!(", {score}"))
    )
}

/// The score of an epoch.
fn score(epoch: &Epoch) -> Option<String> {
    let scores = [
        ("IoU", epoch.iou),
        ("R2", epoch.determination),
        ("cosine", epoch.cosine),
        ("accuracy", epoch.accuracy),
        ("agreement", epoch.agreement),
    ];
    scores.iter().find_map(|(name, score)| score.map(|score| format!("{name} {score:.4}")))
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_have_the_units_that_people_use() {
        let found = [0.04, 9.96, 59.0, 61.5, 3600.0, 9000.0].map(duration);
        assert_eq!(found, ["0.0 s", "10.0 s", "59 s", "1 min 1 s", "1 h 0 min", "2 h 30 min"]);
    }
}
