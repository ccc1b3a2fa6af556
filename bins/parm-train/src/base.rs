//! Deployed models.

use anyhow::{Context, Result};
use parm::counted;
use parm_cli::input::check_stdin;
use parm_cli::options::Common;
use parm_cli::tools::train::Base;
use parm_cli::{Io, Usage};
use parm_torch::train::{self, Begin, Layers, Loss, Start, Truth};
use parm_torch::{Description, Phase};

use crate::data::{boxes_of, classes, labels_of, rows};
use crate::plan::check_free;
use crate::recipe::{self, Task, recipe};
use crate::watch::Watch;
use crate::{Machine, family};

pub(crate) fn run(options: &Base, common: &Common, io: &mut Io) -> Result<()> {
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let rows = train(options, &machine, common, io)?;
    machine.report(rows)
}

/// Trains a deployed model and writes it. Returns the number of rows.
pub(crate) fn train(options: &Base, machine: &Machine, common: &Common, io: &mut Io) -> Result<usize> {
    let Machine { device, timings, .. } = machine;
    check_stdin([&options.data].into_iter().chain(&options.labels).chain(&options.boxes))?;
    let family = family::choose(Some(options.model), options.hidden.as_deref(), None, 1)?;
    let window = options.read.reading();
    let queries = rows(&options.data, machine, window, io)?;
    let (truth, outputs, loss) = match (&options.labels, &options.boxes) {
        (Some(input), _) => {
            let labels = labels_of(input, &queries, &options.data, io, window)?;
            let classes = classes(input, &labels)?;
            let truth = Truth::classes(&labels, &queries, classes, *device);
            (truth.with_context(|| input.to_string())?, classes as usize, Loss::CrossEntropy)
        }
        (None, Some(input)) => (boxes_of(input, &queries, machine, io, window)?, 4, Loss::SmoothL1),
        (None, None) => return Err(Usage::error("labels (--labels) or boxes (--boxes) needed")),
    };
    let recipe = recipe(&options.recipe, Task::Base, Layers::Linear, queries.count())?;
    recipe::check(&recipe, if options.boxes.is_some() { "boxes" } else { "logits" })?;
    let folder = options.output.with_extension("run");
    check_free(&options.recipe, &options.output, &folder, true)?;
    let recipe = recipe.resumed(&folder, &recipe::unset(&options.recipe))?;
    let mut description = Description::new(&family, queries.shape(), &[outputs])?;
    if options.boxes.is_some() {
        description.output = "boxes".into();
    }
    let watch = Watch::new(common, io, u64::from(recipe.epochs), timings);
    let start = Start { begin: Begin::Native { description, weights: None }, held: Vec::new(), learns: true };
    let (model, last) = watch.run(folder, "", |around| {
        train::base(&queries, &truth, start, loss, *device, &recipe, around)
            .with_context(|| options.data.to_string())
    })?;
    timings.measure(Phase::Write, || model.save(&options.output))?;
    let line = last.map_or_else(
        || format!("all {} epochs had been done before", recipe.epochs),
        |epoch| {
            format!("{} done, the last with {}", counted(epoch.epoch, "epoch"), crate::watch::summary(&epoch))
        },
    );
    common.count(io, &format!("{}: {line}", options.output.display()));
    Ok(queries.count())
}
