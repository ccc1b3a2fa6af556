//! Predictions, parity outputs and masks to predictions in which what was lost is rebuilt.

mod interpolating;
mod learned;
mod losses;
mod outputs;
mod report;
mod streams;
mod systematic;

use anyhow::Result;
use parm::Task;
use parm::npy::RowLayout;
use parm_cli::options::choose_task;
use parm_cli::tools::decode::Decode;
use parm_cli::{Exit, Io, Usage};

/// Rebuilds the missing predictions of a stream.
///
/// # Errors
/// Options that contradict each other, a code or a stream that is refused, streams that do not have
/// the rows that each other ask for, an output that cannot be written.
pub fn run(options: &Decode, io: &mut Io) -> Result<Exit> {
    check_shard(options)?;
    let code = options.curve.choose(&options.code, io)?;
    match code.interpolating() {
        None => systematic::run(options, io, &code),
        Some(interpolating) => interpolating::run(options, io, &code, interpolating.clone()),
    }
}

/// The task of predictions, which their confidences depend on.
fn task(options: &Decode, said: Option<Task>, layout: &RowLayout) -> Result<Task> {
    match (options.task.with(&[])?, &options.confidence) {
        (None, None) => Ok(Task::default()),
        (asked, _) => choose_task(asked.as_ref(), said, layout.elements()),
    }
}

/// Refuses what is about the whole stream.
fn check_shard(options: &Decode) -> Result<()> {
    let given = [
        ("--erase", options.erase.is_some(), "says what is missing by --available"),
        ("--corrupt", options.corrupt.is_some(), "takes answers as they came"),
        ("--rows", options.rows.is_some(), "writes whole groups"),
    ];
    match given.into_iter().find(|(_, given, _)| *given && options.shard.shard.is_some()) {
        Some((flag, _, instead)) => Err(Usage::error(format!(
            "{flag} is about the whole stream, and --shard about a part of it, which {instead}"
        ))),
        None => Ok(()),
    }
}
