//! Recipes: the settings of a training, with their defaults.

use anyhow::{Result, ensure};
use parm::Task;
use parm_cli::tools::train::{
    self as arguments, Augmentation, Comparison, DecoderKind, LossKind, Objective, Whose,
};
use parm_cli::{Io, Usage};
use parm_torch::train::{
    Augment, BatchNorm, Compared, Kept, Layers, Loss, Precision, Recipe, Schedule, Setting, Validation,
};

/// The rows of a minibatch of a joint training.
const JOINT_ROWS: u32 = 512;

/// The kind of training.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    /// Parity models for groups of k.
    Parity(usize),
    /// Coders for groups of k.
    Coders(usize),
    /// A deployed model together with its code, for groups of k.
    Joint(usize),
}

/// Records what the options came to, for the file that describes the training.
pub(crate) fn record(recipe: &Recipe, loss: Loss, task: Task, io: &mut Io) {
    let schedule = match recipe.schedule {
        Schedule::Constant => "constant",
        Schedule::Cosine => "cosine",
    };
    let loss = match loss {
        Loss::Mse => LossKind::Mse,
        Loss::SmoothL1 => LossKind::SmoothL1,
        Loss::Cosine => LossKind::Cosine,
        Loss::Kl { .. } => LossKind::Kl,
        Loss::CrossEntropy => LossKind::CrossEntropy,
    };
    io.resolve("epochs", recipe.epochs);
    io.resolve("batch", recipe.batch);
    io.resolve("lr", recipe.rate);
    io.resolve("weight-decay", recipe.decay);
    io.resolve("schedule", schedule);
    io.resolve("warm-up", recipe.warm_up);
    io.resolve("clip", recipe.clip.unwrap_or(0.0));
    io.resolve("ema", recipe.average.unwrap_or(0.0));
    io.resolve("loss", loss.to_string());
    io.resolve("task", task.name());
}

/// The settings that these options leave to the run that is resumed.
pub(crate) fn unset(options: &arguments::Recipe) -> Vec<Setting> {
    let all = [
        (Setting::Rate, options.lr),
        (Setting::WarmUp, options.warm_up),
        (Setting::Clip, options.clip),
        (Setting::Average, options.ema),
    ];
    all.into_iter().filter(|(_, value)| value.is_none()).map(|(setting, _)| setting).collect()
}

/// The recipe of these options for this number of rows.
pub(crate) fn recipe(options: &arguments::Recipe, kind: Kind, layers: Layers, rows: usize) -> Result<Recipe> {
    let arguments::ValidationOption { share, tail } = options.validation;
    let kept = if tail || options.recipe == Whose::Paper { Kept::Tail } else { Kept::Drawn };
    let validation = Validation { rows: share.of(rows), kept };
    ensure!(
        validation.rows < rows,
        "--validation {}: found {rows} rows in all, expected more",
        options.validation
    );
    if options.patience.is_some() && validation.rows == 0 {
        let found = options.validation;
        return Err(Usage::error(format!(
            "--patience needs rows for validation, found --validation {found}"
        )));
    }
    let (epochs, batch, rate, decay, schedule) = match (options.recipe, kind) {
        (Whose::Paper, Kind::Base | Kind::Parity(2) | Kind::Coders(2) | Kind::Joint(2)) => {
            (50, 64, 1e-3, 1e-5, Schedule::Constant)
        }
        (Whose::Paper, _) => (50, 32, 1e-3, 1e-5, Schedule::Constant),
        (Whose::Parm, Kind::Base) => (20, 64, 1e-3, 1e-5, Schedule::Cosine),
        (Whose::Parm, Kind::Parity(_)) if layers == Layers::Large => (100, 256, 1e-3, 0.0, Schedule::Cosine),
        (Whose::Parm, Kind::Parity(_)) => (100, 256, 5e-3, 0.0, Schedule::Cosine),
        (Whose::Parm, Kind::Joint(k)) => {
            let rate = if layers == Layers::Large { 1e-3 } else { 3e-3 };
            (100, (JOINT_ROWS / k as u32).max(1), rate, 0.0, Schedule::Cosine)
        }
        (Whose::Parm, Kind::Coders(_)) => (30, 64, 1e-3, 0.0, Schedule::Cosine),
    };
    let (warm_up, clip) = match (options.recipe, kind, layers) {
        (Whose::Parm, Kind::Parity(_), Layers::Small | Layers::Large) | (Whose::Parm, Kind::Joint(_), _) => {
            (1.0, 1.0)
        }
        _ => (0.0, 0.0),
    };
    let above_0 = |number: f64| (number > 0.0).then_some(number);
    Ok(Recipe {
        epochs: options.epochs.unwrap_or(epochs),
        batch: options.batch.unwrap_or(batch) as usize,
        rate: options.lr.unwrap_or(rate),
        decay: options.weight_decay.unwrap_or(decay),
        schedule: options.schedule.map_or(schedule, |schedule| match schedule {
            arguments::Schedule::Constant => Schedule::Constant,
            arguments::Schedule::Cosine => Schedule::Cosine,
        }),
        warm_up: options.warm_up.unwrap_or(warm_up),
        clip: above_0(options.clip.unwrap_or(clip)),
        average: options.ema.and_then(above_0),
        validation,
        seed: options.seed,
        checkpoint_cycle: options.checkpoint_cycle,
        patience: options.patience,
        resume: options.resume,
        precision: match options.precision {
            arguments::Precision::F32 => Precision::Full,
            arguments::Precision::Mixed => Precision::Mixed,
        },
        norm: BatchNorm::Train,
        augment: augment(&options.augment)?,
    })
}

