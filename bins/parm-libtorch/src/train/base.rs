//! Deployed models.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use parm::{Task, counted};
use parm_cli::input::check_stdin;
use parm_cli::options::Common;
use parm_cli::output::{Compression, Target};
use parm_cli::tools::train::{Base, LossKind};
use parm_cli::{Io, Usage};
use parm_torch::train::{self, Begin, Layers, Loss, Start, Truth};
use parm_torch::{Description, Family, Output, Phase};

use crate::train::data::{Given, boxes_of, classes, labels_of, rows};
use crate::train::plan::check_free;
use crate::train::recipe::{self, Kind, recipe};
use crate::train::watch::Watch;
use crate::train::{Machine, family};

pub(crate) fn run(options: &Base, common: &Common, io: &mut Io) -> Result<()> {
    let machine = Machine::prepare(options.compute, &options.timings, common, io)?;
    let rows = train(options, &machine, common, io)?;
    machine.report(rows, io)
}

/// Trains a deployed model and writes it. Returns the number of rows.
pub(crate) fn train(options: &Base, machine: &Machine, common: &Common, io: &mut Io) -> Result<usize> {
    let Machine { device, timings, .. } = machine;
    let Base { data, labels, boxes, values, .. } = options;
    let given = Given { labels: labels.as_ref(), boxes: boxes.as_ref(), values: values.as_ref() };
    let task = given.taught(options.task)?.task;
    let loss = match (task, options.loss) {
        (Task::Classify, None) => Loss::CrossEntropy,
        (Task::Classify, Some(_)) => {
            return Err(Usage::error(
                "--loss: found labels, which are learnt by the cross-entropy; leave it out",
            ));
        }
        (_, asked) => recipe::loss(asked, LossKind::SmoothL1, 1.0, task)?,
    };
    check_stdin([data].into_iter().chain(given.inputs()))?;
    let family = family::choose(Some(options.model), options.hidden.as_deref(), None, 1)?;
    let window = options.read.reading();
    let queries = rows(data, machine, window, io)?;
    let (truth, outputs) = match given {
        Given { labels: Some(input), .. } => {
            let labels = labels_of(input, &queries, data, io, window)?;
            let classes = classes(input, &labels)?;
            let truth = Truth::classes(&labels, &queries, classes, *device);
            (truth.with_context(|| input.to_string())?, classes as usize)
        }
        Given { values: Some(input), .. } => {
            let values = rows(input, machine, window, io)?;
            let outputs = values.shape().iter().product();
            let truth = Truth::values(&values, &queries, outputs);
            (truth.with_context(|| input.to_string())?, outputs)
        }
        Given { boxes, .. } => {
            let input = boxes.context("found no truth to learn")?;
            (boxes_of(input, &queries, machine, io, window)?, 4)
        }
    };
    let recipe = recipe(&options.recipe, Kind::Base, Layers::Linear, queries.count())?;
    recipe::check(&recipe, task)?;
    let folder = options.output.with_extension("run");
    check_free(&options.recipe, &options.output, &folder, true)?;
    let recipe = recipe.resumed(&folder, &recipe::unset(&options.recipe))?;
    recipe::record(&recipe, loss, task, io);
    if let Family::Mlp { hidden, .. } = &family {
        io.resolve("hidden", hidden.clone());
    }
    let mut description = Description::new(&family, queries.shape(), &[outputs])?;
    description.output = Output::Predictions(task);
    let watch = Watch::new(common, io, recipe.epochs, 1, timings);
    let start = Start { begin: Begin::Native { description, weights: None }, held: Vec::new(), learns: true };
    let (model, last) = watch.run(folder.clone(), "", |around| {
        train::base(&queries, &truth, start, loss, *device, &recipe, around)
            .with_context(|| options.data.to_string())
    })?;
    timings.measure(Phase::Write, || model.save(&options.output))?;
    let mut made_by = Target::Path(folder.join("made_by.json")).create(io, Compression::ByName(3))?;
    serde_json::to_writer_pretty(&mut made_by, &BTreeMap::from([("made_by", io.made_by())]))?;
    writeln!(made_by)?;
    made_by.commit()?;
    let line = last.map_or_else(
        || "the training had been done before".into(),
        |epoch| {
            format!(
                "{} done in {}, the last with {}",
                counted(epoch.epoch, "epoch"),
                watch.took(),
                crate::train::watch::summary(&epoch)
            )
        },
    );
    common.report(io, &format!("{}: {line}", options.output.display()));
    Ok(queries.count())
}
