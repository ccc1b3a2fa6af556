//! Every code on one's own model and data, in one table.
//!
//! Three steps: `scheme` lists what is compared, `answers` asks the models for every answer once,
//! and `evaluate` loses workers, decodes and counts. All schemes of one k and number of extra
//! workers see the same losses.

mod answers;
mod evaluate;
mod json;
mod network;
mod queries;
mod report;
mod scheme;
mod truth;

use anyhow::Result;
use parm::counted;
use parm::npy::RowBuffer;
use parm_cli::input::check_stdin;
use parm_cli::tools::compare::Compare;
use parm_cli::{Exit, Io, Progress, Usage};

use crate::answers::{Answers, Deployed};
use crate::evaluate::Losses;
use crate::queries::Queries;
use crate::report::Table;
use crate::truth::{Read, Truth};

pub use json::{Against, Model, Report, Row, Scores, Seeded};
pub use scheme::Training;

/// Compares codes and prints the table.
///
/// # Errors
/// Streams and codes that are refused or do not fit each other, a model that cannot be run.
pub fn run(options: &Compare, io: &mut Io) -> Result<Exit> {
    let repeated = options.seed.iter().enumerate().find(|(at, seed)| options.seed[..*at].contains(seed));
    if let Some((_, seed)) = repeated {
        return Err(Usage::error(format!("--seed: found {seed} twice")));
    }
    let truth = options.labels.iter().chain(&options.values).chain(&options.boxes);
    check_stdin([&options.data].into_iter().chain(truth))?;
    if options.json {
        io.record_inputs();
        // parm-infer reads them.
        let constants = options.model_options.constants.iter().map(|constant| &constant.file);
        [&options.model]
            .into_iter()
            .chain(constants)
            .chain(&options.code_dir)
            .for_each(|path| io.note_file(path));
    }
    let reading = options.read.reading();
    let mut rows = options.data.rows(io, reading)?;
    let layout = rows.layout().clone();
    let mut buffer = RowBuffer::<f32>::default();
    let count = rows.read(usize::MAX, &mut buffer)?;
    let queries = Queries { values: buffer.into_values(), count, shape: layout.shape };
    let read = Read::new(options, count, reading, io)?;

    let schemes = scheme::list(options, &queries)?;
    let progress = Progress::new(&options.common, io, "answers", Some(0));
    let answers = Answers::ask(options, &queries, &schemes, &progress)?;
    let truth = Truth::new(options, read, &answers, &schemes)?;
    let losses = Losses { draws: options.draws as usize, rate: options.loss_rate, seeds: &options.seed };
    let mut results = Vec::new();
    for (index, scheme) in schemes.iter().enumerate() {
        results.push(evaluate::evaluate(index, scheme, &answers, &truth, losses, options)?);
    }
    drop(progress);

    let measured = |of: &Deployed| (of.file.clone(), truth.of_deployed(&of.answers));
    let table = Table {
        task: truth.task,
        measure: truth.measure(),
        against: truth.against(),
        results,
        rate: losses.rate,
        deployed: answers.deployed().iter().map(measured).collect(),
    };
    let text = if options.json { table.as_json(io.made_by())? } else { table.as_text() };
    io.print(&text)?;
    options
        .common
        .count(io, &format!("compared {} on {}", counted(schemes.len(), "scheme"), counted(count, "query")));
    Ok(Exit::Done)
}
