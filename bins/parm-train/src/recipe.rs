//! Recipes: the settings of a training, with their defaults.

use anyhow::{Result, ensure};
use parm_cli::Usage;
use parm_cli::tools::train::{
    self as arguments, Augmentation, Comparison, DecoderKind, LossKind, Objective, Whose,
};
use parm_torch::train::{
    Augment, BatchNorm, Compared, Kept, Layers, Loss, Precision, Recipe, Schedule, Setting, Validation,
};

/// The kind of predictions of one number, for which softmax and top-1 have no meaning.
pub(crate) const VALUES: &str = "values";

/// The rows of a minibatch of a joint training.
const JOINT_ROWS: u32 = 512;

/// The kind of training.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Base,
    /// Parity models for groups of k.
    Parity(usize),
    /// Coders for groups of k.
    Coders(usize),
    /// A deployed model together with its code, for groups of k.
    Joint(usize),
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
pub(crate) fn recipe(options: &arguments::Recipe, task: Task, layers: Layers, rows: usize) -> Result<Recipe> {
    let arguments::ValidationOption { share, tail } = options.validation;
    let kept = if tail || options.recipe == Whose::Paper { Kept::Tail } else { Kept::Drawn };
    let validation = Validation { rows: share.of(rows), kept };
    ensure!(
        validation.rows < rows,
        "--validation {}: found {rows} rows in all, expected more",
        options.validation
    );
    let (epochs, batch, rate, decay, schedule) = match (options.recipe, task) {
        (Whose::Paper, Task::Base | Task::Parity(2) | Task::Coders(2) | Task::Joint(2)) => {
            (50, 64, 1e-3, 1e-5, Schedule::Constant)
        }
        (Whose::Paper, _) => (50, 32, 1e-3, 1e-5, Schedule::Constant),
        (Whose::Parm, Task::Base) => (20, 64, 1e-3, 1e-5, Schedule::Cosine),
        (Whose::Parm, Task::Parity(_)) if layers == Layers::Large => (100, 256, 1e-3, 0.0, Schedule::Cosine),
        (Whose::Parm, Task::Parity(_)) => (100, 256, 5e-3, 0.0, Schedule::Cosine),
        (Whose::Parm, Task::Joint(k)) => {
            let rate = if layers == Layers::Large { 1e-3 } else { 3e-3 };
            (100, (JOINT_ROWS / k as u32).max(1), rate, 0.0, Schedule::Cosine)
        }
        (Whose::Parm, Task::Coders(_)) => (30, 64, 1e-3, 0.0, Schedule::Cosine),
    };
    let (warm_up, clip) = match (options.recipe, task, layers) {
        (Whose::Parm, Task::Parity(_), Layers::Small | Layers::Large) | (Whose::Parm, Task::Joint(_), _) => {
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
pub(crate) fn check(recipe: &Recipe, output: &str) -> Result<()> {
    match recipe.augment {
        Some(_) if output == "boxes" => {
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

/// The loss of these options and the values that it compares, for this kind of predictions and this decoder.
/// A deployed model that learns with its code has labels.
pub(crate) fn objective(
    options: &Objective,
    whose: Whose,
    output: &str,
    decoder: DecoderKind,
    is_joint: bool,
) -> Result<(Loss, Compared)> {
    let default = match whose {
        Whose::Parm if output == "boxes" => LossKind::SmoothL1,
        Whose::Parm if output == VALUES => LossKind::Mse,
        Whose::Parm if is_joint => LossKind::CrossEntropy,
        Whose::Parm => LossKind::Kl,
        Whose::Paper => LossKind::Mse,
    };
    let loss = match options.loss.unwrap_or(default) {
        LossKind::Mse => Loss::Mse,
        LossKind::SmoothL1 => Loss::SmoothL1,
        LossKind::Kl => Loss::Kl { temperature: options.temperature },
        LossKind::CrossEntropy => Loss::CrossEntropy,
    };
    let what = match output {
        "boxes" => Some("boxes"),
        VALUES => Some("predictions of one number, which tell no classes apart"),
        _ => None,
    };
    if let (Some(what), Loss::Kl { .. } | Loss::CrossEntropy) = (what, loss) {
        return Err(Usage::error(format!("--loss: found {what}, expected mse or smooth-l1")));
    }
    let compared = match (options.compare, whose, decoder) {
        (Some(Comparison::Sums), _, DecoderKind::Mlp) => {
            return Err(Usage::error(
                "--compare sums: found a decoder that is a network, which sums tell nothing; expected \
                 reconstructions",
            ));
        }
        (Some(Comparison::Sums), ..) | (None, Whose::Paper, DecoderKind::Linear) => Compared::Sums,
        _ => Compared::Reconstructions,
    };
    Ok((loss, compared))
}
