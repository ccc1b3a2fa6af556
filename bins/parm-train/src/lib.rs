//! `parm-train`: data to deployed models, and deployed models to the parts of a code.

mod base;
mod code;
mod data;
mod export;
mod family;
mod plan;
mod recipe;
mod sweep;
mod watch;

use anyhow::Result;
use parm_cli::options::{Common, Compute};
use parm_cli::tools::train::{Train, What};
use parm_cli::{Exit, Io, signals};
use parm_torch::train::TrainError;
use parm_torch::{Device, device};

const NAME: &str = "parm-train";

/// Runs the tool.
///
/// # Errors
/// Streams and options that are refused or do not fit each other, a training that diverges, what
/// cannot be written.
pub fn run(options: &Train, io: &mut Io) -> Result<Exit> {
    let common = &options.common;
    let result = match &options.what {
        What::Base(options) => base::run(options, common, io),
        What::Parity(options) => code::run_parity(options, common, io),
        What::Coders(options) => code::run_coders(options, common, io),
        What::Sweep(options) => sweep::run(options, common, io),
        What::Export(options) => export::run(options, common, io),
    };
    match (result, signals::noted()) {
        (Err(error), Some(signal)) if is_stop(&error) => {
            common.note(io, NAME, &format!("{error:#}"));
            Ok(Exit::Signal(signal))
        }
        (result, _) => result.map(|()| Exit::Done),
    }
}

fn is_stop(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error| matches!(error, TrainError::Stopped { .. }))
}

fn prepare(compute: Compute, common: &Common, io: &mut Io) -> Result<Device> {
    // Minibatches of small models lose more by waking threads than they win.
    let chosen = device::prepare(compute.device, Some(compute.threads.unwrap_or(1)))?;
    if let Some(note) = &chosen.note {
        common.note(io, NAME, note);
    }
    Ok(chosen.device)
}