/// Refuses augmentation for boxes, which would have to move with the images.
pub(crate) fn check(recipe: &Recipe, task: Task) -> Result<()> {
    match recipe.augment {
        Some(_) if task == Task::Boxes => {
            Err(Usage::error("--augment: found boxes, which would not be moved along; expected labels"))
        }
        _ => Ok(()),
    }
}

/// The augmentation of these options.
fn augment(options: &[Augmentation]) -> Result<Option<Augment>> {
    let mut augment = Augment { shift: 0, flip: false };
    for option in options {
        match option {
            Augmentation::None if options.len() > 1 => {
                return Err(Usage::error("--augment none: found other values, expected none alone"));
            }
            Augmentation::None => return Ok(None),
            Augmentation::Shift(pixels) => augment.shift = *pixels as usize,
            Augmentation::Flip => augment.flip = true,
        }
    }
    Ok((!options.is_empty()).then_some(augment))
}

/// The losses that compare predictions of a task.
pub(crate) fn losses(task: Task) -> &'static [LossKind] {
    match task {
        Task::Classify => &[LossKind::Kl, LossKind::CrossEntropy, LossKind::Mse, LossKind::SmoothL1],
        Task::Regress | Task::Boxes => &[LossKind::SmoothL1, LossKind::Mse],
        Task::Embed => &[LossKind::Cosine, LossKind::Mse, LossKind::SmoothL1],
    }
}

/// The loss of these options, or else this one.
pub(crate) fn loss(asked: Option<LossKind>, default: LossKind, temperature: f64, task: Task) -> Result<Loss> {
    let kind = asked.unwrap_or(default);
    if !losses(task).contains(&kind) {
        let expected: Vec<String> = losses(task).iter().map(LossKind::to_string).collect();
        return Err(Usage::error(format!(
            "--loss {kind}: found predictions of the task {task}, expected {}",
            expected.join(" or ")
        )));
    }
    Ok(match kind {
        LossKind::Mse => Loss::Mse,
        LossKind::SmoothL1 => Loss::SmoothL1,
        LossKind::Cosine => Loss::Cosine,
        LossKind::Kl => Loss::Kl { temperature },
        LossKind::CrossEntropy => Loss::CrossEntropy,
    })
}

/// The loss of these options and the values that it compares, for the task of the predictions and this decoder.
/// A deployed model that learns with its code has labels.
pub(crate) fn objective(
    options: &Objective,
    whose: Whose,
    task: Task,
    decoder: DecoderKind,
    is_joint: bool,
) -> Result<(Loss, Compared)> {
    let default = match (whose, task) {
        (Whose::Paper, _) => LossKind::Mse,
        (Whose::Parm, Task::Regress | Task::Boxes) => LossKind::SmoothL1,
        (Whose::Parm, Task::Embed) => LossKind::Cosine,
        (Whose::Parm, Task::Classify) if is_joint => LossKind::CrossEntropy,
        (Whose::Parm, Task::Classify) => LossKind::Kl,
    };
    let loss = loss(options.loss, default, options.temperature, task)?;
    let compared = match (options.compare, whose, decoder) {
        (Some(Comparison::Sums), _, DecoderKind::Mlp) => {
            return Err(Usage::error(
                "--compare sums: found a decoder that is a network, which sums tell nothing; expected \
                 reconstructions",
            ));
        }
        (Some(Comparison::Sums), ..) if loss == Loss::Cosine => {
            return Err(Usage::error(
                "--compare sums: found the loss cosine, which leaves the lengths of sums open; expected \
                 reconstructions",
            ));
        }
        (Some(Comparison::Sums), ..) | (None, Whose::Paper, DecoderKind::Linear) => Compared::Sums,
        _ => Compared::Reconstructions,
    };
    Ok((loss, compared))
}
